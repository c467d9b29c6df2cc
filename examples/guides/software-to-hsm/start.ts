import { type Backend, encipherPin, type Key, Pan, Pin, translatePinBlock } from 'issuer-pin-crypto'
import { openKeys } from './open-keys.js'

/** Everything the service needs from its keys, found wanting at the start and not at the first card. */
export async function bindKeys(backend: Backend): Promise<{ d1Zpk: Key; storage: Key; jweKey: Key }> {
  const { keyAgreement, notes } = backend.capabilities()
  if (keyAgreement === 'none') throw new Error(`this token cannot open a JWE: ${notes.join('; ')}`)
  return {
    // The check value was written down in the key ceremony. Another key under this name stops the start.
    d1Zpk: await backend.bind({
      kid: 'ZPK-D1',
      usage: 'pin-encryption',
      kcv: process.env['ZPK_KCV'] ?? '08D7B4',
      // Translations are checked on the host: a decision for your security officer, made here and by name.
      hostDecipher: true,
    }),
    storage: await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher: true }),
    jweKey: await backend.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' }),
  }
}

await using backend = await openKeys()
const { d1Zpk, storage } = await bindKeys(backend)
console.log(backend.capabilities())
console.log(await backend.health())

// One PIN block on its way, from the key shared with D1 to the issuer's own.
const pan = Pan.from('9999990123456789')
using pin = Pin.from('4711')
const received = await encipherPin({ pin, pan, format: 0, key: d1Zpk })
const stored = await translatePinBlock({
  block: received,
  pan,
  fromFormat: 0,
  toFormat: 0,
  from: d1Zpk,
  to: storage,
})
console.log(`stored ${stored.length} bytes under ${storage}`)
