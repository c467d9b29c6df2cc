import { describe, expect, test } from 'vitest'
import * as library from '../src/index.js'
import {
  AbortedError,
  ArgumentError,
  BackendError,
  D1MessageError,
  InputError,
  IssuerPinError,
  isIssuerPinError,
  JweError,
  KeyError,
  PinBlockError,
  TranslationError,
} from '../src/index.js'

const SAMPLES = [
  new ArgumentError('x'),
  new InputError('ERR_PIN', 'x'),
  new PinBlockError(),
  new TranslationError('ERR_TRANSLATION_REFUSED', 'x'),
  new KeyError('ERR_KEY_USAGE', 'x', 'KID'),
  new JweError('ERR_JWE', 'x'),
  new D1MessageError('pinValue', 'is missing'),
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

  test('every error class of the library is exported', () => {
    const exported = Object.keys(library).filter(
      name => name.endsWith('Error') && name !== 'isIssuerPinError',
    )
    expect(exported.length).toBeGreaterThanOrEqual(10)
  })
})
