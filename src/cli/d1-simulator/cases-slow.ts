/** Requests that come in drop by drop: the issuer must end them, in its own time. */
import { type Case, outside } from './case.js'
import { requestText } from './cases-connection.js'
import type { World } from './world.js'

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
