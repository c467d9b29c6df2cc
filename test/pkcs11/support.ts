import { openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import type { Surroundings } from '../../src/backend/pkcs11/executor/supervisor.js'
import { type KeyStore, type KeyStoreOptions, openKeyStoreOver } from '../../src/backend/pkcs11/key-store.js'
import type { Backend, BindSpec, Key } from '../../src/index.js'
import { CONTRACT_KEYS, type ContractKey } from '../../src/testing.js'
import { closedAtEnd } from '../support/at-end.js'
import type { FakeToken } from './fake-token.js'

export function optionsFor(fake: FakeToken, more: Partial<KeyStoreOptions> = {}): KeyStoreOptions {
  return { module: fake.path, token: 'fake', pin: () => '1234', executor: 'inline', ...more }
}

function atOnce(step: () => void): () => void {
  const next = setImmediate(step)
  return () => clearImmediate(next)
}

/** Pauses that take no time, without jitter. */
export const AT_ONCE: Surroundings = { later: atOnce, soon: atOnce, random: () => 0 }

export function openBackendOn(fake: FakeToken, more: Partial<KeyStoreOptions> = {}): Promise<Backend> {
  return closedAtEnd(openPkcs11(optionsFor(fake, more), fake.load, { surroundings: AT_ONCE }))
}

/**
 * The modules that somebody of this process has not given back: nobody could initialise one of them anew. What plays a process
 * that is killed (in-thread.ts) leaves what went with one.
 */
export function modulesInUse(): string[] {
  const modules = Reflect.get(globalThis, Symbol.for('issuer-pin-crypto.pkcs11.modules.2'))
  return [...(modules?.keys() ?? [])].filter(path => !/\.so\.\d+$/.test(path))
}

export function openStoreOn(fake: FakeToken, more: Partial<KeyStoreOptions> = {}): Promise<KeyStore> {
  return closedAtEnd(openKeyStoreOver(optionsFor(fake, { importClearKeys: true, ...more }), fake.load))
}

/** Puts contract keys into a fake. */
export async function provisionFake(
  fake: FakeToken,
  more: Partial<KeyStoreOptions> = {},
  keys: readonly ContractKey[] = CONTRACT_KEYS,
): Promise<void> {
  await using store = await openStoreOn(fake, more)
  for (const key of keys) await store.importKey(key)
}

/** Binds a contract key for what it is. */
export function bindKey(backend: Backend, kid: string, more: Partial<BindSpec> = {}): Promise<Key> {
  const key = CONTRACT_KEYS.find(candidate => candidate.kid === kid)
  if (key === undefined) throw new Error(`no contract key ${kid}`)
  const { usage, hostDecipher = false } = key
  return backend.bind({ kid, usage, hostDecipher, ...more })
}

/** The error a call fails with; fails itself where the call does not. */
export async function errorOf(call: () => unknown): Promise<Error & { code?: unknown; retryable?: unknown }> {
  try {
    await call()
  } catch (error) {
    if (error instanceof Error) return error
    throw error
  }
  throw new Error('the call did not fail')
}
