/**
 * What whoever opens a backend decides for everybody after him: the key ring, which says what may be bound and for how
 * much, and a hook that is asked before each operation, with one that bounds operations per key and time.
 */
import { type Channel, channel } from 'node:diagnostics_channel'
import { readOptions } from '../base/arguments.js'
import { systemClock } from '../base/deadline.js'
import { ArgumentError, BackendError, isIssuerPinError, KeyError } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import { isWithin } from '../key/usage.js'
import type { BindSpec, KeyUse, OpenerOptions } from './backend.js'
import { type ReadSpec, readSpec } from './checks.js'

/**
 * Where binds and uses of keys are published, for whoever records them: `node:diagnostics_channel` `issuer-pin-crypto:keys`.
 * `{ event: 'bind', kid, usage, mode, queue, outcome, code?, durationMs }`; before each operation `{ event: 'use', … }` with a
 * {@link KeyUse}, and after it `{ event: 'used', … }` with its queue, outcome and duration; `{ event: 'store', operation, kid, usage?, … }`
 * for what a key store does to the keys of its token. `queue` is how many others of the backend had begun and not ended
 * by then: at work, or waiting for a session. `durationMs` is all the time from there, waiting included.
 */
export const KEY_EVENTS: Channel = channel('issuer-pin-crypto:keys')

/** Begins what {@link KEY_EVENTS} tells the end of: how it ended, and how long it took. */
export function endOf(event: Readonly<Record<string, unknown>>): (error?: unknown) => void {
  const started = systemClock.elapsed()
  return error => {
    const code = isIssuerPinError(error) ? { code: error.code } : {}
    const outcome = error === undefined ? 'success' : 'failed'
    KEY_EVENTS.publish({ ...event, outcome, ...code, durationMs: systemClock.elapsed() - started })
  }
}

/** The names of {@link OpenerOptions}. */
export const OPENER_OPTIONS: readonly (keyof OpenerOptions)[] = ['ring', 'onOperation']

/** What may be bound, by kid. */
export type KeyRing = ReadonlyMap<string, ReadSpec>

/** {@link OpenerOptions} that have been read. */
export interface Opener {
  readonly ring: KeyRing | undefined
  readonly onOperation: ((use: KeyUse) => void) | undefined
}

/** The opener's options out of those of a backend, which have been read; `ERR_ARGUMENT`. */
export function readOpener({ ring, onOperation }: OpenerOptions): Opener {
  if (onOperation !== undefined && typeof onOperation !== 'function')
    throw new ArgumentError('onOperation must be a function')
  return {
    ring: ring === undefined ? undefined : readRing(ring),
    onOperation: onOperation === undefined ? undefined : use => ask(onOperation, use),
  }
}

const MAX_RING_KEYS = 10_000

function readRing(given: readonly BindSpec[]): KeyRing {
  if (!Array.isArray(given) || given.length > MAX_RING_KEYS)
    throw new ArgumentError(`ring must be a list of at most ${MAX_RING_KEYS} keys`)
  const ring = new Map<string, ReadSpec>()
  for (const entry of [...given]) {
    const key = readSpec(entry, 'a key of the ring')
    if (ring.has(key.kid)) throw new ArgumentError(`ring: two keys by the kid ${key.kid}`)
    ring.set(key.kid, key)
  }
  return ring
}

/** What the ring says of a key; `ERR_BACKEND_SEALED` where it does not have it, or not so wide. */
export function requireInRing(ring: KeyRing | undefined, wanted: ReadSpec): ReadSpec | undefined {
  if (ring === undefined) return undefined
  const { kid, usage, mode, algorithm, hostDecipher } = wanted
  const ruled = ring.get(kid)
  if (ruled === undefined) throw outside(`holds no key by the kid ${kid}`)
  if (usage !== ruled.usage) throw outside(`has ${kid} for ${ruled.usage}, not for ${usage}`)
  if (!isWithin(mode, ruled.mode))
    throw outside(`has ${kid} in mode ${ruled.mode}: bind it with that mode, not with ${mode}`)
  if (hostDecipher && !ruled.hostDecipher) throw outside(`has ${kid} without hostDecipher`)
  if (algorithm !== undefined && ruled.algorithm !== undefined && algorithm !== ruled.algorithm)
    throw outside(`has ${kid} as ${ruled.algorithm}, not as ${algorithm}`)
  return ruled
}

function outside(problem: string): BackendError {
  return new BackendError('ERR_BACKEND_SEALED', `the key ring of this backend ${problem}`)
}

/** Of two expectations the one that says more. */
export function longer(
  one: string | CheckValue | undefined,
  other: string | CheckValue | undefined,
): string | CheckValue | undefined {
  if (one === undefined || other === undefined) return one ?? other
  return digitsOf(other) > digitsOf(one) ? other : one
}

function digitsOf(given: string | CheckValue): number {
  return (typeof given === 'string' ? given : given.value).length
}

