/** Key material, check values and public keys: node-forge, node:crypto and jose compute what must come out. */
import { createECDH, createPublicKey } from 'node:crypto'
import fc from 'fast-check'
import { calculateJwkThumbprint } from 'jose'
import forge from 'node-forge'
import { type BindSpec, importRecipient, type Key, type KeyUsage } from '../../../src/index.js'
import { type SoftwareBackendOptions, softwareBackend } from '../../../src/software.js'
import { b64u, RECIPIENT, RECIPIENT_PRIVATE } from '../../jwe/support.js'
import { Input, textInput } from '../support/input.js'
import { attempt, attemptAsync } from '../support/oracle.js'
import { check, type FuzzTarget } from '../target.js'

const TDEA = '0123456789ABCDEFFEDCBA9876543210'
const AES = '2B7E151628AED2A6ABF7158809CF4F3C'
const EC = '11'.repeat(32)
const USAGES: readonly (KeyUsage | 'sign')[] = [
  'pin-encryption',
  'cbc-mac',
  'retail-mac',
  'cmac',
  'prw-generate',
  'prw-verify',
  'jwe-key-agreement',
  'sign',
]
const ALGORITHMS = ['tdea-2key', 'tdea-3key', 'aes-128', 'aes-192', 'aes-256', 'ec-p256', 'rsa'] as const

/** What is in an input, as JSON: a key and how it is bound. */
interface Spec {
  readonly key?: unknown
  readonly bind?: unknown
}

const material = fc.oneof(
  fc.constantFrom<unknown>(
    TDEA,
    TDEA.toLowerCase(),
    AES,
    EC,
    `${TDEA}1122334455667788`,
    AES + AES,
    TDEA.slice(1),
    'x',
    7,
    null,
  ),
  fc.constantFrom<unknown>(
    '0101010101010101FEDCBA9876543210',
    '0123456789ABCDEF0123456789ABCDEE',
    '00'.repeat(32),
    'FF'.repeat(32),
  ),
  fc.constantFrom<unknown>(
    RECIPIENT_PRIVATE,
    RECIPIENT,
    { ...RECIPIENT_PRIVATE, x: RECIPIENT.y },
    { kty: 'oct', k: b64u(Buffer.from(AES, 'hex')) },
  ),
  fc.constantFrom<unknown>(
    { kty: 'oct', k: `${b64u(Buffer.from(AES, 'hex'))}=` },
    { kty: 'oct' },
    { kty: 'EC', d: 'AA' },
    [],
    {},
  ),
  fc.string({ unit: fc.constantFrom(...'0123456789ABCDEF'), minLength: 30, maxLength: 34 }),
)
const kid = fc.oneof(
  { weight: 8, arbitrary: fc.constant('K-1') },
  fc.string({ maxLength: 140 }),
  fc.constantFrom<unknown>(null, 1, '\u202Ex', '\ud800'),
)
const kcv = fc.constantFrom<unknown>(
  undefined,
  '08D7B4',
  '08d7b4',
  '000000',
  '08D7B',
  { method: 'cmac', value: '08D7B4' },
  { method: 'encrypt-zero', value: 8 },
  { method: '__proto__', value: '' },
  RECIPIENT.kid,
  7,
)
const almost = fc
  .record({
    key: fc.record({
      kid,
      usage: fc.constantFrom(...USAGES),
      algorithm: fc.constantFrom(...ALGORITHMS),
      material,
    }),
    same: fc.constantFrom(true, true, true, false),
    bindKid: kid,
    usage: fc.constantFrom(...USAGES),
    kcv,
    extra: fc.constantFrom<object>(
      {},
      {},
      {},
      { hostDecipher: 'yes' },
      { hostDecipher: true },
      { hostdecipher: true },
      { algorithm: 'tdea-2key' },
    ),
  })
  .map(({ key, same, bindKid, usage, kcv: value, extra }) =>
    textInput(
      JSON.stringify({
        key,
        bind: {
          kid: same ? key.kid : bindKid,
          usage: same ? key.usage : usage,
          ...(value !== undefined && { kcv: value }),
          ...extra,
        },
      }),
    ),
  )

const seedOf = (usage: string, algorithm: string, value: unknown, value2?: string): Uint8Array =>
  textInput(
    JSON.stringify({
      key: { kid: 'K-1', usage, algorithm, material: value },
      bind: { kid: 'K-1', usage, kcv: value2 },
    }),
  )

