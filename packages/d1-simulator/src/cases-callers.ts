/**
 * Who calls, and what may be more than the contract has: another issuer's certificate or token, which the same CA or the
 * same endpoint has issued, opens nothing; what D1 may add without notice (its API change policy) changes nothing.
 */
import { X509Certificate } from 'node:crypto'
import { type Case, NOWHERE, outside, requireRefusal } from './case.js'
import { requestText } from './cases-connection.js'
import { requireStatus } from './contract.js'
import { Mismatch, NotRun } from './problems.js'
import type { Reply } from './wire.js'
import type { Card, World } from './world.js'

/** 400 is what gateways answer, 401 and 403 are the contract's, 404 hides that there is such an issuer. */
const SHUT_OUT = { statuses: [...NOWHERE, 401, 403], closed: true } as const

/** A request for a PIN that would be answered if it came from D1. */
async function getAs(world: World, headers: Readonly<Record<string, string>>): Promise<Reply> {
  const { pathname } = new URL(world.pinUrl(world.card('active').cardId))
  return world.wire.raw(requestText(world, `GET ${pathname}`, headers), { identity: 'other' })
}

export const CALLER_CASES: readonly Case[] = [
  outside('callers', "another issuer's certificate, with D1's token", SHUT_OUT, async world =>
    getAs(world, await world.authorization()),
  ),
  outside('callers', "another issuer's certificate, no token", SHUT_OUT, world => getAs(world, {})),
  outside('callers', "another issuer's token", SHUT_OUT, async world => {
    world.requireClient()
    const token = world.setup.other?.token
    if (token === undefined) throw new NotRun('the configuration has no token of another caller')
    const { pathname } = new URL(world.pinUrl(world.card('active').cardId))
    return world.wire.raw(requestText(world, `GET ${pathname}`, { Authorization: `Bearer ${token}` }))
  }),
  outside('callers', "a forged header with D1's certificate", SHUT_OUT, async world => {
    const { cert } = world.setup.tls
    const leaf = new X509Certificate(cert).raw.toString('base64')
    return getAs(world, {
      ...(await world.authorization()),
      'Client-Cert': `:${leaf}:`,
      'X-SSL-Client-Cert': encodeURIComponent(cert),
      'X-SSL-Client-Verify': 'SUCCESS',
      'X-Forwarded-Client-Cert': `Cert="${encodeURIComponent(cert)}"`,
    })
  }),
]

function tolerated(name: string, expected: string, run: (world: World) => Promise<void>): Case {
  return {
    group: 'tolerance',
    name,
    expected,
    run: async world => {
      await run(world)
      return expected
    },
  }
}

/** Get PIN shows what it shows without the addition. */
function get(name: string, query: string, headers: Readonly<Record<string, string>> = {}): Case {
  return tolerated(`Get PIN ${name}`, '200, the PIN', async world => {
    const card = world.card('active', 'ISO0')
    const pin = await world.shownPin(card)
    const reply = await world.ask(`${world.pinUrl(card.cardId)}${query}`, { headers })
    requireStatus('getPIN', reply, 200)
    world.requireSilence(reply)
    if ((await world.pinIn(reply, card)) !== pin) throw new Mismatch('200, and another PIN')
  })
}

interface Addition {
  readonly query?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: (message: object) => object
}

/** Set PIN does what it does without the addition. */
function put(name: string, { query = '', headers = {}, body = message => message }: Addition): Case {
  return tolerated(`Set PIN ${name}`, '204, and Get PIN shows the new PIN', async world => {
    const card = world.card('active', 'ISO0')
    const pin = world.newPin(await world.shownPin(card))
    const message = JSON.parse(await world.message('ISO0', world.iso0(card, pin))) as object
    const sent = JSON.stringify(body(message))
    requireStatus('SetPIN', await world.put(card, sent, headers, query), 204)
    if ((await world.shownPin(card)) !== pin) throw new Mismatch('204, and Get PIN shows another PIN')
  })
}

/** In the contract, and optional there: as D1 may send it with every request. */
const CORRELATED = { 'x-correlation-id': '0b54a7a0-3f0e-4c57-9d0a-6a1c5a0c3c0e' }

export const TOLERANCE_CASES: readonly Case[] = [
  get('with a query', '?x=1'),
  get('with a header', '', { 'x-d1-something-new': '1' }),
  get('with an x-correlation-id', '', CORRELATED),
  put('with a query', { query: '?x=1&x=2' }),
  put('with a header', { headers: { 'x-d1-something-new': '1' } }),
  put('with an x-correlation-id', { headers: CORRELATED }),
  put('with a member', { body: message => ({ ...message, somethingNew: { a: [1] } }) }),
  put('with a parameter of its content-type', { headers: { 'content-type': 'application/json; v=1' } }),
  put('with an empty parameter of its content-type', { headers: { 'content-type': 'application/json;' } }),
  put('with charset=utf8', { headers: { 'content-type': 'application/json; charset=utf8' } }),
  put('with an empty content-encoding', { headers: { 'content-encoding': '' } }),
  tolerated('a change counter with a query', '200', async world => {
    world.requireSeccos()
    const card: Card = world.card('active', '3DES_SECCOS')
    requireStatus('getPINChangeCounter', await world.ask(`${world.counterUrl(card.cardId)}?x=1`), 200)
  }),
  tolerated('no such card, with a query', '404', async world => {
    const reply = await world.ask(`${world.pinUrl(world.absent())}?x=1`)
    requireRefusal(world, reply, [404])
  }),
]
