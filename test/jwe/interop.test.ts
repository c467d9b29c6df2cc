/** Our JWEs in other hands and the other way round: `jose`, the known answers of `vectors/`, Wycheproof. */
import { createECDH } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { CompactEncrypt, compactDecrypt, exportJWK, generateKeyPair, importJWK } from 'jose'
import { describe, expect, it } from 'vitest'
import { asciiBytes, fromHex, toHex } from '../../src/base/bytes.js'
import { buildCompact } from '../../src/jwe/compact.js'
import { buildHeader, contentKeyInfo } from '../../src/jwe/header.js'
import { openJwe } from '../../src/jwe/open.js'
import { importRecipient } from '../../src/jwe/recipient.js'
import { sealJwe } from '../../src/jwe/seal.js'
import { encryptContent } from '../../src/primitives/a256gcm.js'
import { concatKdf } from '../../src/primitives/concat-kdf.js'
import { type P256PublicJwk, pointOfJwk } from '../../src/primitives/p256.js'
import {
  DOES_NOT_OPEN,
  failureOf,
  forge,
  fromB64u,
  RECIPIENT,
  RECIPIENT_PRIVATE,
  SAMPLE_PLAINTEXT,
  softwareKey,
  type TestJwk,
  text,
  utf8,
} from './support.js'

const bytes = (hex = ''): Uint8Array => fromHex(hex, 'vector')

describe('jose', async () => {
  const { privateKey, publicKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  const material = await exportJWK(privateKey)
  const recipient = importRecipient({ ...(await exportJWK(publicKey)), kid: 'K' } as P256PublicJwk)
  const key = await softwareKey(material, 'K')
  const parties = [
    ['without apu and apv', {}],
    ['with apu', { apu: utf8('Alice') }],
    ['with apv', { apv: utf8('Bob') }],
    ['with both', { apu: utf8('Alice'), apv: Uint8Array.of(0, 255, 128) }],
  ] as const

  it.each(parties)('opens ours, %s', async (_, party: { apu?: Uint8Array; apv?: Uint8Array }) => {
    for (const length of [1, 2, 3, 39, 1000]) {
      const plaintext = new Uint8Array(length).fill(length)
      const jwe = await sealJwe({ plaintext, recipient, ...party })
      const opened = await compactDecrypt(jwe, privateKey, {
        keyManagementAlgorithms: ['ECDH-ES'],
        contentEncryptionAlgorithms: ['A256GCM'],
      })
      expect(opened.plaintext).toEqual(plaintext)
      expect(opened.protectedHeader.kid).toBe('K')
    }
  })

  it.each(parties)('has its own opened, %s', async (_, party: { apu?: Uint8Array; apv?: Uint8Array }) => {
    for (const length of [1, 2, 3, 39, 1000]) {
      const plaintext = new Uint8Array(length).fill(length)
      const jwe = await new CompactEncrypt(plaintext)
        .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'K', typ: 'JOSE' })
        .setKeyManagementParameters(party)
        .encrypt(publicKey)
      const { plaintext: opened, header } = await openJwe({ jwe, keys: key })
      expect(opened).toEqual(plaintext)
      expect(header).toEqual({ kid: 'K', typ: 'JOSE', ...party })
    }
  })

  it.each([
    ['ECDH-ES', 'A128GCM'],
    ['ECDH-ES', 'A256CBC-HS512'],
    ['ECDH-ES+A256KW', 'A256GCM'],
  ])('makes %s with %s, which is refused here', async (alg, enc) => {
    const jwe = await new CompactEncrypt(utf8('x'))
      .setProtectedHeader({ alg, enc, kid: 'K' })
      .encrypt(await importJWK(await exportJWK(publicKey), alg))
    expect(await failureOf(openJwe({ jwe, keys: key }))).toEqual(DOES_NOT_OPEN)
  })
})

interface Vector {
  id: string
  operation: string
  inProfile?: boolean
  inputs: {
    jwe: string
    recipientPrivateJwk: TestJwk
    recipientPublicJwk: TestJwk
    ephemeralPrivateJwk: TestJwk
    iv: string
    protectedHeader: string
    plaintext: string
  }
  expect: 'accept' | 'reject'
  outputs: { jwe: string; plaintext: string; z?: string; cek?: string }
  note?: string
}

