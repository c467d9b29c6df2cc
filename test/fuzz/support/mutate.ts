/** Mutations of a seed: a few small changes on top of one another, as a fuzzer makes them. */
import type { Random } from './random.js'

/** No input becomes longer: longer ones are refused by their length, which seeds show. */
const MAX_BYTES = 24_576

/** What parsers stumble over: limits of numbers, Unicode, names with a meaning, delimiters, encodings of nothing. */
const INTERESTING: readonly Uint8Array[] = [
  ...[
    '\0',
    '\n',
    '\r\n',
    '\r\n\r\n',
    ' ',
    '\t',
    '"',
    '\\',
    '\\u0000',
    '\\ud800',
    '\\u006b',
    '/',
    '//',
    '..',
    '.',
  ],
  ...['%2e', '%00', '%', '?', '#', ';', ':', ',', '=', '==', '-', '+', '_', '{', '}', '[', ']', '[]', '{}'],
  ...[
    '0',
    '-0',
    '1e999',
    '-1',
    '4',
    '12',
    '13',
    '65535',
    '65536',
    '2147483648',
    '9007199254740993',
    '1.5',
    'NaN',
  ],
  ...[
    'null',
    'true',
    '""',
    '__proto__',
    'constructor',
    'toString',
    'length',
    'kid',
    '"kid":"x",',
    '"d":"AA",',
  ],
  ...[
    '\uFEFF',
    '\u202E',
    '\u2028',
    '\u00E9',
    '\u0661\u0662\u0663\u0664',
    '\uFF11\uFF12',
    '\u{1F600}',
    'A\u0301',
  ],
  ...[
    'AA',
    'AQ',
    'AR',
    'A',
    '00',
    'FF',
    'ff',
    'F',
    '[[[[[[[[[[',
    '{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1',
  ],
].map(text => Uint8Array.from(Buffer.from(text)))
/** No UTF-8: an overlong slash, a surrogate, a lone continuation, the highest bytes. */
const NOT_UTF_8: readonly Uint8Array[] = [
  [0xc0, 0xaf],
  [0xed, 0xa0, 0x80],
  [0x80],
  [0xff, 0xfe],
  [0xf8, 0x88, 0x80, 0x80, 0x80],
].map(bytes => Uint8Array.from(bytes))
const PIECES: readonly Uint8Array[] = [...INTERESTING, ...NOT_UTF_8]

type Change = (bytes: Uint8Array, random: Random, others: readonly Uint8Array[]) => Uint8Array

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  const tail = bytes.subarray(Math.min(bytes.length, at + remove))
  const out = new Uint8Array(at + insert.length + tail.length)
  out.set(bytes.subarray(0, at))
  out.set(insert, at)
  out.set(tail, at + insert.length)
  return out.length <= MAX_BYTES ? out : out.slice(0, MAX_BYTES)
}

/** A range, most often a short one. */
function range(bytes: Uint8Array, random: Random): { at: number; length: number } {
  const at = random.below(bytes.length)
  const most = bytes.length - at
  return { at, length: Math.min(most, 1 + random.below(random.below(4) === 0 ? most : 8)) }
}

function changed(bytes: Uint8Array, at: number, change: (byte: number) => number): Uint8Array {
  const out = Uint8Array.from(bytes)
  if (at < out.length) out[at] = change(out[at] ?? 0)
  return out
}

const CHANGES: readonly Change[] = [
  (bytes, random) => changed(bytes, random.below(bytes.length), byte => byte ^ (1 << random.below(8))),
  (bytes, random) => changed(bytes, random.below(bytes.length), () => random.next()),
  (bytes, random) => changed(bytes, random.below(bytes.length), byte => byte + (random.below(2) * 2 - 1)),
  (bytes, random) => changed(bytes, random.below(bytes.length), byte => byte ^ 0x20),
  (bytes, random) => {
    const { at, length } = range(bytes, random)
    return splice(bytes, at, length, new Uint8Array())
  },
  (bytes, random) => bytes.slice(0, random.below(bytes.length + 1)),
  (bytes, random) => {
    const { at, length } = range(bytes, random)
    return splice(bytes, random.below(bytes.length), 0, bytes.slice(at, at + length))
  },
  (bytes, random) => splice(bytes, random.below(bytes.length + 1), 0, random.pick(PIECES)),
  (bytes, random) => {
    const piece = random.pick(PIECES)
    return splice(bytes, random.below(bytes.length + 1), piece.length, piece)
  },
  (bytes, random) => splice(bytes, random.below(bytes.length + 1), 0, random.bytes(1 + random.below(8))),
  (bytes, random, others) => {
    const other = random.pick(others)
    const { at, length } = range(other, random)
    return splice(bytes, random.below(bytes.length + 1), random.below(9), other.slice(at, at + length))
  },
  (bytes, random, others) => {
    const other = random.pick(others)
    return splice(bytes, random.below(bytes.length + 1), MAX_BYTES, other.slice(random.below(other.length)))
  },
  (bytes, random) => {
    const { at, length } = range(bytes, random)
    const piece = bytes.slice(at, at + length)
    const times = random.below(16) === 0 ? Math.ceil(17_000 / Math.max(1, length)) : 1 + random.below(12)
    const repeated = Buffer.concat(Array.from({ length: times }, () => piece))
    return splice(bytes, at, 0, Uint8Array.from(repeated))
  },
]

/** A mutant of one of the seeds; now and then a seed as it is. */
export function mutant(random: Random, seeds: readonly Uint8Array[]): Uint8Array {
  let bytes = random.pick(seeds)
  const rounds = random.below(16) === 0 ? 0 : 1 + random.below(1 + random.below(6))
  for (let i = 0; i < rounds; i++) bytes = random.pick(CHANGES)(bytes, random, seeds)
  return bytes
}
