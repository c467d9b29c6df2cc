import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { uncoveredBy } from '../../src/seccos/profile/coverage.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import { markOf, requireProfile } from '../../src/seccos/profile/profile.js'
import schema from '../../src/seccos/profile/profile.schema.json' with { type: 'json' }

const matchesSchema = new Ajv({ strict: true, strictTypes: false }).compile(schema)
const BOTH = [ILLUSTRATIVE_NOT_GIROCARD_TDEA, ILLUSTRATIVE_NOT_GIROCARD_AES] as const

type Profile = (typeof BOTH)[number]
const FIELDS = ILLUSTRATIVE_NOT_GIROCARD_TDEA.fields

/** JSON pointers and what is to stand there; undefined takes the entry away. An index beyond a list appends. */
type Change = Readonly<Record<string, unknown>>

function changed(change: Change, of: Profile = ILLUSTRATIVE_NOT_GIROCARD_TDEA): object {
  const json: object = structuredClone(of)
  for (const [pointer, value] of Object.entries(change)) {
    const names = pointer.split('/').slice(1)
    const last = names.pop() ?? ''
    const parent = names.reduce<object>((node, name) => Reflect.get(node, name), json)
    const name = last.replaceAll('~1', '/').replaceAll('~0', '~')
    if (value === undefined) Reflect.deleteProperty(parent, name)
    else Reflect.set(parent, name, value)
  }
  return json
}

