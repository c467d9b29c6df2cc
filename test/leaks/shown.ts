/** Everything a value shows of itself wherever a program, a logger or an error tracker might look. */
import { Console } from 'node:console'
import { Writable } from 'node:stream'
import { format, inspect, types } from 'node:util'

/** Deep enough for every object of this library, and for a cause chain. */
const DEPTH = 12

/** All texts that the value gives away, one after the other. Secrets behind a method that says so are not asked for. */
export function everythingShown(value: unknown): string {
  const texts: string[] = [
    inspect(value, {
      depth: DEPTH,
      showHidden: true,
      getters: true,
      maxStringLength: null,
      maxArrayLength: null,
    }),
    inspect(value, { depth: DEPTH, customInspect: false, showHidden: true, maxStringLength: null }),
    attempt(() => JSON.stringify(value)),
    attempt(() => String(value)),
    attempt(() => `${value}`),
    attempt(() => inspect(structuredClone(value), { depth: DEPTH, showHidden: true })),
    attempt(() => inspect(Object.entries(value as object), { depth: 2 })),
    ...['%s', '%o', '%O', '%j', '%d'].map(how => attempt(() => format(how, value))),
    printed(value),
  ]
  walk(value, texts, new Set(), 0)
  return texts.join('\n')
}

const looked = new Set<string>()

/**
 * {@link everythingShown} of an error. The second of a kind (same class, same members but for the stack) shows nothing
 * else than the first, so that its members and its stack are enough: thousands of errors pass here.
 */
export function errorShown(error: unknown): string {
  if (!(error instanceof Error) || error.cause !== undefined) return everythingShown(error)
  const names = Reflect.ownKeys(error).filter(name => name !== 'stack')
  const members = names.map(name => [String(name), Reflect.get(error, name)] as const)
  if (members.some(([, value]) => typeof value === 'object' && value !== null)) return everythingShown(error)
  const kind = `${error.name} ${members.map(([name, value]) => `${name}: ${String(value)}`).join('\n')}`
  if (looked.has(kind)) return `${kind}\n${error.stack}`
  looked.add(kind)
  return everythingShown(error)
}

/** What cannot be shown one way (a function has no clone) is shown by the others; the reason is looked at as well. */
function attempt(show: () => unknown): string {
  try {
    return String(show())
  } catch (error) {
    return error instanceof Error ? error.message : ''
  }
}

/** What `console` makes of it. */
function printed(value: unknown): string {
  const chunks: string[] = []
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      chunks.push(String(chunk))
      done()
    },
  })
  const out = new Console({ stdout: stream, stderr: stream })
  out.log(value)
  out.error('failed:', value)
  out.dir(value, { depth: DEPTH, showHidden: true })
  attempt(() => out.table(value))
  return chunks.join('')
}

/** Every member, own or inherited, enumerable or not, symbols and getters too; causes, and the errors of an aggregate. */
function walk(value: unknown, texts: string[], seen: Set<unknown>, depth: number): void {
  if (typeof value === 'string' || typeof value === 'symbol') texts.push(String(value))
  if (typeof value === 'bigint' || typeof value === 'number') texts.push(String(value))
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return
  if (seen.has(value) || depth > DEPTH || isForeign(value)) return
  seen.add(value)
  if (types.isProxy(value)) return
  if (ArrayBuffer.isView(value)) {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    texts.push(bytes.toString('hex'), bytes.toString('latin1'))
    return
  }
  if (types.isAnyArrayBuffer(value)) {
    walk(new Uint8Array(value), texts, seen, depth)
    return
  }
  if (types.isMap(value) || types.isSet(value)) {
    for (const entry of value) walk(entry, texts, seen, depth + 1)
  }
  for (
    let holder: object | null = value;
    holder !== null && !isForeign(holder);
    holder = Object.getPrototypeOf(holder)
  ) {
    for (const name of Reflect.ownKeys(holder)) {
      texts.push(String(name))
      walk(read(value, name), texts, seen, depth + 1)
    }
  }
}

function read(value: object, name: PropertyKey): unknown {
  try {
    return Reflect.get(value, name)
  } catch (error) {
    return error
  }
}

/** The platform's own prototypes and constructors: large, and nobody's secret. */
const FOREIGN: ReadonlySet<unknown> = new Set([
  Object.prototype,
  Function.prototype,
  Array.prototype,
  Error.prototype,
  Promise.prototype,
  globalThis,
  process,
])

function isForeign(value: unknown): boolean {
  return (
    FOREIGN.has(value) ||
    (typeof value === 'function' && /\[native code\]\s*\}$/.test(Function.prototype.toString.call(value)))
  )
}
