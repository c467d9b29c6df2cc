/** When the service itself fails, or is late: 500, in time, and nothing half done. */

import { describe, expect, test, vi } from 'vitest'
import { type Clock, systemClock } from '../../../src/base/deadline.js'
import { KeyedMutex } from '../../../src/d1/endpoints/bounds.js'
import { withDeadline } from '../../../src/d1/endpoints/refusal.js'
import type { BlockAcceptance } from '../../../src/d1.js'
import { Pan } from '../../../src/index.js'
import { get, held, ORIGIN, put, sleep, useWorld } from './support/direct.js'
import {
  basic,
  byToken,
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

const own = useWorld()

describe('failures of the service', () => {
  test('a card whose counter is at its end is PIN_CHANGE_FORBIDDEN', async () => {
    const counter = own.world.newCounter('9999')
    const { seccos } = own.world.issuer()
    const answer = own.world.handler({
      issuers: { [ISSUER]: own.world.issuer({ seccos: { ...seccos, counter } as never }) },
    })
    const headers = await own.world.authorized()
    const first = await answer(get(counterPath('card-1'), { headers }))
    const issued = (await first.json()) as { pcc: string; intdatag: string }
    const body = await own.world.d1.seal('3DES_SECCOS', own.world.seccosContent(issued))
    expect((await answer(put(body, { headers: { ...headers, ...JSON_TYPE } }))).status).toBe(204)
    const second = await answer(get(counterPath('card-1'), { headers }))
    expect(second.status).toBe(403)
    expect(await second.json()).toEqual({ errorCode: 'PIN_CHANGE_FORBIDDEN', error: 'Forbidden' })
    expect(own.world.last.refusal).toEqual({
      reason: 'counter-exhausted',
      code: 'ERR_CHANGE_COUNTER',
      detail: 'exhausted',
    })
    await own.world.issue('card-1', PANS.first, NEW_PIN)
  })

  test('a block under a key that is not here, or of another card, is 500', async () => {
    const block = new Uint8Array(8)
    own.world.pins.stored.set('no-pin', { block: { block, kid: 'PEK-OLD' } })
    expect((await own.handler(get(pinPath('no-pin')))).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'storage-key-unknown' })
    own.world.pins.stored.set('no-pin', { block: { block, kid: 'PEK-STORE' } })
    expect((await own.handler(get(pinPath('no-pin')))).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'service-failed', code: 'ERR_PIN_BLOCK' })
    own.world.pins.stored.delete('no-pin')
  })

  test.each(['constructor', '__proto__', 'toString', 'ACTIVE', '', null])(
    'a card in state %s is 500',
    async state => {
      own.world.cards.set('odd-state', {
        state: state as never,
        pan: Pan.from(PANS.first),
        setPinTypes: ['ISO0'],
      })
      for (const request of [
        get(pinPath('odd-state')),
        get(counterPath('odd-state')),
        put(await own.world.iso0(), {}, pinPath('odd-state')),
      ]) {
        expect((await own.handler(request)).status).toBe(500)
        expect(own.world.last.refusal).toMatchObject({ reason: 'directory-failed' })
      }
    },
  )

  test('the counter is the one source of the PCC: what a card says of it blocks no Set PIN', async () => {
    own.world.cards.set('with-pcc', {
      state: 'active',
      pan: Pan.from(PANS.first),
      setPinTypes: ['3DES_SECCOS'],
      seccos: { pcc: '1234', fields: {} } as object,
    })
    for (let i = 0; i < 2; i++) {
      const counter = await own.world.counter.issue({ cardId: 'with-pcc' })
      const body = await own.world.d1.seal('3DES_SECCOS', own.world.seccosContent(counter))
      expect((await own.handler(put(body, {}, pinPath('with-pcc')))).status).toBe(204)
    }
  })

  test('what the directory says for the profile reaches the verb', async () => {
    own.world.cards.set('with-fields', {
      state: 'active',
      pan: Pan.from(PANS.first),
      setPinTypes: ['3DES_SECCOS'],
      seccos: { fields: { psn: '99' } },
    })
    const counter = await own.world.counter.issue({ cardId: 'with-fields' })
    const body = await own.world.d1.seal('3DES_SECCOS', own.world.seccosContent(counter))
    expect((await own.handler(put(body, {}, pinPath('with-fields')))).status).toBe(400)
    expect(own.world.last.refusal).toMatchObject({ code: 'ERR_DATA_SET', field: 'psn' })
  })

  test('a card without a Pan is 500, whatever its number', async () => {
    own.world.cards.set('odd-pan', { state: 'active', pan: CANARY as never, setPinTypes: [] })
    expect((await own.handler(get(pinPath('odd-pan')))).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'directory-failed', code: 'ERR_ARGUMENT' })
    own.world.expectSilence()
  })

  test.each([
    ['a verifier that fails', 'verifier-failed', () => Promise.reject(new Error(CANARY))],
    ['no verdict', 'verifier-failed', () => Promise.reject({ code: '4929123456789012', name: 'x y' })],
  ])('%s is 500', async (_what, reason, verify) => {
    const answer = own.world.handler({ authorization: byToken({ verify }) })
    const response = await answer(get(pinPath('card-1'), { headers: { authorization: 'Bearer x' } }))
    expect(response.status).toBe(500)
    expect(own.world.last.refusal?.reason).toBe(reason)
    own.world.expectSilence(await response.text())
  })

  test('a reason or a subject that is no name does not get into the event', async () => {
    const answer = (verdict: object) =>
      own.world.handler({ authorization: byToken({ verify: async () => verdict as never }) })(
        get(pinPath('card-1'), { headers: { authorization: 'Bearer x' } }),
      )
    expect((await answer({ verified: false, reason: 'two\nlines' })).status).toBe(401)
    expect(own.world.last.refusal).toEqual({ reason: 'token-invalid' })
    expect((await answer({ verified: 'true', reason: 'truthy' })).status).toBe(401)
    expect(own.world.last.refusal).toEqual({ reason: 'token-invalid', detail: 'truthy' })
    expect((await answer({ verified: true, subject: 'two\nlines' })).status).toBe(401)
    expect(own.world.last.refusal).toEqual({ reason: 'caller-unknown' })
    for (const name of ['caller', 'tokenSubject']) expect(own.world.last).not.toHaveProperty(name)
    expect((await answer({ verified: true })).status).toBe(401)
    expect((await answer({ verified: true, subject: 's' })).status).toBe(200)
  })

  test('a token issuer that fails is 500', async () => {
    const tokens = { issue: () => Promise.reject(new Error(CANARY)) }
    const answer = own.world.handler({ tokenEndpoint: { tokens, clients: [CLIENT] } })
    const headers = { ...FORM_TYPE, authorization: basic() }
    const response = await answer(
      get(TOKEN_PATH, { method: 'POST', headers, body: 'grant_type=client_credentials' }),
    )
    expect([response.status, await response.json()]).toEqual([500, { error: 'server_error' }])
  })

  test('what no code of ours expects is 500 as well', async () => {
    const broken = { signal: new AbortController().signal, url: undefined, headers: new Headers() }
    expect((await own.handler(broken as never)).status).toBe(500)
    expect(own.world.last).toMatchObject({
      outcome: 'failed',
      refusal: { reason: 'service-failed', code: 'TypeError' },
    })
    expect((await own.handler({ url: ORIGIN } as never)).status).toBe(500)
  })

  test('a backend that is closed is 500', async () => {
    await using other = await World.open()
    const answer = other.handler({ authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined })
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
    const answer = own.world.handler({ issuers: { [ISSUER]: own.world.issuer({ cards }) }, timeoutMs: 30 })
    const headers = await own.world.authorized()
    expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'timeout' })
  })

  test('the directory is told by the signal, and what it then throws is the timeout', async () => {
    const cards = {
      find: (_: object, { signal }: { signal?: AbortSignal }) =>
        new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(new Error('late')))),
    }
    const answer = own.world.handler({ issuers: { [ISSUER]: own.world.issuer({ cards }) }, timeoutMs: 30 })
    const request = get(pinPath('card-1'), { headers: await own.world.authorized() })
    expect((await answer(request)).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'timeout' })
  })

  test('a store that hangs is 500 in time, and the card waits until it is done', async () => {
    const { until, release } = held()
    const stored: string[] = []
    const pins = {
      readBlock: async () => undefined,
      storePrw: async () => {},
      acceptBlock: async (): Promise<BlockAcceptance> => {
        stored.push('begun')
        await until
        stored.push('done')
        return { outcome: 'stored' }
      },
    }
    const answer = own.world.handler({ issuers: { [ISSUER]: own.world.issuer({ pins }) }, timeoutMs: 1000 })
    const headers = await own.world.authorized(JSON_TYPE)
    const both = [put(await own.world.iso0(), { headers }), put(await own.world.iso0(), { headers })].map(
      request => answer(request),
    )
    expect((await Promise.all(both)).map(({ status }) => status)).toEqual([500, 500])
    expect(stored).toEqual(['begun'])
    release()
    await vi.waitFor(() => expect(stored).toContain('done'), 60_000)
    await sleep(5)
    // The second was late before its turn came, so it was not begun.
    expect(stored).toEqual(['begun', 'done'])
    expect((await answer(put(await own.world.iso0(), { headers }))).status).toBe(204)
  })

  test('a client that is gone before the store: nothing is stored', async () => {
    const client = new AbortController()
    const cards = {
      find: async () => {
        client.abort()
        return { state: 'active', pan: Pan.from(PANS.first), setPinTypes: ['ISO0'] } as const
      },
    }
    const answer = own.world.handler({ issuers: { [ISSUER]: own.world.issuer({ cards }) } })
    const { writes } = own.world.pins
    const headers = await own.world.authorized(JSON_TYPE)
    expect((await answer(put(await own.world.iso0(), { headers, signal: client.signal }))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'client-gone', code: 'ERR_ABORTED' })
    expect(own.world.pins.writes).toBe(writes)
  })

  test('a client that is gone while it is stored: it is stored, and the event says so', async () => {
    const client = new AbortController()
    own.world.pins.before = async () => client.abort()
    expect((await own.handler(put(await own.world.iso0(), { signal: client.signal }))).status).toBe(204)
    expect(own.world.last.outcome).toBe('success')
    own.world.pins.before = async () => {}
  })

  test('a client that is gone while the store fails: the event has the code of that', async () => {
    const client = new AbortController()
    own.world.pins.before = async () => {
      client.abort()
      throw Object.assign(new Error(CANARY), { code: '53100' })
    }
    expect((await own.handler(put(await own.world.iso0(), { signal: client.signal }))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'client-gone', code: '53100' })
    own.world.pins.before = async () => {}
  })

  test('a client that was gone from the start', async () => {
    expect((await own.handler(put(await own.world.iso0(), { signal: AbortSignal.abort() }))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'client-gone' })
  })

  test('no timer and no listener is left behind', async () => {
    let timers = 0
    const clock: Clock = {
      ...systemClock,
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

  test('what surfaces after the end is the end, and its cause', async () => {
    const clock: Clock = { ...systemClock, after: () => () => {} }
    const client = new AbortController()
    const deadline = { clock, milliseconds: 1, reason: 'timeout', parent: client.signal } as const
    const cause = new Error('x')
    const work = () => {
      client.abort()
      return Promise.reject(cause)
    }
    await expect(withDeadline(deadline, work)).rejects.toMatchObject({ reason: 'client-gone', cause })
  })

  test('an injected clock decides', async () => {
    let ring = (): void => {}
    let now = 1000
    const clock: Clock = {
      ...systemClock,
      elapsed: () => now,
      after: (_milliseconds, callback) => {
        ring = callback
        return () => {}
      },
    }
    const cards = { find: () => never }
    const answer = own.world.handler({ issuers: { [ISSUER]: own.world.issuer({ cards }) }, clock })
    const response = answer(get(pinPath('card-1'), { headers: await own.world.authorized() }))
    await sleep(5)
    now = 1234
    ring()
    expect((await response).status).toBe(500)
    expect(own.world.last.durationMs).toBe(234)
  })
})

describe('the queue', () => {
  const { signal } = new AbortController()

  test('keeps order under a key, runs keys side by side, and forgets them', async () => {
    const mutex = new KeyedMutex()
    const log: string[] = []
    const task = (name: string, work?: Promise<void>) => async () => {
      log.push(`${name}+`)
      await work
      log.push(`${name}-`)
    }
    const { until, release } = held()
    const other = mutex.run('b', signal, task('3'))
    const all = [
      mutex.run('a', signal, task('1', until)),
      mutex.run('a', signal, task('2')),
      mutex.run('a', signal, () => Promise.reject(new Error('x'))).catch(() => log.push('x')),
      mutex.run('a', signal, task('4')),
    ]
    expect(mutex.size).toBe(2)
    await other
    release()
    await Promise.all(all)
    expect(log).toEqual(['3+', '1+', '3-', '1-', '2+', '2-', 'x', '4+', '4-'])
    expect(mutex.size).toBe(0)
  })

  test('one that comes when some have left waits for those that are there', async () => {
    const mutex = new KeyedMutex()
    const log: string[] = []
    const { until, release } = held()
    const first = mutex.run('a', signal, async () => {})
    const second = mutex.run('a', signal, async () => {
      log.push('2+')
      await until
      log.push('2-')
    })
    await first
    const third = mutex.run('a', signal, async () => log.push('3'))
    await vi.waitFor(() => expect(log).toEqual(['2+']), 60_000)
    for (let turns = 0; turns < 20; turns++) await Promise.resolve()
    expect(log).toEqual(['2+'])
    release()
    await Promise.all([second, third])
    expect(log).toEqual(['2+', '2-', '3'])
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
    const { until, release } = held()
    own.world.pins.before = () => until
    const body = await own.world.iso0()
    const answers = Array.from({ length: 33 }, () => own.handler(put(body)))
    expect(await Promise.race(answers)).toMatchObject({ status: 500 })
    expect(own.world.last.refusal).toEqual({ reason: 'card-busy' })
    release()
    const statuses = (await Promise.all(answers)).map(({ status }) => status)
    expect(statuses.filter(status => status === 204)).toHaveLength(32)
    own.world.pins.before = async () => {}
  })
})
