/**
 * What a PIN block format is to the verbs: one row of the table of formats; and the PIN field, which all formats begin with:
 *
 *     C N P P P P p p p p p p p p x x     C control, N = 4…C, P digit, p digit or filler, x filler
 */
import { randomFillSync } from 'node:crypto'
import { ownCopy, requireBytes, secretBytes, snapshot, wipe } from '../../base/bytes.js'
import { PinBlockError } from '../../base/errors.js'
import type { KeyAlgorithm } from '../../primitives/algorithms.js'
import { type Pan, panAt, panDigits, panMemory, requirePan } from '../../primitives/pan.js'
import {
  countAt,
  type Pin,
  pinAt,
  pinDigits,
  pinMemory,
  pinOfDigits,
  requirePin,
} from '../../primitives/pin.js'

/** A clear block and the PAN it is for. */
interface ClearBlock {
  readonly block: Uint8Array
  readonly pan: Pan
}

/** One row of the table of formats. Its functions take checked lengths and check the rest. */
export interface FormatRow {
  /** Length of the block, clear and enciphered: one block of the cipher of its keys. */
  readonly bytes: 8 | 16
  /** The keys a block of this format is enciphered under. */
  readonly algorithms: readonly KeyAlgorithm[]
  /** Whether the block holds digits of the PAN. Format 4 has them in a field of their own, which the cipher mixes in. */
  readonly bound: boolean
  /**
   * Writes the clear block of 4 to 12 PIN digits into memory that is there already, at an offset. A translation hands on nibbles
   * that it has not judged: they are written as they are.
   */
  readonly write: (digits: Uint8Array, pan: Pan, to: Uint8Array, at: number) => void
  /** The same of a PIN; `ERR_DISPOSED`. By the thousand, where the format has but one block for a PIN and a PAN. */
  readonly writePin: (pin: Pin, pan: Pan, to: Uint8Array, at: number) => void
  /** Writes the PAN field of a format that has one between two encipherments; as long as the block. */
  readonly panField?: (pan: Pan, to: Uint8Array, at: number) => void
  /** The PIN of a clear block; `ERR_PIN_BLOCK` for whatever is not one for this PAN. */
  readonly parse: (clear: ClearBlock) => Pin
  /** As `parse`, the digits left unread: what a translation may judge. */
  readonly check: (clear: ClearBlock) => void
  /**
   * As `check`, and the nibbles where the PIN is, whatever they are (0 to 15): for a verdict that must not tell digits that are
   * none from wrong ones. The caller wipes them.
   */
  readonly nibbles: (clear: ClearBlock) => Uint8Array
}

/** Fills memory with random bytes. Injectable in format code, for tests of where the filler goes. */
export type FillRandom = (bytes: Uint8Array) => unknown

/** In what the formats of one PIN field differ. */
export interface FieldRule {
  readonly control: number
  /** The nibbles that may follow the PIN: from the first to the second. Written: each with the same chance. */
  readonly filler: readonly [low: number, high: number]
  /** Whether the body is XORed with the 12 rightmost PAN digits before the check digit. */
  readonly account: boolean
}

/** Length of the PIN field, and of a block that is nothing else. */
export const FIELD_BYTES = 8
/** Nibbles after control and length: up to 12 PIN digits, then filler. */
const BODY_NIBBLES = 14
/** PAN digits that a body is XORed with: those before the check digit, from the third nibble on. */
const ACCOUNT_NIBBLES = 12

/** Where nibble `i` of the body meets a PAN digit: the account number starts two nibbles into the body. */
function accountNibble(pan: Uint8Array, i: number): number {
  // The check digit is left out; a PAN of fewer than 13 digits has fewer than 12 before it and is padded with zeros on the left.
  const at = pan.length - 1 - BODY_NIBBLES + i
  return i < 2 ? 0 : (pan[at] ?? 0)
}

