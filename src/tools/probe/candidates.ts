/**
 * What the prober tries: algorithms, inputs and their order, and the places where known values are in a data set.
 */
import { ownMembers } from '../../base/arguments.js'
import { asciiBytes, concatBytes, copyInto, equalBytes, ownCopy } from '../../base/bytes.js'
import { type Pan, panDigits } from '../../primitives/pan.js'
import { asciiDigits, type Pin } from '../../primitives/pin.js'
import { encodeCharacters, encodeNumber } from '../../seccos/profile/encoding.js'
import { encodePin, PIN_FORM_NAMES, pinFormBytes } from '../../seccos/profile/forms.js'
import {
  type ComputationInput,
  DATA_SET_BYTES,
  type FieldEncoding,
  type PinForm,
  type ValueForm,
} from '../../seccos/profile/profile.js'

/** A sample, its texts read. */
export interface PreparedSample {
  readonly masked: Uint8Array
  readonly pan: Pan
  readonly pin: Pin
  readonly pcc: string
  readonly intdatag: string
  readonly random: Uint8Array | undefined
  readonly prwValue: string
  readonly macValue: string
  /** The PRW's bytes, in the text form that is being tried. */
  readonly prw: Uint8Array
}

/** Where the masked fields are supposed to be. */
export interface Layout {
  readonly pan: { readonly offset: number; readonly form: ValueForm } | undefined
  readonly pin: { readonly offset: number } | undefined
}

/** One for the full data set, which has the PAN. */
interface FullLayout extends Layout {
  readonly pan: NonNullable<Layout['pan']>
}

/** One way to make what is MACed. */
export interface Candidate {
  readonly inputs: readonly ComputationInput[]
  readonly layout: Layout
  readonly pinForm: PinForm | undefined
  /** The message, or undefined where a sample lacks what it takes. */
  readonly message: (sample: PreparedSample) => Uint8Array | undefined
}

/** The forms of a PAN: packed or one byte per digit, exact or in a field for 19 digits. */
const PAN_FORMS: readonly ((digits: number) => ValueForm)[] = [
  digits => ({ length: Math.ceil(digits / 2), encoding: 'bcd', ...(digits % 2 === 0 ? EXACT : left('F')) }),
  () => ({ length: 10, encoding: 'bcd', ...left('F') }),
  () => ({ length: 10, encoding: 'bcd', ...right('0') }),
  digits => ({ length: digits, encoding: 'ascii', ...EXACT }),
  () => ({ length: 19, encoding: 'ascii', ...left('20') }),
  () => ({ length: 19, encoding: 'ascii', ...right('30') }),
  digits => ({ length: digits, encoding: 'ebcdic', ...EXACT }),
  () => ({ length: 19, encoding: 'ebcdic', ...left('40') }),
  () => ({ length: 19, encoding: 'ebcdic', ...right('F0') }),
  () => ({ length: 19, encoding: 'ebcdic', ...right('40') }),
]
const EXACT = { align: 'exact' } as const
const left = (pad: string): Pick<ValueForm, 'align' | 'pad'> => ({ align: 'left', pad })
const right = (pad: string): Pick<ValueForm, 'align' | 'pad'> => ({ align: 'right', pad })

/** Every layout with the PAN, and then the PIN block or not, at either end of a run of zeros. */
export function layoutsFor(
  runs: readonly ZeroRun[],
  panLength: number,
): { layout: FullLayout; pinForm: PinForm | undefined }[] {
  const layouts: { layout: FullLayout; pinForm: PinForm | undefined }[] = []
  for (const make of PAN_FORMS) {
    const form = ownMembers(make(panLength))
    for (const offset of endsOf(runs, form.length)) {
      const pan = { offset, form }
      layouts.push({ layout: { pan, pin: undefined }, pinForm: undefined })
      const rest = runs.flatMap(run => without(run, offset, form.length))
      for (const pinForm of PIN_FORM_NAMES) {
        for (const at of endsOf(rest, pinFormBytes(pinForm))) {
          layouts.push({ layout: { pan, pin: { offset: at } }, pinForm })
        }
      }
    }
  }
  return layouts
}

