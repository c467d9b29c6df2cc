/**
 * JWEs' contents opened on threads of their own: ECDH takes a JWE's time, four fifths of it, and what comes after it is done in
 * the same place, so that the event loop is left with the form and the header of a message. What is opened, and what comes of
 * it, is in memory that both threads see, a place for each message; a message between them only says which places are filled.
 */
import { createECDH, type ECDH } from 'node:crypto'
import type { MessagePort, Worker } from 'node:worker_threads'
import { fileBeside, startBeside } from '../../base/beside.js'
import {
  concatBytes,
  copyInto,
  ownCopy,
  secretBytes,
  sharedBytes,
  wipe,
  withWiped,
} from '../../base/bytes.js'
import { BackendError } from '../../base/errors.js'
import { forgetScalar } from '../../key/material.js'
import {
  CONTENT_KEY_BYTES,
  decryptContent,
  IV_BYTES,
  type SealedContent,
  TAG_BYTES,
} from '../../primitives/a256gcm.js'
import { concatKdf } from '../../primitives/concat-kdf.js'
import { POINT_BYTES } from '../../primitives/p256.js'
import type { ContentKeyRequest } from '../driver.js'

/** Contents that a thread has before it at once; those beyond wait here, in order. */
const PLACES = 64
/** A place is enough for all that a JWE of 8192 characters is made of; what is longer is opened on the thread that asks. */
const PLACE_BYTES = 10_240
/** After so many the thread tells what it has: this side then goes on while the thread does. */
const TOLD_TOGETHER = 8

/** What a thread is told. */
type Order =
  | { readonly memory: Uint8Array }
  | { readonly key: number; readonly scalar: Uint8Array<ArrayBuffer> }
  /** Key, place, and the three {@link Sizes}; key, place, …. */
  | { readonly open: readonly number[] }
  | { readonly end: true }

/** What a thread tells: that it is there, what has become of places (three times the place, and the outcome), that it ends. */
type Told = 'ready' | readonly number[] | 'ended'

/** The content is in its place; the tag is wrong; the thread could not, and the reason is found on the thread that asks. */
const [OPENED, WRONG_TAG, FAILED, OUTCOMES] = [0, 1, 2, 3]
/** Numbers that an order has for each content. */
const ORDER = 5

/** Lengths of OtherInfo, of what is authenticated, and of the ciphertext. */
type Sizes = readonly [info: number, aad: number, ciphertext: number]

/** A message in one piece of memory: point, OtherInfo, IV, tag, what is authenticated, ciphertext. Nothing of it is secret. */
interface Packed {
  readonly bytes: Uint8Array
  readonly sizes: Sizes
}

function pack({ ephemeralPublicKey, otherInfo }: ContentKeyRequest, content: SealedContent): Packed {
  const { iv, tag, aad, ciphertext } = content
  return {
    bytes: concatBytes(ephemeralPublicKey, otherInfo, iv, tag, aad, ciphertext),
    sizes: [otherInfo.length, aad.length, ciphertext.length],
  }
}

/** The content of a packed message, in memory of its own; undefined where the tag is wrong. */
function openPacked(ecdh: ECDH, { bytes, sizes: [info, aad, ciphertext] }: Packed): Uint8Array | undefined {
  let end = 0
  const next = (length: number): Uint8Array => {
    end += length
    return bytes.subarray(end - length, end)
  }
  const [point, otherInfo, iv, tag] = [next(POINT_BYTES), next(info), next(IV_BYTES), next(TAG_BYTES)]
  const content = { iv, tag, aad: next(aad), ciphertext: next(ciphertext) }
  return openSealed(ecdh, { ephemeralPublicKey: point, otherInfo }, content)
}

/** Where a content's key is while it opens the content: wiped before anything else runs. */
const contentKey = secretBytes(CONTENT_KEY_BYTES)

/** Agrees on the content's key and opens the content: nothing but the content is left. */
export function openSealed(
  ecdh: ECDH,
  { ephemeralPublicKey, otherInfo }: Omit<ContentKeyRequest, 'length'>,
  content: SealedContent,
): Uint8Array | undefined {
  return withWiped(contentKey, own => {
    withWiped(ecdh.computeSecret(ephemeralPublicKey), z =>
      concatKdf(z, otherInfo, CONTENT_KEY_BYTES, () => own),
    )
    return decryptContent(own, content)
  })
}

/** The port of a thread, on either side. */
interface AgreementPort {
  postMessage(message: Order | Told, transfer?: readonly ArrayBuffer[]): void
  on(event: 'message' | 'error' | 'close' | 'exit', listener: (message: unknown) => void): unknown
  ref(): void
  unref(): void
}

/** A thread, and what ends it. */
export interface AgreementThread {
  readonly port: AgreementPort
  readonly end: () => unknown
}

/** Starts a thread that runs {@link serveAgreement}. */
export type StartAgreement = () => AgreementThread

/** A thread that runs the file which is built beside this one. */
function startThread(): AgreementThread {
  const otherwise = 'leave out jwe.workers'
  const program = { name: 'agreement-host.mjs', base: import.meta.url, otherwise }
  return agreementThread(startBeside(fileBeside(program)))
}

