import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { BoundKey } from '../../src/backend/bound-key.js'
import {
  type Backend,
  decipherPin,
  encipherPin,
  encipherPins,
  generateOffset,
  generatePin,
  generatePinBlock,
  generatePvv,
  judgePin,
  type Key,
  naturalPin,
  Pan,
  Pin,
  pinPolicy,
  reencipherPinBlock,
  rePanPinBlock,
  TRANSLATIONS,
  translatePinBlock,
  translatePinBlocks,
  verifyPinBlock,
} from '../../src/index.js'
import { FORMATS } from '../../src/pin/formats/formats.js'
import { requireTranslation } from '../../src/pin/policy.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'
import { bytes, field, hex, vectorsOf } from '../support/vectors.js'

const PAN = Pan.from('4000001234567899')
const ZPK = '0123456789ABCDEFFEDCBA9876543210'
const STORE = '89E88CF7931444F334BD7547FC3F380C'

let backend: Backend
let other: Backend
let zpk: Key
let store: Key
let closed: Key
let mac: Key
let elsewhere: Key

beforeAll(async () => {
  backend = await softwareBackend({
    keys: [
      { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: ZPK },
      { kid: 'STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', material: STORE },
      { kid: 'MAC', usage: 'cbc-mac', algorithm: 'tdea-2key', material: '7CA110454A1A6E570131D9619DC1376E' },
    ],
  })
  other = await softwareBackend({
    keys: [{ kid: 'STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', material: STORE }],
  })
  zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  closed = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption' })
  store = await backend.bind({ kid: 'STORE', usage: 'pin-encryption', hostDecipher: true })
  mac = await backend.bind({ kid: 'MAC', usage: 'cbc-mac' })
  elsewhere = await other.bind({ kid: 'STORE', usage: 'pin-encryption', hostDecipher: true })
})
afterAll(() => Promise.all([backend.close(), other.close()]))

/** Every verb, called with one argument replaced. */
const verbs = {
  encipherPin: (more: object) =>
    encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: zpk, ...more }),
  encipherPins: (more: object) =>
    encipherPins({ pins: [{ pin: Pin.from('1234'), pan: PAN }], format: 0, key: zpk, ...more }),
  decipherPin: (more: object) =>
    decipherPin({ block: new Uint8Array(8), pan: PAN, format: 0, key: zpk, ...more }),
  translatePinBlock: (more: object) =>
    translatePinBlock({
      block: new Uint8Array(8),
      pan: PAN,
      fromFormat: 0,
      toFormat: 0,
      from: zpk,
      to: store,
      ...more,
    }),
  reencipherPinBlock: (more: object) =>
    reencipherPinBlock({ block: new Uint8Array(8), from: zpk, to: store, ...more }),
  translatePinBlocks: (more: object) =>
    translatePinBlocks({
      blocks: [{ block: new Uint8Array(8), pan: PAN }],
      fromFormat: 0,
      toFormat: 0,
      from: zpk,
      to: store,
      ...more,
    }),
  rePanPinBlock: (more: object) =>
    rePanPinBlock({
      block: new Uint8Array(8),
      pan: PAN,
      newPan: PAN,
      fromFormat: 0,
      toFormat: 0,
      from: zpk,
      to: store,
      ...more,
    }),
  verifyPinBlock: (more: object) =>
    verifyPinBlock({
      block: new Uint8Array(8),
      pan: PAN,
      format: 0,
      from: zpk,
      against: { kind: 'block', block: new Uint8Array(8), format: 0, key: store },
      tries: 'counted-elsewhere',
      ...more,
    }),
  generatePvv: (more: object) =>
    generatePvv({ block: new Uint8Array(8), pan: PAN, format: 0, from: zpk, key: mac, ...more }),
  generateOffset: (more: object) =>
    generateOffset({ block: new Uint8Array(8), pan: PAN, format: 0, from: zpk, key: mac, ...more }),
  naturalPin: (more: object) => naturalPin({ pan: PAN, key: mac, length: 4, format: 0, to: zpk, ...more }),
  generatePin: (more: object) => generatePin({ length: 4, policy: POLICY, backend, ...more }),
  generatePinBlock: (more: object) =>
    generatePinBlock({ length: 4, policy: POLICY, backend, pan: PAN, format: 0, key: zpk, ...more }),
}
const POLICY = pinPolicy({ minLength: 4, maxLength: 6, refuse: [] })

