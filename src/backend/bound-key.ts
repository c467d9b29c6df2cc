/**
 * The port's operations under one bound key: usage, arguments and host decipherment are checked here for every backend
 * alike, then the driver is called with plain data.
 */
import type { KeyObject } from 'node:crypto'
import type { CallOptions } from '../base/arguments.js'
import { ownCopy, secretBytes, wipe } from '../base/bytes.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import { type KeyOperation, operationsFor, refusedUse } from '../key/usage.js'
import { blockBytesOf } from '../primitives/algorithms.js'
import { SIGNATURE_BYTES, verifyEs256 } from '../primitives/p256.js'
import {
  MAX_INPUT_BYTES,
  macOutputBytes,
  readBlocks,
  readBlocksInPlace,
  readContentKeyRequest,
  readMacRequest,
  readMessage,
  requireHostDecipher,
  requireLength,
} from './checks.js'
import type { BackendDriver, ContentKeyRequest, MacRequest } from './driver.js'
import type { Job, Jobs } from './job.js'
import { type Key, type KeyFacts, type KeyOperations, operationsOf, requireKey } from './key.js'

/** The parts of an open backend that its keys share. */
export interface OpenParts<Ref> {
  readonly driver: BackendDriver<Ref>
  readonly jobs: Jobs
  /** Whether blocks are re-enciphered inside the token. */
  readonly reenciphersInside: boolean
}

/** What a driver needs to reach a key again, and what its signatures are held against. */
export interface Reference<Ref> {
  readonly ref: Ref
  readonly publicKey: KeyObject | undefined
  /** Set when the key is unbound: every operation is refused from then on. */
  isReleased?: boolean
}

type Run = Job<Uint8Array>['run']

/** 1 to 65,536 random bytes. */
export async function randomBytesOf<Ref>(
  { driver, jobs }: OpenParts<Ref>,
  length: number,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  if (!Number.isInteger(length)) throw new ArgumentError('length must be a whole number')
  requireLength('randomBytes', length, 1, MAX_INPUT_BYTES)
  return jobs.run(options, { run: signal => driver.randomBytes(length, signal), outputBytes: length })
}

const NOTHING: Uint8Array = secretBytes(0)

/** What is ours to wipe. */
function ownOf(input: Uint8Array, given: Uint8Array): Uint8Array {
  return input === given ? NOTHING : input
}

/** The operations of one key. */
export class BoundKey<Ref> implements KeyOperations {
  readonly #facts: KeyFacts
  readonly #parts: OpenParts<Ref>
  readonly #reference: Reference<Ref>
  readonly #admitted: ReadonlySet<KeyOperation>

  constructor(facts: KeyFacts, parts: OpenParts<Ref>, reference: Reference<Ref>) {
    this.#facts = facts
    this.#parts = parts
    this.#reference = reference
    this.#admitted = operationsFor(facts.usage, facts.mode)
  }

  async encipher(blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('encipher')
    const input = this.#blocks(blocks)
    const run: Run = signal => driver.encipher(this.#reference.ref, input, signal)
    return jobs.run(options, { run, input: ownOf(input, blocks), outputBytes: input.length })
  }

  async decipher(blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('decipher')
    const input = this.#blocks(blocks)
    requireHostDecipher(this.#facts)
    const run: Run = signal => driver.decipher(this.#reference.ref, input, signal)
    return jobs.run(options, { run, input: ownOf(input, blocks), outputBytes: input.length })
  }

  async reencipher(to: Key, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs, reenciphersInside } = this.#admit('reencipher')
    const target = this.#sibling(to)
    target.#admit('encipher')
    if (blockBytesOf(to.algorithm) !== blockBytesOf(this.#facts.algorithm)) {
      const problem = `key ${to.kid} is ${to.algorithm}: its blocks are of another length than ${this.#facts.kid}'s`
      throw new KeyError('ERR_KEY_ALGORITHM', problem, to.kid)
    }
    const input = this.#blocks(blocks)
    // Inside the token too, a block must not move to where the host may open it from where it may not.
    if (!reenciphersInside || to.hostDecipher) requireHostDecipher(this.#facts)
    const run: Run = signal => driver.reencipher(this.#reference.ref, target.#reference.ref, input, signal)
    return jobs.run(options, { run, input: ownOf(input, blocks), outputBytes: input.length })
  }

  async mac(request: MacRequest, message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('mac')
    const parameters = readMacRequest(this.#facts, request)
    const input = readMessage(message)
    const run: Run = signal => driver.mac(this.#reference.ref, parameters, input, signal)
    const outputBytes = macOutputBytes(this.#facts, parameters, input.length)
    const more = [parameters.iv, ...(parameters.derivation ?? []).map(({ data }) => data)]
    return jobs.run(options, { run, input, outputBytes, more })
  }

  async deriveContentKey(request: ContentKeyRequest, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('deriveContentKey')
    const parameters = readContentKeyRequest(request)
    const run: Run = signal => driver.deriveContentKey(this.#reference.ref, parameters, signal)
    return jobs.run(options, { run, outputBytes: parameters.length })
  }

  async sign(message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('sign')
    const { ref, publicKey } = this.#reference
    const input = readMessage(message)
    // What is verified is a copy of our own: a driver may pass its on to another thread, or spoil it.
    const kept = ownCopy(input)
    const run: Run = signal => driver.sign(ref, input, signal)
    const isRight = (signature: Uint8Array): boolean =>
      publicKey !== undefined && verifyEs256(publicKey, kept, signature)
    try {
      return await jobs.run(options, { run, input, outputBytes: SIGNATURE_BYTES, isRight })
    } finally {
      wipe(kept)
    }
  }

  randomBytes(length: number, options?: CallOptions): Promise<Uint8Array> {
    return randomBytesOf(this.#parts, length, options)
  }

  /** The blocks as the driver gets them: a copy of our own, but themselves where it is done with them when it returns. */
  #blocks(blocks: Uint8Array): Uint8Array {
    const { algorithm } = this.#facts
    return this.#parts.driver.blocksAtOnce === true
      ? readBlocksInPlace(blocks, algorithm)
      : readBlocks(blocks, algorithm)
  }

  #admit(operation: KeyOperation): OpenParts<Ref> {
    if (this.#reference.isReleased) {
      throw new KeyError('ERR_KEY_FOREIGN', `key ${this.#facts.kid} is bound no longer`, this.#facts.kid)
    }
    if (this.#admitted.has(operation)) return this.#parts
    throw refusedUse(this.#facts, operation)
  }

  /** The operations of another key of the same backend. */
  #sibling(to: Key): BoundKey<Ref> {
    requireKey(to, 'to')
    const operations = operationsOf(to)
    if (operations instanceof BoundKey && operations.#parts === this.#parts) return operations
    const { kid } = this.#facts
    throw new KeyError('ERR_KEY_FOREIGN', `keys ${kid} and ${to.kid} are keys of two backends`, to.kid)
  }
}
