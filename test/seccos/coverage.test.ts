/**
 * Changing anything that a computation covers changes the verdict; what it does not cover is what the profile lists
 * as `uncovered`, no more and no less. On random profiles, and byte by byte on the illustrative ones.
 */
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Key } from '../../src/backend/key.js'
import { isIssuerPinError } from '../../src/base/errors.js'
import { dataSetToHex } from '../../src/seccos/data-set.js'
import { uncoveredIn } from '../../src/seccos/profile/coverage.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import { ALGORITHMS, type ComputationInput, type SeccosProfile } from '../../src/seccos/profile/profile.js'
import { computePrw, generatePrwMac, verifyPrw, verifyPrwMac } from '../../src/seccos/prw.js'
import { INTDATAG, keyOf, keysFor, OTHER_PAN, OTHER_PIN, PROFILES, pan, pin, RANDOM_8 } from './fixtures.js'

const KEYS = new Map<string, Key>()
beforeAll(async () => {
  KEYS.set('prw-generate-hmac32', await keyOf('prw-generate', 'hmac32'))
  KEYS.set('hmac-hmac32', await keyOf('hmac', 'hmac32', 1))
  for (const kind of ['tdea16', 'tdea24', 'aes16', 'aes24', 'aes32']) {
    KEYS.set(`prw-generate-${kind}`, await keyOf('prw-generate', kind))
    for (const usage of kind.startsWith('aes')
      ? (['cmac'] as const)
      : (['cmac', 'cbc-mac', 'retail-mac'] as const)) {
      KEYS.set(`${usage}-${kind}`, await keyOf(usage, kind, 1))
    }
  }
})

/** A data set in which each field that a computation may cover is there or not. */
const tail = (id: string, offset: number, length: number) => ({
  id,
  offset,
  length,
  constant: '5A'.repeat(length),
})
const layout = fc
  .record({
    pin: fc.boolean(),
    pcc: fc.boolean(),
    intdatag: fc.boolean(),
    random: fc.boolean(),
    psnMasked: fc.boolean(),
  })
  .map(({ pin: hasPin, pcc, intdatag, random, psnMasked }) => {
    const exact = { align: 'exact', masked: false } as const
    const wanted = [
      { id: 'pan', length: 19, encoding: 'ascii', align: 'left', pad: '20', masked: true },
      { id: 'psn', length: 1, encoding: 'bcd', align: 'exact', masked: psnMasked },
      ...(hasPin ? [{ id: 'pinBlock', length: 8, encoding: 'binary', align: 'exact', masked: true }] : []),
      ...(pcc ? [{ id: 'pcc', length: 2, encoding: 'bcd', ...exact }] : []),
      ...(intdatag ? [{ id: 'intdatag', length: 20, encoding: 'ebcdic', ...exact }] : []),
      ...(random ? [{ id: 'random', length: 8, encoding: 'binary', ...exact }] : []),
    ]
    let offset = 0
    const fields = wanted.map(field => {
      offset += field.length
      return { ...field, offset: offset - field.length }
    })
    return [...fields, tail('filler', offset, 123 - offset)]
  })

const anyInput: fc.Arbitrary<ComputationInput> = fc.constantFrom<ComputationInput[]>(
  { input: 'dataSet.full' },
  { input: 'dataSet.masked' },
  { input: 'pinBlock' },
  { input: 'random' },
  { input: 'field', id: 'psn' },
  { input: 'field', id: 'pan' },
  { input: 'pan', length: 10, encoding: 'bcd', align: 'left', pad: 'F' },
  { input: 'pcc', length: 2, encoding: 'binary', align: 'exact' },
  { input: 'intdatag', length: 20, encoding: 'ascii', align: 'exact' },
  { input: 'prw', form: 'text' },
  { input: 'prw', form: 'binary' },
  { input: 'constant', constant: 'C0FFEE' },
  { input: 'external', id: 'cardData', length: 4, encoding: 'ascii', align: 'exact' },
)

