/**
 * The binding by pkcs11js 2.1, and the one place that knows what it gets wrong:
 *
 * - it initialises without `CKF_OS_LOCKING_OK` (several threads then crash the process);
 * - its init string arrives one character short;
 * - an attribute value of an unforeseen type aborts the process, one that is undefined crashes NSS;
 * - an empty buffer becomes a NULL pointer, which leaves the session with an active operation;
 * - errors come in three shapes, and values later than PKCS#11 2.40 under a wrong name;
 * - its callback forms do not keep their input alive, and some asynchronous forms leak: only the synchronous are used;
 * - closing or collecting its object unloads the library under whoever still uses it: here it is loaded a second time
 *   by the same object, whose destructor unloads once, and so stays for the life of the process;
 * - each attribute value goes through a piece of `malloc`'s memory that is freed as it is: what held a key's value is taken
 *   once more and written over.
 */

import type * as Pkcs11js from 'pkcs11js'
import { copyInto, wipe } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import { importOptional } from '../../../base/optional.js'
import type {
  LoadBinding,
  Mechanism,
  ModuleInfo,
  ObjectHandle,
  Pkcs11Binding,
  SessionHandle,
  SessionInfo,
  SlotId,
  Template,
  TokenInfo,
} from './binding.js'
import { CKA, CKF, CKR } from './constants.js'
import { Pkcs11Error } from './errors.js'
import {
  asBuffer,
  attributes,
  type Bytes,
  call,
  EMPTY,
  exactly,
  handle,
  moduleInfo,
  native,
  RoomForOne,
  room,
  tokenInfo,
} from './values.js'

/**
 * The default {@link LoadBinding}. Errors: `ERR_PKCS11_UNAVAILABLE` (pkcs11js is not installed, or not built),
 * `ERR_PKCS11_MODULE` (no such file, or no PKCS#11 library).
 */
export const loadPkcs11js: LoadBinding = async modulePath => {
  const { PKCS11 } = await importPkcs11js()
  const library = new PKCS11()
  try {
    library.load(modulePath)
    library.load(modulePath)
  } catch (error) {
    // The text of dlerror: paths and symbol names.
    const reason = error instanceof Error ? error.message : 'it does not load'
    throw new BackendError('ERR_PKCS11_MODULE', `${modulePath} is no PKCS#11 module: ${reason}`)
  }
  return new Pkcs11jsBinding(library)
}

async function importPkcs11js(): Promise<typeof Pkcs11js> {
  try {
    const namespace = (await importOptional('pkcs11js')) as typeof Pkcs11js & { default?: typeof Pkcs11js }
    return namespace.default ?? namespace
  } catch (cause) {
    throw new BackendError(
      'ERR_PKCS11_UNAVAILABLE',
      'pkcs11js does not load: run `npm install pkcs11js` (it compiles on installation and needs python3, make and a C++ compiler)',
      { cause },
    )
  }
}

/** More than the seven freed pieces of one size that glibc keeps for a thread. */
const PIECES = 16
/** From one size of piece to the next, in bytes. */
const NEXT_SIZE = 16
/** The longest that it keeps so, in bytes. */
const LONGEST_PIECE = 1032
/** Keys and Z have 16 to 32 bytes: their pieces are those of one of these lengths, or of the next. */
const KEY_LENGTHS = [16, 32]
/** `CK_INVALID_HANDLE`, and a mechanism that no module has: nothing would come of a call that is made all the same. */
const NO_HANDLE = Buffer.alloc(8)
const NO_MECHANISM = { mechanism: 0xffff_ffff }

/** What a function writes, of so many bytes at most. A library may have written some of them before it failed. */
function answer(
  functionName: string,
  length: number,
  write: (out: Buffer<ArrayBuffer>) => Uint8Array,
): Uint8Array<ArrayBuffer> {
  const out = room(length)
  try {
    return exactly(out, call(functionName, () => write(out)).length)
  } catch (error) {
    wipe(out)
    throw error
  }
}

class Pkcs11jsBinding implements Pkcs11Binding {
  readonly name = 'pkcs11js'
  readonly #library: Pkcs11js.PKCS11
  readonly #again = new RoomForOne()

  constructor(library: Pkcs11js.PKCS11) {
    this.#library = library
  }

