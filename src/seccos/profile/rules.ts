/** What a well-formed profile must also satisfy: each rule compares entries with one another. */

import { ProfileError } from '../../base/errors.js'
import { capacityOf } from './encoding.js'
import { pinFormBytes, textLength } from './forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  DATA_SET_BYTES,
  isConstant,
  isReserved,
  type ProfileField,
  RESERVED_FIELDS,
  type ReservedField,
  type SeccosProfile,
  type ValueForm,
} from './profile.js'

/** D1's bounds on `prwValue` and `macValue`, in characters. */
const MAX_TEXT = { prw: 64, mac: 16 } as const

/** Throws `ERR_PROFILE` at the first entry that breaks a rule. */
export function requireSoundProfile(profile: SeccosProfile): void {
  requireTiling(profile.fields)
  for (const [i, field] of profile.fields.entries()) requireField(profile, field, `/fields/${i}`)
  for (const which of ['prw', 'mac'] as const) requireComputation(profile, which)
}

/** Bytes 0 to 122, in order, each in one field; every id once. */
function requireTiling(fields: readonly ProfileField[]): void {
  const ids = new Set<string>()
  let next = 0
  for (const [i, { id, offset, length }] of fields.entries()) {
    if (ids.has(id)) throw new ProfileError(`/fields/${i}/id`, 'is there twice')
    ids.add(id)
    if (offset !== next) {
      const problem = offset < next ? 'overlaps the field before' : 'leaves a gap after the field before'
      throw new ProfileError(`/fields/${i}/offset`, `${problem}: expected ${next}`)
    }
    next += length
    if (next > DATA_SET_BYTES) {
      throw new ProfileError(
        `/fields/${i}/length`,
        `reaches beyond the ${DATA_SET_BYTES} bytes of a data set`,
      )
    }
  }
  if (next !== DATA_SET_BYTES) {
    throw new ProfileError('/fields', `cover ${next} bytes of ${DATA_SET_BYTES}`)
  }
}

function requireField(profile: SeccosProfile, field: ProfileField, path: string): void {
  if (isConstant(field)) {
    if (isReserved(field.id)) throw new ProfileError(`${path}/id`, 'names a value and cannot be constant')
    if (field.constant.length !== 2 * field.length) {
      throw new ProfileError(`${path}/constant`, `must be ${field.length} bytes`)
    }
    return
  }
  if (!isReserved(field.id)) return
  if (RESERVED_FIELDS[field.id].sensitive && !field.masked) {
    throw new ProfileError(`${path}/masked`, `must be true for ${field.id}`)
  }
  requireForm(profile, field.id, field, path)
}

/** The form of a value whose meaning is known, in a field or as an input of its own. */
function requireForm(profile: SeccosProfile, id: ReservedField, form: ValueForm, path: string): void {
  const { encodings, characters } = RESERVED_FIELDS[id]
  if (!encodings.includes(form.encoding)) {
    throw new ProfileError(`${path}/encoding`, `must be one of ${encodings.join(', ')} for ${id}`)
  }
  if (form.encoding === 'binary' || characters === undefined) {
    if (form.align !== 'exact') throw new ProfileError(`${path}/align`, `must be exact for binary ${id}`)
    const bytes = binaryBytes(profile, id)
    if (form.length < bytes.min || form.length > bytes.max) {
      throw new ProfileError(`${path}/length`, `must be ${bytes.min} to ${bytes.max} for ${id}`)
    }
    return
  }
  const capacity = capacityOf(form)
  const { min, max } = characters
  if (capacity < min) throw new ProfileError(`${path}/length`, `is too short for ${id}`)
  if (form.align === 'exact' && capacity > max) {
    throw new ProfileError(`${path}/length`, `is too long for ${id} with align exact`)
  }
}

function binaryBytes(profile: SeccosProfile, id: ReservedField): { min: number; max: number } {
  const exactly = (bytes: number): { min: number; max: number } => ({ min: bytes, max: bytes })
  if (id === 'pinBlock') return exactly(pinFormBytes(profile.pinBlock))
  if (id === 'random') return exactly(profile.randomBytes)
  // 9999 takes two bytes. A PIN length takes one.
  return { min: id === 'pcc' ? 2 : 1, max: 8 }
}

function requireComputation(profile: SeccosProfile, which: 'prw' | 'mac'): void {
  const computation = profile[which]
  const path = `/${which}`
  requireAlgorithm(computation, path)
  const characters = textLength(computation.text, computation.outputBytes)
  if (characters > MAX_TEXT[which]) {
    throw new ProfileError(`${path}/outputBytes`, `makes a text of more than ${MAX_TEXT[which]} characters`)
  }
  for (const [i, part] of computation.inputs.entries()) {
    requireInput(profile, which, part, `${path}/inputs/${i}`)
  }
  const left = uncoveredBy(profile, which)
  if (which === 'prw' && left.includes('pinBlock')) {
    throw new ProfileError(`${path}/inputs`, 'must cover the PIN block')
  }
  const listed = computation.uncovered
  if (listed.length !== left.length || left.some(name => !listed.includes(name))) {
    throw new ProfileError(
      `${path}/uncovered`,
      `must list exactly what the inputs leave out: ${left.join(', ')}`,
    )
  }
}

