/** Choosing the token and logging in: exactly one match or none, one login attempt or none. */
import { shownName } from '../../../base/arguments.js'
import { ArgumentError, BackendError } from '../../../base/errors.js'
import type { Pkcs11Binding, SessionHandle, SlotId, TokenInfo } from '../binding/binding.js'
import { CKF, CKR, CKU } from '../binding/constants.js'
import { Pkcs11Error } from '../binding/errors.js'

/** Which token: everything given must match. Slot numbers are not offered, for they change between starts. */
export interface TokenQuery {
  readonly label?: string
  readonly serial?: string
  readonly manufacturer?: string
  readonly model?: string
}

/** Path attributes of a PKCS#11 URI that describe a token (RFC 7512, 2.3), and what they are called here. */
const URI_ATTRIBUTES: Readonly<Record<string, keyof TokenQuery>> = {
  token: 'label',
  serial: 'serial',
  manufacturer: 'manufacturer',
  model: 'model',
}
const QUERY_MEMBERS: readonly (keyof TokenQuery)[] = ['label', 'serial', 'manufacturer', 'model']

/**
 * A token query of the `token` option: a label, a PKCS#11 URI (`pkcs11:token=…;serial=…`), or the query itself.
 *
 * Errors: `ERR_ARGUMENT`, also for a URI with attributes that are not about the token: an object is chosen at bind,
 * a PIN comes from the `pin` option. Source: RFC 7512, 2.3.
 *
 * @example
 * ```ts
 * readTokenQuery('pkcs11:token=issuer;serial=a1b2') // { label: 'issuer', serial: 'a1b2' }
 * ```
 */
export function readTokenQuery(token: unknown): TokenQuery {
  if (typeof token === 'string') {
    if (/^pkcs11:/i.test(token)) return queryOfUri(token)
    if (isBlank(token)) throw new ArgumentError('token must not be blank')
    return { label: token }
  }
  if (typeof token !== 'object' || token === null) {
    throw new ArgumentError('token must be a label, a pkcs11: URI, or { label, serial, manufacturer, model }')
  }
  const query: Partial<Record<keyof TokenQuery, string>> = {}
  for (const [name, value] of Object.entries(token)) {
    const known = QUERY_MEMBERS.find(member => member === name)
    if (known === undefined) throw new ArgumentError(`token: unknown member ${shownName(name)}`)
    if (typeof value !== 'string' || trimmed(value) === '') {
      throw new ArgumentError(`token.${known} must be a string that is not blank`)
    }
    query[known] = value
  }
  return requireLabelOrSerial(query)
}

function queryOfUri(uri: string): TokenQuery {
  const query: Partial<Record<keyof TokenQuery, string>> = {}
  for (const [name, text] of Object.entries(readUri(uri, 'token'))) {
    const member = Object.hasOwn(URI_ATTRIBUTES, name) ? URI_ATTRIBUTES[name] : undefined
    if (member !== undefined) query[member] = text
  }
  return requireLabelOrSerial(query)
}

/** Path attributes of a PKCS#11 URI that this library understands; the slot's and the library's say nothing of a token. */
const PATH_ATTRIBUTES = [
  ...Object.keys(URI_ATTRIBUTES),
  'object',
  'id',
  'type',
  'library-description',
  'library-manufacturer',
  'library-version',
  'slot-description',
  'slot-manufacturer',
]

/**
 * The path attributes of a PKCS#11 URI, decoded; `id` as one character for each byte. `ERR_ARGUMENT` for a query part (the
 * PIN comes from the pin option), for a slot-id (they change between starts), and for what is blank, twice or unknown.
 */
