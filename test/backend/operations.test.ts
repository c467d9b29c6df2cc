/**
 * What holds for each operation of a key in the same way: its beginning and its end are told, of each key that it uses, and with an
 * unbound one it is refused, whichever of its keys that is.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, expect, test } from 'vitest'
import { type KeyOperations, operationsOf } from '../../src/backend/key.js'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { type ReadyKey, type SoftwareKey, storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import { type Backend, type BackendDriver, type BindSpec, type Key, openBackend } from '../../src/index.js'
import type { PinVerification } from '../../src/pin/formats/verification.js'
import { softwareBackend } from '../../src/software.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { failure } from '../support/errors.js'

const PVK = { kid: 'PVK', usage: 'visa-pvv', algorithm: 'tdea-2key' } as const
const KEYS: readonly SoftwareKey[] = [
  ...CONTRACT_KEYS.map(({ hostDecipher: _, derives: __, ...key }) => key),
  { ...PVK, material: '0123456789ABCDEFFEDCBA9876543210' },
]

const wide = new Uint8Array(32)
const pan = Uint8Array.from('9999990123456789', Number)
const agreed = {
  ephemeralPublicKey: Uint8Array.from(
    Buffer.from(
      '04808D060082C176EED3E776A4AC598CC8672C1779F974EECC9B03411CA5B9495D48B5BFC527DFCE53D6AC7115237D031CCFF87A0570B77350A9E503EE7305A69B',
      'hex',
    ),
  ),
  otherInfo: wide,
  length: 32,
}
const content = { aad: wide, iv: new Uint8Array(12), ciphertext: wide, tag: new Uint8Array(16) }
const verified = (rule: PinVerification['rule'], kept: number): PinVerification => ({
  block: new Uint8Array(8),
  format: 0,
  pan,
  rule,
  kept: new Uint8Array(kept),
})

/** Each operation: how it is asked for, and what it does under which keys, in how many blocks. */
const OPERATIONS: readonly (readonly [
  name: string,
  ask: (first: KeyOperations, second: Key) => unknown,
  uses: readonly (readonly [kid: string, operation: string, blocks: number])[],
])[] = [
  ['encipher', key => key.encipher(wide), [['PEK-2', 'encipher', 4]]],
  ['encipher, one block', key => key.encipher(new Uint8Array(8)), [['PEK-2', 'encipher', 1]]],
  ['encipher, AES', key => key.encipher(wide), [['PEK-A', 'encipher', 2]]],
  ['decipher', key => key.decipher(wide), [['PEK-2', 'decipher', 4]]],
  [
    'decipherVariant',
    key => key.decipherVariant(new Uint8Array(16), wide),
    [['KBPK-T', 'decipherVariant', 4]],
  ],
  ['encipherBound', key => key.encipherBound(wide, wide), [['PEK-A', 'encipher', 2]]],
  ['decipherBound', key => key.decipherBound(wide, wide), [['PEK-A', 'decipher', 2]]],
  [
    'reencipher',
    (key, to) => key.reencipher(to, wide),
    [
      ['PEK-2', 'reencipher', 4],
      ['PEK-3', 'encipher', 4],
    ],
  ],
  [
    'verifyPin against a block',
    (key, to) => key.verifyPin(to, verified({ kind: 'block', format: 0 }, 8)),
    [
      ['PEK-2', 'verifyPin', 1],
      ['PEK-3', 'verifyPin', 1],
    ],
  ],
  [
    'verifyPin against a PVV',
    (key, to) => key.verifyPin(to, verified({ kind: 'pvv', pvki: 1 }, 4)),
    [
      ['PEK-2', 'verifyPin', 1],
      ['PVK', 'verifyPin', 1],
    ],
  ],
  ['mac', key => key.mac({ algorithm: 'cmac', padding: 'none' }, wide), [['CMAC-A', 'mac', 1]]],
  [
    'mac that enciphers',
    key => key.mac({ algorithm: 'encipher-cbc', padding: 2 }, wide),
    [['PRW-G', 'mac', 3]],
  ],
  ['deriveContentKey', key => key.deriveContentKey(agreed), [['JWE-BOB', 'deriveContentKey', 1]]],
  ['openContent', key => key.openContent(agreed, content), [['JWE-BOB', 'deriveContentKey', 1]]],
  ['sign', key => key.sign(wide), [['SIGN-1', 'sign', 1]]],
]

