/**
 * A PKCS#11 token in memory, for unit tests: real cryptography by node:crypto, real rules for sessions, objects,
 * role bits and active operations, and a switch that makes call number K fail. It notes what a token cannot tell:
 * which session was used after a failure, how often somebody logged in, which buffers with secrets it gave out.
 */

import {
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHash,
  createHmac,
  type ECDH,
  randomBytes,
} from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
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
} from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKD, CKF, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { concatKdf } from '../../src/primitives/concat-kdf.js'
import { cmac } from '../../src/primitives/mac.js'
import { complain } from '../support/complaints.js'
import { scratchFolder } from '../support/scratch.js'
import { derOf, SAME_NONCE, signDigestWith } from './fake-ecdsa.js'

type Attributes = Map<number, AttributeValue>

interface FakeObject {
  readonly attributes: Attributes
  /** Undefined for token objects. */
  readonly session: number | undefined
}

interface FakeSession {
  operation:
    | { readonly fn: string; readonly key: Attributes | undefined; readonly mechanism: Mechanism }
    | undefined
  digest: Uint8Array[]
  search: number[]
  /** The call that failed on it with something other than a data error. */
  spoiltBy: string | undefined
}

/** What a fake token is like. */
export interface FakeOptions {
  readonly tokens?: readonly Partial<TokenInfo>[]
  readonly pin?: string
  /** Mechanisms (or key types, as negative numbers) that are refused. */
  readonly without?: readonly number[]
  /** Refuses clear keys. */
  readonly noImport?: boolean
  /** C_DigestKey is refused. */
  readonly noDigestKey?: boolean
  /** Knows CKD_SHA256_KDF_SP800. */
  readonly kdf?: boolean
  readonly maxSessions?: number
  /** Vendor retail MAC mechanism and how many bytes of it come out. */
  readonly retail?: { readonly mechanism: number; readonly bytes: number }
  /** Signs wrongly: in DER, always with one nonce, or with s = 0. */
  readonly ecdsa?: 'der' | 'one-nonce' | 's-zero'
  /** CKA_CHECK_VALUE is not kept. */
  readonly noCheckValue?: boolean
  /** CKA_VALUE_LEN of imported AES keys is not kept. */
  readonly noValueLength?: boolean
  /** Gives wrong answers for this mechanism. */
  readonly wrong?: number
  /** Sets DES parity on blocks that pass through C_UnwrapKey. */
  readonly parityOnUnwrap?: boolean
  readonly alreadyInitialised?: boolean
  /** Copies that widen rights are made of all keys, or of those that are copyable, whatever CKA_MODIFIABLE says. */
  readonly copies?: 'all' | 'copyable' | 'uncopyable'
  /** CKA_MODIFIABLE is not honoured. */
  readonly modifies?: boolean
  /** Attributes a template may not have: refused with this return value. */
  readonly refuses?: { readonly types: readonly number[]; readonly code: number }
  /** Attributes that are not shown. */
  readonly hides?: readonly number[]
  /** CKA_UNWRAP_TEMPLATE and CKA_WRAP_TEMPLATE are stored and not looked at. */
  readonly ignoresTemplates?: boolean
  /** CKA_CHECK_VALUE is what a template states, right or wrong; else a template that states it is refused. */
  readonly statesAnyCheckValue?: boolean
  /** C_WrapKey does not look at CKA_EXTRACTABLE, by any mechanism or by this one. */
  readonly wrapsOut?: true | number
  /** Longest generic secret; longer ones are refused, or cut short. */
  readonly maxSecret?: { readonly bytes: number; readonly cut: boolean }
}

/** What an object has that was not given it. */
const DEFAULTS: ReadonlyMap<number, boolean> = new Map([
  [CKA.COPYABLE, true],
  [CKA.ALWAYS_SENSITIVE, false],
  [CKA.NEVER_EXTRACTABLE, false],
])

const FOLDER: string = scratchFolder('ipc-fake-')
let made = 0

/** What may still be called on a session that failed, before it is closed. */
const CLEANING_UP: readonly string[] = ['C_FindObjectsFinal', 'C_DestroyObject', 'C_Logout']
/** Functions that begin no operation: where they refuse a template there is nothing left active. */
const OBJECTS: readonly string[] = [
  'C_CreateObject',
  'C_CopyObject',
  'C_SetAttributeValue',
  'C_GenerateKey',
  'C_GenerateKeyPair',
]
/** To clean up, or to ask whether the token is there: refused like all others, and no mistake. */
const MAY_COME_LATE = /^C_(Close|Logout|Finalize|Get)/
const TEMPLATE_ERRORS: readonly number[] = [0x05, 0x10, 0x12, 0x13, 0xd1]
const DES_MECHANISMS: readonly number[] = [CKM.DES3_ECB, CKM.DES3_CBC, CKM.DES3_CMAC]
const AES_MECHANISMS: readonly number[] = [CKM.AES_ECB, CKM.AES_CBC, CKM.AES_CMAC]
const DATA_ERRORS: readonly number[] = [0x20, 0x21, 0x40, 0x41, 0xc0, 0xc1]