export function readUri(uri: string, what: string): Readonly<Record<string, string>> {
  if (!/^pkcs11:/i.test(uri)) throw new ArgumentError(`${what} must be a pkcs11: URI`)
  const path = uri.slice('pkcs11:'.length)
  if (path.includes('?')) {
    throw new ArgumentError(
      `${what}: a pkcs11: URI here has no query part; the PIN comes from the pin option`,
    )
  }
  const read: Record<string, string> = {}
  for (const attribute of path.split(';')) {
    const [, name = '', value = ''] = /^([^=]*)=(.*)$/s.exec(attribute) ?? []
    if (!PATH_ATTRIBUTES.includes(name)) {
      throw new ArgumentError(`${what}: in a pkcs11: URI only ${PATH_ATTRIBUTES.join(', ')} are understood`)
    }
    if (Object.hasOwn(read, name))
      throw new ArgumentError(`${what}: ${name} is given twice in the pkcs11: URI`)
    const text = name === 'id' ? percentBytes(value, what) : percentDecoded(value, `${what}: ${name}`)
    // Compared without padding, a blank one would match every token that has none.
    if (text === '' || (name !== 'id' && isBlank(text))) {
      throw new ArgumentError(`${what}: ${name} is blank in the pkcs11: URI`)
    }
    read[name] = text
  }
  return read
}

/** True for a text that is nothing without the padding of the standard. */
export function isBlank(text: string): boolean {
  return trimmed(text) === ''
}

