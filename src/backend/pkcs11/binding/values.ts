/** Values on their way to and from a binding: buffers and texts for both, and what pkcs11js wants mechanisms and templates to be. */
import { bufferOf, overwriteStack, ownCopy, secretBytes, withWiped } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import type { AttributeValue, Mechanism, ModuleInfo, ObjectHandle, Template, TokenInfo } from './binding.js'
import { CKR } from './constants.js'
import { Pkcs11Error } from './errors.js'

/** `CK_PARAMS_EC_DH` of pkcs11js: tells it which structure the parameter is. */
const EC_DH_PARAMETER = 6

/** Not `Buffer.alloc(0)`, whose address is NULL. */
export const EMPTY: Buffer = Buffer.alloc(8).subarray(0, 0)

/** Between pkcs11js's `Buffer` and our branded handles. */
export type Bytes = Uint8Array

/** Writes zeros over what calls that have returned left on the stack: this thread's, and a binding's own where it has one. */
export function overwriteStacks(binding: { readonly overwriteStack?: (() => void) | undefined }): void {
  overwriteStack()
  try {
    binding.overwriteStack?.()
  } catch {
    // Whatever the caller has to do matters more: it is about to give a session back, or to destroy components.
  }
}

/** An object handle of pkcs11js as ours. */
export function handle(buffer: Bytes): ObjectHandle {
  return buffer as ObjectHandle
}

/** The same memory as a `Buffer`; never with a NULL address. */
export function asBuffer(bytes: Uint8Array): Buffer {
  if (bytes.length === 0) return EMPTY
  return Buffer.isBuffer(bytes) ? bytes : bufferOf(bytes)
}

/** Memory of its own, outside the pool of small buffers. */
export function room(length: number): Buffer<ArrayBuffer> {
  return bufferOf(secretBytes(length)) as Buffer<ArrayBuffer>
}

/** The first bytes of a buffer made by {@link room}, as a plain array in memory of its own. */
export function exactly(out: Buffer<ArrayBuffer>, length: number): Uint8Array<ArrayBuffer> {
  if (length === out.length) return new Uint8Array(out.buffer)
  return withWiped(out, whole => ownCopy(whole.subarray(0, length)))
}

/**
 * Room for one block and its answer, made once: a view of new memory for each call costs more than what a token in this
 * process does with it. Who uses it wipes it before the next call, and there is none in between.
 */
export class RoomForOne {
  readonly #rooms = new Map([8, 16].map(length => [length, [room(length), room(length)] as const]))

  /** The block's copy and room for the answer; undefined for other lengths. */
  of(block: Uint8Array): readonly [given: Buffer<ArrayBuffer>, out: Buffer<ArrayBuffer>] | undefined {
    const rooms = this.#rooms.get(block.length)
    if (rooms !== undefined) for (let i = 0; i < block.length; i++) rooms[0][i] = block[i] as number
    return rooms
  }
}

interface NativeEcdhParameter {
  type: number
  kdf: number
  publicData: Buffer
  sharedData?: Buffer
}

/** A mechanism as pkcs11js takes it. */
export function native(mechanism: Mechanism): {
  mechanism: number
  parameter?: number | Buffer | NativeEcdhParameter
} {
  const { parameter } = mechanism
  // As it is: most calls are of a few mechanisms that have none.
  if (!('parameter' in mechanism)) return mechanism as { readonly mechanism: number }
  if (parameter === undefined) return { mechanism: mechanism.mechanism }
  if (typeof parameter === 'number') return { mechanism: mechanism.mechanism, parameter }
  if (parameter instanceof Uint8Array) {
    return { mechanism: mechanism.mechanism, parameter: asBuffer(parameter) }
  }
  // A structure with a pointer in it, which pkcs11js cannot make: as a token says that has no such mechanism.
  if ('derivationData' in parameter) throw new Pkcs11Error('C_DeriveKey', CKR.MECHANISM_INVALID)
  const { kdf, publicData, sharedData } = parameter
  const ecdh: NativeEcdhParameter = { type: EC_DH_PARAMETER, kdf, publicData: asBuffer(publicData) }
  // Present and undefined is a type error there.
  if (sharedData !== undefined) ecdh.sharedData = asBuffer(sharedData)
  return { mechanism: mechanism.mechanism, parameter: ecdh }
}

/** A template as pkcs11js takes it, without entries that have no value. */
export function attributes(
  template: Template,
): { type: number; value: boolean | number | string | Buffer }[] {
  return template.flatMap(([type, value]) =>
    value === undefined ? [] : [{ type, value: soundValue(value) }],
  )
}

/** What pkcs11js converts without harm; anything else aborts the process. */
function soundValue(value: AttributeValue): boolean | number | string | Buffer {
  if (typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return value
  if (value instanceof Uint8Array) return asBuffer(value)
  if (Array.isArray(value) && value.length > 0 && value.every(item => typeof item === 'number')) {
    return ulongs(value)
  }
  // A nested template holds pointers, which pkcs11js cannot make.
  if (Array.isArray(value) && value.length > 0 && value.every(item => Array.isArray(item))) {
    throw new Pkcs11Error('C_CreateObject', CKR.ATTRIBUTE_TYPE_INVALID)
  }
  throw new BackendError('ERR_BACKEND_FAILED', 'an attribute value has a type that cannot be passed on')
}

/** CK_ULONGs of eight bytes, as on every platform but Windows, in the order of this machine's bytes. */
function ulongs(values: readonly number[]): Buffer {
  const bytes = secretBytes(8 * values.length)
  new BigUint64Array(bytes.buffer).set(values.map(BigInt))
  return bufferOf(bytes)
}

interface NativeModuleInfo {
  libraryDescription: string
  manufacturerID: string
  libraryVersion: { major: number; minor: number }
}

export function moduleInfo(info: NativeModuleInfo): ModuleInfo {
  return {
    description: trimmed(info.libraryDescription),
    manufacturer: trimmed(info.manufacturerID),
    version: `${info.libraryVersion.major}.${info.libraryVersion.minor}`,
  }
}

interface NativeTokenInfo {
  label: string
  manufacturerID: string
  model: string
  serialNumber: string
  flags: number
  maxSessionCount: number
  sessionCount: number
}

export function tokenInfo(info: NativeTokenInfo): TokenInfo {
  return {
    label: trimmed(info.label),
    manufacturer: trimmed(info.manufacturerID),
    model: trimmed(info.model),
    serial: trimmed(info.serialNumber),
    flags: info.flags,
    maxSessions: info.maxSessionCount,
    sessions: info.sessionCount,
  }
}

/** Without the spaces and NULs that pad the texts of the standard. */
export function trimmed(text: string): string {
  return text.replace(/[\s\0]+$/u, '')
}

/** Makes one call; what it throws becomes an error of ours that names the function. */
export function call<T>(functionName: string, make: () => T): T {
  try {
    return make()
  } catch (error) {
    throw normalised(functionName, error)
  }
}

/** One shape for `Pkcs11Error{code}`, `Error('CKR_…:<number>')` and `TypeError`. Nothing of the original is kept. */
function normalised(functionName: string, error: unknown): Error {
  if (error instanceof Pkcs11Error) return error
  if (error instanceof Error) {
    const code: unknown = Reflect.get(error, 'code')
    if (typeof code === 'number' && code !== 0) return new Pkcs11Error(functionName, code)
    const [, number] = /CKR_\w+:(\d+)/.exec(error.message) ?? []
    if (number !== undefined) return new Pkcs11Error(functionName, Number(number))
  }
  return new BackendError('ERR_BACKEND_FAILED', `${functionName}: pkcs11js refused the call`)
}
