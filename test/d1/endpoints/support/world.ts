/** An issuer in memory behind its endpoints, and the D1 that calls it, made of jose and node-forge. */
import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { expect } from 'vitest'
import { D1 } from '../../../../examples/demo/d1.js'
import { type SeccosCard, type SeccosKeys, seccosContent } from '../../../../examples/demo/d1-seccos.js'
import { DIRECT } from '../../../../src/d1/endpoints/endpoints.js'
import {
  type AuditEvent,
  type BlockAcceptance,
  type BlockRequest,
  type CallerAuthorization,
  type Card,
  type CardRef,
  type Connection,
  type EndpointHandler,
  type IssuerEndpointsOptions,
  type IssuerOptions,
  issuerEndpoints,
  type OwnTokens,
  ownTokens,
  type PinStore,
  type StoredPinBlock,
  type StoredPrw,
  type TokenVerifier,
} from '../../../../src/d1.js'
import { type Backend, encipherPin, type Key, Pan, Pin } from '../../../../src/index.js'
import { ChangeCounter } from '../../../../src/seccos/counter/counter.js'
import { memoryStore } from '../../../../src/seccos/counter/store.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../../src/seccos/profile/illustrative.js'
import { softwareBackend } from '../../../../src/software.js'
import type { ContractKey } from '../../../../src/testing.js'
import { complain } from '../../../support/complaints.js'

export const ISSUER = 'is_tbank01'
export const OTHER_ISSUER = 'is_other02'
/** Long, so that it is nowhere by accident. */
export const PIN = '907856341279'
export const NEW_PIN = '382915604718'
export const PANS = { first: '9999990123456789', second: '9999980000000012' } as const
export const CLIENT = { clientId: 'd1-client', clientSecret: 'JP7aK0q.w-Zt_93xLmVb2c' } as const
const FIELDS: Omit<SeccosCard, 'pan'> = { psn: '01', expiry: '2912', issuer: ISSUER }

/** Passed on, it would be a leak: what the issuer's own code throws. */
export const CANARY = 'canary 4929123456789012'

type Stored = { readonly block: StoredPinBlock } | { readonly prw: StoredPrw }

/** The PIN store's contract, in a Map. */
export class MemoryPins implements PinStore {
  readonly stored = new Map<string, Stored>()
  /** Runs before each write. */
  before: (card: CardRef) => Promise<void> = async () => {}
  writes = 0

  async readBlock({ cardId }: CardRef): Promise<StoredPinBlock | undefined> {
    const found = this.stored.get(cardId)
    return found && 'block' in found ? found.block : undefined
  }

  readonly requests = new Map<string, string>()
  readonly current = new Map<string, string>()

  async acceptBlock(
    { issuerId, cardId }: CardRef,
    block: StoredPinBlock,
    request: BlockRequest,
  ): Promise<BlockAcceptance> {
    await this.before({ issuerId, cardId })
    const card = `${issuerId}/${cardId}`
    const digest = Buffer.from(request.digest).toString('hex')
    const known = this.requests.get(digest)
    if (known !== undefined && known !== card) return { outcome: 'misdirected' }
    if (known !== undefined) return { outcome: 'replayed', current: this.current.get(card) === digest }
    this.writes++
    this.requests.set(digest, card)
    this.current.set(card, digest)
    this.stored.set(cardId, { block })
    return { outcome: 'stored' }
  }

  async storePrw(card: CardRef, prw: StoredPrw): Promise<void> {
    await this.before(card)
    this.writes++
    const found = this.stored.get(card.cardId)
    if (found && 'prw' in found && found.prw.sequence > prw.sequence) return
    this.stored.set(card.cardId, { prw })
  }
}

const card = (pan: string, more?: Partial<Card>): Card => ({
  state: 'active',
  pan: Pan.from(pan),
  setPinTypes: ['ISO0', '3DES_SECCOS'],
  ...more,
})

/** TLS, by somebody who showed no certificate. */
export const OVER_TLS: Connection = { encrypted: true, authorized: false, address: '192.0.2.1' }

/** One caller, known by its token. */
export const byToken = (tokens: TokenVerifier): CallerAuthorization => ({
  callers: [{ name: 'd1-client', issuers: [ISSUER], tokenSubjects: ['d1-client', 's'] }],
  tokens,
})

/** Options to be replaced; undefined takes one away. */
export type Changes = { readonly [Name in keyof IssuerEndpointsOptions]?: unknown }

/** Opens a backend on these keys. */
export type OpenBackend = (keys: readonly ContractKey[]) => Promise<Backend>

/** In software, whether a key deciphers on the host is asked when it is bound, not when it is made. */
const inSoftware: OpenBackend = keys =>
  softwareBackend({ keys: keys.map(({ hostDecipher: _, ...key }) => key) })

export interface WorldKeys {
  readonly zpk: Key
  readonly storage: Key
  readonly jwe: Key
  readonly mac: Key
}

