/** The keys of the software backend: clear material in, ready cipher objects out, one per key for its lifetime. */
import {
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHmac,
  type ECDH,
  type KeyObject,
} from 'node:crypto'
import { readOptions, requireKid } from '../../base/arguments.js'
import {
  clearRegisters,
  equalBytes,
  ownCopy,
  randomSecret,
  secretBytes,
  wipe,
  withWiped,
  xorInto,
} from '../../base/bytes.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import {
  type CheckValue,
  type CheckValueMethod,
  checkValueOf,
  defaultMethod,
  thumbprintOf,
  zeroBlockBytes,
} from '../../key/check-value.js'
import { forgetScalar, type KeyMaterial, publicPoint, readMaterial } from '../../key/material.js'
import { type KeyPeriod, readPeriod } from '../../key/period.js'
import { isKeyUsage, type KeyMode, type KeyUsage, secondUse, USAGES } from '../../key/usage.js'
import { isKeyAlgorithm, isTdea, type KeyAlgorithm } from '../../primitives/algorithms.js'
import { chainCleanly, updateCleanly } from '../../primitives/cleanly.js'
import { type BlockCipher, splitRetailKey } from '../../primitives/iso9797.js'
import { cmac, cmacCounter, encipherEcb } from '../../primitives/mac.js'
import { es256PrivateKey, jwkOfPoint } from '../../primitives/p256.js'
import { type KeyParity, parityOf, withoutParity } from '../../primitives/tdea.js'
import { readMode } from '../checks.js'
import type { KeyDerivation } from '../driver.js'
import type { AgreeingKey, AgreementThreads } from './agreement.js'
import type { TdeaCipher, TdeaEngine } from './tdea-engine.js'

/** A clear key for the software backend. For tests and development: the material is in host memory. */
export interface SoftwareKey {
  /** Key identifier, 1 to 128 characters. */
  readonly kid: string
  readonly usage: KeyUsage
  /** The widest mode of use the key can be bound in; the usage's first where absent. */
  readonly mode?: KeyMode
  readonly algorithm: KeyAlgorithm
  /** 16 or 24 bytes TDEA, 16/24/32 bytes AES, 32 bytes HMAC, a 32-byte scalar or private JWK for P-256. Copied. */
  readonly material: KeyMaterial
  /** When the key is for new data: from the one moment, before the other. No end where absent. */
  readonly validFrom?: Date
  readonly validTo?: Date
}

/** A key as it was given, its bytes copied. */
export interface StoredKey {
  readonly kid: string
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm
  readonly bytes: Uint8Array
  readonly period?: KeyPeriod
}

/** A key made ready for its operations. */
export interface ReadyKey {
  readonly tdea?: TdeaCipher | undefined
  /** K1‖K1‖K1, for all but the last block of a retail MAC. */
  readonly retailChain?: TdeaCipher | undefined
  readonly aes?: AesCipher | undefined
  /** Of HMAC: the key itself, which {@link StoredKey} owns. */
  readonly hmac?: Uint8Array | undefined
  /** Uses the key that is derived from this one, for as long as `use` takes. Of ciphers' keys. */
  readonly derived?: DerivedKey | undefined
  readonly ecdh?: ECDH | undefined
  /** The same key as the threads for key agreement know it, where there are any. */
  readonly agreeing?: AgreeingKey | undefined
  /** For ES256. OpenSSL cleanses the scalar when the object is collected: it cannot be closed. */
  readonly signer?: KeyObject | undefined
}

/** A key without parts, as own members: nobody's `Object.prototype` fills in what is absent. */
const NO_PARTS: ReadyKey = {
  tdea: undefined,
  retailChain: undefined,
  aes: undefined,
  hmac: undefined,
  derived: undefined,
  ecdh: undefined,
  agreeing: undefined,
  signer: undefined,
}

/** Hands a derived key, ready for its operations, to `use`, and wipes it afterwards. */
type DerivedKey = (steps: readonly KeyDerivation[], use: (key: ReadyKey) => Uint8Array) => Uint8Array

