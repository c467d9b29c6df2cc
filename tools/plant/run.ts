/**
 * `npm run plant`: plants bugs one at a time in a copy of the tree, and runs the tests that come to the place. What no
 * test notices is listed. `-- --only src/stores,src/jwe` some folders; `--change line` some kinds; `--sample 40 --seed 7` some
 * of all places, `--skip 11` without the first eleven of them; `--tests test/leaks/wiped.test.ts` other tests than those of the folder; `--lived` only what lived in
 * the run before; `--list` counts the places.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { scratchFolder } from '../../test/support/scratch.js'
import { CHANGES, type Planted, withSwitches } from './changes.js'

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'src/' },
    change: { type: 'string', default: '' },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    skip: { type: 'string', default: '0' },
    tests: { type: 'string' },
    lived: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
})

const ROOT = new URL('../..', import.meta.url).pathname
const REPORT = join(ROOT, 'reports/plant.json')

/** Entry points are not planted in. */
const OUTSIDE = /^src\/[^/]+$/

/** Which tests look at a place, by the beginning of its path. */
const TESTS: readonly (readonly [RegExp, string])[] = [
  [/^src\/base\//, 'test/bytes,test/errors,test/json,test/base/,test/backoff'],
  [/^src\/primitives\//, 'test/vectors,test/mac/,test/key/,test/jwe/,test/pin/,test/backend/'],
  [/^src\/key\//, 'test/key/,test/backend/'],
  [/^src\/backend\/pkcs11\//, 'test/pkcs11/'],
  [/^src\/backend\//, 'test/backend/,test/pkcs11/'],
  [/^src\/d1\/client\//, 'test/d1/client/'],
  [/^src\/d1\/endpoints\//, 'test/d1/endpoints/'],
  [/^src\/d1\//, 'test/d1/'],
  // A contract's rules, by what is wrong in one thing.
  [/^src\/testing\/change-counter/, 'test/seccos/change-counter.test'],
  [/^src\/testing\/store-/, 'test/stores/contract-faults.test'],
  [/^src\/testing\/contract/, 'test/backend/,test/backend/software.contract.test.ts'],
  [/^src\/([^/]+)\//, 'test/$1/'],
  [/^packages\/([^/]+)\/src\//, 'packages/$1/test/'],
]

function testsFor(file: string): string {
  const [path, tests] = TESTS.find(([pattern]) => pattern.test(file)) ?? []
  if (path === undefined || tests === undefined) throw new Error(`no tests for ${file}`)
  return tests.replace('$1', path.exec(file)?.[1] ?? '')
}

/** Mulberry32: the same sample for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Takes turns between the kinds, so that a rare one is in a small sample, too. */
function sampleOf(places: readonly Planted[], count: number): Planted[] {
  const random = randomFrom(Number(values.seed))
  const kinds = Object.keys(CHANGES).map(change =>
    places
      .filter(place => place.change === change)
      .map(place => ({ place, at: random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ place }) => place),
  )
  const taken: Planted[] = []
  for (let i = 0; taken.length < count && kinds.some(kind => i < kind.length); i++) {
    for (const kind of kinds) {
      const place = kind[i]
      if (place !== undefined && taken.length < count) taken.push(place)
    }
  }
  return taken
}

const packages = readdirSync(join(ROOT, 'packages')).map(name => `packages/${name}/src`)
const sources = ['src', ...packages]
  .flatMap(folder =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map(path => `${folder}/${path}`),
  )
  .filter(path => path.endsWith('.ts') && !OUTSIDE.test(path))
  .filter(path => values.only.split(',').some(part => path.startsWith(part)))
const switched = (file: string, chosen: (place: Planted) => boolean) =>
  withSwitches(file, readFileSync(join(ROOT, file), 'utf8'), chosen)

const lived: ReadonlySet<string> | undefined = values.lived
  ? new Set((JSON.parse(readFileSync(REPORT, 'utf8')) as Planted[]).map(({ id }) => id))
  : undefined
const all = sources
  .flatMap(file => switched(file, () => true).places)
  .filter(({ id, change }) => change.includes(values.change) && lived?.has(id) !== false)
const places = (values.sample === undefined ? all : sampleOf(all, Number(values.sample))).slice(
  Number(values.skip),
)

interface Answer {
  readonly status: 'complete' | 'error' | 'killed' | 'timeout' | 'survived'
  readonly errorMessage?: string
  readonly spoilt?: boolean
  readonly tests?: readonly { readonly id: string; readonly timeSpentMs: number }[]
  readonly mutantCoverage?: {
    readonly static: Readonly<Record<string, number>>
    readonly perTest: Readonly<Record<string, Readonly<Record<string, number>>>>
  }
}

/** The tests, loaded in a process that can be ended. */
class Judge {
  readonly #cwd: string
  readonly #tests: string
  readonly #temporary = scratchFolder('ipc-planted-')
  #child: ChildProcess | undefined
  /** Has anything been planted in this process before? */
  used = false

  constructor(cwd: string, tests: string) {
    this.#cwd = cwd
    this.#tests = tests
  }

  async ask(question: object, limit: number): Promise<Answer | undefined> {
    this.#child ??= fork('tools/plant/judge.mjs', {
      cwd: this.#cwd,
      env: { ...process.env, PLANTED_TESTS: this.#tests, TMPDIR: this.#temporary },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    const child = this.#child
    child.send(question)
    const ended = new AbortController()
    const timer = setTimeout(() => ended.abort(), limit)
    try {
      const { signal } = ended
      const answer: [Answer] | [number] = await Promise.race([
        once(child, 'message', { signal }) as Promise<[Answer]>,
        once(child, 'exit', { signal }) as Promise<[number]>,
      ])
      if (typeof answer[0] !== 'object') this.#child = undefined
      return typeof answer[0] === 'object' ? answer[0] : undefined
    } catch {
      this.end()
      return undefined
    } finally {
      clearTimeout(timer)
      ended.abort()
    }
  }

  end(): void {
    this.#child?.kill('SIGKILL')
    this.#child = undefined
    this.used = false
  }
}

/** A copy of the tree as it lies here, with all switches in it. */
function copyWith(chosen: ReadonlySet<string>): string {
  const copy = scratchFolder('ipc-plant-')
  const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: ROOT })
  const archive = execFileSync('tar', ['-c', '--null', '--ignore-failed-read', '-T', '-'], {
    cwd: ROOT,
    input: files,
    maxBuffer: 1 << 28,
  })
  execFileSync('tar', ['-x', '-C', copy], { input: archive })
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  for (const file of sources) {
    const { text, places } = switched(file, ({ id }) => chosen.has(id))
    if (places.length > 0) writeFileSync(join(copy, file), text)
  }
  return copy
}

type Verdict = 'noticed' | 'not decided' | 'did not end' | 'lived' | 'no test comes here' | 'while files load'

async function judgeAll(
  copy: string,
  tests: string,
  chosen: readonly Planted[],
): Promise<Map<Planted, Verdict>> {
  const verdicts = new Map<Planted, Verdict>()
  const judge = new Judge(copy, tests)
  const first = await judge.ask({ first: true }, 1_800_000)
  if (first?.tests === undefined || first.mutantCoverage === undefined)
    throw new Error(`The tests fail without a bug: ${first?.errorMessage}`)
  const { perTest, static: elsewhere } = first.mutantCoverage
  const times = new Map(first.tests.map(({ id, timeSpentMs }) => [id, timeSpentMs]))
  console.log(`${chosen.length} places, ${times.size} tests of ${tests}`)
  for (const [i, place] of chosen.entries()) {
    const came = [...times.keys()].filter(test => perTest[test]?.[place.id] !== undefined)
    const hits = came.reduce((sum, test) => sum + (perTest[test]?.[place.id] ?? 0), 0)
    const longest = Math.max(0, ...came.map(test => times.get(test) ?? 0))
    const whole = came.reduce((sum, test) => sum + (times.get(test) ?? 0), 0)
    const ask = (id: string) => {
      const limit = 4_000 + longest * 10
      const question = {
        activeMutant: { id },
        testFilter: came,
        hitLimit: 1_000 + hits * 100,
        limit,
      }
      return judge.ask(question, 60_000 + limit * 2 + whole * 10)
    }
    let verdict: Verdict
    if (came.length === 0) verdict = place.id in elsewhere ? 'while files load' : 'no test comes here'
    else {
      let answer = await ask(place.id)
      let sound = true
      if (answer?.spoilt === true && judge.used) {
        // Perhaps it was one before that left something behind, or the tests do not run twice.
        judge.end()
        sound = (await ask('none'))?.status === 'survived'
        if (sound) answer = await ask(place.id)
      }
      judge.used = true
      if (answer === undefined || answer.spoilt === true) judge.end()
      verdict = !sound
        ? 'not decided'
        : answer?.status === 'survived'
          ? 'lived'
          : answer?.status === 'killed'
            ? 'noticed'
            : 'did not end'
      if (answer?.status === 'error') throw new Error(answer.errorMessage)
    }
    verdicts.set(place, verdict)
    if (verdict !== 'noticed')
      console.log(
        `${String(i).padStart(4)} ${verdict.padEnd(18)} ${place.file}:${place.line} ${place.change}: ${place.was}`,
      )
  }
  judge.end()
  return verdicts
}

if (values.list) {
  for (const change of Object.keys(CHANGES)) {
    console.log(`${String(places.filter(place => place.change === change).length).padStart(5)}  ${change}`)
  }
} else {
  const copy = copyWith(new Set(places.map(({ id }) => id)))
  const groups = new Map<string, Planted[]>()
  for (const place of places) {
    const tests = values.tests ?? testsFor(place.file)
    groups.set(tests, [...(groups.get(tests) ?? []), place])
  }
  const verdicts = new Map<Planted, Verdict>()
  for (const [tests, chosen] of groups) {
    for (const [place, verdict] of await judgeAll(copy, tests, chosen)) verdicts.set(place, verdict)
    mkdirSync(join(ROOT, 'reports'), { recursive: true })
    const left = [...verdicts].filter(([, verdict]) => verdict !== 'noticed' && verdict !== 'did not end')
    writeFileSync(
      REPORT,
      JSON.stringify(
        left.map(([place, verdict]) => ({ ...place, verdict })),
        null,
        2,
      ),
    )
  }
  const counted = new Map<Verdict, number>()
  for (const verdict of verdicts.values()) counted.set(verdict, (counted.get(verdict) ?? 0) + 1)
  console.log([...counted].map(([verdict, count]) => `${count} ${verdict}`).join(', '))
}
