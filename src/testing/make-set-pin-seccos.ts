/** What D1 sends to set a PIN with SECCOS, made here: for tests and simulators of the other side. */
import type { Key } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { wipe } from '../base/bytes.js'
import type { PinMessage } from '../d1/messages/pin-block.js'
import type { SeccosContent } from '../d1/messages/set-pin-seccos.js'
import type { P256Recipient, PublicJwkLike } from '../jwe/recipient.js'
import { sealJwe } from '../jwe/seal.js'
import type { Pan } from '../primitives/pan.js'
import type { Pin } from '../primitives/pin.js'
import { dataSetToHex } from '../seccos/data-set.js'
import type { SeccosProfile } from '../seccos/profile/profile.js'
import { computePrw } from '../seccos/prw.js'
import { generatePrwMac } from '../seccos/prw-mac.js'

/** What {@link makeSeccosSetPinRequest} takes. */
export interface MakeSeccosSetPinRequestInput {
  readonly pin: Pin
  readonly pan: Pan
  /** As Get PIN Change Counter answered. */
  readonly pcc: string
  readonly intdatag: string
  readonly profile: SeccosProfile
  /** The profile's own fields of the data set. */
  readonly fields?: Readonly<Record<string, string | Uint8Array>>
  /** A `prw-generate` key. */
  readonly prwKey: Key
  /** A key of the usage that the profile's MAC has. */
  readonly macKey: Key
  /** The issuer's public P-256 key. */
  readonly issuerPublicJwk: PublicJwkLike | P256Recipient
}

const NAMES = [
  'pin',
  'pan',
  'pcc',
  'intdatag',
  'profile',
  'fields',
  'prwKey',
  'macKey',
  'issuerPublicJwk',
] as const

/**
 * The body of a Set PIN request of type 3DES_SECCOS, as D1 makes it: PRW and MAC by the profile, inside a JWE to the
 * issuer. For tests, simulators, and schemes that let the issuer compute.
 *
 * Errors: as `computePrw`, `generatePrwMac` and `sealJwe`: `ERR_ARGUMENT`, `ERR_DISPOSED`, `ERR_DATA_SET`,
 * `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_JWE_RECIPIENT`, `ERR_ABORTED`, and what the backend reports.
 *
 * @example
 * ```ts
 * const body = await makeSeccosSetPinRequest({
 *   pin, pan, pcc, intdatag, profile, fields: { psn: '01' }, prwKey, macKey, issuerPublicJwk,
 * })
 * ```
 */
export async function makeSeccosSetPinRequest(
  input: MakeSeccosSetPinRequestInput,
  options?: CallOptions,
): Promise<PinMessage<'3DES_SECCOS'>> {
  const request = readOptions(input, 'makeSeccosSetPinRequest', NAMES)
  const { pin, pan, pcc, intdatag, profile, fields, prwKey, macKey, issuerPublicJwk } = request
  const values = { pan, pcc, intdatag, fields }
  const prw = await computePrw({ ...values, key: prwKey, profile, pin }, options)
  const { prwValue, prwKid, dataSet, random } = prw
  const { macValue, macKid } = await generatePrwMac(
    { ...values, key: macKey, profile, dataSet, prwValue, random },
    options,
  )
  const content: SeccosContent = {
    intdatag,
    prwDataSet: dataSetToHex(dataSet),
    prwValue,
    prwKid,
    macValue,
    macKid,
  }
  const plaintext = new TextEncoder().encode(JSON.stringify(content))
  try {
    const encryptedPinBlock = await sealJwe({ plaintext, recipient: issuerPublicJwk }, options)
    return { type: '3DES_SECCOS', encryptedPinBlock }
  } finally {
    wipe(plaintext)
  }
}
