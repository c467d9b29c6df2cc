/** The software backend: clear keys in this process, for tests, development and integration. */
import { readOptions } from '../../base/arguments.js'
import { copyInto, randomSecret, secretBytes, wipe, withWiped, xorBytes } from '../../base/bytes.js'
import { ArgumentError, KeyError } from '../../base/errors.js'
import { requireSoundMaterial } from '../../key/material.js'
import { isWithin, refusedUse, USAGES } from '../../key/usage.js'
import {
  type PinComparison,
  type PinVerification,
  runSteps,
  verificationSteps,
} from '../../pin/formats/verification.js'
import type { SealedContent } from '../../primitives/a256gcm.js'
import { concatKdf } from '../../primitives/concat-kdf.js'
import { computeMac, type MacCiphers } from '../../primitives/mac.js'
import { signEs256 } from '../../primitives/p256.js'
import type { Backend, OpenerOptions } from '../backend.js'
import type {
  BackendDriver,
  Capabilities,
  ContentKeyRequest,
  FoundKey,
  Health,
  KeyQuery,
  MacRequest,
  MaybePromise,
} from '../driver.js'
import { openFront } from '../front.js'
import { OPENER_OPTIONS, readOpener } from '../opener.js'
import { AgreementThreads, openSealed, type StartAgreement } from './agreement.js'
import { chooseEngine, type EngineChoice, engineWorks } from './engine.js'
import {
  closeKey,
  factsOf,
  hmacSha256,
  partOfKey,
  type ReadyKey,
  readyKey,
  type SoftwareKey,
  type StoredKey,
  storeKeys,
} from './keys.js'
import { batchCiphers, MacBatch } from './mac-batch.js'
import type { TdeaEngine } from './tdea-engine.js'

/** Options of {@link softwareBackend}. */
export interface SoftwareBackendOptions extends OpenerOptions {
  readonly keys: readonly SoftwareKey[]
  /** Who computes TDEA; `auto` where absent. What was chosen is in `capabilities().tdea`. */
  readonly engine?: EngineChoice
  /**
   * `workers`: so many threads, 1 to 64, on which JWEs' keys are agreed on and their contents opened, so that a service opens
   * JWEs on all cores and its event loop is free meanwhile. None where absent: one JWE after the other is opened sooner without. The threads hold the
   * private keys as long as the backend is open. A program that is bundled takes `agreement-host.mjs` along.
   */
  readonly jwe?: { readonly workers: number }
}

/** More threads than that have no cores. */
const MOST_WORKERS = 64

/**
 * Opens a backend whose keys are clear bytes in this process. It is for tests, development and integration: it is
 * not a secure cryptographic device, and whoever reads the process's memory reads the keys.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_MATERIAL`, `ERR_KEY_USAGE` (the same material given for two usages),
 * `ERR_UNSUPPORTED` (the engine asked for does not work here; there is no file for the threads asked for).
 *
 * @example
 * ```ts
 * await using backend = await softwareBackend({
 *   keys: [{ kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: hexFromTheTestBench }],
 * })
 * const key = await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
 * ```
 */
export async function softwareBackend(options: SoftwareBackendOptions): Promise<Backend> {
  return openSoftware(options)
}

/** {@link softwareBackend}, with who starts the threads. */
export async function openSoftware(
  options: SoftwareBackendOptions,
  start?: StartAgreement,
): Promise<Backend> {
  const names = ['keys', 'engine', 'jwe', ...OPENER_OPTIONS] as const
  const { keys, engine: choice, jwe, ...opener } = readOptions(options, 'softwareBackend', names)
  const read = readOpener(opener)
  const workers = readWorkers(jwe)
  const stored = storeKeys(keys)
  let threads: AgreementThreads | undefined
  try {
    const engine = await chooseEngine(choice ?? 'auto')
    if (workers > 0) threads = await AgreementThreads.open(workers, start)
    return openFront(new SoftwareDriver(stored, engine, threads), read)
  } catch (error) {
    wipe(...stored.map(key => key.bytes))
    await threads?.close()
    throw error
  }
}

