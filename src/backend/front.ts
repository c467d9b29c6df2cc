/**
 * A backend out of a driver: finding and binding keys, and the rules of opening and closing that hold for all backends
 * alike. A driver behind it cannot forget them, and cannot apply them differently.
 */

import type { KeyObject } from 'node:crypto'
import { type CallOptions, deepFreeze, readOptions, readOwn } from '../base/arguments.js'
import { ArgumentError, BackendError, KeyError } from '../base/errors.js'
import { type CheckValue, methodOf, readCheckValue, requireCheckValue } from '../key/check-value.js'
import { type KeyPeriod, narrower, periodRemark } from '../key/period.js'
import type { PinValueRule } from '../key/pin-value.js'
import { type KeyUsage, secondUse, USAGES, unfit } from '../key/usage.js'
import { isTdea } from '../primitives/algorithms.js'
import { es256PublicKey } from '../primitives/p256.js'
import type { Backend, BindSpec, OpenerOptions } from './backend.js'
import { BoundKey, type OpenParts, type Reference, randomBytesOf } from './bound-key.js'
import { type ReadSpec, readSpec } from './checks.js'
import type { BackendDriver, Capabilities, FoundKey, Health, KeyIdentity } from './driver.js'
import { Jobs, NO_MORE } from './jobs.js'
import { type Key, type KeyFacts, makeKey, requireKey } from './key.js'
import {
  endOf,
  KEY_EVENTS,
  type KeyRing,
  longer,
  OPENER_OPTIONS,
  type Opener,
  readOpener,
  requireInRing,
} from './opener.js'

/**
 * A {@link Backend} out of a driver: puts the checks that are common to all backends in front of it. `Ref`, the driver's
 * own name for a key, stays between the two. For those who write a backend; `backendContract` of
 * `issuer-pin-crypto/testing` says whether it holds.
 *
 * Errors: `ERR_ARGUMENT` (not a driver, or not a ring or hook).
 *
 * @example
 * ```ts
 * const backend = openBackend(driver)
 * const key = await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', kcv: '08D7B4' })
 * ```
 */
export function openBackend<Ref>(driver: BackendDriver<Ref>, options: OpenerOptions = {}): Backend {
  if (typeof driver?.capabilities !== 'function') throw new ArgumentError('openBackend takes a BackendDriver')
  return openFront(driver, readOpener(readOptions(options, 'openBackend', OPENER_OPTIONS)))
}

/** {@link openBackend} with options that have been read before the driver was made. */
export function openFront<Ref>(driver: BackendDriver<Ref>, opener: Opener): Backend {
  return new BackendFront(driver, opener)
}

class BackendFront<Ref> implements Backend {
  readonly name: string
  readonly #parts: OpenParts<Ref>
  readonly #capabilities: Capabilities
  readonly #bound = new WeakMap<Key, Reference<Ref>>()
  readonly #usageOfKid = new Map<string, KeyUsage>()
  readonly #ruleOfKid = new Map<string, string>()
  readonly #known = new KnownKeys()
  readonly #ring: KeyRing | undefined
  /** The key that was bound last by each kid, for whoever asks after the health of the backend. */
  readonly #latest = new Map<string, Key>()
  #sealed = false
  /** By the x coordinate: Q and -Q share it, and both belong to the scalar, up to its sign. */
  readonly #usageOfPoint = new Map<string, KeyUsage>()

