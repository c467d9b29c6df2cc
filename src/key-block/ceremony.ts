/**
 * Keys brought into a token under dual control: officers enter one component each, one after the other; what is written down
 * says who, when and which check values, and nothing of the key. And a key block brought in as a whole.
 */

import { createHmac } from 'node:crypto'
import { isKey, type Key, operationsOf, requireKey } from '../backend/key.js'
import type { Combined, KeyStore, StoredTokenKey } from '../backend/pkcs11/key-store.js'
import type { NewKey } from '../backend/pkcs11/keys/key-making.js'
import { type CallOptions, readOptions, readOwn, requireKid } from '../base/arguments.js'
import {
  asciiBytes,
  bufferOf,
  decodeBase64url,
  encodeBase64url,
  equalBytes,
  randomSecret,
  utf8Bytes,
  wipe,
  withWiped,
} from '../base/bytes.js'
import { systemClock } from '../base/deadline.js'
import { ArgumentError, KeyError } from '../base/errors.js'
import { parseJsonObject } from '../base/json.js'
import { type CheckValue, snapshotCheckValue } from '../key/check-value.js'
import { type KeyMaterial, readMaterial } from '../key/material.js'
import { type GivenPeriod, narrower, readPeriod } from '../key/period.js'
import { type KeyMode, type KeyUsage, requireUse, usualMode } from '../key/usage.js'
import { es256PublicKey, type P256PublicJwk, pointOfJwk, verifyEs256 } from '../primitives/p256.js'
import { requireSymmetric, type SymmetricAlgorithm } from './clear-key.js'
import { requireComponent } from './components.js'
import type { KeyBlockHeader } from './header.js'
import { type OpenKeyBlockInput, openKeyBlock } from './key-block.js'

/** What one officer enters. */
export interface CeremonyEntry {
  /** Who: 1 to 128 characters; no two entries by one. */
  readonly officer: string
  readonly component: KeyMaterial
  readonly kcv: string | CheckValue
}

/** Input of {@link keyCeremony}: what the key is called and for, as `KeyStore.importKey` takes it, and the ceremony. */
export interface KeyCeremonyInput extends NewKey {
  /** A token, open for key management. */
  readonly store: Pick<KeyStore, 'assembleKey'>
  readonly algorithm: SymmetricAlgorithm
  /** Each entry is asked for when the one before has been taken, so that no officer sees another's. */
  readonly entries: AsyncIterable<CeremonyEntry> | Iterable<CeremonyEntry>
  /** The check value of the key itself. */
  readonly kcv: string | CheckValue
  /** Now, for the record; the machine's clock where absent. */
  readonly now?: () => Date
}

/** The record of a ceremony: who, when, check values. No key, no component. */
export interface CeremonyRecord {
  readonly kid: string
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly algorithm: SymmetricAlgorithm
  /** Where the components were combined: never in host memory, or there, for as long as it took. */
  readonly combined: Combined
  readonly checkValue: CheckValue
  readonly components: readonly {
    readonly officer: string
    /** ISO 8601, UTC. */
    readonly enteredAt: string
    readonly checkValue: CheckValue
  }[]
  readonly finishedAt: string
}

/** A key in the token, and the record of how it came there. */
export interface CeremonyResult {
  readonly key: StoredTokenKey
  readonly record: CeremonyRecord
}

const KEY_NAMES = [
  'kid',
  'usage',
  'mode',
  'algorithm',
  'macs',
  'hostDecipher',
  'translation',
  'validFrom',
  'validTo',
] as const

/**
 * Brings a key into a token out of components that two or more officers enter, one after the other. A component's check value
 * is compared when it is entered, the key's by the token at the end. A component that is wrong, of zeros or there already ends
 * the ceremony, and so does an officer who comes twice; then nothing is in the token. Copies of a component are wiped as soon as
 * it has been taken; the caller's own are the caller's to wipe.
 *
 * Errors: `ERR_KEY_CHECK_VALUE`, `ERR_KEY_MATERIAL`, `ERR_KEY_WEAK` (each naming the component), `ERR_ARGUMENT`, those of
 * `KeyStore.assembleKey`. Source: ISO 11568 (dual control, split knowledge); PCI PIN, requirement 6.
 *
 * @example
 * ```ts
 * const { record } = await keyCeremony({
 *   store: tokenKeys, kid: 'ZMK', usage: 'key-block-protection', algorithm: 'aes-256', kcv: keyKcv,
 *   entries: [
 *     { officer: 'A. Adams', component: first, kcv: firstKcv },
 *     { officer: 'B. Brown', component: second, kcv: secondKcv },
 *   ],
 * })
 * ```
 */
