/**
 * The search for a profile: told what is known, it tries the rest on samples made with *test* keys. Ways to compute (algorithm,
 * padding, IV, digest, derived key) are put together with lists of inputs, the likeliest of both first, until the time is up.
 *
 * What fits is compared as a function: by what it gives for cards that no sample has. Two that differ there are not told apart
 * by the samples, and then no winner is named: `decidedBy` says which sample would decide.
 */
import { createHash } from 'node:crypto'
import { chooseEngine } from '../../backend/software/engine.js'
import { closeKey, type ReadyKey, readyKey, type StoredKey } from '../../backend/software/keys.js'
import { SoftwareDriver } from '../../backend/software/software.js'
import type { TdeaEngine } from '../../backend/software/tdea-engine.js'
import { readOptions } from '../../base/arguments.js'
import { bufferOf, concatBytes, ownCopy, requireBytes, wipe } from '../../base/bytes.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, InputError, isIssuerPinError } from '../../base/errors.js'
import type { KeyAlgorithm } from '../../primitives/algorithms.js'
import { Pan, requirePan } from '../../primitives/pan.js'
import { Pin, requirePin } from '../../primitives/pin.js'
import { assemble, computeBy, derivationOf, type Material, macRequestOf } from '../../seccos/computation.js'
import { buildChecked, dataSetFromHex, maskChecked, readChecked } from '../../seccos/data-set.js'
import type { DataSetValues } from '../../seccos/field-value.js'
import { uncoveredIn } from '../../seccos/profile/coverage.js'
import { showText } from '../../seccos/profile/forms.js'
import { parseProfile } from '../../seccos/profile/parse.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  type DerivationStep,
  type Digest,
  type ExternalValue,
  enciphers,
  type PinForm,
  type ProfileAlgorithm,
  type ProfileField,
  type SeccosProfile,
} from '../../seccos/profile/profile.js'
import type { ProfileSample } from '../check-profile.js'
import { type Output, outputsFor } from './outputs.js'
import { inputLists, type Lengths, type Token, tokensOf, type UnknownInput } from './tokens.js'

/** What is known of a computation; what is absent is searched. */
export interface KnownComputation {
  readonly algorithm?: ProfileAlgorithm
  readonly padding?: Computation['padding']
  readonly iv?: Computation['iv']
  /** `[]`: the named key itself. */
  readonly derivation?: readonly DerivationStep[]
  readonly digest?: Digest | 'none'
  /** The list, with `{ input: 'unknown' }` where one input is not known. */
  readonly inputs?: readonly (ComputationInput | UnknownInput)[]
}

/** What is known of a profile. */
export interface KnownProfile {
  /** The field table. */
  readonly fields: readonly ProfileField[]
  readonly randomBytes: number
  readonly external?: readonly ExternalValue[]
  /** The PIN's form where a field or a known input leaves it open; `digits-bcd` where absent. */
  readonly pinBlock?: PinForm
  readonly prw?: KnownComputation
  readonly mac?: KnownComputation
}

/** How far the search is. */
export interface SearchProgress {
  readonly which: 'prw' | 'mac'
  /** Computations tried so far. */
  readonly tried: number
  readonly matches: number
  readonly elapsedMs: number
  readonly timeLimitMs: number
}

/** What {@link searchProfile} takes. */
export interface ProfileSearchInput {
  /** Two or more, of different cards: from one, no winner is named. */
  readonly samples: readonly ProfileSample[]
  /** The clear keys of the samples: test keys. Never production keys. */
  readonly prwTestKey: Uint8Array
  readonly macTestKey: Uint8Array
  readonly known: KnownProfile
  /** Searches this one alone. */
  readonly only?: 'prw' | 'mac'
  /** For PRW and MAC each; 300,000 where absent. */
  readonly timeLimitMs?: number
  /** Hears now and then how far it is. */
  readonly onProgress?: (progress: SearchProgress) => void
  /** This part of the candidates, of so many parts: for several processes side by side. */
  readonly share?: { readonly part: number; readonly of: number }
}

/** What came out for the PRW, or for the MAC. */
export interface SearchOutcome {
  readonly tried: number
  /** True where the time was up before everything had been tried. */
  readonly timeUp: boolean
  /** Computations that reproduce every sample; those that are one function for any card are one. */
  readonly matches: readonly Computation[]
  /** `winner` from two different samples or more, and only where no other match differs for other cards. */
  readonly verdict: 'winner' | 'ambiguous' | 'none' | 'more-samples-needed'
  /** What a further sample must have to tell the matches apart. */
  readonly decidedBy: readonly string[]
}

