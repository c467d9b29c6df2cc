/**
 * The published values against implementations that share nothing with `src/`: `node:crypto`, node-forge and `jose`.
 * PIN blocks are formed here on integers, where `src/` and most libraries form them on nibbles.
 */
import * as crypto from 'node:crypto'
import * as jose from 'jose'
import forge from 'node-forge'
import { describe, expect, test } from 'vitest'
import { type Accepted, accepted, rejected } from './load.js'

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (value: Uint8Array) => Buffer.from(value).toString('hex').toUpperCase()
const ZERO = '0000000000000000'

/** Checks every case and names the first that differs. */
function all<V extends { id: string }>(
  vectors: V[],
  check: (vector: V) => [actual: unknown, expected: unknown],
) {
  expect(vectors.length).toBeGreaterThan(0)
  for (const vector of vectors) {
    const [actual, expected] = check(vector)
    expect(actual, vector.id).toEqual(expected)
  }
}

describe('ciphers', () => {
  test('TDEA by OpenSSL and by node-forge', () => {
    for (const file of ['tdea.json', 'seccos-reference.json']) {
      const vectors = accepted(file, 'tdea.encipher')
      all(vectors, ({ inputs: i, outputs }) => [tdea(i.key, i.mode, i.plaintext, i.iv), outputs.ciphertext])
      all(vectors, ({ inputs: i, outputs }) => [
        forgeTdea(i.key, i.mode, i.plaintext, i.iv),
        outputs.ciphertext,
      ])
    }
  })

  test('key check values', () => {
    all(accepted('kcv.json', 'kcv'), ({ inputs: { cipher, method, key }, outputs: { kcv } }) => {
      const zero = cipher === 'AES' ? ZERO + ZERO : ZERO
      const value = method === 'cmac' ? cmac(cipher, key, zero) : ecb(cipher, key, zero)
      return [value.slice(0, kcv.length), kcv]
    })
  })

  test('parity and degenerate bundles', () => {
    all(accepted('des-keys.json', 'des.adjust-parity'), v => [oddParity(v.inputs.key), v.outputs.adjusted])
    all(accepted('des-keys.json', 'des.check-parity'), ({ inputs: { key }, outputs }) => [
      oddParity(key) === key,
      outputs.oddParity,
    ])
    all(accepted('des-keys.json', 'tdea.key-class'), ({ inputs, outputs }) => {
      const key = oddParity(inputs.key)
      const [k1, k2, k3] = [key.slice(0, 16), key.slice(16, 32), key.slice(32) || key.slice(0, 16)]
      return [{ singleDes: k1 === k2 || k2 === k3, k1EqualsK3: k1 === k3 }, outputs]
    })
  })

  test('a weak key is its own inverse', () => {
    for (const { inputs, outputs, id } of accepted('des-keys.json', 'des.key-class')) {
      const key = inputs.key.repeat(3)
      const twice = tdea(key, 'ECB', tdea(key, 'ECB', '0123456789ABCDEF'))
      expect(twice === '0123456789ABCDEF', id).toBe(outputs.classification === 'weak')
    }
  })
})

describe('MACs', () => {
  test('padding', () => {
    all(accepted('iso9797-padding.json', 'iso9797.pad'), ({ inputs: i, outputs }) => [
      pad(i.padding, i.blockSize, i.data),
      outputs.padded,
    ])
  })

  test('ISO/IEC 9797-1 algorithms 1 and 3', () => {
    for (const file of ['mac-iso9797.json', 'seccos-reference.json']) {
      all(accepted(file, 'mac.iso9797'), ({ inputs, outputs }) => [iso9797(inputs), outputs.mac])
      all(accepted(file, 'mac.iso9797'), ({ outputs: { mac, published = mac } }) => [
        mac.slice(0, published.length),
        published,
      ])
    }
  })

  test('CMAC', () => {
    for (const file of ['cmac.json', 'seccos-reference.json']) {
      all(accepted(file, 'cmac'), ({ inputs: i, outputs }) => [cmac(i.cipher, i.key, i.data), outputs.mac])
    }
  })
})

