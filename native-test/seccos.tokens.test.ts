/**
 * The schemes of format 2 on two tokens: derived keys inside and through the host, encipherment, HMAC, digests. Every PRW and MAC
 * is what an independent program computed; what a token lacks is refused with a code, and says so here.
 */
import { afterAll, describe, expect, test } from 'vitest'
import {
  computePrw,
  generatePrwMac,
  type KeyAlgorithm,
  type MacAlgorithm,
  parseProfile,
  verifyPrw,
  verifyPrwMac,
} from '../src/index.js'
import { type KeyStoreOptions, openKeyStore, type Pkcs11Options, pkcs11Backend } from '../src/pkcs11.js'
import { dataSetFromHex } from '../src/seccos/data-set.js'
import { ALGORITHMS, enciphers, macUsageOf, type SeccosProfile } from '../src/seccos/profile/profile.js'
import { backendContract, CONTRACT_KEYS } from '../src/testing.js'
import { keyMaterial, OTHER_PIN } from '../test/seccos/fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from '../test/seccos/schemes.js'
import { failure } from '../test/support/errors.js'
import { describeNss, makeDatabase } from './nss.js'
import { openWith } from './provision.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

type Scheme = keyof typeof SCHEMES
const NAMES = Object.keys(SCHEMES) as Scheme[]
type Options = KeyStoreOptions & Pkcs11Options

/** The keys of a scheme, as a key officer would make them for it. */
function keysOf(name: Scheme, profile: SeccosProfile) {
  return (['prw', 'mac'] as const).flatMap((which, at) => {
    const computation = profile[which]
    const rule = ALGORITHMS[computation.algorithm]
    const { algorithm, material } = keyMaterial(`${rule.cipher}${computation.keyBytes}`, at)
    const derives = computation.derivation !== undefined
    const inputs = computation.inputs.some(({ input }) => input === 'enciphered')
    const wide = enciphers(computation.algorithm) || inputs
    const macs = enciphers(computation.algorithm) ? [] : [rule.port as MacAlgorithm]
    const usages = which === 'prw' ? (['prw-generate', 'prw-verify'] as const) : [macUsageOf(profile)]
    return usages.map(usage => ({
      kid: `${name} ${usage}`,
      usage,
      algorithm: algorithm as KeyAlgorithm,
      material,
      ...(which === 'prw' && { macs }),
      ...(derives && { derives }),
      ...(wide && { enciphers: true }),
    }))
  })
}

function schemesOn(options: Options, refused: Partial<Record<Scheme, string>>): void {
  const profiles = NAMES.map(name => [name, parseProfile(SCHEMES[name])] as const)
  test.each(profiles)('%s', async (name, profile) => {
    // One scheme's keys at a time: the schemes have values in common, for other usages, and a token holds a value for one.
    {
      await using store = await openKeyStore({ ...options, importClearKeys: true })
      for (const { kid, id } of await store.listKeys()) await store.deleteKey({ kid, id })
      for (const key of keysOf(name, profile)) await store.importKey(key)
    }
    await using token = await pkcs11Backend(options)
    const bound = (usage: ReturnType<typeof macUsageOf>) => token.bind({ kid: `${name} ${usage}`, usage })
    const generate = await bound('prw-generate')
    const verify = await bound('prw-verify')
    const mac = await bound(macUsageOf(profile))
    let refusals = 0
    for (const sample of SAMPLES[name]) {
      const { pin, ...values } = valuesOf(name, sample)
      const { prwValue, macValue } = sample
      expect((await computePrw({ key: generate, profile, pin, ...values })).prwValue).toBe(prwValue)
      const dataSet = dataSetFromHex(sample.prwDataSet)
      const given = { ...values, profile, dataSet, prwValue }
      expect(await verifyPrw({ key: verify, ...given, pin })).toMatchObject({ verified: true })
      expect(await verifyPrw({ key: verify, ...given, pin: OTHER_PIN })).toMatchObject({ verified: false })
      if (refused[name] !== undefined) {
        await failure(() => generatePrwMac({ key: mac, ...given }), 'ERR_UNSUPPORTED_BY_TOKEN', [])
        refusals++
        continue
      }
      expect((await generatePrwMac({ key: mac, ...given })).macValue).toBe(macValue)
      expect(await verifyPrwMac({ key: mac, ...given, macValue })).toMatchObject({ verified: true })
    }
    expect(refusals).toBe(refused[name] === undefined ? 0 : SAMPLES[name].length)
  })
}

/** The MAC of this scheme takes a CMAC counter and a mask, which no C_DeriveKey of these tokens does. */
const INSIDE = { derived: 'a CMAC counter' } as const

describeSoftHsm('schemes of format 2 on SoftHSM', () => {
  const token = { ...makeToken('schemes'), composedMac: true }
  const inside = { ...token, binding: 'koffi', deriveKeys: 'inside' } as const
  const through = { ...token, deriveKeys: 'through-host' } as const
  describe('keys derived inside', () => schemesOn(inside, INSIDE))
  describe('keys derived through the host', () => schemesOn(through, {}))

  describe.each([
    ['inside', inside],
    ['through-host', through],
  ] as const)('derivation contract, %s', (_way, options) => {
    const scratch = { ...options, ...makeToken(`scratch ${_way}`) }
    const contract = backendContract({
      open: keys => openWith({ ...options, ...(keys === CONTRACT_KEYS ? {} : scratch) }, keys),
    })
    const cases = contract.cases.filter(({ name }) => /deriv|master key/.test(name))
    test.each(cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())
    afterAll(() => contract.close())
  })

  test('pkcs11js cannot hand over the data of a derivation, and the token is asked nothing wrong', async () => {
    await using backend = await pkcs11Backend({ ...inside, binding: 'pkcs11js' })
    const { derivation, notes } = backend.capabilities()
    expect(derivation).toBe('none')
    expect(notes.join('\n')).toContain('C_DeriveKey returned CKR_MECHANISM_INVALID')
  })
})

describeNss('schemes of format 2 on NSS softokn', () => {
  const token = makeDatabase()
  describe('keys derived inside', () =>
    schemesOn({ ...token, binding: 'koffi', deriveKeys: 'inside' }, INSIDE))
  describe('keys derived through the host', () => schemesOn({ ...token, deriveKeys: 'through-host' }, {}))
})
