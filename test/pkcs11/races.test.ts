/**
 * What meets in one moment, on the fake token: a lane that is kept alive and callers who want all of them, closing in the
 * middle of coming back, memory that is not to be had, a key that is unbound while a token of a group proves it.
 */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { Callers, Entry } from '../../src/backend/pkcs11/executor/callers.js'
import { Dispatcher } from '../../src/backend/pkcs11/executor/dispatcher.js'
import type { Executor } from '../../src/backend/pkcs11/executor/executor.js'
import { ProcessExecutor } from '../../src/backend/pkcs11/executor/process.js'
import { REAL, Supervisor } from '../../src/backend/pkcs11/executor/supervisor.js'
import { ThreadsExecutor } from '../../src/backend/pkcs11/executor/threads.js'
import { openGroup } from '../../src/backend/pkcs11/group.js'
import type { KeyRef } from '../../src/backend/pkcs11/keys/key-table.js'
import { readSettings } from '../../src/backend/pkcs11/session/options.js'
import { DEFAULTS } from '../../src/base/defaults.js'
import { BackendError } from '../../src/base/errors.js'
import type { Key } from '../../src/index.js'
import type { GroupEvent, Pkcs11Options } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { FakeToken } from './fake-token.js'
import { starterOn, turn, until, untilAfter, type World } from './in-thread.js'
import { AT_ONCE, bindKey, openBackendOn, optionsFor, provisionFake } from './support.js'

const BLOCK = new Uint8Array(8)
const OTHER = new Uint8Array(8).fill(7)
const CALL_MS = 1000

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn()
}

async function elsewhere(executor: 'threads' | 'process', spare = false, more: object = {}) {
  const fake = new FakeToken()
  const world: World = { held: undefined, started: 0, ended: 0, kills: [] }
  const given = {
    ...optionsFor(fake),
    executor,
    sessions: { max: 2 },
    timeouts: { callMs: CALL_MS, ...more },
  }
  const settings = readSettings({ ...given, ...(spare && { spare }) }, 'a test')
  const starter = starterOn(fake, world)
  return { fake, world, settings, starter }
}

async function threads(more: object = {}) {
  const { fake, world, settings, starter } = await elsewhere('threads', false, more)
  return { fake, world, executor: await ThreadsExecutor.open(settings, undefined, starter) }
}

