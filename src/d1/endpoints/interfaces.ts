/**
 * What an issuer supplies to its endpoints: who its cards are, and where their PINs are kept. The endpoints decide
 * about messages, keys and answers; these decide about cards.
 *
 * 1. Each method may be called at any time, several times at once, for one card too. Set PIN alone is serialised per
 *    card, within one process.
 * 2. Each may be called again for what it has done already: D1 repeats a request whose answer it did not get.
 * 3. What rejects is answered with 500, whatever it rejects with. Nothing of the reason goes out.
 * 4. A promise that never settles keeps the card's Set PIN waiting for as long: give your database a timeout.
 */
import type { CallOptions } from '../../base/arguments.js'
import type { Pan } from '../../primitives/pan.js'
import type { ClaimRecord } from '../../seccos/counter/store.js'
import type { ProfileMark } from '../../seccos/profile/profile.js'
import type { PinBlockType, PinOperation } from '../contract.js'

/** A card as D1 names it. */
export interface CardRef {
  /** Exactly 10 characters; one that the endpoints were configured for. */
  readonly issuerId: string
  /** `^[A-Za-z0-9_-]{1,48}$`. Not the PAN, nor made from it. */
  readonly cardId: string
}

/**
 * A card as a directory found it. What is written for it is written only if the card is still the same: one that was
 * blocked, or got another PAN, while a Set PIN was under way is decided on in the write itself.
 */
export interface CardAsFound extends CardRef {
  /** {@link Card.revision}; where absent, the card need only be there. */
  readonly revision?: string
  /**
   * When the answer to D1 goes out, by the clock that {@link Card.foundAt} is of: from then on nothing is written. Where
   * absent, there is no end.
   */
  readonly notAfter?: number
}

/** Which card is wanted, and what for: a directory whose states depend on the operation can tell. */
export interface CardQuery extends CardRef {
  readonly operation: PinOperation
}

/**
 * What the state of a card allows.
 * - `active`: everything.
 * - `pin-change-forbidden`: Get PIN only. The change counter answers `PIN_CHANGE_FORBIDDEN`.
 * - `not-active`: nothing. The change counter answers `CARD_NOT_ACTIVE`.
 */
export type CardState = 'active' | 'pin-change-forbidden' | 'not-active'

/** What the endpoints must know of a card. */
export interface Card {
  readonly state: CardState
  /** It is not in D1's messages: the PIN blocks are bound to it. */
  readonly pan: Pan
  /**
   * How the PIN of this card may be set. Name one way where the card has one: a Set PIN of type ISO0 carries no MAC and
   * no counter, and should not get past those of a 3DES_SECCOS card.
   */
  readonly setPinTypes: readonly PinBlockType[]
  /** What a SECCOS profile wants beside the message; see `OpenSeccosSetPinRequestInput`. */
  readonly seccos?: {
    readonly fields?: Readonly<Record<string, string | Uint8Array>>
  }
  /**
   * Another one after each change of the card, and of its PIN: a write that hung on one replica does then not come over a
   * PIN that another one has stored since. It comes from the directory; where a card is put, it means nothing.
   */
  readonly revision?: string
  /**
   * When it was found, in milliseconds, by the clock of the database that writes: what hangs on its way there is late by
   * that clock, whatever those of the replicas say. It comes from the directory, as the revision does.
   */
  readonly foundAt?: number
}

/** Finds cards. */
export interface CardDirectory {
  /** The card, or undefined where the issuer has none by this id (answered with 404). `signal`: the answer is late. */
  find(query: CardQuery, options: CallOptions): Promise<Card | undefined>
}

/** A PIN block at rest. */
export interface StoredPinBlock {
  /** The format 0 block, enciphered: 8 bytes. */
  readonly block: Uint8Array
  /** The `pin-encryption` key it is enciphered under; one of the endpoints' storage keys. */
  readonly kid: string
}

/** A PIN reference value at rest, whose MAC was right: everything `verifyPrw` needs besides key, PAN and PIN. */
export interface StoredPrw extends ProfileMark {
  readonly prwValue: string
  readonly prwKid: string
  /** The masked data set, 246 hex digits. */
  readonly prwDataSet: string
  readonly pcc: string
  /** Only under a profile that cannot verify a PIN without it. */
  readonly intdatag?: string
  /** Grows with every PRW accepted for the card. Never write over one with a higher sequence. */
  readonly sequence: number
  /** What proves, later, that D1 set this PRW: the MAC it came with, and which change it answered. */
  readonly evidence?: PrwEvidence
}

/** The MAC of a Set PIN request (3DES_SECCOS), and its intdatag, which is spent. */
export interface PrwEvidence {
  readonly macValue: string
  readonly macKid: string
  readonly intdatag: string
}

/** The Set PIN request (ISO0) that a block came with: what tells that it comes a second time. */
export interface BlockRequest {
  /** SHA-256 of the JWE as it was sent: 32 bytes. A JWE that opens cannot be written in a second way. */
  readonly digest: Uint8Array
  /** The issuer's P-256 key that opened it: once that key is gone, the request can be no danger any more. */
  readonly jweKid: string
  /** When it was accepted, in milliseconds since 1970. */
  readonly acceptedAt: number
}

