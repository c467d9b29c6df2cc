/** The ways to compute that the search tries: algorithm, padding, IV, digest and derived key, without the inputs. */
import { isWord, ownMembers } from '../../base/arguments.js'
import { ProfileError, requireOurs } from '../../base/errors.js'
import { rawOutputBytes, withUncovered } from '../../seccos/profile/coverage.js'
import { parseProfile } from '../../seccos/profile/parse.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  type DerivationStep,
  type Digest,
  enciphers,
  type ProfileAlgorithm,
  type SeccosProfile,
} from '../../seccos/profile/profile.js'
import type { Tier } from './lists.js'
import type { UnknownInput } from './tokens.js'

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

/** One way to compute, without the inputs. */
export type Way = Pick<Computation, 'algorithm' | 'padding' | 'iv' | 'keyBytes' | 'derivation' | 'digest'>

/** What ways are looked for. */
interface WaysOf {
  readonly known: KnownComputation
  readonly keyBytes: number
  readonly profile: SeccosProfile
  readonly which: 'prw' | 'mac'
}

/** 1: MACs with a zero IV; 2: encipherments, other IVs, digests; 3: derived keys. */
function* waysOf({ known, keyBytes, profile, which }: WaysOf, tier: Tier): Generator<Way> {
  const names = (Object.keys(ALGORITHMS) as ProfileAlgorithm[]).filter(name => {
    const { keyBytes: lengths, macUsage } = ALGORITHMS[name]
    const wanted = known.algorithm === undefined || known.algorithm === name
    return wanted && lengths.includes(keyBytes) && (which === 'prw' || macUsage !== undefined)
  })
  for (const algorithm of names) {
    const rule = ALGORITHMS[algorithm]
    const paddings = known.padding === undefined ? rule.paddings : [known.padding]
    const ivs = known.iv === undefined ? ivsFor(algorithm, profile) : [known.iv]
    for (const padding of paddings) {
      for (const [i, iv] of ivs.entries()) {
        for (const digest of digestsFor(known)) {
          for (const derivation of derivationsFor(known, algorithm, profile)) {
            const rare =
              (known.iv === undefined && i > 0) ||
              (known.digest === undefined && digest !== undefined) ||
              (known.algorithm === undefined && enciphers(algorithm))
            const derives = known.derivation === undefined && derivation !== undefined
            // A second rarity is only tried where the first was told.
            if ((derives ? 3 : rare ? 2 : 1) !== tier || (derives && rare)) continue
            yield ownMembers({
              algorithm,
              padding,
              iv,
              keyBytes: keyBytes as Computation['keyBytes'],
              ...(digest !== undefined && { digest }),
              ...(derivation !== undefined && { derivation }),
            })
          }
        }
      }
    }
  }
}

/** Ways that take the same bytes: one cipher, one derived key, one digest. What they compute over is put together once. */
export function* waySets(of: WaysOf, tier: Tier): Generator<readonly [Way, ...Way[]]> {
  const sets = new Map<string, [Way, ...Way[]]>()
  for (const way of waysOf(of, tier)) {
    const { algorithm, derivation, digest } = way
    const key = JSON.stringify([ALGORITHMS[algorithm].cipher, derivation, digest])
    const set = sets.get(key)
    if (set === undefined) sets.set(key, [way])
    else set.push(way)
  }
  yield* sets.values()
}

function digestsFor({ digest }: KnownComputation): readonly (Digest | undefined)[] {
  if (digest === undefined) return [undefined, 'sha-1', 'sha-256']
  return [digest === 'none' ? undefined : digest]
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

const KNOWN: readonly (keyof KnownComputation)[] = [
  'algorithm',
  'padding',
  'iv',
  'derivation',
  'digest',
  'inputs',
]

/**
 * Throws `ERR_PROFILE` for a known entry that no profile admits, with its place in the profile that would come of it; what is not
 * known is put there as simply as may be.
 */
export function requireKnown({ known, keyBytes, profile, which }: WaysOf): void {
  if (typeof known !== 'object' || known === null) throw new ProfileError(`/${which}`, 'must be an object')
  const stray = Object.keys(known).find(name => !KNOWN.some(member => member === name))
  if (stray !== undefined)
    throw new ProfileError(
      `/${which}/${isWord(stray) ? stray : '(a name that is no word)'}`,
      'is not a known member',
    )
  const algorithms = (Object.keys(ALGORITHMS) as ProfileAlgorithm[]).filter(name =>
    ALGORITHMS[name].keyBytes.includes(keyBytes),
  )
  let refused: unknown
  for (const algorithm of known.algorithm === undefined ? algorithms : [known.algorithm]) {
    try {
      requireOne({ known, keyBytes, profile, which }, algorithm)
      return
    } catch (error) {
      requireOurs(error)
      refused ??= error
    }
  }
  throw refused
}

/** What is known, with one algorithm, and else as it mostly is. */
function requireOne({ known, keyBytes, profile, which }: WaysOf, algorithm: ProfileAlgorithm): void {
  const must: ComputationInput = which === 'prw' ? { input: 'pinBlock' } : { input: 'prw', form: 'binary' }
  const { paddings, hasIv, blockBytes } =
    ALGORITHMS[Object.hasOwn(ALGORITHMS, algorithm) ? algorithm : 'cmac-aes']
  const { padding = paddings[0] as Computation['padding'], iv, derivation, digest, inputs } = known
  const computation: Computation = {
    algorithm,
    padding,
    iv: iv ?? (hasIv ? '00'.repeat(blockBytes) : 'none'),
    keyBytes: keyBytes as Computation['keyBytes'],
    ...(derivation !== undefined && derivation.length !== 0 && { derivation }),
    inputs: filledWith(must, inputs),
    ...(digest !== undefined && digest !== 'none' && { digest }),
    outputBytes: 8,
    text: 'hex-upper',
    uncovered: [],
  }
  const draft: SeccosProfile = ownMembers({ ...profile, [which]: computation })
  const place = (error: unknown): string => String((error as Partial<ProfileError>).path)
  const parse = (json: SeccosProfile): void => {
    try {
      parseProfile(json)
    } catch (error) {
      // How long an encipherment is comes of its inputs: they are sound by now. Of a long one, the last block of CBC.
      if (place(error) !== `/${which}/outputBytes`) throw error
      const raw = rawOutputBytes(json, json[which])
      const part = { from: 'right', skip: 0, take: blockBytes } as const
      const last = { output: [{ step: 'slice', part }], outputBytes: blockBytes } as const
      parseProfile({ ...json, [which]: { ...json[which], ...(raw > 32 ? last : { outputBytes: raw }) } })
    }
  }
  try {
    parse(draft)
  } catch (error) {
    if (!place(error).endsWith('/uncovered')) throw error
    parse(withUncovered(draft))
  }
}

/** The list with its holes filled. The parser looks at its entries, and at what is no list. */
function filledWith(must: ComputationInput, inputs: KnownComputation['inputs']): readonly ComputationInput[] {
  if (inputs === undefined) return [must]
  if (!Array.isArray(inputs)) return inputs as readonly ComputationInput[]
  return inputs.map(one => (one?.input === 'unknown' ? must : one))
}
