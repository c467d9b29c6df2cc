/** A backend's driver in the hands of a test. */
import type { BackendDriver } from '../../src/index.js'

/** Answers when told to, so that the test decides what is in flight. */
export function slowDriver() {
  const waiting: ((result: Uint8Array | Error) => void)[] = []
  const calls: string[] = []
  const later = (name: string): Promise<Uint8Array> => {
    calls.push(name)
    return new Promise((resolve, reject) => {
      waiting.push(result => (result instanceof Error ? reject(result) : resolve(result)))
    })
  }
  const driver: BackendDriver<undefined> = {
    name: 'slow',
    find: () => ({
      ref: undefined,
      algorithm: 'tdea-2key',
      checkValue: { method: 'encrypt-zero', value: '000000' },
      parity: 'unknown',
    }),
    encipher: () => later('encipher'),
    decipher: () => later('decipher'),
    reencipher: () => later('reencipher'),
    mac: () => later('mac'),
    deriveContentKey: () => later('deriveContentKey'),
    sign: () => later('sign'),
    randomBytes: () => later('randomBytes'),
    capabilities: () => ({
      backend: 'slow',
      tdea: 'none',
      macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'none', 'hmac-sha256': 'none' },
      derivation: 'none',
      keyAgreement: 'none',
      signing: 'none',
      reencipher: 'inside',
      random: 'none',
      notes: [],
    }),
    health: () => ({ ok: true, detail: 'slow' }),
    close: () => {
      calls.push('close')
    },
  }
  return { driver, waiting, calls }
}
