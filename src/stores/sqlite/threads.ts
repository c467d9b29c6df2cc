/**
 * The driver off the main thread: one thread writes and one reads, each with a connection of its own, so that a lock held
 * by another process, or a slow disk, stops neither the event loop nor a read. What waits while the writer is busy is
 * written together, with one wait for the disk.
 *
 * Requests and answers are plain data. Bytes are handed over, not shared, and wiped where they were last used; PANs and
 * PIN blocks are sealed or enciphered before they come here.
 */
import type { MessagePort, Worker } from 'node:worker_threads'
import { throwIfAborted } from '../../base/arguments.js'
import { fileBeside, startBeside } from '../../base/beside.js'
import { ownCopy, wipe } from '../../base/bytes.js'
import { AbortedError, BackendError, type ErrorCode, isIssuerPinError } from '../../base/errors.js'
import { storeClosed } from '../records.js'
import type { PlainDatabase, SqlDialect, SqlResult, SqlRow, SqlStatement } from '../sql/database.js'
import { openConnection, type SqliteConnection, type SqliteFile, type SqliteRole } from './connection.js'

/** Transactions that are written together at most. */
const TOGETHER = 64

const DIALECT: SqlDialect = {
  prefix: 'issuer_pin_',
  blob: 'BLOB',
  locked: '',
  instance: undefined,
  now: "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
  lists: false,
  nested: false,
  commitsReplays: false,
}

type Transaction = readonly SqlStatement[]

/** What a thread is asked for. */
type Job =
  | { readonly open: SqliteFile; readonly role: SqliteRole }
  | { readonly read: readonly SqlStatement[] }
  | { readonly write: readonly Transaction[] }
  | { readonly close: true }

/** Our errors as plain data; they hold no value of a row. */
interface PlainError {
  readonly code: ErrorCode
  readonly message: string
  readonly retryable: boolean
}

type PlainWritten = { readonly results: readonly SqlResult[] } | { readonly error: PlainError }
type Answer = { readonly value: unknown } | { readonly error: PlainError }

/** A thread, or what plays one. */
export interface StartedThread {
  send(job: unknown, transfer: ArrayBuffer[]): void
  listen(receive: (answer: Answer) => void, gone: () => void): void
  /** Whether it keeps the process from ending. */
  hold(held: boolean): void
  /** Ends it, whatever it does; settles when it has ended. */
  end(): unknown
}

/** Starts a thread that runs {@link serveSqlite}. */
export type StartThread = () => StartedThread

/** The file that a thread runs, built beside this one: it needs nothing but the driver. */
export function threadFile(base: string): string {
  return fileBeside({ name: 'sqlite-host.mjs', base, otherwise: 'state executor: inline' })
}

/** Starts a thread from a file. */
export function startFrom(file: () => string): StartThread {
  return () => {
    const worker = startBeside(file())
    return threadOf(worker, () => worker.terminate())
  }
}

export const startThread: StartThread = startFrom(() => threadFile(import.meta.url))

/** The thread at the other end of a port. */
export function threadOf(port: Worker | MessagePort, end: () => unknown): StartedThread {
  return {
    send: (job, transfer) => port.postMessage(job, transfer),
    listen: (receive, gone) => {
      port.on('message', receive)
      port.once('error', gone)
      port.once('exit', gone)
      port.once('close', gone)
    },
    hold: held => (held ? port.ref() : port.unref()),
    end,
  }
}

/** The thread's end: one connection, served to whoever holds the other port. */
export function serveSqlite(port: Pick<MessagePort, 'postMessage' | 'on' | 'close'>): void {
  let connection: SqliteConnection | undefined
  const perform = async (job: Job): Promise<unknown> => {
    if ('open' in job) {
      connection = await openConnection(job.open, job.role)
      return undefined
    }
    if ('close' in job) return connection?.close()
    if (connection === undefined) throw storeClosed()
    if ('read' in job) return connection.read(job.read)
    return connection
      .write(job.write)
      .map((one): PlainWritten => ('error' in one ? { error: plain(one.error) } : one))
  }
  const answer = async (job: Job): Promise<void> => {
    const said: Answer = await perform(job).then(
      value => ({ value }),
      error => ({ error: plain(error) }),
    )
    wipe(...bytesOf(job))
    port.postMessage(said, transferable(said))
    if ('close' in job) port.close()
  }
  let turn = Promise.resolve()
  port.on('message', (job: Job) => {
    // One after the other: to open takes its time.
    turn = turn.then(() => answer(job))
  })
}

function plain(error: unknown): PlainError {
  if (isIssuerPinError(error)) return { code: error.code, message: error.message, retryable: error.retryable }
  return { code: 'ERR_BACKEND_FAILED', message: 'the thread of the database failed', retryable: false }
}

function coded({ code, message, retryable }: PlainError): BackendError {
  return new BackendError(code, message, { retryable })
}

/** All byte arrays in a message. */
function bytesOf(value: unknown): Uint8Array<ArrayBuffer>[] {
  if (value instanceof Uint8Array) return [value as Uint8Array<ArrayBuffer>]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(bytesOf)
}

function transferable(value: unknown): ArrayBuffer[] {
  return bytesOf(value).map(({ buffer }) => buffer)
}

/** The statement with copies of its bytes: they are handed over, and the caller's stay the caller's. */
function handedOver(statement: SqlStatement): SqlStatement {
  const values = statement.values.map(value => (value instanceof Uint8Array ? ownCopy(value) : value))
  return { ...statement, values }
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
}

