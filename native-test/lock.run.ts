/**
 * Another process holds the SQLite file for five seconds while PINs are read and set: how long the event loop stands still,
 * what reads wait, and how many SECCOS changes a second there are without the lock.
 *
 *     npm run lock
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pan } from '../src/index.js'
import { type IssuerStore, panSealer, type SqliteExecutor } from '../src/sqlite.js'
import { counterOn, ISSUER, prwOf, SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'

const CALLERS = 16
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['3DES_SECCOS'] } as const
const folder = mkdtempSync(join(tmpdir(), 'ipc-lock-'))

async function change(store: IssuerStore, cardId: string, mark: number): Promise<void> {
  const counter = counterOn(store)
  const issued = await counter.issue({ cardId })
  const request = { ...issued, cardId, fingerprint: new Uint8Array(32).fill(mark) }
  await counter.accept({
    request,
    store: ({ sequence }) => store.pins.storePrw({ issuerId: ISSUER, cardId }, prwOf(sequence)),
  })
}

async function holdLock(path: string): Promise<void> {
  const script = `const database = new (require('better-sqlite3'))(process.argv[1]);
    database.exec('BEGIN IMMEDIATE'); setTimeout(() => { database.exec('COMMIT'); database.close() }, 5000)`
  const cwd = new URL('..', import.meta.url).pathname
  await once(spawn(process.execPath, ['-e', script, path], { cwd, stdio: 'inherit' }), 'exit')
}

async function measure(executor: SqliteExecutor): Promise<void> {
  const path = join(folder, `${executor}.db`)
  await using store = await openHere({ path, driver: 'better-sqlite3', panSealer: sealer, executor })
  const cards = Array.from({ length: CALLERS }, (_, i) => `card-${i}`)
  for (const cardId of cards) await store.cards.put({ issuerId: ISSUER, cardId }, RECORD)
  let stop = false
  let changes = 0
  let busy = 0
  const reads: number[] = []
  const changing = async (cardId: string): Promise<void> => {
    for (let mark = 1; !stop; mark++) {
      await change(store, cardId, mark % 250).then(
        () => changes++,
        () => busy++,
      )
      // Inline nothing else would ever have its turn.
      await sleep(0)
    }
  }
  const reading = async (cardId: string): Promise<void> => {
    while (!stop) {
      const start = performance.now()
      await store.cards.find({ issuerId: ISSUER, cardId })
      reads.push(performance.now() - start)
      await sleep(10)
    }
  }
  const working = Promise.all(cards.flatMap(cardId => [changing(cardId), reading(cardId)]))
  const before = monitorEventLoopDelay({ resolution: 1 })
  before.enable()
  await sleep(5000)
  before.disable()
  const free = changes
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  reads.length = 0
  await holdLock(path)
  delay.disable()
  stop = true
  await working
  const sorted = reads.toSorted((a, b) => a - b)
  const ms = (value: number | undefined): string => (value ?? 0).toFixed(1)
  console.log(
    `${executor}: ${free / 5} SECCOS changes a second before, event loop delay at most ${ms(before.max / 1e6)} ms; while the file was held: event loop delay at most ` +
      `${ms(delay.max / 1e6)} ms (p99 ${ms(delay.percentile(99) / 1e6)}), ${sorted.length} reads, median ${ms(sorted[sorted.length >> 1])}, ` +
      `at most ${ms(sorted.at(-1))} ms, ${busy} calls busy`,
  )
}

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
try {
  await measure('threads')
  await measure('inline')
} finally {
  rmSync(folder, { recursive: true })
}
