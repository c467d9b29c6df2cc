import { describe, expect, test } from 'vitest'
import { buildFormat0 } from '../../../src/pin/formats/format0.js'
import { Pan } from '../../../src/primitives/pan.js'
import { Pin } from '../../../src/primitives/pin.js'
import { buildDataSet, dataSetToHex, maskDataSet } from '../../../src/seccos/data-set.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../../src/seccos/profile/parse.js'
import {
  inspectDataSet,
  inspectJweHeader,
  inspectPinBlock,
  pinBlockTables,
} from '../../../src/tools/inspect/inspect.js'
import { AES_VALUES, expectNoSecrets, PAN_DIGITS, TDEA_VALUES } from '../../seccos/fixtures.js'
import { SAMPLES, SCHEMES } from '../../seccos/schemes.js'

const TDEA = ILLUSTRATIVE_NOT_GIROCARD_TDEA
const SAMPLE =
  'eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsImtpZCI6IkFTRHNMLUp4MlhPa1JuRnRxVy1RYmxXWS1tRG5RVzJMZ2FwYWRGeDc1dEEiLCJlcGsiOnsia3R5IjoiRUMiLCJjcnYiOiJQLTI1NiIsIngiOiJoWGpLdmNWa3d2ZHR4M19sdnJqTmJtQkZfZW9BZjNMeGJCblBNVFJxY2JvIiwieSI6IlJHOEN5WDV5bW9oTGV0cTFhVzgzVG96UU1EaEdQbTNHNXlwZERmVy1mSlUifX0..6L__CO5yA3g4tkLY.HysY-036kmszNeXDdgP375x0NfFlobYYGoL51A5PQ4Js9y287qZZ.QFYcZCfC6JAo1-snZ6O5Cw'

describe('bad input', () => {
  test.each<[string, () => unknown, string]>([
    [
      'a profile that was not parsed',
      () => inspectDataSet({ profile: { ...TDEA }, prwDataSet: '00'.repeat(123) }),
      'ERR_ARGUMENT',
    ],
    [
      'a data set in bytes',
      () => inspectDataSet({ profile: TDEA, prwDataSet: new Uint8Array(123) as never }),
      'ERR_ARGUMENT',
    ],
    ['a short data set', () => inspectDataSet({ profile: TDEA, prwDataSet: '00' }), 'ERR_DATA_SET'],
    ['a PIN block in hex', () => inspectPinBlock({ block: '00' as never, state: 'clear' }), 'ERR_ARGUMENT'],
    [
      '9 bytes of PIN block',
      () => inspectPinBlock({ block: new Uint8Array(9), state: 'clear' }),
      'ERR_LENGTH',
    ],
    [
      'a PAN that is text',
      () =>
        inspectPinBlock({ block: new Uint8Array(8), state: 'enciphered', pan: '4929123456789012' as never }),
      'ERR_ARGUMENT',
    ],
    ['no state', () => inspectPinBlock({ block: new Uint8Array(8) } as never), 'ERR_ARGUMENT'],
    [
      'another state',
      () => inspectPinBlock({ block: new Uint8Array(8), state: 'open' as never }),
      'ERR_ARGUMENT',
    ],
    ['a JWE in bytes', () => inspectJweHeader(new Uint8Array(8) as never), 'ERR_ARGUMENT'],
  ])('%s', (_, call, code) => {
    expect(call).toThrow(expect.objectContaining({ code }))
  })
})

