/** The cases of `issuer-pin-crypto/d1`, the endpoints and `d1Client`'s network apart, which have tests of their own. */
import { createPrivateKey } from 'node:crypto'
import { createServer } from 'node:http'
import * as d1 from '../../src/d1.js'
import { Pan, Pin, pinPolicy } from '../../src/index.js'
import { dataSetToHex } from '../../src/seccos/data-set.js'
import * as testing from '../../src/testing.js'
import { type LeakCase, method, verb } from './cases.js'
import * as secret from './secrets.js'
import { FIELDS, profile, type World } from './world.js'

const pan = (): Pan => Pan.from(secret.pan)
const pin = (): Pin => Pin.from(secret.pin)
const d1Public = { kty: 'EC', crv: 'P-256', x: secret.d1.x, y: secret.d1.y, kid: 'D1' } as const
const iso0Content = () =>
  JSON.stringify({ pinValue: secret.sharedBlock.toString('hex').toUpperCase(), kid: 'ZPK' })
const iso0Body = () => ({ type: 'ISO0', encryptedPinBlock: secret.sealed(iso0Content()) })
const setPin = ({ keys }: World) => ({ body: iso0Body(), jweKeys: keys.jwe, from: keys.zpk, pan: pan() })
const seccosBody = ({ seccos }: World) => ({
  type: '3DES_SECCOS',
  encryptedPinBlock: secret.sealed(
    JSON.stringify({
      intdatag: seccos.intdatag,
      prwDataSet: dataSetToHex(seccos.dataSet),
      prwValue: seccos.prwValue,
      prwKid: 'PRW-G',
      macValue: seccos.macValue,
      macKid: 'MAC',
    }),
  ),
})
/** Takes any card: what the counter says of itself has its own cases. */
const openCounter = { check: async () => ({ replayed: false }), pccOf: async () => '0042' }
const openSeccos = (world: World) => ({
  body: seccosBody(world),
  cardId: 'card-1',
  jweKeys: world.keys.jwe,
  profile,
  macKeys: world.keys.mac,
  prwKids: ['PRW-G'],
  counter: openCounter,
  pan: pan(),
  fields: FIELDS,
})
/** Refuses the very PIN that is set. */
const POLICY = pinPolicy({ minLength: 4, maxLength: 12, refuse: [], notBefore: true })
const ownOptions = () => ({
  algorithm: 'HS256',
  keys: [{ kty: 'oct', kid: 'T-1', k: secret.tokenKey }],
  issuer: 'https://issuer.test',
  audience: 'https://issuer.test/pin',
  lifetimeSeconds: 900,
})
const providerOptions = () => ({
  jwks: { keys: [{ kty: 'EC', crv: 'P-256', kid: 'P-1', x: secret.signing.x, y: secret.signing.y }] },
  algorithms: ['ES256'],
  issuer: 'https://idp.test',
  audience: 'pin-api',
  allow: () => true,
})
const signingKey = () => createPrivateKey({ key: { ...secret.signing }, format: 'jwk' })
const signer = () => d1.softwareSigner({ kid: 'SIGN', privateKey: signingKey() })
const client = () => ({
  environment: { api: 'https://d1.test/banking', auth: 'https://d1.test/authz' },
  issuerId: 'is_tbank01',
  signer: signer(),
  d1PublicJwk: d1Public,
})
const auditKey = () => Buffer.from(secret.tokenKey, 'base64url')
const event = (): d1.AuditEvent => ({
  sequence: 1,
  time: 't',
  requestId: 'r',
  outcome: 'success',
  status: 200,
  keys: [],
  durationMs: 1,
})

const own = await d1.ownTokens(ownOptions() as d1.OwnTokensOptions)
const { token } = await own.issue({ subject: 'd1', scopes: [] })
/** A bearer token: it must be in no verdict and in no error. */
export const bearerToken: string = token