describe('threads', () => {
  test('who finds no lane free but one that is being kept alive waits for that', async () => {
    const { world, executor } = await threads()
    world.held = []
    const kept = executor.keepAlive()
    const calls = [executor.perform('pulse', {}), executor.perform('pulse', {})]
    await turns(5)
    const [answer] = world.held
    world.held = undefined
    answer?.()
    expect(await Promise.all(calls)).toEqual([true, true])
    await kept
    expect(world.started).toBe(2)
    await executor.close()
    await turns(5)
    expect(world.ended).toBe(world.started)
  })

  test('one that is busy is not kept alive: its call does that', async () => {
    const { fake, world, executor } = await threads()
    await executor.keepAlive()
    fake.reset()
    await executor.keepAlive()
    const forBoth = fake.calls.length
    world.held = []
    const call = executor.perform('pulse', {})
    await until(() => world.held?.length === 1)
    const [answer] = world.held
    world.held = undefined
    fake.reset()
    await executor.keepAlive()
    expect(fake.calls.length * 2).toBe(forBoth)
    answer?.()
    expect(await call).toBe(true)
    await executor.close()
  })

  test('one that hangs while it is kept alive is given up like one that hangs in a call', async () => {
    const { world, executor } = await threads()
    world.held = []
    const kept = executor.keepAlive()
    const calls = [executor.perform('pulse', {}), executor.perform('pulse', {})]
    await turns(5)
    const [answer] = world.held
    world.held = undefined
    // While one hangs, no other is tried: all of them would hang one by one.
    await executor.keepAlive()
    vi.advanceTimersByTime(CALL_MS)
    await turns(5)
    expect(executor.stuck).toBe(1)
    expect(executor.lanes).toBe(2)
    expect(await Promise.all(calls)).toEqual([true, true])
    expect(world.started).toBe(3)
    await expect(executor.letGo()).rejects.toMatchObject({ code: 'ERR_BACKEND_FAILED' })
    answer?.()
    // The fake finalises the module for all when one thread ends.
    await kept.catch(() => undefined)
    await turns(5)
    expect(executor.stuck).toBe(0)
    await executor.close()
    await turns(5)
    expect(world.ended).toBe(world.started)
  })

  test('one that does not close is waited for as long as closing may take, and no longer', async () => {
    const { world, executor } = await threads({ openMs: 5000, closeMs: 300 })
    world.held = []
    let isClosed = false
    void executor.close().then(() => {
      isClosed = true
    })
    await until(() => world.held?.length === 1)
    vi.advanceTimersByTime(299)
    await turns(10)
    expect(isClosed).toBe(false)
    vi.advanceTimersByTime(1)
    await turns(50)
    expect(isClosed).toBe(true)
    expect(world.ended).toBe(world.started)
  })

  test('one that starts in the place of another while the backend closes is ended', async () => {
    const { world, executor } = await threads()
    world.held = []
    const call = executor.perform('pulse', {})
    await until(() => world.held?.length === 1)
    const [answer] = world.held
    world.held = undefined
    vi.advanceTimersByTime(CALL_MS)
    await executor.close()
    answer?.()
    expect(await call).toBe(true)
    await turns(20)
    expect(world.started).toBe(3)
    expect(world.ended).toBe(3)
  })

  test('a call that hangs while the module is to be let go: it is not pulled from under it', async () => {
    const { fake, world, executor } = await threads()
    world.held = []
    const call = executor.perform('pulse', {})
    await until(() => world.held?.length === 1)
    const [answer] = world.held
    world.held = undefined
    let error: unknown
    fake.reset()
    executor.letGo().catch((caught: unknown) => {
      error = caught
    })
    await untilAfter(100, () => error !== undefined)
    expect(error).toMatchObject({
      code: 'ERR_BACKEND_FAILED',
      message: expect.stringContaining('calls hang'),
    })
    expect(fake.calls).not.toContain('C_Finalize')
    answer?.()
    await call
    await executor.close()
  })

  test('a login that does not end keeps the module from being let go, and ends nothing else', async () => {
    const { fake, world, executor } = await threads()
    world.held = []
    let errors: unknown[] = []
    executor.logIn().catch((error: unknown) => errors.push(error))
    await untilAfter(1000, () => errors.length === 1)
    executor.letGo().catch((error: unknown) => errors.push(error))
    fake.reset()
    await untilAfter(100, () => errors.length === 2)
    expect(errors).toMatchObject([{ code: 'ERR_BACKEND_BUSY' }, { code: 'ERR_BACKEND_BUSY' }])
    expect(String(errors[1])).toContain('a call into the module does not end')
    expect(fake.calls).not.toContain('C_Finalize')
    errors = []
    world.held = undefined
    await executor.close()
    await executor.close()
  })

  test('closed while they come back: none stays, and none is started', async () => {
    const { world, executor } = await threads()
    await executor.letGo()
    const back = executor.comeBack().catch(() => undefined)
    await executor.close()
    await back
    await turns(20)
    expect(world.ended).toBe(world.started)
    expect(world.started).toBe(2)
  })
})

test('a child that is started in the place of another while the backend closes is ended', async () => {
  const { world, settings, starter } = await elsewhere('process')
  const executor = await ProcessExecutor.open(settings, starter)
  world.kills[0]?.()
  const back = executor.comeBack().catch(() => undefined)
  await executor.close()
  await back
  await turns(20)
  expect(world.started).toBe(2)
  expect(world.ended).toBe(2)
})

