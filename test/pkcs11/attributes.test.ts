/**
 * Keys are judged by what is shown of them, and what is not shown is not taken for granted; what a token lets its users do
 * is found out by trying; keys for translation inside do not open anything; the key store touches keys only.
 */
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import type { Template } from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { roleAttribute, SECRET_BITS } from '../../src/backend/pkcs11/mechanisms/templates.js'
import type { KeyStoreOptions } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { bindKey, errorOf, openBackendOn, openStoreOn } from './support.js'

const VALUE = Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex')
const OTHER = Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex')

function planted(changes: Template): Template {
  const changed = new Set(changes.map(([type]) => type))
  const usual: Template = [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.DES2],
    [CKA.TOKEN, true],
    [CKA.LABEL, 'K'],
    [CKA.PRIVATE, true],
    [CKA.MODIFIABLE, false],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    ...SECRET_BITS.map(bit => [roleAttribute(bit), bit === 'ENCRYPT'] as const),
    [CKA.VALUE, VALUE],
  ]
  return [...usual.filter(([type]) => !changed.has(type)), ...changes]
}

async function bindIn(fakeOptions: FakeOptions, changes: Template, more: Partial<KeyStoreOptions> = {}) {
  const fake = new FakeToken(fakeOptions)
  fake.plant(planted(changes))
  await using backend = await openBackendOn(fake, more)
  const notes = backend.capabilities().notes.join('; ')
  return { key: await backend.bind({ kid: 'K', usage: 'pin-encryption' }), notes }
}

