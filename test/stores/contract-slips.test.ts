/**
 * The contract of stores looks at what it calls: for each of its rules, one call after the other is taken where it must be
 * refused, or refused by another code, or is answered otherwise, and the rule must fail. More is planted by hand: see `contract-faults.test.ts`.
 */
import { expect, test } from 'vitest'
import type { IssuerStore } from '../../src/stores/issuer-store.js'
import { issuerStoreContract } from '../../src/testing.js'
import { faultyStores } from '../support/faulty-store.js'
import { positions, type Slip, Slips } from '../support/slips.js'

/** The same store, and the same counters of it, whose calls go through the slips. */
function slipping<T extends object>(good: T, slips: Slips, called = ''): T {
  const wrap = (target: object, name: string | symbol): unknown => {
    const member: unknown = Reflect.get(target, name)
    const whole = `${called}${String(name)}`
    if (typeof member === 'object' && member !== null) return slipping(member, slips, `${whole}.`)
    if (typeof member !== 'function') return member
    return (...given: unknown[]): unknown => {
      const call = (): unknown => Reflect.apply(member, target, given)
      return name === 'counters'
        ? patched(call() as object, slips)
        : slips.around(whole, call, () => undefined)
    }
  }
  return new Proxy<T>(good, { get: (target, name) => wrap(target, name) })
}

/** A store knows its own counters, which therefore stay what they are. */
const seen = new WeakSet<object>()
function patched(counter: object, slips: Slips): object {
  if (seen.has(counter)) return counter
  seen.add(counter)
  for (const name of ['read', 'compareAndSet', 'compareAndSetAll', 'purge', 'keys']) {
    const call: unknown = Reflect.get(counter, name)
    if (typeof call !== 'function') continue
    const slip = (...given: unknown[]): unknown =>
      slips.around(
        `counter.${name}`,
        () => Reflect.apply(call, counter, given),
        () => undefined,
      )
    Object.defineProperty(counter, name, { value: slip, configurable: true })
  }
  return counter
}

/** Runs one rule, by its place, and says whether it held. */
async function run(at: number, slip?: Slip): Promise<{ readonly held: boolean; readonly slips: Slips }> {
  const slips = new Slips(slip)
  const good = faultyStores()
  const rules = issuerStoreContract({
    ...good,
    open: async () => {
      const { one, other, reopen, ...more } = await good.open()
      return {
        ...more,
        one: slipping(one, slips),
        other: slipping(other, slips),
        reopen: async (): Promise<IssuerStore> => slipping(await (reopen?.() ?? expect.unreachable()), slips),
      }
    },
  })
  const held = await (rules[at] ?? expect.unreachable()).run().then(
    () => true,
    () => false,
  )
  return { held, slips }
}

/** What a rule says nothing of: each with the reason. */
const FREE: readonly (readonly [rule: RegExp, call: RegExp])[] = [
  // Opaque: what is given is given back, and the rules that do so fail.
  [/^/, /\.(version|revision|foundAt|instance)$/],
  // The card is looked for to be named as it was found.
  [/^what comes when its|^cards are passed|^a card that changed/, /^cards\.find\.(state|setPinTypes)/],
  [/^of a card that is blocked|^many cards and|^a write that hung/, /^cards\.find\.(state|setPinTypes)/],
  [/^a request that two/, /^cards\.find\.(state|setPinTypes)/],
  // What the counter asks for itself, and what is read to be compared with what is read later.
  [/^a PRW ends its claim/, /^counter\.|^pins\.readPrw\./],
  // A counter asks again where another wrote before it, and what a racer reads is another's by then.
  [/^two replicas race|^replicas that issue|^a clock that goes back/, /^counter\./],
  [/^change counter: (several records|of many that replace)/, /^counter\.read\.value$/],
]
const isFree = (rule: string, slipped: string): boolean =>
  FREE.some(([name, call]) => name.test(rule) && call.test(slipped))

const RULES = issuerStoreContract(faultyStores())
const called: string[] = []

test.each(RULES.map(({ name }, at) => [name, at] as const))('%s', async (name, at) => {
  const { held, slips } = await run(at)
  expect(held).toBe(true)
  called.push(slips.told(name))
  const lived: string[] = []
  for (const place of positions(slips.seen.taken, 24)) {
    const slip = await run(at, { kind: 'taken', at: place })
    // Whether a block comes before the card is blocked, or after it, is chance there.
    if (slip.held && !name.startsWith('of a card that is blocked while'))
      lived.push(`${slip.slips.slipped}, ${place}`)
  }
  for (const place of positions(slips.seen['other code'], 24)) {
    const slip = await run(at, { kind: 'other code', at: place })
    if (slip.held) lived.push(`refused by another code: ${slip.slips.slipped}, ${place}`)
  }
  for (const place of positions(slips.seen['other answer'], 40)) {
    const slip = await run(at, { kind: 'other answer', at: place })
    const { slipped = '' } = slip.slips
    if (slip.held && !isFree(name, slipped)) lived.push(`answered otherwise: ${slipped}, ${place}`)
  }
  expect(lived).toEqual([])
})

test('a rule asks what it asked before: what is left out is a change of the contract', async () => {
  await expect(`${called.join('\n')}\n`).toMatchFileSnapshot('./contract-calls.txt')
})
