/** Reads the published known-answer files (`vectors/`), typed by operation. */
import { readdirSync, readFileSync } from 'node:fs'

export const folder: URL = new URL('../../vectors/', import.meta.url)

type Format = 0 | 1 | 2 | 3
type Jwk = { kty: string; crv: string; x: string; y?: string; kid?: string }
type Format4Steps = { pinField: string; panField: string; intermediateA: string; intermediateB: string }

/** Inputs and outputs of each operation, as `schema.json` demands them. Strings are upper-case hex, or digits. */
export interface Operations {
  'pin-block.encode': [
    { format: Format; pin: string; pan?: string; fill?: string },
    { block: string; blockPrefix?: never } | { blockPrefix: string; block?: never },
  ]
  'pin-block.decode': [{ format: Format; block: string; pan?: string }, { pin: string }]
  'pin-block.encipher': [
    { format: 0; pin: string; pan: string; key: string },
    { block: string; enciphered: string },
  ]
  'pin-block-4.pin-field': [{ pin: string; random: string }, { pinField: string }]
  'pin-block-4.decode-pin-field': [{ pinField: string }, { pin: string }]
  'pin-block-4.pan-field': [{ pan: string }, { panField: string }]
  'pin-block-4.encipher': [
    { key: string; pin: string; pan: string; random: string },
    Format4Steps & { enciphered: string },
  ]
  'pin-block-4.decipher': [{ key: string; pan: string; enciphered: string }, Format4Steps & { pin: string }]
  'tdea.encipher': [
    { keying: '1-key' | '2-key' | '3-key'; key: string; plaintext: string } & (
      | { mode: 'ECB'; iv?: never }
      | { mode: 'CBC'; iv: string }
    ),
    { ciphertext: string },
  ]
  'des.key-class': [
    { key: string },
    { classification: 'weak' | 'semi-weak' | 'possibly-weak' | 'ok'; distinctRoundKeys: number },
  ]
  'des.check-parity': [{ key: string }, { oddParity: boolean }]
  'des.adjust-parity': [{ key: string }, { adjusted: string }]
  'tdea.key-class': [{ key: string }, { singleDes: boolean; k1EqualsK3: boolean }]
  kcv: [{ cipher: 'TDEA' | 'AES'; method: 'ecb-zero' | 'cmac'; key: string }, { kcv: string }]
  'key-block.open': [
    { version: 'A' | 'B' | 'C' | 'D'; kbpk: string; block: string },
    { key: string; kcv: string },
  ]
  'mac.iso9797': [
    { algorithm: 1 | 3; cipher: 'DES' | 'TDEA'; padding: 1 | 2 | 3; key: string; data: string },
    { mac: string; published?: string },
  ]
  'iso9797.pad': [{ padding: 1 | 2 | 3; blockSize: 4 | 8 | 16; data: string }, { padded: string }]
  cmac: [{ cipher: 'TDEA' | 'AES'; key: string; data: string }, { mac: string }]
  'concat-kdf': [
    { hash: 'sha256' | 'sha512'; z: string; otherInfo: string; keyBits: number },
    { derived: string },
  ]
  'concat-kdf.other-info': [
    { algorithmId: string; partyUInfo: string; partyVInfo: string; keyBits: number },
    { otherInfo: string },
  ]
  'ecdh.p256': [{ privateKey: string; peerPublicKey: string }, { z: string }]
  'aes-gcm.seal': [
    { key: string; iv: string; aad: string; plaintext: string },
    { ciphertext: string; tag: string },
  ]
  'aes-gcm.open': [{ key: string; iv: string; aad: string; ciphertext: string; tag: string }, never]
  'jwe.open': [
    { jwe: string | Record<string, unknown>; recipientPrivateJwk: Jwk & { d: string } },
    { plaintext: string; z?: string; cek?: string },
  ]
  'jwe.seal': [
    {
      recipientPublicJwk: Jwk
      ephemeralPrivateJwk: Jwk & { d: string }
      iv: string
      protectedHeader: string
      plaintext: string
    },
    { jwe: string; z: string; cek: string },
  ]
}

export type Operation = keyof Operations

interface Common<O extends Operation> {
  id: string
  operation: O
  inputs: Operations[O][0]
  flags?: string[]
  /** Only on accepted `jwe.*` vectors. */
  inProfile?: boolean
  source: string
  at?: string
  obtained: 'published' | 'computed'
  note?: string
}
export type Accepted<O extends Operation> = Common<O> & { expect: 'accept'; outputs: Operations[O][1] }
export type Rejected<O extends Operation> = Common<O> & { expect: 'reject'; reason: string }
export type Vector<O extends Operation = Operation> = O extends Operation ? Accepted<O> | Rejected<O> : never

export interface Source {
  kind: 'standard' | 'vendor' | 'implementation' | 'project'
  title: string
  via?: string
  how?: string
}

export interface VectorFile {
  topic: string
  conventions: string[]
  sources: Record<string, Source>
  vectors: Vector[]
}

/** Names of all files but the schema, as `kcv.json`. */
export const fileNames: string[] = readdirSync(folder)
  .filter(name => name.endsWith('.json') && name !== 'schema.json')
  .sort()

export function readText(name: string): string {
  return readFileSync(new URL(name, folder), 'utf8')
}

export function readFile(name: string): VectorFile {
  return JSON.parse(readText(name))
}

/** The vectors of one operation that are to succeed. */
export function accepted<O extends Operation>(name: string, operation: O): Accepted<O>[] {
  return ofOperation(name, operation).filter((v): v is Accepted<O> => v.expect === 'accept')
}

/** The vectors of one operation that are to fail. */
export function rejected<O extends Operation>(name: string, operation: O): Rejected<O>[] {
  return ofOperation(name, operation).filter((v): v is Rejected<O> => v.expect === 'reject')
}

function ofOperation<O extends Operation>(name: string, operation: O): (Accepted<O> | Rejected<O>)[] {
  return readFile(name).vectors.filter(v => v.operation === operation) as (Accepted<O> | Rejected<O>)[]
}
