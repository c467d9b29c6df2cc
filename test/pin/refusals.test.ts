/** What a refusal says: the argument, and what it must be. Never a digit of what it was. */

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { BoundKey } from '../../src/backend/bound-key.js'
import {
  type Backend,
  buildFormat0,
  checkFormat0,
  decipherPin,
  encipherPin,
  encipherPins,
  type Key,
  Pan,
  Pin,
  parseFormat0,
  reencipherPinBlock,
  TRANSLATIONS,
  translatePinBlock,
} from '../../src/index.js'
import { requireTranslation } from '../../src/pin/policy.js'
import { requirePan } from '../../src/primitives/pan.js'
import { requirePin } from '../../src/primitives/pin.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'

let backend: Backend
let elsewhere: Backend
let zpk: Key
let foreign: Key
let mac: Key

beforeAll(async () => {
  const material = '0123456789ABCDEFFEDCBA9876543210'
  const pinKey = { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material } as const
  const macMaterial = '7CA110454A1A6E570131D9619DC1376E'
  backend = await softwareBackend({
    keys: [pinKey, { kid: 'MAC', usage: 'cbc-mac', algorithm: 'tdea-2key', material: macMaterial }],
  })
  elsewhere = await softwareBackend({ keys: [{ ...pinKey, kid: 'STORE' }] })
  zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  mac = await backend.bind({ kid: 'MAC', usage: 'cbc-mac' })
  foreign = await elsewhere.bind({ kid: 'STORE', usage: 'pin-encryption' })
})
afterEach(() => vi.restoreAllMocks())
afterAll(() => Promise.all([backend.close(), elsewhere.close()]))

const block = (): Uint8Array => new Uint8Array(8)
const pan = (): Pan => Pan.from('4000001234567899')
const one = (): { pin: Pin; pan: Pan } => ({ pin: Pin.from('1234'), pan: pan() })

const verbs = {
  encipher: (more: object) => encipherPin({ ...one(), format: 0, key: zpk, ...more }),
  encipherAll: (more: object) => encipherPins({ pins: [one()], format: 0, key: zpk, ...more }),
  decipher: (more: object) => decipherPin({ block: block(), pan: pan(), format: 0, key: zpk, ...more }),
  translate: (more: object) => {
    const formats = { fromFormat: 0, toFormat: 0 } as const
    return translatePinBlock({ block: block(), pan: pan(), ...formats, from: zpk, to: foreign, ...more })
  },
  reencipher: (more: object) => reencipherPinBlock({ block: block(), from: zpk, to: zpk, ...more }),
}
const NO_KEY = 'must be a Key, bound by a backend of this copy of the library'

describe('ERR_ARGUMENT says', () => {
  test.each<[string, () => unknown]>([
    ['encipherPin takes an options object', () => encipherPin(7 as never)],
    ['encipherPin: unknown option "pIn"', () => verbs.encipher({ pIn: 1 })],
    [`key ${NO_KEY}`, () => verbs.encipher({ key: {} })],
    ['format must be one of the PIN block formats 0, 1, 2, 3, 4', () => verbs.encipher({ format: 5 })],
    ['encipherPins takes an options object', () => encipherPins(7 as never)],
    [`key ${NO_KEY}`, () => verbs.encipherAll({ key: {} })],
    ['format must be one of the PIN block formats 0, 1, 2, 3, 4', () => verbs.encipherAll({ format: 5 })],
    ['pins must be an array', () => verbs.encipherAll({ pins: { length: 1 } })],
    ['an entry of pins takes an options object', () => verbs.encipherAll({ pins: [7] })],
    ['decipherPin takes an options object', () => decipherPin(7 as never)],
    [`key ${NO_KEY}`, () => verbs.decipher({ key: {} })],
    ['format must be one of the PIN block formats 0, 1, 2, 3, 4', () => verbs.decipher({ format: 5 })],
    ['block must be a Uint8Array', () => verbs.decipher({ block: '00' })],
    ['translatePinBlock takes an options object', () => translatePinBlock(7 as never)],
    [`from ${NO_KEY}`, () => verbs.translate({ from: {} })],
    [`to ${NO_KEY}`, () => verbs.translate({ to: {} })],
    ['reencipherPinBlock takes an options object', () => reencipherPinBlock(7 as never)],
    [`from ${NO_KEY}`, () => verbs.reencipher({ from: {} })],
    [`to ${NO_KEY}`, () => verbs.reencipher({ to: {} })],
    ['block must be a Uint8Array', () => parseFormat0({ block: '00' as never, pan: pan() })],
    ['a PIN must be a string or a Uint8Array of ASCII digits', () => Pin.from(1234 as never)],
    ['a PAN must be a string or a Uint8Array of ASCII digits', () => Pan.from({ length: 16 } as never)],
    ['a Pin is made by Pin.from(digits)', () => Reflect.construct(Pin, [Uint8Array.of(1, 2, 3, 4)])],
    ['a Pan is made by Pan.from(digits)', () => Reflect.construct(Pan, [new Uint8Array(16)])],
    ['pin must be a Pin, made by Pin.from of this copy of the library', () => requirePin(null)],
    ['pan must be a Pan, made by Pan.from of this copy of the library', () => requirePan(null)],
  ])('«%s»', async (message, call) => {
    expect((await failure(call, 'ERR_ARGUMENT', ['1234'])).message).toBe(message)
  })

  test.each([
    ['0', 0, 'fromFormat and toFormat must be PIN block formats 0 to 4'],
    [0, '0', 'fromFormat and toFormat must be PIN block formats 0 to 4'],
    [5, 0, 'fromFormat and toFormat must be PIN block formats 0 to 4'],
  ])('of format %j to %j: «%s»', async (from, to, message) => {
    const call = () => requireTranslation(from as never, to as never)
    expect((await failure(call, 'ERR_ARGUMENT')).message).toBe(message)
  })
})

