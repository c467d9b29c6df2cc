/** What the verbs leave in memory: every clear block that passes through them, after success and after failure. */

import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import {
  type Backend,
  buildFormat0,
  decipherPin,
  encipherPin,
  encipherPins,
  type Key,
  openBackend,
  Pan,
  Pin,
  parseFormat0,
  translatePinBlock,
  translatePinBlocks,
} from '../../src/index.js'
import { pinAt, pinMemory, pinOfDigits } from '../../src/primitives/pin.js'
import { softwareBackend } from '../../src/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { slowDriver } from '../support/slow-driver.js'

let backend: Backend
let key: Key
let pan: Pan
let block: Uint8Array
beforeAll(async () => {
  const material = '0123456789ABCDEFFEDCBA9876543210'
  backend = await softwareBackend({
    keys: [{ kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material }],
  })
  key = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  pan = Pan.from('4000001234567899')
  block = await encipherPin({ pin: Pin.from('1234'), pan, format: 0, key })
})
afterEach(() => vi.restoreAllMocks())
afterAll(() => backend.close())

const zeros = (length: number): number[] => Array.from({ length }, () => 0)

describe('the clear block that the backend gave is wiped', () => {
  let given: Uint8Array[]
  beforeEach(() => {
    given = []
    const operations = operationsOf(key)
    const decipher = operations.decipher.bind(operations)
    vi.spyOn(operations, 'decipher').mockImplementation(async (...args) => {
      const clear = await decipher(...args)
      expect(clear.some(byte => byte !== 0)).toBe(true)
      given.push(clear)
      return clear
    })
  })
  afterEach(() => expect(given.map(clear => [...clear])).toEqual([zeros(8)]))

  test('by decipherPin', async () => {
    using pin = await decipherPin({ block, pan, format: 0, key })
    expect(pin.reveal()).toBe('1234')
  })

  test('by decipherPin where it is no PIN block', async () => {
    await failure(
      () => decipherPin({ block: block.map(byte => ~byte), pan, format: 0, key }),
      'ERR_PIN_BLOCK',
    )
  })

  const translation = () => ({ block, pan, fromFormat: 0, toFormat: 0, from: key, to: key }) as const

  test('by translatePinBlock', async () => {
    expect(await translatePinBlock(translation())).toEqual(block)
  })

  test('by translatePinBlock where the other key fails', async () => {
    vi.spyOn(operationsOf(key), 'encipher').mockRejectedValue(new Error('token gone'))
    await expect(translatePinBlock(translation())).rejects.toThrow('token gone')
  })
})

/** All arrays of one length that were made during the call. */
function made(length: number, call: () => unknown): Uint8Array[] {
  const arrays: Uint8Array[] = []
  const Real = Uint8Array
  class Watched extends Real {
    /** What is kept beyond the call, as the places of PINs are, gives parts of itself like any other. */
    static get [Symbol.species](): typeof Uint8Array {
      return Real
    }
    constructor(memory: ArrayBuffer) {
      super(memory)
      if (this.length === length) arrays.push(this)
    }
  }
  vi.stubGlobal('Uint8Array', Watched)
  try {
    call()
  } finally {
    vi.unstubAllGlobals()
  }
  return arrays
}