/** Offsets at which so many bytes are at the start or the end of a run. */
function endsOf(runs: readonly ZeroRun[], length: number): number[] {
  const ends = runs
    .filter(run => run.length >= length)
    .flatMap(run => [run.offset, run.offset + run.length - length])
  return [...new Set(ends)]
}

function without(run: ZeroRun, offset: number, length: number): ZeroRun[] {
  const end = run.offset + run.length
  if (offset + length <= run.offset || offset >= end) return [run]
  return [
    { offset: run.offset, length: offset - run.offset },
    { offset: offset + length, length: end - offset - length },
  ].filter(part => part.length > 0)
}

/** Parts of one message, at most. */
const MAX_PARTS = 3

interface Token {
  readonly input: ComputationInput
  readonly pinForm: PinForm | undefined
  readonly bytes: (sample: PreparedSample) => Uint8Array | undefined
}

const PCC_BCD: ValueForm = ownMembers({ length: 2, encoding: 'bcd', align: 'exact' })
const PCC_ASCII: ValueForm = ownMembers({ length: 4, encoding: 'ascii', align: 'exact' })
const INTDATAG: ValueForm = ownMembers({ length: 20, encoding: 'ascii', align: 'exact' })

function valueTokens(panLength: number): Token[] {
  const pan = (form: ValueForm): Token => ({
    input: ownMembers({ input: 'pan', ...form }),
    pinForm: undefined,
    bytes: s => encodePan(s.pan, form),
  })
  const pcc = (form: ValueForm): Token => ({
    input: ownMembers({ input: 'pcc', ...form }),
    pinForm: undefined,
    bytes: s => encodeCharacters(form, asciiBytes(s.pcc)),
  })
  return [
    ...PAN_FORMS.slice(0, 4).map(make => pan(ownMembers(make(panLength)))),
    pcc(PCC_BCD),
    pcc(PCC_ASCII),
    {
      input: ownMembers({ input: 'intdatag', ...INTDATAG }),
      pinForm: undefined,
      bytes: s => encodeCharacters(INTDATAG, asciiBytes(s.intdatag)),
    },
    bare({ input: 'random' }, s => s.random),
  ]
}

const PIN_TOKENS: readonly Token[] = PIN_FORM_NAMES.map(form => ({
  input: ownMembers({ input: 'pinBlock' }),
  pinForm: form,
  bytes: s => encodePin(form, s),
}))

const PRW_TOKENS: readonly Token[] = [
  bare({ input: 'prw', form: 'binary' }, s => s.prw),
  bare({ input: 'prw', form: 'text' }, s => asciiBytes(s.prwValue)),
]

const MASKED: Token = bare({ input: 'dataSet.masked' }, s => s.masked)
const NO_LAYOUT: Layout = { pan: undefined, pin: undefined }

/** A value that says nothing of a PIN's form. */
function bare(input: ComputationInput, bytes: Token['bytes']): Token {
  return { input: ownMembers(input), pinForm: undefined, bytes }
}

/** The candidates for the PRW: those that cover the PIN, in the data set or beside it. */
export function prwCandidates(runs: readonly ZeroRun[], panLength: number): Candidate[] {
  const values = valueTokens(panLength)
  const found: Candidate[] = []
  for (const { layout, pinForm } of layoutsFor(runs, panLength)) {
    const full = fullToken(layout, pinForm)
    if (layout.pin !== undefined) found.push(candidate([full], layout))
    else
      for (const pin of PIN_TOKENS)
        found.push(...around(full, [pin], values).map(parts => candidate(parts, layout)))
  }
  for (const pin of PIN_TOKENS) {
    found.push(...around(MASKED, [pin], values).map(parts => candidate(parts, NO_LAYOUT)))
    found.push(...orders([pin], values).map(parts => candidate(parts, NO_LAYOUT)))
  }
  return found
}

