/** What the cases work with, without an issuer: which cards are picked, whose PIN is read before it is set, what is sent. */
import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ecKeyPair } from '../../../test/support/key-pair.js'
import { type P256Jwk, publicHalf, seal } from '../src/jwe.js'
import { BACK } from '../src/run.js'
import type { Ask, Reply } from '../src/wire.js'
import { type Card, World } from '../src/world.js'

const own = { ...ecKeyPair().privateKey.export({ format: 'jwk' }), kid: 'D1' } as unknown as P256Jwk
const card = (cardId: string, state: string, setPinTypes: string, pan = '9999990123456789') => ({
  cardId,
  state,
  pan,
  setPinTypes: setPinTypes.split('+'),
})
const json = (status: number, body: object): Reply => ({
  status,
  headers: { 'content-type': 'application/json' },
  text: JSON.stringify(body),
})

interface Asked extends Ask {
  readonly url: string
}

/** A world whose issuer answers by a function, and what it was asked. */
function worldOf(
  cards: readonly object[],
  answer: (asked: Asked, world: World) => Reply | Promise<Reply> = () => json(404, {}),
) {
  const asked: Asked[] = []
  const setup = {
    url: 'https://x',
    issuerId: 'is_tbank01',
    cards,
    d1Jwk: own,
    issuerJwk: publicHalf(own),
    zpk: { kid: 'ZPK', key: randomBytes(16) },
  }
  const ask = async (url: string, more: Ask = {}): Promise<Reply> => {
    asked.push({ url, ...more })
    return answer({ url, ...more }, world)
  }
  const world: World = new World(setup as never, { ask } as never)
  return { world, asked }
}

/** Get PIN shows this one. */
const shows = async (world: World, of: Card, pin: string): Promise<Reply> =>
  json(200, { type: 'ISO0', encryptedPinBlock: await seal(world.iso0(of, pin), publicHalf(own)) })

describe('which card is picked', () => {
  const cards = [
    card('forbidden-iso0', 'pin-change-forbidden', 'ISO0'),
    card('off-iso0', 'not-active', 'ISO0'),
    card('off-seccos', 'not-active', '3DES_SECCOS'),
    card('off-both', 'not-active', 'ISO0+3DES_SECCOS'),
    card('both', 'active', 'ISO0+3DES_SECCOS'),
    card('seccos', 'active', '3DES_SECCOS', '9999970000000039'),
    card('iso0', 'active', 'ISO0', '9999980000000012'),
    card('second', 'active', 'ISO0'),
    { cardId: 'nobody', state: 'absent' },
  ]
  const { world } = worldOf(cards)

  test.each<[string, () => Pick<Card, 'cardId'> | string, string]>([
    [
      'for one type alone: not one for both, nor one that is not active',
      () => world.cardOnlyFor('ISO0'),
      'iso0',
    ],
    ['for the other type alone', () => world.cardOnlyFor('3DES_SECCOS'), 'seccos'],
    ['for both', () => world.cardForBoth(), 'both'],
    ['of a state', () => world.card('not-active'), 'off-iso0'],
    ['of a state and a type', () => world.card('not-active', '3DES_SECCOS'), 'off-seccos'],
    ['that is not there', () => world.absent(), 'nobody'],
  ])('%s', (_what, pick, cardId) => {
    const picked = pick()
    expect(typeof picked === 'string' ? picked : picked.cardId).toBe(cardId)
  })

  test('as many as are asked for, in their order; and two of one PAN that are two', () => {
    expect(world.cards(2, 'active', 'ISO0').map(({ cardId }) => cardId)).toEqual(['both', 'iso0'])
    expect(world.twins().map(({ cardId }) => cardId)).toEqual(['both', 'second'])
    expect(() => worldOf(cards.slice(0, 7)).world.twins()).toThrow(
      'there are not two active ISO0 cards of one PAN',
    )
    expect(() => world.cards(4, 'active', 'ISO0')).toThrow('there are not 4 active ISO0 cards')
  })
})

