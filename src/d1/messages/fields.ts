/**
 * Hand-written validators for D1's JSON: own members only, every length bounded, every pattern anchored. Errors name
 * the field and never show what it held. Unknown members are ignored, so that D1 can add some; dangerous names
 * (`__proto__` and friends) and duplicates are refused when the text is parsed.
 */
import { D1MessageError } from '../../base/errors.js'
import { parseJsonObject } from '../../base/json.js'
import { MAX_ENCRYPTED, type TextRule } from '../contract.js'

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
  const { min = 1, max, pattern } = rule
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
