/**
 * Lints examples/deploy with linters of others, installed apart: `npm run deploy:lint`. The Dockerfile by dockerfile-utils (instructions,
 * flags, JSON forms), the compose file by dclint (the Compose schema, and its rules but those of taste), the Kubernetes file by
 * kubernetes-models, which is made from Kubernetes' own OpenAPI document: its types find what a field is not called, by tsc, and its
 * schemas what a value may not be (`test/package/deploy.test.ts` looks at what this project wants of it besides).
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const DEPLOY = new URL('../examples/deploy/', import.meta.url).pathname
const TOOLS = ['dclint@3.1.0', 'dockerfile-utils@0.16.3', 'yaml@2', 'kubernetes-models@4.5.1']
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

  const text = read('kubernetes.yaml')
  for (const [right, wrong] of [
    ['readOnlyRootFilesystem', 'readOnlyRootFileSystem'],
    ['periodSeconds: 5', 'periodSeconds: five'],
  ]) {
    const changed = text.replace(right, wrong)
    if (kubernetes(changed, load).length === 0) problems.push(`the linter of Kubernetes lets pass: ${wrong}`)
  }
  problems.push(...kubernetes(text, load))
  if (problems.length === 0) console.log('Dockerfile, compose.yaml and kubernetes.yaml: nothing found')
} finally {
  rmSync(home, { recursive: true, force: true })
}
for (const problem of problems) console.error(problem)

/** What is wrong with a file of Kubernetes objects. */
function kubernetes(text, load) {
  const documents = load('yaml').parseAllDocuments(text)
  const found = documents.flatMap(({ errors, warnings }) =>
    [...errors, ...warnings].map(({ message }) => message),
  )
  const lines = documents.map((document, index) => {
    const object = document.toJS()
    const { apiVersion, kind } = object
    const models = load(`kubernetes-models/${apiVersion}/${kind}`)
    try {
      new models[kind](object).validate()
    } catch (error) {
      found.push(`${kind}: ${error.message}`)
    }
    // A literal, so that the compiler refuses members that the type does not have.
    return `import type { I${kind} } from 'kubernetes-models/${apiVersion}/${kind}'\nexport const o${index}: I${kind} = ${JSON.stringify(object, null, 1)}\n`
  })
  writeFileSync(join(home, 'objects.mts'), lines.join(''))
  const tsc = new URL('../node_modules/.bin/tsc', import.meta.url).pathname
  const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022']
  const { status, stdout, stderr } = spawnSync(tsc, [...flags, 'objects.mts'], {
    cwd: home,
    encoding: 'utf8',
  })
  if (status !== 0) found.push(...`${stdout}${stderr}`.trim().split('\n'))
  return found.map(message => `kubernetes.yaml: ${message}`)
}
if (problems.length > 0) process.exitCode = 1
