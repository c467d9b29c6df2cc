/**
 * One worker's part of a search: it takes units of work off a board that all workers share, tries every list of a unit by its
 * way, and keeps what fits all samples. A unit is a layout, a way to compute, and lists of inputs that begin alike.
 */
import type { MacRequest } from '../../backend/driver.js'
import { closeKey, hmacSha256, type ReadyKey, readyKey, type StoredKey } from '../../backend/software/keys.js'
import type { TdeaEngine } from '../../backend/software/tdea-engine.js'
import { ownMembers, readOwn } from '../../base/arguments.js'
import { asciiBytes, concatBytes, fromHex, secretBytes, wipe, withWiped } from '../../base/bytes.js'
import { ArgumentError, ProfileError, requireOurs } from '../../base/errors.js'
import type { KeyAlgorithm } from '../../primitives/algorithms.js'
import type { BlockCipher } from '../../primitives/iso9797.js'
import { computeMac, type MacCiphers } from '../../primitives/mac.js'
import {
  computeBy,
  derivationOf,
  type Material,
  macRequestOf,
  resolveInput,
} from '../../seccos/computation.js'
import { dataSetFromHex, readChecked } from '../../seccos/data-set.js'
import type { DataSetValues } from '../../seccos/field-value.js'
import { readText, showText, textLength } from '../../seccos/profile/forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  type SeccosProfile,
} from '../../seccos/profile/profile.js'
import type { ProfileSample } from '../check-profile.js'
import { computeMany, hashed, type Messages } from './chains.js'
import { type Group, groupsOf, type Tier } from './lists.js'
import { type Output, type OutputsOf, outputsFor } from './outputs.js'
import { type Token, tokensOf } from './tokens.js'
import { type KnownComputation, type Way, waySets } from './ways.js'

/** What one computation's search is about. */
export interface SearchJob {
  readonly which: 'prw' | 'mac'
  readonly samples: readonly ProfileSample[]
  /** The clear test key. It stays whose it is. */
  readonly key: Uint8Array
  /** The layouts; of all but the first only the data set in full is tried, for nothing else differs. */
  readonly layouts: readonly SeccosProfile[]
  readonly known: KnownComputation
}

/** A computation that fits all samples, and the layout by which it does. */
export interface Match {
  readonly layout: number
  readonly computation: Computation
}

/** What all workers of a search see and write: shared memory. */
export interface Board {
  /** The next unit that nobody has taken, whether to stop, and how many matches there are in this tier. */
  readonly control: Int32Array
  /** Computations tried so far. */
  readonly tried: BigInt64Array
}
const NEXT = 0
const STOP = 1
const MATCHES = 2

/** A board with nothing on it. */
export function newBoard(): Board {
  return {
    control: new Int32Array(new SharedArrayBuffer(12)),
    tried: new BigInt64Array(new SharedArrayBuffer(8)),
  }
}

/** Before a tier: its first unit is the next, and nothing matches yet. */
export function beginTier({ control }: Board): void {
  Atomics.store(control, NEXT, 0)
  Atomics.store(control, MATCHES, 0)
}

/** Has every worker stop soon. */
export function stopWork({ control }: Board): void {
  Atomics.store(control, STOP, 1)
}

/** How many computations have been tried. */
export function triedOn({ tried }: Board): number {
  return Number(Atomics.load(tried, 0))
}

/** How many computations of this tier match so far. */
export function matchesOn({ control }: Board): number {
  return Atomics.load(control, MATCHES)
}

/** Whether so many match that the samples determine nothing: the rest of the tier is given up. */
export function isCrowded(board: Board): boolean {
  return matchesOn(board) > MAX_MATCHES
}

/** Ways and lists by tiers: what both are common for is tried before what one is rare for. */
export const TIERS: readonly (readonly [way: Tier, list: Tier])[] = [
  [1, 1],
  [1, 2],
  [2, 1],
  [3, 1],
  [1, 3],
  [2, 3],
  [3, 3],
]

/** Lists that are tried at a time. */
const BATCH = 1024
/** So many matches say that the samples determine nothing. */
const MAX_MATCHES = 512
const NOTHING = secretBytes(0)
const REQUEST = ['algorithm', 'padding', 'iv', 'derivation'] as const

/** Ways that take the same bytes, over lists that begin alike, by one layout. */
interface Unit {
  readonly layout: number
  readonly ways: readonly [Way, ...Way[]]
  readonly group: Group
}

