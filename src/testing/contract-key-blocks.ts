/**
 * Keys that protect keys (X9.143 usages K1 and K0): the published key blocks are opened and others sealed under a KBPK where
 * it lives, in the modes it has and no other; a key-encryption key does none of it.
 */
import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import { type Key, operationsOf } from '../backend/key.js'
import type { KeyMode } from '../key/usage.js'
import { type OpenedKeyBlock, openKeyBlock } from '../key-block/key-block.js'
import { type SealedKeyBlock, type SealKeyBlockInput, sealKeyBlock } from '../key-block/seal.js'
import {
  assertBytes,
  assertRejects,
  bindContractKey,
  bytes,
  type ContractCase,
  type ContractContext,
  contractKey,
} from './contract-helpers.js'

interface Published {
  readonly kid: string
  readonly version: 'B' | 'D'
  readonly block: string
  readonly key: string
  readonly kcv: string
  /** What the KBPK is asked for: the data of each CMAC and its value, by Python's `cryptography`. */
  readonly derived: readonly (readonly [data: string, mac: string])[]
}

/** TR-31:2018, A.7.2.2 and A.7.4. */
const PUBLISHED: readonly Published[] = [
  {
    kid: 'KBPK-T',
    version: 'B',
    block: 'B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E',
    key: '3F419E1CB7079442AA37474C2EFBF8B8',
    kcv: '57C409',
    derived: [
      ['0100000000000080', '698832F8778A7CFC'],
      ['0200000000000080', 'BC79559DAB07B88A'],
      ['0100010000000080', 'DD6CEEC1782D8453'],
      ['0200010000000080', '671BF8358AF9DB47'],
    ],
  },
  {
    kid: 'KBPK-A',
    version: 'D',
    block:
      'D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34',
    key: '3F419E1CB7079442AA37474C2EFBF8B8',
    kcv: '08793E',
    derived: [
      ['0100000000040100', '396C9382A6E2E66A088774E1D6E46541'],
      ['0100010000040100', '4EF24317696213840451890756757E57'],
    ],
  },
]

/** TR-31:2018, A.7.2.1: a legacy version, whose keys are variants of the KBPK. */
const LEGACY = {
  kbpk: '89E88CF7931444F334BD7547FC3F380C',
  block: 'A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701',
  kcv: 'CB9DEA',
}

const MATERIAL = 'AD192FD064B5579E7A4FB3C8F794F22A'
/** Also where a token could make variants, of a key that was made for it. */
const REFUSED = ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN', 'ERR_KEY_USAGE'] as const

const open = (key: Key, block: string, mode?: KeyMode): Promise<OpenedKeyBlock> =>
  openKeyBlock({ key, block, usage: 'pin-encryption', ...(mode !== undefined && { mode }) })

function seal(key: Key, more: Partial<SealKeyBlockInput> = {}): Promise<SealedKeyBlock> {
  return sealKeyBlock({
    key,
    version: key.algorithm.startsWith('aes') ? 'D' : 'B',
    material: bytes(MATERIAL),
    algorithm: 'tdea-2key',
    usage: 'pin-encryption',
    mode: 'E',
    exportability: 'N',
    ...more,
  })
}

export function keyBlockCases(context: ContractContext): readonly ContractCase[] {
  return [
    ...PUBLISHED.flatMap(published => [
      {
        name: `${published.kid} computes the CMACs that protect a key block of version ${published.version}`,
        run: async () => {
          const key = await bindContractKey(await context.shared(), published.kid)
          if (await refusedWithoutCmac(context, key, published.block)) return
          for (const [data, mac] of published.derived) {
            const request = { algorithm: 'cmac', padding: 'none' } as const
            assertBytes(await operationsOf(key).mac(request, bytes(data)), mac, data)
          }
        },
      },
      {
        name: `the published key block of version ${published.version} opens under ${published.kid}`,
        run: async () => {
          const key = await bindContractKey(await context.shared(), published.kid)
          if (await refusedWithoutCmac(context, key, published.block)) return
          const { material, mode, checkValue } = await open(key, published.block)
          assertBytes(material, published.key, 'the key inside')
          assert.equal(mode, 'E')
          assert.equal(checkValue.value.slice(0, 6), published.kcv)
        },
      },
      {
        name: `what is sealed under ${published.kid} opens again, and not when a character of it is another`,
        run: () => sealsAndOpens(context, published),
      },
      {
        name: `${published.kid} seals in mode E and opens in mode D, and nothing else: ERR_KEY_USAGE`,
        run: () => oneWay(context, published),
      },
    ]),
    {
      name: 'the published key block of version A opens with a warning, or is refused with a code',
      run: () => opensLegacy(context),
    },
    {
      name: 'a key block is sealed and opened under a key of that usage only, bound with hostDecipher',
      run: () => refusesOthers(context),
    },
  ]
}

