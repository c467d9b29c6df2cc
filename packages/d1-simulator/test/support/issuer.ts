/** An issuer on this library behind a real HTTPS server, the files of a simulator that knows it, and ways to spoil it. */
import { randomBytes, X509Certificate } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  answerClientError,
  type BlockAcceptance,
  type BlockRequest,
  type Card,
  type CardRef,
  type EndpointHandler,
  type IssuerEndpointsOptions,
  issuerEndpoints,
  nodeListener,
  ownTokens,
  type PinStore,
  type StoredPinBlock,
  type StoredPrw,
} from '../../../../src/d1.js'
import { ChangeCounter, encipherPin, memoryStore, Pan, Pin } from '../../../../src/index.js'
import { softwareBackend } from '../../../../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_AES, ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../../src/tools.js'
import { makeCertificates } from '../../../../test/d1/endpoints/support/certificates.js'
import { ecKeyPair } from '../../../../test/support/key-pair.js'

export const certificates: ReturnType<typeof makeCertificates> = makeCertificates()
export const ISSUER = 'is_tbank01'
/** By which the issuer knows D1. */
export const D1S_CERTIFICATE: { readonly sha256: readonly string[] } = {
  sha256: [new X509Certificate(certificates.client.cert).fingerprint256],
}
const CLIENT = { clientId: 'd1-client', clientSecret: 'JP7aK0q.w-Zt_93xLmVb2x' }
const HOURS_AGO = 2 * 3_600_000

const PROFILES = {
  tdea: { profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA, usage: 'retail-mac', algorithm: 'tdea-2key' },
  aes: { profile: ILLUSTRATIVE_NOT_GIROCARD_AES, usage: 'cmac', algorithm: 'aes-128' },
} as const
const FIELDS = {
  tdea: { psn: '01', expiry: '2912', issuer: ISSUER },
  aes: { psn: '1', expiry: '2912', issuer: ISSUER, cardData: '0A0B0C' },
}

/** The PIN store's contract in a Map. */
class MemoryPins implements PinStore {
  readonly stored = new Map<string, { block?: StoredPinBlock; prw?: StoredPrw }>()
  async readBlock({ cardId }: CardRef): Promise<StoredPinBlock | undefined> {
    return this.stored.get(cardId)?.block
  }
  readonly #requests = new Map<string, string>()
  async storeBlock({ cardId }: CardRef, block: StoredPinBlock): Promise<void> {
    this.stored.set(cardId, { block })
  }
  async acceptBlock(card: CardRef, block: StoredPinBlock, request: BlockRequest): Promise<BlockAcceptance> {
    const digest = Buffer.from(request.digest).toString('hex')
    const known = this.#requests.get(digest)
    if (known !== undefined && known !== card.cardId) return { outcome: 'misdirected' }
    if (known !== undefined) return { outcome: 'replayed', current: true }
    this.#requests.set(digest, card.cardId)
    await this.storeBlock(card, block)
    return { outcome: 'stored' }
  }
  async storePrw({ cardId }: CardRef, prw: StoredPrw): Promise<void> {
    this.stored.set(cardId, { prw })
  }
}

/** Everything about one issuer that a test may look at or change. */
export interface Issuer {
  readonly config: string
  readonly folder: string
  /** Everything that must be in no output. */
  readonly secrets: readonly string[]
  readonly pins: MemoryPins
  close(): Promise<void>
}

export interface Parts {
  readonly handler: EndpointHandler
  readonly options: IssuerEndpointsOptions
  readonly zpk: string
  readonly d1Jwk: { readonly kid: string; readonly [name: string]: unknown }
  readonly issuerPublicJwk: object
  readonly issuerPrivateJwk: object
  readonly pins: MemoryPins
}

export interface IssuerChanges {
  readonly profile?: 'tdea' | 'aes'
  /** Takes the place of the handler. */
  readonly handler?: (parts: Parts) => EndpointHandler
  readonly endpoints?: (options: IssuerEndpointsOptions) => Partial<IssuerEndpointsOptions>
  readonly server?: https.ServerOptions
  /** The target of a request, before the listener sees it: what it refuses never comes to a handler. */
  readonly target?: (url: string) => string
  /** All else of a request that the listener reads. */
  readonly incoming?: (request: IncomingMessage) => void
  readonly counter?: (counter: ChangeCounter) => ChangeCounter
  readonly pins?: (pins: MemoryPins) => PinStore
  readonly cards?: (card: Card) => Card
  /** Members of the configuration to replace; undefined takes one away. */
  readonly config?: Readonly<Record<string, unknown>>
}