/** Copies and checks the declared keys. Errors: `ERR_ARGUMENT`, `ERR_KEY_MATERIAL`, `ERR_KEY_USAGE`. */
export function storeKeys(keys: readonly SoftwareKey[]): StoredKey[] {
  if (!Array.isArray(keys)) throw new ArgumentError('keys must be an array')
  const stored: StoredKey[] = []
  const twins = new Twins()
  try {
    for (const key of keys) {
      const one = storeKey(key)
      stored.push(one)
      twins.add(one)
    }
    return stored
  } catch (error) {
    wipe(...stored.map(key => key.bytes))
    throw error
  } finally {
    twins.wipe()
  }
}

function storeKey(key: SoftwareKey): StoredKey {
  const names = ['kid', 'usage', 'mode', 'algorithm', 'material', 'validFrom', 'validTo'] as const
  const given = readOptions(key, 'a key', names)
  const { kid, usage, mode: widest, algorithm, material } = given
  requireKid(kid)
  if (!isKeyUsage(usage)) throw new ArgumentError(`key ${kid}: unknown usage`)
  const mode = readMode(usage, widest)
  if (!isKeyAlgorithm(algorithm)) throw new ArgumentError(`key ${kid}: unknown algorithm`)
  const period = readPeriod(given)
  return { kid, usage, mode, algorithm, period, bytes: readMaterial(kid, material, algorithm) }
}

/**
 * One key, one purpose, also where it comes under two names. Keys are found again by an HMAC under a key that is drawn here
 * and wiped afterwards: a text made of the material itself could not be wiped.
 */
class Twins {
  readonly #secret = randomSecret(32)
  readonly #keys = new Map<string, StoredKey[]>()

  /** `ERR_KEY_USAGE` where the same key is there for another purpose. PRW generate and verify share theirs (V0). */
  add(key: StoredKey): void {
    for (const { kind, others, own, parts } of formsOf(key)) {
      const whole = this.#mark(own)
      const pieces = parts.map(part => this.#mark(part))
      for (const other of others) {
        this.#requireNone(key, [`${other} ${whole}`, `part of ${other} ${whole}`])
        this.#requireNone(
          key,
          pieces.map(piece => `${other} ${piece}`),
        )
      }
      for (const name of [`${kind} ${whole}`, ...pieces.map(piece => `part of ${kind} ${piece}`)])
        this.#keys.set(name, [...(this.#keys.get(name) ?? []), key])
    }
  }

  #requireNone({ kid, usage }: StoredKey, names: readonly string[]): void {
    const twins = names.flatMap(name => this.#keys.get(name) ?? [])
    const twin = twins.find(other => USAGES[other.usage].x9143 !== USAGES[usage].x9143)
    if (twin === undefined) return
    throw secondUse(kid, `it has the value of ${twin.kid}, which is for ${twin.usage}`)
  }

