/** The binding by koffi, on a stand-in that reads what it wrote as a library in C would; the real one runs in native-test/. */
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import type { ObjectHandle, Pkcs11Binding, SessionHandle } from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKF, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { loadKoffi } from '../../src/backend/pkcs11/binding/koffi-binding.js'
import { loaderOf } from '../../src/backend/pkcs11/binding/load.js'
import { overwriteStacks } from '../../src/backend/pkcs11/binding/values.js'
import { backendContract } from '../../src/testing.js'
import { type FakeKoffiOptions, fakeKoffi } from './fake-koffi.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { AT_ONCE, errorOf, openStoreOn, optionsFor } from './support.js'

const PLATFORM = process.platform

afterEach(() => {
  Object.defineProperty(process, 'platform', { value: PLATFORM })
  vi.doUnmock('koffi')
})

async function bind(fake: FakeToken, options: FakeKoffiOptions = {}, path = fake.path) {
  if (options.packed === true) Object.defineProperty(process, 'platform', { value: 'win32' })
  vi.resetModules()
  const { koffi, seen } = fakeKoffi(fake, options)
  vi.doMock('koffi', () => koffi)
  return { binding: await loadKoffi(path), seen }
}

async function opened(more: FakeOptions = {}, options: FakeKoffiOptions = {}) {
  const fake = new FakeToken(more)
  const { binding, seen } = await bind(fake, options)
  binding.C_Initialize(undefined)
  const [slot] = binding.C_GetSlotList()
  if (slot === undefined) throw new Error('no slot')
  const session = binding.C_OpenSession(slot, CKF.SERIAL_SESSION)
  binding.C_Login(session, 1, '1234')
  return { fake, binding, seen, slot, session }
}

const LAYOUTS: readonly [string, FakeKoffiOptions][] = [
  ['eight bytes, aligned', {}],
  ['four bytes, packed', { ulong: 4, packed: true }],
]

describe('the stack that koffi calls on', () => {
  const { arch } = process
  afterEach(() => {
    Object.defineProperty(process, 'arch', { value: arch })
  })

  test('is written over by zeros that are passed by value, where they lie on it', async () => {
    Object.defineProperty(process, 'platform', { value: 'linux' })
    Object.defineProperty(process, 'arch', { value: 'x64' })
    const { binding, seen } = await bind(new FakeToken())
    overwriteStacks(binding)
    expect(seen).toEqual([{ name: 'abs', given: [0, { bytes: new Uint8Array(16_384) }] }])
    const again = await loadKoffi(new FakeToken().path)
    expect(again.overwriteStack).toBe(binding.overwriteStack)
  })

  test.each([
    ['linux', 'arm64'],
    ['darwin', 'arm64'],
    ['win32', 'x64'],
  ])('is not, and nothing says so, on %s %s', async (platform, other) => {
    Object.defineProperty(process, 'platform', { value: platform })
    Object.defineProperty(process, 'arch', { value: other })
    const { binding } = await bind(new FakeToken(), {
      packed: platform === 'win32',
      ulong: platform === 'win32' ? 4 : 8,
    })
    expect(binding.overwriteStack).toBeUndefined()
    overwriteStacks(binding)
  })

  test('a failure there keeps nobody from giving a session back', () => {
    let called = 0
    const overwriteStack = (): never => {
      called++
      throw new RangeError('Maximum call stack size exceeded')
    }
    overwriteStacks({ overwriteStack })
    expect(called).toBe(1)
  })
})

describe('loading', () => {
  test('koffi that is not there: what to install', async () => {
    vi.resetModules()
    vi.doMock('koffi', () => {
      throw new Error("Cannot find package 'koffi'")
    })
    const error = await errorOf(() => loadKoffi('/lib/module.so'))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_UNAVAILABLE' })
    expect(error.message).toContain('npm install koffi')
  })

  test.each([
    ['a file that is no library', {}, '/absent.so', 'cannot open shared object file'],
    [
      'a library that gives no list',
      { instead: { C_GetFunctionList: () => 0x05 } },
      '/x.so',
      'CKR_GENERAL_ERROR',
    ],
    [
      'one that fails with something else',
      {
        instead: {
          C_GetFunctionList: () => {
            throw 'nothing'
          },
        },
      },
      '/x.so',
      'it does not load',
    ],
  ])('%s: ERR_PKCS11_MODULE', async (_what, options, path, words) => {
    const error = await errorOf(() => bind(new FakeToken(), options, path))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_MODULE' })
    expect(error.message).toContain(words)
  })

  test('from a namespace without a default export, and on a platform without dlopen flags of ours', async () => {
    Object.defineProperty(process, 'platform', { value: 'freebsd' })
    expect((await bind(new FakeToken(), { bare: true })).binding.name).toBe('koffi')
  })

  test.each([
    ['no C_GetInterface', undefined, false],
    ['one of PKCS#11 2.40', 2, false],
    ['one that has none to give', 'none', false],
    ['one that points nowhere', 'null', false],
    ['one of PKCS#11 3.0', 3, true],
  ] as const)('C_SessionCancel: %s', async (_what, newer, has) => {
    const fake = new FakeToken()
    let cancelled: unknown
    Object.assign(fake, { C_SessionCancel: (_session: unknown, flags: number) => (cancelled = flags) })
    const { binding } = await bind(fake, newer === undefined ? {} : { newer })
    expect(binding.C_SessionCancel !== undefined).toBe(has)
    binding.C_SessionCancel?.(Buffer.alloc(8) as Uint8Array as SessionHandle, 0x100)
    expect(cancelled).toBe(has ? 0x100 : undefined)
  })
})

