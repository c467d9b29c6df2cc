/**
 * What D1's contract says of answers, as checks written out: Outbound PIN Management API 1.0 and Get Authorization
 * Token (D1 OAuth API 1.0). More members than the contract has are allowed; it does not forbid them.
 */
import { MAX_JWE } from './jwe.js'
import { Mismatch } from './problems.js'
import type { Reply } from './wire.js'

export type Operation = 'getPIN' | 'SetPIN' | 'getPINChangeCounter' | 'getToken'

type Body = Readonly<Record<string, unknown>>
/** The members of a body that are not as they must be. */
type Check = (body: Body) => readonly string[]

/** No content at all. */
const EMPTY = null
/** The values of `errorCode` that the contract has. */
export const COUNTER_CODES: readonly unknown[] = ['PIN_CHANGE_FORBIDDEN', 'CARD_NOT_ACTIVE']

const isText = (value: unknown): value is string => typeof value === 'string'
const isTextOrAbsent = (value: unknown): boolean => value === undefined || isText(value)
const wrong = (checks: Readonly<Record<string, boolean>>): string[] =>
  Object.entries(checks).flatMap(([name, fits]) => (fits ? [] : [name]))

const error: Check = body => wrong({ error: isTextOrAbsent(body['error']) })
const ERRORS: Readonly<Record<number, Check>> = { 400: error, 401: error, 403: error, 404: error, 500: error }

const CONTRACT: Readonly<Record<Operation, Readonly<Record<number, Check | null>>>> = {
  getPIN: {
    ...ERRORS,
    200: ({ type, encryptedPinBlock: jwe }) =>
      wrong({ type: type === 'ISO0', encryptedPinBlock: isText(jwe) && jwe.length <= MAX_JWE }),
  },
  SetPIN: { ...ERRORS, 204: EMPTY },
  getPINChangeCounter: {
    ...ERRORS,
    200: ({ pcc, intdatag }) =>
      wrong({
        pcc: isText(pcc) && /^[0-9]{4}$/.test(pcc),
        intdatag: isText(intdatag) && intdatag.length === 20,
      }),
    403: body => [...error(body), ...wrong({ errorCode: COUNTER_CODES.includes(body['errorCode']) })],
  },
  // 401 by RFC 6749, 5.2: the contract has 400 only.
  getToken: {
    200: body =>
      wrong({
        access_token: isText(body['access_token']) && body['access_token'] !== '',
        token_type: isText(body['token_type']) && /^bearer$/i.test(body['token_type']),
        expires_in: isTextOrAbsent(body['expires_in']),
        scope: isTextOrAbsent(body['scope']),
        expires_at: isTextOrAbsent(body['expires_at']),
      }),
    400: error,
    401: error,
  },
}

/** The body of an answer that the contract has for this operation; a {@link Mismatch} says what is not as it must be. */
export function requireContract(operation: Operation, { status, headers, text }: Reply): Body {
  const checks = CONTRACT[operation]
  if (!Object.hasOwn(checks, status)) throw new Mismatch(`${status}, which ${operation} does not have`)
  const check = checks[status]
  if (check === EMPTY || check === undefined) {
    if (text !== '') throw new Mismatch(`${status} with a body`)
    return {}
  }
  if (!/^application\/json(?:\s*;\s*charset="?utf-8"?)?$/i.test(headers['content-type'] ?? '')) {
    throw new Mismatch(`${status} whose content-type is not application/json`)
  }
  const body = parse(text)
  if (body === undefined) throw new Mismatch(`${status} whose body is no JSON object`)
  const problems = check(body)
  if (problems.length > 0) throw new Mismatch(`${status} with a wrong ${problems.join(', ')}`)
  return body
}

/** The answer has this status, as the contract has it. */
export function requireStatus(operation: Operation, reply: Reply, status: number): Body {
  const body = requireContract(operation, reply)
  if (reply.status !== status) throw new Mismatch(String(reply.status))
  return body
}

function parse(text: string): Body | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Body) : undefined
  } catch {
    return undefined
  }
}

/** A member of a body that the contract has as text. */
export function textOf(body: Body, name: string): string {
  const value = body[name]
  return isText(value) ? value : ''
}
