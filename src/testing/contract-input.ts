/** Arguments: everything malformed is refused with its code, and no key does what is not its own. */
import assert from 'node:assert/strict'
import type { BindSpec } from '../backend/backend.js'
import type { ContentKeyRequest, MacRequest } from '../backend/driver.js'
import { type Key, operationsOf } from '../backend/key.js'
import type { ErrorCode } from '../base/errors.js'
import { type KeyOperation, operationsFor } from '../key/usage.js'
import { reencipherPinBlock } from '../pin/translate.js'
import {
  assertRejects,
  bindContractKey,
  bytes,
  CONTRACT_KEYS,
  type ContractCase,
  type ContractContext,
  contractKey,
} from './contract-helpers.js'

/** For calls a TypeScript program would not compile: the contract holds for JavaScript callers too. */
const untyped = <T>(value: unknown): T => value as T

const POINT =
  '048578CABDC564C2F76DC77FE5BEB8CD6E6045FDEA007F72F16C19CF31346A71BA' +
  '446F02C97E729A884B7ADAB5696F374E8CD03038463E6DC6E72A5D0DF5BE7C95'
const FIELD_PRIME = 'FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF'

const BAD_POINTS: readonly { name: string; hex: string }[] = [
  { name: 'off the curve', hex: `${POINT.slice(0, -2)}96` },
  { name: 'of zeros', hex: `04${'00'.repeat(64)}` },
  { name: 'at infinity', hex: '00' },
  { name: 'compressed', hex: `03${POINT.slice(2, 66)}` },
  { name: 'with x not below p', hex: `04${FIELD_PRIME}${POINT.slice(66)}` },
  { name: 'of the wrong form byte', hex: `06${POINT.slice(2)}` },
  { name: 'one byte short', hex: POINT.slice(0, -2) },
  { name: 'one byte long', hex: `${POINT}00` },
  { name: 'of P-384 length', hex: `04${'11'.repeat(96)}` },
]

const BAD_SPECS: readonly unknown[] = [
  undefined,
  null,
  {},
  { kid: '', usage: 'cmac' },
  { kid: 7, usage: 'cmac' },
  { kid: 'x'.repeat(129), usage: 'cmac' },
  { kid: 'a\u0000b', usage: 'cmac' },
  { kid: 'PEK-2' },
  { kid: 'PEK-2', usage: 'constructor' },
  { kid: 'PEK-2', usage: 'pin-encryption', algorithm: 'des' },
  { kid: 'PEK-2', usage: 'pin-encryption', kcv: '96' },
  { kid: 'PEK-2', usage: 'pin-encryption', kcv: 'zzzzzz' },
  { kid: 'PEK-2', usage: 'pin-encryption', kcv: { method: 'toString', value: '96A0CB' } },
  { kid: 'PEK-2', usage: 'pin-encryption', hostDecipher: 'yes' },
  { kid: 'PEK-2', usage: 'pin-encryption', hostDecypher: true },
]

const BAD_MAC_REQUESTS: readonly unknown[] = [
  undefined,
  {},
  { algorithm: 'iso9797-1-alg1' },
  { algorithm: 'iso9797-1-alg1', padding: 'none' },
  { algorithm: 'iso9797-1-alg1', padding: 4 },
  { algorithm: 'hmac', padding: 1 },
  { algorithm: 'iso9797-1-alg1', padding: 1, iv: 'zero' },
]

/** Every operation with arguments that would be right for a key of the right usage. */
const OPERATIONS: Readonly<Record<KeyOperation, (key: Key) => Promise<unknown>>> = {
  encipher: key => operationsOf(key).encipher(new Uint8Array(8)),
  decipher: key => operationsOf(key).decipher(new Uint8Array(8)),
  decipherVariant: key => operationsOf(key).decipherVariant(new Uint8Array(16), new Uint8Array(8)),
  reencipher: key => operationsOf(key).reencipher(key, new Uint8Array(8)),
  verifyPin: key =>
    operationsOf(key).verifyPin(key, {
      block: new Uint8Array(8),
      format: 0,
      pan: new Uint8Array(16),
      rule: { kind: 'block', format: 0 },
      kept: new Uint8Array(8),
    }),
  mac: key => operationsOf(key).mac({ algorithm: 'cmac', padding: 'none' }, new Uint8Array(8)),
  deriveContentKey: key =>
    operationsOf(key).deriveContentKey({
      ephemeralPublicKey: bytes(POINT),
      otherInfo: new Uint8Array(0),
      length: 32,
    }),
  sign: key => operationsOf(key).sign(new Uint8Array(8)),
}