/** What {@link searchProfile} found. */
export interface ProfileSearch {
  readonly prw?: SearchOutcome
  readonly mac?: SearchOutcome
  /** Where both have a winner: the draft of a profile, `illustrative` until somebody confirms it. */
  readonly draft?: SeccosProfile
}

const MEMBERS = [
  'samples',
  'prwTestKey',
  'macTestKey',
  'known',
  'only',
  'timeLimitMs',
  'onProgress',
  'share',
] as const
const DEFAULT_LIMIT_MS = DEFAULTS.tools.searchMs.value

/**
 * Searches what is not known of a profile. It takes clear keys, PINs and PANs, and computes in this process: test values only.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET`, `ERR_ENCODING`, `ERR_LENGTH` (a key that is none), `ERR_PROFILE` (a known entry is
 * wrong, with its place).
 *
 * @example
 * ```ts
 * const known = { fields: profile.fields, randomBytes: 8, mac: { algorithm: 'iso9797-1-alg3' } } as const
 * const { prw, mac, draft } = await searchProfile({ samples, prwTestKey, macTestKey, known })
 * ```
 */
export async function searchProfile(input: ProfileSearchInput): Promise<ProfileSearch> {
  const given = readOptions(input, 'searchProfile', MEMBERS)
  const {
    samples,
    known,
    only,
    timeLimitMs = DEFAULT_LIMIT_MS,
    onProgress,
    share = { part: 0, of: 1 },
  } = given
  if (!Array.isArray(samples) || samples.length === 0) throw new ArgumentError('samples must be a list')
  for (const { pan, pin } of samples) {
    requirePan(pan)
    requirePin(pin)
  }
  if (only !== undefined && only !== 'prw' && only !== 'mac')
    throw new ArgumentError('only must be prw or mac')
  if (!Number.isInteger(timeLimitMs) || timeLimitMs < 1) {
    throw new ArgumentError('timeLimitMs must be a whole number above 0')
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw new ArgumentError('onProgress must be a function')
  }
  const engine = await chooseEngine('auto')
  const profile = layoutOf(known)
  const outcomes: { prw?: SearchOutcome; mac?: SearchOutcome } = {}
  for (const which of ['prw', 'mac'] as const) {
    if (only !== undefined && only !== which) continue
    const key = which === 'prw' ? given.prwTestKey : given.macTestKey
    const work = new Search({ profile, which, samples, key, engine, known: known[which] ?? {} })
    outcomes[which] = await work.run({ timeLimitMs, onProgress, share })
  }
  const draft = draftOf(known, outcomes)
  return { ...outcomes, ...(draft !== undefined && { draft }) }
}

/** The layout as a profile of which only the fields count. */
function layoutOf({ fields, randomBytes, external, pinBlock = 'digits-bcd' }: KnownProfile): SeccosProfile {
  const cmac = {
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    text: 'hex-upper',
  } as const
  const json = {
    profileFormat: 2,
    name: 'search',
    version: '0.0.0',
    provenance: 'illustrative',
    pinBlock,
    randomBytes,
    ...(external !== undefined && { external }),
    fields,
    prw: { ...cmac, inputs: [{ input: 'pinBlock' }], outputBytes: 16, uncovered: [] },
    mac: { ...cmac, inputs: [{ input: 'prw', form: 'binary' }], outputBytes: 8, uncovered: [] },
  } as const satisfies SeccosProfile
  return parseProfile({
    ...json,
    prw: { ...json.prw, uncovered: uncoveredIn(json, 'prw') },
    mac: { ...json.mac, uncovered: uncoveredIn(json, 'mac') },
  })
}

function draftOf(
  { fields, randomBytes, external, pinBlock = 'digits-bcd' }: KnownProfile,
  { prw, mac }: { readonly prw?: SearchOutcome; readonly mac?: SearchOutcome },
): SeccosProfile | undefined {
  const [one] = prw?.verdict === 'winner' ? prw.matches : []
  const [other] = mac?.verdict === 'winner' ? mac.matches : []
  if (one === undefined || other === undefined) return undefined
  const json: SeccosProfile = {
    profileFormat: 2,
    name: 'draft-from-search',
    version: '0.0.0',
    provenance: 'illustrative',
    description:
      'Draft from a search over test-key samples: check every entry against the documents of the scheme.',
    pinBlock,
    randomBytes,
    ...(external !== undefined && { external }),
    fields,
    prw: one,
    mac: other,
  }
  try {
    return parseProfile({
      ...json,
      prw: { ...one, uncovered: uncoveredIn(json, 'prw') },
      mac: { ...other, uncovered: uncoveredIn(json, 'mac') },
    })
  } catch (error) {
    if (isIssuerPinError(error)) return undefined
    throw error
  }
}

