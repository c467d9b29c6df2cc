/** The MAC over a PRW and its data set: how the issuer knows that D1, and not somebody in between, made them. */

import type { Key } from '../backend/key.js'
import { type CallOptions, readOwn } from '../base/arguments.js'
import { equalBytes, snapshot } from '../base/bytes.js'
import { compute, type Material, mergeValues, type ReadDataSet, requireKeyFor } from './computation.js'
import { readDataSet } from './data-set.js'
import type { DataSetValues } from './field-value.js'
import { readText, showText } from './profile/forms.js'
import {
  macUsageOf,
  markOf,
  type ProfileMark,
  requireProfile,
  type SeccosProfile,
} from './profile/profile.js'

/** What both verbs take: the PRW, its data set, and what the profile's MAC covers beside. */
export interface PrwMacInput extends Omit<DataSetValues, 'pin'> {
  /** A `retail-mac`, `cbc-mac` or `cmac` key, as the profile's algorithm has it. */
  readonly key: Key
  readonly profile: SeccosProfile
  /** The data set, masked: 123 bytes. */
  readonly dataSet: Uint8Array
  /** The PRW in the profile's text form. */
  readonly prwValue: string
}

/** A MAC over a PRW. */
export interface GeneratedPrwMac extends ProfileMark {
  /** The MAC in the profile's text form: D1's `macValue`. */
  readonly macValue: string
  /** The key's kid: D1's `macKid`. */
  readonly macKid: string
}

/**
 * Computes the MAC over a PRW and its masked data set. What D1 does; an issuer needs it for tests and simulators.
 *
 * Errors: `ERR_DATA_SET` with `field` (the data set is not masked or does not read, a value is missing or disagrees),
 * `ERR_ENCODING` (`prwValue`), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`, `ERR_ABORTED`, and what the
 * backend reports. Source: the profile; its provenance stands in the result.
 *
 * @example
 * ```ts
 * const { macValue, macKid } = await generatePrwMac({ key, profile, dataSet, prwValue })
 * ```
 */
export async function generatePrwMac(input: PrwMacInput, options?: CallOptions): Promise<GeneratedPrwMac> {
  return makeMac(checkedMac(readOwn(input, 'generatePrwMac', NAMES)), options)
}

/** What {@link verifyPrwMac} takes. */
export interface VerifyPrwMacInput extends PrwMacInput {
  /** The MAC to check, in the profile's text form and length. */
  readonly macValue: string
}

/** The verdict on a MAC. */
export interface PrwMacVerdict extends ProfileMark {
  /** True: the MAC is right. The object itself is always truthy: test this member. */
  readonly verified: boolean
}

/**
 * Verifies the MAC over a PRW and its data set, in time that does not depend on where the values differ. A wrong MAC is
 * a verdict, not an error. Store nothing of a request before it is `verified`. What the MAC leaves out
 * (`profile.mac.uncovered`), others must vouch for.
 *
 * Errors: as {@link generatePrwMac}; `ERR_ENCODING` where `macValue` is not in its text form or length.
 *
 * @example
 * ```ts
 * const { verified } = await verifyPrwMac({ key, profile, dataSet, prwValue, macValue, intdatag })
 * ```
 */
export async function verifyPrwMac(input: VerifyPrwMacInput, options?: CallOptions): Promise<PrwMacVerdict> {
  const request = readOwn(input, 'verifyPrwMac', [...NAMES, 'macValue'])
  return macVerdict({ ...checkedMac(request), macValue: request.macValue }, options)
}

/** What the inner doors take: members read once, the data set in memory of its own and read by the profile. */
export interface CheckedMac {
  readonly key: Key
  readonly profile: SeccosProfile
  readonly dataSet: ReadDataSet
  readonly prwValue: string
  readonly given: Omit<DataSetValues, 'pin'>
}

/** The inner door of {@link verifyPrwMac}: reads no option, copies nothing, reads no data set again. */
export async function macVerdict(
  input: CheckedMac & { readonly macValue: string },
  options: CallOptions | undefined,
): Promise<PrwMacVerdict> {
  const { key, profile, material } = materialOf(input, 'verify')
  const { text, outputBytes } = profile.mac
  const expected = readText(text, outputBytes, input.macValue, 'macValue')
  const verified = await compute({ key, computation: profile.mac, material }, options, output =>
    equalBytes(output, expected),
  )
  return { verified, ...markOf(profile) }
}

/** The inner door of {@link generatePrwMac}. */
export async function makeMac(input: CheckedMac, options: CallOptions | undefined): Promise<GeneratedPrwMac> {
  const { key, profile, material } = materialOf(input, 'generate')
  const macValue = await compute({ key, computation: profile.mac, material }, options, output =>
    showText(profile.mac.text, output),
  )
  return { macValue, macKid: key.kid, ...markOf(profile) }
}

const NAMES = [
  'key',
  'profile',
  'dataSet',
  'prwValue',
  'pan',
  'pcc',
  'intdatag',
  'random',
  'prwKid',
  'macKid',
  'issuerId',
  'fields',
] as const

function checkedMac(request: PrwMacInput): CheckedMac {
  const { key, profile, prwValue, dataSet: given, ...values } = request
  requireProfile(profile)
  const masked = snapshot(given, 'dataSet')
  return { key, profile, dataSet: { masked, content: readDataSet(profile, masked) }, prwValue, given: values }
}

function materialOf(
  { key, profile, dataSet, prwValue, given }: CheckedMac,
  action: 'generate' | 'verify',
): {
  key: Key
  profile: SeccosProfile
  material: Material
} {
  requireKeyFor(key, macUsageOf(profile), action, profile.mac)
  const bytes = readText(profile.prw.text, profile.prw.outputBytes, prwValue, 'prwValue')
  const values = mergeValues(profile, dataSet, { ...given, macKid: given.macKid ?? key.kid })
  const prw = { bytes, text: prwValue }
  return { key, profile, material: { profile, masked: dataSet.masked, values, prw } }
}
