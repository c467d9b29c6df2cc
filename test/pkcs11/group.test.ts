/** Several tokens with the same keys as one backend, over fakes: proof of equality, failover, fail-back, loud refusals. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { openGroup } from '../../src/backend/pkcs11/group.js'
import {
  type Backend,
  type Capabilities,
  encipherPin,
  type Key,
  Pan,
  Pin,
  verifyPinBlock,
} from '../../src/index.js'
import type { BackendEvent, GroupEvent, Pkcs11GroupOptions } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import {
  AT_ONCE,
  errorOf,
  modulesInUse,
  openBackendOn,
  openStoreOn,
  optionsFor,
  provisionFake,
} from './support.js'

const PEK = CONTRACT_KEYS.filter(({ kid }) => ['PEK-2', 'PEK-3', 'CMAC-A', 'JWE-BOB', 'SIGN-1'].includes(kid))
const BLOCK = new Uint8Array(8)

let modulesBefore: string[]
beforeAll(() => {
  modulesBefore = modulesInUse()
})
afterAll(() => expect(modulesInUse()).toEqual(modulesBefore))

interface Bench {
  readonly fakes: readonly FakeToken[]
  readonly events: GroupEvent[]
  /** Lets the pauses pass, until something is so. */
  until(condition: () => boolean | Promise<boolean>): Promise<void>
  open(more?: Partial<Pkcs11GroupOptions>): Promise<Backend>
}

async function bench(count = 2): Promise<Bench> {
  const fakes = Array.from({ length: count }, () => new FakeToken())
  for (const fake of fakes) await provisionFake(fake, {}, PEK)
  const events: GroupEvent[] = []
  return {
    fakes,
    events,
    until: async condition => {
      while (!(await condition())) await new Promise(resolve => setImmediate(resolve))
    },
    open: more => {
      const members = fakes.map(fake => optionsFor(fake))
      const load = (module: string) => {
        const fake = fakes.find(({ path }) => path === module)
        if (fake === undefined) throw new Error('no such fake')
        return fake.load
      }
      const options = { members, onEvent: (event: GroupEvent) => events.push(event), ...more }
      return openGroup(options, load, { surroundings: AT_ONCE })
    },
  }
}

const bind = (backend: Backend, kid = 'PEK-2') =>
  backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
const encryptions = (fake: FakeToken | undefined): number =>
  fake?.calls.filter(name => name === 'C_Encrypt').length ?? 0

