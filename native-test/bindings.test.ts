/**
 * The two bindings, pkcs11js and koffi, call by call: the same bytes from the same library, and the same errors.
 * And the package with koffi installs and opens a token where there is no compiler.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type {
  LoadBinding,
  ObjectHandle,
  Pkcs11Binding,
  SessionHandle,
  Template,
} from '../src/backend/pkcs11/binding/binding.js'
import { CKA, CKF, CKK, CKM, CKO } from '../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../src/backend/pkcs11/binding/errors.js'
import { loadKoffi } from '../src/backend/pkcs11/binding/koffi-binding.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import { findToken } from '../src/backend/pkcs11/session/token.js'
import { pkcs11Backend } from '../src/pkcs11.js'
import { describeNss, makeDatabase } from './nss.js'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

const KEY = Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex')
const BINDINGS: readonly (readonly [string, LoadBinding])[] = [
  ['pkcs11js', loadPkcs11js],
  ['koffi', loadKoffi],
]

/** What a call throws. */
function failure(call: () => unknown): { functionName: string; returnValueName: string } {
  try {
    call()
  } catch (error) {
    if (error instanceof Pkcs11Error) {
      return { functionName: error.functionName, returnValueName: error.returnValueName }
    }
    throw error
  }
  throw new Error('the call did not fail')
}

/** A session key with everything stated. */
function sessionKey(can: Template, more: Template = []): Template {
  return [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.DES2],
    [CKA.TOKEN, false],
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    [CKA.LABEL, 'für den Test'],
    [CKA.ID, Uint8Array.of(1, 2, 3)],
    ...can,
    ...more,
    [CKA.VALUE, KEY],
  ]
}

