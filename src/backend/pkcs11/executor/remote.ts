/**
 * Executors elsewhere, and the choice between them.
 *
 * `threads`: so many worker threads over one login, one session each, one call each. One that hangs cannot be ended; it is
 * given up, counted and replaced, up to as many again. While one hangs the module cannot be initialised anew, for that
 * would pull it from under the call.
 *
 * `process`: a child process, which itself runs inline or threads. A call that hangs is ended by killing the child; a spare
 * that is logged in already takes over at once, and all jobs under way are tried again there.
 */

import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { afterUnheld, systemClock } from '../../../base/deadline.js'
import { DEFAULTS } from '../../../base/defaults.js'
import { BackendError } from '../../../base/errors.js'
import type { LoadBinding } from '../binding/binding.js'
import { sessionsOf, type TokenFacts } from '../session/connection.js'
import { ModuleElsewhere } from '../session/module.js'
import type { Settings } from '../session/options.js'
import { type Channel, type HostSettings, portChannel, RemoteHost, spawnChild } from './channels.js'
import { LostHost } from './dispatcher.js'
import type { Executor, JobName, Jobs } from './executor.js'
import { InlineExecutor } from './inline.js'

/** Slower than this, a call does not belong in the main thread, whose event loop it holds up. */
const SLOW_MS = 0.2

/** The descriptor that libuv's pool is sized by must be there before the process starts. */
const POOL_THREADS = 16

/** How long a child may take to end what it does, and a spare to show that it is well. */
const GRACE_MS = DEFAULTS.pkcs11.childGraceMs.value
/** So many attempts to bring the token back in one child; after them it is tried in another. */
const ATTEMPTS = DEFAULTS.pkcs11.childAttempts.value
const REFILL_MS = DEFAULTS.pkcs11.spareAfterMs.value

/** How the other end is started: by file; a test starts its own. */
export interface Starter {
  thread(lost: () => void): Channel
  process(lost: () => void): Channel
}

/** Where the file of the other end is: built beside this one. */
function entryFile(): string {
  return fileURLToPath(new URL('./pkcs11-host.js', import.meta.url))
}

export function startFrom(entry: () => string): Starter {
  return {
    thread: lost => {
      // No copy of the environment or the arguments of this process: there may be secrets in them.
      const worker = new Worker(entry(), { execArgv: [], argv: [] })
      worker.unref()
      worker.once('exit', lost)
      return portChannel(worker, () => void worker.terminate())
    },
    process: lost => {
      const environment = { ...process.env, UV_THREADPOOL_SIZE: `${POOL_THREADS}` }
      const { child, channel } = spawnChild(entry(), environment)
      child.once('error', lost)
      child.once('exit', lost)
      return channel
    },
  }
}

export const STARTER: Starter = startFrom(entryFile)

/** Opens the executor that the settings ask for; `auto` measures. Errors: as `pkcs11Backend`. */
export async function openRemote(
  settings: Settings,
  load: LoadBinding,
  known?: TokenFacts,
  starter: Starter = STARTER,
): Promise<Executor> {
  switch (settings.executor) {
    case 'inline':
      return InlineExecutor.open(settings, load, known)
    case 'threads':
      return ThreadsExecutor.open(settings, known, starter)
    case 'process':
      return ProcessExecutor.open(settings, starter)
    default: {
      if (known !== undefined && known.latencyMs > SLOW_MS)
        return ThreadsExecutor.open(settings, known, starter)
      const inline = await InlineExecutor.open(settings, load, known)
      const { facts } = inline
      if (facts.latencyMs <= SLOW_MS) return inline
      await inline.close()
      try {
        return await ThreadsExecutor.open(settings, facts, starter)
      } catch (error) {
        // Where no thread can be started (a bundle without its file), slow is better than not at all.
        if (error instanceof LostHost) return InlineExecutor.open(settings, load, facts)
        throw error
      }
    }
  }
}

/** One worker thread: at most one call. */
interface Lane {
  readonly host: RemoteHost
  busy: boolean
}

/** Waits for something, but not for ever. */
function within<T>(promise: Promise<T>, ms: number, problem: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = systemClock.after(ms, () => {
      reject(new BackendError('ERR_BACKEND_BUSY', problem, { retryable: true }))
    })
    promise.then(resolve, reject).finally(cancel)
  })
}

