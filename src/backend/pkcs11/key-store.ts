/**
 * Making, importing, listing and deleting token keys: for tests, examples and key officers. A program that only uses
 * keys does not need it, and its token user may well be refused here.
 *
 * New keys are token objects, sensitive, not extractable, not modifiable, with the role bits of their usage and no
 * other. What makes or deletes an object is never tried twice: after an unclear failure, look with `listKeys`.
 */

import { readOptions, requireCallback, requireKid } from '../../base/arguments.js'
import { equalBytes, secretBytes, snapshot, toHex, wipe, xorInto } from '../../base/bytes.js'
import { ArgumentError, BackendError, InputError, KeyError } from '../../base/errors.js'
import {
  type CheckValue,
  methodOf,
  readCheckValue,
  requireCheckValue,
  snapshotCheckValue,
} from '../../key/check-value.js'
import { readMaterial, requireSoundMaterial } from '../../key/material.js'
import type { KeyPeriod } from '../../key/period.js'
import type { KeyUsage } from '../../key/usage.js'
import { KEY_BYTES, type KeyAlgorithm } from '../../primitives/algorithms.js'
import type { P256PublicJwk } from '../../primitives/p256.js'
import { endOf, KEY_EVENTS } from '../opener.js'
import type { LoadBinding, ObjectHandle, Station, Template } from './binding/binding.js'
import { CKA, CKO, constantName } from './binding/constants.js'
import { quietly } from './binding/errors.js'
import { loaderOf } from './binding/load.js'
import { overwriteStacks } from './binding/values.js'
import { describe, type ListedKey, MAX_LISTED, ownKeys, requireNoTwin } from './keys/key-listing.js'
import {
  generateObjects,
  type ImportedKey,
  importObjects,
  type KeyObjects,
  keyOfSecret,
  type Making,
  type NewKey,
  needsChain,
  partOf,
  readPurpose,
  undo,
  unwrapObjects,
  type Wrapping,
  xored,
  xorsInside,
} from './keys/key-making.js'
import { KeyTable } from './keys/key-table.js'
import { chainId, chainLabel, type KeyPurpose, newKeyId } from './keys/roles.js'
import { findObjects, readAttribute } from './mechanisms/objects.js'
import type { KeyName } from './mechanisms/templates.js'
import { Connection } from './session/connection.js'
import {
  PKCS11_OPTIONS,
  type Pkcs11Options,
  policyOf,
  readSettings,
  type Settings,
} from './session/options.js'

/** A key as it is in the token. */
export interface StoredTokenKey extends KeyPeriod {
  readonly kid: string
  /** CKA_ID in upper-case hex; empty where it has none. */
  readonly id: string
  /** Undefined where it was not made here: its role bits alone do not tell. */
  readonly usage: KeyUsage | undefined
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly publicJwk?: P256PublicJwk
  /** Of a key just made: attributes that this token did not take, such as `CKA_COPYABLE`; absent where it took all. */
  readonly refusedAttributes?: readonly string[]
}

/** Options of {@link KeyStore.listKeys}. */
export interface ListOptions {
  /** Hears of each key that has been looked at. */
  readonly onProgress?: (progress: { readonly done: number; readonly of: number }) => void
}

