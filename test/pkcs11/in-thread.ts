/** Executors elsewhere that are in this thread after all: the other ends run here, on a fake token, a turn later. */
import { copyFileSync } from 'node:fs'
import { vi } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import { openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import type { Starter } from '../../src/backend/pkcs11/executor/channels.js'
import { type Channel, type Message, serve } from '../../src/backend/pkcs11/executor/host.js'
import { InlineExecutor } from '../../src/backend/pkcs11/executor/inline.js'
import type { KeyStoreOptions } from '../../src/pkcs11.js'
import { FakeToken } from './fake-token.js'
import { AT_ONCE, bindKey, optionsFor, provisionFake } from './support.js'

/** Two ends in this thread; messages arrive at a later turn, and `hold` keeps the answers back. */
export function pair(world: World): { near: Channel; far: Channel } {
  const ends = [0, 1].map(() => ({
    receive: undefined as ((message: Message) => void) | undefined,
    closed: undefined as (() => void) | undefined,
  }))
  let open = true
  const end = (): void => {
    if (!open) return
    open = false
    const [near, far] = ends
    far?.closed?.()
    // Told later, as the end of a thread or a process is.
    setImmediate(() => near?.closed?.())
  }
  const channel = (mine: number, theirs: number): Channel => ({
    send: (message, transfer) => {
      const clone = structuredClone(message, { transfer: [...transfer] })
      const sent =
        theirs === 0 && 'value' in clone && 'id' in clone && world.answering !== undefined
          ? { ...clone, value: world.answering(clone.value) }
          : clone
      const deliver = (): void => {
        if (open) ends[theirs]?.receive?.(sent)
      }
      if (theirs === 0 && 'id' in message && world.held?.length === 0) world.held.push(deliver)
      else setImmediate(deliver)
    },
    listen: (receive, closed) => {
      const at = ends[mine]
      if (at !== undefined) Object.assign(at, { receive, closed })
    },
    end,
    kill: end,
  })
  return { near: channel(0, 1), far: channel(1, 0) }
}

export interface World {
  /** Starts that come to nothing: their other end goes at once. */
  failing?: (number: number) => boolean
  held: (() => void)[] | undefined
  /** What the other end by this number plays on, where that is another token. */
  token?: (number: number) => FakeToken | undefined
  /** Changes what an other end answers. */
  answering?: (value: unknown) => unknown
  started: number
  /** Those that came to nothing. */
  failed?: number
  /** Other ends that have closed their executor. */
  ended?: number
  readonly kills: (() => void)[]
}

const worlds: World[] = []

/** Other ends that have been started since this was asked last, and have not ended: nobody could end one any more. */
export async function endsLeft(): Promise<number> {
  for (let i = 0; i < 20; i++) await turn()
  return worlds
    .splice(0)
    .reduce((left, { started, failed = 0, ended = 0 }) => left + started - failed - ended, 0)
}

/** Starts the other ends in this thread, on the fake. */
export function starterOn(fake: FakeToken, world: World): Starter {
  worlds.push(world)
  const start = (lost: () => void): Channel => {
    world.started++
    const { near, far } = pair(world)
    if (world.failing?.(world.started) === true) {
      world.failed = (world.failed ?? 0) + 1
      setImmediate(() => {
        near.kill()
        lost()
      })
      return near
    }
    // A thread counts the users of a module by itself: here, by a file of its own.
    const module = `${fake.path}.${world.started}`
    copyFileSync(fake.path, module)
    const played = world.token?.(world.started) ?? fake
    serve(
      far,
      (settings, { known, alone }) =>
        InlineExecutor.open({ ...settings, module }, played.load, known, { alone }),
      () => {
        world.ended = (world.ended ?? 0) + 1
      },
    )
    world.kills.push(() => {
      near.kill()
      lost()
    })
    return near
  }
  return { thread: start, process: start }
}

export async function openOn(
  executor: 'threads' | 'process',
  more: Partial<KeyStoreOptions> = {},
  given: Partial<World> = {},
) {
  const fake = new FakeToken()
  await provisionFake(fake, { composedMac: true })
  const world: World = { held: undefined, started: 0, kills: [], ...given }
  const options = { ...optionsFor(fake), executor, composedMac: true, ...more }
  const backend = await openPkcs11(options, fake.load, {
    surroundings: AT_ONCE,
    starter: starterOn(fake, world),
  })
  const key = await bindKey(backend, 'PEK-2')
  return { fake, world, backend, key, operations: operationsOf(key) }
}

export const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn()
}

/** As {@link until}, while so much time passes each turn. */
export async function untilAfter(ms: number, condition: () => boolean): Promise<void> {
  while (!condition()) {
    vi.advanceTimersByTime(ms)
    await turn()
  }
}
