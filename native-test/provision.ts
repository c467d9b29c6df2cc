import { CKA } from '../src/backend/pkcs11/binding/constants.js'
import type { Backend, OpenerOptions } from '../src/index.js'
import { type KeyStoreOptions, openKeyStore, type Pkcs11Options, pkcs11Backend } from '../src/pkcs11.js'
import type { ContractKey } from '../src/testing.js'
import { onToken, strayKey } from './raw.js'

/** Limits of what is not about limits: two hundred operations at once take their time on a machine that does much else. */
export const PATIENT = {
  sessions: { waitMs: 120_000 },
  timeouts: { callMs: 120_000, openMs: 120_000 },
} as const satisfies Pick<Pkcs11Options, 'sessions' | 'timeouts'>

/** Empties a token and puts exactly these keys into it. */
export async function provision(options: KeyStoreOptions, keys: readonly ContractKey[]): Promise<void> {
  await using store = await openKeyStore({ ...options, importClearKeys: true })
  for (const { kid, id } of await store.listKeys()) await store.deleteKey({ kid, id })
  const kids = new Set<string>()
  for (const key of keys) {
    if (!kids.has(key.kid)) await store.importKey(key)
    // The store refuses a second key by one kid; another tool would not.
    else await onToken(options, ({ binding, session }) => binding.C_CreateObject(session, twinOf(key)))
    kids.add(key.kid)
  }
}

function twinOf({ kid, material }: ContractKey): ReturnType<typeof strayKey> {
  if (typeof material !== 'string') throw new Error('the twin of a P-256 key is not needed')
  return strayKey(kid, [[CKA.ID, Buffer.from('twin')]], Buffer.from(material, 'hex'))
}

/** A backend on a token that was emptied and holds exactly these keys. */
export async function openWith(
  options: Pkcs11Options,
  keys: readonly ContractKey[],
  opener: OpenerOptions = {},
): Promise<Backend> {
  await provision(options, keys)
  return pkcs11Backend({ ...PATIENT, ...options, ...opener })
}
