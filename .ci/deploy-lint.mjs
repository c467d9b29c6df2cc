/**
 * Lints examples/deploy with linters of others, installed apart: `npm run deploy:lint`. The Dockerfile by dockerfile-utils (instructions,
 * flags, JSON forms), the compose file by dclint (the Compose schema, and its rules but those of taste), the Kubernetes file as YAML
 * (no linter of it is on npm; `test/package/deploy.test.ts` looks at what this project wants of it).
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const DEPLOY = new URL('../examples/deploy/', import.meta.url).pathname
const TOOLS = ['dclint@3.1.0', 'dockerfile-utils@0.16.3', 'yaml@2']
/** The order of keys is the reader's: what belongs together stands together. */
const TASTE = ['service-keys-order', 'services-alphabetical-order', 'top-level-properties-order']

const home = mkdtempSync(join(tmpdir(), 'ipc-lint-'))
const problems = []
try {
  writeFileSync(join(home, 'package.json'), '{"private":true}')
  execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...TOOLS], {
    cwd: home,
    stdio: 'ignore',
  })
  const load = createRequire(join(home, 'package.json'))
  const read = name => readFileSync(join(DEPLOY, name), 'utf8')

  const { validate } = load('dockerfile-utils')
  if (validate('FROM x\nCOPPY a b\n').length === 0) problems.push('the linter of Dockerfiles finds nothing')
  for (const { message, range } of validate(read('Dockerfile')))
    problems.push(`Dockerfile:${range.start.line + 1}: ${message}`)

  const disabled = TASTE.flatMap(rule => ['--disable-rule', rule])
  const args = [
    join(home, 'node_modules/.bin/dclint'),
    join(DEPLOY, 'compose.yaml'),
    '--max-warnings',
    '0',
    ...disabled,
  ]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (status !== 0) problems.push(`compose.yaml: ${stdout}${stderr}`.trim())

  const documents = load('yaml').parseAllDocuments(read('kubernetes.yaml'))
  for (const { errors, warnings } of documents)
    for (const { message } of [...errors, ...warnings]) problems.push(`kubernetes.yaml: ${message}`)
  const kinds = documents.map(document => document.toJS().kind).join(', ')
  if (problems.length === 0)
    console.log(`Dockerfile and compose.yaml: nothing found; kubernetes.yaml reads: ${kinds}`)
} finally {
  rmSync(home, { recursive: true, force: true })
}
for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
