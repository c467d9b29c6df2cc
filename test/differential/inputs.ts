/**
 * Random inputs from a seed, and our answers to them. An operation is a line of plain words, which any peer can read:
 *
 *     pinblock KEY PIN PAN             format 0, enciphered under TDEA
 *     alg1|alg3 KEY PADDING MESSAGE    ISO/IEC 9797-1, full length
 *     cmac CIPHER KEY MESSAGE          CIPHER: tdea or aes
 *     kcv CIPHER KEY                   TDEA: 3 bytes of E(0); AES: 5 bytes of CMAC(one block of zeros)
 *     kdf SCALAR POINT OTHERINFO       ECDH on P-256, then the Concat KDF with SHA-256: 32 bytes
 *     es256 POINT MESSAGE SIGNATURE    01 where the signature is right, else 00
 *     prw JSON                         in base64: a PRW and its MAC by a profile
 *
 * Bytes are upper-case hex, none is `-`. An answer is hex, or words for `prw`.
 */

import { createECDH, createHash, sign } from 'node:crypto'
import { operationsOf } from '../../src/backend/key.js'
import { toHex } from '../../src/base/bytes.js'
import {
  type Backend,
  computePrw,
  dataSetToHex,
  encipherPin,
  generatePrwMac,
  type Key,
  type KeyAlgorithm,
  type KeyUsage,
  Pan,
  Pin,
} from '../../src/index.js'
import { otherInfo } from '../../src/primitives/concat-kdf.js'
import { softwareBackend } from '../../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_AES, ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../src/tools.js'
import { ecKeyPair } from '../support/key-pair.js'

/** An operation and our answer to it. */
export interface Operation {
  readonly name: string
  readonly line: string
  readonly ours: string
}

/** Random values from a seed: SHA-256 of the seed and a counter. */
export class Random {
  readonly #seed: string
  #counter = 0

  constructor(seed: string) {
    this.#seed = seed
  }

  bytes(length: number): Uint8Array {
    const parts: Buffer[] = []
    for (let have = 0; have < length; have += 32) {
      parts.push(
        createHash('sha256')
          .update(`${this.#seed}/${this.#counter++}`)
          .digest(),
      )
    }
    return Uint8Array.from(Buffer.concat(parts).subarray(0, length))
  }

  below(limit: number): number {
    return Buffer.from(this.bytes(4)).readUInt32BE() % limit
  }

  pick<T>(list: readonly [T, ...(readonly T[])]): T {
    return list[this.below(list.length)] ?? list[0]
  }

  digits(count: number): string {
    return Array.from(this.bytes(count), byte => byte % 10).join('')
  }
}

export const { DIFFERENTIAL_SEED: SEED = 'issuer-pin-crypto 1', DIFFERENTIAL_RUNS = '300' } = process.env
/** Inputs for each operation. */
export const RUNS: number = Number(DIFFERENTIAL_RUNS)

const hexOrNone = (bytes: Uint8Array): string => (bytes.length === 0 ? '-' : toHex(bytes))
/** Few keys, many inputs: a peer may answer all inputs of one key in one go. */
const KEYS_OF_A_KIND = 6

interface RandomKey {
  readonly key: Key
  readonly hex: string
}

/** Keys for one usage, each with its material. */
async function keysFor(
  random: Random,
  usage: KeyUsage,
  algorithms: readonly [KeyAlgorithm, ...KeyAlgorithm[]],
) {
  const made = Array.from({ length: KEYS_OF_A_KIND }, (_, i) => {
    const algorithm = algorithms[i % algorithms.length] ?? algorithms[0]
    const material = toHex(random.bytes(BYTES[algorithm]))
    return { kid: `${usage}-${algorithm}-${i}`, usage, algorithm, material }
  })
  const backend: Backend = await softwareBackend({ keys: made })
  const bound: RandomKey[] = []
  for (const { kid, material } of made) bound.push({ key: await backend.bind({ kid, usage }), hex: material })
  return bound
}

