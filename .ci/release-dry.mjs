/**
 * The whole release but for publishing, of both packages: `npm run release:dry`, or in five minutes without the consumers by `npm run
 * release:dry -- --without-consumers`. Each step is one line, well or failed with what it said; what only the owner can settle
 * (placeholders, the date in the changelog) is listed apart, and is no failure.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { argv, execPath } from 'node:process'
import { fileURLToPath } from 'node:url'
import { licencePage, packagesOf } from './licences.mjs'
import { unsettled } from './release.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const read = path => readFileSync(join(ROOT, path), 'utf8')
const work = mkdtempSync(join(tmpdir(), 'ipc-release-'))
const failed = []

function step(name, attempt) {
  try {
    console.log(`well    ${name}${suffix(attempt())}`)
  } catch (error) {
    failed.push(name)
    console.log(`FAILED  ${name}\n${String(error.message).slice(-2000)}`)
  }
}

const suffix = said => (said === undefined ? '' : `: ${said}`)

function run(command, args, cwd = ROOT) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 26 })
  if (status !== 0) throw new Error(`${stdout}${stderr}`)
  return stdout
}

const script = name => run('npm', ['run', '--silent', name])

/** The formats of profiles that the schema admits: what it ships is what the parser reads, and the policy says of it what a break is. */
function profileFormats() {
  const schema = read('src/seccos/profile/profile.schema.json')
  if (read('dist/seccos-profile.schema.json') !== schema) throw new Error('dist has another profile schema')
  const formats = JSON.parse(schema).properties.profileFormat.enum
  const parsed = read('src/seccos/profile/parse.ts').match(/'profileFormat'\), \[([\d, ]+)\]/)?.[1]
  if (parsed !== formats.join(', '))
    throw new Error(`the schema admits formats ${formats}, and ${parsed} are read`)
  if (!/^\| SECCOS profile format \|/m.test(read('docs/versioning.md')))
    throw new Error('docs/versioning.md does not name the profile format')
  return formats.join(' and ')
}

/** Versions agree, and the error table has every code of the code. */
function versions() {
  const { version } = JSON.parse(read('package.json'))
  const simulator = JSON.parse(read('packages/d1-simulator/package.json'))
  if (simulator.version !== version) throw new Error(`d1-simulator is ${simulator.version}, not ${version}`)
  if (!read('CHANGELOG.md').includes(version)) throw new Error(`CHANGELOG.md does not name ${version}`)
  const codes = new Set(read('src/base/errors.ts').match(/'ERR_[A-Z0-9_]+'/g))
  const page = read('docs/errors.md')
  const missing = [...codes].filter(
    code => !code.startsWith("'ERR_PKCS11_") && !page.includes(code.slice(1, -1)),
  )
  if (missing.length > 0) throw new Error(`docs/errors.md lacks ${missing.join(', ')}`)
  return `${version}, ${codes.size} error codes`
}

/** The package of a folder, as it would be published. */
function pack(folder) {
  const args = ['pack', '--json', '--pack-destination', work]
  const [packed] = Object.values(JSON.parse(run('npm', args, join(ROOT, folder))))
  return {
    tarball: join(work, packed.filename),
    said: `${packed.files.length} files, ${Math.ceil(packed.size / 1024)} KiB`,
  }
}

function sbom() {
  const { bomFormat, components } = JSON.parse(script('sbom'))
  if (bomFormat !== 'CycloneDX') throw new Error('the SBOM is not CycloneDX')
  const names = components.map(({ name, version }) => `${name}@${version}`)
  const expected = Object.keys(JSON.parse(read('package.json')).dependencies)
  if (
    expected.some(name => !names.some(found => found.startsWith(`${name}@`))) ||
    components.length !== expected.length
  )
    throw new Error(`the SBOM lists ${names}, not ${expected}`)
  return names.join(', ')
}

function licences() {
  const packages = packagesOf(JSON.parse(read('package-lock.json')), JSON.parse(read('package.json')))
  if (licencePage(packages) !== read('docs/licences.md'))
    throw new Error('docs/licences.md is not what npm run licences writes')
  return `${packages.length} packages`
}

/** In an empty folder, from the registry and the tarballs: no compiler, no script of any package. */
function install(tarballs) {
  const folder = join(work, 'empty')
  run('mkdir', [folder])
  writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}')
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...tarballs], folder)
  const [, code] = /```js\n([\s\S]*?)```/.exec(read('README.md')) ?? []
  writeFileSync(join(folder, 'readme.js'), code)
  const said = run(execPath, ['readme.js'], folder).trim()
  if (!/^ISO0 \S+ true$/.test(said)) throw new Error(`the README's example printed ${said}`)
  for (const bin of ['issuer-pin-crypto', 'd1-simulator'])
    run(execPath, [`node_modules/.bin/${bin}`, '--version'], folder)
  return `the README's example printed "${said}"`
}

try {
  step('build', () => void script('build'))
  step('versions, error codes, changelog', versions)
  step('formats of profiles', profileFormats)
  step('publint, attw', () => void script('check:package'))
  step('licences', licences)
  step('SBOM', sbom)
  const tarballs = []
  for (const folder of ['.', 'packages/d1-simulator']) {
    step(`npm pack, ${folder}`, () => {
      const { tarball, said } = pack(folder)
      tarballs.push(tarball)
      return said
    })
  }
  step('npm install in an empty folder', () => install(tarballs))
  for (const tarball of tarballs) {
    step(`npm publish, dry, ${basename(tarball)}`, () => {
      run('npm', ['publish', '--dry-run', '--ignore-scripts', tarball])
    })
  }
  if (!argv.includes('--without-consumers'))
    step('consumers', () => script('consumers').trim().split('\n').length - 3)
} finally {
  rmSync(work, { recursive: true, force: true })
}

const open = ['package.json', 'packages/d1-simulator/package.json'].flatMap(path =>
  unsettled(path, JSON.parse(read(path)), read('CHANGELOG.md')),
)
if (open.length > 0) console.log('\nfor the owner, before a release (CONTRIBUTING.md):')
for (const problem of new Set(open)) console.log(`  ${problem}`)
if (failed.length > 0) process.exitCode = 1
