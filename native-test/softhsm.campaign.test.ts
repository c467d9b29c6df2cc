/**
 * The fault campaign: every function of the shim with every code, once before and once after the real call, and for as long
 * as it is not taken away; delays; hangs. Nothing may come out wrong, nobody may wait beyond his time, and the token's
 * return must be enough.
 *
 * A short run is part of the tests. `npm run faults` runs all of it and
 * writes `docs/measurements/pkcs11-faults.md`.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import type { Starter } from '../src/backend/pkcs11/executor/channels.js'
import { isIssuerPinError } from '../src/index.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { type Fault, type FaultyToken, makeFaultyToken, starterFromSources } from './faults/shim.js'
import { endSites, makeSites } from './matrix.run.js'
import { provision } from './provision.js'
import { describeSoftHsm } from './softhsm.js'

const FULL = process.env['FAULTS'] === 'full'
const FUNCTIONS = [
  ...['C_Initialize', 'C_Finalize', 'C_GetInfo', 'C_GetSlotList', 'C_GetTokenInfo', 'C_OpenSession'],
  ...['C_CloseSession', 'C_GetSessionInfo', 'C_Login', 'C_Logout', 'C_CreateObject', 'C_DestroyObject'],
  ...['C_GetAttributeValue', 'C_FindObjectsInit', 'C_FindObjects', 'C_FindObjectsFinal', 'C_EncryptInit'],
  ...['C_Encrypt', 'C_DecryptInit', 'C_Decrypt', 'C_SignInit', 'C_Sign', 'C_DigestInit', 'C_DigestUpdate'],
  ...['C_DigestKey', 'C_DigestFinal', 'C_DeriveKey', 'C_GenerateRandom', '*'],
]
const CODES = FULL
  ? [0x05, 0x20, 0x30, 0x31, 0x60, 0x82, 0x90, 0xb3, 0xe0, 0x101, 0x190]
  : [0x05, 0x30, 0xb3, 0x101]
const CALL_MS = 3000
const SLOW_MS = 2
const RATE_MS = process.env['FAULTS'] === undefined ? 500 : 3000
/** What the machine's own unrest may add to a deadline before it is one that was missed. */
const GRACE_MS = 50

/** All in the long run; in the short one each executor once, and both bindings. */
const WAYS = (['inline', 'threads', 'process'] as const).flatMap(executor =>
  (['pkcs11js', 'koffi'] as const)
    .filter(binding => FULL || (binding === 'koffi') === (executor === 'threads'))
    .map(binding => [executor, binding] as const),
)

interface Tally {
  executor: string
  binding: string
  faults: number
  calls: number
  wrong: number
  uncoded: number
  late: number
  /** Plain timers of the same length beside the calls that were late by as much: this machine's own unrest. */
  unrest: number
  failed: number
  back: number[]
  /** From then until `health()` is true. */
  well: number[]
}

