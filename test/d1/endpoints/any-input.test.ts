/** Properties: whatever comes in. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ORIGIN, useWorld } from './support/direct.js'
import { basic, counterPath, FORM_TYPE, ISSUER, pinPath, TOKEN_PATH } from './support/world.js'

const own = useWorld()

test('whatever comes, the handler answers within the contract, with one event and no secret', async () => {
  const answer = own.world.handler()
  const { authorization = '' } = await own.world.authorized()
  const segment = fc.oneof(
    fc.string(),
    fc.constantFrom('..', '.', ISSUER, 'card-1', 'pin', '%2e%2e', 'issuers', ''),
  )
  const path = fc.oneof(
    fc.constantFrom(pinPath('card-1'), counterPath('card-1'), TOKEN_PATH),
    fc.array(segment, { maxLength: 10 }).map(parts => `/${parts.join('/')}`),
  )
  const request = fc.record({
    path,
    method: fc.constantFrom('GET', 'PUT', 'POST', 'DELETE', 'HEAD'),
    authorization: fc.oneof(
      fc.constantFrom(authorization, basic()),
      fc.base64String().map(text => `Bearer ${text}`),
    ),
    type: fc.constantFrom('application/json', FORM_TYPE['content-type'], ''),
    correlation: fc.stringMatching(/^[\x21-\x7e]*$/),
    body: fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .record({ type: fc.constantFrom('ISO0', '3DES_SECCOS'), encryptedPinBlock: fc.string() })
        .map(value => JSON.stringify(value)),
    ),
  })
  await fc.assert(
    fc.asyncProperty(request, async ({ path, method, authorization, type, correlation, body }) => {
      own.world.events.length = 0
      const headers = { authorization, 'content-type': type, 'x-correlation-id': correlation }
      const bodiless = method === 'GET' || method === 'HEAD'
      const response = await answer(
        new Request(ORIGIN + path, { method, headers, ...(!bodiless && { body }) }),
      )
      expect([200, 204, 400, 401, 403, 404]).toContain(response.status)
      expect(own.world.events).toHaveLength(1)
      const text = await response.text()
      if (response.status >= 400) expect(text.length).toBeLessThan(80)
      own.world.expectSilence(text)
    }),
    { numRuns: 500 },
  )
})
