/**
 * The fault campaign: every function of the shim with every code, once before and once after the real call, and for as long
 * as it is not taken away; delays; hangs; and what others do to the token. Nothing may come out wrong, nobody may wait beyond
 * his time, and the token's return must be enough.
 *
 * A short run is part of the tests, and judges no time. `npm run faults` runs all of it, holds it against what it must reach,
 * and writes `docs/measurements/pkcs11-faults.md`. `FAULTS=sample` is the same with every twentieth fault, and no page.
 */
import childProcess from 'node:child_process'
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { cpus, loadavg } from 'node:os'
import { dirname, join } from 'node:path'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import type { Starter } from '../src/backend/pkcs11/executor/channels.js'
import { isIssuerPinError } from '../src/index.js'
import { openKeyStore } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { type Fault, type FaultyToken, makeFaultyToken, starterFromSources } from './faults/shim.js'
import { endSites, makeSites } from './matrix.run.js'
import { provision } from './provision.js'
import { describeSoftHsm, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

const { FAULTS } = process.env
const FULL = FAULTS === 'full'
/** The long run's shape and verdicts: of all faults, or of a sample. */
const LONG = FULL || FAULTS === 'sample'
const STEP = FULL ? 1 : 20
const FUNCTIONS = [
  ...['C_Initialize', 'C_Finalize', 'C_GetInfo', 'C_GetSlotList', 'C_GetTokenInfo', 'C_OpenSession'],
  ...['C_CloseSession', 'C_GetSessionInfo', 'C_Login', 'C_Logout', 'C_CreateObject', 'C_DestroyObject'],
  ...['C_GetAttributeValue', 'C_FindObjectsInit', 'C_FindObjects', 'C_FindObjectsFinal', 'C_EncryptInit'],
  ...['C_Encrypt', 'C_DecryptInit', 'C_Decrypt', 'C_SignInit', 'C_Sign', 'C_DigestInit', 'C_DigestUpdate'],
  ...['C_DigestKey', 'C_DigestFinal', 'C_DeriveKey', 'C_GenerateRandom', '*'],
]
/** What opens a token and makes its keys, and nothing else. */
const MAKERS = [
  'C_CopyObject',
  'C_SetAttributeValue',
  'C_GenerateKey',
  'C_WrapKey',
  'C_UnwrapKey',
  'C_GenerateKeyPair',
]
const CODES = LONG
  ? [0x05, 0x20, 0x30, 0x31, 0x60, 0x82, 0x90, 0xb3, 0xe0, 0x101, 0x190]
  : [0x05, 0x30, 0xb3, 0x101]
const CALL_MS = 3000
const SLOW_MS = 2
const RATE_MS = LONG ? 3000 : 500
const KILLS = FULL ? 50 : 3
/** What the machine's own unrest may add to a deadline before it is one that was missed. */
const GRACE_MS = 50

/** All in the long run; in the short one each executor once, and both bindings. */
const WAYS = (['inline', 'threads', 'process'] as const).flatMap(executor =>
  (['pkcs11js', 'koffi'] as const)
    .filter(binding => LONG || (binding === 'koffi') === (executor === 'threads'))
    .map(binding => [executor, binding] as const),
)

interface Tally {
  executor: string
  binding: string
  faults: number
  calls: number
  wrong: number
  uncoded: number
  /** Calls that outlasted their time, and a plain timer of the same length beside them, by more than that. */
  late: number
  /** Plain timers of the same length that were late by as much: this machine's own unrest. */
  unrest: number
  failed: number
  back: number[]
  /** The longest of them, and after what. */
  longest: { readonly what: string; readonly ms: number }
  /** From then until `health()` is true. */
  well: number[]
}

describeSoftHsm('fault campaign', () => {
  let token: FaultyToken
  let starter: Starter
  let rotator: Rotator
  const tallies: Tally[] = []
  const kills: Kills[] = []
  const rates: Rate[] = []
  const opened = { faults: 0, failed: 0, uncoded: 0, left: 0 }
  const crashes = watchChildren()
  beforeAll(async () => {
    token = makeFaultyToken('campaign')
    starter = starterFromSources()
    await provision({ ...token.options, composedMac: true, executor: 'inline' }, CONTRACT_KEYS)
    rotator = new Rotator(token.options)
    await rotator.ask('right')
  })
  afterAll(() => {
    token.set()
    rotator.end()
    if (FULL) write()
  })
  const write = (): void => {
    const page = report({ tallies, rates, kills, opened, crashes })
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
    for (let i = 0; i < KILLS; i++) {
      // With a spare: when the next one is there.
      await new Promise(resolve => setTimeout(resolve, spare && LONG ? 1200 : 100))
      const start = performance.now()
      for (const kill of spare ? channels.splice(0, channels.length - 1) : channels.splice(0)) kill()
      expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(right)
      times.push(performance.now() - start)
    }
    kills.push({ what: spare ? 'a child, with a spare' : 'a child', most: spare ? 50 : 500, times })
    expect(await backend.health()).toMatchObject({ ok: true })
    if (FULL) write()
  })

  test('a p11-kit remote that is killed', { timeout: 600_000 }, async () => {
    // The sites are of a folder of their own, and a library that is initialised anew reads where it is.
    const { SOFTHSM2_CONF: before } = process.env
    const [site] = await makeSites(['p11-kit remote'])
    if (site === undefined || 'why' in site) {
      console.warn(`a p11-kit remote that is killed: not run, ${site?.why}`)
      Object.assign(process.env, { SOFTHSM2_CONF: before })
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
        for (let i = 0; i < KILLS; i++) {
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
            if (performance.now() - start > 120_000) throw new Error('it does not come back')
            await new Promise(resolve => setTimeout(resolve, 5))
          }
          times.push(performance.now() - start)
        }
        kills.push({ what: `a p11-kit remote, ${executor}`, most: 2000, times })
        expect(await backend.health()).toMatchObject({ ok: true })
      }
    } finally {
      endSites()
      Object.assign(process.env, { SOFTHSM2_CONF: before })
    }
    if (FULL) write()
  })

  test('a slow token: what each way of calling it brings', async () => {
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
    if (!LONG) console.log(rates)
  })

  const faultsOf = (executor: string): Fault[] => {
    const functions = LONG ? FUNCTIONS : ['C_FindObjectsFinal', 'C_EncryptInit', 'C_Encrypt', 'C_Sign', '*']
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
    const all = [...errors, ...delays, ...(executor === 'inline' || !LONG ? [] : hangs)]
    return LONG ? all.filter((_, at) => at % STEP === 0 || at >= all.length - hangs.length) : all
  }

  /** What others do: each is undone by the end of `undo`, and the token has returned then. */
  const meddlings = (executor: string): Meddling[] => {
    const foreign = (when: NonNullable<Fault['when']>): Meddling => ({
      what: when,
      does: async () => token.set({ fn: 'C_EncryptInit', code: 0, when, count: 1 }),
      undo: async () => token.set(),
    })
    const tokens = join(dirname(process.env['SOFTHSM2_CONF'] ?? ''), 'tokens')
    const away: Meddling = {
      what: 'the token is away',
      does: async () => renameSync(tokens, `${tokens}.away`),
      undo: async () => renameSync(`${tokens}.away`, tokens),
    }
    const rotation: Meddling = {
      what: 'the key is another one',
      does: () => rotator.ask('other'),
      undo: () => rotator.ask('right'),
    }
    return [
      foreign('sessions'),
      foreign('logout'),
      // Under the calls of other threads that would crash the module, whoever calls it.
      ...(executor === 'threads' ? [] : [foreign('finalise')]),
      away,
      rotation,
    ]
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
      longest: { what: '', ms: 0 },
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

    /** While somebody else's key has the name, a refusal is right, whatever its code; a value is not. */
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
            if (took > Math.max(CALL_MS, plainly) + GRACE_MS) tally.late++
            if (plainly > CALL_MS + GRACE_MS) tally.unrest++
          }
        }),
      )
      return outcomes.every(outcome => outcome)
    }

    const returns = async (what: string): Promise<void> => {
      const start = performance.now()
      while (!(await tryAll())) {
        if (performance.now() - start > 120_000) throw new Error(`${what}: it does not come back`)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
      const ms = performance.now() - start
      tally.back.push(ms)
      if (ms > tally.longest.ms) tally.longest = { what, ms }
      const well = performance.now()
      while (!(await backend.health()).ok) {
        if (performance.now() - well > 120_000) throw new Error(`${what}: health stays false`)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
      tally.well.push(performance.now() - well)
    }
    for (const fault of faultsOf(executor)) {
      tally.faults++
      token.set(fault)
      await tryAll()
      await tryAll()
      token.set()
      await returns(JSON.stringify(fault))
    }
    for (let i = 0; i < (FULL ? 5 : 1); i++) {
      for (const { what, does, undo } of meddlings(executor)) {
        tally.faults++
        await does()
        await tryAll()
        await tryAll()
        await undo()
        await returns(what)
      }
    }
    if (FULL) write()
    expect(tally).toMatchObject({ wrong: 0, uncoded: 0 })
    expect(tally.faults).toBeGreaterThan(20)
    await backend.close()
  })

  /** While a token is opened and while keys are made in it: a coded error or none, and no key that nobody knows of. */
  test('opening, and making keys', { timeout: 600_000 }, async () => {
    const names = [...FUNCTIONS, ...MAKERS].filter(name => name !== '*')
    const faults = names.flatMap(fn => CODES.map((code): Fault => ({ fn, code, count: 1 })))
    const kid = 'MADE'
    const spec = { kid, usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
    const options = { ...token.options, binding: 'koffi' } as const
    const made = async (): Promise<void> => {
      await using store = await openKeyStore(options)
      const { id } = await store.generateKey(spec)
      await store.deleteKey({ kid, id })
    }
    for (const fault of faults.filter((_, at) => at % (FULL ? 1 : 12) === 0)) {
      opened.faults++
      token.set(fault)
      await made().catch((error: unknown) => {
        opened.failed++
        if (!isIssuerPinError(error)) opened.uncoded++
      })
      token.set()
      await using store = await openKeyStore(options)
      // One that was made before its deletion failed is there, and has its name.
      const there = (await store.listKeys()).filter(
        key => !CONTRACT_KEYS.some(known => known.kid === key.kid),
      )
      for (const key of there) {
        if (key.kid !== kid) opened.left++
        await store.deleteKey({ kid: key.kid, id: key.id })
      }
    }
    expect(opened).toMatchObject({ uncoded: 0, left: 0 })
    expect(opened.faults).toBeGreaterThan(10)
    if (FULL) write()
  })

  const unless = LONG ? '' : ' (not in the short mode, which says nothing of times: npm run faults)'
  test.runIf(LONG)(`what it must reach${unless}`, () => {
    const verdicts = verdictsOf({ tallies, rates, kills, opened, crashes })
    for (const { executor, binding, longest } of tallies) console.log(executor, binding, longest)
    console.log(
      crashes.ends.join(' '),
      verdicts.map(({ what, seen, most }) => `${what}: ${seen} (${most})`).join('\n'),
    )
    expect(verdicts.filter(({ met }) => !met)).toEqual([])
  })
})

