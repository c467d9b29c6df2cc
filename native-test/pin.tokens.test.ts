/**
 * The issuer's PIN verbs on two tokens: every case of the corpus (formats 0 to 4, PVV, IBM 3624), a switch's ZPK from its key block to
 * format 4 at rest and back, verification in one job, and blocks that move without being opened where a token can do that.
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import {
  type Backend,
  decipherPin,
  encipherPin,
  generateOffset,
  generatePvv,
  isIssuerPinError,
  type Key,
  type KeyUsage,
  memoryStore,
  naturalPin,
  Pan,
  Pin,
  type PinBlockFormat,
  type PinReference,
  type PinValueRule,
  rePanPinBlock,
  sealKeyBlock,
  TryCounter,
  translatePinBlock,
  translatePinBlocks,
  verifyPinBlock,
} from '../src/index.js'
import {
  importKeyBlock,
  type KeyStoreOptions,
  openKeyStore,
  type Pkcs11Options,
  pkcs11Backend,
} from '../src/pkcs11.js'
import { softwareBackend } from '../src/software.js'
import { failure } from '../test/support/errors.js'
import { starterFromSources } from './faults/shim.js'
import { describeNss, makeDatabase } from './nss.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

type Options = KeyStoreOptions & Pkcs11Options
type Case = Readonly<Record<string, string>> & { readonly tcId: number; readonly flags: readonly string[] }

const groupsOf = (name: string): readonly { readonly type: string; readonly tests: readonly Case[] }[] => {
  const text = readFileSync(new URL(`../vectors/corpus/${name}_test.json`, import.meta.url), 'utf8')
  return (JSON.parse(text) as { testGroups: { type: string; tests: Case[] }[] }).testGroups
}
const bytes = (hex = ''): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))
const hexOf = (data: Uint8Array): string => Buffer.from(data).toString('hex').toUpperCase()

const ZPK = '0123456789ABCDEFFEDCBA9876543210'
const STORAGE = 'AF8CB133A78F8DC2D1359F18527593FB'
const SWITCH_2 = '89E88CF7931444F334BD7547FC3F380C'
const PVK = '8CA64DE9C1B123A7CC1F4A3C5B6D7E8F'
const PAN = Pan.from('4000001234567899')

/** Puts keys into the token, and opens it. */
async function withKeys(
  options: Options,
  keys: readonly {
    kid: string
    usage: KeyUsage
    material: string
    hostDecipher?: boolean
    translation?: boolean
  }[],
): Promise<Backend> {
  await using store = await openKeyStore({ ...options, importClearKeys: true })
  const wanted = new Set(keys.map(({ kid }) => kid))
  for (const { kid, id } of await store.listKeys()) if (!wanted.has(kid)) await store.deleteKey({ kid, id })
  const there = new Set((await store.listKeys()).map(({ kid }) => kid))
  for (const key of keys) {
    const { material, kid } = key
    const isAes = kid.includes('AES')
    const algorithm = (
      { 32: isAes ? 'aes-128' : 'tdea-2key', 48: isAes ? 'aes-192' : 'tdea-3key', 64: 'aes-256' } as const
    )[material.length as 32 | 48 | 64]
    if (!there.has(kid)) await store.importKey({ ...key, algorithm })
  }
  return pkcs11Backend(options)
}

const pinKey = (kid: string, material: string) =>
  ({ kid, material, usage: 'pin-encryption', hostDecipher: true }) as const
const open = (backend: Backend, kid: string): Promise<Key> =>
  backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })

/** What a call ends with: its result as text, or the code of its error. */
async function endOf(call: () => Promise<string>): Promise<string> {
  try {
    return await call()
  } catch (error) {
    if (isIssuerPinError(error)) return error.code
    throw error
  }
}

async function decoded(block: Uint8Array, pan: string, format: PinBlockFormat, key: Key): Promise<string> {
  return endOf(async () => {
    using pin = await decipherPin({ block, pan: Pan.from(pan), format, key })
    return pin.reveal()
  })
}