export async function openIssuer(changes: IssuerChanges = {}): Promise<Issuer> {
  const kind = changes.profile ?? 'tdea'
  const { profile, usage, algorithm } = PROFILES[kind]
  const [zpk, mac, prw] = [hex16(), hex16(), hex16()]
  const issuerKey = ecKeyPair()
  const d1Key = ecKeyPair()
  const d1Jwk = { ...d1Key.privateKey.export({ format: 'jwk' }), kid: 'D1-2026' }
  const issuerPublicJwk = { ...issuerKey.publicKey.export({ format: 'jwk' }), kid: 'JWE-1' }
  const tdea = { algorithm: 'tdea-2key', usage: 'pin-encryption' } as const
  const backend = await softwareBackend({
    keys: [
      { ...tdea, kid: 'ZPK-D1', material: zpk },
      { ...tdea, kid: 'PEK-STORE', material: hex16() },
      { kid: 'MAC-1', usage, algorithm, material: mac },
      { kid: 'JWE-1', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: issuerKey.privateKey },
    ],
  })
  const bind = { usage: 'pin-encryption', hostDecipher: true } as const
  const d1Zpk = await backend.bind({ ...bind, kid: 'ZPK-D1' })
  const storage = await backend.bind({ ...bind, kid: 'PEK-STORE' })
  const jweKeys = await backend.bind({ kid: 'JWE-1', usage: 'jwe-key-agreement' })
  const macKeys = await backend.bind({ kid: 'MAC-1', usage })
  const store = memoryStore()
  const counterAt = (now: () => number) =>
    new ChangeCounter({
      store,
      backend,
      firstPcc: '0041',
      rule: 'increment-on-accept',
      wrap: 'refuse',
      ttlSeconds: 300,
      now,
    })
  const counter = counterAt(Date.now)
  const tokensAt = (now: () => number) =>
    ownTokens({
      algorithm: 'HS256',
      keys: [{ kty: 'oct', kid: 'T-1', k: tokenKey }],
      issuer: 'https://localhost/authz/d1/v1',
      audience: 'https://localhost',
      lifetimeSeconds: 900,
      now,
    })
  const tokenKey = randomBytes(32).toString('base64url')
  const tokens = await tokensAt(Date.now)
  const { token: otherToken } = await tokens.issue({ subject: 'other-client', scopes: [] })
  const past = (): number => Date.now() - HOURS_AGO
  const { token: expiredToken } = await (await tokensAt(past)).issue({ subject: 'd1-client', scopes: [] })
  const { pcc, intdatag } = await counterAt(past).issue({ cardId: 'seccos-2' })

  const fields = FIELDS[kind]
  const cards = [
    { cardId: 'iso0-1', pan: '9999990123456789', state: 'active', setPinTypes: ['ISO0'], pin: '4711' },
    { cardId: 'iso0-2', pan: '9999980000000012', state: 'active', setPinTypes: ['ISO0'], pin: '908172' },
    { cardId: 'seccos-1', pan: '9999970000000039', state: 'active', setPinTypes: ['3DES_SECCOS'], fields },
    { cardId: 'seccos-2', pan: '9999960000000056', state: 'active', setPinTypes: ['3DES_SECCOS'], fields },
    {
      cardId: 'both-1',
      // Of iso0-1's PAN: a block of one is a block of the other.
      pan: '9999990123456789',
      state: 'active',
      setPinTypes: ['ISO0', '3DES_SECCOS'],
      pin: '60213',
      fields,
    },
    {
      cardId: 'no-change',
      pan: '9999950000000073',
      state: 'pin-change-forbidden',
      setPinTypes: ['ISO0', '3DES_SECCOS'],
      pin: '55512',
    },
    {
      cardId: 'not-active',
      pan: '9999940000000090',
      state: 'not-active',
      setPinTypes: ['ISO0', '3DES_SECCOS'],
    },
    { cardId: 'nobody', state: 'absent' },
  ] as const
  const pins = new MemoryPins()
  const directory = new Map<string, Card>()
  for (const { cardId, ...card } of cards) {
    if (!('pan' in card)) continue
    const pan = Pan.from(card.pan)
    const { state, setPinTypes } = card
    const entry: Card = { state, pan, setPinTypes, ...(kind === 'aes' && { seccos: {} }) }
    directory.set(cardId, changes.cards?.(entry) ?? entry)
    if (!('pin' in card)) continue
    const block = await encipherPin({ pin: Pin.from(card.pin), pan, format: 0, key: storage })
    await pins.storeBlock({ issuerId: ISSUER, cardId }, { block, kid: storage.kid })
  }

  const d1PublicJwk = { ...d1Key.publicKey.export({ format: 'jwk' }), kid: 'D1-2026' }
  const sound: IssuerEndpointsOptions = {
    issuers: {
      [ISSUER]: {
        cards: { find: async ({ cardId }) => directory.get(cardId) },
        pins: changes.pins?.(pins) ?? pins,
        jweKeys,
        iso0: { d1Zpk, storage, d1PublicJwk: d1PublicJwk as never },
        seccos: { profile, macKeys, prwKids: ['PRW-1'], counter: changes.counter?.(counter) ?? counter },
      },
    },
    authorization: {
      callers: [
        {
          name: 'd1',
          issuers: [ISSUER],
          tokenSubjects: [CLIENT.clientId],
          certificate: D1S_CERTIFICATE,
        },
      ],
      tokens,
    },
    tokenEndpoint: { tokens, clients: [CLIENT] },
    audit: () => {},
    bodyTimeoutMs: 300,
  }
  const options = { ...sound, ...changes.endpoints?.(sound) }
  const handler = issuerEndpoints(options)
  const issuerPrivateJwk = issuerKey.privateKey.export({ format: 'jwk' })
  const parts: Parts = { handler, options, zpk, d1Jwk, issuerPublicJwk, issuerPrivateJwk, pins }
  const listener = nodeListener(changes.handler?.(parts) ?? handler)
  const server = https.createServer(
    {
      ...certificates.server,
      ca: certificates.ca,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      headersTimeout: 400,
      connectionsCheckingInterval: 100,
      ...changes.server,
    },
    (request, response) => {
      if (changes.target !== undefined) request.url = changes.target(request.url ?? '/')
      changes.incoming?.(request)
      listener(request, response)
    },
  )
  server.on('clientError', answerClientError)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))

  const folder = mkdtempSync(join(tmpdir(), 'd1-simulator-'))
  const write = (name: string, content: string | object): string => {
    const path = join(folder, name)
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
    chmodSync(path, 0o600)
    return name
  }
  const url = `https://localhost:${(server.address() as AddressInfo).port}`
  const config = {
    url,
    tokenUrl: `${url}/authz/d1/v1/oauth2/token`,
    issuerId: ISSUER,
    client: { id: CLIENT.clientId, secretFile: write('secret.txt', `${CLIENT.clientSecret}\n`) },
    tls: {
      cert: write('d1.pem', certificates.client.cert),
      key: write('d1.key', certificates.client.key),
      ca: write('ca.pem', certificates.ca),
    },
    issuerJwkFile: write('issuer.jwk', issuerPublicJwk),
    d1JwkFile: write('d1.jwk', d1Jwk),
    zpk: { kid: 'ZPK-D1', file: write('zpk.hex', zpk) },
    seccos: {
      profileFile: write('profile.json', JSON.stringify(profile)),
      mac: { kid: 'MAC-1', file: write('mac.hex', mac.toUpperCase()) },
      prw: { kid: 'PRW-1', file: write('prw.hex', prw) },
    },
    other: {
      cert: write('other.pem', certificates.otherIssuer.cert),
      key: write('other.key', certificates.otherIssuer.key),
      tokenFile: write('other.txt', otherToken),
    },
    expired: {
      tokenFile: write('expired.txt', expiredToken),
      counter: { cardId: 'seccos-2', pcc, intdatag },
    },
    cards,
    timeouts: { requestMs: 10_000, slowBodyMs: 5000 },
    ...changes.config,
  }
  write('simulator.json', config)
  const pans = cards.flatMap(card => ('pan' in card ? [card.pan] : []))
  return {
    config: join(folder, 'simulator.json'),
    folder,
    secrets: [
      zpk,
      mac,
      prw,
      zpk.toUpperCase(),
      CLIENT.clientSecret,
      expiredToken,
      ...pans,
      '908172',
      '55512',
    ],
    pins,
    async close() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
      await backend.close()
      rmSync(folder, { recursive: true })
    },
  }
}

function hex16(): string {
  return randomBytes(16).toString('hex')
}
