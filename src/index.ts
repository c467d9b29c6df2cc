export type {
  Backend,
  BindSpec,
  CallOptions,
  Capabilities,
  ContentKeyRequest,
  Health,
  MacPlan,
  MacRequest,
} from './backend/backend.js'
export type { BackendDriver, FoundKey, KeyQuery, MaybePromise } from './backend/driver.js'
export { openBackend } from './backend/front.js'
export * from './errors.js'
export type { JweHeader } from './jwe/header.js'
export { type OpenedJwe, type OpenRequest, openJwe } from './jwe/open.js'
export { importRecipient, type P256Recipient, type PublicJwkLike } from './jwe/recipient.js'
export { type SealRequest, sealJwe } from './jwe/seal.js'
export type { CheckValue, CheckValueMethod } from './key/check-value.js'
export type { Key, KeyFacts, KeyParity, P256PublicJwk } from './key/key.js'
export type { KeyAlgorithm, KeyOperation, KeyUsage, UsageRule } from './key/usage.js'
export { USAGES } from './key/usage.js'
export type { MacAlgorithm, MacPadding, MacParameters } from './mac/algorithm.js'
export * from './mac/generate.js'
export * from './mac/verify.js'
export { type DecipherPinInput, decipherPin } from './pin/decipher.js'
export { type EncipherPinInput, type EncipherPinsInput, encipherPin, encipherPins } from './pin/encipher.js'
export { buildFormat0, checkFormat0, parseFormat0 } from './pin/format0.js'
export { Pan } from './pin/pan.js'
export { Pin } from './pin/pin.js'
export { type PinBlockFormat, type SupportedFormat, TRANSLATIONS } from './pin/policy.js'
export {
  type ReencipherPinBlockInput,
  reencipherPinBlock,
  type TranslatePinBlockInput,
  translatePinBlock,
} from './pin/translate.js'
