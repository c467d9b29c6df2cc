/** What the prober tries, counted and taken apart: a computation that is missing here is never found. */
import { describe, expect, test } from 'vitest'
import { Pan } from '../../../src/primitives/pan.js'
import { Pin } from '../../../src/primitives/pin.js'
import {
  type Candidate,
  layoutsFor,
  macCandidates,
  type PreparedSample,
  prwCandidates,
  type ZeroRun,
} from '../../../src/tools/probe/candidates.js'
import { hex } from '../../support/vectors.js'

const RUN: readonly ZeroRun[] = [{ offset: 10, length: 16 }]
const sample = (more: Partial<PreparedSample> = {}): PreparedSample => {
  const masked = new Uint8Array(123).fill(0xee).fill(0, 10, 26)
  const [prwValue, prw] = ['ABCD', Uint8Array.of(0xab, 0xcd)]
  const values = { pcc: '0042', intdatag: 'D1-TAG-0123456789-AB', random: Uint8Array.of(1, 2) }
  const [pan, pin] = [Pan.from('5413330089604111'), Pin.from('739204')]
  return { masked, pan, pin, ...values, prwValue, macValue: '', prw, ...more }
}

/** `pan 8 bcd exact @10, digits-bcd @18` */
const shown = ({ layout, pinForm }: ReturnType<typeof layoutsFor>[number]): string => {
  const { form, offset } = layout.pan
  const pin = layout.pin === undefined ? '' : `, ${pinForm} @${layout.pin.offset}`
  return `${form.length} ${form.encoding} ${form.align} ${form.pad ?? '-'} @${offset}${pin}`
}
/** `pan:bcd pinBlock` */
const names = ({ inputs }: Candidate): string =>
  inputs.map(part => ('encoding' in part ? `${part.input}:${part.encoding}` : part.input)).join(' ')

describe('layouts', () => {
  test('PAN at either end of a run of zeros, then a PIN block in what is left of it', () => {
    const blocks = ['iso9564-format-0', 'iso9564-format-2', 'digits-bcd']
    expect(layoutsFor(RUN, 16).map(shown)).toEqual([
      '8 bcd exact - @10',
      ...blocks.map(form => `8 bcd exact - @10, ${form} @18`),
      '8 bcd exact - @18',
      ...blocks.map(form => `8 bcd exact - @18, ${form} @10`),
      '10 bcd left F @10',
      '10 bcd left F @16',
      '10 bcd right 0 @10',
      '10 bcd right 0 @16',
      '16 ascii exact - @10',
      '16 ebcdic exact - @10',
    ])
  })

  test('PAN in one run and PIN block in another, before or behind', () => {
    const runs = [
      { offset: 0, length: 8 },
      { offset: 10, length: 12 },
    ]
    const exact = layoutsFor(runs, 16)
      .map(shown)
      .filter(text => text.startsWith('8 bcd exact'))
    expect(exact.filter(text => text.includes('@0'))).toEqual([
      '8 bcd exact - @0',
      '8 bcd exact - @0, iso9564-format-0 @10',
      '8 bcd exact - @0, iso9564-format-0 @14',
      '8 bcd exact - @0, iso9564-format-2 @10',
      '8 bcd exact - @0, iso9564-format-2 @14',
      '8 bcd exact - @0, digits-bcd @10',
      '8 bcd exact - @0, digits-bcd @14',
      '8 bcd exact - @0, digits-ascii @10',
      '8 bcd exact - @10, iso9564-format-0 @0',
      '8 bcd exact - @10, iso9564-format-2 @0',
      '8 bcd exact - @10, digits-bcd @0',
      '8 bcd exact - @14, iso9564-format-0 @0',
      '8 bcd exact - @14, iso9564-format-2 @0',
      '8 bcd exact - @14, digits-bcd @0',
    ])
  })

  test.each([
    [19, '10 bcd left F', '19 ascii exact -', '19 ebcdic exact -'],
    [16, '8 bcd exact -', '16 ascii exact -', '16 ebcdic exact -'],
    [15, '8 bcd left F', '15 ascii exact -', '15 ebcdic exact -'],
  ])('a PAN of %i digits has ten forms', (digits, bcd, ascii, ebcdic) => {
    const first = layoutsFor([{ offset: 0, length: 20 }], digits)
      .filter(({ layout }) => layout.pin === undefined && layout.pan.offset === 0)
      .map(shown)
    expect(first.map(text => text.replace(' @0', ''))).toEqual([
      bcd,
      '10 bcd left F',
      '10 bcd right 0',
      ascii,
      '19 ascii left 20',
      '19 ascii right 30',
      ebcdic,
      '19 ebcdic left 40',
      '19 ebcdic right F0',
      '19 ebcdic right 40',
    ])
  })

  test('without room there is none', () => {
    expect(layoutsFor([{ offset: 0, length: 7 }], 16)).toEqual([])
  })
})

