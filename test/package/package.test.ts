import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const ROOT = new URL('../..', import.meta.url).pathname
const MANIFEST = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  exports: Record<string, unknown>
  dependencies: Record<string, string>
}
const CODE_SUBPATHS = Object.keys(MANIFEST.exports).filter(path => !path.includes('json'))

/** What `npm run consumers` does with tools that it installs; here with those that are here anyway. */
const consumers = (await import(new URL('../../.ci/consumers.mjs', import.meta.url).href)) as {
  packInto: (folder: string) => { readonly tarball: string; readonly files: string[] }
  writeProgram: (folder: string) => void
  tryBundler: (name: string, folder: string) => Promise<void>
  tryNode: (folder: string) => void
  tryRunner: (name: string, folder: string) => void
  same: (seen: unknown, expected: unknown) => void
  BUNDLERS: Readonly<Record<string, unknown>>
}

let consumer: string
let files: string[]

/** A project that has the packed tarball and its two dependencies installed, and nothing else: no pkcs11js. */
beforeAll(() => {
  consumer = mkdtempSync(join(tmpdir(), 'issuer-pin-crypto-consumer-'))
  const packed = consumers.packInto(consumer)
  files = packed.files
  const home = join(consumer, 'node_modules', 'issuer-pin-crypto')
  mkdirSync(home, { recursive: true })
  execFileSync('tar', ['-xzf', packed.tarball, '--strip-components=1', '-C', home])
  for (const name of Object.keys(MANIFEST.dependencies)) {
    symlinkSync(join(ROOT, 'node_modules', name), join(consumer, 'node_modules', name))
  }
  consumers.writeProgram(consumer)
})
afterAll(() => rmSync(consumer, { recursive: true, force: true }))

function run(name: string, code: string): string {
  writeFileSync(join(consumer, name), code)
  return execFileSync(process.execPath, [name], { cwd: consumer, encoding: 'utf8' })
}

describe('the tarball', () => {
  test('holds the builds, their declarations, the vectors and the documents; no sources, no tests', () => {
    const expected =
      /^(dist\/[\w.-]+\.(js|cjs|d\.ts|d\.cts)|dist\/(?:agreement|search|sqlite)-host\.mjs|dist\/seccos-profile\.schema\.json|vectors\/((corpus\/)?[\w-]+\.json|README\.md)|package\.json|README\.md|SECURITY\.md|CHANGELOG\.md|CONTRIBUTING\.md|docs\/[\w./-]+\.(md|svg|json)|LICENSE)$/
    expect(files.filter(path => !expected.test(path))).toEqual([])
    for (const path of ['README.md', 'SECURITY.md', 'LICENSE', 'dist/index.d.cts', 'vectors/schema.json']) {
      expect(files).toContain(path)
    }
  })
})

