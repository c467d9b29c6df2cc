/** What bad input gets: at opening and at binding, on a real module. */

import { existsSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Template } from '../src/backend/pkcs11/binding/binding.js'
import { CKA, CKF, CKK, CKO } from '../src/backend/pkcs11/binding/constants.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import { type Backend, type ErrorCode, isIssuerPinError, type KeyUsage } from '../src/index.js'
import { openKeyStore, pkcs11Backend } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { scratchFolder } from '../test/support/scratch.js'
import { openWith } from './provision.js'
import { census, disturb, onToken, strayKey } from './raw.js'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

async function failure(
  call: () => Promise<unknown>,
): Promise<Error & { code: ErrorCode; retryable: boolean }> {
  try {
    await call()
  } catch (error) {
    if (isIssuerPinError(error)) return error
    throw error
  }
  throw new Error('the call did not fail')
}

describeSoftHsm('opening a backend on SoftHSM', () => {
  const issuer = makeToken('issuer')
  makeToken('twin')
  makeToken('twin')

  test('a wrong PIN: one attempt, ERR_PKCS11_LOGIN, and the PIN nowhere in the error', async () => {
    let asked = 0
    const pin = () => {
      asked++
      return 'wrong-canary-41'
    }
    const error = await failure(() => pkcs11Backend({ ...issuer, pin }))
    expect(error).toMatchObject({
      code: 'ERR_PKCS11_LOGIN',
      retryable: false,
      functionName: 'C_Login',
      returnValueName: 'CKR_PIN_INCORRECT',
    })
    expect(asked).toBe(1)
    expect(`${error.message}${error.stack}${JSON.stringify(error)}`).not.toContain('wrong-canary-41')
    // One attempt: SoftHSM notes it in the token's flags, and a good login clears it.
    await onToken(issuer, () => {})
  })

  test('after a wrong PIN the right one is accepted, in the same process', async () => {
    await failure(() => pkcs11Backend({ ...issuer, pin: () => 'wrong' }))
    const binding = await loadPkcs11js(issuer.module)
    binding.C_Initialize(undefined)
    const flags = binding
      .C_GetSlotList()
      .map(slot => binding.C_GetTokenInfo(slot))
      .find(({ label }) => label === 'issuer')?.flags
    binding.C_Finalize()
    expect((flags ?? 0) & CKF.USER_PIN_COUNT_LOW).not.toBe(0)
    await using backend = await pkcs11Backend(issuer)
    expect((await backend.health()).ok).toBe(true)
  })

  test('a token that is not there: ERR_PKCS11_TOKEN, and what there is', async () => {
    const error = await failure(() => pkcs11Backend({ ...issuer, token: 'nobody' }))
    expect(error.code).toBe('ERR_PKCS11_TOKEN')
    expect(error.message).toContain('"issuer"')
  })

  test('two tokens by one label: ERR_PKCS11_TOKEN; the serial in a URI chooses', async () => {
    const error = await failure(() => pkcs11Backend({ ...issuer, token: 'twin' }))
    expect(error.code).toBe('ERR_PKCS11_TOKEN')
    const [, serial] = /serial ([0-9a-f]+)/.exec(error.message) ?? []
    await using backend = await pkcs11Backend({ ...issuer, token: `pkcs11:token=twin;serial=${serial}` })
    expect((await backend.health()).detail).toContain('"twin"')
  })

  test('a module that is not there, a text file, and a library that is no PKCS#11: ERR_PKCS11_MODULE', async () => {
    const folder = scratchFolder('ipc-modules-')
    const text = join(folder, 'text.so')
    writeFileSync(text, 'not a library')
    const library = ['x86_64', 'aarch64'].map(cpu => `/lib/${cpu}-linux-gnu/libm.so.6`).find(existsSync)
    for (const module of [join(folder, 'missing.so'), text, ...(library === undefined ? [] : [library])]) {
      const error = await failure(() => pkcs11Backend({ ...issuer, module }))
      expect(error).toMatchObject({ code: 'ERR_PKCS11_MODULE', retryable: false })
      expect(error.message).toContain(module.split('/').at(-1))
    }
  })

  test('one module under two paths is one module', async () => {
    const link = join(scratchFolder('ipc-modules-'), 'softhsm.so')
    symlinkSync(SOFTHSM_MODULE ?? '', link)
    const first = await pkcs11Backend(issuer)
    const second = await pkcs11Backend({ ...issuer, module: link })
    await first.close()
    expect((await second.health()).ok).toBe(true)
    await second.close()
  })

  test('a failed opening leaves nothing open', async () => {
    const before = await census(issuer)
    await failure(() => pkcs11Backend({ ...issuer, pin: () => 'wrong' }))
    await failure(() => pkcs11Backend({ ...issuer, token: 'nobody' }))
    expect(await census(issuer)).toEqual(before)
  })
})

