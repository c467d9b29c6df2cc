import { format, inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { overwriteStack } from '../../src/base/bytes.js'
import { buildFormat0, Pan, Pin } from '../../src/index.js'
import { panOfDigits, requirePan } from '../../src/primitives/pan.js'
import { asciiDigits, pinDigits, pinOfDigits, requirePin } from '../../src/primitives/pin.js'
import { failure } from '../support/errors.js'

const BAD_DIGITS = [
  '',
  '123',
  '1234567890123',
  '12a4',
  '12 4',
  '１２３４',
  '-123',
  '12.4',
  '1234\n',
  '\u00001234',
]

describe('Pin', () => {
  test.each(BAD_DIGITS)('refuses %j with ERR_PIN and does not show it', async digits => {
    await failure(() => Pin.from(digits), 'ERR_PIN', digits.length > 3 ? [digits] : [])
    await failure(() => Pin.from(new TextEncoder().encode(digits)), 'ERR_PIN')
  })

  test.each([undefined, null, 1234, [1, 2, 3, 4], {}, true])('refuses %j with ERR_ARGUMENT', async value => {
    await failure(() => Pin.from(value as never), 'ERR_ARGUMENT')
  })

  test('is refused where a Pin is due and something else comes', async () => {
    await failure(() => requirePin('1234'), 'ERR_ARGUMENT', ['1234'])
    await failure(() => Pin.from('1234').equals('1234' as never), 'ERR_ARGUMENT')
  })

  test('is not made by its constructor, nor by copying its prototype', async () => {
    for (const Class of [Pin, Pan]) {
      const make = Class as unknown as new (digits: unknown, maker?: unknown) => unknown
      await failure(() => new make('12a4'), 'ERR_ARGUMENT')
      await failure(() => new make(Uint8Array.of(1, 2, 3, 4), Symbol('Pin')), 'ERR_ARGUMENT')
    }
    const pin = Pin.from('1234')
    for (const forged of [Object.create(Pin.prototype), new Proxy(pin, {}), structuredClone(pin)]) {
      await failure(() => requirePin(forged), 'ERR_ARGUMENT')
    }
    await failure(() => requirePan(Object.create(Pan.prototype)), 'ERR_ARGUMENT')
  })

  test('is not made of digit values that are none', async () => {
    for (const values of [[1, 2, 3], [1, 2, 3, 10], Array.from({ length: 13 }, () => 1)]) {
      await failure(() => pinOfDigits(Uint8Array.from(values)), 'ERR_PIN')
    }
  })

  test('comes from a string or from ASCII bytes, and gives the digits back when asked by name', () => {
    for (const digits of ['1234', '000000', '123456789012']) {
      expect(Pin.from(digits).reveal()).toBe(digits)
      expect(Pin.from(Buffer.from(digits)).reveal()).toBe(digits)
      expect(Pin.from(digits).revealAscii()).toEqual(new Uint8Array(Buffer.from(digits)))
      expect(Pin.from(digits).length).toBe(digits.length)
    }
  })

  test('copies the bytes it is made from', () => {
    const ascii = Buffer.from('4321')
    const pin = Pin.from(ascii)
    ascii.fill(0)
    expect(pin.reveal()).toBe('4321')
  })

  test('compares', () => {
    expect(Pin.from('1234').equals(Pin.from('1234'))).toBe(true)
    expect(Pin.from('1234').equals(Pin.from('1235'))).toBe(false)
    expect(Pin.from('1234').equals(Pin.from('12340'))).toBe(false)
  })

  test('disposal wipes the digits, and every later use is ERR_DISPOSED', async () => {
    const pin = Pin.from('9753')
    const live = pinDigits(pin)
    pin.dispose()
    pin.dispose()
    expect([...live]).toEqual([0, 0, 0, 0])
    for (const use of [
      () => pin.reveal(),
      () => pin.revealAscii(),
      () => pin.length,
      () => pin.equals(pin),
    ]) {
      await failure(use, 'ERR_DISPOSED')
    }
  })

  test('a using declaration disposes', () => {
    let live: Uint8Array
    {
      using pin = Pin.from('9753')
      live = pinDigits(pin)
    }
    expect([...live]).toEqual([0, 0, 0, 0])
  })
})

describe('Pan', () => {
  const bad = ['', '123456789', '12345678901234567890', '123456789012345x', '4000 0012 3456 7899']

  test.each(bad)('refuses %j with ERR_PAN and does not show it', async digits => {
    await failure(() => Pan.from(digits), 'ERR_PAN', digits === '' ? [] : [digits])
  })

  test.each([undefined, null, 4000001234567899, {}])('refuses %j with ERR_ARGUMENT', async value => {
    await failure(() => Pan.from(value as never), 'ERR_ARGUMENT')
    await failure(() => requirePan(value), 'ERR_ARGUMENT')
  })

  test.each([
    ['123456789012', '********9012'],
    ['4000001234567899', '************7899'],
    ['1234567890123456789', '***************6789'],
  ])('%s shows as %s when masked', (digits, masked) => {
    expect(Pan.from(digits).masked()).toBe(masked)
    expect(Pan.from(digits).reveal()).toBe(digits)
    expect(Pan.from(Buffer.from(digits)).length).toBe(digits.length)
  })
})

test.each([9, 20])('%i digit values are no PAN', async count => {
  await failure(() => panOfDigits(new Uint8Array(count)), 'ERR_PAN')
})

test('digit values are moved into a PAN, and wiped where they were', () => {
  const digits = Uint8Array.of(4, 9, 2, 9, 1, 2, 3, 4, 5, 6)
  expect(panOfDigits(digits).reveal()).toBe('4929123456')
  expect([...digits]).toEqual(new Array(10).fill(0))
})

describe.each([
  ['Pin', Pin.from('7391824650'), '7391824650', '[PIN redacted]'],
  ['Pan', Pan.from('4000001234567899'), '4000001234567899', '[PAN redacted]'],
] as const)('%s redacts itself', (_name, value, secret, shown) => {
  test.each([
    ['template string', () => `${value}`],
    ['concatenation', () => `${'x'}${value}`],
    ['JSON', () => JSON.stringify({ value })],
    ['inspect', () => inspect(value, { depth: 9, showHidden: true, getters: true })],
    ['inspect inside', () => inspect({ a: [value] }, { depth: 9, showHidden: true })],
    ['format', () => format('%s %o %O %j', value, value, value, value)],
  ])('in a %s', (_where, show) => {
    expect(show()).toContain(shown)
    expect(show()).not.toContain(secret)
    expect(show()).not.toContain([...secret].join(', '))
  })

  test('in structuredClone, Object.keys and Object.entries', () => {
    expect(JSON.stringify(Object.entries(value))).toBe('[]')
    expect(JSON.stringify(structuredClone(value))).toBe('{}')
  })
})

test('asciiDigits gives bytes of its own', () => {
  const ascii = asciiDigits(Uint8Array.of(1, 2, 3, 4))
  expect(ascii.buffer.byteLength).toBe(4)
})

test('bytes that lie about their length are read by their true one', async () => {
  class Lying extends Uint8Array {
    override get length(): number {
      return 6
    }
  }
  const digits = Lying.from(Buffer.from('48150'))
  expect(Pin.from(digits).reveal()).toBe('48150')
  await failure(() => Pin.from(Lying.from(Buffer.from('481'))), 'ERR_PIN')
})

test('a PAN that claims another length is masked, and put into a block, by its true one', () => {
  const [honest, lying] = [Pan.from('4929123456'), Pan.from('4929123456')]
  Object.defineProperty(lying, 'length', { value: 13 })
  const pin = Pin.from('4815')
  expect(buildFormat0({ pin, pan: lying })).toEqual(buildFormat0({ pin, pan: honest }))
  expect(lying.masked()).toBe('******3456')
})

test('near the end of the stack there is nothing to write over, and no error', () => {
  const down = (): number => {
    overwriteStack()
    return down() + 1
  }
  expect(down).toThrow(RangeError)
})
