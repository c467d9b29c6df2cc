/** What `ERR_PROFILE` says about an entry, after its path: what is wanted, never what stood there. */
import { describe, expect, test } from 'vitest'
import { ProfileError } from '../../src/base/errors.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'

type Json = Record<string, unknown>
const copy = (): Json => structuredClone(ILLUSTRATIVE_NOT_GIROCARD_TDEA) as unknown as Json

/** Sets the entry at a JSON pointer; undefined takes it away. */
function changed(pointer: string, value: unknown): unknown {
  const json = copy()
  const names = pointer.split('/').slice(1)
  const last = names.pop()
  if (last === undefined) return value
  const parent = names.reduce<object>((node, name) => Reflect.get(node, name), json)
  if (value === undefined) Reflect.deleteProperty(parent, last)
  else Reflect.set(parent, last, value)
  return json
}

function problem(json: unknown): string {
  try {
    parseProfile(json)
  } catch (error) {
    if (error instanceof ProfileError) return error.message
    throw error
  }
  return 'no problem'
}

const PAN = { id: 'pan', offset: 1, length: 10, encoding: 'bcd', align: 'left', pad: 'F', masked: true }
const RANDOM = { id: 'random', offset: 24, length: 4, encoding: 'binary', align: 'exact', masked: false }
const IDS = 'a letter a–z, then up to 31 letters and digits'
const HEX = 'must be an even number of upper-case hex digits'

