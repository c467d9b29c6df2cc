/**
 * A call that is given up ends then, wherever it is: for every public verb that works with a key, one operation of the backend after the
 * other hangs until it hears of the signal, which fires, and the verb must have ended with ERR_ABORTED, for the reason that was given. One that
 * comes to its end leaves no listener on the signal.
 */
import { getEventListeners } from 'node:events'
import { setImmediate as nextTurn, setTimeout } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { BackendDriver } from '../src/backend/driver.js'
import { operationsOf } from '../src/backend/key.js'
import { AbortedError } from '../src/base/errors.js'
import { type Backend, isIssuerPinError, type Key, openBackend } from '../src/index.js'
import { CORE } from './leaks/cases-core.js'
import { D1 } from './leaks/cases-d1.js'
import { bindAll, openSoftware, type World, worldOn } from './leaks/world.js'

/** A backend whose operations are counted, and of which one is never answered. */
class Holding {
  calls = 0
  /** Which of the calls is never answered, from 1. */
  at = 0

  async backend(): Promise<Backend> {
    const inner = await openSoftware()
    const keys = Object.values(await bindAll(inner))
    const held = <T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> => {
      if (++this.calls !== this.at) return call()
      return new Promise<T>((_, reject) => {
        signal?.addEventListener('abort', () => reject(new AbortedError(signal.reason)))
      })
    }
    const driver: BackendDriver<Key> = {
      name: 'holding',
      find: query => {
        const ref = keys.find(({ kid }) => kid === query.kid) ?? expect.fail(query.kid)
        const { algorithm, checkValue, parity, publicJwk } = ref
        return { ref, algorithm, checkValue, parity, ...(publicJwk && { publicJwk }) }
      },
      encipher: (ref, blocks, signal) => held(signal, () => operationsOf(ref).encipher(blocks)),
      decipher: (ref, blocks, signal) => held(signal, () => operationsOf(ref).decipher(blocks)),
      decipherVariant: (ref, mask, blocks, signal) =>
        held(signal, () => operationsOf(ref).decipherVariant(mask, blocks)),
      reencipher: (from, to, blocks, signal) => held(signal, () => operationsOf(from).reencipher(to, blocks)),
      verifyPin: (first, second, request, signal) =>
        held(signal, () => operationsOf(first).verifyPin(second, request)),
      mac: (ref, request, message, signal) => held(signal, () => operationsOf(ref).mac(request, message)),
      deriveContentKey: (ref, request, signal) =>
        held(signal, () => operationsOf(ref).deriveContentKey(request)),
      sign: (ref, message, signal) => held(signal, () => operationsOf(ref).sign(message)),
      randomBytes: (length, signal) => held(signal, () => inner.randomBytes(length)),
      capabilities: () => inner.capabilities(),
      health: signal => held(signal, () => inner.health()),
      close: () => inner.close(),
    }
    return openBackend(driver)
  }
}

/** Until it is so, or for turns enough that it never will be. */
async function turnsUntil(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await (i < 1000 ? nextTurn() : setTimeout(1))
}

test('every verb', async () => {
  const holding = new Holding()
  const backend = await holding.backend()
  const world = await worldOn(backend)
  const wrong: string[] = []
  let looked = 0
  for (const leakCase of [...CORE, ...D1]) {
    if (leakCase.pure === true || leakCase.slow === true) continue
    const begin = async (options: World['options']) => {
      const own = { ...world, options }
      const args = await leakCase.args(own)
      holding.calls = 0
      return Promise.resolve()
        .then(() => leakCase.call(args, own))
        .then(
          () => undefined,
          (error: unknown) => error,
        )
    }
    holding.at = 0
    const { signal } = new AbortController()
    await begin({ signal })
    const left = getEventListeners(signal, 'abort').length
    if (left > 0) wrong.push(`${leakCase.verb}: ${left} listeners left on its signal`)
    const calls = holding.calls
    for (let at = 1; at <= calls; at++) {
      const controller = new AbortController()
      let ended: unknown = 'nothing'
      holding.at = at
      void begin({ signal: controller.signal }).then(error => {
        ended = error
      })
      await turnsUntil(() => holding.calls === at || ended !== 'nothing')
      const before = ended
      controller.abort('given up')
      await turnsUntil(() => ended !== 'nothing')
      looked++
      const isRight =
        before === 'nothing' &&
        isIssuerPinError(ended) &&
        ended.code === 'ERR_ABORTED' &&
        ended.cause === 'given up'
      if (!isRight) wrong.push(`${leakCase.verb}, at ${at} of ${calls}: ${String(before)}, ${String(ended)}`)
    }
  }
  expect(wrong).toEqual([])
  expect(looked).toBeGreaterThan(80)
})
