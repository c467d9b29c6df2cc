/**
 * Finds out what a token can do by having it done: known answers with public test keys, as session objects, each
 * step on a session of its own. Mechanism lists are not asked, for they promise what is then refused, and say
 * nothing of what is then wrong.
 *
 * A wrong answer is fatal (`ERR_PKCS11_SELF_TEST`): wrong cryptography is worse than none. A refusal becomes the
 * reason in the plan. A token that lets no clear key in generates its test keys, and is checked as far as that goes.
 */

import { equalBytes } from '../../../base/bytes.js'
import { BackendError } from '../../../base/errors.js'
import type { ObjectHandle, Pkcs11Binding, SessionSource, Station } from '../binding/binding.js'
import { isRefusal, type Pkcs11Error, quietly } from '../binding/errors.js'
import { cbcCipher, DES3_ECB, decrypt, encrypt, xorBlocks } from '../mechanisms/cipher.js'
import type { Means, Plan } from '../mechanisms/plan.js'
import { CHUNK_BYTES, translateChunk } from '../mechanisms/translation.js'
import { KNOWN, requireAnswer } from './known-answers.js'
import { planCmac, planRetailMac } from './probe-mac.js'
import { planAgreement, planSigning } from './probe-pair.js'
import {
  findTestKeys,
  NO_KNOWN_ANSWER,
  type Probe,
  type ProbeOptions,
  type TestKeys,
  tdeaKey,
} from './test-keys.js'

/** Probes a token. Errors: `ERR_PKCS11_SELF_TEST`, and PKCS#11 errors that are not refusals. */
export function probeToken(
  binding: Pkcs11Binding,
  sessions: SessionSource,
  options: ProbeOptions,
): { plan: Plan; testKeys: TestKeys | undefined } {
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
  const testKeys = findTestKeys(on)
  const symmetric = testKeys === undefined ? noTdea(notes) : planSymmetric(on, testKeys, options)
  if (testKeys?.known === false) {
    notes.push('no known answers: this token imports no clear key, and was checked with keys it generated')
  }
  const keyAgreement = planAgreement(on, options)
  const signing = planSigning(on)
  const random = on('random numbers', probeRandom)
  return { plan: { ...symmetric, keyAgreement, signing, random, notes }, testKeys }
}

type SymmetricPlan = Omit<Plan, 'keyAgreement' | 'signing' | 'random' | 'notes'>

function planSymmetric(on: Probe, keys: TestKeys, options: ProbeOptions): SymmetricPlan {
  const tdea = on('TDEA', station => probeTdea(station, keys))
  const cbc = on('TDEA CBC', station => probeCbc(station, keys))
  return {
    tdea: tdea.ok ? { ok: true, by: { twoKeyType: keys.twoKeyType } } : tdea,
    cbcMac: cbc.ok ? { ok: true, by: { way: 'cbc', plan: 'native' } } : cbc,
    retailMac: planRetailMac(on, keys, cbc, options),
    cmacTdea: planCmac(on, keys, 'tdea-2key', cbc, options),
    cmacAes: planCmac(on, keys, 'aes-128', undefined, options),
    translation: planTranslation(on, keys, options),
  }
}

function noTdea(notes: readonly string[]): SymmetricPlan {
  const none = { ok: false, reason: `it takes no TDEA key (${notes.join('; ')})` } as const
  return {
    tdea: none,
    cbcMac: none,
    retailMac: none,
    cmacTdea: none,
    cmacAes: none,
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
  requireAnswer('TDEA CBC', encipherCbc(new Uint8Array(8), plain), expected)
  // And with an IV: the rest of the message after the first block.
  requireAnswer('TDEA CBC', encipherCbc(expected.slice(0, 8), plain.subarray(8)), expected.subarray(8))
  return true
}

function chainByHand(station: Station, key: ObjectHandle, plain: Uint8Array): Uint8Array {
  const chain = new Uint8Array(plain.length)
  let state = new Uint8Array(8)
  for (let at = 0; at < plain.length; at += 8) {
    state = encrypt(station, DES3_ECB, key, xorBlocks(plain.subarray(at, at + 8), state))
    chain.set(state, at)
  }
  return chain
}

function planTranslation(
  on: Probe,
  keys: TestKeys,
  { translateInToken }: ProbeOptions,
): Means<{ readonly chunkBytes: number }> {
  if (!translateInToken) return { ok: false, reason: 'it was not asked for with translateInToken' }
  if (!keys.known) return NO_KNOWN_ANSWER
  let reason = ''
  for (const chunkBytes of CHUNK_BYTES) {
    const what = `translation inside the token, ${chunkBytes} bytes at a time`
    const found = on(what, station => probeTranslation(station, keys, chunkBytes))
    if (found.ok && found.by) return { ok: true, by: { chunkBytes } }
    reason = found.ok ? 'the token cuts the blocks short' : found.reason
  }
  return { ok: false, reason }
}

/** False where another number of bytes comes out: some tokens hold secrets up to a length, and say nothing. */
function probeTranslation(station: Station, testKeys: TestKeys, chunkBytes: number): boolean {
  const { from, to, cipher, translated } = KNOWN.translation
  const keys = {
    from: tdeaKey(station, testKeys, from, ['UNWRAP']),
    to: tdeaKey(station, testKeys, to, ['WRAP']),
  }
  const repeated = (blocks: Uint8Array): Uint8Array => {
    const all = new Uint8Array(Math.max(chunkBytes, blocks.length))
    for (let at = 0; at < all.length; at += blocks.length) all.set(blocks, at)
    return all.subarray(0, chunkBytes)
  }
  const answer = translateChunk(station, keys, repeated(cipher))
  if (answer.length !== chunkBytes) return false
  requireAnswer('the translation of blocks', answer, repeated(translated))
  return true
}

function probeRandom({ binding, session }: Station): true {
  const [one, two] = [binding.C_GenerateRandom(session, 32), binding.C_GenerateRandom(session, 32)]
  if (equalBytes(one, two)) {
    throw new BackendError(
      'ERR_PKCS11_SELF_TEST',
      'the token gives the same random bytes twice; do not use it',
    )
  }
  return true
}
