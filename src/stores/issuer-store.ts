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
 * 6. A PIN that comes with the `revision` of its card is written only if that is still the card's
 *    (`ERR_BACKEND_BUSY`, retryable, otherwise): what was decided for an active card does not reach a blocked one. A PIN
 *    that is stored changes the revision, too: a write that hung, on whatever replica, does not come over a newer PIN. Of
 *    two PRWs the sequence alone decides.
 * 7. A PAN leaves the process sealed (see `pan-sealer.ts`); a PIN block is stored as it comes, enciphered.
 */
import type { CallOptions } from '../base/arguments.js'
import type {
  Card,
  CardAsFound,
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
  /**
   * {@link CardStore.put} for many, as they come, in batches of one transaction each. A result comes for each card, in
   * order, once it is stored; a card that is refused stops none of the others. Where a call to the database fails, the
   * loop throws, and what had no result yet may simply be put again.
   */
  putMany(
    entries: Iterable<CardEntry> | AsyncIterable<CardEntry>,
    options?: CallOptions,
  ): AsyncIterable<BulkResult>
  /**
   * Seals the PANs of a page of cards anew where `PanSealer.isCurrent` does not say that they are sealed as they would be
   * now, and gives back the cards it looked at: fewer than `limit` where these were the last.
   */
  reseal(page: ResealPage, options?: CallOptions): Promise<readonly CardRef[]>
}

/** A card to be put. */
export interface CardEntry {
  readonly card: CardRef
  readonly record: Card
}

/** A block to be stored. */
export interface BlockEntry {
  readonly card: CardAsFound
  readonly pin: StoredPinBlock
}

/** What became of one entry of many. */
export type BulkResult =
  | { readonly card: CardRef; readonly outcome: 'stored' }
  | { readonly card: CardRef; readonly outcome: 'refused'; readonly error: Error }

/** A page of all cards, by issuerId and cardId. */
export interface ResealPage {
  /** The last card of the page before. */
  readonly after?: CardRef
  /** 1 to 8192. */
  readonly limit: number
}

/** A page of the blocks under one key. */
export interface BlockPage extends ResealPage {
  readonly kid: string
}

/** A stored block, with what tells whether it is still the same. */
export interface ListedBlock extends StoredPinBlock {
  readonly card: CardRef
  /** Another one after each write. */
  readonly version: string
}

/** How many blocks are under a key. */
export interface BlockCount {
  readonly kid: string
  readonly blocks: number
}

/** A block that takes the place of another one of the same PIN, if nobody wrote in between. */
export interface Replacement {
  readonly card: CardRef
  readonly pin: StoredPinBlock
  /** Of the {@link ListedBlock} that it replaces. */
  readonly version: string
}

/** The PINs; also the `pins` of the endpoints. */
export interface CardPinStore extends PinStore {
  readBlock(card: CardRef, options?: CallOptions): Promise<StoredPinBlock | undefined>
  /**
   * Stores a block that came by another way than a Set PIN request (a branch, a letter, a change of the storage key),
   * over whatever was there; the same block again is no error. What is open for the card in its change counter ends: a
   * Set PIN that D1 sent before sets no older PIN after it.
   */
  storeBlock(card: CardRef, pin: StoredPinBlock): Promise<void>
  knowsRequest(digest: Uint8Array, options?: CallOptions): Promise<boolean>
  forgetRequests(which: ForgetRequests): Promise<number>
  /** {@link CardPinStore.storeBlock} for many; see {@link CardStore.putMany}. */
  storeBlocks(
    entries: Iterable<BlockEntry> | AsyncIterable<BlockEntry>,
    options?: CallOptions,
  ): AsyncIterable<BulkResult>
  /** Blocks under one key, in order of issuerId and cardId; fewer than `limit` where these are the last. */
  listBlocks(page: BlockPage, options?: CallOptions): Promise<readonly ListedBlock[]>
  /** How many blocks there are under which kid. A key that is not among them may go. */
  countBlocks(options?: CallOptions): Promise<readonly BlockCount[]>
  /**
   * Replaces blocks by others of the same PIN (under another key), each only if its version is still the same. True: it was
   * replaced; false: somebody else wrote, and that block stays. See `rotateStorageKey`.
   */
  replaceBlocks(list: readonly Replacement[]): Promise<readonly boolean[]>
  /** The card's PRW, for `verifyPrw`; undefined where there is none, or where a block has replaced it. */
  readPrw(card: CardRef, options?: CallOptions): Promise<StoredPrw | undefined>
}

/** How many cards are sealed under a key. */
export interface SealCount {
  readonly kid: string
  readonly cards: number
}

/** The seals of a store that was opened with a `rowSealer`; see `resealRows`. */
export interface RowSeals {
  /**
   * Verifies a page of what is kept of cards (also of those of which a counter alone is left), and seals anew what is not
   * sealed as it would be now. Gives back the cards it looked at: none where there are no more.
   */
  reseal(page: ResealPage): Promise<readonly CardRef[]>
  /** The same for the records of requests, by digest in hex; undefined where there are no more. */
  resealRequests(page: { readonly after?: string; readonly limit: number }): Promise<string | undefined>
  /** How many cards are sealed under which kid. A key that is not among them may go, once the requests are through, too. */
  count(): Promise<readonly SealCount[]>
}

/**
 * The stores of one database. Every call may reject with `ERR_ARGUMENT`, `ERR_BACKEND_BUSY` (retryable: locked, late,
 * or out of reach), `ERR_BACKEND_FAILED`, `ERR_BACKEND_CLOSED`; the reading ones with `ERR_ABORTED`.
 */
export interface IssuerStore extends AsyncDisposable {
  readonly cards: CardStore
  readonly pins: CardPinStore
  /** Where rows are sealed. */
  readonly seals?: RowSeals
  /** The store of one issuer's change counter. `ERR_ARGUMENT` for what is no issuerId. */
  readonly counters: (issuerId: string) => ChangeCounterStore
  /** Waits for the calls under way, and closes. To close twice is no error. */
  close(): Promise<void>
}
