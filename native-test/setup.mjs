/**
 * Installs what the demo and the native tests need and npm does not bring: the addons pkcs11js and better-sqlite3
 * (compiled here, because `npm ci` runs no install script), SoftHSM, NSS softokn, openCryptoki, p11-kit, pkcs11-spy, a PostgreSQL
 * server, nginx with njs. Does nothing where everything is present; where it may not install (no root, no apt), it says what to install
 * and leaves the decision to the caller.
 *
 *     node native-test/setup.mjs           everything, for the tests
 *     node native-test/setup.mjs demo      SoftHSM, and a binding to it: koffi is prebuilt, so nothing is compiled
 *     node native-test/setup.mjs serve …   what the options of `serve` need, and no more: with `--backend pkcs11` the
 *                                          same as the demo, with SQLite a driver where Node has none (before 22.13)
 *
 * Exit status 0 also where a module is still missing: the tests then say what they could not run, and in CI
 * (CI=true) they fail.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { parseArgs } from 'node:util'

const NEEDS = [
  { what: 'SoftHSM', package: 'softhsm2', present: () => existsSync('/usr/lib/softhsm/libsofthsm2.so') },
  { what: 'softhsm2-util', package: 'softhsm2', present: () => onPath('softhsm2-util') },
  { what: 'NSS softokn', package: 'libnss3', present: () => onLibraryPath('libsoftokn3.so') },
  { what: 'certutil', package: 'libnss3-tools', present: () => onPath('certutil') },
  { what: 'openssl', package: 'openssl', present: () => onPath('openssl') },
  { what: 'PostgreSQL', package: 'postgresql', present: hasPostgres },
  { what: 'PgBouncer', package: 'pgbouncer', present: () => existsSync('/usr/sbin/pgbouncer') },
  { what: 'sqlite3', package: 'sqlite3', present: () => onPath('sqlite3') },
  { what: 'spin', package: 'spin', present: () => onPath('spin') },
  { what: 'C compiler', package: 'gcc', present: () => onPath('gcc') },
  { what: 'openCryptoki', package: 'opencryptoki', present: () => onPath('pkcsconf') },
  { what: 'p11-kit', package: 'p11-kit', present: () => onPath('p11-kit') },
  {
    what: 'p11-kit modules',
    package: 'p11-kit-modules',
    present: () => onLibraryPath('pkcs11/p11-kit-client.so'),
  },
  { what: 'pkcs11-spy', package: 'opensc-pkcs11', present: () => onLibraryPath('pkcs11-spy.so') },
  { what: 'nginx', package: 'nginx', present: () => existsSync('/usr/sbin/nginx') },
  {
    what: 'njs',
    package: 'libnginx-mod-http-js',
    present: () => existsSync('/usr/lib/nginx/modules/ngx_http_js_module.so'),
  },
]
const COMPILER = [
  { what: 'C++ compiler', package: 'g++', present: () => onPath('g++') },
  { what: 'make', package: 'make', present: () => onPath('make') },
  { what: 'Python 3', package: 'python3', present: () => onPath('python3') },
]

function onPath(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0
}

/** The server of any version. The cluster that the package makes is neither started nor used. */
function hasPostgres() {
  const home = '/usr/lib/postgresql'
  return existsSync(home) && readdirSync(home).some(version => existsSync(`${home}/${version}/bin/initdb`))
}

function onLibraryPath(name) {
  return ['x86_64', 'aarch64'].some(machine => existsSync(`/usr/lib/${machine}-linux-gnu/${name}`))
}

function run(command, args, options = {}) {
  const { status } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options })
  return status === 0
}

function install(missing) {
  const packages = [...new Set(missing.map(need => need.package))]
  if (packages.length === 0) return
  const mayInstall = process.getuid?.() === 0 && onPath('apt-get')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  if (
    mayInstall &&
    run('apt-get', ['update', '-qq'], { env }) &&
    run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], { env })
  ) {
    console.log(`setup: installed ${packages.join(', ')}`)
    return
  }
  console.error(`setup: missing ${missing.map(need => need.what).join(', ')}; install it with`)
  console.error(`  sudo apt-get install ${packages.join(' ')}`)
}