/** A `shape` error shows in the JSON schema too; a `meaning` error is the parser's alone. */
type Bad = readonly [what: string, kind: 'shape' | 'meaning', path: string, change: Change]
const BAD: readonly Bad[] = [
  ['an unknown member', 'shape', '/defaults', { '/defaults': true }],
  ['a member with a slash', 'shape', '/(a name that is no word)', { '/a~1b~0': 1 }],
  ['format 3', 'shape', '/profileFormat', { '/profileFormat': 3 }],
  ['no format', 'shape', '/profileFormat', { '/profileFormat': undefined }],
  ['an empty name', 'shape', '/name', { '/name': '' }],
  ['a name with a line break', 'shape', '/name', { '/name': 'a\nb' }],
  ['a name with a trailing line break', 'shape', '/name', { '/name': 'a\n' }],
  ['a number for a version', 'shape', '/version', { '/version': 1 }],
  ['no provenance', 'shape', '/provenance', { '/provenance': undefined }],
  ['another provenance', 'shape', '/provenance', { '/provenance': 'confirmed' }],
  ['a long description', 'shape', '/description', { '/description': 'x'.repeat(2001) }],
  ['an inherited PIN form', 'shape', '/pinBlock', { '/pinBlock': 'toString' }],
  ['half a random byte', 'shape', '/randomBytes', { '/randomBytes': 0.5 }],
  ['33 random bytes', 'shape', '/randomBytes', { '/randomBytes': 33 }],
  ['no fields', 'shape', '/fields', { '/fields': [] }],
  ['fields as an object', 'shape', '/fields', { '/fields': {} }],
  ['a field that is null', 'shape', '/fields/1', { '/fields/1': null }],
  ['an upper-case id', 'shape', '/fields/2/id', { '/fields/2/id': 'PSN' }],
  ['an id with a dash', 'shape', '/fields/2/id', { '/fields/2/id': 'card-seq' }],
  ['a negative offset', 'shape', '/fields/0/offset', { '/fields/0/offset': -1 }],
  ['an offset of 123', 'shape', '/fields/9/offset', { '/fields/9/offset': 123 }],
  ['no length', 'shape', '/fields/2/length', { '/fields/2/length': undefined }],
  ['length 0', 'shape', '/fields/2/length', { '/fields/2/length': 0 }],
  ['length as text', 'shape', '/fields/2/length', { '/fields/2/length': '1' }],
  ['another encoding', 'shape', '/fields/2/encoding', { '/fields/2/encoding': 'utf8' }],
  ['another alignment', 'shape', '/fields/2/align', { '/fields/2/align': 'centre' }],
  ['a pad with align exact', 'shape', '/fields/2/pad', { '/fields/2/pad': 'F' }],
  ['no pad with align left', 'shape', '/fields/1/pad', { '/fields/1/pad': undefined }],
  ['a pad byte for bcd', 'shape', '/fields/1/pad', { '/fields/1/pad': 'FF' }],
  ['a pad digit for ascii', 'shape', '/fields/7/pad', { '/fields/7/pad': '2' }],
  ['a lower-case pad', 'shape', '/fields/1/pad', { '/fields/1/pad': 'f' }],
  ['masked as text', 'shape', '/fields/2/masked', { '/fields/2/masked': 'no' }],
  ['no masked', 'shape', '/fields/2/masked', { '/fields/2/masked': undefined }],
  ['a constant with an encoding', 'shape', '/fields/0/encoding', { '/fields/0/encoding': 'binary' }],
  ['an odd constant', 'shape', '/fields/0/constant', { '/fields/0/constant': '010' }],
  ['a lower-case constant', 'shape', '/fields/0/constant', { '/fields/0/constant': 'ab' }],
  ['a constant of 124 bytes', 'shape', '/fields/0/constant', { '/fields/0/constant': '00'.repeat(124) }],
  ['no prw', 'shape', '/prw', { '/prw': undefined }],
  ['another algorithm', 'shape', '/prw/algorithm', { '/prw/algorithm': 'hmac' }],
  ['padding 4', 'shape', '/prw/padding', { '/prw/padding': 4 }],
  ['padding as text', 'shape', '/prw/padding', { '/prw/padding': '2' }],
  ['a short iv', 'shape', '/prw/iv', { '/prw/iv': '00' }],
  ['no iv', 'shape', '/prw/iv', { '/prw/iv': undefined }],
  ['8-byte keys', 'shape', '/prw/keyBytes', { '/prw/keyBytes': 8 }],
  ['no inputs', 'shape', '/mac/inputs', { '/mac/inputs': [] }],
  ['an input as text', 'shape', '/mac/inputs/0', { '/mac/inputs/0': 'dataSet.masked' }],
  ['an unknown input', 'shape', '/mac/inputs/0/input', { '/mac/inputs/0/input': 'key' }],
  ['an inherited input', 'shape', '/mac/inputs/0/input', { '/mac/inputs/0/input': 'constructor' }],
  ['no input', 'shape', '/mac/inputs/0/input', { '/mac/inputs/0': {} }],
  ['an input too much', 'shape', '/mac/inputs/0/length', { '/mac/inputs/0/length': 4 }],
  ['a prw without form', 'shape', '/mac/inputs/1/form', { '/mac/inputs/1': { input: 'prw' } }],
  ['a field without id', 'shape', '/mac/inputs/1/id', { '/mac/inputs/1': { input: 'field' } }],
  [
    'a pcc without length',
    'shape',
    '/mac/inputs/1/length',
    { '/mac/inputs/1': { input: 'pcc', encoding: 'bcd', align: 'exact' } },
  ],
  [
    'an empty constant',
    'shape',
    '/mac/inputs/1/constant',
    { '/mac/inputs/1': { input: 'constant', constant: '' } },
  ],
  ['3 output bytes', 'shape', '/mac/outputBytes', { '/mac/outputBytes': 3 }],
  ['another text', 'shape', '/mac/text', { '/mac/text': 'hex' }],
  ['no uncovered', 'shape', '/mac/uncovered', { '/mac/uncovered': undefined }],
  ['uncovered as text', 'shape', '/mac/uncovered', { '/mac/uncovered': 'pan' }],

  ['a gap', 'meaning', '/fields/1/offset', { '/fields/1/offset': 2 }],
  ['an overlap', 'meaning', '/fields/2/offset', { '/fields/2/offset': 10 }],
  ['fields out of order', 'meaning', '/fields/0/offset', { '/fields': FIELDS.toReversed() }],
  ['a first byte missing', 'meaning', '/fields/0/offset', { '/fields': FIELDS.slice(1) }],
  [
    'a last byte missing',
    'meaning',
    '/fields',
    { '/fields/9/length': 64, '/fields/9/constant': '00'.repeat(64) },
  ],
  [
    'a byte too much',
    'meaning',
    '/fields/9/length',
    { '/fields/9/length': 66, '/fields/9/constant': '00'.repeat(66) },
  ],
  ['an id twice', 'meaning', '/fields/3/id', { '/fields/3/id': 'psn' }],
  ['a constant of another length', 'meaning', '/fields/0/constant', { '/fields/0/constant': '0101' }],
  ['a constant pan', 'meaning', '/fields/0/id', { '/fields/0/id': 'pan', '/fields/1/id': 'other' }],
  ['a pan that shows', 'meaning', '/fields/1/masked', { '/fields/1/masked': false }],
  ['a PIN block that shows', 'meaning', '/fields/5/masked', { '/fields/5/masked': false }],
  ['a PIN length that shows', 'meaning', '/fields/2/masked', { '/fields/2/id': 'pinLength' }],
  [
    'a binary pan',
    'meaning',
    '/fields/1/encoding',
    { '/fields/1': { id: 'pan', offset: 1, length: 10, encoding: 'binary', align: 'exact', masked: true } },
  ],
  ['a bcd intdatag', 'meaning', '/fields/8/encoding', { '/fields/8/encoding': 'bcd' }],
  ['a random of another length', 'meaning', '/fields/6/length', { '/randomBytes': 5 }],
  ['a random nobody makes', 'meaning', '/fields/6/length', { '/randomBytes': 0 }],
  ['a PIN block of another length', 'meaning', '/fields/5/length', { '/pinBlock': 'digits-ascii' }],
  [
    'a pcc of one byte',
    'meaning',
    '/fields/4/length',
    {
      '/fields': FIELDS.toSpliced(
        4,
        1,
        { id: 'pcc', offset: 14, length: 1, encoding: 'bcd', align: 'exact', masked: false },
        { id: 'y', offset: 15, length: 1, constant: '00' },
      ),
    },
  ],
  [
    'a pcc of six digits exactly',
    'meaning',
    '/fields/4/length',
    { '/fields/4/length': 3, '/fields/5': { id: 'y', offset: 17, length: 7, constant: '00'.repeat(7) } },
  ],
  [
    'a binary pcc that floats',
    'meaning',
    '/fields/4/align',
    {
      '/fields/4': {
        id: 'pcc',
        offset: 14,
        length: 2,
        encoding: 'binary',
        align: 'right',
        pad: '00',
        masked: false,
      },
    },
  ],
  ['CMAC with padding', 'meaning', '/prw/padding', { '/prw/algorithm': 'cmac-tdea' }],
  ['a retail MAC without padding', 'meaning', '/prw/padding', { '/prw/padding': 'none' }],
  ['a retail MAC without iv', 'meaning', '/prw/iv', { '/prw/iv': 'none' }],
  ['32-byte TDEA keys', 'meaning', '/prw/keyBytes', { '/prw/keyBytes': 32 }],
  ['9 bytes of TDEA', 'meaning', '/prw/outputBytes', { '/prw/outputBytes': 9 }],
  ['a prw without the PIN', 'meaning', '/prw/inputs', { '/prw/inputs': [{ input: 'dataSet.masked' }] }],
  ['a prw over itself', 'meaning', '/prw/inputs/1', { '/prw/inputs/1': { input: 'prw', form: 'binary' } }],
  ['a MAC over the PIN block', 'meaning', '/mac/inputs/2', { '/mac/inputs/2': { input: 'pinBlock' } }],
  [
    'a MAC over the PIN field',
    'meaning',
    '/mac/inputs/0',
    { '/mac/inputs/0': { input: 'field', id: 'pinBlock' } },
  ],
  [
    'a MAC over the full data set',
    'meaning',
    '/mac/inputs/0',
    { '/mac/inputs/0': { input: 'dataSet.full' } },
  ],
  ['an input of no field', 'meaning', '/mac/inputs/0/id', { '/mac/inputs/0': { input: 'field', id: 'cvv' } }],
  [
    'a short intdatag input',
    'meaning',
    '/mac/inputs/0/length',
    { '/mac/inputs/0': { input: 'intdatag', length: 19, encoding: 'ascii', align: 'exact' } },
  ],
  [
    'a random that is not there',
    'meaning',
    '/prw/inputs/1',
    { '/randomBytes': 0, '/fields/6/id': 'x', '/prw/inputs/1': { input: 'random' } },
  ],
  ['an uncovered value unlisted', 'meaning', '/mac/uncovered', { '/mac/uncovered': ['pan'] }],
  ['a covered value listed', 'meaning', '/mac/uncovered', { '/mac/uncovered': ['pan', 'pinBlock', 'psn'] }],
  ['an uncovered value twice', 'meaning', '/mac/uncovered', { '/mac/uncovered': ['pan', 'pan'] }],
]

