/**
 * The contract of change counters looks at what it calls: for each of its rules, one call after the other is answered otherwise,
 * through either handle, and the rule must fail.
 */
import { expect, test } from 'vitest'
import { type ChangeCounterStore, memoryStore } from '../../src/seccos/counter/store.js'
import { changeCounterStoreContract } from '../../src/testing.js'
import { positions, type Slip, Slips } from '../support/slips.js'

/** The same counter, whose calls go through the slips. */
function slipping(good: ChangeCounterStore, slips: Slips): ChangeCounterStore {
  return new Proxy(good, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return (...given: unknown[]): unknown =>
        slips.around(
          String(name),
          () => Reflect.apply(member, target, given) as unknown,
          () => undefined,
        )
    },
  })
}

/** Runs one rule, by its place, and says whether it held. */
async function run(at: number, slip?: Slip): Promise<{ readonly held: boolean; readonly slips: Slips }> {
  const slips = new Slips(slip)
  const rules = changeCounterStoreContract({
    open: () => {
      const good = slipping(memoryStore({ instance: () => 'a/1' }), slips)
      return Promise.resolve([good, good])
    },
  })
  const held = await (rules[at] ?? expect.unreachable()).run().then(
    () => true,
    () => false,
  )
  return { held, slips }
}

/** What no rule says anything of, each with the reason. */
const FREE: readonly (readonly [rule: RegExp, call: RegExp])[] = [
  // Opaque: what is given is given back, and the rules that do so fail.
  [/^/, /^read\.(version|instance)$/],
  // What a racer reads before it writes is another's by then.
  [/^several records|^of many that replace/, /^read\.value$/],
]

const RULES = changeCounterStoreContract({ open: () => Promise.reject(new Error('not opened')) })
const called: string[] = []

test.each(RULES.map(({ name }, at) => [name, at] as const))('%s', async (name, at) => {
  const { held, slips } = await run(at)
  expect(held).toBe(true)
  called.push(slips.told(name))
  const lived: string[] = []
  for (const place of positions(slips.seen['other answer'], 24)) {
    const slip = await run(at, { kind: 'other answer', at: place })
    const { slipped = '' } = slip.slips
    const isFree = FREE.some(([rule, call]) => rule.test(name) && call.test(slipped))
    if (slip.held && !isFree) lived.push(`${slipped}, ${place}`)
  }
  expect(lived).toEqual([])
})

test('a rule asks what it asked before: what is left out is a change of the contract', async () => {
  await expect(`${called.join('\n')}\n`).toMatchFileSnapshot('./counter-calls.txt')
})
