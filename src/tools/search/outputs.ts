/** How a PRW or MAC may have come out of what an algorithm gives: which text, which bytes, folded or decimalised. */
import { equalBytes } from '../../base/bytes.js'
import { InputError, isIssuerPinError } from '../../base/errors.js'
import { resultOf } from '../../seccos/computation.js'
import { readText, TEXT_FORM_NAMES, textLength } from '../../seccos/profile/forms.js'
import type { Computation, OutputStep, TextForm } from '../../seccos/profile/profile.js'

/** One way from the algorithm's bytes to the text of the first sample. */
export interface Output {
  readonly as: Pick<Computation, 'output' | 'outputBytes' | 'text'>
  /** Whether these bytes give the text of the first sample. */
  readonly fits: (whole: Uint8Array) => boolean
}

/** Lengths of what algorithms give: a block, HMAC's hash, and encipherments of up to 32 bytes. */
const WHOLE: readonly number[] = [8, 16, 24, 32]
const TABLES = ['0123456789012345', 'scan', '0123456789123456'] as const

/** The ways for these texts, likeliest first. `ERR_ENCODING` where the texts are in no form that is known. */
export function outputsFor(name: string, texts: readonly string[]): readonly Output[] {
  const outputs = TEXT_FORM_NAMES.flatMap(text => {
    const bytes = lengthIn(text, texts)
    const [first] = texts
    if (bytes === undefined || first === undefined) return []
    const expected = readText(text, bytes, first, name)
    return text === 'digits' ? decimal(expected) : sliced(text, expected)
  })
  if (outputs.length > 0) return outputs
  throw new InputError(
    'ERR_ENCODING',
    `${name} is not 3 to 32 bytes in a text form that is known, in all samples`,
  )
}

/** How many bytes the texts are in this form, where all of them are. */
function lengthIn(text: TextForm, texts: readonly string[]): number | undefined {
  for (let bytes = 3; bytes <= 32; bytes++) {
    const all = texts.every(value => {
      if (value.length !== textLength(text, bytes)) return false
      try {
        readText(text, bytes, value, 'a value')
        return true
      } catch (error) {
        if (!isIssuerPinError(error)) throw error
        return false
      }
    })
    if (all) return bytes
  }
  return undefined
}

function way(
  text: TextForm,
  expected: Uint8Array,
  output: readonly OutputStep[] | undefined,
  from: number,
): Output {
  const as = { ...(output !== undefined && { output }), outputBytes: expected.length, text }
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
    fits: whole => whole.length === from && equalBytes(resultOf(computation, whole), expected),
  }
}

function sliced(text: TextForm, expected: Uint8Array): Output[] {
  const { length } = expected
  return WHOLE.filter(whole => whole >= length).flatMap(whole => [
    leftmost(text, expected, whole),
    ...Array.from({ length: whole - length }, (_, i) => i + 1).map(skip => {
      const part =
        skip === whole - length
          ? ({ from: 'right', skip: 0, take: length } as const)
          : ({ from: 'left', skip, take: length } as const)
      return at(text, expected, whole, skip, [{ step: 'slice', part }])
    }),
    ...(whole >= 8 && whole / 2 >= length && length >= 4
      ? [way(text, expected, foldTo(length, whole), whole)]
      : []),
  ])
}

function foldTo(length: number, whole: number): OutputStep[] {
  const fold: OutputStep = { step: 'fold' }
  return whole / 2 === length
    ? [fold]
    : [fold, { step: 'slice', part: { from: 'left', skip: 0, take: length } }]
}

function leftmost(text: TextForm, expected: Uint8Array, whole: number): Output {
  return at(text, expected, whole, 0, undefined)
}

/** A comparison in place, which is what most candidates fail at. */
function at(
  text: TextForm,
  expected: Uint8Array,
  from: number,
  skip: number,
  output: readonly OutputStep[] | undefined,
): Output {
  return {
    as: { ...(output !== undefined && { output }), outputBytes: expected.length, text },
    fits: whole =>
      whole.length === from &&
      whole[skip] === expected[0] &&
      equalBytes(whole.subarray(skip, skip + expected.length), expected),
  }
}

function decimal(expected: Uint8Array): Output[] {
  const digits = expected.length
  return TABLES.flatMap(table =>
    WHOLE.flatMap(whole => [
      ...(digits <= 2 * whole
        ? [way('digits', expected, [{ step: 'decimalise', digits, table }], whole)]
        : []),
      ...(digits <= whole
        ? [way('digits', expected, [{ step: 'fold' }, { step: 'decimalise', digits, table }], whole)]
        : []),
    ]),
  )
}
