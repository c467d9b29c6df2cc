/** Threads of the SQLite store from the sources: they need JavaScript, and so a bundle of what they run. */
import { renameSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MessageChannel, type Worker } from 'node:worker_threads'
import { startBeside } from '../../src/base/beside.js'
import type { IssuerStore, SqliteIssuerStoreOptions } from '../../src/sqlite.js'
import { openSqlite } from '../../src/stores/sqlite/issuer-store.js'
import { type StartedThread, type StartThread, startFrom, threadOf } from '../../src/stores/sqlite/threads.js'
import { bundled, bundleTo } from '../support/bundled.js'

const ROOM = new URL('../../src/stores/sqlite/', import.meta.url)
const ENTRY = new URL('host-entry.ts', ROOM)

/** The file that a thread runs. */
export const hostFile = (): string => bundled(ENTRY)

/** Puts it where the library looks for it when a process of its own runs from the sources, as `npm run setup` does. */
export function buildBesideSources(): void {
  const path = fileURLToPath(new URL('sqlite-host.mjs', ROOM))
  renameSync(bundleTo(`${path}.${process.pid}`, ENTRY), path)
}

export const START: StartThread = startFrom(hostFile)

/** `openSqliteIssuerStore`, its threads started from the sources. */
export function openHere(options: SqliteIssuerStoreOptions): Promise<IssuerStore> {
  return openSqlite(options, START)
}

/** Threads whose connection is closed, for the next one. */
const idle = new Set<Worker>()

/**
 * A thread that had a connection before, and has it no more: to start one takes longer than most tests do with theirs. One
 * whose connection did not end as it should is ended.
 */
function keptThread(): StartedThread {
  const [worker = startBeside(bundled(new URL('kept-thread.ts', import.meta.url)))] = idle
  idle.delete(worker)
  worker.unref()
  const { port1, port2 } = new MessageChannel()
  worker.postMessage(port2, [port2])
  const asked: unknown[] = []
  let hasConnection = false
  const thread = threadOf(port1, () => {
    port1.close()
    if (hasConnection || asked.length > 0) return worker.terminate()
    idle.add(worker)
    return undefined
  })
  return {
    ...thread,
    send: (job, transfer) => {
      asked.push(job)
      thread.send(job, transfer)
    },
    listen: (receive, gone) =>
      thread.listen(answer => {
        const job = Object(asked.shift())
        if ('open' in job) hasConnection = !('error' in answer)
        if ('close' in job) hasConnection = false
        receive(answer)
      }, gone),
  }
}

/** {@link openHere}, but for the threads: kept from store to store, until {@link endKeptThreads}. */
export function openOnKeptThreads(options: SqliteIssuerStoreOptions): Promise<IssuerStore> {
  return openSqlite(options, keptThread)
}

export async function endKeptThreads(): Promise<void> {
  const ending = [...idle].map(worker => worker.terminate())
  idle.clear()
  await Promise.all(ending)
}
