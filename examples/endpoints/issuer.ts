/**
 * An issuer of two cards, in memory, on software keys that are made anew at each start. The interfaces are the real
 * ones; what stands behind them is as small as it can be. A service keeps cards and PINs in its database, its change
 * counter in SQLite or PostgreSQL, and its keys in an HSM.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import {
  type Backend,
  ChangeCounter,
  encipherPin,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  memoryStore,
  Pan,
  Pin,
  type PublicJwkLike,
} from 'issuer-pin-crypto'
import {
  type AuditHook,
  type Card,
  type EndpointHandler,
  issuerEndpoints,
  ownTokens,
  type PinStore,
  type StoredPinBlock,
  type StoredPrw,
  type TokenClient,
} from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'

/** Keys that the issuer and D1 share: 16 bytes as hex. */
export interface SharedKeys {
  readonly zpk: string
  readonly mac: string
}

/** What must be known to answer D1. */
export interface Partner {
  readonly d1PublicJwk: PublicJwkLike
  readonly shared: SharedKeys
  readonly client: TokenClient
  readonly audit: AuditHook
}

/** Cards that nobody owns: the numbers fail the Luhn check. */
const CARDS: ReadonlyMap<string, Card> = new Map([
  ['card-0001', { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] }],
  ['card-0002', { state: 'active', pan: Pan.from('9999980000000012'), setPinTypes: ['3DES_SECCOS'] }],
])

/** A card has one PIN: writing it one way forgets the other. */
class MemoryPins implements PinStore {
  readonly #pins = new Map<string, { block: StoredPinBlock } | { prw: StoredPrw }>()

  async readBlock({ cardId }: { cardId: string }): Promise<StoredPinBlock | undefined> {
    const found = this.#pins.get(cardId)
    return found && 'block' in found ? found.block : undefined
  }

  async storeBlock({ cardId }: { cardId: string }, block: StoredPinBlock): Promise<void> {
    this.#pins.set(cardId, { block })
  }

  async storePrw({ cardId }: { cardId: string }, prw: StoredPrw): Promise<void> {
    const found = this.#pins.get(cardId)
    if (found && 'prw' in found && found.prw.sequence > prw.sequence) return
    this.#pins.set(cardId, { prw })
  }
}

/** The software keys; an HSM takes the place of this function and of nothing else. */
function openBackend({ zpk, mac }: SharedKeys): Promise<Backend> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const tdea = { algorithm: 'tdea-2key' } as const
  return softwareBackend({
    keys: [
      { ...tdea, kid: 'ZPK-D1', usage: 'pin-encryption', material: zpk },
      { ...tdea, kid: 'PEK-STORE', usage: 'pin-encryption', material: randomBytes(16) },
      { ...tdea, kid: 'MAC-1', usage: 'retail-mac', material: mac },
      { kid: 'ISSUER-JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
}

/** The endpoints of `is_tbank01`, with the issuer's public key for D1. */
export async function makeIssuer({ d1PublicJwk, shared, client, audit }: Partner): Promise<{
  readonly handler: EndpointHandler
  readonly issuerPublicJwk: PublicJwkLike
}> {
  const backend = await openBackend(shared)
  const hostDecipher = true
  const d1Zpk = await backend.bind({ kid: 'ZPK-D1', usage: 'pin-encryption', hostDecipher })
  const storage = await backend.bind({ kid: 'PEK-STORE', usage: 'pin-encryption', hostDecipher })
  const jweKeys = await backend.bind({ kid: 'ISSUER-JWE', usage: 'jwe-key-agreement' })
  const macKeys = await backend.bind({ kid: 'MAC-1', usage: 'retail-mac' })
  const counter = new ChangeCounter({
    store: memoryStore(),
    backend,
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 300,
  })
  const tokens = await ownTokens({
    algorithm: 'HS256',
    keys: [{ kty: 'oct', kid: 'T-1', k: randomBytes(32).toString('base64url') }],
    issuer: 'https://localhost/authz/d1/v1',
    audience: 'https://localhost',
    lifetimeSeconds: 900,
  })

  const pins = new MemoryPins()
  using first = Pin.from('4711')
  for (const [cardId, { pan }] of CARDS) {
    const block = await encipherPin({ pin: first, pan, format: 0, key: storage })
    await pins.storeBlock({ cardId }, { block, kid: storage.kid })
  }

  const handler = issuerEndpoints({
    issuers: {
      is_tbank01: {
        cards: { find: async ({ cardId }) => CARDS.get(cardId) },
        pins,
        jweKeys,
        iso0: { d1Zpk, storage, d1PublicJwk },
        seccos: { profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA, macKeys, prwKids: ['PRW-1'], counter },
      },
    },
    authorization: { bearer: tokens },
    tokenEndpoint: { tokens, clients: [client] },
    audit,
  })
  return { handler, issuerPublicJwk: { ...jweKeys.publicJwk, kid: jweKeys.kid } }
}