describe('a key in a token', () => {
  test.each<[string, FakeOptions, Template, Partial<KeyStoreOptions>, string]>([
    ['public', {}, [[CKA.PRIVATE, false]], { accept: ['public'] }, 'CKA_PRIVATE'],
    ['private or not is not shown', { hides: [CKA.PRIVATE] }, [], { accept: ['public'] }, 'CKA_PRIVATE'],
    ['modifiable', {}, [[CKA.MODIFIABLE, true]], { accept: ['modifiable'] }, 'CKA_MODIFIABLE'],
    [
      'modifiable is not shown',
      { hides: [CKA.MODIFIABLE] },
      [],
      { accept: ['modifiable'] },
      'CKA_MODIFIABLE',
    ],
    [
      'in a token that modifies all the same',
      { modifies: true },
      [],
      { accept: ['modifiable'] },
      'does not honour it',
    ],
    ['in a token that copies all', { copies: 'all' }, [], { accept: ['copyable'] }, 'wider rights'],
    [
      'not copyable, in a token that copies it all the same',
      { copies: 'all' },
      [[CKA.COPYABLE, false]],
      { accept: ['copyable'] },
      'wider rights',
    ],
    ['in a token that copies what is copyable', { copies: 'copyable' }, [], { accept: ['copyable'] }, 'copy'],
    ...[CKM.AES_KEY_WRAP, CKM.DES3_ECB].map(
      wrapsOut =>
        [
          `in a token that wraps what is not extractable, by mechanism ${wrapsOut} alone`,
          { wrapsOut },
          [],
          { accept: ['wrappable'] },
          'take it away',
        ] satisfies [string, FakeOptions, Template, Partial<KeyStoreOptions>, string],
    ),
    ['with a hidden role', { hides: [CKA.WRAP] }, [], { accept: ['hidden-roles'] }, 'does not show'],
    [
      'with a hidden role behind one that it may have',
      { hides: [CKA.DECRYPT, CKA.DERIVE] },
      [],
      { accept: ['hidden-roles'] },
      'does not show',
    ],
  ])('%s: refused, and bound where it is accepted by name', async (_what, fake, changes, more, words) => {
    const error = await errorOf(() => bindIn(fake, changes))
    expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_KEY_(ATTRIBUTES|USAGE)$/), kid: 'K' })
    expect(error.message).toContain(words)
    expect(error.message).toContain(`accept: ['${more.accept?.[0]}']`)
    const others = (['public', 'modifiable', 'copyable', 'wrappable', 'hidden-roles'] as const).filter(
      name => name !== more.accept?.[0],
    )
    expect(await errorOf(() => bindIn(fake, changes, { accept: others }))).toMatchObject({ code: error.code })
    expect((await bindIn(fake, changes, more)).key.kid).toBe('K')
  })

  test('templates within templates are not tried where the module breaks over them, and that is in the notes', async () => {
    await using backend = await openBackendOn(new FakeToken(), { vendor: 'p11-kit' })
    expect(backend.capabilities().notes.join('; ')).toContain('loses its token over a template within')
  })

  test('that cannot be copied is bound where the token honours that, and what users can do is in the notes', async () => {
    const { notes } = await bindIn({ copies: 'copyable' }, [[CKA.COPYABLE, false]])
    expect(notes).toContain('users of this token can copy a key')
    expect((await bindIn({ modifies: true }, [], { accept: ['modifiable'] })).notes).toContain(
      'can give a key wider rights',
    )
  })

  test('where copies are accepted that can be given every right, to be taken away is one of them; notes say so', async () => {
    const token = { wrapsOut: true, copies: 'all' } as const
    const { notes } = await bindIn(token, [], { accept: ['copyable'] })
    expect(notes).toContain('can wrap a key that is not extractable')
    expect(await errorOf(() => bindIn(token, [], { accept: ['wrappable'] }))).toMatchObject({
      message: expect.stringContaining('wider rights'),
    })
  })

  test('a check value that its maker states proves nothing, where the token takes any', async () => {
    const forged: Template = [
      [CKA.ENCRYPT, false],
      [CKA.DECRYPT, true],
      [CKA.VALUE, OTHER],
      [CKA.CHECK_VALUE, Buffer.from('08D7B4', 'hex')],
    ]
    const spec = { kid: 'K', usage: 'pin-encryption', mode: 'D', kcv: '08D7B4' } as const
    const bindForged = async (options: FakeOptions) => {
      const fake = new FakeToken(options)
      const states = options.statesAnyCheckValue === true
      fake.plant(planted(states ? forged : forged.filter(([type]) => type !== CKA.CHECK_VALUE)))
      await using backend = await openBackendOn(fake)
      return { key: await backend.bind(spec).catch((error: unknown) => error), backend }
    }
    // The control: a token that states its own is believed.
    expect((await bindForged({})).key).toMatchObject({ code: 'ERR_KEY_CHECK_VALUE' })
    const { key, backend } = await bindForged({ statesAnyCheckValue: true })
    expect(key).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
    expect(backend.capabilities().notes.join(' ')).toContain('whatever the maker of a key states')
  })

  test('so it is where the token takes any with a copy alone', async () => {
    const fake = new FakeToken({ statesAnyCheckValue: true, copies: 'all' })
    const create = fake.C_CreateObject.bind(fake)
    fake.C_CreateObject = (session, template) => {
      if (template.some(([type]) => type === CKA.CHECK_VALUE)) throw new Pkcs11Error('C_CreateObject', 0x13)
      return create(session, template)
    }
    await using backend = await openBackendOn(fake)
    expect(backend.capabilities().notes.join(' ')).toContain('whatever the maker of a key states')
  })

  test('accepted as modifiable, and modified after it was bound: health says so, and it is not found again', async () => {
    const fake = new FakeToken()
    fake.plant(planted([[CKA.MODIFIABLE, true]]))
    await using backend = await openBackendOn(fake, { accept: ['modifiable'] })
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    expect(await backend.health()).toMatchObject({ ok: true })
    const [object] = [...fake.objects.values()].filter(({ attributes }) => attributes.get(CKA.LABEL) === 'K')
    object?.attributes.set(CKA.SIGN, true)
    expect(await backend.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('K (ERR_KEY_USAGE)'),
    })
    fake.reset({ at: 1, code: 0x82 })
    expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
    expect(await errorOf(() => backend.bind({ kid: 'K', usage: 'pin-encryption' }))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
  })

  test('a vendor whose tokens lack a role attribute is believed', async () => {
    const more = { vendor: 'cloudhsm' } as const
    const fake = new FakeToken({ hides: [CKA.SIGN_RECOVER] })
    await using store = await openStoreOn(fake, more)
    await store.generateKey({ kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256' })
    await using backend = await openBackendOn(fake, more)
    expect((await backend.bind({ kid: 'S', usage: 'jwt-signing' })).kid).toBe('S')
    expect(backend.capabilities().notes.join(' ')).toContain('from documentation, not tried on hardware')
    await using strict = await openBackendOn(fake)
    expect(await errorOf(() => strict.bind({ kid: 'S', usage: 'jwt-signing' }))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
  })
})

describe('templates', () => {
  test.each([0x05, 0x10, 0x12, 0x13, 0xd1])(
    'an attribute refused with %i is left out, and no other',
    async code => {
      const fake = new FakeToken({ refuses: { types: [CKA.ALLOWED_MECHANISMS, CKA.DESTROYABLE], code } })
      await using store = await openStoreOn(fake)
      await store.generateKey({ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key' })
      const key = [...fake.objects.values()].find(
        ({ attributes }) => attributes.get(CKA.LABEL) === 'K',
      )?.attributes
      expect(key?.get(CKA.COPYABLE)).toBe(false)
      expect(key?.get(CKA.WRAP_WITH_TRUSTED)).toBe(true)
      expect(key?.has(CKA.ALLOWED_MECHANISMS)).toBe(false)
      expect(key?.has(CKA.DESTROYABLE)).toBe(false)
    },
  )

  test.each([
    [CKA.WRAP_WITH_TRUSTED, 'CKA_WRAP_WITH_TRUSTED'],
    [CKA.COPYABLE, 'CKA_COPYABLE'],
    [CKA.DESTROYABLE, 'CKA_DESTROYABLE'],
    [CKA.ALLOWED_MECHANISMS, 'CKA_ALLOWED_MECHANISMS'],
  ])(
    'one that is refused is left out alone, and is named: where it is made, and in the notes',
    async (type, name) => {
      const fake = new FakeToken({ refuses: { types: [type], code: 0x12 } })
      await using store = await openStoreOn(fake)
      const made = await store.generateKey({ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key' })
      expect(made.refusedAttributes).toEqual([name])
      const key = [...fake.objects.values()].find(
        ({ attributes }) => attributes.get(CKA.LABEL) === 'K',
      )?.attributes
      const kept = [CKA.WRAP_WITH_TRUSTED, CKA.COPYABLE, CKA.DESTROYABLE, CKA.ALLOWED_MECHANISMS]
      expect(kept.filter(other => key?.has(other) === true)).toEqual(kept.filter(other => other !== type))
      await using backend = await openBackendOn(fake)
      const { notes } = backend.capabilities()
      expect(notes.filter(note => note.includes('in a template'))).toEqual([
        `${name} in a template (keys are made without it): C_CreateObject returned CKR_ATTRIBUTE_TYPE_INVALID`,
      ])
    },
  )

  test('a token that takes all: nothing is said to be refused', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const made = await store.generateKey({ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key' })
    expect('refusedAttributes' in made).toBe(false)
  })

  test('refused for a pair, and for what is unwrapped or put together: named, too', async () => {
    const fake = new FakeToken({ refuses: { types: [CKA.SIGN_RECOVER, CKA.VERIFY_RECOVER], code: 0x12 } })
    await using store = await openStoreOn(fake, { vendor: 'cloudhsm' })
    const made = await store.generateKey({ kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256' })
    expect(made.refusedAttributes).toEqual(
      expect.arrayContaining(['CKA_SIGN_RECOVER', 'CKA_VERIFY_RECOVER']) as string[],
    )
  })

  test('the templates that bind a key are tried: held, stored only, or not to be tried', async () => {
    const said = async (options: FakeOptions): Promise<string[]> => {
      await using backend = await openBackendOn(new FakeToken(options))
      return backend.capabilities().notes.filter(note => /WRAP_TEMPLATE/.test(note))
    }
    expect(await said({})).toEqual([
      'tried on a test key: CKA_UNWRAP_TEMPLATE holds',
      'tried on a test key: CKA_WRAP_TEMPLATE holds',
    ])
    expect(await said({ ignoresTemplates: true })).toEqual([
      expect.stringContaining(
        'CKA_UNWRAP_TEMPLATE is stored and not looked at: whoever may use the token can unwrap',
      ),
      expect.stringContaining(
        'CKA_WRAP_TEMPLATE is stored and not looked at: whoever may use the token can wrap',
      ),
    ])
    expect(await said({ without: [-2] })).toEqual([
      expect.stringMatching(
        /^CKA_UNWRAP_TEMPLATE cannot be tried, .* C_UnwrapKey returned CKR_MECHANISM_INVALID$/,
      ),
      expect.stringMatching(
        /^CKA_WRAP_TEMPLATE cannot be tried, .* C_WrapKey returned CKR_MECHANISM_INVALID$/,
      ),
    ])
    expect(await said({ refuses: { types: [CKA.UNWRAP_TEMPLATE, CKA.WRAP_TEMPLATE], code: 0x12 } })).toEqual([
      expect.stringContaining('CKA_UNWRAP_TEMPLATE in a template'),
      expect.stringContaining('CKA_WRAP_TEMPLATE in a template'),
    ])
  })

  test('copying with wider rights and modifying are tried on a test key, and what came of it is said', async () => {
    const said = async (options: FakeOptions): Promise<string> => {
      await using backend = await openBackendOn(new FakeToken(options))
      return backend.capabilities().notes.join('; ')
    }
    expect(await said({})).toMatch(/gives no copy wider rights; .*not modifiable no wider rights/)
    expect(await said({ copies: 'copyable' })).toContain('wider rights, unless CKA_COPYABLE is false')
    expect(await said({ copies: 'all', modifies: true })).toMatch(
      /can copy a key and give the copy wider rights; users/,
    )
    // Where no test key can be made nothing is known, which counts as the worst.
    const none = { types: [CKA.MODIFIABLE], code: 0x12 }
    expect(await said({ refuses: none })).toMatch(
      /can copy a key and give the copy wider rights; users .* can give a key wider rights/,
    )
  })

  test('an attribute that cannot be done without is not left out', async () => {
    const fake = new FakeToken({ refuses: { types: [CKA.SENSITIVE], code: 0x12 } })
    const error = await errorOf(async () => {
      await using store = await openStoreOn(fake)
      await store.generateKey({ kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key' })
    })
    expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_(UNSUPPORTED_BY_TOKEN|PKCS11_CALL)$/) })
    expect(fake.census.token).toBe(0)
  })
})

describe('translation inside the token', () => {
  const keys = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-2' || kid === 'PEK-3')

  async function openBoth(fakeOptions: FakeOptions, more: Partial<KeyStoreOptions>) {
    const fake = new FakeToken(fakeOptions)
    await using store = await openStoreOn(fake, more)
    for (const key of keys) {
      const translation = more.translateInToken === true
      await store.importKey({ ...key, hostDecipher: false, translation })
    }
    return { fake, backend: await openBackendOn(fake, more) }
  }

  test('where the token honours templates: done, and the keys open nothing for anybody', async () => {
    const { fake, backend } = await openBoth({}, { translateInToken: true })
    expect(backend.capabilities().reencipher).toBe('inside')
    // What was tried at opening was tried on keys of a session: nothing of it stays in the token.
    expect(fake.census.token).toBe(keys.length)
    const from = await bindKey(backend, 'PEK-2', { hostDecipher: false })
    const to = await bindKey(backend, 'PEK-3', { hostDecipher: false })
    const block = await operationsOf(from).encipher(new Uint8Array(8))
    fake.reset()
    expect(await operationsOf(from).reencipher(to, block)).toEqual(
      await operationsOf(to).encipher(new Uint8Array(8)),
    )
    expect([fake.given, fake.calls.includes('C_Decrypt')]).toEqual([[], false])
  })

  test('a key without the template is refused, for it would decipher', async () => {
    const { fake, backend } = await openBoth({}, { translateInToken: true })
    for (const { attributes } of fake.objects.values()) attributes.delete(CKA.UNWRAP_TEMPLATE)
    const error = await errorOf(() => bindKey(backend, 'PEK-2', { hostDecipher: false }))
    expect(error).toMatchObject({ code: 'ERR_KEY_ATTRIBUTES' })
    expect(error.message).toContain('CKA_UNWRAP_TEMPLATE')
  })

  test('where the token ignores templates it takes a second opt-in, which says what it is', async () => {
    const fake = { ignoresTemplates: true }
    const error = await errorOf(() => openBoth(fake, { translateInToken: true }))
    expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED_BY_TOKEN' })
    expect(error.message).toContain('translationKeysMayDecipher')
    const both = { translateInToken: true, translationKeysMayDecipher: true }
    const { backend } = await openBoth(fake, both)
    expect(backend.capabilities().reencipher).toBe('inside')
  })
})

describe('names', () => {
  async function twins(more: Partial<KeyStoreOptions> = {}) {
    const fake = new FakeToken()
    fake.plant(planted([[CKA.ID, Buffer.from('one')]]))
    fake.plant(
      planted([
        [CKA.ID, Buffer.from('two')],
        [CKA.VALUE, OTHER],
      ]),
    )
    return { fake, backend: await openBackendOn(fake, more) }
  }
  const spec = { kid: 'K', usage: 'pin-encryption' } as const

  test('a known check value decides between twins, at bind and after a stale handle', async () => {
    const { fake, backend } = await twins()
    expect(await errorOf(() => backend.bind(spec))).toMatchObject({ code: 'ERR_KEY_AMBIGUOUS' })
    expect(await errorOf(() => backend.bind({ ...spec, kcv: '000000' }))).toMatchObject({
      code: 'ERR_KEY_AMBIGUOUS',
    })
    const key = await backend.bind({ ...spec, kcv: '7B8358' })
    fake.reset({ at: 1, code: 0x82 })
    expect((await operationsOf(key).encipher(new Uint8Array(8)))[0]).toBe(0x7b)
  })

  test('a twin that cannot be a key at all does not stand in the way; two of one value do', async () => {
    const { fake, backend } = await twins()
    fake.plant(planted([[CKA.SENSITIVE, false]]))
    expect((await backend.bind({ ...spec, kcv: '08D7B4' })).checkValue.value).toBe('08D7B4')
    fake.plant(planted([[CKA.ID, Buffer.from('three')]]))
    expect(await errorOf(() => backend.bind({ ...spec, kcv: '08D7B4' }))).toMatchObject({
      code: 'ERR_KEY_AMBIGUOUS',
    })
  })

  test.each([
    ['an id alone', { id: Buffer.from('two').toString('hex') }],
    ['a URI with an id', 'pkcs11:id=%74%77%6F;type=secret-key'],
    ['a URI with label, id and what is harmless', 'pkcs11:object=K;id=two;library-manufacturer=x;token=fake'],
  ])('%s finds the key', async (_what, location) => {
    const { backend } = await twins({ keys: { OWN: location } })
    expect((await backend.bind({ kid: 'OWN', usage: 'pin-encryption' })).checkValue.value).toBe('7B8358')
  })

  test('one object of the token under two kids is one key: refused for a second usage', async () => {
    const { backend } = await twins({
      keys: { A: { id: Buffer.from('one').toString('hex') }, B: 'pkcs11:object=K;id=one' },
    })
    const key = await backend.bind({ kid: 'A', usage: 'pin-encryption' })
    expect(await errorOf(() => backend.bind({ kid: 'B', usage: 'cbc-mac' }))).toMatchObject({
      code: 'ERR_KEY_USAGE',
      kid: 'B',
    })
    // The PIN key goes on as if nobody had asked.
    expect((await operationsOf(key).encipher(new Uint8Array(8)))[0]).toBe(0x08)
    // For as long as the backend is open: blocks of before have not gone with the binding.
    backend.unbind(key)
    expect(await errorOf(() => backend.bind({ kid: 'B', usage: 'cbc-mac' }))).toMatchObject({
      code: 'ERR_KEY_USAGE',
    })
  })

  test.each([
    'pkcs11:',
    'pkcs11:object',
    'pkcs11:object=K;object=K',
    'pkcs11:object=K;id=one;id=two',
    'pkcs11:Object=K',
    'pkcs11:object=K;__proto__=x',
    'pkcs11:object=%C3%28',
    'pkcs11:object=%',
    'pkcs11:object=K;slot-id=1',
    'pkcs11:object=K;x-vendor=1',
    'pkcs11:object=K#fragment;type=private#',
    'pkcs11:object=%00%00',
    'pkcs11:id=%6;object=K',
    'pkcs11:object=K?module-path=/tmp/evil.so',
    'pkcs11:object=K;type=data',
    'pkcs11:library-version=2.6',
    `pkcs11:object=${'K;object='.repeat(2000)}`,
  ])('a hostile URI is no location: %.40s', async location => {
    expect(await errorOf(() => openBackendOn(new FakeToken(), { keys: { K: location } }))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  test.each([
    ['pkcs11:object=k', 'another case'],
    ['pkcs11:object=K%20;id=one', 'a blank behind it'],
    ['pkcs11:object=%4B;id=%6F%6E%65%00', 'a NUL behind its id'],
  ])('%s names another key (%s), and finds none', async location => {
    const { backend } = await twins({ keys: { OWN: location } })
    expect(await errorOf(() => backend.bind({ kid: 'OWN', usage: 'pin-encryption' }))).toMatchObject({
      code: 'ERR_KEY_NOT_FOUND',
    })
  })

  test.each([
    ['pkcs11:token=fake'],
    ['pkcs11:object=%20'],
    ['pkcs11:id='],
    ['pkcs11:object=K;type=cert'],
    ['pkcs11:object=K?pin-value=1'],
    ['pkcs11:id=%zz'],
    ['K'],
    [{ label: ' ' }],
    [{ id: 'x' }],
  ])('%j is no location', async location => {
    expect(await errorOf(() => openBackendOn(new FakeToken(), { keys: { K: location } }))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  test.each([
    { accept: ['everything'] },
    { accept: 'public' },
    { vendor: 'acme' },
    { executor: 'cluster' },
    { login: 'sometimes' },
    { onEvent: 1 },
    { timeouts: { callMs: 0 } },
    { spare: 1 },
  ])('%j is refused with ERR_ARGUMENT', async more => {
    expect(await errorOf(() => openBackendOn(new FakeToken(), more as never))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  test('unbound: refused from then on, and not looked for; bound again: health looks for the new one', async () => {
    const { fake, backend } = await twins({ keys: { K: { id: Buffer.from('one').toString('hex') } } })
    const key = await backend.bind(spec)
    const again = await backend.bind(spec)
    backend.unbind(key)
    expect(await errorOf(() => operationsOf(key).encipher(new Uint8Array(8)))).toMatchObject({
      code: 'ERR_KEY_FOREIGN',
    })
    expect(() => backend.unbind(key)).toThrow(expect.objectContaining({ code: 'ERR_KEY_FOREIGN' }) as Error)
    expect((await operationsOf(again).encipher(new Uint8Array(8))).length).toBe(8)
    backend.unbind(again)
    fake.remove('K')
    expect(await backend.health()).toMatchObject({ ok: true })
  })
})

describe('the key store', () => {
  test('lists all keys with one search for each class, with progress and what the token says of their past', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    for (let i = 0; i < 20; i++) {
      fake.plant(
        planted([
          [CKA.LABEL, `K${i}`],
          [CKA.ID, Buffer.from([i])],
          [CKA.NEVER_EXTRACTABLE, i % 2 === 0],
          [CKA.ALWAYS_SENSITIVE, true],
        ]),
      )
    }
    const seen: number[] = []
    fake.reset()
    const listed = await store.listKeys({ onProgress: ({ done, of }) => seen.push(done / of) })
    expect(listed.map(({ kid }) => kid)).toEqual(Array.from({ length: 20 }, (_, i) => `K${i}`))
    expect(listed.slice(0, 2).map(({ origin }) => origin)).toEqual(['generated', 'brought-in'])
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => (i + 1) / 20))
    expect(fake.calls.filter(call => call === 'C_FindObjectsInit').length).toBe(2)
    expect(await errorOf(() => store.listKeys({ onProgress: 1 } as never))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  test('deletes keys only: a certificate with the same label and id stays', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    await store.generateKey({ kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256' })
    const [first] = [...fake.objects.values()]
    const id = first?.attributes.get(CKA.ID)
    fake.plant([
      [CKA.CLASS, 1],
      [CKA.TOKEN, true],
      [CKA.LABEL, 'S'],
      [CKA.ID, id],
    ])
    await store.deleteKey({ kid: 'S' })
    const kept = [...fake.objects.values()].filter(({ session }) => session === undefined)
    expect(kept.map(({ attributes }) => attributes.get(CKA.CLASS))).toEqual([1])
  })
})

test('login: never sends no PIN, always sends it where the token does not ask', async () => {
  const silent = new FakeToken({ tokens: [{ flags: 0x400 | 0x8 }] })
  await (await openBackendOn(silent, { login: 'always' })).close()
  expect(silent.logins).toBe(1)
  const asking = new FakeToken({ noImport: true, without: [0x130, 0x131, 0x1040, 0x1080] })
  await (await openBackendOn(asking, { login: 'never' })).close()
  expect(asking.logins).toBe(0)
})
