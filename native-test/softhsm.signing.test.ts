/** ES256 by keys in a token: the assertion that D1 gets, checked by jose, by node:crypto and by OpenSSL's command line. */

import { spawnSync } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importJWK, type JWK, jwtVerify } from 'jose'
import { afterAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import { CKA, CKM } from '../src/backend/pkcs11/binding/constants.js'
import { privateKey, publicKey } from '../src/backend/pkcs11/mechanisms/templates.js'
import { backendSigner, d1Client, makeAssertion } from '../src/d1.js'
import type { Key } from '../src/index.js'
import { openKeyStore, pkcs11Backend } from '../src/pkcs11.js'
import { onToken } from './raw.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

const folder = mkdtempSync(join(tmpdir(), 'ipc-sign-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** What `openssl dgst -verify` says; it takes signatures in DER, so this one is put into it by openssl itself. */
function opensslVerifies(key: Key, message: Uint8Array, signature: Uint8Array): boolean {
  const path = (name: string): string => join(folder, name)
  const pem = createPublicKey({ key: { ...key.publicJwk }, format: 'jwk' }).export({
    format: 'pem',
    type: 'spki',
  })
  const half = (at: number): string => Buffer.from(signature.subarray(at, at + 32)).toString('hex')
  writeFileSync(path('key.pem'), pem)
  writeFileSync(path('message'), message)
  writeFileSync(path('asn1'), `asn1=SEQUENCE:s\n[s]\nr=INTEGER:0x${half(0)}\ns=INTEGER:0x${half(32)}\n`)
  const made = spawnSync('openssl', ['asn1parse', '-genconf', path('asn1'), '-noout', '-out', path('der')])
  if (made.status !== 0) throw new Error(`openssl asn1parse: ${made.error?.message ?? made.stderr}`)
  const args = ['dgst', '-sha256', '-verify', path('key.pem'), '-signature', path('der'), path('message')]
  return spawnSync('openssl', args, { encoding: 'utf8' }).stdout.trim() === 'Verified OK'
}

describeSoftHsm('signatures by SoftHSM', () => {
  const options = makeToken('signing')
  const verified = async (jwt: string, key: Key) =>
    jwtVerify(jwt, await importJWK({ ...key.publicJwk } as JWK, 'ES256'), { algorithms: ['ES256'] })

  /** A backend with a key that the token has generated. */
  async function generated(kid: string) {
    {
      await using store = await openKeyStore(options)
      const made = await store.generateKey({ kid, usage: 'jwt-signing', algorithm: 'ec-p256' })
      expect(made.publicJwk).toBeDefined()
    }
    const backend = await pkcs11Backend(options)
    return { backend, key: await backend.bind({ kid, usage: 'jwt-signing' }) }
  }

  test('an assertion signed in the token is a JWT that jose verifies, and d1Client takes the signer', async () => {
    const { backend, key } = await generated('ISSUER-SIGN')
    expect(backend.capabilities().signing).toBe('native')
    const signer = backendSigner({ key, kid: 'ISSUER-SIGN-2026' })
    const jwt = await makeAssertion({ signer, issuer: 'is_tbank01' })
    const { payload, protectedHeader } = await verified(jwt, key)
    expect(protectedHeader).toEqual({ alg: 'ES256', kid: 'ISSUER-SIGN-2026', typ: 'JWT' })
    expect(payload).toMatchObject({ iss: 'is_tbank01', sub: 'is_tbank01' })
    const sent: string[] = []
    const client = d1Client({
      environment: { api: 'https://d1.example/banking', auth: 'https://d1.example/authz/v1' },
      issuerId: 'is_tbank01',
      signer,
      fetch: async (_url, { body }) => {
        sent.push(String(body))
        const token = { access_token: 'token', token_type: 'Bearer', expires_in: 900 }
        return { status: 200, headers: { get: () => null }, body: new Response(JSON.stringify(token)).body }
      },
    })
    await client.cards.delete({ cardId: 'card-0001' })
    await verified(new URLSearchParams(sent[0]).get('assertion') ?? '', key)
    await backend.close()
  })

  test('openssl verifies what the token signs, and not what it did not sign', async () => {
    const { backend, key } = await generated('OPENSSL')
    for (const length of [0, 1, 64, 4096]) {
      const message = new Uint8Array(length).fill(0x61)
      const signature = await operationsOf(key).sign(message)
      expect(opensslVerifies(key, message, signature)).toBe(true)
      expect(opensslVerifies(key, Uint8Array.of(...message, 1), signature)).toBe(false)
    }
    await backend.close()
  })

  test('a key that can also derive is refused: it could open JWEs', async () => {
    await onToken(options, ({ binding, session }) => {
      const name = { label: 'WIDE', id: Buffer.from('wide') }
      const own = privateKey({ name, can: ['SIGN', 'DERIVE'] })
      binding.C_GenerateKeyPair(
        session,
        { mechanism: CKM.EC_KEY_PAIR_GEN },
        publicKey({ name, can: [], isPrivate: false }),
        own,
      )
    })
    await using backend = await pkcs11Backend(options)
    for (const usage of ['jwt-signing', 'jwe-key-agreement'] as const) {
      await expect(backend.bind({ kid: 'WIDE', usage })).rejects.toMatchObject({ code: 'ERR_KEY_USAGE' })
    }
  })

  test('the private half does not leave the token', async () => {
    const { backend } = await generated('STAYS')
    await backend.close()
    await onToken(options, ({ binding, session }) => {
      binding.C_FindObjectsInit(session, [
        [CKA.LABEL, 'STAYS'],
        [CKA.SIGN, true],
      ])
      const [object] = binding.C_FindObjects(session, 1)
      binding.C_FindObjectsFinal(session)
      if (object === undefined) throw new Error('no such key')
      expect(() => binding.C_GetAttributeValue(session, object, CKA.VALUE)).toThrow('CKR_ATTRIBUTE_SENSITIVE')
      expect(binding.C_GetAttributeValue(session, object, CKA.DERIVE)[0]).toBe(0)
    })
  })
})
