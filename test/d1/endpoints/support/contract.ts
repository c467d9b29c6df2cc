/**
 * The published contract, for the validator. `CONTRACT` carries the facts of `d1-outbound-pin-management.openapi.json`
 * that answers must meet, closed (nothing else may be in a body); where the document itself is at hand
 * (`D1_OPENAPI` names the file), answers are validated against that too.
 */
import { existsSync, readFileSync } from 'node:fs'
import { Ajv, type ValidateFunction } from 'ajv'
import { expect } from 'vitest'
import type { Reply } from './wire.js'

export type Operation = 'getPIN' | 'SetPIN' | 'getPINChangeCounter' | 'getToken'

const { D1_OPENAPI } = process.env
const SPEC =
  D1_OPENAPI ?? new URL('../../../../../shared/spec/d1-outbound-pin-management.openapi.json', import.meta.url)
export const specIsPresent: boolean = existsSync(SPEC)

const closed = (properties: object, required: readonly string[] = []) => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
})
const text = { type: 'string' }
const error = closed({ error: text })
const errors = { 400: error, 401: error, 403: error, 404: error, 500: error }
const NO_BODY = null

/** By operation and status; null: no body. */
export const CONTRACT: Readonly<Record<Operation, Readonly<Record<number, object | null>>>> = {
  getPIN: {
    200: closed({ type: { enum: ['ISO0'] }, encryptedPinBlock: { ...text, maxLength: 8192 } }, [
      'type',
      'encryptedPinBlock',
    ]),
    ...errors,
  },
  SetPIN: { 204: NO_BODY, ...errors },
  getPINChangeCounter: {
    200: closed(
      { pcc: { ...text, pattern: '^[0-9]{4}$' }, intdatag: { ...text, minLength: 20, maxLength: 20 } },
      ['pcc', 'intdatag'],
    ),
    ...errors,
    403: closed({ errorCode: { enum: ['PIN_CHANGE_FORBIDDEN', 'CARD_NOT_ACTIVE'] }, error: text }),
  },
  // D1 OAuth API 1.0 has 200 and 400; 401 by RFC 6749, 5.2.
  getToken: {
    200: closed(
      {
        access_token: text,
        token_type: { enum: ['Bearer'] },
        expires_in: text,
        expires_at: text,
        scope: text,
      },
      ['access_token', 'token_type'],
    ),
    400: error,
    401: error,
    500: error,
  },
}

const ajv = new Ajv({ strict: false, allErrors: true })
const compiled = new Map<string, ValidateFunction>()

interface Spec {
  readonly paths: Readonly<Record<string, Readonly<Record<string, SpecOperation>>>>
}
interface SpecOperation {
  readonly operationId: string
  readonly responses: Readonly<Record<string, { readonly $ref?: string; readonly content?: object }>>
}

export const spec: Spec | undefined = specIsPresent ? JSON.parse(readFileSync(SPEC, 'utf8')) : undefined
if (spec !== undefined) ajv.addSchema(spec, 'spec')

/** The operations of the document, with method and path. */
export const specOperations: readonly (SpecOperation & { method: string; path: string })[] = Object.entries(
  spec?.paths ?? {},
).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    ...operation,
    method: method.toUpperCase(),
    path,
  })),
)

function pointer(...parts: readonly string[]): string {
  return `spec#/${parts.map(part => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`
}

/** Where the document has the schema of a response, or undefined where the response has no body. */
function specSchema(operation: Operation, status: number): string | undefined {
  const found = specOperations.find(candidate => candidate.operationId === operation)
  if (found === undefined) return undefined
  const response = found.responses[status]
  expect(response, `${operation} has a ${status} in the contract`).toBeDefined()
  const content = ['content', 'application/json', 'schema']
  if (response?.$ref !== undefined) return pointer(...response.$ref.slice(2).split('/'), ...content)
  if (response?.content === undefined) return undefined
  return pointer('paths', found.path, found.method.toLowerCase(), 'responses', String(status), ...content)
}

function validate(name: string, schema: object, body: unknown): void {
  const check = compiled.get(name) ?? ajv.compile(schema)
  compiled.set(name, check)
  expect(check(body), `${name}: ${ajv.errorsText(check.errors)}`).toBe(true)
}

/** The reply is one that the contract has for this operation: its status, its body, its headers. */
export function expectContract(operation: Operation, { status, headers, body, text }: Reply): void {
  const schema = CONTRACT[operation][status]
  expect(schema, `${operation} has a ${status} in the contract`).not.toBeUndefined()
  expect(headers['cache-control']).toBe('no-store')
  const names = Object.keys(headers).filter(name => !TRANSPORT.has(name))
  if (schema === NO_BODY || schema === undefined) {
    expect(text).toBe('')
    expect(names).toEqual(['cache-control'])
    return
  }
  expect(headers['content-type']).toBe('application/json')
  const extra = [operation === 'getToken' && 'pragma', status === 401 && 'www-authenticate']
  expect(names.sort()).toEqual(['cache-control', 'content-type', ...extra.filter(Boolean)].sort())
  validate(`${operation} ${status}`, schema, body)
  const published = specSchema(operation, status)
  if (published !== undefined) validate(`published ${operation} ${status}`, { $ref: published }, body)
}

/** Headers of HTTP itself. */
const TRANSPORT: ReadonlySet<string> = new Set(['connection', 'content-length', 'date', 'keep-alive'])
