/** Bytes in memory that is not the library's: shared, resizable, detached, changed while a call runs. Each is read once, at once. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Backend, decipherPin, encipherPin, generateMac, type Key, Pan, Pin } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'

const pin = Pin.from('4711')
const pan = Pan.from('4000001234567899')
const MAC = { algorithm: 'iso9797-1-alg3', padding: 2, length: 8 } as const
let backend: Backend
let zpk: Key
let mac: Key
let block: Uint8Array
let wanted: Uint8Array

beforeAll(async () => {
  backend = await softwareBackend({
    keys: [
      {
        kid: 'Z',
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        material: '0123456789ABCDEFFEDCBA9876543210',
      },
      { kid: 'M', usage: 'retail-mac', algorithm: 'tdea-2key', material: '89E57F5B7C2A4D1C1F3E5D7C9BADCE01' },
    ],
  })
  zpk = await backend.bind({ kid: 'Z', usage: 'pin-encryption', hostDecipher: true })
  mac = await backend.bind({ kid: 'M', usage: 'retail-mac' })
  block = await encipherPin({ pin, pan, format: 0, key: zpk })
  wanted = await generateMac({ ...MAC, key: mac, message: block })
})
afterAll(() => backend.close())

type Memory = () => { readonly bytes: Uint8Array; readonly spoil: () => unknown }

function over(buffer: ArrayBuffer, spoil: (bytes: Uint8Array) => unknown): ReturnType<Memory> {
  const bytes = new Uint8Array(buffer)
  bytes.set(block)
  return { bytes, spoil: () => spoil(bytes) }
}

/** A buffer that can be made longer and shorter: ES2024, which the types of this project do not know. */
function resizable(): ArrayBuffer {
  return Reflect.construct(ArrayBuffer, [8, { maxByteLength: 64 }])
}

const MEMORIES: readonly (readonly [string, Memory])[] = [
  ['shared, and written', () => over(new SharedArrayBuffer(8) as never, b => b.fill(0))],
  ['of the caller, and changed', () => over(new ArrayBuffer(8), b => b.fill(0))],
  [
    'of the caller, and transferred',
    () => over(new ArrayBuffer(8), b => structuredClone(b.buffer, { transfer: [b.buffer as ArrayBuffer] })),
  ],
  [
    'resizable, and made shorter',
    () => over(resizable(), b => Reflect.get(b.buffer, 'resize').call(b.buffer, 0)),
  ],
  [
    'resizable, and made longer',
    () => over(resizable(), b => Reflect.get(b.buffer, 'resize').call(b.buffer, 64)),
  ],
]

describe.each(MEMORIES)('%s while the call runs', (_what, memory) => {
  test('a PIN block is the one that was handed over', async () => {
    const { bytes, spoil } = memory()
    const deciphering = decipherPin({ block: bytes, pan, format: 0, key: zpk })
    spoil()
    const again = await encipherPin({ pin: await deciphering, pan, format: 0, key: zpk })
    expect(again).toEqual(block)
  })

  test('so is a message', async () => {
    const first = memory()
    const second = memory()
    // The first of a turn is computed at once, the second is put aside for the end of it.
    const macs = [first, second].map(({ bytes }) => generateMac({ ...MAC, key: mac, message: bytes }))
    first.spoil()
    second.spoil()
    expect(await Promise.all(macs)).toEqual([wanted, wanted])
  })
})

test('memory that is gone, and what is no byte array, are refused with a code', async () => {
  const gone = Uint8Array.from(block)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  for (const bytes of [
    gone,
    new Proxy(Uint8Array.from(block), {}),
    [...block],
    new DataView(new ArrayBuffer(8)),
  ]) {
    const refused = expect.objectContaining({ code: 'ERR_ARGUMENT' })
    await expect(decipherPin({ block: bytes as never, pan, format: 0, key: zpk })).rejects.toEqual(refused)
    await expect(generateMac({ ...MAC, key: mac, message: bytes as never })).rejects.toEqual(refused)
  }
})
