import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { MAX_JWE_CHARACTERS } from '../../src/jwe/compact.js'
import { openJwe } from '../../src/jwe/open.js'
import { importRecipient, P256Recipient } from '../../src/jwe/recipient.js'
import { sealJwe } from '../../src/jwe/seal.js'
import {
  b64u,
  failureOf,
  fromB64u,
  RECIPIENT,
  RECIPIENT_PRIVATE,
  SAMPLE_PLAINTEXT,
  softwareKey,
  text,
  utf8,
} from './support.js'

const key = await softwareKey()
const plaintext = utf8(SAMPLE_PLAINTEXT)
const { kid: _kid, ...ANONYMOUS } = RECIPIENT
const headerOf = (jwe: string) => JSON.parse(fromB64u(jwe.split('.')[0] ?? '').toString())

describe('importRecipient and sealJwe refuse the key', () => {
  const recipientsJwk = (problem: string) => `the recipient's JWK ${problem}`
  const noPoint = recipientsJwk('is not a P-256 public key in canonical form')
  it.each<[string, object, string]>([
    ['a private key', RECIPIENT_PRIVATE, recipientsJwk('is a private key')],
    ['a key with any private member', { ...RECIPIENT, d: '' }, recipientsJwk('is a private key')],
    ['a private key for agreement', { ...RECIPIENT_PRIVATE, key_ops: [] }, recipientsJwk('is a private key')],
    ...[['sign'], ['verify', 'encrypt'], ['DeriveKey'], [null], 'deriveKey', {}, 1, false, ''].map(
      (key_ops): [string, object, string] => [
        `key_ops ${JSON.stringify(key_ops)}`,
        { ...RECIPIENT, key_ops },
        recipientsJwk('has key_ops without deriveKey and deriveBits'),
      ],
    ),
    ['a signature key', { ...RECIPIENT, use: 'sig' }, recipientsJwk('is for another use than enc')],
    [
      'a key of another algorithm',
      { ...RECIPIENT, alg: 'ES256' },
      recipientsJwk('is for another alg than ECDH-ES'),
    ],
    [
      'a kid that is no string',
      { ...RECIPIENT, kid: 1 },
      recipientsJwk('has a kid that is not 1 to 128 characters of text'),
    ],
    [
      'an empty kid',
      { ...RECIPIENT, kid: '' },
      recipientsJwk('has a kid that is not 1 to 128 characters of text'),
    ],
    [
      'a kid that is too long',
      { ...RECIPIENT, kid: 'k'.repeat(129) },
      recipientsJwk('has a kid that is not 1 to 128 characters of text'),
    ],
    [
      'a kid with a control character',
      { ...RECIPIENT, kid: 'a\0' },
      recipientsJwk('has a kid that is not 1 to 128 characters of text'),
    ],
    [
      'a kid with a lone surrogate',
      { ...RECIPIENT, kid: 'a\ud800' },
      recipientsJwk('has a kid that is not 1 to 128 characters of text'),
    ],
    ['an array', [], noPoint],
    ['the empty object', {}, noPoint],
    ['an RSA key', { kty: 'RSA', n: 'AQAB', e: 'AQAB' }, noPoint],
    ['another curve', { ...RECIPIENT, crv: 'P-384' }, noPoint],
    ['no y', { ...RECIPIENT, y: undefined }, noPoint],
    ['a point off the curve', { ...RECIPIENT, y: RECIPIENT.x }, noPoint],
    ['the point at infinity', { ...RECIPIENT, x: 'A'.repeat(43), y: 'A'.repeat(43) }, noPoint],
    ['a padded coordinate', { ...RECIPIENT, x: `${RECIPIENT.x}=` }, noPoint],
    ['a JWK by inheritance', Object.create(RECIPIENT), noPoint],
    ['a look-alike of a recipient', Object.create(P256Recipient.prototype), noPoint],
    ['a copy of a recipient', { ...importRecipient(RECIPIENT) }, noPoint],
  ])('%s', async (_, jwk, message) => {
    const expected = { name: 'JweError', code: 'ERR_JWE_RECIPIENT', message }
    expect(() => importRecipient(jwk as never)).toThrow(expect.objectContaining(expected))
    expect(await failureOf(sealJwe({ plaintext, recipient: jwk as never, kid: 'K' }))).toEqual(expected)
  })

  it('and shows nothing of a private key it was given', async () => {
    const error: unknown = await sealJwe({ plaintext, recipient: RECIPIENT_PRIVATE }).catch((e: unknown) => e)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(RECIPIENT_PRIVATE.d)
  })
})

