/**
 * D1's contract, version by version in one place: everything that the Outbound PIN Management API 1.0, the OAuth API 1.0
 * and the inbound Card API 2.0 fix by themselves. Nothing here decides anything; when D1 changes its API, this file
 * changes, and what is written nowhere else cannot be forgotten.
 *
 * Three patterns belong to the change counter as well, which knows nothing of D1: they are written there, once.
 */
import { MAX_JWE_CHARACTERS } from '../jwe/compact.js'
import { FORMATS } from '../pin/formats/formats.js'
import { CARD_ID, INTDATAG, PCC } from '../seccos/counter/state.js'

export { CARD_ID, INTDATAG, PCC }

/** A pattern, and what completes «must be …» for a text that breaks it. */
export interface TextRule {
  readonly test: RegExp
  readonly shape: string
}

/** Published: 10 characters. That they are unreserved in a URL is our reading. */
export const ISSUER_ID: TextRule = {
  test: /^[A-Za-z0-9._~-]{10}$/,
  shape: '10 characters: letters, digits, . _ ~ -',
}
export const ISSUER_ID_CHARACTERS = 10
/** `x-correlation-id`: published for the inbound direction only. It is logged in clear, by D1 as well. */
export const CORRELATION_ID: TextRule = {
  test: /^[A-Za-z0-9_-]{1,64}$/,
  shape: '1 to 64 letters, digits, _ or -',
}
/** `x-user-id` of the Card API. */
export const USER_ID: TextRule = { test: /^[A-Za-z0-9_-]{1,15}$/, shape: '1 to 15 letters, digits, _ or -' }
/** {@link CARD_ID} with its words. */
export const CARD_ID_RULE: TextRule = { test: CARD_ID, shape: '1 to 48 letters, digits, _ or -' }

/** The PIN operations of the Outbound PIN Management API 1.0, by their operationId. */
export type PinOperation = 'getPIN' | 'SetPIN' | 'getPINChangeCounter'

/** PIN block types of the API. */
export type PinBlockType = 'ISO0' | '3DES_SECCOS'
export const PIN_BLOCK_TYPES: readonly PinBlockType[] = ['ISO0', '3DES_SECCOS']

/** Characters of an `encryptedPinBlock` or `encryptedData`. */
export const MAX_ENCRYPTED: number = MAX_JWE_CHARACTERS
/** Characters of a `kid`, `prwKid`, `macKid` in a message. */
export const MAX_KID = 128
/** The PIN block format of type ISO0. Its row says how long a block is, and under which keys it goes. */
export const ISO0_FORMAT = 0
const PIN_VALUE_CHARACTERS: number = 2 * FORMATS[ISO0_FORMAT].bytes
/** `pinValue`: one PIN block. The schema bounds it by 8192 characters and no more. */
export const PIN_VALUE: TextRule = {
  test: new RegExp(`^[0-9A-Fa-f]{${PIN_VALUE_CHARACTERS}}$`),
  shape: `${PIN_VALUE_CHARACTERS} hex digits`,
}
export const INTDATAG_CHARACTERS = 20
export const INTDATAG_RULE: TextRule = { test: INTDATAG, shape: 'printable ASCII' }
/** The masked data set. The published pattern is not anchored; this one is. */
export const PRW_DATA_SET: TextRule = { test: /^[0-9A-F]{246}$/, shape: '246 upper-case hex digits' }
export const PRW_DATA_SET_CHARACTERS = 246
export const MAX_PRW_VALUE = 64
export const MAX_MAC_VALUE = 16

/** Before `/oauth2/token`, where D1 fetches tokens from the issuer. */
export const OUTBOUND_TOKEN_PREFIX = '/authz/d1/v1'
export const TOKEN_PATH = '/oauth2/token'
export const PIN_PATH = '/cms/api/v1/issuers/{issuerId}/cards/{cardId}/pin'
export const COUNTER_PATH: string = `${PIN_PATH}/changeCounter`

/** The statuses of an answer that is no success. There is no 405, 408, 409, 413, 415, 422, 429, 503. */
export type ErrorStatus = 400 | 401 | 403 | 404 | 500
/** The statuses of the Outbound PIN Management API. */
export type AnswerStatus = 200 | 204 | ErrorStatus
/** The errorCode of the 403 of Get PIN Change Counter. */
export type CounterErrorCode = 'PIN_CHANGE_FORBIDDEN' | 'CARD_NOT_ACTIVE'
