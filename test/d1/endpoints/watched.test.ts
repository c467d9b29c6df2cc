/** Who watches, and what holds: required audit, chained lines, rates, gates, readiness, D1's key in rotation. */

import { createHmac, type KeyObject } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { SpanStatusCode, type TimeInput, type Tracer, trace } from '@opentelemetry/api'
import { describe, expect, test, vi } from 'vitest'
import { traceEndpoints } from '../../../examples/otel/traces.js'
import { Gate } from '../../../src/d1/endpoints/bounds.js'
import {
  type AuditEvent,
  type AuditPublicKey,
  chainedAudit,
  healthEndpoints,
  type Iso0Options,
  type IssuerOptions,
  memoryRates,
  type RateQuery,
  readinessChecks,
  softwareSigner,
  verifyAuditChain,
} from '../../../src/d1.js'
import type { BindSpec, Key } from '../../../src/index.js'
import { softwareBackend } from '../../../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_AES } from '../../../src/tools.js'
import { failure } from '../../support/errors.js'
import { ecKeyPair } from '../../support/key-pair.js'
import { get, held, put, sleep, useWorld } from './support/direct.js'
import { CANARY, ISSUER, OTHER_ISSUER, pinPath, type WorldKeys } from './support/world.js'

const own = useWorld()
const open = { authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined } as const

describe('events', () => {
  test('are numbered, timed, and named by us', async () => {
    const handler = own.world.handler(open)
    for (let i = 0; i < 3; i++) await handler(get(pinPath('card-1')))
    const { events } = own.world
    expect(events.map(({ sequence }) => sequence)).toEqual([1, 2, 3])
    expect(new Set(events.map(({ requestId }) => requestId)).size).toBe(3)
    for (const { time } of events) expect(new Date(time).toISOString()).toBe(time)
  })

  test('that must be durable hold the answer back until they are', async () => {
    const { until, release } = held()
    const handler = own.world.handler({ ...open, auditRequired: true, audit: () => until })
    const answered = vi.fn()
    const answer = handler(get(pinPath('card-1'))).then(response => {
      answered()
      return response
    })
    await new Promise(resolve => setTimeout(resolve, 30))
    expect(answered).not.toHaveBeenCalled()
    release()
    expect((await answer).status).toBe(200)
  })

  test.each([
    ['throws', () => expect.fail(CANARY)],
    ['rejects', () => Promise.reject(new Error(CANARY))],
    ['never ends', () => new Promise<never>(() => {})],
  ])('where the hook %s, the answer is 500, and a Set PIN repeated is acknowledged', async (_what, fails) => {
    let broken = true
    const events: AuditEvent[] = []
    const handler = own.world.handler({
      ...open,
      auditRequired: true,
      timeoutMs: 200,
      audit: (event: AuditEvent) => (broken ? fails() : void events.push(event)),
    })
    const body = await own.world.iso0('445566')
    const response = await handler(put(body))
    expect([response.status, await response.json()]).toEqual([500, { error: 'Internal server error' }])
    broken = false
    expect((await handler(put(body))).status).toBe(204)
    expect(events).toMatchObject([{ replayed: true, replayedIsCurrent: true }])
  })

  test.each([{}, { auditRequired: true as const }])(
    'come with the error behind a refusal, where they must be durable, too: %o',
    async required => {
      const causes: unknown[] = []
      const audit = (_event: AuditEvent, cause?: unknown): void => void causes.push(cause)
      const handler = own.world.handler({ ...open, ...required, audit })
      await handler(get(pinPath('directory-fails')))
      await handler(get(pinPath('card-1')))
      expect(causes).toEqual([expect.objectContaining({ message: CANARY }), undefined])
    },
  )

  test('are published on a channel', async () => {
    const seen: unknown[] = []
    const listen = (message: unknown): void => void seen.push(message)
    subscribe('issuer-pin-crypto:d1.endpoints', listen)
    await own.handler(get(pinPath('card-1')))
    unsubscribe('issuer-pin-crypto:d1.endpoints', listen)
    await own.handler(get(pinPath('card-1')))
    expect(seen).toMatchObject([{ operation: 'getPIN', status: 200 }])
  })

  test('of what throws again when it is looked at are events all the same', async () => {
    const trap = Object.defineProperty(new Error(), 'code', {
      get: () => {
        throw new Error(CANARY)
      },
    })
    const find = () => Promise.reject(trap)
    const seen: unknown[] = []
    const listen = (event: unknown) => void seen.push(event)
    subscribe('issuer-pin-crypto:d1.endpoints', listen)
    const handler = own.world.handler({
      ...open,
      issuers: { [ISSUER]: own.world.issuer({ cards: { find } }) },
    })
    expect((await handler(get(pinPath('card-1')))).status).toBe(500)
    unsubscribe('issuer-pin-crypto:d1.endpoints', listen)
    expect(own.world.last.refusal).toEqual({ reason: 'directory-failed', code: 'Error' })
    expect(seen).toEqual([own.world.last])
  })

  test.each(['x-9999990123456789', '9999-9901-2345-6789', '999_9990_1234_56789', 'x99999901--23456789'])(
    'of a card that is named by its PAN do not show the name: %s',
    async cardId => {
      const named = own.world.cards.get('card-1')
      own.world.cards.set(cardId, named ?? expect.fail('no card'))
      await own.world.issue(cardId, '9999990123456789', '1234')
      await own.handler(get(pinPath(cardId)))
      expect(own.world.last).toMatchObject({ status: 200 })
      expect(own.world.last).not.toHaveProperty('cardId')
      own.world.cards.delete(cardId)
      own.world.expectSilence()
    },
  )

  test.each([
    ['4929-1234-5678-9012', '*'.repeat(19)],
    ['4929--1234__5678-_9012', '*'.repeat(22)],
    ['id-4929_1234_5678_9012-x', `id-${'*'.repeat(19)}-x`],
    // As a UUID is written; none that anybody makes has this version, this variant, or no letter.
    ['49291234-5678-9012-0000-000000000000', '*'.repeat(36)],
    ['00000000-0000-0000-4929-123456789012', '*'.repeat(36)],
    ['49291234-5678-4012-8000-000000000000', '*'.repeat(36)],
    ['49291234-5678-9012-aaaa-aaaaaaaaaaaa', `${'*'.repeat(18)}-aaaa-aaaaaaaaaaaa`],
    ['49291234-5678-4012-8aaa-aaaaaaaaaaaa', '49291234-5678-4012-8aaa-aaaaaaaaaaaa'],
    ['019a0c5e-7d1b-7f21-9c3a-123456789012', '019a0c5e-7d1b-7f21-9c3a-123456789012'],
    ['4929-1234-567', '4929-1234-567'],
  ])('of an x-correlation-id show no PAN: %s', async (id, shown) => {
    await own.handler(get(pinPath('card-1'), { headers: { 'x-correlation-id': id } }))
    expect(own.world.last.correlationId).toBe(shown)
  })

  test.each([
    '4929 1234 5678 9012',
    '4929%201234%205678%209012',
    '4929.1234.5678.9012',
    '4929+1234+5678+9012',
  ])('of an x-correlation-id outside the pattern show nothing: %s', async id => {
    await own.handler(get(pinPath('card-1'), { headers: { 'x-correlation-id': id } }))
    expect(own.world.last).toMatchObject({ correlationIdIgnored: true })
    expect(own.world.last).not.toHaveProperty('correlationId')
    // But for what is random, and may have any four digits.
    expect(JSON.stringify({ ...own.world.last, requestId: '', time: '', durationMs: 0 })).not.toContain(
      '4929',
    )
  })
})

