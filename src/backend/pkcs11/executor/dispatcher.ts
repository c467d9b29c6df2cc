/**
 * The queue in front of the executor. A job runs at once where it can; otherwise it waits, and its caller is released at
 * the end of its time whatever the token does: at its signal, after `waitMs` in the queue, after `callMs` in all. What a
 * native call still computes after that is wiped.
 *
 * What waits is put together: queued ECB jobs of one key and direction become one native call of up to 8192 blocks, each
 * caller getting its own part. Nothing waits in order to be put together, but for the turn of the event loop in which others
 * were answered together: who has asked once mostly asks again. Free lanes share what waits. One block more goes with them,
 * whose answer is known: the zero block, which shows the key's check value, or the first block once more. Where it comes back
 * wrong nobody gets anything, and the token is tried anew. Hundreds are answered a share at a time, with a turn of the event
 * loop between, so that nothing else waits for all of them.
 *
 * A job that fails because something was lost is tried once more after the supervisor has brought it back: all jobs are
 * idempotent.
 */

import { types } from 'node:util'
import { equalBytes, fromHex, ownCopy, secretBytes, wipe, withWiped } from '../../../base/bytes.js'
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

type Outcome = { readonly value: unknown } | { readonly error: unknown }

/** A job that waits, and whose it is. */
class Entry {
  readonly name: JobName
  readonly job: Jobs[JobName]['job']
  /** How it has failed at once, where it has: it goes on with the cure. */
  readonly failed: unknown
  /** Where the answer goes, where the caller has memory for it. */
  readonly into: Uint8Array<ArrayBuffer> | undefined
  /** When it came, in milliseconds. */
  readonly since: number = systemClock.elapsed()
  readonly answer: Promise<unknown>
  done = false
  begun = false
  /** Not to be put together with others again. */
  alone: boolean
  /** Ends the wait for its caller's signal. */
  release: (() => void) | undefined
  resolve: (value: unknown) => void = nothing
  reject: (error: unknown) => void = nothing

  constructor(name: JobName, job: Jobs[JobName]['job'], failed: unknown, into?: Uint8Array<ArrayBuffer>) {
    this.name = name
    this.job = job
    this.failed = failed
    this.into = into
    this.alone = failed !== undefined
    this.answer = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }
}

const nothing = (): void => undefined

/**
 * Memory for blocks that wait, used again when they have been answered: new memory off the heap for each keeps the garbage
 * collector as busy as all the rest.
 */
class Spares {
  readonly #free = new Map<number, Uint8Array[]>([8, 16].map(length => [length, []]))

  copyOf(blocks: Uint8Array): Uint8Array {
    const spare = this.#free.get(blocks.length)?.pop()
    if (spare === undefined) return ownCopy(blocks)
    spare.set(blocks)
    return spare
  }

  giveBack(copy: Uint8Array): void {
    wipe(copy)
    const free = this.#free.get(copy.length)
    if (free !== undefined && free.length < SPARES) free.push(copy)
  }
}

/** As many as may wait by default. */
const SPARES = DEFAULTS.pkcs11.queue.value

