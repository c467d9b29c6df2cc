/**
 * The queue in front of the executor. A job runs at once where it can; otherwise it waits, and its caller is released at
 * the end of its time whatever the token does: at its signal, after `waitMs` in the queue, after `callMs` in all. What a
 * native call still computes after that is wiped.
 *
 * What waits is put together: queued ECB jobs of one key and direction become one native call of up to 8192 blocks, each
 * caller getting its own part. Nothing waits in order to be put together. One block more goes with them, whose answer is
 * known: the zero block, which shows the key's check value, or the first block once more. Where it comes back wrong nobody
 * gets anything, and the token is tried anew.
 *
 * A job that fails because something was lost is tried once more after the supervisor has brought it back: all jobs are
 * idempotent.
 */

import { types } from 'node:util'
import { concatBytes, equalBytes, fromHex, ownCopy, secretBytes, wipe } from '../../../base/bytes.js'
import { systemClock, whenAborted } from '../../../base/deadline.js'
import { DEFAULTS } from '../../../base/defaults.js'
import { AbortedError, BackendError, isIssuerPinError } from '../../../base/errors.js'
import { blockBytesOf } from '../../../primitives/algorithms.js'
import { MAX_INPUT_BYTES } from '../../checks.js'
import type { MaybePromise } from '../../driver.js'
import { cureOf } from '../binding/errors.js'
import type { KeyRef } from '../keys/key-table.js'
import { wrongAnswer } from '../mechanisms/cipher.js'
import type { BlocksJob, Executor, JobName, Jobs } from './executor.js'
import type { Rung, Supervisor } from './supervisor.js'

/** Bounds of the queue, in callers and milliseconds. */
interface QueueLimits {
  /** Callers that may wait; the next one gets `ERR_BACKEND_BUSY` at once. */
  readonly queue: number
  /** How long a caller waits for its turn. */
  readonly waitMs: number
  /** How long a call takes at most, waiting included. */
  readonly callMs: number
  /** Whether queued ECB jobs of one key are put together. */
  readonly coalesce: boolean
}

interface Entry {
  readonly name: JobName
  readonly job: Jobs[JobName]['job']
  readonly settle: (outcome: { readonly value: unknown } | { readonly error: unknown }) => void
  done: boolean
  begun: boolean
  /** Not to be put together with others again. */
  alone: boolean
  /** How it has failed at once, where it has: it goes on with the cure. */
  readonly failed: unknown
}

const NONE: Uint8Array = secretBytes(0)

/** Native calls in this thread hold up the event loop: after this long, the next job waits for its next turn. */
const TURN_MS = DEFAULTS.pkcs11.turnMs.value

/** So many callers of one call are answered in one turn of the event loop: about a millisecond, with what each does next. */
const CALLERS_A_TURN = 64

/** Jobs that can be put together: ECB under one key. */
const ECB: readonly JobName[] = ['encipher', 'decipher']

export class Dispatcher {
  readonly #executor: Executor
  readonly #supervisor: Supervisor
  readonly #limits: QueueLimits
  readonly #queue = new Set<Entry>()
  #active = 0
  /** Since the first native call of this turn of the event loop, by the end of the last. */
  #busyMs = 0
  #turnBegan = 0
  /** A native call of this thread is under way: a binding may be JavaScript, and call back. */
  #inCall = false
  #turn = false
  /** Whoever has not been released, waiting or not. */
  readonly #entries = new Set<Entry>()
  #end: (() => void) | undefined

  constructor(executor: Executor, supervisor: Supervisor, limits: QueueLimits) {
    this.#executor = executor
    this.#supervisor = supervisor
    this.#limits = limits
  }

