/**
 * An executor at the other end of a channel: a worker thread's message port, or a child process's descriptor. Jobs and
 * answers are plain data; memory that holds secrets is handed over where the channel can, and wiped on the side that is
 * done with it. Errors go by a code book, so that a failure is the same error on this side. The token PIN goes as an answer
 * to a question of the other end, when everything else there is ready.
 */
import { types } from 'node:util'
import { ownCopy, wipe } from '../../../base/bytes.js'
import { systemClock } from '../../../base/deadline.js'
import {
  AbortedError,
  ArgumentError,
  BackendError,
  type ErrorCode,
  InputError,
  isIssuerPinError,
  KeyError,
} from '../../../base/errors.js'
import { Pkcs11Error } from '../binding/errors.js'
import type { TokenFacts } from '../session/connection.js'
import type { Settings } from '../session/options.js'
import { LostHost } from './dispatcher.js'
import type { Executor, JobName, Jobs } from './executor.js'

/** Two ends that send plain data to each other, in order. */
export interface Channel {
  /** `transfer`: memory that goes with the message and is gone here. */
  send(message: Message, transfer: readonly ArrayBuffer[]): void
  /** Called for each message that comes, and once when no more can. */
  listen(receive: (message: Message) => void, closed: () => void): void
  /** Ends it: politely, or at once. */
  end(): void
  kill(): void
}

/** How the other end is to be opened: the settings without what is no data. */
interface HostSettings {
  readonly settings: Omit<Settings, 'onEvent'>
  readonly hasPin: boolean
  readonly known: TokenFacts | undefined
  /** Nobody else in the process uses the module, so it may be finalised. */
  readonly alone: boolean
}

/** The calls of an executor. */
type Call =
  | { readonly call: 'open'; readonly host: HostSettings }
  | { readonly call: 'perform'; readonly name: JobName; readonly job: Jobs[JobName]['job'] }
  | { readonly call: 'logIn' | 'letGo' | 'comeBack' | 'keepAlive' | 'close' }

export type Message =
  | ({ readonly id: number } & Call)
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: WireError }
  | { readonly pin: 'ask' }
  | PinGiven

interface PinGiven {
  readonly pin: 'given'
  readonly value: string | undefined
  readonly error: WireError | undefined
}

/** An error as plain data. */
interface WireError {
  readonly kind: 'pkcs11' | 'key' | 'input' | 'argument' | 'aborted' | 'backend'
  readonly code: ErrorCode
  readonly message: string
  readonly retryable: boolean
  readonly kid?: string | undefined
  readonly functionName?: string
  readonly returnValue?: number
}

/** Our errors hold no secret; what anything else says is not passed on. */
export function encodeError(error: unknown): WireError {
  if (error instanceof Pkcs11Error) {
    const { code, message, retryable, functionName, returnValue } = error
    return { kind: 'pkcs11', code, message, retryable, functionName, returnValue }
  }
  if (!isIssuerPinError(error)) {
    const message = 'the thread that makes the calls failed with an error that is not of its contract'
    return { kind: 'backend', code: 'ERR_BACKEND_FAILED', message, retryable: false }
  }
  const { code, message, retryable } = error
  const kind =
    error instanceof KeyError
      ? 'key'
      : error instanceof InputError
        ? 'input'
        : error instanceof ArgumentError
          ? 'argument'
          : error instanceof AbortedError
            ? 'aborted'
            : 'backend'
  return { kind, code, message, retryable, ...(error instanceof KeyError && { kid: error.kid }) }
}

export function decodeError(wire: WireError): Error {
  const { kind, code, message, retryable, kid, functionName = '', returnValue = 0 } = wire
  switch (kind) {
    case 'pkcs11':
      return new Pkcs11Error(functionName, returnValue, code)
    case 'key':
      return new KeyError(code, message, kid)
    case 'input':
      return new InputError(code, message)
    case 'argument':
      return new ArgumentError(message)
    case 'aborted':
      return new AbortedError(undefined)
    default:
      return new BackendError(code, message, { retryable })
  }
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
}

/** This end: an executor whose calls run at the other. */
export class RemoteHost {
  readonly #channel: Channel
  readonly #what: string
  readonly #pin: (() => string | Promise<string>) | undefined
  readonly #waiting = new Map<number, Waiting>()
  #next = 0
  #gone = false

  constructor(
    channel: Channel,
    what: string,
    pin: (() => string | Promise<string>) | undefined,
    lost: () => void,
  ) {
    this.#channel = channel
    this.#what = what
    this.#pin = pin
    channel.listen(
      message => this.#receive(message),
      () => {
        this.#leave()
        lost()
      },
    )
  }

  /** Whether the other end has gone, or was given up. */
  get isGone(): boolean {
    return this.#gone
  }

  /** Calls that have not been answered. */
  get underWay(): number {
    return this.#waiting.size
  }

  open(host: HostSettings): Promise<TokenFacts> {
    return this.#call({ call: 'open', host }, []) as Promise<TokenFacts>
  }

  perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Promise<Jobs[Name]['result']> {
    // Copies, which go with the message: the front's own are wiped when the caller is released, however that comes.
    const transfer: ArrayBuffer[] = []
    const sent = Object.fromEntries(
      Object.entries(job).map(([member, value]: [string, unknown]) => {
        if (!types.isUint8Array(value)) return [member, value]
        const copy = ownCopy(value)
        transfer.push(copy.buffer)
        return [member, copy]
      }),
    ) as Jobs[Name]['job']
    return this.#call({ call: 'perform', name, job: sent }, transfer) as Promise<Jobs[Name]['result']>
  }

