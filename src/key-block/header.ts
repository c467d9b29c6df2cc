/**
 * The header of a key block: sixteen characters and optional blocks, in clear, authenticated with the key (ANSI X9.143, 6.2;
 * ASC X9 TR-31:2018, A.2).
 *
 *     D 0112 P0 A E 00 E 00 00   version, length, usage, algorithm, mode, key version, exportability, optional blocks, 00
 *     KS 18 00604B120F9292800000 optional block: id, length in hex (id and length counted), data
 */
import { ArgumentError, KeyBlockError } from '../base/errors.js'
import { isKeyMode, isWithin, type KeyMode, type KeyUsage, USAGES } from '../key/usage.js'

/** `A` and `C`: variants of a TDEA KBPK, legacy. `B`: keys derived from a TDEA KBPK. `D`: the same with AES. */
export type KeyBlockVersion = 'A' | 'B' | 'C' | 'D'

/** `E`: exportable under a trusted key. `N`: not exportable. `S`: sensitive, exportable under any key. */
export type Exportability = 'E' | 'N' | 'S'

/** One optional block as it is in the header. */
export interface OptionalBlock {
  /** Two characters; those with a digit are a vendor's own. */
  readonly id: string
  /** Printable ASCII. */
  readonly data: string
}

/** What a key block says of its key. Read without a key it is what somebody wrote there; opened, it is authentic. */
export interface KeyBlockHeader {
  readonly version: KeyBlockVersion
  /** Length of the whole block in characters. */
  readonly length: number
  /** X9.143's code: `P0`, `M3`, … */
  readonly usage: string
  /** X9.143's code: `T` TDEA, `A` AES, `H` HMAC, others. */
  readonly algorithm: string
  /** X9.143's code, `N` (no restriction) among them. */
  readonly mode: string
  readonly keyVersion: string
  readonly exportability: Exportability
  /** In their order, padding (`PB`) left out. */
  readonly optionalBlocks: readonly OptionalBlock[]
  /** When the key may first be used, where the block says so: payShield's `03`. */
  readonly validFrom?: Date
  /** When it may be used no longer: `04`. */
  readonly validTo?: Date
}

/** A header and where it ends. */
interface ReadHeader {
  readonly header: KeyBlockHeader
  /** Header and optional blocks, as they are authenticated. */
  readonly text: string
  /** The hex digits behind them. */
  readonly body: string
}

const HEADER_CHARACTERS = 16
const MAX_CHARACTERS = 9_999
/** Of a MAC in hex digits, by version. */
export const MAC_DIGITS: Readonly<Record<KeyBlockVersion, number>> = { A: 8, B: 16, C: 8, D: 32 }
/** Cipher block of the KBPK in bytes, by version. */
export const CIPHER_BLOCK: Readonly<Record<KeyBlockVersion, 8 | 16>> = { A: 8, B: 8, C: 8, D: 16 }

const DIGITS = '0123456789'
const UPPER_CASE = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
const MODES = 'BCDEGNSTVXY'
const ALGORITHMS = 'ADEHRST'
/** Of a usage, and of an optional block's identifier. */
const CODE: string = DIGITS + UPPER_CASE
/** Of a key version. */
const ALPHANUMERIC: string = CODE + UPPER_CASE.toLowerCase()
/** Hash of an HMAC key: two hex digits (X9.143, 6.3.6.5, table 13), of which `21`, SHA-256, is the one here. */
const HASH = 'HM'
const SHA_256 = '21'
const VALID_FROM = '03'
const VALID_TO = '04'

function fail(entry: string, problem: string): KeyBlockError {
  return new KeyBlockError(entry, problem)
}

/**
 * The header of a key block, read strictly, without a key: what it claims. Nothing of it is authentic before `openKeyBlock`.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_BLOCK` with the `entry` that is wrong. Source: ANSI X9.143, 6.2; TR-31:2018, A.2 and A.5.6.
 *
 * @example
 * ```ts
 * const { usage, mode } = readKeyBlockHeader(keyBlock) // 'P0', 'E'
 * ```
 */
