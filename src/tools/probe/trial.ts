/** Trying candidates on samples: every algorithm that the key fits, every candidate, every sample. */
import { createCipheriv, createHash } from 'node:crypto'
import {
  concatBytes,
  copyInto,
  equalBytes,
  ownCopy,
  secretBytes,
  wipe,
  withWiped,
  xorInto,
} from '../../base/bytes.js'
import { ArgumentError, InputError } from '../../base/errors.js'
import { type BlockCipher, splitRetailKey } from '../../primitives/iso9797.js'
import { computeMac, type MacCiphers, type MacComputation } from '../../primitives/mac.js'
import { readText, TEXT_FORM_NAMES, textLength } from '../../seccos/profile/forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  type PinForm,
  type ProfileAlgorithm,
  type TextForm,
} from '../../seccos/profile/profile.js'
import type { Candidate, Layout, PreparedSample } from './candidates.js'

/** A computation that reproduces all samples. */
export interface ProbeMatch {
  readonly algorithm: ProfileAlgorithm
  readonly padding: Computation['padding']
  readonly keyBytes: Computation['keyBytes']
  readonly inputs: readonly ComputationInput[]
  readonly pinForm: PinForm | undefined
  /** Where PAN and PIN block are in the full data set, if the inputs have it. */
  readonly layout: Layout
  readonly outputBytes: number
  readonly text: TextForm
}

/** What came out for the PRW, or for the MAC. */
export interface ProbeOutcome {
  /** Computations that were tried on the first sample. */
  readonly tried: number
  /**
   * All that reproduce the samples. Those that compute over the same bytes for any card are one match: they are compared
   * on the samples, and on PANs and PINs of lengths that no sample has.
   */
  readonly matches: readonly ProbeMatch[]
  /** What a further sample must have, for the matches to be told apart. Empty where nothing that is tried tells them. */
  readonly decidedBy: readonly string[]
  /** `winner`: one match, from two different samples or more, and no other that differs where no sample looks. */
  readonly verdict: 'winner' | 'ambiguous' | 'none' | 'more-samples-needed'
}

/** One way to read the PRWs, or MACs, of the samples. */
export interface Target {
  readonly text: TextForm
  readonly outputBytes: number
  readonly values: readonly Uint8Array[]
}

/** Every text form and length that fits all samples; the same bytes in two forms count as the first. `ERR_ENCODING`. */
export function targetsOf(name: string, texts: readonly string[]): readonly [Target, ...Target[]] {
  const targets: Target[] = []
  for (const text of TEXT_FORM_NAMES.filter(name => name !== 'digits')) {
    for (let outputBytes = 4; outputBytes <= 16; outputBytes++) {
      const values = texts
        .map(value => read(text, outputBytes, value, name))
        .filter(value => value !== undefined)
      const known = targets.some(target => target.values.every((value, i) => sameBytes(value, values[i])))
      if (values.length === texts.length && !known) targets.push({ text, outputBytes, values })
    }
  }
  const [first, ...others] = targets
  if (first !== undefined) return [first, ...others]
  throw new InputError(
    'ERR_ENCODING',
    `${name} is not 4 to 16 bytes in a text form that is known, in all samples`,
  )
}

function read(text: TextForm, bytes: number, value: string, name: string): Uint8Array | undefined {
  if (typeof value !== 'string') throw new ArgumentError(`${name} must be a string`)
  if (value.length !== textLength(text, bytes)) return undefined
  try {
    return readText(text, bytes, value, name)
  } catch {
    return undefined
  }
}

function sameBytes(one: Uint8Array, other: Uint8Array | undefined): boolean {
  return other !== undefined && equalBytes(one, other)
}

/** A card that no sample has, to tell apart what the samples cannot. */
export interface Challenge {
  /** What is special about it: `a PAN of 19 digits`. */
  readonly what: string
  readonly sample: PreparedSample
}

interface Trial {
  readonly challenges: readonly Challenge[]
  readonly candidates: readonly Candidate[]
  readonly key: Uint8Array
  readonly targets: readonly Target[]
  readonly samples: readonly PreparedSample[]
  /** Whether the samples allow to name a winner. */
  readonly enough: boolean
}

