/** The issuer's token endpoint (D1 OAuth API 1.0, Get Authorization Token; RFC 6749, 4.4 and 5.2). */
import { type Case, NOWHERE, outside, refusal } from './case.js'
import { requireStatus, textOf } from './contract.js'
import { Mismatch } from './problems.js'
import type { Reply } from './wire.js'
import type { World } from './world.js'

const DENIED = { operation: 'getToken', statuses: [400, 401] } as const
const WRONG = { operation: 'getToken', statuses: [400] } as const
const GRANT = 'grant_type=client_credentials'

type Pair = { readonly id: string; readonly secret: string }

const base64 = ({ id, secret }: Pair): string => Buffer.from(`${id}:${secret}`).toString('base64')
const changed = (text: string): string => `${text.slice(0, -1)}${text.endsWith('x') ? 'y' : 'x'}`

/** The token of an answer works, and what it says of itself is in the contract. */
function granted(name: string, authorization: (pair: Pair) => string): Case {
  return {
    group: 'token',
    name,
    expected: '200, and the token works',
    run: async world => {
      const reply = await world.askToken({ authorization: authorization(world.requireClient()) })
      const body = requireStatus('getToken', reply, 200)
      // RFC 6749, 5.1: whoever keeps the answer can call as D1.
      if (!/\bno-store\b/i.test(reply.headers['cache-control'] ?? '')) {
        throw new Mismatch('200 without cache-control: no-store')
      }
      const token = textOf(body, 'access_token')
      const url = world.pinUrl(world.absent())
      const { status } = await world.wire.ask(url, { headers: { authorization: `Bearer ${token}` } })
      if (status !== 404) throw new Mismatch(`200, and ${status} with the token`)
      return '200, and the token works'
    },
  }
}

const withClient = (make: (world: World, pair: Pair) => Promise<Reply>) => (world: World) =>
  make(world, world.requireClient())

/** Credentials that are wrong; right ones after them, for an issuer may lock out whoever only sends wrong ones. */
const tryWrong = (make: (world: World, pair: Pair) => Promise<Reply>) =>
  withClient(async (world, pair) => {
    const reply = await make(world, pair)
    await world.askToken({ authorization: `Basic ${base64(pair)}` })
    return reply
  })

function denied(name: string, authorization: (pair: Pair) => string): Case {
  return refusal(
    'token',
    name,
    DENIED,
    tryWrong((world, pair) => world.askToken({ authorization: authorization(pair) })),
  )
}

function wrongBody(name: string, body: string, headers: Readonly<Record<string, string>> = {}): Case {
  return refusal(
    'token',
    name,
    WRONG,
    withClient((world, pair) => world.askToken({ authorization: `Basic ${base64(pair)}`, ...headers }, body)),
  )
}

/** An answer that tells a wrong id from a wrong secret tells which ids there are. */
const oneAnswer: Case = {
  group: 'token',
  name: 'an unknown client and a wrong secret look the same',
  expected: 'one answer',
  run: async world => {
    const { id, secret } = world.requireClient()
    const pairs = [
      { id, secret: changed(secret) },
      { id: changed(id), secret },
    ]
    const seen = new Set<string>()
    for (const pair of pairs) {
      const ask = tryWrong(() => world.askToken({ authorization: `Basic ${base64(pair)}` }))
      const { status, text } = await ask(world)
      seen.add(`${status} ${text}`)
    }
    if (seen.size > 1) throw new Mismatch('two answers')
    return 'one answer'
  },
}

export const TOKEN_CASES: readonly Case[] = [
  granted('Basic in padded base64', pair => `Basic ${base64(pair)}`),
  granted('Basic in base64url', pair => `Basic ${Buffer.from(base64(pair), 'base64').toString('base64url')}`),
  denied('a wrong secret', ({ id, secret }) => `Basic ${base64({ id, secret: changed(secret) })}`),
  denied('a secret cut off', ({ id, secret }) => `Basic ${base64({ id, secret: secret.slice(0, -1) })}`),
  denied('an unknown client', ({ id, secret }) => `Basic ${base64({ id: changed(id), secret })}`),
  denied('no secret', ({ id }) => `Basic ${base64({ id, secret: '' })}`),
  denied('credentials that are not base64', ({ id, secret }) => `Basic ${id}:${secret}`),
  denied('another scheme', pair => `Bearer ${base64(pair)}`),
  refusal(
    'token',
    'no credentials',
    DENIED,
    tryWrong(world => world.askToken({})),
  ),
  refusal(
    'token',
    'credentials in the body',
    DENIED,
    tryWrong((world, { id, secret }) =>
      world.askToken(
        {},
        `${GRANT}&client_id=${encodeURIComponent(id)}&client_secret=${encodeURIComponent(secret)}`,
      ),
    ),
  ),
  oneAnswer,
  wrongBody('no grant_type', 'scope=pin'),
  wrongBody('another grant_type', 'grant_type=password&username=x&password=y'),
  wrongBody('grant_type twice', `${GRANT}&${GRANT}`),
  wrongBody('an empty body', ''),
  wrongBody('JSON in place of a form', '{"grant_type":"client_credentials"}', {
    'content-type': 'application/json',
  }),
  outside(
    'token',
    'a form of 64 KB',
    { statuses: [400, 413], closed: true },
    withClient((world, pair) =>
      world.askToken({ authorization: `Basic ${base64(pair)}` }, `${GRANT}&x=${'x'.repeat(65_536)}`),
    ),
  ),
  outside(
    'token',
    'GET in place of POST',
    { statuses: [...NOWHERE, 401, 405], closed: false },
    withClient((world, pair) =>
      world.wire.ask(`${world.requireClient().url}?${GRANT}`, {
        headers: { authorization: `Basic ${base64(pair)}` },
      }),
    ),
  ),
]
