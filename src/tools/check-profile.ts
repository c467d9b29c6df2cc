/** Whether samples come out by a profile, and for those that do not, the nearest reading that would. */
import type { Key } from '../backend/key.js'
import { softwareBackend } from '../backend/software/software.js'
import { readOptions } from '../base/arguments.js'
import { requireBytes, secretBytes } from '../base/bytes.js'
import { ArgumentError, InputError, requireOurs } from '../base/errors.js'
import type { KeyAlgorithm } from '../primitives/algorithms.js'
import { requirePan } from '../primitives/pan.js'
import { requirePin } from '../primitives/pin.js'
import { compute, mergeValues } from '../seccos/computation.js'
import { dataSetFromHex, readChecked } from '../seccos/data-set.js'
import type { DataSetValues } from '../seccos/field-value.js'
import { withUncovered } from '../seccos/profile/coverage.js'
import { PIN_FORM_NAMES, readText, showText } from '../seccos/profile/forms.js'
import { parseProfile } from '../seccos/profile/parse.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  isConstant,
  type ProfileAlgorithm,
  requireProfile,
  type SeccosProfile,
  type TextForm,
  type ValueForm,
} from '../seccos/profile/profile.js'

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
 * `ERR_KEY_WEAK` (no key). What is wrong with a sample is in the report.
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
  // Both are closed, whatever becomes of the second.
  await using prw = await testKey(prwTestKey, profile.prw)
  await using mac = await testKey(macTestKey, profile.mac)
  const checked: CheckedSample[] = []
  for (const sample of samples)
    checked.push(await checkSample(profile, sample, { prw: prw.key, mac: mac.key }))
  const computations = {
    prw: await checkComputation(profile, 'prw', samples, prw.key, checked),
    mac: await checkComputation(profile, 'mac', samples, mac.key, checked),
  }
  const agrees = computations.prw.agrees && computations.mac.agrees
  return { agrees, samples: checked, ...computations }
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
  hmac32: 'hmac-sha256',
}

/** A test key in a software backend of its own: both keys of a scheme's samples are often the same one. */
async function testKey(
  material: Uint8Array,
  { algorithm: name, keyBytes }: Computation,
): Promise<AsyncDisposable & { readonly key: Key }> {
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
  try {
    return {
      key: await backend.bind({ kid: 'TEST', usage }),
      [Symbol.asyncDispose]: () => backend.close(),
    }
  } catch (error) {
    await backend.close()
    throw error
  }
}

async function checkSample(
  profile: SeccosProfile,
  sample: ProfileSample,
  keys: { readonly prw: Key; readonly mac: Key },
): Promise<CheckedSample> {
  try {
    const content = readChecked(profile, dataSetFromHex(sample.prwDataSet))
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
    requireOurs(error)
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
    const values = mergeValues(profile, { masked, content: readChecked(profile, masked) }, sample)
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
    requireOurs(error)
    return `${which}: ${error.message}`
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
    return parseProfile(withUncovered(json))
  } catch (error) {
    requireOurs(error)
    return undefined
  }
}

/*
 * The readings next to a profile: each differs in one entry, and says in words which. What a document leaves open, or what
 * is easily read the wrong way: padding, alignment, order, end, case.
 */

/** A profile with one entry changed. */
interface Reading {
  readonly says: string
  readonly json: SeccosProfile
}

/** All readings that differ in one entry from a profile's PRW, or its MAC. */
function readingsOf(profile: SeccosProfile, which: 'prw' | 'mac'): Reading[] {
  const reading = (says: string, computation: Computation): Reading => ({
    says,
    json: { ...profile, profileFormat: 2, [which]: computation },
  })
  return [
    ...algorithms(profile[which]).map(([says, change]) => reading(says, change)),
    ...outputs(profile[which]).map(([says, change]) => reading(says, change)),
    ...inputLists(profile[which].inputs).map(([says, inputs]) =>
      reading(says, { ...profile[which], inputs }),
    ),
    ...(which === 'prw' ? pinForms(profile) : []),
    ...panFields(profile),
  ]
}

type Change<T> = readonly [says: string, change: T]

function algorithms(computation: Computation): Change<Computation>[] {
  const { algorithm, padding, iv } = computation
  const { cipher, blockBytes, macUsage } = ALGORITHMS[algorithm]
  const zero = '00'.repeat(blockBytes)
  const changes: Change<Computation>[] = []
  for (const name of Object.keys(ALGORITHMS) as ProfileAlgorithm[]) {
    const rule = ALGORITHMS[name]
    if (rule.cipher !== cipher || (rule.macUsage === undefined) !== (macUsage === undefined)) continue
    for (const other of rule.paddings) {
      if (name === algorithm && other === padding) continue
      const says =
        name === algorithm ? `padding ${other} in place of ${padding}` : `${name}, padding ${other}`
      const sameIv = rule.hasIv === ALGORITHMS[algorithm].hasIv
      changes.push([
        says,
        { ...computation, algorithm: name, padding: other, iv: sameIv ? iv : rule.hasIv ? zero : 'none' },
      ])
    }
  }
  if (iv !== zero && iv !== 'none') changes.push(['a zero IV', { ...computation, iv: zero }])
  const { digest: current, ...plain } = computation
  if (current !== undefined) changes.push(['no digest before', plain])
  for (const digest of ['sha-1', 'sha-256'] as const) {
    if (digest !== current) changes.push([`${digest} before`, { ...computation, digest }])
  }
  return changes
}

