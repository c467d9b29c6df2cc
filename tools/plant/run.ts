/**
 * `npm run plant`: plants bugs one at a time in a copy of the tree, and runs the tests that look at the place. What no
 * test notices is listed. `-- --sample 40 --seed 7` takes some of all places; `--skip 11` goes on with the twelfth of them;
 * `--only src/jwe` some folders; `--change wipe` some kinds; `--list` counts the places.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { scratchFolder } from '../../test/support/scratch.js'
import { apply, CHANGES, type Planted, placesIn } from './changes.js'

const { values } = parseArgs({
  options: {
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    skip: { type: 'string', default: '0' },
    only: { type: 'string', default: 'src/' },
    change: { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
  },
})

const ROOT = new URL('../..', import.meta.url).pathname

/** Test values and command line are not looked at here. */
const OUTSIDE = /^src\/(testing|cli|tools)\/|^src\/[^/]+$/

/** Which tests look at a place, by the beginning of its path; the last ones look at everything. */
const TESTS: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^src\/base\//, ['test/bytes', 'test/errors', 'test/json', 'test/base']],
  [/^src\/primitives\//, ['test/vectors', 'test/mac', 'test/key', 'test/jwe', 'test/pin']],
  [/^src\/pin\//, ['test/pin']],
  [/^src\/mac\//, ['test/mac']],
  [/^src\/key\//, ['test/key', 'test/backend']],
  [/^src\/jwe\//, ['test/jwe']],
  [/^src\/seccos\//, ['test/seccos']],
  [/^src\/backend\/pkcs11\//, ['test/pkcs11']],
  [/^src\/backend\//, ['test/backend', 'test/pkcs11']],
  [/^src\/d1\/client\//, ['test/d1/client']],
  [/^src\/d1\/endpoints\//, ['test/d1/endpoints']],
  [/^src\/d1\//, ['test/d1']],
  [/^src\/stores\//, ['test/stores']],
]
const ALL = ['test/leaks/wiped', 'test/secret-memory', 'test/constant-time']

function testsFor(file: string): readonly string[] {
  const found = TESTS.find(([path]) => path.test(file))?.[1] ?? ['test']
  return [...found, ...ALL].filter(
    path => existsSync(join(ROOT, path)) || existsSync(join(ROOT, `${path}.test.ts`)),
  )
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

const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .map(path => `src/${path}`)
  .filter(path => path.endsWith('.ts') && !OUTSIDE.test(path) && path.startsWith(values.only))
const places = files
  .flatMap(file => placesIn(file, readFileSync(join(ROOT, file), 'utf8')))
  .filter(({ change }) => change.includes(values.change))

if (values.list) {
  for (const change of Object.keys(CHANGES)) {
    console.log(`${String(places.filter(place => place.change === change).length).padStart(5)}  ${change}`)
  }
} else {
  const chosen = values.sample === undefined ? places : sampleOf(places, Number(values.sample))
  plant(chosen.slice(Number(values.skip)))
}

function plant(chosen: readonly Planted[]): void {
  const copy = scratchFolder('ipc-plant-')
  const archive = execFileSync('git', ['archive', 'HEAD'], { cwd: ROOT, maxBuffer: 1 << 28 })
  execFileSync('tar', ['-x', '-C', copy], { input: archive })
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  let caught = 0
  const survivors: Planted[] = []
  for (const place of chosen) {
    const path = join(copy, place.file)
    const before = readFileSync(path, 'utf8')
    unlinkSync(path)
    writeFileSync(path, apply(before, place))
    const args = [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--project',
      'unit*',
      '--bail',
      '1',
      ...testsFor(place.file),
    ]
    const { status } = spawnSync(process.execPath, args, { cwd: copy, stdio: 'ignore', timeout: 300_000 })
    writeFileSync(path, before)
    if (status === 0) survivors.push(place)
    else caught++
    console.log(`${status === 0 ? 'SURVIVED' : 'caught  '} ${place.file}:${place.line} ${place.change}`)
  }
  console.log(`${chosen.length} planted, ${caught} caught, ${survivors.length} survived`)
}
