/** The recipient of a JWE: a public P-256 key that has been checked once, for any number of messages to it. */
import { isKid } from '../base/arguments.js'
import { ownCopy } from '../base/bytes.js'
import { ArgumentError, JweError, redactInspect } from '../base/errors.js'
import { jwkOfPoint, type P256PublicJwk, pointOfJwk } from '../primitives/p256.js'

/** Members of a JWK that say what the key is for (RFC 7517, 4.2 and 4.4), and the value that admits this profile. */
const PURPOSES = [
  ['use', 'enc'],
  ['alg', 'ECDH-ES'],
] as const

/** Operations of RFC 7517, 4.3 of which one must be among `key_ops`, where there are any: what ECDH-ES does with a key. */
const OPERATIONS: readonly string[] = ['deriveKey', 'deriveBits']

/** Whether this is a recipient and no look-alike. */
let isRecipient: (value: object) => value is P256Recipient
/** For `seal.ts`: the 65-byte point of a recipient. Not exported from the package. */
export let pointOfRecipient: (recipient: P256Recipient) => Uint8Array

/** A public JWK as it comes from a file, a key set or `KeyObject.export`: what it lacks is found when it is used. */
export interface PublicJwkLike {
  readonly kty?: string
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly kid?: string
  readonly use?: string
  readonly key_ops?: readonly string[]
  readonly alg?: string
}

/**
 * A recipient's public key that has been checked, to seal any number of JWEs to; made by {@link importRecipient} only.
 *
 * @example
 * ```ts
 * const d1: P256Recipient = importRecipient(d1PublicJwk)
 * console.log(d1.kid)
 * ```
 */
export class P256Recipient {
  /** The kid of the JWK, where it had one. */
  readonly kid: string | undefined
  readonly #point: Uint8Array

  static {
    redactInspect(P256Recipient.prototype, function (this: P256Recipient) {
      return `[${this.toString()}]`
    })
    isRecipient = (value): value is P256Recipient => #point in value
    pointOfRecipient = recipient => recipient.#point
  }

  /** For {@link importRecipient}. */
  constructor(point: Uint8Array, kid: string | undefined) {
    this.#point = point
    this.kid = kid
    Object.freeze(this)
  }

  /** The public key as it was imported. */
  get publicJwk(): P256PublicJwk {
    const jwk = jwkOfPoint(this.#point)
    return this.kid === undefined ? jwk : { ...jwk, kid: this.kid }
  }

  /** The kid, for a log. */
  toString(): string {
    return `P-256 recipient ${this.kid ?? 'without kid'}`
  }
}

/**
 * Checks a public key and makes a recipient of it, so that many JWEs to it pay for the checks once.
 *
 * `jwk` is a public JWK: `kty` EC, `crv` P-256, `x` and `y` unpadded base64url of 32 bytes, on the curve; `kid` optional.
 * A JWK that says it is for something else (`use` other than `enc`, `alg` other than `ECDH-ES`, `key_ops` that name
 * neither `deriveKey` nor `deriveBits`) is refused; so is a private one, because a private key that travels as a public
 * one is an accident to stop here. An optional member, `d` too, that is `null` counts as absent: some programs write
 * what is missing so.
 *
 * Errors: `ERR_ARGUMENT` (not an object), `ERR_JWE_RECIPIENT`. Source: RFC 7517, 4; RFC 7518, 6.2.1;
 * NIST SP 800-56A Rev. 3, 5.6.2.3.3 (public key validation).
 *
 * @example
 * ```ts
 * const d1 = importRecipient({ kty: 'EC', crv: 'P-256', x, y, kid: 'D1-2026' })
 * const jwe = await sealJwe({ plaintext, recipient: d1 })
 * ```
 */
export function importRecipient(jwk: PublicJwkLike): P256Recipient {
  requireObject(jwk)
  const read = (name: string): unknown =>
    Object.hasOwn(jwk, name) ? (Reflect.get(jwk, name) ?? undefined) : undefined
  if (read('d') !== undefined) throw unusable('is a private key')
  for (const [name, purpose] of PURPOSES) {
    const value = read(name)
    if (value !== undefined && value !== purpose) throw unusable(`is for another ${name} than ${purpose}`)
  }
  if (!derives(read('key_ops'))) throw unusable('has key_ops without deriveKey and deriveBits')
  const kid = read('kid')
  if (kid !== undefined && !isKid(kid)) throw unusable('has a kid that is not 1 to 128 characters of text')
  const point = pointOfJwk(jwk)
  if (point === undefined) throw unusable('is not a P-256 public key in canonical form')
  // In memory of its own: it outlives what the point was read into.
  return new P256Recipient(ownCopy(point), kid)
}

/** True for `key_ops` of a key that agrees on others, and where there are none. */
function derives(operations: unknown): boolean {
  if (operations === undefined) return true
  if (!Array.isArray(operations)) return false
  return operations.length === 0 || operations.some(operation => OPERATIONS.includes(operation))
}

/** A recipient, imported now unless it has been; errors as {@link importRecipient}. */
export function readRecipient(given: PublicJwkLike | P256Recipient): P256Recipient {
  requireObject(given)
  return isRecipient(given) ? given : importRecipient(given)
}

/** Throws `ERR_ARGUMENT` for what is neither a JWK nor a recipient. */
function requireObject(value: unknown): asserts value is object {
  if (typeof value !== 'object' || value === null) throw new ArgumentError('recipient must be a public JWK')
}

function unusable(problem: string): JweError {
  return new JweError('ERR_JWE_RECIPIENT', `the recipient's JWK ${problem}`)
}
