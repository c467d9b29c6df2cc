/** `Pin.from` and `Pan.from`, from text and from bytes, against a regular expression. */
import { inspect } from 'node:util'
import fc from 'fast-check'
import { Pan, Pin } from '../../../src/index.js'
import { Input, textInput } from '../support/input.js'
import { attempt, refuseEcho } from '../support/oracle.js'
import { check, type FuzzTarget } from '../target.js'

const CASES = [
  { make: (value: string | Uint8Array) => Pin.from(value), digits: /^[0-9]{4,12}$/, code: 'ERR_PIN' },
  { make: (value: string | Uint8Array) => Pan.from(value), digits: /^[0-9]{10,19}$/, code: 'ERR_PAN' },
] as const

/** Digits, and characters that are digits to somebody. */
const digit = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom(...'0123456789') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('\u0661', '\uFF11', '\u00B2', ' ', '/', ':', '\0', '-', '\u{1D7CF}'),
  },
)

export const digits: FuzzTarget = {
  name: 'pin-and-pan',
  share: 100,
  seeds: [
    textInput('1234', 0),
    textInput('123456789012', 0),
    textInput('9999990123456789', 0),
    textInput('9999990123456789', 1),
    Uint8Array.from([1, 0, ...Buffer.from('4711')]),
  ],
  structured: fc
    .tuple(fc.integer({ min: 0, max: 1 }), fc.string({ unit: digit, minLength: 2, maxLength: 21 }))
    .map(([kind, text]) => textInput(text, kind)),
  run(bytes) {
    const input = new Input(bytes)
    const asBytes = input.byte() % 2 === 1
    const text = input.text()
    const ascii = Uint8Array.from(Buffer.from(text))
    for (const { make, digits: shape, code } of CASES) {
      const value = attempt(() => make(asBytes ? ascii : text), { codes: [code], hidden: [text] })
      const due = shape.test(asBytes ? Buffer.from(ascii).toString('latin1') : text)
      check((value !== undefined) === due, `${code} exactly where the digits are not as they must be`)
      if (value === undefined) continue
      check(value.reveal() === text, 'what went in comes out')
      refuseEcho(`${value} ${JSON.stringify({ value })} ${inspect(value, { showHidden: true })}`, [text])
      if (value instanceof Pin) value.dispose()
    }
  },
}
