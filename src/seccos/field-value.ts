/** One value, to the bytes of its form and back: what each id means, what it admits, and how it fails. */

import { ownCopy, wipe } from '../base/bytes.js'
import { ArgumentError, DataSetError } from '../base/errors.js'
import { type Pan, panDigits, requirePan } from '../primitives/pan.js'
import { asciiDigits, type Pin, requirePin } from '../primitives/pin.js'
import { INTDATAG, PCC } from './counter/input.js'
import {
  decodeCharacters,
  decodeNumber,
  encodeBinary,
  encodeCharacters,
  encodeNumber,
} from './profile/encoding.js'
import { encodePin } from './profile/forms.js'
import {
  isReserved,
  RESERVED_FIELDS,
  type ReservedField,
  type SeccosProfile,
  type ValueForm,
} from './profile/profile.js'

/** The values of a data set. What a profile does not use may be absent. */
export interface DataSetValues {
  readonly pan?: Pan | undefined
  readonly pin?: Pin | undefined
  /** PIN change counter: 4 digits. */
  readonly pcc?: string | undefined
  /** 20 printable ASCII characters. */
  readonly intdatag?: string | undefined
  /** As many bytes as the profile's `randomBytes`. */
  readonly random?: Uint8Array | undefined
  /** The profile's own fields by id: characters, or bytes for `binary` ones. */
  readonly fields?: Readonly<Record<string, string | Uint8Array>> | undefined
}

const MAX_PCC = 9999
const PRINTABLE = /^[\x20-\x7e]*$/

type Encode = (form: ValueForm, values: DataSetValues, profile: SeccosProfile) => Uint8Array | undefined

const ENCODE: Readonly<Record<ReservedField, Encode>> = {
  pan: (form, values) => {
    const pan = present('pan', values.pan)
    requirePan(pan)
    return withWiped(asciiDigits(panDigits(pan)), digits => encodeCharacters(form, digits))
  },
  pinBlock: (form, values, profile) => {
    const pin = present('pinBlock', values.pin)
    requirePin(pin)
    return withWiped(encodePin(profile.pinBlock, pin, values.pan), block => encodeBinary(form, block))
  },
  pinLength: (form, values) => {
    const pin = present('pinLength', values.pin)
    requirePin(pin)
    return encodeCounter(form, pin.length, String(pin.length))
  },
  random: (form, { random }) => {
    const bytes = present('random', random)
    if (!(bytes instanceof Uint8Array)) throw new ArgumentError('random must be a Uint8Array')
    return encodeBinary(form, bytes)
  },
  pcc: (form, { pcc }) => {
    const digits = requireText('pcc', pcc, PCC, 'must be four digits')
    return encodeCounter(form, Number(digits), digits)
  },
  intdatag: (form, { intdatag }) =>
    encodeCharacters(
      form,
      ascii(requireText('intdatag', intdatag, INTDATAG, 'must be 20 printable characters')),
    ),
}

/**
 * The bytes of a value in a form, in memory of its own, which the caller wipes. `ERR_DATA_SET` with the id where the
 * value is missing or does not fit, `ERR_ARGUMENT` where it is of the wrong type.
 */
export function encodeValue(
  profile: SeccosProfile,
  id: string,
  form: ValueForm,
  values: DataSetValues,
): Uint8Array {
  const bytes = isReserved(id) ? ENCODE[id](form, values, profile) : encodeOwn(id, form, values)
  if (bytes === undefined) throw new DataSetError(id, `does not fit ${form.length} bytes ${form.encoding}`)
  return bytes
}

function encodeOwn(id: string, form: ValueForm, { fields }: DataSetValues): Uint8Array | undefined {
  const value = present(id, fields !== undefined && Object.hasOwn(fields, id) ? fields[id] : undefined)
  if (form.encoding === 'binary') {
    if (!(value instanceof Uint8Array)) throw new ArgumentError(`field ${id} must be a Uint8Array`)
    return encodeBinary(form, value)
  }
  return encodeCharacters(form, ascii(requireText(id, value, PRINTABLE, 'must be printable ASCII')))
}

/**
 * The value in a field: characters, or bytes where it is binary (the PCC is four digits in every encoding).
 * `ERR_DATA_SET` with the id where the field does not hold such a value.
 */
export function decodeValue(id: string, form: ValueForm, bytes: Uint8Array): string | Uint8Array {
  const value = valueIn(id, form, bytes)
  if (value === undefined) throw new DataSetError(id, 'does not hold a value of its form')
  return value
}

/** As {@link decodeValue}, undefined where the field does not hold such a value. */
export function valueIn(id: string, form: ValueForm, bytes: Uint8Array): string | Uint8Array | undefined {
  if (form.encoding === 'binary') return id === 'pcc' ? decodePcc(bytes) : ownCopy(bytes)
  const rule = isReserved(id) ? RESERVED_FIELDS[id].characters : undefined
  const count = rule?.min === rule?.max ? rule?.min : undefined
  const characters = decodeCharacters(form, bytes, count)
  return characters && String.fromCharCode(...characters)
}

function decodePcc(bytes: Uint8Array): string | undefined {
  return decodeNumber(bytes, MAX_PCC)?.toString().padStart(4, '0')
}

function encodeCounter(form: ValueForm, value: number, digits: string): Uint8Array | undefined {
  return form.encoding === 'binary' ? encodeNumber(form.length, value) : encodeCharacters(form, ascii(digits))
}

function present<T>(id: string, value: T | undefined): T {
  if (value === undefined) throw new DataSetError(id, 'is missing')
  return value
}

function requireText(id: string, value: unknown, pattern: RegExp, problem: string): string {
  const text = present(id, value)
  if (typeof text !== 'string') throw new ArgumentError(`${id} must be a string`)
  if (!pattern.test(text)) throw new DataSetError(id, problem)
  return text
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, character => character.charCodeAt(0))
}

function withWiped<T>(bytes: Uint8Array, use: (bytes: Uint8Array) => T): T {
  try {
    return use(bytes)
  } finally {
    wipe(bytes)
  }
}
