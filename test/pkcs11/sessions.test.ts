/** Sessions: lent to one user, kept after what leaves them good, closed after anything else, counted until they are closed. */
import { describe, expect, test } from 'vitest'
import type { SessionHandle } from '../../src/backend/pkcs11/binding/binding.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { Connection } from '../../src/backend/pkcs11/session/connection.js'
import { readSettings } from '../../src/backend/pkcs11/session/options.js'
import { Sessions } from '../../src/backend/pkcs11/session/sessions.js'
import { AbortedError, BackendError, KeyError } from '../../src/base/errors.js'
import { FakeToken } from './fake-token.js'
import { optionsFor } from './support.js'

function pool(max = 4) {
  const open = new Set<SessionHandle>()
  const world = {
    opened: 0,
    closeFails: 0 as number,
    openFails: 0 as number,
    open,
  }
  const sessions = new Sessions(
    {
      open: () => {
        if (world.openFails > 0) throw new Pkcs11Error('C_OpenSession', world.openFails)
        const session = Uint8Array.of(++world.opened) as SessionHandle
        open.add(session)
        return session
      },
      close: session => {
        if (world.closeFails > 0) throw new Pkcs11Error('C_CloseSession', world.closeFails)
        open.delete(session)
      },
    },
    max,
  )
  return { world, sessions }
}

test('an operation that is half done is ended where the library can, and the session is kept; else it is closed', () => {
  const cancelled: number[] = []
  let fails = false
  const closed: SessionHandle[] = []
  const sessions = new Sessions(
    {
      open: () => Uint8Array.of(1) as SessionHandle,
      close: session => closed.push(session),
      cancel: (_session, operation) => {
        cancelled.push(operation)
        if (fails) throw new Pkcs11Error('C_SessionCancel', 0x54)
      },
    },
    2,
  )
  const refuse = (functionName: string): void => {
    const half = (): never => {
      throw new Pkcs11Error(functionName, 0x70)
    }
    expect(() => sessions.withSession(half)).toThrow(functionName)
  }
  // The flags of C_SessionCancel (PKCS#11 v3.1, 5.6.12): another one's would end nothing, and the session is lent again.
  const flags = {
    C_FindObjects: 0x40,
    C_EncryptInit: 0x100,
    C_DecryptInit: 0x200,
    C_DigestKey: 0x400,
    C_SignInit: 0x800,
  }
  for (const name of Object.keys(flags)) refuse(name)
  expect([cancelled, closed.length, sessions.size]).toEqual([Object.values(flags), 0, 1])
  cancelled.length = 0
  // No operation of which a part could be left.
  refuse('C_GetTokenInfo')
  expect([cancelled.length, closed.length]).toEqual([0, 1])
  // What refuses the data or names no key any more leaves the session good, too; a lost one is not worth the call.
  const refuseBy = (returnValue: number): number => {
    cancelled.length = 0
    const half = (): never => {
      throw new Pkcs11Error('C_SignUpdate', returnValue)
    }
    expect(() => sessions.withSession(half)).toThrow('C_SignUpdate')
    return cancelled.length
  }
  expect([0x21, 0x60, 0x70].map(refuseBy)).toEqual([1, 1, 1])
  expect([0xb3, 0x101, 0x30, 0x05].map(refuseBy)).toEqual([0, 0, 0, 0])
  cancelled.length = 0
  closed.length = 0
  fails = true
  refuse('C_DecryptInit')
  expect([cancelled.length, closed.length, sessions.size]).toEqual([1, 1, 0])
})

