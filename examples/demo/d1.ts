/**
 * The other side of the demo: D1, as far as the PIN calls go. Built on jose and node-forge only, so that the two ends
 * share no code: what works here works because both follow the published formats.
 */
import {
  CompactEncrypt,
  type CryptoKey,
  compactDecrypt,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
} from 'jose'
import forge from 'node-forge'

/** A P-256 public key as JOSE shows it, with the kid that names it. */
export type PublicJwk = JWK & { kty: 'EC'; crv: 'P-256'; x: string; y: string; kid: string }

/** What D1 and the issuer have exchanged beforehand. */
export interface D1Setup {
  readonly issuerPublicJwk: JWK
  readonly issuerKid: string
  /** The TDEA key both sides hold: hex of 16 bytes, and what they call it. */
  readonly zpk: { readonly hex: string; readonly kid: string }
  /** D1's private P-256 key with its kid; a new one where absent. */
  readonly privateJwk?: PublicJwk
}

export class D1 {
  readonly publicJwk: PublicJwk
  readonly #privateKey: CryptoKey
  readonly #setup: D1Setup

  private constructor(publicJwk: PublicJwk, privateKey: CryptoKey, setup: D1Setup) {
    this.publicJwk = publicJwk
    this.#privateKey = privateKey
    this.#setup = setup
  }

  static async start(setup: D1Setup): Promise<D1> {
    if (setup.privateJwk !== undefined) {
      const { kty, crv, x, y, kid } = setup.privateJwk
      const privateKey = (await importJWK(setup.privateJwk, 'ECDH-ES')) as CryptoKey
      return new D1({ kty, crv, x, y, kid }, privateKey, setup)
    }
    const { publicKey, privateKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
    const jwk = await exportJWK(publicKey)
    return new D1({ ...jwk, kid: 'D1-2026' } as PublicJwk, privateKey, setup)
  }

  /** Reads the answer to Get PIN: opens the JWE, deciphers the block, takes the PIN out of format 0. */
  async readPin(body: { type: string; encryptedPinBlock: string }, pan: string): Promise<string> {
    if (body.type !== 'ISO0') throw new Error(`D1: unexpected type ${body.type}`)
    const { plaintext } = await compactDecrypt(body.encryptedPinBlock, this.#privateKey)
    const { pinValue, kid } = JSON.parse(new TextDecoder().decode(plaintext)) as Record<string, string>
    if (kid !== this.#setup.zpk.kid || pinValue === undefined) throw new Error('D1: unexpected content')
    const field = xorHex(this.#tdea('decipher', pinValue), panField(pan))
    const length = Number.parseInt(field.slice(1, 2), 16)
    const digits = field.slice(2, 2 + length)
    if (!field.startsWith('0') || !/^\d+$/.test(digits) || !/^f*$/.test(field.slice(2 + length))) {
      throw new Error('D1: not a format 0 block for this PAN')
    }
    return digits
  }

  /** Makes the body of a Set PIN request of type ISO0. */
  async setPinRequest(pin: string, pan: string): Promise<string> {
    return this.seal('ISO0', this.iso0Content(pin, pan))
  }

  /** What is in it. */
  iso0Content(pin: string, pan: string): { readonly pinValue: string; readonly kid: string } {
    const field = `0${pin.length.toString(16)}${pin}`.padEnd(16, 'f')
    const pinValue = this.#tdea('encipher', xorHex(field, panField(pan))).toUpperCase()
    return { pinValue, kid: this.#setup.zpk.kid }
  }

  /** Puts a content into a JWE to the issuer and the JWE into the outer object. */
  async seal(type: string, content: object): Promise<string> {
    const { issuerPublicJwk, issuerKid } = this.#setup
    const encryptedPinBlock = await new CompactEncrypt(new TextEncoder().encode(JSON.stringify(content)))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: issuerKid })
      .encrypt(await importJWK(issuerPublicJwk, 'ECDH-ES'))
    return JSON.stringify({ type, encryptedPinBlock })
  }

  #tdea(direction: 'encipher' | 'decipher', blockHex: string): string {
    const key = forge.util.hexToBytes(this.#setup.zpk.hex + this.#setup.zpk.hex.slice(0, 16))
    const cipher =
      direction === 'encipher'
        ? forge.cipher.createCipher('3DES-ECB', key)
        : forge.cipher.createDecipher('3DES-ECB', key)
    cipher.start({})
    cipher.update(forge.util.createBuffer(forge.util.hexToBytes(blockHex)))
    return cipher.output.toHex().slice(0, 16)
  }
}

function panField(pan: string): string {
  return `0000${pan.slice(-13, -1).padStart(12, '0')}`
}

function xorHex(a: string, b: string): string {
  return Array.from(a, (digit, i) =>
    (Number.parseInt(digit, 16) ^ Number.parseInt(b[i] ?? '0', 16)).toString(16),
  ).join('')
}
