/**
 * Tools to look and to search with: what is in a message, which profile a sample fits, profiles to explore with.
 * Nothing here belongs on the way of a production request.
 *
 * @module issuer-pin-crypto/tools
 */
export {
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from './seccos/profile/illustrative.js'
export {
  type CheckedComputation,
  type CheckedSample,
  checkProfile,
  type ProfileCheck,
  type ProfileCheckInput,
  type ProfileSample,
} from './tools/check-profile.js'
export { inspectDataSet, inspectJweHeader, inspectPinBlock } from './tools/inspect/inspect.js'
export { drawProfile } from './tools/inspect/profile-drawing.js'
export type { Layout as ProbeLayout, Place } from './tools/probe/candidates.js'
export {
  type ProbeInput,
  type ProbeReport,
  type ProbeSample,
  probeProfile,
} from './tools/probe/probe.js'
export type { ProbeMatch, ProbeOutcome } from './tools/probe/trial.js'
export type { SearchOutcome } from './tools/search/judge.js'
export {
  type KnownProfile,
  type ProfileSearch,
  type ProfileSearchInput,
  type SearchProgress,
  searchProfile,
} from './tools/search/search.js'
export type { UnknownInput } from './tools/search/tokens.js'
export type { KnownComputation } from './tools/search/ways.js'
