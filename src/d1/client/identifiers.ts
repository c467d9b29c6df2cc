/** What names things towards D1, and the patterns D1 publishes for them. All of it is logged in clear, by D1 as well. */
import { ArgumentError, D1MessageError } from '../../base/errors.js'

/** An anchored pattern, and what completes «must be …». */
interface Rule {
  readonly test: RegExp
  readonly shape: string
}

/** What a request may name. */
export type IdentifierName = 'cardId' | 'x-correlation-id' | 'x-user-id'
/** What a client is configured with. */
export type ConfiguredName = 'issuerId' | 'aggregatorId' | 'issuer' | 'audience'

const IDENTIFIERS: Readonly<Record<IdentifierName, Rule>> = {
  cardId: { test: /^[A-Za-z0-9_-]{1,48}$/, shape: '1 to 48 letters, digits, _ or -' },
  'x-correlation-id': { test: /^[A-Za-z0-9_-]{1,64}$/, shape: '1 to 64 letters, digits, _ or -' },
  'x-user-id': { test: /^[A-Za-z0-9_-]{1,15}$/, shape: '1 to 15 letters, digits, _ or -' },
}

const CONFIGURED: Readonly<Record<ConfiguredName, Rule>> = {
  // Published: 10 characters. That they are unreserved in a URL is our reading.
  issuerId: { test: /^[A-Za-z0-9._~-]{10}$/, shape: '10 letters, digits, ., _, ~ or -' },
  // Nothing is published about these.
  aggregatorId: { test: /^[\x21-\x7e]{1,128}$/, shape: '1 to 128 printable ASCII characters' },
  issuer: { test: /^[\x21-\x7e]{1,128}$/, shape: '1 to 128 printable ASCII characters' },
  audience: { test: /^[\x21-\x7e]{1,512}$/, shape: '1 to 512 printable ASCII characters' },
}

/** An identifier that belongs to a request: `ERR_D1_MESSAGE` naming it where it does not fit. */
export function requireIdentifier(name: IdentifierName, value: unknown): asserts value is string {
  const { test, shape } = IDENTIFIERS[name]
  if (typeof value !== 'string' || !test.test(value)) throw new D1MessageError(name, `must be ${shape}`)
}

/** An identifier that belongs to the configuration: `ERR_ARGUMENT` where it does not fit. */
export function requireText(name: ConfiguredName, value: unknown): asserts value is string {
  const { test, shape } = CONFIGURED[name]
  if (typeof value !== 'string' || !test.test(value)) throw new ArgumentError(`${name} must be ${shape}`)
}
