/** A data set for people: what a profile says stands where, secrets as dots. */
import { equalBytes, fromHex, ownCopy } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'
import { applyMask, dataSetFromHex } from '../../seccos/data-set.js'
import { valueIn } from '../../seccos/field-value.js'
import { isBinary } from '../../seccos/profile/encoding.js'
import {
  isConstant,
  meaningOf,
  type ProfileField,
  type ReservedField,
  requireProfile,
  type SeccosProfile,
  type ValueField,
} from '../../seccos/profile/profile.js'
import { hideBytes, renderTable, showBytes, showText } from './table.js'

const MEANINGS: Readonly<Record<ReservedField, string>> = {
  pan: 'PAN',
  pinBlock: 'PIN in the form of the profile',
  pinLength: 'PIN length',
  random: 'random number',
  pcc: 'PIN change counter',
  intdatag: 'intdatag',
  prwKid: 'name of the PRW key',
  macKid: 'name of the MAC key',
  issuerId: 'issuer id',
}

/** Characters of an intdatag that are shown: enough to find it in a log, not to use it. */
const INTDATAG_SHOWN = 4

/**
 * A data set as a table: field, offset, bytes, meaning, by a profile. For people; the text is not a format.
 *
 * It takes `prwDataSet` as 246 upper-case hex digits, sound or not. Masked fields that are not zero are not shown, and
 * marked; of an intdatag four characters are. What a profile calls by an id of its own is shown as it stands.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET` (not 246 upper-case hex digits).
 *
 * @example
 * ```ts
 * console.log(inspectDataSet(profile, prwDataSet))
 * ```
 */
export function inspectDataSet(profile: SeccosProfile, prwDataSet: string): string {
  requireProfile(profile)
  if (typeof prwDataSet !== 'string') throw new ArgumentError('prwDataSet must be a string of hex digits')
  const dataSet = dataSetFromHex(prwDataSet)
  const rows = profile.fields.map(field => {
    const bytes = dataSet.subarray(field.offset, field.offset + field.length)
    const { shown, meaning } = describe(profile, field, bytes)
    return [field.id, String(field.offset), String(field.length), shown, meaning]
  })
  const title = `PRW data set by profile ${profile.name} ${profile.version} (${profile.provenance})`
  return `${title}\n${renderTable(['field', 'offset', 'length', 'bytes', 'meaning'], rows)}`
}

function describe(
  profile: SeccosProfile,
  field: ProfileField,
  bytes: Uint8Array,
): { shown: string; meaning: string } {
  if (isConstant(field)) {
    const same = equalBytes(bytes, fromHex(field.constant, field.id))
    return { shown: showBytes(bytes), meaning: same ? 'constant' : 'NOT the constant of the profile' }
  }
  const meaning = meaningOf(profile, field)
  const name = meaning === undefined ? field.id : partial(field, MEANINGS[meaning])
  if (field.masked !== false) {
    return isMasked(field, bytes)
      ? { shown: showBytes(bytes), meaning: `${name}, masked` }
      : { shown: hideBytes(bytes.length), meaning: `${name}, NOT MASKED: not shown` }
  }
  const read = valueIn(profile, field, bytes)
  const value = typeof read === 'string' ? read : undefined
  if (meaning === 'intdatag') {
    const visible = value === undefined ? 'does not read' : showText(`${value.slice(0, INTDATAG_SHOWN)}…`)
    return { shown: hideBytes(bytes.length), meaning: `${name} ${visible}` }
  }
  if (isBinary(field.encoding) && meaning !== 'pcc') return { shown: showBytes(bytes), meaning: name }
  const visible = value === undefined ? 'does NOT read' : showText(value)
  return { shown: showBytes(bytes), meaning: `${name} ${visible} (${field.encoding})` }
}

function partial({ part }: ValueField, name: string): string {
  return part === undefined ? name : `part of the ${name}`
}

/** Masked bytes of a partly shown PAN are what the mask says; anything else is not shown at all. */
function isMasked(field: ValueField, bytes: Uint8Array): boolean {
  const masked = ownCopy(bytes)
  applyMask(field, masked)
  return equalBytes(masked, bytes)
}
