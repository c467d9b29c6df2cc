/** A short run of the load that `npm run load` makes in full: every answer is right, and everything that is stored. */
import { expect, test } from 'vitest'
import type { LoadResult } from './d1/load.js'
import { runScript } from './d1/script.js'
import { describeSoftHsm } from './softhsm.js'

async function right(name: string, gets: number, sets: number): Promise<void> {
  const [result] = await runScript<(LoadResult & { table: string })[]>(
    'load.ts',
    ...['--only', name, '--gets', String(gets), '--sets', String(sets)],
  )
  if (result === undefined) expect.fail(`there is no scenario ${name}`)
  console.log(result.table)
  expect(result.wrong).toEqual([])
  const calls = Object.fromEntries(result.latency.map(({ operation, count }) => [operation, count]))
  expect(calls['getPIN']).toBe(gets)
  expect((calls['SetPIN ISO0'] ?? 0) + (calls['SetPIN 3DES_SECCOS'] ?? 0)).toBe(sets)
  expect(calls['SetPIN 3DES_SECCOS']).toBeGreaterThan(0)
}

test('software keys, SQLite: no answer is wrong', () => right('software, SQLite', 500, 500))

describeSoftHsm('load', () => {
  test('keys in SoftHSM, SQLite: no answer is wrong', () => right('SoftHSM, SQLite', 200, 200))
})
