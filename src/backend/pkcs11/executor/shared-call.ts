/**
 * One native call for many callers: queued ECB jobs of one key and direction, up to 8192 blocks, each caller getting its own
 * part. One block more goes with them, whose answer is known: the zero block, which shows the key's check value, or the
 * first block once more. Where it comes back wrong nobody gets anything.
 */

import { copyInto, equalBytes, fromHex, ownCopy, secretBytes, wipe } from '../../../base/bytes.js'
import { blockBytesOf } from '../../../primitives/algorithms.js'
import { MAX_INPUT_BYTES } from '../../checks.js'
import type { KeyRef } from '../keys/key-table.js'
import { wrongAnswer } from '../mechanisms/cipher.js'
import type { Callers, Entry } from './callers.js'
import type { BlocksJob, JobName } from './executor.js'

export type Batch = readonly [Entry, ...Entry[]]

/** So many callers at least make a native call where lanes are free for more. */
export const SHARE = 128

/** Jobs that can be put together: ECB under one key. */
const ECB: readonly JobName[] = ['encipher', 'decipher']

/** Whose turn is next, and those behind it that can share its call, where `lanes` are free for all that wait. */
export function takeTogether(callers: Callers, first: Entry, lanes: number): Batch {
  const batch: [Entry, ...Entry[]] = [first]
  callers.begin(first)
  if (first.alone || !ECB.includes(first.name)) return batch
  const { key, blocks, fields } = first.job as BlocksJob
  let bytes = blocks.length + blockBytesOf(key.algorithm)
  const waiting = callers.waiting + 1
  const share = Math.ceil(waiting / Math.max(1, Math.min(lanes, Math.floor(waiting / SHARE))))
  for (const entry of callers.queued()) {
    if (entry.name !== first.name || entry.alone) continue
    const other = entry.job as BlocksJob
    if ((fields === undefined) !== (other.fields === undefined)) continue
    if (!isSameKey(key, other.key) || bytes + other.blocks.length > MAX_INPUT_BYTES) continue
    bytes += other.blocks.length
    callers.begin(entry)
    batch.push(entry)
    if (bytes === MAX_INPUT_BYTES || batch.length >= share) break
  }
  return batch
}

/** The job of a batch, and the check of its answer. */
interface SharedCall {
  readonly name: 'encipher'
  readonly job: BlocksJob
  /** Wipes the answer and throws `ERR_PKCS11_SELF_TEST` where the known block, or the length, is wrong. */
  check(answer: Uint8Array): void
  wipe(): void
}

export function sharedCall(batch: Batch): SharedCall {
  const [first] = batch
  const { key, fields } = first.job as BlocksJob
  const width = blockBytesOf(key.algorithm)
  // What the zero block becomes is known where the key shows it as its check value.
  const zero = first.name === 'encipher' && !fields && key.checkValue.method === 'encrypt-zero'
  const expected = zero ? fromHex(key.checkValue.value, 'check value') : undefined
  const together = joined(batch, 'blocks', width, !zero)
  let between: { readonly fields?: Uint8Array } = {}
  try {
    if (fields !== undefined) between = { fields: joined(batch, 'fields', width, true) }
  } catch (error) {
    wipe(together)
    throw error
  }
  return {
    name: first.name as 'encipher',
    job: { key, blocks: together, ...between },
    check: answer => {
      const last = answer.subarray(answer.length - width)
      const value = expected ?? answer.subarray(0, width)
      // Of another length, everybody's part would be where another's is.
      const isWhole = answer.length === together.length
      if (isWhole && equalBytes(last.subarray(0, value.length), value)) return
      wipe(answer)
      throw wrongAnswer('answers a block among others wrongly')
    },
    wipe: () => wipe(together, between.fields),
  }
}

/** What the jobs of a batch have one by one in one piece, and at its end one block more: the first again, or zeros. */
function joined(batch: Batch, part: 'blocks' | 'fields', width: number, again: boolean): Uint8Array {
  const parts = batch.map(({ job }) => (job as Required<BlocksJob>)[part])
  const whole = secretBytes(parts.reduce((length, bytes) => length + bytes.length, width))
  let at = 0
  for (const bytes of parts) {
    copyInto(whole, bytes, at)
    at += bytes.length
  }
  if (again) copyInto(whole, whole.subarray(0, width), at)
  return whole
}

/** A caller's part of the answer: in memory of its own, but where the caller has memory for it. */
export function answerPart(entry: Entry, whole: Uint8Array, from: number): Uint8Array {
  const part = whole.subarray(from, from + bytesOf(entry))
  return entry.into === undefined ? ownCopy(part) : part
}

export function bytesOf({ job }: Entry): number {
  return (job as BlocksJob).blocks.length
}

function isSameKey(a: KeyRef, b: KeyRef): boolean {
  return a.name === b.name
}
