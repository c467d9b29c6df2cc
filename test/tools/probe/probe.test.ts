import { beforeAll, describe, expect, test } from 'vitest'
import { fromHex } from '../../../src/base/bytes.js'
import { Pan } from '../../../src/primitives/pan.js'
import { Pin } from '../../../src/primitives/pin.js'
import { dataSetToHex } from '../../../src/seccos/data-set.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../../src/seccos/profile/parse.js'
import type { SeccosProfile } from '../../../src/seccos/profile/profile.js'
import { computePrw, generatePrwMac, verifyPrw, verifyPrwMac } from '../../../src/seccos/prw.js'
import { type ProbeInput, type ProbeSample, probeProfile } from '../../../src/tools/probe/probe.js'
import { expectNoSecrets, keysFor } from '../../seccos/fixtures.js'

const PRW_KEY = fromHex('0123456789ABCDEFFEDCBA9876543210', 'key')
const MAC_KEY = fromHex('7CA110454A1A6E570131D9619DC1376E', 'key')

const CARDS = [
  {
    pan: '5413330089604111',
    pin: '739204',
    pcc: '0042',
    psn: '01',
    expiry: '2812',
    intdatag: 'D1-TAG-0123456789-AB',
  },
  {
    pan: '4000001234567899',
    pin: '1234',
    pcc: '1307',
    psn: '02',
    expiry: '3006',
    intdatag: 'D1-TAG-9876543210-YZ',
  },
  {
    pan: '6799998900000060',
    pin: '00000',
    pcc: '0100',
    psn: '00',
    expiry: '2701',
    intdatag: 'AAAAAAAAAAAAAAAAAAAA',
  },
] as const
const RANDOMS = ['DEAD0042', '0BADCAFE', '12345678']

/** Samples as the scheme would make them. */
async function samplesBy(
  profile: SeccosProfile,
  fields: Record<string, string> = {},
): Promise<ProbeSample[]> {
  const { generate, mac } = await keysFor(profile)
  const samples: ProbeSample[] = []
  for (const [i, card] of CARDS.entries()) {
    const { psn, expiry, pcc, intdatag } = card
    const [pan, pin] = [Pan.from(card.pan), Pin.from(card.pin)]
    const random = fromHex((RANDOMS[i] ?? '').repeat(profile.randomBytes / 4), 'random')
    const values = { pan, pin, pcc, intdatag, random, fields: { psn, expiry, ...fields } }
    const { dataSet, prwValue } = await computePrw({ ...values, key: generate, profile })
    const { pin: _, ...rest } = values
    const { macValue } = await generatePrwMac({ ...rest, key: mac, profile, dataSet, prwValue })
    samples.push({
      pan,
      pin,
      pcc,
      intdatag,
      random,
      prwDataSet: dataSetToHex(dataSet),
      prwValue,
      macValue,
      known: { psn, expiry },
    })
  }
  return samples
}

const base = structuredClone(ILLUSTRATIVE_NOT_GIROCARD_TDEA)
const filler = (offset: number) => ({
  id: 'filler',
  offset,
  length: 123 - offset,
  constant: 'FF'.repeat(123 - offset),
})
interface Scheme {
  readonly name: string
  readonly profile: SeccosProfile
  readonly fields?: Record<string, string>
  readonly keys?: readonly [Uint8Array, Uint8Array]
}
const ROOMLESS = {
  name: 'AES-CMAC, base64, PAN in the data set for both',
  profile: parseProfile({
    ...structuredClone(ILLUSTRATIVE_NOT_GIROCARD_AES),
    fields: [
      { id: 'head', offset: 0, length: 3, constant: 'A1B2C3' },
      { id: 'pan', offset: 3, length: 10, encoding: 'bcd', align: 'right', pad: '0', masked: true },
      { id: 'psn', offset: 13, length: 1, encoding: 'bcd', align: 'exact', masked: false },
      { id: 'expiry', offset: 14, length: 2, encoding: 'bcd', align: 'exact', masked: false },
      { id: 'pcc', offset: 16, length: 2, encoding: 'bcd', align: 'exact', masked: false },
      { id: 'random', offset: 18, length: 8, encoding: 'binary', align: 'exact', masked: false },
      filler(26),
    ],
    pinBlock: 'iso9564-format-2',
    prw: {
      ...ILLUSTRATIVE_NOT_GIROCARD_AES.prw,
      inputs: [{ input: 'pinBlock' }, { input: 'dataSet.full' }],
      text: 'base64',
      uncovered: ['intdatag'],
    },
    mac: {
      ...ILLUSTRATIVE_NOT_GIROCARD_AES.mac,
      inputs: [{ input: 'dataSet.full' }, { input: 'prw', form: 'binary' }],
      text: 'hex-upper',
      uncovered: ['pinBlock', 'intdatag'],
    },
  }),
  keys: [
    fromHex('2B7E151628AED2A6ABF7158809CF4F3C', 'key'),
    fromHex('77A77FAF290C1FA30C683DF16BA7A77B', 'key'),
  ],
} satisfies Scheme