describe('sealJwe refuses', () => {
  const request = { plaintext, recipient: RECIPIENT }
  it.each<[string, () => Promise<unknown>, string]>([
    ['nothing', () => sealJwe(undefined as never), 'sealJwe takes an options object'],
    [
      'an unknown option',
      () => sealJwe({ ...request, zip: 'DEF' } as never),
      'sealJwe: unknown option "zip"',
    ],
    ['no plaintext', () => sealJwe({ recipient: RECIPIENT } as never), 'plaintext must be a Uint8Array'],
    [
      'text for bytes',
      () => sealJwe({ ...request, plaintext: 'text' as never }),
      'plaintext must be a Uint8Array',
    ],
    [
      'an array for bytes',
      () => sealJwe({ ...request, plaintext: [1] as never }),
      'plaintext must be a Uint8Array',
    ],
    ['no recipient', () => sealJwe({ plaintext } as never), 'recipient must be a public JWK'],
    [
      'null for a recipient',
      () => sealJwe({ plaintext, recipient: null as never }),
      'recipient must be a public JWK',
    ],
    [
      'a PEM for a recipient',
      () => sealJwe({ plaintext, recipient: '-----' as never }),
      'recipient must be a public JWK',
    ],
    [
      'no kid anywhere',
      () => sealJwe({ plaintext, recipient: ANONYMOUS }),
      'kid is needed: the recipient comes without one',
    ],
    [
      'no kid on the import',
      () => sealJwe({ plaintext, recipient: importRecipient(ANONYMOUS) }),
      'kid is needed: the recipient comes without one',
    ],
    [
      'an empty kid',
      () => sealJwe({ ...request, kid: '' }),
      'kid must be 1 to 128 characters without control characters',
    ],
    [
      'a kid of 129',
      () => sealJwe({ ...request, kid: 'k'.repeat(129) }),
      'kid must be 1 to 128 characters without control characters',
    ],
    [
      'a kid with a lone surrogate',
      () => sealJwe({ ...request, kid: '\udc00' }),
      'kid must be 1 to 128 characters without control characters',
    ],
    [
      'a null kid',
      () => sealJwe({ ...request, kid: null as never }),
      'kid must be 1 to 128 characters without control characters',
    ],
    ['apu as text', () => sealJwe({ ...request, apu: 'Alice' as never }), 'apu must be a Uint8Array'],
    ['apv as text', () => sealJwe({ ...request, apv: 'Bob' as never }), 'apv must be a Uint8Array'],
    ['apv null', () => sealJwe({ ...request, apv: null as never }), 'apv must be a Uint8Array'],
    [
      'a signal that is none',
      () => sealJwe(request, { signal: {} } as never),
      'options.signal must be an AbortSignal',
    ],
  ])('%s', async (_, call, message) => {
    expect(await failureOf(call())).toEqual({ name: 'ArgumentError', code: 'ERR_ARGUMENT', message })
  })

  it.each<[string, () => Promise<unknown>, string]>([
    [
      'an apu of 257 bytes',
      () => sealJwe({ ...request, apu: new Uint8Array(257) }),
      'apu: 257 bytes, expected 0 to 256',
    ],
    [
      'an apv of 257 bytes',
      () => sealJwe({ ...request, apv: new Uint8Array(257) }),
      'apv: 257 bytes, expected 0 to 256',
    ],
    [
      '10 MB',
      () => sealJwe({ ...request, plaintext: new Uint8Array(10_000_000) }),
      'the JWE would be 10000000 characters or more, at most 8192',
    ],
  ])('%s', async (_, call, message) => {
    expect(await failureOf(call())).toEqual({ name: 'InputError', code: 'ERR_LENGTH', message })
  })

  it('an aborted signal', async () => {
    const failure = await failureOf(sealJwe(request, { signal: AbortSignal.abort() }))
    expect(failure.code).toBe('ERR_ABORTED')
  })

  it('the first byte beyond 8192 characters', async () => {
    const lengths = await Promise.all(
      [5894, 5895].map(length =>
        sealJwe({ ...request, plaintext: new Uint8Array(length) }).then(
          jwe => jwe.length,
          (error: { code: string }) => error.code,
        ),
      ),
    )
    expect(lengths).toEqual([MAX_JWE_CHARACTERS, 'ERR_LENGTH'])
  })

  it('more than 5936 bytes, with the shortest header', async () => {
    const short = { recipient: RECIPIENT, kid: 'K' }
    expect(await sealJwe({ ...short, plaintext: new Uint8Array(5936) })).toHaveLength(MAX_JWE_CHARACTERS)
    const failure = await failureOf(sealJwe({ ...short, plaintext: new Uint8Array(5937) }))
    expect(failure.code).toBe('ERR_LENGTH')
  })
})

