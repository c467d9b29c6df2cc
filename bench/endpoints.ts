import { generateKeyPairSync } from 'node:crypto'
import { encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import { getPinResponse, issuerEndpoints, openSetPinRequest } from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { compare, type Verdict } from './ratio.js'

const URL = 'https://issuer.test/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin'
/**
 * All in all at most three times the verb that the handler carries. A good part of the rest is the platform's: Request,
 * Response and reading its body.
 */
const TARGET = 1 / 3

/** The endpoints' handler, from Request to Response, against the bare verbs of the same calls. */
export async function benchEndpoints(): Promise<readonly Verdict[]> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  await using backend = await softwareBackend({
    keys: [
      { ...tdea, kid: 'ZPK', material: '0123456789ABCDEFFEDCBA9876543210' },
      { ...tdea, kid: 'PEK', material: '89E88CF7931444F334BD7547FC3F380C' },
      { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  const hostDecipher = true
  const d1Zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher })
  const storage = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher })
  const jweKeys = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  if (jweKeys.publicJwk === undefined) throw new Error('no public key')
  const d1PublicJwk = { ...jweKeys.publicJwk, kid: 'JWE' }
  const pan = Pan.from('9999990123456789')
  const block = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: storage })
  const stored = { block, kid: 'PEK' }
  const handler = issuerEndpoints({
    issuers: {
      is_tbank01: {
        cards: { find: async () => ({ state: 'active', pan, setPinTypes: ['ISO0'] }) },
        pins: { readBlock: async () => stored, storeBlock: async () => {}, storePrw: async () => {} },
        jweKeys,
        iso0: { d1Zpk, storage, d1PublicJwk },
      },
    },
    authorization: 'mtls-only',
    audit: () => {},
  })
  const getPin = () => getPinResponse({ block, under: storage, pan, d1Zpk, d1PublicJwk })
  const body = JSON.stringify(await getPin())
  const put = { method: 'PUT', headers: { 'content-type': 'application/json' }, body }
  const expected = async (request: Request, status: number): Promise<void> => {
    const response = await handler(request)
    if (response.status !== status) throw new Error(`status ${response.status}`)
    await response.arrayBuffer()
  }
  return [
    await compare({
      name: 'issuerEndpoints, Get PIN : getPinResponse alone',
      ours: () => expected(new Request(URL), 200),
      theirs: getPin,
      calls: 500,
      target: TARGET,
    }),
    await compare({
      name: 'issuerEndpoints, Set PIN (ISO0) : openSetPinRequest alone',
      ours: () => expected(new Request(URL, put), 204),
      theirs: () => openSetPinRequest({ body, jweKeys, d1Zpk, pan, storage }),
      calls: 500,
      target: TARGET,
    }),
  ]
}
