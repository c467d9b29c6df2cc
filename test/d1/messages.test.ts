import { CompactEncrypt, compactDecrypt, exportJWK, generateKeyPair, type importJWK, type JWK } from 'jose'
import forge from 'node-forge'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  getPinResponse,
  openSetPinRequest,
  openSetPinRequestToClearPin,
  readPinMessage,
} from '../../src/d1.js'
import {
  type Backend,
  buildFormat0,
  encipherPin,
  importRecipient,
  type Key,
  Pan,
  Pin,
  pinPolicy,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'
import { hex } from '../support/vectors.js'

const CLEAR_PAN = '4000001234567899'
const PAN = Pan.from(CLEAR_PAN)
const ZPK = '0123456789ABCDEFFEDCBA9876543210'
const STORE = '89E88CF7931444F334BD7547FC3F380C'
const SECRETS = [ZPK, STORE, CLEAR_PAN]

let backend: Backend
let keys: { zpk: Key; zpkClosed: Key; store: Key; jwe: Key; old: Key }
let d1Private: Awaited<ReturnType<typeof generateKeyPair>>['privateKey']
let d1PublicJwk: JWK & { kty: 'EC'; crv: 'P-256'; x: string; y: string; kid: string }
let issuerPublic: Awaited<ReturnType<typeof importJWK>>

beforeAll(async () => {
  const d1 = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  d1Private = d1.privateKey
  d1PublicJwk = { ...(await exportJWK(d1.publicKey)), kid: 'D1-KEY' } as typeof d1PublicJwk
  const issuer = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  issuerPublic = issuer.publicKey
  const old = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  backend = await softwareBackend({
    keys: [
      { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: ZPK },
      { kid: 'STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', material: STORE },
      {
        kid: 'JWE',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: await exportJWK(issuer.privateKey),
      },
      {
        kid: 'OLD',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: await exportJWK(old.privateKey),
      },
    ],
  })
  keys = {
    zpk: await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true }),
    zpkClosed: await backend.bind({ kid: 'ZPK', usage: 'pin-encryption' }),
    store: await backend.bind({ kid: 'STORE', usage: 'pin-encryption', hostDecipher: true }),
    jwe: await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' }),
    old: await backend.bind({ kid: 'OLD', usage: 'jwe-key-agreement' }),
  }
})
afterAll(() => backend.close())

/** What D1 would send, made by jose. */
async function seal(content: unknown, kid = 'JWE'): Promise<string> {
  const text = typeof content === 'string' ? content : JSON.stringify(content)
  return new CompactEncrypt(new TextEncoder().encode(text))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid })
    .encrypt(issuerPublic)
}

/** A format 0 block under the ZPK, made by node-forge. */
function forgeBlock(pin: string): string {
  const clear = Buffer.from(buildFormat0({ pin: Pin.from(pin), pan: PAN }))
  const key = Buffer.from(ZPK + ZPK.slice(0, 16), 'hex').toString('latin1')
  const cipher = forge.cipher.createCipher('3DES-ECB', key)
  cipher.start({})
  cipher.update(forge.util.createBuffer(clear.toString('latin1')))
  cipher.finish()
  return cipher.output.toHex().slice(0, 16).toUpperCase()
}

const open = async (content: unknown, more: object = {}) =>
  openSetPinRequest({
    body: { type: 'ISO0', encryptedPinBlock: await seal(content) },
    jweKeys: keys.jwe,
    from: keys.zpk,
    pan: PAN,
    to: keys.store,
    ...more,
  })

