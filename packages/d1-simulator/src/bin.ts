#!/usr/bin/env node
/** The program `d1-simulator`. */
import { program } from './program.js'

// A reader that has seen enough (`| head`) is no reason for a stack.
process.stdout.on('error', () => process.exit(1))

// Not process.exit: what has been written may still be on its way.
program(process.argv.slice(2), {
  out: text => void process.stdout.write(`${text}\n`),
  err: text => void process.stderr.write(`${text}\n`),
}).then(code => {
  process.exitCode = code
})
