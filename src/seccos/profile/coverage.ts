/**
 * What a profile says about itself: which values a computation covers, what it takes to verify a PIN or a MAC, how long
 * each input is, and what its author should know. Everything is derived from the profile, nothing stated twice.
 */
import { ownMembers, readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import { lackingIn } from './encoding.js'
import { needsPan, needsRandom, pinFormBytes, textLength } from './forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  DATA_SET_BYTES,
  isConstant,
  meaningOf,
  type Part,
  type PinForm,
  type ProfileField,
  requireProfile,
  type SeccosProfile,
  type ValueField,
} from './profile.js'

/** An input with the JSON pointer of its entry. */
export interface PlacedInput {
  readonly part: ComputationInput
  readonly path: string
  /** In a list of inputs that are enciphered. */
  readonly enciphered: boolean
}

/** Every input of a computation, wherever it enters: its list, its ICV, its key. */
export function inputsOf(computation: Computation, path: string): PlacedInput[] {
  const { iv, derivation = [] } = computation
  return [
    ...placed(computation.inputs, `${path}/inputs`),
    ...(typeof iv === 'string' ? [] : placed(iv.inputs, `${path}/iv/inputs`)),
    ...derivation.flatMap((step, i) =>
      step.method === 'xor' ? [] : placed(step.inputs, `${path}/derivation/${i}/inputs`),
    ),
  ]
}

function placed(inputs: readonly ComputationInput[], path: string, enciphered = false): PlacedInput[] {
  return inputs.flatMap((part, i) => {
    const here = { part, path: `${path}/${i}`, enciphered }
    return part.input === 'enciphered' ? [here, ...placed(part.inputs, `${path}/${i}/inputs`, true)] : [here]
  })
}

/** How many bytes an input is: always the same number, so that what is computed over has one reading. */
export function inputBytes(profile: SeccosProfile, part: ComputationInput, block: number): number {
  switch (part.input) {
    case 'dataSet.full':
    case 'dataSet.masked':
      return partBytes(part.part, DATA_SET_BYTES)
    case 'pinBlock':
      return partBytes(part.part, pinFormBytes(part.pinForm ?? profile.pinBlock))
    case 'random':
      return partBytes(part.part, profile.randomBytes)
    case 'field':
      return partBytes(part.part, fieldOf(profile, part.id)?.length ?? 0)
    case 'prw': {
      const { text, outputBytes } = profile.prw
      return partBytes(part.part, part.form === 'binary' ? outputBytes : textLength(text, outputBytes))
    }
    case 'constant':
      return part.constant.length / 2
    case 'enciphered':
      return paddedBytes(part.padding, totalBytes(profile, part.inputs, block), block)
    default:
      return part.length
  }
}

/** Bytes of a list of inputs. */
export function totalBytes(
  profile: SeccosProfile,
  inputs: readonly ComputationInput[],
  block: number,
): number {
  return inputs.reduce((sum, part) => sum + inputBytes(profile, part, block), 0)
}

/** Bytes after padding by method 1 or 2 of ISO/IEC 9797-1. */
export function paddedBytes(padding: 1 | 2, length: number, block: number): number {
  return padding === 2
    ? (Math.floor(length / block) + 1) * block
    : Math.max(1, Math.ceil(length / block)) * block
}

function partBytes(part: Part | undefined, whole: number): number {
  if (part === undefined) return whole
  return Math.max(0, Math.min(part.take ?? whole, whole - part.skip))
}

/** The field with an id. */
export function fieldOf(profile: SeccosProfile, id: string): ProfileField | undefined {
  return profile.fields.find(field => field.id === id)
}

/** The name by which a field is listed: its meaning where it holds all of such a value, else its id. */
function nameOf(profile: SeccosProfile, field: ValueField): string {
  return (field.part === undefined ? meaningOf(profile, field) : undefined) ?? field.id
}

/**
 * The names of all values that a PRW, or the MAC over it, could cover: the fields with content, and besides `pan`,
 * `pinBlock`, `pcc`, `intdatag`, `random` where the profile has one, its external values, what else its computations
 * name, and for the MAC `prw`.
 */
