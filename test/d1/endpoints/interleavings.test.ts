/**
 * Turns and races: the real handler over the memory store, whose every call waits for its turn in a seeded schedule. What
 * is blocked, removed or given another PAN meanwhile gets no PIN after that, and the PIN that is there at the end is the
 * last that was stored.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type AuditEvent,
  type Card,
  type CardAsFound,
  type EndpointHandler,
  type IssuerEndpointsOptions,
  type IssuerStore,
  memoryIssuerStore,
  type PinStore,
} from '../../../src/d1.js'
import { BackendError, decipherPin, Pan, Pin } from '../../../src/index.js'
import { get, put } from './support/direct.js'
import { ISSUER, PANS, PIN, pinPath, World } from './support/world.js'

const CARD = { issuerId: ISSUER, cardId: 'card-1' }
const BLOCK = { block: new Uint8Array(8).fill(0x5a), kid: 'PEK-STORE' }
const RECORD: Card = { state: 'active', pan: Pan.from(PANS.first), setPinTypes: ['ISO0'] }

let world: World
let bodies: readonly { readonly digits: string; readonly body: string }[]
beforeAll(async () => {
  world = await World.open()
  const digits = ['111222333444', '222333444555', '333444555666']
  bodies = await Promise.all(digits.map(async pin => ({ digits: pin, body: await world.iso0(pin) })))
})
afterAll(() => world[Symbol.asyncDispose]())

/** What a card may meet with while Set PINs of it wait: no PIN may be stored for the card as it was, after it. */
const EVENTS: Readonly<Record<string, (store: IssuerStore) => Promise<unknown>>> = {
  'is blocked': store => store.cards.setState(CARD, 'not-active'),
  'may not change its PIN': store => store.cards.setState(CARD, 'pin-change-forbidden'),
  'is removed': store => store.cards.remove(CARD),
  'gets another PAN': store => store.cards.put(CARD, { ...RECORD, pan: Pan.from(PANS.second) }),
  'gets other types': store => store.cards.put(CARD, { ...RECORD, setPinTypes: ['3DES_SECCOS'] }),
}

type Method = (...args: readonly never[]) => Promise<unknown>

/** The same object, each call of which waits for its turn before it begins and before it tells its result. */
function inTurns<T extends object>(
  target: T,
  schedule: fc.Scheduler,
  seen: (name: string, result: unknown) => void,
): T {
  return new Proxy(target, {
    get: (object, name) => {
      const member: unknown = Reflect.get(object, name)
      if (typeof member !== 'function') return member
      return async (...args: never[]) => {
        await schedule.schedule(Promise.resolve(), `${String(name)} begins`)
        const result = await (member as Method).apply(object, args)
        seen(String(name), result)
        await schedule.schedule(Promise.resolve(), `${String(name)} is done`)
        return result
      }
    },
  })
}

async function pinOf(store: IssuerStore): Promise<string | undefined> {
  const stored = await store.pins.readBlock(CARD)
  if (stored === undefined) return undefined
  const pan = Pan.from(PANS.first)
  using pin = await decipherPin({ block: stored.block, pan, format: 0, key: world.keys.storage })
  for (const { digits } of [...bodies, { digits: PIN }]) {
    using same = Pin.from(digits)
    if (pin.equals(same)) return digits
  }
  return expect.fail('a PIN that nobody set')
}

test.each(Object.entries(EVENTS))(
  'a card that %s while Set PINs wait gets none after that',
  async (_name, event) => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async schedule => {
        await using store = memoryIssuerStore()
        await store.cards.put(CARD, RECORD)
        const log: string[] = []
        const seen = (name: string, result: unknown): void => {
          const outcome = (result as { outcome?: string } | undefined)?.outcome
          if (name === 'acceptBlock') log.push(outcome ?? 'nothing')
        }
        const handler = world.handler({
          authorization: 'anyone-who-reaches-it',
          tokenEndpoint: undefined,
          issuers: {
            [ISSUER]: world.issuer({
              cards: inTurns(store.cards, schedule, seen),
              pins: inTurns(store.pins, schedule, seen),
            }),
          },
        })
        const happening = schedule.schedule(Promise.resolve(), 'the event').then(async () => {
          await event(store)
          log.push('the event')
        })
        const answers = bodies.map(({ body }) => handler(put(body)))
        const read = handler(get(pinPath('card-1')))
        const [statuses] = await schedule.waitFor(
          Promise.all([Promise.all(answers.map(async answer => (await answer).status)), read, happening]),
        )
        const after = log.slice(log.indexOf('the event'))
        expect(after, 'no PIN is stored after the event').not.toContain('stored')
        expect(statuses.filter(status => status === 204)).toHaveLength(
          log.filter(entry => entry === 'stored').length,
        )
        for (const status of statuses) expect([204, 400, 403, 404, 500]).toContain(status)
      }),
      { numRuns: 60 },
    )
  },
)

