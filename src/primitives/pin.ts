/** The PIN: 4 to 12 digits in memory that can be wiped, and the reading of digits that it shares with the PAN. */
import { equalBytes, secretBytes, wipe } from '../base/bytes.js'
import { ArgumentError, InputError, redactInspect } from '../base/errors.js'

const REDACTED = '[PIN redacted]'

/** For the format code and verbs of this library: the live digit values of a PIN. Not exported from the package. */
export let pinDigits: (pin: Pin) => Uint8Array
/** For the same: a Pin of digit values that it takes over. `ERR_PIN` unless they are 4 to 12 values 0–9. */
export let pinOfDigits: (digits: Uint8Array) => Pin
/** Whether a value is a Pin that was made here: `Object.create(Pin.prototype)` and a Proxy of one are not. */
let isPin: (value: unknown) => value is Pin

/** Known to this file only, because TypeScript's `private` ends where JavaScript begins. */
const MAKER = Symbol('Pin')

/**
 * A PIN of 4 to 12 decimal digits (ISO 9564-1, PIN length), held in memory that can be wiped.
 *
 * It shows itself as `[PIN redacted]` in template strings, JSON, `util.inspect` and logs. The digits leave only
 * through {@link Pin.reveal} and {@link Pin.revealAscii}. Dispose it when done (`using pin = …` or `pin.dispose()`).
 *
 * Errors: `ERR_ARGUMENT` (not a string or bytes), `ERR_PIN` (not 4–12 digits), `ERR_DISPOSED` (used after disposal).
 *
 * @example
 * ```ts
 * using pin = Pin.from('1234')
 * console.log(`${pin}`) // [PIN redacted]
 * ```
 */
export class Pin implements Disposable {
  #digits: Uint8Array | undefined

  private constructor(digits: Uint8Array, maker: symbol) {
    if (maker !== MAKER) throw new ArgumentError('a Pin is made by Pin.from(digits)')
    this.#digits = digits
  }

  static {
    redactInspect(Pin.prototype, () => REDACTED)
    pinDigits = pin => pin.#live()
    isPin = (value): value is Pin => typeof value === 'object' && value !== null && #digits in value
    pinOfDigits = digits => {
      if (digits.length < 4 || digits.length > 12 || digits.some(digit => digit > 9)) throw badPin()
      return new Pin(digits, MAKER)
    }
  }

  /**
   * A PIN from a string, or from ASCII bytes (0x30–0x39), which are copied: wiping the input stays with the caller.
   * Prefer bytes: a JavaScript string cannot be wiped. Errors: `ERR_ARGUMENT`, `ERR_PIN`.
   */
  static from(digits: string | Uint8Array): Pin {
    const values = readDigits(digits, 'a PIN', { min: 4, max: 12 })
    if (values === undefined) throw badPin()
    return new Pin(values, MAKER)
  }

  /** Number of digits, 4 to 12. */
  get length(): number {
    return this.#live().length
  }

  /** The clear PIN as a string. Strings cannot be wiped: prefer {@link Pin.revealAscii}. Errors: `ERR_DISPOSED`. */
  reveal(): string {
    return this.#live().join('')
  }

  /** The clear PIN as fresh ASCII bytes, which the caller wipes. Errors: `ERR_DISPOSED`. */
  revealAscii(): Uint8Array {
    return asciiDigits(this.#live())
  }

  /** Compares two PINs in time that depends on their lengths only. Errors: `ERR_ARGUMENT`, `ERR_DISPOSED`. */
  equals(other: Pin): boolean {
    requirePin(other)
    return equalBytes(this.#live(), other.#live())
  }

  /** Overwrites the digits with zeros. May be called more than once. */
  dispose(): void {
    wipe(this.#digits)
    this.#digits = undefined
  }

  /** {@link Pin.dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** `[PIN redacted]`. */
  toString(): string {
    return REDACTED
  }

  /** `[PIN redacted]`. */
  toJSON(): string {
    return REDACTED
  }

  #live(): Uint8Array {
    if (this.#digits === undefined) throw new InputError('ERR_DISPOSED', 'the PIN has been disposed of')
    return this.#digits
  }
}

/** Throws `ERR_ARGUMENT` unless the value is a {@link Pin}. */
export function requirePin(value: unknown): asserts value is Pin {
  if (!isPin(value))
    throw new ArgumentError('pin must be a Pin, made by Pin.from of this copy of the library')
}

function badPin(): InputError {
  return new InputError('ERR_PIN', 'a PIN is 4 to 12 decimal digits')
}

/* Decimal digits in wipeable memory: what a PIN and a PAN have in common. */

/**
 * Digit values 0–9 from a string or from ASCII bytes, or undefined where the length is out of bounds or anything
 * but the ten ASCII digits occurs (Unicode digits are not PIN digits).
 */
export function readDigits(
  value: string | Uint8Array,
  name: string,
  bounds: { min: number; max: number },
): Uint8Array<ArrayBuffer> | undefined {
  const isText = typeof value === 'string'
  if (!isText && !(value instanceof Uint8Array)) {
    throw new ArgumentError(`${name} must be a string or a Uint8Array of ASCII digits`)
  }
  if (value.length < bounds.min || value.length > bounds.max) return undefined
  const digits = secretBytes(value.length)
  const codeAt = isText ? (i: number) => value.charCodeAt(i) : byteReader(value)
  let bad = 0
  for (let i = 0; i < digits.length; i++) {
    const digit = codeAt(i) - 0x30
    bad |= digit < 0 || digit > 9 ? 1 : 0
    digits[i] = digit
  }
  if (bad === 0) return digits
  digits.fill(0)
  return undefined
}

function byteReader(bytes: Uint8Array): (i: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return i => view.getUint8(i)
}

/** ASCII bytes of digit values, in memory of its own. */
export function asciiDigits(digits: Uint8Array): Uint8Array<ArrayBuffer> {
  const ascii = secretBytes(digits.length)
  digits.forEach((digit, i) => {
    ascii[i] = digit + 0x30
  })
  return ascii
}
