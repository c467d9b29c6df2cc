/**
 * Whether a profile is what the scheme's samples say: for each sample, whether its data set reads, and whether PRW and MAC
 * come out. Where they do not, the nearest readings that would: the profile with one entry changed. The everyday tool of
 * somebody who has the scheme's documents and a few samples under *test* keys.
 */
import type { Key } from '../backend/key.js'
import { softwareBackend } from '../backend/software/software.js'
import { readOptions } from '../base/arguments.js'
import { requireBytes, secretBytes } from '../base/bytes.js'
import { ArgumentError, InputError, isIssuerPinError } from '../base/errors.js'
import type { KeyAlgorithm } from '../primitives/algorithms.js'
import { requirePan } from '../primitives/pan.js'
import { requirePin } from '../primitives/pin.js'
import { compute, mergeValues } from '../seccos/computation.js'
import { dataSetFromHex, readDataSet } from '../seccos/data-set.js'
import type { DataSetValues } from '../seccos/field-value.js'
import { uncoveredBy } from '../seccos/profile/coverage.js'
import { readText, showText } from '../seccos/profile/forms.js'
import { parseProfile } from '../seccos/profile/parse.js'
import {
  ALGORITHMS,
  type Computation,
  requireProfile,
  type SeccosProfile,
} from '../seccos/profile/profile.js'
import { readingsOf } from './readings.js'

/** A PRW with its MAC, made by the scheme with test keys, and what went into it. */
export interface ProfileSample extends DataSetValues {
  readonly pan: NonNullable<DataSetValues['pan']>
  readonly pin: NonNullable<DataSetValues['pin']>
  /** D1's members. */
  readonly prwDataSet: string
  readonly prwValue: string
  readonly macValue: string
}

/** What {@link checkProfile} takes. */
export interface ProfileCheckInput {
  readonly profile: SeccosProfile
  readonly samples: readonly ProfileSample[]
  /** The clear keys of the samples: test keys, as long as the profile says. Never production keys. */
  readonly prwTestKey: Uint8Array
  readonly macTestKey: Uint8Array
}

/** What came out for one sample. `undefined` in place of a verdict: it could not be computed, and `problem` says why. */
export interface CheckedSample {
  /** The names of the fields that were read. Empty where the data set does not read. */
  readonly fields: readonly string[]
  readonly prw: boolean | undefined
  readonly mac: boolean | undefined
  /** The first thing that was wrong with it, in words; no value of the sample. */
  readonly problem?: string
}

/** The PRW, or the MAC, over all samples. */
export interface CheckedComputation {
  readonly agrees: boolean
  /** Where it does not: each change of one entry with which it would agree for every sample. */
  readonly nearest: readonly string[]
}

/** What {@link checkProfile} found. */
export interface ProfileCheck {
  /** Every sample reads, and PRW and MAC come out for each. */
  readonly agrees: boolean
  readonly samples: readonly CheckedSample[]
  readonly prw: CheckedComputation
  readonly mac: CheckedComputation
}

const SAMPLE = [
  'pan',
  'pin',
  'pcc',
  'intdatag',
  'random',
  'prwKid',
  'macKid',
  'issuerId',
  'fields',
  'prwDataSet',
  'prwValue',
  'macValue',
] as const

/**
 * Checks a profile against samples that the scheme made with test keys: reads each data set, computes PRW and MAC as the
 * verbs do, and looks for the nearest reading where they do not come out. It takes clear keys, PINs and PANs, and computes
 * in this process: test values only.
 *
 * Errors: `ERR_ARGUMENT`; `ERR_LENGTH` (a key that is not as long as the profile says); `ERR_KEY_MATERIAL`,
 * `ERR_KEY_WEAK` (a key that is none). What is wrong with a sample is in the report.
 *
 * @example
 * ```ts
 * const { agrees, prw } = await checkProfile({ profile, samples, prwTestKey, macTestKey })
 * if (!agrees) console.log(prw.nearest) // ['padding 1 in place of 2']
 * ```
 */
export async function checkProfile(input: ProfileCheckInput): Promise<ProfileCheck> {
  const given = readOptions(input, 'checkProfile', ['profile', 'samples', 'prwTestKey', 'macTestKey'])
  const { profile, prwTestKey, macTestKey } = given
  requireProfile(profile)
  if (!Array.isArray(given.samples) || given.samples.length === 0) {
    throw new ArgumentError('samples must be a list')
  }
  const samples = given.samples.map(readSample)
  const prw = await testKey(prwTestKey, profile.prw)
  const mac = await testKey(macTestKey, profile.mac)
  try {
    const checked: CheckedSample[] = []
    for (const sample of samples)
      checked.push(await checkSample(profile, sample, { prw: prw.key, mac: mac.key }))
    const computations = {
      prw: await checkComputation(profile, 'prw', samples, prw.key, checked),
      mac: await checkComputation(profile, 'mac', samples, mac.key, checked),
    }
    const agrees = computations.prw.agrees && computations.mac.agrees
    return { agrees, samples: checked, ...computations }
  } finally {
    await prw.close()
    await mac.close()
  }
}