function percentBytes(value: string, what: string): string {
  if (!/^(?:%[0-9a-fA-F]{2}|[A-Za-z0-9._~:[\]@!$'()*+,=&-])*$/.test(value)) {
    throw new ArgumentError(`${what}: id is not percent-encoded`)
  }
  return value.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
}

function percentDecoded(value: string, name: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    throw new ArgumentError(`${name} is not percent-encoded UTF-8`)
  }
}

function requireLabelOrSerial(query: TokenQuery): TokenQuery {
  if (query.label === undefined && query.serial === undefined) {
    throw new ArgumentError('token: a label or a serial must be given')
  }
  return query
}

/** A token that was found. */
interface FoundToken {
  readonly slot: SlotId
  readonly info: TokenInfo
}

/** The one initialised token that matches; `ERR_PKCS11_TOKEN` where there is none or more than one. */
export function findToken(binding: Pkcs11Binding, query: TokenQuery): FoundToken {
  const tokens: FoundToken[] = []
  let silent = 0
  for (const slot of binding.C_GetSlotList()) {
    try {
      tokens.push({ slot, info: binding.C_GetTokenInfo(slot) })
    } catch (error) {
      if (!(error instanceof Pkcs11Error)) throw error
      silent++
    }
  }
  const usable = tokens.filter(({ info }) => (info.flags & CKF.TOKEN_INITIALIZED) !== 0)
  const matches = usable.filter(({ info }) =>
    QUERY_MEMBERS.every(member => query[member] === undefined || info[member] === trimmed(query[member])),
  )
  const [match, second] = matches
  if (match !== undefined && second === undefined) return match
  const wanted = Object.entries(query).map(([name, value]) => `${name} ${JSON.stringify(value)}`)
  if (match === undefined) {
    const others = silent > 0 ? `; ${silent} did not answer` : ''
    throw tokenError(`no initialised token has ${wanted.join(', ')}; there are: ${list(usable)}${others}`)
  }
  throw tokenError(`${matches.length} tokens have ${wanted.join(', ')}: ${list(matches)}; add the serial`)
}

function trimmed(text: string): string {
  return text.replace(/[\s\0]+$/u, '')
}

function list(tokens: readonly FoundToken[]): string {
  if (tokens.length === 0) return 'none'
  return tokens.map(({ info }) => `${JSON.stringify(info.label)} (serial ${info.serial})`).join(', ')
}

function tokenError(message: string): BackendError {
  return new BackendError('ERR_PKCS11_TOKEN', message)
}

/** When to log in. */
export type LoginPolicy = 'auto' | 'always' | 'never'

/** How to log in. */
export interface LoginOptions {
  /** Called once, when everything else is ready. The string is passed on and dropped; it cannot be wiped. */
  readonly pin?: (() => string | Promise<string>) | undefined
  /** Default CKU_USER. Some vendors have user types of their own, such as Luna's crypto user. */
  readonly userType?: number | undefined
  /** Allows the attempt that, if wrong, locks the PIN. */
  readonly allowFinalTry: boolean
  /** `auto`: where the token says that it requires a login. Some say nothing and require one, or the other way round. */
  readonly policy: LoginPolicy
}

/** The one attempt to log in. True where it made the login, false where the process was logged in already, or need not be. */
type LoginAttempt = (binding: Pkcs11Binding, session: SessionHandle) => boolean

/**
 * Fetches the PIN for one attempt to log in, never more: a wrong PIN must not lock a token. The attempt itself waits for
 * nothing, so that it can be counted before anybody else has a turn, who might log out.
 *
 * Errors, here and of the attempt: `ERR_PKCS11_LOGIN`. Source: PKCS#11 v3.1, 5.6.8 (C_Login), 3.2 (token flags).
 */
export async function prepareLogin(
  readInfo: () => TokenInfo,
  { pin: source, userType = CKU.USER, allowFinalTry, policy }: LoginOptions,
): Promise<LoginAttempt> {
  const info = readInfo()
  if (!needsLogin(info, policy)) return () => false
  requireUsablePin(info, allowFinalTry)
  const onDevice = (info.flags & CKF.PROTECTED_AUTHENTICATION_PATH) !== 0 && source === undefined
  const pin = onDevice ? '' : await fetchPin(source)
  return (binding, session) => {
    // Once more: while the PIN was being fetched, somebody else may have used up an attempt.
    if (!onDevice) requireUsablePin(readInfo(), allowFinalTry)
    return logIn(binding, session, userType, pin)
  }
}

/** Whether a token is to be logged in to at all. */
export function needsLogin({ flags }: TokenInfo, policy: LoginPolicy): boolean {
  return policy === 'always' || (policy === 'auto' && (flags & CKF.LOGIN_REQUIRED) !== 0)
}

function logIn(binding: Pkcs11Binding, session: SessionHandle, userType: number, pin: string): boolean {
  try {
    binding.C_Login(session, userType, pin)
    return true
  } catch (error) {
    if (!(error instanceof Pkcs11Error)) throw error
    if (error.returnValue === CKR.USER_ALREADY_LOGGED_IN) return false
    throw error.as('ERR_PKCS11_LOGIN')
  }
}

function requireUsablePin({ label, flags }: TokenInfo, allowFinalTry: boolean): void {
  if ((flags & CKF.USER_PIN_INITIALIZED) === 0) {
    throw loginError(`token ${JSON.stringify(label)} has no user PIN yet: its security officer must set one`)
  }
  if ((flags & CKF.USER_PIN_LOCKED) !== 0) {
    throw loginError(
      `the PIN of token ${JSON.stringify(label)} is locked: its security officer must reset it`,
    )
  }
  if ((flags & CKF.USER_PIN_FINAL_TRY) !== 0 && !allowFinalTry) {
    throw loginError(
      `a wrong PIN would now lock token ${JSON.stringify(label)}: check it, then open once with allowFinalTry`,
    )
  }
}

async function fetchPin(pin: LoginOptions['pin']): Promise<string> {
  if (pin === undefined) throw loginError('this token asks for a PIN: give pin, a function that returns it')
  let value: unknown
  try {
    value = await pin()
  } catch {
    // What it threw may quote the PIN, so it goes no further.
    throw loginError('the pin function failed')
  }
  // What cannot be a PIN must not cost one of the few attempts; a line end from a file is the usual reason.
  if (typeof value !== 'string' || value === '' || /\p{Cc}/u.test(value)) {
    throw loginError('the pin function must return a string that is not empty and has no control characters')
  }
  return value
}

function loginError(message: string): BackendError {
  return new BackendError('ERR_PKCS11_LOGIN', message)
}
