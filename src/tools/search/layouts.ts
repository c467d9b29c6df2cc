/**
 * Layouts out of samples of which no field table is known: each value where it is found in every data set, and the rest as bytes of
 * no meaning. What a data set hides is zero there: so the PAN, the PIN, or both may be at any place in a run of zero bytes, whatever
 * zero bytes there are on both sides. Such layouts are only supposed: they make a difference to the data set in full.
 */
import { ownMembers } from '../../base/arguments.js'
import { ArgumentError, DataSetError } from '../../base/errors.js'
import { dataSetFromHex } from '../../seccos/data-set.js'
import { withUncovered } from '../../seccos/profile/coverage.js'
import { pinFormBytes } from '../../seccos/profile/forms.js'
import { parseProfile } from '../../seccos/profile/parse.js'
import {
  DATA_SET_BYTES,
  type ExternalValue,
  type PinForm,
  type ProfileField,
  type SeccosProfile,
  type ValueForm,
} from '../../seccos/profile/profile.js'
import type { ProfileSample } from '../check-profile.js'
import { findPlaces, type Sought, type ZeroRun, zeroRuns } from '../probe/candidates.js'

/** What is known of the data set and of the values around it. */
export interface KnownLayout {
  /** The field table, all 123 bytes of it. */
  readonly fields?: readonly ProfileField[]
  /** Fields whose places are known, where the table is not. */
  readonly places?: readonly ProfileField[]
  /** Of the random number of the PRW; as long as that of the samples where absent. */
  readonly randomBytes?: number
  readonly external?: readonly ExternalValue[]
  /** The PIN's form where a field or a known input leaves it open; `digits-bcd` where absent. */
  readonly pinBlock?: PinForm
}

/**
 * The layouts to search with, as profiles of which only the fields count: the one that is told, or the one that the samples show and
 * after it those that are supposed. Errors: `ERR_ARGUMENT`, `ERR_DATA_SET`, `ERR_PROFILE`.
 */
export function layoutsOf(
  known: KnownLayout,
  samples: readonly ProfileSample[],
): readonly [SeccosProfile, ...SeccosProfile[]] {
  const { fields, places = [], pinBlock = 'digits-bcd' } = known
  const { randomBytes = samples[0]?.random?.length ?? 0 } = known
  const layout = (table: readonly ProfileField[], external: readonly ExternalValue[]): SeccosProfile =>
    layoutOf({ fields: table, randomBytes, external, pinBlock })
  if (fields !== undefined) {
    if (places.length > 0) throw new ArgumentError('places are for where the fields are not known')
    return [layout(fields, known.external ?? [])]
  }
  const dataSets = samples.map(({ prwDataSet }) => dataSetFromHex(prwDataSet))
  const found = foundFields(dataSets, samples, places, randomBytes)
  const external = [...(known.external ?? []), ...strays(samples, found, known.external ?? [])]
  const runs = freeRuns(dataSets, found)
  const hides = (id: string): boolean => found.some(field => field.id === id)
  const supposed = [
    ...(hides('pan') ? [] : panPlaces(runs, samples).map(pan => [pan])),
    ...(hides('pinBlock') ? [] : pinPlaces(runs).map(pin => [pin])),
    ...(hides('pan') || hides('pinBlock') ? [] : bothPlaces(runs, samples)),
  ]
  const tile = (hidden: readonly ProfileField[]): SeccosProfile =>
    layout(tiled([...found, ...hidden], dataSets), external)
  return [tile([]), ...supposed.map(tile)]
}

function layoutOf({
  external,
  ...rest
}: Pick<SeccosProfile, 'fields' | 'randomBytes' | 'pinBlock'> & {
  readonly external: readonly ExternalValue[]
}): SeccosProfile {
  const cmac = {
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    text: 'hex-upper',
  } as const
  return parseProfile(
    withUncovered({
      profileFormat: 2,
      name: 'search',
      version: '0.0.0',
      provenance: 'illustrative',
      ...rest,
      ...(external.length > 0 && { external }),
      prw: { ...cmac, inputs: [{ input: 'pinBlock' }], outputBytes: 16, uncovered: [] },
      mac: { ...cmac, inputs: [{ input: 'prw', form: 'binary' }], outputBytes: 8, uncovered: [] },
    }),
  )
}

