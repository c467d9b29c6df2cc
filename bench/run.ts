/** `npm run bench`: every speed target as a ratio against a raw peer, in one run on one machine. Exit 1: one missed. */
import { cpus } from 'node:os'
import { report, type Verdict } from './ratio.js'
import { benchSoftware } from './software.js'

console.log(
  `Node ${process.version}, OpenSSL ${process.versions.openssl}, ${cpus()[0]?.model}, ${cpus().length} cores`,
)
const verdicts: Verdict[] = [...(await benchSoftware())]
report(verdicts)
