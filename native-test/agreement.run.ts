/**
 * Random PINs, PANs, formats and keys through two backends, which must agree on every block: round trips, translations, and how
 * often a wrong PAN is refused, beside what theory says.
 *
 *     npm run agreement -- [--cases 1000000] [--format4 100000] [--batch 4096]
 */
import { randomBytes, randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { operationsOf } from '../src/backend/key.js'
import {
  type Backend,
  encipherPins,
  type Key,
  type KeyAlgorithm,
  Pan,
  Pin,
  translatePinBlocks,
} from '../src/index.js'
import { decipherClear } from '../src/pin/decipher.js'
import { FORMATS } from '../src/pin/formats/formats.js'
import { softwareBackend } from '../src/software.js'
import { openWith } from './provision.js'
import { makeToken } from './softhsm.js'

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    format4: { type: 'string', default: '100000' },
    batch: { type: 'string', default: '4096' },
  },
})
const BATCH = Number(values.batch)
const digits = (length: number): string => Array.from({ length }, () => randomInt(10)).join('')

interface Pair {
  readonly software: Key
  readonly token: Key
}
const KIDS: readonly { readonly kid: string; readonly algorithm: KeyAlgorithm; readonly bytes: number }[] = [
  { kid: 'T2', algorithm: 'tdea-2key', bytes: 16 },
  { kid: 'T3', algorithm: 'tdea-3key', bytes: 24 },
  { kid: 'A128', algorithm: 'aes-128', bytes: 16 },
  { kid: 'A192', algorithm: 'aes-192', bytes: 24 },
  { kid: 'A256', algorithm: 'aes-256', bytes: 32 },
]
const keys = KIDS.map(({ kid, algorithm, bytes }) => {
  const material = randomBytes(bytes).toString('hex').toUpperCase()
  return { kid, usage: 'pin-encryption', algorithm, material, hostDecipher: true } as const
})
const software: Backend = await softwareBackend({ keys: keys.map(({ hostDecipher: _, ...key }) => key) })
const token: Backend = await openWith(makeToken('agreement'), keys)
const pairs = new Map<string, Pair>()
for (const { kid } of keys) {
  const spec = { kid, usage: 'pin-encryption', hostDecipher: true } as const
  pairs.set(kid, { software: await software.bind(spec), token: await token.bind(spec) })
}
const pairOf = (kid: string): Pair => {
  const pair = pairs.get(kid)
  if (pair === undefined) throw new Error(kid)
  return pair
}

let cases = 0
let translations = 0
let disagreements = 0
const wrongPan: Record<number, { tried: number; refused: number }> = {}

