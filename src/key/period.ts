/**
 * Cryptoperiods: from when and until when a key protects new data (NIST SP 800-57 Part 1, 5.3; ISO 11568). After its end a key
 * enciphers, generates and signs no more; what is old can still be deciphered and verified with it, if its mode allows.
 */

import { readOwn } from '../base/arguments.js'
import { systemClock } from '../base/deadline.js'
import { DEFAULTS } from '../base/defaults.js'
import { ArgumentError, KeyError } from '../base/errors.js'

/** When a key is for new data. ISO 8601, UTC; an end is the first moment that is too late. */
export interface KeyPeriod {
  readonly validFrom?: string | undefined
  readonly validTo?: string | undefined
}

/** A period as a caller gives it. */
export interface GivenPeriod {
  readonly validFrom?: Date | undefined
  readonly validTo?: Date | undefined
}

/** Days before the end of a key within which it is warned of. */
const WARNING_DAYS = DEFAULTS.keys.expiryWarningDays.value
const DAY_MS = 86_400_000
/** What stands for an end that is absent where dates are compared as texts. */
const BEFORE_ALL = ''
const AFTER_ALL = '~'

/** A caller's period, read once; `ERR_ARGUMENT` for something other than dates, or an end that is not after the beginning. */
export function readPeriod({ validFrom, validTo }: GivenPeriod): KeyPeriod {
  const period = ownPeriod({ ...member('validFrom', validFrom), ...member('validTo', validTo) })
  const { validFrom: from = BEFORE_ALL, validTo: to = AFTER_ALL } = period
  if (from >= to) throw new ArgumentError('validTo must be after validFrom')
  return period
}

function member(name: 'validFrom' | 'validTo', date: unknown): KeyPeriod {
  if (date === undefined) return {}
  const time = date instanceof Date ? date.getTime() : Number.NaN
  // Four digits of a year, so that texts compare as dates do.
  if (!(time >= 0 && time < 253_402_300_800_000))
    throw new ArgumentError(`${name} must be a Date from 1970 to 9999`)
  return { [name]: new Date(time).toISOString() }
}

/** Both ends as own members: what is absent is no matter of `Object.prototype`. */
function ownPeriod(period: KeyPeriod): KeyPeriod {
  return readOwn(period, 'a period', ['validFrom', 'validTo'])
}

/** The time that is in both. */
export function narrower(one: KeyPeriod, other: KeyPeriod): KeyPeriod {
  const [a, b] = [ownPeriod(one), ownPeriod(other)]
  const from = [a.validFrom, b.validFrom]
    .filter(text => text !== undefined)
    .sort()
    .at(-1)
  // What is absent is sorted last.
  const [to] = [a.validTo, b.validTo].sort()
  return { ...(from !== undefined && { validFrom: from }), ...(to !== undefined && { validTo: to }) }
}

/** Keys that are frozen and have no period: each call asks, and two of the names take a twentieth of the whole. */
const WITHOUT = new WeakSet<KeyPeriod>()

/** Remembers of a key that is frozen whether it has a period. */
export function notePeriod(key: KeyPeriod): void {
  if (!hasPeriod(key)) WITHOUT.add(key)
}

/** Whether a key begins or ends at all; asked before every operation, so by names that are written out. */
export function hasPeriod(key: KeyPeriod): boolean {
  if (WITHOUT.has(key)) return false
  return (
    (Object.hasOwn(key, 'validFrom') && key.validFrom !== undefined) ||
    (Object.hasOwn(key, 'validTo') && key.validTo !== undefined)
  )
}

/** Throws `ERR_KEY_PERIOD` where the key is not for new data now. */
export function requirePeriod(key: KeyPeriod & { readonly kid: string }): void {
  if (!hasPeriod(key)) return
  const { kid } = key
  const { validFrom = BEFORE_ALL, validTo = AFTER_ALL } = ownPeriod(key)
  const now = new Date(systemClock.now()).toISOString()
  if (now < validFrom)
    throw new KeyError('ERR_KEY_PERIOD', `key ${kid} is for new data from ${validFrom} on, and not yet`, kid)
  if (now >= validTo)
    throw new KeyError(
      'ERR_KEY_PERIOD',
      `key ${kid} was for new data until ${validTo}: use the key after it`,
      kid,
    )
}

/** What an operator should hear of a key's end; undefined where there is nothing. */
export function periodRemark(key: KeyPeriod & { readonly kid: string }): string | undefined {
  const { kid } = key
  const { validFrom = BEFORE_ALL, validTo } = ownPeriod(key)
  const now = systemClock.now()
  if (validTo !== undefined) {
    const left = new Date(validTo).getTime() - now
    if (left <= 0) return `key ${kid} has been for old data only since ${validTo}`
    if (left < WARNING_DAYS * DAY_MS)
      return `key ${kid} is for new data until ${validTo}: ${Math.floor(left / DAY_MS)} days`
  }
  if (new Date(now).toISOString() < validFrom) return `key ${kid} is for new data from ${validFrom} on`
  return undefined
}

/** `CKA_START_DATE` and `CKA_END_DATE` of a period: whole days within it, the last one included. */
export function tokenDates(period: KeyPeriod): { start?: string; end?: string } {
  const { validFrom, validTo } = ownPeriod(period)
  const start = validFrom === undefined ? undefined : Math.ceil(new Date(validFrom).getTime() / DAY_MS)
  const end = validTo === undefined ? undefined : Math.floor(new Date(validTo).getTime() / DAY_MS) - 1
  if ((end ?? Infinity) < (start ?? -Infinity))
    throw new ArgumentError('a token keeps whole days: the period has none')
  return {
    ...(start !== undefined && { start: dayText(start) }),
    ...(end !== undefined && { end: dayText(end) }),
  }
}

function dayText(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '')
}

/** The period that a token's dates say; what is no date says nothing. */
export function periodOfDates(start: string | undefined, end: string | undefined): KeyPeriod {
  const from = timeOf(start)
  const to = timeOf(end)
  return {
    ...(from !== undefined && { validFrom: new Date(from).toISOString() }),
    ...(to !== undefined && { validTo: new Date(to + DAY_MS).toISOString() }),
  }
}

function timeOf(day: string | undefined): number | undefined {
  const [, year, month, date] = /^(\d{4})(\d{2})(\d{2})$/.exec(day ?? '') ?? []
  const text = `${year}-${month}-${date}`
  const time = Date.parse(`${text}T00:00:00.000Z`)
  return Number.isNaN(time) || new Date(time).toISOString().slice(0, 10) !== text ? undefined : time
}
