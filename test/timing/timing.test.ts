/**
 * The statistics on numbers that are made up, and the controls on real time, with wide margins: continuous integration
 * runs on whatever machine. The measurements themselves are `npm run timing`, docs/measurements/timing.md.
 */
import { describe, expect, test } from 'vitest'
import { failing, measure } from './harness.js'
import { controls, rows } from './measurements.js'
import { compare, median, moments, percentile, summary, T_LIMIT, welch } from './statistics.js'

/** Numbers that look like times: normal by Box and Muller, from a fixed seed. */
function normal(seed: number, count: number, mean: number, deviation: number): number[] {
  let state = seed
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state + 1) / 2 ** 32
  }
  return Array.from(
    { length: count },
    () => mean + deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}

describe('the statistics', () => {
  test('of numbers that are known', () => {
    expect(moments([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({ count: 8, mean: 5, variance: 32 / 7 })
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(percentile([5, 1, 4, 2, 3], 0.8)).toBe(5)
    expect(percentile([5, 1, 4, 2, 3], 0.5)).toBe(3)
  })

  test("Welch's t of two classes of other sizes and variances", () => {
    const { t } = welch({ count: 10, mean: 20, variance: 4 }, { count: 40, mean: 23, variance: 16 })
    expect(t).toBeCloseTo(3 / Math.sqrt(4 / 10 + 16 / 40), 10)
    expect(welch({ count: 2, mean: 1, variance: 0 }, { count: 2, mean: 1, variance: 0 }).t).toBe(0)
  })

  test('see a difference of a twentieth of the spread, with its sign, and none where there is none', () => {
    const [a, b, c] = [
      normal(1, 40_000, 1000, 100),
      normal(2, 40_000, 1005, 100),
      normal(3, 40_000, 1000, 100),
    ]
    expect(compare(a, b).t).toBeGreaterThan(T_LIMIT)
    expect(compare(b, a).t).toBeLessThan(-T_LIMIT)
    expect(Math.abs(compare(a, c).t)).toBeLessThan(T_LIMIT)
  })

  test('are not fooled by a few samples that took a thousand times as long', () => {
    const slow = Array.from({ length: 200 }, () => 1_000_000)
    const [a, b] = [[...normal(4, 20_000, 1000, 50), ...slow], normal(5, 20_000, 1000, 50)]
    expect(Math.abs(compare(a, b).t)).toBeLessThan(T_LIMIT)
  })

  test('say which effect they could have seen', () => {
    const { smallestEffect } = compare(normal(6, 40_000, 1000, 100), normal(7, 40_000, 1000, 100))
    expect(smallestEffect).toBeGreaterThan(0.5)
    expect(smallestEffect).toBeLessThan(10)
  })

  test('take the median round', () => {
    const round = (t: number) => ({ t, difference: t, smallestEffect: 1 })
    expect(summary([round(1), round(-1), round(50)]).t).toBe(1)
  })
})

describe('the harness', () => {
  test('refuses a class that was to fail and does not', async () => {
    expect(() => failing(() => 1)(0)).toThrow('did not')
    await expect(failing(async () => 1)(0)).rejects.toThrow('did not')
    expect(failing(() => expect.unreachable())(0)).toBeUndefined()
  })

  // Times on a machine that nobody knows: what must be seen is a hundred times what must not.
  test('sees the control that leaks, and by far not as much where there is nothing', {
    retry: 3,
  }, async () => {
    const [leaks, same] = controls()
    const effort = { rounds: 5, samples: 1000 }
    const [seen, unseen] = [await measure(leaks, effort), await measure(same, effort)]
    expect(seen.t).toBeGreaterThan(3 * T_LIMIT)
    expect(seen.difference).toBeGreaterThan(20 * Math.abs(unseen.difference))
  })

  test('can run every measurement', async () => {
    const all = await rows()
    expect(all.length).toBeGreaterThan(20)
    for (const row of all) {
      const { t } = await measure(row, { rounds: 1, samples: 20 })
      expect(t, row.name).toBeTypeOf('number')
    }
  })
})
