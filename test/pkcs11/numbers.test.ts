/**
 * The numbers of the standard, which most stand-ins take from the very table that they are to be held against: here they are
 * compared with OASIS's own header, which comes with pkcs11js and needs no compiler; and what each return value leads to.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  CKA,
  CKD,
  CKF,
  CKK,
  CKM,
  CKO,
  CKR,
  CKU,
  LOGGED_IN_STATES,
  returnValueName,
} from '../../src/backend/pkcs11/binding/constants.js'
import { cureOf, Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { Supervisor } from '../../src/backend/pkcs11/executor/supervisor.js'
import { someOf } from '../support/some-of.js'
import { AT_ONCE, errorOf } from './support.js'

/** Of version 2.40, and what later ones have added (v3.1, `pkcs11t.h`). */
const HEADER: ReadonlyMap<string, number> = new Map([
  ...headerOf(readFileSync('node_modules/pkcs11js/includes/pkcs11/pkcs11t.h', 'utf8')),
  ['CKA_UNIQUE_ID', 0x04],
  ['CKM_AES_KEY_WRAP_KWP', 0x210b],
  ['CKD_SHA256_KDF_SP800', 0x10],
  ['CKF_FIND_OBJECTS', 0x40],
  ['CKR_ACTION_PROHIBITED', 0x1b],
  ['CKR_AEAD_DECRYPT_FAILED', 0x42],
  ['CKR_CURVE_NOT_SUPPORTED', 0x140],
  ['CKR_TOKEN_RESOURCE_EXCEEDED', 0x201],
  ['CKR_OPERATION_CANCEL_FAILED', 0x202],
  ['CKR_KEY_EXHAUSTED', 0x203],
])

function headerOf(text: string): Map<string, number> {
  const found = new Map<string, number>()
  for (const [, name = '', value = ''] of text.matchAll(
    /^#define (CK[A-Z]_\w+)\s+\(?([\w |]+?)\)?\s*(?:\/\*.*)?$/gm,
  )) {
    const parts = value.split('|').map(part => {
      const bare = part.trim()
      return found.get(bare) ?? Number(bare.replace(/UL$/, ''))
    })
    found.set(
      name,
      parts.reduce((sum, part) => sum + part, 0),
    )
  }
  return found
}

/** What each return value says, and whether another try is worth it, by the names of the standard. */
const SAYS: Readonly<Record<string, readonly [retryable: boolean, names: string]>> = {
  data: [
    false,
    `DATA_INVALID DATA_LEN_RANGE ENCRYPTED_DATA_INVALID ENCRYPTED_DATA_LEN_RANGE AEAD_DECRYPT_FAILED SIGNATURE_INVALID
     SIGNATURE_LEN_RANGE WRAPPED_KEY_INVALID WRAPPED_KEY_LEN_RANGE`,
  ],
  session: [
    true,
    `OPERATION_ACTIVE OPERATION_NOT_INITIALIZED SESSION_CLOSED SESSION_HANDLE_INVALID BUFFER_TOO_SMALL
     OPERATION_CANCEL_FAILED`,
  ],
  'key-handle': [
    true,
    'KEY_HANDLE_INVALID OBJECT_HANDLE_INVALID UNWRAPPING_KEY_HANDLE_INVALID WRAPPING_KEY_HANDLE_INVALID',
  ],
  capacity: [true, 'HOST_MEMORY DEVICE_MEMORY SESSION_COUNT TOKEN_RESOURCE_EXCEEDED'],
  login: [true, 'USER_NOT_LOGGED_IN'],
  pin: [
    false,
    `PIN_INCORRECT PIN_INVALID PIN_LEN_RANGE PIN_EXPIRED PIN_LOCKED USER_PIN_NOT_INITIALIZED USER_TYPE_INVALID
     USER_ANOTHER_ALREADY_LOGGED_IN USER_TOO_MANY_TYPES`,
  ],
  device: [
    true,
    `SLOT_ID_INVALID DEVICE_ERROR DEVICE_REMOVED TOKEN_NOT_PRESENT TOKEN_NOT_RECOGNIZED CRYPTOKI_NOT_INITIALIZED`,
  ],
  configuration: [
    false,
    `ARGUMENTS_BAD ATTRIBUTE_READ_ONLY ATTRIBUTE_SENSITIVE ATTRIBUTE_TYPE_INVALID ATTRIBUTE_VALUE_INVALID ACTION_PROHIBITED
     FUNCTION_NOT_SUPPORTED KEY_SIZE_RANGE KEY_TYPE_INCONSISTENT KEY_NOT_NEEDED KEY_NEEDED KEY_INDIGESTIBLE
     KEY_FUNCTION_NOT_PERMITTED KEY_NOT_WRAPPABLE KEY_UNEXTRACTABLE MECHANISM_INVALID MECHANISM_PARAM_INVALID
     SESSION_READ_ONLY TEMPLATE_INCOMPLETE TEMPLATE_INCONSISTENT TOKEN_WRITE_PROTECTED UNWRAPPING_KEY_SIZE_RANGE
     UNWRAPPING_KEY_TYPE_INCONSISTENT WRAPPING_KEY_SIZE_RANGE WRAPPING_KEY_TYPE_INCONSISTENT RANDOM_NO_RNG
     DOMAIN_PARAMS_INVALID CURVE_NOT_SUPPORTED PUBLIC_KEY_INVALID FUNCTION_REJECTED KEY_EXHAUSTED`,
  ],
}

