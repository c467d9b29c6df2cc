/** The issuer endpoints' handler, against the verbs it is made of. */

import { randomBytes } from 'node:crypto'
import { encipherPin, openJwe, Pan, Pin, sealJwe } from 'issuer-pin-crypto'
import { getPinResponse, issuerEndpoints, openSetPinRequest, ownTokens } from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { ecKeyPair } from '../test/support/key-pair.js'
import type { Bench } from './pin.js'

const URL = 'https://issuer.test/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin'
/**
 * What the handler adds (routing, validation, token, audit) is to cost less than the JWE that it carries: the handler on one
 * side, and on the other the verb, the JWE once more, and the platform's Request and Response.
 */
export async function endpointContests(): Promise<Bench> {
  const { privateKey } = ecKeyPair()
  const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  const backend = await softwareBackend({
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
  const own = { ...jweKeys.publicJwk, kid: 'JWE' }
  // D1's key is another than the issuer's own, which would be refused.
  const { publicKey } = ecKeyPair()
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const d1PublicJwk = { kty: 'EC', crv: 'P-256', x, y, kid: 'D1' } as const
  const pan = Pan.from('9999990123456789')
  const block = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: storage })
  const stored = { block, kid: 'PEK' }
  const tokens = await ownTokens({
    algorithm: 'HS256',
    keys: [{ kty: 'oct', kid: 'T-1', k: randomBytes(32).toString('base64url') }],
    issuer: 'https://issuer.test/authz',
    audience: 'https://issuer.test',
    lifetimeSeconds: 900,
  })
  const { token } = await tokens.issue({ subject: 'd1', scopes: [] })
  const authorization = `Bearer ${token}`
  const handler = issuerEndpoints({
    issuers: {
      is_tbank01: {
        cards: { find: async () => ({ state: 'active', pan, setPinTypes: ['ISO0'] }) },
        pins: {
          readBlock: async () => stored,
          acceptBlock: async () => ({ outcome: 'stored' }),
          storePrw: async () => {},
        },
        jweKeys,
        iso0: { d1Zpk, storage, d1PublicJwk },
      },
    },
    authorization: {
      callers: [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: ['d1'] }],
      tokens,
    },
    audit: () => {},
  })
  const connection = { encrypted: true, authorized: false }
  const sealedTo = (recipient: typeof d1PublicJwk | typeof own) =>
    getPinResponse({ block, from: storage, pan, to: d1Zpk, d1PublicJwk: recipient })
  const getPin = () => sealedTo(d1PublicJwk)
  const body = JSON.stringify(await sealedTo(own))
  const get = { headers: { authorization } }
  const put = {
    method: 'PUT',
    headers: { authorization, 'content-type': 'application/json' },
    body,
  }
  const { encryptedPinBlock: jwe } = await sealedTo(own)
  const { plaintext } = await openJwe({ jwe, keys: jweKeys })
  const answered = async (response: Response, status: number): Promise<void> => {
    if (response.status !== status) throw new Error(`status ${response.status}`)
    await response.arrayBuffer()
  }
  const json = { headers: { 'content-type': 'application/json' } }
  return {
    contests: [
      {
        title: 'issuerEndpoints, Get PIN',
        ways: [
          {
            name: 'the handler',
            run: async () => answered(await handler(new Request(URL, get), connection), 200),
          },
          {
            name: 'its verbs twice, with Request and Response',
            run: async () => {
              new Request(URL, get).headers.get('authorization')
              await sealJwe({ plaintext, recipient: d1PublicJwk })
              await answered(new Response(JSON.stringify(await getPin()), json), 200)
            },
          },
        ],
        targets: [{ ours: 'the handler', peer: 'its verbs twice, with Request and Response', atLeast: 1 }],
      },
      {
        title: 'issuerEndpoints, Set PIN (ISO0)',
        ways: [
          {
            name: 'the handler',
            run: async () => answered(await handler(new Request(URL, put), connection), 204),
          },
          {
            name: 'its verbs twice, with Request and Response',
            run: async () => {
              const text = await new Request(URL, put).text()
              await openJwe({ jwe, keys: jweKeys })
              await openSetPinRequest({ body: text, jweKeys, from: d1Zpk, pan, to: storage })
              await answered(new Response(null, { status: 204 }), 204)
            },
          },
          {
            // The floor of any handler in this form, whatever it does.
            name: 'Request, its body and Response alone',
            run: async () => {
              await new Request(URL, put).text()
              await answered(new Response(null, { status: 204 }), 204)
            },
          },
        ],
        targets: [{ ours: 'the handler', peer: 'its verbs twice, with Request and Response', atLeast: 1 }],
      },
    ],
    [Symbol.asyncDispose]: () => backend.close(),
  }
}
