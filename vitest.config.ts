import { readdirSync, readFileSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

/** What a file of tests does to modules or to the process that nothing takes back, and the next file in it would notice. */
const CHANGES_ITS_PROCESS =
  /vi\.(mock|doMock|hoisted|resetModules)|setGlobalDispatcher|process\.chdir\b|expose-gc|node:worker_threads/
/** Runs programs of its own, or all public verbs under a changed `Object.prototype`. */
const RUNS = /guide-page|cases-core/
/** Looks at the sources by TypeScript and runs none: those files share what the compiler has read, wherever they are. */
const LOOKS_AT_SOURCES = /support\/public-api|from 'typescript'/
/** Folders of few files that take long, with programs, databases or a whole process's memory to look at. */
const BY_THEMSELVES = /^(stores|package|docs|leaks|corpus|differential|fuzz|timing)\//

/** Files of tests that may follow each other in one process: the modules of `src` are then loaded once and not for each. */
const together = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .filter(path => path.endsWith('.test.ts'))
  .filter(path => {
    const text = readFileSync(`test/${path}`, 'utf8')
    if (RUNS.test(text)) return false
    return LOOKS_AT_SOURCES.test(text) || !(BY_THEMSELVES.test(path) || CHANGES_ITS_PROCESS.test(text))
  })
  .map(path => `test/${path}`)

const unit = {
  setupFiles: ['test/support/clean-process.ts'],
  // A test that takes long is no failure: the limits hold on a machine with twenty times as much to do.
  testTimeout: 120_000,
  hookTimeout: 120_000,
  maxWorkers: 2,
  sequence: { groupOrder: 0 },
}

/** An example is tried against the sources, and not against what was built last. */
const sources = { alias: { 'issuer-pin-crypto/d1': new URL('src/d1.ts', import.meta.url).pathname } }

const config: ReturnType<typeof defineConfig> = defineConfig({
  test: {
    globalSetup: ['test/support/run-folder.ts'],
    // The second is for the summary at the end of .ci/run.
    reporters: process.env['CI'] ? ['default', ['json', { outputFile: 'reports/tests.json' }]] : ['default'],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts', 'packages/*/src/**/*.ts'],
      reporter: [['text', { skipFull: true }], 'json-summary'],
      reportOnFailure: true,
      // It was 100 before executors, callers, stores and profiles of format 2 came in one step; their last branches are to
      // be covered, and this to go back there.
      ...(process.env['CI'] && { thresholds: { lines: 99.8, branches: 99 } }),
    },
    projects: [
      { resolve: sources, test: { ...unit, name: 'unit', include: together, isolate: false } },
      {
        resolve: sources,
        test: {
          ...unit,
          name: 'unit-alone',
          include: ['test/**/*.test.ts', 'packages/*/test/**/*.test.ts'],
          exclude: together,
        },
      },
      {
        // Native code: a process per file, so that a crash is one file's crash and each file has its own token.
        test: {
          name: 'native',
          include: ['native-test/**/*.test.ts'],
          pool: 'forks',
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // After the unit lane, and one file at a time: projects of one group must have as many workers.
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})

export default config
