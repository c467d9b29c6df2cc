/** Set PIN of type ISO0, as D1 sends it: the new PIN shows, twice is as good as once, no two get mixed up. */
import { BAD, type Case, refusal, requireRefusal } from './case.js'
import { requireStatus } from './contract.js'
import { ISO0_MESSAGES, type MakeMessage } from './inside.js'
import { Mismatch } from './problems.js'
import type { Reply } from './wire.js'
import type { Card, World } from './world.js'

const CONCURRENT = 5
const BYTE_ORDER_MARK = '\ufeff'

const requireDone = (reply: Reply): unknown => requireStatus('SetPIN', reply, 204)

async function requireShown(world: World, card: Card, pin: string, words = 'another PIN'): Promise<void> {
  if ((await world.shownPin(card)) !== pin) throw new Mismatch(`204, and Get PIN shows ${words}`)
}

function sound(name: string, run: (world: World, card: Card, pin: string) => Promise<void>): Case {
  return {
    group: 'set-pin-iso0',
    name,
    expected: '204, and Get PIN shows the new PIN',
    run: async world => {
      const card = world.card('active', 'ISO0')
      await run(world, card, world.newPin(await world.shownPin(card)))
      return '204, and Get PIN shows the new PIN'
    },
  }
}

const repeated = sound('the very same request, three times', async (world, card, pin) => {
  const body = await world.message('ISO0', world.iso0(card, pin))
  for (let i = 0; i < 3; i++) requireDone(await world.put(card, body))
  await requireShown(world, card, pin)
})

const concurrent: Case = {
  group: 'set-pin-iso0',
  name: `${CONCURRENT} at once for one card`,
  expected: '204 each, and Get PIN shows one of them',
  run: async world => {
    const [card, other] = world.cards(2, 'active', 'ISO0') as [Card, Card]
    const before = await world.shownPin(other)
    const first = await world.shownPin(card)
    const pins = Array.from({ length: CONCURRENT }, () => world.newPin(first))
    const bodies = await Promise.all(pins.map(pin => world.message('ISO0', world.iso0(card, pin))))
    for (const reply of await Promise.all(bodies.map(body => world.put(card, body)))) requireDone(reply)
    if (!pins.includes(await world.shownPin(card)))
      throw new Mismatch('204 each, and Get PIN shows none of them')
    if ((await world.shownPin(other)) !== before)
      throw new Mismatch('204 each, and another card has a new PIN')
    return '204 each, and Get PIN shows one of them'
  },
}

/** A request that is sound for its own card, and comes for another one afterwards. */
function misdirected(name: string, pick: (world: World) => readonly [Card, Card]): Case {
  return {
    group: 'set-pin-iso0',
    name,
    expected: '400, and the PIN stays',
    run: async world => {
      const [card, other] = pick(world)
      // Both are set here: of a card whose PIN came as 3DES_SECCOS there may be none to show.
      const before = world.newPin(await world.shownPin(card))
      requireDone(await world.put(other, await world.message('ISO0', world.iso0(other, before))))
      const body = await world.message('ISO0', world.iso0(card, world.newPin(before)))
      requireDone(await world.put(card, body))
      const reply = await world.put(other, body)
      requireRefusal(world, reply, BAD)
      if ((await world.shownPin(other)) !== before) throw new Mismatch('400, and Get PIN shows another PIN')
      return '400, and the PIN stays'
    },
  }
}

function refusedFor(name: string, statuses: readonly number[], put: (world: World) => Promise<Reply>): Case {
  return refusal('set-pin-iso0', name, { operation: 'SetPIN', statuses }, put)
}

/** A sound message for a card whose state, or type, does not allow it. */
const forCard = (pick: (world: World) => Card) => async (world: World) => {
  const card = pick(world)
  return world.put(card, await world.message('ISO0', world.iso0(card, world.newPin('0000'))))
}

export const ISO0_CASES: readonly Case[] = [
  sound('a new PIN', async (world, card, pin) => {
    requireDone(await world.put(card, await world.message('ISO0', world.iso0(card, pin))))
    await requireShown(world, card, pin)
  }),
  repeated,
  sound('the same content, sealed anew', async (world, card, pin) => {
    for (let i = 0; i < 2; i++) {
      requireDone(await world.put(card, await world.message('ISO0', world.iso0(card, pin))))
    }
    await requireShown(world, card, pin)
  }),
  concurrent,
  {
    group: 'set-pin-iso0',
    name: 'an older request that comes again after a newer one',
    expected: '204 or 400, and the newer PIN stays',
    run: async world => {
      const card = world.card('active', 'ISO0')
      const older = world.newPin(await world.shownPin(card))
      const newer = world.newPin(older)
      const late = await world.message('ISO0', world.iso0(card, older))
      requireDone(await world.put(card, late))
      requireDone(await world.put(card, await world.message('ISO0', world.iso0(card, newer))))
      const { status } = await world.put(card, late)
      if (status !== 204 && status !== 400) throw new Mismatch(String(status))
      if ((await world.shownPin(card)) !== newer) throw new Mismatch(`${status}, and the older PIN is back`)
      return `${status}, and the newer PIN stays`
    },
  },
  misdirected('the request of another card', world => world.cards(2, 'active', 'ISO0') as [Card, Card]),
  // Sound for both, but that it was accepted for one of them: of the other's PAN it holds no block that is sound.
  misdirected('the request of another card of the same PAN', world => world.twins()),
  refusedFor(
    'a card that is not-active',
    [403],
    forCard(world => world.card('not-active')),
  ),
  refusedFor(
    'a card whose PIN must not change',
    [403],
    forCard(world => world.card('pin-change-forbidden')),
  ),
  refusedFor(
    'a card for 3DES_SECCOS alone',
    [400, 403],
    forCard(world => world.cardOnlyFor('3DES_SECCOS')),
  ),
  refusedFor('a card that does not exist', [404], async world => {
    const card = { ...world.card('active', 'ISO0'), cardId: world.absent() }
    return world.put(card, await world.message('ISO0', world.iso0(card, world.newPin('0000'))))
  }),
]

