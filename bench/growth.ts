/** How cost grows: with the batch, with the keys that are open, with the length of PIN and PAN, and with a stream of blocks. */
import { createCipheriv, randomBytes } from 'node:crypto'
import { encipherPin, encipherPins, Pan, Pin } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { type Effort, hold } from './contest.js'

/** One line of a chart: what an operation costs in nanoseconds of processor time, at each size. */
export interface Line {
  readonly name: string
  readonly points: readonly (readonly [size: number, nanoseconds: number])[]
}

export interface Growth {
  readonly title: string
  /** What the size counts. */
  readonly of: string
  /** What one operation is. */
  readonly unit: string
  readonly lines: readonly Line[]
}

/** Peak of array buffers and of the resident set while a million PIN blocks are enciphered in batches. */
export interface Peak {
  readonly blocks: number
  readonly arrayBuffersMiB: number
  readonly residentMiB: number
}

const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const

function entries(count: number): { pin: Pin; pan: Pan }[] {
  return Array.from({ length: count }, (_, i) => ({
    pin: Pin.from(String(1000 + (i % 9000))),
    pan: Pan.from(String(4_000_000_000_000_000 + i)),
  }))
}

export async function measureGrowth(effort: Effort): Promise<readonly Growth[]> {
  return [await withBatch(effort), await withKeys(effort), await withLength(effort)]
}

async function withBatch(effort: Effort): Promise<Growth> {
  const material = randomBytes(16)
  await using backend = await softwareBackend({ keys: [{ ...tdea, kid: 'K', material }] })
  const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  const cipher = createCipheriv('des-ede-ecb', material, null).setAutoPadding(false)
  const lines = { ours: [] as [number, number][], openssl: [] as [number, number][] }
  for (const size of [1, 4, 16, 64, 128, 512, 2048, 8192]) {
    const pins = entries(size)
    const data = randomBytes(8 * size)
    const { ways } = await hold(
      {
        title: `batch of ${size}`,
        ways: [
          { name: 'ours', run: () => encipherPins({ pins, format: 0, key }), operations: size },
          { name: 'openssl', run: () => cipher.update(data), operations: size },
        ],
        targets: [],
      },
      effort,
    )
    lines.ours.push([size, ways[0]?.cpu.median ?? Number.NaN])
    lines.openssl.push([size, ways[1]?.cpu.median ?? Number.NaN])
  }
  return {
    title: 'PIN blocks in one call',
    of: 'blocks a call',
    unit: 'block',
    lines: [
      { name: 'encipherPins, building included', points: lines.ours },
      { name: 'OpenSSL, blocks already built', points: lines.openssl },
    ],
  }
}

async function withKeys(effort: Effort): Promise<Growth> {
  const [pin, pan] = [Pin.from('4711'), Pan.from('9999990123456789')]
  const opening: [number, number][] = []
  const using: [number, number][] = []
  for (const size of [1, 10, 100, 1000, 10_000]) {
    const keys = Array.from({ length: size }, (_, i) => ({
      kid: `K-${i}`,
      // Two usages in turn: then each key must be held against those of the other.
      usage: i % 2 === 0 ? ('pin-encryption' as const) : ('retail-mac' as const),
      algorithm: 'tdea-2key' as const,
      material: randomBytes(16),
    }))
    const cpu = process.cpuUsage()
    await using backend = await softwareBackend({ keys })
    const bound = []
    for (const { kid, usage } of keys) bound.push(await backend.bind({ kid, usage }))
    const used = process.cpuUsage(cpu)
    opening.push([size, (1000 * (used.user + used.system)) / size])
    const pinKeys = bound.filter(({ usage }) => usage === 'pin-encryption')
    let turn = 0
    const { ways } = await hold(
      {
        title: `${size} keys`,
        ways: [
          {
            name: 'encipherPin',
            run: () => {
              const key = pinKeys[turn++ % pinKeys.length]
              if (key === undefined) throw new Error('there is a key')
              return encipherPin({ pin, pan, format: 0, key })
            },
          },
        ],
        targets: [],
      },
      effort,
    )
    using.push([size, ways[0]?.cpu.median ?? Number.NaN])
  }
  return {
    title: 'Keys in a software backend',
    of: 'keys',
    unit: 'operation',
    lines: [
      { name: 'opening and binding, a key', points: opening },
      { name: 'encipherPin, keys in turn', points: using },
    ],
  }
}

async function withLength(effort: Effort): Promise<Growth> {
  await using backend = await softwareBackend({ keys: [{ ...tdea, kid: 'K', material: randomBytes(16) }] })
  const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  const measure = async (pin: Pin, pan: Pan): Promise<number> => {
    const way = { name: 'encipherPin', run: () => encipherPin({ pin, pan, format: 0, key }) }
    const { ways } = await hold({ title: 'lengths', ways: [way], targets: [] }, effort)
    return ways[0]?.cpu.median ?? Number.NaN
  }
  const [byPin, byPan]: [[number, number][], [number, number][]] = [[], []]
  for (let digits = 4; digits <= 12; digits++) {
    byPin.push([
      digits,
      await measure(Pin.from('123456789012'.slice(0, digits)), Pan.from('9999990123456789')),
    ])
  }
  for (let digits = 12; digits <= 19; digits++) {
    byPan.push([digits, await measure(Pin.from('4711'), Pan.from('9999990123456789012'.slice(0, digits)))])
  }
  return {
    title: 'Length of PIN and PAN',
    of: 'digits',
    unit: 'operation',
    lines: [
      { name: 'encipherPin by PIN digits', points: byPin },
      { name: 'encipherPin by PAN digits', points: byPan },
    ],
  }
}

/** A million blocks, as a migration would do it: made, enciphered and let go in batches. */
export async function measurePeak(): Promise<Peak> {
  await using backend = await softwareBackend({ keys: [{ ...tdea, kid: 'K', material: randomBytes(16) }] })
  const key = await backend.bind({ kid: 'K', usage: 'pin-encryption' })
  const [blocks, batch] = [1_000_000, 8000]
  const pins = entries(batch)
  let [arrayBuffers, resident] = [0, 0]
  for (let done = 0; done < blocks; done += batch) {
    await encipherPins({ pins, format: 0, key })
    const memory = process.memoryUsage()
    arrayBuffers = Math.max(arrayBuffers, memory.arrayBuffers)
    resident = Math.max(resident, memory.rss)
  }
  const mebi = (bytes: number): number => Math.round(bytes / 2 ** 20)
  return { blocks, arrayBuffersMiB: mebi(arrayBuffers), residentMiB: mebi(resident) }
}
