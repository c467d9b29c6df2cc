/**
 * From a kid to a key in the token, with everything checked that the token shows of it; and the handles, which are
 * kept, for a search costs a thousand times what an operation costs.
 *
 * A handle is not an identity: it is good while the module stays initialised and the object lives. When it goes stale
 * the key is searched again and must show the check value it was bound with: another key under the same label is an
 * error, never a silent switch. Where two keys answer to a name, a check value that is known decides between them.
 */
import { equalBytes, secretBytes, toHex } from '../../../base/bytes.js'
import { KeyError } from '../../../base/errors.js'
import { type CheckValue, readCheckValue, requireCheckValue, thumbprintOf } from '../../../key/check-value.js'
import type { KeyPeriod } from '../../../key/period.js'
import { isWithin, type KeyMode, type KeyUsage, refusedUse, USAGES, unfit } from '../../../key/usage.js'
import type { KeyAlgorithm } from '../../../primitives/algorithms.js'
import { jwkOfPoint, type P256PublicJwk } from '../../../primitives/p256.js'
import type { FoundKey, KeyIdentity, KeyQuery } from '../../driver.js'
import type { ObjectHandle, Station, Template } from '../binding/binding.js'
import { CKA, CKO } from '../binding/constants.js'
import { requireClosed } from '../mechanisms/cipher.js'
import { derivationMeans } from '../mechanisms/derivation.js'
import { findObjects, type KeyHandles, readAttribute, readNumber, readText } from '../mechanisms/objects.js'
import { isPair, pointOf } from '../mechanisms/p256.js'
import type { Plan } from '../mechanisms/plan.js'
import { PRIVATE_BITS, type RoleBit, SECRET_BITS } from '../mechanisms/templates.js'
import {
  algorithmOf,
  ambiguous,
  attributesError,
  type Checked,
  MAX_OBJECTS,
  type Policy,
  periodOf,
  requireInside,
  requireOneLogin,
  requireRole,
  tokenCheckValue,
  tokenCheckValues,
} from './key-checks.js'
import { chainId, chainLabel, isChain, macsOf, readKeyId, roleOf } from './roles.js'

/** Which object a kid names, where it is not simply the label, or where the label alone is not enough. */
export interface KeyLocation {
  /** CKA_LABEL; where neither it nor `id` is given, the kid. */
  readonly label?: string
  /** CKA_ID in hex. */
  readonly id?: string
}

/** A bound key, as plain data: enough to find it again and to know it again. */
export interface KeyRef {
  readonly kid: string
  readonly usage: KeyUsage
  readonly mode: KeyMode
  readonly algorithm: KeyAlgorithm
  readonly hostDecipher: boolean
  readonly checkValue: CheckValue
  /** All that the token gives of its check values, hashed: by this the key is known again. Of a P-256 key `checkValue` is all. */
  readonly prints: readonly string[]
  /** Check value of the K1 object of a composed retail MAC. */
  readonly chainCheckValue: CheckValue | undefined
  readonly chainPrints: readonly string[]
  /** All of the above as one string, under which the handles are kept. */
  readonly name: string
}

interface Resolved {
  readonly handles: KeyHandles
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly chain: Checked | undefined
  readonly publicJwk: P256PublicJwk | undefined
  readonly period: KeyPeriod
}

/** A key object, and what it is called in the token. */
export interface Candidate {
  readonly object: ObjectHandle
  readonly objectClass: number
  readonly label: string | undefined
  readonly id: Uint8Array | undefined
}

/** The keys of one token, for as long as its module stays initialised. */
/** A key of a token, and what it is known by there. */
export interface FoundTokenKey extends FoundKey<KeyRef> {
  readonly identity: KeyIdentity
}

export class KeyTable {
  readonly #plan: Plan
  readonly #policy: Policy
  readonly #locations: ReadonlyMap<string, KeyLocation>
  readonly #handles = new Map<string, KeyHandles>()

