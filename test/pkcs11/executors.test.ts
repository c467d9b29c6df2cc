/**
 * The queue, the supervisor and the executors elsewhere, on the fake token: limits act, callers are released, what is lost
 * comes back, what was refused is not tried again.
 */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { getEventListeners } from 'node:events'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { STARTER, streamChannel } from '../../src/backend/pkcs11/executor/channels.js'
import type { Jobs } from '../../src/backend/pkcs11/executor/executor.js'
import {
  decodeError,
  encodeError,
  type Message,
  RemoteHost,
  serve,
} from '../../src/backend/pkcs11/executor/host.js'
import { ModuleElsewhere } from '../../src/backend/pkcs11/session/module.js'
import { AbortedError, ArgumentError, BackendError, InputError, KeyError } from '../../src/base/errors.js'
import { type Backend, keyCheckValue } from '../../src/index.js'
import type { BackendEvent, KeyStoreOptions } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { FakeToken } from './fake-token.js'
import { openOn, pair, turn, until, untilAfter, type World } from './in-thread.js'
import { bindKey, errorOf, openBackendOn, provisionFake } from './support.js'

/** Messages as bytes, before they are put into frames. */
const serialized = vi.hoisted((): Buffer[] => [])
vi.mock('node:v8', async original => {
  const v8 = await original<typeof import('node:v8')>()
  const serialize = (value: unknown): Buffer => {
    const body = v8.serialize(value)
    serialized.push(body)
    return body
  }
  return { ...v8, serialize }
})

const BLOCK = new Uint8Array(8)

/** Timers and the clock are the test's own: no limit here depends on the machine. `setImmediate` stays real. */
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

async function openInline(more: Partial<KeyStoreOptions> = {}) {
  const fake = new FakeToken()
  await provisionFake(fake, { composedMac: true })
  const backend = await openBackendOn(fake, { composedMac: true, ...more })
  const key = await bindKey(backend, 'PEK-2')
  // What binding took of its turn of the event loop is over.
  await turn()
  await turn()
  return { fake, backend, key, operations: operationsOf(key) }
}

/** Uses up this turn of the event loop, so that what follows waits. */
function useUp(fake: FakeToken): void {
  const encrypt = fake.C_Encrypt.bind(fake)
  fake.C_Encrypt = (session, data, length) => {
    // As a slow token would.
    vi.advanceTimersByTime(11)
    fake.C_Encrypt = encrypt
    return encrypt(session, data, length)
  }
}

