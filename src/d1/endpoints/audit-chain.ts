/**
 * Audit lines that cannot be changed, left out or put in another order without showing: each holds the HMAC of the one
 * before, and its own HMAC over all of it.
 *
 *     {"chain":1,"previous":"<HMAC of line 0>","event":{…},"mac":"<HMAC-SHA-256 of the line up to ,\"mac\">"}
 *
 * What was cut off at the end shows only against a line, or a number, that was kept elsewhere: ship the last one now and
 * then.
 */
import { createHmac } from 'node:crypto'
import { readOptions } from '../../base/arguments.js'
import { equalBytes, fromHex, snapshot, withWiped } from '../../base/bytes.js'
import { ArgumentError } from '../../base/errors.js'
import { isJsonObject, member, parseJsonObject } from '../../base/json.js'
import type { AuditEvent, AuditHook } from './audit.js'

/** Options of {@link chainedAudit}. */
export interface ChainedAuditOptions {
  /** The HMAC key: 32 bytes or more, which are copied; known to whoever verifies, and to nobody who can write the lines. */
  readonly key: Uint8Array
  /** Takes a line, without its end. Resolved means durable, where that is asked for (`auditRequired`). */
  readonly write: (line: string) => void | Promise<void>
  /** The last line of before, where the chain goes on; absent where it begins. */
  readonly after?: string
}

const MIN_KEY_BYTES = 32
/** Before the first line. */
const START = '0'.repeat(64)
const MAC = /^([\s\S]*),"mac":"([0-9a-f]{64})"\}$/
/** An audit event has no more than a kilobyte or two. */
const MAX_LINE = 65_536

/**
 * An {@link AuditHook} that writes each event as one line of a chain. Lines are written one after the other, in the order of
 * the chain; where one cannot be written, the hook rejects and the next line takes its place.
 *
 * Errors: `ERR_ARGUMENT` (the key, `write`, a last line that is none of this chain). Later: what `write` rejects with.
 * Source: RFC 2104 (HMAC).
 *
 * @example
 * ```ts
 * const audit = chainedAudit({ key: new Uint8Array(32), write: line => console.log(line) })
 * ```
 */
export function chainedAudit(options: ChainedAuditOptions): AuditHook {
  const { key: given, write, after } = readOptions(options, 'chainedAudit', ['key', 'write', 'after'])
  const key = readKey(given)
  if (typeof write !== 'function') throw new ArgumentError('write must be a function')
  let previous = START
  if (after !== undefined) {
    const found = readLine(after, key)
    if (found === undefined) throw new ArgumentError('after is no line of a chain under this key')
    previous = found.mac
  }
  let tail: Promise<void> = Promise.resolve()
  return (event: AuditEvent) => {
    const mine = tail.then(async () => {
      const text = `{"chain":1,"previous":"${previous}","event":${JSON.stringify(event)}`
      const mac = macOf(key, text)
      await write(`${text},"mac":"${mac}"}`)
      previous = mac
    })
    tail = mine.catch(() => {})
    return mine
  }
}

/** What {@link verifyAuditChain} finds. */
export type ChainVerdict =
  | { readonly intact: true; readonly lines: number; readonly last: string | undefined }
  | { readonly intact: false; readonly line: number; readonly problem: 'not-a-line' | 'mac' | 'order' }

/**
 * Reads the lines of a chain, from its beginning, and says whether they are as they were written; else which line (from
 * 1) is the first that is not. Empty lines are passed over. `last`: the last line's HMAC, to be compared with what was kept
 * elsewhere.
 *
 * Errors: `ERR_ARGUMENT`.
 *
 * @example
 * ```ts
 * const verdict = await verifyAuditChain('… the lines …'.split('\n'), new Uint8Array(32))
 * if (!verdict.intact) console.log(`line ${verdict.line}: ${verdict.problem}`)
 * ```
 */
export async function verifyAuditChain(
  lines: Iterable<string> | AsyncIterable<string>,
  key: Uint8Array,
): Promise<ChainVerdict> {
  const secret = readKey(key)
  let previous = START
  let count = 0
  let line = 0
  for await (const text of lines) {
    line++
    if (text.trim() === '') continue
    if (MAC.exec(text) === null) return { intact: false, line, problem: 'not-a-line' }
    const found = readLine(text, secret)
    if (found === undefined) return { intact: false, line, problem: 'mac' }
    if (found.previous !== previous) return { intact: false, line, problem: 'order' }
    previous = found.mac
    count++
  }
  return { intact: true, lines: count, last: count === 0 ? undefined : previous }
}

function readLine(line: unknown, key: Uint8Array): { previous: string; mac: string } | undefined {
  if (typeof line !== 'string' || line.length > MAX_LINE) return undefined
  const [, text = '', mac = ''] = MAC.exec(line) ?? []
  const stated = fromHex(mac, 'mac')
  // Wiped: it is the MAC that whoever forged the line looks for.
  if (!withWiped(fromHex(macOf(key, text), 'mac'), right => equalBytes(right, stated))) return undefined
  const parsed = parseJsonObject(`${text}}`)
  const previous = isJsonObject(parsed) ? member(parsed, 'previous') : undefined
  return typeof previous === 'string' ? { previous, mac } : undefined
}

function macOf(key: Uint8Array, text: string): string {
  return createHmac('sha256', key).update(text, 'utf8').digest('hex')
}

function readKey(key: Uint8Array): Uint8Array {
  const copy = snapshot(key, 'key')
  if (copy.length < MIN_KEY_BYTES) throw new ArgumentError(`key must be at least ${MIN_KEY_BYTES} bytes`)
  return copy
}
