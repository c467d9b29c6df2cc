/**
 * Writes into Markdown what stands in files: a program under `<!-- example: path -->`, what it prints under
 * `<!-- output: path -->`. For after a change of an example; tests hold them equal.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = new URL('../..', import.meta.url).pathname
const guides = readdirSync(join(ROOT, 'docs/guides')).filter(name => name.endsWith('.md'))

for (const path of ['README.md', 'docs/seccos.md', ...guides.map(name => `docs/guides/${name}`)]) {
  const before = readFileSync(join(ROOT, path), 'utf8')
  const after = before.replaceAll(
    /(<!-- (example|output): (\S+) -->\n```\w+\n)[\s\S]*?```/g,
    (_block, head, kind, file) => `${head}${kind === 'example' ? read(file) : outputOf(file)}\`\`\``,
  )
  if (after !== before) {
    writeFileSync(join(ROOT, path), after)
    console.log(`${path}: renewed`)
  }
}

function read(file) {
  return readFileSync(join(ROOT, file), 'utf8')
}

function outputOf(file) {
  const env = { ...process.env, TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.test.json') }
  return execFileSync(process.execPath, ['--import', 'tsx', file], { cwd: ROOT, env, encoding: 'utf8' })
}
