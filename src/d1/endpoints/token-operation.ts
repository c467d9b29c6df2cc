/** POST /oauth2/token: the client credentials grant (RFC 6749, 4.4), as D1's OAuth API 1.0 has it. */

import { thumbprint } from './callers.js'
import { clientOf, readBasic } from './client-secrets.js'
import { type Answer, FORM_BODY, readBody } from './http.js'
import type { Call } from './operations.js'
import { Refusal, supplied, withDeadline } from './refusal.js'
import { SCOPE, type TokenService } from './service.js'

const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
/** Other ways to authenticate (RFC 6749, 2.3.1; RFC 7521, 4.2): one request has one. */
const OTHER_METHODS: readonly string[] = ['client_secret', 'client_assertion', 'client_assertion_type']

/** Issues a token to a client that has shown its secret. Who it is, is settled before a byte of the body is read. */
export async function getToken(call: Call, service: TokenService): Promise<Answer> {
  const { tokens, scopes, bind } = service
  const { callers } = call.service
  const presented = callers.present(call)
  callers.requireEncrypted(call.connection)
  const certificate = 'certificate' in presented ? presented.certificate : undefined
  if (bind && certificate === undefined) throw new Refusal('certificate-missing')
  const subject = await requireClient(call, service, certificate?.sha256 ?? call.facts.address ?? '')
  const asked = requireGrant(readForm(await bodyOf(call)), subject)
  const confirmation = bind ? thumbprint(certificate) : undefined
  const { token, expiresInSeconds, expiresAt } = await supplied('token-issuer-failed', () =>
    tokens.issue({ subject, scopes, ...(confirmation !== undefined && { confirmation }) }),
  )
  const granted = scopes.join(' ')
  return {
    status: 200,
    body: {
      access_token: token,
      token_type: 'Bearer',
      // A string: the published schema and its example («900») have it so, unlike RFC 6749.
      expires_in: String(expiresInSeconds),
      expires_at: new Date(expiresAt).toISOString(),
      // RFC 6749, 5.1: required where it is not what was asked for.
      ...((granted !== '' || asked !== '') && { scope: granted }),
    },
  }
}

async function requireClient({ request, signal, facts }: Call, service: TokenService, source: string) {
  const { clients, wrongSecrets } = service
  wrongSecrets.requireOpen(source)
  const given = readBasic(request.headers.get('authorization'))
  const subject = clientOf(clients, given)
  if (subject === undefined) {
    // What does not even read is no guess.
    if (given !== undefined) await wrongSecrets.wrong(source, signal)
    throw new Refusal('client-credentials')
  }
  wrongSecrets.right(source)
  facts.caller = subject
  return subject
}

function bodyOf({ service, request, signal }: Call): Promise<Uint8Array> {
  const { clock, bodyTimeoutMs: milliseconds } = service
  return withDeadline({ clock, milliseconds, reason: 'body-timeout', parent: signal }, inTime =>
    readBody(request, FORM_BODY, inTime),
  )
}

/** RFC 6749, 3.2: a parameter twice is an error, one without a value is none, an unknown one is ignored. */
function readForm(bytes: Uint8Array): ReadonlyMap<string, string> {
  const form = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(decoded(bytes))) {
    if (form.has(name)) throw new Refusal('token-request')
    form.set(name, value)
  }
  return form
}

/** The scope that is asked for; empty where none is. */
function requireGrant(form: ReadonlyMap<string, string>, clientId: string): string {
  if (OTHER_METHODS.some(name => (form.get(name) ?? '') !== '')) throw new Refusal('token-request')
  const named = form.get('client_id') ?? ''
  if (named !== '' && named !== clientId) throw new Refusal('token-request')
  const grantType = form.get('grant_type') ?? ''
  if (grantType === '') throw new Refusal('token-request')
  if (grantType !== 'client_credentials') throw new Refusal('grant-type')
  const scope = form.get('scope') ?? ''
  if (scope !== '' && !scope.split(' ').every(name => SCOPE.test(name))) throw new Refusal('scope')
  return scope
}

function decoded(bytes: Uint8Array): string {
  try {
    return UTF_8.decode(bytes)
  } catch {
    throw new Refusal('token-request')
  }
}
