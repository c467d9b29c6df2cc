import { afterAll, test } from 'vitest'
import { backendContract, CONTRACT_KEYS } from '../src/testing.js'
import { openWith } from './provision.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

describeSoftHsm('backend contract: SoftHSM', () => {
  const shared = { ...makeToken('shared'), composedMac: true }
  const scratch = { ...makeToken('scratch'), composedMac: true }
  const contract = backendContract({
    open: (keys, opener) => openWith(keys === CONTRACT_KEYS ? shared : scratch, keys, opener),
  })
  test.each(contract.cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())
  afterAll(() => contract.close())
})
