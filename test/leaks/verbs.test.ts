/**
 * Every public verb, called rightly and wrongly on every kind of backend, with canaries in every place: they come out in
 * the result that is there to give them, and nowhere else. A new export without a case fails the last test.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Pin } from '../../src/index.js'
import type { LeakCase } from './cases.js'
import { CORE } from './cases-core.js'
import { D1 } from './cases-d1.js'
import { hostileValues, places, replaced } from './hostile.js'
import { leaksOf, leaksOfCall } from './look.js'
import { planted } from './secrets.js'
import { openSoftware, quotingBackend, Token, type World, worldOn } from './world.js'

const CASES: readonly LeakCase[] = [...CORE, ...D1]
const ON_BACKENDS = CASES.filter(({ pure }) => pure !== true)
const HOSTILE = hostileValues(planted)
const FEW = HOSTILE.filter(({ name }) => /^(?:all texts|bytes 0|a number|a symbol|a throwing .*)$/.test(name))
/** Cases by verb, for titles. */
const BY_VERB = [...new Set(CASES.map(({ verb }) => verb))].map(verb => ({
  verb,
  cases: CASES.filter(leakCase => leakCase.verb === verb),
}))

/** Everything a run writes by itself. */
const written: string[] = []
const undo: (() => void)[] = []
beforeAll(() => {
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write
    stream.write = ((chunk: string | Uint8Array, ...rest: never[]) => {
      written.push(String(chunk))
      return Reflect.apply(write, stream, [chunk, ...rest])
    }) as typeof write
    undo.push(() => {
      stream.write = write
    })
  }
  const warned = (warning: Error): void => {
    written.push(`${warning.stack}`)
  }
  process.on('warning', warned)
  undo.push(() => process.off('warning', warned))
})
afterAll(() => {
  for (const step of undo) step()
  expect(leaksOf({ result: written }, 'the output of the run')).toEqual([])
})

describe('in software, no verb shows a secret', () => {
  let world: World
  beforeAll(async () => {
    world = await worldOn(await openSoftware())
  })
  afterAll(() => world.backend.close())

  test.each(BY_VERB)('$verb: called rightly, and wrongly in every place', async ({ cases }) => {
    for (const leakCase of cases) {
      const { leaks, outcome } = await leaksOfCall(
        leakCase,
        await leakCase.args(world),
        world,
        'called rightly',
      )
      expect(leaks).toEqual([])
      if (leakCase.refused !== true && 'error' in outcome) throw outcome.error
      expect('error' in outcome).toBe(leakCase.refused === true)
      expect(await wrongCalls(leakCase, world)).toEqual([])
    }
  })

  test('a secret that comes as the name of an option is not repeated', async () => {
    const leaks: string[] = []
    for (const leakCase of CASES) {
      const args = await leakCase.args(world)
      for (const [i, arg] of args.entries()) {
        if (typeof arg !== 'object' || arg === null || Object.getPrototypeOf(arg) !== Object.prototype)
          continue
        for (const text of planted.texts) {
          const wrong = args.with(i, { ...arg, [text]: 1 })
          leaks.push(...(await leaksOfCall(leakCase, wrong, world, 'a name')).leaks)
        }
      }
    }
    expect(leaks).toEqual([])
  })

  test('the other keys in the place of each: wrong usage, wrong algorithm, another backend', async () => {
    await using other = await openSoftware()
    const others = Object.values((await worldOn(other)).keys)
    // Another key that fits is no mistake: then the result is the block under that one.
    const meant = ['carried key', 'stored block', 'shared block', 'clear block', 'content key']
    const leaks: string[] = []
    for (const leakCase of ON_BACKENDS) {
      const args = await leakCase.args(world)
      for (const path of places(args).filter(path =>
        /^(?:key|from|to|under|storage|d1Zpk|jweKeys|macKeys?|prwKey|keys)$/.test(path.at(-1) ?? ''),
      )) {
        for (const key of [...Object.values(world.keys), ...others]) {
          const what = `${key.kid} as ${path.join('.')}`
          const wrong = replaced(await leakCase.args(world), path, key)
          leaks.push(...(await leaksOfCall(leakCase, wrong, world, what, meant)).leaks)
        }
      }
    }
    expect(leaks).toEqual([])
  })

  test('a PIN that has been disposed of', async () => {
    const gone = Pin.from('4711')
    gone.dispose()
    const leaks: string[] = []
    for (const leakCase of CASES) {
      const args = await leakCase.args(world)
      for (const path of places(args).filter(path => path.at(-1) === 'pin')) {
        leaks.push(...(await leaksOfCall(leakCase, replaced(args, path, gone), world, 'a dead PIN')).leaks)
      }
    }
    expect(leaks).toEqual([])
  })
})

