/** Set PIN of type ISO0, opened: the PIN block inside, moved to the issuer's own key. */
import { type Key, requireKey, requireKeys } from '../../backend/key.js'
import { type CallOptions, readCall, readOptions } from '../../base/arguments.js'
import { wipe, withWiped } from '../../base/bytes.js'
import { ArgumentError, D1MessageError, PinPolicyError } from '../../base/errors.js'
import { openChecked, requireOpeningKeys } from '../../jwe/open.js'
import { decipherChecked } from '../../pin/decipher.js'
import { encipherChecked } from '../../pin/encipher.js'
import { readBlock } from '../../pin/formats/format.js'
import { FORMATS } from '../../pin/formats/formats.js'
import { type PinPolicy, requirePolicy, requireTaken } from '../../pin/pin-policy.js'
import { requireFormatKey, usualFormat } from '../../pin/policy.js'
import { reencipherChecked, translateChecked } from '../../pin/translate.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import type { Pin } from '../../primitives/pin.js'
import { ISO0_FORMAT } from '../contract.js'
import {
  type Iso0Content,
  type MessageInput,
  type PinMessage,
  readIso0Content,
  readPinMessage,
  selectKey,
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

/** What {@link openSetPinRequest} also takes. */
export interface OpenSetPinRequestInput extends SetPinRequestInput {
  /** The issuer's own `pin-encryption` key, under which the new PIN block is to be stored: format 0 under TDEA, 4 under AES. */
  readonly to: Key
  /** How the block moves from `from` to `to`; `checked` where absent. */
  readonly translation?: Translation
  /** Which PINs are taken (`ERR_PIN_POLICY`); with `translation: 'checked'` only, for otherwise nobody sees the PIN. */
  readonly policy?: PinPolicy
  /** For a policy with `notBefore`: the card's block, and its key, bound with `hostDecipher`. */
  readonly before?: StoredBlock
}

/** A block at rest and its key: format 0 under TDEA, 4 under AES. */
export interface StoredBlock {
  readonly block: Uint8Array
  readonly key: Key
}

/** A Set PIN request (ISO0), opened: what to store. */
export interface OpenedSetPinRequest {
  readonly type: 'ISO0'
  /** The block under `to`: 8 bytes in format 0, or 16 in format 4 where `to` is an AES key. */
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
 * handed out. Here the issuer is whom the PIN is for: with `checked`, a block whose PIN has nibbles that are no digits (A to F)
 * is refused like any other that is not a PIN block; with `reencipher`, nobody looks.
 *
 * Errors: `ERR_D1_MESSAGE` (with `field`), `ERR_JWE` (it does not open, whatever the reason), `ERR_PIN_BLOCK` (not a
 * format 0 block of this PAN under that key), `ERR_PIN_POLICY` (with `reason`), `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`, `ERR_ARGUMENT`, `ERR_ABORTED`,
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
  const request = readOptions(input, 'openSetPinRequest', [...NAMES, 'to', 'translation', 'policy', 'before'])
  const { to, translation: wanted, policy, before } = request
  requireKey(to, 'to')
  const translation = readTranslation(wanted)
  if (policy !== undefined) requirePolicyWay(policy, translation)
  const kept = policy?.notBefore === true && before !== undefined ? readBefore(before) : undefined
  const { message, jweKeys, from, pan } = checked(request)
  const opened = await openIso0Checked(
    { message, jweKeys, from, pan, to, translation, policy, before: kept },
    readCall(options),
  )
  const { type, block, kid, zpkKid, jweKid } = opened
  if (!opened.unchanged) return { type, block, kid, zpkKid, jweKid }
  wipe(block)
  throw new PinPolicyError('before')
}

/** `ERR_ARGUMENT` for something other than a policy, and where nobody looks at the PIN. */
export function requirePolicyWay(policy: unknown, translation: Translation): asserts policy is PinPolicy {
  requirePolicy(policy)
  if (translation !== 'checked') throw new ArgumentError("a PIN policy takes translation: 'checked'")
}

function readBefore(before: StoredBlock): StoredBlock {
  const { block, key } = readOptions(before, 'before', ['block', 'key'])
  requireKey(key, 'before.key')
  requireFormatKey(key, 'decipher', FORMATS[usualFormat(key)])
  return { block: readBlock(block, FORMATS[usualFormat(key)]), key }
}

/** The inner door of {@link openSetPinRequest}: the message is read, the keys are lists of keys for their purpose. */
export async function openIso0Checked(
  request: CheckedRequest & { readonly to: Key; readonly translation: Translation } & Judgement,
  options: CallOptions | undefined,
): Promise<OpenedSetPinRequest & { readonly unchanged: boolean }> {
  const { pan, to, translation, policy, before } = request
  const { content, from, jweKid } = await openContent(request, options)
  const formats = { fromFormat: ISO0_FORMAT, toFormat: usualFormat(to) } as const
  const { block, unchanged } = await withWiped(content.block, enciphered =>
    receiveBlock({ block: enciphered, pan, from, to, ...formats, translation, policy, before }, options),
  )
  return { type: 'ISO0', block, kid: to.kid, zpkKid: from.kid, jweKid, unchanged }
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
  const request = checked(readOptions(input, 'openSetPinRequestToClearPin', NAMES))
  const { pan } = request
  const call = readCall(options)
  const { content, from } = await openContent(request, call)
  return withWiped(content.block, block => {
    requireFormatKey(from, 'decipher', FORMATS[ISO0_FORMAT])
    return decipherChecked({ block, pan, format: ISO0_FORMAT, key: from }, call)
  })
}

const NAMES = ['body', 'jweKeys', 'from', 'pan'] as const

/** What both inner doors take. */
interface CheckedRequest {
  readonly message: PinMessage
  readonly jweKeys: readonly Key[]
  /** Which of them the message names, only its content says: that one's usage is looked at then. */
  readonly from: readonly Key[]
  readonly pan: Pan
}

function checked({ body, jweKeys, from, pan }: SetPinRequestInput): CheckedRequest {
  const zpks = requireKeys(from, 'from')
  requirePan(pan)
  const openers = requireOpeningKeys(jweKeys, 'jweKeys')
  return { message: readPinMessage(body), jweKeys: openers, from: zpks, pan }
}

async function openContent(
  { message, jweKeys, from }: CheckedRequest,
  options: CallOptions | undefined,
): Promise<{ content: Iso0Content; from: Key; jweKid: string }> {
  const { type, encryptedPinBlock: jwe } = message
  if (type !== 'ISO0') throw new D1MessageError('type', 'must be ISO0 here')
  const { plaintext, kid: jweKid } = await openChecked({ jwe, keys: jweKeys }, options)
  const content = await withWiped(plaintext, readIso0Content)
  return { content, from: selectKey(from, content.kid, 'kid'), jweKid }
}

/**
 * How a PIN block moves between D1's key and the issuer's:
 * - `checked`: deciphered in host memory, checked against the PAN, enciphered again. Needs a source key bound with
 *   `hostDecipher`. The default, because a block that is stored unchecked fails only when somebody types the PIN.
 * - `reencipher`: not looked at; inside the token where it can, so that no clear block ever reaches the host.
 */
export type Translation = 'checked' | 'reencipher'

/** The wanted way, `checked` where none is said; `ERR_ARGUMENT` for what is no way. */
export function readTranslation(translation: Translation | undefined = 'checked'): Translation {
  if (translation === 'checked' || translation === 'reencipher') return translation
  throw new ArgumentError("translation must be 'checked' or 'reencipher'")
}

/** A block of the format's length, in memory of its own, and where it goes. On D1's side it is format 0, under TDEA. */
interface Move {
  readonly block: Uint8Array
  readonly pan: Pan
  readonly from: Key
  readonly to: Key
  readonly fromFormat: 0 | 4
  readonly toFormat: 0 | 4
  readonly translation: Translation
}

/**
 * {@link moveBlock} for a PIN that ends here. A translation on the way leaves the digits unread, because a verdict on
 * them gives the PIN away; whoever keeps the PIN must know that somebody can type it. All nibbles are read, whatever they
 * hold, and there is one verdict.
 */
async function receiveBlock(move: Move & Judgement, options: CallOptions | undefined): Promise<Received> {
  const { block, pan, from, to, fromFormat, toFormat, translation, policy, before } = move
  if (translation !== 'checked') return { block: await moveBlock(move, options), unchanged: false }
  requireBlockKeys(move)
  using pin = await decipherChecked({ block, pan, format: fromFormat, key: from }, options)
  if (policy !== undefined) requireTaken({ pin, policy })
  const unchanged = before !== undefined && (await isPinOf(before, pin, pan, options))
  return { block: await encipherChecked({ pin, pan, format: toFormat, key: to }, options), unchanged }
}

/** What is asked of a PIN that comes in. */
interface Judgement {
  readonly policy?: PinPolicy | undefined
  readonly before?: StoredBlock | undefined
}

interface Received {
  readonly block: Uint8Array
  /** It is the PIN before, which the policy does not take again: a repeated request brings it too, and is no mistake. */
  readonly unchanged: boolean
}

async function isPinOf(
  { block, key }: StoredBlock,
  pin: Pin,
  pan: Pan,
  options: CallOptions | undefined,
): Promise<boolean> {
  using before = await decipherChecked({ block, pan, format: usualFormat(key), key }, options)
  return pin.equals(before)
}

/** Moves a PIN block from one key to the other by the wanted way. */
export async function moveBlock(move: Move, options: CallOptions | undefined): Promise<Uint8Array> {
  const { block, pan, from, to, fromFormat, toFormat, translation } = move
  requireBlockKeys(move)
  const way = { block, pan, from, to, fromFormat, toFormat }
  return translation === 'checked' ? translateChecked(way, options) : reencipherChecked(way, options)
}

/**
 * Before anything is deciphered: whether `to` can take the block must not depend on what the block holds. A format 4 block has
 * its PAN between two encipherments: it is not moved unseen.
 */
function requireBlockKeys({ from, to, fromFormat, toFormat, translation }: Move): void {
  const unseen = translation === 'reencipher'
  requireFormatKey(from, 'decipher', FORMATS[unseen ? ISO0_FORMAT : fromFormat])
  requireFormatKey(to, 'encipher', FORMATS[unseen ? ISO0_FORMAT : toFormat])
}
