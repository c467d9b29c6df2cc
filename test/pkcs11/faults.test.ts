/**
 * Every call of every operation fails once, with every class of error: whatever happens, no session is used again
 * after an error that is not about the data, no object and no secret stays behind, nobody logs in twice, and the
 * backend goes on working.
 */

import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { type Backend, isIssuerPinError, type Key } from '../../src/index.js'
import type { KeyStoreOptions } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { bindKey, openBackendOn, openStoreOn, provisionFake } from './support.js'

/** A code of each class. `heals`: what was lost is brought back, and the call goes through. */
const CODES: readonly { code: number; name: string; heals: boolean; retryable: boolean }[] = [
  { code: 0xb3, name: 'CKR_SESSION_HANDLE_INVALID', heals: true, retryable: true },
  { code: 0x90, name: 'CKR_OPERATION_ACTIVE', heals: true, retryable: true },
  { code: 0x82, name: 'CKR_OBJECT_HANDLE_INVALID', heals: true, retryable: true },
  { code: 0x60, name: 'CKR_KEY_HANDLE_INVALID', heals: true, retryable: true },
  { code: 0x30, name: 'CKR_DEVICE_ERROR', heals: true, retryable: true },
  { code: 0x101, name: 'CKR_USER_NOT_LOGGED_IN', heals: true, retryable: true },
  { code: 0x190, name: 'CKR_CRYPTOKI_NOT_INITIALIZED', heals: true, retryable: true },
  { code: 0x20, name: 'CKR_DATA_INVALID', heals: false, retryable: false },
  { code: 0x05, name: 'CKR_GENERAL_ERROR', heals: false, retryable: false },
  { code: 0x31, name: 'CKR_DEVICE_MEMORY', heals: false, retryable: true },
  { code: 0x8000_1234, name: 'CKR_VENDOR_DEFINED', heals: false, retryable: false },
]

const BLOCKS = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
const POINT = Uint8Array.from(
  Buffer.from(
    '048578CABDC564C2F76DC77FE5BEB8CD6E6045FDEA007F72F16C19CF31346A71BA446F02C97E729A884B7ADAB5696F374E8CD03038463E6DC6E72A5D0DF5BE7C95',
    'hex',
  ),
)
const agreement = { ephemeralPublicKey: POINT, otherInfo: Uint8Array.of(1, 2, 3), length: 64 }

interface Operation {
  readonly name: string
  readonly kid: string
  readonly fake?: FakeOptions
  readonly options?: Partial<KeyStoreOptions>
  run(backend: Backend, key: Key, other: Key): Promise<Uint8Array>
}

const OPERATIONS: readonly Operation[] = [
  { name: 'encipher', kid: 'PEK-2', run: (_, key) => operationsOf(key).encipher(BLOCKS) },
  { name: 'decipher', kid: 'PEK-2', run: (_, key) => operationsOf(key).decipher(BLOCKS) },
  {
    name: 'reencipher on the host',
    kid: 'PEK-2',
    run: (_, key, other) => operationsOf(key).reencipher(other, BLOCKS),
  },
  {
    name: 'reencipher inside',
    kid: 'PEK-2',
    options: { translateInToken: true },
    run: (_, key, other) => operationsOf(key).reencipher(other, BLOCKS),
  },
  {
    name: 'CBC-MAC',
    kid: 'MAC-1',
    run: (_, key) => operationsOf(key).mac({ algorithm: 'iso9797-1-alg1', padding: 2 }, BLOCKS),
  },
  {
    name: 'composed retail MAC',
    kid: 'MAC-3',
    run: (_, key) => operationsOf(key).mac({ algorithm: 'iso9797-1-alg3', padding: 2 }, BLOCKS),
  },
  {
    name: 'vendor retail MAC with an IV',
    kid: 'MAC-3',
    fake: { retail: { mechanism: 0x8000_7ea0, bytes: 8 } },
    options: { retailMac: 'unbound' },
    run: (_, key) =>
      operationsOf(key).mac({ algorithm: 'iso9797-1-alg3', padding: 2, iv: BLOCKS.subarray(0, 8) }, BLOCKS),
  },
  {
    name: 'CMAC',
    kid: 'CMAC-A',
    run: (_, key) => operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, BLOCKS),
  },
  {
    name: 'composed CMAC',
    kid: 'CMAC-A',
    fake: { without: [0x108a] },
    run: (_, key) => operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, BLOCKS),
  },
  {
    name: 'ECDH by C_DigestKey',
    kid: 'JWE-D1',
    run: (_, key) => operationsOf(key).deriveContentKey(agreement),
  },
  {
    name: 'ECDH with the KDF inside',
    kid: 'JWE-D1',
    fake: { kdf: true },
    run: (_, key) => operationsOf(key).deriveContentKey(agreement),
  },
  {
    name: 'ECDH with Z extracted',
    kid: 'JWE-D1',
    fake: { noDigestKey: true },
    options: { extractSharedSecret: true },
    run: (_, key) => operationsOf(key).deriveContentKey(agreement),
  },
  {
    name: 'ECDSA',
    kid: 'SIGN-1',
    // Another signature each time, which the front has verified.
    run: async (_, key) => Uint8Array.of((await operationsOf(key).sign(BLOCKS)).length),
  },
  {
    name: 'health',
    kid: 'PEK-2',
    run: async backend => {
      const { ok, detail } = await backend.health()
      return new TextEncoder().encode(ok ? detail : '')
    },
  },
  { name: 'bind of a P-256 key', kid: 'JWE-D1', run: (backend, { kid }) => rebind(backend, kid) },
  { name: 'bind of a key for signing', kid: 'SIGN-1', run: (backend, { kid }) => rebind(backend, kid) },
  { name: 'bind of a MAC key', kid: 'MAC-3', run: (backend, { kid }) => rebind(backend, kid) },
]