export const keyMaterial: FuzzTarget = {
  name: 'key-material',
  share: 8,
  seeds: [
    seedOf('pin-encryption', 'tdea-2key', TDEA, '08D7B4'),
    seedOf('retail-mac', 'tdea-3key', `${TDEA}1122334455667788`),
    seedOf('cmac', 'aes-128', { kty: 'oct', k: b64u(Buffer.from(AES, 'hex')) }),
    seedOf('jwe-key-agreement', 'ec-p256', RECIPIENT_PRIVATE),
    seedOf('jwe-key-agreement', 'ec-p256', EC),
  ],
  structured: almost,
  async run(bytes) {
    const spec = parsed(new Input(bytes).text())
    if (spec === undefined) return
    const { key, bind } = spec
    const named = [namesOf(key), namesOf(bind)].flat()
    const rule = {
      codes: [
        'ERR_ARGUMENT',
        'ERR_KEY_MATERIAL',
        'ERR_KEY_WEAK',
        'ERR_KEY_USAGE',
        'ERR_KEY_ALGORITHM',
        'ERR_KEY_NOT_FOUND',
        'ERR_KEY_CHECK_VALUE',
      ],
      hidden: leaves(member(key, 'material')),
      named,
    } as const
    const options = { keys: [key] } as SoftwareBackendOptions
    const backend = await attemptAsync(() => softwareBackend(options), rule)
    if (backend === undefined) return
    try {
      const bound = await attemptAsync(() => backend.bind(bind as BindSpec), rule)
      if (bound !== undefined) await requireFacts(bound, member(key, 'material'))
    } finally {
      await backend.close()
    }
  },
}

/** Check value and public key as others compute them. */
async function requireFacts(key: Key, given: unknown): Promise<void> {
  const { algorithm, checkValue, publicJwk } = key
  if (publicJwk !== undefined) {
    check(checkValue.value === (await calculateJwkThumbprint(publicJwk)), 'the thumbprint is that of jose')
    const scalar =
      typeof given === 'string'
        ? Buffer.from(given, 'hex')
        : Buffer.from(String(member(given, 'd')), 'base64url')
    const peer = createECDH('prime256v1')
    peer.setPrivateKey(scalar)
    check(
      publicJwk.x === b64u(peer.getPublicKey().subarray(1, 33)),
      'the public key belongs to the private one',
    )
  }
  if (!algorithm.startsWith('tdea') || checkValue.method !== 'encrypt-zero') return
  const hex =
    typeof given === 'string' ? given : Buffer.from(String(member(given, 'k')), 'base64url').toString('hex')
  const cipher = forge.cipher.createCipher('3DES-ECB', forge.util.hexToBytes((hex + hex).slice(0, 48)))
  cipher.start({})
  cipher.update(forge.util.createBuffer(forge.util.hexToBytes('00'.repeat(8))))
  check(
    cipher.output.toHex().slice(0, 6).toUpperCase() === checkValue.value,
    'the check value is that of node-forge',
  )
}

function parsed(text: string): Spec | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined
}

/** What messages name: the kid, and options that there are not. */
function namesOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  const id = member(value, 'kid')
  return [...(typeof id === 'string' ? [id] : []), ...Object.keys(value).map(name => name.slice(0, 40))]
}

function leaves(value: unknown): string[] {
  if (typeof value === 'string' || typeof value === 'number') return [String(value)]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(leaves) : []
}

/** JWKs that are public keys but for a member. */
const almostJwk = fc
  .array(
    fc.tuple(
      fc.constantFrom('kty', 'crv', 'x', 'y', 'd', 'kid', 'use', 'alg', 'key_ops', 'further'),
      fc.constantFrom<unknown>(
        'EC',
        'P-256',
        'P-384',
        RECIPIENT.x,
        RECIPIENT.y,
        `${RECIPIENT.x}=`,
        RECIPIENT.x.slice(1),
        'enc',
        'sig',
        'ECDH-ES',
        'ES256',
        '',
        null,
        7,
        '\u202E',
        'k'.repeat(129),
        ['sign'],
        {},
      ),
    ),
    { maxLength: 2 },
  )
  .map(changes => textInput(JSON.stringify({ ...RECIPIENT, ...Object.fromEntries(changes) })))

export const recipient: FuzzTarget = {
  name: 'recipient',
  share: 25,
  seeds: [RECIPIENT, { ...RECIPIENT, use: 'enc', alg: 'ECDH-ES' }, RECIPIENT_PRIVATE].map(jwk =>
    textInput(JSON.stringify(jwk)),
  ),
  structured: almostJwk,
  run(bytes) {
    const jwk = parsed(new Input(bytes).text())
    if (jwk === undefined) return
    const imported = attempt(() => importRecipient(jwk as object), {
      codes: ['ERR_JWE_RECIPIENT', 'ERR_ARGUMENT'],
      hidden: leaves(jwk),
    })
    const { kty, crv, x, y } = jwk as { kty?: string; crv?: string; x?: string; y?: string }
    if (imported !== undefined) {
      createPublicKey({ key: { kty, crv, x, y } as never, format: 'jwk' })
      check(imported.publicJwk.x === x && imported.publicJwk.y === y, 'the key comes out as it went in')
      // null is JSON's word for what is absent.
      check((member(jwk, 'd') ?? null) === null, 'a private key is refused')
      check((member(jwk, 'use') ?? 'enc') === 'enc', 'a key for signatures is refused')
    }
  },
}