export function readKeyBlockHeader(block: string): KeyBlockHeader {
  return readHeader(block).header
}

/** {@link readKeyBlockHeader} with what follows the header. */
export function readHeader(block: unknown): ReadHeader {
  if (typeof block !== 'string') throw new ArgumentError('block must be a string')
  if (block.length > MAX_CHARACTERS) throw fail('length', `is more than ${MAX_CHARACTERS} characters`)
  if (!/^[\x20-\x7e]*$/.test(block)) throw fail('block', 'has characters that are not printable ASCII')
  if (block.length < HEADER_CHARACTERS) throw fail('length', 'is less than a header: it was cut off')
  const version = block.slice(0, 1)
  if (!isVersion(version)) throw fail('version', 'is not A, B, C or D')
  requireWhole(block, version)
  const usage = read(block, 5, 7, CODE, 'usage')
  const algorithm = read(block, 7, 8, ALGORITHMS, 'algorithm')
  const mode = read(block, 8, 9, MODES, 'mode')
  const keyVersion = read(block, 9, 11, ALPHANUMERIC, 'key version')
  const exportability = read(block, 11, 12, 'ENS', 'exportability') as Exportability
  const count = Number(read(block, 12, 14, DIGITS, 'number of optional blocks'))
  read(block, 14, 15, '012', 'reserved field')
  read(block, 15, 16, '0', 'reserved field')
  const { optionalBlocks, end } = readOptionalBlocks(block, count, version)
  const body = block.slice(end)
  if (!/^[0-9A-Fa-f]*$/.test(body))
    throw fail('block', 'has characters behind its header that are not hex digits')
  const cipherDigits = 2 * CIPHER_BLOCK[version]
  const enciphered = body.length - MAC_DIGITS[version]
  if (enciphered < cipherDigits || enciphered % cipherDigits !== 0)
    throw fail('length', 'leaves no whole number of cipher blocks for the key')
  const dates = {
    ...readDate(optionalBlocks, VALID_FROM, 'validFrom'),
    ...readDate(optionalBlocks, VALID_TO, 'validTo'),
  }
  const header: KeyBlockHeader = {
    version,
    length: block.length,
    usage,
    algorithm,
    mode,
    keyVersion,
    exportability,
    optionalBlocks,
    ...dates,
  }
  return { header, text: block.slice(0, end), body }
}

function isVersion(value: string): value is KeyBlockVersion {
  return Object.hasOwn(MAC_DIGITS, value)
}

/** The stated length against the true one: a paste that was cut off, or has something behind it. */
function requireWhole(block: string, version: KeyBlockVersion): void {
  const stated = block.slice(1, 5)
  if (!isOf(stated, DIGITS)) throw fail('length', 'is not four digits')
  if (Number(stated) > block.length)
    throw fail('length', `says ${Number(stated)} characters, and there are ${block.length}: it was cut off`)
  if (Number(stated) < block.length)
    throw fail('length', `says ${Number(stated)} characters, and there are ${block.length}`)
  if (block.length % CIPHER_BLOCK[version] !== 0)
    throw fail('length', `is not a multiple of ${CIPHER_BLOCK[version]}`)
}

function read(block: string, from: number, to: number, characters: string, entry: string): string {
  const text = block.slice(from, to)
  if (!isOf(text, characters)) throw fail(entry, 'has a value that X9.143 does not know')
  return text
}

/** Whether each character of a text is one of these. */
function isOf(text: string, characters: string): boolean {
  return [...text].every(character => characters.includes(character))
}

