/** What goes to pkcs11js and what comes back, on a stand-in for it; the real one runs in native-test/. */
import { beforeEach, describe, expect, test, vi } from 'vitest'
import type {
  AttributeValue,
  Mechanism,
  Pkcs11Binding,
  SessionHandle,
} from '../../src/backend/pkcs11/binding/binding.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { someOf } from '../support/some-of.js'
import { errorOf } from './support.js'

/** The calls made to the stand-in, and what its methods do. */
const native = {
  calls: [] as { name: string; args: unknown[] }[],
  answer: {} as Record<string, (...args: never[]) => unknown>,
  missing: false,
  bare: false,
}

function standIn() {
  if (native.missing) throw new Error("Cannot find module './build/Release/pkcs11.node'")
  class PKCS11 {}
  const library = new Proxy(new PKCS11(), {
    get: (_target, name) =>
      typeof name === 'symbol' || name === 'then'
        ? undefined
        : (...args: never[]) => {
            native.calls.push({ name, args })
            return native.answer[name]?.(...args)
          },
  })
  const exports = {
    PKCS11: class {
      constructor() {
        // biome-ignore lint/correctness/noConstructorReturn: a stand-in for a native object
        return library
      }
    },
  }
  return native.bare ? { ...exports, default: undefined } : { default: exports }
}

async function bind(): Promise<Pkcs11Binding> {
  vi.resetModules()
  vi.doMock('pkcs11js', standIn)
  const { loadPkcs11js } = await import('../../src/backend/pkcs11/binding/pkcs11js-binding.js')
  return loadPkcs11js('/lib/module.so')
}

const session = Buffer.from('session!') as Uint8Array as SessionHandle
const object = Buffer.from('object!!') as Uint8Array as never
const last = () => native.calls.at(-1)

beforeEach(() => {
  native.calls.length = 0
  native.answer = {}
  native.missing = false
  native.bare = false
})

describe('loading', () => {
  test('twice, which keeps the library for the life of the process', async () => {
    await bind()
    expect(native.calls).toEqual([
      { name: 'load', args: ['/lib/module.so'] },
      { name: 'load', args: ['/lib/module.so'] },
    ])
  })

  test('from a namespace without a default export too', async () => {
    native.bare = true
    await bind()
    expect(native.calls.length).toBe(2)
  })

  test('pkcs11js that is not there, or not built: what to install', async () => {
    native.missing = true
    const error = await errorOf(bind)
    expect(error).toMatchObject({ code: 'ERR_PKCS11_UNAVAILABLE', retryable: false })
    expect(error.message).toContain('npm install pkcs11js')
    expect(error.cause).toBeDefined()
  })

  test.each([
    [new Error('/lib/module.so: invalid ELF header'), 'invalid ELF header'],
    ['no error', 'it does not load'],
  ])('a file that is no module', async (thrown, text) => {
    native.answer['load'] = () => {
      throw thrown
    }
    const error = await errorOf(bind)
    expect(error).toMatchObject({ code: 'ERR_PKCS11_MODULE' })
    expect(error.message).toContain(text)
  })
})

