/** What the issuer answers D1: the body of Get PIN, and that of Get PIN Change Counter. */
import { type Key, requireKey } from '../../backend/key.js'
import { type CallOptions, readCall, readOptions } from '../../base/arguments.js'
import { requireBytes, withWiped } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'
import { type P256Recipient, type PublicJwkLike, readRecipient } from '../../jwe/recipient.js'
import { kidFor, sealChecked } from '../../jwe/seal.js'
import { encipherChecked } from '../../pin/encipher.js'
import { readBlock } from '../../pin/formats/format.js'
import { FORMATS } from '../../pin/formats/formats.js'
import { requireFormatKey, usualFormat } from '../../pin/policy.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import { type Pin, requirePin } from '../../primitives/pin.js'
import type { ChangeCounter } from '../../seccos/counter/counter.js'
import { ISO0_FORMAT } from '../contract.js'
import { type PinMessage, writeIso0Content } from './pin-block.js'
import { moveBlock, readTranslation, type Translation } from './set-pin.js'

/** Where the answer goes, and the card's PAN (which is not in the message). */
export interface GetPinTarget {
  readonly pan: Pan
  /** The TDEA key shared with D1 (`pin-encryption`); its kid goes into the message. */
  readonly to: Key
  /** D1's public P-256 key: a JWK with a `kid`, or the reusable result of `importRecipient`. */
  readonly d1PublicJwk: PublicJwkLike | P256Recipient
}

/** The issuer holds the PIN as a block enciphered under its own key (the usual case), or, by name, as a clear PIN. */
export type GetPinInput = GetPinTarget &
  (
    | {
        /** The stored block under `from`: 8 bytes, format 0; or 16, format 4, where `from` is an AES key. */
        readonly block: Uint8Array
        /** The issuer's own PIN encryption key. */
        readonly from: Key
        /** How the block moves from `from` to `to`; `checked` where absent. */
        readonly translation?: Translation
      }
    | { readonly pin: Pin }
  )

/**
 * The body of a Get PIN response: the PIN block under D1's TDEA key, inside a JWE to D1's public key.
 *
 * Errors: `ERR_PIN_BLOCK` (the stored block does not parse for this PAN under this key), `ERR_HOST_DECIPHER` (a checked
 * translation needs `from` bound with `hostDecipher`), `ERR_JWE_RECIPIENT`, `ERR_KEY_USAGE`, `ERR_ARGUMENT`,
 * `ERR_ABORTED`, and what the backend reports. Source: Outbound PIN Management API 1.0, getPIN.
 *
 * @example
 * ```ts
 * const body = await getPinResponse({ block: storedBlock, from: storage, to: d1Zpk, pan, d1PublicJwk })
 * response.end(JSON.stringify(body)) // {"type":"ISO0","encryptedPinBlock":"eyJ…"}
 * ```
 */
export async function getPinResponse(input: GetPinInput, options?: CallOptions): Promise<PinMessage<'ISO0'>> {
  return answerGetPin(readInput(input), readCall(options))
}

/** What the inner door takes: keys that are keys, a recipient with its kid, and a PIN, or a block that may have any length. */
interface CheckedGetPin {
  readonly pan: Pan
  readonly to: Key
  readonly recipient: { readonly key: P256Recipient; readonly kid: string }
  readonly source:
    | { readonly pin: Pin }
    | {
        readonly pin: undefined
        readonly block: Uint8Array
        readonly from: Key
        readonly translation: Translation
      }
}

/** The inner door of {@link getPinResponse}. */
export async function answerGetPin(
  { pan, to, recipient, source }: CheckedGetPin,
  options: CallOptions | undefined,
): Promise<PinMessage<'ISO0'>> {
  const block = await blockFor({ pan, to, source }, options)
  return withWiped(block, async () => {
    const content = writeIso0Content(block, to)
    return withWiped(content, async plaintext => ({
      type: 'ISO0',
      encryptedPinBlock: sealChecked({
        plaintext,
        recipient: recipient.key,
        kid: recipient.kid,
        apu: undefined,
        apv: undefined,
      }),
    }))
  })
}

async function blockFor(
  { pan, to, source }: Omit<CheckedGetPin, 'recipient'>,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  if (source.pin !== undefined) {
    requireFormatKey(to, 'encipher', FORMATS[ISO0_FORMAT])
    return encipherChecked({ pin: source.pin, pan, format: ISO0_FORMAT, key: to }, options)
  }
  const fromFormat = usualFormat(source.from)
  const block = readBlock(source.block, FORMATS[fromFormat])
  return moveBlock({ ...source, block, pan, to, fromFormat, toFormat: ISO0_FORMAT }, options)
}

const NAMES = ['pan', 'to', 'd1PublicJwk', 'pin', 'block', 'from', 'translation'] as const

/** All members a call may have, of either kind. */
type AnyInput = GetPinTarget & {
  readonly pin?: Pin
  readonly block?: Uint8Array
  readonly from?: Key
  readonly translation?: Translation
}

/** Everything is looked at before a key is used: a key operation that ends in a refusal is wasted, or an oracle. */
function readInput(input: AnyInput): CheckedGetPin {
  const { pan, to, d1PublicJwk, pin, block, from, translation } = readOptions(input, 'getPinResponse', NAMES)
  requirePan(pan)
  requireKey(to, 'to')
  const recipientKey = readRecipient(d1PublicJwk)
  const recipient = { key: recipientKey, kid: kidFor(recipientKey, undefined) }
  if (pin !== undefined) {
    if (block !== undefined || from !== undefined || translation !== undefined) {
      throw new ArgumentError('getPinResponse takes either pin, or block and from')
    }
    requirePin(pin)
    return { pan, to, recipient, source: { pin } }
  }
  requireKey(from, 'from')
  requireBytes(block, 'block')
  return { pan, to, recipient, source: { pin, block, from, translation: readTranslation(translation) } }
}

/** The body of a Get PIN Change Counter response: four digits, and 20 characters. */
export interface ChangeCounterMessage {
  readonly pcc: string
  readonly intdatag: string
}

/**
 * The body of a Get PIN Change Counter response: the card's PCC with a fresh intdatag, to be accepted once.
 *
 * Errors: as {@link ChangeCounter.issue}: `ERR_CHANGE_COUNTER`, `ERR_ARGUMENT`, `ERR_ABORTED`. Source: Outbound PIN Management API 1.0, getPINChangeCounter.
 *
 * @example
 * ```ts
 * response.end(JSON.stringify(await changeCounterResponse({ counter, cardId })))
 * ```
 */
export async function changeCounterResponse(
  input: { readonly counter: ChangeCounter; readonly cardId: string },
  options?: CallOptions,
): Promise<ChangeCounterMessage> {
  if (typeof input?.counter?.issue !== 'function') throw new ArgumentError('counter must be a ChangeCounter')
  const { pcc, intdatag } = await input.counter.issue({ cardId: input.cardId }, options)
  return { pcc, intdatag }
}
