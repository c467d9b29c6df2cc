/**
 * From a kid to a key in the token, with everything checked that the token shows of it; and the handles, which are
 * kept, for a search costs a thousand times what an operation costs.
 *
 * A handle is not an identity: it is good while the module stays initialised and the object lives. When it goes stale
 * the key is searched again and must show the check value it was bound with: another key under the same label is an
 * error, never a silent switch.
 */

import { equalBytes } from '../../../base/bytes.js'
import { KeyError } from '../../../base/errors.js'
import { type CheckValue, requireCheckValue, thumbprintOf } from '../../../key/check-value.js'
import { isWithin, type KeyMode, type KeyUsage, USAGES } from '../../../key/usage.js'
import type { KeyAlgorithm } from '../../../primitives/key-algorithm.js'
import { jwkOfPoint, type P256PublicJwk } from '../../../primitives/p256.js'
import type { FoundKey, KeyQuery } from '../../driver.js'
import type { ObjectHandle, Station, Template } from '../binding/binding.js'
import { CKA, CKO } from '../binding/constants.js'
import { findObjects, readAttribute, readNumber } from '../mechanisms/objects.js'
import { isPair, pointOf } from '../mechanisms/p256.js'
import type { Plan } from '../mechanisms/plan.js'
import type { RoleBit } from '../mechanisms/templates.js'
import { tokenCheckValue } from './check-value.js'
import {
  algorithmOf,
  ambiguous,
  attributesError,
  MAX_OBJECTS,
  onlyKey,
  requireInside,
  requireOneLogin,
  requireRole,
  usageError,
} from './key-checks.js'
import { chainId, chainLabel, macsOf, readKeyId, roleOf } from './roles.js'

/** Which object a kid names, where it is not simply the label, or where the label alone is not enough. */
export interface KeyLocation {
  /** CKA_LABEL; the kid where absent. */
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
  /** Check value of the K1 object of a composed retail MAC. */
  readonly chainCheckValue: CheckValue | undefined
  /** All of the above as one string, under which the handles are kept. */
  readonly name: string
}

/** What an operation needs of a key. */
export interface KeyHandles {
  readonly key: ObjectHandle
  /** K1 alone, for a composed retail MAC. */
  readonly chain: ObjectHandle | undefined
  readonly can: ReadonlySet<RoleBit>
}

interface Resolved {
  readonly handles: KeyHandles
  readonly algorithm: KeyAlgorithm
  readonly checkValue: CheckValue
  readonly chainCheckValue: CheckValue | undefined
  readonly publicJwk: P256PublicJwk | undefined
}

/** The keys of one token, for as long as its module stays initialised. */
export class KeyTable {
  readonly #plan: Plan
  readonly #locations: ReadonlyMap<string, KeyLocation>
  readonly #bound = new Map<string, KeyRef>()
  readonly #handles = new Map<string, KeyHandles>()

  constructor(plan: Plan, locations: ReadonlyMap<string, KeyLocation>) {
    this.#plan = plan
    this.#locations = locations
  }

  /** Searches and checks a key; always afresh. Errors: as `BackendDriver.find`. */
  find(station: Station, query: KeyQuery): FoundKey<KeyRef> {
    const { handles, algorithm, checkValue, chainCheckValue, publicJwk } = this.#resolve(station, query)
    const { kid, usage, mode, hostDecipher } = query
    const name = JSON.stringify([kid, usage, mode, algorithm, hostDecipher, checkValue, chainCheckValue])
    const ref: KeyRef = { kid, usage, mode, algorithm, hostDecipher, checkValue, chainCheckValue, name }
    this.#handles.set(name, handles)
    this.#bound.set(name, ref)
    const facts = { ref, algorithm, checkValue, parity: 'unknown' } as const
    return publicJwk === undefined ? facts : { ...facts, publicJwk }
  }

  /** The handles of a bound key; after {@link forget}, searched anew. Errors: as `find`, `ERR_KEY_CHECK_VALUE`. */
  handles(station: Station, ref: KeyRef): KeyHandles {
    const known = this.#handles.get(ref.name)
    if (known !== undefined) return known
    const { kid, usage, mode, algorithm, hostDecipher, checkValue, chainCheckValue } = ref
    const query = { kid, usage, mode, algorithm, hostDecipher, checkValueMethod: checkValue.method }
    const found = this.#resolve(station, query)
    requireCheckValue(kid, checkValue, found.checkValue)
    if ((chainCheckValue === undefined) !== (found.chainCheckValue === undefined)) {
      throw new KeyError(
        'ERR_KEY_CHECK_VALUE',
        `key ${kid}: its K1 object has come or gone since it was bound`,
        kid,
      )
    }
    if (chainCheckValue !== undefined && found.chainCheckValue !== undefined) {
      requireCheckValue(kid, chainCheckValue, found.chainCheckValue)
    }
    this.#handles.set(ref.name, found.handles)
    return found.handles
  }

  /** Forgets all handles: one that is stale says that time has passed for the others too. */
  forget(): void {
    this.#handles.clear()
  }

  /**
   * The bound keys that are no longer there, or no longer the same: kid and error code. For `health()`. A stale handle
   * is an error here as everywhere; after {@link forget} the keys are searched anew.
   */
  missing(station: Station): string[] {
    const missing: string[] = []
    for (const ref of this.#bound.values()) {
      try {
        readNumber(station.binding, station.session, this.handles(station, ref).key, CKA.CLASS)
      } catch (error) {
        if (!(error instanceof KeyError)) throw error
        missing.push(`${ref.kid} (${error.code})`)
      }
    }
    return missing
  }

