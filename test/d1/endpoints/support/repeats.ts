/**
 * A long seeded run of Set PINs against two replicas over one store, in which every message is repeated, delayed,
 * duplicated and sent to other cards and issuers, stores fail before, after and while they write, replicas are replaced,
 * PINs are set by another channel and the clock jumps both ways. An oracle, which knows nothing of the code, says after each
 * step which PIN a card may have: a PIN that was acknowledged is there until a newer one takes its place (not lost), and one
 * that was replaced never comes back (not resurrected).
 */

import { strict as assert } from 'node:assert'
import { Buffer } from 'node:buffer'
import {
  type BlockRequest,
  type Card,
  type CardAsFound,
  type EndpointHandler,
  issuerEndpoints,
  type PinStore,
  type StoredPinBlock,
  type StoredPrw,
} from '../../../../src/d1.js'
import { ChangeCounter, decipherPin, encipherPin, Pan, Pin } from '../../../../src/index.js'
import type { ChangeCounterStore, ClaimRecord } from '../../../../src/seccos/counter/store.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../../src/seccos/profile/illustrative.js'
import type { IssuerStore } from '../../../../src/sqlite.js'
import { counterPath, ISSUER, OTHER_ISSUER, OVER_TLS, pinPath, World } from './world.js'

/** Two that share twelve digits would take each other's blocks: the twins do, the others do not. */
const PANS = ['9999990123456789', '9999980000000012', '9999971111222233'] as const
const TYPES: readonly Card['setPinTypes'][] = [['ISO0'], ['ISO0', '3DES_SECCOS'], ['3DES_SECCOS']]
const ISSUERS = [ISSUER, OTHER_ISSUER] as const
const TTL_SECONDS = 300
const TIMEOUT_MS = 30_000

type Mode = 'before' | 'after' | 'hang'
type Where = 'acceptBlock' | 'storePrw' | 'compareAndSet'

/** What is to go wrong with the next call of a method. */
interface Fault {
  readonly where: Where
  readonly mode: Mode
  readonly held: (release: () => Promise<void>) => void
}

interface Target {
  readonly name: string
  readonly issuerId: string
  readonly cardId: string
  readonly pan: string
  readonly types: Card['setPinTypes']
}

/** A Set PIN that D1 has made: the digits are its own, so that a PIN tells where it is from. */
interface Message {
  readonly target: Target
  readonly type: 'ISO0' | '3DES_SECCOS'
  readonly body: string
  readonly pin: string
  /** What the store would hold of it; of a block, the PIN itself tells. */
  readonly prwValue: string | undefined
  /** It has been the PIN of its card; `maybe`: it was answered with 500 among others, and nobody has looked. */
  applied: boolean | 'maybe'
  /** It was refused at its own card: from then on it may not be accepted. */
  refused: boolean
  deliveries: number
}

/** A write that hangs in a store. */
interface Held {
  readonly message: Message
  /** Undefined: the process is gone, and what it had sent to its database is under way all the same. */
  replica: number | undefined
  readonly startedAt: number
  readonly release: () => Promise<void>
}

/** What the oracle knows of a card. */
interface Knowledge {
  pin: string
  /** When the delivery that set it began. */
  startedAt: number
}

/** How a run ended. */
export interface RepeatsResult {
  readonly steps: number
  readonly messages: number
  readonly deliveries: number
  readonly accepted: number
  readonly refused: number
  readonly failed: number
  readonly misdirected: number
  readonly hung: number
  readonly others: number
  /** What must be empty: each is a PIN that was lost, or one that came back, with the seed and the step. */
  readonly wrong: readonly string[]
}

export interface RepeatsOptions {
  readonly seed: number
  readonly steps: number
  /** One handle a replica, on one database; the same twice where the store is of one process. */
  readonly stores: readonly [IssuerStore, IssuerStore]
  readonly onProgress?: (step: number) => void
}

/** A clock that the run owns. */
class RunClock {
  #elapsed = 0
  #jumped = 1_800_000_000_000
  #timers = new Map<object, { readonly at: number; readonly callback: () => void }>()

