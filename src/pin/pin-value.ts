/**
 * The two values by which a PIN is verified that is kept nowhere, and the PIN that a card is born with:
 *
 *     PVV        E(PAN digits ‖ PVKI ‖ PIN digits) -> 4 digits              Visa PIN verification value
 *     natural    E(digits of the PAN, padded), decimalised -> PIN           IBM 3624
 *     offset     PIN - natural PIN, digit by digit modulo 10
 *
 * A value is made only for a PIN block that is bound to the card's PAN: for a PAN of the caller's choice it would be an oracle.
 */
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { withWiped } from '../base/bytes.js'
import { ArgumentError, InputError, PinBlockError, TranslationError } from '../base/errors.js'
import type { Ibm3624Rule, PvvRule } from '../key/pin-value.js'
import { type KeyAction, requireUse } from '../key/usage.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import { decipherClear } from './decipher.js'
import { encipherClear, roomFor } from './encipher.js'
import { type FormatRow, readBlock } from './formats/format.js'
import { FORMATS, requireFormat, type SupportedFormat } from './formats/formats.js'
import { offsetAnswer, offsetQuestion, pvvAnswer, pvvQuestion } from './formats/verification.js'
import { requireFormatKey } from './policy.js'

/** What {@link generatePvv} and {@link generateOffset} take. */
export interface GeneratePinValueInput {
  /** The PIN block, enciphered under `from`. */
  readonly block: Uint8Array
  readonly pan: Pan
  /** 0, 3 or 4: a format that is bound to the PAN. */
  readonly format: SupportedFormat
  /** A `pin-encryption` key bound with `hostDecipher: true`. */
  readonly from: Key
  /** A `visa-pvv` or `ibm-3624` key bound with its `pinValue`. */
  readonly key: Key
}

/**
 * The Visa PVV of the PIN in a block: 4 digits. The PIN has 4 digits or more; the first 4 count.
 *
 * Errors: `ERR_PIN_BLOCK`, `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_TRANSLATION_REFUSED` (a format that is bound to no PAN), `ERR_PAN` (fewer than 12 digits), `ERR_ARGUMENT` (a
 * key bound without its `pinValue`), `ERR_ABORTED`, and what the backends report. Source: Visa PIN verification value, as IBM CCA documents it.
 *
 * @example
 * ```ts
 * const pvv = await generatePvv({ block, pan, format: 0, from: zpk, key: pvk })
 * ```
 */
export async function generatePvv(input: GeneratePinValueInput, options?: CallOptions): Promise<string> {
  const source = readSource(input, 'generatePvv')
  const rule = requirePvvKey(source.key, 'generate')
  requireElevenDigits(source.pan)
  return withDigits(source, options, async digits =>
    withWiped(await enciphered(source.key, pvvQuestion(rule, source.pan, digits), options), block =>
      textOf(pvvAnswer(block)),
    ),
  )
}

/**
 * The IBM 3624 offset of the PIN in a block: as many digits as the PIN has.
 *
 * Errors: as {@link generatePvv}: `ERR_PIN_BLOCK`, `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`, `ERR_TRANSLATION_REFUSED`, `ERR_PAN` (shorter than the key's
 * validation data), `ERR_ARGUMENT`. Source: IBM 3624 PIN offset, as IBM CCA documents it.
 *
 * @example
 * ```ts
 * const offset = await generateOffset({ block, pan, format: 0, from: zpk, key: pvk })
 * ```
 */
export async function generateOffset(input: GeneratePinValueInput, options?: CallOptions): Promise<string> {
  const source = readSource(input, 'generateOffset')
  const rule = requireOffsetKey(source.key, 'generate', source.pan)
  return withDigits(source, options, async digits =>
    withWiped(await naturalDigits({ ...source, rule }, options), natural =>
      textOf(digits, (digit, i) => (digit + 10 - (natural[i] as number)) % 10),
    ),
  )
}

/** What {@link naturalPin} takes. */
export interface NaturalPinInput {
  readonly pan: Pan
  /** An `ibm-3624` key bound with its `pinValue`. */
  readonly key: Key
  /** 4 to 12 digits. */
  readonly length: number
  readonly format: SupportedFormat
  /** The `pin-encryption` key under which the block is wanted. */
  readonly to: Key
}

/**
 * The PIN that IBM 3624 gives a card, as a PIN block: no clear PIN is handed out.
 *
 * Errors: `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_PAN`, `ERR_TRANSLATION_REFUSED`, `ERR_ARGUMENT`, `ERR_ABORTED`, and what the backends report. Source: IBM 3624 PIN generation.
 *
 * @example
 * ```ts
 * const block = await naturalPin({ pan, key: pvk, length: 4, format: 0, to: storage })
 * ```
 */
