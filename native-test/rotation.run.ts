/**
 * A storage key changes under many blocks while PINs are read and set: how long it takes, what the others wait, and that no
 * PIN is another one afterwards.
 *
 *     npm run rotation -- [--blocks 1000000] [--database sqlite|postgres] [--batch 500] [--json]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { rotateStorageKey } from '../src/d1.js'
import { decipherPin, encipherPin, type Key, Pan, Pin } from '../src/index.js'
import { openPostgresIssuerStore } from '../src/postgres.js'
import { softwareBackend } from '../src/software.js'
import { type IssuerStore, panSealer } from '../src/sqlite.js'
import { buildBesideSources, openHere } from '../test/stores/threads.js'
import { PostgresServer } from './postgres.js'

const { values } = parseArgs({
  options: {
    blocks: { type: 'string', default: '1000000' },
    database: { type: 'string', default: 'sqlite' },
    batch: { type: 'string', default: '500' },
    json: { type: 'boolean', default: false },
  },
})
const blocks = Number(values.blocks)
const say = (text: string): void => void process.stderr.write(`${text}\n`)

const PAN = Pan.from('4000001234567899')
const ISSUER = 'is_tbank01'
const cardOf = (i: number) => ({ issuerId: ISSUER, cardId: `card-${String(i).padStart(7, '0')}` })
const pinOf = (i: number): string => String(1000 + (i % 9000))
const entry = (kid: string, material: string) =>
  ({ kid, usage: 'pin-encryption', algorithm: 'tdea-2key', material }) as const

const backend = await softwareBackend({
  keys: [
    entry('STORE-1', '0123456789ABCDEFFEDCBA9876543210'),
    entry('STORE-2', '89E88CF7931444F334BD7547FC3F380C'),
  ],
})
const bind = (kid: string): Promise<Key> => backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
const [from, to] = [await bind('STORE-1'), await bind('STORE-2')]
const keyOf = (kid: string): Key => (kid === from.kid ? from : to)

/** A PIN of four digits has 9,000 blocks for one PAN. */
const made = new Map<string, Uint8Array>()
async function blockOf(pin: string, key: Key): Promise<Uint8Array> {
  const name = `${key.kid}/${pin}`
  const known = made.get(name)
  if (known !== undefined) return known
  const block = await encipherPin({ pin: Pin.from(pin), pan: PAN, format: 0, key })
  made.set(name, block)
  return block
}

async function shown(store: IssuerStore, i: number): Promise<string> {
  const stored = await store.pins.readBlock(cardOf(i))
  if (stored === undefined) return 'nothing'
  using pin = await decipherPin({ block: stored.block, pan: PAN, format: 0, key: keyOf(stored.kid) })
  return pin.reveal()
}

async function fill(store: IssuerStore): Promise<void> {
  const list = function* () {
    for (let i = 0; i < blocks; i++)
      yield { card: cardOf(i), record: { state: 'active', pan: PAN, setPinTypes: ['ISO0'] } as const }
  }
  let done = 0
  for await (const { outcome } of store.cards.putMany(list())) if (outcome === 'stored') done++
  say(`${done} cards`)
  const pins = async function* () {
    for (let i = 0; i < blocks; i++)
      yield { card: cardOf(i), pin: { block: await blockOf(pinOf(i), from), kid: from.kid } }
  }
  done = 0
  for await (const { outcome } of store.pins.storeBlocks(pins())) if (outcome === 'stored') done++
  say(`${done} blocks`)
}

/** What `fill` would have made, by the server itself: it is not what is measured here. */
async function fillByServer(server: PostgresServer): Promise<void> {
  const list: Uint8Array[] = []
  for (let i = 0; i < 9000; i++) list.push(await blockOf(pinOf(i), from))
  const card = "'card-' || lpad(i::text, 7, '0')"
  await server.query(
    `INSERT INTO issuer_pin.cards SELECT '${ISSUER}', ${card}, 'active', '\\x00', '["ISO0"]', NULL, 'r' || lpad(i::text, 15, '0')
     FROM generate_series(0, ${blocks - 1}) AS i`,
  )
  await server.query(
    `INSERT INTO issuer_pin.pins (issuer_id, card_id, block, kid, version) SELECT '${ISSUER}', ${card},
     ($1::bytea[])[1 + i % 9000], '${from.kid}', 'v' || i FROM generate_series(0, ${blocks - 1}) AS i`,
    [list.map(block => Buffer.from(block))],
  )
  await server.query('VACUUM ANALYZE')
  say(`${blocks} cards and blocks`)
}

