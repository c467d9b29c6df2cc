/** Who looks at a text: the operations on strings that are given one, so that "it is refused by its length" can be seen. */

type Operation = (this: unknown, ...args: unknown[]) => unknown

/** What reads a text as a whole, by where it is found. */
const READERS: readonly (readonly [owner: object, names: readonly (string | symbol)[]])[] = [
  [
    String.prototype,
    Reflect.ownKeys(String.prototype).filter(name => name !== 'constructor' && name !== 'length'),
  ],
  [
    RegExp.prototype,
    ['exec', 'test', Symbol.match, Symbol.matchAll, Symbol.replace, Symbol.search, Symbol.split],
  ],
  [Buffer, ['from', 'byteLength']],
  [JSON, ['parse']],
  [TextEncoder.prototype, ['encode', 'encodeInto']],
]

/** Runs the work and returns the names of the operations that were applied to this very text, or had it as an argument. */
export async function readersOf(text: string, work: () => unknown): Promise<readonly string[]> {
  const seen: string[] = []
  const restore: (() => void)[] = []
  for (const [owner, names] of READERS) {
    for (const name of names) {
      const real = Object.getOwnPropertyDescriptor(owner, name)
      if (real === undefined || typeof real.value !== 'function') continue
      const operation = real.value as Operation
      const watched = function (this: unknown, ...args: unknown[]): unknown {
        if (this === text || args.includes(text)) seen.push(String(name))
        return Reflect.apply(operation, this, args)
      }
      Object.defineProperty(owner, name, { ...real, value: watched })
      restore.push(() => Object.defineProperty(owner, name, real))
    }
  }
  try {
    await work()
  } finally {
    for (const put of restore) put()
  }
  return seen
}
