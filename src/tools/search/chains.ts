/**
 * Thousands of messages under one key, computed side by side: all first blocks together, then all second ones, so that a cipher
 * is called once for a thousand blocks. What the messages begin with is computed once.
 */
import { createHash } from 'node:crypto'
import { hmacSha256, type ReadyKey } from '../../backend/software/keys.js'
import { concatBytes, ownCopy, secretBytes, wipe, withWiped } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'
import type { BlockCipher } from '../../primitives/iso9797.js'
import { cmacSubkey } from '../../primitives/mac.js'
import { ALGORITHMS, type Digest, enciphers } from '../../seccos/profile/profile.js'
import type { Way } from './ways.js'

/** Messages: what all begin with, and then of each its parts. */
export interface Messages {
  readonly prefix: Uint8Array
  readonly tails: readonly (readonly Uint8Array[])[]
}

/**
 * Hears what comes out for a message: in these bytes, from `at` on, so many. Of an encipherment of more than 32 bytes only the last
 * block is there.
 */
type Hear = (index: number, bytes: Uint8Array, at: number, length: number) => void

/** A cipher that takes many blocks in one call. */
interface ManyBlocks extends BlockCipher {
  encipher(blocks: Uint8Array): Uint8Array
}

/** The longest result that is compared as a whole: D1's prwValue admits 64 hex digits. */
const WHOLE_BYTES = 32
const NOTHING = secretBytes(0)
/** What padding begins with. */
const MARK = secretBytes(1).fill(0x80)

/** Computes every message by the way; `iv` is one block, all zero where the algorithm has none. `wants`: lengths of results. */
export function computeMany(
  { algorithm, padding }: Pick<Way, 'algorithm' | 'padding'>,
  key: ReadyKey,
  iv: Uint8Array,
  { prefix, tails }: Messages,
  { hear, wants }: { readonly hear: Hear; readonly wants: (length: number) => boolean },
): void {
  if (algorithm === 'hmac-sha256') {
    const { hmac = NOTHING } = key
    for (const [i, tail] of tails.entries()) {
      const mac = withWiped(concatBytes(prefix, ...tail), message => hmacSha256(hmac, message))
      hear(i, mac, 0, mac.length)
      wipe(mac)
    }
    return
  }
  const { port } = ALGORITHMS[algorithm]
  const cipher: ManyBlocks | undefined = key.tdea ?? key.aes
  const chain = port === 'iso9797-1-alg3' ? key.retailChain : cipher
  if (cipher === undefined || chain === undefined) throw new ArgumentError('the key has no cipher')
  const { blockBytes } = cipher
  // One byte at least stays for the last block, which some algorithms treat otherwise.
  const shared = Math.floor(Math.max(0, prefix.length - 1) / blockBytes) * blockBytes
  const rest = prefix.subarray(shared)
  const lengths = tails.map(tail => tail.reduce((sum, part) => sum + part.length, rest.length))
  for (const [blocks, indices] of byBlocks(lengths, padding, blockBytes)) {
    const whole = shared + blocks * blockBytes
    if (enciphers(algorithm) && !wants(whole)) continue
    for (const group of padding === 3 ? byLength(indices, lengths) : [indices]) {
      const bits = 8 * (shared + (lengths[group[0] as number] as number))
      const begin = chainBegin({ chain, iv, padding, bits }, prefix.subarray(0, shared))
      const steps = columns({ blocks, blockBytes, padding }, group, rest, { tails, lengths })
      try {
        if (port === 'cmac') maskLast(steps, { blocks, blockBytes }, group, lengths, cipher)
        const states = port === 'encipher-ecb' ? undefined : begin.state
        const done = chained(steps, states, { chain, cipher, blockBytes, count: group.length })
        try {
          tell({ done, begin: begin.enciphered(port === 'encipher-ecb'), whole, blockBytes }, group, hear, {
            all: enciphers(algorithm),
          })
        } finally {
          wipe(...done)
        }
      } finally {
        wipe(...steps, begin.state)
      }
    }
  }
}

/** The hashes of the messages, as messages. The caller wipes them. */
export function hashed(digest: Digest, { prefix, tails }: Messages): Messages {
  const name = digest === 'sha-1' ? 'sha1' : 'sha256'
  const begun = createHash(name).update(prefix)
  const hash = (tail: readonly Uint8Array[]): Uint8Array => {
    const own = begun.copy()
    for (const part of tail) own.update(part)
    return own.digest()
  }
  return { prefix: NOTHING, tails: tails.map(tail => [hash(tail)]) }
}

/** Messages by how many blocks they have after padding, without those that all share. */
function byBlocks(
  lengths: readonly number[],
  padding: Way['padding'],
  blockBytes: number,
): Map<number, number[]> {
  const groups = new Map<number, number[]>()
  for (const [i, length] of lengths.entries()) {
    const blocks =
      padding === 2 ? Math.floor(length / blockBytes) + 1 : Math.max(1, Math.ceil(length / blockBytes))
    const group = groups.get(blocks)
    if (group === undefined) groups.set(blocks, [i])
    else group.push(i)
  }
  return groups
}

