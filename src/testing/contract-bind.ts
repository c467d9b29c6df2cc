/** Binding: what is found, what is refused, and what a bound key says of itself. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { Backend, BindSpec, KeyUse } from '../backend/backend.js'
import { operationsOf } from '../backend/key.js'
import { operationLimit } from '../backend/opener.js'
import type { CodedError, ErrorCode } from '../base/errors.js'
import type { CheckValue } from '../key/check-value.js'
import { type KeyMode, type KeyUsage, USAGES } from '../key/usage.js'
import { generateMac, verifyMac } from '../mac/mac.js'
import { parityOf } from '../primitives/tdea.js'
import {
  assertBytes,
  assertRejects,
  bindContractKey,
  bytes,
  CONTRACT_KEYS,
  type ContractCase,
  type ContractContext,
  type ContractKey,
  contractKey,
} from './contract-helpers.js'

/** Check values by the usual method of the algorithm, computed with OpenSSL's command line. */
const CHECK_VALUES: Readonly<Record<string, string>> = {
  'PEK-2': '96A0CB',
  'PEK-3': '4EBA73',
  'PEK-CLOSED': 'A13F4A',
  'MAC-1': 'E1CC69',
  'MAC-3': '29A9C3',
  'CMAC-T': '91A1BB',
  'CMAC-A': '7AD386C376',
  'CMAC-192': '3A072A425D',
  'PRW-G': '8C69C78C85',
  'PRW-V': '1A0B2DF267',
}

/** The whole block that a check value is the beginning of: of keys that every token can let encipher it. */
const LONG_CHECK_VALUES: readonly (readonly [kid: string, value: string, method?: 'encrypt-zero'])[] = [
  ['PEK-CLOSED', 'A13F4AABA2EFF1D9'],
  ['PEK-2', '96A0CBC66C383C6F'],
  ['PEK-A', '98964FF967D77F667C57008C68FF62F3'],
  ['PEK-A', 'F663A3FCC0DC9334092003456B0B39B6', 'encrypt-zero'],
]

const PIN_KEY = {
  usage: 'pin-encryption',
  algorithm: 'tdea-2key',
  material: '1122334455667788A1B2C3D4E5F60718',
} as const
const CBC_KEY = { ...PIN_KEY, usage: 'cbc-mac' } as const

const RETAIL_KEY = { ...PIN_KEY, usage: 'retail-mac' } as const
const TDEA_CMAC_KEY = { ...PIN_KEY, usage: 'cmac' } as const
const AES_CMAC_KEY = {
  usage: 'cmac',
  algorithm: 'aes-128',
  material: '2B7E151628AED2A6ABF7158809CF4F3C',
} as const

/** One key that comes twice, for two purposes. */
const TWINS: readonly {
  name: string
  keys: readonly [Omit<ContractKey, 'kid'>, Omit<ContractKey, 'kid'>]
}[] = [
  { name: 'for PIN blocks and a CBC-MAC', keys: [PIN_KEY, CBC_KEY] },
  {
    name: 'the same but for parity',
    keys: [PIN_KEY, { ...CBC_KEY, material: '1023324554677689A0B3C2D5E4F70619' }],
  },
  { name: 'for PIN blocks and a retail MAC', keys: [PIN_KEY, RETAIL_KEY] },
  { name: 'for PIN blocks and CMAC', keys: [PIN_KEY, TDEA_CMAC_KEY] },
  { name: 'for a CBC-MAC and a retail MAC', keys: [CBC_KEY, RETAIL_KEY] },
  { name: 'for CMAC and PRWs', keys: [AES_CMAC_KEY, { ...AES_CMAC_KEY, usage: 'prw-verify' }] },
  {
    name: 'for JWEs and signatures',
    keys: [contractKey('JWE-BOB'), { ...contractKey('JWE-BOB'), usage: 'jwt-signing' }],
  },
]

/** Check values by the method that is not the usual one. */
const OTHER_CHECK_VALUES: readonly { kid: string; kcv: CheckValue }[] = [
  { kid: 'CMAC-T', kcv: { method: 'cmac', value: 'CA6116' } },
  { kid: 'CMAC-A', kcv: { method: 'encrypt-zero', value: '7DF76B' } },
  { kid: 'CMAC-192', kcv: { method: 'encrypt-zero', value: '22452D' } },
  { kid: 'HMAC', kcv: { method: 'hmac', value: '6E2BC52660' } },
]