describe('a data set', () => {
  const full = buildDataSet({ profile: TDEA, ...TDEA_VALUES })

  test('masked, as a table', () => {
    const shown = inspectDataSet({
      profile: TDEA,
      prwDataSet: dataSetToHex(maskDataSet({ profile: TDEA, full })),
    })
    expect(shown.split('\n').map(line => line.split(/ {2,}/))).toEqual([
      ['PRW data set by profile illustrative-NOT-girocard-tdea-retail-mac 1.0.0 (illustrative)'],
      ['field', 'offset', 'length', 'bytes', 'meaning'],
      ['-----', '------', '------', '-----', '-------'],
      ['layout', '0', '1', '01', 'constant'],
      ['pan', '1', '10', '00 00 00 00 00 00 00 00 00 00', 'PAN, masked'],
      ['psn', '11', '1', '01', 'psn "01" (bcd)'],
      ['expiry', '12', '2', '28 12', 'expiry "2812" (bcd)'],
      ['pcc', '14', '2', '00 42', 'PIN change counter "0042" (bcd)'],
      ['pinBlock', '16', '8', '00 00 00 00 00 00 00 00', 'PIN in the form of the profile, masked'],
      ['random', '24', '4', 'DE AD 00 42', 'random number'],
      ['issuer', '28', '10', '69 73 5F 74 62 61 6E 6B 30 31', 'issuer "is_tbank01" (ascii)'],
      [
        'intdatag',
        '38',
        '20',
        '•• •• •• •• •• •• •• •• •• •• •• •• •• •• •• •• … 4 more',
        'intdatag "D1-T…"',
      ],
      ['filler', '58', '65', '00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 … 49 more', 'constant'],
    ])
  })

  test('not masked: marked, and nothing shown', () => {
    const shown = inspectDataSet({ profile: TDEA, prwDataSet: dataSetToHex(full) })
    expect(shown).toMatch(/^pan .*•• .* PAN, NOT MASKED: not shown$/m)
    expect(shown).toMatch(/^pinBlock .*•• .* NOT MASKED: not shown$/m)
    expectNoSecrets(shown)
    expect(shown.replaceAll(' ', '')).not.toContain(PAN_DIGITS.slice(0, 6))
  })

  test('what does not read is said to', () => {
    const bad = maskDataSet({ profile: TDEA, full })
    bad[0] = 9
    bad[11] = 0xab
    bad[38] = 0x1b
    const shown = inspectDataSet({ profile: TDEA, prwDataSet: dataSetToHex(bad) })
    expect(shown).toMatch(/^layout .* NOT the constant of the profile$/m)
    expect(shown).toMatch(/^psn .* psn does NOT read \(bcd\)$/m)
    expect(shown).toMatch(/^intdatag .* intdatag does not read$/m)
  })

  test('EBCDIC and binary', () => {
    const aes = ILLUSTRATIVE_NOT_GIROCARD_AES
    const shown = inspectDataSet({
      profile: aes,
      prwDataSet: dataSetToHex(
        maskDataSet({ profile: aes, full: buildDataSet({ profile: aes, ...AES_VALUES }) }),
      ),
    })
    expect(shown).toMatch(/^issuer .* issuer "is_tbank01" \(ebcdic\)$/m)
    expect(shown).toMatch(/^pcc +39 +4 +00 00 00 2A +PIN change counter "0042" \(binary\)$/m)
    expect(shown).toMatch(/^pinLength .* PIN length, masked$/m)
  })
})

describe('a PIN block', () => {
  const clear = buildFormat0({ pin: Pin.from('739204'), pan: Pan.from(PAN_DIGITS) })
  test('clear: the control nibble and nothing of the PIN', () => {
    const shown = inspectPinBlock({ block: clear, state: 'clear' })
    expect(shown).toMatch(/^control +0 +0\. +format 0: PIN field XOR PAN field$/m)
    expect(shown).toMatch(/^length +0 +\.• +PIN length, 4 to 12$/m)
    expect(shown).toMatch(/^body +1 +(?:•• ?){7} +PIN digits/m)
    expect(shown).not.toMatch(/73|A1|34|06/)
  })
  test('clear and wrong', () => {
    const shown = inspectPinBlock({ block: Uint8Array.of(0x53, 1, 2, 3, 4, 5, 6, 7), state: 'clear' })
    expect(shown).toMatch(/NOT a format of ISO 9564-1/)
    expect(shown).toMatch(/NOT a PIN length/)
  })
  test.each([
    [8, 'one TDEA block'],
    [16, 'one AES block, or two TDEA blocks'],
  ])('enciphered, %i bytes', (length, words) => {
    const shown = inspectPinBlock({ block: new Uint8Array(length).fill(0xab), state: 'enciphered' })
    expect(shown).toContain(`${length} bytes, ${words}: not shown`)
    expect(shown).not.toMatch(/AB/i)
  })
})

