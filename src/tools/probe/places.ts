/** Where known values stand in data sets of which nothing else is known: same offset, same form, in every sample. */
import { asciiBytes, equalBytes } from '../../base/bytes.js'
import { encodeCharacters, encodeNumber } from '../../seccos/profile/encoding.js'
import { DATA_SET_BYTES, type FieldEncoding } from '../../seccos/profile/profile.js'

/** A value that was looked for, and a place where it stands in all samples. */
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

/** Of values that are all there, of one length, and more than zeros: zeros stand everywhere. */
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
