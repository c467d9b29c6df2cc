/**
 * An issuer with one card or another, and the D1 that writes to it, made of jose, node-forge and the forger of the JWE
 * tests. Everything secret in it is a constant, so that whatever shows it can be found.
 */

import { createHmac } from 'node:crypto'
import { seccosContent as contentOf } from '../../../examples/demo/d1-seccos.js'
import {
  type AuditEvent,
  type Card,
  type EndpointHandler,
  issuerEndpoints,
  type OwnTokens,
  ownTokens,
  type StoredPinBlock,
} from '../../../src/d1.js'
import { buildFormat0, Pan, Pin } from '../../../src/index.js'
import { ChangeCounter } from '../../../src/seccos/counter/counter.js'
import { memoryStore } from '../../../src/seccos/counter/store.js'
import { softwareBackend } from '../../../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../src/tools.js'
import { forge, HEADER, RECIPIENT, RECIPIENT_PRIVATE } from '../../jwe/support.js'
import { ecKeyPair } from '../../support/key-pair.js'
import { check, once } from '../target.js'
import { forgeBlock } from './forge-block.js'

/** D1's own key: nobody here opens what goes to it. */
const D1_PUBLIC = {
  ...ecKeyPair().publicKey.export({ format: 'jwk' }),
  kid: 'D1-FUZZ',
}

export const ISSUER_ID = 'is_tbank01'
export const PAN_DIGITS = '9999990123456789'
const PIN_DIGITS = '907856341279'
const NEW_PIN = '382915604718'
export const CLIENT = { clientId: 'd1-client', clientSecret: 'JP7aK0q.w-Zt_93xLmVb2c' } as const
const ZPK = '0123456789ABCDEFFEDCBA9876543210'
const PEK = '89E88CF7931444F334BD7547FC3F380C'
const MAC = '7CA110454A1A6E570131D9619DC1376E'
const PRW = 'A1B2C3D4E5F60718F0E1D2C3B4A59687'
const TOKEN_SECRET = Buffer.alloc(32, 0x5a).toString('base64url')
const secrets = new Set([
  PAN_DIGITS,
  PIN_DIGITS,
  NEW_PIN,
  CLIENT.clientSecret,
  ZPK,
  PEK,
  MAC,
  PRW,
  TOKEN_SECRET,
])

export interface Issuer {
  readonly handler: EndpointHandler
  readonly tokens: OwnTokens
  readonly keys: Awaited<ReturnType<typeof openKeys>>
  readonly counter: ChangeCounter
  readonly events: AuditEvent[]
}

const pan = Pan.from(PAN_DIGITS)
const blockUnder = (key: string, pin: string): string =>
  forgeBlock(
    'createCipher',
    key,
    Buffer.from(buildFormat0({ pin: Pin.from(pin), pan })).toString('hex'),
  ).toUpperCase()
const stored = blockUnder(PEK, PIN_DIGITS)

/** A time that stands still, so that a token in an input is good in every process. */
const NOW = 1_800_000_000
const TOKENS = { issuer: 'https://issuer.test/authz/d1/v1', audience: 'https://issuer.test' }

/** What D1 sends: the content of a Set PIN of each type, and its token. */
export const iso0Content = { pinValue: blockUnder(ZPK, NEW_PIN), kid: 'ZPK-D1' } as const
/** The card that {@link seccosContent} is for, and what its counter gives first. */
export const SECCOS_CARD = 'seccos-1'
const COUNTER = { pcc: '0041', intdatag: '0'.repeat(20) }
export const seccosContent: Readonly<Record<string, string>> = contentOf(
  NEW_PIN,
  { pan: PAN_DIGITS, psn: '01', expiry: '2912', issuer: ISSUER_ID },
  COUNTER,
  { prw: { hex: PRW, kid: 'PRW-1' }, mac: { hex: MAC, kid: 'MAC-1' } },
)
export const token: string = tokenOf(
  { alg: 'HS256', kid: 'T-1', typ: 'at+jwt' },
  { iss: TOKENS.issuer, aud: TOKENS.audience, sub: CLIENT.clientId, iat: NOW, exp: NOW + 3600, jti: 'x' },
)
for (const secret of [stored, iso0Content.pinValue, token]) secrets.add(secret)

function tokenOf(...parts: readonly object[]): string {
  const input = parts.map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const mac = createHmac('sha256', Buffer.from(TOKEN_SECRET, 'base64url')).update(input)
  return `${input}.${mac.digest('base64url')}`
}