function readWorkers(jwe: SoftwareBackendOptions['jwe']): number {
  if (jwe === undefined) return 0
  const { workers } = readOptions(jwe, 'jwe', ['workers'])
  if (Number.isInteger(workers) && workers >= 1 && workers <= MOST_WORKERS) return workers
  throw new ArgumentError(`jwe.workers must be a whole number from 1 to ${MOST_WORKERS}`)
}

/** For {@link softwareBackend}, and for tests of what the front never lets happen. */
export class SoftwareDriver implements BackendDriver<ReadyKey> {
  readonly name = 'software'
  readonly blocksAtOnce = true
  readonly #keys: readonly StoredKey[]
  /** By kid; more than one is found to be too many when it is asked for. */
  readonly #byKid = new Map<string, StoredKey[]>()
  readonly #engine: TdeaEngine
  readonly #threads: AgreementThreads | undefined
  readonly #macs = new MacBatch()
  readonly #ready = new Map<StoredKey, ReadyKey>()

  constructor(keys: readonly StoredKey[], engine: TdeaEngine, threads?: AgreementThreads) {
    this.#keys = keys
    this.#threads = threads
    this.#engine = engine
    for (const key of keys) {
      const others = this.#byKid.get(key.kid)
      if (others === undefined) this.#byKid.set(key.kid, [key])
      else others.push(key)
    }
  }

  find({ kid, usage, mode, checkValueMethod, expected }: KeyQuery): FoundKey<ReadyKey> {
    const [key, second] = this.#byKid.get(kid) ?? []
    if (key === undefined) throw new KeyError('ERR_KEY_NOT_FOUND', `key ${kid} is not in this backend`, kid)
    if (second !== undefined)
      throw new KeyError('ERR_KEY_AMBIGUOUS', `there are two keys by the kid ${kid}`, kid)
    if (key.usage !== usage) throw refusedUse(key, `binding it for ${usage}`)
    if (!isWithin(mode, key.mode)) throw refusedUse(key, `binding it in mode ${mode}`)
    if (USAGES[usage].algorithms.includes(key.algorithm)) {
      requireSoundMaterial(kid, key.bytes, key.algorithm)
    }
    const ready = this.#ready.get(key) ?? readyKey(key, this.#engine, this.#threads)
    this.#ready.set(key, ready)
    return {
      ref: ready,
      algorithm: key.algorithm,
      ...factsOf(key, ready, checkValueMethod, expected),
      // Opening has compared the keys themselves, by their effective bytes.
      identity: { names: [kid], checkValues: [], compared: true },
      ...key.period,
    }
  }

  encipher(ref: ReadyKey, blocks: Uint8Array): Uint8Array {
    return partOfKey(ref.tdea ?? ref.aes).encipher(blocks)
  }

  encipherInto(ref: ReadyKey, blocks: Uint8Array, out: Uint8Array): void {
    if (ref.tdea?.encipherInto !== undefined) ref.tdea.encipherInto(blocks, out)
    else withWiped(this.encipher(ref, blocks), result => copyInto(out, result))
  }

  decipher(ref: ReadyKey, blocks: Uint8Array): Uint8Array {
    return partOfKey(ref.tdea ?? ref.aes).decipher(blocks)
  }

  decipherVariant(ref: ReadyKey, mask: Uint8Array, blocks: Uint8Array): Uint8Array {
    return partOfKey(ref.derived)([{ method: 'xor', data: mask }], key =>
      partOfKey(key.tdea ?? key.aes).decipher(blocks),
    )
  }

  encipherBound(ref: ReadyKey, blocks: Uint8Array, fields: Uint8Array): Uint8Array {
    return withWiped(this.encipher(ref, blocks), once =>
      withWiped(xorBytes(once, fields), mixed => this.encipher(ref, mixed)),
    )
  }

