/** Known answers of every operation, from the standards and from independent implementations. */
import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import type { MacRequest } from '../backend/driver.js'
import { operationsOf } from '../backend/key.js'
import { isEncipherment } from '../primitives/mac-algorithm.js'
import type { ContractCase, ContractContext } from './contract-helpers.js'
import { assertBytes, assertRejects, bindContractKey, bytes } from './contract-helpers.js'
import { MAC_ANSWERS, patternOf } from './contract-macs.js'

const ECB: readonly { kid: string; clear: string; enciphered: string; source: string }[] = [
  {
    kid: 'PEK-2',
    clear: '13BAD542F3652D67',
    enciphered: '908E543CF2CB254F',
    source: 'NIST CAVP TECBMMT2',
  },
  {
    kid: 'PEK-3',
    clear: '54686520717566636B2062726F776E20666F78206A756D70',
    enciphered: 'A826FD8CE53B855FCCE21C8112256FE668D5C05DD9B6B900',
    source: 'NIST SP 800-67, B.1',
  },
]

const MACS: readonly { kid: string; request: MacRequest; message: string; mac: string }[] = [
  {
    kid: 'MAC-1',
    request: { algorithm: 'iso9797-1-alg1', padding: 1 },
    message: '68656C6C6F20776F726C64',
    mac: '68D9038F23360DF3',
  },
  {
    kid: 'MAC-1',
    request: { algorithm: 'iso9797-1-alg1', padding: 2 },
    message: '68656C6C6F20776F726C64',
    mac: '32DC341271ACCD00',
  },
  {
    kid: 'MAC-1',
    request: { algorithm: 'iso9797-1-alg1', padding: 3 },
    message: '68656C6C6F20776F726C64',
    mac: 'CDACA53E2DAA5412',
  },
  {
    kid: 'MAC-3',
    request: { algorithm: 'iso9797-1-alg3', padding: 1 },
    message: '48656C6C6F20576F726C642021212121',
    mac: 'F09B856213BAB83B',
  },
  {
    kid: 'CMAC-T',
    request: { algorithm: 'cmac', padding: 'none' },
    message: '3430313233343536373839303944393837',
    mac: '211003F1D5B79DD7',
  },
  {
    kid: 'CMAC-A',
    request: { algorithm: 'cmac', padding: 'none' },
    message: '6BC1BEE22E409F96E93D7E117393172A',
    mac: '070A16B46B4D4144F79BDD9DD04A287C',
  },
  {
    kid: 'CMAC-A',
    request: { algorithm: 'cmac', padding: 'none' },
    message: '',
    mac: 'BB1D6929E95937287FA37D129B756746',
  },
  {
    kid: 'PRW-G',
    request: { algorithm: 'cmac', padding: 'none' },
    message: '020683E1F0392F4CAC54318B6029259E9C553DBC4B6AD998E64D58E4E7DC2E13',
    mac: 'FBFEA41BF9740CB501F1292C21CEBB40',
  },
  {
    kid: 'PRW-V',
    request: { algorithm: 'cmac', padding: 'none' },
    message: '6BC1BEE22E409F96E93D7E117393172A',
    mac: '28A7023F452E8F82BD4BF28D8C37C35C',
  },
]

const D1_SAMPLE_EPK =
  '048578CABDC564C2F76DC77FE5BEB8CD6E6045FDEA007F72F16C19CF31346A71BA' +
  '446F02C97E729A884B7ADAB5696F374E8CD03038463E6DC6E72A5D0DF5BE7C95'

const AGREEMENTS: readonly { kid: string; epk: string; otherInfo: string; key: string; source: string }[] = [
  {
    kid: 'JWE-D1',
    epk: D1_SAMPLE_EPK,
    otherInfo: '000000074132353647434D000000000000000000000100',
    key: '8EBBE65F3C735957AA96CF5F651BC64CD1E5914467A09B265866D146D096DEE9',
    source: 'published D1 sample',
  },
  {
    kid: 'JWE-BOB',
    epk:
      '04808D060082C176EED3E776A4AC598CC8672C1779F974EECC9B03411CA5B9495D' +
      '48B5BFC527DFCE53D6AC7115237D031CCFF87A0570B77350A9E503EE7305A69B',
    otherInfo: '000000074131323847434D00000005416C69636500000003426F6200000080',
    key: '56AA8DEAF8236D205C2228CD71A7101A',
    source: 'RFC 7518, appendix C',
  },
]