const FACE_OFF: readonly { name: string; spec: BindSpec; code: ErrorCode }[] = [
  { name: 'an unknown kid', spec: { kid: 'NOBODY', usage: 'pin-encryption' }, code: 'ERR_KEY_NOT_FOUND' },
  {
    name: 'another check value',
    spec: { kid: 'PEK-2', usage: 'pin-encryption', kcv: '96A0CC' },
    code: 'ERR_KEY_CHECK_VALUE',
  },
  {
    name: 'another algorithm',
    spec: { kid: 'PEK-2', usage: 'pin-encryption', algorithm: 'tdea-3key' },
    code: 'ERR_KEY_ALGORITHM',
  },
]

const WEAK: readonly { name: string; material: string; algorithm: 'tdea-2key' | 'tdea-3key' }[] = [
  { name: 'K1 = K2', algorithm: 'tdea-2key', material: '0123456789ABCDEF0123456789ABCDEF' },
  { name: 'K1 = K2 but for parity', algorithm: 'tdea-2key', material: '0123456789ABCDEF0022446688AACCEE' },
  { name: 'K1 = K2 = K3', algorithm: 'tdea-3key', material: '0123456789ABCDEF'.repeat(3) },
  {
    name: 'K2 = K3',
    algorithm: 'tdea-3key',
    material: 'FEDCBA98765432100123456789ABCDEF0123456789ABCDEF',
  },
  { name: 'a weak component', algorithm: 'tdea-2key', material: '0123456789ABCDEF0101010101010101' },
  { name: 'a semi-weak component', algorithm: 'tdea-2key', material: '01FE01FE01FE01FE0123456789ABCDEF' },
]

