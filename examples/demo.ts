/**
 * `npm run demo`: an issuer answers D1's PIN calls, first in software, then with keys in a SoftHSM token. D1 is played
 * by jose and node-forge. Exit status 0: everything the story claims was checked and held.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { makeToken } from './demo/softhsm.js'
import { KIDS, tellIso0Story } from './demo/story.js'
import { chapter, check, finish, say, show } from './demo/transcript.js'

const zpkHex = randomBytes(16).toString('hex')

async function inSoftware(): Promise<void> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await using backend = await softwareBackend({
    keys: [
      { kid: KIDS.zpk, usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpkHex },
      { kid: KIDS.storage, usage: 'pin-encryption', algorithm: 'tdea-2key', material: randomBytes(16) },
      { kid: KIDS.jwe, usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  await tellIso0Story(backend, zpkHex)
}

async function inToken(): Promise<void> {
  using token = makeToken()
  if (token === undefined) {
    check('SoftHSM is installed (apt-get install softhsm2)', false)
    return
  }
  const { module, token: label, pin } = token
  chapter('Keys are made in a SoftHSM token')
  {
    say(
      'Storage and JWE key are generated inside; the key shared with D1 comes in as a clear test key, by opt-in.',
    )
    await using store = await openKeyStore({ module, token: label, pin, importClearKeys: true })
    const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key', hostDecipher: true } as const
    await store.importKey({ ...tdea, kid: KIDS.zpk, material: zpkHex })
    await store.generateKey({ ...tdea, kid: KIDS.storage })
    await store.generateKey({ kid: KIDS.jwe, usage: 'jwe-key-agreement', algorithm: 'ec-p256' })
    for (const key of await store.listKeys()) show(key.kid, `${key.usage}, ${key.algorithm}`)
  }
  await using backend = await pkcs11Backend({ module, token: label, pin })
  await tellIso0Story(backend, zpkHex)
}

await inSoftware()
await inToken()
finish()
