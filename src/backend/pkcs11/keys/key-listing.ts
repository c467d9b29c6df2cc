/**
 * What a token shows of the keys in it: all of them, told apart by whatever it gives away, for a list, and to find the one
 * value that is there under two names.
 */
import { equalBytes, toHex } from '../../../base/bytes.js'
import { KeyError } from '../../../base/errors.js'
import type { CheckValue } from '../../../key/check-value.js'
import type { KeyPeriod } from '../../../key/period.js'
import { isKeyUsage, type KeyMode, type KeyUsage, secondUse, USAGES, usualMode } from '../../../key/usage.js'
import { isTdea, type KeyAlgorithm } from '../../../primitives/algorithms.js'
import { type P256PublicJwk, pointOfChecked } from '../../../primitives/p256.js'
import type { FoundKey, KeyIdentity } from '../../driver.js'
import type { ObjectHandle, Station, Template } from '../binding/binding.js'
import { CKA, CKO } from '../binding/constants.js'
import { findObjects, readAttribute, readText } from '../mechanisms/objects.js'
import { derOfPoint } from '../mechanisms/p256.js'
import type { Plan } from '../mechanisms/plan.js'
import { SECRET_BITS } from '../mechanisms/templates.js'
import { algorithmOf, originOf, periodOf, shownBits } from './key-checks.js'
import type { KeyObjects, NewKey } from './key-making.js'
import type { Candidate, KeyTable } from './key-table.js'
import { chainId, chainLabel, readKeyId } from './roles.js'

/** One line of {@link KeyStore.listKeys}. */
export interface ListedKey extends KeyPeriod {
  readonly kid: string
  readonly id: string
  readonly usage: KeyUsage | undefined
  /** The widest mode that it can be bound in; undefined where it was not made here. */
  readonly mode: KeyMode | undefined
  /** Undefined for a key type this library does not use. */
  readonly algorithm: KeyAlgorithm | undefined
  /** Undefined where the key cannot be bound as it is; `problem` says why. */
  readonly checkValue: CheckValue | undefined
  /** The code and message of the error that binding it would give. */
  readonly problem: string | undefined
  /**
   * What the token says of its past: made inside and never outside, or brought in. Not every token says the truth; see
   * the vendor's notes in `capabilities()`.
   */
  readonly origin: 'generated' | 'brought-in' | 'unknown'
}

/** More than any token holds. */
export const MAX_LISTED = 100_000

const USAGE_NAMES = Object.keys(USAGES).filter(isKeyUsage)

/** A key that has just been made, as it was found afterwards. */
type NewlyFound = Pick<NewKey, 'kid' | 'usage' | 'algorithm'> &
  Pick<FoundKey<unknown>, 'publicJwk'> & { readonly identity: KeyIdentity }

/** Those that are keys by themselves: the K1 of a composed retail MAC is a part of one. */
export function ownKeys(station: Station): Candidate[] {
  const keys = allKeys(station)
  const chains = new Set(
    keys.flatMap(({ label, id }) => {
      // Of a key without a label only the CKA_ID is known again.
      const name = label === undefined ? '' : chainLabel(label)
      return id === undefined ? [] : [nameOf(name, chainId(id))]
    }),
  )
  return keys.filter(
    ({ label, id }) => id === undefined || !['', label ?? ''].some(name => chains.has(nameOf(name, id))),
  )
}

/** One key, one usage: `ERR_KEY_USAGE` where the value is in the token for another purpose, as far as it shows. */
export function requireNoTwin(
  station: Station,
  table: KeyTable,
  { kid, usage, algorithm, publicJwk, identity }: NewlyFound,
  objects: KeyObjects,
): void {
  const others =
    publicJwk === undefined
      ? allKeys(station).filter(other =>
          haveOneValue(station, table, { algorithm, values: identity.checkValues }, other),
        )
      : publicKeysAt(station, publicJwk)
  for (const { object, label, id } of others) {
    if (objects.some(own => equalBytes(own, object))) continue
    const tag = readKeyId(id)
    if (tag === undefined || USAGES[tag.usage].x9143 === USAGES[usage].x9143) continue
    const fact = `its value is in the token as ${label ?? 'a key without a label'}, for ${tag.usage}`
    throw secondUse(kid, fact)
  }
}