export class World implements AsyncDisposable {
  readonly events: AuditEvent[] = []
  readonly causes: unknown[] = []
  /** Requests that have reached `nodeListener`'s handler. */
  begun = 0
  readonly pins = new MemoryPins()
  readonly cards = new Map<string, Card | 'fails'>([
    ['card-1', card(PANS.first)],
    ['card-2', card(PANS.second)],
    ['iso0-only', card(PANS.first, { setPinTypes: ['ISO0'] })],
    ['seccos-only', card(PANS.first, { setPinTypes: ['3DES_SECCOS'] })],
    ['not-active', card(PANS.first, { state: 'not-active' })],
    ['no-change', card(PANS.first, { state: 'pin-change-forbidden' })],
    ['no-pin', card(PANS.first)],
    ['odd-state', card(PANS.first, { state: 'odd' as never })],
    ['directory-fails', 'fails'],
    ['store-fails', card(PANS.first)],
  ])
  readonly backend: Backend
  readonly keys: WorldKeys
  readonly d1: D1
  readonly tokens: OwnTokens
  readonly counter: ChangeCounter
  readonly hex: Readonly<Record<'zpk' | 'storage' | 'mac' | 'prw', string>>

  private constructor(parts: Pick<World, 'backend' | 'keys' | 'd1' | 'tokens' | 'hex'>) {
    this.backend = parts.backend
    this.keys = parts.keys
    this.d1 = parts.d1
    this.tokens = parts.tokens
    this.hex = parts.hex
    this.counter = this.newCounter()
  }

