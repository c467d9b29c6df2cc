/** An issuer that keeps its PIN blocks in format 4 under AES still speaks format 0 under TDEA with D1. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { getPinResponse, openSetPinRequest } from '../../src/d1.js'
import {
  type Backend,
  decipherPin,
  encipherPin,
  type Key,
  openJwe,
  Pan,
  Pin,
  pinPolicy,
  sealJwe,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'

const PAN = Pan.from('4000001234567899')
let backend: Backend
let zpk: Key
let storage: Key
let jwe: Key

beforeAll(async () => {
  backend = await softwareBackend({
    keys: [
      {
        kid: 'ZPK',
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        material: '0123456789ABCDEFFEDCBA9876543210',
      },
      {
        kid: 'AES',
        usage: 'pin-encryption',
        algorithm: 'aes-128',
        material: 'AF8CB133A78F8DC2D1359F18527593FB',
      },
      {
        kid: 'JWE',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: 'C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721',
      },
    ],
  })
  zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  storage = await backend.bind({ kid: 'AES', usage: 'pin-encryption', hostDecipher: true })
  jwe = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
})
afterAll(() => backend.close())

async function request(content: object) {
  if (jwe.publicJwk === undefined) throw new Error('no public key')
  const encryptedPinBlock = await sealJwe({
    plaintext: new TextEncoder().encode(JSON.stringify(content)),
    recipient: { ...jwe.publicJwk, kid: 'JWE' },
  })
  return { type: 'ISO0', encryptedPinBlock }
}
const hexOf = (block: Uint8Array): string => Buffer.from(block).toString('hex').toUpperCase()

test('Set PIN: the block at rest is 16 bytes, format 4; Get PIN answers 8 bytes, format 0', async () => {
  const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: zpk })
  const body = await request({ pinValue: hexOf(block), kid: 'ZPK' })
  const opened = await openSetPinRequest({ body, jweKeys: jwe, from: zpk, to: storage, pan: PAN })
  expect(opened).toMatchObject({ kid: 'AES', zpkKid: 'ZPK' })
  expect(opened.block).toHaveLength(16)
  expect((await decipherPin({ block: opened.block, pan: PAN, format: 4, key: storage })).reveal()).toBe(
    '2846',
  )

  if (jwe.publicJwk === undefined) throw new Error('no public key')
  const d1PublicJwk = { ...jwe.publicJwk, kid: 'JWE' }
  const answer = await getPinResponse({ block: opened.block, from: storage, to: zpk, pan: PAN, d1PublicJwk })
  const { plaintext } = await openJwe({ jwe: answer.encryptedPinBlock, keys: jwe })
  const content: unknown = JSON.parse(Buffer.from(plaintext).toString('utf8'))
  expect(content).toEqual({ pinValue: hexOf(block), kid: 'ZPK' })
})

test('the PIN before is one that is at rest under AES: refused again, and another one taken', async () => {
  const policy = pinPolicy({ minLength: 4, maxLength: 12, refuse: [], notBefore: true })
  const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: zpk })
  const body = await request({ pinValue: hexOf(block), kid: 'ZPK' })
  const open = async (stored: string) => {
    const before = {
      key: storage,
      block: await encipherPin({ pin: Pin.from(stored), pan: PAN, format: 4, key: storage }),
    }
    return openSetPinRequest({ body, jweKeys: jwe, from: zpk, to: storage, pan: PAN, policy, before })
  }
  expect(await failure(() => open('2846'), 'ERR_PIN_POLICY')).toMatchObject({ reason: 'before' })
  expect((await open('2847')).kid).toBe('AES')
})

test('on the wire an AES key is refused, and so is moving a format 4 block unseen', async () => {
  const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: zpk })
  const stored = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 4, key: storage })
  const d1PublicJwk = { ...(jwe.publicJwk ?? expect.unreachable()), kid: 'JWE' }
  const inAes = await request({ pinValue: hexOf(block), kid: 'AES' })
  await failure(
    () => openSetPinRequest({ body: inAes, jweKeys: jwe, from: storage, to: storage, pan: PAN }),
    'ERR_KEY_ALGORITHM',
  )
  const target = { to: storage, pan: PAN, d1PublicJwk }
  await failure(() => getPinResponse({ block, from: zpk, ...target }), 'ERR_KEY_ALGORITHM')
  const unseen = {
    block: stored,
    from: storage,
    to: zpk,
    pan: PAN,
    d1PublicJwk,
    translation: 'reencipher',
  } as const
  await failure(() => getPinResponse(unseen), 'ERR_KEY_ALGORITHM')
  await failure(
    () => getPinResponse({ ...unseen, translation: 'checked', pan: Pan.from('5111119876543210') }),
    'ERR_PIN_BLOCK',
  )
})
