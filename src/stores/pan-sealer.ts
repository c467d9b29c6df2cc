/**
 * PANs at rest. A store is given a {@link PanSealer} and keeps what it makes of a PAN; there is no store that writes a
 * PAN in the clear. {@link panSealer} seals with AES-256-GCM under keys of the program's; a service with a vault brings
 * a sealer of its own.
 *
 *     sealed  01 ‖ length of kid ‖ kid (UTF-8) ‖ nonce (12 bytes) ‖ ciphertext (20 bytes) ‖ tag (16 bytes)
 *     clear   the digits in ASCII, zero bytes after them: the length of a PAN does not show
 *     AAD     all before the nonce, then ["issuer-pin-crypto PAN", issuerId, cardId] as JSON
 *
 * A sealed PAN that is copied to another card therefore does not open there. Under a key of a backend the form is 02, and
 * each PAN has a key of its own:
 *
 *     key     CMAC(k, 01 ‖ context) ‖ CMAC(k, 02 ‖ context)
 *     context "issuer-pin-crypto PAN key" ‖ 00 ‖ nonce ‖ AAD ‖ 0100
 */
import { createCipheriv, randomBytes } from 'node:crypto'
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { isKid, readOptions, requireKid } from '../base/arguments.js'
import {
  clearRegisters,
  concatBytes,
  copyInto,
  ownCopy,
  secretBytes,
  snapshot,
  utf8Bytes,
  wipe,
} from '../base/bytes.js'
import { ArgumentError, BackendError, InputError, KeyError } from '../base/errors.js'
import type { CardRef } from '../d1/endpoints/interfaces.js'
import { requireUse } from '../key/usage.js'
import { decryptContent } from '../primitives/a256gcm.js'
import { Pan, panDigits, requirePan } from '../primitives/pan.js'
import { readRef } from './records.js'

/** Makes PANs unreadable for whoever reads the database. Either method may answer at once or later. */
export interface PanSealer {
  /** The PAN as it may be stored, up to 4096 bytes, bound to this card. */
  seal(pan: Pan, card: CardRef): Uint8Array | Promise<Uint8Array>
  /** The PAN of what `seal` made for this very card; rejects for anything else. */
  open(sealed: Uint8Array, card: CardRef): Pan | Promise<Pan>
  /** True: it is sealed as `seal` would do it now. Without this method a change of the key seals every PAN anew. */
  isCurrent?(sealed: Uint8Array): boolean
}

/** A key of {@link panSealer}. */
export interface PanKey {
  /** 1 to 128 characters; it is kept in clear with each sealed PAN. */
  readonly kid: string
  /** AES-256: 32 bytes, which are copied. */
  readonly key: Uint8Array
}

/** Options of {@link panSealer}. */
export interface PanSealerOptions {
  /**
   * The first key seals, each of them opens: put a new one first, and keep the old ones until every PAN moved. Keys of a
   * backend (in the token if it is one) are AES keys of usage `cmac`, mode C or G, and for nothing else.
   */
  readonly keys: readonly (PanKey | Key)[]
}

const FORM = 1
/** Under a key that was derived for it. */
const DERIVED = 2
const LABEL = 'issuer-pin-crypto PAN key\0'
/** The counter of the KDF, and the length of what it gives in bits, two bytes. */
const PARTS = ['\x01', '\x02'] as const
const LENGTH = '\x01\0'
const CMAC = { algorithm: 'cmac', padding: 'none' } as const
const KEY_BYTES = 32
const NONCE_BYTES = 12
const CLEAR_BYTES = 20
const TAG_BYTES = 16
const ASCII_ZERO = 0x30

