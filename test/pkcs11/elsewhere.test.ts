/**
 * Executors in threads and in a child process when things go wrong: calls that hang and come back late, ends that go or never
 * start, a module that must be initialised anew while others use it; and the real thread and process, with another program at
 * their other end.
 */
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import { Callers, Entry } from '../../src/backend/pkcs11/executor/callers.js'
import { startFrom } from '../../src/backend/pkcs11/executor/channels.js'
import { LostHost } from '../../src/backend/pkcs11/executor/dispatcher.js'
import type { Executor } from '../../src/backend/pkcs11/executor/executor.js'
import { RemoteHost } from '../../src/backend/pkcs11/executor/host.js'
import { openRemote } from '../../src/backend/pkcs11/executor/remote.js'
import { takeTogether } from '../../src/backend/pkcs11/executor/shared-call.js'

import { REAL, Supervisor } from '../../src/backend/pkcs11/executor/supervisor.js'
import { openGroup } from '../../src/backend/pkcs11/group.js'
import { ModuleElsewhere } from '../../src/backend/pkcs11/session/module.js'
import { readSettings } from '../../src/backend/pkcs11/session/options.js'
import type { BackendEvent, GroupEvent, KeyStoreOptions } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { takeComplaints } from '../support/complaints.js'
import { FakeToken } from './fake-token.js'
import { endsLeft, openOn, starterOn, turn, until, untilAfter, type World } from './in-thread.js'
import {
  AT_ONCE,
  bindKey,
  errorOf,
  modulesInUse,
  openBackendOn,
  optionsFor,
  provisionFake,
} from './support.js'

const BLOCK = new Uint8Array(8)

let modulesBefore: string[]
beforeAll(() => {
  modulesBefore = modulesInUse()
})
afterAll(() => expect(modulesInUse()).toEqual(modulesBefore))