const BINDS: readonly {
  name: string
  attributes: Template
  usage: KeyUsage
  code: ErrorCode
  text: string
}[] = [
  {
    name: 'an extractable key',
    attributes: [[CKA.EXTRACTABLE, true]],
    usage: 'pin-encryption',
    code: 'ERR_KEY_ATTRIBUTES',
    text: 'CKA_EXTRACTABLE',
  },
  {
    name: 'a key that is not sensitive',
    attributes: [[CKA.SENSITIVE, false]],
    usage: 'pin-encryption',
    code: 'ERR_KEY_ATTRIBUTES',
    text: 'CKA_SENSITIVE',
  },
  {
    name: 'a key that may also sign',
    attributes: [[CKA.SIGN, true]],
    usage: 'pin-encryption',
    code: 'ERR_KEY_USAGE',
    text: 'CKA_SIGN',
  },
  {
    name: 'a key that may also wrap',
    attributes: [[CKA.WRAP, true]],
    usage: 'pin-encryption',
    code: 'ERR_KEY_USAGE',
    text: 'CKA_WRAP',
  },
  {
    name: 'a CMAC key for PIN encryption',
    attributes: [
      [CKA.ENCRYPT, false],
      [CKA.SIGN, true],
    ],
    usage: 'pin-encryption',
    code: 'ERR_KEY_USAGE',
    text: 'CKA_ENCRYPT',
  },
  {
    name: 'a PIN encryption key for CMAC',
    attributes: [],
    usage: 'cmac',
    code: 'ERR_KEY_USAGE',
    text: 'CKA_SIGN',
  },
  {
    name: 'a generic secret',
    attributes: [[CKA.KEY_TYPE, CKK.GENERIC_SECRET]],
    usage: 'pin-encryption',
    code: 'ERR_KEY_MATERIAL',
    text: 'an HMAC key of 16 bytes',
  },
  {
    name: 'an AES key for a retail MAC',
    attributes: [[CKA.KEY_TYPE, CKK.AES]],
    usage: 'retail-mac',
    code: 'ERR_KEY_ALGORITHM',
    text: 'aes-128',
  },
  {
    name: 'a secret key for key agreement',
    attributes: [],
    usage: 'jwe-key-agreement',
    code: 'ERR_KEY_USAGE',
    text: 'secret key',
  },
]

