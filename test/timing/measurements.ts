/** What is measured, and what must come out: one row for each way in which time could tell something. */

import { randomBytes } from 'node:crypto'
import { operationsOf } from '../../src/backend/key.js'
import { equalBytes, toHex } from '../../src/base/bytes.js'
import { authenticate, readClients } from '../../src/d1/endpoints/token-endpoint.js'
import { openSeccosSetPinRequest, openSetPinRequest, ownTokens } from '../../src/d1.js'
import {
  buildFormat0,
  ChangeCounterError,
  checkFormat0,
  computePrw,
  decipherPin,
  encipherPin,
  generateMac,
  generatePrwMac,
  type Key,
  type KeyUsage,
  openJwe,
  Pan,
  Pin,
  parseFormat0,
  sealJwe,
  verifyMac,
  verifyPrw,
  verifyPrwMac,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { makeSeccosSetPinRequest } from '../../src/testing.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile } from '../../src/tools.js'
import { keysFor, PROFILES } from '../seccos/fixtures.js'
import { failing, type Measurement, type TimedCall } from './harness.js'

/**
 * What must come out.
 * - `leaks`: the control that must be seen.
 * - `same`: the control in which there is nothing to see.
 * - `constant`: must not be told apart.
 * - `stated`: may differ; the reason says why that tells nothing, or what cannot be helped.
 */
export type Expected = 'leaks' | 'same' | 'constant' | 'stated'

export interface Row extends Measurement {
  readonly expected: Expected
  readonly reason?: string
}

const COPIES = 64
/** A call over many copies of an input: where one copy happens to stand in memory must not make the difference. */
function over<T>(make: () => T, use: (value: T) => unknown): TimedCall {
  const inputs = Array.from({ length: COPIES }, make)
  return turn => use(inputs[turn % COPIES] ?? make())
}

const flip = (bytes: Uint8Array, at: number): Uint8Array =>
  Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 0x80 : byte))
const otherDigit = (text: string, at: number): string =>
  [...text].map((digit, i) => (i === at ? (digit === '0' ? '1' : '0') : digit)).join('')

/** What nobody should write: it ends at the first difference. */
const naive = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i])

async function setUp() {
  const hex = (bytes: number): string => toHex(randomBytes(bytes))
  const backend = await softwareBackend({
    keys: [
      { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: hex(16) },
      { kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: hex(16) },
      { kid: 'CMAC', usage: 'cmac', algorithm: 'aes-256', material: hex(32) },
      {
        kid: 'JWE-2',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: `${'0'.repeat(8)}${hex(28)}`,
      },
      {
        kid: 'JWE',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: `${'0'.repeat(8)}${hex(28)}`,
      },
    ],
  })
  const pek = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
  const mac = await backend.bind({ kid: 'MAC', usage: 'retail-mac' })
  const cmac = await backend.bind({ kid: 'CMAC', usage: 'cmac' })
  const jwe = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  const otherJwe = await backend.bind({ kid: 'JWE-2', usage: 'jwe-key-agreement' })
  return { backend, pek, mac, cmac, jwe, otherJwe }
}

/** The rows. Keys, PINs and PANs are made at random for each run. */
export async function rows(): Promise<readonly Row[]> {
  return [
    ...controls(),
    ...(await macRows()),
    ...(await prwRows()),
    ...(await pinRows()),
    ...(await jweRows()),
    ...(await secretRows()),
    ...(await refusalRows()),
  ]
}

