/**
 * Option objects, read once and by own members only: a misspelt option is an error and not a silent default, a getter
 * cannot answer a check and its use differently, and what somebody put on `Object.prototype` is not an option. And the two
 * arguments that calls everywhere take: a kid and an AbortSignal.
 */
import { AbortedError, ArgumentError } from './errors.js'

/** Options of every asynchronous call. */
export interface CallOptions {
  readonly signal?: AbortSignal
}

const MAX_KID_CHARACTERS = 128

/** Control and format characters, line separators and lone surrogates: they forge log lines, or have no UTF-8 form. */
const NO_TEXT = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

/** Throws `ERR_ARGUMENT` unless the value is an object whose own enumerable members are all among `names`. */
export function requireOptions(
  value: unknown,
  what: string,
  names: readonly string[],
): asserts value is object {
  // An array or a typed array would be walked through member by member.
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw new ArgumentError(`${what} takes an options object`)
  }
  for (const name in value) {
    if (!isAmong(names, name) && Object.hasOwn(value, name)) {
      throw new ArgumentError(`${what}: unknown option ${shownName(name)}`)
    }
  }
}

/**
 * Throws `ERR_ARGUMENT` unless these, all of them and no other, are a value's own members: what is not its own is missing,
 * whatever the prototype says.
 */
export function requireAll(value: unknown, what: string, names: readonly string[]): asserts value is object {
  if (hasExactly(value, names)) return
  requireOptions(value, what, names)
  if (names.every(name => Object.hasOwn(value, name))) return
  throw new ArgumentError(`${what} takes ${names.slice(0, -1).join(', ')} and ${names.at(-1)}`)
}

/**
 * Whether they, all of them and no other, are its own enumerable members: so nearly every call comes, and V8 answers `hasOwnProperty` for nothing where
 * it walks through an object's names, if it is asked for by its full name.
 * False means that it wants a closer look.
 */
export function hasExactly(value: unknown, names: readonly string[]): value is object {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value))
    return false
  let found = 0
  for (const name in value) {
    // biome-ignore lint/suspicious/noPrototypeBuiltins: `Object.hasOwn` is called for each name, at 10 ns
    if (!Object.prototype.hasOwnProperty.call(value, name)) continue
    // Most callers write them in the order of the documentation.
    if (names[found] !== name && !isAmong(names, name)) return false
    found++
  }
  return found === names.length
}

/** `includes`, which V8 calls where it can write this out: every verb asks it for every option. */
function isAmong(names: readonly string[], name: string): boolean {
  for (let i = 0; i < names.length; i++) if (names[i] === name) return true
  return false
}

/** A word, with as few digits as names have: no PIN, no PAN, no key. */
const NAME = /^(?=.{1,40}$)(?!(?:.*\d){4})[A-Za-z_$][\w$-]*$/
/** Hex digits alone are a value more often than a word. */
const HEX = /^[\dA-Fa-f]{8,}$/
/** The parts of a name: words, capitals, digits, what joins them. */
const PARTS = /(?:[A-Z]+(?![a-z])|[A-Z]?[a-z]+)\d*|\d+|[-_$]+/g

/** Letters drawn at random, as those of a secret are, change their kind at every second place; a name's words are longer. */
function readsLikeRandom(name: string): boolean {
  return name.length >= 8 && [...name.matchAll(PARTS)].length > 1 + name.length / 5
}

/** Whether a message may show the name of a member: what looks like a value in the place of a name is not repeated. */
export function isWord(name: string): boolean {
  return NAME.test(name) && !HEX.test(name) && !readsLikeRandom(name)
}

/** The name of a member that is unknown, for a message. */
export function shownName(name: string): string {
  return isWord(name) ? JSON.stringify(name) : 'with a name that is no word'
}

/**
 * The named own members of an options object, each read once; what is absent is `undefined`, whatever the prototype
 * says. Errors: as {@link requireOptions}.
 */
export function readOptions<T extends object>(
  value: T,
  what: string,
  names: readonly (keyof T & string)[],
): T {
  requireOptions(value, what, names)
  return readOwn(value, what, names)
}

/**
 * {@link readOptions} for inputs that are made by spreading a result into them (`{ ...prw, key, profile }`): members
 * that are not named are left out instead of refused.
 */
