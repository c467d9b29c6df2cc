/**
 * The SECCOS profile: how one scheme lays out the 123 bytes of the PRW data set and computes PRW and MAC, as data.
 *
 * What the girocard scheme does is not public. An issuer writes its profile from the documents it holds; the code
 * takes every parameter from there and adds none. A profile is plain JSON (`profile.schema.json`), read by
 * `parseProfile`, and its provenance stands in every result computed with it.
 */
import { ArgumentError } from '../../base/errors.js'
import type { KeyUsage } from '../../key/usage.js'
import type { MacAlgorithm, MacPadding } from '../../primitives/mac-algorithm.js'

/** Length of D1's `prwDataSet` in bytes. */
export const DATA_SET_BYTES = 123

/**
 * - `scheme-confirmed`: whoever wrote the profile holds the scheme's documents and has checked it against its samples.
 * - `illustrative`: invented, to show and test the mechanism. Not the algorithm of any scheme.
 */
export type Provenance = 'scheme-confirmed' | 'illustrative'

/** How characters become bytes: packed decimal digits, ASCII, EBCDIC (its invariant set), or bytes as they are. */
export type FieldEncoding = 'bcd' | 'ascii' | 'ebcdic' | 'binary'

/** Where a shorter value stands in its field; `exact`: it must fill the field. */
export type Alignment = 'left' | 'right' | 'exact'

/** A value's place: how long, how encoded, how filled. */
export interface ValueForm {
  /** Bytes. */
  readonly length: number
  readonly encoding: FieldEncoding
  readonly align: Alignment
  /** What fills the rest, unless `align` is `exact`: one hex digit for `bcd`, two (a byte) for the others. */
  readonly pad?: string
}

/**
 * A field that holds a value. The ids `pan`, `pinBlock`, `pinLength`, `random`, `pcc` and `intdatag` have their meaning;
 * others are the profile's own.
 */
export interface ValueField extends ValueForm {
  readonly id: string
  readonly offset: number
  /** True: zero bytes stand here in the data set that travels and is stored. */
  readonly masked: boolean
}

/** A field with fixed content. */
export interface ConstantField {
  readonly id: string
  readonly offset: number
  readonly length: number
  /** Hex of exactly `length` bytes. */
  readonly constant: string
}

/** One entry of the field table: together they tile the 123 bytes without gap or overlap. */
export type ProfileField = ValueField | ConstantField

/** One part of what is MACed. The parts are put one after the other, in the order of the list. */
export type ComputationInput =
  | { readonly input: 'dataSet.full' | 'dataSet.masked' | 'pinBlock' | 'random' }
  /** The bytes of one field of the full data set. */
  | { readonly input: 'field'; readonly id: string }
  | ({ readonly input: 'pan' | 'pcc' | 'intdatag' } & ValueForm)
  /** The PRW, as bytes or as the ASCII characters of its text form. For the MAC only. */
  | { readonly input: 'prw'; readonly form: 'binary' | 'text' }
  | { readonly input: 'constant'; readonly constant: string }

/** The algorithm names of a profile: a MAC algorithm together with its cipher. */
export type ProfileAlgorithm = 'iso9797-1-alg1' | 'iso9797-1-alg3' | 'cmac-tdea' | 'cmac-aes'

/** The text form of a PRW or MAC. */
export type TextForm = 'hex-upper' | 'hex-lower' | 'base64' | 'base64url'

/** How the PRW, or the MAC over it, is computed. */
export interface Computation {
  readonly algorithm: ProfileAlgorithm
  /** 1, 2 or 3 for the ISO/IEC 9797-1 algorithms, `none` for CMAC. */
  readonly padding: MacPadding
  /** 16 hex digits for the ISO/IEC 9797-1 algorithms, `none` for CMAC. */
  readonly iv: string
  readonly keyBytes: 16 | 24 | 32
  readonly inputs: readonly ComputationInput[]
  /** Leftmost bytes of the MAC that are the result. */
  readonly outputBytes: number
  readonly text: TextForm
  /** What these inputs leave out, in full: the author knows it, the parser checks it (see `coverage.ts`). */
  readonly uncovered: readonly string[]
}

/** How the PIN becomes bytes before anything else happens to it; see `pin-form.ts`. */
export type PinForm = 'iso9564-format-0' | 'iso9564-format-2' | 'digits-bcd' | 'digits-ascii'