describe('what pkcs11js gets wrong', () => {
  test('a value that was given or read: pieces of memory of its size and of the next are taken again, and none of a long one', async () => {
    const binding = await bind()
    const sizes = (): number[] =>
      native.calls
        .filter(({ name }) => name === 'C_GenerateKeyPair')
        .flatMap(({ args }) => args[2] as { type: number; value: Buffer }[])
        .map(({ type, value }) =>
          type === 0x11 && value.every(byte => byte === 0) ? value.length : Number.NaN,
        )
    const pieces = (length: number): number[] => [
      ...Array<number>(16).fill(length),
      ...Array<number>(16).fill(length + 16),
    ]
    native.answer['C_GenerateKeyPair'] = () => {
      throw new TypeError('Argument 3 has wrong type. Should be an Array')
    }
    native.answer['C_CreateObject'] = () => Buffer.from('handle!!')
    binding.C_CreateObject(session, [
      [0, 4],
      [0x11, new Uint8Array(24)],
      [0x102, Buffer.from('id')],
    ])
    expect(sizes()).toEqual(pieces(24))
    native.calls.length = 0
    native.answer['C_CreateObject'] = () => {
      throw new Error('CKR_ATTRIBUTE_VALUE_INVALID:19')
    }
    await errorOf(() => binding.C_CreateObject(session, [[0x11, new Uint8Array(16)]]))
    expect(sizes()).toEqual(pieces(16))
    for (const [length, expected] of [
      [32, pieces(32)],
      [1032, pieces(1032)],
      [1033, []],
    ] as const) {
      native.calls.length = 0
      native.answer['C_GetAttributeValue'] = () => [{ type: 0x11, value: Buffer.alloc(length, 7) }]
      expect(binding.C_GetAttributeValue(session, object, 0x11)).toEqual(Buffer.alloc(length, 7))
      expect(sizes()).toEqual(expected)
    }
    native.calls.length = 0
    native.answer['C_GetAttributeValue'] = () => {
      throw new Error('CKR_DEVICE_ERROR:48')
    }
    await errorOf(() => binding.C_GetAttributeValue(session, object, 0x11))
    expect(sizes(), 'a value that may have been written before it failed').toEqual([
      ...pieces(16),
      ...pieces(32),
    ])
    native.calls.length = 0
    await errorOf(() => binding.C_GetAttributeValue(session, object, 0x102))
    expect(sizes(), 'of what is public').toEqual([])
    // No template is without a second one that is missing: there is nothing to call.
    expect(
      native.calls.filter(({ name, args }) => name === 'C_GenerateKeyPair' && args[3] !== undefined),
    ).toEqual([])
  })

  test('C_Initialize: locking always; the init string with one character to lose', async () => {
    const binding = await bind()
    binding.C_Initialize(undefined)
    expect(last()?.args).toEqual([{ flags: 2 }])
    binding.C_Initialize("configdir='x'")
    expect(last()?.args).toEqual([{ flags: 2, libraryParameters: "configdir='x' " }])
  })

  test('attributes: undefined ones are left out, and others than it can convert are refused', async () => {
    native.answer['C_CreateObject'] = () => Buffer.from('handle!!')
    const binding = await bind()
    binding.C_CreateObject(session, [
      [1, true],
      [2, undefined],
      [3, 'label'],
      [4, 0xffff_ffff],
      [5, Uint8Array.of(1, 2)],
    ])
    expect(last()?.args[1]).toEqual([
      { type: 1, value: true },
      { type: 3, value: 'label' },
      { type: 4, value: 0xffff_ffff },
      { type: 5, value: Buffer.of(1, 2) },
    ])
    native.calls.length = 0
    const wrong: unknown[] = [
      1n,
      null,
      new Date(),
      {},
      [],
      ['x'],
      -1,
      1.5,
      2 ** 32,
      Number.NaN,
      Symbol('x'),
      () => 1,
    ]
    for (const value of wrong) {
      const template = [[1, value as AttributeValue]] as const
      expect(await errorOf(() => binding.C_CreateObject(session, template))).toMatchObject({
        code: 'ERR_BACKEND_FAILED',
      })
    }
    expect(native.calls).toEqual([])
  })

  test('an empty buffer has an address', async () => {
    native.answer['C_Sign'] = (_session: never, _data: never, out: Buffer) => out
    const binding = await bind()
    binding.C_Sign(session, new Uint8Array(0), 16)
    const data = last()?.args[1]
    expect(Buffer.isBuffer(data) && data.length === 0 && data.buffer.byteLength > 0).toBe(true)
  })

  test.each([
    [
      'an error of its own class',
      Object.assign(new Error('CKR_DEVICE_ERROR'), { code: 0x30 }),
      'CKR_DEVICE_ERROR',
    ],
    ['a plain error', new Error('CKR_TEMPLATE_INCOMPLETE:208'), 'CKR_TEMPLATE_INCOMPLETE'],
    ['a value newer than 2.40', new Error('CKR_VENDOR_DEFINED:515'), 'CKR_KEY_EXHAUSTED'],
    ["a vendor's value", new Error('CKR_VENDOR_DEFINED:2147483649'), 'CKR_VENDOR_DEFINED'],
    ['a value nobody knows', new Error('CKR_VENDOR_DEFINED:1000'), 'CKR_UNKNOWN'],
  ])('%s becomes Pkcs11Error with the function and the right name', async (_name, thrown, name) => {
    native.answer['C_CreateObject'] = () => {
      throw thrown
    }
    const binding = await bind()
    const error = await errorOf(() => binding.C_CreateObject(session, []))
    expect(error).toMatchObject({
      name: 'Pkcs11Error',
      functionName: 'C_CreateObject',
      returnValueName: name,
    })
    expect(error.cause).toBeUndefined()
  })

  test.each([new TypeError('Argument 1 has wrong type'), Object.assign(new Error('x'), { code: 0 }), 'text'])(
    'anything else becomes ERR_BACKEND_FAILED, and its text is dropped',
    async thrown => {
      native.answer['C_Logout'] = () => {
        throw thrown
      }
      const binding = await bind()
      const error = await errorOf(() => binding.C_Logout(session))
      expect(error).toMatchObject({ code: 'ERR_BACKEND_FAILED', retryable: false })
      expect(error.message).toBe('C_Logout: pkcs11js refused the call')
    },
  )

  test('output is a plain array in memory of its own, also where less comes out than there was room for', async () => {
    const rooms: Buffer[] = []
    native.answer['C_Encrypt'] = (_session: never, data: Buffer, out: Buffer) => {
      rooms.push(out)
      out.fill(7)
      return out.subarray(0, data.length)
    }
    const binding = await bind()
    for (const room of [8, 16]) {
      const out = binding.C_Encrypt(session, new Uint8Array(8), room)
      expect(out).toEqual(new Uint8Array(8).fill(7))
      expect([out.constructor, out.buffer.byteLength]).toEqual([Uint8Array, 8])
    }
    expect(rooms[1]?.every(byte => byte === 0)).toBe(true)
    expect(rooms.every(room => room.buffer.byteLength === room.length)).toBe(true)
  })

  test('into memory that is given: by room of its own that is used again, and wiped, also where it fails', async () => {
    const rooms: (readonly [data: Buffer, out: Buffer])[] = []
    let cut = 0
    native.answer['C_Encrypt'] = (_session: never, data: Buffer, out: Buffer) => {
      rooms.push([data, out])
      out.set(data.map(byte => byte ^ 0xff))
      if (cut < 0) throw Object.assign(new Error('CKR_DEVICE_ERROR'), { code: 0x30 })
      return out.subarray(0, out.length - cut)
    }
    const binding = await bind()
    const encrypt = (length: number) => {
      const into = new Uint8Array(length)
      return [binding.C_Encrypt(session, new Uint8Array(length).fill(1), length, into), into] as const
    }
    for (const length of [8, 8, 16]) {
      const [answer, into] = encrypt(length)
      expect(answer).toBe(into)
      expect(into).toEqual(new Uint8Array(length).fill(0xfe))
    }
    expect(rooms[0]?.[1]).toBe(rooms[1]?.[1])
    // Of another length: in memory of its own.
    const [answer, into] = encrypt(24)
    expect([answer === into, answer.length, answer[23]]).toEqual([false, 24, 0xfe])
    cut = 1
    expect(encrypt(8)[0]).toEqual(new Uint8Array(7).fill(0xfe))
    cut = -1
    expect(await errorOf(() => encrypt(8))).toMatchObject({ code: 'ERR_PKCS11_CALL' })
    for (const [data, out] of someOf(rooms.filter(([, { length }]) => length < 24))) {
      expect([...data, ...out].every(byte => byte === 0)).toBe(true)
    }
  })

  test.each<[string, (binding: Pkcs11Binding) => unknown]>([
    ['C_Decrypt', binding => binding.C_Decrypt(session, new Uint8Array(8), 8)],
    // A PVV's question, or a derived key, comes out of it.
    ['C_Encrypt', binding => binding.C_Encrypt(session, new Uint8Array(8), 8)],
    ['C_Sign', binding => binding.C_Sign(session, new Uint8Array(8), 8)],
    // Half of a content key.
    ['C_DigestFinal', binding => binding.C_DigestFinal(session, 8)],
    ['C_GenerateRandom', binding => binding.C_GenerateRandom(session, 8)],
    ['C_WrapKey', binding => binding.C_WrapKey(session, { mechanism: 1 }, object, object, 8)],
  ])('what a library wrote before %s failed is wiped', async (name, make) => {
    const rooms: Buffer[] = []
    native.answer[name] = (...given: Buffer[]) => {
      rooms.push(given.at(-1)?.fill(7) ?? expect.unreachable())
      throw Object.assign(new Error('CKR_DEVICE_ERROR'), { code: 0x30 })
    }
    const binding = await bind()
    const error = await errorOf(() => make(binding))
    expect(error).toMatchObject({ functionName: name, returnValueName: 'CKR_DEVICE_ERROR' })
    expect(rooms.map(out => [...out])).toEqual([[0, 0, 0, 0, 0, 0, 0, 0]])
  })

  test.each<[string, (binding: Pkcs11Binding) => unknown]>([
    ['C_CreateObject', binding => binding.C_CreateObject(session, [])],
    ['C_CopyObject', binding => binding.C_CopyObject(session, object, [])],
    ['C_GenerateKey', binding => binding.C_GenerateKey(session, { mechanism: 1 }, [])],
    ['C_GenerateKeyPair', binding => binding.C_GenerateKeyPair(session, { mechanism: 1 }, [], [])],
    ['C_DeriveKey', binding => binding.C_DeriveKey(session, { mechanism: 1 }, object, [])],
    [
      'C_UnwrapKey',
      binding => binding.C_UnwrapKey(session, { mechanism: 1 }, object, new Uint8Array(24), []),
    ],
  ])('%s fails by its own name', async (name, make) => {
    native.answer[name] = () => {
      throw Object.assign(new Error('CKR_DEVICE_ERROR'), { code: 0x30 })
    }
    const binding = await bind()
    expect(await errorOf(() => make(binding))).toMatchObject({ functionName: name, returnValue: 0x30 })
  })

  test.each<[string, Mechanism, unknown]>([
    ['no parameter', { mechanism: 1 }, { mechanism: 1 }],
    ['a number', { mechanism: 1, parameter: 8 }, { mechanism: 1, parameter: 8 }],
    ['bytes', { mechanism: 1, parameter: Uint8Array.of(9) }, { mechanism: 1, parameter: Buffer.of(9) }],
    [
      'ECDH',
      { mechanism: 1, parameter: { kdf: 1, publicData: Uint8Array.of(4) } },
      { mechanism: 1, parameter: { type: 6, kdf: 1, publicData: Buffer.of(4) } },
    ],
    [
      'ECDH with shared data',
      { mechanism: 1, parameter: { kdf: 16, publicData: Uint8Array.of(4), sharedData: Uint8Array.of(5) } },
      { mechanism: 1, parameter: { type: 6, kdf: 16, publicData: Buffer.of(4), sharedData: Buffer.of(5) } },
    ],
  ])('a mechanism with %s', async (_name, mechanism, expected) => {
    const binding = await bind()
    binding.C_EncryptInit(session, mechanism, object)
    expect(last()?.args[1]).toStrictEqual(expected)
  })

  test('texts are trimmed of the spaces and NULs that pad them', async () => {
    native.answer['C_GetTokenInfo'] = () => ({
      label: 'issuer   ',
      manufacturerID: 'maker\0\0',
      model: '',
      serialNumber: 'a1 \0 ',
      flags: 4,
      maxSessionCount: 8,
      sessionCount: 1,
    })
    native.answer['C_GetInfo'] = () => ({
      libraryDescription: 'lib  ',
      manufacturerID: 'maker ',
      libraryVersion: { major: 2, minor: 6 },
    })
    const binding = await bind()
    expect(binding.C_GetTokenInfo(object)).toEqual({
      label: 'issuer',
      manufacturer: 'maker',
      model: '',
      serial: 'a1',
      flags: 4,
      maxSessions: 8,
      sessions: 1,
    })
    expect(binding.C_GetInfo()).toEqual({ description: 'lib', manufacturer: 'maker', version: '2.6' })
  })

  test('an attribute without a value is empty bytes', async () => {
    const binding = await bind()
    for (const answer of [[], [{ type: 3 }], [{ type: 3, value: undefined }]]) {
      native.answer['C_GetAttributeValue'] = () => answer
      expect(binding.C_GetAttributeValue(session, object, 3).length).toBe(0)
    }
    native.answer['C_GetAttributeValue'] = () => [{ type: 3, value: Buffer.of(1) }]
    expect(binding.C_GetAttributeValue(session, object, 3)).toEqual(Buffer.of(1))
    expect(last()?.args[2]).toEqual([{ type: 3 }])
  })
})

