/**
 * The SECCOS profile: how one scheme lays out the 123 bytes of the PRW data set and computes PRW and MAC, as data.
 *
 * What the girocard scheme does is not public. An issuer writes its profile from the documents it holds; the code
 * takes every parameter from there and adds none. A profile is plain JSON (`profile.schema.json`), read by
 * `parseProfile`, and its provenance is in every result computed with it.
 */
import { ownMembers } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import type { KeyUsage } from '../../key/usage.js'
import type { Encipherment, MacAlgorithm, MacPadding } from '../../primitives/algorithms.js'

/** Length of D1's `prwDataSet` in bytes. */
export const DATA_SET_BYTES = 123

/**
 * - `scheme-confirmed`: whoever wrote the profile holds the scheme's documents and has checked it against its samples.
 * - `illustrative`: invented, to show and test the mechanism. Not the algorithm of any scheme.
 */
export type Provenance = 'scheme-confirmed' | 'illustrative'

/**
 * How a value becomes bytes: packed decimal digits, ASCII, EBCDIC (its invariant set), EBCDIC of code page 273 (German),
 * bytes as they are, or for numbers the low byte first.
 */
export type FieldEncoding = 'bcd' | 'ascii' | 'ebcdic' | 'ebcdic-273' | 'binary' | 'binary-le'

/** On which side of its field a shorter value is; `exact`: it must fill the field. */
export type Alignment = 'left' | 'right' | 'exact'

/**
 * A piece of a value, counted in its characters (in bytes where it is bytes): from one end, after those that are skipped,
 * as many as are taken; without `take`, all the rest. The 12 rightmost digits of a PAN without its check digit:
 * `{ from: 'right', skip: 1, take: 12 }`. Of characters there may be fewer than `take`, never of bytes.
 */
export interface Part {
  readonly from: 'left' | 'right'
  readonly skip: number
  readonly take?: number
}

/** A value's place: how long, how encoded, how filled. */
export interface ValueForm {
  /** Bytes. */
  readonly length: number
  readonly encoding: FieldEncoding
  readonly align: Alignment
  /** What fills the rest, unless `align` is `exact`: one hex digit for `bcd`, two (a byte) for the others. */
  readonly pad?: string
  /** What is put there of the value, where not all of it. Format 2. */
  readonly part?: Part
}

/** A mask of its own: so many units (digits for `bcd`, bytes for the others) of the field, and what is there instead. */
export interface Mask {
  readonly offset: number
  readonly length: number
  /** One hex digit for `bcd`, two for the others. */
  readonly fill: string
}

/**
 * A field that holds a value. The ids of {@link ReservedField} have their meaning; others are the profile's own, unless
 * `value` says which of those they hold.
 */