describe('one entry', () => {
  test.each<[string, unknown, string]>([
    ['', null, 'the profile must be an object'],
    ['', [], 'the profile must be an object'],
    ['/more', 1, '/more is not a known member'],
    [`/${'x'.repeat(70)}`, 1, '/(a name that is no word) is not a known member'],
    ['/9999990123456789', 1, '/(a name that is no word) is not a known member'],
    ['/name', undefined, '/name is missing'],
    ['/name', '', '/name must be 1 to 64 printable ASCII characters'],
    ['/name', ' a', '/name must be 1 to 64 printable ASCII characters'],
    ['/name', 'x'.repeat(65), '/name must be 1 to 64 printable ASCII characters'],
    ['/version', 'v 1', '/version must be a version such as 1.0.0'],
    ['/version', `1${'.0'.repeat(16)}`, '/version must be a version such as 1.0.0'],
    ['/$schema', 'a b', '/$schema must be an address'],
    ['/$schema', `${'a'.repeat(200)}b`, '/$schema must be an address'],
    ['/description', '', '/description must be up to 2000 characters'],
    ['/description', 'a\u0000', '/description must be up to 2000 characters'],
    ['/profileFormat', 3, '/profileFormat must be one of 1, 2'],
    ['/provenance', 'x', '/provenance must be one of scheme-confirmed, illustrative'],
    [
      '/pinBlock',
      'x',
      '/pinBlock must be one of iso9564-format-0, iso9564-format-2, digits-bcd, digits-ascii',
    ],
    ['/randomBytes', 33, '/randomBytes must be a whole number from 0 to 32'],
    ['/randomBytes', '4', '/randomBytes must be a whole number from 0 to 32'],
    ['/randomBytes', 0.5, '/randomBytes must be a whole number from 0 to 32'],
    ['/fields', [], '/fields must be a list of 1 to 123 entries'],
    ['/fields', Array.from({ length: 124 }, () => ({})), '/fields must be a list of 1 to 123 entries'],
    ['/fields/0', 7, '/fields/0 must be an object'],
    ['/fields/0', [], '/fields/0 must be an object'],
    ['/fields/0/id', 'A', `/fields/0/id must be ${IDS}`],
    ['/fields/0/id', `a${'b'.repeat(32)}`, `/fields/0/id must be ${IDS}`],
    ['/fields/0/offset', 123, '/fields/0/offset must be a whole number from 0 to 122'],
    ['/fields/0/length', 0, '/fields/0/length must be a whole number from 1 to 123'],
    ['/fields/0/constant', '0', `/fields/0/constant ${HEX}`],
    ['/fields/0/constant', '', `/fields/0/constant ${HEX}`],
    ['/fields/0/constant', '00'.repeat(124), '/fields/0/constant must be at most 123 bytes'],
    ['/fields/1/length', 124, '/fields/1/length must be a whole number from 1 to 123'],
    ['/fields/1/encoding', 'utf8', '/fields/1/encoding must be one of bcd, ascii, ebcdic, binary'],
    ['/fields/1/align', 'top', '/fields/1/align must be one of left, right, exact'],
    ['/fields/1/pad', undefined, '/fields/1/pad is missing: align is not exact'],
    ['/fields/1/pad', 'FF', '/fields/1/pad must be one upper-case hex digit'],
    ['/fields/7/pad', 'F', '/fields/7/pad must be two upper-case hex digits'],
    ['/fields/2/pad', 'F', '/fields/2/pad must be absent where align is exact'],
    ['/fields/2/masked', 1, '/fields/2/masked must be true or false'],
    ['/prw', 7, '/prw must be an object'],
    [
      '/prw/algorithm',
      'x',
      '/prw/algorithm must be one of iso9797-1-alg1, iso9797-1-alg3, cmac-tdea, cmac-aes',
    ],
    ['/prw/padding', 4, '/prw/padding must be one of 1, 2, 3, none'],
    ['/prw/iv', '00', '/prw/iv must be 16 upper-case hex digits, or none'],
    ['/prw/iv', 'F0000000000000000', '/prw/iv must be 16 upper-case hex digits, or none'],
    ['/prw/iv', 'none0', '/prw/iv must be 16 upper-case hex digits, or none'],
    ['/prw/keyBytes', 8, '/prw/keyBytes must be one of 16, 24, 32'],
    ['/prw/inputs', [], '/prw/inputs must be a list of 1 to 32 entries'],
    [
      '/prw/inputs',
      Array.from({ length: 33 }, () => ({ input: 'dataSet.full' })),
      '/prw/inputs must be a list of 1 to 32 entries',
    ],
    ['/prw/outputBytes', 3, '/prw/outputBytes must be a whole number from 4 to 16'],
    ['/prw/outputBytes', 17, '/prw/outputBytes must be a whole number from 4 to 16'],
    ['/prw/text', 'hex', '/prw/text must be one of hex-upper, hex-lower, base64, base64url'],
    ['/prw/uncovered', {}, '/prw/uncovered must be a list of 0 to 131 entries'],
    ['/prw/uncovered', ['A'], '/prw/uncovered/0 must be the name of a value'],
    [
      '/prw/inputs/0/input',
      'x',
      '/prw/inputs/0/input must be one of dataSet.full, dataSet.masked, pinBlock, random, field, pan, pcc, ' +
        'intdatag, prw, constant',
    ],
    ['/prw/inputs/0', 'dataSet.full', '/prw/inputs/0 must be an object'],
    ['/prw/inputs/0/id', 'pan', '/prw/inputs/0/id is not a known member'],
    ['/prw/inputs/0', { input: 'field', id: 'PAN' }, '/prw/inputs/0/id must be the id of a field'],
    ['/prw/inputs/0', { input: 'field' }, '/prw/inputs/0/id is missing'],
    ['/prw/inputs/0', { input: 'prw', form: 'hex' }, '/prw/inputs/0/form must be one of binary, text'],
    ['/prw/inputs/0', { input: 'constant' }, '/prw/inputs/0/constant is missing'],
    ['/prw/inputs/0', { input: 'constant', constant: 'a0' }, `/prw/inputs/0/constant ${HEX}`],
    [
      '/prw/inputs/0',
      { input: 'constant', constant: '00'.repeat(256) },
      '/prw/inputs/0/constant must be at most 255 bytes',
    ],
    [
      '/prw/inputs/0',
      { input: 'pcc', length: 256, encoding: 'bcd', align: 'exact' },
      '/prw/inputs/0/length must be a whole number from 1 to 255',
    ],
    ['/prw/inputs/0', { input: 'pcc', length: 2, encoding: 'bcd' }, '/prw/inputs/0/align is missing'],
  ])('%s as %j', (pointer, value, message) => {
    expect(problem(changed(pointer, value))).toBe(`SECCOS profile: ${message}`)
  })
})