const changed = new Map<number, string>()
const waits = { read: [] as number[], set: [] as number[] }
let wrong = 0
let stopped = false

/** Get PIN and Set PIN as the service does them, one after the other, for cards here and there. */
async function answer(store: IssuerStore): Promise<void> {
  for (let round = 0; !stopped; round++) {
    const i = (round * 7919) % blocks
    const start = performance.now()
    if (round % 10 === 9) {
      const pin = pinOf(i + 1)
      await store.pins.storeBlock(cardOf(i), { block: await blockOf(pin, to), kid: to.kid })
      changed.set(i, pin)
      waits.set.push(performance.now() - start)
    } else {
      await store.cards.find(cardOf(i))
      if ((await shown(store, i)) !== (changed.get(i) ?? pinOf(i))) wrong++
      waits.read.push(performance.now() - start)
    }
    await sleep(5)
  }
}

function percentiles(list: readonly number[]): Record<string, number> {
  const sorted = list.toSorted((a, b) => a - b)
  const at = (share: number): number =>
    Math.round(10 * (sorted[Math.floor(share * (sorted.length - 1))] ?? 0)) / 10
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

async function run(store: IssuerStore, filling: () => Promise<void>): Promise<void> {
  const begun = performance.now()
  await filling()
  const filled = performance.now()
  const answering = answer(store)
  let last = 0
  const result = await rotateStorageKey({
    store,
    from,
    to,
    batch: Number(values.batch),
    onProgress: ({ moved }) => {
      if (moved - last < blocks / 10) return
      last = moved
      say(`${moved} moved`)
    },
  })
  const rotated = performance.now()
  stopped = true
  await answering
  const counts = await store.pins.countBlocks()
  for (let i = 0; i < blocks; i++) {
    if (i % 97 !== 0 && !changed.has(i)) continue
    if ((await shown(store, i)) !== (changed.get(i) ?? pinOf(i))) wrong++
  }
  const report = {
    database: values.database,
    blocks,
    fillSeconds: Math.round((filled - begun) / 1000),
    rotationSeconds: Math.round((rotated - filled) / 100) / 10,
    blocksPerSecond: Math.round(result.moved / ((rotated - filled) / 1000)),
    ...result,
    counts,
    wrong,
    readMs: percentiles(waits.read),
    setMs: percentiles(waits.set),
  }
  process.stdout.write(`${JSON.stringify(report, null, values.json ? 0 : 2)}\n`)
  // Without a reading and a change meanwhile, "0 wrong" would say nothing.
  const isIdle = waits.read.length === 0 || waits.set.length === 0
  if (wrong > 0 || result.left > 0 || isIdle) process.exitCode = 1
}

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32).fill(7) }] })
if (values.database === 'postgres') {
  const server = new PostgresServer()
  try {
    await server.start()
    await using store = await openPostgresIssuerStore({
      connectionString: server.connectionString,
      // All have one PAN here, which is no secret: the server can fill the tables by itself.
      panSealer: { seal: () => Uint8Array.of(0), open: () => PAN },
      timeoutMs: 60_000,
    })
    await run(store, () => fillByServer(server))
  } finally {
    await server.stop()
    rmSync(server.folder, { recursive: true, force: true })
  }
} else {
  buildBesideSources()
  const folder = mkdtempSync(join(tmpdir(), 'ipc-rotation-'))
  try {
    await using store = await openHere({
      path: join(folder, 'issuer.db'),
      driver: 'better-sqlite3',
      panSealer: sealer,
    })
    await run(store, () => fill(store))
  } finally {
    rmSync(folder, { recursive: true })
  }
}
await backend.close()
