/** The whole HTTP handler with Requests of any method, path, headers and body. */
import fc from 'fast-check'
import { bytesInput } from '../support/input.js'
import {
  BASIC,
  CLIENT,
  iso0Body,
  iso0Content,
  issuer,
  pinPath,
  refuseSecrets,
  SECCOS_CARD,
  sealed,
  seccosContent,
  TOKEN_PATH,
  token,
} from '../support/issuer.js'
import { strictJson } from '../support/strict-json.js'
import { check, Finding, type FuzzTarget } from '../target.js'

const BEARER = `Bearer ${token}`
const METHODS = ['GET', 'PUT', 'POST', 'HEAD', 'DELETE', 'OPTIONS', 'PATCH', 'get', 'BREW', '']
const CARDS = ['card-1', 'iso0-only', 'not-active', 'no-change', 'nobody']
const STATUSES = [200, 204, 400, 401, 403, 404]
const ERROR = /^\{("errorCode":"(PIN_CHANGE_FORBIDDEN|CARD_NOT_ACTIVE)",)?"error":"[A-Za-z_ ]+"\}$/

/** An input is an HTTP message: request line, header lines, empty line, body; where parts lack, there are none. */
const message = (line: string, headers: readonly string[], body: string | Uint8Array = ''): Uint8Array =>
  bytesInput([line, ...headers].join('\n'), '\n\n', body)

const JSON_TYPE = 'content-type: application/json'
const FORM_TYPE = 'content-type: application/x-www-form-urlencoded'
const AUTH = `authorization: ${BEARER}`
const GRANT = 'grant_type=client_credentials'
const SEEDS = [
  message(`GET ${pinPath('card-1')}`, [AUTH, 'x-correlation-id: abc-123']),
  message(`GET ${pinPath('card-1')}/changeCounter`, [AUTH]),
  message(`PUT ${pinPath('card-1')}`, [AUTH, JSON_TYPE], iso0Body),
  message(
    `PUT ${pinPath(SECCOS_CARD)}`,
    [AUTH, `${JSON_TYPE}; charset=utf-8`],
    sealed('3DES_SECCOS', seccosContent),
  ),
  message(`PUT ${pinPath('iso0-only')}`, [AUTH, JSON_TYPE, 'content-length: 100'], iso0Body),
  message(`POST ${TOKEN_PATH}`, [`authorization: ${BASIC}`, FORM_TYPE], `${GRANT}&scope=a%20b`),
]

const text = (strange: readonly string[], usual: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...usual) },
    { weight: 3, arbitrary: fc.constantFrom(...strange) },
    { weight: 1, arbitrary: fc.string() },
  )
const path = text(
  [
    '/',
    '//x/',
    `${pinPath('card-1')}?a=b`,
    `${pinPath('card-1')}#`,
    pinPath('%63ard-1'),
    pinPath('../card-1'),
    pinPath('9999990123456789'),
    pinPath('a'.repeat(49)),
    '/cms/api/v1/issuers/x/cards/card-1/pin',
  ],
  [...CARDS.map(pinPath), ...CARDS.map(card => `${pinPath(card)}/changeCounter`), TOKEN_PATH],
)
const authorization = text(
  ['', 'Bearer', 'Basic Og==', `${BEARER}, ${BEARER}`, BEARER.slice(0, -1), `bearer  ${token}`],
  [BEARER, BASIC],
)
const type = text(
  ['', 'text/json', 'application/json;charset=latin1', 'application/json, text/plain'],
  ['application/json', 'application/x-www-form-urlencoded'],
)
const body = fc.oneof(
  fc.constantFrom(
    iso0Body,
    GRANT,
    `${GRANT}&${GRANT}`,
    'grant_type=',
    'grant_type=password',
    `${GRANT}&scope="`,
    '%',
    `a=${'b'.repeat(5000)}`,
  ),
  fc
    .tuple(
      fc.constantFrom('ISO0', '3DES_SECCOS'),
      fc.string(),
      fc.constantFrom(...Object.keys(seccosContent), 'pinValue', 'kid'),
    )
    .map(([kind, value, name]) =>
      sealed(kind, { ...(kind === 'ISO0' ? iso0Content : seccosContent), [name]: value }),
    ),
  fc.json(),
  fc.string({ maxLength: 200 }),
)
const almost = fc
  .tuple(
    fc.constantFrom(...METHODS.slice(0, 6), 'GET', 'PUT', 'POST'),
    path,
    authorization,
    type,
    fc.string(),
    body,
  )
  .map(([method, target, auth, mediaType, correlation, content]) =>
    message(
      `${method} ${target}`,
      [`authorization: ${auth}`, `content-type: ${mediaType}`, `x-correlation-id: ${correlation}`],
      content,
    ),
  )