/** By their private keys: to set one up takes longer than to agree, and a test asks a token hundreds of times. */
const agreements = new Map<string, ECDH>()

function agreementOf(privateKey: Uint8Array): ECDH {
  const name = Buffer.from(privateKey).toString('hex')
  const known = agreements.get(name)
  if (known !== undefined) return known
  const made = createECDH('prime256v1')
  made.setPrivateKey(privateKey)
  if (agreements.size > 100) agreements.clear()
  agreements.set(name, made)
  return made
}

export class FakeToken implements Pkcs11Binding {
  readonly name: string = 'fake'
  readonly options: FakeOptions
  /** A file of its own: modules are told apart by path. */
  readonly path: string = join(FOLDER, `fake-${made++}.so`)
  /** Every call since {@link reset}, by name. */
  calls: string[] = []
  /** The call that fails: its number since {@link reset}, counted from 1, and its return value. */
  fault: { readonly at: number; readonly code: number } | undefined
  /** A function that fails each time. */
  faultOf: { readonly fn: string; readonly code: number } | undefined
  /** Calls that used a session after it had failed. */
  readonly violations: string[] = []
  /** Calls after C_Finalize and before C_Initialize: real modules crash at them. Each is refused, too. */
  readonly late: string[] = []
  #finalised = false
  /** Secrets given out: what was decrypted, read or digested. The library wipes what it does not hand on. */
  readonly given: Uint8Array[] = []
  logins = 0
  refusedPins = 0
  initialised = 0
  readonly parameters: (string | undefined)[] = []
  loggedIn = false
  readonly sessions = new Map<number, FakeSession>()
  readonly objects = new Map<number, FakeObject>()
  #next = 1

  constructor(options: FakeOptions = {}) {
    this.options = options
    writeFileSync(this.path, '')
  }

  get load(): LoadBinding {
    return async () => this
  }

  reset(fault?: { at: number; code: number }): void {
    this.calls = []
    this.fault = fault
    this.given.length = 0
  }

  /** Objects by whether they live in the token or in a session. */
  get census(): { token: number; session: number } {
    const all = [...this.objects.values()]
    return {
      token: all.filter(object => object.session === undefined).length,
      session: all.filter(object => object.session !== undefined).length,
    }
  }

  /** What C_Logout or C_CloseAllSessions by somebody else does: private session objects go, and handles with them. */
  logOut(): void {
    this.loggedIn = false
    for (const [id, { session }] of this.objects) if (session !== undefined) this.objects.delete(id)
  }

  /** A token object as another tool would have made it. */
  plant(template: Template): void {
    this.#add(template, undefined)
  }

  /** Removes token objects by label, as another process would. */
  remove(label: string): void {
    for (const [id, { attributes }] of this.objects) {
      if (attributes.get(CKA.LABEL) === label) this.objects.delete(id)
    }
  }

  C_Initialize(parameters: string | undefined): void {
    this.#enter('C_Initialize')
    this.parameters.push(parameters)
    if (this.initialised > 0 || this.options.alreadyInitialised === true)
      throw new Pkcs11Error('C_Initialize', 0x191)
    this.initialised++
    this.#finalised = false
  }

  C_Finalize(): void {
    this.#enter('C_Finalize')
    if (this.initialised === 0) throw new Pkcs11Error('C_Finalize', 0x190)
    this.initialised--
    this.#finalised = this.initialised === 0
    this.sessions.clear()
    this.loggedIn = false
    for (const [id, { session }] of this.objects) if (session !== undefined) this.objects.delete(id)
  }

  C_GetInfo(): ModuleInfo {
    this.#enter('C_GetInfo')
    return { description: 'fake', manufacturer: 'test', version: '1.0' }
  }

  C_GetSlotList(): SlotId[] {
    this.#enter('C_GetSlotList')
    return this.#tokens().map((_, i) => handle<SlotId>(i))
  }

