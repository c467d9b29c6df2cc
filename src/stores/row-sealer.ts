/**
 * Who may write rows: a {@link RowSealer} makes and verifies the MAC that a store keeps with the rows of a card. Whoever
 * writes to the database without the key can then neither make a row, nor change, copy or bring one back, unnoticed; see
 * `sql/sealed.ts` for what a seal is over, and what remains.
 *
 *     seal    01 ‖ length of kid ‖ kid (UTF-8) ‖ AES-CMAC (16 bytes)
 *
 * Source: NIST SP 800-38B (CMAC); ISO 16609 (what a MAC proves).
 */
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { isKid, readOptions } from '../base/arguments.js'
import { concatBytes, equalBytes, utf8Bytes, wipe } from '../base/bytes.js'
import { ArgumentError, BackendError, KeyError } from '../base/errors.js'
import { requireUse } from '../key/usage.js'

/** Makes and verifies the seals of rows. */
export interface RowSealer {
  /** The seal of a message, up to 512 bytes. */
  seal(message: Uint8Array): Promise<Uint8Array>
  /** False: the message has another seal. */
  verify(message: Uint8Array, seal: Uint8Array): Promise<boolean>
  /** True: it is sealed as `seal` would do it now. */
  isCurrent(seal: Uint8Array): boolean
  /** True: rows that have no seal yet are taken as they are, and sealed with the next write. */
  readonly acceptUnsealed: boolean
}

/** Options of {@link rowSealer}. */
export interface RowSealerOptions {
  /**
   * AES keys of usage `cmac`, mode C, for nothing else: the first seals, each of them verifies. Put a new one first, and keep
   * the old ones until `resealRows` is through.
   */
  readonly keys: readonly Key[]
  /**
   * True: rows without a seal are taken as they are. For the time between the first opening with a sealer and the end of
   * `resealRows`, and no longer: whoever deletes a seal has it taken for one that was not there yet.
   */
  readonly acceptUnsealed?: boolean
}

const FORM = 1
const MAC_BYTES = 16
const REQUEST = { algorithm: 'cmac', padding: 'none' } as const

/**
 * A {@link RowSealer} under keys of a backend, in the token if it is one: AES-CMAC over what a store hands it.
 *
 * Errors: `ERR_ARGUMENT` (no key, two of one kid, one that is not AES), `ERR_KEY_USAGE`. Later: what the backend reports.
 *
 * Source: NIST SP 800-38B.
 *
 * @example
 * ```ts
 * const sealKey = await hsm.bind({ kid: 'ROWS-1', usage: 'cmac' })
 * const store = await openPostgresIssuerStore({ host, panSealer: sealer, rowSealer: rowSealer({ keys: [sealKey] }) })
 * ```
 */
export function rowSealer(options: RowSealerOptions): RowSealer {
  const { keys, acceptUnsealed = false } = readOptions(options, 'rowSealer', ['keys', 'acceptUnsealed'])
  if (!Array.isArray(keys)) throw new ArgumentError('keys must be a list')
  if (typeof acceptUnsealed !== 'boolean') throw new ArgumentError('acceptUnsealed must be a boolean')
  const byKid = new Map<string, Key>()
  for (const key of keys) {
    requireKey(key, 'a key of rowSealer')
    requireUse(key, 'mac', 'generate')
    requireUse(key, 'mac', 'verify')
    if (!key.algorithm.startsWith('aes')) throw new ArgumentError('rowSealer takes AES keys')
    if (byKid.has(key.kid)) throw new ArgumentError('each kid must be stated once')
    byKid.set(key.kid, key)
  }
  const [first] = byKid.values()
  if (first === undefined) throw new ArgumentError('keys must name at least one')
  return new CmacSealer(byKid, first, acceptUnsealed)
}

class CmacSealer implements RowSealer {
  readonly acceptUnsealed: boolean
  readonly #keys: ReadonlyMap<string, Key>
  readonly #first: Key

  constructor(keys: ReadonlyMap<string, Key>, first: Key, acceptUnsealed: boolean) {
    this.#keys = keys
    this.#first = first
    this.acceptUnsealed = acceptUnsealed
  }

  async seal(message: Uint8Array): Promise<Uint8Array> {
    const mac = await operationsOf(this.#first).mac(REQUEST, message)
    const kid = utf8Bytes(this.#first.kid)
    return concatBytes(Uint8Array.of(FORM, kid.length), kid, mac)
  }

  async verify(message: Uint8Array, seal: Uint8Array): Promise<boolean> {
    const kid = kidOf(seal)
    if (kid === undefined) return false
    const key = this.#keys.get(kid)
    if (key === undefined) throw new KeyError('ERR_KEY_NOT_FOUND', `no row seal key ${kid}`, kid)
    const mac = await operationsOf(key).mac(REQUEST, message)
    try {
      return equalBytes(mac, seal.subarray(-MAC_BYTES))
    } finally {
      wipe(mac)
    }
  }

  isCurrent(seal: Uint8Array): boolean {
    return kidOf(seal) === this.#first.kid
  }
}

function kidOf(seal: Uint8Array): string | undefined {
  const [form, length = 0] = seal
  if (form !== FORM || seal.length !== 2 + length + MAC_BYTES) return undefined
  const kid = new TextDecoder().decode(seal.subarray(2, 2 + length))
  return isKid(kid) ? kid : undefined
}

/** Throws `ERR_ARGUMENT` unless the value is a {@link RowSealer}. */
export function requireRowSealer(sealer: unknown): asserts sealer is RowSealer {
  const { seal, verify, isCurrent } = Object(sealer)
  if ([seal, verify, isCurrent].every(method => typeof method === 'function')) return
  throw new ArgumentError('rowSealer must be a RowSealer')
}

/** The error for rows that are not as they were written: for the operator; the outside gets a 500. */
export function wrongSeal(what: string): BackendError {
  return new BackendError(
    'ERR_BACKEND_FAILED',
    `${what} not match the seal: something else wrote to the database, or brought back what was older`,
  )
}
