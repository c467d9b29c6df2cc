import { describe, expect, test, vi } from 'vitest'
import type { SessionHandle } from '../../src/backend/pkcs11/binding/binding.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { SessionPool } from '../../src/backend/pkcs11/session/sessions.js'
import { ArgumentError, BackendError, KeyError } from '../../src/index.js'
import { errorOf } from './support.js'

const LIMITS = { max: 2, queue: 2, waitMs: 1000 }

/** A source that numbers its sessions, and says how many are open. */
function source(limit = Number.POSITIVE_INFINITY) {
  const open = new Set<SessionHandle>()
  let opened = 0
  return {
    live: open,
    opened: () => opened,
    open: () => {
      if (open.size >= limit) throw new Pkcs11Error('C_OpenSession', 0xb1)
      const session = Uint8Array.of(++opened) as SessionHandle
      open.add(session)
      return session
    },
    close: (session: SessionHandle) => {
      if (!open.delete(session)) throw new Pkcs11Error('C_CloseSession', 0xb3)
    },
  }
}

const tick = (ms = 0): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

describe('SessionPool', () => {
  test('a free session is lent synchronously, and the last one back is the first out', async () => {
    const from = source()
    const pool = new SessionPool(from, LIMITS)
    const seen: SessionHandle[] = []
    const first = pool.withSession(session => tick().then(() => seen.push(session)))
    const second = pool.withSession(session => tick(5).then(() => seen.push(session)))
    await Promise.all([first, second])
    expect(pool.withSession(session => session)).toBe(seen[1])
    expect(pool.withSession(session => session)).toBe(seen[1])
    expect(pool.size).toBe(2)
    pool.close()
    expect(from.live.size).toBe(0)
  })

  test('a session is lent to one user at a time', async () => {
    const pool = new SessionPool(source(), { ...LIMITS, queue: 100 })
    const inUse = new Set<SessionHandle>()
    const use = async (session: SessionHandle): Promise<void> => {
      expect(inUse.has(session)).toBe(false)
      inUse.add(session)
      await tick(1)
      inUse.delete(session)
    }
    await Promise.all(Array.from({ length: 20 }, () => pool.withSession(use)))
    expect(pool.size).toBe(2)
  })

  test('who waits is bounded in number and time, with a retryable ERR_BACKEND_BUSY', async () => {
    const pool = new SessionPool(source(), { max: 1, queue: 1, waitMs: 20 })
    let end = (): void => {}
    const holding = pool.withSession(
      () =>
        new Promise<void>(resolve => {
          end = resolve
        }),
    )
    expect(pool.ready).toBe(false)
    const waiting = errorOf(() => pool.withSession(() => 1))
    expect(await errorOf(() => pool.withSession(() => 2))).toMatchObject({
      code: 'ERR_BACKEND_BUSY',
      retryable: true,
    })
    expect(await waiting).toMatchObject({ code: 'ERR_BACKEND_BUSY', retryable: true })
    const next = pool.withSession(() => 3)
    end()
    await holding
    expect(await next).toBe(3)
  })

  test('an abort while waiting is clean: the session goes to the next one', async () => {
    const pool = new SessionPool(source(), { max: 1, queue: 5, waitMs: 1000 })
    const holding = pool.withSession(() => tick(5))
    const controller = new AbortController()
    const remove = vi.spyOn(controller.signal, 'removeEventListener')
    const aborted = errorOf(() => pool.withSession(() => 'never', controller.signal))
    const next = pool.withSession(() => 'served', new AbortController().signal)
    controller.abort('enough')
    expect(await aborted).toMatchObject({ code: 'ERR_ABORTED', cause: 'enough' })
    await holding
    expect(await next).toBe('served')
    expect(remove).toHaveBeenCalled()
    expect(pool.size).toBe(1)
  })

  test.each([
    ['a data error of an operation', new Pkcs11Error('C_Encrypt', 0x21), true],
    ['a data error in the middle of one', new Pkcs11Error('C_DigestUpdate', 0x21), false],
    ['a data error of a clean-up', new Pkcs11Error('C_DestroyObject', 0x20), false],
    ['a general error', new Pkcs11Error('C_Encrypt', 0x05), false],
    ['a refused mechanism', new Pkcs11Error('C_EncryptInit', 0x70), false],
    ['an error of our own', new KeyError('ERR_KEY_USAGE', 'no'), true],
    ['a mistake of the program', new ArgumentError('no'), true],
    ['a failure of the binding', new BackendError('ERR_BACKEND_FAILED', 'no'), false],
    ['anything else', new RangeError('no'), false],
  ])('%s: the session is kept: %3$s', async (_name, error, kept) => {
    for (const asynchronous of [false, true]) {
      const from = source()
      const pool = new SessionPool(from, LIMITS)
      const used: SessionHandle[] = []
      const fail = (session: SessionHandle): Promise<never> => {
        used.push(session)
        if (asynchronous) return Promise.reject(error)
        throw error
      }
      expect(await errorOf(() => pool.withSession(fail))).toBe(error)
      expect(pool.withSession(session => session) === used[0]).toBe(kept)
      expect(from.live.size).toBe(1)
    }
  })

  test('a lost session takes the idle ones with it', async () => {
    const from = source()
    const pool = new SessionPool(from, LIMITS)
    await Promise.all([1, 2].map(() => pool.withSession(() => tick(1))))
    expect(from.live.size).toBe(2)
    await errorOf(() =>
      pool.withSession(() => {
        throw new Pkcs11Error('C_Encrypt', 0xb3)
      }),
    )
    expect(from.live.size).toBe(0)
    expect(pool.size).toBe(0)
  })

  test('a token with fewer sessions than thought: the pool stays at what it got', async () => {
    const pool = new SessionPool(source(1), { ...LIMITS, max: 8, queue: 10 })
    const results = await Promise.all([1, 2, 3].map(n => pool.withSession(() => tick(1).then(() => n))))
    expect(results).toEqual([1, 2, 3])
    expect(pool.size).toBe(1)
    expect(await errorOf(() => new SessionPool(source(0), LIMITS).withSession(() => 1))).toMatchObject({
      returnValueName: 'CKR_SESSION_COUNT',
      retryable: true,
    })
  })

  test('who waits for a session that is closed gets a new one, or the reason why there is none', async () => {
    for (const limit of [2, 0]) {
      const from = source()
      const pool = new SessionPool(from, { max: 1, queue: 5, waitMs: 1000 })
      const failing = errorOf(() =>
        pool.withSession(async () => {
          await tick(1)
          throw new Pkcs11Error('C_Encrypt', 0x05)
        }),
      )
      const waiting = [1, 2].map(() =>
        errorOf(() => pool.withSession(() => Promise.reject(new RangeError()))),
      )
      if (limit === 0) {
        from.open = () => {
          throw new Pkcs11Error('C_OpenSession', 0x30)
        }
      }
      await failing
      for (const error of await Promise.all(waiting)) {
        expect(error).toBeInstanceOf(limit === 0 ? Pkcs11Error : RangeError)
      }
    }
  })
})
