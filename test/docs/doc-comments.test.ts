import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ENTRY_POINTS, type ExportedItem, exportedItems, ROOT } from '../support/public-api.js'

const ITEMS = exportedItems()

/** What cannot fail, and why. Everything else that can be called names its error codes. */
const NEVER_FAILS: Readonly<Record<string, string>> = {
  answerClientError: 'writes to a socket that may be gone, and says nothing about it',
  backendContract: 'makes a list of cases; a case that fails throws an AssertionError',
  issuerStoreContract: 'makes a list of cases; a case that fails throws an AssertionError',
  changeCounterStoreContract: 'makes a list of cases; a case that fails throws an AssertionError',
  isIssuerPinError: 'a question about any value',
  memoryStore: 'takes nothing',
  otelAttributes: 'maps a finished event',
  'D1ClientError.revealText': 'hands out what is there',
  'Key.toString': 'redacts',
  'P256Recipient.toString': 'redacts',
  'Pan.masked': 'the number was checked when it was made',
  'Pan.reveal': 'the number was checked when it was made',
  'Pan.toJSON': 'redacts',
  'Pan.toString': 'redacts',
  'Pin.dispose': 'may be called again',
  'Pin.toJSON': 'redacts',
  'Pin.toString': 'redacts',
  'Pkcs11Error.as': 'makes an error out of any value',
}

const shortName = ({ name }: ExportedItem): string => name.replace(/^.*: /, '')
const isErrorClass = (item: ExportedItem): boolean => /Error\b/.test(shortName(item))
const callable = ITEMS.filter(({ kind }) => kind === 'function' || kind === 'method')
const where = ({ name, file, line }: ExportedItem): string => `${name} (${file}:${line})`

test('every subpath with code is looked at', () => {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { exports: object }
  const subpaths = Object.keys(exports).filter(path => !path.includes('json'))
  expect([...ENTRY_POINTS.keys()].sort()).toEqual(
    subpaths.map(path => `issuer-pin-crypto${path.slice(1)}`).sort(),
  )
  const { entryPoints } = JSON.parse(readFileSync(join(ROOT, 'typedoc.json'), 'utf8')) as {
    entryPoints: string[]
  }
  expect(entryPoints.sort()).toEqual([...ENTRY_POINTS.values()].sort())
  expect(ITEMS.length).toBeGreaterThan(100)
})

describe('doc comments', () => {
  test('everything that is exported has one, and so have the public methods of the classes', () => {
    expect(ITEMS.filter(({ comment }) => comment === '').map(where)).toEqual([])
  })

  test('every function has an @example, and so has every class that is not an error', () => {
    const lacking = ITEMS.filter(
      item =>
        (item.kind === 'function' || (item.kind === 'class' && !isErrorClass(item))) &&
        item.examples.length === 0,
    )
    expect(lacking.map(where)).toEqual([])
  })

  test('whatever can be called and can fail says with which codes', () => {
    const lacking = callable.filter(
      item => !/\bERR_[A-Z]/.test(item.comment) && NEVER_FAILS[shortName(item)] === undefined,
    )
    expect(lacking.map(where)).toEqual([])
  })

  test('the list of what cannot fail names exported things only, none of which names an error code', () => {
    const byName = new Map(callable.map(item => [shortName(item), item]))
    for (const name of Object.keys(NEVER_FAILS)) {
      expect(byName.get(name)?.comment, name).toBeDefined()
      expect(byName.get(name)?.comment, name).not.toMatch(/\bErrors:.*\bERR_/)
    }
  })

  test('the error codes they name exist', () => {
    const source = readFileSync(join(ROOT, 'src/base/errors.ts'), 'utf8')
    const unknown = ITEMS.flatMap(item =>
      Array.from(item.comment.matchAll(/`(ERR_[A-Z0-9_]+)`/g), ([, code = '']) => code)
        .filter(code => !source.includes(`'${code}'`))
        .map(code => `${where(item)}: ${code}`),
    )
    expect(unknown).toEqual([])
  })
})
