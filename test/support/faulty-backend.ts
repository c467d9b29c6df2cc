import { AssertionError } from 'node:assert'
import { type Key, type KeyOperations, makeKey, operationsOf } from '../../src/backend/key.js'
import { type Backend, isIssuerPinError, type OpenerOptions } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { backendContract, type ContractKey } from '../../src/testing.js'

/** What a backend, or a key of it, does in place of what a good one does. */
export interface Fault {
  readonly backend?: (good: Backend) => Partial<Backend>
  readonly key?: (good: KeyOperations, key: Key) => Partial<KeyOperations>
  /** What becomes of the keys that it is to hold. */
  readonly keys?: (given: readonly ContractKey[]) => readonly ContractKey[]
  /** What becomes of the opener's options. */
  readonly options?: (given: OpenerOptions) => OpenerOptions
}

/** The rules of the contract that a good backend with this fault breaks, of those whose name fits. */
export async function brokenRules(
  which: RegExp,
  { backend, key, keys: held = given => given, options = given => given }: Fault,
): Promise<string[]> {
  const contract = backendContract({
    open: async (keys, given = {}) => {
      const good = await softwareBackend({
        ...options(given),
        keys: held(keys).map(({ kid, usage, algorithm, material, mode }) => ({
          kid,
          usage,
          algorithm,
          material,
          ...(mode && { mode }),
        })),
      })
      const { bind = good.bind.bind(good), ...others } = backend?.(good) ?? {}
      return over<Backend>(good, {
        ...others,
        bind: async (...call) => {
          const bound = await bind(...call)
          const operations = operationsOf(bound)
          const wrong = key?.(operations, bound) ?? {}
          // Who has another's operations is no sibling of the others, to whose keys blocks are moved.
          return Object.keys(wrong).length === 0 ? bound : makeKey(bound, over(operations, wrong))
        },
      })
    },
  })
  const broken: string[] = []
  for (const { name, run } of contract.cases) {
    if (!which.test(name)) continue
    await run().catch(error => {
      // A slip of the fault itself is none of the rule's.
      if (!(error instanceof AssertionError || isIssuerPinError(error))) throw error
      broken.push(name)
    })
  }
  await contract.close()
  return broken
}

function over<T extends object>(good: T, wrong: Partial<T>): T {
  return new Proxy(good, {
    get: (target, name) => {
      const value: unknown = Reflect.get(wrong, name) ?? Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
