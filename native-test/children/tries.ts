/** Tries a wrong PIN for one card, as fast as it goes, and says each time that a try was counted. Killed from outside. */
import { TryCounter } from '../../src/index.js'
import { openPostgresIssuerStore, panSealer } from '../../src/postgres.js'

const [connectionString = '', schema = '', cardId = '', limit = ''] = process.argv.slice(2)
const store = await openPostgresIssuerStore({
  connectionString,
  schema,
  panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32).fill(7) }] }),
  max: 2,
})
const counter = new TryCounter({
  store: store.counters('is_tbank01'),
  products: { classic: { limit: Number(limit), afterSuccess: 'reset' } },
})
process.stdout.write('ready\n')
for (;;) {
  const tried = await counter.begin({ cardId, product: 'classic' })
  process.stdout.write(tried.blocked ? 'blocked\n' : 'counted\n')
  if (tried.blocked) break
}
await store.close()
