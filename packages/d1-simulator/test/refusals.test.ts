/**
 * Issuers whose refusals are all wrong in one way: not one case that is about a refusal passes. A mutant of its own shows that a case looks
 * at one thing; this shows that every one of them looks at all that each must look at.
 */
import { expect, test } from 'vitest'
import { someOf } from '../../../test/support/some-of.js'
import { CASES, fullName, simulateD1 } from '../src/run.js'
import { type IssuerChanges, openIssuer } from './support/issuer.js'

const json = (status: number, body: object, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } })

/** What the server refuses by itself, before a handler has a say; and what is judged by more than one answer. */
const ELSEWHERE = ['connection', 'http', 'slow', 'uniform']
const refusals = CASES.filter(({ group, expected }) => /^4\d\d/.test(expected) && !ELSEWHERE.includes(group))

/** As an answer of the operation that was asked for. */
function accepted({ method, url }: Request): Response {
  if (method === 'PUT') return new Response(null, { status: 204 })
  if (url.endsWith('/token')) return json(200, { access_token: 'x', token_type: 'Bearer' })
  if (url.endsWith('/changeCounter')) return json(200, { pcc: '0041', intdatag: 'x'.repeat(20) })
  return json(200, { type: 'ISO0', encryptedPinBlock: 'x' })
}

const PAN = '9999990123456789'
const WRONG: Readonly<Record<string, [(response: Response, request: Request) => Response, RegExp]>> = {
  'are none': [(_response, request) => accepted(request), /^20[04]\b/],
  'are failures': [() => json(500, { error: 'TypeError' }), /^500\b/],
  'show a PAN': [({ status }) => json(status, { error: `card ${PAN}` }), /^4\d\d with a secret in it$/],
  'show a PAN in a header': [
    ({ status }) => json(status, {}, { 'x-detail': PAN }),
    /^4\d\d with a secret in it$/,
  ],
}

const changed = (change: (response: Response, request: Request) => Response): IssuerChanges => ({
  handler:
    ({ handler }) =>
    async (request, connection) => {
      const copy = request.clone()
      const response = await handler(request, connection)
      return response.status < 400 ? response : change(response, copy)
    },
})

test.for(Object.entries(WRONG))(
  'of an issuer whose refusals %s no case about one passes',
  async ([, [change, got]]) => {
    const issuer = await openIssuer(changed(change))
    const only = refusals.map(fullName)
    const results = await simulateD1({ config: issuer.config, only, warn: () => {} })
    await issuer.close()
    const tried = someOf(results.filter(({ group }) => group !== 'end'))
    expect(tried.filter(result => result.verdict !== 'failed' || !got.test(result.got))).toEqual([])
    expect(tried).toHaveLength(refusals.length)
  },
)

test('which statuses are refusals: by group, with no success among them', () => {
  const accepted: Record<string, string[]> = {}
  for (const { group, expected } of CASES) {
    if (!/^\d{3}(?: or (?:\d{3}|closed))+$|^4\d\d$/.test(expected)) continue
    accepted[group] = [...new Set([...(accepted[group] ?? []), expected])]
  }
  expect(accepted).toEqual({
    connection: ['404', '400 or 401 or 403 or closed'],
    token: ['400 or 401', '400', '400 or 413 or closed', '400 or 404 or 401 or 405'],
    authorization: ['401', '400 or 401', '400 or 401 or closed'],
    callers: ['400 or 404 or 401 or 403 or closed'],
    paths: ['400 or 404', '400 or 404 or closed', '400 or 404 or 405 or 501'],
    http: ['400 or 414 or 431 or 501 or closed', '404', '404 or 400'],
    'get-pin': ['403', '404'],
    'set-pin-iso0': ['403', '400 or 403', '404'],
    messages: ['400'],
    tolerance: ['404'],
    'change-counter': ['404', '400 or 403 or 404'],
    'set-pin-seccos': ['400', '403', '400 or 403'],
    slow: ['400 or 408 or closed'],
  })
})