  #resolve(station: Station, query: KeyQuery): Resolved {
    const { kid, usage, mode } = query
    const { label = kid, id } = this.#locations.get(kid) ?? {}
    const byName: Template = [
      [CKA.TOKEN, true],
      [CKA.LABEL, label],
      [CKA.ID, id === undefined ? undefined : Buffer.from(id, 'hex')],
    ]
    const { object, objectClass } = onlyKey(station, kid, byName)
    const wanted = USAGES[usage].algorithms.includes('ec-p256') ? CKO.PRIVATE_KEY : CKO.SECRET_KEY
    if (objectClass !== wanted) {
      throw usageError(
        kid,
        `it is a ${objectClass === CKO.PRIVATE_KEY ? 'private' : 'secret'} key, not for ${usage}`,
      )
    }
    const keyId = readAttribute(station.binding, station.session, object, CKA.ID)
    const tag = readKeyId(keyId)
    if (tag !== undefined && tag.usage !== usage)
      throw usageError(kid, `it is for ${tag.usage}, not ${usage}`)
    if (tag !== undefined && !isWithin(mode, tag.mode))
      throw usageError(kid, `it was made for mode ${tag.mode}: bind it with that mode, not with ${mode}`)
    const algorithm = algorithmOf(station, kid, object, tag?.algorithm)
    if (!USAGES[usage].algorithms.includes(algorithm)) {
      throw new KeyError('ERR_KEY_ALGORITHM', `key ${kid}: ${usage} does not admit ${algorithm}`, kid)
    }
    requireInside(station, kid, object)
    const can = requireRole(station, kid, object, roleOf(this.#plan, usage, mode, algorithm), usage)
    if (query.hostDecipher && usage === 'pin-encryption' && !can.has('DECRYPT')) {
      throw attributesError(
        kid,
        'CKA_DECRYPT is false, and hostDecipher needs it: make the key for that, or bind it without',
      )
    }
    if (algorithm === 'ec-p256') {
      requireOneLogin(station, kid, object)
      const publicJwk = this.#publicHalf(
        station,
        query,
        object,
        [...byName, [CKA.CLASS, CKO.PUBLIC_KEY]],
        keyId,
      )
      return {
        handles: { key: object, chain: undefined, can },
        algorithm,
        checkValue: thumbprintOf(publicJwk),
        chainCheckValue: undefined,
        publicJwk,
      }
    }
    const checkValue = tokenCheckValue(
      station,
      this.#plan,
      { kid, object, algorithm, can },
      query.checkValueMethod,
    )
    const chain = this.#chain(station, kid, usage, algorithm, label, keyId)
    return {
      handles: { key: object, chain: chain?.object, can },
      algorithm,
      checkValue,
      chainCheckValue: chain?.checkValue,
      publicJwk: undefined,
    }
  }

  /** The object with K1 alone, where a retail MAC under this key is composed. */
  #chain(
    station: Station,
    kid: string,
    usage: KeyUsage,
    algorithm: KeyAlgorithm,
    label: string,
    keyId: Uint8Array | undefined,
  ): { object: ObjectHandle; checkValue: CheckValue } | undefined {
    const { retailMac } = this.#plan
    if (!macsOf(usage, algorithm).includes('iso9797-1-alg3')) return undefined
    if (!retailMac.ok || retailMac.by.way !== 'cbc') return undefined
    const template: Template = [
      [CKA.TOKEN, true],
      [CKA.CLASS, CKO.SECRET_KEY],
      [CKA.LABEL, chainLabel(label)],
      [CKA.ID, keyId && chainId(keyId)],
    ]
    const [object, second] =
      keyId === undefined ? [] : findObjects(station.binding, station.session, template, 2)
    if (second !== undefined) throw ambiguous(chainLabel(kid))
    if (object === undefined) {
      // A PRW key may be for other MACs; a retail MAC key is of no use without it.
      if (usage !== 'retail-mac') return undefined
      throw attributesError(
        kid,
        `its K1 object (label ${JSON.stringify(chainLabel(label))}, CKA_ID with 4B31 behind it) is missing: import the key with composedMac`,
      )
    }
    requireInside(station, chainLabel(kid), object)
    const role = { needs: ['ENCRYPT'], allows: [] } as const
    const can = requireRole(station, chainLabel(kid), object, role, 'the first half of a composed retail MAC')
    const key = { kid: chainLabel(kid), object, algorithm: 'tdea-3key', can } as const
    return { object, checkValue: tokenCheckValue(station, this.#plan, key, 'encrypt-zero') }
  }

  /** The public key of a private key, read from the public object beside it and proven to belong to it. */
  #publicHalf(
    station: Station,
    { kid, usage }: KeyQuery,
    privateKey: ObjectHandle,
    byName: Template,
    keyId: Uint8Array | undefined,
  ): P256PublicJwk {
    const { binding, session } = station
    const found = findObjects(binding, session, byName, MAX_OBJECTS)
    const sameId =
      found.length > 1 && keyId !== undefined
        ? found.filter(object => equalBytes(readAttribute(binding, session, object, CKA.ID) ?? NONE, keyId))
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

const NONE: Uint8Array = new Uint8Array(0)