describe('in this thread', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  })
  afterEach(async () => {
    expect(await endsLeft()).toBe(0)
    // A limit goes with the wait that it was for, or keeps the process alive. One is left at most: of a call that hangs to the end.
    const left = vi.getTimerCount()
    vi.useRealTimers()
    expect(left).toBeLessThanOrEqual(1)
  })

  /** Makes one call hang, until what comes back is called. */
  async function hang(world: World, call: () => Promise<unknown>, ms: number): Promise<() => void> {
    world.held = []
    const error = errorOf(call)
    await until(() => world.held?.length === 1)
    const [answer = () => undefined] = world.held
    vi.advanceTimersByTime(ms)
    expect(await error).toMatchObject({ code: 'ERR_BACKEND_BUSY' })
    world.held = undefined
    return answer
  }

  const short = { timeouts: { callMs: 1000 }, sessions: { max: 1 }, keepAliveMs: 0 } as const

  test('a call that is given up while the backend closes brings no new thread', async () => {
    const { backend, operations, world } = await openOn('threads', {
      ...short,
      timeouts: { callMs: 1500, closeMs: 1000 },
    })
    world.held = []
    const error = errorOf(() => operations.encipher(BLOCK))
    await until(() => world.held?.length === 1)
    const { started } = world
    const closed = backend.close()
    for (let ms = 0; ms < 3000; ms += 500) {
      vi.advanceTimersByTime(500)
      await turn()
    }
    await closed
    expect(await error).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
    expect(world.started).toBe(started)
  })

  test('a thread whose call hangs is counted, and no more when it has come back after all', async () => {
    const { backend, operations, world } = await openOn('threads', short)
    const release = await hang(world, () => operations.encipher(BLOCK), 1000)
    await until(() => world.started === 2)
    for (let i = 0; i < 20; i++) await turn()
    expect((await backend.health()).detail).toContain('1 calls have hung')
    release()
    for (let i = 0; i < 20; i++) await turn()
    expect((await backend.health()).detail).not.toContain('hung')
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    await backend.close()
  })

  test.each(['keeping alive', 'a call'] as const)(
    'when %s hangs, a thread is free for each call that may be made: nobody is told that there is none',
    async what => {
      const fake = new FakeToken()
      const world: World = { held: undefined, started: 0, kills: [] }
      const settings = readSettings(optionsFor(fake, { executor: 'threads', ...short }), 'test')
      const executor = await openRemote(settings, fake.load, undefined, starterOn(fake, world))
      const ask = async () => executor.perform('randomBytes', { length: 8 })
      world.held = []
      const hung = what === 'a call' ? ask() : executor.keepAlive()
      await until(() => world.held?.length === 1)
      const [answer] = world.held
      world.held = undefined
      vi.advanceTimersByTime(1000)
      await until(() => world.started === 2)
      for (let i = 0; i < 20; i++) await turn()
      // The dispatcher counts what it has asked for, and not what keeps a thread alive.
      const free = executor.lanes - (what === 'a call' ? 1 : 0)
      expect(free).toBe(1)
      expect(await Promise.all(Array.from({ length: free }, ask))).toHaveLength(free)
      answer?.()
      await hung
      await executor.close()
    },
  )

  test('when all threads hang, callers are told what ends it; and the module is not pulled from under them', async () => {
    const { backend, operations, world, fake } = await openOn('threads', short)
    const releases = [await hang(world, () => operations.encipher(BLOCK), 1000)]
    await until(() => world.started === 2)
    for (let i = 0; i < 20; i++) await turn()
    fake.reset({ at: 1, code: 0x30 })
    const gone = await errorOf(() => operations.encipher(BLOCK))
    expect(gone.message).toContain("use executor: 'process'")
    expect(fake.calls).not.toContain('C_Finalize')
    await untilAfter(500, () => true)
    await backend.close()
    const other = await openOn('threads', short)
    releases.push(await hang(other.world, () => other.operations.encipher(BLOCK), 1000))
    await until(() => other.world.started === 2)
    for (let i = 0; i < 20; i++) await turn()
    releases.push(await hang(other.world, () => other.operations.encipher(BLOCK), 1000))
    const error = await errorOf(() => other.operations.encipher(BLOCK))
    expect(error).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
    expect(error.message).toContain('2 calls hang in the module')
    await other.backend.close()
    for (const release of releases) release()
  })

  test('threads are let go all before the first comes back, when no call is under way any more', async () => {
    const { backend, operations, world, fake, key } = await openOn('threads', {
      ...short,
      sessions: { max: 2 },
    })
    const right = await operations.encipher(BLOCK)
    world.held = []
    const slow = operationsOf(key).encipher(BLOCK)
    await until(() => world.held?.length === 1)
    const [answer] = world.held
    world.held = undefined
    fake.reset({ at: 1, code: 0x30 })
    const lost = operations.encipher(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
    for (let i = 0; i < 10; i++) await turn()
    expect(fake.calls).not.toContain('C_Finalize')
    answer?.()
    let done = false
    void lost.then(() => {
      done = true
    })
    await untilAfter(5, () => done)
    expect(await slow).toEqual(right)
    expect((await lost).length).toBe(8)
    expect(fake.calls).toContain('C_Finalize')
    await backend.close()
  })

  test('a login that one thread finds lost is lost for all: each of them looks for its keys anew', async () => {
    const searches = async (max: number): Promise<number> => {
      const { backend, operations, fake } = await openOn('threads', {
        ...short,
        sessions: { max },
        coalesce: false,
      })
      const each = () => Promise.all(Array.from({ length: max }, () => operations.encipher(BLOCK)))
      await each()
      await each()
      fake.reset()
      await each()
      // What is known is not looked for again.
      expect(fake.calls).not.toContain('C_FindObjectsInit')
      fake.logOut()
      let done = false
      const lost = operations.encipher(BLOCK).then(() => {
        done = true
      })
      await untilAfter(5, () => done)
      await lost
      await each()
      const { length } = fake.calls.filter(call => call === 'C_FindObjectsInit')
      await backend.close()
      return length
    }
    // The one that found out, and each of two others.
    expect((await searches(3)) - (await searches(1))).toBe(2)
  })

  test('a call that does not end keeps the module from being initialised anew', async () => {
    const { backend, operations, world, fake } = await openOn('threads', {
      ...short,
      sessions: { max: 2 },
      coalesce: false,
    })
    world.held = []
    const slow = errorOf(() => operations.encipher(BLOCK))
    await until(() => world.held?.length === 1)
    const [answer] = world.held
    world.held = undefined
    fake.reset({ at: 1, code: 0x30 })
    const lost = errorOf(() => operations.encipher(BLOCK))
    let done = 0
    void slow.then(() => done++)
    void lost.then(() => done++)
    await untilAfter(100, () => done === 2)
    // Nor later, when nobody waits for it any more.
    for (let i = 0; i < 20; i++) await turn()
    expect(fake.calls).not.toContain('C_Finalize')
    expect(await lost).toMatchObject({ retryable: true })
    await backend.close()
    answer?.()
  })

  test('another backend of this process uses the module: said, and left alone', async () => {
    const { backend, operations, fake } = await openOn('threads', short)
    const other = await openBackendOn(fake)
    fake.reset({ at: 1, code: 0x30 })
    const error = await errorOf(() => operations.encipher(BLOCK))
    expect(error.message).toContain('another backend of this process uses it')
    expect(fake.calls).not.toContain('C_Finalize')
    await other.close()
    await backend.close()
  })

  test('fewer threads than asked for are no reason not to work; one that goes is replaced on the way back', async () => {
    const { backend, operations, world, fake } = await openOn(
      'threads',
      { ...short, sessions: { max: 4 } },
      { failing: number => number === 3 },
    )
    expect(world.started).toBe(3)
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    world.kills[1]?.()
    fake.reset({ at: 1, code: 0x30 })
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    expect(world.started).toBeGreaterThan(4)
    await backend.close()
  })

  test('a token with few sessions comes back with no more threads than it has sessions for', async () => {
    const fake = new FakeToken({ maxSessions: 6 })
    const world: World = { held: undefined, started: 0, kills: [] }
    const settings = readSettings(optionsFor(fake, { executor: 'threads', sessions: { max: 4 } }), 'test')
    const executor = await openRemote(settings, fake.load, undefined, starterOn(fake, world))
    const { lanes } = executor
    await executor.letGo()
    await executor.comeBack()
    const asked = Array.from({ length: executor.lanes }, () => executor.perform('randomBytes', { length: 8 }))
    expect(await Promise.all(asked)).toHaveLength(lanes)
    await executor.close()
  })

  test('a group loses a token at the third call in a row that it leaves without an answer; of before it came back none counts', async () => {
    const fakes = [new FakeToken(), new FakeToken()]
    const pek = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-2')
    for (const fake of fakes) await provisionFake(fake, {}, pek)
    const [slow = new FakeToken(), other = new FakeToken()] = fakes
    const world: World = { held: undefined, started: 0, kills: [] }
    const events: GroupEvent[] = []
    const members = [optionsFor(slow, { executor: 'process', ...short }), optionsFor(other)]
    await using group = await openGroup(
      { members, failBackAfter: 1, probeMs: 1, onEvent: event => events.push(event) },
      module => (module === other.path ? other.load : slow.load),
      { surroundings: AT_ONCE, starter: starterOn(slow, world) },
    )
    const key = operationsOf(await group.bind({ kid: 'PEK-2', usage: 'pin-encryption', hostDecipher: true }))
    const hangs = async (): Promise<number> => {
      await hang(world, () => key.encipher(BLOCK), 1000)
      for (let i = 0; i < 40; i++) await turn()
      return events.length
    }
    const loses = async (): Promise<void> => {
      expect([await hangs(), await hangs(), await hangs()].slice(0, 2)).toEqual([0, 0])
      expect(events[0]).toMatchObject({ member: 0, state: 'away', active: 1 })
      await until(() => events.at(-1)?.state === 'ready')
      events.length = 0
    }
    await loses()
    await loses()
    // Nor does what was before an answer.
    expect([await hangs(), await hangs()]).toEqual([0, 0])
    await key.encipher(BLOCK)
    await loses()
  })

  test('opening that takes too long ends', async () => {
    for (const executor of ['threads', 'process'] as const) {
      const world: Partial<World> = { held: [] }
      const opening = errorOf(() => openOn(executor, { timeouts: { openMs: 2000 } }, world))
      let error: Error | undefined
      void opening.then(given => {
        error = given
      })
      await untilAfter(2000, () => error !== undefined)
      expect(error).toMatchObject({ code: 'ERR_BACKEND_BUSY' })
      expect(error?.message).toContain('did not open within 2000 ms')
    }
  })

  async function chosen(more: Partial<KeyStoreOptions>, given: Partial<World> = {}, slowMs = 1) {
    const fake = new FakeToken()
    const encrypt = fake.C_Encrypt.bind(fake)
    fake.C_Encrypt = (session, data, length) => {
      vi.advanceTimersByTime(slowMs)
      return encrypt(session, data, length)
    }
    const world: World = { held: undefined, started: 0, kills: [], ...given }
    const settings = readSettings(optionsFor(fake, { executor: 'auto', ...more }), 'test')
    const open = (known?: Executor['facts']) => openRemote(settings, fake.load, known, starterOn(fake, world))
    return { open, world }
  }

  test('auto: inline for a fast token, threads for a slow one, also where that is known; inline where none starts', async () => {
    const fast = await (await chosen({}, {}, 0)).open()
    expect(fast.kind).toBe('inline')
    await fast.close()
    const { open } = await chosen({ sessions: { max: 2 } })
    const slow = await open()
    expect([slow.kind, slow.lanes]).toEqual(['threads', 2])
    const known = await open(slow.facts)
    expect(known.kind).toBe('threads')
    await known.close()
    await slow.close()
    const alone = await (await chosen({}, { failing: () => true })).open()
    expect(alone.kind).toBe('inline')
    await alone.close()
  })

  test('auto: where no thread starts for a slow token, the capabilities say so', async () => {
    const fake = new FakeToken()
    const encrypt = fake.C_Encrypt.bind(fake)
    fake.C_Encrypt = (session, data, length) => {
      vi.advanceTimersByTime(1)
      return encrypt(session, data, length)
    }
    const world: World = { held: undefined, started: 0, kills: [], failing: () => true }
    const open = { surroundings: AT_ONCE, starter: starterOn(fake, world) }
    await using backend = await openPkcs11(optionsFor(fake, { executor: 'auto' }), fake.load, open)
    expect(backend.capabilities().notes[1]).toContain('no thread could be started')
  })

  test('auto: what is not about threads goes out', async () => {
    const world: Partial<World> = { held: [] }
    const { open } = await chosen({ timeouts: { openMs: 2000 } }, world)
    const opening = errorOf(() => open())
    let error: Error | undefined
    void opening.then(given => {
      error = given
    })
    await untilAfter(2000, () => error !== undefined)
    expect(error).toMatchObject({ code: 'ERR_BACKEND_BUSY' })
  })

  test('a child brings the token back itself; after so many failures another one does', async () => {
    const { backend, operations, world, fake } = await openOn('process', { keepAliveMs: 0 })
    fake.reset({ at: 1, code: 0x30 })
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    expect(world.started).toBe(1)
    fake.faultOf = { fn: '*', code: 0xe0 }
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({ retryable: true })
    await untilAfter(500, () => world.started >= 2)
    fake.faultOf = undefined
    let answer: Uint8Array | undefined
    while (answer === undefined) {
      vi.advanceTimersByTime(500)
      answer = await operations.encipher(BLOCK).catch(() => undefined)
      await turn()
    }
    expect(answer[0]).toBe(0x96)
    await backend.close()
  })

  test('a child that cannot bring the token back is ended when another serves, which is left in peace', async () => {
    const other = new FakeToken()
    await provisionFake(other, { composedMac: true })
    other.reset()
    const { backend, operations, world, fake } = await openOn(
      'process',
      { keepAliveMs: 0 },
      { token: number => (number === 1 ? undefined : other) },
    )
    fake.faultOf = { fn: '*', code: 0xe0 }
    let answer: Uint8Array | undefined
    while (answer === undefined) {
      answer = await operations.encipher(BLOCK).catch(() => undefined)
      await turn()
    }
    for (let i = 0; i < 20; i++) await turn()
    expect([answer[0], world.started, world.ended]).toEqual([0x96, 2, 1])
    expect(other.calls).not.toContain('C_Finalize')
    await backend.close()
  })

  test('a failure of before the token came back, told afterwards, is no reason to initialise the module again', async () => {
    const { backend, operations, world, fake } = await openOn('process', { keepAliveMs: 0, coalesce: false })
    world.held = []
    fake.reset({ at: 1, code: 0x30 })
    const told = operations.encipher(BLOCK)
    await until(() => world.held?.length === 1)
    const [tell] = world.held
    world.held = undefined
    fake.reset({ at: 1, code: 0x30 })
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    tell?.()
    expect((await told)[0]).toBe(0x96)
    expect(fake.calls.filter(call => call === 'C_Finalize')).toHaveLength(1)
    await backend.close()
  })

  test('a spare is looked at after the token was away: well, it stays; gone, another is started', async () => {
    const { backend, operations, world, fake } = await openOn('process', { spare: true, keepAliveMs: 1000 })
    await until(() => world.started === 2)
    for (let i = 0; i < 20; i++) await turn()
    fake.reset({ at: 1, code: 0x30 })
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    for (let i = 0; i < 20; i++) await turn()
    expect(world.started).toBe(2)
    // Kept alive as the other is.
    fake.reset()
    await untilAfter(1000, () => fake.calls.filter(call => call === 'C_GetTokenInfo').length >= 3)
    world.kills[1]?.()
    fake.reset({ at: 1, code: 0x30 })
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    await untilAfter(200, () => world.started === 3)
    await backend.close()
  })

  test('a backend that is closed while its spare is looked at ends the spare as well', async () => {
    const onEvent = ({ state }: BackendEvent): void => {
      // What is asked next is whether the spare is well, and its answer is long in coming.
      if (state === 'open') world.held = []
    }
    const { backend, operations, world, fake } = await openOn('process', {
      spare: true,
      keepAliveMs: 0,
      onEvent,
    })
    await until(() => world.started === 2)
    for (let i = 0; i < 20; i++) await turn()
    fake.reset({ at: 1, code: 0x30 })
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    expect(world.held).toHaveLength(1)
    const closed = backend.close()
    for (let i = 0; i < 20; i++) await turn()
    world.held?.shift()?.()
    world.held = undefined
    await closed
    expect([world.started, world.ended]).toEqual([2, 2])
  })

  test.each([
    ['does not answer', (world: World) => Object.assign(world, { held: [] })],
    ['has lost its login', (_world: World, fake: FakeToken) => fake.reset({ at: 1, code: 0x101 })],
  ] as const)(
    'a spare that %s when it is needed is ended: no child is left that nobody knows',
    async (_what, spoil) => {
      const { backend, operations, world, fake } = await openOn('process', { spare: true, keepAliveMs: 0 })
      await until(() => world.started === 2)
      for (let i = 0; i < 20; i++) await turn()
      world.kills[0]?.()
      spoil(world, fake)
      let answer: Uint8Array | undefined
      const asked = operations.encipher(BLOCK).then(given => {
        answer = given
      })
      await untilAfter(100, () => answer !== undefined)
      await asked
      expect(answer?.[0]).toBe(0x96)
      // The first one and the spare; the one that serves the call is alive.
      expect(world.ended).toBe(2)
      await backend.close()
      // One fake plays the token of all processes: what one of them finalises is finalised for the next.
      takeComplaints()
    },
  )

  test('a spare that does not start is no reason not to work, and one that starts too late is ended', async () => {
    const failing = await openOn(
      'process',
      { spare: true, keepAliveMs: 1000 },
      { failing: number => number === 2 },
    )
    await until(() => failing.world.started === 2)
    failing.fake.reset()
    await untilAfter(1000, () => failing.fake.calls.includes('C_GetTokenInfo'))
    expect((await failing.operations.encipher(BLOCK))[0]).toBe(0x96)
    await failing.backend.close()
    const late = await openOn('process', { spare: true })
    await late.backend.close()
    expect(late.world.started).toBe(2)
  })

  test('a child that went with the spare is replaced by one that is started', async () => {
    const { backend, operations, world } = await openOn('process', { spare: true, keepAliveMs: 0 })
    await until(() => world.started === 2)
    for (let i = 0; i < 20; i++) await turn()
    for (const kill of world.kills.slice(0, 2)) kill()
    expect((await operations.encipher(BLOCK))[0]).toBe(0x96)
    expect(world.started).toBeGreaterThan(2)
    await backend.close()
  })

  test('whoever waits is told so when his time is up: of a turn that does not come, of a call that does not end', async () => {
    for (const [callMs, waitMs] of [
      [5000, 1000],
      [1000, 5000],
    ] as const) {
      const { backend, operations, world } = await openOn('threads', {
        timeouts: { callMs, closeMs: 100 },
        sessions: { max: 1, waitMs },
        coalesce: false,
      })
      world.held = []
      const first = errorOf(() => operations.encipher(BLOCK))
      await until(() => world.held?.length === 1)
      const second = errorOf(() => operations.encipher(BLOCK))
      await turn()
      vi.advanceTimersByTime(1000)
      expect((await second).message).toContain('its turn did not come within 1000 ms')
      vi.advanceTimersByTime(4000)
      expect((await first).message).toContain(`did not answer within ${callMs} ms`)
      const [answer] = world.held
      world.held = undefined
      await backend.close()
      answer?.()
    }
  })

  test('blocks of many callers are put together up to 8192, one of them ours', async () => {
    const { backend, operations, world, fake } = await openOn('threads', { sessions: { max: 1 } })
    world.held = []
    const first = operations.encipher(BLOCK)
    await until(() => world.held?.length === 1)
    const lengths: number[] = []
    const encrypt = fake.C_Encrypt.bind(fake)
    fake.C_Encrypt = (session, data, length) => {
      lengths.push(data.length)
      return encrypt(session, data, length)
    }
    const most = 65_536 - 8
    const rest = [8, most - 8, 8].map(length => operations.encipher(new Uint8Array(length)))
    world.held.shift()?.()
    world.held = undefined
    expect((await Promise.all([first, ...rest])).map(answer => answer.length)).toEqual([8, 8, most - 8, 8])
    expect(lengths).toEqual([65_536, 8])
    await backend.close()
  })

  test('who was answered together and asks again is put together again; hundreds are answered by shares', async () => {
    const { backend, operations, fake } = await openOn('threads', { sessions: { max: 2, queue: 2000 } })
    const lengths: number[] = []
    const encrypt = fake.C_Encrypt.bind(fake)
    fake.C_Encrypt = (session, data, length) => {
      lengths.push(data.length)
      return encrypt(session, data, length)
    }
    let turns = 0
    let most = 0
    const answered = new Map<number, number>()
    const counting = async (): Promise<void> => {
      while (turns >= 0) {
        await turn()
        turns++
      }
    }
    void counting()
    const block = (i: number): Uint8Array => new Uint8Array(8).fill(i)
    const callers = Array.from({ length: 1100 }, async (_, i) => {
      const first = await operations.encipher(block(i))
      answered.set(turns, (answered.get(turns) ?? 0) + 1)
      most = Math.max(most, answered.get(turns) ?? 0)
      expect(await operations.encipher(block(i))).toEqual(first)
      return first
    })
    const answers = await Promise.all(callers)
    turns = Number.NEGATIVE_INFINITY
    // Alone are those who found a lane free, and check values: whoever was answered with others comes back with them.
    expect(lengths.filter(length => length === 8).length).toBeLessThan(20)
    expect(lengths.length).toBeLessThan(40)
    expect(most).toBeLessThanOrEqual(2 * 64)
    expect(answers[7]).toEqual(await operations.encipher(block(7)))
    await backend.close()
  })

  test('a few that were answered together and ask again do not wait for more', async () => {
    const { backend, operations } = await openOn('threads', { sessions: { max: 1 } })
    for (let round = 0; round < 3; round++) {
      const callers = Array.from({ length: 4 }, async () => {
        await operations.encipher(BLOCK)
        // Later in this turn of the event loop, when all have been answered.
        for (let i = 0; i < 50; i++) await undefined
        return operations.encipher(BLOCK)
      })
      for (const answer of await Promise.all(callers)) expect(answer[0]).toBe(0x96)
    }
    await backend.close()
  })

  test('keeping alive that fails in one thread does not end it for the others, and no call waits for it', async () => {
    const fake = new FakeToken()
    const world: World = { held: undefined, started: 0, kills: [] }
    const settings = readSettings(optionsFor(fake, { executor: 'threads', sessions: { max: 2 } }), 'test')
    const executor = await openRemote(settings, fake.load, undefined, starterOn(fake, world))
    world.held = []
    const keeping = errorOf(() => executor.keepAlive())
    await until(() => world.held?.length === 1)
    world.kills[0]?.()
    expect(await keeping).toBeInstanceOf(LostHost)
    world.held = undefined
    for (let i = 0; i < 20; i++) await turn()
    fake.reset()
    // One fake plays the token of all threads, and has been finalised by the one that went.
    await Promise.allSettled([executor.keepAlive()])
    expect(fake.calls).not.toEqual([])
    await executor.close()
    takeComplaints()
  })

  test('threads that do not open count for nobody: the module is left as it was', async () => {
    const fake = new FakeToken()
    const world: World = { held: undefined, started: 0, kills: [], failing: () => true }
    const settings = readSettings(optionsFor(fake, { executor: 'threads' }), 'test')
    const opening = () => openRemote(settings, fake.load, undefined, starterOn(fake, world))
    expect(await errorOf(opening)).toBeInstanceOf(LostHost)
    const elsewhere = new ModuleElsewhere(fake.path, undefined)
    expect(elsewhere.alone).toBe(true)
    elsewhere.release()
  })

  test('an answer of another length is not put into the memory for it: it is refused', async () => {
    const { backend, operations, fake, world } = await openOn('threads', { sessions: { max: 1 } })
    const right = await operations.encipher(BLOCK)
    world.answering = value => (value instanceof Uint8Array ? value.subarray(1) : value)
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({ code: 'ERR_BACKEND_FAILED' })
    // Of a call that is shared nobody gets bytes of his neighbour's.
    const shared = await Promise.allSettled([1, 2, 3].map(() => operations.encipher(BLOCK)))
    expect(shared.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    delete world.answering
    expect(await operations.encipher(BLOCK)).toEqual(right)
    expect(fake.calls.filter(call => call === 'C_Encrypt').length).toBeGreaterThan(2)
    await backend.close()
  })

  test('AES: blocks with a field and without do not share a call; an abort leaves the others theirs', async () => {
    const { backend, world, fake } = await openOn('threads', { sessions: { max: 1 } })
    const operations = operationsOf(await bindKey(backend, 'PEK-A'))
    const wide = new Uint8Array(16)
    const right = [await operations.encipher(wide), await operations.encipherBound(wide, wide)]
    world.held = []
    const first = operations.encipher(wide)
    await until(() => world.held?.length === 1)
    const controller = new AbortController()
    const together = [
      operations.encipherBound(wide, wide),
      operations.encipher(wide),
      operations.encipherBound(wide, wide),
    ]
    const aborted = errorOf(() => operations.encipherBound(wide, wide, { signal: controller.signal }))
    fake.faultOf = { fn: 'C_EncryptInit', code: 0x21 }
    const clear = fake.C_EncryptInit.bind(fake)
    fake.C_EncryptInit = (session, mechanism, key) => {
      controller.abort()
      fake.C_EncryptInit = clear
      try {
        clear(session, mechanism, key)
      } finally {
        fake.faultOf = undefined
      }
    }
    world.held.shift()?.()
    world.held = undefined
    expect(await Promise.all([first, ...together])).toEqual([right[0], right[1], right[0], right[1]])
    expect(await aborted).toMatchObject({ code: 'ERR_ABORTED' })
    await backend.close()
  })
})

