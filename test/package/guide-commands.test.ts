/** The commands that a guide shows are run as they stand, by the built package, in a copy of the folder that the guide names. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ROOT } from '../support/public-api.js'

const BLOCK =
  /<!-- command: (\S+) -->\n```sh\n([^`]*)```\n\n(?:<!-- prints: \S+ -->\n```text\n([\s\S]*?)```|!\[[^\]]+\]\(\.\.\/(\S+)\))/g
const COMMANDS = readdirSync(join(ROOT, 'docs/guides')).flatMap(guide =>
  Array.from(
    readFileSync(join(ROOT, 'docs/guides', guide), 'utf8').matchAll(BLOCK),
    ([, folder = '', command = '', prints, picture]) => ({
      guide,
      folder,
      command: command.trimEnd(),
      prints,
      picture,
    }),
  ),
)

describe('the commands of the guides', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'guide-'))
  beforeAll(() => {
    const bin = join(scratch, 'issuer-pin-crypto')
    writeFileSync(bin, `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'dist/cli.js')}' "$@"\n`, {
      mode: 0o755,
    })
  })
  afterAll(() => rmSync(scratch, { recursive: true }))

  test('each that a guide names by its folder is one of these', () => {
    const named = readdirSync(join(ROOT, 'docs/guides')).flatMap(guide =>
      Array.from(readFileSync(join(ROOT, 'docs/guides', guide), 'utf8').matchAll(/<!-- command: /g)),
    )
    expect(COMMANDS).toHaveLength(named.length)
    expect(COMMANDS.map(({ command }) => command.split(' ').slice(1, 3).join(' '))).toEqual(
      expect.arrayContaining(['profile check', 'profile search', 'inspect profile']),
    )
  })

  test.each(COMMANDS)(
    '$guide: $command',
    ({ folder, command, prints, picture }) => {
      const cwd = mkdtempSync(join(scratch, 'run-'))
      cpSync(join(ROOT, folder), cwd, { recursive: true })
      const printed = execFileSync('sh', ['-c', command], {
        cwd,
        encoding: 'utf8',
        env: { ...process.env, PATH: `${scratch}${delimiter}${process.env['PATH']}` },
      })
      if (prints !== undefined) expect(printed.replaceAll(/ +$/gm, '')).toBe(prints)
      if (picture === undefined) return
      expect(printed).toBe('')
      const [, written = ''] = /> (\S+)$/.exec(command) ?? []
      const read = (file: string): string => readFileSync(file, 'utf8').trimEnd()
      expect(read(join(cwd, written))).toBe(read(join(ROOT, 'docs', picture)))
    },
    60_000,
  )
})
