/** The tables letter by letter: what a person sees, and what a person must not see. */
import { describe, expect, test } from 'vitest'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as TDEA } from '../../../src/seccos/profile/illustrative.js'
import { inspectDataSet, inspectJweHeader, inspectPinBlock } from '../../../src/tools/inspect/inspect.js'
import { HIDDEN, hideBytes, renderTable, showBytes, showText } from '../../../src/tools/inspect/table.js'
import { failure } from '../../support/errors.js'

const cells = (shown: string): string[][] => shown.split('\n').map(line => line.split(/ {2,}/))
const jweOf = (header: unknown): string =>
  `${Buffer.from(JSON.stringify(header)).toString('base64url')}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA`

describe('a table', () => {
  test('has columns as wide as their widest cell, and no space at the end of a line', () => {
    const rows = [
      ['1', 'a long cell', ''],
      ['22', 'b', 'x'],
    ]
    expect(renderTable(['n', 'name', 'c'], rows)).toBe(
      ['n   name         c', '-   ----         -', '1   a long cell', '22  b            x'].join('\n'),
    )
  })

  test('takes rows that are shorter or longer than its header', () => {
    expect(renderTable(['a', 'b'], [['1'], ['2', '3', 'more']])).toBe('a  b\n-  -\n1\n2  3  more')
  })
})

describe('a cell', () => {
  test('of bytes is spaced hex, cut after sixteen', () => {
    expect(showBytes(Uint8Array.of(0, 10, 255))).toBe('00 0A FF')
    expect(showBytes(new Uint8Array(16))).toBe(Array.from({ length: 16 }, () => '00').join(' '))
    expect(showBytes(new Uint8Array(17))).toBe(`${Array.from({ length: 16 }, () => '00').join(' ')} … 1 more`)
  })

  test('that is hidden counts the bytes', () => {
    expect(hideBytes(2)).toBe(`${HIDDEN} ${HIDDEN}`)
    expect(hideBytes(20)).toMatch(/ … 4 more$/)
  })

  test('of text is quoted, escaped, and cut after 48 characters', () => {
    expect(showText('a"\n\u0007\u00e4')).toBe('"a\\"\\n\\u0007\\u00e4"')
    expect(showText('x'.repeat(48))).toBe(`"${'x'.repeat(48)}"`)
    expect(showText('x'.repeat(49))).toBe(`"${'x'.repeat(48)}…"`)
  })
})

describe('a PIN block', () => {
  test.each([
    [0x04, '0.', 'format 0: PIN field XOR PAN field'],
    [0x1c, '1.', 'format 1: PIN and transaction data'],
    [0x24, '2.', 'format 2: PIN alone, for a chip card'],
    [0x34, '3.', 'format 3: as format 0, filled at random'],
    [0x44, '4.', 'format 4: PIN field of 16 bytes, enciphered with AES'],
    [0x54, '5.', 'NOT a format of ISO 9564-1'],
    [0xf4, 'F.', 'NOT a format of ISO 9564-1'],
  ])('that starts with %i', (first, shown, meaning) => {
    expect(
      cells(inspectPinBlock({ block: Uint8Array.of(first, 1, 2, 3, 4, 5, 6, 7), state: 'clear' })),
    ).toEqual([
      ['PIN block, clear'],
      ['field', 'offset', 'bytes', 'meaning'],
      ['-----', '------', '-----', '-------'],
      ['control', '0', shown, meaning],
      ['length', '0', '.•', 'PIN length, 4 to 12'],
      ['body', '1', '•• •• •• •• •• •• ••', 'PIN digits, filler and what the format adds: not shown'],
    ])
  })

  test.each([
    [3, 'NOT a PIN length'],
    [4, 'PIN length, 4 to 12'],
    [12, 'PIN length, 4 to 12'],
    [13, 'NOT a PIN length'],
  ])('of length nibble %i', (length, meaning) => {
    const shown = inspectPinBlock({ block: Uint8Array.of(length, 1, 2, 3, 4, 5, 6, 7), state: 'clear' })
    expect(cells(shown)[4]?.at(-1)).toBe(meaning)
  })

  test('in the middle of a larger buffer is read where it stands', () => {
    const buffer = Uint8Array.of(0xff, 0x24, 1, 2, 3, 4, 5, 6, 7)
    expect(inspectPinBlock({ block: buffer.subarray(1), state: 'clear' })).toContain('format 2')
  })

  test('enciphered is as long as it is', () => {
    expect(cells(inspectPinBlock({ block: new Uint8Array(8), state: 'enciphered' })).slice(3)).toEqual([
      ['block', '0', '•• •• •• •• •• •• •• ••', '8 bytes, one TDEA block: not shown'],
    ])
  })
})