export function bindCases(context: ContractContext): readonly ContractCase[] {
  return [
    ...FACE_OFF.map(({ name, spec, code }) => ({
      name: `bind refuses ${name} with ${code}`,
      run: async () => {
        const backend = await context.shared()
        await assertRejects(() => backend.bind(spec), code)
      },
    })),
    ...CONTRACT_KEYS.map(key => ({
      name: `bind refuses ${key.kid} for every usage but ${key.usage}, with ERR_KEY_USAGE`,
      run: () => refusesOtherUsages(context, key),
    })),
    ...WEAK.map(({ name, material, algorithm }) => ({
      name: `a TDEA key with ${name} is refused with ERR_KEY_WEAK`,
      run: () => refusedAlone(context, { algorithm, material }, 'ERR_KEY_WEAK'),
    })),
    {
      name: 'a key past its end enciphers nothing (ERR_KEY_PERIOD), and still deciphers what is old',
      run: () => enciphersNothingNew(context, { validTo: new Date('2020-01-01T00:00:00Z') }),
    },
    {
      name: 'a key before its beginning enciphers nothing, with ERR_KEY_PERIOD',
      run: () => enciphersNothingNew(context, { validFrom: new Date('9990-01-01T00:00:00Z') }),
    },
    {
      name: 'a MAC key past its end verifies and does not generate, and health() tells of it',
      run: () => macKeyPastItsEnd(context),
    },
    {
      name: 'something other than a period is refused with ERR_ARGUMENT',
      run: async () => {
        const backend = await context.shared()
        const day = new Date('2026-01-01T00:00:00Z')
        for (const period of [
          { validTo: '2026' },
          { validFrom: new Date(Number.NaN) },
          { validFrom: day, validTo: day },
        ])
          await assertRejects(() => bindContractKey(backend, 'PEK-2', period as never), 'ERR_ARGUMENT')
      },
    },
    {
      name: 'two keys by one kid are refused with ERR_KEY_AMBIGUOUS',
      run: async () => {
        const twins = ['PEK-2', 'PEK-CLOSED'].map(kid => ({ ...contractKey(kid), kid: 'TWIN' }))
        // A key store may refuse the second one already.
        await assertRejects(async () => {
          await using backend = await context.open(twins)
          await backend.bind({ kid: 'TWIN', usage: 'pin-encryption' })
        }, 'ERR_KEY_AMBIGUOUS')
      },
    },
    ...OTHER_CHECK_VALUES.map(({ kid, kcv }) => ({
      name: `${kid}: a check value by ${kcv.method} is compared, or refused with a code; a wrong one never passes`,
      run: async () => {
        const backend = await context.shared()
        const refusals: readonly ErrorCode[] = ['ERR_KEY_CHECK_VALUE', 'ERR_UNSUPPORTED_BY_TOKEN']
        // A method that a token lacks says nothing of the key.
        await bindContractKey(backend, kid, { kcv }).catch((error: CodedError) => {
          assert.equal(error.code, 'ERR_UNSUPPORTED_BY_TOKEN', error.message)
        })
        const wrong = { ...kcv, value: 'FFFFFF' }
        await assertRejects(() => bindContractKey(backend, kid, { kcv: wrong }), refusals)
      },
    })),
    {
      name: 'a kid that was bound for its usage is still refused for another',
      run: async () => {
        const backend = await context.shared()
        await bindContractKey(backend, 'CMAC-T')
        await assertRejects(() => backend.bind({ kid: 'CMAC-T', usage: 'retail-mac' }), 'ERR_KEY_USAGE')
      },
    },
    {
      name: 'a PIN key bound in mode E enciphers, and neither deciphers nor is translated from: ERR_KEY_USAGE',
      run: () => modeE(context),
    },
    {
      name: 'a MAC key bound in mode V verifies and does not generate, in mode G the other way round',
      run: () => macModes(context),
    },
    {
      name: 'after seal() nothing is bound any more, and what is bound goes on working',
      run: () => sealing(context),
    },
    {
      name: 'what the key ring does not have, or not so wide, is not bound: ERR_BACKEND_SEALED',
      run: () => ringed(context),
    },
    {
      name: 'the opener is asked before each operation, and what he refuses is not done: ERR_KEY_LIMIT',
      run: () => limited(context),
    },
    ...TWINS.flatMap(({ name, keys: [one, two] }) =>
      [[one, two] as const, [two, one] as const].map(([first, second], at) => ({
        name: `one key under two kids is refused with ERR_KEY_USAGE: ${name}${at === 0 ? '' : ', the other first'}`,
        run: () =>
          refusedTwins(context, [
            { ...first, kid: 'ONE' },
            { ...second, kid: 'TWO' },
          ]),
      })),
    ),
    {
      name: 'a check value is compared in all the bytes that are given, 2 to 8 for TDEA and 2 to 16 for AES',
      run: () => longCheckValues(context),
    },
    {
      name: 'material of a wrong length is refused with ERR_KEY_MATERIAL',
      run: async () => {
        for (const material of ['0123456789ABCDEF', 'AD192FD064B5579E7A4FB3C8F794F2', '']) {
          await refusedAlone(context, { algorithm: 'tdea-2key', material }, 'ERR_KEY_MATERIAL')
        }
      },
    },
    {
      name: 'a bound key states its kid, usage, algorithm, and check value, and is frozen',
      run: () => statesFacts(context),
    },
    {
      name: 'a key gives no way back: nothing that is reached from it binds, works with a key, or closes',
      run: () => givesNoWayBack(context),
    },
    {
      name: 'a check value is compared in either case, by its usual method or the one named',
      run: async () => {
        const backend = await context.shared()
        await bindContractKey(backend, 'PEK-2', { kcv: '96a0cb' })
        await bindContractKey(backend, 'PEK-2', { kcv: { method: 'encrypt-zero', value: '96A0CB' } })
        await bindContractKey(backend, 'CMAC-A', { kcv: '7AD386' })
      },
    },
  ]
}

/** On a backend of its own: what a kid was bound for first is remembered, and would answer before the key does. */
async function refusesOtherUsages(context: ContractContext, key: ContractKey): Promise<void> {
  await using backend = await context.open([key])
  for (const usage of Object.keys(USAGES) as KeyUsage[]) {
    if (usage === key.usage) continue
    await assertRejects(
      () => backend.bind({ kid: key.kid, usage }),
      'ERR_KEY_USAGE',
      `${key.kid} as ${usage}`,
    )
  }
  await backend.bind({ kid: key.kid, usage: key.usage })
}