describe('a JWE header', () => {
  const jweOf = (header: unknown): string =>
    `${Buffer.from(typeof header === 'string' ? header : JSON.stringify(header)).toString('base64url')}..AAAA.AAAA.AAAA`

  test('the published sample of D1', () => {
    const shown = inspectJweHeader(SAMPLE)
    expect(shown).toMatch(/^alg +"ECDH-ES" +key agreement/m)
    expect(shown).toMatch(/^kid +"ASDsL-Jx2XOkRnFtqW-QblWY-mDnQW2LgapadFx75tA"/m)
    expect(shown).toMatch(/^epk +ephemeral public key: a point on P-256/m)
    expect(shown).toMatch(/^ {2}x +"hXjK/m)
    expect(shown).toMatch(/^encrypted key +0 bytes/m)
    expect(shown).toMatch(/^iv +12 bytes/m)
    expect(shown).toMatch(/^tag +16 bytes/m)
    expect(shown).not.toContain('HysY-036')
  })

  test('a private key member is not shown, nor is a point taken that is none', () => {
    const shown = inspectJweHeader(
      jweOf({ alg: 'x', epk: { kty: 'EC', crv: 'P-256', x: 'AA', d: 'SECRETD' } }),
    )
    expect(shown).toMatch(/NOT a point on P-256/)
    expect(shown).toMatch(/^ {2}d +•• +must NOT be here/m)
    expect(shown).not.toContain('SECRETD')
    expect(inspectJweHeader(jweOf({ epk: 'none' }))).toMatch(/NOT a point/)
  })

  test('what could play tricks on a terminal is escaped, what is long is cut', () => {
    const shown = inspectJweHeader(
      jweOf({ kid: '\u001b[31mred\u202e', zip: 'DEF', 'x\ny': 1, long: 'a'.repeat(500) }),
    )
    expect(shown).toContain('"\\u001b[31mred\\u202e"')
    expect(shown).toMatch(/^zip +"DEF" +compression: REFUSED/m)
    expect(shown).toContain('x\\ny')
    expect(shown).not.toContain('a'.repeat(60))
    expect(shown).toMatch(/^long .* not used here$/m)
  })

  test.each([
    ['no JWE', 'hello', 'not a JWE in compact form: 1 segments, not 5'],
    ['a long text', 'a'.repeat(8193), 'not a JWE of D1: 8193 characters'],
    ['a header that is no JSON', jweOf('{'), 'NOT canonical base64url of a strict JSON object'],
    ['a header that is no base64url', '!!!..AAAA.AAAA.AAAA', 'NOT base64url'],
    ['a member twice', jweOf('{"alg":"a","alg":"b"}'), 'NOT canonical base64url of a strict JSON object'],
  ])('%s', (_, jwe, words) => {
    expect(inspectJweHeader(jwe)).toContain(words)
  })
})

describe('a PIN block and a PAN', () => {
  const pan = Pan.from(PAN_DIGITS)
  const other = Pan.from('5413330089604129')
  const zeros = (first: number, length = 8): Uint8Array => {
    const block = new Uint8Array(length).fill(0xff)
    block.set([first, 0x12, 0x34])
    return block
  }

  test('a clear one is sound for its PAN, and for no other', () => {
    const block = buildFormat0({ pin: Pin.from('123456'), pan })
    expect(pinBlockTables({ block, state: 'clear', pan })).toMatchObject({ isSound: true })
    const shown = pinBlockTables({ block, state: 'clear', pan: other })
    expect(shown).toMatchObject({ isSound: false })
    expectNoSecrets(shown)
    expect(inspectPinBlock({ block, state: 'clear', pan })).toContain('a sound block of this PAN')
    expect(inspectPinBlock({ block, state: 'clear', pan: other })).toContain('NOT a sound block')
    expect(pinBlockTables({ block: zeros(0x34), state: 'clear', pan })).toMatchObject({ isSound: false })
  })

  test.each([
    [zeros(0x14), 'clear', 'holds nothing of it'],
    [zeros(0x24), 'clear', 'holds nothing of it'],
    [zeros(0x44, 16), 'clear', 'holds nothing of it'],
    [zeros(0x04), 'enciphered', 'the block is enciphered'],
  ] as const)('is not looked at where the block does not show one (%#)', (block, state, words) => {
    const shown = pinBlockTables({ block, state, pan })
    expect(shown).not.toHaveProperty('isSound')
    expect(JSON.stringify(shown)).toContain(words)
  })
})

test('a field that holds a part of a value says so', () => {
  const [sample = expect.unreachable()] = SAMPLES.parts
  const fields = SCHEMES.parts.fields.map(field =>
    field.id === 'intdatag' ? { ...field, length: 20, part: { from: 'left', skip: 0, take: 20 } } : field,
  )
  const profile = parseProfile({ ...SCHEMES.parts, fields })
  expect(inspectDataSet({ profile, prwDataSet: sample.prwDataSet })).toContain('part of the intdatag')
})
