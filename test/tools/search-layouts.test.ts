/**
 * The search where no field table is known: the samples show where their values are, and what they hide is looked for in their zero
 * bytes. What the samples are made by shares no code with the search: node-forge, and HMACs over bytes that are put together here.
 */
import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { seccosContent as handMade } from '../../examples/demo/d1-seccos.js'
import { Pan } from '../../src/primitives/pan.js'
import { Pin } from '../../src/primitives/pin.js'
import { checkProfile, type ProfileSample } from '../../src/tools/check-profile.js'
import { type ProfileSearchInput, searchProfile } from '../../src/tools/search/search.js'
import { failure } from '../support/errors.js'

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'))

interface TestCard {
  readonly pan: string
  readonly pin: string
  readonly pcc: string
  readonly psn: string
}
const CARDS: readonly TestCard[] = [
  { pan: '5413330089604111', pin: '12345', pcc: '0042', psn: '01' },
  { pan: '4000001234567899', pin: '7392', pcc: '1307', psn: '02' },
  { pan: '6799991234567890128', pin: '998877665544', pcc: '9999', psn: '13' },
]

test('a data set in full, PAN and PIN in its zero bytes: of the layout nothing is told, and the draft agrees', async () => {
  const prwTestKey = hex('0123456789ABCDEFFEDCBA9876543210')
  const macTestKey = hex('7CA110454A1A6E570131D9619DC1376E')
  const samples = CARDS.map(({ pan, pin, pcc, psn }): ProfileSample => {
    const counter = { pcc, intdatag: `D1-TAG-0123456789-${pcc.slice(2)}` }
    const content = handMade(pin, { pan, psn, expiry: '2912', issuer: 'is_tbank01' }, counter, {
      prw: { hex: Buffer.from(prwTestKey).toString('hex'), kid: 'x' },
      mac: { hex: Buffer.from(macTestKey).toString('hex'), kid: 'x' },
    })
    const { prwDataSet = '', prwValue = '', macValue = '' } = content
    const random = hex(prwDataSet.slice(48, 56))
    return {
      pan: Pan.from(pan),
      pin: Pin.from(pin),
      ...counter,
      random,
      // The one is in the data set, and the other comes from outside.
      fields: { psn, batch: '7' },
      prwDataSet,
      prwValue,
      macValue,
    }
  })
  // The algorithm as a document's first page says it, so that the suite need not wait; `npm run search` leaves it out.
  const page = {
    algorithm: 'iso9797-1-alg3',
    padding: 2,
    iv: '00'.repeat(8),
    derivation: [],
    digest: 'none',
  } as const
  const prw = { ...page, inputs: [{ input: 'unknown' }] } as const
  const known = process.env['LONG'] === undefined ? { prw, mac: page } : {}
  const found = await searchProfile({ samples, prwTestKey, macTestKey, known })
  expect([found.prw?.verdict, found.mac?.verdict]).toEqual(['winner', 'winner'])
  expect(found.prw?.matches).toMatchObject([
    { algorithm: 'iso9797-1-alg3', inputs: [{ input: 'dataSet.full' }] },
  ])
  const { draft = expect.unreachable() } = found
  expect(draft.fields.filter(field => 'masked' in field && field.masked)).toMatchObject([
    { id: 'pan', offset: 1, length: 10, pad: 'F' },
    { id: 'pinBlock', offset: 16, pinForm: 'iso9564-format-0' },
  ])
  expect(found.fields.map(({ id, offset }) => `${id} ${offset}`)).toEqual([
    'unknown0 0',
    'zeros1 1',
    'psn 11',
    'unknown12 12',
    'pcc 14',
    'zeros16 16',
    'random 24',
    'unknown28 28',
    'intdatag 38',
    'zeros58 58',
  ])
  expect(draft.external).toEqual([{ id: 'batch', kind: 'text' }])
  expect((await checkProfile({ profile: draft, samples, prwTestKey, macTestKey })).agrees).toBe(true)
})

