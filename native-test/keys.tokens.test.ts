/**
 * What other users of a token try on its keys, on SoftHSM and on NSS: check values that they state themselves, keys wrapped
 * out, each attribute that is wrong alone, K1 of another key, rights that are widened after a key was bound.
 */
import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Template } from '../src/backend/pkcs11/binding/binding.js'
import { CKA } from '../src/backend/pkcs11/binding/constants.js'
import { isRefusal } from '../src/backend/pkcs11/binding/errors.js'
import type { ErrorCode } from '../src/index.js'
import { type KeyStoreOptions, openKeyStore, type Pkcs11Options, pkcs11Backend } from '../src/pkcs11.js'
import { describeNss, makeDatabase } from './nss.js'
import { onToken, strayKey } from './raw.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

/** What this kind of token lets its users do. */
interface Lets {
  readonly takesFalseCheckValues: boolean
  readonly wrapsOut: boolean
  /** Accepted of every key, for without it none is bound. */
  readonly accept: Pkcs11Options['accept']
}

const codeOf = (call: () => Promise<unknown>): Promise<ErrorCode | 'bound'> =>
  call().then(
    () => 'bound',
    (error: { code: ErrorCode }) => error.code,
  )

function attacks(options: KeyStoreOptions & Pkcs11Options, lets: Lets): void {
  const { accept = [] } = lets

  test('what its users can do is found out when it is opened', async () => {
    await using backend = await pkcs11Backend(options)
    const notes = backend.capabilities().notes.join('; ')
    expect(notes.includes('can wrap a key that is not extractable')).toBe(lets.wrapsOut)
    expect(notes.includes('whatever the maker of a key states')).toBe(lets.takesFalseCheckValues)
  })

  test('a key whose maker states the check value of another does not pass for it', async () => {
    const changes: Template = [
      [CKA.ENCRYPT, false],
      [CKA.DECRYPT, true],
      [CKA.ID, Buffer.from('forged')],
    ]
    const value = Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex')
    const stated = [CKA.CHECK_VALUE, Buffer.from('08D7B4', 'hex')] as const
    const isTaken = await onToken(options, ({ binding, session }) => {
      try {
        binding.C_CreateObject(session, strayKey('FORGED', [...changes, stated], value))
        return true
      } catch (error) {
        if (!isRefusal(error)) throw error
        binding.C_CreateObject(session, strayKey('FORGED', changes, value))
        return false
      }
    })
    expect(isTaken).toBe(lets.takesFalseCheckValues)
    await using backend = await pkcs11Backend({ ...options, accept })
    const spec = { kid: 'FORGED', usage: 'pin-encryption', mode: 'D', kcv: '08D7B4' } as const
    const code = isTaken ? 'ERR_UNSUPPORTED_BY_TOKEN' : 'ERR_KEY_CHECK_VALUE'
    await expect(backend.bind(spec)).rejects.toMatchObject({ code })
  })

  test('each thing that is wrong with a key is refused alone, and accepted by its own name and no other', async () => {
    const wrong: Readonly<Record<string, Template>> = {
      public: [[CKA.PRIVATE, false]],
      modifiable: [[CKA.MODIFIABLE, true]],
      extractable: [[CKA.EXTRACTABLE, true]],
      readable: [[CKA.SENSITIVE, false]],
      derived: [[CKA.DERIVE, true]],
      signs: [[CKA.SIGN, true]],
    }
    // Some tokens make keys private and sensitive, whatever the template says: then there is nothing wrong with them.
    const made = await onToken(options, ({ binding, session }) =>
      Object.entries(wrong).filter(([name, changes]) => {
        const id = [CKA.ID, Buffer.from(name)] as const
        const key = binding.C_CreateObject(session, strayKey(name, [id, ...changes], randomBytes(16)))
        return changes.every(([type, value]) => {
          return (binding.C_GetAttributeValue(session, key, type)[0] === 1) === value
        })
      }),
    )
    expect(made.length).toBeGreaterThan(3)
    for (const more of [[], ['public'], ['modifiable'], ['wrappable'], ['hidden-roles']] as const) {
      await using backend = await pkcs11Backend({ ...options, accept: [...accept, ...more] })
      for (const [kid] of made) {
        const isAccepted = more.some(name => name === kid)
        const code = await codeOf(() => backend.bind({ kid, usage: 'pin-encryption' }))
        const refused = ['derived', 'signs'].includes(kid) ? 'ERR_KEY_USAGE' : 'ERR_KEY_ATTRIBUTES'
        expect([kid, more, code]).toEqual([kid, more, isAccepted ? 'bound' : refused])
      }
    }
    if (accept.length === 0) return
    // Without what every key here needs, a good one is refused, too.
    await using strict = await pkcs11Backend({ ...options, accept: [] })
    expect(await codeOf(() => strict.bind({ kid: 'modifiable', usage: 'pin-encryption' }))).toBe(
      'ERR_KEY_ATTRIBUTES',
    )
  })

  test('K1 of a retail MAC is no key; two names of one object are one key', async () => {
    const composed = { ...options, composedMac: true, accept }
    await using store = await openKeyStore({ ...composed, importClearKeys: true })
    const material = Buffer.from('1122334455667788A1B2C3D4E5F60718', 'hex')
    const { id } = await store.importKey({ kid: 'RM', usage: 'retail-mac', algorithm: 'tdea-2key', material })
    const keys = {
      K1: { label: 'RM/K1' },
      LABEL: { label: 'TWO' },
      ID: { id: '74776f' },
      URI: 'pkcs11:object=TWO',
    }
    await onToken(options, ({ binding, session }) =>
      binding.C_CreateObject(session, strayKey('TWO', [[CKA.ID, Buffer.from('two')]], randomBytes(16))),
    )
    await using backend = await pkcs11Backend({ ...composed, keys })
    for (const kid of ['RM/K1', 'K1'])
      for (const usage of ['pin-encryption', 'cbc-mac', 'cmac'] as const)
        expect(await codeOf(() => backend.bind({ kid, usage }))).toBe('ERR_KEY_USAGE')
    expect(id).toMatch(/^4D33/)
    await backend.bind({ kid: 'LABEL', usage: 'pin-encryption', mode: 'E' })
    for (const kid of ['ID', 'URI'])
      expect(await codeOf(() => backend.bind({ kid, usage: 'cbc-mac' }))).toBe('ERR_KEY_USAGE')
    expect(await codeOf(() => backend.bind({ kid: 'URI', usage: 'pin-encryption' }))).toBe('bound')
  })

  test('rights that are widened after a key was bound show in health()', async () => {
    const find = [[CKA.LABEL, 'CHANGED']] as const
    await onToken(options, ({ binding, session }) =>
      binding.C_CreateObject(
        session,
        strayKey(
          'CHANGED',
          [
            [CKA.ID, Buffer.from('changed')],
            [CKA.MODIFIABLE, true],
          ],
          randomBytes(16),
        ),
      ),
    )
    await using backend = await pkcs11Backend({ ...options, accept: [...accept, 'modifiable'] })
    const key = await backend.bind({ kid: 'CHANGED', usage: 'pin-encryption' })
    expect((await backend.health()).ok).toBe(true)
    await onToken(options, ({ binding, session }) => {
      binding.C_FindObjectsInit(session, find)
      const [object] = binding.C_FindObjects(session, 1)
      binding.C_FindObjectsFinal(session)
      if (object === undefined) throw new Error('the key is not there')
      binding.C_SetAttributeValue(session, object, [[CKA.SIGN, true]])
    })
    expect((await operationsOf(key).encipher(new Uint8Array(8))).length).toBe(8)
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('CHANGED (ERR_KEY_USAGE)'),
    })
  })
}

describeSoftHsm('the keys of a SoftHSM token, tried by its other users', () => {
  attacks(
    { ...makeToken('tried'), executor: 'inline' },
    { takesFalseCheckValues: false, wrapsOut: false, accept: [] },
  )
})

describeNss('the keys of an NSS token, tried by its other users', () => {
  attacks(
    { ...makeDatabase(), executor: 'inline' },
    { takesFalseCheckValues: true, wrapsOut: true, accept: ['copyable'] },
  )
})
