/** What is in a data set, a PIN block, the header of a JWE: as tables for people, secrets as dots. */
import { readOptions } from '../../base/arguments.js'
import { decodeBase64url, equalBytes, fromHex, ownCopy, requireBytes } from '../../base/bytes.js'
import { ArgumentError, InputError, requireOurs } from '../../base/errors.js'
import { member, parseJsonObject } from '../../base/json.js'
import { BLOCK_LENGTHS, FORMATS as FORMAT_ROWS } from '../../pin/formats/formats.js'
import { isP256Point, pointOfJwk } from '../../primitives/p256.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import { applyMask, dataSetFromHex } from '../../seccos/data-set.js'
import { valueIn } from '../../seccos/field-value.js'
import { isBinary } from '../../seccos/profile/encoding.js'
import {
  isConstant,
  meaningOf,
  type ProfileField,
  type ReservedField,
  requireProfile,
  type SeccosProfile,
  type ValueField,
} from '../../seccos/profile/profile.js'
import { HIDDEN, hideBytes, renderTable, showBytes, showText } from './table.js'

const MEANINGS: Readonly<Record<ReservedField, string>> = {
  pan: 'PAN',
  pinBlock: 'PIN in the form of the profile',
  pinLength: 'PIN length',
  random: 'random number',
  pcc: 'PIN change counter',
  intdatag: 'intdatag',
  prwKid: 'name of the PRW key',
  macKid: 'name of the MAC key',
  issuerId: 'issuer id',
}

/** What an inspection found, before it is text: a title, and tables of cells that hide what is secret. */
export interface Inspected {
  readonly title: string
  readonly tables: readonly {
    readonly head: readonly string[]
    readonly rows: readonly (readonly string[])[]
  }[]
}

function textOf({ title, tables }: Inspected): string {
  const shown = tables.map(({ head, rows }) => renderTable(head, rows))
  return [title, shown.join('\n\n')].join(tables.length === 0 ? '' : '\n')
}

const FIELDS = ['field', 'offset', 'bytes', 'meaning'] as const

/** Characters of an intdatag that are shown: enough to find it in a log, not to use it. */
const INTDATAG_SHOWN = 4

/**
 * A data set as a table: field, offset, bytes, meaning, by a profile. For people; the text is not a format.
 *
 * It takes `prwDataSet` as 246 upper-case hex digits, sound or not. Masked fields that are not zero are not shown, and
 * marked; of an intdatag four characters are. What a profile calls by an id of its own is shown as it is.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET` (not 246 upper-case hex digits).
 *
 * @example
 * ```ts
 * console.log(inspectDataSet({ profile, prwDataSet }))
 * ```
 */
export function inspectDataSet(input: {
  readonly profile: SeccosProfile
  readonly prwDataSet: string
}): string {
  return textOf(dataSetTables(input))
}

/** {@link inspectDataSet}, as tables. */
export function dataSetTables(input: {
  readonly profile: SeccosProfile
  readonly prwDataSet: string
}): Inspected {
  const { profile, prwDataSet } = readOptions(input, 'inspectDataSet', ['profile', 'prwDataSet'])
  requireProfile(profile)
  if (typeof prwDataSet !== 'string') throw new ArgumentError('prwDataSet must be a string of hex digits')
  const dataSet = dataSetFromHex(prwDataSet)
  const rows = profile.fields.map(field => {
    const bytes = dataSet.subarray(field.offset, field.offset + field.length)
    const { shown, meaning } = describe(profile, field, bytes)
    return [field.id, String(field.offset), String(field.length), shown, meaning]
  })
  const title = `PRW data set by profile ${profile.name} ${profile.version} (${profile.provenance})`
  return { title, tables: [{ head: ['field', 'offset', 'length', 'bytes', 'meaning'], rows }] }
}

function describe(
  profile: SeccosProfile,
  field: ProfileField,
  bytes: Uint8Array,
): { shown: string; meaning: string } {
  if (isConstant(field)) {
    const same = equalBytes(bytes, fromHex(field.constant, field.id))
    return { shown: showBytes(bytes), meaning: same ? 'constant' : 'NOT the constant of the profile' }
  }
  const meaning = meaningOf(profile, field)
  const name = meaning === undefined ? field.id : partial(field, MEANINGS[meaning])
  if (field.masked !== false) {
    return isMasked(field, bytes)
      ? { shown: showBytes(bytes), meaning: `${name}, masked` }
      : { shown: hideBytes(bytes.length), meaning: `${name}, NOT MASKED: not shown` }
  }
  const read = valueIn(profile, field, bytes)
  const value = typeof read === 'string' ? read : undefined
  if (meaning === 'intdatag') {
    const visible = value === undefined ? 'does not read' : showText(`${value.slice(0, INTDATAG_SHOWN)}…`)
    return { shown: hideBytes(bytes.length), meaning: `${name} ${visible}` }
  }
  if (isBinary(field.encoding) && meaning !== 'pcc') return { shown: showBytes(bytes), meaning: name }
  const visible = value === undefined ? 'does NOT read' : showText(value)
  return { shown: showBytes(bytes), meaning: `${name} ${visible} (${field.encoding})` }
}

