/** What is asked of an object before it counts as the key of a kid: one match, a known type, inside, and no wider than its role. */

import { equalBytes } from '../../../base/bytes.js'
import { KeyError } from '../../../base/errors.js'
import type { KeyAlgorithm } from '../../../primitives/key-algorithm.js'
import type { ObjectHandle, Station, Template } from '../binding/binding.js'
import { CKA, CKK, CKO, constantName } from '../binding/constants.js'
import { findObjects, readAttribute, readFlag, readNumber } from '../mechanisms/objects.js'
import { P256_PARAMS, ROLE_BITS, type RoleBit, roleAttribute } from '../mechanisms/templates.js'
import type { Role } from './roles.js'

/** More than any kid has: private, public, certificates, and one too many. */
export const MAX_OBJECTS = 16

/** The one secret or private key that matches. Errors: `ERR_KEY_NOT_FOUND`, `ERR_KEY_AMBIGUOUS`. */
export function onlyKey(
  { binding, session }: Station,
  kid: string,
  template: Template,
): { object: ObjectHandle; objectClass: number } {
  const keys = findObjects(binding, session, template, MAX_OBJECTS).flatMap(object => {
    const objectClass = readNumber(binding, session, object, CKA.CLASS)
    return objectClass === CKO.SECRET_KEY || objectClass === CKO.PRIVATE_KEY ? [{ object, objectClass }] : []
  })
  const [key, second] = keys
  if (key === undefined) throw new KeyError('ERR_KEY_NOT_FOUND', `key ${kid} is not in this token`, kid)
  if (second !== undefined) throw ambiguous(kid)
  return key
}

/** Errors: `ERR_KEY_ALGORITHM`, `ERR_KEY_MATERIAL`. `stated`: what a CKA_ID of ours says. */
export function algorithmOf(
  { binding, session }: Station,
  kid: string,
  object: ObjectHandle,
  stated: KeyAlgorithm | undefined,
): KeyAlgorithm {
  const keyType = readNumber(binding, session, object, CKA.KEY_TYPE)
  switch (keyType) {
    case CKK.DES2:
      return 'tdea-2key'
    case CKK.DES3:
      // A two-key bundle as K1‖K2‖K1, made here for a token that has no CKK_DES2.
      return stated === 'tdea-2key' ? 'tdea-2key' : 'tdea-3key'
    case CKK.AES: {
      const length = readNumber(binding, session, object, CKA.VALUE_LEN)
      if (length === 16) return 'aes-128'
      if (length === 24) return 'aes-192'
      if (length === 32) return 'aes-256'
      // openCryptoki does not say it of imported keys.
      if (length === undefined && stated?.startsWith('aes')) return stated
      throw new KeyError('ERR_KEY_MATERIAL', `key ${kid}: an AES key of ${length ?? 'unknown'} bytes`, kid)
    }
    case CKK.EC: {
      const parameters = readAttribute(binding, session, object, CKA.EC_PARAMS)
      if (parameters !== undefined && equalBytes(parameters, P256_PARAMS)) return 'ec-p256'
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is an EC key, but not on P-256`, kid)
    }
    default: {
      const type = keyType === undefined ? 'without a key type' : constantName('CKK', CKK, keyType)
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid} is ${type}: not an algorithm of this library`, kid)
    }
  }
}

/** Refuses a key that could leave the token. */
export function requireInside({ binding, session }: Station, kid: string, object: ObjectHandle): void {
  if (readFlag(binding, session, object, CKA.SENSITIVE) !== true) {
    throw attributesError(kid, 'CKA_SENSITIVE is not true: make the key anew as sensitive')
  }
  if (readFlag(binding, session, object, CKA.EXTRACTABLE) !== false) {
    throw attributesError(kid, 'CKA_EXTRACTABLE is not false: make the key anew as not extractable')
  }
}

/** Refuses a private key that wants the PIN at each use (as PIV's for signing does): it is fetched once and not kept. */
export function requireOneLogin({ binding, session }: Station, kid: string, object: ObjectHandle): void {
  if (readFlag(binding, session, object, CKA.ALWAYS_AUTHENTICATE) !== true) return
  throw attributesError(kid, 'CKA_ALWAYS_AUTHENTICATE is true: make the key anew without it')
}

/** The role bits of a key; `ERR_KEY_USAGE` where they do not fit. */
export function requireRole(
  { binding, session }: Station,
  kid: string,
  object: ObjectHandle,
  { needs, allows }: Role,
  what: string,
): ReadonlySet<RoleBit> {
  const can = new Set(
    ROLE_BITS.filter(bit => readFlag(binding, session, object, roleAttribute(bit)) === true),
  )
  if (!needs.some(bit => can.has(bit))) {
    throw usageError(
      kid,
      `${what} needs ${needs.map(bit => `CKA_${bit}`).join(' or ')}, which it does not have`,
    )
  }
  for (const bit of can) {
    if (!needs.includes(bit) && !allows.includes(bit)) {
      throw usageError(kid, `CKA_${bit} is set, which ${what} does not need: make the key anew without it`)
    }
  }
  return can
}

export function usageError(kid: string, problem: string): KeyError {
  return new KeyError('ERR_KEY_USAGE', `key ${kid}: ${problem}`, kid)
}

export function attributesError(kid: string, problem: string): KeyError {
  return new KeyError('ERR_KEY_ATTRIBUTES', `key ${kid}: ${problem}`, kid)
}

export function ambiguous(kid: string): KeyError {
  return new KeyError(
    'ERR_KEY_AMBIGUOUS',
    `there are two keys labelled ${kid}: delete one, or name the CKA_ID in the keys option`,
    kid,
  )
}