/** One case under keys of the token; undefined where no key of this library has a part in it. */
async function holds(
  type: string,
  one: Case,
  { tdea, aes, keyOf }: { tdea: Key; aes: Key; keyOf: (material: string) => Promise<Key> },
): Promise<boolean | undefined> {
  const { pan = '4000001234567899', pin = '', block = '', pinField, enciphered = '' } = one
  const format = Number(one['format'] ?? 4) as PinBlockFormat
  // Format 2 is under no key of this library; these two are pure, and tested where there is no token.
  if (format === 2 || type.endsWith('.pan-field') || type.endsWith('.pin-field')) return undefined
  const due = one['result'] === 'valid' ? pin : 'ERR_PIN_BLOCK'
  // A PAN has 10 digits at least here; older sources have shorter ones.
  if (pan.length < 10) return (await endOf(async () => String(Pan.from(pan)))) === 'ERR_PAN'
  switch (type) {
    case 'pin-block.encode': {
      const made = await endOf(async () =>
        hexOf(await encipherPin({ pin: Pin.from(pin), pan: Pan.from(pan), format, key: tdea })),
      )
      if (one['result'] === 'invalid') return ['ERR_PIN', 'ERR_PAN'].includes(made)
      // A PAN that is one here, and has no known answer.
      if (one['result'] === 'acceptable') return !made.startsWith('ERR')
      const clear = hexOf(await operationsOf(tdea).decipher(bytes(made)))
      return format === 0
        ? clear === block
        : clear.startsWith(one['blockPrefix'] ?? block.slice(0, 2 + pin.length))
    }
    case 'pin-block.decode': {
      const size = bytes(block)
      const sent = size.length % 8 === 0 && size.length > 0 ? await operationsOf(tdea).encipher(size) : size
      return (await decoded(sent, pan, format, tdea)) === due
    }
    case 'pin-block.encipher': {
      const key = await keyOf(one['key'] ?? '')
      const made = await encipherPin({ pin: Pin.from(pin), pan: Pan.from(pan), format, key })
      return hexOf(made) === enciphered && (await decoded(bytes(enciphered), pan, format, key)) === pin
    }
    case 'pin-block-4.decode-pin-field': {
      const field = bytes(pinField)
      if (field.length !== 16) return (await decoded(field, pan, 4, aes)) === due
      const sent = await operationsOf(aes).encipherBound(field, bytes('44000001234567899000000000000000'))
      return (await decoded(sent, '4000001234567899', 4, aes)) === due
    }
    case 'pin-block-4.encipher':
    case 'pin-block-4.decipher': {
      const { key: material = '' } = one
      if (![32, 48, 64].includes(material.length)) return undefined
      const key = await keyOf(`AES ${material}`)
      if ((await decoded(bytes(enciphered), pan, 4, key)) !== due) return false
      if (one['panField'] === undefined || pinField === undefined) return true
      return (
        hexOf(await operationsOf(key).encipherBound(bytes(pinField), bytes(one['panField']))) === enciphered
      )
    }
    default:
      throw new Error(`no case of type ${type}`)
  }
}

