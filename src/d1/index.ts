/**
 * What speaks to Thales D1: the messages of the PIN calls, the issuer's HTTP endpoints, the client of the card API.
 *
 * @module issuer-pin-crypto/d1
 */

export type { CardPinStore, CardStore, IssuerStore } from '../stores/issuer-store.js'
export { memoryIssuerStore } from '../stores/memory-store.js'
export {
  type AttributeValue,
  type AuditKey,
  type AuditRefusal,
  type D1Event,
  type KeyRole,
  otelAttributes,
} from './audit.js'
export { type ChangeCounterMessage, changeCounterResponse } from './change-counter.js'
export * from './client/index.js'
export * from './endpoints/index.js'
export type { MessageInput } from './fields.js'
export { type GetPinInput, type GetPinTarget, getPinResponse } from './get-pin.js'
export { type MakeSeccosSetPinRequestInput, makeSeccosSetPinRequest } from './make-set-pin-seccos.js'
export { type PinBlockType, type PinMessage, readPinMessage } from './pin-block.js'
export {
  type OpenedSetPinRequest,
  type OpenSetPinRequestInput,
  openSetPinRequest,
  openSetPinRequestToClearPin,
  type SetPinRequestInput,
} from './set-pin.js'
export {
  type OpenedSeccosSetPinRequest,
  type OpenSeccosSetPinRequestInput,
  openSeccosSetPinRequest,
} from './set-pin-seccos.js'
export type { Translation } from './translation.js'