async function rebind(backend: Backend, kid: string): Promise<Uint8Array> {
  const { checkValue } = await bindKey(backend, kid)
  return new TextEncoder().encode(JSON.stringify(checkValue))
}

/** The token of an operation, for all codes: each leaves it as it was. */
const provisioned = new Map<Operation, Promise<FakeToken>>()

async function provision({ kid, fake: fakeOptions, options = {} }: Operation): Promise<FakeToken> {
  const fake = new FakeToken(fakeOptions)
  await using store = await openStoreOn(fake, { composedMac: true, ...options })
  for (const key of CONTRACT_KEYS) {
    if (key.kid !== kid && key.kid !== 'PEK-3') continue
    const translation =
      options.translateInToken === true && key.usage === 'pin-encryption' && !key.algorithm.startsWith('aes')
    await store.importKey(translation ? { ...key, translation, hostDecipher: false } : key)
  }
  return fake
}

async function prepare(operation: Operation) {
  const { kid, options = {} } = operation
  const provisioning = provisioned.get(operation) ?? provision(operation)
  provisioned.set(operation, provisioning)
  const fake = await provisioning
  fake.logins = 0
  const backend = await openBackendOn(fake, { composedMac: true, ...options })
  const hostDecipher = options.translateInToken !== true
  const key = await bindKey(backend, kid, kid.startsWith('PEK') ? { hostDecipher } : {})
  const other = await bindKey(backend, 'PEK-3', { hostDecipher })
  return { fake, backend, key, other }
}

/**
 * Of every call each third code, in turn, and all of them by `npm run faults`: an opening is a hundred calls, an operation up
 * to twenty.
 */
const EVERY = process.env['FAULTS'] === 'full' ? 1 : 3
const turnOf = (code: number): number => CODES.findIndex(one => one.code === code) % EVERY

describe.each(OPERATIONS)('$name', operation => {
  test.each(CODES)('each of its calls fails once with $name', async ({ code, name, heals, retryable }) => {
    const { fake, backend, key, other } = await prepare(operation)
    const before = fake.census
    fake.reset()
    const expected = await operation.run(backend, key, other)
    const calls = fake.calls.length
    expect(calls).toBeGreaterThan(0)
    for (let at = 1 + turnOf(code); at <= calls; at += EVERY) {
      fake.reset({ at, code })
      let result: Uint8Array | undefined
      try {
        result = await operation.run(backend, key, other)
      } catch (error) {
        expect(isIssuerPinError(error)).toBe(true)
        expect(error).toBeInstanceOf(Pkcs11Error)
        if (error instanceof Pkcs11Error) {
          expect(error.functionName).toBe(fake.calls[at - 1])
          expect(error).toMatchObject({ returnValue: code, returnValueName: name, retryable })
          expect(error.code).toBe('ERR_PKCS11_CALL')
        }
        expect(heals).toBe(false)
      }
      if (result !== undefined && result.length > 0) expect(result).toEqual(expected)
      expect(fake.violations).toEqual([])
      expect(fake.census).toEqual(before)
      for (const secret of fake.given) {
        if (result === undefined || secret.buffer !== result.buffer) {
          expect(secret.every(byte => byte === 0)).toBe(true)
        }
      }
      fake.reset()
      expect(await operation.run(backend, key, other)).toEqual(expected)
    }
    // A login for each time it was lost, and never with another PIN.
    expect(fake.refusedPins).toBe(0)
    await backend.close()
    expect(fake.sessions.size).toBe(0)
    expect(fake.initialised).toBe(0)
    expect(fake.census.session).toBe(0)
  })
})

