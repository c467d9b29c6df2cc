/** The PRW and its MAC: computed and verified by a profile, from a data set and what is outside it. */
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOwn } from '../base/arguments.js'
import { equalBytes, ownCopy, snapshot, wipe } from '../base/bytes.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import { type Pin, pinDigits, pinOfDigits, requirePin } from '../primitives/pin.js'
import {
  compute,
  copyOfFields,
  type Material,
  mergeValues,
  type ReadDataSet,
  requireKeyFor,
  requireRandom,
} from './computation.js'
import { readTries, type TriesOf, withTry } from './counter/tries.js'
import { buildChecked, maskChecked, readChecked } from './data-set.js'
import { type DataSetValues, VALUES } from './field-value.js'
import { readText, showText } from './profile/forms.js'
import {
  macUsageOf,
  markOf,
  type ProfileMark,
  requireProfile,
  type SeccosProfile,
} from './profile/profile.js'

/*
 * The PRW (PIN reference value) by a profile. Only ten thousand four-digit PINs exist: who may compute PRWs under a
 * key, or have candidates verified without end, has the PIN. So generating and verifying are two key usages, and the
 * issuer bounds the attempts before it calls `verifyPrw`.
 */

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
 * `ERR_ABORTED`, and what the backend reports. Source: the profile; its provenance is in the result.
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
  requireKey(request.key, 'key')
  requireKeyFor(request.key, 'prw-generate', 'generate', profile.prw)
  requirePin(request.pin)
  requirePan(request.pan)
  const random = requireRandom(profile, request.random)
  return makePrw({ ...request, random: random && ownCopy(random) }, options)
}

/** The inner door of {@link computePrw}: members read once, key, PIN and PAN checked, a random number of one's own. */
async function makePrw(request: ComputePrwInput, options: CallOptions | undefined): Promise<ComputedPrw> {
  const { key, profile } = request
  // A random number is waited for, and so is an input that is enciphered first.
  using pin = ownPin(request.pin)
  const own = { ...request, pin, fields: copyOfFields(request.fields) }
  if (request.random !== undefined || profile.randomBytes === 0) {
    return await computeWith(own, request.random, options)
  }
  const random = await operationsOf(key).randomBytes(profile.randomBytes, options)
  return await computeWith(own, random, options)
}

/** A copy, for the caller may dispose of the PIN as soon as it has the promise. */
function ownPin(pin: Pin): Pin {
  return pinOfDigits(ownCopy(pinDigits(pin)))
}

async function computeWith(
  input: ComputePrwInput,
  random: Uint8Array | undefined,
  options: CallOptions | undefined,
): Promise<ComputedPrw> {
  const { key, profile, pan, pin, pcc, intdatag, fields } = input
  const { macKid, issuerId, prwKid = key.kid } = input
  const values: DataSetValues = { pan, pin, pcc, intdatag, fields, random, prwKid, macKid, issuerId }
  const full = buildChecked(profile, values)
  const masked = maskChecked(profile, full)
  wipe(full)
  const material = { profile, masked, values, prw: undefined }
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
  /** Whose tries are counted, before the comparison. Without a counter, here or elsewhere, this verb is an oracle. */
  readonly tries?: TriesOf
}

/** The verdict on a candidate PIN. */
export interface PrwVerdict extends ProfileMark {
  /** True: the PIN is the one the PRW was made from. The object itself is always truthy: test this member. */
  readonly verified: boolean
  /** With `tries`: true where nothing was compared, for the card had no try left. */
  readonly blocked?: boolean
  /** With `tries`: how many are left. */
  readonly triesLeft?: number
}

/**
 * Verifies a candidate PIN against a stored PRW, in time that does not depend on where the values differ. A wrong PIN
 * is a verdict, not an error. Give it `tries`, or count them before this call: without a counter it finds any PIN.
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
  const { tries, pin: given, ...request } = readOwn(input, 'verifyPrw', [...REFERENCE, 'pin', 'pan', 'tries'])
  requirePin(given)
  const reference = prwReference(request)
  using pin = ownPin(given)
  const compare = () => matchesPrw(reference, pin, options)
  const mark = markOf(reference.profile)
  if (tries === undefined) return { verified: await compare(), ...mark }
  const { verified, blocked, triesLeft = 0 } = await withTry(readTries(tries), compare)
  return { verified, blocked, triesLeft, ...mark }
}

/** A PRW to hold a PIN against: what {@link verifyPrw} takes but for the PIN, checked, read, and in memory of its own. */
export interface PrwReference {
  readonly key: Key
  readonly profile: SeccosProfile
  readonly masked: Uint8Array
  readonly stored: Uint8Array
  readonly values: DataSetValues
}

const REFERENCE = [
  ...VALUES.filter(name => name !== 'pin' && name !== 'pan'),
  'key',
  'profile',
  'dataSet',
  'prwValue',
] as const

/** Reads what `verifyPinBlock` is given of a PRW, before a try is counted. Errors: as {@link verifyPrw}. */
export function readPrwReference(
  against: Omit<VerifyPrwInput, 'pin' | 'pan' | 'tries'>,
  pan: Pan,
): PrwReference {
  return prwReference({ ...readOwn(against, 'against', REFERENCE), pan })
}

function prwReference(request: Omit<VerifyPrwInput, 'pin' | 'tries'>): PrwReference {
  const { key, profile, prwValue, dataSet: given, ...stated } = request
  requireProfile(profile)
  requireKey(key, 'key')
  requireKeyFor(key, 'prw-verify', 'verify', profile.prw)
  requirePan(stated.pan)
  const masked = snapshot(given, 'dataSet')
  const dataSet = { masked, content: readChecked(profile, masked) }
  const { text, outputBytes } = profile.prw
  const stored = readText(text, outputBytes, prwValue, 'prwValue')
  return { key, profile, masked, stored, values: mergeValues(profile, dataSet, stated) }
}

/** Whether the PRW is the one of this PIN; the inner door of {@link verifyPrw}. */
export function matchesPrw(
  { key, profile, masked, stored, values }: PrwReference,
  pin: Pin,
  options: CallOptions | undefined,
): Promise<boolean> {
  const material = { profile, masked, values: { ...values, pin }, prw: undefined }
  return compute({ key, computation: profile.prw, material }, options, output => equalBytes(output, stored))
}

/* The MAC over a PRW and its data set: how the issuer knows that D1, and not somebody in between, made them. */

/** What both verbs take: the PRW, its data set, and what the profile's MAC covers besides. */
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
 * backend reports. Source: the profile; its provenance is in the result.
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
interface CheckedMac {
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
async function makeMac(input: CheckedMac, options: CallOptions | undefined): Promise<GeneratedPrwMac> {
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
  requireKey(key, 'key')
  const masked = snapshot(given, 'dataSet')
  return { key, profile, dataSet: { masked, content: readChecked(profile, masked) }, prwValue, given: values }
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
