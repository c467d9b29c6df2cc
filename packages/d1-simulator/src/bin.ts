#!/usr/bin/env node
/** The program `d1-simulator`. */
import { type Output, program } from './program.js'

// A reader that has seen enough (`| head`) is no reason for a stack.
process.stdout.on('error', () => process.exit(1))

// Once: the case under way ends, and the PINs are set back. Twice ends the process at once.
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

const { stdout, stderr } = process
/** Of a terminal: to the line's begin, and what was there is cleared. */
const CLEARED = '\r\x1b[K'
let shown = false
const write = (stream: NodeJS.WriteStream, text: string): void => {
  if (shown) stderr.write(CLEARED)
  shown = false
  stream.write(text)
}

// Not process.exit: what has been written may still be on its way.
const output: Output = {
  out: text => write(stdout, `${text}\n`),
  err: text => write(stderr, `${text}\n`),
  ...(stderr.isTTY && {
    progress: (text: string) => {
      write(stderr, text)
      shown = text !== ''
    },
  }),
}
program(process.argv.slice(2), output, { signal: stop.signal }).then(code => {
  process.exitCode = code
})