test('whatever the turns, the PIN at the end is the last that was stored, and each 204 is of a PIN that was', async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), async schedule => {
      await using store = memoryIssuerStore()
      await store.cards.put(CARD, RECORD)
      const stored: (string | undefined)[] = []
      const pins = new Proxy(store.pins, {
        get: (object, name) => {
          const member: unknown = Reflect.get(object, name)
          if (name !== 'acceptBlock') return member
          return async (...args: never[]) => {
            await schedule.schedule(Promise.resolve(), 'acceptBlock begins')
            const result = (await (member as Method).apply(object, args)) as { outcome: string }
            if (result.outcome === 'stored') stored.push(await pinOf(store))
            await schedule.schedule(Promise.resolve(), 'acceptBlock is done')
            return result
          }
        },
      })
      const issuers = { [ISSUER]: world.issuer({ cards: inTurns(store.cards, schedule, () => {}), pins }) }
      // Two services over one store, as replicas are: the queue of one knows nothing of the other's.
      const open = { authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined, issuers }
      const replicas = [world.handler(open), world.handler(open)]
      const sent = [...bodies, ...bodies].map(({ body }, i) => replicas[i % 2]?.(put(body)))
      const answers = await schedule.waitFor(Promise.all(sent))
      const statuses = answers.map(answer => answer?.status)
      // One that was overtaken by the other replica again and again is refused: it could be the older of the two.
      expect(statuses.filter(status => status !== 204 && status !== 500)).toEqual([])
      expect(statuses).toContain(204)
      // Each request sets its PIN once; its duplicate changes nothing.
      expect(new Set(stored).size).toBe(stored.length)
      const accepted = sent.flatMap((_, i) => (statuses[i] === 204 ? [bodies[i % 3]?.digits] : []))
      expect(new Set(stored)).toEqual(new Set(accepted))
      expect(await pinOf(store)).toBe(stored.at(-1))
    }),
    { numRuns: 60 },
  )
})

