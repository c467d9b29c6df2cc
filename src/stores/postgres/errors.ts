/**
 * PostgreSQL's errors as ours. They are never passed on as `cause`: `detail` quotes values (`Key (card_id)=(…)`), and
 * `message` may quote what was sent. What identifies a fault, its SQLSTATE or the system's name of it, is kept.
 *
 * Source: PostgreSQL 15 documentation, appendix A (SQLSTATE).
 */
import { BackendError, isIssuerPinError } from '../../base/errors.js'
import { noSuchCard } from '../records.js'

/** What may succeed later without a change by the caller. */
const TRANSIENT: Readonly<Record<string, string>> = {
  // Of the division that ends a transaction which is out of time.
  '22012': 'the time of the call is over',
  // Of a connection that knew a table before a later version of the library added to it, or of a pooler that was taken for none.
  '0A000': 'the server does not do this now',
  '26000': 'the server does not know the statement any more',
  '40001': 'a serialization failure',
  '40P01': 'a deadlock',
  '53300': 'too many connections',
  '55P03': 'a lock is not available',
  '57014': 'the statement took too long',
  '57P01': 'the server shuts down',
  '57P02': 'the server crashed',
  '57P03': 'the server is starting up or shutting down',
  '57P05': 'the session was idle for too long',
  '08000': 'a connection exception',
  '08001': 'the connection was not established',
  '08003': 'the connection does not exist',
  '08004': 'the connection was rejected',
  '08006': 'the connection failed',
  '08007': 'it is unknown what became of the transaction',
  // After a failover an open connection may lead to what is a replica now.
  '25006': 'the server takes no writes now',
  '25P03': 'the transaction was idle for too long',
  ECONNREFUSED: 'nobody listens there',
  ECONNRESET: 'the connection was reset',
  EPIPE: 'the connection was closed',
  ETIMEDOUT: 'the connection timed out',
  EHOSTUNREACH: 'the host is out of reach',
  EHOSTDOWN: 'the host is down',
  ENETDOWN: 'the network is down',
  ENETUNREACH: 'the network is out of reach',
  EAI_AGAIN: 'the name of the host did not resolve',
  // While a failover moves the name to another host it may be nobody's.
  ENOTFOUND: 'the name of the host is not known',
  // What names the server fails where it is a standby yet.
  '55000': 'the server is not ready for this',
}

/** What stays until somebody mends it, and how. */
const PERMANENT: Readonly<Record<string, string>> = {
  '3D000': 'there is no database of that name: make it (createdb), or name another',
  '28000':
    'the role may not sign in: there is none of that name, or pg_hba.conf does not let it in from here',
  '28P01': 'the password is wrong, or there is no such role',
  '42P01': 'a table is missing: open the store once with a role that may make tables',
  '53100': "the server's disk is full",
  ERR_INVALID_URL: 'connectionString does not read: postgres://user@host:5432/database',
  ERR_SOCKET_BAD_PORT: 'the port must be a number from 1 to 65535',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is signed by nobody who is trusted: give ssl: { ca }',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is of a CA that is not trusted: give ssl: { ca }',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is of a CA that is not trusted: give ssl: { ca }',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is of a CA that is not trusted: give ssl: { ca }',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
}

/** Of `pg`, without a code: the server asks for a password, and there is none. */
const NO_PASSWORD = /^SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be/

/** How messages of `pg` itself begin, which have no code, where the connection is what failed. */
const CONNECTION_LOST =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|timeout exceeded)/

/** What PgBouncer says with 08P01 where waiting helps; its other texts are about its configuration. */
const POOLER_WAITS =
  /^(query_wait_timeout|query timeout|no more connections allowed|database removed|server conn crashed|client_login_timeout|server login has been failing)/
const PROTOCOL_VIOLATION = '08P01'
const NO_TLS = /^The server does not support SSL connections/

const NOT_ALLOWED = '42501'
const FOREIGN_KEY_VIOLATION = '23503'
const CODE = /^[0-9A-Z_]{4,40}$/

/** The coded error for what a pool, a connection or a statement failed with. */
export function databaseError(error: unknown): Error {
  if (isIssuerPinError(error)) return error
  const { code, message, syscall } = Object(error)
  if (code === FOREIGN_KEY_VIOLATION) return noSuchCard()
  // A server that is stopped takes its Unix socket with it. A file of the options that is missing stays missing.
  if (code === 'ENOENT' && syscall === 'connect') return databaseBusy(`the socket is not there (${code})`)
  if (typeof code === 'string' && Object.hasOwn(TRANSIENT, code))
    return databaseBusy(`${TRANSIENT[code]} (${code})`)
  if (code === undefined && typeof message === 'string' && CONNECTION_LOST.test(message)) {
    return databaseBusy('the connection is lost')
  }
  if (code === PROTOCOL_VIOLATION && POOLER_WAITS.test(String(message))) {
    return databaseBusy(`the pooler has no connection (${code})`)
  }
  if (NO_TLS.test(String(message))) {
    return new BackendError(
      'ERR_BACKEND_FAILED',
      'the database takes no TLS: its server, or the pooler, must offer it',
    )
  }
  if (code === NOT_ALLOWED) {
    return new BackendError(
      'ERR_BACKEND_FAILED',
      `the role may not do this (${code}): it needs USAGE on the schema, and SELECT, INSERT, UPDATE, DELETE on its tables; ` +
        'to make them, CREATE',
    )
  }
  if (NO_PASSWORD.test(String(message)))
    return new BackendError('ERR_BACKEND_FAILED', 'the database asks for a password, and none was given')
  if (typeof code === 'string' && Object.hasOwn(PERMANENT, code))
    return new BackendError('ERR_BACKEND_FAILED', `the database: ${PERMANENT[code]} (${code})`)
  const name = typeof code === 'string' && CODE.test(code) ? ` (${code})` : ''
  return new BackendError('ERR_BACKEND_FAILED', `the database failed${name}`)
}

/** `ERR_BACKEND_BUSY`: try again. */
export function databaseBusy(problem: string): BackendError {
  return new BackendError('ERR_BACKEND_BUSY', `the database: ${problem}`, { retryable: true })
}
