import assert from 'node:assert/strict'
import type { Backend, MacRequest } from '../backend/backend.js'
import type { ContractCase, ContractContext } from './contract.js'
import { assertBytes, assertRejects, bindContractKey, bytes } from './contract-helpers.js'

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

export function operationCases(context: ContractContext): readonly ContractCase[] {
  return [
    ...ECB.map(({ kid, clear, enciphered, source }) => ({
      name: `${kid} enciphers and deciphers the known answer (${source})`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        assertBytes(await backend.encipherBlocks(key, bytes(clear)), enciphered, 'encipherBlocks')
        assertBytes(await backend.decipherBlocks(key, bytes(enciphered)), clear, 'decipherBlocks')
      },
    })),
    { name: 'a batch of 8192 blocks equals the blocks one by one', run: () => batches(context) },
    {
      name: 'decipherment needs a key bound with hostDecipher: ERR_HOST_DECIPHER',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'PEK-CLOSED')
        await assertRejects(() => backend.decipherBlocks(key, new Uint8Array(8)), 'ERR_HOST_DECIPHER')
        if (backend.capabilities().reencipher !== 'host') return
        const to = await bindContractKey(backend, 'PEK-2')
        await assertRejects(() => backend.reencipherBlocks(key, to, new Uint8Array(8)), 'ERR_HOST_DECIPHER')
      },
    },
    {
      name: 'reencipherBlocks equals deciphering and enciphering',
      run: async () => {
        const backend = await context.shared()
        const from = await bindContractKey(backend, 'PEK-3')
        const to = await bindContractKey(backend, 'PEK-2')
        const clear = bytes('13BAD542F3652D67'.repeat(3))
        const moved = await backend.reencipherBlocks(from, to, await backend.encipherBlocks(from, clear))
        assertBytes(moved, '908E543CF2CB254F'.repeat(3), 'reencipherBlocks')
      },
    },
    ...MACS.map(({ kid, request, message, mac }) => ({
      name: `${kid}: ${request.algorithm}, padding ${request.padding}, ${message.length / 2} bytes: known answer`,
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, kid)
        await macOrRefusal(backend, request, () => backend.mac(key, request, bytes(message)), mac)
      },
    })),
    {
      name: 'the iv of an ISO/IEC 9797-1 MAC enters the first block',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'MAC-1')
        const request = { algorithm: 'iso9797-1-alg1', padding: 1, iv: bytes('68656C6C6F20776F') } as const
        // The first block is the iv itself, so its XOR is zero and the chain begins as with iv 0 and a zero block.
        const zeroFirst = () =>
          backend.mac(key, { algorithm: 'iso9797-1-alg1', padding: 1 }, bytes('0000000000000000726C64'))
        if (backend.capabilities().macs['iso9797-1-alg1'] === 'none') return
        const expected = Buffer.from(await zeroFirst()).toString('hex')
        assertBytes(await backend.mac(key, request, bytes('68656C6C6F20776F726C64')), expected, 'mac with iv')
      },
    },
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
        assertBytes(await backend.deriveContentKey(key, request), derived, 'deriveContentKey')
      },
    })),
    {
      name: 'a derived key of 64 bytes takes two rounds of the KDF, the first equal to the 32-byte key',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'JWE-D1')
        const request = { ephemeralPublicKey: bytes(D1_SAMPLE_EPK), otherInfo: bytes('0102') }
        const short = await backend.deriveContentKey(key, { ...request, length: 32 })
        const long = await backend.deriveContentKey(key, { ...request, length: 64 })
        assert.deepEqual(long.slice(0, 32), short)
        assert.notDeepEqual(long.slice(32), short)
      },
    },
    {
      name: 'randomBytes gives as many bytes as asked for, and other ones each time',
      run: async () => {
        const backend = await context.shared()
        for (const length of [1, 16, 65_536]) {
          assert.equal((await backend.randomBytes(length)).length, length)
        }
        const [a, b] = [await backend.randomBytes(32), await backend.randomBytes(32)]
        assert.notDeepEqual(a, b)
        assert.equal(a.buffer.byteLength, 32)
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

async function batches(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const key = await bindContractKey(backend, 'PEK-2')
  const blocks = new Uint8Array(65_536)
  for (let i = 0; i < blocks.length; i++) blocks[i] = (i * 131 + (i >> 8)) & 0xff
  const all = await backend.encipherBlocks(key, blocks)
  for (const at of [0, 8, 40_000, 65_528]) {
    const one = await backend.encipherBlocks(key, blocks.subarray(at, at + 8))
    assert.deepEqual(all.slice(at, at + 8), one)
  }
  assert.deepEqual(await backend.decipherBlocks(key, all), blocks)
}

/** A backend that says it cannot compute a MAC must refuse it with a code; one that says it can must be right. */
async function macOrRefusal(
  backend: Backend,
  request: MacRequest,
  compute: () => Promise<Uint8Array>,
  mac: string,
): Promise<void> {
  if (backend.capabilities().macs[request.algorithm] === 'none') {
    await assertRejects(compute, ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN'])
    return
  }
  assertBytes(await compute(), mac, request.algorithm)
}
