/** The parts of the endpoints one by one: options, audit events, deadlines, queue, listener. No sockets. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, Readable } from 'node:stream'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { JSON_BODY, readBody } from '../../../src/d1/endpoints/body.js'
import { type EndpointClock, withDeadline } from '../../../src/d1/endpoints/deadline.js'
import {
  type AuditEvent,
  answerClientError,
  type EndpointHandler,
  nodeListener,
  otelAttributes,
} from '../../../src/d1/endpoints/index.js'
import { KeyedMutex } from '../../../src/d1/endpoints/mutex.js'
import { Refusal } from '../../../src/d1/endpoints/refusal.js'
import { BackendError, importRecipient, KeyError, Pan } from '../../../src/index.js'
import { failure } from '../../support/errors.js'
import { Wire } from './support/wire.js'
import {
  basic,
  CANARY,
  CLIENT,
  counterPath,
  FORM_TYPE,
  ISSUER,
  JSON_TYPE,
  NEW_PIN,
  PANS,
  pinPath,
  TOKEN_PATH,
  World,
} from './support/world.js'

const ORIGIN = 'https://issuer.test'
let world: World
let handler: EndpointHandler

beforeAll(async () => {
  world = await World.open()
  handler = world.handler({ authorization: 'mtls-only', tokenEndpoint: undefined })
})
afterAll(() => world[Symbol.asyncDispose]())
beforeEach(() => {
  world.events.length = 0
  world.causes.length = 0
})

const get = (path: string, init?: RequestInit): Request => new Request(ORIGIN + path, init)
const put = (body: string, init?: object, path = pinPath('card-1')): Request =>
  get(path, { method: 'PUT', headers: JSON_TYPE, body, ...init })
const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

describe('options', () => {
  const rows: Readonly<Record<string, (world: World) => object>> = {
    'no issuers': () => ({ issuers: undefined }),
    'an empty set of issuers': () => ({ issuers: {} }),
    'an issuerId of 9 characters': () => ({ issuers: { is_tbank0: world.issuer() } }),
    'an issuerId with a slash': () => ({ issuers: { 'is/tbank01': world.issuer() } }),
    'an issuer that is none': () => ({ issuers: { [ISSUER]: null } }),
    'an unknown member of an issuer': () => ({ issuers: { [ISSUER]: { ...world.issuer(), card: {} } } }),
    'no directory': () => ({ issuers: { [ISSUER]: world.issuer({ cards: {} as never }) } }),
    'no store': () => ({ issuers: { [ISSUER]: world.issuer({ pins: null as never }) } }),
    'half a store': () => ({ issuers: { [ISSUER]: world.issuer({ pins: { readBlock() {} } as never }) } }),
    'no keys': () => ({ issuers: { [ISSUER]: world.issuer({ jweKeys: [] }) } }),
    'keys for something else': () => ({ issuers: { [ISSUER]: world.issuer({ jweKeys: world.keys.zpk }) } }),
    'a key twice': () => ({
      issuers: { [ISSUER]: world.issuer({ jweKeys: [world.keys.jwe, world.keys.jwe] }) },
    }),
    'neither iso0 nor seccos': () => ({
      issuers: { [ISSUER]: { ...world.issuer(), iso0: undefined, seccos: undefined } },
    }),
    'an unknown translation': () => iso0({ translation: 'none' }),
    'no ZPK': () => iso0({ d1Zpk: undefined }),
    'a MAC key as storage key': () => iso0({ storage: world.keys.mac }),
    'no profile': () => seccos({ profile: {} }),
    'no MAC key': () => seccos({ macKeys: [] }),
    'a PIN key as MAC key': () => seccos({ macKeys: world.keys.zpk }),
    'no PRW key': () => seccos({ prwKids: [] }),
    'PRW keys that are no list': () => seccos({ prwKids: 'PRW-1' }),
    'no counter': () => seccos({ counter: {} }),
    'one counter for two issuers': () => ({
      issuers: { [ISSUER]: world.issuer(), is_tbank02: world.issuer() },
    }),
    'no authorization': () => ({ authorization: undefined }),
    'another authorization': () => ({ authorization: 'none' }),
    'bearer without a verifier': () => ({ authorization: { bearer: {} } }),
    'tokens for nobody': () => ({ authorization: 'mtls-only' }),
    'no token issuer': () => tokenEndpoint({ tokens: {} }),
    'no clients': () => tokenEndpoint({ clients: [] }),
    'clients that are no list': () => tokenEndpoint({ clients: CLIENT }),
    'a short secret': () => tokenEndpoint({ clients: [{ clientId: 'd1', clientSecret: 'x'.repeat(15) }] }),
    'a secret with a colon': () =>
      tokenEndpoint({ clients: [{ clientId: 'd1', clientSecret: `:${'x'.repeat(16)}` }] }),
    'no client id': () => tokenEndpoint({ clients: [{ clientSecret: 'x'.repeat(16) }] }),
    'a scope with a space': () => tokenEndpoint({ scopes: ['a b'] }),
    'scopes that are no list': () => tokenEndpoint({ scopes: 'a' }),
    'no audit': () => ({ audit: undefined }),
    'half a clock': () => ({ clock: { now: () => 0 } }),
    'a prefix without slash': () => ({ prefix: 'api' }),
    'a prefix with a slash at its end': () => ({ prefix: '/api/' }),
    'a prefix with an escape': () => ({ prefix: '/a%20b' }),
    'a prefix that is no text': () => ({ tokenPrefix: 7 }),
    'an empty segment': () => ({ tokenPrefix: '/a//b' }),
    'no time': () => ({ timeoutMs: 0 }),
    'too much time': () => ({ bodyTimeoutMs: 600_001 }),
    'a misspelt option': () => ({ timeout: 1000 }),
  }
  const iso0 = (more: object) => ({
    issuers: { [ISSUER]: world.issuer({ iso0: { ...world.issuer().iso0, ...more } as never }) },
  })
  const seccos = (more: object) => ({
    issuers: { [ISSUER]: world.issuer({ seccos: { ...world.issuer().seccos, ...more } as never }) },
  })
  const tokenEndpoint = (more: object) => ({
    tokenEndpoint: { tokens: world.tokens, clients: [CLIENT], ...more },
  })

  test.each(Object.entries(rows))('%s: ERR_ARGUMENT', async (_what, more) => {
    await failure(() => world.handler(more(world)), 'ERR_ARGUMENT', [CLIENT.clientSecret, 'x'.repeat(15)])
  })

  test('an unusable public key of D1 is found at the start', async () => {
    await failure(() => world.handler(iso0({ d1PublicJwk: { kty: 'EC' } })), 'ERR_JWE_RECIPIENT')
  })

  test('a recipient that is imported already serves; one without kid does not', async () => {
    const { kid, ...jwk } = world.d1.publicJwk
    const answer = world.handler(iso0({ d1PublicJwk: importRecipient({ ...jwk, kid }) }))
    const request = get(pinPath('card-1'), { headers: await world.authorized() })
    expect((await answer(request)).status).toBe(200)
    await failure(() => world.handler(iso0({ d1PublicJwk: importRecipient(jwk) })), 'ERR_ARGUMENT')
  })

  test('prefixes come before the paths, and nothing else does', async () => {
    const answer = world.handler({ prefix: '/a.b/-c', tokenPrefix: '' })
    const headers = await world.authorized()
    expect((await answer(get(`/a.b/-c${pinPath('card-1')}`, { headers }))).status).toBe(200)
    expect((await answer(get(`/aXb/-c${pinPath('card-1')}`, { headers }))).status).toBe(404)
    expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(404)
    expect((await answer(get('/oauth2/token'))).status).toBe(400)
    expect((await answer(get(TOKEN_PATH))).status).toBe(404)
  })

  test('without a token endpoint its path does not exist', async () => {
    const request = get(TOKEN_PATH, { method: 'POST', headers: { authorization: basic() } })
    expect((await handler(request)).status).toBe(404)
  })

  test('scopes that are configured are granted and stated', async () => {
    const answer = world.handler(tokenEndpoint({ scopes: ['pin', 'pin.write'] }))
    const headers = { ...FORM_TYPE, authorization: basic() }
    const body = 'grant_type=client_credentials&scope=other'
    const response = await answer(get(TOKEN_PATH, { method: 'POST', headers, body }))
    expect(await response.json()).toMatchObject({ scope: 'pin pin.write' })
  })

  test('an issuer without iso0 or without seccos refuses what it does not offer', async () => {
    const { iso0: _iso0, ...onlySeccos } = world.issuer()
    const { seccos: _seccos, ...onlyIso0 } = world.issuer()
    const statuses = async (issuer: object): Promise<number[]> => {
      const answer = world.handler({
        issuers: { [ISSUER]: issuer as never },
        authorization: 'mtls-only',
        tokenEndpoint: undefined,
      })
      const content = world.seccosContent(await world.counter.issue('card-2'), NEW_PIN, PANS.second)
      const requests = [
        get(pinPath('card-2')),
        put(await world.iso0(NEW_PIN, PANS.second), {}, pinPath('card-2')),
        get(counterPath('card-2')),
        put(await world.d1.seal('3DES_SECCOS', content), {}, pinPath('card-2')),
      ]
      const found: number[] = []
      for (const request of requests) found.push((await answer(request)).status)
      return found
    }
    expect(await statuses(onlyIso0)).toEqual([200, 204, 403, 403])
    expect(await statuses(onlySeccos)).toEqual([403, 403, 200, 204])
    await world.issue('card-2', PANS.second, NEW_PIN)
  })
})

describe('failures of the service', () => {
  test('a card whose counter is at its end is PIN_CHANGE_FORBIDDEN', async () => {
    const counter = world.newCounter('9999')
    const { seccos } = world.issuer()
    const answer = world.handler({
      issuers: { [ISSUER]: world.issuer({ seccos: { ...seccos, counter } as never }) },
    })
    const headers = await world.authorized()
    const first = await answer(get(counterPath('card-1'), { headers }))
    const issued = (await first.json()) as { pcc: string; intdatag: string }
    const body = await world.d1.seal('3DES_SECCOS', world.seccosContent(issued))
    expect((await answer(put(body, { headers: { ...headers, ...JSON_TYPE } }))).status).toBe(204)
    const second = await answer(get(counterPath('card-1'), { headers }))
    expect(second.status).toBe(403)
    expect(await second.json()).toEqual({ errorCode: 'PIN_CHANGE_FORBIDDEN', error: 'Forbidden' })
    expect(world.last.refusal).toEqual({
      reason: 'counter-exhausted',
      code: 'ERR_CHANGE_COUNTER',
      detail: 'exhausted',
    })
    await world.issue('card-1', PANS.first, NEW_PIN)
  })

  test('a block under a key that is not here, or of another card, is 500', async () => {
    const block = new Uint8Array(8)
    world.pins.stored.set('no-pin', { block: { block, kid: 'PEK-OLD' } })
    expect((await handler(get(pinPath('no-pin')))).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'storage-key-unknown' })
    world.pins.stored.set('no-pin', { block: { block, kid: 'PEK-STORE' } })
    expect((await handler(get(pinPath('no-pin')))).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'service-failed', code: 'ERR_PIN_BLOCK' })
    world.pins.stored.delete('no-pin')
  })

  test.each(['constructor', '__proto__', 'toString', 'ACTIVE', '', null])(
    'a card in state %s is 500',
    async state => {
      world.cards.set('odd-state', {
        state: state as never,
        pan: Pan.from(PANS.first),
        setPinTypes: ['ISO0'],
      })
      for (const request of [
        get(pinPath('odd-state')),
        get(counterPath('odd-state')),
        put(await world.iso0(), {}, pinPath('odd-state')),
      ]) {
        expect((await handler(request)).status).toBe(500)
        expect(world.last.refusal).toMatchObject({ reason: 'directory-failed' })
      }
    },
  )

  test('what the directory says for the profile reaches the verb', async () => {
    const seccosCard = (pcc: string) =>
      world.cards.set('with-pcc', {
        state: 'active',
        pan: Pan.from(PANS.first),
        setPinTypes: ['3DES_SECCOS'],
        seccos: { pcc, fields: {} },
      })
    const counter = await world.counter.issue('with-pcc')
    const body = await world.d1.seal('3DES_SECCOS', world.seccosContent(counter))
    seccosCard('1234')
    expect((await handler(put(body, {}, pinPath('with-pcc')))).status).toBe(400)
    expect(world.last.refusal).toMatchObject({ code: 'ERR_D1_MESSAGE', field: 'prwDataSet' })
    seccosCard(counter.pcc)
    expect((await handler(put(body, {}, pinPath('with-pcc')))).status).toBe(204)
  })

  test('a card without a Pan is 500, whatever its number', async () => {
    world.cards.set('odd-pan', { state: 'active', pan: CANARY as never, setPinTypes: [] })
    expect((await handler(get(pinPath('odd-pan')))).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'directory-failed', code: 'ERR_ARGUMENT' })
    world.expectSilence()
  })

  test.each([
    ['a verifier that fails', 'verifier-failed', () => Promise.reject(new Error(CANARY))],
    ['no verdict', 'verifier-failed', () => Promise.reject({ code: '4929123456789012', name: 'x y' })],
  ])('%s is 500', async (_what, reason, verify) => {
    const answer = world.handler({ authorization: { bearer: { verify } } })
    const response = await answer(get(pinPath('card-1'), { headers: { authorization: 'Bearer x' } }))
    expect(response.status).toBe(500)
    expect(world.last.refusal?.reason).toBe(reason)
    world.expectSilence(await response.text())
  })

  test('a reason or a subject that is no name does not get into the event', async () => {
    const answer = (verdict: object) =>
      world.handler({ authorization: { bearer: { verify: async () => verdict as never } } })(
        get(pinPath('card-1'), { headers: { authorization: 'Bearer x' } }),
      )
    expect((await answer({ verified: false, reason: 'two\nlines' })).status).toBe(401)
    expect(world.last.refusal).toEqual({ reason: 'token-invalid' })
    expect((await answer({ verified: 'true', reason: 'truthy' })).status).toBe(401)
    expect(world.last.refusal).toEqual({ reason: 'token-invalid', detail: 'truthy' })
    expect((await answer({ verified: true, subject: 'two\nlines' })).status).toBe(200)
    expect(world.last).not.toHaveProperty('caller')
    expect((await answer({ verified: true })).status).toBe(200)
  })

  test('a token issuer that fails is 500', async () => {
    const tokens = { issue: () => Promise.reject(new Error(CANARY)) }
    const answer = world.handler({ tokenEndpoint: { tokens, clients: [CLIENT] } })
    const headers = { ...FORM_TYPE, authorization: basic() }
    const response = await answer(
      get(TOKEN_PATH, { method: 'POST', headers, body: 'grant_type=client_credentials' }),
    )
    expect([response.status, await response.json()]).toEqual([500, { error: 'server_error' }])
  })

  test('what no code of ours expects is 500 as well', async () => {
    const broken = { signal: new AbortController().signal, url: 'no url', headers: new Headers() }
    expect((await handler(broken as never)).status).toBe(500)
    expect(world.last).toMatchObject({
      outcome: 'failed',
      refusal: { reason: 'service-failed', code: 'ERR_INVALID_URL' },
    })
    expect((await handler({ url: ORIGIN } as never)).status).toBe(500)
  })

  test('a backend that is closed is 500', async () => {
    await using other = await World.open()
    const answer = other.handler({ authorization: 'mtls-only', tokenEndpoint: undefined })
    await other.backend.close()
    for (const request of [get(pinPath('card-1')), get(counterPath('card-1')), put(await other.iso0())]) {
      expect((await answer(request)).status).toBe(500)
      expect(other.last.refusal).toEqual({ reason: 'service-failed', code: 'ERR_BACKEND_CLOSED' })
    }
  })
})

describe('time', () => {
  const never = new Promise<never>(() => {})

  test('a directory that hangs is 500 in time', async () => {
    const cards = { find: () => never }
    const answer = world.handler({ issuers: { [ISSUER]: world.issuer({ cards }) }, timeoutMs: 30 })
    const headers = await world.authorized()
    expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'timeout' })
  })

  test('the directory is told by the signal, and what it then throws is the timeout', async () => {
    const cards = {
      find: (_: object, { signal }: { signal?: AbortSignal }) =>
        new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(new Error('late')))),
    }
    const answer = world.handler({ issuers: { [ISSUER]: world.issuer({ cards }) }, timeoutMs: 30 })
    const request = get(pinPath('card-1'), { headers: await world.authorized() })
    expect((await answer(request)).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'timeout' })
  })

  test('a store that hangs is 500 in time, and the card waits until it is done', async () => {
    let release = (): void => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    const stored: string[] = []
    const pins = {
      readBlock: async () => undefined,
      storePrw: async () => {},
      storeBlock: async () => {
        stored.push('begun')
        await held
        stored.push('done')
      },
    }
    const answer = world.handler({ issuers: { [ISSUER]: world.issuer({ pins }) }, timeoutMs: 60 })
    const headers = await world.authorized(JSON_TYPE)
    const both = [put(await world.iso0(), { headers }), put(await world.iso0(), { headers })].map(answer)
    expect((await Promise.all(both)).map(({ status }) => status)).toEqual([500, 500])
    expect(stored).toEqual(['begun'])
    release()
    await sleep(5)
    // The second was late before its turn came, so it was not begun.
    expect(stored).toEqual(['begun', 'done'])
    expect((await answer(put(await world.iso0(), { headers }))).status).toBe(204)
  })

  test('a client that is gone before the store: nothing is stored', async () => {
    const client = new AbortController()
    const cards = {
      find: async () => {
        client.abort()
        return { state: 'active', pan: Pan.from(PANS.first), setPinTypes: ['ISO0'] } as const
      },
    }
    const answer = world.handler({ issuers: { [ISSUER]: world.issuer({ cards }) } })
    const { writes } = world.pins
    const headers = await world.authorized(JSON_TYPE)
    expect((await answer(put(await world.iso0(), { headers, signal: client.signal }))).status).toBe(400)
    expect(world.last.refusal).toEqual({ reason: 'client-gone' })
    expect(world.pins.writes).toBe(writes)
  })

  test('a client that is gone while it is stored: it is stored, and the event says so', async () => {
    const client = new AbortController()
    world.pins.before = async () => client.abort()
    expect((await handler(put(await world.iso0(), { signal: client.signal }))).status).toBe(204)
    expect(world.last.outcome).toBe('success')
    world.pins.before = async () => {}
  })

  test('a client that was gone from the start', async () => {
    expect((await handler(put(await world.iso0(), { signal: AbortSignal.abort() }))).status).toBe(400)
    expect(world.last.refusal).toEqual({ reason: 'client-gone' })
  })

  test('no timer and no listener is left behind', async () => {
    let timers = 0
    const clock: EndpointClock = {
      now: () => 7,
      after: () => {
        timers++
        return () => {
          timers--
        }
      },
    }
    const { signal } = new AbortController()
    const add = vi.spyOn(signal, 'addEventListener')
    const remove = vi.spyOn(signal, 'removeEventListener')
    const deadline = { clock, milliseconds: 1, reason: 'timeout', parent: signal } as const
    expect(await withDeadline(deadline, async () => 1)).toBe(1)
    await expect(withDeadline(deadline, () => Promise.reject(new Error('x')))).rejects.toThrow('x')
    expect([timers, add.mock.calls.length, remove.mock.calls.length]).toEqual([0, 2, 2])
  })

  test('an injected clock decides', async () => {
    let ring = (): void => {}
    let now = 1000
    const clock: EndpointClock = {
      now: () => now,
      after: (_milliseconds, callback) => {
        ring = callback
        return () => {}
      },
    }
    const cards = { find: () => never }
    const answer = world.handler({ issuers: { [ISSUER]: world.issuer({ cards }) }, clock })
    const response = answer(get(pinPath('card-1'), { headers: await world.authorized() }))
    await sleep(5)
    now = 1234
    ring()
    expect((await response).status).toBe(500)
    expect(world.last.durationMs).toBe(234)
  })
})

describe('bodies', () => {
  const stream = (start: (controller: ReadableStreamDefaultController) => unknown) =>
    ({ body: new ReadableStream({ start: controller => void start(controller) }), duplex: 'half' }) as const

  test('none, one that was read, one that breaks, one that is not bytes', async () => {
    expect((await handler(get(pinPath('card-1'), { method: 'PUT', headers: JSON_TYPE }))).status).toBe(400)
    const read = put(await world.iso0())
    read.body?.getReader()
    expect((await handler(read)).status).toBe(400)
    expect(world.last.refusal).toEqual({ reason: 'body-broken', code: 'ERR_INVALID_STATE' })
    expect(
      (
        await handler(
          put(
            '',
            stream(controller => controller.error(new Error(CANARY))),
          ),
        )
      ).status,
    ).toBe(400)
    expect(world.last.refusal).toEqual({ reason: 'body-broken', code: 'Error' })
    expect(
      (
        await handler(
          put(
            '',
            stream(controller => controller.enqueue('text')),
          ),
        )
      ).status,
    ).toBe(400)
    expect(world.last.refusal).toEqual({ reason: 'body-broken' })
  })

  test('are not read any more once the signal has fired, and never by half', async () => {
    const whole = new TextEncoder().encode('{}')
    const reason = new Refusal('timeout')
    const late = put(
      '',
      stream(controller => controller.enqueue(whole)),
    )
    await expect(readBody(late, JSON_BODY, AbortSignal.abort(reason))).rejects.toBe(reason)
    const controller = new AbortController()
    const reading = readBody(
      put(
        '',
        stream(source => source.enqueue(whole)),
      ),
      JSON_BODY,
      controller.signal,
    )
    setTimeout(() => controller.abort(reason), 5)
    await expect(reading).rejects.toBe(reason)
  })

  test('of the longest length are read, and one byte more is not', async () => {
    for (const [bytes, reason] of [
      [16_384, 'message'],
      [16_385, 'body-size'],
    ] as const) {
      const body = new ReadableStream({
        start(controller) {
          for (const length of [10_000, bytes - 10_000]) controller.enqueue(new Uint8Array(length))
          controller.close()
        },
      })
      expect((await handler(put('', { body, duplex: 'half' }))).status).toBe(400)
      expect(world.last.refusal?.reason).toBe(reason)
    }
  })

  test('what has come of a body whose client is gone is not taken for the whole', async () => {
    const client = new AbortController()
    const whole = new TextEncoder().encode(await world.iso0())
    const { writes } = world.pins
    const { body, duplex } = stream(controller => {
      controller.enqueue(whole)
      setTimeout(() => client.abort(), 5)
      return new Promise(() => {})
    })
    expect((await handler(put('', { body, duplex, signal: client.signal }))).status).toBe(400)
    expect(world.last.refusal).toEqual({ reason: 'client-gone' })
    expect(world.pins.writes).toBe(writes)
  })

  test('a source whose cancellation fails or hangs changes nothing', async () => {
    for (const cancel of [() => Promise.reject(new Error(CANARY)), () => new Promise<void>(() => {})]) {
      const body = new ReadableStream({
        pull: controller => controller.enqueue(new Uint8Array(20_000)),
        cancel,
      })
      expect((await handler(put('', { body, duplex: 'half' }))).status).toBe(400)
      expect(world.last.refusal).toEqual({ reason: 'body-size' })
    }
  })
})

describe('the queue', () => {
  const { signal } = new AbortController()

  test('keeps order under a key, runs keys side by side, and forgets them', async () => {
    const mutex = new KeyedMutex()
    const log: string[] = []
    const task = (name: string, ms: number) => async () => {
      log.push(`${name}+`)
      await sleep(ms)
      log.push(`${name}-`)
    }
    const all = [
      mutex.run('a', signal, task('1', 20)),
      mutex.run('a', signal, task('2', 1)),
      mutex.run('b', signal, task('3', 1)),
      mutex.run('a', signal, () => Promise.reject(new Error('x'))).catch(() => log.push('x')),
      mutex.run('a', signal, task('4', 1)),
    ]
    expect(mutex.size).toBe(2)
    await Promise.all(all)
    expect(log).toEqual(['1+', '3+', '3-', '1-', '2+', '2-', 'x', '4+', '4-'])
    expect(mutex.size).toBe(0)
  })

  test('does not run what is too late, and refuses what is too much', async () => {
    const mutex = new KeyedMutex()
    const late = new AbortController()
    const task = vi.fn(async () => {})
    const first = mutex.run('a', signal, () => sleep(10))
    const second = mutex.run('a', late.signal, task)
    late.abort(new Error('late'))
    const more = Array.from({ length: 30 }, () => mutex.run('a', signal, async () => {}))
    await expect(mutex.run('a', signal, task)).rejects.toMatchObject({ reason: 'card-busy' })
    await expect(second).rejects.toThrow('late')
    await Promise.all([first, ...more])
    expect(task).not.toHaveBeenCalled()
    expect(mutex.size).toBe(0)
  })

  test('a card with too many Set PINs is 500', async () => {
    let release = (): void => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    world.pins.before = () => held
    const body = await world.iso0()
    const answers = Array.from({ length: 33 }, () => handler(put(body)))
    expect(await Promise.race(answers)).toMatchObject({ status: 500 })
    expect(world.last.refusal).toEqual({ reason: 'card-busy' })
    release()
    const statuses = (await Promise.all(answers)).map(({ status }) => status)
    expect(statuses.filter(status => status === 204)).toHaveLength(32)
    world.pins.before = async () => {}
  })
})

describe('audit', () => {
  test.each([
    ['throws', () => expect.fail('audit')],
    ['rejects', () => Promise.reject(new Error('audit'))],
  ])('a hook that %s does not change the answer; the process is warned once', async (_what, audit) => {
    const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const answer = world.handler({ audit })
    const headers = await world.authorized()
    for (let i = 0; i < 3; i++) {
      expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(200)
    }
    expect(emitWarning.mock.calls).toEqual([
      ['the audit hook of the issuer endpoints failed', 'IssuerPinWarning'],
    ])
    emitWarning.mockRestore()
  })

  test('a hook that hangs does not hold the answer up', async () => {
    const answer = world.handler({ audit: () => new Promise(() => {}) })
    expect((await answer(get(pinPath('card-1')))).status).toBe(401)
  })

  test('the error behind a refusal goes to the hook, beside the event', async () => {
    await handler(get(pinPath('directory-fails')))
    expect(world.last.refusal).toEqual({ reason: 'directory-failed', code: '53300' })
    expect(world.causes).toEqual([expect.objectContaining({ message: CANARY })])
    world.expectSilence()
  })

  test.each([
    [
      'a key that is refused',
      new KeyError('ERR_KEY_USAGE', 'x', 'PEK-STORE'),
      { code: 'ERR_KEY_USAGE', detail: 'PEK-STORE' },
    ],
    [
      'a call of a token',
      Object.assign(new BackendError('ERR_PKCS11_CALL', 'x'), { returnValueName: 'CKR_DEVICE_ERROR' }),
      { code: 'ERR_PKCS11_CALL', detail: 'CKR_DEVICE_ERROR' },
    ],
    [
      'a foreign error with a number for a code',
      Object.assign(new Error(CANARY), { code: 42 }),
      { code: 'Error' },
    ],
    [
      'a foreign code with data in it',
      Object.assign(new RangeError(CANARY), { code: 'CARD_4929123456789012' }),
      { code: 'RangeError' },
    ],
    ['a name that is a sentence', Object.assign(new Error('x'), { name: CANARY }), {}],
    [
      'fields of a foreign error',
      Object.assign(new Error('x'), { field: CANARY, kid: CANARY, reason: CANARY }),
      { code: 'Error' },
    ],
    ['a string', CANARY, {}],
    ['nothing', undefined, {}],
    ['null', null, {}],
  ])('of %s the event has names only', async (_what, error, expected) => {
    const cards = { find: () => Promise.reject(error) }
    const answer = world.handler({ issuers: { [ISSUER]: world.issuer({ cards }) } })
    expect((await answer(get(pinPath('card-1'), { headers: await world.authorized() }))).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'directory-failed', ...expected })
  })

  test('an event as OpenTelemetry attributes', async () => {
    const event: AuditEvent = {
      operation: 'SetPIN',
      outcome: 'refused',
      status: 400,
      issuerId: ISSUER,
      cardId: 'card-1',
      correlationId: 'run-1',
      caller: 'd1',
      pinType: '3DES_SECCOS',
      replayed: false,
      refusal: { reason: 'message', code: 'ERR_CHANGE_COUNTER', field: 'intdatag', detail: 'spent' },
      keys: [
        { role: 'jwe', kid: 'JWE-1', checkValue: 'abc' },
        { role: 'd1-public', kid: 'D1' },
      ],
      durationMs: 1.5,
    }
    expect(otelAttributes(event)).toEqual({
      'd1.operation': 'SetPIN',
      'd1.outcome': 'refused',
      'http.response.status_code': 400,
      'd1.issuer.id': ISSUER,
      'd1.card.id': 'card-1',
      'd1.correlation.id': 'run-1',
      'd1.caller': 'd1',
      'd1.pin.type': '3DES_SECCOS',
      'd1.pin.replayed': false,
      'd1.refusal.reason': 'message',
      'd1.refusal.field': 'intdatag',
      'd1.refusal.detail': 'spent',
      'error.type': 'ERR_CHANGE_COUNTER',
      'd1.key.role': ['jwe', 'd1-public'],
      'd1.key.id': ['JWE-1', 'D1'],
      'd1.key.check_value': ['abc', ''],
      'd1.duration_ms': 1.5,
    })
    const bare: AuditEvent = {
      outcome: 'refused',
      status: 404,
      refusal: { reason: 'route' },
      keys: [],
      durationMs: 0,
    }
    expect(otelAttributes(bare)).toMatchObject({ 'error.type': 'route', 'd1.outcome': 'refused' })
    expect(otelAttributes({ outcome: 'success', status: 204, keys: [], durationMs: 0 })).not.toHaveProperty(
      'error.type',
    )
  })

  test('a refusal knows its row of the table', () => {
    expect(new Refusal('card-unknown').rule).toEqual({ status: 404 })
  })
})

describe('the listener for Node', () => {
  const message = (more: object): IncomingMessage =>
    Object.assign(Readable.from([]), {
      method: 'GET',
      url: '/',
      rawHeaders: [],
      complete: true,
      httpVersion: '1.1',
      ...more,
    }) as never
  const answerTo = async (incoming: IncomingMessage, answer: EndpointHandler): Promise<ServerResponse> => {
    const outgoing = new ServerResponse(incoming)
    outgoing.assignSocket(new PassThrough() as never)
    nodeListener(answer)(incoming, outgoing)
    await new Promise(resolve => outgoing.once('close', resolve))
    return outgoing
  }
  const ok: EndpointHandler = async () => new Response('{}')

  test('closes the connection where the handler, or the Web, refuses to go on', async () => {
    const failing = await answerTo(message({}), () => Promise.reject(new Error('x')))
    expect([failing.destroyed, failing.headersSent]).toEqual([true, false])
    const header = await answerTo(message({ rawHeaders: ['x', 'a\r\nb'] }), ok)
    expect([header.destroyed, header.headersSent]).toEqual([true, false])
    const nothing = await answerTo(message({ rawHeaders: ['x'], method: undefined, url: undefined }), ok)
    expect(nothing.headersSent).toBe(false)
  })

  test('a client that hangs up is told to the handler, one that has its answer is not', async () => {
    let request: Request | undefined
    const wire = await new Wire(async given => {
      request = given
      if (given.url.endsWith('/quick')) return new Response('{}')
      await new Promise(resolve => given.signal.addEventListener('abort', resolve))
      return new Response('{}')
    }).open()
    await wire.ask('/quick')
    await sleep(20)
    expect(request?.signal.aborted).toBe(false)
    const socket = wire.connect()
    socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
    await expect.poll(() => request?.url).toContain('/slow')
    socket.destroy()
    await expect.poll(() => request?.signal.aborted).toBe(true)
    await wire.close()
  })

  test('a body that somebody else has read is an empty one', async () => {
    const incoming = message({ method: 'PUT' })
    incoming.resume()
    await new Promise(resolve => incoming.once('end', resolve))
    let text = 'not read'
    const outgoing = new ServerResponse(incoming)
    outgoing.assignSocket(new PassThrough() as never)
    const done = new Promise<void>(resolve => {
      nodeListener(async request => {
        text = await request.text()
        resolve()
        return new Response(null, { status: 204 })
      })(incoming, outgoing)
    })
    await done
    expect(text).toBe('')
  })

  test('a client error on a connection that is closed already is not answered', () => {
    const open = new PassThrough()
    answerClientError(new Error('x'), open)
    expect(String(open.read())).toBe(
      'HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n' +
        'Content-Length: 23\r\nConnection: close\r\n\r\n{"error":"Bad request"}',
    )
    const closed = new PassThrough().end()
    answerClientError(new Error('x'), closed)
    expect(closed.destroyed).toBe(true)
  })
})

test('whatever comes, the handler answers within the contract, with one event and no secret', async () => {
  const answer = world.handler()
  const { authorization = '' } = await world.authorized()
  const segment = fc.oneof(
    fc.string(),
    fc.constantFrom('..', '.', ISSUER, 'card-1', 'pin', '%2e%2e', 'issuers', ''),
  )
  const path = fc.oneof(
    fc.constantFrom(pinPath('card-1'), counterPath('card-1'), TOKEN_PATH),
    fc.array(segment, { maxLength: 10 }).map(parts => `/${parts.join('/')}`),
  )
  const request = fc.record({
    path,
    method: fc.constantFrom('GET', 'PUT', 'POST', 'DELETE', 'HEAD'),
    authorization: fc.oneof(
      fc.constantFrom(authorization, basic()),
      fc.base64String().map(text => `Bearer ${text}`),
    ),
    type: fc.constantFrom('application/json', FORM_TYPE['content-type'], ''),
    correlation: fc.stringMatching(/^[\x21-\x7e]*$/),
    body: fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .record({ type: fc.constantFrom('ISO0', '3DES_SECCOS'), encryptedPinBlock: fc.string() })
        .map(value => JSON.stringify(value)),
    ),
  })
  await fc.assert(
    fc.asyncProperty(request, async ({ path, method, authorization, type, correlation, body }) => {
      world.events.length = 0
      const headers = { authorization, 'content-type': type, 'x-correlation-id': correlation }
      const bodiless = method === 'GET' || method === 'HEAD'
      const response = await answer(
        new Request(ORIGIN + path, { method, headers, ...(!bodiless && { body }) }),
      )
      expect([200, 204, 400, 401, 403, 404]).toContain(response.status)
      expect(world.events).toHaveLength(1)
      const text = await response.text()
      if (response.status >= 400) expect(text.length).toBeLessThan(80)
      world.expectSilence(text)
    }),
    { numRuns: 500 },
  )
})
