/**
 * Every verb of every command, with an option left out, cut off, doubled, misspelt or hostile, with input that is none, and with secrets
 * where they do not belong: one line on standard error, an exit code of the three, and nothing of a secret.
 */
import { describe, expect, test } from 'vitest'
import { COMMANDS, main } from '../../src/cli/main.js'
import { storageCommand } from '../../src/cli/storage.js'
import { keptIo } from './support/io.js'
import {
  AES,
  env,
  file,
  fresh,
  JWE,
  KBPK,
  keys,
  MAC_KEY,
  PAN,
  PEK,
  PIN,
  run,
  SECRETS,
  TOKEN,
} from './support/program.js'

const ON_KEYS = (): string[] => ['--keys', keys]
const PAN_ENV = ['--pan-env', 'PAN']
const BLOCK = '0123456789ABCDEF'
const NEW = ['--kid', 'K', '--usage', 'cmac', '--algorithm', 'aes-128']
const PARTS = [
  '--component-1-name-env',
  'N1',
  '--component-1-component-env',
  'AES',
  '--component-1-kcv-env',
  'EMPTY',
]
const profile = ['--profile', 'illustrative-tdea']

/** A call of each verb that is complete but for its input; what is sound or not is not this file's business. */
const CALLS: Readonly<Record<string, () => readonly string[]>> = {
  'audit verify': () => [file('{}'), '--key-env', 'HMAC'],
  doctor: () => [...TOKEN, '--no-test-keys', '--report', fresh()],
  'inspect jwe': () => [],
  'inspect data-set': () => profile,
  'inspect profile': () => [],
  'inspect pin-block': () => [
    '--state',
    'enciphered',
    ...PAN_ENV,
    '--key',
    'PEK',
    '--format',
    '0',
    ...ON_KEYS(),
  ],
  'jwe seal': () => ['--recipient', file({ ...JWE, d: undefined }), '--kid', 'JWE'],
  'jwe open': () => ['--key', 'JWE', ...ON_KEYS()],
  'key list': () => TOKEN,
  'key check': () => ['--kid', 'PEK', '--usage', 'pin-encryption', '--kcv', '08D7B4', ...ON_KEYS()],
  'key kcv': () => ['--algorithm', 'aes-128', '--key-env', 'AES'],
  'key generate': () => [...NEW, '--valid-to', '2031-01-31', ...TOKEN],
  'key components split': () => [
    '--algorithm',
    'aes-128',
    '--parts',
    '2',
    '--out',
    fresh(),
    '--key-env',
    'AES',
  ],
  'key components combine': () => [...NEW, '--parts', '2', '--kcv', '00', '--out', fresh(), ...PARTS],
  'key record': () => ['--record-key', 'JWE', '--record-usage', 'jwt-signing', ...ON_KEYS()],
  'key import': () => ['--from', 'components', '--parts', '2', '--kcv', '00', ...NEW, ...PARTS, ...TOKEN],
  'key block read': () => [],
  'key block open': () => ['--kbpk', 'KBPK', '--usage', 'cmac', ...ON_KEYS()],
  'key block seal': () => [
    ...['--kbpk', 'KBPK', '--version', 'D', '--algorithm', 'aes-128', '--usage', 'cmac', '--mode', 'C'],
    ...['--exportability', 'E', '--key-env', 'AES', ...ON_KEYS()],
  ],
  'key block translate': () => [
    '--from',
    'KBPK',
    '--to',
    'KBPK2',
    '--usage',
    'cmac',
    '--version',
    'D',
    ...ON_KEYS(),
  ],
  'key rotate': () => ['--kid', 'K', '--new-kid', 'L', ...TOKEN],
  'key delete': () => ['--kid', 'K', '--yes', ...TOKEN],
  'mac compute': () => [
    '--key',
    'MAC',
    '--algorithm',
    'iso9797-1-alg3',
    '--padding',
    '2',
    '--length',
    '8',
    '--hex',
    ...ON_KEYS(),
  ],
  'mac verify': () => [
    '--key',
    'MAC',
    '--algorithm',
    'iso9797-1-alg3',
    '--padding',
    '2',
    '--length',
    '8',
    '--mac',
    BLOCK,
    ...ON_KEYS(),
  ],
  onboard: () => [
    '--dir',
    '/proc/nowhere',
    '--issuer-id',
    'is_tbank01',
    '--endpoint',
    'https://x',
    '--subject',
    'O=X',
  ],
  'pin encipher': () => ['--key', 'PEK', '--format', '0', ...PAN_ENV, '--card-pin-env', 'PIN', ...ON_KEYS()],
  'pin decipher': () => ['--key', 'PEK', '--format', '0', ...PAN_ENV, ...ON_KEYS()],
  'pin translate': () => [
    '--from',
    'PEK',
    '--to',
    'PEK2',
    '--from-format',
    '0',
    '--to-format',
    '3',
    ...PAN_ENV,
    ...ON_KEYS(),
  ],
  'pin verify': () => [
    '--key',
    'PEK',
    '--format',
    '0',
    '--against',
    'pvv',
    '--pvv',
    '1234',
    '--pvk',
    'K',
    '--pvki',
    '1',
    ...PAN_ENV,
    ...ON_KEYS(),
  ],
  'pin pvv': () => ['--key', 'PEK', '--format', '0', '--pvk', 'K', '--pvki', '1', ...PAN_ENV, ...ON_KEYS()],
  'pin offset': () => [
    '--key',
    'PEK',
    '--format',
    '0',
    '--pvk',
    'K',
    '--rule',
    file('{}'),
    ...PAN_ENV,
    ...ON_KEYS(),
  ],
  'pin natural': () => [
    '--key',
    'PEK',
    '--format',
    '0',
    '--pvk',
    'K',
    '--rule',
    file('{}'),
    '--length',
    '4',
    ...PAN_ENV,
    ...ON_KEYS(),
  ],
  probe: () => ['--draft'],
  'profile check': () => ['--samples', file('{}')],
  'profile search': () => ['--samples', file('{}'), '--only', 'prw', '--seconds', '1', '--workers', '1'],
  'prw compute': () => ['--key', 'PEK', ...profile, ...ON_KEYS()],
  'prw verify': () => ['--key', 'PEK', ...profile, ...ON_KEYS()],
  'storage count': () => ['--config', file('')],
  'storage rotate': () => ['--config', file(''), '--batch', '5'],
  'storage pans': () => ['--config', file('')],
  'storage rows': () => ['--config', file('')],
  token: () => TOKEN,
}

