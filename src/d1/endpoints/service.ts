/** The service behind the endpoints: everything of the options, checked, and what lives as long as they do. */

import { randomUUID } from 'node:crypto'
import { readOptions, requireMethods } from '../../base/arguments.js'
import { type Clock, Ending, systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError } from '../../base/errors.js'
import { auditor } from '../audit.js'
import { OUTBOUND_TOKEN_PREFIX } from '../contract.js'
import { type AuditHook, auditEvent, type End, type Facts } from './audit.js'
import { Gate, KeyedMutex, type Place, type RateLimiter, type RateQuery } from './bounds.js'
import { Callers } from './callers.js'
import { type Router, router } from './http.js'
import {
  type Issuer,
  type IssuerEndpointsOptions,
  readCount,
  readIssuers,
  readPrefix,
  readTimeout,
} from './options.js'
import { Refusal, supplied, withDeadline } from './refusal.js'
import { Strangers } from './strangers.js'
import { readTokenEndpoint, type TokenService } from './token-endpoint.js'

/** An issuer, and what bounds what is under way for it, so that its store cannot take all the places. */
export interface ServedIssuer extends Issuer {
  readonly gate: Gate
}

export interface Service {
  readonly issuers: ReadonlyMap<string, ServedIssuer>
  readonly callers: Callers
  readonly tokens: TokenService | undefined
  readonly router: Router
  readonly newFacts: () => Facts
  /** Hands an event over. False: it had to be durable before the answer, and is not. What hangs keeps its place, too. */
  readonly tell: (facts: Facts, end: End, place?: Place) => Promise<boolean>
  /** Bounds the events of those who are nobody. */
  readonly strangers: Strangers
  /** Keeps the Set PINs of one card apart. */
  readonly setPins: KeyedMutex
  /** Bounds what is under way, in all. */
  readonly gate: Gate
  /** Has the stores forget what need not be known any longer: at most once in `tidyEveryMs`, and not waited for. */
  readonly tidy: () => void
  /** Refuses (`rate`) what is too much for the card or the caller. */
  readonly requireRate: (query: RateQuery, signal: AbortSignal) => Promise<void>
  readonly clock: Clock
  readonly bodyTimeoutMs: number
  readonly timeoutMs: number
}

const NAMES = [
  'issuers',
  'authorization',
  'tokenEndpoint',
  'audit',
  'auditRequired',
  'strangerEventsPerSecond',
  'prefix',
  'tokenPrefix',
  'bodyTimeoutMs',
  'timeoutMs',
  'maxConcurrent',
  'maxConcurrentPerIssuer',
  'rates',
  'requestRetentionMs',
  'tidyEveryMs',
  'clock',
] as const
/** The service of some options; `ERR_ARGUMENT`, and what `importRecipient` reports. */
export function openService(given: IssuerEndpointsOptions): Service {
  const options = readOptions(given, 'issuerEndpoints', NAMES)
  const { authorization, tokenEndpoint, audit, auditRequired, clock = systemClock } = options
  if (typeof audit !== 'function') throw new ArgumentError('audit must be a function')
  if (auditRequired !== undefined && auditRequired !== true) {
    throw new ArgumentError('auditRequired must be true, or absent')
  }
  requireMethods(clock, 'clock', ['now', 'elapsed', 'after'])
  const read = readIssuers(options.issuers)
  const callers = new Callers(authorization, new Set(read.keys()))
  const tokens = readTokenEndpoint(tokenEndpoint, callers, clock)
  const places = readCount(options.maxConcurrent ?? DEFAULTS.endpoints.maxConcurrent.value, 'maxConcurrent')
  const perIssuer = readCount(options.maxConcurrentPerIssuer ?? places, 'maxConcurrentPerIssuer')
  const issuers = new Map(Array.from(read, ([id, issuer]) => [id, { ...issuer, gate: new Gate(perIssuer) }]))
  const timeoutMs = readTimeout(options.timeoutMs ?? DEFAULTS.endpoints.timeoutMs.value, 'timeoutMs')
  const newFacts = factsMaker()
  const tell = auditRequired ? requiredTeller(audit, clock, timeoutMs) : teller(audit)
  return {
    issuers,
    callers,
    tokens,
    router: router({
      pin: readPrefix(options.prefix ?? '', 'prefix'),
      token: tokens && readPrefix(options.tokenPrefix ?? OUTBOUND_TOKEN_PREFIX, 'tokenPrefix'),
    }),
    newFacts,
    tell,
    strangers: new Strangers({
      clock,
      perSecond: readCount(
        options.strangerEventsPerSecond ?? DEFAULTS.endpoints.strangerEventsPerSecond.value,
        'strangerEventsPerSecond',
      ),
      tell: ({ count, time, status, first, last }) =>
        tell(
          { ...newFacts(), time, omitted: count },
          { status, refusal: new Refusal('omitted'), durationMs: last - first },
        ),
    }),
    setPins: new KeyedMutex(),
    gate: new Gate(places),
    tidy: tidier(issuers, clock, readTidying(options)),
    requireRate: rateOf(options.rates),
    clock,
    bodyTimeoutMs: readTimeout(
      options.bodyTimeoutMs ?? DEFAULTS.endpoints.bodyTimeoutMs.value,
      'bodyTimeoutMs',
    ),
    timeoutMs,
  }
}