test('each request is a span, and each use of a key one within it', async () => {
  const spans: Span[] = []
  const stop = traceEndpoints(recordingTracer(spans))
  const body = await own.world.iso0()
  const answers = [own.handler(put(body)), own.handler(get(pinPath('card-1'))), own.handler(get('/nowhere'))]
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([204, 200, 404])
  stop()
  const [set, read, none] = spans.filter(({ parent }) => parent === undefined)
  expect([set?.name, read?.name, none?.name]).toEqual(['SetPIN', 'getPIN', 'D1 request'])
  expect([set, read, none].map(span => [span?.failed, span?.ended])).toEqual(Array(3).fill([false, true]))
  expect(set?.attributes).toMatchObject({ 'd1.outcome': 'success', 'http.response.status_code': 204 })
  const usesOf = (of: Span | undefined) =>
    spans.filter(({ parent }) => parent === of?.id).map(span => span.name)
  expect(usesOf(set)).toEqual(['key deriveContentKey JWE-1', 'key decipher ZPK-D1', 'key encipher PEK-STORE'])
  expect(usesOf(read)).toEqual(['key decipher PEK-STORE', 'key encipher ZPK-D1'])
  expect(usesOf(none)).toEqual([])
  for (const span of spans) expect(span.endedAt).toBeGreaterThanOrEqual(span.startedAt)
  expect(own.world.secrets().filter(secret => JSON.stringify(spans).includes(secret))).toEqual([])
  // What Node’s parser refuses has no beginning, and is a span all the same; a failure is one that failed.
  const again = traceEndpoints(recordingTracer(spans))
  await own.handler.unreadable?.(
    { encrypted: true, authorized: false },
    Object.assign(new Error('x'), { code: 'HPE_INVALID_METHOD' }),
  )
  await own.handler.unreadable?.({ encrypted: true, authorized: false }, 'no error, and so without a name')
  expect(own.world.last.refusal).toEqual({ reason: 'not-http' })
  await own.handler(get(pinPath('store-fails')))
  again()
  expect(spans.slice(-3).map(({ name, failed }) => [name, failed])).toEqual([
    ['D1 request', false],
    ['D1 request', false],
    ['getPIN', true],
  ])
  await own.handler(get(pinPath('card-1')))
  expect(spans.at(-1)?.name).toBe('getPIN')
})

interface Span {
  readonly id: string
  readonly parent: string | undefined
  name: string
  readonly startedAt: number
  endedAt: number
  ended: boolean
  failed: boolean
  readonly attributes: Record<string, unknown>
}

/** A tracer that keeps what it is told, by the interface of OpenTelemetry. */
function recordingTracer(spans: Span[]): Tracer {
  const startSpan: Tracer['startSpan'] = (name, options, context) => {
    const id = String(spans.length + 1).padStart(16, '0')
    const of = context && trace.getSpan(context)?.spanContext().spanId
    const kept: Span = {
      id,
      parent: of,
      name,
      startedAt: Number(options?.startTime ?? Date.now()),
      endedAt: 0,
      ended: false,
      failed: false,
      attributes: { ...options?.attributes },
    }
    spans.push(kept)
    const context_ = { traceId: '0'.repeat(32), spanId: id, traceFlags: 1 }
    const span = Object.assign(trace.wrapSpanContext(context_), {
      updateName: (to: string) => {
        kept.name = to
        return span
      },
      setAttributes: (more: object) => {
        Object.assign(kept.attributes, more)
        return span
      },
      setStatus: ({ code }: { code: SpanStatusCode }) => {
        kept.failed = code === SpanStatusCode.ERROR
        return span
      },
      end: (at?: TimeInput) => {
        kept.ended = true
        kept.endedAt = Number(at ?? Date.now())
      },
    })
    return span
  }
  return { startSpan, startActiveSpan: () => expect.fail('not used') }
}