describe('a profile that does not hold', () => {
  test.each(BAD)('%s (%s)', (_, kind, path, change) => {
    const json = changed(change)
    expect(() => parseProfile(json)).toThrow(expect.objectContaining({ code: 'ERR_PROFILE', path }))
    expect(matchesSchema(json)).toBe(kind === 'meaning')
  })

  test.each([[null], [[]], ['profile'], [undefined], [1]])('%j for a profile', value => {
    expect(() => parseProfile(value)).toThrow(expect.objectContaining({ code: 'ERR_PROFILE', path: '' }))
    expect(matchesSchema(value)).toBe(false)
  })

  test('a text of PRW or MAC that D1 does not take', () => {
    const long = changed({ '/mac/outputBytes': 16 }, ILLUSTRATIVE_NOT_GIROCARD_AES)
    expect(() => parseProfile(long)).toThrow(expect.objectContaining({ path: '/mac/outputBytes' }))
    expect(matchesSchema(long)).toBe(true)
  })

  test('errors point at the entry and show no value', () => {
    const json = changed({ '/fields/0/constant': 'SECRET' })
    expect(() => parseProfile(json)).toThrow(/^SECCOS profile: \/fields\/0\/constant must be [^S]*$/)
  })

  test('what others put on Object.prototype is not a member', () => {
    const json = changed({ '/provenance': undefined })
    Object.defineProperty(Object.prototype, 'provenance', { value: 'scheme-confirmed', configurable: true })
    try {
      expect(() => parseProfile(json)).toThrow(expect.objectContaining({ path: '/provenance' }))
    } finally {
      Reflect.deleteProperty(Object.prototype, 'provenance')
    }
  })
})

