/**
 * D1's part in a Set PIN of type 3DES_SECCOS, by the illustrative profile of this library (invented, NOT the girocard
 * algorithm): data set, PRW and MAC written out by hand with node-forge, so that the issuer's side is checked against
 * code it does not share.
 */
import { randomBytes } from 'node:crypto'
import forge from 'node-forge'

export interface SeccosKeys {
  readonly prw: { readonly hex: string; readonly kid: string }
  readonly mac: { readonly hex: string; readonly kid: string }
}

export interface SeccosCard {
  readonly pan: string
  readonly psn: string
  readonly expiry: string
  readonly issuer: string
}

/** The six members of the message, in hex and text as they travel. */
export function seccosContent(
  pin: string,
  card: SeccosCard,
  counter: { readonly pcc: string; readonly intdatag: string },
  keys: SeccosKeys,
): Record<string, string> {
  const random = randomBytes(4).toString('hex')
  const build = (pan: string, pinBlock: string): string =>
    [
      '01',
      pan,
      card.psn,
      card.expiry,
      counter.pcc,
      pinBlock,
      random,
      Buffer.from(card.issuer.padEnd(10)).toString('hex'),
      Buffer.from(counter.intdatag).toString('hex'),
      '00'.repeat(65),
    ].join('')
  const full = build(card.pan.padEnd(20, 'f'), clearBlock(pin, card.pan))
  const masked = build('00'.repeat(10), '00'.repeat(8))
  const prwValue = retailMac(keys.prw.hex, full)
  return {
    intdatag: counter.intdatag,
    prwDataSet: masked.toUpperCase(),
    prwValue: prwValue.toUpperCase(),
    prwKid: keys.prw.kid,
    macValue: retailMac(keys.mac.hex, masked + prwValue).toUpperCase(),
    macKid: keys.mac.kid,
  }
}

/** The clear format 0 block. */
function clearBlock(pin: string, pan: string): string {
  const field = Buffer.from(`0${pin.length.toString(16)}${pin}`.padEnd(16, 'f'), 'hex')
  const account = Buffer.from(`0000${pan.slice(-13, -1).padStart(12, '0')}`, 'hex')
  return Buffer.from(field.map((byte, i) => byte ^ (account[i] ?? 0))).toString('hex')
}

/** ISO/IEC 9797-1 algorithm 3 with padding 2: DES-CBC under K1, then decrypt under K2, encrypt under K1. */
function retailMac(keyHex: string, messageHex: string): string {
  const [k1, k2] = [keyHex.slice(0, 16), keyHex.slice(16)]
  const padded = `${messageHex}80`.padEnd(Math.ceil((messageHex.length + 2) / 16) * 16, '0')
  let state = '0000000000000000'
  for (let at = 0; at < padded.length; at += 16) {
    const block = Buffer.from(padded.slice(at, at + 16), 'hex').map(
      (byte, i) => byte ^ Number.parseInt(state.slice(2 * i, 2 * i + 2), 16),
    )
    state = des('encrypt', k1, Buffer.from(block).toString('hex'))
  }
  return des('encrypt', k1, des('decrypt', k2, state))
}

function des(direction: 'encrypt' | 'decrypt', keyHex: string, blockHex: string): string {
  const key = forge.util.hexToBytes(keyHex)
  const cipher =
    direction === 'encrypt'
      ? forge.cipher.createCipher('DES-ECB', key)
      : forge.cipher.createDecipher('DES-ECB', key)
  cipher.start({})
  cipher.update(forge.util.createBuffer(forge.util.hexToBytes(blockHex)))
  return cipher.output.toHex().slice(0, 16)
}
