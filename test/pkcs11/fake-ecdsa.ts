/** ECDSA over a digest, by the book (FIPS 186-5, 6.4.1): node:crypto signs messages only, a token signs digests. */
import { createECDH, createHash } from 'node:crypto'

const N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

const read = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`)
const write = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, '0'), 'hex')
const modN = (value: bigint): bigint => ((value % N) + N) % N

function inverse(value: bigint): bigint {
  let [a, b, u, v] = [modN(value), N, 1n, 0n]
  while (a > 1n) {
    const quotient = b / a
    ;[a, b, u, v] = [b - quotient * a, a, v - quotient * u, u]
  }
  return modN(u)
}

/** r and s of a digest of 32 bytes, with the nonce whose bytes are given, or with a random one. */
export function signDigestWith(scalar: Uint8Array, digest: Uint8Array, nonce?: Uint8Array): [Buffer, Buffer] {
  const ephemeral = createECDH('prime256v1')
  if (nonce === undefined) ephemeral.generateKeys()
  else ephemeral.setPrivateKey(nonce)
  const k = read(ephemeral.getPrivateKey())
  const r = modN(read(ephemeral.getPublicKey().subarray(1, 33)))
  const s = modN(inverse(k) * (read(digest) + r * read(scalar)))
  return [write(r), write(s)]
}

/** The same as a DER SEQUENCE of two INTEGERs, as X.509 has it and JWS has not. */
export function derOf(parts: readonly Uint8Array[]): Uint8Array {
  const integers = parts.map(part => {
    const short = part.subarray(part.findIndex(byte => byte !== 0))
    const value = (short[0] ?? 0) > 0x7f ? Uint8Array.of(0, ...short) : short
    return Uint8Array.of(0x02, value.length, ...value)
  })
  const body = Buffer.concat(integers)
  return Uint8Array.of(0x30, body.length, ...body)
}

/** A nonce that never changes: what must be found out. */
export const SAME_NONCE: Uint8Array = createHash('sha256').update('always the same').digest()
