/**
 * The fault campaign: every function of the shim with every code, once before and once after the real call, and for as long
 * as it is not taken away; delays; hangs. Nothing may come out wrong, nobody may wait beyond his time, and the token's
 * return must be enough.
 *
 * A short run is part of the tests. `FAULTS=full npx vitest run native-test/softhsm.campaign.test.ts` runs all of it and
 * writes `docs/measurements/pkcs11-faults.md`.
 */
import { writeFileSync } from 'node:fs'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import type { Starter } from '../src/backend/pkcs11/executor/remote.js'
import { isIssuerPinError } from '../src/index.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { type Fault, type FaultyToken, makeFaultyToken, starterFromSources } from './faults/shim.js'
import { provision } from './provision.js'
import { describeSoftHsm } from './softhsm.js'

const FULL = process.env['FAULTS'] === 'full'
const FUNCTIONS = [
  'C_Initialize',
  'C_GetSlotList',
  'C_GetTokenInfo',
  'C_OpenSession',
  'C_CloseSession',
  'C_GetSessionInfo',
  'C_Login',
  'C_CreateObject',
  'C_GetAttributeValue',
  'C_FindObjectsInit',
  'C_FindObjects',
  'C_FindObjectsFinal',
  'C_EncryptInit',
  'C_Encrypt',
  'C_SignInit',
  'C_Sign',
  '*',
]
const CODES = FULL
  ? [0x05, 0x20, 0x30, 0x31, 0x60, 0x82, 0x90, 0xb3, 0xe0, 0x101, 0x190]
  : [0x05, 0x30, 0xb3, 0x101]
const CALL_MS = 3000
const SLOW_MS = 2
const RATE_MS = process.env['FAULTS'] === undefined ? 500 : 3000
/** What the machine's own unrest may add to a deadline before it is one that was missed. */
const GRACE_MS = 50

interface Tally {
  executor: string
  faults: number
  calls: number
  wrong: number
  uncoded: number
  late: number
  failed: number
  back: number[]
}

