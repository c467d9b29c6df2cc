/** What every target asks of a failure: a coded error that its function documents, and nothing of the input in it. */
import { inspect } from 'node:util'
import { type ErrorCode, isIssuerPinError } from '../../../src/base/errors.js'
import { check, Finding } from '../target.js'

/** Errors that must not say why: one message each, whatever the input. */
const UNIFORM: Partial<Readonly<Record<ErrorCode, string>>> = {
  ERR_PIN_BLOCK: 'the PIN block is not valid',
  ERR_JWE: 'the JWE does not open',
  ERR_PRW_MAC: 'the MAC over the PRW is wrong',
  ERR_PIN: 'a PIN is 4 to 12 decimal digits',
  ERR_PAN: 'a PAN is 10 to 19 decimal digits',
}

/** Runs of an error's text that could be the input's: long words, and digits as many as the shortest PIN. */
const RUNS = /\d{4,}|[A-Za-z0-9+/_=-]{8,}/g
/** Constants of our messages and classes that inputs, being made of our seeds, hold as well. */
const OURS =
  /^(?:\d\.?|1000000|pin-block|data-set|d1-simulator|1638[34]|65[_,]?53[56]|8192|8160|9797|10000|ERR_\w+|retryable|undefined|prototype|constructor|(?:[A-Z][A-Za-z0-9]*)?Error|encryptedPinBlock|encryptedData|prwDataSet|pinValue|prwValue|macValue|intdatag|dataSet|pinBlock|pinLength|provenance|profileFormat|randomBytes|outputBytes|algorithm|uncovered|keyBytes|constant|encoding|description|illustrative|scheme-confirmed|3DES_SECCOS|iso9797-1-alg\d|cmac-aes|cmac-tdea|digits-bcd|digits-ascii|iso9564-format-\d|hex-upper|hex-lower|base64url|base64|pin-encryption|retail-mac|jwe-key-agreement|prw-generate|prw-verify|cbc-mac|tdea-2key|tdea-3key|access_token|token_type|expires_in|manufacturer|pkcs11)$/

const UUID = /\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g

/** How a failure may look. */
export interface FailureRule {
  /** The codes that the function documents for what its input can do. */
  readonly codes: readonly ErrorCode[]
  /** The texts of the input, of which nothing may be shown. */
  readonly hidden?: readonly string[]
  /** What of the input a message may name by its documentation: kids, names of unknown members. */
  readonly named?: readonly string[]
}

let failures = 0

/** Throws a {@link Finding} unless the failure is as it must be. */
export function judge(error: unknown, { codes, hidden = [], named = [] }: FailureRule): void {
  if (error instanceof Finding) throw error
  if (!isIssuerPinError(error)) throw error
  check(codes.includes(error.code), `the code ${error.code} is not one that this function documents`)
  const uniform = UNIFORM[error.code]
  check(uniform === undefined || error.message === uniform, `${error.code} has the message ${error.message}`)
  let shown = `${error.message}\n${JSON.stringify(error)}\n${String(error.cause ?? '')}`
  // Inspecting costs more than most of what is tested: every sixteenth error shows all of itself.
  if (failures++ % 16 === 0) shown += everything(error)
  refuseEcho(shown, hidden, named)
}

/** A stack is the message and the code's own places, line numbers among them, which hold nothing of an input. */
function everything(error: Error): string {
  return `\n${inspect(error, { depth: 6, showHidden: true })}\n${error.stack}`.replaceAll(
    /^.*\bat .*:\d+:\d+.*$/gm,
    '',
  )
}

/** Throws a {@link Finding} where the text repeats a longer run of what must be hidden. */
export function refuseEcho(shown: string, hidden: readonly string[], named: readonly string[] = []): void {
  const escaped = named
    .flatMap(name => [name, JSON.stringify(name).slice(1, -1)])
    .sort((a, b) => b.length - a.length)
  // A correlation id that was drawn may have four digits of the input in it.
  for (const run of shown.replaceAll(UUID, '').match(RUNS) ?? []) {
    if (OURS.test(run) || !hidden.some(text => text.includes(run))) continue
    if (escaped.some(name => name.includes(run))) continue
    // What may be named is taken out; what is left may still be too much.
    const left = escaped.reduce((text, name) => (name === '' ? text : text.replaceAll(name, '')), run)
    if (new RegExp(RUNS, '').test(left)) throw new Finding(`the error repeats the input: ${left}`)
  }
}

/** Runs a function that may only succeed or fail by the rule; undefined where it failed. */
export function attempt<T>(run: () => T, rule: FailureRule): T | undefined {
  try {
    return run()
  } catch (error) {
    judge(error, rule)
    return undefined
  }
}

/** {@link attempt} for what is asynchronous. */
export async function attemptAsync<T>(run: () => Promise<T>, rule: FailureRule): Promise<T | undefined> {
  try {
    return await run()
  } catch (error) {
    judge(error, rule)
    return undefined
  }
}