describe('bad input', () => {
  test.each([
    ['encipherPin', { pin: '1234' }],
    ['encipherPin', { pan: '4000001234567899' }],
    ['encipherPin', { format: undefined }],
    ['encipherPin', { format: 5 }],
    ['encipherPin', { format: '0' }],
    ['encipherPin', { key: undefined }],
    ['encipherPin', { key: { kid: 'ZPK' } }],
    ['encipherPins', { pins: undefined }],
    ['encipherPins', { pins: [undefined] }],
    ['encipherPins', { pins: [{ pin: '1234', pan: PAN }] }],
    ['encipherPins', { format: 5 }],
    ['encipherPins', { key: 'ZPK' }],
    ['decipherPin', { block: '0011223344556677' }],
    ['decipherPin', { pan: undefined }],
    ['decipherPin', { format: 5 }],
    ['decipherPin', { key: null }],
    ['translatePinBlock', { block: undefined }],
    ['translatePinBlock', { pan: '4000001234567899' }],
    ['translatePinBlock', { fromFormat: 5 }],
    ['translatePinBlock', { toFormat: 'constructor' }],
    ['translatePinBlock', { fromFormat: -1 }],
    ['translatePinBlock', { requireInToken: 1 }],
    ['translatePinBlock', { from: undefined }],
    ['translatePinBlock', { to: {} }],
    ['reencipherPinBlock', { block: [] }],
    ['reencipherPinBlock', { from: 7 }],
    ['reencipherPinBlock', { to: undefined }],
    ['translatePinBlocks', { blocks: { length: 1 } }],
    ['translatePinBlocks', { blocks: [undefined] }],
    ['rePanPinBlock', { pan: undefined }],
    ['verifyPinBlock', { format: 5 }],
    ['verifyPinBlock', { from: {} }],
    ['verifyPinBlock', { requireInToken: 1 }],
    ['verifyPinBlock', { against: 7 }],
    ['verifyPinBlock', { against: { kind: 'pin' } }],
    ['generatePvv', { format: 5 }],
    ['generatePvv', { from: {} }],
    ['generatePvv', { key: {} }],
    ['generateOffset', { block: '00' }],
    ['naturalPin', { format: 5 }],
    ['naturalPin', { key: {} }],
    ['naturalPin', { to: {} }],
    ['generatePin', { length: 7 }],
    ['generatePin', { backend: {} }],
    ['generatePin', { policy: {} }],
    ['generatePinBlock', { format: 5 }],
    ['generatePinBlock', { key: {} }],
  ] as const)('%s refuses %j with ERR_ARGUMENT, and says what', async (verb, more) => {
    const { message } = await failure(() => verbs[verb](more), 'ERR_ARGUMENT', ['4000001234567899'])
    const [name = ''] = Object.keys(more)
    // Of a batch it may be one of them.
    expect(message).toMatch(new RegExp(`\\b${name.replace(/s$/, 's?')}\\b`))
  })

  test.each([undefined, null, 'x'])('every verb refuses %j as its input with ERR_ARGUMENT', async input => {
    const all = {
      encipherPin,
      encipherPins,
      decipherPin,
      translatePinBlock,
      translatePinBlocks,
      rePanPinBlock,
      reencipherPinBlock,
      verifyPinBlock,
      generatePvv,
      generateOffset,
      naturalPin,
      generatePin,
      generatePinBlock,
      pinPolicy,
      judgePin,
    }
    for (const [name, verb] of Object.entries(all)) {
      const { message } = await failure(() => verb(input as never), 'ERR_ARGUMENT')
      expect(message).toContain(name)
    }
  })

  test.each([
    ['encipherPin', 'key', 'D'],
    ['encipherPins', 'key', 'D'],
    ['decipherPin', 'key', 'E'],
    ['translatePinBlock', 'from', 'E'],
    ['translatePinBlock', 'to', 'D'],
    ['translatePinBlocks', 'from', 'E'],
    ['translatePinBlocks', 'to', 'D'],
    ['rePanPinBlock', 'from', 'E'],
    ['rePanPinBlock', 'to', 'D'],
    ['reencipherPinBlock', 'from', 'E'],
    ['reencipherPinBlock', 'to', 'D'],
    ['verifyPinBlock', 'from', 'E'],
    ['verifyPinBlock', 'against', 'D'],
    ['generatePvv', 'from', 'E'],
    ['generateOffset', 'from', 'E'],
    ['naturalPin', 'to', 'D'],
    ['generatePinBlock', 'key', 'D'],
  ] as const)(
    '%s refuses for %s a key of another usage, algorithm or mode, before it is asked for anything',
    async (verb, name, way) => {
      const key = {
        kid: way,
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        material: ZPK,
        mode: way,
      } as const
      const aes = { kid: 'AES', usage: 'pin-encryption', algorithm: 'aes-128', material: STORE } as const
      await using one = await softwareBackend({ keys: [key, aes] })
      const wrong = {
        ERR_KEY_USAGE: [mac, await one.bind({ kid: way, usage: 'pin-encryption', mode: way })],
        ERR_KEY_ALGORITHM: [await one.bind({ kid: 'AES', usage: 'pin-encryption', hostDecipher: true })],
      } as const
      const asked = (['encipher', 'decipher', 'reencipher', 'verifyPin'] as const).map(operation =>
        vi.spyOn(BoundKey.prototype, operation),
      )
      for (const [code, keys] of Object.entries(wrong))
        for (const given of keys) {
          const against = { kind: 'block', block: new Uint8Array(8), format: 0, key: given }
          await failure(
            () => verbs[verb]({ [name]: name === 'against' ? against : given }),
            code as 'ERR_KEY_USAGE',
          )
        }
      for (const operation of asked) expect(operation).not.toHaveBeenCalled()
      vi.restoreAllMocks()
    },
  )

  test('host decipherment is opt-in: ERR_HOST_DECIPHER', async () => {
    await failure(() => verbs.decipherPin({ key: closed }), 'ERR_HOST_DECIPHER')
    await failure(() => verbs.translatePinBlock({ from: closed }), 'ERR_HOST_DECIPHER')
    await failure(() => verbs.reencipherPinBlock({ from: closed }), 'ERR_HOST_DECIPHER')
  })

  test.each([0, 7, 9, 16])('a block of %d bytes is ERR_PIN_BLOCK', async length => {
    const block = new Uint8Array(length)
    await failure(() => verbs.decipherPin({ block }), 'ERR_PIN_BLOCK')
    await failure(() => verbs.translatePinBlock({ block }), 'ERR_PIN_BLOCK')
    await failure(() => verbs.reencipherPinBlock({ block }), 'ERR_PIN_BLOCK')
  })

  test('none or too many PINs in a batch are ERR_LENGTH', async () => {
    await failure(() => verbs.encipherPins({ pins: [] }), 'ERR_LENGTH')
    const pins = Array.from({ length: 8193 }, () => ({ pin: Pin.from('1234'), pan: PAN }))
    await failure(() => verbs.encipherPins({ pins }), 'ERR_LENGTH')
  })

  test('none or too many blocks in a batch are ERR_LENGTH, and it says of what', async () => {
    for (const length of [0, 4097]) {
      const blocks = Array.from({ length }, () => ({ block: new Uint8Array(8), pan: PAN }))
      const { message } = await failure(() => verbs.translatePinBlocks({ blocks }), 'ERR_LENGTH')
      expect(message).toContain(`blocks: ${length}`)
    }
    const blocks = [{ block: '00', pan: PAN }]
    const { message } = await failure(() => verbs.translatePinBlocks({ blocks }), 'ERR_ARGUMENT')
    expect(message).toContain('block must')
  })

  test('a block that is right but for its length is none, alone and in a batch', async () => {
    const block = await verbs.encipherPin({})
    const blocks = [[...block], [...block, 0], [...block.subarray(0, 7)], [...block, 0]].map(bytes => ({
      block: Uint8Array.from(bytes),
      pan: PAN,
    }))
    const results = await verbs.translatePinBlocks({ blocks })
    expect(results.map(({ ok }) => ok)).toEqual([true, false, false, false])
    for (const { block } of blocks.slice(1)) {
      await failure(() => verbs.translatePinBlock({ block }), 'ERR_PIN_BLOCK')
      await failure(() => verbs.decipherPin({ block }), 'ERR_PIN_BLOCK')
    }
  })

  test('reencipherPinBlock refuses keys of two backends, translatePinBlock does not', async () => {
    await failure(() => verbs.reencipherPinBlock({ to: elsewhere }), 'ERR_KEY_FOREIGN')
    const block = await verbs.encipherPin({})
    const moved = await verbs.translatePinBlock({ block, to: elsewhere })
    expect(hex(moved)).toBe(hex(await verbs.encipherPin({ key: store })))
  })

  test('a disposed PIN, an aborted signal', async () => {
    const pin = Pin.from('1234')
    pin.dispose()
    await failure(() => verbs.encipherPin({ pin }), 'ERR_DISPOSED')
    const options = { signal: AbortSignal.abort() }
    await failure(
      () => encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: zpk }, options),
      'ERR_ABORTED',
    )
  })
})

