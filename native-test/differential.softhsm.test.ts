/**
 * SoftHSM, asked through pkcs11js without a line of ours, against our software: the same random inputs as
 * test/differential/. PKCS#11 has no PIN block and no Concat KDF: format 0 and the hash are put together here, TDEA,
 * CMAC and ECDH are the token's.
 */
import { createHash } from 'node:crypto'
import pkcs11js from 'pkcs11js'
import { expect, test } from 'vitest'
import { type Operation, operations, RUNS, SEED } from '../test/differential/inputs.js'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

const bytes = (hex: string): Buffer => (hex === '-' ? Buffer.alloc(0) : Buffer.from(hex, 'hex'))
const upper = (buffer: Uint8Array): string => Buffer.from(buffer).toString('hex').toUpperCase()
/** prime256v1, as a DER object identifier. */
const P256 = bytes('06082A8648CE3D030107')

/** A logged-in session, and what is asked of it. */
class RawToken {
  readonly #library = new pkcs11js.PKCS11()
  readonly #session: Buffer
  readonly #keys = new Map<string, Buffer>()

  constructor(label: string) {
    const library = this.#library
    library.load(SOFTHSM_MODULE ?? '')
    library.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK })
    const slot = library
      .C_GetSlotList(true)
      .find(candidate => library.C_GetTokenInfo(candidate).label.trim() === label)
    if (slot === undefined) throw new Error(`there is no token ${label}`)
    this.#session = library.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION)
    library.C_Login(this.#session, pkcs11js.CKU_USER, USER_PIN)
  }

  close(): void {
    this.#library.C_CloseSession(this.#session)
    this.#library.C_Finalize()
  }

  #key(cipher: string, hex: string): Buffer {
    const known = this.#keys.get(cipher + hex)
    if (known !== undefined) return known
    const two = cipher === 'tdea' && hex.length === 32 ? pkcs11js.CKK_DES2 : pkcs11js.CKK_DES3
    const made = this.#library.C_CreateObject(this.#session, [
      { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
      { type: pkcs11js.CKA_KEY_TYPE, value: cipher === 'aes' ? pkcs11js.CKK_AES : two },
      { type: pkcs11js.CKA_TOKEN, value: false },
      { type: pkcs11js.CKA_ENCRYPT, value: true },
      { type: pkcs11js.CKA_SIGN, value: true },
      { type: pkcs11js.CKA_VALUE, value: bytes(hex) },
    ])
    this.#keys.set(cipher + hex, made)
    return made
  }

  encrypt(mechanism: number, cipher: string, hex: string, data: Buffer): Buffer {
    const iv = mechanism === pkcs11js.CKM_DES3_CBC ? { parameter: Buffer.alloc(8) } : {}
    this.#library.C_EncryptInit(this.#session, { mechanism, ...iv }, this.#key(cipher, hex))
    return this.#library.C_Encrypt(this.#session, data, Buffer.alloc(data.length + 16))
  }

  sign(mechanism: number, cipher: string, hex: string, data: Buffer): Buffer {
    this.#library.C_SignInit(this.#session, { mechanism }, this.#key(cipher, hex))
    return this.#library.C_Sign(this.#session, data, Buffer.alloc(64))
  }

  /** Z, read out: a key that may leave, which nobody should have. */
  agree(scalar: string, point: string): Buffer {
    const key = this.#library.C_CreateObject(this.#session, [
      { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_PRIVATE_KEY },
      { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_EC },
      { type: pkcs11js.CKA_TOKEN, value: false },
      { type: pkcs11js.CKA_DERIVE, value: true },
      { type: pkcs11js.CKA_EC_PARAMS, value: P256 },
      { type: pkcs11js.CKA_VALUE, value: bytes(scalar) },
    ])
    const parameter = { type: pkcs11js.CK_PARAMS_EC_DH, kdf: pkcs11js.CKD_NULL, publicData: bytes(point) }
    const derived = this.#library.C_DeriveKey(
      this.#session,
      { mechanism: pkcs11js.CKM_ECDH1_DERIVE, parameter },
      key,
      [
        { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
        { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_GENERIC_SECRET },
        { type: pkcs11js.CKA_TOKEN, value: false },
        { type: pkcs11js.CKA_SENSITIVE, value: false },
        { type: pkcs11js.CKA_EXTRACTABLE, value: true },
        { type: pkcs11js.CKA_VALUE_LEN, value: 32 },
      ],
    )
    const [attribute] = this.#library.C_GetAttributeValue(this.#session, derived, [
      { type: pkcs11js.CKA_VALUE },
    ])
    this.#library.C_DestroyObject(this.#session, derived)
    this.#library.C_DestroyObject(this.#session, key)
    if (!Buffer.isBuffer(attribute?.value)) throw new Error('Z cannot be read')
    return attribute.value
  }
}

