/** The memory store keeps the contract; stores with a planted fault do not: `contract-faults.test.ts`. */
import { describe, expect, test } from 'vitest'
import { memoryIssuerStore } from '../../src/d1.js'
import { inBatches } from '../../src/stores/records.js'
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
  const results = inBatches(Array(450).keys(), controller.signal, async batch => {
    worked.push(batch.length)
    controller.abort()
    return batch
  })
  const all = async () => {
    for await (const result of results) expect(result).toBeLessThan(200)
  }
  await failure(all, 'ERR_ABORTED')
  expect(worked).toEqual([200])
})
