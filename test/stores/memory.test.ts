/** The memory store keeps the contract; stores with a planted fault do not: `contract-faults.test.ts`. */
import { describe, expect, test } from 'vitest'
import { type Card, memoryIssuerStore } from '../../src/d1.js'
import { Pan } from '../../src/primitives/pan.js'
import { inBatches, readCardEntry } from '../../src/stores/records.js'
import { type IssuerStoreHarness, issuerStoreContract } from '../../src/testing.js'
import { failure } from '../support/errors.js'

const memory: IssuerStoreHarness = {
  durable: false,
  open: async () => {
    const store = memoryIssuerStore()
    return { one: store, other: store }
  },
}

describe('contract: memory', () => {
  test.each(issuerStoreContract(memory))('$name', ({ run }) => run())
})

test('a harness that says durable and cannot open again is told so', async () => {
  const cases = issuerStoreContract({ ...memory, durable: true })
  const [restart] = cases.filter(({ name }) => name.startsWith('everything is there again'))
  await expect(restart?.run()).rejects.toThrow('the harness says durable')
})

test('what is done for many ends between two batches, once nobody wants it any more', async () => {
  const controller = new AbortController()
  const worked: number[] = []
  const record: Card = { state: 'active', pan: Pan.from('9999980000000012'), setPinTypes: [] }
  const entries = Array.from({ length: 450 }, (_, i) => ({
    card: { issuerId: 'is_tbank01', cardId: `card-${i}` },
    record,
  }))
  const results = inBatches(entries, controller.signal, readCardEntry, async batch => {
    worked.push(batch.length)
    controller.abort()
    return batch.map(({ card }) => ({ card, outcome: 'stored' }))
  })
  const all = async () => {
    let at = 0
    for await (const { card } of results) expect(card).toEqual(entries[at++]?.card)
  }
  await failure(all, 'ERR_ABORTED')
  expect(worked).toEqual([200])
})
