/**
 * The part of a SECCOS profile that the simulator can compute by itself: what the two illustrative profiles use.
 * Anything beyond is refused, by name, when the profile is read; nothing is guessed.
 */
import { ConfigError } from './problems.js'
import {
  type Entry,
  readBoolean,
  readChoice,
  readInteger,
  readList,
  readMembers,
  readText,
  type TextRule,
} from './reader.js'

export type Encoding = 'bcd' | 'ascii' | 'ebcdic' | 'binary'

/** A value's place. */
export interface Form {
  readonly length: number
  readonly encoding: Encoding
  readonly align: 'left' | 'right' | 'exact'
  /** Hex digits; empty where `align` is `exact`. */
  readonly pad: string
}

export type Field = { readonly id: string } & (
  | { readonly constant: Buffer }
  | (Form & { readonly constant?: undefined; readonly masked: boolean })
)

export type Input =
  | { readonly input: 'dataSet.full' }
  | { readonly input: 'dataSet.masked' }
  | { readonly input: 'pinBlock' }
  | { readonly input: 'prw'; readonly form: 'binary' | 'text' }
  | { readonly input: 'intdatag'; readonly place: Form }

export interface Computation {
  readonly algorithm: 'iso9797-1-alg3' | 'cmac-aes'
  readonly inputs: readonly Input[]
  readonly outputBytes: number
}

export interface Profile {
  readonly pinBlock: 'iso9564-format-0' | 'digits-bcd'
  readonly randomBytes: number
  readonly fields: readonly Field[]
  readonly prw: Computation
  readonly mac: Computation
}

const DATA_SET_BYTES = 123
const ID: TextRule = { test: /^[a-z][A-Za-z0-9]{0,31}$/, shape: 'an id' }
const HEX: TextRule = { test: /^(?:[0-9A-F]{2})+$/, shape: 'bytes in upper-case hex' }
const PAD: TextRule = { test: /^[0-9A-F]{1,2}$/, shape: 'one or two upper-case hex digits' }
/** What each algorithm must come with here. */
const FIXED = {
  'iso9797-1-alg3': { padding: 2, iv: '0000000000000000', bytes: 8 },
  'cmac-aes': { padding: 'none', iv: 'none', bytes: 16 },
} as const

/** Reads a profile. Errors: `ERR_CONFIG`, naming the entry that is unfit or beyond what is computed here. */
export function readProfile(value: unknown): Profile {
  const root = readMembers(
    { value, path: '' },
    ['profileFormat', 'name', 'version', 'provenance', 'pinBlock', 'randomBytes', 'fields', 'prw', 'mac'],
    ['$schema', 'description'],
  )
  readChoice(root.profileFormat, [1])
  const fields = readList(root.fields)
  let offset = 0
  return {
    pinBlock: readChoice(root.pinBlock, ['iso9564-format-0', 'digits-bcd']),
    randomBytes: readInteger(root.randomBytes, 0, 32),
    fields: fields.map((entry, i) => {
      const { field, length } = readField(entry, offset)
      offset += length
      if (i === fields.length - 1 && offset !== DATA_SET_BYTES) {
        throw new ConfigError(`/fields must end with byte ${DATA_SET_BYTES - 1}`)
      }
      return field
    }),
    prw: readComputation(root.prw),
    mac: readComputation(root.mac),
  }
}

function readField(entry: Entry, expected: number): { readonly field: Field; readonly length: number } {
  const isConstant = typeof entry.value === 'object' && entry.value !== null && 'constant' in entry.value
  if (isConstant) {
    const members = readMembers(entry, ['id', 'offset', 'length', 'constant'])
    const constant = Buffer.from(readText(members.constant, HEX), 'hex')
    readInteger(members.offset, expected, expected)
    readInteger(members.length, constant.length, constant.length)
    return { field: { id: readText(members.id, ID), constant }, length: constant.length }
  }
  const { id, offset, masked, ...form } = readMembers(
    entry,
    ['id', 'offset', 'length', 'encoding', 'align', 'masked'],
    ['pad'],
  )
  readInteger(offset, expected, expected)
  const field = { id: readText(id, ID), ...readForm(form), masked: readBoolean(masked) }
  return { field, length: field.length }
}

function readForm(members: {
  readonly length: Entry
  readonly encoding: Entry
  readonly align: Entry
  readonly pad?: Entry
}): Form {
  return {
    length: readInteger(members.length, 1, DATA_SET_BYTES),
    encoding: readChoice(members.encoding, ['bcd', 'ascii', 'ebcdic', 'binary']),
    align: readChoice(members.align, ['left', 'right', 'exact']),
    pad: members.pad === undefined ? '' : readText(members.pad, PAD),
  }
}

function readComputation(entry: Entry): Computation {
  const members = readMembers(entry, [
    'algorithm',
    'padding',
    'iv',
    'keyBytes',
    'inputs',
    'outputBytes',
    'text',
    'uncovered',
  ])
  const algorithm = readChoice(members.algorithm, ['iso9797-1-alg3', 'cmac-aes'])
  const { padding, iv, bytes } = FIXED[algorithm]
  readChoice(members.padding, [padding])
  readChoice(members.iv, [iv])
  readChoice(members.keyBytes, [16])
  readChoice(members.text, ['hex-upper'])
  return {
    algorithm,
    inputs: readList(members.inputs).map(readInput),
    outputBytes: readInteger(members.outputBytes, 4, bytes),
  }
}

function readInput(entry: Entry): Input {
  const { input } = readMembers(entry, ['input'], ['form', 'length', 'encoding', 'align', 'pad'])
  const name = readChoice(input, ['dataSet.full', 'dataSet.masked', 'pinBlock', 'prw', 'intdatag'])
  if (name === 'prw') {
    return { input: name, form: readChoice(readMembers(entry, ['input', 'form']).form, ['binary', 'text']) }
  }
  if (name === 'intdatag') {
    const { input: _, ...form } = readMembers(entry, ['input', 'length', 'encoding', 'align'], ['pad'])
    return { input: name, place: readForm(form) }
  }
  readMembers(entry, ['input'])
  return { input: name }
}
