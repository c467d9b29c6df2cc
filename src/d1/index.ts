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
