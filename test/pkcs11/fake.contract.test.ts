/**
 * The contract over the binding interface, on tokens that exist in memory only and lack this or that: all of it on the first,
 * and on each other all that concerns what it is like, and of the rest each third case, in turn. All on all: `npm run faults`.
 */
import { afterAll, describe, test } from 'vitest'
import { CKA, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import type { KeyStoreOptions } from '../../src/pkcs11.js'
import { backendContract } from '../../src/testing.js'
import { type FakeOptions, FakeToken } from './fake-token.js'
import { openBackendOn, openStoreOn } from './support.js'

interface Case {
  readonly name: string
  readonly fake: FakeOptions
  readonly options: Partial<KeyStoreOptions>
  /** Where keys are made with other options than the backend is opened with. */
  readonly storeOptions?: Partial<KeyStoreOptions>
  /** The cases that concern what it is like, by their names. */
  readonly about: RegExp
}

const AGREEMENT = /deriveContentKey|agreement|ephemeral|P-256/
const RETAIL = /MAC-3|retail/
const DERIVED = /deriv|fields|inside/
const EVERY = process.env['FAULTS'] === 'full' ? 1 : 3

const TOKENS: readonly Case[] = [
  { name: 'everything, KDF inside', fake: { kdf: true }, options: { composedMac: true }, about: /./ },
  { name: 'C_DigestKey', fake: {}, options: { composedMac: true }, about: AGREEMENT },
  {
    name: 'no CKK_DES2, no CMAC, no CKA_CHECK_VALUE, no CKA_VALUE_LEN, Z extracted',
    fake: { without: [-CKK.DES2, 0x138, 0x108a], noDigestKey: true, noCheckValue: true, noValueLength: true },
    options: { composedMac: true, extractSharedSecret: true },
    about: /cmac|PRW|tdea|TDEA|PEK-2|KBPK-T|check value|deriveContentKey|agreement|ephemeral/i,
  },
  {
    name: 'a vendor retail MAC, translation inside',
    fake: { retail: { mechanism: 0x8000_0135, bytes: 8 } },
    options: { retailMac: 'utimaco', translateInToken: true },
    about: /MAC-3|retail|PEK|encipher|block/,
  },
  { name: 'no retail MAC', fake: {}, options: {}, storeOptions: { composedMac: true }, about: RETAIL },
  { name: 'no ECDSA', fake: { without: [CKM.ECDSA] }, options: { composedMac: true }, about: /sign/i },
  {
    name: 'keys derived inside',
    fake: {},
    options: { composedMac: true, deriveKeys: 'inside' },
    about: DERIVED,
  },
  {
    name: 'keys derived inside, no CKK_DES2',
    fake: { without: [-CKK.DES2] },
    options: { composedMac: true, deriveKeys: 'inside' },
    about: DERIVED,
  },
  {
    name: 'keys derived through the host',
    fake: {},
    options: { composedMac: true, deriveKeys: 'through-host' },
    about: DERIVED,
  },
  {
    name: 'one session',
    fake: { maxSessions: 2 },
    options: { composedMac: true },
    about: /at once|concurrent|clos/,
  },
]

describe.each(TOKENS.map((token, turn) => ({ ...token, turn })))(
  'backend contract: fake token, $name',
  ({ fake: fakeOptions, options, storeOptions, about, turn }) => {
    const contract = backendContract({
      open: async (keys, opener) => {
        const fake = new FakeToken(fakeOptions)
        const store = await openStoreOn(fake, storeOptions ?? options)
        const kids = new Set<string>()
        try {
          for (const key of keys) {
            const translation =
              options.translateInToken === true &&
              key.usage === 'pin-encryption' &&
              !key.algorithm.startsWith('aes')
            if (kids.has(key.kid)) fake.plant(twinOf(key.kid))
            else await store.importKey(translation ? { ...key, translation } : key)
            kids.add(key.kid)
          }
        } finally {
          await store.close()
        }
        return openBackendOn(fake, { ...options, ...opener })
      },
    })
    const cases = contract.cases.filter(({ name }, i) => about.test(name) || (i + turn) % EVERY === 0)
    test.each(cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())
    afterAll(() => contract.close())
  },
)

function twinOf(kid: string) {
  return [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.TOKEN, true],
    [CKA.LABEL, kid],
  ] as const
}
