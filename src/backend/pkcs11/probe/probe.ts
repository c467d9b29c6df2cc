/**
 * Finds out what a token can do by having it done: known answers with public test keys, as session objects, each
 * step on a session of its own. Mechanism lists are not asked, for they promise what is then refused, and say
 * nothing of what is then wrong.
 *
 * A wrong answer is fatal (`ERR_PKCS11_SELF_TEST`): wrong cryptography is worse than none. A refusal becomes the
 * reason in the plan. A token that lets no clear key in generates its test keys, and is checked as far as that goes.
 */

import { concatBytes, copyInto, equalBytes, secretBytes, xorBytes } from '../../../base/bytes.js'
import type { ObjectHandle, Pkcs11Binding, SessionSource, Station } from '../binding/binding.js'
import { CKA, CKK } from '../binding/constants.js'
import { isRefusal, type Pkcs11Error, quietly } from '../binding/errors.js'
import {
  CHUNK_BYTES,
  cbcCipher,
  cmacMechanism,
  DES3_ECB,
  decrypt,
  decryptBound,
  encrypt,
  encryptBound,
  opensToAnybody,
  translateChunk,
  wrongAnswer,
} from '../mechanisms/cipher.js'
import type { Means, Plan } from '../mechanisms/plan.js'
import { asThreeKeys, makeWith, secretKey } from '../mechanisms/templates.js'
import {
  aesKey,
  findTestKeys,
  importing,
  KNOWN,
  NO_KNOWN_ANSWER,
  type Probe,
  type ProbeOptions,
  requireAnswer,
  type TestKeys,
  tdeaKey,
} from './known-answers.js'
import { probeAttributes, probeBonds, probeRights } from './probe-attributes.js'
import {
  planAgreement,
  planCmac,
  planDerivation,
  planHmac,
  planRetailMac,
  planSigning,
} from './probe-operations.js'

/** Probes a token. Errors: `ERR_PKCS11_SELF_TEST`, and PKCS#11 errors that are not refusals. */
export function probeToken(
  binding: Pkcs11Binding,
  sessions: SessionSource,
  options: ProbeOptions,
): { plan: ProbedPlan; testKeys: TestKeys | undefined } {
  const notes: string[] = []
  const on: Probe = (what, step) => {
    const session = sessions.open()
    try {
      return { ok: true, by: step({ binding, session }) }
    } catch (error) {
      if (!isRefusal(error)) throw error
      const reason = refusalOf(error)
      notes.push(`${what}: ${reason}`)
      return { ok: false, reason }
    } finally {
      quietly(() => sessions.close(session))
    }
  }
  if (options.kind === 'trust-bound-keys') return { plan: trusting(on, options, notes), testKeys: undefined }
  const testKeys = findTestKeys(on, options)
  const aes = planAes(on, options)
  const symmetric = testKeys === undefined ? noTdea(notes) : planSymmetric(on, testKeys, options)
  if (testKeys?.known === false) {
    notes.push('no known answers: this token was checked with keys it generated, as far as that goes')
  }
  const keyAgreement = planAgreement(on, options)
  const signing = planSigning(on, options)
  const random = on('random numbers', probeRandom)
  const rights = probeRights(on, testKeys, notes)
  const refused = probeAttributes(on, testKeys, { nestedTemplates: options.nestedTemplates, notes })
  if (testKeys?.known === true && aes.ok) probeBonds(on, refused, notes)
  const { publicKeysPrivate } = options
  return {
    plan: {
      ...symmetric,
      aes,
      keyAgreement,
      signing,
      random,
      rights,
      refused,
      publicKeysPrivate,
      trusts: false,
      notes,
    },
    testKeys,
  }
}

/**
 * What a token is taken to do where no session key can be made (a user who may use keys and make none). Only what each key's
 * check value, which has to be stated, or each answer shows: ECB, CMAC, and signatures, which are verified.
 */
