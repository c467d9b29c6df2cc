/** Published test values and test keys, and the comparison that a token must pass. Nothing here is secret. */
import { equalBytes, fromHex, secretBytes } from '../../../base/bytes.js'
import type { KeyAlgorithm } from '../../../primitives/algorithms.js'
import type { ObjectHandle, Station } from '../binding/binding.js'
import { CKK, CKM } from '../binding/constants.js'
import { DES3_ECB, encrypt, wrongAnswer } from '../mechanisms/cipher.js'
import type { Means, RetailMacProfile } from '../mechanisms/plan.js'
import { asThreeKeys, type RoleBit, secretKey } from '../mechanisms/templates.js'

const hex = (digits: string): Uint8Array => fromHex(digits, 'known answer')

export interface KnownCipher {
  readonly key: Uint8Array
  readonly plain: Uint8Array
  readonly cipher: Uint8Array
}

interface KnownMac {
  readonly key: Uint8Array
  readonly message: Uint8Array
  readonly mac: Uint8Array
}

/** Public test values. */
export const KNOWN: {
  readonly tdea2: KnownCipher
  readonly tdea3: KnownCipher
  readonly cbc: KnownCipher
  readonly aes: KnownCipher
  readonly retail: KnownMac & { readonly chain: Uint8Array }
  readonly cmacTdea: KnownMac
  readonly cmacAes: KnownMac
  readonly hmac: KnownMac
  readonly format4: Readonly<Record<'key' | 'pinField' | 'panField' | 'enciphered', Uint8Array>>
  readonly translation: Readonly<Record<'from' | 'to' | 'cipher' | 'translated', Uint8Array>>
  readonly keyWrap: Readonly<Record<'kek' | 'key' | 'wrapped', Uint8Array>>
} = {
  // NIST SP 800-67's and ISO 9797-1's example key; E(0) is its well-known check value 08D7B4, extended.
  tdea2: {
    key: hex('0123456789ABCDEFFEDCBA9876543210'),
    plain: hex('31323334353637380000000000000000'),
    cipher: hex('41D2FFBA3CDC15FE08D7B4FB629D0885'),
  },
  // NIST SP 800-67 Rev. 1, appendix B.1.
  tdea3: {
    key: hex('0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123'),
    plain: hex('54686520717566636B2062726F776E20666F78206A756D70'),
    cipher: hex('A826FD8CE53B855FCCE21C8112256FE668D5C05DD9B6B900'),
  },
  // ANSI X9.24-1:2009, A.4.2.
  cbc: {
    key: hex('448D3F076D8304036A55A3D7E0055A78'),
    plain: hex('343031323334353637383930394439383700000000000000'),
    cipher: hex('FC0D53B7EA1FDA9EE68AAF2E70D9B9506229BE2AA993F04F'),
  },
  // NIST SP 800-38A, F.1.1.
  aes: {
    key: hex('2B7E151628AED2A6ABF7158809CF4F3C'),
    plain: hex('6BC1BEE22E409F96E93D7E117393172A'),
    cipher: hex('3AD77BB40D7A3660A89ECAF32466EF97'),
  },
  // ISO/IEC 9797-1:1999, annex: "Now is the time for all ", algorithm 3, padding method 1.
  retail: {
    key: hex('0123456789ABCDEFFEDCBA9876543210'),
    chain: hex('0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF'),
    message: hex('4E6F77206973207468652074696D6520666F7220616C6C20'),
    mac: hex('A1C72E74EA3FA9B6'),
  },
  // openemv/dukpt, test/dukpt_tdes_test.c.
  cmacTdea: {
    key: hex('042666B4918430A368DE9628D03984C9'),
    message: hex('3430313233343536373839303944393837'),
    mac: hex('211003F1D5B79DD7'),
  },
  // NIST SP 800-38B, appendix D.1.
  cmacAes: {
    key: hex('2B7E151628AED2A6ABF7158809CF4F3C'),
    message: hex('6BC1BEE22E409F96E93D7E117393172A'),
    mac: hex('070A16B46B4D4144F79BDD9DD04A287C'),
  },
  // RFC 4231, 4.2, its key of 20 bytes with zero bytes behind it, which make no difference to HMAC.
  hmac: {
    key: hex('0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B000000000000000000000000'),
    message: hex('4869205468657265'),
    mac: hex('B0344C61D8DB38535CA8AFCEAF0BF12B881DC200C9833DA726E9376C2E32CFF7'),
  },
  // ANSI X9.24-3:2017, supplement of test vectors: PIN 1234, PAN 4111111111111111.
  format4: {
    key: hex('AF8CB133A78F8DC2D1359F18527593FB'),
    pinField: hex('441234AAAAAAAAAA2F69ADDE2E9E7ACE'),
    panField: hex('44111111111111111000000000000000'),
    enciphered: hex('A912150391AB65A67E52883D81CE2D15'),
  },
  // A block of even and odd bytes, so that a token that sets parity bits on the way is caught, and a zero block.
  translation: {
    from: hex('0123456789ABCDEFFEDCBA9876543210'),
    to: hex('23456789ABCDEF0189ABCDEF01234567'),
    cipher: hex('BE9E3B6B391200CC08D7B4FB629D0885'),
    translated: hex('5CB0090F6FB2450078AC3F121E17E3A1'),
  },
  // RFC 3394, 4.1.
  keyWrap: {
    kek: hex('000102030405060708090A0B0C0D0E0F'),
    key: hex('00112233445566778899AABBCCDDEEFF'),
    wrapped: hex('1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5'),
  },
}