/** Lets nothing pass by mistake: what the hook throws refuses, and so does an answer that would come later. */
function ask(onOperation: (use: KeyUse) => unknown, use: KeyUse): void {
  let answer: unknown
  try {
    answer = onOperation(use)
  } catch (error) {
    if (isIssuerPinError(error)) throw error
    throw new BackendError('ERR_BACKEND_FAILED', 'onOperation failed')
  }
  if (answer === undefined) return
  Promise.resolve(answer).catch(() => undefined)
  throw new BackendError('ERR_BACKEND_FAILED', 'onOperation must answer at once, and return nothing')
}

/** So many blocks, MACs, agreements and signatures in so many milliseconds. */
export interface OperationRate {
  /** 1 to 1,000,000,000. */
  readonly operations: number
  /** 1 to 86,400,000. */
  readonly perMs: number
}

/** Options of {@link operationLimit}. */
export interface OperationLimitOptions {
  /** For each key that `keys` does not name. */
  readonly perKey: OperationRate
  /** By kid, where a key needs another rate. */
  readonly keys?: Readonly<Record<string, OperationRate>>
  /** Milliseconds on a clock that never jumps; the platform's where absent. */
  readonly now?: () => number
}

/**
 * An `onOperation` that bounds what is done under each key: never more than `operations` in any `perMs` milliseconds,
 * counted in cipher blocks. Encipherment alone is an oracle for a stored PIN block: 10,000 trials find a PIN of four digits.
 * It counts by kid, in this process, in eight slices of the time, so that up to an eighth less passes where the load is even.
 * Give one function to several backends to bound them together.
 *
 * Errors: `ERR_ARGUMENT`. What it throws: `ERR_KEY_LIMIT`, retryable unless one call wants more than the rate allows at all.
 *
 * @example
 * ```ts
 * const onOperation = operationLimit({ perKey: { operations: 2000, perMs: 1000 } })
 * await using backend = await softwareBackend({ keys, onOperation })
 * ```
 */
export function operationLimit(options: OperationLimitOptions): (use: KeyUse) => void {
  const { perKey, keys, now = systemClock.elapsed } = readOptions(options, 'operationLimit', LIMIT_OPTIONS)
  if (typeof now !== 'function') throw new ArgumentError('now must be a function')
  if (keys !== undefined && (typeof keys !== 'object' || keys === null))
    throw new ArgumentError('keys must be an object, by kid')
  const rates = new Map(
    Object.entries(keys ?? {}).map(([kid, rate]) => [kid, readRate(rate, `keys[${JSON.stringify(kid)}]`)]),
  )
  const usual = readRate(perKey, 'perKey')
  const counts = new Map<string, Count>()
  return ({ kid, blocks }) => {
    const count = counts.get(kid) ?? new Count(rates.get(kid) ?? usual)
    counts.set(kid, count)
    count.add(kid, blocks, now())
  }
}

const LIMIT_OPTIONS = ['perKey', 'keys', 'now'] as const
const SLICES = 8

/** What was done under one key in the time that counts, slice by slice; the ninth is the one that is not over yet. */
class Count {
  readonly #rate: OperationRate
  readonly #slices: number[] = new Array<number>(SLICES + 1).fill(0)
  #latest = Number.NEGATIVE_INFINITY

  constructor(rate: OperationRate) {
    this.#rate = rate
  }

  add(kid: string, blocks: number, now: number): void {
    if (!Number.isFinite(now))
      throw new BackendError('ERR_BACKEND_FAILED', 'the clock of operationLimit failed')
    const { operations, perMs } = this.#rate
    this.#advance(Math.floor((now * SLICES) / perMs))
    const done = this.#slices.reduce((sum, count) => sum + count, 0)
    if (done + blocks > operations) {
      const problem = `${operations} operations in ${perMs} ms are allowed under it, and no more`
      throw new KeyError('ERR_KEY_LIMIT', `key ${kid}: ${problem}`, kid, { retryable: blocks <= operations })
    }
    const at = this.#place(this.#latest)
    this.#slices[at] = (this.#slices[at] as number) + blocks
  }

  /** Forgets what is older than the time that counts. A clock that goes back forgets nothing. */
  #advance(slice: number): void {
    if (slice <= this.#latest) return
    for (let next = Math.max(this.#latest + 1, slice - SLICES); next <= slice; next++)
      this.#slices[this.#place(next)] = 0
    this.#latest = slice
  }

  #place(slice: number): number {
    return slice - Math.floor(slice / (SLICES + 1)) * (SLICES + 1)
  }
}

function readRate(given: OperationRate, what: string): OperationRate {
  const { operations, perMs } = readOptions(given, what, ['operations', 'perMs'])
  if (!isCount(operations, 1_000_000_000))
    throw new ArgumentError(`${what}.operations must be a whole number from 1 to 1,000,000,000`)
  if (!isCount(perMs, 86_400_000))
    throw new ArgumentError(`${what}.perMs must be a whole number from 1 to 86,400,000`)
  return { operations, perMs }
}

function isCount(value: unknown, most: number): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most
}
