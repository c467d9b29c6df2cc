/** A storage key and a sealing key change while the service writes: nothing that was acknowledged is lost. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { concatBytes } from '../../src/base/bytes.js'
import { type IssuerStore, memoryIssuerStore, resealPans, rotateStorageKey } from '../../src/d1.js'
import {
  type Backend,
  BackendError,
  decipherPin,
  encipherPin,
  type Key,
  KeyError,
  Pan,
  Pin,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { openSqliteIssuerStore, type PanSealer, panSealer } from '../../src/sqlite.js'
import { failure } from '../support/errors.js'
import { AVAILABLE } from './drivers.js'
import { ISSUER, SEAL_KEY } from './store-fixtures.js'

const PAN = Pan.from('4000001234567899')
const material = (kid: string, hex: string) =>
  ({ kid, usage: 'pin-encryption', algorithm: 'tdea-2key', material: hex }) as const
const OLD = material('STORE-1', '0123456789ABCDEFFEDCBA9876543210')
const NEW = material('STORE-2', '89E88CF7931444F334BD7547FC3F380C')
const cardOf = (i: number) => ({ issuerId: ISSUER, cardId: `card-${String(i).padStart(3, '0')}` })
const AES = {
  kid: 'STORE-AES',
  usage: 'pin-encryption',
  algorithm: 'aes-256',
  material: '9B2E47D1C80F63A55AF0361C8D7E42B91F8A60C3D24B95E7705EC16D3A924BF8',
} as const
const pinOf = (i: number): string => String(1000 + i)

let backend: Backend
let elsewhere: Backend
let from: Key
let to: Key
let far: Key
const folder = mkdtempSync(join(tmpdir(), 'ipc-rotate-'))

beforeAll(async () => {
  backend = await softwareBackend({ keys: [OLD, NEW] })
  elsewhere = await softwareBackend({ keys: [NEW] })
  from = await backend.bind({ kid: OLD.kid, usage: 'pin-encryption', hostDecipher: true })
  to = await backend.bind({ kid: NEW.kid, usage: 'pin-encryption', hostDecipher: true })
  far = await elsewhere.bind({ kid: NEW.kid, usage: 'pin-encryption', hostDecipher: true })
})
afterAll(async () => {
  await Promise.all([backend.close(), elsewhere.close()])
  rmSync(folder, { recursive: true })
})

async function storePin(store: IssuerStore, i: number, pin: string, key: Key): Promise<void> {
  const block = await encipherPin({ pin: Pin.from(pin), pan: PAN, format: 0, key })
  await store.pins.storeBlock(cardOf(i), { block, kid: key.kid })
}

async function fill(store: IssuerStore, cards: number): Promise<void> {
  for (let i = 0; i < cards; i++) {
    await store.cards.put(cardOf(i), { state: 'active', pan: PAN, setPinTypes: ['ISO0'] })
    await storePin(store, i, pinOf(i), from)
  }
}

/** The PIN as a service shows it that accepts these keys. */
async function shown(store: IssuerStore, i: number, keys: readonly Key[]): Promise<string> {
  const stored = (await store.pins.readBlock(cardOf(i))) ?? expect.unreachable()
  const key = keys.find(({ kid }) => kid === stored.kid) ?? expect.unreachable(`no key ${stored.kid}`)
  const { block } = stored
  using pin = await decipherPin({ block, pan: PAN, format: 0, key })
  return pin.reveal()
}

const OPENERS: readonly (readonly [string, () => Promise<IssuerStore>])[] = [
  ['memory', async () => memoryIssuerStore()],
  ...AVAILABLE.map(
    driver =>
      [
        driver,
        () =>
          openSqliteIssuerStore({
            path: join(folder, `${driver.replace(':', '-')}-${Math.random()}.db`),
            driver,
            panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] }),
            executor: 'inline',
          }),
      ] as const,
  ),
]