/** Profiles that differ in what the prober must find. */
const SCHEMES: readonly Scheme[] = [
  {
    name: 'the illustrative TDEA one',
    profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA,
    fields: { issuer: 'is_tbank01' },
  },
  {
    name: 'CMAC over PAN, PCC and PIN; MAC by algorithm 1 over PRW text and the intdatag',
    profile: parseProfile({
      ...base,
      fields: [
        { id: 'pan', offset: 0, length: 19, encoding: 'ebcdic', align: 'right', pad: '40', masked: true },
        { id: 'psn', offset: 19, length: 2, encoding: 'ascii', align: 'exact', masked: false },
        { id: 'expiry', offset: 21, length: 4, encoding: 'ebcdic', align: 'exact', masked: false },
        { id: 'pcc', offset: 25, length: 2, encoding: 'binary', align: 'exact', masked: false },
        filler(27),
      ],
      pinBlock: 'digits-bcd',
      prw: {
        ...base.prw,
        algorithm: 'cmac-tdea',
        padding: 'none',
        iv: 'none',
        text: 'hex-lower',
        inputs: [
          { input: 'pan', length: 8, encoding: 'bcd', align: 'exact' },
          { input: 'pinBlock' },
          { input: 'pcc', length: 4, encoding: 'ascii', align: 'exact' },
        ],
        uncovered: ['intdatag', 'random', 'psn', 'expiry'],
      },
      mac: {
        ...base.mac,
        algorithm: 'iso9797-1-alg1',
        padding: 3,
        outputBytes: 4,
        inputs: [
          { input: 'dataSet.masked' },
          { input: 'prw', form: 'text' },
          { input: 'intdatag', length: 20, encoding: 'ascii', align: 'exact' },
        ],
        uncovered: ['pan', 'pinBlock', 'random'],
      },
    }),
  },
  ROOMLESS,
]

describe('bad input', () => {
  let samples: ProbeSample[]
  beforeAll(async () => {
    samples = await samplesBy(ILLUSTRATIVE_NOT_GIROCARD_TDEA, { issuer: 'x' })
  })
  const input = (): ProbeInput => ({ samples, prwTestKey: PRW_KEY, macTestKey: MAC_KEY })
  const one = (change: object) => ({ ...input(), samples: [{ ...samples[0], ...change }] })
  test.each<[string, () => unknown, string]>([
    ['nothing', () => undefined, 'ERR_ARGUMENT'],
    ['no samples', () => ({ ...input(), samples: [] }), 'ERR_ARGUMENT'],
    ['samples as an object', () => ({ ...input(), samples: {} }), 'ERR_ARGUMENT'],
    ['a production key by another name', () => ({ ...input(), prwKey: PRW_KEY }), 'ERR_ARGUMENT'],
    ['a key in hex', () => ({ ...input(), prwTestKey: '00'.repeat(16) }), 'ERR_ARGUMENT'],
    ['a short key', () => ({ ...input(), macTestKey: new Uint8Array(8) }), 'ERR_LENGTH'],
    ['a PAN as text', () => one({ pan: '5413330089604111' }), 'ERR_ARGUMENT'],
    ['a PIN as text', () => one({ pin: '1234' }), 'ERR_ARGUMENT'],
    ['a PCC as a number', () => one({ pcc: 42 }), 'ERR_ARGUMENT'],
    ['a random as text', () => one({ random: 'DEAD' }), 'ERR_ARGUMENT'],
    ['a number among the known', () => one({ known: { psn: 1 } }), 'ERR_ARGUMENT'],
    ['an unknown member', () => one({ cvv: '123' }), 'ERR_ARGUMENT'],
    ['a short data set', () => one({ prwDataSet: '00' }), 'ERR_DATA_SET'],
    ['a PRW in no text form', () => one({ prwValue: '#'.repeat(16) }), 'ERR_ENCODING'],
    ['a MAC as a number', () => one({ macValue: 5 }), 'ERR_ARGUMENT'],
  ])('%s', async (_, make, code) => {
    let error: unknown
    try {
      await probeProfile(make() as never)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code })
    expectNoSecrets(error)
  })
})

