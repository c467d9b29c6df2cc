/** The outer and the inner JSON objects of Get PIN and Set PIN (Outbound PIN Management API 1.0), pure. */

import type { Key } from '../../backend/key.js'
import { fromHex, toHex, utf8Bytes, wipe } from '../../base/bytes.js'
import { D1MessageError } from '../../base/errors.js'
import { MAX_ENCRYPTED, MAX_KID, PIN_BLOCK_TYPES, PIN_VALUE, type PinBlockType } from '../contract.js'
import { type JsonObject, type MessageInput, readChoice, readMessage, readString } from './fields.js'

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

/** Runs `use` on a buffer and wipes it afterwards, whatever happens. */
export async function withWiped<T>(
  buffer: Uint8Array,
  use: (buffer: Uint8Array) => T | Promise<T>,
): Promise<T> {
  try {
    return await use(buffer)
  } finally {
    wipe(buffer)
  }
}