  #mark(bytes: Uint8Array): string {
    return withWiped(bytes, () => createHmac('sha256', this.#secret).update(bytes).digest('hex'))
  }

  wipe(): void {
    wipe(this.#secret)
    this.#keys.clear()
  }
}

/** A key as it is compared: with keys of these kinds, whole with whole, and whole with what a longer one contains. */
interface Form {
  readonly kind: 'point' | 'bytes' | 'tdea' | 'bytes like tdea'
  readonly others: readonly Form['kind'][]
  readonly own: Uint8Array
  readonly parts: readonly Uint8Array[]
}

/**
 * What two keys have in common that are one key, or near enough to give each other away. A shorter key within a longer one
 * counts; two keys that share a part do not. Of TDEA keys parity does not count, K1‖K2 is K1‖K2‖K1, and a key and its
 * complement are one (E of ~P under ~K is ~E of P under K); so they are compared with the bytes of other ciphers, too. A
 * scalar and its negative have one x coordinate, and so one Z.
 */
function formsOf({ kid, algorithm, bytes }: StoredKey): readonly Form[] {
  if (algorithm === 'ec-p256') {
    const own = ownCopy(publicPoint(kid, bytes).subarray(1, 33))
    return [{ kind: 'point', others: ['point'], own, parts: [] }]
  }
  if (isTdea(algorithm)) {
    const own = tdeaForm(bytes)
    const parts = own.length > 16 ? [tdeaForm(bytes.subarray(0, 16)), tdeaForm(bytes.subarray(8, 24))] : []
    return [{ kind: 'tdea', others: ['tdea', 'bytes like tdea'], own, parts }]
  }
  const parts = [16, 24].filter(length => length < bytes.length).map(length => bytes.subarray(0, length))
  return [
    { kind: 'bytes', others: ['bytes'], own: ownCopy(bytes), parts: parts.map(part => ownCopy(part)) },
    { kind: 'bytes like tdea', others: ['tdea'], own: tdeaForm(bytes), parts: parts.map(tdeaForm) },
  ]
}

/** Without parity, K1‖K2‖K1 as K1‖K2, and of a key and its complement the one whose first bit is 0. */
function tdeaForm(bytes: Uint8Array): Uint8Array {
  const whole = withoutParity(bytes)
  const isTwoKey = whole.length === 24 && equalBytes(whole.subarray(0, 8), whole.subarray(16))
  const form = ownCopy(isTwoKey ? whole.subarray(0, 16) : whole)
  wipe(whole)
  const flip = (form[0] as number) & 0x80 ? 0xfe : 0
  for (let i = 0; i < form.length; i++) form[i] = (form[i] as number) ^ flip
  return form
}

/** Sets up ciphers under the key. What it copies is wiped by {@link closeKey}. */
export function readyKey(key: StoredKey, engine: TdeaEngine, threads?: AgreementThreads): ReadyKey {
  if (key.algorithm === 'ec-p256') {
    if (USAGES[key.usage].purpose === 'signature') return { ...NO_PARTS, signer: es256PrivateKey(key.bytes) }
    const ecdh = createECDH('prime256v1')
    ecdh.setPrivateKey(key.bytes)
    return { ...NO_PARTS, ecdh, agreeing: threads?.add(ecdh, key.bytes) }
  }
  if (key.algorithm === 'hmac-sha256') return { ...NO_PARTS, hmac: key.bytes }
  const derived: DerivedKey = (steps, use) => withDerived(key, engine, steps, use)
  if (!isTdea(key.algorithm)) return { ...NO_PARTS, aes: aesCipher(key.bytes), derived }
  const tdea = engine.open(key.bytes)
  if (!USAGES[key.usage].macs.includes('iso9797-1-alg3')) return { ...NO_PARTS, tdea, derived }
  const parts = splitRetailKey(key.bytes)
  try {
    return { ...NO_PARTS, tdea, retailChain: engine.open(parts.chain), derived }
  } finally {
    wipe(parts.chain, parts.last)
  }
}

/** One derivation after the other; each key on the way lives as long as its step. */
function withDerived(
  key: StoredKey,
  engine: TdeaEngine,
  [step, ...more]: readonly KeyDerivation[],
  use: (key: ReadyKey) => Uint8Array,
): Uint8Array {
  const ready = readyKey(key, engine)
  try {
    if (step === undefined) return use(ready)
    const bytes = derivedBytes(key, ready, step)
    return withWiped(bytes, () => withDerived({ ...key, bytes }, engine, more, use))
  } finally {
    closeKey(ready)
  }
}

function derivedBytes({ bytes }: StoredKey, { tdea, aes }: ReadyKey, step: KeyDerivation): Uint8Array {
  if (step.method === 'xor') {
    const masked = ownCopy(bytes)
    xorInto(masked, step.data)
    return masked
  }
  const cipher = partOfKey(tdea ?? aes)
  const material =
    step.method === 'encipher'
      ? encipherEcb(cipher, step.data)
      : cmacCounter({ ...step, blockBytes: cipher.blockBytes, length: bytes.length }, input =>
          cmac(cipher, input),
        )
  return withWiped(material, whole => ownCopy(whole.subarray(0, bytes.length)))
}

export function closeKey(key: ReadyKey): void {
  key.tdea?.close()
  key.retailChain?.close()
  if (key.ecdh !== undefined) forgetScalar(key.ecdh)
}

/** A part of a key that its usage implies; without it the front and this driver disagree, which is our bug. */
export function partOfKey<T>(part: T | undefined): T {
  if (part === undefined) throw new BackendError('ERR_BACKEND_FAILED', 'the key lacks what its usage implies')
  return part
}

/** AES under one key. Data lengths are multiples of 16. */
interface AesCipher extends BlockCipher {
  encipher(blocks: Uint8Array): Uint8Array
  decipher(blocks: Uint8Array): Uint8Array
}

function aesCipher(key: Uint8Array): AesCipher {
  const name = `aes-${key.length * 8}`
  // What is enciphered by itself is a PIN block, or goes to whoever asked for it.
  const encipher = (blocks: Uint8Array): Uint8Array => {
    const cipher = createCipheriv(`${name}-ecb`, key, null).setAutoPadding(false)
    const out = cipher.update(blocks)
    cipher.final()
    clearRegisters()
    return out
  }
  const decipher = (blocks: Uint8Array): Uint8Array => {
    const decipher = createDecipheriv(`${name}-ecb`, key, null).setAutoPadding(false)
    const out = updateCleanly(decipher, blocks, 16)
    decipher.final()
    return out
  }
  const encipherCbc = (iv: Uint8Array, data: Uint8Array): Uint8Array => {
    const cipher = createCipheriv(`${name}-cbc`, key, iv).setAutoPadding(false)
    const out = chainCleanly(cipher, data, 16)
    cipher.final()
    return out
  }
  return {
    blockBytes: 16,
    encipher,
    decipher,
    encipherCbc,
  }
}

/** HMAC-SHA-256 (FIPS 198-1): 32 bytes, in memory of their own. */
export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array<ArrayBuffer> {
  return withWiped(createHmac('sha256', key).update(message).digest(), digest => {
    clearRegisters()
    return ownCopy(digest)
  })
}

/** Key check value, parity and public key of a ready key. */
export function factsOf(
  key: StoredKey,
  ready: ReadyKey,
  method: CheckValueMethod = defaultMethod(key.algorithm),
  expected?: string | CheckValue,
): { checkValue: CheckValue; parity: KeyParity; publicJwk?: ReturnType<typeof jwkOfPoint> } {
  if (key.algorithm === 'ec-p256') {
    const publicJwk = jwkOfPoint(publicPoint(key.kid, key.bytes))
    return { checkValue: thumbprintOf(publicJwk), parity: 'unknown', publicJwk }
  }
  if (ready.hmac !== undefined && method === 'hmac') {
    const tag = hmacSha256(ready.hmac, secretBytes(zeroBlockBytes(key.algorithm)))
    return withWiped(tag, whole => ({ checkValue: checkValueOf(method, whole, expected), parity: 'unknown' }))
  }
  const cipher = ready.tdea ?? ready.aes
  if (cipher === undefined || method === 'jwk-thumbprint' || method === 'hmac') {
    throw new ArgumentError(`key ${key.kid}: a ${key.algorithm} key has no check value by ${method}`)
  }
  const zero = secretBytes(cipher.blockBytes)
  const block = method === 'cmac' ? cmac(cipher, zero) : cipher.encipherCbc(zero, zero)
  try {
    const parity = isTdea(key.algorithm) ? parityOf(key.bytes) : 'unknown'
    return { checkValue: checkValueOf(method, block, expected), parity }
  } finally {
    // E(0) is the first subkey of CMAC.
    wipe(block)
  }
}
