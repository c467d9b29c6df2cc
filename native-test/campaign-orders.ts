/** What the memory campaign and its child say to one another, a JSON text a line. Secrets go masked (XOR, hex). */
import type { TdeaEngine } from '../src/backend/software/tdea-engine.js'
import type { KeyAlgorithm, KeyUsage, PinValueRule } from '../src/index.js'

/** The keys that both sides have, by kid. */
export const KEYS = {
  ZPK: { usage: 'pin-encryption', algorithm: 'tdea-2key' },
  STORE: { usage: 'pin-encryption', algorithm: 'tdea-2key' },
  MAC: { usage: 'retail-mac', algorithm: 'tdea-2key' },
  /** Others are derived from it. */
  MASTER: { usage: 'retail-mac', algorithm: 'tdea-2key' },
  'PRW-G': { usage: 'prw-generate', algorithm: 'tdea-2key' },
  'PRW-V': { usage: 'prw-verify', algorithm: 'tdea-2key' },
  AES: { usage: 'pin-encryption', algorithm: 'aes-128' },
  PVK: { usage: 'visa-pvv', algorithm: 'tdea-2key' },
  IBM: { usage: 'ibm-3624', algorithm: 'tdea-2key' },
  KBPK: { usage: 'key-block-protection', algorithm: 'aes-256' },
  HMAC: { usage: 'hmac', algorithm: 'hmac-sha256' },
  JWE: { usage: 'jwe-key-agreement', algorithm: 'ec-p256' },
} as const satisfies Readonly<Record<string, { usage: KeyUsage; algorithm: KeyAlgorithm }>>

/** How PINs are verified under the keys that are for it. */
export const PIN_VALUES: Readonly<Partial<Record<keyof typeof KEYS, PinValueRule>>> = {
  PVK: { pvki: 1 },
  IBM: { decimalisation: '0123456789012345', validation: { from: 0, length: 11, pad: 'F' } },
}

/** The keys whose blocks may be opened in host memory. */
export const OPEN: ReadonlySet<KeyUsage> = new Set(['pin-encryption', 'key-block-protection'])

/** Key material, masked. */
export interface MaskedKey {
  readonly kid: keyof typeof KEYS
  readonly material: string
}

/** The first line: where the keys are. */
export interface Setup {
  readonly engine: TdeaEngine['name']
  readonly mask: string
  readonly keys: readonly MaskedKey[]
  /** Keys that are in a token: none in this line then. */
  readonly token?: {
    readonly module: string
    readonly label: string
    readonly pin: string
    readonly binding?: 'pkcs11js' | 'koffi'
  }
  /** Threads for key agreement, and the file that they run. */
  readonly workers?: { readonly count: number; readonly host: string }
}

/** Every further line: one batch of calls. */
export interface Order {
  /** A scenario's name, or `close`. */
  readonly scenario: string
  readonly count: number
  /** The calls begin in so many turns, and then there is a collection: it finds each at another stage. */
  readonly turns: number
  /** The calls are given up after the collection. */
  readonly abort: boolean
  readonly mask: string
  readonly secrets: Readonly<Record<string, string>>
  /** What is public: enciphered blocks, values of the SECCOS data set, D1's public key. */
  readonly inputs: Readonly<Record<string, string>>
  /** One for each call. */
  readonly jwes: readonly string[]
}

/** What the child that looks at its own memory is told: a key in a token, and blocks with what the token answers, masked. */
export interface StackOrder {
  readonly binding: 'pkcs11js' | 'koffi'
  readonly module: string
  readonly label: string
  readonly pin: string
  readonly kid: string
  readonly encipher: readonly StackBlock[]
  readonly decipher: readonly StackBlock[]
  /** How many keys are given to the token and read from it. */
  readonly keys: number
}

export interface StackBlock {
  /** Hex. */
  readonly block: string
  /** The answer as two words, little-endian, each XOR the mask. */
  readonly answer: readonly [number, number]
  readonly mask: number
}
