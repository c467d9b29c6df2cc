/**
 * `npm run demo`: an issuer answers D1's PIN calls, first in software, then with keys in a SoftHSM token. D1 is played
 * by jose and node-forge. Exit status 0: everything the story claims was checked and held.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { SECCOS_KIDS, tellSeccosStory } from './demo/seccos-story.js'
import { makeToken } from './demo/softhsm.js'
import { KIDS, tellIso0Story } from './demo/story.js'
import { chapter, finish, say, show, skip } from './demo/transcript.js'

// The keys that D1 and the issuer share. In life they come in key blocks or components; here both sides make them up.
const zpkHex = randomBytes(16).toString('hex')
const shared = {
  prw: { hex: randomBytes(16).toString('hex'), kid: SECCOS_KIDS.prw },
  mac: { hex: randomBytes(16).toString('hex'), kid: SECCOS_KIDS.mac },
}

async function inSoftware(): Promise<void> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await using backend = await softwareBackend({
    keys: [
      { kid: KIDS.zpk, usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpkHex },
      { kid: KIDS.storage, usage: 'pin-encryption', algorithm: 'tdea-2key', material: randomBytes(16) },
      { kid: KIDS.jwe, usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
      { kid: SECCOS_KIDS.prw, usage: 'prw-verify', algorithm: 'tdea-2key', material: shared.prw.hex },
      { kid: SECCOS_KIDS.mac, usage: 'retail-mac', algorithm: 'tdea-2key', material: shared.mac.hex },
    ],
  })
  await tellIso0Story(backend, zpkHex)
  await tellSeccosStory(backend, shared)
}

async function inToken(): Promise<void> {
  using token = makeToken()
  if (token === undefined) {
    skip('the same with keys in a token', 'SoftHSM is not installed (sudo apt-get install softhsm2)')
    return
  }
  const { module, token: label, pin } = token
  chapter('Keys are made in a SoftHSM token')
  {
    say(
      'Storage and JWE key are generated inside; the keys shared with D1 come in as clear test keys, by opt-in.',
    )
    await using store = await openKeyStore({
      module,
      token: label,
      pin,
      importClearKeys: true,
      composedMac: true,
    })
    const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key', hostDecipher: true } as const
    await store.importKey({ ...tdea, kid: KIDS.zpk, material: zpkHex })
    await store.generateKey({ ...tdea, kid: KIDS.storage })
    const retail = { algorithm: 'tdea-2key', macs: ['iso9797-1-alg3'] } as const
    await store.importKey({ ...retail, usage: 'prw-verify', kid: SECCOS_KIDS.prw, material: shared.prw.hex })
    await store.importKey({ ...retail, usage: 'retail-mac', kid: SECCOS_KIDS.mac, material: shared.mac.hex })
    await store.generateKey({ kid: KIDS.jwe, usage: 'jwe-key-agreement', algorithm: 'ec-p256' })
    for (const key of await store.listKeys()) show(key.kid, `${key.usage}, ${key.algorithm}`)
  }
  // SoftHSM has no retail MAC of its own: composing it is opt-in (SECURITY.md says why).
  await using backend = await pkcs11Backend({ module, token: label, pin, composedMac: true })
  await tellIso0Story(backend, zpkHex)
  await tellSeccosStory(backend, shared)
}

await inSoftware()
await inToken()
finish()