/** Refusals of a Set PIN, each against the next that takes more work: what the one 400 of the endpoints has behind it. */
async function refusalRows(): Promise<readonly Row[]> {
  const hex = (bytes: number): string => toHex(randomBytes(bytes))
  const scalar = (): string => `${'0'.repeat(8)}${hex(28)}`
  const tdea = { algorithm: 'tdea-2key' } as const
  const backend = await softwareBackend({
    keys: [
      { ...tdea, kid: 'ZPK', usage: 'pin-encryption', material: hex(16) },
      { ...tdea, kid: 'STORE', usage: 'pin-encryption', material: hex(16) },
      { ...tdea, kid: 'MAC', usage: 'retail-mac', material: hex(16) },
      { ...tdea, kid: 'PRW', usage: 'prw-generate', material: hex(16) },
      { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: scalar() },
      { kid: 'JWE-2', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: scalar() },
    ],
  })
  const bind = (kid: string, usage: KeyUsage) => backend.bind({ kid, usage })
  const from = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  const to = await bind('STORE', 'pin-encryption')
  const macKey = await bind('MAC', 'retail-mac')
  const elsewhere = await softwareBackend({
    keys: [{ ...tdea, kid: 'MAC', usage: 'retail-mac', material: hex(16) }],
  })
  const otherMac = await elsewhere.bind({ kid: 'MAC', usage: 'retail-mac' })
  const prwKey = await bind('PRW', 'prw-generate')
  const jweKeys = [await bind('JWE', 'jwe-key-agreement'), await bind('JWE-2', 'jwe-key-agreement')]
  const publicJwk = jweKeys[0]?.publicJwk
  if (publicJwk === undefined) throw new Error('the key has no public half')
  const [pan, otherPan] = [Pan.from('9999990123456789'), Pan.from('9999980000000012')]
  const pin = Pin.from('4711')
  const seal = async (kid: string): Promise<string> => {
    const pinValue = toHex(await encipherPin({ pin, pan, format: 0, key: from }))
    const plaintext = Buffer.from(JSON.stringify({ pinValue, kid: 'ZPK' }))
    return sealJwe({ plaintext, recipient: { ...publicJwk, kid } })
  }
  const iso0 = (jwe: string, of = pan): TimedCall =>
    failing(() =>
      openSetPinRequest({
        body: JSON.stringify({ type: 'ISO0', encryptedPinBlock: jwe }),
        jweKeys,
        from,
        to,
        pan: of,
      }),
    )
  const fields = { psn: '01', expiry: '2912', issuer: 'is_tbank01' }
  const make = async (by: Key): Promise<string> => {
    const values = { pan, pcc: '0042', intdatag: 'TAG-0123456789-ABCDE', fields, pin, profile }
    const keys = { prwKey, macKey: by, issuerPublicJwk: { ...publicJwk, kid: 'JWE' } }
    return JSON.stringify(await makeSeccosSetPinRequest({ ...values, ...keys }))
  }
  const seccos = (body: string, isKnown: boolean): TimedCall =>
    failing(() =>
      openSeccosSetPinRequest({
        body,
        cardId: 'card-1',
        jweKeys,
        profile,
        macKeys: macKey,
        prwKids: ['PRW'],
        counter: {
          check: async () => {
            if (!isKnown) throw new ChangeCounterError('unknown')
            return { replayed: false }
          },
          pccOf: async () => '0042',
        } as never,
        pan,
        fields,
      }),
    )
  const jwe = await seal('JWE')
  const stages: readonly (readonly [string, TimedCall])[] = [
    ['unknown kid', iso0(await seal('JWX'))],
    ['wrong tag', iso0(`${jwe.slice(0, -4)}AAAA`)],
    ['block of another PAN', iso0(jwe, otherPan)],
    ['unknown intdatag', seccos(await make(macKey), false)],
    ['wrong MAC', seccos(await make(otherMac), true)],
  ]
  const reason =
    'how far the message came; a block and a MAC each fail as a whole, whoever made the message can tell most of it'
  return stages.slice(1).map(([name, call], i) => {
    const [before, earlier] = stages[i] as readonly [string, TimedCall]
    return {
      name: `refused Set PIN: ${before} or ${name}`,
      classes: [earlier, call],
      batch: 1,
      expected: 'stated',
      reason,
    }
  })
}

/** The controls; also what continuous integration runs. */
export function controls(): readonly [leaks: Row, same: Row] {
  const right = randomBytes(1024)
  const [first, last] = [0, 1023].map(at =>
    over(
      () => flip(right, at),
      wrong => naive(right, wrong),
    ),
  )
  if (first === undefined || last === undefined) throw new Error('unreachable')
  return [
    {
      name: 'control: comparison that ends early, first or last of 1024 bytes',
      classes: [first, last],
      batch: 4,
      expected: 'leaks',
    },
    { name: 'control: one class twice', classes: [last, last], batch: 4, expected: 'same' },
  ]
}

