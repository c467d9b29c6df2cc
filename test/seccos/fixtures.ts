/** What the SECCOS tests share: keys of every kind, values for the illustrative profiles, canaries. */
import { inspect } from 'node:util'
import { expect } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import type { Key } from '../../src/backend/key.js'
import type { KeyUsage } from '../../src/key/usage.js'
import type { KeyAlgorithm } from '../../src/primitives/algorithms.js'
import { Pan } from '../../src/primitives/pan.js'
import { Pin } from '../../src/primitives/pin.js'
import type { DataSetValues } from '../../src/seccos/field-value.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../src/seccos/profile/illustrative.js'
import {
  ALGORITHMS,
  type Computation,
  macUsageOf,
  type SeccosProfile,
} from '../../src/seccos/profile/profile.js'
import { softwareBackend } from '../../src/software.js'

export const PAN_DIGITS = '5413330089604111'
export const PIN_DIGITS = '739204'
export const pan: Pan = Pan.from(PAN_DIGITS)
export const pin: Pin = Pin.from(PIN_DIGITS)
export const OTHER_PAN: Pan = Pan.from('5413330089604129')
export const OTHER_PIN: Pin = Pin.from('739205')
export const INTDATAG = 'D1-TAG-0123456789-AB'
export const RANDOM_4: Uint8Array = Uint8Array.of(0xde, 0xad, 0x00, 0x42)
export const RANDOM_8: Uint8Array = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)

const CARD = { pan, pin, pcc: '0042', intdatag: INTDATAG }
/** Values for each illustrative profile. */
export const TDEA_VALUES: DataSetValues & typeof CARD = {
  ...CARD,
  random: RANDOM_4,
  fields: { psn: '01', expiry: '2812', issuer: 'is_tbank01' },
}
export const AES_VALUES: DataSetValues & typeof CARD = {
  ...CARD,
  random: RANDOM_8,
  fields: { psn: '1', expiry: '2812', issuer: 'is_tbank01', cardData: Uint8Array.of(0xca, 0xfe) },
}
export const PROFILES: readonly { name: string; profile: SeccosProfile; values: typeof TDEA_VALUES }[] = [
  { name: 'TDEA', profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA, values: TDEA_VALUES },
  { name: 'AES', profile: ILLUSTRATIVE_NOT_GIROCARD_AES, values: AES_VALUES },
]

const MATERIAL: Readonly<Record<string, readonly [prw: string, mac: string]>> = {
  tdea16: ['0123456789ABCDEFFEDCBA9876543210', '7CA110454A1A6E570131D9619DC1376E'],
  tdea24: [
    '0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123',
    '1122334455667788A1B2C3D4E5F607188877665544332211',
  ],
  aes16: ['2B7E151628AED2A6ABF7158809CF4F3C', '77A77FAF290C1FA30C683DF16BA7A77B'],
  aes24: [
    '8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B',
    '000102030405060708090A0B0C0D0E0F1011121314151617',
  ],
  aes32: [
    '603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4',
    '000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F',
  ],
  hmac32: [
    '000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F',
    '202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F',
  ],
}
const KEY_ALGORITHM: Readonly<Record<string, KeyAlgorithm>> = {
  tdea16: 'tdea-2key',
  tdea24: 'tdea-3key',
  aes16: 'aes-128',
  aes24: 'aes-192',
  aes32: 'aes-256',
  hmac32: 'hmac-sha256',
}

/** The test key of a kind (`tdea16`, `aes16`, …): 0 for the PRW, 1 for the MAC. */
export function keyMaterial(kind: string, which: number): { algorithm: KeyAlgorithm; material: string } {
  const material = MATERIAL[kind]?.[which] ?? expect.unreachable()
  return { algorithm: KEY_ALGORITHM[kind] ?? expect.unreachable(), material }
}

/** A software backend of its own with one key, and the key: many usages of one material need many backends. */
export async function keyOf(usage: KeyUsage, kind: string, which: 0 | 1 = 0): Promise<Key> {
  const { algorithm, material } = keyMaterial(kind, which)
  const kid = `${usage}-${kind}`
  const backend: Backend = await softwareBackend({ keys: [{ kid, usage, algorithm, material }] })
  return backend.bind({ kid, usage })
}

/** Keys for a profile: PRW generate, PRW verify (the same material), MAC. */
export async function keysFor(profile: SeccosProfile): Promise<{ generate: Key; verify: Key; mac: Key }> {
  const kind = ({ algorithm, keyBytes }: Computation): string => `${ALGORITHMS[algorithm].cipher}${keyBytes}`
  return {
    generate: await keyOf('prw-generate', kind(profile.prw)),
    verify: await keyOf('prw-verify', kind(profile.prw)),
    mac: await keyOf(macUsageOf(profile), kind(profile.mac), 1),
  }
}

/** Nothing an error shows may hold PAN, PIN, or what is made of them. */
export function expectNoSecrets(error: unknown): void {
  const shown = `${inspect(error, { depth: 9, showHidden: true })} ${JSON.stringify(error)} ${error instanceof Error ? error.stack : ''}`
  for (const secret of [PAN_DIGITS, PIN_DIGITS, PAN_DIGITS.slice(3, 15), '06739204', '26739204']) {
    expect(shown).not.toContain(secret)
  }
}
