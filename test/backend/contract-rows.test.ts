/**
 * Each row of the contract's tables asks for what it says: a backend that does not look at that one thing, and is right otherwise,
 * fails by the rule. What a row says is told here by what it is, and not by its value.
 */
import { describe, expect, test } from 'vitest'
import { type KeyFacts, type KeyOperations, makeKey, operationsOf } from '../../src/backend/key.js'
import type { KeyError } from '../../src/base/errors.js'
import type { ContractKey } from '../../src/testing.js'
import { brokenRules, type Fault } from '../support/faulty-backend.js'

/** By the rule: what each backend does not look at. */
type Rows = Readonly<Record<string, Readonly<Record<string, Fault>>>>
/** What a caller gives who writes no TypeScript. */
// biome-ignore lint/suspicious/noExplicitAny: a row may be of any type, and is looked at member by member
type Given = any

const PEK = { kid: 'PEK-2', usage: 'pin-encryption' } as const

/** Specs of this kind are bound as if they were right. */
const binds = (is: (spec: Given) => unknown, right: (spec: Given) => object = () => PEK): Fault => ({
  backend: good => ({
    bind: (spec, options) => good.bind(is(spec) ? (right(spec) as never) : spec, options),
  }),
})

/** A call of a key's is answered where it is of this kind. */
const answers = (name: keyof KeyOperations, length: number, is: (...given: Given[]) => unknown): Fault => ({
  key: good => ({
    [name]: async (...given: Given[]) => {
      if (is(...given)) return new Uint8Array(length)
      return Reflect.apply(good[name], good, given) as Promise<Uint8Array>
    },
  }),
})

/** Random bytes are given where they are asked for so. */
const randomFor = (is: (length: Given, options: Given) => unknown): Fault => ({
  backend: good => ({
    randomBytes: (length, options) =>
      is(length, options) ? good.randomBytes(8) : good.randomBytes(length, options),
  }),
})

/** Keys of this kind are held as another one that is well. */
const holds = (is: (halves: readonly string[], key: ContractKey) => boolean, material: string): Fault => ({
  keys: given =>
    given.map(key => {
      const parts = typeof key.material === 'string' ? (key.material.match(/.{1,16}/g) ?? []) : []
      return is(parts, key) ? { ...key, material } : key
    }),
})

/** What a bound key states, in one fact otherwise. */
const states = (wrong: (key: KeyFacts) => object, of: (key: KeyFacts) => boolean = () => true): Fault => ({
  backend: good => ({
    bind: async (...call) => {
      const key = await good.bind(...call)
      return of(key) ? makeKey({ ...key, ...wrong(key) }, operationsOf(key)) : key
    },
  }),
})

const withoutParity = (half: string): string =>
  [...Buffer.from(half, 'hex')].map(byte => (byte & 0xfe).toString(16).padStart(2, '0')).join('')
const WEAK = ['0101010101010101', 'FEFEFEFEFEFEFEFE', 'E0E0E0E0F1F1F1F1', '1F1F1F1F0E0E0E0E']
const isWeak = (half: string): boolean => WEAK.some(weak => withoutParity(weak) === withoutParity(half))
/** Two halves of a semi-weak key take turns: they are no weak ones. */
const isSemiWeak = (half: string): boolean =>
  !isWeak(half) && new Set(withoutParity(half).match(/../g)).size === 2
const TWO = '1122334455667788A1B2C3D4E5F60718'
const THREE = '1122334455667788A1B2C3D4E5F607180123456789ABCDEF'

/* A point of P-256, by its formula (FIPS 186-5; SEC 2, 2.4.2). */
const P = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n
const B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn
const numberOf = (bytes: Uint8Array): bigint => BigInt(`0x0${Buffer.from(bytes).toString('hex')}`)
interface Point {
  readonly form: number
  readonly length: number
  readonly isBelow: boolean
  readonly isZero: boolean
  readonly isOn: boolean
}
function pointOf(bytes: Uint8Array): Point {
  const [x, y] = [numberOf(bytes.subarray(1, 33)), numberOf(bytes.subarray(33, 65))]
  return {
    form: bytes[0] ?? -1,
    length: bytes.length,
    isBelow: x < P && y < P,
    isZero: x === 0n && y === 0n,
    isOn: (y * y - (x * x * x - 3n * x + B)) % P === 0n,
  }
}
const agrees = (is: (point: Point) => boolean): Fault =>
  answers(
    'deriveContentKey',
    32,
    request => request?.ephemeralPublicKey instanceof Uint8Array && is(pointOf(request.ephemeralPublicKey)),
  )
