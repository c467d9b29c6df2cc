/**
 * The usage table: what each kind of key is for, and nothing else. A row names a *purpose*, which verbs ask for, and the
 * modes of use that X9.143 gives it; what a backend may be asked to do under a key follows from the two. Every backend
 * enforces it through `backend/`, so a key refuses the same verbs wherever it lives (ISO 11568: one key, one purpose).
 */
import { deepFreeze } from '../base/arguments.js'
import { KeyError } from '../base/errors.js'
import type { KeyAlgorithm, MacAlgorithm } from '../primitives/algorithms.js'
import { type KeyPeriod, requirePeriod } from './period.js'

/** What a key may be used for. A key has one usage. */
export type KeyUsage =
  | 'pin-encryption'
  | 'cbc-mac'
  | 'retail-mac'
  | 'cmac'
  | 'hmac'
  | 'prw-generate'
  | 'prw-verify'
  | 'visa-pvv'
  | 'ibm-3624'
  | 'jwe-key-agreement'
  | 'jwt-signing'
  | 'key-block-protection'
  | 'key-encryption'

/**
 * Mode of use (ANSI X9.143, ISO 20038): B both, E encipher only, D decipher only, C generate and verify, G generate only,
 * V verify only, X derive, S sign.
 */
export type KeyMode = 'B' | 'E' | 'D' | 'C' | 'G' | 'V' | 'X' | 'S'

/** The port's operations that need a key. */
export type KeyOperation =
  | 'encipher'
  | 'decipher'
  | 'decipherVariant'
  | 'reencipher'
  | 'verifyPin'
  | 'mac'
  | 'deriveContentKey'
  | 'sign'

/** The one thing that the verbs of a usage do. Two usages of one purpose differ in algorithm or mode only. */
export type KeyPurpose =
  | 'pin-block'
  | 'mac'
  | 'prw'
  | 'pvv'
  | 'pin-offset'
  | 'content-key'
  | 'signature'
  | 'key-block'
  | 'key-transport'

/** What a verb wants to do with a key; a mode of use allows one or two of them. */
export type KeyAction = 'encipher' | 'decipher' | 'generate' | 'verify' | 'derive' | 'sign'

/** One row of the usage table. */
export interface UsageRule {
  /** Key usage code of a key block header (ANSI X9.143, ISO 20038). */
  readonly x9143: string
  readonly purpose: KeyPurpose
  /** The modes of use that a key of this usage can be bound in; the first is the one it has where none is named. */
  readonly modes: readonly [KeyMode, ...KeyMode[]]
  readonly algorithms: readonly KeyAlgorithm[]
  /** For the port's `mac`: the algorithms this key may compute. */
  readonly macs: readonly MacAlgorithm[]
}

const TDEA = ['tdea-2key', 'tdea-3key'] as const
const AES = ['aes-128', 'aes-192', 'aes-256'] as const
const EVERY_MAC = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac', 'hmac-sha256'] as const
const PRW_KEYS = [...TDEA, ...AES, 'hmac-sha256'] as const

