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
  secrets,
  onAsk,
  onHush,
  terminal = false,
  columns,
  interrupted,
}: {
  readonly stdin?: string | Buffer
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly secret?: string
  /** What is typed, one answer after the other. */
  readonly secrets?: readonly string[]
  /** Hears of each question before it is answered. */
  readonly onAsk?: (question: string) => void
  /** Hears when the terminal is hushed (true), and when it is given back. */
  readonly onHush?: (hushed: boolean) => void
  readonly terminal?: boolean
  readonly columns?: number
  readonly interrupted?: AbortSignal
} = {}): KeptIo {
  const output: string[] = []
  const typed = [...(secrets ?? [])]
  const errors: string[] = []
  return {
    output,
    errors,
    out: text => void output.push(text),
    err: text => void errors.push(text),
    readStdin: async () => Buffer.from(stdin),
    askSecret: async question => {
      onAsk?.(question)
      return secrets === undefined ? secret : typed.shift()
    },
    env,
    ...(onHush !== undefined && {
      hush: () => {
        onHush(true)
        return () => onHush(false)
      },
    }),
    ...(terminal && { progress: (text: string) => void errors.push(text) }),
    ...(columns !== undefined && { columns }),
    ...(interrupted !== undefined && { interrupted: () => interrupted }),
  }
}
