/**
 * Thales may add parameters in headers, URLs and bodies without notice, and asks issuers to avoid strict validation. So:
 * any valid request, plus anything unknown in query, headers, media type or JSON, has the same answer.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ORIGIN, useWorld } from './support/direct.js'
import { basic, counterPath, FORM_TYPE, NEW_PIN, PANS, pinPath, TOKEN_PATH } from './support/world.js'

const own = useWorld()

const KINDS = ['getPIN', 'SetPIN', 'getPINChangeCounter', 'getToken', 'no card', 'no message'] as const
/** What clients, proxies and tracing add of themselves. */
const USUAL = [
  'accept',
  'accept-encoding',
  'accept-language',
  'cache-control',
  'cookie',
  'forwarded',
  'if-none-match',
  'origin',
  'range',
  'traceparent',
  'user-agent',
  'via',
  'x-forwarded-for',
  'x-http-method-override',
  'x-request-id',
]
/** Names that mean something elsewhere: inside the JWE, in another case, in JavaScript. */
const NAMES = [
  'pinValue',
  'kid',
  'intdatag',
  'Type',
  'TYPE',
  'encryptedpinblock',
  'error',
  'toJSON',
  'valueOf',
  'then',
  '',
]
type Kind = (typeof KINDS)[number]

/** Headers that decide something; everything else D1, or a middlebox, may add. */
const DECIDING =
  /^(?:authorization|content-(?:type|length|encoding)|transfer-encoding|x-correlation-id|host|expect|connection|cookie)$/i
const word = fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/)
const value = fc.stringMatching(/^[\x21-\x7e]{0,20}$/)
const token = fc.stringMatching(/^[A-Za-z0-9._-]{1,10}$/)
/** What base/json refuses wherever it is, as two programs may read it differently: no API has members of these names. */
const TWO_WAYS = /"(?:__proto__|constructor|prototype)":/
const anything = fc.jsonValue({ maxDepth: 5 }).filter(value => !TWO_WAYS.test(JSON.stringify(value)))

/** Members of any name that is not the message's own, with whatever is in them. */
function members(...own: readonly string[]): fc.Arbitrary<Record<string, unknown>> {
  const known = fc.constantFrom(...NAMES.filter(name => !own.includes(name)))
  return fc.dictionary(
    fc.oneof(
      word.map(name => `more-${name}`),
      known,
    ),
    anything,
    { maxKeys: 3 },
  )
}
const addition = fc.record({
  query: fc.option(fc.stringMatching(/^[\x21\x24-\x7e]{0,30}$/), { nil: undefined }),
  headers: fc.dictionary(
    fc.oneof(
      word.filter(name => !DECIDING.test(name)).map(name => `x-d1-${name}`),
      fc.constantFrom(...USUAL),
    ),
    value,
    { maxKeys: 3 },
  ),
  parameters: fc.array(fc.oneof(fc.constantFrom('', ' ', 'charset=utf8', 'v=1', 'charset="UTF-8"'), token), {
    maxLength: 3,
  }),
  members: members(),
  // Each once: a parameter twice is an error, known or not (RFC 6749, 3.2).
  form: fc.uniqueArray(
    fc.tuple(
      word.map(name => `more_${name}`),
      value,
    ),
    { maxLength: 3, selector: ([name]) => name },
  ),
  coding: fc.constantFrom(undefined, '', 'identity'),
})

interface Plain {
  readonly method: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly body?: Record<string, unknown> | string
}

async function plain(kind: Kind): Promise<Plain> {
  const headers = await own.world.authorized()
  const path = pinPath('card-2')
  switch (kind) {
    case 'getPIN':
      return { method: 'GET', path, headers }
    case 'SetPIN':
      return { method: 'PUT', path, headers, body: JSON.parse(await own.world.iso0(NEW_PIN, PANS.second)) }
    case 'getPINChangeCounter':
      return { method: 'GET', path: counterPath('card-2'), headers }
    case 'getToken':
      return {
        method: 'POST',
        path: TOKEN_PATH,
        headers: { authorization: basic() },
        body: 'grant_type=client_credentials',
      }
    case 'no card':
      return { method: 'GET', path: pinPath('nobody'), headers }
    case 'no message':
      return { method: 'PUT', path, headers, body: { type: 'ISO0', encryptedPinBlock: 'a.b.c.d.e' } }
  }
}

test('anything unknown in addition has the same answer', async () => {
  const handler = own.world.handler()
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...KINDS), addition, async (kind, more) => {
      const { method, path, headers, body } = await plain(kind)
      const send = async (added: typeof more | undefined) => {
        const type = kind === 'getToken' ? FORM_TYPE['content-type'] : 'application/json'
        const typed =
          body === undefined ? {} : { 'content-type': [type, ...(added?.parameters ?? [])].join(';') }
        const coded =
          added?.coding === undefined || body === undefined ? {} : { 'content-encoding': added.coding }
        const text =
          typeof body === 'object'
            ? JSON.stringify({ ...added?.members, ...body })
            : body &&
              [body, ...(added?.form ?? []).map(([name, of]) => `${name}=${encodeURIComponent(of)}`)].join(
                '&',
              )
        const response = await handler(
          new Request(`${ORIGIN}${path}${added?.query === undefined ? '' : `?${added.query}`}`, {
            method,
            headers: { ...added?.headers, ...headers, ...typed, ...coded },
            ...(text !== undefined && { body: text }),
          }),
        )
        const answer = (await response.text()) || '{}'
        // Each JWE, intdatag and token is another; its name is not.
        return {
          status: response.status,
          members: Object.keys(JSON.parse(answer)),
          headers: [...response.headers.keys()],
          refusal: own.world.last.refusal?.reason,
        }
      }
      const expected = await send(undefined)
      expect(await send(more)).toEqual(expected)
      expect(own.world.last.queryIgnored).toBe(more.query === undefined ? undefined : true)
    }),
    { numRuns: 150 },
  )
})

test('anything unknown inside the JWE has the same answer, and sets the same PIN', async () => {
  const handler = own.world.handler()
  const headers = await own.world.authorized({ 'content-type': 'application/json' })
  const send = async (method: string, path: string, body?: string) =>
    handler(new Request(ORIGIN + path, { method, headers, ...(body !== undefined && { body }) }))
  const set = async (type: string, content: object) => {
    const body = await own.world.d1.seal(type, content)
    return (await send('PUT', pinPath('card-2'), body)).status
  }
  await fc.assert(
    fc.asyncProperty(
      fc.stringMatching(/^\d{4,12}$/),
      members('pinValue', 'kid'),
      members('intdatag'),
      async (pin, iso0More, seccosMore) => {
        const iso0 = own.world.d1.iso0Content(pin, PANS.second)
        expect(await set('ISO0', { ...iso0More, ...iso0 })).toBe(204)
        const shown = await send('GET', pinPath('card-2'))
        expect(await own.world.d1.readPin((await shown.json()) as never, PANS.second)).toBe(pin)
        const counter = await own.world.counter.issue({ cardId: 'card-2' })
        const seccos = own.world.seccosContent(counter, pin, PANS.second)
        expect(await set('3DES_SECCOS', { ...seccosMore, ...seccos })).toBe(204)
        // The same content is the same request, whatever is around it.
        expect(await set('3DES_SECCOS', seccos)).toBe(204)
        expect(own.world.last.replayed).toBe(true)
      },
    ),
    { numRuns: 40 },
  )
})