/** The usage table: for each usage the key block codes, its purpose, and which keys it admits. Frozen. */
export const USAGES: Readonly<Record<KeyUsage, UsageRule>> = deepFreeze({
  // The format goes by the cipher: 0, 1 and 3 under TDEA, 4 under AES.
  'pin-encryption': {
    x9143: 'P0',
    purpose: 'pin-block',
    modes: ['B', 'E', 'D'],
    algorithms: [...TDEA, ...AES],
    macs: [],
  },
  'cbc-mac': {
    x9143: 'M1',
    purpose: 'mac',
    modes: ['C', 'G', 'V'],
    algorithms: TDEA,
    macs: ['iso9797-1-alg1'],
  },
  'retail-mac': {
    x9143: 'M3',
    purpose: 'mac',
    modes: ['C', 'G', 'V'],
    algorithms: TDEA,
    macs: ['iso9797-1-alg3'],
  },
  cmac: {
    x9143: 'M6',
    purpose: 'mac',
    modes: ['C', 'G', 'V'],
    algorithms: [...TDEA, ...AES],
    macs: ['cmac'],
  },
  hmac: {
    x9143: 'M7',
    purpose: 'mac',
    modes: ['C', 'G', 'V'],
    algorithms: ['hmac-sha256'],
    macs: ['hmac-sha256'],
  },
  // Whoever computes PRWs at will can invert one: the side that checks gets a key of its own usage.
  'prw-generate': {
    x9143: 'V0',
    purpose: 'prw',
    modes: ['G'],
    algorithms: PRW_KEYS,
    macs: EVERY_MAC,
  },
  'prw-verify': { x9143: 'V0', purpose: 'prw', modes: ['V'], algorithms: PRW_KEYS, macs: EVERY_MAC },
  // Enciphering is what they do inside: none of them is a PIN key for that.
  'visa-pvv': { x9143: 'V2', purpose: 'pvv', modes: ['C', 'G', 'V'], algorithms: ['tdea-2key'], macs: [] },
  'ibm-3624': { x9143: 'V1', purpose: 'pin-offset', modes: ['C', 'G', 'V'], algorithms: TDEA, macs: [] },
  'jwe-key-agreement': {
    x9143: 'K3',
    purpose: 'content-key',
    modes: ['X'],
    algorithms: ['ec-p256'],
    macs: [],
  },
  'jwt-signing': { x9143: 'S0', purpose: 'signature', modes: ['S'], algorithms: ['ec-p256'], macs: [] },
  // The keys that a key block is enciphered and authenticated with are CMACs under its KBPK.
  'key-block-protection': {
    x9143: 'K1',
    purpose: 'key-block',
    modes: ['B', 'E', 'D'],
    algorithms: [...TDEA, ...AES],
    macs: ['cmac'],
  },
  // Unwraps keys inside a token, by RFC 3394 and RFC 5649; the host is asked for nothing under it.
  'key-encryption': { x9143: 'K0', purpose: 'key-transport', modes: ['D'], algorithms: AES, macs: [] },
})

/** ANSI X9.143, table of modes of use. */
const ACTIONS: Readonly<Record<KeyMode, readonly KeyAction[]>> = deepFreeze({
  B: ['encipher', 'decipher'],
  E: ['encipher'],
  D: ['decipher'],
  C: ['generate', 'verify'],
  G: ['generate'],
  V: ['verify'],
  X: ['derive'],
  S: ['sign'],
})

/** What a purpose does, action by action: by which operation of the port, and in words for a refusal. */
const DEEDS: Readonly<Record<KeyPurpose, Partial<Record<KeyAction, { by: KeyOperation; words: string }>>>> = {
  'pin-block': {
    encipher: { by: 'encipher', words: 'enciphering a PIN block' },
    decipher: { by: 'decipher', words: 'deciphering a PIN block' },
  },
  mac: {
    generate: { by: 'mac', words: 'generating a MAC' },
    // The port computes, and only a verb that verifies compares: it hands out nothing of what was computed.
    verify: { by: 'mac', words: 'verifying a MAC' },
  },
  prw: {
    generate: { by: 'mac', words: 'computing a PRW' },
    verify: { by: 'mac', words: 'verifying a PRW' },
  },
  pvv: {
    generate: { by: 'encipher', words: 'making a PVV' },
    verify: { by: 'encipher', words: 'verifying a PVV' },
  },
  'pin-offset': {
    generate: { by: 'encipher', words: 'making an offset or a natural PIN' },
    verify: { by: 'encipher', words: 'verifying an offset' },
  },
  'content-key': { derive: { by: 'deriveContentKey', words: 'opening a JWE' } },
  signature: { sign: { by: 'sign', words: 'signing' } },
  'key-block': {
    encipher: { by: 'mac', words: 'sealing a key block' },
    decipher: { by: 'mac', words: 'opening a key block' },
  },
  // A token does it by itself, when a key is brought in: no operation of the port.
  'key-transport': {},
}

