/** What goes wrong, at a start and while it runs, in a sentence that names the way out. */
import { isIssuerPinError } from 'issuer-pin-crypto'
import type { AuditHook } from 'issuer-pin-crypto/d1'

const FAULTS: Readonly<Record<string, string>> = {
  EADDRINUSE:
    'something else listens there; stop it, or take another port (--port, or --health; 0: a free one)',
  EADDRNOTAVAIL:
    'this machine does not have that address; --host takes one of its own, or 0.0.0.0 for all of them',
  ENOTFOUND: 'no address is known for that name; --host takes a name or an address of this machine',
  EAI_AGAIN: 'no address is known for that name; --host takes a name or an address of this machine',
}

const FILES: Readonly<Record<string, string>> = {
  EACCES: 'this user may not go there; take a --dir (or --audit) that it may',
  EPERM: 'this user may not go there; take a --dir (or --audit) that it may',
  EROFS: 'that file system is read-only; take a --dir (or --audit) elsewhere',
  ENOTDIR: 'a file is where a folder should be; take another --dir (or --audit)',
  EISDIR: 'a folder is where a file should be; take another --audit',
  ENOENT: 'that is not there; make the folder or take another, and a new --dir where a file of it has gone',
  ENOSPC: 'the disk is full',
}

/** The message of an error, with the page of its code; what to do, where the operating system says no more than a code. */
export function explained(error: unknown): string {
  if (!(error instanceof Error)) return 'failed'
  if (isIssuerPinError(error)) return `${error.message} (${error.code}: docs/errors/${error.code}.md)`
  const code = String(Reflect.get(error, 'code'))
  const listening = Reflect.get(error, 'syscall') === 'listen'
  const way = FAULTS[code] ?? (listening && code === 'EACCES' ? mayNotListen(error) : FILES[code])
  return way === undefined ? error.message : `${error.message}: ${way}`
}

function mayNotListen(error: Error): string {
  return Reflect.get(error, 'port') === -1
    ? 'there is no such folder, or this user may not write in it; take another --socket'
    : 'this user may not take that port; ports of 1024 and above are free for everybody (--port 8443)'
}

/**
 * The same hook, which also says what D1 is answered with 500 for: once for each operation and fault, and once more where that
 * operation works again. Each request is in the audit.
 */
export function sayingFaults(hook: AuditHook, say: (line: string) => void): AuditHook {
  const faults = new Map<string, string>()
  return (event, cause) => {
    const operation = event.operation ?? 'a request'
    if (event.outcome === 'failed') {
      // What is not of the library may say anything.
      const why = isIssuerPinError(cause) ? explained(cause) : (event.refusal?.reason ?? 'unknown')
      if (faults.get(operation) !== why) say(`${operation} is answered with 500: ${why}`)
      faults.set(operation, why)
    } else if (event.outcome === 'success' && faults.delete(operation)) say(`${operation} works again`)
    return hook(event, cause)
  }
}
