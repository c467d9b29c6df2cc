/**
 * The two kinds of channel: a message port of a worker thread, and a descriptor between two processes. Frames on the
 * descriptor are a length (four bytes, big-endian) and the message as V8 serialises it; each side wipes the frames it has
 * written or read, for they hold blocks and, once, the PIN. And how the other end is started: by file.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { deserialize, serialize } from 'node:v8'
import { type MessagePort, Worker } from 'node:worker_threads'
import { bufferOf, copyInto, ownCopy, secretBytes, wipe } from '../../../base/bytes.js'
import type { Channel, Message } from './host.js'

/** Through a worker's port; `stop` ends the thread at the other end. */
export function portChannel(port: MessagePort | Worker, stop: () => void): Channel {
  return {
    send: (message, transfer) => port.postMessage(message, [...transfer]),
    listen: (receive, closed) => {
      port.on('message', receive)
      port.once('close', closed)
      port.once('exit', closed)
      port.once('error', closed)
    },
    end: stop,
    kill: stop,
  }
}

/** Through a stream of bytes; `stop` and `kill` end the process at the other end. */
export function streamChannel(stream: Duplex, stop: () => void, kill: () => void): Channel {
  return {
    send: (message, transfer) => {
      const body = stream.destroyed ? undefined : serialize(message)
      // Nothing goes along by itself here: what was given up is in the frame now, or is wanted nowhere.
      for (const memory of transfer) wipe(new Uint8Array(memory))
      if (body === undefined) return
      const frame = bufferOf(secretBytes(4 + body.length))
      frame.writeUInt32BE(body.length)
      copyInto(frame, body, 4)
      wipe(body)
      stream.write(frame, () => wipe(frame))
    },
    listen: (receive, closed) => {
      const frames = new Frames(receive)
      stream.on('data', (chunk: Buffer) => frames.take(chunk))
      // A broken pipe shows as the end of the other process, which is what is listened for.
      stream.on('error', () => undefined)
      stream.once('close', closed)
    },
    end: stop,
    kill,
  }
}

/** Puts chunks together to frames. */
class Frames {
  readonly #receive: (message: Message) => void
  readonly #header = bufferOf(secretBytes(4))
  #headerBytes = 0
  #body: Buffer | undefined
  #bodyBytes = 0

  constructor(receive: (message: Message) => void) {
    this.#receive = receive
  }

  take(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#body === undefined) {
        const copied = fill(this.#header, this.#headerBytes, chunk, at)
        at += copied
        this.#headerBytes += copied
        if (this.#headerBytes < 4) break
        this.#headerBytes = 0
        this.#body = bufferOf(secretBytes(this.#header.readUInt32BE()))
        this.#bodyBytes = 0
      }
      const copied = fill(this.#body, this.#bodyBytes, chunk, at)
      at += copied
      this.#bodyBytes += copied
      if (this.#bodyBytes === this.#body.length) this.#deliver(this.#body)
    }
    wipe(chunk)
  }

  #deliver(body: Buffer): void {
    this.#body = undefined
    const message = deserialize(body) as Message
    // Byte arrays of the message are views of the frame.
    const own = detached(message) as Message
    wipe(body)
    this.#receive(own)
  }
}

/** Copies as much of a chunk, from a place on, as there is room for; says how much. */
function fill(memory: Uint8Array, filled: number, chunk: Uint8Array, at: number): number {
  const bytes = Math.min(memory.length - filled, chunk.length - at)
  copyInto(memory, chunk.subarray(at, at + bytes), filled)
  return bytes
}

/** The same data with byte arrays in memory of their own. */
function detached(value: unknown): unknown {
  if (value instanceof Uint8Array) return ownCopy(value)
  if (Array.isArray(value)) return value.map(detached)
  if (typeof value !== 'object' || value === null || value instanceof Map || value instanceof Set)
    return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, detached(member)]))
}

/** Starts a child process with the channel on its descriptor 3. */
function spawnChild(
  entry: string,
  environment: NodeJS.ProcessEnv,
): { child: ChildProcess; channel: Channel } {
  const child = spawn(process.execPath, [entry], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    env: environment,
  })
  const stream = child.stdio[3] as Socket
  const channel = streamChannel(
    stream,
    () => stream.end(),
    () => {
      child.kill('SIGKILL')
      stream.destroy()
    },
  )
  // Neither the child nor its descriptor keeps this process from ending.
  child.unref()
  stream.unref()
  return { child, channel }
}

/** The descriptor that libuv's pool is sized by must be there before the process starts. */
const POOL_THREADS = 16

/** How the other end is started: by file; a test starts its own. */
export interface Starter {
  thread(lost: () => void): Channel
  process(lost: () => void): Channel
}

/** Where the file of the other end is: built next to this one. */
function entryFile(): string {
  return fileURLToPath(new URL('./pkcs11-host.js', import.meta.url))
}

export function startFrom(entry: () => string): Starter {
  return {
    thread: lost => {
      // No copy of the environment or the arguments of this process: there may be secrets in them.
      const worker = new Worker(entry(), { execArgv: [], argv: [], env: {} })
      worker.unref()
      worker.once('exit', lost)
      return portChannel(worker, () => void worker.terminate())
    },
    process: lost => {
      const environment = { ...process.env, UV_THREADPOOL_SIZE: `${POOL_THREADS}` }
      const { child, channel } = spawnChild(entry(), environment)
      child.once('error', lost)
      child.once('exit', lost)
      return channel
    },
  }
}

export const STARTER: Starter = startFrom(entryFile)
