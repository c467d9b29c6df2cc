/**
 * Who does the work of a search: this thread, or several threads side by side. What a thread is given it makes its own and wipes:
 * the test key, and the PINs and PANs of the samples. Threads share the board, so that the next unit goes to whoever is free.
 */
import type { MessagePort, Worker } from 'node:worker_threads'
import { chooseEngine } from '../../backend/software/engine.js'
import { fileBeside, startBeside } from '../../base/beside.js'
import { ownCopy, wipe } from '../../base/bytes.js'
import { BackendError, isIssuerPinError } from '../../base/errors.js'
import { Pan, panDigits } from '../../primitives/pan.js'
import { asciiDigits, Pin, pinDigits } from '../../primitives/pin.js'
import { parseProfile } from '../../seccos/profile/parse.js'
import type { ProfileSample } from '../check-profile.js'
import { type Board, type Match, type SearchJob, Work } from './work.js'

/** Those who work on a search. */
export interface Crew {
  /** All of a tier; settles when everybody has finished. */
  tier(index: number, board: Board): Promise<readonly Match[]>
  close(): Promise<void>
}

/** This thread alone, which gives way to what else waits for it. */
export function alone(work: Work): Crew {
  const pause = (): Promise<unknown> => new Promise(resolve => setImmediate(resolve))
  return { tier: (index, board) => work.tier(index, board, pause), close: async () => undefined }
}

/** A sample as plain data: what is secret, in bytes. */
interface PlainSample {
  readonly pan: Uint8Array<ArrayBuffer>
  readonly pin: Uint8Array<ArrayBuffer>
  readonly rest: Omit<ProfileSample, 'pan' | 'pin'>
}

/** What a thread is told. */
type Order =
  | {
      readonly job: Omit<SearchJob, 'samples' | 'key'>
      readonly key: Uint8Array<ArrayBuffer>
      readonly samples: readonly PlainSample[]
    }
  | { readonly tier: number; readonly board: Board }
  | { readonly end: true }

/** What a thread answers to each order. */
type Answer = { readonly matches: readonly Match[] } | { readonly failed: string }

/** The port of a thread, on either side. */
interface Port {
  postMessage(message: unknown, transfer?: readonly ArrayBuffer[]): void
  on(event: 'message' | 'error' | 'close' | 'exit', listener: (message: unknown) => void): unknown
}

/** A thread, and what ends it. */
export interface StartedThread {
  readonly port: Port
  readonly end: () => unknown
}

/** So many threads, each with its own copy of the job. */
export async function threads(
  job: SearchJob,
  count: number,
  start: () => StartedThread = startThread,
): Promise<Crew> {
  const crew = Array.from({ length: count }, () => new Mate(start()))
  const close = async (): Promise<void> => {
    for (const mate of crew) await mate.end()
  }
  try {
    await Promise.all(crew.map(mate => mate.begin(job)))
  } catch (error) {
    await close()
    throw error
  }
  return {
    tier: async (tier, board) => (await Promise.all(crew.map(mate => mate.ask({ tier, board }, [])))).flat(),
    close,
  }
}

/** The file that a thread runs, built beside this one. */
function startThread(): StartedThread {
  const program = { name: 'search-host.mjs', base: import.meta.url, otherwise: 'search with one worker' }
  const worker = startBeside(fileBeside(program))
  return { port: portOf(worker), end: () => worker.terminate() }
}

/** The port of a thread, or of its parent. */
export function portOf(port: Worker | MessagePort): Port {
  return {
    on: (event, listener) => port.on(event as 'message', listener),
    postMessage: (message, transfer = []) => port.postMessage(message, [...transfer]),
  }
}

/** One thread, from outside: an order at a time. */
class Mate {
  readonly #thread: StartedThread
  #settle: { resolve: (matches: readonly Match[]) => void; reject: (error: unknown) => void } | undefined
  #gone = false
  /** Its last order, however that ends. */
  #asked: Promise<unknown> = Promise.resolve()

  constructor(thread: StartedThread) {
    this.#thread = thread
    const { port } = thread
    port.on('message', message => {
      const answer = message as Answer
      if ('matches' in answer) this.#settle?.resolve(answer.matches)
      else this.#settle?.reject(new BackendError('ERR_BACKEND_FAILED', answer.failed))
      this.#settle = undefined
    })
    const gone = (): void => {
      this.#gone = true
      this.#settle?.reject(ended())
    }
    port.on('error', gone)
    port.on('close', gone)
    port.on('exit', gone)
  }

  begin({ samples, key, ...job }: SearchJob): Promise<readonly Match[]> {
    const plain = samples.map(({ pan, pin, ...rest }) => ({
      pan: ownCopy(asciiDigits(panDigits(pan))),
      pin: ownCopy(asciiDigits(pinDigits(pin))),
      rest,
    }))
    const copy = ownCopy(key)
    // Handed over, not copied: nothing of it is left here.
    const moved = [copy, ...plain.flatMap(({ pan, pin }) => [pan, pin])].map(({ buffer }) => buffer)
    return this.ask({ job, key: copy, samples: plain }, moved)
  }

  ask(order: Order, transfer: readonly ArrayBuffer[]): Promise<readonly Match[]> {
    const asked = new Promise<readonly Match[]>((resolve, reject) => {
      if (this.#gone) {
        reject(ended())
        return
      }
      this.#settle = { resolve, reject }
      this.#thread.port.postMessage(order, transfer)
    })
    this.#asked = asked.catch(() => undefined)
    return asked
  }

  /** It ends its work, wipes what it was given, and ends; one that has failed just ends. */
  async end(): Promise<void> {
    await this.#asked
    if (!this.#gone) await this.ask({ end: true }, []).catch(() => undefined)
    await this.#thread.end()
  }
}

function ended(): BackendError {
  return new BackendError('ERR_BACKEND_FAILED', 'a thread of the search has ended')
}

/** The thread's side: one order after the other. */
export function serveSearch(port: Port): void {
  let work: Work | undefined
  let forget = (): void => undefined
  const obey = async (order: Order): Promise<readonly Match[]> => {
    if ('job' in order) {
      const samples = order.samples.map(({ pan, pin, rest }): ProfileSample => {
        const sample = { ...rest, pan: Pan.from(pan), pin: Pin.from(pin) }
        wipe(pan, pin)
        return sample
      })
      const { job, key } = order
      forget = () => {
        work?.close()
        wipe(key)
        for (const { pin } of samples) pin.dispose()
      }
      // Parsed anew: the verbs take no profile that was not.
      const layouts = job.layouts.map(parseProfile)
      work = new Work({ ...job, layouts, samples, key }, await chooseEngine('auto'))
      return []
    }
    if ('end' in order) {
      forget()
      return []
    }
    return work === undefined ? [] : work.tier(order.tier, order.board)
  }
  port.on('message', order => {
    obey(order as Order).then(
      matches => port.postMessage({ matches }),
      error =>
        port.postMessage({
          failed: isIssuerPinError(error) ? error.message : 'a thread of the search failed',
        }),
    )
  })
}
