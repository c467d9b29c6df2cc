/**
 * JSON as messages from the other side of a trust boundary are read: I-JSON (RFC 7493), and narrower. Two parsers
 * that read a message differently are a way in; so what they may read differently (duplicate names, lone surrogates,
 * `__proto__`) is refused, not resolved.
 */

/** Objects and arrays within one another, the outermost counted. The messages here use 2. */
export const MAX_JSON_DEPTH = 8

/** Names that reach an object's prototype when somebody merges or assigns what was parsed. */
const DANGEROUS_NAMES: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype'])

// A BOM is kept, and JSON.parse then refuses it; with `ignoreBOM: false` it would vanish.
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const LONE_SURROGATE = /\p{Cs}/u
const QUOTE = 0x22
const BACKSLASH = 0x5c

/**
 * Parses one JSON object, or returns undefined for anything else: not UTF-8, a BOM, a syntax error, no object at the
 * top, a name twice in one object (compared after unescaping, at every level), a name `__proto__`, `constructor` or
 * `prototype` at any level, lone surrogates, more than {@link MAX_JSON_DEPTH} levels. The caller raises its own error,
 * which cannot quote the text, for it learns no more than that.
 *
 * `input` is a string or UTF-8 bytes. Time and memory are linear in its length, which the caller bounds beforehand.
 * Read the result with {@link member}. Source: RFC 8259; RFC 7493, 2.1 and 2.3.
 *
 * @example
 * ```ts
 * parseJsonObject('{"kid":"ZPK-1"}') // { kid: 'ZPK-1' }
 * parseJsonObject('{"kid":"ZPK-1","k\\u0069d":"ZPK-2"}') // undefined
 * ```
 */
export function parseJsonObject(input: string | Uint8Array): Record<string, unknown> | undefined {
  try {
    const text = typeof input === 'string' ? input : UTF_8.decode(input)
    const value: unknown = JSON.parse(text)
    return isJsonObject(value) && isSound(text) ? value : undefined
  } catch {
    // The engine's SyntaxError quotes the text, so it goes no further.
    return undefined
  }
}

/** True for what a JSON object parses to: no array, no null. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** An own member of a parsed object, or undefined: what others put on `Object.prototype` is not part of a message. */
export function member(object: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

/** Walks over text that is JSON, syntactically, with the names of the objects that are open at each point. */
function isSound(text: string): boolean {
  if (LONE_SURROGATE.test(text)) return false
  /** One entry per open object (its names so far) or array (undefined). */
  const open: (Set<string> | undefined)[] = []
  let nameComesNext = false
  // Hardly any message has an escape; without one a string ends at the next quote.
  const hasEscapes = text.includes('\\')
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '{':
      case '[': {
        const names = text[at] === '{' ? new Set<string>() : undefined
        if (open.push(names) > MAX_JSON_DEPTH) return false
        nameComesNext = names !== undefined
        break
      }
      case '}':
      case ']':
        open.pop()
        nameComesNext = false
        break
      case ',':
        nameComesNext = open.at(-1) !== undefined
        break
      case '"': {
        const end = hasEscapes ? endOfString(text, at) : text.indexOf('"', at + 1) + 1
        const value = hasEscapes ? stringValue(text.slice(at, end)) : text.slice(at + 1, end - 1)
        if (value === undefined || (nameComesNext && !isNewName(open.at(-1), value))) return false
        nameComesNext = false
        at = end - 1
        break
      }
    }
  }
  return true
}

/** The index after the closing quote of the string that starts at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1
  for (;;) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at + 1
    at += code === BACKSLASH ? 2 : 1
  }
}

/** The value of a string literal; undefined where its escapes amount to a lone surrogate. */
function stringValue(literal: string): string | undefined {
  if (!literal.includes('\\')) return literal.slice(1, -1)
  const value: string = JSON.parse(literal)
  return LONE_SURROGATE.test(value) ? undefined : value
}

function isNewName(names: Set<string> | undefined, name: string): boolean {
  if (names === undefined || names.has(name) || DANGEROUS_NAMES.has(name)) return false
  names.add(name)
  return true
}
