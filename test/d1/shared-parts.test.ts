/** The parts that both directions share: the audit hook's caller, names of errors, attributes; wiping. */
import { afterEach, beforeEach, describe, expect, type MockInstance, test, vi } from 'vitest'
import { withWiped } from '../../src/base/bytes.js'
import { auditor, nameOfError, otelAttributes, textOf } from '../../src/d1/audit.js'

describe('withWiped', () => {
  test('wipes when the work is done, not before, and hands its result on', async () => {
    const buffer = Uint8Array.of(1, 2, 3)
    const seen = await withWiped(buffer, async bytes => {
      await Promise.resolve()
      return [...bytes]
    })
    expect(seen).toEqual([1, 2, 3])
    expect([...buffer]).toEqual([0, 0, 0])
  })

  test.each([
    ['throws', () => expect.fail('no')],
    ['rejects', () => Promise.reject(new Error('no'))],
  ])('wipes when the work %s', async (_how, work) => {
    const buffer = Uint8Array.of(1, 2, 3)
    // Thrown at once, or by a promise: as the work does it.
    await expect(async () => withWiped(buffer, work)).rejects.toThrow('no')
    expect([...buffer]).toEqual([0, 0, 0])
  })
})

describe('the name of an error', () => {
  test.each<[string, unknown, string | undefined]>([
    ['its code', { code: 'ECONNREFUSED', name: 'Error' }, 'ECONNREFUSED'],
    ['its name, where the code is a number', { code: 42, name: 'Error' }, 'Error'],
    ['its name, where the code is data', { code: 'no_123456', name: 'Error' }, 'Error'],
    ['a code with five digits', { code: '53300' }, '53300'],
    ['64 characters', { code: 'x'.repeat(64) }, 'x'.repeat(64)],
    ['nothing longer', { code: 'x'.repeat(65) }, undefined],
    ['no text with a space in it', { code: 'a b', name: 'c ' }, undefined],
    ['nothing of a text', 'ERR', undefined],
    ['nothing of null', null, undefined],
  ])('is %s', (_what, error, name) => {
    expect(nameOfError(error)).toBe(name)
  })

  test('a member that is no text is none', () => {
    expect(textOf({ field: 7 }, 'field')).toBeUndefined()
    expect(textOf({ field: 'pan' }, 'field')).toBe('pan')
  })
})

describe('the hook', () => {
  let warning: MockInstance<typeof process.emitWarning>
  beforeEach(() => {
    warning = vi.spyOn(process, 'emitWarning').mockReturnValue()
  })
  afterEach(() => warning.mockRestore())
  const settled = () => new Promise(setImmediate)

  test.each([
    ['throws', () => expect.fail('no')],
    ['rejects', () => Promise.reject(new Error('no'))],
  ])('that %s is spoken of once', async (_how, hook) => {
    const emit = auditor(hook, 'somebody')
    for (let i = 0; i < 2; i++) emit(() => ({}), undefined)
    await settled()
    expect(warning.mock.calls).toEqual([['the audit hook of somebody failed', 'IssuerPinWarning']])
  })

  test('is not called where the event cannot be made', async () => {
    const hook = vi.fn()
    auditor(hook, 'somebody')(() => expect.fail('a getter'), undefined)
    await settled()
    expect(hook).not.toHaveBeenCalled()
    expect(warning).toHaveBeenCalledOnce()
  })

  test('gets the event and what is behind it, and no warning', async () => {
    const hook = vi.fn()
    auditor(hook, 'somebody')(() => 'event', 'cause')
    await settled()
    expect(hook.mock.calls).toEqual([['event', 'cause']])
    expect(warning).not.toHaveBeenCalled()
  })
})

test('attributes are those that the event has, and no others', () => {
  const event = { outcome: 'success', status: 204, keys: [], durationMs: 3 } as const
  const empty = { 'd1.key.role': [], 'd1.key.id': [], 'd1.key.check_value': [] }
  expect(otelAttributes(event)).toStrictEqual({
    'd1.outcome': 'success',
    'http.response.status_code': 204,
    ...empty,
    'd1.duration_ms': 3,
  })
  const call = {
    ...event,
    operation: 'register',
    issuerId: 'is_tbank01',
    correlationId: 'run-1',
    tokenFetched: false,
    refusal: { reason: 'response' },
  } as const
  expect(otelAttributes({ ...call, requests: 1 })).not.toHaveProperty(['http.request.resend_count'])
  expect(otelAttributes({ ...call, requests: 2 })).toMatchObject({
    'http.request.resend_count': 1,
    'd1.token.fetched': false,
    'error.type': 'response',
  })
})