/** One way to compute, without the inputs. */
type Way = Pick<Computation, 'algorithm' | 'padding' | 'iv' | 'keyBytes' | 'derivation' | 'digest'>

interface Card {
  readonly what: string
  readonly material: Material
}

interface SearchOf {
  readonly profile: SeccosProfile
  readonly which: 'prw' | 'mac'
  readonly samples: readonly ProfileSample[]
  readonly key: Uint8Array
  readonly engine: TdeaEngine
  readonly known: KnownComputation
}

/** Messages that are put together before they are computed over. */
const CHUNK = 512

class Search {
  readonly #of: SearchOf
  readonly #cards: readonly Card[]
  readonly #tokens: readonly Token[]
  readonly #outputs: readonly Output[]
  readonly #expected: readonly string[]
  #tried = 0
  readonly #matches: Computation[] = []

  constructor(of: SearchOf) {
    this.#of = of
    const { profile, which, samples, key } = of
    requireTestKey(key)
    this.#cards = samples.map((sample, i) => ({ what: `sample ${i}`, material: materialOf(profile, sample) }))
    this.#expected = samples.map(({ prwValue, macValue }) => (which === 'prw' ? prwValue : macValue))
    this.#tokens = tokensOf(profile, which, lengthsOf(samples))
    this.#outputs = outputsFor(`${which}Value`, this.#expected)
  }

