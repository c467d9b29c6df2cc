/**
 * Verifying the PIN of a block, as steps that do not know who enciphers: a backend runs them as one job on one session, a driver
 * that has no such job is led through them by the front, and two backends by the verb.
 *
 *     against a block    D(block), D(kept block)                                   compare the digits
 *     against a PVV      D(block), E(PAN digits ‖ PVKI ‖ PIN digits) -> 4 digits    compare with the PVV
 *     against an offset  D(block), E(digits of the PAN, padded) -> natural PIN      compare the PIN with natural PIN + offset
 *
 * What is kept between two steps is wiped at the end, also where a step fails.
 */
import { copyInto, equalBytes, ownCopy, secretBytes, wipe } from '../../base/bytes.js'
import { PinBlockError } from '../../base/errors.js'
import { type Pan, panDigits, panOfDigits } from '../../primitives/pan.js'
import { FORMATS, type SupportedFormat } from './formats.js'

/** What a PIN is held against, and by which rule. */
export type PinRule =
  | { readonly kind: 'block'; readonly format: SupportedFormat }
  | { readonly kind: 'pvv'; readonly pvki: number }
  | {
      readonly kind: 'offset'
      readonly decimalisation: string
      readonly validation: { readonly from: number; readonly length: number; readonly pad: string }
    }

/** One verification as plain data, with its byte arrays at the top: it goes to a worker or to another process as it is. */
export interface PinVerification {
  /** The block whose PIN is verified, under the first key, and its format: 0, 3 or 4. */
  readonly block: Uint8Array
  readonly format: SupportedFormat
  /** The digits of the PAN, a byte each. */
  readonly pan: Uint8Array
  readonly rule: PinRule
  /** A block under the second key; or the digits of a PVV or an offset, a byte each. */
  readonly kept: Uint8Array
}

/** `no-block`: one of the blocks is not one of its format for this PAN. */
export type PinComparison = 'same' | 'different' | 'no-block'

/** What is to be done next, and under which of the two keys. */
export interface PinStep {
  readonly under: 'first' | 'second'
  readonly by: 'encipher' | 'decipher'
  readonly block: Uint8Array
  /** Comes between two runs of the cipher, where the format has a PAN field. */
  readonly field: Uint8Array | undefined
}

/** A verification that is under way: takes what each step gave. */
type PinSteps = Generator<PinStep, PinComparison, Uint8Array>

/** The steps of a verification: two at most. */
export function* verificationSteps({ block, format, pan, rule, kept }: PinVerification): PinSteps {
  const owner = panOfDigits(ownCopy(pan))
  const secrets: Uint8Array[] = [panDigits(owner)]
  const own = <B extends Uint8Array>(bytes: B): B => {
    secrets.push(bytes)
    return bytes
  }
  function* open(
    under: PinStep['under'],
    of: SupportedFormat,
    enciphered: Uint8Array,
  ): Generator<PinStep, PlainDigits, Uint8Array> {
    const row = FORMATS[of]
    let field: Uint8Array | undefined
    if (row.panField !== undefined) {
      field = own(secretBytes(row.bytes))
      row.panField(owner, field, 0)
    }
    const clear = own(yield { under, by: 'decipher', block: enciphered, field })
    return plainDigits(own(row.nibbles({ block: clear, pan: owner })))
  }
  try {
    const pin = yield* open('first', format, block)
    if (rule.kind === 'block') {
      const due = yield* open('second', rule.format, kept)
      return verdictOf(equalBytes(pin.digits, due.digits), pin.bad | due.bad)
    }
    const question = own(
      rule.kind === 'pvv' ? pvvQuestion(rule, owner, pin.digits) : offsetQuestion(rule, owner),
    )
    const answer = own(yield { under: 'second', by: 'encipher', block: question, field: undefined })
    if (rule.kind === 'pvv') return verdictOf(equalBytes(own(pvvAnswer(answer)), kept), pin.bad)
    const natural = own(offsetAnswer(rule, answer))
    const due = own(secretBytes(kept.length))
    for (const [i, digit] of kept.entries()) due[i] = (digit + at(natural, i)) % 10
    return verdictOf(equalBytes(due, pin.digits), pin.bad)
  } catch (error) {
    if (error instanceof PinBlockError) return 'no-block'
    throw error
  } finally {
    wipe(...secrets)
  }
}

