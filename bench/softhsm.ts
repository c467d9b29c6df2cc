import { buildFormat0, encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import pkcs11js from 'pkcs11js'
import { makeToken } from '../examples/demo/softhsm.js'
import { operationsOf } from '../src/backend/key.js'
import { compare, type Verdict } from './ratio.js'

const CKM_DES3_ECB = 0x132
const BATCH = 65_536

/** The PKCS#11 backend on SoftHSM against the bare calls of pkcs11js, on the same key in the same process. */
export async function benchSoftHsm(): Promise<readonly Verdict[]> {
  using token = makeToken()
  if (token === undefined) {
    console.log('SoftHSM is not installed (apt-get install softhsm2): its targets were not measured')
    process.exitCode = 1
    return []
  }
  const options = { module: token.module, token: token.token, pin: token.pin }
  {
    await using store = await openKeyStore(options)
    await store.generateKey({ kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key' })
  }
  await using backend = await pkcs11Backend(options)
  const key = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption' })
  const bare = bareCalls(token.module)
  const pin = Pin.from('4711')
  const pan = Pan.from('9999990123456789')
  const block = Buffer.from(buildFormat0(pin, pan))
  const batch = Buffer.alloc(BATCH, 0x5a)
  return [
    await compare({
      name: 'SoftHSM: encipherPin (format 0) : C_EncryptInit + C_Encrypt',
      ours: () => encipherPin({ pin, pan, format: 0, key }),
      theirs: () => bare(block),
      calls: 2000,
      target: 1 / 1.3,
    }),
    await compare({
      name: 'SoftHSM: encipherBlocks of 8192 : bare call of 64 KiB',
      ours: () => operationsOf(key).encipher(batch),
      theirs: () => bare(batch),
      calls: 50,
      target: 0.9,
    }),
  ]
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
