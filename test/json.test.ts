import { afterEach, describe, expect, it } from 'vitest'
import { MAX_JSON_DEPTH, member, parseJsonObject } from '../src/base/json.js'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const nested = (depth: number): string => `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`
const nestedArrays = (depth: number): string => `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`

describe('parseJsonObject refuses', () => {
  it.each([
    ['the empty text', ''],
    ['white space', '  \n'],
    ['an array', '[{"a":1}]'],
    ['a string', '"a"'],
    ['a number', '1'],
    ['true', 'true'],
    ['null', 'null'],
    ['an open object', '{"a":1'],
    ['text after the object', '{"a":1}}'],
    ['two objects', '{"a":1}{"a":1}'],
    ['a trailing comma', '{"a":1,}'],
    ['a comment', '{"a":1/* */}'],
    ['single quotes', "{'a':1}"],
    ['a bare name', '{a:1}'],
    ['NaN', '{"a":NaN}'],
    ['a raw control character', '{"a":"\n"}'],
    ['a byte order mark', '\ufeff{"a":1}'],
    ['a duplicate name', '{"a":1,"a":2}'],
    ['a duplicate name with one value', '{"a":1,"b":2,"a":1}'],
    ['a duplicate name, escaped', '{"kid":1,"k\\u0069d":2}'],
    ['a duplicate name, escaped twice differently', '{"\\u006bid":1,"k\\u0069d":2}'],
    ['a duplicate of a name with a quote', '{"a\\"b":1,"a\\u0022b":2}'],
    ['a duplicate of a name with a backslash', '{"a\\\\":1,"a\\u005c":2}'],
    ['a duplicate of a name with a slash', '{"a/b":1,"a\\/b":2}'],
    ['a duplicate empty name', '{"":1,"":2}'],
    ['a duplicate name deeper', '{"a":{"b":1,"b":2}}'],
    ['a duplicate name in an object in an array', '{"a":[1,{"b":1,"b":2}]}'],
    ['a duplicate name after an inner object', '{"a":{"b":1},"a":2}'],
    ['a duplicate name after an inner array', '{"a":["b","a"],"c":1,"a":2}'],
    ['__proto__', '{"__proto__":{"zip":"DEF"}}'],
    ['__proto__, escaped', '{"__pr\\u006fto__":1}'],
    ['__proto__ deeper', '{"a":{"__proto__":1}}'],
    ['__proto__ in an array', '{"a":[{"__proto__":1}]}'],
    ['constructor', '{"constructor":{"prototype":{}}}'],
    ['prototype', '{"a":{"prototype":1}}'],
    ['a lone high surrogate, escaped', '{"a":"\\ud800"}'],
    ['a lone low surrogate, escaped', '{"a":"\\udc00x"}'],
    ['surrogates in the wrong order', '{"a":"\\udc00\\ud800"}'],
    ['a lone surrogate in a name', '{"a\\ud800":1}'],
    ['one level too many', nested(MAX_JSON_DEPTH + 1)],
    ['one level of arrays too many', nestedArrays(MAX_JSON_DEPTH + 1)],
  ])('%s', (_, text) => {
    expect(parseJsonObject(text)).toBeUndefined()
    expect(parseJsonObject(utf8(text))).toBeUndefined()
  })

  it('a lone surrogate that stands in a string as it is', () => {
    expect(parseJsonObject('{"a":"\ud800"}')).toBeUndefined()
  })

  it.each([
    ['a stray continuation byte', [0x80]],
    ['a truncated sequence', [0xc3]],
    ['an overlong quote', [0xc0, 0xa2]],
    ['an encoded surrogate', [0xed, 0xa0, 0x80]],
    ['a code point beyond Unicode', [0xf4, 0x90, 0x80, 0x80]],
  ])('bytes that are not UTF-8: %s', (_, bytes) => {
    expect(parseJsonObject(Uint8Array.from([...utf8('{"a":"'), ...bytes, ...utf8('"}')]))).toBeUndefined()
  })

  it('what is neither a string nor bytes', () => {
    expect(parseJsonObject({ a: 1 } as never)).toBeUndefined()
  })

  it('a million open brackets, without a stack overflow', () => {
    expect(parseJsonObject('['.repeat(1_000_000))).toBeUndefined()
    expect(parseJsonObject(nestedArrays(1_000_000))).toBeUndefined()
  })
})

describe('parseJsonObject accepts', () => {
  it.each([
    ['{}'],
    [' {"a" : 1 } \r\n\t'],
    ['{"a":"\\"","b":"\\\\","c":"\\\\\\"{[,"}'],
    ['{"a":"b","b":"a","c":["a","a","b"]}'],
    ['{"a":{"a":{"a":1}},"b":{"a":1}}'],
    ['{"a":[{"b":1},{"b":1}],"b":[[],{}]}'],
    ['{"a":"__proto__","b":["constructor","prototype"]}'],
    ['{"":1,"é":"\\ud83d\\ude00","😀":null,"n":-1.5e3,"t":true}'],
    ['{"toString":1,"hasOwnProperty":2,"valueOf":3}'],
    [nested(MAX_JSON_DEPTH)],
    [nestedArrays(MAX_JSON_DEPTH)],
  ])('%s, as JSON.parse reads it', text => {
    expect(parseJsonObject(text)).toEqual(JSON.parse(text))
    expect(parseJsonObject(utf8(text))).toEqual(JSON.parse(text))
  })

  it('reads bytes in the middle of a larger buffer', () => {
    expect(parseJsonObject(utf8('xx{"a":1}yy').subarray(2, 9))).toEqual({ a: 1 })
  })

  it('half a million names: looking at each pair of them would not end within the limit of a test', () => {
    const names = Array.from({ length: 500_000 }, (_, i) => `"n${i}":"${'\\u0061'.repeat(4)}"`)
    expect(Object.keys(parseJsonObject(`{${names.join(',')}}`) ?? {})).toHaveLength(500_000)
  })
})

describe('member', () => {
  afterEach(() => {
    Reflect.deleteProperty(Object.prototype, 'zip')
  })

  it('reads own members only', () => {
    Object.defineProperty(Object.prototype, 'zip', { value: 'DEF', configurable: true })
    expect(member({}, 'zip')).toBeUndefined()
    expect(member({}, 'toString')).toBeUndefined()
    expect(member({ zip: 'own' }, 'zip')).toBe('own')
  })
})
