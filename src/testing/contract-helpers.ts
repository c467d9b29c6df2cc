/** What the cases of the backend contract are made of: the shape of a case, the keys they bind, and their assertions. */

import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { Backend, BindSpec, OpenerOptions } from '../backend/backend.js'
import type { Key } from '../backend/key.js'
import { type ErrorCode, isIssuerPinError } from '../base/errors.js'
import type { KeyMode, KeyUsage } from '../key/usage.js'
import type { KeyAlgorithm } from '../primitives/algorithms.js'

/** One rule of the contract. */
export interface ContractCase {
  readonly name: string
  /** Resolves where the rule holds; rejects with node:assert's error where it does not. */
  run(): Promise<void>
}

/** How the suite reaches the backend under test. */
export interface ContractHarness {
  /**
   * Opens a fresh backend that holds exactly these keys under these kids (a token is emptied and provisioned).
   * May reject with the coded error by which the backend, or its provisioning, refuses a key. The options go to the
   * backend as they are: `openBackend` takes them.
   */
  open(keys: readonly ContractKey[], options?: OpenerOptions): Promise<Backend>
}

/** What the cases share: one backend holding {@link CONTRACT_KEYS}, and a way to open further ones. */
export interface ContractContext extends ContractHarness {
  shared(): Promise<Backend>
}

/** Asserts that the call rejects with one of our errors by this code, and that the error, which it gives, shows no key material. */
export async function assertRejects(
  call: () => Promise<unknown>,
  codes: ErrorCode | readonly ErrorCode[],
  what = 'the call',
): Promise<Error> {
  let result: unknown
  try {
    result = await call()
  } catch (error) {
    // A stack is made into text only where somebody reads it.
    if (!isIssuerPinError(error)) assert.fail(`${what}: an uncoded error: ${inspect(error)}`)
    assert.ok(
      [codes].flat().includes(error.code),
      `${what}: ${error.code} where ${codes} was due: ${error.message}`,
    )
    assertNoSecret(error)
    return error
  }
  assert.fail(`${what}: resolved with ${inspect(result)} where ${codes} was due`)
}

function assertNoSecret(error: Error): void {
  const shown = `${inspect(error, { depth: 8, showHidden: true })} ${JSON.stringify(error)}`.toUpperCase()
  for (const key of CONTRACT_KEYS) {
    const secret = typeof key.material === 'string' ? key.material : key.material.d.toUpperCase()
    assert.ok(!shown.includes(secret), `the error shows the material of ${key.kid}`)
  }
}

/** The declared key by that kid. */
export function contractKey(kid: string): ContractKey {
  const key = CONTRACT_KEYS.find(candidate => candidate.kid === kid)
  assert.ok(key !== undefined, `no contract key ${kid}`)
  return key
}

/** Binds a contract key for what it is declared to be. */
export function bindContractKey(backend: Backend, kid: string, more: Partial<BindSpec> = {}): Promise<Key> {
  const { usage, hostDecipher } = contractKey(kid)
  return backend.bind({ kid, usage, ...(hostDecipher === undefined ? {} : { hostDecipher }), ...more })
}

export function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}

/** Asserts a byte result, and that it is in memory of its own. */
export function assertBytes(actual: Uint8Array, hex: string, what: string): void {
  assert.ok(actual instanceof Uint8Array && !Buffer.isBuffer(actual), `${what}: not a plain Uint8Array`)
  assert.equal(actual.buffer.byteLength, actual.byteLength, `${what}: a slice of a larger buffer`)
  assert.equal(Buffer.from(actual).toString('hex').toUpperCase(), hex.toUpperCase(), what)
}

/* The keys the contract suite works with: public test values, from NIST, RFC 7518 and the published D1 sample. */

/** A key that a backend under test must hold before a contract case runs. */
export interface ContractKey {
  readonly kid: string
  readonly usage: KeyUsage
  /** The widest mode the key can be bound in, where it is not the usage's first. */
  readonly mode?: KeyMode
  readonly algorithm: KeyAlgorithm
  /** Hex of the key, or the private JWK of a P-256 key. */
  readonly material: string | { kty: 'EC'; crv: 'P-256'; x: string; y: string; d: string }
  /** Whether cases decipher under it: a token needs to give such a key more attributes. */
  readonly hostDecipher?: boolean
  /** Whether others are derived from it: a token needs to be told when the key is made. */
  readonly derives?: boolean
}