async function statesFacts(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  for (const declared of CONTRACT_KEYS) {
    const key = await bindContractKey(backend, declared.kid)
    assert.equal(key.kid, declared.kid)
    assert.equal(key.usage, declared.usage)
    assert.equal(key.algorithm, declared.algorithm)
    assert.equal(key.hostDecipher, declared.hostDecipher ?? false)
    assert.ok(Object.isFrozen(key))
    const expected = CHECK_VALUES[declared.kid]
    if (expected !== undefined) assert.equal(key.checkValue.value.slice(0, expected.length), expected)
    const clear = typeof declared.material === 'string' ? bytes(declared.material) : undefined
    const parity = clear !== undefined && declared.algorithm.startsWith('tdea') ? parityOf(clear) : 'unknown'
    assert.ok([parity, 'unknown'].includes(key.parity), `${declared.kid}: parity ${key.parity}`)
    if (typeof declared.material !== 'string') {
      assert.equal(key.publicJwk?.x, declared.material.x)
      assert.equal(key.publicJwk?.y, declared.material.y)
      assert.equal(key.checkValue.method, 'jwk-thumbprint')
    }
    const secret = typeof declared.material === 'string' ? declared.material : declared.material.d
    const shown = inspect(key, { depth: 8, showHidden: true }) + JSON.stringify(key) + String(key)
    assert.ok(!shown.toUpperCase().includes(secret.toUpperCase()), `${declared.kid} shows its material`)
  }
}

/** What a backend, its driver and a key's operations can do, by name. */
const PORT =
  /^(?:bind|unbind|seal|find|close|health|capabilities|release|encipher\w*|decipher\w*|reencipher|verifyPin|mac|sign|deriveContentKey|randomBytes)$/

async function givesNoWayBack(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'PEK-2')
  const reached = reachedFrom(key)
  for (const way of reached) {
    assert.notEqual(way, backend)
    assert.notEqual(way, operationsOf(key))
    const methods = Reflect.ownKeys(way).filter(name => typeof name === 'string' && PORT.test(name))
    assert.deepEqual(methods, [], 'what a key leads to')
  }
  // Its class, its facts, and the check value at least: the walk went somewhere.
  assert.ok(reached.has(Object(Reflect.getPrototypeOf(key))) && reached.has(key.checkValue))
}

/** Where every walk ends: what all objects and functions have. */
const ENDS: readonly unknown[] = [Object.prototype, Function.prototype]

/** All objects and functions that are reached by properties, hidden ones, symbols and getters included, and by prototypes. */
function reachedFrom(start: object): ReadonlySet<object> {
  const reached = new Set<object>([start])
  for (const place of reached) {
    let next: object | null = place
    while (next !== null && !ENDS.includes(next)) {
      const level: object = next
      const names = Reflect.ownKeys(level)
      for (const one of [level, ...names.flatMap(name => behind(place, level, name))]) {
        const leads = (typeof one === 'object' && one !== null) || typeof one === 'function'
        if (leads && !ENDS.includes(one)) reached.add(one)
      }
      next = Reflect.getPrototypeOf(level)
    }
  }
  return reached
}

/** What is behind a property, and what its getter gives for this object: one on a prototype gives nothing for the prototype itself. */
function behind(place: object, level: object, name: string | symbol): readonly unknown[] {
  const { value, get, set } = Reflect.getOwnPropertyDescriptor(level, name) ?? {}
  if (get === undefined) return [value, set]
  try {
    return [get, set, Reflect.apply(get, place, [])]
  } catch {
    return [get, set]
  }
}

async function sealing(context: ContractContext): Promise<void> {
  await using backend = await context.open([contractKey('PEK-2'), contractKey('CMAC-A')])
  const key = await bindContractKey(backend, 'PEK-2')
  const before = await operationsOf(key).encipher(new Uint8Array(8))
  backend.seal()
  backend.seal()
  for (const kid of ['PEK-2', 'CMAC-A', 'NOBODY']) {
    await assertRejects(() => backend.bind({ kid, usage: 'pin-encryption' }), 'ERR_BACKEND_SEALED', kid)
  }
  assert.deepEqual(await operationsOf(key).encipher(new Uint8Array(8)), before)
}

