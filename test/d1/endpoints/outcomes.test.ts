/** What goes out and what the operator is told, to the last member; what a deadline and a verdict leave behind. */
import { getEventListeners } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import { Ending } from '../../../src/base/deadline.js'
import { auditEvent } from '../../../src/d1/endpoints/audit.js'
import { JSON_BODY, readBody } from '../../../src/d1/endpoints/http.js'
import { Refusal, withDeadline } from '../../../src/d1/endpoints/refusal.js'
import { judgeToken, TokenMemory } from '../../../src/d1/endpoints/token-verdict.js'
import { softwareBackend } from '../../../src/software.js'
import { get, put, useWorld } from './support/direct.js'
import {
  basic,
  byToken,
  counterPath,
  FORM_TYPE,
  ISSUER,
  JSON_TYPE,
  pinPath,
  TOKEN_PATH,
} from './support/world.js'

const own = useWorld()
const FORBIDDEN = '{"error":"Forbidden"}'
const coded = (errorCode: string) => `{"errorCode":"${errorCode}","error":"Forbidden"}`

describe('the states of a card', () => {
  const ask = {
    getPIN: (card: string) => get(pinPath(card)),
    getPINChangeCounter: (card: string) => get(counterPath(card)),
    ISO0: async (card: string) => put(await own.world.iso0(), {}, pinPath(card)),
    SECCOS: async (card: string) => put(await own.world.seccos(card), {}, pinPath(card)),
  }
  test.each<[keyof typeof ask, string, number, string, string | undefined]>([
    ['getPIN', 'no-change', 403, FORBIDDEN, 'pin-not-available'],
    ['getPIN', 'not-active', 403, FORBIDDEN, 'card-not-active'],
    ['getPIN', 'nobody', 404, '{"error":"Not found"}', 'card-unknown'],
    ['getPIN', 'store-fails', 500, '{"error":"Internal server error"}', 'store-failed'],
    ['ISO0', 'card-1', 204, '', undefined],
    ['ISO0', 'no-change', 403, FORBIDDEN, 'pin-change-forbidden'],
    ['ISO0', 'not-active', 403, FORBIDDEN, 'card-not-active'],
    ['ISO0', 'seccos-only', 403, FORBIDDEN, 'pin-type'],
    ['ISO0', 'store-fails', 500, '{"error":"Internal server error"}', 'store-failed'],
    ['SECCOS', 'card-1', 204, '', undefined],
    ['SECCOS', 'iso0-only', 403, FORBIDDEN, 'pin-type'],
    ['SECCOS', 'store-fails', 500, '{"error":"Internal server error"}', 'store-failed'],
    ['getPINChangeCounter', 'no-change', 403, coded('PIN_CHANGE_FORBIDDEN'), 'pin-change-forbidden'],
    ['getPINChangeCounter', 'not-active', 403, coded('CARD_NOT_ACTIVE'), 'card-not-active'],
    ['getPINChangeCounter', 'iso0-only', 403, coded('PIN_CHANGE_FORBIDDEN'), 'pin-type'],
    ['getPINChangeCounter', 'nobody', 404, '{"error":"Not found"}', 'card-unknown'],
  ])('%s of %s: %i', async (what, card, status, body, reason) => {
    own.world.pins.stored.delete(card)
    const response = await own.handler(await ask[what](card))
    expect([response.status, await response.text()]).toEqual([status, body])
    expect(Object.fromEntries(response.headers)).toEqual({
      'cache-control': 'no-store',
      ...(body !== '' && { 'content-type': 'application/json' }),
    })
    expect(own.world.last.refusal?.reason).toBe(reason)
  })

  test('a state that is none is the directory’s fault, and its operator reads so', async () => {
    await own.handler(get(pinPath('odd-state')))
    expect(own.world.causes).toEqual([new TypeError('the card has a state that is not one')])
  })
})

