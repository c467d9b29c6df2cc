/** Repeated, delayed, duplicated, misdirected: two replicas over one PostgreSQL. The long run: `npm run repeats`. */
import { expect, test } from 'vitest'
import { openPostgresIssuerStore, panSealer } from '../src/postgres.js'
import { runRepeats, showRepeats } from '../test/d1/endpoints/support/repeats.js'
import { describePostgres } from './postgres.js'

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32).fill(0x5a) }] })

describePostgres('two replicas on PostgreSQL', server => {
  test('0 PINs lost or resurrected', async () => {
    const open = () =>
      openPostgresIssuerStore({ connectionString: server.connectionString, panSealer: sealer })
    await using one = await open()
    await using other = await open()
    const result = await runRepeats({ seed: Date.now() % 2 ** 31, steps: 300, stores: [one, other] })
    console.log(showRepeats('PostgreSQL', result))
    expect(result.wrong).toEqual([])
    expect(result.hung).toBeGreaterThan(0)
  })
})
