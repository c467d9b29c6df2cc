/**
 * What a card is made of on its way to D1. The bodies: what is checked is the text that is sent, so the object is written as
 * JSON, read back by the strict parser, and that is what the rules see; fields without a rule pass through, because D1 has
 * more than are public. PAN and expiry date: inside a JWE, and nowhere else in the request. Identifiers: all of them are
 * logged in clear, by D1 as well.
 */
import { type CallOptions, readOptions } from '../../base/arguments.js'
import { asciiBytes, bufferOf, concatBytes, wipe, withWiped } from '../../base/bytes.js'
import { ArgumentError, D1MessageError } from '../../base/errors.js'
import { parseJsonObject } from '../../base/json.js'
import type { P256Recipient, PublicJwkLike } from '../../jwe/recipient.js'
import { sealJwe } from '../../jwe/seal.js'
import { type Pan, panDigits, requirePan } from '../../primitives/pan.js'
import { asciiDigits } from '../../primitives/pin.js'
import { CARD_ID_RULE, CORRELATION_ID, MAX_ENCRYPTED, type TextRule, USER_ID } from '../contract.js'
import { type JsonObject, readChoice, readString, type StringRule } from '../messages/pin-block.js'

/** Longest body, in characters. */
const MAX_BODY = 65_536

/** A card as `create` sends it. Further members go through as they are. */
export interface CardFields {
  /** 1 to 64 letters, digits, `_` or `-`. */
  readonly consumerId: string
  /** 1 to 48 letters, digits, `_` or `-`. */
  readonly cardProductId: string
  /** D1 takes a card as active where this is absent. */
  readonly state?: 'ACTIVE' | 'INACTIVE'
  /** Cardholder's name as embossed: 0 to 26 letters, `.`, space or `-`. */
  readonly name?: string
  readonly [further: string]: unknown
}

/** A card as `register` takes it. PAN and expiry date go into `encryptedData`, the rest as for `create`. */
export interface RegisterCard extends CardFields {
  readonly pan: Pan
  /** Expiry date: four digits, month before year. */
  readonly exp: string
}

/** The body of `renew`, `replace` and `delete`: D1 does not publish its members. */
export type OpenBody = Readonly<Record<string, unknown>>

const ID = (max: number): StringRule => ({
  max,
  pattern: { test: /^[A-Za-z0-9_-]*$/, shape: 'letters, digits, _ or -' },
})
const REQUIRED: Readonly<Record<string, StringRule>> = { consumerId: ID(64), cardProductId: ID(48) }
const NAME: StringRule = {
  min: 0,
  max: 26,
  pattern: { test: /^[a-zA-Z. -]*$/, shape: 'letters, ., space or -' },
}

/** What belongs inside `encryptedData`. */
const SECRET: readonly string[] = ['pan', 'exp']
/** Five segments, the second empty or not: no plain text by accident. */
const ENCRYPTED: StringRule = {
  max: MAX_ENCRYPTED,
  pattern: { test: /^[\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+$/, shape: 'a compact JWE' },
}

/**
 * The body that is sent for an open object: JSON data only, `pan` and `exp` refused, `encryptedData` a compact JWE.
 * Errors: `ERR_ARGUMENT` (no plain object of JSON data), `ERR_D1_MESSAGE` naming the field.
 */
export function readOpenBody(body: unknown): JsonObject {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ArgumentError('the body must be an object')
  }
  const object = parseJsonObject(jsonOf(body))
  if (object === undefined) throw new ArgumentError('the body must be JSON data, at most 8 levels deep')
  for (const name of SECRET) {
    if (Object.hasOwn(object, name)) throw new D1MessageError(name, 'must not be sent in clear')
  }
  if (Object.hasOwn(object, 'encryptedData')) readString(object, 'encryptedData', ENCRYPTED)
  return object
}

/** The body that is sent for a card. Errors: as {@link readOpenBody}. Source: Inbound Card API 2.0, Create. */
export function readCardBody(card: unknown): JsonObject {
  const object = readOpenBody(card)
  for (const [name, rule] of Object.entries(REQUIRED)) readString(object, name, rule)
  if (Object.hasOwn(object, 'state')) readChoice(object, 'state', ['ACTIVE', 'INACTIVE'])
  if (Object.hasOwn(object, 'name')) readString(object, 'name', NAME)
  return object
}