function trusting(on: Probe, { publicKeysPrivate }: ProbeOptions, notes: string[]): ProbedPlan {
  const reason = 'it is used only after it was tried, and with probe trust-bound-keys nothing is'
  const none = { ok: false, reason } as const
  const cmacBy = (algorithm: 'tdea-2key' | 'aes-128') => {
    return { ok: true, by: { way: 'sign', mechanism: cmacMechanism(algorithm) } } as const
  }
  notes.push('nothing was tried: each key has to show the check value that is stated at bind')
  return {
    tdea: { ok: true, by: { twoKeyType: CKK.DES2 } },
    aes: { ok: true, by: true },
    cbcMac: none,
    retailMac: none,
    cmacTdea: cmacBy('tdea-2key'),
    cmacAes: cmacBy('aes-128'),
    hmac: none,
    derivation: { tdea: none, aes: none },
    translation: none,
    keyAgreement: none,
    signing: { ok: true, by: true },
    random: on('random numbers', probeRandom),
    rights: {
      copyWidens: true,
      copyOfUncopyableWidens: true,
      modifyWidens: true,
      wrapsOut: true,
      // The check value is all that there is here: it is what trust-bound-keys says is trusted.
      statesAnyCheckValue: false,
    },
    refused: [],
    publicKeysPrivate,
    trusts: true,
    notes,
  }
}

/** All but what the token's name says. */
type ProbedPlan = Omit<Plan, 'hidesDates'>

type SymmetricPlan = Omit<
  Plan,
  | 'aes'
  | 'keyAgreement'
  | 'signing'
  | 'random'
  | 'rights'
  | 'refused'
  | 'publicKeysPrivate'
  | 'hidesDates'
  | 'trusts'
  | 'notes'
>

function planSymmetric(on: Probe, keys: TestKeys, options: ProbeOptions): SymmetricPlan {
  const tdea = on('TDEA', station => probeTdea(station, keys))
  const cbc = on('TDEA CBC', station => probeCbc(station, keys))
  return {
    tdea: tdea.ok ? { ok: true, by: { twoKeyType: keys.twoKeyType } } : tdea,
    cbcMac: cbc.ok ? { ok: true, by: { way: 'cbc', plan: 'native' } } : cbc,
    retailMac: planRetailMac(on, keys, cbc, options),
    cmacTdea: planCmac(on, keys, 'tdea-2key', cbc, options),
    cmacAes: planCmac(on, keys, 'aes-128', undefined, options),
    hmac: planHmac(on, keys),
    derivation: planDerivation(on, keys, options),
    translation: planTranslation(on, keys, options),
  }
}

/** AES as format 4 takes it, with a known key, or with one of the token's making, which then only has to agree with itself. */
function planAes(on: Probe, { kind }: ProbeOptions): Means<true> {
  const attempt = (known: boolean): Means<true> =>
    on(known ? 'AES' : 'AES, with a key of its own', station => probeAes(station, known))
  const [first, ...rest] = importing(kind)
  return rest.reduce((found, known) => (found.ok ? found : attempt(known)), attempt(first))
}

function probeAes(station: Station, known: boolean): true {
  const { key: value, pinField, panField, enciphered } = KNOWN.format4
  const key = aesKey(station, known, value, ['ENCRYPT', 'DECRYPT'])
  const one = encryptBound(station, key, pinField, panField)
  if (known) requireAnswer('PIN block format 4', one, enciphered)
  const [two, fields] = [concatBytes(pinField, pinField), concatBytes(panField, panField)]
  requireAnswer('AES blocks side by side', encryptBound(station, key, two, fields), concatBytes(one, one))
  requireAnswer('the inverse of AES', decryptBound(station, key, one, panField), pinField)
  return true
}

function noTdea(notes: readonly string[]): SymmetricPlan {
  const none = { ok: false, reason: `it takes no TDEA key (${notes.join('; ')})` } as const
  return {
    tdea: none,
    cbcMac: none,
    retailMac: none,
    cmacTdea: none,
    cmacAes: none,
    hmac: none,
    derivation: { tdea: none, aes: none },
    translation: none,
  }
}

function refusalOf(error: Pkcs11Error): string {
  return `${error.functionName} returned ${error.returnValueName}`
}

function probeTdea(station: Station, keys: TestKeys): true {
  const { tdea2, tdea3 } = KNOWN
  const key = tdeaKey(station, keys, tdea2.key, ['ENCRYPT', 'DECRYPT'])
  const cipher = encrypt(station, DES3_ECB, key, tdea2.plain)
  requireAnswer('the inverse of TDEA', decrypt(station, DES3_ECB, key, cipher), tdea2.plain)
  if (!keys.known) return true
  requireAnswer('TDEA with two keys', cipher, tdea2.cipher)
  const three = tdeaKey(station, keys, tdea3.key, ['ENCRYPT'])
  requireAnswer('TDEA with three keys', encrypt(station, DES3_ECB, three, tdea3.plain), tdea3.cipher)
  return true
}