function requireAlgorithm(computation: Computation, path: string): void {
  const { algorithm, padding, iv, keyBytes, outputBytes } = computation
  const rule = ALGORITHMS[algorithm]
  if (!rule.paddings.includes(padding)) {
    throw new ProfileError(`${path}/padding`, `must be one of ${rule.paddings.join(', ')} for ${algorithm}`)
  }
  if ((rule.mac === 'cmac') !== (iv === 'none')) {
    throw new ProfileError(`${path}/iv`, 'must be none for CMAC, and 16 hex digits for the others')
  }
  if (!rule.keyBytes.includes(keyBytes)) {
    throw new ProfileError(`${path}/keyBytes`, `must be one of ${rule.keyBytes.join(', ')} for ${algorithm}`)
  }
  if (outputBytes > rule.blockBytes) {
    throw new ProfileError(`${path}/outputBytes`, `must be at most ${rule.blockBytes} for ${algorithm}`)
  }
}

/** The PIN, in whatever shape: the issuer verifies the MAC of a request without knowing it. */
const PIN_FIELDS: readonly string[] = ['pinBlock', 'pinLength']

function requireInput(
  profile: SeccosProfile,
  which: 'prw' | 'mac',
  part: ComputationInput,
  path: string,
): void {
  const ids = profile.fields.map(field => field.id)
  const forMac = which === 'mac'
  const needsPin =
    part.input === 'pinBlock' ||
    (part.input === 'dataSet.full' && ids.some(id => PIN_FIELDS.includes(id))) ||
    (part.input === 'field' && PIN_FIELDS.includes(part.id))
  if (forMac && needsPin) throw new ProfileError(path, 'needs the PIN, without which the MAC is verified')
  if (!forMac && part.input === 'prw')
    throw new ProfileError(path, 'is for the MAC: the PRW cannot cover itself')
  if (part.input === 'field' && !ids.includes(part.id)) {
    throw new ProfileError(`${path}/id`, 'is not the id of a field')
  }
  if (part.input === 'random' && profile.randomBytes === 0) {
    throw new ProfileError(path, 'is used, but randomBytes is 0')
  }
  if (part.input === 'pan' || part.input === 'pcc' || part.input === 'intdatag') {
    requireForm(profile, part.input, part, path)
  }
}

/**
 * What a computation covers: a value is covered where a change of it changes what is MACed. Everything else a profile
 * must list as `uncovered`, so that its author, its reviewer and the tests know it.
 */

/**
 * The names of all values that a PRW, or the MAC over it, could cover: the ids of the fields with content, and
 * besides `pan`, `pinBlock`, `pcc`, `intdatag`, `random` where the profile has one, and for the MAC `prw`.
 */
function valuesOf(profile: SeccosProfile, which: 'prw' | 'mac'): Set<string> {
  const names = new Set(['pan', 'pinBlock', 'pcc', 'intdatag'])
  if (profile.randomBytes > 0) names.add('random')
  for (const field of profile.fields) if (!isConstant(field)) names.add(field.id)
  if (which === 'mac') names.add('prw')
  return names
}

/** The names that one input covers. */
function coveredBy(profile: SeccosProfile, part: ComputationInput): string[] {
  switch (part.input) {
    case 'dataSet.full':
    case 'dataSet.masked':
      return profile.fields
        .filter(field => !isConstant(field) && (part.input === 'dataSet.full' || !field.masked))
        .map(field => field.id)
    case 'field':
      return [part.id]
    case 'constant':
      return []
    default:
      return [part.input]
  }
}

/**
 * The names of the values that the profile's PRW, or its MAC, does not cover. A value counts as covered only where it
 * enters whole and by itself: a format 0 PIN block holds 12 digits of the PAN and does not cover the PAN; a MAC over
 * the PRW does not cover the PIN. Takes what {@link parseProfile} made: anything else is refused there, `ERR_PROFILE`.
 *
 * @example
 * ```ts
 * uncoveredBy(profile, 'mac') // ['pan', 'pinBlock']
 * ```
 */
export function uncoveredBy(profile: SeccosProfile, which: 'prw' | 'mac'): string[] {
  const computation: Computation = profile[which]
  const covered = new Set(computation.inputs.flatMap(part => coveredBy(profile, part)))
  return [...valuesOf(profile, which)].filter(name => !covered.has(name))
}