/** Keys of one token, to be made, imported, listed and deleted. Close it when done (`await using`). */
export interface KeyStore extends AsyncDisposable {
  /**
   * Has the token generate a key: TDEA, AES, or a P-256 pair with its public key beside it.
   *
   * Errors: `ERR_ARGUMENT`, `ERR_KEY_AMBIGUOUS` (the kid is taken), `ERR_KEY_ALGORITHM`, `ERR_UNSUPPORTED_BY_TOKEN`
   * (no such mechanism; or a composed retail MAC key, whose K1 object only an import can make), `ERR_PKCS11_CALL`.
   *
   * @example
   * ```ts
   * const { checkValue } = await store.generateKey({ kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' })
   * ```
   */
  generateKey(key: NewKey): Promise<StoredTokenKey>
  /**
   * Brings a clear key into the token, and the K1 object of a composed retail MAC with it. The store must be open with
   * `importClearKeys`: the key is in host memory meanwhile, so this is for tests and migrations under dual control.
   *
   * Errors: those of {@link generateKey}; `ERR_KEY_MATERIAL` (length, or not a key of the algorithm), `ERR_KEY_WEAK`,
   * `ERR_KEY_CHECK_VALUE`; `ERR_KEY_USAGE` (the value is in the token already, made here for another purpose). Nothing stays
   * behind after an error.
   *
   * @example
   * ```ts
   * await store.importKey({ kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material, kcv: '08D7B4' })
   * ```
   */
  importKey(key: ImportedKey): Promise<StoredTokenKey>
  /**
   * Puts a key together out of components, each of which is taken when it comes, one after the other: for officers who do
   * not see each other's. The token combines them inside where it can (`CKM_XOR_BASE_AND_DATA`: NSS, with koffi); otherwise
   * they are combined in host memory that is wiped, which takes a store that was opened with `importClearKeys`. Whose turn it
   * is, and the check value of each component, is `keyCeremony`'s to see to.
   *
   * Errors: those of {@link importKey}; `ERR_KEY_CHECK_VALUE` where the result is another key. Nothing stays behind after one.
   *
   * @example
   * ```ts
   * const { combined } = await store.assembleKey({
   *   kid: 'ZMK', usage: 'key-block-protection', algorithm: 'aes-256', parts: [first, second], kcv: keyKcv,
   * })
   * ```
   */
  assembleKey(key: AssembledKey): Promise<{ key: StoredTokenKey; combined: Combined }>
  /**
   * Brings in a key that the token unwraps by itself under a key of its own, usage `key-encryption`: nothing of it is in
   * host memory. The check value is compared afterwards, and where it differs the key is deleted again.
   *
   * Errors: those of {@link generateKey}; `ERR_KEY_NOT_FOUND` (`under`), `ERR_KEY_CHECK_VALUE`, `ERR_LENGTH`, `ERR_PKCS11_CALL`
   * (it does not unwrap). Sources: RFC 3394; RFC 5649.
   *
   * @example
   * ```ts
   * await store.unwrapKey({
   *   kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', wrapped, wrapping: 'rfc3394', under: 'KEK', kcv: '08D7B4',
   * })
   * ```
   */
  unwrapKey(key: WrappedKey): Promise<StoredTokenKey>
  /** All secret and private keys of the token, with usage, algorithm, check value, and what is wrong with them. */
  listKeys(options?: ListOptions): Promise<ListedKey[]>
  /**
   * Deletes a key and what belongs to it (public half, K1 object). Errors: `ERR_KEY_NOT_FOUND`, `ERR_KEY_AMBIGUOUS`
   * (two keys by that kid: name the CKA_ID), `ERR_PKCS11_CALL`.
   */
  deleteKey(which: { readonly kid: string; readonly id?: string }): Promise<void>
  /** Logs out and lets the token go. */
  close(): Promise<void>
}

/** Where the components of a key were combined. */
export type Combined = 'in-token' | 'in-host-memory'

/** A key out of components. */
export interface AssembledKey extends NewKey {
  /** Two or more, each as long as the key. Copied; each is asked for when the one before has been taken. */
  readonly parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>
  readonly kcv: string | CheckValue
}

/** A key under another key of the token. */
export interface WrappedKey extends NewKey {
  readonly wrapped: Uint8Array
  readonly wrapping: Wrapping
  /** The kid of the key that unwraps: usage `key-encryption`. */
  readonly under: string
  readonly kcv: string | CheckValue
}