test('the end of each child that serves is told: also of one that took the place of another', async () => {
  const { world, settings, starter } = await elsewhere('process')
  const executor = await ProcessExecutor.open(settings, starter)
  const lost = vi.fn()
  executor.onLost = lost
  for (const time of [1, 2, 3]) {
    world.kills[time - 1]?.()
    await turns(5)
    expect(lost).toHaveBeenCalledTimes(time)
    await executor.comeBack()
    expect(world.started).toBe(time + 1)
  }
  await executor.close()
  await turns(5)
  expect(lost).toHaveBeenCalledTimes(3)
})

test('a child that goes while it comes back: another takes its place', async () => {
  const { world, settings, starter } = await elsewhere('process')
  const executor = await ProcessExecutor.open(settings, starter)
  await executor.letGo()
  world.held = []
  const back = executor.comeBack()
  await until(() => world.held?.length === 1)
  world.held = undefined
  world.kills[0]?.()
  await back
  expect(world.started).toBe(2)
  expect(await executor.perform('pulse', {})).toBe(true)
  await executor.close()
})

/** Memory of that length is not to be had, from the `from`th time on, so often. */
function without(length: number, { from = 1, times = 1 } = {}): void {
  const Real = ArrayBuffer
  let asked = 0
  vi.stubGlobal(
    'ArrayBuffer',
    class extends Real {
      constructor(bytes: number) {
        if (bytes === length) {
          asked++
          if (asked >= from && asked < from + times) throw new RangeError('Array buffer allocation failed')
        }
        super(bytes)
      }
    },
  )
}

async function inline(more: Partial<Pkcs11Options> = {}) {
  const fake = new FakeToken()
  await provisionFake(fake, { composedMac: true })
  const backend = await openBackendOn(fake, { composedMac: true, ...more })
  const key = await bindKey(backend, 'PEK-2')
  await turns(2)
  return { fake, backend, operations: operationsOf(key) }
}

/** Uses up this turn of the event loop, so that what follows waits. */
function useUp(fake: FakeToken): void {
  const encrypt = fake.C_Encrypt.bind(fake)
  fake.C_Encrypt = (session, data, length) => {
    vi.advanceTimersByTime(11)
    fake.C_Encrypt = encrypt
    return encrypt(session, data, length)
  }
}

