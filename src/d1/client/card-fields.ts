/**
 * The bodies of the card API. What is checked is the text that is sent: the object is written as JSON, read back by the
 * strict parser, and that is what the rules see. Fields without a rule pass through: D1 has more than are public.
 */

import { ArgumentError, D1MessageError } from '../../base/errors.js'
import { parseJsonObject } from '../../base/json.js'
import type { Pan } from '../../primitives/pan.js'
import { MAX_ENCRYPTED } from '../contract.js'
import { type JsonObject, readChoice, readString, type StringRule } from '../messages/fields.js'

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
