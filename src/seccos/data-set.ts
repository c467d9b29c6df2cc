/**
 * The PRW data set: 123 bytes, laid out by a profile. Pure: no key, no randomness, no clock.
 *
 * The *full* data set holds everything. In the *masked* one, which travels and is stored, the masked fields (PAN and
 * PIN always among them) are zero bytes. A full data set holds the PAN and mostly the PIN: who gets one from here
 * wipes it.
 */
import { equalBytes, fromHex, ownCopy, requireBytes, toHex, wipe } from '../base/bytes.js'
import { ArgumentError, DataSetError } from '../base/errors.js'
import { type DataSetValues, decodeValue, encodeValue } from './field-value.js'
import {
  DATA_SET_BYTES,
  isConstant,
  isReserved,
  type ProfileField,
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

/**
 * Builds the full data set: 123 bytes in memory of its own, which the caller wipes.
 *
 * Errors: `ERR_DATA_SET` with `field` (a value is missing, of the wrong shape, or does not fit; a name that is no
 * field), `ERR_ARGUMENT` (a value of the wrong type, a profile that was not parsed), `ERR_DISPOSED` (the Pin).
 *
 * @example
 * ```ts
 * const full = buildDataSet(profile, { pan, pin, pcc: '0001', intdatag, random, fields: { psn: '01' } })
 * ```
 */
export function buildDataSet(profile: SeccosProfile, values: DataSetValues): Uint8Array {
  requireProfile(profile)
  requireKnownFields(profile, values)
  return fill(new Uint8Array(DATA_SET_BYTES), profile.fields, field => contentOf(profile, field, values))
}

/**
 * The masked copy of a full data set: what may travel and be stored. 123 bytes in, 123 bytes out.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET` (`field` is `dataSet`: not 123 bytes).
 *
 * @example
 * ```ts
 * const prwDataSet = dataSetToHex(maskDataSet(profile, full))
 * ```
 */
export function maskDataSet(profile: SeccosProfile, full: Uint8Array): Uint8Array {
  requireProfile(profile)
  requireDataSet(full)
  const masked = ownCopy(full)
  for (const field of maskedFields(profile)) wipe(partOf(masked, field))
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
 * const full = unmaskDataSet(profile, dataSetFromHex(prwDataSet), { pan, pin })
 * ```
 */
export function unmaskDataSet(profile: SeccosProfile, masked: Uint8Array, values: DataSetValues): Uint8Array {
  requireMasked(profile, masked)
  requireKnownFields(profile, values)
  return fill(ownCopy(masked), maskedFields(profile), field => contentOf(profile, field, values))
}

/**
 * Throws `ERR_DATA_SET` unless these are 123 bytes whose masked fields are all zero; `field` is the first that is
 * not. Nothing else of the content is looked at. `ERR_ARGUMENT` for what is no profile or no bytes.
 *
 * @example
 * ```ts
 * requireMasked(profile, dataSetFromHex(prwDataSet)) // throws, or is silent
 * ```
 */
export function requireMasked(profile: SeccosProfile, dataSet: Uint8Array): void {
  requireProfile(profile)
  requireDataSet(dataSet)
  for (const field of maskedFields(profile)) {
    if (partOf(dataSet, field).some(byte => byte !== 0))
      throw new DataSetError(field.id, 'must be masked: zero bytes')
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
 * const { pcc, intdatag, fields } = readDataSet(profile, dataSetFromHex(prwDataSet))
 * ```
 */
export function readDataSet(profile: SeccosProfile, dataSet: Uint8Array): DataSetContent {
  requireMasked(profile, dataSet)
  const found = new Map<string, string | Uint8Array>()
  for (const field of profile.fields) {
    const bytes = partOf(dataSet, field)
    if (isConstant(field)) {
      if (!equalBytes(bytes, fromHex(field.constant, field.id))) {
        throw new DataSetError(field.id, 'is not the constant of the profile')
      }
    } else if (!field.masked) {
      found.set(field.id, decodeValue(field.id, field, bytes))
    }
  }
  const take = (id: string): string | Uint8Array | undefined => {
    const value = found.get(id)
    found.delete(id)
    return value
  }
  const [pcc, intdatag, random] = [take('pcc'), take('intdatag'), take('random')]
  return {
    ...(typeof pcc === 'string' && { pcc }),
    ...(typeof intdatag === 'string' && { intdatag }),
    ...(random instanceof Uint8Array && { random }),
    fields: Object.fromEntries(found),
  }
}

/**
 * The bytes of one field of the full data set, taken from the masked one where they stand there, else made from the
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
  return isConstant(field) || !field.masked
    ? ownCopy(partOf(masked, field))
    : contentOf(profile, field, values)
}

/**
 * A masked data set as D1's `prwDataSet`: 246 upper-case hex digits for 123 bytes.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET`. Source: Outbound PIN Management API 1.0, `prwDataSet`.
 *
 * @example
 * ```ts
 * const prwDataSet = dataSetToHex(maskDataSet(profile, full))
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
 * const { pcc } = readDataSet(profile, dataSetFromHex(prwDataSet))
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
  if (typeof values !== 'object' || values === null) throw new ArgumentError('values must be an object')
  const own = profile.fields
    .filter(field => !isConstant(field) && !isReserved(field.id))
    .map(field => field.id)
  if (Object.keys(values.fields ?? {}).some(name => !own.includes(name))) {
    throw new DataSetError(
      'fields',
      'has a member that is not a field of the profile with a meaning of its own',
    )
  }
}

function maskedFields(profile: SeccosProfile): ValueField[] {
  return profile.fields.filter((field): field is ValueField => !isConstant(field) && field.masked)
}

function partOf(dataSet: Uint8Array, { offset, length }: ProfileField): Uint8Array {
  return dataSet.subarray(offset, offset + length)
}

function contentOf(profile: SeccosProfile, field: ProfileField, values: DataSetValues): Uint8Array {
  return isConstant(field) ? fromHex(field.constant, field.id) : encodeValue(profile, field.id, field, values)
}

/** Writes the fields; what has been written is wiped where a later one fails. */
function fill(
  dataSet: Uint8Array,
  fields: readonly ProfileField[],
  content: (field: ProfileField) => Uint8Array,
): Uint8Array {
  try {
    for (const field of fields) {
      const bytes = content(field)
      partOf(dataSet, field).set(bytes)
      wipe(bytes)
    }
    return dataSet
  } catch (error) {
    wipe(dataSet)
    throw error
  }
}