async function ringed(context: ContractContext): Promise<void> {
  const ring: readonly BindSpec[] = [
    { kid: 'PEK-CLOSED', usage: 'pin-encryption', mode: 'E', kcv: 'A13F4A' },
    { kid: 'CMAC-A', usage: 'cmac', kcv: '7AD387' },
    { kid: 'MAC-1', usage: 'cbc-mac', algorithm: 'tdea-3key' },
    { kid: 'NOBODY', usage: 'cmac' },
    { kid: 'PEK-3', usage: 'pin-encryption' },
  ]
  const closed: ContractKey = { ...contractKey('PEK-CLOSED'), mode: 'E' }
  const keys = [closed, ...['PEK-2', 'PEK-3', 'CMAC-A', 'MAC-1'].map(contractKey)]
  await using backend = await context.open(keys, { ring })
  const refused: readonly (readonly [BindSpec, ErrorCode])[] = [
    [{ kid: 'PEK-2', usage: 'pin-encryption' }, 'ERR_BACKEND_SEALED'],
    [{ kid: 'PEK-CLOSED', usage: 'pin-encryption' }, 'ERR_BACKEND_SEALED'],
    [{ kid: 'PEK-CLOSED', usage: 'pin-encryption', mode: 'D' }, 'ERR_BACKEND_SEALED'],
    [{ kid: 'PEK-3', usage: 'pin-encryption', hostDecipher: true }, 'ERR_BACKEND_SEALED'],
    [{ kid: 'PEK-CLOSED', usage: 'cbc-mac' }, 'ERR_BACKEND_SEALED'],
    [{ kid: 'MAC-1', usage: 'cbc-mac', algorithm: 'tdea-2key' }, 'ERR_BACKEND_SEALED'],
    // What the ring states of a key is held against the key.
    [{ kid: 'MAC-1', usage: 'cbc-mac' }, 'ERR_KEY_ALGORITHM'],
    [{ kid: 'CMAC-A', usage: 'cmac' }, 'ERR_KEY_CHECK_VALUE'],
    [{ kid: 'CMAC-A', usage: 'cmac', kcv: '7AD386C376' }, 'ERR_KEY_CHECK_VALUE'],
    [{ kid: 'PEK-CLOSED', usage: 'pin-encryption', mode: 'E', kcv: 'A13F4B' }, 'ERR_KEY_CHECK_VALUE'],
    [{ kid: 'NOBODY', usage: 'cmac' }, 'ERR_KEY_NOT_FOUND'],
  ]
  for (const [spec, code] of refused)
    await assertRejects(() => backend.bind(spec), code, JSON.stringify(spec))
  const key = await backend.bind({
    kid: 'PEK-CLOSED',
    usage: 'pin-encryption',
    mode: 'E',
    kcv: 'A13F4AABA2EFF1D9',
  })
  assert.equal(key.hostDecipher, false)
  assertBytes(await operationsOf(key).encipher(new Uint8Array(8)), 'A13F4AABA2EFF1D9', 'encipher')
}

async function limited(context: ContractContext): Promise<void> {
  const uses: string[] = []
  const rate = { operations: 10, perMs: 1000 }
  const limit = operationLimit({ perKey: rate, keys: { 'MAC-1': { ...rate, operations: 1 } }, now: () => 0 })
  const onOperation = (use: KeyUse): void => {
    limit(use)
    uses.push(`${use.kid} ${use.usage} ${use.mode} ${use.operation} ${use.blocks}`)
  }
  const keys = ['PEK-2', 'PEK-3', 'MAC-1'].map(contractKey)
  await using backend = await context.open(keys, { onOperation })
  const [from, to, mac] = await Promise.all(keys.map(({ kid }) => bindContractKey(backend, kid)))
  assert.ok(from !== undefined && to !== undefined && mac !== undefined)
  const block = await operationsOf(from).encipher(new Uint8Array(64))
  await assertRejects(() => operationsOf(from).encipher(new Uint8Array(24)), 'ERR_KEY_LIMIT')
  await operationsOf(from).decipher(block.slice(0, 8))
  await operationsOf(from).reencipher(to, block.slice(0, 8))
  await assertRejects(() => operationsOf(from).reencipher(to, block.slice(0, 8)), 'ERR_KEY_LIMIT')
  await assertRejects(() => operationsOf(from).decipher(block.slice(0, 8)), 'ERR_KEY_LIMIT')
  await operationsOf(to).encipher(new Uint8Array(72))
  await assertRejects(() => operationsOf(to).encipher(new Uint8Array(8)), 'ERR_KEY_LIMIT')
  const expected = [
    'PEK-2 pin-encryption B encipher 8',
    'PEK-2 pin-encryption B decipher 1',
    'PEK-2 pin-encryption B reencipher 1',
    'PEK-3 pin-encryption B encipher 1',
    'PEK-3 pin-encryption B encipher 9',
  ]
  if (backend.capabilities().macs['iso9797-1-alg1'] !== 'none') {
    const input = { key: mac, message: new Uint8Array(80), algorithm: 'iso9797-1-alg1', padding: 2 } as const
    await generateMac({ ...input, length: 8 })
    await assertRejects(() => generateMac({ ...input, length: 8 }), 'ERR_KEY_LIMIT')
    expected.push('MAC-1 cbc-mac C mac 1')
  }
  assert.deepEqual(uses, expected)
}