async function openKeys() {
  const tdea = { algorithm: 'tdea-2key' } as const
  const backend = await softwareBackend({
    keys: [
      { kid: 'ZPK-D1', usage: 'pin-encryption', ...tdea, material: ZPK },
      { kid: 'PEK-STORE', usage: 'pin-encryption', ...tdea, material: PEK },
      { kid: 'MAC-1', usage: 'retail-mac', ...tdea, material: MAC },
      { kid: RECIPIENT.kid, usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: RECIPIENT_PRIVATE },
    ],
  })
  const hostDecipher = true
  return {
    backend,
    zpk: await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', hostDecipher }),
    storage: await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher }),
    mac: await backend.bind({ kid: 'MAC-1', usage: 'retail-mac' }),
    jwe: await backend.bind({ kid: RECIPIENT.kid, usage: 'jwe-key-agreement' }),
  }
}

/** A message of D1 around any content. */
export const sealed = (type: string, content: object | string): string =>
  JSON.stringify({
    type,
    encryptedPinBlock: forge(HEADER, {
      plaintext: Buffer.from(typeof content === 'string' ? content : JSON.stringify(content)),
    }),
  })

/** The body of a Set PIN of type ISO0 that is right. */
export const iso0Body: string = sealed('ISO0', iso0Content)

/** Opened once: keys, cards with a PIN, a counter that was issued. */
export const issuer: () => Promise<Issuer> = once(async () => {
  const keys = await openKeys()
  const options = {
    firstPcc: COUNTER.pcc,
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 86_400,
  } as const
  let drawn = 0
  // Not random, so that the intdatag in an input is one that was issued in every process; five bits of a byte count.
  const backend = {
    randomBytes: async (length: number) => {
      let left = drawn++
      return Uint8Array.from({ length }, () => {
        const digit = left % 32
        left = Math.floor(left / 32)
        return digit
      })
    },
  }
  const counter = new ChangeCounter({ store: memoryStore(), backend, ...options })
  const tokens = await ownTokens({
    algorithm: 'HS256',
    keys: [{ kty: 'oct', kid: 'T-1', k: TOKEN_SECRET }],
    ...TOKENS,
    lifetimeSeconds: 3600,
    now: () => 1000 * NOW,
  })
  const first = Uint8Array.from(Buffer.from(stored, 'hex'))
  const changed = new Map<string, StoredPinBlock>()
  const events: AuditEvent[] = []
  const types = ['ISO0', '3DES_SECCOS'] as const
  const cards: Readonly<Record<string, Card>> = {
    'card-1': { state: 'active', pan, setPinTypes: types },
    [SECCOS_CARD]: { state: 'active', pan, setPinTypes: ['3DES_SECCOS'] },
    'iso0-only': { state: 'active', pan, setPinTypes: ['ISO0'] },
    'not-active': { state: 'not-active', pan, setPinTypes: types },
    'no-change': { state: 'pin-change-forbidden', pan, setPinTypes: types },
  }
  const handler = issuerEndpoints({
    // Each input is looked at by its event.
    strangerEventsPerSecond: 1_000_000,
    issuers: {
      [ISSUER_ID]: {
        cards: { find: async ({ cardId }) => (Object.hasOwn(cards, cardId) ? cards[cardId] : undefined) },
        pins: {
          readBlock: async ({ cardId }) => changed.get(cardId) ?? { block: first, kid: 'PEK-STORE' },
          acceptBlock: async ({ cardId }, block) => {
            changed.set(cardId, block)
            return { outcome: 'stored' }
          },
          storePrw: async () => {},
        },
        jweKeys: keys.jwe,
        iso0: { d1Zpk: keys.zpk, storage: keys.storage, d1PublicJwk: D1_PUBLIC },
        seccos: { profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA, macKeys: keys.mac, prwKids: ['PRW-1'], counter },
      },
    },
    authorization: {
      callers: [{ name: 'd1', issuers: ['is_tbank01'], tokenSubjects: [CLIENT.clientId] }],
      tokens,
    },
    tokenEndpoint: { tokens, clients: [CLIENT], scopes: ['pin'] },
    audit: event => void events.push(event),
  })
  const { intdatag } = await counter.issue({ cardId: SECCOS_CARD })
  check(intdatag === COUNTER.intdatag, 'the intdatag is the one that the message has')
  const connection = { encrypted: true, authorized: false }
  const overTls: EndpointHandler = request => handler(request, connection)
  return { handler: overTls, tokens, keys, counter, events }
})

/** Nothing that is shown may hold a secret of the issuer, but the one that is asked for (a token). */
export function refuseSecrets(shown: string, but?: string): void {
  const text = shown.toUpperCase()
  for (const secret of secrets) {
    if (secret !== but) check(!text.includes(secret.toUpperCase()), 'a secret of the issuer is shown')
  }
}

export const pinPath = (cardId: string): string => `/cms/api/v1/issuers/${ISSUER_ID}/cards/${cardId}/pin`
export const TOKEN_PATH = '/authz/d1/v1/oauth2/token'
export const BASIC = `Basic ${Buffer.from(`${CLIENT.clientId}:${CLIENT.clientSecret}`).toString('base64')}`
