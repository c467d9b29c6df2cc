/** POST /oauth2/token: the client credentials grant (RFC 6749, 4.4), as D1's OAuth API 1.0 has it. */
import type { Answer } from './answer.js'
import { authenticate } from './basic.js'
import { FORM_BODY, readBody } from './body.js'
import type { Call } from './call.js'
import { withDeadline } from './deadline.js'
import { Refusal, supplied } from './refusal.js'
import { SCOPE, type TokenService } from './service.js'

const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Issues a token to a client that has shown its secret. Who it is, is settled before a byte of the body is read. */
export async function getToken(call: Call, { tokens, clients, scopes }: TokenService): Promise<Answer> {
  const { service, request, signal, facts } = call
  const subject = authenticate(clients, request.headers.get('authorization'))
  if (subject === undefined) throw new Refusal('client-credentials')
  facts.caller = subject
  const { clock, bodyTimeoutMs: milliseconds } = service
  const bytes = await withDeadline({ clock, milliseconds, reason: 'body-timeout', parent: signal }, inTime =>
    readBody(request, FORM_BODY, inTime),
  )
  requireGrant(readForm(bytes))
  const { token, expiresInSeconds, expiresAt } = await supplied('token-issuer-failed', () =>
    tokens.issue({ subject, scopes }),
  )
  return {
    status: 200,
    body: {
      access_token: token,
      token_type: 'Bearer',
      // A string: the published schema and its example («900») have it so, unlike RFC 6749.
      expires_in: String(expiresInSeconds),
      expires_at: new Date(expiresAt).toISOString(),
      ...(scopes.length > 0 && { scope: scopes.join(' ') }),
    },
  }
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

function requireGrant(form: ReadonlyMap<string, string>): void {
  const grantType = form.get('grant_type') ?? ''
  if (grantType === '') throw new Refusal('token-request')
  if (grantType !== 'client_credentials') throw new Refusal('grant-type')
  const scope = form.get('scope') ?? ''
  if (scope !== '' && !scope.split(' ').every(name => SCOPE.test(name))) throw new Refusal('scope')
}

function decoded(bytes: Uint8Array): string {
  try {
    return UTF_8.decode(bytes)
  } catch {
    throw new Refusal('token-request')
  }
}