function teller(audit: AuditHook): Service['tell'] {
  const emit = auditor(audit, 'the issuer endpoints')
  return async (facts, end) => {
    emit(() => auditEvent(facts, end), end.refusal?.cause)
    return true
  }
}

function requiredTeller(audit: AuditHook, clock: Clock, milliseconds: number): Service['tell'] {
  return async (facts, end, place) => {
    const record = async (): Promise<void> => audit(auditEvent(facts, end), end.refusal?.cause)
    try {
      // Not within the request's own time: what was done is to be recorded, however late it is.
      const parent = new Ending()
      await withDeadline({ clock, milliseconds, reason: 'audit-failed', parent }, () => {
        const work = record()
        return place === undefined ? work : place.keep(work)
      })
      return true
    } catch {
      return false
    }
  }
}

function factsMaker(): () => Facts {
  let sequence = 0
  return () => {
    sequence++
    return { sequence, time: new Date(systemClock.now()).toISOString(), requestId: randomUUID(), keys: [] }
  }
}

const MIN_TIDY_MS = 1000
const MAX_TIDY_MS = 86_400_000

/** How often, and how long what was accepted is kept. */
interface Tidying {
  readonly every: number
  readonly retention: number | undefined
}

function readTidying({ requestRetentionMs: retention, tidyEveryMs }: IssuerEndpointsOptions): Tidying {
  if (retention !== undefined && !(Number.isSafeInteger(retention) && retention >= 1)) {
    throw new ArgumentError('requestRetentionMs must be a whole number from 1')
  }
  const every = tidyEveryMs ?? DEFAULTS.endpoints.tidyEveryMs.value
  if (!Number.isInteger(every) || every < MIN_TIDY_MS || every > MAX_TIDY_MS) {
    throw new ArgumentError(`tidyEveryMs must be a whole number from ${MIN_TIDY_MS} to ${MAX_TIDY_MS}`)
  }
  return { every, retention }
}

/**
 * Requests that were accepted and intdatags that have expired go without anybody's help. A store that fails here fails
 * where it matters, too; the process is warned once.
 */
function tidier(
  issuers: ReadonlyMap<string, Issuer>,
  clock: Clock,
  { every, retention }: Tidying,
): () => void {
  let next = clock.elapsed() + every
  let warned = false
  let underWay = false
  const started = clock.now() - clock.elapsed()
  // A clock that jumps ahead, if only for a moment, must not have requests forgotten that can come again.
  const now = (): number => Math.min(clock.now(), started + clock.elapsed())
  const acceptedBefore = (): object =>
    retention === undefined ? {} : { acceptedBefore: Math.floor(now()) - retention }
  /** A store that fails keeps no other from it. */
  async function orWarn(step: () => Promise<unknown> | undefined): Promise<void> {
    try {
      await step()
    } catch {
      if (!warned) process.emitWarning('the issuer’s stores could not be tidied', 'IssuerPinWarning')
      warned = true
    }
  }
  async function tidy(): Promise<void> {
    for (const [issuerId, { pins, jweKeys, seccos }] of issuers) {
      const jweKids = jweKeys.map(({ kid }) => kid)
      await orWarn(() => pins.forgetRequests?.({ issuerIds: [issuerId], jweKids, ...acceptedBefore() }))
      await orWarn(() => seccos?.counter.purge())
    }
    underWay = false
  }
  return () => {
    if (underWay || clock.elapsed() < next) return
    next = clock.elapsed() + every
    underWay = true
    void tidy()
  }
}

function rateOf(rates: RateLimiter | undefined): Service['requireRate'] {
  if (rates === undefined) return async () => {}
  requireMethods(rates, 'rates', ['take'])
  return async (query, signal) => {
    const may = await supplied('rate-failed', async () => rates.take(query, { signal }))
    if (may !== true) throw new Refusal('rate')
  }
}
