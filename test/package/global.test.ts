/**
 * The program as a user installs it: the packed tarball, `npm install --global` into a prefix of its own, without a network; then
 * piped, at a terminal of 80 columns, and into a pipe that nobody reads.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const ROOT = new URL('../..', import.meta.url).pathname
const MANIFEST = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string
  dependencies: Record<string, string>
}

let home: string
let program: string

beforeAll(() => {
  if (!existsSync(join(ROOT, 'dist/cli.js'))) throw new Error('no dist: npm run build first')
  home = mkdtempSync(join(tmpdir(), 'issuer-pin-crypto-global-'))
  const pack = (cwd: string): string => {
    const before = new Set(readdirSync(home))
    execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', home], { cwd, stdio: 'ignore' })
    const made = readdirSync(home).find(name => name.endsWith('.tgz') && !before.has(name))
    if (made === undefined) throw new Error(`npm pack made nothing of ${cwd}`)
    return join(home, made)
  }
  // Its dependencies come from here, not from a registry; all else is as it is published.
  const unpacked = join(home, 'unpacked')
  mkdirSync(unpacked)
  execFileSync('tar', ['-xzf', pack(ROOT), '--strip-components=1', '-C', unpacked])
  const manifest = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8'))
  for (const name of Object.keys(MANIFEST.dependencies))
    manifest.dependencies[name] = `file:${pack(join(ROOT, 'node_modules', name))}`
  manifest.version = `${MANIFEST.version}-local`
  writeFileSync(join(unpacked, 'package.json'), JSON.stringify(manifest))
  const prefix = join(home, 'prefix')
  const options = ['--offline', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', prefix]
  execFileSync('npm', ['install', '--global', ...options, pack(unpacked)], { cwd: home, stdio: 'ignore' })
  program = join(prefix, 'bin', 'issuer-pin-crypto')
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

function run(args: readonly string[], env: Readonly<Record<string, string>> = {}, input = '') {
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd: home,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    input,
  })
  return { status, stdout, stderr }
}

test('says its version, and helps', () => {
  expect(run(['--version'])).toEqual({ status: 0, stdout: `${MANIFEST.version}-local\n`, stderr: '' })
  for (const name of ['key', 'doctor'])
    expect(run([name, '--help'])).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringMatching(/^usage: /),
    })
})

test('piped it keeps letters, and shows no colour, no progress and no cursor', () => {
  const keys = join(home, 'keys.json')
  const kid = 'Schlüssel Ж 鍵'
  const key = { kid, usage: 'cmac', algorithm: 'aes-128', material: '2B7E151628AED2A6ABF7158809CF4F3C' }
  writeFileSync(keys, JSON.stringify([key]), { mode: 0o600 })
  const check = run(['key', 'check', '--keys', keys, '--kid', kid, '--usage', 'cmac'])
  expect([check.status, check.stderr]).toEqual([0, ''])
  expect(check.stdout).toContain(kid)
  const mac = run(['mac', 'compute', '--keys', keys, '--key', kid, '--algorithm', 'cmac', '--length', '16'])
  // NIST SP 800-38B, appendix D.1: the CMAC of nothing.
  expect(mac).toEqual({ status: 0, stdout: 'BB1D6929E95937287FA37D129B756746\n', stderr: '' })
  expect(check.stdout + mac.stdout).not.toContain('\u001b')
})

test('its exit codes are those of the README', () => {
  expect(run([])).toMatchObject({ status: 2, stdout: '' })
  expect(run(['key', 'check', '--kyes', 'x'])).toMatchObject({
    status: 2,
    stdout: '',
    stderr: expect.stringMatching(/^ERR_USAGE: .* --keys\?\n$/),
  })
  expect(run(['inspect', 'pin-block', '--state', 'clear'], {}, '00')).toMatchObject({ status: 1, stdout: '' })
  expect(
    run([
      'onboard',
      '--dir',
      'x',
      '--issuer-id',
      'is_tbank01',
      '--endpoint',
      'https://x',
      '--subject',
      'O=X',
    ]),
  ).toEqual({
    status: 2,
    stdout: '',
    stderr:
      'ERR_USAGE: onboard needs the package @peculiar/x509: npm install @peculiar/x509@1 (with -g where this is)\n',
  })
  expect(run(['token', '--module', '/nowhere.so', '--token', 'x', '--login', 'never'])).toMatchObject({
    status: 1,
    stdout: '',
    stderr: expect.stringMatching(/^ERR_[A-Z0-9_]+: [^\n]+\n$/),
  })
})

test('a secret by standard input is waited for; a terminal is none for a secret, as it shows what is typed', () => {
  const AES = '2B7E151628AED2A6ABF7158809CF4F3C'
  const shell = (script: string) =>
    spawnSync('bash', ['-c', script], { env: { ...process.env, PROGRAM: program }, encoding: 'utf8' })
  // Longer than the program takes to start: it is there first.
  const late = shell(`{ sleep 2; echo ${AES}; } | "$PROGRAM" key kcv --algorithm aes-128 --key-fd 0`)
  expect([late.status, late.stderr]).toEqual([0, ''])
  expect(late.stdout).toMatch(/^KCV /)
  const typed = shell(`script -qec '"$PROGRAM" key kcv --algorithm aes-128 --key-fd 0' /dev/null < /dev/null`)
  expect(typed.stdout.trim()).toMatch(/^ERR_USAGE: --key-fd is a terminal, [^\n]+$/)
})

test('a message that is no text is authenticated as it is', () => {
  const keys = join(home, 'cmac.json')
  const key = { kid: 'K', usage: 'cmac', algorithm: 'aes-128', material: '2B7E151628AED2A6ABF7158809CF4F3C' }
  writeFileSync(keys, JSON.stringify([key]), { mode: 0o600 })
  const message = join(home, 'message.bin')
  // NIST SP 800-38B, appendix D.1, example 2: sixteen bytes that are no UTF-8.
  writeFileSync(message, Buffer.from('6BC1BEE22E409F96E93D7E117393172A', 'hex'))
  const mac = [
    'mac',
    'compute',
    '--keys',
    keys,
    '--key',
    'K',
    '--algorithm',
    'cmac',
    '--length',
    '16',
    message,
  ]
  expect(run(mac)).toEqual({ status: 0, stdout: '070A16B46B4D4144F79BDD9DD04A287C\n', stderr: '' })
})

test('a pipe that nobody reads is no reason for a stack', () => {
  const script = 'set -o pipefail; "$PROGRAM" key --help | true; echo "$?"'
  const { stdout, stderr } = spawnSync('bash', ['-c', script], {
    env: { ...process.env, PROGRAM: program },
    encoding: 'utf8',
  })
  expect(stderr).toBe('')
  expect(['0\n', '1\n']).toContain(stdout)
})

test('at a terminal of 80 columns, and of 50, no line is longer', () => {
  const block = join(home, 'block.txt')
  writeFileSync(
    block,
    'D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34',
  )
  for (const columns of [80, 50]) {
    const commands = [
      `stty cols ${columns}`,
      '"$PROGRAM" --help',
      '"$PROGRAM" key --help',
      `"$PROGRAM" key block read ${block}`,
      'printf 0412AC89ABCDEF67 | "$PROGRAM" inspect pin-block --state clear',
    ]
    const { stdout, status } = spawnSync('script', ['-qec', commands.join('; '), '/dev/null'], {
      env: { ...process.env, PROGRAM: program },
      encoding: 'utf8',
    })
    expect(status).toBe(0)
    const lines = stdout.split(/\r?\n/)
    expect(lines.length).toBeGreaterThan(60)
    expect(lines.filter(line => [...line].length > columns)).toEqual([])
  }
})
