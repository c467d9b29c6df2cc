import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { BindSpec } from '../backend/backend.js'
import type { ErrorCode } from '../errors.js'
import { type KeyUsage, USAGES } from '../key/usage.js'
import type { ContractCase, ContractContext } from './contract.js'
import { assertRejects, bindContractKey, contractKey } from './contract-helpers.js'
import { CONTRACT_KEYS, type ContractKey } from './contract-keys.js'

/** Published or independently computed (OpenSSL command line) check values. */
const CHECK_VALUES: Readonly<Record<string, string>> = {
  'PEK-2': '96A0CB',
  'PEK-3': '4EBA73',
  'CMAC-A': '7AD386C376',
}

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
      run: () =>
        assertRejects(async () => {
          const weak: ContractKey = { kid: 'WEAK', usage: 'pin-encryption', algorithm, material }
          await using backend = await context.open([weak])
          await backend.bind({ kid: 'WEAK', usage: 'pin-encryption' })
        }, 'ERR_KEY_WEAK'),
    })),
    {
      name: 'two keys by one kid are refused with ERR_KEY_AMBIGUOUS',
      run: async () => {
        const [first, second] = [contractKey('PEK-2'), contractKey('PEK-CLOSED')]
        await using backend = await context.open([
          { ...first, kid: 'TWIN' },
          { ...second, kid: 'TWIN' },
        ])
        await assertRejects(() => backend.bind({ kid: 'TWIN', usage: 'pin-encryption' }), 'ERR_KEY_AMBIGUOUS')
      },
    },
    {
      name: 'a bound key states its kid, usage, algorithm, check value and backend, and is frozen',
      run: () => statesFacts(context),
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
    assert.equal(key.backend, backend)
    assert.ok(Object.isFrozen(key))
    const expected = CHECK_VALUES[declared.kid]
    if (expected !== undefined) assert.equal(key.checkValue.value.slice(0, expected.length), expected)
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