const isWhole = ({ form, length }: Point): boolean => form === 4 && length === 65

const isText = (value: unknown): value is string => typeof value === 'string'
const MACS_REFUSED = 'malformed MAC requests are refused'
const AGREEMENTS_REFUSED = 'malformed key agreement requests are refused'

const ROWS: Rows = {
  'bind refuses malformed specs': {
    'no spec': binds(spec => spec === undefined),
    'a spec that is null': binds(spec => spec === null),
    'a spec of nothing': binds(spec => spec && Object.keys(spec).length === 0),
    'an empty kid': binds(spec => spec?.kid === ''),
    'a kid that is a number': binds(spec => typeof spec?.kid === 'number'),
    'a kid of 129 characters': binds(spec => spec?.kid?.length === 129),
    'a kid with a control character': binds(spec => isText(spec?.kid) && spec.kid.includes('\0')),
    'no usage': binds(spec => spec?.kid && spec.usage === undefined),
    'an inherited usage': binds(spec => isText(spec?.usage) && spec.usage in {}),
    'an unknown algorithm': binds(spec => spec?.algorithm === 'des'),
    'a check value of one byte': binds(spec => isText(spec?.kcv) && spec.kcv.length === 2),
    'a check value that is no hex': binds(spec => isText(spec?.kcv) && /^[^0-9A-F]{6}$/i.test(spec.kcv)),
    'an inherited method of check values': binds(spec => isText(spec?.kcv?.method) && spec.kcv.method in {}),
    'a hostDecipher that is a text': binds(spec => isText(spec?.hostDecipher)),
    'an unknown member': binds(spec => spec && 'hostDecypher' in spec),
  },

  'something other than a period is refused': {
    'an end that is a text': binds(spec => isText(spec.validTo)),
    'a time that is none': binds(spec => Number.isNaN(Number(spec.validFrom)) && spec.validFrom),
    'a period of no time': binds(
      ({ validFrom, validTo }) => validFrom instanceof Date && Number(validFrom) === Number(validTo),
    ),
  },

  'a PIN key bound in mode E': {
    'a mode of MAC keys': binds(({ usage, mode }) => usage === 'pin-encryption' && mode === 'C'),
    'a mode in small letters': binds(({ mode }) => mode === 'e'),
    'a MAC key to encipher': binds(({ usage, mode }) => usage === 'cmac' && mode === 'E'),
    'a key for agreement to encipher': binds(
      ({ usage, mode }) => usage === 'jwe-key-agreement' && mode === 'B',
    ),
    'one that only enciphers, and deciphers in the host': binds(
      ({ mode, hostDecipher }) => mode === 'E' && hostDecipher,
    ),
    'the mode that it states': states(
      () => ({ mode: 'B' }),
      ({ mode }) => mode === 'E',
    ),
  },

  'a check value is compared in all the bytes that are given': {
    'no more than three bytes': binds(
      ({ kcv }) => isText(kcv),
      spec => ({ ...spec, kcv: spec.kcv.length === 6 ? spec.kcv : spec.kcv.slice(0, 6) }),
    ),
    'half a byte': binds(({ kcv }) => isText(kcv) && kcv.length % 2 === 1 && /^[0-9A-F]+$/i.test(kcv)),
    'a space behind it': binds(({ kcv }) => isText(kcv) && kcv.endsWith(' ')),
    'a sign of hex before it': binds(({ kcv }) => isText(kcv) && kcv.startsWith('0x')),
    'one byte': binds(({ kcv }) => isText(kcv) && kcv.length === 2),
    'more than a block of TDEA': binds(({ kid, kcv }) => kid === 'PEK-2' && isText(kcv) && kcv.length === 18),
    'more than a block of AES': binds(({ kid, kcv }) => kid === 'PEK-A' && isText(kcv) && kcv.length === 34),
    'what is compared is stated': states(({ checkValue }) => ({
      checkValue: { ...checkValue, value: checkValue.value.slice(0, 6) },
    })),
  },

  'a TDEA key with ': {
    'K1 = K2': holds(([one, two, three]) => three === undefined && one === two, TWO),
    'K1 = K2 but for parity': holds(
      ([one = '', two = '', three]) =>
        three === undefined && one !== two && withoutParity(one) === withoutParity(two),
      TWO,
    ),
    'K1 = K2 = K3': holds(([one, two, three]) => one === two && two === three, THREE),
    'K2 = K3': holds(([one, two, three]) => two !== undefined && one !== two && two === three, THREE),
    'a weak component': holds(([one = '', two = '']) => isWeak(one) !== isWeak(two), TWO),
    'a semi-weak component': holds(([one = '', two = '']) => isSemiWeak(one) !== isSemiWeak(two), TWO),
  },

  'material of a wrong length is refused': {
    'half of it': holds(
      ({ length }, { kid, material }) => kid === 'ALONE' && length === 1 && String(material).length === 16,
      TWO,
    ),
    'a byte too few': holds((_, { kid, material }) => kid === 'ALONE' && String(material).length === 30, TWO),
    'none of it': holds((_, { kid, material }) => kid === 'ALONE' && material === '', TWO),
  },

  'one key under two kids is refused with ERR_KEY_USAGE: the same but for parity': {
    'their parity': holds(
      (_, { material }) =>
        isText(material) && material !== TWO && withoutParity(material) === withoutParity(TWO),
      THREE.slice(16),
    ),
  },

  'blocks of a wrong length are refused': Object.fromEntries(
    (['encipher', 'decipher', 'reencipher'] as const).flatMap(name =>
      Object.entries({
        'no block': (length: number) => length === 0,
        'less than one': (length: number) => length > 0 && length < 8,
        'one and a part': (length: number) => length > 8 && length < 16,
        'too many': (length: number) => length > 65_536,
      }).map(([what, is]): [string, Fault] => [
        `${name} of ${what}`,
        answers(name, 8, (...given) => {
          const blocks: unknown = given[name === 'reencipher' ? 1 : 0]
          return blocks instanceof Uint8Array && is(blocks.length)
        }),
      ]),
    ),
  ),

  [MACS_REFUSED]: {
    'no request': answers('mac', 8, request => request === undefined),
    'a request of nothing': answers('mac', 8, request => request && !('algorithm' in request)),
    'no padding': answers('mac', 8, request => request?.algorithm && request.padding === undefined),
    'no padding where there must be one': answers(
      'mac',
      8,
      request => request?.padding === 'none' && request.algorithm.startsWith('iso'),
    ),
    'a padding that is none': answers('mac', 8, request => request?.padding > 3),
    'an algorithm that is none': answers('mac', 8, request => request?.algorithm === 'hmac'),
    'an initial value that is a text': answers('mac', 8, request => isText(request?.iv)),
    'a message that is a text': answers('mac', 8, (_, message) => isText(message)),
    'a message that is long': answers('mac', 8, (_, message) => message?.length > 65_536),
    'a long initial value': answers('mac', 8, request => request?.iv?.length === 16),
    'an initial value of CMAC': answers(
      'mac',
      8,
      request => request?.iv?.length === 8 && request.algorithm === 'cmac',
    ),
  },

  [AGREEMENTS_REFUSED]: {
    'no request': answers('deriveContentKey', 32, request => request === undefined),
    'a point as hex': answers('deriveContentKey', 32, request => isText(request?.ephemeralPublicKey)),
    'other information as text': answers('deriveContentKey', 32, request => isText(request?.otherInfo)),
    'long other information': answers('deriveContentKey', 32, request => request?.otherInfo?.length > 1024),
    'a key of no byte': answers('deriveContentKey', 32, request => request?.length === 0),
    'a key of 33 bytes': answers('deriveContentKey', 32, request => request?.length === 33),
    'a length as text': answers('deriveContentKey', 32, request => isText(request?.length)),
  },

  'an ephemeral point ': {
    'off the curve': agrees(point => isWhole(point) && point.isBelow && !point.isZero && !point.isOn),
    'of zeros': agrees(point => isWhole(point) && point.isZero),
    'at infinity': agrees(({ form, length }) => form === 0 && length === 1),
    compressed: agrees(({ form, length }) => (form === 2 || form === 3) && length === 33),
    'with x not below p': agrees(point => isWhole(point) && !point.isBelow),
    'of the wrong form byte': agrees(({ form, length, isOn }) => form !== 4 && length === 65 && isOn),
    'one byte short': agrees(({ form, length }) => form === 4 && length === 64),
    'one byte long': agrees(({ form, length, isOn }) => form === 4 && length === 66 && isOn),
    'of P-384 length': agrees(({ form, length }) => form === 4 && length === 97),
  },

  'randomBytes refuses lengths': {
    none: randomFor(length => length === 0),
    'less than none': randomFor(length => length < 0),
    'one too many': randomFor(length => length === 65_537),
    'a part of one': randomFor(length => length > 0 && length % 1 !== 0),
    'a number as text': randomFor(isText),
  },

  'options that are not { signal: AbortSignal }': {
    'a text': randomFor((_, options) => isText(options)),
    'a signal that is a text': randomFor((_, options) => isText(options?.signal)),
    'a signal that is an object': randomFor(
      (_, options) => options?.signal?.constructor === Object && Object.keys(options.signal).length === 0,
    ),
    'a signal alone': randomFor((_, options) => options instanceof AbortSignal),
    'an unknown member': randomFor((_, options) => options?.signal && Object.keys(options).length > 1),
  },

  'what the key ring does not have': Object.fromEntries(
    Object.entries({
      'the mode': ({ mode: _, ...entry }: Given) => entry,
      'the algorithm': ({ algorithm: _, ...entry }: Given) => entry,
      'who may decipher': (entry: Given) =>
        entry.kid === 'PEK-3' ? { ...entry, hostDecipher: true } : entry,
      'a key that nobody has': (entry: Given) => (entry.kid === 'NOBODY' ? PEK : entry),
    }).map(([what, change]): [string, Fault] => [
      what,
      { options: ({ ring, ...given }) => (ring ? { ...given, ring: ring.map(change) as never } : given) },
    ]),
  ),

  'a bound key states its kid, usage, algorithm, and check value': {
    'its kid': states(({ kid }) => ({ kid: `${kid}x` })),
    'its usage': states(({ usage }) => ({ usage: usage === 'cmac' ? 'prw-verify' : usage })),
    'its algorithm': states(({ algorithm }) => ({
      algorithm: algorithm === 'aes-192' ? 'aes-128' : algorithm,
    })),
    'whether the host may decipher': states(({ hostDecipher }) => ({ hostDecipher: !hostDecipher })),
    'its check value': states(
      ({ checkValue }) => ({ checkValue: { ...checkValue, value: 'FFFFFF' } }),
      ({ kid }) => kid === 'PRW-V',
    ),
    'its parity': states(({ parity }) => ({ parity: parity === 'odd' ? 'even' : 'odd' })),
    'x of its public key': states(({ publicJwk }) => ({
      publicJwk: publicJwk && { ...publicJwk, x: publicJwk.y },
    })),
    'y of its public key': states(({ publicJwk }) => ({
      publicJwk: publicJwk && { ...publicJwk, y: publicJwk.x },
    })),
    'the method of its check value': states(
      ({ checkValue }) => ({ checkValue: { ...checkValue, method: 'encrypt-zero' } }),
      ({ publicJwk }) => publicJwk !== undefined,
    ),
  },
}