describe('sealJwe', () => {
  it('seals to the recipient alone, whatever the plaintext runs when it is asked for its length', async () => {
    const inner: Promise<string>[] = []
    const curious = Object.defineProperty(plaintext.slice(), 'length', {
      get: () => {
        if (inner.length < 12) inner.push(sealJwe({ plaintext, recipient: RECIPIENT }))
        return plaintext.length
      },
    })
    const jwes = [await sealJwe({ plaintext: curious, recipient: RECIPIENT }), ...(await Promise.all(inner))]
    for (const jwe of jwes) expect((await openJwe({ jwe, keys: [key] })).plaintext).toEqual(plaintext)
  })

  it('writes five segments, the header as in the published sample', async () => {
    const jwe = await sealJwe({ plaintext, recipient: RECIPIENT })
    expect(jwe).toMatch(/^[\w-]+\.\.[\w-]{16}\.[\w-]{52}\.[\w-]{22}$/)
    const header = headerOf(jwe)
    expect(Object.keys(header)).toEqual(['alg', 'enc', 'kid', 'epk'])
    expect(Object.keys(header.epk)).toEqual(['kty', 'crv', 'x', 'y'])
    expect(header).toMatchObject({ alg: 'ECDH-ES', enc: 'A256GCM', kid: RECIPIENT.kid })
    expect(text((await openJwe({ jwe, keys: key })).plaintext)).toBe(SAMPLE_PLAINTEXT)
  })

  it('makes an ephemeral key and an IV for each message', async () => {
    // More than are drawn at once.
    const jwes = await Promise.all(
      Array.from({ length: 150 }, () => sealJwe({ plaintext, recipient: RECIPIENT })),
    )
    expect(new Set(jwes.map(jwe => headerOf(jwe).epk.x)).size).toBe(150)
    expect(new Set(jwes.map(jwe => jwe.split('.')[2])).size).toBe(150)
  })

  it.each([
    ['the kid of the request', { recipient: RECIPIENT, kid: 'MINE' }, 'MINE'],
    ['the kid of the JWK', { recipient: RECIPIENT }, RECIPIENT.kid],
    ['the kid of the recipient', { recipient: importRecipient(RECIPIENT) }, RECIPIENT.kid],
    [
      'the kid of the request for a recipient without',
      { recipient: importRecipient(ANONYMOUS), kid: 'MINE' },
      'MINE',
    ],
  ])('names %s', async (_, target, kid) => {
    const jwe = await sealJwe({ plaintext, ...target })
    expect(headerOf(jwe).kid).toBe(kid)
    const opened = await openJwe({ jwe, keys: await softwareKey(RECIPIENT_PRIVATE, kid) })
    expect(text(opened.plaintext)).toBe(SAMPLE_PLAINTEXT)
  })

  it.each([
    ['apu alone', { apu: utf8('Alice') }],
    ['apv alone', { apv: utf8('Bob') }],
    ['both at their longest', { apu: new Uint8Array(256).fill(1), apv: new Uint8Array(256).fill(2) }],
    ['both empty', { apu: new Uint8Array(0), apv: new Uint8Array(0) }],
  ])('binds %s', async (_, party: { apu?: Uint8Array; apv?: Uint8Array }) => {
    const jwe = await sealJwe({ plaintext, recipient: RECIPIENT, ...party })
    const { header, plaintext: opened } = await openJwe({ jwe, keys: key })
    expect(text(opened)).toBe(SAMPLE_PLAINTEXT)
    expect([header.apu, header.apv]).toEqual([party.apu, party.apv])
  })

  it.each([0, 1, 2, 3, 16, 5894])('seals %d bytes, and leaves them as they are', async length => {
    const content = Uint8Array.from({ length }, (_, i) => i)
    const jwe = await sealJwe({ plaintext: content, recipient: RECIPIENT })
    expect((await openJwe({ jwe, keys: key })).plaintext).toEqual(content)
    expect(content).toEqual(Uint8Array.from({ length }, (_, i) => i))
  })

  it('has done its work when it returns', async () => {
    const content = utf8(SAMPLE_PLAINTEXT)
    const sealing = sealJwe({ plaintext: content, recipient: RECIPIENT })
    content.fill(0)
    expect(text((await openJwe({ jwe: await sealing, keys: key })).plaintext)).toBe(SAMPLE_PLAINTEXT)
  })

  it('seals to the public half of a key', async () => {
    expect(key.publicJwk).toBeDefined()
    if (key.publicJwk === undefined) return
    const jwe = await sealJwe({ plaintext, recipient: key.publicJwk, kid: key.kid })
    expect((await openJwe({ jwe, keys: key })).kid).toBe(key.kid)
  })
})