describe('the PIN that a card has', () => {
  const iso0 = card('iso0', 'active', 'ISO0') as Card
  const cards = [
    iso0,
    card('seccos', 'active', '3DES_SECCOS'),
    card('no-change', 'pin-change-forbidden', 'ISO0'),
  ]

  test('is read before it is first set, once, and is the one that is set back, whatever is shown later', async () => {
    const pins = ['4711', '1111', '2222']
    const { world, asked } = worldOf(cards, ({ method = 'GET' }, here) =>
      method === 'PUT' ? { status: 204, headers: {}, text: '' } : shows(here, iso0, pins.shift() ?? ''),
    )
    for (let i = 0; i < 2; i++) await world.put(iso0, '{}')
    expect(asked.map(({ method = 'GET' }) => method)).toEqual(['GET', 'PUT', 'PUT'])
    expect(await world.shownPin(iso0)).toBe('1111')
    expect(world.changed).toEqual([[iso0, '4711']])
  })

  test('is read of cards alone whose PIN can be set back', async () => {
    const { world, asked } = worldOf(cards)
    for (const cardId of ['seccos', 'no-change', 'nobody']) await world.put({ cardId }, '{}')
    expect(asked.map(({ method }) => method)).toEqual(['PUT', 'PUT', 'PUT'])
    expect(world.changed).toEqual([])
  })

  test('where it is not shown it is lost, and stays so: what is shown later is what a case has set', async () => {
    let isOpen = false
    const { world, asked } = worldOf(cards, ({ method = 'GET' }, here) =>
      method === 'GET' && isOpen ? shows(here, iso0, '2222') : json(403, {}),
    )
    for (let i = 0; i < 2; i++) await world.put(iso0, '{}')
    expect(asked.map(({ method = 'GET' }) => method)).toEqual(['GET', 'PUT', 'PUT'])
    isOpen = true
    expect(await world.shownPin(iso0)).toBe('2222')
    expect(world.changed).toEqual([[iso0, undefined]])
  })

  test('is a secret once it was shown', async () => {
    const { world } = worldOf(cards, (_asked, here) => shows(here, iso0, '271828'))
    const telling = json(400, { error: 'not 271828' })
    world.requireSilence(telling)
    await world.shownPin(iso0)
    expect(() => world.requireSilence(telling)).toThrow('400 with a secret in it')
    // Of digits that are part of others it is none.
    world.requireSilence(json(400, { error: '12718281' }))
  })

  test.each([
    ['two blocks', (pinValue: string) => pinValue.repeat(2), 'a pinValue that is not 16 hex digits'],
    ['15 digits', (pinValue: string) => pinValue.slice(1), 'a pinValue that is not 16 hex digits'],
    [
      'a letter that is none',
      (pinValue: string) => `g${pinValue.slice(1)}`,
      'a pinValue that is not 16 hex digits',
    ],
    ['the block of another PAN', () => '', 'no PIN block of this PAN under the key'],
  ])('is not in %s', async (_what, change, said) => {
    const other = { ...iso0, pan: '9999980000000012' }
    const { world } = worldOf(cards, async (_asked, here) => {
      const { pinValue, kid } = here.iso0(iso0, '4711')
      const content = { kid, pinValue: change(pinValue) || here.iso0(other, '4711').pinValue }
      return json(200, { type: 'ISO0', encryptedPinBlock: await seal(content, publicHalf(own)) })
    })
    await expect(world.shownPin(iso0)).rejects.toThrow(said)
  })
})

test('a new PIN is of the same length, another, and no year', () => {
  const { world } = worldOf([])
  const of = (like: string, count: number) => Array.from({ length: count }, () => world.newPin(like))
  // By chance one in ten would be the same, and one in fifty a year.
  expect(new Set(of('7', 200))).toEqual(new Set('012345689'))
  expect(of('0000', 1000).filter(pin => /^(?:19|20)/.test(pin))).toEqual([])
  expect(of('12345678', 1)).toEqual([expect.stringMatching(/^\d{8}$/)])
})

test('Set PIN goes out as JSON, with what is put in its place or besides, to the query that is asked for', async () => {
  const { world, asked } = worldOf([])
  await world.put({ cardId: 'a' }, '{}')
  await world.put({ cardId: 'a' }, '{}', { 'content-type': 'text/plain', x: '1' }, '?y=2')
  const url = 'https://x/cms/api/v1/issuers/is_tbank01/cards/a/pin'
  expect(asked).toEqual([
    { url, method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{}' },
    { url: `${url}?y=2`, method: 'PUT', headers: { 'content-type': 'text/plain', x: '1' }, body: '{}' },
  ])
})

test('the PIN of each card is set back, although that of another cannot be', async () => {
  const back: string[] = []
  const world = (fails: (cardId: string) => Reply | string | undefined) => ({
    changed: ['a', 'b', 'c'].map(cardId => [{ cardId }, `pin of ${cardId}`]),
    iso0: (_card: object, pin: string) => pin,
    message: async (_type: string, pin: string) => pin,
    put: async ({ cardId }: { cardId: string }) => {
      back.push(cardId)
      const reply = fails(cardId)
      return typeof reply === 'object' ? reply : { status: 204, headers: {}, text: '' }
    },
    shownPin: async ({ cardId }: { cardId: string }) => {
      const shown = fails(cardId)
      return typeof shown === 'string' ? shown : `pin of ${cardId}`
    },
  })
  const run = (fails: (cardId: string) => Reply | string | undefined) => BACK.run(world(fails) as never)
  await expect(run(cardId => (cardId === 'a' ? json(400, {}) : undefined))).rejects.toThrow(/^400$/)
  await expect(run(cardId => (cardId === 'b' ? 'another' : undefined))).rejects.toThrow(
    '204, and Get PIN shows another PIN',
  )
  expect(await run(() => undefined)).toBe('3 cards')
  expect(back.join('')).toBe('abc'.repeat(3))
})