const TEXTS: readonly TextForm[] = ['hex-upper', 'hex-lower', 'base64', 'base64url', 'hex-ebcdic']

function outputs(computation: Computation): Change<Computation>[] {
  const { text, output, outputBytes } = computation
  const texts = TEXTS.filter(other => other !== text).map(
    other => [`text ${other}`, { ...computation, text: other }] as const,
  )
  if (output !== undefined) return texts
  const part = { from: 'right', skip: 0, take: outputBytes } as const
  return [
    ...texts,
    ['the rightmost bytes in place of the leftmost', { ...computation, output: [{ step: 'slice', part }] }],
  ]
}

/** The list with one input left out, two neighbours exchanged, or one in another form. */
function inputLists(inputs: readonly ComputationInput[]): Change<readonly ComputationInput[]>[] {
  return inputs.flatMap((part, i): Change<readonly ComputationInput[]>[] => {
    const where = `inputs/${i} (${'id' in part ? part.id : part.input})`
    const next = inputs[i + 1]
    return [
      [`without ${where}`, inputs.toSpliced(i, 1)],
      ...(next === undefined
        ? []
        : ([[`${where} and the one after it exchanged`, inputs.toSpliced(i, 2, next, part)]] as const)),
      ...forms(part).map(([says, other]) => [`${where} ${says}`, inputs.with(i, other)] as const),
    ]
  })
}

function forms(part: ComputationInput): Change<ComputationInput>[] {
  if (part.input === 'dataSet.full') return [['masked', { ...part, input: 'dataSet.masked' }]]
  if (part.input === 'dataSet.masked') return [['in full', { ...part, input: 'dataSet.full' }]]
  if (part.input === 'prw') {
    const others = (['binary', 'text', 'text-ebcdic'] as const).filter(form => form !== part.form)
    return others.map(form => [`as ${form}`, { ...part, form }] as const)
  }
  if (!('encoding' in part)) return []
  return places(part).map(([says, form]) => [says, { ...part, ...form }] as const)
}

const CHARACTERS: Readonly<Record<string, number>> = { pan: 19, pcc: 4, intdatag: 20, issuerId: 10 }

/** Other places for a value: aligned otherwise, encoded otherwise; the pad that is usual there. */
function places(form: ValueForm & { readonly input: string }): Change<ValueForm>[] {
  const units = CHARACTERS[form.input] ?? (form.encoding === 'bcd' ? 2 * form.length : form.length)
  const { pad: _pad, ...plain } = form
  return (['bcd', 'ascii', 'ebcdic'] as const).flatMap(encoding => {
    const length =
      encoding === form.encoding ? form.length : encoding === 'bcd' ? Math.ceil(units / 2) : units
    const zero = { bcd: '0', ascii: '30', ebcdic: 'F0' }[encoding]
    const blank = { bcd: 'F', ascii: '20', ebcdic: '40' }[encoding]
    const as = encoding === form.encoding ? '' : ` as ${encoding}`
    const all: Change<ValueForm>[] = [
      [`left-aligned${as}, filled with ${blank}`, { ...plain, encoding, length, align: 'left', pad: blank }],
      [`right-aligned${as}, filled with ${zero}`, { ...plain, encoding, length, align: 'right', pad: zero }],
      [
        `right-aligned${as}, filled with ${blank}`,
        { ...plain, encoding, length, align: 'right', pad: blank },
      ],
    ]
    return form.align === 'exact'
      ? [...all, [`exactly${as}`, { ...plain, encoding, length, align: 'exact' }]]
      : all
  })
}

function pinForms(profile: SeccosProfile): Reading[] {
  const names = PIN_FORM_NAMES.filter(form => form !== profile.pinBlock)
  return names.map(form => {
    const inData = profile.fields.some(field => field.id === 'pinBlock')
    return {
      says: `the PIN as ${form}${inData ? ' (where its field is as long)' : ''}`,
      json: { ...profile, pinBlock: form },
    }
  })
}

/** The PAN in the full data set, aligned otherwise. */
function panFields(profile: SeccosProfile): Reading[] {
  return profile.fields.flatMap((field, i) => {
    if (field.id !== 'pan' || isConstant(field)) return []
    return places({ ...field, input: 'pan' })
      .filter(([, form]) => form.encoding === field.encoding)
      .map(([says, { align, pad }]) => {
        const { pad: _pad, ...rest } = field
        const other = { ...rest, align, ...(pad !== undefined && { pad }) }
        return {
          says: `the PAN in its field ${says}`,
          json: { ...profile, fields: profile.fields.with(i, other) },
        }
      })
  })
}