const GOOD: readonly (readonly [string, object])[] = [
  ['the TDEA one', changed({})],
  ['the AES one', changed({}, ILLUSTRATIVE_NOT_GIROCARD_AES)],
  ['with $schema', changed({ '/$schema': './profile.schema.json' })],
  ['without description', changed({ '/description': undefined })],
  ['scheme-confirmed', changed({ '/provenance': 'scheme-confirmed' })],
  [
    'CMAC with TDEA',
    changed({
      '/prw/algorithm': 'cmac-tdea',
      '/prw/padding': 'none',
      '/prw/iv': 'none',
      '/prw/keyBytes': 24,
    }),
  ],
  [
    'algorithm 1 and an iv',
    changed({ '/mac/algorithm': 'iso9797-1-alg1', '/mac/iv': '0123456789ABCDEF', '/mac/padding': 3 }),
  ],
  [
    'every input',
    changed({
      '/prw/inputs/1': { input: 'random' },
      '/prw/inputs/2': { input: 'pinBlock' },
      '/prw/inputs/3': { input: 'field', id: 'psn' },
      '/prw/inputs/4': { input: 'constant', constant: 'FF' },
      '/prw/inputs/5': { input: 'pan', length: 19, encoding: 'ascii', align: 'right', pad: '30' },
      '/prw/inputs/6': { input: 'pcc', length: 2, encoding: 'binary', align: 'exact' },
      '/mac/inputs/2': { input: 'intdatag', length: 24, encoding: 'ebcdic', align: 'left', pad: '40' },
      '/mac/inputs/3': { input: 'pan', length: 8, encoding: 'bcd', align: 'exact' },
      '/mac/uncovered': ['pinBlock'],
    }),
  ],
  [
    'a MAC that covers nothing but the PRW',
    changed({
      '/mac/inputs': [{ input: 'prw', form: 'text' }],
      '/mac/uncovered': ['pan', 'pinBlock', 'pcc', 'intdatag', 'random', 'psn', 'expiry', 'issuer'],
    }),
  ],
]

describe('a profile that holds', () => {
  test.each(GOOD)('%s', (_, json) => {
    expect(matchesSchema(json)).toBe(true)
    const profile = parseProfile(json)
    expect(JSON.parse(JSON.stringify(profile))).toEqual(json)
    expect(parseProfile(profile)).toEqual(profile)
    expect(profile.mac.uncovered.toSorted()).toEqual(uncoveredBy({ profile, computation: 'mac' }).toSorted())
  })

  test('is frozen through and through', () => {
    const profile = parseProfile(changed({}))
    expect(() => Object.assign(profile.fields[1] ?? {}, { masked: false })).toThrow(TypeError)
    expect(() => Object.assign(profile.mac.inputs, { 2: { input: 'pinBlock' } })).toThrow(TypeError)
    expect(Object.isFrozen(profile.mac.uncovered)).toBe(true)
  })

  test('is not its source', () => {
    const json = structuredClone(ILLUSTRATIVE_NOT_GIROCARD_TDEA)
    const profile = parseProfile(json)
    Object.assign(json.fields[1] ?? {}, { masked: false })
    expect(profile.fields[1]).toMatchObject({ masked: true })
  })

  test('only what parseProfile made is taken', () => {
    for (const value of [undefined, null, 'x', changed({}), { ...ILLUSTRATIVE_NOT_GIROCARD_AES }]) {
      expect(() => requireProfile(value)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
    }
    requireProfile(ILLUSTRATIVE_NOT_GIROCARD_AES)
  })
})

test('the illustrative profiles say what they are, wherever they are seen', () => {
  for (const profile of BOTH) {
    expect(profile.name).toMatch(/^illustrative-NOT-girocard-/)
    expect(profile.description).toMatch(/Invented .* Not the girocard algorithm/)
    expect(markOf(profile)).toEqual({
      profile: { name: profile.name, version: '1.0.0' },
      provenance: 'illustrative',
    })
  }
})