describe('PIN blocks', () => {
  const files = ['pin-block-format0.json', 'pin-block-formats.json']

  test('encode', () => {
    all(
      files.flatMap(file => accepted(file, 'pin-block.encode')),
      ({ inputs: { format, pin, pan, fill }, outputs }) => {
        if (outputs.blockPrefix !== undefined) {
          const prefix = block(format, pin, pan, 0n).slice(0, outputs.blockPrefix.length)
          return [prefix, outputs.blockPrefix]
        }
        const filler = fill === undefined ? ones(14 - pin.length) : BigInt(`0x${fill}`)
        return [block(format, pin, pan, filler), outputs.block]
      },
    )
  })

  test('decode', () => {
    all(
      files.flatMap(file => accepted(file, 'pin-block.decode')),
      ({ inputs, outputs }) => [
        read(inputs.format, inputs.block, inputs.pan),
        { pin: outputs.pin, broken: [] },
      ],
    )
    all(
      files.flatMap(file => rejected(file, 'pin-block.decode')).filter(v => v.inputs.block.length === 16),
      ({ inputs, reason, obtained, note = '' }) => {
        const { broken } = read(inputs.format, inputs.block, inputs.pan)
        if (reason === 'pan')
          return [broken.every(rule => ['filler', 'pin-digit'].includes(rule)), broken.length > 0]
        const others = obtained === 'published' || note.includes('over a four-digit PIN')
        return [others ? broken.filter(rule => rule === reason) : broken, [reason]]
      },
    )
  })

  test('encipher', () => {
    all(
      accepted('pin-block-format0.json', 'pin-block.encipher'),
      ({ inputs: { pin, pan, key }, outputs }) => {
        const clear = block(0, pin, pan, ones(14 - pin.length))
        return [{ block: clear, enciphered: tdea(key, 'ECB', clear) }, outputs]
      },
    )
  })

  test('format 4', () => {
    const file = 'pin-block-formats.json'
    all(accepted(file, 'pin-block-4.pan-field'), v => [panField4(v.inputs.pan), v.outputs.panField])
    all(accepted(file, 'pin-block-4.pin-field'), v => [
      pinField4(v.inputs.pin, v.inputs.random),
      v.outputs.pinField,
    ])
    all(accepted(file, 'pin-block-4.encipher'), ({ inputs: { key, pin, pan, random }, outputs }) => [
      encipher4(key, pinField4(pin, random), pan),
      outputs,
    ])
    all(accepted(file, 'pin-block-4.decipher'), ({ inputs: { key, pan, enciphered }, outputs }) => {
      const { pinField } = outputs
      return [
        { ...encipher4(key, pinField, pan), pin: read(4, pinField.slice(0, 16)).pin },
        { ...outputs, enciphered },
      ]
    })
    all(
      rejected(file, 'pin-block-4.decode-pin-field').filter(v => v.inputs.pinField.length === 32),
      v => [read(4, v.inputs.pinField.slice(0, 16)).broken, [v.reason]],
    )
    all(
      rejected(file, 'pin-block-4.decipher').filter(v => v.inputs.enciphered.length === 32),
      ({ inputs: { key, pan, enciphered }, reason }) => {
        const { broken } = read(4, decipher4(key, enciphered, pan).slice(0, 16))
        return ['pan', 'key', 'ciphertext'].includes(reason) ? [broken.length > 0, true] : [broken, [reason]]
      },
    )
  })
})