describe('a PIN policy', () => {
  const policy = pinPolicy({ minLength: 4, maxLength: 12, refuse: ['repeats'], notBefore: true })
  const stored = async (pin: string) => ({
    key: keys.store,
    block: await encipherPin({ pin: Pin.from(pin), pan: PAN, format: 0, key: keys.store }),
  })

  test('the PIN that was set before is refused, and another one is taken', async () => {
    const content = { kid: 'ZPK', pinValue: forgeBlock('1357') }
    const error = await failure(
      async () => open(content, { policy, before: await stored('1357') }),
      'ERR_PIN_POLICY',
      ['1357'],
    )
    expect(error).toMatchObject({ reason: 'before' })
    for (const more of [
      { policy, before: await stored('2468') },
      { policy },
      { before: await stored('1357') },
    ])
      expect((await open(content, more)).kid).toBe('STORE')
    const weak = { kid: 'ZPK', pinValue: forgeBlock('1111') }
    expect(await failure(() => open(weak, { policy }), 'ERR_PIN_POLICY')).toMatchObject({ reason: 'repeats' })
  })

  test('what is no stored block, and a way in which nobody looks, are refused', async () => {
    const content = { kid: 'ZPK', pinValue: forgeBlock('1357') }
    const kept = await stored('1357')
    for (const bad of [
      { before: { ...kept, key: {} } },
      { before: { ...kept, more: 1 } },
      { policy: {} },
      { translation: 'reencipher' },
    ])
      await failure(() => open(content, { policy, before: kept, ...bad }), 'ERR_ARGUMENT')
    const short = { ...kept, block: new Uint8Array(7) }
    await failure(() => open(content, { policy, before: short }), 'ERR_PIN_BLOCK')
  })
})

describe('the outer object', () => {
  test.each([
    ['no object', 'body', [null, 7, [], undefined]],
    [
      'no JSON',
      'body',
      ['', '{', '[]', '"x"', 'null', '{"type":"ISO0","type":"ISO0","encryptedPinBlock":"x"}'],
    ],
    ['too long a text', 'body', [`{"type":"ISO0","x":"${'x'.repeat(16_384)}"}`, new Uint8Array(16_385)]],
    ['a dangerous member', 'body', ['{"__proto__":{"type":"ISO0"},"type":"ISO0","encryptedPinBlock":"x"}']],
    ['no type', 'type', [{}, { encryptedPinBlock: 'x' }, Object.create({ type: 'ISO0' })]],
    [
      'another type',
      'type',
      [
        { type: 'ISO1', encryptedPinBlock: 'x' },
        { type: ['ISO0'], encryptedPinBlock: 'x' },
      ],
    ],
    ['no JWE', 'encryptedPinBlock', [{ type: 'ISO0' }, { type: 'ISO0', encryptedPinBlock: 7 }]],
    [
      'a JWE of wrong length',
      'encryptedPinBlock',
      [
        { type: 'ISO0', encryptedPinBlock: '' },
        { type: 'ISO0', encryptedPinBlock: 'x'.repeat(8193) },
      ],
    ],
  ])('%s is ERR_D1_MESSAGE naming %s', async (_name, field, bodies) => {
    for (const body of bodies) {
      const error = await failure(() => readPinMessage(body as never), 'ERR_D1_MESSAGE')
      expect(error).toMatchObject({ field })
    }
  })

  test('is read from text, bytes or a parsed object; unknown members are ignored', () => {
    const body = { type: '3DES_SECCOS', encryptedPinBlock: 'x', added: 'later' }
    const expected = { type: '3DES_SECCOS', encryptedPinBlock: 'x' }
    expect(readPinMessage(body)).toEqual(expected)
    expect(readPinMessage(JSON.stringify(body))).toEqual(expected)
    expect(readPinMessage(new TextEncoder().encode(JSON.stringify(body)))).toEqual(expected)
  })
})