function readOptionalBlocks(
  block: string,
  count: number,
  version: KeyBlockVersion,
): { optionalBlocks: OptionalBlock[]; end: number } {
  const optionalBlocks: OptionalBlock[] = []
  const seen = new Set<string>()
  let at = HEADER_CHARACTERS
  for (let i = 1; i <= count; i++) {
    const entry = `optional block ${i}`
    const id = block.slice(at, at + 2)
    if (id.length < 2 || !isOf(id, CODE)) throw fail(entry, 'has no identifier')
    if (seen.has(id)) throw fail(entry, `(${id}) is there twice`)
    if (seen.has('PB')) throw fail(entry, '(PB) must be the last')
    seen.add(id)
    const { headBytes, length } = readLength(block, at + 2, `${entry} (${id})`)
    if (length < headBytes || at + length > block.length)
      throw fail(`${entry} (${id})`, 'has a length that does not fit')
    if (id !== 'PB') optionalBlocks.push({ id, data: block.slice(at + headBytes, at + length) })
    at += length
  }
  if ((at - HEADER_CHARACTERS) % CIPHER_BLOCK[version] !== 0)
    throw fail('optional blocks', `are not padded to a multiple of ${CIPHER_BLOCK[version]}`)
  return { optionalBlocks, end: at }
}

/** Two hex digits; or `00`, the number of digits that follow, and those (X9.143, extended length). */
function readLength(block: string, at: number, entry: string): { headBytes: number; length: number } {
  const digits = (from: number, count: number): number => {
    const text = block.slice(from, from + count)
    if (text.length !== count || !/^[0-9A-Fa-f]+$/.test(text))
      throw fail(entry, 'has a length that is not hex digits')
    return Number.parseInt(text, 16)
  }
  const short = digits(at, 2)
  if (short !== 0) return { headBytes: 4, length: short }
  const count = digits(at + 2, 2)
  if (count < 1 || count > 4) throw fail(entry, 'has a length of a length that does not fit')
  return { headBytes: 6 + count, length: digits(at + 4, count) }
}

function readDate(
  blocks: readonly OptionalBlock[],
  id: string,
  name: 'validFrom' | 'validTo',
): { validFrom?: Date; validTo?: Date } {
  const found = blocks.find(block => block.id === id)
  if (found === undefined) return {}
  const [, year, month, day, hour] = /^(\d{4}):(\d{2}):(\d{2}):(\d{2})$/.exec(found.data) ?? []
  const text = `${year}-${month}-${day}T${hour}:00:00.000Z`
  const date = new Date(text)
  // A day that there is not, such as 30 February, comes back as another.
  if (Number.isNaN(date.getTime()) || date.toISOString() !== text)
    throw fail(`optional block ${id}`, 'is not a date as YYYY:MM:DD:HH')
  return { [name]: date }
}

/**
 * The hash that an HMAC key is for must be stated, and be SHA-256: a key that is used with two hashes is two keys. No other key has one.
 *
 * Errors: `ERR_KEY_BLOCK` (`optional block HM`).
 */
export function requireHash(algorithm: string, blocks: readonly OptionalBlock[]): void {
  const stated = blocks.find(({ id }) => id === HASH)
  const entry = `optional block ${HASH}`
  if (algorithm !== 'H') {
    if (stated !== undefined) throw fail(entry, 'is for the hash of an HMAC key, which this is not')
    return
  }
  if (stated === undefined) throw fail(entry, 'is not there: the hash of an HMAC key must be stated')
  if (stated.data !== SHA_256) throw fail(entry, `must be ${SHA_256}, SHA-256: no other hash is known here`)
}

/** The optional blocks of a header to be written; an HMAC key's hash is put in front where it is not among them. */
export function withHash(algorithm: string, given: readonly OptionalBlock[]): readonly OptionalBlock[] {
  const isAdded = algorithm === 'H' && !given.some(({ id }) => id === HASH)
  const blocks = isAdded ? [{ id: HASH, data: SHA_256 }, ...given] : given
  requireHash(algorithm, blocks)
  return blocks
}

/** What to write. */
interface HeaderFields {
  readonly version: 'B' | 'D'
  readonly usage: string
  readonly algorithm: 'T' | 'A' | 'H'
  readonly mode: string
  readonly keyVersion: string
  readonly exportability: Exportability
  readonly optionalBlocks: readonly OptionalBlock[]
  readonly validFrom?: Date | undefined
  readonly validTo?: Date | undefined
}