describe('whoever waits', () => {
  test('with no room to wait: who finds the lane free gets it, and nobody else', async () => {
    const { fake, operations } = await inline({ sessions: { queue: 0 } })
    useUp(fake)
    const first = operations.encipher(BLOCK)
    // The lane is free, and its turn of the event loop used up.
    const second = operations.encipher(BLOCK)
    const third = outcomeOf(operations.encipher(BLOCK))
    expect(await second).toEqual(await first)
    expect(await third).toMatchObject({ code: 'ERR_BACKEND_BUSY' })
  })

  test('is released when its own time is up, and not when that of one before it is', async () => {
    const { fake, operations } = await inline({ sessions: { waitMs: 40 }, coalesce: false })
    useUp(fake)
    const first = operations.encipher(BLOCK)
    const outcomes: unknown[] = []
    const wait = (): void => void outcomeOf(operations.encipher(BLOCK)).then(one => outcomes.push(one))
    wait()
    vi.advanceTimersByTime(20)
    wait()
    vi.advanceTimersByTime(20)
    expect(await first).toBeInstanceOf(Uint8Array)
    await until(() => outcomes.length === 2)
    expect(outcomes).toMatchObject([{ code: 'ERR_BACKEND_BUSY' }, expect.any(Uint8Array)])
  })

  test('for the token to come back, and is released meanwhile: nothing is asked for it', async () => {
    const pins: ((pin: string) => void)[] = []
    let given = 0
    const pin = (): string | Promise<string> =>
      given++ === 0 ? '1234' : new Promise<string>(resolve => pins.push(resolve))
    const { fake, operations } = await inline({ pin })
    const right = await operations.encipher(BLOCK)
    await turns(2)
    fake.logOut()
    const lost = operations.encipher(BLOCK)
    await until(() => pins.length === 1)
    const controller = new AbortController()
    const waiting = outcomeOf(operations.encipher(OTHER, { signal: controller.signal }))
    await turns(2)
    controller.abort()
    expect(await waiting).toMatchObject({ code: 'ERR_ABORTED' })
    const encrypt = fake.C_Encrypt.bind(fake)
    const asked: Uint8Array[] = []
    fake.C_Encrypt = (session, data, length) => {
      asked.push(Uint8Array.from(data))
      return encrypt(session, data, length)
    }
    pins[0]?.('1234')
    expect(await lost).toEqual(right)
    await turns(2)
    expect(asked).toContainEqual(BLOCK)
    expect(asked).not.toContainEqual(OTHER)
  })

  test('and has had a signal that fired before it came: released at once', async () => {
    const { fake, operations } = await inline()
    useUp(fake)
    const first = operations.encipher(BLOCK)
    const controller = new AbortController()
    const callers = new Callers({ queue: 10, waitMs: 1000, callMs: 1000 }, () => undefined)
    controller.abort(new Error('secret reason'))
    const entry = new Entry('pulse', {}, undefined)
    expect(callers.enter(entry, controller.signal, true)).toBe(false)
    await expect(entry.answer).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(callers.waiting).toBe(0)
    await first
  })

  test('closed while the PIN is fetched: no login is made on a session that is another’s by then', async () => {
    const pins: ((pin: string) => void)[] = []
    let given = 0
    const pin = (): string | Promise<string> =>
      given++ === 0 ? '1234' : new Promise<string>(resolve => pins.push(resolve))
    const { fake, backend, operations } = await inline({ pin })
    fake.logOut()
    const lost = outcomeOf(operations.encipher(BLOCK))
    await until(() => pins.length === 1)
    fake.reset()
    const closed = backend.close()
    await untilAfter(1000, () => fake.calls.includes('C_CloseSession'))
    pins[0]?.('1234')
    await closed
    expect(await lost).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
    expect(fake.calls).not.toContain('C_Login')
  })
})

describe('memory that is not to be had', () => {
  test('for blocks that go together: each goes alone, and the lane is free again', async () => {
    const { fake, operations } = await inline()
    const right = await operations.encipher(BLOCK)
    await turns(2)
    useUp(fake)
    const first = operations.encipher(BLOCK)
    const rest = [1, 2, 3].map(() => operations.encipher(BLOCK))
    // Three blocks, and one whose answer is known.
    without(32)
    expect(await Promise.all([first, ...rest])).toEqual([right, right, right, right])
    await turns(2)
    expect(await operations.encipher(BLOCK)).toEqual(right)
  })

  test('for the fields of blocks that go together: each goes alone, and the blocks are wiped', async () => {
    const { fake, backend } = await inline()
    const operations = operationsOf(await bindKey(backend, 'PEK-A'))
    const [block, fields] = [new Uint8Array(16), new Uint8Array(16).fill(3)]
    const right = await operations.encipherBound(block, fields)
    await turns(2)
    useUp(fake)
    const first = operations.encipherBound(block, fields)
    const rest = [1, 2, 3].map(() => operations.encipherBound(block, fields))
    // Three blocks and one more, and then as many fields.
    without(64, { from: 2 })
    expect(await Promise.all([first, ...rest])).toEqual([right, right, right, right])
  })

  test('for one part of the answer: its caller is told, the others get theirs', async () => {
    const { fake, operations } = await inline()
    const right = await operations.encipher(BLOCK)
    await turns(2)
    useUp(fake)
    const first = operations.encipher(BLOCK)
    const rest = [1, 2, 3].map(() => outcomeOf(operations.decipher(right)))
    const decipher = fake.C_Decrypt.bind(fake)
    fake.C_Decrypt = (...given) => {
      const answer = decipher(...given)
      without(8, { from: 2 })
      return answer
    }
    expect(await first).toEqual(right)
    const got = await Promise.all(rest)
    expect(got.filter(one => one instanceof BackendError).length).toBe(1)
    expect(got.filter(one => one instanceof Uint8Array)).toEqual([BLOCK, BLOCK])
    vi.unstubAllGlobals()
    await turns(2)
    expect(await operations.encipher(BLOCK)).toEqual(right)
  })
})

