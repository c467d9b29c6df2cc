import { afterAll, describe, expect, test } from 'vitest'
import { BackendError } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { backendContract } from '../../src/testing.js'
import { brokenRules, type Fault } from '../support/faulty-backend.js'

describe.each(['bitslice', 'node:crypto', 'node-forge'] as const)(
  'backend contract: software, %s',
  engine => {
    const contract = backendContract({
      open: (keys, opener) =>
        softwareBackend({
          ...opener,
          engine,
          keys: keys.map(({ hostDecipher: _, derives: _derives, ...key }) => key),
        }),
    })
    test.each(contract.cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())
    afterAll(() => contract.close())
  },
)

/** What is under way when closing begins is waited for, and its answer thrown away. */
function throwsAway(): Fault {
  let isClosing = false
  return {
    backend: good => {
      isClosing = false
      return {
        close: () => {
          isClosing = true
          return good.close()
        },
      }
    },
    key: (good, key) => ({
      // To itself, which as this key it is no sibling of.
      reencipher: (_, ...call) => good.reencipher(key, ...call),
      encipher: async (...call) => {
        const answer = await good.encipher(...call)
        if (isClosing) throw new BackendError('ERR_BACKEND_CLOSED', 'the backend is closed')
        return answer
      },
    }),
  }
}

describe('the contract notices', () => {
  test.each<[what: string, rule: string, Fault]>([
    [
      'a check value that is not compared',
      'bind refuses another check value',
      { backend: good => ({ bind: ({ kcv: _, ...spec }, options) => good.bind(spec, options) }) },
    ],
    [
      'an error that shows a key',
      'bind refuses another check value',
      {
        backend: good => ({
          bind: (...call) =>
            good.bind(...call).catch(error => {
              error.message += ': AD192FD064B5579E7A4FB3C8F794F22A'
              throw error
            }),
        }),
      },
    ],
    [
      'an input that is read too late',
      'inputs are read before the call returns',
      {
        key: (good, { kid }) => {
          const mac: typeof good.mac = async (...call) => {
            await undefined
            return good.mac(...call)
          }
          return kid === 'CMAC-A' ? { mac } : {}
        },
      },
    ],
    ['what is thrown away at the close', 'close waits for what is in flight', throwsAway()],
  ])('%s: %s', async (_what, rule, fault) => {
    const which = new RegExp(`^${rule}`)
    expect(await brokenRules(which, {})).toEqual([])
    expect(await brokenRules(which, fault)).toHaveLength(1)
  })
})
