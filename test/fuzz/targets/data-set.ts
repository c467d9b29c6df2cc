/** The SECCOS data set: reading, masking and building, each undoing another. */
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import {
  buildDataSet,
  type DataSetContent,
  dataSetFromHex,
  dataSetToHex,
  maskDataSet,
  readDataSet,
  type SeccosProfile,
  unmaskDataSet,
} from '../../../src/index.js'
import { inspectDataSet } from '../../../src/tools.js'
import { Input, textInput } from '../support/input.js'
import { attempt } from '../support/oracle.js'
import { MASKED, PAN_DIGITS, PIN_DIGITS, PROFILES, SECRET_VALUES } from '../support/seccos.js'
import { check, type FuzzTarget } from '../target.js'

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex').toUpperCase()

export const dataSetText: FuzzTarget = {
  name: 'data-set-hex',
  share: 70,
  seeds: MASKED.map(masked => textInput(toHex(masked))),
  run(bytes) {
    const text = new Input(bytes).text()
    const rule = { codes: ['ERR_DATA_SET'], hidden: [text] } as const
    const read = attempt(() => dataSetFromHex(text), rule)
    check((read !== undefined) === /^[0-9A-F]{246}$/.test(text), '246 upper-case hex digits and nothing else')
    if (read !== undefined) check(dataSetToHex(read) === text, 'writing undoes reading')
  },
}

/** A data set with one field written over, masked ones among them. */
const almost = fc
  .tuple(
    fc.integer({ min: 0, max: 1 }),
    fc.nat(),
    fc.uint8Array({ minLength: 123, maxLength: 123 }),
    fc.boolean(),
  )
  .map(([which, at, noise, nibbles]) => {
    const fields = PROFILES[which]?.fields ?? []
    const { offset = 0, length = 1 } = fields[at % fields.length] ?? {}
    const bytes = Uint8Array.from(MASKED[which] ?? [])
    // Digits, or bytes: what is almost packed decimal, ASCII or EBCDIC, and what is not.
    const part = noise.subarray(0, length).map(byte => (nibbles ? 0x30 + (byte % 10) + (byte & 0xc0) : byte))
    bytes.set(part, offset)
    return Uint8Array.from([which, ...bytes])
  })

export const dataSet: FuzzTarget = {
  name: 'data-set',
  share: 40,
  seeds: MASKED.map((masked, i) => Uint8Array.from([i, ...masked])),
  structured: almost,
  run(bytes) {
    const input = new Input(bytes)
    const profile = input.pick(PROFILES)
    const given = input.rest()
    const hidden = [toHex(given), Buffer.from(given).toString('latin1'), PAN_DIGITS, PIN_DIGITS]
    const rule = { codes: ['ERR_DATA_SET'], hidden, named: profile.fields.map(field => field.id) } as const
    if (given.length === 123) inspectWhatever(profile, given)
    const content = attempt(() => readDataSet({ profile, dataSet: given }), rule)
    const filled = attempt(() => unmaskDataSet({ profile, dataSet: given, ...SECRET_VALUES }), rule)
    if (filled !== undefined)
      check(isDeepStrictEqual(maskDataSet({ profile, full: filled }), given), 'masking undoes it')
    if (content === undefined) return
    check(filled !== undefined, 'what reads can be filled')
    const rebuilt = buildDataSet({ profile, ...SECRET_VALUES, ...content })
    // The AES profile has no intdatag; what a profile has not is left out, not refused.
    check(isDeepStrictEqual(rebuilt, filled), 'what was read builds the same data set')
    check(values(content).every(isPrintable), 'characters that were read are printable ASCII')
  },
}

const values = ({ fields, ...own }: DataSetContent): unknown[] => [
  ...Object.values(own),
  ...Object.values(fields),
]
const isPrintable = (value: unknown): boolean => typeof value !== 'string' || /^[\x20-\x7e]*$/.test(value)

/** For people: it shows what stands there, sound or not, and never a masked field that is not zero. */
function inspectWhatever(profile: SeccosProfile, bytes: Uint8Array): void {
  const text = inspectDataSet({ profile, prwDataSet: toHex(bytes) })
  check(/^[\x20-\x7e\n•…]*$/.test(text), 'plain text without control characters')
  const rows = text.split('\n').slice(3)
  for (const [i, field] of profile.fields.entries()) {
    if (!('masked' in field) || !field.masked) continue
    const part = bytes.subarray(field.offset, field.offset + field.length)
    if (part.every(byte => byte === 0)) continue
    // Field, offset and length, then dots.
    check(/^\w+ +\d+ +\d+ +•• /.test(rows[i] ?? ''), `the masked field ${field.id} is shown`)
  }
}