async function macRows(): Promise<readonly Row[]> {
  const { backend, mac, cmac } = await setUp()
  const message = randomBytes(64)
  const retail = { key: mac, message, algorithm: 'iso9797-1-alg3', padding: 2, length: 8 } as const
  const aes = { key: cmac, message, algorithm: 'cmac', padding: 'none', length: 16 } as const
  const [retailMac, aesMac] = [await generateMac(retail), await generateMac(aes)]
  const retailWith = (at: number) =>
    over(
      () => flip(retailMac, at),
      wrong => verifyMac({ ...retail, mac: wrong }),
    )
  const aesWith = (at: number) =>
    over(
      () => flip(aesMac, at),
      wrong => verifyMac({ ...aes, mac: wrong }),
    )
  const { value: kcv } = mac.checkValue
  const bindWith = (at: number) =>
    failing(
      over(
        () => otherDigit(kcv, at),
        wrong => backend.bind({ kid: 'MAC', usage: 'retail-mac', kcv: wrong }),
      ),
    )
  const bytes = randomBytes(16)
  const equalWith = (at: number) =>
    over(
      () => flip(bytes, at),
      wrong => equalBytes(bytes, wrong),
    )
  return [
    {
      name: 'equalBytes (16): first or last byte wrong',
      classes: [equalWith(0), equalWith(15)],
      batch: 64,
      expected: 'constant',
    },
    {
      name: 'verifyMac, retail (8): first or last byte wrong',
      classes: [retailWith(0), retailWith(7)],
      batch: 2,
      expected: 'constant',
    },
    {
      name: 'verifyMac, CMAC AES-256 (16): first or last byte wrong',
      classes: [aesWith(0), aesWith(15)],
      batch: 2,
      expected: 'constant',
    },
    {
      name: 'bind: first or last nibble of the check value wrong',
      classes: [bindWith(0), bindWith(kcv.length - 1)],
      batch: 2,
      expected: 'constant',
    },
  ]
}

async function prwRows(): Promise<readonly Row[]> {
  const { profile, values } = PROFILES[0] ?? { profile: undefined, values: undefined }
  if (profile === undefined || values === undefined) throw new Error('there is no profile')
  const keys = await keysFor(profile)
  const { dataSet, prwValue } = await computePrw({ ...values, key: keys.generate, profile })
  const { macValue } = await generatePrwMac({ key: keys.mac, profile, dataSet, prwValue })
  const { pan } = values
  const prw = { key: keys.verify, profile, pin: values.pin, pan, dataSet }
  const prwWith = (at: number) =>
    over(
      () => otherDigit(prwValue, at),
      wrong => verifyPrw({ ...prw, prwValue: wrong }),
    )
  const macWith = (at: number) =>
    over(
      () => otherDigit(macValue, at),
      wrong => verifyPrwMac({ key: keys.mac, profile, dataSet, prwValue, macValue: wrong }),
    )
  const candidate = (make: () => string) =>
    over(
      () => Pin.from(make()),
      pin => verifyPrw({ ...prw, pin, prwValue }),
    )
  return [
    {
      name: 'verifyPrw: first or last digit of the PRW wrong',
      classes: [prwWith(0), prwWith(15)],
      batch: 1,
      expected: 'constant',
    },
    {
      name: 'verifyPrw: one wrong PIN or random PINs',
      classes: [candidate(() => '111111'), candidate(() => randomPin(6))],
      batch: 1,
      expected: 'constant',
    },
    {
      name: 'verifyPrwMac: first or last digit of the MAC wrong',
      classes: [macWith(0), macWith(15)],
      batch: 1,
      expected: 'constant',
    },
  ]
}

function randomPin(length: number): string {
  return Array.from(randomBytes(length), byte => byte % 10).join('')
}