export async function naturalPin(input: NaturalPinInput, options?: CallOptions): Promise<Uint8Array> {
  const { pan, key, length, format, to } = readOptions(input, 'naturalPin', [
    'pan',
    'key',
    'length',
    'format',
    'to',
  ])
  requireFormat(format, 'format')
  const row = requireBound(FORMATS[format])
  requireKey(key, 'key')
  requireKey(to, 'to')
  requireFormatKey(to, 'encipher', row)
  requirePan(pan)
  const rule = requireOffsetKey(key, 'generate', pan)
  if (!Number.isInteger(length) || length < 4 || length > 12)
    throw new ArgumentError('length must be 4 to 12')
  return withWiped(await naturalDigits({ key, pan, rule }, options), natural =>
    withClear(row, natural.subarray(0, length), pan, clear => encipherClear(to, clear, options)),
  )
}

function withClear<T>(
  row: FormatRow,
  digits: Uint8Array,
  pan: Pan,
  use: (clear: ReturnType<typeof roomFor>) => Promise<T>,
): Promise<T> {
  const clear = roomFor(row, 1)
  row.write(digits, pan, clear.blocks, 0)
  row.panField?.(pan, clear.fields, 0)
  return use(clear)
}

/** A block bound to its PAN, and the key of the value that is made of it. */
interface Source extends GeneratePinValueInput {
  readonly row: FormatRow
}

function readSource(input: GeneratePinValueInput, what: string): Source {
  const names = ['block', 'pan', 'format', 'from', 'key'] as const
  const { block, pan, format, from, key } = readOptions(input, what, names)
  requireFormat(format, 'format')
  const row = requireBound(FORMATS[format])
  requireKey(from, 'from')
  requireKey(key, 'key')
  requireFormatKey(from, 'decipher', row)
  requirePan(pan)
  return { block: readBlock(block, row), pan, format, from, key, row }
}

/** Formats 0, 3 and 4; a block of another could be paired with any PAN. */
export function requireBound(row: FormatRow): FormatRow {
  if (row.bound) return row
  const problem =
    'a block that is bound to no PAN is paired with none: translate it to format 0, 3 or 4 first'
  throw new TranslationError('ERR_TRANSLATION_REFUSED', problem)
}

/** The PIN of the block, which is one here, or `ERR_PIN_BLOCK`; wiped when `use` is done. */
async function withDigits(
  { block, pan, from, row }: Source,
  options: CallOptions | undefined,
  use: (digits: Uint8Array) => Promise<string>,
): Promise<string> {
  return withWiped(await decipherClear(from, row, [{ block, pan }], options), async clear => {
    const digits = row.nibbles({ block: clear, pan })
    return withWiped(digits, async () => {
      if (digits.some(digit => digit > 9)) throw new PinBlockError()
      return use(digits)
    })
  })
}

/** The rule of a key for PVVs; `ERR_KEY_USAGE`, or `ERR_ARGUMENT` where it was bound without one. */
export function requirePvvKey(key: Key, action: KeyAction): PvvRule {
  requireUse(key, 'pvv', action)
  const { pinValue } = key
  if (pinValue !== undefined && 'pvki' in pinValue) return pinValue
  throw new ArgumentError(`key ${key.kid}: bind it with its pinValue`)
}

/** The same of a key for offsets, which this PAN must be long enough for. */
export function requireOffsetKey(key: Key, action: KeyAction, pan: Pan): Ibm3624Rule {
  requireUse(key, 'pin-offset', action)
  const { pinValue } = key
  if (pinValue === undefined || !('decimalisation' in pinValue))
    throw new ArgumentError(`key ${key.kid}: bind it with its pinValue`)
  const { from, length } = pinValue.validation
  if (pan.length >= from + length) return pinValue
  throw new InputError('ERR_PAN', `the PAN has fewer digits than key ${key.kid} takes of it`)
}

/** A PVV takes 11 PAN digits before the check digit. */
export function requireElevenDigits(pan: Pan): void {
  if (pan.length < 12) throw new InputError('ERR_PAN', 'a PVV takes a PAN of 12 digits or more')
}

/** 16 digits of the natural PIN, of which as many count as the PIN has. */
async function naturalDigits(
  { key, pan, rule }: { readonly key: Key; readonly pan: Pan; readonly rule: Ibm3624Rule },
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  return withWiped(await enciphered(key, offsetQuestion(rule, pan), options), block =>
    offsetAnswer(rule, block),
  )
}

function enciphered(key: Key, block: Uint8Array, options: CallOptions | undefined): Promise<Uint8Array> {
  return withWiped(block, clear => operationsOf(key).encipher(clear, options))
}

/** An offset or a PVV is no secret: it is kept beside the card. */
function textOf(digits: Uint8Array, of: (digit: number, i: number) => number = digit => digit): string {
  return Array.from(digits, of).join('')
}

/** Digits that are kept of a card: as many as asked for. `ERR_ARGUMENT`. */
export function readKeptDigits(value: unknown, name: string, min: number, max: number): Uint8Array {
  if (typeof value !== 'string' || !/^[0-9]+$/.test(value) || value.length < min || value.length > max) {
    throw new ArgumentError(`${name} must be ${min === max ? min : `${min} to ${max}`} digits`)
  }
  return Uint8Array.from(value, Number)
}
