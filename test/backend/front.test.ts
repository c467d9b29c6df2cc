import { describe, expect, test } from 'vitest'
import { type KeyOperations, operationsOf } from '../../src/backend/key.js'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import {
  type Backend,
  type BackendDriver,
  encipherPin,
  type KeyUsage,
  openBackend,
  Pan,
  Pin,
  TRANSLATIONS,
  USAGES,
  verifyPinBlock,
} from '../../src/index.js'
import { operationsFor } from '../../src/key/usage.js'
import { softwareBackend } from '../../src/software.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { slowDriver } from '../support/slow-driver.js'

describe('operations in flight', () => {
  test('close waits for the last of them, and the driver is closed once', async () => {
    const { driver, waiting, calls } = slowDriver()
    const backend = openBackend(driver)
    const first = backend.randomBytes(8)
    const second = backend.randomBytes(8)
    const closed = backend.close()
    waiting[0]?.(new Uint8Array(8))
    await first
    expect(calls).not.toContain('close')
    waiting[1]?.(new Error('the driver failed'))
    expect((await failure(() => second, 'ERR_BACKEND_FAILED')).message).not.toContain('the driver failed')
    await closed
    await backend.close()
    await backend[Symbol.asyncDispose]()
    expect(calls.filter(name => name === 'close')).toHaveLength(1)
    await failure(() => backend.randomBytes(8), 'ERR_BACKEND_CLOSED')
  })

  test('a result that comes after the abort is wiped and not returned', async () => {
    const { driver, waiting } = slowDriver()
    const backend = openBackend(driver)
    const controller = new AbortController()
    const call = backend.randomBytes(8, { signal: controller.signal })
    controller.abort('too slow')
    const secret = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
    waiting[0]?.(secret)
    await failure(() => call, 'ERR_ABORTED')
    expect([...secret]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
  })

  test('a key whose reference is undefined is still a key; one reference can be re-enciphered inside', async () => {
    const { driver, waiting } = slowDriver()
    const backend = openBackend(driver)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    const call = operationsOf(key).reencipher(key, new Uint8Array(8))
    waiting[0]?.(new Uint8Array(8))
    expect(await call).toHaveLength(8)
  })

  test('where blocks are re-enciphered inside a token, its driver is not asked to do it in host memory', async () => {
    const { driver, waiting } = slowDriver()
    let inHost = 0
    driver.reencipherInto = () => {
      inHost++
    }
    const backend = openBackend(driver)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    const call = operationsOf(key).reencipher(key, new Uint8Array(8), undefined, { inside: true })
    await Promise.resolve()
    waiting[0]?.(new Uint8Array(8).fill(1))
    expect([await call, inHost]).toEqual([new Uint8Array(8).fill(1), 0])
  })

  test('a driver that re-enciphers later what it has to at once: memory without an answer is no answer', async () => {
    const { driver } = slowDriver()
    driver.reencipherInto = async (_from, _to, _blocks, out) => {
      await Promise.resolve()
      out.fill(1)
    }
    const capabilities = { ...driver.capabilities(), reencipher: 'host' } as const
    const backend = openBackend({ ...driver, capabilities: () => capabilities })
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })
    await failure(() => operationsOf(key).reencipher(key, new Uint8Array(8)), 'ERR_BACKEND_FAILED')
  })

  test('a driver that fails to close: its error is not passed on', async () => {
    const { driver } = slowDriver()
    driver.close = () => Promise.reject(new Error('the driver failed'))
    const backend = openBackend(driver)
    expect((await failure(() => backend.close(), 'ERR_BACKEND_FAILED')).message).not.toContain('the driver')
  })

  test('a driver that throws at once leaves nothing in flight', async () => {
    const { driver, calls } = slowDriver()
    driver.randomBytes = () => {
      throw new Error('broken')
    }
    const backend = openBackend(driver)
    await failure(() => backend.randomBytes(8), 'ERR_BACKEND_FAILED')
    await backend.close()
    expect(calls).toEqual(['close'])
  })
})

