/** Whole runs of the prober, on data sets without zeros: nothing is masked in them, so there is little to try. */
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { computeMac } from '../../../src/primitives/mac.js'
import { Pan } from '../../../src/primitives/pan.js'
import { Pin } from '../../../src/primitives/pin.js'
import { encodePin } from '../../../src/seccos/profile/forms.js'
import { type ProbeReport, type ProbeSample, probeProfile } from '../../../src/tools/probe/probe.js'
import { nodeCiphers } from '../../mac/ciphers.js'
import { failure } from '../../support/errors.js'
import { bytes, hex } from '../../support/vectors.js'

// A run tries some thousand computations.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const PRW_KEY = '0123456789ABCDEFFEDCBA9876543210'
const MAC_KEY = '7CA110454A1A6E570131D9619DC1376E'
const keys = () => ({ prwTestKey: bytes(PRW_KEY), macTestKey: bytes(MAC_KEY) })
const CARDS = [
  { pan: '5413330089604111', pin: '739204', pcc: '0042', intdatag: 'D1-TAG-0123456789-AB', psn: '01' },
  { pan: '4000001234567899', pin: '1234', pcc: '1307', intdatag: 'D1-TAG-9876543210-YZ', psn: '02' },
] as const

/** CMAC over the PIN and the PCC; algorithm 1 with padding 3 over the PRW's text and the intdatag. */
function sampleOf({ pan, pin, pcc, intdatag }: (typeof CARDS)[number]): ProbeSample {
  const dataSet = new Uint8Array(123).fill(0xee)
  dataSet.set(bytes(pcc), 5)
  const digits = encodePin('digits-bcd', { pin: Pin.from(pin), pan: undefined, random: undefined })
  const prw = computeMac(
    { algorithm: 'cmac', padding: 'none' },
    nodeCiphers(bytes(PRW_KEY)),
    Uint8Array.of(...digits, ...Buffer.from(pcc)),
  )
  const prwValue = hex(prw)
  const mac = computeMac(
    { algorithm: 'iso9797-1-alg1', padding: 3 },
    nodeCiphers(bytes(MAC_KEY)),
    Uint8Array.from(Buffer.from(prwValue + intdatag)),
  )
  const texts = { prwDataSet: hex(dataSet), prwValue, macValue: hex(mac) }
  return { pan: Pan.from(pan), pin: Pin.from(pin), pcc, intdatag, ...texts }
}

describe('bad input', () => {
  const [first] = CARDS
  const one = (more: object = {}) => ({ ...keys(), samples: [{ ...sampleOf(first), ...more }] })

  test.each<[string, () => unknown]>([
    ['probeProfile takes an options object', () => undefined],
    ['probeProfile: unknown option "key"', () => ({ ...one(), key: 1 })],
    ['samples must be a list', () => ({ ...keys(), samples: {} })],
    ['samples must be a list', () => ({ ...keys(), samples: [] })],
    ['a test key must be a Uint8Array', () => ({ ...one(), prwTestKey: PRW_KEY })],
    ['a test key must be a Uint8Array', () => ({ ...one(), macTestKey: MAC_KEY })],
    ['a sample takes an options object', () => ({ ...one(), samples: [null] })],
    ['a sample: unknown option "expiry"', () => one({ expiry: '2812' })],
    ['pan must be a Pan, made by Pan.from of this copy of the library', () => one({ pan: first.pan })],
    ['pin must be a Pin, made by Pin.from of this copy of the library', () => one({ pin: first.pin })],
    ['random must be a Uint8Array', () => one({ random: '00' })],
    ['pcc must be a string', () => one({ pcc: 42 })],
    ['intdatag must be a string', () => one({ intdatag: undefined })],
    ['psn must be a string', () => one({ known: { psn: 1 } })],
    ['prwValue must be a string', () => one({ prwValue: 1 })],
    ['macValue must be a string', () => one({ macValue: 1 })],
  ])('«%s»', async (message, input) => {
    const error = await failure(() => probeProfile(input() as never), 'ERR_ARGUMENT', [PRW_KEY, first.pan])
    expect(error.message).toBe(message)
  })

  test.each([15, 17, 31, 33, 8, 0])('a test key of %i bytes', async length => {
    for (const name of ['prwTestKey', 'macTestKey']) {
      const call = () => probeProfile({ ...one(), [name]: new Uint8Array(length) })
      expect((await failure(call, 'ERR_LENGTH')).message).toBe(
        `a test key has 16, 24 or 32 bytes, not ${length}`,
      )
    }
  })

  test('test keys of 16, 24 and 32 bytes are taken', async () => {
    for (const length of [16, 24, 32]) {
      const call = () => probeProfile({ ...one({ macValue: '!' }), prwTestKey: new Uint8Array(length) })
      await failure(call, 'ERR_ENCODING')
    }
  })

  test('a PRW, or MAC, in no form that is known', async () => {
    for (const name of ['prwValue', 'macValue']) {
      const { message } = await failure(() => probeProfile(one({ [name]: '!' })), 'ERR_ENCODING')
      expect(message).toContain(`${name} is not 4 to 16 bytes`)
    }
  })

  test('a data set that is none', async () => {
    await failure(() => probeProfile(one({ prwDataSet: 'EE' })), 'ERR_DATA_SET')
  })
})

