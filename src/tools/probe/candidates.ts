/**
 * What the prober tries: layouts (where PAN and PIN stood before they were masked), and sequences of inputs. Tables
 * and their combinations; a computation that is not among them is not found.
 */
import { asciiBytes, concatBytes, ownCopy } from '../../base/bytes.js'
import { type Pan, panDigits } from '../../primitives/pan.js'
import { asciiDigits, type Pin } from '../../primitives/pin.js'
import { encodeCharacters } from '../../seccos/profile/encoding.js'
import { encodePin, PIN_FORM_NAMES, pinFormBytes } from '../../seccos/profile/forms.js'
import type { ComputationInput, PinForm, ValueForm } from '../../seccos/profile/profile.js'
import type { ZeroRun } from './places.js'

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

/** Where the masked fields are supposed to stand. */
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
): { layout: FullLayout; pinForm?: PinForm }[] {
  const layouts: { layout: FullLayout; pinForm?: PinForm }[] = []
  for (const make of PAN_FORMS) {
    const form = make(panLength)
    for (const offset of endsOf(runs, form.length)) {
      const pan = { offset, form }
      layouts.push({ layout: { pan, pin: undefined } })
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

/** Offsets at which so many bytes stand at the start or the end of a run. */
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
  readonly pinForm?: PinForm
  readonly bytes: (sample: PreparedSample) => Uint8Array | undefined
}

const PCC_BCD: ValueForm = { length: 2, encoding: 'bcd', align: 'exact' }
const PCC_ASCII: ValueForm = { length: 4, encoding: 'ascii', align: 'exact' }
const INTDATAG: ValueForm = { length: 20, encoding: 'ascii', align: 'exact' }

function valueTokens(panLength: number): Token[] {
  const pan = (form: ValueForm): Token => ({
    input: { input: 'pan', ...form },
    bytes: s => encodePan(s.pan, form),
  })
  const pcc = (form: ValueForm): Token => ({
    input: { input: 'pcc', ...form },
    bytes: s => encodeCharacters(form, asciiBytes(s.pcc)),
  })
  return [
    ...PAN_FORMS.slice(0, 4).map(make => pan(make(panLength))),
    pcc(PCC_BCD),
    pcc(PCC_ASCII),
    {
      input: { input: 'intdatag', ...INTDATAG },
      bytes: s => encodeCharacters(INTDATAG, asciiBytes(s.intdatag)),
    },
    { input: { input: 'random' }, bytes: s => s.random },
  ]
}

const PIN_TOKENS: readonly Token[] = PIN_FORM_NAMES.map(form => ({
  input: { input: 'pinBlock' },
  pinForm: form,
  bytes: s => encodePin(form, s),
}))

const PRW_TOKENS: readonly Token[] = [
  { input: { input: 'prw', form: 'binary' }, bytes: s => s.prw },
  { input: { input: 'prw', form: 'text' }, bytes: s => asciiBytes(s.prwValue) },
]

const MASKED: Token = { input: { input: 'dataSet.masked' }, bytes: s => s.masked }
const NO_LAYOUT: Layout = { pan: undefined, pin: undefined }

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
    input: { input: 'dataSet.full' },
    ...(pinForm !== undefined && { pinForm }),
    bytes: sample => {
      const full = ownCopy(sample.masked)
      const digits = encodePan(sample.pan, pan.form)
      if (digits === undefined) return undefined
      full.set(digits, pan.offset)
      if (pin !== undefined && pinForm !== undefined) {
        full.set(encodePin(pinForm, sample), pin.offset)
      }
      return full
    },
  }
}

function encodePan(pan: Pan, form: ValueForm): Uint8Array | undefined {
  return encodeCharacters(form, asciiDigits(panDigits(pan)))
}