/** The body of a registration without PAN and expiry date. Errors: as {@link readOpenBody}. */
export function readRegisterBody(card: Omit<RegisterCard, 'pan' | 'exp'>): JsonObject {
  const object = readCardBody(card)
  if (!Object.hasOwn(object, 'encryptedData')) return object
  throw new D1MessageError('encryptedData', 'is made from pan and exp')
}

function jsonOf(body: object): string {
  try {
    const text = JSON.stringify(body)
    // A `toJSON` of the caller's may return anything.
    return typeof text === 'string' && text.length <= MAX_BODY ? text : ''
  } catch {
    // A BigInt, a cycle, or a getter that throws; the engine's message may quote a value.
    return ''
  }
}

/** What {@link sealCardDetails} takes. */
export interface CardDetails {
  readonly pan: Pan
  /** Expiry date: four digits, month before year. */
  readonly exp: string
  /** D1's public key, with a kid. */
  readonly d1PublicJwk: PublicJwkLike | P256Recipient
}

const MMYY = /^(?:0[1-9]|1[0-2])\d{2}$/
/** Digits, with what people put between groups of them. */
const DIGIT_RUN = /\d(?:[ ._/-]?\d)+/g

/**
 * The JWE of `{"pan":…,"exp":…}` to D1's key: the `encryptedData` of a card, at most 8192 characters. For `register` the
 * client makes it; for a renewal or a replacement that carries new details, put it into the body.
 *
 * The JSON is put together as bytes, which are wiped: no string with the PAN is made here. What cannot be wiped: a string
 * that `Pan.from` was given, the digits inside the `Pan` while it lives, the `exp` string, and copies that V8 or OpenSSL
 * may have made.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_D1_MESSAGE` with `field` `exp`, `ERR_JWE_RECIPIENT`, `ERR_ABORTED`.
 * Source: D1, Encrypt sensitive data.
 *
 * @example
 * ```ts
 * const encryptedData = await sealCardDetails({ pan: Pan.from('4000001234567899'), exp: '1229', d1PublicJwk })
 * ```
 */
export async function sealCardDetails(details: CardDetails, options?: CallOptions): Promise<string> {
  const { pan, exp, d1PublicJwk } = readOptions(details, 'sealCardDetails', ['pan', 'exp', 'd1PublicJwk'])
  requirePan(pan)
  requireExpiry(exp)
  const digits = asciiDigits(panDigits(pan))
  const plaintext = concatBytes(asciiBytes('{"pan":"'), digits, asciiBytes(`","exp":"${exp}"}`))
  try {
    return await sealJwe({ plaintext, recipient: d1PublicJwk }, options)
  } finally {
    wipe(digits, plaintext)
  }
}

/** Throws `ERR_D1_MESSAGE` unless the value is an expiry date as D1 writes it. */
function requireExpiry(exp: unknown): asserts exp is string {
  if (typeof exp !== 'string' || !MMYY.test(exp)) {
    throw new D1MessageError('exp', 'must be four digits, MMYY: month, then year')
  }
}

/**
 * Throws `ERR_D1_MESSAGE` where one of the texts holds the PAN in clear, also in groups with separators. The error names
 * the text. A hash of the PAN it cannot see: D1 forbids that in a `cardId` all the same.
 */
export function refuseClearPan(pan: Pan, texts: readonly (readonly [name: string, text: string])[]): void {
  const digits = asciiDigits(panDigits(pan))
  try {
    for (const [name, text] of texts) {
      if (holds(text, digits)) throw new D1MessageError(name, 'holds the PAN in clear')
    }
  } finally {
    wipe(digits)
  }
}

function holds(text: string, digits: Uint8Array): boolean {
  return (text.match(DIGIT_RUN) ?? []).some(run =>
    withWiped(asciiBytes(run.replace(/\D/g, '')), found => bufferOf(found).includes(bufferOf(digits))),
  )
}

/** What a request may name. */
type IdentifierName = 'cardId' | 'x-correlation-id' | 'x-user-id'

const IDENTIFIERS: Readonly<Record<IdentifierName, TextRule>> = {
  cardId: CARD_ID_RULE,
  'x-correlation-id': CORRELATION_ID,
  'x-user-id': USER_ID,
}

/** An identifier that belongs to a request: `ERR_D1_MESSAGE` naming it where it does not fit. */
export function requireIdentifier(name: IdentifierName, value: unknown): asserts value is string {
  const { test, shape } = IDENTIFIERS[name]
  if (typeof value !== 'string' || !test.test(value)) throw new D1MessageError(name, `must be ${shape}`)
}
