/** Paths, methods and headers that no client of the contract sends, and HTTP that is none. */
import { type Case, NOWHERE, outside, refusal, requireRefusal } from './case.js'
import { requestText } from './cases-connection.js'
import { soundMessage } from './cases-set-iso0.js'
import { otherLetters } from './inside.js'
import { NotRun } from './problems.js'
import type { Reply } from './wire.js'
import type { World } from './world.js'

const RULE = { operation: 'getPIN', statuses: NOWHERE } as const
const LOOSE = { statuses: NOWHERE, closed: true } as const
const METHOD = { statuses: [400, 404, 405, 501], closed: false } as const
/** 431: the header is too long (RFC 6585); 501: a transfer encoding that is not known. */
const HTTP = { statuses: [400, 414, 431, 501], closed: true } as const

/** GET of a path that is put together by hand, with D1's token. */
async function get(world: World, path: string): Promise<Reply> {
  return world.wire.raw(requestText(world, `GET ${path}`, await world.authorization()))
}

const prefixOf = (world: World): string => new URL(world.setup.url).pathname.replace(/\/$/, '')
const path = (world: World, issuerId: string, cardId: string): string =>
  `${prefixOf(world)}/cms/api/v1/issuers/${issuerId}/cards/${cardId}/pin`

type MakePath = (world: World, parts: { readonly issuerId: string; readonly cardId: string }) => string

