/** Optional packages: both builds' way of loading one gives the same members, and fails where there is none. */
import { describe, expect, test } from 'vitest'
import { fileBeside } from '../../src/base/beside.js'
import * as commonJs from '../../src/base/optional.cjs.js'
import * as esm from '../../src/base/optional.js'

describe.each([
  ['ESM', esm],
  ['CommonJS', commonJs],
])('%s', (_build, { importOptional }) => {
  test('what is not there is an error of the platform', async () => {
    await expect(importOptional('no-such-package')).rejects.toThrow(/no-such-package/)
  })

  test('a package of CommonJS has its members, and the whole as default', async () => {
    const forge = await importOptional('node-forge')
    expect(Reflect.get(Object(Reflect.get(forge, 'default')), 'des')).toBeTypeOf('object')
    const pg = await importOptional('pg')
    expect(Reflect.get(pg, 'Pool')).toBeTypeOf('function')
  })

  test('a module of Node’s', async () => {
    expect(Reflect.get(await importOptional('node:path'), 'join')).toBeTypeOf('function')
  })
})

test('a file that a bundler has left behind is named, with what does without it', () => {
  const wanted = { base: import.meta.url, otherwise: 'set executor to inline' }
  expect(fileBeside({ ...wanted, name: './optional.test.ts' })).toBe(import.meta.filename)
  expect(() => fileBeside({ ...wanted, name: './left-behind.js' })).toThrow(
    expect.objectContaining({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(
        /^\.\/left-behind\.js is not beside the program: .* set executor to inline$/,
      ),
    }),
  )
})