  /** `openBackend`: on what holds exactly these keys. */
  static async open(openBackend: OpenBackend = inSoftware): Promise<World> {
    const hex = { zpk: key16(), storage: key16(), mac: key16(), prw: key16() }
    const hostDecipher = true
    const backend = await openBackend([
      { kid: 'ZPK-D1', usage: 'pin-encryption', algorithm: 'tdea-2key', material: hex.zpk, hostDecipher },
      {
        kid: 'PEK-STORE',
        usage: 'pin-encryption',
        algorithm: 'tdea-2key',
        material: hex.storage,
        hostDecipher,
      },
      { kid: 'MAC-1', usage: 'retail-mac', algorithm: 'tdea-2key', material: hex.mac },
      {
        kid: 'JWE-1',
        usage: 'jwe-key-agreement',
        algorithm: 'ec-p256',
        material: `${'0'.repeat(24)}${key16()}01234567`,
      },
    ])
    const keys = {
      zpk: await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', hostDecipher }),
      storage: await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher }),
      jwe: await backend.bind({ kid: 'JWE-1', usage: 'jwe-key-agreement' }),
      mac: await backend.bind({ kid: 'MAC-1', usage: 'retail-mac' }),
    }
    const d1 = await D1.start({
      issuerPublicJwk: { ...(keys.jwe.publicJwk ?? expect.fail()) },
      issuerKid: 'JWE-1',
      zpk: { hex: hex.zpk, kid: 'ZPK-D1' },
    })
    const tokens = await ownTokens({
      algorithm: 'HS256',
      keys: [{ kty: 'oct', kid: 'T-1', k: randomBytes(32).toString('base64url') }],
      issuer: 'https://issuer.test/authz/d1/v1',
      audience: 'https://issuer.test',
      lifetimeSeconds: 900,
    })
    const world = new World({ backend, keys, d1, tokens, hex })
    for (const cardId of ['card-1', 'no-change', 'store-fails', 'iso0-only', 'odd-state', 'not-active']) {
      await world.issue(cardId, PANS.first, PIN)
    }
    await world.issue('card-2', PANS.second, PIN)
    return world
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.backend.close()
  }

  newCounter(firstPcc = '0041'): ChangeCounter {
    const { backend } = this
    const rule = 'increment-on-accept'
    return new ChangeCounter({
      store: memoryStore(),
      backend,
      firstPcc,
      rule,
      wrap: 'refuse',
      ttlSeconds: 300,
    })
  }

  /** Stores a first PIN. */
  async issue(cardId: string, pan: string, digits: string): Promise<void> {
    using pin = Pin.from(digits)
    const block = await encipherPin({ pin, pan: Pan.from(pan), format: 0, key: this.keys.storage })
    this.pins.stored.set(cardId, { block: { block, kid: 'PEK-STORE' } })
  }

  issuer(more?: Partial<IssuerOptions>): IssuerOptions {
    const { zpk, storage, jwe, mac } = this.keys
    return {
      cards: {
        find: async ({ cardId }) => {
          const found = this.cards.get(cardId)
          if (found === 'fails') throw Object.assign(new Error(CANARY), { code: '53300', table: CANARY })
          return found
        },
      },
      pins: {
        readBlock: ref =>
          ref.cardId === 'store-fails' ? Promise.reject(new Error(CANARY)) : this.pins.readBlock(ref),
        knowsRequest: async digest => this.pins.requests.has(Buffer.from(digest).toString('hex')),
        acceptBlock: (ref, pin, request) =>
          ref.cardId === 'store-fails'
            ? Promise.reject(new Error(CANARY))
            : this.pins.acceptBlock(ref, pin, request),
        storePrw: (ref, prw) =>
          ref.cardId === 'store-fails' ? Promise.reject(new Error(CANARY)) : this.pins.storePrw(ref, prw),
      },
      jweKeys: jwe,
      iso0: { d1Zpk: zpk, storage, d1PublicJwk: this.d1.publicJwk },
      seccos: {
        profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA,
        macKeys: mac,
        prwKids: ['PRW-1'],
        counter: this.counter,
      },
      ...more,
    }
  }

  options(more?: Changes): IssuerEndpointsOptions {
    return {
      issuers: { [ISSUER]: this.issuer() },
      authorization: byToken(this.tokens),
      tokenEndpoint: { tokens: this.tokens, clients: [CLIENT] },
      // Every request is an event here, however many a test makes in a second.
      strangerEventsPerSecond: 1_000_000,
      audit: (event, cause) => {
        const named = event.keys.map(({ role, kid }) => `${role} ${kid}`)
        if (new Set(named).size < named.length) complain(`an event names a key twice: ${named.join(', ')}`)
        this.events.push(event)
        this.causes.push(cause)
      },
      ...more,
    } as IssuerEndpointsOptions
  }

  /** A request that is handed over without a connection came over one with TLS. */
  handler(more?: Changes): EndpointHandler {
    const handler = issuerEndpoints(this.options(more))
    const answer = (request: Request, connection: Connection = OVER_TLS) => {
      this.begun++
      return handler(request, connection)
    }
    const all = Object.assign(answer, handler)
    // `nodeListener` brings a connection of its own: it takes the way that a handler of ours takes.
    const direct = DIRECT.get(handler)
    if (direct !== undefined) {
      DIRECT.set(all, (...call) => {
        this.begun++
        return direct(...call)
      })
    }
    return all
  }

  /** The headers of an authorised caller. */
  async authorized(more?: Readonly<Record<string, string>>): Promise<Record<string, string>> {
    const { token } = await this.tokens.issue({ subject: 'd1-client', scopes: [] })
    return { authorization: `Bearer ${token}`, ...more }
  }

  /** D1's Set PIN body of type ISO0. */
  iso0(digits = NEW_PIN, pan: string = PANS.first): Promise<string> {
    return this.d1.setPinRequest(digits, pan)
  }

  /** What is in D1's Set PIN of type 3DES_SECCOS. */
  seccosContent(
    counter: { pcc: string; intdatag: string },
    digits: string = NEW_PIN,
    pan: string = PANS.first,
    issuer: string = ISSUER,
  ) {
    const keys: SeccosKeys = {
      prw: { hex: this.hex.prw, kid: 'PRW-1' },
      mac: { hex: this.hex.mac, kid: 'MAC-1' },
    }
    return seccosContent(digits, { pan, ...FIELDS, issuer }, counter, keys)
  }

  /** D1's Set PIN body of type 3DES_SECCOS, for a counter that was issued to the card. */
  async seccos(cardId: string, digits = NEW_PIN): Promise<string> {
    const content = this.seccosContent(await this.counter.issue({ cardId }), digits)
    return this.d1.seal('3DES_SECCOS', content)
  }

  /** The last event. */
  get last(): AuditEvent {
    return this.events.at(-1) ?? expect.fail('there is no event')
  }

  /** Everything that must be nowhere, in the forms it might take. */
  secrets(): readonly string[] {
    const blocks = [...this.pins.stored.values()].flatMap(found =>
      'block' in found ? [Buffer.from(found.block.block).toString('hex')] : [found.prw.prwValue],
    )
    const hex = [...Object.values(this.hex), ...blocks]
    const forms = hex.flatMap(text => [
      text,
      text.toUpperCase(),
      Buffer.from(text, 'hex').toString('base64').slice(0, 10),
      Buffer.from(text, 'hex').join(','),
    ])
    return [PIN, NEW_PIN, ...Object.values(PANS), CANARY, CLIENT.clientSecret, ...forms]
  }

  /** No event shows any of it, and no error of ours does. */
  expectSilence(...shown: readonly string[]): void {
    const everything = [JSON.stringify(this.events), inspect(this.events, { depth: 9 }), ...shown].join('\n')
    for (const secret of this.secrets()) expect(everything).not.toContain(secret)
  }
}

/** 16 random bytes whose halves differ: no weak key. */
function key16(): string {
  return randomBytes(16).toString('hex')
}

export const pinPath = (cardId: string, issuerId = ISSUER): string =>
  `/cms/api/v1/issuers/${issuerId}/cards/${cardId}/pin`
export const counterPath = (cardId: string, issuerId = ISSUER): string =>
  `${pinPath(cardId, issuerId)}/changeCounter`
export const TOKEN_PATH = '/authz/d1/v1/oauth2/token'
export const JSON_TYPE = { 'content-type': 'application/json' } as const
export const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' } as const
export const basic = (id: string = CLIENT.clientId, secret: string = CLIENT.clientSecret): string =>
  `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
