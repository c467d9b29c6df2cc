/** A worker thread with a backend of its own, for softhsm.worker.test.ts. */

import { parentPort, workerData } from 'node:worker_threads'
import { operationsOf } from '../../src/backend/key.js'
import { pkcs11Backend } from '../../src/pkcs11.js'

const { module, token, pin, close } = workerData as {
  module: string
  token: string
  pin: string
  close: boolean
}
const backend = await pkcs11Backend({ module, token, pin: () => pin })
const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
for (let i = 0; i < 500; i++) await operationsOf(key).encipher(new Uint8Array(8))
const goodbye = new Promise(resolve => parentPort?.once('message', resolve))
parentPort?.postMessage(await operationsOf(key).encipher(new Uint8Array(8)))
await goodbye
// Without it the thread ends with its sessions open, as a thread does that somebody forgot to tidy up.
if (close) await backend.close()
