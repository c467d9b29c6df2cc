import { inspect } from 'node:util'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { BackendError, InputError, JweError } from '../../src/base/errors.js'
import { openJwe } from '../../src/jwe/open.js'
import { softwareBackend } from '../../src/software.js'
import { someOf } from '../support/some-of.js'
import { readersOf } from '../support/untouched.js'
import {
  b64u,
  contentKeyOf,
  DOES_NOT_OPEN,
  EPHEMERAL,
  EPK,
  failureOf,
  forge,
  fromB64u,
  HEADER,
  RECIPIENT,
  RECIPIENT_PRIVATE,
  SAMPLE,
  SAMPLE_PLAINTEXT,
  softwareKey,
  stubKey,
  text,
  utf8,
} from './support.js'

const key = await softwareKey()
const [head = '', , iv = '', ciphertext = '', tag = ''] = SAMPLE.split('.')

/** The content key of {@link SAMPLE}, as published facts give it. */
const SAMPLE_KEY = '8ebbe65f3c735957aa96cf5f651bc64cd1e5914467a09b265866d146d096dee9'
const sampleKey = (): Uint8Array => Uint8Array.from(Buffer.from(SAMPLE_KEY, 'hex'))

describe('openJwe: a mistake of the calling program', () => {
  const never = async (): Promise<never> => {
    throw new Error('the backend must not be asked')
  }
  const pinKey = async () => stubKey(never, { kid: 'ZPK', usage: 'pin-encryption' })

  it.each<[string, () => Promise<unknown>, string]>([
    ['nothing', () => openJwe(undefined as never), 'openJwe takes an options object'],
    ['null', () => openJwe(null as never), 'openJwe takes an options object'],
    ['the JWE alone', () => openJwe(SAMPLE as never), 'openJwe takes an options object'],
    [
      'an unknown option',
      () => openJwe({ jwe: SAMPLE, keys: key, key } as never),
      'openJwe: unknown option "key"',
    ],
    ['no jwe', () => openJwe({ keys: key } as never), 'jwe must be a string'],
    ['jwe as bytes', () => openJwe({ jwe: utf8(SAMPLE), keys: key } as never), 'jwe must be a string'],
    [
      'jwe as a String',
      () => openJwe({ jwe: new String(SAMPLE), keys: key } as never),
      'jwe must be a string',
    ],
    [
      'no keys',
      () => openJwe({ jwe: SAMPLE } as never),
      'keys must be a Key, bound by a backend of this copy of the library',
    ],
    ['no key in keys', () => openJwe({ jwe: SAMPLE, keys: [] }), 'keys must be 1 to 64 keys'],
    [
      'a JWK for a key',
      () => openJwe({ jwe: SAMPLE, keys: RECIPIENT_PRIVATE as never }),
      'keys must be a Key, bound by a backend of this copy of the library',
    ],
    [
      'a hole among the keys',
      () => openJwe({ jwe: SAMPLE, keys: [key, undefined as never] }),
      'keys must be a Key, bound by a backend of this copy of the library',
    ],
    [
      'one key twice',
      () => openJwe({ jwe: SAMPLE, keys: [key, key] }),
      `keys: two keys by the kid ${RECIPIENT.kid}`,
    ],
    [
      'a kid twice',
      async () => openJwe({ jwe: SAMPLE, keys: [key, await stubKey(never)] }),
      `keys: two keys by the kid ${RECIPIENT.kid}`,
    ],
    [
      'a signal that is none',
      () => openJwe({ jwe: SAMPLE, keys: key }, { signal: 1 } as never),
      'options.signal must be an AbortSignal',
    ],
    [
      'options that are none',
      () => openJwe({ jwe: SAMPLE, keys: key }, 1 as never),
      'the call takes an options object',
    ],
  ])('%s', async (_, call, message) => {
    expect(await failureOf(call())).toEqual({ name: 'ArgumentError', code: 'ERR_ARGUMENT', message })
  })

  it('a key for another usage, alone or among others, whatever the JWE', async () => {
    const expected = {
      name: 'KeyError',
      code: 'ERR_KEY_USAGE',
      message: 'key ZPK is for pin-encryption: opening a JWE is refused',
    }
    expect(await failureOf(openJwe({ jwe: SAMPLE, keys: await pinKey() }))).toEqual(expected)
    expect(await failureOf(openJwe({ jwe: 'x', keys: [key, await pinKey()] }))).toEqual(expected)
  })
})

