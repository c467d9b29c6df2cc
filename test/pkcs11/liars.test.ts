/**
 * A token that says one thing and does another: at open, once in the middle of its work, after it was away, among the
 * blocks of several callers. Nothing that it got wrong is handed to anybody where that can be seen, and it is not used again
 * before it has answered rightly.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { openGroup } from '../../src/backend/pkcs11/group.js'
import type { BackendEvent, GroupEvent, KeyStoreOptions } from '../../src/pkcs11.js'
import { FakeToken } from './fake-token.js'
import { AT_ONCE, bindKey, errorOf, openBackendOn, optionsFor, provisionFake } from './support.js'

const BLOCK = new Uint8Array(8)

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

async function openOn(more: Partial<KeyStoreOptions> = {}) {
  const fake = new FakeToken()
  await provisionFake(fake, { composedMac: true })
  const events: BackendEvent[] = []
  const backend = await openBackendOn(fake, {
    composedMac: true,
    onEvent: event => events.push(event),
    ...more,
  })
  const operations = operationsOf(await bindKey(backend, 'PEK-2', { hostDecipher: true }))
  const right = await operations.encipher(BLOCK)
  await turn()
  await turn()
  return { fake, backend, operations, right, events }
}

/** What C_Encrypt of a fake answers from here on, given the right answer; undefined: as it should. */
function bend(fake: FakeToken, name: 'C_Encrypt' | 'C_Decrypt', how: (answer: Uint8Array) => Uint8Array) {
  const straight = fake[name].bind(fake)
  fake[name] = (session, data, length) => Uint8Array.from(how(straight(session, data, length)))
  return () => {
    fake[name] = straight
  }
}

const flipped = (at: number) => (answer: Uint8Array) => {
  const index = at < 0 ? answer.length + at : at
  answer[index] = (answer[index] ?? 0) ^ 1
  return answer
}

/** The first call uses up this turn of the event loop, so that what follows waits and is put together. */
function gather(fake: FakeToken, operations: ReturnType<typeof operationsOf>, blocks: readonly Uint8Array[]) {
  const encrypt = fake.C_Encrypt.bind(fake)
  fake.C_Encrypt = (session, data, length) => {
    vi.advanceTimersByTime(11)
    fake.C_Encrypt = encrypt
    return encrypt(session, data, length)
  }
  const first = operations.encipher(BLOCK)
  const rest = blocks.map(block => operations.encipher(block))
  return { first, rest }
}

describe('a module that promises what it does not do', () => {
  test('mechanisms are tried, never believed: the list of a module is not even asked for', async () => {
    const { fake } = await openOn()
    expect(fake.calls).not.toContain('C_GetMechanismList')
    expect(Reflect.has(fake, 'C_GetMechanismList')).toBe(false)
  })

  test.each([
    ['ECB that chains', CKM.DES3_ECB],
    ['CBC that does not chain', CKM.DES3_CBC],
    ['CMAC that is CBC-MAC', CKM.DES3_CMAC],
  ])('%s: the token is not opened', async (_what, mechanism) => {
    const fake = new FakeToken()
    const init = fake.C_EncryptInit.bind(fake)
    fake.C_EncryptInit = (session, wanted, key) => {
      const other = mechanism === CKM.DES3_ECB ? CKM.DES3_CBC : CKM.DES3_ECB
      init(session, wanted.mechanism === mechanism ? { mechanism: other } : wanted, key)
    }
    const sign = fake.C_Sign.bind(fake)
    fake.C_Sign = (session, data, length) => {
      const answer = sign(session, data, length)
      return mechanism === CKM.DES3_CMAC && answer.length === 8 ? answer.reverse() : answer
    }
    expect(await errorOf(() => openBackendOn(fake))).toMatchObject({ code: 'ERR_PKCS11_SELF_TEST' })
    expect([fake.sessions.size, fake.initialised]).toEqual([0, 0])
  })

  test('a mechanism that worked when it was tried, and is refused later: said at the call', async () => {
    const { fake, operations } = await openOn()
    Object.assign(fake.options, { without: [CKM.DES3_ECB] })
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({
      code: 'ERR_PKCS11_CALL',
      retryable: false,
    })
  })
})

