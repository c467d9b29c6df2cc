/** Get PIN, and Get PIN Change Counter. */
import { type Case, type Group, refusal, requireRefusal } from './case.js'
import type { ConfiguredState } from './config.js'
import { type Operation, requireContract, requireStatus, textOf } from './contract.js'
import { Mismatch, NotRun } from './problems.js'
import type { Reply } from './wire.js'
import type { Card, World } from './world.js'

const COUNTERS = 8
const ROUNDS_AT_ONCE = 8
/** Of a card that has no PIN to show. A failure is no refusal, and 401 is about D1. */
const NONE_TO_SHOW: readonly number[] = [400, 403, 404]

const showsThePin: Case = {
  group: 'get-pin',
  name: "shows each card's PIN",
  expected: '200, sealed to D1, under the key, the PIN',
  run: async world => {
    const cards = world.setup.cards.filter(
      (card): card is Card => card.pin !== undefined && card.pan !== undefined && card.state !== 'not-active',
    )
    if (cards.length === 0) throw new NotRun('there is no card with a pin')
    for (const card of cards) {
      if ((await world.shownPin(card)) !== card.pin) throw new Mismatch('another PIN')
    }
    return `the PIN of ${cards.length} cards`
  },
}

const sealedAnew: Case = {
  group: 'get-pin',
  name: 'is sealed anew each time',
  expected: 'another ephemeral key',
  run: async world => {
    const card = world.card('active', 'ISO0')
    const [first, second] = [await world.getPin(card), await world.getPin(card)]
    if (first.epk === second.epk) throw new Mismatch('the same ephemeral key')
    return 'another ephemeral key'
  },
}

/** One buffer, or one session of an HSM, that two requests share, mixes their answers up. */
const atOnce: Case = {
  group: 'get-pin',
  name: 'of several cards at once',
  expected: 'to each its own PIN',
  run: async world => {
    const cards = world.cards(2, 'active', 'ISO0')
    const pins: string[] = []
    for (const card of cards) pins.push(await world.shownPin(card))
    const rounds = Array.from({ length: ROUNDS_AT_ONCE }, () =>
      Promise.all(cards.map(card => world.shownPin(card))),
    )
    for (const shown of await Promise.all(rounds)) {
      if (shown.join() !== pins.join()) throw new Mismatch('the PIN of another card')
    }
    return 'to each its own PIN'
  },
}

/** A PIN, and what opens a PIN, are not for a cache on the way (RFC 9111, 5.2.2.5). */
const notKept: Case = {
  group: 'get-pin',
  name: 'is kept by no cache',
  expected: 'cache-control: no-store',
  run: async world => {
    const { cardId } = world.card('active', 'ISO0')
    const reply = await world.ask(world.pinUrl(cardId))
    requireStatus('getPIN', reply, 200)
    if (!/(?:^|,)\s*no-store\s*(?:,|$)/i.test(reply.headers['cache-control'] ?? '')) {
      throw new Mismatch('200 without cache-control: no-store')
    }
    return 'cache-control: no-store'
  },
}

/** The block that was there is not the card's PIN any more. */
const afterSeccos: Case = {
  group: 'get-pin',
  name: 'after a Set PIN of type 3DES_SECCOS',
  expected: 'the new PIN, or a refusal',
  run: async world => {
    world.seccosKeys()
    const card = world.cardForBoth()
    const before = await world.shownPin(card)
    const pin = world.newPin(before)
    const content = world.seccos(card, await world.counter(card), pin)
    requireStatus('SetPIN', await world.put(card, await world.message('3DES_SECCOS', content)), 204)
    const reply = await world.ask(world.pinUrl(card.cardId))
    requireContract('getPIN', reply)
    if (reply.status !== 200) {
      requireRefusal(world, reply, NONE_TO_SHOW)
      return `${reply.status}`
    }
    if ((await world.pinIn(reply, card)) !== pin) throw new Mismatch('200, and not the new PIN')
    return 'the new PIN'
  },
}

function inState(state: ConfiguredState, operation: Operation, status: number, errorCode?: string): Case {
  const group: Group = operation === 'getPIN' ? 'get-pin' : 'change-counter'
  return {
    group,
    name: `a card that is ${state}`,
    expected: errorCode === undefined ? String(status) : `${status} ${errorCode}`,
    run: async world => {
      if (group === 'change-counter') world.requireSeccos()
      const cardId = state === 'absent' ? world.absent() : world.card(state).cardId
      const reply = await world.ask(group === 'get-pin' ? world.pinUrl(cardId) : world.counterUrl(cardId))
      requireRefusal(world, reply, [status])
      const body = requireStatus(operation, reply, status)
      if (errorCode === undefined) return String(status)
      if (textOf(body, 'errorCode') !== errorCode) throw new Mismatch(`${status} with another errorCode`)
      return `${status} ${errorCode}`
    },
  }
}

export const GET_PIN_CASES: readonly Case[] = [
  showsThePin,
  sealedAnew,
  atOnce,
  notKept,
  afterSeccos,
  inState('not-active', 'getPIN', 403),
  inState('absent', 'getPIN', 404),
]

const neverTwice: Case = {
  group: 'change-counter',
  name: 'an intdatag of its own each time',
  expected: `${COUNTERS} different ones`,
  run: async world => {
    world.requireSeccos()
    const card = world.card('active', '3DES_SECCOS')
    const seen = new Set<string>()
    for (let i = 0; i < COUNTERS; i++) seen.add((await world.counter(card)).intdatag)
    if (seen.size < COUNTERS) throw new Mismatch(`${seen.size} different ones`)
    return `${COUNTERS} different ones`
  },
}

async function askIso0Only(world: World): Promise<Reply> {
  world.requireSeccos()
  return world.ask(world.counterUrl(world.cardOnlyFor('ISO0').cardId))
}

export const COUNTER_CASES: readonly Case[] = [
  neverTwice,
  inState('not-active', 'getPINChangeCounter', 403, 'CARD_NOT_ACTIVE'),
  inState('pin-change-forbidden', 'getPINChangeCounter', 403, 'PIN_CHANGE_FORBIDDEN'),
  inState('absent', 'getPINChangeCounter', 404),
  refusal(
    'change-counter',
    'a card for ISO0 alone',
    { operation: 'getPINChangeCounter', statuses: [400, 403, 404] },
    askIso0Only,
  ),
]
