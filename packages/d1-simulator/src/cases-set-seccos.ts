/** Set PIN of type 3DES_SECCOS: the counter, the MAC, and that no message counts twice. */
import { BAD, type Case, refusal } from './case.js'
import { requireStatus } from './contract.js'
import { SECCOS_MESSAGES } from './inside.js'
import { Mismatch, NotRun } from './problems.js'
import type { SeccosContent } from './seccos.js'
import type { Reply } from './wire.js'
import type { Card, World } from './world.js'

const GROUP = 'set-pin-seccos'
const CONCURRENT = 4
const CYCLES = 3
/** PINs of this group are nobody's: Get PIN does not show them. */
const LENGTH = '0000'

const requireDone = (reply: Reply): unknown => requireStatus('SetPIN', reply, 204)
const cardOf = (world: World): Card => {
  world.seccosKeys()
  return world.card('active', '3DES_SECCOS')
}
const send = async (world: World, card: Card, content: SeccosContent): Promise<Reply> =>
  world.put(card, await world.message('3DES_SECCOS', content))

function accepted(name: string, expected: string, run: (world: World, card: Card) => Promise<void>): Case {
  return {
    group: GROUP,
    name,
    expected,
    run: async world => {
      await run(world, cardOf(world))
      return expected
    },
  }
}

function refused(name: string, statuses: readonly number[], put: (world: World) => Promise<Reply>): Case {
  return refusal(GROUP, name, { operation: 'SetPIN', statuses }, put)
}

/** A Set PIN that was accepted, with the counter it used. */
async function spend(world: World, card: Card) {
  const counter = await world.counter(card)
  const content = world.seccos(card, counter, world.newPin(LENGTH))
  requireDone(await send(world, card, content))
  return { counter, content }
}

const counts = accepted(
  'the counter moves, and no pcc comes twice',
  `${CYCLES} different pccs`,
  async (world, card) => {
    const seen = new Set<string>()
    for (let i = 0; i < CYCLES; i++) seen.add((await spend(world, card)).counter.pcc)
    if (seen.size < CYCLES) throw new Mismatch(`${seen.size} different pccs`)
  },
)

const oneWins = accepted(
  'different requests at once with one intdatag',
  'one 204, the others 400',
  async (world, card) => {
    const counter = await world.counter(card)
    const contents = Array.from({ length: CONCURRENT }, () =>
      world.seccos(card, counter, world.newPin(LENGTH)),
    )
    const replies = await Promise.all(contents.map(content => send(world, card, content)))
    const statuses = replies.map(({ status }) => status).sort()
    if (statuses.join() !== [204, ...new Array(CONCURRENT - 1).fill(400)].join()) {
      throw new Mismatch(statuses.join(', '))
    }
  },
)

const allSame = accepted('the same request at once', '204 each', async (world, card) => {
  const content = world.seccos(card, await world.counter(card), world.newPin(LENGTH))
  const body = await world.message('3DES_SECCOS', content)
  const replies = await Promise.all(Array.from({ length: CONCURRENT }, () => world.put(card, body)))
  for (const reply of replies) requireDone(reply)
})

const expired = refused('an intdatag that has expired', BAD, async world => {
  world.seccosKeys()
  const { counter } = world.setup.expired
  if (counter === undefined) throw new NotRun('the configuration has no expired counter')
  const card = findCard(world, counter.cardId)
  return send(world, card, world.seccos(card, counter, world.newPin(LENGTH)))
})

/** The reader of the configuration has seen that it is there. */
function findCard(world: World, cardId: string): Card {
  return world.setup.cards.find(card => card.cardId === cardId) as Card
}

/** A message that would be sound for an active card, for one that must not have it. */
async function sendForeign(world: World, card: Card): Promise<Reply> {
  world.seccosKeys()
  // An issuer that gives such a card a counter may take it as well, and must not have refused the message for the counter.
  const counter = await world.counter(card).catch((error: unknown) => {
    if (error instanceof Mismatch) return { pcc: '0001', intdatag: 'never-issued-by-you!' }
    throw error
  })
  const { fields = {} } = world.card('active', '3DES_SECCOS')
  return send(
    world,
    card,
    world.seccos({ ...card, fields: { ...fields, ...card.fields } }, counter, world.newPin(LENGTH)),
  )
}

export const SECCOS_CASES: readonly Case[] = [
  expired,
  accepted('a new PIN', '204', async (world, card) => {
    await spend(world, card)
  }),
  accepted('the very same request, three times', '204 each', async (world, card) => {
    const content = world.seccos(card, await world.counter(card), world.newPin(LENGTH))
    const body = await world.message('3DES_SECCOS', content)
    for (let i = 0; i < 3; i++) requireDone(await world.put(card, body))
  }),
  accepted('the same content, sealed anew', '204 each', async (world, card) => {
    const { content } = await spend(world, card)
    requireDone(await send(world, card, content))
  }),
  counts,
  allSame,
  oneWins,
  ...Object.entries(SECCOS_MESSAGES).map(([name, make]) =>
    refused(name, BAD, async world => {
      const card = cardOf(world)
      return world.put(card, (await make(world, card, world.newPin(LENGTH))).wrong)
    }),
  ),
  refused('an intdatag that another request has spent', BAD, async world => {
    const card = cardOf(world)
    const { counter } = await spend(world, card)
    return send(world, card, world.seccos(card, counter, world.newPin(LENGTH)))
  }),
  refused('an older intdatag, after a newer one was accepted', BAD, async world => {
    const card = cardOf(world)
    const older = await world.counter(card)
    const newer = await world.counter(card)
    requireDone(await send(world, card, world.seccos(card, newer, world.newPin(LENGTH))))
    return send(world, card, world.seccos(card, older, world.newPin(LENGTH)))
  }),
  refused('an intdatag of another card', BAD, async world => {
    world.seccosKeys()
    const [card, other] = world.cards(2, 'active', '3DES_SECCOS') as [Card, Card]
    return send(world, card, world.seccos(card, await world.counter(other), world.newPin(LENGTH)))
  }),
  refused('a card that is not-active', [403], world => sendForeign(world, world.card('not-active'))),
  refused('a card whose PIN must not change', [403], world =>
    sendForeign(world, world.card('pin-change-forbidden')),
  ),
  refused('a card for ISO0 alone', [400, 403], world => sendForeign(world, world.cardOnlyFor('ISO0'))),
]