describeSoftHsm('fault campaign', () => {
  let token: FaultyToken
  let starter: Starter
  const tallies: Tally[] = []
  const rates: Rate[] = []
  beforeAll(async () => {
    token = makeFaultyToken('campaign')
    starter = starterFromSources()
    await provision({ ...token.options, composedMac: true, executor: 'inline' }, CONTRACT_KEYS)
  })
  afterAll(() => {
    token.set()
    if (FULL)
      writeFileSync(new URL('../docs/measurements/pkcs11-faults.md', import.meta.url), report(tallies, rates))
  })

  test('a slow token: what each way of calling it brings', { timeout: 120_000 }, async () => {
    const ways = [
      ['inline', 1, 1, false],
      ['threads', 1, 1, false],
      ['threads', 8, 8, false],
      ['threads', 2, 512, true],
      ['process', 2, 512, true],
    ] as const
    for (const [executor, max, callers, coalesce] of ways) {
      const options = { ...token.options, executor, coalesce, sessions: { max }, keepAliveMs: 0 } as const
      await using backend = await openPkcs11(options, loadPkcs11js, { starter })
      const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
      const expected = await operationsOf(key).encipher(new Uint8Array(8))
      token.set(
        { fn: 'C_EncryptInit', code: 0, waitMs: SLOW_MS },
        { fn: 'C_Encrypt', code: 0, waitMs: SLOW_MS },
      )
      const way = `${executor}, ${max} sessions, ${callers} callers${coalesce ? ', put together' : ''}`
      rates.push(await rateOf(way, callers, () => operationsOf(key).encipher(new Uint8Array(8))))
      token.set()
      expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(expected)
    }
    expect(rates.length).toBe(ways.length)
    expect(rates.every(({ perSecond }) => perSecond > 0)).toBe(true)
    if (!FULL) console.log(rates)
  })

  const faultsOf = (executor: string): Fault[] => {
    const functions = FULL && executor !== 'process' ? FUNCTIONS : FUNCTIONS.slice(-6)
    return functions.flatMap(fn =>
      CODES.flatMap((code): Fault[] => [
        { fn, code, count: 1 },
        { fn, code, count: 1, when: 'after' },
        { fn, code },
      ]),
    )
  }

  test.each(['inline', 'threads', 'process'] as const)('%s', { timeout: 1_200_000 }, async executor => {
    const tally: Tally = {
      executor,
      faults: 0,
      calls: 0,
      wrong: 0,
      uncoded: 0,
      late: 0,
      failed: 0,
      back: [],
    }
    tallies.push(tally)
    const options = {
      ...token.options,
      composedMac: true,
      executor,
      spare: executor === 'process',
      sessions: { max: 2 },
      timeouts: { callMs: CALL_MS },
    }
    const backend = await openPkcs11(options, loadPkcs11js, { starter })
    const pek = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    const cmac = await backend.bind({ kid: 'CMAC-A', usage: 'cmac' })
    const block = new Uint8Array(8)
    const operations: readonly (() => Promise<Uint8Array>)[] = [
      () => operationsOf(pek).encipher(block),
      () => operationsOf(cmac).mac({ algorithm: 'cmac', padding: 'none' }, block),
    ]
    const right = await Promise.all(operations.map(operation => operation()))

    const tryAll = async (): Promise<boolean> => {
      const outcomes = await Promise.all(
        operations.map(async (operation, at) => {
          const start = performance.now()
          tally.calls++
          try {
            if (Buffer.compare(await operation(), right[at] ?? block) !== 0) tally.wrong++
            return true
          } catch (error) {
            tally.failed++
            if (!isIssuerPinError(error)) tally.uncoded++
            return false
          } finally {
            if (performance.now() - start > CALL_MS + GRACE_MS) tally.late++
          }
        }),
      )
      return outcomes.every(outcome => outcome)
    }

    for (const fault of faultsOf(executor)) {
      tally.faults++
      token.set(fault)
      await tryAll()
      await tryAll()
      token.set()
      const start = performance.now()
      while (!(await tryAll())) {
        if (performance.now() - start > 20_000)
          throw new Error(`${JSON.stringify(fault)}: it does not come back`)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
      tally.back.push(performance.now() - start)
      expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
    }
    expect(tally).toMatchObject({ wrong: 0, uncoded: 0 })
    expect(tally.faults).toBeGreaterThan(20)
    await backend.close()
  })
})

interface Rate {
  readonly way: string
  readonly perSecond: number
  /** Of the event loop's delay, in milliseconds. */
  readonly p99: number
}

/** How many encipherments of one block come back in a second, and what the event loop of this thread suffers meanwhile. */
async function rateOf(way: string, callers: number, encipher: () => Promise<unknown>): Promise<Rate> {
  await encipher()
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const start = performance.now()
  let done = 0
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() - start < RATE_MS) {
        await encipher()
        done++
      }
    }),
  )
  const perSecond = (1000 * done) / (performance.now() - start)
  delay.disable()
  return { way, perSecond, p99: delay.percentile(99) / 1e6 }
}

function report(tallies: readonly Tally[], rates: readonly Rate[]): string {
  const line = ({ executor, faults, calls, wrong, uncoded, late, failed, back }: Tally): string => {
    const sorted = [...back].sort((a, b) => a - b)
    const at = (share: number): string => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(0)
    return `| ${executor} | ${faults} | ${calls} | ${wrong} | ${uncoded} | ${late} | ${failed} | ${at(0.5)} | ${at(0.95)} | ${at(1)} |`
  }
  return `# PKCS#11 fault campaign

${new Date().toISOString().slice(0, 10)}, \`FAULTS=full npx vitest run native-test/softhsm.campaign.test.ts\`; SoftHSM behind \`native-test/faults/shim.c\`,
pkcs11js, Node ${process.version}, 2 cores shared with other work. ${FUNCTIONS.length} functions (\`process\`: six) by ${CODES.length} return values, each once before the real
call, once after it, and lasting for four calls; then the fault is taken away. "Back" is the time from then until both keys work
again, in milliseconds. A failed call has a code of the library's.

| executor | faults | calls | wrong results | errors without a code | beyond ${CALL_MS} + ${GRACE_MS} ms | failed calls | back, median | p95 | longest |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
${tallies.map(line).join('\n')}

## A slow token

Two calls an operation, ${SLOW_MS} ms each before the module is reached; one block a caller; ${RATE_MS} ms a row, one after the other in one run.

| executor and callers | operations a second | times the first row | event loop delay p99, ms |
|---|---:|---:|---:|
${rates.map(({ way, perSecond, p99 }) => `| ${way} | ${perSecond.toFixed(0)} | ${(perSecond / (rates[0]?.perSecond ?? 1)).toFixed(1)} | ${p99.toFixed(1)} |`).join('\n')}
`
}
