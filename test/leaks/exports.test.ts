/** What is public has a leak case: the table against the actual exports of each subpath, and the methods of each object. */

import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import * as d1 from '../../src/d1.js'
import * as core from '../../src/index.js'
import * as pkcs11 from '../../src/pkcs11.js'
import * as postgres from '../../src/postgres.js'
import * as software from '../../src/software.js'
import * as sqlite from '../../src/sqlite.js'
import * as testing from '../../src/testing.js'
import * as tools from '../../src/tools.js'
import { CORE, NO_VERBS } from './cases-core.js'
import { bearerToken, D1 } from './cases-d1.js'
import { openSoftware, quotingBackend, Token, worldOn } from './world.js'

/** Verbs whose cases need more than a call and have test files of their own, by the file. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  pkcs11Backend: 'pkcs11.test.ts',
  openKeyStore: 'pkcs11.test.ts',
  pkcs11Group: 'pkcs11.test.ts',
  'KeyStore.generateKey': 'pkcs11.test.ts',
  'KeyStore.importKey': 'pkcs11.test.ts',
  'KeyStore.assembleKey': 'pkcs11.test.ts',
  'KeyStore.unwrapKey': 'pkcs11.test.ts',
  keyCeremony: 'pkcs11.test.ts',
  importKeyBlock: 'pkcs11.test.ts',
  sealCeremonyRecord: '../key-block/ceremony.test.ts',
  openCeremonyRecord: '../key-block/ceremony.test.ts',
  'KeyStore.listKeys': 'pkcs11.test.ts',
  'KeyStore.deleteKey': 'pkcs11.test.ts',
  'KeyStore.close': 'pkcs11.test.ts',
  'Backend.close': 'verbs.test.ts',
  'Backend.unbind': 'pkcs11.test.ts',
  'Backend.seal': '../backend/key-ring.test.ts',
  panSealer: 'stores.test.ts',
  rotateStorageKey: '../stores/rotate.test.ts',
  resealPans: '../stores/rotate.test.ts',
  resealRows: '../stores/sealed.test.ts',
  rowSealer: '../stores/sealed.test.ts',
  noSuchCard: 'stores.test.ts',
  readCard: 'stores.test.ts',
  readPinBlock: 'stores.test.ts',
  readPrw: 'stores.test.ts',
  readRef: 'stores.test.ts',
  requireIssuerId: 'stores.test.ts',
  requireState: 'stores.test.ts',
  storeClosed: 'stores.test.ts',
  openSqliteIssuerStore: 'stores.test.ts',
  openPostgresIssuerStore: 'stores.test.ts',
  memoryIssuerStore: 'stores.test.ts',
  'Store.read': 'stores.test.ts',
  'Store.compareAndSet': 'stores.test.ts',
  'Store.compareAndSetAll': 'stores.test.ts',
  'Store.purge': 'stores.test.ts',
  'Store.keys': 'stores.test.ts',
  'Store.close': 'stores.test.ts',
  answerClientError: 'http.test.ts',
  'Cards.create': 'http.test.ts',
  'Cards.register': 'http.test.ts',
  'Cards.renew': 'http.test.ts',
  'Cards.replace': 'http.test.ts',
  'Cards.delete': 'http.test.ts',
  'Cards.registerMany': 'http.test.ts',
  'MtlsFetch.close': 'http.test.ts',
}

const COVERED = new Set([...CORE, ...D1].map(({ verb }) => verb))
const isCovered = (verb: string): boolean => COVERED.has(verb) || verb in ELSEWHERE

/** The subpaths of package.json that are code, and the module of each. */
const SUBPATHS: Readonly<Record<string, object>> = {
  '.': core,
  './software': software,
  './pkcs11': pkcs11,
  './d1': d1,
  './sqlite': sqlite,
  './postgres': postgres,
  './tools': tools,
  './testing': testing,
}

const { exports } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  exports: Readonly<Record<string, unknown>>
}

describe('the table of leak cases', () => {
  test('knows every subpath that is code', () => {
    const code = Object.keys(exports).filter(path => typeof exports[path] === 'object')
    expect(code.filter(path => !(path in SUBPATHS))).toEqual([])
  })

  test.each(Object.entries(SUBPATHS))('has a case for every export of %s', (_path, module) => {
    const classes = ['Pin', 'Pan']
    const missing = Object.keys(module).filter(
      name => !isCovered(name) && !(name in NO_VERBS) && !classes.includes(name),
    )
    expect(missing).toEqual([])
  })

  test('has a case for every method of every object that a verb gives out', async () => {
    await using backend = await openSoftware()
    const { pin, pan, counter, keys } = await worldOn(backend)
    const token = await Token.make()
    await using keyStore = await token.openStore()
    const tokens = await d1.ownTokens({
      algorithm: 'HS256',
      keys: [{ kty: 'oct', kid: 'T', k: Buffer.alloc(32, 7).toString('base64url') }],
      issuer: 'i',
      audience: 'a',
      lifetimeSeconds: 60,
    })
    const signer: d1.AssertionSigner = { kid: 'S', sign: async () => new Uint8Array(64) }
    const client = d1.d1Client({ environment: 'staging', issuerId: 'is_tbank01', signer })
    const objects: Readonly<Record<string, object>> = {
      Pin: pin,
      Pan: pan,
      Key: keys.store,
      Backend: backend,
      KeyOperations: operationsOf(keys.store),
      ChangeCounter: counter,
      TryCounter: new core.TryCounter({
        store: core.memoryStore(),
        products: { classic: { limit: 3, afterSuccess: 'reset' } },
      }),
      KeyStore: keyStore,
      OwnTokens: tokens,
      Cards: client.cards,
      Store: core.memoryStore(),
    }
    const missing = Object.entries(objects).flatMap(([name, object]) =>
      methodsOf(object)
        .map(method => `${name}.${method}`)
        .filter(verb => !isCovered(verb)),
    )
    expect(missing).toEqual([])
    expect(bearerToken.length).toBeGreaterThan(100)
  })

  test('names no verb that is gone', () => {
    const all = new Set(Object.values(SUBPATHS).flatMap(module => Object.keys(module)))
    const verbs = [...COVERED, ...Object.keys(NO_VERBS)].filter(verb => !verb.includes('.'))
    expect(verbs.filter(verb => !all.has(verb))).toEqual([])
  })

  test('has a backend that fails at every operation of the port', async () => {
    const backend = await quotingBackend()
    expect(methodsOf(backend).sort()).toEqual([
      'bind',
      'capabilities',
      'close',
      'health',
      'randomBytes',
      'seal',
      'unbind',
    ])
    const key = await backend.bind({ kid: 'STORE', usage: 'pin-encryption' })
    expect(methodsOf(operationsOf(key)).sort()).toEqual([
      'decipher',
      'decipherBound',
      'decipherVariant',
      'deriveContentKey',
      'encipher',
      'encipherBound',
      'mac',
      'openContent',
      'randomBytes',
      'reencipher',
      'sign',
      'verifyPin',
    ])
  })
})

/** Names of functions, own or of the class, without the constructor. */
function methodsOf(object: object): string[] {
  const prototype: unknown = Object.getPrototypeOf(object)
  const holders = [
    object,
    ...(prototype === Object.prototype || prototype === null ? [] : [prototype as object]),
  ]
  return holders
    .flatMap(holder => Object.entries(Object.getOwnPropertyDescriptors(holder)))
    .filter(([name, { value }]) => typeof value === 'function' && name !== 'constructor')
    .map(([name]) => name)
}
