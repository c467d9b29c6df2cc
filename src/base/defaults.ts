/**
 * Every time and limit that applies where nobody says otherwise, with its unit and what it is for: the code reads them
 * here, docs/defaults.md is made of this table, and a test plays each on both sides.
 */

/** A default: its value, its unit, the option that changes it where there is one, and what happens at it. */
export interface Default {
  readonly value: number
  readonly unit: 'ms' | 's' | 'days' | 'count'
  /** As `function: option`; absent where it is fixed. */
  readonly option?: string
  readonly what: string
}

export const DEFAULTS = {
  client: {
    attemptTimeoutMs: {
      value: 15_000,
      unit: 'ms',
      option: 'd1Client: attemptTimeoutMs',
      what: 'One attempt at a call to D1 ends; a GET, a PUT and what was not sent may be repeated.',
    },
    totalTimeoutMs: {
      value: 60_000,
      unit: 'ms',
      option: 'd1Client: totalTimeoutMs',
      what: 'A call ends with all its attempts and pauses; a pause beyond it is not begun.',
    },
    maxAttempts: {
      value: 3,
      unit: 'count',
      option: 'd1Client: maxAttempts',
      what: 'Attempts at one call, the first included.',
    },
    maxRetryAfterSeconds: {
      value: 30,
      unit: 's',
      option: 'd1Client: maxRetryAfterSeconds',
      what: 'The longest Retry-After that is waited for; a longer one is the caller’s.',
    },
    firstBackoffMs: {
      value: 200,
      unit: 'ms',
      what: 'The longest pause before the second attempt; it doubles with each, and the pause is drawn at random up to it.',
    },
    longestBackoffMs: { value: 5000, unit: 'ms', what: 'No pause between attempts is longer.' },
    tokenMarginSeconds: {
      value: 60,
      unit: 's',
      what: 'A token of D1 is renewed so long before it expires, counted from the request (half of its life if that is less).',
    },
    assertionLifetimeSeconds: {
      value: 300,
      unit: 's',
      option: 'd1Client: assertionLifetimeSeconds',
      what: 'The life of an assertion for a token.',
    },
    concurrency: {
      value: 8,
      unit: 'count',
      option: 'registerMany: concurrency',
      what: 'Cards of a bulk registration that are under way at once.',
    },
    maxSockets: {
      value: 64,
      unit: 'count',
      option: 'mtlsFetch: maxSockets',
      what: 'Connections to one host at once.',
    },
    idleMs: {
      value: 4000,
      unit: 'ms',
      what: 'An idle connection is closed: sooner than a server does it (5 s and more), for a POST on a connection that is just being closed has an unknown outcome.',
    },
    expiryWarningDays: {
      value: 30,
      unit: 'days',
      what: 'A client certificate, one of its chain or the last of the CAs that ends within this time is reported, once a day.',
    },
  },
  endpoints: {
    timeoutMs: {
      value: 30_000,
      unit: 'ms',
      option: 'issuerEndpoints: timeoutMs',
      what: 'A request is answered with 500 if it is not done; a write that a database begins after that is not done either.',
    },
    bodyTimeoutMs: {
      value: 10_000,
      unit: 'ms',
      option: 'issuerEndpoints: bodyTimeoutMs',
      what: 'A body that is not there by then is 400.',
    },
    maxConcurrent: {
      value: 512,
      unit: 'count',
      option: 'issuerEndpoints: maxConcurrent',
      what: 'Operations at once; one more is refused.',
    },
    perCardPerMinute: {
      value: 600,
      unit: 'count',
      option: 'memoryRates: perCardPerMinute',
      what: 'Operations of one card a minute: far more than a cardholder makes, less than a loop. One more is 403.',
    },
    perCallerPerMinute: {
      value: 300_000,
      unit: 'count',
      option: 'memoryRates: perCallerPerMinute',
      what: 'Operations of one caller a minute, over all cards; one more is 403.',
    },
    strangerEventsPerSecond: {
      value: 100,
      unit: 'count',
      option: 'issuerEndpoints: strangerEventsPerSecond',
      what: 'Audit events a second of requests that end before it is known who calls; the others are counted, and one event says how many.',
    },
    auditLinesWaiting: {
      value: 10_000,
      unit: 'count',
      what: 'Lines of an audit chain that wait behind one whose write does not end; one more is not written, and the hook rejects.',
    },
    waitingPerCard: {
      value: 32,
      unit: 'count',
      what: 'Set PINs of one card that wait for each other; one more is refused.',
    },
    againWithinMs: {
      value: 2000,
      unit: 'ms',
      what: 'A Set PIN that another replica’s overtook begins again, if it began no longer ago.',
    },
    tidyEveryMs: {
      value: 3_600_000,
      unit: 'ms',
      option: 'issuerEndpoints: tidyEveryMs',
      what: 'The service deletes what has expired from its stores, once in this time.',
    },
    healthTimeoutMs: {
      value: 2000,
      unit: 'ms',
      option: 'healthEndpoints: timeoutMs',
      what: 'A key or store that has not answered /readyz by then counts as not ready.',
    },
    lingerMs: {
      value: 500,
      unit: 'ms',
      what: 'After an early answer, what is still coming is let in for so long, so that the client gets to read the answer.',
    },
    idleSessionMs: {
      value: 60_000,
      unit: 'ms',
      option: 'watchServer: idleSessionMs',
      what: 'A session of HTTP/2 on which nothing moved is closed; what is still under way on it has as long again.',
    },
  },
  tokens: {
    clockToleranceSeconds: {
      value: 5,
      unit: 's',
      what: 'The clocks of replicas and providers may differ so much.',
    },
    maxAgeSeconds: {
      value: 3600,
      unit: 's',
      option: 'providerTokens: maxAgeSeconds',
      what: 'The oldest token of an identity provider that is taken, whatever its exp says.',
    },
    verdictMs: {
      value: 60_000,
      unit: 'ms',
      what: 'A provider’s token that was verified is not verified again so long.',
    },
    keysFreshMs: {
      value: 600_000,
      unit: 'ms',
      what: 'A provider’s key set is used so long before it is fetched again.',
    },
    keysStaleMs: {
      value: 3_600_000,
      unit: 'ms',
      option: 'providerTokens: staleMs',
      what: 'While the provider is away, its key set is used so long beyond that.',
    },
    keysFetchTimeoutMs: {
      value: 5000,
      unit: 'ms',
      option: 'providerTokens: fetchTimeoutMs',
      what: 'One fetch of a provider’s key set ends.',
    },
    keysCooldownMs: {
      value: 30_000,
      unit: 'ms',
      what: 'An unknown kid has the key set fetched again, once in this time.',
    },
    keysFirstBackoffMs: {
      value: 1000,
      unit: 'ms',
      what: 'After a fetch that failed, the next is not tried sooner; it doubles with each.',
    },
    keysLongestBackoffMs: { value: 60_000, unit: 'ms', what: 'It doubles up to this.' },
    overMs: {
      value: 60_000,
      unit: 'ms',
      what: 'A token that is over is remembered so long, so that it costs no second signature.',
    },
    wrongSecrets: {
      value: 5,
      unit: 'count',
      what: 'Wrong client secrets in a row from one source that are looked at, each answered later than the one before.',
    },
    wrongSecretsWaiting: {
      value: 32,
      unit: 'count',
      what: 'Answers to wrong secrets that are held back at once; one more comes without delay, and counts like the others.',
    },
    wrongSecretDelayMs: { value: 100, unit: 'ms', what: 'The delay of the first; it doubles with each.' },
    wrongSecretLockMs: {
      value: 30_000,
      unit: 'ms',
      what: 'The first lock after them; it doubles with each further one.',
    },
    wrongSecretLongestLockMs: {
      value: 900_000,
      unit: 'ms',
      what: 'It doubles up to this; no lock is longer.',
    },
  },
  d1Keys: {
    refreshMs: {
      value: 300_000,
      unit: 'ms',
      option: 'd1PublicKeys: refreshMs',
      what: 'D1’s public keys are read again after so long.',
    },
    staleMs: {
      value: 86_400_000,
      unit: 'ms',
      option: 'd1PublicKeys: staleMs',
      what: 'Where that fails, the last good ones are used so long beyond it.',
    },
    timeoutMs: {
      value: 5000,
      unit: 'ms',
      option: 'd1PublicKeys: timeoutMs',
      what: 'One attempt at reading them ends.',
    },
    firstBackoffMs: {
      value: 1000,
      unit: 'ms',
      what: 'After one that failed, the next is not tried sooner; it doubles.',
    },
    longestBackoffMs: { value: 60_000, unit: 'ms', what: 'It doubles up to this.' },
  },
  tools: {
    searchMs: {
      value: 300_000,
      unit: 'ms',
      option: 'searchProfile: timeLimitMs',
      what: 'The search for a profile ends with what it has found.',
    },
  },
  keys: {
    expiryWarningDays: {
      value: 30,
      unit: 'days',
      what: 'A key whose validity ends within this time is warned of.',
    },
    ephemeralAheadMs: {
      value: 1000,
      unit: 'ms',
      what: 'The ephemeral key that took the place of the last message’s is used for the next, if that comes within this time.',
    },
  },
  counter: {
    retentionMs: {
      value: 604_800_000,
      unit: 'ms',
      what: 'An intdatag that has expired is still known to belong to its card, for the operator’s reason.',
    },
  },
  stores: {
    sqliteBusyMs: {
      value: 2000,
      unit: 'ms',
      what: 'A SQLite write waits so long for another process; then ERR_BACKEND_BUSY.',
    },
    sqliteRetryMs: { value: 20, unit: 'ms', what: 'Meanwhile it is tried again, once in this time.' },
    sqliteLogMs: {
      value: 60_000,
      unit: 'ms',
      what: 'What a write replaced is also out of SQLite’s log by then, or after 1000 writes.',
    },
    postgresTimeoutMs: {
      value: 5000,
      unit: 'ms',
      option: 'openPostgresIssuerStore: timeoutMs',
      what: 'Connecting, waiting for a connection, and each statement.',
    },
    migrationTimeoutMs: { value: 60_000, unit: 'ms', what: 'A migration of the database at open.' },
    purgeBudgetMs: {
      value: 60_000,
      unit: 'ms',
      option: 'purge: budgetMs',
      what: 'A purge, of intdatags or of requests, begins no further batch after so long; the next one goes on.',
    },
  },
  pkcs11: {
    sessions: {
      value: 8,
      unit: 'count',
      option: 'pkcs11Backend: sessions.max',
      what: 'Sessions of a token at once.',
    },
    queue: {
      value: 1024,
      unit: 'count',
      option: 'pkcs11Backend: sessions.queue',
      what: 'Operations that wait for a session; one more is refused at once.',
    },
    waitMs: {
      value: 10_000,
      unit: 'ms',
      option: 'pkcs11Backend: sessions.waitMs',
      what: 'An operation that has not begun by then is ERR_BACKEND_BUSY.',
    },
    callMs: {
      value: 30_000,
      unit: 'ms',
      option: 'pkcs11Backend: timeouts.callMs',
      what: 'A call that has begun: its caller is released, and what comes later is wiped.',
    },
    openMs: {
      value: 30_000,
      unit: 'ms',
      option: 'pkcs11Backend: timeouts.openMs',
      what: 'Opening the backend, the probe of the token included.',
    },
    closeMs: {
      value: 10_000,
      unit: 'ms',
      option: 'pkcs11Backend: timeouts.closeMs',
      what: 'Closing waits so long for the calls in flight; then the module is given up.',
    },
    keepAliveMs: {
      value: 60_000,
      unit: 'ms',
      option: 'pkcs11Backend: keepAliveMs',
      what: 'A session that was idle so long is used once, so that the network does not forget it.',
    },
    turnMs: { value: 10, unit: 'ms', what: 'Inline, native calls give the event loop a turn after so long.' },
    firstPauseMs: {
      value: 100,
      unit: 'ms',
      what: 'The pause after the first attempt at a recovery that failed; it doubles.',
    },
    longestPauseMs: {
      value: 500,
      unit: 'ms',
      what: 'It doubles up to this: a token that is back is found within a second.',
    },
    childGraceMs: {
      value: 1000,
      unit: 'ms',
      what: 'How long a child process may take to end what it does before it is killed, and a spare to show that it is well.',
    },
    childAttempts: {
      value: 3,
      unit: 'count',
      what: 'Attempts to bring the token back in one child process before another is started.',
    },
    spareAfterMs: {
      value: 200,
      unit: 'ms',
      what: 'After a spare has taken over, the next one is started so much later.',
    },
    groupProbeMs: {
      value: 2000,
      unit: 'ms',
      option: 'pkcs11Group: probeMs',
      what: 'Members of a group that are not ready are probed so often.',
    },
    failBackAfter: {
      value: 3,
      unit: 'count',
      option: 'pkcs11Group: failBackAfter',
      what: 'Good probes in a row after which a member of a group is used again.',
    },
    lateCalls: {
      value: 3,
      unit: 'count',
      what: 'Calls in a row whose time is up, with nobody answered meanwhile, after which a group gives the work to its next member.',
    },
  },
} as const
