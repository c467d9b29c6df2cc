/** What of the PKCS#11 side is parsing: points as tokens give them, pkcs11: URIs, options. */
import { createPublicKey } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { pointOf } from '../../../src/backend/pkcs11/mechanisms/p256.js'
import { type Pkcs11Options, readSettings } from '../../../src/backend/pkcs11/session/options.js'
import { readTokenQuery } from '../../../src/backend/pkcs11/session/token.js'
import { b64u, fromB64u, RECIPIENT } from '../../jwe/support.js'
import { bytesInput, Input, textInput } from '../support/input.js'
import { attempt } from '../support/oracle.js'
import { check, type FuzzTarget } from '../target.js'

const POINT = bytesInput(4, fromB64u(RECIPIENT.x), fromB64u(RECIPIENT.y))

export const ecPoint: FuzzTarget = {
  name: 'ec-point',
  share: 60,
  seeds: [
    bytesInput(4, 65, POINT),
    POINT,
    bytesInput(POINT, 4),
    bytesInput(4, 65, POINT, 4),
    bytesInput(3, 66, 0, POINT),
  ],
  run(bytes) {
    const point = pointOf(bytes)
    if (point === undefined) return
    check(
      point.length === 65 && Buffer.from(bytes).includes(Buffer.from(point)),
      'the point is part of what was given',
    )
    check(bytes.length - point.length <= 2, 'with two bytes around it at most')
    const [x, y] = [b64u(point.subarray(1, 33)), b64u(point.subarray(33))]
    // OpenSSL refuses a point off the curve.
    createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y } as never, format: 'jwk' })
  },
}

/** RFC 7512 by hand: attributes, each once, percent-encoded UTF-8. */
/** What may be in a URI and says nothing of a token. */
/** The bytes of an id, RFC 7512: percent-encoded, or characters of a path. */
const PCHARS = /^[A-Za-z0-9._~:[\]@!$'()*+,=&-]+$/
const HARMLESS =
  /^(object|id|type|library-description|library-manufacturer|library-version|slot-description|slot-manufacturer)$/

function naiveQuery(uri: string): Record<string, string> | undefined {
  const NAMES: Readonly<Record<string, string>> = {
    token: 'label',
    serial: 'serial',
    manufacturer: 'manufacturer',
    model: 'model',
  }
  const found: Record<string, string> = {}
  const seen = new Set<string>()
  for (const part of uri.slice(7).split(';')) {
    const at = part.indexOf('=')
    const name = part.slice(0, Math.max(0, at))
    const value = part.slice(at + 1)
    const member = Object.entries(NAMES).find(([known]) => known === name)?.[1]
    if ((member === undefined && !HARMLESS.test(name)) || seen.has(name)) return undefined
    seen.add(name)
    try {
      // An id is bytes, which need not be UTF-8.
      const text = name === 'id' ? value.replace(/%[0-9a-f]{2}/gi, 'x') : decodeURIComponent(value)
      if (name === 'id' && !PCHARS.test(text)) return undefined
      // A blank one would match every token that has none.
      if (name !== 'id' && text.replace(/[\s\0]/g, '') === '') return undefined
      if (member !== undefined) found[member] = text
    } catch {
      return undefined
    }
  }
  return 'label' in found || 'serial' in found ? found : undefined
}

export const tokenQuery: FuzzTarget = {
  name: 'pkcs11-uri',
  share: 60,
  seeds: [
    'pkcs11:token=issuer;serial=a1b2',
    'PKCS11:token=%C3%A9;model=x;manufacturer=y',
    'pkcs11:token=a?pin-value=1234',
    'pkcs11:object=x',
    'issuer',
    ' ',
  ].map(text => textInput(text)),
  structured: fc
    .array(
      fc.tuple(
        fc.constantFrom('token', 'serial', 'model', 'manufacturer', 'id', '', '__proto__', 'constructor'),
        fc.constantFrom('=', '==', '', ' ='),
        fc.oneof(fc.string(), fc.constantFrom('%41', '%ff', '%', '')),
      ),
      { maxLength: 4 },
    )
    .map(parts => textInput(`pkcs11:${parts.map(part => part.join('')).join(';')}`)),
  run(bytes) {
    const text = new Input(bytes).text()
    const query = attempt(() => readTokenQuery(text), {
      codes: ['ERR_ARGUMENT'],
      hidden: [text],
      named: ['manufacturer'],
    })
    const uri = /^pkcs11:/i.test(text)
    const due = !uri
      ? text.replace(/[\s\0]/g, '') === ''
        ? undefined
        : { label: text }
      : text.includes('?')
        ? undefined
        : naiveQuery(text)
    check(isDeepStrictEqual(query && { ...query }, due), 'a URI is read as by hand, anything else is a label')
  },
}

const NAMES = [
  'module',
  'token',
  'pin',
  'userType',
  'allowFinalTry',
  'initParameters',
  'sessions',
  'keys',
  'composedMac',
  'retailMac',
  'translateInToken',
  'extractSharedSecret',
  'library',
  '__proto__',
]
const anything = fc.oneof(
  fc.constantFrom<unknown>(
    true,
    false,
    null,
    0,
    1,
    8,
    4097,
    -1,
    1.5,
    '',
    'x',
    [],
    {},
    { label: 'a' },
    { serial: 's', slot: 1 },
    { max: 4 },
    { max: 0 },
    { queue: 'x' },
    { waitMs: 1e9 },
  ),
  fc.constantFrom<unknown>(
    { 'K-1': { label: 'l', id: '0A' } },
    { 'K-1': { id: 'zz' } },
    { 'K-1': null },
    { 'K-1': [] },
    'thales-luna',
    { readWrite: true },
  ),
  fc.string(),
)
const settings = fc
  .array(fc.tuple(fc.constantFrom(...NAMES), anything), { maxLength: 3 })
  .map(changes =>
    textInput(JSON.stringify({ module: '/lib/x.so', token: 'issuer', ...Object.fromEntries(changes) })),
  )

export const pkcs11Options: FuzzTarget = {
  name: 'pkcs11-options',
  share: 30,
  seeds: [
    textInput(
      '{"module":"/lib/x.so","token":"issuer","sessions":{"max":4,"queue":9,"waitMs":10},"keys":{"K-1":{"label":"l","id":"0a"}}}',
    ),
    textInput('{"module":"/lib/x.so","token":{"label":"a","serial":"b"},"composedMac":true,"userType":1}'),
  ],
  structured: settings,
  run(bytes) {
    const text = new Input(bytes).text()
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch {
      return
    }
    const read = attempt(() => readSettings(json as Pkcs11Options, 'pkcs11Backend'), {
      codes: ['ERR_ARGUMENT'],
      hidden: [text],
      named: namesIn(json),
    })
    if (read === undefined) return
    const { limits, probe } = read
    check(
      limits.max >= 1 && limits.max <= 4096 && limits.queue >= 0 && limits.waitMs >= 0,
      'limits that are some',
    )
    check(
      typeof probe.composedMac === 'boolean' && typeof probe.extractSharedSecret === 'boolean',
      'what weakens is said',
    )
  },
}

/** Members at every level: what messages name, cut as they cut it. */
function namesIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) => [name, name.slice(0, 40), ...namesIn(inner)])
}
