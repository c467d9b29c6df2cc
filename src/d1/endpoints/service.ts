/** The service behind the endpoints: everything of the options, checked, and what lives as long as they do. */
import { requireOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import { auditor } from '../audit.js'
import { OUTBOUND_TOKEN_PREFIX } from '../contract.js'
import { auditEvent, type End, type Facts } from './audit.js'
import { type KnownClient, readClients } from './basic.js'
import type { Authorization } from './callers.js'
import { type EndpointClock, SYSTEM_CLOCK } from './deadline.js'
import type { TokenIssuer } from './interfaces.js'
import { KeyedMutex } from './mutex.js'
import {
  type Issuer,
  type IssuerEndpointsOptions,
  readIssuers,
  readPrefix,
  readTimeout,
  requireMethods,
  type TokenEndpointOptions,
} from './options.js'
import { type Matched, router } from './routes.js'

/** What the token endpoint works with. */
export interface TokenService {
  readonly tokens: TokenIssuer
  readonly clients: readonly KnownClient[]
  readonly scopes: readonly string[]
}

export interface Service {
  readonly issuers: ReadonlyMap<string, Issuer>
  readonly authorization: Authorization
  readonly tokens: TokenService | undefined
  readonly route: (request: Request) => Matched
  readonly audit: (facts: Facts, end: End) => void
  /** Keeps the Set PINs of one card apart. */
  readonly setPins: KeyedMutex
  readonly clock: EndpointClock
  readonly bodyTimeoutMs: number
  readonly timeoutMs: number
}

const NAMES: readonly (keyof IssuerEndpointsOptions)[] = [
  'issuers',
  'authorization',
  'tokenEndpoint',
  'audit',
  'prefix',
  'tokenPrefix',
  'bodyTimeoutMs',
  'timeoutMs',
  'clock',
]
/** RFC 6749, 3.3. */
export const SCOPE: RegExp = /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/

/** The service of some options; `ERR_ARGUMENT`, and what `importRecipient` reports. */
export function openService(options: IssuerEndpointsOptions): Service {
  requireOptions(options, 'issuerEndpoints', NAMES)
  const { authorization, tokenEndpoint, audit, clock = SYSTEM_CLOCK } = options
  if (typeof audit !== 'function') throw new ArgumentError('audit must be a function')
  requireMethods(clock, 'clock', ['now', 'after'])
  const emit = auditor(audit, 'the issuer endpoints')
  const tokens = readTokenEndpoint(tokenEndpoint, readAuthorization(authorization))
  return {
    issuers: readIssuers(options.issuers),
    authorization,
    tokens,
    route: router({
      pin: readPrefix(options.prefix ?? '', 'prefix'),
      token: tokens && readPrefix(options.tokenPrefix ?? OUTBOUND_TOKEN_PREFIX, 'tokenPrefix'),
    }),
    audit: (facts, end) => emit(() => auditEvent(facts, end), end.refusal?.cause),
    setPins: new KeyedMutex(),
    clock,
    bodyTimeoutMs: readTimeout(options.bodyTimeoutMs ?? 10_000, 'bodyTimeoutMs'),
    timeoutMs: readTimeout(options.timeoutMs ?? 30_000, 'timeoutMs'),
  }
}

function readAuthorization(authorization: Authorization): Authorization {
  if (authorization === 'mtls-only') return authorization
  requireOptions(authorization, "authorization other than 'mtls-only'", ['bearer'])
  requireMethods(authorization.bearer, 'authorization.bearer', ['verify'])
  return authorization
}

function readTokenEndpoint(
  options: TokenEndpointOptions | undefined,
  authorization: Authorization,
): TokenService | undefined {
  if (options === undefined) return undefined
  requireOptions(options, 'tokenEndpoint', ['tokens', 'clients', 'scopes'])
  if (authorization === 'mtls-only') {
    throw new ArgumentError("tokenEndpoint: tokens that nobody asks for, as authorization is 'mtls-only'")
  }
  const { tokens, clients, scopes = [] } = options
  requireMethods(tokens, 'tokenEndpoint.tokens', ['issue'])
  if (!Array.isArray(scopes) || scopes.some(scope => typeof scope !== 'string' || !SCOPE.test(scope))) {
    throw new ArgumentError('tokenEndpoint.scopes must be scope names')
  }
  return { tokens, clients: readClients(clients), scopes: [...scopes] }
}
