import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.js'
import { Pan } from '../../src/primitives/pan.js'
import { Pin } from '../../src/primitives/pin.js'
import {
  applyMask,
  buildDataSet,
  dataSetFromHex,
  dataSetToHex,
  maskDataSet,
  readDataSet,
  requireMasked,
  unmaskDataSet,
} from '../../src/seccos/data-set.js'
import type { DataSetValues } from '../../src/seccos/field-value.js'
import { decodeCharacters, encodeCharacters } from '../../src/seccos/profile/encoding.js'
import { encodePin, PIN_FORM_NAMES, pinFormBytes } from '../../src/seccos/profile/forms.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../src/seccos/profile/illustrative.js'
import type { ValueForm } from '../../src/seccos/profile/profile.js'
import {
  AES_VALUES,
  expectNoSecrets,
  INTDATAG,
  PAN_DIGITS,
  PIN_DIGITS,
  PROFILES,
  pan,
  pin,
  RANDOM_8,
  TDEA_VALUES,
} from './fixtures.js'

const TDEA = ILLUSTRATIVE_NOT_GIROCARD_TDEA
const AES = ILLUSTRATIVE_NOT_GIROCARD_AES

function thrownBy(call: () => unknown): unknown {
  try {
    call()
  } catch (error) {
    return error
  }
  return expect.unreachable()
}

