/**
 * Wipes are counted: every public verb, on every backend, in success and in each kind of failure, and afterwards none of
 * the buffers that were made meanwhile holds a secret, but for those that the result is there to give.
 */
import { randomBytes } from 'node:crypto'
import { afterEach, expect, test, vi } from 'vitest'
import { CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { RemoteHost } from '../../src/backend/pkcs11/executor/host.js'
import { openSoftware as openWith } from '../../src/backend/software/software.js'
import { secretBytes, wipe } from '../../src/base/bytes.js'
import { chainedAudit, verifyAuditChain } from '../../src/d1.js'
import { type Backend, Pin } from '../../src/index.js'
import { panSealer } from '../../src/sqlite.js'
import { starterOn } from '../pkcs11/in-thread.js'
import { AT_ONCE as SURROUNDINGS } from '../pkcs11/support.js'
import { someOf } from '../support/some-of.js'
import type { LeakCase } from './cases.js'
import { CORE } from './cases-core.js'
import { D1 } from './cases-d1.js'
import { places, replaced } from './hostile.js'
import { outcomeOf } from './look.js'
import { recorded, secretsIn } from './recorder.js'
import * as secret from './secrets.js'
import { KEYS, openSoftware, quotingBackend, Token, type World, worldOn } from './world.js'

/** Memory that the modules make for themselves when they are loaded, and use again and again. */
const scratch = vi.hoisted(() => {
  const made: ArrayBuffer[] = []
  const Real = globalThis.ArrayBuffer
  globalThis.ArrayBuffer = new Proxy(Real, {
    construct(target, args, newTarget): ArrayBuffer {
      const buffer: ArrayBuffer = Reflect.construct(target, args, newTarget)
      made.push(buffer)
      return buffer
    },
  })
  return {
    made,
    stop: () => {
      globalThis.ArrayBuffer = Real
    },
  }
})
scratch.stop()
const keptByModules = (): string[] =>
  scratch.made.flatMap(buffer => secretsIn(new Uint8Array(buffer)).map(name => `${name}, kept by a module`))
afterEach(() => {
  // The key derivation's is among them.
  expect(scratch.made.map(({ byteLength }) => byteLength)).toContain(2048)
  expect(keptByModules()).toEqual([])
})

/** Those that keep a key by what they are for: the object that they give holds it until it is closed. */
const KEEPS: ReadonlySet<string> = new Set(['softwareBackend', 'panSealer'])
const CASES: readonly LeakCase[] = [...CORE, ...D1].filter(
  ({ verb, slow }) =>
    slow !== true && !KEEPS.has(verb) && !verb.startsWith('Pin.') && !verb.startsWith('inspect'),
)

interface Ran {
  readonly left: readonly string[]
  readonly failed: boolean
  readonly made: number
}

async function run(leakCase: LeakCase, world: World, what: string): Promise<Ran> {
  const args = await leakCase.args(world)
  const {
    value,
    left: own,
    made,
  } = await recorded(async () => {
    const outcome = await outcomeOf(() => leakCase.call(args, world))
    // A PIN that was handed out is the caller's, who disposes of it.
    if ('result' in outcome && outcome.result instanceof Pin) outcome.result.dispose()
    return outcome
  })
  // At once: the next verb may write its own over it.
  const left = [...own, ...keptByModules()]
  return { left: left.map(name => `${leakCase.verb}, ${what}: ${name}`), failed: 'error' in value, made }
}

async function runAll(world: World, what: string): Promise<number> {
  const left: string[] = []
  let failed = 0
  let made = 0
  for (const leakCase of CASES) {
    const ran = await run(leakCase, world, what)
    left.push(...ran.left)
    if (ran.failed) failed++
    made += ran.made
  }
  expect(left).toEqual([])
  expect(made).toBeGreaterThan(20)
  return failed
}

test('the recorder finds what is not wiped, and not what is', async () => {
  const make = (): Uint8Array => {
    const copy = secretBytes(20)
    copy.set(secret.clearBlock, 7)
    return copy
  }
  expect((await recorded(() => void make())).left).toEqual(['clear block'])
  expect((await recorded(() => make())).left).toEqual([])
  expect((await recorded(() => ({ inside: [make()] }))).left).toEqual([])
  expect((await recorded(() => wipe(make()))).left).toEqual([])
  expect((await recorded(() => void make())).made).toBe(1)
  expect((await recorded(() => void Pin.from(secret.pin))).left).toEqual(['PIN, digits'])
  expect((await recorded(() => Pin.from(secret.pin).dispose())).left).toEqual([])
})

test.each(['bitslice', 'node:crypto', 'node-forge'] as const)('in software (%s)', async engine => {
  await using backend = await openSoftware(engine)
  await runAll(await worldOn(backend), engine)
})

/** What is refused at different depths: another type at once, bytes that are short where they are used, a getter where it is read. */
const WRONG: Readonly<Record<string, () => unknown>> = {
  'a symbol': () => Symbol('wrong'),
  'seven bytes': () => new Uint8Array(7),
  'a throwing getter': () =>
    Object.defineProperty({}, 'kid', {
      get: () => {
        throw new Error('wrong')
      },
      enumerable: true,
    }),
}

test.each(Object.entries(WRONG))('called wrongly in every place: %s', async (what, value) => {
  await using backend = await openSoftware()
  const world = await worldOn(backend)
  const left: string[] = []
  let failed = 0
  for (const leakCase of CASES) {
    for (const path of places(await leakCase.args(world), 3)) {
      const args = replaced(await leakCase.args(world), path, value())
      const changed = { ...leakCase, args: () => args }
      const ran = await run(changed, world, `${what} as ${path.join('.')}`)
      left.push(...ran.left)
      if (ran.failed) failed++
    }
  }
  expect(left).toEqual([])
  expect(failed).toBeGreaterThan(200)
})

const FAILING: Readonly<Record<string, () => Promise<{ backend: Backend; world: World }>>> = {
  'a backend that is closed': async () => {
    const backend = await openSoftware()
    const world = await worldOn(backend)
    await backend.close()
    return { backend, world }
  },
  'a signal that has fired': async () => {
    const backend = await openSoftware()
    return { backend, world: await worldOn(backend, { signal: AbortSignal.abort() }) }
  },
  'a driver that fails in every operation': async () => {
    const backend = await quotingBackend()
    return { backend, world: await worldOn(backend) }
  },
}

test.each(Object.entries(FAILING))('with %s', async (name, open) => {
  const { backend, world } = await open()
  expect(await runAll(world, name)).toBeGreaterThan(15)
  await outcomeOf(() => backend.close())
})

/** More in flight than there is room for at first: what grows leaves what it grew out of. */
const AT_ONCE = 70
const ONE_BLOCK = /^(?:encipherPin|decipherPin|translatePinBlock|reencipherPinBlock|generateMac|verifyMac)$/

test('many in one turn', async () => {
  await using backend = await openSoftware('bitslice')
  const world = await worldOn(backend)
  const left: string[] = []
  let verbs = 0
  for (const leakCase of CASES.filter(({ verb }) => ONE_BLOCK.test(verb))) {
    const args = await Promise.all(Array.from({ length: AT_ONCE }, () => leakCase.args(world)))
    const ran = await recorded(async () => {
      const calls = args.map(one => leakCase.call(one, world))
      const results = await Promise.all(calls)
      for (const result of results) if (result instanceof Pin) result.dispose()
      return results
    })
    left.push(...new Set([...ran.left, ...keptByModules()].map(name => `${leakCase.verb}: ${name}`)))
    verbs++
  }
  expect(left).toEqual([])
  expect(verbs).toBeGreaterThanOrEqual(6)
})

const keys = () => KEYS.map(({ hostDecipher: _, ...key }) => key)
const noThread = () => {
  throw new Error('no thread')
}
const shortKey = () => Buffer.from(secret.keys['PRW key'])
const panKey = () => ({ kid: 'A', key: Buffer.concat([secret.keys['PRW key'], secret.keys['CMAC key']]) })

test.each<[string, () => unknown]>([
  ['a key that is none, the last', () => openWith({ keys: [...keys(), { kid: 'X' } as never] })],
  ['an engine that there is not', () => openWith({ keys: keys(), engine: 'openssl' as never })],
  ['no thread to be had', () => openWith({ keys: keys(), jwe: { workers: 1 } }, noThread)],
  ['a PAN key that is none, the last', () => panSealer({ keys: [panKey(), { kid: 'B' } as never] })],
  ['a kid twice', () => panSealer({ keys: [panKey(), panKey()] })],
  ['an audit key that is too short', () => chainedAudit({ key: shortKey(), write: () => {} })],
  ['a line of no chain', () => chainedAudit({ key: panKey().key, write: () => {}, after: '{}' })],
  ['a line of no chain, to verify', () => verifyAuditChain({ lines: 7 as never, key: panKey().key })],
])('what fails to open keeps no key: %s', async (_what, open) => {
  const { value, left } = await recorded(() => outcomeOf(async () => void (await open())))
  expect([Object.keys(value), left]).toEqual([['error'], []])
})

test('verifying an audit chain keeps no key', async () => {
  const { value, left, made } = await recorded(() => verifyAuditChain({ lines: [], key: panKey().key }))
  expect([value.intact, left]).toEqual([true, []])
  expect(made).toBeGreaterThan(0)
})

test('on a token', async () => {
  const token = await Token.make()
  await using backend = await token.open()
  await runAll(await worldOn(backend), 'token')
})

test.each([
  ['token-digest-key', { kdf: false }, {}],
  ['token-extract', { kdf: false, noDigestKey: true }, { extractSharedSecret: true }],
] as const)('on a token that agrees on a key another way (%s)', async (way, fakeOptions, options) => {
  const token = await Token.make()
  Object.assign(token.fake.options, fakeOptions)
  await using backend = await token.open(options)
  expect(backend.capabilities().keyAgreement).toBe(way)
  const world = await worldOn(backend)
  const left: string[] = []
  let verbs = 0
  for (const leakCase of someOf(
    CASES.filter(({ verb }) => /jwe|deriveContentKey|setPinRequest/i.test(verb)),
  )) {
    const ran = await run(leakCase, world, way)
    left.push(...ran.left)
    expect([leakCase.verb, ran.failed]).toEqual([leakCase.verb, leakCase.refused === true])
    verbs++
  }
  expect(left).toEqual([])
  expect(verbs).toBeGreaterThan(5)
})

const elsewhere = () => ({ held: undefined, started: 0, kills: [] as (() => void)[] })

test.each(['threads', 'process'] as const)('on a token, from elsewhere (%s)', async executor => {
  const token = await Token.make()
  const there = elsewhere()
  const open = { surroundings: SURROUNDINGS, starter: starterOn(token.fake, there) }
  await using backend = await token.open({ executor, sessions: { max: 1 } }, open)
  await runAll(await worldOn(backend), executor)
  expect(there.started).toBeGreaterThan(0)
})

test('a job for an other end that has gone, or that takes nothing', async () => {
  for (const how of ['gone', 'takes nothing'] as const) {
    const channel = {
      send: () => {
        throw new Error('cannot be sent')
      },
      listen: () => {},
      end: () => {},
      kill: () => {},
    }
    const host = new RemoteHost(channel, 'thread', undefined, () => {})
    if (how === 'gone') host.kill()
    const blocks = Uint8Array.from(secret.clearBlock)
    const { value, left, made } = await recorded(() =>
      outcomeOf(() => host.perform('encipher', { key: {} as never, blocks })),
    )
    expect([how, Object.keys(value), left]).toEqual([how, ['error'], []])
    expect(made).toBe(1)
  }
})

test('on a token any of whose calls fails', async () => {
  const token = await Token.make()
  await using backend = await token.open({ sessions: { max: 1 } })
  const world = await worldOn(backend)
  const left: string[] = []
  let failed = 0
  for (const leakCase of CASES.filter(({ pure }) => pure !== true)) {
    token.count()
    await run(leakCase, world, '')
    const calls = token.count()
    for (let at = 1; at <= calls; at++) {
      token.quoteAt = at
      const ran = await run(leakCase, world, `call ${at} fails`)
      token.quoteAt = 0
      token.count()
      left.push(...ran.left)
      if (ran.failed) failed++
    }
  }
  expect(left).toEqual([])
  expect(failed).toBeGreaterThan(20)
})

test('keys that are brought into a token, also one any of whose calls fails', async () => {
  const token = await Token.make()
  // Components are put together in host memory then: the key is there as a whole.
  Object.assign(token.fake.options, { without: [CKM.XOR_BASE_AND_DATA] })
  await using store = await token.openStore()
  const left: string[] = []
  let [made, failed] = [0, 0]
  const mask = randomBytes(16)
  // An AES key, one of two DES keys, one with its K1 beside it, and a pair.
  for (const key of KEYS.filter(({ kid }) => ['CMAC', 'ZPK', 'MAC', 'JWE'].includes(kid))) {
    const kid = `${key.kid}-again`
    const more = { ...key, kid, ...(key.usage.startsWith('prw') && { macs: ['iso9797-1-alg3'] as const }) }
    const ways = [async () => store.importKey(more)]
    if (Buffer.isBuffer(key.material)) {
      const { material, ...rest } = more
      const parts = [mask, Buffer.from(mask.map((byte, i) => byte ^ Number(key.material[i as never])))]
      ways.push(async () => (await store.assembleKey({ ...rest, parts, kcv: 'FFFFFF' })).key)
    }
    for (const way of ways) {
      const look = async (): Promise<void> => {
        const ran = await recorded(() => outcomeOf(way))
        left.push(...ran.left.map(name => `${key.kid}: ${name}`))
        if ('error' in ran.value) failed++
        else made++
      }
      token.count()
      await look()
      // From the last: what comes first is the look at whether the kid is free.
      const calls = token.count()
      for (let at = calls; at > Math.max(0, calls - 25); at--) {
        await outcomeOf(() => store.deleteKey({ kid }))
        token.count()
        token.quoteAt = at
        await look()
        token.quoteAt = 0
      }
      await outcomeOf(() => store.deleteKey({ kid }))
    }
  }
  expect([...new Set(left)]).toEqual([])
  expect([made, failed].map(count => count > 3)).toEqual([true, true])
})
