/**
 * Keys derived in the token for one message: made, used and destroyed within one operation. Two ways, each opted in by name:
 *
 *     inside         C_DeriveKey with CKM_DES3_ECB_ENCRYPT_DATA or CKM_AES_ECB_ENCRYPT_DATA: neither key leaves the token
 *     through-host   the master key enciphers the data (or makes its CMAC), and what comes out is brought in again as a key of
 *                    the session: the master key stays inside, the derived one passes through host memory
 *
 * ECB makes K1 of a derived key out of the first block alone, so the K1‖K1‖K1 that a composed retail MAC needs is derived from
 * that block three times over. Sources: PKCS#11 v3.1, 6.13.8 and 6.16.5 (key derivation by encryption); EMV Book 2, A1.
 */
import { concatBytes, ownCopy, wipe, withWiped, xorInto } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import { unfit } from '../../../key/usage.js'
import { blockBytesOf, isTdea, KEY_BYTES, type KeyAlgorithm } from '../../../primitives/algorithms.js'
import { type BlockCipher, splitRetailKey } from '../../../primitives/iso9797.js'
import { cmac, cmacCounter } from '../../../primitives/mac.js'
import type { KeyDerivation } from '../../driver.js'
import type { ObjectHandle, Station } from '../binding/binding.js'
import { CKA, CKK, CKM } from '../binding/constants.js'
import { AES_ECB, cbcCipher, cmacMechanism, DES3_ECB, encrypt, sign, withObject } from './cipher.js'
import type { KeyHandles } from './objects.js'
import { type Plan, requireMeans } from './plan.js'
import { asThreeKeys, type RoleBit, readableSecret, secretKey } from './templates.js'

/** Where a derived key is made; the values of the option `deriveKeys`. */
export type DerivationWay = 'inside' | 'through-host'

/** A master key, and what is wanted of the key that is derived from it. */
interface DerivationJob {
  readonly kid: string
  readonly algorithm: KeyAlgorithm
  readonly master: KeyHandles
  readonly steps: readonly KeyDerivation[]
  /** The role bit that the derived key needs. */
  readonly bit: RoleBit
  /** Whether K1‖K1‖K1 is needed beside it. */
  readonly chain: boolean
}

/** The mechanism that derives a key by enciphering data. */
export function derivationMechanism(algorithm: KeyAlgorithm): number {
  return isTdea(algorithm) ? CKM.DES3_ECB_ENCRYPT_DATA : CKM.AES_ECB_ENCRYPT_DATA
}

/** Where the plan says how keys of this algorithm are derived. */
export function derivationMeans(plan: Plan, algorithm: KeyAlgorithm): Plan['derivation']['tdea'] {
  return isTdea(algorithm) ? plan.derivation.tdea : plan.derivation.aes
}

/**
 * Derives, uses and destroys. Errors: `ERR_UNSUPPORTED_BY_TOKEN` (not opted in, or a step that this token does not do),
 * `ERR_KEY_USAGE` (the master key is not for deriving), and those of `use`.
 */
export function withDerivedKey(
  station: Station,
  plan: Plan,
  job: DerivationJob,
  use: (handles: KeyHandles) => Uint8Array,
): Uint8Array {
  const way = requireMeans(derivationMeans(plan, job.algorithm), `the derivation of keys (${job.algorithm})`)
  const bits: readonly RoleBit[] = way === 'inside' ? ['DERIVE'] : ['ENCRYPT', 'SIGN']
  if (!bits.some(bit => job.master.can.has(bit))) {
    const wanted = bits.map(bit => `CKA_${bit}`).join(' or ')
    throw unfit(job.kid, `deriving needs ${wanted} here, which it does not have`)
  }
  return way === 'inside' ? inside(station, plan, job, use) : throughHost(station, plan, job, use)
}

/** One block, or several, enciphered by a key that may only derive: as a secret that can be read. For its check value. */
export function encipherByDeriving(
  { binding, session }: Station,
  algorithm: KeyAlgorithm,
  key: ObjectHandle,
  data: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const mechanism = { mechanism: derivationMechanism(algorithm), parameter: { derivationData: data } }
  const secret = binding.C_DeriveKey(session, mechanism, key, readableSecret(data.length))
  return withObject({ binding, session }, secret, object =>
    withWiped(binding.C_GetAttributeValue(session, object, CKA.VALUE), ownCopy),
  )
}

function inside(
  station: Station,
  plan: Plan,
  job: DerivationJob,
  use: (handles: KeyHandles) => Uint8Array,
): Uint8Array {
  const { algorithm, steps, bit, chain } = job
  const next = (base: ObjectHandle, [step, ...more]: readonly KeyDerivation[]): Uint8Array => {
    if (step === undefined) return use({ key: base, chain: undefined, can: new Set([bit]) })
    if (step.method !== 'encipher') throw notInside(job.kid, step.method)
    const last = more.length === 0
    const key = derive(station, plan, { algorithm, base, data: step.data, can: last ? bit : 'DERIVE' })
    return withObject(station, key, derived => {
      if (!last || !chain) return next(derived, more)
      const first = step.data.subarray(0, 8)
      const thrice = concatBytes(first, first, first)
      const k1 = deriveObject(station, CKK.DES3, { algorithm, base, data: thrice, can: 'ENCRYPT' })
      return withObject(station, k1, object =>
        use({ key: derived, chain: object, can: new Set<RoleBit>([bit]) }),
      )
    })
  }
  return next(job.master.key, steps)
}