  /** Callers that wait now. */
  get waiting(): number {
    return this.#queue.size
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
    if (!this.#isFree()) return this.#enqueue(name, job, signal)
    try {
      return this.#timed(name, job)
    } catch (error) {
      if (cureOf(error) === 'none' && !isWrongAnswer(error)) throw error
      // Something was lost: now it is a matter of time, and of the caller's.
      return this.#enqueue(name, job, signal, error)
    }
  }

  /** Releases, after so long, everybody who is still here: closing waits for nobody for ever. */
  endWithin(ms: number): void {
    this.#end ??= systemClock.after(ms, () => {
      for (const entry of [...this.#entries]) entry.settle({ error: closed() })
    })
  }

  close(): void {
    this.#end?.()
  }

  /** True where the job can run here and now, with nobody before it. */
  #isFree(): boolean {
    return (
      this.#executor.kind === 'inline' &&
      this.#busyMs < TURN_MS &&
      !this.#inCall &&
      this.#queue.size === 0 &&
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

  #enqueue<Name extends JobName>(
    name: Name,
    job: Jobs[Name]['job'],
    signal: AbortSignal | undefined,
    failed?: unknown,
  ): Promise<Jobs[Name]['result']> {
    const { queue, waitMs, callMs } = this.#limits
    // What finds a free lane does not wait.
    if (this.#queue.size >= queue && (queue > 0 || this.#active >= this.#executor.lanes)) {
      return Promise.reject(busy(`${this.#queue.size} callers wait already`))
    }
    return new Promise<Jobs[Name]['result']>((resolve, reject) => {
      const expire = (): void => {
        if (!entry.begun) {
          entry.settle({ error: busy(`its turn did not come within ${Math.min(waitMs, callMs)} ms`) })
        } else if (callMs > waitMs) {
          cancel = systemClock.after(callMs - waitMs, late)
        } else late()
      }
      const late = (): void => entry.settle({ error: busy(`the token did not answer within ${callMs} ms`) })
      let cancel = systemClock.after(Math.min(waitMs, callMs), expire)
      const abort = (): void => entry.settle({ error: new AbortedError(signal?.reason) })
      const entry: Entry = {
        name,
        job,
        done: false,
        begun: false,
        alone: failed !== undefined,
        failed,
        settle: outcome => {
          if (entry.done) {
            // Too late: nobody may have it any more.
            if ('value' in outcome && types.isUint8Array(outcome.value)) wipe(outcome.value)
            return
          }
          entry.done = true
          cancel()
          release?.()
          this.#queue.delete(entry)
          this.#entries.delete(entry)
          if ('error' in outcome) reject(outcome.error)
          else resolve(outcome.value as Jobs[Name]['result'])
        },
      }
      const release = signal && whenAborted(signal, abort)
      this.#entries.add(entry)
      this.#queue.add(entry)
      this.#pump()
    })
  }

  /** Starts what can start. */
  #pump(): void {
    while (this.#active < this.#executor.lanes) {
      if (this.#executor.kind === 'inline' && (this.#inCall || this.#busyMs >= TURN_MS)) {
        this.#nextTurn()
        return
      }
      const [first] = this.#queue
      if (first === undefined) break
      const batch = this.#take(first)
      this.#active++
      void this.#serve(batch).finally(() => {
        this.#active--
        this.#pump()
      })
    }
  }

  /** The next entry, and those behind it that can share its call. */
  #take(first: Entry): [Entry, ...Entry[]] {
    const batch: [Entry, ...Entry[]] = [first]
    this.#queue.delete(first)
    first.begun = true
    if (!this.#limits.coalesce || first.alone || !ECB.includes(first.name)) return batch
    const { key, blocks, fields } = first.job as BlocksJob
    let bytes = blocks.length + blockBytesOf(key.algorithm)
    for (const entry of this.#queue) {
      if (entry.name !== first.name || entry.alone) continue
      const other = entry.job as BlocksJob
      if ((fields === undefined) !== (other.fields === undefined)) continue
      if (!isSameKey(key, other.key) || bytes + other.blocks.length > MAX_INPUT_BYTES) continue
      bytes += other.blocks.length
      this.#queue.delete(entry)
      entry.begun = true
      batch.push(entry)
      if (bytes === MAX_INPUT_BYTES) break
    }
    return batch
  }

  async #serve(batch: readonly [Entry, ...Entry[]]): Promise<void> {
    const [first, ...rest] = batch
    if (rest.length === 0) {
      await this.#serveOne(first)
      return
    }
    const jobs = batch.map(entry => entry.job as BlocksJob)
    const { key, blocks, fields } = first.job as BlocksJob
    const width = blockBytesOf(key.algorithm)
    // What the zero block becomes is known where the key shows it as its check value.
    const zero = first.name === 'encipher' && !fields && key.checkValue.method === 'encrypt-zero'
    const witness = zero ? secretBytes(width) : ownCopy(blocks.subarray(0, width))
    const together = concatBytes(...jobs.map(job => job.blocks), witness)
    const between =
      fields === undefined
        ? {}
        : { fields: concatBytes(...jobs.map(job => job.fields ?? NONE), fields.subarray(0, width)) }
    const requireWitness = (answer: Uint8Array): void => {
      const last = answer.subarray(answer.length - width)
      const value = zero ? fromHex(key.checkValue.value, 'check value') : answer.subarray(0, width)
      if (equalBytes(last.subarray(0, value.length), value)) return
      wipe(answer)
      throw wrongAnswer('answers a block among others wrongly')
    }
    let whole: Uint8Array | undefined
    try {
      const isWanted = (): boolean => batch.some(entry => !entry.done)
      const job = { key, blocks: together, ...between }
      whole = await this.#attempt(first.name as 'encipher', job, isWanted, { check: requireWitness })
      let from = 0
      for (const [i, entry] of batch.entries()) {
        const length = jobs[i]?.blocks.length ?? 0
        const part = whole.subarray(from, from + length)
        from += length
        if (!entry.done) entry.settle({ value: ownCopy(part) })
        // Each caller goes on in this turn: hundreds of them would hold up the event loop.
        if ((i + 1) % CALLERS_A_TURN === 0) await new Promise<void>(resolve => setImmediate(resolve))
      }
    } catch (error) {
      // One caller's blocks are no reason to fail another's: each tries by itself.
      for (const entry of batch) {
        if (entry.done) continue
        entry.alone = true
        if (cureOf(error) === 'none' && !isWrongAnswer(error)) this.#again(entry)
        else entry.settle({ error })
      }
    } finally {
      wipe(together, between.fields, witness, whole)
    }
  }

  #again(entry: Entry): void {
    entry.begun = false
    this.#queue.add(entry)
  }

  async #serveOne(entry: Entry): Promise<void> {
    try {
      const { failed } = entry
      const value = await this.#attempt(entry.name, entry.job, () => !entry.done, { failed })
      entry.settle({ value })
    } catch (error) {
      entry.settle({ error })
    }
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

function isSameKey(a: KeyRef, b: KeyRef): boolean {
  return a.name === b.name
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

function isLostHost(error: unknown): boolean {
  return error instanceof LostHost
}

function busy(problem: string): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', problem, { retryable: true })
}

function closed(): BackendError {
  return new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
}
