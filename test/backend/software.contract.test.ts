import { afterAll, describe, expect, test } from 'vitest'
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
    [
      'what is thrown away at the close',
      'close waits for what is in flight',
      {
        key: good => ({
          encipher: (blocks, options) => {
            const own = blocks.slice()
            const answer = new Promise(setImmediate).then(() => good.encipher(own, options))
            // Before anybody listens it may have failed.
            answer.catch(() => undefined)
            return answer
          },
        }),
      },
    ],
  ])('%s: %s', async (_what, rule, fault) => {
    const which = new RegExp(`^${rule}`)
    expect(await brokenRules(which, {})).toEqual([])
    expect(await brokenRules(which, fault)).toHaveLength(1)
  })
})