describe('openJwe: one error for a JWE that does not open', () => {
  const flip = (segment: string): string =>
    b64u(fromB64u(segment).map((byte, i) => (i === 0 ? byte ^ 1 : byte)))

  it.each([
    ['nothing', ''],
    ['prose', 'the quick brown fox'],
    ['four segments', SAMPLE.slice(0, SAMPLE.lastIndexOf('.'))],
    ['an encrypted key', SAMPLE.replace('..', '.AAAA.')],
    ['a changed IV', `${head}..${flip(iv)}.${ciphertext}.${tag}`],
    ['a changed ciphertext', `${head}..${iv}.${flip(ciphertext)}.${tag}`],
    ['a shortened ciphertext', `${head}..${iv}.${b64u(fromB64u(ciphertext).subarray(1))}.${tag}`],
    ['no ciphertext', `${head}..${iv}..${tag}`],
    ['a changed tag', `${head}..${iv}.${ciphertext}.${flip(tag)}`],
    ['a tag of zeros', `${head}..${iv}.${ciphertext}.${'A'.repeat(22)}`],
    ['a truncated tag', forge(HEADER, { tagBytes: 12 })],
    ['an IV of 16 bytes', forge(HEADER, { iv: Buffer.alloc(16, 1) })],
    ['another spelling of the header', SAMPLE.replace(head, b64u(`${fromB64u(head)} `))],
    ['another kid', forge({ ...HEADER, kid: 'OTHER' })],
    ['an empty kid', forge({ ...HEADER, kid: '' })],
    ['a kid with white space', forge({ ...HEADER, kid: `${RECIPIENT.kid} ` })],
    ['zip', forge({ ...HEADER, zip: 'DEF' })],
    ['crit', forge({ ...HEADER, crit: ['exp'], exp: 1 })],
    ['a duplicate member', forge(`${JSON.stringify(HEADER).slice(0, -1)},"k\\u0069d":"${RECIPIENT.kid}"}`)],
    ['alg none', forge({ ...HEADER, alg: 'none' })],
    ['enc A128GCM', forge({ ...HEADER, enc: 'A128GCM' })],
    ['epk with d', forge({ ...HEADER, epk: { ...EPK, d: b64u(EPHEMERAL.getPrivateKey()) } })],
    ['epk off the curve', forge({ ...HEADER, epk: { ...EPK, y: EPK.x } })],
    ['apu in the header, not in the key', forge({ ...HEADER, apu: 'QWxpY2U' })],
    ['apv in the header, not in the key', forge({ ...HEADER, apv: 'Qm9i' })],
    ['apu in the key, not in the header', forge(HEADER, { apu: 'QWxpY2U' })],
    ['apu and apv exchanged', forge({ ...HEADER, apu: 'QQ', apv: 'Qg' }, { apu: 'Qg', apv: 'QQ' })],
    ['too long', forge(HEADER, { plaintext: new Uint8Array(6000) })],
  ])('%s', async (_, jwe) => {
    expect(await failureOf(openJwe({ jwe, keys: key }))).toEqual(DOES_NOT_OPEN)
    expect(await failureOf(openJwe({ jwe, keys: [key] }))).toEqual(DOES_NOT_OPEN)
  })

  it('no kid, with several keys to choose from', async () => {
    const { kid: _, ...header } = HEADER
    const other = await softwareKey(RECIPIENT_PRIVATE, 'OTHER')
    expect(await failureOf(openJwe({ jwe: forge(header), keys: [key, other] }))).toEqual(DOES_NOT_OPEN)
  })

  it('the right kid on another key', async () => {
    const ephemeral = { ...EPK, d: b64u(EPHEMERAL.getPrivateKey()) }
    const other = await softwareKey(ephemeral, RECIPIENT.kid)
    expect(await failureOf(openJwe({ jwe: SAMPLE, keys: other }))).toEqual(DOES_NOT_OPEN)
  })

  it('10 MB, by the length alone', async () => {
    const jwe = SAMPLE + 'A'.repeat(10_000_000)
    const refused = async () => expect(await failureOf(openJwe({ jwe, keys: key }))).toEqual(DOES_NOT_OPEN)
    expect(await readersOf(jwe, refused)).toEqual([])
  })

  it('a point that the backend finds fault with after all', async () => {
    const derive = vi.fn(() => {
      throw new InputError('ERR_POINT', 'CKR_DOMAIN_PARAMS_INVALID')
    })
    expect(await failureOf(openJwe({ jwe: SAMPLE, keys: await stubKey(derive) }))).toEqual(DOES_NOT_OPEN)
    expect(derive).toHaveBeenCalledOnce()
  })

  it('no cause, and nothing of the JWE in any rendering', async () => {
    const jwe = forge(HEADER).slice(0, -2)
    const error: unknown = await openJwe({ jwe, keys: key }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(JweError)
    const shown = inspect(error, { depth: 9, showHidden: true }) + String(error) + JSON.stringify(error)
    expect(Reflect.has(Object(error), 'cause')).toBe(false)
    for (const part of someOf(jwe.split('.').filter(segment => segment !== '')))
      expect(shown).not.toContain(part)
    for (const secret of ['1234567891234567', RECIPIENT_PRIVATE.d]) expect(shown).not.toContain(secret)
  })

  it('the backend is not asked before everything else is right', async () => {
    const derive = vi.fn(() => sampleKey())
    const stub = await stubKey(derive)
    for (const jwe of [
      '',
      SAMPLE.replace('..', '.AA.'),
      forge({ ...HEADER, kid: 'OTHER' }),
      `${SAMPLE.slice(0, -1)}x`,
    ]) {
      await failureOf(openJwe({ jwe, keys: stub }))
    }
    expect(derive).not.toHaveBeenCalled()
  })
})

describe('openJwe: what the backend raises keeps its code', () => {
  it('closed', async () => {
    const backend = await softwareBackend({
      keys: [
        { kid: RECIPIENT.kid, usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: RECIPIENT_PRIVATE },
      ],
    })
    const bound = await backend.bind({ kid: RECIPIENT.kid, usage: 'jwe-key-agreement' })
    await backend.close()
    expect(await failureOf(openJwe({ jwe: SAMPLE, keys: bound }))).toMatchObject({
      code: 'ERR_BACKEND_CLOSED',
    })
  })

  it.each([
    new BackendError('ERR_BACKEND_BUSY', 'busy', { retryable: true }),
    new BackendError('ERR_PKCS11_CALL', 'C_DeriveKey: CKR_DEVICE_REMOVED'),
    new InputError('ERR_LENGTH', 'of the backend'),
  ])('%s', async error => {
    const stub = await stubKey(() => {
      throw error
    })
    await expect(openJwe({ jwe: SAMPLE, keys: stub })).rejects.toBe(error)
  })

  it('an uncoded error of somebody’s backend is ERR_BACKEND_FAILED, without a word of it', async () => {
    const stub = await stubKey(() => {
      throw new Error('z = 016C6C8AB1BF')
    })
    const failure = await failureOf(openJwe({ jwe: SAMPLE, keys: stub }))
    expect(failure.code).toBe('ERR_BACKEND_FAILED')
    expect(JSON.stringify(failure)).not.toContain('016C')
  })

  it.each([0, 16, 31, 33, 64])(
    'a content key of %d bytes breaks the contract, and is wiped',
    async length => {
      const wrong = new Uint8Array(length).fill(1)
      const stub = await stubKey(() => wrong)
      expect(await failureOf(openJwe({ jwe: SAMPLE, keys: stub }))).toEqual({
        name: 'BackendError',
        code: 'ERR_BACKEND_FAILED',
        message: 'the backend answered with another number of bytes',
      })
      expect(wrong).toEqual(new Uint8Array(length))
    },
  )

  it('aborted beforehand, whatever the JWE', async () => {
    const derive = vi.fn(() => sampleKey())
    const stub = await stubKey(derive)
    for (const jwe of [SAMPLE, 'x']) {
      const failure = await failureOf(openJwe({ jwe, keys: stub }, { signal: AbortSignal.abort() }))
      expect(failure.code).toBe('ERR_ABORTED')
    }
    expect(derive).not.toHaveBeenCalled()
  })

  it('aborted meanwhile: the content key is wiped', async () => {
    const controller = new AbortController()
    const contentKey = sampleKey()
    const stub = await stubKey((_, signal) => {
      expect(signal).toBe(controller.signal)
      controller.abort()
      return contentKey
    })
    const failure = await failureOf(openJwe({ jwe: SAMPLE, keys: stub }, { signal: controller.signal }))
    expect(failure.code).toBe('ERR_ABORTED')
    expect(contentKey).toEqual(new Uint8Array(32))
  })
})

describe('openJwe', () => {
  afterEach(() => {
    Reflect.deleteProperty(Object.prototype, 'zip')
    Reflect.deleteProperty(Object.prototype, 'kid')
  })

  it('opens the published D1 sample', async () => {
    const { plaintext, kid, header } = await openJwe({ jwe: SAMPLE, keys: key })
    expect(text(plaintext)).toBe(SAMPLE_PLAINTEXT)
    expect(plaintext.buffer.byteLength).toBe(plaintext.length)
    expect(Buffer.isBuffer(plaintext)).toBe(false)
    expect(kid).toBe(RECIPIENT.kid)
    expect(header).toEqual({ kid: RECIPIENT.kid })
  })

  it('asks the backend for one derivation, of 32 bytes, over the published OtherInfo', async () => {
    const derive = vi.fn(() => sampleKey())
    await openJwe({ jwe: SAMPLE, keys: await stubKey(derive) })
    const epk = JSON.parse(fromB64u(head).toString()).epk
    expect(derive.mock.calls).toEqual([
      [
        {
          ephemeralPublicKey: Uint8Array.of(4, ...fromB64u(epk.x), ...fromB64u(epk.y)),
          otherInfo: Uint8Array.from(Buffer.from('000000074132353647434d000000000000000000000100', 'hex')),
          length: 32,
        },
        undefined,
      ],
    ])
  })

  it.each([
    ['right', SAMPLE, 'opens'],
    ['wrong', `${SAMPLE.slice(0, -2)}AQ`, 'ERR_JWE'],
  ])('wipes the content key when the tag is %s', async (_, jwe, outcome) => {
    const contentKey = sampleKey()
    const stub = await stubKey(() => contentKey)
    const result = await openJwe({ jwe, keys: stub }).then(
      () => 'opens',
      (error: { code: string }) => error.code,
    )
    expect(result).toBe(outcome)
    expect(contentKey).toEqual(new Uint8Array(32))
  })

  it('picks the key by kid', async () => {
    const wrong = { ...EPK, d: b64u(EPHEMERAL.getPrivateKey()) }
    const keys = [await softwareKey(wrong, 'OLD'), key, await softwareKey(wrong, 'NEW')]
    expect((await openJwe({ jwe: SAMPLE, keys })).kid).toBe(RECIPIENT.kid)
    const renamed = await softwareKey(RECIPIENT_PRIVATE, 'ISSUER-2026')
    const jwe = forge({ ...HEADER, kid: 'ISSUER-2026' })
    expect((await openJwe({ jwe, keys: [...keys, renamed] })).kid).toBe('ISSUER-2026')
  })

  it('accepts a JWE without kid where there is one key', async () => {
    const { kid: _, ...header } = HEADER
    const opened = await openJwe({ jwe: forge(header), keys: [key] })
    expect(opened.kid).toBe(RECIPIENT.kid)
    expect(opened.header.kid).toBeUndefined()
  })

  it.each([
    ['apu alone', { apu: 'QWxpY2U' }],
    ['apv alone', { apv: 'Qm9i' }],
    ['both', { apu: 'QWxpY2U', apv: 'Qm9i' }],
    ['both empty', { apu: '', apv: '' }],
    ['both at their longest', { apu: b64u(Buffer.alloc(256, 1)), apv: b64u(Buffer.alloc(256, 2)) }],
  ])('takes %s into the key derivation', async (_, party: { apu?: string; apv?: string }) => {
    const { header, plaintext } = await openJwe({ jwe: forge({ ...HEADER, ...party }, party), keys: key })
    expect(text(plaintext)).toBe(SAMPLE_PLAINTEXT)
    for (const name of ['apu', 'apv'] as const) {
      expect(header[name] && b64u(header[name])).toBe(party[name])
      expect(header[name]?.buffer.byteLength).toBe(header[name]?.length)
    }
  })

  it('ignores members it does not know, and reads none that others put on Object.prototype', async () => {
    const header = {
      ...HEADER,
      typ: 'JOSE',
      cty: 'json',
      iat: 1,
      jku: 'https://example.com',
      epk: { ...EPK, alg: 'x' },
    }
    Object.defineProperty(Object.prototype, 'zip', { value: 'DEF', configurable: true })
    Object.defineProperty(Object.prototype, 'kid', { value: 'OTHER', configurable: true })
    const { kid: _, ...anonymous } = header
    expect((await openJwe({ jwe: forge(header), keys: key })).header).toMatchObject({
      typ: 'JOSE',
      cty: 'json',
    })
    expect((await openJwe({ jwe: forge(anonymous), keys: key })).header.kid).toBeUndefined()
  })

  it.each([0, 1, 15, 16, 17, 5800])('opens %d bytes of content', async length => {
    const content = Uint8Array.from({ length }, (_, i) => i)
    const opened = await openJwe({ jwe: forge(HEADER, { plaintext: content }), keys: key })
    expect(opened.plaintext).toEqual(content)
  })

  it('reads its input before it returns', async () => {
    const keys = [key]
    const request = { jwe: SAMPLE, keys }
    const opening = openJwe(request)
    request.jwe = ''
    keys.length = 0
    expect(text((await opening).plaintext)).toBe(SAMPLE_PLAINTEXT)
  })

  it('the forger of these tests agrees with the published content key', () => {
    const z = Buffer.from('016c6c8ab1bfbe6f15615094e32f880910fbf4df2037819c7405d4581299bf36', 'hex')
    expect(contentKeyOf(z, new Uint8Array(0), new Uint8Array(0)).toString('hex')).toBe(SAMPLE_KEY)
  })
})
