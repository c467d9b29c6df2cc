/** The PKCS#11 backend on SoftHSM against the bare calls of pkcs11js, on the same key in the same process. */
import { buildFormat0, encipherPin, encipherPins, Pan, Pin } from 'issuer-pin-crypto'
import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import pkcs11js from 'pkcs11js'
import { makeToken } from '../examples/demo/softhsm.js'
import type { Bench } from './pin.js'

const CKM_DES3_ECB = 0x132
const BATCH = 8192

const NONE: Bench = { contests: [], [Symbol.asyncDispose]: async () => {} }

export async function softHsmContests(): Promise<Bench> {
  const token = makeToken()
  if (token === undefined) {
    console.log('SoftHSM is not installed (apt-get install softhsm2): its targets were not measured')
    process.exitCode = 1
    return NONE
  }
  const options = { module: token.module, token: token.token, pin: token.pin }
  {
    await using store = await openKeyStore(options)
    await store.generateKey({ kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key' })
  }
  const backend = await pkcs11Backend(options)
  const key = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption' })
  const bare = bareCalls(token.module)
  const pin = Pin.from('4711')
  const pan = Pan.from('9999990123456789')
  const block = Buffer.from(buildFormat0({ pin, pan }))
  const pins = Array.from({ length: BATCH }, (_, i) => ({
    pin: Pin.from(String(1000 + i)),
    pan: Pan.from(String(4_000_000_000_000_000 + i)),
  }))
  const built = (): Buffer => Buffer.concat(pins.map(({ pin, pan }) => buildFormat0({ pin, pan })))
  const batch = built()
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const one = () => encipherPin({ pin, pan, format: 0, key })
  const many = () => encipherPins({ pins, format: 0, key })
  return {
    contests: [
      {
        title: 'SoftHSM: encipherPin',
        ways: [
          { name: 'encipherPin', run: one, answer: async () => hex(await one()) },
          { name: 'C_EncryptInit and C_Encrypt', run: () => bare(block), answer: () => hex(bare(block)) },
        ],
        targets: [{ ours: 'encipherPin', peer: 'C_EncryptInit and C_Encrypt', atLeast: 1 / 1.3 }],
      },
      {
        title: 'SoftHSM: encipherPins, 8192 in one call',
        ways: [
          { name: 'encipherPins', run: many, operations: BATCH, answer: async () => hex(await many()) },
          {
            name: 'blocks built, C_EncryptInit and C_Encrypt',
            run: () => bare(built()),
            operations: BATCH,
            answer: () => hex(bare(built())),
          },
          {
            name: 'ready blocks, C_EncryptInit and C_Encrypt',
            run: () => bare(batch),
            operations: BATCH,
            answer: () => hex(bare(batch)),
          },
        ],
        // Beside ready blocks the verb's own half, which is to build them, is no cost of the token's path: that path is
        // held to 95 % of the bare call by `npm run speed:pkcs11`, where the port is handed ready blocks.
        targets: [{ ours: 'encipherPins', peer: 'blocks built, C_EncryptInit and C_Encrypt', atLeast: 0.9 }],
      },
    ],
    [Symbol.asyncDispose]: async () => {
      await backend.close()
      token[Symbol.dispose]()
    },
  }
}

/** EncryptInit and Encrypt on a session of its own; the module is initialised and logged in by the backend. */
function bareCalls(module: string): (data: Buffer) => Buffer {
  const p11 = new pkcs11js.PKCS11()
  p11.load(module)
  for (const slot of p11.C_GetSlotList(true)) {
    const session = p11.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION)
    p11.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_LABEL, value: 'ZPK' }])
    const [handle] = p11.C_FindObjects(session, 1)
    p11.C_FindObjectsFinal(session)
    if (handle === undefined) continue
    const mechanism = { mechanism: CKM_DES3_ECB }
    return data => {
      p11.C_EncryptInit(session, mechanism, handle)
      return p11.C_Encrypt(session, data, Buffer.allocUnsafeSlow(data.length + 8))
    }
  }
  throw new Error('the key is not in the token')
}
