/** The inline path beside the bare calls of pkcs11js, on one key of a SoftHSM token in one process: for `npm run speed:pkcs11`. */
import pkcs11js from 'pkcs11js'
import { type Contest, hold } from '../../bench/contest.js'
import { operationsOf } from '../../src/backend/key.js'
import { buildFormat0, encipherPin, encipherPins, Pan, Pin } from '../../src/index.js'
import { pkcs11Backend } from '../../src/pkcs11.js'

const BATCH = 8192
const [module = '', label = '', userPin = '', rounds = '21', milliseconds = '60'] = process.argv.slice(2)

const backend = await pkcs11Backend({ module, token: label, pin: () => userPin, executor: 'inline' })
const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
const operations = operationsOf(key)
const bare = bareCalls()
const pin = Pin.from('4711')
const pan = Pan.from('9999990123456789')
const pins = Array.from({ length: BATCH }, (_, i) => ({
  pin: Pin.from(String(1000 + i)),
  pan: Pan.from(String(4_000_000_000_000_000 + i)),
}))
const block = buildFormat0({ pin, pan })
const built = (): Uint8Array => Buffer.concat(pins.map(entry => buildFormat0(entry)))
const batch = Uint8Array.from(built())
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const peer = 'C_EncryptInit and C_Encrypt'

/** One block and many, each by the port, by the verb, and bare. */
const contests: readonly Contest[] = [
  {
    title: 'one block',
    ways: [
      { name: peer, run: () => bare(block), answer: () => hex(bare(block)) },
      {
        name: 'the port',
        run: () => operations.encipher(block),
        answer: async () => hex(await operations.encipher(block)),
      },
      {
        name: 'encipherPin, which builds the block',
        run: () => encipherPin({ pin, pan, format: 0, key }),
        answer: async () => hex(await encipherPin({ pin, pan, format: 0, key })),
      },
    ],
    targets: [
      { ours: 'the port', peer, atLeast: 1 / 1.15 },
      { ours: 'encipherPin, which builds the block', peer, atLeast: 1 / 1.3 },
    ],
  },
  {
    title: '8192 blocks in one call',
    ways: [
      { name: peer, run: () => bare(batch), operations: BATCH, answer: () => hex(bare(batch)) },
      {
        name: 'the port',
        run: () => operations.encipher(batch),
        operations: BATCH,
        answer: async () => hex(await operations.encipher(batch)),
      },
      {
        name: 'encipherPins, which builds the blocks',
        run: () => encipherPins({ pins, format: 0, key }),
        operations: BATCH,
        answer: async () => hex(await encipherPins({ pins, format: 0, key })),
      },
      {
        name: 'blocks built one by one, and the calls',
        run: () => bare(built()),
        operations: BATCH,
        answer: () => hex(bare(built())),
      },
    ],
    targets: [
      { ours: 'the port', peer, atLeast: 0.95 },
      {
        ours: 'encipherPins, which builds the blocks',
        peer: 'blocks built one by one, and the calls',
        atLeast: 0.9,
      },
    ],
  },
]
const effort = { rounds: Number(rounds), milliseconds: Number(milliseconds) }
const results = []
for (const contest of contests) results.push(await hold(contest, effort))
await backend.close()
console.log(JSON.stringify(results))

/** On a session of its own; the module is initialised and logged in by the backend. */
function bareCalls(): (data: Uint8Array) => Uint8Array {
  const p11 = new pkcs11js.PKCS11()
  p11.load(module)
  for (const slot of p11.C_GetSlotList(true)) {
    if (p11.C_GetTokenInfo(slot).label.trim() !== label) continue
    const session = p11.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION)
    p11.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_LABEL, value: 'PEK-2' }])
    const [handle] = p11.C_FindObjects(session, 1)
    p11.C_FindObjectsFinal(session)
    if (handle === undefined) break
    const mechanism = { mechanism: 0x132 }
    return data => {
      p11.C_EncryptInit(session, mechanism, handle)
      const given = Buffer.from(data.buffer, data.byteOffset, data.length)
      return p11.C_Encrypt(session, given, Buffer.allocUnsafeSlow(data.length + 8))
    }
  }
  throw new Error('the key is not in the token')
}