/** Refused when the keys are put in or when the second one is bound, whichever sees it first. */
async function refusedTwins(context: ContractContext, keys: readonly ContractKey[]): Promise<void> {
  await assertRejects(async () => {
    await using backend = await context.open(keys)
    for (const { kid, usage } of keys) await backend.bind({ kid, usage })
  }, 'ERR_KEY_USAGE')
}

async function longCheckValues(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  for (const [kid, whole, method] of LONG_CHECK_VALUES) {
    const as = (value: string): string | CheckValue => (method === undefined ? value : { method, value })
    for (let digits = 4; digits <= whole.length; digits += 2) {
      const right = whole.slice(0, digits)
      const { checkValue } = await bindContractKey(backend, kid, { kcv: as(right.toLowerCase()) })
      assert.equal(checkValue.value.slice(0, digits), right)
      const last = right.endsWith('0') ? '1' : '0'
      const wrong = as(right.slice(0, -1) + last)
      await assertRejects(() => bindContractKey(backend, kid, { kcv: wrong }), 'ERR_KEY_CHECK_VALUE')
    }
    for (const bad of [
      `${whole}00`,
      whole.slice(0, 2),
      whole.slice(0, 5),
      `${whole.slice(0, 6)} `,
      `0x${whole}`,
    ])
      await assertRejects(() => bindContractKey(backend, kid, { kcv: as(bad) }), 'ERR_ARGUMENT', bad)
  }
}

/** The mode is part of the handle, and of what the driver was asked to find. */
async function modeE(context: ContractContext): Promise<void> {
  const shared = await context.shared()
  for (const [kid, mode] of [
    ['PEK-CLOSED', 'C'],
    ['PEK-CLOSED', 'e'],
    ['CMAC-A', 'E'],
    ['JWE-D1', 'B'],
  ] as const) {
    await assertRejects(() => bindContractKey(shared, kid, { mode: mode as KeyMode }), 'ERR_ARGUMENT')
  }
  const opened = { mode: 'E', hostDecipher: true } as const
  await assertRejects(() => bindContractKey(shared, 'PEK-2', opened), 'ERR_ARGUMENT')

  await using backend = await context.open([
    contractKey('PEK-2'),
    { ...contractKey('PEK-CLOSED'), mode: 'E' },
  ])
  const key = await bindContractKey(backend, 'PEK-CLOSED', { mode: 'E' })
  const open = await bindContractKey(backend, 'PEK-2')
  assert.equal(key.mode, 'E')
  assert.equal(open.mode, 'B')
  const clear = bytes('13BAD542F3652D67')
  const block = await operationsOf(open).encipher(clear)
  assertBytes(await operationsOf(key).encipher(new Uint8Array(8)), 'A13F4AABA2EFF1D9', 'encipher')
  await assertRejects(() => operationsOf(key).decipher(block), 'ERR_KEY_USAGE')
  await assertRejects(() => operationsOf(key).reencipher(open, block), 'ERR_KEY_USAGE')
  assert.deepEqual(await operationsOf(open).reencipher(key, block), await operationsOf(key).encipher(clear))
  // What was made for less is not bound for more.
  await assertRejects(() => bindContractKey(backend, 'PEK-CLOSED'), 'ERR_KEY_USAGE')
  for (const mode of ['D', 'B'] as const)
    await assertRejects(() => bindContractKey(backend, 'PEK-CLOSED', { mode }), 'ERR_KEY_USAGE')
}