describe('an answer that is wrong', () => {
  test.each(['C_Encrypt', 'C_Decrypt'] as const)(
    '%s with part of the answer: tried anew, once',
    async name => {
      const { fake, operations, right, events } = await openOn()
      const straighten = bend(fake, name, answer => {
        straighten()
        return answer.subarray(0, 4)
      })
      const call = name === 'C_Encrypt' ? operations.encipher(BLOCK) : operations.decipher(right)
      expect(await call).toEqual(name === 'C_Encrypt' ? right : BLOCK)
      expect(events.map(({ state, code }) => [state, code])).toEqual([
        ['recovering', 'ERR_PKCS11_SELF_TEST'],
        ['open', undefined],
      ])
      expect(fake.calls).toContain('C_Finalize')
    },
  )

  test('to the known value, while nobody calls: callers are refused until it is right again', async () => {
    const { fake, backend, operations, right, events } = await openOn({ keepAliveMs: 1000 })
    const straighten = bend(fake, 'C_Encrypt', flipped(0))
    while (events.at(-1)?.state !== 'degraded') {
      vi.advanceTimersByTime(1000)
      await turn()
    }
    const error = await errorOf(() => operations.encipher(BLOCK))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_SELF_TEST', retryable: false })
    expect(error.message).toContain('not used before it answers rightly')
    expect(await backend.health()).toMatchObject({ ok: false })
    straighten()
    while (events.at(-1)?.state !== 'open') await turn()
    expect(await operations.encipher(BLOCK)).toEqual(right)
    expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
    await backend.close()
  })

  test('found by health(): not only said, the token is tried anew', async () => {
    const { fake, backend, operations, right, events } = await openOn()
    const straighten = bend(fake, 'C_Encrypt', flipped(7))
    expect(await backend.health()).toMatchObject({ ok: false })
    while (events.at(-1)?.state !== 'degraded') await turn()
    straighten()
    while (events.at(-1)?.state !== 'open') await turn()
    expect(await operations.encipher(BLOCK)).toEqual(right)
  })

  test.each([
    ['a lost login', (fake: FakeToken) => fake.logOut()],
    ['a lost device', (fake: FakeToken) => fake.reset({ at: 1, code: 0x30 })],
  ])('after %s: what comes back is tried before it is used', async (_what, lose) => {
    const { fake, operations, right } = await openOn()
    const straighten = bend(fake, 'C_Encrypt', flipped(3))
    lose(fake)
    expect(await errorOf(() => operations.encipher(BLOCK))).toMatchObject({ code: 'ERR_PKCS11_SELF_TEST' })
    straighten()
    let answer: Uint8Array | undefined
    while (answer === undefined) {
      answer = await operations.encipher(BLOCK).catch(() => undefined)
      await turn()
    }
    expect(answer).toEqual(right)
  })
})

