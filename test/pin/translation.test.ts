/** The verbs over all formats: known answers of format 4, translations and batches, re-PAN, and what they refuse. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Backend,
  decipherPin,
  encipherPin,
  encipherPins,
  type Key,
  Pan,
  Pin,
  type PinBlockFormat,
  reencipherPinBlock,
  rePanPinBlock,
  TRANSLATIONS,
  translatePinBlock,
  translatePinBlocks,
  verifyPinBlock,
} from '../../src/index.js'
import { FORMATS } from '../../src/pin/formats/formats.js'
import { requireFormatKey, usualFormat } from '../../src/pin/policy.js'
import { translateChecked } from '../../src/pin/translate.js'
import { softwareBackend } from '../../src/software.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { openBackendOn, openStoreOn } from '../pkcs11/support.js'
import { failure } from '../support/errors.js'
import { bytes, field, hex, vectorsOf } from '../support/vectors.js'

const PAN = Pan.from('4000001234567899')
const NEW_PAN = Pan.from('5111119876543210')
let backend: Backend
let tdea: Key
let tdeaTo: Key
let aes: Key
let aesTo: Key
let closed: Key

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
        kid: 'TO',
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        material: '89E88CF7931444F334BD7547FC3F380C',
      },
      {
        kid: 'AES',
        usage: 'pin-encryption',
        algorithm: 'aes-128',
        material: 'AF8CB133A78F8DC2D1359F18527593FB',
      },
      {
        kid: 'AES-TO',
        usage: 'pin-encryption',
        algorithm: 'aes-256',
        material: '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8',
      },
    ],
  })
  const bind = (kid: string) => backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
  tdea = await bind('ZPK')
  tdeaTo = await bind('TO')
  aes = await bind('AES')
  aesTo = await bind('AES-TO')
  closed = await backend.bind({ kid: 'AES', usage: 'pin-encryption' })
})
afterAll(() => backend.close())

const keyOf = (format: PinBlockFormat, which: 'from' | 'to' = 'from'): Key =>
  format === 4 ? (which === 'from' ? aes : aesTo) : which === 'from' ? tdea : tdeaTo
const WAYS = ([0, 1, 3, 4] as const).flatMap(from => TRANSLATIONS[from].map(to => [from, to] as const))

test('the inner door gives what the outer one gives, under the card’s own PAN, and asks for no token', async () => {
  const pin = Pin.from('48215')
  const block = await encipherPin({ pin, pan: PAN, key: tdea, format: 0 })
  pin.dispose()
  const moved = await translateChecked(
    { block, pan: PAN, fromFormat: 0, toFormat: 4, from: tdea, to: aes },
    undefined,
  )
  const read = await decipherPin({ block: moved, pan: PAN, key: aes, format: 4 })
  expect(read.equals(Pin.from('48215'))).toBe(true)
  read.dispose()
})

describe('format 4 under AES', () => {
  const algorithms = { 32: 'aes-128', 48: 'aes-192', 64: 'aes-256' } as const
  const keyFor = async (material: string) => {
    const algorithm = Object.entries(algorithms).find(([length]) => Number(length) === material.length)?.[1]
    if (algorithm === undefined) throw new Error('no AES key')
    const own = await softwareBackend({ keys: [{ kid: 'K', usage: 'pin-encryption', algorithm, material }] })
    return { own, key: await own.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true }) }
  }
  // ISO/IEC 7812-1 has no PAN of one digit; the field is tested below the Pan.
  const answers = [
    ...vectorsOf('pin-block-formats', 'pin-block-4.encipher', 'accept'),
    ...vectorsOf('pin-block-formats', 'pin-block-4.decipher', 'accept'),
  ].filter(({ inputs }) => field(inputs['pan']).length >= 10)

  test.each(answers)('$id deciphers', async ({ inputs, outputs }) => {
    const { own, key } = await keyFor(field(inputs['key']))
    const block = bytes(field(inputs['enciphered'] ?? outputs?.['enciphered']))
    using pin = await decipherPin({ block, pan: Pan.from(field(inputs['pan'])), format: 4, key })
    expect(pin.reveal()).toBe(inputs['pin'] ?? outputs?.['pin'])
    await own.close()
  })

  test.each(vectorsOf('pin-block-formats', 'pin-block-4.decipher', 'reject'))(
    '$id is refused',
    async vector => {
      const { key: material, enciphered, pan } = vector.inputs
      if (![32, 48, 64].includes(field(material).length)) return
      const { own, key } = await keyFor(field(material))
      const call = () =>
        decipherPin({ block: bytes(field(enciphered)), pan: Pan.from(field(pan)), format: 4, key })
      await failure(call, 'ERR_PIN_BLOCK', enciphered === '' ? [] : [field(enciphered)])
      await own.close()
    },
  )

  test('every other PAN is refused, whichever digit differs, also the check digit and one digit more', async () => {
    const pan = '5432101234567891'
    const block = await encipherPin({ pin: Pin.from('1234'), pan: Pan.from(pan), format: 4, key: aes })
    expect(block).toHaveLength(16)
    const others = [...pan].flatMap((digit, i) =>
      [...'0123456789']
        .filter(other => other !== digit)
        .map(other => pan.slice(0, i) + other + pan.slice(i + 1)),
    )
    for (const other of [...others, `${pan}0`, `0${pan}`, pan.slice(1), pan.slice(0, -1)]) {
      const call = () => decipherPin({ block, pan: Pan.from(other), format: 4, key: aes })
      await failure(call, 'ERR_PIN_BLOCK', [other])
    }
  })

  test('a batch is deciphered block by block', async () => {
    const pins = Array.from({ length: 50 }, (_, i) => ({ pin: Pin.from(String(1000 + i)), pan: PAN }))
    const blocks = await encipherPins({ pins, format: 4, key: aes })
    expect(blocks).toHaveLength(800)
    for (const [i, { pin }] of pins.entries()) {
      const block = blocks.slice(16 * i, 16 * i + 16)
      expect((await decipherPin({ block, pan: PAN, format: 4, key: aes })).equals(pin)).toBe(true)
    }
  })
})

describe('translation', () => {
  test.each(WAYS)(
    'format %d to %d keeps PIN and PAN, one by one and in a batch',
    async (fromFormat, toFormat) => {
      const way = { fromFormat, toFormat, from: keyOf(fromFormat), to: keyOf(toFormat, 'to') }
      const entries = await Promise.all(
        ['1234', '98765', '123456789012'].map(async (digits, i) => {
          const pan = Pan.from(`400000123456789${i}`)
          return {
            digits,
            pan,
            block: await encipherPin({ pin: Pin.from(digits), pan, format: fromFormat, key: way.from }),
          }
        }),
      )
      const opened = async (block: Uint8Array, pan: Pan) =>
        (await decipherPin({ block, pan, format: toFormat, key: way.to })).reveal()
      for (const { block, pan, digits } of entries)
        expect(await opened(await translatePinBlock({ block, pan, ...way }), pan)).toBe(digits)
      const damaged = new Uint8Array(FORMATS[fromFormat].bytes)
      const blocks = entries.flatMap(({ block, pan }) => [
        { block, pan },
        { block: damaged, pan },
        { block: new Uint8Array(3), pan },
      ])
      const results = await translatePinBlocks({ blocks, ...way })
      expect(results.map(({ ok }) => ok)).toEqual([
        true,
        false,
        false,
        true,
        false,
        false,
        true,
        false,
        false,
      ])
      for (const [i, { pan, digits }] of entries.entries()) {
        const result = results[3 * i]
        if (result?.ok !== true) throw new Error('a good block failed')
        expect(result.block.buffer.byteLength).toBe(FORMATS[toFormat].bytes)
        expect(await opened(result.block, pan)).toBe(digits)
      }
      const errors = results.flatMap(result =>
        result.ok ? [] : [`${result.error.code} ${result.error.message}`],
      )
      expect(new Set(errors)).toEqual(new Set(['ERR_PIN_BLOCK the PIN block is not valid']))
    },
  )

  test('a wrong PAN is ERR_PIN_BLOCK for what is bound to one', async () => {
    for (const fromFormat of [0, 3, 4] as const) {
      const from = keyOf(fromFormat)
      const block = await encipherPin({ pin: Pin.from('1234'), pan: PAN, format: fromFormat, key: from })
      const call = () => translatePinBlock({ block, pan: NEW_PAN, fromFormat, toFormat: 0, from, to: tdeaTo })
      await failure(call, 'ERR_PIN_BLOCK', [hex(block)])
    }
  })

  test('digits that are none are handed on unread, in another format too: no oracle', async () => {
    // XOR of two PANs shifts the PIN nibbles of format 0 out of the decimals, the filler stays.
    const shown = Pan.from('4999991234567899')
    const pan = Pan.from('4000001234567899')
    const block = await encipherPin({ pin: Pin.from('123456'), pan: shown, format: 0, key: tdea })
    const moved = await translatePinBlock({
      block,
      pan: shown,
      fromFormat: 0,
      toFormat: 3,
      from: tdea,
      to: tdeaTo,
    })
    expect(moved).toHaveLength(8)
    const other = Pan.from('4059991234567899')
    const bad = await encipherPin({ pin: Pin.from('123496'), pan, format: 0, key: tdea })
    const result = await translatePinBlocks({
      blocks: [{ block: bad, pan: other }],
      fromFormat: 0,
      toFormat: 0,
      from: tdea,
      to: tdeaTo,
    })
    expect(result).toHaveLength(1)
  })

  test.each([
    [0, 1],
    [3, 1],
    [4, 1],
    [0, 2],
    [1, 1],
    [2, 0],
  ] as const)('format %d to %d is refused, before anything is deciphered', async (fromFormat, toFormat) => {
    const call = () =>
      translatePinBlock({ block: new Uint8Array(8), pan: PAN, fromFormat, toFormat, from: tdea, to: tdeaTo })
    await failure(call, 'ERR_TRANSLATION_REFUSED')
  })

  test('a format that the cipher of a key does not carry is ERR_KEY_ALGORITHM', async () => {
    const block = new Uint8Array(8)
    const way = { block, pan: PAN, fromFormat: 0, toFormat: 4 } as const
    await failure(() => translatePinBlock({ ...way, from: aes, to: aesTo }), 'ERR_KEY_ALGORITHM')
    await failure(() => translatePinBlock({ ...way, from: tdea, to: tdeaTo }), 'ERR_KEY_ALGORITHM')
    await failure(
      () => encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 4, key: tdea }),
      'ERR_KEY_ALGORITHM',
    )
    await failure(
      () => encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 3, key: aes }),
      'ERR_KEY_ALGORITHM',
    )
    const two = await failure(() => requireFormatKey(tdea, 'encipher', FORMATS[2]), 'ERR_KEY_ALGORITHM')
    expect(two.message).toBe(
      'format 2 is for a PIN on its way into a chip: no key of this library enciphers it',
    )
    const again = await failure(
      () => reencipherPinBlock({ block: new Uint8Array(16), from: aes, to: aesTo }),
      'ERR_KEY_ALGORITHM',
    )
    expect(again.message).toContain('the format takes tdea-2key')
    expect([usualFormat(tdea), usualFormat(aes)]).toEqual([0, 4])
  })

  test('a batch: none, too many, a list that is none, an entry that is none, a key that must not open blocks', async () => {
    const way = { fromFormat: 4, toFormat: 4, from: aes, to: aesTo } as const
    await failure(() => translatePinBlocks({ blocks: [], ...way }), 'ERR_LENGTH')
    const many = Array.from({ length: 4097 }, () => ({ block: new Uint8Array(16), pan: PAN }))
    await failure(() => translatePinBlocks({ blocks: many, ...way }), 'ERR_LENGTH')
    const most = await translatePinBlocks({ blocks: many.slice(1), ...way })
    expect(most.filter(({ ok }) => !ok)).toHaveLength(4096)
    await failure(() => translatePinBlocks({ blocks: 'x' as never, ...way }), 'ERR_ARGUMENT')
    await failure(
      () => translatePinBlocks({ blocks: [{ block: 'x' as never, pan: PAN }], ...way }),
      'ERR_ARGUMENT',
    )
    await failure(
      () => translatePinBlocks({ blocks: [{ block: new Uint8Array(16), pan: 4 as never }], ...way }),
      'ERR_ARGUMENT',
    )
    await failure(
      () => translatePinBlocks({ blocks: many.slice(0, 1), ...way, from: closed }),
      'ERR_HOST_DECIPHER',
    )
    expect(
      await translatePinBlocks({ blocks: [{ block: new Uint8Array(1), pan: PAN }], ...way }),
    ).toMatchObject([{ ok: false }])
  })

  test('requireInToken refuses what only host memory can do', async () => {
    const block = await encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: tdea })
    const way = { block, pan: PAN, from: tdea, to: tdeaTo, requireInToken: true }
    await failure(() => translatePinBlock({ ...way, fromFormat: 0, toFormat: 0 }), 'ERR_HOST_DECIPHER')
    await failure(() => translatePinBlock({ ...way, fromFormat: 0, toFormat: 3 }), 'ERR_HOST_DECIPHER')
  })
})

describe('rePanPinBlock', () => {
  test.each([
    [0, 0],
    [3, 4],
    [4, 4],
    [4, 0],
  ] as const)('format %d to %d: the PIN stays, the PAN is another', async (fromFormat, toFormat) => {
    const way = { fromFormat, toFormat, from: keyOf(fromFormat), to: keyOf(toFormat, 'to') }
    const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: fromFormat, key: way.from })
    const moved = await rePanPinBlock({ block, pan: PAN, newPan: NEW_PAN, ...way })
    const pin = await decipherPin({ block: moved, pan: NEW_PAN, format: toFormat, key: way.to })
    expect(pin.reveal()).toBe('2846')
    await failure(
      () => decipherPin({ block: moved, pan: PAN, format: toFormat, key: way.to }),
      'ERR_PIN_BLOCK',
    )
    await failure(() => rePanPinBlock({ block, pan: NEW_PAN, newPan: PAN, ...way }), 'ERR_PIN_BLOCK')
  })

  test('refuses format 1, which is bound to no PAN, and what is not a PAN', async () => {
    const way = { block: new Uint8Array(8), pan: PAN, toFormat: 0, from: tdea, to: tdeaTo } as const
    await failure(() => rePanPinBlock({ ...way, newPan: NEW_PAN, fromFormat: 1 }), 'ERR_TRANSLATION_REFUSED')
    await failure(() => rePanPinBlock({ ...way, newPan: '5' as never, fromFormat: 0 }), 'ERR_ARGUMENT')
  })
})

describe('requireInToken, on a token that binds what is unwrapped to a template', () => {
  async function token() {
    const fake = new FakeToken()
    const options = { translateInToken: true }
    await using store = await openStoreOn(fake, options)
    for (const kid of ['ZPK', 'STORE'])
      await store.generateKey({
        kid,
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        translation: true,
      })
    const inside = await openBackendOn(fake, options)
    const bind = (kid: string) => inside.bind({ kid, usage: 'pin-encryption' })
    return { fake, inside, zpk: await bind('ZPK'), store: await bind('STORE') }
  }

  test('format 0 blocks are moved, alone and in a batch, and verified; nothing is deciphered', async () => {
    const { fake, inside, zpk, store } = await token()
    expect(inside.capabilities().reencipher).toBe('inside')
    const typed = (pin: string) => encipherPin({ pin: Pin.from(pin), pan: PAN, format: 0, key: zpk })
    const way = { fromFormat: 0, toFormat: 0, from: zpk, to: store, requireInToken: true } as const
    const blocks = [await typed('2846'), await typed('98765')]
    fake.reset()
    const [block = expect.unreachable()] = blocks
    const stored = await translatePinBlock({ ...way, block, pan: PAN })
    const many = await translatePinBlocks({ ...way, blocks: blocks.map(one => ({ block: one, pan: PAN })) })
    expect(many[0]).toEqual({ ok: true, block: stored })
    const against = { kind: 'block', block: stored, format: 0, key: store } as const
    const given = { pan: PAN, format: 0, from: zpk, against, tries: 'counted-elsewhere' } as const
    const verdicts = []
    for (const one of blocks)
      verdicts.push((await verifyPinBlock({ ...given, block: one, requireInToken: true })).verified)
    expect(verdicts).toEqual([true, false])
    expect(fake.calls).toEqual(expect.arrayContaining(['C_UnwrapKey', 'C_WrapKey']))
    expect(fake.calls).not.toContain('C_Decrypt')
    await inside.close()
  })

  test('what needs a clear block is refused: another format, digits, a PVV', async () => {
    const { inside, zpk, store } = await token()
    const block = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 0, key: zpk })
    const way = { block, pan: PAN, fromFormat: 0, from: zpk, to: store, requireInToken: true } as const
    await failure(() => translatePinBlock({ ...way, toFormat: 3 }), 'ERR_HOST_DECIPHER')
    await failure(() => translatePinBlock({ ...way, fromFormat: 3, toFormat: 0 }), 'ERR_HOST_DECIPHER')
    await failure(() => decipherPin({ block, pan: PAN, format: 0, key: zpk }), 'ERR_HOST_DECIPHER')
    const against = { kind: 'block', block, format: 3, key: store } as const
    const given = { block, pan: PAN, format: 0, from: zpk, against, tries: 'counted-elsewhere' } as const
    await failure(() => verifyPinBlock({ ...given, requireInToken: true }), 'ERR_HOST_DECIPHER')
    await failure(() => verifyPinBlock(given), 'ERR_HOST_DECIPHER')
    await inside.close()
  })
})
