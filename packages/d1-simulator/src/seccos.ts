/** D1's part in a Set PIN of type 3DES_SECCOS: data set, PRW and MAC by a profile, by code that the issuer's lacks. */
import { randomBytes } from 'node:crypto'
import { aesCmac, retailMac } from './ciphers.js'
import { clearBlock } from './pin-block.js'
import { ConfigError } from './problems.js'
import type { Computation, Field, Form, Input, Profile } from './profile.js'

/** The six members of the message. */
export interface SeccosContent {
  readonly intdatag: string
  readonly prwDataSet: string
  readonly prwValue: string
  readonly prwKid: string
  readonly macValue: string
  readonly macKid: string
}

export interface NamedKey {
  readonly kid: string
  readonly key: Buffer
}

/** What a PRW is made of. */
export interface SeccosInput {
  readonly pin: string
  readonly pan: string
  readonly pcc: string
  readonly intdatag: string
  /** The profile's own fields of the card. */
  readonly fields: Readonly<Record<string, string>>
}

export interface SeccosKeys {
  readonly profile: Profile
  readonly prw: NamedKey
  readonly mac: NamedKey
}

/** What is to be wrong with a message. */
export interface Twist {
  /** The data set travels as it is: PAN and PIN in it, under a MAC that is right for it. */
  readonly unmasked?: boolean
  /** Another data set travels, under a MAC that is right for it. */
  readonly shown?: (dataSet: Buffer) => Buffer
}

const MACS = { 'iso9797-1-alg3': retailMac, 'cmac-aes': aesCmac } as const
/** The digits and letters of EBCDIC, and the space. */
const EBCDIC: ReadonlyMap<string, number> = new Map(
  Object.entries({ '0123456789': 0xf0, ABCDEFGHI: 0xc1, JKLMNOPQR: 0xd1, STUVWXYZ: 0xe2, ' ': 0x40, _: 0x6d })
    .concat(Object.entries({ abcdefghi: 0x81, jklmnopqr: 0x91, stuvwxyz: 0xa2, '-': 0x60 }))
    .flatMap(([run, first]) => Array.from(run, (character, i) => [character, first + i] as const)),
)

/** Computes what D1 puts into the JWE. Errors: `ERR_CONFIG` where a card has no fit value for a field. */
export function seccosContent(input: SeccosInput, keys: SeccosKeys, twist: Twist = {}): SeccosContent {
  const { profile, prw, mac } = keys
  const random = randomBytes(profile.randomBytes)
  const parts = profile.fields.map(field => {
    const bytes = bytesOf(field, input, random, profile)
    return {
      bytes,
      masked: field.constant === undefined && field.masked ? Buffer.alloc(bytes.length) : bytes,
    }
  })
  const full = Buffer.concat(parts.map(({ bytes }) => bytes))
  const masked = Buffer.concat(parts.map(part => part.masked))
  const travelling = twist.unmasked ? full : masked
  const shown = twist.shown?.(travelling) ?? travelling
  const parted = (part: Input, value: Buffer): Buffer => {
    if (part.input === 'dataSet.full') return full
    if (part.input === 'dataSet.masked') return shown
    if (part.input === 'pinBlock') return pinBytes(profile, input)
    if (part.input === 'intdatag') return encode('intdatag', part.place, input.intdatag)
    return part.form === 'binary' ? value : Buffer.from(hex(value))
  }
  const compute = ({ algorithm, inputs, outputBytes }: Computation, key: Buffer, value: Buffer): Buffer => {
    const message = Buffer.concat(inputs.map(part => parted(part, value)))
    return MACS[algorithm](key, message).subarray(0, outputBytes)
  }
  const prwBytes = compute(profile.prw, prw.key, Buffer.alloc(0))
  return {
    intdatag: input.intdatag,
    prwDataSet: hex(shown),
    prwValue: hex(prwBytes),
    prwKid: prw.kid,
    macValue: hex(compute(profile.mac, mac.key, prwBytes)),
    macKid: mac.kid,
  }
}

function bytesOf(field: Field, input: SeccosInput, random: Buffer, profile: Profile): Buffer {
  if (field.constant !== undefined) return field.constant
  const { pin, pan, pcc, intdatag, fields } = input
  const isNumber = field.encoding === 'binary'
  switch (field.id) {
    case 'pan':
      return encode(field.id, field, pan)
    case 'pinBlock':
      return place(field.id, field, [...pinBytes(profile, input)])
    case 'pinLength':
      return isNumber ? number(field.length, pin.length) : encode(field.id, field, String(pin.length))
    case 'random':
      return place(field.id, field, [...random])
    case 'pcc':
      return isNumber ? number(field.length, Number(pcc)) : encode(field.id, field, pcc)
    case 'intdatag':
      return encode(field.id, field, intdatag)
    default: {
      const value = Object.hasOwn(fields, field.id) ? fields[field.id] : undefined
      if (value === undefined) throw new ConfigError(`a card has no value for the field ${field.id}`)
      return isNumber
        ? place(field.id, field, [...Buffer.from(value, 'hex')])
        : encode(field.id, field, value)
    }
  }
}

function pinBytes({ pinBlock }: Profile, { pin, pan }: SeccosInput): Buffer {
  return pinBlock === 'iso9564-format-0' ? clearBlock(pin, pan) : Buffer.from(pin.padEnd(16, 'f'), 'hex')
}

function number(length: number, value: number): Buffer {
  return Buffer.from(value.toString(16).padStart(2 * length, '0'), 'hex')
}

/** Characters in their form. */
function encode(id: string, form: Form, text: string): Buffer {
  const unit: Readonly<Record<Form['encoding'], (character: string) => number | undefined>> = {
    bcd: character => (/\d/.test(character) ? Number(character) : undefined),
    ascii: character => character.charCodeAt(0),
    ebcdic: character => EBCDIC.get(character),
    binary: () => undefined,
  }
  const units = Array.from(text, unit[form.encoding]).filter(value => value !== undefined)
  if (units.length !== text.length) throw new ConfigError(`a card's value of the field ${id} does not fit it`)
  return place(id, form, units)
}

/** Units (digits with bcd, bytes else) with the pad around them, as bytes. */
function place(id: string, { length, encoding, align, pad }: Form, units: readonly number[]): Buffer {
  const capacity = encoding === 'bcd' ? 2 * length : length
  const fill: number[] = new Array(Math.max(0, capacity - units.length)).fill(Number.parseInt(pad || '0', 16))
  if (units.length > capacity || (align === 'exact' && fill.length > 0)) {
    throw new ConfigError(`a card's value of the field ${id} does not fit it`)
  }
  const placed = align === 'right' ? [...fill, ...units] : [...units, ...fill]
  if (encoding !== 'bcd') return Buffer.from(placed)
  return Buffer.from(placed.map(digit => digit.toString(16)).join(''), 'hex')
}

function hex(bytes: Buffer): string {
  return bytes.toString('hex').toUpperCase()
}