/** A worker that has been started, as a thread. */
export function agreementThread(worker: Worker): AgreementThread {
  return { port: agreementPort(worker), end: () => worker.terminate() }
}

/** The port of a thread, or of its parent. */
export function agreementPort(port: Worker | MessagePort): AgreementPort {
  return {
    on: (event, listener) => port.on(event as 'message', listener),
    postMessage: (message, transfer = []) => port.postMessage(message, [...transfer]),
    ref: () => port.ref(),
    unref: () => port.unref(),
  }
}

/** A key that agrees: this thread's own object, and the number by which the threads know it. */
export interface AgreeingKey {
  readonly ecdh: ECDH
  readonly number: number
}

/** What waits to be opened. */
interface Waiting extends Packed {
  readonly key: AgreeingKey
  readonly resolve: (content: Uint8Array | undefined) => void
  readonly reject: (error: unknown) => void
}

/** Threads that open contents, and whoever waits for them. */
export class AgreementThreads {
  readonly #threads: readonly Mate[]
  readonly #queue: Waiting[] = []
  #keys = 0

  private constructor(threads: readonly Mate[]) {
    this.#threads = threads
  }

  /** So many threads, each of them there. Errors: `ERR_UNSUPPORTED` where what they run is not beside the program. */
  static async open(count: number, start: StartAgreement = startThread): Promise<AgreementThreads> {
    const mates: Mate[] = []
    const threads = new AgreementThreads(mates)
    const next = (): Waiting | undefined => threads.#queue.shift()
    const gone = (): void => threads.#computeAllHere()
    try {
      for (let i = 0; i < count; i++) mates.push(new Mate(start(), next, gone))
      await Promise.all(mates.map(mate => mate.ready))
      return threads
    } catch (error) {
      await threads.close()
      throw error
    }
  }

  /** How many of the threads have not ended by themselves, and how many there were. */
  get alive(): { readonly now: number; readonly opened: number } {
    return { now: this.#threads.filter(mate => mate.alive).length, opened: this.#threads.length }
  }

  /** Gives each thread a copy of the scalar. */
  add(ecdh: ECDH, scalar: Uint8Array): AgreeingKey {
    const number = this.#keys++
    for (const mate of this.#threads) mate.know(number, scalar)
    return { ecdh, number }
  }

  /**
   * The content, which the caller wipes; undefined where its tag is wrong. What is given is read now. Where a thread ends by
   * itself, what it had before it is opened here: that costs time and no answer.
   */
  open(
    key: AgreeingKey,
    request: ContentKeyRequest,
    content: SealedContent,
  ): Promise<Uint8Array | undefined> {
    const { bytes, sizes } = pack(request, content)
    return new Promise((resolve, reject) => {
      const waiting = { key, bytes, sizes, resolve, reject }
      const free = bytes.length > PLACE_BYTES ? undefined : this.#leastBusy()
      if (bytes.length > PLACE_BYTES) computeHere(waiting)
      else if (free !== undefined) free.take(waiting)
      else if (this.alive.now > 0) this.#queue.push(waiting)
      else computeHere(waiting)
    })
  }

  /** Each thread forgets its keys and ends. Nothing is under way: the front has waited. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map(mate => mate.close()))
  }

  /** What waits for a place, where no thread is left to have one. */
  #computeAllHere(): void {
    if (this.alive.now > 0) return
    for (const waiting of this.#queue.splice(0)) computeHere(waiting)
  }

  #leastBusy(): Mate | undefined {
    let best: Mate | undefined
    for (const mate of this.#threads) {
      if (mate.alive && mate.busy < PLACES && (best === undefined || mate.busy < best.busy)) best = mate
    }
    return best
  }
}

/** One thread, from outside. */
class Mate {
  readonly #thread: AgreementThread
  readonly #memory = sharedBytes(PLACES * PLACE_BYTES)
  readonly #free = Array.from({ length: PLACES }, (_, i) => i)
  readonly #waiting = new Map<number, Waiting>()
  /** Whoever waits for a place at any thread. */
  readonly #next: () => Waiting | undefined
  /** Told when it has ended by itself. */
  readonly #left: () => void
  #order: number[] = []
  #ended: (() => void) | undefined
  alive = true
  /** Settles when it has said that it is there. */
  readonly ready: Promise<void>