describe('a chain of events', () => {
  const key = new Uint8Array(32).fill(7)
  const event = (sequence: number) => ({ sequence, outcome: 'success', keys: [] }) as never

  async function written(count: number): Promise<string[]> {
    const lines: string[] = []
    const hook = chainedAudit({ key, write: line => void lines.push(line) })
    await Promise.all(Array.from({ length: count }, (_, i) => hook(event(i + 1))))
    return lines
  }

  test('is intact as it was written, and goes on where it ended', async () => {
    const lines = await written(3)
    const verdict = await verifyAuditChain({ lines, key })
    expect(verdict).toMatchObject({ intact: true, lines: 3, last: expect.stringMatching(/^[0-9a-f]{64}$/) })
    const last = lines.at(-1) ?? ''
    const on = chainedAudit({ key, write: async line => void lines.push(line), after: last })
    await on(event(4))
    expect(await verifyAuditChain({ lines: [...lines, ''], key })).toMatchObject({ intact: true, lines: 4 })
    expect(await verifyAuditChain({ lines: [], key })).toEqual({ intact: true, lines: 0, last: undefined })
    expect(JSON.parse(lines[3] ?? '').event).toEqual(event(4))
  })

  test('is signed besides: the public key alone says what is right', async () => {
    const pairs = ['SIGN-1', 'SIGN-2'].map(kid => {
      const { privateKey, publicKey } = ecKeyPair()
      return { kid, privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid } as AuditPublicKey }
    })
    const [one, two] = [pairs[0] ?? expect.fail(), pairs[1] ?? expect.fail()]
    const lines: string[] = []
    const signed = (privateKey: KeyObject, kid: string, after?: string) =>
      chainedAudit({
        key,
        write: line => void lines.push(line),
        signer: softwareSigner({ kid, privateKey }),
        ...(after !== undefined && { after }),
      })
    await signed(one.privateKey, one.kid)(event(1))
    // The next key goes on where the one before ended.
    await signed(two.privateKey, two.kid, lines[0])(event(2))
    const publicKeys = [one.jwk, two.jwk]
    const intact = { intact: true, lines: 2, last: JSON.parse(lines[1] ?? '').mac }
    for (const by of [{ publicKeys }, { key, publicKeys }, { key }]) {
      expect(await verifyAuditChain({ lines, ...by })).toEqual(intact)
    }
    const changed = (change: (line: string) => string) =>
      verifyAuditChain({ lines: [lines[0] ?? '', change(lines[1] ?? '')], publicKeys })
    const wrong = { intact: false, line: 2, problem: 'signature' }
    expect(await changed(line => line.replace('success', 'refused'))).toEqual(wrong)
    expect(await changed(line => line.replace(/"mac":"[0-9a-f]/, '"mac":"x'.replace('x', '0')))).toEqual(
      lines[1]?.includes('"mac":"0') === true ? intact : wrong,
    )
    expect(await changed(line => line.replace(/,"signature":"[^"]+"/, ''))).toEqual(wrong)
    expect(await changed(line => line.replace('SIGN-2', 'SIGN-1'))).toEqual(wrong)
    expect(await verifyAuditChain({ lines, publicKeys: [one.jwk] })).toEqual(wrong)
    expect(await verifyAuditChain({ lines: lines.slice(1), publicKeys })).toMatchObject({
      line: 1,
      problem: 'order',
    })
    expect(await verifyAuditChain({ lines: await written(1), publicKeys })).toMatchObject({
      problem: 'signature',
    })
    // Whoever has the HMAC key forges by it alone, and not with the public key.
    const forged = (lines[0] ?? '').replace('success', 'refused')
    const text = forged.slice(0, forged.indexOf(',"mac"'))
    const mac = createHmac('sha256', key).update(text).digest('hex')
    const line = forged.replace(/"mac":"[0-9a-f]{64}"/, `"mac":"${mac}"`)
    expect(await verifyAuditChain({ lines: [line], key })).toMatchObject({ intact: true })
    expect(await verifyAuditChain({ lines: [line], key, publicKeys })).toMatchObject({ problem: 'signature' })
  })

  test('takes no signer and no public key that is none, and writes no line that is not signed', async () => {
    const write = (): never => expect.fail('written')
    const options = (signer: unknown) => ({ key, write, signer }) as never
    for (const signer of [{}, { kid: 'A' }, { kid: '', sign: () => {} }, 'x', null]) {
      await failure(async () => chainedAudit(options(signer)), 'ERR_ARGUMENT')
    }
    const short = { kid: 'A', sign: async () => new Uint8Array(63) }
    await failure(async () => chainedAudit(options(short))(event(1)), 'ERR_BACKEND_FAILED')
    const { publicKey } = ecKeyPair()
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'A' }
    for (const publicKeys of [
      [],
      {},
      null,
      [null],
      [{ ...jwk, kid: '' }],
      [{ ...jwk, y: jwk.x }],
      [jwk, jwk],
    ]) {
      await failure(() => verifyAuditChain({ lines: [], publicKeys: publicKeys as never }), 'ERR_ARGUMENT')
    }
    await failure(() => verifyAuditChain({ lines: [] }), 'ERR_ARGUMENT')
  })

  test.each<[string, (lines: string[]) => unknown, object]>([
    [
      'a line is changed',
      lines => (lines[1] = (lines[1] ?? '').replace('success', 'refused')),
      { line: 2, problem: 'mac' },
    ],
    ['a line is gone', lines => lines.splice(1, 1), { line: 2, problem: 'order' }],
    ['the first is gone', lines => lines.shift(), { line: 1, problem: 'order' }],
    [
      'two change places',
      lines => lines.splice(0, 2, lines[1] ?? '', lines[0] ?? ''),
      { line: 1, problem: 'order' },
    ],
    ['a line is there twice', lines => lines.splice(1, 0, lines[0] ?? ''), { line: 2, problem: 'order' }],
    ['a line is none', lines => (lines[2] = '{}'), { line: 3, problem: 'not-a-line' }],
    [
      'a line names none before it',
      lines => (lines[2] = `{"event":1,"mac":"${'0'.repeat(64)}"}`),
      { line: 3, problem: 'not-a-line' },
    ],
    [
      'a line names no line that was confirmed',
      lines => (lines[2] = (lines[2] ?? '').replace('"event"', '"confirmed":7,"event"')),
      { line: 3, problem: 'not-a-line' },
    ],
    [
      'a line names no line that was the first to fail',
      lines => (lines[2] = (lines[2] ?? '').replace('"event"', '"first":7,"event"')),
      { line: 3, problem: 'not-a-line' },
    ],
    [
      'a line does not count what came since',
      lines => (lines[2] = (lines[2] ?? '').replace('"event"', '"since":"1","event"')),
      { line: 3, problem: 'not-a-line' },
    ],
    [
      'a line is far too long',
      lines => (lines[2] = (lines[2] ?? '').replace('{', `{${' '.repeat(70_000)}`)),
      { line: 3, problem: 'not-a-line' },
    ],
  ])('shows that %s', async (_what, change, expected) => {
    const lines = await written(3)
    change(lines)
    expect(await verifyAuditChain({ lines, key })).toEqual({ intact: false, ...expected })
  })

  test('under another key is none', async () => {
    expect(await verifyAuditChain({ lines: await written(1), key: new Uint8Array(32) })).toMatchObject({
      problem: 'mac',
    })
  })

  test('closes over a line that could not be written', async () => {
    const lines: string[] = []
    let full = true
    const hook = chainedAudit({
      key,
      write: line => {
        if (full) throw new Error('disk full')
        lines.push(line)
      },
    })
    await expect(hook(event(1))).rejects.toThrow('disk full')
    full = false
    await hook(event(2))
    expect(await verifyAuditChain({ lines, key })).toMatchObject({ intact: true, lines: 1 })
  })

  // A time that ran out, a connection that broke after the line was on the disk: of such a line nobody knows.
  test('is whole with and without a line whose write failed, and none that was confirmed can be missing, moved or doubled', async () => {
    type Fate = 'written' | 'lost' | 'written, and failed'
    for (const [fates, after] of allFates(5).flatMap(list => [
      [list, false] as const,
      [list, true] as const,
    ])) {
      const lines: string[] = after ? await written(1) : []
      const sure = new Set(lines)
      let fate: Fate = 'written'
      const hook = chainedAudit({
        key,
        ...(after && { after: lines[0] }),
        write: line => {
          if (fate !== 'lost') lines.push(line)
          if (fate !== 'written') throw new Error('no answer')
          sure.add(line)
        },
      })
      for (const [index, next] of fates.entries()) {
        fate = next
        await Promise.resolve(hook(event(index + 1))).catch(() => {})
      }
      const what = fates.join(', ')
      expect(await verifyAuditChain({ lines, key }), what).toMatchObject({
        intact: true,
        lines: lines.length,
      })
      for (const [index, line] of lines.entries()) {
        const without = lines.filter(other => other !== line)
        // Behind the end nothing shows that there was more.
        const isOpen = !sure.has(line) || index === lines.length - 1
        if (!isOpen)
          expect(await verifyAuditChain({ lines: without, key }), what).toMatchObject({ problem: 'order' })
        expect(await verifyAuditChain({ lines: lines.toSpliced(index, 0, line), key }), what).toMatchObject({
          problem: 'order',
        })
        for (let to = 0; to < index; to++) {
          const moved = without.toSpliced(to, 0, line)
          expect(await verifyAuditChain({ lines: moved, key }), `${what}: ${index} to ${to}`).toMatchObject({
            problem: 'order',
          })
        }
      }
    }

    function allFates(length: number): Fate[][] {
      if (length === 0) return [[]]
      return allFates(length - 1).flatMap(list =>
        (['written', 'lost', 'written, and failed'] as const).map(last => [...list, last]),
      )
    }
  })

  // Two replicas have one key, and each a chain of its own from the beginning; so has a service that was started twice.
  test.each([1, 2, 3])(
    'takes no line of another chain for one of its own whose write failed (%i of them)',
    async failures => {
      const [before = ''] = await written(1)
      for (const after of [undefined, before]) {
        const options = { key, ...(after !== undefined && { after }) }
        const lines: string[] = []
        let isFull = true
        const own = chainedAudit({
          ...options,
          write: line => {
            lines.push(line)
            if (isFull) throw new Error('no answer')
          },
        })
        for (let i = 1; i <= failures; i++) await expect(own(event(i))).rejects.toThrow('no answer')
        isFull = false
        await own(event(failures + 1))
        const last = lines.at(-1) ?? expect.fail()
        const foreign: string[] = []
        const other = chainedAudit({ ...options, write: line => void foreign.push(line) })
        await other(event(70))
        const start = after === undefined ? [] : [after]
        expect(await verifyAuditChain({ lines: [...start, last], key })).toMatchObject({ intact: true })
        for (const rest of [[last], lines.slice(1), lines]) {
          const mixed = [...start, ...foreign, ...rest]
          expect(await verifyAuditChain({ lines: mixed, key })).toMatchObject({
            line: start.length + 2,
            problem: 'order',
          })
        }
      }
    },
  )

  test('ten thousand lines wait for a write that hangs, and no more: the next ones are written when it has ended', async () => {
    const { until, release } = held()
    const lines: string[] = []
    const hook = chainedAudit({
      key,
      write: async line => {
        lines.push(line)
        await until
        if (lines.length === 1) throw new Error('the disk is full')
      },
    })
    const written = Array.from({ length: 10_000 }, (_, i) => hook(event(i + 1)))
    const error = await failure(async () => hook(event(10_001)), 'ERR_BACKEND_BUSY')
    expect(error.message).toBe('10000 audit lines wait to be written')
    expect(lines).toHaveLength(1)
    release()
    const outcomes = await Promise.allSettled(written)
    expect(outcomes.findLastIndex(({ status }) => status === 'rejected')).toBe(0)
    await hook(event(10_002))
    expect(await verifyAuditChain({ lines, key })).toMatchObject({ intact: true, lines: 10_001 })
    expect(JSON.parse(lines.at(-1) ?? '').event.sequence).toBe(10_002)
    // What failed, and what was refused, has taken none of the places.
    await Promise.all(Array.from({ length: 10_000 }, (_, i) => hook(event(10_003 + i))))
  })

  test('mistakes are ERR_ARGUMENT', async () => {
    const write = () => {}
    for (const options of [
      { key: new Uint8Array(31), write },
      { key: 'x'.repeat(32), write },
      { key, write: 'x' },
      { key, write, after: '{}' },
      { key, write, after: 7 },
      { key, write, x: 1 },
    ]) {
      await failure(() => chainedAudit(options as never), 'ERR_ARGUMENT')
    }
    await failure(() => verifyAuditChain({ lines: [], key: new Uint8Array(31) }), 'ERR_ARGUMENT')
  })
})

describe('bounds', () => {
  test('so many requests are under way at once, the next is 500 at once, and what hangs keeps its place', async () => {
    const { until, release } = held()
    const cards = {
      find: async ({ cardId }: { cardId: string }) => {
        await until
        return own.world.cards.get(cardId) as never
      },
    }
    const issuers = { [ISSUER]: own.world.issuer({ cards }) }
    const handler = own.world.handler({ ...open, issuers, maxConcurrent: 2, timeoutMs: 50 })
    const late = await Promise.all([handler(get(pinPath('card-1'))), handler(get(pinPath('card-2')))])
    expect(late.map(({ status }) => status)).toEqual([500, 500])
    // Both were answered, and both still hang in the directory.
    expect((await handler(get(pinPath('card-1')))).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'service-busy' })
    release()
    await vi.waitFor(async () => expect((await handler(get(pinPath('card-1')))).status).toBe(200), 60_000)
  })

  test('an audit that hangs, where it is required, keeps its place: what is one too many does not wait for it', async () => {
    const { until, release } = held()
    const handed: number[] = []
    const audit = (event: AuditEvent) => {
      handed.push(event.status)
      return until
    }
    const handler = own.world.handler({
      ...open,
      audit,
      auditRequired: true,
      maxConcurrent: 2,
      timeoutMs: 40,
    })
    const busy = () => handler(get(pinPath('card-1'))).then(({ status }) => status)
    // Each is over for its caller in time, and not for the gate.
    expect(await Promise.all([busy(), busy()])).toEqual([500, 500])
    expect(await Promise.all(Array.from({ length: 50 }, busy))).toEqual(Array(50).fill(500))
    // Every event was handed over all the same.
    expect(handed).toEqual([200, 200, ...Array(50).fill(500)])
    release()
    await until
    await sleep(1)
    expect(await busy()).toBe(200)
  })

  test('who finds no place waits for no audit', async () => {
    const { until, release } = held()
    const audit = () => until
    const bounds = { maxConcurrent: 2, timeoutMs: 60_000 }
    const handler = own.world.handler({ ...open, audit, auditRequired: true, ...bounds })
    const ended: number[] = []
    const call = async () => ended.push((await handler(get(pinPath('card-1')))).status)
    const first = [call(), call()]
    await Promise.all(Array.from({ length: 5 }, call))
    expect(ended).toEqual(Array(5).fill(500))
    release()
    await Promise.all(first)
    expect(ended.slice(5)).toEqual([200, 200])
  })

  test('one issuer does not take the places of another', async () => {
    const { until, release } = held()
    const cards = { find: () => until as never }
    const { seccos: _, ...other } = own.world.issuer()
    const issuers = { [ISSUER]: own.world.issuer({ cards }), is_other02: other }
    const handler = own.world.handler({ ...open, issuers, maxConcurrentPerIssuer: 1 })
    const hanging = handler(get(pinPath('card-1')))
    expect((await handler(get(pinPath('card-1')))).status).toBe(500)
    expect((await handler(get(pinPath('card-1', 'is_other02')))).status).toBe(200)
    release()
    expect((await hanging).status).toBe(404)
  })

  test.each([
    ['another card of its issuer', 'iso0-only', ISSUER],
    ['another issuer’s card, by the same id', 'card-1', OTHER_ISSUER],
  ])('a Set PIN that hangs does not hold up that of %s', async (_whose, cardId, issuerId) => {
    const { until, release } = held()
    const begun = held()
    own.world.pins.before = async card => {
      if (card.issuerId !== ISSUER || card.cardId !== 'card-1') return
      begun.release()
      await until
    }
    const { seccos: _, ...other } = own.world.issuer()
    const issuers = { [ISSUER]: own.world.issuer(), [OTHER_ISSUER]: other }
    const handler = own.world.handler({ ...open, issuers })
    const hanging = handler(put(await own.world.iso0()))
    await begun.until
    const answer = await handler(put(await own.world.iso0(), {}, pinPath(cardId, issuerId)))
    release()
    own.world.pins.before = async () => {}
    expect([answer.status, (await hanging).status]).toEqual([204, 204])
  })

  test('a gate counts what has not settled', async () => {
    const gate = new Gate(1)
    await expect(gate.run(() => Promise.reject(new Error('x')))).rejects.toThrow('x')
    expect(gate.taken).toBe(0)
  })

  test('a rate is one for each card and one for each caller, and fills up again', async () => {
    let now = 0
    const rates = memoryRates({ perCardPerMinute: 2, perCallerPerMinute: 3, now: () => now })
    const take = (cardId: string, caller = 'd1') =>
      rates.take({ issuerId: ISSUER, cardId, caller, operation: 'getPIN' }, { signal: AbortSignal.abort() })
    expect([take('a'), take('a'), take('a'), take('b'), take('c'), take('c', 'd2')]).toEqual([
      true,
      true,
      false,
      true,
      false,
      true,
    ])
    now += 29_999
    expect(take('a')).toBe(false)
    now += 30_001
    expect([take('a'), take('a'), take('a')]).toEqual([true, true, false])
    // However long nobody asks, no more come back than there were.
    now += 3_600_000
    expect([take('a'), take('a'), take('a')]).toEqual([true, true, false])
  })

  const ASKED = { issuerId: ISSUER, cardId: 'a', caller: 'd1', operation: 'getPIN' } as const
  test.each([
    ['of a card', 'perCardPerMinute', ['issuerId', 'cardId']],
    ['of a caller', 'perCallerPerMinute', ['caller']],
  ])('a rate %s is that of nobody else, and counts whatever is asked', (_whose, bounded, named) => {
    const others = { issuerId: OTHER_ISSUER, cardId: 'b', caller: 'd2', operation: 'SetPIN' } as const
    for (const [name, other] of Object.entries(others)) {
      const wide = { perCardPerMinute: 9, perCallerPerMinute: 9 }
      const rates = memoryRates({ ...wide, [bounded]: 1, now: () => 0 })
      const take = (query: RateQuery) => rates.take(query, { signal: AbortSignal.abort() })
      expect([take(ASKED), take(ASKED)]).toEqual([true, false])
      expect(take({ ...ASKED, [name]: other }), name).toBe(named.includes(name))
    }
  })

  test('a caller that is over its rate uses up nothing of a card’s', () => {
    const rates = memoryRates({ perCardPerMinute: 1, perCallerPerMinute: 1, now: () => 0 })
    const take = (cardId: string, caller: string) =>
      rates.take({ issuerId: ISSUER, cardId, caller, operation: 'getPIN' }, { signal: AbortSignal.abort() })
    expect([take('a', 'd1'), take('b', 'd1'), take('b', 'd2'), take('b', 'd3')]).toEqual([
      true,
      false,
      true,
      false,
    ])
  })

  test('cards without number do not have their caller forgotten', () => {
    const rates = memoryRates({ perCardPerMinute: 1, perCallerPerMinute: 100_001, now: () => 0 })
    const signal = AbortSignal.abort()
    const take = (cardId: string) =>
      rates.take({ issuerId: ISSUER, cardId, caller: 'd1', operation: 'getPIN' }, { signal })
    for (let i = 0; i < 100_001; i++) if (take(`c${i}`) !== true) expect.fail(`refused at ${i}`)
    expect(take('one more')).toBe(false)
  })

  test('a hundred thousand cards are remembered', () => {
    const rates = memoryRates({ perCardPerMinute: 1, perCallerPerMinute: 1_000_000 })
    const signal = AbortSignal.abort()
    const take = (cardId: string) =>
      rates.take({ issuerId: ISSUER, cardId, caller: undefined, operation: 'getPIN' }, { signal })
    expect([take('first'), take('first')]).toEqual([true, false])
    for (let i = 0; i < 100_000; i++) take(`c${i}`)
    expect(take('first')).toBe(true)
    expect(take('c99999')).toBe(false)
  })

  test('of a hundred thousand, those that are full again are forgotten first', () => {
    let at = 0
    const rates = memoryRates({ perCardPerMinute: 1, perCallerPerMinute: 1_000_000, now: () => at })
    const signal = AbortSignal.abort()
    const take = (cardId: string) =>
      rates.take({ issuerId: ISSUER, cardId, caller: undefined, operation: 'getPIN' }, { signal })
    take('first, and there again')
    for (let i = 0; i < 60_000; i++) take(`old${i}`)
    at = 60_000
    take('first, and there again')
    for (let i = 0; i < 40_000; i++) take(`new${i}`)
    // Forty thousand are left, so that none of these gives way.
    expect([take('new0'), take('new39999'), take('first, and there again')]).toEqual([false, false, false])
  })

  test('what is too much is 403; a limiter that fails, or says neither, lets nobody in', async () => {
    const rates = memoryRates({ perCardPerMinute: 1, perCallerPerMinute: 9 })
    const handler = own.world.handler({ ...open, rates })
    expect((await handler(get(pinPath('card-1')))).status).toBe(200)
    expect((await handler(get(pinPath('card-1')))).status).toBe(403)
    expect(own.world.last.refusal).toEqual({ reason: 'rate' })
    expect((await handler(get(`${pinPath('card-2')}`))).status).toBe(200)
    for (const [take, status] of [
      [() => Promise.reject(new Error(CANARY)), 500],
      [() => 'yes', 403],
      [async () => true, 200],
    ] as const) {
      const other = own.world.handler({ ...open, rates: { take } })
      expect((await other(get(pinPath('card-1')))).status).toBe(status)
    }
  })

  test('mistakes are ERR_ARGUMENT', async () => {
    const good = { perCardPerMinute: 1, perCallerPerMinute: 1 }
    for (const more of [{ perCardPerMinute: 0 }, { perCallerPerMinute: 0.5 }, { now: 7 }, { x: 1 }]) {
      await failure(() => memoryRates({ ...good, ...more } as never), 'ERR_ARGUMENT')
    }
    for (const more of [
      { maxConcurrent: 0 },
      { strangerEventsPerSecond: 0 },
      { strangerEventsPerSecond: 0.5 },
      { maxConcurrentPerIssuer: 1.5 },
      { rates: {} },
      { auditRequired: false },
      { requestRetentionMs: 0 },
      { tidyEveryMs: 999 },
      { tidyEveryMs: 86_400_001 },
      { tidyEveryMs: '1000' as never },
    ]) {
      await failure(() => own.world.handler({ ...open, ...more }), 'ERR_ARGUMENT')
    }
  })
})

describe('the stores are tidied', () => {
  test('once an hour, by the requests that come, of requests and intdatags that need not be known', async () => {
    let now = 0
    const clock = { now: () => 5_000_000 + now, elapsed: () => now, after: () => () => {} }
    const forgotten: unknown[] = []
    const purge = vi.spyOn(own.world.counter, 'purge')
    const pins = {
      ...own.world.issuer().pins,
      forgetRequests: async (which: unknown) => void forgotten.push(which) as never,
    }
    const issuers = { [ISSUER]: own.world.issuer({ pins }) }
    const handler = own.world.handler({ ...open, issuers, clock, requestRetentionMs: 1000 })
    await handler(get(pinPath('card-1')))
    expect(forgotten).toEqual([])
    now = 3_600_000
    for (let i = 0; i < 2; i++) await handler(get(pinPath('card-1')))
    expect(forgotten).toEqual([{ issuerIds: [ISSUER], jweKids: ['JWE-1'], acceptedBefore: 8_599_000 }])
    expect(purge).toHaveBeenCalledOnce()
    purge.mockRestore()
  })

  test('by the time that has passed, where a clock jumps ahead; by the clock, where it goes back', async () => {
    let now = 0
    let jump = 0
    const clock = { now: () => 5_000_000 + now + jump, elapsed: () => now, after: () => () => {} }
    const forgotten: unknown[] = []
    const pins = {
      ...own.world.issuer().pins,
      forgetRequests: async (which: { acceptedBefore?: number }) =>
        void forgotten.push(which.acceptedBefore) as never,
    }
    const issuers = { [ISSUER]: own.world.issuer({ pins }) }
    const handler = own.world.handler({ ...open, issuers, clock, requestRetentionMs: 1000 })
    for (const by of [86_400_000, -100_000]) {
      jump = by
      now += 3_600_000
      await handler(get(pinPath('card-1')))
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(forgotten).toEqual([8_599_000, 12_099_000])
  })

  test('of each issuer by its own keys: what another one has accepted is not forgotten', async () => {
    let now = 0
    const clock = { now: () => 5_000_000 + now, elapsed: () => now, after: () => () => {} }
    const forgotten: unknown[] = []
    const issuer = own.world.issuer()
    const pins = {
      ...issuer.pins,
      forgetRequests: async (which: unknown) => void forgotten.push(which) as never,
    }
    const { seccos: _, ...other } = own.world.issuer({ pins })
    const issuers = { [ISSUER]: own.world.issuer({ pins }), [OTHER_ISSUER]: other }
    const handler = own.world.handler({ ...open, issuers, clock })
    now = 3_600_000
    await handler(get(pinPath('card-1')))
    await vi.waitFor(() => expect(forgotten).toHaveLength(2), 60_000)
    expect(forgotten).toEqual([ISSUER, OTHER_ISSUER].map(id => ({ issuerIds: [id], jweKids: ['JWE-1'] })))
  })

  test('as often as tidyEveryMs says, and not again while it is under way; a store that fails keeps no other from it', async () => {
    let now = 0
    const clock = { now: () => 5_000_000 + now, elapsed: () => now, after: () => () => {} }
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const purge = vi.spyOn(own.world.counter, 'purge')
    let asked = 0
    let fail = (_: Error): void => {}
    const forgetRequests = () => {
      asked++
      return new Promise<never>((_, reject) => (fail = reject))
    }
    const issuers = { [ISSUER]: own.world.issuer({ pins: { ...own.world.issuer().pins, forgetRequests } }) }
    const handler = own.world.handler({ ...open, issuers, clock, tidyEveryMs: 1000 })
    for (now = 500; now <= 3000; now += 500) await handler(get(pinPath('card-1')))
    expect(asked).toBe(1)
    expect(purge).not.toHaveBeenCalled()
    fail(new Error(CANARY))
    await vi.waitFor(() => expect(purge).toHaveBeenCalledOnce(), 60_000)
    await new Promise(resolve => setImmediate(resolve))
    now = 4000
    await handler(get(pinPath('card-1')))
    expect(asked).toBe(2)
    fail(new Error(CANARY))
    purge.mockRestore()
    warn.mockRestore()
  })

  test('a store that fails at it is warned of once', async () => {
    let now = 0
    const clock = { now: () => 5_000_000 + now, elapsed: () => now, after: () => () => {} }
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const pins = { ...own.world.issuer().pins, forgetRequests: () => Promise.reject(new Error(CANARY)) }
    const handler = own.world.handler({
      ...open,
      issuers: { [ISSUER]: own.world.issuer({ pins }) },
      clock,
    })
    for (let i = 0; i < 3; i++) {
      now += 3_600_000
      expect((await handler(get(pinPath('card-1')))).status).toBe(200)
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(warn).toHaveBeenCalledOnce()
    expect(JSON.stringify(warn.mock.calls)).not.toContain(CANARY)
    warn.mockRestore()
  })
})

describe('D1’s public key', () => {
  test('may come from a function, and another one then', async () => {
    const { publicJwk } = own.world.d1
    let current: unknown = publicJwk
    const iso0 = {
      d1Zpk: own.world.keys.zpk,
      storage: own.world.keys.storage,
      d1PublicJwk: async () => current,
    }
    const handler = own.world.handler({ ...open, issuers: { [ISSUER]: own.world.issuer({ iso0 } as never) } })
    expect((await handler(get(pinPath('card-1')))).status).toBe(200)
    current = { ...publicJwk, kid: 'D1-NEXT' }
    expect((await handler(get(pinPath('card-1')))).status).toBe(200)
    expect(own.world.last.keys).toContainEqual({ role: 'd1-public', kid: 'D1-NEXT' })
    for (const wrong of [undefined, { ...publicJwk, kid: undefined }, { ...publicJwk, y: publicJwk.x }]) {
      current = wrong
      expect((await handler(get(pinPath('card-1')))).status).toBe(500)
      expect(own.world.last.refusal).toMatchObject({ reason: 'd1-key-failed' })
    }
  })
})

describe('health', () => {
  const ask = async (handler: ReturnType<typeof healthEndpoints>, path: string, method = 'GET') => {
    const response = await handler(get(path, { method }))
    return [response.status, await response.json()]
  }

  test('alive always; ready where the issuer’s store, keys and D1’s key answer', async () => {
    const checks = readinessChecks({ [ISSUER]: own.world.issuer() })
    const health = healthEndpoints({ checks })
    expect(await ask(health, '/livez')).toEqual([200, { alive: true }])
    const all = { [`${ISSUER}/store`]: true, [`${ISSUER}/keys`]: true, [`${ISSUER}/d1-key`]: true }
    expect(await ask(health, '/readyz')).toEqual([200, { ready: true, checks: all }])
    expect(await ask(health, '/other')).toEqual([404, { error: 'Not found' }])
    expect(await ask(health, '/readyz', 'POST')).toEqual([400, { error: 'Bad request' }])
    expect(['/livez', '/readyz', '/', '/readyz/'].map(path => health.takes?.(path))).toEqual([
      true,
      true,
      false,
      false,
    ])
    const away = () => Promise.reject(new Error(CANARY))
    for (const more of [
      { cards: { find: away } },
      { pins: { ...own.world.issuer().pins, readBlock: away } },
    ]) {
      const { iso0: _, ...seccosOnly } = own.world.issuer(more)
      const unready = healthEndpoints({ checks: readinessChecks({ [ISSUER]: seccosOnly }) })
      expect(await ask(unready, '/readyz')).toEqual([
        503,
        { ready: false, checks: { [`${ISSUER}/store`]: false, [`${ISSUER}/keys`]: true } },
      ])
    }
  })

  test('an issuer that offers no SECCOS is ready, too', async () => {
    const { seccos: _, ...iso0Only } = own.world.issuer()
    const health = healthEndpoints({ checks: readinessChecks({ [ISSUER]: iso0Only }) })
    const checks = { [`${ISSUER}/store`]: true, [`${ISSUER}/keys`]: true, [`${ISSUER}/d1-key`]: true }
    expect(await ask(health, '/readyz')).toEqual([200, { ready: true, checks }])
  })

  /** Keys that are a bank's besides those of the world, in a backend that can go away. */
  const LATER = [
    {
      kid: 'LAST',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: '0123456789ABCDEFFEDCBA9876543210',
    },
    {
      kid: 'AES',
      usage: 'pin-encryption',
      algorithm: 'aes-128',
      material: 'AF8CB133A78F8DC2D1359F18527593FB',
    },
    { kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: '89ABCDEF01234567765432100FEDCBA9' },
    { kid: 'CMAC', usage: 'cmac', algorithm: 'aes-128', material: '2B7E151628AED2A6ABF7158809CF4F3C' },
    {
      kid: 'JWE',
      usage: 'jwe-key-agreement',
      algorithm: 'ec-p256',
      material: 'C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721',
    },
  ] as const
  type Later = (typeof LATER)[number]['kid']

  /** A handler of the health of an issuer that has one of them as `place` has it. */
  async function withKey(kid: Later, more: Partial<BindSpec>, place: (key: Key) => Partial<IssuerOptions>) {
    const backend = await softwareBackend({ keys: LATER })
    const { usage } = LATER.find(key => key.kid === kid) ?? expect.fail()
    const key = await backend.bind({ kid, usage, ...more })
    const checks = readinessChecks({ [ISSUER]: own.world.issuer(place(key)) })
    return { backend, health: healthEndpoints({ checks }) }
  }
  const hostDecipher = true
  const iso0 = (more: (keys: WorldKeys) => Partial<Iso0Options>): Partial<IssuerOptions> => ({
    iso0: { ...(own.world.issuer().iso0 ?? expect.fail()), ...more(own.world.keys) },
  })
  const seccos = (mac: Key): Partial<IssuerOptions> => ({
    seccos: { ...(own.world.issuer().seccos ?? expect.fail()), macKeys: [own.world.keys.mac, mac] },
  })
  const cmac = (macKeys: Key): Partial<IssuerOptions> => ({
    seccos: {
      ...(own.world.issuer().seccos ?? expect.fail()),
      profile: ILLUSTRATIVE_NOT_GIROCARD_AES,
      macKeys,
    },
  })

  test.each<[string, Later, Partial<BindSpec>, (key: Key) => Partial<IssuerOptions>]>([
    ['of D1’s', 'LAST', { hostDecipher }, key => iso0(({ zpk }) => ({ d1Zpk: [zpk, key] }))],
    ['blocks are stored under', 'LAST', { hostDecipher }, key => iso0(_ => ({ storage: key }))],
    [
      'blocks were stored under',
      'LAST',
      { hostDecipher },
      key => iso0(keys => ({ storage: [keys.storage, key] })),
    ],
    ['of AES, for format 4', 'AES', { hostDecipher }, key => iso0(_ => ({ storage: key }))],
    [
      'that only deciphers',
      'LAST',
      { hostDecipher, mode: 'D' },
      key => iso0(({ zpk }) => ({ d1Zpk: [zpk, key] })),
    ],
    ['that only deciphers, alone', 'LAST', { hostDecipher, mode: 'D' }, key => iso0(_ => ({ storage: key }))],
    [
      'too old to encipher',
      'LAST',
      { hostDecipher, validTo: new Date(0) },
      key => iso0(keys => ({ storage: [keys.storage, key] })),
    ],
    ['that opens JWEs', 'JWE', {}, key => ({ jweKeys: [own.world.keys.jwe, key] })],
    ['that verifies MACs', 'MAC', { mode: 'V' }, seccos],
    ['whose MACs are CMACs', 'CMAC', { mode: 'V' }, cmac],
  ])('a key %s answers, or is found not to', async (_what, kid, more, place) => {
    const { backend, health } = await withKey(kid, more, place)
    expect((await ask(health, '/readyz'))[0]).toBe(200)
    await backend.close()
    expect(await ask(health, '/readyz')).toMatchObject([503, { checks: { [`${ISSUER}/keys`]: false } }])
  })

  test('what hangs is not ready in time, and is asked once for all who ask', async () => {
    const hang = vi.fn(() => new Promise(() => {}))
    const health = healthEndpoints({ checks: { hang, fine: async () => {} }, timeoutMs: 20, readyPath: '/r' })
    const answers = await Promise.all([ask(health, '/r'), ask(health, '/r')])
    expect(answers).toEqual(
      Array.from({ length: 2 }, () => [503, { ready: false, checks: { hang: false, fine: true } }]),
    )
    expect(hang).toHaveBeenCalledOnce()
  })

  test('mistakes are ERR_ARGUMENT', async () => {
    const checks = { a: async () => {} }
    for (const options of [
      {},
      { checks: {} },
      { checks: null },
      { checks: { a: 7 } },
      { checks: { 'a b': async () => {} } },
      { checks, livePath: 'livez' },
      { checks, livePath: '/x', readyPath: '/x' },
      { checks, timeoutMs: 0 },
      { checks, x: 1 },
    ]) {
      await failure(() => healthEndpoints(options as never), 'ERR_ARGUMENT')
    }
  })
})
