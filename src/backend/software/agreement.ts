/**
 * Key agreement on threads of its own: ECDH takes a JWE's time, four fifths of it, and a thread beside this one has it done
 * while the event loop serves others. Point and Z are in memory that both threads see, a place for each agreement; a message
 * only says which places are filled.
 */
import { createECDH, type ECDH } from 'node:crypto'
import type { MessagePort, Worker } from 'node:worker_threads'
import { fileBeside, startBeside } from '../../base/beside.js'
import { ownCopy, secretBytes, sharedBytes, wipe, withWiped } from '../../base/bytes.js'
import { BackendError } from '../../base/errors.js'
import { forgetScalar } from '../../key/material.js'
import { COORDINATE_BYTES, POINT_BYTES } from '../../primitives/p256.js'

/** Agreements that a thread has before it at once; those beyond wait here, in order. */
const PLACES = 64
/** A place: the point, then Z, then nothing up to a length that keeps places apart in the cache. */
const PLACE_BYTES = 128
/** After so many the thread tells what it has: this side then goes on while the thread does. */
const TOLD_TOGETHER = 8

/** What a thread is told. */
type Order =
  | { readonly memory: Uint8Array }
  | { readonly key: number; readonly scalar: Uint8Array<ArrayBuffer> }
  /** Key, place, key, place, …. */
  | { readonly agree: readonly number[] }
  | { readonly end: true }

/** What a thread tells: that it is there, the places that it has filled (or not could: negative, less one), that it ends. */
type Told = 'ready' | readonly number[] | 'ended'

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
  const worker = startBeside(fileBeside(program))
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

/** What waits for its Z. */
interface Waiting {
  readonly key: AgreeingKey
  readonly point: Uint8Array
  readonly settle: { resolve: (z: Uint8Array) => void; reject: (error: unknown) => void }
}

/** Threads that agree on keys, and whoever waits for them. */
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
   * Z, 32 bytes that the caller wipes. The point is read now. Where a thread ends by itself, what it had before it is
   * computed here: that costs time and no answer.
   */
  agree(key: AgreeingKey, point: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const waiting = { key, point: ownCopy(point), settle: { resolve, reject } }
      const free = this.#leastBusy()
      if (free !== undefined) free.take(waiting)
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
    const place = this.#free.pop()
    if (place === undefined) throw new RangeError('no place')
    this.#memory.set(waiting.point, place * PLACE_BYTES)
    if (this.#waiting.size === 0) this.#thread.port.ref()
    this.#waiting.set(place, waiting)
    // What is asked for in one turn goes in one message.
    if (this.#order.length === 0) queueMicrotask(() => this.#send())
    this.#order.push(waiting.key.number, place)
  }

  #send(): void {
    const agree = this.#order
    this.#order = []
    if (this.alive) this.#thread.port.postMessage({ agree })
  }

  #receive(told: readonly number[]): void {
    for (const one of told) {
      const place = one < 0 ? -1 - one : one
      const waiting = this.#waiting.get(place)
      if (waiting === undefined) continue
      this.#waiting.delete(place)
      const memory = this.#memory.subarray(place * PLACE_BYTES, (place + 1) * PLACE_BYTES)
      // The reason cannot be told across; it is found here, where it is the same.
      if (one < 0) computeHere(waiting)
      else waiting.settle.resolve(ownCopy(memory.subarray(POINT_BYTES, POINT_BYTES + COORDINATE_BYTES)))
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

/** The agreement on the thread that asks. */
function computeHere({ key, point, settle }: Waiting): void {
  try {
    settle.resolve(key.ecdh.computeSecret(point))
  } catch (error) {
    settle.reject(error)
  }
}

/** The thread's side: what comes in one message, one after the other. */
export function serveAgreement(port: Pick<AgreementPort, 'postMessage' | 'on'>): void {
  const keys = new Map<number, ECDH>()
  let memory: Uint8Array = secretBytes(0)
  const agree = (key: number, place: number): boolean => {
    const at = memory.subarray(place * PLACE_BYTES, (place + 1) * PLACE_BYTES)
    try {
      const ecdh = keys.get(key)
      if (ecdh === undefined) return false
      // OpenSSL reads no shared memory.
      const point = ownCopy(at.subarray(0, POINT_BYTES))
      withWiped(ecdh.computeSecret(point), z => at.set(z, POINT_BYTES))
      return true
    } catch {
      return false
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
      for (let i = 0; i + 1 < order.agree.length; i += 2) {
        const place = order.agree[i + 1] ?? 0
        told.push(agree(order.agree[i] ?? -1, place) ? place : -1 - place)
        if (told.length < TOLD_TOGETHER) continue
        port.postMessage(told)
        told = []
      }
      if (told.length > 0) port.postMessage(told)
    }
  })
}