export function readOwn<T extends object>(value: T, what: string, names: readonly (keyof T & string)[]): T {
  if (typeof value !== 'object' || value === null)
    throw new ArgumentError(`${what} takes an object of inputs`)
  const own: Partial<Record<keyof T, unknown>> = new Own()
  for (const name of names) own[name] = Object.hasOwn(value, name) ? value[name] : undefined
  return own as T
}

/** An object that inherits nothing. V8 gives `Object.create(null)` a table for its members, which takes five times as long. */
class Own {}
Reflect.deleteProperty(Own.prototype, 'constructor')
Object.freeze(Object.setPrototypeOf(Own.prototype, null))

/** True for a kid: 1 to 128 characters of text, none of them a control or format character. */
export function isKid(kid: unknown): kid is string {
  return typeof kid === 'string' && kid.length >= 1 && kid.length <= MAX_KID_CHARACTERS && !NO_TEXT.test(kid)
}

/** Throws `ERR_ARGUMENT` unless the value is a kid. */
export function requireKid(kid: unknown): asserts kid is string {
  if (!isKid(kid)) throw new ArgumentError('kid must be 1 to 128 characters without control characters')
}

/** Call options that have been read. Its own class tells them from a caller's object, which may answer differently later. */
class ReadCall implements CallOptions {
  readonly #isRead = true
  readonly signal: AbortSignal

  constructor(signal: AbortSignal) {
    this.signal = signal
    Object.freeze(this)
  }

  static is(value: object): value is ReadCall {
    return #isRead in value && value.#isRead
  }
}

/**
 * Reads a call's options once, for a public door with several operations behind it: {@link requireSignal} takes what it
 * gives as it is. Errors: as there.
 */
export function readCall(options: CallOptions | undefined | null): CallOptions | undefined {
  const signal = requireSignal(options)
  return signal === undefined ? undefined : callWith(signal)
}

/** Call options with a signal that is one. */
export function callWith(signal: AbortSignal): CallOptions {
  return new ReadCall(signal)
}

/** The signal of a call's options; `ERR_ARGUMENT` for a signal in place of the options, or another member. */
export function requireSignal(options: CallOptions | undefined | null): AbortSignal | undefined {
  if (options === undefined || options === null) return undefined
  if (typeof options === 'object' && ReadCall.is(options)) return options.signal
  if (options instanceof AbortSignal)
    throw new ArgumentError('options must be { signal }, not the signal itself')
  const { signal } = readOptions(options, 'the call', ['signal'])
  if (signal !== undefined && !isSignal(signal)) {
    throw new ArgumentError('options.signal must be an AbortSignal')
  }
  return signal
}

/** Not what merely inherits from one: an object of `Object.create(AbortSignal.prototype)` has no state, and fails on use. */
function isSignal(value: unknown): value is AbortSignal {
  try {
    return value instanceof AbortSignal && typeof value.aborted === 'boolean'
  } catch {
    return false
  }
}

/** Throws `ERR_ABORTED` once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new AbortedError(signal.reason)
}

/**
 * A copy of a plain object, and of all plain objects and arrays in it, that inherits nothing: what it lacks is lacking,
 * whatever somebody put on `Object.prototype`. For tables and for what was parsed; anything else in it stays what it is.
 */
export function ownMembers<T>(value: T): T {
  if (Array.isArray(value)) return value.map(member => ownMembers(member)) as T
  if (!isPlain(value)) return value
  const own: Record<string, unknown> = new Own() as Record<string, unknown>
  for (const [name, member] of Object.entries(value)) own[name] = ownMembers(member)
  return own as T
}

function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/**
 * Freezes an object and all objects in it: tables that decide what a key may do are exported for reading, and must not
 * be changed by whoever reads them.
 */
export function deepFreeze<T extends object>(value: T): T {
  for (const member of Object.values(value)) {
    if (typeof member === 'object' && member !== null) deepFreeze(member)
  }
  return Object.freeze(value)
}

/** Throws `ERR_ARGUMENT` unless the value is a function, or absent: what calls it later has then begun already. */
export function requireCallback(value: unknown, name: string): void {
  if (value !== undefined && typeof value !== 'function')
    throw new ArgumentError(`${name} must be a function`)
}

/** Throws `ERR_ARGUMENT` unless the value has these methods. */
export function requireMethods(value: unknown, name: string, methods: readonly string[]): void {
  const isObject = typeof value === 'object' && value !== null
  for (const method of methods) {
    if (isObject && typeof Reflect.get(value, method) === 'function') continue
    throw new ArgumentError(`${name} must have the method ${method}`)
  }
}
