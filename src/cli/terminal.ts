/** The process as an {@link Io}: its streams, its environment, and a prompt that shows nothing of what is typed. */
import type { Io } from './command.js'

const ENTER: readonly string[] = ['\r', '\n', '\u0004']
const INTERRUPT = '\u0003'
const BACKSPACE: readonly string[] = ['\b', '\u007f']

/** A terminal, as far as the prompt needs one. */
export interface Terminal {
  readonly isTTY?: boolean
  setRawMode?(on: boolean): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  off(event: 'data', listener: (chunk: Buffer) => void): unknown
  resume(): unknown
  pause(): unknown
}

/**
 * Asks for a line without echo; undefined where there is no terminal, or where it is interrupted. The question goes
 * where `show` puts it, so that standard output stays clean.
 */
export function askSecret(
  question: string,
  terminal: Terminal,
  show: (text: string) => void,
): Promise<string | undefined> {
  if (terminal.isTTY !== true) return Promise.resolve(undefined)
  show(question)
  terminal.setRawMode?.(true)
  return new Promise(resolve => {
    let typed = ''
    const finish = (answer: string | undefined): void => {
      terminal.off('data', take)
      terminal.setRawMode?.(false)
      terminal.pause()
      show('\n')
      resolve(answer)
    }
    const take = (chunk: Buffer): void => {
      for (const character of chunk.toString('utf8')) {
        if (ENTER.includes(character) || character === INTERRUPT) {
          finish(character === INTERRUPT ? undefined : typed)
          return
        }
        typed = BACKSPACE.includes(character) ? typed.slice(0, -1) : typed + character
      }
    }
    terminal.on('data', take)
    terminal.resume()
  })
}

/** All of a stream, up to a little more than any command takes. */
export async function readAll(stream: AsyncIterable<Buffer>, maxBytes = 2_097_152): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of stream) {
    chunks.push(chunk)
    length += chunk.length
    if (length > maxBytes) break
  }
  return Buffer.concat(chunks)
}

/** The streams and environment of a process. */
export function processIo(host: Pick<NodeJS.Process, 'stdin' | 'stdout' | 'stderr' | 'env'>): Io {
  const { stdin, stdout, stderr, env } = host
  return {
    out: text => void stdout.write(`${text}\n`),
    err: text => void stderr.write(`${text}\n`),
    readStdin: () => readAll(stdin),
    askSecret: question => askSecret(question, stdin, text => void stderr.write(text)),
    env,
  }
}
