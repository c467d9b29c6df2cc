/** A verification as steps: what is asked of whom, that nothing is left behind, and a driver that is led through them. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Key, operationsOf } from '../../src/backend/key.js'
import { chooseEngine } from '../../src/backend/software/engine.js'
import { storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import {
  type Backend,
  type BackendDriver,
  encipherPin,
  type KeyUse,
  openBackend,
  Pan,
  Pin,
  verifyPinBlock,
} from '../../src/index.js'
import {
  type PinVerification,
  pvvAnswer,
  pvvQuestion,
  runSteps,
  runStepsLater,
  verificationSteps,
} from '../../src/pin/formats/verification.js'
import { panAt, panDigits, panMemory } from '../../src/primitives/pan.js'
import { failure } from '../support/errors.js'

const PAN = Pan.from('1122334455667788')
const clear = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))
/** Format 0 of 1234 for PAN, and format 4's first field of the same. */
const ZERO = '041217CBBAA99887'
const FOUR = '441234AAAAAAAAAA0011223344556677'
const request = (more: Partial<PinVerification> = {}): PinVerification => ({
  block: new Uint8Array(8).fill(1),
  format: 0,
  pan: panDigits(PAN),
  rule: { kind: 'block', format: 4 },
  kept: new Uint8Array(16).fill(2),
  ...more,
})

describe('the steps', () => {
  test('open both blocks, each under its key, and say whether the PINs are the same', () => {
    const asked: string[] = []
    const given = [clear(ZERO), clear(FOUR)]
    const verdict = runSteps(verificationSteps(request()), ({ under, by, block, field }) => {
      asked.push(
        `${under} ${by} ${block.length} ${field === undefined ? '' : Buffer.from(field).toString('hex')}`,
      )
      return given[asked.length - 1] ?? new Uint8Array(0)
    })
    expect(verdict).toBe('same')
    expect(asked).toEqual(['first decipher 8 ', 'second decipher 16 41122334455667788000000000000000'])
    // What the cipher gave was clear, and is no more.
    expect(given.map(bytes => bytes.some(byte => byte !== 0))).toEqual([false, false])
  })

  test.each([
    ['another PIN', ZERO, FOUR.replace('1234', '1235'), 'different'],
    ['a longer PIN', ZERO, FOUR.replace('441234A', '4512345'), 'different'],
    ['digits that are none, the same ones', '04121DCBBAA99887', FOUR.replace('1234', '123E'), 'different'],
    ['nines where digits are none', '04121DCBBAA99887', FOUR.replace('1234', '1239'), 'different'],
    [
      'a nine where the kept block has no digit',
      '04121ACBBAA99887',
      FOUR.replace('1234', '123E'),
      'different',
    ],
    ['no block at the first key', ZERO.replace('04', '14'), FOUR, 'no-block'],
    ['no block at the second', ZERO, FOUR.replace('44', '40'), 'no-block'],
  ] as const)('%s', (_name, first, second, verdict) => {
    const given = [clear(first), clear(second)]
    const all = [...given]
    expect(runSteps(verificationSteps(request()), () => given.shift() ?? new Uint8Array(0))).toBe(verdict)
    if (verdict !== 'no-block') expect(all.every(bytes => bytes.every(byte => byte === 0))).toBe(true)
    expect(all[0]?.every(byte => byte === 0)).toBe(true)
  })

  test('the digits of the PAN are wiped, too', () => {
    const known = (): Pan => Pan.from('11223344556677889')
    let before = known()
    // Where the place next to it is in the same memory.
    while (panAt(before) + 20 === panMemory(before).length) before = known()
    const pan = panDigits(before)
    const made: Uint8Array[] = []
    const Real = Uint8Array
    class Watched extends Real {
      static get [Symbol.species](): typeof Uint8Array {
        return Real
      }
      constructor(memory: ArrayBuffer) {
        super(memory)
        if (this.length === 17) made.push(this)
      }
    }
    vi.stubGlobal('Uint8Array', Watched)
    try {
      runSteps(verificationSteps(request({ pan })), ({ under }) =>
        under === 'first' ? new Uint8Array(new ArrayBuffer(8)) : new Uint8Array(new ArrayBuffer(16)),
      )
    } finally {
      vi.unstubAllGlobals()
    }
    expect(made.map(bytes => bytes.some(byte => byte !== 0))).toEqual([false])
    // The place next to it, where the verification had them.
    const next = panAt(before) + 20
    expect([...panMemory(before).subarray(next, next + 20)]).toEqual([17, ...new Array(19).fill(0)])
  })

  test('a PVV of fewer digits than four is made with zeros; no PIN has so few', () => {
    const question = (pin: number[]) => pvvQuestion({ pvki: 1 }, PAN, Uint8Array.from(pin))
    expect(question([1, 2, 3])).toEqual(question([1, 2, 3, 0]))
  })

  test.each([
    ['9876543210ABCDEF', '9876'],
    ['AB9CDEF09ABCDEF1', '9091'],
    ['FFFFFFFFFFFFF9AB', '9555'],
    ['ABCDEFABCDEFABCD', '0123'],
  ])('the PVV of %s is %s: numerals first, then letters less ten', (block, pvv) => {
    expect([...pvvAnswer(clear(block))].join('')).toBe(pvv)
  })

  test('an answer that is none is an error, not a verdict', () => {
    expect(() => runSteps(verificationSteps(request()), () => undefined as never)).toThrow(/Uint8Array/)
  })

  test('a cipher that fails leaves nothing behind, at once or later', async () => {
    for (const run of [runSteps, runStepsLater] as const) {
      const first = clear(ZERO)
      const cipher = vi.fn().mockReturnValueOnce(first)
      cipher.mockImplementation(() => {
        throw new Error('the token has gone')
      })
      await expect(async () => run(verificationSteps(request()), cipher)).rejects.toThrow('has gone')
      expect([...first]).toEqual(new Array(8).fill(0))
    }
  })
})

