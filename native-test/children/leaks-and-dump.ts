/**
 * Child of the memory test: works with planted keys in software, in success and in failure, closes and lets go of
 * everything, writes its heap to a file, and then stands still so that its memory can be looked at from outside. It
 * reads the secrets as bytes, late, and wipes what it has read: what is still there afterwards, somebody else left.
 */

import { readFileSync } from 'node:fs'
import { writeHeapSnapshot } from 'node:v8'
import { operationsOf } from '../../src/backend/key.js'
import { encipherPin, generateMac, openJwe, Pan, Pin } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'

const { SECRETS = '', SNAPSHOT = '', KEEP = '', ENGINE, LEAVE_OPEN } = process.env

/** The secrets, each with its length in two bytes before it, in memory of their own. */
function secretsFile(): Record<string, Uint8Array> {
  const whole = readFileSync(SECRETS)
  const names = ['pin', 'pan', 'storage', 'mac', 'scalar', 'jwe']
  const parts: Record<string, Uint8Array> = {}
  let at = 0
  for (const name of names) {
    const length = ((whole[at] ?? 0) << 8) | (whole[at + 1] ?? 0)
    const part = new Uint8Array(new ArrayBuffer(length))
    part.set(whole.subarray(at + 2, at + 2 + length))
    parts[name] = part
    at += 2 + length
  }
  whole.fill(0)
  return parts
}

const fails = async (call: () => unknown): Promise<void> => {
  const failed = await Promise.resolve()
    .then(call)
    .then(
      () => false,
      () => true,
    )
  if (!failed) throw new Error('a call that must fail did not')
}

async function work(): Promise<void> {
  const { pin, pan, storage, mac, scalar, jwe } = secretsFile() as Record<
    'pin' | 'pan' | 'storage' | 'mac' | 'scalar' | 'jwe',
    Uint8Array
  >
  const backend = await softwareBackend({
    engine: ENGINE === 'node-forge' ? 'node-forge' : 'auto',
    keys: [
      { kid: 'STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', material: storage },
      { kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: mac },
      { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: scalar },
    ],
  })
  const store = await backend.bind({ kid: 'STORE', usage: 'pin-encryption', hostDecipher: true })
  const macKey = await backend.bind({ kid: 'MAC', usage: 'retail-mac' })
  const jweKey = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  const compact = Buffer.from(jwe).toString('latin1')
  for (let i = 0; i < 20; i++) {
    const clear = Pin.from(pin)
    const account = Pan.from(pan)
    const block = await encipherPin({ pin: clear, pan: account, format: 0, key: store })
    const request = {
      key: macKey,
      message: block,
      algorithm: 'iso9797-1-alg3',
      padding: 2,
      length: 8,
    } as const
    ;(await generateMac(request)).fill(0)
    const { plaintext } = await openJwe({ jwe: compact, keys: jweKey })
    plaintext.fill(0)
    await fails(() => encipherPin({ pin: clear, pan: account, format: 0, key: macKey }))
    await fails(() => openJwe({ jwe: `${compact.slice(0, -4)}AAAA`, keys: jweKey }))
    await fails(() => backend.bind({ kid: 'STORE', usage: 'cmac' }))
    await fails(() =>
      operationsOf(macKey).mac({ algorithm: 'iso9797-1-alg3', padding: 2 }, pin, {
        signal: AbortSignal.abort(),
      }),
    )
    block.fill(0)
    clear.dispose()
  }
  if (LEAVE_OPEN !== undefined) {
    Object.assign(globalThis, { backend, pan })
    return
  }
  await backend.close()
  for (const part of [pin, pan, storage, mac, scalar]) part.fill(0)
}

await work()
for (let i = 0; i < 5; i++) {
  globalThis.gc?.()
  await new Promise(resolve => setImmediate(resolve))
}
// Markers that must be found, so that the search itself is known to work.
const marker = ['positive', 'control', String(process.pid)].join('-')
const kept = KEEP === '' ? undefined : Uint8Array.from(readFileSync(KEEP))
Object.assign(globalThis, { marker, kept })

writeHeapSnapshot(SNAPSHOT)
// Stands still, to be looked at from outside, until its input ends.
process.stdin.resume()
console.log('ready')
