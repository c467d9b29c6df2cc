/**
 * What speaks to Thales D1: the messages of the PIN calls, the issuer's HTTP endpoints, the client of the card API.
 *
 * @module issuer-pin-crypto/d1
 */

export {
  type AttributeValue,
  type AuditKey,
  type AuditRefusal,
  type D1Event,
  type KeyRole,
  otelAttributes,
} from './d1/audit.js'
export * from './d1/client/index.js'
export * from './d1/endpoints/index.js'
export type { MessageInput } from './d1/messages/fields.js'
export {
  type ChangeCounterMessage,
  changeCounterResponse,
  type GetPinInput,
  type GetPinTarget,
  getPinResponse,
} from './d1/messages/get-pin.js'
export { type PinBlockType, type PinMessage, readPinMessage } from './d1/messages/pin-block.js'
export type { Translation } from './d1/messages/set-pin.js'
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
