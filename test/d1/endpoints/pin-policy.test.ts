/** The issuer's PIN policy at Set PIN (ISO0): what is stored, what the outside sees, what the audit event says. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { issuerEndpoints } from '../../../src/d1.js'
import { pinPolicy } from '../../../src/index.js'
import { failure } from '../../support/errors.js'
import { ISSUER, JSON_TYPE, OVER_TLS, PANS, pinPath, World } from './support/world.js'

let world: World
let headers: Record<string, string>
const RULES = pinPolicy({ minLength: 4, maxLength: 8, refuse: ['repeats', 'runs'], notBefore: true })

beforeAll(async () => {
  world = await World.open()
  headers = await world.authorized(JSON_TYPE)
})
afterAll(() => world[Symbol.asyncDispose]())
beforeEach(() => {
  world.events.length = 0
})

function withPolicy(pinPolicyOption: unknown, more: object = {}) {
  const options = world.options()
  const issuer = options.issuers[ISSUER] ?? expect.unreachable()
  const iso0 = { ...(issuer.iso0 ?? expect.unreachable()), pinPolicy: pinPolicyOption, ...more }
  return issuerEndpoints({ ...options, issuers: { [ISSUER]: { ...issuer, iso0: iso0 as never } } })
}
async function put(handler: ReturnType<typeof withPolicy>, body: string) {
  const request = new Request(`https://issuer.test${pinPath('card-1')}`, { method: 'PUT', headers, body })
  const { status } = await handler(request, OVER_TLS)
  return { status, event: world.events.at(-1) }
}

test.each([400, 403] as const)(
  'a weak PIN is %d outside, its rule is in the audit event alone',
  async status => {
    const handler = withPolicy({ policy: RULES, status })
    const before = world.pins.writes
    const { event, ...answer } = await put(handler, await world.iso0('1111', PANS.first))
    expect(answer).toEqual({ status })
    expect(JSON.stringify(event)).toContain('repeats')
    // But for what is random, and may have any four digits.
    expect(JSON.stringify({ ...event, requestId: '', time: '', durationMs: 0 })).not.toContain('1111')
    expect(world.pins.writes).toBe(before)
    expect((await put(handler, await world.iso0('123456789', PANS.first))).status).toBe(status)
    expect(JSON.stringify(world.events.at(-1))).toContain('length')
  },
)

test('the PIN before is asked for only where the policy does, and where there is one; one under an unknown key is a fault', async () => {
  const lax = withPolicy({ policy: pinPolicy({ minLength: 4, maxLength: 8, refuse: [] }), status: 403 })
  for (const _ of [1, 2]) expect((await put(lax, await world.iso0('86420', PANS.first))).status).toBe(204)
  const handler = withPolicy({ policy: RULES, status: 403 })
  world.pins.stored.set('card-1', { block: { block: new Uint8Array(8), kid: 'GONE' } })
  const { status, event } = await put(handler, await world.iso0('97531', PANS.first))
  expect([status, event?.refusal?.reason]).toEqual([500, 'storage-key-unknown'])
  world.pins.stored.delete('card-1')
  expect((await put(handler, await world.iso0('97531', PANS.first))).status).toBe(204)
})

test('a request that was refused for the PIN before leaves no trace: it is refused as often as it comes', async () => {
  const handler = withPolicy({ policy: RULES, status: 403 })
  expect((await put(handler, await world.iso0('73951', PANS.first))).status).toBe(204)
  const again = await world.iso0('73951', PANS.first)
  const [writes, requests] = [world.pins.writes, world.pins.requests.size]
  for (const _ of [1, 2, 3]) {
    const { status, event } = await put(handler, again)
    expect(status).toBe(403)
    expect(event).toMatchObject({ replayed: false })
    expect(JSON.stringify(event)).toContain('before')
  }
  expect([world.pins.writes, world.pins.requests.size]).toEqual([writes, requests])
})

test('a store that cannot look a request up is no store for a policy with notBefore', async () => {
  const options = world.options()
  const issuer = options.issuers[ISSUER] ?? expect.unreachable()
  const { knowsRequest: _, ...pins } = issuer.pins
  const started = (policy: unknown) =>
    issuerEndpoints({
      ...options,
      issuers: {
        [ISSUER]: { ...issuer, pins, iso0: { ...issuer.iso0, pinPolicy: { policy, status: 403 } } as never },
      },
    })
  await failure(() => started(RULES), 'ERR_ARGUMENT')
  await failure(() => started(() => RULES), 'ERR_ARGUMENT')
  started(pinPolicy({ minLength: 4, maxLength: 8, refuse: ['repeats'] }))
})

test('an answer of the store that is neither yes nor no is no answer', async () => {
  const options = world.options()
  const issuer = options.issuers[ISSUER] ?? expect.unreachable()
  const pins = { ...issuer.pins, knowsRequest: async () => 1 as never }
  const iso0 = {
    ...(issuer.iso0 ?? expect.unreachable()),
    pinPolicy: { policy: RULES, status: 403 } as const,
  }
  const handler = issuerEndpoints({ ...options, issuers: { [ISSUER]: { ...issuer, pins, iso0 } } })
  expect((await put(handler, await world.iso0('95173', PANS.first))).status).toBe(204)
  expect((await put(handler, await world.iso0('95173', PANS.first))).status).toBe(500)
})

test('the PIN before is refused, a repeated request is acknowledged, another PIN is set', async () => {
  const handler = withPolicy({ policy: async () => RULES, status: 403 })
  const first = await world.iso0('84627', PANS.first)
  expect((await put(handler, first)).status).toBe(204)
  expect((await put(handler, first)).status).toBe(204)
  const again = await put(handler, await world.iso0('84627', PANS.first))
  expect(again.status).toBe(403)
  expect(JSON.stringify(again.event)).toContain('before')
  expect((await put(handler, await world.iso0('84628', PANS.first))).status).toBe(204)
})

test('a function that gives no policy is our failure, and no PIN is set', async () => {
  const handler = withPolicy({ policy: async () => undefined, status: 403 })
  expect((await put(handler, await world.iso0('84627', PANS.first))).status).toBe(500)
})

test.each([
  [{ policy: RULES, status: 409 }, {}],
  [{ policy: {}, status: 403 }, {}],
  [{ policy: RULES, status: 403 }, { translation: 'reencipher' }],
  [{ policy: () => RULES, status: 403 }, { translation: 'reencipher' }],
])('option %# is refused when the service starts', async (option, more) => {
  await failure(() => withPolicy(option, more), 'ERR_ARGUMENT')
})