async function group(more: Partial<Pkcs11Options> = {}, count = 2) {
  const fakes = Array.from({ length: count }, () => new FakeToken())
  const kept = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-2' || kid === 'PEK-3')
  for (const fake of fakes) await provisionFake(fake, {}, kept)
  const [first = expect.fail(), second = expect.fail()] = fakes
  const events: GroupEvent[] = []
  const backend = await openGroup(
    {
      members: fakes.map(fake => optionsFor(fake, { keepAliveMs: 0, ...more })),
      failBackAfter: 1,
      onEvent: event => events.push(event),
    },
    module => (fakes.find(({ path }) => path === module) ?? first).load,
    { surroundings: AT_ONCE },
  )
  const isSaid = (member: number, state: string) => (): boolean =>
    events.some(event => event.member === member && event.state === state)
  return { first, second, events, backend, isSaid }
}

describe('a group of tokens', () => {
  test('a burst beyond the queue is no sign that a token hangs: it is not lost, at a call and at bind', async () => {
    const { first, events, backend } = await group({ sessions: { queue: 2 }, coalesce: false })
    await using _ = backend
    const operations = operationsOf(await bindKey(backend, 'PEK-2'))
    await turns(2)
    useUp(first)
    const calls = Array.from({ length: 12 }, () => outcomeOf(operations.encipher(BLOCK)))
    const bound = outcomeOf(bindKey(backend, 'PEK-3'))
    const answers = await Promise.all(calls)
    expect(answers.filter(one => one instanceof BackendError && one.code === 'ERR_BACKEND_BUSY').length).toBe(
      9,
    )
    expect(await bound).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
    expect(events).toEqual([])
  })

  test('one that answers others in the meantime is slow, and not lost', async () => {
    const more = { sessions: { queue: 100, waitMs: 40 }, coalesce: false, timeouts: { callMs: 100 } }
    const { first, events, backend } = await group(more)
    await using _ = backend
    const operations = operationsOf(await bindKey(backend, 'PEK-2'))
    await turns(2)
    const encrypt = first.C_Encrypt.bind(first)
    first.C_Encrypt = (...given) => {
      vi.advanceTimersByTime(11)
      return encrypt(...given)
    }
    const answers = await Promise.all(Array.from({ length: 30 }, () => outcomeOf(operations.encipher(BLOCK))))
    const late = answers.filter(one => one instanceof BackendError && one.code === 'ERR_BACKEND_BUSY')
    expect(late.length).toBeGreaterThan(10)
    expect(answers.filter(one => one instanceof Uint8Array).length).toBe(30 - late.length)
    expect(events).toEqual([])
  })

  test('one that answers nobody is lost after three who waited for nothing', async () => {
    const fake = new FakeToken()
    await provisionFake(fake, { composedMac: true })
    const world: World = { held: undefined, started: 0, kills: [] }
    const member = optionsFor(fake, {
      executor: 'process',
      spare: false,
      coalesce: false,
      keepAliveMs: 0,
      sessions: { max: 1, waitMs: 40 },
    })
    const events: GroupEvent[] = []
    const options = { members: [member, member], onEvent: (event: GroupEvent) => events.push(event) }
    const open = { surroundings: AT_ONCE, starter: starterOn(fake, world) }
    await using backend = await openGroup(options, () => fake.load, open)
    const operations = operationsOf(await bindKey(backend, 'PEK-2'))
    world.held = []
    const calls = Array.from({ length: 4 }, () => outcomeOf(operations.encipher(BLOCK)))
    await until(() => world.held?.length === 1)
    const [answer] = world.held
    world.held = undefined
    vi.advanceTimersByTime(40)
    await turns(2)
    expect(events).toMatchObject([{ member: 0, state: 'away', active: 1, code: 'ERR_BACKEND_BUSY' }])
    answer?.()
    const codes = (await Promise.all(calls)).map(one => (one instanceof BackendError ? one.code : 'answered'))
    expect(codes).toEqual(['answered', ...Array(3).fill('ERR_BACKEND_BUSY')])
  })

  test.each([0, 1])(
    'a call that hangs in token %i of two holds up closing for as long as that may take, and no longer',
    async at => {
      const [well, hanging] = [new FakeToken(), new FakeToken()]
      for (const fake of [well, hanging]) await provisionFake(fake, { composedMac: true })
      const world: World = { held: undefined, started: 0, kills: [] }
      const timeouts = { callMs: 60_000, closeMs: 500 }
      const member = optionsFor(hanging, { executor: 'process', spare: false, keepAliveMs: 0, timeouts })
      const backend = await openGroup(
        { members: [optionsFor(well)].toSpliced(at, 0, member) },
        module => (module === well.path ? well.load : hanging.load),
        { surroundings: AT_ONCE, starter: starterOn(hanging, world) },
      )
      world.held = []
      const health = outcomeOf(backend.health())
      await until(() => world.held?.length === 1)
      world.held = undefined
      let isClosed = false
      void backend.close().then(() => {
        isClosed = true
      })
      vi.advanceTimersByTime(499)
      await turns(10)
      expect(isClosed).toBe(false)
      vi.advanceTimersByTime(1)
      await turns(50)
      expect(isClosed).toBe(true)
      expect(await health).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
    },
  )

  test('a key that is unbound whenever a token proves it is bound there no more', async () => {
    for (let at = 1; at <= 6; at++) {
      const { first, backend, isSaid } = await group()
      const [key, other] = [await bindKey(backend, 'PEK-2'), await bindKey(backend, 'PEK-3')]
      first.faultOf = { fn: '*', code: 0xe0 }
      await operationsOf(key).encipher(BLOCK)
      const find = first.C_FindObjectsInit.bind(first)
      let finds = 0
      first.C_FindObjectsInit = (...given) => {
        if (first.faultOf === undefined && ++finds === at) backend.unbind(key)
        find(...given)
      }
      first.faultOf = undefined
      await until(isSaid(0, 'ready'))
      if (finds < at) backend.unbind(key)
      first.remove('PEK-2')
      await operationsOf(other).encipher(BLOCK)
      expect({ at, ...(await backend.health()) }).toMatchObject({ at, ok: true, state: 'open' })
      await backend.close()
    }
  })

  test('whenever a key is bound while a token comes back, it works there afterwards', async () => {
    for (let later = 0; later < 7; later++) {
      const { first, second, backend, isSaid } = await group()
      const key = await bindKey(backend, 'PEK-2')
      first.faultOf = { fn: '*', code: 0xe0 }
      await operationsOf(key).encipher(BLOCK)
      await turns(1)
      const find = first.C_FindObjectsInit.bind(first)
      let bound: Promise<Key> | undefined
      const begin = async (): Promise<Key> => {
        for (let i = 0; i < later; i++) await undefined
        return bindKey(backend, 'PEK-3')
      }
      first.C_FindObjectsInit = (...given) => {
        if (first.faultOf === undefined) bound ??= begin()
        find(...given)
      }
      first.faultOf = undefined
      await until(isSaid(0, 'ready'))
      await turns(4)
      second.faultOf = { fn: '*', code: 0xe0 }
      const operations = operationsOf((await bound) ?? expect.fail('nothing was bound'))
      expect([later, await outcomeOf(operations.encipher(BLOCK))]).toEqual([later, expect.any(Uint8Array)])
      await backend.close()
    }
  })
})

function outcomeOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.catch((error: unknown) => error)
}

test('blocks that were copied for callers are wiped with the answer: of any length, and however many', () => {
  const { value: queue } = DEFAULTS.pkcs11.queue
  const callers = new Callers({ queue: 2 * queue, waitMs: 1000, callMs: 1000 }, () => undefined)
  const lengths = [8, 16, 24, ...Array<number>(queue).fill(8)]
  const copies = lengths.map(length => callers.copyOf(new Uint8Array(length).fill(7)))
  const entries = copies.map(
    blocks => new Entry('encipher', { key: {} as never, blocks }, undefined, new Uint8Array(blocks.length)),
  )
  for (const entry of entries) callers.enter(entry, undefined, true)
  for (const entry of entries) callers.settle(entry, { value: new Uint8Array(8) })
  expect(copies.filter(copy => copy.some(byte => byte !== 0))).toEqual([])
})

describe('callers who have gone', () => {
  const key = {
    kid: 'A',
    name: 'A',
    algorithm: 'tdea-2key',
    checkValue: { method: 'encrypt-zero', value: '' },
  }
  const LIMITS = { queue: 9, waitMs: 5000, callMs: 5000, coalesce: true }
  type Perform = (name: string, job: { readonly blocks: Uint8Array }) => Promise<unknown>

  const dispatcherOn = (lanes: number, perform: Perform, more: object = {}): Dispatcher => {
    const executor = { kind: 'threads', lanes, stuck: 0, perform } as unknown as Executor
    const supervisor = { state: 'open', generation: 0, gate: async () => {}, ...more }
    return new Dispatcher(executor, supervisor as unknown as Supervisor, LIMITS)
  }

  test('while a token came back cost it no call', async () => {
    let open = (): void => {}
    const gate = new Promise<void>(resolve => {
      open = resolve
    })
    const performed: string[] = []
    const perform = async (name: string): Promise<unknown> => performed.push(name)
    const dispatcher = dispatcherOn(1, perform, { gate: () => gate })
    const gone = new AbortController()
    const call = outcomeOf(Promise.resolve(dispatcher.run('pulse', {}, gone.signal)))
    await turns(2)
    gone.abort()
    expect(await call).toMatchObject({ code: 'ERR_ABORTED' })
    open()
    await turns(2)
    expect(performed).toEqual([])
    expect(dispatcher.waiting).toBe(0)
  })

  test('while a token came back that had failed their call: they are not tried once more, with what was wiped', async () => {
    let open = (): void => {}
    const back = new Promise<void>(resolve => {
      open = resolve
    })
    const performed: string[] = []
    const perform = async (name: string): Promise<unknown> => {
      performed.push(name)
      throw new Pkcs11Error('C_GenerateRandom', 0x30)
    }
    const dispatcher = dispatcherOn(1, perform, { recover: () => back })
    const gone = new AbortController()
    const call = outcomeOf(Promise.resolve(dispatcher.run('randomBytes', { length: 8 }, gone.signal)))
    await turns(2)
    gone.abort()
    expect(await call).toMatchObject({ code: 'ERR_ABORTED' })
    open()
    await turns(2)
    expect(performed).toEqual(['randomBytes'])
  })

  test('while a call for several was under way get nothing of it, and the others all of theirs', async () => {
    const calls: { readonly bytes: number; readonly answer: (value: unknown) => void }[] = []
    const perform: Perform = (_name, { blocks }) =>
      new Promise(answer => calls.push({ bytes: blocks.length, answer }))
    const dispatcher = dispatcherOn(1, perform)
    const gone = new AbortController()
    const run = (signal?: AbortSignal): Promise<unknown> => {
      const job = { key: key as unknown as KeyRef, blocks: new Uint8Array(8) }
      return outcomeOf(Promise.resolve(dispatcher.run('encipher', job, signal)))
    }
    const [first, left, stays] = [run(), run(gone.signal), run()]
    await turns(2)
    calls[0]?.answer(new Uint8Array(8).fill(1))
    await until(() => calls.length === 2)
    gone.abort()
    expect(await left).toMatchObject({ code: 'ERR_ABORTED' })
    expect(calls.map(({ bytes }) => bytes)).toEqual([8, 24])
    calls[1]?.answer(Uint8Array.from({ length: 24 }, (_, i) => i >> 3))
    expect(await first).toEqual(new Uint8Array(8).fill(1))
    expect(await stays).toEqual(new Uint8Array(8).fill(1))
  })

  test('a login that was lost is told from a token that is, by the session key', async () => {
    const rungs: string[] = []
    const errors = [new Pkcs11Error('C_Encrypt', 0x05), new Pkcs11Error('C_Encrypt', 0x101)]
    const perform = async (): Promise<unknown> => {
      const error = errors.shift()
      if (error !== undefined) throw error
      return new Uint8Array(8)
    }
    const dispatcher = dispatcherOn(1, perform, { recover: async (rung: string) => rungs.push(rung) })
    const job = { key: key as unknown as KeyRef, blocks: new Uint8Array(8) }
    expect(await dispatcher.run('encipher', job, undefined)).toEqual(new Uint8Array(8))
    expect(rungs).toEqual(['login'])
  })
})