export interface ValueField extends ValueForm {
  readonly id: string
  readonly offset: number
  /** True: there are zero bytes here in the data set that travels and is stored. A {@link Mask} in format 2. */
  readonly masked: boolean | Mask
  /** What the field holds, where its id does not say so: a second PIN form, a part of the PAN. Format 2. */
  readonly value?: ReservedField
  /** For a PIN, where it is not the profile's `pinBlock`. Format 2. */
  readonly pinForm?: PinForm
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

/** A value from outside the data set that an input names: card data that the issuer has. Format 2. */
export interface ExternalValue {
  readonly id: string
  /** `text`: printable ASCII; `bytes`: bytes. */
  readonly kind: 'text' | 'bytes'
}

/** One part of what is computed over. The parts are put one after the other, in the order of the list. */
export type ComputationInput =
  | { readonly input: 'dataSet.full' | 'dataSet.masked' | 'random'; readonly part?: Part }
  | { readonly input: 'pinBlock'; readonly pinForm?: PinForm; readonly part?: Part }
  /** The bytes of one field of the full data set. */
  | { readonly input: 'field'; readonly id: string; readonly part?: Part }
  | ({ readonly input: FormedInput } & ValueForm)
  /** One of the profile's external values. */
  | ({ readonly input: 'external'; readonly id: string } & ValueForm)
  /** The PRW: bytes, or the characters of its text form in ASCII or EBCDIC. For the MAC only. */
  | { readonly input: 'prw'; readonly form: 'binary' | 'text' | 'text-ebcdic'; readonly part?: Part }
  | { readonly input: 'constant'; readonly constant: string }
  /** Other inputs, enciphered under the key of this computation before anything else is done with them. */
  | {
      readonly input: 'enciphered'
      readonly mode: 'ecb' | 'cbc'
      /** One block of hex digits for `cbc`, `none` for `ecb`. */
      readonly iv: string
      readonly padding: 1 | 2
      readonly inputs: readonly ComputationInput[]
    }

/** The inputs that are one value in a form of their own. */
export type FormedInput = 'pan' | 'pcc' | 'intdatag' | 'pinLength' | 'prwKid' | 'macKid' | 'issuerId'

/** The algorithm names of a profile: a MAC or an encipherment, together with its cipher. */
export type ProfileAlgorithm =
  | 'iso9797-1-alg1'
  | 'iso9797-1-alg3'
  | 'cmac-tdea'
  | 'cmac-aes'
  | 'hmac-sha256'
  | 'tdea-ecb'
  | 'tdea-cbc'
  | 'aes-ecb'
  | 'aes-cbc'

/**
 * The text form of a PRW or MAC. `digits`: decimal digits, after the step `decimalise`. `hex-ebcdic`: the upper-case hex
 * digits as EBCDIC characters, these in hex again.
 */
export type TextForm = 'hex-upper' | 'hex-lower' | 'base64' | 'base64url' | 'digits' | 'hex-ebcdic'

/** One step from what the algorithm gives to the result. Format 2. */
export type OutputStep =
  | { readonly step: 'slice'; readonly part: Part }
  /** XOR of the left and the right half. */
  | { readonly step: 'fold' }
  /**
   * Decimal digits out of the hex digits, one byte (ASCII) each. By a `table` of 16 decimal digits, one for each hex digit;
   * or by `scan`: the hex digits 0 to 9 in their order, then, where they are too few, the others less 10.
   */
  | { readonly step: 'decimalise'; readonly digits: number; readonly table: string }

/** How the key of a computation is made out of the named one, by one step. Its length and cipher stay. Format 2. */
export type DerivationStep =
  /**
   * The inputs are enciphered (ECB) block by block; the leftmost `keyBytes` are the key. They are one block, with its
   * complement after it where `complement` is true (EMV option A), or all that is needed. With `digest`, their hash,
   * decimalised to as many digits as a block holds, comes in their place (EMV option B).
   */
  | {
      readonly method: 'encipher'
      readonly inputs: readonly ComputationInput[]
      readonly complement: boolean
      readonly digest?: Digest
    }
  /** The key XOR a mask: variants, control vectors. */
  | { readonly method: 'xor'; readonly mask: string }
  /** NIST SP 800-108 in counter mode, CMAC: the blocks CMAC(counter ‖ inputs), counted from 1. */
  | {
      readonly method: 'cmac-counter'
      readonly counterBytes: 1 | 2 | 4
      readonly inputs: readonly ComputationInput[]
    }

/** A hash function. */
export type Digest = 'sha-1' | 'sha-256'

/** How the PRW, or the MAC over it, is computed. */
export interface Computation {
  readonly algorithm: ProfileAlgorithm
  /** 1, 2 or 3 for the ISO/IEC 9797-1 algorithms, 1 or 2 for encipherment, `none` for CMAC and HMAC. */
  readonly padding: MacPadding
  /** One block in hex digits where the algorithm has one, else `none`. In format 2 also from values. */
  readonly iv: string | { readonly inputs: readonly ComputationInput[] }
  readonly keyBytes: 16 | 24 | 32
  /** The key is derived from the named one, step by step. Format 2. */
  readonly derivation?: readonly DerivationStep[]
  readonly inputs: readonly ComputationInput[]
  /** The inputs are hashed, and the hash is what is computed over. Format 2. */
  readonly digest?: Digest
  /** From what the algorithm gives to the result; without it, the leftmost `outputBytes` bytes. Format 2. */
  readonly output?: readonly OutputStep[]
  /** Bytes of the result. */
  readonly outputBytes: number
  readonly text: TextForm
  /** What these inputs leave out, in full: the author knows it, the parser checks it (`coverage.ts`). */
  readonly uncovered: readonly string[]
}

/** How the PIN becomes bytes before anything else happens to it; see `forms.ts`. */
export type PinForm =
  | 'iso9564-format-0'
  | 'iso9564-format-2'
  | 'digits-bcd'
  | 'digits-ascii'
  /** ISO 9564-1, 9.3: with one hex digit as filler (A to F for format 3), or filled from the random number. Format 2. */
  | { readonly iso9564: 1 | 3 | 4; readonly filler: string }
  /** The digits in a form. Format 2. */
  | ({ readonly digits: 'bcd' | 'ascii' | 'ebcdic' } & Pick<ValueForm, 'length' | 'align' | 'pad'>)

/** A parsed profile. Immutable, and plain data: `JSON.stringify` gives back what `parseProfile` reads. */
export interface SeccosProfile {
  readonly $schema?: string
  /** Version of this format: 2 has all that 1 has, and what is marked so. */
  readonly profileFormat: 1 | 2
  readonly name: string
  readonly version: string
  readonly provenance: Provenance
  readonly description?: string
  readonly pinBlock: PinForm
  /** Length of the random number that the PRW covers; 0 where the scheme has none. */
  readonly randomBytes: number
  /** Values that inputs name and the data set does not hold. Format 2. */
  readonly external?: readonly ExternalValue[]
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
  /** The port's name for it. */
  readonly port: MacAlgorithm | Encipherment
  readonly cipher: 'tdea' | 'aes' | 'hmac'
  readonly paddings: readonly MacPadding[]
  readonly keyBytes: readonly number[]
  /** Of the cipher; of HMAC 16, which nothing depends on: it has neither padding nor IV nor derivation. */
  readonly blockBytes: 8 | 16
  /** Bytes that come out; of an encipherment, as many as go in. */
  readonly outputBytes: 8 | 16 | 32 | undefined
  readonly hasIv: boolean
  /** The usage of a key that computes the MAC over a PRW; undefined where a MAC cannot be computed so. */
  readonly macUsage: KeyUsage | undefined
}

const TDEA = { cipher: 'tdea', keyBytes: [16, 24], blockBytes: 8, outputBytes: 8 } as const
const AES = { cipher: 'aes', keyBytes: [16, 24, 32], blockBytes: 16, outputBytes: 16 } as const
const CBC_MAC = { ...TDEA, paddings: [1, 2, 3], hasIv: true } as const
const CMAC = { port: 'cmac', paddings: ['none'], hasIv: false, macUsage: 'cmac' } as const
const ENCIPHERMENT = { paddings: [1, 2], outputBytes: undefined, macUsage: undefined } as const
const ECB = { ...ENCIPHERMENT, port: 'encipher-ecb', hasIv: false } as const
const CBC = { ...ENCIPHERMENT, port: 'encipher-cbc', hasIv: true } as const

/** What each algorithm of a profile takes and gives. */
export const ALGORITHMS: Readonly<Record<ProfileAlgorithm, AlgorithmRule>> = {
  'iso9797-1-alg1': { ...CBC_MAC, port: 'iso9797-1-alg1', macUsage: 'cbc-mac' },
  'iso9797-1-alg3': { ...CBC_MAC, port: 'iso9797-1-alg3', macUsage: 'retail-mac' },
  'cmac-tdea': { ...TDEA, ...CMAC },
  'cmac-aes': { ...AES, ...CMAC },
  'hmac-sha256': {
    port: 'hmac-sha256',
    cipher: 'hmac',
    paddings: ['none'],
    keyBytes: [32],
    blockBytes: 16,
    outputBytes: 32,
    hasIv: false,
    macUsage: 'hmac',
  },
  'tdea-ecb': { ...TDEA, ...ECB },
  'tdea-cbc': { ...TDEA, ...CBC },
  'aes-ecb': { ...AES, ...ECB },
  'aes-cbc': { ...AES, ...CBC },
}

/** The usage of a key that computes a profile's MAC; the parser has seen to it that there is one. */
export function macUsageOf({ mac }: SeccosProfile): KeyUsage {
  const { macUsage } = ALGORITHMS[mac.algorithm]
  if (macUsage === undefined) throw new ArgumentError('no MAC is computed by an encipherment')
  return macUsage
}

/** True where the algorithm enciphers: what comes out is as long as what goes in. */
export function enciphers(algorithm: ProfileAlgorithm): boolean {
  return ALGORITHMS[algorithm].outputBytes === undefined
}

interface ReservedRule {
  readonly encodings: readonly FieldEncoding[]
  /** Characters the value has; with one number, reading a field back needs no guess about its pad. */
  readonly characters?: { readonly min: number; readonly max: number }
  /** It must be masked, and no MAC may need it in the clear except as the table in `profile-rules.ts` says. */
  readonly sensitive: boolean
}

const TEXTS: readonly FieldEncoding[] = ['bcd', 'ascii', 'ebcdic', 'ebcdic-273']
const NUMBERS: readonly FieldEncoding[] = [...TEXTS, 'binary', 'binary-le']
const CHARACTERS: readonly FieldEncoding[] = ['ascii', 'ebcdic', 'ebcdic-273']

/** The values whose meaning the code knows. */
export const RESERVED_FIELDS: Readonly<Record<ReservedField, ReservedRule>> = ownMembers({
  pan: { encodings: TEXTS, characters: { min: 12, max: 19 }, sensitive: true },
  pinBlock: { encodings: ['binary'], sensitive: true },
  /** Decimal digits, or a number where binary. */
  pinLength: { encodings: NUMBERS, characters: { min: 1, max: 2 }, sensitive: true },
  random: { encodings: ['binary'], sensitive: false },
  /** Four digits, or a number where binary. */
  pcc: { encodings: NUMBERS, characters: { min: 4, max: 4 }, sensitive: false },
  intdatag: { encodings: CHARACTERS, characters: { min: 20, max: 20 }, sensitive: false },
  prwKid: { encodings: CHARACTERS, characters: { min: 1, max: 128 }, sensitive: false },
  macKid: { encodings: CHARACTERS, characters: { min: 1, max: 128 }, sensitive: false },
  issuerId: { encodings: CHARACTERS, characters: { min: 10, max: 10 }, sensitive: false },
})

/** A value whose meaning the code knows. */
export type ReservedField = 'pinBlock' | 'random' | FormedInput

/** The names that format 1 knows; in it, the others are a profile's own. */
const FORMAT_1: readonly string[] = ['pan', 'pinBlock', 'pinLength', 'random', 'pcc', 'intdatag']

/** What a field of a profile holds: a value whose meaning the code knows, or undefined for one of the profile's own. */
export function meaningOf(
  { profileFormat }: Pick<SeccosProfile, 'profileFormat'>,
  field: { readonly id: string; readonly value?: ReservedField },
): ReservedField | undefined {
  if (field.value !== undefined) return field.value
  return isReserved(field.id) && (profileFormat === 2 || FORMAT_1.includes(field.id)) ? field.id : undefined
}

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
