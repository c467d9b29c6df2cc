/** Prints the demo's story: numbered steps, values with their secret parts masked, and checks that count. */

import { isIssuerPinError } from 'issuer-pin-crypto'

let step = 0
let failures = 0
const notRun: string[] = []

export function chapter(title: string): void {
  step = 0
  console.log(`\n${title}\n${'─'.repeat(title.length)}`)
}

export function say(text: string): void {
  step += 1
  console.log(`${String(step).padStart(2)}. ${text}`)
}

export function show(name: string, value: string): void {
  console.log(`      ${name.padEnd(22)} ${value}`)
}

/** A check of the story; a wrong one decides the exit status. */
export function check(what: string, ok: boolean): void {
  if (!ok) failures += 1
  console.log(`      ${ok ? '✓' : '✗ FAILED:'} ${what}`)
}

/** A part that cannot run here, and why: neither well nor failed. */
export function skip(what: string, reason: string): void {
  notRun.push(what)
  console.log(`      – NOT RUN: ${what}, because ${reason}`)
}

/** Checks that a call is refused with this code. */
export async function checkRefusal(what: string, code: string, call: () => Promise<unknown>): Promise<void> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  check(`${what}: ${code}`, isIssuerPinError(error) && error.code === code)
}

/** First and last characters of an enciphered value: enough to recognise it, not enough to use it. */
export function masked(value: string | Uint8Array): string {
  const text = typeof value === 'string' ? value : Buffer.from(value).toString('hex').toUpperCase()
  return text.length <= 16
    ? `${text.slice(0, 4)}……${text.slice(-2)}`
    : `${text.slice(0, 12)}…${text.slice(-6)} (${text.length} characters)`
}

/** Ends the program: status 1 where a check failed. */
export function finish(): void {
  const rest = notRun.length === 0 ? '' : ` Not run here: ${notRun.join('; ')}.`
  const result = failures === 0 ? 'All checks that were made hold.' : `${failures} checks of the demo FAILED.`
  console.log(`\n${failures === 0 && rest === '' ? 'All checks of the demo hold.' : result}${rest}`)
  process.exitCode = failures === 0 ? 0 : 1
}
