/** Many cards registered at D1, a run that ends early, and the same again for what is left. D1 is played by a function. */
import { generateKeyPairSync } from 'node:crypto'
import { Pan } from 'issuer-pin-crypto'
import { type BulkItem, type D1Fetch, d1Client, softwareSigner } from 'issuer-pin-crypto/d1'
import { createTestIssuer } from 'issuer-pin-crypto/testing'

/** In life: `mtlsFetch({ cert, key, ca })`. This D1 has a bad moment at the fourth card, and does not know the sixth's product. */
let registered = 0
const fetch: D1Fetch = async url => {
  const json = (status: number, body: object) =>
    new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } })
  if (url.includes('/token'))
    return json(200, { access_token: 'test-token', token_type: 'Bearer', expires_in: 900 })
  registered += 1
  if (registered === 4) return json(503, { error: 'not now' })
  if (url.endsWith('card-0006')) return json(400, { errorCode: 'UNKNOWN_PRODUCT', error: 'no such product' })
  return json(201, {})
}

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const { d1PublicJwk } = await createTestIssuer()
const d1 = d1Client({
  environment: 'staging',
  issuerId: 'is_tbank01',
  signer: softwareSigner({ kid: 'ISSUER-SIGN-2026', privateKey }),
  fetch,
  d1PublicJwk,
})

const items: readonly BulkItem[] = Array.from({ length: 8 }, (_, i) => ({
  cardId: `card-000${i + 1}`,
  card: {
    pan: Pan.from(`999999012345678${i}`),
    exp: '1229',
    consumerId: `consumer-${i + 1}`,
    cardProductId: 'debit',
  },
}))

/** What is done is kept by you, after each card: whatever ends the run, the next one begins behind it. */
const done = new Set<string>()
async function run(name: string, signal?: AbortSignal): Promise<void> {
  const left = items.filter(({ cardId }) => !done.has(cardId))
  const { ended, outcomes } = await d1.cards.registerMany(left, {
    concurrency: 1,
    ...(signal !== undefined && { signal }),
    onProgress: ({ outcome }) => {
      if (outcome.ok && outcome.cardId !== undefined) done.add(outcome.cardId)
      if (done.size === 5) stop.abort()
    },
  })
  const refused = outcomes.filter(({ ok }) => !ok).length
  console.log(`${name}: ${ended}, ${done.size} of ${items.length} registered, ${refused} not`)
}

const stop = new AbortController()
await run('first run', stop.signal)
await run('second run')
