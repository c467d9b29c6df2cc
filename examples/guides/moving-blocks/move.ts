/** Stored PIN blocks move from a key in software to a key in a token: only the key's backend differs from a rotation. */
import { readFile } from 'node:fs/promises'
import { type Backend, decipherPin, encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import { memoryIssuerStore, rotateStorageKey } from 'issuer-pin-crypto/d1'
import { pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { softwareBackend } from 'issuer-pin-crypto/software'

const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const

/** The token; without one, for a rehearsal, a second software backend with the same name of a key. */
function openToken(): Promise<Backend> {
  const { PKCS11_MODULE, PKCS11_TOKEN = 'issuer', PKCS11_PIN_FILE = '/run/secrets/hsm-pin' } = process.env
  if (PKCS11_MODULE === undefined) {
    const material = '89E88CF7931444F334BD7547FC3F380C'
    return softwareBackend({ keys: [{ ...tdea, kid: 'PEK-NEW', material }] })
  }
  return pkcs11Backend({
    module: PKCS11_MODULE,
    token: PKCS11_TOKEN,
    pin: async () => (await readFile(PKCS11_PIN_FILE, 'utf8')).trim(),
  })
}

await using software = await softwareBackend({
  keys: [{ ...tdea, kid: 'PEK-SOFTWARE', material: '0123456789ABCDEFFEDCBA9876543210' }],
})
await using token = await openToken()
const from = await software.bind({ kid: 'PEK-SOFTWARE', usage: 'pin-encryption', hostDecipher: true })
const to = await token.bind({ kid: 'PEK-NEW', usage: 'pin-encryption', hostDecipher: true })

// Your store: openPostgresIssuerStore or openSqliteIssuerStore.
const store = memoryIssuerStore()
const card = { issuerId: 'is_tbank01', cardId: 'card-0001' }
const pan = Pan.from('9999990123456789')
using pin = Pin.from('4711')
await store.cards.put(card, { state: 'active', pan, setPinTypes: ['ISO0'] })
await store.pins.storeBlock(card, {
  block: await encipherPin({ pin, pan, format: 0, key: from }),
  kid: from.kid,
})

console.log('before:', await store.pins.countBlocks())
console.log('moved:', await rotateStorageKey({ store, from, to }))
console.log('after:', await store.pins.countBlocks())

const stored = await store.pins.readBlock(card)
if (stored === undefined) throw new Error('no block')
using after = await decipherPin({ block: stored.block, pan, format: 0, key: to })
console.log('the same PIN:', after.reveal() === pin.reveal())