/** The letters of a UUID are digits, and mean the same in either case (RFC 9562, 4). */
const UUID = /^[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i

/** A cardId of nobody's that a database may take for that of an active card. */
function likeACard(world: World, which: string, change: (cardId: string) => string): string {
  const taken = world.setup.cards.map(({ cardId }) => cardId)
  const changed = world.setup.cards
    .filter(({ state, cardId }) => state === 'active' && !UUID.test(cardId))
    .map(({ cardId }) => change(cardId))
    .find(cardId => !taken.includes(cardId))
  if (changed === undefined) throw new NotRun(`there is no active card ${which}`)
  return changed
}

/** In the contract: ids that break their pattern, or that nobody has. */
const IDS: Readonly<Record<string, MakePath>> = {
  'an issuerId of 9 characters': (world, { issuerId, cardId }) => path(world, issuerId.slice(1), cardId),
  'an issuerId of 11 characters': (world, { issuerId, cardId }) => path(world, `${issuerId}x`, cardId),
  'another issuer': (world, { issuerId, cardId }) =>
    path(world, Array.from(issuerId).reverse().join(''), cardId),
  'a cardId of 49 characters': (world, { issuerId }) => path(world, issuerId, 'x'.repeat(49)),
  'a cardId of 2,000 characters': (world, { issuerId }) => path(world, issuerId, 'x'.repeat(2000)),
  'a cardId with a dot': (world, { issuerId, cardId }) => path(world, issuerId, `${cardId}.`),
  'a cardId in the other letters': (world, { issuerId }) =>
    path(world, issuerId, likeACard(world, 'with a letter that is no UUID', otherLetters)),
  "a cardId that is another's pattern in SQL": (world, { issuerId }) =>
    path(
      world,
      issuerId,
      likeACard(world, 'with a letter or digit', id => id.replace(/[A-Za-z0-9]/, '_')),
    ),
  'no such card': (world, { issuerId }) => path(world, issuerId, world.absent()),
}

/** Not in the contract: what a server, a proxy and a framework might read in three ways. */
const TRICKS: Readonly<Record<string, MakePath>> = {
  'a path parameter': (world, { issuerId, cardId }) => `${path(world, issuerId, cardId)};x=1`,
  'an escaped slash and dots': (world, { issuerId, cardId }) => path(world, issuerId, `x%2F..%2F${cardId}`),
  'escaped twice': (world, { issuerId, cardId }) => path(world, issuerId, `x%252F..%252F${cardId}`),
  'an escaped zero byte': (world, { issuerId, cardId }) => path(world, issuerId, `${cardId}%00`),
  'an escaped line break': (world, { issuerId, cardId }) =>
    path(world, issuerId, `${cardId}%0d%0ax-injected:%201`),
  'a broken escape': (world, { issuerId, cardId }) => path(world, issuerId, `${cardId}%`),
  'a backslash': (world, { issuerId, cardId }) => path(world, issuerId, cardId).replace('/cards', '\\cards'),
  'an empty id': (world, { issuerId }) => path(world, issuerId, ''),
  'a wildcard': (world, { issuerId }) => path(world, issuerId, '*'),
  'something after the path': (world, { issuerId, cardId }) =>
    `${path(world, issuerId, cardId)}/changeCounter/x`,
  'a name of Object.prototype': (world, { issuerId }) => path(world, issuerId, '__proto__'),
  'the root': () => '/',
}

const partsOf = (world: World) => ({ issuerId: world.setup.issuerId, cardId: world.card('active').cardId })

/** A verb that the contract does not have; with what some frameworks take for the verb. */
function method(name: string, suffix = ''): Case {
  const overrides = { 'x-http-method-override': 'PUT', 'x-method-override': 'PUT' }
  return outside('paths', `${name} ${suffix === '' ? '…/pin' : '…/changeCounter'}`, METHOD, async world => {
    const { issuerId, cardId } = partsOf(world)
    const headers = {
      ...(await world.authorization()),
      ...(name === 'POST' && overrides),
      'Content-Length': '0',
    }
    return world.wire.raw(requestText(world, `${name} ${path(world, issuerId, cardId)}${suffix}`, headers))
  })
}

/** A request that does not parse as HTTP, and is one that D1 may send where it is read without what is wrong with it. */
function broken(
  name: string,
  text: (target: string, host: string, world: World) => string | Promise<string>,
): Case {
  return outside('http', name, HTTP, async world => {
    const { issuerId, cardId } = partsOf(world)
    const { authorization } = await world.authorization()
    const credentials = authorization === undefined ? '' : `Authorization: ${authorization}\r\n`
    const host = `Host: ${new URL(world.setup.url).host}\r\n${credentials}Connection: close\r\n`
    return world.wire.raw(await text(path(world, issuerId, cardId), host, world))
  })
}

/**
 * What stands in a label for logs must not come back as a header, nor be the reason for a 500; one of the contract's form
 * must not be the reason for anything.
 */
function correlation(name: string, value: string, statuses: readonly number[] = [404, 400]): Case {
  return {
    group: 'http',
    name: `x-correlation-id ${name}`,
    expected: statuses.join(' or '),
    run: async world => {
      const reply = await world.ask(world.pinUrl(world.absent()), { headers: { 'x-correlation-id': value } })
      requireRefusal(world, reply, statuses)
      return String(reply.status)
    },
  }
}

export const PATH_CASES: readonly Case[] = [
  ...Object.entries(IDS).map(([name, make]) =>
    refusal('paths', name, RULE, world => get(world, make(world, partsOf(world)))),
  ),
  ...Object.entries(TRICKS).map(([name, make]) =>
    outside('paths', name, LOOSE, world => get(world, make(world, partsOf(world)))),
  ),
  method('POST'),
  method('DELETE'),
  method('PATCH'),
  method('TRACE'),
  method('PUT', '/changeCounter'),
  method('POST', '/changeCounter'),
]

export const HTTP_CASES: readonly Case[] = [
  broken(
    'two lengths',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}Content-Length: 0\r\nContent-Length: 1\r\n\r\nx`,
  ),
  // A server may go by the chunks alone (RFC 9112, 6.1), and there are none; by the length, it is a sound Set PIN.
  broken('a length and chunks', async (_target, host, world) => {
    const card = world.card('active', 'ISO0')
    const target = path(world, world.setup.issuerId, card.cardId)
    const body = await soundMessage(world, card)
    const headers = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\nTransfer-Encoding: chunked`
    return `PUT ${target} HTTP/1.1\r\n${host}${headers}\r\n\r\n${body}`
  }),
  broken(
    'a negative length',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}Content-Length: -1\r\n\r\n`,
  ),
  broken(
    'a lone CR in a header',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}x-correlation-id: a\rx-injected: b\r\n\r\n`,
  ),
  broken(
    'a folded header',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}x-correlation-id: a\r\n b\r\n\r\n`,
  ),
  broken(
    'a zero byte in a header',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}x-correlation-id: a\0b\r\n\r\n`,
  ),
  broken(
    'a space before the colon',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}x-correlation-id : a\r\n\r\n`,
  ),
  broken(
    'a header of 100 KB',
    (target, host) => `GET ${target} HTTP/1.1\r\n${host}x-long: ${'x'.repeat(100_000)}\r\n\r\n`,
  ),
  broken('no HTTP at all', () => '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n'),
  correlation('of 64 characters', 'A-z_9'.padEnd(64, '0'), [404]),
  correlation('of 65 characters', 'x'.repeat(65)),
  correlation('that forges a header', 'a%0d%0ax-injected: 1'),
  correlation('with markup', '<script>'),
]
