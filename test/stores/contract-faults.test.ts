/** Stores that are wrong in one thing each: the rule that says so notices, and every rule has such a store. */
import { describe, expect, test } from 'vitest'
import type { IssuerStore } from '../../src/stores/issuer-store.js'
import { OTHER_ISSUER } from '../../src/testing/store-contract-cards.js'
import { issuerStoreContract } from '../../src/testing.js'
import { afterRestart, type Fault, faultyStores, isNoticed } from '../support/faulty-store.js'
import { CARD_FAULTS } from './faults/cards.js'
import { LIFE_FAULTS } from './faults/life.js'
import { PIN_FAULTS, REQUEST_FAULTS } from './faults/pins.js'
import { WRITE_FAULTS } from './faults/writes.js'

const FAULTS = { ...CARD_FAULTS, ...PIN_FAULTS, ...REQUEST_FAULTS, ...WRITE_FAULTS, ...LIFE_FAULTS }
const rules = issuerStoreContract(faultyStores())

describe('contract: two handles on a store that outlives them', () => {
  test.each(rules)('$name', ({ run }) => run())
})

test('a counter that cannot write several records together lacks the call, and is well when it is closed', async () => {
  const without = { compareAndSetAll: undefined } as object
  expect(await isNoticed('after close every call is refused', () => ({ counter: () => without }))).toBe(false)
})

test.each<[string, Fault]>([
  ['holds', {}],
  ['fails', afterRestart(({ pins }) => ({ pins: { readBlock: () => pins.readBlock(OTHER_ISSUER) } }))],
])(
  'a rule that %s closes each handle that it was given, those after a restart included',
  async (_, fault) => {
    const good = faultyStores(fault)
    const open = new Set<object>()
    const watched = <T extends IssuerStore>(store: T): T => {
      open.add(store)
      return { ...store, close: () => store.close().finally(() => open.delete(store)) }
    }
    const watching = issuerStoreContract({
      ...good,
      open: async () => {
        const { one, other, reopen = expect.unreachable, ...more } = await good.open()
        return {
          ...more,
          one: watched(one),
          other: watched(other),
          reopen: async () => watched(await reopen()),
        }
      },
    })
    const again = watching.filter(({ name }) => name.startsWith('everything is there again'))
    const outcomes = await Promise.allSettled((fault.handles ? again : watching).map(({ run }) => run()))
    expect(outcomes.map(({ status }) => status)).toContain(fault.handles ? 'rejected' : 'fulfilled')
    expect(open).toEqual(new Set())
  },
)

test('every rule of the store’s own is broken by some fault', () => {
  const looked = Object.keys(FAULTS)
  const unseen = rules.filter(({ name }) => !looked.some(rule => name.startsWith(rule)))
  expect(unseen.filter(({ name }) => !name.startsWith('change counter: '))).toEqual([])
})

describe.each(Object.entries(FAULTS))('%s, but', (rule, faults) => {
  test.each(Object.entries(faults))('%s', async (_, fault) => {
    expect(await isNoticed(rule, fault)).toBe(true)
  })
})