describe.each(SCHEMES)(
  '$name',
  ({ name, profile, fields, keys: [prwTestKey, macTestKey] = [PRW_KEY, MAC_KEY] }) => {
    test('two samples are enough to find it, and the draft makes and verifies the third', async () => {
      const samples = await samplesBy(profile, fields)
      const report = await probeProfile({ samples: samples.slice(0, 2), prwTestKey, macTestKey })
      if (name.startsWith('AES-CMAC, base64')) {
        // Both cards have a PAN of 16 digits: how a longer one would lie in its field, they do not show.
        expect(report.prw.verdict).toBe('ambiguous')
        expect(report.prw.decidedBy).toContain('a PAN of 19 digits')
        expect(report.draft).toBeUndefined()
        return
      }
      expect(report.prw).toMatchObject({
        verdict: 'winner',
        matches: [{ algorithm: profile.prw.algorithm, padding: profile.prw.padding }],
      })
      expect(report.mac).toMatchObject({
        verdict: 'winner',
        matches: [{ algorithm: profile.mac.algorithm, padding: profile.mac.padding }],
      })
      expect(report.mac.matches[0]?.inputs.map(({ input }) => input)).toEqual(
        profile.mac.inputs.map(({ input }) => input),
      )
      expect(report.prw.tried).toBeGreaterThan(1000)
      for (const field of profile.fields) {
        if ('constant' in field || field.masked || field.id === 'issuer') continue
        const { id, offset, length, encoding } = field
        expect(report.places).toContainEqual({ id, offset, length, encoding, certain: true })
      }
      expectNoSecrets(report)

      const draft = report.draft ?? expect.unreachable()
      expect(draft).toMatchObject({ provenance: 'illustrative', name: 'draft-from-probe' })
      expect(parseProfile(JSON.parse(JSON.stringify(draft)))).toEqual(draft)
      const third = samples[2] ?? expect.unreachable()
      const { verify, mac } = await keysFor(profile)
      const dataSet = fromHex(third.prwDataSet, 'dataSet')
      const { pan, pin, prwValue, macValue, intdatag, pcc, random } = third
      const values = { pan, intdatag, pcc, ...(draft.randomBytes > 0 && { random }) }
      expect(
        await verifyPrw({ ...values, pin, key: verify, profile: draft, dataSet, prwValue }),
      ).toMatchObject({
        verified: true,
        provenance: 'illustrative',
      })
      expect(
        await verifyPrwMac({ ...values, key: mac, profile: draft, dataSet, prwValue, macValue }),
      ).toMatchObject({ verified: true })
    })
  },
)

describe('verdicts', () => {
  // A data set with the least room for PAN and PIN: a fifth of the candidates, and the verdicts are on their number.
  let samples: ProbeSample[]
  beforeAll(async () => {
    samples = await samplesBy(ROOMLESS.profile)
  })
  const probe = (some: ProbeSample[], prwTestKey = ROOMLESS.keys[0]) =>
    probeProfile({ samples: some, prwTestKey, macTestKey: ROOMLESS.keys[1] })

  test('one sample names no winner', async () => {
    const report = await probe(samples.slice(0, 1))
    expect(report.prw.verdict).toBe('more-samples-needed')
    expect(report.mac.verdict).toBe('more-samples-needed')
    expect(report.prw.matches.length).toBeGreaterThan(0)
    expect(report.draft).toBeUndefined()
    expect(report.places.every(({ certain }) => !certain)).toBe(true)
  })

  test('nor does the same one twice, nor another key', async () => {
    const [one] = samples
    const report = await probe(
      [one, one] as ProbeSample[],
      fromHex('FEDCBA98765432100123456789ABCDEF', 'key'),
    )
    expect(report.prw).toMatchObject({ verdict: 'none', matches: [] })
    expect(report.mac.verdict).toBe('more-samples-needed')
    expect(report.draft).toBeUndefined()
  })

  test('samples that contradict one another find nothing; keys of 24 and 32 bytes are tried too', async () => {
    const [one, two] = samples
    const contradictory = [one, { ...two, prwValue: one?.prwValue, macValue: one?.macValue }] as ProbeSample[]
    const key = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => i)
    for (const [prwTestKey, macTestKey] of [
      [key(24), ROOMLESS.keys[1]],
      [key(32), key(32)],
    ] as const) {
      const report = await probeProfile({ samples: contradictory, prwTestKey, macTestKey })
      expect([report.prw.verdict, report.mac.verdict]).toEqual(['none', 'none'])
    }
  })
})
