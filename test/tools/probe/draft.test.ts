import { describe, expect, test } from 'vitest'
import { findPlaces, type Layout, type Place, zeroRuns } from '../../../src/tools/probe/candidates.js'
import { draftProfile } from '../../../src/tools/probe/draft.js'
import { type ProbeMatch, targetsOf } from '../../../src/tools/probe/trial.js'

const panAt = (offset: number): Layout['pan'] => ({
  offset,
  form: { length: 8, encoding: 'bcd', align: 'exact' },
})
const match = (layout: Layout, inputs: ProbeMatch['inputs']): ProbeMatch => ({
  algorithm: 'cmac-tdea',
  padding: 'none',
  keyBytes: 16,
  inputs,
  pinForm: 'digits-bcd',
  layout,
  outputBytes: 8,
  text: 'hex-upper',
})
const PRW = match({ pan: panAt(0), pin: { offset: 8 } }, [{ input: 'dataSet.full' }])
const place = (id: string, offset: number, length: number, certain = true): Place => ({
  id,
  offset,
  length,
  encoding: id === 'random' ? 'binary' : 'bcd',
  certain,
})

describe('no draft', () => {
  test('where PRW and MAC have the PAN in different places', () => {
    const mac = match({ pan: panAt(20), pin: undefined }, [{ input: 'dataSet.masked' }])
    expect(draftProfile({ prw: PRW, mac, places: [], randomBytes: 0 })).toBeUndefined()
  })
  test('where what was found is no sound profile: a MAC that needs the PIN', () => {
    const mac = match(PRW.layout, [{ input: 'dataSet.full' }])
    expect(draftProfile({ prw: PRW, mac, places: [], randomBytes: 0 })).toBeUndefined()
  })
  test('where the PRW does not take the PIN', () => {
    const masked = match({ pan: undefined, pin: undefined }, [{ input: 'dataSet.masked' }])
    const prw = { ...masked, pinForm: undefined }
    expect(draftProfile({ prw, mac: masked, places: [], randomBytes: 0 })).toBeUndefined()
  })
  test('but a fault of the program is thrown on', () => {
    const prw = { ...PRW, inputs: undefined as never }
    expect(() => draftProfile({ prw, mac: PRW, places: [], randomBytes: 0 })).toThrow(TypeError)
  })
})

test('the draft takes the first free certain place of each value and fills the gaps', () => {
  const mac = match({ pan: undefined, pin: undefined }, [{ input: 'dataSet.masked' }])
  const places = [
    place('pcc', 4, 2),
    place('pcc', 18, 2),
    place('pcc', 40, 2),
    place('psn', 30, 1, false),
    place('random', 50, 4),
    place('expiry', 122, 1),
  ]
  const draft = draftProfile({ prw: PRW, mac, places, randomBytes: 8 })
  expect(draft?.fields.map(({ id, offset, length }) => `${id} ${offset} ${length}`)).toEqual([
    'pan 0 8',
    'pinBlock 8 8',
    'unknown16 16 2',
    'pcc 18 2',
    'unknown20 20 102',
    'expiry 122 1',
  ])
  expect(draft).toMatchObject({ provenance: 'illustrative', pinBlock: 'digits-bcd', randomBytes: 8 })
  expect(draft?.prw.uncovered.toSorted()).toEqual(['intdatag', 'random'])
})

test('places that touch PAN or PIN block are free, in order whatever they were found in', () => {
  const prw = match({ pan: panAt(40), pin: { offset: 48 } }, [{ input: 'dataSet.full' }])
  const mac = match({ pan: undefined, pin: undefined }, [{ input: 'dataSet.masked' }])
  const places = [place('expiry', 56, 2), place('random', 60, 8), place('psn', 47, 1), place('pcc', 38, 2)]
  const draft = draftProfile({ prw, mac, places, randomBytes: 8 })
  const shown = draft?.fields.map(field => `${field.id} ${field.offset} ${'masked' in field && field.masked}`)
  expect(shown).toEqual([
    'unknown0 0 false',
    'pcc 38 false',
    'pan 40 true',
    'pinBlock 48 true',
    'expiry 56 false',
    'unknown58 58 false',
    'random 60 false',
    'unknown68 68 false',
  ])
})

