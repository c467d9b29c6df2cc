/**
 * Code blocks of Markdown that are files as well: a comment before the fence names the file, and a test holds the two
 * equal. `node docs/site/embed.mjs` writes the files into the blocks.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface MarkdownExample {
  /** Path from the root of the repository. */
  readonly path: string
  readonly code: string
}

/** The blocks of a Markdown text that name a file: what stands in it, or what it prints. */
export function markdownExamples(
  markdown: string,
  kind: 'example' | 'output' = 'example',
): readonly MarkdownExample[] {
  return Array.from(
    markdown.matchAll(/<!-- (\w+): (\S+) -->\n```\w+\n([\s\S]*?)```/g),
    ([, found, path = '', code = '']) => ({ found, path, code }),
  ).flatMap(({ found, path, code }) => (found === kind ? [{ path, code }] : []))
}

/** Long enough for any machine: a program that hangs is told from one that is slow, and does not hold up the lane. */
const HANGS_AFTER_MS = 600_000

/** Runs a TypeScript program against the sources, and returns what it prints. */
export function runOnSources(
  root: string,
  path: string,
  environment: NodeJS.ProcessEnv = {},
  args: readonly string[] = [],
  timeout = HANGS_AFTER_MS,
): string {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', join(root, path), ...args],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      timeout,
      env: { ...process.env, ...environment, TSX_TSCONFIG_PATH: join(root, 'tsconfig.test.json') },
    },
  )
  if (status === 0) return stdout
  // What it found is in what it printed.
  throw new Error(`${path} ended with ${signal ?? status}: ${stdout.slice(-2000)}${stderr.slice(-2000)}`)
}

/** The file that a block names. */
export function readExample(root: string, { path }: MarkdownExample): string {
  return readFileSync(join(root, path), 'utf8')
}