function valuesOf(profile: SeccosProfile, which: 'prw' | 'mac'): Set<string> {
  const names = new Set(['pan', 'pinBlock', 'pcc', 'intdatag'])
  if (profile.randomBytes > 0) names.add('random')
  for (const field of profile.fields) if (!isConstant(field)) names.add(nameOf(profile, field))
  for (const { id } of profile.external ?? []) names.add(id)
  for (const computation of [profile.prw, profile.mac]) {
    for (const { part } of inputsOf(computation, '')) {
      if (part.input === 'prwKid' || part.input === 'macKid' || part.input === 'issuerId')
        names.add(part.input)
    }
  }
  if (which === 'mac') names.add('prw')
  return names
}

/** The names that one input covers. */
function coveredBy(profile: SeccosProfile, part: ComputationInput): string[] {
  const whole = !('part' in part) || part.part === undefined
  switch (part.input) {
    case 'dataSet.full':
    case 'dataSet.masked':
      return profile.fields
        .filter((field): field is ValueField => !isConstant(field))
        .filter(field => whole && (part.input === 'dataSet.full' || field.masked === false))
        .map(field => nameOf(profile, field))
    case 'field': {
      const field = fieldOf(profile, part.id)
      return whole && field !== undefined && !isConstant(field) ? [nameOf(profile, field)] : []
    }
    case 'external':
      return whole ? [part.id] : []
    case 'constant':
    case 'enciphered':
      return []
    default:
      return whole ? [part.input] : []
  }
}

/**
 * The names of the values that the profile's PRW, or its MAC, does not cover. A value counts as covered only where it
 * enters whole and by itself, among the inputs, the ICV or what the key is derived from: a format 0 PIN block holds 12
 * digits of the PAN and does not cover the PAN; a part of a value does not cover it; a MAC over the PRW does not cover
 * the PIN. Takes what {@link parseProfile} made: anything else is refused there, `ERR_PROFILE`.
 *
 * @example
 * ```ts
 * uncoveredBy({ profile, computation: 'mac' }) // ['pan', 'pinBlock']
 * ```
 */
export function uncoveredBy(input: {
  readonly profile: SeccosProfile
  readonly computation: 'prw' | 'mac'
}): string[] {
  const { profile, computation } = readOptions(input, 'uncoveredBy', ['profile', 'computation'])
  requireProfile(profile)
  if (computation !== 'prw' && computation !== 'mac')
    throw new ArgumentError('computation must be prw or mac')
  return uncoveredIn(profile, computation)
}

/** The inner door of {@link uncoveredBy}. */
export function uncoveredIn(profile: SeccosProfile, which: 'prw' | 'mac'): string[] {
  const covered = new Set(inputsOf(profile[which], '').flatMap(({ part }) => coveredBy(profile, part)))
  return [...valuesOf(profile, which)].filter(name => !covered.has(name))
}

/** The draft of a profile, with its lists of what is uncovered made anew; it has what it states and inherits nothing. */
export function withUncovered(json: SeccosProfile): SeccosProfile {
  const draft = ownMembers(json)
  const listed = (which: 'prw' | 'mac'): SeccosProfile['prw'] => {
    return ownMembers({ ...draft[which], uncovered: uncoveredIn(draft, which) })
  }
  return ownMembers({ ...draft, prw: listed('prw'), mac: listed('mac') })
}

/** What it takes to verify a PIN, besides the PIN, the PAN and what is always stored. */
export interface VerificationNeeds {
  /** Values of D1's message that must be stored with the PRW: the intdatag, where no data set shows it. */
  readonly stored: readonly 'intdatag'[]
  /** Names of the profile's own fields and external values that the issuer must still know. */
  readonly fields: readonly string[]
  /** True: the PRW covers the issuer's id. */
  readonly issuerId: boolean
}

/**
 * What a PIN is verified with under a profile, besides the PIN itself, the PAN, and what is stored of every Set PIN (PRW,
 * prwKid, data set, PCC). `openSeccosSetPinRequest` hands out what is to be stored; a profile that needs what D1 never
 * sends is no profile: `ERR_PROFILE` of {@link parseProfile}.
 *
 * @example
 * ```ts
 * neededToVerify(profile) // { stored: ['intdatag'], fields: ['cardData'], issuerId: false }
 * ```
 */
export function neededToVerify(profile: SeccosProfile): VerificationNeeds {
  const names = new Set(inputsOf(profile.prw, '').flatMap(({ part }) => namesIn(profile, part)))
  const shown = shownBy(profile)
  return {
    stored: names.has('intdatag') && !shown.has('intdatag') ? ['intdatag'] : [],
    fields: [...names].filter(name => !shown.has(name) && isOwn(profile, name)),
    issuerId: names.has('issuerId'),
  }
}

