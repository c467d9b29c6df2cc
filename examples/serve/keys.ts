/**
 * The issuer's keys, by name, and the test values they get. Three are shared with D1 and would come from D1 as key
 * blocks or components; here they are made up, and stand in files of the folder so that the simulator has them too.
 */
import { createPrivateKey, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto'
import type { KeyAlgorithm, KeyUsage } from 'issuer-pin-crypto'
import type { Folder, NewFile } from './folder.js'
import { type Onboarded, TEST_ISSUER } from './onboarded.js'
import { UsageError } from './options.js'

interface IssuerKey {
  readonly kid: string
  readonly usage: KeyUsage
  readonly algorithm: KeyAlgorithm
  /** The file that holds the test value which D1 has as well; none: the issuer's own. */
  readonly file?: string
}

/** Shared with D1: PIN blocks of Get PIN and Set PIN; the MAC of a 3DES_SECCOS Set PIN. */
export const ZPK = { kid: 'ZPK-D1', file: 'zpk.hex' } as const
export const MAC = { kid: 'MAC-1', file: 'mac.hex' } as const
/** D1 computes PRWs under it. Whoever verifies PINs at a terminal needs it; the endpoints know its name only. */
export const PRW = { kid: 'PRW-1', file: 'prw.hex' } as const

/** All of them; the one that opens what D1 sends has the kid that D1 was told. */
export function issuerKeys(jweKid: string): readonly IssuerKey[] {
  return [
    { ...ZPK, usage: 'pin-encryption', algorithm: 'tdea-2key' },
    { ...MAC, usage: 'retail-mac', algorithm: 'tdea-2key' },
    // PIN blocks at rest.
    { kid: 'PEK-STORE', usage: 'pin-encryption', algorithm: 'tdea-2key' },
    { kid: jweKid, usage: 'jwe-key-agreement', algorithm: 'ec-p256' },
  ]
}

const D1_JWE_KID = 'D1-JWE'
const OWN_KEYS = 'TEST-KEYS.json'
/** What D1 opens a Get PIN with, as the command line takes keys. */
export const D1_KEYS = 'D1-TEST-KEYS.json'

/**
 * By way of DER. Node holds a key's lock while it makes a JWK of it: of a key that it has just generated that can go on for ever, for
 * the collector may want the same lock.
 */
function newPrivateJwk(): JsonWebKey {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { format: 'der', type: 'sec1' },
    publicKeyEncoding: { format: 'der', type: 'spki' },
  })
  return createPrivateKey({ key: privateKey, format: 'der', type: 'sec1' }).export({ format: 'jwk' })
}

/** Test values of all keys, for a new folder. A token makes its own of those that nobody else has. */
export function makeKeys(backend: 'software' | 'pkcs11', onboarded?: Onboarded): readonly NewFile[] {
  const d1 = { ...newPrivateJwk(), kid: D1_JWE_KID }
  const own = {
    warning: 'Test keys in the clear, made by npm run serve. For nothing but tests.',
    'PEK-STORE': hex16(),
    [onboarded?.identity.jweKid ?? TEST_ISSUER.jweKid]: onboarded?.jwk ?? newPrivateJwk(),
  }
  const shared = [ZPK, MAC, PRW].map(({ file }) => ({ name: file, text: hex16() }))
  const zpk = shared.find(({ name }) => name === ZPK.file)
  return [
    ...shared,
    { name: 'd1-jwe-private.jwk', text: JSON.stringify(d1) },
    ...(zpk === undefined ? [] : [{ name: D1_KEYS, text: JSON.stringify(keysOfD1(d1, zpk.text), null, 2) }]),
    ...(backend === 'software' ? [{ name: OWN_KEYS, text: JSON.stringify(own, null, 2) }] : []),
  ]
}

function keysOfD1(jwk: JsonWebKey, zpk: string): readonly object[] {
  return [
    { kid: D1_JWE_KID, usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: jwk },
    { kid: ZPK.kid, usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpk },
  ]
}

/** What a key that D1 has as well is made of: 32 hex digits. */
export function sharedMaterial(folder: Folder, file: string): string {
  return folder.read(file).trim()
}

/** What a key of the issuer's own is made of, where it is in the folder. */
export function ownMaterial(folder: Folder, kid: string): string | JsonWebKey {
  const material = folder.readJson<Record<string, string | JsonWebKey>>(OWN_KEYS)[kid]
  if (material === undefined) throw new UsageError(`${folder.file(OWN_KEYS)} has no ${kid}`)
  return material
}

/** D1's public key, with its kid: Get PIN is answered to it. */
export function d1PublicJwk(folder: Folder): { kty: 'EC'; crv: 'P-256'; x: string; y: string; kid: string } {
  const { kty, crv, x, y, kid } = folder.readJson<ReturnType<typeof d1PublicJwk>>('d1-jwe-private.jwk')
  return { kty, crv, x, y, kid }
}

/** A two-key TDEA key: 16 random bytes. */
function hex16(): string {
  return randomBytes(16).toString('hex').toUpperCase()
}
