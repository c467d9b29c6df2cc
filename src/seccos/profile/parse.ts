/** A profile read strictly, from JSON to a frozen value; errors point at the entry that is wrong. */
import { deepFreeze, isWord, ownMembers } from '../../base/arguments.js'
import { ProfileError } from '../../base/errors.js'
import { PIN_FORM_NAMES, TEXT_FORM_NAMES } from './forms.js'
import {
  ALGORITHMS,
  admitProfile,
  type Computation,
  type ComputationInput,
  DATA_SET_BYTES,
  type DerivationStep,
  type Digest,
  type ExternalValue,
  type FieldEncoding,
  type FormedInput,
  type Mask,
  type OutputStep,
  type Part,
  type PinForm,
  type ProfileAlgorithm,
  type ProfileField,
  RESERVED_FIELDS,
  type SeccosProfile,
  type TextForm,
  type ValueForm,
} from './profile.js'
import { requireSoundProfile } from './rules.js'

/** A value and where it was found. */
interface Entry {
  readonly value: unknown
  readonly path: string
}

/** A member of an object or array, by RFC 6901: `~` and `/` in a name are escaped. */
function at(path: string, name: string | number): string {
  return `${path}/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** An own member, before it is known which members there may be; undefined where there is none. */
function peek({ value, path }: Entry, name: string): Entry {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProfileError(path, 'must be an object')
  }
  return { value: Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined, path: at(path, name) }
}

/** The members of a JSON object that has all the `required` ones and none but these and the `optional` ones. */
function readObject<R extends string, O extends string = never>(
  { value, path }: Entry,
  required: readonly R[],
  optional: readonly O[] = [],
): Record<R, Entry> & Partial<Record<O, Entry>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProfileError(path, 'must be an object')
  }
  const known: readonly string[] = [...required, ...optional]
  for (const name of Object.keys(value)) {
    if (known.includes(name)) continue
    throw new ProfileError(
      at(path, isWord(name) ? name : '(a name that is no word)'),
      'is not a known member',
    )
  }
  const members: Partial<Record<string, Entry>> = ownMembers({})
  for (const name of known) {
    if (Object.hasOwn(value, name)) {
      members[name] = { value: Reflect.get(value, name), path: at(path, name) }
    }
  }
  for (const name of required) {
    if (members[name]?.value === undefined) throw new ProfileError(at(path, name), 'is missing')
  }
  return members as Record<R, Entry> & Partial<Record<O, Entry>>
}

/** The entries of a JSON array. */
function readArray({ value, path }: Entry, bounds: { min: number; max: number }): Entry[] {
  if (!Array.isArray(value) || value.length < bounds.min || value.length > bounds.max) {
    throw new ProfileError(path, `must be a list of ${bounds.min} to ${bounds.max} entries`)
  }
  return Array.from(value, (entry, i) => ({ value: entry, path: at(path, i) }))
}

/** A string that matches. `shape` completes «must be …». */
function readString({ value, path }: Entry, pattern: RegExp, shape: string): string {
  if (typeof value !== 'string' || !pattern.test(value)) throw new ProfileError(path, `must be ${shape}`)
  return value
}

/** A whole number within bounds. */
function readInteger({ value, path }: Entry, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new ProfileError(path, `must be a whole number from ${min} to ${max}`)
  }
  return value
}

/** True or false. */
function readBoolean({ value, path }: Entry): boolean {
  if (typeof value !== 'boolean') throw new ProfileError(path, 'must be true or false')
  return value
}

/** One of a list. */
function readChoice<T extends string | number>({ value, path }: Entry, choices: readonly T[]): T {
  const choice = choices.find(candidate => candidate === value)
  if (choice === undefined) throw new ProfileError(path, `must be one of ${choices.join(', ')}`)
  return choice
}

/* From JSON to a profile: the strict parser, every member known, every error at the entry that is wrong. */

const ID = /^[a-z][A-Za-z0-9]{0,31}$/
const HEX_BYTES = /^(?:[0-9A-F]{2})+$/
const NAME = /^[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?$/
const VERSION = /^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$/
const FORM_MEMBERS = ['length', 'encoding', 'align'] as const
/** Longest direct input, and longest constant among the inputs. */
const MAX_INPUT_BYTES = 255
const MAX_INPUTS = 32

/** What a version of the format has. Format 1 is format 2 with fewer words. */
interface Vocabulary {
  readonly format: 1 | 2
  readonly encodings: readonly FieldEncoding[]
  readonly algorithms: readonly ProfileAlgorithm[]
  readonly texts: readonly TextForm[]
  readonly outputBytes: { readonly min: number; readonly max: number }
}

const VOCABULARIES: Readonly<Record<1 | 2, Vocabulary>> = {
  1: {
    format: 1,
    encodings: ['bcd', 'ascii', 'ebcdic', 'binary'],
    algorithms: ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac-tdea', 'cmac-aes'],
    texts: ['hex-upper', 'hex-lower', 'base64', 'base64url'],
    outputBytes: { min: 4, max: 16 },
  },
  2: {
    format: 2,
    encodings: ['bcd', 'ascii', 'ebcdic', 'ebcdic-273', 'binary', 'binary-le'],
    algorithms: namesOf(ALGORITHMS),
    texts: TEXT_FORM_NAMES,
    // Three bytes are what some schemes cut a MAC to; 32 are 64 hex digits, all that D1's prwValue admits.
    outputBytes: { min: 3, max: 32 },
  },
}

function namesOf<K extends string>(table: Readonly<Record<K, unknown>>): K[] {
  return Object.keys(table) as K[]
}

/**
 * Reads a profile: the value that `JSON.parse` gave for it. Returns it as a frozen object that the verbs take.
 *
 * Unknown members are errors, and so are in format 1 those of format 2. Beyond the shape (`profile.schema.json`) it is
 * checked that the fields tile bytes 0 to 122 in order, that PAN, PIN block and PIN length are masked, that lengths,
 * encodings, key and output sizes fit one another and D1's message, that the PRW covers the PIN, that the MAC can be
 * verified without it, that a PIN can be verified with what is kept of a Set PIN (see {@link neededToVerify}), and that
 * each `uncovered` list says exactly what its inputs leave out.
 *
 * Errors: `ERR_PROFILE` with `path`, the JSON pointer of the offending entry; no message shows a value.
 *
 * @example
 * ```ts
 * const profile = parseProfile(JSON.parse(await readFile('profile.json', 'utf8')))
 * ```
 */
export function parseProfile(json: unknown): SeccosProfile {
  const format = readChoice(peek({ value: json, path: '' }, 'profileFormat'), [1, 2])
  const words = VOCABULARIES[format]
  const root = readObject(
    { value: json, path: '' },
    ['profileFormat', 'name', 'version', 'provenance', 'pinBlock', 'randomBytes', 'fields', 'prw', 'mac'],
    ['$schema', 'description', ...(format === 2 ? (['external'] as const) : [])],
  )
  const profile: SeccosProfile = ownMembers({
    ...(root.$schema && { $schema: readString(root.$schema, /^[\x21-\x7e]{1,200}$/, 'an address') }),
    profileFormat: format,
    name: readString(root.name, NAME, '1 to 64 printable ASCII characters'),
    version: readString(root.version, VERSION, 'a version such as 1.0.0'),
    provenance: readChoice(root.provenance, ['scheme-confirmed', 'illustrative']),
    ...(root.description && {
      description: readString(root.description, /^[^\p{Cc}\p{Cs}]{1,2000}$/u, 'up to 2000 characters'),
    }),
    pinBlock: readPinForm(root.pinBlock, words),
    randomBytes: readInteger(root.randomBytes, 0, 32),
    ...(root.external && {
      external: readArray(root.external, { min: 1, max: MAX_INPUTS }).map(readExternal),
    }),
    fields: readArray(root.fields, { min: 1, max: DATA_SET_BYTES }).map(entry => readField(entry, words)),
    prw: readComputation(root.prw, words),
    mac: readComputation(root.mac, words),
  })
  requireSoundProfile(profile)
  return admitProfile(deepFreeze(profile))
}

function readExternal(entry: Entry): ExternalValue {
  const { id, kind } = readObject(entry, ['id', 'kind'])
  return { id: readId(id), kind: readChoice(kind, ['text', 'bytes']) }
}

function readId(entry: Entry): string {
  return readString(entry, ID, 'a letter a–z, then up to 31 letters and digits')
}

function readPinForm(entry: Entry, { format }: Vocabulary): PinForm {
  if (format === 1 || typeof entry.value !== 'object') return readChoice(entry, PIN_FORM_NAMES)
  if (peek(entry, 'digits').value !== undefined) {
    const form = readObject(entry, ['digits', 'length', 'align'], ['pad'])
    const encoding = readChoice(form.digits, ['bcd', 'ascii', 'ebcdic'])
    const { length, align, pad } = readPlace(form, encoding, 16)
    return { digits: encoding, length, align, ...(pad !== undefined && { pad }) }
  }
  const { iso9564, filler } = readObject(entry, ['iso9564', 'filler'])
  const control = readChoice(iso9564, [1, 3, 4])
  const digit = control === 3 ? /^(?:random|[A-F])$/ : /^(?:random|[0-9A-F])$/
  const shape = control === 3 ? 'random, or a digit A to F' : 'random, or an upper-case hex digit'
  return { iso9564: control, filler: readString(filler, digit, shape) }
}

function readField(entry: Entry, words: Vocabulary): ProfileField {
  const constant = peek(entry, 'constant').value !== undefined
  const place = constant
    ? readObject(entry, ['id', 'offset', 'length', 'constant'])
    : readObject(
        entry,
        ['id', 'offset', ...FORM_MEMBERS, 'masked'],
        ['pad', ...(words.format === 2 ? (['part', 'value', 'pinForm'] as const) : [])],
      )
  const id = readId(place.id)
  const offset = readInteger(place.offset, 0, DATA_SET_BYTES - 1)
  if ('constant' in place) {
    const length = readInteger(place.length, 1, DATA_SET_BYTES)
    return { id, offset, length, constant: readHex(place.constant, DATA_SET_BYTES) }
  }
  return {
    id,
    offset,
    ...readForm(place, DATA_SET_BYTES, words),
    masked: readMask(place.masked, readChoice(place.encoding, words.encodings), words),
    ...(place.value && { value: readChoice(place.value, namesOf(RESERVED_FIELDS)) }),
    ...(place.pinForm && { pinForm: readPinForm(place.pinForm, words) }),
  }
}

function readMask(entry: Entry, encoding: FieldEncoding, { format }: Vocabulary): boolean | Mask {
  if (format === 1 || typeof entry.value !== 'object') return readBoolean(entry)
  const { offset, length, fill } = readObject(entry, ['offset', 'length', 'fill'])
  return {
    offset: readInteger(offset, 0, 2 * DATA_SET_BYTES),
    length: readInteger(length, 1, 2 * DATA_SET_BYTES),
    fill: readPad(fill, encoding),
  }
}

type FormEntries = Record<(typeof FORM_MEMBERS)[number], Entry> & { pad?: Entry; part?: Entry }

function readForm(members: FormEntries, max: number, { encodings }: Vocabulary): ValueForm {
  const encoding = readChoice(members.encoding, encodings)
  const { length, align, pad } = readPlace(members, encoding, max)
  return {
    length,
    encoding,
    align,
    ...(pad !== undefined && { pad }),
    ...(members.part && { part: readPart(members.part) }),
  }
}

function readPlace(
  members: { length: Entry; align: Entry; pad?: Entry },
  encoding: FieldEncoding,
  max: number,
): Pick<ValueForm, 'length' | 'align'> & { readonly pad: string | undefined } {
  const length = readInteger(members.length, 1, max)
  const align = readChoice(members.align, ['left', 'right', 'exact'])
  if (align === 'exact') {
    if (members.pad) throw new ProfileError(members.pad.path, 'must be absent where align is exact')
    return { length, align, pad: undefined }
  }
  if (!members.pad) {
    throw new ProfileError(members.align.path.replace(/align$/, 'pad'), 'is missing: align is not exact')
  }
  return { length, align, pad: readPad(members.pad, encoding) }
}

function readPad(entry: Entry, encoding: FieldEncoding): string {
  return encoding === 'bcd'
    ? readString(entry, /^[0-9A-F]$/, 'one upper-case hex digit')
    : readString(entry, /^[0-9A-F]{2}$/, 'two upper-case hex digits')
}

function readPart(entry: Entry): Part {
  const { from, skip, take } = readObject(entry, ['from', 'skip'], ['take'])
  return {
    from: readChoice(from, ['left', 'right']),
    skip: readInteger(skip, 0, MAX_INPUT_BYTES),
    ...(take && { take: readInteger(take, 1, MAX_INPUT_BYTES) }),
  }
}

type ReadInput = (entry: Entry, words: Vocabulary) => ComputationInput

const INPUTS: Readonly<Record<ComputationInput['input'], ReadInput>> = {
  'dataSet.full': readBare,
  'dataSet.masked': readBare,
  pinBlock: (entry, words) => {
    const { pinForm, part } = readObject(entry, ['input'], later(words, ['pinForm', 'part']))
    return {
      input: 'pinBlock',
      ...(pinForm && { pinForm: readPinForm(pinForm, words) }),
      ...(part && { part: readPart(part) }),
    }
  },
  random: readBare,
  field: (entry, words) => {
    const { id, part } = readObject(entry, ['input', 'id'], later(words, ['part']))
    const name = readString(id, ID, 'the id of a field')
    return { input: 'field', id: name, ...(part && { part: readPart(part) }) }
  },
  pan: readFormed,
  pcc: readFormed,
  intdatag: readFormed,
  pinLength: readFormed,
  prwKid: readFormed,
  macKid: readFormed,
  issuerId: readFormed,
  external: (entry, words) => {
    const members = readObject(entry, ['input', 'id', ...FORM_MEMBERS], ['pad', 'part'])
    const id = readString(members.id, ID, 'the id of an external value')
    return { input: 'external', id, ...readForm(members, MAX_INPUT_BYTES, words) }
  },
  prw: (entry, words) => {
    const { form, part } = readObject(entry, ['input', 'form'], later(words, ['part']))
    const forms = ['binary', 'text', ...later(words, ['text-ebcdic'])] as const
    return { input: 'prw', form: readChoice(form, forms), ...(part && { part: readPart(part) }) }
  },
  constant: entry => {
    const { constant } = readObject(entry, ['input', 'constant'])
    return { input: 'constant', constant: readHex(constant, MAX_INPUT_BYTES) }
  },
  enciphered: (entry, words) => {
    const { mode, iv, padding, inputs } = readObject(entry, ['input', 'mode', 'iv', 'padding', 'inputs'])
    return {
      input: 'enciphered',
      mode: readChoice(mode, ['ecb', 'cbc']),
      iv: readIv(iv, words),
      padding: readChoice(padding, [1, 2]),
      inputs: readInputs(inputs, words),
    }
  },
}

/** What format 1 does not have. */
const NEW_INPUTS: readonly ComputationInput['input'][] = [
  'pinLength',
  'prwKid',
  'macKid',
  'issuerId',
  'external',
  'enciphered',
]

/** Members, or choices, of format 2; none of them in format 1. */
function later<T extends string>({ format }: Vocabulary, names: readonly T[]): readonly T[] {
  return format === 2 ? names : []
}

function readBare(entry: Entry, words: Vocabulary): ComputationInput {
  const { input, part } = readObject(entry, ['input'], later(words, ['part']))
  const name = readChoice(input, ['dataSet.full', 'dataSet.masked', 'random'])
  return { input: name, ...(part && { part: readPart(part) }) }
}

function readFormed(entry: Entry, words: Vocabulary): ComputationInput {
  const members = readObject(entry, ['input', ...FORM_MEMBERS], ['pad', ...later(words, ['part'])])
  const input = readChoice(members.input, FORMED_INPUTS)
  return { input, ...readForm(members, MAX_INPUT_BYTES, words) }
}

const FORMED_INPUTS: readonly FormedInput[] = [
  'pan',
  'pcc',
  'intdatag',
  'pinLength',
  'prwKid',
  'macKid',
  'issuerId',
]

function readInput(entry: Entry, words: Vocabulary): ComputationInput {
  const names = namesOf(INPUTS).filter(name => words.format === 2 || !NEW_INPUTS.includes(name))
  return INPUTS[readChoice(peek(entry, 'input'), names)](entry, words)
}

function readInputs(entry: Entry, words: Vocabulary): ComputationInput[] {
  return readArray(entry, { min: 1, max: MAX_INPUTS }).map(part => readInput(part, words))
}

function readComputation(entry: Entry, words: Vocabulary): Computation {
  const members = readObject(
    entry,
    ['algorithm', 'padding', 'iv', 'keyBytes', 'inputs', 'outputBytes', 'text', 'uncovered'],
    later(words, ['derivation', 'digest', 'output'] as const),
  )
  const { min, max } = words.outputBytes
  return {
    algorithm: readChoice(members.algorithm, words.algorithms),
    padding: readChoice(members.padding, [1, 2, 3, 'none']),
    iv:
      words.format === 2 && typeof members.iv.value === 'object'
        ? { inputs: readInputs(readObject(members.iv, ['inputs']).inputs, words) }
        : readIv(members.iv, words),
    keyBytes: readChoice(members.keyBytes, [16, 24, 32]),
    ...(members.derivation && {
      derivation: readArray(members.derivation, { min: 1, max: 4 }).map(step => readDerivation(step, words)),
    }),
    inputs: readInputs(members.inputs, words),
    ...(members.digest && { digest: readChoice(members.digest, DIGESTS) }),
    ...(members.output && { output: readArray(members.output, { min: 1, max: 8 }).map(readOutput) }),
    outputBytes: readInteger(members.outputBytes, min, max),
    text: readChoice(members.text, words.texts),
    uncovered: readArray(members.uncovered, {
      min: 0,
      max: words.format === 1 ? DATA_SET_BYTES + 8 : 255,
    }).map(name => readString(name, ID, 'the name of a value')),
  }
}

const DIGESTS: readonly Digest[] = ['sha-1', 'sha-256']

function readIv(entry: Entry, { format }: Vocabulary): string {
  if (format === 1) return readString(entry, /^(?:[0-9A-F]{16}|none)$/, '16 upper-case hex digits, or none')
  return readString(
    entry,
    /^(?:(?:[0-9A-F]{16}){1,2}|none)$/,
    'one block as 16 or 32 upper-case hex digits, or none',
  )
}

function readDerivation(entry: Entry, words: Vocabulary): DerivationStep {
  const method = readChoice(peek(entry, 'method'), ['encipher', 'xor', 'cmac-counter'])
  if (method === 'xor') {
    const { mask } = readObject(entry, ['method', 'mask'])
    return { method, mask: readHex(mask, 32) }
  }
  if (method === 'cmac-counter') {
    const { counterBytes, inputs } = readObject(entry, ['method', 'counterBytes', 'inputs'])
    return { method, counterBytes: readChoice(counterBytes, [1, 2, 4]), inputs: readInputs(inputs, words) }
  }
  const { inputs, complement, digest } = readObject(entry, ['method', 'inputs', 'complement'], ['digest'])
  return {
    method,
    inputs: readInputs(inputs, words),
    complement: readBoolean(complement),
    ...(digest && { digest: readChoice(digest, DIGESTS) }),
  }
}

function readOutput(entry: Entry): OutputStep {
  const step = readChoice(peek(entry, 'step'), ['slice', 'fold', 'decimalise'])
  if (step === 'fold') {
    readObject(entry, ['step'])
    return { step }
  }
  if (step === 'slice') return { step, part: readPart(readObject(entry, ['step', 'part']).part) }
  const { digits, table } = readObject(entry, ['step', 'digits', 'table'])
  return {
    step,
    digits: readInteger(digits, 3, 32),
    table: readString(table, /^(?:scan|[0-9]{16})$/, 'scan, or 16 decimal digits'),
  }
}

function readHex(entry: Entry, max: number): string {
  const hex = readString(entry, HEX_BYTES, 'an even number of upper-case hex digits')
  if (hex.length > 2 * max) throw new ProfileError(entry.path, `must be at most ${max} bytes`)
  return hex
}
