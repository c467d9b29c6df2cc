import { afterAll, describe, test } from 'vitest'
import { softwareBackend } from '../../src/software.js'
import { backendContract } from '../../src/testing.js'

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
