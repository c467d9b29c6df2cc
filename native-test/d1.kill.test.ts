/** `kill -9` in the middle of Set PINs: what `serve` has acknowledged is there, and nothing is half done. */
import { expect, test } from 'vitest'
import type { KillResult } from './d1/kill.js'
import { runScript } from './d1/script.js'

test('software keys, SQLite: nothing acknowledged is lost, the counter never goes back', async () => {
  const result = await runScript<KillResult>('kill.ts', '--rounds', '4')
  console.log(result)
  expect(result.wrong).toEqual([])
  expect(result.acknowledged).toBeGreaterThan(0)
  // Something was on its way each time, or the kill came too early to tell anything.
  expect(result.cutOff).toBeGreaterThan(0)
})