/**
 * A {@link PanSealer} under AES-256-GCM keys that the program holds: `node:crypto`, a fresh random nonce for each PAN
 * (so no more than 2^32 PANs under one key, NIST SP 800-38D 8.3), or under a key of a backend, from which a key is derived for
 * each PAN (two MACs, and a promise). Disposing of it wipes its copies of the keys.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_USAGE`. Later: what a backend reports, `ERR_KEY_NOT_FOUND` (sealed under a kid that is not here), `ERR_BACKEND_FAILED` (it
 * does not open: another key, another card, changed bytes; never says which), `ERR_DISPOSED`.
 *
 * Source: NIST SP 800-38D; SP 800-108r1 4.1 (KDF in counter mode, CMAC).
 *
 * @example
 * ```ts
 * using sealer = panSealer({ keys: [{ kid: 'PAN-2', key: newKey }, { kid: 'PAN-1', key: oldKey }] })
 * const store = await openSqliteIssuerStore({ path, driver: 'better-sqlite3', panSealer: sealer })
 * ```
 */
export function panSealer(options: PanSealerOptions): PanSealer & Disposable {
  const { keys } = readOptions(options, 'panSealer', ['keys'])
  if (!Array.isArray(keys)) throw new ArgumentError('keys must be a list')
  const copies = new Map<string, Uint8Array>()
  try {
    const read = new Map<string, Uint8Array | Key>()
    for (const entry of keys) {
      const [kid, key] = 'usage' in Object(entry) ? readBackendKey(entry) : readKey(entry, copies)
      if (read.has(kid)) throw new ArgumentError('each kid must be stated once')
      read.set(kid, key)
    }
    const [sealingKid] = read.keys()
    if (sealingKid === undefined) throw new ArgumentError('keys must name at least one')
    return new AesPanSealer(read, sealingKid)
  } catch (error) {
    wipe(...copies.values())
    throw error
  }
}

function readBackendKey(key: unknown): readonly [string, Key] {
  requireKey(key, 'a key of panSealer')
  requireUse(key, 'mac', 'generate')
  if (!key.algorithm.startsWith('aes')) throw new ArgumentError('panSealer takes AES keys')
  requireShortKid(key.kid)
  return [key.kid, key]
}

function requireShortKid(kid: string): void {
  if (utf8Bytes(kid).length > 255) throw new ArgumentError('kid must be at most 255 bytes')
}

/** The bytes are in `copies` before they are looked at, so that they are wiped whatever is wrong with them. */
function readKey(entry: PanKey, copies: Map<string, Uint8Array>): readonly [string, Uint8Array] {
  const { kid, key } = readOptions(entry, 'a key of panSealer', ['kid', 'key'])
  requireKid(kid)
  requireShortKid(kid)
  if (copies.has(kid)) throw new ArgumentError('each kid must be stated once')
  const copy = snapshot(key, 'key')
  copies.set(kid, copy)
  if (copy.length !== KEY_BYTES) throw new ArgumentError(`key must be ${KEY_BYTES} bytes`)
  return [kid, copy]
}

class AesPanSealer implements PanSealer, Disposable {
  readonly #keys: ReadonlyMap<string, Uint8Array | Key>
  readonly #sealingKid: string
  #disposed = false

  constructor(keys: ReadonlyMap<string, Uint8Array | Key>, sealingKid: string) {
    this.#keys = keys
    this.#sealingKid = sealingKid
  }