describe('vectors/jwe-ecdh-es.json', () => {
  const vectors: Vector[] = JSON.parse(
    readFileSync(new URL('../../vectors/jwe-ecdh-es.json', import.meta.url), 'utf8'),
  ).vectors
  // Keys on other curves are refused when they are bound, and the JSON serializations are not strings.
  const opening = vectors.filter(
    ({ operation, inputs }) =>
      operation === 'jwe.open' &&
      typeof inputs.jwe === 'string' &&
      inputs.recipientPrivateJwk.crv === 'P-256',
  )
  const opens = (vector: Vector): boolean => vector.expect === 'accept' && vector.inProfile === true
  const titled = (list: readonly Vector[]) => list.map(v => [`${v.id} ${v.note ?? ''}`, v] as const)

  it.each(titled(opening.filter(v => !opens(v))))('refuses %s', async (_, { inputs }) => {
    const keys = await softwareKey(inputs.recipientPrivateJwk)
    expect(await failureOf(openJwe({ jwe: inputs.jwe, keys }))).toEqual(DOES_NOT_OPEN)
  })

  it.each(titled(opening.filter(opens)))('opens %s', async (_, { inputs, outputs }) => {
    const keys = await softwareKey(inputs.recipientPrivateJwk)
    expect(toHex((await openJwe({ jwe: inputs.jwe, keys })).plaintext)).toBe(outputs.plaintext)
  })

  it.each(titled(vectors.filter(v => v.operation === 'jwe.seal' && v.expect === 'accept' && v.inProfile)))(
    'seals %s',
    (_, { inputs, outputs }) => {
      const ephemeral = createECDH('prime256v1')
      ephemeral.setPrivateKey(fromB64u(inputs.ephemeralPrivateJwk.d ?? ''))
      const { kid = '', apu, apv } = JSON.parse(inputs.protectedHeader)
      const party = { apu: apu && fromB64u(apu), apv: apv && fromB64u(apv) }
      const header = buildHeader({ kid, ephemeralPublicKey: ephemeral.getPublicKey(), ...party })
      expect(fromB64u(header).toString()).toBe(inputs.protectedHeader)
      const z = ephemeral.computeSecret(pointOfJwk(inputs.recipientPublicJwk) ?? new Uint8Array(0))
      if (outputs.z !== undefined) expect(toHex(z)).toBe(outputs.z)
      const contentKey = concatKdf(z, contentKeyInfo(party), 32)
      if (outputs.cek !== undefined) expect(toHex(contentKey)).toBe(outputs.cek)
      const clear = { aad: asciiBytes(header), iv: bytes(inputs.iv), plaintext: bytes(inputs.plaintext) }
      expect(buildCompact(header, encryptContent(contentKey, clear))).toBe(outputs.jwe)
    },
  )

  it.each(titled(vectors.filter(v => v.operation === 'jwe.seal' && v.expect === 'reject')))(
    'refuses to seal %s',
    async (_, { inputs }) => {
      const recipient = inputs.recipientPublicJwk as P256PublicJwk
      const sealing = sealJwe({ plaintext: bytes(inputs.plaintext), recipient, kid: 'K' })
      expect(await failureOf(sealing)).toMatchObject({ code: 'ERR_JWE_RECIPIENT' })
    },
  )
})

/** Wycheproof (C2SP/wycheproof, Apache-2.0) is run where it lies, not carried along: `WYCHEPROOF` names its folder of vectors. */
function wycheproof<Group>(file: string): Group[] {
  const { WYCHEPROOF } = process.env
  const beside = new URL('../../../shared/vectors/wycheproof/', import.meta.url)
  const url = new URL(file, WYCHEPROOF === undefined ? beside : pathToFileURL(`${WYCHEPROOF}/`))
  if (existsSync(url)) return JSON.parse(readFileSync(url, 'utf8')).testGroups
  console.warn(`Wycheproof ${file} is skipped: set WYCHEPROOF to a folder that has it (CONTRIBUTING.md)`)
  return []
}

