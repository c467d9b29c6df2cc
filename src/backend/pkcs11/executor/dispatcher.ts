/**
 * The queue in front of the executor. A job runs at once where it can; otherwise its caller waits for a lane.
 *
 * What waits is put together. Nothing waits in order to be put together, but for the turn of the event loop in which others
 * were answered together: who has asked once mostly asks again. Free lanes share what waits. Where the token has answered
 * wrongly it is tried anew. Hundreds are answered a share at a time, with a turn of the event loop between, so that nothing
 * else waits for all of them.
 *
 * A job that fails because something was lost is tried once more after the supervisor has brought it back: all jobs are
 * idempotent.
 */

import { withWiped } from '../../../base/bytes.js'
import { systemClock } from '../../../base/deadline.js'
import { DEFAULTS } from '../../../base/defaults.js'
import { BackendError, isIssuerPinError } from '../../../base/errors.js'
import type { MaybePromise } from '../../driver.js'
import { cureOf } from '../binding/errors.js'
import type { KeyRef } from '../keys/key-table.js'
import { busy, Callers, Entry, type Failed, type Outcome, type QueueLimits } from './callers.js'
import type { Executor, JobName, Jobs } from './executor.js'
import { answerPart, type Batch, bytesOf, SHARE, sharedCall, takeTogether } from './shared-call.js'
import type { Rung, Supervisor } from './supervisor.js'

interface DispatchLimits extends QueueLimits {
  /** Whether queued ECB jobs of one key are put together. */
  readonly coalesce: boolean
}

/** Native calls in this thread hold up the event loop: after this long, the next job waits for its next turn. */
const TURN_MS = DEFAULTS.pkcs11.turnMs.value

/** So many callers of one call are answered in one turn of the event loop: about a millisecond, with what each does next. */
const CALLERS_A_TURN = 64

export class Dispatcher {
  readonly #executor: Executor
  readonly #supervisor: Supervisor
  readonly #coalesce: boolean
  readonly #failed: Failed
  readonly #callers: Callers
  #active = 0
  /** Since the first native call of this turn of the event loop, by the end of the last. */
  #busyMs = 0
  #turnBegan = 0
  /** A native call of this thread is under way: a binding may be JavaScript, and call back. */
  #inCall = false
  #turn = false
  /** Many were answered in this turn of the event loop: what they ask next is put together. */
  #together = false
  /** Batches whose callers are being answered, a part in each turn. */
  #handing = 0

  constructor(
    executor: Executor,
    supervisor: Supervisor,
    limits: DispatchLimits,
    failed: Failed = () => undefined,
  ) {
    this.#executor = executor
    this.#supervisor = supervisor
    this.#coalesce = limits.coalesce
    this.#failed = failed
    this.#callers = new Callers(limits, failed)
  }

  /** Callers that wait now. */
  get waiting(): number {
    return this.#callers.waiting
  }

