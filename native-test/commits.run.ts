/**
 * How often a change of a PIN by SECCOS (issue, claim, store, confirm) waits for the disk: commits of SQLite and PostgreSQL.
 *
 *     npm run commits -- --database sqlite|postgres [--changes 100] [--apart]
 *
 * `--apart`: as with a counter's store of your own that has no `compareAndSetAll`, and PINs kept elsewhere.
 * PostgreSQL says it itself (pg_stat_wal.wal_sync). For SQLite run it under strace, which counts:
 *
 *     strace -f -c -e trace=fsync,fdatasync npm run commits -- --database sqlite
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type ChangeCounterStore, Pan } from '../src/index.js'
import { openPostgresIssuerStore } from '../src/postgres.js'
import { type IssuerStore, panSealer } from '../src/sqlite.js'
import { counterOn, ISSUER, prwOf, SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'
import { PostgresServer } from './postgres.js'

const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const { values } = parseArgs({
  options: {
    database: { type: 'string', default: 'sqlite' },
    changes: { type: 'string', default: '100' },
    apart: { type: 'boolean', default: false },
  },
})
const changes = Number(values.changes)
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

function bound(store: ChangeCounterStore): ChangeCounterStore {
  return {
    read: key => store.read(key),
    compareAndSet: (...write) => store.compareAndSet(...write),
    purge: (...which) => store.purge(...which),
    keys: page => store.keys(page),
    ...(store.instance !== undefined && { instance: async () => (await store.instance?.()) ?? '' }),
  }
}

/** One after the other: what is written together with others would be counted once for all of them. */
async function change(store: IssuerStore): Promise<void> {
  const whole = store.counters(ISSUER)
  const counter = counterOn(
    Object.assign(Object.create(store), { counters: () => (values.apart ? bound(whole) : whole) }),
  )
  await store.cards.put(CARD, {
    state: 'active',
    pan: Pan.from('9999990123456789'),
    setPinTypes: ['3DES_SECCOS'],
  })
  for (let mark = 0; mark < changes; mark++) {
    const issued = await counter.issue({ cardId: CARD.cardId })
    const request = { ...issued, cardId: CARD.cardId, fingerprint: new Uint8Array(32).fill(mark) }
    await counter.accept({
      request,
      store: ({ sequence, claim }) =>
        store.pins.storePrw(CARD, prwOf(sequence, mark), ...(values.apart ? [] : [claim])),
    })
  }
}

if (values.database === 'sqlite') {
  const folder = mkdtempSync(join(tmpdir(), 'ipc-commits-'))
  const options = { path: join(folder, 'issuer.db'), driver: 'better-sqlite3', panSealer: sealer } as const
  const store = await openHere(options)
  await change(store)
  await store.close()
  rmSync(folder, { recursive: true })
  console.log(`${changes} changes in SQLite`)
} else {
  const server = new PostgresServer()
  await server.start()
  try {
    const { connectionString } = server
    const store = await openPostgresIssuerStore({ connectionString, panSealer: sealer })
    const syncs = async (): Promise<number> => {
      // The figures of a session are there once it is idle, and at the latest a second later.
      await new Promise(resolve => setTimeout(resolve, 1500))
      const { rows } = await server.query('SELECT wal_sync FROM pg_stat_wal')
      return Number(rows[0]?.wal_sync)
    }
    const before = await syncs()
    await change(store)
    const after = await syncs()
    console.log(
      `${changes} changes in PostgreSQL${values.apart ? ', apart' : ''}: ${after - before} syncs of the WAL`,
    )
    await store.close()
  } finally {
    await server.remove()
  }
}