export type MakeBody = (sound: {
  readonly type: string
  readonly encryptedPinBlock: string
}) => string | Buffer

/** Bodies that are not the contract's. */
export const BODIES: Readonly<Record<string, MakeBody>> = {
  'an empty body': () => '',
  'not JSON': () => 'x',
  'a body cut off': message => JSON.stringify(message).slice(0, -2),
  'a list': message => JSON.stringify([message]),
  null: () => 'null',
  'type twice': message => JSON.stringify(message).replace('{', '{"type":"3DES_SECCOS",'),
  'encryptedPinBlock twice': message => JSON.stringify(message).replace('{', '{"encryptedPinBlock":"x",'),
  'no type': ({ encryptedPinBlock }) => JSON.stringify({ encryptedPinBlock }),
  'no encryptedPinBlock': ({ type }) => JSON.stringify({ type }),
  'a type that is none': message => JSON.stringify({ ...message, type: 'ISO1' }),
  'a type in small letters': message => JSON.stringify({ ...message, type: 'iso0' }),
  'a type that is a list': message => JSON.stringify({ ...message, type: ['ISO0'] }),
  'an encryptedPinBlock in a list': message =>
    JSON.stringify({ ...message, encryptedPinBlock: [message.encryptedPinBlock] }),
  'an encryptedPinBlock that is null': message => JSON.stringify({ ...message, encryptedPinBlock: null }),
  'an empty encryptedPinBlock': message => JSON.stringify({ ...message, encryptedPinBlock: '' }),
  'a body of 64 KB': message => JSON.stringify({ ...message, more: 'x'.repeat(65_536) }),
  'nested 10,000 deep': message =>
    JSON.stringify(message).replace('{', `{"more":${'['.repeat(10_000)}${']'.repeat(10_000)},`),
  'a byte order mark': message => BYTE_ORDER_MARK + JSON.stringify(message),
  'bytes that are not UTF-8': message =>
    Buffer.from(JSON.stringify(message).replace('{', '{"more":"\xff",'), 'latin1'),
}

const HEADERS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'content-type text/plain': { 'content-type': 'text/plain' },
  'content-type of a form': { 'content-type': 'application/x-www-form-urlencoded' },
  'content-encoding gzip': { 'content-encoding': 'gzip' },
}

export async function soundMessage(world: World, card: Card): Promise<string> {
  return world.message('ISO0', world.iso0(card, world.newPin(await world.shownPin(card))))
}

/** A sound message whose JWE has at least so many characters: white space in its content counts for nothing else. */
export async function longMessage(world: World, card: Card, characters: number): Promise<string> {
  const content = JSON.stringify(world.iso0(card, world.newPin(await world.shownPin(card))))
  const { encryptedPinBlock } = JSON.parse(await world.message('ISO0', content)) as {
    encryptedPinBlock: string
  }
  const more = Math.ceil((characters - encryptedPinBlock.length) * 0.75)
  return world.message('ISO0', content + ' '.repeat(more))
}

function badMessage(name: string, put: (world: World, card: Card) => Promise<Reply>): Case {
  const rule = { operation: 'SetPIN', statuses: BAD } as const
  return refusal('messages', name, rule, world => put(world, world.card('active', 'ISO0')))
}

/** What is refused must not be stored either. */
function inside(name: string, make: MakeMessage): Case {
  return {
    group: 'messages',
    name,
    expected: '400, and the PIN stays',
    run: async world => {
      const card = world.card('active', 'ISO0')
      const before = await world.shownPin(card)
      const reply = await world.put(card, (await make(world, card, world.newPin(before))).wrong)
      requireRefusal(world, reply, BAD)
      requireStatus('SetPIN', reply, 400)
      if ((await world.shownPin(card)) !== before) throw new Mismatch('400, and Get PIN shows another PIN')
      return '400, and the PIN stays'
    },
  }
}

export const MESSAGE_CASES: readonly Case[] = [
  ...Object.entries(BODIES).map(([name, make]) =>
    badMessage(name, async (world, card) =>
      world.put(card, make(JSON.parse(await soundMessage(world, card)))),
    ),
  ),
  badMessage('an encryptedPinBlock of more than 8,192 characters', async (world, card) =>
    world.put(card, await longMessage(world, card, 8193)),
  ),
  ...Object.entries(HEADERS).map(([name, headers]) =>
    badMessage(name, async (world, card) => world.put(card, await soundMessage(world, card), headers)),
  ),
  ...Object.entries(ISO0_MESSAGES).map(([name, make]) => inside(name, make)),
]