  async tell(call: 'logIn' | 'letGo' | 'comeBack' | 'keepAlive' | 'close'): Promise<void> {
    await this.#call({ call }, [])
  }

  /** Ends the other end; politely it has closed before. */
  end(): void {
    this.#channel.end()
    this.#leave()
  }

  kill(): void {
    this.#channel.kill()
    this.#leave()
  }

  #call(call: Call, transfer: readonly ArrayBuffer[]): Promise<unknown> {
    if (this.#gone) {
      wipeMemory(transfer)
      return Promise.reject(new LostHost(this.#what))
    }
    const id = this.#next++
    return new Promise((resolve, reject) => {
      try {
        this.#channel.send({ id, ...call }, transfer)
      } catch (error) {
        wipeMemory(transfer)
        throw error
      }
      // What could not be sent waits for no answer; none comes within this turn.
      this.#waiting.set(id, { resolve, reject })
    })
  }

  #receive(message: Message): void {
    if ('pin' in message) {
      if (message.pin === 'ask') void this.#givePin()
      return
    }
    // What is asked for goes the other way, and answers nothing.
    if ('call' in message) return
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (waiting === undefined) {
      if ('value' in message && types.isUint8Array(message.value)) wipe(message.value)
    } else if ('error' in message) waiting.reject(decodeError(message.error))
    else waiting.resolve(message.value)
  }

  async #givePin(): Promise<void> {
    try {
      this.#channel.send({ pin: 'given', value: await this.#pin?.(), error: undefined }, [])
    } catch {
      // What it threw may quote the PIN, so it goes no further.
      const error = encodeError(new BackendError('ERR_PKCS11_LOGIN', 'the pin function failed'))
      this.#channel.send({ pin: 'given', value: undefined, error }, [])
    }
  }

  #leave(): void {
    this.#gone = true
    for (const [id, { reject }] of [...this.#waiting]) {
      this.#waiting.delete(id)
      reject(new LostHost(this.#what))
    }
  }
}

/** What was to go to the other end, and does not. */
function wipeMemory(transfer: readonly ArrayBuffer[]): void {
  for (const memory of transfer) wipe(new Uint8Array(memory))
}

/** Opens what is served at the other end. */
type OpenHost = (settings: Settings, host: HostSettings) => Promise<Executor>

/** The other end: serves one executor, and closes it when the channel is gone. */
export function serve(channel: Channel, open: OpenHost, ended: () => void): void {
  let executor: Executor | undefined
  let pinGiven: ((message: PinGiven) => void) | undefined
  const pin = (): Promise<string> =>
    new Promise((resolve, reject) => {
      pinGiven = ({ value, error }) => {
        pinGiven = undefined
        if (error !== undefined) reject(decodeError(error))
        else resolve(value ?? '')
      }
      channel.send({ pin: 'ask' }, [])
    })
  const run = async (message: { readonly id: number } & Call): Promise<unknown> => {
    if (message.call === 'open') {
      const { settings, hasPin } = message.host
      const login = { ...settings.login, pin: hasPin ? pin : undefined }
      executor = await open({ ...settings, login, onEvent: undefined }, message.host)
      return executor.facts
    }
    if (executor === undefined) throw new BackendError('ERR_BACKEND_FAILED', 'the token has not been opened')
    if (message.call !== 'perform') return executor[message.call]()
    try {
      return await executor.perform(message.name, message.job)
    } finally {
      wipeAll(message.job)
    }
  }
  channel.listen(
    message => {
      if ('pin' in message) {
        if (message.pin === 'given') pinGiven?.(message)
        return
      }
      if (!('call' in message)) return
      run(message).then(
        value => {
          const own = types.isUint8Array(value) ? ownCopy(value) : undefined
          if (types.isUint8Array(value)) wipe(value)
          channel.send({ id: message.id, value: own ?? value }, own === undefined ? [] : [own.buffer])
        },
        (error: unknown) => channel.send({ id: message.id, error: encodeError(error) }, []),
      )
    },
    () => {
      void Promise.resolve(executor?.close()).finally(ended)
    },
  )
}

/** What came with a job is this end's own, also what is in a list: the data of a derivation has the PAN in it. */
function wipeAll(value: unknown): void {
  if (types.isUint8Array(value)) wipe(value)
  else if (typeof value === 'object' && value !== null) Object.values(value).forEach(wipeAll)
}

/** Starts another end; `lost` is told when it has gone. */
export function hostOf(
  start: (lost: () => void) => Channel,
  what: string,
  settings: Settings,
  lost: () => void,
): RemoteHost {
  let host: RemoteHost | undefined
  const channel = start(() => {
    host?.kill()
    lost()
  })
  host = new RemoteHost(channel, what, settings.login.pin, lost)
  return host
}

/** Opens the token there. The PIN does not go with the settings: it is asked for. */
export function openHost(
  host: RemoteHost,
  { onEvent: _onEvent, login, ...settings }: Settings,
  known: TokenFacts | undefined,
  alone: boolean,
): Promise<TokenFacts> {
  const message: HostSettings = {
    settings: { ...settings, login: { ...login, pin: undefined } },
    hasPin: login.pin !== undefined,
    known,
    alone,
  }
  const { openMs } = settings.timeouts
  return within(host.open(message), openMs, `the token did not open within ${openMs} ms`)
}

/** Waits for something, but not for ever. */
export function within<T>(promise: Promise<T>, ms: number, problem: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = systemClock.after(ms, () => {
      reject(new BackendError('ERR_BACKEND_BUSY', problem, { retryable: true }))
    })
    promise.then(resolve, reject).finally(cancel)
  })
}
