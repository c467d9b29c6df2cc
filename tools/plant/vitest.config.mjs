/** The unit tests that look at a part of the sources, all in one worker; see run.ts, which names them. */
import { defineConfig } from 'vitest/config'
import whole from '../../vitest.config.ts'

const wanted = process.env['PLANTED_TESTS'].split(',')
const [together, ...others] = whole.test.projects.map(({ test }) => test.include)
const packages = others.flat().filter(path => path.startsWith('packages/'))

export default defineConfig({
  resolve: whole.test.projects[0].resolve,
  test: {
    include: [
      ...[...together, ...packages].filter(path => wanted.some(part => path.startsWith(part))),
      // What needs a process of its own can have this one, alone; what takes long is asked for by its whole name, too.
      ...others.flat().filter(path => wanted.includes(path)),
    ],
    setupFiles: ['./tools/plant/setup.mjs', './test/support/clean-process.ts'],
    testTimeout: 0,
    hookTimeout: 0,
    expect: { poll: { timeout: 5_000 } },
  },
})
