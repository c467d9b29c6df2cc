import { type Backend, isIssuerPinError, type Key, reencipherPinBlock } from 'issuer-pin-crypto'
import type { StoredPinBlock } from 'issuer-pin-crypto/d1'

/** Keys in the order of their use: new blocks go under the first, older ones are still read. */
export async function bindStorageKeys(
  backend: Backend,
  recorded: readonly { readonly kid: string; readonly kcv: string }[],
): Promise<Key[]> {
  const keys: Key[] = []
  for (const { kid, kcv } of recorded) {
    try {
      keys.push(await backend.bind({ kid, kcv, usage: 'pin-encryption', hostDecipher: true }))
    } catch (error) {
      if (isIssuerPinError(error) && error.code === 'ERR_KEY_CHECK_VALUE') {
        // Not a fault to be repaired here: somebody has put another key under this name.
        console.error(`${kid} is not the key of the record; nothing was enciphered under it`)
      }
      throw error
    }
  }
  return keys
}

/** Moves one stored block under the newest key. Run it over the table; a block that has been moved stays as it is. */
export async function moveBlock(
  stored: StoredPinBlock,
  [newest, ...older]: readonly Key[],
): Promise<StoredPinBlock> {
  if (newest === undefined) throw new Error('no storage key')
  if (stored.kid === newest.kid) return stored
  const from = older.find(({ kid }) => kid === stored.kid)
  if (from === undefined) throw new Error(`a block under ${stored.kid}, which is retired`)
  return { kid: newest.kid, block: await reencipherPinBlock({ block: stored.block, from, to: newest }) }
}
