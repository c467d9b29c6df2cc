/**
 * Child of the memory campaign: looks at its own memory after single calls, before anything else can write there. What it
 * looks for comes masked, or is masked where it is made.
 *
 * - On the stack (koffi's own where calls run on that): the answer, after blocks were enciphered and deciphered in a token,
 *   each from another depth.
 * - On malloc's heap: the value of a key, after it was given to the token and read from it.
 */
import { randomInt } from 'node:crypto'
import { openSync, readFileSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'
import type * as Pkcs11js from 'pkcs11js'
import { operationsOf } from '../../src/backend/key.js'
import type { Station, Template } from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { loadKoffi } from '../../src/backend/pkcs11/binding/koffi-binding.js'
import { loadPkcs11js } from '../../src/backend/pkcs11/binding/pkcs11js-binding.js'
import { asBuffer, attributes } from '../../src/backend/pkcs11/binding/values.js'
import { findObjects } from '../../src/backend/pkcs11/mechanisms/objects.js'
import { pkcs11Backend } from '../../src/pkcs11.js'
import type { StackBlock, StackOrder } from '../campaign-orders.js'
import { onToken } from '../raw.js'

const order: StackOrder = JSON.parse(readFileSync(0, 'utf8'))
const options = {
  module: order.module,
  token: order.label,
  pin: () => order.pin,
  binding: order.binding,
  executor: 'inline',
} as const
const mem = openSync('/proc/self/mem', 'r')

/** Made once: what is made and freed for each look would be looked at, too. */
const room = new Uint32Array(2 ** 24)

/** A part of this process's memory. */
interface Part {
  readonly start: number
  readonly words: Uint32Array
}

/** Parts of this process's memory, by the lines of its map. */
function read(
  of: (name: string, length: number, start: number) => boolean,
  within: typeof windowOf = (...all) => all,
): Part[] {
  const maps = readFileSync('/proc/self/maps', 'latin1')
  let used = 0
  return [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ \S+ *(.*)$/gm)].flatMap(
    ([, from = '', to = '', name = '']) => {
      const begin = Number.parseInt(from, 16)
      const size = Number.parseInt(to, 16) - begin
      if (!of(name, size, begin)) return []
      const [start, length] = within(begin, size)
      const words = room.subarray(used, used + length / 4)
      used += words.length
      if (words.byteLength < length) throw new Error('no room for so much memory')
      readSync(mem, words, 0, length, start)
      return [{ start, words }]
    },
  )
}

const MIB = 2 ** 20
const THREAD = 8 * MIB
/** Where a call was found to have left what it computed; undefined as long as nothing was. */
let foundAt: number | undefined
/** Of koffi's stack, around that place: above it other things may lie in the same mapping, results among them. */
const [BELOW, ABOVE] = [MIB / 4, 4096]
const STACK = {
  pkcs11js: (name: string) => name === '[stack]',
  // Without a name, of a MiB, and of more where the kernel made one mapping of it and its neighbour; not the stacks of threads,
  // which have nothing beside them.
  koffi: (name: string, length: number, start: number) =>
    foundAt === undefined
      ? name === '' && length >= MIB && length < 32 * MIB && length !== THREAD
      : start <= foundAt && foundAt < start + length,
}[order.binding]

/** What of a mapping is looked at. */
function windowOf(start: number, length: number): readonly [number, number] {
  if (foundAt === undefined || order.binding !== 'koffi') return [start, length]
  const from = Math.max(start, foundAt - BELOW)
  return [from, Math.min(start + length, foundAt + ABOVE) - from]
}

/** The address of these two words; undefined where they are not there. */
function find(
  memory: readonly Part[],
  [first, second]: readonly [number, number],
  mask: number,
): number | undefined {
  const [one, two] = [(first ^ mask) >>> 0, (second ^ mask) >>> 0]
  for (const { start, words } of memory) {
    let at = words.indexOf(one)
    while (at >= 0 && words[at + 1] !== two) at = words.indexOf(one, at + 1)
    if (at >= 0) return start + at * 4
  }
  return undefined
}

function deeply<T>(depth: number, use: () => T): T {
  if (depth === 0) return use()
  const result = deeply(depth - 1, use)
  return result
}