  C_GetTokenInfo(slot: SlotId): TokenInfo {
    this.#enter('C_GetTokenInfo')
    const info = this.#tokens()[number(slot)]
    if (info === undefined) throw new Pkcs11Error('C_GetTokenInfo', 0x03)
    return {
      label: 'fake',
      manufacturer: 'test',
      model: 'fake',
      serial: `s${number(slot)}`,
      flags: CKF.TOKEN_INITIALIZED | CKF.LOGIN_REQUIRED | CKF.USER_PIN_INITIALIZED,
      maxSessions: this.options.maxSessions ?? 0,
      sessions: this.sessions.size,
      ...info,
    }
  }

  C_OpenSession(_slot: SlotId, _flags: number): SessionHandle {
    this.#enter('C_OpenSession')
    if (this.sessions.size >= (this.options.maxSessions ?? 1000)) throw new Pkcs11Error('C_OpenSession', 0xb1)
    const id = this.#next++
    this.sessions.set(id, { operation: undefined, digest: [], search: [], spoiltBy: undefined })
    return handle<SessionHandle>(id)
  }

  C_CloseSession(session: SessionHandle): void {
    this.#enter('C_CloseSession')
    if (!this.sessions.delete(number(session))) throw new Pkcs11Error('C_CloseSession', 0xb3)
    for (const [id, object] of this.objects) {
      if (object.session === number(session)) this.objects.delete(id)
    }
  }

  C_GetSessionInfo(session: SessionHandle): SessionInfo {
    this.#on('C_GetSessionInfo', session)
    return { state: this.loggedIn ? 1 : 0, flags: CKF.SERIAL_SESSION }
  }

  C_Login(session: SessionHandle, _userType: number, pin: string): void {
    this.logins++
    this.#on('C_Login', session)
    if (this.loggedIn) throw new Pkcs11Error('C_Login', 0x100)
    if (pin !== (this.options.pin ?? '1234')) {
      this.refusedPins++
      throw new Pkcs11Error('C_Login', 0xa0)
    }
    this.loggedIn = true
  }

  C_Logout(session: SessionHandle): void {
    this.#on('C_Logout', session)
    this.loggedIn = false
  }

  C_GenerateRandom(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
    this.#on('C_GenerateRandom', session)
    this.#mechanism('C_GenerateRandom', -1)
    return this.options.wrong === -1 ? new Uint8Array(length) : new Uint8Array(randomBytes(length))
  }

  C_CreateObject(session: SessionHandle, template: Template): ObjectHandle {
    this.#on('C_CreateObject', session)
    if (this.options.noImport === true) throw new Pkcs11Error('C_CreateObject', 0x1b)
    return this.#add(template, session)
  }

  C_CopyObject(session: SessionHandle, object: ObjectHandle, template: Template): ObjectHandle {
    this.#on('C_CopyObject', session)
    const attributes = this.#object('C_CopyObject', object, 0x82)
    const { copies } = this.options
    const ignores = copies === 'all'
    if (!ignores && copies !== 'uncopyable' && attributes.get(CKA.COPYABLE) === false)
      throw new Pkcs11Error('C_CopyObject', 0x1b)
    if (!ignores && copies === undefined && attributes.get(CKA.MODIFIABLE) === false)
      throw new Pkcs11Error('C_CopyObject', 0x10)
    return this.#add([...attributes, ...template], session)
  }

  C_SetAttributeValue(session: SessionHandle, object: ObjectHandle, template: Template): void {
    this.#on('C_SetAttributeValue', session)
    const attributes = this.#object('C_SetAttributeValue', object, 0x82)
    if (this.options.modifies !== true && attributes.get(CKA.MODIFIABLE) === false)
      throw new Pkcs11Error('C_SetAttributeValue', 0x10)
    for (const [type, value] of template) if (value !== undefined) attributes.set(type, value)
  }

  C_DestroyObject(session: SessionHandle, object: ObjectHandle): void {
    this.#on('C_DestroyObject', session)
    if (!this.objects.delete(number(object))) throw new Pkcs11Error('C_DestroyObject', 0x82)
  }

  C_GetAttributeValue(session: SessionHandle, object: ObjectHandle, type: number): Uint8Array {
    this.#on('C_GetAttributeValue', session)
    const attributes = this.#object('C_GetAttributeValue', object, 0x82)
    if (type === CKA.VALUE && attributes.get(CKA.SENSITIVE) !== false) {
      throw new Pkcs11Error('C_GetAttributeValue', 0x11)
    }
    if (type === CKA.CHECK_VALUE) return this.#checkValue(attributes)
    const value = attributes.get(type) ?? DEFAULTS.get(type)
    if (value === undefined || this.options.hides?.includes(type) === true)
      throw new Pkcs11Error('C_GetAttributeValue', 0x12)
    const bytes = toBytes(value)
    return type === CKA.VALUE ? this.#give(bytes) : bytes
  }