describe('with HMACs over bytes put together here', () => {
  const prwTestKey = Uint8Array.from({ length: 32 }, (_, i) => i)
  const macTestKey = Uint8Array.from({ length: 32 }, (_, i) => 255 - i)
  const hmac = (key: Uint8Array, ...parts: readonly string[]): string =>
    createHmac('sha256', key)
      .update(Buffer.from(parts.join(''), 'hex'))
      .digest('hex')
      .toUpperCase()
  /** EBCDIC of digits, capital letters A to I and the hyphen, in hex. */
  const ebcdic = (text: string): string =>
    [...text].map(c => (c === '-' ? '60' : c < 'A' ? `F${c}` : `C${c.charCodeAt(0) - 0x40}`)).join('')
  const ascii = (text: string): string => Buffer.from(text).toString('hex')
  const bcd8 = (pin: string): string => pin.padEnd(16, 'F')

  /** Bytes 0 to 122: PCC, intdatag in EBCDIC, then zeros, the PAN in the midst of them where it shows; then other bytes. */
  const dataSet = ({ pcc, pan }: TestCard, tag: string, full: boolean): string => {
    const number = full ? ascii(pan.padStart(19, '0')) : '00'.repeat(19)
    return `A5${pcc}${ebcdic(tag)}${'00'.repeat(3)}${number}${'00'.repeat(5)}${REST}`
  }
  const REST = 'EE'.repeat(73)
  const tagOf = (i: number): string => `ABC-0123456789-DEFG${i}`

  function samplesBy(
    make: (
      card: TestCard,
      tag: string,
    ) => { readonly prwValue: string; readonly mac: (prw: string) => string },
    more: (card: TestCard) => Partial<ProfileSample> = () => ({}),
  ): ProfileSample[] {
    return CARDS.map((card, i) => {
      const { prwValue, mac } = make(card, tagOf(i))
      const { pan, pin, pcc } = card
      return {
        pan: Pan.from(pan),
        pin: Pin.from(pin),
        pcc,
        intdatag: tagOf(i),
        prwDataSet: dataSet(card, tagOf(i), false).toUpperCase(),
        prwValue,
        macValue: mac(prwValue).slice(0, 16),
        ...more(card),
      }
    })
  }
  const page = { algorithm: 'hmac-sha256', digest: 'none' } as const
  const input = (samples: readonly ProfileSample[], known: ProfileSearchInput['known'] = {}) => ({
    samples,
    prwTestKey,
    macTestKey,
    known: { ...known, prw: { ...page, ...known.prw }, mac: { ...page, ...known.mac } },
  })
  /** The PRW over the data set in full and the PIN. */
  const overFull = samplesBy((card, tag) => ({
    prwValue: hmac(prwTestKey, dataSet(card, tag, true), bcd8(card.pin)),
    mac: prw => hmac(macTestKey, dataSet(card, tag, false), prw),
  }))

  const of = (value: string) => ({ input: 'unknown', value }) as const
  const PAIR = { inputs: [{ input: 'dataSet.full' }, of('pinBlock')] } as const

  test('zero bytes on both sides of the PAN, and an intdatag in EBCDIC', async () => {
    const { prw, mac, draft = expect.unreachable() } = await searchProfile(input(overFull, { prw: PAIR }))
    expect([prw?.verdict, mac?.verdict]).toEqual(['winner', 'winner'])
    expect(draft.fields.map(({ id, offset, length }) => [id, offset, length])).toEqual([
      ['unknown0', 0, 1],
      ['pcc', 1, 2],
      ['intdatag', 3, 20],
      ['zeros23', 23, 3],
      ['pan', 26, 19],
      ['zeros45', 45, 5],
      ['unknown50', 50, 73],
    ])
    expect(draft.fields[2]).toMatchObject({ encoding: 'ebcdic' })
    const check = await checkProfile({ profile: draft, samples: overFull, prwTestKey, macTestKey })
    expect(check.agrees).toBe(true)
  })

  test('a place that is told is kept, and nothing else is supposed for its value', async () => {
    const pan = {
      id: 'pan',
      offset: 26,
      length: 19,
      encoding: 'ascii',
      align: 'right',
      pad: '30',
      masked: true,
    } as const
    const { prw, fields, draft } = await searchProfile(
      input(overFull, {
        places: [pan],
        randomBytes: 0,
        pinBlock: 'digits-bcd',
        prw: PAIR,
        mac: { inputs: [of('dataSet'), of('prw')] },
      }),
    )
    expect(prw?.verdict).toBe('winner')
    expect(fields).toContainEqual(pan)
    expect(draft?.fields).toEqual(fields)
    const told = { ...pan, offset: 24 }
    const elsewhere = input(overFull, { places: [told], prw: PAIR })
    expect((await searchProfile({ ...elsewhere, only: 'prw' })).prw?.verdict).toBe('none')
  })

  test('a MAC over the data set in full: the draft has its layout, or there is none where two differ', async () => {
    const panOf = (card: TestCard): string => ascii(card.pan.padStart(19, '0'))
    const both = samplesBy((card, tag) => ({
      prwValue: hmac(prwTestKey, panOf(card), bcd8(card.pin)),
      mac: prw => hmac(macTestKey, prw, dataSet(card, tag, true)),
    }))
    const pair = {
      inputs: [
        { input: 'unknown', value: 'pan' },
        { input: 'unknown', value: 'pinBlock' },
      ],
    } as const
    const one = await searchProfile(input(both, { prw: pair }))
    expect([one.prw?.verdict, one.mac?.verdict]).toEqual(['winner', 'winner'])
    expect(one.draft?.fields).toContainEqual(expect.objectContaining({ id: 'pan', offset: 26 }))
    const left = ({ pan, pcc }: TestCard, tag: string): string =>
      `A5${pcc}${ebcdic(tag)}${pan.padEnd(20, 'F')}${'00'.repeat(17)}${REST}`
    const differing = samplesBy((card, tag) => ({
      prwValue: hmac(prwTestKey, left(card, tag), bcd8(card.pin)),
      mac: prw => hmac(macTestKey, prw, dataSet(card, tag, true)),
    }))
    const two = await searchProfile(input(differing, { prw: PAIR }))
    expect([two.prw?.verdict, two.mac?.verdict, two.draft]).toEqual(['winner', 'winner', undefined])
  })

  test('bytes from outside are an external value; one that a sample lacks is not looked for', async () => {
    const outside = samplesBy(
      (card, tag) => ({
        prwValue: hmac(prwTestKey, `C0${card.psn}`, ascii(card.pan.padEnd(19)), bcd8(card.pin)),
        mac: prw => hmac(macTestKey, dataSet(card, tag, false), prw),
      }),
      ({ psn, pin }) => ({
        fields: { tail: hex(`C0${psn}`), ...(pin.length === 4 ? {} : { loose: 'x' }) },
      }),
    )
    const { prw, draft } = await searchProfile(
      input(outside, { prw: { inputs: [of('tail'), of('pan'), of('pinBlock')] } }),
    )
    expect(prw?.verdict).toBe('winner')
    expect(draft?.external).toContainEqual({ id: 'tail', kind: 'bytes' })
  })

  test.each<[string, ProfileSearchInput['known'], string]>([
    [
      'places beside a table',
      { fields: [], places: [{ id: 'x', offset: 0, length: 1, constant: 'A5' }] },
      'ERR_ARGUMENT',
    ],
    [
      'places that overlap',
      {
        places: [
          { id: 'x', offset: 0, length: 2, constant: 'A500' },
          { id: 'y', offset: 1, length: 1, constant: '00' },
        ],
      },
      'ERR_DATA_SET',
    ],
    [
      'a place beyond the data set',
      { places: [{ id: 'x', offset: 122, length: 2, constant: '0000' }] },
      'ERR_DATA_SET',
    ],
    [
      'a constant that the samples do not have',
      { places: [{ id: 'x', offset: 0, length: 1, constant: '00' }] },
      'ERR_DATA_SET',
    ],
    ['a member that nobody knows', { layout: [] } as never, 'ERR_ARGUMENT'],
  ])('%s is refused', async (_name, known, code) => {
    await failure(() => searchProfile(input(overFull, known)), code as 'ERR_ARGUMENT', [])
  })
})