class ThreadsExecutor implements Executor {
  readonly kind = 'threads'
  readonly facts: TokenFacts
  readonly #settings: Settings
  readonly #starter: Starter
  readonly #elsewhere: ModuleElsewhere
  readonly #lanes: Lane[] = []
  #stuck = 0
  #closing = false

  private constructor(
    facts: TokenFacts,
    lane: Lane,
    settings: Settings,
    starter: Starter,
    elsewhere: ModuleElsewhere,
  ) {
    this.facts = facts
    this.#settings = settings
    this.#starter = starter
    this.#elsewhere = elsewhere
    this.#lanes.push(lane)
  }

  static async open(
    settings: Settings,
    known: TokenFacts | undefined,
    starter: Starter = STARTER,
  ): Promise<ThreadsExecutor> {
    const elsewhere = new ModuleElsewhere(settings.module, settings.initParameters)
    try {
      let executor: ThreadsExecutor | undefined
      const first = await startLane(settings, known, elsewhere.alone, starter, gone => {
        if (executor !== undefined) executor.#drop(gone)
      })
      executor = new ThreadsExecutor(first.facts, first.lane, settings, starter, elsewhere)
      // Each lane has an anchor and a working session. One after another: tokens answer badly to many at once.
      const most = Math.floor((sessionsOf(first.facts.token) ?? 8192) / 2)
      const wanted = Math.max(1, Math.min(settings.limits.max, most))
      for (let i = 1; i < wanted; i++) if (!(await executor.#addLane())) break
      return executor
    } catch (error) {
      elsewhere.release()
      throw error
    }
  }

  /** Besides those of the calls that hang: each has another thread in its place, and is under way all the same. */
  get lanes(): number {
    return this.#stuck + Math.max(1, this.#lanes.length)
  }

  get stuck(): number {
    return this.#stuck
  }

  async perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Promise<Jobs[Name]['result']> {
    const lane = this.#lanes.find(candidate => !candidate.busy)
    if (lane === undefined && this.#stuck === 0) throw new LostHost('thread')
    if (lane === undefined) {
      throw new BackendError(
        'ERR_BACKEND_BUSY',
        `no thread is free; ${this.#stuck} calls hang in the module: only the end of this process ends them`,
        { retryable: true },
      )
    }
    lane.busy = true
    let hangs = false
    const cancel = afterUnheld(this.#settings.timeouts.callMs, () => {
      hangs = true
      this.#giveUpOn(lane)
    })
    try {
      return await lane.host.perform(name, job)
    } finally {
      cancel()
      lane.busy = false
      if (hangs) {
        // It has come back after all; another has taken its place.
        this.#stuck--
        void lane.host
          .tell('close')
          .catch(() => undefined)
          .finally(() => lane.host.end())
      }
    }
  }

  async logIn(): Promise<void> {
    for (const { host } of this.#lanes) await this.#told(host, 'logIn')
  }

  async letGo(): Promise<void> {
    if (this.#stuck > 0) {
      throw new BackendError(
        'ERR_BACKEND_FAILED',
        `${this.#stuck} calls hang in the module, which therefore cannot be initialised anew: end this process, or use executor: 'process'`,
        { retryable: true },
      )
    }
    if (!this.#elsewhere.alone) {
      throw new BackendError(
        'ERR_BACKEND_FAILED',
        'the module must be initialised anew, and another backend of this process uses it: close that one first',
        { retryable: true },
      )
    }
    await this.#quiet()
    // All let go before the first comes back: each finalises the one library they share.
    for (const { host } of this.#lanes) await this.#told(host, 'letGo')
  }

  async comeBack(): Promise<void> {
    for (const { host } of this.#lanes) await this.#told(host, 'comeBack')
    while (this.#lanes.length < this.#settings.limits.max && (await this.#addLane())) {
      // Those that were lost on the way.
    }
  }

  async keepAlive(): Promise<void> {
    for (const lane of this.#lanes) {
      if (lane.busy) continue
      lane.busy = true
      try {
        await lane.host.tell('keepAlive')
      } finally {
        lane.busy = false
      }
    }
  }

  async close(): Promise<void> {
    this.#closing = true
    try {
      for (const { host } of this.#lanes.splice(0)) {
        await this.#told(host, 'close').catch(() => undefined)
        host.end()
      }
    } finally {
      this.#elsewhere.release()
    }
  }

  #told(host: RemoteHost, call: 'logIn' | 'letGo' | 'comeBack' | 'close'): Promise<void> {
    const { openMs, closeMs } = this.#settings.timeouts
    const ms = call === 'close' ? closeMs : openMs
    return within(host.tell(call), ms, `the token did not answer within ${ms} ms (${call})`)
  }

  /** Waits until no call is under way: finalising under one crashes the process. */
  async #quiet(): Promise<void> {
    const { callMs } = this.#settings.timeouts
    const until = systemClock.elapsed() + callMs
    while (this.#lanes.some(({ host }) => host.underWay > 0)) {
      if (systemClock.elapsed() > until) {
        throw new BackendError('ERR_BACKEND_BUSY', 'a call into the module does not end', { retryable: true })
      }
      await new Promise<void>(resolve => systemClock.after(5, resolve))
    }
  }

  async #addLane(): Promise<boolean> {
    try {
      const { lane } = await startLane(
        this.#settings,
        this.facts,
        this.#elsewhere.alone,
        this.#starter,
        gone => {
          const at = this.#lanes.indexOf(gone)
          if (at >= 0) this.#lanes.splice(at, 1)
        },
      )
      this.#lanes.push(lane)
      return true
    } catch {
      // Fewer lanes than asked for are no reason not to work.
      return false
    }
  }

  #drop(lane: Lane): void {
    const at = this.#lanes.indexOf(lane)
    if (at >= 0) this.#lanes.splice(at, 1)
  }

  #giveUpOn(lane: Lane): void {
    this.#stuck++
    this.#drop(lane)
    if (this.#closing || this.#stuck > this.#settings.limits.max) return
    void this.#addLane()
  }
}

async function startLane(
  settings: Settings,
  known: TokenFacts | undefined,
  alone: boolean,
  starter: Starter,
  lost: (lane: Lane) => void,
): Promise<{ lane: Lane; facts: TokenFacts }> {
  let lane: Lane | undefined
  const host = hostOf(starter.thread, 'thread', settings, () => lane && lost(lane))
  lane = { host, busy: false }
  try {
    const facts = await openHost(host, settings, known, alone)
    return { lane, facts }
  } catch (error) {
    host.kill()
    throw error
  }
}

function hostOf(
  start: (lost: () => void) => Channel,
  what: string,
  settings: Settings,
  lost: () => void,
): RemoteHost {
  let host: RemoteHost | undefined
  const channel = start(() => {
    host?.kill()
    lost()
  })
  host = new RemoteHost(channel, what, settings.login.pin, lost)
  return host
}

function openHost(
  host: RemoteHost,
  { onEvent: _onEvent, login, ...settings }: Settings,
  known: TokenFacts | undefined,
  alone: boolean,
): Promise<TokenFacts> {
  const message: HostSettings = {
    settings: { ...settings, login: { ...login, pin: undefined } },
    hasPin: login.pin !== undefined,
    known,
    alone,
  }
  const { openMs } = settings.timeouts
  return within(host.open(message), openMs, `the token did not open within ${openMs} ms`)
}

class ProcessExecutor implements Executor {
  readonly kind = 'process'
  readonly facts: TokenFacts
  readonly #settings: Settings
  readonly #starter: Starter
  onLost?: () => void
  #host: RemoteHost
  #spare: Promise<Child | undefined> | undefined
  #stuck = 0
  /** Attempts to come back in this child that have failed in a row. */
  #failed = 0
  #closing = false

