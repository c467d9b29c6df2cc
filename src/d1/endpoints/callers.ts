/** Who may call the PIN operations. */
import type { Facts } from './audit.js'
import type { TokenVerifier } from './interfaces.js'
import { Refusal, supplied } from './refusal.js'

/**
 * How D1 shows that it is D1. D1's pages disagree on whether it uses tokens, so there is no default:
 * - `mtls-only`: whoever got through the TLS layer may call. That layer must require a client certificate, and know
 *   whose.
 * - `bearer`: an `Authorization: Bearer` header as well, which the verifier judges.
 */
export type Authorization = 'mtls-only' | { readonly bearer: TokenVerifier }

/** Longer ones are refused unread. */
const MAX_TOKEN = 8192
/** RFC 6750, 2.1. The name of a scheme is the same in any case (RFC 9110, 11.1). */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i
const SUBJECT = /^[\x21-\x7e]{1,64}$/
const REASON = /^[A-Za-z0-9_.-]{1,64}$/

/** Refuses with 401, and one body for every reason, what has no good token; with 500 where nobody can tell. */
export async function authorize(
  authorization: Authorization,
  headers: Headers,
  signal: AbortSignal,
  facts: Facts,
): Promise<void> {
  if (authorization === 'mtls-only') return
  const token = bearerToken(headers.get('authorization'))
  if (token === undefined) throw new Refusal('token-missing')
  const verdict = await supplied('verifier-failed', () => authorization.bearer.verify(token, { signal }))
  if (verdict.verified !== true) {
    const { reason } = verdict
    throw new Refusal('token-invalid', REASON.test(reason) ? { detail: reason } : undefined)
  }
  if (verdict.subject !== undefined && SUBJECT.test(verdict.subject)) facts.caller = verdict.subject
}

/** The token of an Authorization header. Two such headers reach us as one with a comma, which no token has. */
function bearerToken(header: string | null): string | undefined {
  if (header === null || header.length > MAX_TOKEN) return undefined
  return BEARER.exec(header)?.[1]
}
