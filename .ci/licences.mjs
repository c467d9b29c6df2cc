/**
 * Writes docs/licences.md: every package of the lockfile with its licence. `npm run licences` writes it; a test compares it with what
 * this would write, and fails where a licence is none of those that decision 0016 accepts.
 */
import { readFileSync, writeFileSync } from 'node:fs'

const ROOT = new URL('..', import.meta.url).pathname

/** Their package.json has the old form (`licenses`, a list), which the lockfile leaves out. */
const OLD_FORM = { busboy: 'MIT', streamsearch: 'MIT' }

/** The packages of the lockfile, each once by name and version, with why it is there. */
export function packagesOf(lock, manifest) {
  const withPeers = reach(lock, Object.keys(manifest.peerDependencies))
  const roleOf = name => {
    if (name in manifest.dependencies) return 'runtime'
    if (name in manifest.peerDependencies) return 'optional peer'
    return withPeers.has(name) ? 'comes with an optional peer' : 'development'
  }
  const found = new Map()
  for (const [path, { version, license: stated }] of Object.entries(lock.packages)) {
    // What is ours (the root, the workspaces and the links to them) is no third party's.
    if (!path.startsWith('node_modules/') || lock.packages[path].link) continue
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const license = stated ?? OLD_FORM[name] ?? 'not stated'
    found.set(`${name}@${version}`, { name, version, licence: license, role: roleOf(name) })
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The names of these packages and of everything they depend on. */
function reach(lock, names, seen = new Set()) {
  for (const name of names) {
    if (seen.has(name)) continue
    seen.add(name)
    reach(lock, Object.keys(lock.packages[`node_modules/${name}`]?.dependencies ?? {}), seen)
  }
  return seen
}

/** The page. */
export function licencePage(packages) {
  const shipped = packages.filter(({ role }) => role !== 'development')
  const byLicence = groupBy(packages)
  const groups = [...byLicence]
    .filter(([, all]) => all.some(({ role }) => role === 'development'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
  const names = all =>
    all.filter(({ role }) => role === 'development').map(({ name, version }) => `${name} ${version}`)
  return [
    '# Licences of all dependencies',
    '',
    'Written by `npm run licences` from `package-lock.json`; a test fails where this page is behind. The library itself is Apache-2.0.',
    '',
    '## What a user installs',
    '',
    '| package | version | licence | role |',
    '|---|---|---|---|',
    ...shipped.map(({ name, version, licence, role }) => `| ${name} | ${version} | ${licence} | ${role} |`),
    '',
    '## What development uses',
    '',
    ...groups.flatMap(([licence, all]) => [
      `**${licence}** (${names(all).length}): ${names(all).join(', ')}.`,
      '',
    ]),
  ].join('\n')
}

function groupBy(packages) {
  const groups = new Map()
  for (const item of packages) groups.set(item.licence, [...(groups.get(item.licence) ?? []), item])
  return groups
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const read = path => JSON.parse(readFileSync(`${ROOT}${path}`, 'utf8'))
  writeFileSync(
    `${ROOT}docs/licences.md`,
    licencePage(packagesOf(read('package-lock.json'), read('package.json'))),
  )
}
