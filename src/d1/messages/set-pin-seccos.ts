/** Set PIN of type 3DES_SECCOS, opened: what the JWE holds, and everything that must hold before a PRW is stored. */
import { type Key, requireKeys } from '../../backend/key.js'
import { type CallOptions, readCall, readOptions } from '../../base/arguments.js'
import { withWiped } from '../../base/bytes.js'
import { ArgumentError, D1MessageError, PrwMacError } from '../../base/errors.js'
import { openChecked, requireOpeningKeys } from '../../jwe/open.js'
import { type Pan, requirePan } from '../../primitives/pan.js'
import type { ChangeCounter } from '../../seccos/counter/counter.js'
import { type AcceptRequest, fixedRequest, requestFingerprint } from '../../seccos/counter/state.js'
import { type DataSetContent, dataSetFromHex, readChecked } from '../../seccos/data-set.js'
import { neededToVerify } from '../../seccos/profile/coverage.js'
import { type ProfileMark, requireProfile, type SeccosProfile } from '../../seccos/profile/profile.js'
import { macVerdict } from '../../seccos/prw.js'
import {
  INTDATAG_CHARACTERS,
  INTDATAG_RULE,
  MAX_KID,
  MAX_MAC_VALUE,
  MAX_PRW_VALUE,
  PRW_DATA_SET,
  PRW_DATA_SET_CHARACTERS,
} from '../contract.js'
import {
  type MessageInput,
  type PinMessage,
  readMessage,
  readPinMessage,
  readString,
  type StringRule,
  selectKey,
} from './pin-block.js'

/** What {@link openSeccosSetPinRequest} takes. */
export interface OpenSeccosSetPinRequestInput {
  /** The request body: its text or bytes (parsed strictly), or the parsed object. */
  readonly body: MessageInput
  /** The card of the request's path. */
  readonly cardId: string
  /** The issuer's P-256 keys (`jwe-key-agreement`); the JWE's kid selects one. */
  readonly jweKeys: Key | readonly Key[]
  readonly profile: SeccosProfile
  /** Keys of the usage that the profile's MAC has; the message's `macKid` selects one. */
  readonly macKeys: Key | readonly Key[]
  /** The names of the PRW keys that are known here; the message's `prwKid` must be one. */
  readonly prwKids: readonly string[]
  /** Issues and accepts intdatag and PCC. */
  readonly counter: ChangeCounter
  /** The card's PAN, where the profile's MAC covers it. */
  readonly pan?: Pan
  /** The PCC that is expected; where absent, and the profile's data set holds none, the counter is asked. */
  readonly pcc?: string
  /** The issuer's id of the request's path, where the profile's MAC covers it. */
  readonly issuerId?: string
  /** Fields of the profile's own, and external values, that the MAC covers and the masked data set does not show. */
  readonly fields?: Readonly<Record<string, string | Uint8Array>>
}

/** A Set PIN request (3DES_SECCOS) whose MAC is right and whose intdatag is open: what to store. */
export interface OpenedSeccosSetPinRequest extends ProfileMark {
  readonly type: '3DES_SECCOS'
  readonly prwValue: string
  readonly prwKid: string
  /** The masked data set: 246 hex digits as received, and its 123 bytes. */
  readonly prwDataSet: string
  readonly dataSet: Uint8Array
  readonly pcc: string
  /** Only where a PIN cannot be verified without it: to be stored, too. See `neededToVerify`. */
  readonly intdatag?: string
  /** The MAC of the request, as it came. */
  readonly macValue: string
  /** Which of the keys offered verified the MAC, and which opened the JWE. */
  readonly macKid: string
  readonly jweKid: string
  /** True: this very request was accepted and stored before. */
  readonly replayed: boolean
  /** The `request` that `counter.accept` takes, together with what stores the PRW. */
  readonly acceptance: AcceptRequest
}

/**
 * Opens a Set PIN request of type 3DES_SECCOS: every field is validated, the data set must read by the profile and
 * agree with the intdatag, the counter must know the intdatag for this card and PCC, and the MAC must be right. Nothing
 * is changed: the counter moves in `counter.accept`.
 *
 * Errors: `ERR_D1_MESSAGE` (with `field`), `ERR_JWE`, `ERR_DATA_SET` (with `field`), `ERR_ENCODING`,
 * `ERR_CHANGE_COUNTER` (with `reason`), `ERR_PRW_MAC`, `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`, `ERR_ARGUMENT`,
 * `ERR_ABORTED`, and what the backend reports. They tell the operator what is wrong; answer the outside with one text.
 * Source: Outbound PIN Management API 1.0, SetPIN; the profile for everything else.
 *
 * @example
 * ```ts
 * const opened = await openSeccosSetPinRequest({ body, cardId, jweKeys, profile, macKeys, prwKids: ['PRW-1'], counter })
 * await counter.accept({
 *   request: opened.acceptance,
 *   store: ({ sequence }) => cards.storePrw(cardId, opened, sequence),
 * })
 * ```
 */
export async function openSeccosSetPinRequest(
  input: OpenSeccosSetPinRequestInput,
  options?: CallOptions,
): Promise<OpenedSeccosSetPinRequest> {
  return openSeccosChecked(readInput(input), readCall(options))
}

/** What the inner door takes: the message read, the keys as lists of keys for their purpose. */
interface CheckedSeccosRequest extends Omit<OpenSeccosSetPinRequestInput, 'body'> {
  readonly message: PinMessage
  readonly jweKeys: readonly Key[]
  readonly macKeys: readonly Key[]
}

