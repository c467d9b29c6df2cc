import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { CKF } from '../../src/backend/pkcs11/binding/constants.js'
import { readTokenQuery } from '../../src/backend/pkcs11/session/token.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { errorOf, openBackendOn } from './support.js'

const READY = CKF.TOKEN_INITIALIZED | CKF.LOGIN_REQUIRED | CKF.USER_PIN_INITIALIZED

test('a script that waits for nothing else is told that the token is not there', () => {
  // The pauses before it is tried again must keep the process alive: it ended without a word.
  const script = `
    import { openPkcs11 } from './src/backend/pkcs11/backend.ts'
    import { FakeToken } from './test/pkcs11/fake-token.ts'
    const fake = new FakeToken()
    const options = { module: fake.path, token: 'another', pin: () => '1234', executor: 'inline' }
    openPkcs11(options, fake.load).then(() => console.log('opened'), error => console.log(error.code))`
  const args = ['--import', 'tsx', '--input-type=module', '--eval', script]
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' },
  })
  expect([stdout, stderr]).toEqual(['ERR_PKCS11_TOKEN\n', ''])
})

describe('the token option', () => {
  test.each([
    ['issuer', { label: 'issuer' }],
    ['pkcs11:token=issuer', { label: 'issuer' }],
    ['PKCS11:serial=a1', { serial: 'a1' }],
    [
      'pkcs11:token=The%20Token;serial=a1;manufacturer=M%C3%A9;model=x',
      { label: 'The Token', serial: 'a1', manufacturer: 'Mé', model: 'x' },
    ],
    [
      { label: 'a', serial: 'b' },
      { label: 'a', serial: 'b' },
    ],
  ])('%j', (token, query) => {
    expect(readTokenQuery(token)).toEqual(query)
  })

  test.each([
    undefined,
    7,
    '',
    ' ',
    {},
    { model: 'x' },
    { label: '' },
    { slot: 0 },
    { label: 7 },
    'pkcs11:',
    'pkcs11:model=x',
    'pkcs11:slot-id=0',
    'pkcs11:token=%20',
    { label: ' ' },
    'pkcs11:token=a;token=b',
    'pkcs11:token=%zz',
    'pkcs11:token=a?pin-value=1234',
    'pkcs11:constructor=a',
  ])('%j is refused with ERR_ARGUMENT', async token => {
    expect(await errorOf(() => readTokenQuery(token))).toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test('a PIN in a URI is refused and not shown', async () => {
    const error = await errorOf(() => readTokenQuery('pkcs11:token=a?pin-value=canary77'))
    expect(`${error.message} ${error.stack}`).not.toContain('canary77')
  })
})

describe('choosing', () => {
  const tokens = [
    { label: 'one', serial: 'a' },
    { label: 'two', serial: 'b' },
    { label: 'two', serial: 'c' },
    { label: 'blank', flags: 0 },
  ]

  test.each([
    ['one', 'one'],
    ['one  \0', 'one'],
    [{ label: 'two', serial: 'c' }, 'two'],
    ['pkcs11:serial=b', 'two'],
  ])('%j finds its token', async (token, label) => {
    const fake = new FakeToken({ tokens })
    await using backend = await openBackendOn(fake, { token })
    expect((await backend.health()).detail).toContain(`"${label}"`)
  })

  test('none: the error lists what there is, initialised tokens only', async () => {
    const error = await errorOf(() => openBackendOn(new FakeToken({ tokens }), { token: 'three' }))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_TOKEN', retryable: false })
    expect(error.message).toContain('no initialised token has label "three"')
    expect(error.message).toContain('"one" (serial a), "two" (serial b), "two" (serial c)')
    expect(error.message).not.toContain('blank')
  })

  test('an empty reader, and one that does not answer', async () => {
    expect((await errorOf(() => openBackendOn(new FakeToken({ tokens: [] })))).message).toContain(
      'there are: none',
    )
    const mute = new FakeToken()
    mute.faultOf = { fn: 'C_GetTokenInfo', code: 0xe1 }
    expect((await errorOf(() => openBackendOn(mute))).message).toContain('1 did not answer')
  })

  test('several: the error asks for the serial', async () => {
    const error = await errorOf(() => openBackendOn(new FakeToken({ tokens }), { token: 'two' }))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_TOKEN' })
    expect(error.message).toContain('2 tokens have label "two"')
    expect(error.message).toContain('add the serial')
  })
})

describe('logging in', () => {
  async function refused(fakeOptions: FakeOptions, more: Parameters<typeof openBackendOn>[1]) {
    const fake = new FakeToken(fakeOptions)
    const error = await errorOf(() => openBackendOn(fake, more))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_LOGIN', retryable: false })
    expect(fake.sessions.size).toBe(0)
    expect(fake.initialised).toBe(0)
    return { error, logins: fake.logins }
  }

  test('a wrong PIN: one attempt, the return value named, the PIN nowhere', async () => {
    const { error, logins } = await refused({}, { pin: () => 'canary88' })
    expect(logins).toBe(1)
    expect(error).toMatchObject({ functionName: 'C_Login', returnValueName: 'CKR_PIN_INCORRECT' })
    expect(`${error.message} ${error.stack}`).not.toContain('canary88')
  })

  test.each([
    ['locked', { flags: READY | CKF.USER_PIN_LOCKED }, 'locked'],
    ['one attempt left', { flags: READY | CKF.USER_PIN_FINAL_TRY }, 'allowFinalTry'],
    ['no user PIN', { flags: CKF.TOKEN_INITIALIZED | CKF.LOGIN_REQUIRED }, 'no user PIN yet'],
  ])('%s: no attempt, no PIN asked for', async (_name, token, text) => {
    let asked = 0
    const pin = () => {
      asked++
      return '1234'
    }
    const { error, logins } = await refused({ tokens: [token] }, { pin })
    expect([asked, logins]).toEqual([0, 0])
    expect(error.message).toContain(text)
  })

  test('one attempt left, allowed by name', async () => {
    const fake = new FakeToken({ tokens: [{ flags: READY | CKF.USER_PIN_FINAL_TRY }] })
    await (await openBackendOn(fake, { allowFinalTry: true })).close()
    expect(fake.logins).toBe(1)
  })

  test.each([
    ['the last attempt but one is used up', CKF.USER_PIN_FINAL_TRY, 'allowFinalTry'],
    ['the PIN is locked', CKF.USER_PIN_LOCKED, 'locked'],
  ])('%s while the PIN is being fetched: it is not sent', async (_name, flag, text) => {
    const token = { flags: READY }
    const pin = async () => {
      await Promise.resolve()
      token.flags |= flag
      return '1234'
    }
    const { error, logins } = await refused({ tokens: [token] }, { pin })
    expect(logins).toBe(0)
    expect(error.message).toContain(text)
  })

  test.each(['', '1234\n', '12\u000034'])('a PIN that cannot be one (%j) costs no attempt', async pin => {
    const { logins } = await refused({}, { pin: () => pin })
    expect(logins).toBe(0)
  })

  test('no pin function; one that throws; one that returns no string', async () => {
    const fake = new FakeToken()
    const { pin: _pin, ...without } = { pin: 1, token: 'fake' }
    const { openPkcs11 } = await import('../../src/backend/pkcs11/backend.js')
    expect(await errorOf(() => openPkcs11({ ...without, module: fake.path }, fake.load))).toMatchObject({
      code: 'ERR_PKCS11_LOGIN',
    })
    const vault = new Error('the vault is sealed')
    const { error } = await refused({}, { pin: () => Promise.reject(vault) })
    // It may quote the PIN.
    expect(error.cause).toBeUndefined()
    await refused({}, { pin: () => JSON.parse('1234') })
  })

  test('a token with a PIN pad takes an empty PIN; a token without login takes none', async () => {
    const pad = new FakeToken({ pin: '', tokens: [{ flags: READY | CKF.PROTECTED_AUTHENTICATION_PATH }] })
    const { openPkcs11 } = await import('../../src/backend/pkcs11/backend.js')
    await (await openPkcs11({ module: pad.path, token: 'fake' }, pad.load)).close()
    expect(pad.logins).toBe(1)
    // Whoever gives a PIN nevertheless does not want to be asked at the device.
    const given = new FakeToken({ tokens: [{ flags: READY | CKF.PROTECTED_AUTHENTICATION_PATH }] })
    await (await openBackendOn(given)).close()
    expect(given.logins).toBe(1)
    const open = new FakeToken({ tokens: [{ flags: CKF.TOKEN_INITIALIZED }] })
    await (await openPkcs11({ module: open.path, token: 'fake' }, open.load)).close()
    expect(open.logins).toBe(0)
  })

  test('the PIN is asked for once, after everything else is ready', async () => {
    const fake = new FakeToken()
    const before: string[][] = []
    const pin = async () => {
      before.push([...fake.calls])
      return '1234'
    }
    await (await openBackendOn(fake, { pin })).close()
    expect(before.length).toBe(1)
    expect(before[0]).toContain('C_OpenSession')
  })

  test('two backends share a login; the last one to close logs out', async () => {
    const fake = new FakeToken()
    const first = await openBackendOn(fake)
    const second = await openBackendOn(fake)
    expect(fake.logins).toBe(2)
    await first.close()
    expect(fake.loggedIn).toBe(true)
    expect((await second.health()).ok).toBe(true)
    await second.close()
    expect(fake.loggedIn).toBe(false)
    expect(fake.calls.filter(call => call === 'C_Logout').length).toBe(1)
  })

  test('a backend that closes just when another one finds itself logged in does not log it out', async () => {
    const fake = new FakeToken()
    const first = await openBackendOn(fake)
    const login = fake.C_Login.bind(fake)
    fake.C_Login = (...args) => {
      // The earliest moment at which anybody else has a turn.
      queueMicrotask(() => first.close())
      login(...args)
    }
    await using second = await openBackendOn(fake)
    expect(fake.loggedIn).toBe(true)
    expect((await second.health()).ok).toBe(true)
  })

  test('a login that somebody else made is left alone', async () => {
    const fake = new FakeToken({ alreadyInitialised: true })
    fake.loggedIn = true
    await (await openBackendOn(fake)).close()
    expect(fake.loggedIn).toBe(true)
    expect(fake.calls).not.toContain('C_Logout')
    expect(fake.calls).not.toContain('C_Finalize')
  })
})

test.each(['C_GetTokenInfo', 'C_Login', 'C_GetInfo'] as const)(
  'an error that is none of PKCS#11, in %s, keeps its name',
  async fn => {
    const fake = new FakeToken()
    fake[fn] = () => {
      throw new RangeError('not ours')
    }
    expect(await errorOf(() => openBackendOn(fake))).toBeInstanceOf(RangeError)
    expect(fake.sessions.size).toBe(0)
    expect(fake.initialised).toBe(0)
  },
)