/** Every case of the formats, as many as there are; and which ones no key has a part in. */
async function formatsOn(options: Options): Promise<{ wrong: string[]; right: number; without: number }> {
  const groups = [0, 1, 2, 3, 4].flatMap(n => groupsOf(`iso9564_format_${n}`))
  const materials = new Set<string>()
  for (const { type, tests } of groups) {
    for (const { key } of tests) {
      const aes = type.startsWith('pin-block-4')
      if (key !== undefined && [32, 48, aes ? 64 : 48].includes(key.length))
        materials.add(`${aes ? 'AES ' : ''}${key}`)
    }
  }
  const imported = [...materials].map(name => pinKey(name, name.replace('AES ', '')))
  const own = [pinKey('ZPK', SWITCH_2), pinKey('AES', STORAGE)].filter(
    key => !imported.some(({ material }) => material === key.material),
  )
  await using backend = await withKeys(options, [...imported, ...own])
  const bound = new Map<string, Promise<Key>>()
  const keyOf = (kid: string): Promise<Key> => {
    const key = bound.get(kid) ?? open(backend, kid)
    bound.set(kid, key)
    return key
  }
  const kidOf = (kid: string, material: string) => (own.some(key => key.kid === kid) ? kid : material)
  const keys = {
    tdea: await keyOf(kidOf('ZPK', SWITCH_2)),
    aes: await keyOf(kidOf('AES', `AES ${STORAGE}`)),
    keyOf,
  }
  const wrong: string[] = []
  let [right, without] = [0, 0]
  for (const { type, tests } of groups) {
    for (const one of tests) {
      const outcome = await holds(type, one, keys)
      if (outcome === undefined) without++
      else if (outcome) right++
      else wrong.push(`${type} ${one.tcId} ${one['comment']}`)
    }
  }
  return { wrong, right, without }
}

/** PVV or 3624: each rule in a backend of its own, for a kid has one for good. */
async function valuesOn(options: Options, usage: 'visa-pvv' | 'ibm-3624', name: string): Promise<number> {
  const tests = groupsOf(name).flatMap(group => group.tests)
  const kid = usage
  let count = 0
  const rules = new Map<string, Case[]>()
  for (const one of tests) {
    const rule: PinValueRule =
      usage === 'visa-pvv'
        ? { pvki: Number(one['pvki']) }
        : {
            decimalisation: one['decimalisation'] ?? '',
            validation: { from: Number(one['from']), length: Number(one['length']), pad: one['pad'] ?? '' },
          }
    const text = JSON.stringify(rule)
    rules.set(text, [...(rules.get(text) ?? []), one])
  }
  for (const [rule, cases] of rules) {
    await using backend = await withKeys(options, [
      pinKey('ZPK', SWITCH_2),
      pinKey('AES', STORAGE),
      { kid, usage, material: ZPK },
    ])
    const bind = () => backend.bind({ kid, usage, pinValue: JSON.parse(rule) as PinValueRule })
    if (cases.every(({ flags }) => flags.includes('OpenTable'))) {
      await failure(bind, 'ERR_ARGUMENT')
      count += cases.length
      continue
    }
    const key = await bind()
    for (const one of cases) {
      const { pin = '', pvv = '', offset = '', result } = one
      const pan = Pan.from(one['pan'] ?? '')
      for (const [format, from] of [
        [0, await open(backend, 'ZPK')],
        [4, await open(backend, 'AES')],
      ] as const) {
        const block = await encipherPin({ pin: Pin.from(pin), pan, format, key: from })
        const source = { block, pan, format, from } as const
        const against: PinReference =
          usage === 'visa-pvv' ? { kind: 'pvv', pvv, key } : { kind: 'offset', offset, key }
        const { verified } = await verifyPinBlock({ ...source, against, tries: 'counted-elsewhere' })
        expect([one.tcId, format, verified]).toEqual([one.tcId, format, result === 'valid'])
        const made = await (usage === 'visa-pvv' ? generatePvv : generateOffset)({ ...source, key })
        expect(made === (usage === 'visa-pvv' ? pvv : offset)).toBe(result === 'valid')
        if (usage === 'ibm-3624' && offset === '0000') {
          const natural = await naturalPin({ pan, key, length: 4, format, to: from })
          expect(await decoded(natural, one['pan'] ?? '', format, from)).toBe(pin)
        }
      }
      count++
    }
  }
  return count
}