describe('those who wait', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const limits = { queue: 1000, waitMs: 20, callMs: 50 }
  const ms = fc.integer({ min: 1, max: 40 })

  test('each is let go at its own limit, whoever came before or waits behind', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('enter', 'begin'), ms), { maxLength: 12 }), steps => {
        const callers = new Callers(limits, () => undefined)
        const entries: Entry[] = []
        const limitOf = ({ since, begun }: Entry): number => since + (begun ? limits.callMs : limits.waitMs)
        const pass = (time: number): void => {
          for (let i = 0; i < time; i++) {
            vi.advanceTimersByTime(1)
            const now = performance.now()
            for (const entry of entries) {
              const left = limitOf(entry) - now
              if (left < -2) expect([entry.done, left]).toEqual([true, left])
              if (left > 2) expect([entry.done, left]).toEqual([false, left])
            }
          }
        }
        for (const [what, time] of steps) {
          const next = callers.next
          if (what === 'begin' && next !== undefined) callers.begin(next)
          if (what === 'enter') {
            const entry = new Entry('health', { keys: [] }, undefined)
            entry.answer.catch(() => undefined)
            entries.push(entry)
            callers.enter(entry, undefined, true)
          }
          pass(time)
        }
        pass(60)
        expect(vi.getTimerCount()).toBe(0)
      }),
    )
  })

  test('who has failed at once is put together with nobody, first or later', () => {
    const key = { objects: [], algorithm: 'tdea-2key', checkValue: { method: 'none' } }
    const entryOf = (failed?: Error): Entry => {
      const entry = new Entry('encipher', { key, blocks: new Uint8Array(8) } as never, failed)
      entry.answer.catch(() => undefined)
      return entry
    }
    for (const at of [0, 1]) {
      const callers = new Callers(limits, () => undefined)
      const all = [0, 1, 2].map(i => entryOf(i === at ? new Error('failed') : undefined))
      for (const entry of all) callers.enter(entry, undefined, true)
      const batch = takeTogether(callers, all[0] as Entry, 1)
      expect(batch.map(entry => all.indexOf(entry))).toEqual(at === 0 ? [0] : [0, 2])
      callers.endWithin(0)
      vi.advanceTimersByTime(100)
    }
  })
})

