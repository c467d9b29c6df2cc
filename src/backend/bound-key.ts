/**
 * A key as the front holds it: each operation under it, with its arguments read, its usage required and its inputs copied.
 */
import type { KeyObject } from 'node:crypto'
import { types } from 'node:util'
import { type CallOptions, readCall } from '../base/arguments.js'
import {
  isPlainBytes,
  ownCopy,
  publicBytes,
  secretBytes,
  snapshot,
  wipe,
  withWiped,
  xorBytes,
} from '../base/bytes.js'
import { ArgumentError, BackendError, InputError, KeyError } from '../base/errors.js'
import { hasPeriod, requirePeriod } from '../key/period.js'
import { type KeyOperation, operationsFor, refusedUse, USAGES } from '../key/usage.js'
import {
  type PinComparison,
  type PinStep,
  type PinVerification,
  runStepsLater,
  verificationSteps,
} from '../pin/formats/verification.js'
import { decryptContent, type SealedContent } from '../primitives/a256gcm.js'
import { blockBytesOf, isEncipherment, isTdea } from '../primitives/algorithms.js'
import { macBytes } from '../primitives/mac.js'
import { SIGNATURE_BYTES, verifyEs256 } from '../primitives/p256.js'
import type { KeyUse } from './backend.js'
import {
  MAX_INPUT_BYTES,
  macOutputBytes,
  readBlocks,
  readBlocksInPlace,
  readContentKeyRequest,
  readMacRequest,
  readMessage,
  readMessageInPlace,
  readSealedContent,
  readVerification,
  requireHostDecipher,
  requireLength,
} from './checks.js'
import type { BackendDriver, ContentKeyRequest, MacRequest, MaybePromise } from './driver.js'
import { type Admission, coded, failed, isThenable, type Job, type Jobs, NO_MORE } from './jobs.js'
import {
  type Key,
  type KeyFacts,
  type KeyOperations,
  operationsOf,
  type ReencipherRule,
  requireKey,
} from './key.js'
import { endOf, KEY_EVENTS } from './opener.js'
import { TOGETHER_BYTES, Together } from './together.js'

/** The parts of an open backend that its keys share. */
export interface OpenParts<Ref> {
  readonly driver: BackendDriver<Ref>
  readonly jobs: Jobs
  /** Whether blocks are re-enciphered inside the token. */
  readonly reenciphersInside: boolean
  /** Asks the opener, who refuses by throwing; undefined where nobody wants to be asked. */
  readonly onOperation: ((use: KeyUse) => void) | undefined
}

/** What a driver needs to reach a key again, and what its signatures are held against. */
export interface Reference<Ref> {
  readonly ref: Ref
  readonly publicKey: KeyObject | undefined
  /** Set when the key is unbound: every operation is refused from then on. */
  isReleased: boolean
}

type Run = Job<Uint8Array>['run']

/** A driver that enciphers while it is called. */
type AtOnce<Ref> = BackendDriver<Ref> & Required<Pick<BackendDriver<Ref>, 'encipherInto'>>

function answersAtOnce<Ref>(driver: BackendDriver<Ref>): driver is AtOnce<Ref> {
  return driver.encipherInto !== undefined
}

/** An operation that the driver does while it is called. */
interface Now {
  /** Blocks as the driver gets them, and as they were given. */
  readonly input: Uint8Array
  readonly given: Uint8Array
  /** Whether what comes of it is no secret: an enciphered PIN block is none. */
  readonly isPublic: boolean
  readonly admit: Admission | undefined
  readonly into: (out: Uint8Array) => unknown
}

/** 1 to 65,536 random bytes. */
export async function randomBytesOf<Ref>(
  { driver, jobs }: OpenParts<Ref>,
  length: number,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  if (!Number.isInteger(length)) throw new ArgumentError('length must be a whole number')
  requireLength('randomBytes', length, 1, MAX_INPUT_BYTES)
  return jobs.run(options, {
    ...NO_MORE,
    run: signal => driver.randomBytes(length, signal),
    outputBytes: length,
  })
}

const NOTHING: Uint8Array = secretBytes(0)

