/**
 * Installs what the demo and the native tests need and npm does not bring: the pkcs11js addon (compiled here, because
 * `npm ci` runs no install script), SoftHSM and NSS softokn. Does nothing where everything is present; where it may
 * not install (no root, no apt), it says what to install and leaves the decision to the caller.
 *
 * Exit status 0 also where a module is still missing: the tests then say what they could not run, and in CI
 * (CI=true) they fail.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'

const NEEDS = [
  { what: 'SoftHSM', package: 'softhsm2', present: () => existsSync('/usr/lib/softhsm/libsofthsm2.so') },
  { what: 'softhsm2-util', package: 'softhsm2', present: () => onPath('softhsm2-util') },
  { what: 'NSS softokn', package: 'libnss3', present: () => onLibraryPath('libsoftokn3.so') },
  { what: 'certutil', package: 'libnss3-tools', present: () => onPath('certutil') },
]
const COMPILER = [
  { what: 'C++ compiler', package: 'g++', present: () => onPath('g++') },
  { what: 'make', package: 'make', present: () => onPath('make') },
  { what: 'Python 3', package: 'python3', present: () => onPath('python3') },
]

function onPath(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0
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

function addonWorks() {
  // In a process of its own: a broken addon may crash, and a loaded one could not be rebuilt.
  return spawnSync(process.execPath, ['-e', "require('pkcs11js')"], { stdio: 'ignore' }).status === 0
}

const addonReady = addonWorks()
install([...NEEDS, ...(addonReady ? [] : COMPILER)].filter(need => !need.present()))
if (!addonReady) {
  const folder = dirname(createRequire(import.meta.url).resolve('pkcs11js/package.json'))
  console.log('setup: compiling pkcs11js')
  if (!run('npm', ['run', '--silent', 'build'], { cwd: folder, stdio: 'ignore' })) {
    console.error('setup: pkcs11js does not compile here; it needs python3, make and g++')
  }
}