describe('values that do not fit', () => {
  const longPan = Pan.from('6799998900000060018')
  const fields = TDEA_VALUES.fields
  const cases: readonly (readonly [string, DataSetValues, string])[] = [
    ['no pan', { ...TDEA_VALUES, pan: undefined }, 'pan'],
    ['no pin', { ...TDEA_VALUES, pin: undefined }, 'pinBlock'],
    ['no pcc', { ...TDEA_VALUES, pcc: undefined }, 'pcc'],
    ['three digits of pcc', { ...TDEA_VALUES, pcc: '042' }, 'pcc'],
    ['a pcc of letters', { ...TDEA_VALUES, pcc: '00A1' }, 'pcc'],
    ['a pcc of Arabic digits', { ...TDEA_VALUES, pcc: '٠٠٤٢' }, 'pcc'],
    ['a pcc with a line break', { ...TDEA_VALUES, pcc: '0042\n' }, 'pcc'],
    ['no intdatag', { ...TDEA_VALUES, intdatag: undefined }, 'intdatag'],
    ['19 characters of intdatag', { ...TDEA_VALUES, intdatag: INTDATAG.slice(1) }, 'intdatag'],
    ['an intdatag with an umlaut', { ...TDEA_VALUES, intdatag: `${INTDATAG.slice(1)}ä` }, 'intdatag'],
    ['no random', { ...TDEA_VALUES, random: undefined }, 'random'],
    ['a random too long', { ...TDEA_VALUES, random: RANDOM_8 }, 'random'],
    ['no own field', { ...TDEA_VALUES, fields: { psn: '01', expiry: '2812' } }, 'issuer'],
    ['no own fields', { ...TDEA_VALUES, fields: undefined }, 'psn'],
    ['a psn of one digit', { ...TDEA_VALUES, fields: { ...fields, psn: '1' } }, 'psn'],
    ['a psn of three', { ...TDEA_VALUES, fields: { ...fields, psn: '001' } }, 'psn'],
    ['a psn of letters', { ...TDEA_VALUES, fields: { ...fields, psn: 'AB' } }, 'psn'],
    ['an issuer too long', { ...TDEA_VALUES, fields: { ...fields, issuer: 'is_tbank001' } }, 'issuer'],
    ['an issuer with a tab', { ...TDEA_VALUES, fields: { ...fields, issuer: 'a\tb' } }, 'issuer'],
    ['an unknown field', { ...TDEA_VALUES, fields: { ...fields, cvv: '123' } }, 'fields'],
    ['a pan among the own fields', { ...TDEA_VALUES, fields: { ...fields, pan: PAN_DIGITS } }, 'fields'],
    ['a constant given', { ...TDEA_VALUES, fields: { ...fields, layout: '02' } }, 'fields'],
  ]
  test.each(cases)('%s', (_, values, field) => {
    const error = thrownBy(() => buildDataSet({ profile: TDEA, ...values }))
    expect(error).toMatchObject({ code: 'ERR_DATA_SET', field })
    expectNoSecrets(error)
  })

  test('in EBCDIC and binary', () => {
    const own = AES_VALUES.fields
    for (const [given, field] of [
      [{ ...own, issuer: 'a[b]' }, 'issuer'],
      [{ ...own, psn: '1234' }, 'psn'],
      [{ ...own, cardData: new Uint8Array(17) }, 'cardData'],
    ] as const) {
      expect(thrownBy(() => buildDataSet({ profile: AES, ...AES_VALUES, fields: given }))).toMatchObject({
        field,
      })
    }
  })

  test('a value of the wrong type is a mistake of the program', () => {
    const wrong: readonly unknown[] = [
      { ...TDEA_VALUES, pan: PAN_DIGITS },
      { ...TDEA_VALUES, pin: PIN_DIGITS },
      { ...TDEA_VALUES, pcc: 42 },
      { ...TDEA_VALUES, random: 'DEAD0042' },
      { ...TDEA_VALUES, fields: { ...TDEA_VALUES.fields, psn: Uint8Array.of(1) } },
    ]
    for (const values of wrong) {
      const error = thrownBy(() => buildDataSet({ profile: TDEA, ...(values as object) } as never))
      expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
      expectNoSecrets(error)
    }
    const text = { ...AES_VALUES, fields: { ...AES_VALUES.fields, cardData: 'CAFE' } }
    expect(thrownBy(() => buildDataSet({ profile: AES, ...text }))).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(thrownBy(() => buildDataSet({ profile: { ...TDEA }, ...TDEA_VALUES }))).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  test('a disposed PIN', () => {
    const gone = Pin.from('1234')
    gone.dispose()
    expect(thrownBy(() => buildDataSet({ profile: TDEA, ...TDEA_VALUES, pin: gone }))).toMatchObject({
      code: 'ERR_DISPOSED',
    })
  })

  test('19 digits of PAN fit', () => {
    expect(toHex(buildDataSet({ profile: TDEA, ...TDEA_VALUES, pan: longPan }).subarray(1, 11))).toBe(
      '6799998900000060018F',
    )
  })
})

describe('hex', () => {
  const masked = maskDataSet({ profile: TDEA, full: buildDataSet({ profile: TDEA, ...TDEA_VALUES }) })
  const hex = dataSetToHex(masked)
  test.each([
    ['lower case', hex.toLowerCase()],
    ['one digit short', hex.slice(1)],
    ['one byte short', hex.slice(2)],
    ['one byte too long', `${hex}00`],
    ['a letter that is no digit', `G${hex.slice(1)}`],
    ['a line break for a digit', `${hex.slice(1)}\n`],
    ['nothing', ''],
  ])('%s', (_, text) => {
    expect(thrownBy(() => dataSetFromHex(text))).toMatchObject({ code: 'ERR_DATA_SET', field: 'dataSet' })
  })
  test('not a string, not 123 bytes', () => {
    expect(thrownBy(() => dataSetFromHex(masked as never))).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(thrownBy(() => dataSetToHex(hex as never))).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(thrownBy(() => dataSetToHex(masked.subarray(1)))).toMatchObject({ field: 'dataSet' })
    expect(thrownBy(() => maskDataSet({ profile: TDEA, full: new Uint8Array(124) }))).toMatchObject({
      field: 'dataSet',
    })
  })
  test('there and back', () => {
    expect(hex).toHaveLength(246)
    expect(dataSetFromHex(hex)).toEqual(masked)
  })
})

describe('masking', () => {
  test('a mask of some digits or characters is over those, wherever it begins and ends, and over no other', () => {
    const of = (offset: number, length: number, encoding: 'bcd' | 'ascii') =>
      ({
        id: 'pan',
        offset: 0,
        length: 8,
        align: 'exact',
        encoding,
        masked: { offset, length, fill: encoding === 'bcd' ? 'f' : '2a' },
      }) as const
    for (const [encoding, text, fill] of [
      ['bcd', '6799998900000060', 'F'],
      ['ascii', '6799998900000060', '2A'],
    ] as const) {
      const units = text.length / fill.length
      for (let offset = 0; offset < units; offset++) {
        for (let length = 1; offset + length <= units; length++) {
          const bytes = fromHex(text, 'field')
          applyMask(of(offset, length, encoding), bytes)
          const [from, to] = [offset * fill.length, (offset + length) * fill.length]
          expect(toHex(bytes)).toBe(text.slice(0, from) + fill.repeat(length) + text.slice(to))
        }
      }
    }
  })

  test.each(PROFILES)('$name: a masked field that is not zero', ({ profile, values }) => {
    const masked = maskDataSet({ profile, full: buildDataSet({ profile, ...values }) })
    for (const field of profile.fields) {
      if (!('masked' in field && field.masked)) continue
      for (const at of [field.offset, field.offset + field.length - 1]) {
        const bad = masked.slice()
        bad[at] = 1
        for (const call of [
          () => requireMasked({ profile, dataSet: bad }),
          () => unmaskDataSet({ profile, dataSet: bad, ...values }),
          () => readDataSet({ profile, dataSet: bad }),
        ]) {
          expect(thrownBy(call)).toMatchObject({ code: 'ERR_DATA_SET', field: field.id })
        }
      }
    }
  })

  test.each(PROFILES)(
    '$name: unmasking gives the full data set back, and needs the values',
    ({ profile, values }) => {
      const full = buildDataSet({ profile, ...values })
      const before = full.slice()
      const masked = maskDataSet({ profile, full })
      expect(full).toEqual(before)
      expect(unmaskDataSet({ profile, dataSet: masked, pan, pin })).toEqual(full)
      expect(thrownBy(() => unmaskDataSet({ profile, dataSet: masked, pin }))).toMatchObject({ field: 'pan' })
      const pans = [
        PAN_DIGITS,
        toHex(new TextEncoder().encode(PAN_DIGITS)),
        PAN_DIGITS.replaceAll(/./g, 'F$&'),
      ]
      expect(pans.some(digits => toHex(full).includes(digits))).toBe(true)
      expect(pans.some(digits => toHex(masked).includes(digits))).toBe(false)
    },
  )
})

test('the layout, byte for byte: TDEA', () => {
  expect(toHex(buildDataSet({ profile: TDEA, ...TDEA_VALUES }))).toBe(
    [
      '01',
      '5413330089604111FFFF',
      '01',
      '2812',
      '0042',
      '0673A134F769FBEE',
      'DEAD0042',
      '69735F7462616E6B3031',
      '44312D5441472D303132333435363738392D4142',
      '00'.repeat(65),
    ].join(''),
  )
})

test('the layout, byte for byte: AES', () => {
  expect(toHex(buildDataSet({ profile: AES, ...AES_VALUES }))).toBe(
    [
      'A502',
      '89A26DA382819592F0F1',
      '404040F5F4F1F3F3F3F0F0F8F9F6F0F4F1F1F1',
      'F0F0F1',
      '32383132',
      '06',
      '0000002A',
      '0000000000000000000000000000CAFE',
      '0102030405060708',
      '00'.repeat(56),
    ].join(''),
  )
})

describe('reading back', () => {
  test('the TDEA data set', () => {
    const masked = maskDataSet({ profile: TDEA, full: buildDataSet({ profile: TDEA, ...TDEA_VALUES }) })
    expect(readDataSet({ profile: TDEA, dataSet: masked })).toEqual({
      pcc: '0042',
      intdatag: INTDATAG,
      random: TDEA_VALUES.random,
      fields: TDEA_VALUES.fields,
    })
  })

  test('the AES data set: pads that could be content stay', () => {
    const masked = maskDataSet({ profile: AES, full: buildDataSet({ profile: AES, ...AES_VALUES }) })
    expect(readDataSet({ profile: AES, dataSet: masked })).toEqual({
      pcc: '0042',
      random: RANDOM_8,
      fields: {
        issuer: 'is_tbank01',
        psn: '001',
        expiry: '2812',
        cardData: fromHex('0000000000000000000000000000CAFE', 'cardData'),
      },
    })
  })

  const masked = maskDataSet({ profile: TDEA, full: buildDataSet({ profile: TDEA, ...TDEA_VALUES }) })
  test.each([
    ['another constant', 0, 0x02, 'layout'],
    ['a constant at its end', 122, 0x01, 'filler'],
    ['a hex letter in a bcd psn', 11, 0x0a, 'psn'],
    ['a hex letter in the pcc', 14, 0xa0, 'pcc'],
    ['a control character', 38, 0x1f, 'intdatag'],
    ['a byte that is not ASCII', 28, 0xe4, 'issuer'],
  ])('%s', (_, at, byte, field) => {
    const bad = masked.slice()
    bad[at] = byte
    expect(thrownBy(() => readDataSet({ profile: TDEA, dataSet: bad }))).toMatchObject({
      code: 'ERR_DATA_SET',
      field,
    })
  })

  test('a binary pcc above 9999, an EBCDIC byte without character', () => {
    const bad = maskDataSet({ profile: AES, full: buildDataSet({ profile: AES, ...AES_VALUES }) })
    bad[41] = 0x27
    bad[42] = 0x10
    expect(thrownBy(() => readDataSet({ profile: AES, dataSet: bad }))).toMatchObject({ field: 'pcc' })
    bad[2] = 0x41
    expect(thrownBy(() => readDataSet({ profile: AES, dataSet: bad }))).toMatchObject({ field: 'issuer' })
  })

  test('what was built is read, whatever it was', () => {
    const digits = (n: number) =>
      fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: n, maxLength: n })
    const text = fc.string({ unit: fc.constantFrom(...'AZaz09 .-_'), maxLength: 10 })
    fc.assert(
      fc.property(
        digits(4),
        digits(2),
        digits(4),
        text,
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        (pcc, psn, expiry, issuer, random) => {
          const values = { ...TDEA_VALUES, pcc, random, fields: { psn, expiry, issuer } }
          const read = readDataSet({
            profile: TDEA,
            dataSet: maskDataSet({ profile: TDEA, full: buildDataSet({ profile: TDEA, ...values }) }),
          })
          expect(read).toEqual({
            pcc,
            intdatag: INTDATAG,
            random,
            fields: { psn, expiry, issuer: issuer.trimEnd() },
          })
        },
      ),
    )
  })
})