/** So many callers at least make a native call where lanes are free for more. */
const SHARE = 128
/** By so much a timer may come too early. */
const MAX_EARLY_MS = 1

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
  /** Hears why a job has failed. */
  readonly #failed: (name: JobName, error: unknown) => void
  readonly #spares = new Spares()
  readonly #queue = new Set<Entry>()
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
  #endTimer: (() => void) | undefined
  /** When the timer fires. */
  #endsAt = Number.POSITIVE_INFINITY
  /** Whoever has not been released, waiting or not, in the order in which they came. */
  readonly #entries = new Set<Entry>()
  #end: (() => void) | undefined

  constructor(
    executor: Executor,
    supervisor: Supervisor,
    limits: QueueLimits,
    failed: (name: JobName, error: unknown) => void = nothing,
  ) {
    this.#executor = executor
    this.#supervisor = supervisor
    this.#limits = limits
    this.#failed = failed
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
    const own = this.#spares.copyOf(blocks)
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
    this.#end ??= systemClock.after(ms, () => {
      for (const entry of [...this.#entries]) this.#settle(entry, { error: closed() })
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

  #enqueue(entry: Entry, signal: AbortSignal | undefined): Promise<unknown> {
    const { queue } = this.#limits
    // What finds a free lane does not wait.
    if (this.#queue.size >= queue && (queue > 0 || this.#active >= this.#executor.lanes)) {
      this.#settle(entry, { error: busy(`${this.#queue.size} callers wait already`) })
      return entry.answer
    }
    if (signal !== undefined) {
      const abort = (): void => this.#settle(entry, { error: new AbortedError(signal.reason) })
      entry.release = whenAborted(signal, abort)
    }
    this.#entries.add(entry)
    this.#queue.add(entry)
    this.#watchUntil(entry.since + this.#timeOf(entry))
    if (!this.#together) this.#pump()
    return entry.answer
  }

  #settle(entry: Entry, outcome: Outcome): void {
    if (entry.done) {
      // Too late: nobody may have it any more.
      if ('value' in outcome && types.isUint8Array(outcome.value)) wipe(outcome.value)
      return
    }
    entry.done = true
    entry.release?.()
    this.#queue.delete(entry)
    this.#entries.delete(entry)
    if (this.#entries.size === 0) this.#stopWatching()
    const { into } = entry
    // Nothing of this job is read any more: who does reads it before the first wait, and looks whether it is wanted.
    if (into !== undefined) this.#spares.giveBack((entry.job as BlocksJob).blocks)
    if ('error' in outcome) {
      this.#failed(entry.name, outcome.error)
      entry.reject(outcome.error)
      return
    }
    const { value } = outcome
    // One of another length is for the front to refuse.
    if (into === undefined || !types.isUint8Array(value) || value.length !== into.length) {
      entry.resolve(value)
      return
    }
    into.set(value)
    wipe(value)
    entry.resolve(into)
  }

  /** How long an entry may take, from when it came: until its turn, or in all. */
  #timeOf({ begun }: Entry): number {
    const { waitMs, callMs } = this.#limits
    return begun ? callMs : Math.min(waitMs, callMs)
  }

  /** Releases those whose time is up. One timer for all: they come in the order in which it will be. */
  #expire(): void {
    this.#stopWatching()
    const now = systemClock.elapsed()
    let next = Number.POSITIVE_INFINITY
    for (const entry of this.#entries) {
      const ms = this.#timeOf(entry)
      const left = entry.since + ms - now
      if (left <= MAX_EARLY_MS) {
        const late = entry.begun ? 'the token did not answer' : 'its turn did not come'
        this.#settle(entry, { error: busy(`${late} within ${ms} ms`) })
        continue
      }
      next = Math.min(next, left)
      // Whoever waits behind one who waits came later.
      if (!entry.begun) break
    }
    if (this.#entries.size > 0) this.#watchUntil(now + next)
  }

  /** At that time at the latest: whoever comes while all others have begun is the first whose time is up. */
  #watchUntil(endsAt: number): void {
    if (this.#endsAt <= endsAt) return
    this.#stopWatching()
    this.#endsAt = endsAt
    this.#endTimer = systemClock.after(endsAt - systemClock.elapsed(), () => this.#expire())
  }

  #stopWatching(): void {
    this.#endTimer?.()
    this.#endTimer = undefined
    this.#endsAt = Number.POSITIVE_INFINITY
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
      void this.#serve(batch)
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
    const waiting = this.#queue.size + 1
    const lanes = Math.min(this.#executor.lanes - this.#active, Math.floor(waiting / SHARE))
    const share = Math.ceil(waiting / Math.max(1, lanes))
    for (const entry of this.#queue) {
      if (entry.name !== first.name || entry.alone) continue
      const other = entry.job as BlocksJob
      if ((fields === undefined) !== (other.fields === undefined)) continue
      if (!isSameKey(key, other.key) || bytes + other.blocks.length > MAX_INPUT_BYTES) continue
      bytes += other.blocks.length
      this.#queue.delete(entry)
      entry.begun = true
      batch.push(entry)
      if (bytes === MAX_INPUT_BYTES || batch.length >= share) break
    }
    return batch
  }

  async #serve(batch: readonly [Entry, ...Entry[]]): Promise<void> {
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

  async #serveTogether(batch: readonly [Entry, ...Entry[]]): Promise<void> {
    const [first] = batch
    const { key, blocks, fields } = first.job as BlocksJob
    const width = blockBytesOf(key.algorithm)
    // What the zero block becomes is known where the key shows it as its check value.
    const zero = first.name === 'encipher' && !fields && key.checkValue.method === 'encrypt-zero'
    const witness = zero ? secretBytes(width) : ownCopy(blocks.subarray(0, width))
    const together = joined(batch, 'blocks', witness)
    const between = fields === undefined ? {} : { fields: joined(batch, 'fields', fields.subarray(0, width)) }
    const requireWitness = (answer: Uint8Array): void => {
      const last = answer.subarray(answer.length - width)
      const value = zero ? fromHex(key.checkValue.value, 'check value') : answer.subarray(0, width)
      // Of another length, everybody's part would be where another's is.
      const isWhole = answer.length === together.length
      if (isWhole && equalBytes(last.subarray(0, value.length), value)) return
      wipe(answer)
      throw wrongAnswer('answers a block among others wrongly')
    }
    const isWanted = (): boolean => batch.some(entry => !entry.done)
    const job = { key, blocks: together, ...between }
    let whole: Uint8Array
    try {
      whole = await this.#attempt(first.name as 'encipher', job, isWanted, { check: requireWitness })
    } catch (error) {
      // One caller's blocks are no reason to fail another's: each tries by itself.
      for (const entry of batch) {
        if (entry.done) continue
        entry.alone = true
        if (isCurable(error)) this.#settle(entry, { error })
        else this.#again(entry)
      }
      this.#leaveLane()
      return
    } finally {
      wipe(together, between.fields, witness)
    }
    this.#leaveLane()
    await withWiped(whole, answer => this.#handOut(batch, answer))
  }

  /** To each caller its part, in memory of its own: {@link CALLERS_A_TURN} of them in a turn of the event loop. */
  async #handOut(batch: readonly Entry[], whole: Uint8Array): Promise<void> {
    let from = 0
    this.#handing++
    for (const [i, entry] of batch.entries()) {
      // Each caller goes on in this turn: hundreds of them would hold up the event loop.
      if (i % CALLERS_A_TURN === 0) {
        if (i > 0) await new Promise<void>(resolve => setImmediate(resolve))
        this.#gather()
      }
      const { length } = (entry.job as BlocksJob).blocks
      const to = from + length
      const part = whole.subarray(from, to)
      if (!entry.done) this.#settle(entry, { value: entry.into === undefined ? ownCopy(part) : part })
      from = to
    }
    this.#handing--
  }

  /** What is asked in the rest of this turn of the event loop begins at its end; or when more have been answered, if it is little. */
  #gather(): void {
    if (this.#together) return
    this.#together = true
    setImmediate(() => {
      this.#together = false
      if (this.#handing === 0 || this.#queue.size >= SHARE) this.#pump()
    })
  }

  #again(entry: Entry): void {
    entry.begun = false
    this.#queue.add(entry)
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
    this.#settle(entry, outcome)
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

/** What the jobs of a batch have one by one, and one block more, in one piece. */
function joined(batch: readonly Entry[], part: 'blocks' | 'fields', last: Uint8Array): Uint8Array {
  const parts = batch.flatMap(({ job }) => (job as BlocksJob)[part] ?? [])
  const whole = secretBytes(parts.reduce((length, bytes) => length + bytes.length, last.length))
  let at = 0
  for (const bytes of parts) {
    whole.set(bytes, at)
    at += bytes.length
  }
  whole.set(last, at)
  return whole
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

function isCurable(error: unknown): boolean {
  return cureOf(error) !== 'none' || isWrongAnswer(error)
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
