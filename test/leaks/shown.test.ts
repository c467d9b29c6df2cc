/** The search itself: a canary in any spelling, at any place where a program might look, is found. */

import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { IssuerPinError } from '../../src/index.js'
import { canariesOf, found } from './canaries.js'
import { callersError } from './hostile.js'
import { leaksOf, outcomeOf } from './look.js'
import { pan, pin } from './secrets.js'
import { errorShown, everythingShown } from './shown.js'
import { bindAll, openSoftware } from './world.js'

const bytes = randomBytes(16)
const text = '739204118365'
const canaries = canariesOf({ bytes, text })

const SPELLINGS: Readonly<Record<string, string>> = {
  hex: bytes.toString('hex'),
  'upper-case hex': bytes.toString('hex').toUpperCase(),
  base64: bytes.toString('base64'),
  'base64 behind one byte': Buffer.concat([Buffer.of(1), bytes, Buffer.of(2)]).toString('base64'),
  'base64url behind two bytes': Buffer.concat([Buffer.of(1, 2), bytes]).toString('base64url'),
  'a list of numbers': bytes.join(','),
  'a list of numbers in JSON': JSON.stringify([...bytes]),
  'an inspected Buffer': `${Buffer.from(bytes).toString('hex').match(/../g)?.join(' ')}`,
  'percent encoding': [...bytes].map(byte => `%${byte.toString(16).padStart(2, '0')}`).join(''),
  digits: text,
  'digits in base64 of more': Buffer.from(`{"pin":"${text}"}`).toString('base64url'),
  'digits as bytes': Buffer.from(text).toString('hex'),
}

const PLACES: Readonly<Record<string, (secret: string) => unknown>> = {
  'a message': secret => new Error(secret),
  'a stack': secret => Object.defineProperty(new Error('x'), 'stack', { value: secret }),
  'the third cause': secret =>
    new Error('1', { cause: new Error('2', { cause: new Error('3', { cause: { secret } }) }) }),
  'an error of an aggregate': secret => new AggregateError([new Error('a'), new Error(secret)]),
  'a hidden member': secret =>
    Object.defineProperty(new Error('x'), 'hidden', { value: secret, enumerable: false }),
  'a getter of the class': secret =>
    new (class {
      get inside() {
        return secret
      }
    })(),
  'a symbol': secret => ({ [Symbol('s')]: secret }),
  'the name of a symbol': secret => ({ [Symbol(secret)]: 1 }),
  'a Map in an array': secret => [new Map([['k', { secret }]])],
  'toJSON alone': secret => Object.defineProperty({}, 'toJSON', { value: () => secret }),
  'bytes deep inside': secret => ({ a: { b: { c: new Uint8Array(Buffer.from(secret)) } } }),
  'a returned text': secret => secret,
}

describe('the search finds a canary', () => {
  test.each(Object.entries(SPELLINGS))('as %s', (_name, secret) => {
    expect(found(`before ${secret} behind`, canaries)).toHaveLength(1)
  })

  test.each(Object.entries(PLACES))('in %s', (_name, place) => {
    expect(found(everythingShown(place(text)), canaries)).toEqual(['text'])
  })

  test('in the second error of a kind, in its stack and in its members', () => {
    errorShown(new IssuerPinError('ERR_PIN', 'a message'))
    const second = new IssuerPinError('ERR_PIN', 'a message')
    Object.assign(second, { stack: `${second.stack} ${text}` })
    expect(found(errorShown(second), canaries)).toEqual(['text'])
    const third = Object.assign(new IssuerPinError('ERR_PIN', 'a message'), { detail: text })
    expect(found(errorShown(third), canaries)).toEqual(['text'])
  })

  test('and nothing where there is none', () => {
    expect(
      found(everythingShown(new IssuerPinError('ERR_PIN', 'a PIN is 4 to 12 decimal digits')), canaries),
    ).toEqual([])
  })
})

test('the reason of an abort comes back as `cause`, as it was, and the error around it shows nothing', async () => {
  await using backend = await openSoftware()
  const { store } = await bindAll(backend)
  const reason = callersError(`${pin} ${pan}`)
  const outcome = await outcomeOf(() =>
    operationsOf(store).encipher(new Uint8Array(8), { signal: AbortSignal.abort(reason) }),
  )
  if (!('error' in outcome) || !(outcome.error instanceof Error)) expect.fail('it did not fail')
  expect(outcome.error.cause).toBe(reason)
  expect(leaksOf(outcome, 'the abort')).toEqual([])
})