describe('JWE and its parts', () => {
  test('Concat KDF', () => {
    all(accepted('concat-kdf.json', 'concat-kdf'), ({ inputs: i, outputs }) => {
      const rounds = Math.ceil(i.keyBits / (i.hash === 'sha256' ? 256 : 512))
      const digests = Array.from({ length: rounds }, (_, n) =>
        crypto
          .createHash(i.hash)
          .update(uint32(n + 1))
          .update(bytes(i.z))
          .update(bytes(i.otherInfo))
          .digest(),
      )
      return [hex(Buffer.concat(digests).subarray(0, i.keyBits / 8)), outputs.derived]
    })
    all(accepted('concat-kdf.json', 'concat-kdf.other-info'), ({ inputs: i, outputs }) => {
      const parts = [Buffer.from(i.algorithmId), bytes(i.partyUInfo), bytes(i.partyVInfo)]
      const info = Buffer.concat([...parts.flatMap(p => [uint32(p.length), p]), uint32(i.keyBits)])
      return [hex(info), outputs.otherInfo]
    })
  })

  test('ECDH', () => {
    all(accepted('ecdh-p256.json', 'ecdh.p256'), ({ inputs, outputs }) => [agree(inputs), outputs.z])
    for (const { id, inputs, flags = [] } of rejected('ecdh-p256.json', 'ecdh.p256')) {
      if (flags.includes('lenient-elsewhere')) expect(agree(inputs), id).toHaveLength(64)
      else expect(() => agree(inputs), id).toThrow()
    }
  })

  test('AES-GCM', () => {
    all(accepted('aes-gcm.json', 'aes-gcm.seal'), ({ inputs: i, outputs }) => {
      const cipher = crypto.createCipheriv(gcm(i.key), bytes(i.key), bytes(i.iv)).setAAD(bytes(i.aad))
      const ciphertext = hex(Buffer.concat([cipher.update(bytes(i.plaintext)), cipher.final()]))
      return [{ ciphertext, tag: hex(cipher.getAuthTag()) }, outputs]
    })
    for (const { id, inputs: i } of rejected('aes-gcm.json', 'aes-gcm.open')) {
      expect(() => {
        const decipher = crypto.createDecipheriv(gcm(i.key), bytes(i.key), bytes(i.iv), { authTagLength: 16 })
        decipher.setAAD(bytes(i.aad)).setAuthTag(bytes(i.tag))
        decipher.update(bytes(i.ciphertext))
        decipher.final()
      }, id).toThrow()
    }
  })

  test('jose opens what is sound, in profile or not, and refuses the rest', async () => {
    const file = 'jwe-ecdh-es.json'
    for (const { id, inputs, outputs } of accepted(file, 'jwe.open')) {
      expect(hex(await joseOpen(inputs)), id).toBe(outputs.plaintext)
    }
    for (const { id, inputs, flags = [] } of rejected(file, 'jwe.open')) {
      if (flags.includes('lenient-elsewhere')) expect(await joseOpen(inputs), id).toBeDefined()
      else await expect(joseOpen(inputs), id).rejects.toThrow()
    }
    for (const { id, inputs, outputs } of accepted(file, 'jwe.seal')) {
      const recipient = accepted(file, 'jwe.open')[0]?.inputs.recipientPrivateJwk
      if (recipient === undefined) throw new Error('no recipient')
      const opened = await joseOpen({ jwe: outputs.jwe, recipientPrivateJwk: recipient })
      expect(hex(opened), id).toBe(inputs.plaintext)
      const [header = '', , iv = ''] = outputs.jwe.split('.')
      expect(Buffer.from(header, 'base64url').toString(), id).toBe(inputs.protectedHeader)
      expect(hex(Buffer.from(iv, 'base64url')), id).toBe(inputs.iv)
    }
  })
})

function tdea(key: string, mode: 'ECB' | 'CBC', data: string, iv?: string): string {
  const bundle = key.length === 32 ? key + key.slice(0, 16) : key
  const cipher = crypto.createCipheriv(
    mode === 'ECB' ? 'des-ede3' : 'des-ede3-cbc',
    bytes(bundle),
    iv === undefined ? null : bytes(iv),
  )
  return hex(cipher.setAutoPadding(false).update(bytes(data)))
}