/** A backend without CMAC protects nothing by key blocks, and says so; true where that was the answer. */
async function refusedWithoutCmac(context: ContractContext, key: Key, block: string): Promise<boolean> {
  const backend = await context.shared()
  if (backend.capabilities().macs.cmac !== 'none') return false
  await assertRejects(() => open(key, block), REFUSED, 'opened without CMAC')
  await assertRejects(() => seal(key), REFUSED, 'sealed without CMAC')
  return true
}

async function sealsAndOpens(context: ContractContext, { kid, block: given }: Published): Promise<void> {
  const key = await bindContractKey(await context.shared(), kid)
  if (await refusedWithoutCmac(context, key, given)) return
  const { block, checkValue } = await seal(key)
  const opened = await open(key, block)
  assertBytes(opened.material, MATERIAL, 'the key inside')
  assert.deepEqual(opened.checkValue, checkValue)
  await assertRejects(() => open(key, block, 'B'), 'ERR_KEY_BLOCK', 'mode B of a block that says E')
  for (const at of [8, 16, block.length - 1]) {
    const other = (Number.parseInt(block.charAt(at), 16) ^ 1).toString(16).toUpperCase()
    const changed = block.slice(0, at) + other + block.slice(at + 1)
    await assertRejects(() => open(key, changed), 'ERR_KEY_BLOCK', `character ${at} changed`)
  }
  await assertRejects(() => open(key, block.slice(0, -2)), 'ERR_KEY_BLOCK', 'a block cut short')
}

async function oneWay(context: ContractContext, { kid, block }: Published): Promise<void> {
  const declared = contractKey(kid)
  const both = await bindContractKey(await context.shared(), kid)
  if (await refusedWithoutCmac(context, both, block)) return
  await using sealing: Backend = await context.open([{ ...declared, mode: 'E' }])
  const sealer = await bindContractKey(sealing, kid, { mode: 'E' })
  await seal(sealer)
  await assertRejects(() => open(sealer, block), 'ERR_KEY_USAGE', 'opened in mode E')
  await using opening: Backend = await context.open([{ ...declared, mode: 'D' }])
  const opener = await bindContractKey(opening, kid, { mode: 'D' })
  await open(opener, block)
  await assertRejects(() => seal(opener), 'ERR_KEY_USAGE', 'sealed in mode D')
}

async function opensLegacy(context: ContractContext): Promise<void> {
  const declared = { ...contractKey('KBPK-T'), material: LEGACY.kbpk }
  await using backend: Backend = await context.open([declared])
  const key = await bindContractKey(backend, declared.kid)
  const opened = await open(key, LEGACY.block).catch((error: unknown) => error)
  if (opened instanceof Error) {
    await assertRejects(() => Promise.reject(opened), REFUSED, 'a token that makes no variants')
    return
  }
  const { checkValue, warnings } = opened as OpenedKeyBlock
  assert.equal(checkValue.value, LEGACY.kcv)
  assert.ok(warnings.some(warning => warning.includes('legacy')))
}

async function refusesOthers(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  for (const kid of ['KEK', 'CMAC-A', 'PEK-2', 'PRW-V']) {
    const other = await bindContractKey(backend, kid)
    await assertRejects(() => seal(other), 'ERR_KEY_USAGE', `sealed under ${kid}`)
    await assertRejects(
      () => open(other, String(PUBLISHED[0]?.block)),
      'ERR_KEY_USAGE',
      `opened under ${kid}`,
    )
  }
  for (const { kid, block } of PUBLISHED) {
    const closed = await bindContractKey(backend, kid, { hostDecipher: false })
    await assertRejects(() => seal(closed), 'ERR_HOST_DECIPHER', kid)
    await assertRejects(() => open(closed, block), 'ERR_HOST_DECIPHER', kid)
    const key = await bindContractKey(backend, kid)
    const wrong = String(PUBLISHED.find(one => one.kid !== kid)?.block)
    await assertRejects(() => open(key, wrong), 'ERR_KEY_BLOCK', `a version that does not go with ${kid}`)
  }
  const weaker = await bindContractKey(backend, 'KBPK-T')
  const stronger = { algorithm: 'aes-128', usage: 'pin-encryption', mode: 'B' } as const
  await assertRejects(() => seal(weaker, stronger), 'ERR_KEY_BLOCK', 'a key stronger than its KBPK')
}
