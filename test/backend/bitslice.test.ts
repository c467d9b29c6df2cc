/** The bitsliced engine against OpenSSL, the published vectors, and its own promise to leave nothing behind. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { BitsliceMemory, BLOCKS, bitsliceMemory } from '../../src/backend/software/bitslice-memory.js'
import { BitsliceTdea, bitsliceEngine, WORTH_A_GROUP } from '../../src/backend/software/engine-bitslice.js'
import { failure } from '../support/errors.js'
import { bytes, field, hex, vectorsOf } from '../support/vectors.js'

/** OpenSSL refuses no key: K1‖K1‖K1 is DES. */
function openssl(key: Uint8Array, mode: 'ecb' | 'cbc', iv: Uint8Array | null, data: Uint8Array): string {
  return hex(
    createCipheriv(key.length === 16 ? `des-ede-${mode}` : `des-ede3-${mode}`, key, iv)
      .setAutoPadding(false)
      .update(data),
  )
}

const decipher = (key: Uint8Array, data: Uint8Array): string =>
  hex(createDecipheriv('des-ede3-ecb', key, null).setAutoPadding(false).update(data))

const triple = (key: Uint8Array): Uint8Array => Uint8Array.from([...key, ...key, ...key])

describe('published vectors', () => {
  test.each(vectorsOf('tdea', 'tdea.encipher'))('$id', ({ inputs, outputs }) => {
    const cipher = bitsliceEngine.open(bytes(field(inputs['key'])))
    const [plain, enciphered] = [field(inputs['plaintext']), field(outputs?.['ciphertext'])]
    if (inputs['mode'] === 'CBC') {
      expect(hex(cipher.encipherCbc(bytes(field(inputs['iv'])), bytes(plain)))).toBe(enciphered)
    } else {
      // Alone, and among so many that they run side by side.
      expect(hex(cipher.encipher(bytes(plain)))).toBe(enciphered)
      expect(hex(cipher.decipher(bytes(enciphered)))).toBe(plain)
      expect(hex(cipher.encipher(bytes(plain.repeat(WORTH_A_GROUP))))).toBe(enciphered.repeat(WORTH_A_GROUP))
      expect(hex(cipher.decipher(bytes(enciphered.repeat(WORTH_A_GROUP))))).toBe(plain.repeat(WORTH_A_GROUP))
    }
    cipher.close()
  })

  test('FIPS 46-3 variable key and variable text: each of 64 plaintext bits and 56 key bits, alone', () => {
    for (let bit = 0; bit < 64; bit++) {
      const one = new Uint8Array(8)
      one[bit >> 3] = 0x80 >> (bit & 7)
      const many = new Uint8Array(8 * WORTH_A_GROUP)
      for (let i = 0; i < WORTH_A_GROUP; i++) many.set(one, 8 * i)
      for (const [key, data] of [
        [triple(one), new Uint8Array(8 * WORTH_A_GROUP)],
        [triple(bytes('0101010101010101')), many],
      ] as const) {
        const cipher = bitsliceEngine.open(key)
        expect(hex(cipher.encipher(data))).toBe(openssl(key, 'ecb', null, data))
        expect(hex(cipher.encipher(data.subarray(0, 8)))).toBe(openssl(key, 'ecb', null, data.subarray(0, 8)))
        cipher.close()
      }
    }
  })
})

