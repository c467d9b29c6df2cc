/** What a test has searched for and goes over: where nothing was found it would have looked at nothing. */
import { expect } from 'vitest'

export function someOf<T>(list: Iterable<T>): readonly T[] {
  const all = [...list]
  expect(all.length, 'how many were found').toBeGreaterThan(0)
  return all
}
