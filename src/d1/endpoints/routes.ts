/** The paths of the contract, as a table, and the one way to match them: exactly. */
import { COUNTER_PATH, PIN_PATH, TOKEN_PATH } from '../contract.js'
import type { Operation } from './audit.js'
import { Refusal } from './refusal.js'

/** One operation of the contract: method and path, with the API it belongs to (each has its own prefix). */
export interface Route {
  readonly operation: Operation
  readonly method: 'GET' | 'PUT' | 'POST'
  readonly api: 'pin' | 'token'
  readonly path: string
}

/** Outbound PIN Management API 1.0, and the token endpoint of Get Authorization Token. */
export const ROUTES: readonly Route[] = [
  { operation: 'getPIN', method: 'GET', api: 'pin', path: PIN_PATH },
  { operation: 'SetPIN', method: 'PUT', api: 'pin', path: PIN_PATH },
  { operation: 'getPINChangeCounter', method: 'GET', api: 'pin', path: COUNTER_PATH },
  { operation: 'getToken', method: 'POST', api: 'token', path: TOKEN_PATH },
]

/** What comes before the paths of each API; undefined: that API is not offered. */
export type Prefixes = Readonly<Record<Route['api'], string | undefined>>

/** A request that is for an operation; the ids have not been looked at. */
export interface Matched {
  readonly operation: Operation
  readonly issuerId: string
  readonly cardId: string
}

/** Everything that a path of the contract is made of. No id needs an escape, so none is taken. */
export const PATH_CHARACTERS: RegExp = /^[A-Za-z0-9/._~-]*$/

/**
 * Makes the function that finds the operation of a request.
 *
 * It refuses with `path` what no client of the contract sends (escapes, a fragment), with `query` any query string
 * («unsupported non-standard parameter»), with `route` a path that is not in the table, letter by letter, and with
 * `method` another method on one that is.
 */
export function router(prefixes: Prefixes): (request: Request) => Matched {
  const rows = ROUTES.flatMap(route => {
    const prefix = prefixes[route.api]
    return prefix === undefined ? [] : [{ ...route, pattern: patternOf(prefix + route.path) }]
  })
  return ({ url, method }) => {
    if (url.includes('?')) throw new Refusal('query')
    const { pathname, hash } = new URL(url)
    if (!PATH_CHARACTERS.test(pathname) || hash !== '' || url.endsWith('#')) throw new Refusal('path')
    let known = false
    for (const row of rows) {
      const groups = row.pattern.exec(pathname)
      if (groups === null) continue
      const [, issuerId = '', cardId = ''] = groups
      if (row.method === method) return { operation: row.operation, issuerId, cardId }
      known = true
    }
    throw new Refusal(known ? 'method' : 'route')
  }
}

function patternOf(path: string): RegExp {
  const escaped = path.replaceAll(/[.~-]/g, String.raw`\$&`)
  return new RegExp(`^${escaped.replaceAll(/\{\w+\}/g, '([^/]+)')}$`)
}
