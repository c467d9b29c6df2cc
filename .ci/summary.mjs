/**
 * One page about the run that has just ended: tests, vectors, coverage, tokens, packaging, sizes, and what failed. Everything is read
 * from what the steps before left behind (reports/tests.json, coverage/coverage-summary.json, dist, package-lock.json); what is
 * missing is said to be.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'

const ROOT = new URL('..', import.meta.url).pathname
const json = path =>
  existsSync(join(ROOT, path)) ? JSON.parse(readFileSync(join(ROOT, path), 'utf8')) : undefined
const command = (name, ...args) => {
  try {
    return execFileSync(name, args, {
      cwd: ROOT,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return undefined
  }
}
const debianVersion = name => command('dpkg-query', '-s', name)?.match(/^Version: (.*)$/m)?.[1] ?? 'absent'
const rows = []
const row = (topic, ...lines) => {
  for (const [index, line] of lines.entries()) rows.push(`${(index === 0 ? topic : '').padEnd(13)}${line}`)
}
const percent = part => `${part.pct} % (${part.covered} of ${part.total})`
const kilobytes = bytes => `${(bytes / 1024).toFixed(1)} kB`

function tests() {
  const report = json('reports/tests.json')
  if (report === undefined) return row('tests', 'no report')
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = report
  const native = testResults.filter(({ name }) => name.includes('/native-test/')).length
  const skipped = testResults.flatMap(file =>
    file.assertionResults
      .filter(({ status }) => status === 'skipped' || status === 'pending')
      .map(({ fullName }) => `skipped: ${basename(file.name)}: ${fullName}`),
  )
  const files = `${testResults.length - native} unit files and ${native} native files`
  row('tests', `${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped, in ${files}`)
  row('', ...skipped.slice(0, 8), ...(skipped.length > 8 ? [`and ${skipped.length - 8} more`] : []))
  const covered = name => {
    const file = testResults.find(found => basename(found.name) === `${name}.contract.test.ts`)
    return file === undefined
      ? 'not run'
      : `${file.assertionResults.filter(({ status }) => status === 'passed').length} cases`
  }
  row(
    'tokens',
    `contract: software ${covered('software')}, SoftHSM ${covered('softhsm')}, NSS softokn ${covered('nss')}, fake tokens ${covered('fake')}`,
    `SoftHSM ${command('softhsm2-util', '--version') ?? 'absent'}; NSS ${debianVersion('libnss3')}`,
  )
  row(
    'databases',
    `PostgreSQL ${debianVersion('postgresql')}, better-sqlite3 ${json('node_modules/better-sqlite3/package.json')?.version ?? 'absent'}`,
  )
}

function vectors() {
  const topics = readdirSync(join(ROOT, 'vectors'))
    .filter(name => name.endsWith('.json') && name !== 'schema.json')
    .map(name => ({ name: basename(name, '.json'), count: json(`vectors/${name}`).vectors.length }))
  const total = topics.reduce((sum, { count }) => sum + count, 0)
  const text = topics.map(({ name, count }) => `${name} ${count}`)
  row('vectors', `${total} in ${topics.length} files`, text.slice(0, 7).join(', '), text.slice(7).join(', '))
}

function coverage() {
  const summary = json('coverage/coverage-summary.json')
  if (summary === undefined) return row('coverage', 'no report')
  const { total, ...files } = summary
  row('coverage', `lines ${percent(total.lines)}, branches ${percent(total.branches)}`)
  const below = Object.entries(files).filter(
    ([, { lines, branches }]) => lines.pct < 100 || branches.pct < 100,
  )
  for (const [path, { lines, branches }] of below.slice(0, 8)) {
    row('', `${path.replace(ROOT, '')}: lines ${lines.pct} %, branches ${branches.pct} %`)
  }
}

/** An entry and every chunk that it loads with it. */
function closure(entry, seen = new Set()) {
  if (seen.has(entry)) return seen
  seen.add(entry)
  const text = readFileSync(entry, 'utf8')
  for (const [, path] of text.matchAll(/(?:from|import)\s*"(\.\.?\/[^"]+\.js)"/g))
    closure(join(dirname(entry), path), seen)
  return seen
}

function packaging() {
  const manifest = json('package.json')
  const packed = command('npm', 'pack', '--dry-run', '--json')
  if (packed !== undefined) {
    const [{ files, size, unpackedSize }] = Object.values(JSON.parse(packed))
    row('tarball', `${files.length} files, ${kilobytes(size)} packed, ${kilobytes(unpackedSize)} unpacked`)
  }
  const sizes = Object.entries(manifest.exports).flatMap(([subpath, target]) => {
    const entry = target.import && join(ROOT, target.import.default)
    if (!entry || !existsSync(entry)) return []
    const chunks = [...closure(entry)]
    const bytes = chunks.reduce((sum, path) => sum + statSync(path).size, 0)
    const zipped = chunks.reduce((sum, path) => sum + gzipSync(readFileSync(path)).length, 0)
    return [`${subpath} ${kilobytes(bytes)} (gzip ${kilobytes(zipped)})`]
  })
  row('sizes', sizes.slice(0, 4).join(', '), sizes.slice(4).join(', '))
  const lock = json('package-lock.json').packages
  const runtime = Object.keys(manifest.dependencies).map(
    name => `${name} ${lock[`node_modules/${name}`].version} (${lock[`node_modules/${name}`].license})`,
  )
  row('runtime', `${runtime.join(', ')}; optional peers ${Object.keys(manifest.peerDependencies).join(', ')}`)
}

/** What failed, with the first lines of its message: last, so that it is seen also where only the end of a log is kept. */
function failures() {
  const failed = (json('reports/tests.json')?.testResults ?? []).flatMap(
    ({ name, message, assertionResults }) => {
      const file = name.replace(ROOT, '')
      const tests = assertionResults
        .filter(({ status }) => status === 'failed')
        .map(({ fullName, failureMessages }) => ({
          title: `${file}: ${fullName}`,
          text: failureMessages.join('\n'),
        }))
      return tests.length === 0 && message ? [{ title: `${file}: the file itself`, text: message }] : tests
    },
  )
  for (const { title, text } of failed.slice(0, 25)) {
    row(
      'FAILED',
      title,
      ...text
        .split('\n')
        .slice(0, 5)
        .map(line => `  ${line.slice(0, 200)}`),
    )
  }
  if (failed.length > 25) row('FAILED', `and ${failed.length - 25} more`)
}

const { name, version } = json('package.json')
const commit = command('git', 'rev-parse', '--short', 'HEAD') ?? 'unknown'
row(
  'run',
  `${name} ${version}, commit ${commit}, Node ${process.versions.node}, OpenSSL ${process.versions.openssl}`,
)
tests()
vectors()
coverage()
packaging()
failures()
console.log(`\n${'─'.repeat(100)}\n${rows.filter(line => line.trim() !== '').join('\n')}\n${'─'.repeat(100)}`)