  constructor(thread: AgreementThread, next: () => Waiting | undefined, left: () => void) {
    this.#thread = thread
    this.#next = next
    this.#left = left
    const { port } = thread
    this.ready = new Promise((resolve, reject) => {
      port.on('message', message => {
        const told = message as Told
        if (told === 'ready') {
          // It keeps the process from ending only while something is asked of it.
          port.unref()
          resolve()
        } else if (told === 'ended') this.#ended?.()
        else this.#receive(told)
      })
      const gone = (): void => {
        reject(new BackendError('ERR_BACKEND_FAILED', 'a thread for key agreement did not start'))
        this.#gone()
      }
      port.on('error', gone)
      port.on('close', gone)
      port.on('exit', gone)
    })
    // Whoever opens the threads hears of it, and nobody else waits for it.
    this.ready.catch(() => undefined)
    port.postMessage({ memory: this.#memory })
  }

  get busy(): number {
    return this.#waiting.size
  }

  know(key: number, scalar: Uint8Array): void {
    if (!this.alive) return
    const copy = ownCopy(scalar)
    // Handed over, not copied: nothing of it is left here.
    this.#thread.port.postMessage({ key, scalar: copy }, [copy.buffer])
  }

  take(waiting: Waiting): void {
    // Whoever calls has seen that one is free.
    const place = this.#free.pop() as number
    copyInto(this.#memory, waiting.bytes, place * PLACE_BYTES)
    if (this.#waiting.size === 0) this.#thread.port.ref()
    this.#waiting.set(place, waiting)
    // What is asked for in one turn goes in one message.
    if (this.#order.length === 0) queueMicrotask(() => this.#send())
    this.#order.push(waiting.key.number, place, ...waiting.sizes)
  }

  #send(): void {
    const open = this.#order
    this.#order = []
    // To a thread that has gone meanwhile it says nothing.
    this.#thread.port.postMessage({ open })
  }

  #receive(told: readonly number[]): void {
    for (const one of told) {
      const [place, outcome] = [Math.floor(one / OUTCOMES), one % OUTCOMES]
      const waiting = this.#waiting.get(place)
      if (waiting === undefined) continue
      this.#waiting.delete(place)
      const { length } = waiting.bytes
      const memory = this.#memory.subarray(place * PLACE_BYTES, place * PLACE_BYTES + length)
      if (outcome === OPENED) waiting.resolve(ownCopy(memory.subarray(length - waiting.sizes[2])))
      else if (outcome === WRONG_TAG) waiting.resolve(undefined)
      // The reason cannot be told across; it is found here, where it is the same.
      else computeHere(waiting)
      wipe(memory)
      this.#free.push(place)
      const next = this.#next()
      if (next !== undefined) this.take(next)
    }
    if (this.#waiting.size === 0) this.#thread.port.unref()
  }

  #gone(): void {
    if (!this.alive) return
    this.alive = false
    this.#ended?.()
    for (const waiting of this.#waiting.values()) computeHere(waiting)
    this.#waiting.clear()
    wipe(this.#memory)
    this.#left()
  }

  async close(): Promise<void> {
    if (this.alive) {
      await new Promise<void>(resolve => {
        this.#ended = resolve
        this.#thread.port.ref()
        this.#thread.port.postMessage({ end: true })
      })
      this.alive = false
    }
    wipe(this.#memory)
    await this.#thread.end()
  }
}

/** The content opened on the thread that asks. */
function computeHere({ key, resolve, reject, ...packed }: Waiting): void {
  try {
    resolve(openPacked(key.ecdh, packed))
  } catch (error) {
    reject(error)
  }
}

/** The thread's side: what comes in one message, one after the other. */
export function serveAgreement(port: Pick<AgreementPort, 'postMessage' | 'on'>): void {
  const keys = new Map<number, ECDH>()
  let memory: Uint8Array = secretBytes(0)
  // OpenSSL reads no shared memory. What is in here is as public as the message.
  const work = secretBytes(PLACE_BYTES)
  const open = (key: number, place: number, sizes: Sizes): number => {
    try {
      const ecdh = keys.get(key)
      if (ecdh === undefined) return FAILED
      const [info, aad, ciphertext] = sizes
      const length = POINT_BYTES + IV_BYTES + TAG_BYTES + info + aad + ciphertext
      const at = memory.subarray(place * PLACE_BYTES, place * PLACE_BYTES + length)
      copyInto(work, at)
      const content = openPacked(ecdh, { bytes: work, sizes })
      if (content === undefined) return WRONG_TAG
      withWiped(content, own => copyInto(at, own, length - ciphertext))
      return OPENED
    } catch {
      return FAILED
    }
  }
  port.on('message', message => {
    const order = message as Order
    if ('memory' in order) {
      memory = order.memory
      port.postMessage('ready')
    } else if ('key' in order) {
      const ecdh = createECDH('prime256v1')
      withWiped(order.scalar, scalar => ecdh.setPrivateKey(scalar))
      keys.set(order.key, ecdh)
    } else if ('end' in order) {
      for (const ecdh of keys.values()) forgetScalar(ecdh)
      keys.clear()
      port.postMessage('ended')
    } else {
      let told: number[] = []
      for (let i = 0; i + ORDER <= order.open.length; i += ORDER) {
        const [key = -1, place = 0, info = 0, aad = 0, ciphertext = 0] = order.open.slice(i, i + ORDER)
        told.push(OUTCOMES * place + open(key, place, [info, aad, ciphertext]))
        if (told.length < TOLD_TOGETHER) continue
        port.postMessage(told)
        told = []
      }
      if (told.length > 0) port.postMessage(told)
    }
  })
}
