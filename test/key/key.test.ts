import { format, inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import {
  isKey,
  Key,
  type KeyFacts,
  type KeyOperations,
  makeKey,
  operationsOf,
  requireKey,
  requireKeys,
} from '../../src/backend/key.js'
import {
  isKeyMode,
  isKeyUsage,
  isWithin,
  type KeyMode,
  type KeyUsage,
  operationsFor,
  requireUse,
  secondUse,
  USAGES,
  usualMode,
} from '../../src/key/usage.js'
import {
  blockBytesOf,
  isCipher,
  isEncipherment,
  isKeyAlgorithm,
  isTdea,
  KEY_BYTES,
} from '../../src/primitives/algorithms.js'
import { failure } from '../support/errors.js'

const OPERATIONS = { name: 'none' } as unknown as KeyOperations
const key = (facts: Partial<KeyFacts> = {}): Key =>
  makeKey(
    {
      kid: 'K',
      usage: 'cmac',
      mode: 'C',
      algorithm: 'aes-128',
      checkValue: { method: 'cmac', value: '7AD386C376' },
      parity: 'unknown',
      hostDecipher: false,
      ...facts,
    },
    OPERATIONS,
  )

describe('a key', () => {
  test.each([undefined, null, 'K', 7, {}])('is not %j', async value => {
    expect(isKey(value)).toBe(false)
    const { message } = await failure(() => requireKey(value, 'from'), 'ERR_ARGUMENT')
    expect(message).toBe('from must be a Key, bound by a backend of this copy of the library')
  })

  test('is not what looks like one', () => {
    expect(() => Reflect.construct(Key, [{ ...key() }, OPERATIONS])).toThrow('made by Backend.bind')
    for (const forged of [
      { ...key() },
      Object.create(Key.prototype),
      new Proxy(key(), {}),
      structuredClone(key()),
    ]) {
      expect(isKey(forged)).toBe(false)
    }
  })

  test('shows what it is for, and nothing of what can be done with it', () => {
    const shown = 'Key K (cmac, aes-128, KCV 7AD386C376)'
    expect(`${key()}`).toBe(shown)
    expect(inspect(key(), { depth: 9, showHidden: true })).toBe(`[${shown}]`)
    expect(format('%o', key())).toBe(`[${shown}]`)
    expect(JSON.stringify(key())).not.toContain('none')
    expect(operationsOf(key())).toBe(OPERATIONS)
  })

  test('is frozen with all its facts, which are copies', () => {
    const publicJwk = { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' } as const
    const checkValue = { method: 'cmac', value: '7AD386C376' } as const
    const one = key({ publicJwk, checkValue })
    expect(isKey(one)).toBe(true)
    expect(one.publicJwk).toEqual(publicJwk)
    expect(one.publicJwk).not.toBe(publicJwk)
    expect(one.checkValue).toEqual(checkValue)
    expect(one.checkValue).not.toBe(checkValue)
    for (const part of [one, one.publicJwk, one.checkValue]) expect(Object.isFrozen(part)).toBe(true)
  })

  test('shows its mode where that is not the usual one', () => {
    expect(`${key({ mode: 'V' })}`).toBe('Key K (cmac, mode V, aes-128, KCV 7AD386C376)')
  })

  test('of another kind than EC has no public half', () => {
    expect(key().publicJwk).toBeUndefined()
    expect(JSON.stringify(key())).not.toContain('publicJwk')
  })
})

describe('a list of keys', () => {
  const many = (count: number): Key[] => Array.from({ length: count }, (_, i) => key({ kid: `K${i}` }))

  test.each<[string, unknown, string]>([
    ['none', [], 'keys must be 1 to 64 keys'],
    ['65', many(65), 'keys must be 1 to 64 keys'],
    ['a key twice', [key(), key()], 'keys: two keys by the kid K'],
    ['a string', 'K', 'keys must be a Key, bound by a backend of this copy of the library'],
    ['a gap', [key(), undefined], 'keys must be a Key, bound by a backend of this copy of the library'],
  ])('is not %s', async (_name, value, message) => {
    expect((await failure(() => requireKeys(value, 'keys'), 'ERR_ARGUMENT')).message).toBe(message)
  })

  test('is one key, or up to 64, in the order given', () => {
    const one = key()
    expect(requireKeys(one, 'keys')).toEqual([one])
    const all = many(64)
    expect(requireKeys(all, 'keys').map(({ kid }) => kid)).toEqual(all.map(({ kid }) => kid))
  })
})

describe('the usage table', () => {
  const TDEA = ['tdea-2key', 'tdea-3key']
  const AES = ['aes-128', 'aes-192', 'aes-256']
  const ANY = [...TDEA, ...AES]
  const PIN = ['encipher', 'decipher', 'reencipher', 'verifyPin']
  const PRW = [...ANY, 'hmac-sha256']
  const MACS = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac', 'hmac-sha256']

  /** Usage and mode codes: ANSI X9.143, tables of key usage and mode of use. */
  test.each<[string, string, readonly string[], readonly string[], readonly string[]]>([
    ['pin-encryption', 'P0 BED', ANY, PIN, []],
    ['cbc-mac', 'M1 CGV', TDEA, ['mac'], ['iso9797-1-alg1']],
    ['retail-mac', 'M3 CGV', TDEA, ['mac'], ['iso9797-1-alg3']],
    ['cmac', 'M6 CGV', ANY, ['mac'], ['cmac']],
    ['hmac', 'M7 CGV', ['hmac-sha256'], ['mac'], ['hmac-sha256']],
    ['prw-generate', 'V0 G', PRW, ['mac'], MACS],
    ['prw-verify', 'V0 V', PRW, ['mac'], MACS],
    ['visa-pvv', 'V2 CGV', ['tdea-2key'], ['encipher', 'verifyPin'], []],
    ['ibm-3624', 'V1 CGV', TDEA, ['encipher', 'verifyPin'], []],
    ['jwe-key-agreement', 'K3 X', ['ec-p256'], ['deriveContentKey'], []],
    ['jwt-signing', 'S0 S', ['ec-p256'], ['sign'], []],
    ['key-block-protection', 'K1 BED', ANY, ['mac', 'decipherVariant'], ['cmac']],
    ['key-encryption', 'K0 D', AES, [], []],
  ])('%s is %s', (usage, codes, algorithms, operations, macs) => {
    if (!isKeyUsage(usage)) throw new Error(`${usage} is no usage`)
    const rule = USAGES[usage]
    expect(`${rule.x9143} ${rule.modes.join('')}`).toBe(codes)
    expect(rule).toMatchObject({ algorithms, macs })
    expect([...operationsFor(usage, rule.modes[0])]).toEqual(operations)
  })

  /** ANSI X9.143: what a mode of use leaves of a usage. */
  test.each<[KeyUsage, KeyMode, readonly string[]]>([
    ['pin-encryption', 'E', ['encipher']],
    ['pin-encryption', 'D', ['decipher', 'reencipher', 'verifyPin']],
    ['visa-pvv', 'G', ['encipher']],
    ['visa-pvv', 'V', ['encipher', 'verifyPin']],
    ['ibm-3624', 'V', ['encipher', 'verifyPin']],
    ['key-block-protection', 'E', ['mac']],
    ['key-block-protection', 'D', ['mac', 'decipherVariant']],
    ['cmac', 'G', ['mac']],
    ['cmac', 'V', ['mac']],
  ])('%s in mode %s may be asked to %j', (usage, mode, operations) => {
    expect([...operationsFor(usage, mode)]).toEqual(operations)
    expect(isWithin(mode, usualMode(usage))).toBe(true)
    expect(isWithin(usualMode(usage), mode)).toBe(false)
  })

  test('a verb turns a key away in one wording, which names the mode where it is not the usual one', async () => {
    const refusal = async (
      usage: KeyUsage,
      mode: KeyMode,
      ...use: ['pin-block' | 'mac', 'decipher' | 'verify']
    ) => (await failure(() => requireUse({ kid: 'K', usage, mode }, ...use), 'ERR_KEY_USAGE')).message
    expect(await refusal('pin-encryption', 'E', 'pin-block', 'decipher')).toBe(
      'key K is for pin-encryption in mode E: deciphering a PIN block is refused',
    )
    expect(await refusal('prw-verify', 'V', 'mac', 'verify')).toBe(
      'key K is for prw-verify: verifying a MAC is refused',
    )
    expect(await refusal('cmac', 'C', 'mac', 'decipher')).toBe('key K is for cmac: decipher is refused')
    requireUse({ kid: 'K', usage: 'cmac', mode: 'V' }, 'mac', 'verify')
  })

  test('a second use of a key is refused by its kid, with what shows it', () => {
    const { code, kid, message } = secondUse('K', 'it is bound as a MAC key')
    expect([code, kid, message]).toEqual([
      'ERR_KEY_USAGE',
      'K',
      'key K: it is bound as a MAC key; a key has one usage',
    ])
  })

  test.each([undefined, null, 'N', 'constructor', ['B']])('%j is no mode of use', value => {
    expect(isKeyMode(value)).toBe(false)
  })

  test('lengths of keys: FIPS 197, SP 800-67 (with parity bits), SP 800-186', () => {
    const lengths = { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32, 'hmac-sha256': 32, 'ec-p256': 32 }
    expect(KEY_BYTES).toEqual({ 'tdea-2key': 16, 'tdea-3key': 24, ...lengths })
  })

  test.each([undefined, null, 7, 'constructor', ['cmac'], ['aes-128'], new String('cmac')])(
    '%j names no usage and no algorithm',
    value => {
      expect(isKeyUsage(value)).toBe(false)
      expect(isKeyAlgorithm(value)).toBe(false)
    },
  )

  test.each([
    ['tdea-2key', true, 8],
    ['tdea-3key', true, 8],
    ['aes-128', true, 16],
    ['aes-192', true, 16],
    ['aes-256', true, 16],
    ['hmac-sha256', false, undefined],
    ['ec-p256', false, undefined],
  ] as const)('%s is a block cipher: %s', (algorithm, cipher, blockBytes) => {
    expect(isCipher(algorithm)).toBe(cipher)
    if (blockBytes !== undefined) expect(blockBytesOf(algorithm)).toBe(blockBytes)
  })

  test('an encipherment is ECB or CBC of a whole message, and no MAC is one', () => {
    expect(
      ['encipher-ecb', 'encipher-cbc', 'cmac', 'hmac-sha256', '', undefined].map(isEncipherment),
    ).toEqual([true, true, false, false, false, false])
  })

  test('names', () => {
    expect(isKeyUsage('cmac')).toBe(true)
    expect(isKeyAlgorithm('aes-128')).toBe(true)
    expect((['tdea-2key', 'tdea-3key', 'aes-128', 'ec-p256'] as const).map(isTdea)).toEqual([
      true,
      true,
      false,
      false,
    ])
  })
})
