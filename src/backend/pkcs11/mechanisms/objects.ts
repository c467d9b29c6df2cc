/** Finding objects and reading their attributes. Numbers are CK_ULONG: 8 bytes (4 on some platforms), native order. */
import { ownCopy } from '../../../base/bytes.js'
import type { ObjectHandle, Pkcs11Binding, SessionHandle, Template } from '../binding/binding.js'
import { CKR } from '../binding/constants.js'
import { Pkcs11Error } from '../binding/errors.js'
import type { RoleBit } from './templates.js'

/** What an operation needs of a key. */
export interface KeyHandles {
  readonly key: ObjectHandle
  /** K1 alone, for a composed retail MAC. */
  readonly chain: ObjectHandle | undefined
  readonly can: ReadonlySet<RoleBit>
}

/** At most `max` objects with these attributes. The search is ended on every path: a session holds one at a time. */
export function findObjects(
  binding: Pkcs11Binding,
  session: SessionHandle,
  template: Template,
  max: number,
): ObjectHandle[] {
  binding.C_FindObjectsInit(session, template)
  const found: ObjectHandle[] = []
  try {
    // A token may hand out fewer than asked for at a time.
    while (found.length < max) {
      const more = binding.C_FindObjects(session, max - found.length)
      if (more.length === 0) break
      found.push(...more)
    }
  } finally {
    binding.C_FindObjectsFinal(session)
  }
  return found
}

/** An attribute's bytes; undefined where the object does not have it or does not show it. */
export function readAttribute(
  binding: Pkcs11Binding,
  session: SessionHandle,
  object: ObjectHandle,
  type: number,
): Uint8Array | undefined {
  try {
    const value = binding.C_GetAttributeValue(session, object, type)
    return value.length === 0 ? undefined : value
  } catch (error) {
    if (error instanceof Pkcs11Error && NOT_SHOWN.includes(error.returnValue)) return undefined
    throw error
  }
}

const NOT_SHOWN: readonly number[] = [
  CKR.ATTRIBUTE_SENSITIVE,
  CKR.ATTRIBUTE_TYPE_INVALID,
  CKR.ATTRIBUTE_VALUE_INVALID,
]

/** A CK_BBOOL; undefined where it is not shown. */
export function readFlag(
  binding: Pkcs11Binding,
  session: SessionHandle,
  object: ObjectHandle,
  type: number,
): boolean | undefined {
  const value = readAttribute(binding, session, object, type)
  return value === undefined ? undefined : value[0] !== 0
}

/** A CK_ULONG; undefined where it is not shown, or is something else. */
export function readNumber(
  binding: Pkcs11Binding,
  session: SessionHandle,
  object: ObjectHandle,
  type: number,
): number | undefined {
  const value = readAttribute(binding, session, object, type)
  // A copy, for the views below want aligned memory.
  const own = value && ownCopy(value).buffer
  if (own?.byteLength === 8) return Number(new BigUint64Array(own)[0])
  return own?.byteLength === 4 ? new Uint32Array(own)[0] : undefined
}

/** UTF-8 text without padding; undefined where it is not shown. */
export function readText(
  binding: Pkcs11Binding,
  session: SessionHandle,
  object: ObjectHandle,
  type: number,
): string | undefined {
  const value = readAttribute(binding, session, object, type)
  return value === undefined ? undefined : new TextDecoder().decode(value).replace(/[\s\0]+$/u, '')
}