describe('the port', () => {
  const MATERIAL = '0123456789ABCDEFFEDCBA9876543210'
  const KEYS = [
    { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: MATERIAL },
    {
      kid: 'AES',
      usage: 'pin-encryption',
      algorithm: 'aes-128',
      material: 'AF8CB133A78F8DC2D1359F18527593FB',
    },
    { kid: 'PVK', usage: 'visa-pvv', algorithm: 'tdea-2key', material: '1122334455667788A1B2C3D4E5F60718' },
  ] as const
  const uses: KeyUse[] = []
  const calls: string[] = []
  let backend: Backend
  let zpk: Key
  let aes: Key
  let verdict: unknown

  beforeAll(async () => {
    const driver = new SoftwareDriver(storeKeys(KEYS), await chooseEngine('auto'))
    // The operations that every driver has, and no other.
    const bare: BackendDriver<never> = {
      name: 'bare',
      find: query => driver.find(query) as never,
      encipher: (ref, blocks) => noted('encipher', driver.encipher(ref, blocks)),
      decipher: (ref, blocks) => noted('decipher', driver.decipher(ref, blocks)),
      reencipher: (from, to, blocks) => driver.reencipher(from, to, blocks),
      mac: (ref, mac, message) => driver.mac(ref, mac, message),
      deriveContentKey: (ref, one) => driver.deriveContentKey(ref, one),
      sign: (ref, message) => driver.sign(ref, message),
      randomBytes: length => driver.randomBytes(length),
      capabilities: () => driver.capabilities(),
      health: () => driver.health(),
      close: () => driver.close(),
    }
    backend = openBackend(bare, { onOperation: use => void uses.push(use) })
    zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
    aes = await backend.bind({ kid: 'AES', usage: 'pin-encryption', hostDecipher: true })
  })
  afterAll(() => backend.close())
  const noted = <T>(name: string, result: T): T => {
    calls.push(name)
    return result
  }

  test('leads a driver without verifyPin through the steps, and tells the opener of one operation under each key', async () => {
    const kept = await encipherPin({ pin: Pin.from('90817'), pan: PAN, format: 4, key: aes })
    const block = await encipherPin({ pin: Pin.from('90817'), pan: PAN, format: 0, key: zpk })
    uses.length = 0
    calls.length = 0
    const against = { kind: 'block', block: kept, format: 4, key: aes } as const
    const given = { block, pan: PAN, format: 0, from: zpk, against, tries: 'counted-elsewhere' } as const
    expect((await verifyPinBlock(given)).verified).toBe(true)
    expect(calls).toEqual(['decipher', 'decipher', 'decipher'])
    expect(uses.map(({ kid, operation, blocks }) => [kid, operation, blocks])).toEqual([
      ['ZPK', 'verifyPin', 1],
      ['AES', 'verifyPin', 1],
    ])
    const pvk = await backend.bind({ kid: 'PVK', usage: 'visa-pvv', mode: 'V', pinValue: { pvki: 1 } })
    const pvv = { kind: 'pvv', pvv: '0000', key: pvk } as const
    expect((await verifyPinBlock({ ...given, against: pvv })).verified).toBe(false)
    expect(calls.slice(3)).toEqual(['decipher', 'encipher'])
  })

  test.each([undefined, true, 'equal', 1, new Uint8Array(1)])('%j is no verdict', async answer => {
    verdict = answer
    const driver = new SoftwareDriver(storeKeys(KEYS), await chooseEngine('auto'))
    const wrong = new Proxy(driver, {
      get: (target, name) => {
        if (name === 'verifyPin') return () => verdict
        const member: unknown = Reflect.get(target, name)
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
    await using lying = openBackend(wrong)
    const key = await lying.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
    const call = () =>
      operationsOf(key).verifyPin(
        key,
        request({ rule: { kind: 'block', format: 0 }, kept: new Uint8Array(8) }),
      )
    await failure(call, 'ERR_BACKEND_FAILED')
  })
})