describe.each(OPENERS)('%s: rotateStorageKey', (_, openStore) => {
  test('moves every block, says how far it is, and a second run finds nothing left', async () => {
    await using store = await openStore()
    await fill(store, 25)
    const seen: number[] = []
    const result = await rotateStorageKey({
      store,
      from,
      to,
      batch: 10,
      onProgress: ({ moved }) => void seen.push(moved),
    })
    expect(result).toEqual({ moved: 25, changed: 0, left: 0 })
    expect(seen).toEqual([10, 20, 25])
    expect(await store.pins.countBlocks()).toEqual([{ kid: 'STORE-2', blocks: 25 }])
    for (let i = 0; i < 25; i++) expect(await shown(store, i, [to])).toBe(pinOf(i))
    expect(await rotateStorageKey({ store, from, to })).toEqual({ moved: 0, changed: 0, left: 0 })
  })

  test('moves to an AES key and back, in formats 4 and 0, with the PAN of each card; a bad block stays', async () => {
    const keys = await softwareBackend({ keys: [OLD, AES] })
    const tdea = await keys.bind({ kid: OLD.kid, usage: 'pin-encryption', hostDecipher: true })
    const aes = await keys.bind({ kid: AES.kid, usage: 'pin-encryption', hostDecipher: true })
    const store = await openStore()
    await fill(store, 5)
    const panOf = async (): Promise<Pan> => PAN
    const lacking = { store, from: tdea, to: aes }
    await expect(rotateStorageKey(lacking)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    const needless = { store, from: tdea, to: tdea, panOf }
    await expect(rotateStorageKey(needless)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await store.pins.storeBlock(cardOf(4), { block: new Uint8Array(8), kid: OLD.kid })
    // Nobody wrote meanwhile: what cannot be moved is left, and nothing else. It is looked at in two passes of two lists, no more.
    let lists = 0
    const pins: IssuerStore['pins'] = {
      ...store.pins,
      listBlocks: (...call) =>
        ++lists > 4 ? expect.unreachable('once more') : store.pins.listBlocks(...call),
    }
    const moved = await rotateStorageKey({ ...lacking, store: { pins }, panOf })
    expect(moved).toEqual({ moved: 4, changed: 0, left: 1 })
    const stored = (await store.pins.readBlock(cardOf(3))) ?? expect.unreachable()
    expect(stored).toMatchObject({ kid: AES.kid, block: { length: 16 } })
    using pin = await decipherPin({ block: stored.block, pan: PAN, format: 4, key: aes })
    expect(pin.reveal()).toBe(pinOf(3))
    expect(await rotateStorageKey({ store, from: aes, to: tdea, panOf })).toMatchObject({ moved: 4, left: 0 })
    expect(await shown(store, 2, [tdea])).toBe(pinOf(2))
    await Promise.all([store.close(), keys.close()])
  })

  test('moves to a key of another backend', async () => {
    await using store = await openStore()
    await fill(store, 3)
    expect(await rotateStorageKey({ store, from, to: far })).toMatchObject({ moved: 3, left: 0 })
    expect(await shown(store, 2, [to])).toBe(pinOf(2))
    const closed = await backend.bind({ kid: OLD.kid, usage: 'pin-encryption' })
    await storePin(store, 0, '4711', from)
    await failure(() => rotateStorageKey({ store, from: closed, to: far }), 'ERR_HOST_DECIPHER', ['4711'])
  })

  test('leaves a PIN alone that was set between list and replacement', async () => {
    await using store = await openStore()
    await fill(store, 5)
    // A replica that stores under the new key already, and one that (against the guide) does not.
    const pins = {
      ...store.pins,
      listBlocks: async (...call: Parameters<typeof store.pins.listBlocks>) => {
        const listed = await store.pins.listBlocks(...call)
        if (listed.length === 5) {
          await storePin(store, 1, '7777', to)
          await storePin(store, 2, '8888', from)
        }
        return listed
      },
    }
    const result = await rotateStorageKey({ store: { pins }, from, to })
    expect(result).toEqual({ moved: 4, changed: 2, left: 0 })
    expect(await shown(store, 1, [to])).toBe('7777')
    expect(await shown(store, 2, [to])).toBe('8888')
  })

  test('stops where a replica goes on storing under the old key, and says what is left', async () => {
    await using store = await openStore()
    await fill(store, 1)
    const pins = {
      ...store.pins,
      replaceBlocks: async (list: Parameters<typeof store.pins.replaceBlocks>[0]) => {
        await storePin(store, 0, '7777', from)
        return store.pins.replaceBlocks(list)
      },
    }
    expect(await rotateStorageKey({ store: { pins }, from, to })).toEqual({ moved: 0, changed: 1, left: 1 })
  })

  test('is stopped between two batches, and goes on with what is left', async () => {
    await using store = await openStore()
    await fill(store, 6)
    const controller = new AbortController()
    const { signal } = controller
    const onProgress = (): void => controller.abort()
    const stopped = rotateStorageKey({ store, from, to, batch: 2, onProgress }, { signal })
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(await store.pins.countBlocks()).toEqual([
      { kid: 'STORE-1', blocks: 4 },
      { kid: 'STORE-2', blocks: 2 },
    ])
    expect(await rotateStorageKey({ store, from, to, batch: 2 })).toMatchObject({ moved: 4, left: 0 })
  })

  test('two replicas go through the phases of the guide while PINs are set: each answers at every point', async () => {
    await using store = await openStore()
    await fill(store, 20)
    const replicas: [readonly Key[], readonly Key[]] = [[from], [from]]
    const last = new Map(Array.from({ length: 20 }, (_, i) => [i, pinOf(i)]))
    let turn = 0
    const work = async (): Promise<void> => {
      for (const keys of replicas) {
        const card = turn++ % 20
        const pin = String(4000 + turn)
        await storePin(store, card, pin, keys[0] ?? expect.unreachable())
        last.set(card, pin)
        for (const reader of replicas) expect(await shown(store, card, reader)).toBe(pin)
        for (const reader of replicas)
          expect(await shown(store, (card + 7) % 20, reader)).toBe(last.get((card + 7) % 20))
      }
    }
    for (const phase of [
      [from, to],
      [to, from],
    ]) {
      for (const replica of [0, 1]) {
        replicas[replica] = phase
        await work()
      }
    }
    const moving = rotateStorageKey({ store, from, to, batch: 3 })
    await Promise.all([moving, work(), work()])
    expect((await rotateStorageKey({ store, from, to })).left).toBe(0)
    for (const replica of [0, 1]) {
      replicas[replica] = [to]
      await work()
    }
    for (const [card, pin] of last) expect(await shown(store, card, [to])).toBe(pin)
  })
})

test.each([
  ['one kid', () => ({ from: to, to })],
  ['no store', () => ({ store: {} })],
  ['no key', () => ({ to: 'STORE-2' })],
  ['no old key', () => ({ from: 'STORE-1' })],
  ['what only looks like a key', () => ({ from: { ...from } })],
  ['a batch of nothing', () => ({ batch: 0 })],
  ['a misspelt option', () => ({ batches: 1 })],
  ['a PAN for keys whose blocks are bound to none', () => ({ panOf: () => PAN })],
  ['progress that is told to nobody', () => ({ onProgress: 'console' })],
])('rotateStorageKey refuses %s', async (_, more) => {
  const call = () => rotateStorageKey({ store: memoryIssuerStore(), from, to, ...more() } as never)
  await failure(call, 'ERR_ARGUMENT')
})

test('a block of sixteen bytes among those of eight stays whole, and so does the next one', async () => {
  const store = memoryIssuerStore()
  await fill(store, 3)
  const { block } = (await store.pins.readBlock(cardOf(0))) ?? expect.unreachable()
  await store.pins.storeBlock(cardOf(1), { block: concatBytes(block, block), kid: OLD.kid })
  expect(await rotateStorageKey({ store, from, to })).toMatchObject({ moved: 3, left: 0 })
  const [one, two] = await Promise.all([0, 1].map(async i => (await store.pins.readBlock(cardOf(i)))?.block))
  expect(two).toEqual(concatBytes(one ?? expect.unreachable(), one ?? expect.unreachable()))
  expect(await shown(store, 2, [to])).toBe(pinOf(2))
})

test('a batch is no larger than what is translated at once', async () => {
  await using keys = await softwareBackend({ keys: [OLD, AES] })
  const tdea = await keys.bind({ kid: OLD.kid, usage: 'pin-encryption', hostDecipher: true })
  const aes = await keys.bind({ kid: AES.kid, usage: 'pin-encryption', hostDecipher: true })
  const limits: number[] = []
  const pins = {
    ...memoryIssuerStore().pins,
    listBlocks: async ({ limit }: { limit: number }) => {
      limits.push(limit)
      return []
    },
  }
  await rotateStorageKey({ store: { pins }, from: tdea, to: aes, batch: 8192, panOf: () => PAN })
  await rotateStorageKey({ store: { pins }, from, to, batch: 8192 })
  expect(limits).toEqual([4096, 8192])
})

test('what is deciphered on the way to another backend is wiped, whatever comes of it', async () => {
  const store = memoryIssuerStore()
  await fill(store, 2)
  const decipher = vi.spyOn(operationsOf(from), 'decipher')
  const gone = new BackendError('ERR_BACKEND_FAILED', 'the token is gone')
  const encipher = vi.spyOn(operationsOf(far), 'encipher').mockRejectedValueOnce(gone)
  try {
    await failure(() => rotateStorageKey({ store, from, to: far }), 'ERR_BACKEND_FAILED')
    expect(await rotateStorageKey({ store, from, to: far })).toMatchObject({ moved: 2 })
    const clear = await Promise.all(decipher.mock.results.map(({ value }) => value))
    expect(clear).toEqual([new Uint8Array(16), new Uint8Array(16)])
  } finally {
    decipher.mockRestore()
    encipher.mockRestore()
  }
})

test('the signal of whoever rotates reaches each call on the way: of the store, of both keys, and for PANs', async () => {
  await using own = await softwareBackend({ keys: [OLD, AES] })
  const bound = (kid: string) => own.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
  const [tdea, aes] = [await bound(OLD.kid), await bound(AES.kid)]
  const { signal } = new AbortController()
  for (const [keys, names] of [
    [{ from, to }, ['listBlocks', 'reencipher', 'countBlocks']],
    [{ from, to: far }, ['listBlocks', 'reencipher', 'decipher', 'encipher', 'countBlocks']],
    [{ from: tdea, to: aes }, ['listBlocks', 'panOf', 'decipher', 'countBlocks']],
  ] as const) {
    const store = memoryIssuerStore()
    await fill(store, 1)
    const heard = new Map<string, Set<AbortSignal | undefined>>()
    /** Its last argument has the signal. */
    const watch = (target: object, name: string): void => {
      const call: (...given: unknown[]) => unknown = Reflect.get(target, name)
      vi.spyOn(target as Record<string, typeof call>, name).mockImplementation((...given) => {
        const { signal: told } = Object(given.at(-1))
        heard.set(name, (heard.get(name) ?? new Set()).add(told))
        return Reflect.apply(call, target, given)
      })
    }
    const others = { panOf: (_card: unknown, _options: unknown) => PAN }
    try {
      watch(store.pins, 'listBlocks')
      watch(store.pins, 'countBlocks')
      watch(others, 'panOf')
      for (const name of ['reencipher', 'decipher']) watch(operationsOf(keys.from), name)
      watch(operationsOf(keys.to), 'encipher')
      const panOf = keys.to === aes && { panOf: others.panOf }
      expect(await rotateStorageKey({ store, ...keys, ...panOf }, { signal })).toMatchObject({ moved: 1 })
    } finally {
      vi.restoreAllMocks()
    }
    expect([...heard.keys()].sort()).toEqual(names.toSorted())
    for (const [name, told] of heard) expect([name, ...told]).toEqual([name, signal])
  }
})

test('rotateStorageKey stops where the backend cannot re-encipher, and what is stored stays', async () => {
  const store = memoryIssuerStore()
  await fill(store, 1)
  const gone = await softwareBackend({ keys: [OLD, NEW] })
  const bind = (kid: string) => gone.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
  const keys = { from: await bind(OLD.kid), to: await bind(NEW.kid) }
  await gone.close()
  await failure(() => rotateStorageKey({ store, ...keys }), 'ERR_BACKEND_CLOSED')
  expect(await shown(store, 0, [from])).toBe(pinOf(0))
})

test.each([
  ['a token that fails', new BackendError('ERR_BACKEND_FAILED', 'the token is gone')],
  ['a key that has been used as often as it may', new KeyError('ERR_KEY_LIMIT', 'enough', OLD.kid)],
])('%s is no reason to go through host memory', async (_what, gone) => {
  const store = memoryIssuerStore()
  await fill(store, 1)
  const reencipher = vi.spyOn(operationsOf(from), 'reencipher').mockRejectedValueOnce(gone)
  const decipher = vi.spyOn(operationsOf(from), 'decipher')
  try {
    await failure(() => rotateStorageKey({ store, from, to }), gone.code)
    expect(decipher).not.toHaveBeenCalled()
  } finally {
    reencipher.mockRestore()
    decipher.mockRestore()
  }
})

test('rotateStorageKey refuses keys for anything else before it lists a block', async () => {
  const other = await softwareBackend({
    keys: [
      material('STORE-E', '1C15B6AB2F7A43E5D3B9F8016E45928A'),
      {
        kid: 'MAC-1',
        usage: 'retail-mac',
        algorithm: 'tdea-2key',
        material: '4FD5C7A2893EB6015D02F7E0A8641C9B',
      },
    ],
  })
  const enciphers = await other.bind({ kid: 'STORE-E', usage: 'pin-encryption', mode: 'E' })
  const deciphers = await other.bind({ kid: 'STORE-E', usage: 'pin-encryption', mode: 'D' })
  const mac = await other.bind({ kid: 'MAC-1', usage: 'retail-mac' })
  const pins = new Proxy(memoryIssuerStore().pins, {
    get: (target, name, self) =>
      name === 'listBlocks' ? expect.unreachable('listed') : Reflect.get(target, name, self),
  })
  for (const keys of [
    { from: enciphers, to },
    { from: mac, to },
    { from, to: deciphers },
    { from, to: mac },
  ]) {
    await failure(() => rotateStorageKey({ store: { pins }, ...keys }), 'ERR_KEY_USAGE')
  }
  await other.close()
})

describe.each(AVAILABLE)('%s: resealPans', driver => {
  test('seals every PAN under the new key, in pages; the old one may then go', async () => {
    const path = join(folder, `reseal-${driver.replace(':', '-')}.db`)
    const [one, two] = [
      { kid: 'PAN-1', key: SEAL_KEY },
      { kid: 'PAN-2', key: new Uint8Array(32).fill(7) },
    ]
    const openWith = (keys: (typeof one)[]) =>
      openSqliteIssuerStore({ path, driver, panSealer: panSealer({ keys }), executor: 'inline' })
    const before = await openWith([one])
    await fill(before, 7)
    await before.close()
    const both = await openWith([two, one])
    await both.cards.put(cardOf(3), { state: 'not-active', pan: PAN, setPinTypes: ['ISO0'] })
    const seen: number[] = []
    expect(await resealPans({ store: both, batch: 3, onProgress: cards => void seen.push(cards) })).toBe(7)
    expect(seen).toEqual([3, 6, 7])
    expect(await resealPans({ store: both, after: cardOf(4) })).toBe(2)
    await both.close()
    await using store = await openWith([two])
    for (let i = 0; i < 7; i++) expect((await store.cards.find(cardOf(i)))?.pan.reveal()).toBe(PAN.reveal())
    expect((await store.cards.find(cardOf(3)))?.state).toBe('not-active')
    await failure(() => resealPans({ store, batch: 0 }), 'ERR_ARGUMENT')
    await failure(() => resealPans({ store: {} } as never), 'ERR_ARGUMENT')
    await failure(() => resealPans({ store, onProgress: {} } as never), 'ERR_ARGUMENT')
  })

  test('is heard by the store, and stops between two PANs, however large the page and slow the sealer', async () => {
    const inner = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
    const controller = new AbortController()
    let opened = 0
    await using store = await openSqliteIssuerStore({
      path: join(folder, `reseal-stop-${driver.replace(':', '-')}.db`),
      driver,
      executor: 'inline',
      panSealer: {
        seal: inner.seal.bind(inner),
        open: (sealed, card) => {
          opened++
          controller.abort()
          return inner.open(sealed, card)
        },
      },
    })
    await fill(store, 5)
    await failure(() => resealPans({ store }, { signal: controller.signal }), 'ERR_ABORTED')
    expect(opened).toBe(1)
  })

  test('a sealer that cannot say which PANs are current has every one sealed anew: none is left under the old key', async () => {
    const path = join(folder, `vault-${driver.replace(':', '-')}.db`)
    const [one, two] = [
      panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] }),
      panSealer({ keys: [{ kid: 'PAN-2', key: new Uint8Array(32).fill(7) }] }),
    ]
    const openWith = (sealer: PanSealer) =>
      openSqliteIssuerStore({ path, driver, panSealer: sealer, executor: 'inline' })
    const before = await openWith(one)
    await fill(before, 3)
    await before.close()
    const vault = await openWith({ seal: two.seal.bind(two), open: one.open.bind(one) })
    expect(await resealPans({ store: vault })).toBe(3)
    await vault.close()
    await using store = await openWith(two)
    for (let i = 0; i < 3; i++) expect((await store.cards.find(cardOf(i)))?.pan.reveal()).toBe(PAN.reveal())
  })

  test('a card that is put anew while its PAN is sealed anew keeps the PAN that it was put with', async () => {
    const path = join(folder, `reseal-race-${driver.replace(':', '-')}.db`)
    const [one, two] = [
      { kid: 'PAN-1', key: SEAL_KEY },
      { kid: 'PAN-2', key: new Uint8Array(32).fill(7) },
    ]
    const newer = Pan.from('5555444433331111')
    const before = await openSqliteIssuerStore({
      path,
      driver,
      panSealer: panSealer({ keys: [one] }),
      executor: 'inline',
    })
    await fill(before, 3)
    await before.close()
    const sealer = panSealer({ keys: [two, one] })
    let isPut = false
    await using store: IssuerStore = await openSqliteIssuerStore({
      path,
      driver,
      executor: 'inline',
      panSealer: {
        open: (sealed, card) => sealer.open(sealed, card),
        isCurrent: sealed => sealer.isCurrent?.(sealed) ?? false,
        seal: async (pan, card) => {
          const sealed = await sealer.seal(pan, card)
          // Once, while the first PAN of the page is under way: the second one’s card.
          if (!isPut) {
            isPut = true
            await store.cards.put(cardOf(1), { state: 'active', pan: newer, setPinTypes: ['ISO0'] })
          }
          return sealed
        },
      },
    })
    expect(await resealPans({ store })).toBe(3)
    expect((await store.cards.find(cardOf(1)))?.pan.reveal()).toBe(newer.reveal())
    expect((await store.cards.find(cardOf(2)))?.pan.reveal()).toBe(PAN.reveal())
  })
})

test('a batch is no larger than what is translated at once, where an AES key has it translated', async () => {
  await using own = await softwareBackend({ keys: [OLD, NEW, AES] })
  const bound = (kid: string) => own.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
  const limits: number[] = []
  const pins = {
    ...memoryIssuerStore().pins,
    listBlocks: async ({ limit }: { limit: number }) => {
      limits.push(limit)
      return []
    },
  }
  const one = { store: { pins }, from: await bound(OLD.kid), batch: 8192 }
  await rotateStorageKey({ ...one, to: await bound(NEW.kid) })
  await rotateStorageKey({ ...one, to: await bound(AES.kid), panOf: () => PAN })
  expect(limits).toEqual([8192, 4096])
})