/** One thread as this side sees it: it answers in the order it was asked. One that ends is started anew. */
class Lane {
  readonly #file: SqliteFile
  readonly #role: SqliteRole
  readonly #start: StartThread
  #thread: StartedThread | undefined
  #waiting: Waiting[] = []

  constructor(file: SqliteFile, role: SqliteRole, start: StartThread) {
    this.#file = file
    this.#role = role
    this.#start = start
  }

  /** Once it is open. A thread that did not open is ended. */
  async open(): Promise<void> {
    try {
      await this.#ask(this.#started(), { open: this.#file, role: this.#role })
    } catch (error) {
      const thread = this.#thread
      this.#gone(thread)
      await thread?.end()
      throw error
    }
  }

  async perform(job: Job): Promise<unknown> {
    if (this.#thread === undefined) await this.open()
    return this.#ask(this.#started(), job)
  }

  async close(): Promise<void> {
    const thread = this.#thread
    if (thread === undefined) return
    try {
      await this.#ask(thread, { close: true })
    } finally {
      this.#gone(thread)
      await thread.end()
    }
  }

  #started(): StartedThread {
    if (this.#thread !== undefined) return this.#thread
    const thread = this.#start()
    this.#thread = thread
    thread.listen(
      (answer: Answer) => {
        const next = this.#waiting.shift()
        // What is under way keeps the process from ending, and nothing else does.
        if (this.#waiting.length === 0) thread.hold(false)
        if ('error' in answer) next?.reject(coded(answer.error))
        else next?.resolve(answer.value)
      },
      () => this.#gone(thread),
    )
    return thread
  }

  #ask(thread: StartedThread, job: Job): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      thread.hold(true)
      thread.send(job, transferable(job))
    })
  }

  /** What was under way may have been done: whoever asked may ask again. */
  #gone(thread: StartedThread | undefined): void {
    if (thread === undefined || thread !== this.#thread) return
    this.#thread = undefined
    const lost = this.#waiting.splice(0)
    for (const { reject } of lost) {
      reject(new BackendError('ERR_BACKEND_BUSY', 'the thread of the database ended', { retryable: true }))
    }
    thread.end()
  }
}

interface QueuedWrite extends Waiting {
  readonly statements: Transaction
}

class SqliteThreads implements PlainDatabase {
  readonly dialect: SqlDialect = DIALECT
  readonly #writer: Lane
  readonly #reader: Lane
  #queue: QueuedWrite[] = []
  #writing = false

  constructor(file: SqliteFile, start: StartThread) {
    this.#writer = new Lane(file, 'writer', start)
    this.#reader = new Lane(file, 'reader', start)
  }

  async open(): Promise<void> {
    try {
      await this.#writer.open()
      await this.#reader.open()
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async read(statement: SqlStatement, signal?: AbortSignal): Promise<readonly SqlRow[]> {
    const [rows = []] = await this.readTogether([statement], signal)
    return rows
  }

  async readTogether(
    statements: readonly SqlStatement[],
    signal?: AbortSignal,
  ): Promise<readonly (readonly SqlRow[])[]> {
    throwIfAborted(signal)
    const rows = this.#reader.perform({ read: statements.map(handedOver) })
    return (await orAborted(rows, signal)) as readonly (readonly SqlRow[])[]
  }

  async write(statements: Transaction): Promise<readonly SqlResult[]> {
    const written = new Promise<unknown>((resolve, reject) => {
      this.#queue.push({ statements: statements.map(handedOver), resolve, reject })
    })
    void this.#drain()
    return (await written) as readonly SqlResult[]
  }

  async close(): Promise<void> {
    // One after the other: the last to close truncates the log and removes it, but not while another has the file open yet.
    try {
      await this.#reader.close()
    } finally {
      await this.#writer.close()
    }
  }

  async #drain(): Promise<void> {
    if (this.#writing) return
    this.#writing = true
    while (this.#queue.length > 0) await this.#writeTogether(this.#queue.splice(0, TOGETHER))
    this.#writing = false
  }

  async #writeTogether(batch: readonly QueuedWrite[]): Promise<void> {
    try {
      const job = { write: batch.map(({ statements }) => statements) }
      const written = (await this.#writer.perform(job)) as readonly PlainWritten[]
      for (const [i, { resolve, reject }] of batch.entries()) {
        const { results, error } = Object(written[i])
        if (results === undefined) reject(coded(error))
        else resolve(results)
      }
    } catch (error) {
      for (const { reject } of batch) reject(error as Error)
    }
  }
}

/** A read whose caller no longer waits goes on, and its answer is dropped. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new AbortedError(signal.reason))
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

/** The file, with a thread that writes and one that reads. */
export async function openThreads(file: SqliteFile, start: StartThread): Promise<PlainDatabase> {
  const database = new SqliteThreads(file, start)
  await database.open()
  return database
}

/** The file, in the calling thread: nothing is ever under way when a call comes. */
export async function openInline(file: SqliteFile): Promise<PlainDatabase> {
  const connection = await openConnection(file, 'writer')
  return {
    dialect: DIALECT,
    read: async (statement, signal) => {
      throwIfAborted(signal)
      const [rows = []] = connection.read([statement])
      return rows
    },
    readTogether: async (statements, signal) => {
      throwIfAborted(signal)
      return connection.read(statements)
    },
    write: async statements => {
      return connection.write([statements]).flatMap(written => {
        if ('error' in written) throw written.error
        return written.results
      })
    },
    close: () => connection.close(),
  }
}
