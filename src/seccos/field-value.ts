/** One value, to the bytes of its form and back: what each name means, what it admits, and how it fails. */
import { asciiBytes, bufferOf, ownCopy, wipe, withWiped } from '../base/bytes.js'
import { ArgumentError, DataSetError } from '../base/errors.js'
import { type Pan, panDigits, requirePan } from '../primitives/pan.js'
import { asciiDigits, type Pin, requirePin } from '../primitives/pin.js'
import { INTDATAG, PCC } from './counter/state.js'
import {
  decodeCharacters,
  decodeNumber,
  encodeBinary,
  encodeCharacters,
  encodeNumber,
  hasAll,
  isBinary,
  partOfValue,
} from './profile/encoding.js'
import { encodePin } from './profile/forms.js'
import {
  meaningOf,
  type Part,
  type PinForm,
  RESERVED_FIELDS,
  type ReservedField,
  type SeccosProfile,
  type ValueForm,
} from './profile/profile.js'

/** The values of a data set and of what is computed over it. What a profile does not use may be absent. */
export interface DataSetValues {
  readonly pan?: Pan | undefined
  readonly pin?: Pin | undefined
  /** PIN change counter: 4 digits. */
  readonly pcc?: string | undefined
  /** 20 printable ASCII characters. */
  readonly intdatag?: string | undefined
  /** As many bytes as the profile's `randomBytes`. */
  readonly random?: Uint8Array | undefined
  /** The names of the keys as D1's message has them, where the profile computes over them: 1 to 128 characters. */
  readonly prwKid?: string | undefined
  readonly macKid?: string | undefined
  /** The issuer's id, 10 characters, where the profile computes over it. */
  readonly issuerId?: string | undefined
  /** The profile's own fields and external values by id: characters, or bytes for what is binary. */
  readonly fields?: Readonly<Record<string, string | Uint8Array>> | undefined
}

/** The members of {@link DataSetValues}, for verbs that read them. */
export const VALUES = [
  'pan',
  'pin',
  'pcc',
  'intdatag',
  'random',
  'prwKid',
  'macKid',
  'issuerId',
  'fields',
] as const

/** A place for a value: whose, and in which form. */
interface ValuePlace extends ValueForm {
  readonly id: string
  readonly value?: ReservedField
  readonly pinForm?: PinForm
}

const MAX_PCC = 9999
const KID = /^[\x20-\x7e]{1,128}$/
const ISSUER_ID_CHARACTERS = 10
const PRINTABLE = /^[\x20-\x7e]*$/

type Raw = (profile: SeccosProfile, values: DataSetValues, pinForm: PinForm | undefined) => Uint8Array

/** The characters, or bytes, of each value, in memory of its own. */
const RAW: Readonly<Record<ReservedField, Raw>> = {
  pan: (_, values) => {
    const pan = present('pan', values.pan)
    requirePan(pan)
    return asciiDigits(panDigits(pan))
  },
  pinBlock: (profile, { pin: given, pan, random }, form) => {
    const pin = present('pinBlock', given)
    requirePin(pin)
    return encodePin(form ?? profile.pinBlock, { pin, pan, random })
  },
  pinLength: (_, values) => {
    const pin = present('pinLength', values.pin)
    requirePin(pin)
    return asciiBytes(String(pin.length))
  },
  random: (_, { random }) => {
    const bytes = present('random', random)
    if (!(bytes instanceof Uint8Array)) throw new ArgumentError('random must be a Uint8Array')
    return ownCopy(bytes)
  },
  pcc: (_, { pcc }) => requireText('pcc', pcc, PCC, 'must be four digits'),
  intdatag: (_, { intdatag }) =>
    requireText('intdatag', intdatag, INTDATAG, 'must be 20 printable characters'),
  prwKid: (_, { prwKid }) => requireText('prwKid', prwKid, KID, 'must be 1 to 128 printable characters'),
  macKid: (_, { macKid }) => requireText('macKid', macKid, KID, 'must be 1 to 128 printable characters'),
  issuerId: (_, { issuerId }) => requireIssuerId(issuerId),
}

/**
 * The bytes of a value in its place, in memory of its own, which the caller wipes. `ERR_DATA_SET` with the id where the
 * value is missing or does not fit, `ERR_ARGUMENT` where it is of the wrong type.
 */
