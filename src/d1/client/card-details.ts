/** PAN and expiry date on their way to D1: inside a JWE, and nowhere else in the request. */

import { type CallOptions, readOptions } from '../../base/arguments.js'
import { concatBytes, wipe } from '../../base/bytes.js'
import { D1MessageError } from '../../base/errors.js'
import type { P256Recipient, PublicJwkLike } from '../../jwe/recipient.js'
import { sealJwe } from '../../jwe/seal.js'
import { type Pan, panDigits, requirePan } from '../../primitives/pan.js'
import { asciiDigits } from '../../primitives/pin.js'

/** What {@link sealCardDetails} takes. */
export interface CardDetails {
  readonly pan: Pan
  /** Expiry date: four digits, month before year. */
  readonly exp: string
  /** D1's public key, with a kid. */
  readonly d1PublicJwk: PublicJwkLike | P256Recipient
}

const MMYY = /^(?:0[1-9]|1[0-2])\d{2}$/
/** Digits, with what people put between groups of them. */
const DIGIT_RUN = /\d(?:[ ._/-]?\d)+/g

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text)

/**
 * The JWE of `{"pan":…,"exp":…}` to D1's key: the `encryptedData` of a card, at most 8192 characters. For `register` the
 * client makes it; for a renewal or a replacement that carries new details, put it into the body.
 *
 * The JSON is put together as bytes, which are wiped: no string with the PAN is made here. What cannot be wiped: a string
 * that `Pan.from` was given, the digits inside the `Pan` while it lives, the `exp` string, and copies that V8 or OpenSSL
 * may have made.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_D1_MESSAGE` with `field` `exp`, `ERR_JWE_RECIPIENT`, `ERR_ABORTED`.
 * Source: D1, Encrypt sensitive data.
 *
 * @example
 * ```ts
 * const encryptedData = await sealCardDetails({ pan: Pan.from('4000001234567899'), exp: '1229', d1PublicJwk })
 * ```
 */
export async function sealCardDetails(details: CardDetails, options?: CallOptions): Promise<string> {
  const { pan, exp, d1PublicJwk } = readOptions(details, 'sealCardDetails', ['pan', 'exp', 'd1PublicJwk'])
  requirePan(pan)
  requireExpiry(exp)
  const digits = asciiDigits(panDigits(pan))
  const plaintext = concatBytes(ascii('{"pan":"'), digits, ascii('","exp":"'), ascii(exp), ascii('"}'))
  try {
    return await sealJwe({ plaintext, recipient: d1PublicJwk }, options)
  } finally {
    wipe(digits, plaintext)
  }
}

/** Throws `ERR_D1_MESSAGE` unless the value is an expiry date as D1 writes it. */
export function requireExpiry(exp: unknown): asserts exp is string {
  if (typeof exp !== 'string' || !MMYY.test(exp)) {
    throw new D1MessageError('exp', 'must be four digits, MMYY: month, then year')
  }
}

/**
 * Throws `ERR_D1_MESSAGE` where one of the texts holds the PAN in clear, also in groups with separators. The error names
 * the text. A hash of the PAN it cannot see: D1 forbids that in a `cardId` all the same.
 */
export function refuseClearPan(pan: Pan, texts: readonly (readonly [name: string, text: string])[]): void {
  const digits = asciiDigits(panDigits(pan))
  try {
    for (const [name, text] of texts) {
      if (holds(text, digits)) throw new D1MessageError(name, 'holds the PAN in clear')
    }
  } finally {
    wipe(digits)
  }
}

function holds(text: string, digits: Uint8Array): boolean {
  const needle = Buffer.from(digits.buffer, digits.byteOffset, digits.byteLength)
  return (text.match(DIGIT_RUN) ?? []).some(run => Buffer.from(run.replace(/\D/g, '')).includes(needle))
}