/** The values that a masked data set shows whole. */
function shownBy(profile: SeccosProfile): Set<string> {
  return new Set(
    profile.fields
      .filter((field): field is ValueField => !isConstant(field) && field.masked === false)
      .filter(field => field.part === undefined)
      .map(field => meaningOf(profile, field) ?? field.id),
  )
}

function isOwn(profile: SeccosProfile, name: string): boolean {
  const field = fieldOf(profile, name)
  const own = field !== undefined && !isConstant(field) && meaningOf(profile, field) === undefined
  return own || (profile.external ?? []).some(({ id }) => id === name)
}

/** The names of the values that an input is made of and that the masked data set does not give as they are. */
export function namesIn(profile: SeccosProfile, part: ComputationInput): string[] {
  switch (part.input) {
    case 'dataSet.full':
      return profile.fields.flatMap(field => namesInField(profile, field))
    case 'field': {
      const field = fieldOf(profile, part.id)
      return field === undefined ? [] : namesInField(profile, field)
    }
    case 'pinBlock':
      return namesInPin(part.pinForm ?? profile.pinBlock)
    case 'external':
      return [part.id]
    case 'dataSet.masked':
    case 'constant':
    case 'enciphered':
      return []
    default:
      return [part.input]
  }
}

function namesInField(profile: SeccosProfile, field: ProfileField): string[] {
  if (isConstant(field) || field.masked === false) return []
  const meaning = meaningOf(profile, field)
  return meaning === 'pinBlock' ? namesInPin(field.pinForm ?? profile.pinBlock) : [meaning ?? field.id]
}

function namesInPin(form: PinForm): string[] {
  return ['pinBlock', ...(needsPan(form) ? ['pan'] : []), ...(needsRandom(form) ? ['random'] : [])]
}

/** Something that a profile may have, and that whoever writes it should know. */
export interface ProfileRemark {
  /** JSON pointer of the entry. */
  readonly path: string
  readonly text: string
}

/**
 * What a sound profile has that its author should know: a MAC that covers neither PCC nor intdatag, and so does not tell
 * an old message from a new one; an encoding that lacks characters of a value. Takes what {@link parseProfile} made:
 * anything else is refused there, `ERR_PROFILE`.
 *
 * @example
 * ```ts
 * for (const { path, text } of remarksOn(profile)) console.warn(`${path}: ${text}`)
 * ```
 */
export function remarksOn(profile: SeccosProfile): ProfileRemark[] {
  const remarks: ProfileRemark[] = []
  const left = uncoveredIn(profile, 'mac')
  if (left.includes('pcc') && left.includes('intdatag')) {
    const text = 'covers neither the PCC nor the intdatag: an old PRW with its MAC passes for a new one'
    remarks.push({ path: '/mac/inputs', text })
  }
  const note = (name: string | undefined, encoding: Parameters<typeof lackingIn>[0], path: string): void => {
    const lacking = name === 'intdatag' || name === 'issuerId' ? lackingIn(encoding) : ''
    if (lacking === '') return
    remarks.push({ path, text: `${encoding} lacks ${lacking}: a message whose ${name} has one is refused` })
  }
  for (const [i, field] of profile.fields.entries()) {
    if (!isConstant(field)) note(meaningOf(profile, field), field.encoding, `/fields/${i}/encoding`)
  }
  for (const which of ['prw', 'mac'] as const) {
    for (const { part, path } of inputsOf(profile[which], `/${which}`)) {
      if ('encoding' in part) note(part.input, part.encoding, `${path}/encoding`)
    }
  }
  return remarks
}

/** Bytes that come out of a computation before its output steps. */
export function rawOutputBytes(profile: SeccosProfile, computation: Computation): number {
  const { outputBytes, blockBytes } = ALGORITHMS[computation.algorithm]
  if (outputBytes !== undefined) return outputBytes
  const padding = computation.padding === 2 ? 2 : 1
  return paddedBytes(padding, messageBytes(profile, computation), blockBytes)
}

/** Bytes that a computation is over, before padding. */
function messageBytes(profile: SeccosProfile, { digest, inputs, algorithm }: Computation): number {
  if (digest !== undefined) return digest === 'sha-1' ? 20 : 32
  return totalBytes(profile, inputs, ALGORITHMS[algorithm].blockBytes)
}