  private constructor(child: Child, settings: Settings, starter: Starter) {
    this.#host = child.host
    const { facts } = child
    this.#watch(child)
    this.facts = facts
    this.#settings = settings
    this.#starter = starter
    this.#refill()
  }

  static async open(settings: Settings, starter: Starter = STARTER): Promise<ProcessExecutor> {
    return new ProcessExecutor(await startChild(settings, starter, undefined), settings, starter)
  }

  /** As many as the child has sessions; inline it takes them one after the other. */
  get lanes(): number {
    return this.#settings.limits.max
  }

  /** Children killed because a call hung in them. */
  get stuck(): number {
    return this.#stuck
  }

  async perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Promise<Jobs[Name]['result']> {
    const host = this.#host
    const cancel = afterUnheld(this.#settings.timeouts.callMs, () => {
      // The only way to end a native call that hangs.
      this.#stuck++
      host.kill()
    })
    try {
      return await host.perform(name, job)
    } finally {
      cancel()
    }
  }

  logIn(): Promise<void> {
    return within(
      this.#host.tell('logIn'),
      this.#settings.timeouts.openMs,
      'the token did not answer in time (logIn)',
    )
  }

  /** The child finalises the module; one that does not come to it in time has a call that hangs, and is killed. */
  async letGo(): Promise<void> {
    const host = this.#host
    await within(host.tell('letGo'), GRACE_MS, 'a call hangs').catch(() => host.kill())
  }

