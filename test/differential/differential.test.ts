/**
 * The same random inputs to us and to implementations that share no code with us: every answer must be the same. The
 * seed is printed; DIFFERENTIAL_SEED repeats a run, DIFFERENTIAL_RUNS makes it longer (docs/measurements/differential.md).
 */
import { createECDH } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, importJWK } from 'jose'
import { describe, expect, test } from 'vitest'
import { openJwe, sealJwe } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { MAKERS, type Operation, operations, Random, RUNS, SEED } from './inputs.js'
import { forgePeer, javaPeer, opensslPeer, type Peer, pythonPeer } from './peers.js'

const LONG = { timeout: 240_000 + RUNS * 1000 }

console.log(`differential: seed ${JSON.stringify(SEED)}, ${RUNS} inputs for each operation`)

describe.each([opensslPeer, forgePeer, javaPeer, pythonPeer])('$name', LONG, (peer: Peer) => {
  // Java and Python may be absent; the openssl command line may not.
  const skipped = peer.missing !== undefined && peer !== opensslPeer
  if (skipped) console.warn(`${peer.name}: not run, ${peer.missing}`)

  test.skipIf(skipped)('gives our answers', async () => {
    const all = await operations(peer.words, Math.ceil(RUNS * peer.share))
    const started = performance.now()
    const answers = await peer.answer(all.map(({ line }) => line))
    expect(answers).toHaveLength(all.length)
    expect(differences(all, answers)).toEqual([])
    report(peer.name, all, performance.now() - started)
  })
})

describe('the comparison', () => {
  test('covers every operation by two peers or more, the PRW by one', () => {
    const peers = [opensslPeer, forgePeer, javaPeer, pythonPeer]
    for (const word of Object.keys(MAKERS)) {
      expect(peers.filter(({ words }) => words.includes(word)).length, word).toBeGreaterThan(
        word === 'prw' ? 0 : 1,
      )
    }
  })

  test('sees one wrong bit in one answer', async () => {
    const all = await operations(['pinblock'], 20)
    const answers = await forgePeer.answer(all.map(({ line }) => line))
    expect(differences(all, answers)).toEqual([])
    const wrong = answers.map((answer, i) =>
      i === 13 ? answer.replace(/.$/, digit => (digit === '0' ? '1' : '0')) : answer,
    )
    expect(differences(all, wrong)).toEqual([expect.stringContaining('input 13')])
  })

  test('has inputs that differ, and the same from the same seed', async () => {
    const [once, again] = [
      await operations(['pinblock', 'kdf'], 30),
      await operations(['pinblock', 'kdf'], 30),
    ]
    expect(once).toEqual(again)
    expect(new Set(once.map(({ line }) => line)).size).toBe(once.length)
  })
})

describe('jose', LONG, () => {
  test('opens what we seal, and we open what it seals, with party information or without', async () => {
    const random = new Random(`${SEED}/jwe`)
    const started = performance.now()
    for (let i = 0; i < RUNS; i++) {
      const scalar = Buffer.from(random.bytes(32))
      const ecdh = createECDH('prime256v1')
      ecdh.setPrivateKey(scalar)
      const point = ecdh.getPublicKey()
      const [x, y] = [point.subarray(1, 33).toString('base64url'), point.subarray(33).toString('base64url')]
      const jwk = { kty: 'EC', crv: 'P-256', x, y } as const
      await using backend = await softwareBackend({
        keys: [
          { kid: 'K', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: new Uint8Array(scalar) },
        ],
      })
      const key = await backend.bind({ kid: 'K', usage: 'jwe-key-agreement' })
      const plaintext = random.bytes(random.below(400))
      const party =
        i % 2 === 0
          ? {}
          : { apu: random.bytes(1 + random.below(30)), apv: random.bytes(1 + random.below(30)) }

      const sealed = await sealJwe({ plaintext, recipient: { ...jwk, kid: 'K' }, ...party })
      const privateKey = await importJWK({ ...jwk, d: scalar.toString('base64url') }, 'ECDH-ES')
      const theirs = await compactDecrypt(sealed, privateKey)
      expect(Buffer.from(theirs.plaintext).equals(plaintext), `input ${i}: ours to jose`).toBe(true)

      const encrypt = new CompactEncrypt(plaintext).setProtectedHeader({
        alg: 'ECDH-ES',
        enc: 'A256GCM',
        kid: 'K',
      })
      if ('apu' in party) encrypt.setKeyManagementParameters(party)
      const jwe = await encrypt.encrypt(await importJWK(jwk, 'ECDH-ES'))
      const ours = await openJwe({ jwe, keys: key })
      expect(Buffer.from(ours.plaintext).equals(plaintext), `input ${i}: jose to ours`).toBe(true)
    }
    console.log(
      `differential: jose: ${2 * RUNS} JWEs, ${((performance.now() - started) / 1000).toFixed(1)} s`,
    )
  })
})

/** What a peer answered otherwise; the first few are enough. */
function differences(all: readonly Operation[], answers: readonly string[]): string[] {
  return all
    .flatMap(({ name, line, ours }, i) =>
      answers[i] === ours ? [] : [`${name}, input ${i}: ${line}\n  ours   ${ours}\n  theirs ${answers[i]}`],
    )
    .slice(0, 3)
}

function report(name: string, all: readonly Operation[], milliseconds: number): void {
  const counts = new Map<string, number>()
  for (const operation of all) counts.set(operation.name, (counts.get(operation.name) ?? 0) + 1)
  const parts = Array.from(counts, ([operation, count]) => `${operation} ${count}`)
  console.log(`differential: ${name}: ${parts.join(', ')}; ${(milliseconds / 1000).toFixed(1)} s`)
}
