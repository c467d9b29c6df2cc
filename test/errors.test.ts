import { describe, expect, test } from 'vitest'
import * as library from '../src/index.js'
import {
  AbortedError,
  ArgumentError,
  BackendError,
  ChangeCounterError,
  D1ClientError,
  D1MessageError,
  DataSetError,
  InputError,
  IssuerPinError,
  isIssuerPinError,
  JweError,
  KeyError,
  PinBlockError,
  ProfileError,
  PrwMacError,
  TranslationError,
} from '../src/index.js'
import { everythingShown } from './support/errors.js'

const SAMPLES = [
  new ArgumentError('x'),
  new InputError('ERR_PIN', 'x'),
  new PinBlockError(),
  new TranslationError('ERR_TRANSLATION_REFUSED', 'x'),
  new KeyError('ERR_KEY_USAGE', 'x', 'KID'),
  new JweError('ERR_JWE', 'x'),
  new D1MessageError('pinValue', 'is missing'),
  new ProfileError('/fields/0', 'is missing'),
  new DataSetError('pcc', 'is missing'),
  new ChangeCounterError('spent'),
  new PrwMacError(),
  new D1ClientError('ERR_D1_REQUEST', 'refused', {
    operation: 'create',
    attempt: 2,
    delivery: 'answered',
    retryable: false,
    correlationId: 'C-1',
    status: 409,
    errorCode: '1234',
    text: 'what D1 said',
  }),
  new AbortedError('reason'),
  new BackendError('ERR_BACKEND_BUSY', 'x', { retryable: true }),
]

describe('coded errors', () => {
  test.each(SAMPLES)('$name has a code, is recognised, and keeps its name in a stack', error => {
    expect(error.code).toMatch(/^ERR_[A-Z0-9_]+$/)
    expect(isIssuerPinError(error)).toBe(true)
    expect(error.name).not.toBe('Error')
    expect(error.retryable).toBe(error.code === 'ERR_BACKEND_BUSY')
  })

  test('ArgumentError is a TypeError, all others are IssuerPinErrors', () => {
    expect(new ArgumentError('x')).toBeInstanceOf(TypeError)
    for (const error of SAMPLES.slice(1)) expect(error).toBeInstanceOf(IssuerPinError)
  })

  test('other errors and look-alikes are not ours', () => {
    for (const value of [new Error('x'), { code: 'ERR_PIN' }, undefined, 'ERR_PIN', new TypeError('x')]) {
      expect(isIssuerPinError(value)).toBe(false)
    }
  })

  test('details stand beside the message', () => {
    expect(new KeyError('ERR_KEY_USAGE', 'x', 'KID').kid).toBe('KID')
    expect(new D1MessageError('kid', 'is missing')).toMatchObject({
      field: 'kid',
      message: 'D1 message: kid is missing',
    })
    expect(new AbortedError('reason').cause).toBe('reason')
    expect('cause' in new BackendError('ERR_UNSUPPORTED', 'x')).toBe(false)
  })

  test('what D1 said stands in no message, and is there for who asks', () => {
    const error = SAMPLES.find(sample => sample instanceof D1ClientError) ?? expect.unreachable()
    expect(error).toMatchObject({ message: 'D1 create: refused', status: 409, attempt: 2, errorCode: '1234' })
    expect(everythingShown(error)).not.toContain('what D1 said')
    expect(error instanceof D1ClientError && error.revealText()).toBe('what D1 said')
  })

  test('places and fields are named, reasons too', () => {
    expect(new ProfileError('', 'must be an object').message).toBe(
      'SECCOS profile: the profile must be an object',
    )
    expect(new ProfileError('/prw', 'is missing')).toMatchObject({ path: '/prw' })
    expect(new DataSetError('pcc', 'is missing')).toMatchObject({
      field: 'pcc',
      message: 'data set: pcc is missing',
    })
    expect(new ChangeCounterError('spent')).toMatchObject({
      reason: 'spent',
      message: 'the PIN change counter refuses: spent',
    })
    expect(new PrwMacError().message).toBe('the MAC over the PRW is wrong')
  })

  test('every error class of the library is exported', () => {
    const exported = Object.keys(library).filter(
      name => name.endsWith('Error') && name !== 'isIssuerPinError',
    )
    expect(exported.length).toBeGreaterThanOrEqual(10)
  })
})
