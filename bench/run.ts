/** `npm run bench`: every speed target as a ratio against a raw peer, in one run on one machine. Exit 1: one missed. */
import { cpus } from 'node:os'
import { benchEndpoints } from './endpoints.js'
import { report } from './ratio.js'
import { benchSoftHsm } from './softhsm.js'
import { benchSoftware } from './software.js'

const [cpu] = cpus()
console.log(
  `Node ${process.version}, OpenSSL ${process.versions.openssl}, ${cpu?.model}, ${cpus().length} cores`,
)
report([...(await benchSoftware()), ...(await benchEndpoints()), ...(await benchSoftHsm())])
