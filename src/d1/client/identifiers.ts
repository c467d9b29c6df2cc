/** What names things towards D1, and the patterns D1 publishes for them. All of it is logged in clear, by D1 as well. */
import { ArgumentError, D1MessageError } from '../../base/errors.js'
import { CARD_ID_RULE, CORRELATION_ID, ISSUER_ID, type TextRule, USER_ID } from '../contract.js'

/** What a request may name. */
export type IdentifierName = 'cardId' | 'x-correlation-id' | 'x-user-id'
/** What a client is configured with. */
export type ConfiguredName = 'issuerId' | 'aggregatorId' | 'issuer' | 'audience'

const IDENTIFIERS: Readonly<Record<IdentifierName, TextRule>> = {
  cardId: CARD_ID_RULE,
  'x-correlation-id': CORRELATION_ID,
  'x-user-id': USER_ID,
}

const CONFIGURED: Readonly<Record<ConfiguredName, TextRule>> = {
  issuerId: ISSUER_ID,
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
