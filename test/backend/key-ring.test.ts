/** What a backend's key ring holds: each key once, for one usage, and nothing after it has been sealed. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type KeyOperations, operationsOf } from '../../src/backend/key.js'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import {
  type BindSpec,
  type ErrorCode,
  type FoundKey,
  KeyError,
  type KeyQuery,
  type KeyUsage,
  openBackend,
  operationLimit,
} from '../../src/index.js'
import { publicPoint } from '../../src/key/material.js'
import { type SoftwareKey, softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'

const K1 = '1122334455667788'
const K2 = 'A1B2C3D4E5F60718'
const K3 = '0123456789ABCDEF'
const not = (hex: string): string =>
  hex.replace(/./g, digit => (15 - Number.parseInt(digit, 16)).toString(16).toUpperCase())

const pin = (material: string): SoftwareKey => ({
  kid: 'ONE',
  usage: 'pin-encryption',
  algorithm: material.length === 32 ? 'tdea-2key' : 'tdea-3key',
  material,
})

describe('one key for two usages under two kids is refused in software', () => {
  test.each<[string, SoftwareKey, Pick<SoftwareKey, 'algorithm' | 'material'>]>([
    ['the same bytes', pin(K1 + K2), { algorithm: 'tdea-2key', material: K1 + K2 }],
    ['the complement', pin(K1 + K2), { algorithm: 'tdea-2key', material: not(K1 + K2) }],
    ['K1‖K2 as K1‖K2‖K1', pin(K1 + K2), { algorithm: 'tdea-3key', material: K1 + K2 + K1 }],
    ['K1‖K2 within K1‖K2‖K3', pin(K1 + K2 + K3), { algorithm: 'tdea-2key', material: K1 + K2 }],
    ['as TDEA and as AES', pin(K1 + K2), { algorithm: 'aes-128', material: K1 + K2 }],
    [
      'as TDEA and as AES of another length',
      pin(K1 + K2 + K3),
      { algorithm: 'aes-192', material: K1 + K2 + K3 },
    ],
  ])('%s', async (_name, one, other) => {
    const two = { kid: 'TWO', usage: 'cmac', ...other } as const
    for (const keys of [
      [one, two],
      [two, one],
    ]) {
      const { message } = await failure(() => softwareBackend({ keys }), 'ERR_KEY_USAGE')
      expect(message).toMatch(
        /^key (ONE|TWO): it has the value of (ONE|TWO), which is for [a-z-]+; a key has one usage$/,
      )
    }
  })

  test('and not where only K2 is shared, or the usage is the same', async () => {
    const two = { kid: 'TWO', usage: 'cmac', algorithm: 'tdea-2key', material: K3 + K2 } as const
    const again = { ...pin(K1 + K2 + K3), kid: 'AGAIN' }
    await using backend = await softwareBackend({ keys: [pin(K1 + K2), two, again] })
    expect((await backend.bind({ kid: 'TWO', usage: 'cmac' })).kid).toBe('TWO')
  })

  test.each<[string, SoftwareKey, Pick<SoftwareKey, 'algorithm' | 'material'>]>([
    ['K2‖K3 within K1‖K2‖K3', pin(K1 + K2 + K3), { algorithm: 'tdea-2key', material: K2 + K3 }],
    ['its complement', pin(K1 + K2 + K3), { algorithm: 'tdea-2key', material: not(K2 + K3) }],
    ['three keys as AES of that length', pin(K1 + K2 + K3), { algorithm: 'aes-192', material: K1 + K2 + K3 }],
    ['two keys within AES-256', pin(K1 + K2), { algorithm: 'aes-256', material: K1 + K2 + K3 + K3 }],
    ['AES-128 within three keys', pin(K1 + K2 + K3), { algorithm: 'aes-128', material: K1 + K2 }],
    ['HMAC', pin(K1 + K2 + K3), { algorithm: 'hmac-sha256', material: K1 + K2 + K3 + K2 }],
  ])('and %s', async (_name, one, other) => {
    const usage = other.algorithm === 'hmac-sha256' ? 'hmac' : 'cmac'
    const two = { kid: 'TWO', usage, ...other } as const
    for (const keys of [
      [one, two],
      [two, one],
    ])
      await failure(() => softwareBackend({ keys }), 'ERR_KEY_USAGE')
  })

  test('a scalar and its negative, which have one Z', async () => {
    const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
    const scalar = BigInt(`0x${'22'.repeat(32)}`)
    const hex = (value: bigint) => value.toString(16).padStart(64, '0')
    const keys: SoftwareKey[] = [
      { kid: 'ONE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: hex(scalar) },
      { kid: 'TWO', usage: 'jwt-signing', algorithm: 'ec-p256', material: hex(order - scalar) },
    ]
    await failure(() => softwareBackend({ keys }), 'ERR_KEY_USAGE')
  })

  test('different keys that share 16 bytes are two keys', async () => {
    const others: readonly Pick<SoftwareKey, 'usage' | 'algorithm' | 'material'>[] = [
      { usage: 'cmac', algorithm: 'tdea-3key', material: K1 + K2 + not(K3).replace(/.$/, '2') },
      { usage: 'cmac', algorithm: 'aes-192', material: K1 + K2 + K1.replace(/^./, '9') },
    ]
    for (const other of others) {
      await using backend = await softwareBackend({ keys: [pin(K1 + K2 + K3), { kid: 'TWO', ...other }] })
      expect((await backend.bind({ kid: 'TWO', usage: 'cmac' })).kid).toBe('TWO')
    }
    // Of AES and HMAC each bit counts.
    const aes = (kid: string, usage: 'cmac' | 'prw-verify', material: string) =>
      ({ kid, usage, algorithm: 'aes-128', material }) as const
    await using two = await softwareBackend({
      keys: [aes('A', 'cmac', K1 + K2), aes('B', 'prw-verify', K1 + K2.replace(/.$/, '9'))],
    })
    expect(two.name).toBe('software')
    await failure(
      () => softwareBackend({ keys: [aes('A', 'cmac', K1 + K2), aes('B', 'prw-verify', K1 + K2)] }),
      'ERR_KEY_USAGE',
    )
  })

  test('a key within two others of two usages is refused, in whichever order', async () => {
    const three = { ...pin(K1 + K2 + K3), kid: 'THREE' }
    const mac = {
      kid: 'MAC',
      usage: 'cmac',
      algorithm: 'tdea-3key',
      material: K1 + K2 + K1.replace(/^./, '9'),
    } as const
    const two = { kid: 'TWO', usage: 'cmac', algorithm: 'tdea-2key', material: K1 + K2 } as const
    await failure(() => softwareBackend({ keys: [mac, three, two] }), 'ERR_KEY_USAGE')
    await failure(() => softwareBackend({ keys: [two, mac, three] }), 'ERR_KEY_USAGE')
  })
})

describe('the front, whatever the driver let pass,', () => {
  const stored = (...keys: SoftwareKey[]) => keys.flatMap(key => storeKeys([key]))
  const twin = { kid: 'TWO', usage: 'cbc-mac', algorithm: 'tdea-2key', material: K1 + K2 } as const

  test('knows a key by its check value, as far as the shorter goes', async () => {
    const driver = new SoftwareDriver(stored(pin(K1 + K2), twin), nodeEngine)
    // As of a backend that does not see the keys themselves.
    const unseen = Object.create(driver, {
      find: { value: (query: KeyQuery) => ({ ...driver.find(query), identity: undefined }) },
      capabilities: { value: () => driver.capabilities() },
      close: { value: () => driver.close() },
    }) as typeof driver
    await using backend = openBackend(unseen)
    await backend.bind({ kid: 'ONE', usage: 'pin-encryption', kcv: 'A13F4AABA2EFF1D9' })
    const error = await failure(() => backend.bind({ kid: 'TWO', usage: 'cbc-mac' }), 'ERR_KEY_USAGE')
    expect(error.message).toBe(
      'key TWO: it has the check value of ONE, which is bound for pin-encryption; a key has one usage',
    )
    expect(error).toHaveProperty('kid', 'TWO')
  })

  const known = (
    kid: string,
    usage: KeyUsage,
    more: Partial<FoundKey<string>>,
  ): [BindSpec, FoundKey<string>] => [
    { kid, usage },
    {
      ref: kid,
      algorithm: usage === 'jwt-signing' ? 'ec-p256' : 'tdea-2key',
      parity: 'unknown',
      checkValue: { method: 'encrypt-zero', value: kid === 'ONE' ? '111111' : '222222' },
      ...more,
    },
  ]
  const CMAC = { method: 'cmac', value: 'ABCDEF0123' } as const
  const ZERO = { method: 'encrypt-zero', value: '111111' } as const

  test.each<[string, Partial<FoundKey<string>>, Partial<FoundKey<string>>, string | undefined]>([
    [
      'one object',
      { identity: { names: ['a', 'b'], checkValues: [] } },
      { identity: { names: ['b'], checkValues: [] } },
      'object',
    ],
    [
      'two objects',
      { identity: { names: ['a'], checkValues: [] } },
      { identity: { names: ['b'], checkValues: [] } },
      undefined,
    ],
    [
      'a check value by a second method',
      { identity: { names: [], checkValues: [CMAC] } },
      { checkValue: CMAC },
      'check value',
    ],
    [
      'in another order',
      { checkValue: CMAC },
      { identity: { names: [], checkValues: [{ ...CMAC, value: 'ABCDEF' }] } },
      'check value',
    ],
    [
      'one CKA_ID, and no method in common',
      { identity: { names: [], id: '01', checkValues: [] } },
      { checkValue: CMAC, identity: { names: [], id: '01', checkValues: [] } },
      'CKA_ID',
    ],
    [
      'one CKA_ID, and two values',
      { identity: { names: [], id: '01', checkValues: [] } },
      { identity: { names: [], id: '01', checkValues: [] } },
      undefined,
    ],
    [
      'two CKA_IDs',
      { identity: { names: [], id: '01', checkValues: [] } },
      { checkValue: CMAC, identity: { names: [], id: '02', checkValues: [] } },
      undefined,
    ],
    [
      'one value of two keys that their backend has compared',
      { checkValue: ZERO, identity: { names: ['a'], checkValues: [], compared: true } },
      { checkValue: ZERO, identity: { names: ['b'], checkValues: [], compared: true } },
      undefined,
    ],
    [
      'one value of two keys, of which one has been compared',
      { checkValue: ZERO, identity: { names: ['a'], checkValues: [], compared: true } },
      { checkValue: ZERO, identity: { names: ['b'], checkValues: [] } },
      'check value',
    ],
    ['nothing is known', { checkValue: CMAC }, {}, undefined],
    ['one value of two ciphers', { checkValue: ZERO }, { algorithm: 'aes-128', checkValue: ZERO }, undefined],
  ])('tells twins: %s', async (_name, one, two, shared) => {
    const found = new Map(
      [known('ONE', 'pin-encryption', one), known('TWO', 'cmac', two)].map(([{ kid }, key]) => [kid, key]),
    )
    const driver = new SoftwareDriver([], nodeEngine)
    const fake = Object.create(driver, {
      find: { value: ({ kid }: BindSpec) => found.get(kid) },
      capabilities: { value: () => driver.capabilities() },
      close: { value: () => undefined },
    }) as typeof driver
    await using backend = openBackend(fake)
    await backend.bind({ kid: 'ONE', usage: 'pin-encryption' })
    if (shared === undefined) {
      expect((await backend.bind({ kid: 'TWO', usage: 'cmac' })).kid).toBe('TWO')
      return
    }
    const { message } = await failure(() => backend.bind({ kid: 'TWO', usage: 'cmac' }), 'ERR_KEY_USAGE')
    expect(message).toBe(
      `key TWO: it has the ${shared} of ONE, which is bound for pin-encryption; a key has one usage`,
    )
  })

  test('binds a kid again for the usage it has', async () => {
    await using backend = openBackend(new SoftwareDriver(stored(pin(K1 + K2)), nodeEngine))
    await backend.bind({ kid: 'ONE', usage: 'pin-encryption' })
    expect((await backend.bind({ kid: 'ONE', usage: 'pin-encryption', mode: 'E' })).mode).toBe('E')
  })
})

describe('a sealed backend', () => {
  test('binds nothing, also not what was being looked for when it was sealed', async () => {
    await using backend = await softwareBackend({ keys: [pin(K1 + K2)] })
    let release: () => void = () => {}
    const driver = new SoftwareDriver(storeKeys([pin(K1 + K2)]), nodeEngine)
    const slow = Object.create(driver, {
      find: {
        value: async (...args: Parameters<typeof driver.find>) => {
          await new Promise<void>(resolve => {
            release = resolve
          })
          return driver.find(...args)
        },
      },
      capabilities: { value: () => driver.capabilities() },
      close: { value: () => driver.close() },
    }) as typeof driver
    await using late = openBackend(slow)
    const pending = late.bind({ kid: 'ONE', usage: 'pin-encryption' })
    late.seal()
    release()
    await failure(() => pending, 'ERR_BACKEND_SEALED')
    backend.seal()
    const { message } = await failure(
      () => backend.bind({ kid: 'ONE', usage: 'pin-encryption' }),
      'ERR_BACKEND_SEALED',
    )
    expect(message).toBe('the backend is sealed: ONE had to be bound before')
    expect(await backend.randomBytes(8)).toHaveLength(8)
  })
})

describe('the key ring', () => {
  const keys = [pin(K1 + K2)]
  const entry = { kid: 'ONE', usage: 'pin-encryption' } as const

  test('is read once, when the backend is opened, and by own members', async () => {
    for (const ring of [
      {} as never,
      [entry, { ...entry, mode: 'E' as const }],
      [{ ...entry, kid: '' }],
      [{ ...entry, kids: [] } as never],
      Array.from({ length: 10_001 }, (_, i) => ({ ...entry, kid: `${i}` })),
      [Object.create(entry) as typeof entry],
    ]) {
      await failure(() => softwareBackend({ keys, ring }), 'ERR_ARGUMENT')
    }
    const ring: { kid: string; usage: 'pin-encryption'; mode: 'E' | 'B' }[] = [{ ...entry, mode: 'E' }]
    await using backend = await softwareBackend({ keys, ring })
    if (ring[0] !== undefined) ring[0].mode = 'B'
    ring.push({ ...entry, kid: 'TWO', mode: 'B' })
    await failure(() => backend.bind({ kid: 'TWO', usage: 'pin-encryption' }), 'ERR_BACKEND_SEALED')
    const { message } = await failure(() => backend.bind(entry), 'ERR_BACKEND_SEALED')
    expect(message).toBe('the key ring of this backend has ONE in mode E: bind it with that mode, not with B')
    expect((await backend.bind({ ...entry, mode: 'E' })).mode).toBe('E')
    backend.seal()
    await failure(() => backend.bind({ ...entry, mode: 'E' }), 'ERR_BACKEND_SEALED')
  })

  test('says how wide a key may be at most: less is bound', async () => {
    await using closed = await softwareBackend({ keys, ring: [entry] })
    const { message } = await failure(
      () => closed.bind({ ...entry, hostDecipher: true }),
      'ERR_BACKEND_SEALED',
    )
    expect(message).toBe('the key ring of this backend has ONE without hostDecipher')
    await using backend = await softwareBackend({ keys, ring: [{ ...entry, hostDecipher: true }] })
    expect((await backend.bind(entry)).hostDecipher).toBe(false)
    expect((await backend.bind({ ...entry, mode: 'D' })).mode).toBe('D')
    expect((await backend.bind({ ...entry, hostDecipher: true })).hostDecipher).toBe(true)
  })

  test('an empty one has nothing', async () => {
    await using backend = await softwareBackend({ keys, ring: [] })
    const { message } = await failure(() => backend.bind(entry), 'ERR_BACKEND_SEALED')
    expect(message).toBe('the key ring of this backend holds no key by the kid ONE')
  })

  test('all of a check value is compared that either side gives', async () => {
    const whole = { method: 'encrypt-zero', value: 'A13F4AABA2EFF1D9' } as const
    const wrong = { ...whole, value: 'A13F4AABA2EFF1D8' }
    for (const [ruled, asked] of [
      ['A13F4A', wrong],
      [wrong, 'A13F4A'],
      [wrong, undefined],
      [undefined, wrong],
    ] as const) {
      const more = ruled === undefined ? {} : { kcv: ruled }
      await using backend = await softwareBackend({ keys, ring: [{ ...entry, ...more }] })
      const spec = asked === undefined ? entry : { ...entry, kcv: asked }
      await failure(() => backend.bind(spec), 'ERR_KEY_CHECK_VALUE')
    }
    await using backend = await softwareBackend({ keys, ring: [{ ...entry, kcv: whole }] })
    expect((await backend.bind({ ...entry, kcv: 'A13F4A' })).checkValue).toEqual(whole)
  })
})

describe('onOperation', () => {
  test('a hook that closes the backend: nothing is computed with keys that are wiped', async () => {
    const key = { kid: 'H', usage: 'hmac', algorithm: 'hmac-sha256', material: K1.repeat(4) } as const
    let closed: Promise<void> | undefined
    const backend = await softwareBackend({
      keys: [key],
      onOperation: () => {
        closed = backend.close()
      },
    })
    const bound = await backend.bind({ kid: 'H', usage: 'hmac' })
    const request = { algorithm: 'hmac-sha256', padding: 'none' } as const
    await failure(() => operationsOf(bound).mac(request, new Uint8Array(8)), 'ERR_BACKEND_CLOSED')
    await closed
  })

  const entry = { kid: 'ONE', usage: 'pin-encryption' } as const
  const block = new Uint8Array(8)

  test('refuses what it throws, with a code; and an answer that would come later', async () => {
    const limit = new KeyError('ERR_KEY_LIMIT', 'enough', 'ONE')
    const hooks: readonly (readonly [() => unknown, ErrorCode, string])[] = [
      [
        () => {
          throw limit
        },
        'ERR_KEY_LIMIT',
        'enough',
      ],
      [
        () => {
          throw new Error('what it says is its own')
        },
        'ERR_BACKEND_FAILED',
        'onOperation failed',
      ],
      [() => false, 'ERR_BACKEND_FAILED', 'onOperation must answer at once, and return nothing'],
      [
        () => Promise.reject(new Error('later')),
        'ERR_BACKEND_FAILED',
        'onOperation must answer at once, and return nothing',
      ],
    ]
    for (const [hook, code, message] of hooks) {
      const onOperation = hook as () => undefined
      await using backend = await softwareBackend({ keys: [pin(K1 + K2)], onOperation })
      const key = await backend.bind(entry)
      const error = await failure(() => operationsOf(key).encipher(block), code)
      expect(error.message).toBe(message)
    }
    await failure(() => softwareBackend({ keys: [], onOperation: 1 as never }), 'ERR_ARGUMENT')
  })

  const derive = {
    ephemeralPublicKey: publicPoint('E', new Uint8Array(32).fill(3)),
    otherInfo: block,
    length: 16,
  }
  const asking: Readonly<Record<string, (key: (kid: string) => Promise<KeyOperations>) => Promise<unknown>>> =
    {
      encipher: async key => (await key('K')).encipher(block),
      decipher: async key => (await key('K')).decipher(block),
      mac: async key => (await key('PRW')).mac({ algorithm: 'cmac', padding: 'none' }, block),
      deriveContentKey: async key => (await key('J')).deriveContentKey(derive),
      sign: async key => (await key('S')).sign(block),
    }
  test.each(Object.entries(asking))(
    'may close the backend: nothing is computed then (%s)',
    async (_, ask) => {
      let asked = 0
      const backend = await softwareBackend({
        keys: [
          { ...pin(K1 + K2), kid: 'K' },
          { kid: 'PRW', usage: 'prw-generate', algorithm: 'aes-128', material: K3 + K2 },
          { kid: 'J', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: '11'.repeat(32) },
          { kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256', material: '22'.repeat(32) },
        ],
        onOperation: () => {
          asked++
          void backend.close()
        },
      })
      const usages = {
        K: 'pin-encryption',
        PRW: 'prw-generate',
        J: 'jwe-key-agreement',
        S: 'jwt-signing',
      } as const
      const key = async (kid: string) => {
        const usage = usages[kid as keyof typeof usages]
        return operationsOf(await backend.bind({ kid, usage, ...(kid === 'K' && { hostDecipher: true }) }))
      }
      await failure(() => ask(key), 'ERR_BACKEND_CLOSED')
      expect(asked).toBe(1)
    },
  )

  test('is not asked for what is refused anyway, and hears no bytes', async () => {
    const uses: unknown[] = []
    await using backend = await softwareBackend({
      keys: [
        pin(K1 + K2),
        { kid: 'PRW', usage: 'prw-generate', algorithm: 'aes-128', material: K3 + K2 },
        { kid: 'J', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: '11'.repeat(32) },
        { kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256', material: '22'.repeat(32) },
      ],
      onOperation: use => {
        uses.push(use)
        expect(Object.isFrozen(use)).toBe(true)
      },
    })
    const [one, prw, agreement, signs] = await Promise.all([
      backend.bind(entry),
      backend.bind({ kid: 'PRW', usage: 'prw-generate' }),
      backend.bind({ kid: 'J', usage: 'jwe-key-agreement' }),
      backend.bind({ kid: 'S', usage: 'jwt-signing' }),
    ])
    await failure(() => operationsOf(one).encipher(new Uint8Array(7)), 'ERR_LENGTH')
    await failure(() => operationsOf(one).decipher(block), 'ERR_HOST_DECIPHER')
    await failure(() => operationsOf(one).encipher(block, { signal: AbortSignal.abort() }), 'ERR_ABORTED')
    expect(uses).toEqual([])
    await operationsOf(prw).mac({ algorithm: 'encipher-ecb', padding: 2 }, new Uint8Array(32))
    const ephemeralPublicKey = publicPoint('E', new Uint8Array(32).fill(3))
    await operationsOf(agreement).deriveContentKey({ ephemeralPublicKey, otherInfo: block, length: 16 })
    await operationsOf(signs).sign(block)
    expect(uses).toEqual([
      { kid: 'PRW', usage: 'prw-generate', mode: 'G', operation: 'mac', blocks: 3 },
      { kid: 'J', usage: 'jwe-key-agreement', mode: 'X', operation: 'deriveContentKey', blocks: 1 },
      { kid: 'S', usage: 'jwt-signing', mode: 'S', operation: 'sign', blocks: 1 },
    ])
  })
})

describe('operationLimit', () => {
  const use = (blocks: number, kid = 'ONE') =>
    ({ kid, usage: 'pin-encryption', mode: 'B', operation: 'encipher', blocks }) as const

  test('never more than the rate in any stretch of that time, by a clock that jumps ahead or stands', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 200 }),
        fc.array(fc.tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 1, max: 12 })), {
          maxLength: 80,
        }),
        fc.integer({ min: -1000, max: 1000 }),
        (operations, perMs, steps, start) => {
          let time = start
          const limit = operationLimit({ perKey: { operations, perMs }, now: () => time })
          const done: [at: number, blocks: number][] = []
          for (const [wait, blocks] of steps) {
            time += wait
            try {
              limit(use(blocks))
              done.push([time, blocks])
            } catch (error) {
              expect(error).toMatchObject({
                code: 'ERR_KEY_LIMIT',
                retryable: blocks <= operations,
                kid: 'ONE',
              })
            }
            const recent = done.filter(([at]) => at > time - perMs).reduce((sum, [, count]) => sum + count, 0)
            expect(recent).toBeLessThanOrEqual(operations)
          }
        },
      ),
    )
  })

  test('lets go on when the time is over, and not before; each key has its own count', () => {
    let time = 0
    const limit = operationLimit({
      perKey: { operations: 2, perMs: 80 },
      keys: { MORE: { operations: 3, perMs: 80 } },
      now: () => time,
    })
    const refused = (blocks: number, kid?: string) => {
      try {
        limit(use(blocks, kid))
        return undefined
      } catch (error) {
        return (error as Error).message
      }
    }
    expect(refused(2)).toBeUndefined()
    expect(refused(1)).toBe('key ONE: 2 operations in 80 ms are allowed under it, and no more')
    expect([refused(3, 'MORE'), refused(2, 'OTHER')]).toEqual([undefined, undefined])
    time = 79
    expect(refused(1)).toBeDefined()
    time = -100
    expect(refused(1)).toBeDefined()
    time = 90
    expect([refused(2), refused(1) === undefined]).toEqual([undefined, false])
    time = Number.NaN
    expect(refused(1)).toBe('the clock of operationLimit failed')
  })

  test('forgets what was done before a rest, however long that was', () => {
    for (let rest = 90; rest < 300; rest += 10) {
      let time = 0
      const limit = operationLimit({ perKey: { operations: 2, perMs: 80 }, now: () => time })
      limit(use(2))
      time = rest
      expect(() => limit(use(2)), `${rest} ms`).not.toThrow()
    }
  })

  test('runs on the platform’s clock where it is given none', () => {
    const limit = operationLimit({ perKey: { operations: 1, perMs: 86_400_000 } })
    limit(use(1))
    expect(() => limit(use(1))).toThrow(expect.objectContaining({ code: 'ERR_KEY_LIMIT' }))
  })

  test.each([
    [undefined],
    [{}],
    [{ perKey: {} }],
    [{ perKey: { operations: 0, perMs: 1 } }],
    [{ perKey: { operations: 1.5, perMs: 1 } }],
    [{ perKey: { operations: 1, perMs: 86_400_001 } }],
    [{ perKey: { operations: '1', perMs: 1 } }],
    [{ perKey: { operations: 1, perMs: 1 }, now: 1 }],
    [{ perKey: { operations: 1, perMs: 1 }, keys: { K: {} } }],
    [{ perKey: { operations: 1, perMs: 1 }, keys: 'K' }],
    [{ perKey: { operations: 1, perMs: 1, per: 1 } }],
    [{ perKey: { operations: 1, perMs: 1 }, limit: 1 }],
  ])('refuses %j', options => {
    expect(() => operationLimit(options as never)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })
})
