import { expect, test } from 'vitest'
import { openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import { openKeyStoreOver } from '../../src/backend/pkcs11/key-store.js'
import { retailMacProfile } from '../../src/backend/pkcs11/mechanisms/plan.js'
import { readSettings } from '../../src/backend/pkcs11/session/options.js'
import { DEFAULTS } from '../../src/base/defaults.js'
import { openKeyStore, type Pkcs11Options, pkcs11Backend } from '../../src/pkcs11.js'
import { FakeToken } from './fake-token.js'
import { errorOf, openBackendOn, optionsFor } from './support.js'

const fake = new FakeToken()
/** NIST SP 800-38B, appendix D.1. */
const CMAC_A = '2B7E151628AED2A6ABF7158809CF4F3C'

test.each<[string, unknown]>([
  ['none', undefined],
  ['null', null],
  ['an unknown name', { pinn: () => '1' }],
  ['a slot number', { slot: 0 }],
  ['no module', { module: undefined }],
  ['an empty module', { module: '' }],
  ['a PIN that is no function', { pin: '1234' }],
  ['a user type that is no number', { userType: 'user' }],
  ['a security officer', { userType: 0 }],
  ['allowFinalTry', { allowFinalTry: 'yes' }],
  ['initParameters', { initParameters: 7 }],
  ['sessions', { sessions: 8 }],
  ['an unknown session option', { sessions: { min: 1 } }],
  ['no sessions', { sessions: { max: 0 } }],
  ['a fraction of a session', { sessions: { max: 1.5 } }],
  ['a queue without end', { sessions: { queue: Number.POSITIVE_INFINITY } }],
  ['a negative wait', { sessions: { waitMs: -1 } }],
  ['readWrite', { sessions: { readWrite: 1 } }],
  ['keys', { keys: 'K' }],
  ['keys null', { keys: null }],
  ['an unknown location', { keys: { K: { handle: 7 } } }],
  ['an empty label', { keys: { K: { label: '' } } }],
  ['an id that is no hex', { keys: { K: { id: '0' } } }],
  ['composedMac', { composedMac: 1 }],
  ['an unknown vendor', { retailMac: 'acme' }],
  ['an inherited vendor', { retailMac: 'constructor' }],
  ['translateInToken', { translateInToken: 'yes' }],
  ['deriveKeys', { deriveKeys: 'outside' }],
  ['extractSharedSecret', { extractSharedSecret: {} }],
])('%s: ERR_ARGUMENT before anything is loaded', async (_name, wrong) => {
  const options =
    typeof wrong === 'object' && wrong !== null
      ? { module: fake.path, token: 'fake', pin: () => '1234', ...wrong }
      : wrong
  expect(await errorOf(() => openPkcs11(options as Pkcs11Options, fake.load))).toMatchObject({
    code: 'ERR_ARGUMENT',
  })
  expect(fake.calls).toEqual([])
})

test('the limits of the token and of the options are both kept; sessions are read-write where asked for', async () => {
  const small = new FakeToken({ maxSessions: 3 })
  const flags: number[] = []
  const open = small.C_OpenSession.bind(small)
  small.C_OpenSession = (slot, given) => {
    flags.push(given)
    return open(slot, given)
  }
  await using backend = await openBackendOn(small, { sessions: { max: 100, readWrite: true } })
  expect((await backend.health()).ok).toBe(true)
  expect(new Set(flags)).toEqual(new Set([6]))
})

test('a vendor whose device has few sessions that end soon: fewer, and kept alive; what is stated goes first', () => {
  const base = { module: '/a', token: 'fake', pin: () => '1234' }
  const yubihsm = readSettings({ ...base, vendor: 'yubihsm' }, 'test')
  expect([yubihsm.limits.max, yubihsm.keepAliveMs]).toEqual([4, 10_000])
  const stated = readSettings({ ...base, vendor: 'yubihsm', sessions: { max: 2 }, keepAliveMs: 5 }, 'test')
  expect([stated.limits.max, stated.keepAliveMs]).toEqual([2, 5])
  const { sessions, keepAliveMs } = DEFAULTS.pkcs11
  const luna = readSettings({ ...base, vendor: 'luna' }, 'test')
  expect([luna.limits.max, luna.keepAliveMs]).toEqual([sessions.value, keepAliveMs.value])
})

test('a vendor has the retail MAC of its own name, and what is stated goes first', () => {
  const base = { module: '/a', token: 'fake', pin: () => '1234' }
  const retailMac = (options: object) => readSettings({ ...base, ...options }, 'test').probe.retailMac
  for (const vendor of ['utimaco', 'protectserver'] as const) {
    expect(retailMac({ vendor })).toEqual(retailMacProfile(vendor))
    for (const stated of ['utimaco', 'protectserver', 'unbound'] as const)
      expect(retailMac({ vendor, retailMac: stated })).toEqual(retailMacProfile(stated))
  }
})

test('the user type goes into the login', async () => {
  const types: number[] = []
  const token = new FakeToken()
  const login = token.C_Login.bind(token)
  token.C_Login = (session, userType, pin) => {
    types.push(userType)
    login(session, userType, pin)
  }
  await (await openBackendOn(token, { userType: 0x8000_0001 })).close()
  await (await openBackendOn(token)).close()
  expect(types).toEqual([0x8000_0001, 1])
})

test('options are read once, own members only, and are not looked at again', async () => {
  const token = new FakeToken()
  {
    await using store = await openKeyStoreOver(optionsFor(token), token.load)
    await store.generateKey({ kid: 'LABEL', usage: 'pin-encryption', algorithm: 'tdea-3key' })
  }
  const reads = new Map<string, number>()
  const counted = <T extends object>(options: T): T =>
    new Proxy(options, {
      get: (target, name) => {
        reads.set(String(name), (reads.get(String(name)) ?? 0) + 1)
        return Reflect.get(target, name)
      },
    })
  const location = { label: 'LABEL' }
  const options = counted({
    ...optionsFor(token, { importClearKeys: true }),
    sessions: counted({ max: 2, queue: 3, waitMs: 4, readWrite: true }),
    keys: { K: counted(location) },
  })
  const store = await openKeyStoreOver(options, token.load)
  expect(Math.max(...reads.values())).toBe(1)
  expect([...reads.keys()]).toEqual(expect.arrayContaining(['importClearKeys', 'pin', 'max', 'label']))
  reads.clear()
  const key = { kid: 'N', usage: 'prw-verify', algorithm: 'aes-128', macs: ['cmac'] } as const
  await store.generateKey(counted({ ...key }))
  await store.importKey(counted({ ...key, kid: 'M', material: CMAC_A, kcv: '7AD386' }))
  expect(Math.max(...reads.values())).toBe(2)
  expect(reads.get('material')).toBe(1)
  await store.close()
  const backend = await openPkcs11({ ...optionsFor(token), keys: { K: location } }, token.load)
  location.label = 'ELSEWHERE'
  expect((await backend.bind({ kid: 'K', usage: 'pin-encryption' })).algorithm).toBe('tdea-3key')
  await backend.close()
  const inherited = Object.create({ pin: () => '1234', importClearKeys: true })
  const { pin: _pin, ...rest } = optionsFor(token)
  const error = await errorOf(() => openKeyStoreOver(Object.assign(inherited, rest), token.load))
  expect(error).toMatchObject({ code: 'ERR_PKCS11_LOGIN' })
})

test('the public functions check them too', async () => {
  for (const open of [pkcs11Backend, openKeyStore]) {
    expect(await errorOf(() => open({} as Pkcs11Options))).toMatchObject({ code: 'ERR_ARGUMENT' })
  }
})
