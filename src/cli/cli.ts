#!/usr/bin/env node
/** The program `issuer-pin-crypto`. */

import { main } from './main.js'
import { processIo } from './terminal.js'

// A reader that has seen enough (`| head`) is no reason for a stack.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => process.exit(1))

// Until the command has ended: a process that runs out of things to wait for has not done what it was asked.
process.exitCode = 1
// Not process.exit: what has been written may still be on its way.
main(process.argv.slice(2), processIo(process)).then(code => {
  process.exitCode = code
})