describe('a driver that enciphers at once, into memory of the front', () => {
  const open = (encipherInto: BackendDriver<undefined>['encipherInto']) =>
    openBackend({ ...slowDriver().driver, ...(encipherInto && { encipherInto }) })
  const bound = async (backend: Backend, usage: KeyUsage = 'pin-encryption') =>
    operationsOf(await backend.bind({ kid: 'K', usage }))

  test.each(['pin-encryption', 'visa-pvv'] as const)(
    '%s: it gets a copy of the blocks and fills the result',
    async usage => {
      const given: Uint8Array[] = []
      const key = await bound(
        open((_ref, blocks, out) => {
          given.push(blocks)
          out.set(blocks.map(byte => byte ^ 0xff))
        }),
        usage,
      )
      const blocks = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
      const result = await key.encipher(blocks)
      expect([...result]).toEqual([254, 253, 252, 251, 250, 249, 248, 247])
      expect(result.buffer.byteLength).toBe(8)
      expect(given[0]).not.toBe(blocks)
      expect([...(given[0] ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
    },
  )

  test('what it throws is not passed on, and what it wrote is wiped', async () => {
    const results: Uint8Array[] = []
    const key = await bound(
      open((_ref, _blocks, out) => {
        results.push(out.fill(7))
        throw new Error('with a secret in it')
      }),
    )
    await failure(() => key.encipher(new Uint8Array(8)), 'ERR_BACKEND_FAILED')
    expect([...(results[0] ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0])
  })

  test('where it cannot this time its promise is followed, counted, and judged as any answer', async () => {
    let answer = (_bytes: Uint8Array): void => undefined
    const given: Uint8Array[] = []
    const backend = open((_ref, blocks) => {
      given.push(Uint8Array.from(blocks))
      return new Promise(resolve => {
        answer = resolve
      })
    })
    const key = await bound(backend)
    const blocks = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
    const wrong = key.encipher(blocks)
    answer(new Uint8Array(7))
    await failure(() => wrong, 'ERR_BACKEND_FAILED')
    const right = key.encipher(blocks)
    let closed = false
    const closing = backend.close().then(() => {
      closed = true
    })
    await new Promise(resolve => setImmediate(resolve))
    expect(closed).toBe(false)
    answer(new Uint8Array(64).fill(9).subarray(8, 16))
    expect([...(await right)]).toEqual([9, 9, 9, 9, 9, 9, 9, 9])
    expect((await right).buffer.byteLength).toBe(8)
    await closing
    expect(given).toEqual([blocks, blocks])
  })

  test('one inside the other: each has blocks of its own', async () => {
    const seen: number[][] = []
    const inner: Promise<Uint8Array>[] = []
    const key = await bound(
      open((_ref, blocks, out) => {
        if (seen.length === 0) {
          seen.push([])
          inner.push(key.encipher(new Uint8Array(8).fill(2)))
        }
        seen.push([...blocks])
        out.set(blocks)
      }),
    )
    expect([...(await key.encipher(new Uint8Array(8).fill(1)))]).toEqual(new Array(8).fill(1))
    expect([...((await inner[0]) ?? [])]).toEqual(new Array(8).fill(2))
    expect(seen).toEqual([[], new Array(8).fill(2), new Array(8).fill(1)])
    await failure(() => key.encipher(new Uint8Array(7)), 'ERR_LENGTH')
  })

  test('it is not asked after an abort, after closing, or where the opener refuses', async () => {
    let calls = 0
    const encipherInto = () => {
      calls++
    }
    const aborting = new AbortController()
    const driver = { ...slowDriver().driver, encipherInto }
    const hooked = await bound(openBackend(driver, { onOperation: () => aborting.abort() }))
    const { signal } = aborting
    await failure(() => hooked.encipher(new Uint8Array(8), { signal }), 'ERR_ABORTED')
    await failure(() => hooked.encipher(new Uint8Array(8), { signal }), 'ERR_ABORTED')
    const backend = openBackend(driver)
    const key = await bound(backend)
    await backend.close()
    await failure(() => key.encipher(new Uint8Array(8)), 'ERR_BACKEND_CLOSED')
    expect(calls).toBe(0)
  })
})

test('a kid that was bound for one usage is refused for another', async () => {
  const backend = openBackend(slowDriver().driver)
  await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  await failure(() => backend.bind({ kid: 'K', usage: 'cmac' }), 'ERR_KEY_USAGE')
})

test('what a kid was before it was bound anew is no key any more, and forbids nothing', async () => {
  const { driver } = slowDriver()
  let value = 'AAAAAA'
  const found = driver.find({} as never, undefined)
  driver.find = () => ({ ...found, checkValue: { method: 'encrypt-zero', value } }) as never
  const backend = openBackend(driver)
  await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  await failure(() => backend.bind({ kid: 'OTHER', usage: 'retail-mac' }), 'ERR_KEY_USAGE')
  value = 'BBBBBB'
  await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  await failure(() => backend.bind({ kid: 'OTHER', usage: 'retail-mac' }), 'ERR_KEY_USAGE')
  value = 'AAAAAA'
  await backend.bind({ kid: 'OTHER', usage: 'retail-mac' })
})

test.each(['an abort', 'closing'])(
  'after %s no copy of an input stays: not the blocks, not what is between them',
  async how => {
    const { driver } = slowDriver()
    const backend = openBackend(driver)
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })
    const signal = how === 'an abort' ? AbortSignal.abort() : new AbortController().signal
    if (how === 'closing') await backend.close()
    const [blocks, fields] = [new Uint8Array(8).fill(0xb1), new Uint8Array(8).fill(0xf1)]
    const code = how === 'an abort' ? 'ERR_ABORTED' : 'ERR_BACKEND_CLOSED'
    const { buffers } = await buffersMadeBy(() =>
      failure(() => operationsOf(key).decipherBound(blocks, fields, { signal }), code),
    )
    expect(buffers.length).toBeGreaterThanOrEqual(2)
    for (const buffer of buffers) expect(new Uint8Array(buffer).every(byte => byte === 0)).toBe(true)
  },
)

test('a field between two passes, with a driver that has no way of its own for it', async () => {
  const { driver, waiting, calls } = slowDriver()
  const backend = openBackend(driver)
  const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })
  const answer = operationsOf(key).decipherBound(new Uint8Array(8), new Uint8Array(8).fill(1))
  while (waiting.length < 1) await new Promise(setImmediate)
  waiting[0]?.(new Uint8Array(8).fill(2))
  while (waiting.length < 2) await new Promise(setImmediate)
  waiting[1]?.(new Uint8Array(8).fill(3))
  expect(await answer).toEqual(new Uint8Array(8).fill(3))
  expect(calls).toEqual(['decipher', 'decipher'])
})

