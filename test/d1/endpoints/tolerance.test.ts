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
type Kind = (typeof KINDS)[number]

/** Headers that decide something; everything else D1, or a middlebox, may add. */
const DECIDING =
  /^(?:authorization|content-(?:type|length|encoding)|transfer-encoding|x-correlation-id|host|expect|connection|cookie)$/i
const word = fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/)
const value = fc.stringMatching(/^[\x21-\x7e]{0,20}$/)
const token = fc.stringMatching(/^[A-Za-z0-9._-]{1,10}$/)
const addition = fc.record({
  query: fc.option(fc.stringMatching(/^[\x21\x24-\x7e]{0,30}$/), { nil: undefined }),
  headers: fc.dictionary(
    word.filter(name => !DECIDING.test(name)).map(name => `x-d1-${name}`),
    value,
    { maxKeys: 3 },
  ),
  parameters: fc.array(fc.oneof(fc.constantFrom('', ' ', 'charset=utf8', 'v=1', 'charset="UTF-8"'), token), {
    maxLength: 3,
  }),
  members: fc.dictionary(
    word.map(name => `more-${name}`),
    fc.jsonValue(),
    { maxKeys: 3 },
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
        const text = typeof body === 'object' ? JSON.stringify({ ...added?.members, ...body }) : body
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
}, 60_000)
