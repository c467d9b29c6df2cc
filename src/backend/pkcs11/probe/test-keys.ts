/**
 * What the steps of the probe share: their options, how one is run, and their session keys, imported with public test
 * values, or generated where a token imports no clear key.
 */

import { secretBytes } from '../../../base/bytes.js'
import type { KeyAlgorithm } from '../../../primitives/key-algorithm.js'
import type { ObjectHandle, Station } from '../binding/binding.js'
import { CKK, CKM } from '../binding/constants.js'
import { DES3_ECB, encrypt } from '../mechanisms/cipher.js'
import type { Means } from '../mechanisms/plan.js'
import { asThreeKeys, type RoleBit, secretKey } from '../mechanisms/templates.js'
import type { RetailMacProfile } from '../mechanisms/vendors.js'
import { KNOWN } from './known-answers.js'

/** What was opted in by name, and which vendor's mechanisms may be tried. */
export interface ProbeOptions {
  readonly composedMac: boolean
  readonly retailMac: RetailMacProfile | undefined
  readonly translateInToken: boolean
  readonly translationKeysMayDecipher: boolean
  readonly publicKeysPrivate: boolean
  readonly extractSharedSecret: boolean
}

/** Runs a step on a session of its own; a refusal becomes the reason. */
export type Probe = <By>(what: string, step: (station: Station) => By) => Means<By>

/** Vendors' mechanisms and translation are too easily something else to be used unproven. */
export const NO_KNOWN_ANSWER: Means<never> = {
  ok: false,
  reason: 'it is used only after a known answer, and this token imports no clear test key',
}

/** How this token gets its test keys, and as which key type it holds a two-key bundle. */
export interface TestKeys {
  /** Test keys are imported with known values. */
  readonly known: boolean
  /** CKK_DES2, or CKK_DES3: as K1‖K2‖K1, and generated with three keys. */
  readonly twoKeyType: number
}

/** Tries, in this order: import as CKK_DES2, as CKK_DES3, generation of either. Undefined where nothing works. */
export function findTestKeys(on: Probe): TestKeys | undefined {
  for (const known of [true, false]) {
    for (const twoKeyType of [CKK.DES2, CKK.DES3]) {
      const keys = { known, twoKeyType }
      const how = `${known ? 'import' : 'generation'} of a ${twoKeyType === CKK.DES2 ? 'CKK_DES2' : 'CKK_DES3'} key`
      if (on(how, station => tdeaKey(station, keys, KNOWN.tdea2.key, ['ENCRYPT'])).ok) return keys
    }
  }
  return undefined
}

/** A TDEA key with a known value where keys are known, else one of the token's own making. */
export function tdeaKey(
  { binding, session }: Station,
  { known, twoKeyType }: TestKeys,
  value: Uint8Array,
  can: readonly RoleBit[],
): ObjectHandle {
  if (!known) {
    const mechanism = twoKeyType === CKK.DES2 ? CKM.DES2_KEY_GEN : CKM.DES3_KEY_GEN
    return binding.C_GenerateKey(session, { mechanism }, secretKey({ keyType: twoKeyType, can }))
  }
  const template =
    value.length === 16 && twoKeyType === CKK.DES2
      ? secretKey({ keyType: CKK.DES2, can, value })
      : secretKey({ keyType: CKK.DES3, can, value: asThreeKeys(value) })
  return binding.C_CreateObject(session, template)
}

/** The same for a MAC key: TDEA (`tdea-2key`) or AES (`aes-128`). */
export function macKey(
  station: Station,
  keys: TestKeys,
  algorithm: KeyAlgorithm,
  value: Uint8Array,
  bit: RoleBit,
): ObjectHandle {
  if (algorithm === 'tdea-2key') return tdeaKey(station, keys, value, [bit])
  const { binding, session } = station
  if (keys.known) {
    return binding.C_CreateObject(session, secretKey({ keyType: CKK.AES, can: [bit], value }))
  }
  const template = secretKey({ keyType: CKK.AES, can: [bit], length: value.length })
  return binding.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, template)
}

/** A session key with a known answer, which lives as long as the login. */
export interface ProbeKey {
  readonly object: ObjectHandle
  /** What the zero block enciphers to. */
  readonly answer: Uint8Array
}

/** A key on the session that holds the login, and what it makes of a zero block: for `health()`. */
export function makeProbeKey(station: Station, keys: TestKeys): ProbeKey {
  const { key, cipher } = KNOWN.tdea2
  const object = tdeaKey(station, keys, key, ['ENCRYPT'])
  // The second of the two known blocks is the zero block.
  const answer = keys.known ? cipher.subarray(8) : encrypt(station, DES3_ECB, object, secretBytes(8))
  return { object, answer }
}