/** What is refused outside a key's period: deciphering and verifying what is old is not. */
const NEW_DATA: readonly KeyAction[] = ['encipher', 'generate', 'sign']

/** What is known of a key to judge by: a `Key`, or the facts that one is made of. */
export interface UsageFacts extends KeyPeriod {
  readonly kid: string
  readonly usage: KeyUsage
  readonly mode: KeyMode
}

/** True for a member of {@link KeyUsage}; own properties only, so that `constructor` is not a usage. */
export function isKeyUsage(value: unknown): value is KeyUsage {
  return typeof value === 'string' && Object.hasOwn(USAGES, value)
}

/** True for a member of {@link KeyMode}. */
export function isKeyMode(value: unknown): value is KeyMode {
  return typeof value === 'string' && Object.hasOwn(ACTIONS, value)
}

/** The mode that a key of this usage has where none is named. */
export function usualMode(usage: KeyUsage): KeyMode {
  return USAGES[usage].modes[0]
}

/** Whether a mode allows nothing that the other does not. */
export function isWithin(mode: KeyMode, other: KeyMode): boolean {
  return ACTIONS[mode].every(action => ACTIONS[other].includes(action))
}

/** Whether the verbs of a purpose may do this with the key. */
export function allows(
  { usage, mode }: Omit<UsageFacts, 'kid'>,
  purpose: KeyPurpose,
  action: KeyAction,
): boolean {
  return USAGES[usage].purpose === purpose && ACTIONS[mode].includes(action)
}

/**
 * Throws `ERR_KEY_USAGE` unless the key is for this, and `ERR_KEY_PERIOD` where it is for new data and the key is not, now: the one place where a verb turns a key away.
 *
 * @example
 * ```ts
 * requireUse(key, 'pin-block', 'encipher')
 * ```
 */
export function requireUse(key: UsageFacts, purpose: KeyPurpose, action: KeyAction): void {
  if (!allows(key, purpose, action)) throw refusedUse(key, DEEDS[purpose][action]?.words ?? action)
  if (NEW_DATA.includes(action)) requirePeriod(key)
}

/** What the port may be asked to do under a key; a block is moved *from* a key that deciphers. */
export function operationsFor(usage: KeyUsage, mode: KeyMode): ReadonlySet<KeyOperation> {
  const deeds = DEEDS[USAGES[usage].purpose]
  const operations = new Set(ACTIONS[mode].flatMap(action => deeds[action]?.by ?? []))
  if (operations.has('decipher')) operations.add('reencipher')
  if (allows({ usage, mode }, 'key-block', 'decipher')) operations.add('decipherVariant')
  if (verifiesPins({ usage, mode })) operations.add('verifyPin')
  return operations
}

/** A block is opened, or a value is made to be compared: what a verification does under either of its keys. */
function verifiesPins(key: Omit<UsageFacts, 'kid'>): boolean {
  return (
    allows(key, 'pin-block', 'decipher') ||
    allows(key, 'pvv', 'verify') ||
    allows(key, 'pin-offset', 'verify')
  )
}

/** The error for a key that is asked for what it is not for, in one wording: `what` is refused. */
export function refusedUse({ kid, usage, mode }: UsageFacts, what: string): KeyError {
  const inMode = mode === usualMode(usage) ? '' : ` in mode ${mode}`
  return new KeyError('ERR_KEY_USAGE', `key ${kid} is for ${usage}${inMode}: ${what} is refused`, kid)
}

/** The error for a key that is taken for a second use: `fact` says what shows that it has one already. */
export function secondUse(kid: string, fact: string): KeyError {
  return unfit(kid, `${fact}; a key has one usage`)
}

/** The error for a key that cannot do, as it is made or bound, what its usage asks of it. */
export function unfit(kid: string, problem: string): KeyError {
  return new KeyError('ERR_KEY_USAGE', `key ${kid}: ${problem}`, kid)
}