test('every call goes to the function of its name, and only to the synchronous forms', async () => {
  const answers: Record<string, unknown> = {
    C_GetSlotList: [Buffer.from('slot')],
    C_OpenSession: Buffer.from('s'),
    C_FindObjects: [Buffer.from('o')],
    C_GenerateKey: Buffer.from('k'),
    C_GenerateKeyPair: { publicKey: Buffer.from('p'), privateKey: Buffer.from('q') },
    C_DeriveKey: Buffer.from('d'),
    C_UnwrapKey: Buffer.from('u'),
  }
  for (const [name, value] of Object.entries(answers)) native.answer[name] = () => value
  for (const name of ['C_Decrypt', 'C_DigestFinal', 'C_WrapKey']) {
    native.answer[name] = (...args: Buffer[]) => args.at(-1)
  }
  const binding = await bind()
  native.calls.length = 0
  const data = Uint8Array.of(1)
  const mechanism = { mechanism: 1 }
  expect(binding.C_GetSlotList()).toEqual([Buffer.from('slot')])
  expect(last()?.args).toEqual([true])
  expect(binding.C_OpenSession(object, 4)).toEqual(Buffer.from('s'))
  binding.C_Login(session, 1, 'pin')
  binding.C_Logout(session)
  expect(binding.C_GenerateRandom(session, 4).length).toBe(4)
  binding.C_DestroyObject(session, object)
  binding.C_FindObjectsInit(session, [])
  expect(binding.C_FindObjects(session, 3)).toEqual([Buffer.from('o')])
  binding.C_FindObjectsFinal(session)
  binding.C_DecryptInit(session, mechanism, object)
  expect(binding.C_Decrypt(session, data, 8).length).toBe(8)
  binding.C_SignInit(session, mechanism, object)
  binding.C_DigestInit(session, mechanism)
  binding.C_DigestUpdate(session, data)
  binding.C_DigestKey(session, object)
  expect(binding.C_DigestFinal(session, 32).length).toBe(32)
  expect(binding.C_GenerateKey(session, mechanism, [])).toEqual(Buffer.from('k'))
  expect(binding.C_GenerateKeyPair(session, mechanism, [], []).privateKey).toEqual(Buffer.from('q'))
  expect(binding.C_DeriveKey(session, mechanism, object, [])).toEqual(Buffer.from('d'))
  expect(binding.C_WrapKey(session, mechanism, object, object, 8).length).toBe(8)
  expect(binding.C_UnwrapKey(session, mechanism, object, data, [])).toEqual(Buffer.from('u'))
  binding.C_CloseSession(session)
  binding.C_Finalize()
  expect(native.calls.map(({ name }) => name)).toEqual([
    'C_GetSlotList',
    'C_OpenSession',
    'C_Login',
    'C_Logout',
    'C_GenerateRandom',
    'C_DestroyObject',
    'C_FindObjectsInit',
    'C_FindObjects',
    'C_FindObjectsFinal',
    'C_DecryptInit',
    'C_Decrypt',
    'C_SignInit',
    'C_DigestInit',
    'C_DigestUpdate',
    'C_DigestKey',
    'C_DigestFinal',
    'C_GenerateKey',
    'C_GenerateKeyPair',
    'C_DeriveKey',
    'C_WrapKey',
    'C_UnwrapKey',
    'C_CloseSession',
    'C_Finalize',
  ])
})