describe.each(Object.entries(ROWS))('%s', (rule, rows) => {
  /** Some rules have one thing each, which ends their name. */
  const which = (row: string): RegExp => {
    const name = rule.endsWith(' ') ? `${rule}${row} is refused` : rule
    return new RegExp(`^${name.replace(/[{}]/g, '\\$&')}`)
  }
  test('holds where nothing is wrong', async () => {
    const names = new Set(Object.keys(rows).map(row => which(row).source))
    for (const name of names) expect(await brokenRules(new RegExp(name), {})).toEqual([])
  })
  test.each(Object.entries(rows))('what is not looked at: %s', async (row, fault) => {
    expect(await brokenRules(which(row), fault)).not.toEqual([])
  })
})

/** Calls of a key whose answer is bytes, by the rule that gives a known answer. */
const KNOWN = {
  encipher: /^PEK-2 enciphers and deciphers/,
  decipher: /^PEK-2 enciphers and deciphers/,
  encipherBound: /^PEK-A: encipherBound/,
  decipherBound: /^PEK-A: encipherBound/,
  mac: /^CMAC-A: cmac, padding none, 16 bytes/,
  deriveContentKey: /^JWE-BOB: deriveContentKey/,
  sign: /^SIGN-1: a signature over one byte/,
} as const

