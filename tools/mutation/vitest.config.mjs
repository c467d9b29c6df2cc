/** For Stryker: the tests that are to notice what it does to one part of the sources. See stryker.config.mjs. */
import { defineConfig } from 'vitest/config'
import { isolate, tests } from './stryker.config.mjs'

/**
 * Stryker counts failed tests. A test file that does not load, or whose `beforeAll` throws, has none, and its mutant
 * would pass for alive: so such a file gets a failed test.
 *
 * @type {import('vitest/node').Reporter}
 */
const brokenFileFails = {
  onTestModuleEnd({ task: file }) {
    if (file.result?.state !== 'fail') return
    file.tasks.push({ type: 'test', name: 'the file runs', mode: 'run', file, result: file.result })
  },
}

export default defineConfig({
  test: {
    include: tests,
    isolate,
    setupFiles: ['./tools/mutation/setup.mjs'],
    reporters: [brokenFileFails],
    // On a loaded machine a test that is late would pass for one that noticed. Stryker has a timeout of its own.
    testTimeout: 0,
    hookTimeout: 0,
  },
})