describe('entries together', () => {
  test.each<[string, unknown, string]>([
    ['/fields/2/id', 'pan', '/fields/2/id is there twice'],
    ['/fields/2/offset', 10, '/fields/2/offset overlaps the field before: expected 11'],
    ['/fields/2/offset', 12, '/fields/2/offset leaves a gap after the field before: expected 11'],
    ['/fields/9/length', 66, '/fields/9/length reaches beyond the 123 bytes of a data set'],
    [
      '/fields/9',
      { id: 'filler', offset: 58, length: 64, constant: '00'.repeat(64) },
      '/fields cover 122 bytes of 123',
    ],
    ['/fields/0/id', 'pinLength', '/fields/0/id names a value and cannot be constant'],
    ['/fields/0/constant', '0102', '/fields/0/constant must be 1 bytes'],
    ['/fields/1/masked', false, '/fields/1/masked must be true for pan'],
    ['/fields/5/masked', false, '/fields/5/masked must be true for pinBlock'],
    [
      '/fields/1',
      { ...PAN, encoding: 'binary', pad: '00' },
      '/fields/1/encoding must be one of bcd, ascii, ebcdic for pan',
    ],
    ['/fields/6', { ...RANDOM, encoding: 'ascii' }, '/fields/6/encoding must be one of binary for random'],
    ['/fields/6', { ...RANDOM, align: 'left', pad: '00' }, '/fields/6/align must be exact for binary random'],
    ['/randomBytes', 5, '/fields/6/length must be 5 to 5 for random'],
    ['/pinBlock', 'digits-ascii', '/fields/5/length must be 12 to 12 for pinBlock'],
    [
      '/prw/inputs/0',
      { input: 'pcc', length: 1, encoding: 'bcd', align: 'exact' },
      '/prw/inputs/0/length is too short for pcc',
    ],
    [
      '/prw/inputs/0',
      { input: 'pcc', length: 5, encoding: 'ascii', align: 'exact' },
      '/prw/inputs/0/length is too long for pcc with align exact',
    ],
    [
      '/prw/inputs/0',
      { input: 'pcc', length: 1, encoding: 'binary', align: 'exact' },
      '/prw/inputs/0/length must be 2 to 8 for pcc',
    ],
    [
      '/prw/inputs/0',
      { input: 'pcc', length: 9, encoding: 'binary', align: 'exact' },
      '/prw/inputs/0/length must be 2 to 8 for pcc',
    ],
    [
      '/prw/inputs/0',
      { input: 'pan', length: 5, encoding: 'bcd', align: 'left', pad: 'F' },
      '/prw/inputs/0/length is too short for pan',
    ],
    [
      '/prw/inputs/0',
      { input: 'pan', length: 20, encoding: 'ascii', align: 'exact' },
      '/prw/inputs/0/length is too long for pan with align exact',
    ],
    [
      '/prw/inputs/0',
      { input: 'prw', form: 'text' },
      '/prw/inputs/0 is for the MAC: the PRW cannot cover itself',
    ],
    ['/prw/inputs/0', { input: 'field', id: 'nothing' }, '/prw/inputs/0/id is not the id of a field'],
    ['/prw/inputs/0', { input: 'dataSet.masked' }, '/prw/inputs must cover the PIN block'],
    [
      '/mac/inputs/0',
      { input: 'pinBlock' },
      '/mac/inputs/0 needs the PIN, without which the MAC is verified',
    ],
    [
      '/mac/inputs/0',
      { input: 'dataSet.full' },
      '/mac/inputs/0 needs the PIN, without which the MAC is verified',
    ],
    [
      '/mac/inputs/0',
      { input: 'field', id: 'pinBlock' },
      '/mac/inputs/0 needs the PIN, without which the MAC is verified',
    ],
    ['/mac/uncovered', [], '/mac/uncovered must list exactly what the inputs leave out: pan, pinBlock'],
    [
      '/mac/uncovered',
      ['pan', 'random'],
      '/mac/uncovered must list exactly what the inputs leave out: pan, pinBlock',
    ],
    ['/prw/padding', 'none', '/prw/padding must be one of 1, 2, 3 for iso9797-1-alg3'],
    ['/prw/iv', 'none', '/prw/iv must be there for iso9797-1-alg3'],
    ['/prw/keyBytes', 32, '/prw/keyBytes must be one of 16, 24 for iso9797-1-alg3'],
    ['/prw/outputBytes', 9, '/prw/outputBytes must be at most 8 for iso9797-1-alg3'],
  ])('%s as %j', (pointer, value, message) => {
    expect(problem(changed(pointer, value))).toBe(`SECCOS profile: ${message}`)
  })

  test('a random input without a random number', () => {
    const json = copy()
    json['randomBytes'] = 0
    Reflect.set(json['fields'] as object, 6, { id: 'four', offset: 24, length: 4, constant: '00000000' })
    Reflect.set(json['mac'] as object, 'inputs', [{ input: 'random' }])
    expect(problem(json)).toBe('SECCOS profile: /mac/inputs/0 is used, but randomBytes is 0')
  })

  test('a MAC whose text is longer than D1 takes', () => {
    const cmac = { algorithm: 'cmac-aes', padding: 'none', iv: 'none', keyBytes: 16, outputBytes: 9 }
    const json = copy()
    json['mac'] = { ...(json['mac'] as Json), ...cmac }
    expect(problem(json)).toBe('SECCOS profile: /mac/outputBytes makes a text of more than 16 characters')
  })
})