/** What is ours to wipe. */
function ownOf(input: Uint8Array, given: Uint8Array): Uint8Array {
  return input === given ? NOTHING : input
}

/**
 * Memory for a copy of one block, by its length, used again and again: one is taken at a time, and wiped before it is given
 * back. New memory off the heap for each block costs as much as enciphering it in software.
 */
const SPARE = new Map<number, Uint8Array>([8, 16].map(length => [length, secretBytes(length)]))

/** A copy of one block in memory that is given back; undefined where it is none, or not plainly, or that is lent. */
function borrow(block: Uint8Array, length: number): Uint8Array | undefined {
  if (!isPlainBytes(block) || block.length !== length) return undefined
  const copy = SPARE.get(length)
  if (copy === undefined) return undefined
  SPARE.delete(length)
  for (let i = 0; i < length; i++) copy[i] = block[i] as number
  return copy
}

function giveBack(wiped: Uint8Array): void {
  SPARE.set(wiped.length, wiped)
}

/** A copy of the fields that go with the blocks; these are ours, and are wiped where there is none. */
function readFields(given: Uint8Array, blocks: Uint8Array): Uint8Array {
  let fields: Uint8Array | undefined
  try {
    fields = snapshot(given, 'fields')
    if (fields.length === blocks.length) return fields
    throw new InputError('ERR_LENGTH', 'fields must be as long as blocks')
  } catch (error) {
    wipe(blocks, fields)
    throw error
  }
}

/** Inside a token or in host memory, as the keys allow. */
const ANYWHERE: ReencipherRule = { inside: false }

/** The operations of one key. */
export class BoundKey<Ref> implements KeyOperations {
  readonly #facts: KeyFacts
  readonly #parts: OpenParts<Ref>
  readonly #reference: Reference<Ref>
  readonly #admitted: ReadonlySet<KeyOperation>
  readonly #resultsArePublic: boolean
  readonly #hasPeriod: boolean
  /** Its blocks are PIN blocks of the length that are enciphered side by side. */
  readonly #goesTogether: boolean
  #together: Together | undefined

  constructor(facts: KeyFacts, parts: OpenParts<Ref>, reference: Reference<Ref>) {
    this.#facts = facts
    this.#parts = parts
    this.#reference = reference
    this.#admitted = operationsFor(facts.usage, facts.mode)
    this.#resultsArePublic = USAGES[facts.usage].purpose === 'pin-block'
    this.#hasPeriod = hasPeriod(facts)
    this.#goesTogether = this.#resultsArePublic && isTdea(facts.algorithm)
  }

