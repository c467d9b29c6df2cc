/**
 * The PRW data set: 123 bytes, laid out by a profile. Pure: no key, no randomness, no clock.
 *
 * The *full* data set holds everything. In the *masked* one, which travels and is stored, the masked fields (PAN and
 * PIN always among them) are zero bytes. A full data set holds the PAN and mostly the PIN: who gets one from here
 * wipes it.
 */
import { readOptions, readOwn } from '../base/arguments.js'
import {
  copyInto,
  equalBytes,
  fromHex,
  ownCopy,
  requireBytes,
  secretBytes,
  toHex,
  wipe,
} from '../base/bytes.js'
import { ArgumentError, DataSetError } from '../base/errors.js'
import { type DataSetValues, decodeValue, encodeValue, VALUES } from './field-value.js'
import {
  DATA_SET_BYTES,
  isConstant,
  meaningOf,
  type ProfileField,
  type ReservedField,
  requireProfile,
  type SeccosProfile,
  type ValueField,
} from './profile/profile.js'

/** What {@link readDataSet} finds: the values that a masked data set shows. */
export interface DataSetContent {
  readonly pcc?: string
  readonly intdatag?: string
  readonly random?: Uint8Array
  /** The profile's own unmasked fields: characters, or bytes for `binary` ones. */
  readonly fields: Readonly<Record<string, string | Uint8Array>>
}

/** What {@link buildDataSet} takes: a profile, and the values of its fields. */
export interface BuildDataSetInput extends DataSetValues {
  readonly profile: SeccosProfile
}

/** What {@link readDataSet} and {@link requireMasked} take. */
export interface MaskedDataSet {
  readonly profile: SeccosProfile
  /** The masked data set: 123 bytes. */
  readonly dataSet: Uint8Array
}

/** What {@link unmaskDataSet} takes: the masked data set, and the values that the mask hides. */
export interface UnmaskDataSetInput extends MaskedDataSet, DataSetValues {}

/**
 * Builds the full data set: 123 bytes in memory of its own, which the caller wipes.
 *
 * Errors: `ERR_DATA_SET` with `field` (a value is missing, of the wrong shape, or does not fit; a name that is no
 * field), `ERR_ARGUMENT` (a value of the wrong type, a profile that was not parsed), `ERR_DISPOSED` (the Pin).
 *
 * @example
 * ```ts
 * const full = buildDataSet({ profile, pan, pin, pcc: '0001', intdatag, random, fields: { psn: '01' } })
 * ```
 */
export function buildDataSet(input: BuildDataSetInput): Uint8Array {
  const { profile, ...values } = readOwn(input, 'buildDataSet', [...VALUES, 'profile'])
  requireProfile(profile)
  return buildChecked(profile, values)
}

/** The inner door of {@link buildDataSet}: the profile is one. */
export function buildChecked(profile: SeccosProfile, values: DataSetValues): Uint8Array {
  requireKnownFields(profile, values)
  return fill(secretBytes(DATA_SET_BYTES), profile.fields, field => contentOf(profile, field, values))
}

/**
 * The masked copy of a full data set: what may travel and be stored. 123 bytes in, 123 bytes out.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET` (`field` is `dataSet`: not 123 bytes).
 *
 * @example
 * ```ts
 * const prwDataSet = dataSetToHex(maskDataSet({ profile, full }))
 * ```
 */
export function maskDataSet(input: {
  readonly profile: SeccosProfile
  /** The full data set: 123 bytes. It stays the caller's, who wipes it. */
  readonly full: Uint8Array
}): Uint8Array {
  const { profile, full } = readOptions(input, 'maskDataSet', ['profile', 'full'])
  requireProfile(profile)
  return maskChecked(profile, full)
}

/** The inner door of {@link maskDataSet}: the profile is one. */
export function maskChecked(profile: SeccosProfile, full: Uint8Array): Uint8Array {
  requireDataSet(full)
  const masked = ownCopy(full)
  for (const field of maskedFields(profile)) applyMask(field, partOf(masked, field))
  return masked
}

/**
 * The full data set of a masked one: its masked fields filled with the values given, all else unchanged. 123 bytes in
 * memory of its own, which the caller wipes.
 *
 * Errors: as {@link buildDataSet}; `ERR_DATA_SET` with `field` where a masked field is not zero already.
 *
 * @example
 * ```ts
 * const full = unmaskDataSet({ profile, dataSet: dataSetFromHex(prwDataSet), pan, pin })
 * ```
 */
