/** The issuer: keys and store behind the endpoints, test cards in the store. */
import { type Backend, ChangeCounter, type PublicJwkLike, type SeccosProfile } from 'issuer-pin-crypto'
import {
  type AuditHook,
  type EndpointHandler,
  issuerEndpoints,
  type OwnTokens,
  type ReadinessCheck,
  readinessChecks,
} from 'issuer-pin-crypto/d1'
import type { IssuerStore } from 'issuer-pin-crypto/sqlite'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from 'issuer-pin-crypto/tools'
import { firstBlock, ISSUER_ID, recordOf, type TestCard } from './cards.js'
import { MAC, PRW, ZPK } from './keys.js'
import { seed } from './seed.js'

/** Invented: the scheme's own is not public. A service supplies its scheme's, from the documents it holds. */
export const PROFILE: SeccosProfile = ILLUSTRATIVE_NOT_GIROCARD_TDEA

/** What the issuer is made of. */
export interface Parts {
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
  const hostDecipher = true
  const d1Zpk = await backend.bind({ kid: ZPK.kid, usage: 'pin-encryption', hostDecipher })
  const storage = await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher })
  const jweKeys = await backend.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' })
  const macKeys = await backend.bind({ kid: MAC.kid, usage: 'retail-mac' })
  if (jweKeys.publicJwk === undefined) throw new Error('the JWE key has no public half')

  for (const card of parts.cards) {
    await seed(store, { issuerId: ISSUER_ID, cardId: card.cardId }, recordOf(card), () =>
      firstBlock(card, storage),
    )
  }

  const issuers = {
    [ISSUER_ID]: {
      cards: store.cards,
      pins: store.pins,
      jweKeys,
      iso0: { d1Zpk, storage, d1PublicJwk },
      seccos: { profile: PROFILE, macKeys, prwKids: [PRW.kid], counter: changeCounter(backend, store) },
    },
  }
  const handler = issuerEndpoints({
    issuers,
    // D1's certificate and D1's token, both: neither alone opens anything.
    authorization: {
      callers: [
        {
          name: 'd1',
          issuers: [ISSUER_ID],
          certificate: { sha256: [d1Certificate] },
          tokenSubjects: [client.clientId],
        },
      ],
      tokens,
    },
    tokenEndpoint: { tokens, clients: [client] },
    audit,
  })
  return { handler, checks: readinessChecks(issuers), publicJwk: { ...jweKeys.publicJwk, kid: jweKeys.kid } }
}

/** The PIN change counter of the issuer; `now` for whoever needs an answer of yesterday. */
export function changeCounter(
  backend: Backend,
  store: IssuerStore,
  now: () => number = Date.now,
): ChangeCounter {
  return new ChangeCounter({
    store: store.counters(ISSUER_ID),
    backend,
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
    now,
  })
}
