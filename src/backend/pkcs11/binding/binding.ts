/**
 * What this backend needs of a PKCS#11 library: the synchronous calls it makes, one method each, under their names
 * in the standard. Somebody else's binding replaces pkcs11js here, and a fake drives the tests.
 *
 * A call that fails throws `Pkcs11Error`. Input is not kept after the call; output is in memory of its own.
 * Source: PKCS#11 Base Specification v3.1 (OASIS), 5.
 */

declare const SLOT: unique symbol
declare const SESSION: unique symbol
declare const OBJECT: unique symbol

/** A slot id, as the binding likes to hold it. Opaque, like the handles below. */
export type SlotId = Uint8Array & { readonly [SLOT]: true }
export type SessionHandle = Uint8Array & { readonly [SESSION]: true }
/** Good for one epoch of the module: after `C_Finalize` and `C_Initialize` it may name another key. */
export type ObjectHandle = Uint8Array & { readonly [OBJECT]: true }

/** A list of numbers is an array of CK_ULONG (CKA_ALLOWED_MECHANISMS), a list of pairs a template (CKA_UNWRAP_TEMPLATE). */
export type AttributeValue = boolean | number | string | Uint8Array | readonly number[] | Template
/** Attribute type and value; an entry without a value is left out. */
export type Template = readonly (readonly [type: number, value: AttributeValue | undefined])[]

/** `CK_ECDH1_DERIVE_PARAMS`. */
interface EcdhParameter {
  readonly kdf: number
  readonly publicData: Uint8Array
  readonly sharedData?: Uint8Array
}

/** `CK_KEY_DERIVATION_STRING_DATA`. */
interface DerivationData {
  readonly derivationData: Uint8Array
}

export interface Mechanism {
  readonly mechanism: number
  /** Bytes (an IV), a number (`CK_MAC_GENERAL_PARAMS`), ECDH parameters, or data to derive with; absent where there is none. */
  readonly parameter?: Uint8Array | number | EcdhParameter | DerivationData
}

export interface ModuleInfo {
  readonly description: string
  readonly manufacturer: string
  /** Of the library, such as `2.6`. */
  readonly version: string
}

export interface TokenInfo {
  readonly label: string
  readonly manufacturer: string
  readonly model: string
  readonly serial: string
  readonly flags: number
  readonly maxSessions: number
  readonly sessions: number
}

export interface SessionInfo {
  /** CKS_…: whether somebody is logged in, and who. */
  readonly state: number
  readonly flags: number
}

export interface Pkcs11Binding {
  /** What makes the calls, such as `pkcs11js`. */
  readonly name: string
  /** Always with `CKF_OS_LOCKING_OK`. `parameters` is the vendor's init string, where it takes one. */
  C_Initialize(parameters: string | undefined): void
  C_Finalize(): void
  C_GetInfo(): ModuleInfo
  /** Slots with a token in them. */
  C_GetSlotList(): SlotId[]
  /** Texts are trimmed of the spaces and NULs that pad them. */
  C_GetTokenInfo(slot: SlotId): TokenInfo
  C_OpenSession(slot: SlotId, flags: number): SessionHandle
  C_CloseSession(session: SessionHandle): void
  C_GetSessionInfo(session: SessionHandle): SessionInfo
  /** Ends the operations that `flags` name (CKF_ENCRYPT …). Absent where library or binding is older than PKCS#11 3.0. */
  readonly C_SessionCancel?: ((session: SessionHandle, flags: number) => void) | undefined
  /** Writes zeros over a stack of its own where the binding has one. Absent where calls run on the thread's. */
  readonly overwriteStack?: (() => void) | undefined
  C_Login(session: SessionHandle, userType: number, pin: string): void
  C_Logout(session: SessionHandle): void
  C_GenerateRandom(session: SessionHandle, length: number): Uint8Array<ArrayBuffer>

  C_CreateObject(session: SessionHandle, template: Template): ObjectHandle
  C_CopyObject(session: SessionHandle, object: ObjectHandle, template: Template): ObjectHandle
  C_DestroyObject(session: SessionHandle, object: ObjectHandle): void
  /** One attribute: a call that asks for several fails for all when one is sensitive or unknown. */
  C_GetAttributeValue(session: SessionHandle, object: ObjectHandle, type: number): Uint8Array
  C_SetAttributeValue(session: SessionHandle, object: ObjectHandle, template: Template): void
  C_FindObjectsInit(session: SessionHandle, template: Template): void
  C_FindObjects(session: SessionHandle, max: number): ObjectHandle[]
  C_FindObjectsFinal(session: SessionHandle): void

  C_EncryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void
  /** `length`: how many bytes to make room for. A binding may write into `into`, of that length, and return it. */
  C_Encrypt(
    session: SessionHandle,
    data: Uint8Array,
    length: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer>
  C_DecryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void
  C_Decrypt(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer>
  C_SignInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void
  C_Sign(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer>
  C_DigestInit(session: SessionHandle, mechanism: Mechanism): void
  C_DigestUpdate(session: SessionHandle, data: Uint8Array): void
  C_DigestKey(session: SessionHandle, key: ObjectHandle): void
  C_DigestFinal(session: SessionHandle, length: number): Uint8Array<ArrayBuffer>

  C_GenerateKey(session: SessionHandle, mechanism: Mechanism, template: Template): ObjectHandle
  C_GenerateKeyPair(
    session: SessionHandle,
    mechanism: Mechanism,
    publicTemplate: Template,
    privateTemplate: Template,
  ): { publicKey: ObjectHandle; privateKey: ObjectHandle }
  C_DeriveKey(
    session: SessionHandle,
    mechanism: Mechanism,
    key: ObjectHandle,
    template: Template,
  ): ObjectHandle
  C_WrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    wrappingKey: ObjectHandle,
    key: ObjectHandle,
    length: number,
  ): Uint8Array<ArrayBuffer>
  C_UnwrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    unwrappingKey: ObjectHandle,
    wrapped: Uint8Array,
    template: Template,
  ): ObjectHandle
}

/** Which binding to use; `auto`: pkcs11js where it is installed, else koffi. */
export type BindingChoice = 'auto' | 'pkcs11js' | 'koffi'

/** Loads the library at a path, and keeps it loaded for the life of the process. */
export type LoadBinding = (modulePath: string) => Promise<Pkcs11Binding>

/** A token session and the way to call it: what an operation runs on. */
export interface Station {
  readonly binding: Pkcs11Binding
  readonly session: SessionHandle
}

/** Opens and closes sessions of one token. */
export interface SessionSource {
  open(): SessionHandle
  close(session: SessionHandle): void
  /** Ends operations of a session that are half done, where that can be done. */
  readonly cancel?: ((session: SessionHandle, flags: number) => void) | undefined
  /** {@link Pkcs11Binding.overwriteStack} */
  readonly overwriteStack?: (() => void) | undefined
}
