/**
 * Every target with some inputs, new ones in each run. What fails prints its seed and its input; run it again with
 * `FUZZ_SEED=<seed> npx vitest run --project 'unit*' test/fuzz`, or `npm run fuzz -- --target <name> --input <base64>`.
 * Many more inputs: `npm run fuzz -- --inputs 1e7`.
 */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { ArgumentError, InputError, Pin, PinBlockError } from '../../src/index.js'
import { arbitraryInput, BATCH, batchOf } from './support/inputs.js'
import { issuer } from './support/issuer.js'
import { attempt } from './support/oracle.js'
import { describeFinding, reduced, runOne, type Taken, took } from './support/run.js'
import { strictJson } from './support/strict-json.js'
import { check, type FuzzTarget } from './target.js'
import { TARGETS } from './targets/index.js'

const SEED = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31)

const find = (name: string): FuzzTarget =>
  TARGETS.find(target => target.name === name) ?? expect.fail(`there is no target ${name}`)

/** Where an input takes microseconds there are more of them. */
const runsOf = ({ share }: FuzzTarget): number => Math.round(Math.min(500, Math.max(30, 10 * share)))

afterAll(() => Promise.all(TARGETS.map(target => target.close?.())))

describe('whatever comes in', () => {
  test.each(TARGETS.map(target => [target.name, target] as const))('%s', async (name, target) => {
    const property = fc.asyncProperty(arbitraryInput(target), async input => {
      await runOne(target, input)
    })
    const result = await fc.check(property, { seed: SEED, numRuns: runsOf(target) })
    if (!result.failed) return
    const input = Buffer.from(result.counterexample?.[0] ?? [])
    expect.fail(
      `${name}: ${describeFinding(result.errorInstance)}\nFUZZ_SEED=${SEED}, or --target ${name} --input ${input.toString('base64')}`,
    )
  })

  test.each(TARGETS.map(target => [target.name, target] as const))('%s: its seeds', async (_, target) => {
    expect(target.seeds.length).toBeGreaterThan(0)
    for (const seed of target.seeds) await runOne(target, seed)
  })
})

interface Regression {
  readonly target: string
  readonly what: string
  readonly input: string
}

const CORPUS: readonly Regression[] = JSON.parse(
  readFileSync(new URL('corpus/regressions.json', import.meta.url), 'utf8'),
)

test.each(CORPUS)('once found, and still in order: $what', async ({ target, input }) => {
  await runOne(find(target), Uint8Array.from(Buffer.from(input, 'base64')))
})