export function inputCases(context: ContractContext): readonly ContractCase[] {
  return [
    {
      name: 'bind refuses malformed specs with ERR_ARGUMENT',
      run: async () => {
        const backend = await context.shared()
        for (const spec of BAD_SPECS) {
          await assertRejects(
            () => backend.bind(untyped<BindSpec>(spec)),
            'ERR_ARGUMENT',
            JSON.stringify(spec),
          )
        }
      },
    },
    ...CONTRACT_KEYS.map(({ kid, usage }) => ({
      name: `${kid} (${usage}) refuses every operation that is not its own with ERR_KEY_USAGE`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        for (const operation of Object.keys(OPERATIONS) as KeyOperation[]) {
          if (operationsFor(usage, key.mode).has(operation)) continue
          await assertRejects(() => OPERATIONS[operation](key), 'ERR_KEY_USAGE', operation)
        }
      },
    })),
    {
      name: 'a MAC key refuses the algorithms of the other MAC usages with ERR_KEY_USAGE',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'MAC-1')
        const request: MacRequest = { algorithm: 'iso9797-1-alg3', padding: 1 }
        await assertRejects(() => operationsOf(key).mac(request, new Uint8Array(8)), 'ERR_KEY_USAGE')
      },
    },
    {
      name: 'an AES key refuses the TDEA MACs with ERR_KEY_ALGORITHM',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'PRW-G')
        const request: MacRequest = { algorithm: 'iso9797-1-alg3', padding: 1 }
        await assertRejects(() => operationsOf(key).mac(request, new Uint8Array(8)), 'ERR_KEY_ALGORITHM')
      },
    },
    { name: 'blocks of a wrong length are refused with ERR_LENGTH', run: () => blockLengths(context) },
    {
      name: 'malformed MAC requests are refused with ERR_ARGUMENT, wrong lengths with ERR_LENGTH',
      run: () => macArguments(context),
    },
    ...BAD_POINTS.map(({ name, hex }) => ({
      name: `an ephemeral point ${name} is refused with ERR_POINT`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'JWE-D1')
        const request = { ephemeralPublicKey: bytes(hex), otherInfo: new Uint8Array(0), length: 32 }
        await assertRejects(() => operationsOf(key).deriveContentKey(request), 'ERR_POINT')
      },
    })),
    { name: 'malformed key agreement requests are refused', run: () => agreementArguments(context) },
    {
      name: 'randomBytes refuses lengths outside 1 to 65536',
      run: async () => {
        const backend = await context.shared()
        const cases: readonly [unknown, ErrorCode][] = [
          [0, 'ERR_LENGTH'],
          [-1, 'ERR_LENGTH'],
          [65_537, 'ERR_LENGTH'],
          [1.5, 'ERR_ARGUMENT'],
          ['8', 'ERR_ARGUMENT'],
        ]
        for (const [length, code] of cases) {
          await assertRejects(() => backend.randomBytes(untyped<number>(length)), code, String(length))
        }
      },
    },
    { name: 'a look-alike key and a key of another backend are refused', run: () => foreignKeys(context) },
    { name: 'a key gives no way back to its backend', run: () => noWayBack(context) },
  ]
}

async function blockLengths(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'PEK-2')
  for (const length of [0, 1, 7, 9, 65_544]) {
    const blocks = new Uint8Array(length)
    await assertRejects(() => operationsOf(key).encipher(blocks), 'ERR_LENGTH', `encipher ${length}`)
    await assertRejects(() => operationsOf(key).decipher(blocks), 'ERR_LENGTH', `decipher ${length}`)
    await assertRejects(() => operationsOf(key).reencipher(key, blocks), 'ERR_LENGTH', `reencipher ${length}`)
  }
  for (const blocks of [undefined, '0011223344556677', [0, 1, 2, 3, 4, 5, 6, 7], new ArrayBuffer(8)]) {
    await assertRejects(() => operationsOf(key).encipher(untyped<Uint8Array>(blocks)), 'ERR_ARGUMENT')
  }
}

