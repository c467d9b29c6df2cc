/**
 * What must be settled before a release, and nobody but the owner can settle: `npm run check:release`, and before every
 * `npm run release` (prepublishOnly, which `.npmrc` keeps a bare `npm publish` from running). A placeholder says that it is one; while there is one, this fails.
 */
import { readFileSync } from 'node:fs'
import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'

const ROOT = new URL('..', import.meta.url)
const MANIFESTS = ['package.json', 'packages/d1-simulator/package.json']

/** What keeps a manifest from being released, in words; empty where nothing does. */
export function unsettled(name, { version, repository, homepage, bugs }, changelog) {
  const addresses = { repository: repository?.url, homepage, bugs: bugs?.url }
  const problems = Object.entries(addresses)
    .filter(([, url]) => url === undefined || /placeholder|example|\.invalid\b/i.test(url))
    .map(([member]) => `${name}: ${member} is still a placeholder`)
  const heading = `## ${version} (`
  const dated = changelog
    .split('\n')
    .some(line => line.startsWith(heading) && /\(\d{4}-\d\d-\d\d\)$/.test(line))
  return dated ? problems : [...problems, `CHANGELOG.md has no section "## ${version} (YYYY-MM-DD)"`]
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const read = path => readFileSync(new URL(path, ROOT), 'utf8')
  const problems = new Set(
    MANIFESTS.flatMap(path => unsettled(path, JSON.parse(read(path)), read('CHANGELOG.md'))),
  )
  for (const problem of problems) console.error(problem)
  if (problems.size > 0) process.exitCode = 1
}
