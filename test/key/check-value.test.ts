import { calculateJwkThumbprint } from 'jose'
import { describe, expect, test } from 'vitest'
import type { ErrorCode, KeyAlgorithm } from '../../src/index.js'
import {
  type CheckValue,
  checkValueOf,
  defaultMethod,
  methodOf,
  readCheckValue,
  requireCheckValue,
  snapshotCheckValue,
  thumbprintOf,
} from '../../src/key/check-value.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'
import { field, vectorsOf } from '../support/vectors.js'

const THUMBPRINT = 'ASDsL-Jx2XOkRnFtqW-QblWY-mDnQW2LgapadFx75tA'

describe('shapes', () => {
  test.each([
    undefined,
    7,
    '',
    '08',
    '08D',
    '08D7B4F',
    '08D7B4FB629D0885'.repeat(3),
    '08D7G4',
    `${THUMBPRINT}A`,
    {},
    { method: 'encrypt-zero' },
    { method: 'encrypt-zero', value: 7 },
    { method: 'encrypt-zero', value: '08' },
    { method: 'hasOwnProperty', value: '08D7B4' },
    { method: 'jwk-thumbprint', value: '08D7B4' },
    null,
    ['08D7B4'],
    { method: 'cmac', value: ['08D7B4'] },
    { method: ['cmac'], value: '08D7B4' },
    Object.create({ method: 'cmac', value: '08D7B4' }),
    Object.assign(Object.create({ method: 'cmac' }), { value: '08D7B4' }),
  ])('%j is ERR_ARGUMENT', async given => {
    const { message } = await failure(() => snapshotCheckValue(given), 'ERR_ARGUMENT')
    expect(message).toBe(
      'kcv must be 4 to 32 hex digits, a 43-character thumbprint, or { method, value } of these',
    )
  })

  test.each([
    '08D7',
    '08D7B4',
    '08d7b4fb',
    '08D7B4FB629D0885',
    '08D7B4FB629D0885'.repeat(2),
    '08D7B4FB62',
    THUMBPRINT,
    { method: 'cmac', value: '08D7B4' },
  ])('%j is one', given => {
    expect(snapshotCheckValue(given)).toEqual(given)
  })

  test('a bare string means the usual method of the algorithm', async () => {
    expect(readCheckValue('08d7b4', 'tdea-2key')).toEqual({ method: 'encrypt-zero', value: '08D7B4' })
    expect(readCheckValue('08d7b4fb', 'aes-256')).toEqual({ method: 'cmac', value: '08D7B4FB' })
    expect(readCheckValue(THUMBPRINT, 'ec-p256')).toEqual({ method: 'jwk-thumbprint', value: THUMBPRINT })
    const { message } = await failure(() => readCheckValue('08D7B4FB629D088500', 'tdea-3key'), 'ERR_ARGUMENT')
    expect(message).toBe('kcv has the wrong shape for method encrypt-zero of a key that is tdea-3key')
    await failure(
      () => readCheckValue({ method: 'encrypt-zero', value: '08D7B4' }, 'ec-p256'),
      'ERR_ARGUMENT',
    )
    await failure(() => readCheckValue(THUMBPRINT, 'aes-128'), 'ERR_ARGUMENT')
    await failure(
      () => readCheckValue({ method: 'jwk-thumbprint', value: THUMBPRINT }, 'aes-128'),
      'ERR_ARGUMENT',
    )
    expect(defaultMethod('aes-128')).toBe('cmac')
    expect(readCheckValue('6e2bc52660', 'hmac-sha256')).toEqual({ method: 'hmac', value: '6E2BC52660' })
    expect(methodOf('08D7B4')).toBeUndefined()
    expect(methodOf(undefined)).toBeUndefined()
    expect(methodOf({ method: 'cmac', value: '08D7B4' })).toBe('cmac')
  })
})

test.each([
  ['encrypt-zero', 'hmac-sha256'],
  ['cmac', 'hmac-sha256'],
  ['hmac', 'aes-128'],
  ['hmac', 'tdea-2key'],
] as const)('by %s there is no check value of a key that is %s', async (method, algorithm) => {
  await failure(() => readCheckValue({ method, value: '08D7B4' }, algorithm), 'ERR_ARGUMENT')
})

test.each([
  ['tdea-2key', 16],
  ['aes-256', 32],
] as const)('a check value of %s may be the whole block, and no longer', async (algorithm, digits) => {
  const value = 'A5'.repeat(digits / 2)
  expect(readCheckValue(value, algorithm).value).toBe(value)
  await failure(() => readCheckValue(`${value}A5`, algorithm), 'ERR_ARGUMENT')
})

