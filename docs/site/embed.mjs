/**
 * Writes into Markdown what stands in files: a program under `<!-- example: path -->`, what it prints under
 * `<!-- output: path -->`, and what a command prints in its folder under `<!-- prints: folder -->`, by the built command line. For after
 * a change of an example; tests hold them equal.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = new URL('../..', import.meta.url).pathname
const guides = readdirSync(join(ROOT, 'docs/guides')).filter(name => name.endsWith('.md'))

for (const path of [
  'README.md',
  'docs/seccos.md',
  'docs/databases.md',
  ...guides.map(name => `docs/guides/${name}`),
]) {
  const before = readFileSync(join(ROOT, path), 'utf8')
  const after = withCommands(before).replaceAll(
    /(<!-- (example|output): (\S+) -->\n```\w+\n)[\s\S]*?```/g,
    (_block, head, kind, file) => `${head}${kind === 'example' ? read(file) : outputOf(file)}\`\`\``,
  )
  if (after !== before) {
    writeFileSync(join(ROOT, path), after)
    console.log(`${path}: renewed`)
  }
}

function withCommands(text) {
  return text.replaceAll(
    /(<!-- command: (\S+) -->\n```sh\n([^`]*)```\n\n<!-- prints: \S+ -->\n```text\n)[\s\S]*?```/g,
    (_block, head, folder, command) => {
      const line = command.replace('issuer-pin-crypto', `${process.execPath} ${join(ROOT, 'dist/cli.js')}`)
      const printed = execFileSync('sh', ['-c', line], { cwd: join(ROOT, folder), encoding: 'utf8' })
      return `${head}${printed.replaceAll(/ +$/gm, '')}\`\`\``
    },
  )
}

function read(file) {
  return readFileSync(join(ROOT, file), 'utf8')
}

function outputOf(file) {
  const env = { ...process.env, TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.test.json') }
  return execFileSync(process.execPath, ['--import', 'tsx', file], { cwd: ROOT, env, encoding: 'utf8' })
}
