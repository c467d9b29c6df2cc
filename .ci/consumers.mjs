/**
 * What consumers do with the package: the packed tarball, installed in an empty folder, is bundled, tested and run by each of
 * them, with a program that goes through every entry, and must print the same line everywhere. `npm run consumers` installs
 * all of them from npm, on their own, and prints a table; `test/package/package.test.ts` runs those that are here anyway.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { argv, execPath } from 'node:process'
import { fileURLToPath, pathToFileURL } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** CommonJS as Jest and AWS Lambda's Node 20 and 22 load it. A Node that has no such switch never loads ESM by `require`. */
const STRICT = process.allowedNodeEnvironmentFlags.has('--no-experimental-require-module')
  ? ['--no-experimental-require-module']
  : []

const IMPORTS = {
  '': ['Pin', 'Pan', 'encipherPin'],
  '/software': ['softwareBackend'],
  '/pkcs11': ['pkcs11Backend'],
  '/d1': ['getPinResponse', 'openSetPinRequest', 'ownTokens'],
  '/sqlite': ['openSqliteIssuerStore', 'panSealer'],
  '/postgres': ['openPostgresIssuerStore'],
  '/tools': ['inspectPinBlock'],
  '/testing': ['createTestIssuer'],
}

/** A PIN goes round, a token is issued and verified by jose; and what an optional package is missing for says so by its code. */
const BODY = `
const codeOf = call => Promise.resolve().then(call).then(() => 'done', error => error.code ?? String(error))

export async function main() {
  const { backend, storage, d1Zpk, jweKey, d1PublicJwk } = await createTestIssuer()
  const pan = Pan.from('9999990123456789')
  const stored = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: storage })
  const body = await getPinResponse({ block: stored, from: storage, to: d1Zpk, pan, d1PublicJwk })
  const set = await openSetPinRequest({ body, jweKeys: jweKey, from: d1Zpk, to: storage, pan })
  await backend.close()
  const tokens = await ownTokens({
    algorithm: 'HS256', keys: [{ kty: 'oct', kid: 'T', k: 'A'.repeat(43) }], issuer: 'https://i', audience: 'https://a', lifetimeSeconds: 60,
  })
  const { token } = await tokens.issue({ subject: 'd1', scopes: [] })
  const sealer = panSealer({ keys: [{ kid: 'P', key: new Uint8Array(32).fill(7) }] })
  return JSON.stringify({
    pin: String(set.kid) + (set.block.every((byte, i) => byte === stored[i]) ? ' same' : ' other'),
    token: token.split('.').length,
    tools: typeof inspectPinBlock,
    forge: await codeOf(async () => (await softwareBackend({ keys: [], engine: 'node-forge' })).close()),
    pkcs11js: await codeOf(() => pkcs11Backend({ module: process.execPath, token: 'x', pin: () => '1', binding: 'pkcs11js' })),
    koffi: await codeOf(() => pkcs11Backend({ module: process.execPath, token: 'x', pin: () => '1', binding: 'koffi' })),
    pg: await codeOf(() => openPostgresIssuerStore({ connectionString: 'postgres://localhost/x', panSealer: sealer })),
  })
}
`

/** What it must print without a single optional package. */
export const EXPECTED = {
  pin: 'PEK-TEST same',
  token: 3,
  tools: 'function',
  forge: 'done',
  pkcs11js: 'ERR_PKCS11_UNAVAILABLE',
  koffi: 'ERR_PKCS11_UNAVAILABLE',
  pg: 'ERR_UNSUPPORTED',
}
/** An ESM bundle has no `require`, which node-forge calls: that engine says so, and the others are there. */
export const WITHOUT_FORGE = { ...EXPECTED, forge: 'ERR_UNSUPPORTED' }

const names = Object.entries(IMPORTS)
const asModule =
  names.map(([path, of]) => `import { ${of} } from 'issuer-pin-crypto${path}'`).join('\n') + BODY