/** Native addons, and the script of theirs that compiles them. */
const ADDONS = [
  { name: 'pkcs11js', script: 'build' },
  { name: 'better-sqlite3', script: 'build-release' },
]

/** Loaded in a process of its own: a broken addon may crash, and a loaded one could not be rebuilt. */
function addonWorks({ name }) {
  const code = name === 'better-sqlite3' ? `new (require('${name}'))(':memory:')` : `require('${name}')`
  return spawnSync(process.execPath, ['-e', code], { stdio: 'ignore' }).status === 0
}

function compile({ name, script }) {
  const folder = new URL(`../node_modules/${name}`, import.meta.url)
  if (!existsSync(folder)) {
    console.error(`setup: ${name} is not installed; run npm ci first`)
    return
  }
  console.log(`setup: compiling ${name}`)
  const { status, stderr, stdout } = spawnSync('npm', ['run', '--silent', script], {
    cwd: folder,
    encoding: 'utf8',
  })
  if (status === 0) return
  console.error(`setup: ${name} does not compile here (it needs python3, make and g++):`)
  console.error(`${stdout}${stderr}`.split('\n').slice(-15).join('\n'))
}

/** koffi brings its binary; where there is none for this platform, pkcs11js is compiled. */
function canLoadModules() {
  return addonWorks({ name: 'koffi' }) || addonWorks({ name: 'pkcs11js' })
}

function hasSqlite() {
  const code = "require('node:sqlite')"
  return spawnSync(process.execPath, ['-e', code], { stdio: 'ignore' }).status === 0
}

/** For `serve`: what it refuses, it refuses itself, and nothing is installed or compiled for that. */
function partOfServe(args) {
  const options = { store: { type: 'string' }, backend: { type: 'string' }, module: { type: 'string' } }
  // A word that belongs to an option unknown here is a positional.
  const { values } = parseArgs({ args, options, strict: false, allowPositionals: true })
  const token = values.backend === 'pkcs11'
  const sqlite = !values.help && (values.store ?? 'sqlite') === 'sqlite'
  return {
    packages: token && values.module === undefined && !values.onboarding ? ['softhsm2'] : [],
    addons: ({ name }) => (name === 'pkcs11js' ? token && !canLoadModules() : sqlite && !hasSqlite()),
    host: sqlite,
  }
}

/** What each part needs; without a name, everything. */
const PARTS = {
  demo: () => ({
    packages: ['softhsm2'],
    addons: ({ name }) => name === 'pkcs11js' && !canLoadModules(),
    host: false,
  }),
  serve: partOfServe,
}
const [, , name, ...rest] = process.argv
const part = name === undefined ? { addons: () => true, host: true } : PARTS[name]?.(rest)
if (part === undefined) {
  console.error(`setup: it takes ${Object.keys(PARTS).join(' or ')}, or nothing for everything`)
  process.exit(2)
}

const missingAddons = ADDONS.filter(addon => part.addons(addon) && !addonWorks(addon))
const needs = NEEDS.filter(need => part.packages?.includes(need.package) ?? true)
install([...needs, ...(missingAddons.length === 0 ? [] : COMPILER)].filter(need => !need.present()))
for (const addon of missingAddons) compile(addon)

// What a thread of the SQLite store runs, where the library runs from its sources (`npm run serve`, `npm run load`).
const HOST = 'src/stores/sqlite/host-entry.ts'
const esbuild = new URL('../node_modules/.bin/esbuild', import.meta.url)
if (part.host && existsSync(esbuild)) {
  const options = ['--bundle', '--platform=node', '--format=esm', '--target=node20', '--log-level=error']
  run(esbuild.pathname, [HOST, ...options, `--outfile=${HOST.replace('host-entry.ts', 'sqlite-host.mjs')}`], {
    cwd: new URL('..', import.meta.url),
  })
}
