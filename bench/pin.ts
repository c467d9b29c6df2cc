/** PIN blocks and MACs on the software backend, against what a program would write without this library. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import {
  buildFormat0,
  encipherPin,
  encipherPins,
  generateMac,
  Pan,
  Pin,
  reencipherPinBlock,
} from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import forge from 'node-forge'
import { operationsOf } from '../src/backend/key.js'
import { bitsliceMemory } from '../src/backend/software/bitslice-memory.js'
import { BitsliceTdea } from '../src/backend/software/engine-bitslice.js'
import { softwareBackend as openSoftware } from '../src/software.js'
import type { Contest } from './contest.js'

const require = createRequire(import.meta.url)
const { TripleDes, pinBlockFormat0 } = require('data-crypto') as {
  TripleDes: { encrypt(hex: string, key: string): string }
  pinBlockFormat0(pan: string, pin: string): string
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const PAN = '9999990123456789'
const PIN = '4711'
const BATCH = 8192
const MESSAGES = 1000

export interface Bench extends AsyncDisposable {
  readonly contests: readonly Contest[]
}

/** The contests, and the backend they run on. */
export async function pinContests(): Promise<Bench> {
  const [zpk, storage, mac] = [randomBytes(16), randomBytes(16), randomBytes(16)]
  const tdea = { algorithm: 'tdea-2key' } as const
  const keys = [
    { ...tdea, kid: 'ZPK', usage: 'pin-encryption', material: zpk },
    { ...tdea, kid: 'PEK', usage: 'pin-encryption', material: storage },
    { ...tdea, kid: 'MAC', usage: 'retail-mac', material: mac },
  ] as const
  const backend = await softwareBackend({ keys })
  const openssl = await softwareBackend({ keys, engine: 'node:crypto' })
  const hostDecipher = true
  const key = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher })
  const to = await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
  const macKey = await backend.bind({ kid: 'MAC', usage: 'retail-mac' })
  const nodeKey = await openssl.bind({ kid: 'ZPK', usage: 'pin-encryption' })
  const [pin, pan] = [Pin.from(PIN), Pan.from(PAN)]
  const clear = buildFormat0({ pin, pan })
  const block = await encipherPin({ pin, pan, format: 0, key })
  const ecb = (material: Uint8Array, data: Uint8Array): Uint8Array =>
    createCipheriv('des-ede-ecb', material, null).setAutoPadding(false).update(data)
  const undo = (material: Uint8Array, data: Uint8Array): Uint8Array =>
    createDecipheriv('des-ede-ecb', material, null).setAutoPadding(false).update(data)
  const reused = createCipheriv('des-ede-ecb', zpk, null).setAutoPadding(false)
  const keyHex = hex(zpk)
  const binaryKey = Buffer.concat([zpk, zpk.subarray(0, 8)]).toString('latin1')
  const forgeOnce = (): string => {
    const cipher = forge.cipher.createCipher('3DES-ECB', binaryKey)
    cipher.start({})
    cipher.update(forge.util.createBuffer(Buffer.from(clear).toString('latin1')))
    return cipher.output.toHex()
  }
  const ours = () => encipherPin({ pin, pan, format: 0, key })

  const pins = Array.from({ length: BATCH }, (_, i) => ({
    pin: Pin.from(String(1000 + (i % 9000))),
    pan: Pan.from(String(4_000_000_000_000_000 + i)),
  }))
  const clearBatch = Buffer.concat(pins.map(entry => buildFormat0({ pin: entry.pin, pan: entry.pan })))
  const batch = () => encipherPins({ pins, format: 0, key })

  // The port is not public: it is that of the sources, which the package is built from.
  const sources = await openSoftware({ keys })
  const inside = {
    from: await sources.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher }),
    to: await sources.bind({ kid: 'PEK', usage: 'pin-encryption' }),
  }
  const port = operationsOf(inside.from)
  const sealedBatch = new Uint8Array(reused.update(clearBatch))
  const back = createDecipheriv('des-ede-ecb', zpk, null).setAutoPadding(false)
  const onward = createCipheriv('des-ede-ecb', storage, null).setAutoPadding(false)
  const engine = new BitsliceTdea(bitsliceMemory(), zpk)
  const group = new Uint8Array(clearBatch.subarray(0, 1024))
  const groupOut = new Uint8Array(group.length)

  const message = randomBytes(123)
  const messages = Array.from({ length: MESSAGES }, () => randomBytes(123))
  const retail = (data: Uint8Array) =>
    generateMac({ key: macKey, message: data, algorithm: 'iso9797-1-alg3', padding: 2, length: 8 })
  const rawRetail = (data: Uint8Array): Uint8Array => {
    const padded = Buffer.alloc(Math.ceil((data.length + 1) / 8) * 8)
    padded.set(data)
    padded[data.length] = 0x80
    const k1 = mac.subarray(0, 8)
    const chain = createCipheriv('des-ede3-cbc', Buffer.concat([k1, k1, k1]), Buffer.alloc(8))
    const state = chain.setAutoPadding(false).update(padded.subarray(0, -8)).subarray(-8)
    return createCipheriv('des-ede-cbc', mac, state).setAutoPadding(false).update(padded.subarray(-8))
  }

  return {
    contests: [
      {
        title: 'encipherPin, one after the other (format 0, TDEA)',
        ways: [
          { name: 'encipherPin', run: ours, answer: async () => hex(await ours()) },
          {
            name: 'encipherPin, engine node:crypto',
            run: () => encipherPin({ pin, pan, format: 0, key: nodeKey }),
          },
          {
            name: 'createCipheriv a call',
            run: () => {
              const cipher = createCipheriv('des-ede-ecb', zpk, null).setAutoPadding(false)
              return Buffer.concat([cipher.update(clear), cipher.final()])
            },
            answer: () => hex(ecb(zpk, clear)),
          },
          { name: 'one cipher, update a call', run: () => reused.update(clear) },
          { name: 'node-forge', run: forgeOnce, answer: forgeOnce },
          {
            name: 'data-crypto, format and cipher',
            run: () => TripleDes.encrypt(pinBlockFormat0(PAN, PIN), keyHex),
            answer: () => TripleDes.encrypt(pinBlockFormat0(PAN, PIN), keyHex).toLowerCase(),
          },
        ],
        targets: [{ ours: 'encipherPin', peer: 'createCipheriv a call', atLeast: 3 }],
      },
      {
        title: 'encipherPin, 1000 in flight',
        ways: [
          { name: 'encipherPin', run: () => Promise.all(messages.map(ours)), operations: MESSAGES },
          {
            name: 'createCipheriv a call',
            run: () => messages.map(() => ecb(zpk, clear)),
            operations: MESSAGES,
          },
        ],
        targets: [],
      },
      {
        title: `encipherPins, ${BATCH} at once, blocks built`,
        ways: [
          {
            name: 'encipherPins',
            run: batch,
            operations: BATCH,
            answer: async () => hex(flat(await batch())),
          },
          {
            name: 'OpenSSL, blocks already built',
            run: () => reused.update(clearBatch),
            operations: BATCH,
            answer: () => hex(reused.update(clearBatch)),
          },
        ],
        targets: [{ ours: 'encipherPins', peer: 'OpenSSL, blocks already built', atLeast: 3 }],
      },
      {
        title: `the port's reencipher, ${BATCH} blocks at once`,
        ways: [
          {
            name: 'reencipher',
            run: () => port.reencipher(inside.to, sealedBatch),
            operations: BATCH,
            answer: async () => hex(await port.reencipher(inside.to, sealedBatch)),
          },
          {
            name: 'OpenSSL, two ciphers that are kept',
            run: () => onward.update(back.update(sealedBatch)),
            operations: BATCH,
            answer: () => hex(onward.update(back.update(sealedBatch))),
          },
        ],
        targets: [{ ours: 'reencipher', peer: 'OpenSSL, two ciphers that are kept', atLeast: 3 }],
      },
      {
        title: '128 blocks through the engine',
        ways: [
          {
            name: 'bitslice',
            run: () => engine.encipherInto(group, groupOut),
            operations: 128,
            answer: () => hex(engine.encipher(group)),
          },
          {
            name: 'OpenSSL, one cipher that is kept',
            run: () => reused.update(group),
            operations: 128,
            answer: () => hex(reused.update(group)),
          },
        ],
        targets: [{ ours: 'bitslice', peer: 'OpenSSL, one cipher that is kept', atLeast: 3 }],
      },
      {
        title: 'reencipherPinBlock, one after the other',
        ways: [
          {
            name: 'reencipherPinBlock',
            run: () => reencipherPinBlock({ block, from: key, to }),
            answer: async () => hex(await reencipherPinBlock({ block, from: key, to })),
          },
          {
            name: 'two ciphers a call',
            run: () => ecb(storage, undo(zpk, block)),
            answer: () => hex(ecb(storage, undo(zpk, block))),
          },
        ],
        targets: [{ ours: 'reencipherPinBlock', peer: 'two ciphers a call', atLeast: 3 }],
      },
      {
        title: 'retail MAC of 123 bytes',
        ways: [
          { name: 'generateMac', run: () => retail(message), answer: async () => hex(await retail(message)) },
          {
            name: 'two ciphers a call',
            run: () => rawRetail(message),
            answer: () => hex(rawRetail(message)),
          },
        ],
        targets: [{ ours: 'generateMac', peer: 'two ciphers a call', atLeast: 2.5 }],
      },
      {
        title: `retail MACs of 123 bytes, ${MESSAGES} in flight`,
        ways: [
          {
            name: 'generateMac',
            run: () => Promise.all(messages.map(retail)),
            operations: MESSAGES,
            answer: async () => (await Promise.all(messages.map(retail))).map(hex).join(),
          },
          {
            name: 'two ciphers a call',
            run: () => messages.map(rawRetail),
            operations: MESSAGES,
            answer: () => messages.map(rawRetail).map(hex).join(),
          },
        ],
        targets: [{ ours: 'generateMac', peer: 'two ciphers a call', atLeast: 3 }],
      },
    ],
    [Symbol.asyncDispose]: async () => {
      engine.close()
      await backend.close()
      await openssl.close()
      await sources.close()
    },
  }
}

function flat(blocks: Uint8Array | readonly Uint8Array[]): Uint8Array {
  return blocks instanceof Uint8Array ? blocks : Buffer.concat(blocks)
}