test('who waited for a token to come back, and loses it again, has it brought back once more', async () => {
  let open = (): void => {}
  const first = new Promise<void>(resolve => {
    open = resolve
  })
  let backs = 0
  const executor = {
    kind: 'threads',
    lanes: 2,
    stuck: 0,
    // It is well when it has come back for the second time.
    perform: async () => {
      if (backs < 2) throw new Pkcs11Error('C_GenerateRandom', 0x30)
      return new Uint8Array(8)
    },
    letGo: async () => undefined,
    comeBack: async () => {
      if (backs === 0) await first
      backs++
    },
  } as unknown as Executor
  const supervisor = new Supervisor(executor, { onEvent: undefined, reinitialise: true }, REAL)
  const limits = { queue: 9, waitMs: 5000, callMs: 5000, coalesce: true }
  const dispatcher = new Dispatcher(executor, supervisor, limits)
  const run = (): Promise<unknown> =>
    outcomeOf(Promise.resolve(dispatcher.run('randomBytes', { length: 8 }, undefined)))
  const lost = run()
  await turns(2)
  const waited = run()
  await turns(2)
  open()
  expect(await waited).toEqual(new Uint8Array(8))
  expect(backs).toBe(2)
  // Its second try was the last.
  expect(await lost).toBeInstanceOf(Pkcs11Error)
})