const BYTES: Readonly<Record<KeyAlgorithm, number>> = {
  'tdea-2key': 16,
  'tdea-3key': 24,
  'aes-128': 16,
  'aes-192': 24,
  'aes-256': 32,
  'hmac-sha256': 32,
  'ec-p256': 32,
}
const TDEA = ['tdea-2key', 'tdea-3key'] as const
const AES = ['aes-128', 'aes-192', 'aes-256'] as const

type Make = (random: Random, runs: number) => Promise<Operation[]>

async function each(
  keys: readonly RandomKey[],
  runs: number,
  make: (key: RandomKey) => Promise<Omit<Operation, 'name'>>,
  name: string,
) {
  const operations: Operation[] = []
  for (let i = 0; i < runs; i++) {
    const key = keys[i % keys.length]
    if (key !== undefined) operations.push({ name, ...(await make(key)) })
  }
  return operations
}

const pinBlocks: Make = async (random, runs) =>
  each(
    await keysFor(random, 'pin-encryption', TDEA),
    runs,
    async ({ key, hex }) => {
      const [pin, pan] = [random.digits(4 + random.below(9)), random.digits(12 + random.below(8))]
      const block = await encipherPin({ pin: Pin.from(pin), pan: Pan.from(pan), format: 0, key })
      return { line: `pinblock ${hex} ${pin} ${pan}`, ours: toHex(block) }
    },
    'PIN block, format 0',
  )

const macs =
  (algorithm: 'iso9797-1-alg1' | 'iso9797-1-alg3', usage: KeyUsage, word: string): Make =>
  async (random, runs) =>
    each(
      // Algorithm 3 has two keys; a bundle of three is an extension that not everybody reads alike.
      await keysFor(random, usage, algorithm === 'iso9797-1-alg3' ? ['tdea-2key'] : TDEA),
      runs,
      async ({ key, hex }) => {
        const padding = random.pick([1, 2, 3] as const)
        const message = random.bytes(random.below(70))
        const mac = await operationsOf(key).mac({ algorithm, padding }, message)
        return { line: `${word} ${hex} ${padding} ${hexOrNone(message)}`, ours: toHex(mac) }
      },
      `MAC, ${algorithm}`,
    )

const cmacs =
  (cipher: 'tdea' | 'aes'): Make =>
  async (random, runs) =>
    each(
      await keysFor(random, 'cmac', cipher === 'tdea' ? TDEA : AES),
      runs,
      async ({ key, hex }) => {
        const message = random.bytes(random.below(70))
        const mac = await operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, message)
        return { line: `cmac ${cipher} ${hex} ${hexOrNone(message)}`, ours: toHex(mac) }
      },
      `CMAC, ${cipher.toUpperCase()}`,
    )

const checkValues: Make = async (random, runs) => {
  const operations: Operation[] = []
  // A key each: a check value has no other input.
  for (let i = 0; i < runs / KEYS_OF_A_KIND; i++) {
    const cipher = i % 2 === 0 ? 'tdea' : 'aes'
    for (const { key, hex } of await keysFor(random, 'cmac', cipher === 'tdea' ? TDEA : AES)) {
      operations.push({ name: 'key check value', line: `kcv ${cipher} ${hex}`, ours: key.checkValue.value })
    }
  }
  return operations
}

const agreements: Make = async (random, runs) =>
  each(
    await keysFor(random, 'jwe-key-agreement', ['ec-p256']),
    runs,
    async ({ key, hex }) => {
      const ephemeral = createECDH('prime256v1')
      ephemeral.setPrivateKey(random.bytes(32))
      const point = Uint8Array.from(ephemeral.getPublicKey())
      const info = otherInfo({
        algorithmId: 'A256GCM',
        keyBits: 256,
        partyUInfo: random.bytes(random.below(20)),
        partyVInfo: random.bytes(random.below(20)),
      })
      const request = { ephemeralPublicKey: point, otherInfo: info, length: 32 }
      const derived = await operationsOf(key).deriveContentKey(request)
      return { line: `kdf ${hex} ${toHex(point)} ${toHex(info)}`, ours: toHex(derived) }
    },
    'ECDH and Concat KDF',
  )

