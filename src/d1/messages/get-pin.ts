/** What the issuer answers D1: the body of Get PIN, and that of Get PIN Change Counter. */
import { type Key, requireKey } from '../../backend/key.js'
import { type CallOptions, readOptions } from '../../base/arguments.js'
import { requireBytes } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'
import { type P256Recipient, type PublicJwkLike, readRecipient } from '../../jwe/recipient.js'
import { sealJwe } from '../../jwe/seal.js'
import { encipherPin } from '../../pin/encipher.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import { type Pin, requirePin } from '../../primitives/pin.js'
import type { ChangeCounter } from '../../seccos/counter/counter.js'
import { type PinMessage, withWiped, writeIso0Content } from './pin-block.js'
import { type Translation, translateStored } from './set-pin.js'

/** Where the answer goes, and the card's PAN (which is not in the message). */
export interface GetPinTarget {
  readonly pan: Pan
  /** The TDEA key shared with D1 (`pin-encryption`); its kid goes into the message. */
  readonly d1Zpk: Key
  /** D1's public P-256 key: a JWK with a `kid`, or the reusable result of `importRecipient`. */
  readonly d1PublicJwk: PublicJwkLike | P256Recipient
}

/** The issuer holds the PIN as a block enciphered under its own key (the usual case), or, by name, as a clear PIN. */
export type GetPinInput = GetPinTarget &
  (
    | {
        /** The stored format 0 block: 8 bytes, enciphered under `under`. */
        readonly block: Uint8Array
        /** The issuer's own PIN encryption key. */
        readonly under: Key
        /** How the block moves from `under` to `d1Zpk`; `checked` where absent. */
        readonly translation?: Translation
      }
    | { readonly pin: Pin }
  )

/**
 * The body of a Get PIN response: the PIN block under D1's TDEA key, inside a JWE to D1's public key.
 *
 * Errors: `ERR_PIN_BLOCK` (the stored block does not parse for this PAN under this key), `ERR_HOST_DECIPHER` (a checked
 * translation needs `under` bound with `hostDecipher`), `ERR_JWE_RECIPIENT`, `ERR_KEY_USAGE`, `ERR_ARGUMENT`,
 * `ERR_ABORTED`, and what the backend reports. Source: Outbound PIN Management API 1.0, getPIN.
 *
 * @example
 * ```ts
 * const body = await getPinResponse({ block: storedBlock, under: storage, pan, d1Zpk, d1PublicJwk })
 * response.end(JSON.stringify(body)) // {"type":"ISO0","encryptedPinBlock":"eyJ…"}
 * ```
 */
export async function getPinResponse(input: GetPinInput, options?: CallOptions): Promise<PinMessage<'ISO0'>> {
  const { pan, d1Zpk, recipient, source } = readInput(input)
  const block =
    'pin' in source
      ? await encipherPin({ pin: source.pin, pan, format: 0, key: d1Zpk }, options)
      : await translateStored({ ...source, pan, to: d1Zpk }, options)
  return withWiped(block, async () => {
    const content = writeIso0Content(block, d1Zpk)
    return withWiped(content, async plaintext => ({
      type: 'ISO0',
      encryptedPinBlock: await sealJwe({ plaintext, recipient }, options),
    }))
  })
}

const NAMES = ['pan', 'd1Zpk', 'd1PublicJwk', 'pin', 'block', 'under', 'translation'] as const

/** All members a call may have, of either kind. */
type AnyInput = GetPinTarget & {
  readonly pin?: Pin
  readonly block?: Uint8Array
  readonly under?: Key
  readonly translation?: Translation
}

/** Everything is looked at before a key is used: a key operation that ends in a refusal is wasted, or an oracle. */
function readInput(input: AnyInput) {
  const { pan, d1Zpk, d1PublicJwk, pin, block, under, translation } = readOptions(
    input,
    'getPinResponse',
    NAMES,
  )
  requirePan(pan)
  requireKey(d1Zpk, 'd1Zpk')
  const recipient = readRecipient(d1PublicJwk)
  if (pin !== undefined) {
    if (block !== undefined || under !== undefined || translation !== undefined) {
      throw new ArgumentError('getPinResponse takes either pin, or block and under')
    }
    requirePin(pin)
    return { pan, d1Zpk, recipient, source: { pin } }
  }
  requireKey(under, 'under')
  requireBytes(block, 'block')
  return { pan, d1Zpk, recipient, source: { block, from: under, translation } }
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
  const { pcc, intdatag } = await input.counter.issue(input.cardId, options)
  return { pcc, intdatag }
}
