import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

const SRC = new URL('../src', import.meta.url).pathname
const FILES = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(path => path.endsWith('.ts'))

/** Imports that exist at run time, as paths below src. */
function imports(file: string): readonly string[] {
  const text = readFileSync(join(SRC, file), 'utf8')
  const found = text.matchAll(/^(?:import|export)\s(?!type\b)[^'"]*from '(\.[^']+)'/gm)
  return Array.from(found, ([, path = '']) =>
    relative(SRC, join(SRC, dirname(file), path)).replace(/\.js$/, '.ts'),
  )
}

/** Pure code: no key, no I/O; both sides of the port may use it (docs/decisions/0003). */
const PURE = /^(errors|bytes|base64url|freeze|redact|arguments|json)\.ts$|^key\/|^mac\/|^jwe\/concat-kdf\.ts$/
const MAY_IMPORT: readonly (readonly [RegExp, RegExp])[] = [
  [/^backend\/software\//, /^backend\/(software\/|checks\.ts|front\.ts)/],
  [/^backend\/pkcs11\//, /^backend\/(pkcs11\/|checks\.ts|front\.ts)/],
  [/^backend\/[^/]+$/, /^backend\/[^/]+$/],
  [/^pin\//, /^(pin\/|backend\/checks\.ts)/],
  [/^mac\//, /^(mac\/|backend\/checks\.ts)/],
  [/^jwe\//, /^(jwe\/|backend\/checks\.ts)/],
  [/^key\//, /^key\//],
  [/^seccos\//, /^(seccos|pin|mac)\/|^backend\/checks\.ts/],
  [/^inspect\//, /^(inspect|seccos|jwe|pin)\//],
  [/^cli\//, /^(cli\/|index\.ts|pkcs11\.ts)/],
  // The stores keep what the endpoints say in types; only the list of exports hands one out.
  [/^d1\/(?!index\.ts$)/, /^(d1|seccos|pin|mac|jwe)\/|^backend\/checks\.ts/],
  [/^d1\/index\.ts$/, /^(d1|stores)\//],
  [/^stores\/[^/]+$/, /^stores\/[^/]+$|^(seccos|pin)\/|^backend\/checks\.ts/],
  [/^stores\/sql\//, /^stores\/(sql\/|[^/]+$)|^(seccos|pin)\/|^backend\/checks\.ts/],
  [/^stores\/sqlite\//, /^stores\/(sqlite\/|sql\/|[^/]+$)|^backend\/checks\.ts/],
  [/^stores\/postgres\//, /^stores\/(postgres\/|sql\/|[^/]+$)|^backend\/checks\.ts/],
]

test('there are sources to look at', () => {
  expect(FILES.length).toBeGreaterThan(30)
})

test.each(MAY_IMPORT)('files in %s import from %s and pure code only', (folder, allowed) => {
  const wrong = FILES.filter(file => folder.test(file)).flatMap(file =>
    imports(file)
      .filter(path => !allowed.test(path) && !PURE.test(path))
      .map(path => `${file} imports ${path}`),
  )
  expect(wrong).toEqual([])
})

test('the D1 simulator shares no code with the library it is played against', () => {
  const own = FILES.filter(file => file.startsWith('cli/d1-simulator/'))
  const wrong = own.flatMap(file => {
    const text = readFileSync(join(SRC, file), 'utf8')
    const packages = Array.from(
      text.matchAll(/(?:from |import\(|import )'([^'.][^']*)'/g),
      ([, name = '']) => name,
    )
    return [
      ...imports(file).filter(path => !path.startsWith('cli/d1-simulator/')),
      ...packages.filter(name => !/^(node:|jose$|node-forge$)/.test(name)),
    ].map(path => `${file} imports ${path}`)
  })
  expect(own.length).toBeGreaterThan(10)
  expect(wrong).toEqual([])
})

test('pkcs11js is imported dynamically, in one file', () => {
  const users = FILES.filter(file =>
    /(from|import\()\s*'pkcs11js'/.test(readFileSync(join(SRC, file), 'utf8')),
  )
  const statics = FILES.filter(file =>
    /^import (?!type).*'pkcs11js'/m.test(readFileSync(join(SRC, file), 'utf8')),
  )
  expect(statics).toEqual([])
  expect(users).toHaveLength(1)
})

test('database drivers are imported dynamically, in one file', () => {
  const text = (file: string): string => readFileSync(join(SRC, file), 'utf8')
  const drivers = /from '(pg|better-sqlite3|node:sqlite)'/
  expect(FILES.filter(file => drivers.test(text(file)))).toEqual([])
  expect(FILES.filter(file => /\bimport\(specifier\)/.test(text(file)))).toEqual(['stores/load-driver.ts'])
})

test('no source file is longer than 300 lines', () => {
  const long = FILES.filter(file => readFileSync(join(SRC, file), 'utf8').split('\n').length > 300)
  expect(long).toEqual([])
})
