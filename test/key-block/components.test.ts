/** Components: each with its own check value, the key's at the end; what is weak, equal or of another length is refused by name. */
import { describe, expect, test } from 'vitest'
import { combineComponents, keyCheckValue, type SymmetricAlgorithm, splitKey } from '../../src/index.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { bytes, field, vectorsOf } from '../support/vectors.js'

const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex').toUpperCase()
const KEYS: Readonly<Record<SymmetricAlgorithm, string>> = {
  'hmac-sha256': '7D1E90B4C2A85F36E04B9D7716F3C8A25938E1D06C4FB27A83951C0E6DAF4B28',
  'tdea-2key': '0123456789ABCDEFFEDCBA9876543210',
  'tdea-3key': '0123456789ABCDEFFEDCBA98765432108F0D4C2B1A691E75',
  'aes-128': 'C1A5D20E7F936B4488D1F03C5E2A9B76',
  'aes-192': '0F1E2D3C4B5A69788796A5B4C3D2E1F00112233445566778',
  'aes-256': '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8',
}
const ALGORITHMS = Object.keys(KEYS) as SymmetricAlgorithm[]

async function split(algorithm: SymmetricAlgorithm, parts: number) {
  const { components, checkValue } = await splitKey({ kid: 'K', algorithm, material: KEYS[algorithm], parts })
  const given = components.map(({ component, checkValue }) => ({ component, kcv: checkValue }))
  return { kid: 'K', algorithm, components: given, kcv: checkValue, parity: 'report' as const }
}