export function unmaskDataSet(input: UnmaskDataSetInput): Uint8Array {
  const { profile, dataSet, ...values } = readOwn(input, 'unmaskDataSet', [...VALUES, 'profile', 'dataSet'])
  requireProfile(profile)
  return unmaskChecked(profile, dataSet, values)
}

/** The inner door of {@link unmaskDataSet}: the profile is one. */
export function unmaskChecked(profile: SeccosProfile, masked: Uint8Array, values: DataSetValues): Uint8Array {
  requireMaskedBy(profile, masked)
  requireKnownFields(profile, values)
  return fill(ownCopy(masked), maskedFields(profile), field => hiddenContent(profile, field, masked, values))
}

/**
 * Throws `ERR_DATA_SET` unless these are 123 bytes whose masked fields are masked: zero bytes, or what the profile's mask
 * says; `field` is the first that is not. Nothing else of the content is looked at. `ERR_ARGUMENT` for what is no profile
 * or no bytes.
 *
 * @example
 * ```ts
 * requireMasked({ profile, dataSet: dataSetFromHex(prwDataSet) }) // throws, or is silent
 * ```
 */
export function requireMasked(input: MaskedDataSet): void {
  const { profile, dataSet } = readOptions(input, 'requireMasked', ['profile', 'dataSet'])
  requireProfile(profile)
  requireMaskedBy(profile, dataSet)
}

function requireMaskedBy(profile: SeccosProfile, dataSet: Uint8Array): void {
  requireDataSet(dataSet)
  for (const field of maskedFields(profile)) {
    const there = partOf(dataSet, field)
    const masked = ownCopy(there)
    applyMask(field, masked)
    const same = equalBytes(masked, there)
    wipe(masked)
    if (!same) {
      const zeros = typeof field.masked === 'boolean' ? 'zero bytes' : 'as the profile says'
      throw new DataSetError(field.id, `must be masked: ${zeros}`)
    }
  }
}

/**
 * Reads the unmasked fields of a masked data set back. Each must hold a value of its form, each constant its
 * constant. A pad that could be part of the value stays with it (zeros before a number of unknown length).
 *
 * Errors: `ERR_ARGUMENT`; `ERR_DATA_SET` with `field`: a masked field is not zero, a field does not read.
 *
 * @example
 * ```ts
 * const { pcc, intdatag, fields } = readDataSet({ profile, dataSet: dataSetFromHex(prwDataSet) })
 * ```
 */
export function readDataSet(input: MaskedDataSet): DataSetContent {
  const { profile, dataSet } = readOptions(input, 'readDataSet', ['profile', 'dataSet'])
  requireProfile(profile)
  return readChecked(profile, dataSet)
}

/** The inner door of {@link readDataSet}: the profile is one. */
export function readChecked(profile: SeccosProfile, dataSet: Uint8Array): DataSetContent {
  requireMaskedBy(profile, dataSet)
  const known = new Map<ReservedField, string | Uint8Array>()
  const own = new Map<string, string | Uint8Array>()
  for (const field of profile.fields) {
    const bytes = partOf(dataSet, field)
    if (isConstant(field)) {
      if (!equalBytes(bytes, fromHex(field.constant, field.id))) {
        throw new DataSetError(field.id, 'is not the constant of the profile')
      }
    } else if (field.masked === false) {
      const value = decodeValue(profile, field, bytes)
      const meaning = meaningOf(profile, field)
      if (meaning === undefined) own.set(field.id, value)
      else if (field.part === undefined) note(known, meaning, field.id, value)
    }
  }
  const [pcc, intdatag, random] = [known.get('pcc'), known.get('intdatag'), known.get('random')]
  return {
    ...(typeof pcc === 'string' && { pcc }),
    ...(typeof intdatag === 'string' && { intdatag }),
    ...(random instanceof Uint8Array && { random }),
    fields: Object.fromEntries(own),
  }
}

/** A value that two fields hold is the same in both. */
function note(
  known: Map<ReservedField, string | Uint8Array>,
  meaning: ReservedField,
  id: string,
  value: string | Uint8Array,
): void {
  const other = known.get(meaning)
  if (other !== undefined && String(other) !== String(value)) {
    throw new DataSetError(id, `is not the same ${meaning} as in the field before`)
  }
  known.set(meaning, value)
}

/**
 * The bytes of one field of the full data set, taken from the masked one where it shows them, else made from the
 * values. The caller wipes them.
 */
export function fieldOfDataSet(
  profile: SeccosProfile,
  id: string,
  masked: Uint8Array,
  values: DataSetValues,
): Uint8Array {
  const field = profile.fields.find(candidate => candidate.id === id)
  if (field === undefined) throw new DataSetError(id, 'is not a field of the profile')
  if (isConstant(field) || field.masked === false) return ownCopy(partOf(masked, field))
  return hiddenContent(profile, field, masked, values)
}