/** With known keys against a published chain, else against ECB under the same key. */
function probeCbc(station: Station, keys: TestKeys): true {
  const { key: value, plain, cipher } = KNOWN.cbc
  const key = tdeaKey(station, keys, value, ['ENCRYPT'])
  const { encipherCbc } = cbcCipher(station, key, 'tdea-2key')
  const expected = keys.known ? cipher : chainByHand(station, key, plain)
  requireAnswer('TDEA CBC', encipherCbc(secretBytes(8), plain), expected)
  // And with an IV: the rest of the message after the first block.
  requireAnswer('TDEA CBC', encipherCbc(expected.slice(0, 8), plain.subarray(8)), expected.subarray(8))
  return true
}

function chainByHand(station: Station, key: ObjectHandle, plain: Uint8Array): Uint8Array {
  const chain = secretBytes(plain.length)
  let state = secretBytes(8)
  for (let at = 0; at < plain.length; at += 8) {
    state = encrypt(station, DES3_ECB, key, xorBytes(plain.subarray(at, at + 8), state))
    copyInto(chain, state, at)
  }
  return chain
}

function planTranslation(
  on: Probe,
  keys: TestKeys,
  { translateInToken, translationKeysMayDecipher }: ProbeOptions,
): Plan['translation'] {
  if (!translateInToken) return { ok: false, reason: 'it was not asked for with translateInToken' }
  if (!keys.known) return NO_KNOWN_ANSWER
  const template = on('a template for what is unwrapped', station => isHonoured(station, keys))
  const closed = template.ok && template.by
  if (!closed && !translationKeysMayDecipher) {
    return {
      ok: false,
      reason:
        'this token does not bind what a key unwraps to a template, so its users could decipher with such a key; translationKeysMayDecipher accepts that',
    }
  }
  let reason = ''
  for (const chunkBytes of CHUNK_BYTES) {
    const what = `translation inside the token, ${chunkBytes} bytes at a time`
    const found = on(what, station => probeTranslation(station, keys, chunkBytes))
    if (found.ok && found.by) return { ok: true, by: { chunkBytes, closed } }
    reason = found.ok ? 'the token cuts the blocks short' : found.reason
  }
  return { ok: false, reason }
}

/** Whether CKA_UNWRAP_TEMPLATE keeps what is unwrapped from being readable: some tokens store it and do not look at it. */
function isHonoured(station: Station, testKeys: TestKeys): boolean {
  const name = { label: 'issuer-pin-crypto probe', id: Uint8Array.of(0) }
  const value = KNOWN.translation.from
  const keyType = testKeys.twoKeyType
  const own = keyType === CKK.DES2 ? value : asThreeKeys(value)
  const template = secretKey({ keyType, can: ['UNWRAP'], name, value: own }).map(([type, given]) =>
    type === CKA.TOKEN ? ([type, false] as const) : ([type, given] as const),
  )
  const key = makeWith([template], all => station.binding.C_CreateObject(station.session, all))
  return !opensToAnybody(station, key)
}

/** False where another number of bytes comes out: some tokens hold secrets up to a length, and say nothing. */
function probeTranslation(station: Station, testKeys: TestKeys, chunkBytes: number): boolean {
  const { from, to, cipher, translated } = KNOWN.translation
  const keys = {
    from: tdeaKey(station, testKeys, from, ['UNWRAP']),
    to: tdeaKey(station, testKeys, to, ['WRAP']),
  }
  const repeated = (blocks: Uint8Array): Uint8Array => {
    const all = secretBytes(Math.max(chunkBytes, blocks.length))
    for (let at = 0; at < all.length; at += blocks.length) copyInto(all, blocks, at)
    return all.subarray(0, chunkBytes)
  }
  const answer = translateChunk(station, keys, repeated(cipher))
  if (answer.length !== chunkBytes) return false
  requireAnswer('the translation of blocks', answer, repeated(translated))
  return true
}

function probeRandom({ binding, session }: Station): true {
  const [one, two] = [binding.C_GenerateRandom(session, 32), binding.C_GenerateRandom(session, 32)]
  if (equalBytes(one, two)) throw wrongAnswer('gives the same random bytes twice')
  return true
}
