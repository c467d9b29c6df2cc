import { describe, expect, test } from 'vitest'
import { retryAfterSeconds } from '../../../src/d1/client/answer.js'
import { isPlainCode, networkFailure } from '../../../src/d1/client/exchange.js'

const coded = (code: string, more: object = {}): Error =>
  Object.assign(new Error('secret text'), { code, ...more })
const wrapped = (cause: unknown): Error => new TypeError('fetch failed', { cause })
const several = (...errors: Error[]): Error =>
  Object.assign(new AggregateError(errors), { code: 'ECONNREFUSED' })

describe('what a failure means', () => {
  test.each<[string, unknown, string, string, boolean]>([
    ['nobody there', coded('ECONNREFUSED'), 'ECONNREFUSED', 'not-sent', true],
    ['nobody there, by fetch', wrapped(coded('ECONNREFUSED')), 'ECONNREFUSED', 'not-sent', true],
    ['no such name', coded('ENOTFOUND', { syscall: 'getaddrinfo' }), 'ENOTFOUND', 'not-sent', true],
    [
      'no connection in time',
      wrapped(coded('UND_ERR_CONNECT_TIMEOUT')),
      'UND_ERR_CONNECT_TIMEOUT',
      'not-sent',
      true,
    ],
    [
      'no route, when connecting',
      coded('EHOSTUNREACH', { syscall: 'connect' }),
      'EHOSTUNREACH',
      'not-sent',
      true,
    ],
    ['no route, later', coded('EHOSTUNREACH', { syscall: 'write' }), 'EHOSTUNREACH', 'unknown', true],
    ['a reset', coded('ECONNRESET', { syscall: 'read' }), 'ECONNRESET', 'unknown', true],
    ['a broken pipe', wrapped(coded('EPIPE')), 'EPIPE', 'unknown', true],
    ['a certificate that expired', coded('CERT_HAS_EXPIRED'), 'CERT_HAS_EXPIRED', 'not-sent', false],
    [
      'a certificate of nobody',
      coded('SELF_SIGNED_CERT_IN_CHAIN'),
      'SELF_SIGNED_CERT_IN_CHAIN',
      'not-sent',
      false,
    ],
    [
      'another host',
      coded('ERR_TLS_CERT_ALTNAME_INVALID'),
      'ERR_TLS_CERT_ALTNAME_INVALID',
      'not-sent',
      false,
    ],
    [
      'an alert',
      coded('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'),
      'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
      'unknown',
      false,
    ],
    ['no TLS', coded('EPROTO', { syscall: 'write' }), 'EPROTO', 'unknown', false],
    [
      'all addresses refuse',
      several(coded('ECONNREFUSED'), coded('ECONNREFUSED')),
      'ECONNREFUSED',
      'not-sent',
      true,
    ],
    [
      'one address may have it',
      several(coded('ECONNREFUSED'), coded('ECONNRESET')),
      'ECONNRESET',
      'unknown',
      true,
    ],
    ['an error without code', new RangeError('secret text'), 'RangeError', 'unknown', true],
    ['a code that is a number', coded('4000001234567899', { name: 'x y' }), 'Unknown', 'unknown', true],
    ['no error', 'secret text', 'Unknown', 'unknown', true],
    ['nothing', undefined, 'Unknown', 'unknown', true],
  ])('%s', (_name, error, reason, delivery, retryable) => {
    expect(networkFailure(error)).toEqual({ reason, delivery, retryable })
  })

  test('a circle of causes ends', () => {
    const error = coded('ECONNRESET')
    error.cause = error
    expect(networkFailure(error)).toMatchObject({ reason: 'ECONNRESET' })
  })
})

test.each(['', 'A', '7UP', 'A B', 'A\n', 'PAN_4000001234567899', 'X123456', 'é', 'A'.repeat(65), 7, null])(
  '%j is no code to show',
  value => expect(isPlainCode(value)).toBe(false),
)

test.each(['FIELD_INVALID_FORMAT', 'invalid_grant', 'E12345'])('%s is one', value => {
  expect(isPlainCode(value)).toBe(true)
})

describe('Retry-After', () => {
  const now = Date.parse('Fri, 31 Dec 1999 23:59:59 GMT')
  test.each([
    ['120', 120],
    ['0', 0],
    ['Sat, 01 Jan 2000 00:00:09 GMT', 10],
    ['Fri, 31 Dec 1999 23:00:00 GMT', 0],
  ])('%s', (header, seconds) => expect(retryAfterSeconds(header, now)).toBe(seconds))

  test.each([
    null,
    '',
    '-1',
    '1.5',
    '1e3',
    ' 5',
    'soon',
    '99999999999',
    'Xyz, 99 Abc 2000 00:00:00 GMT',
    '2000-01-01',
  ])('%j says nothing', header => expect(retryAfterSeconds(header, now)).toBeUndefined())
})