describe.each(LAYOUTS)('%s', (_name, layout) => {
  test('what the library says of itself, of a token and of a session', async () => {
    const { binding, slot, session } = await opened({ maxSessions: 7 }, layout)
    expect(binding.C_GetInfo()).toEqual({ description: 'fake', manufacturer: 'test', version: '1.0' })
    expect(binding.C_GetTokenInfo(slot)).toMatchObject({
      label: 'fake',
      manufacturer: 'test',
      model: 'fake',
      serial: 's0',
      maxSessions: 7,
      sessions: 1,
    })
    expect(binding.C_GetSessionInfo(session)).toEqual({ state: 1, flags: CKF.SERIAL_SESSION })
    binding.C_Logout(session)
    expect(binding.C_GetSessionInfo(session).state).toBe(0)
    binding.C_CloseSession(session)
    binding.C_Finalize()
  })

  test('the init string, with a NUL behind it', async () => {
    const fake = new FakeToken()
    const { binding } = await bind(fake, layout)
    binding.C_Initialize("configdir='x' ü")
    expect(fake.parameters).toEqual(["configdir='x' ü"])
  })

  test('templates of every kind of value, nested ones too; copies and changes', async () => {
    const { fake, binding, session } = await opened({ copies: 'all', modifies: true }, layout)
    const object = binding.C_CreateObject(session, [
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.KEY_TYPE, CKK.DES2],
      [CKA.TOKEN, true],
      [CKA.LABEL, 'Schlüssel'],
      [CKA.ID, undefined],
      [CKA.VALUE, new Uint8Array(16).fill(1)],
      [CKA.ALLOWED_MECHANISMS, [CKM.DES3_ECB, CKM.DES3_CBC]],
      [
        CKA.UNWRAP_TEMPLATE,
        [
          [CKA.CLASS, CKO.SECRET_KEY],
          [CKA.SENSITIVE, true],
        ],
      ],
    ])
    const [[, { attributes }] = [0, { attributes: new Map() }]] = [...fake.objects]
    expect(Object.fromEntries(attributes)).toMatchObject({
      [CKA.KEY_TYPE]: CKK.DES2,
      [CKA.LABEL]: 'Schlüssel',
      [CKA.ALLOWED_MECHANISMS]: [CKM.DES3_ECB, CKM.DES3_CBC],
      [CKA.UNWRAP_TEMPLATE]: [
        [CKA.CLASS, CKO.SECRET_KEY],
        [CKA.SENSITIVE, true],
      ],
    })
    const copy = binding.C_CopyObject(session, object, [[CKA.LABEL, 'other']])
    binding.C_SetAttributeValue(session, copy, [[CKA.ID, Uint8Array.of(1, 2, 3)]])
    expect([...binding.C_GetAttributeValue(session, copy, CKA.ID)]).toEqual([1, 2, 3])
    expect(Buffer.from(binding.C_GetAttributeValue(session, copy, CKA.LABEL)).toString()).toBe('other')
    binding.C_FindObjectsInit(session, [[CKA.LABEL, 'other']])
    expect(binding.C_FindObjects(session, 5)).toEqual([copy])
    expect(binding.C_FindObjects(session, 5)).toEqual([])
    binding.C_FindObjectsFinal(session)
    binding.C_DestroyObject(session, copy)
    expect(fake.objects.size).toBe(1)
  })

  test('an attribute without a value, one that is longer than any, and one that grows between two calls', async () => {
    const { fake, binding, session } = await opened({}, layout)
    const object = binding.C_CreateObject(session, [[CKA.LABEL, 'x']])
    const said = (bytes: Uint8Array) => {
      fake.C_GetAttributeValue = () => bytes
    }
    said(new Uint8Array(0))
    expect(binding.C_GetAttributeValue(session, object, CKA.ID).length).toBe(0)
    said(new Uint8Array((1 << 20) + 1))
    expect(() => binding.C_GetAttributeValue(session, object, CKA.ID)).toThrow(
      /an attribute of 1048577 bytes/,
    )
  })

  test('mechanisms of every kind', async () => {
    const { binding, session } = await opened(
      { kdf: true, retail: { mechanism: 0x8000_0135, bytes: 8 } },
      layout,
    )
    const make = (keyType: number, value: Uint8Array, bits: readonly number[]): ObjectHandle =>
      binding.C_CreateObject(session, [
        [CKA.CLASS, CKO.SECRET_KEY],
        [CKA.KEY_TYPE, keyType],
        [CKA.VALUE, value],
        [CKA.EXTRACTABLE, true],
        ...bits.map(bit => [bit, true] as const),
      ])
    const key = make(CKK.DES2, Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex'), [
      ...[CKA.ENCRYPT, CKA.DECRYPT, CKA.SIGN, CKA.WRAP, CKA.UNWRAP, CKA.DERIVE],
    ])
    binding.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, key)
    const block = binding.C_Encrypt(session, new Uint8Array(8), 8)
    expect(Buffer.from(block).toString('hex')).toBe('08d7b4fb629d0885')
    binding.C_DecryptInit(session, { mechanism: CKM.DES3_CBC, parameter: new Uint8Array(8).fill(7) }, key)
    expect([...binding.C_Decrypt(session, block, 8)]).toEqual(Array(8).fill(7))
    binding.C_SignInit(session, { mechanism: 0x8000_0135, parameter: 8 }, key)
    expect(binding.C_Sign(session, new Uint8Array(8), 8).length).toBe(8)
    const wrapped = binding.C_WrapKey(session, { mechanism: CKM.DES3_ECB }, key, key, 16)
    const again = binding.C_UnwrapKey(session, { mechanism: CKM.DES3_ECB }, key, wrapped, [
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
    ])
    const parameter = { derivationData: new Uint8Array(16) }
    const derived = binding.C_DeriveKey(session, { mechanism: CKM.DES3_ECB_ENCRYPT_DATA, parameter }, key, [
      [CKA.SENSITIVE, false],
    ])
    expect([...binding.C_GetAttributeValue(session, derived, CKA.VALUE)].slice(0, 8)).toEqual([...block])
    binding.C_DigestInit(session, { mechanism: CKM.SHA256 })
    binding.C_DigestUpdate(session, Buffer.from('abc'))
    binding.C_DigestKey(session, again)
    expect(binding.C_DigestFinal(session, 32).length).toBe(32)
    const pair = binding.C_GenerateKeyPair(
      session,
      { mechanism: CKM.EC_KEY_PAIR_GEN },
      [[CKA.EC_PARAMS, Uint8Array.of(1)]],
      [[CKA.DERIVE, true]],
    )
    const point = binding.C_GetAttributeValue(session, pair.publicKey, CKA.EC_POINT).subarray(2)
    const z = (sharedData?: Uint8Array) =>
      binding.C_DeriveKey(
        session,
        {
          mechanism: CKM.ECDH1_DERIVE,
          parameter: {
            kdf: sharedData === undefined ? 1 : 0x10,
            publicData: point,
            ...(sharedData && { sharedData }),
          },
        },
        pair.privateKey,
        [
          [CKA.SENSITIVE, false],
          [CKA.VALUE_LEN, 32],
        ],
      )
    const [plain, kdf] = [z(), z(Uint8Array.of(1, 2, 3))].map(secret =>
      Buffer.from(binding.C_GetAttributeValue(session, secret, CKA.VALUE)).toString('hex'),
    )
    expect(plain).toMatch(/^[0-9a-f]{64}$/)
    expect(kdf).not.toBe(plain)
    const generated = binding.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [[CKA.VALUE_LEN, 16]])
    expect(generated.length).toBe(layout.ulong ?? 8)
    expect(binding.C_GenerateRandom(session, 20).length).toBe(20)
  })
})

