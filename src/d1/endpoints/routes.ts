/** The paths of the contract, as a table, and the one way to match them: exactly. */
import { COUNTER_PATH, PIN_PATH, TOKEN_PATH } from '../contract.js'
import type { Operation } from './audit.js'
import { Refusal } from './refusal.js'

/** One operation of the contract: method and path, with the API it belongs to (each has its own prefix). */
interface Route {
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
type Prefixes = Readonly<Record<Route['api'], string | undefined>>

/** A request that is for an operation; the ids have not been looked at. */
export interface Matched {
  readonly operation: Operation
  readonly issuerId: string
  readonly cardId: string
  /** There was a query string. */
  readonly hasQuery: boolean
}

/** Everything that a path of the contract is made of. No id needs an escape, so none is taken. */
export const PATH_CHARACTERS: RegExp = /^[A-Za-z0-9/._~-]*$/

/** What finds operations, and tells which paths are the endpoints' at all. */
export interface Router {
  /**
   * The operation of a request. A query string is no part of it: D1 may add parameters. Refuses with `path` what no client
   * of the contract sends (escapes, a fragment), with `route` a path that is not in the table, letter by letter, and with
   * `method` another method on one that is.
   */
  readonly find: (request: Pick<Request, 'url' | 'method'>) => Matched
  /** Whether a path, such as `/cms/api/v1/x`, is below one of the endpoints' own. */
  readonly takes: (path: string) => boolean
}

/** What all paths of the PIN API begin with. */
const PIN_ROOT = PIN_PATH.slice(0, PIN_PATH.indexOf('{'))

/** Makes the router for these prefixes. */
export function router(prefixes: Prefixes): Router {
  const rows = ROUTES.flatMap(route => {
    const prefix = prefixes[route.api]
    return prefix === undefined ? [] : [{ ...route, pattern: patternOf(prefix + route.path) }]
  })
  const { pin, token } = prefixes
  const root = pin === undefined ? undefined : pin + PIN_ROOT
  const tokenPath = token === undefined ? undefined : token + TOKEN_PATH
  return {
    takes: path => (root !== undefined && path.startsWith(root)) || path === tokenPath,
    find: ({ url, method }) => {
      const path = pathOf(url)
      let known: Route | undefined
      for (const row of rows) {
        const groups = row.pattern.exec(path)
        if (groups === null) continue
        const [, issuerId = '', cardId = ''] = groups
        if (row.method === method) {
          return { operation: row.operation, issuerId, cardId, hasQuery: url.includes('?') }
        }
        known = row
      }
      if (known === undefined) throw new Refusal('route')
      throw new Refusal(known.api === 'token' ? 'token-method' : 'method')
    },
  }
}

/** The path of an absolute URL, as it stands there. */
function pathOf(url: string): string {
  const query = url.indexOf('?')
  const end = query < 0 ? url.length : query
  const start = url.indexOf('/', url.indexOf('://') + 3)
  const path = start < 0 || start >= end ? '/' : url.slice(start, end)
  if (!PATH_CHARACTERS.test(path)) throw new Refusal('path')
  return path
}

function patternOf(path: string): RegExp {
  const escaped = path.replaceAll(/[.~-]/g, String.raw`\$&`)
  return new RegExp(`^${escaped.replaceAll(/\{\w+\}/g, '([^/]+)')}$`)
}