describe('memory that is used again', () => {
  test('is not lent to another while a thread has yet to be handed the job of a caller who has gone', async () => {
    const handed: string[] = []
    let free = (): void => {}
    const lane = new Promise<void>(resolve => {
      free = resolve
    })
    // As in `threads`: who finds no lane free waits for the one that is kept alive, and is handed its job then.
    const executor = {
      kind: 'threads',
      lanes: 1,
      stuck: 0,
      perform: async (_name: string, { key, blocks }: { key: { kid: string }; blocks: Uint8Array }) => {
        await lane
        handed.push(`${key.kid} ${Buffer.from(blocks).toString('hex')}`)
        return new Uint8Array(8)
      },
    } as unknown as Executor
    const supervisor = new Supervisor(executor, { onEvent: undefined, reinitialise: true }, REAL)
    const dispatcher = new Dispatcher(executor, supervisor, {
      queue: 9,
      waitMs: 5000,
      callMs: 5000,
      coalesce: true,
    })
    const run = (kid: string, fill: number, signal?: AbortSignal): Promise<Uint8Array> => {
      const key = { kid, algorithm: 'tdea-2key', checkValue: { method: 'encrypt-zero', value: '' } }
      const blocks = new Uint8Array(8).fill(fill)
      return (
        dispatcher.encipherInto(key as unknown as KeyRef, blocks, new Uint8Array(8), signal) ?? expect.fail()
      )
    }
    const gone = new AbortController()
    const first = run('A', 0xaa, gone.signal)
    await turns(2)
    gone.abort()
    await expect(first).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    const second = run('B', 0xbb)
    free()
    await second
    expect(handed).toEqual(['A 0000000000000000', 'B bbbbbbbbbbbbbbbb'])
  })
})