const FULL: Token = ownMembers({ kind: 'dataSet', input: { input: 'dataSet.full' }, rank: 1 })

/** The samples as a layout reads them, its tokens, and the first sample's values in their forms. */
interface View {
  readonly layout: SeccosProfile
  readonly materials: Map<number, Material>
  readonly tokens: readonly Token[]
  readonly bytes: Map<ComputationInput, Uint8Array | undefined>
}

/** Under which key, for which sample; and what keeps bytes until they are wiped. */
interface Under {
  readonly key: ReadyKey
  readonly material: Material
  readonly keep: <B extends Uint8Array>(bytes: B) => B
}

/** A list's end that the first sample has the values for, and their bytes. */
interface Sound {
  readonly rest: readonly ComputationInput[]
  readonly parts: readonly Uint8Array[]
}

/** What a worker does, and what it keeps meanwhile. */
export class Work {
  readonly #job: SearchJob
  readonly #engine: TdeaEngine
  readonly #views = new Map<number, View>()
  readonly #outputs: OutputsOf
  readonly #expected: readonly string[]

  constructor(job: SearchJob, engine: TdeaEngine) {
    const { which, samples } = job
    this.#job = job
    this.#engine = engine
    this.#expected = samples.map(({ prwValue, macValue }) => (which === 'prw' ? prwValue : macValue))
    this.#outputs = outputsFor(`${which}Value`, this.#expected)
    this.#requireValues()
  }

  /** A layout as it is looked at: made when its turn comes, for there may be thousands. */
  #view(index: number): View {
    const { layouts, samples, which } = this.#job
    const known = this.#views.get(index)
    if (known !== undefined) return known
    const layout = layouts[index] as SeccosProfile
    // What is supposed makes a difference to the data set in full alone: the rest is as in the first.
    const tokens = index === 0 ? tokensOf(layout, which, samples) : [...this.#view(0).tokens, FULL]
    const view: View = { layout, tokens, materials: new Map(), bytes: new Map() }
    this.#views.set(index, view)
    return view
  }

  #material(index: number, sample: number): Material {
    const { layout, materials } = this.#view(index)
    const known = materials.get(sample)
    if (known !== undefined) return known
    const material = materialOf(layout, this.#job.samples[sample] as ProfileSample)
    materials.set(sample, material)
    return material
  }