describe('at its bounds an entry holds', () => {
  test.each<[string, unknown]>([
    ['/name', 'x'.repeat(64)],
    ['/name', 'x'],
    ['/version', `1${'.0'.repeat(15)}1`],
    ['/description', 'x'.repeat(2000)],
    ['/description', undefined],
    ['/$schema', 'a'.repeat(200)],
    ['/fields/0/id', `a${'b'.repeat(31)}`],
    ['/prw/keyBytes', 24],
    ['/prw/outputBytes', 4],
    ['/prw/inputs', Array.from({ length: 32 }, () => ({ input: 'dataSet.full' }))],
    ['/prw/inputs', [{ input: 'dataSet.full' }, { input: 'constant', constant: '00'.repeat(255) }]],
    ['/prw/inputs', [{ input: 'dataSet.full' }, { input: 'field', id: 'pan' }]],
    ['/prw/inputs', [{ input: 'dataSet.full' }, { input: 'random' }, { input: 'pinBlock' }]],
    [
      '/prw/inputs',
      [{ input: 'dataSet.full' }, { input: 'pan', length: 12, encoding: 'ascii', align: 'exact' }],
    ],
    [
      '/prw/inputs',
      [{ input: 'dataSet.full' }, { input: 'pan', length: 19, encoding: 'ascii', align: 'exact' }],
    ],
    [
      '/prw/inputs',
      [{ input: 'dataSet.full' }, { input: 'pcc', length: 8, encoding: 'binary', align: 'exact' }],
    ],
  ])('%s as %j', (pointer, value) => {
    expect(problem(changed(pointer, value))).toBe('no problem')
  })

  test('and is read as it stands', () => {
    const json = copy()
    json['$schema'] = 'profile.schema.json'
    expect(JSON.parse(JSON.stringify(parseProfile(json)))).toEqual(json)
  })
})
