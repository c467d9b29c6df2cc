import { createCipheriv, generateKeyPairSync, randomBytes } from 'node:crypto'
import { buildFormat0, encipherPin, importRecipient, openJwe, Pan, Pin, sealJwe } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { compare, type Verdict } from './ratio.js'

/** The software backend against raw node:crypto (a cipher a call) and against jose (sequential). */
export async function benchSoftware(): Promise<readonly Verdict[]> {
  const material = randomBytes(16)
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await using backend = await softwareBackend({
    keys: [
      { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material },
      { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  const zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption' })
  const jweKey = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  if (jweKey.publicJwk === undefined) throw new Error('no public key')
  const recipient = importRecipient({ ...jweKey.publicJwk, kid: 'JWE' })
  const pin = Pin.from('4711')
  const pan = Pan.from('9999990123456789')
  const clear = buildFormat0(pin, pan)
  const plaintext = new TextEncoder().encode('{"pinValue":"0123456789ABCDEF","kid":"ZPK-D1-2026"}')
  const jwe = await sealJwe({ plaintext, recipient })
  return [
    await compare({
      name: 'encipherPin (format 0) : createCipheriv a call',
      ours: () => encipherPin({ pin, pan, format: 0, key: zpk }),
      theirs: () => {
        const cipher = createCipheriv('des-ede-ecb', material, null).setAutoPadding(false)
        return Buffer.concat([cipher.update(clear), cipher.final()])
      },
      calls: 100_000,
      target: 2,
    }),
    await compare({
      name: 'sealJwe : jose CompactEncrypt',
      ours: () => sealJwe({ plaintext, recipient }),
      theirs: () =>
        new CompactEncrypt(plaintext)
          .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'JWE' })
          .encrypt(publicKey),
      calls: 200,
      target: 3,
    }),
    await compare({
      name: 'openJwe : jose compactDecrypt',
      ours: () => openJwe({ jwe, keys: jweKey }),
      theirs: () => compactDecrypt(jwe, privateKey),
      calls: 200,
      target: 3,
    }),
  ]
}
