/**
 * Mutation testing: `MUTATE=src/mac npm run mutation` for one part, without MUTATE all of them at once, which takes
 * hours. Scores, and the reason for each mutant that lives, are in docs/measurements/mutation.md.
 */
import process from 'node:process'

/**
 * What is mutated at a time, and which tests have to notice. Only tests in this process: those with native modules,
 * child processes, databases or real time run the same lines again, slower by two orders of magnitude.
 */
const PARTS = {
  'src/primitives': {
    mutate: ['src/primitives/*.ts'],
    tests: [
      'test/mac/!(timing).test.ts',
      'test/key/*.test.ts',
      'test/pin/{format0,formats,pin,refusals,wiping}.test.ts',
      'test/jwe/*.test.ts',
      'test/backend/derivation.test.ts',
    ],
  },
  'src/pin': { mutate: ['src/pin/!(pin-policy).ts'], tests: ['test/pin/*.test.ts'] },
  // All PINs of four digits are judged there: a second, for each mutant.
  'src/pin/pin-policy': { mutate: ['src/pin/pin-policy.ts'], tests: ['test/pin/pin-policy.test.ts'] },
  'src/pin/formats': {
    mutate: ['src/pin/formats/*.ts'],
    tests: ['test/pin/!(pin-policy|translation|verbs).test.ts'],
  },
  'src/key-block': { mutate: ['src/key-block/*.ts'], tests: ['test/key-block/*.test.ts'] },
  'src/mac': { mutate: ['src/mac/*.ts'], tests: ['test/mac/!(timing).test.ts'] },
  'src/key': { mutate: ['src/key/*.ts'], tests: ['test/key/*.test.ts', 'test/pin/verify.test.ts'] },
  'src/jwe': { mutate: ['src/jwe/*.ts'], tests: ['test/jwe/*.test.ts'] },
  'src/tools/inspect': { mutate: ['src/tools/inspect/*.ts'], tests: ['test/tools/inspect/*.test.ts'] },
  // The store contract is a test suite itself. Whole runs of the prober take seconds each: it is a part of its own.
  'src/seccos': {
    mutate: ['src/seccos/**/*.ts'],
    tests: ['test/seccos/*.test.ts'],
  },
  'src/tools/probe': { mutate: ['src/tools/probe/*.ts'], tests: ['test/tools/probe/*.test.ts'] },
  // Messages, and the audit events of both directions.
  'src/d1': {
    mutate: ['src/d1/*.ts', 'src/d1/messages/*.ts', 'src/d1/client/audit.ts'],
    tests: ['test/d1/*.test.ts', 'test/d1/client/audit.test.ts', 'test/d1/endpoints/failures.test.ts'],
  },
  // Without servers and real time: what is sent and received goes through the handler, or a fetch of the tests' own.
  'src/d1/endpoints': {
    mutate: ['src/d1/endpoints/!(node-listener).ts'],
    tests: ['test/d1/endpoints/!(any-input|contract|malformed|mounting).test.ts'],
  },
  'src/d1/client': {
    mutate: ['src/d1/client/!(audit|mtls-fetch|exchange).ts'],
    tests: ['test/d1/client/!(audit|client|fetches|network|wiping).test.ts'],
  },
}

const part = process.env['MUTATE']
if (part !== undefined && !Object.hasOwn(PARTS, part)) {
  throw new Error(`MUTATE must be one of ${Object.keys(PARTS).join(', ')}`)
}
const chosen = part === undefined ? Object.values(PARTS) : [PARTS[part]]

/** For `vitest.config.mjs` beside this. */
export const tests = chosen.flatMap(({ tests }) => tests)

const reports = `reports/mutation/${part?.replaceAll('/', '-') ?? 'all'}`

/** @type {import('@stryker-mutator/api/core').PartialStrykerOptions} */
export default {
  testRunner: 'resident',
  plugins: ['./tools/mutation/resident.mjs'],
  coverageAnalysis: 'perTest',
  mutate: chosen.flatMap(({ mutate }) => mutate),
  ignorePatterns: ['.stryker-tmp', 'reports', 'dist', 'docs', 'coverage', 'native-test', '.tmp'],
  // What is computed while a file loads has no tests of its own; a worker would have to be started for each such mutant.
  ignoreStatic: true,
  // What runs is what esbuild makes of the sources, which reads no types.
  disableTypeChecks: false,
  concurrency: 1,
  // An endless loop is mostly found by counting; a loaded machine is no reason to call a mutant killed.
  timeoutMS: 60_000,
  // Nor to give up before the first one.
  dryRunTimeoutMinutes: 60,
  // Not by itself: a mutant that lived is not tried again, although a new test would notice it.
  incremental: false,
  incrementalFile: `${reports}.incremental.json`,
  reporters: ['clear-text', 'json', 'html', 'progress-append-only'],
  clearTextReporter: { allowColor: false, logTests: false },
  jsonReporter: { fileName: `${reports}.json` },
  htmlReporter: { fileName: `${reports}.html` },
  warnings: { slow: false },
  thresholds: { high: 95, low: 90, break: 90 },
}
