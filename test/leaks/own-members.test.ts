/**
 * Options are own members: what somebody put on `Object.prototype` is none. Every public verb is called rightly while each
 * member name of every interface of `src` is a tripwire there, which says where in `src` it was read.
 */
import { readdirSync, readFileSync } from 'node:fs'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ROOT } from '../support/public-api.js'
import { CORE } from './cases-core.js'
import { D1 } from './cases-d1.js'
import { openSoftware, type World, worldOn } from './world.js'

/** What a property descriptor is made of: JavaScript itself looks for these. */
const DESCRIPTOR = ['get', 'set', 'value', 'writable', 'enumerable', 'configurable']

/**
 * What still reads a member that an object may lack: objects that this library made, or that were read already, and JSON
 * that is parsed. The way to a key (`backend`, `base`) is not among them, but for what says why.
 */
const KNOWN: Readonly<Record<string, string>> = {
  'backend/bound-key.ts': 'inside: how the library itself asks for a re-encipherment',
  'backend/front.ts': 'capabilities: the driver that was made',
  'backend/software/mac-batch.ts': 'chain: ciphers of a key',
  'key/period.ts': 'periods that were read',
  'primitives/concat-kdf.ts': 'fields that the JWE was read into',
  'primitives/mac.ts': 'a request that was read',
  'pin/decipher.ts': 'a row of the table of formats',
  'pin/encipher.ts': 'a row of the table of formats',
  'pin/formats/verification.ts': 'a row of the table of formats',
  'pin/translate.ts': 'the way that a message of D1 is moved by',
  'jwe/seal.ts': 'a request that was read',
  'd1/messages/get-pin.ts': 'a request that was read',
  'd1/messages/pin-block.ts': 'the shapes of fields, a table',
  'd1/audit.ts': 'an event of ours',
  'd1/client/exchange.ts': 'cause and errors of an error',
  'd1/client/assertion.ts': 'a private JWK of the opener',
  'd1/client/mtls-fetch.ts': 'options that were read',
  'd1/endpoints/own-tokens.ts': 'a JWK that jose gave, and a grant that was read',
  'seccos/data-set.ts': 'fields of a parsed profile',
  'seccos/profile/coverage.ts': 'a parsed profile',
  'seccos/profile/encoding.ts': 'a parsed profile',
  'seccos/profile/parse.ts': 'a profile, whose members are checked one by one',
  'seccos/counter/state.ts': 'a stored record',
  'seccos/counter/store.ts': 'a stored record',
  'tools/check-profile.ts': 'a parsed profile',
  'tools/search/search.ts': 'what is known of a profile, which becomes a profile and is parsed as one',
  'tools/inspect/inspect.ts': 'a parsed profile',
  'tools/inspect/profile-drawing.ts': 'a parsed profile',
  'tools/probe/candidates.ts': 'candidates of our own',
}

/** The names of all members of all interfaces and type literals, . */
function memberNames(): readonly string[] {
  const names = new Set<string>()
  const files = readdirSync(`${ROOT}/src`, { recursive: true, encoding: 'utf8' })
  for (const path of files.filter(file => file.endsWith('.ts'))) {
    const text = readFileSync(`${ROOT}/src/${path}`, 'utf8')
    const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest)
    const visit = (node: ts.Node): void => {
      if (ts.isPropertySignature(node) && ts.isIdentifier(node.name)) names.add(node.name.text)
      ts.forEachChild(node, visit)
    }
    visit(source)
  }
  return [...names].filter(name => !(name in Object.prototype) && !DESCRIPTOR.includes(name))
}

/** So many reads of one name are looked at in one call. */
const READS_A_NAME = 300

/** Where in `src` names were read from `Object.prototype` while the call ran. */
async function readsDuring(names: readonly string[], call: () => unknown): Promise<readonly string[]> {
  const reads = new Set<string>()
  const counts = new Map<string, number>()
  for (const name of names) {
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
  try {
    await call()
  } catch {
    // A case may be one that is refused.
  } finally {
    for (const name of names) Reflect.deleteProperty(Object.prototype, name)
  }
  return [...reads]
}

describe('no public verb reads an option from Object.prototype, but for what the table says', {
  timeout: 120_000,
}, () => {
  const names = memberNames()
  let world: World
  beforeAll(async () => {
    world = await worldOn(await openSoftware())
  })
  afterAll(() => world.backend.close())

  test('the names are all there, and the tripwire works', async () => {
    expect(names.length).toBeGreaterThan(500)
    for (const name of ['signal', 'now', 'mode', 'prefix', 'engine', 'ring', 'kcv', 'translation']) {
      expect(names).toContain(name)
    }
    const { deliverForTest } = { deliverForTest: ({ now }: { now?: unknown }) => now }
    expect(await readsDuring(['now'], () => deliverForTest({}))).toEqual([])
    expect('now' in Object.prototype).toBe(false)
  })

  test.each([...new Set([...CORE, ...D1].map(({ verb }) => verb))])('%s', async verb => {
    const found: string[] = []
    for (const leakCase of [...CORE, ...D1].filter(one => one.verb === verb)) {
      const args = await leakCase.args(world)
      found.push(...(await readsDuring(names, () => leakCase.call(args, world))))
    }
    const unknown = found.filter(read => !Object.hasOwn(KNOWN, read.slice(0, read.indexOf(':'))))
    expect([...new Set(unknown)].sort()).toEqual([])
  })
})
