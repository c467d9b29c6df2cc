/**
 * The long run of repeated, delayed, duplicated and misdirected Set PINs: on each of the three stores, two replicas. A line
 * for each store; exit code 1 where a PIN was lost or came back.
 *
 *     npm run repeats -- [--steps 20000] [--seed n] [--store memory|sqlite|postgres]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openPostgresIssuerStore } from '../../src/postgres.js'
import { type IssuerStore, openSqliteIssuerStore, panSealer } from '../../src/sqlite.js'
import { memoryIssuerStore } from '../../src/stores/memory.js'
import { runRepeats, showRepeats } from '../../test/d1/endpoints/support/repeats.js'
import { PostgresServer } from '../postgres.js'

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '20000' },
    seed: { type: 'string' },
    store: { type: 'string' },
  },
})
const seed = Number(values.seed ?? Date.now() % 2 ** 31)
const steps = Number(values.steps)
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32).fill(0x5a) }] })

/** Two handles, and what takes everything away again. */
type Open = () => Promise<readonly [IssuerStore, IssuerStore, close: () => unknown]>

const STORES: Readonly<Record<string, Open>> = {
  memory: async () => {
    const store = memoryIssuerStore()
    return [store, store, () => store.close()]
  },
  sqlite: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ipc-repeats-'))
    const open = () =>
      openSqliteIssuerStore({
        path: join(folder, 'issuer.db'),
        driver: 'better-sqlite3',
        executor: 'inline',
        panSealer: sealer,
      })
    const [one, other] = [await open(), await open()]
    return [
      one,
      other,
      async () => {
        await Promise.all([one.close(), other.close()])
        rmSync(folder, { recursive: true })
      },
    ]
  },
  postgres: async () => {
    const server = new PostgresServer()
    await server.start()
    const { connectionString } = server
    const open = () => openPostgresIssuerStore({ connectionString, panSealer: sealer })
    const [one, other] = [await open(), await open()]
    return [
      one,
      other,
      async () => {
        await Promise.all([one.close(), other.close()])
        await server.remove()
      },
    ]
  },
}

async function main(): Promise<void> {
  for (const [name, open] of Object.entries(STORES)) {
    if (values.store !== undefined && values.store !== name) continue
    const [one, other, close] = await open()
    const started = performance.now()
    try {
      const result = await runRepeats({ seed, steps, stores: [one, other] })
      const seconds = Math.round((performance.now() - started) / 1000)
      console.log(`${showRepeats(name, result)} (seed ${seed}, ${seconds} s)`)
      if (result.wrong.length > 0) process.exitCode = 1
    } finally {
      await close()
    }
  }
}

main().catch(error => {
  console.error(error)
  process.exitCode = 1
})
