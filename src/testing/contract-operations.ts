/**
 * Known answers of every operation, MACs in all their forms, from the standards and from independent
 * implementations.
 */
import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import type { MacRequest } from '../backend/driver.js'
import { operationsOf } from '../backend/key.js'
import { isEncipherment, type MacAlgorithm, type MacPadding } from '../primitives/algorithms.js'
import {
  assertBytes,
  assertRejects,
  bindContractKey,
  bytes,
  type ContractCase,
  type ContractContext,
} from './contract-helpers.js'

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

/** Format 4: block and field before, and the block after. The 192- and 256-bit ones were computed twice, by OpenSSL from Python and here. */
const BOUND: readonly { kid: string; block: string; field: string; enciphered: string }[] = [
  {
    kid: 'PEK-A',
    block: '441234AAAAAAAAAA2F69ADDE2E9E7ACE',
    field: '44111111111111111000000000000000',
    enciphered: 'A912150391AB65A67E52883D81CE2D15',
  },
  {
    kid: 'PEK-A192',
    block: '4564047AAAAAAAAA4BD2E10A3C6F8957',
    field: '19904718263509000000000000000000',
    enciphered: '567906862624B5919B643382EF08987C',
  },
  {
    kid: 'PEK-A256',
    block: '46404730AAAAAAAA78E1D2390F5CBA64',
    field: '29904718263509100000000000000000',
    enciphered: '31C570A602B7726AEF302400472E094F',
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
    kid: 'HMAC',
    request: { algorithm: 'hmac-sha256', padding: 'none' },
    message: '4869205468657265',
    mac: 'B0344C61D8DB38535CA8AFCEAF0BF12B881DC200C9833DA726E9376C2E32CFF7',
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
    ...BOUND.map(({ kid, block, field, enciphered }) => ({
      name: `${kid}: encipherBound and decipherBound give the known answer, alone and among others`,
      run: async () => {
        const operations = operationsOf(await bindContractKey(await context.shared(), kid))
        for (const count of [1, 2, 4096]) {
          const [blocks, fields, out] = [block, field, enciphered].map(hex => bytes(hex.repeat(count)))
          assert.ok(blocks && fields && out)
          assertBytes(
            await operations.encipherBound(blocks, fields),
            enciphered.repeat(count),
            'encipherBound',
          )
          assertBytes(await operations.decipherBound(out, fields), block.repeat(count), 'decipherBound')
        }
        // Many at a time, as callers come: a backend may put them together, and must take them apart again.
        const many = Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? bytes(field) : bytes(block)))
        const alone = await operations.encipherBound(bytes(block), bytes(block))
        const together = await Promise.all(many.map(other => operations.encipherBound(bytes(block), other)))
        for (const [i, one] of together.entries())
          assertBytes(
            one,
            i % 2 === 0 ? enciphered : Buffer.from(alone).toString('hex').toUpperCase(),
            `call ${i}`,
          )
      },
    })),
    {
      name: 'fields of another length than the blocks are ERR_LENGTH, keys that must not decipher ERR_HOST_DECIPHER',
      run: async () => {
        const backend = await context.shared()
        const operations = operationsOf(await bindContractKey(backend, 'PEK-A'))
        for (const length of [0, 8, 15, 32]) {
          const fields = new Uint8Array(length)
          await assertRejects(() => operations.encipherBound(new Uint8Array(16), fields), 'ERR_LENGTH')
          await assertRejects(() => operations.decipherBound(new Uint8Array(16), fields), 'ERR_LENGTH')
        }
        const closed = operationsOf(await bindContractKey(backend, 'PEK-A', { hostDecipher: false }))
        const call = () => closed.decipherBound(new Uint8Array(16), new Uint8Array(16))
        await assertRejects(call, 'ERR_HOST_DECIPHER')
        const mac = operationsOf(await bindContractKey(backend, 'CMAC-A'))
        await assertRejects(() => mac.encipherBound(new Uint8Array(16), new Uint8Array(16)), 'ERR_KEY_USAGE')
      },
    },
    {
      name: 'inside the token or not at all: ERR_HOST_DECIPHER where only the host can re-encipher',
      run: async () => {
        const backend = await context.shared()
        const from = await bindContractKey(backend, 'PEK-3')
        const to = await bindContractKey(backend, 'PEK-2')
        const inside = () => operationsOf(from).reencipher(to, new Uint8Array(8), undefined, { inside: true })
        if (backend.capabilities().reencipher === 'host') await assertRejects(inside, 'ERR_HOST_DECIPHER')
      },
    },
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
        await agreementOrRefusal(backend, () => operationsOf(key).deriveContentKey(request), derived)
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
            await agreementOrRefusal(backend, () => operationsOf(key).deriveContentKey(request), expected)
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
          'hmac-sha256',
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