test.each<[string, (binding: Pkcs11Binding) => unknown]>([
  ['C_Initialize', binding => binding.C_Initialize(undefined)],
  ['C_Finalize', binding => binding.C_Finalize()],
  ['C_GetInfo', binding => binding.C_GetInfo()],
  ['C_GetSlotList', binding => binding.C_GetSlotList()],
  ['C_GetTokenInfo', binding => binding.C_GetTokenInfo(object as never)],
  ['C_OpenSession', binding => binding.C_OpenSession(object as never, 4)],
  ['C_GetSessionInfo', binding => binding.C_GetSessionInfo(session)],
])('what %s fails with is told with its name and code', async (functionName, call) => {
  native.answer[functionName] = () => {
    throw Object.assign(new Error('CKR_DEVICE_ERROR'), { code: 0x30 })
  }
  const binding = await bind()
  expect(await errorOf(() => call(binding))).toMatchObject({ functionName, returnValue: 0x30 })
})

test('Pkcs11Error says what is lost and what to do', () => {
  expect(new Pkcs11Error('C_Sign', 0x101).message).toContain('no longer logged in')
  expect(new Pkcs11Error('C_Sign', 0x30).message).toContain('comes back with it by itself')
  expect(new Pkcs11Error('C_Sign', 0x70).message).toBe('C_Sign returned CKR_MECHANISM_INVALID (0x70)')
  expect(new Pkcs11Error('C_Sign', 0x70).as('ERR_PKCS11_LOGIN')).toMatchObject({
    code: 'ERR_PKCS11_LOGIN',
    kind: 'configuration',
  })
})

