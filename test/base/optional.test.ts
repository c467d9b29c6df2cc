/** Optional packages: both builds' way of loading one gives the same members, and fails where there is none. */
import { describe, expect, test } from 'vitest'
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
