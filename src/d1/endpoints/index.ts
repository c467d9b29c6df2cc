export type { AuditEvent, AuditHook, Operation } from './audit.js'
export type { TokenClient } from './basic.js'
export type { Authorization } from './bearer.js'
export type { EndpointClock } from './deadline.js'
export { type EndpointHandler, issuerEndpoints } from './endpoints.js'
export type * from './interfaces.js'
export { answerClientError, type NodeListener, nodeListener } from './node-listener.js'
export type {
  Iso0Options,
  IssuerEndpointsOptions,
  IssuerOptions,
  SeccosOptions,
  TokenEndpointOptions,
} from './options.js'
export { type OwnTokenAlgorithm, type OwnTokens, type OwnTokensOptions, ownTokens } from './own-tokens.js'
export { type ProviderTokensOptions, providerTokens } from './provider-tokens.js'
export type { RefusalReason } from './refusal.js'
