/**
 * Constant time, watched: `timingSafeEqual` itself is counted while the verbs compare secrets, so that a comparison that
 * ends early somewhere on the way (or before it) is noticed. It sees two arrays of one length, whatever is compared.
 */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { generateMac, Pin, verifyMac } from '../src/index.js'
import { softwareBackend } from '../src/software.js'
import { CORE } from './leaks/cases-core.js'
import { D1 } from './leaks/cases-d1.js'
import { openSoftware, worldOn } from './leaks/world.js'

const seen = vi.hoisted(() => [] as { readonly bytes: readonly [number, number]; readonly same: boolean }[])
vi.mock('node:crypto', async importOriginal => {
  const crypto = await importOriginal<typeof import('node:crypto')>()
  const timingSafeEqual: typeof crypto.timingSafeEqual = (a, b) => {
    const same = crypto.timingSafeEqual(a, b)
    seen.push({ bytes: [a.byteLength, b.byteLength], same })
    return same
  }
  return { ...crypto, timingSafeEqual, default: { ...crypto, timingSafeEqual } }
})
afterEach(() => {
  seen.length = 0
})

/** What the comparison of the result saw: the last one. */
const last = () => seen.at(-1)

describe('a MAC', () => {
  test.each([
    ['right', (mac: Uint8Array) => mac, true],
    [
      'wrong in its first byte',
      (mac: Uint8Array) => mac.map((byte, i) => (i === 0 ? byte ^ 1 : byte)),
      false,
    ],
    ['wrong in its last byte', (mac: Uint8Array) => mac.map((byte, i) => (i === 7 ? byte ^ 1 : byte)), false],
  ])('that is %s is compared whole', async (_what, change, expected) => {
    await using backend = await softwareBackend({
      keys: [
        {
          kid: 'M',
          usage: 'retail-mac',
          algorithm: 'tdea-2key',
          material: 'AD192FD064B5579E7A4FB3C8F794F22A',
        },
      ],
    })
    const key = await backend.bind({ kid: 'M', usage: 'retail-mac' })
    const request = { key, message: new Uint8Array(20), algorithm: 'iso9797-1-alg3', padding: 2 } as const
    const mac = await generateMac({ ...request, length: 8 })
    seen.length = 0
    expect(await verifyMac({ ...request, length: 8, mac: change(mac) })).toBe(expected)
    expect(last()).toEqual({ bytes: [8, 8], same: expected })
  })
})

describe('a PIN', () => {
  test.each([
    ['the same', '1234', '1234', true],
    ['another from its first digit on', '1234', '9234', false],
    ['another in its last digit', '1234', '1235', false],
  ])('that is %s is compared in one length', (_what, one, two, expected) => {
    using a = Pin.from(one)
    using b = Pin.from(two)
    seen.length = 0
    expect(a.equals(b)).toBe(expected)
    const [found = expect.fail('nothing was compared')] = seen
    expect(found.same).toBe(expected)
    expect(found.bytes[0]).toBe(found.bytes[1])
  })
})

describe('a client secret', () => {
  test.each([
    ['right', 'sixteen chars+%:', 'c-1'],
    ['wrong', 'sixteen chars+%;', undefined],
    ['much longer', 'x'.repeat(200), undefined],
  ])('that is %s: every client is looked at, hash against hash', async (_what, secret, expected) => {
    const { clientOf, readClients } = await import('../src/d1/endpoints/token-endpoint.js')
    const clients = readClients([
      { clientId: 'c-1', clientSecret: 'sixteen chars+%:' },
      { clientId: 'c-2', clientSecret: 'another secret of many' },
    ])
    seen.length = 0
    expect(clientOf(clients, { id: 'c-1', secret })).toBe(expected)
    expect(seen.map(({ bytes }) => bytes)).toEqual(Array.from({ length: 8 }, () => [32, 32]))
  })
})

/** The verbs that compare what is secret, or what must not be guessed byte by byte, and how many bytes of it at least. */
const COMPARING: Readonly<Record<string, number>> = {
  verifyMac: 8,
  verifyPrw: 4,
  verifyPrwMac: 4,
  verifyPinBlock: 4,
  'KeyOperations.verifyPin': 4,
  openKeyBlock: 8,
  openSeccosSetPinRequest: 4,
  'Pin.equals': 4,
}

describe('called rightly, a verb that compares does so through timingSafeEqual', () => {
  test.each(Object.entries(COMPARING))('%s', async (verb, least) => {
    await using backend = await openSoftware()
    const world = await worldOn(backend)
    const cases = [...CORE, ...D1].filter(one => one.verb === verb && one.refused !== true)
    expect(cases.length).toBeGreaterThan(0)
    for (const one of cases) {
      const args = await one.args(world)
      seen.length = 0
      await one.call(args, world)
      const compared = seen.filter(({ bytes: [a, b] }) => a === b && a >= least)
      expect(compared.length, `${verb} compared nothing in constant time`).toBeGreaterThan(0)
    }
  })
})