  seal(pan: Pan, card: CardRef): Uint8Array | Promise<Uint8Array> {
    const key = this.#key(this.#sealingKid)
    requirePan(pan)
    const kid = utf8Bytes(this.#sealingKid)
    const head = concatBytes(Uint8Array.of(formOf(key), kid.length), kid)
    const bound = { aad: boundTo(head, card), nonce: ownCopy(randomBytes(NONCE_BYTES)) }
    return under(key, bound, bytes => concatBytes(head, bound.nonce, encipher(bytes, pan, bound)))
  }

  open(sealed: Uint8Array, card: CardRef): Pan | Promise<Pan> {
    const bytes = snapshot(sealed, 'sealed')
    const [form, length = 0] = bytes
    const head = bytes.subarray(0, 2 + length)
    const body = bytes.subarray(head.length)
    const kid = new TextDecoder().decode(head.subarray(2))
    const isForm = form === FORM || form === DERIVED
    if (!isForm || !isKid(kid) || body.length !== NONCE_BYTES + CLEAR_BYTES + TAG_BYTES) throw unopened()
    const key = this.#key(kid)
    // What was sealed under bytes is not opened under a key of a backend that has their kid, nor the other way round.
    if (formOf(key) !== form) throw unopened()
    const bound = { aad: boundTo(head, card), nonce: ownCopy(body.subarray(0, NONCE_BYTES)) }
    return under(key, bound, bytes => decipher(bytes, body.subarray(NONCE_BYTES), bound))
  }

  isCurrent(sealed: Uint8Array): boolean {
    const [form, length = 0] = sealed
    const isForm = form === formOf(this.#key(this.#sealingKid))
    return isForm && new TextDecoder().decode(sealed.subarray(2, 2 + length)) === this.#sealingKid
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    wipe(...[...this.#keys.values()].filter(key => key instanceof Uint8Array))
  }

  #key(kid: string): Uint8Array | Key {
    if (this.#disposed) throw new InputError('ERR_DISPOSED', 'the PAN sealer was used after disposal')
    const key = this.#keys.get(kid)
    if (key === undefined) throw new KeyError('ERR_KEY_NOT_FOUND', `no PAN key ${kid}`, kid)
    return key
  }
}

/** What one sealed PAN is bound to, and its nonce. */
interface Bound {
  readonly aad: Uint8Array
  readonly nonce: Uint8Array
}

function formOf(key: Uint8Array | Key): number {
  return key instanceof Uint8Array ? FORM : DERIVED
}

/** Runs it with the key, or with the one that is derived for this PAN alone, and wiped again. */
function under<T>(key: Uint8Array | Key, bound: Bound, use: (key: Uint8Array) => T): T | Promise<T> {
  return key instanceof Uint8Array ? use(key) : underDerived(key, bound, use)
}

async function underDerived<T>(key: Key, { aad, nonce }: Bound, use: (key: Uint8Array) => T): Promise<T> {
  const context = concatBytes(utf8Bytes(LABEL), nonce, aad, utf8Bytes(LENGTH))
  const derived = secretBytes(KEY_BYTES)
  try {
    for (const [i, part] of PARTS.entries()) {
      const mac = await operationsOf(key).mac(CMAC, concatBytes(utf8Bytes(part), context))
      copyInto(derived, mac, i * mac.length)
      wipe(mac)
    }
    return use(derived)
  } finally {
    wipe(derived)
  }
}

function encipher(key: Uint8Array, pan: Pan, { aad, nonce }: Bound): Uint8Array {
  const clear = secretBytes(CLEAR_BYTES)
  try {
    panDigits(pan).forEach((digit, i) => {
      clear[i] = ASCII_ZERO + digit
    })
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad)
    return concatBytes(cipher.update(clear), cipher.final(), cipher.getAuthTag())
  } finally {
    wipe(clear)
    clearRegisters()
  }
}

function decipher(key: Uint8Array, body: Uint8Array, { aad, nonce }: Bound): Pan {
  let clear: Uint8Array | undefined
  try {
    const [ciphertext, tag] = [body.subarray(0, -TAG_BYTES), body.subarray(-TAG_BYTES)]
    clear = decryptContent(key, { aad, iv: nonce, ciphertext, tag })
    if (clear === undefined) throw unopened()
    return Pan.from(clear.subarray(0, clear.indexOf(0)))
  } catch {
    // Whatever was wrong with it: to tell one reason from another helps whoever changes the database.
    throw unopened()
  } finally {
    wipe(clear)
  }
}

function boundTo(head: Uint8Array, card: CardRef): Uint8Array {
  const { issuerId, cardId } = readRef(card)
  return concatBytes(head, utf8Bytes(JSON.stringify(['issuer-pin-crypto PAN', issuerId, cardId])))
}

function unopened(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'the sealed PAN of the card does not open')
}
