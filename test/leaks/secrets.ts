/** The secrets of one run: made at random, and what is computed from them by node:crypto alone. */

import {
  createCipheriv,
  createECDH,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  randomBytes,
  randomInt,
} from 'node:crypto'
import { ecKeyPair } from '../support/key-pair.js'
import { type Canaries, canariesOf } from './canaries.js'
import type { Planted } from './hostile.js'

export interface P256Jwk {
  readonly kty: 'EC'
  readonly crv: 'P-256'
  readonly x: string
  readonly y: string
  readonly d: string
}

export const digits = (count: number): string => Array.from({ length: count }, () => randomInt(10)).join('')

export function p256(): P256Jwk {
  const jwk = ecKeyPair().privateKey.export({ format: 'jwk' })
  return { kty: 'EC', crv: 'P-256', x: String(jwk.x), y: String(jwk.y), d: String(jwk.d) }
}

/** The secrets. PINs of 12 digits are found when they leak; shorter ones would turn up by accident. */
export const pin: string = digits(12)
export const otherPin: string = digits(12)
export const pan = `9${digits(15)}`
export const tokenPin = `token-pin-${randomBytes(6).toString('hex')}`
/** With digits enough: one of letters alone could be a word, and a message shows a misspelt name. */
export const clientSecret = `${digits(4)}${randomBytes(16).toString('base64url')}`
export const accessToken = `access.${randomBytes(18).toString('base64url')}`
export const tokenKey: string = randomBytes(32).toString('base64url')
export const keys = {
  ZPK: randomBytes(16),
  'storage key': randomBytes(16),
  'closed key': randomBytes(16),
  'AES key': randomBytes(16),
  'retail MAC key': randomBytes(16),
  'CBC MAC key': randomBytes(16),
  'CMAC key': randomBytes(16),
  'PRW key': randomBytes(16),
  'key block key': randomBytes(16),
  'PVV key': randomBytes(16),
  'offset key': randomBytes(16),
  'carried key': randomBytes(16),
} as const
export const jwe: P256Jwk = p256()
export const d1: P256Jwk = p256()
export const signing: P256Jwk = p256()

/** The PIN field of format 0 (ISO 9564-1:2017, 9.3), and the block that it makes with a PAN; written here once more. */
export function format0(pin: string, pan: string): { readonly field: Buffer; readonly block: Buffer } {
  const field = Buffer.from(`0${pin.length.toString(16)}${pin}`.padEnd(16, 'f'), 'hex')
  const account = Buffer.from(`0000${pan.slice(-13, -1)}`, 'hex')
  return { field, block: Buffer.from(field.map((byte, i) => byte ^ (account[i] ?? 0))) }
}
export const clearBlock: Buffer = format0(pin, pan).block

export const encipher = (key: Buffer, block: Buffer): Buffer => {
  const cipher = createCipheriv('des-ede-ecb', key, null).setAutoPadding(false)
  return Buffer.concat([cipher.update(block), cipher.final()])
}
export const storedBlock: Buffer = encipher(keys['storage key'], clearBlock)
export const sharedBlock: Buffer = encipher(keys.ZPK, clearBlock)

/** The block of format 4 (ISO 9564-1:2017, 9.4.4), enciphered under the AES key; and the PAN field that is between its encipherments. */
export const panField4: Buffer = Buffer.from(`${pan.length - 12}${pan}`.padEnd(32, '0'), 'hex')
export const aesBlock: Buffer = format4(pin)

function format4(pin: string): Buffer {
  const field = Buffer.from(`4${pin.length.toString(16)}${pin}`.padEnd(16, 'a'), 'hex')
  const encipher = (block: Buffer): Buffer =>
    createCipheriv('aes-128-ecb', keys['AES key'], null).setAutoPadding(false).update(block)
  const once = encipher(Buffer.concat([field, randomBytes(8)]))
  return encipher(Buffer.from(once.map((byte, i) => byte ^ (panField4[i] ?? 0))))
}

export const otherInfo: Uint8Array = Buffer.concat([
  Buffer.from([0, 0, 0, 7]),
  Buffer.from('A256GCM'),
  Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
])

/** Z and the content key (RFC 7518, 4.6) of a private key and a public one. */
export function agreed(
  privateJwk: P256Jwk,
  publicJwk: object,
): { readonly z: Buffer; readonly contentKey: Buffer } {
  const z = diffieHellman({
    privateKey: createPrivateKey({ key: { ...privateJwk }, format: 'jwk' }),
    publicKey: createPublicKey({ key: { ...publicJwk }, format: 'jwk' }),
  })
  const one = Buffer.from([0, 0, 0, 1])
  return { z, contentKey: createHash('sha256').update(one).update(z).update(otherInfo).digest() }
}

/** A sender whose ephemeral key does not change: Z and the content key are known. */
export function senderTo(recipient: P256Jwk) {
  const point = createECDH('prime256v1').generateKeys()
  const epk = {
    kty: 'EC',
    crv: 'P-256',
    x: point.subarray(1, 33).toString('base64url'),
    y: point.subarray(33).toString('base64url'),
  } as const
  const { z, contentKey } = agreed(recipient, epk)
  const seal = (plaintext: string | Uint8Array, kid = 'JWE'): string => {
    const header = Buffer.from(JSON.stringify({ alg: 'ECDH-ES', enc: 'A256GCM', kid, epk })).toString(
      'base64url',
    )
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', contentKey, iv).setAAD(Buffer.from(header))
    const text = Buffer.concat([cipher.update(plaintext), cipher.final()])
    const [a, b, c] = [iv, text, cipher.getAuthTag()].map(part => part.toString('base64url'))
    return `${header}..${a}.${b}.${c}`
  }
  return { point: Uint8Array.from(point), z, contentKey, seal }
}

const sender = senderTo(jwe)
export const ephemeralPublicKey: Uint8Array = sender.point
export const z: Buffer = sender.z
export const contentKey: Buffer = sender.contentKey

/** A JWE to our key whose Z and content key are known. */
export const sealed = (plaintext: string, kid = 'JWE'): string => sender.seal(plaintext, kid)

export const canaries: Canaries = canariesOf({
  PIN: pin,
  'other PIN': otherPin,
  PAN: pan,
  'PAN digits of a block': pan.slice(-13, -1),
  'token PIN': tokenPin,
  'client secret': clientSecret,
  'access token': accessToken,
  'token key': Buffer.from(tokenKey, 'base64url'),
  ...keys,
  'JWE private key': Buffer.from(jwe.d, 'base64url'),
  'D1 private key': Buffer.from(d1.d, 'base64url'),
  'signing key': Buffer.from(signing.d, 'base64url'),
  'clear block': clearBlock,
  'stored block': storedBlock,
  'shared block': sharedBlock,
  Z: z,
  'content key': contentKey,
})

export const planted: Planted = {
  texts: [
    pin,
    pan,
    otherPin,
    tokenPin,
    clientSecret,
    accessToken,
    tokenKey,
    keys.ZPK.toString('hex'),
    keys['PRW key'].toString('hex').toUpperCase(),
    jwe.d,
    clearBlock.toString('hex').toUpperCase(),
    storedBlock.toString('hex').toUpperCase(),
    contentKey.toString('base64'),
  ],
  bytes: [Buffer.from(pin), Buffer.from(pan), clearBlock, storedBlock, keys['retail MAC key'], z],
}
