/**
 * Several tokens with the same keys as one backend. One token does the work as long as it can (the first that is ready, which
 * stays it); where it fails for a reason of its own, the next does the same call, for all jobs are idempotent. A token that
 * was away comes back after so many good probes in a row, and only with its keys proven again.
 *
 * That the keys are the same is proven, not believed: at `bind` each ready token finds the key, and algorithm, check value and
 * public key must agree; a token that shows another key is refused loudly and used no more.
 */
import { channel } from 'node:diagnostics_channel'
import { ownMembers, readOptions } from '../../base/arguments.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, BackendError, type ErrorCode, isIssuerPinError, KeyError } from '../../base/errors.js'
import { type CheckValue, requireCheckValue } from '../../key/check-value.js'
import type { PinComparison, PinVerification } from '../../pin/formats/verification.js'
import type { Backend, OpenerOptions } from '../backend.js'
import type {
  BackendDriver,
  Capabilities,
  ContentKeyRequest,
  FoundKey,
  Health,
  KeyQuery,
  MacPlan,
  MacRequest,
} from '../driver.js'
import { openFront } from '../front.js'
import { OPENER_OPTIONS, readOpener } from '../opener.js'
import { type OpenOptions, openDriver, type TokenDriver } from './backend.js'
import type { LoadBinding } from './binding/binding.js'
import { cureOf, Pkcs11Error } from './binding/errors.js'
import { QueueFull } from './executor/callers.js'
import { REAL, type Surroundings } from './executor/supervisor.js'
import { tellsApart } from './keys/key-checks.js'
import type { FoundTokenKey, KeyRef } from './keys/key-table.js'
import { type Pkcs11Options, readSettings } from './session/options.js'

/** What is published at each change of a member, on the diagnostics channel `issuer-pin-crypto:pkcs11-group` and to `onEvent`. */
export interface GroupEvent {
  /** Which member: its place in `members`, from 0. */
  readonly member: number
  /** `away`: it does not answer, and is probed; `wrong`: it answers, and must not be used. */
  readonly state: MemberState
  /** The member that does the work from now on; absent where none can. */
  readonly active?: number
  /** Why: an error's message, which holds no secret. */
  readonly reason?: string
  /** The code of that error. */
  readonly code?: string
}

/** Whether a member of a group is used. */
export type MemberState = 'ready' | 'away' | 'wrong'

/** Options of {@link pkcs11Group}. */
export interface Pkcs11GroupOptions extends OpenerOptions {
  /**
   * Two tokens or more, in order of preference, each as for `pkcs11Backend`. Those of one module need `executor: 'process'`;
   * `ring` and `onOperation` are the group's.
   */
  readonly members: readonly Pkcs11Options[]
  /** How often members that are not ready are probed: 2,000 ms. */
  readonly probeMs?: number
  /** Good probes in a row after which a member is used again: 3. */
  readonly failBackAfter?: number
  /** Hears each change of a member, as does `diagnostics_channel`. */
  readonly onEvent?: (event: GroupEvent) => void
}

/** A bound key: what it is everywhere, and how each member reaches it. */
interface GroupRef {
  readonly query: KeyQuery
  readonly facts: Omit<FoundTokenKey, 'ref'>
  /** As in {@link KeyRef}, of the member that was asked first. */
  readonly prints: readonly string[]
  readonly refs: Map<Member, KeyRef>
}

interface Member {
  readonly place: number
  readonly name: string
  readonly options: Pkcs11Options
  driver: TokenDriver | undefined
  state: MemberState
  /** Good probes in a row. */
  good: number
  /** Calls in a row whose time was up, with nobody answered meanwhile. */
  late: number
  /** Calls that it has answered. */
  answers: number
  /** Its PIN was refused: it is not opened again. */
  refused: boolean
}

/** One that is open and well. */
interface ReadyMember extends Member {
  driver: TokenDriver
}

const GROUP_EVENTS: string = 'issuer-pin-crypto:pkcs11-group'

