/** Another process that changes a key of the fault campaign's token: line by line, `other` or `right`. */
import { createInterface } from 'node:readline'
import { openKeyStore } from '../../src/pkcs11.js'
import { CONTRACT_KEYS } from '../../src/testing.js'

const KID = 'PEK-2'
const OTHER = '89E88CF7931444F334BD7547FC3F380C'
const [module = '', token = '', userPin = ''] = process.argv.slice(2)
const right = CONTRACT_KEYS.find(({ kid }) => kid === KID)
if (right === undefined) throw new Error(`no ${KID} in the contract`)

for await (const line of createInterface(process.stdin)) {
  // Opened each time: the token may have been away.
  await using store = await openKeyStore({ module, token, pin: () => userPin, importClearKeys: true })
  for (const { kid, id } of await store.listKeys()) if (kid === KID) await store.deleteKey({ kid, id })
  await store.importKey(line === 'right' ? right : { ...right, material: OTHER })
  console.log('done')
}