  /** A hole for a value that there is none of would never be filled. */
  #requireValues(): void {
    const { which, known } = this.#job
    const kinds = this.#view(0).tokens.map(({ kind }) => kind)
    for (const [i, entry] of (known.inputs ?? []).entries()) {
      if (entry.input !== 'unknown' || entry.value === undefined || kinds.includes(entry.value)) continue
      throw new ProfileError(
        `/${which}/inputs/${i}/value`,
        'is not the name of a value that the samples have',
      )
    }
  }

  /** This worker's share of a tier. `pause` is awaited now and then, where others want their turn. */
  async tier(index: number, board: Board, pause?: () => Promise<unknown>): Promise<Match[]> {
    const { control, tried } = board
    const matches: Match[] = []
    let taken = Atomics.add(control, NEXT, 1)
    let at = 0
    for (const unit of this.#units(index)) {
      if (at++ !== taken) continue
      for (const lists of batches(unit.group.rests())) {
        if (Atomics.load(control, STOP) === 1 || isCrowded(board)) return matches
        for (const computation of this.#hits(unit, lists)) {
          if (!(await this.#fitsAll(unit.layout, computation))) continue
          matches.push({ layout: unit.layout, computation })
          Atomics.add(control, MATCHES, 1)
        }
        Atomics.add(tried, 0, BigInt(lists.length * unit.ways.length))
        await pause?.()
      }
      taken = Atomics.add(control, NEXT, 1)
    }
    return matches
  }

  /** What a computation gives as text, by a layout; undefined where it cannot be computed. */
  async text(computation: Computation, material: Material): Promise<string | undefined> {
    const run = (request: MacRequest, message: Uint8Array): Uint8Array => {
      const { algorithm, padding, iv, derivation } = readOwn(request, 'a request', REQUEST)
      if (algorithm === 'hmac-sha256') return hmacSha256(this.#job.key, message)
      return this.#withKey(computation, derivation, key =>
        computeMac({ algorithm, padding, iv }, ciphersOf(key), message),
      )
    }
    try {
      return await computeBy(run, computation, material, output => showText(computation.text, output))
    } catch (error) {
      requireOurs(error)
      return undefined
    }
  }

  /** Wipes what it kept. */
  close(): void {
    for (const { bytes } of this.#views.values()) wipe(...bytes.values())
    this.#views.clear()
  }

  *#units(index: number): Generator<Unit> {
    const { layouts, known, which, key } = this.#job
    const [wayTier, listTier] = TIERS[index] as (typeof TIERS)[number]
    for (const [layout, profile] of layouts.entries()) {
      const { tokens } = this.#view(layout)
      for (const ways of waySets({ known, keyBytes: key.length, profile, which }, wayTier)) {
        const lists = { tokens, which, known: known.inputs, withFull: layout > 0 }
        for (const group of groupsOf(lists, listTier)) yield { layout, ways, group }
      }
    }
  }

  /** What of a batch fits the first sample. */
  #hits({ layout, ways, group }: Unit, lists: readonly (readonly ComputationInput[])[]): Computation[] {
    const [first] = ways
    const material = this.#material(layout, 0)
    const hits: Computation[] = []
    const secrets: Uint8Array[] = []
    const keep = <B extends Uint8Array>(bytes: B): B => {
      secrets.push(bytes)
      return bytes
    }
    try {
      const derivation = derivationOf(bare(first), material, keep)
      this.#withKey(first, derivation, key => {
        const { prefix, sound } = this.#parts({ layout, key, material, keep }, group.prefix, lists)
        const whole = { prefix: keep(concatBytes(...prefix)), tails: sound.map(({ parts }) => parts) }
        const messages = first.digest === undefined ? whole : hashed(first.digest, whole)
        for (const way of ways) {
          try {
            this.#compute({ way, key, material, keep }, messages, (index, as) => {
              const inputs = [...group.prefix, ...(sound[index] as Sound).rest]
              hits.push(ownMembers({ ...way, inputs, ...as, uncovered: [] }))
            })
          } catch (error) {
            // An ICV out of a value that the samples do not have.
            requireOurs(error)
          }
        }
        if (messages !== whole) wipe(...messages.tails.flat())
        return NOTHING
      })
    } catch (error) {
      requireOurs(error)
      return []
    } finally {
      wipe(...secrets)
    }
    return hits
  }

  /** One way over all messages of a batch. */
  #compute(
    { way, key, material, keep }: { readonly way: Way } & Under,
    messages: Messages,
    hit: (index: number, as: Output['as']) => void,
  ): void {
    const { blockBytes } = ALGORITHMS[way.algorithm]
    const iv = macRequestOf(bare(way), material, keep).iv ?? keep(secretBytes(blockBytes))
    const outputs = this.#outputs(way.algorithm)
    computeMany(way, key, iv, messages, {
      hear: (index, bytes, at, length) => {
        for (const { whole, fits, as } of outputs) {
          if ((whole ?? length) !== length) continue
          if (fits(bytes, whole === undefined ? at + length - blockBytes : at)) hit(index, as)
        }
      },
      wants: length => outputs.some(({ whole }) => (whole ?? length) === length),
    })
  }

  /** The bytes of a batch: of what all lists begin with, and of the rests that the first sample has. */
  #parts(
    { layout, key, material, keep }: { readonly layout: number } & Under,
    begin: readonly ComputationInput[],
    lists: readonly (readonly ComputationInput[])[],
  ): {
    readonly prefix: readonly Uint8Array[]
    readonly sound: readonly Sound[]
  } {
    const everywhere = this.#view(0).bytes
    const here = this.#view(layout).bytes
    /** What is enciphered is so under this way's key. */
    const own = new Map<ComputationInput, Uint8Array | undefined>()
    const bytesOf = (input: ComputationInput): Uint8Array | undefined => {
      const kept = input.input === 'enciphered' ? own : input.input === 'dataSet.full' ? here : everywhere
      if (kept.has(input)) return kept.get(input)
      const bytes = bytesOfInput(input, material, key)
      if (bytes !== undefined && kept === own) keep(bytes)
      kept.set(input, bytes)
      return bytes
    }
    const prefix = all(begin, bytesOf)
    if (prefix === undefined) return { prefix: [], sound: [] }
    const sound = lists.flatMap(rest => {
      const parts = all(rest, bytesOf)
      return parts === undefined ? [] : [{ rest, parts }]
    })
    return { prefix, sound }
  }

  async #fitsAll(layout: number, computation: Computation): Promise<boolean> {
    for (const [i, expected] of this.#expected.entries()) {
      if ((await this.text(computation, this.#material(layout, i))) !== expected) return false
    }
    return true
  }

  /** Hands the test key, or what is derived from it, to `use`. */
  #withKey(
    { algorithm, keyBytes }: Pick<Way, 'algorithm' | 'keyBytes'>,
    derivation: MacRequest['derivation'],
    use: (key: ReadyKey) => Uint8Array,
  ): Uint8Array {
    const name = KEY_ALGORITHM[`${ALGORITHMS[algorithm].cipher}${keyBytes}`] as KeyAlgorithm
    const usage = 'prw-generate'
    const key: StoredKey = { kid: 'TEST', usage, mode: 'G', algorithm: name, bytes: this.#job.key }
    const ready = readyKey(key, this.#engine)
    try {
      return derivation === undefined ? use(ready) : (ready.derived?.(derivation, use) ?? NOTHING)
    } finally {
      closeKey(ready)
    }
  }
}

/** A way as a computation without inputs. */
function bare(way: Way): Computation {
  return ownMembers({ ...way, inputs: [], outputBytes: 8, text: 'hex-upper', uncovered: [] })
}

const KEY_ALGORITHM: Readonly<Record<string, KeyAlgorithm>> = {
  tdea16: 'tdea-2key',
  tdea24: 'tdea-3key',
  aes16: 'aes-128',
  aes24: 'aes-192',
  aes32: 'aes-256',
  hmac32: 'hmac-sha256',
}

function ciphersOf({ tdea, aes, retailChain }: ReadyKey): MacCiphers {
  const last: BlockCipher | undefined = tdea ?? aes
  if (last === undefined) throw new ArgumentError('the key has no cipher')
  return { last, ...(retailChain !== undefined && { chain: retailChain }) }
}

/** The bytes of an input for a sample; undefined where it has none, because a value is missing or does not fit. */
function bytesOfInput(input: ComputationInput, material: Material, key: ReadyKey): Uint8Array | undefined {
  try {
    if (input.input !== 'enciphered') return resolveInput(input, material)
    const { mode, iv, padding } = input
    const request = {
      algorithm: `encipher-${mode}`,
      padding,
      ...(iv !== 'none' && { iv: fromHex(iv, 'iv') }),
    } as const
    const parts = input.inputs.map(part => resolveInput(part, material))
    return withWiped(concatBytes(...parts), plain => {
      wipe(...parts)
      return computeMac(request, ciphersOf(key), plain)
    })
  } catch (error) {
    requireOurs(error)
    return undefined
  }
}

function all(
  inputs: readonly ComputationInput[],
  bytesOf: (input: ComputationInput) => Uint8Array | undefined,
): Uint8Array[] | undefined {
  const found: Uint8Array[] = []
  for (const input of inputs) {
    const bytes = bytesOf(input)
    if (bytes === undefined) return undefined
    found.push(bytes)
  }
  return found
}

/** So many at a time, the last as many as there are. */
export function* batches<T>(items: Iterable<T>, size: number = BATCH): Generator<T[]> {
  let batch: T[] = []
  for (const item of items) {
    if (batch.push(item) < size) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

/** {@link Material} with the fields of a sample, of which there may be none. */
type SampleMaterial = Material & {
  readonly values: { readonly fields: NonNullable<DataSetValues['fields']> }
}

/** A sample as a layout reads it. Errors: `ERR_DATA_SET`. */
export function materialOf(profile: SeccosProfile, sample: ProfileSample): SampleMaterial {
  const masked = dataSetFromHex(sample.prwDataSet)
  const { fields, ...content } = readChecked(profile, masked)
  const { prwDataSet: _d, macValue: _m, prwValue, fields: own, ...values } = sample
  return {
    profile,
    masked,
    values: { ...content, ...values, fields: { ...fields, ...own } },
    prw: { bytes: bytesOfText(prwValue), text: prwValue },
  }
}

/** The PRW as bytes, by the first form that it is in; of a text in none, its characters. */
function bytesOfText(text: string): Uint8Array {
  if (/^(?:[0-9A-Fa-f]{2})+$/.test(text)) return fromHex(text, 'prwValue')
  for (const form of ['base64', 'base64url'] as const) {
    for (let bytes = 4; bytes <= 32; bytes++) {
      if (textLength(form, bytes) !== text.length) continue
      try {
        return readText(form, bytes, text, 'prwValue')
      } catch (error) {
        requireOurs(error)
      }
    }
  }
  return asciiBytes(text)
}