  C_FindObjectsInit(session: SessionHandle, template: Template): void {
    const state = this.#start('C_FindObjectsInit', session)
    const wanted = template.filter(([, value]) => value !== undefined)
    state.search = [...this.objects].flatMap(([id, { attributes }]) =>
      // Private objects are there for those who are logged in.
      (this.#isOpen || attributes.get(CKA.PRIVATE) !== true) &&
      wanted.every(([type, value]) => same(attributes.get(type), value))
        ? [id]
        : [],
    )
    state.operation = { fn: 'C_FindObjects', key: undefined, mechanism: { mechanism: 0 } }
  }

  C_FindObjects(session: SessionHandle, max: number): ObjectHandle[] {
    return this.#active('C_FindObjects', session, 'C_FindObjects')
      .search.splice(0, Math.min(max, 2))
      .map(id => handle<ObjectHandle>(id))
  }

  C_FindObjectsFinal(session: SessionHandle): void {
    this.#active('C_FindObjectsFinal', session, 'C_FindObjects').operation = undefined
  }

  C_EncryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    this.#init('C_EncryptInit', session, mechanism, key, CKA.ENCRYPT)
  }

  C_Encrypt(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    const { mechanism, key } = this.#finish('C_Encrypt', session, 'C_EncryptInit')
    return this.#answer(mechanism.mechanism, cipher('encrypt', mechanism, key, data), length)
  }