/** The candidates for the MAC: nothing that takes the PIN. */
export function macCandidates(runs: readonly ZeroRun[], panLength: number): Candidate[] {
  const values = [...PRW_TOKENS, ...valueTokens(panLength)]
  const bases = layoutsFor(runs, panLength).filter(({ layout }) => layout.pin === undefined)
  return [
    ...around(MASKED, [], values).map(parts => candidate(parts, NO_LAYOUT)),
    ...bases.flatMap(({ layout }) =>
      around(fullToken(layout, undefined), [], values).map(parts => candidate(parts, layout)),
    ),
    ...orders([], values).map(parts => candidate(parts, NO_LAYOUT)),
  ]
}

/** The base with the needed tokens and what room there is for further values, in every order. */
function around(base: Token, needed: readonly Token[], values: readonly Token[]): Token[][] {
  return orders([base, ...needed], values)
}

/** Every order of the needed tokens together with others: at most {@link MAX_PARTS} in all, one of a kind. */
function orders(needed: readonly Token[], others: readonly Token[]): Token[][] {
  return choices(needed, others)
    .filter(set => set.length > 0)
    .flatMap(permutations)
}

/** The needed tokens alone, and with each choice of others. */
function choices(chosen: readonly Token[], others: readonly Token[]): Token[][] {
  if (chosen.length >= MAX_PARTS) return [[...chosen]]
  const more = others.flatMap((token, i) => {
    const fits = chosen.every(other => other.input.input !== token.input.input)
    return fits ? choices([...chosen, token], others.slice(i + 1)) : []
  })
  return [[...chosen], ...more]
}

function permutations(tokens: readonly Token[]): Token[][] {
  if (tokens.length < 2) return [[...tokens]]
  return tokens.flatMap((token, i) => permutations(tokens.toSpliced(i, 1)).map(rest => [token, ...rest]))
}

function candidate(tokens: readonly Token[], layout: Layout): Candidate {
  return {
    inputs: tokens.map(({ input }) => input),
    layout,
    pinForm: tokens.find(({ pinForm }) => pinForm !== undefined)?.pinForm,
    message: sample => {
      const parts: Uint8Array[] = []
      for (const token of tokens) {
        const part = token.bytes(sample)
        if (part === undefined) return undefined
        parts.push(part)
      }
      return concatBytes(...parts)
    },
  }
}

/** The full data set of a sample under a layout. */
function fullToken({ pan, pin }: FullLayout, pinForm: PinForm | undefined): Token {
  return {
    input: ownMembers({ input: 'dataSet.full' }),
    pinForm,
    bytes: sample => {
      const full = ownCopy(sample.masked)
      const digits = encodePan(sample.pan, pan.form)
      if (digits === undefined) return undefined
      copyInto(full, digits, pan.offset)
      if (pin !== undefined && pinForm !== undefined) {
        copyInto(full, encodePin(pinForm, sample), pin.offset)
      }
      return full
    },
  }
}

function encodePan(pan: Pan, form: ValueForm): Uint8Array | undefined {
  return encodeCharacters(form, asciiDigits(panDigits(pan)))
}

/* Where known values are in data sets of which nothing else is known: same offset, same form, in every sample. */

/** A value that was looked for, and a place where it is in all samples. */
export interface Place {
  /** `pcc`, `intdatag`, `random`, or the name the samples give it. */
  readonly id: string
  readonly offset: number
  readonly length: number
  readonly encoding: FieldEncoding
  /** True: the value differs between samples, so this is hardly chance. */
  readonly certain: boolean
}

/** A run of bytes that are zero in all samples: where masked fields may be. */
export interface ZeroRun {
  readonly offset: number
  readonly length: number
}