/** The flow of docs/guides/verifying-a-pin.md, "A switch's ZPK". */
async function switchFlow(options: Options): Promise<void> {
  const KBPK = '88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6'
  await using office = await softwareBackend({
    keys: [{ kid: 'KBPK', usage: 'key-block-protection', algorithm: 'aes-256', material: KBPK }],
  })
  const kbpk = await office.bind({ kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true })
  // What the switch sends: its ZPKs, the one it enciphers under and the one it deciphers with, as key blocks.
  const sealed = (material: string) =>
    sealKeyBlock({
      key: kbpk,
      version: 'D',
      material,
      algorithm: 'tdea-2key',
      usage: 'pin-encryption',
      mode: 'B',
      exportability: 'N',
    })
  const [incoming, outgoing] = [await sealed(ZPK), await sealed(SWITCH_2)]
  ;(await withKeys(options, [pinKey('STORE-AES', STORAGE)])).close()
  {
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    for (const [kid, { block, checkValue }] of [
      ['ZPK-IN', incoming],
      ['ZPK-OUT', outgoing],
    ] as const) {
      const { warnings } = await importKeyBlock({
        store,
        key: kbpk,
        block,
        kid,
        kcv: checkValue,
        usage: 'pin-encryption',
        hostDecipher: true,
      })
      expect(warnings).toEqual([])
    }
  }
  await using backend = await pkcs11Backend(options)
  const [zpkIn, zpkOut, storage] = await Promise.all([
    open(backend, 'ZPK-IN'),
    open(backend, 'ZPK-OUT'),
    open(backend, 'STORE-AES'),
  ])
  // The switch, which has its keys where it likes: here in software.
  await using network = await softwareBackend({
    keys: [
      { kid: 'IN', usage: 'pin-encryption', algorithm: 'tdea-2key', material: ZPK },
      { kid: 'OUT', usage: 'pin-encryption', algorithm: 'tdea-2key', material: SWITCH_2 },
    ],
  })
  const [theirs, back] = [await open(network, 'IN'), await open(network, 'OUT')]
  const cards = Array.from({ length: 40 }, (_, i) => ({
    pan: Pan.from(String(4_000_001_234_567_000 + i)),
    pin: String(2846 + 7 * i).padStart(4 + (i % 9), '3'),
  }))
  const sent = await Promise.all(
    cards.map(async ({ pan, pin }, i) => ({
      block: await encipherPin({ pin: Pin.from(pin), pan, format: i % 2 === 0 ? 0 : 3, key: theirs }),
      pan,
    })),
  )
  const stored: { block: Uint8Array; pan: Pan }[] = []
  for (const fromFormat of [0, 3] as const) {
    const blocks = sent.filter((_, i) => (i % 2 === 0 ? 0 : 3) === fromFormat)
    const spoilt = { block: new Uint8Array(8), pan: PAN }
    const results = await translatePinBlocks({
      blocks: [...blocks, spoilt],
      fromFormat,
      toFormat: 4,
      from: zpkIn,
      to: storage,
    })
    expect(results.map(({ ok }) => ok)).toEqual([...blocks.map(() => true), false])
    for (const [i, result] of results.entries())
      if (result.ok) stored.push({ block: result.block, pan: blocks[i]?.pan ?? PAN })
  }
  expect(stored).toHaveLength(cards.length)
  const pinOf = (pan: Pan) =>
    cards.find(card => card.pan.reveal() === pan.reveal())?.pin ?? expect.unreachable()
  // At authorisation each card's block is verified against what is at rest, in one job; another card's is not.
  for (const { block, pan } of stored.slice(0, 6)) {
    const at = sent.find(one => one.pan.reveal() === pan.reveal()) ?? expect.unreachable()
    const format = sent.indexOf(at) % 2 === 0 ? 0 : 3
    const against = { kind: 'block', block, format: 4, key: storage } as const
    const given = { block: at.block, pan, format, from: zpkIn, against, tries: 'counted-elsewhere' } as const
    expect((await verifyPinBlock(given)).verified).toBe(true)
    const { block: foreign = block } = stored.find(one => one.pan !== pan) ?? {}
    await failure(
      () => verifyPinBlock({ ...given, against: { ...against, block: foreign } }),
      'ERR_PIN_BLOCK',
    )
  }
  // Back to the switch, under its other ZPK and in format 0: it reads the PINs that it sent.
  const returned = await translatePinBlocks({
    blocks: stored,
    fromFormat: 4,
    toFormat: 0,
    from: storage,
    to: zpkOut,
  })
  for (const [i, result] of returned.entries()) {
    const { pan } = stored[i] ?? expect.unreachable()
    expect(result.ok && (await decoded(result.block, pan.reveal(), 0, back))).toBe(pinOf(pan))
  }
  const [first] = stored
  const { block, pan } = first ?? expect.unreachable()
  const way = { block, pan, fromFormat: 4, from: storage, to: zpkOut } as const
  await failure(() => translatePinBlock({ ...way, toFormat: 1 }), 'ERR_TRANSLATION_REFUSED')
  await failure(() => translatePinBlock({ ...way, toFormat: 2 }), 'ERR_TRANSLATION_REFUSED')
  await failure(() => translatePinBlock({ ...way, pan: PAN, toFormat: 0 }), 'ERR_PIN_BLOCK')
  await failure(() => translatePinBlock({ ...way, toFormat: 4 }), 'ERR_KEY_ALGORITHM')
  await failure(() => translatePinBlock({ ...way, toFormat: 0, requireInToken: true }), 'ERR_HOST_DECIPHER')
  // A replacement card, with another PAN.
  const moved = await rePanPinBlock({ ...way, newPan: PAN, toFormat: 0 })
  expect(await decoded(moved, PAN.reveal(), 0, back)).toBe(pinOf(pan))
}