  C_Initialize(parameters: string | undefined): void {
    const flags = CKF.OS_LOCKING_OK
    call('C_Initialize', () =>
      this.#library.C_Initialize(
        parameters === undefined ? { flags } : { flags, libraryParameters: `${parameters} ` },
      ),
    )
  }

  C_Finalize(): void {
    call('C_Finalize', () => this.#library.C_Finalize())
  }

  C_GetInfo(): ModuleInfo {
    return moduleInfo(call('C_GetInfo', () => this.#library.C_GetInfo()))
  }

  C_GetSlotList(): SlotId[] {
    return call('C_GetSlotList', () => this.#library.C_GetSlotList(true)).map(slot => slot as Bytes as SlotId)
  }

  C_GetTokenInfo(slot: SlotId): TokenInfo {
    return tokenInfo(call('C_GetTokenInfo', () => this.#library.C_GetTokenInfo(asBuffer(slot))))
  }

  C_OpenSession(slot: SlotId, flags: number): SessionHandle {
    const session: Bytes = call('C_OpenSession', () => this.#library.C_OpenSession(asBuffer(slot), flags))
    return session as SessionHandle
  }

  C_CloseSession(session: SessionHandle): void {
    call('C_CloseSession', () => this.#library.C_CloseSession(asBuffer(session)))
  }

  C_GetSessionInfo(session: SessionHandle): SessionInfo {
    const { state, flags } = call('C_GetSessionInfo', () => this.#library.C_GetSessionInfo(asBuffer(session)))
    return { state, flags }
  }

  C_Login(session: SessionHandle, userType: number, pin: string): void {
    call('C_Login', () => this.#library.C_Login(asBuffer(session), userType, pin))
  }

  C_Logout(session: SessionHandle): void {
    call('C_Logout', () => this.#library.C_Logout(asBuffer(session)))
  }

  C_GenerateRandom(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
    return answer('C_GenerateRandom', length, out => {
      this.#library.C_GenerateRandom(asBuffer(session), out)
      return out
    })
  }

  C_CreateObject(session: SessionHandle, template: Template): ObjectHandle {
    const given = attributes(template)
    try {
      return handle(call('C_CreateObject', () => this.#library.C_CreateObject(asBuffer(session), given)))
    } finally {
      for (const { type, value } of given)
        if (type === CKA.VALUE && value instanceof Uint8Array) this.#overwriteFreed(value.length)
    }
  }

  C_CopyObject(session: SessionHandle, object: ObjectHandle, template: Template): ObjectHandle {
    return handle(
      call('C_CopyObject', () =>
        this.#library.C_CopyObject(asBuffer(session), asBuffer(object), attributes(template)),
      ),
    )
  }

  C_SetAttributeValue(session: SessionHandle, object: ObjectHandle, template: Template): void {
    call('C_SetAttributeValue', () =>
      this.#library.C_SetAttributeValue(asBuffer(session), asBuffer(object), attributes(template)),
    )
  }

  C_DestroyObject(session: SessionHandle, object: ObjectHandle): void {
    call('C_DestroyObject', () => this.#library.C_DestroyObject(asBuffer(session), asBuffer(object)))
  }

  C_GetAttributeValue(session: SessionHandle, object: ObjectHandle, type: number): Uint8Array {
    // pkcs11js takes a date's bytes for a pointer.
    if (type === CKA.START_DATE || type === CKA.END_DATE)
      throw new Pkcs11Error('C_GetAttributeValue', CKR.ATTRIBUTE_TYPE_INVALID)
    let value: unknown
    try {
      const [attribute] = call('C_GetAttributeValue', () =>
        this.#library.C_GetAttributeValue(asBuffer(session), asBuffer(object), [{ type }]),
      )
      value = attribute?.value
    } catch (error) {
      // A library may have written the value before it failed; how long it was, pkcs11js does not say then.
      if (type === CKA.VALUE) for (const length of KEY_LENGTHS) this.#overwriteFreed(length)
      throw error
    }
    if (!(value instanceof Uint8Array)) return EMPTY
    if (type === CKA.VALUE) this.#overwriteFreed(value.length)
    return value
  }

  /**
   * Writes zeros over the pieces of `malloc`'s memory of such a length that were freed last: pkcs11js copies a template of
   * zeros as it copied the value, and refuses the second template before it calls the module. glibc gives to a thread what
   * it freed last first: of the seven in the thread's cache, then of the list behind it, so that {@link PIECES} reach the
   * one that held the value. It may have been a piece of the next size, where what was left of that would have been too
   * little to stand alone. Of longer pieces it keeps none for a thread, and none of them is a key's.
   */
  #overwriteFreed(length: number): void {
    if (length > LONGEST_PIECE) return
    const zeros = [length, length + NEXT_SIZE].flatMap(size => {
      const value = Buffer.alloc(size)
      return Array.from({ length: PIECES }, () => ({ type: CKA.VALUE, value }))
    })
    try {
      this.#library.C_GenerateKeyPair(NO_HANDLE, NO_MECHANISM, zeros, undefined as never)
    } catch {
      // As it is meant: without a second template there is nothing to call.
    }
  }

  C_FindObjectsInit(session: SessionHandle, template: Template): void {
    call('C_FindObjectsInit', () => this.#library.C_FindObjectsInit(asBuffer(session), attributes(template)))
  }

  C_FindObjects(session: SessionHandle, max: number): ObjectHandle[] {
    return call('C_FindObjects', () => this.#library.C_FindObjects(asBuffer(session), max)).map(handle)
  }

  C_FindObjectsFinal(session: SessionHandle): void {
    call('C_FindObjectsFinal', () => this.#library.C_FindObjectsFinal(asBuffer(session)))
  }

  C_EncryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    call('C_EncryptInit', () =>
      this.#library.C_EncryptInit(asBuffer(session), native(mechanism), asBuffer(key)),
    )
  }

  C_Encrypt(
    session: SessionHandle,
    data: Uint8Array,
    length: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const encrypt = (given: Buffer, out: Buffer): Buffer =>
      this.#library.C_Encrypt(asBuffer(session), given, out)
    const again = into && this.#again.of(data)
    if (into === undefined || again === undefined)
      return answer('C_Encrypt', length, out => encrypt(asBuffer(data), out))
    const [given, out] = again
    try {
      const written = call('C_Encrypt', () => encrypt(given, out)).length
      copyInto(into, out)
      return written === into.length ? into : into.subarray(0, written)
    } finally {
      wipe(given, out)
    }
  }

  C_DecryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    call('C_DecryptInit', () =>
      this.#library.C_DecryptInit(asBuffer(session), native(mechanism), asBuffer(key)),
    )
  }

  C_Decrypt(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    const decrypt = (out: Buffer): Buffer => this.#library.C_Decrypt(asBuffer(session), asBuffer(data), out)
    return answer('C_Decrypt', length, decrypt)
  }

  C_SignInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    call('C_SignInit', () => this.#library.C_SignInit(asBuffer(session), native(mechanism), asBuffer(key)))
  }

  C_Sign(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    return answer('C_Sign', length, out => this.#library.C_Sign(asBuffer(session), asBuffer(data), out))
  }

  C_DigestInit(session: SessionHandle, mechanism: Mechanism): void {
    call('C_DigestInit', () => this.#library.C_DigestInit(asBuffer(session), native(mechanism)))
  }

  C_DigestUpdate(session: SessionHandle, data: Uint8Array): void {
    call('C_DigestUpdate', () => this.#library.C_DigestUpdate(asBuffer(session), asBuffer(data)))
  }

  C_DigestKey(session: SessionHandle, key: ObjectHandle): void {
    call('C_DigestKey', () => this.#library.C_DigestKey(asBuffer(session), asBuffer(key)))
  }

  C_DigestFinal(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
    return answer('C_DigestFinal', length, out => this.#library.C_DigestFinal(asBuffer(session), out))
  }

  C_GenerateKey(session: SessionHandle, mechanism: Mechanism, template: Template): ObjectHandle {
    return handle(
      call('C_GenerateKey', () =>
        this.#library.C_GenerateKey(asBuffer(session), native(mechanism), attributes(template)),
      ),
    )
  }

  C_GenerateKeyPair(
    session: SessionHandle,
    mechanism: Mechanism,
    publicTemplate: Template,
    privateTemplate: Template,
  ): { publicKey: ObjectHandle; privateKey: ObjectHandle } {
    const pair = call('C_GenerateKeyPair', () =>
      this.#library.C_GenerateKeyPair(
        asBuffer(session),
        native(mechanism),
        attributes(publicTemplate),
        attributes(privateTemplate),
      ),
    )
    return { publicKey: handle(pair.publicKey), privateKey: handle(pair.privateKey) }
  }

  C_DeriveKey(
    session: SessionHandle,
    mechanism: Mechanism,
    key: ObjectHandle,
    template: Template,
  ): ObjectHandle {
    return handle(
      call('C_DeriveKey', () =>
        this.#library.C_DeriveKey(asBuffer(session), native(mechanism), asBuffer(key), attributes(template)),
      ),
    )
  }

  C_WrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    wrappingKey: ObjectHandle,
    key: ObjectHandle,
    length: number,
  ): Uint8Array<ArrayBuffer> {
    const wrap = (out: Buffer): Buffer =>
      this.#library.C_WrapKey(asBuffer(session), native(mechanism), asBuffer(wrappingKey), asBuffer(key), out)
    return answer('C_WrapKey', length, wrap)
  }

  C_UnwrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    unwrappingKey: ObjectHandle,
    wrapped: Uint8Array,
    template: Template,
  ): ObjectHandle {
    return handle(
      call('C_UnwrapKey', () =>
        this.#library.C_UnwrapKey(
          asBuffer(session),
          native(mechanism),
          asBuffer(unwrappingKey),
          asBuffer(wrapped),
          attributes(template),
        ),
      ),
    )
  }
}
