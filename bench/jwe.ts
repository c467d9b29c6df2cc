/** JWE on the software backend, against jose and node-jose, and against the bare key agreement as the limit. */

import { createECDH } from 'node:crypto'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { importRecipient, openJwe, sealJwe } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { ecKeyPair } from '../test/support/key-pair.js'
import type { Way } from './contest.js'
import type { Bench } from './pin.js'

interface JoseKey {
  readonly kid: string
}

interface NodeJose {
  readonly JWK: { asKey(jwk: object): Promise<JoseKey> }
  readonly JWE: {
    createEncrypt(options: object, key: JoseKey): { update(data: Uint8Array): { final(): Promise<string> } }
    createDecrypt(key: JoseKey): { decrypt(jwe: string): Promise<{ plaintext: Uint8Array }> }
  }
}

/**
 * node-jose, where somebody has installed it (`npm install --no-save node-jose`). It is no development dependency: npm's
 * SBOM then leaves out node-forge, which it needs as well.
 */
function nodeJose(): NodeJose | undefined {
  try {
    return createRequire(import.meta.url)('node-jose') as NodeJose
  } catch {
    console.log('node-jose is not installed (npm install --no-save node-jose): that peer was not measured')
    return undefined
  }
}

/** JWEs in flight where threads share the work. */
const AT_ONCE = 256

/** The key agreements of so many JWEs and nothing else, on a thread that is told how many, and says when it is done. */
const BARE_THREAD = `
const { createECDH } = require('node:crypto')
const { parentPort } = require('node:worker_threads')
const ecdh = createECDH('prime256v1')
const point = ecdh.generateKeys()
parentPort.on('message', count => {
  for (let i = 0; i < count; i++) ecdh.computeSecret(point)
  parentPort.postMessage(count)
})`

/** What two threads can be beside one on this machine: the agreements of {@link AT_ONCE} JWEs, shared among so many. */
function bareThreads(): { ways: readonly Way[]; end: () => Promise<unknown> } {
  const threads = [1, 2].map(() => new Worker(BARE_THREAD, { eval: true }))
  const over = (count: number) => async (): Promise<void> => {
    const some = threads.slice(0, count)
    const done = Promise.all(some.map(thread => once(thread, 'message')))
    for (const thread of some) thread.postMessage(AT_ONCE / count)
    await done
  }
  const ways = [1, 2].map(count => ({ name: bareName(count), run: over(count), operations: AT_ONCE }))
  return { ways, end: () => Promise.all(threads.map(thread => thread.terminate())) }
}

const bareName = (count: number): string => `bare computeSecret, threads: ${count}`

