/** SECCOS on a token: the reference values, and PRW and MAC by the illustrative profiles as software computes them. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Backend,
  computePrw,
  generateMac,
  generatePrwMac,
  type KeyAlgorithm,
  type KeyUsage,
  type MacAlgorithm,
  Pan,
  Pin,
  type SeccosProfile,
  verifyPrw,
  verifyPrwMac,
} from '../src/index.js'
import { openKeyStore, pkcs11Backend } from '../src/pkcs11.js'
import { softwareBackend } from '../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_AES, ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../src/tools.js'
import { REFERENCE_CASES } from '../test/mac/reference-cases.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

/** Values for whichever of these fields a profile has. */
const FIELDS: Readonly<Record<string, string | Uint8Array>> = {
  psn: '01',
  expiry: '2912',
  issuer: 'is_tbank01',
  cardData: Uint8Array.of(1, 2, 3),
}

describeSoftHsm('SECCOS on SoftHSM', () => {
  const options = { ...makeToken('seccos'), composedMac: true }

  test.each(REFERENCE_CASES)(
    '$id: $algorithm, padding $padding',
    async ({ id, algorithm, padding, cipher, usage, key, data, mac }) => {
      {
        await using store = await openKeyStore({ ...options, importClearKeys: true })
        await store.importKey({ kid: id, usage, algorithm: cipher, material: key })
      }
      await using backend = await pkcs11Backend(options)
      const bound = await backend.bind({ kid: id, usage })
      const message = Buffer.from(data, 'hex')
      const out = await generateMac({ key: bound, message, algorithm, padding, length: mac.length / 2 })
      expect(Buffer.from(out).toString('hex').toUpperCase()).toBe(mac)
      // Other cases have the same value for another usage.
      await using store = await openKeyStore({ ...options, importClearKeys: true })
      await store.deleteKey({ kid: id })
    },
  )

  const PROFILES: readonly [string, SeccosProfile, KeyAlgorithm, KeyUsage, MacAlgorithm][] = [
    ['TDEA', ILLUSTRATIVE_NOT_GIROCARD_TDEA, 'tdea-2key', 'retail-mac', 'iso9797-1-alg3'],
    ['AES', ILLUSTRATIVE_NOT_GIROCARD_AES, 'aes-128', 'cmac', 'cmac'],
  ]

  describe.each(PROFILES)('the illustrative %s profile', (name, profile, algorithm, macUsage, macs) => {
    const prw = '0123456789ABCDEFFEDCBA9876543210'
    const keys = [
      { kid: `PRW-G-${name}`, usage: 'prw-generate', algorithm, material: prw },
      { kid: `PRW-V-${name}`, usage: 'prw-verify', algorithm, material: prw },
      { kid: `MAC-${name}`, usage: macUsage, algorithm, material: '89E88CF7931444F334BD7547FC3F380C' },
    ] as const
    let token: Backend
    let software: Backend

    beforeAll(async () => {
      {
        await using store = await openKeyStore({ ...options, importClearKeys: true })
        for (const key of keys) {
          await store.importKey(key.usage.startsWith('prw') ? { ...key, macs: [macs] } : key)
        }
      }
      token = await pkcs11Backend(options)
      software = await softwareBackend({ keys })
    })
    afterAll(async () => {
      await token?.close()
      await software?.close()
    })

    const values = {
      pin: Pin.from('4711'),
      pan: Pan.from('9999990123456789'),
      pcc: '0041',
      intdatag: 'ABCDEFGHJKLMNPQRSTUV',
      random: profile.randomBytes === 0 ? undefined : new Uint8Array(profile.randomBytes).fill(0x5a),
      fields: Object.fromEntries(
        profile.fields.flatMap(field => {
          const own = FIELDS[field.id]
          return own === undefined ? [] : [[field.id, own]]
        }),
      ),
      profile,
    }

    const made = async (backend: Backend) => {
      const key = await backend.bind({ kid: `PRW-G-${name}`, usage: 'prw-generate' })
      const { prwValue, dataSet } = await computePrw({ ...values, key })
      const macKey = await backend.bind({ kid: `MAC-${name}`, usage: macUsage })
      const { random, intdatag } = values
      const stated = { key: macKey, profile, dataSet, prwValue, random, intdatag }
      return { prwValue, dataSet, stated, macValue: (await generatePrwMac(stated)).macValue }
    }

    test('PRW and MAC are the same in the token and in software, and verify crosswise', async () => {
      const [inToken, inSoftware] = [await made(token), await made(software)]
      expect(inToken.prwValue).toBe(inSoftware.prwValue)
      expect(inToken.macValue).toBe(inSoftware.macValue)
      expect((await verifyPrwMac({ ...inToken.stated, macValue: inSoftware.macValue })).verified).toBe(true)
      const key = await token.bind({ kid: `PRW-V-${name}`, usage: 'prw-verify' })
      const { prwValue, dataSet } = inSoftware
      for (const [digits, expected] of [
        ['4711', true],
        ['4712', false],
      ] as const) {
        const verdict = await verifyPrw({ ...values, key, dataSet, prwValue, pin: Pin.from(digits) })
        expect(verdict).toMatchObject({ verified: expected, provenance: 'illustrative' })
      }
    })
  })
})