/** Blocks under keys that nobody deciphers with: moved, and verified, without a look. */
async function insideOn(options: Options, can: boolean): Promise<void> {
  const closed = (kid: string, material: string) =>
    ({ kid, material, usage: 'pin-encryption', translation: true }) as const
  await using backend = await withKeys(
    options,
    can ? [closed('ZPK', ZPK), closed('STORE', SWITCH_2)] : [pinKey('ZPK', ZPK), pinKey('STORE', SWITCH_2)],
  )
  expect(backend.capabilities().reencipher).toBe(can ? 'inside' : 'host')
  const bind = (kid: string) => backend.bind({ kid, usage: 'pin-encryption' })
  const [zpk, store] = [await bind('ZPK'), await bind('STORE')]
  const typed = (pin: string) => encipherPin({ pin: Pin.from(pin), pan: PAN, format: 0, key: zpk })
  const way = { pan: PAN, fromFormat: 0, toFormat: 0, from: zpk, to: store, requireInToken: true } as const
  const move = async () => translatePinBlock({ ...way, block: await typed('2846') })
  if (!can) {
    await failure(move, 'ERR_HOST_DECIPHER')
    return
  }
  const stored = await move()
  await using elsewhere = await softwareBackend({
    keys: [{ kid: 'S', usage: 'pin-encryption', algorithm: 'tdea-2key', material: SWITCH_2 }],
  })
  expect(await decoded(stored, PAN.reveal(), 0, await open(elsewhere, 'S'))).toBe('2846')
  const blocks = [{ block: await typed('98765'), pan: PAN }]
  const { pan: _, ...keys } = way
  const [many] = await translatePinBlocks({ ...keys, blocks })
  expect(many?.ok && (await decoded(many.block, PAN.reveal(), 0, await open(elsewhere, 'S')))).toBe('98765')
  const counter = new TryCounter({
    store: memoryStore(),
    products: { debit: { limit: 2, afterSuccess: 'reset' } },
  })
  const tries = { counter, cardId: 'card-1', product: 'debit' }
  const against = { kind: 'block', block: stored, format: 0, key: store } as const
  const verified = async (pin: string) =>
    verifyPinBlock({
      block: await typed(pin),
      pan: PAN,
      format: 0,
      from: zpk,
      against,
      tries,
      requireInToken: true,
    })
  expect(await verified('2847')).toEqual({ verified: false, blocked: false, triesLeft: 1 })
  expect(await verified('2846')).toEqual({ verified: true, blocked: false, triesLeft: 2 })
  // A clear block would be needed for these.
  for (const toFormat of [3, 4] as const)
    await failure(
      async () => translatePinBlock({ ...way, toFormat, block: await typed('2846') }),
      toFormat === 4 ? 'ERR_KEY_ALGORITHM' : 'ERR_HOST_DECIPHER',
    )
  await failure(
    async () => decipherPin({ block: await typed('2846'), pan: PAN, format: 0, key: zpk }),
    'ERR_HOST_DECIPHER',
  )
}

