/** Where a run says what it has to say, kept. */
import type { Output } from '../../src/program.js'

export interface KeptOutput extends Output {
  readonly output: string[]
  readonly errors: string[]
}

export function keptOutput(): KeptOutput {
  const output: string[] = []
  const errors: string[] = []
  return { output, errors, out: text => void output.push(text), err: text => void errors.push(text) }
}