interface JweGroup {
  private: TestJwk
  tests: { tcId: number; comment: string; jwe: unknown; pt?: string; result: string }[]
}

interface EcdhGroup {
  tests: {
    tcId: number
    comment: string
    public: TestJwk
    private: TestJwk
    shared: string
    result: string
  }[]
}

describe('Wycheproof', () => {
  const jweGroups = wycheproof<JweGroup>('json_web_encryption_test.json')
  const ecdhGroups = wycheproof<EcdhGroup>('ecdh_secp256r1_webcrypto_test.json')

  /** ECDH-ES directly, A256GCM, no zip: what this library speaks. */
  function inProfile(jwe: unknown): jwe is string {
    if (typeof jwe !== 'string') return false
    try {
      const { alg, enc, zip } = JSON.parse(fromB64u(jwe.split('.')[0] ?? '').toString())
      return alg === 'ECDH-ES' && enc === 'A256GCM' && zip === undefined
    } catch {
      return false
    }
  }

  it.skipIf(jweGroups.length === 0)(
    'json_web_encryption: opens what is valid and in profile, refuses the rest',
    async () => {
      const fallback = await softwareKey()
      const opened: number[] = []
      for (const group of jweGroups) {
        const ours = group.private.crv === 'P-256'
        const keys = ours ? await softwareKey(group.private) : fallback
        for (const { tcId, jwe, pt = '', result } of group.tests) {
          // The file's JSON serializations reach a compact reader as text.
          const given = typeof jwe === 'string' ? jwe : JSON.stringify(jwe)
          if (ours && result === 'valid' && inProfile(given)) {
            expect(toHex((await openJwe({ jwe: given, keys })).plaintext), `tcId ${tcId}`).toBe(
              pt.toUpperCase(),
            )
            opened.push(tcId)
          } else {
            expect(await failureOf(openJwe({ jwe: given, keys })), `tcId ${tcId}`).toEqual(DOES_NOT_OPEN)
          }
        }
      }
      expect(opened).toEqual([78])
    },
  )

  it.skipIf(ecdhGroups.length === 0)(
    'ecdh_secp256r1: takes the valid public keys, refuses the others',
    async () => {
      const tests = ecdhGroups.flatMap(group => group.tests)
      for (const { tcId, public: jwk, private: own, shared, result } of tests) {
        const recipient = { ...jwk, kid: 'K' } as P256PublicJwk
        const sealing = sealJwe({ plaintext: utf8('x'), recipient })
        // Sealed under the Z of the test, so that it opens where the key agreement gives just that.
        const jwe = forge({ alg: 'ECDH-ES', enc: 'A256GCM', epk: jwk }, { z: bytes(shared) })
        const opening = softwareKey(own).then(keys => openJwe({ jwe, keys }))
        if (result === 'valid') {
          expect((await sealing).split('.'), `tcId ${tcId}`).toHaveLength(5)
          expect(text((await opening).plaintext), `tcId ${tcId}`).toBe(SAMPLE_PLAINTEXT)
        } else {
          expect(await failureOf(sealing), `tcId ${tcId}`).toMatchObject({ code: 'ERR_JWE_RECIPIENT' })
          expect((await failureOf(opening)).code, `tcId ${tcId}`).toMatch(/^ERR_(JWE|KEY_MATERIAL)$/)
        }
      }
      expect(tests.filter(test => test.result === 'valid').length).toBeGreaterThan(300)
    },
  )
})

describe('jose and this library', () => {
  it('hold the published sample key to be the same recipient', async () => {
    const jwe = await sealJwe({ plaintext: utf8(SAMPLE_PLAINTEXT), recipient: RECIPIENT })
    const { plaintext } = await compactDecrypt(jwe, await importJWK({ ...RECIPIENT_PRIVATE }, 'ECDH-ES'))
    expect(text(plaintext)).toBe(SAMPLE_PLAINTEXT)
  })
})