function partial({ part }: ValueField, name: string): string {
  return part === undefined ? name : `part of the ${name}`
}

/** Masked bytes of a partly shown PAN are what the mask says; anything else is not shown at all. */
function isMasked(field: ValueField, bytes: Uint8Array): boolean {
  const masked = ownCopy(bytes)
  applyMask(field, masked)
  return equalBytes(masked, bytes)
}

/* A PIN block for people: its format and whether it is sound, no digit of the PIN. */

/** What the control nibble says (ISO 9564-1:2017, 9.3 and 9.4). */
const CONTROLS: readonly string[] = [
  'format 0: PIN field XOR PAN field',
  'format 1: PIN and transaction data',
  'format 2: PIN alone, for a chip card',
  'format 3: as format 0, filled at random',
  'format 4: PIN field of 16 bytes, enciphered with AES',
]

/**
 * A PIN block as a table: field, offset, bytes, meaning. For people; the text is not a format. Of a clear block it shows
 * the control nibble, and whether the length nibble is one: no digit, no filler, not the length. Of an enciphered
 * block it shows how long it is. With a PAN it says of a clear block whether it is a sound one for that PAN, and no more.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_LENGTH` (not 8 or 16 bytes). Source: ISO 9564-1:2017, 9.3.
 *
 * @example
 * ```ts
 * console.log(inspectPinBlock({ block, state: 'enciphered' }))
 * ```
 */
export function inspectPinBlock(input: {
  readonly block: Uint8Array
  readonly state: 'clear' | 'enciphered'
  readonly pan?: Pan
}): string {
  return textOf(pinBlockTables(input))
}

/** {@link inspectPinBlock}, as a table; `isSound` where a PAN was given and the block is clear and bound to one. */
export function pinBlockTables(input: {
  readonly block: Uint8Array
  readonly state: 'clear' | 'enciphered'
  readonly pan?: Pan
}): Inspected & { readonly isSound?: boolean } {
  const { block, state, pan } = readOptions(input, 'inspectPinBlock', ['block', 'state', 'pan'])
  requireBytes(block, 'block')
  if (!BLOCK_LENGTHS.includes(block.length)) {
    throw new InputError('ERR_LENGTH', `block: ${block.length} bytes, expected ${BLOCK_LENGTHS.join(' or ')}`)
  }
  if (state !== 'clear' && state !== 'enciphered')
    throw new ArgumentError('state must be clear or enciphered')
  if (pan !== undefined) requirePan(pan)
  const title = `PIN block, ${state}`
  if (state === 'enciphered') {
    const meaning = 'not looked at: the block is enciphered'
    const rows = [...encipheredRows(block), ...(pan === undefined ? [] : [panRow(meaning)])]
    return { title, tables: [{ head: FIELDS, rows }] }
  }
  const rows = clearRows(block)
  if (pan === undefined) return { title, tables: [{ head: FIELDS, rows }] }
  const isSound = soundFor(block, pan)
  const meaning =
    isSound === undefined
      ? 'not looked at: a clear block of this format holds nothing of it'
      : soundWords(isSound)
  return {
    title,
    tables: [{ head: FIELDS, rows: [...rows, panRow(meaning)] }],
    ...(isSound !== undefined && { isSound }),
  }
}

const panRow = (meaning: string): string[] => ['PAN', '', '', meaning]

/** A verdict on block and PAN, in one wording whichever check failed. */
export function soundWords(isSound: boolean): string {
  return isSound ? 'a sound block of this PAN' : 'NOT a sound block of this PAN'
}

/** Whether a clear block is one of this PAN; undefined for the formats whose clear block holds no PAN digit (1, 2 and 4). */
function soundFor(block: Uint8Array, pan: Pan): boolean | undefined {
  const control = (block[0] as number) >> 4
  if (control === 1 || control === 2 || control === 4) return undefined
  try {
    ;(control === 3 ? FORMAT_ROWS[3] : FORMAT_ROWS[0]).parse({ block, pan }).dispose()
    return true
  } catch (error) {
    requireOurs(error, 'ERR_PIN_BLOCK')
    return false
  }
}

function clearRows(block: Uint8Array): string[][] {
  const first = new DataView(block.buffer, block.byteOffset).getUint8(0)
  const control = first >> 4
  const length = first & 0xf
  const hidden = HIDDEN.slice(1)
  return [
    [
      'control',
      '0',
      `${control.toString(16).toUpperCase()}.`,
      CONTROLS[control] ?? 'NOT a format of ISO 9564-1',
    ],
    ['length', '0', `.${hidden}`, length >= 4 && length <= 12 ? 'PIN length, 4 to 12' : 'NOT a PIN length'],
    ['body', '1', hideBytes(block.length - 1), 'PIN digits, filler and what the format adds: not shown'],
  ]
}