function forgeTdea(key: string, mode: 'ECB' | 'CBC', data: string, iv?: string): string {
  const bundle = key.length === 32 ? key + key.slice(0, 16) : key
  const cipher = forge.cipher.createCipher(`3DES-${mode}`, forge.util.hexToBytes(bundle))
  cipher.start(iv === undefined ? {} : { iv: forge.util.hexToBytes(iv) })
  cipher.update(forge.util.createBuffer(forge.util.hexToBytes(data)))
  // Without padding: what is complete has come out already.
  return cipher.output.toHex().slice(0, data.length).toUpperCase()
}

function ecb(cipher: 'TDEA' | 'AES', key: string, data: string): string {
  if (cipher === 'TDEA') return tdea(key, 'ECB', data)
  const aes = crypto.createCipheriv(`aes-${key.length * 4}-ecb`, bytes(key), null)
  return hex(aes.setAutoPadding(false).update(bytes(data)))
}

function oddParity(key: string): string {
  return hex(
    bytes(key).map(b => (b & 0xfe) | (1 ^ ([...(b >> 1).toString(2)].filter(d => d === '1').length & 1))),
  )
}

function pad(method: 1 | 2 | 3, blockSize: number, data: string): string {
  const open = method === 2 ? `${data}80` : data
  const blocks = Math.max(1, Math.ceil(open.length / 2 / blockSize))
  const front = method === 3 ? (data.length * 4).toString(16).padStart(blockSize * 2, '0') : ''
  return (front + open.padEnd(blocks * blockSize * 2, '0')).toUpperCase()
}

function iso9797({ algorithm, key, padding, data }: Accepted<'mac.iso9797'>['inputs']): string {
  const message = pad(padding, 8, data)
  const whole = key.length === 16 ? key.repeat(3) : key
  if (algorithm === 1) return tdea(whole, 'CBC', message, ZERO).slice(-16)
  const [front, last] = [message.slice(0, -16), message.slice(-16)]
  const chain = front === '' ? ZERO : tdea(key.slice(0, 16).repeat(3), 'CBC', front, ZERO).slice(-16)
  return tdea(key, 'CBC', last, chain)
}

function cmac(cipher: 'TDEA' | 'AES', key: string, data: string): string {
  const [size, constant] = cipher === 'AES' ? [32, 0x87n] : [16, 0x1bn]
  const top = 1n << BigInt(size * 4)
  const double = (n: bigint) => ((n << 1n) & top ? (n << 1n) ^ top ^ constant : n << 1n)
  const encipher = (n: bigint) => BigInt(`0x${ecb(cipher, key, n.toString(16).padStart(size, '0'))}`)
  const blocks = data.match(new RegExp(`.{1,${size}}`, 'g')) ?? ['']
  const last = blocks.pop() ?? ''
  const k1 = double(encipher(0n))
  const ending =
    last.length === size ? BigInt(`0x${last}`) ^ k1 : BigInt(`0x${`${last}8`.padEnd(size, '0')}`) ^ double(k1)
  const state = blocks.reduce((n, b) => encipher(n ^ BigInt(`0x${b}`)), 0n)
  return encipher(state ^ ending)
    .toString(16)
    .padStart(size, '0')
    .toUpperCase()
}

/** `count` nibbles F. */
function ones(count: number): bigint {
  return (1n << BigInt(4 * count)) - 1n
}

/** The number whose hex digits are the given decimal digits. */
function packed(digits: string): bigint {
  return [...digits].reduce((n, digit) => n * 16n + BigInt(digit.charCodeAt(0) - 48), 0n)
}

function toHex(n: bigint, digits: number): string {
  return n.toString(16).toUpperCase().padStart(digits, '0')
}

