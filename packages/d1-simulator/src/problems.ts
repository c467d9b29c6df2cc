/** What can go wrong with a run itself, and how a case says that it failed or could not be run. */

/**
 * The configuration, or a file that it names, is unfit. Messages name members and files and never show content.
 * `ERR_CONFIG` is the simulator's own: it shares no code with the library.
 */
export class ConfigError extends Error {
  override readonly name: string = 'ConfigError'
  readonly code = 'ERR_CONFIG' as const
}

/** A case did not get what it expects. The message is what it got: statuses and fixed words, nothing the issuer sent. */
export class Mismatch extends Error {
  override readonly name: string = 'Mismatch'
}

/** A case cannot be run with this configuration. The message says what is missing. */
export class NotRun extends Error {
  override readonly name: string = 'NotRun'
}

/** No answer came: the connection was refused, reset or closed, the handshake failed, the time was over. */
export class NoAnswer extends Error {
  override readonly name: string = 'NoAnswer'
  /** `ECONNRESET` and the like; `TIMEOUT` where the time was over. */
  readonly reason: string

  constructor(reason: string) {
    super(`no answer: ${reason}`)
    this.reason = reason
  }
}