test.each([0xb3, 0x82])('a lasting error %i is tried once more, not for ever', async code => {
  const fake = new FakeToken()
  await provisionFake(fake, { composedMac: true })
  const backend = await openBackendOn(fake, { composedMac: true })
  const key = await bindKey(backend, 'PEK-2')
  fake.reset()
  fake.C_EncryptInit = () => {
    fake.calls.push('C_EncryptInit')
    throw new Pkcs11Error('C_EncryptInit', code)
  }
  await expect(operationsOf(key).encipher(BLOCKS)).rejects.toMatchObject({
    code: 'ERR_PKCS11_CALL',
    // What came back was tried before it was used, and does not answer.
    message: expect.stringMatching(/^the token is away; .*C_EncryptInit/) as string,
    retryable: true,
  })
  // Twice as it is, the session key asked on the old anchor and on a new one, and once more after the last cure.
  expect(fake.calls.filter(call => call === 'C_EncryptInit').length).toBeLessThanOrEqual(8)
  expect(fake.calls.filter(call => call === 'C_Initialize').length).toBe(1)
})

describe('opening', () => {
  test.each(CODES)('calls fail once with $name: nothing stays open', async ({ code }) => {
    const fake = new FakeToken()
    await provisionFake(fake, { composedMac: true })
    fake.reset()
    await (await openBackendOn(fake, { composedMac: true })).close()
    const calls = fake.calls.length
    let failures = 0
    for (let at = 1 + turnOf(code); at <= calls; at += EVERY) {
      fake.reset({ at, code })
      fake.logins = 0
      try {
        const backend = await openBackendOn(fake, { composedMac: true })
        await backend.close()
      } catch (error) {
        failures++
        expect(error).toSatisfy(isIssuerPinError)
      }
      // A momentary failure is tried again; the PIN was never refused.
      expect(fake.logins).toBeLessThanOrEqual(4)
      expect(fake.refusedPins).toBe(0)
      expect(fake.violations).toEqual([])
      expect(fake.census.session).toBe(0)
      // Only a failing C_Finalize or C_CloseSession itself leaves what it should have ended.
      const failed = fake.calls[at - 1] ?? ''
      if (!['C_Finalize', 'C_CloseSession'].includes(failed)) expect(fake.sessions.size).toBe(0)
      if (failed !== 'C_Finalize') expect(fake.initialised).toBe(0)
      fake.sessions.clear()
      fake.initialised = 0
      fake.loggedIn = false
      for (const [id, object] of fake.objects) if (object.session !== undefined) fake.objects.delete(id)
    }
    const momentary = [0xb3, 0x90, 0x30, 0x190, 0x05, 0x31, 0x8000_1234].includes(code)
    expect(failures > 0).toBe(!momentary)
  })
})

describe('provisioning', () => {
  test.each(['MAC-3', 'JWE-D1', 'PEK-2'])('importing %s: all of its objects or none', async kid => {
    const key = CONTRACT_KEYS.find(candidate => candidate.kid === kid)
    if (key === undefined) throw new Error('no such key')
    const fake = new FakeToken()
    const store = await openStoreOn(fake, { composedMac: true })
    fake.reset()
    await store.importKey(key)
    const calls = fake.calls.length
    const complete = fake.census
    await store.deleteKey({ kid })
    expect(fake.census.token).toBe(0)
    for (let at = 1; at <= calls; at++) {
      fake.reset({ at, code: 0x05 })
      const failed = await store.importKey(key).then(
        () => false,
        () => true,
      )
      expect(fake.census).toEqual(failed ? { ...complete, token: 0 } : complete)
      if (!failed) await store.deleteKey({ kid })
      expect(fake.violations).toEqual([])
    }
    await store.close()
  })
})

test.each([
  ['a call', async (_backend: Backend, fake: FakeToken) => fake.reset({ at: 1, code: 0xb3 })],
  // It looks at a session key, which has gone with its session, and at keys by the handles that are known.
  ['health', async (backend: Backend) => expect((await backend.health()).ok).toBe(true)],
] as const)(
  'after a lost session that %s meets no handle is used before the key has been found anew: handles may have moved',
  async (_what, meet) => {
    const { fake, backend, key, other } = await prepare({
      name: 'moved handles',
      kid: 'PEK-2',
      run: async () => new Uint8Array(0),
    })
    const first = await operationsOf(key).encipher(BLOCKS)
    const second = await operationsOf(other).encipher(BLOCKS)
    // As after C_Finalize and C_Initialize by somebody else: the objects are there, under one another's handles.
    const entries = [...fake.objects.entries()].filter(([, object]) => object.session === undefined)
    const handles = entries.map(([handle]) => handle).reverse()
    for (const [i, [, object]] of entries.entries()) fake.objects.set(handles[i] ?? 0, object)
    for (const [handle, { session }] of fake.objects) if (session !== undefined) fake.objects.delete(handle)
    await meet(backend, fake)
    expect(await operationsOf(key).encipher(BLOCKS)).toEqual(first)
    expect(await operationsOf(other).encipher(BLOCKS)).toEqual(second)
    await backend.close()
  },
)
