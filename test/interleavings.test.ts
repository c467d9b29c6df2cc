/**
 * Turns and races of the client's token and of the pool in front of a token, in a seeded schedule: whatever ends first,
 * each caller gets its own result, nothing is asked for twice, and nobody who has gone is waited for.
 */

import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { Dispatcher } from '../src/backend/pkcs11/executor/dispatcher.js'
import type { Executor, Jobs } from '../src/backend/pkcs11/executor/executor.js'
import { REAL, Supervisor } from '../src/backend/pkcs11/executor/supervisor.js'
import { DEFAULTS } from '../src/base/defaults.js'
import { type D1ClientOptions, d1Client, softwareSigner } from '../src/d1.js'
import { InputError } from '../src/index.js'
import { ecKeyPair } from './support/key-pair.js'

const signer = softwareSigner({
  kid: 'S',
  privateKey: ecKeyPair().privateKey,
})
const d1PublicJwk = {
  ...ecKeyPair().publicKey.export({ format: 'jwk' }),
  kid: 'D1',
}

test('callers of one client share its token: one fetch, and one more for a token that D1 refuses', async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 6 }), async (schedule, callers) => {
      const issued: string[] = []
      const refused = new Set<string>()
      const fetch: D1ClientOptions['fetch'] = async (url, init) => {
        await schedule.schedule(Promise.resolve(), 'sent')
        if (url.endsWith('/oauth2/token')) {
          issued.push(`token-${issued.length}`)
          const body = { access_token: issued.at(-1), token_type: 'Bearer', expires_in: 900 }
          return new Response(JSON.stringify(body)) as never
        }
        const token = String(new Headers(init.headers as never).get('authorization')).replace('Bearer ', '')
        // D1 forgets the first token, whoever shows it.
        if (token !== 'token-0') return new Response(null, { status: 204 }) as never
        refused.add(token)
        return new Response('{}', { status: 401 }) as never
      }
      const { cards } = d1Client({
        environment: 'staging',
        issuerId: 'is_tbank01',
        signer,
        d1PublicJwk,
        fetch,
      })
      const calls = Array.from({ length: callers }, (_, i) => cards.delete({ cardId: `card-${i}` }))
      await schedule.waitFor(Promise.all(calls))
      expect([...refused]).toEqual(['token-0'])
      expect(issued).toEqual(['token-0', 'token-1'])
    }),
    { numRuns: 40 },
  )
})

/** Encipherment that anybody can check: each byte is xored with the key's number. */
const xored = (blocks: Uint8Array, key: number): Uint8Array => blocks.map(byte => byte ^ key)

class ScheduledToken implements Executor {
  readonly kind = 'threads'
  readonly facts = {} as never
  readonly lanes = 2
  readonly stuck = 0
  active = 0
  most = 0
  calls = 0
  /** What was given out. */
  readonly given: Uint8Array[] = []
  readonly #schedule: fc.Scheduler
  readonly #fails: (call: number) => boolean

  constructor(schedule: fc.Scheduler, fails: (call: number) => boolean) {
    this.#schedule = schedule
    this.#fails = fails
  }