describe('the clear blocks that were built are wiped', () => {
  /** Runs the call and returns what the backend was given, as it looks when the call has returned its promise. */
  async function handedOver(call: () => Promise<unknown>): Promise<number[]> {
    const encipher = vi.spyOn(operationsOf(key), 'encipher')
    const pending = call()
    const blocks = [...(encipher.mock.calls[0]?.[0] ?? [])]
    await pending
    return blocks
  }
  const pins = () => ['1234', '9876'].map(digits => ({ pin: Pin.from(digits), pan }))

  test('by encipherPin, before the token has answered', async () => {
    expect(await handedOver(() => encipherPin({ pin: Pin.from('1234'), pan, format: 0, key }))).toEqual(
      zeros(8),
    )
  })

  test('by encipherPin, in the one place where single blocks are built', async () => {
    const encipher = vi.spyOn(operationsOf(key), 'encipher')
    for (const digits of ['1234', '98765']) await encipherPin({ pin: Pin.from(digits), pan, format: 0, key })
    const [[first] = [], [second] = []] = encipher.mock.calls
    expect(first).toBe(second)
    expect(first && [...first]).toEqual(zeros(8))
  })

  test('by encipherPin, also where a getter among the options enciphers another PIN meanwhile', async () => {
    const first = await encipherPin({ pin: Pin.from('1234'), pan, format: 0, key })
    const second = await encipherPin({ pin: Pin.from('98765'), pan, format: 0, key })
    let inner: Promise<Uint8Array> | undefined
    const options = {
      get signal() {
        inner = encipherPin({ pin: Pin.from('98765'), pan, format: 0, key })
        return undefined
      },
    }
    expect(await encipherPin({ pin: Pin.from('1234'), pan, format: 0, key }, options as never)).toEqual(first)
    expect(await inner).toEqual(second)
  })

  test('by encipherPins', async () => {
    expect(await handedOver(() => encipherPins({ pins: pins(), format: 0, key }))).toEqual(zeros(16))
  })

  test('by encipherPins where a later entry is bad, also of a batch within a batch, which has memory of its own', async () => {
    const refused: Promise<unknown>[] = []
    const batch = (first: { pin: Pin; pan: Pan }) =>
      encipherPins({ pins: [first, ...pins(), {} as never], format: 0, key })
    const [one] = pins()
    if (one === undefined) throw new Error('there is one')
    const outer = {
      get pin() {
        refused.push(batch(one))
        return one.pin
      },
      pan,
    }
    const memory = made(32, () => refused.push(batch(outer)))
    for (const call of refused) await failure(() => call, 'ERR_ARGUMENT')
    expect(refused.length).toBe(2)
    expect(memory.map(bytes => [...bytes])).toEqual([zeros(32)])
  })

  test('by encipherPins, in the memory that each batch is built in', async () => {
    const given: Uint8Array[] = []
    const driver = { ...slowDriver().driver, blocksAtOnce: true }
    const backend = openBackend({ ...driver, encipherInto: (_ref, blocks) => void given.push(blocks) })
    const atOnce = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    await encipherPins({ pins: pins(), format: 0, key: atOnce })
    expect(given.map(bytes => [...bytes])).toEqual([zeros(16)])
  })
})

describe('what a verb makes on the way is wiped', () => {
  /** The names of those that are still in some memory that was made during the call. */
  async function leftBy(call: () => Promise<unknown>, secrets: Readonly<Record<string, string>>) {
    const { buffers } = await buffersMadeBy(call)
    expect(buffers.length).toBeGreaterThan(0)
    const memory = buffers.map(buffer => Buffer.from(buffer))
    const isLeft = ([, secret]: [string, string]) =>
      memory.some(bytes => bytes.includes(Buffer.from(secret, 'hex')))
    return Object.entries(secrets)
      .filter(isLeft)
      .map(([name]) => name)
  }
  const way = (fromFormat: 0 | 4, toFormat: 0 | 3 | 4, keys: { from: Key; to: Key }) =>
    ({ fromFormat, toFormat, ...keys }) as const

  test('the PAN field of format 4, the digits of a translation', async () => {
    await using own = await softwareBackend({
      keys: [{ kid: 'A', usage: 'pin-encryption', algorithm: 'aes-128', material: '0F'.repeat(16) }],
    })
    const aes = await own.bind({ kid: 'A', usage: 'pin-encryption', hostDecipher: true })
    const pin = Pin.from('90817')
    const secrets = { field: '4400000123456789', digits: '0900080107', block: '4590817AAAAAAAAA' }
    const made = await encipherPin({ pin, pan, format: 4, key: aes })
    expect(await leftBy(() => encipherPin({ pin, pan, format: 4, key: aes }), secrets)).toEqual([])
    const opened = async () => (await decipherPin({ block: made, pan, format: 4, key: aes })).dispose()
    expect(await leftBy(opened, secrets)).toEqual([])
    const given = { block: made, pan, ...way(4, 4, { from: aes, to: aes }) }
    expect(await leftBy(() => translatePinBlock(given), secrets)).toEqual([])
  })

  test('the PAN fields of a batch that ends at a bad entry', async () => {
    await using own = await softwareBackend({
      keys: [{ kid: 'A', usage: 'pin-encryption', algorithm: 'aes-128', material: '0F'.repeat(16) }],
    })
    const aes = await own.bind({ kid: 'A', usage: 'pin-encryption' })
    const pins = [{ pin: Pin.from('90817'), pan }, { pan } as never]
    const refused = () => failure(() => encipherPins({ pins, format: 4, key: aes }), 'ERR_ARGUMENT')
    expect(await leftBy(refused, { field: '4400000123456789', block: '4590817AAAAAAAAA' })).toEqual([])
  })

  test('the blocks of a batch whose translation ends half-way', async () => {
    const blocks = [
      { block, pan },
      { block: block.slice(), pan },
    ]
    let turn = 0
    const fill = vi.spyOn(crypto, 'randomFillSync').mockImplementation(<T>(to: T): T => {
      if (++turn > 1) throw new Error('no more')
      return (to as Uint8Array).fill(0) as T
    })
    syncBuiltinESMExports()
    try {
      const call = () => translatePinBlocks({ blocks, ...way(0, 3, { from: key, to: key }) })
      const refused = () => expect(call()).rejects.toThrow('no more')
      expect(await leftBy(refused, { made: '341234AB', opened: '041234FE' })).toEqual([])
      expect(turn).toBe(2)
    } finally {
      fill.mockRestore()
      syncBuiltinESMExports()
    }
  })
})