describe('the queue, inline', () => {
  test('what waits under one key is one native call, each caller with its own part', async () => {
    const { fake, operations } = await openInline()
    const single = await Promise.all([1, 2, 3].map(byte => operations.encipher(new Uint8Array(8).fill(byte))))
    useUp(fake)
    const first = operations.encipher(BLOCK)
    fake.reset()
    const rest = [1, 2, 3].map(byte => operations.encipher(new Uint8Array(8).fill(byte)))
    expect(await Promise.all(rest)).toEqual(single)
    expect((await first).length).toBe(8)
    expect(fake.calls.filter(call => call === 'C_Encrypt').length).toBe(1)
  })

  test.each(['PEK-2', 'PEK-3', 'PEK-A', 'PEK-A256'])(
    '%s: by whichever check value it is known, what waits together is what each is alone',
    async kid => {
      const { material = '', algorithm } = { ...CONTRACT_KEYS.find(key => key.kid === kid) }
      if (typeof material !== 'string' || algorithm === undefined || algorithm === 'ec-p256')
        expect.fail('no key of a cipher')
      const { fake, backend } = await openInline()
      for (const method of ['encrypt-zero', 'cmac'] as const) {
        const { checkValue: kcv } = await keyCheckValue({ material, algorithm, method })
        const key = operationsOf(await bindKey(backend, kid, { kcv }))
        const blocks = [1, 2, 3].map(byte => new Uint8Array(algorithm.startsWith('aes') ? 16 : 8).fill(byte))
        const ways: ((block: Uint8Array) => Promise<Uint8Array>)[] = [
          block => key.encipher(block),
          block => key.decipher(block),
          ...(algorithm.startsWith('aes')
            ? [
                (block: Uint8Array) =>
                  key.encipherBound(
                    block,
                    block.map(byte => byte ^ 7),
                  ),
                (block: Uint8Array) =>
                  key.decipherBound(
                    block,
                    block.map(byte => byte ^ 7),
                  ),
              ]
            : []),
        ]
        for (const way of ways) {
          const alone: Uint8Array[] = []
          for (const block of blocks) alone.push(await way(block))
          await turn()
          await turn()
          useUp(fake)
          const first = key.encipher(new Uint8Array(16))
          fake.reset()
          expect(await Promise.all(blocks.map(way))).toEqual(alone)
          await first
          expect(fake.calls.filter(call => /^C_(En|De)crypt$/.test(call)).length).toBeLessThan(3)
        }
      }
    },
  )

  test('what a binding answers in memory of its own is wiped when the caller has it', async () => {
    const { fake, operations } = await openInline()
    const right = await operations.encipher(BLOCK)
    const answers: Uint8Array[] = []
    const encrypt = fake.C_Encrypt.bind(fake)
    fake.C_Encrypt = (...given) => {
      const answer = encrypt(...given)
      answers.push(answer)
      return answer
    }
    expect(await operations.encipher(BLOCK)).toEqual(right)
    expect(answers.map(answer => [...answer])).toEqual([[0, 0, 0, 0, 0, 0, 0, 0]])
  })

  test('hundreds of callers of one native call are answered over several turns of the event loop', async () => {
    const { fake, operations } = await openInline({ sessions: { queue: 1000 } })
    useUp(fake)
    const first = operations.encipher(BLOCK)
    fake.reset()
    let turns = 0
    let answered = false
    const answeredIn = new Map<number, number>()
    const rest = Array.from({ length: 300 }, async () => {
      await operations.encipher(BLOCK)
      answeredIn.set(turns, (answeredIn.get(turns) ?? 0) + 1)
    })
    const counting = (): void => {
      turns++
      if (!answered) setImmediate(counting)
    }
    counting()
    await Promise.all([first, ...rest])
    answered = true
    expect(fake.calls.filter(call => call === 'C_Encrypt').length).toBe(1)
    expect(Math.max(...answeredIn.values())).toBeLessThanOrEqual(64)
  })

  test('not with coalesce: false, and not across keys and directions', async () => {
    for (const coalesce of [false, true]) {
      const { fake, backend, operations } = await openInline({ coalesce })
      const other = operationsOf(await bindKey(backend, 'PEK-3'))
      const enciphered = await operations.encipher(BLOCK)
      await turn()
      await turn()
      useUp(fake)
      const first = operations.encipher(BLOCK)
      fake.reset()
      const waiting = [
        operations.encipher(BLOCK),
        other.encipher(BLOCK),
        operations.decipher(enciphered),
        operations.encipher(BLOCK),
      ]
      const [one, , clear] = await Promise.all([...waiting, first])
      expect([one, clear]).toEqual([enciphered, BLOCK])
      expect(fake.calls.filter(call => call === 'C_Encrypt').length).toBe(coalesce ? 2 : 3)
    }
  })

  test('and not across two keys of one kid, of which the second was bound when the first had been rotated', async () => {
    const { fake, backend, operations } = await openInline()
    const found = [...fake.objects.values()].find(({ attributes }) => attributes.get(CKA.LABEL) === 'PEK-2')
    fake.plant([
      ...(found?.attributes ?? []),
      [CKA.VALUE, Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex')],
    ])
    const anew = operationsOf(await bindKey(backend, 'PEK-2', { kcv: '7B8358' }))
    const alone = [await operations.encipher(BLOCK), await anew.encipher(BLOCK)]
    expect(alone[0]).not.toEqual(alone[1])
    await turn()
    await turn()
    useUp(fake)
    const first = operations.encipher(BLOCK)
    const waiting = [operations, anew, operations, anew].map(one => one.encipher(BLOCK))
    expect(await Promise.all([...waiting, first])).toEqual([...alone, ...alone, alone[0]])
  })

  test('a full queue refuses at once; one whose turn does not come is released; both retryable', async () => {
    const { fake, operations } = await openInline({ sessions: { queue: 2 }, coalesce: false })
    useUp(fake)
    const calls = Array.from({ length: 4 }, () => operations.encipher(BLOCK))
    expect(await errorOf(async () => calls[3])).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
    await Promise.all(calls.slice(0, 3))
  })

  test('an abort while waiting counts at once', async () => {
    const { fake, operations } = await openInline()
    const controller = new AbortController()
    useUp(fake)
    const first = operations.encipher(BLOCK)
    const waiting = operations.encipher(BLOCK, { signal: controller.signal })
    controller.abort()
    expect(await errorOf(() => waiting)).toMatchObject({ code: 'ERR_ABORTED' })
    await first
  })

  test('a signal that outlives its calls is not held by those that have ended: done, refused, in a full queue', async () => {
    const { fake, operations } = await openInline({ sessions: { queue: 2 }, coalesce: false })
    const { signal } = new AbortController()
    const holding = (): number => getEventListeners(signal, 'abort').length
    useUp(fake)
    const first = operations.encipher(BLOCK)
    fake.reset({ at: 2, code: 0x21 })
    const calls = Array.from({ length: 3 }, () => errorOf(() => operations.encipher(BLOCK, { signal })))
    expect(holding()).toBeGreaterThan(0)
    await Promise.all([first, ...calls].map(call => Promise.resolve(call).catch(() => undefined)))
    expect(holding()).toBe(0)
  })

  test('blocks that fail together are tried one by one', async () => {
    const { fake, operations } = await openInline()
    useUp(fake)
    const first = operations.encipher(BLOCK)
    fake.reset({ at: 2, code: 0x21 })
    const results = await Promise.all([operations.encipher(BLOCK), operations.encipher(BLOCK)])
    expect(results[0]).toEqual(results[1])
    await first
  })
})

describe('the supervisor', () => {
  test('one recovery for all callers, events on the channel and to the listener', async () => {
    const heard: unknown[] = []
    const events: BackendEvent[] = []
    const listener = (message: unknown): void => void heard.push(message)
    subscribe('issuer-pin-crypto:pkcs11', listener)
    const { fake, operations, backend } = await openInline({ onEvent: event => events.push(event) })
    const before = await operations.encipher(BLOCK)
    fake.logOut()
    const results = await Promise.all(Array.from({ length: 5 }, () => operations.encipher(BLOCK)))
    for (const result of results) expect(result).toEqual(before)
    expect(events.map(({ from, state }) => `${from} ${state}`)).toEqual([
      'open recovering',
      'recovering open',
    ])
    expect(events[0]).toMatchObject({ code: 'ERR_PKCS11_CALL', failures: 0 })
    // Others in this process may be on the channel, too.
    expect(heard.filter(message => events.includes(message as BackendEvent))).toEqual(events)
    expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
    unsubscribe('issuer-pin-crypto:pkcs11', listener)
  })

  test('a listener that throws keeps nobody away', async () => {
    const { fake, operations } = await openInline({
      onEvent: () => {
        throw new Error('not here')
      },
    })
    fake.logOut()
    expect((await operations.encipher(BLOCK)).length).toBe(8)
  })

  test('a token that is away: the first caller learns why, the next fail at once, and it comes back by itself', async () => {
    const { fake, operations, backend } = await openInline()
    const before = await operations.encipher(BLOCK)
    fake.faultOf = { fn: '*', code: 0xe0 }
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({ retryable: true })
    fake.reset()
    const error = await errorOf(() => operations.encipher(BLOCK))
    expect(error).toMatchObject({ retryable: true })
    expect(error.message).toContain('the token is away')
    expect(await backend.health()).toMatchObject({ ok: false })
    fake.faultOf = undefined
    for (;;) {
      if ((await backend.health()).ok) break
      await turn()
    }
    expect(await operations.encipher(BLOCK)).toEqual(before)
  })

  test.each([
    [0xe0, { retryable: true }],
    // Says nothing of the token: then it is as it was found.
    [0x54, { code: 'ERR_KEY_NOT_FOUND' }],
  ])('a token that shows no keys, and answers %i when it is asked itself', async (code, expected) => {
    const { fake, operations } = await openInline()
    fake.faultOf = { fn: 'C_EncryptInit', code: 0x82 }
    fake.C_FindObjects = () => []
    fake.C_GetTokenInfo = () => {
      throw new Pkcs11Error('C_GetTokenInfo', code)
    }
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject(expected)
  })

  test('a PIN that is refused on the way back is sent once, and never again', async () => {
    const pins = ['1234', 'changed']
    const { fake, operations, backend } = await openInline({ pin: () => pins.shift() ?? 'again' })
    fake.logOut()
    const error = await errorOf(() => operations.encipher(BLOCK))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_LOGIN', retryable: false })
    for (let i = 0; i < 20; i++) await turn()
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
    expect(await backend.health()).toMatchObject({ ok: false, state: 'degraded' })
    expect(fake.refusedPins).toBe(1)
    await backend.close()
  })

  test('reinitialise: false: the module is left alone, and the error says so', async () => {
    const { fake, operations, backend } = await openInline({ recovery: { reinitialise: false } })
    fake.reset({ at: 1, code: 0x190 })
    const error = await errorOf(() => operations.encipher(BLOCK))
    expect(error.message).toContain('recovery.reinitialise')
    expect(fake.calls).not.toContain('C_Finalize')
    await backend.close()
  })

  test('another backend of this process initialised the module anew: ours finds its way', async () => {
    const { fake, operations } = await openInline()
    const before = await operations.encipher(BLOCK)
    const other = await openBackendOn(fake)
    fake.reset({ at: 1, code: 0x190 })
    const key = await bindKey(other, 'PEK-3')
    expect(fake.calls).toContain('C_Finalize')
    expect((await operationsOf(key).encipher(BLOCK)).length).toBe(8)
    expect(await operations.encipher(BLOCK)).toEqual(before)
    expect((await other.health()).ok).toBe(true)
  })

  test('health that sees a wrong answer: nobody gets one before the token has answered rightly', async () => {
    const { fake, operations, backend } = await openInline()
    const before = await operations.encipher(BLOCK)
    Object.assign(fake.options, { wrong: CKM.DES3_ECB })
    const { ok, detail } = await backend.health()
    expect([ok, detail]).toEqual([false, expect.stringContaining('known answer wrong')])
    for (let i = 0; i < 20; i++) await turn()
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({ code: 'ERR_PKCS11_SELF_TEST' })
    Object.assign(fake.options, { wrong: undefined })
    while (!(await backend.health()).ok) await turn()
    expect(await operations.encipher(BLOCK)).toEqual(before)
    await backend.close()
  })

  test('what lies idle is exercised, and what timed out is back before anybody calls', async () => {
    const { fake, backend } = await openInline({ keepAliveMs: 5 })
    fake.reset()
    await untilAfter(5, () => fake.calls.includes('C_GetTokenInfo'))
    fake.logOut()
    await untilAfter(5, () => fake.loggedIn)
    expect((await backend.health()).ok).toBe(true)
    await backend.close()
  })
})

describe.each(['threads', 'process'] as const)('%s, in this thread', executor => {
  test('the same answers and codes', async () => {
    const { backend, operations, fake } = await openOn(executor)
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    expect(await errorOf(() => backend.bind({ kid: 'NONE', usage: 'cmac' }))).toMatchObject({
      code: 'ERR_KEY_NOT_FOUND',
      kid: 'NONE',
    })
    expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
    fake.logOut()
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    await backend.close()
  })

  test('a signal that outlives its call is not held by it', async () => {
    const { backend, operations } = await openOn(executor)
    const { signal } = new AbortController()
    for (let i = 0; i < 3; i++) await operations.encipher(BLOCK, { signal })
    expect(getEventListeners(signal, 'abort')).toEqual([])
    await backend.close()
  })

  test('a caller is released at its signal, and the late answer reaches nobody', async () => {
    const { backend, operations, world } = await openOn(executor)
    world.held = []
    const controller = new AbortController()
    const call = operations.encipher(BLOCK, { signal: controller.signal })
    await until(() => world.held?.length === 1)
    controller.abort()
    expect(await errorOf(() => call)).toMatchObject({ code: 'ERR_ABORTED' })
    const [answer] = world.held
    world.held = undefined
    answer?.()
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    await backend.close()
  })

  test('a call that hangs: its caller is released, others go on, closing does not wait', async () => {
    const { backend, operations, world } = await openOn(executor, {
      timeouts: { callMs: 30_000, closeMs: 10_000 },
      sessions: { waitMs: 10_000 },
    })
    world.held = []
    const hung = errorOf(() => operations.encipher(BLOCK))
    await until(() => world.held?.length === 1)
    const { started } = world
    vi.advanceTimersByTime(30_000)
    expect(await hung).toMatchObject({ retryable: true })
    // Another thread, or another process, takes the place of the one in which it hangs.
    await until(() => world.started > started)
    world.held = undefined
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    const closing = backend.close()
    await untilAfter(10_000, () => true)
    await closing
  })

  test('the other end goes: another takes its place', async () => {
    const { backend, operations, world } = await openOn(executor, { sessions: { max: 1 } })
    for (let i = 0; i < 3; i++) {
      world.kills.at(-1)?.()
      expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    }
    await backend.close()
  })

  test('keep-alive reaches it, and a failing PIN function ends the opening with its code', async () => {
    const { backend, fake } = await openOn(executor, { keepAliveMs: 5 })
    fake.reset()
    await untilAfter(5, () => fake.calls.filter(call => call === 'C_EncryptInit').length >= 2)
    await backend.close()
    const pin = (): never => {
      throw new Error('vault is closed')
    }
    const error = await errorOf(() => openOn(executor, { pin }))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
    expect(error.message).not.toContain('vault')
    const none = await errorOf(() => openOn(executor, { pin: () => undefined as never }))
    expect(none).toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
    expect(none.message).toContain('must return a string')
  })

  test('the other end goes, and none can be started: the token is away, and nothing else fails', async () => {
    const { backend, world } = await openOn(executor, { sessions: { max: 1 } }, { failing: n => n > 1 })
    world.kills[0]?.()
    let health = await backend.health()
    for (; health.ok; health = await backend.health()) await turn()
    expect(health).toMatchObject({ ok: false })
    await backend.close()
  })
})

test('run from its source, there is no file of the other end beside it: it is lost at once', async () => {
  const codes: unknown[] = []
  await new Promise<void>(resolve => {
    const channel = STARTER.process(resolve)
    channel.listen(
      message => codes.push(message),
      () => undefined,
    )
  })
  expect(codes).toEqual([])
})

test('a spare is there before it is needed', async () => {
  const { backend, operations, world } = await openOn('process', { spare: true })
  await until(() => world.started >= 2)
  world.kills[0]?.()
  expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
  await untilAfter(200, () => world.started >= 3)
  await backend.close()
})

describe('over the wire', () => {
  test.each([
    new Pkcs11Error('C_Sign', 0x30, 'ERR_PKCS11_TOKEN'),
    new KeyError('ERR_KEY_USAGE', 'not for that', 'K'),
    new InputError('ERR_LENGTH', 'too long'),
    new ArgumentError('not a key'),
    new AbortedError(undefined),
    new BackendError('ERR_BACKEND_BUSY', 'later', { retryable: true }),
  ])('%s is the same error on the other side', error => {
    const other = decodeError(structuredClone(encodeError(error)))
    expect(other).toMatchObject({ code: error.code, message: error.message, retryable: error.retryable })
    expect(other.constructor).toBe(error.constructor)
    // Whose key it is, which function said what: all that it has.
    expect({ ...other }).toEqual({ ...error })
  })

  test('what anything else says is not passed on', () => {
    const wire = encodeError(new RangeError('secret'))
    expect(JSON.stringify(wire)).not.toContain('secret')
    expect(decodeError(wire)).toMatchObject({ code: 'ERR_BACKEND_FAILED' })
  })

  test('frames come out as they went in, however they are cut; each side wipes what it has used', () => {
    serialized.length = 0
    const stream = new PassThrough()
    const chunks: Buffer[] = []
    const write = stream.write.bind(stream)
    const receiver = new PassThrough()
    stream.write = (chunk: Buffer, done?: unknown) => {
      chunks.push(Buffer.from(chunk))
      if (typeof done === 'function') done()
      expect(chunk.every(byte => byte === 0)).toBe(true)
      return write('')
    }
    const got: Message[] = []
    let ended = 0
    const far = streamChannel(
      receiver,
      () => receiver.end(),
      () => receiver.destroy(),
    )
    far.listen(
      message => got.push(message),
      () => ended++,
    )
    const near = streamChannel(
      stream,
      () => stream.end(),
      () => stream.destroy(),
    )
    const sent: Message[] = [
      { id: 1, value: Uint8Array.of(1, 2, 3) },
      {
        id: 2,
        call: 'perform',
        name: 'find',
        job: { query: { list: [1, undefined, new Map([['a', 1]])] } } as never,
      },
      { pin: 'given', value: 'a PIN', error: undefined },
    ]
    const clear = Uint8Array.of(1, 2, 3)
    sent.push({ id: 4, value: clear.slice() })
    for (const message of sent.slice(0, -1)) near.send(message, [])
    near.send({ id: 4, value: clear }, [clear.buffer])
    // Given up by the sender, and nobody else's here.
    expect([...clear]).toEqual([0, 0, 0])
    const all = Buffer.concat(chunks)
    for (let at = 0; at < all.length; at += 3) receiver.emit('data', all.subarray(at, at + 3))
    expect(got).toEqual(sent)
    expect(all.every(byte => byte === 0)).toBe(true)
    expect(serialized).toHaveLength(sent.length)
    for (const body of serialized) expect(body.every(byte => byte === 0)).toBe(true)
    receiver.emit('error', new Error('broken'))
    receiver.emit('close')
    expect(ended).toBe(1)
    near.kill()
    const late = Uint8Array.of(1)
    near.send({ id: 3, value: late }, [late.buffer])
    expect([...late]).toEqual([0])
    near.end()
    far.kill()
  })

  test('what came with a job is wiped at the other end, also the data of a derivation', async () => {
    const { near, far } = pair({ held: undefined, started: 0, kills: [] })
    const seen: Uint8Array[] = []
    const executor = {
      facts: {},
      perform: (_name: string, job: Jobs['mac']['job']) => {
        seen.push(job.message, ...(job.derivation ?? []).map(({ data }) => data))
        return seen.map(bytes => bytes[0]).join()
      },
    }
    serve(
      far,
      async () => executor as never,
      () => undefined,
    )
    const answers: Message[] = []
    near.listen(
      message => answers.push(message),
      () => undefined,
    )
    near.send({ id: 1, call: 'open', host: { settings: { login: {} }, hasPin: false } as never }, [])
    await until(() => answers.length === 1)
    const derivation = [{ method: 'encipher', data: Uint8Array.of(5) }]
    const job = { message: Uint8Array.of(4), derivation } as never
    near.send({ id: 2, call: 'perform', name: 'mac', job }, [])
    await until(() => answers.length === 2)
    expect(answers[1]).toMatchObject({ id: 2, value: '4,5' })
    expect(seen.map(bytes => [...bytes])).toEqual([[0], [0]])
  })

  test('an end whose other end has gone closes what it has opened, and ends then', async () => {
    const { near, far } = pair({ held: undefined, started: 0, kills: [] })
    const did: string[] = []
    const executor = { facts: {}, close: async () => void did.push('closed') }
    serve(
      far,
      async () => executor as never,
      () => did.push('ended'),
    )
    near.listen(
      () => undefined,
      () => undefined,
    )
    near.send({ id: 0, call: 'open', host: { settings: {}, hasPin: false } } as never, [])
    for (let i = 0; i < 5; i++) await turn()
    near.end()
    for (let i = 0; i < 5; i++) await turn()
    expect(did).toEqual(['closed', 'ended'])
  })

  test('a host that was not opened, and one that is asked nonsense, answer with codes', async () => {
    const world: World = { held: undefined, started: 0, kills: [] }
    const { near, far } = pair(world)
    let ended = false
    serve(
      far,
      () => Promise.reject(new RangeError('no')),
      () => {
        ended = true
      },
    )
    const answers: Message[] = []
    near.listen(
      message => answers.push(message),
      () => undefined,
    )
    near.send({ id: 1, call: 'keepAlive' }, [])
    near.send({ pin: 'given', value: 'unasked', error: undefined }, [])
    near.send({ pin: 'ask' }, [])
    near.send({ id: 2, value: 1 }, [])
    await until(() => answers.length === 1)
    expect(answers[0]).toMatchObject({ id: 1, error: { code: 'ERR_BACKEND_FAILED' } })
    near.kill()
    await until(() => ended)
  })
})

test('what comes to this end and is wanted nowhere is wiped, and what makes no sense is passed over', async () => {
  const { near, far } = pair({ held: undefined, started: 0, kills: [] })
  const sent: Message[] = []
  far.listen(
    message => sent.push(message),
    () => undefined,
  )
  let receive: ((message: Message) => void) | undefined
  const channel = {
    ...near,
    listen: (take: (message: Message) => void, closed: () => void) => {
      receive = take
      near.listen(take, closed)
    },
  }
  const host = new RemoteHost(
    channel,
    'process',
    () => '1234',
    () => undefined,
  )
  const answer = host.perform('encipher', { key: {} as never, blocks: new Uint8Array(8) })
  await until(() => sent.length === 1)
  const late = new Uint8Array(8).fill(9)
  receive?.({ id: 4711, value: late })
  receive?.({ id: 4711, value: 'a word' })
  receive?.({ id: 4711, error: encodeError(new Error('x')) })
  receive?.({ pin: 'given', value: 'unasked', error: undefined })
  receive?.({ id: 0, call: 'keepAlive' })
  expect([...late]).toEqual(Array(8).fill(0))
  expect(host.underWay).toBe(1)
  receive?.({ id: 0, value: Uint8Array.of(1) })
  expect(await answer).toEqual(Uint8Array.of(1))
  receive?.({ pin: 'ask' })
  await until(() => sent.length === 2)
  expect(sent[1]).toEqual({ pin: 'given', value: '1234', error: undefined })
  host.kill()
  expect(host.isGone).toBe(true)
})

test('a message that cannot be sent is no call under way', async () => {
  const { near } = pair({ held: undefined, started: 0, kills: [] })
  const send = (): void => {
    throw new RangeError('Array buffer allocation failed')
  }
  const host = new RemoteHost({ ...near, send }, 'thread', undefined, () => undefined)
  await expect(host.perform('pulse', {})).rejects.toBeInstanceOf(RangeError)
  expect(host.underWay).toBe(0)
})

test('threads of this process are in the module: it is not finalised under them', async () => {
  const { fake, backend, operations } = await openInline()
  const elsewhere = new ModuleElsewhere(fake.path, undefined)
  fake.reset({ at: 1, code: 0x190 })
  const error = await errorOf(() => operations.encipher(BLOCK))
  expect(error.message).toContain('other threads of this process may be in it')
  expect(fake.calls).not.toContain('C_Finalize')
  elsewhere.release()
  elsewhere.release()
  await until(() => fake.calls.includes('C_Finalize'))
  await backend.close()
})

test('closing releases whoever still waits', async () => {
  const { backend, operations, world } = await openOn('threads', { timeouts: { closeMs: 10_000 } })
  world.held = []
  const call = errorOf(() => operations.encipher(BLOCK))
  await until(() => world.held?.length === 1)
  const closing: Promise<void> = (backend as Backend).close()
  vi.advanceTimersByTime(10_000)
  expect(await call).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
  await closing
})
