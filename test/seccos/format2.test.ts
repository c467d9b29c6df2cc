/**
 * Format 2: eight kinds of scheme, each against samples that another program computed, byte by byte; what it refuses, and
 * at which entry; and that a PIN can be verified with what is kept of a Set PIN.
 */
import { createCipheriv, createHash } from 'node:crypto'
import { Ajv } from 'ajv'
import { describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { ProfileError } from '../../src/base/errors.js'
import { Pan } from '../../src/primitives/pan.js'
import { Pin } from '../../src/primitives/pin.js'
import { resultOf } from '../../src/seccos/computation.js'
import {
  buildDataSet,
  dataSetFromHex,
  dataSetToHex,
  maskDataSet,
  readDataSet,
  unmaskDataSet,
} from '../../src/seccos/data-set.js'
import { neededToVerify, remarksOn, uncoveredBy } from '../../src/seccos/profile/coverage.js'
import { partOfValue } from '../../src/seccos/profile/encoding.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import schema from '../../src/seccos/profile/profile.schema.json' with { type: 'json' }
import { computePrw, generatePrwMac, verifyPrw, verifyPrwMac } from '../../src/seccos/prw.js'
import { softwareBackend } from '../../src/software.js'
import { readPrw } from '../../src/stores/records.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { keyMaterial, keysFor, OTHER_PAN, OTHER_PIN, PAN_DIGITS } from './fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from './schemes.js'

const TAG = { encoding: 'ascii', align: 'exact' }
const PRW_INPUT = { input: 'prw', form: 'binary' }
const PAN_19 = '6799998900000060018'
type Scheme = keyof typeof SCHEMES
type Prw = { readonly prw: object }
const NAMES = Object.keys(SCHEMES) as Scheme[]

describe.each(NAMES)('%s', name => {
  const profile = parseProfile(SCHEMES[name])

  test('is read, and is plain data that reads again', () => {
    expect(parseProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile)
    expect(profile).toEqual(SCHEMES[name])
  })

  test.each(SAMPLES[name])('makes data set, PRW and MAC as the other program did ($pan)', async sample => {
    const values = valuesOf(name, sample)
    const { generate, verify, mac } = await keysFor(profile)
    const masked = maskDataSet({ profile, full: buildDataSet({ profile, ...values }) })
    expect(dataSetToHex(masked)).toBe(sample.prwDataSet)
    const made = await computePrw({ key: generate, profile, ...values })
    expect(made.prwValue).toBe(sample.prwValue)
    const { pin, ...known } = values
    const given = { ...known, profile, dataSet: masked, prwValue: made.prwValue }
    const { macValue } = await generatePrwMac({ key: mac, ...given })
    expect(macValue).toBe(sample.macValue)
    expect(await verifyPrwMac({ key: mac, ...given, macValue })).toMatchObject({ verified: true })

    const check = (more: object) => verifyPrw({ key: verify, ...given, pin, ...more })
    expect(await check({})).toMatchObject({ verified: true })
    expect(await check({ pin: OTHER_PIN })).toMatchObject({ verified: false })
  })

  test('changes its verdict with every byte that it covers', async () => {
    const [sample = expect.unreachable()] = SAMPLES[name]
    const { pin: _, ...values } = valuesOf(name, sample)
    const { mac } = await keysFor(profile)
    const uncovered = uncoveredBy({ profile, computation: 'mac' })
    let changed = 0
    for (const field of profile.fields) {
      if ('constant' in field || field.masked !== false || uncovered.includes(field.id)) continue
      for (let at = field.offset; at < field.offset + field.length; at++) {
        const dataSet = dataSetFromHex(sample.prwDataSet)
        dataSet[at] = (dataSet[at] ?? 0) ^ 1
        const { prwKid, issuerId } = values
        const fields = name === 'external' ? { cdp: values.fields.cdp ?? '', cdt: sample.cdt } : {}
        const verdict = await verifyPrwMac({
          key: mac,
          profile,
          dataSet,
          prwValue: sample.prwValue,
          macValue: sample.macValue,
          pan: values.pan,
          prwKid,
          issuerId,
          fields,
        }).then(
          ({ verified }) => verified,
          error => error.code,
        )
        expect([false, 'ERR_DATA_SET']).toContain(verdict)
        changed++
      }
    }
    expect(changed).toBeGreaterThan(name === 'parts' ? -1 : 30)
    const other = verifyPrwMac({
      key: mac,
      profile,
      ...values,
      dataSet: dataSetFromHex(sample.prwDataSet),
      prwValue: sample.prwValue,
      macValue: sample.macValue,
      pan: OTHER_PAN,
    })
    // Only one of them has (a part of) the PAN under its MAC.
    expect((await other).verified).toBe(name !== 'parts')
  })
})

/** One value of a sample changed, by the name that the profile's coverage gives it. */
const OTHER_VALUES: readonly (readonly [
  covered: string,
  change: (values: ReturnType<typeof valuesOf>) => object,
])[] = [
  ['pan', () => ({ pan: OTHER_PAN })],
  ['pinBlock', () => ({ pin: OTHER_PIN })],
  ['pcc', () => ({ pcc: '5718' })],
  ['intdatag', () => ({ intdatag: 'another-tag-12345678' })],
  ['random', ({ random }) => ({ random: random.map((byte, i) => (i === 7 ? byte ^ 1 : byte)) })],
  ['prwKid', () => ({ prwKid: 'PRW-KEZ' })],
  ['issuerId', () => ({ issuerId: 'is_tbank02' })],
  ['psn', ({ fields }) => ({ fields: { ...fields, psn: '09' } })],
  ['cdp', ({ fields }) => ({ fields: { ...fields, cdp: Uint8Array.of(1, 2) } })],
  ['cdt', ({ fields }) => ({ fields: { ...fields, cdt: '9912' } })],
]

describe.each(NAMES)('the PRW of %s', name => {
  const profile = parseProfile(SCHEMES[name])
  const uncovered = uncoveredBy({ profile, computation: 'prw' })
  const has = new Set(profile.fields.map(({ id }) => id).concat((profile.external ?? []).map(({ id }) => id)))
  const open = [
    ...(name === 'external' ? ['prwKid', 'issuerId'] : []),
    'pan',
    'pinBlock',
    'pcc',
    'intdatag',
    'random',
  ]
  const rows = OTHER_VALUES.filter(([covered]) => open.includes(covered) || has.has(covered))

  test.each(rows)(
    'over another %s: another, unless the profile lists it as left out',
    async (covered, change) => {
      const [sample = expect.unreachable()] = SAMPLES[name]
      const values = valuesOf(name, sample)
      const { generate, verify } = await keysFor(profile)
      const other = await computePrw({ key: generate, profile, ...values, ...change(values) })
      // Listed as left out by the inputs, it still goes in: into the derived key, or as filler of a PIN form.
      const byAnotherDoor = { derived: 'pan', forms: 'random' } as Partial<Record<Scheme, string>>
      const taken = !uncovered.includes(covered) || byAnotherDoor[name] === covered
      expect(other.prwValue !== sample.prwValue).toBe(taken)
      if (covered === 'pinBlock' || !taken) return
      const given = { key: verify, profile, pin: values.pin, prwValue: sample.prwValue }
      const verdict = await verifyPrw({ ...given, ...values, ...change(values), dataSet: other.dataSet })
      expect(verdict).toMatchObject({ verified: false })
    },
  )
})

const slice = (from: string, skip: number, take: number) => ({ step: 'slice', part: { from, skip, take } })

/** A scheme with some entries changed, by JSON pointer. */
function changed(name: Scheme, changes: Readonly<Record<string, unknown>>): unknown {
  const json = structuredClone(SCHEMES[name]) as unknown
  for (const [path, value] of Object.entries(changes)) {
    const names = path.split('/').slice(1)
    const last = names.pop() ?? ''
    let at = json as Record<string, unknown>
    for (const member of names) at = at[member] as Record<string, unknown>
    if (value === undefined) delete at[last]
    else at[last] = value
  }
  return json
}

test.each(NAMES)('%s: what is computed with the key is wiped, a digest of it, too', async name => {
  const profile = parseProfile(SCHEMES[name])
  const [sample] = SAMPLES[name]
  if (sample === undefined) return expect.unreachable()
  const values = valuesOf(name, sample)
  const { generate, mac } = await keysFor(profile)
  const seen: Uint8Array[] = []
  for (const key of [generate, mac]) {
    const operations = operationsOf(key)
    const run = operations.mac.bind(operations)
    vi.spyOn(operations, 'mac').mockImplementation(async (request, message, options) => {
      seen.push(message)
      return run(request, message, options)
    })
  }
  const { pin: _, ...known } = values
  const dataSet = maskDataSet({ profile, full: buildDataSet({ profile, ...values }) })
  const { prwValue } = await computePrw({ key: generate, profile, ...values })
  await generatePrwMac({ key: mac, ...known, profile, dataSet, prwValue })
  expect(seen.length).toBeGreaterThanOrEqual(2)
  for (const message of seen) expect(message.every(byte => byte === 0)).toBe(true)
})

describe('a profile that does not hold', () => {
  test.each<[string, Scheme, string, Record<string, unknown>]>([
    [
      'HMAC under a derived key',
      'keyed',
      '/prw/derivation',
      { '/prw/derivation': [{ method: 'xor', mask: '01'.repeat(32) }] },
    ],
    [
      'HMAC over what is enciphered',
      'keyed',
      '/prw/inputs/1',
      {
        '/prw/inputs/1': {
          input: 'enciphered',
          mode: 'ecb',
          iv: 'none',
          padding: 1,
          inputs: [{ input: 'pinBlock' }],
        },
      },
    ],
    ['format 2 in format 1', 'derived', '/prw/derivation', { '/profileFormat': 1 }],
    ['a part in format 1', 'parts', '/fields/0/masked', { '/profileFormat': 1 }],
    ['a digest in format 1', 'hashed', '/prw/digest', { '/profileFormat': 1 }],
    [
      'an external value that is not declared',
      'external',
      '/prw/inputs/1/id',
      { '/prw/inputs/1/id': 'none' },
    ],
    ['an external value twice', 'external', '/external/1/id', { '/external/1/id': 'cdp' }],
    ['an external value by a reserved name', 'external', '/external/0/id', { '/external/0/id': 'pan' }],
    ['an external value by the name of a PRW', 'external', '/external/1/id', { '/external/1/id': 'prw' }],
    ['text as bytes', 'external', '/prw/inputs/2/encoding', { '/prw/inputs/2/encoding': 'binary' }],
    [
      'no random number to derive from',
      'outputs',
      '/prw/iv/inputs/0',
      {
        '/randomBytes': 0,
        '/fields/3': { id: 'own', offset: 13, length: 8, constant: '00'.repeat(8) },
      },
    ],
    [
      'a derivation that is too short',
      'derived',
      '/prw/derivation/0/inputs',
      { '/prw/derivation/0/inputs': [] },
    ],
    [
      'a diversifier of another length',
      'derived',
      '/prw/derivation/1/inputs',
      { '/prw/derivation/1/inputs/3/constant': '0F' },
    ],
    [
      'a complement where the key has one block',
      'derived',
      '/mac/derivation/0/complement',
      {
        '/mac/derivation/0': {
          method: 'encipher',
          inputs: [{ input: 'field', id: 'psn' }],
          complement: true,
        },
      },
    ],
    ['a mask of another length', 'derived', '/mac/derivation/1/mask', { '/mac/derivation/1/mask': 'C0' }],
    [
      'a mask that changes nothing',
      'derived',
      '/mac/derivation/1/mask',
      { '/mac/derivation/1/mask': '00'.repeat(16) },
    ],
    [
      'a cycle: a PRW key out of the PRW',
      'derived',
      '/prw/derivation/0/inputs/1',
      { '/prw/derivation/0/inputs/1': PRW_INPUT },
    ],
    [
      'a MAC key out of the PIN',
      'derived',
      '/mac/derivation/0/inputs/0',
      { '/mac/derivation/0/inputs/0': { input: 'pinBlock' } },
    ],
    ['a mask beyond its field', 'parts', '/fields/0/masked/length', { '/fields/0/masked/length': 16 }],
    [
      'a mask that hides too little of the PAN',
      'parts',
      '/fields/0/masked/length',
      { '/fields/0/masked/length': 5 },
    ],
    [
      'a mask that hides what is behind a short PAN',
      'parts',
      '/fields/0/masked/length',
      { '/fields/0/masked': { offset: 14, length: 6, fill: '0' } },
    ],
    [
      'a mask that hides what is in front of a short PAN',
      'parts',
      '/fields/0/masked/length',
      { '/fields/0/align': 'right', '/fields/0/masked': { offset: 0, length: 8, fill: '0' } },
    ],
    [
      'two masks, of which one shows what the other hides',
      'parts',
      '/fields/1/masked/length',
      { '/fields/1/masked': { offset: 0, length: 6, fill: 'F' } },
    ],
    [
      'the same, the other way round',
      'parts',
      '/fields/1/masked/length',
      {
        '/fields/1/part': { from: 'left', skip: 0, take: 12 },
        '/fields/1/masked': { offset: 0, length: 6, fill: 'F' },
      },
    ],
    [
      'half of a PIN length in the clear',
      'parts',
      '/fields/1/masked/length',
      {
        '/fields/1/value': 'pinLength',
        '/fields/1/part': undefined,
        '/fields/1/masked': { offset: 0, length: 6, fill: 'F' },
      },
    ],
    [
      'a value of its own as a number',
      'parts',
      '/fields/1/encoding',
      {
        '/fields/1': {
          id: 'expiry',
          offset: 10,
          length: 6,
          encoding: 'binary-le',
          align: 'exact',
          masked: false,
        },
      },
    ],
    [
      'a PIN of more digits than there are',
      'forms',
      '/prw/inputs/1/pinForm/length',
      { '/prw/inputs/1/pinForm': { digits: 'ascii', length: 13, align: 'exact' } },
    ],
    [
      'a digest for a key of two parts without a complement',
      'derived',
      '/prw/derivation/0/complement',
      { '/prw/derivation/0/digest': 'sha-1', '/prw/derivation/0/complement': undefined },
    ],
    [
      'a digest that gives one block of the two that the key takes',
      'derived',
      '/prw/derivation/0/complement',
      { '/prw/derivation/0/digest': 'sha-1', '/prw/derivation/0/complement': false },
    ],
    [
      'an encipherment of more than 4096 bytes',
      'hashed',
      '/prw/inputs/1',
      {
        '/prw/inputs/1/inputs': Array.from({ length: 17 }, () => ({
          input: 'constant',
          constant: '00'.repeat(255),
        })),
      },
    ],
    [
      'an unknown field inside an encipherment',
      'hashed',
      '/prw/inputs/1/inputs/0/id',
      { '/prw/inputs/1/inputs/0': { input: 'field', id: 'nowhere' } },
    ],
    [
      'a part of a field beyond its end',
      'derived',
      '/prw/derivation/0/inputs/1/part',
      { '/prw/derivation/0/inputs/1/part': { from: 'left', skip: 1, take: 1 } },
    ],
    ['an iv for ECB inside', 'hashed', '/prw/inputs/1/iv', { '/prw/inputs/1/iv': '00'.repeat(8) }],
    ['no iv for CBC inside', 'hashed', '/prw/inputs/1/iv', { '/prw/inputs/1/mode': 'cbc' }],
    [
      'an ICV that is enciphered',
      'outputs',
      '/prw/iv/inputs/0',
      {
        '/prw/iv/inputs/0': {
          input: 'enciphered',
          mode: 'ecb',
          iv: 'none',
          padding: 1,
          inputs: [{ input: 'random' }],
        },
      },
    ],
    ['a PAN in the clear', 'parts', '/fields/1/masked', { '/fields/1/masked': false }],
    ['a mask that hides nothing', 'parts', '/fields/0/masked/length', { '/fields/0/masked/length': 0 }],
    [
      'a derived key from a field that is not there',
      'derived',
      '/prw/derivation/0/inputs/1/id',
      { '/prw/derivation/0/inputs/1/id': 'expiry' },
    ],
    [
      'a derived key from an external value that is not there',
      'derived',
      '/mac/derivation/0/inputs/1/id',
      {
        '/mac/derivation/0/inputs/1': {
          input: 'external',
          id: 'cdp',
          length: 1,
          encoding: 'binary',
          align: 'exact',
        },
      },
    ],
    ['a part that is not there', 'parts', '/mac/inputs/1/part/skip', { '/mac/inputs/1/part/skip': 12 }],
    ['a slice beyond the PRW', 'parts', '/mac/inputs/2/part', { '/mac/inputs/2/part/take': 13 }],
    ['a part of a number', 'parts', '/fields/2/part', { '/fields/2/part': { from: 'left', skip: 0 } }],
    ['an id that contradicts the value', 'parts', '/fields/2/value', { '/fields/2/value': 'pan' }],
    ['half of an encipherment', 'enciphered', '/prw/outputBytes', { '/prw/outputBytes': 16 }],
    [
      'a first block of CBC',
      'enciphered',
      '/prw/outputBytes',
      {
        '/prw/output': [slice('left', 0, 16)],
        '/prw/outputBytes': 16,
      },
    ],
    ['a MAC by encipherment', 'enciphered', '/mac/algorithm', { '/mac/algorithm': 'aes-ecb' }],
    ['an iv of half a block', 'enciphered', '/prw/iv', { '/prw/iv': '0'.repeat(16) }],
    ['no iv', 'enciphered', '/prw/iv', { '/prw/iv': 'none' }],
    ['an iv for CMAC', 'hashed', '/prw/iv', { '/prw/iv': '0'.repeat(16) }],
    [
      'an encipherment in an encipherment',
      'hashed',
      '/prw/inputs/1/inputs/0',
      {
        '/prw/inputs/1/inputs/0': {
          input: 'enciphered',
          mode: 'ecb',
          iv: 'none',
          padding: 1,
          inputs: [{ input: 'pinBlock' }],
        },
      },
    ],
    [
      'a MAC key that enciphers',
      'hashed',
      '/mac/inputs/0',
      {
        '/mac/inputs/0': {
          input: 'enciphered',
          mode: 'ecb',
          iv: 'none',
          padding: 1,
          inputs: [{ input: 'random' }],
        },
      },
    ],
    ['digits without decimalise', 'outputs', '/mac/text', { '/mac/text': 'digits' }],
    ['decimalise without digits', 'outputs', '/prw/text', { '/prw/text': 'hex-upper' }],
    ['more digits than there are', 'outputs', '/prw/output/1/digits', { '/prw/output/1/digits': 9 }],
    ['a slice of more than there is', 'outputs', '/mac/output/0/part', { '/mac/output/0/part/take': 9 }],
    ['another length than the steps give', 'outputs', '/mac/outputBytes', { '/mac/outputBytes': 4 }],
    [
      'a MAC longer than D1 admits',
      'outputs',
      '/mac/outputBytes',
      {
        '/mac/output/0/part/take': 5,
        '/mac/outputBytes': 5,
      },
    ],
    [
      'a fold of what does not halve',
      'outputs',
      '/prw/output/1/step',
      { '/prw/output': [slice('left', 0, 7), { step: 'fold' }] },
    ],
    [
      'a fold of another kind',
      'outputs',
      '/prw/output/0/part',
      { '/prw/output/0': { step: 'fold', part: { from: 'left', skip: 0, take: 8 } } },
    ],
    [
      'a fold after decimalise',
      'outputs',
      '/prw/output/1/step',
      {
        '/prw/output': [{ step: 'decimalise', digits: 8, table: 'scan' }, { step: 'fold' }],
      },
    ],
    ['a filler that there is not', 'forms', '/pinBlock/filler', { '/randomBytes': 7 }],
    [
      'format 3 filled with a numeral',
      'forms',
      '/prw/inputs/2/pinForm/filler',
      { '/prw/inputs/2/pinForm/filler': '1' },
    ],
    ['a PIN form for what is no PIN', 'forms', '/fields/1/pinForm', { '/fields/1/pinForm': 'digits-bcd' }],
    [
      'digits that no PIN fits',
      'forms',
      '/prw/inputs/1/pinForm/length',
      {
        '/prw/inputs/1/pinForm': { digits: 'ascii', length: 3, align: 'exact' },
      },
    ],
    [
      'a pinLength that no PIN fits',
      'external',
      '/prw/inputs/3/align',
      {
        '/prw/inputs/3': { input: 'pinLength', length: 2, encoding: 'ascii', align: 'exact' },
      },
    ],
  ])('%s', (_what, name, path, changes) => {
    expect(() => parseProfile(changed(name, changes))).toThrow(
      expect.objectContaining({ code: 'ERR_PROFILE', path }),
    )
  })
})

describe('what is stored suffices to verify', () => {
  test('a random number that is masked and in the PRW would be gone', () => {
    const json = changed('external', {
      '/fields/3/masked': true,
      '/mac/uncovered': ['pan', 'pinBlock', 'cdp', 'cdt', 'random'],
    })
    const error = new ProfileError(
      '/prw/inputs/5',
      'takes the random number, which no unmasked field shows: nobody could verify a PIN',
    )
    expect(() => parseProfile(json)).toThrow(error)
  })

  test('nor is the name of the MAC key kept', () => {
    const kid = { input: 'macKid', length: 128, encoding: 'ascii', align: 'left', pad: '00' }
    const json = changed('external', {
      '/prw/inputs/0': kid,
      '/prw/uncovered': ['pan', 'pcc', 'intdatag', 'psn', 'prwKid', 'issuerId'],
      '/mac/uncovered': ['pan', 'pinBlock', 'cdp', 'cdt', 'macKid'],
    })
    expect(() => parseProfile(json)).toThrow(expect.objectContaining({ path: '/prw/inputs/0' }))
  })

  test('an intdatag that no data set shows is to be stored; the issuer’s own values it must know', () => {
    expect(neededToVerify(parseProfile(SCHEMES.external))).toEqual({
      stored: [],
      fields: ['cdp', 'cdt'],
      issuerId: false,
    })
    const tag = { input: 'intdatag', length: 20, ...TAG }
    const json = changed('enciphered', {
      '/prw/algorithm': 'cmac-aes',
      '/prw/padding': 'none',
      '/prw/iv': 'none',
      '/prw/outputBytes': 16,
      '/prw/inputs': [{ input: 'pinBlock' }, tag, { input: 'issuerId', length: 10, ...TAG }],
      '/prw/uncovered': ['pan', 'pcc', 'random', 'psn'],
      '/mac/uncovered': ['pan', 'pinBlock', 'issuerId', 'intdatag'],
      '/fields/4': { id: 'own', offset: 21, length: 20, constant: '00'.repeat(20) },
    })
    expect(neededToVerify(parseProfile(json))).toEqual({ stored: ['intdatag'], fields: [], issuerId: true })
  })
})

test('remarks: a MAC that tells no old message from a new one, and characters that EBCDIC lacks', () => {
  expect(remarksOn(parseProfile(SCHEMES.derived))).toEqual([])
  const [remark] = remarksOn(parseProfile(SCHEMES.parts))
  expect(remark).toMatchObject({
    path: '/mac/inputs',
    text: expect.stringMatching(/^covers neither the PCC nor/),
  })
  const [, lacking] = remarksOn(parseProfile(changed('parts', { '/fields/3/encoding': 'ebcdic' })))
  expect(lacking).toMatchObject({ path: '/fields/3/encoding' })
  expect(lacking?.text).toMatch(/^ebcdic lacks !#\$@/)
  // Of each input of both computations.
  const issuerId = { input: 'issuerId', length: 10, encoding: 'ebcdic', align: 'exact' }
  const both = changed('external', {
    '/prw/inputs/5': issuerId,
    '/prw/uncovered': ['pcc', 'intdatag', 'random', 'psn', 'prwKid'],
  })
  expect(remarksOn(parseProfile(both)).map(({ path }) => path)).toEqual([
    '/prw/inputs/5/encoding',
    '/mac/inputs/2/encoding',
  ])
})

const ONE_PIN = {
  '/prw/inputs': [{ input: 'pinBlock' }],
  '/prw/uncovered': ['pan', 'pcc', 'intdatag', 'random', 'psn'],
}
const PIN_AND = (constant: number, part: object) => ({
  ...ONE_PIN,
  '/prw/inputs': [
    { input: 'constant', constant: '00'.repeat(constant) },
    { input: 'pinBlock' },
    { input: 'random', part: { from: 'left', ...part } },
  ],
})

/** What is as long as it should be, or hidden as it should be. */
test.each<[string, Readonly<Record<string, unknown>>]>([
  ['the last block of CBC', { '/prw/output': [slice('right', 0, 16)], '/prw/outputBytes': 16 }],
  ['a digest of 20 bytes, enciphered', { ...ONE_PIN, '/prw/digest': 'sha-1', '/prw/outputBytes': 32 }],
  [
    'a digest of 32, enciphered',
    { ...ONE_PIN, '/prw/padding': 1, '/prw/digest': 'sha-256', '/prw/outputBytes': 32 },
  ],
  [
    '15 bytes with three of a part, enciphered',
    { ...PIN_AND(4, { skip: 2, take: 3 }), '/prw/outputBytes': 16 },
  ],
  [
    '16 bytes with three of a part, enciphered',
    { ...PIN_AND(5, { skip: 2, take: 3 }), '/prw/outputBytes': 32 },
  ],
  ['15 bytes with a part to the end, enciphered', { ...PIN_AND(4, { skip: 5 }), '/prw/outputBytes': 16 }],
  ['16 bytes with a part to the end, enciphered', { ...PIN_AND(5, { skip: 5 }), '/prw/outputBytes': 32 }],
  [
    'a mask over half of what is no secret',
    { '/fields/1/masked': { offset: 0, length: 1, fill: '0' }, '/mac/uncovered': ['pan', 'pinBlock', 'psn'] },
  ],
  [
    'a mask over all of a PIN',
    {
      '/fields/5': {
        id: 'pinBlock',
        offset: 41,
        length: 8,
        encoding: 'binary',
        align: 'exact',
        masked: { offset: 0, length: 8, fill: 'FF' },
      },
      '/fields/6': { id: 'filler', offset: 49, length: 74, constant: '00'.repeat(74) },
    },
  ],
])('%s: the profile is taken', (_what, changes) => {
  expect(() => parseProfile(changed('enciphered', changes))).not.toThrow()
})

test('decimalised by a scan, the digits come first, in their order, and then those from A on less ten', () => {
  const scanned = (hex: string, digits: number): string => {
    const output = [{ step: 'decimalise', digits, table: 'scan' }] as const
    const computation = { ...parseProfile(SCHEMES.outputs).prw, output }
    return Buffer.from(resultOf(computation, Uint8Array.from(Buffer.from(hex, 'hex')))).toString()
  }
  expect(scanned('a1f20b3c', 4)).toBe('1203')
  expect(scanned('a1f20b3c', 8)).toBe('12030512')
  expect(scanned('ffffffff', 3)).toBe('555')
})

test('of a value that is shorter than what is skipped there is no part, from either side', () => {
  const value = Uint8Array.from({ length: 10 }, (_, i) => i)
  for (const from of ['left', 'right'] as const) {
    expect(partOfValue(value, { from, skip: 13, take: 2 })).toBeUndefined()
    expect(partOfValue(value, { from, skip: 10 })).toEqual(new Uint8Array(0))
  }
  expect(partOfValue(value, { from: 'right', skip: 9, take: 2 })).toEqual(Uint8Array.of(0))
})

/** EMV book 2, A1.4.2, without this library: the hash, its decimal digits first, then those of A to F as 0 to 5. */
function optionB(imk: Buffer, pan: string, psn: string): Buffer {
  const data = Buffer.from(`${pan}${psn}`.padStart(2 * Math.ceil((pan.length + 2) / 2), '0'), 'hex')
  const hash = createHash('sha1').update(data).digest('hex')
  const letters = [...hash].filter(digit => digit > '9').map(digit => Number.parseInt(digit, 16) - 10)
  const y = Buffer.from(`${hash.replace(/[a-f]/g, '')}${letters.join('')}`.slice(0, 16), 'hex')
  const cipher = createCipheriv('des-ede3', Buffer.concat([imk, imk.subarray(0, 8)]), null).setAutoPadding(
    false,
  )
  return cipher.update(Buffer.concat([y, y.map(byte => byte ^ 0xff)]))
}

describe('what the schemes of the samples leave out', () => {
  test('option B of EMV: a key derived from a hash that is decimalised', async () => {
    const [sample = expect.unreachable()] = SAMPLES.derived
    const values = { ...valuesOf('derived', sample), pan: Pan.from(PAN_19) }
    const derivation = [
      {
        method: 'encipher',
        digest: 'sha-1',
        inputs: [
          { input: 'constant', constant: '06' },
          {
            input: 'pan',
            length: 9,
            encoding: 'bcd',
            align: 'exact',
            part: { from: 'right', skip: 0, take: 18 },
          },
          { input: 'field', id: 'psn', part: { from: 'left', skip: 0, take: 1 } },
        ],
        complement: true,
      },
    ]
    const profile = parseProfile(changed('derived', { '/prw/derivation': derivation }))
    expect(parseProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile)
    const { generate } = await keysFor(profile)
    const made = await computePrw({ key: generate, profile, ...values })

    const plain = parseProfile(changed('derived', { '/prw/derivation': undefined }))
    const imk = Buffer.from(keyMaterial('tdea16', 0).material, 'hex')
    const material = optionB(imk, PAN_19, sample.psn)
    for (let i = 0; i < material.length; i++) {
      const byte = material[i] ?? expect.unreachable()
      const ones = byte.toString(2).replaceAll('0', '').length
      material[i] = ones % 2 === 1 ? byte : byte ^ 1
    }
    const backend = await softwareBackend({
      keys: [{ kid: 'derived', usage: 'prw-generate', algorithm: 'tdea-2key', material }],
    })
    const key = await backend.bind({ kid: 'derived', usage: 'prw-generate' })
    expect(made.prwValue).toBe((await computePrw({ key, profile: plain, ...values })).prwValue)
    expect(made.prwValue).not.toBe((await computePrw({ key: generate, profile: plain, ...values })).prwValue)
  })

  test('an input that is enciphered in CBC: with an IV of zeros one block is that of ECB, with another it is not', async () => {
    const [sample = expect.unreachable()] = SAMPLES.hashed
    const values = valuesOf('hashed', sample)
    const made = async (iv: string) => {
      const profile = parseProfile(changed('hashed', { '/prw/inputs/1/mode': 'cbc', '/prw/inputs/1/iv': iv }))
      const { generate: key } = await keysFor(profile)
      return (await computePrw({ key, profile, ...values })).prwValue
    }
    expect(await made('00'.repeat(8))).toBe(sample.prwValue)
    expect(await made('0000000000000001')).not.toBe(sample.prwValue)
  })

  test('the whole data set inside an encipherment covers what it holds; a part of a value covers nothing', () => {
    const inside = { input: 'enciphered', mode: 'ecb', iv: 'none', padding: 1 }
    const whole = changed('hashed', {
      '/prw/inputs/1/inputs': [{ input: 'dataSet.full' }, { input: 'pinBlock' }],
    })
    expect(() => parseProfile(whole)).toThrow(expect.objectContaining({ path: '/prw/uncovered' }))
    expect(
      parseProfile({ ...(whole as object), prw: { ...(whole as Prw).prw, uncovered: [] } }).prw.uncovered,
    ).toEqual([])

    const first = { from: 'left', skip: 0, take: 1 }
    const partly = changed('external', {
      '/prw/inputs/1/part': first,
      '/prw/inputs/6': { input: 'field', id: 'psn', part: first },
      '/prw/inputs/1/length': 1,
    })
    expect(() => parseProfile(partly)).toThrow(expect.objectContaining({ path: '/prw/uncovered' }))
    const uncovered = ['pcc', 'intdatag', 'psn', 'prwKid', 'issuerId', 'cdp']
    expect(
      parseProfile({ ...(partly as object), prw: { ...(partly as Prw).prw, uncovered } }).prw.uncovered,
    ).toEqual(uncovered)
    // A part of the PRW as text, of the PIN block, and of a field within an encipherment.
    const rest = parseProfile(
      changed('hashed', {
        '/prw/inputs/1': {
          ...inside,
          inputs: [{ input: 'pinBlock', part: { from: 'left', skip: 5 } }, { input: 'pinBlock' }],
        },
        '/mac/inputs/2': { input: 'prw', form: 'text', part: { from: 'left', skip: 15 } },
      }),
    )
    expect(rest.mac.inputs[2]).toEqual({ input: 'prw', form: 'text', part: { from: 'left', skip: 15 } })
    const beyond = changed('hashed', {
      '/mac/inputs/2': { input: 'prw', form: 'text', part: { from: 'left', skip: 16 } },
    })
    expect(() => parseProfile(beyond)).toThrow(expect.objectContaining({ path: '/mac/inputs/2/part' }))
  })

  test.each([
    ['pcc', { encoding: 'ascii', length: 4 }],
    ['random', { encoding: 'binary', length: 8 }],
  ] as const)('a value that two fields hold must be the same in both: %s', (value, how) => {
    const again = { id: 'again', value, offset: 41, align: 'exact', masked: false, ...how }
    const end = 41 + how.length
    const filler = { id: 'filler', offset: end, length: 123 - end, constant: '00'.repeat(123 - end) }
    const profile = parseProfile(
      changed('derived', {
        '/fields/5': again,
        '/fields/6': filler,
        '/mac/uncovered': ['pan', 'pinBlock'],
      }),
    )
    const [sample = expect.unreachable()] = SAMPLES.derived
    const dataSet = maskDataSet({ profile, full: buildDataSet({ profile, ...valuesOf('derived', sample) }) })
    expect(readDataSet({ profile, dataSet })).toMatchObject({ pcc: sample.pcc })
    // Another digit, and another byte.
    dataSet[44] = (dataSet[44] as number) ^ 1
    expect(() => readDataSet({ profile, dataSet })).toThrow(
      expect.objectContaining({ code: 'ERR_DATA_SET', field: 'again' }),
    )
  })

  test('a mask over characters puts its byte over them, and parts of a text are read as long as they are', () => {
    const profile = parseProfile(
      changed('derived', {
        '/fields/0': {
          id: 'pan',
          offset: 0,
          length: 16,
          encoding: 'ascii',
          align: 'exact',
          masked: { offset: 6, length: 6, fill: '2A' },
        },
        '/fields/1/offset': 16,
        '/fields/2/offset': 17,
        '/fields/3/offset': 19,
        '/fields/4': {
          ...SCHEMES.derived.fields[4],
          offset: 27,
          length: 10,
          part: { from: 'left', skip: 0, take: 10 },
        },
        '/fields/5': {
          id: 'kid',
          value: 'prwKid',
          offset: 37,
          length: 8,
          encoding: 'ascii',
          align: 'left',
          pad: '20',
          part: { from: 'left', skip: 0 },
          masked: false,
        },
        '/fields/6': { id: 'filler', offset: 45, length: 78, constant: '00'.repeat(78) },
        '/prw/uncovered': ['pan'],
        '/mac/uncovered': ['pan', 'pinBlock'],
      }),
    )
    const [sample = expect.unreachable()] = SAMPLES.derived
    const values = { ...valuesOf('derived', sample), pan: Pan.from(PAN_DIGITS) }
    const full = buildDataSet({ profile, ...values })
    const dataSet = maskDataSet({ profile, full })
    expect(Buffer.from(dataSet.subarray(0, 16)).toString()).toBe(
      `${PAN_DIGITS.slice(0, 6)}******${PAN_DIGITS.slice(12)}`,
    )
    expect(unmaskDataSet({ profile, dataSet, pan: values.pan })).toEqual(full)
    // A part is no value of its own, but what no such value could leave there is refused.
    expect(readDataSet({ profile, dataSet }).fields).toEqual({ psn: sample.psn })
    for (const [at, field] of [
      [36, 'intdatag'],
      [37, 'kid'],
    ] as const) {
      const wrong = Uint8Array.from(dataSet).fill(0x80, at, at + 1)
      expect(() => readDataSet({ profile, dataSet: wrong })).toThrow(
        expect.objectContaining({ code: 'ERR_DATA_SET', field }),
      )
    }
  })

  test('digits of which there are fewer than the bytes give', async () => {
    const [sample = expect.unreachable()] = SAMPLES.outputs
    const profile = parseProfile(changed('outputs', { '/prw/output/1/digits': 6, '/prw/outputBytes': 6 }))
    const { generate: key } = await keysFor(profile)
    const made = await computePrw({ key, profile, ...valuesOf('outputs', sample) })
    expect(made.prwValue).toBe(sample.prwValue.slice(0, 6))
  })

  test('an issuer id of another length', async () => {
    const [sample = expect.unreachable()] = SAMPLES.external
    const { pin: _, ...values } = valuesOf('external', sample)
    const profile = parseProfile(SCHEMES.external)
    const { mac: key } = await keysFor(profile)
    const { prwDataSet, prwValue } = sample
    const short = { ...values, issuerId: 'is_tbank1', dataSet: dataSetFromHex(prwDataSet), prwValue }
    const error = await failure(() => generatePrwMac({ key, profile, ...short }), 'ERR_DATA_SET')
    expect(error).toMatchObject({ field: 'issuerId' })
  })
})

test('a character that the encoding lacks is not called too long', () => {
  const profile = parseProfile(changed('parts', { '/fields/3/encoding': 'ebcdic' }))
  const [sample = expect.unreachable()] = SAMPLES.parts
  const values = { ...valuesOf('parts', sample), intdatag: 'D1@TAG-0123456789-AB' }
  expect(() => buildDataSet({ profile, ...values })).toThrow(/has a character that ebcdic does not have/)
  const german = parseProfile(SCHEMES.parts)
  expect(buildDataSet({ profile: german, ...values })[22]).toBe(0xb5)
})

describe('what is of a PIN or a PAN is wiped', () => {
  test('where a field that is masked in part is not the one in the data set', async () => {
    const profile = parseProfile(SCHEMES.parts)
    const [sample = expect.unreachable()] = SAMPLES.parts
    const values = valuesOf('parts', sample)
    const dataSet = maskDataSet({ profile, full: buildDataSet({ profile, ...values }) })
    const { buffers } = await buffersMadeBy(() =>
      failure(async () => unmaskDataSet({ profile, dataSet, ...values, pan: OTHER_PAN }), 'ERR_DATA_SET'),
    )
    const digits = Buffer.from(PAN_DIGITS.slice(0, 12), 'hex')
    expect(buffers.length).toBeGreaterThan(2)
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(digits))).toEqual([])
  })

  test('where the IV is made of it', async () => {
    const profile = parseProfile(
      changed('outputs', { '/prw/iv': { inputs: [{ input: 'pinBlock' }] }, '/prw/uncovered': [] }),
    )
    const [sample = expect.unreachable()] = SAMPLES.outputs
    const { pin: _, ...values } = valuesOf('outputs', sample)
    using pin = Pin.from('739204816253')
    const { generate: key } = await keysFor(profile)
    const { buffers } = await buffersMadeBy(() => computePrw({ key, profile, ...values, pin }))
    expect(buffers.length).toBeGreaterThan(5)
    expect(
      buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from('739204816253', 'hex'))),
    ).toEqual([])
  })
})

