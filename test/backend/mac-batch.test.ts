/** MACs in flight together give what each gives alone, whatever else is asked for in the same turn. */
import { randomBytes } from 'node:crypto'
import { describe, expect, test, vi } from 'vitest'
import { BitsliceTdea } from '../../src/backend/software/engine-bitslice.js'
import { generateMac, type Key, type MacAlgorithm } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'
import { hex } from '../support/vectors.js'

const material = randomBytes(16)
const other = randomBytes(24)
const KEYS = [
  { kid: 'R', usage: 'retail-mac', algorithm: 'tdea-2key', material },
  { kid: 'R3', usage: 'retail-mac', algorithm: 'tdea-3key', material: other },
  { kid: 'C', usage: 'cbc-mac', algorithm: 'tdea-2key', material: randomBytes(16) },
] as const
const ALGORITHM: Readonly<Record<string, MacAlgorithm>> = {
  R: 'iso9797-1-alg3',
  R3: 'iso9797-1-alg3',
  C: 'iso9797-1-alg1',
}

const backend = await softwareBackend({ keys: KEYS, engine: 'bitslice' })
const peer = await softwareBackend({ keys: KEYS, engine: 'node:crypto' })
const keysOf = async (of: typeof backend): Promise<Key[]> => {
  const keys: Key[] = []
  for (const { kid, usage } of KEYS) keys.push(await of.bind({ kid, usage }))
  return keys
}
const [ours, theirs] = [await keysOf(backend), await keysOf(peer)]

interface Asked {
  readonly which: number
  readonly message: Uint8Array
  readonly padding: 1 | 2 | 3
  readonly iv?: Uint8Array
}

const ask = (keys: readonly Key[], { which, message, padding, iv }: Asked): Promise<Uint8Array> => {
  const key = keys[which]
  if (key === undefined) throw new Error('there is a key')
  const algorithm = ALGORITHM[key.kid] ?? 'cmac'
  const request = { key, message, algorithm, padding, length: 8 }
  return generateMac(iv === undefined ? request : { ...request, iv })
}

