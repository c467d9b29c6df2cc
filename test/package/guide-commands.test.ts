/**
 * The commands that a guide shows are run as they stand, by the built package, in a copy of the folder that the guide names; those of
 * the page of the command line and of the vendors' pages as far as they come without a vendor's library.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { createECDH } from 'node:crypto'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sealJwe } from '../../src/index.js'
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

  test.each(COMMANDS)('$guide: $command', ({ folder, command, prints, picture }) => {
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
  })
})

describe('the commands of other pages', () => {
  const cwd = mkdtempSync(join(tmpdir(), 'pages-'))
  afterAll(() => rmSync(cwd, { recursive: true }))
  const linesOf = (page: string): readonly string[] => {
    const text = readFileSync(join(ROOT, 'docs', page), 'utf8')
    return [...text.matchAll(/^```sh\n([\s\S]*?)```/gm)].flatMap(([, block = '']) => block.trim().split('\n'))
  }
  /** In a shell, with `npx` and the command's name put to the program that was built. */
  const run = (line: string, more = '') => {
    const built = `'${process.execPath}' '${join(ROOT, 'dist/cli.js')}'`
    const command = line.replace(/^(npx )?issuer-pin-crypto/, built) + more
    expect(command).not.toBe(line)
    const env = { ...process.env, TOKEN_PIN: '12345678', SOFTHSM2_CONF: join(cwd, 'none.conf') }
    return spawnSync('sh', ['-c', command], { cwd, encoding: 'utf8', env })
  }
  /** What a page leaves to a terminal is the token's PIN; with it, a line comes as far as the token, which is not here. */
  const opens = (line: string): void => {
    const { status, stderr } = run(line, ' --pin-env TOKEN_PIN')
    expect(`${status} ${stderr}`).toMatch(/^1 ERR_PKCS11_\w+: /)
  }

  test('a line that the program does not take is seen', () => {
    expect(() =>
      opens('npx issuer-pin-crypto doctor --module /no.so --vendor nobody --token LABEL'),
    ).toThrow()
  })

  test.each(readdirSync(join(ROOT, 'docs/vendors')))('vendors/%s', page => {
    const lines = linesOf(`vendors/${page}`)
    expect(lines).toHaveLength(1)
    for (const line of lines) opens(line)
  })

  test('command-line.md', async () => {
    const [doctor = '', open = '', read = '', ...more] = linesOf('command-line.md')
    expect(more).toEqual([])
    opens(doctor)

    const pair = createECDH('prime256v1')
    pair.setPrivateKey('11'.repeat(32), 'hex')
    const point = pair.getPublicKey()
    const [x, y] = [point.subarray(1, 33).toString('base64url'), point.subarray(33).toString('base64url')]
    const recipient = { kty: 'EC', crv: 'P-256', x, y, kid: 'ISSUER-JWE' }
    const key = {
      kid: 'ISSUER-JWE',
      usage: 'jwe-key-agreement',
      algorithm: 'ec-p256',
      material: '11'.repeat(32),
    }
    writeFileSync(join(cwd, 'test-keys.json'), JSON.stringify([key]), { mode: 0o600 })
    writeFileSync(
      join(cwd, 'response.json'),
      await sealJwe({ plaintext: Buffer.from('{"kid":"ZPK-D1"}'), recipient }),
    )
    const opened = run(open)
    expect([opened.status, opened.stderr]).toEqual([0, ''])
    expect(JSON.parse(opened.stdout)).toEqual({ kid: 'ZPK-D1' })

    const block =
      'D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34'
    writeFileSync(join(cwd, 'received.txt'), block)
    const header = run(read)
    expect([header.status, header.stderr]).toEqual([0, ''])
    expect(header.stdout).toContain('P0')
  })
})
