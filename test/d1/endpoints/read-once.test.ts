/**
 * One request is read once: no options object twice, no part of the message parsed twice, the curve point checked once, a
 * key asked once for what it is used for. Counted at the functions that read, through the endpoints' handler.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { CardRef, EndpointHandler } from '../../../src/d1.js'
import { getPinResponse, openSeccosSetPinRequest, openSetPinRequest } from '../../../src/d1.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../src/seccos/profile/illustrative.js'
import { get, put } from './support/direct.js'
import { counterPath, ISSUER, PANS, pinPath, World } from './support/world.js'

/** What was asked of the functions that read, in the order of the calls. */
const asked = vi.hoisted(() => ({
  objects: [] as unknown[],
  signals: [] as unknown[],
  texts: [] as string[],
  keys: [] as unknown[],
  uses: [] as string[],
  points: 0,
}))

vi.mock('../../../src/base/arguments.js', async original => {
  const real = await original<typeof import('../../../src/base/arguments.js')>()
  const counted = {
    requireOptions: real.requireOptions,
    readOptions: real.readOptions,
    readOwn: real.readOwn,
  }
  const replaced = Object.entries(counted).map(([name, read]) => [
    name,
    (...given: [never, never, never]) => {
      asked.objects.push(given[0])
      return read(...given)
    },
  ])
  return { ...real, ...Object.fromEntries(replaced) }
})
vi.mock('../../../src/base/json.js', async original => {
  const real = await original<typeof import('../../../src/base/json.js')>()
  const parseJsonObject = (input: string | Uint8Array) => {
    asked.texts.push(typeof input === 'string' ? input : Buffer.from(input).toString())
    return real.parseJsonObject(input)
  }
  return { ...real, parseJsonObject }
})
vi.mock('../../../src/backend/key.js', async original => {
  const real = await original<typeof import('../../../src/backend/key.js')>()
  const requireKey: typeof real.requireKey = (key, name) => {
    asked.keys.push(key)
    const checked: typeof real.requireKey = real.requireKey
    checked(key, name)
  }
  const requireKeys = (keys: unknown, name: string) => {
    const read = real.requireKeys(keys, name)
    asked.keys.push(...read)
    return read
  }
  return { ...real, requireKey, requireKeys }
})
vi.mock('../../../src/key/usage.js', async original => {
  const real = await original<typeof import('../../../src/key/usage.js')>()
  const requireUse: typeof real.requireUse = (key, purpose, action) => {
    asked.uses.push(`${key.kid} ${purpose} ${action}`)
    real.requireUse(key, purpose, action)
  }
  return { ...real, requireUse }
})

/** The equation turns a point's bytes round to read them as numbers; nothing else on the way does. */
const turned = vi.spyOn(Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array, 'reverse')

let world: World
let handler: EndpointHandler
/** Reads of what the issuer's code gave: `name of the object`.`member`. */
const reads: string[] = []

/** The object, with a note of each read of a member. */
function watched<T extends object>(name: string, object: T): T {
  return new Proxy(object, {
    get: (target, member, receiver) => {
      if (typeof member === 'string') reads.push(`${name}.${member}`)
      return Reflect.get(target, member, receiver)
    },
  })
}

function forget(): void {
  for (const list of [asked.objects, asked.signals, asked.texts, asked.keys, asked.uses, reads])
    list.length = 0
  turned.mockClear()
}

/** What is in the list more than once. */
const twice = <T>(list: readonly T[]): T[] => list.filter((entry, at) => list.indexOf(entry) !== at)

beforeAll(async () => {
  world = await World.open()
  const { iso0, seccos, cards, ...issuer } = world.issuer()
  const options = world.options({ authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined })
  handler = world.handler({
    ...options,
    issuers: {
      [ISSUER]: watched('issuer', {
        ...issuer,
        iso0: watched('iso0', iso0 ?? expect.fail()),
        seccos: watched('seccos', seccos ?? expect.fail()),
        cards: {
          find: async (query: CardRef & { readonly operation: never }, call: object) => {
            const found = await cards.find(query, call)
            return found && watched('card', found)
          },
        },
      }),
    },
  })
})
afterAll(() => world[Symbol.asyncDispose]())
beforeEach(forget)

const CARD_MEMBERS = ['foundAt', 'pan', 'revision', 'seccos', 'setPinTypes', 'state'].map(
  name => `card.${name}`,
)