/** Writes a PIN field. Nothing is allocated for a filler of one value. */
export function writeField(
  { control, filler, account: usesAccount }: FieldRule,
  digits: Uint8Array,
  pan: Pan,
  to: Uint8Array,
  at: number,
  random: FillRandom = randomFillSync,
): void {
  requirePan(pan)
  const { length } = digits
  const [low, high] = filler
  to[at] = (control << 4) | length
  if (low === high) writeBody(digits, low, to, at + 1)
  else writeRandomBody(digits, filler, to, at + 1, random)
  if (usesAccount) mixAccount(panDigits(pan), to, at + 1)
}

/** The writing half of a row that is one PIN field. */
export function writers(rule: FieldRule): Pick<FormatRow, 'write' | 'writePin'> {
  const { account, filler } = rule
  const [low, high] = filler
  const write: FormatRow['write'] = (digits, pan, to, at) => writeField(rule, digits, pan, to, at)
  const writePin: FormatRow['writePin'] = (pin, pan, to, at) => write(pinDigits(pin), pan, to, at)
  if (!account || low !== high) return { write, writePin }
  return {
    write,
    writePin: (pin, pan, to, at) => {
      requirePan(pan)
      if (countAt(panMemory(pan), panAt(pan)) > ACCOUNT_NIBBLES)
        writeBound(rule.control, low, pin, pan, to, at)
      else writePin(pin, pan, to, at)
    },
  }
}

/**
 * Control and length, four digits and filler, XORed with the account number, and then what is not filler put right. Written out,
 * without a condition, without a view and with reads within bounds only: it takes hardly longer than to fetch the digits of a PIN and
 * a PAN from memory, which is what a block of a batch costs besides its cipher.
 */
function writeBound(control: number, filler: number, pin: Pin, pan: Pan, to: Uint8Array, at: number): void {
  const digits = pinMemory(pin)
  const first = pinAt(pin) + 1
  const count = digits[first - 1] as number
  const account = panMemory(pan)
  // The place begins with the number of digits, the last of which is the check digit.
  const a = panAt(pan) + (account[panAt(pan)] as number) - ACCOUNT_NIBBLES
  const pair = (filler << 4) | filler
  to[at] = (control << 4) | count
  to[at + 1] = pairAt(digits, first)
  to[at + 2] = pairAt(digits, first + 2) ^ pairAt(account, a)
  to[at + 3] = pair ^ pairAt(account, a + 2)
  to[at + 4] = pair ^ pairAt(account, a + 4)
  to[at + 5] = pair ^ pairAt(account, a + 6)
  to[at + 6] = pair ^ pairAt(account, a + 8)
  to[at + 7] = pair ^ pairAt(account, a + 10)
  for (let i = 4; i < count; i++) {
    const byte = at + 1 + (i >> 1)
    to[byte] = (to[byte] as number) ^ (((digits[first + i] as number) ^ filler) << ((i & 1) === 0 ? 4 : 0))
  }
}

/** Two nibbles as a byte. */
function pairAt(nibbles: Uint8Array, at: number): number {
  return ((nibbles[at] as number) << 4) | (nibbles[at + 1] as number)
}

/** As it is without an account number, and before a short one is mixed in. */
function writeBody(digits: Uint8Array, filler: number, to: Uint8Array, at: number): void {
  for (let i = 0; i < BODY_NIBBLES; i += 2) {
    const high = i < digits.length ? (digits[i] as number) : filler
    const low = i + 1 < digits.length ? (digits[i + 1] as number) : filler
    to[at + (i >> 1)] = (high << 4) | low
  }
}

function writeRandomBody(
  digits: Uint8Array,
  filler: FieldRule['filler'],
  to: Uint8Array,
  at: number,
  random: FillRandom,
): void {
  const { length } = digits
  const fill = uniformNibbles(filler, BODY_NIBBLES - length, random)
  const nibble = (i: number): number => (i < length ? digits[i] : fill[i - length]) as number
  for (let i = 0; i < BODY_NIBBLES; i += 2) to[at + (i >> 1)] = (nibble(i) << 4) | nibble(i + 1)
  wipe(fill)
}