/** A MAC of the backend's, by its key; of one that has none, a MAC that it refuses, whatever its key is bound for. */
function macToTry(backend: Backend) {
  const { macs } = backend.capabilities()
  const message = bytes('68656C6C6F20776F726C64')
  if (macs['iso9797-1-alg1'] === 'none' && macs.cmac !== 'none') {
    const input = { message, algorithm: 'cmac', padding: 'none', length: 8 } as const
    return { kid: 'CMAC-A', input, mac: bytes('51C8D6FECBC3D0C8'), works: true }
  }
  const input = { message, algorithm: 'iso9797-1-alg1', padding: 2, length: 8 } as const
  return { kid: 'MAC-1', input, mac: bytes('32DC341271ACCD00'), works: macs['iso9797-1-alg1'] !== 'none' }
}

const NO_MAC: readonly ErrorCode[] = ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN']

async function macModes(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const { kid, input, mac, works } = macToTry(backend)
  const generates = await bindContractKey(backend, kid, { mode: 'G' })
  const verifies = await bindContractKey(backend, kid, { mode: 'V' })
  if (works) {
    assert.deepEqual(await generateMac({ ...input, key: generates }), mac)
    assert.equal(await verifyMac({ ...input, mac, key: verifies }), true)
  } else {
    await assertRejects(() => generateMac({ ...input, key: generates }), NO_MAC)
    await assertRejects(() => verifyMac({ ...input, mac, key: verifies }), NO_MAC)
  }
  await assertRejects(() => generateMac({ ...input, key: verifies }), 'ERR_KEY_USAGE')
  await assertRejects(() => verifyMac({ ...input, mac, key: generates }), 'ERR_KEY_USAGE')
}

async function macKeyPastItsEnd(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const { kid, input, mac, works } = macToTry(backend)
  const key = await bindContractKey(backend, kid, { validTo: new Date('2020-01-01T00:00:00Z') })
  assert.equal(key.validTo, '2020-01-01T00:00:00.000Z')
  await assertRejects(() => generateMac({ ...input, key }), 'ERR_KEY_PERIOD')
  if (works) assert.equal(await verifyMac({ ...input, mac, key }), true)
  else await assertRejects(() => verifyMac({ ...input, mac, key }), NO_MAC)
  const { detail } = await backend.health()
  assert.ok(detail.includes(`${kid} has been for old data only since 2020-01-01`), detail)
  await bindContractKey(backend, kid)
  assert.ok(!(await backend.health()).detail.includes(kid), 'health still tells of it')
}

/** A key that is refused when it is put into a backend, or when it is bound there. */
async function refusedAlone(
  context: ContractContext,
  key: Pick<ContractKey, 'algorithm' | 'material'>,
  code: ErrorCode,
): Promise<void> {
  await assertRejects(async () => {
    await using backend = await context.open([{ kid: 'ALONE', usage: 'pin-encryption', ...key }])
    await backend.bind({ kid: 'ALONE', usage: 'pin-encryption' })
  }, code)
}

/** Outside its period a key does nothing for new data; by its mode it deciphers what is old. */
async function enciphersNothingNew(
  context: ContractContext,
  period: Pick<BindSpec, 'validFrom' | 'validTo'>,
): Promise<void> {
  const backend = await context.shared()
  const block = bytes('0123456789ABCDEF')
  const now = await bindContractKey(backend, 'PEK-2')
  const old = await operationsOf(now).encipher(block)
  const key = await bindContractKey(backend, 'PEK-2', period)
  await assertRejects(() => operationsOf(key).encipher(block), 'ERR_KEY_PERIOD')
  await assertRejects(() => operationsOf(now).reencipher(key, old), 'ERR_KEY_PERIOD')
  assertBytes(await operationsOf(key).decipher(old), '0123456789ABCDEF', 'what is old')
}
