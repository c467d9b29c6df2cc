/**
 * Derived keys: what a key computes that was derived from another for one message. Where a backend derives none it says so with
 * a code; where it derives, the answers are those of another program (Python's `cryptography`).
 */
import assert from 'node:assert/strict'
import type { KeyDerivation, MacRequest } from '../backend/driver.js'
import { operationsOf } from '../backend/key.js'
import {
  assertBytes,
  assertRejects,
  bindContractKey,
  bytes,
  type ContractCase,
  type ContractContext,
  type ContractKey,
} from './contract-helpers.js'
import { patternOf } from './contract-operations.js'

/** Keys that others are derived from; a token must be told so when they are made. */
const MASTERS: readonly ContractKey[] = [
  {
    kid: 'MASTER-A',
    usage: 'prw-verify',
    algorithm: 'aes-128',
    material: '404142434445464748494A4B4C4D4E4F',
    derives: true,
  },
  {
    kid: 'MASTER-192',
    usage: 'prw-verify',
    algorithm: 'aes-192',
    material: '101112131415161718191A1B1C1D1E1F2021222324252627',
    derives: true,
  },
  {
    kid: 'MASTER-T',
    usage: 'retail-mac',
    algorithm: 'tdea-2key',
    material: '3DB95E51E0A8F7614C9B2F8A1557D0C4',
    derives: true,
  },
]

const CMAC = { algorithm: 'cmac', padding: 'none' } as const
const ONCE: KeyDerivation = { method: 'encipher', data: patternOf(16) }
const MASK: KeyDerivation = { method: 'xor', data: new Uint8Array(16).fill(0xc0) }
const COUNTED: KeyDerivation = { method: 'cmac-counter', counterBytes: 2, data: patternOf(5) }

interface Derived {
  readonly name: string
  readonly kid: string
  readonly request: MacRequest
  readonly length: number
  readonly answer: string
  /** A step that not every place can do; such a one refuses it with a code. */
  readonly beyond?: true
}

const DERIVED: readonly Derived[] = [
  {
    name: 'one step of encipherment, AES-CMAC',
    kid: 'MASTER-A',
    request: { ...CMAC, derivation: [ONCE] },
    length: 123,
    answer: '2F6DE4153DB986062DC5CE68137CBA94',
  },
  {
    name: 'two steps of encipherment, AES-CMAC',
    kid: 'MASTER-A',
    request: { ...CMAC, derivation: [ONCE, { method: 'encipher', data: Uint8Array.from(Array(16).keys()) }] },
    length: 123,
    answer: 'B73D9ECC5C859C75BB1D9FDA31E32C68',
  },
  {
    name: 'the leftmost 24 bytes of two blocks, AES-192-CMAC',
    kid: 'MASTER-192',
    request: { ...CMAC, derivation: [{ method: 'encipher', data: patternOf(32) }] },
    length: 17,
    answer: 'EE6CCC4331400B8BB6F4D306A7C5833F',
  },
  {
    name: 'encipherment, then blocks enciphered under the derived key',
    kid: 'MASTER-A',
    request: { algorithm: 'encipher-ecb', padding: 1, derivation: [ONCE] },
    length: 32,
    answer: '5800A1F28175767C1FA50533034195846CAE1B99714A980260C44EA6D08964DD',
  },
  {
    name: 'encipherment, a retail MAC under both halves',
    kid: 'MASTER-T',
    request: { algorithm: 'iso9797-1-alg3', padding: 2, derivation: [ONCE] },
    length: 123,
    answer: 'C57F53BAD3D3916E',
  },
  {
    name: 'a CMAC counter and a mask over what it gives',
    kid: 'MASTER-A',
    request: { ...CMAC, derivation: [COUNTED, MASK] },
    length: 16,
    answer: '1B63C4EDBD6858BCC9091CBF8A613DFE',
    beyond: true,
  },
  {
    name: 'a mask over the key itself',
    kid: 'MASTER-A',
    request: { ...CMAC, derivation: [MASK] },
    length: 16,
    answer: '440378A989D88B0D41B6F51B4B521D2C',
    beyond: true,
  },
]

const REFUSED = ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN'] as const

export function derivationCases(context: ContractContext): readonly ContractCase[] {
  return [
    {
      name: 'a backend that derives no keys refuses every step with a code',
      run: async () => {
        const backend = await context.shared()
        if (backend.capabilities().derivation !== 'none') return
        const key = await bindContractKey(backend, 'PRW-G')
        for (const step of [ONCE, MASK, COUNTED]) {
          const call = () => operationsOf(key).mac({ ...CMAC, derivation: [step] }, patternOf(8))
          await assertRejects(call, REFUSED, step.method)
        }
      },
    },
    {
      name: 'a key that is derived for one message computes what that key computes',
      run: async () => {
        const shared = await context.shared()
        if (shared.capabilities().derivation === 'none') return
        await using backend = await context.open(MASTERS)
        const { macs } = backend.capabilities()
        for (const { name, kid, request, length, answer, beyond } of DERIVED) {
          const usage = MASTERS.find(master => master.kid === kid)?.usage
          assert.ok(usage !== undefined, kid)
          const key = await backend.bind({ kid, usage })
          const compute = () => operationsOf(key).mac(request, patternOf(length))
          const { algorithm } = request
          if (algorithm in macs && macs[algorithm as keyof typeof macs] === 'none') {
            await assertRejects(compute, REFUSED, name)
            continue
          }
          const made = await compute().catch((error: unknown) => error)
          if (beyond === true && made instanceof Error) {
            await assertRejects(compute, REFUSED, name)
            continue
          }
          assert.ok(made instanceof Uint8Array, `${name}: ${String(made)}`)
          assertBytes(made, answer, name)
        }
      },
    },
    {
      name: 'a master key has the check value that its bytes have',
      run: async () => {
        const shared = await context.shared()
        if (shared.capabilities().derivation === 'none') return
        await using backend = await context.open(MASTERS)
        await backend.bind({ kid: 'MASTER-T', usage: 'retail-mac', kcv: '5727CE' })
        await backend.bind({ kid: 'MASTER-A', usage: 'prw-verify', kcv: '6F2F9BE174' })
        await assertRejects(
          () => backend.bind({ kid: 'MASTER-A', usage: 'prw-verify', kcv: '6F2F9BE175' }),
          'ERR_KEY_CHECK_VALUE',
        )
        const key = await backend.bind({ kid: 'MASTER-A', usage: 'prw-verify' })
        const call = () =>
          operationsOf(key).mac({ ...CMAC, derivation: [{ ...ONCE, data: bytes('00') }] }, patternOf(8))
        await assertRejects(call, 'ERR_LENGTH')
      },
    },
  ]
}
