/**
 * The whole suite on several Node versions: `npm run matrix [20 22 24 26]`. The binaries come from npm's `node-<platform>` packages, headers
 * included; better-sqlite3, whose build is for one version, is compiled anew for each, in a copy of the tree. Ends with a table.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const ROOT = new URL('..', import.meta.url).pathname
const versions = process.argv.length > 2 ? process.argv.slice(2) : ['20', '22', '24', '26']
const work = mkdtempSync(join(tmpdir(), 'issuer-pin-matrix-'))
const copy = join(work, 'main')

function run(name, args, options) {
  const { status, stdout, stderr } = spawnSync(name, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  })
  return { ok: status === 0, text: `${stdout}${stderr}` }
}

/** The tracked files with the installed packages: what is compiled in there is not compiled in the tree. */
mkdirSync(copy)
execFileSync(
  'sh',
  [
    '-c',
    `git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t '${copy}' && cp -r node_modules '${copy}/'`,
  ],
  { cwd: ROOT },
)
symlinkSync(join(ROOT, '..', 'shared'), join(work, 'shared'))

const table = []
for (const version of versions) {
  const home = join(work, `node-${version}`)
  // The package of this platform itself: the one named `node` would need an install script to fetch it.
  const name = `node-${process.platform}-${process.arch}`
  const installed = run('npm', ['install', '--prefix', home, `${name}@${version}`])
  const platform = join(home, 'node_modules', name)
  const binary = join(platform, 'bin')
  const env = {
    ...process.env,
    PATH: `${binary}:${process.env.PATH}`,
    npm_config_nodedir: platform,
    CI: 'true',
  }
  const { ok, text } = run('node', ['--version'], { env })
  if (!installed.ok || !ok || !text.startsWith(`v${version}.`)) {
    table.push({ version, result: `no binary: ${installed.text.slice(-200)}` })
    continue
  }
  console.log(`Node ${text.trim()}: compiling better-sqlite3`)
  const compiled = run('npm', ['run', '--silent', 'build-release'], {
    env,
    cwd: join(copy, 'node_modules/better-sqlite3'),
  })
  if (!compiled.ok) console.log(compiled.text.slice(-2000))
  console.log(`Node ${text.trim()}: building and testing`)
  // The demo builds without declarations, so it goes first.
  const demo = run('npm', ['run', '--silent', 'demo'], { env, cwd: copy })
  const built = run('npm', ['run', '--silent', 'build'], { env, cwd: copy })
  const tests = run('node', ['node_modules/vitest/vitest.mjs', 'run'], { env, cwd: copy })
  if (!tests.ok) console.log(tests.text.slice(-6000))
  const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(
    readFileSync(join(copy, 'reports/tests.json'), 'utf8'),
  )
  const result = `${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`
  table.push({
    version: text.trim(),
    build: built.ok,
    demo: demo.ok,
    result,
    ok: built.ok && demo.ok && tests.ok,
  })
}
rmSync(work, { recursive: true, force: true })
console.table(table)
process.exitCode = table.every(({ ok }) => ok) ? 0 : 1