describe('options', () => {
  test.each([
    [{ members: [] }, 'two tokens'],
    [{ members: undefined }, 'two tokens'],
    [{ members: new Array(2) }, 'members[0]'],
    [{ probeMs: 0 }, 'probeMs'],
    [{ probeMs: 1.5 }, 'probeMs'],
    [{ failBackAfter: 1001 }, 'failBackAfter'],
    [{ onEvent: 'log' }, 'onEvent'],
    [{ balance: true }, 'balance'],
  ])('%j is refused', async (more, text) => {
    const { open } = await bench()
    const error = await errorOf(() => open(more as never))
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(error.message).toContain(text)
  })

  test('two members of one module must be in processes of their own', async () => {
    const { open, fakes } = await bench()
    const [fake] = fakes
    const member = optionsFor(fake ?? new FakeToken())
    const error = await errorOf(() => open({ members: [member, { ...member, token: 'other' }] }))
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(error.message).toContain("executor 'process'")
  })

  test("a member's options are checked like those of one token, and its place is said", async () => {
    const { open, fakes } = await bench()
    const [one] = fakes
    const good = optionsFor(one ?? new FakeToken())
    const error = await errorOf(() => open({ members: [good, { ...good, module: '' }] }))
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

test("ring and onOperation are the group's, and hold", async () => {
  const { open, fakes } = await bench()
  const members = fakes.map(fake => optionsFor(fake, { onOperation: () => undefined }))
  await expect(open({ members })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  await using group = await open({ ring: [{ kid: 'PEK-3', usage: 'pin-encryption' }] })
  await expect(bind(group)).rejects.toMatchObject({ code: 'ERR_BACKEND_SEALED' })
})

describe('the keys are the same, or are refused', () => {
  test('another key by the same kid: ERR_KEY_CHECK_VALUE at bind', async () => {
    const { open, fakes } = await bench()
    fakes[1]?.remove('PEK-2')
    const [other] = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-CLOSED')
    await provisionFake(fakes[1] ?? new FakeToken(), {}, [
      {
        kid: 'PEK-2',
        usage: 'pin-encryption',
        hostDecipher: true,
        algorithm: 'tdea-2key',
        material: 'FEDCBA98765432100123456789ABCDEF',
      },
    ])
    expect(other).toBeDefined()
    await using group = await open()
    const error = await errorOf(() => bind(group))
    expect(error).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
    expect(error.message).toContain('member 1 holds another key')
    expect((await bind(group, 'PEK-3')).kid).toBe('PEK-3')
  })

  test('another key with the same three bytes of check value is another key, too', async () => {
    const { open, fakes } = await bench()
    // Found among 1,780 keys: the zero block is 58B1F2… under both.
    const materials = ['CB6D3E38370DD5B52A3D38F22C520B07', 'A858DA89FD5B2ADA9E6715EF2040EFE5']
    for (const [i, material] of materials.entries()) {
      const key = { kid: 'NEAR', usage: 'pin-encryption', algorithm: 'tdea-2key', material } as const
      await provisionFake(fakes[i] ?? new FakeToken(), {}, [key])
    }
    await using group = await open()
    const error = await errorOf(() => group.bind({ kid: 'NEAR', usage: 'pin-encryption', kcv: '58B1F2' }))
    expect(error).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
    expect(error.message).toContain('member 1 holds another key')
  })

  test('a check value by another method proves nothing', async () => {
    const { open, fakes } = await bench()
    Object.assign(fakes[1]?.options ?? {}, { noCheckValue: true })
    const cmac = CONTRACT_KEYS.filter(({ kid }) => kid === 'CMAC-T')
    for (const fake of fakes) await provisionFake(fake, {}, cmac)
    await using group = await open()
    const error = await errorOf(() => group.bind({ kid: 'CMAC-T', usage: 'cmac' }))
    expect(error).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE', kid: 'CMAC-T' })
    // By the method that both have, it is the same key.
    const kcv = { method: 'cmac', value: 'CA6116' } as const
    const { checkValue } = await group.bind({ kid: 'CMAC-T', usage: 'cmac', kcv })
    expect(checkValue).toEqual({ method: 'cmac', value: expect.stringMatching(/^CA6116/) })
  })

  test('a key that one token does not have: ERR_KEY_NOT_FOUND, and which', async () => {
    const { open, fakes } = await bench()
    fakes[1]?.remove('PEK-2')
    await using group = await open()
    const error = await errorOf(() => bind(group))
    expect(error).toMatchObject({ code: 'ERR_KEY_NOT_FOUND', kid: 'PEK-2' })
    expect(error.message).toContain('member 1')
  })

  test('another key pair is told by its public key', async () => {
    const { open, fakes } = await bench()
    fakes[1]?.remove('SIGN-1')
    fakes[1]?.remove('JWE-BOB')
    const bob = CONTRACT_KEYS.find(({ kid }) => kid === 'JWE-BOB')
    if (bob === undefined) throw new Error('no such key')
    await provisionFake(fakes[1] ?? new FakeToken(), {}, [{ ...bob, kid: 'SIGN-1', usage: 'jwt-signing' }])
    await using group = await open()
    await expect(group.bind({ kid: 'SIGN-1', usage: 'jwt-signing' })).rejects.toMatchObject({
      code: 'ERR_KEY_CHECK_VALUE',
    })
  })
})

describe('binding', () => {
  test('a kid that the first does not have: as of one token, and the next is not asked', async () => {
    const { open, fakes } = await bench()
    await using group = await open()
    fakes[1]?.reset()
    const error = await errorOf(() => bind(group, 'NONE'))
    expect(error).toMatchObject({ code: 'ERR_KEY_NOT_FOUND', kid: 'NONE' })
    expect(error.message).not.toContain('of the group')
    expect(fakes[1]?.calls).toEqual([])
  })

  test('bound anew while one is away: the one before works on where it was proven', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    const [first = expect.fail(), second = expect.fail()] = fakes
    first.faultOf = { fn: '*', code: 0xe0 }
    const [old, key] = [await bind(group), await bind(group)]
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
    for (const fake of fakes) fake.reset()
    const answer = await operationsOf(key).encipher(BLOCK)
    expect([encryptions(first), encryptions(second)]).toEqual([1, 0])
    expect(await operationsOf(old).encipher(BLOCK)).toEqual(answer)
    expect([encryptions(first), encryptions(second)]).toEqual([1, 1])
  })

  test('bound anew in vain: the one before stays, and works', async () => {
    const { open, fakes } = await bench()
    await using group = await open()
    const key = await bind(group)
    fakes[1]?.remove('PEK-2')
    expect(await errorOf(() => bind(group))).toMatchObject({ code: 'ERR_KEY_NOT_FOUND' })
    expect(await operationsOf(key).encipher(BLOCK)).toHaveLength(8)
  })

  test.each(['is not there', 'is another key'])('a kid that %s in the next is bound nowhere', async what => {
    const { open, fakes } = await bench()
    const [first = expect.fail(), second = expect.fail()] = fakes
    second.remove('PEK-2')
    const material = 'FEDCBA98765432100123456789ABCDEF'
    const other = { kid: 'PEK-2', usage: 'pin-encryption', algorithm: 'tdea-2key', material } as const
    if (what === 'is another key') await provisionFake(second, {}, [{ ...other, hostDecipher: true }])
    await using group = await open()
    await expect(bind(group)).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_KEY_/) })
    // A token that had it bound would miss it now.
    for (const fake of [first, second]) fake.remove('PEK-2')
    expect(await group.health()).toMatchObject({ ok: true, state: 'open' })
  })

  test('bound anew, and the one before let go: the new one works, and comes back with a member', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    const [old, key] = [await bind(group), await bind(group)]
    group.unbind(old)
    const before = await operationsOf(key).encipher(BLOCK)
    const [first = expect.fail()] = fakes
    first.faultOf = { fn: '*', code: 0xe0 }
    // Two of its callers lose it, and it is lost once.
    const both = await Promise.all([1, 2].map(() => operationsOf(key).encipher(BLOCK)))
    expect(both).toEqual([before, before])
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
    expect(events.filter(({ state }) => state === 'away')).toHaveLength(1)
    first.reset()
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    expect(encryptions(first)).toBe(1)
  })
})

