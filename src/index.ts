/**
 * The verbs for PINs, MACs, JWE and SECCOS, the port to where keys live, and the errors. No native code.
 *
 * @module issuer-pin-crypto
 */
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
export { inspectDataSet } from './inspect/data-set.js'
export { inspectJweHeader } from './inspect/jwe-header.js'
export { inspectPinBlock } from './inspect/pin-block.js'
export type { JweHeader } from './jwe/header.js'
export { type OpenedJwe, type OpenRequest, openJwe } from './jwe/open.js'
export { importRecipient, type P256Recipient, type PublicJwkLike } from './jwe/recipient.js'
export { type SealRequest, sealJwe } from './jwe/seal.js'
export type { CheckValue, CheckValueMethod } from './key/check-value.js'
export type { Key, KeyFacts, KeyParity, P256PublicJwk } from './key/key.js'
export type { KeyAlgorithm, KeyOperation, KeyUsage, UsageRule } from './key/usage.js'
export { USAGES } from './key/usage.js'
export type { MacAlgorithm, MacPadding, MacParameters } from './mac/algorithm.js'
export { type GenerateMacInput, generateMac } from './mac/generate.js'
export { type VerifyMacInput, verifyMac } from './mac/verify.js'
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
export {
  type Acceptance,
  type Accepted,
  ChangeCounter,
  type IssuedCounter,
} from './seccos/change-counter.js'
export type { AcceptRequest, ChangeCounterOptions } from './seccos/change-counter-input.js'
export { memoryStore } from './seccos/change-counter-memory.js'
export type { PccRule, PccWrap } from './seccos/change-counter-state.js'
export type { ChangeCounterStore, StoredRecord } from './seccos/change-counter-store.js'
export { uncoveredBy } from './seccos/coverage.js'
export {
  buildDataSet,
  type DataSetContent,
  dataSetFromHex,
  dataSetToHex,
  maskDataSet,
  readDataSet,
  requireMasked,
  unmaskDataSet,
} from './seccos/data-set.js'
export type { DataSetValues } from './seccos/field-value.js'
export { requestFingerprint } from './seccos/fingerprint.js'
export { ILLUSTRATIVE_NOT_GIROCARD_AES, ILLUSTRATIVE_NOT_GIROCARD_TDEA } from './seccos/illustrative.js'
export { parseProfile } from './seccos/parse-profile.js'
export {
  type ProbeInput,
  type ProbeReport,
  type ProbeSample,
  probeProfile,
} from './seccos/probe.js'
export type { Layout as ProbeLayout } from './seccos/probe-candidates.js'
export type { Place } from './seccos/probe-places.js'
export type { ProbeMatch, ProbeOutcome } from './seccos/probe-trial.js'
export {
  type Alignment,
  type Computation,
  type ComputationInput,
  type ConstantField,
  DATA_SET_BYTES,
  type FieldEncoding,
  type PinForm,
  type ProfileAlgorithm,
  type ProfileField,
  type ProfileMark,
  type Provenance,
  type SeccosProfile,
  type TextForm,
  type ValueField,
  type ValueForm,
} from './seccos/profile.js'
export {
  type ComputedPrw,
  type ComputePrwInput,
  computePrw,
  type PrwVerdict,
  type VerifyPrwInput,
  verifyPrw,
} from './seccos/prw.js'
export {
  type GeneratedPrwMac,
  generatePrwMac,
  type PrwMacInput,
  type PrwMacVerdict,
  type VerifyPrwMacInput,
  verifyPrwMac,
} from './seccos/prw-mac.js'