interface Meddling {
  readonly what: string
  readonly does: () => Promise<void>
  readonly undo: () => Promise<void>
}

/** Child processes that ended by a signal other than the one that kills them here. */
interface Crashes {
  readonly children: number
  readonly ends: readonly string[]
}

function watchChildren(): Crashes {
  const seen = { children: 0, ends: [] as string[] }
  const { spawn } = childProcess
  childProcess.spawn = ((...given: Parameters<typeof spawn>) => {
    const child = spawn(...given)
    if (given[0] !== process.execPath) return child
    seen.children++
    child.once('exit', (code, signal) => {
      const isUsual = signal === 'SIGKILL' || signal === 'SIGTERM' || code === 0
      if (!isUsual) seen.ends.push(signal ?? `${code}`)
    })
    return child
  }) as typeof spawn
  syncBuiltinESMExports()
  return seen
}

/** Another process, by the module itself: puts another key, or the right one again, under the name of one in use. */
class Rotator {
  readonly #child: ReturnType<typeof childProcess.spawn>
  readonly #lines: AsyncIterator<string>

  constructor({ token }: FaultyToken['options']) {
    const script = new URL('children/rotator.ts', import.meta.url).pathname
    const args = ['--import', 'tsx', script, SOFTHSM_MODULE ?? '', `${token}`, USER_PIN]
    const child = childProcess.spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    if (child.stdout === null) throw new Error('no output')
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  }