  /** In the same child as long as that helps, for it takes a tenth of the time; else in the spare, or in a new one. */
  async comeBack(): Promise<void> {
    const host = this.#host
    if (!host.isGone && this.#failed < ATTEMPTS) {
      try {
        const { openMs } = this.#settings.timeouts
        await within(host.tell('comeBack'), openMs, `the token did not open within ${openMs} ms`)
        this.#failed = 0
        void this.#checkSpare()
        return
      } catch (error) {
        this.#failed++
        if (!(error instanceof LostHost)) throw error
      }
    }
    this.#failed = 0
    const next = (await this.#takeSpare()) ?? (await startChild(this.#settings, this.#starter, this.facts))
    host.kill()
    this.#host = next.host
    this.#watch(next)
    this.#refillLater()
  }

  async keepAlive(): Promise<void> {
    const spare = await this.#spare
    await Promise.all([this.#host.tell('keepAlive'), spare?.host.tell('keepAlive').catch(() => undefined)])
  }

  async close(): Promise<void> {
    this.#closing = true
    const { closeMs } = this.#settings.timeouts
    for (const host of [this.#host, (await this.#spare)?.host]) {
      if (host === undefined) continue
      await within(host.tell('close'), closeMs, 'closing took too long').catch(() => undefined)
      host.end()
      host.kill()
    }
  }

  /** Says when the child that does the work has gone, so that another is there before the next call. */
  #watch({ host, gone }: Child): void {
    void gone.then(() => {
      if (this.#host === host && !this.#closing) this.onLost?.()
    })
  }

  /** The spare, if it is well: it has been logged in all the time, and may have lost its login with the others. */
  async #takeSpare(): Promise<Child | undefined> {
    const spare = await this.#spare
    this.#spare = undefined
    if (spare === undefined) return undefined
    try {
      await within(spare.host.perform('pulse', {}), GRACE_MS, 'the spare hangs')
      return spare
    } catch {
      spare.host.kill()
      return undefined
    }
  }

  /** After the token was away, what the spare has may be of the time before. */
  async #checkSpare(): Promise<void> {
    if (this.#spare === undefined) return
    const spare = await this.#takeSpare()
    if (spare !== undefined) this.#spare ??= Promise.resolve(spare)
    else this.#refillLater()
  }

  /** When those who wait have been served: starting a process holds up this one. */
  #refillLater(): void {
    afterUnheld(REFILL_MS, () => this.#refill())
  }

  #refill(): void {
    if (!this.#settings.spare || this.#closing || this.#spare !== undefined) return
    this.#spare = startChild(this.#settings, this.#starter, this.facts).then(
      child => {
        if (!this.#closing) return child
        child.host.kill()
        return undefined
      },
      () => undefined,
    )
  }
}

/** A child process that has opened the token. */
interface Child {
  readonly host: RemoteHost
  readonly facts: TokenFacts
  /** Settles when it has gone. */
  readonly gone: Promise<void>
}

async function startChild(
  settings: Settings,
  starter: Starter,
  known: TokenFacts | undefined,
): Promise<Child> {
  let lost = (): void => undefined
  const gone = new Promise<void>(resolve => {
    lost = resolve
  })
  const host = hostOf(starter.process, 'process', settings, () => lost())
  try {
    // Inside, the child measures by itself what suits the token.
    const facts = await openHost(host, { ...settings, executor: 'auto', spare: false }, known, true)
    return { host, facts, gone }
  } catch (error) {
    host.kill()
    throw error
  }
}