/** XORs the account number into a body. */
function mixAccount(pan: Uint8Array, to: Uint8Array, at: number): void {
  for (let i = 2; i < BODY_NIBBLES; i += 2) {
    const byte = at + (i >> 1)
    to[byte] = (to[byte] as number) ^ ((accountNibble(pan, i) << 4) | accountNibble(pan, i + 1))
  }
}

/** Nibbles from `low` to `high`, each with the same chance: what a byte holds beyond a multiple of their number is drawn again. */
function uniformNibbles([low, high]: FieldRule['filler'], count: number, random: FillRandom): Uint8Array {
  const values = high - low + 1
  const bound = 256 - (256 % values)
  const nibbles = secretBytes(count)
  const drawn = secretBytes(2 * BODY_NIBBLES)
  for (let at = 0; at < count; ) {
    random(drawn)
    // What is drawn beyond the count has no place, and is dropped.
    for (const byte of drawn) if (byte < bound) nibbles[at++] = low + (byte % values)
  }
  wipe(drawn)
  return nibbles
}

/** Where the nibbles of a body are looked at: to make memory for them takes longer than to look. Nothing else runs between. */
const BODY: Uint8Array = secretBytes(BODY_NIBBLES)

/**
 * Hands the nibbles of the PIN in a PIN field to `use`, which copies what it keeps. Reads all nibbles whatever they hold, gathers one
 * verdict, and only then decides: `ERR_PIN_BLOCK`.
 */
function inspectField<T>(
  { control, filler: [low, high], account }: FieldRule,
  { block, pan }: ClearBlock,
  rule: { readonly digitsTo: number; readonly bytes: number },
  use: (nibbles: Uint8Array) => T,
): T {
  requireBytes(block, 'block')
  requirePan(pan)
  if (block.length !== rule.bytes) throw new PinBlockError()
  const mask = account ? panDigits(pan) : undefined
  const first = block[0] as number
  const length = first & 0xf
  // Bits other than zero mean a failed check. `x >> 31` is all ones for a negative x, else zero.
  let bad = ((first >> 4) ^ control) | ((length - 4) >> 31) | ((12 - length) >> 31)
  try {
    for (let i = 0; i < BODY_NIBBLES; i++) {
      const byte = block[1 + (i >> 1)] as number
      const nibble =
        ((i & 1) === 0 ? byte >> 4 : byte & 0xf) ^ (mask === undefined ? 0 : accountNibble(mask, i))
      const isPin = (i - length) >> 31
      bad |=
        (isPin & ((rule.digitsTo - nibble) >> 31)) |
        (~isPin & (((nibble - low) >> 31) | ((high - nibble) >> 31)))
      BODY[i] = nibble
    }
    if (bad !== 0) throw new PinBlockError()
    return use(BODY.subarray(0, length))
  } finally {
    wipe(BODY)
  }
}

/** The reading half of a row: three strengths of one look. */
export function readers(field: FieldRule, bytes: number): Pick<FormatRow, 'parse' | 'check' | 'nibbles'> {
  const strict = { digitsTo: 9, bytes }
  const loose = { digitsTo: 0xf, bytes }
  return {
    parse: clear => inspectField(field, clear, strict, pinOfDigits),
    check: clear => inspectField(field, clear, loose, () => undefined),
    nibbles: clear => inspectField(field, clear, loose, ownCopy),
  }
}

/** The clear block of a format, in memory of its own, which the caller wipes. */
export function buildBlock({ bytes, writePin }: FormatRow, pin: Pin, pan: Pan): Uint8Array {
  requirePin(pin)
  const block = secretBytes(bytes)
  writePin(pin, pan, block, 0)
  return block
}

/** A copy of one enciphered PIN block of a format. Any other length is `ERR_PIN_BLOCK`, no bytes are `ERR_ARGUMENT`. */
export function readBlock(block: Uint8Array, { bytes }: Pick<FormatRow, 'bytes'>): Uint8Array {
  const copy = snapshot(block, 'block')
  if (copy.length !== bytes) throw new PinBlockError()
  return copy
}
