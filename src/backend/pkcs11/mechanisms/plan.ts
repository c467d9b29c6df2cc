/** How this token does each operation: found out by the probe, followed by the operations, shown by capabilities(). */

import { BackendError } from '../../../base/errors.js'
import { isTdea, type KeyAlgorithm } from '../../../primitives/key-algorithm.js'
import type { MacAlgorithm } from '../../../primitives/mac-algorithm.js'
import type { MacPlan } from '../../driver.js'
import type { Mechanism } from '../binding/binding.js'

/** A way to do something, or the reason why there is none: which mechanism is missing, or what must be opted in. */
export type Means<By> =
  | { readonly ok: true; readonly by: By }
  | { readonly ok: false; readonly reason: string }

/** A MAC by one mechanism, or out of CBC calls on the host's side. */
export type MacMeans =
  | { readonly way: 'sign'; readonly mechanism: Mechanism }
  | { readonly way: 'cbc'; readonly plan: Exclude<MacPlan, 'none'> }

/** Where Z stands while a content key is derived; the values of `Capabilities.keyAgreement`. */
export type KeyAgreementMeans = 'token-kdf' | 'token-digest-key' | 'token-extract'

/** What a token lets its users do with a key, as the probe has tried it on keys of its own. */
export interface Rights {
  /** A copy of a key that cannot be modified can be given wider rights. */
  readonly copyWidens: boolean
  /** The same where CKA_COPYABLE is false. */
  readonly copyOfUncopyableWidens: boolean
  /** A key that says it cannot be modified can be given wider rights. */
  readonly modifyWidens: boolean
}

export interface Plan {
  /** TDEA ECB, and by which key type a two-key bundle is held: CKK_DES2, or CKK_DES3 as K1‖K2‖K1. */
  readonly tdea: Means<{ readonly twoKeyType: number }>
  readonly cbcMac: Means<MacMeans>
  readonly retailMac: Means<MacMeans>
  readonly cmacTdea: Means<MacMeans>
  readonly cmacAes: Means<MacMeans>
  readonly keyAgreement: Means<KeyAgreementMeans>
  /** `CKM_ECDSA` with P-256. */
  readonly signing: Means<true>
  /** Re-encipherment inside the token, so many bytes at a time; `closed`: it binds what is unwrapped to a template. */
  readonly translation: Means<{ readonly chunkBytes: number; readonly closed: boolean }>
  readonly rights: Rights
  /** CKA_PRIVATE of public keys, which some tokens want true. */
  readonly publicKeysPrivate: boolean
  readonly random: Means<true>
  readonly notes: readonly string[]
}

/** Where the plan says how each MAC algorithm is made. */
export const MAC_MEANS: Readonly<
  Record<MacAlgorithm, (plan: Plan, algorithm: KeyAlgorithm) => Means<MacMeans>>
> = {
  'iso9797-1-alg1': plan => plan.cbcMac,
  'iso9797-1-alg3': plan => plan.retailMac,
  cmac: (plan, algorithm) => (isTdea(algorithm) ? plan.cmacTdea : plan.cmacAes),
}

/** The way, or `ERR_UNSUPPORTED_BY_TOKEN` with the reason why there is none. */
export function requireMeans<By>(means: Means<By>, what: string): By {
  if (means.ok) return means.by
  throw new BackendError('ERR_UNSUPPORTED_BY_TOKEN', `this token does not do ${what}: ${means.reason}`)
}

/** How a MAC shows in `capabilities()`. */
export function macPlan(...means: readonly Means<MacMeans>[]): MacPlan {
  const found = means.find(way => way.ok)
  if (found === undefined || !found.ok) return 'none'
  return found.by.way === 'sign' ? 'native' : found.by.plan
}