class StepByStep extends SoftwareDriver {
  override verifyPin = undefined as never
}
class Bare extends StepByStep {
  override encipherBound = undefined as never
  override decipherBound = undefined as never
}

test.each([
  ['that', StepByStep],
  ['that or for fields', Bare],
])(
  'a PIN is verified step by step, with a driver that has no way of its own for %s',
  async (_what, Driver) => {
    const material = 'C1A5D20E7F936B4488D1F03C5E2A9B76'
    const keys = [{ kid: 'K', usage: 'pin-encryption', algorithm: 'aes-128', material }] as const
    await using backend = openBackend(new Driver(storeKeys(keys), nodeEngine))
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })
    const pan = Pan.from('4761739001010010')
    const blockOf = (pin: string): Promise<Uint8Array> =>
      encipherPin({ pin: Pin.from(pin), pan, format: 4, key })
    const against = { kind: 'block', block: await blockOf('2846'), format: 4, key } as const
    const verdicts: boolean[] = []
    for (const pin of ['2846', '2847']) {
      const given = { block: await blockOf(pin), pan, format: 4, from: key, against } as const
      verdicts.push((await verifyPinBlock({ ...given, tries: 'counted-elsewhere' })).verified)
    }
    expect(verdicts).toEqual([true, false])
  },
)

test('a variant of a key, with a driver that makes none: said, and nothing is asked', async () => {
  const { driver, calls } = slowDriver()
  const key = await openBackend(driver).bind({ kid: 'K', usage: 'key-block-protection', hostDecipher: true })
  const ask = (): Promise<unknown> => operationsOf(key).decipherVariant(new Uint8Array(16), new Uint8Array(8))
  const error = await failure(ask, 'ERR_UNSUPPORTED_BY_TOKEN')
  expect(error.message).toContain('key block versions A and C')
  expect(calls).toEqual([])
})

test('a KBPK opens no variant where its blocks stay closed, and makes no CBC-MAC but under a variant', async () => {
  const { driver, calls } = slowDriver()
  const backend = openBackend({ ...driver, decipherVariant: () => expect.unreachable() })
  const closed = operationsOf(await backend.bind({ kid: 'K', usage: 'key-block-protection' }))
  const variant = (): Promise<unknown> => closed.decipherVariant(new Uint8Array(16), new Uint8Array(8))
  await failure(variant, 'ERR_HOST_DECIPHER')
  const mac = (): Promise<unknown> =>
    closed.mac({ algorithm: 'iso9797-1-alg1', padding: 1 }, new Uint8Array(8))
  await failure(mac, 'ERR_KEY_USAGE')
  expect(calls).toEqual([])
})