/** Two replicas on one store, the second of which is done with its Set PIN while the first is about to write. */
describe('two replicas at once', () => {
  const events: AuditEvent[] = []

  /** `meanwhile` runs when the first replica's first write begins. */
  async function replicas(
    meanwhile: (other: EndpointHandler, store: IssuerStore) => Promise<unknown>,
    more: Partial<IssuerEndpointsOptions> = {},
    record: Card = RECORD,
  ) {
    const store = memoryIssuerStore()
    await store.cards.put(CARD, record)
    events.length = 0
    const open = (pins: PinStore) =>
      world.handler({
        authorization: 'anyone-who-reaches-it',
        tokenEndpoint: undefined,
        audit: (event: AuditEvent) => void events.push(event),
        issuers: { [ISSUER]: world.issuer({ cards: store.cards, pins }) },
        ...more,
      })
    const other = open(store.pins)
    const writes: CardAsFound[] = []
    const interrupted = async (card: CardAsFound): Promise<void> => {
      writes.push(card)
      if (writes.length === 1) await meanwhile(other, store)
    }
    const pins: PinStore = {
      readBlock: (...call) => store.pins.readBlock(...call),
      acceptBlock: (...call) => interrupted(call[0]).then(() => store.pins.acceptBlock(...call)),
      storePrw: (...call) => interrupted(call[0]).then(() => store.pins.storePrw(...call)),
    }
    return { store, one: open(pins), writes }
  }
  const [first, second] = [() => bodies[0] ?? expect.fail(), () => bodies[1] ?? expect.fail()]

  test('the same request: stored once, and a repeated one for the other, with the PIN that it set', async () => {
    const { store, one } = await replicas(async other => {
      expect((await other(put(first().body))).status).toBe(204)
    })
    expect((await one(put(first().body))).status).toBe(204)
    expect(events).toMatchObject([{ replayed: false }, { replayed: true, replayedIsCurrent: true }])
    expect(await pinOf(store)).toBe(first().digits)
  })

  test('two PINs: the one that comes second decides anew, and is the PIN', async () => {
    const { store, one, writes } = await replicas(async other => {
      expect((await other(put(second().body))).status).toBe(204)
    })
    expect((await one(put(first().body))).status).toBe(204)
    expect(writes).toHaveLength(2)
    expect(await pinOf(store)).toBe(first().digits)
    // Once each in the event, although they were used twice.
    expect(
      events
        .at(-1)
        ?.keys.map(({ role }) => role)
        .sort(),
    ).toEqual(['d1-zpk', 'jwe', 'storage'])
  })

  test('a PRW that a block comes before is decided on anew, too', async () => {
    const record: Card = { ...RECORD, setPinTypes: ['3DES_SECCOS', 'ISO0'] }
    const { store, one } = await replicas((_, { pins }) => pins.storeBlock(CARD, BLOCK), {}, record)
    expect((await one(put(await world.seccos(CARD.cardId)))).status).toBe(204)
    expect(await store.pins.readBlock(CARD)).toBeUndefined()
  })

  test('a card that was blocked meanwhile is refused as one that is blocked', async () => {
    const { store, one } = await replicas((_, { cards }) => cards.setState(CARD, 'not-active'))
    expect((await one(put(first().body))).status).toBe(403)
    expect(await store.pins.readBlock(CARD)).toBeUndefined()
  })

  test('whoever comes second again and again is told so in the end', async () => {
    const { store, one, writes } = await replicas(async () => undefined)
    const acceptBlock = store.pins.acceptBlock
    let overtaken = 0
    Object.assign(store.pins, {
      acceptBlock: async (...call: Parameters<typeof acceptBlock>) => {
        overtaken++
        await store.pins.storeBlock(CARD, BLOCK)
        return acceptBlock(...call)
      },
    })
    expect((await one(put(first().body))).status).toBe(500)
    expect([overtaken, writes.length]).toEqual([3, 3])
    expect(events.at(-1)?.refusal?.reason).toBe('store-failed')
  })

  test('what is late does not begin again: it may be older than what is there', async () => {
    let elapsed = 0
    const clock = { now: () => Date.now(), elapsed: () => elapsed, after: () => () => {} }
    const { store, one, writes } = await replicas(
      async other => {
        expect((await other(put(second().body))).status).toBe(204)
        elapsed += 2001
      },
      { clock },
    )
    expect((await one(put(first().body))).status).toBe(500)
    expect(writes).toHaveLength(1)
    expect(await pinOf(store)).toBe(second().digits)
  })

  test('nor does what a busy store refused for another reason', async () => {
    const { one, writes } = await replicas(async () => {
      throw new BackendError('ERR_BACKEND_BUSY', 'locked', { retryable: true })
    })
    expect((await one(put(first().body))).status).toBe(500)
    expect(writes).toHaveLength(1)
  })

  test('the store is told when the answer goes out, by its own clock', async () => {
    let elapsed = 7000
    const clock = { now: () => 0, elapsed: () => elapsed, after: () => () => {} }
    const found = { ...RECORD, revision: 'r1', foundAt: 1_000_000.5 }
    const cards = {
      find: async () => {
        elapsed += 4000
        return found
      },
    }
    const writes: CardAsFound[] = []
    const acceptBlock = async (card: CardAsFound) => {
      writes.push(card)
      return { outcome: 'stored' } as const
    }
    const pins: PinStore = { ...memoryIssuerStore().pins, acceptBlock }
    const handler = world.handler({
      authorization: 'anyone-who-reaches-it',
      tokenEndpoint: undefined,
      issuers: { [ISSUER]: world.issuer({ cards, pins }) },
      timeoutMs: 10_000,
      clock,
    })
    expect((await handler(put(first().body))).status).toBe(204)
    expect(writes).toEqual([{ ...CARD, revision: 'r1', notAfter: 1_006_000 }])
    found.foundAt = Number.NaN
    expect((await handler(put(first().body))).status).toBe(500)
  })
})
