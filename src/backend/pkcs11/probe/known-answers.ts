/** Published test values, and the comparison that a token must pass. Nothing here is secret. */
import { equalBytes, fromHex } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'

const hex = (digits: string): Uint8Array => fromHex(digits, 'known answer')

interface KnownCipher {
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
  readonly retail: KnownMac & { readonly chain: Uint8Array }
  readonly cmacTdea: KnownMac
  readonly cmacAes: KnownMac
  readonly translation: Readonly<Record<'from' | 'to' | 'cipher' | 'translated', Uint8Array>>
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
  // A block of even and odd bytes, so that a token that sets parity bits on the way is caught, and a zero block.
  translation: {
    from: hex('0123456789ABCDEFFEDCBA9876543210'),
    to: hex('23456789ABCDEF0189ABCDEF01234567'),
    cipher: hex('BE9E3B6B391200CC08D7B4FB629D0885'),
    translated: hex('5CB0090F6FB2450078AC3F121E17E3A1'),
  },
}

/** `ERR_PKCS11_SELF_TEST` where the token's answer is not the known one: wrong cryptography is worse than none. */
export function requireAnswer(what: string, answer: Uint8Array, expected: Uint8Array): void {
  if (equalBytes(answer, expected)) return
  throw new BackendError(
    'ERR_PKCS11_SELF_TEST',
    `the token computes ${what} wrongly: its answer to a published test differs; do not use it`,
  )
}