  encipher(blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    // Not an asynchronous function: most answers are there at once, and one more promise for each of hundreds is felt.
    try {
      const result = this.#encipher(blocks, options)
      return result instanceof Promise ? result : Promise.resolve(result)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #encipher(blocks: Uint8Array, options: CallOptions | undefined): MaybePromise<Uint8Array> {
    const { driver, jobs } = this.#admit('encipher')
    if (answersAtOnce(driver)) {
      // Nobody can give it up, and nobody asks to be told of it.
      const together =
        options === undefined && this.#readsInPlace() ? this.#inTurn(driver, blocks) : undefined
      return together ?? this.#encipherAtOnce(driver, blocks, options)
    }
    const input = this.#blocks(blocks)
    const run: Run = signal => driver.encipher(this.#reference.ref, input, signal)
    const admit = this.#asking('encipher', input.length)
    return jobs.run(options, {
      run,
      input: ownOf(input, blocks),
      outputBytes: input.length,
      own: undefined,
      admit,
      more: undefined,
      isRight: undefined,
    })
  }

  /** Of PIN blocks that are in flight together all but the first: undefined for that one, and for what is no such block. */
  #inTurn(driver: AtOnce<Ref>, block: Uint8Array): Promise<Uint8Array> | undefined {
    if (!this.#goesTogether || !isPlainBytes(block) || block.length !== TOGETHER_BYTES) return undefined
    const { jobs } = this.#parts
    jobs.requireOpen()
    this.#together ??= new Together(
      (clear, out) => driver.encipherInto(this.#reference.ref, clear, out, undefined),
      { enter: () => jobs.enter(), leave: () => jobs.leave(), coded },
    )
    return this.#together.add(block)
  }

  /** Mostly nothing of it is ever in flight, and nothing but the result is made. */
  #encipherAtOnce(
    driver: AtOnce<Ref>,
    blocks: Uint8Array,
    options: CallOptions | undefined,
  ): MaybePromise<Uint8Array> {
    const { algorithm } = this.#facts
    const borrowed = driver.blocksAtOnce === true ? undefined : borrow(blocks, blockBytesOf(algorithm))
    const input = borrowed ?? this.#blocks(blocks)
    const { length } = input
    let out: Uint8Array<ArrayBuffer> | undefined
    try {
      const admit = this.#asking('encipher', length)
      try {
        const signal = this.#parts.jobs.begin(options, admit)
        // A PIN block that is enciphered is no secret; what a PVV is made of is one.
        out = this.#resultsArePublic ? publicBytes(length) : secretBytes(length)
        const later = driver.encipherInto(this.#reference.ref, input, out, signal)
        if (later !== undefined)
          return this.#parts.jobs.follow(later, { ...NO_MORE, outputBytes: length, own: out, admit }, signal)
        admit?.ended?.()
        return out
      } catch (error) {
        wipe(out)
        throw failed(error, { admit })
      }
    } finally {
      if (input !== blocks) wipe(input)
      if (borrowed !== undefined) giveBack(borrowed)
    }
  }

  /** Nothing of it is ever in flight, and nothing but the result is made. */
  #atOnce({ input, given, isPublic, admit, into }: Now, options: CallOptions | undefined): Uint8Array {
    let out: Uint8Array | undefined
    try {
      this.#parts.jobs.begin(options, admit)
      out = isPublic ? publicBytes(input.length) : secretBytes(input.length)
      // An asynchronous function passes for one that returns nothing, and nothing has been written yet.
      if (into(out) !== undefined)
        throw new BackendError('ERR_BACKEND_FAILED', 'the backend does later what it has to do at once')
      admit?.ended?.()
      return out
    } catch (error) {
      wipe(out)
      throw failed(error, { admit })
    } finally {
      if (input !== given) wipe(input)
    }
  }

  async decipher(blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('decipher')
    const input = this.#blocks(blocks)
    requireHostDecipher(this.#facts)
    const run: Run = signal => driver.decipher(this.#reference.ref, input, signal)
    const admit = this.#asking('decipher', input.length)
    return jobs.run(options, {
      run,
      input: ownOf(input, blocks),
      outputBytes: input.length,
      admit,
      more: undefined,
      own: undefined,
      isRight: undefined,
    })
  }

  async decipherVariant(mask: Uint8Array, blocks: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('decipherVariant')
    requireHostDecipher(this.#facts)
    if (driver.decipherVariant === undefined) {
      const problem = 'its backend makes no variant of a key, which key block versions A and C ask for'
      throw new BackendError('ERR_UNSUPPORTED_BY_TOKEN', `key ${this.#facts.kid}: ${problem}`)
    }
    const variant = driver.decipherVariant.bind(driver)
    const input = readBlocks(blocks, this.#facts.algorithm)
    const own = snapshot(mask, 'mask')
    const run: Run = signal => variant(this.#reference.ref, own, input, signal)
    const admit = this.#asking('decipherVariant', input.length)
    return jobs.run(options, { ...NO_MORE, run, input, outputBytes: input.length, more: [own], admit })
  }

  async encipherBound(blocks: Uint8Array, fields: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('encipher')
    return this.#bound('encipher', jobs, options, { blocks, fields }, (input, between, signal) =>
      driver.encipherBound === undefined
        ? twice(input, between, each => driver.encipher(this.#reference.ref, each, signal))
        : driver.encipherBound(this.#reference.ref, input, between, signal),
    )
  }

  async decipherBound(blocks: Uint8Array, fields: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('decipher')
    requireHostDecipher(this.#facts)
    return this.#bound('decipher', jobs, options, { blocks, fields }, (input, between, signal) =>
      driver.decipherBound === undefined
        ? twice(input, between, each => driver.decipher(this.#reference.ref, each, signal))
        : driver.decipherBound(this.#reference.ref, input, between, signal),
    )
  }

  #bound(
    operation: 'encipher' | 'decipher',
    jobs: Jobs,
    options: CallOptions | undefined,
    given: { readonly blocks: Uint8Array; readonly fields: Uint8Array },
    by: (input: Uint8Array, between: Uint8Array, signal: AbortSignal | undefined) => MaybePromise<Uint8Array>,
  ): MaybePromise<Uint8Array> {
    const input = readBlocks(given.blocks, this.#facts.algorithm)
    const between = readFields(given.fields, input)
    const run: Run = signal => by(input, between, signal)
    const admit = this.#asking(operation, input.length)
    return jobs.run(options, { ...NO_MORE, run, input, more: [between], outputBytes: input.length, admit })
  }

  async reencipher(
    to: Key,
    blocks: Uint8Array,
    options?: CallOptions,
    { inside = false }: ReencipherRule = ANYWHERE,
  ): Promise<Uint8Array> {
    const { driver, jobs, reenciphersInside } = this.#admit('reencipher')
    const target = this.#sibling(to)
    target.#admit('encipher')
    // As in `mac`: between a look at the block and its use there is nobody's code.
    const call = readCall(options)
    if (this.#facts.usage === 'pin-encryption' && !isTdea(this.#facts.algorithm)) {
      const { kid, algorithm } = this.#facts
      const problem = `key ${kid} is ${algorithm}: its blocks have the PAN inside, so they are translated with it`
      throw new KeyError('ERR_KEY_ALGORITHM', problem, kid)
    }
    if (blockBytesOf(to.algorithm) !== blockBytesOf(this.#facts.algorithm)) {
      const problem = `key ${to.kid} is ${to.algorithm}: its blocks are of another length than ${this.#facts.kid}'s`
      throw new KeyError('ERR_KEY_ALGORITHM', problem, to.kid)
    }
    const input = this.#readsInPlace() ? this.#blocks(blocks) : readBlocks(blocks, this.#facts.algorithm)
    // Inside the token too, a block must not move to where the host may open it from where it may not.
    if (inside && !reenciphersInside) throw notInside(this.#facts.kid)
    if (!reenciphersInside || to.hostDecipher) requireHostDecipher(this.#facts)
    const [from, onto] = [this.#reference.ref, target.#reference.ref]
    const admit = this.#asking('reencipher', input.length, target)
    // In host memory, so only where nothing better is promised.
    if (driver.reencipherInto !== undefined && !reenciphersInside) {
      const isPublic = target.#resultsArePublic
      const into = (out: Uint8Array): unknown => driver.reencipherInto?.(from, onto, input, out)
      return this.#atOnce({ input, given: blocks, isPublic, admit, into }, call)
    }
    const run: Run = signal => driver.reencipher(from, onto, input, signal, inside)
    return jobs.run(call, {
      run,
      input: ownOf(input, blocks),
      outputBytes: input.length,
      admit,
      more: undefined,
      own: undefined,
      isRight: undefined,
    })
  }

  async verifyPin(to: Key, request: PinVerification, options?: CallOptions): Promise<PinComparison> {
    const { driver, jobs } = this.#admit('verifyPin')
    const target = this.#sibling(to)
    target.#admit('verifyPin')
    const own = readVerification(this.#facts, target.#facts, request)
    const [first, second] = [this.#reference.ref, target.#reference.ref]
    const run = (signal: AbortSignal | undefined): MaybePromise<PinComparison> =>
      driver.verifyPin === undefined
        ? runStepsLater(verificationSteps(own), step => stepOf(driver, { first, second }, step, signal))
        : driver.verifyPin(first, second, own, signal)
    const admit = this.#asking('verifyPin', 0, target, 'verifyPin')
    const more = [own.pan, own.kept]
    const verdict = await jobs.run(options, { ...NO_MORE, run, input: own.block, more, admit })
    if (COMPARISONS.includes(verdict)) return verdict
    throw new BackendError('ERR_BACKEND_FAILED', 'the backend answered a verification with no verdict')
  }

  mac(request: MacRequest, message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    // As `encipher`: not an asynchronous function.
    try {
      const result = this.#mac(request, message, options)
      return result instanceof Promise ? result : Promise.resolve(result)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #mac(request: MacRequest, message: Uint8Array, options: CallOptions | undefined): MaybePromise<Uint8Array> {
    const { driver, jobs } = this.#admit('mac')
    // First, because options may be anybody's object: between a look at the message and its use there is nobody's code.
    const call = readCall(options)
    const parameters = readMacRequest(this.#facts, request)
    const { iv, derivation } = parameters
    const input = this.#readsInPlace() ? readMessageInPlace(message) : readMessage(message)
    const run: Run = signal => driver.mac(this.#reference.ref, parameters, input, signal)
    const outputBytes = macOutputBytes(this.#facts, parameters, input.length)
    const steps = derivation?.map(({ data }) => data) ?? []
    const more = iv === undefined && derivation === undefined ? undefined : [iv, ...steps]
    const admit = this.#asking('mac', isEncipherment(parameters.algorithm) ? outputBytes : 0)
    return jobs.run(call, {
      run,
      input: ownOf(input, message),
      outputBytes,
      more,
      admit,
      own: undefined,
      isRight: undefined,
    })
  }

  async deriveContentKey(request: ContentKeyRequest, options?: CallOptions): Promise<Uint8Array> {
    const { driver, jobs } = this.#admit('deriveContentKey')
    const call = readCall(options)
    const parameters = readContentKeyRequest(request, this.#readsInPlace())
    const run: Run = signal => driver.deriveContentKey(this.#reference.ref, parameters, signal)
    const admit = this.#asking('deriveContentKey', 0)
    return jobs.run(call, {
      run,
      outputBytes: parameters.length,
      admit,
      input: undefined,
      more: undefined,
      own: undefined,
      isRight: undefined,
    })
  }

  /** At once where the driver answers at once: the one who opens then goes on without waiting. */
  openContent(
    request: ContentKeyRequest,
    content: SealedContent,
    options?: CallOptions,
  ): MaybePromise<Uint8Array | undefined> {
    const { driver, jobs } = this.#admit('deriveContentKey')
    const call = readCall(options)
    const inPlace = this.#readsInPlace()
    const parameters = readContentKeyRequest(request, inPlace)
    const sealed = readSealedContent(parameters, content, inPlace)
    if (driver.openContent === undefined) return this.#openByKey(parameters, sealed, call)
    const { ref } = this.#reference
    const outputBytes = sealed.ciphertext.length
    let opens = true
    // A wrong tag is no fault of the driver's: the front still counts, delivers and wipes one answer of the length that is due.
    const answer = (plaintext: Uint8Array | undefined): Uint8Array => {
      opens = plaintext !== undefined
      return plaintext ?? secretBytes(outputBytes)
    }
    const run: Run = signal => {
      const plaintext = driver.openContent?.(ref, parameters, sealed, signal)
      return !types.isUint8Array(plaintext) && isThenable(plaintext)
        ? plaintext.then(answer)
        : answer(plaintext)
    }
    const admit = this.#asking('deriveContentKey', 0)
    // Written out: to spread the members that it has not takes a fiftieth of the whole call.
    const plaintext = jobs.run(call, {
      run,
      outputBytes,
      admit,
      input: undefined,
      more: undefined,
      own: undefined,
      isRight: undefined,
    })
    if (plaintext instanceof Promise) return plaintext.then(bytes => (opens ? bytes : undefined))
    return opens ? plaintext : undefined
  }

  /** For a driver that gives the key and does not open. */
  async #openByKey(
    request: ContentKeyRequest,
    content: SealedContent,
    call: CallOptions | undefined,
  ): Promise<Uint8Array | undefined> {
    const key = await this.deriveContentKey(request, call)
    return withWiped(key, own => decryptContent(own, content))
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
      const admit = this.#asking('sign', 0)
      return await jobs.run(options, {
        run,
        input,
        outputBytes: SIGNATURE_BYTES,
        isRight,
        admit,
        own: undefined,
        more: undefined,
      })
    } finally {
      wipe(kept)
    }
  }

  randomBytes(length: number, options?: CallOptions): Promise<Uint8Array> {
    return randomBytesOf(this.#parts, length, options)
  }

  /** Asks the opener about so many bytes of blocks under this key, and as many under the one they go to. */
  #asking(
    operation: KeyOperation,
    bytes: number,
    to?: BoundKey<Ref>,
    there: KeyOperation = 'encipher',
  ): Admission | undefined {
    const { onOperation, jobs } = this.#parts
    if (onOperation === undefined && !KEY_EVENTS.hasSubscribers) return undefined
    const uses = [this.#use(operation, bytes), ...(to === undefined ? [] : [to.#use(there, bytes)])]
    const admit = (): void => {
      for (const use of uses) {
        onOperation?.(use)
        KEY_EVENTS.publish({ event: 'use', ...use })
      }
    }
    if (!KEY_EVENTS.hasSubscribers) return admit
    const queue = jobs.inFlight
    const ends = uses.map(use => endOf({ event: 'used', ...use, queue }))
    return Object.assign(admit, {
      ended: (error?: unknown) => {
        for (const end of ends) end(error)
      },
    })
  }

  #use(operation: KeyOperation, bytes: number): KeyUse {
    const { kid, usage, mode, algorithm } = this.#facts
    return Object.freeze({
      kid,
      usage,
      mode,
      operation,
      blocks: bytes === 0 ? 1 : bytes / macBytes(algorithm),
    })
  }

  /** The blocks as the driver gets them: a copy of our own, but themselves where it is done with them when it returns. */
  #blocks(blocks: Uint8Array): Uint8Array {
    const { algorithm } = this.#facts
    return this.#parts.driver.blocksAtOnce === true
      ? readBlocksInPlace(blocks, algorithm)
      : readBlocks(blocks, algorithm)
  }

  /** Whether the driver is done with what it is given when it returns, and nobody's code runs before that. */
  #readsInPlace(): boolean {
    const { driver, onOperation } = this.#parts
    return driver.blocksAtOnce === true && onOperation === undefined && !KEY_EVENTS.hasSubscribers
  }

  #admit(operation: KeyOperation): OpenParts<Ref> {
    if (this.#reference.isReleased) {
      throw new KeyError('ERR_KEY_FOREIGN', `key ${this.#facts.kid} is bound no longer`, this.#facts.kid)
    }
    if (!this.#admitted.has(operation)) throw refusedUse(this.#facts, operation)
    if (this.#hasPeriod && (operation === 'encipher' || operation === 'sign')) requirePeriod(this.#facts)
    return this.#parts
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

function notInside(kid: string): KeyError {
  const problem = `key ${kid}: this backend does not re-encipher inside a token, and only there was it asked for`
  return new KeyError('ERR_HOST_DECIPHER', problem, kid)
}

const COMPARISONS: readonly unknown[] = ['same', 'different', 'no-block'] satisfies PinComparison[]

/** One step of a verification by the operations that every driver has. */
async function stepOf<Ref>(
  driver: BackendDriver<Ref>,
  refs: Readonly<Record<PinStep['under'], Ref>>,
  { under, by, block, field }: PinStep,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const ref = refs[under]
  const cipher = (blocks: Uint8Array): MaybePromise<Uint8Array> => driver[by](ref, blocks, signal)
  if (field === undefined) return cipher(block)
  return driver.decipherBound === undefined
    ? twice(block, field, cipher)
    : driver.decipherBound(ref, block, field, signal)
}

/** Through a cipher, XOR the fields, and through it again: what is on the way is wiped. */
async function twice(
  blocks: Uint8Array,
  fields: Uint8Array,
  cipher: (blocks: Uint8Array) => MaybePromise<Uint8Array>,
): Promise<Uint8Array> {
  const between = await cipher(blocks)
  const mixed = xorBytes(between, fields)
  wipe(between)
  try {
    return await cipher(mixed)
  } finally {
    wipe(mixed)
  }
}
