/** The issuer: keys and store behind the endpoints, test cards in the store. */
import { type Backend, ChangeCounter, type PublicJwkLike, type SeccosProfile } from 'issuer-pin-crypto'
import {
  type AuditHook,
  type EndpointHandler,
  issuerEndpoints,
  memoryRates,
  type OwnTokens,
  type ReadinessCheck,
  readinessChecks,
} from 'issuer-pin-crypto/d1'
import type { IssuerStore } from 'issuer-pin-crypto/sqlite'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from 'issuer-pin-crypto/tools'
import { firstBlock, recordOf, type TestCard } from './cards.js'
import { MAC, PRW, ZPK } from './keys.js'
import type { Identity } from './onboarded.js'
import { seed } from './seed.js'
import { NGINX } from './server.js'

/** Invented: the scheme's own is not public. A service supplies its scheme's, from the documents it holds. */
export const PROFILE: SeccosProfile = ILLUSTRATIVE_NOT_GIROCARD_TDEA

/** What the issuer is made of. */
export interface Parts {
  readonly identity: Identity
  readonly backend: Backend
  readonly store: IssuerStore
  readonly tokens: OwnTokens
  readonly client: { readonly clientId: string; readonly clientSecret: string }
  readonly d1PublicJwk: PublicJwkLike
  /** SHA-256 of D1's client certificate. */
  readonly d1Certificate: string
  readonly cards: readonly TestCard[]
  readonly audit: AuditHook
}

export interface Issuer {
  readonly handler: EndpointHandler
  /** What must answer before D1 is let in. */
  readonly checks: Readonly<Record<string, ReadinessCheck>>
  /** For D1: what it seals Set PINs to. */
  readonly publicJwk: PublicJwkLike & { readonly kid: string }
}

/** The endpoints over these parts. */
export async function openIssuer(parts: Parts): Promise<Issuer> {
  const { backend, store, tokens, client, d1PublicJwk, d1Certificate, audit } = parts
  const { issuerId, jweKid, jweThumbprint } = parts.identity
  const hostDecipher = true
  const d1Zpk = await backend.bind({ kid: ZPK.kid, usage: 'pin-encryption', hostDecipher })
  const storage = await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher })
  // Another key than D1 was told would open nothing that D1 sends.
  const told = jweThumbprint !== undefined && {
    kcv: { method: 'jwk-thumbprint', value: jweThumbprint } as const,
  }
  const jweKeys = await backend.bind({ kid: jweKid, usage: 'jwe-key-agreement', ...told })
  const macKeys = await backend.bind({ kid: MAC.kid, usage: 'retail-mac' })
  if (jweKeys.publicJwk === undefined) throw new Error('the JWE key has no public half')

  for (const card of parts.cards) {
    await seed(store, { issuerId, cardId: card.cardId }, recordOf(card), () => firstBlock(card, storage))
  }

  const issuers = {
    [issuerId]: {
      cards: store.cards,
      pins: store.pins,
      jweKeys,
      iso0: { d1Zpk, storage, d1PublicJwk },
      seccos: {
        profile: PROFILE,
        macKeys,
        prwKids: [PRW.kid],
        counter: changeCounter(backend, store, issuerId),
      },
    },
  }
  const handler = issuerEndpoints({
    issuers,
    // D1's certificate and D1's token, both: neither alone opens anything.
    authorization: {
      callers: [
        {
          name: 'd1',
          issuers: [issuerId],
          certificate: { sha256: [d1Certificate] },
          tokenSubjects: [client.clientId],
        },
      ],
      tokens,
      proxies: [NGINX],
    },
    tokenEndpoint: { tokens, clients: [client] },
    audit,
    // A load of many requests on few cards is no fault here. In life: `memoryRates()`, or a number of your own.
    rates: memoryRates({ perCardPerMinute: 60_000 }),
  })
  return { handler, checks: readinessChecks(issuers), publicJwk: { ...jweKeys.publicJwk, kid: jweKeys.kid } }
}

/** The PIN change counter of the issuer; `now` for whoever needs an answer of yesterday. */
export function changeCounter(
  backend: Backend,
  store: IssuerStore,
  issuerId: string,
  now: () => number = Date.now,
): ChangeCounter {
  return new ChangeCounter({
    store: store.counters(issuerId),
    backend,
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
    now,
  })
}