  now(): number {
    return this.#jumped + this.#elapsed
  }
  elapsed(): number {
    return this.#elapsed
  }
  after(ms: number, callback: () => void): () => void {
    const timer = {}
    this.#timers.set(timer, { at: this.#elapsed + ms, callback })
    return () => void this.#timers.delete(timer)
  }
  advance(ms: number): void {
    this.#elapsed += ms
    for (const [timer, { at, callback }] of [...this.#timers]) {
      if (at <= this.#elapsed && this.#timers.delete(timer)) callback()
    }
  }
  /** The wall clock alone. */
  jump(ms: number): void {
    this.#jumped += ms
  }
}

/** A small generator with a seed (mulberry32): a run can be repeated. */
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0
  return below => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

/** Runs it. Never rejects for what the oracle finds; that is in `wrong`. */
export async function runRepeats(options: RepeatsOptions): Promise<RepeatsResult> {
  await using world = await World.open()
  return await new Run(world, options).run()
}

class Run {
  readonly #world: World
  readonly #options: RepeatsOptions
  readonly #random: (below: number) => number
  readonly #clock = new RunClock()
  readonly #cards: readonly Target[]
  readonly #messages: Message[] = []
  readonly #known = new Map<string, Knowledge>()
  readonly #held = new Set<Held>()
  readonly #counts = {
    deliveries: 0,
    accepted: 0,
    refused: 0,
    failed: 0,
    misdirected: 0,
    hung: 0,
    others: 0,
  }
  readonly #wrong: string[] = []
  #handlers: EndpointHandler[] = []
  #faults: Fault[] = []
  #step = 0
  #time = 0
  #pins = 0

  constructor(world: World, options: RepeatsOptions) {
    this.#world = world
    this.#options = options
    this.#random = randomOf(options.seed)
    this.#cards = ISSUERS.flatMap(issuerId =>
      PANS.flatMap((pan, i) =>
        // Two cards of one PAN: a message for one opens for the other.
        ['a', 'b'].map(twin => ({
          name: `${issuerId}/card-${i}${twin}`,
          issuerId,
          cardId: `card-${i}${twin}`,
          pan,
          types: TYPES[i] ?? [],
        })),
      ),
    )
  }

