/** Shared by the JWE tests: the published D1 sample, and a forger that shares no code with what it tests. */
import { createCipheriv, createECDH, createHash } from 'node:crypto'
import type { ContentKeyRequest, MaybePromise } from '../../src/backend/driver.js'
import { openBackend } from '../../src/backend/front.js'
import type { Key } from '../../src/backend/key.js'
import type { KeyUsage } from '../../src/key/usage.js'
import { softwareBackend } from '../../src/software.js'

/** The published D1 sample: a public test key. */
export const RECIPIENT = {
  kty: 'EC',
  crv: 'P-256',
  kid: 'ASDsL-Jx2XOkRnFtqW-QblWY-mDnQW2LgapadFx75tA',
  x: 'UbInEqNbZZZ9SJptBwKTKO6qslSyuWvMkVK44Bx_d8U',
  y: 'PUxeHMNVL0VRxOYJrkHcpe6sap7IG-Are0QborZDngI',
} as const
export const RECIPIENT_PRIVATE = { ...RECIPIENT, d: 'VS9rHVw6S5GQoWbKlXsW03kZH7U-NJcnfJLTIZyfRHs' } as const
export const SAMPLE =
  'eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsImtpZCI6IkFTRHNMLUp4MlhPa1JuRnRxVy1RYmxXWS1tRG5RVzJMZ2FwYWRGeDc1dEEiLCJlcGsiOnsia3R5IjoiRUMiLCJjcnYiOiJQLTI1NiIsIngiOiJoWGpLdmNWa3d2ZHR4M19sdnJqTmJtQkZfZW9BZjNMeGJCblBNVFJxY2JvIiwieSI6IlJHOEN5WDV5bW9oTGV0cTFhVzgzVG96UU1EaEdQbTNHNXlwZERmVy1mSlUifX0..6L__CO5yA3g4tkLY.HysY-036kmszNeXDdgP375x0NfFlobYYGoL51A5PQ4Js9y287qZZ.QFYcZCfC6JAo1-snZ6O5Cw'
export const SAMPLE_PLAINTEXT = '{"pan":"1234567891234567","exp":"1223"}'

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
export const b64u = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString('base64url')
export const fromB64u = (value: string): Buffer => Buffer.from(value, 'base64url')

/** A JWK as a test meets one. */
export interface TestJwk {
  kid?: string
  kty?: string
  crv?: string
  x?: string
  y?: string
  d?: string
}

/** A key of the software backend. */
export async function softwareKey(
  material: TestJwk = RECIPIENT_PRIVATE,
  kid: string = material.kid ?? 'test-key',
): Promise<Key> {
  const usage = 'jwe-key-agreement'
  const backend = await softwareBackend({ keys: [{ kid, usage, algorithm: 'ec-p256', material }] })
  return backend.bind({ kid, usage })
}

/** A key whose backend derives content keys as the test says. */
export async function stubKey(
  deriveContentKey: (request: ContentKeyRequest, signal: AbortSignal | undefined) => MaybePromise<Uint8Array>,
  { kid = RECIPIENT.kid, usage = 'jwe-key-agreement' }: { kid?: string; usage?: KeyUsage } = {},
): Promise<Key> {
  const unused = (): never => {
    throw new Error('not part of this test')
  }
  const ec = usage === 'jwe-key-agreement'
  const backend = openBackend<'the key'>({
    name: 'stub',
    find: () => ({
      ref: 'the key',
      algorithm: ec ? 'ec-p256' : 'tdea-2key',
      checkValue: ec
        ? { method: 'jwk-thumbprint', value: RECIPIENT.kid }
        : { method: 'encrypt-zero', value: '08D7B4' },
      parity: 'unknown',
    }),
    deriveContentKey: (_, request, signal) => deriveContentKey(request, signal),
    encipher: unused,
    decipher: unused,
    reencipher: unused,
    mac: unused,
    sign: unused,
    randomBytes: unused,
    capabilities: () => ({
      backend: 'test',
      tdea: 'none',
      macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'none', 'hmac-sha256': 'none' },
      derivation: 'none',
      keyAgreement: 'host',
      signing: 'none',
      reencipher: 'host',
      random: 'none',
      notes: [],
    }),
    health: unused,
    close: () => {},
  })
  return backend.bind({ kid, usage })
}

/** The P-256 key that {@link forge} uses as ephemeral. */
export const EPHEMERAL = createECDH('prime256v1')
EPHEMERAL.setPrivateKey(Buffer.alloc(32, 0x42))
export const EPK = {
  kty: 'EC',
  crv: 'P-256',
  x: b64u(EPHEMERAL.getPublicKey().subarray(1, 33)),
  y: b64u(EPHEMERAL.getPublicKey().subarray(33)),
}
export const HEADER = { alg: 'ECDH-ES', enc: 'A256GCM', kid: RECIPIENT.kid, epk: EPK }

const RECIPIENT_POINT = Buffer.concat([Buffer.of(4), fromB64u(RECIPIENT.x), fromB64u(RECIPIENT.y)])
const CONTENT = {
  plaintext: utf8(SAMPLE_PLAINTEXT),
  iv: Buffer.alloc(12, 7),
  tagBytes: 16,
  z: EPHEMERAL.computeSecret(RECIPIENT_POINT),
}

interface ForgeOptions {
  apu?: string
  apv?: string
  plaintext?: Uint8Array
  iv?: Buffer
  tagBytes?: number
  z?: Uint8Array
}

/**
 * A JWE that is right in everything but what the header (object, text or bytes) or the options say, so that what the
 * reader refuses is that and nothing else: the content is sealed under the key this header stands for.
 */
export function forge(header: object | string, options: ForgeOptions = {}): string {
  const { apu = '', apv = '', plaintext, iv, tagBytes, z } = { ...CONTENT, ...options }
  const json = typeof header === 'string' || header instanceof Uint8Array ? header : JSON.stringify(header)
  const aad = b64u(json)
  const cipher = createCipheriv('aes-256-gcm', contentKeyOf(z, fromB64u(apu), fromB64u(apv)), iv, {
    authTagLength: tagBytes,
  }).setAAD(Buffer.from(aad))
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()])
  return `${aad}..${b64u(iv)}.${b64u(ciphertext)}.${b64u(cipher.getAuthTag())}`
}

/** RFC 7518, 4.6.2 for A256GCM, written down once more. */
export function contentKeyOf(z: Uint8Array, apu: Uint8Array, apv: Uint8Array): Buffer {
  const part = (bytes: Uint8Array): Buffer => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    return Buffer.concat([length, bytes])
  }
  const hash = createHash('sha256').update(Buffer.from('00000001', 'hex')).update(z)
  for (const bytes of [Buffer.from('A256GCM'), apu, apv]) hash.update(part(bytes))
  return hash.update(Buffer.from('00000100', 'hex')).digest()
}

/** What a promise rejects with, as the caller sees it: class, code, message. */
export async function failureOf(
  promise: Promise<unknown>,
): Promise<{ name: string; code: string; message: string }> {
  const error: unknown = await promise.then(
    () => undefined,
    reason => reason,
  )
  if (!(error instanceof Error)) throw new Error('expected a failure')
  return { name: error.name, code: String(Reflect.get(error, 'code')), message: error.message }
}

/** The one answer to a JWE that does not open. */
export const DOES_NOT_OPEN = { name: 'JweError', code: 'ERR_JWE', message: 'the JWE does not open' }