describeSoftHsm('binding keys that another tool made', () => {
  const options = makeToken('foreign')
  let backend: Backend

  beforeAll(async () => {
    await onToken(options, ({ binding, session }) => {
      for (const [i, { attributes }] of BINDS.entries()) {
        binding.C_CreateObject(session, strayKey(`K${i}`, attributes))
      }
      binding.C_CreateObject(session, strayKey('GOOD', []))
      binding.C_CreateObject(session, strayKey('TWICE', [[CKA.ID, Buffer.of(1)]]))
      binding.C_CreateObject(session, strayKey('TWICE', [[CKA.ID, Buffer.of(2)]]))
    })
    backend = await pkcs11Backend({ ...options, keys: { SECOND: { label: 'TWICE', id: '02' } } })
  })
  afterAll(() => backend?.close())

  test.each(BINDS.map((bind, i) => ({ ...bind, kid: `K${i}` })))(
    '$name is refused with $code, and what to change',
    async ({ kid, usage, code, text }) => {
      const error = await failure(() => backend.bind({ kid, usage }))
      expect(error).toMatchObject({ code, kid })
      expect(error.message).toContain(text)
    },
  )

  test('a key made well is bound, and its check value compared', async () => {
    await backend.bind({ kid: 'GOOD', usage: 'pin-encryption', kcv: '08D7B4' })
    const error = await failure(() => backend.bind({ kid: 'GOOD', usage: 'pin-encryption', kcv: '08D7B5' }))
    expect(error.code).toBe('ERR_KEY_CHECK_VALUE')
  })

  test('two by one label are refused; the keys option chooses by CKA_ID', async () => {
    expect((await failure(() => backend.bind({ kid: 'TWICE', usage: 'pin-encryption' }))).code).toBe(
      'ERR_KEY_AMBIGUOUS',
    )
    expect((await backend.bind({ kid: 'SECOND', usage: 'pin-encryption' })).checkValue.value).toBe('08D7B4')
  })

  test('a key that was rotated elsewhere under the same label is an error, not a switch', async () => {
    const key = await backend.bind({ kid: 'GOOD', usage: 'pin-encryption' })
    await onToken(options, ({ binding, session }) => {
      binding.C_FindObjectsInit(session, [[CKA.LABEL, 'GOOD']])
      const [old] = binding.C_FindObjects(session, 1)
      binding.C_FindObjectsFinal(session)
      if (old !== undefined) binding.C_DestroyObject(session, old)
      binding.C_CreateObject(
        session,
        strayKey('GOOD', [], Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex')),
      )
    })
    const error = await failure(() => operationsOf(key).encipher(new Uint8Array(8)))
    expect(error.code).toBe('ERR_KEY_CHECK_VALUE')
    const { ok, detail } = await backend.health()
    expect([ok, detail.includes('GOOD (ERR_KEY_CHECK_VALUE)')]).toEqual([false, true])
  })
})

describeSoftHsm('the key store on SoftHSM', () => {
  const options = makeToken('store')

  test('keys made in the token: generated, listed, used, deleted', async () => {
    const before = await census(options)
    const store = await openKeyStore(options)
    const made = [
      await store.generateKey({ kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' }),
      await store.generateKey({
        kid: 'PEK3',
        usage: 'pin-encryption',
        algorithm: 'tdea-3key',
        hostDecipher: true,
      }),
      await store.generateKey({ kid: 'CMAC', usage: 'cmac', algorithm: 'aes-256' }),
      await store.generateKey({ kid: 'PRW', usage: 'prw-generate', algorithm: 'tdea-2key', macs: ['cmac'] }),
      await store.generateKey({ kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256' }),
    ]
    expect((await store.listKeys()).map(({ kid, usage }) => `${kid} ${usage}`).sort()).toEqual(
      made.map(({ kid, usage }) => `${kid} ${usage}`).sort(),
    )
    const backend = await pkcs11Backend(options)
    for (const { kid, usage, algorithm, checkValue } of made) {
      if (usage !== undefined) await backend.bind({ kid, usage, algorithm, kcv: checkValue })
    }
    await backend.close()
    for (const { kid } of made) await store.deleteKey({ kid })
    await store.close()
    expect(await census(options)).toEqual(before)
  })

  test('a refused import leaves nothing behind', async () => {
    const before = await census(options)
    await using store = await openKeyStore({ ...options, importClearKeys: true, composedMac: true })
    const [pek] = CONTRACT_KEYS
    if (pek === undefined) throw new Error('no key')
    const error = await failure(() => store.importKey({ ...pek, kcv: '000000' }))
    expect(error.code).toBe('ERR_KEY_CHECK_VALUE')
    await store.close()
    expect(await census(options)).toEqual(before)
  })

  test('a public object of another pair beside a private key is found out', async () => {
    await using store = await openKeyStore(options)
    await store.generateKey({ kid: 'A', usage: 'jwe-key-agreement', algorithm: 'ec-p256' })
    await store.generateKey({ kid: 'B', usage: 'jwe-key-agreement', algorithm: 'ec-p256' })
    await onToken(options, ({ binding, session }) => {
      const publicOf = (label: string) => {
        binding.C_FindObjectsInit(session, [
          [CKA.LABEL, label],
          [CKA.CLASS, CKO.PUBLIC_KEY],
        ])
        const [found] = binding.C_FindObjects(session, 1)
        binding.C_FindObjectsFinal(session)
        if (found === undefined) throw new Error(`no public key ${label}`)
        return found
      }
      const point = binding.C_GetAttributeValue(session, publicOf('B'), CKA.EC_POINT)
      const parameters = binding.C_GetAttributeValue(session, publicOf('B'), CKA.EC_PARAMS)
      binding.C_DestroyObject(session, publicOf('A'))
      binding.C_CreateObject(session, [
        [CKA.CLASS, CKO.PUBLIC_KEY],
        [CKA.KEY_TYPE, CKK.EC],
        [CKA.TOKEN, true],
        [CKA.LABEL, 'A'],
        [CKA.EC_PARAMS, parameters],
        [CKA.EC_POINT, point],
      ])
    })
    await using backend = await pkcs11Backend(options)
    const error = await failure(() => backend.bind({ kid: 'A', usage: 'jwe-key-agreement' }))
    expect(error).toMatchObject({ code: 'ERR_KEY_ATTRIBUTES' })
    expect(error.message).toContain('another private key')
  })
})

describeSoftHsm('the life of a backend on SoftHSM', () => {
  const options = { ...makeToken('life'), composedMac: true }

  test('use after close and double close: coded errors; the token is as before', async () => {
    const backend = await openWith(options, CONTRACT_KEYS)
    const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    await Promise.all([backend.close(), backend.close()])
    await backend.close()
    for (const call of [
      () => operationsOf(key).encipher(new Uint8Array(8)),
      () => backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' }),
      () => backend.randomBytes(8),
      () => backend.health(),
    ]) {
      expect((await failure(call)).code).toBe('ERR_BACKEND_CLOSED')
    }
  })

  test('opening and closing a hundred times leaks no session and no object', async () => {
    const before = await census(options)
    for (let i = 0; i < 100; i++) {
      const backend = await pkcs11Backend(options)
      const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
      await operationsOf(key).encipher(new Uint8Array(8))
      await backend.close()
    }
    expect(await census(options)).toEqual(before)
  })

  test('keys of one backend do not work in another, nor after it was opened anew', async () => {
    const first = await pkcs11Backend(options)
    const key = await first.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    await first.close()
    const block = new Uint8Array(8)
    expect((await failure(() => operationsOf(key).encipher(block))).code).toBe('ERR_BACKEND_CLOSED')
    await using second = await pkcs11Backend(options)
    const same = await second.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    expect((await failure(() => operationsOf(same).reencipher(key, block))).code).toBe('ERR_KEY_FOREIGN')
  })

  test('somebody else finalises the library: the backend comes back by itself, with the same keys', async () => {
    const states: string[] = []
    await using backend = await pkcs11Backend({ ...options, onEvent: ({ state }) => states.push(state) })
    const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    const before = await operationsOf(key).encipher(new Uint8Array(8))
    const binding = await loadPkcs11js(options.module)
    binding.C_Finalize()
    expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(before)
    expect(states).toEqual(['recovering', 'open'])
    expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
  })

  test.each(['C_Logout', 'C_CloseAllSessions'])('after %s elsewhere the login is made anew', async way => {
    await using backend = await pkcs11Backend(options)
    const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    const before = await operationsOf(key).encipher(new Uint8Array(8))
    await disturb(options, way)
    expect(await operationsOf(key).encipher(new Uint8Array(8))).toEqual(before)
    expect(await backend.health()).toMatchObject({ ok: true, state: 'open' })
  })

  test('the PIN function may be asynchronous', async () => {
    await using backend = await pkcs11Backend({ ...options, pin: async () => USER_PIN })
    expect((await backend.health()).ok).toBe(true)
  })
})
