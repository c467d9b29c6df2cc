/**
 * The choice of an executor: in this thread, in threads, or in a child process. `auto` measures how long a call takes, for
 * one that is slow holds up the event loop.
 */
import type { LoadBinding } from '../binding/binding.js'
import type { TokenFacts } from '../session/connection.js'
import type { Settings } from '../session/options.js'
import { STARTER, type Starter } from './channels.js'
import { LostHost } from './dispatcher.js'
import type { Executor } from './executor.js'
import { InlineExecutor } from './inline.js'
import { ProcessExecutor } from './process.js'
import { ThreadsExecutor } from './threads.js'

/** Slower than this, a call does not belong in the main thread, whose event loop it holds up. */
export const SLOW_MS = 0.2

/** Opens the executor that the settings ask for; `auto` measures. Errors: as `pkcs11Backend`. */
export async function openRemote(
  settings: Settings,
  load: LoadBinding,
  known?: TokenFacts,
  starter: Starter = STARTER,
): Promise<Executor> {
  switch (settings.executor) {
    case 'inline':
      return InlineExecutor.open(settings, load, known)
    case 'threads':
      return ThreadsExecutor.open(settings, known, starter)
    case 'process':
      return ProcessExecutor.open(settings, starter)
    default: {
      if (known !== undefined && known.latencyMs > SLOW_MS)
        return ThreadsExecutor.open(settings, known, starter)
      const inline = await InlineExecutor.open(settings, load, known)
      const { facts } = inline
      if (facts.latencyMs <= SLOW_MS) return inline
      await inline.close()
      try {
        return await ThreadsExecutor.open(settings, facts, starter)
      } catch (error) {
        // Where no thread can be started (a bundle without its file), slow is better than not at all.
        if (error instanceof LostHost) return InlineExecutor.open(settings, load, facts)
        throw error
      }
    }
  }
}