describe.each(Object.entries(KNOWN))('%s', (name, rule) => {
  test.each<[string, (bytes: Uint8Array) => Uint8Array]>([
    ['a Buffer', bytes => Buffer.from(new Uint8Array(bytes).buffer)],
    ['a part of a larger buffer', bytes => new Uint8Array([...bytes, 0]).subarray(0, -1)],
  ])('an answer is in memory of its own, and not %s', async (_, change) => {
    const wrong: Fault = {
      key: good => ({
        [name]: async (...given: Given[]) =>
          change(await Reflect.apply(Reflect.get(good, name), good, given)),
      }),
    }
    expect(await brokenRules(rule, {})).toEqual([])
    expect(await brokenRules(rule, wrong)).not.toEqual([])
  })
})

/** What a backend says that it lacks, and does all the same: by the rules that must not believe it. */
const LACKS = {
  'no ISO 9797-1 algorithm 1': [
    { macs: { 'iso9797-1-alg1': 'none' } },
    /^MAC-1: iso9797-1-alg1, padding [12], \d+ bytes/,
  ],
  'no retail MAC': [{ macs: { 'iso9797-1-alg3': 'none' } }, /^MAC-3: iso9797-1-alg3, padding 1, 1[56] bytes/],
  'no CMAC': [{ macs: { cmac: 'none' } }, /^(?:CMAC-A: cmac, padding none, 16 bytes|KBPK-A computes)/],
  'no CMAC to seal by': [{ macs: { cmac: 'none' } }, /^what is sealed under KBPK-A/],
  'no HMAC': [{ macs: { 'hmac-sha256': 'none' } }, /^HMAC: hmac-sha256, padding none, 64 bytes/],
  'no MAC at all, of a key in mode V': [
    { macs: { 'iso9797-1-alg1': 'none', cmac: 'none' } },
    /^a MAC key bound in mode V verifies/,
  ],
  'no MAC at all, of a key past its end': [
    { macs: { 'iso9797-1-alg1': 'none', cmac: 'none' } },
    /^a MAC key past its end/,
  ],
  'no key agreement': [{ keyAgreement: 'none' }, /^JWE-D1: deriveContentKey of 16 bytes, empty/],
  'no signatures': [{ signing: 'none' }, /^SIGN-1: a signature over one byte/],
  'no derivation': [{ derivation: 'none' }, /^a backend that derives no keys refuses/],
} as const

