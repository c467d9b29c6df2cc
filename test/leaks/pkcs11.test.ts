/** `issuer-pin-crypto/pkcs11` on a fake token: opening, the key store, and each native call failing in its turn. */
import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { openGroup } from '../../src/backend/pkcs11/group.js'
import { isIssuerPinError, keyCheckValue, sealKeyBlock, splitKey } from '../../src/index.js'
import {
  importKeyBlock,
  keyCeremony,
  openKeyStore,
  type Pkcs11Options,
  pkcs11Backend,
  pkcs11Group,
} from '../../src/pkcs11.js'
import { callersError, hostileValues, places, replaced } from './hostile.js'
import { leaksOf, type Outcome, outcomeOf } from './look.js'
import { keys, planted, tokenPin } from './secrets.js'
import { openSoftware, Token } from './world.js'

const HOSTILE = hostileValues(planted)
/** Names of the caller's, which errors repeat: a path, labels and kids. */
const NAMES = ['module', 'token', 'kid', 'id', 'label', '0', 'officer', 'under']

/** Every place of the arguments with every hostile value. */
async function wrongCalls(
  what: string,
  args: () => readonly unknown[],
  call: (args: readonly unknown[]) => unknown,
) {
  const leaks: string[] = []
  for (const path of places(args())) {
    for (const { name, value, isName } of HOSTILE) {
      if (isName && NAMES.includes(path.at(-1) ?? '')) continue
      const outcome = await outcomeOf(() => call(replaced(args(), path, value)))
      leaks.push(...leaksOf(outcome, `${what}, ${name} as ${path.join('.')}`))
      if ('result' in outcome) await closed(outcome.result)
    }
  }
  return leaks
}

async function closed(result: unknown): Promise<void> {
  if (typeof result === 'object' && result !== null && 'close' in result)
    await (result.close as () => unknown)()
}

/** Runs a step again and again, its first, second, … native call failing, until none does. */
async function eachCallFails(token: Token, step: () => Promise<unknown>, what: string) {
  const leaks: string[] = []
  const outcomes: Outcome[] = []
  for (let at = 1; ; at++) {
    token.count()
    token.quoteAt = at
    const outcome = await outcomeOf(step)
    token.quoteAt = 0
    const calls = token.count()
    leaks.push(...leaksOf(outcome, `${what}, call ${at}`))
    outcomes.push(outcome)
    if (calls < at) return { leaks, outcomes }
  }
}

const options = (token: Token) => ({
  ...token.optionsOf,
  token: { label: 'fake' },
  userType: 1,
  allowFinalTry: false,
  sessions: { max: 2, queue: 1, waitMs: 10, readWrite: true },
  keys: { OTHER: { label: 'x', id: '01' } },
  translateInToken: false,
  extractSharedSecret: false,
})
const material = (): Uint8Array => Uint8Array.from(keys.ZPK.map((byte, i) => (i === 0 ? byte ^ 2 : byte)))