/** The same for key agreement. */
async function agreementOrRefusal(
  backend: Backend,
  derive: () => Promise<Uint8Array>,
  key: string,
): Promise<void> {
  if (backend.capabilities().keyAgreement !== 'none') assertBytes(await derive(), key, 'deriveContentKey')
  else await assertRejects(derive, ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN'])
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

/*
 * MAC answers for the contract keys, made with OpenSSL's command line (`enc`, `mac`) and Python's `hmac`, not with this library. The
 * message of n bytes is byte i = (37 i + 11) mod 256.
 */

/** Kid, algorithm, padding, length of the message, iv (hex, or empty), full MAC (hex). */
type MacAnswer = readonly [string, MacAlgorithm, MacPadding, number, string, string]

export function patternOf(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => 37 * i + 11)
}

const MAC_ANSWERS: readonly MacAnswer[] = [
  ['MAC-1', 'iso9797-1-alg1', 1, 0, '', 'E1CC69341D2CFC4C'],
  ['MAC-1', 'iso9797-1-alg1', 1, 1, '', '72A49750FE27096F'],
  ['MAC-1', 'iso9797-1-alg1', 1, 7, '', 'C4B234985AD54556'],
  ['MAC-1', 'iso9797-1-alg1', 1, 8, '', '9AED03E4A995B5B7'],
  ['MAC-1', 'iso9797-1-alg1', 1, 9, '', '1E92C94A9D83E198'],
  ['MAC-1', 'iso9797-1-alg1', 1, 16, '', 'A7C2A26E677C90F2'],
  ['MAC-1', 'iso9797-1-alg1', 1, 123, '', '969667101BCD1B64'],
  ['MAC-1', 'iso9797-1-alg1', 2, 0, '', '90F11BD8938B260C'],
  ['MAC-1', 'iso9797-1-alg1', 2, 1, '', '7F0CC60D421F6067'],
  ['MAC-1', 'iso9797-1-alg1', 2, 7, '', 'B4946D3EB91CB496'],
  ['MAC-1', 'iso9797-1-alg1', 2, 8, '', 'EF390FC9128560D8'],
  ['MAC-1', 'iso9797-1-alg1', 2, 9, '', '3D8D92642D2C0D19'],
  ['MAC-1', 'iso9797-1-alg1', 2, 16, '', '444FC13D1532FACE'],
  ['MAC-1', 'iso9797-1-alg1', 2, 123, '', 'EB1FF635C453D862'],
  ['MAC-1', 'iso9797-1-alg1', 3, 0, '', 'BFE523E5E49FBF69'],
  ['MAC-1', 'iso9797-1-alg1', 3, 1, '', '49D5CBC659AFC358'],
  ['MAC-1', 'iso9797-1-alg1', 3, 7, '', '1E9B91CEE603B397'],
  ['MAC-1', 'iso9797-1-alg1', 3, 8, '', '3775508C01FF5E00'],
  ['MAC-1', 'iso9797-1-alg1', 3, 9, '', '7CDF851F71B8902D'],
  ['MAC-1', 'iso9797-1-alg1', 3, 16, '', 'D844AA058418F7A3'],
  ['MAC-1', 'iso9797-1-alg1', 3, 123, '', '8012931E8E1656CC'],
  ['MAC-1', 'iso9797-1-alg1', 2, 16, '68656C6C6F20776F', 'EF71F647E9DCE98A'],
  ['MAC-1', 'iso9797-1-alg1', 1, 3, '68656C6C6F20776F', 'C64CAE602850BF27'],
  ['MAC-1', 'iso9797-1-alg1', 1, 4104, '', '42CF877E1AC0E84C'],
  ['MAC-3', 'iso9797-1-alg3', 1, 0, '', '29A9C3B790D75F8C'],
  ['MAC-3', 'iso9797-1-alg3', 1, 1, '', 'E4D891F55C538424'],
  ['MAC-3', 'iso9797-1-alg3', 1, 7, '', '8C813FA15B47C72F'],
  ['MAC-3', 'iso9797-1-alg3', 1, 8, '', '8A7FE2AD0A1EE44C'],
  ['MAC-3', 'iso9797-1-alg3', 1, 9, '', '28BCA127F7CE14B5'],
  ['MAC-3', 'iso9797-1-alg3', 1, 16, '', '9BE8B15C483FF5E8'],
  ['MAC-3', 'iso9797-1-alg3', 1, 123, '', 'CFD849ED829CE05A'],
  ['MAC-3', 'iso9797-1-alg3', 2, 0, '', 'D90D40D39C6A5807'],
  ['MAC-3', 'iso9797-1-alg3', 2, 1, '', '327D44287D2D4E0F'],
  ['MAC-3', 'iso9797-1-alg3', 2, 7, '', 'F1156969A2531DA0'],
  ['MAC-3', 'iso9797-1-alg3', 2, 8, '', '5E388FA98588589A'],
  ['MAC-3', 'iso9797-1-alg3', 2, 9, '', '47A802822A28D08D'],
  ['MAC-3', 'iso9797-1-alg3', 2, 16, '', '3A155FD368F0ACA4'],
  ['MAC-3', 'iso9797-1-alg3', 2, 123, '', 'B59F574F0FB4D5E5'],
  ['MAC-3', 'iso9797-1-alg3', 3, 0, '', 'E8A801DDBEADF7CD'],
  ['MAC-3', 'iso9797-1-alg3', 3, 1, '', '89A2395B42C24B0A'],
  ['MAC-3', 'iso9797-1-alg3', 3, 7, '', 'ABCB739C552C5126'],
  ['MAC-3', 'iso9797-1-alg3', 3, 8, '', '60EF35B32DC7F67B'],
  ['MAC-3', 'iso9797-1-alg3', 3, 9, '', '9D0A6854B08DB1D6'],
  ['MAC-3', 'iso9797-1-alg3', 3, 16, '', '301868A6E33C58A1'],
  ['MAC-3', 'iso9797-1-alg3', 3, 123, '', '5DB55F089514E05E'],
  ['MAC-3', 'iso9797-1-alg3', 2, 16, '68656C6C6F20776F', 'E1269B07F72BAB42'],
  ['MAC-3', 'iso9797-1-alg3', 1, 3, '68656C6C6F20776F', '30C52D5279A1B69A'],
  ['MAC-3', 'iso9797-1-alg3', 1, 4104, '', '494405685B4A222C'],
  ['CMAC-T', 'cmac', 'none', 0, '', '3BF996E25485279E'],
  ['CMAC-T', 'cmac', 'none', 1, '', '0C39170C7E8850CC'],
  ['CMAC-T', 'cmac', 'none', 8, '', '348940937BA8E832'],
  ['CMAC-T', 'cmac', 'none', 15, '', '32921A93AF03A0CD'],
  ['CMAC-T', 'cmac', 'none', 16, '', 'D4015C771BFA34FA'],
  ['CMAC-T', 'cmac', 'none', 17, '', 'CA7CDB43DB4D0CD5'],
  ['CMAC-T', 'cmac', 'none', 64, '', '1DB88BC111B74B12'],
  ['CMAC-T', 'cmac', 'none', 65, '', '919B4164E0403BEB'],
  ['CMAC-T', 'cmac', 'none', 123, '', '491D63636078B27B'],
  ['CMAC-T', 'cmac', 'none', 4104, '', '15F6CC7F1A50CE7C'],
  ['CMAC-A', 'cmac', 'none', 0, '', 'BB1D6929E95937287FA37D129B756746'],
  ['CMAC-A', 'cmac', 'none', 1, '', 'BD12E3F552DEB7BBDE34F072CB60F51C'],
  ['CMAC-A', 'cmac', 'none', 8, '', 'BE497837CA6BAEB13526414AAD3BC324'],
  ['CMAC-A', 'cmac', 'none', 15, '', 'C436484AA77C5BAFA4EB727EE4B67F41'],
  ['CMAC-A', 'cmac', 'none', 16, '', '7625D76B54C0C51AADFCB7D78AF2A068'],
  ['CMAC-A', 'cmac', 'none', 17, '', '5C8D1ED8E6A9D7BA9A2F8F228FA3355B'],
  ['CMAC-A', 'cmac', 'none', 64, '', 'C2F8E7CE72B0278B28B33C480FFC44EC'],
  ['CMAC-A', 'cmac', 'none', 65, '', 'CD1110D48358C4F624C1A4DA9C4DC029'],
  ['CMAC-A', 'cmac', 'none', 123, '', '7EF308957793808555F23E684071CE6C'],
  ['CMAC-A', 'cmac', 'none', 4104, '', '97C255B6552FB0584EDBDD3A7C7327C6'],
  ['HMAC', 'hmac-sha256', 'none', 0, '', '999A901219F032CD497CADB5E6051E97B6A29AB297BD6AE722BD6062A2F59542'],
  ['HMAC', 'hmac-sha256', 'none', 1, '', '6CE33699D2009CA9212F2FF15FB3D0269E98A7E8BA841A3DEE8606973D912CB2'],
  ['HMAC', 'hmac-sha256', 'none', 63, '', '982112F750572AD236F9B7F03BA80779F4101617516E9F4E93A43CCB9349D1E3'],
  ['HMAC', 'hmac-sha256', 'none', 64, '', '6880E711B8082898438DD7C15E3696C2939F586AF4D25AAD5F391B199B7876E2'],
  ['HMAC', 'hmac-sha256', 'none', 65, '', '18485830718CC11AC017346D13E18E0993AFB8C01D1F21CCEE24B0BC57757003'],
  [
    'HMAC',
    'hmac-sha256',
    'none',
    123,
    '',
    'C73AFDAA54AF39E905B47027E157983D54EA403911159042CEE5B05E76C7F3BF',
  ],
  [
    'HMAC',
    'hmac-sha256',
    'none',
    4104,
    '',
    'DBCCCAE7BF1A0C24C9B7CE7FDAAE727C161FE1C1FB3F0C628CB600731E57F0A1',
  ],
  ['PRW-V', 'cmac', 'none', 0, '', '028962F61B7BF89EFC6B551F4667D983'],
  ['PRW-V', 'cmac', 'none', 1, '', '029C9A8C1EDFA0110AD1F13F991293E4'],
  ['PRW-V', 'cmac', 'none', 8, '', '2E25120476E32D577DD8C8B998431A93'],
  ['PRW-V', 'cmac', 'none', 15, '', '53835E5FA905A51307885D2AB5C12956'],
  ['PRW-V', 'cmac', 'none', 16, '', '0A5C1A6CF52B3EF5FE1FBB8B6842A7D8'],
  ['PRW-V', 'cmac', 'none', 17, '', '3B3A781BDDBCD4467DB177E35B96B3EE'],
  ['PRW-V', 'cmac', 'none', 64, '', 'AA8161650E16FEE0E7AA45574D879A22'],
  ['PRW-V', 'cmac', 'none', 65, '', '2868D48B99269AA83BAD35B49380DB83'],
  ['PRW-V', 'cmac', 'none', 123, '', '216977E410F2012E08C4BBB25C9690D6'],
  ['PRW-V', 'cmac', 'none', 4104, '', 'A4E85FD45FEAE57F45B6E8F24CC89FC3'],
  ['CMAC-192', 'cmac', 'none', 0, '', 'D17DDF46ADAACDE531CAC483DE7A9367'],
  ['CMAC-192', 'cmac', 'none', 1, '', '08ABBE7C877AD846B4C4BB98CB21E627'],
  ['CMAC-192', 'cmac', 'none', 8, '', 'ABF7D9A0C39FCBCEBBEC10AB99D23787'],
  ['CMAC-192', 'cmac', 'none', 15, '', '64D366B58A033E4991B3D78AC91CB21F'],
  ['CMAC-192', 'cmac', 'none', 16, '', 'D9B6D1C92DAB3FAF9CB1CEFF605E53C0'],
  ['CMAC-192', 'cmac', 'none', 17, '', '2BE9A470F8ADDBFC230AD3F100C76679'],
  ['CMAC-192', 'cmac', 'none', 64, '', '72BC4283B9FCA86C93CB0021CCAE65C3'],
  ['CMAC-192', 'cmac', 'none', 65, '', '3D78FC36B232AB4C92490C291754CD14'],
  ['CMAC-192', 'cmac', 'none', 123, '', 'B9E05A7C857B35C863177B9D23AA5069'],
  ['CMAC-192', 'cmac', 'none', 4104, '', '72454F97CC43692F446C11D8BB36F30D'],
]
