/** The command line itself: what is a wrong call, and that nothing of it is repeated. */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { program } from '../src/program.js'
import { keptOutput } from './support/output.js'

const CANARY = '4929123456789012'

describe('wrong calls: exit code 2, one line, nothing on standard output', () => {
  test.each<[readonly string[], string | RegExp]>([
    [[], 'ERR_USAGE: --config is missing'],
    [['--config', ''], 'ERR_USAGE: --config is missing'],
    [['--config'], "ERR_USAGE: Option '--config <value>' argument missing"],
    [['--confg', 'x'], "ERR_USAGE: Unknown option '--confg'"],
    [[`--${CANARY}`], "ERR_USAGE: Unknown option '--••'"],
    [['--4929-1234-5678-9012'], "ERR_USAGE: Unknown option '--••'"],
    [['--x\u001b[2J'], "ERR_USAGE: Unknown option '--x?[2J'"],
    [['--zpk', CANARY], "ERR_USAGE: Unknown option '--zpk'"],
    [['--config', 'x', CANARY], 'ERR_USAGE: there are no arguments besides the options'],
    [['--config', 'x', '--json=1'], "ERR_USAGE: Option '--json' does not take an argument"],
    [['--config', 'x', '--only', `get-pin: ${CANARY}`], /^ERR_USAGE: --only takes one of/],
    [['--zpk-file', ''], 'ERR_USAGE: --zpk-file is missing'],
    [['--url', 'https://x', '--config', ''], 'ERR_USAGE: --config is missing'],
    [['--url', 'https://x'], /^ERR_CONFIG: the configuration lacks .*--cards/],
    [['--config', '/dev/zero'], 'ERR_CONFIG: /dev/zero is not a regular file'],
    [['--config', 'x', '--only', 'y'], /^ERR_USAGE: --only takes one of connection, token,/],
    [['--config', '/nowhere.json'], 'ERR_CONFIG: /nowhere.json cannot be read: ENOENT'],
  ])('%j', async (args, message) => {
    const io = keptOutput()
    expect(await program(args, io)).toBe(2)
    expect(io.output).toEqual([])
    expect(io.errors).toHaveLength(1)
    expect(io.errors[0]).toMatch(message)
    expect(io.errors[0]).not.toContain(CANARY)
  })
})

test('--help says every option and group', async () => {
  const io = keptOutput()
  expect(await program(['--help'], io)).toBe(0)
  expect(io.errors).toEqual([])
  expect(io.output.join()).toMatch(/^usage: d1-simulator .*--zpk-file FILE .*Exit codes:/s)
})

test('--version says the one of the package', async () => {
  const io = keptOutput()
  expect(await program(['--version'], io)).toBe(0)
  expect([io.errors, io.output]).toEqual([[], [expect.stringMatching(/^\d+\.\d+\.\d+/)]])
})

test.each([
  [new RangeError(CANARY), 'ERR_UNEXPECTED: RangeError'],
  [CANARY, 'ERR_UNEXPECTED: string'],
])('what is not foreseen is exit code 1, and shows its name alone', async (thrown, line) => {
  const io = keptOutput()
  const broken = {
    ...io,
    out: () => {
      throw thrown
    },
  }
  expect(await program(['--help'], broken)).toBe(1)
  expect(io.errors).toEqual([line])
})

test('as a process of its own: a wrong call is exit code 2', { timeout: 60_000 }, () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'src/bin.ts', 'x'], {
    cwd: new URL('..', import.meta.url),
    encoding: 'utf8',
  })
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toBe('ERR_USAGE: there are no arguments besides the options\n')
})