/** The fields whose places are told, and each value of the samples at the first place where it is in all of them. */
function foundFields(
  dataSets: readonly Uint8Array[],
  samples: readonly ProfileSample[],
  told: readonly ProfileField[],
  randomBytes: number,
): readonly ProfileField[] {
  const fields = [...told]
  for (const { id, offset, length, encoding, certain } of findPlaces(dataSets, soughtIn(samples))) {
    const free = fields.every(one => offset + length <= one.offset || offset >= one.offset + one.length)
    const usable = certain && !(id === 'random' && length !== randomBytes)
    if (!free || !usable || fields.some(one => one.id === id)) continue
    fields.push({ id, offset, length, encoding, align: 'exact', masked: false })
  }
  return fields
}

function soughtIn(samples: readonly ProfileSample[]): Sought[] {
  const own = new Set(samples.flatMap(({ fields }) => Object.keys(fields ?? {})))
  const all = [
    { id: 'intdatag', values: samples.map(({ intdatag }) => intdatag) },
    { id: 'random', values: samples.map(({ random }) => random) },
    { id: 'pcc', values: samples.map(({ pcc }) => pcc) },
    ...[...own].map(id => ({ id, values: samples.map(sample => ownValue(sample, id)) })),
  ]
  return all.flatMap(({ id, values }) => {
    const there = values.filter(value => value !== undefined)
    return there.length === values.length ? [{ id, values: there }] : []
  })
}

function ownValue({ fields = {} }: ProfileSample, id: string): string | Uint8Array | undefined {
  return Object.hasOwn(fields, id) ? fields[id] : undefined
}

/** Values of the samples that no data set shows: they come from outside. */
function strays(
  samples: readonly ProfileSample[],
  found: readonly ProfileField[],
  told: readonly ExternalValue[],
): ExternalValue[] {
  const placed = new Set([...found, ...told].map(({ id }) => id))
  const [first] = samples
  return Object.entries(first?.fields ?? {})
    .filter(([id]) => !placed.has(id))
    .map(([id, value]) => ({ id, kind: typeof value === 'string' ? 'text' : 'bytes' }))
}

/** Runs of bytes that are zero in all samples and in no field. */
function freeRuns(dataSets: readonly Uint8Array[], fields: readonly ProfileField[]): readonly ZeroRun[] {
  const taken = fields.map(({ id, offset, length }) => {
    return { id, offset, length, encoding: 'binary', certain: true } as const
  })
  return zeroRuns(dataSets, taken)
}

const left = (pad: string) => ({ align: 'left', pad }) as const
const right = (pad: string) => ({ align: 'right', pad }) as const

/** The forms in which a data set may hold a PAN. */
function panForms(samples: readonly ProfileSample[]): readonly ValueForm[] {
  const [digits = 0, ...others] = new Set(samples.map(({ pan }) => pan.length))
  const even = others.length === 0 && digits % 2 === 0
  return ownMembers([
    ...(even ? [{ length: digits / 2, encoding: 'bcd', align: 'exact' } as const] : []),
    { length: 10, encoding: 'bcd', ...left('F') },
    { length: 10, encoding: 'bcd', ...right('0') },
    { length: 6, encoding: 'bcd', ...right('0'), part: { from: 'right', skip: 1, take: 12 } },
    { length: 19, encoding: 'ascii', ...left('20') },
    { length: 19, encoding: 'ascii', ...right('30') },
    { length: 19, encoding: 'ebcdic', ...left('40') },
    { length: 19, encoding: 'ebcdic', ...right('F0') },
    { length: 19, encoding: 'ebcdic', ...right('40') },
  ])
}

