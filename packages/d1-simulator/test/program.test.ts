/** The command line itself: what is a wrong call, and that nothing of it is repeated. */
import { spawnSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import { bundled } from '../../../test/support/bundled.js'
import { program, runIn } from '../src/program.js'
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

describe('in a process', () => {
  /** A process that keeps what it is told. */
  function stand(args: readonly string[], isTTY = false) {
    const signals = new EventEmitter()
    const streams = new EventEmitter()
    const written: string[] = []
    const exits: number[] = []
    const stream = (name: string) => ({
      isTTY,
      on: (event: 'error', listener: () => void) => streams.on(`${name} ${event}`, listener),
      write: (text: string) => void written.push(`${name}: ${text}`),
    })
    const process = {
      argv: ['node', 'd1-simulator', ...args],
      stdout: stream('out'),
      stderr: stream('err'),
      once: (signal: 'SIGINT' | 'SIGTERM', listener: () => void) => signals.once(signal, listener),
      exit: (code: number) => void exits.push(code),
      exitCode: undefined as number | string | null | undefined,
    }
    return { process, signals, streams, written, exits }
  }

  test('what is said goes to its streams, and the exit code is set and not forced', async () => {
    const wrong = stand(['x'])
    const running = runIn(wrong.process)
    expect(wrong.process.exitCode).toBe(1)
    await running
    expect(wrong.written).toEqual(['err: ERR_USAGE: there are no arguments besides the options\n'])
    expect([wrong.process.exitCode, wrong.exits]).toEqual([2, []])
    const help = stand(['--help'])
    await runIn(help.process)
    expect(help.written).toEqual([expect.stringMatching(/^out: usage: .*\n$/s)])
    expect([help.process.exitCode, help.exits]).toEqual([0, []])
  })

  test('a reader that has gone ends it', async () => {
    const { process, streams, exits } = stand(['--version'])
    await runIn(process)
    streams.emit('out error')
    expect(exits).toEqual([1])
  })

  test('is what bin.ts runs', async () => {
    const { argv, exitCode } = process
    const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    const on = vi.spyOn(process.stdout, 'on').mockReturnValue(process.stdout)
    const once = vi.spyOn(process, 'once').mockReturnValue(process)
    process.argv = ['node', 'bin', 'x']
    try {
      await import('../src/bin.js')
      await vi.waitFor(() => expect(process.exitCode).toBe(2), 60_000)
      expect(said).toHaveBeenCalledWith('ERR_USAGE: there are no arguments besides the options\n')
      expect(once.mock.calls.map(([signal]) => signal)).toEqual(['SIGINT', 'SIGTERM'])
    } finally {
      process.argv = argv
      process.exitCode = exitCode
      for (const spy of [said, on, once]) spy.mockRestore()
    }
  })
})

test('as a process of its own: a wrong call is exit code 2', () => {
  const bin = bundled(new URL('../src/bin.ts', import.meta.url))
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, 'x'], { encoding: 'utf8' })
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toBe('ERR_USAGE: there are no arguments besides the options\n')
})