/** Runs the steps where the cipher answers at once. */
export function runSteps(steps: PinSteps, cipher: (step: PinStep) => Uint8Array): PinComparison {
  try {
    let next = steps.next()
    while (next.done !== true) next = steps.next(cipher(next.value))
    return next.value
  } finally {
    steps.return('no-block')
  }
}

/** Runs the steps where the cipher answers later. */
export async function runStepsLater(
  steps: PinSteps,
  cipher: (step: PinStep) => Uint8Array | Promise<Uint8Array>,
): Promise<PinComparison> {
  try {
    let next = steps.next()
    while (next.done !== true) next = steps.next(await cipher(next.value))
    return next.value
  } finally {
    steps.return('no-block')
  }
}

function verdictOf(equal: boolean, bad: number): PinComparison {
  return equal && bad === 0 ? 'same' : 'different'
}

/** The nibbles where a PIN is, with nines for those that are no digits; `bad` is not zero where there were any. */
interface PlainDigits {
  readonly digits: Uint8Array
  readonly bad: number
}

/** In place, and the same work for every PIN: that a nibble is no digit shows in the verdict alone. */
export function plainDigits(nibbles: Uint8Array): PlainDigits {
  let bad = 0
  for (const [i, nibble] of nibbles.entries()) {
    const above = (9 - nibble) >> 31
    bad |= above
    nibbles[i] = (nibble & ~above) | (9 & above)
  }
  return { digits: nibbles, bad }
}

/** The block of a PVV: 11 PAN digits before the check digit, the key's index, 4 PIN digits. Source: Visa, as IBM CCA documents it. */
export function pvvQuestion({ pvki }: { readonly pvki: number }, pan: Pan, pin: Uint8Array): Uint8Array {
  const nibbles = secretBytes(16)
  copyInto(nibbles, panDigits(pan).subarray(-12, -1))
  nibbles[11] = pvki
  copyInto(nibbles, pin.subarray(0, 4), 12)
  return packed(nibbles)
}

/** The digits of the PVV: those among the nibbles first, then A to F less ten. All nibbles are read, whatever they hold. */
export function pvvAnswer(block: Uint8Array): Uint8Array {
  const nibbles = unpacked(block)
  const digits = secretBytes(32)
  let count = 0
  for (const letters of [false, true]) {
    for (const nibble of nibbles) {
      digits[count] = letters ? nibble - 10 : nibble
      count += nibble > 9 === letters ? 1 : 0
    }
  }
  const pvv = ownCopy(digits.subarray(0, 4))
  wipe(nibbles, digits)
  return pvv
}

type OffsetRule = Omit<Extract<PinRule, { readonly kind: 'offset' }>, 'kind'>

/** The block of an IBM 3624 PIN: digits of the PAN, padded. Source: IBM CCA. */
export function offsetQuestion({ validation }: OffsetRule, pan: Pan): Uint8Array {
  const { from, length, pad } = validation
  const nibbles = secretBytes(16)
  nibbles.fill(Number.parseInt(pad, 16))
  copyInto(nibbles, panDigits(pan).subarray(from, from + length))
  return packed(nibbles)
}

/** 16 digits of the natural PIN, of which as many count as the PIN has. */
export function offsetAnswer({ decimalisation }: OffsetRule, block: Uint8Array): Uint8Array {
  const nibbles = unpacked(block)
  for (const [i, nibble] of nibbles.entries()) {
    let digit = 0
    // Every entry of the table is read: which one counts shows in no memory access.
    for (let entry = 0; entry < 16; entry++) {
      const isIt = ((nibble ^ entry) - 1) >> 31
      digit |= (decimalisation.charCodeAt(entry) - 0x30) & isIt
    }
    nibbles[i] = digit
  }
  return nibbles
}

/** A byte that is there: no caller here looks behind the end. */
function at(bytes: Uint8Array, i: number): number {
  return Number(bytes[i])
}

/** 16 nibbles as one block; they are wiped. */
function packed(nibbles: Uint8Array): Uint8Array {
  const block = secretBytes(8)
  for (const i of block.keys()) block[i] = (at(nibbles, 2 * i) << 4) | at(nibbles, 2 * i + 1)
  wipe(nibbles)
  return block
}

function unpacked(block: Uint8Array): Uint8Array {
  const nibbles = secretBytes(16)
  for (const [i, byte] of block.entries()) {
    nibbles[2 * i] = byte >> 4
    nibbles[2 * i + 1] = byte & 0xf
  }
  return nibbles
}