  async run(): Promise<RepeatsResult> {
    const [store] = this.#options.stores
    for (const card of this.#cards) {
      const record: Card = { state: 'active', pan: Pan.from(card.pan), setPinTypes: card.types }
      await store.cards.put(card, record)
      await this.#byAnotherChannel(card)
    }
    this.#handlers = [this.#replica(0), this.#replica(1)]
    while (this.#step < this.#options.steps && this.#wrong.length === 0) {
      this.#step++
      await this.#oneStep()
      this.#options.onProgress?.(this.#step)
    }
    for (const held of [...this.#held]) await this.#release(held)
    for (const card of this.#cards) await this.#look(card, 'the end', new Set())
    return { steps: this.#step, messages: this.#messages.length, ...this.#counts, wrong: this.#wrong }
  }

  async #oneStep(): Promise<void> {
    const dice = this.#random(100)
    if (dice < 30) return this.#sendNew()
    if (dice < 58) return this.#sendAgain()
    if (dice < 70) return this.#misdirect()
    if (dice < 80) return this.#manyAtOnce()
    if (dice < 84) return this.#otherChannel()
    if (dice < 90) {
      const held = this.#pick([...this.#held])
      return held === undefined ? this.#sendNew() : this.#release(held)
    }
    if (dice < 93) {
      const i = this.#random(2)
      for (const held of this.#held) if (held.replica === i) held.replica = undefined
      this.#handlers[i] = this.#replica(i)
      return
    }
    if (dice < 96) this.#clock.advance(1000 * this.#random(120))
    else this.#clock.jump(1000 * (this.#random(2 * TTL_SECONDS) - TTL_SECONDS))
  }

  /** A message that is new, sent now or kept for later. */
  async #sendNew(): Promise<void> {
    const message = await this.#make()
    if (message === undefined) return
    this.#messages.push(message)
    if (this.#random(4) > 0) await this.#deliver(message, this.#maybeFault(message))
  }

  async #sendAgain(): Promise<void> {
    const message = this.#any()
    if (message !== undefined) await this.#deliver(message, this.#maybeFault(message))
  }

  /** To another card, or to the same card of another issuer: refused, and no card changes. */
  async #misdirect(): Promise<void> {
    const message = this.#any()
    if (message === undefined) return
    const { target } = message
    const to = this.#pick(this.#cards.filter(card => card !== target))
    // A block that was never accepted says nothing of whose it is, as far as the twelve digits are the same.
    if (to === undefined || (to.pan === target.pan && message.type === 'ISO0' && message.applied !== true))
      return
    const replica = this.#random(2)
    if (this.#isBusy(to, replica)) return
    this.#counts.misdirected++
    const status = await this.#put(message, to, replica)
    if (status < 400) this.#fail(`${message.type} for ${target.name} was accepted for ${to.name}`)
    await this.#look(to, 'misdirected', new Set())
    await this.#look(target, 'misdirected', new Set())
  }

  /** Several at once on one card, over both replicas, the same message twice among them. */
  async #manyAtOnce(): Promise<void> {
    const first = this.#any()
    if (first === undefined || this.#isBusy(first.target)) return
    const { target } = first
    const others = this.#messages.filter(message => message.target === target && message !== first)
    const fresh = await this.#make(target)
    if (fresh !== undefined) this.#messages.push(fresh)
    const group = [first, first, this.#pick(others) ?? first, ...(fresh === undefined ? [] : [fresh, fresh])]
    const startedAt = ++this.#time
    const statuses = await Promise.all(group.map((message, i) => this.#put(message, target, i % 2)))
    const may = new Set<string>()
    let mustChange = false
    for (const message of new Set(group)) {
      const own = statuses.filter((_, i) => group[i] === message)
      const accepted = own.some(status => status < 400)
      if (accepted && message.refused) this.#fail(`${message.pin} was refused before, and is accepted`)
      if (own.every(status => status >= 400 && status < 500)) this.#refuse(message)
      if (message.applied === true) continue
      if (accepted && !message.applied) mustChange = true
      const failed = own.some(status => status >= 500)
      if (accepted || failed) may.add(message.pin)
      if (accepted) message.applied = true
      else if (failed) message.applied = 'maybe'
    }
    await this.#look(target, 'at once', may, { startedAt, mustChange })
  }

  /** A branch, or a letter. */
  async #otherChannel(): Promise<void> {
    const card = this.#pick(this.#cards.filter(({ types }) => types.includes('ISO0')))
    if (card === undefined) return
    this.#counts.others++
    await this.#byAnotherChannel(card)
    await this.#look(card, 'another channel', new Set())
    // What D1 had asked a counter for is over.
    for (const message of this.#messages) {
      if (message.target === card && message.type === '3DES_SECCOS' && !message.applied)
        message.refused = true
    }
  }

  async #byAnotherChannel(card: Target): Promise<void> {
    const digits = this.#newPin()
    using pin = Pin.from(digits)
    const { storage } = this.#world.keys
    const block = await encipherPin({ pin, pan: Pan.from(card.pan), format: 0, key: storage })
    const store = this.#options.stores[this.#random(2)] ?? assert.fail()
    await store.pins.storeBlock(card, { block, kid: storage.kid })
    this.#known.set(card.name, { pin: digits, startedAt: ++this.#time })
  }

  /** One delivery of a message to its own card, and what follows from it. */
  async #deliver(message: Message, fault: Omit<Fault, 'held'> | undefined): Promise<void> {
    const { target } = message
    const replica = this.#random(2)
    const startedAt = ++this.#time
    if (this.#isBusy(target, replica)) {
      // It waits behind what hangs, until its time is over; and is not done after that.
      const answer = this.#put(message, target, replica)
      this.#clock.advance(TIMEOUT_MS)
      const status = await answer
      if (status !== 500) this.#fail(`${message.pin} did not wait for what hangs: ${status}`)
      return this.#look(target, 'behind what hangs', new Set())
    }
    let park: (release: () => Promise<void>) => void = () => {}
    const parked = new Promise<() => Promise<void>>(resolve => {
      park = resolve
    })
    this.#faults = fault === undefined ? [] : [{ ...fault, held: park }]
    const answer = this.#put(message, target, replica)
    const release = await Promise.race([parked, answer.then(() => undefined)])
    if (release !== undefined) {
      this.#held.add({ message, replica, startedAt, release })
      this.#counts.hung++
      this.#clock.advance(TIMEOUT_MS)
    }
    const status = await answer
    this.#faults = []
    if (status < 400 && message.refused) this.#fail(`${message.pin} was refused before, and is accepted`)
    if (status >= 400 && status < 500) this.#refuse(message)
    const mustChange = status < 400 && !message.applied
    const may = new Set(status < 400 || status >= 500 ? [message.pin] : [])
    // Where it hangs, nothing is written yet.
    if (release !== undefined) may.clear()
    if (message.applied === true) may.clear()
    if (status < 400) message.applied = true
    await this.#look(target, `delivery ${message.deliveries} (${status})`, may, { startedAt, mustChange })
  }

  /** From now on it may not be accepted, nor may a write of it that hangs set its PIN. */
  #refuse(message: Message): void {
    message.refused = true
  }

  /** What hung goes on, long after its answer: it may only be written where nothing newer has been. */
  async #release(held: Held): Promise<void> {
    this.#held.delete(held)
    await held.release()
    const { message, startedAt } = held
    const known = this.#known.get(message.target.name)
    const isNewest = known !== undefined && known.startedAt < startedAt && !message.refused
    await this.#look(message.target, 'released', new Set(isNewest ? [message.pin] : []), { startedAt })
  }

  /** Reads a card's PIN past the endpoints, and says what is wrong with it. `may`: what it may have become besides. */
  async #look(
    card: Target,
    when: string,
    may: ReadonlySet<string>,
    more: { readonly startedAt?: number; readonly mustChange?: boolean } = {},
  ): Promise<void> {
    const known = this.#known.get(card.name) ?? assert.fail('an unknown card')
    const pin = await this.#read(card)
    if (pin === known.pin && more.mustChange !== true) return
    if (!may.has(pin)) {
      const was = this.#messages.find(message => message.pin === pin)
      const what =
        pin === known.pin ? 'lost: an acknowledged PIN is not there' : 'resurrected, or not its own'
      this.#fail(`${card.name} after ${when}: ${what} (${was?.type ?? 'another channel'})`)
      return
    }
    const message = this.#messages.find(candidate => candidate.pin === pin)
    if (message !== undefined) message.applied = true
    this.#known.set(card.name, { pin, startedAt: more.startedAt ?? ++this.#time })
  }