describe('random blocks against OpenSSL', () => {
  const lengths = [1, 2, WORTH_A_GROUP - 1, WORTH_A_GROUP, 127, 128, 129, 143, 144, 255, 256, 1000, 8192]

  test.each(lengths)('%i blocks, both ways', blocks => {
    for (const keyBytes of [16, 24]) {
      const key = randomBytes(keyBytes)
      const data = randomBytes(8 * blocks)
      const cipher = bitsliceEngine.open(key)
      const enciphered = cipher.encipher(data)
      expect(hex(enciphered)).toBe(openssl(key, 'ecb', null, data))
      expect(hex(cipher.decipher(enciphered))).toBe(hex(data))
      expect(hex(cipher.decipher(data))).toBe(
        decipher(keyBytes === 24 ? key : Buffer.concat([key, key.subarray(0, 8)]), data),
      )
      cipher.close()
    }
  })

  test('more than its memory holds at once', () => {
    const key = randomBytes(24)
    const data = randomBytes(8 * 20_000)
    const iv = randomBytes(8)
    const cipher = bitsliceEngine.open(key)
    expect(hex(cipher.encipher(data))).toBe(openssl(key, 'ecb', null, data))
    expect(hex(cipher.encipherCbc(iv, data))).toBe(openssl(key, 'cbc', iv, data))
    for (const part of [data, data.subarray(0, 8), data.subarray(0, 800)]) {
      expect(hex(cipher.cbcLast?.(iv, part) ?? data)).toBe(openssl(key, 'cbc', iv, part).slice(-16))
    }
    cipher.close()
  })

  test.each([1, 5, 20, 200, 9000])('re-enciphering %i blocks is deciphering and enciphering', blocks => {
    const [from, to] = [randomBytes(16), randomBytes(24)]
    const data = randomBytes(8 * blocks)
    const [a, b] = [new BitsliceTdea(bitsliceMemory(), from), new BitsliceTdea(bitsliceMemory(), to)]
    const enciphered = bytes(openssl(from, 'ecb', null, data))
    const moved = a.reencipher(b, enciphered)
    expect(moved && hex(moved)).toBe(openssl(to, 'ecb', null, data))
    a.close()
    b.close()
  })

  test('re-enciphering under a key of another memory or engine is left to the caller', () => {
    const a = new BitsliceTdea(bitsliceMemory(), randomBytes(16))
    const b = new BitsliceTdea(new BitsliceMemory(), randomBytes(16))
    expect(a.reencipher(b, new Uint8Array(8))).toBeUndefined()
    a.close()
  })

  test('more keys than there are places for masks, in turn, and one after the other in the same slot', () => {
    const data = randomBytes(8 * 128)
    const keys = Array.from({ length: 30 }, () => randomBytes(24))
    const open = keys.map(key => bitsliceEngine.open(key))
    for (const round of [0, 1]) {
      open.forEach((cipher, i) => {
        const key = keys[(i + round * 7) % 30] ?? new Uint8Array()
        expect(hex((open[(i + round * 7) % 30] ?? cipher).encipher(data))).toBe(
          openssl(key, 'ecb', null, data),
        )
      })
    }
    for (const cipher of open) cipher.close()
    const key = randomBytes(24)
    const next = bitsliceEngine.open(key)
    expect(hex(next.encipher(data))).toBe(openssl(key, 'ecb', null, data))
    next.close()
  })

  test('thousands of keys: the memory grows under those that are open, and no more under those that come after them', () => {
    const memory = new BitsliceMemory()
    const open = (key: Uint8Array) => new BitsliceTdea(memory, key)
    const before = memory.bytes.length
    const first = randomBytes(16)
    const cipher = open(first)
    const others = Array.from({ length: 2000 }, () => open(randomBytes(16)))
    const grown = memory.bytes.length
    expect(grown).toBeGreaterThan(before)
    const data = randomBytes(8 * 40)
    expect(hex(cipher.encipher(data))).toBe(openssl(first, 'ecb', null, data))
    for (const other of [cipher, ...others]) other.close()
    // A key that is derived for one message has a place for as long: a service makes millions of them.
    for (let i = 0; i < 4000; i++) open(first).close()
    expect(memory.bytes.length).toBe(grown)
  })
})

describe('many CBC chains side by side', () => {
  const macs = (key: Uint8Array, iv: Uint8Array, messages: readonly Uint8Array[]): string =>
    messages.map(message => openssl(key, 'cbc', iv, Buffer.concat([message])).slice(-16)).join('')

  test.each([1, 3, 16, 127, 128, 129, 300])('%i messages of different lengths', count => {
    for (const key of [randomBytes(24), randomBytes(16), triple(randomBytes(8))]) {
      const iv = randomBytes(8)
      const messages = Array.from({ length: count }, (_, i) => randomBytes(8 * (1 + ((i * 7) % 23))))
      const cipher = new BitsliceTdea(bitsliceMemory(), key)
      expect(hex(cipher.cbcMacs(iv, messages))).toBe(macs(key, iv, messages))
      cipher.close()
    }
  })

  test('an empty message has the first chaining value; a long one goes through in parts', () => {
    const [key, iv] = [randomBytes(24), randomBytes(8)]
    const long = randomBytes(8 * 150)
    const cipher = new BitsliceTdea(bitsliceMemory(), key)
    expect(hex(cipher.cbcMacs(iv, [new Uint8Array(), long]))).toBe(hex(iv) + macs(key, iv, [long]))
    expect(hex(cipher.cbcMacs(iv, []))).toBe('')
    cipher.close()
  })
})

describe('a retail MAC in one', () => {
  test.each([1, 2, 16, 8192, 8193, 16_400])('of %i blocks', blocks => {
    const [key, iv, data] = [randomBytes(16), randomBytes(8), randomBytes(8 * blocks)]
    const chain = new BitsliceTdea(bitsliceMemory(), triple(key.subarray(0, 8)))
    const last = new BitsliceTdea(bitsliceMemory(), key)
    const state =
      blocks === 1
        ? iv
        : bytes(openssl(triple(key.subarray(0, 8)), 'cbc', iv, data.subarray(0, -8)).slice(-16))
    const expected = openssl(key, 'cbc', state, data.subarray(-8))
    expect(hex(last.retailLast(chain, iv, data) ?? data)).toBe(expected)
    const elsewhere = new BitsliceTdea(new BitsliceMemory(), triple(key.subarray(0, 8)))
    expect(last.retailLast(elsewhere, iv, data)).toBeUndefined()
    expect(last.retailLast({}, iv, data)).toBeUndefined()
    chain.close()
    last.close()
  })
})