async function macArguments(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'MAC-1')
  const request: MacRequest = { algorithm: 'iso9797-1-alg1', padding: 1 }
  for (const bad of BAD_MAC_REQUESTS) {
    await assertRejects(
      () => operationsOf(key).mac(untyped<MacRequest>(bad), new Uint8Array(8)),
      'ERR_ARGUMENT',
    )
  }
  await assertRejects(() => operationsOf(key).mac(request, untyped<Uint8Array>('message')), 'ERR_ARGUMENT')
  await assertRejects(() => operationsOf(key).mac(request, new Uint8Array(65_537)), 'ERR_LENGTH')
  await assertRejects(
    () => operationsOf(key).mac({ ...request, iv: new Uint8Array(16) }, new Uint8Array(8)),
    'ERR_LENGTH',
  )
  const cmac = await bindContractKey(backend, 'CMAC-T')
  const withIv: MacRequest = { algorithm: 'cmac', padding: 'none', iv: new Uint8Array(8) }
  await assertRejects(
    () => operationsOf(cmac).mac(withIv, new Uint8Array(8)),
    'ERR_ARGUMENT',
    'CMAC with an iv',
  )
}

async function agreementArguments(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'JWE-D1')
  const good: ContentKeyRequest = {
    ephemeralPublicKey: bytes(POINT),
    otherInfo: new Uint8Array(0),
    length: 32,
  }
  const cases: readonly [unknown, ErrorCode][] = [
    [undefined, 'ERR_ARGUMENT'],
    [{ ...good, ephemeralPublicKey: POINT }, 'ERR_ARGUMENT'],
    [{ ...good, otherInfo: 'A256GCM' }, 'ERR_ARGUMENT'],
    [{ ...good, otherInfo: new Uint8Array(1025) }, 'ERR_LENGTH'],
    [{ ...good, length: 0 }, 'ERR_ARGUMENT'],
    [{ ...good, length: 33 }, 'ERR_ARGUMENT'],
    [{ ...good, length: '32' }, 'ERR_ARGUMENT'],
  ]
  for (const [request, code] of cases) {
    await assertRejects(() => operationsOf(key).deriveContentKey(untyped<ContentKeyRequest>(request)), code)
  }
}

/** A look-alike is no key, whatever it inherits; and a key of one backend is not taken by another. */
async function foreignKeys(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'PEK-2')
  const block = new Uint8Array(8)
  for (const shell of [{ ...key }, Object.create(Object.getPrototypeOf(key)), new Proxy(key, {})]) {
    await assertRejects(
      () => reencipherPinBlock({ block, from: untyped<Key>(shell), to: key }),
      'ERR_ARGUMENT',
    )
    await assertRejects(
      () => reencipherPinBlock({ block, from: key, to: untyped<Key>(shell) }),
      'ERR_ARGUMENT',
    )
  }
  const make: unknown = key.constructor
  assert.ok(typeof make === 'function')
  assert.throws(() => Reflect.construct(make, [{ ...key, usage: 'cmac' }, backend]), 'a key made by hand')
  await using other = await context.open([contractKey('PEK-2')])
  const foreign = await bindContractKey(other, 'PEK-2')
  await assertRejects(() => reencipherPinBlock({ block, from: key, to: foreign }), 'ERR_KEY_FOREIGN')
  await assertRejects(() => reencipherPinBlock({ block, from: foreign, to: key }), 'ERR_KEY_FOREIGN')
}

/** Whoever is handed a key must not get from it to what could bind, widen or close. */
async function noWayBack(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'PEK-2')
  for (let level: object | null = key; level !== null; level = Object.getPrototypeOf(level)) {
    for (const name of Reflect.ownKeys(level)) {
      if (name === '__proto__') continue
      const value: unknown = Reflect.get(level, name, key)
      assert.notEqual(value, backend, `key.${String(name)} is the backend`)
      const has = (member: string): boolean => typeof value === 'object' && value !== null && member in value
      assert.ok(!['bind', 'close', 'decipher', 'find'].some(has), `key.${String(name)} gives away operations`)
    }
  }
}