describe('a JWE header', () => {
  test('says what each parameter is for', () => {
    const members = {
      alg: 1,
      enc: 1,
      kid: 1,
      apu: 1,
      apv: 1,
      typ: 1,
      cty: 1,
      zip: 1,
      crit: ['b64'],
      more: null,
    }
    expect(cells(inspectJweHeader(jweOf(members)))).toEqual([
      ['JWE, protected header'],
      ['parameter', 'value', 'meaning'],
      ['---------', '-----', '-------'],
      ['alg', '"1"', 'key agreement; D1: ECDH-ES (RFC 7518, 4.6)'],
      ['enc', '"1"', 'content encryption; D1: A256GCM (RFC 7518, 5.3)'],
      ['kid', '"1"', "the recipient's key (RFC 7516, 4.1.6)"],
      ['apu', '"1"', 'about the sender, enters the key derivation (RFC 7518, 4.6.1.2)'],
      ['apv', '"1"', 'about the recipient, enters the key derivation (RFC 7518, 4.6.1.3)'],
      ['typ', '"1"', 'type of the whole (RFC 7516, 4.1.11)'],
      ['cty', '"1"', 'type of the content (RFC 7516, 4.1.12)'],
      ['zip', '"1"', 'compression: REFUSED here (RFC 7516, 4.1.3)'],
      ['crit', '"[\\"b64\\"]"', 'extensions that must be understood: REFUSED here (RFC 7516, 4.1.13)'],
      ['more', '"null"', 'not used here'],
      [''],
      ['segment', 'length', 'meaning'],
      ['-------', '------', '-------'],
      expect.arrayContaining(['protected header', 'see above']),
      ['encrypted key', '0 bytes', 'empty with ECDH-ES'],
      ['iv', '12 bytes', '12 bytes with A256GCM'],
      ['ciphertext', '3 bytes', 'as long as the plaintext'],
      ['tag', '16 bytes', '16 bytes'],
    ])
  })

  test('shows of an ephemeral key what is public', () => {
    const epk = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AB', d: 'SECRET' }
    expect(cells(inspectJweHeader(jweOf({ epk }))).slice(3, 9)).toEqual([
      ['epk', 'ephemeral public key: NOT a point on P-256 (RFC 7518, 4.6.1.1)'],
      ['', 'kty', '"EC"', 'key type; EC'],
      ['', 'crv', '"P-256"', 'curve; P-256'],
      ['', 'x', '"AA"', 'x coordinate, 32 bytes'],
      ['', 'y', '"AB"', 'y coordinate, 32 bytes'],
      ['', 'd', '••', 'must NOT be here: not shown'],
    ])
  })

  test.each([null, 'text', 7, []])('with %j for an ephemeral key has no member of it', epk => {
    const rows = cells(inspectJweHeader(jweOf({ epk })))
    expect(rows[3]).toEqual(['epk', 'ephemeral public key: NOT a point on P-256 (RFC 7518, 4.6.1.1)'])
    expect(rows[4]).toEqual([''])
  })

  test('of 8192 characters is looked at, and a name with an inherited meaning has none', () => {
    expect(inspectJweHeader('a'.repeat(8192))).toBe('not a JWE in compact form: 1 segments, not 5')
    expect(inspectJweHeader('a'.repeat(8193))).toBe('not a JWE of D1: 8193 characters, at most 8192')
    expect(inspectJweHeader(jweOf({ toString: 1 }))).toMatch(/^toString .* not used here$/m)
  })
})

describe('ERR_ARGUMENT and ERR_LENGTH say', () => {
  test.each<['ERR_ARGUMENT' | 'ERR_LENGTH', string, () => unknown]>([
    ['ERR_ARGUMENT', 'jwe must be a string', () => inspectJweHeader(7 as never)],
    [
      'ERR_ARGUMENT',
      'block must be a Uint8Array',
      () => inspectPinBlock({ block: '00' as never, state: 'clear' }),
    ],
    [
      'ERR_LENGTH',
      'block: 9 bytes, expected 8 or 16',
      () => inspectPinBlock({ block: new Uint8Array(9), state: 'clear' }),
    ],
    [
      'ERR_ARGUMENT',
      'state must be clear or enciphered',
      () => inspectPinBlock({ block: new Uint8Array(8) } as never),
    ],
    [
      'ERR_ARGUMENT',
      'prwDataSet must be a string of hex digits',
      () => inspectDataSet({ profile: TDEA, prwDataSet: 7 as never }),
    ],
    [
      'ERR_ARGUMENT',
      'profile must come from parseProfile',
      () => inspectDataSet({ profile: {} as never, prwDataSet: '00' }),
    ],
  ])('%s: «%s»', async (code, message, call) => {
    expect((await failure(call, code)).message).toBe(message)
  })
})