/** Z begins with a zero byte: it must go into the KDF as 32 bytes all the same (RFC 7518, 4.6.1). */
const LEADING_ZERO_EPK =
  '049807D699FCD81356FA9AA25B89D9D34EA03B0A533AA872FD65C100F3CB2CD793' +
  'C2A59CDCCAB11BF286A01A4D1D091B2FFFE630B96C5878532F6BF92479634AF4'

/** Computed with Python's hashlib from Z, by SP 800-56A Rev. 3, 5.8.2.1. */
const DERIVED: readonly { name: string; epk: string; otherInfo: Uint8Array; key: string }[] = [
  {
    name: 'Z with a leading zero byte',
    epk: LEADING_ZERO_EPK,
    otherInfo: bytes('000000074132353647434D000000000000000000000100'),
    key: '0251B008B63B0EDEAE060CC04C13BBA79D51FF178615DEC946BFD98E3CAF55AC',
  },
  {
    name: 'empty OtherInfo',
    epk: D1_SAMPLE_EPK,
    otherInfo: new Uint8Array(0),
    key:
      '0456E6E41B5B22AF9D16DDD656BFC235F8F032DA406D2ADDF29E96E5D2DCDD4F' +
      '7D687A7416FA27BAE0DE24A561FED3006784B83B2A8D6CA4D070A8640FEFBEF1',
  },
  {
    name: 'OtherInfo of 1024 bytes',
    epk: D1_SAMPLE_EPK,
    otherInfo: patternOf(1024),
    key:
      '4D496DE0C62F0FC0A7C4FD39703652D7E6AB57FF4392CAC5DAD929082F774B2C' +
      '104C317DC5F5360FF058C046A9228B4E630E7B9EB3F73BE411B25C6318E1B7B7',
  },
]

