/**
 * Turns and races: the real handler over the memory store, whose every call waits for its turn in a seeded schedule. What
 * is blocked, removed or given another PAN meanwhile gets no PIN after that, and the PIN that is there at the end is the
 * last that was stored.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Card, type IssuerStore, memoryIssuerStore } from '../../../src/d1.js'
import { decipherPin, Pan, Pin } from '../../../src/index.js'
import { get, put } from './support/direct.js'
import { ISSUER, PANS, PIN, pinPath, World } from './support/world.js'

const CARD = { issuerId: ISSUER, cardId: 'card-1' }
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
      // One that was overtaken by the other replica is refused: it could be the older of the two.
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