function format0(pin: string, pan: string): Buffer {
  const field = bytes(`0${pin.length.toString(16)}${pin.padEnd(14, 'F')}`)
  const account = bytes(`0000${pan.slice(0, -1).slice(-12).padStart(12, '0')}`)
  return Buffer.from(field.map((byte, i) => byte ^ (account[i] ?? 0)))
}

/** The token's answer to a line of inputs.ts; undefined for what it has no mechanism for. */
function answer(token: RawToken, line: string): string | undefined {
  const [word = '', a = '', b = '', c = ''] = line.split(' ')
  switch (word) {
    case 'pinblock':
      return upper(token.encrypt(pkcs11js.CKM_DES3_ECB, 'tdea', a, format0(b, c)))
    case 'cmac': {
      // pkcs11js hands an empty buffer on as a NULL pointer, which SoftHSM refuses.
      if (c === '-') return undefined
      const mechanism = a === 'aes' ? pkcs11js.CKM_AES_CMAC : pkcs11js.CKM_DES3_CMAC
      return upper(token.sign(mechanism, a, b, bytes(c)))
    }
    case 'alg1': {
      const message = bytes(c)
      // Padding method 1 of what is not empty: what CBC over zero padded data ends with.
      if (b !== '1' || message.length === 0) return undefined
      const data = Buffer.concat([message, Buffer.alloc((8 - (message.length % 8)) % 8)])
      return upper(token.encrypt(pkcs11js.CKM_DES3_CBC, 'tdea', a, data).subarray(-8))
    }
    case 'kcv':
      return a === 'tdea'
        ? upper(token.encrypt(pkcs11js.CKM_DES3_ECB, a, b, Buffer.alloc(8)).subarray(0, 3))
        : upper(token.sign(pkcs11js.CKM_AES_CMAC, a, b, Buffer.alloc(16)).subarray(0, 5))
    case 'kdf': {
      const hash = createHash('sha256')
        .update(Buffer.of(0, 0, 0, 1))
        .update(token.agree(a, b))
      return upper(hash.update(bytes(c)).digest())
    }
    default:
      return undefined
  }
}

describeSoftHsm('SoftHSM through pkcs11js', () => {
  test('gives our answers', async () => {
    const { token: label } = makeToken('differential')
    const all = await operations(['pinblock', 'alg1', 'cmac', 'kcv', 'kdf'])
    const token = new RawToken(String(label))
    const started = performance.now()
    try {
      const counts = new Map<string, number>()
      const wrong: Operation[] = []
      for (const operation of all) {
        const theirs = answer(token, operation.line)
        if (theirs === undefined) continue
        counts.set(operation.name, (counts.get(operation.name) ?? 0) + 1)
        if (theirs !== operation.ours) wrong.push(operation)
      }
      expect(wrong.slice(0, 3)).toEqual([])
      expect(counts.size).toBe(6)
      const parts = Array.from(counts, ([name, count]) => `${name} ${count}`).join(', ')
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      console.log(
        `differential: SoftHSM (seed ${JSON.stringify(SEED)}, ${RUNS} inputs): ${parts}; ${seconds} s`,
      )
    } finally {
      token.close()
    }
  })
})
