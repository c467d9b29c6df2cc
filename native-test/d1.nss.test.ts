/** The endpoints on NSS softokn, where PIN blocks are checked on the host as elsewhere. */
import { endpointContract } from '../test/d1/endpoints/support/cases.js'
import { World } from '../test/d1/endpoints/support/world.js'
import { describeNss, makeDatabase } from './nss.js'
import { openWith } from './provision.js'

describeNss('the endpoints on NSS softokn', () => {
  const options = makeDatabase()
  endpointContract('TLSv1.3', () => World.open(keys => openWith(options, keys)))
})