describe('importRecipient', () => {
  it.each([
    [undefined],
    [null],
    [[]],
    [['deriveKey']],
    [['deriveBits']],
    [['deriveKey', 'deriveBits']],
    [['wrapKey', 'deriveBits']],
  ])('takes key_ops %j', key_ops => {
    expect(importRecipient({ ...RECIPIENT, key_ops } as never).publicJwk).toEqual(RECIPIENT)
  })

  it('takes null for an optional member that is absent', () => {
    const jwk = { ...ANONYMOUS, d: null, use: null, alg: null, key_ops: null, kid: null }
    expect(importRecipient(jwk as never).publicJwk).toEqual(ANONYMOUS)
  })

  it('takes what a JWK set usually says', () => {
    const jwk = { ...RECIPIENT, use: 'enc', alg: 'ECDH-ES', x5t: b64u('x') }
    const recipient = importRecipient(jwk)
    expect(recipient.kid).toBe(RECIPIENT.kid)
    expect(recipient.publicJwk).toEqual(RECIPIENT)
    expect(importRecipient(ANONYMOUS).publicJwk).toEqual(ANONYMOUS)
  })

  it('gives a recipient that nobody can change, and that says what it is', () => {
    const recipient = importRecipient(RECIPIENT)
    expect(Object.isFrozen(recipient)).toBe(true)
    expect(inspect(recipient)).toBe(`[P-256 recipient ${RECIPIENT.kid}]`)
    expect(`${importRecipient(ANONYMOUS)}`).toBe('P-256 recipient without kid')
  })
})
