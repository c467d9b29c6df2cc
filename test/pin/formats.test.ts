/** The table of formats, and the port where blocks are longer than 8 bytes. */
import { describe, expect, test } from 'vitest'
import { BoundKey } from '../../src/backend/bound-key.js'
import { readBlocks } from '../../src/backend/checks.js'
import { Jobs } from '../../src/backend/jobs.js'
import { type KeyFacts, makeKey, operationsOf } from '../../src/backend/key.js'
import { forgeEngine } from '../../src/backend/software/engine-forge.js'
import { storeKeys } from '../../src/backend/software/keys.js'
import { SoftwareDriver } from '../../src/backend/software/software.js'
import { fromHex, toHex } from '../../src/base/bytes.js'
import { buildFormat0, checkFormat0, Pan, Pin, parseFormat0 } from '../../src/index.js'
import { buildBlock, readBlock } from '../../src/pin/formats/format.js'
import { FORMATS, requireFormat } from '../../src/pin/formats/formats.js'
import { requireFormatKey } from '../../src/pin/policy.js'
import { KEY_BYTES } from '../../src/primitives/algorithms.js'
import { failure } from '../support/errors.js'

/** FIPS 197, appendix C.1. */
const AES = { material: '000102030405060708090A0B0C0D0E0F', clear: '00112233445566778899AABBCCDDEEFF' }
const AES_ANSWER = '69C4E0D86A7B0430D8CDB78070B4C55A'

describe('each format of the table', () => {
  test.each(Object.entries(FORMATS))(
    '%s has the block length of its keys, and builds what it parses',
    (_name, row) => {
      for (const algorithm of row.algorithms) {
        expect(algorithm.startsWith('aes') ? 16 : 8).toBe(row.bytes)
        expect(KEY_BYTES[algorithm]).toBeGreaterThan(0)
      }
      const pan = Pan.from('5432101234567891')
      const block = buildBlock(row, Pin.from('12345'), pan)
      expect(block).toHaveLength(row.bytes)
      row.check({ block, pan })
      expect(row.parse({ block, pan }).reveal()).toBe('12345')
    },
  )

  test('cannot be changed by whoever reads the table', () => {
    expect(Object.isFrozen(FORMATS[0])).toBe(true)
    expect(Object.isFrozen(FORMATS[0].algorithms)).toBe(true)
  })

  test.each([undefined, '0', 5, -0.5, 'constructor', [0]])(
    '%j is no format of this release',
    async format => {
      expect((await failure(() => requireFormat(format, 'format'), 'ERR_ARGUMENT')).message).toContain(
        'format must be',
      )
    },
  )

  test('an enciphered block has the length of its format', async () => {
    expect(readBlock(new Uint8Array(16), { bytes: 16 })).toHaveLength(16)
    await failure(() => readBlock(new Uint8Array(8), { bytes: 16 }), 'ERR_PIN_BLOCK')
  })

  test('its public functions take one object, and nothing that is not in it', async () => {
    for (const verb of [buildFormat0, parseFormat0, checkFormat0])
      expect((await failure(() => verb(undefined as never), 'ERR_ARGUMENT')).message).toContain(verb.name)
    await failure(
      () => parseFormat0({ block: new Uint8Array(8), pan: Pan.from('5432101234567891'), pin: 1 } as never),
      'ERR_ARGUMENT',
    )
  })
})

describe('AES keys', () => {
  const driver = new SoftwareDriver(
    storeKeys([
      { kid: 'A', usage: 'cmac', algorithm: 'aes-128', material: AES.material },
      { kid: 'T', usage: 'cmac', algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' },
    ]),
    forgeEngine,
  )
  const query = {
    usage: 'cmac',
    mode: 'C',
    algorithm: undefined,
    hostDecipher: false,
    checkValueMethod: undefined,
  } as const
  const parts = { driver, jobs: new Jobs(), reenciphersInside: false, onOperation: undefined }
  const pinKey = (kid: 'A' | 'T') => {
    const { ref, algorithm, checkValue } = driver.find({ ...query, kid })
    const facts: KeyFacts = {
      kid,
      usage: 'pin-encryption',
      mode: 'B',
      algorithm,
      checkValue,
      parity: 'unknown',
      hostDecipher: true,
    }
    return makeKey(facts, new BoundKey(facts, parts, { ref, publicKey: undefined, isReleased: false }))
  }

  test('encipher and decipher blocks of 16 bytes, and re-encipher none: the PAN is inside', async () => {
    const operations = operationsOf(pinKey('A'))
    const enciphered = await operations.encipher(fromHex(AES.clear, 'clear'))
    expect(toHex(enciphered)).toBe(AES_ANSWER)
    expect(toHex(await operations.decipher(enciphered))).toBe(AES.clear)
    await failure(() => operations.reencipher(pinKey('A'), enciphered), 'ERR_KEY_ALGORITHM')
    for (const length of [0, 8, 24, 65_552])
      await failure(() => operations.encipher(new Uint8Array(length)), 'ERR_LENGTH')
  })

  test('no block moves to a key of another block length', async () => {
    const call = () => operationsOf(pinKey('T')).reencipher(pinKey('A'), new Uint8Array(16))
    expect(await failure(call, 'ERR_KEY_ALGORITHM')).toHaveProperty('kid', 'A')
  })

  test('are refused by a format of the other cipher, before anything is done with them', async () => {
    expect(requireFormatKey(pinKey('T'), 'encipher', FORMATS[0])).toBeUndefined()
    const error = await failure(
      () => requireFormatKey(pinKey('A'), 'encipher', FORMATS[0]),
      'ERR_KEY_ALGORITHM',
    )
    expect(error.message).toBe('key A is aes-128: the format takes tdea-2key, tdea-3key')
  })

  test('the port counts in the blocks of the key', () => {
    expect(readBlocks(new Uint8Array(24), 'tdea-2key')).toHaveLength(24)
    expect(readBlocks(new Uint8Array(32), 'aes-256')).toHaveLength(32)
  })
})
