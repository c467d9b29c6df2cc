/**
 * Options are own members: what somebody put on `Object.prototype` is none. Every public verb is called rightly while each
 * member name of every interface of `src` is a tripwire there, which says where in `src` it was read.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CORE } from './cases-core.js'
import { D1 } from './cases-d1.js'
import { openSoftware, type World, worldOn } from './world.js'

const ROOT = new URL('../..', import.meta.url).pathname

/** What a property descriptor is made of, and a promise: JavaScript itself looks for these. */
const BY_JAVASCRIPT = ['get', 'set', 'value', 'writable', 'enumerable', 'configurable', 'then']

/**
 * What still reads a member that an object may lack, with the verbs where that is all, and why it neither allows nor shows
 * anything: it can only refuse more.
 */
const KNOWN: Readonly<Record<string, { readonly verbs?: RegExp; readonly why: string }>> = {
  'backend/front.ts: capabilities': {
    verbs: /^openBackend$/,
    why: 'a driver is an instance of a class, whose methods are inherited',
  },
  'seccos/counter/state.ts: instance': {
    why: 'another instance than that of the record only refuses: failover',
  },
}

/**
 * The names of all members of all interfaces and type literals, and what else a colon follows: parameters, members of
 * objects. To have a compiler tell them apart takes longer than a wire too many.
 */
function memberNames(): readonly string[] {
  const texts = readdirSync(`${ROOT}/src`, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts'))
    .map(path => readFileSync(`${ROOT}/src/${path}`, 'utf8'))
  const declared = texts.flatMap(text =>
    Array.from(
      text.matchAll(/(?:^|[{;,(])\s*(?:readonly )?([A-Za-z_$][\w$]*)\??:\s/gm),
      ([, name = '']) => name,
    ),
  )
  return [...new Set(declared)].filter(name => !(name in Object.prototype) && !BY_JAVASCRIPT.includes(name))
}

/** So many reads of one name are looked at in one call. */
const READS_A_NAME = 300

/** Each of the calls, and where in `src` names were read from `Object.prototype` while it ran. */
async function readsDuring(
  names: readonly string[],
  calls: readonly (() => unknown)[],
): Promise<readonly (readonly string[])[]> {
  let reads = new Set<string>()
  const counts = new Map<string, number>()
  const trip = (name: string): void => {
    Object.defineProperty(Object.prototype, name, {
      configurable: true,
      get() {
        // A verb that searches reads a name millions of times, from the same few places: the stacks of the first say where.
        const count = (counts.get(name) ?? 0) + 1
        counts.set(name, count)
        if (count === READS_A_NAME) Reflect.deleteProperty(Object.prototype, name)
        const reader = new Error('read').stack?.split('\n')[2] ?? ''
        const place = /\/src\/([\w./-]+\.ts)/.exec(reader)?.[1]
        if (place !== undefined) reads.add(`${place}: ${name}`)
        return undefined
      },
      set(value: unknown) {
        Object.defineProperty(this, name, { value, writable: true, enumerable: true, configurable: true })
      },
    })
  }
  const found: (readonly string[])[] = []
  // A thousand wires take longer to lay than a call to run: they stay from call to call.
  for (const name of names) trip(name)
  try {
    for (const call of calls) {
      try {
        await call()
      } catch {
        // A case may be one that is refused.
      }
      found.push([...reads])
      reads = new Set()
      for (const [name, count] of counts) if (count >= READS_A_NAME) trip(name)
      counts.clear()
    }
  } finally {
    for (const name of names) Reflect.deleteProperty(Object.prototype, name)
  }
  return found
}

describe('no public verb reads an option from Object.prototype, but for what the table says', () => {
  const names = memberNames()
  const cases = [...CORE, ...D1]
  const found = new Map<string, string[]>()
  let world: World
  beforeAll(async () => {
    world = await worldOn(await openSoftware())
    const calls: (() => unknown)[] = []
    for (const leakCase of cases) {
      const args = await leakCase.args(world)
      calls.push(() => leakCase.call(args, world))
    }
    const reads = await readsDuring(names, calls)
    for (const [i, { verb }] of cases.entries())
      found.set(verb, [...(found.get(verb) ?? []), ...(reads[i] ?? [])])
  })
  afterAll(() => world.backend.close())

  test('the names are all there, and the tripwire works', async () => {
    expect(names.length).toBeGreaterThan(500)
    for (const name of ['signal', 'now', 'mode', 'prefix', 'engine', 'ring', 'kcv', 'translation']) {
      expect(names).toContain(name)
    }
    const { deliverForTest } = { deliverForTest: ({ now }: { now?: unknown }) => now }
    expect(await readsDuring(['now'], [() => deliverForTest({})])).toEqual([[]])
    expect('now' in Object.prototype).toBe(false)
    // What is known to be read is seen, also after other calls.
    const reads = [...found.values()].flat()
    for (const known of Object.keys(KNOWN)) expect(reads).toContain(known)
  })

  test.each([...new Set(cases.map(({ verb }) => verb))])('%s', verb => {
    const isKnown = (read: string): boolean =>
      Object.hasOwn(KNOWN, read) && (KNOWN[read]?.verbs ?? /./).test(verb)
    const reads = found.get(verb) ?? expect.fail('it was not called')
    expect([...new Set(reads.filter(read => !isKnown(read)))].sort()).toEqual([])
  })
})