describe('what it cannot pass on is as of a token that does not have it', () => {
  test('a nested template, a structure with a pointer, a date', async () => {
    const binding = await bind()
    const nested = [[1, [[2, true]] as never]] as const
    expect(await errorOf(() => binding.C_CreateObject(session, nested))).toMatchObject({ returnValue: 0x12 })
    const derive = { mechanism: 0x1104, parameter: { derivationData: new Uint8Array(8) } }
    expect(await errorOf(() => binding.C_DeriveKey(session, derive, object, []))).toMatchObject({
      functionName: 'C_DeriveKey',
      returnValue: 0x70,
    })
    for (const date of [0x110, 0x111]) {
      const error = await errorOf(() => binding.C_GetAttributeValue(session, object, date))
      expect(error).toMatchObject({ functionName: 'C_GetAttributeValue', returnValue: 0x12 })
    }
    expect(native.calls.filter(({ name }) => name !== 'load')).toEqual([])
  })

  test('a list of numbers is CK_ULONGs of eight bytes; a parameter that is undefined is left out', async () => {
    native.answer['C_CreateObject'] = () => Buffer.from('handle!!')
    const binding = await bind()
    binding.C_CreateObject(session, [[1, [0x133, 0x138]]])
    expect(last()?.args[1]).toEqual([
      { type: 1, value: Buffer.from('33010000000000003801000000000000', 'hex') },
    ])
    binding.C_EncryptInit(session, { mechanism: 0x132, parameter: undefined } as never, object)
    expect(last()?.args[1]).toEqual({ mechanism: 0x132 })
  })
})

test('of a session its state and flags; a copy and a change of attributes go through', async () => {
  native.answer['C_GetSessionInfo'] = () => ({ slotID: Buffer.alloc(8), state: 3, flags: 6, deviceError: 0 })
  native.answer['C_CopyObject'] = () => Buffer.from('handle!!')
  const binding = await bind()
  expect(binding.C_GetSessionInfo(session)).toEqual({ state: 3, flags: 6 })
  expect(Buffer.from(binding.C_CopyObject(session, object, [[1, true]])).toString()).toBe('handle!!')
  binding.C_SetAttributeValue(session, object, [[1, false]])
  expect(last()).toEqual({
    name: 'C_SetAttributeValue',
    args: [Buffer.from(session), Buffer.from(object), [{ type: 1, value: false }]],
  })
})
