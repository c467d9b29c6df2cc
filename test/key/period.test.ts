/** Cryptoperiods: what is read, which time is in both, what is refused when, and a token's whole days. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { DEFAULTS } from '../../src/base/defaults.js'
import { backendSigner } from '../../src/d1.js'
import {
  hasPeriod,
  narrower,
  notePeriod,
  periodOfDates,
  periodRemark,
  readPeriod,
  requirePeriod,
  tokenDates,
} from '../../src/key/period.js'
import { requireUse } from '../../src/key/usage.js'
import { softwareBackend } from '../../src/software.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { openBackendOn, openStoreOn } from '../pkcs11/support.js'
import { failure } from '../support/errors.js'

const WARNED = DEFAULTS.keys.expiryWarningDays.value * 86_400_000
const day = (text: string) => new Date(`${text}T00:00:00Z`)

beforeEach(() => {
  vi.useFakeTimers({ now: day('2026-06-15'), toFake: ['Date'] })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('a period', () => {
  test.each([
    { validTo: '2026-01-01' },
    { validTo: new Date(Number.NaN) },
    { validFrom: day('1969-12-31') },
    { validTo: new Date(253_402_300_800_000) },
    { validFrom: day('2026-01-02'), validTo: day('2026-01-02') },
  ])('is not %j', async given => {
    await failure(() => readPeriod(given as never), 'ERR_ARGUMENT')
  })

  test('begins in 1970 at the earliest', () => {
    expect(readPeriod({ validFrom: new Date(0) })).toEqual({ validFrom: '1970-01-01T00:00:00.000Z' })
  })

  test('is there where one end is an own member with a value', () => {
    const [validFrom, validTo] = ['2026-01-01T00:00:00.000Z', '2027-01-01T00:00:00.000Z']
    for (const key of [
      { validFrom },
      { validTo },
      { validFrom, validTo: undefined },
      { validFrom: undefined, validTo },
    ])
      expect(hasPeriod(key)).toBe(true)
    const absent = { validFrom: undefined, validTo: undefined }
    for (const key of [{}, absent, Object.create({ validFrom, validTo })]) {
      expect(hasPeriod(key)).toBe(false)
      notePeriod(key)
      expect(hasPeriod(key)).toBe(false)
    }
  })

  test('says nothing of data that is old: with a key whose time is over it is deciphered and verified', async () => {
    const key = { kid: 'K', usage: 'pin-encryption', mode: 'B', validTo: '2026-06-14T00:00:00.000Z' } as const
    requireUse(key, 'pin-block', 'decipher')
    await failure(() => requireUse(key, 'pin-block', 'encipher'), 'ERR_KEY_PERIOD')
    const early = { kid: 'K', usage: 'cmac', mode: 'C', validFrom: '2026-06-16T00:00:00.000Z' } as const
    requireUse(early, 'mac', 'verify')
    await failure(() => requireUse(early, 'mac', 'generate'), 'ERR_KEY_PERIOD')
  })

  test('is for new data between its ends, the first included', () => {
    const period = { kid: 'K', ...readPeriod({ validFrom: day('2026-06-15'), validTo: day('2026-06-16') }) }
    requirePeriod(period)
    requirePeriod({ kid: 'K' })
    vi.setSystemTime(day('2026-06-16'))
    expect(() => requirePeriod(period)).toThrow('until 2026-06-16T00:00:00.000Z: use the key after it')
    vi.setSystemTime(day('2026-06-15').getTime() - 1)
    expect(() => requirePeriod(period)).toThrow('from 2026-06-15T00:00:00.000Z on, and not yet')
  })

  test('two of them: what is in both', () => {
    expect(narrower({ validFrom: 'a', validTo: 'y' }, { validFrom: 'b', validTo: 'x' })).toEqual({
      validFrom: 'b',
      validTo: 'x',
    })
    expect(narrower({ validFrom: 'b', validTo: 'x' }, { validFrom: 'a', validTo: 'y' })).toEqual({
      validFrom: 'b',
      validTo: 'x',
    })
    expect(narrower({ validTo: 'y' }, {})).toStrictEqual({ validTo: 'y' })
    expect(narrower({}, { validFrom: 'a' })).toStrictEqual({ validFrom: 'a' })
    expect(narrower({}, {})).toStrictEqual({})
  })

  test.each([
    [{ validTo: '2026-06-14T00:00:00.000Z' }, /for old data only since 2026-06-14/],
    [{ validTo: '2026-06-20T12:00:00.000Z' }, /until 2026-06-20T12:00:00.000Z: 5 days/],
    [{ validFrom: '2026-06-20T12:00:00.000Z', validTo: '2027-01-01T00:00:00.000Z' }, /from 2026-06-20/],
    [{ validTo: '2026-08-01T00:00:00.000Z' }, undefined],
    [{ validTo: new Date(day('2026-06-15').getTime() + WARNED).toISOString() }, undefined],
    [{ validTo: new Date(day('2026-06-15').getTime() + WARNED - 1).toISOString() }, /for new data until/],
    [{ validFrom: '2026-06-15T00:00:00.000Z' }, undefined],
    [{ validFrom: '2026-06-15T00:00:00.001Z' }, /for new data from/],
    [{}, undefined],
  ])('%j is told of', (period, words) => {
    const remark = periodRemark({ kid: 'K', ...period })
    if (words === undefined) expect(remark).toBeUndefined()
    else expect(remark).toMatch(words)
  })
})

describe('in a token', () => {
  test('whole days within it, the last included', async () => {
    const period = readPeriod({
      validFrom: new Date('2026-01-01T01:00:00Z'),
      validTo: new Date('2026-12-31T23:00:00Z'),
    })
    expect(tokenDates(period)).toEqual({ start: '20260102', end: '20261230' })
    expect(tokenDates({})).toStrictEqual({})
    const oneDay = { validFrom: day('2026-01-01'), validTo: day('2026-01-02') }
    expect(tokenDates(readPeriod(oneDay))).toEqual({ start: '20260101', end: '20260101' })
    expect(periodOfDates('20260102', '20261230')).toEqual({
      validFrom: '2026-01-02T00:00:00.000Z',
      validTo: '2026-12-31T00:00:00.000Z',
    })
    await failure(
      () =>
        tokenDates(readPeriod({ validFrom: day('2026-01-01'), validTo: new Date('2026-01-01T10:00:00Z') })),
      'ERR_ARGUMENT',
    )
  })

  test.each([undefined, '', '2020X3ZZ', '20260230', '2026', 'x20260102', '20260102x'])(
    '%s is no date, and says nothing',
    text => {
      expect(periodOfDates(text, text)).toStrictEqual({})
    },
  )

  test('is written, listed, and refused after its end by whoever binds the key', async () => {
    const fake = new FakeToken()
    await using store = await openStoreOn(fake)
    const made = await store.generateKey({
      kid: 'P',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      validTo: day('2026-06-15'),
    })
    expect(made.validTo).toBe('2026-06-15T00:00:00.000Z')
    expect(await store.listKeys()).toMatchObject([{ kid: 'P', validTo: '2026-06-15T00:00:00.000Z' }])
    await using backend = await openBackendOn(fake)
    const key = await backend.bind({ kid: 'P', usage: 'pin-encryption', validTo: day('2030-01-01') })
    expect(key.validTo).toBe('2026-06-15T00:00:00.000Z')
    expect((await backend.health()).detail).toContain('P has been for old data only')
  })

  test('that shows no dates, the operator says them', async () => {
    const fake = new FakeToken({ hides: [0x110, 0x111] })
    await using store = await openStoreOn(fake)
    await store.generateKey({
      kid: 'P',
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      validTo: day('2026-06-15'),
    })
    await using backend = await openBackendOn(fake)
    expect((await backend.bind({ kid: 'P', usage: 'pin-encryption' })).validTo).toBeUndefined()
  })
})

test('a software key has one by option, and a ring narrows it', async () => {
  const material = '0123456789ABCDEFFEDCBA9876543210'
  const given = { kid: 'P', usage: 'pin-encryption', algorithm: 'tdea-2key', material } as const
  await using backend = await softwareBackend({
    keys: [{ ...given, validFrom: day('2026-01-01'), validTo: day('2026-09-01') }],
    ring: [{ kid: 'P', usage: 'pin-encryption', validTo: day('2026-06-20') }],
  })
  const key = await backend.bind({ kid: 'P', usage: 'pin-encryption' })
  expect([key.validFrom, key.validTo]).toEqual(['2026-01-01T00:00:00.000Z', '2026-06-20T00:00:00.000Z'])
  expect((await backend.health()).detail).toContain('5 days')
  backend.unbind(key)
  expect((await backend.health()).detail).not.toContain('P is')
  await failure(() => softwareBackend({ keys: [{ ...given, validTo: 7 as never }] }), 'ERR_ARGUMENT')
})

test('a signer is refused under a key whose time is over, before there is anything to sign', async () => {
  const scalar = '0123456789ABCDEF'.repeat(4)
  const key = { kid: 'S', usage: 'jwt-signing', algorithm: 'ec-p256', material: scalar } as const
  await using backend = await softwareBackend({ keys: [{ ...key, validTo: day('2026-06-15') }] })
  const bound = await backend.bind({ kid: 'S', usage: 'jwt-signing' })
  await failure(() => backendSigner(bound), 'ERR_KEY_PERIOD')
})

test('health speaks of a key that is bound, also where an older binding of it has ended', async () => {
  const material = '0123456789ABCDEFFEDCBA9876543210'
  const given = { kid: 'P', usage: 'pin-encryption', algorithm: 'tdea-2key', material } as const
  await using backend = await softwareBackend({ keys: [{ ...given, validTo: day('2026-06-20') }] })
  const older = await backend.bind({ kid: 'P', usage: 'pin-encryption' })
  const key = await backend.bind({ kid: 'P', usage: 'pin-encryption' })
  backend.unbind(older)
  expect((await backend.health()).detail).toMatch(/key P is .*: 5 days$/)
  backend.unbind(key)
  expect((await backend.health()).detail).not.toContain('P is')
})

test('health speaks of each key that ends soon, wherever it is among those that do not', async () => {
  const key = (kid: string, first: string, ends?: string) =>
    ({
      kid,
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: `${first}23456789ABCDEFFEDCBA9876543210`,
      ...(ends !== undefined && { validTo: day(ends) }),
    }) as const
  const keys = [key('A', '01'), key('B', '02', '2026-06-18'), key('C', '04'), key('D', '07', '2026-06-20')]
  await using backend = await softwareBackend({ keys })
  for (const { kid } of keys) await backend.bind({ kid, usage: 'pin-encryption' })
  const { detail } = await backend.health()
  expect(detail).toMatch(/key B is .*: 3 days; key D is .*: 5 days$/)
  expect(detail).not.toMatch(/key [AC]/)
})