/** Each place of a call with each hostile value; all leaks of it. */
async function wrongCalls(leakCase: LeakCase, world: World): Promise<string[]> {
  const leaks: string[] = []
  for (const path of places(await leakCase.args(world))) {
    const member = path.at(-1) ?? ''
    for (const { name, value, isName } of leakCase.slow === true ? FEW : HOSTILE) {
      if (isName && leakCase.names?.includes(member)) continue
      const args = replaced(await leakCase.args(world), path, value)
      const run = await leaksOfCall(leakCase, args, world, `${name} as ${path.join('.')}`)
      if ('error' in run.outcome || !leakCase.echoes?.includes(member)) leaks.push(...run.leaks)
    }
  }
  return leaks
}

/** Runs the cases that need a backend, and says how many ended in an error. */
async function runAll(world: World, what: string): Promise<number> {
  let failed = 0
  const leaks: string[] = []
  for (const leakCase of ON_BACKENDS) {
    const run = await leaksOfCall(leakCase, await leakCase.args(world), world, what)
    leaks.push(...run.leaks)
    if ('error' in run.outcome) failed++
  }
  expect(leaks).toEqual([])
  return failed
}

/** Cases that are refused whatever the backend. */
const REFUSED = ON_BACKENDS.filter(({ refused }) => refused === true)

describe('no verb shows a secret', () => {
  test.each(['node:crypto', 'node-forge'] as const)('with %s', async engine => {
    await using backend = await openSoftware(engine)
    expect(await runAll(await worldOn(backend), engine)).toBe(REFUSED.length)
  })

  test('on a backend that is closed', async () => {
    const backend = await openSoftware()
    const world = await worldOn(backend)
    await backend.close()
    expect(await runAll(world, 'closed')).toBeGreaterThan(20)
  })

  test('with a signal that has fired', async () => {
    await using backend = await openSoftware()
    const world = await worldOn(backend, { signal: AbortSignal.abort() })
    expect(await runAll(world, 'aborted')).toBeGreaterThan(20)
  })

  test('on a driver whose errors quote everything it was given', async () => {
    const backend = await quotingBackend()
    expect(await runAll(await worldOn(backend), 'quoting driver')).toBeGreaterThan(20)
    const closing = await backend.close().then(
      () => ({ result: undefined }),
      (error: unknown) => ({ error }),
    )
    expect('error' in closing).toBe(true)
    expect(leaksOf(closing, 'close')).toEqual([])
  })

  test('on a token', async () => {
    const token = await Token.make()
    await using backend = await token.open()
    expect(await runAll(await worldOn(backend), 'token')).toBe(REFUSED.length)
  })

  test('on a token any of whose calls fails, with an error that quotes its arguments', async () => {
    const token = await Token.make()
    await using backend = await token.open({ sessions: { max: 1 } })
    const world = await worldOn(backend)
    const leaks: string[] = []
    let failed = 0
    for (const leakCase of ON_BACKENDS) {
      token.count()
      await leaksOfCall(leakCase, await leakCase.args(world), world, '')
      const calls = token.count()
      for (let at = 1; at <= calls; at++) {
        token.quoteAt = at
        const run = await leaksOfCall(leakCase, await leakCase.args(world), world, `call ${at} fails`)
        token.quoteAt = 0
        token.count()
        leaks.push(...run.leaks)
        if ('error' in run.outcome) failed++
      }
    }
    expect(leaks).toEqual([])
    expect(failed).toBeGreaterThan(50)
  })
})
