/**
 * The verbs for PINs, MACs, JWE and SECCOS, the port to where keys live, and the errors. No native code.
 *
 * @module issuer-pin-crypto
 */
export type { Backend, BindSpec, KeyUse, OpenerOptions } from './backend/backend.js'
export type {
  BackendDriver,
  Capabilities,
  ContentKeyRequest,
  FoundKey,
  Health,
  KeyDerivation,
  KeyIdentity,
  KeyQuery,
  MacPlan,
  MacRequest,
  MaybePromise,
} from './backend/driver.js'
export { openBackend } from './backend/front.js'
export type { Key, KeyFacts } from './backend/key.js'
export { type OperationLimitOptions, type OperationRate, operationLimit } from './backend/opener.js'
export type { CallOptions } from './base/arguments.js'
export {
  AbortedError,
  ArgumentError,
  BackendError,
  ChangeCounterError,
  type ChangeCounterReason,
  type CodedError,
  D1ClientError,
  type D1Delivery,
  type D1Failure,
  D1MessageError,
  DataSetError,
  type ErrorCode,
  InputError,
  IssuerPinError,
  isIssuerPinError,
  JweError,
  KeyBlockError,
  KeyError,
  PinBlockError,
  PinPolicyError,
  type PinPolicyReason,
  ProfileError,
  PrwMacError,
  TranslationError,
} from './base/errors.js'
export type { JweHeader } from './jwe/header.js'
export { type OpenedJwe, type OpenRequest, openJwe } from './jwe/open.js'
export { importRecipient, type P256Recipient, type PublicJwkLike } from './jwe/recipient.js'
export { type SealRequest, sealJwe } from './jwe/seal.js'
export type { CheckValue, CheckValueMethod } from './key/check-value.js'
export type { Ibm3624Rule, PinValueRule, PvvRule } from './key/pin-value.js'
export type { KeyMode, KeyOperation, KeyPurpose, KeyUsage, UsageRule } from './key/usage.js'
export { USAGES } from './key/usage.js'
export {
  type ClearKeyFacts,
  type KeyCheckValueInput,
  keyCheckValue,
  type ParityRule,
  type SymmetricAlgorithm,
} from './key-block/clear-key.js'
export {
  type CombineComponentsInput,
  type CombinedKey,
  combineComponents,
  type KeyComponent,
  type SplitKey,
  type SplitKeyInput,
  splitKey,
} from './key-block/components.js'
export {
  type Exportability,
  type KeyBlockHeader,
  type KeyBlockVersion,
  type OptionalBlock,
  readKeyBlockHeader,
} from './key-block/header.js'
export {
  type OpenedKeyBlock,
  type OpenKeyBlockInput,
  openKeyBlock,
} from './key-block/key-block.js'
export {
  type SealedKeyBlock,
  type SealKeyBlockInput,
  sealKeyBlock,
  type TranslateKeyBlockInput,
  translateKeyBlock,
} from './key-block/seal.js'
export { type GenerateMacInput, generateMac, type VerifyMacInput, verifyMac } from './mac/mac.js'
export { type DecipherPinInput, decipherPin } from './pin/decipher.js'
export { type EncipherPinInput, type EncipherPinsInput, encipherPin, encipherPins } from './pin/encipher.js'
export {
  type BuildFormat0Input,
  buildFormat0,
  checkFormat0,
  type ParseFormat0Input,
  parseFormat0,
} from './pin/formats/format0.js'
export type { PinBlockFormat, SupportedFormat } from './pin/formats/formats.js'
export type { PinComparison, PinRule, PinVerification } from './pin/formats/verification.js'
export {
  type GeneratePinBlockInput,
  type GeneratePinInput,
  generatePin,
  generatePinBlock,
} from './pin/generate.js'
export {
  type JudgePinInput,
  judgePin,
  type PinPolicy,
  type PinPolicyOptions,
  type PinVerdict,
  pinPolicy,
  type WeakPinRule,
} from './pin/pin-policy.js'
export {
  type GeneratePinValueInput,
  generateOffset,
  generatePvv,
  type NaturalPinInput,
  naturalPin,
} from './pin/pin-value.js'
export { TRANSLATIONS } from './pin/policy.js'
export {
  type ReencipherPinBlockInput,
  type RePanPinBlockInput,
  reencipherPinBlock,
  rePanPinBlock,
  type TranslatedBlock,
  type TranslatePinBlockInput,
  type TranslatePinBlocksInput,
  type TranslationWay,
  translatePinBlock,
  translatePinBlocks,
} from './pin/translate.js'
export { type PinReference, type VerifyPinBlockInput, verifyPinBlock } from './pin/verify.js'
export type { SealedContent } from './primitives/a256gcm.js'
export type {
  Encipherment,
  KeyAlgorithm,
  MacAlgorithm,
  MacPadding,
  MacParameters,
} from './primitives/algorithms.js'
export type { P256PublicJwk } from './primitives/p256.js'
export { Pan } from './primitives/pan.js'
export { Pin } from './primitives/pin.js'
export type { KeyParity } from './primitives/tdea.js'
export type { PurgeInput, SupersedeAllInput, SupersedeInput } from './seccos/counter/counter.js'
export {
  type Acceptance,
  type Accepted,
  ChangeCounter,
  type IssuedCounter,
} from './seccos/counter/counter.js'
export type {
  AcceptRequest,
  ChangeCounterOptions,
  PccRule,
  PccWrap,
} from './seccos/counter/state.js'
export { requestFingerprint } from './seccos/counter/state.js'
export type {
  ChangeCounterStore,
  ClaimRecord,
  KeyPage,
  RecordWrite,
  StoredRecord,
  WriteOptions,
} from './seccos/counter/store.js'
export { memoryStore } from './seccos/counter/store.js'
export {
  type CountedTry,
  type TriedVerdict,
  type TriesOf,
  TryCounter,
  type TryCounterOptions,
  type TryEvent,
  type TryRule,
} from './seccos/counter/tries.js'
export {
  type BuildDataSetInput,
  buildDataSet,
  type DataSetContent,
  dataSetFromHex,
  dataSetToHex,
  type MaskedDataSet,
  maskDataSet,
  readDataSet,
  requireMasked,
  type UnmaskDataSetInput,
  unmaskDataSet,
} from './seccos/data-set.js'
export type { DataSetValues } from './seccos/field-value.js'
export {
  neededToVerify,
  type ProfileRemark,
  remarksOn,
  uncoveredBy,
  type VerificationNeeds,
} from './seccos/profile/coverage.js'
export { parseProfile } from './seccos/profile/parse.js'
export type {
  DerivationStep,
  Digest,
  ExternalValue,
  FormedInput,
  Mask,
  OutputStep,
  Part,
  ReservedField,
} from './seccos/profile/profile.js'
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
} from './seccos/profile/profile.js'
export {
  type ComputedPrw,
  type ComputePrwInput,
  computePrw,
  type GeneratedPrwMac,
  generatePrwMac,
  type PrwMacInput,
  type PrwMacVerdict,
  type PrwVerdict,
  type VerifyPrwInput,
  type VerifyPrwMacInput,
  verifyPrw,
  verifyPrwMac,
} from './seccos/prw.js'
