/**
 * Making, importing, listing and deleting token keys: for tests, examples and key officers. A program that only uses
 * keys does not need it, and its token user may well be refused here.
 *
 * New keys are token objects, sensitive, not extractable, not modifiable, with the role bits of their usage and no
 * other. What makes or deletes an object is never tried twice: after an unclear failure, look with `listKeys`.
 */
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { CheckValue } from '../../key/check-value.js'
import type { KeyUsage } from '../../key/usage.js'
import type { KeyAlgorithm } from '../../primitives/key-algorithm.js'
import type { P256PublicJwk } from '../../primitives/p256.js'
import type { LoadBinding } from './binding.js'
import { connect } from './connection.js'
import type { ImportedKey, NewKey } from './key-making.js'
import { PKCS11_OPTIONS, type Pkcs11Options, readSettings } from './options.js'
import { loadPkcs11js } from './pkcs11js-binding.js'
import { TokenKeyStore } from './token-key-store.js'

/** A key as it stands in the token. */
export interface StoredTokenKey {
  readonly kid: string
  /** CKA_ID in upper-case hex; empty where it has none. */
  readonly id: string
  /** Undefined where it was not made here: its role bits alone do not tell. */
  readonly usage: KeyUsage | undefined
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly publicJwk?: P256PublicJwk
}

/** One line of {@link KeyStore.listKeys}. */
export interface ListedKey {
  readonly kid: string
  readonly id: string
  readonly usage: KeyUsage | undefined
  /** Undefined for a key type this library does not use. */
  readonly algorithm: KeyAlgorithm | undefined
  /** Undefined where the key cannot be bound as it stands; `problem` says why. */
  readonly checkValue: CheckValue | undefined
  /** The code and message of the error that binding it would give. */
  readonly problem: string | undefined
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
   * `importClearKeys`: the key stands in host memory meanwhile, so this is for tests and migrations under dual control.
   *
   * Errors: those of {@link generateKey}; `ERR_KEY_MATERIAL` (length, or not a key of the algorithm), `ERR_KEY_WEAK`,
   * `ERR_KEY_CHECK_VALUE`. Nothing stays behind after an error.
   *
   * @example
   * ```ts
   * await store.importKey({ kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material, kcv: '08D7B4' })
   * ```
   */
  importKey(key: ImportedKey): Promise<StoredTokenKey>
  /** All secret and private keys of the token, with usage, algorithm, check value, and what is wrong with them. */
  listKeys(): Promise<ListedKey[]>
  /**
   * Deletes a key and what belongs to it (public half, K1 object). Errors: `ERR_KEY_NOT_FOUND`, `ERR_KEY_AMBIGUOUS`
   * (two keys by that kid: name the CKA_ID), `ERR_PKCS11_CALL`.
   */
  deleteKey(kid: string, which?: { id: string }): Promise<void>
  /** Logs out and lets the token go. */
  close(): Promise<void>
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
  return openKeyStoreOver(options, loadPkcs11js)
}

/** {@link openKeyStore} over another binding. */
export async function openKeyStoreOver(options: KeyStoreOptions, load: LoadBinding): Promise<KeyStore> {
  const names = [...PKCS11_OPTIONS, 'importClearKeys'] as const
  const { importClearKeys = false, ...rest } = readOptions(options, 'openKeyStore', names)
  if (typeof importClearKeys !== 'boolean') throw new ArgumentError('importClearKeys must be a boolean')
  const connection = await connect(readSettings(rest, 'openKeyStore'), load)
  return new TokenKeyStore(connection, importClearKeys)
}