describeSoftHsm('fault campaign', () => {
  let token: FaultyToken
  let starter: Starter
  const tallies: Tally[] = []
  const kills: Kills[] = []
  const rates: Rate[] = []
  beforeAll(async () => {
    token = makeFaultyToken('campaign')
    starter = starterFromSources()
    await provision({ ...token.options, composedMac: true, executor: 'inline' }, CONTRACT_KEYS)
  })
  afterAll(() => {
    token.set()
    if (FULL) write()
  })
  const write = (): void => {
    const page = report(tallies, rates, kills)
    writeFileSync(new URL('../docs/measurements/pkcs11-faults.md', import.meta.url), page)
  }

  test.each([true, false])('a child that is killed; a spare: %s', { timeout: 600_000 }, async spare => {
    const channels: (() => void)[] = []
    const killing: Starter = {
      ...starter,
      process: lost => {
        const channel = starter.process(lost)
        channels.push(() => channel.kill())
        return channel
      },
    }
    const options = { ...token.options, executor: 'process', spare, timeouts: { callMs: 10_000 } } as const
    await using backend = await openPkcs11({ ...options, binding: 'koffi' }, undefined, { starter: killing })
    const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    const right = await operationsOf(key).encipher(new Uint8Array(8))
    const times: number[] = []
    for (let i = 0; i < (FULL ? 50 : 3); i++) {
      // With a spare: when the next one is there.
      await new Promise(resolve => setTimeout(resolve, spare && FULL ? 2500 : 100))
      const start = performance.now()
      for (const kill of spare ? channels.splice(0, channels.length - 1) : channels.splice(0)) kill()
      expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(right)
      times.push(performance.now() - start)
    }
    kills.push({ what: spare ? 'a child, with a spare' : 'a child', times })
    expect(await backend.health()).toMatchObject({ ok: true })
    if (FULL) write()
  })

  test('a p11-kit remote that is killed', { timeout: 600_000 }, async () => {
    const site = (await makeSites()).find(({ name }) => name === 'p11-kit remote')
    if (site === undefined || 'why' in site) {
      console.warn(`a p11-kit remote that is killed: not run, ${site?.why}`)
      return
    }
    const { options, pin, environment } = site
    Object.assign(process.env, environment)
    const open = { ...options, pin: () => pin }
    const keys = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-2')
    try {
      await provision({ ...open, executor: 'inline' }, keys)
      for (const executor of ['inline', 'threads', 'process'] as const) {
        await using backend = await openPkcs11({ ...open, executor, sessions: { max: 2 } }, undefined, {
          starter,
        })
        const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
        const right = await operationsOf(key).encipher(new Uint8Array(8))
        const times: number[] = []
        for (let i = 0; i < (FULL ? 50 : 2); i++) {
          killRemotes()
          const start = performance.now()
          for (;;) {
            const answer = await operationsOf(key)
              .encipher(new Uint8Array(8))
              .catch((error: unknown) => {
                expect(error).toMatchObject({ retryable: true })
                return undefined
              })
            if (answer !== undefined) {
              expect(answer).toEqual(right)
              break
            }
            if (performance.now() - start > 30_000) throw new Error('it does not come back')
            await new Promise(resolve => setTimeout(resolve, 5))
          }
          times.push(performance.now() - start)
        }
        kills.push({ what: `a p11-kit remote, ${executor}`, times })
        expect(await backend.health()).toMatchObject({ ok: true })
      }
    } finally {
      endSites()
    }
    if (FULL) write()
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
    const functions = FULL ? FUNCTIONS : ['C_FindObjectsFinal', 'C_EncryptInit', 'C_Encrypt', 'C_Sign', '*']
    const errors = functions.flatMap(fn =>
      CODES.flatMap((code): Fault[] => [
        { fn, code, count: 1 },
        { fn, code, count: 1, when: 'after' },
        { fn, code },
      ]),
    )
    const delays = functions.slice(0, -1).map((fn): Fault => ({ fn, code: 0, waitMs: 200, count: 1 }))
    const hangs = ['C_Encrypt', 'C_SignInit', 'C_Sign'].map(
      (fn): Fault => ({ fn, code: 0, waitMs: CALL_MS + 1500, count: 1 }),
    )
    // What runs in this thread cannot be interrupted.
    return [...errors, ...delays, ...(executor === 'inline' || !FULL ? [] : hangs)]
  }

  test.each(WAYS)('%s, %s', { timeout: 3_000_000 }, async (executor, binding) => {
    const tally: Tally = {
      executor,
      binding,
      faults: 0,
      calls: 0,
      wrong: 0,
      uncoded: 0,
      late: 0,
      unrest: 0,
      failed: 0,
      back: [],
      well: [],
    }
    tallies.push(tally)
    const options = {
      ...token.options,
      composedMac: true,
      executor,
      binding,
      spare: executor === 'process',
      sessions: { max: 2 },
      timeouts: { callMs: CALL_MS },
    }
    const backend = await openPkcs11(options, undefined, { starter })
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
          // Beside each call a timer of the same length: what is late there is the machine's own unrest.
          let plainly = 0
          const plain = setTimeout(() => {
            plainly = performance.now() - start
          }, CALL_MS)
          try {
            if (Buffer.compare(await operation(), right[at] ?? block) !== 0) tally.wrong++
            return true
          } catch (error) {
            tally.failed++
            if (!isIssuerPinError(error)) tally.uncoded++
            return false
          } finally {
            clearTimeout(plain)
            const took = performance.now() - start
            if (took > CALL_MS + GRACE_MS) tally.late++
            if (Math.max(plainly, 0) > CALL_MS + GRACE_MS) tally.unrest++
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
      const well = performance.now()
      while (!(await backend.health()).ok) {
        if (performance.now() - well > 20_000) throw new Error(`${JSON.stringify(fault)}: health stays false`)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
      tally.well.push(performance.now() - well)
    }
    if (FULL) write()
    expect(tally).toMatchObject({ wrong: 0, uncoded: 0 })
    expect(tally.faults).toBeGreaterThan(20)
    await backend.close()
  })
})

interface Kills {
  readonly what: string
  /** From the kill to the first right answer, in milliseconds. */
  readonly times: readonly number[]
}

/** The processes by which p11-kit's server of this run serves its connections: its own children. */
function killRemotes(): void {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8')
      const parent =
        / (\d+) /.exec(readFileSync(`/proc/${entry}/stat`, 'utf8').replace(/^.*\) \w/, ''))?.[1] ?? ''
      if (command.includes('p11-kit-remote') && isOurs(parent)) process.kill(Number(entry), 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
  }
}

function isOurs(pid: string): boolean {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) \w/, '')
  return / (\d+) /.exec(stat)?.[1] === `${process.pid}`
}

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

