/** D1's public keys as a list that changes: a file, a function, a JWK set; the last good one serves on, for so long. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, generateKeyPair } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { d1PublicKeys, healthEndpoints, readinessChecks } from '../../../src/d1.js'
import { failure } from '../../support/errors.js'
import { ISSUER, pinPath, World } from './support/world.js'

const folder = mkdtempSync(join(tmpdir(), 'ipc-d1-keys-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function jwk(kid: string): Promise<object> {
  const { publicKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
  return { ...(await exportJWK(publicKey)), kid }
}
let [one, two]: [object, object] = [{}, {}]
beforeAll(async () => {
  ;[one, two] = [await jwk('D1-1'), await jwk('D1-2')]
})

/** A clock that the test moves. */
function clockOf() {
  let at = 0
  return {
    now: () => at,
    elapsed: () => at,
    after: () => () => {},
    pass: (ms: number) => {
      at += ms
    },
  }
}

describe('which key', () => {
  test('the one that is named, else the first that can be meant', async () => {
    const other = [{ kty: 'RSA', kid: 'R' }, { ...one, use: 'sig' }, { ...one, kid: undefined }, one, two]
    for (const list of [other, { keys: other }]) {
      expect((await d1PublicKeys({ from: () => list })()).kid).toBe('D1-1')
      expect((await d1PublicKeys({ from: () => list, kid: 'D1-2' })()).kid).toBe('D1-2')
    }
  })

  test.each([
    ['an empty list', []],
    ['another kid', [{ kty: 'EC', crv: 'P-256', kid: 'X' }]],
    ['nothing', undefined],
    ['a text', 'keys'],
    ['far too many', Array.from({ length: 65 }, () => ({ kty: 'EC', crv: 'P-256', kid: 'D1-1' }))],
    ['a point that is none', [{ kty: 'EC', crv: 'P-256', kid: 'D1-1', x: 'AA', y: 'AA' }]],
  ])('%s holds none', async (_, list) => {
    await failure(d1PublicKeys({ from: () => list as never, kid: 'D1-1' }), 'ERR_JWE_RECIPIENT')
  })
})

describe('where from', () => {
  test('a file, which changes', async () => {
    const path = join(folder, 'jwks.json')
    const clock = clockOf()
    const keys = d1PublicKeys({ from: path, refreshMs: 1000, clock })
    await failure(keys, 'ERR_BACKEND_BUSY')
    writeFileSync(path, JSON.stringify({ keys: [one] }))
    clock.pass(1000)
    expect((await keys()).kid).toBe('D1-1')
    writeFileSync(path, 'x'.repeat(70_000))
    await failure(d1PublicKeys({ from: path }), 'ERR_BACKEND_FAILED')
    writeFileSync(path, '{"keys":')
    await failure(d1PublicKeys({ from: path }), 'ERR_JWE_RECIPIENT')
  })

  test('a URL: one request at a time, no redirect, a body of 64 KiB at most', async () => {
    const asked: (RequestInit | undefined)[] = []
    let answer = (): Response => Response.json({ keys: [one] })
    const fetch = async (_: unknown, init?: RequestInit) => {
      asked.push(init)
      return answer()
    }
    const from = new URL('https://d1.test/jwks.json')
    const keys = d1PublicKeys({ from, fetch: fetch as never })
    expect((await Promise.all([keys(), keys(), keys()])).map(({ kid }) => kid)).toEqual([
      'D1-1',
      'D1-1',
      'D1-1',
    ])
    expect(asked).toHaveLength(1)
    expect(asked[0]).toMatchObject({ redirect: 'manual', method: 'GET' })
    for (const wrong of [
      () => new Response(null, { status: 302 }),
      () => new Response('', { status: 200 }),
      () => new Response('x'.repeat(70_000)),
    ]) {
      answer = wrong
      await failure(d1PublicKeys({ from, fetch: fetch as never }), 'ERR_BACKEND_FAILED')
    }
  })

  test.each([
    ['nothing', {}],
    ['http', { from: new URL('http://d1.test/') }],
    ['no path', { from: '' }],
    ['no kid', { from: 'x', kid: '' }],
    ['no time', { from: 'x', refreshMs: 0 }],
    ['no fetch', { from: 'x', fetch: 1 }],
    ['no clock', { from: 'x', clock: {} }],
    ['a misspelt option', { from: 'x', url: 'y' }],
  ])('%s is refused', async (_, options) => {
    await failure(async () => d1PublicKeys(options as never), 'ERR_ARGUMENT')
  })
})

test('the last good key serves on while none is to be had, for so long; ever fewer attempts', async () => {
  const clock = clockOf()
  let asked = 0
  let list: () => object[] = () => [one]
  const keys = d1PublicKeys({
    from: () => {
      asked++
      return list()
    },
    refreshMs: 1000,
    staleMs: 5000,
    clock,
  })
  const settled = () => new Promise(resolve => setImmediate(resolve))
  expect((await keys()).kid).toBe('D1-1')
  clock.pass(999)
  await keys()
  expect(asked).toBe(1)
  list = () => {
    throw new Error('away')
  }
  clock.pass(1)
  expect((await keys()).kid).toBe('D1-1')
  await settled()
  expect((await keys()).kid).toBe('D1-1')
  await settled()
  expect(asked).toBe(2)
  // To the last millisecond of both times together.
  clock.pass(4999)
  expect((await keys()).kid).toBe('D1-1')
  await settled()
  expect(asked).toBe(3)
  clock.pass(1)
  const error = await failure(keys, 'ERR_BACKEND_BUSY')
  expect(error).toMatchObject({ retryable: true })
  expect(asked).toBe(3)
  await failure(keys, 'ERR_BACKEND_BUSY')
  expect(asked).toBe(3)
  list = () => [two]
  clock.pass(2000)
  expect((await keys()).kid).toBe('D1-2')
  list = () => [one]
  clock.pass(1001)
  // The older one once more, while the newer is fetched.
  expect((await keys()).kid).toBe('D1-2')
  await settled()
  expect((await keys()).kid).toBe('D1-1')
})

test('Get PIN goes to the key of the moment, and readyz says whether there is one', async () => {
  await using world = await World.open()
  const clock = clockOf()
  let list: object[] = [world.d1.publicJwk]
  const d1PublicJwk = d1PublicKeys({ from: () => list, refreshMs: 1, staleMs: 1, clock })
  const { iso0, ...issuer } = world.issuer()
  const issuers = { [ISSUER]: { ...issuer, iso0: { ...(iso0 ?? expect.fail()), d1PublicJwk } } }
  const handler = world.handler({ issuers })
  const health = healthEndpoints({ checks: readinessChecks(issuers) })
  const ask = async () => {
    const headers = await world.authorized()
    return (await handler(new Request(`https://issuer.test${pinPath('card-1')}`, { headers }))).status
  }
  const ready = async () => (await health(new Request('https://issuer.test/readyz'))).status
  expect([await ask(), await ready()]).toEqual([200, 200])
  list = []
  clock.pass(10)
  expect([await ask(), await ready()]).toEqual([500, 503])
  expect(world.last.refusal).toMatchObject({ reason: 'd1-key-failed' })
  list = [two]
  clock.pass(60_000)
  expect([await ask(), await ready()]).toEqual([200, 200])
  expect(world.last.keys.find(({ role }) => role === 'd1-public')?.kid).toBe('D1-2')
})
