/** Rates in PostgreSQL: two replicas count together, by the server's clock. */
import { setTimeout as wait } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openPostgresIssuerStore, panSealer } from '../../src/postgres.js'
import { describePostgres } from '../postgres.js'

const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32).fill(0x5a) }] })
const signal = new AbortController().signal

describePostgres('rates', server => {
  const open = () => openPostgresIssuerStore({ connectionString: server.connectionString, panSealer: sealer })
  const query = (cardId: string, caller = 'd1') =>
    ({ issuerId: 'is_tbank01', cardId, operation: 'getPIN', caller }) as const

  test('of many at once on two replicas as many are let in as the card, and the caller, may have', async () => {
    await using one = await open()
    await using other = await open()
    const limits = { perCardPerMinute: 5, perCallerPerMinute: 12 }
    const replicas = [one.rates(limits), other.rates(limits)]
    const takes = async (cardId: string, n: number, caller?: string): Promise<number> => {
      const all = Array.from({ length: n }, (_, i) =>
        replicas[i % 2]?.take(query(cardId, caller), { signal }),
      )
      return (await Promise.all(all)).filter(Boolean).length
    }
    expect(await takes('card-1', 20)).toBe(5)
    // What a card is refused costs its caller nothing: there are seven left, for other cards.
    expect([await takes('card-2', 20), await takes('card-3', 20), await takes('card-4', 20)]).toEqual([
      5, 2, 0,
    ])
    expect(await takes('card-5', 3, 'another')).toBe(3)
  })

  test('tokens come back with the time, and never more than there were', async () => {
    await using store = await open()
    const rates = store.rates({ perCardPerMinute: 600, perCallerPerMinute: 60_000 })
    const take = () => rates.take(query('card-9', 'd9'), { signal })
    let taken = 0
    while (await take()) taken++
    expect(taken).toBeGreaterThanOrEqual(600)
    // One comes every 100 ms.
    await wait(300)
    expect(await take()).toBe(true)
    // Buckets that are full again go, once in a while.
    await server.query("UPDATE issuer_pin.rates SET at = at - 7200000 WHERE key <> 'caller d9'")
    const many = store.rates({ perCardPerMinute: 600, perCallerPerMinute: 60_000 })
    for (let i = 0; i < 1000; i++) await many.take(query('card-8', 'd9'), { signal })
    const { rows } = await server.query('SELECT count(*) AS rows FROM issuer_pin.rates')
    expect(Number(rows[0]?.['rows'])).toBeLessThanOrEqual(3)
  })

  test('what has been used up is not given back by the tidying', async () => {
    await using store = await open()
    const rates = store.rates({ perCardPerMinute: 1, perCallerPerMinute: 60_000 })
    const take = async (cardId: string): Promise<boolean> => rates.take(query(cardId, 'tidy'), { signal })
    expect([await take('card-used'), await take('card-used')]).toEqual([true, false])
    // A second of a minute: nearly nothing has come back, and nothing is full again.
    await server.query("UPDATE issuer_pin.rates SET at = at - 1000 WHERE key = 'card is_tbank01/card-used'")
    for (let i = 0; i < 1000; i++) await take('card-others')
    expect(await take('card-used')).toBe(false)
  })

  test('a clock that was set back takes nobody’s tokens away', async () => {
    await using store = await open()
    const rates = store.rates({ perCardPerMinute: 3, perCallerPerMinute: 60_000 })
    const take = async (): Promise<boolean> => rates.take(query('card-back', 'd7'), { signal })
    expect(await take()).toBe(true)
    // By the clock of now it was taken in an hour.
    await server.query('UPDATE issuer_pin.rates SET at = at + 3600000')
    expect([await take(), await take(), await take()]).toEqual([true, true, false])
  })

  test('without numbers there are 600 of a card a minute', async () => {
    await using store = await open()
    const rates = store.rates()
    const take = async (cardId: string): Promise<boolean> => rates.take(query(cardId, 'd8'), { signal })
    expect(await take('card-default')).toBe(true)
    await server.query("UPDATE issuer_pin.rates SET tokens = 1.9 WHERE key = 'card is_tbank01/card-default'")
    // As if none had come for an hour: no more than 600 have come back.
    await server.query(
      "UPDATE issuer_pin.rates SET at = at - 3600000 WHERE key = 'card is_tbank01/card-default'",
    )
    expect(await take('card-default')).toBe(true)
    const [row] = (
      await server.query("SELECT tokens FROM issuer_pin.rates WHERE key = 'card is_tbank01/card-default'")
    ).rows
    expect(row).toEqual({ tokens: 599 })
  })

  test('what is no rate is refused', async () => {
    await using store = await open()
    for (const wrong of [
      { perCardPerMinute: null, perCallerPerMinute: 1 },
      { perCardPerMinute: 0, perCallerPerMinute: 1 },
      { perCardPerMinute: 1.5, perCallerPerMinute: 1 },
    ]) {
      expect(() => store.rates(wrong as never)).toThrow('whole numbers from 1')
    }
  })
})
