import { readOptions } from '../arguments.js'
import type { CallOptions } from '../backend/backend.js'
import { D1MessageError } from '../errors.js'
import { openJwe } from '../jwe/open.js'
import type { Key } from '../key/key.js'
import { requireKey, requireKeys } from '../key/require.js'
import { decipherPin } from '../pin/decipher.js'
import { type Pan, requirePan } from '../pin/pan.js'
import type { Pin } from '../pin/pin.js'
import type { MessageInput } from './fields.js'
import { type Iso0Content, readIso0Content, readPinMessage, selectKey, withWiped } from './pin-block.js'
import { type Translation, translateStored } from './translation.js'

/** What both ways of opening a Set PIN request (ISO0) take. */
export interface SetPinRequestInput {
  /** The request body: its text or bytes (parsed strictly), or the parsed object. */
  readonly body: MessageInput
  /** The issuer's P-256 keys (`jwe-key-agreement`); the JWE's kid selects one. */
  readonly jweKeys: Key | readonly Key[]
  /** The TDEA keys shared with D1 (`pin-encryption`); the message's kid selects one. */
  readonly d1Zpk: Key | readonly Key[]
  /** The card's PAN. */
  readonly pan: Pan
}

/** What {@link openSetPinRequest} takes beside. */
export interface OpenSetPinRequestInput extends SetPinRequestInput {
  /** The issuer's own `pin-encryption` key, under which the new PIN block is to be stored. */
  readonly storage: Key
  /** How the block moves from `d1Zpk` to `storage`; `checked` where absent. */
  readonly translation?: Translation
}

/** A Set PIN request (ISO0), opened: what to store. */
export interface OpenedSetPinRequest {
  readonly type: 'ISO0'
  /** The format 0 block under the storage key: 8 bytes. */
  readonly block: Uint8Array
  /** The storage key's kid, to be stored beside the block. */
  readonly kid: string
  /** Which of the keys shared with D1 the request used. */
  readonly zpkKid: string
  /** Which of the issuer's P-256 keys opened the JWE. */
  readonly jweKid: string
}

/**
 * Opens a Set PIN request of type ISO0 and re-enciphers its PIN block under the issuer's own key. The PIN is not
 * handed out.
 *
 * Errors: `ERR_D1_MESSAGE` (with `field`), `ERR_JWE` (it does not open, whatever the reason), `ERR_PIN_BLOCK` (not a
 * format 0 block of this PAN under that key), `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`, `ERR_ARGUMENT`, `ERR_ABORTED`,
 * and what the backend reports. Source: Outbound PIN Management API 1.0, SetPIN.
 *
 * @example
 * ```ts
 * const { block, kid } = await openSetPinRequest({ body: requestText, jweKeys, d1Zpk, pan, storage })
 * await cards.storePinBlock(cardId, block, kid)
 * ```
 */
export async function openSetPinRequest(
  input: OpenSetPinRequestInput,
  options?: CallOptions,
): Promise<OpenedSetPinRequest> {
  const request = readOptions(input, 'openSetPinRequest', [...NAMES, 'storage', 'translation'])
  const { pan, storage, translation } = request
  requireKey(storage, 'storage')
  const { content, from, jweKid } = await openContent(request, options)
  const block = await withWiped(content.block, enciphered =>
    translateStored({ block: enciphered, pan, from, to: storage, translation }, options),
  )
  return { type: 'ISO0', block, kid: storage.kid, zpkKid: from.kid, jweKid }
}

/**
 * Opens a Set PIN request of type ISO0 and hands out the clear PIN. For issuers whose core system takes nothing
 * else; {@link openSetPinRequest} is the one to use where a block can be stored. The key of D1 must be bound with
 * `hostDecipher`. Dispose of the PIN.
 *
 * Errors: as {@link openSetPinRequest}, of them `ERR_JWE`, `ERR_D1_MESSAGE`, `ERR_PIN_BLOCK`; `ERR_HOST_DECIPHER`.
 *
 * @example
 * ```ts
 * using pin = await openSetPinRequestToClearPin({ body: requestText, jweKeys, d1Zpk, pan })
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

const NAMES = ['body', 'jweKeys', 'd1Zpk', 'pan'] as const

async function openContent(
  { body, jweKeys, d1Zpk, pan }: SetPinRequestInput,
  options: CallOptions | undefined,
): Promise<{ content: Iso0Content; from: Key; jweKid: string }> {
  const zpks = requireKeys(d1Zpk, 'd1Zpk')
  requirePan(pan)
  const { type, encryptedPinBlock } = readPinMessage(body)
  if (type !== 'ISO0') throw new D1MessageError('type', 'must be ISO0 here')
  const { plaintext, kid: jweKid } = await openJwe({ jwe: encryptedPinBlock, keys: jweKeys }, options)
  const content = await withWiped(plaintext, readIso0Content)
  return { content, from: selectKey(zpks, content.kid, 'kid'), jweKid }
}
