import { inspect } from 'node:util'
import { expect } from 'vitest'
import { type CodedError, type ErrorCode, isIssuerPinError } from '../../src/index.js'

/** What a thrown value shows of itself anywhere a program might look. */
export function everythingShown(error: unknown): string {
  const own = error instanceof Error ? `${error.message} ${error.stack} ${String(error.cause)}` : ''
  return `${own} ${inspect(error, { depth: 10, showHidden: true })} ${JSON.stringify(error)} ${String(error)}`
}

/** Runs the call and returns the coded error it must end with, which must not show any of the secrets. */
export async function failure(
  call: () => unknown,
  code: ErrorCode,
  secrets: readonly string[] = [],
): Promise<CodedError> {
  const error = await Promise.resolve()
    .then(call)
    .then(
      result => expect.fail(`resolved with ${inspect(result)} where ${code} was due`),
      (thrown: unknown) => thrown,
    )
  if (!isIssuerPinError(error)) throw error
  expect(error.code).toBe(code)
  const shown = everythingShown(error).toUpperCase()
  for (const secret of secrets) expect(shown).not.toContain(secret.toUpperCase())
  return error
}
