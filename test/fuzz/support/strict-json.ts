/**
 * The strict JSON of `src/base/json.ts` once more, as a parser by recursive descent that shares no code and no idea with it
 * (that one takes `JSON.parse` and walks over the text): RFC 8259, one object, no name twice, no dangerous names, no
 * lone surrogates, eight levels. Returns undefined for anything else.
 */
type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json }

const DANGEROUS = ['__proto__', 'constructor', 'prototype']
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const SPACE = /[ \t\n\r]*/y
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

class Refused extends Error {}

class Parser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  whole(): { readonly [name: string]: Json } {
    this.#space()
    const value = this.#object(1)
    this.#space()
    if (this.#at !== this.#text.length) throw new Refused()
    return value
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const [found] = pattern.exec(this.#text) ?? []
    if (found === undefined) throw new Refused()
    this.#at += found.length
    return found
  }

  #space(): void {
    this.#match(SPACE)
  }

  #eat(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #need(text: string): void {
    if (!this.#eat(text)) throw new Refused()
  }

  #value(level: number): Json {
    const first = this.#text.charAt(this.#at)
    if (first === '{') return this.#object(level)
    if (first === '[') return this.#array(level)
    if (first === '"') return this.#string()
    if (this.#eat('null')) return null
    if (this.#eat('true')) return true
    if (this.#eat('false')) return false
    return Number(this.#match(NUMBER))
  }

  #object(level: number): { readonly [name: string]: Json } {
    this.#need('{')
    if (level > 8) throw new Refused()
    const members = new Map<string, Json>()
    this.#space()
    if (!this.#eat('}')) {
      do {
        this.#space()
        const name = this.#string()
        if (members.has(name) || DANGEROUS.includes(name)) throw new Refused()
        this.#space()
        this.#need(':')
        this.#space()
        members.set(name, this.#value(level + 1))
        this.#space()
      } while (this.#eat(','))
      this.#need('}')
    }
    return Object.fromEntries(members)
  }

  #array(level: number): readonly Json[] {
    this.#need('[')
    if (level > 8) throw new Refused()
    const entries: Json[] = []
    this.#space()
    if (this.#eat(']')) return entries
    do {
      this.#space()
      entries.push(this.#value(level + 1))
      this.#space()
    } while (this.#eat(','))
    this.#need(']')
    return entries
  }

  #string(): string {
    this.#need('"')
    let text = ''
    for (;;) {
      const character = this.#text.charAt(this.#at++)
      if (character === '' || character < ' ') throw new Refused()
      if (character === '"') break
      text += character === '\\' ? this.#escape() : character
    }
    // A pair may be put together of an escape and a character; a half that stands alone may not.
    for (const character of text) {
      const code = character.codePointAt(0) ?? 0
      if (code >= 0xd800 && code <= 0xdfff) throw new Refused()
    }
    return text
  }

  #escape(): string {
    if (this.#eat('u')) return String.fromCharCode(Number.parseInt(this.#match(/[0-9a-fA-F]{4}/y), 16))
    const meaning = ESCAPES[this.#text.charAt(this.#at++)]
    if (meaning === undefined) throw new Refused()
    return meaning
  }
}

export function strictJson(text: string): { readonly [name: string]: Json } | undefined {
  try {
    return new Parser(text).whole()
  } catch (error) {
    if (error instanceof Refused) return undefined
    throw error
  }
}