describe('the supervisor by itself', () => {
  const executor = (changes: Partial<Executor>): Executor =>
    ({
      logIn: async () => undefined,
      letGo: async () => undefined,
      comeBack: async () => undefined,
      ...changes,
    }) as Executor
  const options = { onEvent: undefined, reinitialise: true }

  test('a failure of before the last recovery is no reason for another', async () => {
    let logins = 0
    const supervisor = new Supervisor(executor({ logIn: async () => void logins++ }), options, AT_ONCE)
    await supervisor.recover('login', new Error('lost'), 0)
    await supervisor.recover('login', new Error('lost before'), 0)
    expect([logins, supervisor.generation]).toEqual([1, 1])
    const [one, two] = [1, 2].map(() => supervisor.recover('login', new Error('lost again'), 1))
    expect(one).toBe(two)
    await one
    expect(logins).toBe(2)
  })

  test('closed while the token is away: nobody brings it back any more', async () => {
    const fails = executor({ letGo: () => Promise.reject(new Error('away')) })
    const steps = new Set<() => void>()
    const later = (step: () => void) => {
      steps.add(step)
      return () => void steps.delete(step)
    }
    const supervisor = new Supervisor(fails, options, { later, soon: later, random: () => 1 })
    await errorOf(() => supervisor.recover('initialise', new Error('lost'), 0))
    expect(steps.size).toBe(1)
    supervisor.close()
    expect(steps.size).toBe(0)
  })

  test('closed in the middle of an attempt: whatever came of it, the error is that, and nothing follows', async () => {
    for (const outcome of [async () => undefined, () => Promise.reject(new RangeError('no'))]) {
      const events: BackendEvent[] = []
      let end = (): void => undefined
      const waiting = new Promise<void>(resolve => {
        end = resolve
      })
      for (const [rung, call, more] of [
        ['login', 'logIn', 'letGo'],
        ['initialise', 'letGo', 'comeBack'],
      ] as const) {
        events.length = 0
        let goesOn = false
        const touched = async (): Promise<void> => {
          goesOn = true
        }
        const supervisor = new Supervisor(
          executor({ [more]: touched, [call]: () => waiting.then(outcome) }),
          { onEvent: event => events.push(event), reinitialise: true },
          AT_ONCE,
        )
        const recovery = errorOf(() => supervisor.recover(rung, new Error('lost'), 0))
        supervisor.close()
        supervisor.close()
        end()
        expect(await recovery).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
        expect(events.map(({ state }) => state)).toEqual(['recovering', 'closed'])
        // What comes back now, or is let go once more, is nobody's.
        expect(goesOn).toBe(false)
      }
    }
  })

  test.each([
    ['recovering', []],
    ['degraded', ['logIn', 'letGo']],
  ] as const)(
    'closed by whoever hears that it is %s: the token is not touched after that',
    async (state, before) => {
      const touched: string[] = []
      const steps = new Set<() => void>()
      const later = (step: () => void) => {
        steps.add(step)
        return () => void steps.delete(step)
      }
      const away = (call: string) => async () => {
        touched.push(call)
        throw new Error('away')
      }
      const supervisor: Supervisor = new Supervisor(
        executor({ logIn: away('logIn'), letGo: away('letGo') }),
        { onEvent: event => event.state === state && supervisor.close(), reinitialise: true },
        { ...AT_ONCE, later },
      )
      const recovery = await errorOf(() => supervisor.recover('login', new Error('lost'), 0))
      expect(recovery).toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
      expect([supervisor.state, steps.size, touched]).toEqual(['closed', 0, before])
    },
  )

  test('an error that is not of this library, and none at all, are failures like others', async () => {
    for (const thrown of [new RangeError('no'), 'nothing']) {
      const fails = executor({ letGo: () => Promise.reject(thrown) })
      const supervisor = new Supervisor(fails, options, { ...AT_ONCE, later: () => () => undefined })
      const error = await errorOf(() => supervisor.recover('initialise', new Error('lost'), 0))
      expect(error).toMatchObject({ code: 'ERR_BACKEND_FAILED', retryable: true })
      expect(await errorOf(() => supervisor.recover('login', new Error('lost'), 0))).toBe(error)
      expect(() => supervisor.gate()).toThrow(error)
    }
  })

  test('waits by a timer that keeps no process alive, with jitter', async () => {
    expect(REAL.random()).toBeLessThan(1)
    await new Promise<void>(resolve => {
      REAL.later(resolve, 1)
      setTimeout(() => undefined, 5)
    })
    REAL.later(() => expect.unreachable(), 1)()
  })
})