export async function jweContests(): Promise<Bench> {
  const { privateKey, publicKey } = ecKeyPair()
  const backend = await softwareBackend({
    keys: [{ kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey }],
  })
  const key = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  const { publicJwk } = key
  if (publicJwk === undefined) throw new Error('no public key')
  const recipient = importRecipient({ ...publicJwk, kid: 'JWE' })
  const plaintext = new TextEncoder().encode('{"pinValue":"0123456789ABCDEF","kid":"ZPK-D1-2026"}')
  const text = Buffer.from(plaintext).toString('latin1')
  const jwe = await sealJwe({ plaintext, recipient })
  const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

  const own = createECDH('prime256v1')
  own.setPrivateKey(Buffer.from(privateKey.export({ format: 'jwk' }).d ?? '', 'base64url'))
  const point = own.getPublicKey()
  const alone = createECDH('prime256v1')
  const header = { alg: 'ECDH-ES', enc: 'A256GCM', kid: 'JWE' }
  const openOurs = async () => (await openJwe({ jwe, keys: key })).plaintext
  const sealOurs = () => sealJwe({ plaintext, recipient })
  const sealJose = () => new CompactEncrypt(plaintext).setProtectedHeader(header).encrypt(publicKey)
  const opened = async (sealed: string) => latin1((await openJwe({ jwe: sealed, keys: key })).plaintext)

  const peer = await nodeJoseWays()

  // Many at once: on this thread, and on threads for key agreement beside it.
  const material = privateKey
  const beside = await Promise.all(
    [1, 2].map(workers =>
      softwareBackend({
        keys: [{ kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material }],
        jwe: { workers },
      }),
    ),
  )
  const keysBeside = await Promise.all(
    beside.map(other => other.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })),
  )
  const together = ([under, name]: readonly [typeof key, string]): Way => {
    const run = () => Promise.all(Array.from({ length: AT_ONCE }, () => openJwe({ jwe, keys: under })))
    const answer = async () => (await run()).map(({ plaintext: bytes }) => latin1(bytes)).join()
    return { name, run, answer, operations: AT_ONCE }
  }

  const bare = bareThreads()

  return {
    contests: [
      {
        title: `openJwe, ${AT_ONCE} at once`,
        ways: [
          ...(
            [
              [key, 'no threads beside'],
              [keysBeside[0] ?? key, 'jwe: { workers: 1 }'],
              [keysBeside[1] ?? key, 'jwe: { workers: 2 }'],
            ] as const
          ).map(together),
          ...bare.ways,
        ],
        targets: ['jwe: { workers: 1 }', 'no threads beside'].map(peer => ({
          ours: 'jwe: { workers: 2 }',
          peer,
          atLeast: 1.7,
          limit: { ours: bareName(2), peer: bareName(1) },
        })),
      },
      {
        title: 'openJwe (ECDH-ES, A256GCM)',
        ways: [
          { name: 'openJwe', run: openOurs, answer: async () => latin1(await openOurs()) },
          { name: 'bare ECDH computeSecret', run: () => own.computeSecret(point) },
          {
            name: 'jose',
            run: () => compactDecrypt(jwe, privateKey),
            answer: async () => latin1((await compactDecrypt(jwe, privateKey)).plaintext),
          },
          ...peer.opens,
        ],
        targets: [
          { ours: 'openJwe', peer: 'bare ECDH computeSecret', atLeast: 0.8 },
          { ours: 'openJwe', peer: 'jose', atLeast: 3 },
        ],
      },
      {
        title: 'sealJwe (ECDH-ES, A256GCM)',
        ways: [
          { name: 'sealJwe', run: sealOurs, answer: async () => opened(await sealOurs()) },
          {
            name: 'bare generateKeys and computeSecret',
            run: () => {
              alone.generateKeys()
              return alone.computeSecret(point)
            },
            answer: () => text,
          },
          { name: 'jose', run: sealJose, answer: async () => opened(await sealJose()) },
          ...peer.seals,
        ],
        targets: [
          { ours: 'sealJwe', peer: 'bare generateKeys and computeSecret', atLeast: 0.8 },
          { ours: 'sealJwe', peer: 'jose', atLeast: 3 },
        ],
      },
    ],
    [Symbol.asyncDispose]: async () => {
      for (const open of [backend, ...beside]) await open.close()
      await bare.end()
    },
  }

  async function nodeJoseWays(): Promise<{ opens: readonly Way[]; seals: readonly Way[] }> {
    const library = nodeJose()
    if (library === undefined) return { opens: [], seals: [] }
    const { JWE, JWK } = library
    const joseKey = await JWK.asKey(privateKey.export({ format: 'jwk' }))
    const options = { format: 'compact', contentAlg: 'A256GCM', fields: header }
    const seal = () => JWE.createEncrypt(options, joseKey).update(plaintext).final()
    const open = () => JWE.createDecrypt(joseKey).decrypt(jwe)
    return {
      opens: [{ name: 'node-jose', run: open, answer: async () => latin1((await open()).plaintext) }],
      seals: [{ name: 'node-jose', run: seal, answer: async () => opened(await seal()) }],
    }
  }
}
