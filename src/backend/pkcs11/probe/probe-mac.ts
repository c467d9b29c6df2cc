/** The probe's steps for MACs: a vendor's or the standard's mechanism, or, where opted in, out of CBC calls. */
import { secretBytes } from '../../../base/bytes.js'
import { cmac } from '../../../primitives/cmac.js'
import { retailMac } from '../../../primitives/iso9797.js'
import { CKM, constantName } from '../binding/constants.js'
import { cbcCipher, cmacMechanism, sign } from '../mechanisms/cipher.js'
import type { MacMeans, Means } from '../mechanisms/plan.js'
import type { RetailMacProfile } from '../mechanisms/vendors.js'
import { KNOWN, requireAnswer } from './known-answers.js'
import {
  macKey,
  NO_KNOWN_ANSWER,
  type Probe,
  type ProbeOptions,
  type TestKeys,
  tdeaKey,
} from './test-keys.js'

/** Algorithm 3: a vendor's mechanism after its known answer, else composed, else the reason why not. */
export function planRetailMac(
  on: Probe,
  keys: TestKeys,
  cbc: Means<true>,
  { retailMac: vendor, composedMac }: ProbeOptions,
): Means<MacMeans> {
  if (vendor !== undefined) return planVendorMac(on, keys, vendor)
  if (!composedMac) {
    return {
      ok: false,
      reason:
        'PKCS#11 has no mechanism for it; name the vendor in retailMac, or opt in to composing it with composedMac',
    }
  }
  if (!cbc.ok) return cbc
  if (!keys.known) return NO_KNOWN_ANSWER
  return on('composed retail MAC', station => {
    const { key, chain: chainKey, message, mac } = KNOWN.retail
    const last = cbcCipher(station, tdeaKey(station, keys, key, ['ENCRYPT']), 'tdea-2key')
    const chain = cbcCipher(station, tdeaKey(station, keys, chainKey, ['ENCRYPT']), 'tdea-3key')
    requireAnswer('the composed retail MAC', retailMac({ chain, last }, secretBytes(8), message), mac)
    return { way: 'cbc', plan: 'composed' } as const
  })
}

function planVendorMac(on: Probe, keys: TestKeys, { name, mechanism }: RetailMacProfile): Means<MacMeans> {
  if (!keys.known) return NO_KNOWN_ANSWER
  const { key: value, message, mac } = KNOWN.retail
  const found = on(`retail MAC (${name})`, station => {
    const key = tdeaKey(station, keys, value, ['SIGN'])
    const answer = sign(station, mechanism, key, message, mac.length)
    requireAnswer(`the retail MAC by ${name}'s mechanism`, answer, mac.subarray(0, answer.length))
    return answer.length
  })
  if (!found.ok) return found
  if (found.by === mac.length) return { ok: true, by: { way: 'sign', mechanism } }
  return { ok: false, reason: `the mechanism of ${name} gives ${found.by} bytes, and all 8 are needed` }
}

/** CMAC with TDEA (`tdea-2key`) or AES (`aes-128`). */
export function planCmac(
  on: Probe,
  keys: TestKeys,
  algorithm: 'tdea-2key' | 'aes-128',
  cbc: Means<true> | undefined,
  { composedMac }: ProbeOptions,
): Means<MacMeans> {
  const mechanism = cmacMechanism(algorithm)
  const name = constantName('CKM', CKM, mechanism.mechanism)
  const { key: value, message, mac } = ANSWERS[algorithm]
  const native = on(name, station => {
    const key = macKey(station, keys, algorithm, value, 'SIGN')
    const answer = sign(station, mechanism, key, message, mac.length)
    requireAnswer(name, answer, keys.known ? mac : answer.slice(0, mac.length))
    return { way: 'sign', mechanism } as const
  })
  if (native.ok || !composedMac || !keys.known || cbc?.ok === false) return native
  return on(`composed CMAC with ${algorithm}`, station => {
    const cipher = cbcCipher(station, macKey(station, keys, algorithm, value, 'ENCRYPT'), algorithm)
    requireAnswer('the composed CMAC', cmac(cipher, message), mac)
    return { way: 'cbc', plan: 'composed' } as const
  })
}

const ANSWERS: Readonly<Record<'tdea-2key' | 'aes-128', (typeof KNOWN)['cmacTdea']>> = {
  'tdea-2key': KNOWN.cmacTdea,
  'aes-128': KNOWN.cmacAes,
}