/** A Request of an input, or undefined where the platform cannot have such a one. */
function requestOf(bytes: Uint8Array): Request | undefined {
  const [head = '', ...rest] = Buffer.from(bytes).toString('latin1').split('\n\n')
  const [line = '', ...lines] = head.split('\n')
  const [method = '', target = '/'] = line.split(' ')
  const content = Uint8Array.from(Buffer.from(rest.join('\n\n'), 'latin1'))
  try {
    const headers = new Headers()
    for (const each of lines)
      headers.append(each.slice(0, each.indexOf(':')), each.slice(each.indexOf(':') + 1))
    const bodiless = /^(GET|HEAD)$/i.test(method) || content.length === 0
    return new Request(`https://issuer.test${target.startsWith('/') ? '' : '/'}${target}`, {
      method,
      headers,
      ...(!bodiless && { body: streamOf(content), duplex: 'half' }),
    } as RequestInit)
  } catch {
    return undefined
  }
}

/** In chunks, as it comes from a network. */
function streamOf(content: Uint8Array): ReadableStream<Uint8Array> {
  const size = 1 + ((content[0] ?? 0) % 7) * 997
  let at = 0
  return new ReadableStream({
    pull(controller) {
      if (at >= content.length) return controller.close()
      controller.enqueue(content.slice(at, at + size))
      at += size
    },
  })
}

export const handler: FuzzTarget = {
  name: 'handler',
  share: 15,
  seeds: SEEDS,
  structured: almost,
  async run(bytes) {
    const { handler: answer, events } = await issuer()
    const request = requestOf(bytes)
    if (request === undefined) return
    events.length = 0
    const response = await answer(request)
    const shown = await response.text()
    requireContract(response.status, response.headers, shown)
    const [event] = events
    if (event === undefined || events.length !== 1) throw new Finding('one event for each request')
    check(event.status === response.status, 'the event has the status of the answer')
    if (response.status < 300) requireExact(request)
    refuseSecrets(JSON.stringify(events))
  },
}

const PIN_TARGET = /^\/cms\/api\/v1\/issuers\/is_tbank01\/cards\/([\w-]{1,48})\/pin(\/changeCounter)?$/
const KNOWN_CARDS = ['card-1', 'iso0-only', 'no-change', SECCOS_CARD]

/** Only requests that are those of the contract, letter by letter, succeed. */
function requireExact({ method, url, headers }: Request): void {
  // A query is ignored: D1 may add to it.
  const target = url.slice('https://issuer.test'.length).replace(/[?#].*$/s, '')
  const credentials = headers.get('authorization') ?? ''
  if (target === TOKEN_PATH) {
    check(method === 'POST' && /^basic /i.test(credentials), 'a token for a client that shows its secret')
    return
  }
  const [, cardId = '', counter = ''] = PIN_TARGET.exec(target) ?? []
  check(KNOWN_CARDS.includes(cardId), 'a path of the contract, and a card that is known')
  check(method === 'GET' || (method === 'PUT' && counter === ''), 'a method of the contract')
  check(/^bearer +/i.test(credentials) && credentials.endsWith(token), 'a token that was issued')
  check(cardId !== 'no-change' || (method === 'GET' && counter === ''), 'this card shows its PIN only')
}

/** The answer is one that the contract has. Nothing of this issuer fails, so a 500 is ours. */
export function requireContract(status: number, headers: Pick<Headers, 'get'>, shown: string): void {
  check(STATUSES.includes(status), `the contract has no ${status} here`)
  check(headers.get('cache-control') === 'no-store', 'no answer may be cached')
  if (status === 204) check(shown === '', 'a 204 has no body')
  else if (status === 200) check(strictJson(shown) !== undefined, 'a success is a JSON object')
  else check(ERROR.test(shown), 'a refusal has a text of ours')
  const issued = status === 200 ? strictJson(shown)?.['access_token'] : undefined
  refuseSecrets(shown, typeof issued === 'string' ? issued : undefined)
  check(!shown.includes(CLIENT.clientId), 'no answer names a client')
}

/** The token endpoint alone, with a client that is known: what of a form is taken, against URLSearchParams. */
export const tokenRequest: FuzzTarget = {
  name: 'token-request',
  share: 12,
  seeds: [
    GRANT,
    `${GRANT}&scope=a`,
    `scope=a+b&${GRANT}`,
    `${GRANT}&x=1&x=2`,
    'grant_type=refresh_token',
    '=',
  ].map(form => bytesInput(form)),
  async run(bytes) {
    const { handler: answer, events } = await issuer()
    events.length = 0
    const headers = { authorization: BASIC, 'content-type': 'application/x-www-form-urlencoded' }
    const response = await answer(
      new Request(`https://issuer.test${TOKEN_PATH}`, { method: 'POST', headers, body: bytes.slice() }),
    )
    const shown = await response.text()
    requireContract(response.status, response.headers, shown)
    const form = Buffer.from(bytes).toString('utf8')
    const pairs = [...new URLSearchParams(form)]
    const names = pairs.map(([name]) => name)
    const value = (wanted: string): string => pairs.find(([name]) => name === wanted)?.[1] ?? ''
    const due =
      bytes.length <= 4096 &&
      Buffer.from(form).equals(bytes) &&
      new Set(names).size === names.length &&
      value('grant_type') === 'client_credentials' &&
      /^(?:[!#-[\]-~]{1,256}(?: [!#-[\]-~]{1,256})*)?$/.test(value('scope'))
    check((response.status === 200) === due, 'a token for exactly the requests of RFC 6749')
    check(response.status === 200 || response.status === 400, 'and 400 for the others')
  },
}