describe('combineComponents refuses', () => {
  test('a component whose check value is another, by its number, and keeps nothing', async () => {
    const good = await split('tdea-2key', 3)
    const [first, second, third] = good.components
    const components = [first, { ...second, kcv: '000000' }, third]
    const call = () => combineComponents({ ...good, components } as never)
    const { message } = await failure(call, 'ERR_KEY_CHECK_VALUE', [KEYS['tdea-2key']])
    expect(message).toBe('key K, component 2: the check value does not match')
  })

  test('a key whose check value is another', async () => {
    const good = await split('aes-256', 2)
    const { message } = await failure(
      () => combineComponents({ ...good, kcv: '0000000000' }),
      'ERR_KEY_CHECK_VALUE',
    )
    expect(message).toBe('key K: the check value does not match')
  })

  test.each([15, 24, 32, 0])('a component of %i bytes where 16 are due', async length => {
    const good = await split('tdea-2key', 2)
    const components = [good.components[0], { component: new Uint8Array(length), kcv: '08D7B4' }]
    const { message } = await failure(
      () => combineComponents({ ...good, components } as never),
      'ERR_KEY_MATERIAL',
    )
    expect(message).toContain('component 2')
  })

  test('a component of zeros, and one that is there twice', async () => {
    const good = await split('aes-128', 2)
    const zeros = { component: new Uint8Array(16), kcv: '763CBCDE81' }
    const [first, second] = good.components
    const withZeros = () => combineComponents({ ...good, components: [first, zeros, second] } as never)
    expect((await failure(withZeros, 'ERR_KEY_WEAK')).message).toContain('component 2')
    for (const again of [first, second]) {
      const twice = () => combineComponents({ ...good, components: [first, second, again] } as never)
      expect((await failure(twice, 'ERR_KEY_WEAK')).message).toContain('component 3')
    }
  })

  test('a result that is weak, degenerate or one byte repeated', async () => {
    const cases: [SymmetricAlgorithm, string][] = [
      ['tdea-2key', '0123456789ABCDEF0123456789ABCDEF'],
      ['tdea-3key', '0123456789ABCDEFFEDCBA9876543210FEDCBA9876543210'],
      ['tdea-2key', '0123456789ABCDEFFEFEFEFEFEFEFEFE'],
      ['aes-128', '5A'.repeat(16)],
    ]
    for (const [algorithm, material] of cases) {
      await failure(() => splitKey({ kid: 'K', algorithm, material, parts: 2 }), 'ERR_KEY_WEAK', [material])
      const mask = hex(bytes(KEYS[algorithm]))
      const other = hex(bytes(material).map((byte, i) => byte ^ (bytes(mask)[i] ?? 0)))
      const parts = [mask, other]
      const components = await Promise.all(
        parts.map(async component => ({
          component,
          kcv: (await keyCheckValue({ material: component, algorithm })).checkValue,
        })),
      )
      const { checkValue } = await keyCheckValue({ material, algorithm })
      const call = () =>
        combineComponents({ kid: 'K', algorithm, components, kcv: checkValue, parity: 'report' })
      await failure(call, 'ERR_KEY_WEAK', [material])
    }
  })

  test.each([
    [{ components: [] }, 'ERR_ARGUMENT'],
    [{ components: 'x' }, 'ERR_ARGUMENT'],
    [{ algorithm: 'ec-p256' }, 'ERR_ARGUMENT'],
    [{ parity: 'yes' }, 'ERR_ARGUMENT'],
    [{ kid: '' }, 'ERR_ARGUMENT'],
    [{ kcv: undefined }, 'ERR_ARGUMENT'],
    [{ more: 1 }, 'ERR_ARGUMENT'],
  ] as const)('%j, by its name', async (change, code) => {
    const good = await split('tdea-2key', 2)
    const { message } = await failure(() => combineComponents({ ...good, ...change } as never), code)
    expect(message).toMatch(new RegExp(Object.keys(change)[0] ?? ''))
  })

  test('an entry with another member, by its number', async () => {
    const { components, ...good } = await split('tdea-2key', 2)
    const [first = expect.unreachable(), second = expect.unreachable()] = components
    const call = () =>
      combineComponents({ ...good, components: [first, { ...second, officer: 'A' } as never] })
    expect((await failure(call, 'ERR_ARGUMENT')).message).toContain('component 2: unknown option "officer"')
  })

  test('one component, and ten', async () => {
    const { components, ...good } = await split('tdea-2key', 2)
    await failure(() => combineComponents({ ...good, components: components.slice(0, 1) }), 'ERR_ARGUMENT')
    const ten = Array.from({ length: 10 }, () => components[0]) as typeof components
    await failure(() => combineComponents({ ...good, components: ten }), 'ERR_ARGUMENT')
    const whole = { kid: 'K', algorithm: 'aes-128', material: KEYS['aes-128'], parts: 2 } as const
    for (const change of [
      { parts: 1 },
      { parts: 10 },
      { parts: 2.5 },
      { parts: '2' },
      { kid: '' },
      { algorithm: 'rsa' },
    ]) {
      const { message } = await failure(() => splitKey({ ...whole, ...change } as never), 'ERR_ARGUMENT')
      expect(message).toContain(Object.keys(change)[0])
    }
    const { message } = await failure(() => splitKey({ ...whole, material: '00' }), 'ERR_KEY_MATERIAL')
    expect(message).toContain('key K')
  })
})