describe('opening a token shows no secret', () => {
  test('with wrong options in every place', async () => {
    const token = await Token.make()
    const args = () => [options(token)]
    expect(await wrongCalls('pkcs11Backend', args, ([given]) => token.open(given as never))).toEqual([])
    expect(await wrongCalls('openKeyStore', args, ([given]) => token.openStore(given as never))).toEqual([])
  })

  test('a group, with wrong options in every place', async () => {
    const [one, two] = [await Token.make(), await Token.make()]
    const args = () => [{ members: [options(one), options(two)], probeMs: 100, failBackAfter: 3 }]
    const load = (module: string) => (module === options(one).module ? one.load : two.load)
    const open = (given: unknown) => openGroup(given as never, load)
    expect(await wrongCalls('pkcs11Group', args, ([given]) => open(given))).toEqual([])
  })

  test('by the real binding, which finds no module', async () => {
    const group = (options: Pkcs11Options) =>
      pkcs11Group({ members: [options, { ...options, module: '/no/other.so' }] })
    for (const open of [pkcs11Backend, openKeyStore, group]) {
      const outcome = await outcomeOf(() =>
        open({ module: '/no/such/module.so', token: 't', pin: () => tokenPin }),
      )
      expect(outcome).toMatchObject({ error: { code: 'ERR_PKCS11_MODULE' } })
      expect(leaksOf(outcome, open.name)).toEqual([])
    }
  })

  test('with a wrong PIN, or a PIN function that gives something else', async () => {
    const token = await Token.make()
    const wrong = HOSTILE.map(({ value }) => value).filter(value => value !== tokenPin)
    for (const pin of [`${tokenPin}x`, ...wrong].map(value => () => value)) {
      const outcome = await outcomeOf(() => token.open({ pin: pin as () => string }))
      expect('error' in outcome).toBe(true)
      expect(leaksOf(outcome, 'a wrong PIN')).toEqual([])
    }
  })

  test('with a PIN function that throws', async () => {
    const token = await Token.make()
    const thrown = callersError(tokenPin)
    const outcome = await outcomeOf(() => token.open({ pin: () => Promise.reject(thrown) }))
    expect(outcome).toMatchObject({ error: { code: 'ERR_PKCS11_LOGIN' } })
    expect(leaksOf(outcome, 'a throwing PIN function')).toEqual([])
  })

  test('whichever native call fails', async () => {
    const token = await Token.make()
    const open = async (): Promise<unknown> => {
      await using backend = await token.open()
      return backend.capabilities()
    }
    const { leaks, outcomes } = await eachCallFails(token, open, 'pkcs11Backend')
    expect(leaks).toEqual([])
    expect(outcomes.filter(outcome => 'error' in outcome).length).toBeGreaterThan(5)
    for (const outcome of outcomes) if ('error' in outcome) expect(isIssuerPinError(outcome.error)).toBe(true)
  })
})