/** One batch: enciphered here, deciphered there; translated in both; and held against another PAN. */
async function batch(
  format: 0 | 1 | 3 | 4,
  kid: string,
  to: { format: 0 | 3 | 4; kid: string },
): Promise<void> {
  const row = FORMATS[format]
  const pins = Array.from({ length: BATCH }, () => {
    const pan = digits(randomInt(10, 20))
    return { text: digits(randomInt(4, 13)), pan: Pan.from(pan) }
  })
  const { software: here, token: there } = pairOf(kid)
  const blocks = await encipherPins({
    pins: pins.map(({ text, pan }) => ({ pin: Pin.from(text), pan })),
    format,
    key: here,
  })
  const items = pins.map(({ pan }, i) => ({ block: blocks.slice(i * row.bytes, (i + 1) * row.bytes), pan }))
  const clear = await decipherClear(there, row, items, undefined)
  for (const [i, { text, pan }] of pins.entries()) {
    const pin = row.parse({ block: clear.subarray(i * row.bytes, (i + 1) * row.bytes), pan })
    if (pin.reveal() !== text) disagreements++
  }
  cases += BATCH
  // The ciphers themselves: what the token makes of the clear blocks is what was made here.
  const fields = new Uint8Array(clear.length)
  for (const [i, { pan }] of pins.entries()) row.panField?.(pan, fields, i * row.bytes)
  const again =
    row.panField === undefined
      ? await operationsOf(there).encipher(clear)
      : await operationsOf(there).encipherBound(clear, fields)
  if (Buffer.compare(again, blocks) !== 0) disagreements++
  const target = pairOf(to.kid)
  const way = { fromFormat: format, toFormat: to.format }
  const moved = await translatePinBlocks({ blocks: items, ...way, from: there, to: target.software })
  const back = await decipherClear(
    target.token,
    FORMATS[to.format],
    moved.map((one, i) => ({
      block: one.ok ? one.block : new Uint8Array(FORMATS[to.format].bytes),
      pan: pins[i]?.pan ?? Pan.from(digits(16)),
    })),
    undefined,
  )
  const bytes = FORMATS[to.format].bytes
  for (const [i, { text, pan }] of pins.entries()) {
    const one = FORMATS[to.format].parse({ block: back.subarray(i * bytes, (i + 1) * bytes), pan })
    if (one.reveal() !== text) disagreements++
  }
  translations += BATCH
  if (format === 1) return
  // PINs of four digits under PANs of 16 digits of which the first two account digits differ: what theory is about below.
  const shown = pins.map(() => {
    const pan = digits(16)
    const other = [...pan]
    for (const at of [3, 4]) other[at] = String((Number(pan[at]) + randomInt(1, 10)) % 10)
    return { pin: Pin.from(digits(4)), pan: Pan.from(pan), other: Pan.from(other.join('')) }
  })
  const bound = await encipherPins({ pins: shown.map(({ pin, pan }) => ({ pin, pan })), format, key: here })
  const wrong = shown.map(({ other }, i) => ({
    block: bound.slice(i * row.bytes, (i + 1) * row.bytes),
    pan: other,
  }))
  const opened = await decipherClear(here, row, wrong, undefined)
  const count = wrongPan[format] ?? { tried: 0, refused: 0 }
  wrongPan[format] = count
  for (const [i, { other }] of shown.entries()) {
    count.tried++
    try {
      row.parse({ block: opened.subarray(i * row.bytes, (i + 1) * row.bytes), pan: other }).dispose()
    } catch {
      count.refused++
    }
  }
}

const started = performance.now()
while (cases < Number(values.format4)) {
  const [from, to] = ['A128', 'A192', 'A256'].sort(() => randomInt(3) - 1)
  await batch(4, from ?? 'A128', { format: 4, kid: to ?? 'A256' })
}
const format4 = cases
const WAYS = [
  [0, 'T2', 3, 'T3'],
  [3, 'T3', 0, 'T2'],
  [1, 'T2', 3, 'T3'],
  [0, 'T3', 4, 'A128'],
  [4, 'A256', 0, 'T2'],
  [3, 'T2', 4, 'A192'],
] as const
for (let i = 0; cases + translations < Number(values.cases); i++) {
  const [format, kid, toFormat, toKid] = WAYS[i % WAYS.length] ?? WAYS[0]
  await batch(format, kid, { format: toFormat, kid: toKid })
}
/** Of ten digits XORed with two different ones' difference: of the 90 pairs of PAN digits and 10 PIN digits, what leaves 0 to 9. */
let stays = 0
for (let d = 0; d < 10; d++)
  for (let a = 0; a < 10; a++) for (let b = 0; b < 10; b++) if (a !== b && (d ^ a ^ b) < 10) stays++
const theory = 1 - (stays / 900) ** 2
console.log(
  JSON.stringify(
    {
      roundTrips: cases,
      ofFormat4: format4,
      translations,
      disagreements,
      seconds: Math.round((performance.now() - started) / 1000),
      wrongPan: Object.entries(wrongPan).map(([format, { tried, refused }]) => ({
        format: Number(format),
        tried,
        refused: refused / tried,
        theory: format === '4' ? 1 : Number(theory.toFixed(5)),
      })),
    },
    undefined,
    2,
  ),
)
await Promise.all([software.close(), token.close()])
process.exitCode = disagreements === 0 ? 0 : 1