/** The header of a block whose enciphered key takes so many bytes. Errors: `ERR_ARGUMENT`, `ERR_KEY_BLOCK`. */
export function writeHeader(fields: HeaderFields, keyBytes: number): string {
  const { version, usage, algorithm, mode, keyVersion, exportability } = fields
  if (!/^[0-9A-Za-z]{2}$/.test(keyVersion)) throw fail('key version', 'must be two letters or digits')
  if (!/^[ENS]$/.test(exportability)) throw fail('exportability', 'must be E, N or S')
  const dates = [
    ...(fields.validFrom === undefined ? [] : [{ id: VALID_FROM, data: dateText(fields.validFrom) }]),
    ...(fields.validTo === undefined ? [] : [{ id: VALID_TO, data: dateText(fields.validTo) }]),
  ]
  const blocks = [...fields.optionalBlocks, ...dates]
  let optional = ''
  const ids = new Set<string>(['PB'])
  for (const { id, data } of blocks) {
    if (!/^[0-9A-Z]{2}$/.test(id) || ids.has(id))
      throw fail(`optional block ${id.slice(0, 2)}`, 'cannot be written: its id')
    if (!/^[\x20-\x7e]*$/.test(data)) throw fail(`optional block ${id}`, 'must be printable ASCII')
    ids.add(id)
    optional += optionalText(id, data)
  }
  const block = CIPHER_BLOCK[version]
  let count = blocks.length
  if (optional.length % block !== 0) {
    count += 1
    // Four characters of head at least.
    const gap = (block - ((optional.length + 4) % block)) % block
    optional += optionalText('PB', '0'.repeat(gap))
  }
  const length = HEADER_CHARACTERS + optional.length + 2 * keyBytes + MAC_DIGITS[version]
  if (length > MAX_CHARACTERS || count > 99) throw fail('optional blocks', 'are too long')
  const number = String(length).padStart(4, '0')
  const optionals = String(count).padStart(2, '0')
  return `${version}${number}${usage}${algorithm}${mode}${keyVersion}${exportability}${optionals}00${optional}`
}

function optionalText(id: string, data: string): string {
  const hex = (value: number, digits: number): string =>
    value.toString(16).toUpperCase().padStart(digits, '0')
  const short = 4 + data.length
  if (short <= 255) return `${id}${hex(short, 2)}${data}`
  return `${id}0004${hex(10 + data.length, 4)}${data}`
}

function dateText(date: Date): string {
  if (!(date instanceof Date) || Number.isNaN(date.getTime()))
    throw new ArgumentError('a validity date must be a Date')
  const text = date.toISOString()
  if (!text.endsWith(':00:00.000Z'))
    throw new ArgumentError('a validity date in a key block is a whole hour (UTC)')
  return `${text.slice(0, 10).replaceAll('-', ':')}:${text.slice(11, 13)}`
}

/**
 * What a key with this header may be bound as here: the usage that is asked for must be the block's, and the mode within the
 * block's. So a block that says MAC becomes no PIN key, and one that says E deciphers nothing.
 *
 * Errors: `ERR_KEY_BLOCK` (`usage`, `mode`, `algorithm`, `key version`).
 */
export function useOf(header: KeyBlockHeader, usage: KeyUsage, wanted: KeyMode | undefined): KeyMode {
  const rule = USAGES[usage]
  if (header.usage !== rule.x9143)
    throw fail('usage', `is ${header.usage}, and a ${usage} key is ${rule.x9143}`)
  if (/^c/.test(header.keyVersion)) throw fail('key version', 'says that this is a component, not a key')
  const allowed = rule.modes.filter(mode => isAllowed(header.mode, mode))
  // The widest comes first: the header's own, where it has one.
  const [own] = allowed
  if (wanted === undefined) {
    if (own === undefined) throw fail('mode', `is ${header.mode}, which no ${usage} key here can have`)
    return own
  }
  if (!allowed.includes(wanted)) throw fail('mode', `is ${header.mode}, which does not allow ${wanted}`)
  return wanted
}

function isAllowed(stated: string, mode: KeyMode): boolean {
  return stated === 'N' || (isKeyMode(stated) && isWithin(mode, stated))
}