/**
 * What became of a block that came with a request.
 * - `stored`: it is the card's PIN now.
 * - `replayed`: this very request was accepted for this card before; nothing was changed. `current`: the card's PIN is
 *   still the one that it set.
 * - `misdirected`: this very request was accepted for another card, or another issuer, before; nothing was changed.
 */
export type BlockAcceptance =
  | { readonly outcome: 'stored' }
  | { readonly outcome: 'replayed'; readonly current: boolean }
  | { readonly outcome: 'misdirected' }

/** Which accepted requests need not be remembered any longer; see `forgetRequests`. */
export interface ForgetRequests {
  /** The issuers whose requests are looked at; those of others stay. */
  readonly issuerIds: readonly string[]
  /** The kids of all P-256 keys that still open a request of these issuers: what other keys opened is forgotten. */
  readonly jweKids: readonly string[]
  /**
   * What was accepted before this time (milliseconds since 1970) is forgotten, too. From then on such a request, sent
   * once more, sets its PIN again.
   */
  readonly acceptedBefore?: number
}

/**
 * Keeps PINs. A card has one PIN: to store it one way is to forget what was stored the other way, or Get PIN would go
 * on showing a PIN that is no longer the card's.
 */
export interface PinStore {
  /** The card's PIN block, or undefined where there is none to show (answered with 403). */
  readBlock(card: CardRef, options: CallOptions): Promise<StoredPinBlock | undefined>
  /**
   * Stores a block over whatever was there, together with the request it came with, in one atomic write; unless the
   * request is known already, from whatever card and issuer: then nothing is changed, and the answer says so. What is
   * remembered of a request outlives the card. Resolved means durable.
   */
  acceptBlock(card: CardAsFound, pin: StoredPinBlock, request: BlockRequest): Promise<BlockAcceptance>
  /**
   * Whether a request by this digest (SHA-256 of its JWE) was accepted, from whatever card and issuer; nothing is changed. A PIN policy
   * with `notBefore` needs it: the PIN that was there comes with a repeated request, which is acknowledged, and with a new one, which is
   * refused and must leave no trace.
   */
  knowsRequest?(digest: Uint8Array, options: CallOptions): Promise<boolean>
  /**
   * Stores a PRW, unless one with a higher sequence is there (no error either). Resolved means durable. A store that keeps
   * the change counter, too, ends `claim` in the same atomic write, and rejects where it has ended; see `ClaimRecord`.
   */
  storePrw(card: CardAsFound, prw: StoredPrw, claim?: ClaimRecord): Promise<void>
  /**
   * Forgets accepted requests, and says how many. Nothing depends on when it runs; the endpoints call it now and then.
   * Absent: the store has a way of its own.
   */
  forgetRequests?(which: ForgetRequests): Promise<number>
}

/** Who a token was issued to, or why it is refused. */
export type TokenVerdict =
  | {
      readonly verified: true
      /** Whom it was issued to: what a caller's `tokenSubjects` name. In the audit event: 1 to 64 printable characters. */
      readonly subject?: string
      /** Its own name (`jti`), for the audit event. */
      readonly tokenId?: string
      /** The certificate it is bound to (RFC 8705, 3: `cnf` `x5t#S256`), in base64url. */
      readonly confirmation?: string
    }
  | {
      readonly verified: false
      /** For the operator: a short name such as `ERR_JWT_EXPIRED`. */
      readonly reason: string
    }

/** What else is known of the request that a token came with. */
export interface TokenFacts extends CallOptions {
  readonly operation?: PinOperation
  /** The issuerId of the path; it may be of no issuer. */
  readonly issuerId?: string
  /** SHA-256 of the client certificate that TLS, or a trusted proxy, verified: hex. */
  readonly certificateSha256?: string
  /** The address of the other side, of a proxy where there is one. */
  readonly address?: string
}

/** Judges bearer tokens; made by `ownTokens` or `providerTokens`, or an issuer's own. */
export interface TokenVerifier {
  /** The verdict. Rejects only where it cannot tell (keys out of reach): that is answered with 500, not with 401. */
  verify(token: string, facts: TokenFacts): Promise<TokenVerdict>
}

/** Whom a token is for, and what it is to say. */
export interface TokenGrant {
  readonly subject: string
  readonly scopes: readonly string[]
  /** SHA-256 of the client certificate that the token is to be bound to (RFC 8705, 3), in base64url. */
  readonly confirmation?: string
}

/** A token as the token endpoint hands it out. */
export interface IssuedToken {
  readonly token: string
  readonly expiresInSeconds: number
  /** Milliseconds since 1970. */
  readonly expiresAt: number
}

/** Issues bearer tokens; made by `ownTokens`, or an issuer's own. */
export interface TokenIssuer {
  /** A fresh token for a client that has shown who it is. */
  issue(grant: TokenGrant): Promise<IssuedToken>
}