/** A key that is derived: what it is derived from is covered. A part of a value is not. */
const derivation = fc.record({
  method: fc.constant('cmac-counter'),
  counterBytes: fc.constantFrom(1, 2, 4),
  inputs: fc.array(
    fc.constantFrom<ComputationInput[]>(
      { input: 'field', id: 'psn' },
      { input: 'pan', length: 10, encoding: 'bcd', align: 'left', pad: 'F' },
      { input: 'pcc', length: 2, encoding: 'bcd', align: 'exact' },
      { input: 'intdatag', length: 20, encoding: 'ebcdic', align: 'exact' },
      { input: 'external', id: 'cardData', length: 4, encoding: 'ebcdic-273', align: 'exact' },
      { input: 'constant', constant: '4D4143' },
    ),
    { minLength: 1, maxLength: 2 },
  ),
})

const NAMES = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac-tdea', 'cmac-aes', 'hmac-sha256'] as const
const way = fc.constantFrom(...NAMES).chain(algorithm => {
  const { paddings, keyBytes, hasIv, cipher } = ALGORITHMS[algorithm]
  const derived = fc.option(fc.array(derivation, { minLength: 1, maxLength: 2 }), { nil: undefined })
  return fc.record({
    algorithm: fc.constant(algorithm),
    padding: fc.constantFrom(...paddings),
    iv: hasIv ? fc.constantFrom('0000000000000000', '0123456789ABCDEF') : fc.constant('none'),
    keyBytes: fc.constantFrom(...keyBytes),
    outputBytes: fc.constant(8),
    text: fc.constantFrom('hex-upper', 'hex-lower', 'base64', 'base64url'),
    inputs: fc.array(anyInput, { minLength: 1, maxLength: 5 }),
    digest: fc.constantFrom(undefined, undefined, 'sha-1', 'sha-256'),
    derivation: cipher === 'hmac' ? fc.constant(undefined) : derived,
  })
})

/** Profiles that parse: the generator leaves `uncovered` to be computed, and skips what a rule refuses. */
const anyProfile: fc.Arbitrary<SeccosProfile> = fc
  .record({ fields: layout, prw: way, mac: way, pinBlock: fc.constantFrom('iso9564-format-2', 'digits-bcd') })
  .map(draft => {
    // As JSON has it: what is undefined is not there.
    const json = JSON.parse(
      JSON.stringify({
        profileFormat: 2,
        name: 'random',
        version: '1',
        provenance: 'illustrative',
        randomBytes: 8,
        external: [{ id: 'cardData', kind: 'text' }],
        ...draft,
        prw: { ...draft.prw, uncovered: [] },
        mac: { ...draft.mac, uncovered: [] },
      }),
    ) as SeccosProfile
    try {
      // What it leaves out can be asked before it is a profile: the shape is the same.
      const prw = { ...json.prw, uncovered: uncoveredIn(json, 'prw') }
      const mac = { ...json.mac, uncovered: uncoveredIn(json, 'mac') }
      return parseProfile({ ...json, prw, mac })
    } catch (error) {
      if (isIssuerPinError(error)) return undefined
      throw error
    }
  })
  .filter(profile => profile !== undefined)

const BASE = {
  pan,
  pin,
  pcc: '0042',
  intdatag: INTDATAG,
  random: RANDOM_8,
  fields: { psn: '01', cardData: 'AB12' },
}
/** For every value there is: another one. */
const CHANGES: Readonly<Record<string, Partial<typeof BASE>>> = {
  pan: { pan: OTHER_PAN },
  pinBlock: { pin: OTHER_PIN },
  pcc: { pcc: '0043' },
  intdatag: { intdatag: 'D1-TAG-0123456789-AC' },
  random: { random: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 9) },
  psn: { fields: { psn: '02', cardData: 'AB12' } },
  cardData: { fields: { psn: '01', cardData: 'AB13' } },
}