  constructor(plan: Plan, policy: Policy, locations: ReadonlyMap<string, KeyLocation>) {
    this.#plan = plan
    this.#policy = policy
    this.#locations = locations
  }

  /** Searches and checks a key; always afresh. Errors: as `BackendDriver.find`. */
  find(station: Station, query: KeyQuery): FoundTokenKey {
    const resolved = this.#only(query.kid, this.#resolveAll(station, query, query.expected))
    const checks = this.checksOf(station, resolved)
    return { ...this.#keep(query, resolved, checks), identity: identityOf(station, resolved, checks) }
  }

  /** Its check values by every method that the token makes for it. */
  checksOf(
    station: Station,
    { handles: { key: object, can }, algorithm }: Pick<Resolved, 'handles' | 'algorithm'>,
  ): readonly Checked[] {
    if (algorithm === 'ec-p256') return []
    return tokenCheckValues(station, this.#plan, { kid: '', object, algorithm, can })
  }

  /** Checks an object that has been found already. Errors: as `find`. */
  examine(
    station: Station,
    query: KeyQuery,
    candidate: Candidate,
  ): Pick<FoundKey<KeyRef>, 'algorithm' | 'checkValue'> {
    return this.#resolve(station, query, candidate)
  }

  /** The handles of a bound key; after {@link forget}, searched anew. Errors: as `find`, `ERR_KEY_CHECK_VALUE`. */
  handles(station: Station, ref: KeyRef): KeyHandles {
    const known = this.#handles.get(ref.name)
    if (known !== undefined) return known
    const { kid, usage, mode, algorithm, hostDecipher, checkValue, prints, chainCheckValue, chainPrints } =
      ref
    const query = {
      kid,
      usage,
      mode,
      algorithm,
      hostDecipher,
      checkValueMethod: checkValue.method,
      expected: checkValue,
    }
    const found = this.#only(kid, this.#resolveAll(station, query, checkValue, prints))
    requireCheckValue(kid, checkValue, found.checkValue)
    requireSamePrints(kid, prints, this.checksOf(station, found))
    requireSameChain(kid, chainCheckValue, found.chain?.value)
    requireSamePrints(kid, chainPrints, found.chain === undefined ? [] : [found.chain])
    this.#handles.set(ref.name, found.handles)
    return found.handles
  }

  /** Forgets all handles: one that is stale says that time has passed for the others too. */
  forget(): void {
    this.#handles.clear()
  }

  /**
   * The keys among these that are no longer there, or no longer the same: kid and error code. A stale handle is an error
   * here as everywhere; after {@link forget} the keys are searched anew. Keys that somebody may modify are judged anew, too.
   */
  missing(station: Station, refs: readonly KeyRef[]): string[] {
    return refs.flatMap(ref => {
      try {
        const { key } = this.handles(station, ref)
        readNumber(station.binding, station.session, key, CKA.CLASS)
        if (this.#policy.accept.includes('modifiable')) this.#judge(station, ref, key)
        return []
      } catch (error) {
        if (!(error instanceof KeyError)) throw error
        return [`${ref.kid} (${error.code})`]
      }
    })
  }

  #keep(
    { kid, usage, mode, hostDecipher }: KeyQuery,
    resolved: Resolved,
    checks: readonly Checked[],
  ): FoundKey<KeyRef> {
    const { handles, algorithm, checkValue, chain, publicJwk, period } = resolved
    const prints = checks.map(({ print }) => print)
    const chained = { chainCheckValue: chain?.value, chainPrints: chain === undefined ? [] : [chain.print] }
    const known = { kid, usage, mode, algorithm, hostDecipher, checkValue, prints, ...chained }
    const name = JSON.stringify(Object.values(known))
    const ref: KeyRef = { ...known, name }
    this.#handles.set(name, handles)
    const facts = { ref, algorithm, checkValue, parity: 'unknown', ...period } as const
    return publicJwk === undefined ? facts : { ...facts, publicJwk }
  }

  #only(kid: string, found: readonly Resolved[]): Resolved {
    const [one, second] = found
    if (one === undefined) throw new KeyError('ERR_KEY_NOT_FOUND', `key ${kid} is not in this token`, kid)
    if (second !== undefined) throw ambiguous(kid)
    return one
  }

  /**
   * The keys by that name which hold. Of several, the one with the expected check value is meant, and the others need not
   * hold; where none has it, or none is expected, there is no telling.
   */
  #resolveAll(
    station: Station,
    query: KeyQuery,
    expected: string | CheckValue | undefined,
    prints: readonly string[] = [],
  ): readonly Resolved[] {
    const candidates = this.#candidates(station, query.kid)
    const [first, second] = candidates
    if (first === undefined) return []
    if (second === undefined) return [this.#resolve(station, query, first)]
    if (expected === undefined) throw ambiguous(query.kid)
    const matching = candidates.flatMap(candidate => {
      try {
        const resolved = this.#resolve(station, query, candidate)
        const isExpected = isSame(readCheckValue(expected, resolved.algorithm), resolved.checkValue)
        return isExpected && hasAll(prints, this.checksOf(station, resolved)) ? [resolved] : []
      } catch (error) {
        if (error instanceof KeyError) return []
        throw error
      }
    })
    if (matching.length === 0) throw ambiguous(query.kid)
    return matching
  }

  /** The secret and private keys by the name of a kid. */
  #candidates({ binding, session }: Station, kid: string): Candidate[] {
    return findObjects(binding, session, this.#nameOf(kid), MAX_OBJECTS).flatMap(object => {
      const objectClass = readNumber(binding, session, object, CKA.CLASS)
      if (objectClass !== CKO.SECRET_KEY && objectClass !== CKO.PRIVATE_KEY) return []
      const id = readAttribute(binding, session, object, CKA.ID)
      return [{ object, objectClass, label: readText(binding, session, object, CKA.LABEL), id }]
    })
  }

  #nameOf(kid: string): Template {
    const { label, id } = this.#locations.get(kid) ?? {}
    return [
      [CKA.TOKEN, true],
      [CKA.LABEL, label ?? (id === undefined ? kid : undefined)],
      [CKA.ID, id === undefined ? undefined : Buffer.from(id, 'hex')],
    ]
  }

  #resolve(station: Station, query: KeyQuery, candidate: Candidate): Resolved {
    const { kid, usage, mode } = query
    const { object, objectClass, id } = candidate
    const isPrivate = objectClass === CKO.PRIVATE_KEY
    if (isPrivate !== USAGES[usage].algorithms.includes('ec-p256')) {
      throw unfit(kid, `it is a ${isPrivate ? 'private' : 'secret'} key, not for ${usage}`)
    }
    const tag = readKeyId(id)
    if (tag !== undefined && tag.usage !== usage) throw refusedUse({ kid, ...tag }, `binding it for ${usage}`)
    if (tag !== undefined && !isWithin(mode, tag.mode)) {
      throw refusedUse({ kid, ...tag }, `binding it in mode ${mode}`)
    }
    if (isChain(candidate)) throw unfit(kid, 'it is K1 of a composed retail MAC, a part of another key')
    const algorithm = algorithmOf(station, kid, object, tag?.algorithm)
    if (!USAGES[usage].algorithms.includes(algorithm)) {
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid}: ${usage} does not admit ${algorithm}`, kid)
    }
    const can = this.#judge(station, { kid, usage, mode, algorithm }, object)
    return isPrivate
      ? this.#resolvePair(station, query, candidate, can)
      : this.#resolveSecret(station, query, candidate, algorithm, can)
  }

  /** What it shows of itself: that it is inside and as it must be, and does nothing but what it is for. */
  #judge(
    station: Station,
    { kid, usage, mode, algorithm }: Pick<KeyRef, 'kid' | 'usage' | 'mode' | 'algorithm'>,
    object: ObjectHandle,
  ): ReadonlySet<RoleBit> {
    const isPrivate = algorithm === 'ec-p256'
    requireInside(station, kid, object, this.#policy)
    const of = isPrivate ? PRIVATE_BITS : SECRET_BITS
    const role = roleOf(this.#plan, usage, mode, algorithm)
    const can = requireRole(station, kid, object, role, { of, what: usage, policy: this.#policy })
    if (!isPrivate && can.has('DERIVE') && can.size > 1) {
      throw unfit(kid, 'others are derived from it (CKA_DERIVE), so it must do nothing else itself')
    }
    return can
  }

  #resolvePair(station: Station, query: KeyQuery, candidate: Candidate, can: ReadonlySet<RoleBit>): Resolved {
    requireOneLogin(station, query.kid, candidate.object)
    const publicJwk = this.#publicHalf(station, query, candidate)
    return {
      handles: { key: candidate.object, chain: undefined, can },
      period: periodOf(station, candidate.object, this.#plan),
      algorithm: 'ec-p256',
      checkValue: thumbprintOf(publicJwk),
      chain: undefined,
      publicJwk,
    }
  }

  #resolveSecret(
    station: Station,
    { kid, usage, hostDecipher, checkValueMethod, expected }: KeyQuery,
    candidate: Candidate,
    algorithm: KeyAlgorithm,
    can: ReadonlySet<RoleBit>,
  ): Resolved {
    const { object } = candidate
    if (hostDecipher && usage === 'pin-encryption' && !can.has('DECRYPT')) {
      throw attributesError(
        kid,
        'CKA_DECRYPT is false, and hostDecipher needs it: make the key for that, or bind it without',
      )
    }
    const { translation } = this.#plan
    if (usage === 'pin-encryption' && translation.ok && translation.by.closed && can.has('UNWRAP'))
      requireClosed(station, kid, object)
    const checked = tokenCheckValue(
      station,
      this.#plan,
      { kid, object, algorithm, can },
      checkValueMethod,
      expected,
    )
    const chain = can.has('DERIVE') ? undefined : this.#chain(station, { kid, usage, algorithm }, candidate)
    return {
      handles: { key: object, chain: chain?.object, can },
      period: periodOf(station, object, this.#plan),
      algorithm,
      checkValue: checked.value,
      chain: chain?.checked,
      publicJwk: undefined,
    }
  }

  /** The object with K1 alone, where a retail MAC under this key is composed. */
  #chain(
    station: Station,
    { kid, usage, algorithm }: Pick<KeyRef, 'kid' | 'usage' | 'algorithm'>,
    candidate: Candidate,
  ): { object: ObjectHandle; checked: Checked } | undefined {
    const { retailMac } = this.#plan
    if (!macsOf(usage, algorithm).includes('iso9797-1-alg3')) return undefined
    if (!retailMac.ok || retailMac.by.way !== 'cbc') return undefined
    const label = chainLabel(candidate.label ?? kid)
    const [object, second] =
      candidate.id === undefined
        ? []
        : findObjects(
            station.binding,
            station.session,
            [
              [CKA.TOKEN, true],
              [CKA.CLASS, CKO.SECRET_KEY],
              [CKA.LABEL, label],
              [CKA.ID, chainId(candidate.id)],
            ],
            2,
          )
    if (second !== undefined) throw ambiguous(chainLabel(kid))
    if (object === undefined) {
      // A PRW key may be for other MACs, a key may be one that others are derived from; else it is of no use without it.
      if (usage !== 'retail-mac' || derivationMeans(this.#plan, algorithm).ok) return undefined
      throw attributesError(
        kid,
        `its K1 object (label ${JSON.stringify(label)}, CKA_ID with 4B31 behind it) is missing: import the key with composedMac`,
      )
    }
    const chainKid = chainLabel(kid)
    requireInside(station, chainKid, object, this.#policy)
    const role = { needs: ['ENCRYPT'], allows: [] } as const
    const what = 'the first half of a composed retail MAC'
    const can = requireRole(station, chainKid, object, role, { of: SECRET_BITS, what, policy: this.#policy })
    const key = { kid: chainKid, object, algorithm: 'tdea-3key', can } as const
    return { object, checked: tokenCheckValue(station, this.#plan, key, 'encrypt-zero') }
  }

  /** The public key of a private key, read from the public object beside it and proven to belong to it. */
  #publicHalf(station: Station, { kid, usage }: KeyQuery, candidate: Candidate): P256PublicJwk {
    const { binding, session } = station
    const { object: privateKey, label, id } = candidate
    const template: Template = [
      [CKA.TOKEN, true],
      [CKA.CLASS, CKO.PUBLIC_KEY],
      [CKA.LABEL, label],
      [CKA.ID, label === undefined ? id : undefined],
    ]
    const found =
      label === undefined && id === undefined ? [] : findObjects(binding, session, template, MAX_OBJECTS)
    const sameId =
      found.length > 1 && id !== undefined
        ? found.filter(object => equalBytes(readAttribute(binding, session, object, CKA.ID) ?? NONE, id))
        : found
    const [object, second] = sameId
    if (object === undefined) {
      throw attributesError(
        kid,
        'there is no public key object with its label: store the public key beside it',
      )
    }
    if (second !== undefined) throw ambiguous(kid)
    const point = pointOf(readAttribute(binding, session, object, CKA.EC_POINT))
    if (point === undefined) {
      throw new KeyError('ERR_KEY_MATERIAL', `key ${kid}: its public key is no point on P-256`, kid)
    }
    if (!isPair(station, this.#plan, usage, privateKey, point)) {
      throw attributesError(kid, 'the public key object beside it belongs to another private key')
    }
    return jwkOfPoint(point)
  }
}

const NONE: Uint8Array = secretBytes(0)

/** What the object is known by beside its check value, under whatever kid. */
function identityOf(
  { binding, session }: Station,
  { handles: { key } }: Pick<Resolved, 'handles'>,
  checks: readonly Checked[],
): KeyIdentity {
  const unique = readAttribute(binding, session, key, CKA.UNIQUE_ID)
  const id = readAttribute(binding, session, key, CKA.ID)
  return {
    names: [`object ${toHex(key)}`, ...(unique === undefined ? [] : [`unique ${toHex(unique)}`])],
    ...(id !== undefined && { id: toHex(id) }),
    checkValues: checks.map(({ value }) => value),
  }
}

/** Whether a key shows each of these prints. One that shows less than the key that was bound is not taken for it. */
function hasAll(prints: readonly string[], checks: readonly Checked[]): boolean {
  return prints.every(print => checks.some(check => check.print === print))
}

/** A second key with the same three bytes is found in seconds: all that the token gives is compared. */
function requireSamePrints(kid: string, prints: readonly string[], checks: readonly Checked[]): void {
  if (hasAll(prints, checks)) return
  throw new KeyError(
    'ERR_KEY_CHECK_VALUE',
    `key ${kid}: its check value begins as that of the key that was bound, and the rest is another or is not shown any more`,
    kid,
  )
}

function requireSameChain(kid: string, was: CheckValue | undefined, is: CheckValue | undefined): void {
  if (was !== undefined && is !== undefined) requireCheckValue(kid, was, is)
  if ((was === undefined) === (is === undefined)) return
  throw new KeyError(
    'ERR_KEY_CHECK_VALUE',
    `key ${kid}: its K1 object has come or gone since it was bound`,
    kid,
  )
}

/** Whether a check value is the expected one, as far as the shorter of the two goes. */
function isSame(expected: CheckValue, found: CheckValue): boolean {
  const length = Math.min(expected.value.length, found.value.length)
  return expected.method === found.method && expected.value.slice(0, length) === found.value.slice(0, length)
}
