/**
 * What speaks to Thales D1: the messages of the PIN calls, the issuer's HTTP endpoints, the client of the card API.
 *
 * @module issuer-pin-crypto/d1
 */

export type { Clock } from './base/deadline.js'
export {
  type AnyD1Event,
  type AttributeValue,
  type AuditKey,
  type AuditRefusal,
  type D1Event,
  type KeyRole,
  otelAttributes,
} from './d1/audit.js'
export {
  type AssertionRequest,
  type AssertionSigner,
  type BackendSignerOptions,
  backendSigner,
  makeAssertion,
  type PrivateJwkLike,
  type SoftwareSignerOptions,
  softwareSigner,
} from './d1/client/assertion.js'
export type { ClientAuditEvent, ClientAuditHook, ClientFailure, ClientOperation } from './d1/client/audit.js'
export type { BulkItem, BulkOptions, BulkOutcome, BulkProgress, BulkResult } from './d1/client/bulk.js'
export type { CardFields, OpenBody, RegisterCard } from './d1/client/card-fields.js'
export { type CardDetails, sealCardDetails } from './d1/client/card-fields.js'
export type {
  CardAnswer,
  CardCallOptions,
  ChangeCard,
  CreateCard,
  D1Cards,
  RegisterCardRequest,
} from './d1/client/cards.js'
export type { D1ClientOptions, D1KeySource } from './d1/client/client.js'
export { type D1Client, d1Client } from './d1/client/client.js'
export type { D1BaseUrls, D1Environment } from './d1/client/environment.js'
export type { D1Fetch, FetchInit, FetchResponse } from './d1/client/exchange.js'
export {
  type EgressProxy,
  type ExpiringCertificate,
  type MtlsFetch,
  type MtlsIdentity,
  type MtlsOptions,
  mtlsFetch,
  type Pem,
} from './d1/client/mtls-fetch.js'
export type { CounterErrorCode, PinBlockType, PinOperation } from './d1/contract.js'
export type { AuditEvent, AuditHook, AuditPublicKey, AuditSigner, Operation } from './d1/endpoints/audit.js'
export {
  type ChainedAuditOptions,
  type ChainVerdict,
  chainedAudit,
  verifyAuditChain,
} from './d1/endpoints/audit.js'
export {
  type MemoryRatesOptions,
  memoryRates,
  type RateLimiter,
  type RateQuery,
  type RatesOptions,
} from './d1/endpoints/bounds.js'
export type { Authorization, Caller, CallerAuthorization, CertificateRule } from './d1/endpoints/callers.js'
export { type D1KeyList, type D1PublicKeysOptions, d1PublicKeys } from './d1/endpoints/d1-keys.js'
export { type EndpointHandler, issuerEndpoints } from './d1/endpoints/endpoints.js'
export {
  type HealthOptions,
  healthEndpoints,
  type ReadinessCheck,
  readinessChecks,
} from './d1/endpoints/health.js'
export type * from './d1/endpoints/interfaces.js'
export {
  answerClientError,
  type NodeListener,
  type NodeListenerOptions,
  type NodeRequest,
  type NodeResponse,
  nodeListener,
} from './d1/endpoints/node-listener.js'
export type {
  D1PublicKey,
  Iso0Options,
  IssuerEndpointsOptions,
  IssuerOptions,
  PinPolicyOption,
  SeccosOptions,
} from './d1/endpoints/options.js'
export {
  type OwnTokenAlgorithm,
  type OwnTokens,
  type OwnTokensOptions,
  ownTokens,
} from './d1/endpoints/own-tokens.js'
export {
  type Connection,
  connectionOf,
  type EscapedPemHeaders,
  type TrustedProxy,
} from './d1/endpoints/peer.js'
export { type ProviderTokensOptions, providerTokens } from './d1/endpoints/provider-tokens.js'
export type { RefusalReason } from './d1/endpoints/refusal.js'
export type { TokenClient, TokenEndpointOptions } from './d1/endpoints/token-endpoint.js'
export {
  serverLimits,
  type WatchedServer,
  type WatchServerInput,
  watchServer,
} from './d1/endpoints/watch-server.js'
export {
  type ChangeCounterMessage,
  changeCounterResponse,
  type GetPinInput,
  type GetPinTarget,
  getPinResponse,
} from './d1/messages/get-pin.js'
export type { MessageInput } from './d1/messages/pin-block.js'
export { type PinMessage, readPinMessage } from './d1/messages/pin-block.js'
export type { StoredBlock, Translation } from './d1/messages/set-pin.js'
export {
  type OpenedSetPinRequest,
  type OpenSetPinRequestInput,
  openSetPinRequest,
  openSetPinRequestToClearPin,
  type SetPinRequestInput,
} from './d1/messages/set-pin.js'
export {
  type OpenedSeccosSetPinRequest,
  type OpenSeccosSetPinRequestInput,
  openSeccosSetPinRequest,
} from './d1/messages/set-pin-seccos.js'
export type { CardPinStore, CardStore, IssuerStore } from './stores/issuer-store.js'
export { memoryIssuerStore } from './stores/memory.js'
export {
  type ResealPansInput,
  type ResealRowsInput,
  type RotateStorageKeyInput,
  type RotationProgress,
  type RotationResult,
  resealPans,
  resealRows,
  rotateStorageKey,
} from './stores/rotate.js'
