#!/usr/bin/env node
/** The program `d1-simulator`. */
import { type Output, program } from './program.js'

// A reader that has seen enough (`| head`) is no reason for a stack.
process.stdout.on('error', () => process.exit(1))

// Once: the case under way ends, and the PINs are set back. Twice ends the process at once.
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

// Not process.exit: what has been written may still be on its way.
const output: Output = {
  out: text => void process.stdout.write(`${text}\n`),
  err: text => void process.stderr.write(`${text}\n`),
}
program(process.argv.slice(2), output, { signal: stop.signal }).then(code => {
  process.exitCode = code
})