describe('the oracle finds', () => {
  const bad: Readonly<Record<string, () => unknown>> = {
    'an error without a code': () => JSON.parse('{'),
    'a code that is not documented': () => {
      throw new InputError('ERR_LENGTH', 'too long')
    },
    'an error that repeats the input': () => {
      throw new InputError('ERR_PIN', 'a PIN is not 90785634')
    },
    'an error that says why where it must not': () => {
      throw new InputError('ERR_PIN', 'a PIN is 4 to 12 decimal digits, not 3')
    },
    'an error with the input in its JSON': () => {
      throw Object.assign(new ArgumentError('wrong'), { value: 'PIN-90785634' })
    },
    'an error with the input as its cause': () => {
      throw new InputError('ERR_PIN', 'a PIN is 4 to 12 decimal digits', { cause: '90785634' })
    },
  }
  test.each(Object.entries(bad))('%s', (_, run) => {
    const rule = { codes: ['ERR_PIN', 'ERR_ARGUMENT'], hidden: ['PIN-90785634'] } as const
    expect(() => attempt(run, rule)).toThrow()
  })

  test('nothing wrong with what is as it must be', () => {
    const rule = { codes: ['ERR_PIN', 'ERR_PIN_BLOCK'], hidden: ['90785634x'] } as const
    expect(attempt(() => Pin.from('90785634x'), rule)).toBeUndefined()
    const raise = (): never => {
      throw new PinBlockError()
    }
    expect(attempt(raise, rule)).toBeUndefined()
    expect(attempt(() => 7, rule)).toBe(7)
  })

  describe('what takes too long', () => {
    const target: FuzzTarget = { name: 'slow', share: 1, seeds: [], limitMs: 20, run: () => undefined }
    const ran = (...takes: Taken[]): Promise<number> => {
      const left = [...takes]
      return runOne(target, new Uint8Array(9), async () => left.shift() ?? expect.fail('tried too often'))
    }

    test('each time', async () => {
      const slow = { passed: 30, computed: 30 }
      await expect(ran(slow, slow, slow, slow, { passed: 29, computed: 21 })).rejects.toThrow(
        '9 bytes took 21 ms, more than 20',
      )
    })
    test('and not once or twice', async () => {
      expect(
        await ran({ passed: 21, computed: 21 }, { passed: 90, computed: 80 }, { passed: 20, computed: 20 }),
      ).toBe(20)
    })
    test('and not because it waits', async () => {
      expect(await ran({ passed: 100, computed: 3 })).toBe(100)
    })
    test('but what waits as if it would never end', async () => {
      const waits = { passed: 401, computed: 0 }
      await expect(ran(waits, waits, waits, waits, waits)).rejects.toThrow(/9 bytes took 20 ms/)
    })
    test('is what computes, and not what waits', async () => {
      const computes = await took(
        {
          ...target,
          run: () => {
            const before = process.cpuUsage()
            const began = performance.now()
            // Of the process, whose other threads count: of this one alone it is at most the time that has passed.
            while (process.cpuUsage(before).user < 40_000 || performance.now() - began < 40);
          },
        },
        new Uint8Array(9),
      )
      expect(computes.computed).toBeGreaterThan(35)
      const waits = await took(
        { ...target, run: () => new Promise<void>(resolve => setTimeout(resolve, 100)) },
        new Uint8Array(9),
      )
      expect(waits.passed).toBeGreaterThan(90)
      expect(waits.computed).toBeLessThan(waits.passed)
    })
  })

  test('a defect that needs two bytes to be right, and makes its input smaller', async () => {
    const planted: FuzzTarget = {
      name: 'planted',
      share: 1,
      seeds: [
        Uint8Array.from(Buffer.from('an input that is a good deal longer than it needs to be: {"a":1}')),
      ],
      run: input => check(!Buffer.from(input).includes('}}'), 'planted'),
    }
    const inputs = [0, 1, 2, 3, 4, 5, 6, 7].flatMap(batch => batchOf(planted, 1, batch))
    const found = inputs.find(input => Buffer.from(input).includes('}}')) ?? expect.fail('nothing found it')
    expect(Buffer.from(await reduced(planted, found)).toString()).toBe('}}')
  })
})

describe('inputs', () => {
  test('are the same for one seed and number', () => {
    const target = find('format0')
    expect(batchOf(target, 7, 3)).toEqual(batchOf(target, 7, 3))
    expect(batchOf(target, 7, 4)).not.toEqual(batchOf(target, 7, 3))
    expect(batchOf(target, 7, 3)).toHaveLength(BATCH)
  })

  test('get far in: the requests of the handler are granted', async () => {
    const target = find('handler')
    const { events } = await issuer()
    const outcomes: string[] = []
    for (const seed of target.seeds) {
      await target.run(seed)
      outcomes.push(...events.map(event => `${event.operation} ${event.outcome}`))
    }
    const granted = ['getPIN', 'getPINChangeCounter', 'SetPIN', 'SetPIN', 'SetPIN', 'getToken']
    expect(outcomes).toEqual(granted.map(operation => `${operation} success`))
  })

  test('get far in: of those that are almost right some are right', async () => {
    let right = 0
    for (const input of batchOf(find('strict-json'), 1, 0)) {
      if (strictJson(Buffer.from(input).subarray(1).toString()) !== undefined) right++
    }
    expect(right).toBeGreaterThan(25)
    expect(right).toBeLessThan(BATCH)
  })
})