test('a PIN is verified in the token that serves', async () => {
  const { open, fakes } = await bench()
  await using group = await open()
  const [key, three] = [await bind(group), await bind(group, 'PEK-3')]
  const pan = Pan.from('4761739001010010')
  const made = (pin: string, format: 0 | 3, under: Key): Promise<Uint8Array> =>
    encipherPin({ pin: Pin.from(pin), pan, format, key: under })
  const against = { kind: 'block', block: await made('1234', 0, three), format: 0, key: three } as const
  for (const fake of fakes) fake.reset()
  const verdicts: boolean[] = []
  for (const pin of ['1234', '4321']) {
    const given = { block: await made(pin, 3, key), pan, format: 3, from: key, against } as const
    verdicts.push((await verifyPinBlock({ ...given, tries: 'counted-elsewhere' })).verified)
  }
  expect(verdicts).toEqual([true, false])
  expect(fakes[0]?.calls).toContain('C_Decrypt')
  expect(fakes[1]?.calls).toEqual([])
})

describe('one works, the next takes over', () => {
  test('every operation, on the first; on the second when the first is away; on the first again', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 2, probeMs: 1 })
    const [key, three] = [await bind(group), await bind(group, 'PEK-3')]
    const cmac = await group.bind({ kid: 'CMAC-A', usage: 'cmac' })
    const bob = await group.bind({ kid: 'JWE-BOB', usage: 'jwe-key-agreement' })
    const sign = await group.bind({ kid: 'SIGN-1', usage: 'jwt-signing' })
    const point = Uint8Array.of(
      4,
      ...Buffer.from(
        '6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C2964FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5',
        'hex',
      ),
    )
    const all = async (): Promise<Uint8Array[]> => [
      await operationsOf(key).encipher(BLOCK),
      await operationsOf(key).decipher(BLOCK),
      await operationsOf(key).reencipher(three, BLOCK),
      await operationsOf(cmac).mac({ algorithm: 'cmac', padding: 'none' }, BLOCK),
      await operationsOf(bob).deriveContentKey({ ephemeralPublicKey: point, otherInfo: BLOCK, length: 32 }),
    ]
    const before = await all()
    expect((await operationsOf(sign).sign(BLOCK)).length).toBe(64)
    expect((await group.randomBytes(8)).length).toBe(8)
    expect(await group.health()).toMatchObject({ ok: true, state: 'open' })
    for (const fake of fakes) fake.reset()
    await operationsOf(key).encipher(BLOCK)
    expect(fakes.map(encryptions)).toEqual([1, 0])

    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    first.faultOf = { fn: '*', code: 0xe0 }
    expect(await all()).toEqual(before)
    expect(events[0]).toMatchObject({ member: 0, state: 'away', active: 1, code: expect.any(String) })
    expect(await group.health()).toMatchObject({ ok: true, state: 'degraded' })

    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
    expect(events.at(-1)).toMatchObject({ member: 0, state: 'ready', active: 0 })
    for (const fake of fakes) fake.reset()
    expect(await all()).toEqual(before)
    expect(encryptions(fakes[1])).toBe(0)
    expect(await group.health()).toMatchObject({ ok: true, state: 'open' })
  })

  test('a handle is one token’s: another key with the same number in the next token is another key', async () => {
    const { open, fakes, until } = await bench()
    const [first, second] = fakes
    if (first === undefined || second === undefined) throw new Error('no fakes')
    const again = async (fake: FakeToken, kid: string): Promise<number | undefined> => {
      fake.remove(kid)
      await provisionFake(
        fake,
        {},
        CONTRACT_KEYS.filter(key => key.kid === kid),
      )
      return [...fake.objects].find(([, { attributes }]) => attributes.get(CKA.LABEL) === kid)?.[0]
    }
    expect(await again(first, 'PEK-2')).toBe(await again(second, 'CMAC-A'))
    await using group = await open({ probeMs: 600_000 })
    await bind(group)
    first.faultOf = { fn: '*', code: 0xe0 }
    await until(async () => (await group.health()).state === 'degraded')
    const cmac = await group.bind({ kid: 'CMAC-A', usage: 'cmac' })
    expect(cmac.checkValue.value).toBe('7AD386C376')
  })

  test('an error of the caller is no reason to ask another token', async () => {
    const { open, fakes, events } = await bench()
    await using group = await open()
    const key = await bind(group)
    const [first, second] = fakes
    if (first === undefined) throw new Error('no fake')
    second?.reset()
    first.faultOf = { fn: 'C_Encrypt', code: 0x21 }
    await expect(operationsOf(key).encipher(BLOCK)).rejects.toMatchObject({ code: 'ERR_PKCS11_CALL' })
    expect(encryptions(second)).toBe(0)
    expect(events).toEqual([])
  })

  test('all away: a retryable error; health says so', async () => {
    const { open, fakes } = await bench()
    await using group = await open()
    const key = await bind(group)
    for (const fake of fakes) fake.faultOf = { fn: '*', code: 0xe0 }
    await expect(operationsOf(key).encipher(BLOCK)).rejects.toMatchObject({ retryable: true })
    await expect(operationsOf(key).encipher(BLOCK)).rejects.toMatchObject({ retryable: true })
    await expect(group.bind({ kid: 'PEK-3', usage: 'pin-encryption' })).rejects.toMatchObject({
      retryable: true,
    })
    expect(await group.health()).toMatchObject({ ok: false, state: 'degraded' })
    for (const fake of fakes) fake.faultOf = undefined
  })

  test('a key bound while one is away is proven in that one before it works', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    first.faultOf = { fn: '*', code: 0xe0 }
    const key = await bind(group)
    const before = await operationsOf(key).encipher(BLOCK)
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
    first.reset()
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    expect(encryptions(first)).toBe(1)
    group.unbind(key)
    await expect(operationsOf(key).encipher(BLOCK)).rejects.toMatchObject({ code: 'ERR_KEY_FOREIGN' })
  })

  test('one that comes back with another key by a kid is not used, and that is said', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    const [first = expect.fail(), second] = fakes
    const key = await bind(group)
    const before = await operationsOf(key).encipher(BLOCK)
    first.faultOf = { fn: '*', code: 0xe0 }
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    const twin = new FakeToken()
    const other = { algorithm: 'tdea-2key', material: 'FEDCBA98765432100123456789ABCDEF' } as const
    const keys = PEK.map(one => (one.kid === 'PEK-2' ? { ...one, ...other } : one))
    await provisionFake(twin, {}, keys)
    first.objects.clear()
    for (const [handle, object] of twin.objects) first.objects.set(handle, object)
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'wrong'))
    second?.reset()
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    expect(encryptions(second)).toBe(1)
    expect(events.filter(({ member, state }) => member === 0 && state === 'ready')).toEqual([])
  })

  test('one that was away at open comes in; a refused PIN opens nothing', async () => {
    const { open, fakes, events, until } = await bench()
    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    first.faultOf = { fn: '*', code: 0xe0 }
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    expect(events).toEqual([expect.objectContaining({ member: 0, state: 'away' })])
    expect(group.capabilities().notes[0]).toBe('a group of 2 tokens, 1 of them open')
    await bind(group)
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))

    const wrong = fakes.map(fake => optionsFor(fake, { pin: () => 'wrong-pin' }))
    await group.close()
    await expect(open({ members: wrong })).rejects.toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
    // By the second one: the first, which was open by then, is closed before that is said.
    const half = fakes.map((fake, i) => optionsFor(fake, { pin: () => (i === 0 ? '1234' : 'wrong-pin') }))
    await expect(open({ members: half })).rejects.toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
    expect([first.loggedIn, modulesInUse()]).toEqual([false, modulesBefore])
    for (const fake of fakes) fake.faultOf = { fn: '*', code: 0xe0 }
    await expect(open()).rejects.toMatchObject({ retryable: true })
  })

  test('one that comes in later is opened as the options said when the group was', async () => {
    const { open, fakes, events, until } = await bench()
    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    first.faultOf = { fn: '*', code: 0xe0 }
    const members = fakes.map(fake => ({ ...optionsFor(fake), sessions: { max: 1 } }))
    await using _ = await open({ members, failBackAfter: 1, probeMs: 1 })
    Object.assign(members[0] ?? {}, { module: '/nowhere.so', token: 'another', pin: () => 'wrong-pin' })
    Object.assign(members[0]?.sessions ?? {}, { max: 0 })
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
  })

  test('one that refuses the PIN when it comes back is asked once: it would lock', async () => {
    const { open, fakes, until } = await bench()
    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    first.faultOf = { fn: '*', code: 0xe0 }
    const members = fakes.map((fake, i) => optionsFor(fake, { pin: () => (i === 0 ? 'wrong-pin' : '1234') }))
    await using group = await open({ members, failBackAfter: 1, probeMs: 1 })
    first.faultOf = undefined
    await until(() => first.refusedPins > 0)
    // Time for many more, of which each would come within a turn of the event loop or two.
    for (let turn = 0; turn < 100; turn++) await new Promise(resolve => setImmediate(resolve))
    expect([first.refusedPins, group.capabilities().notes[0]]).toEqual([
      1,
      'a group of 2 tokens, 1 of them open',
    ])
  })

  // The second is one that the token needs no time to get over: the first proof is a good one.
  test.each([
    ['the device has gone', 0xe0],
    ['it has no memory', 0x31],
  ])('proofs are counted in a row, each time anew, also from one that fails: %s', async (_what, code) => {
    const { fakes, events } = await bench()
    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    const steps: (() => void)[] = []
    const later = (step: () => void) => {
      steps.push(step)
      return () => undefined
    }
    const load = (module: string) => (fakes.find(({ path }) => path === module) ?? first).load
    const members = fakes.map(fake => optionsFor(fake))
    const onEvent = (event: GroupEvent) => events.push(event)
    await using group = await openGroup({ members, onEvent, failBackAfter: 3 }, load, {
      surroundings: { later, soon: later, random: () => 1 },
    })
    const key = operationsOf(await bind(group))
    const isReady = () => events.at(-1)?.state === 'ready'
    /** The pauses that are under way pass, once. */
    const turn = async (): Promise<void> => {
      for (const step of steps.splice(0)) step()
      for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve))
    }
    const turnsToReady = async (): Promise<number> => {
      let turns = 0
      for (; !isReady() && turns < 20; turns++) await turn()
      return turns
    }
    const lose = async (): Promise<void> => {
      first.faultOf = { fn: '*', code }
      await key.encipher(BLOCK)
      expect(events.at(-1)).toMatchObject({ member: 0, state: 'away' })
      first.faultOf = undefined
    }
    await lose()
    const turns = await turnsToReady()
    expect(turns).toBeGreaterThanOrEqual(3)
    expect(turns).toBeLessThan(20)
    await lose()
    for (let i = 1; i < turns; i++) await turn()
    expect(isReady()).toBe(false)
    first.faultOf = { fn: '*', code }
    await turn()
    first.faultOf = undefined
    expect(await turnsToReady()).toBe(turns)
  })

  test('a key that changed value in the active token: refused there, answered by the other, and said', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    const key = await bind(group)
    const before = await operationsOf(key).encipher(BLOCK)
    const [first] = fakes
    if (first === undefined) throw new Error('no fake')
    first.remove('PEK-2')
    await provisionFake(first, {}, [
      {
        kid: 'PEK-2',
        usage: 'pin-encryption',
        hostDecipher: true,
        algorithm: 'tdea-2key',
        material: 'FEDCBA98765432100123456789ABCDEF',
      },
    ])
    // Two callers notice, and it is said once.
    const both = await Promise.all([1, 2].map(() => operationsOf(key).encipher(BLOCK)))
    expect(both).toEqual([before, before])
    expect(events.filter(({ state }) => state === 'wrong')).toHaveLength(1)
    expect(events[0]).toMatchObject({ member: 0, state: 'wrong', active: 1, code: 'ERR_KEY_CHECK_VALUE' })
    expect(await group.health()).toMatchObject({ ok: true, state: 'degraded' })
    // Looked at again and again, it is said once.
    first.reset()
    await until(() => first.calls.filter(name => name === 'C_GetTokenInfo').length >= 3)
    expect(events.filter(({ state }) => state === 'wrong')).toHaveLength(1)
    // Put right by an operator, it is used again.
    first.remove('PEK-2')
    await provisionFake(
      first,
      {},
      PEK.filter(({ kid }) => kid === 'PEK-2'),
    )
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
  })

  test.each<[string, number[]]>([
    ['TDEA', [CKM.DES3_ECB]],
    ['cmac', [CKM.DES3_CMAC, CKM.AES_CMAC]],
    ['hmac-sha256', [CKM.SHA256_HMAC]],
    ['key agreement', [CKM.ECDH1_DERIVE]],
    ['signatures', [CKM.ECDSA]],
    ['derived keys', [CKM.AES_ECB_ENCRYPT_DATA, CKM.DES3_ECB_ENCRYPT_DATA]],
  ])('a member that cannot do what the group does stays out: %s', async (what, without) => {
    const { open, fakes, events, until } = await bench()
    const [first = expect.fail()] = fakes
    const members = fakes.map(fake => optionsFor(fake, { deriveKeys: 'inside' }))
    first.faultOf = { fn: '*', code: 0xe0 }
    await using group = await open({ members, failBackAfter: 1, probeMs: 1 })
    expect(group.capabilities().macs.cmac).toBe('native')
    Object.assign(first.options, { without })
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state !== 'away'))
    expect(events.at(-1)).toMatchObject({ member: 0, state: 'wrong' })
    expect(events.at(-1)?.reason).toContain(what)
  })

  test('closed while a member is being opened: that one is closed, too', async () => {
    const { fakes, until } = await bench()
    const [first = expect.fail()] = fakes
    let loaded: (() => void) | undefined
    const load = (module: string) => async () => {
      const fake = fakes.find(({ path }) => path === module) ?? first
      if (fake === first && first.faultOf === undefined)
        await new Promise<void>(resolve => (loaded = resolve))
      return fake.load(module)
    }
    first.faultOf = { fn: '*', code: 0xe0 }
    const members = fakes.map(fake => optionsFor(fake))
    const group = await openGroup({ members, failBackAfter: 1, probeMs: 1 }, load, { surroundings: AT_ONCE })
    first.faultOf = undefined
    first.reset()
    await until(() => loaded !== undefined)
    const closing = group.close()
    await new Promise(resolve => setImmediate(resolve))
    loaded?.()
    await closing
    await until(() => first.initialised === 0)
    expect(first.calls).toContain('C_Finalize')
  })

  test('nor does one that lets keys out, where the group re-enciphers inside', async () => {
    const { open, fakes, events, until } = await bench()
    const [first = expect.fail()] = fakes
    const members = fakes.map(fake => optionsFor(fake, { translateInToken: true }))
    first.faultOf = { fn: '*', code: 0xe0 }
    await using group = await open({ members, failBackAfter: 1, probeMs: 1 })
    expect(group.capabilities().reencipher).toBe('inside')
    Object.assign(first.options, { ignoresTemplates: true })
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'wrong'))
    expect(events.find(({ state }) => state === 'wrong')?.reason).toContain('re-encipherment inside')
  })

  test('asked to re-encipher inside a token or not at all, it does not do so in host memory', async () => {
    const { open, fakes } = await bench()
    const options = { translateInToken: true }
    const pek = { usage: 'pin-encryption', algorithm: 'tdea-2key', hostDecipher: true } as const
    for (const fake of fakes) {
      await using store = await openStoreOn(fake, options)
      const material = ['0123456789ABCDEFFEDCBA9876543210', 'FEDCBA98765432100123456789ABCDEF'] as const
      await store.importKey({ ...pek, kid: 'BOTH', translation: true, material: material[0] })
      await store.importKey({ ...pek, kid: 'PLAIN', material: material[1] })
    }
    await using group = await open({ members: fakes.map(fake => optionsFor(fake, options)) })
    expect(group.capabilities().reencipher).toBe('inside')
    const [both, plain] = [operationsOf(await bind(group, 'BOTH')), await bind(group, 'PLAIN')]
    expect(await both.reencipher(plain, BLOCK)).toHaveLength(8)
    expect(await errorOf(() => both.reencipher(plain, BLOCK, undefined, { inside: true }))).toMatchObject({
      code: 'ERR_HOST_DECIPHER',
    })
  })

  test('a token that holds the keys and gives one wrong answer is proven again', async () => {
    const { open, fakes, events, until } = await bench()
    await using group = await open({ failBackAfter: 1, probeMs: 1 })
    const key = await bind(group)
    const [first = expect.fail()] = fakes
    first.faultOf = { fn: '*', code: 0xe0 }
    const before = await operationsOf(key).encipher(BLOCK)
    let wrong = 0
    const begin = first.C_EncryptInit.bind(first)
    first.C_EncryptInit = (...given) => {
      // Where its health is asked for, and nowhere else.
      const isHealth = first.calls.at(-1) === 'C_GetTokenInfo' && wrong === 0
      if (isHealth) wrong++
      Object.assign(first.options, { wrong: isHealth ? CKM.DES3_ECB : undefined })
      begin(...given)
    }
    first.faultOf = undefined
    await until(() => events.some(({ member, state }) => member === 0 && state === 'ready'))
    expect(wrong).toBe(1)
    first.reset()
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    expect(encryptions(first)).toBe(1)
  })

  test('what one of them cannot do the group does not say that it can', async () => {
    const derivationOf = async (ways: readonly ('inside' | 'through-host')[], without: number[] = []) => {
      const { fakes, open } = await bench()
      Object.assign(fakes[1]?.options ?? {}, { without })
      const members = fakes.map((fake, i) => optionsFor(fake, { deriveKeys: ways[i] ?? 'inside' }))
      await using backend = await open({ members })
      const { tdea, derivation, random } = backend.capabilities()
      expect(random).not.toBe('none')
      return [tdea === 'none', derivation]
    }
    expect(await derivationOf(['inside', 'inside'])).toEqual([false, 'inside'])
    expect(await derivationOf(['inside', 'through-host'])).toEqual([false, 'host'])
    expect(await derivationOf(['inside', 'inside'], [CKM.DES3_ECB])).toEqual([true, 'inside'])
  })

  test.each<[string, Partial<FakeOptions>, (told: Capabilities) => string]>([
    ['TDEA', { without: [CKM.DES3_ECB] }, ({ tdea }) => tdea],
    ['HMAC', { without: [CKM.SHA256_HMAC] }, ({ macs }) => macs['hmac-sha256']],
    ['key agreement', { without: [CKM.ECDH1_DERIVE] }, ({ keyAgreement }) => keyAgreement],
    ['signatures', { without: [CKM.ECDSA] }, ({ signing }) => signing],
    ['re-encipherment inside', { ignoresTemplates: true }, ({ reencipher }) => reencipher],
    ['Z inside', { noDigestKey: true }, ({ keyAgreement }) => keyAgreement],
  ])(
    '%s: what a group says is what the least of its tokens can, in whichever place',
    async (_what, lacks, told) => {
      const options = { extractSharedSecret: true, translateInToken: true }
      const weak = new FakeToken(lacks)
      await provisionFake(weak, {}, [])
      await using alone = await openBackendOn(weak, options)
      const least = told(alone.capabilities())
      for (const place of [0, 1, 2]) {
        const { fakes, open } = await bench(3)
        Object.assign(fakes[place]?.options ?? {}, lacks)
        await using group = await open({
          members: fakes.map(fake => optionsFor(fake, options)),
        })
        expect([place, told(group.capabilities())]).toEqual([place, least])
      }
      const { fakes, open } = await bench(3)
      await using all = await open({ members: fakes.map(fake => optionsFor(fake, options)) })
      expect(told(all.capabilities())).not.toBe(least)
    },
  )

  test("a listener's own mistake changes nothing", async () => {
    const { open, fakes } = await bench()
    await using group = await open({
      onEvent: () => {
        throw new Error('mine')
      },
    })
    const key = await bind(group)
    const before = await operationsOf(key).encipher(BLOCK)
    const [first] = fakes
    if (first !== undefined) first.faultOf = { fn: '*', code: 0xe0 }
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
  })
})