test.each<[string, string, () => unknown]>([
  ['ERR_PIN', 'a PIN is 4 to 12 decimal digits', () => Pin.from('12345678901x')],
  ['ERR_PAN', 'a PAN is 10 to 19 decimal digits', () => Pan.from('12345678901x')],
  ['ERR_LENGTH', 'pins: 0, expected 1 to 8192', () => verbs.encipherAll({ pins: [] })],
  ['ERR_LENGTH', 'pins: 8193, expected 1 to 8192', () => verbs.encipherAll({ pins: many(8193) })],
  ['ERR_KEY_FOREIGN', 'keys ZPK and STORE are keys of two backends', () => verbs.reencipher({ to: foreign })],
  ['ERR_TRANSLATION_REFUSED', 'a format 0 block must not become format 1', () => requireTranslation(0, 1)],
])('%s says «%s»', async (code, message, call) => {
  expect((await failure(call, code as 'ERR_PIN', ['12345678901x'])).message).toBe(message)
})

function many(count: number): { pin: Pin; pan: Pan }[] {
  return Array.from({ length: count }, one)
}

test('8192 PINs are one call', async () => {
  expect(await verbs.encipherAll({ pins: many(8192) })).toHaveLength(65_536)
})

test('a disposed PIN says that it is one', async () => {
  const pin = Pin.from('1234')
  pin.dispose()
  expect((await failure(() => pin.length, 'ERR_DISPOSED')).message).toBe('the PIN has been disposed of')
})

test('a target key that takes no PIN block is refused by its kid before anything is deciphered', async () => {
  const decipher = vi.spyOn(BoundKey.prototype, 'decipher')
  const error = await failure(() => verbs.translate({ to: mac }), 'ERR_KEY_USAGE')
  expect(error.message).toBe('key MAC is for cbc-mac: enciphering a PIN block is refused')
  expect(error).toHaveProperty('kid', 'MAC')
  expect(decipher).not.toHaveBeenCalled()
})

test('the translations are those of PCI PIN v3.1, 3-3: a block keeps its PAN or gains one, format 2 is no target', () => {
  expect(TRANSLATIONS).toEqual({ 0: [0, 3, 4], 1: [0, 3, 4], 2: [], 3: [0, 3, 4], 4: [0, 3, 4] })
})

test('digits are 0 to 9, the bounds included, and no neighbour of theirs', () => {
  expect(Pin.from('0990').reveal()).toBe('0990')
  for (const near of ['/', ':']) {
    expect(() => Pin.from(`123${near}`)).toThrow('a PIN is 4 to 12 decimal digits')
    expect(() => Pan.from(`12345678901${near}`)).toThrow('a PAN is 10 to 19 decimal digits')
  }
})

test('a digit above 9 is bad for parseFormat0, and no matter of checkFormat0', () => {
  const clear = buildFormat0({ pin: Pin.from('1239'), pan: pan() })
  clear[2] = (clear[2] ?? 0) ^ 0x03
  expect(checkFormat0({ block: clear, pan: pan() })).toBeUndefined()
  expect(() => parseFormat0({ block: clear, pan: pan() })).toThrow('the PIN block is not valid')
})