test('a key that is bound is not compared with every other', async () => {
  const count = 300
  let reads = 0
  const { driver } = slowDriver()
  const backend = openBackend({
    ...driver,
    find: ({ kid }) => ({
      ref: undefined,
      algorithm: 'tdea-2key',
      checkValue: { method: 'encrypt-zero', value: kid },
      parity: 'unknown',
      identity: {
        get names() {
          reads++
          return [kid]
        },
        checkValues: [],
      },
    }),
  })
  const kids = Array.from({ length: count }, (_, i) => (i * 37).toString(16).padStart(4, '0').padEnd(6, '0'))
  for (const [i, kid] of kids.entries())
    await backend.bind({ kid, usage: i % 2 === 0 ? 'pin-encryption' : 'retail-mac' })
  expect(reads).toBeLessThan(4 * count)
  // And yet it is found, by its name, when it comes under another kid.
  const [first = ''] = kids
  await backend.bind({ kid: first, usage: 'pin-encryption' })
})

test('options may be absent, null or empty', async () => {
  const backend = openBackend(slowDriver().driver)
  for (const options of [undefined, null, {}]) expect((await backend.health(options as never)).ok).toBe(true)
})

describe('what a driver answers is checked', () => {
  const answer = async (result: unknown) => {
    const { driver } = slowDriver()
    driver.randomBytes = () => result as Uint8Array
    return openBackend(driver).randomBytes(8)
  }

  test.each([
    ['too few bytes', new Uint8Array(3)],
    ['too many bytes', new Uint8Array(9)],
    ['text', '12345678'],
    ['nothing', undefined],
    ['a promise of too few bytes', Promise.resolve(new Uint8Array(3))],
  ])('%s is ERR_BACKEND_FAILED', async (_name, result) => {
    await failure(() => answer(result), 'ERR_BACKEND_FAILED')
  })

  test('bytes of a wrong number are wiped, for they may be secret', async () => {
    const wrong = Uint8Array.of(1, 2, 3)
    await failure(() => answer(wrong), 'ERR_BACKEND_FAILED')
    expect([...wrong]).toEqual([0, 0, 0])
  })

  test.each([8, 512])(
    'a slice of %d bytes comes back in memory of its own, and the slice is wiped',
    async length => {
      const pool = new Uint8Array(1024).fill(7)
      const { driver } = slowDriver()
      driver.randomBytes = () => Buffer.from(pool.buffer, 16, length)
      const bytes = await openBackend(driver).randomBytes(length)
      expect(bytes.buffer.byteLength).toBe(length)
      expect(bytes.constructor).toBe(Uint8Array)
      expect([...bytes]).toEqual(Array.from({ length }, () => 7))
      expect(pool[16]).toBe(0)
    },
  )

  test('large bytes in memory of their own are handed on as they are', async () => {
    const own = new Uint8Array(512)
    const { driver } = slowDriver()
    driver.randomBytes = () => own
    expect(await openBackend(driver).randomBytes(512)).toBe(own)
  })

  test('a thenable of another library counts as in flight', async () => {
    let resolve: (value: Uint8Array) => void = () => {}
    const { driver, calls } = slowDriver()
    // biome-ignore lint/suspicious/noThenProperty: a promise of another library is what is tested
    driver.randomBytes = () => ({ then: (take: typeof resolve) => (resolve = take) }) as never
    const backend = openBackend(driver)
    const call = backend.randomBytes(8)
    const closed = backend.close()
    await Promise.resolve()
    expect(calls).not.toContain('close')
    resolve(new Uint8Array(8))
    expect(await call).toHaveLength(8)
    await closed
  })
})