const asCommonJs =
  names.map(([path, of]) => `const { ${of} } = require('issuer-pin-crypto${path}')`).join('\n') +
  BODY.replace('export async', 'module.exports.main = main\nasync')
const PRINT =
  'main().then(line => console.log(line), error => { console.error(error); process.exitCode = 1 })\n'

/** Packs the tree as it is (after `npm run build`) into a folder. Gives the tarball's path and its files. */
export function packInto(folder) {
  if (!existsSync(join(ROOT, 'dist/index.js'))) throw new Error('no dist: npm run build first')
  const text = execFileSync('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  // npm 10 prints a list, npm 11 an object by package name.
  const [packed] = Object.values(JSON.parse(text))
  return { tarball: join(folder, packed.filename), files: packed.files.map(file => file.path) }
}

/** The program in both module systems, beside the `node_modules` that has the package. */
export function writeProgram(folder) {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true }))
  writeFileSync(join(folder, 'main.mjs'), `${asModule}\n${PRINT}`)
  writeFileSync(join(folder, 'main.cjs'), `${asCommonJs}\n${PRINT}`)
  writeFileSync(join(folder, 'round.mjs'), asModule)
  writeFileSync(join(folder, 'round.cjs'), asCommonJs)
}

/** A tool's package.json: from the folder beside the consumer's, or this repository's. */
function locate(folder, name) {
  const found = [join(folder, '../tools'), ROOT]
    .map(from => join(from, 'node_modules', name, 'package.json'))
    .find(existsSync)
  if (found === undefined) throw new Error(`${name} is not installed`)
  return found
}

async function tool(folder, name) {
  return import(pathToFileURL(createRequire(locate(folder, name)).resolve(name)).href)
}

/** Optional packages that are there, and say so by the error to which they lead. */
const STAND_INS = {
  pg: "exports.Pool = class { constructor() { throw Object.assign(new Error('here'), { code: 'FOUND' }) } }",
  pkcs11js: "exports.PKCS11 = class { load() { throw new Error('here') } }",
  koffi: "exports.load = () => { throw new Error('here') }",
}
const FOUND = { pkcs11js: 'ERR_PKCS11_MODULE', koffi: 'ERR_PKCS11_MODULE', pg: 'FOUND' }

/**
 * Runs what a bundler made as it would be deployed: alone, in a folder of its own. `beside` names packages that lie in its
 * `node_modules`: optional ones as stand-ins, which the bundle must find (so they were neither taken in nor lost).
 */