export function operationCases(context: ContractContext): readonly ContractCase[] {
  return [
    ...ECB.map(({ kid, clear, enciphered, source }) => ({
      name: `${kid} enciphers and deciphers the known answer (${source})`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        assertBytes(await operationsOf(key).encipher(bytes(clear)), enciphered, 'encipherBlocks')
        assertBytes(await operationsOf(key).decipher(bytes(enciphered)), clear, 'decipherBlocks')
      },
    })),
    ...['PEK-2', 'PEK-3'].map(kid => ({
      name: `${kid}: a batch of 8192 blocks equals the blocks one by one`,
      run: () => batches(context, kid),
    })),
    {
      name: 'decipherment needs a key bound with hostDecipher: ERR_HOST_DECIPHER',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'PEK-CLOSED')
        await assertRejects(() => operationsOf(key).decipher(new Uint8Array(8)), 'ERR_HOST_DECIPHER')
        const unopened = await bindContractKey(backend, 'PEK-2', { hostDecipher: false })
        await assertRejects(() => operationsOf(unopened).decipher(new Uint8Array(8)), 'ERR_HOST_DECIPHER')
        if (backend.capabilities().reencipher !== 'host') return
        const to = await bindContractKey(backend, 'PEK-2')
        await assertRejects(() => operationsOf(key).reencipher(to, new Uint8Array(8)), 'ERR_HOST_DECIPHER')
      },
    },
    {
      name: 'reencipherBlocks equals deciphering and enciphering',
      run: async () => {
        const backend = await context.shared()
        const from = await bindContractKey(backend, 'PEK-3')
        const to = await bindContractKey(backend, 'PEK-2')
        const clear = bytes('13BAD542F3652D67'.repeat(3))
        const moved = await operationsOf(from).reencipher(to, await operationsOf(from).encipher(clear))
        assertBytes(moved, '908E543CF2CB254F'.repeat(3), 'reencipherBlocks')
      },
    },
    ...MACS.map(({ kid, request, message, mac }) => ({
      name: `${kid}: ${request.algorithm}, padding ${request.padding}, ${message.length / 2} bytes: known answer`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        await macOrRefusal(backend, request, () => operationsOf(key).mac(request, bytes(message)), mac)
      },
    })),
    ...MAC_ANSWERS.map(([kid, algorithm, padding, length, iv, mac]) => ({
      name: `${kid}: ${algorithm}, padding ${padding}, ${length} bytes${iv === '' ? '' : ', with iv'}`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        const request: MacRequest = iv === '' ? { algorithm, padding } : { algorithm, padding, iv: bytes(iv) }
        await macOrRefusal(backend, request, () => operationsOf(key).mac(request, patternOf(length)), mac)
      },
    })),
    ...AGREEMENTS.map(({ kid, epk, otherInfo, key: derived, source }) => ({
      name: `${kid}: deriveContentKey gives the known answer (${source})`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        const request = {
          ephemeralPublicKey: bytes(epk),
          otherInfo: bytes(otherInfo),
          length: derived.length / 2,
        }
        assertBytes(await operationsOf(key).deriveContentKey(request), derived, 'deriveContentKey')
      },
    })),
    ...DERIVED.flatMap(({ name, epk, otherInfo, key: derived }) =>
      [16, 24, 32, 64]
        .filter(length => 2 * length <= derived.length)
        .map(length => ({
          name: `JWE-D1: deriveContentKey of ${length} bytes, ${name}`,
          run: async () => {
            const backend = await context.shared()
            const key = await bindContractKey(backend, 'JWE-D1')
            const request = { ephemeralPublicKey: bytes(epk), otherInfo, length }
            const expected = derived.slice(0, 2 * length)
            assertBytes(await operationsOf(key).deriveContentKey(request), expected, 'deriveContentKey')
          },
        })),
    ),
    {
      name: 'randomBytes gives as many bytes as asked for, and other ones each time',
      run: async () => {
        const backend = await context.shared()
        for (const length of [1, 16, 65_536]) {
          assert.equal((await backend.randomBytes(length)).length, length)
        }
        const seen = new Set<string>()
        for (let i = 0; i < 64; i++) {
          const random = await backend.randomBytes(16)
          assert.equal(random.buffer.byteLength, 16)
          assert.ok(new Set(random).size > 4, 'random bytes that are hardly random')
          seen.add(Buffer.from(random).toString('hex'))
        }
        assert.equal(seen.size, 64)
      },
    },
    {
      name: 'capabilities and health describe the backend',
      run: async () => {
        const backend = await context.shared()
        assert.equal(backend.capabilities().backend, backend.name)
        assert.deepEqual(Object.keys(backend.capabilities().macs).sort(), [
          'cmac',
          'iso9797-1-alg1',
          'iso9797-1-alg3',
        ])
        const { ok, detail } = await backend.health()
        assert.ok(ok, detail)
      },
    },
  ]
}

async function batches(context: ContractContext, kid: string): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, kid)
  const blocks = new Uint8Array(65_536)
  for (let i = 0; i < blocks.length; i++) blocks[i] = (i * 131 + (i >> 8)) & 0xff
  const all = await operationsOf(key).encipher(blocks)
  for (const at of [0, 8, 40_000, 65_528]) {
    const one = await operationsOf(key).encipher(blocks.subarray(at, at + 8))
    assert.deepEqual(all.slice(at, at + 8), one)
  }
  assert.deepEqual(await operationsOf(key).decipher(all), blocks)
  const other = await bindContractKey(backend, kid === 'PEK-2' ? 'PEK-3' : 'PEK-2')
  const moved = await operationsOf(key).reencipher(other, all)
  assert.deepEqual(await operationsOf(other).decipher(moved), blocks)
}

/** A backend that says it cannot compute a MAC must refuse it with a code; one that says it can must be right. */
async function macOrRefusal(
  backend: Backend,
  { algorithm }: MacRequest,
  compute: () => Promise<Uint8Array>,
  mac: string,
): Promise<void> {
  if (!isEncipherment(algorithm) && backend.capabilities().macs[algorithm] === 'none') {
    await assertRejects(compute, ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN'])
    return
  }
  assertBytes(await compute(), mac, algorithm)
}
