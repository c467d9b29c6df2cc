/**
 * The process is clean after each file of tests: no warning of Node's was written meanwhile, no timer, server, socket, file
 * watcher, thread, child process or listener, of the process or of a signal, is left that was not there before, and no stand-in
 * has seen what no sound caller does. Runs in every unit test file.
 */
import { afterAll, beforeAll, expect, vi } from 'vitest'
import { closeAll } from './at-end.js'
import { takeComplaints } from './complaints.js'

/** What keeps a process alive, as Node names it; what vitest itself has open is of other kinds, or there before. */
const KINDS =
  /^(TCP\w*|TLSWrap|PipeServerWrap|ProcessWrap|FSEventWrap|StatWatcher|HTTP\w*|MessagePort|Worker)$/

const resources = (): string[] =>
  process
    .getActiveResourcesInfo()
    .filter(name => KINDS.test(name))
    .sort()

/**
 * What is said on purpose: of what is experimental in Node, in the tests of a TLS that is switched off by name, and of a
 * certificate that is about to expire (D1’s test certificates are good for longer than the warning’s 30 days), and of a member of Node’s that a
 * look at everything looks at.
 */
const MEANT =
  /^ExperimentalWarning|NODE_TLS_REJECT_UNAUTHORIZED|certificate for D1 (expires|has expired)|OutgoingMessage\.prototype\._headers/

/** The places of the library and of the tests in a stack, innermost first. */
const placeOf = ({ stack = '' }: Error): string =>
  (stack.match(/[^(\s]*\/(?:src|test)\/[^)\s]*/g) ?? []).slice(1, 5).join(' < ')
/**
 * Timers that a file of tests or the library began, and where: vitest has kept the real functions for its own. A stack is
 * made into text, and looked up in source maps, when somebody reads it: that is where a timer was left, and nowhere else.
 */
const timers = new Map<NodeJS.Timeout, Error>()
const realOnes: (() => void)[] = []
function watchTimers(): void {
  for (const name of ['setTimeout', 'setInterval'] as const) {
    const real = globalThis[name]
    realOnes.push(() => {
      globalThis[name] = real as never
    })
    const watched = (...args: Parameters<typeof real>): NodeJS.Timeout => {
      const timer = Reflect.apply(real, globalThis, args) as NodeJS.Timeout
      timers.set(timer, new Error())
      return timer
    }
    globalThis[name] = Object.assign(watched, real) as never
  }
}
/** Node marks a timer that has fired or was cleared; one that keeps nothing alive may stay. */
const running = (): string[] =>
  [...timers]
    .filter(([timer]) => Reflect.get(timer, '_destroyed') === false && timer.hasRef())
    .map(([, begun]) => `a timer begun ${placeOf(begun)}`)

/** Signals on which the library waits (`whenAborted` is where it does), and for whom: a call that has ended waits no more. */
const waitedFor = new Map<EventTarget, Error>()
const { addEventListener, removeEventListener } = EventTarget.prototype
type Listening = Parameters<typeof addEventListener>

/** The function that called the one that asks, without a stack in words. */
function callerOf(asking: (...args: never[]) => unknown): string | null | undefined {
  const { prepareStackTrace, stackTraceLimit } = Error
  const at: { stack?: NodeJS.CallSite[] } = {}
  try {
    Error.prepareStackTrace = (_, sites) => sites
    Error.stackTraceLimit = 1
    Error.captureStackTrace(at, asking)
    return at.stack?.[0]?.getFunctionName()
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit })
  }
}

function listening(this: EventTarget, ...args: Listening) {
  if (args[0] === 'abort' && callerOf(listening) === 'whenAborted') waitedFor.set(this, new Error())
  return Reflect.apply(addEventListener, this, args)
}
function listensNoMore(this: EventTarget, ...args: Listening) {
  if (args[0] === 'abort') waitedFor.delete(this)
  return Reflect.apply(removeEventListener, this, args)
}
function watchSignals(): void {
  Object.assign(EventTarget.prototype, {
    addEventListener: listening,
    removeEventListener: listensNoMore,
  })
  realOnes.push(() => Object.assign(EventTarget.prototype, { addEventListener, removeEventListener }))
}
const waiting = (): string[] =>
  [...waitedFor]
    .filter(([signal]) => signal instanceof AbortSignal && !signal.aborted)
    .map(([, begun]) => `a wait for a signal, begun ${placeOf(begun)}`)

/** Vitest's own come and go; those at the end of the process are there to clean up. */
const NOT_OURS = /^(message|disconnect|internalMessage|exit|SIG\w+|newListener|removeListener)$/
const listeners = (): ReadonlyMap<string, number> =>
  new Map(
    process
      .eventNames()
      .map(name => [String(name), process.listenerCount(name)] as const)
      .filter(([name]) => !NOT_OURS.test(name)),
  )
const warnings: string[] = []
const warned = (warning: Error): void => {
  const text = `${warning.name}: ${warning.message}`
  if (!MEANT.test(text)) warnings.push(text)
}
/**
 * The PKCS#11 modules that somebody of this process has not given back: nobody could initialise one of them anew. What plays a
 * process that is killed (`in-thread.ts`) leaves what went with one.
 */
const modules = (): string[] => {
  const table = Reflect.get(globalThis, Symbol.for('issuer-pin-crypto.pkcs11.modules.2'))
  return [...(table?.keys() ?? [])].filter(path => !/\.so\.\d+$/.test(path))
}

let modulesBefore: readonly string[]
let listenersBefore: ReadonlyMap<string, number>
let before: readonly string[]

/** From when the file is loaded; anew where it runs again in the same process (`tools/plant`). */
function watch(): void {
  if (realOnes.length > 0) return
  timers.clear()
  waitedFor.clear()
  warnings.length = 0
  watchTimers()
  watchSignals()
  process.on('warning', warned)
  realOnes.push(() => process.off('warning', warned))
  listenersBefore = listeners()
  modulesBefore = modules()
  before = resources()
}
watch()
beforeAll(watch)

/** What is there and was not before. */
function added(): string[] {
  const left = resources()
  for (const name of before) {
    const at = left.indexOf(name)
    if (at >= 0) left.splice(at, 1)
  }
  const more = [...listeners()].filter(([name, count]) => count > (listenersBefore.get(name) ?? 0))
  return [
    ...left,
    ...running(),
    ...waiting(),
    ...modules()
      .filter(path => !modulesBefore.includes(path))
      .map(path => `a user of the module ${path}`),
    ...more.map(([name]) => `a listener of the process for ${name}`),
  ]
}

afterAll(async () => {
  // Files that share a process begin with what is real, each of them.
  vi.useRealTimers()
  vi.restoreAllMocks()
  vi.unstubAllGlobals()
  vi.unstubAllEnvs()
  await closeAll()
  // What was closed just now is gone some turns of the event loop later; what was left is still there after any number.
  for (let turn = 0; turn < 200 && added().length > 0; turn++)
    await new Promise(resolve => setImmediate(resolve))
  for (const restore of realOnes.splice(0)) restore()
  expect(warnings, 'warnings of the process').toEqual([])
  expect(added(), 'what this file of tests left open').toEqual([])
  expect(takeComplaints(), 'what a stand-in saw').toEqual([])
})