describe('places', () => {
  const dataSet = (at: number, ...bytes: number[]): Uint8Array => {
    const set = new Uint8Array(123).fill(0xee)
    set.set(bytes, at)
    return set
  }
  test('a value that is the same in all samples is a possibility, one that differs is certain', () => {
    const sets = [dataSet(3, 0x00, 0x42, 0x01), dataSet(3, 0x13, 0x07, 0x01)]
    expect(
      findPlaces(sets, [
        { id: 'psn', values: ['01', '01'] },
        { id: 'pcc', values: ['0042', '1307'] },
      ]),
    ).toEqual([
      { id: 'pcc', offset: 3, length: 2, encoding: 'bcd', certain: true },
      { id: 'psn', offset: 5, length: 1, encoding: 'bcd', certain: false },
    ])
  })
  test('a number of 3 to 9 digits is looked for in 4, 3 and 2 binary bytes, another text is not', () => {
    const sets = [dataSet(3, 0, 0, 0, 42), dataSet(3, 0, 0, 5, 27)]
    const binary = (...values: string[]): string[] =>
      findPlaces(sets, [{ id: 'pcc', values }]).map(
        ({ offset, length, encoding }) => `${encoding} ${length} @${offset}`,
      )
    expect(binary('0042', '1307')).toEqual(['binary 4 @3', 'binary 3 @4', 'binary 2 @5'])
    for (const others of [
      ['x042', 'x1307'],
      ['042x', '1307x'],
      ['42', '27'],
      ['0000000042', '0000001307'],
    ]) {
      expect(binary(...others)).toEqual([])
    }
    expect(
      findPlaces([dataSet(9, 7), dataSet(9, 8)], [{ id: 'n', values: [Uint8Array.of(7), Uint8Array.of(8)] }]),
    ).toEqual([{ id: 'n', offset: 9, length: 1, encoding: 'binary', certain: true }])
  })
  test('a place may end with the data set, and a value may be zeros in one sample', () => {
    const sets = [dataSet(121, 0, 0), dataSet(121, 0x13, 0x07)]
    expect(findPlaces(sets, [{ id: 'pcc', values: ['0000', '1307'] }])).toEqual([
      { id: 'pcc', offset: 121, length: 2, encoding: 'bcd', certain: true },
    ])
  })
  test('a certain place takes its own bytes from a run of zeros, and none before it', () => {
    expect(zeroRuns([dataSet(0, 0, 0, 0, 0, 0)], [place('pcc', 2, 1)])).toEqual([
      { offset: 0, length: 2 },
      { offset: 3, length: 2 },
    ])
  })
  test('values of different lengths, and nothing but zeros, are not looked for', () => {
    const sets = [new Uint8Array(123), new Uint8Array(123)]
    expect(
      findPlaces(sets, [
        { id: 'a', values: ['1', '123'] },
        { id: 'b', values: ['00', '00'] },
      ]),
    ).toEqual([])
    expect(findPlaces(sets, [{ id: 'c', values: [Uint8Array.of(0), Uint8Array.of(0)] }])).toEqual([])
  })
  test('runs of zeros: in all samples, outside certain places', () => {
    const one = dataSet(0, 0, 0, 0, 0)
    one.set([0, 0, 0], 120)
    const two = dataSet(0, 0, 0, 0, 7)
    two.set([0, 0, 0], 120)
    expect(zeroRuns([one, two], [place('pcc', 0, 1), place('psn', 121, 1, false)])).toEqual([
      { offset: 1, length: 2 },
      { offset: 120, length: 3 },
    ])
  })
})

test('texts: every form and length that fits all of them, the same bytes once', () => {
  expect(
    targetsOf('macValue', ['0123456789012345']).map(({ text, outputBytes }) => `${text} ${outputBytes}`),
  ).toEqual(['hex-upper 8', 'base64 12'])
  expect(targetsOf('macValue', ['abcdef01', 'ABCDEF01']).map(({ text }) => text)).toEqual(['base64'])
  expect(
    targetsOf('macValue', ['q83v-w', 'q83vAQ']).map(({ text, outputBytes }) => [text, outputBytes]),
  ).toEqual([['base64url', 4]])
})