/** Signatures are random by nature: what is compared is the verdict, on right ones and on others. */
const signatures: Make = async (random, runs) => {
  const pair = ecKeyPair()
  const jwk = pair.privateKey.export({ format: 'jwk' })
  const scalar = toHex(Buffer.from(String(jwk.d), 'base64url'))
  const point = `04${toHex(Buffer.from(String(jwk.x), 'base64url'))}${toHex(Buffer.from(String(jwk.y), 'base64url'))}`
  const backend = await softwareBackend({
    keys: [{ kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256', material: scalar }],
  })
  const key = await backend.bind({ kid: 'S', usage: 'jwt-signing' })
  const operations: Operation[] = []
  for (let i = 0; i < runs; i++) {
    const message = random.bytes(1 + random.below(200))
    const right = i % 4 !== 0
    const signature = right
      ? await operationsOf(key).sign(message)
      : sign('sha256', random.bytes(8), { key: pair.privateKey, dsaEncoding: 'ieee-p1363' })
    const line = `es256 ${point} ${toHex(message)} ${toHex(signature)}`
    operations.push({ name: 'ES256 signature', line, ours: right ? '01' : '00' })
  }
  return operations
}

const prws: Make = async (random, runs) => {
  const operations: Operation[] = []
  const kinds = [
    { profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA, algorithm: 'tdea-2key', mac: 'retail-mac' },
    { profile: ILLUSTRATIVE_NOT_GIROCARD_AES, algorithm: 'aes-128', mac: 'cmac' },
  ] as const
  for (const { profile, algorithm, mac } of kinds) {
    const prwKeys = await keysFor(random, 'prw-generate', [algorithm])
    const macKeys = await keysFor(random, mac, [algorithm])
    const isAes = algorithm === 'aes-128'
    for (let i = 0; i < runs / 2; i++) {
      const [prwKey, macKey] = [prwKeys[i % prwKeys.length], macKeys[i % macKeys.length]]
      if (prwKey === undefined || macKey === undefined) throw new Error('unreachable')
      const pin = random.digits(4 + random.below(9))
      const pan = random.digits(12 + random.below(8))
      const cardData = random.bytes(1 + random.below(16))
      const texts = {
        pcc: random.digits(4),
        intdatag: toHex(random.bytes(10)),
        psn: random.digits(isAes ? 1 + random.below(3) : 2),
        expiry: random.digits(4),
        issuer: `is_${toHex(random.bytes(3))}`,
      }
      const { pcc, intdatag, ...own } = texts
      const nonce = random.bytes(profile.randomBytes)
      const values = {
        pan: Pan.from(pan),
        pcc,
        intdatag,
        random: nonce,
        fields: isAes ? { ...own, cardData } : own,
      }
      const { prwValue, dataSet } = await computePrw({
        ...values,
        key: prwKey.key,
        profile,
        pin: Pin.from(pin),
      })
      const { macValue } = await generatePrwMac({ ...values, key: macKey.key, profile, dataSet, prwValue })
      const input = {
        profile,
        pin,
        pan,
        ...texts,
        random: toHex(nonce),
        cardData: toHex(cardData),
        prwKey: prwKey.hex,
        macKey: macKey.hex,
      }
      const line = `prw ${Buffer.from(JSON.stringify(input)).toString('base64')}`
      operations.push({
        name: `PRW, ${algorithm}`,
        line,
        ours: `${dataSetToHex(dataSet)} ${prwValue} ${macValue}`,
      })
    }
  }
  return operations
}

/** All operations, by the first word of their line. */
export const MAKERS: Readonly<Record<string, readonly Make[]>> = {
  pinblock: [pinBlocks],
  alg1: [macs('iso9797-1-alg1', 'cbc-mac', 'alg1')],
  alg3: [macs('iso9797-1-alg3', 'retail-mac', 'alg3')],
  cmac: [cmacs('tdea'), cmacs('aes')],
  kcv: [checkValues],
  kdf: [agreements],
  es256: [signatures],
  prw: [prws],
}

/** Operations of these words, the same for every peer. */
export async function operations(words: readonly string[], runs: number = RUNS): Promise<Operation[]> {
  const all: Operation[] = []
  for (const word of words) {
    for (const make of MAKERS[word] ?? []) all.push(...(await make(new Random(`${SEED}/${word}`), runs)))
  }
  return all
}