describeSoftHsm('the bindings, call by call: SoftHSM', () => {
  const options = makeToken('bindings')
  const made: { name: string; seen: Record<string, unknown> }[] = []

  describe.each(BINDINGS)('%s', (name, load) => {
    let p11: Pkcs11Binding
    let session: SessionHandle
    const seen: Record<string, unknown> = {}
    beforeAll(async () => {
      p11 = await load(options.module)
      try {
        p11.C_Initialize(undefined)
      } catch (error) {
        // The other binding's turn came first; it is one library.
        expect(error).toMatchObject({ returnValueName: 'CKR_CRYPTOKI_ALREADY_INITIALIZED' })
      }
      const { slot, info } = findToken(p11, { label: 'bindings' })
      seen['module'] = p11.C_GetInfo()
      seen['token'] = { ...info, sessions: 0 }
      session = p11.C_OpenSession(slot, CKF.SERIAL_SESSION | CKF.RW_SESSION)
      expect(p11.C_GetSessionInfo(session)).toEqual({ state: 2, flags: 6 })
      p11.C_Login(session, 1, USER_PIN)
      expect(p11.C_GetSessionInfo(session)).toEqual({ state: 3, flags: 6 })
    })
    afterAll(() => {
      p11.C_Logout(session)
      p11.C_CloseSession(session)
      made.push({ name, seen })
    })
    const encrypted = (key: ObjectHandle, data: Uint8Array): string => {
      p11.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, key)
      return Buffer.from(p11.C_Encrypt(session, data, data.length + 8)).toString('hex')
    }

    test('it says what it is', () => {
      expect(p11.name).toBe(name)
    })

    test('a key comes in, enciphers, deciphers and goes', () => {
      const key = p11.C_CreateObject(
        session,
        sessionKey([
          [CKA.ENCRYPT, true],
          [CKA.DECRYPT, true],
        ]),
      )
      expect(encrypted(key, Buffer.alloc(8))).toBe('08d7b4fb629d0885')
      const blocks = new Uint8Array(65_536).map((_, i) => i)
      p11.C_EncryptInit(session, { mechanism: CKM.DES3_CBC, parameter: new Uint8Array(8) }, key)
      const cipher = p11.C_Encrypt(session, blocks, blocks.length + 8)
      seen['cbc'] = Buffer.from(cipher.slice(-8)).toString('hex')
      p11.C_DecryptInit(session, { mechanism: CKM.DES3_CBC, parameter: new Uint8Array(8) }, key)
      const clear = p11.C_Decrypt(session, cipher, cipher.length)
      expect(Buffer.compare(clear, blocks)).toBe(0)
      expect(clear.buffer.byteLength).toBe(clear.length)
      expect(Buffer.from(p11.C_GetAttributeValue(session, key, CKA.LABEL)).toString()).toBe('für den Test')
      expect([...p11.C_GetAttributeValue(session, key, CKA.ID)]).toEqual([1, 2, 3])
      expect([...p11.C_GetAttributeValue(session, key, CKA.SENSITIVE)]).toEqual([1])
      expect(Buffer.from(p11.C_GetAttributeValue(session, key, CKA.CHECK_VALUE)).toString('hex')).toBe(
        '08d7b4',
      )
      const copy = p11.C_CopyObject(session, key, [[CKA.LABEL, 'copy']])
      p11.C_SetAttributeValue(session, copy, [[CKA.LABEL, '']])
      expect(p11.C_GetAttributeValue(session, copy, CKA.LABEL).length).toBe(0)
      expect(encrypted(copy, Buffer.alloc(8))).toBe('08d7b4fb629d0885')
      p11.C_FindObjectsInit(session, [[CKA.ID, Uint8Array.of(1, 2, 3)]])
      expect(p11.C_FindObjects(session, 1).length).toBe(1)
      expect(p11.C_FindObjects(session, 10).length).toBe(1)
      expect(p11.C_FindObjects(session, 10)).toEqual([])
      p11.C_FindObjectsFinal(session)
      p11.C_DestroyObject(session, copy)
      p11.C_DestroyObject(session, key)
      expect(failure(() => encrypted(key, Buffer.alloc(8)))).toEqual({
        functionName: 'C_EncryptInit',
        returnValueName: 'CKR_OBJECT_HANDLE_INVALID',
      })
    })

    test('MACs, digests, random numbers', () => {
      const key = p11.C_CreateObject(session, sessionKey([[CKA.SIGN, true]]))
      p11.C_SignInit(session, { mechanism: CKM.DES3_CMAC }, key)
      seen['cmac'] = Buffer.from(p11.C_Sign(session, Buffer.from('message'), 8)).toString('hex')
      p11.C_DigestInit(session, { mechanism: CKM.SHA256 })
      p11.C_DigestUpdate(session, Buffer.from('abc'))
      expect(Buffer.from(p11.C_DigestFinal(session, 32)).toString('hex').slice(0, 16)).toBe(
        'ba7816bf8f01cfea',
      )
      expect(p11.C_GenerateRandom(session, 33).length).toBe(33)
      expect(p11.C_GenerateRandom(session, 33)).not.toEqual(p11.C_GenerateRandom(session, 33))
    })

    test('key pairs, derivation, wrapping, unwrapping', () => {
      const p256 = Uint8Array.from([6, 8, 42, 134, 72, 206, 61, 3, 1, 7])
      const { publicKey, privateKey } = p11.C_GenerateKeyPair(
        session,
        { mechanism: CKM.EC_KEY_PAIR_GEN },
        [
          [CKA.TOKEN, false],
          [CKA.EC_PARAMS, p256],
        ],
        [
          [CKA.TOKEN, false],
          [CKA.PRIVATE, true],
          [CKA.DERIVE, true],
          [CKA.SIGN, true],
        ],
      )
      const point = p11.C_GetAttributeValue(session, publicKey, CKA.EC_POINT)
      expect(point.length).toBe(67)
      const secret: Template = [
        [CKA.CLASS, CKO.SECRET_KEY],
        [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
        [CKA.TOKEN, false],
        [CKA.SENSITIVE, false],
        [CKA.EXTRACTABLE, true],
        [CKA.VALUE_LEN, 32],
      ]
      const parameter = { kdf: 1, publicData: point.slice(2) }
      const z = p11.C_DeriveKey(session, { mechanism: CKM.ECDH1_DERIVE, parameter }, privateKey, secret)
      expect(p11.C_GetAttributeValue(session, z, CKA.VALUE).length).toBe(32)
      const kek = p11.C_GenerateKey(session, { mechanism: 0x1080 }, [
        [CKA.TOKEN, false],
        [CKA.VALUE_LEN, 16],
        [CKA.WRAP, true],
        [CKA.UNWRAP, true],
      ])
      const wrapped = p11.C_WrapKey(session, { mechanism: 0x2109 }, kek, z, 100)
      expect(wrapped.length).toBe(40)
      const back = p11.C_UnwrapKey(session, { mechanism: 0x2109 }, kek, wrapped, secret.slice(0, 5))
      expect(p11.C_GetAttributeValue(session, back, CKA.VALUE)).toEqual(
        p11.C_GetAttributeValue(session, z, CKA.VALUE),
      )
    })

    test('a list of mechanisms is enforced', () => {
      const only: Template = [
        [CKA.ENCRYPT, true],
        [CKA.ALLOWED_MECHANISMS, [CKM.DES3_CBC]],
      ]
      const key = p11.C_CreateObject(session, sessionKey(only))
      expect(failure(() => encrypted(key, Buffer.alloc(8))).returnValueName).toBe('CKR_MECHANISM_INVALID')
    })

    test('errors name the function and the value; the session goes on', () => {
      expect(failure(() => p11.C_Login(session, 1, USER_PIN)).returnValueName).toBe(
        'CKR_USER_ALREADY_LOGGED_IN',
      )
      const blind = p11.C_CreateObject(session, sessionKey([[CKA.ENCRYPT, true]]))
      expect(failure(() => p11.C_GetAttributeValue(session, blind, CKA.VALUE))).toEqual({
        functionName: 'C_GetAttributeValue',
        returnValueName: 'CKR_ATTRIBUTE_SENSITIVE',
      })
      const wrong = Buffer.from('AAAAAAAAAAAAAAAA', 'hex') as Uint8Array as SessionHandle
      expect(failure(() => p11.C_GetSessionInfo(wrong))).toEqual({
        functionName: 'C_GetSessionInfo',
        returnValueName: 'CKR_SESSION_HANDLE_INVALID',
      })
      expect(failure(() => p11.C_CreateObject(session, sessionKey([], [[CKA.VALUE_LEN, 16]])))).toMatchObject(
        {
          functionName: 'C_CreateObject',
        },
      )
      expect(encrypted(blind, Buffer.alloc(8))).toBe('08d7b4fb629d0885')
    })

    test('an empty input has an address, and is refused without leaving the operation open', () => {
      const key = p11.C_CreateObject(session, sessionKey([[CKA.ENCRYPT, true]]))
      p11.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, key)
      const empty = p11.C_Encrypt(session, new Uint8Array(0), 8)
      expect(empty.length).toBe(0)
      expect(encrypted(key, Buffer.alloc(8))).toBe('08d7b4fb629d0885')
    })

    test.each([[10n], [null], [-1], [1.5], [2 ** 33], [[]], [{}]])(
      'an attribute value that cannot be passed on (%s): an error of ours, and no crash',
      value => {
        const template = [[CKA.VALUE_LEN, value]] as unknown as Template
        expect(() => p11.C_CreateObject(session, template)).toThrowError(
          expect.objectContaining({ code: 'ERR_BACKEND_FAILED' }),
        )
      },
    )

    test('what is no handle is refused, and does not crash', () => {
      const nothing = undefined as unknown as SessionHandle
      expect(() => p11.C_GetSessionInfo(nothing)).toThrow()
    })
  })

  test('both saw the same', () => {
    const [one, two] = made
    expect(one?.seen).toEqual(two?.seen)
    expect(one?.seen).toMatchObject({ token: { label: 'bindings', manufacturer: 'SoftHSM project' } })
  })

  test('only koffi can state a template for what is unwrapped; SoftHSM keeps to it', async () => {
    const p11 = await loadKoffi(options.module)
    const { slot } = findToken(p11, { label: 'bindings' })
    const session = p11.C_OpenSession(slot, CKF.SERIAL_SESSION | CKF.RW_SESSION)
    p11.C_Login(session, 1, USER_PIN)
    const kek = (template: Template): ObjectHandle =>
      p11.C_CreateObject(session, [
        [CKA.CLASS, CKO.SECRET_KEY],
        [CKA.KEY_TYPE, CKK.AES],
        [CKA.TOKEN, false],
        [CKA.WRAP, true],
        [CKA.UNWRAP, true],
        ...template,
        [CKA.VALUE, KEY],
      ])
    const inside: Template = [
      [CKA.SENSITIVE, true],
      [CKA.EXTRACTABLE, false],
    ]
    const open = kek([])
    const closed = kek([[CKA.UNWRAP_TEMPLATE, inside]])
    const secret = (more: Template): Template => [
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.KEY_TYPE, CKK.GENERIC_SECRET],
      [CKA.TOKEN, false],
      ...more,
    ]
    const readable: Template = [
      [CKA.SENSITIVE, false],
      [CKA.EXTRACTABLE, true],
    ]
    const value = p11.C_CreateObject(session, [...secret(readable), [CKA.VALUE, KEY]])
    const wrapped = p11.C_WrapKey(session, { mechanism: 0x2109 }, open, value, 100)
    const unwrap = (key: ObjectHandle, more: Template): ObjectHandle =>
      p11.C_UnwrapKey(session, { mechanism: 0x2109 }, key, wrapped, secret(more))
    unwrap(open, readable)
    unwrap(closed, inside)
    expect(failure(() => unwrap(closed, readable)).returnValueName).toBe('CKR_TEMPLATE_INCONSISTENT')
    p11.C_Logout(session)
    p11.C_CloseSession(session)
  })

  test.each(BINDINGS)('%s: what is no module', async (_name, load) => {
    await expect(load('/etc/hostname')).rejects.toMatchObject({ code: 'ERR_PKCS11_MODULE' })
    await expect(load('/lib/x86_64-linux-gnu/libc.so.6')).rejects.toMatchObject({ code: 'ERR_PKCS11_MODULE' })
  })
})

