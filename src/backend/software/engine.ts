/** The choice of a TDEA engine when a software backend opens, and the known answers that each must give. */
import { concatBytes, equalBytes, fromHex, secretBytes } from '../../base/bytes.js'
import { ArgumentError, BackendError } from '../../base/errors.js'
import { nodeEngine } from './engine-node.js'
import type { TdeaEngine } from './tdea-engine.js'

/**
 * Who computes TDEA. `auto` takes the first of these that works here: `bitslice` (WebAssembly with SIMD: fastest for one
 * block and for many), `node:crypto` (OpenSSL, where it has TDEA), `node-forge` (JavaScript).
 */
export type EngineChoice = 'auto' | TdeaEngine['name']

/** NIST SP 800-67 / SP 800-20 style known answer: K1 = 0123456789ABCDEF, K2 = FEDCBA9876543210, zero block. */
const KNOWN = {
  key: fromHex('0123456789ABCDEFFEDCBA9876543210', 'known key'),
  answer: fromHex('08D7B4FB629D0885', 'known answer'),
}
/** Enough blocks for an engine that does many side by side to do so. */
const MANY = 64

/** True where the engine enciphers and deciphers the known block, alone and among many, in ECB and in CBC. */
export function engineWorks(engine: TdeaEngine): boolean {
  try {
    const cipher = engine.open(KNOWN.key)
    const zero = secretBytes(8)
    const zeros = secretBytes(8 * MANY)
    const answers = concatBytes(...Array.from({ length: MANY }, () => KNOWN.answer))
    const works =
      equalBytes(cipher.encipher(zero), KNOWN.answer) &&
      equalBytes(cipher.decipher(KNOWN.answer), zero) &&
      equalBytes(cipher.encipher(zeros), answers) &&
      equalBytes(cipher.decipher(answers), zeros) &&
      equalBytes(cipher.encipherCbc(KNOWN.answer, KNOWN.answer), KNOWN.answer)
    cipher.close()
    return works
  } catch {
    // OpenSSL builds without TDEA throw here, and runtimes without WebAssembly; the reason is theirs.
    return false
  }
}

/** How each engine is come by: only what is wanted is loaded. */
const ENGINES: Readonly<Record<TdeaEngine['name'], () => Promise<TdeaEngine>>> = {
  bitslice: async () => (await import('./engine-bitslice.js')).bitsliceEngine,
  'node:crypto': async () => nodeEngine,
  'node-forge': async () => (await import('./engine-forge.js')).forgeEngine,
}

const WHY: Readonly<Record<TdeaEngine['name'], string>> = {
  bitslice: 'this runtime has no WebAssembly with SIMD',
  'node:crypto': 'this OpenSSL does not compute TDEA',
  'node-forge': 'node-forge does not give the known answer',
}

/** Picks an engine that gives the known answers; `ERR_UNSUPPORTED` where the wanted one does not. */
export async function chooseEngine(choice: EngineChoice): Promise<TdeaEngine> {
  if (choice !== 'auto') {
    if (typeof choice !== 'string' || !Object.hasOwn(ENGINES, choice)) {
      throw new ArgumentError("engine must be 'auto', 'bitslice', 'node:crypto' or 'node-forge'")
    }
    const engine = await load(choice)
    if (engineWorks(engine)) return engine
    throw new BackendError('ERR_UNSUPPORTED', WHY[choice])
  }
  for (const name of Object.keys(ENGINES) as TdeaEngine['name'][]) {
    const engine = await load(name).catch(() => undefined)
    if (engine !== undefined && engineWorks(engine)) return engine
  }
  throw new BackendError('ERR_BACKEND_FAILED', 'no TDEA engine gives the known answer')
}

/** An engine's code may fail to load where somebody bundled it: node-forge calls `require`, which an ESM bundle lacks. */
async function load(name: TdeaEngine['name']): Promise<TdeaEngine> {
  try {
    return await ENGINES[name]()
  } catch (cause) {
    throw new BackendError(
      'ERR_UNSUPPORTED',
      `the code of ${name} does not load here: leave node-forge out of the bundle (external), or bundle as CommonJS`,
      { cause, retryable: false },
    )
  }
}
