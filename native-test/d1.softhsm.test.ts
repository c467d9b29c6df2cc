/** The endpoints on keys in a SoftHSM token: the whole contract, as in software. */
import { describe } from 'vitest'
import { endpointContract } from '../test/d1/endpoints/support/cases.js'
import { World } from '../test/d1/endpoints/support/world.js'
import { openWith } from './provision.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

describeSoftHsm('the endpoints on SoftHSM', () => {
  const options = { ...makeToken('endpoints'), composedMac: true }

  describe.each(['TLSv1.2', 'TLSv1.3'] as const)('over %s', version => {
    endpointContract(version, () => World.open(keys => openWith(options, keys)))
  })
})
