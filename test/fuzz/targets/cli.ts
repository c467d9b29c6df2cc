/** The program's command line: arguments and standard input of the commands that read something. */
import fc from 'fast-check'
import type { Io } from '../../../src/cli/command.js'
import { inspectCommand, PROFILE } from '../../../src/cli/inspect.js'
import { main } from '../../../src/cli/main.js'
import { PROBE } from '../../../src/cli/probe.js'
import { SAMPLE } from '../../jwe/support.js'
import { bytesInput } from '../support/input.js'
import { refuseEcho } from '../support/oracle.js'
import { MASKED, PAN_DIGITS, PIN_DIGITS, PROFILES } from '../support/seccos.js'
import { check, type FuzzTarget } from '../target.js'

/** The others open tokens and ports. */
const COMMANDS = [inspectCommand(), PROFILE, PROBE]

/** An input: the arguments, a line each; an empty line; standard input. */
const call = (args: readonly string[], stdin: string): Uint8Array =>
  bytesInput(args.join('\n'), '\n\n', stdin)

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex').toUpperCase()
const DATA_SET = hex(MASKED[0] ?? new Uint8Array())
const PROFILE_JSON = JSON.stringify(PROFILES[0])
const sample = (more: object): object => ({
  ...{ pan: PAN_DIGITS, pin: PIN_DIGITS, pcc: '0042', intdatag: 'D1-TAG-0123456789-AB', random: 'DEAD0042' },
  ...{
    prwDataSet: DATA_SET,
    prwValue: '0011223344556677',
    macValue: '8899AABBCCDDEEFF',
    known: { psn: '01' },
  },
  ...more,
})
const KEYS = {
  prwTestKey: '0123456789ABCDEFFEDCBA9876543210',
  macTestKey: '7CA110454A1A6E570131D9619DC1376E',
}
/** The last sample lacks a digit: what is read is what is tested, not the search, which takes a second by design. */
const samples = (more: object): string =>
  JSON.stringify({ ...KEYS, samples: [sample(more), sample({ pcc: '0043', prwValue: '001122334455667' })] })

const argument = fc.oneof(
  fc.constantFrom(
    'inspect',
    'profile',
    'probe',
    'jwe',
    'data-set',
    'pin-block',
    'check',
    '-',
    '--',
    '-h',
    '--help',
    '--draft',
  ),
  fc.constantFrom(
    '--profile=illustrative-tdea',
    '--profile',
    'illustrative-aes',
    '--state=clear',
    '--state',
    'enciphered',
    '--state=',
    '--no-draft',
  ),
  fc.string(),
)
const value = fc.constantFrom<unknown>(
  '',
  'x',
  null,
  7,
  [],
  {},
  '0'.repeat(246),
  'ZZ',
  PAN_DIGITS,
  '12',
  { psn: 1 },
  'constructor',
)
const member = fc.constantFrom(
  'pan',
  'pin',
  'pcc',
  'intdatag',
  'random',
  'prwDataSet',
  'prwValue',
  'macValue',
  'known',
  'further',
  'samples',
)
const almost = fc
  .tuple(
    fc.oneof(
      fc.array(argument, { maxLength: 5 }),
      fc.constantFrom(
        ['probe'],
        ['inspect', 'jwe'],
        ['profile', 'check'],
        ['inspect', 'pin-block', '--state', 'clear'],
      ),
    ),
    fc.oneof(
      fc.tuple(member, value).map(([name, to]) => samples({ [name]: to })),
      fc.constantFrom(SAMPLE, DATA_SET, '041215FEDCBA9876', PROFILE_JSON, '{"encryptedPinBlock":7}', ''),
      fc.string(),
    ),
  )
  .map(([args, stdin]) => call(args, stdin))

export const cli: FuzzTarget = {
  name: 'cli',
  share: 4,
  limitMs: 10_000,
  seeds: [
    call(['inspect', 'jwe'], SAMPLE),
    call(['inspect', 'jwe', '-'], JSON.stringify({ type: 'ISO0', encryptedPinBlock: SAMPLE })),
    call(['inspect', 'data-set', '--profile', 'illustrative-tdea'], DATA_SET),
    call(['inspect', 'pin-block', '--state=clear'], '041215FEDCBA9876'),
    call(['profile', 'check'], PROFILE_JSON),
    call(['probe', '--help'], samples({})),
    call(['probe'], samples({ pan: 'x' })),
  ],
  structured: almost,
  async run(bytes) {
    const text = Buffer.from(bytes).toString('utf8')
    const end = text.indexOf('\n\n')
    // No path of this machine: an argument that is a file's name names none.
    const args = (end < 0 ? text : text.slice(0, end)).split('\n').map(each => each.replaceAll(/[./]/g, '_'))
    const stdin = end < 0 ? '' : text.slice(end + 2)
    const out: string[] = []
    const err: string[] = []
    const io: Io = {
      out: line => void out.push(line),
      err: line => void err.push(line),
      readStdin: async () => Buffer.from(stdin),
      askSecret: async () => undefined,
      env: {},
    }
    const code = await main(args, io, COMMANDS)
    check([0, 1, 2].includes(code), 'an exit code that is one of three')
    const shown = err.join('\n')
    check((code === 0) === (shown === ''), 'what is said on standard error is the reason of the exit code')
    check(!shown.includes('ERR_UNEXPECTED'), `an error that is not of ours: ${shown}`)
    check(code === 0 || /^(?:ERR_[A-Z0-9_]+: |usage: |no draft: )/.test(shown), 'a code, then what is wrong')
    // Standard input is where secrets are. Names of members that are not known may be told: RFC 6901 pointers.
    refuseEcho(
      shown,
      [stdin],
      [...args, ...(stdin.match(/"[^"]*"(?= *:)/g) ?? []).map(name => name.slice(1, -1))],
    )
    for (const secret of [PAN_DIGITS, ...Object.values(KEYS)]) {
      check(!out.join('\n').includes(secret), 'standard output shows a PAN or a key')
    }
  },
}
