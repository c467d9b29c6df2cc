/** Key check values of token keys: computed by the token where the key's role bits let it, else as the token states. */

import { secretBytes, wipe } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import {
  CHECK_VALUE_BYTES,
  type CheckValue,
  type CheckValueMethod,
  checkValueOf,
} from '../../../key/check-value.js'
import { cmac } from '../../../primitives/cmac.js'
import type { BlockCipher } from '../../../primitives/iso9797.js'
import { isTdea, type KeyAlgorithm } from '../../../primitives/key-algorithm.js'
import { macBytes } from '../../../primitives/mac.js'
import type { Mechanism, ObjectHandle, Station } from '../binding/binding.js'
import { CKA } from '../binding/constants.js'
import { AES_ECB, DES3_ECB, encrypt, sign } from '../mechanisms/cipher.js'
import { readAttribute } from '../mechanisms/objects.js'
import { MAC_MEANS, type Plan } from '../mechanisms/plan.js'
import type { RoleBit } from '../mechanisms/templates.js'

/** A symmetric token key, as far as its check value needs it. */
export interface CheckedKey {
  readonly kid: string
  readonly object: ObjectHandle
  readonly algorithm: KeyAlgorithm
  readonly can: ReadonlySet<RoleBit>
}

type SymmetricMethod = Exclude<CheckValueMethod, 'jwk-thumbprint'>

/**
 * The check value by the method the caller expects, or by the algorithm's usual one, or, where nothing is expected
 * and the token cannot make that, by the other: a MAC key may not encipher, so its zero block stays unseen unless
 * the token keeps CKA_CHECK_VALUE. `ERR_UNSUPPORTED_BY_TOKEN` where there is no way.
 */
export function tokenCheckValue(
  station: Station,
  plan: Plan,
  key: CheckedKey,
  expected: CheckValueMethod | undefined,
  expectedValue?: string | CheckValue,
): CheckValue {
  const usual = isTdea(key.algorithm) ? USUAL.tdea : USUAL.aes
  const methods = expected === undefined ? usual : usual.filter(method => method === expected)
  for (const method of methods) {
    const value = MAKE[method](station, plan, key, expectedValue)
    if (value !== undefined) return value
  }
  throw new BackendError(
    'ERR_UNSUPPORTED_BY_TOKEN',
    `key ${key.kid}: the token makes no check value by ${expected ?? usual.join(' or ')} for it`,
  )
}

const USUAL: Readonly<Record<'tdea' | 'aes', readonly SymmetricMethod[]>> = {
  tdea: ['encrypt-zero', 'cmac'],
  aes: ['cmac', 'encrypt-zero'],
}

type Make = (
  station: Station,
  plan: Plan,
  key: CheckedKey,
  expected: string | CheckValue | undefined,
) => CheckValue | undefined

const MAKE: Readonly<Record<SymmetricMethod, Make>> = {
  'encrypt-zero': (station, _plan, { object, algorithm, can }, expected) => {
    if (can.has('ENCRYPT')) {
      return shown('encrypt-zero', encrypt(station, ecb(algorithm), object, zeroBlock(algorithm)), expected)
    }
    const stated = readAttribute(station.binding, station.session, object, CKA.CHECK_VALUE)
    return stated?.length === CHECK_VALUE_BYTES['encrypt-zero']
      ? checkValueOf('encrypt-zero', stated)
      : undefined
  },
  cmac: (station, plan, { object, algorithm, can }, expected) => {
    const zero = zeroBlock(algorithm)
    if (can.has('ENCRYPT'))
      return shown('cmac', cmac(ofSingleBlocks(station, object, algorithm), zero), expected)
    const means = MAC_MEANS.cmac(plan, algorithm)
    if (!means.ok || means.by.way !== 'sign' || !can.has('SIGN')) return undefined
    return shown('cmac', sign(station, means.by.mechanism, object, zero, zero.length), expected)
  },
}

/** The part of a block that is shown; the rest of it is nobody's business. */
function shown(
  method: SymmetricMethod,
  block: Uint8Array,
  expected: string | CheckValue | undefined,
): CheckValue {
  const value = checkValueOf(method, block, expected)
  wipe(block)
  return value
}

function ecb(algorithm: KeyAlgorithm): Mechanism {
  return isTdea(algorithm) ? DES3_ECB : AES_ECB
}

/** CBC of one block after a zero IV is ECB, and the CMAC of one block takes no more. */
function ofSingleBlocks(station: Station, object: ObjectHandle, algorithm: KeyAlgorithm): BlockCipher {
  return {
    blockBytes: macBytes(algorithm),
    encipherCbc: (_iv, block) => encrypt(station, ecb(algorithm), object, block),
  }
}

function zeroBlock(algorithm: KeyAlgorithm): Uint8Array {
  return secretBytes(macBytes(algorithm))
}
