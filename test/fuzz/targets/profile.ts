/** `parseProfile`: against its JSON schema, against itself, and what it accepts in use. */
import { isDeepStrictEqual } from 'node:util'
import { Ajv } from 'ajv'
import fc from 'fast-check'
import {
  buildDataSet,
  maskDataSet,
  parseProfile,
  readDataSet,
  type SeccosProfile,
} from '../../../src/index.js'
import profileSchema from '../../../src/seccos/profile/profile.schema.json' with { type: 'json' }
import { Input, textInput } from '../support/input.js'
import { attempt } from '../support/oracle.js'
import { INTDATAG, PROFILES, SECRET_VALUES } from '../support/seccos.js'
import { check, type FuzzTarget, once } from '../target.js'

const { $schema: _dialect, ...SCHEMA } = profileSchema
const schema = once(() => new Ajv({ strict: false, logger: false }).compile(SCHEMA))

/** Places of a profile, and what might stand there. */
const STRANGE = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    [],
    {},
    '',
    '0',
    -1,
    0,
    1,
    4,
    8,
    16,
    24,
    1.5,
    123,
    1e9,
    '00',
    'FF',
    'F',
    'none',
  ),
  fc.constantFrom<unknown>(
    'exact',
    'left',
    'right',
    'bcd',
    'ascii',
    'ebcdic',
    'binary',
    'pan',
    'pinBlock',
    'random',
  ),
  fc.constantFrom<unknown>(
    'cmac-aes',
    'cmac-tdea',
    'iso9797-1-alg1',
    'iso9797-1-alg3',
    'base64',
    'hex-lower',
    'psn',
  ),
  fc.string(),
)
const change = fc.record({
  place: fc.nat(),
  how: fc.constantFrom('replace', 'remove', 'add', 'double'),
  name: fc.constantFrom('extra', 'pad', 'masked', 'constant', '__proto__', 'a/b~c', 'constructor'),
  value: STRANGE,
})

type Node = { readonly of: object; readonly key: string }
function places(value: unknown): Node[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.keys(value).flatMap(key => [{ of: value, key }, ...places(Reflect.get(value, key))])
}

function apply(
  json: object,
  { place, how, name, value }: { place: number; how: string; name: string; value: unknown },
): void {
  const all = places(json)
  const node = all[place % all.length]
  if (node === undefined) return
  const { of, key } = node
  if (how === 'replace') Reflect.set(of, key, value)
  else if (how === 'remove' && !Array.isArray(of)) Reflect.deleteProperty(of, key)
  else if (how === 'remove') (of as unknown[]).splice(Number(key), 1)
  else if (how === 'add' && !Array.isArray(of))
    Object.defineProperty(of, name, { value, enumerable: true, configurable: true, writable: true })
  else if (how === 'double' && Array.isArray(of)) of.splice(Number(key), 0, of[Number(key)])
}

const almost = fc
  .tuple(fc.constantFrom(...PROFILES), fc.array(change, { minLength: 1, maxLength: 3 }))
  .map(([profile, changes]) => {
    const json = structuredClone(profile)
    for (const each of changes) apply(json, each)
    return textInput(JSON.stringify(json))
  })

export const profile: FuzzTarget = {
  name: 'profile',
  share: 30,
  seeds: PROFILES.map(each => textInput(JSON.stringify(each))),
  structured: almost,
  run(bytes) {
    let json: unknown
    try {
      json = JSON.parse(new Input(bytes).text())
    } catch {
      return
    }
    // A pointer names members; what the inputs leave out is named by the ids of fields.
    const named = places(json).flatMap(({ of, key }) => [
      pointer(key),
      key === 'id' ? String(Reflect.get(of, key)) : '',
    ])
    const hidden = leaves(json)
    const parsed = attempt(() => parseProfile(json), { codes: ['ERR_PROFILE'], hidden, named })
    if (parsed === undefined) return
    check(schema()(json) === true, 'what is accepted is valid by the schema')
    check(
      isDeepStrictEqual(JSON.parse(JSON.stringify(parsed)), json),
      'a parsed profile is the data it was read from',
    )
    check(isDeepStrictEqual(parseProfile(JSON.parse(JSON.stringify(parsed))), parsed), 'and reads as itself')
    check(Object.isFrozen(parsed) && Object.isFrozen(parsed.fields[0]), 'and cannot be changed')
    requireTiling(parsed)
    use(parsed)
  },
}

const pointer = (name: string): string => name.slice(0, 64).replaceAll('~', '~0').replaceAll('/', '~1')

/** The strings and numbers of a value: what no message may show. */
function leaves(value: unknown): string[] {
  if (typeof value === 'string' || typeof value === 'number') return [String(value)]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(leaves) : []
}

/** What the schema cannot say: each byte in one field, each id once, and PAN and PIN masked. */
function requireTiling({ fields }: SeccosProfile): void {
  const owners = fields.flatMap(({ id, offset, length }) =>
    Array.from({ length }, (_, i) => [offset + i, id] as const),
  )
  check(owners.length === 123 && owners.every(([at], i) => at === i), 'the fields tile the data set in order')
  check(new Set(fields.map(({ id }) => id)).size === fields.length, 'each id is there once')
  const open = fields.filter(field => !('masked' in field && field.masked)).map(({ id }) => id)
  check(!open.some(id => ['pan', 'pinBlock', 'pinLength'].includes(id)), 'PAN and PIN are masked')
}

/** A data set by a profile that was accepted: it is built, or a value does not fit; and what is built reads. */
function use(parsed: SeccosProfile): void {
  const RESERVED = ['pan', 'pinBlock', 'pinLength', 'random', 'pcc', 'intdatag']
  const own = parsed.fields.filter(field => !('constant' in field) && !RESERVED.includes(field.id))
  const fields = Object.fromEntries(
    own.map(field => {
      const binary = 'encoding' in field && field.encoding === 'binary'
      return [field.id, binary ? new Uint8Array(field.length) : '1'.repeat(field.length)]
    }),
  )
  const random = new Uint8Array(parsed.randomBytes)
  const values = { ...SECRET_VALUES, pcc: '0042', intdatag: INTDATAG, random, fields }
  const named = parsed.fields.map(field => field.id)
  const full = attempt(() => buildDataSet({ profile: parsed, ...values }), { codes: ['ERR_DATA_SET'], named })
  if (full === undefined) return
  const masked = maskDataSet({ profile: parsed, full })
  check(readDataSet({ profile: parsed, dataSet: masked }) !== undefined, 'what was built and masked reads')
}