export function runAlone({ folder, entry, flags = [] }, beside = []) {
  const place = mkdtempSync(join(tmpdir(), 'ipc-alone-'))
  try {
    cpSync(folder, place, { recursive: true })
    for (const name of beside) {
      const home = join(place, 'node_modules', name)
      mkdirSync(dirname(home), { recursive: true })
      if (STAND_INS[name] === undefined) symlinkSync(join(ROOT, 'node_modules', name), home)
      else {
        mkdirSync(home)
        writeFileSync(join(home, 'index.js'), STAND_INS[name])
      }
    }
    return run(execPath, [...flags, entry], place)
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

/** What a program prints: one line of JSON. Throws with what it says where it fails. */
export function run(command, args, cwd) {
  return JSON.parse(spawn(command, args, cwd))
}

/** What a program prints. Throws with what it says where it fails. */
function spawn(command, args, cwd) {
  const { stdout, stderr, status, error } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${error ?? ''}${stderr}${stdout}`.slice(-2000))
  return stdout
}

/** Each bundler: the folder that it fills, what is started there, and what that must print. */
export const BUNDLERS = {
  'esbuild, one CommonJS file (AWS Lambda)': folder => esbuild(folder, 'cjs', EXPECTED),
  'esbuild, one ESM file': folder => esbuild(folder, 'mjs', WITHOUT_FORGE),
  'rollup, ESM': rollup,
  'Vite, SSR': vite,
  'webpack, from ESM': folder => webpack(folder, 'main.mjs'),
  'webpack, from CommonJS': folder => webpack(folder, 'main.cjs'),
}

async function esbuild(folder, kind, expected) {
  const { buildSync } = await tool(folder, 'esbuild')
  const out = join(folder, `out/esbuild-${kind}`)
  buildSync({
    bundle: true,
    platform: 'node',
    target: 'node20',
    logLevel: 'error',
    entryPoints: [join(folder, `main.${kind}`)],
    format: kind === 'cjs' ? 'cjs' : 'esm',
    outfile: join(out, `main.${kind}`),
  })
  return { folder: out, entry: `main.${kind}`, flags: STRICT, expected }
}

async function rollup(folder) {
  const { rollup: open } = await tool(folder, 'rollup')
  const home = join(folder, 'node_modules/issuer-pin-crypto')
  const { exports } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'))
  const warnings = []
  const bundle = await open({
    input: join(folder, 'main.mjs'),
    plugins: [
      {
        // Without a plugin rollup resolves no package; this one resolves ours, and leaves others outside.
        name: 'resolve',
        resolveId(id) {
          if (/^[./]/.test(id)) return null
          const target =
            id.startsWith('issuer-pin-crypto') && exports[`.${id.slice('issuer-pin-crypto'.length)}`]
          return target ? join(home, target.import.default) : { id, external: true }
        },
      },
    ],
    onwarn: ({ message }) => warnings.push(message),
  })
  const out = join(folder, 'out/rollup')
  await bundle.write({ dir: out, format: 'esm', entryFileNames: '[name].mjs', chunkFileNames: '[name].mjs' })
  await bundle.close()
  if (warnings.length > 0) throw new Error(warnings.join('\n'))
  return { folder: out, entry: 'main.mjs', beside: ['jose', 'node-forge'], expected: EXPECTED }
}

async function vite(folder) {
  const { build } = await tool(folder, 'vite')
  const outDir = join(folder, 'out/vite')
  await build({
    root: folder,
    configFile: false,
    logLevel: 'error',
    ssr: { noExternal: true },
    build: { ssr: join(folder, 'main.mjs'), outDir, emptyOutDir: true, target: 'node20' },
  })
  writeFileSync(join(outDir, 'package.json'), '{"type":"module"}')
  const [entry] = readdirSync(outDir).filter(name => /^main\.m?js$/.test(name))
  return { folder: outDir, entry, expected: EXPECTED }
}

async function webpack(folder, entry) {
  const { default: make } = await tool(folder, 'webpack')
  const out = join(folder, `out/webpack-${entry}`)
  const stats = await new Promise((resolve, reject) => {
    const options = { mode: 'none', target: 'node20', context: folder, entry: join(folder, entry) }
    make({ ...options, output: { path: out, filename: 'main.cjs' } }, (error, result) =>
      error ? reject(error) : resolve(result),
    )
  })
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true })
  const problems = [...errors, ...warnings]
  if (problems.length > 0)
    throw new Error(
      problems
        .map(({ message }) => message)
        .join('\n')
        .slice(0, 2000),
    )
  return { folder: out, entry: 'main.cjs', expected: EXPECTED }
}

/** Bundles, runs the result alone, and once more with optional packages beside it. Throws where a line is not as it must be. */
export async function tryBundler(name, folder) {
  const { beside = [], expected, ...made } = await BUNDLERS[name](folder)
  same(runAlone(made, beside), expected)
  same(runAlone(made, [...beside, ...Object.keys(STAND_INS)]), { ...expected, ...FOUND })
}

/** The package as it is installed, without a bundler: the README's example as it is pasted, ESM, and CommonJS where `require` of ESM is off. */
export function tryNode(folder, node = execPath, flags = STRICT) {
  const readme = readFileSync(join(folder, 'node_modules/issuer-pin-crypto/README.md'), 'utf8')
  writeFileSync(join(folder, 'pasted.mjs'), /```js\n([\s\S]*?)```/.exec(readme)[1])
  same(spawn(node, ['pasted.mjs'], folder), 'ISO0 PEK-TEST true\n')
  same(run(node, ['main.mjs'], folder), EXPECTED)
  same(run(node, [...flags, 'main.cjs'], folder), EXPECTED)
}

/** A test runner, with a test of two lines. Jest takes the CommonJS build, and has no `import()`. */
export function tryRunner(name, folder) {
  const home = dirname(locate(folder, name))
  const [kind, bin, args] = RUNNERS[name]
  const place = join(folder, name)
  mkdirSync(place, { recursive: true })
  const load =
    kind === 'cjs' ? "const { main } = require('../round.cjs')" : "import { main } from '../round.mjs'"
  const test = `test('a round', async () => expect(JSON.parse(await main())).toEqual(${JSON.stringify(EXPECTED)}))`
  writeFileSync(join(place, kind === 'cjs' ? 'a.test.js' : 'a.test.mjs'), `${load}\n${test}\n`)
  spawn(execPath, [join(home, bin), ...args, place], folder)
}
const RUNNERS = {
  jest: ['cjs', 'bin/jest.js', ['--rootDir']],
  vitest: ['mjs', 'vitest.mjs', ['run', '--globals', '--root']],
}

const TYPED = `
import { type Backend, encipherPin, Pan, Pin } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { issuerEndpoints, nodeListener } from 'issuer-pin-crypto/d1'
import { openSqliteIssuerStore } from 'issuer-pin-crypto/sqlite'
import { openPostgresIssuerStore } from 'issuer-pin-crypto/postgres'
import { inspectPinBlock } from 'issuer-pin-crypto/tools'
import { backendContract } from 'issuer-pin-crypto/testing'
export const open = (): Promise<Backend> => softwareBackend({ keys: [] })
export const all = [
  pkcs11Backend, issuerEndpoints, nodeListener, openSqliteIssuerStore, openPostgresIssuerStore, inspectPinBlock, backendContract,
] as const
// @ts-expect-error a format is never left out
export const wrong = encipherPin({ pin: Pin.from('1234'), pan: Pan.from('9999990123456789') })
`

/** A compiler on the declarations of every entry, strictly and without `skipLibCheck`, by the rules of Node and of bundlers. */
export function tryCompiler(name, folder) {
  const bin = join(dirname(locate(folder, name)), 'bin/tsc')
  const types = join(dirname(locate(folder, '@types/node')), '..')
  const compile = (resolution, file, typeRoots) => {
    const compilerOptions = {
      strict: true,
      noEmit: true,
      target: 'es2022',
      lib: ['es2023', 'esnext.disposable'],
      module: resolution === 'bundler' ? 'esnext' : resolution,
      moduleResolution: resolution,
      typeRoots,
      types: typeRoots.length > 0 ? ['node'] : [],
    }
    const config = join(folder, `tsconfig.${name}.${resolution}.json`)
    writeFileSync(join(folder, file), TYPED)
    writeFileSync(config, JSON.stringify({ compilerOptions, files: [file] }))
    return spawnSync(execPath, [bin, '-p', config], { cwd: folder, encoding: 'utf8' })
  }
  for (const [resolution, file] of [
    ['nodenext', 'typed.mts'],
    ['nodenext', 'typed.cts'],
    ['bundler', 'typed.mts'],
  ]) {
    const { status, stdout } = compile(resolution, file, [types])
    if (status !== 0) throw new Error(`${resolution}, ${file}: ${stdout.slice(0, 1500)}`)
  }
  // Whoever lacks Node's types is told which.
  const { stdout } = compile('nodenext', 'typed.mts', [])
  if (!/TS2688.*'node'/.test(stdout)) throw new Error(`without @types/node: ${stdout.slice(0, 500)}`)
}

export function same(seen, expected) {
  if (JSON.stringify(seen) === JSON.stringify(expected)) return
  throw new Error(`it printed ${JSON.stringify(seen)}, not ${JSON.stringify(expected)}`)
}

/** What is installed for the whole run, each at the version with which it was tried. */
const TOOLS = {
  esbuild: '0.27',
  rollup: '4.67.4',
  vite: '7',
  vitest: '4.1',
  webpack: '5.113.0',
  jest: '30.5.2',
  '@types/node': '20.19',
  'typescript-5.9': 'npm:typescript@5.9',
  'typescript-6': 'npm:typescript@6',
  'typescript-7': 'npm:typescript@7.0.2',
  // The packages of this platform themselves: those named `node`, `bun` and `deno` would run a script to fetch them.
  'node-20': `npm:node-${process.platform}-${process.arch}@20`,
  'node-22': `npm:node-${process.platform}-${process.arch}@22`,
  'node-24': `npm:node-${process.platform}-${process.arch}@24`,
  'node-26': `npm:node-${process.platform}-${process.arch}@26`,
  bun: `npm:@oven/bun-${process.platform}-${process.arch}@1.4.5`,
  deno: `npm:@deno/${process.platform}-${process.arch}-glibc@2.9.6`,
}

/** All of it, in an empty folder: the tarball as a user installs it, the tools beside it. Ends with a table. */
async function all() {
  const home = mkdtempSync(join(tmpdir(), 'ipc-consumers-'))
  const folder = join(home, 'consumer')
  const tools = join(home, 'tools')
  const rows = []
  const row = async (name, attempt) => {
    const begun = performance.now()
    const problem = await Promise.resolve()
      .then(attempt)
      .then(() => '', String)
    const seconds = ((performance.now() - begun) / 1000).toFixed(1)
    rows.push(problem)
    console.log(`| ${name} | ${problem === '' ? 'well' : 'FAILED'} | ${seconds} s |`)
    if (problem !== '') console.error(problem)
  }
  const install = (cwd, what) =>
    spawn('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...what], cwd)
  try {
    for (const place of [folder, tools]) mkdirSync(place)
    writeProgram(folder)
    writeFileSync(join(tools, 'package.json'), '{"private":true}')
    const { tarball } = packInto(home)
    console.log('| consumer | | |\n|---|---|---|')
    await row('`npm install` of the tarball in an empty folder', () => install(folder, [tarball]))
    await row('(installing the tools)', () =>
      install(
        tools,
        Object.entries(TOOLS).map(([name, version]) => `${name}@${version}`),
      ),
    )
    for (const name of Object.keys(BUNDLERS)) await row(name, () => tryBundler(name, folder))
    for (const name of Object.keys(RUNNERS)) await row(name, () => tryRunner(name, folder))
    for (const name of Object.keys(TOOLS).filter(name => name.startsWith('typescript-'))) {
      await row(versionOf(tools, name), () => tryCompiler(name, folder))
    }
    for (const name of Object.keys(TOOLS).filter(name => name.startsWith('node-'))) {
      const node = join(tools, 'node_modules', name, 'bin/node')
      await row(versionOf(tools, name), () => tryNode(folder, node, ['--no-experimental-require-module']))
    }
    for (const [name, bin, args] of [
      ['bun', 'bin/bun', ['run']],
      ['deno', 'deno', ['run', '-A']],
    ]) {
      await row(versionOf(tools, name), () => {
        for (const entry of ['main.mjs', 'main.cjs']) {
          same(run(join(tools, 'node_modules', name, bin), [...args, entry], folder), EXPECTED)
        }
      })
    }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
  if (rows.some(problem => problem !== '')) process.exitCode = 1
}

function versionOf(tools, name) {
  const { version } = JSON.parse(readFileSync(join(tools, 'node_modules', name, 'package.json'), 'utf8'))
  return `${name.replace(/-[\d.]+$/, '')} ${version}`
}

if (argv[1] === fileURLToPath(import.meta.url)) await all()