/** So many calls in a row whose time is up say that a token hangs; one may be a burst. */
const LATE = DEFAULTS.pkcs11.lateCalls.value

/**
 * Opens several tokens that hold the same keys as one backend. A member that is away at open, or later, is probed and comes
 * in when its keys have been proven; one member must open. With a vendor's own high availability (a virtual slot, a cluster in
 * the client library) use `pkcs11Backend` on that slot instead: two balancers, one above the other, hide each other's failures.
 *
 * Errors: as `pkcs11Backend` (also a member's refused PIN, or missing module: those do not get better by themselves);
 * `bind` besides: `ERR_KEY_CHECK_VALUE` where two members hold different keys by one kid, `ERR_KEY_NOT_FOUND` where one
 * that is ready has none.
 *
 * @example
 * ```ts
 * await using hsm = await pkcs11Group({
 *   members: [
 *     { module, token: 'issuer-a', pin: readPinA, executor: 'process' },
 *     { module, token: 'issuer-b', pin: readPinB, executor: 'process' },
 *   ],
 * })
 * const key = await hsm.bind({ kid: 'ZPK-D1-2026', usage: 'pin-encryption', kcv: '08D7B4' })
 * ```
 */
export async function pkcs11Group(options: Pkcs11GroupOptions): Promise<Backend> {
  return openGroup(options)
}

/** {@link pkcs11Group}, in a test over another binding for each module. */
export async function openGroup(
  given: Pkcs11GroupOptions,
  load?: (module: string) => LoadBinding,
  open: OpenOptions = {},
): Promise<Backend> {
  const names = ['members', 'probeMs', 'failBackAfter', 'onEvent', ...OPENER_OPTIONS] as const
  const options = readOptions(given, 'pkcs11Group', names)
  const opener = readOpener(options)
  const { onEvent } = options
  if (onEvent !== undefined && typeof onEvent !== 'function')
    throw new ArgumentError('onEvent must be a function')
  const group = new GroupDriver({
    members: readMembers(options.members),
    probeMs: readCount(options.probeMs, 'probeMs', 3_600_000, DEFAULTS.pkcs11.groupProbeMs.value),
    failBackAfter: readCount(
      options.failBackAfter,
      'failBackAfter',
      1000,
      DEFAULTS.pkcs11.failBackAfter.value,
    ),
    onEvent,
    later: (open.surroundings ?? REAL).later,
    open: member => openDriver(member, load?.(member.module), open),
  })
  await group.enter()
  return openFront(group, opener)
}

function readMembers(given: unknown): readonly Pkcs11Options[] {
  if (!Array.isArray(given) || given.length < 2) {
    throw new ArgumentError('members must be a list of two tokens or more')
  }
  // A member that is away is opened later: with the options that were looked at here.
  const members: readonly Pkcs11Options[] = Array.from(given, member => ownMembers(member))
  const settings = members.map((member, place) => {
    const read = readSettings(member, `members[${place}]`)
    // What a member's own would refuse, the group would do on another.
    if (OPENER_OPTIONS.every(name => member[name] === undefined)) return read
    throw new ArgumentError(`members[${place}]: ${OPENER_OPTIONS.join(' and ')} are options of the group`)
  })
  for (const [place, { module, executor }] of settings.entries()) {
    const isShared = settings.some((other, at) => at !== place && other.module === module)
    if (isShared && executor !== 'process') {
      throw new ArgumentError(
        `members[${place}]: members of one module need executor 'process': a library is initialised anew for all who use it in a process`,
      )
    }
  }
  return members
}

function readCount(value: unknown, name: string, most: number, otherwise: number): number {
  if (value === undefined) return otherwise
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > most) {
    throw new ArgumentError(`${name} must be a whole number from 1 to ${most}`)
  }
  return value
}

interface GroupSettings {
  readonly members: readonly Pkcs11Options[]
  readonly probeMs: number
  readonly failBackAfter: number
  readonly onEvent: ((event: GroupEvent) => void) | undefined
  readonly later: Surroundings['later']
  open(member: Pkcs11Options): Promise<TokenDriver>
}

