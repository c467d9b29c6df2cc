/** The OpenTelemetry example, with the real SDK: what it measures is what was asked. */
import { expect, test } from 'vitest'
import { record } from '../../tools/pictures/record-dashboard.js'

test('durations by operation, refusals by reason', async () => {
  const { operations, refusals, bounds } = await record(4)
  const counts = Object.fromEntries(operations.map(({ name, count }) => [name, count]))
  // Four rounds of four, and one each of card-9 and of no token.
  expect(counts).toEqual({ getPIN: 18, SetPIN: 9, getPINChangeCounter: 4 })
  for (const { count, counts: parts } of operations) {
    expect(parts).toHaveLength(bounds.length + 1)
    expect(parts.reduce((sum, n) => sum + n, 0)).toBe(count)
  }
  expect(Object.fromEntries(refusals.map(({ reason, count }) => [reason, count]))).toEqual({
    'card-unknown': 1,
    message: 1,
    'token-missing': 1,
  })
})