describe('candidates for the PRW', () => {
  /**
   * Without a full data set, by PIN form: the PIN with the masked data set and at most one of 8 values (4 PANs, 2 PCCs,
   * intdatag, random), in any order: 2! + 8·3!; the PIN with at most two values of different kinds: 1 + 8·2! + 21·3!.
   */
  test('all have the PIN, no two are alike, and there are as many as there must be', () => {
    const all = prwCandidates([], 16)
    expect(all).toHaveLength(4 * (2 + 8 * 6 + (1 + 8 * 2 + 21 * 6)))
    const keys = all.map(({ inputs, pinForm }) => JSON.stringify([inputs, pinForm]))
    expect(new Set(keys).size).toBe(all.length)
    for (const one of all) {
      expect(names(one)).toContain('pinBlock')
      expect(one.pinForm).toBeDefined()
      expect(one.inputs.length).toBeLessThanOrEqual(3)
      expect(one.layout).toEqual({ pan: undefined, pin: undefined })
    }
  })

  test('with a layout: the full data set alone where it has the PIN, else with the PIN beside it', () => {
    const full = prwCandidates(RUN, 16).filter(one => names(one).includes('dataSet.full'))
    const withPin = full.filter(({ layout }) => layout.pin !== undefined)
    expect(withPin.map(names)).toEqual(Array.from({ length: 6 }, () => 'dataSet.full'))
    const beside = full.filter(({ layout }) => layout.pin === undefined)
    expect(beside).toHaveLength(8 * 4 * (2 + 8 * 6))
    expect(beside.every(one => names(one).includes('pinBlock'))).toBe(true)
  })
})

describe('candidates for the MAC', () => {
  /** Values: 2 PRWs, and the 8 of the PRW. Of kinds: 10 alone, 37 pairs, 64 triples. */
  test('none has the PIN, no two are alike, and there are as many as there must be', () => {
    const all = macCandidates([], 16)
    expect(all).toHaveLength(1 + 10 * 2 + 37 * 6 + (10 + 37 * 2 + 64 * 6))
    expect(new Set(all.map(({ inputs }) => JSON.stringify(inputs))).size).toBe(all.length)
    for (const one of all) {
      expect(names(one)).not.toContain('pinBlock')
      expect(one.pinForm).toBeUndefined()
    }
  })

  test('with a layout: the full data set without the PIN, and what goes with the masked one', () => {
    const full = macCandidates(RUN, 16).filter(one => names(one).includes('dataSet.full'))
    expect(full).toHaveLength(8 * (1 + 10 * 2 + 37 * 6))
    expect(full.every(({ layout }) => layout.pin === undefined && layout.pan !== undefined)).toBe(true)
  })
})

describe('the message of a candidate', () => {
  const message = (all: readonly Candidate[], name: string, of = sample()): string | undefined => {
    const one = all.find(candidate => names(candidate) === name) ?? expect.unreachable(name)
    const bytes = one.message(of)
    return bytes && hex(bytes)
  }
  const INTDATAG_HEX = hex(Buffer.from('D1-TAG-0123456789-AB'))

  test('is its parts in their order', () => {
    const prw = prwCandidates([], 16)
    expect(message(prw, 'pinBlock')).toBe('0673A134F769FBEE')
    expect(message(prw, 'pinBlock pan:bcd')).toBe(`${message(prw, 'pinBlock')}5413330089604111`)
    expect(message(prw, 'pcc:bcd pinBlock')).toBe(`0042${message(prw, 'pinBlock')}`)
    expect(message(prw, 'pcc:ascii pinBlock')).toBe(`30303432${message(prw, 'pinBlock')}`)
    expect(message(prw, 'pinBlock dataSet.masked')).toBe(`${message(prw, 'pinBlock')}${hex(sample().masked)}`)
    const mac = macCandidates([], 16)
    expect(message(mac, 'pan:ascii')).toBe(hex(Buffer.from('5413330089604111')))
    expect(message(mac, 'random intdatag:ascii')).toBe(`0102${INTDATAG_HEX}`)
    const prws = mac
      .filter(one => names(one) === 'prw')
      .map(one => hex(one.message(sample()) ?? expect.unreachable()))
    expect(prws).toEqual(['ABCD', '41424344'])
    expect(mac.filter(one => names(one) === 'prw').flatMap(({ inputs }) => inputs)).toEqual([
      { input: 'prw', form: 'binary' },
      { input: 'prw', form: 'text' },
    ])
  })

  test('has the PIN in each form', () => {
    const forms = prwCandidates([], 16).filter(one => names(one) === 'pinBlock')
    expect(forms.map(one => [one.pinForm, hex(one.message(sample()) ?? expect.unreachable())])).toEqual([
      ['iso9564-format-0', '0673A134F769FBEE'],
      ['iso9564-format-2', '26739204FFFFFFFF'],
      ['digits-bcd', '739204FFFFFFFFFF'],
      ['digits-ascii', '373339323034000000000000'],
    ])
  })

  test('has the full data set with PAN and PIN in their places, and leaves the masked one as it is', () => {
    const one = prwCandidates(RUN, 16).find(({ layout, pinForm }) => layout.pin && pinForm === 'digits-bcd')
    const given = sample()
    const expected = `${'EE'.repeat(10)}5413330089604111739204FFFFFFFFFF${'EE'.repeat(97)}`
    expect(hex(one?.message(given) ?? expect.unreachable())).toBe(expected)
    expect(given.masked).toEqual(sample().masked)
  })

  test('has of a layout without PIN block the PAN alone', () => {
    const full = macCandidates(RUN, 16).find(one => names(one) === 'dataSet.full')
    const expected = `${'EE'.repeat(10)}5413330089604111${'00'.repeat(8)}${'EE'.repeat(97)}`
    expect(hex(full?.message(sample()) ?? expect.unreachable())).toBe(expected)
  })

  test('is none where the sample lacks a value, or its PAN does not fit', () => {
    const mac = macCandidates(RUN, 16)
    expect(message(mac, 'random', sample({ random: undefined }))).toBeUndefined()
    expect(message(mac, 'prw random', sample({ random: undefined }))).toBeUndefined()
    const short = sample({ pan: Pan.from('541333008960411') })
    expect(message(mac, 'pan:bcd', short)).toBeUndefined()
    expect(message(mac, 'dataSet.full', short)).toBeUndefined()
  })
})