/** One key of every usage, two where the algorithm matters. Each holds other material: one key, one usage. */
export const CONTRACT_KEYS: readonly ContractKey[] = [
  // NIST CAVP, TECBMMT2.rsp [ENCRYPT] COUNT 0.
  {
    kid: 'PEK-2',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    material: 'AD192FD064B5579E7A4FB3C8F794F22A',
    hostDecipher: true,
  },
  // NIST SP 800-67 Rev. 1, appendix B.1.
  {
    kid: 'PEK-3',
    usage: 'pin-encryption',
    algorithm: 'tdea-3key',
    material: '0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123',
    hostDecipher: true,
  },
  {
    kid: 'PEK-CLOSED',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    material: '1122334455667788A1B2C3D4E5F60718',
  },
  // ANSI X9.24-3:2017, supplement of test vectors (format 4).
  {
    kid: 'PEK-A',
    usage: 'pin-encryption',
    algorithm: 'aes-128',
    material: 'AF8CB133A78F8DC2D1359F18527593FB',
    hostDecipher: true,
  },
  {
    kid: 'PEK-A192',
    usage: 'pin-encryption',
    algorithm: 'aes-192',
    material: '0F1E2D3C4B5A69788796A5B4C3D2E1F00112233445566778',
    hostDecipher: true,
  },
  {
    kid: 'PEK-A256',
    usage: 'pin-encryption',
    algorithm: 'aes-256',
    material: '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8',
    hostDecipher: true,
  },
  { kid: 'MAC-1', usage: 'cbc-mac', algorithm: 'tdea-2key', material: 'AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBB' },
  { kid: 'MAC-3', usage: 'retail-mac', algorithm: 'tdea-2key', material: '7CA110454A1A6E570131D9619DC1376E' },
  { kid: 'CMAC-T', usage: 'cmac', algorithm: 'tdea-2key', material: '042666B4918430A368DE9628D03984C9' },
  // RFC 4231, 4.2, with zero bytes behind its key of 20 bytes, which HMAC puts there anyway.
  { kid: 'HMAC', usage: 'hmac', algorithm: 'hmac-sha256', material: `${'0B'.repeat(20)}${'00'.repeat(12)}` },
  // NIST SP 800-38B, appendix D.1.
  { kid: 'CMAC-A', usage: 'cmac', algorithm: 'aes-128', material: '2B7E151628AED2A6ABF7158809CF4F3C' },
  // NIST SP 800-38B, appendix D.2.
  {
    kid: 'CMAC-192',
    usage: 'cmac',
    algorithm: 'aes-192',
    material: '8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B',
  },
  { kid: 'PRW-G', usage: 'prw-generate', algorithm: 'aes-128', material: '77A77FAF290C1FA30C683DF16BA7A77B' },
  // NIST SP 800-38B, appendix D.3.
  {
    kid: 'PRW-V',
    usage: 'prw-verify',
    algorithm: 'aes-256',
    material: '603DEB1015CA71BE2B73AEF0857D77811F352C073B6108D72D9810A30914DFF4',
  },
  // Key blocks under them: TR-31:2018, A.7.2.2 (version B) and A.7.4 (version D).
  {
    kid: 'KBPK-T',
    usage: 'key-block-protection',
    algorithm: 'tdea-2key',
    material: 'DD7515F2BFC17F85CE48F3CA25CB21F6',
    hostDecipher: true,
  },
  {
    kid: 'KBPK-A',
    usage: 'key-block-protection',
    algorithm: 'aes-256',
    material: '88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6',
    hostDecipher: true,
  },
  // RFC 5649, clause 6.
  {
    kid: 'KEK',
    usage: 'key-encryption',
    algorithm: 'aes-192',
    material: '5840DF6E29B02AF1AB493B705BF16EA1AE8338F4DCC176A8',
  },
  // Recipient of the JWE that D1's public documentation shows.
  {
    kid: 'JWE-D1',
    usage: 'jwe-key-agreement',
    algorithm: 'ec-p256',
    material: {
      kty: 'EC',
      crv: 'P-256',
      x: 'UbInEqNbZZZ9SJptBwKTKO6qslSyuWvMkVK44Bx_d8U',
      y: 'PUxeHMNVL0VRxOYJrkHcpe6sap7IG-Are0QborZDngI',
      d: 'VS9rHVw6S5GQoWbKlXsW03kZH7U-NJcnfJLTIZyfRHs',
    },
  },
  // Bob of RFC 7518, appendix C.
  {
    kid: 'JWE-BOB',
    usage: 'jwe-key-agreement',
    algorithm: 'ec-p256',
    material: {
      kty: 'EC',
      crv: 'P-256',
      x: 'weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ',
      y: 'e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck',
      d: 'VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw',
    },
  },
  // RFC 7515, appendix A.3.
  {
    kid: 'SIGN-1',
    usage: 'jwt-signing',
    algorithm: 'ec-p256',
    material: {
      kty: 'EC',
      crv: 'P-256',
      x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
      y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
      d: 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI',
    },
  },
]