describe('encodings', () => {
  test('EBCDIC: the invariant characters as in code pages 037, 273 and 500 (Python codecs)', () => {
    const characters = ` .<(+&*);-/,%_>?:'="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789`
    const codes =
      '404B4C4D4E505C5D5E60616B6C6D6E6F7A7D7E7F818283848586878889919293949596979899A2A3A4A5A6A7A8A9C1C2C3C4C5C6C7C8C9D1D2D3D4D5D6D7D8D9E2E3E4E5E6E7E8E9F0F1F2F3F4F5F6F7F8F9'
    const form: ValueForm = { length: 82, encoding: 'ebcdic', align: 'exact' }
    const bytes = encodeCharacters(form, new TextEncoder().encode(characters))
    expect(bytes && toHex(bytes)).toBe(codes)
    expect(decodeCharacters(form, fromHex(codes, 'codes'))).toEqual(new TextEncoder().encode(characters))
  })

  const forms: readonly (readonly [ValueForm, string, string | undefined])[] = [
    [{ length: 3, encoding: 'bcd', align: 'left', pad: 'F' }, '123', '123FFF'],
    [{ length: 3, encoding: 'bcd', align: 'right', pad: '0' }, '123', '000123'],
    [{ length: 3, encoding: 'bcd', align: 'exact' }, '12345', undefined],
    [{ length: 3, encoding: 'bcd', align: 'left', pad: 'F' }, '', 'FFFFFF'],
    [{ length: 3, encoding: 'bcd', align: 'left', pad: 'F' }, '1234567', undefined],
    [{ length: 4, encoding: 'ascii', align: 'right', pad: '30' }, '42', '30303432'],
    [{ length: 4, encoding: 'binary', align: 'left', pad: 'AA' }, 'AB', '4142AAAA'],
  ]
  test.each(forms)('%j of %s', (form, text, hex) => {
    const bytes = encodeCharacters(form, new TextEncoder().encode(text))
    expect(bytes && toHex(bytes)).toBe(hex)
  })

  test('reading with a known number of characters, the rest must be pad', () => {
    const form: ValueForm = { length: 3, encoding: 'bcd', align: 'right', pad: '0' }
    const read = (hex: string, count?: number) => {
      const characters = decodeCharacters(form, fromHex(hex, 'hex'), count)
      return characters && new TextDecoder().decode(characters)
    }
    expect(read('000123', 4)).toBe('0123')
    expect(read('010123', 4)).toBeUndefined()
    expect(read('000123', 7)).toBeUndefined()
    expect(read('000123')).toBe('000123')
    expect(decodeCharacters({ ...form, encoding: 'binary' }, new Uint8Array(3))).toBeUndefined()
  })
})

describe('PIN forms', () => {
  const expected: Readonly<Record<(typeof PIN_FORM_NAMES)[number], string>> = {
    'iso9564-format-0': '041215FEDCBA9876',
    'iso9564-format-2': '241234FFFFFFFFFF',
    'digits-bcd': '1234FFFFFFFFFFFF',
    'digits-ascii': '313233340000000000000000',
  }
  test.each(PIN_FORM_NAMES)('%s', form => {
    const block = encodePin(form, {
      pin: Pin.from('1234'),
      pan: Pan.from('5432101234567891'),
      random: undefined,
    })
    expect(toHex(block)).toBe(expected[form])
    expect(block).toHaveLength(pinFormBytes(form))
    for (const digits of ['1234', '12345', '123456789012']) {
      expect(encodePin(form, { pin: Pin.from(digits), pan, random: undefined })).toHaveLength(
        pinFormBytes(form),
      )
    }
  })
  test('format 0 needs the PAN', () => {
    expect(
      thrownBy(() => encodePin('iso9564-format-0', { pin, pan: undefined, random: undefined })),
    ).toMatchObject({ field: 'pan' })
  })
})
