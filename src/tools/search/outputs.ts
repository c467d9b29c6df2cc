/** How a PRW or MAC may have come out of what an algorithm gives: which text, which bytes, folded or decimalised. */
import { equalBytes } from '../../base/bytes.js'
import { InputError, requireOurs } from '../../base/errors.js'
import { resultOf } from '../../seccos/computation.js'
import { readText, TEXT_FORM_NAMES, textLength } from '../../seccos/profile/forms.js'
import {
  ALGORITHMS,
  type Computation,
  type OutputStep,
  type ProfileAlgorithm,
  type TextForm,
} from '../../seccos/profile/profile.js'

/** One way from the algorithm's bytes to the text of the first sample. */
export interface Output {
  readonly as: Pick<Computation, 'output' | 'outputBytes' | 'text'>
  /** How many bytes the algorithm gives for it; undefined: the last block of them, however many. */
  readonly whole: number | undefined
  /** Whether the algorithm's bytes, in these from `at` on, give the text of the first sample. */
  readonly fits: (bytes: Uint8Array, at: number) => boolean
}

/** Lengths of what algorithms give that are no encipherments: a block, and HMAC's hash. */
const WHOLE: readonly number[] = [8, 16, 32]
const TABLES = ['0123456789012345', 'scan', '0123456789123456'] as const

/** The ways for these texts, likeliest first. `ERR_ENCODING` where the texts are in no form that is known. */
export function outputsFor(name: string, texts: readonly string[]): OutputsOf {
  const forms = TEXT_FORM_NAMES.flatMap(text => {
    const bytes = lengthIn(text, texts)
    const [first] = texts
    if (bytes === undefined || first === undefined) return []
    return [{ text, expected: readText(text, bytes, first, name) }]
  })
  if (forms.length === 0) {
    throw new InputError(
      'ERR_ENCODING',
      `${name} is not 3 to 32 bytes in a text form that is known, in all samples`,
    )
  }
  const macs = forms.flatMap(({ text, expected }) =>
    text === 'digits' ? decimal(expected) : sliced(text, expected),
  )
  return algorithm => {
    const { port, blockBytes } = ALGORITHMS[algorithm]
    if (port !== 'encipher-ecb' && port !== 'encipher-cbc') return macs
    return forms
      .filter(({ text }) => text !== 'digits')
      .flatMap(({ text, expected }) => enciphered(text, expected, port === 'encipher-cbc' ? blockBytes : 0))
  }
}

/** The outputs that an algorithm may have. */
export type OutputsOf = (algorithm: ProfileAlgorithm) => readonly Output[]

/** How many bytes the texts are in this form, where all of them are. */
function lengthIn(text: TextForm, texts: readonly string[]): number | undefined {
  for (let bytes = 3; bytes <= 32; bytes++) {
    const all = texts.every(value => {
      if (value.length !== textLength(text, bytes)) return false
      try {
        readText(text, bytes, value, 'a value')
        return true
      } catch (error) {
        requireOurs(error)
        return false
      }
    })
    if (all) return bytes
  }
  return undefined
}

/** A comparison in place, which is what most candidates fail at. */
function sameAt(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  return bytes[at] === expected[0] && equalBytes(bytes.subarray(at, at + expected.length), expected)
}

/** Of an encipherment, all of it; of CBC, with `block` bytes, also the last block. */
function enciphered(text: TextForm, expected: Uint8Array, block: number): Output[] {
  const { length } = expected
  const as = { outputBytes: length, text }
  const all: Output = { as, whole: length, fits: (bytes, at) => sameAt(bytes, at, expected) }
  if (length !== block) return [all]
  const part = { from: 'right', skip: 0, take: block } as const
  const last: Output = {
    as: { output: [{ step: 'slice', part }], ...as },
    whole: undefined,
    fits: (bytes, at) => sameAt(bytes, at, expected),
  }
  return [all, last]
}

function sliced(text: TextForm, expected: Uint8Array): Output[] {
  const { length } = expected
  return WHOLE.filter(whole => whole >= length).flatMap(whole => [
    slice(text, expected, whole, 0, undefined),
    ...Array.from({ length: whole - length }, (_, i) => i + 1).map(skip => {
      const part =
        skip === whole - length
          ? ({ from: 'right', skip: 0, take: length } as const)
          : ({ from: 'left', skip, take: length } as const)
      return slice(text, expected, whole, skip, [{ step: 'slice', part }])
    }),
    ...(whole / 2 >= length && length >= 4
      ? [
          stepped(
            { output: foldTo(length, whole), outputBytes: length, text },
            expected,
            whole,
            (one, other) => (one ^ other) === expected[0],
          ),
        ]
      : []),
  ])
}

function foldTo(length: number, whole: number): OutputStep[] {
  const fold: OutputStep = { step: 'fold' }
  return whole / 2 === length
    ? [fold]
    : [fold, { step: 'slice', part: { from: 'left', skip: 0, take: length } }]
}

function slice(
  text: TextForm,
  expected: Uint8Array,
  whole: number,
  skip: number,
  output: readonly OutputStep[] | undefined,
): Output {
  return {
    as: { ...(output !== undefined && { output }), outputBytes: expected.length, text },
    whole,
    fits: (bytes, at) => sameAt(bytes, at + skip, expected),
  }
}

/** By the output steps; `may` looks at the first byte and the one in the middle, and lets few pass. */
function stepped(
  as: Output['as'],
  expected: Uint8Array,
  whole: number,
  may: (one: number, other: number) => boolean,
): Output {
  const computation = {
    ...as,
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    inputs: [],
    uncovered: [],
  } as const
  return {
    as,
    whole,
    fits: (bytes, at) =>
      may(bytes[at] as number, bytes[at + whole / 2] as number) &&
      equalBytes(resultOf(computation, bytes.subarray(at, at + whole)), expected),
  }
}

function decimal(expected: Uint8Array): Output[] {
  const digits = expected.length
  return TABLES.flatMap(table => {
    // A scan passes over what is no decimal digit: then the first nibble says nothing.
    const may = (nibble: number): boolean =>
      table === 'scan'
        ? nibble > 9 || nibble + 0x30 === expected[0]
        : table.charCodeAt(nibble) === expected[0]
    const as = (...before: OutputStep[]): Output['as'] => ({
      output: [...before, { step: 'decimalise', digits, table }],
      outputBytes: digits,
      text: 'digits',
    })
    return WHOLE.flatMap(whole => [
      ...(digits <= 2 * whole ? [stepped(as(), expected, whole, one => may(one >> 4))] : []),
      ...(digits <= whole
        ? [stepped(as({ step: 'fold' }), expected, whole, (one, other) => may((one ^ other) >> 4))]
        : []),
    ])
  })
}