/** What the call gives, and where on the stack that was after it. */
function look<T>(
  { block, answer, mask }: StackBlock,
  depth: number,
  call: (block: Uint8Array) => T,
): [T, number | undefined] {
  const result = deeply(depth, () => call(Buffer.from(block, 'hex')))
  return [result, find(read(STACK, windowOf), answer, mask)]
}

/** A readable session key: what pkcs11js is told of it goes through malloc's heap, and what it reads, too. */
const templateOf = (value: Uint8Array): Template => [
  [CKA.CLASS, CKO.SECRET_KEY],
  [CKA.KEY_TYPE, { 16: CKK.AES, 24: CKK.DES3, 32: CKK.AES }[value.length] ?? CKK.GENERIC_SECRET],
  [CKA.TOKEN, false],
  [CKA.SENSITIVE, false],
  [CKA.EXTRACTABLE, true],
  [CKA.VALUE, value],
]

/** Those of keys, and one of an HMAC's key: few ask malloc for pieces of such a size, so that it stays until somebody does. */
const LENGTHS = [16, 24, 32, 104]

/** How often a part of a key but its first 8 bytes is on malloc's heap after `use` has had it. Of 8 to 16 freed, malloc itself uses the first. */
function leftOnHeap(times: number, use: (value: Uint8Array<ArrayBuffer>) => void): number {
  let left = 0
  for (let i = 0; i < times; i++) {
    const value = new Uint8Array(new ArrayBuffer(LENGTHS[i % LENGTHS.length] ?? 0))
    // Not a generator's: those keep the last block they gave.
    for (let at = 0; at < value.length; at++) value[at] = Math.random() * 256
    const mask = randomInt(2 ** 32)
    const masked = Array.from(new Uint32Array(value.buffer), word => (word ^ mask) >>> 0)
    use(value)
    value.fill(0)
    const heap = read(name => name === '[heap]')
    const isThere = (at: number): boolean =>
      find(heap, [masked[at] ?? 0, masked[at + 1] ?? 0], mask) !== undefined
    if (masked.some((_, at) => at % 2 === 0 && at > 0 && isThere(at))) left++
  }
  return left
}

const depthOf = (i: number): number => 100 + (i % 100)
const found = { encipher: 0, decipher: 0, given: 0, read: 0, bareStack: 0, bareHeap: 0 }
const load = order.binding === 'koffi' ? loadKoffi : loadPkcs11js

// The control of the stack, first: the same calls, where nothing is written over what they leave.
await onToken(
  options,
  ({ binding, session }: Station) => {
    const [object] = findObjects(binding, session, [[CKA.LABEL, order.kid]], 1)
    if (object === undefined) throw new Error('no key')
    // What a call leaves lasts until the next: of pkcs11js one in a hundred is found.
    for (let round = 0; round < 10 && found.bareStack === 0; round++) {
      for (const [i, item] of order.encipher.entries()) {
        const [, at] = look(item, depthOf(i), block => {
          binding.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, object)
          return binding.C_Encrypt(session, block, block.length)
        })
        foundAt ??= at
        if (at !== undefined) found.bareStack++
      }
    }
  },
  load,
)

const backend = await pkcs11Backend(options)
const key = await backend.bind({ kid: order.kid, usage: 'pin-encryption', hostDecipher: true })
for (const way of ['encipher', 'decipher'] as const) {
  for (const [i, item] of order[way].entries()) {
    const [result, at] = look(item, depthOf(i), block => operationsOf(key)[way](block))
    await result
    if (at !== undefined) found[way]++
  }
}

const { PKCS11 } = createRequire(import.meta.url)('pkcs11js') as typeof Pkcs11js
const pkcs11js = new PKCS11()
pkcs11js.load(order.module)
await onToken(
  options,
  ({ binding, session }: Station) => {
    found.given = leftOnHeap(order.keys, value => {
      binding.C_DestroyObject(session, binding.C_CreateObject(session, templateOf(value)))
    })
    found.read = leftOnHeap(order.keys, value => {
      const made = binding.C_CreateObject(session, templateOf(value))
      binding.C_GetAttributeValue(session, made, CKA.VALUE).fill(0)
      binding.C_DestroyObject(session, made)
    })
    found.bareHeap = leftOnHeap(order.keys, value => {
      pkcs11js.C_DestroyObject(
        asBuffer(session),
        pkcs11js.C_CreateObject(asBuffer(session), attributes(templateOf(value))),
      )
    })
  },
  load,
)
await backend.close()
console.log(JSON.stringify(found))