export async function keyCeremony(input: KeyCeremonyInput): Promise<CeremonyResult> {
  const names = [...KEY_NAMES, 'store', 'entries', 'kcv', 'now'] as const
  const {
    store,
    entries,
    kcv,
    now = () => new Date(systemClock.now()),
    ...given
  } = readOptions(input, 'keyCeremony', names)
  const { kid, algorithm, usage, mode } = given
  requireKid(kid)
  requireSymmetric(algorithm)
  if (typeof store?.assembleKey !== 'function') throw new ArgumentError('store must be a KeyStore')
  if (typeof now !== 'function') throw new ArgumentError('now must be a function that gives a Date')
  const written: { officer: string; enteredAt: string; checkValue: CheckValue }[] = []
  const parts = partsOf({ kid, algorithm, entries, now }, written)
  const wanted = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as object as NewKey
  const { key, combined } = await store.assembleKey({ ...wanted, parts, kcv })
  return {
    key,
    record: {
      kid,
      usage,
      mode: mode ?? usualMode(usage),
      algorithm,
      combined,
      checkValue: key.checkValue,
      components: written,
      finishedAt: now().toISOString(),
    },
  }
}

/** The components as they are entered, each checked before it is handed on and wiped after it was taken. */
async function* partsOf(
  { kid, algorithm, entries, now }: Required<Pick<KeyCeremonyInput, 'kid' | 'algorithm' | 'entries' | 'now'>>,
  written: { officer: string; enteredAt: string; checkValue: CheckValue }[],
): AsyncGenerator<Uint8Array> {
  // What was entered before is known again by an HMAC under a key that goes with the ceremony.
  const secret = randomSecret(32)
  const seen = new Set<string>()
  const officers = new Set<string>()
  try {
    for await (const entry of entries) {
      const name = `${kid}, component ${written.length + 1}`
      const { officer, component, kcv } = readOwn(entry, name, ['officer', 'component', 'kcv'])
      requireKid(officer)
      if (officers.has(officer))
        throw new ArgumentError(`${name}: this officer has entered a component already`)
      const part = readMaterial(name, component, algorithm)
      try {
        const checkValue = await requireComponent(name, algorithm, part, snapshotCheckValue(kcv), [])
        const mark = createHmac('sha256', secret).update(part).digest('hex')
        if (seen.has(mark))
          throw new KeyError('ERR_KEY_WEAK', `key ${name}: the same component was given before`, name)
        seen.add(mark)
        officers.add(officer)
        written.push({ officer, enteredAt: now().toISOString(), checkValue })
        yield part
      } finally {
        wipe(part)
      }
    }
  } finally {
    wipe(secret)
  }
}

/** Input of {@link sealCeremonyRecord}. */
export interface SealCeremonyRecordInput {
  readonly record: CeremonyRecord
  /** `jwt-signing`: a signature that everybody can verify. `cmac`: a MAC. */
  readonly key: Key
}

const TYPE = 'key-ceremony+json'

/**
 * Signs or seals a ceremony's record: a JWS in compact form (ES256) under a `jwt-signing` key; under a `cmac` key the same form
 * with a CMAC in place of the signature (`alg` is then `CMAC`, which is no name of RFC 7518).
 *
 * Errors: `ERR_KEY_USAGE`, `ERR_ARGUMENT`, those of the backend. Source: RFC 7515.
 *
 * @example
 * ```ts
 * const line = await sealCeremonyRecord({ record: ceremony, key })
 * ```
 */
export async function sealCeremonyRecord(
  input: SealCeremonyRecordInput,
  options?: CallOptions,
): Promise<string> {
  const { record, key } = readOptions(input, 'sealCeremonyRecord', ['record', 'key'])
  requireKey(key, 'key')
  const signs = key.usage === 'jwt-signing'
  if (signs) requireUse(key, 'signature', 'sign')
  else requireUse(key, 'mac', 'generate')
  const header = JSON.stringify({ alg: signs ? 'ES256' : 'CMAC', kid: key.kid, typ: TYPE })
  const payload = JSON.stringify(record)
  if (typeof payload !== 'string') throw new ArgumentError('record must be the record of a ceremony')
  const text = `${encodeBase64url(utf8Bytes(header))}.${encodeBase64url(utf8Bytes(payload))}`
  const message = asciiBytes(text)
  const mark = signs
    ? await operationsOf(key).sign(message, options)
    : await operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, message, options)
  return `${text}.${encodeBase64url(mark)}`
}

/** Input of {@link openCeremonyRecord}. */
export interface OpenCeremonyRecordInput {
  readonly sealed: string
  /** The public key of the signature, or the `cmac` key of the seal. */
  readonly key: P256PublicJwk | Key
}

/**
 * The record of a ceremony, as it was signed or sealed; undefined where it was not, or was changed.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_KEY_USAGE`.
 *
 * @example
 * ```ts
 * const record = await openCeremonyRecord({ sealed: sealedRecord, key: macKey })
 * ```
 */
export async function openCeremonyRecord(
  input: OpenCeremonyRecordInput,
  options?: CallOptions,
): Promise<CeremonyRecord | undefined> {
  const { sealed, key } = readOptions(input, 'openCeremonyRecord', ['sealed', 'key'])
  if (typeof sealed !== 'string') throw new ArgumentError('sealed must be a string')
  requireVerifier(key)
  const [header = '', payload = '', mark = '', more] = sealed.split('.')
  const [head, body, stated] = [header, payload, mark].map(decodeBase64url)
  if (head === undefined || body === undefined || stated === undefined || more !== undefined) return undefined
  const { alg, typ } = parseJsonObject(bufferOf(head).toString('utf8')) ?? {}
  const message = asciiBytes(`${header}.${payload}`)
  const right = await isRight(key, alg, message, stated, options)
  if (!right || typ !== TYPE) return undefined
  return parseJsonObject(bufferOf(body).toString('utf8')) as CeremonyRecord | undefined
}

