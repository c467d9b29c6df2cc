/**
 * The contract of an {@link IssuerStore} as executable cases, for any test runner: each is a name and an async function
 * that throws (from `node:assert`) where the store breaks it. The same cases run against memory, SQLite and PostgreSQL.
 * What a crash leaves shows in no such case: kill the process between writes and look.
 */
import assert from 'node:assert/strict'
import type { IssuerStore } from '../stores/issuer-store.js'
import { changeCounterStoreContract } from './change-counter-contract.js'
import type { ContractCase } from './contract-helpers.js'
import { CARD, CARD_CHECKS, type IssuerStoreCheck, type IssuerStoreContext } from './store-contract-cards.js'
import { COUNTER_CHECKS, DURABLE_CHECKS, LIFE_CHECKS, TRIES_CHECKS } from './store-contract-life.js'
import { PIN_CHECKS, REQUEST_CHECKS } from './store-contract-pins.js'
import { ROTATION_CHECKS } from './store-contract-rotation.js'

/** How the suite reaches the store under test. */
export interface IssuerStoreHarness {
  /** False where the store ends with its process: the cases that restart it, or look into it, are left out. */
  readonly durable: boolean
  /** Handles on a database that is fresh and empty. */
  open(): Promise<IssuerStoreContext>
}

const absent = async (): Promise<never> =>
  assert.fail('the harness says durable, and has no reopen or stored')

/**
 * The whole contract for one kind of store, that of its change counters included. Cases may run in any order; each opens
 * a database of its own, and closes what it was given.
 *
 * @example
 * ```ts
 * const cases = issuerStoreContract({ durable: false, open: async () => {
 *   const store = memoryIssuerStore()
 *   return { one: store, other: store }
 * } })
 * for (const { name, run } of cases) test(name, run)
 * ```
 */
export function issuerStoreContract(harness: IssuerStoreHarness): readonly ContractCase[] {
  const checks = {
    ...CARD_CHECKS,
    ...PIN_CHECKS,
    ...REQUEST_CHECKS,
    ...ROTATION_CHECKS,
    ...COUNTER_CHECKS,
    ...TRIES_CHECKS,
    ...LIFE_CHECKS,
    ...(harness.durable ? DURABLE_CHECKS : {}),
  }
  return [
    ...Object.entries(checks).map(([name, check]) => ({ name, run: () => runCheck(harness, check) })),
    ...counterCases(harness.open.bind(harness)).map(({ name }, i) => ({
      name: `change counter: ${name}`,
      run: () => runCheck(harness, async stores => counterCases(async () => stores)[i]?.run()),
    })),
  ]
}

/** The contract of the change counter's store, for the counter of one issuer. */
function counterCases(open: () => Promise<IssuerStoreContext>): readonly ContractCase[] {
  return changeCounterStoreContract({
    open: async () => {
      const { one, other } = await open()
      return [one.counters(CARD.issuerId), other.counters(CARD.issuerId)]
    },
  })
}

async function runCheck(harness: IssuerStoreHarness, check: IssuerStoreCheck): Promise<void> {
  const { one, other, reopen = absent, stored = absent } = await harness.open()
  const opened: IssuerStore[] = [one, other]
  const track = async (): Promise<IssuerStore> => {
    const store = await reopen()
    opened.push(store)
    return store
  }
  try {
    await check({ one, other, reopen: track, stored })
  } finally {
    await Promise.all(opened.map(store => store.close()))
  }
}