async function pinRows(): Promise<readonly Row[]> {
  const { pek } = await setUp()
  const digits = `9${randomPin(15)}`
  const pan = Pan.from(digits)
  const pin = Pin.from('4711')
  const good = buildFormat0({ pin, pan })
  const change = (at: number, bits: number) =>
    Uint8Array.from(good, (byte, i) => (i === at ? byte ^ bits : byte))
  /** Format 0 blocks that fail for one reason each. */
  const bad = {
    control: change(0, 0x10),
    length: change(0, 0x08 | 0x01),
    digit: change(1, 0x80),
    'first filler': change(3, 0x10),
    'last filler': change(7, 0x01),
  } as const
  const parse = (block: Uint8Array) =>
    failing(
      over(
        () => Uint8Array.from(block),
        copy => parseFormat0({ block: copy, pan }),
      ),
    )
  const check = (block: Uint8Array) =>
    failing(
      over(
        () => Uint8Array.from(block),
        copy => checkFormat0({ block: copy, pan }),
      ),
    )
  const panAt = (at: number) =>
    failing(
      over(
        () => Pan.from(otherDigit(digits, at)),
        other => parseFormat0({ block: good, pan: other }),
      ),
    )
  const [badControl, badFiller] = await Promise.all(
    [bad.control, bad['last filler']].map(block => operationsOf(pek).encipher(block)),
  )
  if (badControl === undefined || badFiller === undefined) throw new Error('unreachable')
  const decipher = (block: Uint8Array) =>
    failing(
      over(
        () => Uint8Array.from(block),
        copy => decipherPin({ block: copy, pan, format: 0, key: pek }),
      ),
    )
  const equal = (other: string) =>
    over(
      () => Pin.from(other),
      candidate => pin.equals(candidate),
    )
  const encipher = (make: () => string) =>
    over(
      () => Pin.from(make()),
      clear => encipherPin({ pin: clear, pan, format: 0, key: pek }),
    )
  const build = (make: () => string) =>
    over(
      () => Pin.from(make()),
      clear => buildFormat0({ pin: clear, pan }),
    )
  const batch = 16
  return [
    {
      name: 'parseFormat0: control nibble or last filler wrong',
      classes: [parse(bad.control), parse(bad['last filler'])],
      batch,
      expected: 'constant',
    },
    {
      name: 'parseFormat0: length or last filler wrong',
      classes: [parse(bad.length), parse(bad['last filler'])],
      batch,
      expected: 'constant',
    },
    {
      name: 'parseFormat0: first or last filler wrong',
      classes: [parse(bad['first filler']), parse(bad['last filler'])],
      batch,
      expected: 'constant',
    },
    {
      name: 'parseFormat0: a digit or a filler wrong',
      classes: [parse(bad.digit), parse(bad['last filler'])],
      batch,
      expected: 'constant',
    },
    {
      name: 'parseFormat0: PAN wrong in the fifth or the last bound digit',
      classes: [panAt(7), panAt(14)],
      batch,
      expected: 'constant',
    },
    {
      name: 'checkFormat0: control nibble or last filler wrong',
      classes: [check(bad.control), check(bad['last filler'])],
      batch,
      expected: 'constant',
    },
    {
      name: 'decipherPin: control nibble or last filler wrong',
      classes: [decipher(badControl), decipher(badFiller)],
      batch: 4,
      expected: 'constant',
    },
    {
      name: 'control: Pin.equals, the same digit wrong, inputs of their own',
      classes: [equal('4712'), equal('4712')],
      batch: 64,
      expected: 'same',
    },
    {
      name: 'Pin.equals: first or last digit wrong',
      classes: [equal('5711'), equal('4712')],
      batch: 64,
      expected: 'constant',
    },
    {
      name: 'buildFormat0: PIN 0000 or random PINs',
      classes: [build(() => '0000'), build(() => randomPin(4))],
      batch: 64,
      expected: 'constant',
    },
    {
      name: 'encipherPin: PIN 0000 or random PINs',
      classes: [encipher(() => '0000'), encipher(() => randomPin(4))],
      batch: 8,
      expected: 'constant',
    },
    {
      name: 'parseFormat0: right or wrong block',
      classes: [
        over(
          () => Uint8Array.from(good),
          copy => parseFormat0({ block: copy, pan }),
        ),
        parse(bad.control),
      ],
      batch,
      expected: 'stated',
      reason:
        'the verdict itself, which the caller is told anyway: an Error is made in one case, a Pin in the other',
    },
    {
      name: 'buildFormat0: PIN of 4 or of 12 digits',
      classes: [build(() => randomPin(4)), build(() => randomPin(12))],
      batch: 64,
      expected: 'stated',
      reason:
        'the length of a PIN may show in time: each digit is read, and how many there are is in the loop',
    },
  ]
}

