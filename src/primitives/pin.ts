/** The PIN: 4 to 12 digits in memory that can be wiped, and the reading of digits that it shares with the PAN. */
import { copyInto, equalBytes, isPlainBytes, secretBytes, snapshot, wipe, withWiped } from '../base/bytes.js'
import { ArgumentError, InputError, redactInspect } from '../base/errors.js'

const REDACTED = '[PIN redacted]'

/* Decimal digits in wipeable memory: what a PIN and a PAN have in common. */

/** So many PINs, or PANs, lie next to each other. */
const PLACES_TOGETHER = 64

/**
 * Memory off V8's heap with a place for each of many PINs, or PANs: how many digits it has, then their values 0–9. With memory and
 * a view of its own for each, a batch takes longer to fetch its digits from memory than to encipher its blocks. No place is given
 * out twice, and what has a place reads and wipes that one only.
 */
export class DigitPlaces {
  /** Where the places given out last are. */
  memory: Uint8Array = secretBytes(0)
  readonly #most: number
  readonly #bytes: number
  #next = 0

  /** Places for `most` digits. */
  constructor(most: number) {
    this.#most = most
    this.#bytes = 1 + most
  }

  /**
   * The place of digits that are read from a string or from ASCII bytes, or undefined where their number is out of bounds or anything but
   * the ten ASCII digits occurs (Unicode digits are not PIN digits).
   */
  read(value: string | Uint8Array, name: string, least: number): number | undefined {
    const isText = typeof value === 'string'
    if (!isText && !(value instanceof Uint8Array)) {
      throw new ArgumentError(`${name} must be a string or a Uint8Array of ASCII digits`)
    }
    // What a subclass says of its length and its buffer need not be so, and would end in an error half-way.
    if (!isText && !isPlainBytes(value))
      return withWiped(snapshot(value, name), own => this.#read(own, least))
    return this.#read(value, least)
  }

  #read(value: string | Uint8Array, least: number): number | undefined {
    const { length } = value
    if (!(length >= least && length <= this.#most)) return undefined
    const codeAt = typeof value === 'string' ? (i: number) => value.charCodeAt(i) : byteReader(value)
    const at = this.#take(length)
    const { memory } = this
    let bad = 0
    for (let i = 0; i < length; i++) {
      const digit = codeAt(i) - 0x30
      bad |= digit < 0 || digit > 9 ? 1 : 0
      memory[at + 1 + i] = digit
    }
    if (bad === 0) return at
    this.wipe(memory, at)
    return undefined
  }

  /** The place of digit values, or undefined for too few, too many, or others than 0–9. They are wiped where they were. */
  move(digits: Uint8Array, least: number): number | undefined {
    try {
      const { length } = digits
      if (length < least || length > this.#most || digits.some(digit => digit > 9)) return undefined
      const at = this.#take(length)
      copyInto(this.memory, digits, at + 1)
      return at
    } finally {
      wipe(digits)
    }
  }

  /** Overwrites a place with zeros. */
  wipe(memory: Uint8Array, at: number): void {
    for (let i = 0; i < this.#bytes; i++) memory[at + i] = 0
  }

  #take(count: number): number {
    if (this.#next === this.memory.length) {
      this.memory = secretBytes(PLACES_TOGETHER * this.#bytes)
      this.#next = 0
    }
    const at = this.#next
    this.#next += this.#bytes
    this.memory[at] = count
    return at
  }
}

/** How many digits are at a place. */
export function countAt(memory: Uint8Array, at: number): number {
  return memory[at] as number
}

/** The digits at a place: they are what is there, not a copy. */
export function digitsAt(memory: Uint8Array, at: number): Uint8Array {
  return memory.subarray(at + 1, at + 1 + countAt(memory, at))
}

const PLACES = new DigitPlaces(12)

/** For the format code and verbs of this library: the live digit values of a PIN. Not exported from the package. */
export let pinDigits: (pin: Pin) => Uint8Array
/** Where they are, for the building of blocks by the thousand, to which a view of each is too dear: a place, counted from {@link pinAt}. */
export let pinMemory: (pin: Pin) => Uint8Array
/** Where in {@link pinMemory} the place of a PIN begins: first how many digits there are, then the digits. */
export let pinAt: (pin: Pin) => number
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
  #memory: Uint8Array | undefined
  readonly #at: number

  private constructor(at: number, maker: symbol) {
    if (maker !== MAKER) throw new ArgumentError('a Pin is made by Pin.from(digits)')
    this.#memory = PLACES.memory
    this.#at = at
  }

  static {
    redactInspect(Pin.prototype, () => REDACTED)
    pinDigits = pin => pin.#digits()
    pinMemory = pin => pin.#live()
    pinAt = pin => pin.#at
    isPin = (value): value is Pin => typeof value === 'object' && value !== null && #memory in value
    pinOfDigits = digits => {
      const at = PLACES.move(digits, 4)
      if (at === undefined) throw badPin()
      return new Pin(at, MAKER)
    }
  }

  /**
   * A PIN from a string, or from ASCII bytes (0x30–0x39), which are copied: wiping the input stays with the caller.
   * Prefer bytes: a JavaScript string cannot be wiped. Errors: `ERR_ARGUMENT`, `ERR_PIN`.
   */
  static from(digits: string | Uint8Array): Pin {
    const at = PLACES.read(digits, 'a PIN', 4)
    if (at === undefined) throw badPin()
    return new Pin(at, MAKER)
  }

  /** Number of digits, 4 to 12. */
  get length(): number {
    return countAt(this.#live(), this.#at)
  }

  /** The clear PIN as a string. Strings cannot be wiped: prefer {@link Pin.revealAscii}. Errors: `ERR_DISPOSED`. */
  reveal(): string {
    return this.#digits().join('')
  }

  /** The clear PIN as fresh ASCII bytes, which the caller wipes. Errors: `ERR_DISPOSED`. */
  revealAscii(): Uint8Array {
    return asciiDigits(this.#digits())
  }

  /** Compares two PINs in time that depends on their lengths only. Errors: `ERR_ARGUMENT`, `ERR_DISPOSED`. */
  equals(other: Pin): boolean {
    requirePin(other)
    return equalBytes(this.#digits(), other.#digits())
  }

  /** Overwrites the digits with zeros. May be called more than once. */
  dispose(): void {
    if (this.#memory !== undefined) PLACES.wipe(this.#memory, this.#at)
    this.#memory = undefined
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
    if (this.#memory === undefined) throw new InputError('ERR_DISPOSED', 'the PIN has been disposed of')
    return this.#memory
  }

  #digits(): Uint8Array {
    return digitsAt(this.#live(), this.#at)
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