describe('random profiles', () => {
  test('a covered value changes the PRW, an uncovered one does not', async () => {
    await fc.assert(
      fc.asyncProperty(anyProfile, async profile => {
        const { cipher } = ALGORITHMS[profile.prw.algorithm]
        const key = KEYS.get(`prw-generate-${cipher}${profile.prw.keyBytes}`) ?? expect.unreachable()
        const { prwValue } = await computePrw({ ...BASE, key, profile })
        for (const [name, change] of Object.entries(CHANGES)) {
          const other = await computePrw({ ...BASE, ...change, key, profile })
          expect({ name, changed: other.prwValue !== prwValue }).toEqual({
            name,
            changed: !profile.prw.uncovered.includes(name),
          })
        }
      }),
      { numRuns: 60 },
    )
  })

  test('a covered value changes the MAC, an uncovered one does not', async () => {
    await fc.assert(
      fc.asyncProperty(anyProfile, async profile => {
        const { cipher, macUsage } = ALGORITHMS[profile.mac.algorithm]
        const key = KEYS.get(`${macUsage}-${cipher}${profile.mac.keyBytes}`) ?? expect.unreachable()
        const prwKind = `${ALGORITHMS[profile.prw.algorithm].cipher}${profile.prw.keyBytes}`
        const prwKey = KEYS.get(`prw-generate-${prwKind}`) ?? expect.unreachable()
        const { prwValue } = await computePrw({ ...BASE, key: prwKey, profile })
        const macOver = async (values: Partial<typeof BASE>, prw: string) => {
          const { dataSet } = await computePrw({ ...BASE, ...values, key: prwKey, profile })
          return (await generatePrwMac({ ...BASE, ...values, key, profile, dataSet, prwValue: prw })).macValue
        }
        const macValue = await macOver({}, prwValue)
        const another = (await computePrw({ ...BASE, pin: OTHER_PIN, key: prwKey, profile })).prwValue
        const outcomes = { prw: await macOver({}, another) } as Record<string, string>
        for (const [name, change] of Object.entries(CHANGES)) outcomes[name] = await macOver(change, prwValue)
        for (const [name, other] of Object.entries(outcomes)) {
          expect({ name, changed: other !== macValue }).toEqual({
            name,
            changed: !profile.mac.uncovered.includes(name),
          })
        }
      }),
      { numRuns: 60 },
    )
  })
})

describe.each(PROFILES)('$name, byte by byte', ({ profile, values }) => {
  test('no other data set, PRW or MAC is taken for the right one', async () => {
    const { generate, verify, mac } = await keysFor(profile)
    const { dataSet, prwValue } = await computePrw({ ...values, key: generate, profile })
    const { macValue } = await generatePrwMac({ key: mac, profile, dataSet, prwValue, intdatag: INTDATAG })
    const takes = async (call: Promise<{ verified: boolean }>) =>
      call.then(
        ({ verified }) => verified,
        error => (isIssuerPinError(error) && error.code === 'ERR_DATA_SET' ? false : Promise.reject(error)),
      )
    const prwOf = (set: Uint8Array, text = prwValue) =>
      takes(verifyPrw({ key: verify, profile, pin, pan, dataSet: set, prwValue: text }))
    const macOf = (set: Uint8Array, text = prwValue, macText = macValue) =>
      takes(
        verifyPrwMac({
          key: mac,
          profile,
          dataSet: set,
          prwValue: text,
          macValue: macText,
          intdatag: INTDATAG,
        }),
      )
    expect([await prwOf(dataSet), await macOf(dataSet)]).toEqual([true, true])
    for (let at = 0; at < dataSet.length; at++) {
      // Bit 0 keeps a digit a digit and a letter a letter mostly, so that many changes reach the MAC.
      for (const bit of [0, 7]) {
        const other = dataSet.slice()
        other[at] = (other[at] ?? 0) ^ (1 << bit)
        expect([at, await prwOf(other), await macOf(other)]).toEqual([at, false, false])
      }
    }
    const flip = (text: string, at: number) =>
      `${text.slice(0, at)}${text[at] === '0' ? '1' : '0'}${text.slice(at + 1)}`
    for (let at = 0; at < prwValue.length; at++) {
      expect([await prwOf(dataSet, flip(prwValue, at)), await macOf(dataSet, flip(prwValue, at))]).toEqual([
        false,
        false,
      ])
    }
    for (let at = 0; at < macValue.length; at++) {
      expect(await macOf(dataSet, prwValue, flip(macValue, at))).toBe(false)
    }
    expect(dataSetToHex(dataSet)).toHaveLength(246)
  })
})
