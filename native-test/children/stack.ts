/**
 * Child of the memory campaign: enciphers and deciphers single blocks in a token, each from another depth of the stack, and
 * after each looks at its own stack for the answer, before anything else can write there. What it looks for comes masked.
 */
import { openSync, readFileSync, readSync } from 'node:fs'
import { operationsOf } from '../../src/backend/key.js'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { findObjects } from '../../src/backend/pkcs11/mechanisms/objects.js'
import { pkcs11Backend } from '../../src/pkcs11.js'
import type { StackBlock, StackOrder } from '../campaign-orders.js'
import { onToken } from '../raw.js'

const order: StackOrder = JSON.parse(readFileSync(0, 'utf8'))
const options = { module: order.module, token: order.label, pin: () => order.pin }
const mem = openSync('/proc/self/mem', 'r')

function deeply<T>(depth: number, use: () => T): T {
  if (depth === 0) return use()
  const result = deeply(depth - 1, use)
  return result
}

/** What the call gives, and whether that was on the stack after it. */
function look<T>(
  { block, answer, mask }: StackBlock,
  depth: number,
  call: (block: Uint8Array) => T,
): [T, boolean] {
  const [, from = '', to = ''] =
    /^([0-9a-f]+)-([0-9a-f]+) .*\[stack\]$/m.exec(readFileSync('/proc/self/maps', 'latin1')) ?? []
  const start = Number.parseInt(from, 16)
  const stack = new Uint32Array((Number.parseInt(to, 16) - start) / 4)
  const result = deeply(depth, () => call(Buffer.from(block, 'hex')))
  readSync(mem, stack, 0, stack.byteLength, start)
  const [first = 0, second = 0] = answer.map(word => (word ^ mask) >>> 0)
  return [result, stack.some((word, at) => word === first && stack[at + 1] === second)]
}

const depthOf = (i: number): number => 100 + (i % 100)
const found = { encipher: 0, decipher: 0, bare: 0 }
const backend = await pkcs11Backend(options)
const key = await backend.bind({ kid: order.kid, usage: 'pin-encryption', hostDecipher: true })
for (const way of ['encipher', 'decipher'] as const) {
  for (const [i, item] of order[way].entries()) {
    const [result, isThere] = look(item, depthOf(i), block => operationsOf(key)[way](block))
    await result
    if (isThere) found[way]++
  }
}
await onToken(options, ({ binding, session }) => {
  const [object] = findObjects(binding, session, [[CKA.LABEL, order.kid]], 1)
  if (object === undefined) throw new Error('no key')
  for (const [i, item] of order.encipher.entries()) {
    const [, isThere] = look(item, depthOf(i), block => {
      binding.C_EncryptInit(session, { mechanism: CKM.DES3_ECB }, object)
      return binding.C_Encrypt(session, block, block.length)
    })
    if (isThere) found.bare++
  }
})
await backend.close()
console.log(JSON.stringify(found))