describe('comparison', () => {
  const actual: CheckValue = { method: 'cmac', value: '7AD386C376' }

  test.each(['7AD386', '7AD386C3', '7AD386C376'])('%s matches from the left', value => {
    expect(requireCheckValue('K', { method: 'cmac', value }, actual)).toBeUndefined()
  })

  test.each([
    ['another value', { method: 'cmac', value: '7AD387' }, actual],
    [
      'another thumbprint',
      { method: 'jwk-thumbprint', value: THUMBPRINT },
      { method: 'jwk-thumbprint', value: THUMBPRINT.replace('A', 'B') },
    ],
  ] as const)('%s is ERR_KEY_CHECK_VALUE, and neither value is shown', async (_name, expected, found) => {
    await failure(() => requireCheckValue('K', expected, found), 'ERR_KEY_CHECK_VALUE', [
      expected.value,
      found.value,
    ])
  })
})

test.each([
  ['another method', { method: 'encrypt-zero', value: '7AD386' }],
  ['more bytes than are known', { method: 'cmac', value: '7AD386C37600' }],
] as const)('%s says nothing of the key: ERR_UNSUPPORTED_BY_TOKEN', async (_name, expected) => {
  const actual: CheckValue = { method: 'cmac', value: '7AD386C376' }
  await failure(() => requireCheckValue('K', expected, actual), 'ERR_UNSUPPORTED_BY_TOKEN', [expected.value])
})

test('a comparison says what kind of check values differ, and takes hex of either case', async () => {
  const actual: CheckValue = { method: 'cmac', value: '7AD386C376' }
  expect(requireCheckValue('K', { method: 'cmac', value: '7ad386' }, actual)).toBeUndefined()
  const compare = (method: CheckValue['method'], value: string, code: ErrorCode) =>
    failure(() => requireCheckValue('K', { method, value }, actual), code).then(({ message }) => message)
  expect(await compare('cmac', '7AD387', 'ERR_KEY_CHECK_VALUE')).toBe('key K: the check value does not match')
  expect(await compare('encrypt-zero', '7AD386', 'ERR_UNSUPPORTED_BY_TOKEN')).toBe(
    'key K: its check value is made by cmac, not encrypt-zero',
  )
  expect(await compare('cmac', '7AD', 'ERR_ENCODING')).toBe('kcv must be an even number of hex digits')
})

test('a thumbprint is that of RFC 7638, by another implementation', async () => {
  const jwk = {
    kty: 'EC',
    crv: 'P-256',
    x: 'UbInEqNbZZZ9SJptBwKTKO6qslSyuWvMkVK44Bx_d8U',
    y: 'PUxeHMNVL0VRxOYJrkHcpe6sap7IG-Are0QborZDngI',
  } as const
  expect(thumbprintOf(jwk)).toEqual({ method: 'jwk-thumbprint', value: THUMBPRINT })
  expect(THUMBPRINT).toBe(await calculateJwkThumbprint(jwk))
})

test('checkValueOf takes 3 or 5 bytes from the left, or as many as are expected where those are more', () => {
  const block = Uint8Array.of(1, 2, 3, 4, 5, 6)
  expect(checkValueOf('encrypt-zero', block, '0102').value).toBe('010203')
  expect(checkValueOf('encrypt-zero', block, { method: 'encrypt-zero', value: '01020304' }).value).toBe(
    '01020304',
  )
  expect(checkValueOf('encrypt-zero', Uint8Array.of(1, 2, 3, 4)).value).toBe('010203')
  expect(checkValueOf('cmac', Uint8Array.of(1, 2, 3, 4, 5, 6)).value).toBe('0102030405')
})

describe('known answers, by binding in software', () => {
  const algorithms: Readonly<Record<string, KeyAlgorithm>> = {
    'TDEA-32': 'tdea-2key',
    'TDEA-48': 'tdea-3key',
    'AES-32': 'aes-128',
    'AES-48': 'aes-192',
    'AES-64': 'aes-256',
  }
  const usable = vectorsOf('kcv', 'kcv')
  const strong = usable.filter(
    ({ flags = [] }) => !flags.includes('degenerate-key') && !flags.includes('weak-key'),
  )

  test.each(strong)('$id: $inputs.cipher, $inputs.method', async ({ inputs, outputs }) => {
    const material = field(inputs['key'])
    const algorithm = algorithms[`${field(inputs['cipher'])}-${material.length}`]
    if (algorithm === undefined) throw new Error('a key of another algorithm')
    await using backend = await softwareBackend({ keys: [{ kid: 'K', usage: 'cmac', algorithm, material }] })
    const method = inputs['method'] === 'cmac' ? 'cmac' : 'encrypt-zero'
    const value = field(outputs?.['kcv'])
    const key = await backend.bind({ kid: 'K', usage: 'cmac', kcv: { method, value } })
    expect(key.checkValue.value.startsWith(value)).toBe(true)
  })
})