function report(tallies: readonly Tally[], rates: readonly Rate[], kills: readonly Kills[]): string {
  const at = (times: readonly number[], share: number): string => {
    const sorted = [...times].sort((a, b) => a - b)
    return (sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(0)
  }
  const line = (tally: Tally): string => {
    const { executor, binding, faults, calls, wrong, uncoded, late, unrest, failed, back, well } = tally
    const times = [at(back, 0.5), at(back, 0.95), at(back, 1), at(well, 1)]
    return `| ${[`${executor}, ${binding}`, faults, calls, wrong, uncoded, `${late} (${unrest})`, failed, ...times].join(' | ')} |`
  }
  const killed = ({ what, times }: Kills): string =>
    `| ${what} | ${times.length} | ${at(times, 0.5)} | ${at(times, 0.95)} | ${at(times, 1)} |`
  return `# PKCS#11 fault campaign

${new Date().toISOString().slice(0, 10)}, \`npm run faults\`; SoftHSM behind \`native-test/faults/shim.c\`,
Node ${process.version}, 2 cores shared with other work (load average ${loadavg()[0]?.toFixed(0)} at the end). ${FUNCTIONS.length} functions by ${CODES.length} return values, each once before the real call,
once after it, and lasting for four calls; each function once delayed by 200 ms; three hangs longer than a call may take (not inline).
Then the fault is taken away. "Back" is the time from then until both keys work again, "well" from there until \`health()\` is
true, in milliseconds. In brackets: plain timers of the same length beside the calls that were late by as much.

| executor, binding | faults | calls | wrong results | errors without a code | beyond ${CALL_MS} + ${GRACE_MS} ms | failed calls | back, median | p95 | longest | well, longest |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
${tallies.map(line).join('\n')}

## Killed

From the kill until the first right answer, in milliseconds.

| what | times | median | p95 | longest |
|---|---:|---:|---:|---:|
${kills.map(killed).join('\n')}

## A slow token

Two calls an operation, ${SLOW_MS} ms each before the module is reached; one block a caller; ${RATE_MS} ms a row, one after the other in one run.

| executor and callers | operations a second | times the first row | event loop delay p99, ms |
|---|---:|---:|---:|
${rates.map(({ way, perSecond, p99 }) => `| ${way} | ${perSecond.toFixed(0)} | ${(perSecond / (rates[0]?.perSecond ?? 1)).toFixed(1)} | ${p99.toFixed(1)} |`).join('\n')}
`
}
