/** Audit lines: one JSON object for each request, with OpenTelemetry's names. */
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import type { Writable } from 'node:stream'
import { type AuditHook, otelAttributes } from 'issuer-pin-crypto/d1'

export interface AuditLog {
  readonly hook: AuditHook
  /** Rejects when a line cannot be written: a service without audit is stopped, not run on. */
  readonly broken: Promise<never>
  close(): Promise<void>
}

/** To a file (appended to), or to standard output where it is undefined. Rejects where the file is not to be had. */
export async function openAuditLog(file: string | undefined): Promise<AuditLog> {
  const out: Writable = file === undefined ? process.stdout : await openFile(file)
  const broken = new Promise<never>((_, reject) => {
    // At every line: standard output survives an error, and the next one would end what is still under way.
    out.on('error', error => reject(new Error(`the audit log cannot be written: ${error.message}`)))
  })
  broken.catch(() => {})
  return {
    hook: event => {
      out.write(`${JSON.stringify({ time: new Date().toISOString(), ...otelAttributes(event) })}\n`)
    },
    broken,
    close: () =>
      new Promise(resolve => {
        if (file === undefined) out.write('', () => resolve())
        else out.end(() => resolve())
      }),
  }
}

/** Opened before the first request: a place that cannot be written to ends the start. */
async function openFile(file: string): Promise<Writable> {
  const out = createWriteStream(file, { flags: 'a', mode: 0o600 })
  await once(out, 'open')
  return out
}
