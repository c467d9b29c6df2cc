/** `serve` on PostgreSQL: two processes of one issuer under load, and `kill -9` of one. */
import { expect, test } from 'vitest'
import type { KillResult } from './d1/kill.js'
import type { LoadResult } from './d1/load.js'
import { runScript } from './d1/script.js'
import { describePostgres } from './postgres.js'

describePostgres('serve on PostgreSQL', server => {
  /** The keys of a folder and the database belong together. */
  async function newDatabase(name: string): Promise<string> {
    if (server.port === 0) await server.start()
    await server.query(`CREATE DATABASE ${name}`)
    return server.connectionString.replace(/postgres$/, name)
  }

  test('two processes: no answer is wrong', async () => {
    const url = await newDatabase('load')
    const name = 'software, PostgreSQL, two processes'
    const calls = ['--only', name, '--gets', '200', '--sets', '200']
    const [result] = await runScript<(LoadResult & { table: string })[]>(
      'load.ts',
      '--postgres',
      url,
      ...calls,
    )
    console.log(result?.table)
    expect(result?.wrong).toEqual([])
  })

  test('kill -9: nothing acknowledged is lost, the counter never goes back', async () => {
    const url = await newDatabase('kill')
    const result = await runScript<KillResult>('kill.ts', '--rounds', '2', '--postgres', url)
    console.log(result)
    expect(result.wrong).toEqual([])
    expect(result.acknowledged).toBeGreaterThan(0)
    expect(result.cutOff).toBeGreaterThan(0)
  })
})