/**
 * A masked data set as D1's `prwDataSet`: 246 upper-case hex digits for 123 bytes.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET`. Source: Outbound PIN Management API 1.0, `prwDataSet`.
 *
 * @example
 * ```ts
 * const prwDataSet = dataSetToHex(maskDataSet({ profile, full }))
 * ```
 */
export function dataSetToHex(dataSet: Uint8Array): string {
  requireDataSet(dataSet)
  return toHex(dataSet)
}

/**
 * The bytes of D1's `prwDataSet`, which must be 246 upper-case hex digits. Whether it is masked is for
 * {@link requireMasked} to say, which every verb calls.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET` (`field`: `dataSet`).
 *
 * @example
 * ```ts
 * const { pcc } = readDataSet({ profile, dataSet: dataSetFromHex(prwDataSet) })
 * ```
 */
export function dataSetFromHex(hex: string): Uint8Array {
  if (typeof hex !== 'string') throw new ArgumentError('the data set must be a string of hex digits')
  if (hex.length !== 2 * DATA_SET_BYTES || !/^[0-9A-F]*$/.test(hex)) {
    throw new DataSetError('dataSet', `must be ${2 * DATA_SET_BYTES} upper-case hex digits`)
  }
  return fromHex(hex, 'dataSet')
}

function requireDataSet(dataSet: unknown): asserts dataSet is Uint8Array {
  requireBytes(dataSet, 'dataSet')
  if (dataSet.length !== DATA_SET_BYTES) throw new DataSetError('dataSet', `must be ${DATA_SET_BYTES} bytes`)
}

/** A name that is no field would be a value silently left out. It is the caller's text, so it is not repeated. */
function requireKnownFields(profile: SeccosProfile, values: DataSetValues): void {
  const own = [
    ...profile.fields.filter(field => !isConstant(field) && meaningOf(profile, field) === undefined),
    ...(profile.external ?? []),
  ].map(({ id }) => id)
  if (Object.keys(values.fields ?? {}).some(name => !own.includes(name))) {
    throw new DataSetError(
      'fields',
      'has a member that is not a field of the profile with a meaning of its own',
    )
  }
}

function maskedFields(profile: SeccosProfile): ValueField[] {
  return profile.fields.filter((field): field is ValueField => !isConstant(field) && field.masked !== false)
}

/** Puts the mask over the bytes of a field. */
export function applyMask({ encoding, masked }: ValueField, bytes: Uint8Array): void {
  if (typeof masked === 'boolean') {
    wipe(bytes)
    return
  }
  const fill = Number.parseInt(masked.fill, 16)
  const end = masked.offset + masked.length
  if (encoding !== 'bcd') {
    bytes.fill(fill, masked.offset, end)
    return
  }
  for (let i = masked.offset; i < end; i++) {
    const byte = bytes[i >> 1] as number
    bytes[i >> 1] = i % 2 === 0 ? (fill << 4) | (byte & 15) : (byte & 0xf0) | fill
  }
}

/** What a masked field holds in full. What the mask shows of it must be what the values say. */
function hiddenContent(
  profile: SeccosProfile,
  field: ValueField,
  masked: Uint8Array,
  values: DataSetValues,
): Uint8Array {
  const content = encodeValue(profile, field, values)
  const shown = ownCopy(content)
  applyMask(field, shown)
  const same = equalBytes(shown, partOf(masked, field))
  wipe(shown)
  if (same) return content
  wipe(content)
  throw new DataSetError(field.id, 'is not the one in the data set')
}

function partOf(dataSet: Uint8Array, { offset, length }: ProfileField): Uint8Array {
  return dataSet.subarray(offset, offset + length)
}

function contentOf(profile: SeccosProfile, field: ProfileField, values: DataSetValues): Uint8Array {
  return isConstant(field) ? fromHex(field.constant, field.id) : encodeValue(profile, field, values)
}

/** Writes the fields; what has been written is wiped where a later one fails. */
function fill<F extends ProfileField>(
  dataSet: Uint8Array,
  fields: readonly F[],
  content: (field: F) => Uint8Array,
): Uint8Array {
  try {
    for (const field of fields) {
      const bytes = content(field)
      copyInto(partOf(dataSet, field), bytes)
      wipe(bytes)
    }
    return dataSet
  } catch (error) {
    wipe(dataSet)
    throw error
  }
}