describeNss('the bindings: NSS', () => {
  test('C_SessionCancel ends what is half done, where the library offers PKCS#11 3.0', async () => {
    const options = makeDatabase()
    await using backend = await pkcs11Backend({ ...options, binding: 'koffi', executor: 'inline' })
    expect(backend.capabilities().notes[0]).toContain('binding koffi')
    const p11 = await loadKoffi(options.module)
    const { slot } = findToken(p11, { label: 'NSS Certificate DB' })
    const session = p11.C_OpenSession(slot, CKF.SERIAL_SESSION)
    const key = p11.C_CreateObject(session, sessionKey([[CKA.ENCRYPT, true]]))
    p11.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, key)
    const again = (): void => p11.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, key)
    expect(failure(again).returnValueName).toBe('CKR_OPERATION_ACTIVE')
    expect(failure(() => p11.C_SessionCancel?.(session, CKF.SIGN)).returnValueName).toBe(
      'CKR_OPERATION_CANCEL_FAILED',
    )
    p11.C_SessionCancel?.(session, CKF.ENCRYPT)
    again()
    p11.C_Encrypt(session, new Uint8Array(8), 16)
    p11.C_CloseSession(session)
    expect((await loadPkcs11js(options.module)).C_SessionCancel).toBeUndefined()
  })
})