test('a key that was rotated by somebody else: refused each time, said once, until it is bound anew', async () => {
  const fake = new FakeToken()
  const [pek] = PEK
  if (pek === undefined) throw new Error('no key')
  await provisionFake(fake, {}, [pek])
  const events: BackendEvent[] = []
  await using backend = await openBackendOn(fake, { onEvent: event => events.push(event) })
  const key = await bind(backend)
  const before = await operationsOf(key).encipher(BLOCK)
  fake.remove('PEK-2')
  await provisionFake(fake, {}, [{ ...pek, material: 'FEDCBA98765432100123456789ABCDEF' }])
  for (let i = 0; i < 3; i++) {
    await expect(operationsOf(key).encipher(BLOCK)).rejects.toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
  }
  const told = () => events.filter(event => event.key !== undefined)
  const said = expect.objectContaining({
    key: 'PEK-2',
    state: 'open',
    from: 'open',
    code: 'ERR_KEY_CHECK_VALUE',
  })
  expect(told()).toEqual([said])
  const anew = await bind(backend)
  expect(await operationsOf(anew).encipher(BLOCK)).not.toEqual(before)
  fake.remove('PEK-2')
  await provisionFake(fake, {}, [pek])
  for (let i = 0; i < 3; i++) {
    await expect(operationsOf(anew).encipher(BLOCK)).rejects.toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
  }
  expect(told()).toEqual([said, said])
})
