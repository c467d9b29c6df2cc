/** For Stryker: the tests that are to notice what it does to one part of the sources. See stryker.config.mjs. */
import { defineConfig } from 'vitest/config'
import { tests } from './stryker.config.mjs'

export default defineConfig({
  test: {
    include: tests,
    setupFiles: ['./tools/mutation/setup.mjs'],
    // On a loaded machine a test that is late would pass for one that noticed. Stryker has a timeout of its own.
    testTimeout: 0,
    hookTimeout: 0,
  },
})
