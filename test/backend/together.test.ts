/** PIN blocks in flight together are what each is alone, and none of them waits where it need not. */
import { createCipheriv, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { type Backend, type BackendDriver, type KeyUse, openBackend } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { slowDriver } from '../support/slow-driver.js'
import { someOf } from '../support/some-of.js'

const material = randomBytes(16)
const openssl = createCipheriv('des-ede-ecb', material, null).setAutoPadding(false)

async function open(engine: 'bitslice' | 'node:crypto'): Promise<{ backend: Backend; key: Operations }> {
  const usage = 'pin-encryption'
  const backend = await softwareBackend({
    keys: [{ kid: 'K', usage, algorithm: 'tdea-2key', material }],
    engine,
  })
  return { backend, key: operationsOf(await backend.bind({ kid: 'K', usage })) }
}
type Operations = ReturnType<typeof operationsOf>

describe.each(['bitslice', 'node:crypto'] as const)('PIN blocks in flight, %s', engine => {
  test.each([1, 2, 3, 17, 65, 130, 9000])(
    '%i are those of OpenSSL, each in memory of its own',
    async count => {
      const { backend, key } = await open(engine)
      const blocks = Array.from({ length: count }, () => new Uint8Array(randomBytes(8)))
      const results = await Promise.all(blocks.map(block => key.encipher(block)))
      for (const [i, result] of results.entries()) {
        expect(Buffer.from(result).equals(openssl.update(blocks[i] ?? new Uint8Array()))).toBe(true)
        expect(result.buffer.byteLength).toBe(8)
      }
      await backend.close()
    },
  )

  test('a block may be overwritten as soon as it was handed over', async () => {
    const { backend, key } = await open(engine)
    const block = new Uint8Array(randomBytes(8))
    const due = openssl.update(block)
    const pending = [key.encipher(block), key.encipher(block), key.encipher(block)]
    block.fill(0)
    for (const result of await Promise.all(pending)) expect(Buffer.from(result).equals(due)).toBe(true)
    await backend.close()
  })

  test('what is in flight when closing begins is answered; what comes after is not', async () => {
    const { backend, key } = await open(engine)
    const block = new Uint8Array(randomBytes(8))
    const pending = Promise.all(Array.from({ length: 40 }, () => key.encipher(block)))
    const closed = backend.close()
    // In the same turn, in which the others have not begun, and in one after it.
    const late = key.encipher(block)
    await failure(() => late, 'ERR_BACKEND_CLOSED')
    await failure(() => key.encipher(block), 'ERR_BACKEND_CLOSED')
    const due = openssl.update(block)
    for (const result of await pending) expect(Buffer.from(result).equals(due)).toBe(true)
    await closed
  })
})

describe('between the front and a driver that enciphers at once', () => {
  const given: Uint8Array[] = []
  const lengths: number[] = []
  const inverted: BackendDriver<undefined>['encipherInto'] = (_ref, blocks, out) => {
    given.push(blocks)
    lengths.push(blocks.length)
    out.set(blocks.map(byte => byte ^ 0xff))
  }
  const bound = async (
    encipherInto: NonNullable<BackendDriver<undefined>['encipherInto']>,
    onOperation?: (use: KeyUse) => void,
  ): Promise<Operations> => {
    given.length = 0
    lengths.length = 0
    const driver = { ...slowDriver().driver, blocksAtOnce: true, encipherInto }
    const backend = openBackend(driver, onOperation === undefined ? {} : { onOperation })
    return operationsOf(await backend.bind({ kid: 'K', usage: 'pin-encryption' }))
  }
  const block = (): Uint8Array => Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)

  test('the first of a turn at once, the others in one call when it ends, and what waited is wiped', async () => {
    const key = await bound(inverted)
    const pending = Array.from({ length: 5 }, () => key.encipher(block()))
    expect(lengths).toEqual([8])
    expect((await Promise.all(pending)).map(([first]) => first)).toEqual([254, 254, 254, 254, 254])
    expect(lengths).toEqual([8, 32])
    // The first is the caller's own; the others were ours.
    expect(given[1]?.some(byte => byte !== 0)).toBe(false)
    for (let i = 0; i < 3; i++) await key.encipher(block())
    expect(lengths).toEqual([8, 32, 8, 8, 8])
  })

  test('of more blocks than there is room for at first nothing stays in the memory that was too small', async () => {
    const key = await bound(inverted)
    const { buffers } = await buffersMadeBy(() =>
      Promise.all(Array.from({ length: 300 }, () => key.encipher(block()))),
    )
    const large = someOf(buffers.filter(({ byteLength }) => byteLength >= 512))
    expect(large.length).toBeGreaterThan(1)
    for (const buffer of large) expect(Buffer.from(buffer).includes(Buffer.from(block()))).toBe(false)
  })

  test('they are counted in and out: closing waits afterwards for what is in flight, and for nothing else', async () => {
    const { driver, waiting, calls } = slowDriver()
    const backend = openBackend({ ...driver, blocksAtOnce: true, encipherInto: inverted })
    const key = operationsOf(await backend.bind({ kid: 'K', usage: 'pin-encryption' }))
    await Promise.all([1, 2, 3].map(() => key.encipher(block())))
    const slow = backend.randomBytes(8)
    const closed = backend.close()
    for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve))
    expect(calls).toEqual(['randomBytes'])
    waiting[0]?.(new Uint8Array(8))
    await slow
    await closed
    expect(calls).toEqual(['randomBytes', 'close'])
  })

  test('a call that can be given up, or that the opener is asked about, does not wait for others', async () => {
    const { signal } = new AbortController()
    const key = await bound(inverted)
    const uses: KeyUse[] = []
    await Promise.all([1, 2, 3].map(() => key.encipher(block(), { signal })))
    expect(lengths).toEqual([8, 8, 8])
    const asked = await bound(inverted, use => {
      uses.push(use)
    })
    await Promise.all([1, 2, 3].map(() => asked.encipher(block())))
    expect(lengths).toEqual([8, 8, 8])
    expect(uses.map(({ blocks }) => blocks)).toEqual([1, 1, 1])
  })

  test('where the driver fails, each call fails by a coded error, and nothing is left', async () => {
    const results: Uint8Array[] = []
    const key = await bound((_ref, blocks, out) => {
      given.push(blocks)
      results.push(out.fill(7))
      throw new Error('with a secret in it')
    })
    const pending = [1, 2, 3].map(() => failure(() => key.encipher(block()), 'ERR_BACKEND_FAILED'))
    await Promise.all(pending)
    for (const bytes of [...given.slice(1), ...results]) expect(bytes.some(byte => byte !== 0)).toBe(false)
    expect(results.map(({ length }) => length)).toEqual([8, 16])
  })

  test('a driver that answers later is waited for, and what is not as long as it should be goes to nobody', async () => {
    let shorter = 0
    const key = await bound((_ref, blocks) => {
      given.push(blocks)
      const answer = Uint8Array.from(blocks.subarray(shorter), byte => byte ^ 0xff)
      return new Promise(resolve => setImmediate(() => resolve(answer)))
    })
    const calls = () => [1, 2, 3].map(() => key.encipher(block()))
    expect((await Promise.all(calls())).map(([first]) => first)).toEqual([254, 254, 254])
    expect(given[1]?.some(byte => byte !== 0)).toBe(false)
    shorter = 1
    await Promise.all(calls().map(call => failure(() => call, 'ERR_BACKEND_FAILED')))
  })

  test.each([
    [
      'throws',
      () => {
        throw new Error('no')
      },
    ],
    ['rejects', () => Promise.reject(new Error('no'))],
    ['answers with too little', async () => new Uint8Array(1)],
    ['answers', async (_ref: undefined, blocks: Uint8Array) => Uint8Array.from(blocks)],
  ] as const)(
    'whoever closes the backend waits for no call of a driver that %s',
    async (_how, encipherInto) => {
      const { driver, calls } = slowDriver()
      const backend = openBackend({ ...driver, blocksAtOnce: true, encipherInto })
      const key = operationsOf(await backend.bind({ kid: 'K', usage: 'pin-encryption' }))
      await Promise.allSettled([1, 2, 3].map(() => key.encipher(block())))
      void backend.close()
      for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve))
      expect(calls).toEqual(['close'])
    },
  )

  test('blocks that are no plain bytes, longer ones and those of AES go alone', async () => {
    const key = await bound(inverted)
    class Odd extends Uint8Array {}
    const odd = new Odd(block())
    await Promise.all([odd, new Uint8Array(16), odd].map(blocks => key.encipher(blocks)))
    expect(lengths).toEqual([8, 16, 8])
  })
})