describe('the key store shows no secret', () => {
  const key = () => ({ kid: 'NEW', usage: 'pin-encryption', algorithm: 'tdea-2key', hostDecipher: true })

  const aes = { kid: 'NEW', usage: 'cmac', algorithm: 'aes-128' } as const
  const carried = () => Uint8Array.from(keys['carried key'])
  async function ceremony() {
    const { components, checkValue } = await splitKey({
      kid: 'NEW',
      algorithm: 'aes-128',
      material: carried(),
      parts: 2,
    })
    const entries = components.map(({ component, checkValue: kcv }, i) => ({
      officer: `O${i}`,
      component,
      kcv,
    }))
    return { ...aes, entries, kcv: checkValue }
  }
  async function assembled() {
    const { entries, kcv } = await ceremony()
    return { ...aes, parts: entries.map(({ component }) => component), kcv }
  }
  /** Under the KEK of the tests below. */
  async function wrapped() {
    const { checkValue: kcv } = await keyCheckValue({ material: carried(), algorithm: 'aes-128' })
    const cipher = createCipheriv('id-aes128-wrap' as never, keys['retail MAC key'], Buffer.alloc(8, 0xa6))
    const bytes = new Uint8Array(cipher.update(carried()))
    return { ...aes, wrapped: bytes, wrapping: 'rfc3394' as const, under: 'KEK', kcv }
  }
  async function blockOf() {
    const backend = await openSoftware()
    const bound = await backend.bind({ kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true })
    const { block } = await sealKeyBlock({
      key: bound,
      version: 'D',
      usage: 'cmac',
      algorithm: 'aes-128',
      material: carried(),
      mode: 'C',
      exportability: 'E',
    })
    return { kid: 'NEW', key: bound, block, usage: 'cmac' as const }
  }

  test('what brings keys in, with wrong arguments in every place', async () => {
    const token = await Token.make()
    await using store = await token.openStore()
    await store.importKey({
      kid: 'KEK',
      usage: 'key-encryption',
      algorithm: 'aes-128',
      material: Uint8Array.from(keys['retail MAC key']),
    })
    const again = async (call: () => unknown): Promise<unknown> => {
      token.fake.remove('NEW')
      return call()
    }
    const [assembledOnce, ceremonyOnce, wrappedOnce, blockOnce] = [
      await assembled(),
      await ceremony(),
      await wrapped(),
      await blockOf(),
    ]
    const verbs: [string, () => readonly unknown[], (given: never) => unknown][] = [
      ['assembleKey', () => [{ ...assembledOnce }], given => store.assembleKey(given)],
      ['keyCeremony', () => [{ ...ceremonyOnce, store }], given => keyCeremony(given)],
      ['unwrapKey', () => [{ ...wrappedOnce }], given => store.unwrapKey(given)],
      ['importKeyBlock', () => [{ ...blockOnce, store }], given => importKeyBlock(given)],
    ]
    for (const [name, args, call] of verbs) {
      const rightly = await outcomeOf(() => again(() => call(args()[0] as never)))
      expect([name, 'error' in rightly ? rightly.error : undefined]).toEqual([name, undefined])
      expect(leaksOf(rightly, name)).toEqual([])
      expect(await wrongCalls(name, args, ([given]) => again(() => call(given as never)))).toEqual([])
    }
  })

  test('with wrong arguments in every place', async () => {
    const token = await Token.make()
    await using store = await token.openStore()
    const again = async (call: () => unknown): Promise<unknown> => {
      token.fake.remove('NEW')
      return call()
    }
    const imported = () => [{ ...key(), material: material(), kcv: undefined }]
    expect(
      await wrongCalls('importKey', imported, ([given]) => again(() => store.importKey(given as never))),
    ).toEqual([])
    expect(
      await wrongCalls(
        'generateKey',
        () => [key()],
        ([given]) => again(() => store.generateKey(given as never)),
      ),
    ).toEqual([])
    expect(
      await wrongCalls(
        'deleteKey',
        () => ['NEW', { id: '00' }],
        given => store.deleteKey({ kid: given[0] as string, ...(given[1] as { id: string }) }),
      ),
    ).toEqual([])
    expect(leaksOf({ result: await store.listKeys() }, 'listKeys')).toEqual([])
    expect(leaksOf({ result: store }, 'the key store')).toEqual([])
  })

  test('a key that is let go, and what is no key', async () => {
    const token = await Token.make()
    await using backend = await token.open()
    const bound = await backend.bind({ kid: 'STORE', usage: 'pin-encryption' })
    for (const given of [bound, bound, undefined, keys.ZPK, { kid: 'STORE' }]) {
      const outcome = await outcomeOf(async () => backend.unbind(given as never))
      expect(leaksOf(outcome, 'unbind')).toEqual([])
    }
    expect(
      leaksOf(await outcomeOf(() => operationsOf(bound).encipher(new Uint8Array(8))), 'encipher'),
    ).toEqual([])
  })

  test('without leave to import, and after it was closed', async () => {
    const token = await Token.make()
    const store = await token.openStore({ importClearKeys: false })
    const tryAll = async (): Promise<string[]> => {
      const outcomes = [
        await outcomeOf(() => store.importKey({ ...key(), material: material() } as never)),
        await outcomeOf(() => store.assembleKey({ ...key(), parts: [material()], kcv: '000000' } as never)),
        await outcomeOf(() => store.generateKey({ ...key(), kid: 'STORE' } as never)),
        await outcomeOf(() => store.deleteKey({ kid: 'NONE' })),
        await outcomeOf(() => store.close()),
      ]
      return outcomes.flatMap(outcome => leaksOf(outcome, 'the key store'))
    }
    expect(await tryAll()).toEqual([])
    expect(await tryAll()).toEqual([])
  })

  test('whichever native call fails', async () => {
    const token = await Token.make()
    await using store = await token.openStore()
    const steps: Readonly<Record<string, () => Promise<unknown>>> = {
      importKey: () => store.importKey({ ...key(), material: material() } as never),
      assembleKey: async () => store.assembleKey(await assembled()),
      keyCeremony: async () => keyCeremony({ store, ...(await ceremony()) }),
      unwrapKey: async () => store.unwrapKey(await wrapped()),
      importKeyBlock: async () => importKeyBlock({ store, ...(await blockOf()) }),
      generateKey: () => store.generateKey(key() as never),
      listKeys: () => store.listKeys(),
    }
    for (const [name, step] of Object.entries(steps)) {
      const { leaks, outcomes } = await eachCallFails(
        token,
        async () => {
          token.fake.remove('NEW')
          return step()
        },
        name,
      )
      expect(leaks).toEqual([])
      expect(outcomes.filter(outcome => 'error' in outcome).length).toBeGreaterThan(3)
    }
  })
})