test('each return value is of one kind, and is worth another try by that; of any other only the token can tell', () => {
  const known: ReadonlyMap<string, readonly [kind: string, retryable: boolean]> = new Map(
    Object.entries(SAYS).flatMap(([kind, [retryable, names]]) =>
      names.split(/\s+/).map(name => [`CKR_${name}`, [kind, retryable]] as const),
    ),
  )
  const values = someOf([...HEADER].filter(([name]) => name.startsWith('CKR_')))
  const found = values.map(([name, value]) => {
    const { kind, retryable } = new Pkcs11Error('C_Sign', value)
    return [name, [kind, retryable]]
  })
  expect(found).toEqual(values.map(([name]) => [name, known.get(name) ?? ['unclear', false]]))
  // None is misspelt here.
  expect([...known.keys()].filter(name => !HEADER.has(name))).toEqual([])
})

describe('the numbers of this library', () => {
  test.each(Object.entries({ CKA, CKD, CKF, CKK, CKM, CKO, CKR, CKU }))('%s', (prefix, table) => {
    const theirs = Object.keys(table).map(name => [name, HEADER.get(`${prefix}_${name}`)])
    expect(table).toEqual(Object.fromEntries(theirs))
  })

  test('return values by their names, and all that the header has', () => {
    const names = [...HEADER].filter(([name]) => /^CKR_(?!VENDOR_DEFINED)/.test(name))
    expect(names.length).toBeGreaterThan(90)
    expect(names.map(([, value]) => returnValueName(value))).toEqual(names.map(([name]) => name))
  })

  test('the states of a session in which the user is logged in', () => {
    expect(LOGGED_IN_STATES).toEqual(
      ['CKS_RO_USER_FUNCTIONS', 'CKS_RW_USER_FUNCTIONS'].map(name => HEADER.get(name)),
    )
  })
})

const valuesOf = (names: RegExp): readonly [string, number][] =>
  someOf([...HEADER].filter(([name]) => name.startsWith('CKR_') && names.test(name.slice(4))))

describe('what a return value leads to', () => {
  test.each([
    ['finding the key anew', /(?<!SESSION)_HANDLE_INVALID$/, 'key'],
    ['another session', /^(SESSION_(CLOSED|HANDLE_INVALID)|OPERATION_)/, 'session'],
    ['a new login', /^USER_NOT_LOGGED_IN$/, 'login'],
    [
      'initialising the module anew',
      /^(DEVICE_(ERROR|REMOVED)|TOKEN_NOT_|CRYPTOKI_NOT_|SLOT_ID_)/,
      'initialise',
    ],
    ['asking the token', /^(GENERAL_ERROR|FUNCTION_FAILED)$/, 'ask'],
    ['nothing, for it is about what was given', /^(DATA|ENCRYPTED_DATA|WRAPPED_KEY)_/, 'none'],
    ['nothing, for there is no room now', /^((HOST|DEVICE)_MEMORY|SESSION_COUNT|TOKEN_RESOURCE_)/, 'none'],
    [
      'nothing: the token does not do it',
      /^(MECHANISM|KEY_(SIZE|TYPE|FUNCTION)|TEMPLATE|ATTRIBUTE)_/,
      'none',
    ],
  ])('%s', (_what, names, cure) => {
    const values = valuesOf(names)
    const found = values.map(([name, value]) => [name, cureOf(new Pkcs11Error('C_Encrypt', value))])
    expect(found).toEqual(values.map(([name]) => [name, cure]))
  })

  /** A supervisor whose login fails so, and what it does after it. */
  async function afterRefused(value: number) {
    const did: string[] = []
    const executor = {
      logIn: () => Promise.reject(new Pkcs11Error('C_Login', value, 'ERR_PKCS11_LOGIN')),
      letGo: async () => void did.push('letGo'),
      comeBack: () => Promise.reject(new Pkcs11Error('C_Login', value, 'ERR_PKCS11_LOGIN')),
    }
    const later = (): (() => void) => {
      did.push('later')
      return () => undefined
    }
    const options = { onEvent: undefined, reinitialise: true }
    const supervisor = new Supervisor(executor as never, options, { ...AT_ONCE, later })
    const error = await errorOf(() => supervisor.recover('login', new Error('lost'), 0))
    const again = await errorOf(() => supervisor.recover('login', new Error('lost'), 0))
    return { did, error, again }
  }

  test('a PIN, or a user, that is refused: it is not sent again by any way, for it would lock', async () => {
    for (const [name, value] of valuesOf(/^(PIN_(?!TOO_WEAK)|USER_(?!(ALREADY|NOT)_LOGGED))/)) {
      const { did, error, again } = await afterRefused(value)
      expect([name, did, error.retryable]).toEqual([name, [], false])
      expect(again).toBe(error)
    }
  })

  test('a device that goes in the middle of the login: no PIN was refused, and coming back is tried', async () => {
    for (const [name, value] of valuesOf(/^(DEVICE_|TOKEN_NOT_|GENERAL_ERROR)/)) {
      const { did, error, again } = await afterRefused(value)
      expect([name, did, error.retryable]).toEqual([name, ['letGo', 'later'], true])
      // Nobody who calls meanwhile begins one more.
      expect(again).toBe(error)
    }
  })
})
