/** The stores of an issuer in this process's memory: what the contract means, without a database. */
import { type CallOptions, requireSignal, throwIfAborted } from '../base/arguments.js'
import { toHex } from '../base/bytes.js'
import { systemClock } from '../base/deadline.js'
import type {
  BlockAcceptance,
  BlockRequest,
  Card,
  CardAsFound,
  CardRef,
  CardState,
  ForgetRequests,
  StoredPinBlock,
  StoredPrw,
} from '../d1/endpoints/interfaces.js'
import { supersedeCard } from '../seccos/counter/counter.js'
import { type ChangeCounterStore, type ClaimRecord, MemoryStore } from '../seccos/counter/store.js'
import type { CardPinStore, CardStore, IssuerStore, ListedBlock } from './issuer-store.js'
import {
  cardChanged,
  claimEnded,
  inBatches,
  noSuchCard,
  outcomeOf,
  readAsFound,
  readBlockEntry,
  readBlockPage,
  readBlockRequest,
  readCard,
  readCardEntry,
  readClaim,
  readDigest,
  readForgetRequests,
  readPage,
  readPinBlock,
  readPrw,
  readRef,
  readReplacement,
  requireIssuerId,
  requireState,
  storeClosed,
  tooLate,
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
  readonly version: string
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
  readonly #records = new Map<string, MemoryStore>()
  readonly #counters = new Map<string, ChangeCounterStore>()
  readonly #underWay = new Set<Promise<unknown>>()
  #closed = false
  #marks = 0

  readonly cards: CardStore = {
    find: async (card: CardRef, options?: CallOptions) => {
      const found = this.#cards.get(this.#keyToRead(card, options))
      return (
        found && {
          ...readCard(found),
          ...(found.revision !== undefined && { revision: found.revision }),
          foundAt: systemClock.now(),
        }
      )
    },
    put: async (card: CardRef, record: Card) => {
      this.#cards.set(this.#key(card), { ...readCard(record), revision: this.#newMark() })
    },
    putMany: (entries, options) =>
      inBatches(entries, requireSignal(options), readCardEntry, batch =>
        Promise.all(batch.map(taken => outcomeOf(taken, ({ card, record }) => this.cards.put(card, record)))),
      ),
    reseal: async (page, options) => {
      const { after, limit } = readPage(page, 'reseal')
      throwIfAborted(requireSignal(options))
      if (this.#closed) throw storeClosed()
      return this.#refsAfter(this.#cards, after).slice(0, limit)
    },
    setState: async (card: CardRef, state: CardState) => {
      requireState(state)
      const key = this.#key(card)
      const found = this.#cards.get(key)
      if (found === undefined) throw noSuchCard()
      this.#cards.set(key, { ...found, state, revision: this.#newMark() })
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
    storeBlock: async (card: CardAsFound, pin: StoredPinBlock) => {
      const block = readPinBlock(pin)
      const key = this.#keyOfCard(card)
      this.#changed(key)
      this.#pins.set(key, { block, sequence: this.#pins.get(key)?.sequence ?? 0, version: this.#newMark() })
      const { issuerId, cardId } = readRef(card)
      await this.#begun(supersedeCard(this.#recordsOf(issuerId), cardId))
    },
    storeBlocks: (entries, options) =>
      inBatches(entries, requireSignal(options), readBlockEntry, batch =>
        Promise.all(batch.map(taken => outcomeOf(taken, ({ card, pin }) => this.pins.storeBlock(card, pin)))),
      ),
    listBlocks: async (page, options) => {
      const { kid, after, limit } = readBlockPage(page)
      throwIfAborted(requireSignal(options))
      if (this.#closed) throw storeClosed()
      const listed = this.#refsAfter(this.#pins, after).flatMap((card): ListedBlock[] => {
        const known = this.#pins.get(keyOf(card))
        if (known?.block === undefined || known.block.kid !== kid) return []
        return [{ ...readPinBlock(known.block), card, version: known.version }]
      })
      return listed.slice(0, limit)
    },
    countBlocks: async options => {
      throwIfAborted(requireSignal(options))
      if (this.#closed) throw storeClosed()
      const counts = new Map<string, number>()
      for (const { block } of this.#pins.values()) {
        if (block !== undefined) counts.set(block.kid, (counts.get(block.kid) ?? 0) + 1)
      }
      return [...counts].sort().map(([kid, blocks]) => ({ kid, blocks }))
    },
    replaceBlocks: async list =>
      list.map(readReplacement).map(({ card, pin, version }) => {
        const key = this.#key(card)
        const known = this.#pins.get(key)
        if (known?.block === undefined || known.version !== version) return false
        this.#pins.set(key, { ...known, block: pin, version: this.#newMark() })
        return true
      }),
    acceptBlock: async (
      card: CardAsFound,
      pin: StoredPinBlock,
      request: BlockRequest,
    ): Promise<BlockAcceptance> => {
      const block = readPinBlock(pin)
      const { digest, jweKid, acceptedAt } = readBlockRequest(request)
      const key = this.#keyOfCard(card, null)
      const name = toHex(digest)
      const known = this.#requests.get(name)
      const now = this.#pins.get(key)
      if (known === undefined) this.#keyOfCard(card)
      else {
        return known.card === key
          ? { outcome: 'replayed', current: now?.request === name }
          : { outcome: 'misdirected' }
      }
      this.#requests.set(name, { issuerId: key.slice(0, key.indexOf('/')), card: key, jweKid, acceptedAt })
      this.#changed(key)
      this.#pins.set(key, { block, request: name, sequence: now?.sequence ?? 0, version: this.#newMark() })
      return { outcome: 'stored' }
    },
    knowsRequest: async (digest: Uint8Array, options?: CallOptions) => {
      throwIfAborted(requireSignal(options))
      if (this.#closed) throw storeClosed()
      return this.#requests.has(toHex(readDigest(digest)))
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
    storePrw: async (card: CardAsFound, given: StoredPrw, ends?: ClaimRecord) => {
      const prw = readPrw(given)
      const claim = readClaim(ends)
      const key = this.#keyOfCard(card, markOfBlock)
      if (claim !== undefined) {
        const { issuerId } = readRef(card)
        const isKeptHere = claim.keptBy !== undefined && claim.keptBy === this.#counters.get(issuerId)
        if (!MemoryStore.spend(this.#recordsOf(issuerId), claim, isKeptHere)) throw claimEnded()
      }
      const known = this.#pins.get(key)
      if (known !== undefined && known.sequence > prw.sequence) return
      // The same PRW again: D1 repeats a request. Once a block has taken its place, it is an older PIN.
      if (known?.sequence === prw.sequence && known.prw === undefined) return
      this.#changed(key, revision => `${markOfBlock(revision)}.${this.#newMark()}`)
      this.#pins.set(key, { prw, sequence: prw.sequence, version: this.#newMark() })
    },
  }

  readonly counters = (issuerId: string): ChangeCounterStore => {
    requireIssuerId(issuerId)
    const known = this.#counters.get(issuerId)
    if (known !== undefined) return known
    const store = this.#recordsOf(issuerId)
    const open = <T>(call: () => Promise<T>): Promise<T> =>
      this.#closed ? Promise.reject(storeClosed()) : call()
    const counter: ChangeCounterStore = {
      read: key => open(() => store.read(key)),
      compareAndSet: (...write) => open(() => store.compareAndSet(...write)),
      compareAndSetAll: writes => open(() => store.compareAndSetAll(writes)),
      purge: (...which) => open(() => store.purge(...which)),
      keys: page => open(() => store.keys(page)),
    }
    this.#counters.set(issuerId, counter)
    return counter
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.allSettled(this.#underWay)
    this.#cards.clear()
    this.#pins.clear()
    this.#requests.clear()
    this.#counters.clear()
    this.#records.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #recordsOf(issuerId: string): MemoryStore {
    const store = this.#records.get(issuerId) ?? new MemoryStore()
    this.#records.set(issuerId, store)
    return store
  }

  /** What is stored is told so, though the store closes before the last step. */
  async #begun(call: Promise<unknown>): Promise<void> {
    this.#underWay.add(call)
    try {
      await call
    } finally {
      this.#underWay.delete(call)
    }
  }

  #key(card: CardRef): string {
    if (this.#closed) throw storeClosed()
    return keyOf(readRef(card))
  }

  #keyToRead(card: CardRef, options: CallOptions | undefined): string {
    throwIfAborted(requireSignal(options))
    return this.#key(card)
  }

  /** `part`: what of the revision must be the same; null: the card need only be there. */
  #keyOfCard(card: CardAsFound, part: ((revision?: string) => string | undefined) | null = whole): string {
    const { revision, notAfter = Number.POSITIVE_INFINITY } = readAsFound(card)
    const key = this.#key(card)
    const found = this.#found(key)
    if (part === null) return key
    if (revision !== undefined && part(revision) !== part(found.revision)) throw cardChanged()
    if (systemClock.now() >= notAfter) throw tooLate()
    return key
  }

  /** What was found before is late from here on. */
  #changed(key: string, revisionAfter: (revision?: string) => string = () => this.#newMark()): void {
    const found = this.#found(key)
    this.#cards.set(key, { ...found, revision: revisionAfter(found.revision) })
  }

  #found(key: string): Card {
    const found = this.#cards.get(key)
    if (found === undefined) throw noSuchCard()
    return found
  }

  #newMark(): string {
    this.#marks++
    return String(this.#marks)
  }

  #refsAfter(map: ReadonlyMap<string, unknown>, after: CardRef | undefined): CardRef[] {
    const keys = [...map.keys()].filter(key => after === undefined || key > keyOf(after))
    return keys.sort().map(key => {
      const [issuerId = '', cardId = ''] = key.split('/')
      return { issuerId, cardId }
    })
  }
}

const whole = (revision?: string): string | undefined => revision

/** The revision without the mark of a PRW behind it: of two PRWs the sequence says which is newer. */
function markOfBlock(revision = ''): string {
  return revision.replace(/\..*/, '')
}

/** An issuerId is 10 characters and has no slash, so that no two cards have one key. */
function keyOf({ issuerId, cardId }: CardRef): string {
  return `${issuerId}/${cardId}`
}
