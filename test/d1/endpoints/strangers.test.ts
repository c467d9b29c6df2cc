/** A flood of requests from nobody who is known: bounded events, and none of a known caller is lost in it. */
import { randomBytes } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  type AuditEvent,
  chainedAudit,
  type EndpointHandler,
  otelAttributes,
  verifyAuditChain,
} from '../../../src/d1.js'
import { ManualClock } from '../client/times.js'
import { get, held, put, useWorld } from './support/direct.js'
import { basic, FORM_TYPE, ISSUER, OTHER_ISSUER, OVER_TLS, pinPath, TOKEN_PATH } from './support/world.js'

const own = useWorld()
const shown = (events: readonly AuditEvent[]) =>
  events.map(({ refusal, omitted }) => (omitted === undefined ? refusal?.reason : omitted))

/** The wait for the end of a second is no matter of the service's clock: it must not keep a process alive. */
beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())
const theSecondIsOver = async (): Promise<void> => {
  await vi.advanceTimersByTimeAsync(1000)
}

const clock = new ManualClock()
const handlerWith = (more: object = {}): EndpointHandler =>
  own.world.handler({ clock, strangerEventsPerSecond: undefined, ...more })
async function flood(handler: EndpointHandler, count: number): Promise<void> {
  for (let i = 0; i < count; i++) expect((await handler(get(pinPath('card-1')))).status).toBe(401)
}
const byCaller = async (): Promise<Request> =>
  get(pinPath('card-1'), { headers: await own.world.authorized() })

describe('events of strangers', () => {
  test('a hundred in a second are told one by one, and the others by one event when it is over', async () => {
    const handler = handlerWith()
    await flood(handler, 100)
    expect(vi.getTimerCount()).toBe(0)
    await clock.advance(400)
    await flood(handler, 1)
    await clock.advance(500)
    await flood(handler, 149)
    const { events } = own.world
    expect(shown(events)).toEqual(Array(100).fill('token-missing'))
    await vi.advanceTimersByTimeAsync(999)
    expect(events).toHaveLength(100)
    await vi.advanceTimersByTimeAsync(1)
    expect(events).toHaveLength(101)
    expect(own.world.last).toEqual({
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      requestId: expect.any(String),
      sequence: 251,
      outcome: 'refused',
      status: 401,
      refusal: { reason: 'omitted' },
      omitted: 150,
      keys: [],
      durationMs: 500,
    })
    expect(otelAttributes(own.world.last)).toMatchObject({
      'd1.omitted': 150,
      'd1.refusal.reason': 'omitted',
    })
    await theSecondIsOver()
    expect(events).toHaveLength(101)
  })

  test('a new second has room for as many, and says first what the one before left out', async () => {
    const handler = handlerWith({ strangerEventsPerSecond: 2 })
    await flood(handler, 3)
    await clock.advance(999)
    await flood(handler, 1)
    await clock.advance(1)
    await flood(handler, 3)
    const reason = 'token-missing'
    expect(shown(own.world.events)).toEqual([reason, reason, 2, reason, reason])
    await theSecondIsOver()
    expect(shown(own.world.events).slice(5)).toEqual([1])
  })

  test('every request of a known caller is an event, in the midst of them, also where it is refused', async () => {
    const handler = handlerWith({ strangerEventsPerSecond: 1 })
    for (let i = 0; i < 5; i++) {
      await flood(handler, 10)
      await handler(await byCaller())
      await handler(put('{', { headers: await own.world.authorized({ 'content-type': 'application/json' }) }))
      const token = { method: 'POST', headers: { authorization: basic(), ...FORM_TYPE }, body: '' }
      await handler(get(TOKEN_PATH, token))
    }
    const known = [undefined, 'message', 'token-request']
    expect(shown(own.world.events)).toEqual(['token-missing', ...Array(5).fill(known).flat()])
    await handler.settled?.()
    expect(own.world.last.omitted).toBe(49)
  })

  test.each([
    ['an issuer that is none', 'issuer-unknown', pinPath('card-1', 'is_nobody9')],
    ['an issuer that is not its own', 'caller-issuer', pinPath('card-1', OTHER_ISSUER)],
    ['a card id that is none', 'card-id', pinPath('a.b')],
    ['more than its rate', 'rate', pinPath('card-1')],
  ])('a known caller that asks for %s is no stranger', async (_what, reason, path) => {
    const { seccos: _, ...other } = own.world.issuer()
    const issuers = { [ISSUER]: own.world.issuer(), [OTHER_ISSUER]: other }
    const rates = { take: () => reason !== 'rate' }
    const handler = handlerWith({ strangerEventsPerSecond: 1, issuers, rates })
    await flood(handler, 2)
    const headers = await own.world.authorized()
    for (let i = 0; i < 3; i++) await handler(get(path, { headers }))
    expect(shown(own.world.events)).toEqual(['token-missing', reason, reason, reason])
    await handler.settled?.()
  })

  test('all kinds count: no route, no TLS, no token, a bad one, no secret, no HTTP', async () => {
    const handler = handlerWith({ strangerEventsPerSecond: 1 })
    await flood(handler, 1)
    await handler(get('/nowhere'))
    await handler(get(pinPath('card-1')), { ...OVER_TLS, encrypted: false })
    await handler(get(pinPath('card-1'), { headers: { authorization: 'Bearer bad' } }))
    await handler(
      get(TOKEN_PATH, { method: 'POST', headers: FORM_TYPE, body: 'grant_type=client_credentials' }),
    )
    expect(await handler.unreadable?.(OVER_TLS, { code: 'HPE_INVALID_METHOD' })).toBe(400)
    await handler.settled?.()
    expect(shown(own.world.events)).toEqual(['token-missing', 5])
  })

  test('one that could not be judged shows in the status of those that are left out', async () => {
    const tokens = { verify: () => Promise.reject(new Error('away')) }
    const callers = [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: ['d1'] }]
    const authorization = { callers, tokens }
    const handler = handlerWith({ authorization, strangerEventsPerSecond: 1 })
    await flood(handler, 2)
    expect((await handler(await byCaller())).status).toBe(500)
    await flood(handler, 1)
    await handler.settled?.()
    expect(own.world.last).toMatchObject({ omitted: 3, status: 500, outcome: 'failed' })
  })

  test('where nobody is asked who they are, who finds the way is no stranger', async () => {
    const open = { authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined }
    const handler = handlerWith({ ...open, strangerEventsPerSecond: 1 })
    for (let i = 0; i < 3; i++) await handler(get(pinPath('card-1')))
    for (let i = 0; i < 3; i++) await handler(get('/nowhere'))
    await handler.settled?.()
    expect(shown(own.world.events)).toEqual([undefined, undefined, undefined, 'route', 2])
  })

  test('metrics hear of each, and of none twice', async () => {
    const seen: AuditEvent[] = []
    const listen = (event: unknown): void => void seen.push(event as AuditEvent)
    subscribe('issuer-pin-crypto:d1.endpoints', listen)
    const handler = handlerWith({ strangerEventsPerSecond: 1 })
    await flood(handler, 5)
    await handler.settled?.()
    unsubscribe('issuer-pin-crypto:d1.endpoints', listen)
    expect(shown(seen)).toEqual(Array(5).fill('token-missing'))
    expect(shown(own.world.events)).toEqual(['token-missing', 4])
  })
})

