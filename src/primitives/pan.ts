/** The PAN: 10 to 19 digits that show themselves only when asked. */
import { ArgumentError, InputError, redactInspect } from '../base/errors.js'
import { countAt, DigitPlaces, digitsAt } from './pin.js'

const REDACTED = '[PAN redacted]'

const PLACES = new DigitPlaces(19)

/** For the format code and verbs of this library: all digit values of a PAN. Not exported from the package. */
export let panDigits: (pan: Pan) => Uint8Array
/** Where they are: as `pinMemory` and `pinAt` have it. Not exported from the package. */
export let panMemory: (pan: Pan) => Uint8Array
export let panAt: (pan: Pan) => number
/** A PAN of digit values that it takes over: 10 to 19 of them, or `ERR_PAN`. Not exported from the package. */
export let panOfDigits: (digits: Uint8Array) => Pan
/** Whether a value is a Pan that was made here. */
let isPan: (value: unknown) => value is Pan

/** Known to this file only, because TypeScript's `private` ends where JavaScript begins. */
const MAKER = Symbol('Pan')

/**
 * A primary account number of 10 to 19 decimal digits, check digit included (ISO/IEC 7812-1:2017). The Luhn check is not
 * part of ISO 9564 and is not made.
 *
 * It shows itself as `[PAN redacted]` everywhere; {@link Pan.masked} gives the last four digits for a display.
 *
 * Errors: `ERR_ARGUMENT` (not a string or bytes), `ERR_PAN` (not 10–19 digits).
 *
 * @example
 * ```ts
 * const pan = Pan.from('4000001234567899')
 * pan.masked() // '************7899'
 * ```
 */
export class Pan {
  readonly #memory: Uint8Array
  readonly #at: number

  private constructor(at: number, maker: symbol) {
    if (maker !== MAKER) throw new ArgumentError('a Pan is made by Pan.from(digits)')
    this.#memory = PLACES.memory
    this.#at = at
  }

  static {
    redactInspect(Pan.prototype, () => REDACTED)
    panDigits = pan => pan.#digits()
    panMemory = pan => pan.#memory
    panAt = pan => pan.#at
    panOfDigits = digits => {
      const at = PLACES.move(digits, 10)
      if (at === undefined) throw badPan()
      return new Pan(at, MAKER)
    }
    isPan = (value): value is Pan => typeof value === 'object' && value !== null && #memory in value
  }

  /** A PAN from a string or from ASCII bytes (0x30–0x39), which are copied. Errors: `ERR_ARGUMENT`, `ERR_PAN`. */
  static from(digits: string | Uint8Array): Pan {
    const at = PLACES.read(digits, 'a PAN', 10)
    if (at === undefined) throw badPan()
    return new Pan(at, MAKER)
  }

  /** Number of digits, 10 to 19. */
  get length(): number {
    return countAt(this.#memory, this.#at)
  }

  /** The clear PAN as a string. */
  reveal(): string {
    return this.#digits().join('')
  }

  /** Stars, then the last four digits: within what PCI DSS 3.4.1 lets a display show, at every PAN length. */
  masked(): string {
    const digits = this.#digits()
    return '*'.repeat(digits.length - 4) + digits.subarray(-4).join('')
  }

  /** `[PAN redacted]`. */
  toString(): string {
    return REDACTED
  }

  /** `[PAN redacted]`. */
  toJSON(): string {
    return REDACTED
  }

  #digits(): Uint8Array {
    return digitsAt(this.#memory, this.#at)
  }
}

/** Throws `ERR_ARGUMENT` unless the value is a {@link Pan}. */
export function requirePan(value: unknown): asserts value is Pan {
  if (!isPan(value))
    throw new ArgumentError('pan must be a Pan, made by Pan.from of this copy of the library')
}

function badPan(): InputError {
  return new InputError('ERR_PAN', 'a PAN is 10 to 19 decimal digits')
}
