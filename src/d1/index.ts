export type { MessageInput } from './fields.js'
export { type GetPinInput, type GetPinTarget, getPinResponse } from './get-pin.js'
export { type PinBlockType, type PinMessage, readPinMessage } from './pin-block.js'
export {
  type OpenedSetPinRequest,
  type OpenSetPinRequestInput,
  openSetPinRequest,
  openSetPinRequestToClearPin,
  type SetPinRequestInput,
} from './set-pin.js'
export type { Translation } from './translation.js'
