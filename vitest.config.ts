import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** What a file of tests does to modules or to the process that nothing takes back, and the next file in it would notice. */
const CHANGES_ITS_PROCESS =
  /vi\.(mock|doMock|hoisted|resetModules)|setGlobalDispatcher|process\.chdir\b|expose-gc|node:worker_threads/
/** Measures time, or looks at all that a process holds: what other files left in it would be seen. */
const BY_THEMSELVES = /^test\/(timing\/|leaks\/(foreign-memory|wiped|own-members))/
/**
 * Programs as they are used, from outside: what is packed, built, installed and run from the guides, the simulator over its
 * sockets, the documentation's site in a browser, and other languages' programs. Each takes seconds of a core; whoever
 * changes a line of `src` waits for none.
 */
const WHOLE =
  /^test\/(package\/(package|guides|guide-commands|global|readme|release|setup|supply-chain)|docs\/(guides|charts)|differential\/)|^packages\/|^native-test\/docs\.site/

/**
 * Tables against tables: every verb with every wrong value in every place, whole contracts on backends that are played, every command
 * line as a process of its own, searches. Each takes five to twenty seconds of a core, half of what all others take together.
 */
const SWEEPS =
  /^test\/(leaks\/(verbs|wiped|http|pkcs11)|cli\/(hostile|cli|commands|storage)|tools\/(search|probe)|stores\/(sqlite|sealed)|pkcs11\/(fake\.contract|faults|group)|backend\/.*\.contract|fuzz\/)/

const files = ['test', 'native-test', ...readdirSync('packages').map(name => `packages/${name}/test`)]
  .flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(path => `${folder}/${path}`),
  )
  .filter(path => path.endsWith('.test.ts'))
const whole = files.filter(path => WHOLE.test(path))
const native = files.filter(path => path.startsWith('native-test/') && !WHOLE.test(path))
const sweeps = files.filter(path => SWEEPS.test(path))
const unitFiles = files.filter(path => ![whole, native, sweeps].some(lane => lane.includes(path)))
/** Files of tests that may follow each other in one process: the modules of `src` are then loaded once and not for each. */
const together = unitFiles.filter(
  path => !BY_THEMSELVES.test(path) && !CHANGES_ITS_PROCESS.test(readFileSync(path, 'utf8')),
)

/** What is waited for comes, however busy the machine. Of each project: none inherits it. */
const PATIENCE = { poll: { timeout: 60_000 } }
/** A test that takes long is no failure: the limit holds on a machine with twenty times as much to do, and ends what hangs. */
const LIMIT_MS = 600_000

const unit = {
  expect: PATIENCE,
  setupFiles: ['test/support/clean-process.ts'],
  testTimeout: LIMIT_MS,
  hookTimeout: LIMIT_MS,
  maxWorkers: Math.max(2, Math.min(6, availableParallelism())),
  sequence: { groupOrder: 0 },
}

/** An example is tried against the sources, and not against what was built last. */
const sources = { alias: { 'issuer-pin-crypto/d1': new URL('src/d1.ts', import.meta.url).pathname } }

const config: ReturnType<typeof defineConfig> = defineConfig({
  test: {
    globalSetup: ['test/support/run-folder.ts'],
    // Compiled modules are kept from run to run, by their text (`npx vitest --clearCache` after a change of tsconfig.json): a
    // lane is run after each change, of few of them. A run of all that a change must pass compiles for itself.
    experimental: {
      fsModuleCache: !process.env['CI'],
      fsModuleCachePath: 'node_modules/.cache/issuer-pin-crypto/modules',
    },
    // The second is for the summary at the end of .ci/run.
    reporters: process.env['CI'] ? ['default', ['json', { outputFile: 'reports/tests.json' }]] : ['default'],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts', 'packages/*/src/**/*.ts'],
      reporter: [['text', { skipFull: true }], 'json-summary'],
      reportOnFailure: true,
      // Every line and branch that a run of all lanes had not reached on 2026-11-29 has its test, or is gone. What is left below
      // 100 is room for what two threads or two connections do in one moment on one machine and not on another.
      ...(process.env['CI'] && { thresholds: { lines: 99.95, branches: 99.95 } }),
    },
    projects: [
      { resolve: sources, test: { ...unit, name: 'unit', include: together, isolate: false } },
      {
        resolve: sources,
        test: {
          ...unit,
          name: 'unit-alone',
          include: unitFiles.filter(path => !together.includes(path)),
        },
      },
      { resolve: sources, test: { ...unit, name: 'unit-sweeps', include: sweeps } },
      { resolve: sources, test: { ...unit, name: 'whole', include: whole, sequence: { groupOrder: 1 } } },
      {
        // Native code: a process per file, so that a crash is one file's crash and each file has its own token.
        test: {
          name: 'native',
          include: native,
          expect: PATIENCE,
          pool: 'forks',
          testTimeout: LIMIT_MS,
          hookTimeout: LIMIT_MS,
          // After the others. Each file has tokens, ports, databases and folders of its own, and half of its time it waits for
          // processes of its own: two side by side (NATIVE_WORKERS=1: one after the other).
          maxWorkers: Number(process.env['NATIVE_WORKERS'] ?? 2),
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})

export default config
