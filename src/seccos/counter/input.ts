/** What a change counter is given: its options, its requests, and the random numbers of its intdatags. */

import { createHash } from 'node:crypto'
import type { Backend } from '../../backend/backend.js'
import { type CallOptions, readOptions, readOwn } from '../../base/arguments.js'
import {
  bufferOf,
  ownCopy,
  requireBytes,
  secretBytes,
  toHex,
  utf8Bytes,
  withWiped,
} from '../../base/bytes.js'
import { ArgumentError, BackendError, ChangeCounterError } from '../../base/errors.js'
import { type ClaimRequest, PCC_RULES, PCC_WRAPS, type PccRule, type PccWrap, tagOf } from './state.js'
import type { ChangeCounterStore } from './store.js'

/** 32 characters that are not taken for one another (no I, L, O, U): five bits of a random byte select one. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const INTDATAG_CHARACTERS = 20
const FINGERPRINT_BYTES = 32

/** How D1 names a card; also an issuer's way to name one here. Never a PAN. */
export const CARD_ID: RegExp = /^[A-Za-z0-9_-]{1,48}$/
/** A PIN change counter: four digits. */
export const PCC: RegExp = /^[0-9]{4}$/
/** Which Get PIN Change Counter a Set PIN answers: 20 printable characters. */
export const INTDATAG: RegExp = /^[\x20-\x7e]{20}$/

/** Options of a {@link ChangeCounter}. What concerns the scheme has no default. */
export interface ChangeCounterOptions {
  readonly store: ChangeCounterStore
  /** Whose random numbers make the intdatags. */
  readonly backend: Pick<Backend, 'randomBytes'>
  /** The PCC of a card that has no record yet: four digits, or what a function says for it. */
  readonly firstPcc: string | ((cardId: string) => string | Promise<string>)
  readonly rule: PccRule
  /** What comes after 9999. */
  readonly wrap: PccWrap
  /** How long an intdatag may be used: whole seconds. */
  readonly ttlSeconds: number
  /** Milliseconds since 1970; `Date.now` where absent. */
  readonly now?: () => number
}

/** The Set PIN to be accepted. */
export interface AcceptRequest {
  readonly cardId: string
  readonly intdatag: string
  readonly pcc: string
  /** SHA-256 (or HMAC-SHA-256) of the request's decrypted content, 32 bytes; see `requestFingerprint`. */
  readonly fingerprint: Uint8Array
}

/** A fresh intdatag. */
export async function newIntdatag(
  backend: Pick<Backend, 'randomBytes'>,
  options?: CallOptions,
): Promise<string> {
  return withWiped(await backend.randomBytes(INTDATAG_CHARACTERS, options), random => {
    if (random.length !== INTDATAG_CHARACTERS) {
      throw new BackendError('ERR_BACKEND_FAILED', 'the backend gave another number of random bytes')
    }
    let intdatag = ''
    for (const byte of random) intdatag += ALPHABET.charAt(byte & 31)
    return intdatag
  })
}

/** Shapes that no issued counter has are refused as what they are not: the outside can send anything here. */
export function readRequest(request: AcceptRequest): { cardId: string; claim: ClaimRequest } {
  const names = ['cardId', 'intdatag', 'pcc', 'fingerprint'] as const
  const read = readOwn(request, 'the counter', names)
  const { pcc, fingerprint } = read
  requireBytes(fingerprint, 'fingerprint')
  if (fingerprint.length !== FINGERPRINT_BYTES) {
    throw new ArgumentError(`fingerprint must be ${FINGERPRINT_BYTES} bytes`)
  }
  if (typeof pcc !== 'string') throw new ArgumentError('pcc must be a string')
  const { cardId, tag } = readTag(read)
  if (!PCC.test(pcc)) throw new ChangeCounterError('pcc')
  return { cardId, claim: { tag, pcc: Number(pcc), fingerprint: toHex(fingerprint) } }
}

