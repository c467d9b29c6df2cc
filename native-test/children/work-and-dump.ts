/**
 * Child of the heap test: works with the canary keys, in success and in failure, and then writes its heap to a file.
 * It never reads the keys. The user PIN and the cardholder's PIN it reads as bytes, late, and drops.
 */

import { readFileSync } from 'node:fs'
import { writeHeapSnapshot } from 'node:v8'
import { operationsOf } from '../../src/backend/key.js'
import { buildFormat0, decipherPin, encipherPin, Pan, Pin } from '../../src/index.js'
import { pkcs11Backend } from '../../src/pkcs11.js'

const {
  MODULE = '',
  TOKEN = '',
  USER_PIN_FILE = '',
  CARD_PIN_FILE = '',
  POINT_FILE = '',
  SNAPSHOT = '',
} = process.env

const fails = async (call: () => Promise<unknown>): Promise<void> => {
  const failed = await call().then(
    () => false,
    () => true,
  )
  if (!failed) throw new Error('a call that must fail did not')
}

async function work(): Promise<void> {
  const options = { module: MODULE, token: TOKEN, composedMac: true }
  await fails(() => pkcs11Backend({ ...options, pin: () => 'a wrong PIN' }))
  await using backend = await pkcs11Backend({ ...options, pin: () => readFileSync(USER_PIN_FILE, 'latin1') })
  const pek = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
  const mac = await backend.bind({ kid: 'MAC', usage: 'retail-mac' })
  const jwe = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  await fails(() => backend.bind({ kid: 'PEK', usage: 'cmac' }))
  await fails(() => backend.bind({ kid: 'MAC', usage: 'pin-encryption' }))

  const digits = new Uint8Array(readFileSync(CARD_PIN_FILE))
  const pin = Pin.from(digits)
  digits.fill(0)
  const pan = Pan.from('9999990123456789')
  const clear = buildFormat0(pin, pan)
  clear.fill(0)
  const block = await encipherPin({ pin, pan, format: 0, key: pek })
  const back = await decipherPin({ block, pan, format: 0, key: pek })
  const other = Pan.from('9999990123456797')
  await fails(() => decipherPin({ block, pan: other, format: 0, key: pek }))
  back.dispose()
  pin.dispose()

  const ephemeralPublicKey = new Uint8Array(readFileSync(POINT_FILE))
  const request = { ephemeralPublicKey, otherInfo: new Uint8Array(16), length: 32 }
  for (let i = 0; i < 20; i++) {
    ;(await operationsOf(jwe).deriveContentKey(request)).fill(0)
    await operationsOf(mac).mac({ algorithm: 'iso9797-1-alg3', padding: 2 }, new Uint8Array(100))
  }
  await fails(() =>
    operationsOf(jwe).deriveContentKey({ ...request, ephemeralPublicKey: new Uint8Array(65) }),
  )
  await fails(() => operationsOf(jwe).deriveContentKey(request, { signal: AbortSignal.abort() }))

  // A marker that must be found, so that the search itself is known to work.
  Object.assign(globalThis, { marker: ['positive', 'control', String(process.pid)].join('-') })
  writeHeapSnapshot(SNAPSHOT)
}

await work()
console.log(process.pid)
