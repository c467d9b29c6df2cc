/**
 * Whatever a profile says: either it is refused, or a PIN that was set under it can be verified with what is kept of the
 * Set PIN: data set, PRW, PCC and prwKid, the values that `neededToVerify` names, and nothing else.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isIssuerPinError } from '../../src/base/errors.js'
import { neededToVerify, uncoveredIn } from '../../src/seccos/profile/coverage.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import type { ComputationInput, SeccosProfile } from '../../src/seccos/profile/profile.js'
import { computePrw, verifyPrw } from '../../src/seccos/prw.js'
import { keysFor, OTHER_PIN } from './fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from './schemes.js'

const EXACT = { align: 'exact', encoding: 'ascii' } as const
const CARD_DATA = { input: 'external', id: 'cdt', length: 4, ...EXACT } as const
const POOL: readonly ComputationInput[] = [
  { input: 'dataSet.full' },
  { input: 'dataSet.masked' },
  { input: 'random' },
  { input: 'random', part: { from: 'left', skip: 2, take: 3 } },
  { input: 'pinBlock', pinForm: { iso9564: 1, filler: 'random' } },
  { input: 'pinBlock', pinForm: 'iso9564-format-0' },
  { input: 'pinLength', length: 1, encoding: 'binary', align: 'exact' },
  { input: 'pan', length: 19, encoding: 'ebcdic', align: 'right', pad: '40' },
  { input: 'pcc', length: 3, encoding: 'binary-le', align: 'exact' },
  { input: 'intdatag', length: 20, ...EXACT },
  { input: 'prwKid', length: 16, encoding: 'ascii', align: 'left', pad: '00' },
  { input: 'macKid', length: 16, encoding: 'ascii', align: 'left', pad: '00' },
  { input: 'issuerId', length: 10, ...EXACT },
  { input: 'field', id: 'psn' },
  { input: 'field', id: 'random' },
  CARD_DATA,
]
const inputs = fc.subarray([...POOL], { minLength: 0, maxLength: 6 })
const profiles = fc.record({
  inputs: inputs.map(more => [{ input: 'pinBlock' } as const, ...more]),
  key: fc.option(fc.subarray([...POOL], { minLength: 1, maxLength: 3 }), { nil: undefined }),
  masked: fc.subarray(['psn', 'pcc', 'random', 'intdatag']),
  halved: fc.boolean(),
})

test('a PIN that was set can be verified with what is kept', async () => {
  const seen = { refused: 0, verified: 0 }
  const [sample = expect.unreachable()] = SAMPLES.external
  const values = valuesOf('external', sample)
  const given = { ...values.fields, psn: sample.psn }
  await fc.assert(
    fc.asyncProperty(profiles, async ({ inputs: list, key, masked, halved }) => {
      const profile = profileOf(list, key, masked, halved)
      if (profile === undefined) {
        seen.refused++
        return
      }
      const { generate, verify } = await keysFor(profile)
      const own = Object.fromEntries(Object.entries(given).filter(([id]) => id !== 'cdp'))
      const made = await computePrw({ ...values, fields: own, key: generate, profile, prwKid: 'PRW-KEY' })
      const needed = neededToVerify(profile)
      const kept = {
        pcc: sample.pcc,
        prwKid: 'PRW-KEY',
        ...(needed.stored.includes('intdatag') && { intdatag: sample.intdatag }),
        ...(needed.issuerId && { issuerId: values.issuerId }),
        fields: Object.fromEntries(Object.entries(own).filter(([id]) => needed.fields.includes(id))),
      }
      const { pan, pin } = values
      const { dataSet, prwValue } = made
      const check = { ...kept, key: verify, profile, pan, dataSet, prwValue }
      expect(await verifyPrw({ ...check, pin })).toMatchObject({ verified: true })
      expect(await verifyPrw({ ...check, pin: OTHER_PIN })).toMatchObject({ verified: false })
      seen.verified++
    }),
    // To its end, also where properties are cut short (`tools/mutation/setup.mjs`): they are counted.
    { numRuns: 150, interruptAfterTimeLimit: 600_000 },
  )
  expect(seen.refused).toBeGreaterThan(5)
  expect(seen.verified).toBeGreaterThan(20)
})

/** The field with the first half of its characters alone, and what takes the place of the others. */
function halvesOf(field: { readonly offset: number; readonly length: number }): object[] {
  const { offset, length } = field
  const half = length / 2
  return [
    { ...field, length: half, part: { from: 'left', skip: 0, take: half } },
    { id: 'rest', offset: offset + half, length: half, constant: '00'.repeat(half) },
  ]
}

/** A profile, or undefined where it is refused, which must be for what D1 never sends. */
function profileOf(
  list: readonly ComputationInput[],
  key: readonly ComputationInput[] | undefined,
  masked: readonly string[],
  halved: boolean,
): SeccosProfile | undefined {
  const derivation = key && [{ method: 'cmac-counter', counterBytes: 1, inputs: key } as const]
  const json = {
    ...structuredClone(SCHEMES.external),
    external: [{ id: 'cdt', kind: 'text' }],
    fields: SCHEMES.external.fields
      .map(field => (masked.includes(field.id) ? { ...field, masked: true } : field))
      .flatMap(field => (halved && field.id === 'intdatag' ? halvesOf(field) : [field])),
    prw: { ...SCHEMES.external.prw, inputs: list, ...(derivation && { derivation }) },
    mac: { ...SCHEMES.external.mac, inputs: [{ input: 'prw', form: 'text' }] },
  } as unknown as SeccosProfile
  try {
    return parseProfile({
      ...json,
      prw: { ...json.prw, uncovered: uncoveredIn(json, 'prw') },
      mac: { ...json.mac, uncovered: uncoveredIn(json, 'mac') },
    })
  } catch (error) {
    if (!isIssuerPinError(error)) throw error
    expect(error.message).toMatch(/takes the random number|takes the name of the MAC key/)
    return undefined
  }
}
