/**
 * `npm run demo`: an issuer answers D1's PIN calls, in software. D1 is played by jose and node-forge. Exit status 0:
 * everything the story claims was checked and held.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { KIDS, tellIso0Story } from './demo/story.js'
import { finish } from './demo/transcript.js'

const zpkHex = randomBytes(16).toString('hex')

{
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await using software = await softwareBackend({
    keys: [
      { kid: KIDS.zpk, usage: 'pin-encryption', algorithm: 'tdea-2key', material: zpkHex },
      { kid: KIDS.storage, usage: 'pin-encryption', algorithm: 'tdea-2key', material: randomBytes(16) },
      { kid: KIDS.jwe, usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  await tellIso0Story(software, zpkHex)
}

finish()
