/** From JSON to a profile: the strict parser, every member known, every error at the entry that is wrong. */
import { deepFreeze } from '../../base/arguments.js'
import { ProfileError } from '../../base/errors.js'
import { PIN_FORM_NAMES, TEXT_FORM_NAMES } from './forms.js'
import {
  ALGORITHMS,
  admitProfile,
  type Computation,
  type ComputationInput,
  DATA_SET_BYTES,
  type FieldEncoding,
  type ProfileAlgorithm,
  type ProfileField,
  type SeccosProfile,
  type ValueForm,
} from './profile.js'
import {
  type Entry,
  peek,
  readArray,
  readBoolean,
  readChoice,
  readInteger,
  readObject,
  readString,
} from './reader.js'
import { requireSoundProfile } from './rules.js'

const ID = /^[a-z][A-Za-z0-9]{0,31}$/
const HEX_BYTES = /^(?:[0-9A-F]{2})+$/
const NAME = /^[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?$/
const VERSION = /^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$/
const ENCODINGS: readonly FieldEncoding[] = ['bcd', 'ascii', 'ebcdic', 'binary']
const FORM_MEMBERS = ['length', 'encoding', 'align'] as const
/** Longest direct input, and longest constant among the inputs. */
const MAX_INPUT_BYTES = 255

/**
 * Reads a profile: the value that `JSON.parse` gave for it. Returns it as a frozen object that the verbs take.
 *
 * Unknown members are errors. Beyond the shape (`profile.schema.json`) it is checked that the fields tile bytes 0 to
 * 122 in order, that PAN, PIN block and PIN length are masked, that lengths, encodings, key and output sizes fit one
 * another, that the PRW covers the PIN, that the MAC can be verified without it, and that each `uncovered` list says
 * exactly what its inputs leave out.
 *
 * Errors: `ERR_PROFILE` with `path`, the JSON pointer of the offending entry; no message shows a value.
 *
 * @example
 * ```ts
 * const profile = parseProfile(JSON.parse(await readFile('profile.json', 'utf8')))
 * ```
 */
export function parseProfile(json: unknown): SeccosProfile {
  const root = readObject(
    { value: json, path: '' },
    ['profileFormat', 'name', 'version', 'provenance', 'pinBlock', 'randomBytes', 'fields', 'prw', 'mac'],
    ['$schema', 'description'],
  )
  const profile: SeccosProfile = {
    ...(root.$schema && { $schema: readString(root.$schema, /^[\x21-\x7e]{1,200}$/, 'an address') }),
    profileFormat: readChoice(root.profileFormat, [1]),
    name: readString(root.name, NAME, '1 to 64 printable ASCII characters'),
    version: readString(root.version, VERSION, 'a version such as 1.0.0'),
    provenance: readChoice(root.provenance, ['scheme-confirmed', 'illustrative']),
    ...(root.description && {
      description: readString(root.description, /^[^\p{Cc}\p{Cs}]{1,2000}$/u, 'up to 2000 characters'),
    }),
    pinBlock: readChoice(root.pinBlock, PIN_FORM_NAMES),
    randomBytes: readInteger(root.randomBytes, 0, 32),
    fields: readArray(root.fields, { min: 1, max: DATA_SET_BYTES }).map(readField),
    prw: readComputation(root.prw),
    mac: readComputation(root.mac),
  }
  requireSoundProfile(profile)
  return admitProfile(deepFreeze(profile))
}

function readField(entry: Entry): ProfileField {
  const constant = peek(entry, 'constant').value !== undefined
  const place = constant
    ? readObject(entry, ['id', 'offset', 'length', 'constant'])
    : readObject(entry, ['id', 'offset', ...FORM_MEMBERS, 'masked'], ['pad'])
  const id = readString(place.id, ID, 'a letter a–z, then up to 31 letters and digits')
  const offset = readInteger(place.offset, 0, DATA_SET_BYTES - 1)
  if ('constant' in place) {
    const length = readInteger(place.length, 1, DATA_SET_BYTES)
    return { id, offset, length, constant: readHex(place.constant, DATA_SET_BYTES) }
  }
  return { id, offset, ...readForm(place, DATA_SET_BYTES), masked: readBoolean(place.masked) }
}

function readForm(
  members: Record<(typeof FORM_MEMBERS)[number], Entry> & { pad?: Entry },
  max: number,
): ValueForm {
  const length = readInteger(members.length, 1, max)
  const encoding = readChoice(members.encoding, ENCODINGS)
  const align = readChoice(members.align, ['left', 'right', 'exact'])
  if (align === 'exact') {
    if (members.pad) throw new ProfileError(members.pad.path, 'must be absent where align is exact')
    return { length, encoding, align }
  }
  if (!members.pad) {
    throw new ProfileError(members.align.path.replace(/align$/, 'pad'), 'is missing: align is not exact')
  }
  const pad =
    encoding === 'bcd'
      ? readString(members.pad, /^[0-9A-F]$/, 'one upper-case hex digit')
      : readString(members.pad, /^[0-9A-F]{2}$/, 'two upper-case hex digits')
  return { length, encoding, align, pad }
}

const INPUTS: Readonly<Record<ComputationInput['input'], (entry: Entry) => ComputationInput>> = {
  'dataSet.full': readBare,
  'dataSet.masked': readBare,
  pinBlock: readBare,
  random: readBare,
  field: entry => {
    const { id } = readObject(entry, ['input', 'id'])
    return { input: 'field', id: readString(id, ID, 'the id of a field') }
  },
  pan: readFormed,
  pcc: readFormed,
  intdatag: readFormed,
  prw: entry => {
    const { form } = readObject(entry, ['input', 'form'])
    return { input: 'prw', form: readChoice(form, ['binary', 'text']) }
  },
  constant: entry => {
    const { constant } = readObject(entry, ['input', 'constant'])
    return { input: 'constant', constant: readHex(constant, MAX_INPUT_BYTES) }
  },
}

function readBare(entry: Entry): ComputationInput {
  const { input } = readObject(entry, ['input'])
  return { input: readChoice(input, ['dataSet.full', 'dataSet.masked', 'pinBlock', 'random']) }
}

function readFormed(entry: Entry): ComputationInput {
  const members = readObject(entry, ['input', ...FORM_MEMBERS], ['pad'])
  const input = readChoice(members.input, ['pan', 'pcc', 'intdatag'])
  return { input, ...readForm(members, MAX_INPUT_BYTES) }
}

function readInput(entry: Entry): ComputationInput {
  const kind = peek(entry, 'input')
  return INPUTS[readChoice(kind, Object.keys(INPUTS) as ComputationInput['input'][])](entry)
}

function readComputation(entry: Entry): Computation {
  const members = readObject(entry, [
    'algorithm',
    'padding',
    'iv',
    'keyBytes',
    'inputs',
    'outputBytes',
    'text',
    'uncovered',
  ])
  return {
    algorithm: readChoice(members.algorithm, Object.keys(ALGORITHMS) as ProfileAlgorithm[]),
    padding: readChoice(members.padding, [1, 2, 3, 'none']),
    iv: readString(members.iv, /^(?:[0-9A-F]{16}|none)$/, '16 upper-case hex digits, or none'),
    keyBytes: readChoice(members.keyBytes, [16, 24, 32]),
    inputs: readArray(members.inputs, { min: 1, max: 32 }).map(readInput),
    outputBytes: readInteger(members.outputBytes, 4, 16),
    text: readChoice(members.text, TEXT_FORM_NAMES),
    uncovered: readArray(members.uncovered, { min: 0, max: DATA_SET_BYTES + 8 }).map(name =>
      readString(name, ID, 'the name of a value'),
    ),
  }
}

function readHex(entry: Entry, max: number): string {
  const hex = readString(entry, HEX_BYTES, 'an even number of upper-case hex digits')
  if (hex.length > 2 * max) throw new ProfileError(entry.path, `must be at most ${max} bytes`)
  return hex
}