describe('what could change between check and use', () => {
  test('getters are read once', async () => {
    const { driver, waiting } = slowDriver()
    let seen: unknown
    driver.find = () => ({
      ref: undefined,
      algorithm: 'tdea-2key',
      checkValue: { method: 'encrypt-zero', value: '000000' },
      parity: 'unknown',
    })
    driver.mac = (_ref, request) => {
      seen = request.algorithm
      return new Uint8Array(8)
    }
    const backend = openBackend(driver)
    const key = await backend.bind({ kid: 'K', usage: 'cmac' })
    const algorithms = ['cmac', 'iso9797-1-alg1', 'iso9797-1-alg1']
    const request = {
      get algorithm() {
        return algorithms.shift()
      },
      padding: 'none',
    }
    await operationsOf(key).mac(request as never, new Uint8Array(8))
    expect(seen).toBe('cmac')
    expect(waiting).toHaveLength(0)
  })

  test('capabilities and usage tables cannot be changed by whoever reads them', async () => {
    const { driver } = slowDriver()
    const backend = openBackend({
      ...driver,
      capabilities: () => ({ ...driver.capabilities(), reencipher: 'host' }),
    })
    const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    expect(() => Object.assign(backend.capabilities(), { reencipher: 'inside' })).toThrow(TypeError)
    expect(() => (USAGES['pin-encryption'].modes as unknown as string[]).push('C')).toThrow(TypeError)
    expect(() => (TRANSLATIONS[0] as number[]).push(1)).toThrow(TypeError)
    await failure(() => operationsOf(key).reencipher(key, new Uint8Array(8)), 'ERR_HOST_DECIPHER')
  })

  test('what somebody put on Object.prototype is no option', async () => {
    const { driver } = slowDriver()
    Object.defineProperty(Object.prototype, 'hostDecipher', {
      value: true,
      configurable: true,
      enumerable: true,
      writable: true,
    })
    try {
      const key = await openBackend(driver).bind({ kid: 'K', usage: 'pin-encryption' })
      expect(key.hostDecipher).toBe(false)
    } finally {
      Reflect.deleteProperty(Object.prototype, 'hostDecipher')
    }
  })

  test('what a driver finds does not decide kid, usage or hostDecipher', async () => {
    const { driver } = slowDriver()
    const find = driver.find
    driver.find = (...args) =>
      ({ ...(find(...args) as object), usage: 'cmac', hostDecipher: true, kid: 'X' }) as never
    const key = await openBackend(driver).bind({ kid: 'K', usage: 'pin-encryption' })
    expect(key).toMatchObject({ kid: 'K', usage: 'pin-encryption', hostDecipher: false })
  })

  test.each([
    ['two usages', { usage: 'pin-encryption' }, { usage: 'cmac' }],
    [
      'two PIN values',
      { usage: 'visa-pvv', pinValue: { pvki: 1 } },
      { usage: 'visa-pvv', pinValue: { pvki: 2 } },
    ],
  ] as const)('two binds of one kid for %s at once: one of them is refused', async (_what, one, two) => {
    const { driver } = slowDriver()
    const find = driver.find
    driver.find = async (...args) => find(...args)
    const backend = openBackend(driver)
    const [first, second] = [one, two].map(spec => backend.bind({ kid: 'K', ...spec }))
    await failure(() => second, 'ERR_KEY_USAGE')
    expect(await first).toMatchObject(one)
  })

  test('inside a token too, no block moves from a closed key to an open one', async () => {
    const { driver } = slowDriver()
    const backend = openBackend(driver)
    const closed = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
    const open = await backend.bind({ kid: 'L', usage: 'pin-encryption', hostDecipher: true })
    await failure(() => operationsOf(closed).reencipher(open, new Uint8Array(8)), 'ERR_HOST_DECIPHER')
  })
})

test('openBackend refuses what is no driver', async () => {
  await failure(() => openBackend(undefined as never), 'ERR_ARGUMENT')
  await failure(() => openBackend({} as never), 'ERR_ARGUMENT')
})

test('a key is refused each operation that its usage and mode do not have, and no other', async () => {
  const names = [
    ...(['encipher', 'decipher', 'decipherVariant', 'reencipher', 'verifyPin'] as const),
    ...(['mac', 'deriveContentKey', 'sign'] as const),
  ]
  const keys = CONTRACT_KEYS.map(({ kid, usage, algorithm, material }) => ({
    kid,
    usage,
    algorithm,
    material,
  }))
  for (const { kid, usage } of keys) {
    for (const mode of USAGES[usage].modes) {
      await using backend = await softwareBackend({ keys })
      const operations = operationsOf(await backend.bind({ kid, usage, mode }))
      const isRefused = async (name: keyof KeyOperations): Promise<boolean> => {
        const call = async (): Promise<unknown> => Reflect.apply(operations[name], operations, [])
        return call().then(
          () => false,
          ({ code }) => code === 'ERR_KEY_USAGE',
        )
      }
      const got = await Promise.all(names.map(async name => (await isRefused(name)) && name))
      const due = names.map(name => !operationsFor(usage, mode).has(name) && name)
      expect([kid, mode, got]).toEqual([kid, mode, due])
    }
  }
})