/** One value in all samples, as text or bytes. */
export interface Sought {
  readonly id: string
  readonly values: readonly (string | Uint8Array)[]
}

const ENCODINGS: readonly FieldEncoding[] = ['bcd', 'ascii', 'ebcdic', 'binary']
/** Lengths at which a number is looked for in binary. */
const NUMBER_BYTES: readonly number[] = [4, 3, 2]

/** All places of the values, the certain ones first, in the order of the values and of the data set. */
export function findPlaces(dataSets: readonly Uint8Array[], sought: readonly Sought[]): Place[] {
  const places = sought.flatMap(({ id, values }) => {
    const certain = new Set(values.map(String)).size > 1
    return ENCODINGS.flatMap(encoding =>
      formsOf(values, encoding).flatMap(needles =>
        offsetsOf(dataSets, needles).map(offset => {
          return { id, offset, length: needles.length, encoding, certain }
        }),
      ),
    )
  })
  return [...places.filter(({ certain }) => certain), ...places.filter(({ certain }) => !certain)]
}

/** What to look for: bytes of one length, one per sample. */
interface Needles {
  readonly length: number
  readonly bytes: readonly Uint8Array[]
}

/** The bytes to look for in each way the encoding can hold the values. */
function formsOf(values: readonly (string | Uint8Array)[], encoding: FieldEncoding): Needles[] {
  const ways: ((value: string | Uint8Array) => Uint8Array | undefined)[] = []
  if (encoding !== 'binary') {
    ways.push(value => (typeof value === 'string' ? encodeText(value, encoding) : undefined))
  } else {
    ways.push(value => (typeof value === 'string' ? undefined : value))
    for (const length of NUMBER_BYTES) {
      ways.push(value =>
        typeof value === 'string' && /^[0-9]{3,9}$/.test(value)
          ? encodeNumber({ length, encoding: 'binary' }, Number(value))
          : undefined,
      )
    }
  }
  return ways.flatMap(way => needlesOf(values.map(way)))
}

/** Of values that are all there, of one length, and more than zeros: zeros are everywhere. */
function needlesOf(values: readonly (Uint8Array | undefined)[]): Needles[] {
  const bytes = values.filter(value => value !== undefined)
  const [length = 0, ...others] = new Set(bytes.map(value => value.length))
  const blank = bytes.every(value => value.every(byte => byte === 0))
  return bytes.length === values.length && others.length === 0 && !blank ? [{ length, bytes }] : []
}

function encodeText(text: string, encoding: FieldEncoding): Uint8Array | undefined {
  const length = encoding === 'bcd' ? Math.ceil(text.length / 2) : text.length
  const form = { length, encoding, align: 'right', pad: encoding === 'bcd' ? '0' : '00' } as const
  return encodeCharacters(form, asciiBytes(text))
}

function offsetsOf(dataSets: readonly Uint8Array[], { length, bytes }: Needles): number[] {
  const found: number[] = []
  for (let offset = 0; offset + length <= DATA_SET_BYTES; offset++) {
    const here = dataSets.every((dataSet, i) => {
      const needle = bytes[i]
      return needle !== undefined && equalBytes(dataSet.subarray(offset, offset + length), needle)
    })
    if (here) found.push(offset)
  }
  return found
}

/** The longest runs that are zero in every sample and hold no certain place. */
export function zeroRuns(dataSets: readonly Uint8Array[], places: readonly Place[]): ZeroRun[] {
  const taken = (at: number): boolean =>
    places.some(({ offset, length, certain }) => certain && at >= offset && at < offset + length)
  const runs: ZeroRun[] = []
  let length = 0
  for (let at = 0; at <= DATA_SET_BYTES; at++) {
    const zero = at < DATA_SET_BYTES && !taken(at) && dataSets.every(dataSet => dataSet[at] === 0)
    if (zero) length++
    else {
      if (length > 0) runs.push({ offset: at - length, length })
      length = 0
    }
  }
  return runs
}