/** Whether another secret key has one of these check values, by whichever method the token makes for it. */
function haveOneValue(
  station: Station,
  table: KeyTable,
  { algorithm, values }: { readonly algorithm: KeyAlgorithm; readonly values: readonly CheckValue[] },
  { object, objectClass, id }: Candidate,
): boolean {
  if (objectClass !== CKO.SECRET_KEY) return false
  const other = knownAlgorithm(station, object, readKeyId(id)?.algorithm)
  if (other === undefined || isTdea(other) !== isTdea(algorithm)) return false
  const can = shownBits(station, object, SECRET_BITS)
  const checks = table.checksOf(station, {
    handles: { key: object, chain: undefined, can },
    algorithm: other,
  })
  return checks.some(one =>
    values.some(({ method, value }) => method === one.value.method && value === one.value.value),
  )
}

/** Undefined for a key of a type that this library does not use. */
function knownAlgorithm(
  station: Station,
  object: ObjectHandle,
  stated: KeyAlgorithm | undefined,
): KeyAlgorithm | undefined {
  try {
    return algorithmOf(station, '', object, stated)
  } catch (error) {
    if (error instanceof KeyError) return undefined
    throw error
  }
}

/** The public objects with this point: each has label and CKA_ID of its private key. */
function publicKeysAt({ binding, session }: Station, jwk: P256PublicJwk): Candidate[] {
  const objectClass = CKO.PUBLIC_KEY
  const template: Template = [
    [CKA.TOKEN, true],
    [CKA.CLASS, objectClass],
    [CKA.EC_POINT, derOfPoint(pointOfChecked(jwk))],
  ]
  return findObjects(binding, session, template, MAX_LISTED).map(object => ({
    object,
    objectClass,
    label: readText(binding, session, object, CKA.LABEL),
    id: readAttribute(binding, session, object, CKA.ID),
  }))
}

/** One line of the list. A key from elsewhere is shown under the first usage it could be bound for. */
export function describe(
  station: Station,
  { table, plan, key }: { readonly table: KeyTable; readonly plan: Plan; readonly key: Candidate },
): ListedKey {
  const kid = key.label ?? ''
  const tag = readKeyId(key.id)
  const usages = tag === undefined ? USAGE_NAMES : [tag.usage]
  const id = key.id === undefined ? '' : toHex(key.id)
  const known = { kid, id, usage: tag?.usage, mode: tag?.mode }
  const origin = originOf(station, key.object)
  const period = periodOf(station, key.object, plan)
  let problem: string | undefined
  for (const usage of usages) {
    try {
      const mode = tag?.mode ?? usualMode(usage)
      const query = {
        kid,
        usage,
        mode,
        algorithm: undefined,
        hostDecipher: false,
        checkValueMethod: undefined,
      }
      const { algorithm, checkValue } = table.examine(station, query, key)
      return { ...known, ...period, algorithm, checkValue, problem: undefined, origin }
    } catch (error) {
      if (!(error instanceof KeyError)) throw error
      problem ??= `${error.code}: ${error.message}`
    }
  }
  return { ...known, ...period, algorithm: undefined, checkValue: undefined, problem, origin }
}

/** Every secret and private key of the token, each read once. */
function allKeys(station: Station): Candidate[] {
  const { binding, session } = station
  return [CKO.SECRET_KEY, CKO.PRIVATE_KEY].flatMap(objectClass =>
    findObjects(
      binding,
      session,
      [
        [CKA.TOKEN, true],
        [CKA.CLASS, objectClass],
      ],
      MAX_LISTED,
    ).map(object => ({
      object,
      objectClass,
      label: readText(binding, session, object, CKA.LABEL),
      id: readAttribute(binding, session, object, CKA.ID),
    })),
  )
}

function nameOf(label: string, id: Uint8Array): string {
  return `${label}\0${toHex(id)}`
}
