/**
 * The executor `threads`: so many worker threads over one login, one session each, one call each. One that hangs cannot be
 * ended; it is given up, counted and replaced, up to as many again. While one hangs the module cannot be initialised anew,
 * for that would pull it from under the call.
 */
import { afterUnheld, systemClock } from '../../../base/deadline.js'
import { BackendError } from '../../../base/errors.js'
import { sessionsOf, type TokenFacts } from '../session/connection.js'
import { ModuleElsewhere } from '../session/module.js'
import type { Settings } from '../session/options.js'
import type { Starter } from './channels.js'
import { LostHost } from './dispatcher.js'
import type { Executor, JobName, Jobs } from './executor.js'
import { hostOf, openHost, type RemoteHost, within } from './host.js'

/** One worker thread: at most one call. */
interface Lane {
  readonly host: RemoteHost
  busy: boolean
}

export class ThreadsExecutor implements Executor {
  readonly kind = 'threads'
  readonly facts: TokenFacts
  readonly #settings: Settings
  readonly #starter: Starter
  readonly #elsewhere: ModuleElsewhere
  readonly #lanes: Lane[] = []
  /** Each has an anchor and a working session: more threads would be without. */
  readonly #wanted: number
  /** Calls that hang. */
  #stuck = 0
  /** Threads that hang while they are kept alive: no call of the queue's is under way there. */
  #silent = 0
  /** Ends when the thread that is being kept alive is free again, or given up and replaced. */
  #kept: Promise<void> | undefined
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
    const most = Math.floor((sessionsOf(facts.token) ?? 8192) / 2)
    this.#wanted = Math.max(1, Math.min(settings.limits.max, most))
  }

  static async open(
    settings: Settings,
    known: TokenFacts | undefined,
    starter: Starter,
  ): Promise<ThreadsExecutor> {
    const elsewhere = new ModuleElsewhere(settings.module, settings.initParameters)
    try {
      let executor: ThreadsExecutor | undefined
      const first = await startLane(settings, known, elsewhere.alone, starter, gone => {
        if (executor !== undefined) executor.#drop(gone)
      })
      executor = new ThreadsExecutor(first.facts, first.lane, settings, starter, elsewhere)
      // One after another: tokens answer badly to many at once.
      for (let i = 1; i < executor.#wanted; i++) if (!(await executor.#addLane())) break
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
    return this.#stuck + this.#silent
  }

  async perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Promise<Jobs[Name]['result']> {
    let lane = this.#idle()
    while (lane === undefined && this.#kept !== undefined) {
      await this.#kept
      lane = this.#idle()
    }
    if (lane !== undefined)
      return this.#use(
        lane,
        host => host.perform(name, job),
        more => {
          this.#stuck += more
        },
      )
    if (this.stuck === 0) throw new LostHost('thread')
    throw new BackendError(
      'ERR_BACKEND_BUSY',
      `no thread is free; ${this.stuck} calls hang in the module: only the end of this process ends them`,
      { retryable: true },
    )
  }

  #idle(): Lane | undefined {
    return this.#lanes.find(({ busy }) => !busy)
  }

  /** One call in a thread; `hung` counts it where it does not end in time. */
  async #use<T>(
    lane: Lane,
    call: (host: RemoteHost) => Promise<T>,
    hung: (more: number, replaced?: Promise<unknown>) => void,
  ): Promise<T> {
    lane.busy = true
    let hangs = false
    const cancel = afterUnheld(this.#settings.timeouts.callMs, () => {
      hangs = true
      hung(1, this.#giveUpOn(lane))
    })
    try {
      return await call(lane.host)
    } finally {
      cancel()
      lane.busy = false
      if (hangs) {
        // It has come back after all; another has taken its place.
        hung(-1)
        this.#end(lane)
      }
    }
  }

  #end({ host }: Lane): void {
    void this.#told(host, 'close')
      .catch(() => undefined)
      .finally(() => host.end())
  }

  async logIn(): Promise<void> {
    for (const { host } of [...this.#lanes]) await this.#told(host, 'logIn')
  }

  async letGo(): Promise<void> {
    this.#requireAlone()
    await this.#quiet()
    // A call that has hung meanwhile is given up, and is in the module all the same.
    this.#requireAlone()
    // All let go before the first comes back: each finalises the one library they share.
    for (const { host } of [...this.#lanes]) await this.#told(host, 'letGo')
  }

  /** Whether the module may be finalised: not under a call that hangs, nor under somebody else's. */
  #requireAlone(): void {
    if (this.stuck > 0) {
      throw new BackendError(
        'ERR_BACKEND_FAILED',
        `${this.stuck} calls hang in the module, which therefore cannot be initialised anew: end this process, or use executor: 'process'`,
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
  }

  async comeBack(): Promise<void> {
    for (const { host } of [...this.#lanes]) await this.#told(host, 'comeBack')
    while (this.#lanes.length < this.#wanted && (await this.#addLane())) {
      // Those that were lost on the way.
    }
  }

  /** One after the other; while one hangs, no other is tried, for all might hang one by one. */
  async keepAlive(): Promise<void> {
    for (const lane of [...this.#lanes]) {
      if (this.#kept !== undefined || this.#silent > 0) return
      if (lane.busy) continue
      let free: () => void
      this.#kept = new Promise<void>(resolve => {
        free = () => {
          this.#kept = undefined
          resolve()
        }
      })
      const kept = this.#use(
        lane,
        host => host.tell('keepAlive'),
        (more, replaced) => {
          this.#silent += more
          void replaced?.then(() => free())
        },
      )
      await kept.finally(() => free())
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
    if (this.#closing) return false
    try {
      const { lane } = await startLane(
        this.#settings,
        this.facts,
        this.#elsewhere.alone,
        this.#starter,
        gone => this.#drop(gone),
      )
      if (this.#closing) {
        // Nobody will use it, and nobody else will end it.
        this.#end(lane)
        return false
      }
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

  async #giveUpOn(lane: Lane): Promise<void> {
    this.#drop(lane)
    // Those that hung before this one.
    if (this.stuck < this.#settings.limits.max) await this.#addLane()
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
