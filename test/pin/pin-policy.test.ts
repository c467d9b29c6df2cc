/** The PIN policy against an enumeration that was written another way, and random PINs. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Backend,
  decipherPin,
  generatePin,
  generatePinBlock,
  judgePin,
  Pan,
  Pin,
  pinPolicy,
  type WeakPinRule,
} from '../../src/index.js'
import { pinMemory } from '../../src/primitives/pin.js'
import { softwareBackend } from '../../src/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'

const RULES: readonly WeakPinRule[] = ['repeats', 'runs', 'pairs', 'dates']
const pad = (value: number, length = 2): string => String(value).padStart(length, '0')

/** The weak PINs of four digits, written out from what the rules say, with no rule evaluated on a PIN. */
function weak(rule: WeakPinRule): ReadonlySet<string> {
  const digits = Array.from({ length: 10 }, (_, i) => i)
  switch (rule) {
    case 'repeats':
      return new Set(digits.map(d => String(d).repeat(4)))
    case 'runs':
      return new Set(
        digits.flatMap(d => ['01234567890123456789'.slice(d, d + 4), '98765432109876543210'.slice(d, d + 4)]),
      )
    case 'pairs':
      return new Set(
        digits.flatMap(a =>
          digits.flatMap(b => [`${a}${b}${a}${b}`, `${a}${a}${b}${b}`, `${a}${b}${b}${a}`]),
        ),
      )
    case 'dates': {
      const days = Array.from({ length: 31 }, (_, i) => pad(i + 1))
      const months = Array.from({ length: 12 }, (_, i) => pad(i + 1))
      const years = Array.from({ length: 200 }, (_, i) => String(1900 + i))
      return new Set([...years, ...days.flatMap(d => months.flatMap(m => [d + m, m + d]))])
    }
  }
}

function refusedOf(refuse: readonly WeakPinRule[], list: readonly string[] = []): ReadonlySet<string> {
  const policy = pinPolicy({ minLength: 4, maxLength: 4, refuse, list })
  const all = Array.from({ length: 10_000 }, (_, i) => pad(i, 4))
  return new Set(all.filter(digits => !judgePin({ pin: Pin.from(digits), policy }).accepted))
}
const reasonOf = (digits: string, refuse: readonly WeakPinRule[] = RULES) => {
  const verdict = judgePin({
    pin: Pin.from(digits),
    policy: pinPolicy({ minLength: 4, maxLength: 8, refuse }),
  })
  return verdict.accepted ? undefined : verdict.reason
}

describe('all 10,000 PINs of four digits', () => {
  test.each(RULES)('%s refuses exactly those that the rule names', rule => {
    expect(refusedOf([rule])).toEqual(weak(rule))
  })

  test('all rules and a list together refuse the union, and no rule refuses nothing', () => {
    const list = ['2580', '1230', '0852']
    expect(refusedOf(RULES, list)).toEqual(new Set([...RULES.flatMap(rule => [...weak(rule)]), ...list]))
    expect(refusedOf([], list)).toEqual(new Set(list))
    expect(refusedOf([]).size).toBe(0)
  })
})

describe('other lengths', () => {
  test.each([
    ['55555', 'repeats'],
    ['678901', 'runs'],
    ['210987', 'runs'],
    ['121212', 'pairs'],
    ['112233', 'pairs'],
    ['123321', 'pairs'],
    ['12312', undefined],
    ['311299', 'dates'],
    ['123199', 'dates'],
    ['991231', 'dates'],
    ['321332', undefined],
    ['31121985', 'dates'],
    ['12311985', 'dates'],
    ['19851231', 'dates'],
    ['31122185', undefined],
    ['84628462', undefined],
    ['8462', undefined],
  ])('%s: %s', (digits, reason) => {
    expect(reasonOf(digits)).toBe(reason)
  })

  test("lengths are the policy's, the list knows lengths, the PIN before is refused where it is known", () => {
    const policy = pinPolicy({ minLength: 5, maxLength: 6, refuse: [], list: ['846213'], notBefore: true })
    const judge = (digits: string, before?: string) =>
      judgePin({ pin: Pin.from(digits), policy, before: before === undefined ? undefined : Pin.from(before) })
    expect(judge('8462')).toEqual({ accepted: false, reason: 'length' })
    expect(judge('8462137')).toEqual({ accepted: false, reason: 'length' })
    expect(judge('846213')).toEqual({ accepted: false, reason: 'list' })
    expect(judge('84621')).toEqual({ accepted: true })
    expect(judge('84621', '84621')).toEqual({ accepted: false, reason: 'before' })
    expect(judge('84621', '84622')).toEqual({ accepted: true })
    const lax = pinPolicy({ minLength: 4, maxLength: 6, refuse: [] })
    expect(judgePin({ pin: Pin.from('8462'), policy: lax, before: Pin.from('8462') })).toEqual({
      accepted: true,
    })
  })
})

