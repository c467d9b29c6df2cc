/**
 * The executor `process`: a child process, which itself runs inline or threads. A call that hangs is ended by killing the
 * child; a spare that is logged in already takes over at once, and all jobs under way are tried again there.
 */
import { afterUnheld } from '../../../base/deadline.js'
import { DEFAULTS } from '../../../base/defaults.js'
import type { TokenFacts } from '../session/connection.js'
import type { Settings } from '../session/options.js'
import type { Starter } from './channels.js'
import { LostHost } from './dispatcher.js'
import type { Executor, JobName, Jobs } from './executor.js'
import { hostOf, openHost, type RemoteHost, within } from './host.js'

/** How long a child may take to end what it does, and a spare to show that it is well. */
const GRACE_MS = DEFAULTS.pkcs11.childGraceMs.value
/** So many attempts to bring the token back in one child; after them it is tried in another. */
const ATTEMPTS = DEFAULTS.pkcs11.childAttempts.value
const REFILL_MS = DEFAULTS.pkcs11.spareAfterMs.value

export class ProcessExecutor implements Executor {
  readonly kind = 'process'
  readonly facts: TokenFacts
  readonly #settings: Settings
  readonly #starter: Starter
  onLost?: () => void
  #host: RemoteHost
  #spare: Promise<Child | undefined> | undefined
  #stuck = 0
  /** Attempts to come back in this child that have failed in a row. */
  #failed = 0
  #closing = false

  private constructor(child: Child, settings: Settings, starter: Starter) {
    this.#host = child.host
    const { facts } = child
    this.#watch(child)
    this.facts = facts
    this.#settings = settings
    this.#starter = starter
    this.#refill()
  }

  static async open(settings: Settings, starter: Starter): Promise<ProcessExecutor> {
    return new ProcessExecutor(await startChild(settings, starter, undefined), settings, starter)
  }

  /** As many as the child has sessions; inline it takes them one after the other. */
  get lanes(): number {
    return this.#settings.limits.max
  }

  /** Children killed because a call hung in them. */
  get stuck(): number {
    return this.#stuck
  }

  async perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): Promise<Jobs[Name]['result']> {
    const host = this.#host
    const cancel = afterUnheld(this.#settings.timeouts.callMs, () => {
      // The only way to end a native call that hangs.
      this.#stuck++
      host.kill()
    })
    try {
      return await host.perform(name, job)
    } finally {
      cancel()
    }
  }

  logIn(): Promise<void> {
    return within(
      this.#host.tell('logIn'),
      this.#settings.timeouts.openMs,
      'the token did not answer in time (logIn)',
    )
  }

  /** The child finalises the module; one that does not come to it in time has a call that hangs, and is killed. */
  async letGo(): Promise<void> {
    const host = this.#host
    await within(host.tell('letGo'), GRACE_MS, 'a call hangs').catch(() => host.kill())
  }

  /** In the same child as long as that helps, for it takes a tenth of the time; else in the spare, or in a new one. */
  async comeBack(): Promise<void> {
    const host = this.#host
    if (!host.isGone && this.#failed < ATTEMPTS) {
      try {
        const { openMs } = this.#settings.timeouts
        await within(host.tell('comeBack'), openMs, `the token did not open within ${openMs} ms`)
        this.#failed = 0
        void this.#checkSpare()
        return
      } catch (error) {
        this.#failed++
        if (!(error instanceof LostHost)) throw error
      }
    }
    this.#failed = 0
    const next = (await this.#takeSpare()) ?? (await startChild(this.#settings, this.#starter, this.facts))
    host.kill()
    if (this.#closing) {
      // Nobody will use it, and nobody else will end it.
      next.host.kill()
      throw new LostHost('process')
    }
    this.#host = next.host
    this.#watch(next)
    this.#refillLater()
  }

  async keepAlive(): Promise<void> {
    const spare = await this.#spare
    await Promise.all([this.#host.tell('keepAlive'), spare?.host.tell('keepAlive').catch(() => undefined)])
  }

  async close(): Promise<void> {
    this.#closing = true
    const { closeMs } = this.#settings.timeouts
    for (const host of [this.#host, (await this.#spare)?.host]) {
      if (host === undefined) continue
      await within(host.tell('close'), closeMs, 'closing took too long').catch(() => undefined)
      host.end()
      host.kill()
    }
  }

  /** Says when the child that does the work has gone, so that another is there before the next call. */
  #watch({ host, gone }: Child): void {
    void gone.then(() => {
      if (this.#host === host && !this.#closing) this.onLost?.()
    })
  }

  /** The spare, if it is well: it has been logged in all the time, and may have lost its login with the others. */
  async #takeSpare(): Promise<Child | undefined> {
    const waiting = this.#spare
    this.#spare = undefined
    const spare = await waiting
    if (spare === undefined) return undefined
    try {
      await within(spare.host.perform('pulse', {}), GRACE_MS, 'the spare hangs')
      return spare
    } catch {
      spare.host.kill()
      return undefined
    }
  }

  /** After the token was away, what the spare has may be of the time before. It stays the spare meanwhile: closing ends it. */
  async #checkSpare(): Promise<void> {
    if (this.#spare === undefined) return
    const checked = this.#takeSpare()
    this.#spare = checked
    if ((await checked) !== undefined || this.#spare !== checked) return
    this.#spare = undefined
    this.#refillLater()
  }

  /** When those who wait have been served: starting a process holds up this one. */
  #refillLater(): void {
    afterUnheld(REFILL_MS, () => this.#refill())
  }

  #refill(): void {
    if (!this.#settings.spare || this.#closing || this.#spare !== undefined) return
    this.#spare = startChild(this.#settings, this.#starter, this.facts).then(
      child => {
        if (!this.#closing) return child
        child.host.kill()
        return undefined
      },
      () => undefined,
    )
  }
}

/** A child process that has opened the token. */
interface Child {
  readonly host: RemoteHost
  readonly facts: TokenFacts
  /** Settles when it has gone. */
  readonly gone: Promise<void>
}

async function startChild(
  settings: Settings,
  starter: Starter,
  known: TokenFacts | undefined,
): Promise<Child> {
  let lost: () => void
  const gone = new Promise<void>(resolve => {
    lost = resolve
  })
  const host = hostOf(starter.process, 'process', settings, () => lost())
  try {
    // Inside, the child measures by itself what suits the token.
    const facts = await openHost(host, { ...settings, executor: 'auto', spare: false }, known, true)
    return { host, facts, gone }
  } catch (error) {
    host.kill()
    throw error
  }
}