/** The account number field of formats 0 and 3. */
function account(pan: string | undefined): bigint {
  return pan === undefined ? 0n : (packed(pan) >> 4n) & ones(12)
}

function block(format: number, pin: string, pan: string | undefined, filler: bigint): string {
  const head = (BigInt(format) << 60n) | (BigInt(pin.length) << 56n)
  return toHex((head | (packed(pin) << BigInt(56 - 4 * pin.length)) | filler) ^ account(pan), 16)
}

/** The PIN digits as they stand, and the rules that the block breaks. */
function read(format: number, clear: string, pan?: string): { pin: string; broken: string[] } {
  const field = BigInt(`0x${clear}`) ^ account(pan)
  const nibble = (place: number) => Number((field >> BigInt(60 - 4 * place)) & 15n)
  const length = nibble(1)
  const body = Array.from({ length: 14 }, (_, i) => nibble(i + 2))
  const isFiller = [
    (n: number) => n === 15,
    () => true,
    (n: number) => n === 15,
    (n: number) => n > 9,
    (n: number) => n === 10,
  ]
  const rules: [string, boolean][] = [
    ['control', nibble(0) === format],
    ['length', length >= 4 && length <= 12],
    ['pin-digit', body.slice(0, length).every(n => n < 10)],
    ['filler', body.slice(length).every(n => isFiller[format]?.(n))],
  ]
  return {
    pin: body.slice(0, length).join(''),
    broken: rules.filter(([, kept]) => !kept).map(([rule]) => rule),
  }
}

function pinField4(pin: string, random: string): string {
  return block(4, pin, undefined, (ones(14 - pin.length) / 15n) * 10n) + random
}

function panField4(pan: string): string {
  const digits = Math.max(pan.length, 12)
  return toHex((BigInt(digits - 12) << 124n) | (packed(pan) << BigInt(124 - 4 * digits)), 32)
}

function xor(a: string, b: string): string {
  return toHex(BigInt(`0x${a}`) ^ BigInt(`0x${b}`), 32)
}

function encipher4(key: string, pinField: string, pan: string): Accepted<'pin-block-4.encipher'>['outputs'] {
  const panField = panField4(pan)
  const intermediateA = ecb('AES', key, pinField)
  const intermediateB = xor(intermediateA, panField)
  return { pinField, panField, intermediateA, intermediateB, enciphered: ecb('AES', key, intermediateB) }
}

function decipher4(key: string, enciphered: string, pan: string): string {
  const undo = (data: string) => {
    const aes = crypto.createDecipheriv(`aes-${key.length * 4}-ecb`, bytes(key), null)
    return hex(aes.setAutoPadding(false).update(bytes(data)))
  }
  return undo(xor(undo(enciphered), panField4(pan)))
}

function uint32(n: number): Buffer {
  const out = Buffer.alloc(4)
  out.writeUInt32BE(n)
  return out
}

function agree({ privateKey, peerPublicKey }: { privateKey: string; peerPublicKey: string }): string {
  const ecdh = crypto.createECDH('prime256v1')
  ecdh.setPrivateKey(bytes(privateKey))
  return hex(ecdh.computeSecret(bytes(peerPublicKey)))
}

function gcm(key: string): crypto.CipherGCMTypes {
  return `aes-${key.length * 4}-gcm` as crypto.CipherGCMTypes
}

async function joseOpen({ jwe, recipientPrivateJwk }: Accepted<'jwe.open'>['inputs']): Promise<Uint8Array> {
  const key = await jose.importJWK(recipientPrivateJwk, 'ECDH-ES')
  if (typeof jwe === 'string') return (await jose.compactDecrypt(jwe, key)).plaintext
  if ('recipients' in jwe)
    return (await jose.generalDecrypt(jwe as unknown as jose.GeneralJWE, key)).plaintext
  return (await jose.flattenedDecrypt(jwe as unknown as jose.FlattenedJWE, key)).plaintext
}