test.each(Object.entries(LACKS))('a backend that says it has %s, and has it', async (_, [lacks, rule]) => {
  const lies: Fault = {
    backend: good => ({
      capabilities: () => {
        const told = good.capabilities()
        return { ...told, ...lacks, macs: { ...told.macs, ...('macs' in lacks && lacks.macs) } }
      },
    }),
  }
  expect(await brokenRules(rule, {})).toEqual([])
  expect(await brokenRules(rule, lies)).not.toEqual([])
})

test.each<[string, (error: KeyError, secret: string) => unknown]>([
  ['in its message', (error, secret) => Object.assign(error, { message: secret })],
  ['in small letters', (error, secret) => Object.assign(error, { message: secret.toLowerCase() })],
  ['in a hidden property', (error, secret) => Object.defineProperty(error, 'from', { value: secret })],
  [
    'deep in its cause',
    (error, secret) => Object.assign(error, { cause: { a: { b: { c: { d: secret } } } } }),
  ],
  ['in its JSON alone', (error, secret) => Object.defineProperty(error, 'toJSON', { value: () => secret })],
])('an error that shows a key %s', async (_, shown) => {
  const secret = 'AD192FD064B5579E7A4FB3C8F794F22A'
  const fault: Fault = {
    backend: good => ({
      bind: (...call) =>
        good.bind(...call).catch(error => {
          shown(error, secret)
          throw error
        }),
    }),
  }
  expect(await brokenRules(/^bind refuses another check value/, fault)).toHaveLength(1)
})