describe('a session', () => {
  test.each<[string, unknown]>([
    ['a data error of an operation', new Pkcs11Error('C_Encrypt', 0x21)],
    ['an error of our own', new KeyError('ERR_KEY_USAGE', 'wrong')],
    ['an abort', new AbortedError('enough')],
  ])('after %s is kept', (_what, error) => {
    const { world, sessions } = pool()
    expect(() =>
      sessions.withSession(() => {
        throw error
      }),
    ).toThrow(error as Error)
    sessions.withSession(session => expect(session[0]).toBe(1))
    expect(world.opened).toBe(1)
  })

  test.each<[string, unknown]>([
    ['a data error in the middle of an operation', new Pkcs11Error('C_DigestUpdate', 0x21)],
    ['a general error', new Pkcs11Error('C_Encrypt', 0x05)],
    ['a refused mechanism', new Pkcs11Error('C_EncryptInit', 0x70)],
    ['a wrong answer', new BackendError('ERR_BACKEND_FAILED', 'wrong')],
    ['a bug', new RangeError('bug')],
  ])('after %s is closed and not used again', (_what, error) => {
    const { world, sessions } = pool()
    expect(() =>
      sessions.withSession(() => {
        throw error
      }),
    ).toThrow(error as Error)
    expect([world.open.size, sessions.size]).toEqual([0, 0])
    sessions.withSession(session => expect(session[0]).toBe(2))
  })

  test('that is lost takes the idle ones with it', () => {
    const { world, sessions } = pool()
    sessions.withSession(() => sessions.withSession(() => undefined))
    expect(world.open.size).toBe(2)
    expect(() =>
      sessions.withSession(() => {
        throw new Pkcs11Error('C_EncryptInit', 0xb3)
      }),
    ).toThrow()
    expect([world.open.size, sessions.size]).toEqual([0, 0])
  })
})

test('the last one back is the first one lent', () => {
  const { sessions } = pool()
  sessions.withSession(() => sessions.withSession(() => undefined))
  sessions.withSession(session => expect(session[0]).toBe(1))
})

test('no more than allowed, and no more than the token has: ERR_BACKEND_BUSY, retryable', () => {
  const { world, sessions } = pool(1)
  expect(() => sessions.withSession(() => sessions.withSession(() => undefined))).toThrow(
    expect.objectContaining({ code: 'ERR_BACKEND_BUSY', retryable: true }) as Error,
  )
  sessions.close()
  world.openFails = 0xb1
  expect(() => sessions.withSession(() => undefined)).toThrow(
    expect.objectContaining({ code: 'ERR_BACKEND_BUSY', retryable: true }) as Error,
  )
  world.openFails = 0xe0
  expect(() => sessions.withSession(() => undefined)).toThrow(Pkcs11Error)
})

test('one that does not close still counts, and is closed later', () => {
  const { world, sessions } = pool(1)
  sessions.withSession(() => undefined)
  world.closeFails = 0x05
  sessions.close()
  expect([sessions.size, sessions.unclosed, world.open.size]).toEqual([1, 1, 1])
  expect(() => sessions.withSession(() => undefined)).toThrow(
    expect.objectContaining({ code: 'ERR_BACKEND_BUSY' }) as Error,
  )
  world.closeFails = 0
  sessions.withSession(session => expect(session[0]).toBe(2))
  expect([sessions.size, sessions.unclosed, world.open.size]).toEqual([1, 0, 1])
})

// By each of these the session ended by itself: kept for another try it would take up a place for ever.
test.each([0x32, 0xb0, 0xb3, 0xe0, 0x190])('one that is gone already (%i) is closed', returnValue => {
  const { world, sessions } = pool()
  sessions.withSession(() => undefined)
  world.closeFails = returnValue
  sessions.close()
  expect([sessions.size, sessions.unclosed]).toEqual([0, 0])
})

test('after the module was finalised all are forgotten, without a call', () => {
  const { world, sessions } = pool()
  sessions.withSession(() => undefined)
  sessions.forget()
  expect([sessions.size, world.open.size]).toEqual([0, 1])
  // Also those that did not close: they ended with the module, and take up no place.
  sessions.withSession(() => undefined)
  world.closeFails = 0x05
  sessions.close()
  expect([sessions.size, sessions.unclosed]).toEqual([1, 1])
  sessions.forget()
  expect([sessions.size, sessions.unclosed]).toEqual([0, 0])
})

test('the session that holds the login is replaced by one, and not joined by one', async () => {
  const fake = new FakeToken()
  const { importClearKeys: _, ...options } = optionsFor(fake)
  const connection = await Connection.open(readSettings(options, 'a test'), fake.load)
  const before = fake.sessions.size
  for (let i = 0; i < 3; i++) {
    // The new one first: a token logs out with the last session, and where none can be opened the old one must still be there.
    fake.reset()
    connection.renewAnchor()
    const moved = fake.calls.filter(name => name === 'C_OpenSession' || name === 'C_CloseSession')
    expect(moved).toEqual(['C_OpenSession', 'C_CloseSession'])
    expect(fake.loggedIn).toBe(true)
  }
  expect(fake.sessions.size).toBe(before)
  expect(connection.pulse()).toBe(true)
  connection.close()
  expect(fake.sessions.size).toBe(0)
})