/** Options of {@link openKeyStore}. */
export interface KeyStoreOptions extends Pkcs11Options {
  /** Allows {@link KeyStore.importKey}: clear keys pass through this process. Default false. */
  readonly importClearKeys?: boolean
}

/**
 * Opens a token for key management, with the options of `pkcs11Backend`: `composedMac`, `retailMac` and
 * `translateInToken` decide the role bits of new keys, so give it the same as the backend gets.
 *
 * Errors: as {@link pkcs11Backend}: `ERR_ARGUMENT`, `ERR_PKCS11_…`.
 *
 * @example
 * ```ts
 * await using store = await openKeyStore({ module, token: 'issuer', pin: readPin })
 * await store.generateKey({ kid: 'PEK-STORE', usage: 'pin-encryption', algorithm: 'tdea-2key' })
 * ```
 */
export async function openKeyStore(options: KeyStoreOptions): Promise<KeyStore> {
  return openKeyStoreOver(options, undefined)
}

/** {@link openKeyStore}, in a test over another binding. */
export async function openKeyStoreOver(
  options: KeyStoreOptions,
  load: LoadBinding | undefined,
): Promise<KeyStore> {
  const names = [...PKCS11_OPTIONS, 'importClearKeys'] as const
  const { importClearKeys = false, ...rest } = readOptions(options, 'openKeyStore', names)
  if (typeof importClearKeys !== 'boolean') throw new ArgumentError('importClearKeys must be a boolean')
  const settings = readSettings(rest, 'openKeyStore')
  const connection = await Connection.open(settings, load ?? loaderOf(settings.binding))
  return new TokenKeyStore(connection, settings, importClearKeys)
}

/** What a key store does to the keys of its token, each time it is tried: on the channel of binds and uses. */
async function recorded<T>(
  operation: 'generate' | 'import' | 'assemble' | 'unwrap' | 'delete',
  { kid, usage }: { readonly kid: string; readonly usage?: KeyUsage },
  work: () => T | Promise<T>,
): Promise<T> {
  if (!KEY_EVENTS.hasSubscribers) return work()
  const ended = endOf({ event: 'store', operation, kid, ...(usage !== undefined && { usage }) })
  try {
    const result = await work()
    ended()
    return result
  } catch (error) {
    ended(error)
    throw error
  }
}

/** One read-write session for each task, closed after it. */
class TokenKeyStore implements KeyStore {
  readonly #connection: Connection
  readonly #settings: Settings
  readonly #importClearKeys: boolean
  #closed = false

  constructor(connection: Connection, settings: Settings, importClearKeys: boolean) {
    this.#connection = connection
    this.#settings = settings
    this.#importClearKeys = importClearKeys
  }

