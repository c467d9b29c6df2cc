import { describe, expect, test } from 'vitest'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import { memoryStore } from '../../src/seccos/counter/store.js'
import { failure } from '../support/errors.js'

/** Every random number is another. */
function counterOf() {
  let calls = 0
  return new ChangeCounter({
    store: memoryStore(),
    backend: { randomBytes: async length => new Uint8Array(length).fill(calls++) },
    firstPcc: '0041',
    rule: 'increment-on-issue',
    wrap: 'refuse',
    ttlSeconds: 300,
    now: () => 1000,
  })
}
const reasonOf = async (call: () => Promise<unknown>): Promise<unknown> =>
  Reflect.get(await failure(call, 'ERR_CHANGE_COUNTER'), 'reason')

describe('pccOf', () => {
  test('is refused for a card without record, for what was never issued, and for another card', async () => {
    const counter = counterOf()
    const unknown = 'x'.repeat(20)
    expect(await reasonOf(() => counter.pccOf({ cardId: 'card', intdatag: unknown }))).toBe('unknown')
    const { intdatag } = await counter.issue({ cardId: 'card' })
    expect(await reasonOf(() => counter.pccOf({ cardId: 'card', intdatag: unknown }))).toBe('unknown')
    expect(await reasonOf(() => counter.pccOf({ cardId: 'card', intdatag: 'short' }))).toBe('unknown')
    expect(await reasonOf(() => counter.pccOf({ cardId: 'other', intdatag }))).toBe('other-card')
  })

  test.each<[string, object]>([
    ['intdatag must be a string', { cardId: 'card', intdatag: 7 }],
    ['cardId must be 1 to 48 letters, digits, _ and -', { cardId: 'a b', intdatag: 'x'.repeat(20) }],
  ])('says «%s»', async (message, issued) => {
    const call = () => counterOf().pccOf(issued as never)
    expect((await failure(call, 'ERR_ARGUMENT')).message).toBe(message)
  })

  test('gives each intdatag the PCC it was issued with, and changes nothing', async () => {
    const counter = counterOf()
    const [first, second] = [await counter.issue({ cardId: 'card' }), await counter.issue({ cardId: 'card' })]
    for (const { intdatag, pcc } of [second, first, second]) {
      expect(await counter.pccOf({ cardId: 'card', intdatag })).toBe(pcc)
    }
    expect([first.pcc, second.pcc]).toEqual(['0041', '0042'])
  })
})
