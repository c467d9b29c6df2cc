/** Whether a key is one for PIN blocks of a format: the one check that every PIN verb makes of its keys. */
import type { Key } from '../backend/key.js'
import { KeyError } from '../base/errors.js'
import { requireUse } from '../key/usage.js'
import type { FormatRow } from './formats/format.js'

/** Throws `ERR_KEY_USAGE` unless the key is for this, `ERR_KEY_ALGORITHM` unless its cipher is the format's. */
export function requireFormatKey(key: Key, action: 'encipher' | 'decipher', { algorithms }: FormatRow): void {
  requireUse(key, 'pin-block', action)
  if (algorithms.includes(key.algorithm)) return
  const problem = `key ${key.kid} is ${key.algorithm}: the format takes ${algorithms.join(', ')}`
  throw new KeyError('ERR_KEY_ALGORITHM', problem, key.kid)
}
