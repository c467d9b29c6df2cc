/** Wrong arguments that carry secrets, and the places of a call where they are put. */
import { inspect } from 'node:util'

/** What is planted, raw. */
export interface Planted {
  readonly texts: readonly string[]
  readonly bytes: readonly Uint8Array[]
}

/** A wrong value, and how a failing test names it. */
export interface Hostile {
  readonly name: string
  readonly value: unknown
  /** Text or a number, which a name or a length would take as it is. */
  readonly isName: boolean
}

/** Errors that the hostile values throw themselves: whoever throws them may get them back, and nobody else. */
export const thrownByCaller: WeakSet<object> = new WeakSet()

export function callersError(text: string): Error {
  const error = Object.assign(new Error(text), { detail: text })
  thrownByCaller.add(error)
  return error
}

/** One value of every wrong kind, each with all secrets in it that its kind can hold. */
export function hostileValues({ texts, bytes }: Planted): readonly Hostile[] {
  const all = texts.join(' ')
  const raise = (): never => {
    throw callersError(all)
  }
  const Holder = class {
    toString = () => all
    toJSON = () => all;
    [Symbol.toPrimitive] = () => all;
    [inspect.custom] = () => all
  }
  const others: Readonly<Record<string, unknown>> = {
    undefined: undefined,
    null: null,
    true: true,
    NaN: Number.NaN,
    'a number': Number(texts[0]),
    'a bigint': BigInt(texts[0] ?? 0),
    'a symbol': Symbol(all),
    'a function': Object.defineProperty(() => all, 'name', { value: all }),
    'an object': { secret: all, kty: 'EC', d: all, toString: () => all },
    'an array of texts': [...texts],
    'an array of bytes': [...bytes],
    'an Error': new Error(all, { cause: all }),
    'an object with a voice': new Holder(),
    'a throwing getter': Object.defineProperty({}, 'kid', { get: raise, enumerable: true }),
    'a throwing Proxy': new Proxy({}, { get: raise, ownKeys: raise, has: raise, getPrototypeOf: raise }),
    'a Map': new Map([[all, all]]),
    'a URL': new URL(`https://user:${encodeURIComponent(all)}@host.example/`),
    'a JSON text': JSON.stringify({ type: all, encryptedPinBlock: all, pinValue: all }),
    'a broken JSON text': `{"type": ${all}`,
    'five segments': Array.from({ length: 5 }, () => Buffer.from(all).toString('base64url')).join('.'),
  }
  return [
    { name: 'all texts', value: all, isName: true },
    ...texts.map((value, i) => ({ name: `text ${i}`, value, isName: true })),
    ...bytes.flatMap((value, i) => [
      { name: `bytes ${i}`, value: Uint8Array.from(value), isName: false },
      { name: `bytes ${i}, one short`, value: Buffer.from(value).subarray(1), isName: false },
    ]),
    ...Object.entries(others).map(([name, value]) => ({
      name,
      value,
      isName: typeof value === 'string' || typeof value === 'number',
    })),
  ]
}

/** A call whose argument at one place has been replaced. */
export interface Variation {
  readonly at: string
  readonly args: readonly unknown[]
}

/** The places of a call: its arguments, members of options objects, and members of those. */
export function places(args: readonly unknown[], depth = 2): readonly (readonly string[])[] {
  const below = (value: unknown, path: readonly string[], depth: number): (readonly string[])[] =>
    depth === 0 || !isPlain(value)
      ? [path]
      : [
          path,
          ...Object.keys(value).flatMap(name => below(Reflect.get(value, name), [...path, name], depth - 1)),
        ]
  return args.flatMap((value, i) => below(value, [String(i)], depth))
}

/** The arguments with another value at that place. */
export function replaced(
  args: readonly unknown[],
  [first, ...path]: readonly string[],
  value: unknown,
): unknown[] {
  return args.map((arg, i) => (String(i) === first ? replacedIn(arg, path, value) : arg))
}

function replacedIn(holder: unknown, [name, ...path]: readonly string[], value: unknown): unknown {
  if (name === undefined || !isPlain(holder)) return value
  const members = { ...holder, [name]: replacedIn(Reflect.get(holder, name), path, value) }
  return Array.isArray(holder) ? Object.values(members) : members
}

/** Object literals and arrays; keys, PINs, functions and what is frozen (a profile) are replaced as a whole. */
function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return false
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype
}
