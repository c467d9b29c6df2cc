/**
 * The PRW (PIN reference value) by a profile. Only ten thousand four-digit PINs exist: who may compute PRWs under a
 * key, or have candidates verified without end, has the PIN. So generating and verifying are two key usages, and the
 * issuer bounds the attempts before it calls `verifyPrw`.
 */

import { type Key, operationsOf } from '../backend/key.js'
import { type CallOptions, readOwn } from '../base/arguments.js'
import { equalBytes, ownCopy, snapshot, wipe } from '../base/bytes.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import { type Pin, pinDigits, pinOfDigits, requirePin } from '../primitives/pin.js'
import {
  compute,
  mergeValues,
  type ReadDataSet,
  requireKeyFor,
  requireRandom,
  VALUES,
} from './computation.js'
import { buildDataSet, maskDataSet, readDataSet } from './data-set.js'
import type { DataSetValues } from './field-value.js'
import { readText, showText } from './profile/forms.js'
import { markOf, type ProfileMark, requireProfile, type SeccosProfile } from './profile/profile.js'

/** What {@link computePrw} takes: the values of the data set, a profile and a key. */
export interface ComputePrwInput extends DataSetValues {
  /** A `prw-generate` key of the profile's kind and length. */
  readonly key: Key
  readonly profile: SeccosProfile
  readonly pin: Pin
  readonly pan: Pan
  readonly pcc: string
}

/** A PRW with what it takes to verify a PIN against it. */
export interface ComputedPrw extends ProfileMark {
  /** The PRW in the profile's text form: D1's `prwValue`. */
  readonly prwValue: string
  /** The key's kid: D1's `prwKid`. */
  readonly prwKid: string
  /** The masked data set, 123 bytes; as D1's `prwDataSet` by `dataSetToHex`. */
  readonly dataSet: Uint8Array
  /** The random number, where the profile has one. To be stored where the data set does not show it. */
  readonly random?: Uint8Array
}

/**
 * Computes the PRW of a PIN. What D1 does in its 3DES_SECCOS mode; an issuer needs it for tests, simulators, and where
 * its scheme lets the issuer compute. Where the profile has a random number and none is given, it comes from the
 * key's backend.
 *
 * Errors: `ERR_DATA_SET` with `field`, `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`, `ERR_DISPOSED`,
 * `ERR_ABORTED`, and what the backend reports. Source: the profile; its provenance stands in the result.
 *
 * @example
 * ```ts
 * const prw = await computePrw({ key, profile, pin, pan, pcc: '0001', intdatag, fields: { psn: '01' } })
 * ```
 */
export async function computePrw(input: ComputePrwInput, options?: CallOptions): Promise<ComputedPrw> {
  const request = readOwn(input, 'computePrw', [...VALUES, 'key', 'profile'])
  const { profile } = request
  requireProfile(profile)
  requireKeyFor(request.key, 'prw-generate', 'generate', profile.prw)
  requirePin(request.pin)
  requirePan(request.pan)
  const random = requireRandom(profile, request.random)
  return makePrw({ ...request, random: random && ownCopy(random) }, options)
}

/** The inner door of {@link computePrw}: members read once, key, PIN and PAN checked, a random number of one's own. */
export async function makePrw(
  request: ComputePrwInput,
  options: CallOptions | undefined,
): Promise<ComputedPrw> {
  const { key, profile } = request
  if (request.random !== undefined || profile.randomBytes === 0) {
    return computeWith(request, request.random, options)
  }
  // The caller may dispose of the PIN and wipe its buffers as soon as it has the promise.
  const pin = pinOfDigits(ownCopy(pinDigits(request.pin)))
  try {
    const fields = copyOfFields(request.fields)
    const random = await operationsOf(key).randomBytes(profile.randomBytes, options)
    return await computeWith({ ...request, pin, fields }, random, options)
  } finally {
    pin.dispose()
  }
}