describeSoftHsm('without a compiler', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ipc-no-compiler-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('npm install of the package and koffi, in an empty folder, opens SoftHSM', () => {
    const options = makeToken('without a compiler')
    const root = new URL('..', import.meta.url).pathname
    if (!existsSync(join(root, 'dist/pkcs11.js'))) throw new Error('no dist: npm run build first')
    const run = (
      command: string,
      args: readonly string[],
      cwd: string,
      path = process.env['PATH'],
    ): string => {
      const env = { ...process.env, PATH: path }
      const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: 'utf8' })
      if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stdout}\n${stderr}`)
      return stdout
    }
    // Node and a shell, and nothing that compiles.
    const bin = join(folder, 'bin')
    mkdirSync(bin)
    for (const [name, at] of [
      ['node', process.execPath],
      ['npm', join(dirname(process.execPath), 'npm')],
      ['sh', '/bin/sh'],
    ] as const) {
      symlinkSync(at, join(bin, name))
    }
    for (const tool of ['python3', 'make', 'g++', 'cc']) {
      expect(spawnSync('sh', ['-c', `command -v ${tool}`], { env: { PATH: bin } }).status).not.toBe(0)
    }
    const packed = run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], root)
      .trim()
      .split('\n')
      .at(-1)
    const app = join(folder, 'app')
    mkdirSync(app)
    writeFileSync(join(app, 'package.json'), '{"name":"app","version":"1.0.0","type":"module"}')
    run(
      'npm',
      ['install', '--no-audit', '--no-fund', '--prefer-offline', join(folder, packed ?? ''), 'koffi@3'],
      app,
      bin,
    )
    writeFileSync(
      join(app, 'main.mjs'),
      `import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
const options = ${JSON.stringify({ module: SOFTHSM_MODULE, token: options.token })}
const pin = () => ${JSON.stringify(USER_PIN)}
{
  await using store = await openKeyStore({ ...options, pin })
  await store.generateKey({ kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' })
}
for (const executor of ['inline', 'threads', 'process']) {
  const backend = await pkcs11Backend({ ...options, pin, executor, sessions: { max: 1 } })
  const key = await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
  console.log(executor, backend.capabilities().notes[0].includes('binding koffi'), key.kid)
  await backend.close()
}
`
        .replaceAll('await using store =', 'const store =')
        .replace("'tdea-2key' })\n}", "'tdea-2key' })\n  await store.close()\n}"),
    )
    expect(run('node', ['main.mjs'], app, bin)).toBe('inline true PEK\nthreads true PEK\nprocess true PEK\n')
  })
})
