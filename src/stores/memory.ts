/** The stores of an issuer in this process's memory: what the contract means, without a database. */
import { type CallOptions, requireSignal, throwIfAborted } from '../base/arguments.js'
import { toHex } from '../base/bytes.js'
import type {
  BlockAcceptance,
  BlockRequest,
  Card,
  CardRef,
  CardState,
  ForgetRequests,
  StoredPinBlock,
  StoredPrw,
} from '../d1/endpoints/interfaces.js'
import { type ChangeCounterStore, memoryStore } from '../seccos/counter/store.js'
import type { CardPinStore, CardStore, IssuerStore } from './issuer-store.js'
import {
  noSuchCard,
  readBlockRequest,
  readCard,
  readForgetRequests,
  readPinBlock,
  readPrw,
  readRef,
  requireIssuerId,
  requireState,
  storeClosed,
} from './records.js'

/**
 * An issuer's stores in this process's memory, for tests and demonstrations: what they hold is gone with the process,
 * the change counters too. It keeps PANs as they come, and needs no sealer.
 *
 * Errors: none. Later: `ERR_ARGUMENT`, `ERR_ABORTED`, `ERR_BACKEND_FAILED` (no such card), `ERR_BACKEND_CLOSED`.
 *
 * @example
 * ```ts
 * await using store = memoryIssuerStore()
 * const card = { issuerId: 'is_tbank01', cardId: 'card-0001' }
 * await store.cards.put(card, { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] })
 * ```
 */
export function memoryIssuerStore(): IssuerStore {
  return new MemoryIssuerStore()
}

/**
 * A PIN is one or the other; `sequence` is that of the last PRW, whatever replaced it. `request`: the digest of the Set
 * PIN request that the block came with.
 */
interface MemoryPin {
  readonly block?: StoredPinBlock
  readonly request?: string
  readonly prw?: StoredPrw
  readonly sequence: number
}

/** An accepted Set PIN request: what it is remembered by is the key of the map. */
interface MemoryRequest extends Omit<BlockRequest, 'digest'> {
  readonly issuerId: string
  /** The card it was accepted for. */
  readonly card: string
}

class MemoryIssuerStore implements IssuerStore {
  readonly #cards = new Map<string, Card>()
  readonly #pins = new Map<string, MemoryPin>()
  readonly #requests = new Map<string, MemoryRequest>()
  readonly #counters = new Map<string, ChangeCounterStore>()
  #closed = false

  readonly cards: CardStore = {
    find: async (card: CardRef, options?: CallOptions) => {
      const found = this.#cards.get(this.#keyToRead(card, options))
      return found && readCard(found)
    },
    put: async (card: CardRef, record: Card) => {
      this.#cards.set(this.#key(card), readCard(record))
    },
    setState: async (card: CardRef, state: CardState) => {
      requireState(state)
      const key = this.#key(card)
      const found = this.#cards.get(key)
      if (found === undefined) throw noSuchCard()
      this.#cards.set(key, { ...found, state })
    },
    remove: async (card: CardRef) => {
      const key = this.#key(card)
      this.#cards.delete(key)
      this.#pins.delete(key)
    },
  }

  readonly pins: CardPinStore = {
    readBlock: async (card: CardRef, options?: CallOptions) => {
      const block = this.#pins.get(this.#keyToRead(card, options))?.block
      return block && readPinBlock(block)
    },
    readPrw: async (card: CardRef, options?: CallOptions) => {
      const prw = this.#pins.get(this.#keyToRead(card, options))?.prw
      return prw && readPrw(prw)
    },
    storeBlock: async (card: CardRef, pin: StoredPinBlock) => {
      const block = readPinBlock(pin)
      const key = this.#keyOfCard(card)
      this.#pins.set(key, { block, sequence: this.#pins.get(key)?.sequence ?? 0 })
    },
    acceptBlock: async (
      card: CardRef,
      pin: StoredPinBlock,
      request: BlockRequest,
    ): Promise<BlockAcceptance> => {
      const block = readPinBlock(pin)
      const { digest, jweKid, acceptedAt } = readBlockRequest(request)
      const key = this.#keyOfCard(card)
      const name = toHex(digest)
      const known = this.#requests.get(name)
      const now = this.#pins.get(key)
      if (known !== undefined) {
        return known.card === key
          ? { outcome: 'replayed', current: now?.request === name }
          : { outcome: 'misdirected' }
      }
      this.#requests.set(name, { issuerId: key.slice(0, key.indexOf('/')), card: key, jweKid, acceptedAt })
      this.#pins.set(key, { block, request: name, sequence: now?.sequence ?? 0 })
      return { outcome: 'stored' }
    },
    forgetRequests: async (which: ForgetRequests) => {
      if (this.#closed) throw storeClosed()
      const { issuerIds, jweKids, acceptedBefore = Number.NEGATIVE_INFINITY } = readForgetRequests(which)
      let forgotten = 0
      for (const [name, { issuerId, jweKid, acceptedAt }] of this.#requests) {
        const isDue = !jweKids.includes(jweKid) || acceptedAt < acceptedBefore
        if (issuerIds.includes(issuerId) && isDue && this.#requests.delete(name)) forgotten++
      }
      return forgotten
    },
    storePrw: async (card: CardRef, given: StoredPrw) => {
      const prw = readPrw(given)
      const key = this.#keyOfCard(card)
      const known = this.#pins.get(key)
      if (known !== undefined && known.sequence > prw.sequence) return
      // The same PRW again: D1 repeats a request. Once a block has taken its place, it is an older PIN.
      if (known?.sequence === prw.sequence && known.prw === undefined) return
      this.#pins.set(key, { prw, sequence: prw.sequence })
    },
  }

  readonly counters = (issuerId: string): ChangeCounterStore => {
    requireIssuerId(issuerId)
    const known = this.#counters.get(issuerId)
    if (known !== undefined) return known
    const store = memoryStore()
    const open = <T>(call: () => Promise<T>): Promise<T> =>
      this.#closed ? Promise.reject(storeClosed()) : call()
    const counter: ChangeCounterStore = {
      read: key => open(() => store.read(key)),
      compareAndSet: (...write) => open(() => store.compareAndSet(...write)),
      purge: now => open(() => store.purge(now)),
    }
    this.#counters.set(issuerId, counter)
    return counter
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#cards.clear()
    this.#pins.clear()
    this.#requests.clear()
    this.#counters.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** An issuerId is 10 characters, so that no two cards have one key. */
  #key(card: CardRef): string {
    if (this.#closed) throw storeClosed()
    const { issuerId, cardId } = readRef(card)
    return `${issuerId}/${cardId}`
  }

  #keyToRead(card: CardRef, options: CallOptions | undefined): string {
    throwIfAborted(requireSignal(options))
    return this.#key(card)
  }

  #keyOfCard(card: CardRef): string {
    const key = this.#key(card)
    if (!this.#cards.has(key)) throw noSuchCard()
    return key
  }
}
