import { beforeAll, describe, expect, test } from 'vitest'
import { generateMac } from '../../src/mac/generate.js'
import { type VerifyMacInput, verifyMac } from '../../src/mac/verify.js'
import { computePrw, type VerifyPrwInput, verifyPrw } from '../../src/seccos/prw.js'
import { generatePrwMac, type VerifyPrwMacInput, verifyPrwMac } from '../../src/seccos/prw-mac.js'
import { keysFor, PROFILES, pan, pin } from '../seccos/fixtures.js'
import { steadyT, T_LIMIT, welchT } from './timing.js'

const CALLS = 4000

// A noisy machine may disturb one run; a leak shows in each of three.
const AGAIN = { retry: 2 }

describe('the harness', AGAIN, () => {
  /** What nobody should write: it ends at the first difference. */
  const naive = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i])
  const length = 4096
  const right = new Uint8Array(length)
  const first = Uint8Array.from(right, (byte, i) => (i === 0 ? 1 : byte))
  const last = Uint8Array.from(right, (byte, i) => (i === length - 1 ? 1 : byte))

  test('sees a comparison that ends early', async () => {
    const t = await welchT([() => naive(right, first), () => naive(right, last)], CALLS)
    expect(t).toBeGreaterThan(T_LIMIT)
  })
  test('sees nothing between calls that are the same', async () => {
    const t = await steadyT([() => naive(right, last), () => naive(right, last)], CALLS)
    expect(t).toBeLessThan(T_LIMIT)
  })
})

describe('first byte wrong, last byte wrong: no difference', AGAIN, () => {
  let mac: VerifyMacInput
  let prw: VerifyPrwInput
  let prwMac: VerifyPrwMacInput
  beforeAll(async () => {
    const { profile, values } = PROFILES[0] ?? expect.unreachable()
    const keys = await keysFor(profile)
    const { dataSet, prwValue } = await computePrw({ ...values, key: keys.generate, profile })
    const { macValue } = await generatePrwMac({ key: keys.mac, profile, dataSet, prwValue })
    const common = { key: keys.mac, message: dataSet, algorithm: 'iso9797-1-alg3', padding: 2 } as const
    mac = { ...common, length: 8, mac: await generateMac({ ...common, length: 8 }) }
    prw = { key: keys.verify, profile, pin, pan, dataSet, prwValue }
    prwMac = { key: keys.mac, profile, dataSet, prwValue, macValue }
  })
  const flipByte = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 0x80 : byte))
  const flipDigit = (text: string, at: number) =>
    [...text].map((digit, i) => (i === at ? (digit === '0' ? '1' : '0') : digit)).join('')

  test('verifyMac', async () => {
    const [first, last] = [
      { ...mac, mac: flipByte(mac.mac, 0) },
      { ...mac, mac: flipByte(mac.mac, 7) },
    ]
    expect([await verifyMac(first), await verifyMac(last)]).toEqual([false, false])
    expect(await steadyT([() => verifyMac(first), () => verifyMac(last)], CALLS)).toBeLessThan(T_LIMIT)
  })
  test('verifyPrw', async () => {
    const at = (i: number) => ({ ...prw, prwValue: flipDigit(prw.prwValue, i) })
    const [first, last] = [at(0), at(15)]
    expect(await verifyPrw(first)).toMatchObject({ verified: false })
    expect(await steadyT([() => verifyPrw(first), () => verifyPrw(last)], CALLS)).toBeLessThan(T_LIMIT)
  })
  test('verifyPrwMac', async () => {
    const at = (i: number) => ({ ...prwMac, macValue: flipDigit(prwMac.macValue, i) })
    const [first, last] = [at(0), at(15)]
    expect(await verifyPrwMac(first)).toMatchObject({ verified: false })
    expect(await steadyT([() => verifyPrwMac(first), () => verifyPrwMac(last)], CALLS)).toBeLessThan(T_LIMIT)
  })
})
