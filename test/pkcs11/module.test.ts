import { symlinkSync } from 'node:fs'
import { describe, expect, test, vi } from 'vitest'
import { ModuleElsewhere, ModuleShare } from '../../src/backend/pkcs11/session/module.js'
import { FakeToken } from './fake-token.js'
import { errorOf, modulesInUse, openBackendOn, optionsFor } from './support.js'

describe('a module', () => {
  test('is initialised by its first user and finalised by its last, under any of its names', async () => {
    const fake = new FakeToken()
    const other = `${fake.path}.link`
    symlinkSync(fake.path, other)
    let loads = 0
    const load = async () => {
      loads++
      return fake
    }
    const shares = [
      await ModuleShare.acquire(fake.path, undefined, load),
      await ModuleShare.acquire(other, undefined, load),
    ]
    expect([loads, fake.initialised]).toEqual([2, 1])
    shares[0]?.release()
    shares[0]?.release()
    expect(fake.initialised).toBe(1)
    shares[1]?.release()
    expect(fake.initialised).toBe(0)
  })

  test('is initialised once by two users at the same time', async () => {
    const fake = new FakeToken()
    const shares = await Promise.all([1, 2].map(() => ModuleShare.acquire(fake.path, 'init', fake.load)))
    // Each user's binding asks; the second is told that it is initialised already.
    expect([fake.parameters, fake.initialised]).toEqual([['init', 'init'], 1])
    // One count for both: the first to go leaves it to the other.
    shares.shift()?.release()
    expect(fake.initialised).toBe(1)
    shares.shift()?.release()
    expect(fake.initialised).toBe(0)
  })

  test('that is initialised anew is so with the same parameters, and its login ends with the last of its users', async () => {
    const fake = new FakeToken()
    const both = [1, 2].map(() => openBackendOn(fake, { initParameters: 'vendor=1' }))
    const [one, two] = await Promise.all(both)
    fake.reset({ at: 1, code: 0x30 })
    const turn = () => new Promise(resolve => setImmediate(resolve))
    for (const backend of [one, two]) while ((await backend?.health())?.ok === false) await turn()
    expect(fake.calls).toContain('C_Finalize')
    expect(new Set(fake.parameters)).toEqual(new Set(['vendor=1']))
    fake.reset()
    await one?.close()
    expect(fake.calls).not.toContain('C_Logout')
    await two?.close()
    expect(fake.calls).toContain('C_Logout')
  })

  test('two of whose tokens have one label: the login of each ends with its own last user', async () => {
    const fake = new FakeToken({ tokens: [{ serial: 'a' }, { serial: 'b' }] })
    // Each token has a login of its own.
    fake.C_Login = () => undefined
    const [one, two] = ['a', 'b'].map(serial => openBackendOn(fake, { token: { label: 'fake', serial } }))
    fake.loggedIn = true
    const [first, second] = [await one, await two]
    fake.reset()
    await first?.close()
    expect(fake.calls).toContain('C_Logout')
    fake.loggedIn = true
    fake.reset()
    await second?.close()
    expect(fake.calls).toContain('C_Logout')
  })

  test('that threads of this process use, too, is neither finalised nor logged out of under them', async () => {
    for (const isElsewhere of [true, false]) {
      const fake = new FakeToken()
      const there = new ModuleElsewhere(fake.path, undefined)
      if (!isElsewhere) there.release()
      const share = await ModuleShare.acquire(fake.path, undefined, fake.load)
      share.joinLogin('token', true)
      expect([share.mayFinalise, share.leaveLogin('token')]).toEqual([!isElsewhere, !isElsewhere])
      share.release()
      expect(fake.calls.includes('C_Finalize')).toBe(!isElsewhere)
      there.release()
    }
  })

  test('that threads used first: whoever of two comes to its end does not finalise it under the other', async () => {
    const fake = new FakeToken()
    const threads = new ModuleElsewhere(fake.path, undefined)
    const [one, two] = [
      await ModuleShare.acquire(fake.path, undefined, fake.load),
      await ModuleShare.acquire(fake.path, undefined, fake.load),
    ]
    threads.release()
    one.release()
    expect(fake.initialised).toBe(1)
    two.release()
    expect(fake.initialised).toBe(0)
  })

  test('that one user initialised anew: another, which comes to its end, takes no login along', async () => {
    const fake = new FakeToken()
    const [one, two] = [await openBackendOn(fake), await openBackendOn(fake)]
    fake.reset({ at: 1, code: 0x30 })
    while (!(await one.health()).ok) await new Promise(resolve => setImmediate(resolve))
    expect(fake.calls).toContain('C_Finalize')
    fake.reset()
    await two.close()
    expect([fake.calls.includes('C_Logout'), fake.loggedIn]).toEqual([false, true])
    expect((await one.health()).ok).toBe(true)
    await one.close()
  })

  test('that something else initialised and ended: whoever initialises it anew finalises it', async () => {
    const fake = new FakeToken({ alreadyInitialised: true })
    const share = await ModuleShare.acquire(fake.path, undefined, fake.load)
    Object.assign(fake.options, { alreadyInitialised: false })
    share.letGo()
    share.comeBack()
    expect(fake.initialised).toBe(1)
    share.release()
    expect(fake.initialised).toBe(0)
  })

  test('whoever comes knows of all that are there, here and in threads, whoever has come and gone before', async () => {
    const fake = new FakeToken()
    const here = () => ModuleShare.acquire(fake.path, undefined, fake.load)
    const there = async () => new ModuleElsewhere(fake.path, undefined)
    const kinds = [here, there]
    for (const [one, two, three] of kinds.flatMap(a =>
      kinds.flatMap(b => kinds.map(c => [a, b, c] as const)),
    )) {
      const users = [await one(), await two(), await three()]
      while (users.length > 0) {
        users.shift()?.release()
        const threads = users.filter(user => user instanceof ModuleElsewhere).length
        const comer = await here()
        expect(comer.mayFinalise).toBe(threads === 0)
        comer.release()
        const thread = await there()
        expect(thread.alone).toBe(users.length === 0)
        thread.release()
        if (users.length > threads) expect(fake.initialised).toBe(1)
      }
      expect(modulesInUse()).not.toContain(fake.path)
    }
  })

  test('a login that is refused is none: whoever was refused it, in closing, takes another’s not along', async () => {
    const fake = new FakeToken()
    const one = await openBackendOn(fake)
    fake.faultOf = { fn: 'C_Login', code: 0xa4 }
    expect(await errorOf(() => openBackendOn(fake))).toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
    fake.faultOf = undefined
    expect([fake.calls.includes('C_Logout'), fake.loggedIn]).toEqual([false, true])
    expect((await one.health()).ok).toBe(true)
    await one.close()
    expect(fake.loggedIn).toBe(false)
  })

  test('that something else initialised is not finalised', async () => {
    const fake = new FakeToken({ alreadyInitialised: true })
    ;(await ModuleShare.acquire(fake.path, undefined, fake.load)).release()
    expect(fake.calls).toEqual(['C_Initialize'])
  })

  test('that something else initialised is not finalised, but the login is the library’s: its last user ends it', async () => {
    const fake = new FakeToken({ alreadyInitialised: true })
    const [one, two] = [await openBackendOn(fake), await openBackendOn(fake)]
    fake.reset()
    await one.close()
    expect(fake.calls).not.toContain('C_Logout')
    expect((await two.health()).ok).toBe(true)
    await two.close()
    expect(fake.calls.filter(name => name === 'C_Logout')).toHaveLength(1)
    expect(fake.calls).not.toContain('C_Finalize')
    expect([fake.sessions.size, fake.loggedIn]).toEqual([0, false])
  })

  test('in use with other init parameters is refused', async () => {
    const fake = new FakeToken()
    await using backend = await openBackendOn(fake, { initParameters: 'a' })
    expect(await errorOf(() => openBackendOn(fake, { initParameters: 'b' }))).toMatchObject({
      code: 'ERR_PKCS11_MODULE',
    })
    expect((await backend.health()).ok).toBe(true)
  })

  test('path: absolute, and a file', async () => {
    const fake = new FakeToken()
    expect(await errorOf(() => openBackendOn(fake, { module: 'libsofthsm2.so' }))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    expect(await errorOf(() => openBackendOn(fake, { module: '/no/such.so' }))).toMatchObject({
      code: 'ERR_PKCS11_MODULE',
    })
  })

  test('a binding that throws something of its own keeps its error', async () => {
    const fake = new FakeToken()
    fake.C_Initialize = () => {
      throw new RangeError('not ours')
    }
    expect(await errorOf(() => openBackendOn(fake))).toBeInstanceOf(RangeError)
  })
})

test('a worker thread neither logs out nor finalises: it cannot know who else works', async () => {
  vi.resetModules()
  vi.doMock('node:worker_threads', () => ({ isMainThread: false }))
  const { openPkcs11 } = await import('../../src/backend/pkcs11/backend.js')
  // Of the same copy of the library, whose errors it must throw.
  const { FakeToken } = await import('./fake-token.js')
  const fake = new FakeToken()
  await (await openPkcs11(optionsFor(fake), fake.load)).close()
  expect(fake.calls).not.toContain('C_Logout')
  expect(fake.calls).not.toContain('C_Finalize')
  expect(fake.sessions.size).toBe(0)
  vi.doUnmock('node:worker_threads')
})

test('two copies of this package, as ESM and CommonJS side by side, count together', async () => {
  const fake = new FakeToken()
  const first = await openBackendOn(fake)
  vi.resetModules()
  const { openPkcs11 } = await import('../../src/backend/pkcs11/backend.js')
  const copy = await import('./fake-token.js')
  const same = Object.assign(new copy.FakeToken(), { objects: fake.objects })
  const second = await openPkcs11(optionsFor(fake), same.load)
  // Two bindings, each told that it was the first: the library keeps a state for each, and each ends its own.
  await first.close()
  expect([fake.initialised, same.initialised]).toEqual([0, 1])
  await second.close()
  expect(same.initialised).toBe(0)
})
