/**
 * A process of its own that works on an issuer's store, for the tests of SQLite and PostgreSQL. It says `ready` when the
 * store is open, waits for a line on standard input, works, and writes one line of JSON for each thing it has done.
 *
 *     store-child.ts <where> race <mark> <cardId:pcc:intdatag>…   accepts each, in order
 *     store-child.ts <where> write                                PINs and counters without end, each acknowledged
 *     store-child.ts <where> open                                 opens after the line, not before
 *     store-child.ts <where> last                                 writes twice, and waits for the first alone; closes nothing
 *
 * What a thread of SQLite's runs is named in `SQLITE_HOST`: this program is a bundle, beside which there is nothing.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { isIssuerPinError } from '../../src/base/errors.js'
import { ChangeCounter, Pan } from '../../src/index.js'
import { type IssuerStore, openPostgresIssuerStore, panSealer } from '../../src/postgres.js'
import type { SqliteDriver } from '../../src/sqlite.js'
import { openSqlite } from '../../src/stores/sqlite/issuer-store.js'
import { startFrom } from '../../src/stores/sqlite/threads.js'
import { blockOf, ISSUER, prwOf, SEAL_KEY, type Where } from './store-records.js'

const [whereText = '{}', what, ...rest] = process.argv.slice(2)
const where: Where = JSON.parse(whereText)
const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`)
const go = async (): Promise<void> => void (await once(process.stdin, 'data'))

function open(): Promise<IssuerStore> {
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
  return 'path' in where
    ? openSqlite(
        { path: where.path, driver: where.driver as SqliteDriver, panSealer: sealer },
        startFrom(() => process.env['SQLITE_HOST'] ?? ''),
      )
    : openPostgresIssuerStore({ ...where, panSealer: sealer })
}

async function race(store: IssuerStore): Promise<void> {
  const counter = new ChangeCounter({
    store: store.counters(ISSUER),
    backend: { randomBytes: async length => Uint8Array.from(randomBytes(length)) },
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 3600,
  })
  const [mark, ...cards] = rest
  for (const card of cards) {
    const [cardId = '', pcc = '', intdatag = ''] = card.split(':')
    const fingerprint = new Uint8Array(32).fill(Number(mark))
    const verdict = await counter
      .accept({
        request: { cardId, pcc, intdatag, fingerprint },
        store: ({ sequence }) =>
          store.pins.storePrw({ issuerId: ISSUER, cardId }, prwOf(sequence, Number(mark))),
      })
      .then(
        () => 'accepted',
        error => (isIssuerPinError(error) ? error.code : String(error)),
      )
    say({ cardId, verdict })
  }
}

async function write(store: IssuerStore): Promise<never> {
  const counter = store.counters(ISSUER)
  for (let i = 1; ; i++) {
    const card = { issuerId: ISSUER, cardId: `card-${i % 5}` }
    await store.cards.put(card, { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] })
    if (i % 2 === 0) await store.pins.storeBlock(card, blockOf(i))
    else await store.pins.storePrw(card, prwOf(i))
    const version = (await counter.read(card.cardId))?.version
    await counter.compareAndSet(card.cardId, version, String(i))
    say(i)
  }
}

if (what === 'open') {
  say('ready')
  await go()
  const store = await open()
  say('open')
  await store.close()
} else if (what === 'last') {
  const store = await open()
  const put = (cardId: string): Promise<void> =>
    store.cards.put(
      { issuerId: ISSUER, cardId },
      { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] },
    )
  await put('card-0000')
  say('ready')
  void put('card-0001')
} else {
  const store = await open()
  say('ready')
  await go()
  // A writer whose server is taken away ends: what it acknowledged is what counts.
  await (what === 'race' ? race(store) : write(store).catch(() => {}))
  await store.close()
}
if (what !== 'last') process.stdin.destroy()