  async #read(card: Target): Promise<string> {
    const store = this.#options.stores[this.#random(2)] ?? assert.fail()
    const stored = await store.pins.readBlock(card)
    const prw = await store.pins.readPrw(card)
    if (stored !== undefined && prw !== undefined) return 'two PINs'
    if (prw !== undefined) {
      return this.#messages.find(({ prwValue }) => prwValue === prw.prwValue)?.pin ?? 'a PRW of nobody’s'
    }
    if (stored === undefined) return 'none'
    const { storage } = this.#world.keys
    const pan = Pan.from(card.pan)
    using pin = await decipherPin({ block: stored.block, pan, format: 0, key: storage })
    return pin.reveal()
  }

  /** A message, with a counter of its own where it needs one. */
  async #make(target = this.#pick(this.#cards) ?? assert.fail()): Promise<Message | undefined> {
    const type = this.#pick(target.types) ?? 'ISO0'
    const pin = this.#newPin()
    const base = { target, type, pin, applied: false, refused: false, deliveries: 0 }
    if (type === 'ISO0')
      return { ...base, body: await this.#world.iso0(pin, target.pan), prwValue: undefined }
    const { status, body } = await this.#ask('GET', counterPath(target.cardId, target.issuerId))
    if (status !== 200) return undefined
    const content = this.#world.seccosContent(JSON.parse(body), pin, target.pan, target.issuerId)
    return {
      ...base,
      body: await this.#world.d1.seal(type, content),
      prwValue: content['prwValue'],
    }
  }

  async #put(message: Message, { cardId, issuerId }: Target, replica: number): Promise<number> {
    message.deliveries++
    this.#counts.deliveries++
    const { status } = await this.#ask('PUT', pinPath(cardId, issuerId), message.body, replica)
    if (status < 400) this.#counts.accepted++
    else if (status < 500) this.#counts.refused++
    else this.#counts.failed++
    return status
  }

  async #ask(
    method: string,
    path: string,
    body?: string,
    replica = this.#random(2),
  ): Promise<{ readonly status: number; readonly body: string }> {
    const handler = this.#handlers[replica] ?? assert.fail()
    const headers = { 'content-type': 'application/json' }
    const request = new Request(`https://issuer.test${path}`, { method, headers, body: body ?? null })
    const response = await handler(request, { ...OVER_TLS, authorized: true })
    return { status: response.status, body: await response.text() }
  }

  #replica(i: number): EndpointHandler {
    const store = this.#options.stores[i] ?? assert.fail()
    const issuers = Object.fromEntries(
      ISSUERS.map(issuerId => [
        issuerId,
        {
          ...this.#world.issuer(),
          cards: store.cards,
          pins: this.#withFaults(store.pins),
          seccos: {
            profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA,
            macKeys: this.#world.keys.mac,
            prwKids: ['PRW-1'],
            counter: new ChangeCounter({
              store: this.#counterWithFaults(store.counters(issuerId)),
              backend: this.#world.backend,
              firstPcc: '0041',
              rule: 'increment-on-accept',
              wrap: 'wrap-to-0001',
              ttlSeconds: TTL_SECONDS,
              now: () => this.#clock.now(),
            }),
          },
        },
      ]),
    )
    return issuerEndpoints({
      issuers,
      authorization: 'anyone-who-reaches-it',
      audit: () => {},
      timeoutMs: TIMEOUT_MS,
      clock: this.#clock,
    })
  }

  #withFaults(pins: PinStore): PinStore {
    return {
      readBlock: (...call) => pins.readBlock(...call),
      acceptBlock: (card: CardAsFound, pin: StoredPinBlock, request: BlockRequest) =>
        this.#faulty('acceptBlock', () => pins.acceptBlock(card, pin, request)),
      storePrw: (card: CardAsFound, prw: StoredPrw, claim?: ClaimRecord) =>
        this.#faulty('storePrw', () => pins.storePrw(card, prw, claim)),
    }
  }

  #counterWithFaults(store: ChangeCounterStore): ChangeCounterStore {
    const { instance, commitsReplays } = store
    return {
      read: key => store.read(key),
      purge: (...call) => store.purge(...call),
      keys: page => store.keys(page),
      compareAndSet: (...call) => this.#faulty('compareAndSet', () => store.compareAndSet(...call)),
      ...(instance !== undefined && { instance: () => instance.call(store) }),
      ...(commitsReplays !== undefined && { commitsReplays }),
    }
  }

  async #faulty<T>(where: Where, write: () => Promise<T>): Promise<T> {
    const [fault] = this.#faults
    if (fault?.where !== where) return write()
    this.#faults = []
    if (fault.mode === 'before') throw new Error('the store is away')
    if (fault.mode === 'after') {
      await write()
      throw new Error('the connection broke')
    }
    return new Promise((resolve, reject) => {
      // Whoever releases it waits until it is written, or refused.
      fault.held(async () => {
        const written = write()
        written.then(resolve, reject)
        await written.catch(() => {})
        // And until the endpoints have done what they do afterwards.
        for (let i = 0; i < 20; i++) await new Promise(next => setImmediate(next))
      })
    })
  }

  #maybeFault(message: Message): Omit<Fault, 'held'> | undefined {
    if (this.#random(3) > 0) return undefined
    const places: readonly Where[] =
      message.type === 'ISO0' ? ['acceptBlock'] : ['storePrw', 'storePrw', 'compareAndSet']
    const where = this.#pick(places) ?? 'acceptBlock'
    const modes: readonly Mode[] =
      where === 'compareAndSet' ? ['before', 'after'] : ['before', 'after', 'hang']
    return { where, mode: this.#pick(modes) ?? 'before' }
  }

  #isBusy(card: Target, replica?: number): boolean {
    return [...this.#held].some(
      held => held.message.target === card && (replica === undefined || held.replica === replica),
    )
  }

  /** One of the messages, a late one as well as an early one. */
  #any(): Message | undefined {
    const recent = this.#messages.slice(-24)
    return this.#pick(this.#random(3) > 0 ? recent : this.#messages)
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[this.#random(list.length)]
  }

  /** Eight digits, each PIN once. */
  #newPin(): string {
    this.#pins++
    return String(10_000_000 + this.#pins)
  }

  #fail(what: string): void {
    this.#wrong.push(`seed ${this.#options.seed}, step ${this.#step}: ${what}`)
  }
}

/** The result as one line. */
export function showRepeats(name: string, result: RepeatsResult): string {
  const { wrong, ...counts } = result
  const numbers = Object.entries(counts).map(([what, count]) => `${count} ${what}`)
  return `${name}: ${numbers.join(', ')}; ${wrong.length === 0 ? '0 PINs lost or resurrected' : Buffer.from(wrong.join('; ')).toString()}`
}