  async generateKey(wanted: NewKey): Promise<StoredTokenKey> {
    const key = readOptions(wanted, 'generateKey', NEW_KEY_NAMES)
    const purpose = readPurpose(key)
    const make = (): StoredTokenKey =>
      this.#withSession(station => {
        this.#requireFree(station, key.kid)
        if (needsChain(this.#connection.facts.plan, purpose)) {
          throw new BackendError(
            'ERR_UNSUPPORTED_BY_TOKEN',
            `a composed retail MAC key cannot be generated in the token, which does not part with K1: import it`,
          )
        }
        const name = nameFor(key, purpose)
        return this.#store(
          station,
          key,
          purpose,
          making => generateObjects(making, this.#connection.facts.plan, purpose, name),
          { kcv: undefined, isImported: false },
        )
      })
    return recorded('generate', key, make)
  }

  async importKey(wanted: ImportedKey): Promise<StoredTokenKey> {
    const key = readOptions(wanted, 'importKey', [...NEW_KEY_NAMES, 'material', 'kcv'])
    if (!this.#importClearKeys) {
      throw new ArgumentError('importKey takes clear keys: open the key store with importClearKeys: true')
    }
    const { kid, algorithm } = key
    const purpose = readPurpose(key)
    const kcv = key.kcv === undefined ? undefined : snapshotCheckValue(key.kcv)
    const material = readMaterial(kid, key.material, algorithm)
    try {
      requireSoundMaterial(kid, material, algorithm)
      const make = (): StoredTokenKey =>
        this.#withSession(station => {
          this.#requireFree(station, kid)
          const name = nameFor(key, purpose)
          return this.#store(
            station,
            key,
            purpose,
            making => importObjects(making, this.#connection.facts.plan, purpose, name, material),
            { kcv, isImported: true },
          )
        })
      return await recorded('import', key, make)
    } finally {
      wipe(material)
    }
  }

  async assembleKey(wanted: AssembledKey): Promise<{ key: StoredTokenKey; combined: Combined }> {
    const given = readOptions(wanted, 'assembleKey', [...NEW_KEY_NAMES, 'parts', 'kcv'])
    const { parts: _, kcv: __, ...rest } = given
    const key = Object.fromEntries(
      Object.entries(rest).filter(([, value]) => value !== undefined),
    ) as object as NewKey
    const purpose = readPurpose(key)
    return recorded('assemble', key, () => this.#assemble(given, key, purpose))
  }

  async #assemble(
    { parts, kcv: expected }: AssembledKey,
    key: NewKey,
    purpose: KeyPurpose,
  ): Promise<{ key: StoredTokenKey; combined: Combined }> {
    const { kid, algorithm } = key
    const kcv = snapshotCheckValue(expected)
    const { plan } = this.#connection.facts
    const inside = this.#withSession(station => {
      this.#requireFree(station, kid)
      return algorithm !== 'ec-p256' && !needsChain(plan, purpose) && xorsInside(station)
    })
    if (!inside) {
      if (!this.#importClearKeys) {
        const problem = 'this token does not combine components inside, so the key would be in host memory'
        throw new ArgumentError(
          `${problem}: open the key store with importClearKeys: true if your policy allows`,
        )
      }
      const material = await combineInHost(kid, algorithm, parts)
      try {
        return { key: await this.importKey({ ...key, material, kcv }), combined: 'in-host-memory' }
      } finally {
        wipe(material)
      }
    }
    const { binding } = this.#connection
    const sessions = this.#connection.source(true)
    const session = sessions.open()
    const station = { binding, session }
    const secrets: ObjectHandle[] = []
    try {
      const base = await eachPart<ObjectHandle>(kid, algorithm, parts, (part, last) => {
        try {
          const secret = last === undefined ? partOf(station, part) : xored(station, last, part)
          secrets.push(secret)
          return secret
        } finally {
          overwriteStacks(binding)
        }
      })
      const name = nameFor(key, purpose)
      const make = (making: Making): KeyObjects => keyOfSecret(making, plan, purpose, name, base)
      return {
        key: this.#store(station, key, purpose, make, { kcv, isImported: true }),
        combined: 'in-token',
      }
    } finally {
      overwriteStacks(binding)
      undo(station, secrets)
      quietly(() => sessions.close(session))
    }
  }

  async unwrapKey(wanted: WrappedKey): Promise<StoredTokenKey> {
    const names = [...NEW_KEY_NAMES, 'wrapped', 'wrapping', 'under', 'kcv'] as const
    const { wrapped: given, wrapping, under, kcv: expected, ...key } = readOptions(wanted, 'unwrapKey', names)
    const purpose = readPurpose(key)
    if (wrapping !== 'rfc3394' && wrapping !== 'rfc5649')
      throw new ArgumentError("wrapping must be 'rfc3394' or 'rfc5649'")
    requireKid(under)
    const kcv = snapshotCheckValue(expected)
    const wrapped = snapshot(given, 'wrapped')
    if (wrapped.length < 24 || wrapped.length > 48 || wrapped.length % 8 !== 0)
      throw new InputError('ERR_LENGTH', `wrapped: ${wrapped.length} bytes, expected 24 to 48, in eights`)
    const { plan } = this.#connection.facts
    const store = (): StoredTokenKey =>
      this.#withSession(station => {
        this.#requireFree(station, key.kid)
        const table = new KeyTable(plan, policyOf(this.#settings, plan), new Map())
        const found = table.find(station, {
          kid: under,
          usage: 'key-encryption',
          mode: 'D',
          algorithm: undefined,
          hostDecipher: false,
          checkValueMethod: undefined,
        })
        const { key: handle } = table.handles(station, found.ref)
        const name = nameFor(key, purpose)
        const how = { under: handle, wrapped, wrapping }
        const make = (making: Making): KeyObjects => unwrapObjects(making, plan, purpose, name, how)
        return this.#store(station, key, purpose, make, { kcv, isImported: true })
      })
    return recorded('unwrap', key, store)
  }

  async listKeys(options: ListOptions = {}): Promise<ListedKey[]> {
    const { onProgress } = readOptions(options, 'listKeys', ['onProgress'])
    requireCallback(onProgress, 'onProgress')
    const { plan } = this.#connection.facts
    return this.#withSession(station => {
      const own = ownKeys(station)
      const table = new KeyTable(plan, policyOf(this.#settings, plan), new Map())
      return own.map((key, at) => {
        const line = describe(station, { table, plan, key })
        onProgress?.({ done: at + 1, of: own.length })
        return line
      })
    })
  }

  async deleteKey(which: { readonly kid: string; readonly id?: string }): Promise<void> {
    const { kid, id } = readOptions(which, 'deleteKey', ['kid', 'id'])
    requireKid(kid)
    if (id !== undefined && (typeof id !== 'string' || !/^(?:[0-9a-fA-F]{2})+$/.test(id))) {
      throw new ArgumentError('id must be hex')
    }
    const remove = (): void =>
      this.#withSession(station => {
        const { binding, session } = station
        const label: Template = [
          [CKA.TOKEN, true],
          [CKA.LABEL, kid],
          [CKA.ID, id === undefined ? undefined : Buffer.from(id, 'hex')],
        ]
        const keys = [CKO.SECRET_KEY, CKO.PRIVATE_KEY].flatMap(objectClass =>
          findObjects(binding, session, [...label, [CKA.CLASS, objectClass]], 2),
        )
        const [key, second] = keys
        if (key === undefined) throw new KeyError('ERR_KEY_NOT_FOUND', `key ${kid} is not in this token`, kid)
        if (second !== undefined) throw taken(kid, 'there are two keys by that kid: name the CKA_ID')
        // Keys only: a certificate with the same label and id is somebody else's to delete.
        const named = (label: string, keyId: Uint8Array): ObjectHandle[] =>
          [CKO.SECRET_KEY, CKO.PRIVATE_KEY, CKO.PUBLIC_KEY].flatMap(objectClass =>
            findObjects(
              binding,
              session,
              [
                [CKA.TOKEN, true],
                [CKA.CLASS, objectClass],
                [CKA.LABEL, label],
                [CKA.ID, keyId],
              ],
              MAX_LISTED,
            ),
          )
        const keyId = readAttribute(binding, session, key, CKA.ID)
        const belonging =
          keyId === undefined ? [] : [...named(kid, keyId), ...named(chainLabel(kid), chainId(keyId))]
        const rest = belonging.filter(object => !equalBytes(object, key))
        for (const object of [...rest, key]) binding.C_DestroyObject(session, object)
      })
    await recorded('delete', { kid }, remove)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#connection.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** A read-write session for one task; closed after it, whatever happened. */
  #withSession<T>(task: (station: Station) => T): T {
    if (this.#closed) throw new BackendError('ERR_BACKEND_CLOSED', 'the key store is closed')
    const { binding } = this.#connection
    const sessions = this.#connection.source(true)
    const session = sessions.open()
    try {
      return task({ binding, session })
    } finally {
      overwriteStacks(binding)
      quietly(() => sessions.close(session))
    }
  }

  #requireFree({ binding, session }: Station, kid: string): void {
    for (const label of [kid, chainLabel(kid)]) {
      const [object] = findObjects(
        binding,
        session,
        [
          [CKA.TOKEN, true],
          [CKA.LABEL, label],
        ],
        1,
      )
      if (object !== undefined) throw taken(kid, `an object is labelled ${label} already`)
    }
  }

  /** Makes the objects, then finds the key as a backend would; where that fails they are deleted again. */
  #store(
    station: Station,
    key: NewKey,
    { mode, hostDecipher }: KeyPurpose,
    make: (making: Making) => KeyObjects,
    { kcv, isImported }: { readonly kcv: string | CheckValue | undefined; readonly isImported: boolean },
  ): StoredTokenKey {
    const { kid, usage, algorithm } = key
    const { plan } = this.#connection.facts
    const leftOut = new Set<number>()
    const objects = make({ ...station, refusals: { known: plan.refused, leftOut } })
    try {
      const table = new KeyTable(plan, policyOf(this.#settings, plan), new Map())
      const checkValueMethod = methodOf(kcv)
      const found = table.find(station, {
        kid,
        usage,
        mode,
        algorithm,
        hostDecipher,
        checkValueMethod,
      })
      if (kcv !== undefined) requireCheckValue(kid, readCheckValue(kcv, algorithm), found.checkValue)
      const { ref: _ref, parity: _parity, identity, ...facts } = found
      if (isImported) requireNoTwin(station, table, { kid, usage, ...facts, identity }, objects)
      const refusedAttributes = Array.from(leftOut, type => constantName('CKA', CKA, type))
      const refused = refusedAttributes.length === 0 ? {} : { refusedAttributes }
      return { kid, usage, id: idOf(station, objects[0]), ...facts, ...refused }
    } catch (error) {
      undo(station, objects)
      throw error
    }
  }
}

/** Hands over each component, of the key's length; at least two. What was copied is wiped. */
async function eachPart<T>(
  kid: string,
  algorithm: KeyAlgorithm,
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  use: (part: Uint8Array, last: T | undefined) => T,
): Promise<T> {
  let count = 0
  let last: T | undefined
  for await (const part of parts) {
    count++
    const own = readMaterial(`${kid}, component ${count}`, part, algorithm)
    try {
      last = use(own, last)
    } finally {
      wipe(own)
    }
  }
  if (last === undefined || count < 2) throw new ArgumentError('a key has two components or more')
  return last
}

async function combineInHost(
  kid: string,
  algorithm: KeyAlgorithm,
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<Uint8Array> {
  const key = secretBytes(KEY_BYTES[algorithm])
  try {
    return await eachPart(kid, algorithm, parts, part => {
      xorInto(key, part)
      return key
    })
  } catch (error) {
    wipe(key)
    throw error
  }
}

/** What the objects of a new key are called, and when they are for new data. */
function nameFor({ kid, usage, algorithm }: NewKey, { mode, dates }: KeyPurpose): KeyName {
  return { label: kid, id: newKeyId(usage, mode, algorithm), ...(dates !== undefined && { dates }) }
}

const NEW_KEY_NAMES = [
  'kid',
  'usage',
  'mode',
  'algorithm',
  'macs',
  'hostDecipher',
  'translation',
  'validFrom',
  'validTo',
  'derives',
  'enciphers',
] as const
function idOf({ binding, session }: Station, object: ObjectHandle): string {
  const id = readAttribute(binding, session, object, CKA.ID)
  return id === undefined ? '' : toHex(id)
}

function taken(kid: string, problem: string): KeyError {
  return new KeyError('ERR_KEY_AMBIGUOUS', `key ${kid}: ${problem}`, kid)
}
