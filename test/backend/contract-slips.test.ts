/**
 * The contract of backends looks at what it calls: for each of its rules, one call after the other is taken where it must be refused,
 * or refused by another code, or answered otherwise, and the rule must fail.
 */
import { expect, test } from 'vitest'
import { type Key, type KeyOperations, operationsOf } from '../../src/backend/key.js'
import type { Backend } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { backendContract } from '../../src/testing.js'
import { AT_ONCE, positions, type Slip, type SlipKind, Slips } from '../support/slips.js'

const OPERATIONS = [
  'encipher',
  'decipher',
  'decipherVariant',
  'encipherBound',
  'decipherBound',
  'reencipher',
  'verifyPin',
  'mac',
  'deriveContentKey',
  'openContent',
  'sign',
  'randomBytes',
] as const satisfies readonly (keyof KeyOperations)[]
const ONES = ['randomBytes', 'health', 'close'] as const

/** A good backend whose calls go through the slips. */
function slipping(good: Backend, slips: Slips): Backend {
  const patched = new WeakSet<object>()
  let last: Key | undefined
  const patch = (key: Key): Key => {
    const operations = operationsOf(key)
    last = key
    if (patched.has(operations)) return key
    patched.add(operations)
    for (const name of OPERATIONS) {
      const call = operations[name].bind(operations) as (...given: unknown[]) => unknown
      const slip = (...given: unknown[]): unknown =>
        slips.around(
          name,
          () => call(...given),
          () => (name === 'verifyPin' ? 'equal' : new Uint8Array(8)),
        )
      Object.defineProperty(operations, name, { value: slip, configurable: true })
    }
    return key
  }
  return new Proxy(good, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      const call = (...given: unknown[]): unknown => Reflect.apply(member, target, given)
      if (name === 'bind')
        return (...given: unknown[]) =>
          slips.around(
            'bind',
            () => (call(...given) as Promise<Key>).then(patch),
            () => last,
          )
      if (ONES.some(one => one === name))
        return (...given: unknown[]) =>
          slips.around(
            String(name),
            () => call(...given),
            () => new Uint8Array(8),
          )
      return call
    },
  })
}

/** Runs one rule, by its place, and says whether it held. */
async function run(at: number, slip?: Slip): Promise<{ readonly held: boolean; readonly slips: Slips }> {
  const slips = new Slips(slip)
  const contract = backendContract({
    open: async (keys, options = {}) =>
      slipping(
        await softwareBackend({
          ...options,
          keys: keys.map(({ kid, usage, algorithm, material, mode }) => ({
            kid,
            usage,
            algorithm,
            material,
            ...(mode && { mode }),
          })),
        }),
        slips,
      ),
  })
  const held = await (contract.cases[at] ?? expect.unreachable()).run().then(
    () => true,
    () => false,
  )
  await contract.close().catch(() => undefined)
  return { held, slips }
}

/** What no rule says anything of: each with the reason. */
const FREE: readonly (readonly [rule: RegExp, kind: SlipKind, call: string])[] = [
  // Looked at for what it says, not for whether all is well.
  [/^a MAC key past its end/, 'other answer', 'health.ok health.detail'],
  // Words for people.
  [/^capabilities and health/, 'other answer', 'health.detail'],
  // Whether the opener is asked, not what the operation gives.
  [/^the opener is asked before/, 'other answer', 'encipher decipher reencipher mac'],
  // Chance: the next answer is as good.
  [/^randomBytes gives|^200 concurrent/, 'other answer', 'randomBytes'],
  // What is no block is none when a byte of it is another.
  [/^verifyPin compares the PINs/, 'other answer', 'encipher'],
  // Chance again, what is sealed and not opened, and what may be refused altogether.
  [/^what is sealed under|seals in mode E and opens/, 'other answer', 'randomBytes mac'],
  [/^the published key block of version A/, 'other answer', 'mac decipherVariant'],
]
const isFree = (rule: string, kind: SlipKind, call: string | undefined): boolean =>
  FREE.some(([name, of, calls]) => name.test(rule) && of === kind && calls.split(' ').includes(call ?? ''))

const CASES = backendContract({ open: () => Promise.reject(new Error('not opened')) }).cases
/** What each rule called, for the table at the end. */
const called: string[] = []

test.each(CASES.map(({ name }, at) => [name, at] as const))('%s', async (name, at) => {
  const { held, slips } = await run(at)
  expect(held).toBe(true)
  if (!AT_ONCE.test(name)) called.push(slips.told(name))
  const lived: string[] = []
  for (const kind of ['taken', 'other code', 'other answer'] as const satisfies SlipKind[]) {
    for (const place of positions(slips.seen[kind], 12)) {
      const slip = await run(at, { kind, at: place })
      const { slipped } = slip.slips
      if (slip.held && !isFree(name, kind, slipped)) lived.push(`${kind}: ${slipped}, number ${place}`)
    }
  }
  expect(lived).toEqual([])
})

test('a rule asks what it asked before: what is left out is a change of the contract', async () => {
  await expect(`${called.join('\n')}\n`).toMatchFileSnapshot('./contract-calls.txt')
})
