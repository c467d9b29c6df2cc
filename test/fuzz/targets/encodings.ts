/** Hex, base64url and strict JSON, each against another way of reading it. */
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { decodeBase64url, encodeBase64url, fromHex, toHex } from '../../../src/base/bytes.js'
import { parseJsonObject } from '../../../src/base/json.js'
import { Input, textInput } from '../support/input.js'
import { attempt } from '../support/oracle.js'
import { strictJson } from '../support/strict-json.js'
import { check, type FuzzTarget } from '../target.js'

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

/** Base64url by bits (RFC 4648, 5): undefined where bits are left over that are not zero, or a whole character is. */
function naiveBase64url(text: string): readonly number[] | undefined {
  let bits = 0
  let count = 0
  const bytes: number[] = []
  for (let i = 0; i < text.length; i++) {
    const value = ALPHABET.indexOf(text.charAt(i))
    if (value < 0) return undefined
    bits = (bits << 6) | value
    count += 6
    if (count < 8) continue
    count -= 8
    bytes.push(bits >> count)
    bits &= (1 << count) - 1
  }
  return count < 6 && bits === 0 ? bytes : undefined
}

export const base64url: FuzzTarget = {
  name: 'base64url',
  share: 110,
  seeds: ['', 'AQ', 'AR', 'AQI', 'AQID', 'AQID_-', 'AQ==', 'A+/A', 'A'].map(text => textInput(text)),
  structured: fc.string({ unit: fc.constantFrom(...ALPHABET), maxLength: 70 }).map(text => textInput(text)),
  run(bytes) {
    const text = new Input(bytes).text()
    const read = decodeBase64url(text)
    check(isDeepStrictEqual(read && Array.from(read), naiveBase64url(text)), 'base64url reads as by bits')
    if (read !== undefined) check(encodeBase64url(read) === text, 'encoding undoes decoding')
    check(
      isDeepStrictEqual(decodeBase64url(encodeBase64url(bytes)), Uint8Array.from(bytes)),
      'and the other way',
    )
  },
}

export const hexText: FuzzTarget = {
  name: 'hex',
  share: 110,
  seeds: ['', '00', '0123456789abcdefABCDEF', '0', '0x12', 'G0', ' 12'].map(text => textInput(text)),
  structured: fc
    .string({ unit: fc.constantFrom(...'0123456789abcdefABCDEFg'), maxLength: 64 })
    .map(text => textInput(text)),
  run(bytes) {
    const text = new Input(bytes).text()
    const read = attempt(() => fromHex(text, 'value'), { codes: ['ERR_ENCODING'], hidden: [text] })
    let sound = text.length % 2 === 0
    for (let i = 0; i < text.length; i++) sound &&= '0123456789abcdefABCDEF'.includes(text.charAt(i))
    check((read !== undefined) === sound, 'hex is digits in pairs')
    if (read !== undefined) check(toHex(read) === text.toUpperCase(), 'and comes back')
  },
}

const json = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { depthSize: 'small', maxDepth: 9 },
    fc.oneof(fc.string(), fc.double({ noNaN: true }), fc.boolean(), fc.constant(null), fc.integer()),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.constantFrom('kid', 'a', 'b', 'c', 'typ', 'cty', 'epk', '\u00e9', '', 'constructor'),
      tie('value'),
    ),
  ),
}))
/** A member said twice, once with an escape; pairs and halves of surrogates; white space. */
const almostJson = fc
  .tuple(
    json.value,
    fc.constantFrom('', '', ' ', '\n', '\uFEFF', '\u00a0'),
    fc.constantFrom('k', '\\u006b', 'K', 'l', '\\u006c', '\\ud83d\\ude00', '\\ud83d'),
  )
  .map(([value, space, name]) => `${space}{"k":${JSON.stringify(value)},${space}"${name}":1}${space}`)

export const strictJsonText: FuzzTarget = {
  name: 'strict-json',
  share: 60,
  seeds: [
    '{}',
    '{"type":"ISO0","encryptedPinBlock":"eyJ.."}',
    '{"kid":"ZPK-1","k\\u0069d":"ZPK-2"}',
    '{"a":[1,-0.5e+3,{"b":[true,false,null]}],"\\ud83d\\ude00":"\\/\\b\\f\\n\\r\\t"}',
    '{"a":{"a":{"a":{"a":{"a":{"a":{"a":{}}}}}}}}',
    '[[[[[[[[[]]]]]]]]]',
    // Eight levels, and nine.
    `${'{"a":'.repeat(7)}{}${'}'.repeat(7)}`,
    `${'{"a":'.repeat(8)}[]${'}'.repeat(8)}`,
    '{"a":"\\ud83d","b":"\\ude00"}',
  ].map(text => textInput(text)),
  structured: almostJson.map(text => textInput(text)),
  run(bytes) {
    const text = new Input(bytes).text()
    const read = parseJsonObject(text)
    check(isDeepStrictEqual(normal(read), normal(strictJson(text))), 'two strict parsers read one thing')
    if (read !== undefined) {
      check(isDeepStrictEqual(JSON.parse(text), read), 'what is accepted is what JSON.parse reads')
      const again = parseJsonObject(JSON.stringify(read))
      check(isDeepStrictEqual(normal(again), normal(read)), 'writing and reading gives the same')
    }
    const utf8 = bytes.subarray(1)
    const asText = Buffer.from(utf8).toString('utf8')
    const isUtf8 = Buffer.from(asText).equals(utf8)
    const due = isUtf8 ? strictJson(asText) : undefined
    check(isDeepStrictEqual(normal(parseJsonObject(utf8)), normal(due)), 'bytes are read as their UTF-8')
  },
}

/** JSON has one zero; and numbers beyond double are infinite in both. */
function normal(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value) ?? 'null')
}