describe('the keys in the event', () => {
  test('of Get PIN', async () => {
    await own.world.issue('card-1', '9999990123456789', '1234')
    await own.handler(get(pinPath('card-1')))
    const { storage, zpk } = own.world.keys
    expect(own.world.last.keys).toEqual([
      { role: 'storage', kid: 'PEK-STORE', checkValue: storage.checkValue.value },
      { role: 'd1-zpk', kid: 'ZPK-D1', checkValue: zpk.checkValue.value },
      { role: 'd1-public', kid: own.world.d1.publicJwk.kid },
    ])
  })

  test('of Set PIN are those that were used, among those that are there', async () => {
    const { zpk } = own.world.keys
    const next = { kid: 'ZPK-NEXT', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
    await using backend = await softwareBackend({
      keys: [{ ...next, material: '0123456789ABCDEF1122334455667788' }],
    })
    const issuer = own.world.issuer()
    const nextZpk = await backend.bind({ kid: next.kid, usage: next.usage })
    const answer = own.world.handler({
      issuers: { [ISSUER]: { ...issuer, iso0: { ...issuer.iso0, d1Zpk: [nextZpk, zpk] } } },
      authorization: 'anyone-who-reaches-it',
      tokenEndpoint: undefined,
    })
    expect((await answer(put(await own.world.iso0()))).status).toBe(204)
    expect(own.world.last.keys.map(({ role, kid }) => [role, kid])).toEqual([
      ['jwe', 'JWE-1'],
      ['d1-zpk', 'ZPK-D1'],
      ['storage', 'PEK-STORE'],
    ])
  })
})

const MADE = { sequence: 1, time: '2026-11-28T00:00:00.000Z', requestId: 'r-1' }

describe('an event', () => {
  const event = (status: number, refusal?: Refusal) =>
    auditEvent({ ...MADE, keys: [] }, { status, refusal, durationMs: 1 })

  test.each([
    [200, 'success'],
    [399, 'success'],
    [400, 'refused'],
    [499, 'refused'],
    [500, 'failed'],
  ])('of status %i is a %s', (status, outcome) => {
    expect(event(status)).toStrictEqual({ ...MADE, outcome, status, keys: [], durationMs: 1 })
  })

  test('has the members that the refusal has, and no others', () => {
    expect(event(400, new Refusal('path')).refusal).toStrictEqual({ reason: 'path' })
    const cause = { code: 'CODE', field: 'f', kid: 'k' }
    expect(event(400, new Refusal('path', { cause })).refusal).toStrictEqual({ reason: 'path', code: 'CODE' })
    expect(event(401, new Refusal('token-invalid', { detail: 'd' })).refusal).toStrictEqual({
      reason: 'token-invalid',
      detail: 'd',
    })
  })
})

describe('a verifier', () => {
  test('gets what is known of the request; a verdict without subject is of nobody who is known', async () => {
    const options: object[] = []
    const verify = async (_token: string, more: object) => {
      options.push(more)
      return { verified: true } as const
    }
    const answer = own.world.handler({ authorization: byToken({ verify }) })
    await answer(get(pinPath('card-1'), { headers: { authorization: 'Bearer x' } }))
    expect(options).toEqual([
      {
        signal: expect.any(AbortSignal),
        operation: 'getPIN',
        issuerId: ISSUER,
        address: '192.0.2.1',
      },
    ])
    expect(own.world.last).toMatchObject({ status: 401, refusal: { reason: 'caller-unknown' } })
    expect(Object.keys(own.world.last)).not.toContain('caller')
  })

  test('is not asked again for a token that is remembered', async () => {
    const memory = new TokenMemory(60_000)
    const verify = vi.fn(async () => ({ exp: 2_000_000_000 }))
    const judge = () =>
      judgeToken('aaaa.aaaa.aaaa', { memory, now: 1_900_000_000_000, verify, allow: () => true })
    expect(await judge()).toStrictEqual({ verified: true })
    expect(await judge()).toStrictEqual({ verified: true })
    expect(verify).toHaveBeenCalledOnce()
  })

  test('that finds a subject which is no string finds a bad claim', async () => {
    const trial = { memory: new TokenMemory(1), now: 0, allow: () => true }
    const verify = async () => ({ sub: 7 as never, exp: 1 })
    expect(await judgeToken('aaaa.aaaa.aaaa', { ...trial, verify })).toStrictEqual({
      verified: false,
      reason: 'ERR_JWT_CLAIM_VALIDATION_FAILED',
    })
  })
})

describe('time', () => {
  /** A clock whose short timers are over at once; the long one of the whole request never is. */
  const impatient = {
    now: () => 0,
    elapsed: () => 0,
    after: (milliseconds: number, callback: () => void) => {
      const timer = milliseconds < 1000 ? setImmediate(callback) : undefined
      return () => clearImmediate(timer)
    },
  }
  const stuck = () => new ReadableStream({ start() {} })

  test('a body that does not come is refused as that', async () => {
    const answer = own.world.handler({ clock: impatient, bodyTimeoutMs: 999 })
    const headers = await own.world.authorized(JSON_TYPE)
    const init = { method: 'PUT', headers, body: stuck(), duplex: 'half' } as RequestInit
    expect((await answer(get(pinPath('card-1'), init))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'body-timeout' })
    const form = { ...init, method: 'POST', headers: { ...FORM_TYPE, authorization: basic() }, body: stuck() }
    expect((await answer(get(TOKEN_PATH, form))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'body-timeout' })
  })

  test('a token says what it is, and how long it lasts', async () => {
    const headers = { ...FORM_TYPE, authorization: basic() }
    const init = { method: 'POST', headers, body: 'grant_type=client_credentials' }
    const body = (await (await own.world.handler()(get(TOKEN_PATH, init))).json()) as object
    expect(body).toMatchObject({ token_type: 'Bearer', expires_in: '900' })
  })

  test('a reader is told of no end that comes after its own', async () => {
    const cancel = vi.fn(async () => {})
    const parts = [{ done: false, value: Uint8Array.of(0x7b) }, { done: true }]
    const body = { getReader: () => ({ read: async () => parts.shift(), cancel }) }
    const end = new Ending()
    expect(
      await readBody({ ...put('{}'), headers: put('{}').headers, body } as never, JSON_BODY, end),
    ).toEqual(Uint8Array.of(0x7b))
    end.end()
    expect(cancel).not.toHaveBeenCalled()
  })

  test.each([
    ['is too long', async () => ({ done: false, value: new Uint8Array(20_000) })],
    ['is no bytes', async () => ({ done: false, value: 'x' })],
    ['breaks off', () => Promise.reject(new Error('x'))],
  ])('a reader of a body that %s is told that nobody reads on', async (_what, read) => {
    const cancel = vi.fn(async () => {})
    const body = { getReader: () => ({ read, cancel }) }
    const request = { headers: put('{}').headers, body } as never
    await expect(readBody(request, JSON_BODY, new Ending())).rejects.toThrow(/^body-/)
    expect(cancel).toHaveBeenCalledOnce()
  })

  test('a deadline leaves none either, and hands its reason on as it is', async () => {
    const parent = new AbortController()
    const deadline = {
      clock: impatient,
      milliseconds: 5000,
      reason: 'timeout' as const,
      parent: parent.signal,
    }
    expect(await withDeadline(deadline, async () => 7)).toBe(7)
    expect(getEventListeners(parent.signal, 'abort')).toEqual([])
    const reason = new Refusal('body-timeout', { detail: 'x' })
    parent.abort(reason)
    const work = (end: Ending) => Promise.reject(end.reason)
    await expect(withDeadline(deadline, work)).rejects.toBe(reason)
  })
})