/** The card and the name under which its intdatag is kept. */
export function readTag(issued: Pick<AcceptRequest, 'cardId' | 'intdatag'>): { cardId: string; tag: string } {
  const { cardId, intdatag } = readOwn(issued, 'the counter', ['cardId', 'intdatag'])
  requireCardId(cardId)
  if (typeof intdatag !== 'string') throw new ArgumentError('intdatag must be a string')
  if (!INTDATAG.test(intdatag)) throw new ChangeCounterError('unknown')
  return { cardId, tag: tagOf(intdatag) }
}

/** Throws `ERR_ARGUMENT` unless the value is a card identifier as D1 has them. It is not the PAN, nor made from it. */
export function requireCardId(cardId: unknown): asserts cardId is string {
  if (typeof cardId !== 'string' || !CARD_ID.test(cardId)) {
    throw new ArgumentError('cardId must be 1 to 48 letters, digits, _ and -')
  }
}

/** The options, read once: `ERR_ARGUMENT` unless they are complete and sound: nothing of the scheme's is guessed. */
export function readCounterOptions(options: ChangeCounterOptions): ChangeCounterOptions {
  const names = ['store', 'backend', 'firstPcc', 'rule', 'wrap', 'ttlSeconds', 'now'] as const
  const own = readOptions(options, 'ChangeCounter', names)
  const { store, backend, firstPcc, rule, wrap, ttlSeconds, now } = own
  const isFunction = (value: unknown): boolean => typeof value === 'function'
  if (![store?.read, store?.compareAndSet, store?.purge, store?.keys].every(isFunction)) {
    throw new ArgumentError('store must be a ChangeCounterStore')
  }
  if (!isFunction(backend?.randomBytes)) throw new ArgumentError('backend must have randomBytes')
  if (!isFunction(firstPcc) && !(typeof firstPcc === 'string' && PCC.test(firstPcc))) {
    throw new ArgumentError('firstPcc must be four digits or a function')
  }
  if (typeof rule !== 'string' || !Object.hasOwn(PCC_RULES, rule)) {
    throw new ArgumentError(`rule must be one of ${Object.keys(PCC_RULES).join(', ')}`)
  }
  if (typeof wrap !== 'string' || !Object.hasOwn(PCC_WRAPS, wrap)) {
    throw new ArgumentError(`wrap must be one of ${Object.keys(PCC_WRAPS).join(', ')}`)
  }
  if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > 86_400) {
    throw new ArgumentError('ttlSeconds must be a whole number from 1 to 86400')
  }
  if (now !== undefined && !isFunction(now)) throw new ArgumentError('now must be a function')
  return own
}

/** The number of a PCC that the caller, or a function of the caller's, gave. */
export function readPcc(pcc: unknown, what: string): number {
  if (typeof pcc !== 'string' || !PCC.test(pcc)) throw new ArgumentError(`${what} four digits`)
  return Number(pcc)
}

/** A whole number within bounds. */
export function readWhole(value: unknown, name: string, [min, max]: readonly [number, number]): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  throw new ArgumentError(`${name} must be a whole number from ${min} to ${max}`)
}

/**
 * The fingerprint of a request by its members: 32 bytes, SHA-256 over names and values with their lengths, sorted by
 * name. Two requests have one fingerprint only if every member is the same, in whatever order they came.
 *
 * Take all decrypted members, and nothing of the JWE around them: a repeated request may be enciphered anew.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const fingerprint = requestFingerprint({ intdatag, prwDataSet, prwValue, prwKid, macValue, macKid })
 * ```
 */
export function requestFingerprint(members: Readonly<Record<string, string>>): Uint8Array {
  if (typeof members !== 'object' || members === null) throw new ArgumentError('members must be an object')
  const hash = createHash('sha256')
  for (const [name, value] of Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (typeof value !== 'string') throw new ArgumentError(`${name} must be a string`)
    // A lone surrogate has no UTF-8 form of its own: two texts would have one fingerprint.
    if (/\p{Cs}/u.test(name) || /\p{Cs}/u.test(value))
      throw new ArgumentError('members must be well-formed text')
    for (const text of [name, value]) {
      withWiped(utf8Bytes(text), bytes => {
        const length = secretBytes(4)
        bufferOf(length).writeUInt32BE(bytes.length)
        hash.update(length).update(bytes)
      })
    }
  }
  return ownCopy(hash.digest())
}