async function jweRows(): Promise<readonly Row[]> {
  const { jwe: key, otherJwe: other } = await setUp()
  if (key.publicJwk === undefined) throw new Error('the key has no public half')
  const plaintext = Buffer.from(JSON.stringify({ pinValue: '0123456789ABCDEF', kid: 'ZPK-1' }))
  const jwe = await sealJwe({ plaintext, recipient: { ...key.publicJwk, kid: 'JWE' } })
  const [header = '', , iv = '', text = '', tag = ''] = jwe.split('.')
  const flipped = (segment: string, at: number): string => {
    const bytes = Buffer.from(segment, 'base64url')
    return Buffer.from(flip(bytes, at < 0 ? bytes.length + at : at)).toString('base64url')
  }
  const open = (...segments: string[]) =>
    failing(
      over(
        () => segments.join('.'),
        compact => openJwe({ jwe: compact, keys: key }),
      ),
    )
  const otherKid = Buffer.from(
    JSON.stringify({ ...JSON.parse(Buffer.from(header, 'base64url').toString()), kid: 'JWX' }),
  ).toString('base64url')
  /** One of two keys is named, or none. */
  const openEither = (head: string) =>
    failing(
      over(
        () => [head, '', iv, text, flipped(tag, 0)].join('.'),
        compact => openJwe({ jwe: compact, keys: [key, other] }),
      ),
    )
  const tagWrong = (at: number) => open(header, '', iv, text, flipped(tag, at))
  return [
    {
      name: 'openJwe: first or last byte of the tag wrong',
      classes: [tagWrong(0), tagWrong(-1)],
      batch: 1,
      expected: 'constant',
    },
    {
      name: 'openJwe: tag or first byte of the ciphertext wrong',
      classes: [tagWrong(0), open(header, '', iv, flipped(text, 0), tag)],
      batch: 1,
      expected: 'constant',
    },
    {
      name: 'openJwe: first or last byte of the ciphertext wrong',
      classes: [open(header, '', iv, flipped(text, 0), tag), open(header, '', iv, flipped(text, -1), tag)],
      batch: 1,
      expected: 'constant',
    },
    {
      name: 'openJwe: unknown kid (two keys) or wrong tag',
      classes: [openEither(otherKid), openEither(header)],
      batch: 1,
      expected: 'stated',
      reason:
        'what is no JWE for these keys is refused before the key agreement: names and structure are public',
    },
  ]
}

async function secretRows(): Promise<readonly Row[]> {
  const secret = randomBytes(18).toString('hex')
  const clients = readClients([
    { clientId: 'd1-client', clientSecret: secret },
    { clientId: 'd1-other', clientSecret: randomBytes(18).toString('hex') },
  ])
  const basic = (id: string, password: string) =>
    over(
      () => `Basic ${Buffer.from(`${id}:${password}`).toString('base64')}`,
      header => authenticate(clients, header),
    )
  const tokens = await ownTokens({
    algorithm: 'HS256',
    keys: [{ kty: 'oct', kid: 'T-1', k: randomBytes(32).toString('base64url') }],
    issuer: 'https://issuer.test',
    audience: 'https://issuer.test/pin',
    lifetimeSeconds: 3600,
  })
  const { token } = await tokens.issue({ subject: 'd1', scopes: [] })
  const [head = '', claims = '', signature = ''] = token.split('.')
  const bearer = (at: number) => {
    const wrong = Buffer.from(flip(Buffer.from(signature, 'base64url'), at)).toString('base64url')
    return over(
      () => `${head}.${claims}.${wrong}`,
      text => tokens.verify(text, {}),
    )
  }
  return [
    {
      name: 'Basic: first or last character of the secret wrong',
      classes: [
        basic('d1-client', otherDigit(secret, 0)),
        basic('d1-client', otherDigit(secret, secret.length - 1)),
      ],
      batch: 4,
      expected: 'constant',
    },
    {
      name: 'Basic: unknown client or wrong secret',
      classes: [basic('xx-client', secret), basic('d1-client', otherDigit(secret, 0))],
      batch: 4,
      expected: 'constant',
    },
    {
      name: 'Bearer (HS256): first or last byte of the signature wrong',
      classes: [bearer(0), bearer(31)],
      batch: 1,
      expected: 'constant',
    },
  ]
}