describe('the inner object', () => {
  const block = '1B9C1845EB993A7A'
  test.each([
    ['no JSON', 'encryptedPinBlock', 'not json'],
    ['an array', 'encryptedPinBlock', '[]'],
    ['a duplicate member', 'encryptedPinBlock', `{"kid":"ZPK","pinValue":"${block}","pinValue":"${block}"}`],
    ['__proto__', 'encryptedPinBlock', `{"__proto__":{"kid":"ZPK"},"pinValue":"${block}"}`],
    ['no kid', 'kid', { pinValue: block }],
    ['an empty kid', 'kid', { pinValue: block, kid: '' }],
    ['a long kid', 'kid', { pinValue: block, kid: 'x'.repeat(129) }],
    ['a foreign kid', 'kid', { pinValue: block, kid: 'OTHER' }],
    ['no pinValue', 'pinValue', { kid: 'ZPK' }],
    ['a number', 'pinValue', { kid: 'ZPK', pinValue: 1234 }],
    ['a short block', 'pinValue', { kid: 'ZPK', pinValue: block.slice(2) }],
    ['two blocks', 'pinValue', { kid: 'ZPK', pinValue: block + block }],
    ['no hex', 'pinValue', { kid: 'ZPK', pinValue: `${block.slice(1)}G` }],
    ['a SECCOS object', 'kid', { intdatag: 'x'.repeat(20), prwValue: '00', prwKid: 'P' }],
  ])('%s is ERR_D1_MESSAGE naming %s', async (_name, field, content) => {
    const error = await failure(() => open(content), 'ERR_D1_MESSAGE', [block, ...SECRETS])
    expect(error).toMatchObject({ field })
  })

  test('a clear PIN in the JWE is refused: only the inner block protects it', async () => {
    await failure(() => open({ kid: 'ZPK', pinValue: '1234' }), 'ERR_D1_MESSAGE')
  })
})

describe('Set PIN', () => {
  test('a JWE that does not open is ERR_JWE, whichever way', async () => {
    const jwe = await seal({ kid: 'ZPK', pinValue: forgeBlock('1234') })
    const cases = [
      `${jwe.slice(0, -2)}AA`,
      'a.b.c.d.e',
      await seal({}, 'UNKNOWN'),
      jwe.split('.').slice(1).join('.'),
    ]
    for (const encryptedPinBlock of cases) {
      await failure(() => open({}, { body: { type: 'ISO0', encryptedPinBlock } }), 'ERR_JWE', SECRETS)
    }
    await failure(
      () => open({ kid: 'ZPK', pinValue: forgeBlock('1234') }, { jweKeys: [keys.old] }),
      'ERR_JWE',
    )
  })

  test('a block under another key or for another PAN is ERR_PIN_BLOCK', async () => {
    const content = { kid: 'ZPK', pinValue: forgeBlock('1234') }
    await failure(() => open(content, { pan: Pan.from('5111119876543210') }), 'ERR_PIN_BLOCK', SECRETS)
    await failure(() => open({ ...content, pinValue: '00'.repeat(8) }), 'ERR_PIN_BLOCK', SECRETS)
  })

  test('programmer mistakes are ERR_ARGUMENT or the key errors', async () => {
    const content = { kid: 'ZPK', pinValue: forgeBlock('1234') }
    await failure(() => openSetPinRequest(undefined as never), 'ERR_ARGUMENT')
    await failure(() => openSetPinRequestToClearPin(null as never), 'ERR_ARGUMENT')
    await failure(() => open(content, { pan: CLEAR_PAN }), 'ERR_ARGUMENT', SECRETS)
    await failure(() => open(content, { to: undefined }), 'ERR_ARGUMENT')
    await failure(() => open(content, { from: undefined }), 'ERR_ARGUMENT')
    await failure(() => open(content, { from: [] }), 'ERR_ARGUMENT')
    await failure(() => open(content, { from: [keys.zpk, 'ZPK'] }), 'ERR_ARGUMENT')
    await failure(() => open(content, { jweKeys: [] }), 'ERR_ARGUMENT')
    await failure(() => open(content, { jweKeys: keys.zpk }), 'ERR_KEY_USAGE')
    await failure(() => open(content, { to: keys.jwe }), 'ERR_KEY_USAGE')
    await failure(() => open(content, { translation: 'none' }), 'ERR_ARGUMENT')
    await failure(() => open(content, { from: keys.zpkClosed }), 'ERR_HOST_DECIPHER')
    await failure(() => open({}, { body: { type: '3DES_SECCOS', encryptedPinBlock: 'x' } }), 'ERR_D1_MESSAGE')
  })

  test.each(['checked', 'reencipher'] as const)(
    'stores the block under the storage key (%s)',
    async translation => {
      const opened = await open({ kid: 'ZPK', pinValue: forgeBlock('1234').toLowerCase() }, { translation })
      const expected = await encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: keys.store })
      expect(opened).toEqual({ type: 'ISO0', block: expected, kid: 'STORE', zpkKid: 'ZPK', jweKid: 'JWE' })
    },
  )

  test('hands out the clear PIN only by the verb that says so', async () => {
    const body = {
      type: 'ISO0',
      encryptedPinBlock: await seal({ kid: 'ZPK', pinValue: forgeBlock('907856') }),
    }
    using pin = await openSetPinRequestToClearPin({
      body: JSON.stringify(body),
      jweKeys: [keys.old, keys.jwe],
      from: [keys.store, keys.zpk],
      pan: PAN,
    })
    expect(pin.reveal()).toBe('907856')
  })
})

