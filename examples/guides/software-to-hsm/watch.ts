import { setTimeout as wait } from 'node:timers/promises'
import { type Backend, isIssuerPinError } from 'issuer-pin-crypto'

/** Tries a call again where the error says that this can help: a busy pool, a lost session, a fresh handle. Once. */
export async function onceMore<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    if (!isIssuerPinError(error) || !error.retryable) throw error
    await wait(100 + 100 * Math.random())
    return call()
  }
}

/**
 * Asks for the health of the keys until it is bad three times running, or `signal` fires. Take this replica out of the load
 * balancer then, and call somebody. Do not restart it: a lost login or device comes back by itself, and where the PIN is
 * refused every start is one more wrong try.
 */
export async function watchHealth(
  backend: Pick<Backend, 'health'>,
  { everyMs, signal }: { everyMs: number; signal: AbortSignal },
): Promise<'sick' | 'stopped'> {
  for (let bad = 0; !signal.aborted; ) {
    const { ok, detail } = await backend.health()
    bad = ok ? 0 : bad + 1
    if (!ok) console.error(`keys: ${detail}`)
    if (bad === 3) return 'sick'
    await wait(everyMs, undefined, { signal }).catch(() => {})
  }
  return 'stopped'
}