  decipherBound(ref: ReadyKey, blocks: Uint8Array, fields: Uint8Array): Uint8Array {
    return withWiped(this.decipher(ref, blocks), once =>
      withWiped(xorBytes(once, fields), mixed => this.decipher(ref, mixed)),
    )
  }

  reencipher(from: ReadyKey, to: ReadyKey, blocks: Uint8Array): Uint8Array {
    const out = secretBytes(blocks.length)
    this.reencipherInto(from, to, blocks, out)
    return out
  }

  reencipherInto(from: ReadyKey, to: ReadyKey, blocks: Uint8Array, out: Uint8Array): void {
    if (to.tdea !== undefined && from.tdea?.reencipherInto?.(to.tdea, blocks, out) === true) return
    withWiped(this.decipher(from, blocks), clear => this.encipherInto(to, clear, out))
  }

  verifyPin(first: ReadyKey, second: ReadyKey, request: PinVerification): PinComparison {
    return runSteps(verificationSteps(request), ({ under, by, block, field }) => {
      const ref = under === 'first' ? first : second
      return field === undefined ? this[by](ref, block) : this.decipherBound(ref, block, field)
    })
  }

  mac(ref: ReadyKey, request: MacRequest, message: Uint8Array): MaybePromise<Uint8Array> {
    const { derivation, algorithm, padding, iv } = request
    if (algorithm === 'hmac-sha256') return hmacSha256(partOfKey(ref.hmac), message)
    const computation = { algorithm, padding, iv }
    if (derivation !== undefined) {
      // At once: the derived key is wiped when this returns.
      return partOfKey(ref.derived)(derivation, key => computeMac(computation, macCiphers(key), message))
    }
    const ciphers = macCiphers(ref)
    const many = batchCiphers(ciphers, algorithm)
    return many === undefined
      ? computeMac(computation, ciphers, message)
      : this.#macs.add(many, computation, message)
  }

  deriveContentKey(ref: ReadyKey, request: ContentKeyRequest): Uint8Array {
    const z = partOfKey(ref.ecdh).computeSecret(request.ephemeralPublicKey)
    return withWiped(z, () => concatKdf(z, request.otherInfo, request.length))
  }

  openContent(
    ref: ReadyKey,
    request: ContentKeyRequest,
    content: SealedContent,
  ): MaybePromise<Uint8Array | undefined> {
    return this.#threads === undefined
      ? openSealed(partOfKey(ref.ecdh), request, content)
      : this.#threads.open(partOfKey(ref.agreeing), request, content)
  }

  sign(ref: ReadyKey, message: Uint8Array): Uint8Array {
    return signEs256(partOfKey(ref.signer), message)
  }

  randomBytes(length: number): Uint8Array {
    return randomSecret(length)
  }

  capabilities(): Capabilities {
    return {
      backend: 'software',
      tdea: this.#engine.name,
      macs: {
        'iso9797-1-alg1': 'native',
        'iso9797-1-alg3': 'native',
        cmac: 'native',
        'hmac-sha256': 'native',
      },
      derivation: 'host',
      keyAgreement: 'host',
      signing: 'native',
      reencipher: 'host',
      random: 'node:crypto',
      notes: ['keys and PIN blocks are in host memory: not a secure cryptographic device'],
    }
  }

  health(): Health {
    const ok = engineWorks(this.#engine)
    const detail = `${this.#engine.name}: TDEA known answer ${ok ? 'right' : 'wrong'}`
    if (this.#threads === undefined) return { ok, detail }
    const { now, opened } = this.#threads.alive
    return { ok, detail: `${detail}; ${now} of ${opened} threads for key agreement` }
  }

  async close(): Promise<void> {
    await this.#threads?.close()
    wipe(...this.#keys.map(key => key.bytes))
    for (const key of this.#ready.values()) closeKey(key)
    this.#ready.clear()
  }
}

function macCiphers({ tdea, aes, retailChain }: ReadyKey): MacCiphers {
  const last = partOfKey(tdea ?? aes)
  return { last, chain: retailChain }
}