describe('Get PIN', () => {
  async function read(encryptedPinBlock: string): Promise<unknown> {
    const { plaintext, protectedHeader } = await compactDecrypt(encryptedPinBlock, d1Private)
    expect(protectedHeader).toMatchObject({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'D1-KEY' })
    return JSON.parse(new TextDecoder().decode(plaintext))
  }

  test('from a clear PIN and from a stored block, jose and node-forge read the same', async () => {
    using pin = Pin.from('4711')
    const block = await encipherPin({ pin, pan: PAN, format: 0, key: keys.store })
    const target = { pan: PAN, to: keys.zpk, d1PublicJwk }
    const answers = [
      await getPinResponse({ pin, ...target }),
      await getPinResponse({ block, from: keys.store, ...target }),
      await getPinResponse({ block, from: keys.store, translation: 'reencipher', ...target }),
      await getPinResponse({ pin, ...target, d1PublicJwk: importRecipient(d1PublicJwk) }),
    ]
    for (const { type, encryptedPinBlock } of answers) {
      expect(type).toBe('ISO0')
      expect(await read(encryptedPinBlock)).toEqual({ pinValue: forgeBlock('4711'), kid: 'ZPK' })
    }
  })

  test('refuses a stored block that is not of this PAN, an unusable recipient, and mistakes', async () => {
    using pin = Pin.from('4711')
    const block = await encipherPin({ pin, pan: PAN, format: 0, key: keys.store })
    const input = { block, from: keys.store, pan: PAN, to: keys.zpk, d1PublicJwk }
    const shown = [hex(block), ...SECRETS]
    await failure(
      () => getPinResponse({ ...input, pan: Pan.from('5111119876543210') }),
      'ERR_PIN_BLOCK',
      shown,
    )
    await failure(
      () => getPinResponse({ ...input, d1PublicJwk: { ...d1PublicJwk, x: d1PublicJwk.y } }),
      'ERR_JWE_RECIPIENT',
    )
    await failure(() => getPinResponse({ ...input, to: keys.jwe }), 'ERR_KEY_USAGE', shown)
    await failure(() => getPinResponse({ ...input, from: undefined } as never), 'ERR_ARGUMENT', shown)
    await failure(() => getPinResponse({ ...input, to: 'ZPK' } as never), 'ERR_ARGUMENT', shown)
    await failure(() => getPinResponse({ ...input, d1PublicJwk: 'key' } as never), 'ERR_ARGUMENT', shown)
    await failure(() => getPinResponse(undefined as never), 'ERR_ARGUMENT')
    await failure(() => getPinResponse({ ...input, pin } as never), 'ERR_ARGUMENT', shown)
    await failure(
      () => getPinResponse({ ...input, pan: undefined, translation: 'reencipher' } as never),
      'ERR_ARGUMENT',
    )
    await failure(() => getPinResponse(input, { signal: AbortSignal.abort() }), 'ERR_ABORTED', shown)
  })
})