interface Derived {
  readonly algorithm: KeyAlgorithm
  readonly base: ObjectHandle
  readonly data: Uint8Array
  readonly can: RoleBit
}

/** A key of the session by ECB, of the same kind as its base. */
function derive(station: Station, plan: Plan, wanted: Derived): ObjectHandle {
  const { algorithm, data } = wanted
  if (!isTdea(algorithm)) return deriveObject(station, CKK.AES, wanted, KEY_BYTES[algorithm])
  if (algorithm === 'tdea-3key') return deriveObject(station, CKK.DES3, wanted)
  const { twoKeyType } = requireMeans(plan.tdea, 'TDEA')
  // K1‖K2‖K1 where the token has no two-key bundles: the first block once more.
  const bundle = twoKeyType === CKK.DES2 ? data : asThreeKeys(data)
  return deriveObject(station, twoKeyType, { ...wanted, data: bundle })
}

function deriveObject(
  { binding, session }: Station,
  keyType: number,
  { algorithm, base, data, can }: Derived,
  length?: number,
): ObjectHandle {
  const mechanism = { mechanism: derivationMechanism(algorithm), parameter: { derivationData: data } }
  const template = secretKey({ keyType, can: [can], ...(length !== undefined && { length }) })
  return binding.C_DeriveKey(session, mechanism, base, template)
}

function notInside(kid: string, method: string): BackendError {
  return new BackendError(
    'ERR_UNSUPPORTED_BY_TOKEN',
    `key ${kid}: a key is derived inside by encipherment only, not by ${method}; deriveKeys: 'through-host' does more`,
  )
}

/** The master key as a cipher; where it may only sign, its CMAC alone. */
interface Master {
  readonly object: ObjectHandle
  readonly can: ReadonlySet<RoleBit>
}

function throughHost(
  station: Station,
  plan: Plan,
  { kid, algorithm, master, steps, bit, chain }: DerivationJob,
  use: (handles: KeyHandles) => Uint8Array,
): Uint8Array {
  const keyBytes = KEY_BYTES[algorithm]
  const next = (base: Master, [step, ...more]: readonly KeyDerivation[]): Uint8Array => {
    if (step === undefined || step.method === 'xor') throw maskOfMaster(kid)
    return withWiped(stepBytes(station, { kid, algorithm }, base, step), whole => {
      const bytes = whole.subarray(0, keyBytes)
      let after = more
      for (let mask = after[0]; mask?.method === 'xor'; mask = after[0]) {
        xorInto(bytes, mask.data)
        after = after.slice(1)
      }
      const more2 = after.length > 0
      const can: RoleBit = more2 ? 'ENCRYPT' : bit
      return withObject(station, bringIn(station, plan, algorithm, bytes, can), object => {
        if (more2) return next({ object, can: new Set<RoleBit>(['ENCRYPT']) }, after)
        if (!chain) return use({ key: object, chain: undefined, can: new Set([bit]) })
        const parts = splitRetailKey(bytes)
        try {
          const k1 = bringIn(station, plan, 'tdea-3key', parts.chain, 'ENCRYPT')
          return withObject(station, k1, first => use({ key: object, chain: first, can: new Set([bit]) }))
        } finally {
          wipe(parts.chain, parts.last)
        }
      })
    })
  }
  return next({ object: master.key, can: master.can }, steps)
}

function stepBytes(
  station: Station,
  { kid, algorithm }: { readonly kid: string; readonly algorithm: KeyAlgorithm },
  { object, can }: Master,
  step: Exclude<KeyDerivation, { method: 'xor' }>,
): Uint8Array<ArrayBuffer> {
  const enciphers = can.has('ENCRYPT')
  if (step.method === 'encipher') {
    if (!enciphers) {
      throw unfit(kid, 'deriving by encipherment needs CKA_ENCRYPT, which it does not have')
    }
    return encrypt(station, isTdea(algorithm) ? DES3_ECB : AES_ECB, object, step.data)
  }
  const blockBytes = blockBytesOf(algorithm)
  const cipher: BlockCipher = cbcCipher(station, object, algorithm)
  return cmacCounter({ ...step, blockBytes, length: KEY_BYTES[algorithm] }, input =>
    enciphers ? cmac(cipher, input) : sign(station, cmacMechanism(algorithm), object, input, blockBytes),
  )
}

/** Clear bytes as a sensitive key of this session. */
function bringIn(
  { binding, session }: Station,
  plan: Plan,
  algorithm: KeyAlgorithm,
  bytes: Uint8Array,
  can: RoleBit,
): ObjectHandle {
  const two = algorithm === 'tdea-2key' && requireMeans(plan.tdea, 'TDEA').twoKeyType === CKK.DES2
  const keyType = two ? CKK.DES2 : isTdea(algorithm) ? CKK.DES3 : CKK.AES
  const value = keyType === CKK.DES3 ? asThreeKeys(bytes) : ownCopy(bytes)
  try {
    return binding.C_CreateObject(session, secretKey({ keyType, can: [can], value }))
  } finally {
    wipe(value)
  }
}

function maskOfMaster(kid: string): BackendError {
  return new BackendError(
    'ERR_UNSUPPORTED_BY_TOKEN',
    `key ${kid}: a mask over the key itself needs its bytes, which the token keeps; store the masked key under a kid of its own`,
  )
}