class GroupDriver implements BackendDriver<GroupRef> {
  readonly name = 'pkcs11'
  readonly #settings: GroupSettings
  readonly #members: readonly Member[]
  /** By kid: a key that is bound again replaces the one before. */
  readonly #bound = new Map<string, GroupRef>()
  #active: Member | undefined
  /** What it began with; a member that comes later can do as much, or stays out. */
  #abilities: Capabilities | undefined
  #forgetTimer: (() => void) | undefined
  #probing: Promise<void> | undefined
  #closed = false

  constructor(settings: GroupSettings) {
    this.#settings = settings
    this.#members = settings.members.map((options, place) => ({
      place,
      name: `member ${place}`,
      options,
      driver: undefined,
      state: 'away',
      good: 0,
      late: 0,
      answers: 0,
      refused: false,
    }))
  }

  /** Opens the members, one after the other: tokens answer badly to many at once. Errors: as {@link pkcs11Group}. */
  async enter(): Promise<void> {
    let failure: unknown
    for (const member of this.#members) {
      try {
        member.driver = await this.#settings.open(member.options)
        member.state = 'ready'
      } catch (error) {
        failure = error
        if (!isAway(error)) {
          await this.close()
          throw error
        }
        this.#become(member, 'away', error)
      }
    }
    const [first] = this.#ready()
    this.#active = first
    if (first === undefined) throw failure
    // What the group does is said once, by those that are open now.
    this.capabilities()
    this.#watch()
  }

  async find(query: KeyQuery, signal: AbortSignal | undefined): Promise<FoundKey<GroupRef>> {
    let group: GroupRef | undefined
    let failure: unknown
    const asked = new Set<Member>()
    for (;;) {
      // Also one that comes in while another is being asked.
      const member = this.#ready().find(ready => !asked.has(ready))
      if (member === undefined) break
      asked.add(member)
      const { answers } = member
      try {
        const found = await member.driver.find(query, signal)
        group ??= { query, facts: factsOf(found, member), prints: found.ref.prints, refs: new Map() }
        // Before it is compared: a key that is refused is let go of there as well.
        group.refs.set(member, found.ref)
        requireSame(group, found, member.name)
      } catch (error) {
        // One that has much to do is not away, and its key is to be proven.
        if (!isAway(error) || isCrowded(error, member, answers)) {
          if (group === undefined) throw error
          if (!this.#bound.has(query.kid)) this.release(group)
          throw namedFor(error, member.name)
        }
        failure = error
        this.#lose(member, error)
      }
    }
    if (group === undefined) throw failure ?? this.#nobody()
    this.#bound.set(query.kid, group)
    return { ...group.facts, ref: group }
  }

  release(group: GroupRef): void {
    if (this.#bound.get(group.query.kid) === group) this.#bound.delete(group.query.kid)
    for (const [member, ref] of group.refs) member.driver?.release?.(ref)
  }

  encipher(group: GroupRef, blocks: Uint8Array, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#run([group], (driver, of) => driver.encipher(of(group), blocks, signal))
  }

  decipher(group: GroupRef, blocks: Uint8Array, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#run([group], (driver, of) => driver.decipher(of(group), blocks, signal))
  }

  reencipher(
    from: GroupRef,
    to: GroupRef,
    blocks: Uint8Array,
    signal: AbortSignal | undefined,
    inside: boolean,
  ): Promise<Uint8Array> {
    return this.#run([from, to], (driver, of) => driver.reencipher(of(from), of(to), blocks, signal, inside))
  }

  verifyPin(
    first: GroupRef,
    second: GroupRef,
    request: PinVerification,
    signal: AbortSignal | undefined,
  ): Promise<PinComparison> {
    return this.#run([first, second], (driver, of) =>
      driver.verifyPin(of(first), of(second), request, signal),
    )
  }

  mac(
    group: GroupRef,
    request: MacRequest,
    message: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    return this.#run([group], (driver, of) => driver.mac(of(group), request, message, signal))
  }

  deriveContentKey(
    group: GroupRef,
    request: ContentKeyRequest,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    return this.#run([group], (driver, of) => driver.deriveContentKey(of(group), request, signal))
  }

  sign(group: GroupRef, message: Uint8Array, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#run([group], (driver, of) => driver.sign(of(group), message, signal))
  }

  randomBytes(length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#run([], driver => driver.randomBytes(length, signal))
  }

  capabilities(): Capabilities {
    this.#abilities ??= common(this.#ready(), this.#members.length)
    return this.#abilities
  }

  /** Well while one member serves; a member that is not ready makes it `degraded`. */
  async health(signal: AbortSignal | undefined): Promise<Health> {
    const answers = await Promise.all(
      this.#members.map(async member => {
        if (!isReady(member)) return { member, ok: false, detail: member.state }
        const { ok, detail } = await member.driver.health(signal)
        return { member, ok, detail }
      }),
    )
    const ok = answers.some(answer => answer.ok)
    const detail = answers.map(({ member, detail: said }) => {
      return `${member.name}${member === this.#active ? ' (active)' : ''}: ${said}`
    })
    return { ok, state: answers.every(answer => answer.ok) ? 'open' : 'degraded', detail: detail.join('; ') }
  }

  closing(): void {
    for (const { driver } of this.#members) driver?.closing?.()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#forgetTimer?.()
    await this.#probing
    for (const { driver } of this.#members) await driver?.close()
  }

  /** On the active member; where that fails for a reason of its own, on the next that is ready. */
  async #run<T>(
    keys: readonly GroupRef[],
    call: (driver: TokenDriver, of: (group: GroupRef) => KeyRef) => T | Promise<T>,
  ): Promise<T> {
    let failure: unknown
    for (const member of this.#inOrder()) {
      // It came in while these were being bound.
      if (!keys.every(({ refs }) => refs.has(member))) continue
      const { answers } = member
      try {
        const result = await call(member.driver, ({ refs }) => refs.get(member) as KeyRef)
        member.late = 0
        member.answers++
        return result
      } catch (error) {
        failure = error
        if (isBusy(error)) {
          if (!isCrowded(error, member, answers)) member.late++
          if (member.late >= LATE) this.#lose(member, error)
          // Its time is up; there is none for another member.
          throw error
        }
        if (isWrong(error)) this.#refuse(member, error)
        else if (isAway(error) || isLockedOut(error)) this.#lose(member, error)
        else throw error
      }
    }
    throw failure ?? this.#nobody()
  }

  #ready(): ReadyMember[] {
    return this.#members.filter(isReady)
  }

  #inOrder(): ReadyMember[] {
    const ready = this.#ready()
    return [
      ...ready.filter(member => member === this.#active),
      ...ready.filter(member => member !== this.#active),
    ]
  }

  #nobody(): BackendError {
    const states = this.#members.map(({ name, state }) => `${name} is ${state}`)
    return new BackendError('ERR_BACKEND_FAILED', `no token of the group can do it: ${states.join(', ')}`, {
      retryable: true,
    })
  }

  #lose(member: Member, error: unknown): void {
    if (member.state === 'ready') this.#become(member, 'away', error)
  }

  #refuse(member: Member, error: unknown): void {
    if (member.state !== 'wrong') this.#become(member, 'wrong', error)
  }

  #become(member: Member, state: MemberState, error: unknown): void {
    member.state = state
    member.good = 0
    member.late = 0
    if (state !== 'ready' && this.#active === member) this.#active = this.#ready()[0]
    // The one that is preferred does the work again.
    if (state === 'ready' && (this.#active === undefined || member.place < this.#active.place))
      this.#active = member
    const event: GroupEvent = {
      member: member.place,
      state,
      ...(this.#active !== undefined && { active: this.#active.place }),
      ...(error instanceof Error && { reason: error.message }),
      ...(isIssuerPinError(error) && { code: error.code }),
    }
    channel(GROUP_EVENTS).publish(event)
    try {
      this.#settings.onEvent?.(event)
    } catch {
      // A listener's own mistake is no reason not to go on.
    }
    if (this.#abilities !== undefined) this.#watch()
  }

  /** Probes what is not ready, and again after a pause. */
  #watch(): void {
    if (this.#closed || this.#forgetTimer !== undefined) return
    if (this.#members.every(({ state, refused }) => state === 'ready' || refused)) return
    this.#forgetTimer = this.#settings.later(() => {
      this.#forgetTimer = undefined
      this.#probing = this.#probeAll().finally(() => this.#watch())
    }, this.#settings.probeMs)
  }

  async #probeAll(): Promise<void> {
    for (const member of this.#members) {
      if (this.#closed || member.state === 'ready' || member.refused) continue
      try {
        await this.#prove(member)
        // What was bound while this was proven is proven the next time.
        if ([...this.#bound.values()].some(({ refs }) => !refs.has(member))) continue
        member.good++
        if (member.good >= this.#settings.failBackAfter) this.#become(member, 'ready', undefined)
      } catch (error) {
        member.good = 0
        member.refused = isLockedOut(error)
        if (!isAway(error)) this.#refuse(member, error)
      }
    }
  }

  /** Whether a member is well and holds what is bound: each key found anew, and the same as everywhere. */
  async #prove(member: Member): Promise<void> {
    member.driver ??= await this.#settings.open(member.options)
    const lacking = missingAbilities(this.capabilities(), member.driver.capabilities())
    if (lacking.length > 0) {
      const what = `${member.name} cannot do what the group does: ${lacking.join(', ')}`
      throw new BackendError('ERR_UNSUPPORTED_BY_TOKEN', what)
    }
    const { ok, detail } = await member.driver.health(undefined)
    // A key that is another one is told by finding it; what else is not well may get better.
    for (const group of this.#bound.values()) {
      const found = await member.driver.find({ ...group.query, expected: group.facts.checkValue }, undefined)
      requireSame(group, found, member.name)
      group.refs.set(member, found.ref)
      // It was unbound meanwhile.
      if (!this.#bound.has(group.query.kid)) member.driver.release?.(found.ref)
    }
    if (!ok) throw new BackendError('ERR_BACKEND_FAILED', detail, { retryable: true })
  }
}

function isReady(member: Member): member is ReadyMember {
  return member.state === 'ready'
}

/** A handle is a number of one token: another token's key may have the same. */
function factsOf({ ref: _ref, ...facts }: FoundTokenKey, { place }: Member): GroupRef['facts'] {
  const { identity } = facts
  const names = identity.names.map(name => `member ${place} ${name}`)
  return { ...facts, identity: { ...identity, names } }
}

/** Algorithm, check value and public key agree, as far as both members show them; `ERR_KEY_CHECK_VALUE` otherwise. */
function requireSame({ query, facts: one, prints }: GroupRef, other: FoundTokenKey, name: string): void {
  const { kid } = query
  const differs =
    one.algorithm !== other.algorithm ||
    one.publicJwk?.x !== other.publicJwk?.x ||
    tellsApart(prints, other.ref.prints)
  if (!differs && isSameValue(kid, one.checkValue, other.checkValue)) return
  throw new KeyError(
    'ERR_KEY_CHECK_VALUE',
    `key ${kid}: ${name} holds another key by this kid than the group: it is not used`,
    kid,
  )
}

function isSameValue(kid: string, one: CheckValue, other: CheckValue): boolean {
  try {
    requireCheckValue(kid, one, other)
    return true
  } catch {
    return false
  }
}

function namedFor(error: unknown, name: string): unknown {
  if (!(error instanceof KeyError) || error.code === 'ERR_KEY_CHECK_VALUE') return error
  return new KeyError(error.code, `${name} of the group: ${error.message}`, error.kid)
}

/** Failures of one token, which say nothing of another: it is away, its link, its login or its process is. */
function isAway(error: unknown): boolean {
  if (error instanceof Pkcs11Error) return cureOf(error) !== 'none' || error.kind === 'capacity'
  return error instanceof BackendError && (error.retryable || error.code === 'ERR_PKCS11_TOKEN')
}

/** A token that was lost, and whose new login was refused: it is not tried again by itself. */
function isLockedOut(error: unknown): boolean {
  return isIssuerPinError(error) && error.code === 'ERR_PKCS11_LOGIN'
}

function isBusy(error: unknown): boolean {
  return isIssuerPinError(error) && error.code === 'ERR_BACKEND_BUSY'
}

/** It had more to do than it could, and was not silent: there was no room to wait, or others were answered meanwhile. */
function isCrowded(error: unknown, member: Member, answers: number): boolean {
  return isBusy(error) && (error instanceof QueueFull || member.answers !== answers)
}

/** A key by that kid which is not the one that was bound, or a token that computes wrongly. */
function isWrong(error: unknown): boolean {
  return isIssuerPinError(error) && WRONG.includes(error.code)
}

const WRONG: readonly ErrorCode[] = [
  'ERR_PKCS11_SELF_TEST',
  'ERR_KEY_CHECK_VALUE',
  'ERR_KEY_NOT_FOUND',
  'ERR_KEY_AMBIGUOUS',
]

/** The ways of an ability, the least first. */
const WAYS: {
  readonly [Name in 'derivation' | 'keyAgreement' | 'signing' | 'reencipher']: readonly Capabilities[Name][]
} = {
  derivation: ['none', 'host', 'inside'],
  keyAgreement: ['none', 'host', 'token-extract', 'token-digest-key', 'token-kdf'],
  signing: ['none', 'native'],
  reencipher: ['host', 'inside'],
}
const MAC_PLANS: readonly MacPlan[] = ['none', 'composed', 'native']

/** What all can do, as the least of them does it: a call can go to each. The words for TDEA and random numbers are the first's. */
function common(ready: readonly ReadyMember[], members: number): Capabilities {
  const all = ready.map(({ driver }) => driver.capabilities())
  const [first] = all as [Capabilities, ...Capabilities[]]
  const least = <Way>(order: readonly Way[], of: (one: Capabilities) => Way): Way =>
    all.map(of).reduce((one, other) => (order.indexOf(other) < order.indexOf(one) ? other : one))
  const told = (of: (one: Capabilities) => string): string =>
    all.some(one => of(one) === 'none') ? 'none' : of(first)
  const names = Object.keys(first.macs) as (keyof Capabilities['macs'])[]
  const macs = names.map(name => [name, least(MAC_PLANS, one => one.macs[name])])
  return {
    ...first,
    tdea: told(one => one.tdea),
    random: told(one => one.random),
    derivation: least(WAYS.derivation, one => one.derivation),
    macs: Object.fromEntries(macs) as Record<keyof Capabilities['macs'], MacPlan>,
    keyAgreement: least(WAYS.keyAgreement, one => one.keyAgreement),
    signing: least(WAYS.signing, one => one.signing),
    reencipher: least(WAYS.reencipher, one => one.reencipher),
    notes: [
      `a group of ${members} tokens, ${all.length} of them open`,
      ...all.flatMap(({ notes }, place) => notes.map(note => `token ${place}: ${note}`)),
    ],
  }
}

/** What a group does and a token does not. */
function missingAbilities(group: Capabilities, token: Capabilities): string[] {
  const pairs: readonly (readonly [string, string, string])[] = [
    ['TDEA', group.tdea, token.tdea],
    ...Object.entries(group.macs).map(
      ([name, way]) => [name, way, token.macs[name as keyof typeof token.macs]] as const,
    ),
    ['key agreement', group.keyAgreement, token.keyAgreement],
    ['signatures', group.signing, token.signing],
    ['derived keys', group.derivation, token.derivation],
    ['random numbers', group.random, token.random],
    ['re-encipherment inside', inside(group), inside(token)],
  ]
  return pairs.flatMap(([name, ours, theirs]) => (ours !== 'none' && theirs === 'none' ? [name] : []))
}

const inside = ({ reencipher }: Capabilities): string => (reencipher === 'inside' ? reencipher : 'none')