describe('the digits that were read are wiped', () => {
  /** Two PINs with something between them in one memory: every 64th begins another. */
  const around = (between: () => void): readonly [Pin, Pin] => {
    const before = Pin.from('9999')
    between()
    const after = Pin.from('888888888888')
    return pinMemory(before) === pinMemory(after) ? [before, after] : around(between)
  }

  test('by Pin.from where a later one is none', () => {
    const [before, after] = around(() => expect(() => Pin.from('1234x')).toThrow())
    expect(pinAt(after) - pinAt(before)).toBe(2 * 13)
    expect([...pinMemory(before).subarray(pinAt(before) + 13, pinAt(after))]).toEqual(zeros(13))
  })

  test.each([[[1, 2, 3]], [[1, 2, 3, 10]], [[1, 2, 3, 4]]])('by a Pin of %j, which it takes over', values => {
    const digits = Uint8Array.from(values)
    try {
      pinOfDigits(digits).dispose()
    } catch {
      expect(values).not.toEqual([1, 2, 3, 4])
    }
    expect([...digits]).toEqual(zeros(values.length))
  })

  test('by dispose, which leaves the PINs next to it alone', () => {
    let middle: Pin | undefined
    const [before, after] = around(() => {
      middle = Pin.from('123456789012')
    })
    middle?.dispose()
    middle?.dispose()
    expect([...pinMemory(before).subarray(pinAt(before) + 13, pinAt(after))]).toEqual(zeros(13))
    expect([before.reveal(), after.reveal()]).toEqual(['9999', '888888888888'])
    expect(before.equals(after)).toBe(false)
  })

  test('and of no place is there a second owner, in whatever order PINs come and go', () => {
    const pins = Array.from({ length: 200 }, (_, i) => Pin.from(String(1000 + i)))
    for (const pin of pins.filter((_, i) => i % 3 === 0)) pin.dispose()
    const more = Array.from({ length: 200 }, (_, i) => Pin.from(String(2000 + i)))
    const live = [...pins.filter((_, i) => i % 3 !== 0), ...more]
    expect(live.map(pin => pin.reveal())).toEqual([
      ...Array.from({ length: 200 }, (_, i) => String(1000 + i)).filter((_, i) => i % 3 !== 0),
      ...Array.from({ length: 200 }, (_, i) => String(2000 + i)),
    ])
    const memories = new Set(live.map(pinMemory))
    expect(memories.size).toBeGreaterThan(5)
    expect(memories.size).toBeLessThan(9)
    expect(new Set(live.map(pin => `${[...memories].indexOf(pinMemory(pin))} ${pinAt(pin)}`)).size).toBe(
      live.length,
    )
  })

  test('by parseFormat0, in the place where all blocks are looked at, right or wrong', () => {
    const parts = vi.spyOn(Uint8Array.prototype, 'subarray')
    parseFormat0({ block: buildFormat0({ pin: Pin.from('1234'), pan }), pan }).dispose()
    const places = (parts.mock.contexts as Uint8Array[]).filter(({ length }) => length === 14)
    expect(places.map(place => [...place])).toEqual([zeros(14)])
    expect(() => parseFormat0({ block: new Uint8Array(8).fill(4), pan })).toThrow()
    expect(places.map(place => [...place])).toEqual([zeros(14)])
  })
})