/** Tries everything and says what reproduces all samples. */
export function tryAll({ candidates, key, targets, samples, enough, challenges }: Trial): ProbeOutcome {
  const matches = new Map<string, ProbeMatch>()
  const answers: string[][] = []
  const ways = waysFor(key)
  let tried = 0
  for (const candidate of candidates) {
    const messages = samples.map(candidate.message).filter(message => message !== undefined)
    try {
      if (messages.length < samples.length) continue
      for (const { algorithm, padding, ciphers } of ways) {
        tried++
        const compute = (message: Uint8Array): Uint8Array =>
          computeMac(
            { algorithm: ALGORITHMS[algorithm].port as MacComputation['algorithm'], padding, iv: undefined },
            ciphers,
            message,
          )
        const target = firstHit(targets, messages, compute)
        if (target === undefined) continue
        // Candidates that are the same function cannot be told apart by any sample: the first stands for all.
        const answer = challenges.map(({ sample }) => fingerprint(candidate.message(sample)))
        const same = [algorithm, padding, fingerprint(concatBytes(...messages)), ...answer].join(' ')
        if (matches.has(same)) continue
        answers.push(answer)
        const { inputs, layout, pinForm } = candidate
        const { text, outputBytes } = target
        const keyBytes = key.length as Computation['keyBytes']
        matches.set(same, { algorithm, padding, keyBytes, inputs, layout, pinForm, outputBytes, text })
      }
    } finally {
      wipe(...messages)
    }
  }
  const decidedBy = challenges.filter((_, i) => new Set(answers.map(answer => answer[i])).size > 1)
  return {
    tried,
    matches: [...matches.values()],
    decidedBy: decidedBy.map(({ what }) => what),
    verdict: verdictOn(matches.size, enough),
  }
}

/** A message by its hash, so that nothing of a PIN stays; of one that cannot be made, that. */
function fingerprint(message: Uint8Array | undefined): string {
  if (message === undefined) return 'none'
  const hash = createHash('sha256').update(message).digest('base64')
  wipe(message)
  return hash
}

function verdictOn(matches: number, enough: boolean): ProbeOutcome['verdict'] {
  if (matches === 0) return 'none'
  if (!enough) return 'more-samples-needed'
  return matches === 1 ? 'winner' : 'ambiguous'
}

/** The target that the MACs of all messages hit; most candidates miss with the first. */
function firstHit(
  targets: readonly Target[],
  messages: readonly Uint8Array[],
  compute: (message: Uint8Array) => Uint8Array,
): Target | undefined {
  let left = targets
  for (const [i, message] of messages.entries()) {
    const mac = compute(message)
    left = left.filter(({ values, outputBytes }) => sameBytes(mac.subarray(0, outputBytes), values[i]))
    if (left.length === 0) return undefined
  }
  return left[0]
}

const MACS: readonly ProfileAlgorithm[] = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac-tdea', 'cmac-aes']

/** Each algorithm that takes a key of this length, with each of its paddings. */
function waysFor(key: Uint8Array): {
  algorithm: ProfileAlgorithm
  padding: Computation['padding']
  ciphers: MacCiphers
}[] {
  return MACS.filter(name => ALGORITHMS[name].keyBytes.includes(key.length)).flatMap(algorithm => {
    const ciphers = testCiphers(key, ALGORITHMS[algorithm].cipher as 'tdea' | 'aes')
    return ALGORITHMS[algorithm].paddings.map(padding => ({ algorithm, padding, ciphers }))
  })
}

/** node:crypto ciphers under clear test-key bytes. */
export function testCiphers(key: Uint8Array, cipher: 'tdea' | 'aes'): MacCiphers {
  if (cipher === 'aes') return { last: cbc(`aes-${8 * key.length}-cbc`, key, 16) }
  const { chain, last } = splitRetailKey(key)
  const name = last.length === 16 ? 'des-ede-cbc' : 'des-ede3-cbc'
  try {
    return { chain: cbc('des-ede3-cbc', chain, 8), last: cbc(name, last, 8) }
  } finally {
    // A stream has a key of its own.
    wipe(chain, last)
  }
}

/**
 * One CBC stream for all messages, as to set a cipher up takes longer than to encipher a few blocks: the first block of a
 * message is XORed with what the stream's last block will be XORed in with, and so begins at its own IV.
 */
function cbc(name: string, key: Uint8Array, blockBytes: 8 | 16): BlockCipher {
  const state = secretBytes(blockBytes)
  const stream = createCipheriv(name, key, state).setAutoPadding(false)
  return {
    blockBytes,
    encipherCbc: (iv, data) => {
      // A part of a block would stay in the stream, and go into whatever comes next.
      if (iv.length !== blockBytes || data.length === 0 || data.length % blockBytes !== 0) {
        throw new ArgumentError(`an IV of ${blockBytes} bytes and whole blocks are to be enciphered`)
      }
      return withWiped(ownCopy(data), input => {
        const first = input.subarray(0, blockBytes)
        xorInto(first, iv)
        xorInto(first, state)
        const output = stream.update(input)
        copyInto(state, output.subarray(-blockBytes))
        return output
      })
    },
  }
}
