/** The try counter on PostgreSQL: many replicas at once, and a process that is killed in the middle of its tries. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { encipherPin, Pan, Pin, TryCounter, verifyPinBlock } from '../../src/index.js'
import { type IssuerStore, openPostgresIssuerStore, panSealer } from '../../src/postgres.js'
import { softwareBackend } from '../../src/software.js'
import { describePostgres } from '../postgres.js'

const ISSUER = 'is_tbank01'
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32).fill(7) }] })
const CHILD = fileURLToPath(new URL('../children/tries.ts', import.meta.url))

describePostgres('try counter: PostgreSQL', server => {
  const open = (schema: string): Promise<IssuerStore> =>
    openPostgresIssuerStore({ connectionString: server.connectionString, schema, panSealer: sealer, max: 8 })
  const counterOn = (store: IssuerStore, limit: number) =>
    new TryCounter({ store: store.counters(ISSUER), products: { classic: { limit, afterSuccess: 'reset' } } })

  test('64 wrong PINs at once on two replicas: as many as the limit are compared, not one more', async () => {
    const replicas = [await open('tries_race'), await open('tries_race')]
    const counters = replicas.map(store => counterOn(store, 5))
    await using backend = await softwareBackend({
      keys: [
        {
          kid: 'ZPK',
          usage: 'pin-encryption',
          algorithm: 'tdea-2key',
          material: '0123456789ABCDEFFEDCBA9876543210',
        },
        {
          kid: 'STORE',
          usage: 'pin-encryption',
          algorithm: 'tdea-2key',
          material: '89E88CF7931444F334BD7547FC3F380C',
        },
      ],
    })
    const from = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
    const key = await backend.bind({ kid: 'STORE', usage: 'pin-encryption', mode: 'E' })
    const pan = Pan.from('4000001234567899')
    const reference = await encipherPin({ pin: Pin.from('2846'), pan, format: 0, key })
    const against = { kind: 'block', block: reference, format: 0, key } as const
    for (const cardId of ['card-1', 'card-2', 'card-3']) {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 64 }, async (_, i) => {
          const counter = counters[i % 2] ?? expect.unreachable()
          const block = await encipherPin({ pin: Pin.from(String(1000 + i)), pan, format: 0, key: from })
          const tries = { counter, cardId, product: 'classic' }
          return verifyPinBlock({ block, pan, format: 0, from, against, tries })
        }),
      )
      const verdicts = outcomes.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []))
      // On a slow machine the database may be late for some: then nothing was compared, and the try may be counted all the same.
      for (const one of outcomes)
        if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'ERR_BACKEND_BUSY' })
      const late = outcomes.length - verdicts.length
      const compared = verdicts.filter(({ blocked }) => !blocked).length
      console.log(`64 at once: ${compared} compared, ${verdicts.length - compared} blocked, ${late} late`)
      expect(compared).toBeLessThanOrEqual(5)
      expect(compared).toBeGreaterThanOrEqual(5 - late)
      expect(verdicts.every(({ verified }) => !verified)).toBe(true)
      const card = { cardId, product: 'classic' }
      const counter = counters[1] ?? expect.unreachable()
      while ((await counter.left(card)) > 0) await counter.begin(card)
      const block = await encipherPin({ pin: Pin.from('2846'), pan, format: 0, key: from })
      const tries = { counter: counters[0] ?? expect.unreachable(), cardId, product: 'classic' }
      expect(await verifyPinBlock({ block, pan, format: 0, from, against, tries })).toMatchObject({
        blocked: true,
      })
    }
    await Promise.all(replicas.map(store => store.close()))
  })

  test('kill -9 in the middle gives no try back: what was counted stays counted', async () => {
    await using store = await open('tries_kill')
    const limit = 90
    const counter = counterOn(store, limit)
    let acknowledged = 0
    for (let round = 0; round < 3; round++) {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', CHILD, server.connectionString, 'tries_kill', 'card-1', String(limit)],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
          env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' },
        },
      )
      let lines = 0
      child.stdout.on('data', (data: Buffer) => {
        lines += String(data).split('counted').length - 1
        if (lines > 8) child.kill('SIGKILL')
      })
      await once(child, 'exit')
      acknowledged += lines
      const left = await counter.left({ cardId: 'card-1', product: 'classic' })
      // One more may have been counted whose answer never came.
      expect(limit - left).toBeGreaterThanOrEqual(acknowledged)
      expect(limit - left).toBeLessThanOrEqual(acknowledged + round + 1)
    }
    expect(acknowledged).toBeGreaterThan(20)
  })
})