describe('what is refused', () => {
  test.each([0, 7, 9])('%i bytes', async length => {
    const cipher = new BitsliceTdea(bitsliceMemory(), randomBytes(16))
    const data = new Uint8Array(length)
    await failure(() => cipher.encipher(data), 'ERR_BACKEND_FAILED')
    await failure(() => cipher.decipher(data), 'ERR_BACKEND_FAILED')
    await failure(() => cipher.encipherCbc(new Uint8Array(8), data), 'ERR_BACKEND_FAILED')
    await failure(() => cipher.cbcLast(new Uint8Array(8), data), 'ERR_BACKEND_FAILED')
    if (length > 0) await failure(() => cipher.cbcMacs(new Uint8Array(8), [data]), 'ERR_BACKEND_FAILED')
    cipher.close()
  })

  test('a closed key: its slot may be another key by now', async () => {
    const [closed, open] = [randomBytes(16), randomBytes(16)].map(
      key => new BitsliceTdea(bitsliceMemory(), key),
    )
    if (closed === undefined || open === undefined) throw new Error('there are two')
    closed.close()
    closed.close()
    const data = new Uint8Array(8)
    await failure(() => closed.encipher(data), 'ERR_BACKEND_CLOSED')
    await failure(() => closed.decipher(data), 'ERR_BACKEND_CLOSED')
    await failure(() => closed.encipherCbc(data, data), 'ERR_BACKEND_CLOSED')
    await failure(() => closed.cbcLast(data, data), 'ERR_BACKEND_CLOSED')
    await failure(() => closed.cbcMacs(data, [data]), 'ERR_BACKEND_CLOSED')
    await failure(() => open.reencipher(closed, data), 'ERR_BACKEND_CLOSED')
    open.close()
  })
})

describe('nothing is left behind', () => {
  /** All of the module's memory that is not its constant tables. */
  const residue = (memory: BitsliceMemory): number =>
    memory.bytes.subarray(4096).filter(byte => byte !== 0).length

  test('after a call: no block, no chaining value; after close: no key, no masks', () => {
    const memory = new BitsliceMemory()
    expect(residue(memory)).toBe(0)
    const cipher = new BitsliceTdea(memory, randomBytes(24))
    const other = new BitsliceTdea(memory, randomBytes(24))
    const iv = randomBytes(8)
    for (const blocks of [1, 20, 8192, 9001]) {
      cipher.encipher(randomBytes(8 * blocks))
      cipher.decipher(randomBytes(8 * blocks))
      cipher.reencipher(other, randomBytes(8 * blocks))
      cipher.encipherCbc(iv, randomBytes(8 * blocks))
      cipher.cbcLast(iv, randomBytes(8 * blocks))
    }
    cipher.cbcMacs(
      iv,
      Array.from({ length: 200 }, (_, i) => randomBytes(8 * (1 + (i % 70)))),
    )
    // What works on blocks is empty; the keys and their masks are still there.
    expect(memory.bytes.subarray(BLOCKS, BLOCKS + 65_536).every(byte => byte === 0)).toBe(true)
    expect(memory.bytes.subarray(4096, 4096 + 64 + 1024).every(byte => byte === 0)).toBe(true)
    expect(residue(memory)).toBeGreaterThan(0)
    cipher.close()
    expect(residue(memory)).toBeGreaterThan(0)
    other.close()
    expect(residue(memory)).toBe(0)
  })

  test('after a call that fails midway', () => {
    const memory = new BitsliceMemory()
    const cipher = new BitsliceTdea(memory, randomBytes(24))
    const broken = (): never => {
      throw new Error('as if the module trapped')
    }
    vi.spyOn(memory, 'masksOf').mockImplementation(broken)
    expect(() => cipher.encipher(randomBytes(8 * 200))).toThrow()
    expect(() => cipher.cbcMacs(randomBytes(8), [randomBytes(64), randomBytes(64)])).toThrow()
    cipher.close()
    expect(residue(memory)).toBe(0)
  })
})

describe('a runtime without it', () => {
  afterEach(() => vi.unstubAllGlobals())

  test.each([
    ['no WebAssembly', undefined],
    ['WebAssembly without SIMD', { validate: () => false }],
  ])('%s: the memory is not made', (_name, api) => {
    vi.stubGlobal('WebAssembly', api)
    expect(() => new BitsliceMemory()).toThrow('no WebAssembly with SIMD')
  })
})
