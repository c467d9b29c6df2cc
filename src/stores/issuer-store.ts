/**
 * Everything an issuer keeps for its endpoints, in one place: cards, PINs, change counters. Three implementations keep
 * one contract (`issuerStoreContract` of `issuer-pin-crypto/testing`): memory for tests, SQLite for a service of one
 * machine, PostgreSQL for one of several replicas.
 *
 * 1. Resolved means durable (memory apart), and each write is one atomic statement: done, or not done at all. Of a call
 *    that rejects it is unknown whether it was done; to repeat it is safe.
 * 2. A card has one PIN: a block and a PRW take each other's place. `storePrw` changes nothing once a PRW of a higher
 *    sequence was stored for the card, nor where a block has replaced one of the same or a higher sequence.
 *    Sequences are counted from 1, as `ChangeCounter` does.
 * 3. A PIN belongs to a card: it cannot be stored for one that is not there (`ERR_BACKEND_FAILED`), and goes with it.
 *    The change counter stays when a card goes: a card that comes back must not count from the beginning.
 *    What is remembered of sequences goes with the card: give a card that comes back another cardId, or a Set PIN that
 *    was under way when it went may still store its PRW.
 * 4. Cards are told apart by issuer and id, counters by issuer: nothing of one issuer is seen by another.
 * 5. A Set PIN request that stored a block is remembered with it, in the same write, by the SHA-256 of its JWE, across
 *    cards and issuers, and longer than its card: `acceptBlock` stores it once. `forgetRequests` ends that.
 * 6. A PAN leaves the process sealed (see `pan-sealer.ts`); a PIN block is stored as it comes, enciphered.
 */
import type { CallOptions } from '../base/arguments.js'
import type {
  BlockAcceptance,
  BlockRequest,
  Card,
  CardDirectory,
  CardRef,
  CardState,
  ForgetRequests,
  PinStore,
  StoredPinBlock,
  StoredPrw,
} from '../d1/endpoints/interfaces.js'
import type { ChangeCounterStore } from '../seccos/counter/store.js'

/** The cards of the issuers; also the `cards` of the endpoints. */
export interface CardStore extends CardDirectory {
  /** The card, or undefined. */
  find(card: CardRef, options?: CallOptions): Promise<Card | undefined>
  /**
   * Adds a card, or replaces what is known of it. Its PIN stays: where the PAN changes, store a new PIN, because blocks
   * and PRWs are bound to the PAN.
   */
  put(card: CardRef, record: Card): Promise<void>
  /** Changes what a card may do. `ERR_BACKEND_FAILED` where there is no such card. */
  setState(card: CardRef, state: CardState): Promise<void>
  /** Removes a card and its PIN; a card that is not there is no error. */
  remove(card: CardRef): Promise<void>
}

/** The PINs; also the `pins` of the endpoints. */
export interface CardPinStore extends PinStore {
  readBlock(card: CardRef, options?: CallOptions): Promise<StoredPinBlock | undefined>
  /**
   * Stores a block that came by another way than a Set PIN request (a branch, a letter, a change of the storage key),
   * over whatever was there; the same block again is no error.
   */
  storeBlock(card: CardRef, pin: StoredPinBlock): Promise<void>
  /**
   * Stores a block over whatever was there, together with the request it came with, in one atomic write; unless the
   * request is known already, from whatever card and issuer: then nothing is changed, and the answer says so. What is
   * remembered of a request outlives the card. Resolved means durable.
   */
  acceptBlock(card: CardRef, pin: StoredPinBlock, request: BlockRequest): Promise<BlockAcceptance>
  /** Forgets accepted requests, and says how many. Nothing depends on when it runs. */
  forgetRequests(which: ForgetRequests): Promise<number>
  /** The card's PRW, for `verifyPrw`; undefined where there is none, or where a block has replaced it. */
  readPrw(card: CardRef, options?: CallOptions): Promise<StoredPrw | undefined>
}

/**
 * The stores of one database. Every call may reject with `ERR_ARGUMENT`, `ERR_BACKEND_BUSY` (retryable: locked, late,
 * or out of reach), `ERR_BACKEND_FAILED`, `ERR_BACKEND_CLOSED`; the reading ones with `ERR_ABORTED`.
 */
export interface IssuerStore extends AsyncDisposable {
  readonly cards: CardStore
  readonly pins: CardPinStore
  /** The store of one issuer's change counter. `ERR_ARGUMENT` for what is no issuerId. */
  readonly counters: (issuerId: string) => ChangeCounterStore
  /** Waits for the calls under way, and closes. To close twice is no error. */
  close(): Promise<void>
}