describe('what goes wrong', () => {
  test('a value that no structure has is refused before the call', async () => {
    const { fake, binding, session } = await opened()
    for (const value of [-1, 1.5, 2 ** 32, [], [1n], {}, null] as never[]) {
      fake.reset()
      expect(() => binding.C_CreateObject(session, [[CKA.CLASS, value]])).toThrow(
        /type that cannot be passed on/,
      )
      expect(fake.calls).toEqual([])
    }
  })

  test('a refusal names the function and the value; koffi that refuses is no error of the token', async () => {
    const { binding, session } = await opened(
      {},
      {
        instead: {
          C_Logout: () => {
            throw new TypeError('Unexpected value')
          },
        },
      },
    )
    expect(() => binding.C_CloseSession(Buffer.alloc(8) as Uint8Array as SessionHandle)).toThrow(
      /C_CloseSession returned CKR_SESSION_HANDLE_INVALID/,
    )
    expect(() => binding.C_Logout(session)).toThrow(/koffi refused the call/)
  })

  test('a function that is not in the list: CKR_FUNCTION_NOT_SUPPORTED', async () => {
    const { binding } = await bind(new FakeToken(), { lacks: ['C_GetInfo'] })
    expect(() => binding.C_GetInfo()).toThrow(/CKR_FUNCTION_NOT_SUPPORTED/)
  })

  test('what the library wrote before it failed is wiped, and so is the PIN', async () => {
    const { binding, session, seen } = await opened(
      {},
      {
        instead: {
          C_Decrypt: (_session, _data, _length, out) => {
            if (out instanceof Uint8Array) out.fill(7)
            return 0x30
          },
        },
      },
    )
    expect(() => binding.C_Decrypt(session, new Uint8Array(8), 8)).toThrow(/CKR_DEVICE_ERROR/)
    const given = (name: string) => seen.findLast(call => call.name === name)?.given ?? []
    expect([...(given('C_Decrypt')[3] as Uint8Array)]).toEqual(Array(8).fill(0))
    expect([...(given('C_Login')[2] as Uint8Array)]).toEqual([0, 0, 0, 0])
  })

  test('so is what it wrote of an attribute, and of random bytes', async () => {
    const { binding, session, seen } = await opened(
      {},
      {
        instead: {
          C_GetAttributeValue: (_session, _object, asked) => {
            if (!(asked instanceof Buffer)) throw new Error('no template')
            // Type, address and length: the first call is without an address.
            if (asked.readBigUInt64LE(8) !== 0n) {
              asked.fill(7, 24)
              return 0x30
            }
            asked.writeBigUInt64LE(16n, 16)
            return 0
          },
          C_GenerateRandom: (_session, out) => {
            if (out instanceof Uint8Array) out.fill(7)
            return 0x30
          },
        },
      },
    )
    const object = binding.C_CreateObject(session, [[CKA.LABEL, 'x']])
    expect(() => binding.C_GetAttributeValue(session, object, CKA.VALUE)).toThrow(/CKR_DEVICE_ERROR/)
    expect(() => binding.C_GenerateRandom(session, 8)).toThrow(/CKR_DEVICE_ERROR/)
    const [attribute, random] = seen.slice(-2).map(({ given }) => given)
    expect(attribute?.[2]).toHaveProperty('length', 41)
    expect(attribute?.[2]).toSatisfy((bytes: Uint8Array) => bytes.every(byte => byte === 0))
    expect(random?.[1]).toEqual(Buffer.alloc(8))
  })

  test('what a call points to is wiped when it has come back: a component, a key, how they are used', async () => {
    const { binding, session, seen } = await opened()
    const bare = [
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
      [CKA.DERIVE, true],
    ] as const
    const clear = new Uint8Array(16).fill(7)
    const base = binding.C_CreateObject(session, [...bare, [CKA.VALUE, clear]])
    const combined = { mechanism: CKM.XOR_BASE_AND_DATA, parameter: { derivationData: clear } }
    binding.C_DeriveKey(session, combined, base, bare)
    const cbc = { mechanism: CKM.DES3_CBC, parameter: clear.subarray(8) }
    expect(() => binding.C_WrapKey(session, cbc, base, base, 16)).toThrow()
    expect(() => binding.C_UnwrapKey(session, cbc, base, clear, bare)).toThrow()
    expect(() => binding.C_GenerateKeyPair(session, { ...cbc, mechanism: 0x8000_0001 }, bare, bare)).toThrow()
    const pointed = {
      C_CreateObject: [1],
      C_DeriveKey: [1, 3],
      C_WrapKey: [1],
      C_UnwrapKey: [1, 5],
      C_GenerateKeyPair: [1, 2, 4],
    }
    for (const [name, places] of Object.entries(pointed)) {
      const given = seen.findLast(call => call.name === name)?.given
      for (const place of places) {
        const block = given?.[place]
        expect([name, place, block instanceof Uint8Array && block.every(byte => byte === 0)]).toEqual([
          name,
          place,
          true,
        ])
      }
    }
  })

  test('a slot that comes between the question how many there are and the one for them is there', async () => {
    let asked = 0
    const { binding } = await bind(new FakeToken(), {
      instead: {
        C_GetSlotList: (_present, out, count) => {
          const slots = ++asked === 1 ? 1 : 2
          if (!(count instanceof Buffer)) return 0x07
          count.writeBigUInt64LE(BigInt(slots))
          if (!(out instanceof Buffer)) return 0
          if (out.length < 8 * slots) return 0x150
          for (let i = 0; i < slots; i++) out.writeBigUInt64LE(BigInt(i + 1), 8 * i)
          return 0
        },
      },
    })
    expect(binding.C_GetSlotList().map(([first]) => first)).toEqual([1, 2])
  })

  test('an empty PIN is none, for a token with a PIN pad', async () => {
    const { binding, session, seen } = await opened()
    expect(() => binding.C_Login(session, 1, '')).toThrow()
    expect(seen.at(-1)?.given.slice(2)).toEqual([null, 0])
  })

  test('handles beyond 2^53 are passed on as they are', async () => {
    const { binding, seen } = await opened()
    const all = Buffer.alloc(8, 0xff) as Uint8Array as SessionHandle
    expect(() => binding.C_CloseSession(all)).toThrow(/CKR_SESSION_HANDLE_INVALID/)
    expect(seen.at(-1)?.given).toEqual([2n ** 64n - 1n])
  })
})