export function encodeValue(profile: SeccosProfile, place: ValuePlace, values: DataSetValues): Uint8Array {
  const meaning = meaningOf(profile, place)
  const whole = meaning === undefined ? ownValue(place, values) : RAW[meaning](profile, values, place.pinForm)
  return withWiped(whole, value => {
    const number = isBinary(place.encoding) && (meaning === 'pcc' || meaning === 'pinLength')
    const bytes = number ? encodeNumber(place, numberOf(value)) : inForm(place, value)
    if (bytes !== undefined) return bytes
    if (hasAll(place.encoding, value)) {
      throw new DataSetError(place.id, `does not fit ${place.length} bytes ${place.encoding}`)
    }
    throw new DataSetError(place.id, `has a character that ${place.encoding} does not have`)
  })
}

function inForm(place: ValuePlace, value: Uint8Array): Uint8Array | undefined {
  if (place.part === undefined) return encoded(place, value)
  const part = partOfValue(value, place.part)
  try {
    return part && encoded(place, part)
  } finally {
    wipe(part)
  }
}

function encoded(form: ValueForm, value: Uint8Array): Uint8Array | undefined {
  return isBinary(form.encoding) ? encodeBinary(form, value) : encodeCharacters(form, value)
}

function numberOf(digits: Uint8Array): number {
  return digits.reduce((number, digit) => 10 * number + digit - 0x30, 0)
}

function ownValue({ id, encoding }: ValuePlace, { fields }: DataSetValues): Uint8Array {
  const value = present(id, fields !== undefined && Object.hasOwn(fields, id) ? fields[id] : undefined)
  if (!isBinary(encoding)) return requireText(id, value, PRINTABLE, 'must be printable ASCII')
  if (!(value instanceof Uint8Array)) throw new ArgumentError(`field ${id} must be a Uint8Array`)
  return ownCopy(value)
}

/**
 * The value in a field: characters, or bytes where it is binary (the PCC is four digits in every encoding).
 * `ERR_DATA_SET` with the id where the field does not hold such a value.
 */
export function decodeValue(
  profile: SeccosProfile,
  place: ValuePlace,
  bytes: Uint8Array,
): string | Uint8Array {
  const value = valueIn(profile, place, bytes)
  if (value === undefined) throw new DataSetError(place.id, 'does not hold a value of its form')
  return value
}

/** As {@link decodeValue}, undefined where the field does not hold such a value. */
export function valueIn(
  profile: SeccosProfile,
  place: ValuePlace,
  bytes: Uint8Array,
): string | Uint8Array | undefined {
  const meaning = meaningOf(profile, place)
  if (isBinary(place.encoding)) {
    if (meaning !== 'pcc') return ownCopy(bytes)
    return decodeNumber(place.encoding, bytes, MAX_PCC)?.toString().padStart(4, '0')
  }
  const rule = meaning && RESERVED_FIELDS[meaning].characters
  const count = rule && charactersIn(place.part, rule)
  const characters = decodeCharacters(place, bytes, count)
  return characters && bufferOf(characters).toString('latin1')
}

/** How many characters there are, where that is certain. */
function charactersIn(
  part: Part | undefined,
  { min, max }: { min: number; max: number },
): number | undefined {
  if (part === undefined) return min === max ? min : undefined
  const rest = (of: number): number => Math.max(0, Math.min(part.take ?? of, of - part.skip))
  return rest(min) === rest(max) ? rest(min) : undefined
}

function requireIssuerId(issuerId: string | undefined): Uint8Array {
  const problem = `must be ${ISSUER_ID_CHARACTERS} printable characters`
  const characters = requireText('issuerId', issuerId, PRINTABLE, problem)
  if (characters.length === ISSUER_ID_CHARACTERS) return characters
  throw new DataSetError('issuerId', problem)
}

function present<T>(id: string, value: T | undefined): T {
  if (value === undefined) throw new DataSetError(id, 'is missing')
  return value
}

function requireText(id: string, value: unknown, pattern: RegExp, problem: string): Uint8Array {
  const text = present(id, value)
  if (typeof text !== 'string') throw new ArgumentError(`${id} must be a string`)
  if (!pattern.test(text)) throw new DataSetError(id, problem)
  return asciiBytes(text)
}