describe('one error whatever is wrong with an enciphered block', () => {
  test('wrong key, wrong PAN, damaged block, all alike', async () => {
    const block = await verbs.encipherPin({})
    const damaged = block.map((byte, i) => (i === 0 ? byte ^ 1 : byte))
    const cases = [{ key: store, block }, { block, pan: Pan.from('4000001234567800') }, { block: damaged }]
    const shown = new Set<string>()
    for (const more of [cases[0], { ...cases[1], pan: Pan.from('5111119876543210') }, cases[2]]) {
      const error = await failure(() => verbs.decipherPin(more ?? {}), 'ERR_PIN_BLOCK', [hex(block)])
      shown.add(`${error.name} ${error.message} ${error.retryable} ${error.cause}`)
    }
    await failure(
      () => verbs.translatePinBlock({ block, pan: Pan.from('5111119876543210') }),
      'ERR_PIN_BLOCK',
      [hex(block)],
    )
    expect(shown.size).toBe(1)
  })
})

describe('known answers', () => {
  test.each(vectorsOf('pin-block-format0', 'pin-block.encipher'))(
    '$id enciphers and deciphers',
    async vector => {
      const { key, pin, pan } = vector.inputs
      const material = field(key)
      await using own = await softwareBackend({
        keys: [
          {
            kid: 'K',
            usage: 'pin-encryption',
            algorithm: material.length === 32 ? 'tdea-2key' : 'tdea-3key',
            material,
          },
        ],
      })
      const bound = await own.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })
      const input = { pin: Pin.from(field(pin)), pan: Pan.from(field(pan)), format: 0, key: bound } as const
      expect(hex(await encipherPin(input))).toBe(vector.outputs?.['enciphered'])
      const block = bytes(field(vector.outputs?.['enciphered']))
      using back = await decipherPin({ block, pan: input.pan, format: 0, key: bound })
      expect(back.reveal()).toBe(pin)
    },
  )
})

