/**
 * TLS: the versions D1 speaks, and that nobody gets in without D1's certificate; and connections on which a request comes
 * in drop by drop, which the issuer must end in its own time.
 */

import { type Case, outside } from './case.js'
import { requireStatus } from './contract.js'
import { Mismatch, NoAnswer } from './problems.js'
import type { Identity, Reply } from './wire.js'
import type { World } from './world.js'

/** A gateway may answer where it does not end the handshake: 400 is nginx's, 401 and 403 are the contract's. */
const SHUT_OUT = { statuses: [400, 401, 403], closed: true } as const

/** A request that would succeed with D1's certificate. */
async function soundRequest(world: World, identity: Identity): Promise<Reply> {
  const card = world.card('active')
  const path = new URL(world.pinUrl(card.cardId)).pathname
  return world.wire.raw(requestText(world, `GET ${path}`, await world.authorization()), { identity })
}

/** A request by hand; the connection is to be closed after it. */
export function requestText(
  world: World,
  line: string,
  headers: Readonly<Record<string, string>>,
  body = '',
): string {
  const fields = { Host: new URL(world.setup.url).host, Connection: 'close', ...headers }
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}`)
  return `${[`${line} HTTP/1.1`, ...head].join('\r\n')}\r\n\r\n${body}`
}

async function tokenRequest(world: World, identity: Identity): Promise<Reply> {
  const { id, secret, url } = world.requireClient()
  const body = 'grant_type=client_credentials'
  const headers = {
    Authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
    'Content-Type': 'application/x-www-form-urlencoded',
    'Content-Length': String(body.length),
  }
  return world.wire.raw(requestText(world, `POST ${new URL(url).pathname}`, headers, body), { identity })
}

function speaks(version: 'TLSv1.2' | 'TLSv1.3'): Case {
  return {
    group: 'connection',
    name: `D1's certificate, ${version}`,
    expected: '404',
    run: async world => {
      const url = world.pinUrl(world.absent())
      const headers = await world.authorization()
      const tls = { minVersion: version, maxVersion: version }
      requireStatus('getPIN', await world.wire.ask(url, { headers }, tls), 404)
      return `404 over ${version}`
    },
  }
}

const outdated: Case = {
  group: 'connection',
  name: 'TLS 1.1',
  expected: 'closed',
  run: world =>
    new Promise((resolve, reject) => {
      const socket = world.wire.connect('d1', {
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT@SECLEVEL=0',
      })
      socket.setTimeout(world.setup.timeouts.requestMs, () => socket.destroy(new NoAnswer('TIMEOUT')))
      socket.once('secureConnect', () => {
        socket.destroy()
        reject(new Mismatch('a connection over TLS 1.1'))
      })
      socket.once('error', error => {
        const refused = !/ECONNREFUSED|ENOTFOUND|TIMEOUT/.test(
          `${'code' in error && error.code} ${error.message}`,
        )
        if (refused) resolve('closed')
        else reject(new Mismatch('no answer'))
      })
    }),
}

export const CONNECTION_CASES: readonly Case[] = [
  speaks('TLSv1.3'),
  speaks('TLSv1.2'),
  outdated,
  outside('connection', 'no client certificate', SHUT_OUT, world => soundRequest(world, 'nobody')),
  outside('connection', 'a client certificate of another CA', SHUT_OUT, world =>
    soundRequest(world, 'stranger'),
  ),
  outside('connection', 'a token without client certificate', SHUT_OUT, world =>
    tokenRequest(world, 'nobody'),
  ),
]

/** 408 is what servers answer of themselves; the contract has 400. */
const ENDED = { statuses: [400, 408], closed: true } as const

function slow(
  name: string,
  text: (world: World, path: string, authorization: object) => string,
  drip: string,
): Case {
  return outside('slow', name, ENDED, async world => {
    const { pathname } = new URL(world.pinUrl(world.card('active').cardId))
    const { slowBodyMs: withinMs } = world.setup.timeouts
    return world.wire.raw(text(world, pathname, await world.authorization()), { drip, withinMs })
  })
}

export const SLOW_CASES: readonly Case[] = [
  slow(
    'a body that drips',
    (world, path, authorization) => {
      const headers = { ...authorization, 'Content-Type': 'application/json', 'Content-Length': '8000' }
      return requestText(world, `PUT ${path}`, headers, '{')
    },
    ' ',
  ),
  slow(
    'headers that drip',
    (world, path) => requestText(world, `GET ${path}`, {}).trimEnd(),
    '\r\nx-slow: 1',
  ),
]