/** For padding 3, which begins with the length. */
function byLength(indices: readonly number[], lengths: readonly number[]): number[][] {
  const groups = new Map<number, number[]>()
  for (const i of indices) {
    const length = lengths[i] as number
    groups.set(length, [...(groups.get(length) ?? []), i])
  }
  return [...groups.values()]
}

/** The state after what all messages begin with, and for an encipherment what it is until there. */
function chainBegin(
  {
    chain,
    iv,
    padding,
    bits,
  }: {
    readonly chain: ManyBlocks
    readonly iv: Uint8Array
    readonly padding: Way['padding']
    readonly bits: number
  },
  shared: Uint8Array,
): { readonly state: Uint8Array; readonly enciphered: (ecb: boolean) => Uint8Array } {
  const { blockBytes } = chain
  let state = ownCopy(iv)
  const next = (data: Uint8Array): void => {
    state = withWiped(state, before =>
      withWiped(chain.encipherCbc(before, data), out => ownCopy(out.subarray(-blockBytes))),
    )
  }
  if (padding === 3) {
    const length = secretBytes(blockBytes)
    new DataView(length.buffer).setUint32(blockBytes - 4, bits)
    next(length)
  }
  if (shared.length > 0) next(shared)
  return {
    state,
    enciphered: ecb =>
      shared.length === 0 ? NOTHING : ecb ? chain.encipher(shared) : chain.encipherCbc(iv, shared),
  }
}

interface Shape {
  readonly blocks: number
  readonly blockBytes: number
}

/** The messages of a group, padded: of each step all blocks, one after the other. */
function columns(
  { blocks, blockBytes, padding }: Shape & { readonly padding: Way['padding'] },
  group: readonly number[],
  rest: Uint8Array,
  { tails, lengths }: { readonly tails: Messages['tails']; readonly lengths: readonly number[] },
): Uint8Array[] {
  const size = group.length * blockBytes
  const room = secretBytes(blocks * size)
  const steps = Array.from({ length: blocks }, (_, i) => room.subarray(i * size, (i + 1) * size))
  for (const [lane, index] of group.entries()) {
    // Padding 2 of ISO/IEC 9797-1, and that of a last block of CMAC which is not full.
    const open = (lengths[index] as number) % blockBytes > 0 || lengths[index] === 0
    const parts = [
      rest,
      ...(tails[index] as Messages['tails'][number]),
      ...(padding === 2 || (padding === 'none' && open) ? [MARK] : []),
    ]
    const begin = lane * blockBytes
    let step = 0
    let at = begin
    for (const part of parts) {
      for (let i = 0; i < part.length; i++) {
        const column = steps[step] as Uint8Array
        column[at++] = part[i] as number
        if (at === begin + blockBytes) {
          at = begin
          step++
        }
      }
    }
  }
  return steps
}

function maskLast(
  steps: readonly Uint8Array[],
  { blocks, blockBytes }: Shape,
  group: readonly number[],
  lengths: readonly number[],
  cipher: ManyBlocks,
): void {
  const last = steps[blocks - 1] as Uint8Array
  const full = cmacSubkey(cipher, true)
  const open = cmacSubkey(cipher, false)
  for (const [lane, index] of group.entries()) {
    const mask = lengths[index] === blocks * blockBytes ? full : open
    for (let i = 0; i < blockBytes; i++) {
      const at = lane * blockBytes + i
      last[at] = (last[at] as number) ^ (mask[i] as number)
    }
  }
  wipe(full, open)
}

/** What each step gives, all but the last under `chain`; without a state each block by itself. */
function chained(
  steps: readonly Uint8Array[],
  begin: Uint8Array | undefined,
  {
    chain,
    cipher,
    blockBytes,
    count,
  }: {
    readonly chain: ManyBlocks
    readonly cipher: ManyBlocks
    readonly blockBytes: number
    readonly count: number
  },
): Uint8Array[] {
  const done: Uint8Array[] = []
  for (const [i, step] of steps.entries()) {
    const before = done[i - 1]
    if (begin !== undefined) {
      for (let at = 0; at < count * blockBytes; at++) {
        const mixed = before === undefined ? begin[at % blockBytes] : before[at]
        step[at] = (step[at] as number) ^ (mixed as number)
      }
    }
    done.push((i === steps.length - 1 ? cipher : chain).encipher(step))
  }
  return done
}

function tell(
  {
    done,
    begin,
    whole,
    blockBytes,
  }: {
    readonly done: readonly Uint8Array[]
    readonly begin: Uint8Array
    readonly whole: number
    readonly blockBytes: number
  },
  group: readonly number[],
  hear: Hear,
  { all }: { readonly all: boolean },
): void {
  const last = done.at(-1) as Uint8Array
  for (const [lane, index] of group.entries()) {
    const at = lane * blockBytes
    if (!all) hear(index, last, at, blockBytes)
    else if (whole > WHOLE_BYTES) hear(index, last, at + blockBytes - whole, whole)
    else {
      const blocks = done.map(step => step.subarray(at, at + blockBytes))
      withWiped(concatBytes(begin, ...blocks), bytes => hear(index, bytes, 0, whole))
    }
  }
  wipe(begin)
}