  constructor(driver: BackendDriver<Ref>, { ring, onOperation }: Opener) {
    this.name = driver.name
    this.#ring = ring
    this.#capabilities = deepFreeze(structuredClone(driver.capabilities()))
    this.#parts = {
      driver,
      jobs: new Jobs(),
      reenciphersInside: this.#capabilities.reencipher === 'inside',
      onOperation,
    }
  }

  async bind(spec: BindSpec, options?: CallOptions): Promise<Key> {
    const wanted = readSpec(spec)
    if (!KEY_EVENTS.hasSubscribers) return this.#bind(wanted, options)
    const { kid, usage, mode } = wanted
    const queue = this.#parts.jobs.inFlight
    const ended = endOf({ event: 'bind', kid, usage, mode, queue })
    try {
      const key = await this.#bind(wanted, options)
      ended()
      return key
    } catch (error) {
      ended(error)
      throw error
    }
  }

  async #bind(wanted: ReadSpec, options?: CallOptions): Promise<Key> {
    const { driver, jobs } = this.#parts
    const { kid, usage, mode, algorithm, hostDecipher, kcv } = wanted
    this.#requireOpenRing(kid)
    const ruled = requireInRing(this.#ring, wanted)
    this.#requireOneUsage(kid, usage)
    const pinValue = ruled?.pinValue ?? wanted.pinValue
    this.#requireOneRule(kid, pinValue)
    if (wanted.pinValue !== undefined) this.#requireOneRule(kid, wanted.pinValue, pinValue)
    const expected = longer(kcv, ruled?.kcv)
    const query = {
      kid,
      usage,
      mode,
      algorithm: algorithm ?? ruled?.algorithm,
      hostDecipher,
      checkValueMethod: methodOf(expected),
      expected,
    }
    const answer = await jobs.run(options, { ...NO_MORE, run: signal => driver.find(query, signal) })
    // Own members: a driver that states no period has none.
    const found = readOwn(answer, 'what a driver found', FOUND)
    requireMatch(wanted, found)
    if (ruled !== undefined) requireMatch(ruled, found)
    const { ref, checkValue, parity, publicJwk } = found
    const publicKey = USAGES[usage].purpose === 'signature' ? readPublicKey(found) : undefined
    // Once more: another bind of this kid may have come first while the driver was looking.
    this.#requireOneUsage(kid, usage, publicJwk?.x)
    this.#requireOneRule(kid, pinValue)
    this.#requireOpenRing(kid)
    this.#known.add({ kid, usage, algorithm: found.algorithm, checkValue, identity: found.identity })
    this.#usageOfKid.set(kid, usage)
    if (publicJwk !== undefined) this.#usageOfPoint.set(publicJwk.x, usage)
    const own = narrower(wanted.period, ruled?.period ?? {})
    const period = narrower(own, pick(found))
    const common = {
      kid,
      usage,
      mode,
      hostDecipher,
      algorithm: found.algorithm,
      checkValue,
      parity,
      ...period,
      ...(pinValue !== undefined && { pinValue }),
    }
    if (pinValue !== undefined) this.#ruleOfKid.set(kid, JSON.stringify(pinValue))
    const facts = publicJwk === undefined ? common : { ...common, publicJwk }
    const reference = { ref, publicKey, isReleased: false }
    const key = makeKey(facts, new BoundKey(facts, this.#parts, reference))
    this.#bound.set(key, reference)
    this.#latest.set(kid, key)
    return key
  }

  seal(): void {
    this.#sealed = true
  }

  unbind(key: Key): void {
    requireKey(key, 'key')
    const bound = this.#bound.get(key)
    if (bound === undefined) {
      throw new KeyError('ERR_KEY_FOREIGN', `key ${key.kid} is not bound by this backend`, key.kid)
    }
    this.#bound.delete(key)
    bound.isReleased = true
    if (this.#latest.get(key.kid) === key) this.#latest.delete(key.kid)
    this.#parts.driver.release?.(bound.ref)
  }

  randomBytes(length: number, options?: CallOptions): Promise<Uint8Array> {
    return randomBytesOf(this.#parts, length, options)
  }

  capabilities(): Capabilities {
    return this.#capabilities
  }

  async health(options?: CallOptions): Promise<Health> {
    const { driver, jobs } = this.#parts
    const health = await jobs.run(options, { ...NO_MORE, run: signal => driver.health(signal) })
    const remarks = [...this.#latest.values()].flatMap(key => periodRemark(key) ?? [])
    return remarks.length === 0 ? health : { ...health, detail: [health.detail, ...remarks].join('; ') }
  }

  close(): Promise<void> {
    const { driver, jobs } = this.#parts
    driver.closing?.()
    return jobs.close(() => driver.close())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #requireOpenRing(kid: string): void {
    if (!this.#sealed) return
    throw new BackendError('ERR_BACKEND_SEALED', `the backend is sealed: ${kid} had to be bound before`)
  }

  /** Whoever could bind a key anew with a table of their choice could choose the table of each verification. */
  #requireOneRule(kid: string, rule: PinValueRule | undefined, other?: PinValueRule): void {
    const known = other === undefined ? this.#ruleOfKid.get(kid) : JSON.stringify(other)
    if (known === undefined || rule === undefined || known === JSON.stringify(rule)) return
    throw unfit(kid, 'it was bound with another pinValue, and has one for good')
  }

  #requireOneUsage(kid: string, usage: KeyUsage, x?: string): void {
    for (const known of [
      this.#usageOfKid.get(kid),
      x === undefined ? undefined : this.#usageOfPoint.get(x),
    ]) {
      if (known === undefined || known === usage) continue
      throw secondUse(kid, `it is bound for ${known}`)
    }
  }
}

/** What the backend itself says of the key's period. */
function pick({ validFrom, validTo }: KeyPeriod): KeyPeriod {
  return { ...(validFrom !== undefined && { validFrom }), ...(validTo !== undefined && { validTo }) }
}

const FOUND = [
  'ref',
  'algorithm',
  'checkValue',
  'parity',
  'publicJwk',
  'identity',
  'validFrom',
  'validTo',
] as const

/** What is remembered of a key that was bound, to know it again under another name. */
interface KnownKey extends Pick<KeyFacts, 'kid' | 'usage' | 'algorithm' | 'checkValue'> {
  readonly identity: KeyIdentity | undefined
}

/** The keys that were bound, by kid, and by what would show that another is one of them. */
class KnownKeys {
  readonly #byKid = new Map<string, KnownKey>()
  readonly #byTrait = new Map<string, Set<KnownKey>>()

  /**
   * One key under two names shows in what its backend knows it by, and in its check value: `ERR_KEY_USAGE` where they are for
   * different purposes.
   */
  add({ identity, ...facts }: KnownKey): void {
    const key = { ...facts, identity: identity && readOwn(identity, 'an identity', IDENTITY) }
    const before = this.#byKid.get(key.kid)
    const traits = traitsOf(key)
    for (const known of traits.flatMap(trait => [...(this.#byTrait.get(trait) ?? [])])) {
      if (known === before || USAGES[known.usage].x9143 === USAGES[key.usage].x9143) continue
      const shared = whatIsShared(known, key)
      if (shared === undefined) continue
      throw secondUse(key.kid, `it has the ${shared} of ${known.kid}, which is bound for ${known.usage}`)
    }
    if (before !== undefined) for (const trait of traitsOf(before)) this.#byTrait.get(trait)?.delete(before)
    this.#byKid.set(key.kid, key)
    for (const trait of traits) {
      const others = this.#byTrait.get(trait) ?? new Set()
      this.#byTrait.set(trait, others.add(key))
    }
  }
}

/** Digits of a check value that are compared however short one of the two is. */
const LEAST_DIGITS = 4

const IDENTITY = ['names', 'id', 'checkValues', 'compared'] as const
const NOTHING_SEEN = { names: [], id: undefined }

/** What two keys have in common that {@link whatIsShared} finds to be one; others may have it in common as well. */
function traitsOf(key: KnownKey): readonly string[] {
  const { names = [], id } = key.identity ?? NOTHING_SEEN
  return [
    ...names.map(name => `name ${name}`),
    ...(id === undefined ? [] : [`id ${id}`]),
    ...valuesOf(key).map(({ method, value }) => `value ${method} ${value.slice(0, LEAST_DIGITS)}`),
  ]
}

/** What shows that two keys are one; undefined where nothing does. */
function whatIsShared(a: KnownKey, b: KnownKey): string | undefined {
  if (a.identity?.names.some(name => b.identity?.names.includes(name))) return 'object'
  if (a.identity?.compared === true && b.identity?.compared === true) return undefined
  const equal = isTdea(a.algorithm) === isTdea(b.algorithm) ? haveEqualCheckValues(a, b) : undefined
  if (equal === true) return 'check value'
  return equal === undefined && a.identity?.id !== undefined && a.identity.id === b.identity?.id
    ? 'CKA_ID'
    : undefined
}

/**
 * Whether two keys have equal check values by some method, as far as the shorter goes: three bytes at least. Undefined where
 * there is no method by which both have one.
 */
function haveEqualCheckValues(a: KnownKey, b: KnownKey): boolean | undefined {
  const pairs = valuesOf(a).flatMap(left =>
    valuesOf(b)
      .filter(({ method }) => method === left.method)
      .map(right => [left.value, right.value] as const),
  )
  if (pairs.length === 0) return undefined
  return pairs.some(([left, right]) => {
    const digits = Math.min(left.length, right.length)
    return left.slice(0, digits) === right.slice(0, digits)
  })
}

function valuesOf({ checkValue, identity }: KnownKey): readonly CheckValue[] {
  return [checkValue, ...(identity?.checkValues ?? [])]
}

/** Holds what was found against what was asked for. */
function requireMatch({ kid, usage, algorithm, kcv }: ReadSpec, found: FoundKey<unknown>): void {
  if (algorithm !== undefined && found.algorithm !== algorithm) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is ${found.algorithm}, not ${algorithm}`, kid)
  }
  if (!USAGES[usage].algorithms.includes(found.algorithm)) {
    throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid}: ${usage} does not admit ${found.algorithm}`, kid)
  }
  if (kcv !== undefined) requireCheckValue(kid, readCheckValue(kcv, found.algorithm), found.checkValue)
}

/** The public half of a key for signing; a driver that gives none could not be checked. */
function readPublicKey({ publicJwk }: FoundKey<unknown>): KeyObject {
  try {
    if (publicJwk !== undefined) return es256PublicKey(publicJwk)
  } catch {
    // It is no P-256 key; what OpenSSL calls that helps nobody.
  }
  throw new BackendError('ERR_BACKEND_FAILED', 'the backend gave no public key for a key that signs')
}
