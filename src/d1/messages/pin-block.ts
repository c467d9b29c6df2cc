/**
 * What is inside D1's messages, member by member: strict fields, the PIN message, the content of an ISO0 block.
 */

import type { Key } from '../../backend/key.js'
import { readOwn } from '../../base/arguments.js'
import { fromHex, toHex, utf8Bytes } from '../../base/bytes.js'
import { D1MessageError } from '../../base/errors.js'
import { parseJsonObject } from '../../base/json.js'
import {
  MAX_ENCRYPTED,
  MAX_KID,
  PIN_BLOCK_TYPES,
  PIN_VALUE,
  type PinBlockType,
  type TextRule,
} from '../contract.js'

/** A JSON object whose members have not been looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>

/** Bounds of a string member, in characters. */
export interface StringRule {
  readonly min?: number
  readonly max: number
  /** An anchored pattern, and what completes «must be …» for a string that breaks it. */
  readonly pattern?: TextRule
}

/** A whole message: JSON text, its UTF-8 bytes, or the object a framework has parsed from it. */
export type MessageInput = string | Uint8Array | object

/** Longest text that is parsed, characters or bytes: twice what the longest JWE needs. */
const MAX_MESSAGE = 2 * MAX_ENCRYPTED

/** The message as an object; `ERR_D1_MESSAGE` where it is not one, or its text is not strict JSON. */
export function readMessage(message: unknown, name: string): JsonObject {
  if (typeof message === 'string' || message instanceof Uint8Array) {
    if (message.length > MAX_MESSAGE) throw new D1MessageError(name, `must be at most ${MAX_MESSAGE} long`)
    const parsed = parseJsonObject(message)
    if (parsed === undefined)
      throw new D1MessageError(name, 'must be a JSON object without duplicate members')
    return parsed
  }
  if (typeof message !== 'object' || message === null || Array.isArray(message)) {
    throw new D1MessageError(name, 'must be a JSON object')
  }
  return message as JsonObject
}

/** A required string member within its rule. */
export function readString(object: JsonObject, field: string, rule: StringRule): string {
  const value = Object.hasOwn(object, field) ? object[field] : undefined
  if (value === undefined) throw new D1MessageError(field, 'is missing')
  if (typeof value !== 'string') throw new D1MessageError(field, 'must be a string')
  const { min = 1, max, pattern } = readOwn(rule, 'a rule', ['min', 'max', 'pattern'])
  if (value.length < min || value.length > max) {
    throw new D1MessageError(
      field,
      min === max ? `must be ${max} characters` : `must be ${min} to ${max} characters`,
    )
  }
  if (pattern !== undefined && !pattern.test.test(value))
    throw new D1MessageError(field, `must be ${pattern.shape}`)
  return value
}

/** A required string member out of a fixed list. */
export function readChoice<T extends string>(object: JsonObject, field: string, choices: readonly T[]): T {
  const value = Object.hasOwn(object, field) ? object[field] : undefined
  if (value === undefined) throw new D1MessageError(field, 'is missing')
  const choice = choices.find(candidate => candidate === value)
  if (choice === undefined) throw new D1MessageError(field, `must be ${choices.join(' or ')}`)
  return choice
}

/* The outer and the inner JSON objects of Get PIN and Set PIN (Outbound PIN Management API 1.0), pure. */

/** Body of Get PIN's response, and of Set PIN's request: the JWE and what is inside it. */
export interface PinMessage<Type extends PinBlockType = PinBlockType> {
  readonly type: Type
  /** Compact JWE, at most 8192 characters. */
  readonly encryptedPinBlock: string
}

/** What the JWE of an `ISO0` message holds. */
export interface Iso0Content {
  /** The format 0 PIN block, enciphered under TDEA: 8 bytes. */
  readonly block: Uint8Array
  /** Which TDEA key. */
  readonly kid: string
}

/**
 * Validates the outer object of a Set PIN request (or of a Get PIN response).
 *
 * Errors: `ERR_D1_MESSAGE` with `field` `body`, `type` or `encryptedPinBlock`.
 * Source: Outbound PIN Management API 1.0, schemas setPinBlock and getPinBlock.
 *
 * @example
 * ```ts
 * const { type, encryptedPinBlock } = readPinMessage(requestText)
 * ```
 */
export function readPinMessage(body: MessageInput): PinMessage {
  const object = readMessage(body, 'body')
  return {
    type: readChoice(object, 'type', PIN_BLOCK_TYPES),
    encryptedPinBlock: readString(object, 'encryptedPinBlock', { max: MAX_ENCRYPTED }),
  }
}

/** UTF-8 JSON of an ISO0 content: upper-case hex of the block, then the kid. The caller wipes it. */
export function writeIso0Content(block: Uint8Array, key: Key): Uint8Array {
  return utf8Bytes(JSON.stringify({ pinValue: toHex(block), kid: key.kid }))
}

/**
 * Reads the opened JWE of an ISO0 message. The schema marks nothing as required and bounds `pinValue` by 8192
 * characters; here both members are required and `pinValue` is one block, 16 hex digits of either case.
 *
 * Errors: `ERR_D1_MESSAGE` with `field` `encryptedPinBlock`, `pinValue` or `kid`.
 * Source: Outbound PIN Management API 1.0, schema pinblock3DESISO0.
 */
export function readIso0Content(plaintext: Uint8Array): Iso0Content {
  const object: JsonObject = readMessage(plaintext, 'encryptedPinBlock')
  const kid = readString(object, 'kid', { max: MAX_KID })
  const pinValue = readString(object, 'pinValue', {
    max: MAX_ENCRYPTED,
    pattern: PIN_VALUE,
  })
  return { block: fromHex(pinValue, 'pinValue'), kid }
}

/** The key a message names among those the caller offers; `ERR_D1_MESSAGE` naming `field` where there is none. */
export function selectKey(keys: readonly Key[], kid: string, field: string): Key {
  const key = keys.find(candidate => candidate.kid === kid)
  if (key === undefined) throw new D1MessageError(field, 'names no key that was offered')
  return key
}