function readSample(given: ProfileSample): ProfileSample {
  const sample = readOptions(given, 'a sample', SAMPLE)
  requirePan(sample.pan)
  requirePin(sample.pin)
  for (const name of ['prwDataSet', 'prwValue', 'macValue'] as const) {
    if (typeof sample[name] !== 'string') throw new ArgumentError(`${name} must be a string`)
  }
  return sample
}

const ALGORITHM: Readonly<Record<string, KeyAlgorithm>> = {
  tdea16: 'tdea-2key',
  tdea24: 'tdea-3key',
  aes16: 'aes-128',
  aes24: 'aes-192',
  aes32: 'aes-256',
}

/** A test key in a software backend of its own: both keys of a scheme's samples are often the same one. */
async function testKey(
  material: Uint8Array,
  { algorithm: name, keyBytes }: Computation,
): Promise<{ key: Key; close: () => Promise<void> }> {
  requireBytes(material, 'a test key')
  const algorithm = ALGORITHM[`${ALGORITHMS[name].cipher}${keyBytes}`]
  if (material.length !== keyBytes || algorithm === undefined) {
    throw new InputError(
      'ERR_LENGTH',
      `a test key for ${name} has ${keyBytes} bytes here, not ${material.length}`,
    )
  }
  // A key that may compute every algorithm: the nearest reading may be another one.
  const usage = 'prw-generate'
  const backend = await softwareBackend({ keys: [{ kid: 'TEST', usage, algorithm, material }] })
  return { key: await backend.bind({ kid: 'TEST', usage }), close: () => backend.close() }
}

async function checkSample(
  profile: SeccosProfile,
  sample: ProfileSample,
  keys: { readonly prw: Key; readonly mac: Key },
): Promise<CheckedSample> {
  try {
    const content = readDataSet(profile, dataSetFromHex(sample.prwDataSet))
    const { fields: own, ...known } = content
    const fields = [...Object.keys(known), ...Object.keys(own)]
    const [prw, mac] = [
      await verdict(profile, 'prw', sample, keys.prw),
      await verdict(profile, 'mac', sample, keys.mac),
    ]
    const problem = [prw, mac].find(result => typeof result === 'string')
    return {
      fields,
      prw: typeof prw === 'string' ? undefined : prw,
      mac: typeof mac === 'string' ? undefined : mac,
      ...(typeof problem === 'string' && { problem }),
    }
  } catch (error) {
    if (!isIssuerPinError(error)) throw error
    return { fields: [], prw: undefined, mac: undefined, problem: error.message }
  }
}

/** Whether a computation comes out as the sample has it; or, in words, why it cannot be computed. */
async function verdict(
  profile: SeccosProfile,
  which: 'prw' | 'mac',
  sample: ProfileSample,
  key: Key,
): Promise<boolean | string> {
  try {
    const masked = dataSetFromHex(sample.prwDataSet)
    const values = mergeValues(profile, { masked, content: readDataSet(profile, masked) }, sample)
    const { text, outputBytes } = profile.prw
    const bytes = which === 'mac' ? readText(text, outputBytes, sample.prwValue, 'prwValue') : secretBytes(0)
    const material = { profile, masked, values, prw: { bytes, text: sample.prwValue } }
    const computation = profile[which]
    const expected = which === 'prw' ? sample.prwValue : sample.macValue
    return await compute(
      { key, computation, material },
      undefined,
      output => showText(computation.text, output) === expected,
    )
  } catch (error) {
    if (isIssuerPinError(error)) return `${which}: ${error.message}`
    throw error
  }
}

async function checkComputation(
  profile: SeccosProfile,
  which: 'prw' | 'mac',
  samples: readonly ProfileSample[],
  key: Key,
  checked: readonly CheckedSample[],
): Promise<CheckedComputation> {
  if (checked.every(sample => sample[which] === true)) return { agrees: true, nearest: [] }
  const nearest: string[] = []
  for (const { says, json } of readingsOf(profile, which)) {
    const other = readingAsProfile(json)
    if (other !== undefined && (await agreesEverywhere(other, which, samples, key))) nearest.push(says)
  }
  return { agrees: false, nearest: [...new Set(nearest)] }
}

async function agreesEverywhere(
  profile: SeccosProfile,
  which: 'prw' | 'mac',
  samples: readonly ProfileSample[],
  key: Key,
): Promise<boolean> {
  for (const sample of samples) {
    if ((await verdict(profile, which, sample, key)) !== true) return false
  }
  return true
}

/** The profile with its lists of what is uncovered made anew; undefined where the change makes no profile. */
function readingAsProfile(json: SeccosProfile): SeccosProfile | undefined {
  try {
    return parseProfile({
      ...json,
      prw: { ...json.prw, uncovered: uncoveredBy(json, 'prw') },
      mac: { ...json.mac, uncovered: uncoveredBy(json, 'mac') },
    })
  } catch (error) {
    if (isIssuerPinError(error)) return undefined
    throw error
  }
}
