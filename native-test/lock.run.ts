/**
 * Another process holds the SQLite file for five seconds while PINs are read and set: how long the event loop stands still,
 * what reads wait, and how many SECCOS changes a second there are without the lock.
 *
 *     npm run lock
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pan } from '../src/index.js'
import { type IssuerStore, panSealer, type SqliteExecutor } from '../src/sqlite.js'
import { counterOn, ISSUER, prwOf, SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'
import { holdFile, StallWatch, showStalls } from './stalls.js'

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
  // What is compiled while it runs is no delay of a store.
  await sleep(2000)
  const watch = new StallWatch()
  changes = 0
  watch.start()
  await sleep(5000)
  const before = watch.stop()
  const free = changes
  reads.length = 0
  // To start a process is a delay, too, and none of the store's.
  const { letGo } = await holdFile(path, 5000)
  watch.start()
  await letGo
  // And what comes when the file is let go.
  await sleep(1000)
  const locked = watch.stop()
  stop = true
  await working
  const sorted = reads.toSorted((a, b) => a - b)
  const ms = (value: number | undefined): string => (value ?? 0).toFixed(1)
  console.log(
    [
      `${executor}: ${free / 5} SECCOS changes a second`,
      `  no lock:   ${showStalls(before)}`,
      `  file held: ${showStalls(locked)}`,
      `  meanwhile ${sorted.length} reads, median ${ms(sorted[sorted.length >> 1])}, at most ${ms(sorted.at(-1))} ms; ${busy} calls busy`,
    ].join('\n'),
  )
}

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
try {
  await measure('threads')
  await measure('inline')
} finally {
  rmSync(folder, { recursive: true })
}
