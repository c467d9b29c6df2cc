/**
 * Eight callers at once, all operations mixed: no wrong result, no session or object left behind, memory flat after
 * warm-up. 10,000 operations by default; SESSION_OPERATIONS=100000 for the long run.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Backend, Key } from '../src/index.js'
import { pkcs11Backend } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { provision } from './provision.js'
import { census } from './raw.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

const { SESSION_OPERATIONS = '10000' } = process.env
const OPERATIONS = Number(SESSION_OPERATIONS)
const CALLERS = 8

const POINT = Uint8Array.from(
  Buffer.from(
    '048578CABDC564C2F76DC77FE5BEB8CD6E6045FDEA007F72F16C19CF31346A71BA446F02C97E729A884B7ADAB5696F374E8CD03038463E6DC6E72A5D0DF5BE7C95',
    'hex',
  ),
)

/** Small inputs that differ from call to call, out of 64, so that every answer can be known beforehand. */
const input = (i: number): Uint8Array => Uint8Array.from({ length: 16 }, (_, at) => (i % 64) * 3 + at)

type Operation = (backend: Backend, keys: ReadonlyMap<string, Key>, i: number) => Promise<Uint8Array>

function key(keys: ReadonlyMap<string, Key>, kid: string): Key {
  const found = keys.get(kid)
  if (found === undefined) throw new Error(`no key ${kid}`)
  return found
}

const MIX: readonly Operation[] = [
  (_backend, keys, i) => operationsOf(key(keys, 'PEK-2')).encipher(input(i)),
  (_backend, keys, i) => operationsOf(key(keys, 'PEK-3')).decipher(input(i)),
  (_backend, keys, i) => operationsOf(key(keys, 'PEK-2')).reencipher(key(keys, 'PEK-CLOSED'), input(i)),
  (_backend, keys, i) =>
    operationsOf(key(keys, 'MAC-1')).mac({ algorithm: 'iso9797-1-alg1', padding: 2 }, input(i)),
  (_backend, keys, i) =>
    operationsOf(key(keys, 'MAC-3')).mac({ algorithm: 'iso9797-1-alg3', padding: 1 }, input(i)),
  (_backend, keys, i) =>
    operationsOf(key(keys, 'CMAC-A')).mac({ algorithm: 'cmac', padding: 'none' }, input(i)),
  (_backend, keys, i) =>
    operationsOf(key(keys, 'JWE-D1')).deriveContentKey({
      ephemeralPublicKey: POINT,
      otherInfo: input(i),
      length: 32,
    }),
  async backend => new Uint8Array([(await backend.randomBytes(8)).length]),
]

describeSoftHsm('sessions on SoftHSM', () => {
  const options = { ...makeToken('sessions'), composedMac: true }

  test(`${OPERATIONS} mixed operations by ${CALLERS} callers`, { timeout: 600_000 }, async () => {
    await provision(options, CONTRACT_KEYS)
    const before = await census(options)
    const backend = await pkcs11Backend(options)
    const keys = new Map<string, Key>()
    for (const { kid, usage, hostDecipher = false } of CONTRACT_KEYS) {
      keys.set(kid, await backend.bind({ kid, usage, hostDecipher }))
    }
    const expected: string[][] = []
    for (const operation of MIX) {
      const answers: string[] = []
      for (let i = 0; i < 64; i++)
        answers.push(Buffer.from(await operation(backend, keys, i)).toString('hex'))
      expected.push(answers)
    }

    let wrong = 0
    const memory: number[] = []
    const run = async (caller: number, count: number): Promise<void> => {
      for (let i = caller; i < count; i += CALLERS) {
        const which = (Math.floor(i / CALLERS) + caller) % MIX.length
        const answer = await MIX[which]?.(backend, keys, i)
        if (Buffer.from(answer ?? []).toString('hex') !== expected[which]?.[i % 64]) wrong++
      }
    }
    const rounds = 5
    for (let round = 0; round < rounds; round++) {
      await Promise.all(Array.from({ length: CALLERS }, (_, caller) => run(caller, OPERATIONS / rounds)))
      await sleep(0)
      globalThis.gc?.()
      memory.push(process.memoryUsage().rss / 2 ** 20)
    }
    expect(wrong).toBe(0)
    expect((await backend.health()).ok).toBe(true)
    await backend.close()
    expect(await census(options)).toEqual(before)
    // SoftHSM itself grows at first by 1.7 kB for each session object that came and went; then it stays flat.
    const [, second = 0] = memory
    const growth = (memory.at(-1) ?? 0) - second
    console.log(`RSS in MiB after each fifth: ${memory.map(mib => mib.toFixed(1)).join(', ')}`)
    expect(growth).toBeLessThan(64)
  })

  test('the event loop is not starved: a timer fires while 8 callers work', async () => {
    await provision(options, CONTRACT_KEYS)
    await using backend = await pkcs11Backend(options)
    const pek = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    // Counted in operations and not in time, which on a busy machine passes for others, too.
    let [done, before, most, ticks] = [0, 0, 0, 0]
    const timer = setInterval(() => {
      most = Math.max(most, done - before)
      before = done
      ticks++
    }, 1)
    const caller = async (): Promise<void> => {
      for (let i = 0; i < 2500; i++) {
        await operationsOf(pek).encipher(new Uint8Array(8))
        done++
      }
    }
    await Promise.all(Array.from({ length: CALLERS }, caller))
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(1)
    expect(Math.max(most, done - before)).toBeLessThan((CALLERS * 2500) / 4)
  })
})
