/** An Io whose streams are kept. */
import type { Io } from '../../../src/cli/command.js'

export interface KeptIo extends Io {
  readonly output: string[]
  readonly errors: string[]
}

export function keptIo({
  stdin = '',
  env = {},
  secret,
  terminal = false,
  interrupted,
}: {
  readonly stdin?: string | Buffer
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly secret?: string
  readonly terminal?: boolean
  readonly interrupted?: AbortSignal
} = {}): KeptIo {
  const output: string[] = []
  const errors: string[] = []
  return {
    output,
    errors,
    out: text => void output.push(text),
    err: text => void errors.push(text),
    readStdin: async () => Buffer.from(stdin),
    askSecret: async () => secret,
    env,
    ...(terminal && { progress: (text: string) => void errors.push(text) }),
    ...(interrupted !== undefined && { interrupted: () => interrupted }),
  }
}
