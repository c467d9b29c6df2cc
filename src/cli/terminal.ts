/** The process as a command sees it: its streams, environment and signals, and a prompt that shows nothing of what is typed. */
import { StringDecoder } from 'node:string_decoder'
import { bufferOf, concatBytes, wipe } from '../base/bytes.js'
import { AbortedError } from '../base/errors.js'
import type { Io } from './command.js'

const ENTER: readonly string[] = ['\r', '\n', '\u0004']
const INTERRUPT = '\u0003'
const BACKSPACE: readonly string[] = ['\b', '\u007f']
/** Ctrl-U: the line begins anew. */
const ANEW_LINE = '\u0015'
/** What arrow and function keys send, and what terminals put around what is pasted: ESC, and then `[…` or `O…`. */
const KEYS = new RegExp(`${String.fromCharCode(0x1b)}(?:\\[[0-9;?]*[ -/]*[@-~]|O.)`, 'g')

/** A terminal, as far as the prompt needs one. */
export interface Terminal {
  readonly isTTY?: boolean
  setRawMode?(on: boolean): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  off(event: 'data', listener: (chunk: Buffer) => void): unknown
  resume(): unknown
  pause(): unknown
}

interface Question {
  typed: string
  readonly answer: (typed: string) => void
  readonly interrupt: () => void
}

/**
 * Asks for lines without echo. Questions go where `show` puts them, so that standard output stays clean. While it is hushed, the
 * terminal also shows nothing between two questions, and what is typed there belongs to neither of them.
 */
export class SecretPrompt {
  readonly #terminal: Terminal
  readonly #show: (text: string) => void
  readonly #take = (chunk: Buffer): void => this.#hear(this.#decoder.write(chunk).replaceAll(KEYS, ''))
  #decoder = new StringDecoder('utf8')
  #question: Question | undefined
  #hushed = false
  #interrupted = false
  #listens = false

  constructor(terminal: Terminal, show: (text: string) => void) {
    this.#terminal = terminal
    this.#show = show
  }

  /** The line that is typed; undefined where there is no terminal. `ERR_ABORTED` after Ctrl-C. */
  ask(question: string): Promise<string | undefined> {
    if (this.#terminal.isTTY !== true) return Promise.resolve(undefined)
    if (this.#interrupted) return Promise.reject(new AbortedError('Ctrl-C'))
    this.#show(question)
    return new Promise((resolve, reject) => {
      this.#question = { typed: '', answer: resolve, interrupt: () => reject(new AbortedError('Ctrl-C')) }
      this.#listen()
    })
  }

  /** Hushes the terminal until the function it gives is called. */
  hush(): () => void {
    if (this.#terminal.isTTY !== true) return () => {}
    this.#hushed = true
    this.#listen()
    return () => {
      this.#hushed = false
      this.#listen()
    }
  }

  #listen(): void {
    const listens = this.#hushed || this.#question !== undefined
    if (listens === this.#listens) return
    this.#listens = listens
    this.#terminal.setRawMode?.(listens)
    if (listens) {
      this.#terminal.on('data', this.#take)
      this.#terminal.resume()
    } else {
      this.#terminal.off('data', this.#take)
      this.#terminal.pause()
    }
  }

  #hear(text: string): void {
    for (const character of text) {
      const question = this.#question
      if (character === INTERRUPT) {
        this.#interrupted = true
        if (question !== undefined) this.#end(question.interrupt)
        return
      }
      // What was typed ahead is nobody's. It is looked through all the same: Ctrl-C may come at once with it.
      if (question === undefined) continue
      if (ENTER.includes(character)) this.#end(() => question.answer(question.typed))
      else if (BACKSPACE.includes(character)) question.typed = question.typed.slice(0, -1)
      else if (character === ANEW_LINE) question.typed = ''
      else if (character >= ' ' || character === '\t') question.typed += character
    }
  }

  #end(tell: () => void): void {
    this.#question = undefined
    this.#decoder = new StringDecoder('utf8')
    this.#listen()
    this.#show('\n')
    tell()
  }
}

/** All of a stream, up to a little more than any command takes. What it came in is wiped: there may be PINs in it. */
export async function readAll(stream: AsyncIterable<Buffer>, maxBytes = 2_097_152): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of stream) {
      chunks.push(chunk)
      length += chunk.length
      if (length > maxBytes) break
    }
    return bufferOf(concatBytes(...chunks))
  } finally {
    wipe(...chunks)
  }
}

/** Of a terminal: to the line's begin, and what was there is cleared. */
const CLEARED = '\r\x1b[K'

/** The streams, environment and signals of a process. Progress is shown on a terminal only, and gives way to what comes after it. */
export function processIo(
  host: Pick<NodeJS.Process, 'stdin' | 'stdout' | 'stderr' | 'env' | 'once'> & {
    readonly report?: Io['report']
  },
): Io {
  const { stdout, stderr, env, report } = host
  let shown = false
  const clear = (): void => {
    if (shown) stderr.write(CLEARED)
    shown = false
  }
  const write = (stream: { write(text: string): unknown }, text: string): void => {
    clear()
    stream.write(text)
  }
  // Not before it is needed: Node makes a pipe that it opens as standard input one that does not wait, also for `--key-fd 0`.
  let prompt: SecretPrompt | undefined
  const prompted = (): SecretPrompt => {
    prompt ??= new SecretPrompt(host.stdin, text => write(stderr, text))
    return prompt
  }
  return {
    ...(stdout.isTTY === true && stdout.columns > 0 && { columns: stdout.columns }),
    ...(stderr.isTTY === true && {
      progress: text => {
        stderr.write(`${CLEARED}${text}`)
        shown = text !== ''
      },
    }),
    interrupted: () => {
      const controller = new AbortController()
      for (const signal of ['SIGINT', 'SIGTERM'] as const) host.once(signal, () => controller.abort())
      return controller.signal
    },
    out: text => write(stdout, `${text}\n`),
    err: text => write(stderr, `${text}\n`),
    readStdin: () => readAll(host.stdin),
    askSecret: question => prompted().ask(question),
    hush: () => prompted().hush(),
    env,
    ...(report !== undefined && { report }),
  }
}