describe('two samples of two cards', () => {
  let report: ProbeReport
  beforeAll(async () => {
    const [one, two] = [sampleOf(CARDS[0]), sampleOf(CARDS[1])]
    // A value that one sample has and the other lacks is not looked for.
    report = await probeProfile({ ...keys(), samples: [{ ...one, known: { psn: '01' } }, two] })
  })

  test('show the PCC where it stands, and nothing else', () => {
    expect(report.places).toEqual([{ id: 'pcc', offset: 5, length: 2, encoding: 'bcd', certain: true }])
  })

  test('name both computations', () => {
    expect(report.prw.verdict).toBe('winner')
    expect(report.prw.matches).toMatchObject([
      {
        algorithm: 'cmac-tdea',
        padding: 'none',
        keyBytes: 16,
        pinForm: 'digits-bcd',
        inputs: [{ input: 'pinBlock' }, { input: 'pcc', encoding: 'ascii', length: 4, align: 'exact' }],
        outputBytes: 8,
        text: 'hex-upper',
      },
    ])
    expect(report.mac.verdict).toBe('winner')
    expect(report.mac.matches).toMatchObject([
      {
        algorithm: 'iso9797-1-alg1',
        padding: 3,
        inputs: [{ input: 'prw', form: 'text' }, { input: 'intdatag' }],
      },
    ])
  })

  test('make a draft that says what it leaves out', () => {
    expect(report.draft).toMatchObject({
      name: 'draft-from-probe',
      version: '0.0.0',
      provenance: 'illustrative',
      pinBlock: 'digits-bcd',
      randomBytes: 0,
    })
    expect(report.draft?.description).toMatch(/^Draft from probing test-key samples\..*set the provenance\.$/)
    expect(report.draft?.fields.map(({ id, offset, length }) => `${id} ${offset} ${length}`)).toEqual([
      'unknown0 0 5',
      'pcc 5 2',
      'unknown7 7 116',
    ])
    expect(report.draft?.prw).toMatchObject({ iv: 'none' })
    expect(report.draft?.mac).toMatchObject({ iv: '0000000000000000' })
    expect(report.draft?.mac.uncovered).toEqual(['pan', 'pinBlock', 'pcc', 'unknown0', 'unknown7'])
  })
})

test('a random number is looked for by its name, known values by theirs', async () => {
  const random = bytes('DEAD0042')
  const [first, second] = CARDS.map(card => {
    const { prwDataSet, ...sample } = sampleOf(card)
    const dataSet = bytes(prwDataSet)
    dataSet.set(random, 20)
    dataSet.set(bytes(card.psn), 30)
    dataSet.set(Buffer.from(card.intdatag), 40)
    return { ...sample, random, known: { psn: card.psn }, prwDataSet: hex(dataSet) }
  })
  const samples = [first ?? expect.unreachable(), second ?? expect.unreachable()]
  const { places, draft } = await probeProfile({ ...keys(), samples })
  expect(places.map(({ id, offset, certain }) => `${id} ${offset} ${certain}`)).toEqual([
    'intdatag 40 true',
    'pcc 5 true',
    'psn 30 true',
    'random 20 false',
  ])
  expect(draft?.randomBytes).toBe(4)
})

test('samples of which one is another scheme’s have no winner, and no draft', async () => {
  const [one, two] = [sampleOf(CARDS[0]), sampleOf(CARDS[1])]
  const { prw, mac, draft } = await probeProfile({
    ...keys(),
    samples: [one, { ...two, macValue: one.macValue }],
  })
  expect([prw.verdict, mac.verdict]).toEqual(['winner', 'none'])
  expect(draft).toBeUndefined()
})

test('one sample, even twice, has no winner', async () => {
  const one = sampleOf(CARDS[0])
  const { prw, mac, draft } = await probeProfile({ ...keys(), samples: [one, one] })
  expect([prw.verdict, mac.verdict]).toEqual(['more-samples-needed', 'more-samples-needed'])
  expect(draft).toBeUndefined()
})
