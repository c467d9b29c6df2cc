/** Session keys for the probe: imported with public test values, or generated where a token imports no clear key. */
import type { KeyAlgorithm } from '../../primitives/key-algorithm.js'
import type { ObjectHandle } from './binding.js'
import { DES3_ECB, encrypt, type Station } from './cipher.js'
import { CKK, CKM } from './constants.js'
import { KNOWN } from './known-answers.js'
import type { Probe } from './probe.js'
import type { RoleBit } from './roles.js'
import { secretKey } from './templates.js'

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

/** K1‖K2‖K1 of a two-key bundle; a copy of a three-key one. The caller wipes it. */
export function asThreeKeys(value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(24))
  bytes.set(value)
  if (value.length === 16) bytes.set(value.subarray(0, 8), 16)
  return bytes
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

/** A key on the session that holds the login, and what it makes of a zero block: for `health()`. */
export function makeProbeKey(station: Station, keys: TestKeys): { object: ObjectHandle; answer: Uint8Array } {
  const { key, cipher } = KNOWN.tdea2
  const object = tdeaKey(station, keys, key, ['ENCRYPT'])
  // The second of the two known blocks is the zero block.
  const answer = keys.known ? cipher.subarray(8) : encrypt(station, DES3_ECB, object, new Uint8Array(8))
  return { object, answer }
}