function encipheredRows(block: Uint8Array): string[][] {
  const cipher = block.length === 16 ? 'one AES block, or two TDEA blocks' : 'one TDEA block'
  return [['block', '0', hideBytes(block.length), `${block.length} bytes, ${cipher}: not shown`]]
}

/* A JWE for people: what its header says, and nothing of what it encloses. */

/** Longest text that is looked at: D1's limit on a JWE. */
const MAX_CHARACTERS = 8192

/** What each header parameter is for, and where it is defined. */
const PARAMETERS: ReadonlyMap<string, string> = mapOf({
  alg: 'key agreement; D1: ECDH-ES (RFC 7518, 4.6)',
  enc: 'content encryption; D1: A256GCM (RFC 7518, 5.3)',
  kid: "the recipient's key (RFC 7516, 4.1.6)",
  apu: 'about the sender, enters the key derivation (RFC 7518, 4.6.1.2)',
  apv: 'about the recipient, enters the key derivation (RFC 7518, 4.6.1.3)',
  typ: 'type of the whole (RFC 7516, 4.1.11)',
  cty: 'type of the content (RFC 7516, 4.1.12)',
  zip: 'compression: REFUSED here (RFC 7516, 4.1.3)',
  crit: 'extensions that must be understood: REFUSED here (RFC 7516, 4.1.13)',
})
const KEY_PARAMETERS: ReadonlyMap<string, string> = mapOf({
  kty: 'key type; EC',
  crv: 'curve; P-256',
  x: 'x coordinate, 32 bytes',
  y: 'y coordinate, 32 bytes',
})

/** The five segments of a JWE in compact form (RFC 7516, 7.1). */
const SEGMENTS: readonly (readonly [string, string])[] = [
  ['protected header', 'see above'],
  ['encrypted key', 'empty with ECDH-ES'],
  ['iv', '12 bytes with A256GCM'],
  ['ciphertext', 'as long as the plaintext'],
  ['tag', '16 bytes'],
]

/**
 * The protected header of a JWE in compact form as a table: parameter, value, meaning; then the lengths of the
 * segments. For people; the text is not a format. It says what is there, not whether the JWE is to be accepted;
 * the ciphertext is not shown, nor a private member of a key. Values are cut and escaped.
 *
 * Errors: `ERR_ARGUMENT` (not a string). Whatever else is wrong is said in the text.
 *
 * @example
 * ```ts
 * console.log(inspectJweHeader(encryptedPinBlock))
 * ```
 */
export function inspectJweHeader(jwe: string): string {
  return textOf(jweTables(jwe))
}

/** {@link inspectJweHeader}, as tables. */
export function jweTables(jwe: string): Inspected {
  if (typeof jwe !== 'string') throw new ArgumentError('jwe must be a string')
  if (jwe.length > MAX_CHARACTERS)
    return { title: `not a JWE of D1: ${jwe.length} characters, at most ${MAX_CHARACTERS}`, tables: [] }
  const segments = jwe.split('.')
  if (segments.length !== SEGMENTS.length)
    return { title: `not a JWE in compact form: ${segments.length} segments, not 5`, tables: [] }
  const bytes = segments.map(decodeBase64url)
  const [header] = bytes
  const members = header && parseJsonObject(header)
  const lengths = {
    head: ['segment', 'length', 'meaning'],
    rows: SEGMENTS.map(([name, meaning], i) => [name, lengthOf(bytes[i]), meaning]),
  }
  if (members === undefined) {
    const title = 'JWE: the protected header is NOT canonical base64url of a strict JSON object'
    return { title, tables: [lengths] }
  }
  const head = ['parameter', 'value', 'meaning']
  return { title: 'JWE, protected header', tables: [{ head, rows: headerRows(members) }, lengths] }
}

/** By a name that somebody else has chosen, a map can be asked and an object cannot. */
function mapOf(members: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(members))
}

function headerRows(members: Record<string, unknown>): string[][] {
  return Object.keys(members).flatMap(name => {
    const value = member(members, name)
    if (name === 'epk') return keyRows(value)
    return [[nameOf(name), show(value), PARAMETERS.get(name) ?? 'not used here']]
  })
}

function keyRows(epk: unknown): string[][] {
  const point = pointOfJwk(epk)
  const verdict = point !== undefined && isP256Point(point) ? 'a point on P-256' : 'NOT a point on P-256'
  const rows = [['epk', '', `ephemeral public key: ${verdict} (RFC 7518, 4.6.1.1)`]]
  if (typeof epk !== 'object' || epk === null) return rows
  for (const name of Object.keys(epk)) {
    const value = KEY_PARAMETERS.has(name) ? show(Reflect.get(epk, name)) : HIDDEN
    rows.push([`  ${nameOf(name)}`, value, KEY_PARAMETERS.get(name) ?? 'must NOT be here: not shown'])
  }
  return rows
}

function nameOf(name: string): string {
  return showText(name).slice(1, -1)
}

function show(value: unknown): string {
  return showText(typeof value === 'string' ? value : JSON.stringify(value))
}

function lengthOf(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? 'NOT base64url' : `${bytes.length} bytes`
}
