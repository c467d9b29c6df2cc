/**
 * Both sides for trying: a test issuer with everything the PIN calls need, and D1's own side of a SECCOS Set PIN.
 */
import { generateKeyPairSync } from 'node:crypto'
import type { Backend } from '../backend/backend.js'
import type { Key } from '../backend/key.js'
import { softwareBackend } from '../backend/software/software.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { wipe } from '../base/bytes.js'
import type { PinMessage } from '../d1/messages/pin-block.js'
import type { SeccosContent } from '../d1/messages/set-pin-seccos.js'
import type { P256Recipient, PublicJwkLike } from '../jwe/recipient.js'
import { sealJwe } from '../jwe/seal.js'
import { jwkOfPoint, type P256PublicJwk, POINT_BYTES } from '../primitives/p256.js'
import type { Pan } from '../primitives/pan.js'
import type { Pin } from '../primitives/pin.js'
import { dataSetToHex } from '../seccos/data-set.js'
import type { SeccosProfile } from '../seccos/profile/profile.js'
import { computePrw, generatePrwMac } from '../seccos/prw.js'

/** What {@link createTestIssuer} makes. */
export interface TestIssuer {
  readonly backend: Backend
  /** `PEK-TEST`, the issuer's own `pin-encryption` key. */
  readonly storage: Key
  /** `ZPK-TEST`, the `pin-encryption` key shared with D1. */
  readonly d1Zpk: Key
  /** `JWE-TEST`, the issuer's P-256 key: new for each test issuer. */
  readonly jweKey: Key
  /** The public key that stands for D1's: `JWE-TEST` again, so that the issuer can open what it sealed. */
  readonly d1PublicJwk: P256PublicJwk & { readonly kid: string }
}

/** Printed in many places, and therefore no secret at all. */
const PUBLISHED = { zpk: '0123456789ABCDEFFEDCBA9876543210', pek: '89E88CF7931444F334BD7547FC3F380C' }

/**
 * An issuer with everything the PIN calls need, for trying and for tests: 2-key TDEA keys that are published, so never
 * for a PIN that somebody uses. Close its backend when you are done.
 *
 * Errors: `ERR_UNSUPPORTED` (a runtime that has neither TDEA nor WebAssembly).
 *
 * @example
 * ```ts
 * const { backend, storage } = await createTestIssuer()
 * const block = await encipherPin({ pin, pan, format: 0, key: storage })
 * await backend.close()
 * ```
 */
export async function createTestIssuer(): Promise<TestIssuer> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  const backend = await softwareBackend({
    keys: [
      { kid: 'ZPK-TEST', ...tdea, material: PUBLISHED.zpk },
      { kid: 'PEK-TEST', ...tdea, material: PUBLISHED.pek },
      { kid: 'JWE-TEST', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  const d1Zpk = await backend.bind({ kid: 'ZPK-TEST', usage: 'pin-encryption', hostDecipher: true })
  const storage = await backend.bind({ kid: 'PEK-TEST', usage: 'pin-encryption', hostDecipher: true })
  const jweKey = await backend.bind({ kid: 'JWE-TEST', usage: 'jwe-key-agreement' })
  // The point is the end of the structure (RFC 5480, 2).
  const point = publicKey.export({ type: 'spki', format: 'der' }).subarray(-POINT_BYTES)
  return { backend, storage, d1Zpk, jweKey, d1PublicJwk: { ...jwkOfPoint(point), kid: jweKey.kid } }
}

/* What D1 sends to set a PIN with SECCOS, made here: for tests and simulators of the other side. */

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