describe.each(['thread', 'process'] as const)('a real %s, with another program at its other end', kind => {
  const starter = startFrom(() => new URL('other-end.mjs', import.meta.url).pathname)

  async function start(): Promise<{ host: RemoteHost; lost: Promise<void> }> {
    let left = (): void => undefined
    const lost = new Promise<void>(resolve => {
      left = resolve
    })
    const host = new RemoteHost(
      starter[kind](() => left()),
      kind,
      () => 'the PIN',
      () => left(),
    )
    return { host, lost }
  }

  test('the PIN is asked for and given; jobs go and come; it ends when it is told to', async () => {
    const { host, lost } = await start()
    const settings = readSettings(optionsFor(new FakeToken()), 'test')
    const { onEvent: _onEvent, login, ...rest } = settings
    const facts = await host.open({
      settings: { ...rest, login: { ...login, pin: undefined } },
      hasPin: true,
      known: undefined,
      alone: true,
    })
    expect(facts).toMatchObject({ told: 'the PIN' })
    // A module in a process of its own reads its settings there; a thread has those of this process, and needs no copy.
    const { home, pool } = facts as unknown as Record<'home' | 'pool', string | undefined>
    expect(home).toBe(kind === 'thread' ? undefined : process.env['HOME'])
    // libuv's own four threads would let no more than four calls into the token at a time.
    expect(pool).toBe(kind === 'thread' ? undefined : '16')
    const job = { key: {} as never, blocks: Uint8Array.of(1, 2, 3) }
    const pending = host.perform('encipher', job)
    expect(host.underWay).toBe(1)
    expect([...(await pending)]).toEqual([1, 2, 3])
    expect(host.underWay).toBe(0)
    await host.tell('close')
    host.end()
    expect(host.isGone).toBe(true)
    await lost
  })

  test('one that goes by itself: whoever waits is told', async () => {
    const { host, lost } = await start()
    const error = await errorOf(() => host.perform('health', { keys: [] }))
    expect(error).toBeInstanceOf(LostHost)
    expect(error).toMatchObject({ code: 'ERR_BACKEND_FAILED', retryable: true })
    await lost
    expect(await errorOf(() => host.tell('keepAlive'))).toBeInstanceOf(LostHost)
    host.kill()
  })

  test('one that is killed', async () => {
    const { host, lost } = await start()
    host.kill()
    await lost
    expect(host.isGone).toBe(true)
  })
})