/** The inner door of {@link openSeccosSetPinRequest}. */
export async function openSeccosChecked(
  request: CheckedSeccosRequest,
  options: CallOptions | undefined,
): Promise<OpenedSeccosSetPinRequest> {
  const { cardId, profile, counter, pan, issuerId, fields, macKeys, prwKids } = request
  const { content, jweKid } = await openContent(request, options)
  const { intdatag, prwDataSet, prwValue, prwKid, macValue, macKid } = content
  if (!prwKids.includes(prwKid)) throw new D1MessageError('prwKid', 'names no key that is known')
  const key = selectKey(macKeys, macKid, 'macKid')
  const masked = dataSetFromHex(prwDataSet)
  const dataSet = { masked, content: readChecked(profile, masked) }
  const pcc = pccIn(dataSet.content, intdatag, request.pcc) ?? (await counter.pccOf({ cardId, intdatag }))
  const acceptance = fixedRequest({ cardId, intdatag, pcc, fingerprint: requestFingerprint({ ...content }) })
  const { replayed } = await counter.check(acceptance)
  const given = { intdatag, pcc, pan, prwKid, macKid, issuerId, fields }
  const verdict = await macVerdict({ key, profile, dataSet, prwValue, macValue, given }, options)
  if (!verdict.verified) throw new PrwMacError()
  const { profile: mark, provenance } = verdict
  return {
    type: '3DES_SECCOS',
    prwValue,
    prwKid,
    prwDataSet,
    dataSet: masked,
    pcc,
    ...(neededToVerify(profile).stored.includes('intdatag') && { intdatag }),
    macValue,
    macKid,
    jweKid,
    replayed,
    acceptance,
    profile: mark,
    provenance,
  }
}

async function openContent(
  { message, jweKeys }: CheckedSeccosRequest,
  options: CallOptions | undefined,
): Promise<{ content: SeccosContent; jweKid: string }> {
  const { type, encryptedPinBlock: jwe } = message
  if (type !== '3DES_SECCOS') throw new D1MessageError('type', 'must be 3DES_SECCOS here')
  const { plaintext, kid: jweKid } = await openChecked({ jwe, keys: jweKeys }, options)
  return { content: await withWiped(plaintext, readSeccosContent), jweKid }
}

/** The PCC by the data set, or by the caller where the profile's data set holds none; what both state must agree. */
function pccIn(found: DataSetContent, intdatag: string, expected: string | undefined): string | undefined {
  if (found.intdatag !== undefined && found.intdatag !== intdatag) {
    throw new D1MessageError('intdatag', 'is not the one in the data set')
  }
  const pcc = found.pcc ?? expected
  if (expected !== undefined && expected !== pcc) throw new D1MessageError('prwDataSet', 'has another PCC')
  return pcc
}

const NAMES = [
  'body',
  'cardId',
  'jweKeys',
  'profile',
  'macKeys',
  'prwKids',
  'counter',
  'pan',
  'pcc',
  'issuerId',
  'fields',
] as const

function readInput(input: OpenSeccosSetPinRequestInput): CheckedSeccosRequest {
  const { body, ...request } = readOptions(input, 'openSeccosSetPinRequest', NAMES)
  const { counter, prwKids, pan } = request
  if (typeof counter?.check !== 'function' || typeof counter.pccOf !== 'function')
    throw new ArgumentError('counter must be a ChangeCounter')
  if (!Array.isArray(prwKids)) throw new ArgumentError('prwKids must be an array of kids')
  if (pan !== undefined) requirePan(pan)
  requireProfile(request.profile)
  const macKeys = requireKeys(request.macKeys, 'macKeys')
  const jweKeys = requireOpeningKeys(request.jweKeys, 'jweKeys')
  return { ...request, macKeys, jweKeys, message: readPinMessage(body) }
}

/** What the JWE of a `3DES_SECCOS` message holds, as D1 sends it. */
export interface SeccosContent {
  /** 20 characters: which Get PIN Change Counter this answers. */
  readonly intdatag: string
  /** 246 upper-case hex digits: the 123 bytes of the data set, PAN zeroed. */
  readonly prwDataSet: string
  /** At most 64 characters. */
  readonly prwValue: string
  readonly prwKid: string
  /** At most 16 characters. */
  readonly macValue: string
  readonly macKid: string
}

/** Stricter than the published schema: every member is required, the pattern of `prwDataSet` is anchored. */
const RULES: Readonly<Record<keyof SeccosContent, StringRule>> = {
  intdatag: { min: INTDATAG_CHARACTERS, max: INTDATAG_CHARACTERS, pattern: INTDATAG_RULE },
  prwDataSet: { max: PRW_DATA_SET_CHARACTERS, pattern: PRW_DATA_SET },
  prwValue: { max: MAX_PRW_VALUE },
  prwKid: { max: MAX_KID },
  macValue: { max: MAX_MAC_VALUE },
  macKid: { max: MAX_KID },
}

/**
 * Reads the opened JWE of a 3DES_SECCOS message. Errors: `ERR_D1_MESSAGE` with `field` `encryptedPinBlock` or the name
 * of the member. Source: Outbound PIN Management API 1.0, schema pinblock3DESSECCOS.
 */
export function readSeccosContent(plaintext: Uint8Array): SeccosContent {
  const object = readMessage(plaintext, 'encryptedPinBlock')
  const read = (field: keyof SeccosContent): string => readString(object, field, RULES[field])
  return {
    intdatag: read('intdatag'),
    prwDataSet: read('prwDataSet'),
    prwValue: read('prwValue'),
    prwKid: read('prwKid'),
    macValue: read('macValue'),
    macKid: read('macKid'),
  }
}
