/** What D1 must know of this issuer, as the simulator takes it: `simulator.json` and the files that it names. */
import type { Backend } from 'issuer-pin-crypto'
import type { IssuerStore } from 'issuer-pin-crypto/sqlite'
import { ABSENT_CARD, EXPIRED_CARD, type TestCard } from './cards.js'
import type { Folder } from './folder.js'
import { changeCounter, type Issuer, PROFILE } from './issuer.js'
import { MAC, PRW, ZPK } from './keys.js'
import { CLIENT, openTokens } from './tokens.js'

const TWO_HOURS = 2 * 3600 * 1000

export interface Surroundings {
  readonly issuerId: string
  readonly folder: Folder
  readonly backend: Backend
  readonly store: IssuerStore
  readonly issuer: Issuer
  readonly cards: readonly TestCard[]
  /** Origin, without a slash at the end. */
  readonly url: string
}

/** Writes it. Returns the file's path. */
export async function writeSimulatorConfig(around: Surroundings): Promise<string> {
  const { folder, issuerId, backend, store, issuer, cards, url } = around
  const past = (): number => Date.now() - TWO_HOURS
  const expiredTokens = await openTokens(folder, past)
  const { token } = await expiredTokens.issue({ subject: CLIENT.clientId, scopes: [] })
  const { pcc, intdatag } = await changeCounter(backend, store, issuerId, past).issue({
    cardId: EXPIRED_CARD,
  })
  folder.write({ name: 'expired-token.txt', text: token })
  const other = await (await openTokens(folder)).issue({ subject: 'another-issuer', scopes: [] })
  folder.write({ name: 'other-token.txt', text: other.token })
  folder.write({ name: 'issuer-jwe.jwk', text: JSON.stringify(issuer.publicJwk), public: true })
  folder.write({ name: 'profile.json', text: JSON.stringify(PROFILE, null, 2), public: true })
  const config = {
    url,
    tokenUrl: `${url}/authz/d1/v1/oauth2/token`,
    issuerId,
    client: { id: CLIENT.clientId, secretFile: CLIENT.secretFile },
    tls: { cert: 'd1.pem', key: 'd1.key', ca: 'ca.pem' },
    issuerJwkFile: 'issuer-jwe.jwk',
    d1JwkFile: 'd1-jwe-private.jwk',
    zpk: ZPK,
    seccos: { profileFile: 'profile.json', mac: MAC, prw: PRW },
    other: { cert: 'other.pem', key: 'other.key', tokenFile: 'other-token.txt' },
    expired: { tokenFile: 'expired-token.txt', counter: { cardId: EXPIRED_CARD, pcc, intdatag } },
    cards: [...cards, { cardId: ABSENT_CARD, state: 'absent' }],
  }
  folder.write({ name: 'simulator.json', text: JSON.stringify(config, null, 2) })
  return folder.file('simulator.json')
}