  async run({
    timeLimitMs,
    onProgress,
    share,
  }: {
    readonly timeLimitMs: number
    readonly onProgress: ProfileSearchInput['onProgress']
    readonly share: { readonly part: number; readonly of: number }
  }): Promise<SearchOutcome> {
    const { which } = this.#of
    const begun = systemClock.elapsed()
    let chunk = 0
    let timeUp = false
    // The tiers of ways and lists by their product: what both are common for is tried before what one is rare for.
    search: for (const [wayTier, listTier] of TIERS) {
      for (const way of waysOf(this.#of, wayTier)) {
        for (const lists of chunked(
          inputLists(this.#tokens, which, this.#of.known.inputs, listTier),
          CHUNK,
        )) {
          if (chunk++ % share.of !== share.part) continue
          await this.#tryChunk(way, lists)
          const elapsedMs = systemClock.elapsed() - begun
          const { length: matches } = this.#matches
          onProgress?.({ which, tried: this.#tried, matches, elapsedMs, timeLimitMs })
          if (elapsedMs > timeLimitMs) {
            timeUp = true
            break search
          }
          await new Promise(resolve => setImmediate(resolve))
        }
      }
      // What is rarer is not tried where something fits: it would be another way to say the same.
      if (this.#matches.length > 0) break
    }
    return this.#outcome(timeUp)
  }

  /** One way over many lists: on the first sample all, on the others what is left. */
  async #tryChunk(way: Way, lists: readonly (readonly ComputationInput[])[]): Promise<void> {
    const [card, ...others] = this.#cards
    if (card === undefined) return
    this.#tried += lists.length
    for (const { inputs, output } of await this.#hits(way, lists, card.material)) {
      const computation: Computation = { ...way, inputs, ...output, uncovered: [] }
      let fits = true
      for (const [i, { material }] of others.entries()) {
        fits &&= (await this.#compute(computation, material)) === this.#expected[i + 1]
      }
      if (fits) this.#matches.push(computation)
    }
  }

  async #hits(
    way: Way,
    lists: readonly (readonly ComputationInput[])[],
    material: Material,
  ): Promise<{ inputs: readonly ComputationInput[]; output: Output['as'] }[]> {
    const hits: { inputs: readonly ComputationInput[]; output: Output['as'] }[] = []
    const secrets: Uint8Array[] = []
    const keep = <B extends Uint8Array>(bytes: B): B => {
      secrets.push(bytes)
      return bytes
    }
    const ready = this.#ready(way)
    try {
      const computation: Computation = {
        ...way,
        inputs: [],
        outputBytes: 8,
        text: 'hex-upper',
        uncovered: [],
      }
      const derivation = derivationOf(computation, material, keep)
      const base = macRequestOf(computation, material, keep)
      const request = derivation === undefined ? base : { ...base, derivation }
      const driver = new SoftwareDriver([], this.#of.engine)
      const cache = new Map<ComputationInput, Uint8Array | undefined>()
      for (const input of new Set(lists.flat())) {
        const made = await assemble([input], material, ({ mode, padding }, plain) =>
          driver.mac(ready, { ...request, algorithm: `encipher-${mode}`, padding }, plain),
        ).catch(unlessOurs)
        cache.set(input, made && keep(made))
      }
      const waiting: Promise<void>[] = []
      for (const inputs of lists) {
        const parts: Uint8Array[] = []
        for (const input of inputs) {
          const bytes = cache.get(input)
          if (bytes === undefined) break
          parts.push(bytes)
        }
        if (parts.length < inputs.length) continue
        const message = keep(concatBytes(...parts))
        const hashed = way.digest === undefined ? message : keep(digestOf(way.digest, message))
        // All of a chunk in one turn: the engine computes them side by side.
        waiting.push(
          Promise.resolve(driver.mac(ready, request, hashed)).then(whole => {
            keep(whole)
            for (const { fits, as } of this.#outputs) if (fits(whole)) hits.push({ inputs, output: as })
          }),
        )
      }
      await Promise.all(waiting)
      return hits.filter(({ output }) => this.#sound(way, output))
    } catch (error) {
      unlessOurs(error)
      return []
    } finally {
      closeKey(ready)
      wipe(...secrets)
    }
  }

  /** Whether a profile admits this output for the way: of an encipherment, all of it or the last block. */
  #sound({ algorithm }: Way, { output }: Output['as']): boolean {
    return !enciphers(algorithm) || output === undefined || output.every(({ step }) => step === 'slice')
  }

  #ready({ algorithm, keyBytes }: Way): ReadyKey {
    const { cipher } = ALGORITHMS[algorithm]
    const name = KEY_ALGORITHM[`${cipher}${keyBytes}`]
    if (name === undefined) throw new ArgumentError('a test key has another length')
    const key: StoredKey = {
      kid: 'TEST',
      usage: 'prw-generate',
      mode: 'G',
      algorithm: name,
      bytes: this.#of.key,
    }
    return readyKey(key, this.#of.engine)
  }

  /** What a computation gives as text; undefined where it cannot be computed. */
  async #compute(computation: Computation, material: Material): Promise<string | undefined> {
    const ready = this.#ready(computation)
    const driver = new SoftwareDriver([], this.#of.engine)
    try {
      return await computeBy(
        (request, message) => driver.mac(ready, request, message),
        computation,
        material,
        output => showText(computation.text, output),
      )
    } catch (error) {
      return unlessOurs(error)
    } finally {
      closeKey(ready)
    }
  }

  async #outcome(timeUp: boolean): Promise<SearchOutcome> {
    const { profile, samples } = this.#of
    const challenges = challengesFor(profile, samples)
    const functions = new Map<string, { computation: Computation; answers: readonly string[] }>()
    for (const computation of this.#matches) {
      const answers: string[] = []
      for (const { material } of challenges) {
        answers.push((await this.#compute(computation, material)) ?? 'none')
      }
      const key = answers.join(' ')
      if (!functions.has(key)) functions.set(key, { computation, answers })
    }
    const found = [...functions.values()]
    const decidedBy = challenges.flatMap(({ what }, i) =>
      new Set(found.map(({ answers }) => answers[i])).size > 1 ? [what] : [],
    )
    const enough = new Set(samples.map(({ prwDataSet, prwValue }) => prwDataSet + prwValue)).size > 1
    const verdict =
      found.length === 0
        ? 'none'
        : !enough
          ? 'more-samples-needed'
          : found.length === 1
            ? 'winner'
            : 'ambiguous'
    return {
      tried: this.#tried,
      timeUp,
      matches: found.map(({ computation }) => computation),
      verdict,
      decidedBy,
    }
  }
}

/** Ways and lists, by tiers; common is 1. */
const TIERS: readonly (readonly [way: 1 | 2 | 3, list: 1 | 2 | 3])[] = [
  [1, 1],
  [1, 2],
  [2, 1],
  [3, 1],
  [1, 3],
  [2, 3],
  [3, 3],
]

const KEY_ALGORITHM: Readonly<Record<string, KeyAlgorithm>> = {
  tdea16: 'tdea-2key',
  tdea24: 'tdea-3key',
  aes16: 'aes-128',
  aes24: 'aes-192',
  aes32: 'aes-256',
  hmac32: 'hmac-sha256',
}

/** 1: MACs with a zero IV; 2: encipherments, other IVs, digests; 3: derived keys. */
function* waysOf({ known, key, profile, which }: SearchOf, tier: 1 | 2 | 3): Generator<Way> {
  const names = (Object.keys(ALGORITHMS) as ProfileAlgorithm[]).filter(name => {
    const { keyBytes, macUsage } = ALGORITHMS[name]
    const wanted = known.algorithm === undefined || known.algorithm === name
    return wanted && keyBytes.includes(key.length) && (which === 'prw' || macUsage !== undefined)
  })
  const keyBytes = key.length as Computation['keyBytes']
  for (const algorithm of names) {
    const rule = ALGORITHMS[algorithm]
    const paddings = known.padding === undefined ? rule.paddings : [known.padding]
    const ivs = known.iv === undefined ? ivsFor(algorithm, profile) : [known.iv]
    const digests =
      known.digest === undefined
        ? [undefined, 'sha-1' as const, 'sha-256' as const]
        : [digestKnown(known.digest)]
    const derivations = derivationsFor(known, algorithm, profile)
    for (const padding of paddings) {
      for (const [i, iv] of ivs.entries()) {
        for (const digest of digests) {
          for (const derivation of derivations) {
            const rare =
              (known.iv === undefined && i > 0) ||
              (known.digest === undefined && digest !== undefined) ||
              (known.algorithm === undefined && enciphers(algorithm))
            const derives = known.derivation === undefined && derivation !== undefined
            // A second rarity is only tried where the first was told.
            if ((derives ? 3 : rare ? 2 : 1) !== tier || (derives && rare)) continue
            yield {
              algorithm,
              padding,
              iv,
              keyBytes,
              ...(digest !== undefined && { digest }),
              ...(derivation !== undefined && { derivation }),
            }
          }
        }
      }
    }
  }
}

function digestKnown(digest: Digest | 'none'): Digest | undefined {
  return digest === 'none' ? undefined : digest
}

function ivsFor(algorithm: ProfileAlgorithm, { randomBytes }: SeccosProfile): Computation['iv'][] {
  const { hasIv, blockBytes } = ALGORITHMS[algorithm]
  if (!hasIv) return ['none']
  const count = '000102030405060708090A0B0C0D0E0F'.slice(0, 2 * blockBytes)
  return [
    '00'.repeat(blockBytes),
    ...(randomBytes === blockBytes ? [{ inputs: [{ input: 'random' }] } as const] : []),
    count,
    'FF'.repeat(blockBytes),
  ]
}

/** The derivations that are tried: EMV option A by PAN and PSN, a session key by the PCC, and one after the other. */
function derivationsFor(
  known: KnownComputation,
  algorithm: ProfileAlgorithm,
  profile: SeccosProfile,
): (readonly DerivationStep[] | undefined)[] {
  if (known.derivation !== undefined) return [known.derivation.length === 0 ? undefined : known.derivation]
  const { cipher, blockBytes } = ALGORITHMS[algorithm]
  if (cipher === 'hmac') return [undefined]
  const take = 2 * blockBytes
  const psn = profile.fields.some(({ id }) => id === 'psn')
  const pan = (digits: number): ComputationInput => ({
    input: 'pan',
    length: digits / 2,
    encoding: 'bcd',
    align: 'right',
    pad: '0',
    ...(digits < 19 && { part: { from: 'right', skip: 0, take: digits } }),
  })
  const card: DerivationStep[] = [
    ...(psn ? [[pan(take - 2), { input: 'field', id: 'psn' } as const]] : []),
    [pan(take)],
  ].map(inputs => ({ method: 'encipher', inputs, complement: true }) as const)
  const pcc = { input: 'pcc', length: 2, encoding: 'bcd', align: 'exact' } as const
  const half = (mark: string): ComputationInput[] => [
    pcc,
    { input: 'constant', constant: mark.padEnd(2 * (blockBytes - 2), '0') },
  ]
  const session: DerivationStep[] =
    blockBytes === 8
      ? [{ method: 'encipher', inputs: [...half('F0'), ...half('0F')], complement: false }]
      : [{ method: 'encipher', inputs: half('00'), complement: false }]
  return [
    undefined,
    ...card.map(step => [step]),
    ...session.map(step => [step]),
    ...card.flatMap(one => session.map(two => [one, two])),
  ]
}

function* chunked<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let chunk: T[] = []
  for (const item of items) {
    if (chunk.push(item) < size) continue
    yield chunk
    chunk = []
  }
  if (chunk.length > 0) yield chunk
}

function digestOf(digest: Digest, message: Uint8Array): Uint8Array {
  return ownCopy(
    createHash(digest === 'sha-1' ? 'sha1' : 'sha256')
      .update(message)
      .digest(),
  )
}

/** A coded error of ours says that something cannot be computed, and is no more than that here. */
function unlessOurs(error: unknown): undefined {
  if (!isIssuerPinError(error)) throw error
  return undefined
}

function requireTestKey(key: unknown): void {
  requireBytes(key, 'a test key')
  if (key.length !== 16 && key.length !== 24 && key.length !== 32) {
    throw new InputError('ERR_LENGTH', `a test key has 16, 24 or 32 bytes, not ${key.length}`)
  }
}

function lengthsOf(samples: readonly ProfileSample[]): Lengths {
  const externalLengths = new Map<string, number>()
  for (const { fields } of samples) {
    for (const [id, value] of Object.entries(fields ?? {})) {
      externalLengths.set(id, Math.max(value.length, externalLengths.get(id) ?? 0))
    }
  }
  return { panLengths: new Set(samples.map(({ pan }) => pan.length)), externalLengths }
}

function materialOf(profile: SeccosProfile, sample: ProfileSample): Material {
  const masked = dataSetFromHex(sample.prwDataSet)
  const { fields, ...content } = readChecked(profile, masked)
  const { prwDataSet: _d, macValue: _m, prwValue, ...values } = sample
  return {
    profile,
    masked,
    values: { ...content, ...values, fields: { ...fields, ...values.fields } },
    prw: { bytes: bytesOfText(prwValue), text: prwValue },
  }
}

/** The PRW as bytes: of a text that is no hex, its characters. */
function bytesOfText(text: string): Uint8Array {
  const hex = /^(?:[0-9A-Fa-f]{2})+$/.test(text)
  return ownCopy(
    bufferOf(new TextEncoder().encode(text)).length > 0 && hex
      ? Buffer.from(text, 'hex')
      : Buffer.from(text, 'latin1'),
  )
}

/** Lengths of PANs and PINs that are asked about where no sample has them. */
const PAN_LENGTHS: readonly number[] = [12, 13, 16, 19]
const PIN_LENGTHS: readonly number[] = [4, 5, 6, 8, 12]

/** Cards like the first sample's, but for one value: lengths that no sample has, and other content of each. */
function challengesFor(profile: SeccosProfile, samples: readonly ProfileSample[]): Card[] {
  const [first] = samples
  if (first === undefined) return []
  const base = materialOf(profile, first)
  const cards: Card[] = []
  const add = (what: string, change: DataSetValues): void => {
    const values = { ...base.values, ...change }
    try {
      const full = buildChecked(profile, values)
      cards.push({ what, material: { ...base, values, masked: maskChecked(profile, full) } })
    } catch (error) {
      unlessOurs(error)
    }
  }
  const unseen = (lengths: readonly number[], seen: readonly number[]): number[] =>
    lengths.filter(length => !seen.includes(length))
  for (const length of unseen(
    PAN_LENGTHS,
    samples.map(({ pan }) => pan.length),
  )) {
    add(`a PAN of ${length} digits`, { pan: Pan.from('4929123456789012347'.slice(0, length)) })
  }
  for (const length of unseen(
    PIN_LENGTHS,
    samples.map(({ pin }) => pin.length),
  )) {
    add(`a PIN of ${length} digits`, { pin: Pin.from('135790864213'.slice(0, length)) })
  }
  add('another PCC', { pcc: '8246' })
  add('another intdatag', { intdatag: 'a(search)challenge!1' })
  if (base.values.random !== undefined) {
    add('another random number', { random: base.values.random.map(byte => byte ^ 0x5a) })
  }
  for (const [id, value] of Object.entries(base.values.fields ?? {})) {
    const other =
      typeof value === 'string'
        ? value.replace(/[0-9]/g, digit => `${9 - Number(digit)}`)
        : value.map(byte => byte ^ 0x5a)
    add(`another ${id}`, { fields: { ...base.values.fields, [id]: other } })
  }
  return cards
}
