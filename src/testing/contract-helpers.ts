/** What the cases of the backend contract are made of: the shape of a case, the keys they bind, and their assertions. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { Backend, BindSpec } from '../backend/backend.js'
import type { Key } from '../backend/key.js'
import { type ErrorCode, isIssuerPinError } from '../base/errors.js'
import { CONTRACT_KEYS, type ContractKey } from './contract-keys.js'

/** One rule of the contract. */
export interface ContractCase {
  readonly name: string
  /** Resolves where the rule holds; rejects with node:assert's error where it does not. */
  run(): Promise<void>
}

/** How the suite reaches the backend under test. */
export interface ContractHarness {
  /**
   * Opens a fresh backend that holds exactly these keys under these kids (a token is emptied and provisioned).
   * May reject with the coded error by which the backend, or its provisioning, refuses a key.
   */
  open(keys: readonly ContractKey[]): Promise<Backend>
}

/** What the cases share: one backend holding {@link CONTRACT_KEYS}, and a way to open further ones. */
export interface ContractContext extends ContractHarness {
  shared(): Promise<Backend>
}

/** Asserts that the call rejects with one of our errors by this code, and that the error shows no key material. */
export async function assertRejects(
  call: () => Promise<unknown>,
  codes: ErrorCode | readonly ErrorCode[],
  what = 'the call',
): Promise<void> {
  let result: unknown
  try {
    result = await call()
  } catch (error) {
    assert.ok(isIssuerPinError(error), `${what}: an uncoded error: ${inspect(error)}`)
    assert.ok(
      [codes].flat().includes(error.code),
      `${what}: ${error.code} where ${codes} was due: ${error.message}`,
    )
    assertNoSecret(error)
    return
  }
  assert.fail(`${what}: resolved with ${inspect(result)} where ${codes} was due`)
}

function assertNoSecret(error: Error): void {
  const shown = `${inspect(error, { depth: 8, showHidden: true })} ${JSON.stringify(error)}`.toUpperCase()
  for (const key of CONTRACT_KEYS) {
    const secret = typeof key.material === 'string' ? key.material : key.material.d.toUpperCase()
    assert.ok(!shown.includes(secret), `the error shows the material of ${key.kid}`)
  }
}

/** The declared key by that kid. */
export function contractKey(kid: string): ContractKey {
  const key = CONTRACT_KEYS.find(candidate => candidate.kid === kid)
  assert.ok(key !== undefined, `no contract key ${kid}`)
  return key
}

/** Binds a contract key for what it is declared to be. */
export function bindContractKey(backend: Backend, kid: string, more: Partial<BindSpec> = {}): Promise<Key> {
  const { usage, hostDecipher } = contractKey(kid)
  return backend.bind({ kid, usage, ...(hostDecipher === undefined ? {} : { hostDecipher }), ...more })
}

export function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}

/** Asserts a byte result, and that it stands in memory of its own. */
export function assertBytes(actual: Uint8Array, hex: string, what: string): void {
  assert.ok(actual instanceof Uint8Array && !Buffer.isBuffer(actual), `${what}: not a plain Uint8Array`)
  assert.equal(actual.buffer.byteLength, actual.byteLength, `${what}: a slice of a larger buffer`)
  assert.equal(Buffer.from(actual).toString('hex').toUpperCase(), hex.toUpperCase(), what)
}