describe('the documents of the tarball', () => {
  /** The address of a heading, as GitHub and npm make it. */
  const anchorOf = (heading: string): string =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_\- ]/gu, '')
      .trim()
      .replaceAll(' ', '-')
  const read = (path: string): string =>
    readFileSync(join(consumer, 'node_modules/issuer-pin-crypto', path), 'utf8')
  const anchors = (path: string): ReadonlySet<string> =>
    new Set(Array.from(read(path).matchAll(/^#+ (.*)$/gm), ([, heading = '']) => anchorOf(heading)))

  /** What links of a page lead nowhere: not to a file or a folder of the tarball, or to a heading that is not there. */
  function dead(page: string, text: string): readonly string[] {
    const links = text.replaceAll(/```[\s\S]*?```/g, '').matchAll(/\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"/g)
    return Array.from(links, ([, link, attribute]) => link ?? attribute ?? '').filter(link => {
      if (/^https:/.test(link)) return false
      const [path = '', anchor] = link.split('#')
      const to = path === '' ? page : join(page, '..', path)
      if (!files.includes(to)) return !files.some(file => file.startsWith(`${to}/`))
      return anchor !== undefined && to.endsWith('.md') && !anchors(to).has(anchor)
    })
  }

  test('a dead link, and a heading that is not there, are seen', () => {
    const text = '[a](docs/no.md) [b](README.md#no-such) ![c](docs/no.svg) [d](http://x) <a href="x">'
    expect(dead('README.md', text)).toEqual([
      'docs/no.md',
      'README.md#no-such',
      'docs/no.svg',
      'http://x',
      'x',
    ])
  })

  test('no link leads nowhere', () => {
    const pages = files.filter(path => path.endsWith('.md'))
    expect(pages.length).toBeGreaterThan(60)
    expect(pages.flatMap(page => dead(page, read(page)).map(link => `${page}: ${link}`))).toEqual([])
  })

  test('what the package brings for CommonJS are its entries, and no command that nothing starts', () => {
    expect(files).toContain('dist/cli.js')
    expect(files).not.toContain('dist/cli.cjs')
  })
})

test('the example of the README has 15 lines at most, and runs as it is pasted, as plain JavaScript on this Node', () => {
  const readme = readFileSync(join(consumer, 'node_modules/issuer-pin-crypto/README.md'), 'utf8')
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? expect.fail('no example')
  const statements = code.split('\n').filter(line => line.trim() !== '')
  expect(statements.length).toBeLessThanOrEqual(15)
  expect(run('pasted.mjs', code)).toBe('ISO0 PEK-TEST true\n')
  expect(readme.replaceAll(/```[\s\S]*?```/g, '').split(/\s+/).length).toBeLessThan(1200)
})

describe('without pkcs11js and without a compiler', () => {
  test.each(CODE_SUBPATHS)('%s loads as ESM and as CommonJS', subpath => {
    const name = `issuer-pin-crypto${subpath.slice(1)}`
    const esm = run('load.mjs', `console.log(Object.keys(await import('${name}')).sort().join())`)
    const cjs = run('load.cjs', `console.log(Object.keys(require('${name}')).sort().join())`)
    expect(esm).toBe(cjs)
    expect(esm.trim()).not.toBe('')
  })

  test.each(CODE_SUBPATHS)(
    '%s loads as CommonJS where `require` of ESM is off (Jest, AWS Lambda)',
    subpath => {
      writeFileSync(
        join(consumer, 'strict.cjs'),
        `console.log(Object.keys(require('issuer-pin-crypto${subpath.slice(1)}')).length > 0)`,
      )
      const arguments_ = ['--no-experimental-require-module', 'strict.cjs']
      expect(execFileSync(process.execPath, arguments_, { cwd: consumer, encoding: 'utf8' })).toBe('true\n')
    },
  )

  test('`.` and `./software` load no native addon', () => {
    const out = run(
      'native.mjs',
      `const opened = []
       const dlopen = process.dlopen
       process.dlopen = (...args) => { opened.push(args[1]); return dlopen(...args) }
       await import('issuer-pin-crypto')
       const { softwareBackend } = await import('issuer-pin-crypto/software')
       const backend = await softwareBackend({ keys: [] })
       await backend.close()
       console.log(JSON.stringify(opened))`,
    )
    expect(JSON.parse(out)).toEqual([])
  })

  test('errors are recognised across ESM and CommonJS by code and by isIssuerPinError', () => {
    const out = run(
      'mixed.mjs',
      `import { createRequire } from 'node:module'
       import { isIssuerPinError, Pin } from 'issuer-pin-crypto'
       const cjs = createRequire(import.meta.url)('issuer-pin-crypto')
       try { cjs.Pin.from('12') } catch (error) { console.log(error.code, isIssuerPinError(error), error instanceof cjs.InputError) }
       try { Pin.from('12') } catch (error) { console.log(error.code, cjs.isIssuerPinError(error)) }`,
    )
    expect(out).toBe('ERR_PIN true true\nERR_PIN true\n')
  })

  test('a PIN goes round in CommonJS: subpaths share their classes', () => {
    const out = run(
      'round.cjs',
      `const { Pin, Pan, encipherPin, decipherPin } = require('issuer-pin-crypto')
       const { softwareBackend } = require('issuer-pin-crypto/software')
       const { getPinResponse } = require('issuer-pin-crypto/d1')
       ;(async () => {
         const backend = await softwareBackend({ engine: 'node-forge', keys: [
           { kid: 'K', usage: 'pin-encryption', algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' }] })
         const key = await backend.bind({ kid: 'K', usage: 'pin-encryption', hostDecipher: true })
         const pan = Pan.from('9999990123456789')
         const block = await encipherPin({ pin: Pin.from('1234'), pan, format: 0, key })
         const pin = await decipherPin({ block, pan, format: 0, key })
         console.log(pin.reveal(), typeof getPinResponse)
         await backend.close()
       })()`,
    )
    expect(out).toBe('1234 function\n')
  })

  test('the vectors and package.json are reachable', () => {
    const out = run(
      'vectors.cjs',
      `console.log(require('issuer-pin-crypto/vectors/pin-block-format0.json').vectors.length > 100)
       console.log(require('issuer-pin-crypto/package.json').name)`,
    )
    expect(out).toBe('true\nissuer-pin-crypto\n')
  })
})

describe('consumers that go through every entry', () => {
  const here = Object.keys(consumers.BUNDLERS).filter(name => !name.startsWith('webpack'))

  test('a line that is not as it must be is seen', () => {
    expect(() => consumers.same({ pg: 'ERR_UNSUPPORTED' }, { pg: 'FOUND' })).toThrow('not {"pg":"FOUND"}')
  })

  test.each(here)('%s: the bundle runs alone, and finds optional packages where it runs', async name => {
    await consumers.tryBundler(name, consumer)
  })

  test('Node without a bundler, as ESM and as CommonJS where `require` of ESM is off', () => {
    consumers.tryNode(consumer)
  })

  test('vitest', () => {
    consumers.tryRunner('vitest', consumer)
  })
})

describe('the threads of the SQLite store', () => {
  const use = `
    const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32) }] })
    const open = () => openSqliteIssuerStore({ path: process.argv[2], driver: 'better-sqlite3', panSealer: sealer })
    open().then(async store => {
      const card = { issuerId: 'is_tbank01', cardId: 'card-0001' }
      await store.cards.put(card, { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['ISO0'] })
      console.log((await store.cards.find(card)).state)
      // Not closed: threads with nothing to do do not keep the process.
    }, error => console.log(error.code, error.message))
  `
  const asModule = `import { Pan } from 'issuer-pin-crypto'
    import { openSqliteIssuerStore, panSealer } from 'issuer-pin-crypto/sqlite'
    ${use}`
  const asCommonJs = `const { Pan } = require('issuer-pin-crypto')
    const { openSqliteIssuerStore, panSealer } = require('issuer-pin-crypto/sqlite')
    ${use}`
  const start = (file: string): string =>
    execFileSync(process.execPath, [file, join(consumer, `${file.replaceAll('/', '-')}.db`)], {
      cwd: consumer,
      encoding: 'utf8',
    }).trim()

  beforeAll(() => {
    for (const name of ['better-sqlite3', 'bindings', 'file-uri-to-path']) {
      const [to, at] = [join(ROOT, 'node_modules', name), join(consumer, 'node_modules', name)]
      if (existsSync(to) && !existsSync(at)) symlinkSync(to, at)
    }
    writeFileSync(join(consumer, 'threads.mjs'), asModule)
    writeFileSync(join(consumer, 'threads.cjs'), asCommonJs)
  })

  test.each(['threads.mjs', 'threads.cjs'])('run from the package: %s', file => {
    expect(start(file)).toBe('active')
  })

  test.each([
    ['esm', 'threads.mjs', 'bundle/main.mjs'],
    ['cjs', 'threads.cjs', 'bundle/main.cjs'],
  ] as const)(
    'run from a bundle (%s) beside which their file was copied; without it that is said',
    (format, entry, out) => {
      mkdirSync(join(consumer, 'bundle'), { recursive: true })
      buildSync({
        entryPoints: [join(consumer, entry)],
        outfile: join(consumer, out),
        bundle: true,
        platform: 'node',
        format,
        external: ['better-sqlite3'],
        logLevel: 'error',
      })
      rmSync(join(consumer, 'bundle/sqlite-host.mjs'), { force: true })
      expect(start(out)).toContain('ERR_UNSUPPORTED sqlite-host.mjs is not beside the program')
      const built = join(consumer, 'node_modules/issuer-pin-crypto/dist/sqlite-host.mjs')
      copyFileSync(built, join(consumer, 'bundle/sqlite-host.mjs'))
      expect(start(out)).toBe('active')
    },
  )
})

describe('TypeScript consumers', () => {
  const source = `
    import { type Backend, encipherPin, Pan, Pin } from 'issuer-pin-crypto'
    import { softwareBackend } from 'issuer-pin-crypto/software'
    import { getPinResponse } from 'issuer-pin-crypto/d1'
    import { backendContract } from 'issuer-pin-crypto/testing'
    export const open = (): Promise<Backend> => softwareBackend({ keys: [] })
    export const verbs = [encipherPin, getPinResponse, backendContract, Pan, Pin] as const
    // @ts-expect-error a format is never left out
    export const wrong = encipherPin({ pin: Pin.from('1234'), pan: Pan.from('9999990123456789') })
  `
  test.each([
    ['nodenext', { module: 'nodenext', moduleResolution: 'nodenext' }],
    ['bundler', { module: 'esnext', moduleResolution: 'bundler' }],
  ])('compile with moduleResolution %s', (name, resolution) => {
    const options = {
      strict: true,
      noEmit: true,
      target: 'es2022',
      lib: ['es2023', 'esnext.disposable'],
      types: ['node'],
    }
    const project = {
      compilerOptions: { ...options, ...resolution, typeRoots: [join(ROOT, 'node_modules/@types')] },
    }
    writeFileSync(join(consumer, 'index.mts'), source)
    const config = join(consumer, `tsconfig.${name}.json`)
    writeFileSync(config, JSON.stringify({ ...project, files: ['index.mts'] }))
    const compile = () =>
      execFileSync(process.execPath, [join(ROOT, 'node_modules/typescript/lib/tsc.js'), '-p', config], {
        encoding: 'utf8',
      })
    expect(compile()).toBe('')
  })
})