  C_DecryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    this.#init('C_DecryptInit', session, mechanism, key, CKA.DECRYPT)
  }

  C_Decrypt(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    const { mechanism, key } = this.#finish('C_Decrypt', session, 'C_DecryptInit')
    return this.#give(this.#answer(mechanism.mechanism, cipher('decrypt', mechanism, key, data), length))
  }

  C_SignInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
    this.#init('C_SignInit', session, mechanism, key, CKA.SIGN)
  }

  C_Sign(session: SessionHandle, data: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
    const { mechanism, key } = this.#finish('C_Sign', session, 'C_SignInit')
    const { retail } = this.options
    if (mechanism.mechanism === CKM.ECDSA) return this.#answer(CKM.ECDSA, this.#ecdsa(key, data), length)
    if (mechanism.mechanism === retail?.mechanism) {
      return this.#answer(mechanism.mechanism, retailOf(key, data).subarray(0, retail.bytes), length)
    }
    if (mechanism.mechanism === CKM.SHA256_HMAC) {
      return this.#answer(CKM.SHA256_HMAC, createHmac('sha256', keyBytes(key)).update(data).digest(), length)
    }
    const blockBytes = mechanism.mechanism === CKM.AES_CMAC ? 16 : 8
    const cbc = { mechanism: blockBytes === 16 ? CKM.AES_CBC : CKM.DES3_CBC }
    const mac = cmac(
      { blockBytes, encipherCbc: (iv, blocks) => cipher('encrypt', { ...cbc, parameter: iv }, key, blocks) },
      data,
    )
    return this.#answer(mechanism.mechanism, mac, length)
  }

  #ecdsa(key: Attributes, digest: Uint8Array): Uint8Array {
    const { ecdsa } = this.options
    const [r, s] = signDigestWith(keyBytes(key), digest, ecdsa === 'one-nonce' ? SAME_NONCE : undefined)
    if (ecdsa === 'der') return derOf([r, s])
    if (ecdsa === 's-zero') return Buffer.concat([r, Buffer.alloc(32)])
    return Buffer.concat([r, s])
  }

  C_DigestInit(session: SessionHandle, mechanism: Mechanism): void {
    const state = this.#start('C_DigestInit', session)
    this.#mechanism('C_DigestInit', mechanism.mechanism)
    state.digest = []
    state.operation = { fn: 'C_DigestInit', key: undefined, mechanism }
  }

  C_DigestUpdate(session: SessionHandle, data: Uint8Array): void {
    this.#active('C_DigestUpdate', session, 'C_DigestInit').digest.push(Uint8Array.from(data))
  }

  C_DigestKey(session: SessionHandle, key: ObjectHandle): void {
    const state = this.#active('C_DigestKey', session, 'C_DigestInit')
    if (this.options.noDigestKey === true) throw new Pkcs11Error('C_DigestKey', 0x67)
    state.digest.push(keyBytes(this.#object('C_DigestKey', key, 0x60)))
  }

  C_DigestFinal(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
    const state = this.#active('C_DigestFinal', session, 'C_DigestInit')
    state.operation = undefined
    const hash = createHash('sha256')
    for (const part of state.digest) hash.update(part)
    return this.#give(this.#answer(CKM.SHA256, hash.digest(), length))
  }

  C_GenerateKey(session: SessionHandle, { mechanism }: Mechanism, template: Template): ObjectHandle {
    this.#on('C_GenerateKey', session)
    this.#mechanism('C_GenerateKey', mechanism)
    const asked = template.find(([type]) => type === CKA.VALUE_LEN)?.[1]
    const length = mechanism === CKM.DES2_KEY_GEN ? 16 : mechanism === CKM.DES3_KEY_GEN ? 24 : Number(asked)
    return this.#add([...template, [CKA.VALUE, new Uint8Array(randomBytes(length))]], session)
  }

  C_GenerateKeyPair(
    session: SessionHandle,
    { mechanism }: Mechanism,
    publicTemplate: Template,
    privateTemplate: Template,
  ): { publicKey: ObjectHandle; privateKey: ObjectHandle } {
    this.#on('C_GenerateKeyPair', session)
    this.#mechanism('C_GenerateKeyPair', mechanism)
    // Both or neither.
    for (const template of [publicTemplate, privateTemplate]) this.#requireTaken(template)
    const pair = createECDH('prime256v1')
    const generated = pair.generateKeys()
    const point = this.options.wrong === mechanism ? Buffer.alloc(65, 4) : generated
    const parameters = publicTemplate.filter(([type]) => type === CKA.EC_PARAMS)
    return {
      publicKey: this.#add([...publicTemplate, [CKA.EC_POINT, Uint8Array.of(4, 65, ...point)]], session),
      privateKey: this.#add([...privateTemplate, ...parameters, [CKA.VALUE, pair.getPrivateKey()]], session),
    }
  }

  C_DeriveKey(
    session: SessionHandle,
    { mechanism, parameter }: Mechanism,
    key: ObjectHandle,
    template: Template,
  ): ObjectHandle {
    this.#on('C_DeriveKey', session)
    this.#mechanism('C_DeriveKey', mechanism)
    const base = this.#object('C_DeriveKey', key, 0x60)
    if (base.get(CKA.DERIVE) !== true) throw new Pkcs11Error('C_DeriveKey', 0x68)
    if (typeof parameter !== 'object' || parameter instanceof Uint8Array)
      throw new Pkcs11Error('C_DeriveKey', 0x71)
    if ('derivationData' in parameter) {
      const { derivationData } = parameter
      if (mechanism === CKM.AES_ECB_ENCRYPT_DATA || mechanism === CKM.DES3_ECB_ENCRYPT_DATA) {
        const ecb = { mechanism: mechanism === CKM.AES_ECB_ENCRYPT_DATA ? CKM.AES_ECB : CKM.DES3_ECB }
        const all = this.#answer(mechanism, cipher('encrypt', ecb, base, derivationData), 64)
        const asked = template.find(([type]) => type === CKA.VALUE_LEN)?.[1]
        return this.#add([...template, [CKA.VALUE, all.slice(0, Number(asked ?? all.length))]], session)
      }
      const value = keyBytes(base).map((byte, i) => byte ^ (derivationData[i] ?? 0))
      return this.#add([...template.filter(([type]) => type !== CKA.VALUE_LEN), [CKA.VALUE, value]], session)
    }
    const z = agreementOf(keyBytes(base)).computeSecret(parameter.publicData)
    if (this.options.wrong === mechanism) z[0] = (z[0] ?? 0) ^ 1
    if (parameter.kdf === CKD.NULL) return this.#add([...template, [CKA.VALUE, z]], session)
    if (this.options.kdf !== true) throw new Pkcs11Error('C_DeriveKey', 0x71)
    const length = Number(template.find(([type]) => type === CKA.VALUE_LEN)?.[1])
    const derived = concatKdf(z, parameter.sharedData ?? new Uint8Array(0), length)
    return this.#add([...template, [CKA.VALUE, derived]], session)
  }

  C_WrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    wrappingKey: ObjectHandle,
    key: ObjectHandle,
    length: number,
  ): Uint8Array<ArrayBuffer> {
    this.#on('C_WrapKey', session)
    this.#mechanism('C_WrapKey', mechanism.mechanism, 'wrap')
    const wrapping = this.#object('C_WrapKey', wrappingKey, 0x113)
    if (wrapping.get(CKA.WRAP) !== true) throw new Pkcs11Error('C_WrapKey', 0x68)
    const wrapped = this.#object('C_WrapKey', key, 0x60)
    const isFree = [true, mechanism.mechanism].includes(this.options.wrapsOut ?? false)
    if (!isFree && wrapped.get(CKA.EXTRACTABLE) !== true) throw new Pkcs11Error('C_WrapKey', 0x6a)
    const bound = this.options.ignoresTemplates === true ? undefined : wrapping.get(CKA.WRAP_TEMPLATE)
    for (const [type, wanted] of Array.isArray(bound) ? (bound as Template) : []) {
      // As SoftHSM: it is the handle that will not do.
      if (!same(wrapped.get(type), wanted)) throw new Pkcs11Error('C_WrapKey', 0x60)
    }
    return this.#answer(mechanism.mechanism, wrappedBy(mechanism, wrapping, keyBytes(wrapped)), length)
  }

  C_UnwrapKey(
    session: SessionHandle,
    mechanism: Mechanism,
    unwrappingKey: ObjectHandle,
    wrapped: Uint8Array,
    template: Template,
  ): ObjectHandle {
    this.#on('C_UnwrapKey', session)
    this.#mechanism('C_UnwrapKey', mechanism.mechanism, 'wrap')
    const unwrapping = this.#object('C_UnwrapKey', unwrappingKey, 0xf0)
    if (unwrapping.get(CKA.UNWRAP) !== true) throw new Pkcs11Error('C_UnwrapKey', 0x68)
    const bound = this.options.ignoresTemplates === true ? undefined : unwrapping.get(CKA.UNWRAP_TEMPLATE)
    // As SoftHSM: the call must state every attribute of the template, with the same value.
    for (const [type, wanted] of Array.isArray(bound) ? (bound as Template) : []) {
      if (!template.some(([other, given]) => other === type && same(given, wanted))) {
        throw new Pkcs11Error('C_UnwrapKey', 0xd1)
      }
    }
    const value = unwrapped(mechanism, unwrapping, wrapped)
    const kept = this.options.parityOnUnwrap === true ? value.map(byte => byte | 1) : value
    const { bytes, cut } = this.options.maxSecret ?? { bytes: Number.POSITIVE_INFINITY, cut: false }
    if (kept.length > bytes && !cut) throw new Pkcs11Error('C_UnwrapKey', 0x112)
    return this.#add([...template, [CKA.VALUE, kept.subarray(0, bytes)]], session)
  }

  /** Logged in, or a token that needs no login. */
  get #isOpen(): boolean {
    const flags = this.#tokens()[0]?.flags ?? CKF.LOGIN_REQUIRED
    return this.loggedIn || (flags & CKF.LOGIN_REQUIRED) === 0
  }

  #tokens(): readonly Partial<TokenInfo>[] {
    return this.options.tokens ?? [{}]
  }

  /** Counts a call, and fails it where it is its turn. */
  #enter(fn: string): void {
    this.calls.push(fn)
    if (this.#finalised && fn !== 'C_Initialize') {
      this.late.push(fn)
      if (!MAY_COME_LATE.test(fn)) complain(`${fn} was called after C_Finalize`)
      throw new Pkcs11Error(fn, 0x190)
    }
    if (this.fault?.at === this.calls.length) throw new Pkcs11Error(fn, this.fault.code)
    if (this.faultOf !== undefined && [fn, '*'].includes(this.faultOf.fn))
      throw new Pkcs11Error(fn, this.faultOf.code)
  }

  #on(fn: string, session: SessionHandle): FakeSession {
    const state = this.sessions.get(number(session))
    if (state?.spoiltBy !== undefined && !CLEANING_UP.includes(fn))
      this.violations.push(`${fn} on the session where ${state.spoiltBy}`)
    try {
      this.#enter(fn)
    } catch (error) {
      const code = error instanceof Pkcs11Error ? error.returnValue : 0
      // A failed call may leave its operation active, which only closing the session ends.
      const refused = OBJECTS.includes(fn) && TEMPLATE_ERRORS.includes(code)
      if (state !== undefined && !refused && !DATA_ERRORS.includes(code))
        state.spoiltBy = `${fn} failed with ${code}`
      throw error
    }
    if (state === undefined) throw new Pkcs11Error(fn, 0xb3)
    return state
  }

  /** The start of an operation: one at a time. */
  #start(fn: string, session: SessionHandle): FakeSession {
    const state = this.#on(fn, session)
    if (state.operation !== undefined) throw new Pkcs11Error(fn, 0x90)
    return state
  }

  #active(fn: string, session: SessionHandle, started: string): FakeSession {
    const state = this.#on(fn, session)
    if (state.operation?.fn !== started) throw new Pkcs11Error(fn, 0x91)
    return state
  }

  #init(fn: string, session: SessionHandle, mechanism: Mechanism, key: ObjectHandle, bit: number): void {
    const state = this.#start(fn, session)
    this.#mechanism(fn, mechanism.mechanism)
    const attributes = this.#object(fn, key, 0x60)
    if (attributes.get(bit) !== true) throw new Pkcs11Error(fn, 0x68)
    // A mechanism of one cipher takes no key of the other.
    const others = attributes.get(CKA.KEY_TYPE) === CKK.AES ? DES_MECHANISMS : AES_MECHANISMS
    if (others.includes(mechanism.mechanism)) throw new Pkcs11Error(fn, 0x63)
    state.operation = { fn, key: attributes, mechanism }
  }

  #finish(fn: string, session: SessionHandle, started: string): { mechanism: Mechanism; key: Attributes } {
    const state = this.#on(fn, session)
    const { operation } = state
    if (operation?.fn !== started || operation.key === undefined) throw new Pkcs11Error(fn, 0x91)
    state.operation = undefined
    return { mechanism: operation.mechanism, key: operation.key }
  }

  #mechanism(fn: string, mechanism: number, use?: 'wrap'): void {
    const { without = [], retail } = this.options
    if (without.includes(mechanism)) throw new Pkcs11Error(fn, 0x70)
    if (use === 'wrap' && without.includes(-2)) throw new Pkcs11Error(fn, 0x70)
    if (mechanism > 0x8000_0000 && mechanism !== retail?.mechanism) throw new Pkcs11Error(fn, 0x70)
  }

  #object(fn: string, object: ObjectHandle, code: number): Attributes {
    const found = this.objects.get(number(object))
    const hidden = found?.attributes.get(CKA.PRIVATE) === true && !this.#isOpen
    if (found === undefined || hidden) throw new Pkcs11Error(fn, code)
    return found.attributes
  }

  #add(template: Template, session: SessionHandle | undefined): ObjectHandle {
    this.#requireTaken(template)
    const attributes: Attributes = new Map()
    for (const [type, value] of template) {
      if (value !== undefined)
        attributes.set(type, value instanceof Uint8Array ? Uint8Array.from(value) : value)
    }
    const keyType = attributes.get(CKA.KEY_TYPE)
    if (typeof keyType === 'number' && this.options.without?.includes(-keyType)) {
      throw new Pkcs11Error('C_CreateObject', 0x13)
    }
    const value = attributes.get(CKA.VALUE)
    const sized = keyType === CKK.AES || keyType === CKK.GENERIC_SECRET
    if (sized && value instanceof Uint8Array && this.options.noValueLength !== true)
      attributes.set(CKA.VALUE_LEN, value.length)
    const id = this.#next++
    const inToken = attributes.get(CKA.TOKEN) === true || session === undefined
    this.objects.set(id, { attributes, session: inToken ? undefined : number(session) })
    return handle<ObjectHandle>(id)
  }

  #requireTaken(template: Template): void {
    const { refuses, statesAnyCheckValue = false } = this.options
    if (!statesAnyCheckValue && template.some(([type]) => type === CKA.CHECK_VALUE))
      throw new Pkcs11Error('C_CreateObject', 0x13)
    if (template.some(([type, value]) => value !== undefined && refuses?.types.includes(type) === true)) {
      throw new Pkcs11Error('C_CreateObject', refuses?.code ?? 0x12)
    }
  }

  #checkValue(attributes: Attributes): Uint8Array {
    const stated = attributes.get(CKA.CHECK_VALUE)
    if (this.options.statesAnyCheckValue === true && stated instanceof Uint8Array) return stated
    if (this.options.noCheckValue === true) throw new Pkcs11Error('C_GetAttributeValue', 0x12)
    if (attributes.get(CKA.CLASS) !== CKO.SECRET_KEY) throw new Pkcs11Error('C_GetAttributeValue', 0x12)
    const aes = attributes.get(CKA.KEY_TYPE) === CKK.AES
    const mechanism = { mechanism: aes ? CKM.AES_ECB : CKM.DES3_ECB }
    return cipher('encrypt', mechanism, attributes, new Uint8Array(aes ? 16 : 8)).slice(0, 3)
  }

  #answer(mechanism: number, bytes: Uint8Array, room: number): Uint8Array<ArrayBuffer> {
    if (bytes.length > room) throw new Pkcs11Error('answer', 0x150)
    const answer = Uint8Array.from(bytes)
    if (this.options.wrong === mechanism) answer[0] = (answer[0] ?? 0) ^ 1
    return answer
  }

  #give<T extends Uint8Array>(secret: T): T {
    this.given.push(secret)
    return secret
  }
}

