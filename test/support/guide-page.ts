/**
 * A guide as a program that does what the page says: files are written under the names that are above them, commands are run in
 * the order of the page, in one shell, in an empty folder that has the packed tarball in its `node_modules`.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { ROOT } from './public-api.js'

/** What a page has its reader do. */
export type PageStep =
  | { readonly kind: 'file'; readonly name: string; readonly text: string }
  | { readonly kind: 'run'; readonly command: string; readonly prints: string | undefined }

const STEP =
  /^\*(?<name>[\w.-]+)\*\n\n(?:<!-- example: \S+ -->\n)?```\w+\n(?<text>[\s\S]*?)```|^ *```sh\n(?<shell>[\s\S]*?)```|^Run it[^`\n]*(?:\n[^`\n]+)?`(?<line>[^`]+)`/gm
/** What a command prints, where the page shows it: the next block of text, before any other block or heading. */
const PRINTS = /^(?:[^`#]|`[^`\n]+`)*?<!-- (?:output|prints): \S+ -->\n```text\n([\s\S]*?)```/

/** The steps of a guide, from its first line to its last. */
export function stepsOf(guide: string): readonly PageStep[] {
  const page = readFileSync(join(ROOT, 'docs/guides', guide), 'utf8')
  return Array.from(page.matchAll(STEP), (match): PageStep => {
    const { name, text = '', shell, line = '' } = match.groups ?? {}
    if (name !== undefined) return { kind: 'file', name, text }
    const [, prints] = PRINTS.exec(page.slice(match.index + match[0].length)) ?? []
    return { kind: 'run', command: (shell ?? line).replaceAll(/^ {3}/gm, '').trim(), prints }
  })
}

/** What the reader's `npm install` brings: the tarball unpacked, what it depends on, and the tools that guides name. */
export function installTarball(folder: string, tarball: string): void {
  const home = join(folder, 'node_modules/issuer-pin-crypto')
  mkdirSync(home, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '--strip-components=1', '-C', home])
  for (const name of ['jose', 'node-forge', 'tsx', 'koffi', 'vitest']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name))
  }
  const bin = join(folder, 'node_modules/.bin')
  mkdirSync(bin)
  for (const [name, path] of [
    ['tsx', join(ROOT, 'node_modules/tsx/dist/cli.mjs')],
    ['vitest', join(ROOT, 'node_modules/vitest/vitest.mjs')],
    ['issuer-pin-crypto', join(home, 'dist/cli.js')],
  ] as const) {
    writeFileSync(join(bin, name), `#!/bin/sh\nexec '${process.execPath}' '${path}' "$@"\n`, { mode: 0o755 })
  }
}

export interface Ran {
  readonly command: string
  readonly printed: string
  readonly prints: string | undefined
}

const MARK = '=== step '

/**
 * Does what the pages say, each in a folder of its own under `home`, one after the other in one shell, so that what one exports
 * the next one has. `leaveOut`: commands that are not run, by what they contain. Throws where a command fails, with what was printed.
 */
export async function followPages(
  home: string,
  guides: readonly string[],
  { leaveOut, environment = {} }: { leaveOut: readonly string[]; environment?: NodeJS.ProcessEnv },
): Promise<readonly Ran[]> {
  const ran: Omit<Ran, 'printed'>[] = []
  const lines = ['set -e', `PATH='${join(home, 'node_modules/.bin')}':"$PATH"`]
  for (const guide of guides) {
    const folder = join(home, guide.replace('.md', ''))
    mkdirSync(folder)
    writeFileSync(join(folder, 'package.json'), '{"type":"module","private":true}')
    lines.push(`cd '${folder}'`)
    for (const step of stepsOf(guide)) {
      if (step.kind === 'file') writeFileSync(join(folder, step.name), step.text)
      else if (!leaveOut.some(part => step.command.includes(part))) {
        lines.push(`echo '${MARK}'`, step.command.replaceAll(/^npx /gm, ''))
        ran.push({ command: step.command, prints: step.prints })
      }
    }
  }
  // Not spawnSync: the pages of the tokens take longer than a test runner waits for a sign of its workers.
  const shell = spawn('sh', ['-s'], {
    env: { ...process.env, NODE_OPTIONS: '', VITEST: '', NO_COLOR: '1', ...environment },
  })
  shell.stdin.end(`${lines.join('\n')}\n`)
  const [stdout, stderr, [status]] = await Promise.all([
    text(shell.stdout),
    text(shell.stderr),
    once(shell, 'exit'),
  ])
  const [, ...printed] = stdout.split(`${MARK}\n`)
  if (status !== 0) {
    throw new Error(`the guide fails at: ${ran[printed.length - 1]?.command}\n${printed.at(-1)}${stderr}`)
  }
  return ran.map((step, i) => ({ ...step, printed: printed[i] ?? '' }))
}