describe('MACs in flight', () => {
  test('long messages among short ones are what they are alone, and so is what follows them', async () => {
    const sizes = [8, 65_536, 8, 8, 65_536]
    for (let turn = 0; turn < 2; turn++) {
      const asked = sizes.map(size => ({ which: 0, message: randomBytes(size), padding: 2 }) as const)
      const together = await Promise.all(asked.map(one => ask(ours, one)))
      for (const [i, one] of asked.entries())
        expect(hex(together[i] ?? new Uint8Array())).toBe(hex(await ask(theirs, one)))
    }
  })

  test.each([1, 2, 15, 60, 130, 400])('%i at once are those of OpenSSL, one by one', async count => {
    const asked = Array.from({ length: count }, (_, i) => ({
      which: i % 5 === 4 ? 1 : i % 3 === 2 ? 2 : 0,
      message: randomBytes(i % 41),
      padding: ([1, 2, 3] as const)[i % 7 === 0 ? 1 : i % 3] ?? 2,
      ...(i % 11 === 10 && { iv: randomBytes(8) }),
    }))
    const together = await Promise.all(asked.map(one => ask(ours, one)))
    for (const [i, one] of asked.entries()) {
      expect(hex(together[i] ?? new Uint8Array())).toBe(hex(await ask(theirs, one)))
    }
  })

  test('one with an initial value goes by itself, wherever it stands', async () => {
    const plain = Array.from({ length: 30 }, () => ({
      which: 0,
      message: randomBytes(20),
      padding: 2 as const,
    }))
    for (const at of [0, 1, 15, 30]) {
      const asked: Asked[] = [...plain]
      asked.splice(at, 0, { which: 0, message: randomBytes(20), padding: 2, iv: randomBytes(8) })
      // The first of a turn is computed at once: what is looked at comes after it.
      const [, ...together] = await Promise.all([...plain.slice(0, 1), ...asked].map(one => ask(ours, one)))
      for (const [i, one] of asked.entries())
        expect(hex(together[i] ?? new Uint8Array())).toBe(hex(await ask(theirs, one)))
    }
  })

  test('what a turn leaves in the memory that messages share is no part of the next', async () => {
    // More than one piece of memory holds, a message longer than a piece, and then short ones where long ones were.
    const turns = [Array.from({ length: 90 }, () => 1000), [65_536, 5, 65_536, 60_000], [1, 0, 7, 8, 9, 3000]]
    for (const lengths of turns) {
      const asked = lengths.map((length, i) => ({
        which: 0,
        message: randomBytes(length),
        padding: ([1, 2, 3] as const)[i % 3] ?? 2,
      }))
      const together = await Promise.all(asked.map(one => ask(ours, one)))
      for (const [i, one] of asked.entries()) {
        expect(hex(together[i] ?? new Uint8Array())).toBe(hex(await ask(theirs, one)))
      }
    }
  })

  test('the message is the one that was there when the call was made', async () => {
    const message = randomBytes(20)
    const one = { which: 0, padding: 2 as const }
    const before = hex(await ask(theirs, { ...one, message }))
    const pending = [0, 1, 2].map(() => ask(ours, { ...one, message }))
    message.fill(0)
    for (const mac of await Promise.all(pending)) expect(hex(mac)).toBe(before)
  })

  test('closing waits for them', async () => {
    const closing = await softwareBackend({ keys: KEYS, engine: 'bitslice' })
    const keys = await keysOf(closing)
    const message = randomBytes(33)
    const pending = Array.from({ length: 40 }, () => ask(keys, { which: 1, message, padding: 1 }))
    const closed = closing.close()
    const expected = hex(await ask(theirs, { which: 1, message, padding: 1 }))
    for (const mac of await Promise.all(pending)) expect(hex(mac)).toBe(expected)
    await closed
    await failure(() => ask(keys, { which: 1, message, padding: 1 }), 'ERR_BACKEND_CLOSED')
  })

  test('the first of a turn is computed at once, and so is the first of the next', async () => {
    const cbcMacs = vi.spyOn(BitsliceTdea.prototype, 'cbcMacs')
    const messages = Array.from({ length: 30 }, () => randomBytes(9))
    const request = { which: 0, padding: 2 } as const
    for (const message of messages) {
      expect(hex(await ask(ours, { ...request, message }))).toBe(
        hex(await ask(theirs, { ...request, message })),
      )
    }
    expect(cbcMacs).not.toHaveBeenCalled()
    await Promise.all(messages.map(message => ask(ours, { ...request, message })))
    expect(cbcMacs.mock.calls.map(([, waiting]) => waiting.length)).toEqual([29])
    cbcMacs.mockRestore()
  })

  test('a long message is padded in memory of its own', async () => {
    for (const length of [1015, 1016, 1017, 5000]) {
      const one = { which: 0, message: randomBytes(length), padding: 2 } as const
      expect(hex(await ask(ours, one)), `${length}`).toBe(hex(await ask(theirs, one)))
    }
  })

  test('where the engine fails, all that wait are refused alike', async () => {
    const { cbcMacs } = BitsliceTdea.prototype
    BitsliceTdea.prototype.cbcMacs = () => {
      throw new Error('as if the module trapped')
    }
    try {
      const pending = Array.from({ length: 21 }, () =>
        ask(ours, { which: 0, message: randomBytes(9), padding: 2 }),
      )
      const [first, ...waiting] = await Promise.allSettled(pending)
      expect(first).toMatchObject({ status: 'fulfilled' })
      for (const one of waiting) {
        expect(one).toMatchObject({ status: 'rejected', reason: { code: 'ERR_BACKEND_FAILED' } })
      }
    } finally {
      BitsliceTdea.prototype.cbcMacs = cbcMacs
    }
  })
})
