/** Set PIN of type ISO0, opened: the PIN block inside, moved to the issuer's own key. */
import { type Key, requireKey, requireKeys } from '../../backend/key.js'
import { type CallOptions, readOptions } from '../../base/arguments.js'
import { ArgumentError, D1MessageError } from '../../base/errors.js'
import { openJwe } from '../../jwe/open.js'
import { requireUse } from '../../key/usage.js'
import { decipherPin } from '../../pin/decipher.js'
import { encipherPin } from '../../pin/encipher.js'
import { reencipherPinBlock, translatePinBlock } from '../../pin/translate.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import type { Pin } from '../../primitives/pin.js'
import {
  type Iso0Content,
  type MessageInput,
  readIso0Content,
  readPinMessage,
  selectKey,
  withWiped,
} from './pin-block.js'

/** What both ways of opening a Set PIN request (ISO0) take. */
export interface SetPinRequestInput {
  /** The request body: its text or bytes (parsed strictly), or the parsed object. */
  readonly body: MessageInput
  /** The issuer's P-256 keys (`jwe-key-agreement`); the JWE's kid selects one. */
  readonly jweKeys: Key | readonly Key[]
  /** The TDEA keys shared with D1 (`pin-encryption`); the message's kid selects one. */
  readonly from: Key | readonly Key[]
  /** The card's PAN. */
  readonly pan: Pan
}

/** What {@link openSetPinRequest} takes beside. */
export interface OpenSetPinRequestInput extends SetPinRequestInput {
  /** The issuer's own `pin-encryption` key, under which the new PIN block is to be stored. */
  readonly to: Key
  /** How the block moves from `from` to `to`; `checked` where absent. */
  readonly translation?: Translation
}

/** A Set PIN request (ISO0), opened: what to store. */
export interface OpenedSetPinRequest {
  readonly type: 'ISO0'
  /** The format 0 block under `to`: 8 bytes. */
  readonly block: Uint8Array
  /** The kid of `to`, to be stored beside the block. */
  readonly kid: string
  /** Which of the keys shared with D1 the request used. */
  readonly zpkKid: string
  /** Which of the issuer's P-256 keys opened the JWE. */
  readonly jweKid: string
}

/**
 * Opens a Set PIN request of type ISO0 and re-enciphers its PIN block under the issuer's own key. The PIN is not
 * handed out. Here the issuer is whom the PIN is for: with `checked`, a block whose PIN has digits that are none (A to F)
 * is refused like any other that is not a PIN block; with `reencipher`, nobody looks.
 *
 * Errors: `ERR_D1_MESSAGE` (with `field`), `ERR_JWE` (it does not open, whatever the reason), `ERR_PIN_BLOCK` (not a
 * format 0 block of this PAN under that key), `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`, `ERR_ARGUMENT`, `ERR_ABORTED`,
 * and what the backend reports. Source: Outbound PIN Management API 1.0, SetPIN.
 *
 * @example
 * ```ts
 * const { block, kid } = await openSetPinRequest({ body: requestText, jweKeys, from: d1Zpk, to: storage, pan })
 * await cards.storePinBlock(cardId, block, kid)
 * ```
 */
export async function openSetPinRequest(
  input: OpenSetPinRequestInput,
  options?: CallOptions,
): Promise<OpenedSetPinRequest> {
  const request = readOptions(input, 'openSetPinRequest', [...NAMES, 'to', 'translation'])
  const { pan, to, translation } = request
  requireKey(to, 'to')
  const { content, from, jweKid } = await openContent(request, options)
  const block = await withWiped(content.block, enciphered =>
    receiveBlock({ block: enciphered, pan, from, to, translation }, options),
  )
  return { type: 'ISO0', block, kid: to.kid, zpkKid: from.kid, jweKid }
}

/**
 * Opens a Set PIN request of type ISO0 and hands out the clear PIN. For issuers whose core system takes nothing
 * else; {@link openSetPinRequest} is the one to use where a block can be stored. The key shared with D1 must be bound with
 * `hostDecipher`. Dispose of the PIN.
 *
 * Errors: as {@link openSetPinRequest}, of them `ERR_JWE`, `ERR_D1_MESSAGE`, `ERR_PIN_BLOCK`; `ERR_HOST_DECIPHER`.
 *
 * @example
 * ```ts
 * using pin = await openSetPinRequestToClearPin({ body: requestText, jweKeys, from: d1Zpk, pan })
 * ```
 */
export async function openSetPinRequestToClearPin(
  input: SetPinRequestInput,
  options?: CallOptions,
): Promise<Pin> {
  const request = readOptions(input, 'openSetPinRequestToClearPin', NAMES)
  const { content, from } = await openContent(request, options)
  return withWiped(content.block, block =>
    decipherPin({ block, pan: request.pan, format: 0, key: from }, options),
  )
}

const NAMES = ['body', 'jweKeys', 'from', 'pan'] as const

async function openContent(
  { body, jweKeys, from, pan }: SetPinRequestInput,
  options: CallOptions | undefined,
): Promise<{ content: Iso0Content; from: Key; jweKid: string }> {
  const zpks = requireKeys(from, 'from')
  requirePan(pan)
  const { type, encryptedPinBlock } = readPinMessage(body)
  if (type !== 'ISO0') throw new D1MessageError('type', 'must be ISO0 here')
  const { plaintext, kid: jweKid } = await openJwe({ jwe: encryptedPinBlock, keys: jweKeys }, options)
  const content = await withWiped(plaintext, readIso0Content)
  return { content, from: selectKey(zpks, content.kid, 'kid'), jweKid }
}

/**
 * How a PIN block moves between D1's key and the issuer's:
 * - `checked`: deciphered in host memory, checked against the PAN, enciphered again. Needs a source key bound with
 *   `hostDecipher`. The default, because a block that is stored unchecked fails only when somebody types the PIN.
 * - `reencipher`: not looked at; inside the token where it can, so that no clear block ever reaches the host.
 */
export type Translation = 'checked' | 'reencipher'

interface Move {
  readonly block: Uint8Array
  readonly pan: Pan
  readonly from: Key
  readonly to: Key
  readonly translation: Translation | undefined
}

/**
 * {@link translateStored} for a PIN that ends here. A translation on the way leaves the digits unread, because a verdict on
 * them gives the PIN away; whoever keeps the PIN must know that somebody can type it. All nibbles are read, whatever they
 * hold, and there is one verdict.
 */
async function receiveBlock(move: Move, options: CallOptions | undefined): Promise<Uint8Array> {
  const { block, pan, from, to, translation = 'checked' } = move
  if (translation !== 'checked') return translateStored(move, options)
  // Before anything is deciphered: whether `to` can take the block must not depend on what the block holds.
  requireUse(to, 'pin-block', 'encipher')
  using pin = await decipherPin({ block, pan, format: 0, key: from }, options)
  return encipherPin({ pin, pan, format: 0, key: to }, options)
}

/** Moves a format 0 block from one key to the other by the wanted way. */
export async function translateStored(input: Move, options: CallOptions | undefined): Promise<Uint8Array> {
  const { block, pan, from, to } = input
  const translation = input.translation ?? 'checked'
  if (translation === 'reencipher') return reencipherPinBlock({ block, from, to }, options)
  if (translation !== 'checked') throw new ArgumentError("translation must be 'checked' or 'reencipher'")
  return translatePinBlock({ block, pan, fromFormat: 0, toFormat: 0, from, to }, options)
}