const HOSTILE = [
  '',
  '\u001b[2J\u202e',
  '\0',
  '__proto__',
  '/proc/nowhere/x',
  'x'.repeat(5000),
  '/dev/zero',
  '-1',
  PAN,
  PEK,
]
const INPUTS = [
  '',
  '{',
  '[]',
  'null',
  PAN,
  PEK,
  `${KBPK}${MAC_KEY}`,
  '\0\u001b[2J',
  'D0112P0AE00E0000',
  `{"pin":"${PIN}"}`,
  '9'.repeat(3_000_000),
]

/** The calls that are wrong in one way each. */
function wrong(verb: string): readonly (readonly string[])[] {
  const base = [...verb.split(' '), ...(CALLS[verb]?.() ?? [])]
  const options = base.flatMap((part, i) => (part.startsWith('--') ? [i] : []))
  // What names a new file would make one: with these, nothing hostile is tried but what cannot be one.
  const makes = ['--out', '--report', '--dir', '--record']
  const valued = options.filter(i => base[i + 1] !== undefined && base[i + 1]?.startsWith('--') === false)
  return [
    [...base, `--${PEK.toLowerCase()}`],
    [...base, '--pin', PIN],
    [...base, 'a', PAN],
    [...base, `--json=${PAN}`],
    ...options.map(i => base.toSpliced(i, valued.includes(i) ? 2 : 1)),
    ...options.map(i => [...base, ...base.slice(i, i + (valued.includes(i) ? 2 : 1))]),
    ...valued.map(i => base.toSpliced(i + 1)),
    ...valued.map(i => base.with(i, `${base[i]?.slice(0, -1)}`)),
    ...valued.flatMap((i, at) =>
      HOSTILE.filter((value, j) =>
        makes.includes(base[i] ?? '') ? ['', '\0', '/proc/nowhere/x'].includes(value) : (at + j) % 3 === 0,
      ).map(value => base.with(i + 1, value)),
    ),
  ]
}

function requireSound(what: string, code: number, out: string, err: string): void {
  expect([0, 1, 2], what).toContain(code)
  const lines = err.split('\n').filter(line => !line.startsWith('warning: '))
  if (code === 2) expect([out, lines.length, /^ERR_[A-Z0-9_]+: /.test(err)], what).toEqual(['', 1, true])
  expect(err, what).not.toMatch(/UNEXPECTED|\n {4}at /)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for.
  expect(err + out, what).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/)
  for (const secret of [...SECRETS, PIN, PAN])
    expect(err.toUpperCase(), what).not.toContain(secret.toUpperCase())
}

const NONE = { ...env, HMAC: 'A5'.repeat(32) }

describe('every verb', () => {
  test('is in the table', async () => {
    const verbs = new Set(Object.keys(CALLS).map(verb => verb.split(' ')[0]))
    expect([...verbs].sort()).toEqual(COMMANDS.map(({ name }) => name).sort())
    // Each command names its verbs where it is given none, if it has any.
    let named = 0
    for (const { name } of COMMANDS) {
      const io = keptIo()
      await main([name], io)
      const [, said = ''] = /takes (?:one of|the verb) (.*)$/.exec(io.errors.join()) ?? []
      for (const verb of said === '' ? [] : said.split(', ')) {
        named++
        expect(
          Object.keys(CALLS).filter(one => one.startsWith(`${name} ${verb}`)),
          verb,
        ).not.toEqual([])
      }
    }
    expect(named).toBeGreaterThan(10)
  })

  test.each(Object.keys(CALLS))('%s, called wrongly', async verb => {
    for (const args of wrong(verb)) {
      const { code, out, err } = await run(args, { env: NONE, stdin: PAN, secret: PEK })
      requireSound(args.map(part => part.slice(0, 40)).join(' '), code, out, err)
    }
  })

  test.each(Object.keys(CALLS))('%s, with input that is none', async verb => {
    for (const stdin of INPUTS) {
      const args = [...verb.split(' '), ...(CALLS[verb]?.() ?? [])]
      const { code, out, err } = await run(args, { env: NONE, stdin })
      requireSound(`${args.join(' ').slice(0, 80)} < ${stdin.slice(0, 20)}`, code, out, err)
    }
  })

  test('storage, with a module that gives what is none', async () => {
    for (const given of [
      undefined,
      {},
      { default: 7 },
      { default: () => ({}) },
      { default: async () => ({ store: PAN }) },
    ]) {
      const io = keptIo()
      const code = await main(['storage', 'count', '--config', 'x.mjs'], io, [
        storageCommand(async () => given),
      ])
      requireSound('storage', code, io.output.join('\n'), io.errors.join('\n'))
      expect([code, io.errors.length]).toEqual([2, 1])
    }
  })

  test('secrets are those that are looked for', () => {
    expect(SECRETS).toEqual(expect.arrayContaining([PAN, PIN, PEK, AES, KBPK, MAC_KEY]))
  })
})