describe('properties', () => {
  const digits = (min: number, max: number): fc.Arbitrary<string> =>
    fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: min, maxLength: max })

  test('encipher, translate, re-encipher, decipher: the PIN comes back, under either key', async () => {
    await fc.assert(
      fc.asyncProperty(digits(4, 12), digits(12, 19), async (clear, account) => {
        const pan = Pan.from(account)
        const block = await encipherPin({ pin: Pin.from(clear), pan, format: 0, key: zpk })
        const translated = await translatePinBlock({
          block,
          pan,
          fromFormat: 0,
          toFormat: 0,
          from: zpk,
          to: store,
        })
        const back = await reencipherPinBlock({ block: translated, from: store, to: zpk })
        expect(hex(back)).toBe(hex(block))
        using pin = await decipherPin({ block: translated, pan, format: 0, key: store })
        return pin.reveal() === clear
      }),
      { numRuns: 200 },
    )
  })

  test('a batch equals the PINs one by one', async () => {
    const pins = Array.from({ length: 100 }, (_, i) => ({
      pin: Pin.from(String(1000 + i)),
      pan: Pan.from(String(4000000000000000 + i * 7)),
    }))
    const all = await encipherPins({ pins, format: 0, key: zpk })
    for (const [i, { pin, pan }] of pins.entries()) {
      expect(hex(all.subarray(8 * i, 8 * i + 8))).toBe(
        hex(await encipherPin({ pin, pan, format: 0, key: zpk })),
      )
    }
  })
})

describe('translation policy', () => {
  const all = [0, 1, 2, 3, 4] as const

  test.each(all.flatMap(from => all.map(to => [from, to] as const)))('format %d to %d', async (from, to) => {
    if (!TRANSLATIONS[from].includes(to)) {
      await failure(() => requireTranslation(from, to), 'ERR_TRANSLATION_REFUSED')
    } else {
      expect(requireTranslation(from, to)).toEqual({ from: FORMATS[from], to: FORMATS[to] })
    }
  })

  test('nothing with a PAN becomes a block without one, and nothing becomes format 2', () => {
    for (const from of [0, 3, 4] as const) expect(TRANSLATIONS[from]).not.toContain(1)
    for (const from of all) expect(TRANSLATIONS[from]).not.toContain(2)
  })
})
