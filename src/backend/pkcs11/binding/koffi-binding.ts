/**
 * The binding by koffi 3, a foreign function interface with prebuilt binaries: a PKCS#11 library without a compiler. Each
 * function of PKCS#11 is one method here; how a structure is laid out, is in `koffi-memory`.
 *
 * - Functions are taken out of the list that `C_GetFunctionList` gives: some libraries export nothing else.
 * - What a structure points to lies in the same block of memory as the structure, which is held until the call has come
 *   back and then wiped: koffi keeps its direct arguments alive, and nothing that they point to.
 * - Calls run on a stack of koffi's own, where a module leaves what it computed last; a call with a large argument by
 *   value writes over it.
 * - The library stays loaded for the life of the process, whoever collects koffi's object.
 */
import { bufferOf, ownCopy, secretBytes, utf8Bytes, wipe } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import { importOptional } from '../../../base/optional.js'
import type {
  AttributeValue,
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
import { CKF } from './constants.js'
import { Pkcs11Error } from './errors.js'
import { aligned, Block, Fields, type Layout, readUlong } from './koffi-memory.js'
import { asBuffer, exactly, room } from './values.js'

/** What is used of koffi. */
interface Koffi {
  load(path: string | null): {
    func(name: string, result: string, parameters: (string | object)[]): NativeFunction
  }
  proto(result: string, parameters: string[]): object
  array(type: string, length: number): object
  struct(members: Readonly<Record<string, object>>): object
  decode(pointer: bigint, offset: number, type: string): unknown
  decode(pointer: bigint, type: object): unknown
  address(value: Uint8Array): bigint
  sizeof(type: string): number
}

type NativeFunction = (...given: (Uint8Array | bigint | number | null | typeof ZEROS)[]) => number | bigint

/** A function's place in CK_FUNCTION_LIST, and its parameters: `u` a CK_ULONG, `p` a pointer, `b` a CK_BBOOL. */
const FUNCTIONS = {
  C_Initialize: [0, 'p'],
  C_Finalize: [1, 'p'],
  C_GetInfo: [2, 'p'],
  C_GetSlotList: [4, 'bpp'],
  C_GetTokenInfo: [6, 'up'],
  C_OpenSession: [12, 'uuppp'],
  C_CloseSession: [13, 'u'],
  C_GetSessionInfo: [15, 'up'],
  C_Login: [18, 'uupu'],
  C_Logout: [19, 'u'],
  C_CreateObject: [20, 'upup'],
  C_CopyObject: [21, 'uupup'],
  C_DestroyObject: [22, 'uu'],
  C_GetAttributeValue: [24, 'uupu'],
  C_SetAttributeValue: [25, 'uupu'],
  C_FindObjectsInit: [26, 'upu'],
  C_FindObjects: [27, 'upup'],
  C_FindObjectsFinal: [28, 'u'],
  C_EncryptInit: [29, 'upu'],
  C_Encrypt: [30, 'upupp'],
  C_DecryptInit: [33, 'upu'],
  C_Decrypt: [34, 'upupp'],
  C_DigestInit: [37, 'up'],
  C_DigestUpdate: [39, 'upu'],
  C_DigestKey: [40, 'uu'],
  C_DigestFinal: [41, 'upp'],
  C_SignInit: [42, 'upu'],
  C_Sign: [43, 'upupp'],
  C_GenerateKey: [58, 'uppup'],
  C_GenerateKeyPair: [59, 'uppupupp'],
  C_WrapKey: [60, 'upuupp'],
  C_UnwrapKey: [61, 'upupupup'],
  C_DeriveKey: [62, 'upupup'],
  C_GenerateRandom: [64, 'upu'],
} as const

type FunctionName = keyof typeof FUNCTIONS | 'C_SessionCancel'

/** `C_SessionCancel` in CK_FUNCTION_LIST_3_0. */
const SESSION_CANCEL = 71

/** Longer than any attribute that is read here: what a library says of a length is not believed without bound. */
const MAX_ATTRIBUTE_BYTES = 1 << 20

const PARAMETERS = { u: 'unsigned long', p: 'void *', b: 'uint8_t' } as const

/**
 * A {@link LoadBinding} by koffi. Errors: `ERR_PKCS11_UNAVAILABLE` (koffi is not installed, or not for this platform),
 * `ERR_PKCS11_MODULE` (no such file, or no PKCS#11 library).
 */
export const loadKoffi: LoadBinding = async modulePath => {
  const koffi = await importKoffi()
  try {
    return new KoffiBinding(koffi, modulePath)
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'it does not load'
    throw new BackendError('ERR_PKCS11_MODULE', `${modulePath} is no PKCS#11 module: ${reason}`)
  }
}

async function importKoffi(): Promise<Koffi> {
  try {
    const namespace: { readonly default?: unknown } = await importOptional('koffi')
    return (namespace.default ?? namespace) as Koffi
  } catch (cause) {
    throw new BackendError('ERR_PKCS11_UNAVAILABLE', 'koffi does not load: run `npm install koffi`', {
      cause,
    })
  }
}

/** What the call that is under way points to: nothing that the library reads may be collected while it runs. */
const HELD: unknown[] = []
/** By path: libraries may keep the address of what they were initialised with. */
const INITIAL = new Map<string, Block>()

class KoffiBinding implements Pkcs11Binding {
  readonly name = 'koffi'
  readonly C_SessionCancel?: (session: SessionHandle, flags: number) => void
  readonly overwriteStack?: () => void
  readonly #koffi: Koffi
  readonly #layout: Layout
  readonly #functions = new Map<FunctionName, NativeFunction>()
  readonly #path: string

  constructor(koffi: Koffi, path: string) {
    this.#koffi = koffi
    this.#path = path
    const ulong = koffi.sizeof('unsigned long')
    const pointer = koffi.sizeof('void *')
    this.#layout = { ulong, pointer, packed: process.platform === 'win32' }
    const library = koffi.load(path)
    keepLoaded(koffi, path)
    const list = this.#pointerFrom(
      'C_GetFunctionList',
      library.func('C_GetFunctionList', 'unsigned long', ['void *']),
    )
    const overwrite = stackOverwriter(koffi)
    if (overwrite !== undefined) this.overwriteStack = overwrite
    for (const [name, [place, parameters]] of Object.entries(FUNCTIONS)) {
      this.#functions.set(name as FunctionName, this.#functionAt(list, place, parameters))
    }
    const newer = this.#newerList(library)
    if (newer === undefined) return
    this.#functions.set('C_SessionCancel', this.#functionAt(newer, SESSION_CANCEL, 'uu'))
    this.C_SessionCancel = (session, flags) => {
      this.#call('C_SessionCancel', [this.#value(session), flags])
    }
  }

  C_Initialize(parameters: string | undefined): void {
    const { pointer, ulong } = this.#layout
    const text = parameters === undefined ? undefined : utf8Bytes(`${parameters}\0`)
    // Four functions, the flags, the parameters; NSS has one pointer more behind them.
    const block = this.#block(6 * pointer + Math.max(ulong, pointer) + aligned(text?.length ?? 0) + 8)
    const at = block.reserve(6 * pointer + Math.max(ulong, pointer))
    const given = text === undefined ? 0n : block.address(block.put(text))
    block.write(at, [0n, 0n, 0n, 0n, CKF.OS_LOCKING_OK, given])
    INITIAL.set(this.#path, block)
    this.#call('C_Initialize', [block.bytes])
  }

  C_Finalize(): void {
    this.#call('C_Finalize', [null])
  }

  C_GetInfo(): ModuleInfo {
    const fields = this.#read('C_GetInfo', [])
    fields.byte()
    fields.byte()
    const manufacturer = fields.text(32)
    fields.ulong()
    const description = fields.text(32)
    return { description, manufacturer, version: `${fields.byte()}.${fields.byte()}` }
  }

  C_GetSlotList(): SlotId[] {
    const { ulong } = this.#layout
    const count = this.#number(0)
    this.#call('C_GetSlotList', [1, null, count])
    // Room for those that come between the two calls.
    const most = Number(readUlong(count, 0, ulong)) + 8
    const slots = room(most * ulong)
    const found = this.#number(most)
    this.#call('C_GetSlotList', [1, slots, found])
    return this.#split(slots, found) as SlotId[]
  }

  C_GetTokenInfo(slot: SlotId): TokenInfo {
    const fields = this.#read('C_GetTokenInfo', [this.#value(slot)])
    const [label, manufacturer] = [fields.text(32), fields.text(32)]
    const [model, serial] = [fields.text(16), fields.text(16)]
    const [flags, maxSessions, sessions] = [fields.ulong(), fields.ulong(), fields.ulong()]
    return {
      label,
      manufacturer,
      model,
      serial,
      flags,
      maxSessions,
      sessions,
    }
  }

  C_OpenSession(slot: SlotId, flags: number): SessionHandle {
    const session = this.#number(0)
    this.#call('C_OpenSession', [this.#value(slot), flags, null, null, session])
    return session as Uint8Array as SessionHandle
  }

  C_CloseSession(session: SessionHandle): void {
    this.#call('C_CloseSession', [this.#value(session)])
  }

  C_GetSessionInfo(session: SessionHandle): SessionInfo {
    const fields = this.#read('C_GetSessionInfo', [this.#value(session)])
    fields.ulong()
    return { state: fields.ulong(), flags: fields.ulong() }
  }

  C_Login(session: SessionHandle, userType: number, pin: string): void {
    // Absent where it is entered at the token itself.
    const bytes = pin === '' ? undefined : bufferOf(utf8Bytes(pin))
    try {
      this.#call('C_Login', [this.#value(session), userType, bytes ?? null, bytes?.length ?? 0])
    } finally {
      wipe(bytes)
    }
  }

  C_Logout(session: SessionHandle): void {
    this.#call('C_Logout', [this.#value(session)])
  }

  C_GenerateRandom(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
    const out = room(length)
    try {
      this.#call('C_GenerateRandom', [this.#value(session), asBuffer(out), length])
      return exactly(out, length)
    } catch (error) {
      wipe(out)
      throw error
    }
  }

  C_CreateObject(session: SessionHandle, template: Template): ObjectHandle {
    return this.#made('C_CreateObject', template, (list, count, object) => [
      this.#value(session),
      list,
      count,
      object,
    ])
  }

  C_CopyObject(session: SessionHandle, object: ObjectHandle, template: Template): ObjectHandle {
    return this.#made('C_CopyObject', template, (list, count, copy) => [
      this.#value(session),
      this.#value(object),
      list,
      count,
      copy,
    ])
  }

  C_DestroyObject(session: SessionHandle, object: ObjectHandle): void {
    this.#call('C_DestroyObject', [this.#value(session), this.#value(object)])
  }

  C_GetAttributeValue(session: SessionHandle, object: ObjectHandle, type: number): Uint8Array {
    const { pointer, ulong } = this.#layout
    const width = this.#attributeBytes()
    const handles = [this.#value(session), this.#value(object)]
    const asked = this.#block(width)
    const at = asked.reserve(width)
    asked.write(at, [type, 0n, 0])
    this.#call('C_GetAttributeValue', [...handles, asked.bytes, 1])
    // Behind the type and the pointer.
    const lengthAt = (this.#layout.packed ? ulong : pointer) + pointer
    const length = Number(readUlong(asked.bytes, lengthAt, ulong))
    if (length > MAX_ATTRIBUTE_BYTES) {
      throw new BackendError('ERR_BACKEND_FAILED', `C_GetAttributeValue: an attribute of ${length} bytes`)
    }
    if (length === 0) return secretBytes(0)
    const block = this.#block(aligned(width) + length)
    const attribute = block.reserve(width)
    const value = block.reserve(length)
    block.write(attribute, [type, block.address(value), length])
    try {
      this.#call('C_GetAttributeValue', [...handles, block.bytes, 1])
      const now = Number(readUlong(block.bytes, lengthAt, ulong))
      return ownCopy(block.bytes.subarray(value, value + Math.min(now, length)))
    } finally {
      // A library may have written the value, or a part of it, before it failed.
      wipe(block.bytes)
    }
  }

  C_SetAttributeValue(session: SessionHandle, object: ObjectHandle, template: Template): void {
    const { block, count } = this.#template(template)
    this.#call('C_SetAttributeValue', [this.#value(session), this.#value(object), block.bytes, count], block)
  }

  C_FindObjectsInit(session: SessionHandle, template: Template): void {
    const { block, count } = this.#template(template)
    this.#call('C_FindObjectsInit', [this.#value(session), block.bytes, count], block)
  }

  C_FindObjects(session: SessionHandle, max: number): ObjectHandle[] {
    const objects = room(max * this.#layout.ulong)
    const found = this.#number(0)
    this.#call('C_FindObjects', [this.#value(session), objects, max, found])
    return this.#split(objects, found) as ObjectHandle[]
  }

  C_FindObjectsFinal(session: SessionHandle): void {
    this.#call('C_FindObjectsFinal', [this.#value(session)])
  }

  C_EncryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    this.#begin('C_EncryptInit', session, mechanism, key)
  }

  C_Encrypt(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    return this.#answer('C_Encrypt', [this.#value(session), asBuffer(data), data.length], length)
  }

  C_DecryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    this.#begin('C_DecryptInit', session, mechanism, key)
  }

  C_Decrypt(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    return this.#answer('C_Decrypt', [this.#value(session), asBuffer(data), data.length], length)
  }

  C_SignInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    this.#begin('C_SignInit', session, mechanism, key)
  }

  C_Sign(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    return this.#answer('C_Sign', [this.#value(session), asBuffer(data), data.length], length)
  }

  C_DigestInit(session: SessionHandle, mechanism: Mechanism): void {
    const block = this.#mechanism(mechanism)
    this.#call('C_DigestInit', [this.#value(session), block.bytes], block)
  }

  C_DigestUpdate(session: SessionHandle, data: Uint8Array): void {
    this.#call('C_DigestUpdate', [this.#value(session), asBuffer(data), data.length])
  }

  C_DigestKey(session: SessionHandle, key: ObjectHandle): void {
    this.#call('C_DigestKey', [this.#value(session), this.#value(key)])
  }

  C_DigestFinal(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
    return this.#answer('C_DigestFinal', [this.#value(session)], length)
  }

  C_GenerateKey(session: SessionHandle, mechanism: Mechanism, template: Template): ObjectHandle {
    const how = this.#mechanism(mechanism)
    const build = (list: Uint8Array, count: number, key: Uint8Array) => [
      this.#value(session),
      how.bytes,
      list,
      count,
      key,
    ]
    return this.#made('C_GenerateKey', template, build, how)
  }

  C_GenerateKeyPair(
    session: SessionHandle,
    mechanism: Mechanism,
    publicTemplate: Template,
    privateTemplate: Template,
  ): { publicKey: ObjectHandle; privateKey: ObjectHandle } {
    const how = this.#mechanism(mechanism)
    const own = this.#template(publicTemplate)
    const publicKey = this.#number(0)
    const build = (list: Uint8Array, count: number, key: Uint8Array) => [
      this.#value(session),
      how.bytes,
      own.block.bytes,
      own.count,
      list,
      count,
      publicKey,
      key,
    ]
    const privateKey = this.#made('C_GenerateKeyPair', privateTemplate, build, how, own.block)
    return { publicKey: publicKey as Uint8Array as ObjectHandle, privateKey }
  }

  C_DeriveKey(
    session: SessionHandle,
    mechanism: Mechanism,
    key: ObjectHandle,
    template: Template,
  ): ObjectHandle {
    const how = this.#mechanism(mechanism)
    const build = (list: Uint8Array, count: number, derived: Uint8Array) => [
      this.#value(session),
      how.bytes,
      this.#value(key),
      list,
      count,
      derived,
    ]
    return this.#made('C_DeriveKey', template, build, how)
  }

  C_WrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    wrappingKey: ObjectHandle,
    key: ObjectHandle,
    length: number,
  ): Uint8Array<ArrayBuffer> {
    const how = this.#mechanism(mechanism)
    const given = [this.#value(session), how.bytes, this.#value(wrappingKey), this.#value(key)]
    return this.#answer('C_WrapKey', given, length, how)
  }

  C_UnwrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    unwrappingKey: ObjectHandle,
    wrapped: Uint8Array,
    template: Template,
  ): ObjectHandle {
    const how = this.#mechanism(mechanism)
    const build = (list: Uint8Array, count: number, key: Uint8Array) => [
      this.#value(session),
      how.bytes,
      this.#value(unwrappingKey),
      asBuffer(wrapped),
      wrapped.length,
      list,
      count,
      key,
    ]
    return this.#made('C_UnwrapKey', template, build, how)
  }

  /** Makes one call. What its structures point to is in `blocks`, which are wiped when it is over. */
  #call(name: FunctionName, given: Parameters<NativeFunction>, ...blocks: readonly Block[]): void {
    // Each has one, if only one that says that it is not supported.
    const native = this.#functions.get(name) as NativeFunction
    HELD.push(given, blocks)
    let result: number
    try {
      result = Number(native(...given))
    } catch {
      throw new BackendError('ERR_BACKEND_FAILED', `${name}: koffi refused the call`)
    } finally {
      HELD.length = 0
      for (const { bytes } of blocks) wipe(bytes)
    }
    if (result !== 0) throw new Pkcs11Error(name, result)
  }

  /** A call that writes a structure; of the ones that are read here, none is as long. */
  #read(name: FunctionName, given: Parameters<NativeFunction>): Fields {
    const bytes = room(512)
    this.#call(name, [...given, bytes])
    return new Fields(bytes, this.#layout)
  }

  /** A call that begins an operation. */
  #begin(name: FunctionName, session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    const block = this.#mechanism(mechanism)
    this.#call(name, [this.#value(session), block.bytes, this.#value(key)], block)
  }

  /** A call that writes so many bytes at most. A library may have written some of them before it failed. */
  #answer(
    name: FunctionName,
    given: Parameters<NativeFunction>,
    length: number,
    ...blocks: readonly Block[]
  ): Uint8Array<ArrayBuffer> {
    const out = room(length)
    const written = this.#number(length)
    try {
      this.#call(name, [...given, asBuffer(out), written], ...blocks)
      return exactly(out, Math.min(length, Number(readUlong(written, 0, this.#layout.ulong))))
    } catch (error) {
      wipe(out)
      throw error
    }
  }

  /** A call that makes an object out of a template. */
  #made(
    name: FunctionName,
    template: Template,
    build: (list: Uint8Array, count: number, object: Uint8Array) => Parameters<NativeFunction>,
    ...blocks: readonly Block[]
  ): ObjectHandle {
    const { block, count } = this.#template(template)
    const object = this.#number(0)
    this.#call(name, build(block.bytes, count, object), block, ...blocks)
    return object as Uint8Array as ObjectHandle
  }

  #block(size: number): Block {
    return new Block(this.#koffi, this.#layout, size)
  }

  /** A CK_ULONG in memory, for a library to write to. */
  #number(value: number): Buffer<ArrayBuffer> {
    const bytes = room(this.#layout.ulong)
    bytes.writeUInt32LE(value)
    return bytes
  }

  #value(handle: Uint8Array): number | bigint {
    return readUlong(handle, 0, this.#layout.ulong)
  }

  /** The first so many CK_ULONGs, each by itself. */
  #split(list: Buffer, count: Buffer): Uint8Array[] {
    const { ulong } = this.#layout
    const length = Math.min(Number(readUlong(count, 0, ulong)), list.length / ulong)
    return Array.from({ length }, (_, i) => {
      const own = room(ulong)
      list.copy(own, 0, i * ulong)
      return own
    })
  }

  /** CK_ATTRIBUTE and CK_MECHANISM are a CK_ULONG, a pointer and a CK_ULONG, both. */
  #attributeBytes(): number {
    const { ulong, pointer, packed } = this.#layout
    return packed ? 2 * ulong + pointer : 3 * pointer
  }

  #mechanism({ mechanism, parameter }: Mechanism): Block {
    const { ulong, pointer, packed } = this.#layout
    const width = this.#attributeBytes()
    const ecdh = packed ? 3 * ulong + 2 * pointer : 5 * pointer
    if (parameter === undefined || typeof parameter === 'number') {
      const block = this.#block(aligned(width) + 8)
      const at = block.reserve(width)
      const value = block.reserve(ulong)
      if (parameter !== undefined) block.write(value, [parameter])
      block.write(at, parameter === undefined ? [mechanism, 0n, 0] : [mechanism, block.address(value), ulong])
      return block
    }
    if (parameter instanceof Uint8Array) {
      const block = this.#block(aligned(width) + aligned(parameter.length))
      const at = block.reserve(width)
      block.write(at, [mechanism, block.address(block.put(parameter)), parameter.length])
      return block
    }
    if ('derivationData' in parameter) {
      const { derivationData } = parameter
      const pair = packed ? ulong + pointer : 2 * pointer
      const block = this.#block(aligned(width) + aligned(pair) + aligned(derivationData.length))
      const at = block.reserve(width)
      const params = block.reserve(pair)
      block.write(params, [block.address(block.put(derivationData)), derivationData.length])
      block.write(at, [mechanism, block.address(params), pair])
      return block
    }
    const { kdf, publicData, sharedData } = parameter
    const block = this.#block(
      aligned(width) + aligned(ecdh) + aligned(publicData.length) + aligned(sharedData?.length ?? 0),
    )
    const at = block.reserve(width)
    const params = block.reserve(ecdh)
    const shared = sharedData === undefined ? 0n : block.address(block.put(sharedData))
    const point = block.address(block.put(publicData))
    block.write(params, [kdf, sharedData?.length ?? 0, shared, publicData.length, point])
    block.write(at, [mechanism, block.address(params), ecdh])
    return block
  }

  #template(template: Template): { block: Block; count: number } {
    const entries = withValues(template)
    const block = this.#block(this.#templateBytes(entries))
    this.#writeTemplate(block, entries)
    return { block, count: entries.length }
  }

  /** How much memory a template needs, with all that it points to. */
  #templateBytes(entries: readonly Entry[]): number {
    const values = entries.map(([, value]) => {
      if (isTemplate(value)) return this.#templateBytes(withValues(value))
      return aligned(this.#encoded(value).length)
    })
    return values.reduce((sum, size) => sum + size, aligned(entries.length * this.#attributeBytes()))
  }

  /** Writes the attributes one behind the other; gives their place. */
  #writeTemplate(block: Block, entries: readonly Entry[]): number {
    const width = this.#attributeBytes()
    const start = block.reserve(entries.length * width)
    for (const [i, [type, value]] of entries.entries()) {
      const at = start + i * width
      if (isTemplate(value)) {
        const nested = withValues(value)
        block.write(at, [type, block.address(this.#writeTemplate(block, nested)), nested.length * width])
      } else {
        const bytes = this.#encoded(value)
        block.write(at, [type, block.address(block.put(bytes)), bytes.length])
      }
    }
    return start
  }

  /** A plain value as the standard's bytes: CK_BBOOL, CK_ULONG, text, or bytes as they are. */
  #encoded(value: Exclude<AttributeValue, Template>): Uint8Array {
    if (value instanceof Uint8Array) return value
    if (typeof value === 'boolean') return secretBytes(1).fill(value ? 1 : 0)
    if (typeof value === 'string') return utf8Bytes(value)
    const numbers: readonly unknown[] =
      typeof value === 'number' ? [value] : Array.isArray(value) ? value : []
    const { ulong } = this.#layout
    const bytes = room(ulong * numbers.length)
    for (const [i, number] of numbers.entries()) {
      if (typeof number !== 'number' || !Number.isInteger(number) || number < 0 || number > 0xffff_ffff) {
        throw new BackendError('ERR_BACKEND_FAILED', 'an attribute value has a type that cannot be passed on')
      }
      bytes.writeUInt32LE(number, ulong * i)
    }
    if (numbers.length > 0) return bytes
    throw new BackendError('ERR_BACKEND_FAILED', 'an attribute value has a type that cannot be passed on')
  }

  /** The pointer that a function writes to the place it is given. */
  #pointerFrom(name: string, native: NativeFunction, ...before: Parameters<NativeFunction>): bigint {
    const out = room(this.#layout.pointer)
    const result = Number(native(...before, out))
    if (result !== 0) throw new Pkcs11Error(name, result)
    return BigInt(readUlong(out, 0, this.#layout.pointer))
  }

  #functionAt(list: bigint, place: number, parameters: string): NativeFunction {
    const { pointer, packed } = this.#layout
    // A CK_VERSION of two bytes comes first.
    const offset = (packed ? 2 : pointer) + place * pointer
    const address = this.#koffi.decode(list, offset, 'void *')
    if (typeof address !== 'bigint' || address === 0n) return () => NOT_SUPPORTED
    let prototype = PROTOTYPES.get(parameters)
    if (prototype === undefined) {
      const types = Array.from(parameters, letter => PARAMETERS[letter as keyof typeof PARAMETERS])
      prototype = this.#koffi.proto('unsigned long', types)
      PROTOTYPES.set(parameters, prototype)
    }
    return this.#koffi.decode(address, prototype) as NativeFunction
  }

  /** The list of PKCS#11 3.0, from a library that has one. */
  #newerList(library: ReturnType<Koffi['load']>): bigint | undefined {
    try {
      const get = library.func('C_GetInterface', 'unsigned long', [
        'void *',
        'void *',
        'void *',
        'unsigned long',
      ])
      const out = room(this.#layout.pointer)
      // A CK_VERSION: 3 and 0.
      if (Number(get(null, secretBytes(2).fill(3, 0, 1), out, 0)) !== 0) return undefined
      const found = BigInt(readUlong(out, 0, this.#layout.pointer))
      // A name, then the list; which begins with its version.
      const list = this.#koffi.decode(found, this.#layout.pointer, 'void *')
      if (typeof list !== 'bigint' || this.#koffi.decode(list, 0, 'uint8_t') !== 3) return undefined
      return list
    } catch {
      return undefined
    }
  }
}

/** By parameters; koffi keeps each prototype for ever. */
const PROTOTYPES = new Map<string, object>()

/** CKR_FUNCTION_NOT_SUPPORTED, of a function that is not in a library's list. */
const NOT_SUPPORTED = 0x54

type Entry = readonly [type: number, value: AttributeValue]

function withValues(template: Template): Entry[] {
  return template.flatMap(([type, value]) => (value === undefined ? [] : [[type, value] as const]))
}

function isTemplate(value: AttributeValue): value is Template {
  return Array.isArray(value) && value.length > 0 && value.every(item => Array.isArray(item))
}

/** RTLD_NOW and RTLD_NODELETE, by platform; elsewhere koffi's own reference has to do. */
const KEEP: Readonly<Record<string, number>> = { linux: 0x1002, darwin: 0x82 }

/** As much of koffi's stack as is written over: SoftHSM's answers were found 5 KiB below its beginning. */
const ZEROS = { bytes: new Uint8Array(16_384) }
/** One a process, or thread: koffi keeps each type for ever. */
let overwriter: (() => void) | undefined

/**
 * Writes zeros over the stack that koffi calls on, where an argument by value lies on it: by the ABI of Linux and macOS on x86-64.
 * Elsewhere (arm64, Windows) it is passed by its address, and there is nothing that would reach so far. A function of C that
 * reads no memory is given it beside its own argument: the caller makes and clears the place, so that it need not know.
 */
function stackOverwriter(koffi: Koffi): (() => void) | undefined {
  if (!(process.platform in KEEP) || process.arch !== 'x64') return undefined
  if (overwriter === undefined) {
    const large = koffi.struct({ bytes: koffi.array('uint8_t', ZEROS.bytes.length) })
    const abs = koffi.load(null).func('abs', 'int', ['int', large])
    overwriter = () => void abs(0, ZEROS)
  }
  return overwriter
}

/** Loads it once more, never to be unloaded: whoever closes first must not pull it from under another thread. */
function keepLoaded(koffi: Koffi, path: string): void {
  const flags = KEEP[process.platform]
  if (flags === undefined) return
  const dlopen = koffi.load(null).func('dlopen', 'void *', ['void *', 'int'])
  dlopen(utf8Bytes(`${path}\0`), flags)
}