export const D1: readonly LeakCase[] = [
  verb('readPinMessage', d1.readPinMessage, () => [iso0Body()], {
    pure: true,
    echoes: ['encryptedPinBlock'],
  }),
  verb('readPinMessage', d1.readPinMessage, () => [JSON.stringify(iso0Body())], { pure: true }),
  verb(
    'getPinResponse',
    d1.getPinResponse,
    ({ keys, options }) => [
      {
        block: Uint8Array.from(secret.storedBlock),
        from: keys.store,
        pan: pan(),
        to: keys.zpk,
        d1PublicJwk: d1Public,
        translation: 'checked',
      },
      options,
    ],
    { names: ['kid'] },
  ),
  verb(
    'getPinResponse',
    d1.getPinResponse,
    ({ keys, options }) => [{ pin: pin(), pan: pan(), to: keys.zpk, d1PublicJwk: d1Public }, options],
    { names: ['kid'] },
  ),
  verb(
    'openSetPinRequest',
    d1.openSetPinRequest,
    world => [{ ...setPin(world), to: world.keys.store, translation: 'checked' }, world.options],
    { holds: ['stored block'] },
  ),
  verb(
    'openSetPinRequest',
    d1.openSetPinRequest,
    world => [
      {
        ...setPin(world),
        to: world.keys.store,
        translation: 'checked',
        policy: POLICY,
        before: { block: Uint8Array.from(secret.storedBlock), key: world.keys.store },
      },
      world.options,
    ],
    { refused: true, holds: ['stored block'] },
  ),
  verb('openSetPinRequestToClearPin', d1.openSetPinRequestToClearPin, world => [
    setPin(world),
    world.options,
  ]),
  verb('openSeccosSetPinRequest', d1.openSeccosSetPinRequest, world => [openSeccos(world), world.options], {
    echoes: ['cardId'],
  }),
  verb(
    'makeSeccosSetPinRequest',
    testing.makeSeccosSetPinRequest,
    ({ keys, seccos, options }) => [
      {
        pin: pin(),
        pan: pan(),
        pcc: seccos.pcc,
        intdatag: seccos.intdatag,
        profile,
        fields: FIELDS,
        prwKey: keys.prwG,
        macKey: keys.mac,
        issuerPublicJwk: { ...d1Public, kid: 'JWE' },
      },
      options,
    ],
    { names: ['kid'] },
  ),
  verb('changeCounterResponse', d1.changeCounterResponse, ({ counter, options }) => [
    { counter, cardId: 'card-1' },
    options,
  ]),

  verb('ownTokens', d1.ownTokens, () => [ownOptions()], { pure: true, names: ['kid'] }),
  method(
    'OwnTokens.issue',
    () => own,
    () => [{ subject: 'd1', scopes: ['pin'] }],
    { pure: true, names: ['subject', '0'], echoes: ['scopes'] },
  ),
  method(
    'OwnTokens.verify',
    () => own,
    () => [token],
    { pure: true },
  ),
  verb('providerTokens', d1.providerTokens, () => [providerOptions()], { pure: true, names: ['kid'] }),
  method(
    'TokenVerifier.verify',
    () => d1.providerTokens(providerOptions()),
    () => [token],
    { pure: true },
  ),
  verb('otelAttributes', d1.otelAttributes, () => [event()], {
    pure: true,
    echoes: ['outcome', 'status', 'durationMs', 'keys', 'sequence', 'time', 'requestId'],
  }),

  verb('softwareSigner', d1.softwareSigner, () => [{ kid: 'SIGN', privateKey: secret.signing }], {
    pure: true,
    names: ['kid'],
  }),
  verb('softwareSigner', d1.softwareSigner, () => [{ kid: 'SIGN', privateKey: signingKey() }], {
    pure: true,
    names: ['kid'],
  }),
  method('AssertionSigner.sign', signer, ({ options }) => [Buffer.from(secret.accessToken), options], {
    pure: true,
  }),
  verb('backendSigner', d1.backendSigner, ({ keys }) => [{ key: keys.sign, kid: 'SIGN' }], {
    names: ['kid'],
  }),
  verb(
    'makeAssertion',
    d1.makeAssertion,
    ({ keys, options }) => [{ signer: d1.backendSigner(keys.sign), issuer: 'is_tbank01' }, options],
    { names: ['issuer'] },
  ),
  verb(
    'makeAssertion',
    d1.makeAssertion,
    ({ options }) => [
      { signer: signer(), issuer: 'is_tbank01', audience: 'd1', lifetimeSeconds: 60 },
      options,
    ],
    { pure: true, names: ['issuer', 'audience'] },
  ),
  verb(
    'sealCardDetails',
    d1.sealCardDetails,
    ({ options }) => [{ pan: pan(), exp: '1229', d1PublicJwk: d1Public }, options],
    { pure: true, names: ['kid'] },
  ),
  verb('d1Client', d1.d1Client, () => [client()], { pure: true, names: ['kid'] }),
  verb(
    'mtlsFetch',
    d1.mtlsFetch,
    () => [
      {
        cert: '-----BEGIN CERTIFICATE-----',
        key: signingKey().export({ format: 'pem', type: 'pkcs8' }),
        passphrase: secret.clientSecret,
      },
    ],
    { pure: true, refused: true },
  ),
  verb('issuerEndpoints', d1.issuerEndpoints, ({ keys, counter }) => [endpointOptions(keys, counter)], {
    pure: true,
  }),
  verb('d1PublicKeys', d1.d1PublicKeys, () => [{ from: () => [] }], { pure: true }),
  verb(
    'watchServer',
    d1.watchServer,
    () => [{ server: createServer(), handler: async () => new Response() }],
    { pure: true },
  ),
  verb('nodeListener', d1.nodeListener, () => [async () => new Response()], { pure: true }),
  verb('connectionOf', d1.connectionOf, () => [{ socket: null }], { pure: true }),
  verb('memoryRates', d1.memoryRates, () => [{ perCardPerMinute: 1, perCallerPerMinute: 1 }], { pure: true }),
  verb('healthEndpoints', d1.healthEndpoints, () => [{ checks: { store: async () => {} } }], { pure: true }),
  verb(
    'readinessChecks',
    d1.readinessChecks,
    ({ keys, counter }) => [endpointOptions(keys, counter).issuers],
    { pure: true },
  ),
  verb('chainedAudit', d1.chainedAudit, () => [{ key: auditKey(), write: () => {} }], { pure: true }),
  verb('verifyAuditChain', d1.verifyAuditChain, () => [{ lines: [], key: auditKey() }], { pure: true }),
]

function endpointOptions(keys: World['keys'], counter: World['counter']) {
  return {
    issuers: {
      is_tbank01: {
        cards: { find: async () => undefined },
        pins: {
          readBlock: async () => undefined,
          acceptBlock: async () => ({ outcome: 'stored' }) as const,
          storePrw: async () => {},
        },
        jweKeys: keys.jwe,
        iso0: { d1Zpk: keys.zpk, storage: keys.store, d1PublicJwk: d1Public },
        seccos: { profile, macKeys: keys.mac, prwKids: ['PRW-G'], counter },
      },
    },
    authorization: {
      callers: [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: ['d1'] }],
      tokens: own,
    },
    tokenEndpoint: { tokens: own, clients: [{ clientId: 'd1', clientSecret: secret.clientSecret }] },
    audit: () => {},
  }
}
