import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import {
  type CryptoKey,
  compactDecrypt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  jwtVerify,
} from 'jose'
import type { AssertionSigner } from '../../../src/d1/client/assertion.js'
import { softwareSigner } from '../../../src/d1.js'
import { type Pair, testCa } from './certificates.js'

export const ISSUER_ID = 'is_tbank01'
const GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

/** A request as D1 saw it. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** Common name of the client certificate. */
  readonly client: string
}

/** An answer, or a function that takes the response into its own hands. */
export type Reply =
  | { status: number; body?: unknown; headers?: Record<string, string> }
  | ((response: ServerResponse, request: IncomingMessage) => void)

export interface TestD1 {
  readonly urls: { readonly api: string; readonly auth: string }
  readonly origin: string
  readonly ca: string
  readonly client: Pair
  /** Another client certificate of the same CA. */
  readonly issue: (name: string) => Pair
  /** A client certificate of a CA that D1 does not know. */
  readonly stranger: Pair
  readonly signer: AssertionSigner
  readonly signingKey: string
  readonly publicJwk: { kty: 'EC'; crv: 'P-256'; x: string; y: string; kid: string }
  /** All requests so far. */
  readonly tokenRequests: Seen[]
  readonly cardRequests: Seen[]
  /** What verified assertions said. */
  readonly assertions: { header: Record<string, unknown>; claims: Record<string, unknown>; raw: string }[]
  /** What came out of the JWEs of registrations, by card. */
  readonly registered: Map<string, string>
  /** Answers for the next requests, in place of D1's own; each is used once. */
  readonly tokenReplies: Reply[]
  readonly cardReplies: Reply[]
  /** Makes every token that was given out so far worthless. */
  revoke(): void
  reset(): void
  close(): Promise<void>
}

/** D1 as this client sees it: the token endpoint and the card API, with jose on its side, over mutual TLS. */
export async function startD1(): Promise<TestD1> {
  const ca = testCa('Test D1 CA')
  const signing = await generateKeyPair('ES256', { extractable: true })
  const agreement = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  const signingJwk = await exportJWK(signing.privateKey)
  const state = {
    tokenRequests: [] as Seen[],
    cardRequests: [] as Seen[],
    assertions: [] as TestD1['assertions'],
    registered: new Map<string, string>(),
    tokenReplies: [] as Reply[],
    cardReplies: [] as Reply[],
    tokens: new Set<string>(),
    jtis: new Set<unknown>(),
    issued: 0,
  }

  const token = async (seen: Seen): Promise<Reply> => {
    const form = new URLSearchParams(seen.body)
    const assertion = form.get('assertion') ?? ''
    if (form.get('grant_type') !== GRANT) return { status: 400, body: { error: 'unsupported_grant_type' } }
    try {
      const { payload, protectedHeader } = await jwtVerify(assertion, signing.publicKey, {
        algorithms: ['ES256'],
        issuer: ISSUER_ID,
        subject: ISSUER_ID,
        requiredClaims: ['exp', 'iat', 'jti'],
      })
      const life = Number(payload.exp) - Math.floor(Date.now() / 1000)
      if (protectedHeader.kid !== 'SIGN-1' || life > 900 || state.jtis.has(payload.jti))
        throw new Error('claims')
      state.jtis.add(payload.jti)
      state.assertions.push({
        header: { ...decodeProtectedHeader(assertion) },
        claims: { ...payload },
        raw: assertion,
      })
    } catch {
      return { status: 400, body: { error: 'invalid_grant', error_description: 'assertion' } }
    }
    const value = `eyJ.token-${++state.issued}.sig`
    state.tokens.add(value)
    return {
      status: 200,
      body: { access_token: value, token_type: 'Bearer', expires_in: 900, scope: 'd1-api:card:full' },
    }
  }

  const card = async (seen: Seen): Promise<Reply> => {
    const bearer = /^Bearer (.+)$/.exec(seen.headers.authorization ?? '')?.[1]
    if (bearer === undefined || !state.tokens.has(bearer)) return { status: 401, body: { error: 'token' } }
    const path =
      /^\/banking\/v2\/issuers\/is_tbank01\/cards(?:\/([\w-]+)(\/operations:(?:renew|replace|delete))?)?$/
    const [whole, cardId, operation] = path.exec(seen.path) ?? []
    if (whole === undefined) return { status: 404 }
    if (cardId === undefined) return { status: 201, body: { cardId: 'card-new' } }
    if (operation !== undefined) return { status: 204 }
    if (seen.method !== 'PUT') return { status: 405 }
    const { encryptedData }: { encryptedData: string } = JSON.parse(seen.body)
    const { plaintext } = await compactDecrypt(encryptedData, agreement.privateKey as CryptoKey)
    state.registered.set(cardId, new TextDecoder().decode(plaintext))
    return { status: 200, body: { cardId, state: 'ACTIVE' } }
  }

  const server = createServer(
    { ...ca.issue('localhost', 'serverAuth'), ca: ca.ca, requestCert: true, rejectUnauthorized: true },
    (request, response) => {
      void serve(request, response)
    },
  )
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk)
    } catch {
      return
    }
    const path = request.url ?? ''
    const isToken = path === '/authz/v1/oauth2/token'
    const seen: Seen = {
      method: request.method ?? '',
      path,
      headers: request.headers,
      body: Buffer.concat(chunks).toString('utf8'),
      client: (request.socket as TLSSocket).getPeerCertificate().subject?.CN?.toString() ?? '',
    }
    ;(isToken ? state.tokenRequests : state.cardRequests).push(seen)
    const scripted = (isToken ? state.tokenReplies : state.cardReplies).shift()
    const reply = scripted ?? (await (isToken ? token(seen) : card(seen)))
    if (typeof reply === 'function') return reply(response, request)
    const { status, body, headers = {} } = reply
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body))
  }
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const origin = `https://localhost:${(server.address() as AddressInfo).port}`
  const { x = '', y = '' } = await exportJWK(agreement.publicKey)

  return {
    ...state,
    origin,
    urls: { api: `${origin}/banking`, auth: `${origin}/authz/v1` },
    ca: ca.ca,
    client: ca.issue('the-issuer', 'clientAuth'),
    issue: name => ca.issue(name, 'clientAuth'),
    stranger: testCa('Another CA').issue('a-stranger', 'clientAuth'),
    signer: softwareSigner({ kid: 'SIGN-1', privateKey: signingJwk }),
    signingKey: signingJwk.d ?? '',
    publicJwk: { kty: 'EC', crv: 'P-256', x, y, kid: 'D1-JWE-1' },
    revoke: () => state.tokens.clear(),
    reset: () => {
      for (const list of [state.tokenRequests, state.cardRequests, state.assertions]) list.length = 0
      for (const list of [state.tokenReplies, state.cardReplies]) list.length = 0
      state.registered.clear()
    },
    close: () => stop(server),
  }
}

function stop(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise(resolve => server.close(() => resolve()))
}