/** A parsed profile. Immutable, and plain data: `JSON.stringify` gives back what `parseProfile` reads. */
export interface SeccosProfile {
  readonly $schema?: string
  /** Version of this format. */
  readonly profileFormat: 1
  readonly name: string
  readonly version: string
  readonly provenance: Provenance
  readonly description?: string
  readonly pinBlock: PinForm
  /** Length of the random number that the PRW covers; 0 where the scheme has none. */
  readonly randomBytes: number
  /** Tiles bytes 0 to 122: in order, no gap, no overlap. */
  readonly fields: readonly ProfileField[]
  readonly prw: Computation
  readonly mac: Computation
}

/** What every result of a computation carries: with which profile it was made, and what that profile is. */
export interface ProfileMark {
  readonly profile: { readonly name: string; readonly version: string }
  readonly provenance: Provenance
}

interface AlgorithmRule {
  readonly mac: MacAlgorithm
  readonly cipher: 'tdea' | 'aes'
  readonly paddings: readonly MacPadding[]
  readonly keyBytes: readonly number[]
  /** The full length of its MACs. */
  readonly blockBytes: 8 | 16
  /** The usage of a key that computes the MAC over a PRW. */
  readonly macUsage: KeyUsage
}

const CBC = { cipher: 'tdea', paddings: [1, 2, 3], keyBytes: [16, 24], blockBytes: 8 } as const

export const ALGORITHMS: Readonly<Record<ProfileAlgorithm, AlgorithmRule>> = {
  'iso9797-1-alg1': { ...CBC, mac: 'iso9797-1-alg1', macUsage: 'cbc-mac' },
  'iso9797-1-alg3': { ...CBC, mac: 'iso9797-1-alg3', macUsage: 'retail-mac' },
  'cmac-tdea': { ...CBC, mac: 'cmac', paddings: ['none'], macUsage: 'cmac' },
  'cmac-aes': {
    mac: 'cmac',
    cipher: 'aes',
    paddings: ['none'],
    keyBytes: [16, 24, 32],
    blockBytes: 16,
    macUsage: 'cmac',
  },
}

interface ReservedRule {
  readonly encodings: readonly FieldEncoding[]
  /** Characters the value has; with one number, reading a field back needs no guess about its pad. */
  readonly characters?: { readonly min: number; readonly max: number }
  /** It must be masked, and no MAC may need it in the clear except as the table in `profile-rules.ts` says. */
  readonly sensitive: boolean
}

/** The field ids whose meaning the code knows. */
export const RESERVED_FIELDS: Readonly<
  Record<'pan' | 'pinBlock' | 'pinLength' | 'random' | 'pcc' | 'intdatag', ReservedRule>
> = {
  pan: { encodings: ['bcd', 'ascii', 'ebcdic'], characters: { min: 12, max: 19 }, sensitive: true },
  pinBlock: { encodings: ['binary'], sensitive: true },
  /** Decimal digits, or a big-endian number where binary. */
  pinLength: {
    encodings: ['bcd', 'ascii', 'ebcdic', 'binary'],
    characters: { min: 1, max: 2 },
    sensitive: true,
  },
  random: { encodings: ['binary'], sensitive: false },
  /** Four digits, or a big-endian number where binary. */
  pcc: { encodings: ['bcd', 'ascii', 'ebcdic', 'binary'], characters: { min: 4, max: 4 }, sensitive: false },
  intdatag: { encodings: ['ascii', 'ebcdic'], characters: { min: 20, max: 20 }, sensitive: false },
}

export type ReservedField = keyof typeof RESERVED_FIELDS

/** True for an id of {@link RESERVED_FIELDS}. */
export function isReserved(id: string): id is ReservedField {
  return Object.hasOwn(RESERVED_FIELDS, id)
}

/** True for a field with fixed content. */
export function isConstant(field: ProfileField): field is ConstantField {
  return 'constant' in field
}

const parsed = new WeakSet<object>()

/** For `parse-profile.ts`: from now on the verbs take this object. */
export function admitProfile(profile: SeccosProfile): SeccosProfile {
  parsed.add(profile)
  return profile
}

/** Throws `ERR_ARGUMENT` unless `parseProfile` made this object: nothing here runs on a profile nobody checked. */
export function requireProfile(profile: unknown): asserts profile is SeccosProfile {
  if (typeof profile === 'object' && profile !== null && parsed.has(profile)) return
  throw new ArgumentError('profile must come from parseProfile')
}

/** Name, version and provenance, for a result. */
export function markOf({ name, version, provenance }: SeccosProfile): ProfileMark {
  return { profile: { name, version }, provenance }
}