/** The forms in which a data set may hold a PIN. */
const PIN_FORMS: readonly PinForm[] = ownMembers([
  'iso9564-format-0',
  'iso9564-format-2',
  'digits-bcd',
  'digits-ascii',
  { iso9564: 3, filler: 'A' },
  { digits: 'bcd', length: 6, align: 'left', pad: 'F' },
  { digits: 'ebcdic', length: 12, align: 'left', pad: '40' },
])

function panField(form: ValueForm, offset: number): ProfileField {
  // Part of a PAN is no PAN, and has a name of its own.
  const name = form.part === undefined ? { id: 'pan' } : ({ id: 'panPart', value: 'pan' } as const)
  return { ...name, offset, ...form, masked: true }
}

function pinField(pinForm: PinForm, offset: number): ProfileField {
  const form = { length: pinFormBytes(pinForm), encoding: 'binary', align: 'exact' } as const
  return { id: 'pinBlock', offset, ...form, masked: true, pinForm }
}

/** Every offset in a run at which so many bytes fit. */
function offsetsIn(runs: readonly ZeroRun[], length: number): readonly number[] {
  return runs.flatMap(run =>
    Array.from({ length: Math.max(0, run.length - length + 1) }, (_, i) => run.offset + i),
  )
}

/** The first and the last of them. */
function endsOf(runs: readonly ZeroRun[], length: number): readonly number[] {
  return runs
    .filter(run => run.length >= length)
    .flatMap(run => [...new Set([run.offset, run.offset + run.length - length])])
}

function panPlaces(runs: readonly ZeroRun[], samples: readonly ProfileSample[]): ProfileField[] {
  return panForms(samples).flatMap(form => offsetsIn(runs, form.length).map(offset => panField(form, offset)))
}

function pinPlaces(runs: readonly ZeroRun[]): ProfileField[] {
  return PIN_FORMS.flatMap(form => offsetsIn(runs, pinFormBytes(form)).map(offset => pinField(form, offset)))
}

/** Both: the PAN at an end of a run, the PIN beside it or at an end of what is left. */
function bothPlaces(runs: readonly ZeroRun[], samples: readonly ProfileSample[]): ProfileField[][] {
  return panForms(samples).flatMap(form =>
    endsOf(runs, form.length).flatMap(offset => {
      const rest = runs.flatMap(run => without(run, offset, form.length))
      return PIN_FORMS.flatMap(pinForm =>
        endsOf(rest, pinFormBytes(pinForm)).map(at => [panField(form, offset), pinField(pinForm, at)]),
      )
    }),
  )
}

function without(run: ZeroRun, offset: number, length: number): ZeroRun[] {
  const end = run.offset + run.length
  if (offset + length <= run.offset || offset >= end) return [run]
  return [
    { offset: run.offset, length: offset - run.offset },
    { offset: offset + length, length: end - offset - length },
  ].filter(part => part.length > 0)
}

/** The table with its gaps filled: by constants where all samples have zero bytes, else by bytes of no meaning. */
function tiled(known: readonly ProfileField[], dataSets: readonly Uint8Array[]): ProfileField[] {
  const fields: ProfileField[] = []
  let next = 0
  const zeroAt = (at: number): boolean => dataSets.every(dataSet => dataSet[at] === 0)
  const fillTo = (end: number): void => {
    while (next < end) {
      const zero = zeroAt(next)
      let to = next + 1
      while (to < end && zeroAt(to) === zero) to++
      const place = { offset: next, length: to - next }
      fields.push(
        zero
          ? { id: `zeros${next}`, ...place, constant: '00'.repeat(place.length) }
          : { id: `unknown${next}`, ...place, encoding: 'binary', align: 'exact', masked: false },
      )
      next = to
    }
  }
  for (const field of [...known].sort((a, b) => a.offset - b.offset)) {
    fillTo(field.offset)
    if (field.offset < next || field.offset + field.length > DATA_SET_BYTES) {
      throw new DataSetError(field.id, 'overlaps another known place, or reaches beyond the data set')
    }
    fields.push(field)
    next = field.offset + field.length
  }
  fillTo(DATA_SET_BYTES)
  return fields
}