async function computeWith(
  input: ComputePrwInput,
  random: Uint8Array | undefined,
  options: CallOptions | undefined,
): Promise<ComputedPrw> {
  const { key, profile, pan, pin, pcc, intdatag, fields } = input
  const { macKid, issuerId, prwKid = key.kid } = input
  const values: DataSetValues = { pan, pin, pcc, intdatag, fields, random, prwKid, macKid, issuerId }
  const full = buildDataSet(profile, values)
  const masked = maskDataSet(profile, full)
  wipe(full)
  const material = { profile, masked, values }
  const prwValue = await compute({ key, computation: profile.prw, material }, options, output =>
    showText(profile.prw.text, output),
  )
  return {
    prwValue,
    prwKid: key.kid,
    dataSet: masked,
    ...(random !== undefined && { random }),
    ...markOf(profile),
  }
}

function copyOfFields(fields: DataSetValues['fields']): DataSetValues['fields'] {
  const copies = Object.entries(fields ?? {}).map(
    ([id, value]) => [id, value instanceof Uint8Array ? ownCopy(value) : value] as const,
  )
  return Object.fromEntries(copies)
}

/** What {@link verifyPrw} takes. What the masked data set shows need not be given; if it is, it must agree. */
export interface VerifyPrwInput extends DataSetValues {
  /** A `prw-verify` key of the profile's kind and length. */
  readonly key: Key
  readonly profile: SeccosProfile
  /** The candidate: what the cardholder entered. */
  readonly pin: Pin
  readonly pan: Pan
  /** The stored data set, masked: 123 bytes. */
  readonly dataSet: Uint8Array
  /** The stored PRW, in the profile's text form. */
  readonly prwValue: string
}

/** The verdict on a candidate PIN. */
export interface PrwVerdict extends ProfileMark {
  /** True: the PIN is the one the PRW was made from. The object itself is always truthy: test this member. */
  readonly verified: boolean
}

/**
 * Verifies a candidate PIN against a stored PRW, in time that does not depend on where the values differ. A wrong PIN
 * is a verdict, not an error. Bound the attempts per card before this call.
 *
 * Errors: `ERR_DATA_SET` with `field` (the data set is not masked or does not read, a value is missing or disagrees),
 * `ERR_ENCODING` (`prwValue` is not in its text form), `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`,
 * `ERR_DISPOSED`, `ERR_ABORTED`, and what the backend reports. Source: the profile; its provenance is in the result.
 *
 * @example
 * ```ts
 * const { verified } = await verifyPrw({ key, profile, pin, pan, dataSet: stored.dataSet, prwValue: stored.prwValue })
 * ```
 */
export async function verifyPrw(input: VerifyPrwInput, options?: CallOptions): Promise<PrwVerdict> {
  const request = readOwn(input, 'verifyPrw', [...VALUES, 'key', 'profile', 'dataSet', 'prwValue'])
  const { key, profile, prwValue } = request
  requireProfile(profile)
  requireKeyFor(key, 'prw-verify', 'verify', profile.prw)
  requirePin(request.pin)
  requirePan(request.pan)
  const masked = snapshot(request.dataSet, 'dataSet')
  const dataSet = { masked, content: readDataSet(profile, masked) }
  return prwVerdict({ key, profile, dataSet, prwValue, given: request }, options)
}

/** The inner door of {@link verifyPrw}: key, PIN and PAN checked, the data set in memory of its own and read. */
export async function prwVerdict(
  input: {
    readonly key: Key
    readonly profile: SeccosProfile
    readonly dataSet: ReadDataSet
    readonly prwValue: string
    readonly given: DataSetValues
  },
  options: CallOptions | undefined,
): Promise<PrwVerdict> {
  const { key, profile, dataSet, prwValue, given } = input
  const { text, outputBytes } = profile.prw
  const stored = readText(text, outputBytes, prwValue, 'prwValue')
  const material = { profile, masked: dataSet.masked, values: mergeValues(profile, dataSet, given) }
  const verified = await compute({ key, computation: profile.prw, material }, options, output =>
    equalBytes(output, stored),
  )
  return { verified, ...markOf(profile) }
}