describe('bad input', () => {
  const good = { minLength: 4, maxLength: 6, refuse: [] } as const
  test.each<[string, object]>([
    ['3 digits', { ...good, minLength: 3 }],
    ['13 digits', { ...good, maxLength: 13 }],
    ['lengths the wrong way round', { ...good, minLength: 6, maxLength: 4 }],
    ['half a digit', { ...good, minLength: 4.5 }],
    ['an unknown rule', { ...good, refuse: ['birthdays'] }],
    ['an unknown rule behind one that is known', { ...good, refuse: ['runs', 'birthdays'] }],
    ['rules that are no list', { ...good, refuse: 'runs' }],
    ['half a digit at most', { ...good, maxLength: 5.5 }],
    ['a length in text', { ...good, minLength: '4' }],
    ['a list of letters', { ...good, list: ['12a4'] }],
    ['a list of numbers', { ...good, list: [1234] }],
    ['a list with 3 digits', { ...good, list: ['2580', '123'] }],
    ['a list with 13 digits', { ...good, list: ['1234567890123'] }],
    ['a list with a letter behind a PIN', { ...good, list: ['1234x'] }],
    ['a list with a letter before a PIN', { ...good, list: ['x1234'] }],
    ['a list of 10,001 PINs', { ...good, list: Array(10_001).fill('2580') }],
    ['a list that is none', { ...good, list: '1234' }],
    ['notBefore', { ...good, notBefore: 1 }],
  ])('%s: ERR_ARGUMENT', async (_name, options) => {
    await failure(() => pinPolicy(options as never), 'ERR_ARGUMENT')
  })

  test('the widest policy, and the longest list, are taken', () => {
    const list = [...Array<string>(9_999).fill('2580'), '123456789012']
    const policy = pinPolicy({ minLength: 4, maxLength: 12, refuse: [], list })
    const verdicts = ['2580', '123456789012', '123456789013', '1234'].map(
      digits => judgePin({ pin: Pin.from(digits), policy }).accepted,
    )
    expect(verdicts).toEqual([false, false, true, true])
    expect(pinPolicy({ minLength: 6, maxLength: 6, refuse: ['runs'] })).toEqual({
      minLength: 6,
      maxLength: 6,
      refuse: ['runs'],
      notBefore: false,
    })
  })

  test('a policy that pinPolicy did not make, a PIN that is none', async () => {
    await failure(() => judgePin({ pin: Pin.from('1234'), policy: { ...pinPolicy(good) } }), 'ERR_ARGUMENT')
    await failure(() => judgePin({ pin: '1234' as never, policy: pinPolicy(good) }), 'ERR_ARGUMENT')
    await failure(
      () => judgePin({ pin: Pin.from('1234'), policy: pinPolicy(good), before: '1' as never }),
      'ERR_ARGUMENT',
    )
  })
})