test('an intdatag that is to be stored is kept with the PRW, and checked', () => {
  const prw = {
    prwValue: '00',
    prwKid: 'PRW-1',
    prwDataSet: '00'.repeat(123),
    pcc: '0001',
    sequence: 1,
    profile: { name: 'a', version: '1' },
    provenance: 'illustrative',
  } as const
  const intdatag = 'D1-TAG-0123456789-AB'
  expect(readPrw({ ...prw, intdatag })).toEqual({ ...prw, intdatag })
  expect(readPrw(prw)).toEqual(prw)
  expect(() => readPrw({ ...prw, intdatag: 'short' })).toThrow('intdatag must be 20 printable characters')
})

test('the JSON schema takes every scheme, and refuses what has another shape', () => {
  const matches = new Ajv({ strict: true, strictTypes: false, strictRequired: false }).compile(schema)
  for (const name of NAMES) expect([name, matches(SCHEMES[name]), matches.errors]).toEqual([name, true, null])
  for (const [path, value] of [
    ['/prw/derivation/0/method', 'guess'],
    ['/prw/unknown', true],
    ['/fields/0/masked', 'yes'],
    ['/profileFormat', 1],
  ] as const) {
    expect(matches(changed('derived', { [path]: value }))).toBe(false)
  }
})