/** `ERR_ARGUMENT` unless something can be verified under it, whatever the record turns out to be. */
function requireVerifier(key: unknown): void {
  if (isKey(key) || pointOfJwk(key) !== undefined) return
  throw new ArgumentError('key must be a public JWK of P-256, or a Key of usage cmac')
}

async function isRight(
  key: P256PublicJwk | Key,
  alg: unknown,
  message: Uint8Array,
  stated: Uint8Array,
  options: CallOptions | undefined,
): Promise<boolean> {
  if (!isKey(key)) return alg === 'ES256' && verifyEs256(es256PublicKey(key), message, stated)
  requireUse(key, 'mac', 'verify')
  const made = await operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, message, options)
  return withWiped(made, right => alg === 'CMAC' && equalBytes(right, stated))
}

/** Input of {@link importKeyBlock}: the block, and what the key is called and for. */
export interface ImportKeyBlockInput extends Omit<NewKey, 'algorithm' | 'mode'>, OpenKeyBlockInput {
  /** Open with `importClearKeys`. */
  readonly store: Pick<KeyStore, 'importKey'>
  /** Compared with the key that comes out, besides the block's own. */
  readonly kcv?: string | CheckValue
}

/** A key that came in a block, as it is in the token. */
export interface ImportedKeyBlock {
  readonly key: StoredTokenKey
  readonly warnings: readonly string[]
}

/**
 * Brings the key of a key block into a token, for the usage and in the mode that the block says. The key is in host memory
 * for that moment, and is wiped: PKCS#11 has no mechanism for these blocks. The token's check value is compared with the one
 * computed from the block; where it differs, or anything else goes wrong, no object stays. The period that the block says is the
 * key's, by whole days; `validFrom` and `validTo` can make it shorter, not longer (`ERR_ARGUMENT`): it is authentic, they are not.
 *
 * Errors: those of {@link openKeyBlock} (`ERR_KEY_BLOCK` first of all) and of `KeyStore.importKey`.
 *
 * @example
 * ```ts
 * await importKeyBlock({ store: tokenKeys, kid: 'ZPK-2', key: kbpk, block: keyBlock, usage: 'pin-encryption' })
 * ```
 */
export async function importKeyBlock(
  input: ImportKeyBlockInput,
  options?: CallOptions,
): Promise<ImportedKeyBlock> {
  const names = [
    'store',
    'key',
    'block',
    'kid',
    'usage',
    'mode',
    'macs',
    'hostDecipher',
    'translation',
    'validFrom',
    'validTo',
    'kcv',
  ] as const
  const { store, key, block, kid, usage, mode, kcv, ...rest } = readOptions(input, 'importKeyBlock', names)
  requireKid(kid)
  if (typeof store?.importKey !== 'function') throw new ArgumentError('store must be a KeyStore')
  const wanted = { key, block, usage, ...(mode !== undefined && { mode }) }
  const opened = await openKeyBlock(wanted, options)
  try {
    const { material, algorithm, checkValue, warnings, header } = opened
    const period = periodWithin(rest, wholeDays(header))
    const more = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
    const made = {
      kid,
      usage,
      mode: opened.mode,
      algorithm,
      material,
      kcv: kcv ?? checkValue,
      ...more,
      ...period,
    }
    return { key: await store.importKey(made), warnings }
  } finally {
    wipe(opened.material)
  }
}

/** The period that is asked for, or the block's own; `ERR_ARGUMENT` where a key would live longer than its block says. */
function periodWithin(asked: GivenPeriod, block: GivenPeriod): { validFrom?: Date; validTo?: Date } {
  const wanted = readPeriod(asked)
  const { validFrom, validTo } = narrower(wanted, readPeriod(block))
  if ((wanted.validFrom ?? validFrom) !== validFrom || (wanted.validTo ?? validTo) !== validTo) {
    throw new ArgumentError('validFrom and validTo must be within the period that the key block says')
  }
  return {
    ...(validFrom !== undefined && { validFrom: new Date(validFrom) }),
    ...(validTo !== undefined && { validTo: new Date(validTo) }),
  }
}

const DAY_MS = 86_400_000

/** A block's hours as the days that are within them. */
function wholeDays({ validFrom, validTo }: KeyBlockHeader): { validFrom?: Date; validTo?: Date } {
  const day = (date: Date, round: (days: number) => number): Date =>
    new Date(round(date.getTime() / DAY_MS) * DAY_MS)
  return {
    ...(validFrom !== undefined && { validFrom: day(validFrom, Math.ceil) }),
    ...(validTo !== undefined && { validTo: day(validTo, Math.floor) }),
  }
}