  async perform<Name extends keyof Jobs>(_name: Name, job: Jobs[Name]['job']): Promise<Jobs[Name]['result']> {
    const { key, blocks: given } = job as Jobs['encipher']['job']
    // As all executors do: before they wait.
    const blocks = Uint8Array.from(given)
    const call = this.calls++
    this.most = Math.max(this.most, ++this.active)
    await this.#schedule.schedule(Promise.resolve(), `call ${call}`)
    this.active--
    // An error of the data: the session is as good as before.
    if (this.#fails(call)) throw new InputError('ERR_LENGTH', 'these blocks')
    const result = xored(blocks, (key as unknown as { number: number }).number)
    this.given.push(result)
    return result as Jobs[Name]['result']
  }

  logIn = () => Promise.resolve()
  letGo = () => Promise.resolve()
  comeBack = () => Promise.resolve()
  keepAlive = () => undefined
  close = () => Promise.resolve()
}

test('callers of one pool: no more calls than lanes, each its own result or error, put together or not, and nothing else is left', async () => {
  const block = fc.uint8Array({ minLength: 8, maxLength: 8 })
  const asked = fc.array(
    fc.record({ key: fc.constantFrom(1, 2), blocks: block, leaves: fc.boolean(), into: fc.boolean() }),
    {
      minLength: 1,
      maxLength: 12,
    },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      asked,
      fc.boolean(),
      fc.nat(6),
      async (schedule, callers, coalesce, bad) => {
        const token = new ScheduledToken(schedule, call => call === bad)
        const supervisor = new Supervisor(token, { onEvent: undefined, reinitialise: false }, REAL)
        const { queue, waitMs, callMs } = DEFAULTS.pkcs11
        const limits = { queue: queue.value, waitMs: waitMs.value, callMs: callMs.value, coalesce }
        const pool = new Dispatcher(token, supervisor, limits)
        const keys = [1, 2].map(number => {
          const checkValue = { method: 'encrypt-zero', value: `0${number}`.repeat(3) }
          return {
            number,
            name: `K-${number}`,
            usage: 'pin-encryption',
            algorithm: 'tdea-2key',
            checkValue,
          } as never
        })
        const ask = (key: never, blocks: Uint8Array, into: boolean, signal: AbortSignal) => {
          const own = Uint8Array.from(blocks)
          if (!into) return pool.run('encipher', { key, blocks: own }, signal)
          const answer = pool.encipherInto(key, own, new Uint8Array(8), signal)
          // The front's, which is used again at once.
          own.fill(0xee)
          return answer as Promise<Uint8Array>
        }
        const outcomes = callers.map(async ({ key, blocks, leaves, into }) => {
          const controller = new AbortController()
          const result = Promise.resolve(ask(keys[key - 1] as never, blocks, into, controller.signal))
          if (leaves) schedule.schedule(Promise.resolve(), 'leaves').then(() => controller.abort())
          return result.then(
            value => ({ value }),
            error => ({ code: (error as { code: string }).code }),
          )
        })
        const all = await schedule.waitFor(Promise.all(outcomes))
        await schedule.waitAll()
        await new Promise(resolve => setImmediate(resolve))
        for (const [i, outcome] of all.entries()) {
          const caller = callers[i]
          if (caller === undefined) continue
          if ('value' in outcome) expect(outcome.value).toEqual(xored(caller.blocks, caller.key))
          else expect(caller.leaves ? ['ERR_ABORTED', 'ERR_LENGTH'] : ['ERR_LENGTH']).toContain(outcome.code)
        }
        // What the token gave is a caller's, or is wiped: what was put together, and what came for one who had left.
        const own = new Set(all.flatMap(outcome => ('value' in outcome ? [outcome.value] : [])))
        for (const bytes of token.given)
          if (!own.has(bytes)) expect(bytes.every(byte => byte === 0)).toBe(true)
        // One call failed at most, and only whoever was in it, or left, has no result.
        const without = all.filter(outcome => 'code' in outcome && outcome.code === 'ERR_LENGTH')
        expect(without.length).toBeLessThanOrEqual(1)
        expect(token.most).toBeLessThanOrEqual(token.lanes)
        expect(pool.waiting).toBe(0)
        pool.close()
      },
    ),
    { numRuns: 150 },
  )
})

test('whoever comes while a call hangs is released at the end of its own wait, not of the call', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  const hangs = { lanes: 1, kind: 'threads', perform: () => new Promise(() => undefined) } as never
  const supervisor = new Supervisor(hangs, { onEvent: undefined, reinitialise: false }, REAL)
  const pool = new Dispatcher(hangs, supervisor, { queue: 8, waitMs: 60, callMs: 600, coalesce: true })
  const said: string[] = []
  const ask = (who: string) =>
    void Promise.resolve(pool.run('pulse', {}, undefined)).catch((error: Error) =>
      said.push(`${who}: ${error.message}`),
    )
  ask('first')
  // By now the first has been looked at, and has until the end of its call.
  await vi.advanceTimersByTimeAsync(120)
  ask('second')
  await vi.advanceTimersByTimeAsync(59)
  expect(said).toEqual([])
  await vi.advanceTimersByTimeAsync(1)
  expect(said).toEqual(['second: its turn did not come within 60 ms'])
  await vi.advanceTimersByTimeAsync(600 - 180 - 1)
  expect(said).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(1)
  expect(said[1]).toBe('first: the token did not answer within 600 ms')
  pool.close()
  vi.useRealTimers()
})
