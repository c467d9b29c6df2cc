/**
 * Verification as one operation: blocks of every pair of formats, PVVs and offsets, and what the port refuses. A backend that has no
 * `verifyPin` is led through its steps by the front, and must answer alike.
 */
import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import { type Key, operationsOf } from '../backend/key.js'
import { encipherPin } from '../pin/encipher.js'
import type { SupportedFormat } from '../pin/formats/formats.js'
import type { PinComparison, PinRule, PinVerification } from '../pin/formats/verification.js'
import { Pan, panDigits } from '../primitives/pan.js'
import { Pin } from '../primitives/pin.js'
import {
  assertRejects,
  bindContractKey,
  type ContractCase,
  type ContractContext,
  contractKey,
} from './contract-helpers.js'

const PAN = Pan.from('1122334455667788')
const OTHER = Pan.from('1122334455667780')
/** Format, and the key of its blocks. */
const SIDES = [
  [0, 'PEK-2'],
  [3, 'PEK-3'],
  [4, 'PEK-A'],
  [4, 'PEK-A256'],
] as const

const pin = (digits: string, format: SupportedFormat, key: Key, pan = PAN): Promise<Uint8Array> =>
  encipherPin({ pin: Pin.from(digits), pan, format, key })

export function verificationCases(context: ContractContext): readonly ContractCase[] {
  return [
    {
      name: 'verifyPin compares the PINs of blocks in every pair of formats, and of what is no block says so',
      run: () => blocks(context),
    },
    { name: 'verifyPin gives the known answers of Visa PVV and IBM 3624', run: () => values(context) },
    {
      name: 'verifyPin refuses keys that must not decipher, of another cipher, and blocks of another length',
      run: () => refusals(context),
    },
  ]
}

async function blocks(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  for (const [format, kid] of SIDES) {
    const first = await bindContractKey(backend, kid)
    for (const [kept, other] of SIDES) {
      const second = await bindContractKey(backend, other)
      const compare = async (block: Uint8Array, due: Uint8Array): Promise<PinComparison> =>
        operationsOf(first).verifyPin(second, {
          block,
          format,
          pan: panDigits(PAN),
          rule: { kind: 'block', format: kept },
          kept: due,
        })
      const right = await pin('90817', format, first)
      const what = `format ${format} against ${kept}`
      assert.equal(await compare(right, await pin('90817', kept, second)), 'same', what)
      assert.equal(await compare(right, await pin('90818', kept, second)), 'different', what)
      assert.equal(await compare(right, await pin('9081', kept, second)), 'different', what)
      assert.equal(await compare(right, new Uint8Array(kept === 4 ? 16 : 8)), 'no-block', what)
      assert.equal(
        await compare(new Uint8Array(right.length), await pin('90817', kept, second)),
        'no-block',
        what,
      )
      // Formats 0 and 3 leave the check digit out; format 4 is bound to it.
      if (kept === 4)
        assert.equal(await compare(right, await pin('90817', kept, second, OTHER)), 'no-block', what)
      const many = await Promise.all(
        Array.from({ length: 12 }, async (_, i) => compare(right, await pin(`9081${i % 10}`, kept, second))),
      )
      assert.deepEqual(
        many,
        many.map((_, i) => (i % 10 === 7 ? 'same' : 'different')),
        what,
      )
    }
  }
}

/** Source: knovichikhin/psec, tests/test_pin.py. */
const TABLE = '1234567890123456'
const PVK = '0123456789ABCDEFFEDCBA9876543210'
const ANSWERS: readonly { kid: string; pin: string; rule: PinRule; kept: string }[] = [
  { kid: 'PVV', pin: '4524', rule: { kind: 'pvv', pvki: 1 }, kept: '8523' },
  { kid: 'PVV', pin: '1912', rule: { kind: 'pvv', pvki: 2 }, kept: '3244' },
  {
    kid: 'OFFSET',
    pin: '1234',
    rule: { kind: 'offset', decimalisation: TABLE, validation: { from: 0, length: 16, pad: 'F' } },
    kept: '7710',
  },
  {
    kid: 'OFFSET',
    pin: '3675',
    rule: { kind: 'offset', decimalisation: TABLE, validation: { from: 1, length: 14, pad: '1' } },
    kept: '0000',
  },
]

async function values(context: ContractContext): Promise<void> {
  for (const [kid, usage] of [
    ['PVV', 'visa-pvv'],
    ['OFFSET', 'ibm-3624'],
  ] as const) {
    const keys = [
      contractKey('PEK-2'),
      contractKey('PEK-A'),
      { kid, usage, algorithm: 'tdea-2key', material: PVK } as const,
    ]
    await using backend: Backend = await context.open(keys)
    const value = await backend.bind({ kid, usage, mode: 'V' })
    for (const one of ANSWERS.filter(({ kid: of }) => of === kid)) {
      for (const [format, of] of [
        [0, 'PEK-2'],
        [4, 'PEK-A'],
      ] as const) {
        const first = await bindContractKey(backend, of)
        const compare = async (digits: string): Promise<PinComparison> =>
          operationsOf(first).verifyPin(value, {
            block: await pin(digits, format, first),
            format,
            pan: panDigits(PAN),
            rule: one.rule,
            kept: Uint8Array.from(one.kept, Number),
          })
        assert.equal(await compare(one.pin), 'same', `${kid} ${one.kept}`)
        const wrong = `${one.pin.slice(0, 3)}${(Number(one.pin[3]) + 1) % 10}`
        assert.equal(await compare(wrong), 'different', `${kid} ${one.kept}`)
      }
    }
  }
}

async function refusals(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'PEK-2')
  const aes = await bindContractKey(backend, 'PEK-A')
  const closed = await bindContractKey(backend, 'PEK-2', { hostDecipher: false })
  const mac = await bindContractKey(backend, 'MAC-3')
  const request: PinVerification = {
    block: new Uint8Array(8),
    format: 0,
    pan: panDigits(PAN),
    rule: { kind: 'block', format: 0 },
    kept: new Uint8Array(8),
  }
  const verify = (first: Key, second: Key, more: Partial<PinVerification> = {}) =>
    operationsOf(first).verifyPin(second, { ...request, ...more })
  await assertRejects(() => verify(closed, key), 'ERR_HOST_DECIPHER')
  await assertRejects(() => verify(key, closed), 'ERR_HOST_DECIPHER')
  await assertRejects(() => verify(key, mac), 'ERR_KEY_USAGE')
  await assertRejects(() => verify(key, key, { rule: { kind: 'pvv', pvki: 1 } }), 'ERR_KEY_USAGE')
  await assertRejects(() => verify(aes, key), 'ERR_KEY_ALGORITHM')
  await assertRejects(() => verify(key, aes), 'ERR_KEY_ALGORITHM')
  await assertRejects(() => verify(key, key, { format: 1 }), 'ERR_ARGUMENT')
  for (const length of [0, 7, 9, 16]) {
    await assertRejects(() => verify(key, key, { block: new Uint8Array(length) }), 'ERR_LENGTH')
    await assertRejects(() => verify(key, key, { kept: new Uint8Array(length) }), 'ERR_LENGTH')
  }
  await assertRejects(() => verify(key, key, { pan: new Uint8Array(9) }), 'ERR_PAN')
}