function keyBytes(attributes: Attributes): Uint8Array {
  const value = attributes.get(CKA.VALUE)
  if (!(value instanceof Uint8Array)) throw new Error('the object has no value')
  return value
}

/** RFC 3394 by OpenSSL; anything else is enciphered. */
function wrappedBy(mechanism: Mechanism, key: Attributes, value: Uint8Array): Uint8Array {
  if (mechanism.mechanism !== CKM.AES_KEY_WRAP) return cipher('encrypt', mechanism, key, value)
  const kek = keyBytes(key)
  const name = `id-aes${kek.length * 8}-wrap`
  return new Uint8Array(createCipheriv(name, kek, Buffer.from('a6a6a6a6a6a6a6a6', 'hex')).update(value))
}

/** RFC 3394 and RFC 5649 by OpenSSL; anything else is deciphered. */
function unwrapped(mechanism: Mechanism, key: Attributes, wrapped: Uint8Array): Uint8Array {
  const names: Record<number, [string, string]> = {
    [CKM.AES_KEY_WRAP]: ['wrap', 'a6a6a6a6a6a6a6a6'],
    [CKM.AES_KEY_WRAP_PAD]: ['wrap-pad', 'a65959a6'],
    [CKM.AES_KEY_WRAP_KWP]: ['wrap-pad', 'a65959a6'],
  }
  const named = names[mechanism.mechanism]
  if (named === undefined) return cipher('decrypt', mechanism, key, wrapped)
  const value = keyBytes(key)
  try {
    const open = createDecipheriv(
      `id-aes${value.length * 8}-${named[0]}` as never,
      value,
      Buffer.from(named[1], 'hex'),
    )
    return new Uint8Array(open.update(wrapped))
  } catch {
    throw new Pkcs11Error('C_UnwrapKey', 0x110)
  }
}