/** What holds for each operation. */
function expectOnce(): void {
  expect(twice(asked.objects)).toEqual([])
  expect(twice(asked.texts)).toEqual([])
  expect(twice(asked.keys)).toEqual([])
  expect(twice(asked.uses)).toEqual([])
  // The options are read when the handler is made. What the directory answered is read now, by member.
  // The card goes through a promise, which asks for `then`.
  expect(reads.filter(read => read !== 'card.then').sort()).toEqual(CARD_MEMBERS)
}

describe('through the handler', () => {
  test('Set PIN, ISO0: the body, the header and the content are parsed once each; one point', async () => {
    const body = await world.iso0()
    forget()
    expect((await handler(put(body))).status).toBe(204)
    expectOnce()
    expect(asked.texts).toHaveLength(3)
    expect(asked.texts[0]).toBe(body)
    expect(turned).toHaveBeenCalledTimes(1)
    // The keys were asked whether they are keys when the handler was made, and now for what this request does with them.
    expect(asked.keys).toEqual([])
    expect(asked.uses).toEqual(['ZPK-D1 pin-block decipher', 'PEK-STORE pin-block encipher'])
  })

  test('Set PIN, SECCOS: the same', async () => {
    const body = await world.seccos('card-1')
    forget()
    expect((await handler(put(body))).status).toBe(204)
    expectOnce()
    expect(asked.texts.slice(0, 1)).toEqual([body])
    expect(turned).toHaveBeenCalledTimes(1)
    expect(asked.keys).toEqual([])
    expect(asked.uses).toEqual(['MAC-1 mac verify'])
  })

  test('Get PIN: nothing to parse, and the recipient has been checked before', async () => {
    await world.issue('card-2', PANS.second, '4821')
    forget()
    expect((await handler(get(pinPath('card-2')))).status).toBe(200)
    expectOnce()
    expect(asked.texts).toEqual([])
    expect(turned).not.toHaveBeenCalled()
    expect(asked.keys).toEqual([])
    expect(asked.uses).toEqual(['PEK-STORE pin-block decipher', 'ZPK-D1 pin-block encipher'])
  })

  test('Get PIN Change Counter: nothing is read twice', async () => {
    expect((await handler(get(counterPath('card-1')))).status).toBe(200)
    expectOnce()
  })
})

describe('by the public doors', () => {
  /** Each member of an input and of the call's options was read, and none of them twice. */
  const expectEach = (members: readonly string[]): void => {
    expect([...reads].sort()).toEqual([...members, 'call.signal'].sort())
  }
  const call = () => watched('call', { signal: new AbortController().signal })
  const input = <T extends object>(object: T): T => watched('input', object)
  const names = (object: object): string[] => Object.keys(object).map(name => `input.${name}`)

  test('getPinResponse', async () => {
    const { zpk, storage } = world.keys
    const { block } = (await world.pins.readBlock({ issuerId: '', cardId: 'card-2' })) ?? expect.fail()
    const given = { pan: panOf('card-2'), to: zpk }
    const all = { ...given, d1PublicJwk: world.d1.publicJwk, block, from: storage }
    await getPinResponse(input(all), call())
    expectEach([...names(all)])
    expect(twice(asked.objects)).toEqual([])
  })

  test('openSetPinRequest', async () => {
    const { zpk, storage, jwe } = world.keys
    const all = { body: await world.iso0(), jweKeys: jwe, from: zpk, to: storage, pan: panOf('card-1') }
    forget()
    await openSetPinRequest(input(all), call())
    expectEach(names(all))
    expect(asked.keys).toHaveLength(3)
    expectTwiceNothing()
  })

  test('openSeccosSetPinRequest', async () => {
    const { counter, keys } = world
    const { mac, jwe } = keys
    const profile = ILLUSTRATIVE_NOT_GIROCARD_TDEA
    const cardId = 'card-1'
    const body = await world.seccos(cardId)
    const all = { body, cardId, jweKeys: jwe, profile, macKeys: mac, prwKids: ['PRW-1'], counter }
    forget()
    await openSeccosSetPinRequest(input(all), call())
    expectEach(names(all))
    expectTwiceNothing()
  })

  const expectTwiceNothing = (): void => {
    for (const list of [asked.objects, asked.texts, asked.keys, asked.uses] as unknown[][])
      expect(twice(list)).toEqual([])
    expect(turned).toHaveBeenCalledTimes(1)
  }
})

function panOf(cardId: string) {
  const found = world.cards.get(cardId)
  return typeof found === 'object' ? found.pan : expect.fail('the card has no PAN')
}