  async ask(key: 'other' | 'right'): Promise<void> {
    this.#child.stdin?.write(`${key}\n`)
    const { value } = await this.#lines.next()
    if (value !== 'done') throw new Error(`the other process says ${value}`)
  }

  end(): void {
    this.#child.stdin?.end()
  }
}

interface Kills {
  readonly what: string
  /** Longest that it may take, in milliseconds. */
  readonly most: number
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

interface Found {
  readonly tallies: readonly Tally[]
  readonly rates: readonly Rate[]
  readonly kills: readonly Kills[]
  readonly opened: {
    readonly faults: number
    readonly failed: number
    readonly uncoded: number
    readonly left: number
  }
  readonly crashes: Crashes
}

interface Verdict {
  readonly what: string
  readonly seen: string
  readonly most: string
  readonly met: boolean
}

/** What the campaign must reach. */
function verdictsOf({ tallies, kills, opened, crashes }: Found): Verdict[] {
  const none = (what: string, seen: number): Verdict => ({
    what,
    seen: `${seen}`,
    most: '0',
    met: seen === 0,
  })
  const within = (what: string, times: readonly number[], ms: number): Verdict => {
    const longest = Math.max(0, ...times)
    return {
      what,
      seen: `${longest.toFixed(0)} ms`,
      most: `≤ ${ms} ms`,
      met: times.length > 0 && longest <= ms,
    }
  }
  const sum = (of: (tally: Tally) => number): number => tallies.reduce((all, tally) => all + of(tally), 0)
  return [
    none(
      'wrong results',
      sum(tally => tally.wrong),
    ),
    none('crashes', crashes.ends.length),
    none('errors without a code', sum(tally => tally.uncoded) + opened.uncoded),
    none(
      `callers beyond their deadline and ${GRACE_MS} ms`,
      sum(tally => tally.late),
    ),
    none('keys left behind that nobody knows of', opened.left),
    within(
      'service after the return of the token',
      tallies.flatMap(({ back }) => back),
      2000,
    ),
    within(
      'health() true after that',
      tallies.flatMap(({ well }) => well),
      1000,
    ),
    ...kills.map(({ what, most, times }) => within(`service after the kill: ${what}`, times, most)),
  ]
}

function report(found: Found): string {
  const { tallies, rates, kills, opened, crashes } = found
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
  const verdict = ({ what, seen, most, met }: Verdict): string =>
    `| ${what} | ${seen} | ${most} | ${met ? 'met' : '**missed**'} |`
  return `# PKCS#11 fault campaign

${new Date().toISOString().slice(0, 10)}, \`npm run faults\`, ${(process.uptime() / 60).toFixed(0)} minutes; SoftHSM behind \`native-test/faults/shim.c\`, Node ${process.version},
${cpus().length} cores, load average ${loadavg()[0]?.toFixed(1)} at the end.

![How long it takes after a fault, or after a kill, until calls are answered again, by executor](../pictures/fault-recovery.svg)

| | seen | must be | |
|---|---:|---:|---|
${verdictsOf(found).map(verdict).join('\n')}

## Faults

${FUNCTIONS.length} functions by ${CODES.length} return values, each once before the real call,
once after it, and lasting for four calls; each function once delayed by 200 ms; three hangs longer than a call may take (not inline).
Then what others do, five times each: all sessions are closed, the login is ended, the library is finalised (not under threads), the token
is away, another process puts another key under the name. Then the fault is taken away. "Back" is the time from then until both keys
work again, "well" from there until \`health()\` is true, in milliseconds. In brackets: plain timers of the same length that were late by
as much. ${crashes.children} child processes were started; ${crashes.ends.length} ended by a signal that was not sent here.

| executor, binding | faults | calls | wrong results | errors without a code | beyond ${CALL_MS} + ${GRACE_MS} ms | failed calls | back, median | p95 | longest | well, longest |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
${tallies.map(line).join('\n')}

While a key store was opened, a key was made and deleted: ${opened.faults} faults, ${opened.failed} of them refused, ${opened.uncoded} without a code, ${opened.left} keys left behind
that nobody knew of.

## Killed

From the kill until the first right answer, in milliseconds.

| what | times | median | p95 | longest |
|---|---:|---:|---:|---:|
${kills.map(killed).join('\n')}

## A slow token

Two calls an operation, ${SLOW_MS} ms each before the module is reached; one block a caller; ${RATE_MS} ms a row, one after the other in one run.
What must be reached here is judged by \`npm run speed:pkcs11\`.

| executor and callers | operations a second | times the first row | event loop delay p99, ms |
|---|---:|---:|---:|
${rates.map(({ way, perSecond, p99 }) => `| ${way} | ${perSecond.toFixed(0)} | ${(perSecond / (rates[0]?.perSecond ?? 1)).toFixed(1)} | ${p99.toFixed(1)} |`).join('\n')}
`
}