describe('components and key', () => {
  test.each(ALGORITHMS.flatMap(algorithm => [2, 3, 9].map(parts => [algorithm, parts] as const)))(
    '%s in %i parts, and back',
    async (algorithm, parts) => {
      const given = await split(algorithm, parts)
      expect(given.components).toHaveLength(parts)
      const { material, checkValue } = await combineComponents(given)
      expect(hex(material)).toBe(KEYS[algorithm])
      expect(checkValue).toEqual((await keyCheckValue({ material, algorithm })).checkValue)
    },
  )

  test('what is given is neither changed nor kept', async () => {
    const given = await split('tdea-2key', 2)
    const before = given.components.map(({ component }) => hex(component))
    const { value, buffers } = await buffersMadeBy(() => combineComponents(given))
    expect(given.components.map(({ component }) => hex(component))).toEqual(before)
    const holding = (secret: string, made = buffers) =>
      made.filter(buffer => Buffer.from(buffer).includes(Buffer.from(secret, 'hex')))
    expect(before.flatMap(part => holding(part))).toEqual([])
    expect(holding(KEYS['tdea-2key'])).toEqual([value.material.buffer])
    // Nor of a key that is split, or that turns out to be another.
    const whole = { kid: 'K', algorithm: 'tdea-2key', material: KEYS['tdea-2key'], parts: 2 } as const
    expect(holding(KEYS['tdea-2key'], (await buffersMadeBy(() => splitKey(whole))).buffers)).toEqual([])
    const other = await buffersMadeBy(() =>
      failure(() => combineComponents({ ...given, kcv: '000000' }), 'ERR_KEY_CHECK_VALUE'),
    )
    expect([...before, KEYS['tdea-2key']].flatMap(part => holding(part, other.buffers))).toEqual([])
  })

  test('the check value of an HMAC key by its name, and by no other', async () => {
    const given = { material: KEYS['hmac-sha256'], algorithm: 'hmac-sha256' } as const
    expect(await keyCheckValue({ ...given, method: 'hmac' })).toEqual(await keyCheckValue(given))
    for (const method of ['cmac', 'encrypt-zero'] as const)
      await failure(() => keyCheckValue({ ...given, method }), 'ERR_ARGUMENT')
  })

  test('parity is told, and set to odd where that is asked for; the check value is the same', async () => {
    const even = hex(bytes(KEYS['tdea-2key']).map(byte => byte ^ 1))
    const { components, checkValue } = await splitKey({
      kid: 'K',
      algorithm: 'tdea-2key',
      material: even,
      parts: 2,
    })
    const given = {
      kid: 'K',
      algorithm: 'tdea-2key' as const,
      components: components.map(({ component, checkValue }) => ({ component, kcv: checkValue })),
      kcv: checkValue,
    }
    const reported = await combineComponents({ ...given, parity: 'report' })
    expect([hex(reported.material), reported.parity]).toEqual([even, 'mixed'])
    const adjusted = await combineComponents({ ...given, parity: 'adjust' })
    expect([hex(adjusted.material), adjusted.parity]).toEqual([KEYS['tdea-2key'], 'mixed'])
    expect(adjusted.checkValue).toEqual(reported.checkValue)
    const aes = await combineComponents({ ...(await split('aes-128', 2)), parity: 'adjust' })
    expect([hex(aes.material), aes.parity]).toEqual([KEYS['aes-128'], 'unknown'])
  })
})

describe('published values', () => {
  test('every check value', async () => {
    for (const { inputs, outputs, id } of vectorsOf('kcv', 'kcv', 'accept')) {
      const key = field(inputs['key'])
      const expected = field(outputs?.['kcv'])
      const length = {
        32: ['tdea-2key', 'aes-128'],
        48: ['tdea-3key', 'aes-192'],
        64: ['aes-256', 'aes-256'],
      }[key.length]
      const algorithm = length?.[inputs['cipher'] === 'AES' ? 1 : 0] as SymmetricAlgorithm
      const method = inputs['method'] === 'cmac' ? 'cmac' : 'encrypt-zero'
      const { checkValue } = await keyCheckValue({ material: key, algorithm, method })
      expect([id, checkValue.value.slice(0, expected.length)]).toEqual([
        id,
        expected.slice(0, checkValue.value.length),
      ])
    }
  })

  test('every parity adjustment', async () => {
    const { adjustParity } = await import('../../src/primitives/tdea.js')
    for (const { inputs, outputs, id } of vectorsOf('des-keys', 'des.adjust-parity', 'accept')) {
      const key = bytes(field(inputs['key']))
      adjustParity(key)
      expect([id, hex(key)]).toEqual([id, outputs?.['adjusted']])
    }
  })

  test.each([{ algorithm: 'ec-p256' }, { method: 'jwk-thumbprint' }, { material: 'zz' }])(
    'keyCheckValue refuses %j',
    async change => {
      const good = { algorithm: 'aes-128', material: KEYS['aes-128'] }
      const code = 'material' in change ? 'ERR_KEY_MATERIAL' : 'ERR_ARGUMENT'
      const { message } = await failure(() => keyCheckValue({ ...good, ...change } as never), code)
      expect(message).toContain('material' in change ? 'key clear' : Object.keys(change)[0])
    },
  )
})
