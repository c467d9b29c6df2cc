/** PIN blocks: format 0 against a reading of the standard in hex digits; TDEA against node-forge. */
import fc from 'fast-check'
import {
  buildFormat0,
  checkFormat0,
  decipherPin,
  encipherPin,
  Pan,
  Pin,
  parseFormat0,
  reencipherPinBlock,
  translatePinBlock,
} from '../../../src/index.js'
import { softwareBackend } from '../../../src/software.js'
import { forgeBlock } from '../support/forge-block.js'
import { hex, Input } from '../support/input.js'
import { attempt, attemptAsync } from '../support/oracle.js'
import { check, type FuzzTarget, once } from '../target.js'

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** The PIN field by hex digits, or undefined: ISO 9564-1, format 0, written down once more. */
function naivePinField(block: string, pan: string): { length: number; field: string } | undefined {
  if (block.length !== 16) return undefined
  const account = `0000${pan.slice(0, -1).slice(-12).padStart(12, '0')}`
  const field = (BigInt(`0x${block}`) ^ BigInt(`0x${account}`)).toString(16).padStart(16, '0')
  const length = Number.parseInt(field.charAt(1), 16)
  const sound = field.startsWith('0') && length >= 4 && length <= 12 && /^f*$/.test(field.slice(2 + length))
  return sound ? { length, field } : undefined
}

function naivePin(block: string, pan: string): string | undefined {
  const found = naivePinField(block, pan)
  const digits = found?.field.slice(2, 2 + found.length) ?? ''
  return /^[0-9]+$/.test(digits) ? digits : undefined
}

/** A PAN of the length and digits that the input says. */
function panOf(input: Input): string {
  const length = 12 + (input.byte() % 8)
  return Array.from({ length }, () => input.byte() % 10).join('')
}

const PAN_BYTES = [4, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1]
const seed = (block: string): Uint8Array => Uint8Array.from([...PAN_BYTES, ...hex(block)])

/** PIN fields that are almost format 0, XORed with the PAN of the same input. */
const almost = fc
  .record({
    panLength: fc.integer({ min: 0, max: 7 }),
    pan: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 19, maxLength: 19 }),
    control: fc.oneof(
      { weight: 8, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 15 }) },
    ),
    length: fc.integer({ min: 2, max: 14 }),
    digits: fc.array(fc.integer({ min: 0, max: 10 }), { minLength: 14, maxLength: 14 }),
    filler: fc.oneof(
      { weight: 8, arbitrary: fc.constant(15) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 15 }) },
    ),
  })
  .map(({ panLength, pan, control, length, digits, filler }) => {
    const digitsOfPan = pan.slice(0, 12 + panLength)
    const nibbles = [
      control,
      length,
      ...digits.map((digit, i) => (i < length ? digit : i === 13 ? filler : 15)),
    ]
    const account = [0, 0, 0, 0, ...[0, ...digitsOfPan.slice(0, -1)].slice(-12)]
    const block = nibbles.map((nibble, i) => (nibble ^ (account[i] ?? 0)).toString(16)).join('')
    return Uint8Array.from([panLength, ...digitsOfPan, ...hex(block)])
  })

const SEEDS = [seed('041215FEDCBA9876'), seed('0C1215FEDCBA9876'), seed('0000000000000000'), seed('04')]

export const format0: FuzzTarget = {
  name: 'format0',
  share: 130,
  seeds: SEEDS,
  structured: almost,
  run(bytes) {
    const input = new Input(bytes)
    const panText = panOf(input)
    const block = input.rest()
    const blockHex = toHex(block)
    const pan = Pan.from(panText)
    const rule = { codes: ['ERR_PIN_BLOCK'], hidden: [blockHex, blockHex.toUpperCase(), panText] } as const
    const pin = attempt(() => parseFormat0({ block, pan }), rule)
    const expected = naivePin(blockHex, panText)
    check(pin?.reveal() === expected, 'parseFormat0 reads as the standard does')
    const sound = attempt(() => checkFormat0({ block, pan }) === undefined, rule) ?? false
    check(
      sound === (naivePinField(blockHex, panText) !== undefined),
      'checkFormat0 judges as the standard does',
    )
    if (pin === undefined) return
    check(toHex(buildFormat0({ pin, pan })) === blockHex, 'building undoes parsing')
    pin.dispose()
  },
}

const ZPK = '0123456789ABCDEFFEDCBA9876543210'
const PEK = '89E88CF7931444F334BD7547FC3F380C'
const tdea = (key: string) => ({ usage: 'pin-encryption', algorithm: 'tdea-2key', material: key }) as const

const keys = once(async () => {
  const backend = await softwareBackend({
    keys: [
      { kid: 'ZPK', ...tdea(ZPK) },
      { kid: 'PEK', ...tdea(PEK) },
    ],
  })
  const bind = (kid: string) => backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
  return { zpk: await bind('ZPK'), pek: await bind('PEK') }
})

/** The same inputs; what is a whole block is enciphered first, so that what is almost right is deciphered. */
export const pinBlockVerbs: FuzzTarget = {
  name: 'pin-block-verbs',
  share: 16,
  seeds: SEEDS,
  structured: almost,
  async run(bytes) {
    const { zpk, pek } = await keys()
    const input = new Input(bytes)
    const panText = panOf(input)
    const pan = Pan.from(panText)
    const clear = toHex(input.rest())
    const whole = clear.length === 16
    const block = hex(whole ? forgeBlock('createCipher', ZPK, clear) : clear)
    const hidden = [clear, toHex(block), panText].flatMap(text => [text, text.toUpperCase()])
    const rule = { codes: ['ERR_PIN_BLOCK'], hidden } as const
    const pin = await attemptAsync(() => decipherPin({ block, pan, format: 0, key: zpk }), rule)
    check(pin?.reveal() === naivePin(clear, panText), 'decipherPin and node-forge read one PIN')
    const move = { block, pan, fromFormat: 0, toFormat: 0, from: zpk, to: pek } as const
    const moved = await attemptAsync(() => translatePinBlock(move), rule)
    const due = naivePinField(clear, panText) !== undefined
    check((moved !== undefined) === due, 'translatePinBlock judges as the standard does')
    const enciphered = whole ? forgeBlock('createCipher', PEK, clear) : undefined
    if (moved !== undefined)
      check(toHex(moved) === enciphered, 'translatePinBlock enciphers as node-forge does')
    const unseen = await attemptAsync(() => reencipherPinBlock({ block, from: zpk, to: pek }), rule)
    check((unseen && toHex(unseen)) === enciphered, 'reencipherPinBlock enciphers as node-forge does')
    if (pin === undefined) return
    const again = await encipherPin({ pin, pan, format: 0, key: zpk })
    check(toHex(again) === toHex(block), 'encipherPin undoes decipherPin')
    using copy = Pin.from(pin.revealAscii())
    check(copy.equals(pin), 'a Pin equals its copy')
    pin.dispose()
  },
}