  /**
   * Runs a job. Errors: those of the job; `ERR_ABORTED`; `ERR_BACKEND_BUSY` (retryable): the queue is full, or the time is
   * up; why the token does not come back, where it is away.
   */
  run<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
  ): MaybePromise<Jobs[Name]['result']> {
    let failed: unknown
    if (this.#isFree()) {
      try {
        return this.#timed(name, job)
      } catch (error) {
        failed = this.#curable(name, error)
      }
    }
    return this.#enqueue(new Entry(name, job, failed), signal) as Promise<Jobs[Name]['result']>
  }

  /** As {@link run}, from blocks that are the caller's own into memory as long; undefined where that is done. */
  encipherInto(
    key: KeyRef,
    blocks: Uint8Array,
    into: Uint8Array<ArrayBuffer>,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> | undefined {
    let failed: unknown
    if (this.#isFree()) {
      try {
        this.#timed('encipher', { key, blocks, into })
        return undefined
      } catch (error) {
        failed = this.#curable('encipher', error)
      }
    }
    const own = this.#callers.copyOf(blocks)
    const entry = new Entry('encipher', { key, blocks: own }, failed, into)
    return this.#enqueue(entry, signal) as Promise<Uint8Array>
  }

  /** Something was lost that can be brought back: it is a matter of time then, and of the caller's. */
  #curable(name: JobName, error: unknown): unknown {
    if (isCurable(error)) return error
    this.#failed(name, error)
    throw error
  }

  /** Releases, after so long, everybody who is still here: closing waits for nobody for ever. */
  endWithin(ms: number): void {
    this.#callers.endWithin(ms)
  }

  close(): void {
    this.#callers.close()
  }

  /** True where the job can run here and now, with nobody before it. */
  #isFree(): boolean {
    return (
      this.#executor.kind === 'inline' &&
      this.#busyMs < TURN_MS &&
      !this.#inCall &&
      this.#callers.waiting === 0 &&
      this.#active === 0 &&
      this.#supervisor.state === 'open'
    )
  }

  /** In this thread, counting the time that its event loop is held up. */
  #timed<Name extends JobName>(name: Name, job: Jobs[Name]['job']): MaybePromise<Jobs[Name]['result']> {
    if (this.#executor.kind !== 'inline') return this.#executor.perform(name, job)
    if (!this.#turn) {
      this.#turnBegan = systemClock.elapsed()
      this.#nextTurn()
    }
    this.#inCall = true
    try {
      return this.#executor.perform(name, job)
    } finally {
      this.#inCall = false
      this.#busyMs = systemClock.elapsed() - this.#turnBegan
    }
  }

  #nextTurn(): void {
    if (this.#turn) return
    this.#turn = true
    setImmediate(() => {
      this.#turn = false
      this.#busyMs = 0
      this.#pump()
    })
  }

  #enqueue(entry: Entry, signal: AbortSignal | undefined): Promise<unknown> {
    const isLaneFree = this.#active + this.#callers.waiting < this.#executor.lanes
    if (this.#callers.enter(entry, signal, isLaneFree) && !this.#together) this.#pump()
    return entry.answer
  }

  /** Starts what can start. */
  #pump(): void {
    while (this.#active < this.#executor.lanes) {
      if (this.#executor.kind === 'inline' && (this.#inCall || this.#busyMs >= TURN_MS)) {
        this.#nextTurn()
        return
      }
      const first = this.#callers.next
      if (first === undefined) break
      const batch = this.#take(first)
      this.#active++
      void this.#serve(batch)
    }
  }

  #take(first: Entry): Batch {
    if (this.#coalesce) return takeTogether(this.#callers, first, this.#executor.lanes - this.#active)
    this.#callers.begin(first)
    return [first]
  }

  async #serve(batch: Batch): Promise<void> {
    const [first, second] = batch
    try {
      if (second === undefined) await this.#serveOne(first)
      else await this.#serveTogether(batch)
    } finally {
      this.#pump()
    }
  }

  /** The lane is free: in another thread the next call begins before this one's callers are told. */
  #leaveLane(): void {
    this.#active--
    if (this.#executor.kind !== 'inline') this.#pump()
  }

  async #serveTogether(batch: Batch): Promise<void> {
    const isWanted = (): boolean => batch.some(entry => !entry.done)
    let whole: Uint8Array
    try {
      const call = sharedCall(batch)
      try {
        whole = await this.#attempt(call.name, call.job, isWanted, { check: call.check })
      } finally {
        call.wipe()
      }
    } catch (error) {
      // One caller's blocks are no reason to fail another's: each tries by itself.
      for (const entry of batch) {
        if (entry.done) continue
        entry.alone = true
        if (isCurable(error)) this.#callers.settle(entry, { error })
        else this.#callers.again(entry)
      }
      this.#leaveLane()
      return
    }
    this.#leaveLane()
    this.#handing++
    try {
      await withWiped(whole, answer => this.#handOut(batch, answer))
    } finally {
      this.#handing--
    }
  }

  /** To each caller its part: {@link CALLERS_A_TURN} of them in a turn of the event loop. */
  async #handOut(batch: Batch, whole: Uint8Array): Promise<void> {
    let from = 0
    for (const [i, entry] of batch.entries()) {
      // Each caller goes on in this turn: hundreds of them would hold up the event loop.
      if (i % CALLERS_A_TURN === 0) {
        if (i > 0) await new Promise<void>(resolve => setImmediate(resolve))
        this.#gather()
      }
      if (!entry.done) this.#callers.settle(entry, partFor(entry, whole, from))
      from += bytesOf(entry)
    }
  }

  /** What is asked in the rest of this turn of the event loop begins at its end; or when more have been answered, if it is little. */
  #gather(): void {
    if (this.#together) return
    this.#together = true
    setImmediate(() => {
      this.#together = false
      if (this.#handing === 0 || this.#callers.waiting >= SHARE) this.#pump()
    })
  }

  async #serveOne(entry: Entry): Promise<void> {
    let outcome: Outcome
    try {
      const { failed } = entry
      outcome = { value: await this.#attempt(entry.name, entry.job, () => !entry.done, { failed }) }
    } catch (error) {
      outcome = { error }
    }
    this.#leaveLane()
    this.#callers.settle(entry, outcome)
  }

  /** Once, and once more after what was lost has been brought back. */
  async #attempt<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    isWanted: () => boolean,
    { failed, check }: { failed?: unknown; check?: (result: Jobs[Name]['result']) => void },
  ): Promise<Jobs[Name]['result']> {
    const once = async (): Promise<Jobs[Name]['result']> => {
      const result = await this.#timed(name, job)
      check?.(result)
      return result
    }
    await this.#supervisor.gate()
    if (!isWanted()) throw busy('its time was up before its turn came')
    const { generation } = this.#supervisor
    let error = failed
    if (error === undefined) {
      try {
        return await once()
      } catch (caught) {
        error = caught
      }
    }
    const rung = await this.#rungFor(error)
    if (rung === undefined) throw error
    await this.#supervisor.recover(rung, error as Error, generation)
    // The front wipes what a released caller has given, so there may be nothing left to try with.
    if (!isWanted()) throw error
    return once()
  }

  /** What brings back what an error says is lost; undefined where nothing is. */
  async #rungFor(error: unknown): Promise<Rung | undefined> {
    if (isLostHost(error) || isWrongAnswer(error)) return 'initialise'
    switch (cureOf(error)) {
      case 'login':
        return 'login'
      case 'initialise':
        return 'initialise'
      // What even a new session did not cure: the anchor, or the module.
      case 'session':
      case 'key':
      case 'ask':
        return this.#ask()
      default:
        return undefined
    }
  }

  /** Exercises the session key: a general error may be about the data, and must not bring the token down for all. */
  async #ask(): Promise<Rung | undefined> {
    try {
      await this.#timed('pulse', {})
      return undefined
    } catch (error) {
      return cureOf(error) === 'login' ? 'login' : 'initialise'
    }
  }
}

/** The thread or process in which the calls ran is gone. */
export class LostHost extends BackendError {
  constructor(how: string) {
    super('ERR_BACKEND_FAILED', `the ${how} that makes the calls into the module has gone`, {
      retryable: true,
    })
  }
}

/** The token computes wrongly: it is initialised anew and tried, and nothing of it is used before. */
function isWrongAnswer(error: unknown): boolean {
  return isIssuerPinError(error) && error.code === 'ERR_PKCS11_SELF_TEST'
}

/** Without memory for one caller's part, the others still get theirs. */
function partFor(entry: Entry, whole: Uint8Array, from: number): Outcome {
  try {
    return { value: answerPart(entry, whole, from) }
  } catch (error) {
    return { error }
  }
}

function isCurable(error: unknown): boolean {
  return cureOf(error) !== 'none' || isWrongAnswer(error)
}

function isLostHost(error: unknown): boolean {
  return error instanceof LostHost
}