describe('a call for several callers', () => {
  const blocks = [1, 2, 3].map(byte => new Uint8Array(8).fill(byte))

  test.each([
    ['cut short', (answer: Uint8Array) => (answer.length > 8 ? answer.subarray(0, 8) : answer)],
    ['with blocks in another order', (answer: Uint8Array) => (answer.length > 8 ? answer.reverse() : answer)],
    [
      'with a last block that is wrong',
      (answer: Uint8Array) => (answer.length > 8 ? flipped(-8)(answer) : answer),
    ],
  ])('%s, once: each gets what is right, after the token was tried anew', async (_what, how) => {
    const { fake, operations, events } = await openOn()
    const right = await Promise.all(blocks.map(block => operations.encipher(block)))
    await turn()
    await turn()
    const bent = bend(fake, 'C_Encrypt', answer => {
      const is = answer.length > 8
      const said = how(answer)
      if (is) bent()
      return said
    })
    const { first, rest } = gather(fake, operations, blocks)
    expect(await Promise.all(rest)).toEqual(right)
    await first
    expect(events.map(({ state }) => state)).toEqual(['recovering', 'open'])
  })

  test('wrong each time: all are refused, and none gets a block', async () => {
    const { fake, operations } = await openOn()
    bend(fake, 'C_Encrypt', answer => (answer.length > 8 ? flipped(-8)(answer) : answer))
    const { first, rest } = gather(fake, operations, blocks)
    await first
    const errors = await Promise.all(rest.map(call => errorOf(() => call)))
    for (const error of errors) expect(error).toMatchObject({ code: 'ERR_PKCS11_SELF_TEST' })
  })

  // Data, its length, what the key may do, memory: none of them is got over by logging in or beginning anew.
  test.each([0x20, 0x21, 0x31, 0x68])(
    'refused each time (%i): each goes alone, and not again and again',
    async code => {
      const { fake, operations } = await openOn()
      const right = await Promise.all(blocks.map(block => operations.encipher(block)))
      await turn()
      await turn()
      const encrypt = fake.C_Encrypt.bind(fake)
      fake.C_Encrypt = (session, data, length) => {
        if (data.length > 8) fake.faultOf = { fn: 'C_Encrypt', code }
        try {
          return encrypt(session, data, length)
        } finally {
          fake.faultOf = undefined
        }
      }
      fake.calls.length = 0
      const { first, rest } = gather(fake, operations, blocks)
      expect(await Promise.all(rest)).toEqual(right)
      await first
      // The first, the one for all three, one for each of them, and what a session is tried with that failed.
      expect(fake.calls.filter(name => name === 'C_Encrypt').length).toBeLessThan(12)
    },
  )

  test('deciphering: the first block goes along twice', async () => {
    const { fake, operations } = await openOn()
    const ciphers = await Promise.all(blocks.map(block => operations.encipher(block)))
    await turn()
    await turn()
    let sent = 0
    const bent = bend(fake, 'C_Decrypt', answer => {
      sent = answer.length
      bent()
      return flipped(-1)(answer)
    })
    const { first } = gather(fake, operations, [])
    const clear = await Promise.all(ciphers.map(block => operations.decipher(block)))
    await first
    expect(clear).toEqual(blocks)
    expect(sent).toBe(32)
  })
})

test('a group gives the work to the next member, and says that the first is wrong', async () => {
  const [one, two] = [new FakeToken(), new FakeToken()]
  const fakes = [one, two]
  for (const fake of fakes) await provisionFake(fake, { composedMac: true })
  const events: GroupEvent[] = []
  await using group = await openGroup(
    { members: fakes.map(fake => optionsFor(fake)), onEvent: event => events.push(event), failBackAfter: 1 },
    module => (module === one.path ? one.load : two.load),
    { surroundings: AT_ONCE },
  )
  const operations = operationsOf(await bindKey(group, 'PEK-2'))
  const right = await operations.encipher(BLOCK)
  const straighten = bend(one, 'C_Encrypt', answer => answer.subarray(0, 4))
  expect(await operations.encipher(BLOCK)).toEqual(right)
  expect(events[0]).toMatchObject({ member: 0, state: 'wrong', active: 1, code: 'ERR_PKCS11_SELF_TEST' })
  straighten()
  while (events.at(-1)?.state !== 'ready') await turn()
  expect(await operations.encipher(BLOCK)).toEqual(right)
})

test('a token that shows no serial and no label is never the one that is meant', async () => {
  const fake = new FakeToken({ tokens: [{ label: '', serial: '' }] })
  for (const token of ['fake', 'pkcs11:token=fake', 'pkcs11:serial=s0', { label: 'x', serial: 'y' }]) {
    expect(await errorOf(() => openBackendOn(fake, { token }))).toMatchObject({ code: 'ERR_PKCS11_TOKEN' })
  }
  expect(fake.logins).toBe(0)
})