describe('the choice', () => {
  async function choose(available: readonly string[]) {
    const fake = new FakeToken()
    vi.resetModules()
    const gone = () => {
      throw new Error('not installed')
    }
    vi.doMock('koffi', () => (available.includes('koffi') ? fakeKoffi(fake).koffi : gone()))
    vi.doMock('pkcs11js', gone)
    return { path: fake.path }
  }
  afterEach(() => {
    vi.doUnmock('pkcs11js')
  })

  test('auto: koffi where pkcs11js is not installed; named: that one or none', async () => {
    const { path } = await choose(['koffi'])
    expect((await loaderOf('auto')(path)).name).toBe('koffi')
    expect((await loaderOf('koffi')(path)).name).toBe('koffi')
    expect(await errorOf(() => loaderOf('pkcs11js')(path))).toMatchObject({ code: 'ERR_PKCS11_UNAVAILABLE' })
  })

  test('an option says which: one that is not installed is not replaced by the other', async () => {
    const { path: module } = await choose(['koffi'])
    const options = { module, token: 'fake', pin: () => '1234', executor: 'inline' } as const
    const open = (binding: 'pkcs11js' | 'auto') => openPkcs11({ ...options, binding }, undefined)
    expect(await errorOf(() => open('pkcs11js'))).toMatchObject({ code: 'ERR_PKCS11_UNAVAILABLE' })
  })

  test('neither: both ways to install one', async () => {
    const { path } = await choose([])
    const error = await errorOf(() => loaderOf('auto')(path))
    expect(error).toMatchObject({ code: 'ERR_PKCS11_UNAVAILABLE' })
    expect(error.message).toContain('npm install koffi')
    expect(error.message).toContain('npm install pkcs11js')
  })

  test('koffi that finds no module says so, and nothing else is tried', async () => {
    await choose(['koffi'])
    expect(await errorOf(() => loaderOf('auto')('/absent.so'))).toMatchObject({ code: 'ERR_PKCS11_MODULE' })
  })
})

describe.each(LAYOUTS)('backend contract by koffi: %s', (_name, layout) => {
  const contract = backendContract({
    open: async (keys, opener) => {
      const fake = new FakeToken({ kdf: true })
      await using store = await openStoreOn(fake, { composedMac: true })
      const kids = new Set<string>()
      for (const key of keys) {
        if (!kids.has(key.kid)) await store.importKey(key)
        else
          fake.plant([
            [CKA.CLASS, CKO.SECRET_KEY],
            [CKA.TOKEN, true],
            [CKA.LABEL, key.kid],
          ])
        kids.add(key.kid)
      }
      const load = async (): Promise<Pkcs11Binding> => (await bind(fake, layout)).binding
      return openPkcs11({ ...optionsFor(fake, { composedMac: true }), ...opener }, load, {
        surroundings: AT_ONCE,
      })
    },
  })
  // A seventh of it: what differs from binding to binding is how values are written down.
  const some = contract.cases.filter((_case, at) => at % 7 === 0)
  test.each(some.map(({ name, run }) => [name, run] as const))('%s', (_case, run) => run())
  afterAll(() => contract.close())
})
