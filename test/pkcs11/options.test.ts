import { expect, test } from 'vitest'
import { openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import { openKeyStore, type Pkcs11Options, pkcs11Backend } from '../../src/pkcs11.js'
import { FakeToken } from './fake-token.js'
import { errorOf, openBackendOn } from './support.js'

const fake = new FakeToken()

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

test('the public functions check them too', async () => {
  for (const open of [pkcs11Backend, openKeyStore]) {
    expect(await errorOf(() => open({} as Pkcs11Options))).toMatchObject({ code: 'ERR_ARGUMENT' })
  }
})
