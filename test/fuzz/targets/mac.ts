/** Padding and MAC parameters: against padding written down once more, and node-forge's DES. */
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import forge from 'node-forge'
import { generateMac, type MacAlgorithm, type MacPadding, verifyMac } from '../../../src/index.js'
import { padMessage } from '../../../src/primitives/iso9797.js'
import { softwareBackend } from '../../../src/software.js'
import { hex, Input } from '../support/input.js'
import { attempt, attemptAsync } from '../support/oracle.js'
import { check, type FuzzTarget, once } from '../target.js'

/** ISO/IEC 9797-1, 6.3, in hex. */
function naivePadding(method: number, message: string, block: number): string {
  const bits = (message.length * 4).toString(16).padStart(2 * block, '0')
  let text = method === 2 ? `${message}80` : message
  while (text === '' || text.length % (2 * block) !== 0) text += '00'
  return method === 3 ? bits + text : text
}

const METHODS = [1, 2, 3, 0, 4, 2.5, Number.NaN, 'none', '1', undefined, 'constructor'] as const
const BLOCKS = [8, 16, 4, 7, 0, 3, 17, -8, 8.5, Number.NaN, Number.POSITIVE_INFINITY] as const
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

export const padding: FuzzTarget = {
  name: 'padding',
  share: 100,
  seeds: [0, 1, 2].map(method => Uint8Array.from([method, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x80])),
  run(bytes) {
    const input = new Input(bytes)
    const method = input.pick(METHODS)
    const block = input.pick(BLOCKS)
    const message = input.rest()
    const sound = typeof method === 'number' && [1, 2, 3].includes(method) && [4, 7, 8, 16].includes(block)
    const rule = { codes: ['ERR_ARGUMENT'], hidden: [toHex(message)] } as const
    const padded = attempt(() => padMessage(method as 1, message, block), rule)
    // '1' is the property name of method 1: what TypeScript refuses, JavaScript may say.
    if (method === '1') return
    check((padded !== undefined) === sound, 'methods 1 to 3 over blocks of 4 to 16 bytes')
    if (padded === undefined) return
    check(
      toHex(padded) === naivePadding(Number(method), toHex(message), block),
      'padded as the standard has it',
    )
    if (method !== 2) return
    const end = Buffer.from(padded).lastIndexOf(0x80)
    check(isDeepStrictEqual(padded.slice(0, end), message), 'method 2 says where the message ends')
  },
}

const K1 = '0123456789ABCDEF'
const K2 = 'FEDCBA9876543210'
// Of another key: K2‖K1 would be the complement of K1‖K2, which is the same key.
const R1 = '7CA110454A1A6E57'
const R2 = '0131D9619DC1376E'
const ALGORITHMS: readonly (MacAlgorithm | 'sha256' | '__proto__')[] = [
  'iso9797-1-alg1',
  'iso9797-1-alg3',
  'cmac',
  'sha256',
  '__proto__',
]
const PADDINGS: readonly (MacPadding | 0 | '2')[] = [1, 2, 3, 'none', 0, '2']
const LENGTHS = [8, 4, 5, 6, 7, 3, 9, 0, -1, 4.5, Number.NaN] as const
const MATERIALS = {
  'cbc-mac': K1 + K2,
  'retail-mac': R1 + R2,
  cmac: '89E88CF7931444F334BD7547FC3F380C',
} as const

const keys = once(async () => {
  const usages = ['cbc-mac', 'retail-mac', 'cmac'] as const
  const algorithm = 'tdea-2key'
  const backend = await softwareBackend({
    keys: usages.map(usage => ({ kid: usage, usage, algorithm, material: MATERIALS[usage] })),
  })
  return Promise.all(usages.map(usage => backend.bind({ kid: usage, usage })))
})

/** TDEA-CBC of node-forge; the last block. */
function forgeCbc(key: string, iv: string, data: string): string {
  const cipher = forge.cipher.createCipher('3DES-CBC', forge.util.hexToBytes(key))
  cipher.start({ iv: forge.util.hexToBytes(iv) })
  cipher.update(forge.util.createBuffer(forge.util.hexToBytes(data)))
  // Whole blocks: without finish() nothing is padded.
  return cipher.output.toHex().slice(-16)
}

function naiveMac(usage: string, iv: string, padded: string): string | undefined {
  if (usage === 'cbc-mac') return forgeCbc(K1 + K2 + K1, iv, padded)
  if (usage !== 'retail-mac') return undefined
  const head = padded.slice(0, -16)
  return forgeCbc(R1 + R2 + R1, head === '' ? iv : forgeCbc(R1 + R1 + R1, iv, head), padded.slice(-16))
}

export const macVerbs: FuzzTarget = {
  name: 'mac-verbs',
  share: 8,
  seeds: [0, 1, 2].flatMap(key =>
    [0, 1, 2, 3].map(method => Uint8Array.from([key, key, method, 0, 0, ...hex('0011223344556677889900')])),
  ),
  structured: fc
    .tuple(fc.nat(2), fc.nat(2), fc.nat(3), fc.nat(4), fc.nat(2), fc.uint8Array({ maxLength: 64 }))
    .map(([key, algorithm, method, length, iv, message]) =>
      Uint8Array.from([key, algorithm, method, length, iv, ...message]),
    ),
  async run(bytes) {
    const input = new Input(bytes)
    const key = input.pick(await keys())
    const algorithm = input.pick(ALGORITHMS) as MacAlgorithm
    const method = input.pick(PADDINGS) as MacPadding
    const length = input.pick(LENGTHS)
    const kind = input.byte() % 3
    const iv = kind === 0 ? undefined : input.take(kind === 1 ? 8 : 7)
    const message = input.rest()
    const request = { key, message, algorithm, padding: method, ...(iv && { iv }) }
    const codes = ['ERR_ARGUMENT', 'ERR_LENGTH', 'ERR_KEY_USAGE'] as const
    const rule = { codes, hidden: [toHex(message), ...Object.values(MATERIALS)], named: [key.kid] }
    const mac = await attemptAsync(() => generateMac({ ...request, length }), rule)
    if (mac === undefined) return
    check(mac.length === length, 'as long as was asked for')
    const ivHex = iv === undefined ? '00'.repeat(8) : toHex(iv)
    const due = naiveMac(key.usage, ivHex, naivePadding(Number(method), toHex(message), 8))
    check(due === undefined || due.startsWith(toHex(mac)), 'node-forge computes the same')
    check(await verifyMac({ ...request, mac, length }), 'what was generated is verified')
    const wrong = mac.map((byte, i) => (i === message.length % mac.length ? byte ^ 1 : byte))
    check(!(await verifyMac({ ...request, mac: wrong, length })), 'what was changed is not')
    check(!(await verifyMac({ ...request, mac: mac.subarray(1), length })), 'nor what is too short')
  },
}