const TOKENS = [
  ['SoftHSM', describeSoftHsm, () => makeToken('pin'), false],
  ['NSS', describeNss, makeDatabase, true],
] as const

for (const [name, describeToken, make, inside] of TOKENS) {
  describeToken(`PIN verbs on ${name}`, () => {
    const options: Options = make()

    test('every case of the corpus, formats 0 to 4', async () => {
      const { wrong, right, without } = await formatsOn(options)
      expect(wrong).toEqual([])
      console.log(`${name}: ${right} cases of formats 0, 1, 3 and 4 agree; in ${without} no key has a part`)
      expect(right).toBeGreaterThan(500)
    })

    test('every case of Visa PVV and IBM 3624', async () => {
      expect(await valuesOn(options, 'visa-pvv', 'visa_pvv')).toBe(8)
      expect(await valuesOn(options, 'ibm-3624', 'ibm_3624')).toBe(19)
    })

    test('a switch’s ZPK: from its key block to format 4 at rest, verified, and back', () =>
      switchFlow(options))

    test(
      inside
        ? 'requireInToken: format 0 blocks are moved and verified under keys that decipher nothing'
        : 'requireInToken is refused where the token re-enciphers nothing inside',
      () => insideOn(options, inside),
    )
  })
}

describeSoftHsm('verification in a child process', () => {
  const options = makeToken('child')
  let backend: Backend
  beforeAll(async () => {
    const keys = [
      pinKey('ZPK', ZPK),
      pinKey('AES', STORAGE),
      { kid: 'PVK', usage: 'visa-pvv', material: PVK } as const,
    ]
    await (await withKeys(options, keys)).close()
    backend = await openPkcs11({ ...options, executor: 'process' }, undefined, {
      starter: starterFromSources(),
    })
  })
  afterAll(() => backend.close())

  test('gives the verdict and no block', async () => {
    const [zpk, aes] = [await open(backend, 'ZPK'), await open(backend, 'AES')]
    const key = await backend.bind({ kid: 'PVK', usage: 'visa-pvv', pinValue: { pvki: 1 } })
    const typed = (pin: string) => encipherPin({ pin: Pin.from(pin), pan: PAN, format: 0, key: zpk })
    const kept = await encipherPin({ pin: Pin.from('2846'), pan: PAN, format: 4, key: aes })
    const block = await typed('2846')
    const pvv = await generatePvv({ block, pan: PAN, format: 0, from: zpk, key })
    for (const against of [
      { kind: 'block', block: kept, format: 4, key: aes },
      { kind: 'pvv', pvv, key },
    ] as const) {
      const given = { pan: PAN, format: 0, from: zpk, against, tries: 'counted-elsewhere' } as const
      expect((await verifyPinBlock({ ...given, block })).verified).toBe(true)
      expect((await verifyPinBlock({ ...given, block: await typed('2848') })).verified).toBe(false)
      await failure(() => verifyPinBlock({ ...given, block: new Uint8Array(8) }), 'ERR_PIN_BLOCK')
    }
  })
})
