/**
 * The endpoints behind node:https with client certificates required:
 *
 *     npx tsx --tsconfig tsconfig.test.json examples/endpoints/server.ts server.key server.pem client-ca.pem d1-public.jwk [port]
 *
 * Mounted elsewhere, with `const listener = nodeListener(handler)`; before anything that reads bodies:
 *
 *     express().disable('x-powered-by').use(listener)                                   // Express 5
 *
 *     fastify({ https }).addHook('onRequest', (request, reply) => {                     // Fastify 5
 *       reply.hijack()
 *       listener(request.raw, reply.raw)
 *     })
 *
 *     new Hono().all('*', context => handler(context.req.raw))                          // Hono 4
 *
 * Under a path of its own (`app.use('/d1', listener)`), Express takes the path away before the handler sees it; where
 * nobody does (Fastify, Hono), say `issuerEndpoints({ prefix: '/d1', tokenPrefix: '/d1/authz/d1/v1', … })`.
 *
 * The mTLS is the server's in each case: requestCert, rejectUnauthorized, and the CA that signs D1's certificate and
 * nobody else's. Behind a proxy that ends TLS, it is the proxy's, and the way from there must be closed to others.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { answerClientError, nodeListener, otelAttributes } from 'issuer-pin-crypto/d1'
import { makeIssuer } from './issuer.js'

const [key, cert, ca, d1Jwk] = process.argv.slice(2, 6).map(path => readFileSync(path, 'utf8'))
const port = Number(process.argv[6] ?? 8443)
if (key === undefined || cert === undefined || ca === undefined || d1Jwk === undefined) {
  throw new Error('usage: server.ts server.key server.pem client-ca.pem d1-public.jwk')
}

const shared = { zpk: randomBytes(16).toString('hex'), mac: randomBytes(16).toString('hex') }
const client = { clientId: 'd1', clientSecret: randomBytes(24).toString('base64url') }
const { handler, issuerPublicJwk } = await makeIssuer({
  d1PublicJwk: JSON.parse(d1Jwk),
  shared,
  client,
  audit: event => console.log(JSON.stringify(otelAttributes(event))),
})

const server = https.createServer(
  {
    key,
    cert,
    ca,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    maxHeaderSize: 16_384,
    headersTimeout: 5000,
    requestTimeout: 15_000,
    connectionsCheckingInterval: 1000,
  },
  nodeListener(handler),
)
server.on('clientError', answerClientError)
server.listen(port, () => {
  // Test keys of this run, for whoever plays D1. A service has nothing of this to say.
  console.log(JSON.stringify({ address: server.address(), issuerPublicJwk, shared, client }))
})