describe('random PINs', () => {
  let backend: Backend
  const policy = pinPolicy({ minLength: 4, maxLength: 6, refuse: RULES })
  beforeAll(async () => {
    const key = {
      usage: 'pin-encryption',
      algorithm: 'tdea-2key',
      material: '0123456789ABCDEFFEDCBA9876543210',
    } as const
    backend = await softwareBackend({ keys: [{ kid: 'ZPK', ...key }] })
  })
  afterAll(() => backend.close())

  test('no weak one, and every digit with the same chance: bytes above 249 are drawn again', async () => {
    let next = 0
    const counting = {
      randomBytes: async (length: number) => Uint8Array.from({ length }, () => next++ % 256),
    }
    const any = pinPolicy({ minLength: 12, maxLength: 12, refuse: [] })
    const counts = new Array<number>(10).fill(0)
    for (let i = 0; i < 400; i++)
      for (const digit of (await generatePin({ length: 12, policy: any, backend: counting })).reveal())
        counts[Number(digit)] = (counts[Number(digit)] ?? 0) + 1
    const mean = counts.reduce((sum, count) => sum + count, 0) / 10
    for (const count of counts) expect(Math.abs(count - mean) / mean).toBeLessThan(0.1)
    for (let i = 0; i < 300; i++) {
      using pin = await generatePin({ length: 4, policy, backend })
      expect(judgePin({ pin, policy })).toEqual({ accepted: true })
    }
  })

  test('draws again after bytes that are no digits, and after a weak PIN; gives up where all are weak', async () => {
    const draws = [
      Array(16).fill(255),
      [1, 1, 1, 1, ...Array(12).fill(0)],
      [8, 4, 6, 2, ...Array(12).fill(0)],
    ]
    const scripted = { randomBytes: async () => Uint8Array.from(draws.shift() ?? []) }
    expect((await generatePin({ length: 4, policy, backend: scripted })).reveal()).toBe('8462')
    let asked = 0
    const zeros = {
      randomBytes: async (length: number) => {
        asked++
        return new Uint8Array(length)
      },
    }
    await failure(() => generatePin({ length: 4, policy, backend: zeros }), 'ERR_BACKEND_FAILED')
    expect(asked).toBe(1000)
  })

  test('250 is the first byte that is no digit, and what was drawn is wiped', async () => {
    const drawn = [Uint8Array.of(250, 255, 8, 249), Uint8Array.of(250, 8, 4, 6, 249)]
    const given = [...drawn]
    const scripted = { randomBytes: async () => given.shift() ?? expect.unreachable() }
    const { value: pin, buffers } = await buffersMadeBy(() =>
      generatePin({ length: 4, policy, backend: scripted }),
    )
    expect(pin.reveal()).toBe('8469')
    for (const bytes of drawn) expect(bytes.every(byte => byte === 0)).toBe(true)
    // In the place of the PIN alone: its digits are nowhere else.
    const left = buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.of(8, 4, 6, 9)))
    expect(left.filter(buffer => buffer !== pinMemory(pin).buffer)).toEqual([])
  })

  test('of a PIN that is not taken nothing is left', async () => {
    const weak = Uint8Array.of(7, 8, 9, 0)
    const strong = Uint8Array.of(8, 4, 6, 2)
    const given = [weak.slice(), strong]
    const scripted = { randomBytes: async () => given.shift() ?? expect.unreachable() }
    const before = Pin.from('1234')
    const pin = await generatePin({ length: 4, policy, backend: scripted })
    for (const memory of [pinMemory(before), pinMemory(pin)])
      expect(Buffer.from(memory).includes(Buffer.from(weak))).toBe(false)
  })

  test('straight into a block', async () => {
    const key = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
    const pan = Pan.from('4000001234567899')
    const block = await generatePinBlock({ length: 6, policy, backend, pan, format: 3, key })
    expect((await decipherPin({ block, pan, format: 3, key })).length).toBe(6)
    await failure(
      () => generatePinBlock({ length: 6, policy, backend, pan, format: 4, key }),
      'ERR_KEY_ALGORITHM',
    )
  })

  test.each([
    ['a length that the policy does not take', { length: 7 }],
    ['a length below those that the policy takes', { length: 3 }],
    ['half a digit', { length: 4.5 }],
    ['no backend', { backend: {} }],
    ['nothing for a backend', { backend: undefined }],
    ['no policy', { policy: {} }],
  ])('%s: ERR_ARGUMENT', async (_name, more) => {
    await failure(() => generatePin({ length: 4, policy, backend, ...more } as never), 'ERR_ARGUMENT')
  })
})
