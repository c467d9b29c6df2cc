/** TDEA engines of the software backend: the interface, the known answer each must give, and the choice at open. */
import { equalBytes, fromHex, secretBytes } from '../../base/bytes.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import { nodeEngine } from './engine-node.js'

/** TDEA under one key, for as long as the key is bound. Data lengths are multiples of 8. */
export interface TdeaCipher {
  readonly blockBytes: 8
  encipher(blocks: Uint8Array): Uint8Array
  decipher(blocks: Uint8Array): Uint8Array
  encipherCbc(iv: Uint8Array, data: Uint8Array): Uint8Array
  /** Drops the key schedule and wipes the key bytes. */
  close(): void
}

/** An implementation of TDEA. */
export interface TdeaEngine {
  readonly name: 'node:crypto' | 'node-forge'
  /** A cipher under 16 (K1, K2) or 24 (K1, K2, K3) bytes, which are copied. */
  open(key: Uint8Array): TdeaCipher
}

/** `auto` takes `node:crypto` where its OpenSSL computes TDEA, else `node-forge`. */
export type EngineChoice = 'auto' | 'node:crypto' | 'node-forge'

/** NIST SP 800-67 / SP 800-20 style known answer: K1 = 0123456789ABCDEF, K2 = FEDCBA9876543210, zero block. */
const KNOWN = {
  key: fromHex('0123456789ABCDEFFEDCBA9876543210', 'known key'),
  answer: fromHex('08D7B4FB629D0885', 'known answer'),
}

/** True where the engine enciphers and deciphers the known block, in ECB and in CBC. */
export function engineWorks(engine: TdeaEngine): boolean {
  try {
    const cipher = engine.open(KNOWN.key)
    const zero = secretBytes(8)
    const works =
      equalBytes(cipher.encipher(zero), KNOWN.answer) &&
      equalBytes(cipher.decipher(KNOWN.answer), zero) &&
      equalBytes(cipher.encipherCbc(KNOWN.answer, KNOWN.answer), KNOWN.answer)
    cipher.close()
    return works
  } catch {
    // OpenSSL builds without TDEA throw here; the reason is theirs, the consequence is the same.
    return false
  }
}

/** Picks an engine that gives the known answer; `ERR_UNSUPPORTED` where the wanted one does not. */
export async function chooseEngine(choice: EngineChoice): Promise<TdeaEngine> {
  if (choice === 'node:crypto' || choice === 'auto') {
    if (engineWorks(nodeEngine)) return nodeEngine
    if (choice === 'node:crypto')
      throw new BackendError('ERR_UNSUPPORTED', 'this OpenSSL does not compute TDEA')
  } else if (choice !== 'node-forge') {
    throw new ArgumentError("engine must be 'auto', 'node:crypto' or 'node-forge'")
  }
  // Loaded only when needed: most programs never pay for a second implementation.
  const { forgeEngine } = await import('./engine-forge.js')
  if (engineWorks(forgeEngine)) return forgeEngine
  throw new BackendError('ERR_BACKEND_FAILED', 'no TDEA engine gives the known answer')
}