describe('where an event must be durable before its answer', () => {
  const required = (audit: object | undefined): EndpointHandler =>
    handlerWith({ auditRequired: true, strangerEventsPerSecond: 1, audit })

  test('the event of those that are left out is a link of the chain', async () => {
    const key = randomBytes(32)
    const lines: string[] = []
    const handler = required(chainedAudit({ key, write: async line => void lines.push(line) }))
    await flood(handler, 3)
    await handler(await byCaller())
    await theSecondIsOver()
    expect((await handler(await byCaller())).status).toBe(200)
    expect(await verifyAuditChain({ lines, key })).toMatchObject({ intact: true, lines: 4 })
    expect(lines.map(line => JSON.parse(line).event.omitted)).toEqual([undefined, undefined, 2, undefined])
  })

  test('what cannot be recorded is counted on, until it can', async () => {
    let broken = false
    const events: AuditEvent[] = []
    const handler = required(async (event: AuditEvent) => {
      if (broken) throw new Error('the disk is full')
      events.push(event)
    })
    await flood(handler, 3)
    broken = true
    await theSecondIsOver()
    await flood(handler, 2)
    await theSecondIsOver()
    broken = false
    await theSecondIsOver()
    expect(shown(events)).toEqual(['token-missing', 4])
  })

  test('what fails late goes before what was counted meanwhile', async () => {
    const { until, release } = held()
    const events: AuditEvent[] = []
    let broken = true
    const handler = required(async (event: AuditEvent) => {
      if (event.omitted !== undefined && broken) {
        await until
        throw new Error('the disk is full')
      }
      events.push(event)
    })
    await flood(handler, 3)
    await theSecondIsOver()
    await clock.advance(500)
    await flood(handler, 1)
    release()
    await until
    broken = false
    await handler.settled?.()
    expect(events.at(-1)).toMatchObject({ omitted: 3, durationMs: 500 })
  })

  test('what was counted while the audit hung is told when it goes on, with nobody’s help', async () => {
    const { until, release } = held()
    const events: AuditEvent[] = []
    const handler = required(async (event: AuditEvent) => {
      if (event.omitted !== undefined) await until
      events.push(event)
    })
    await flood(handler, 3)
    await theSecondIsOver()
    await flood(handler, 2)
    await theSecondIsOver()
    release()
    await theSecondIsOver()
    await theSecondIsOver()
    expect(shown(events)).toEqual(['token-missing', 2, 2])
  })

  test('one at a time, where the audit hangs; at the end nothing is left untold', async () => {
    const { until, release } = held()
    const events: AuditEvent[] = []
    let begun = 0
    const handler = required(async (event: AuditEvent) => {
      begun++
      if (event.omitted !== undefined) await until.then(() => new Promise(resolve => setImmediate(resolve)))
      events.push(event)
    })
    await flood(handler, 3)
    for (let second = 0; second < 5; second++) {
      await theSecondIsOver()
      await flood(handler, 2)
    }
    expect(begun).toBe(2)
    const end = handler.settled?.()
    release()
    await end
    expect(shown(events)).toEqual(['token-missing', 2, 10])
  })
})