function cipher(
  direction: 'encrypt' | 'decrypt',
  { mechanism, parameter }: Mechanism,
  key: Attributes,
  data: Uint8Array,
): Uint8Array {
  const value = keyBytes(key)
  const aes = key.get(CKA.KEY_TYPE) === CKK.AES
  const mode = mechanism === CKM.DES3_CBC || mechanism === CKM.AES_CBC ? 'cbc' : 'ecb'
  const name = aes ? `aes-${value.length * 8}-${mode}` : `des-ede3-${mode}`
  const three = value.length === 16 && !aes ? Buffer.concat([value, value.subarray(0, 8)]) : value
  const iv = mode === 'ecb' ? null : parameter instanceof Uint8Array ? parameter : new Uint8Array(8)
  const make = direction === 'encrypt' ? createCipheriv : createDecipheriv
  const engine = make(name, three, iv).setAutoPadding(false)
  return Buffer.concat([engine.update(data), engine.final()])
}

/** ISO/IEC 9797-1 algorithm 3 with zero padding, the slow way round. */
function retailOf(key: Attributes, data: Uint8Array): Uint8Array {
  const value = keyBytes(key)
  const k1 = value.subarray(0, 8)
  const chain: Attributes = new Map([[CKA.VALUE, Buffer.concat([k1, k1, k1])]])
  let state = Buffer.alloc(8)
  for (let at = 0; at < data.length; at += 8) {
    const last = at + 8 >= data.length
    const block = data.slice(at, at + 8).map((byte, i) => byte ^ (state[i] ?? 0))
    state = Buffer.from(cipher('encrypt', { mechanism: CKM.DES3_ECB }, last ? key : chain, block))
  }
  return state
}

function handle<T>(value: number): T {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes as T
}

function number(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
}

function toBytes(value: AttributeValue): Uint8Array {
  if (typeof value === 'object' && !(value instanceof Uint8Array)) return new Uint8Array(8)
  if (value instanceof Uint8Array) return Uint8Array.from(value)
  if (typeof value === 'string') return new TextEncoder().encode(value)
  if (typeof value === 'boolean') return Uint8Array.of(value ? 1 : 0)
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

function same(actual: unknown, wanted: unknown): boolean {
  if (actual instanceof Uint8Array && wanted instanceof Uint8Array) {
    return Buffer.compare(actual, wanted) === 0
  }
  return actual === wanted
}