/** A driver with what every driver must have, and `decipherVariant`, each answer of which comes later. */
function laterDriver(): BackendDriver<ReadyKey> {
  const driver = new SoftwareDriver(storeKeys(KEYS), nodeEngine)
  const later =
    <T extends unknown[], R>(call: (...given: T) => R) =>
    async (...given: T): Promise<Awaited<R>> =>
      await call.apply(driver, given)
  return {
    name: 'later',
    find: later(driver.find),
    encipher: later(driver.encipher),
    decipher: later(driver.decipher),
    decipherVariant: later(driver.decipherVariant),
    reencipher: later(driver.reencipher),
    mac: later(driver.mac),
    deriveContentKey: later(driver.deriveContentKey),
    sign: later(driver.sign),
    randomBytes: later(driver.randomBytes),
    capabilities: () => driver.capabilities(),
    health: later(driver.health),
    close: () => driver.close(),
  }
}

const BACKENDS: readonly (readonly [string, () => Backend | Promise<Backend>])[] = [
  ['a driver that answers at once', () => softwareBackend({ keys: KEYS })],
  ['a driver that answers later', () => openBackend(laterDriver())],
]

/** The keys of an operation, the second the first where it has one only. */
async function keysOf(backend: Backend, uses: (typeof OPERATIONS)[number][2]): Promise<[Key, Key]> {
  const bound = uses.map(([kid]) => {
    const usage = KEYS.find(key => key.kid === kid)?.usage
    const hostDecipher = CONTRACT_KEYS.find(key => key.kid === kid)?.hostDecipher ?? false
    const pinValue = kid === PVK.kid ? { pinValue: { pvki: 1 } } : {}
    return backend.bind({ kid, usage, hostDecipher, ...pinValue } as BindSpec)
  })
  const [first, second = first] = await Promise.all(bound)
  if (first === undefined || second === undefined) expect.fail('an operation without a key')
  return [first, second]
}

describe.each(BACKENDS)('%s', (_name, open) => {
  test.each(OPERATIONS)(
    '%s: its beginning and its end are told, of each of its keys',
    async (_what, ask, uses) => {
      const events: unknown[] = []
      const take = (event: unknown): void => void events.push(event)
      await using backend = await open()
      const [first, second] = await keysOf(backend, uses)
      subscribe('issuer-pin-crypto:keys', take)
      try {
        await ask(operationsOf(first), second)
      } finally {
        unsubscribe('issuer-pin-crypto:keys', take)
      }
      const told = (event: string, more: object) =>
        uses.map(([kid, operation, blocks]) =>
          expect.objectContaining({ event, kid, operation, blocks, ...more }),
        )
      expect(events).toEqual([...told('use', {}), ...told('used', { outcome: 'success' })])
    },
  )

  test.each(OPERATIONS)(
    '%s: refused with a key that is bound no longer, in each place',
    async (_what, ask, uses) => {
      for (const place of uses.keys()) {
        await using backend = await open()
        const keys = await keysOf(backend, uses)
        const gone = keys[place] as Key
        backend.unbind(gone)
        const error = await failure(async () => ask(operationsOf(keys[0]), keys[1]), 'ERR_KEY_FOREIGN')
        expect(error.message).toBe(`key ${gone.kid} is bound no longer`)
        await failure(async () => backend.unbind(gone), 'ERR_KEY_FOREIGN')
      }
    },
  )
})