/** `ERR_PKCS11_SELF_TEST` where the token's answer is not the known one: wrong cryptography is worse than none. */
export function requireAnswer(what: string, answer: Uint8Array, expected: Uint8Array): void {
  if (equalBytes(answer, expected)) return
  throw wrongAnswer(`computes ${what} wrongly: its answer to a published test differs`)
}

/*
 * What the steps of the probe share: their options, how one is run, and their session keys, imported with public test
 * values, or generated where a token imports no clear key.
 */

/**
 * How a token shows what it can do: by published test values under keys that are brought in; by relations between what it
 * answers under keys of its own making; or not at all, where no session key can be made: then each key has to show its check
 * value.
 */
export type ProbeKind = 'known-answer' | 'relation' | 'trust-bound-keys'

/** What was opted in by name, and which vendor's mechanisms may be tried. */
export interface ProbeOptions {
  readonly kind: ProbeKind | undefined
  readonly composedMac: boolean
  readonly retailMac: RetailMacProfile | undefined
  readonly translateInToken: boolean
  readonly translationKeysMayDecipher: boolean
  readonly publicKeysPrivate: boolean
  readonly nestedTemplates: boolean
  readonly extractSharedSecret: boolean
  readonly deriveKeys: 'inside' | 'through-host' | undefined
}

/** Runs a step on a session of its own; a refusal becomes the reason. */
export type Probe = <By>(what: string, step: (station: Station) => By) => Means<By>

/** Vendors' mechanisms and translation are too easily something else to be used unproven. */
export const NO_KNOWN_ANSWER: Means<never> = {
  ok: false,
  reason: 'it is used only after a known answer, and this token imports no clear test key',
}

/** Whether test keys are brought in, made, or first the one and then the other. */
export function importing(kind: ProbeKind | undefined): readonly [boolean, ...boolean[]] {
  if (kind === undefined) return [true, false]
  return [kind === 'known-answer']
}

/** How this token gets its test keys, and as which key type it holds a two-key bundle. */
export interface TestKeys {
  /** Test keys are imported with known values. */
  readonly known: boolean
  /** CKK_DES2, or CKK_DES3: as K1‖K2‖K1, and generated with three keys. */
  readonly twoKeyType: number
}

/** Tries, in this order: import as CKK_DES2, as CKK_DES3, generation of either. Undefined where nothing works. */
export function findTestKeys(on: Probe, { kind }: ProbeOptions): TestKeys | undefined {
  for (const known of importing(kind)) {
    for (const twoKeyType of [CKK.DES2, CKK.DES3]) {
      const keys = { known, twoKeyType }
      const how = `${known ? 'import' : 'generation'} of a ${twoKeyType === CKK.DES2 ? 'CKK_DES2' : 'CKK_DES3'} key`
      if (on(how, station => tdeaKey(station, keys, KNOWN.tdea2.key, ['ENCRYPT'])).ok) return keys
    }
  }
  return undefined
}

/** A TDEA key with a known value where keys are known, else one of the token's own making. */
export function tdeaKey(
  { binding, session }: Station,
  { known, twoKeyType }: TestKeys,
  value: Uint8Array,
  can: readonly RoleBit[],
): ObjectHandle {
  if (!known) {
    const mechanism = twoKeyType === CKK.DES2 ? CKM.DES2_KEY_GEN : CKM.DES3_KEY_GEN
    return binding.C_GenerateKey(session, { mechanism }, secretKey({ keyType: twoKeyType, can }))
  }
  const template =
    value.length === 16 && twoKeyType === CKK.DES2
      ? secretKey({ keyType: CKK.DES2, can, value })
      : secretKey({ keyType: CKK.DES3, can, value: asThreeKeys(value) })
  return binding.C_CreateObject(session, template)
}

/** The same for a MAC key: TDEA (`tdea-2key`) or AES (`aes-128`). */
export function macKey(
  station: Station,
  keys: TestKeys,
  algorithm: KeyAlgorithm,
  value: Uint8Array,
  bit: RoleBit,
): ObjectHandle {
  if (algorithm === 'tdea-2key') return tdeaKey(station, keys, value, [bit])
  return aesKey(station, keys.known, value, [bit])
}

/** An AES key with a known value, or one of that length of the token's own making. */
export function aesKey(
  { binding, session }: Station,
  known: boolean,
  value: Uint8Array,
  can: readonly RoleBit[],
): ObjectHandle {
  if (known) return binding.C_CreateObject(session, secretKey({ keyType: CKK.AES, can, value }))
  const template = secretKey({ keyType: CKK.AES, can, length: value.length })
  return binding.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, template)
}

/** A session key with a known answer, which lives as long as the login. */
export interface ProbeKey {
  readonly object: ObjectHandle
  /** What the zero block enciphers to. */
  readonly answer: Uint8Array
}

/** A key on the session that holds the login, and what it makes of a zero block: for `health()`. */
export function makeProbeKey(station: Station, keys: TestKeys): ProbeKey {
  const { key, cipher } = KNOWN.tdea2
  const object = tdeaKey(station, keys, key, ['ENCRYPT'])
  // The second of the two known blocks is the zero block.
  const answer = keys.known ? cipher.subarray(8) : encrypt(station, DES3_ECB, object, secretBytes(8))
  return { object, answer }
}
