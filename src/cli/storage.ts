/**
 * `storage`: how many PIN blocks are under which key, and moving them, the PANs and the seals of rows to other keys while the
 * service runs. Store and keys are opened by a module of the operator's: no key and no password is ever on a command line.
 */
import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Key } from '../backend/key.js'
import { resealPans, resealRows, rotateStorageKey } from '../d1.js'
import type { IssuerStore } from '../stores/issuer-store.js'
import { type Command, type ExitCode, type Io, UsageError } from './command.js'
import { show, tableOf } from './shown.js'
import { commandOfVerbs, need, numberOf, optionsOf, type Values, type Verb } from './verbs.js'

const OPTIONS = optionsOf('config', 'batch', 'json')

/** What the operator's module gives. */
export interface StorageConfig {
  readonly store: IssuerStore
  /** For `rotate`: the storage key that ends, and the one that takes over. */
  readonly from?: Key
  readonly to?: Key
  /** Closes what was opened besides the store. */
  readonly close?: () => unknown
}

interface Work {
  readonly io: Io
  readonly values: Values
  readonly config: StorageConfig
  readonly batch: { readonly batch?: number }
  readonly signal: AbortSignal
}

const VERBS = {
  async count({ io, values, config: { store } }: Work): Promise<ExitCode> {
    const blocks = await store.pins.countBlocks()
    const seals = (await store.seals?.count()) ?? []
    const rows = [
      ...blocks.map(one => ['PIN blocks', one.kid, String(one.blocks)]),
      ...seals.map(one => ['sealed cards', one.kid, String(one.cards)]),
    ]
    show(values, io, { blocks, seals }, tableOf(['what', 'kid', 'how many'], rows, io))
    return 0
  },

  async rotate({ io, values, config, batch, signal }: Work): Promise<ExitCode> {
    const { store, from, to } = config
    if (from === undefined || to === undefined)
      throw new UsageError('the module must give from and to, the two storage keys')
    const found = (await store.pins.countBlocks()).find(({ kid }) => kid === from.kid)
    const bar = progressOf(io, found?.blocks ?? 0)
    const result = await rotateStorageKey(
      { store, from, to, ...batch, onProgress: progress => bar(progress.moved) },
      { signal },
    )
    const { moved, changed, left } = result
    const words = `${moved} blocks moved from ${from.kid} to ${to.kid}, ${left} left; ${changed} were set meanwhile`
    show(values, io, { from: from.kid, to: to.kid, ...result }, words)
    if (left > 0)
      io.err(
        `a replica still stores under ${from.kid}: give it both keys, the new one first, and run this again`,
      )
    return left === 0 ? 0 : 1
  },

  async pans({ io, values, config: { store }, batch, signal }: Work): Promise<ExitCode> {
    const bar = progressOf(io, undefined)
    const cards = await resealPans({ store, ...batch, onProgress: done => bar(done) }, { signal })
    show(values, io, { cards }, `the PANs of ${cards} cards are under the first key of the sealer`)
    return 0
  },

  async rows({ io, values, config: { store }, batch, signal }: Work): Promise<ExitCode> {
    const bar = progressOf(io, undefined)
    const cards = await resealRows({ store, ...batch, onProgress: done => bar(done) }, { signal })
    show(
      values,
      io,
      { cards },
      `the rows of ${cards} cards match their seals, under the first key of the sealer`,
    )
    return 0
  },
}

const WIDTH = 30

/** A bar that stays on one line of a terminal; elsewhere a line for each tenth, or for each 100,000. */
function progressOf(io: Io, total: number | undefined): (done: number) => void {
  let shown = 0
  return done => {
    const share = total === undefined || total === 0 ? undefined : Math.min(1, done / total)
    if (io.progress !== undefined) {
      const filled = Math.round((share ?? 0) * WIDTH)
      const bar = share === undefined ? '' : `[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] `
      io.progress(`${bar}${done}${total === undefined ? '' : ` of ${total}`}`)
      return
    }
    const step = share === undefined ? Math.floor(done / 100_000) : Math.floor(share * 10)
    if (step === shown) return
    shown = step
    io.err(`${done}${total === undefined ? '' : ` of ${total}`}`)
  }
}

/** How the module is loaded; a test gives its own. */
type LoadConfig = (path: string) => Promise<unknown>

/** A device would be read without end. */
function isFile(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    return false
  }
}

const importModule: LoadConfig = async path => {
  if (!isFile(path)) throw new UsageError('--config: there is no such file')
  try {
    return await import(pathToFileURL(resolve(path)).href)
  } catch {
    // What went wrong there may quote what is in it.
    throw new UsageError('--config: the module does not load; try it with node')
  }
}

async function openConfig(loaded: unknown): Promise<StorageConfig> {
  const { default: open } = Object(loaded)
  if (typeof open !== 'function')
    throw new UsageError('--config: the module must have a function as its default')
  const config: StorageConfig = await open()
  if (typeof config?.store?.pins?.countBlocks === 'function') return config
  // What it has opened all the same is not left open. That it gives no store is what there is to say.
  await (async () => config?.close?.())().catch(() => undefined)
  throw new UsageError('--config: the function must give { store }')
}

/** `issuer-pin-crypto storage`, over some way to load a module. */
export function storageCommand(load: LoadConfig = importModule): Command {
  const verb = (work: (typeof VERBS)[keyof typeof VERBS]): Verb => ({
    options: OPTIONS,
    input: false,
    run: async (values, _file, io) => {
      const batch = values['batch'] === undefined ? {} : { batch: numberOf(values, 'batch', [1, 8192]) }
      const config = await openConfig(await load(need(values, 'config')))
      try {
        const signal = io.interrupted?.() ?? new AbortController().signal
        return await work({ io, values, config, batch, signal })
      } finally {
        // The store first, for its keys may be what else there is to close; and that, whatever becomes of the store.
        try {
          await config.store.close()
        } finally {
          await config.close?.()
        }
      }
    },
  })
  return commandOfVerbs(
    {
      name: 'storage',
      summary: 'move stored PIN blocks, PANs and seals of rows to other keys',
      help: `usage: issuer-pin-crypto storage count|rotate|pans|rows --config MODULE
         [--batch N] [--json]

  count   how many PIN blocks and seals there are, by the kid they are under
  rotate  moves every PIN block from one storage key to another
  pans    seals every PAN under the first key of the store's panSealer
  rows    verifies every card's seal, and seals it under the first key of the
          store's rowSealer

The service runs meanwhile, with both keys; in which order its replicas get
them: docs/databases.md. Interrupted (Ctrl-C) it ends after the batch under way;
run again, it goes on with what is left. Exit code 1: not all is moved.

  --config  a module whose default is an async function that gives
            { store, from, to, close }: an opened IssuerStore, for rotate the
            two storage keys, and what closes their backends
  --batch   how many at once, 1 to 8192; 500 where absent
  --json    the result as JSON`,
    },
    Object.fromEntries(Object.entries(VERBS).map(([name, work]) => [name, verb(work)])),
  )
}
