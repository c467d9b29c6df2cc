/**
 * The three places where native calls run, on SoftHSM behind a module that fails, delays and hangs on demand: the same
 * answers and the same codes, callers released at their deadline, and everything back by itself.
 */
import { performance } from 'node:perf_hooks'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import type { Starter } from '../src/backend/pkcs11/executor/channels.js'
import type { Backend, Key } from '../src/index.js'
import type { BackendEvent, Pkcs11Options } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { type FaultyToken, makeFaultyToken, starterFromSources } from './faults/shim.js'
import { provision } from './provision.js'
import { describeSoftHsm } from './softhsm.js'

describeSoftHsm('executors', () => {
  let token: FaultyToken
  let starter: Starter
  beforeAll(async () => {
    token = makeFaultyToken('executors')
    starter = starterFromSources()
    await provision({ ...token.options, composedMac: true, executor: 'inline' }, CONTRACT_KEYS)
  })
  afterAll(() => token.set())

  const open = (options: Partial<Pkcs11Options>): Promise<Backend> =>
    openPkcs11({ ...token.options, composedMac: true, ...options }, loadPkcs11js, { starter })
  const bind = (backend: Backend): Promise<Key> =>
    backend.bind({ kid: 'PEK-2', usage: 'pin-encryption', hostDecipher: true })
  const block = new Uint8Array(8)

  test('a wrong PIN is refused once, whatever the executor', async () => {
    for (const executor of ['inline', 'threads', 'process', 'inline'] as const) {
      // What was open before has left no login behind.
      await (await open({ executor })).close()
      let asked = 0
      const pin = (): string => {
        asked++
        return 'wrong-pin'
      }
      await expect(open({ executor, pin })).rejects.toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
      expect(asked).toBe(1)
    }
  })

  describe.each(['inline', 'threads', 'process'] as const)('%s', executor => {
    test('known answers, other keys, the same codes; capabilities say what it is', async () => {
      await using backend = await open({ executor, sessions: { max: 3 } })
      expect(backend.capabilities().notes[0]).toContain(`executor ${executor} (asked for)`)
      const key = await bind(backend)
      const enciphered = await operationsOf(key).encipher(block)
      expect(Buffer.from(enciphered).toString('hex')).toBe('96a0cbc66c383c6f')
      expect(await operationsOf(key).decipher(enciphered)).toEqual(block)
      const sign = await backend.bind({ kid: 'SIGN-1', usage: 'jwt-signing' })
      expect((await operationsOf(sign).sign(block)).length).toBe(64)
      expect((await backend.randomBytes(100)).length).toBe(100)
      await expect(backend.bind({ kid: 'NO-SUCH', usage: 'cmac' })).rejects.toMatchObject({
        code: 'ERR_KEY_NOT_FOUND',
        kid: 'NO-SUCH',
      })
      await expect(
        backend.bind({ kid: 'PEK-3', usage: 'pin-encryption', kcv: '000000' }),
      ).rejects.toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
      expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
    })

    test('a hundred callers at once: each its own answer', async () => {
      await using backend = await open({ executor, sessions: { max: 3 } })
      const key = await bind(backend)
      const blocks = Array.from({ length: 100 }, (_, i) => Uint8Array.from({ length: 8 }, () => i))
      const one = await Promise.all(blocks.map(each => operationsOf(key).encipher(each)))
      const back = await Promise.all(one.map(each => operationsOf(key).decipher(each)))
      expect(back).toEqual(blocks)
    })

    test.each([
      ['a device error', { fn: 'C_EncryptInit', code: 0x30, count: 1 }],
      ['a module that was finalised', { fn: 'C_EncryptInit', code: 0x190, count: 1 }],
      ['a lost login', { fn: 'C_EncryptInit', code: 0x101, count: 1 }],
      ['a lost session', { fn: 'C_Encrypt', code: 0xb3, count: 1 }],
      ['a stale handle', { fn: 'C_EncryptInit', code: 0x82, count: 1 }],
      ['an error after the real call', { fn: 'C_Encrypt', code: 0x30, count: 1, when: 'after' }],
    ] as const)('%s: back by itself, with the same key object', async (_what, fault) => {
      const events: BackendEvent[] = []
      await using backend = await open({
        executor,
        sessions: { max: 2 },
        onEvent: event => events.push(event),
      })
      const key = await bind(backend)
      const before = await operationsOf(key).encipher(block)
      token.set(fault)
      expect(await operationsOf(key).encipher(block)).toEqual(before)
      token.set()
      expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
      const last = events.at(-1)
      if (last !== undefined) expect(last.state).toBe('open')
    })

    test('a token that is away: callers fail at once with a retryable error, and it comes back', async () => {
      await using backend = await open({ executor, sessions: { max: 2 } })
      const key = await bind(backend)
      const before = await operationsOf(key).encipher(block)
      token.set({ fn: '*', code: 0xe0 })
      await expect(operationsOf(key).encipher(block)).rejects.toMatchObject({ retryable: true })
      await expect(operationsOf(key).encipher(block)).rejects.toMatchObject({ retryable: true })
      expect(await backend.health()).toMatchObject({ ok: false })
      token.set()
      const back = performance.now()
      while (!(await backend.health()).ok) {
        if (performance.now() - back > 120_000) throw new Error('it does not come back')
        await new Promise(resolve => setTimeout(resolve, 20))
      }
      expect(await operationsOf(key).encipher(block)).toEqual(before)
    })
  })

  describe.each(['threads', 'process'] as const)('%s: a slow and a hung token', executor => {
    test('a caller is released at its signal while the call goes on; the next is served', async () => {
      await using backend = await open({ executor, sessions: { max: 2 } })
      const key = await bind(backend)
      const before = await operationsOf(key).encipher(block)
      token.set({ fn: 'C_Encrypt', code: 0, waitMs: 1500, count: 1 })
      const signal = AbortSignal.timeout(100)
      await expect(operationsOf(key).encipher(block, { signal })).rejects.toMatchObject({
        code: 'ERR_ABORTED',
      })
      expect(await operationsOf(key).encipher(block)).toEqual(before)
      token.set()
    })

    test('a call that hangs beyond its time: retryable, and others go on', async () => {
      await using backend = await open({ executor, sessions: { max: 2 }, timeouts: { callMs: 1000 } })
      const key = await bind(backend)
      const before = await operationsOf(key).encipher(block)
      token.set({ fn: 'C_Encrypt', code: 0, waitMs: 4000, count: 1 })
      await expect(operationsOf(key).encipher(block)).rejects.toMatchObject({ retryable: true })
      token.set()
      const answer = async (): Promise<Uint8Array> => {
        try {
          return await operationsOf(key).encipher(block)
        } catch (error) {
          expect(error).toMatchObject({ retryable: true })
          return answer()
        }
      }
      expect(await answer()).toEqual(before)
    })
  })

  test('process, with a spare: the child is killed under its caller, who gets the answer all the same', async () => {
    const kills: (() => void)[] = []
    const killing: Starter = {
      ...starter,
      process: lost => {
        const channel = starter.process(lost)
        kills.push(() => channel.kill())
        return channel
      },
    }
    const options = { ...token.options, composedMac: true, executor: 'process', spare: true } as const
    await using backend = await openPkcs11(options, loadPkcs11js, { starter: killing })
    const key = await bind(backend)
    const before = await operationsOf(key).encipher(block)
    for (let i = 0; i < 3; i++) {
      kills[i]?.()
      expect(await operationsOf(key).encipher(block)).toEqual(before)
    }
    expect(await backend.health()).toMatchObject({ ok: true })
  })

  test.each(['threads', 'process'] as const)(
    '%s: a slow token is asked by as many calls at once as there are sessions',
    async executor => {
      token.set({ fn: 'C_EncryptInit', code: 0, waitMs: 120 })
      await using backend = await open({ executor, sessions: { max: 4 }, coalesce: false })
      const key = operationsOf(await bind(backend))
      const rounds = { left: 5 }
      while (!token.waitedAtOnce(4) && rounds.left-- > 0) {
        await Promise.all([1, 2, 3, 4].map(() => key.encipher(block)))
      }
      const together = token.waitedAtOnce(4)
      token.set()
      expect(together).toBe(true)
    },
  )

  test('auto takes threads for a slow token, and inline for a fast one', async () => {
    token.set({ fn: 'C_EncryptInit', code: 0, waitMs: 2 })
    {
      await using slow = await open({ executor: 'auto', sessions: { max: 2 } })
      expect(slow.capabilities().notes[0]).toContain('executor threads (chosen by measuring)')
    }
    token.set()
  })
})
