/** The command line beside the simulator: arguments, input, output, exit codes, and that nothing secret comes out. */
import { execFileSync, spawnSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { seccosContent as handMade } from '../../examples/demo/d1-seccos.js'
import { profileCommand } from '../../src/cli/inspect.js'
import { COMMANDS, main } from '../../src/cli/main.js'
import type { Opening } from '../../src/cli/open.js'
import { probeCommand } from '../../src/cli/probe.js'
import { takeSecret } from '../../src/cli/secret.js'
import { processIo, readAll, SecretPrompt, type Terminal } from '../../src/cli/terminal.js'
import { tokenCommand } from '../../src/cli/token.js'
import { type Backend, IssuerPinError, KeyError } from '../../src/index.js'
import type { Pkcs11Options } from '../../src/pkcs11.js'
import { softwareBackend } from '../../src/software.js'
import { renderTable } from '../../src/tools/inspect/table.js'
import {
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  type ProbeOutcome,
  type ProbeReport,
  probeProfile,
} from '../../src/tools.js'
import { SAMPLES, SCHEMES } from '../seccos/schemes.js'
import { bundled } from '../support/bundled.js'
import { keptIo } from './support/io.js'

const CANARY = '4929123456789012'
let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cli-'))
})
afterAll(() => rmSync(folder, { recursive: true }))
const file = (name: string, content: string | object): string => {
  const path = join(folder, name)
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

/** Exit code, standard output and standard error of a call. */
async function run(args: readonly string[], more: Parameters<typeof keptIo>[0] = {}) {
  const io = keptIo(more)
  const code = await main(args, io)
  return { code, out: io.output.join('\n'), err: io.errors.join('\n') }
}

describe('wrong calls: exit code 2, one line, nothing on standard output', () => {
  test.each<[readonly string[], string | RegExp]>([
    [
      ['frobnicate'],
      'ERR_USAGE: there is no such command; there are audit, doctor, inspect, jwe, key, mac, onboard, pin, probe, profile, prw, storage, token',
    ],
    [['inspect', 'jwe', '/dev/zero'], 'ERR_USAGE: the file is not a regular file'],
    [['inspect'], 'ERR_USAGE: inspect takes one of jwe, data-set, profile, pin-block'],
    [['inspect', '__proto__'], 'ERR_USAGE: inspect takes one of jwe, data-set, profile, pin-block'],
    [['inspect', 'jwe', '/nowhere'], 'ERR_USAGE: the file cannot be read: ENOENT'],
    [['inspect', 'jwe', 'a', 'b'], 'ERR_USAGE: at most 1 argument besides the options'],
    [['inspect', 'data-set'], 'ERR_USAGE: --profile is missing'],
    [['inspect', 'pin-block'], 'ERR_USAGE: --state is missing'],
    [['inspect', 'pin-block', '--state', 'x'], 'ERR_USAGE: --state must be one of clear, enciphered'],
    [['profile'], 'ERR_USAGE: profile takes one of check, search'],
    [['profile', 'fix', 'x'], 'ERR_USAGE: profile takes one of check, search'],
    [['token'], 'ERR_USAGE: --module is missing'],
    [['token', '--module', '/x.so'], 'ERR_USAGE: --token is missing'],
    [
      ['token', '--pin', CANARY],
      "ERR_USAGE: there is an option that is not one of this command's: a secret is no argument, use --pin-env or --pin-fd",
    ],
    ...['modle', 'module1', 'modlue', 'mofule', 'odule'].map((slip): [string[], RegExp] => [
      ['token', `--${slip}`, 'x'],
      /: did you mean --module\?$/,
    ]),
    [['token', '--tokn', 'x'], /: did you mean --token\?$/],
    [['token', `--${CANARY}`], "ERR_USAGE: there is an option that is not one of this command's: see --help"],
    [['token', '--token', 'a', '--token', 'b'], 'ERR_USAGE: --token is there twice'],
    [['token', '--token'], "ERR_USAGE: Option '--token <value>' argument missing"],
    [
      ['token', '--module', '/x.so', '--token', 'x', '--pin-env', 'NO'],
      'ERR_USAGE: --pin-env: there is no such variable in the environment',
    ],
    [
      ['token', '--module', '/x.so', '--token', 'x'],
      'ERR_USAGE: there is no terminal to ask for the pin: use --pin-fd or --pin-env',
    ],
  ])('%j', async (args, message) => {
    const { code, out, err } = await run(args)
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(message)
    expect(err).not.toContain(CANARY)
    expect(err.split('\n')).toHaveLength(1)
  })

  test('no command: the overview, on standard error', async () => {
    const { code, out, err } = await run([])
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(/^usage: issuer-pin-crypto COMMAND/)
  })

  test.each([
    ['not JSON', `{${CANARY}`],
    ['a list', '[]'],
    ['a member twice', '{"a":1,"a":2}'],
  ])('a profile that is %s', async (_what, stdin) => {
    const { code, err } = await run(['profile', 'check'], { stdin })
    expect(code).toBe(2)
    expect(err).toBe('ERR_USAGE: the profile is not a JSON object, or has a member twice')
  })

  test('input that is too long, from a file and from standard input', async () => {
    const long = 'x'.repeat(1_048_577)
    expect(await run(['inspect', 'jwe', file('long', long)])).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: the file is longer than 1048576 bytes',
    })
    expect((await run(['inspect', 'jwe'], { stdin: long })).err).toBe(
      'ERR_USAGE: the input is longer than 1048576 bytes',
    )
  })

  test('a folder or a pipe in place of a file', async () => {
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    for (const path of [folder, pipe]) {
      expect((await run(['inspect', 'jwe', path])).err).toBe('ERR_USAGE: the file is not a regular file')
    }
  })

  test('a file of the longest size is read, also one that does not state its size', async () => {
    const { err } = await run(['inspect', 'jwe', file('longest', '{'.padEnd(1_048_576))])
    expect(err).toBe('ERR_USAGE: the input is not a JSON object, or has a member twice')
    expect((await run(['profile', 'check', '/proc/self/status'])).err).toBe(
      'ERR_USAGE: the profile is not a JSON object, or has a member twice',
    )
  })
})

describe('help', () => {
  test('--help names every command', async () => {
    const { code, out } = await run(['--help'])
    expect(code).toBe(0)
    for (const { name, summary } of COMMANDS) expect(out).toMatch(new RegExp(`  ${name} +${summary}`))
    expect(await run(['-h'])).toMatchObject({ code: 0, out })
  })

  test.each(COMMANDS.map(({ name }) => name))('%s --help says how it is called', async name => {
    const { code, out, err } = await run([name, '--help'])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(new RegExp(`^usage: issuer-pin-crypto ${name}`))
    expect(out).toMatch(/[Ee]xit code|standard input/)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(118)
  })
})

describe('errors: exit code 1, code and message, never a stack', () => {
  test('of this library', async () => {
    const { code, err } = await run(['profile', 'check'], { stdin: '{}' })
    expect(code).toBe(1)
    expect(err).toMatch(/^ERR_PROFILE: [^\n]+$/)
  })

  test.each([
    ['another error', new RangeError(CANARY), 'ERR_UNEXPECTED: RangeError'],
    ['no error at all', CANARY, 'ERR_UNEXPECTED: string'],
    ...[CANARY, '4929-1234-5678-9012', '4929 1234 5678 9012'].map((kid): [string, Error, string] => [
      `a key ${kid}`,
      new KeyError('ERR_KEY_NOT_FOUND', `there is no key ${kid}`),
      'ERR_KEY_NOT_FOUND: there is no key ••',
    ]),
  ])('%s is named and not shown', async (_what, thrown, line) => {
    const io = keptIo()
    const broken = { name: 'broken', summary: '', help: '', run: () => Promise.reject(thrown) }
    expect(await main(['broken'], io, [broken])).toBe(1)
    expect(io.errors).toEqual([line])
  })
})

describe('inspect', () => {
  const header = Buffer.from('{"alg":"ECDH-ES","enc":"A256GCM","kid":"K-1"}').toString('base64url')
  const jwe = `${header}..AAAAAAAAAAAAAAAA.${Buffer.from(CANARY).toString('base64url')}.${'A'.repeat(22)}`

  test.each([
    ['a JWE', `${jwe}\n`],
    ["D1's message", JSON.stringify({ type: 'ISO0', encryptedPinBlock: jwe })],
  ])('jwe: the header of %s', async (_what, stdin) => {
    const { code, out } = await run(['inspect', 'jwe'], { stdin })
    expect(code).toBe(0)
    expect(out).toContain('"K-1"')
    expect(out).not.toContain(CANARY)
    expect((await run(['inspect', 'jwe', file('jwe', stdin)])).out).toBe(out)
    expect((await run(['inspect', 'jwe', '-'], { stdin })).out).toBe(out)
  })

  test('jwe: a message without one', async () => {
    expect(await run(['inspect', 'jwe'], { stdin: '{"type":"ISO0"}' })).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: the message has no encryptedPinBlock and no encryptedData',
    })
  })

  const dataSet = handMade(
    '4711',
    { pan: '9999990123456789', psn: '01', expiry: '2912', issuer: 'is_tbank01' },
    { pcc: '0041', intdatag: 'ABCDEFGHIJ0123456789' },
    {
      prw: { hex: '0123456789ABCDEFFEDCBA9876543210', kid: 'x' },
      mac: { hex: '0123456789ABCDEFFEDCBA9876543210', kid: 'x' },
    },
  )['prwDataSet']

  test('data-set: by a shipped profile, and by the same in a file', async () => {
    const { code, out } = await run(['inspect', 'data-set', '--profile', 'illustrative-tdea'], {
      stdin: `${dataSet}\n`,
    })
    expect(code).toBe(0)
    expect(out).toMatch(/PIN change counter "0041"/)
    expect(out).not.toContain('ABCDEFGHIJ')
    const profile = file('profile.json', ILLUSTRATIVE_NOT_GIROCARD_TDEA)
    expect((await run(['inspect', 'data-set', '--profile', profile, file('ds', dataSet ?? '')])).out).toBe(
      out,
    )
  })

  test('data-set: one that is none is exit code 1', async () => {
    const { code, err } = await run(['inspect', 'data-set', '--profile', 'illustrative-aes'], {
      stdin: CANARY,
    })
    expect(code).toBe(1)
    expect(err).toMatch(/^ERR_DATA_SET: /)
    expect(err).not.toContain(CANARY)
  })

  test('pin-block: no digit of a clear one, nothing of an enciphered one', async () => {
    const clear = await run(['inspect', 'pin-block', '--state', 'clear'], { stdin: '0412AC89ABCDEF67\n' })
    expect(clear).toMatchObject({ code: 0, err: '' })
    expect(clear.out).toContain('format 0')
    expect(clear.out).not.toMatch(/12 ?AC|89 ?AB/)
    const enciphered = await run(['inspect', 'pin-block', '--state', 'enciphered'], {
      stdin: '0412AC89ABCDEF67',
    })
    expect(enciphered.out).not.toContain('04')
  })

  test.each([
    ['no hex', 'xx', 2, 'ERR_USAGE: a PIN block is given as hex digits'],
    ['7 bytes', '0412AC89ABCDEF', 1, 'ERR_LENGTH: block: 7 bytes, expected 8 or 16'],
  ])('pin-block: %s', async (_what, stdin, code, err) => {
    expect(await run(['inspect', 'pin-block', '--state', 'clear'], { stdin })).toEqual({ code, out: '', err })
  })
})

test('inspect profile draws one', async () => {
  const { code, out } = await run(['inspect', 'profile', 'illustrative-ibm-shaped'], {})
  expect(code).toBe(0)
  expect(out).toMatch(/^<svg [\s\S]*illustrative-IBM-shaped-NOT-girocard[\s\S]*<\/svg>/)
})

describe('profile check', () => {
  test('says what PRW and MAC do not cover', async () => {
    const { code, out } = await run(['profile', 'check'], {
      stdin: JSON.stringify(ILLUSTRATIVE_NOT_GIROCARD_AES),
    })
    expect(code).toBe(0)
    expect(out).toMatch(/illustrative-NOT-girocard-aes-cmac 1\.0\.0 \(illustrative\)/)
    expect(out).toMatch(/prw +cmac-aes +none +16 +16 +intdatag/)
    expect(out).toMatch(/mac +cmac-aes +none +16 +8 +pan, pinBlock, pinLength/)
    const json = await run(['profile', 'check', '--json'], {
      stdin: JSON.stringify(ILLUSTRATIVE_NOT_GIROCARD_AES),
    })
    expect(JSON.parse(json.out)).toMatchObject({
      covers: [
        { computation: 'prw', uncovered: ['intdatag'] },
        { computation: 'mac', uncovered: ['pan', 'pinBlock', 'pinLength'] },
      ],
    })
  })

  test('nothing uncovered is said as well; a wrong one is named by its entry', async () => {
    const stdin = JSON.stringify(ILLUSTRATIVE_NOT_GIROCARD_TDEA)
    expect((await run(['profile', 'check'], { stdin })).out).toMatch(/prw .* nothing/)
    const broken = JSON.stringify({ ...ILLUSTRATIVE_NOT_GIROCARD_TDEA, randomBytes: 99 })
    expect(await run(['profile', 'check', file('broken', broken)])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^ERR_PROFILE: .*\/randomBytes/),
    })
  })

  describe('with samples', () => {
    const samples = SAMPLES.external.map(({ cdp, cdt, psn, ...sample }) => ({
      ...sample,
      prwKid: 'PRW-KEY',
      issuerId: 'is_tbank01',
      fields: { psn, cdt },
      bytes: { cdp },
    }))
    const keys = {
      prwTestKey: '2B7E151628AED2A6ABF7158809CF4F3C',
      macTestKey: '7CA110454A1A6E570131D9619DC1376E',
    }
    const check = (profile: object, given: object = { ...keys, samples }) =>
      run(['profile', 'check', '--samples', file('samples', JSON.stringify(given))], {
        stdin: JSON.stringify(profile),
      })

    test('says that they come out, and shows none of their values', async () => {
      const { code, out } = await check(SCHEMES.external)
      expect(code).toBe(0)
      expect(out.split('\n').slice(-3)).toEqual(
        ['1', '2', '3'].map(i => `${i}       pcc intdatag random psn  agrees  agrees`),
      )
      expect(out).not.toMatch(/12345|5413330089604111/)
    })

    test('names the nearest reading where they do not', async () => {
      const { mac } = SCHEMES.external
      const wrong = await check({ ...SCHEMES.external, mac: { ...mac, padding: 2 } })
      expect(wrong.code).toBe(1)
      expect(wrong.out).toMatch(/agrees +differs\nmac: would agree with\n {2}padding 1 in place of 2$/)
      const [one] = samples
      const none = await check(SCHEMES.external, {
        ...keys,
        samples: [{ ...one, prwDataSet: '00', macValue: '00' }],
      })
      expect(none.out).toMatch(/does not read +- +- +data set: .*\nprw: no single change makes it agree\n/)
    })

    test('a remark, and a file that is none', async () => {
      expect((await run(['profile', 'check'], { stdin: JSON.stringify(SCHEMES.parts) })).out).toMatch(
        /\nremark: \/mac\/inputs covers neither the PCC nor the intdatag/,
      )
      const { code, err } = await check(SCHEMES.external, { ...keys, samples: [{ ...samples[0], bytes: 7 }] })
      expect([code, err]).toEqual([2, 'ERR_USAGE: fields and bytes must be objects'])
    })
  })
})

describe('probe', () => {
  const keys = {
    prwTestKey: '0123456789ABCDEFFEDCBA9876543210',
    macTestKey: '7CA110454A1A6E570131D9619DC1376E',
  }
  const sample = (pan: string, pin: string, pcc: string) => {
    const counter = { pcc, intdatag: `D1-TAG-0123456789-${pcc.slice(2)}` }
    const card = { pan, psn: '01', expiry: '2912', issuer: 'is_tbank01' }
    const made = handMade(pin, card, counter, {
      prw: { hex: keys.prwTestKey, kid: 'x' },
      mac: { hex: keys.macTestKey, kid: 'x' },
    })
    const { prwDataSet, prwValue, macValue } = made
    const random = prwDataSet?.slice(48, 56)
    return {
      pan,
      pin,
      ...counter,
      random,
      prwDataSet,
      prwValue,
      macValue,
      known: { psn: '01', expiry: '2912' },
    }
  }
  const samples = [sample('5413330089604111', '739204', '0042'), sample('4000001234567899', '1234', '1307')]

  /** A search takes seconds: the command that is given back has its report at once. */
  async function probeOnce(stdin: string) {
    const reports: ProbeReport[] = []
    const keeping = probeCommand(async options => {
      const report = await probeProfile(options)
      reports.push(report)
      return report
    })
    const io = keptIo({ stdin })
    const code = await main(['probe'], io, [keeping])
    const again = probeCommand(async () => reports[0] ?? expect.unreachable('the first call has a report'))
    return { code, out: io.output.join('\n'), err: io.errors.join('\n'), again }
  }

  test('finds the computation, shows where values stand, and no PIN, PAN or key', async () => {
    const stdin = JSON.stringify({ ...keys, samples })
    const { code, out, err, again } = await probeOnce(stdin)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(/prw +winner .*iso9797-1-alg3, padding 2 +dataSet\.full/)
    expect(out).toMatch(/pcc +14 +2 +bcd/)
    for (const secret of ['739204', '5413330089604111', keys.prwTestKey]) expect(out).not.toContain(secret)
    const io = keptIo()
    expect(await main(['probe', '--draft', file('samples.json', stdin)], io, [again])).toBe(0)
    expect(JSON.parse(io.output.join('\n'))).toMatchObject({ provenance: 'illustrative' })
  })

  test('samples that determine nothing are exit code 1', async () => {
    const [first] = samples
    const wrong = {
      ...first,
      prwValue: '0'.repeat(16),
      macValue: '0'.repeat(16),
      random: undefined,
      known: {},
    }
    // Under keys that only AES takes, which is an eighth of the tries.
    const [prwTestKey, macTestKey] = ['01'.repeat(32), '02'.repeat(32)]
    const stdin = JSON.stringify({ prwTestKey, macTestKey, samples: [wrong] })
    const { code, out, err, again } = await probeOnce(stdin)
    expect({ code, err }).toEqual({ code: 1, err: 'no draft: the samples do not determine PRW and MAC' })
    expect(out).toMatch(/prw +none +0 of \d+/)
    const io = keptIo({ stdin })
    expect(await main(['probe', '--draft'], io, [again])).toBe(1)
    expect(io.output).toEqual([])
  })

  test('a computation without padding, an own field, and several that fit, each in its row', async () => {
    const inputs = [{ input: 'pinBlock' }, { input: 'field', id: 'psn' }] as const
    const layout: ProbeOutcome['matches'][number]['layout'] = { pan: undefined, pin: undefined }
    const form = { keyBytes: 16, pinForm: 'iso9564-format-0', outputBytes: 8, text: 'hex-upper' } as const
    const match = { padding: 'none', inputs, layout, ...form } as const
    const matches = [
      { ...match, algorithm: 'cmac-aes' },
      { ...match, algorithm: 'cmac-tdea' },
    ] as const
    const none = { tried: 9, matches: [], decidedBy: [], verdict: 'none' } as const
    const made = {
      places: [],
      prw: { tried: 9, matches, decidedBy: ['a PAN of 19 digits'], verdict: 'ambiguous' },
      mac: none,
    } as const
    const io = keptIo({ stdin: JSON.stringify({ ...keys, samples }) })
    expect(await main(['probe'], io, [probeCommand(async () => made)])).toBe(1)
    const table = io.output.join('\n').split('\n')
    expect(table.at(-1)).toBe('prw: a further sample would decide, with a PAN of 19 digits')
    expect(table.slice(-4, -1)).toEqual([
      expect.stringMatching(/^prw +ambiguous +2 of 9 +cmac-aes +pinBlock \+ field psn$/),
      expect.stringMatching(/^ +cmac-tdea +pinBlock \+ field psn$/),
      expect.stringMatching(/^mac +none +0 of 9$/),
    ])
  })

  test.each([
    [
      'a member too many',
      { ...keys, samples: [], key: 'x' },
      2,
      /have members prwTestKey, macTestKey, samples and no other/,
    ],
    ['no samples', keys, 2, /samples must be a list of objects/],
    ['a sample that is a string', { ...keys, samples: ['x'] }, 2, /samples must be a list of objects/],
    ['a key that is no hex', { ...keys, prwTestKey: 'x', samples: [] }, 2, /prwTestKey must be hex digits/],
    ['a PAN that is a number', { ...keys, samples: [{ pan: 1 }] }, 2, /pan must be a string, in each sample/],
    ['a PIN of 3 digits', { ...keys, samples: [{ pan: CANARY, pin: '123' }] }, 1, /^ERR_PIN: /],
    [
      'a random number that is no hex',
      { ...keys, samples: [{ pan: CANARY, pin: '1234', random: 'x' }] },
      2,
      /random must be/,
    ],
    ['no list', { ...keys, samples: [] }, 2, /^ERR_ARGUMENT: samples must be a list/],
  ])('%s', async (_what, content, code, message) => {
    const result = await run(['probe'], { stdin: JSON.stringify(content) })
    expect(result).toMatchObject({ code, out: '' })
    expect(result.err).toMatch(message)
    expect(result.err).not.toContain(CANARY)
  })
})

describe('token', () => {
  let given: Pkcs11Options | undefined
  let pin: unknown
  const over = (backend: Opening['backend']) => tokenCommand({ backend } as Opening)
  const opening = (ok: boolean) =>
    over(async options => {
      given = options
      pin = await options.pin?.()
      const backend: Backend = await softwareBackend({
        keys: [{ kid: 'K', usage: 'cmac', algorithm: 'aes-128', material: '11'.repeat(16) }],
      })
      return new Proxy(backend, {
        get: (target, name) => {
          if (name === 'health') return async () => ({ ok, detail: 'two slots' })
          if (name === 'capabilities') return () => ({ ...target.capabilities(), notes: ['no retail MAC'] })
          const value: unknown = Reflect.get(target, name)
          return typeof value === 'function' ? value.bind(target) : value
        },
      }) as never
    })
  const args = ['token', '--module', '/lib/hsm.so', '--token', 'issuer']

  test('shows what the token can do; the PIN comes from the environment and goes nowhere else', async () => {
    const io = keptIo({ env: { HSM_PIN: CANARY } })
    expect(await main([...args, '--pin-env', 'HSM_PIN', '--composed-mac'], io, [opening(true)])).toBe(0)
    expect(pin).toBe(CANARY)
    expect(io.env).toEqual({})
    expect(given).toMatchObject({
      module: '/lib/hsm.so',
      token: 'issuer',
      composedMac: true,
    })
    const text = io.output.join('\n')
    expect(text).toMatch(/health +ok +two slots/)
    expect(text).toMatch(/MAC cmac +native/)
    expect(text).toMatch(/note +no retail MAC/)
    expect(text).not.toContain(CANARY)
  })

  test('a secret that was taken is in no diagnostic report and reaches no child', () => {
    process.env['IPC_TEST_SECRET'] = CANARY
    const shown = () => JSON.stringify(process.report.getReport())
    expect(shown()).toContain(CANARY)
    expect(takeSecret(processIo(process), 'IPC_TEST_SECRET')).toBe(CANARY)
    expect(shown()).not.toContain(CANARY)
    const child = spawnSync(process.execPath, ['-p', 'JSON.stringify(process.env)'], { encoding: 'utf8' })
    expect(child.stdout).toContain('PATH')
    expect(child.stdout).not.toContain(CANARY)
    expect(takeSecret(processIo(process), 'IPC_TEST_SECRET')).toBeUndefined()
  })

  test('where Node can, it leaves the environment out of reports from then on', () => {
    const report = { excludeEnv: false }
    const env = Object.assign(Object.create({ INHERITED: 'x' }) as Record<string, string>, { A: 'b' })
    expect(takeSecret({ env, report }, 'INHERITED')).toBeUndefined()
    expect(takeSecret({ env, report }, 'A')).toBe('b')
    expect(report.excludeEnv).toBe(true)
  })

  test('asks for the PIN where no variable is named; a token that is not well is exit code 1', async () => {
    const io = keptIo({ secret: '123456' })
    expect(await main(args, io, [opening(false)])).toBe(1)
    expect(pin).toBe('123456')
    expect(io.output.join('\n')).toMatch(/health +NOT ok/)
  })

  test('what the token reports is one line', async () => {
    const refusing = over(async () => {
      throw new IssuerPinError('ERR_PKCS11_LOGIN', 'C_Login: CKR_PIN_INCORRECT')
    })
    const io = keptIo({ secret: 'x' })
    expect(await main(args, io, [refusing])).toBe(1)
    expect(io.errors).toEqual(['ERR_PKCS11_LOGIN: C_Login: CKR_PIN_INCORRECT'])
  })
})

describe('the terminal', () => {
  class Keyboard extends EventEmitter implements Terminal {
    readonly isTTY = true
    readonly modes: boolean[] = []
    setRawMode(on: boolean): void {
      this.modes.push(on)
    }
    /** While it does, it keeps the process from ending. */
    flows = false
    resume(): void {
      this.flows = true
    }
    pause(): void {
      this.flows = false
    }
  }

  function prompted() {
    const keyboard = new Keyboard()
    const shown: string[] = []
    const prompt = new SecretPrompt(keyboard, text => shown.push(text))
    const type = (text: string | Buffer): void => {
      // A terminal that was told to pause hands nothing over.
      if (keyboard.flows) keyboard.emit('data', Buffer.from(text))
    }
    return { keyboard, shown, prompt, type }
  }

  test.each([
    ['a line', ['12', '34\r'], '1234'],
    ['a line with a mistake', ['1x\u007f2\n'], '12'],
    ['a line with a mistake, where the key sends a backspace', ['1x\b2\n'], '12'],
    ['a line that was begun anew', ['99\u00151', '2\n'], '12'],
    ['the end of input', ['12\u0004'], '12'],
    ['arrow keys, a function key, and what is pasted', ['1\u001b[D\u001bOP\u001b[200~2\u001b[201~\r'], '12'],
    ['other control characters', ['1\u0001\u0007\t2\r'], '1\t2'],
    ['more than a line', ['12\r34\r'], '12'],
    ['a letter in two pieces', [Buffer.of(0xc3), Buffer.of(0xbc, 0x0d)], 'ü'],
  ])('%s is read without echo', async (_what, chunks, expected) => {
    const { keyboard, shown, prompt, type } = prompted()
    const answer = prompt.ask('PIN: ')
    for (const chunk of chunks) type(chunk)
    expect(await answer).toBe(expected)
    expect(shown).toEqual(['PIN: ', '\n'])
    expect([keyboard.modes, keyboard.flows]).toEqual([[true, false], false])
    expect(keyboard.listenerCount('data')).toBe(0)
  })

  test('Ctrl-C ends this question and all that would come', async () => {
    const { keyboard, prompt, type } = prompted()
    const answer = prompt.ask('PIN: ')
    type('12\u0003')
    await expect(answer).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    await expect(prompt.ask('again: ')).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect([keyboard.modes, keyboard.flows]).toEqual([[true, false], false])
  })

  test('hushed, it shows nothing between two questions, and what is typed there is in neither', async () => {
    const { keyboard, shown, prompt, type } = prompted()
    const unhush = prompt.hush()
    type('ahead\r')
    const first = prompt.ask('1: ')
    type('one\rbehind')
    expect(await first).toBe('one')
    type('between')
    const second = prompt.ask('2: ')
    type('two\r')
    expect(await second).toBe('two')
    expect(keyboard.modes).toEqual([true])
    unhush()
    expect([keyboard.modes, keyboard.flows]).toEqual([[true, false], false])
    expect(shown).toEqual(['1: ', '\n', '2: ', '\n'])
  })

  test.each([
    ['alone', '', '\u0003'],
    ['behind what was typed ahead', '', 'x\u0003'],
    ['at once with the line before', 'one\r\u0003', ''],
  ])('hushed, Ctrl-C between two questions ends the next: %s', async (_where, during, between) => {
    const { prompt, type } = prompted()
    prompt.hush()
    const first = prompt.ask('1: ')
    type(during || 'one\r')
    expect(await first).toBe('one')
    type(between)
    const next = prompt.ask('2: ').catch(({ code }: { code: string }) => code)
    // A question that is open after a turn of the loop waits for somebody to type.
    expect(await Promise.race([next, nextTurn('is asked')])).toBe('ERR_ABORTED')
  })

  test('where there is none, nothing is asked, and nothing hushed', async () => {
    const shown: string[] = []
    const prompt = new SecretPrompt(new EventEmitter() as never, text => shown.push(text))
    expect(await prompt.ask('PIN: ')).toBeUndefined()
    prompt.hush()()
    expect(shown).toEqual([])
  })

  test('a stream is read to its end, or to its bound', async () => {
    const chunks = () => Readable.from([Buffer.from('ab'), Buffer.from('cd'), Buffer.from('ef')])
    expect((await readAll(chunks())).toString()).toBe('abcdef')
    expect((await readAll(chunks(), 3)).toString()).toBe('abcd')
  })

  test('what standard input came in is wiped, also where it breaks off', async () => {
    for (const fails of [false, true]) {
      const came = ['{"pin":"47', '1193"}'].map(part => Buffer.from(part))
      const stream = async function* () {
        yield* came
        if (fails) throw new Error('broken off')
      }
      const read = readAll(stream()).then(String, ({ message }: Error) => message)
      expect(await read).toBe(fails ? 'broken off' : '{"pin":"471193"}')
      expect(came.map(({ length }, i) => came[i]?.equals(Buffer.alloc(length)))).toEqual([true, true])
    }
  })

  test('the streams of a process', async () => {
    const written: string[] = []
    const stream = (name: string) => ({ write: (text: string) => written.push(`${name} ${text}`) })
    const io = processIo({
      stdin: Readable.from([Buffer.from('in')]),
      stdout: stream('out'),
      stderr: stream('err'),
      env: { A: '1' },
    } as never)
    io.out('x')
    io.err('y')
    expect(written).toEqual(['out x\n', 'err y\n'])
    expect((await io.readStdin()).toString()).toBe('in')
    expect(await io.askSecret('?')).toBeUndefined()
    const keyboard = Object.assign(new Keyboard(), { [Symbol.asyncIterator]: undefined })
    const report = { excludeEnv: false }
    const asking = processIo({
      stdin: keyboard,
      stdout: stream('out'),
      stderr: { ...stream('err'), isTTY: true },
      env: { A: '1' },
      report,
    } as never)
    asking.progress?.('1 of 2')
    const answer = asking.askSecret('PIN: ')
    keyboard.emit('data', Buffer.from('1\r'))
    expect(await answer).toBe('1')
    asking.hush?.()()
    asking.progress?.('')
    asking.out('z')
    // A question begins at the line's begin, as all else does; what is cleared already is so once.
    const shown = ['err \r\x1b[K1 of 2', 'err \r\x1b[K', 'err PIN: ', 'err \n', 'err \r\x1b[K', 'out z\n']
    expect(written.slice(2)).toEqual(shown)
    expect([takeSecret(asking, 'A'), report.excludeEnv]).toEqual(['1', true])
    expect(io.env['A']).toBe('1')
  })
})

test('a table keeps control characters from the terminal', () => {
  expect(renderTable(['a', 'b'], [['\x1b[2J', 'x']])).toBe('a     b\n-     -\n?[2J  x')
})

describe('the program itself', () => {
  test('--help is exit code 0; output that nobody reads is exit code 1, and no stack', async () => {
    const { argv } = process
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never)
    const streams = [process.stdout, process.stderr]
    const others = streams.map(stream => stream.listeners('error'))
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
    try {
      process.argv = [process.execPath, 'issuer-pin-crypto', '--help']
      await import('../../src/cli/cli.js')
      await vi.waitFor(() => expect(process.exitCode).toBe(0), 60_000)
      expect(write.mock.calls.join('')).toMatch(/^usage: issuer-pin-crypto COMMAND/)
      for (const [i, stream] of streams.entries()) {
        const [ours] = stream.listeners('error').filter(listener => others[i]?.includes(listener) !== true)
        ours?.(new Error('EPIPE'))
        expect(exit.mock.calls.splice(0)).toEqual([[1]])
        stream.off('error', ours as () => void)
      }
    } finally {
      exit.mockRestore()
      process.argv = argv
      process.exitCode = undefined
      write.mockRestore()
    }
  })

  test('is exit code 1 until the command has ended', async () => {
    vi.resetModules()
    vi.doMock('../../src/cli/main.js', () => ({ main: () => new Promise<never>(() => {}) }))
    const streams = [process.stdout, process.stderr]
    const before = streams.map(stream => stream.listeners('error'))
    try {
      await import('../../src/cli/cli.js')
      expect(process.exitCode).toBe(1)
    } finally {
      process.exitCode = undefined
      vi.doUnmock('../../src/cli/main.js')
      for (const [i, stream] of streams.entries())
        for (const listener of stream.listeners('error') as (() => void)[])
          if (before[i]?.includes(listener) !== true) stream.off('error', listener)
    }
  })

  test('a wrong call is exit code 2, by its own process', () => {
    const program = bundled(new URL('../../src/cli/cli.ts', import.meta.url))
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'x'], { encoding: 'utf8' })
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^ERR_USAGE: /)
  })
})

describe('profile search', () => {
  const NOTHING_FOUND = {
    tried: 1,
    timeUp: false,
    tooMany: false,
    matches: [],
    verdict: 'none',
    decidedBy: [],
  } as const
  const given = {
    prwTestKey: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('hex'),
    macTestKey: Buffer.from(Array.from({ length: 32 }, (_, i) => 32 + i)).toString('hex'),
    samples: SAMPLES.keyed.map(({ pan, pin, pcc, intdatag, random, psn, ...more }) => {
      const { prwDataSet, prwValue, macValue } = more
      return { pan, pin, pcc, intdatag, random, fields: { psn }, prwDataSet, prwValue, macValue }
    }),
  }
  const { fields, randomBytes, pinBlock } = SCHEMES.keyed
  const known = { fields, randomBytes, pinBlock }
  const search = (args: readonly string[], more: object = known, rest: object = {}) =>
    run(
      [
        'profile',
        'search',
        '--samples',
        file('given', given),
        ...(args.includes('--workers') ? [] : ['--workers', '1']),
        ...args,
      ],
      {
        stdin: JSON.stringify(more),
        ...rest,
      },
    )

  test('finds both, shows how far it is where there is a terminal, and prints the draft alone', async () => {
    const { code, out, err } = await search([], known, { terminal: true })
    const shown = err.split('\n')
    expect(code).toBe(0)
    expect(out).toMatch(/prw +winner +[0-9,]+ +hmac-sha256 +dataSet.masked \+ pinBlock/)
    expect(out).toMatch(/mac +winner +[0-9,]+ +hmac-sha256 +dataSet.masked \+ prw/)
    expect(shown[0]).toMatch(/^prw \[\.{20}\] 0 of 300 s, 0 tried, 0 found$/)
    expect(shown.at(-1)).toBe('')
    const draft = await search(['--draft'])
    expect(draft.code).toBe(0)
    expect(JSON.parse(draft.out)).toMatchObject({ provenance: 'illustrative', mac: { outputBytes: 8 } })
    for (const { pan, pin } of given.samples)
      expect(out + draft.out).not.toMatch(new RegExp(`${pan}|"${pin}"`))
  })

  test('of a layout that is not told, the places are shown', async () => {
    const page = { algorithm: 'hmac-sha256', digest: 'none' }
    const inputs = [{ input: 'dataSet.masked' }, { input: 'unknown' }]
    const { code, out } = await search([], { prw: { ...page, inputs }, mac: { ...page, inputs } })
    expect(code).toBe(0)
    expect(out).toMatch(/^pcc +11 +2 +bcd *$/m)
    expect(out).toMatch(/^zeros0 +0 +10 +constant *$/m)
  })

  test('one alone; a field of the profile among the inputs; what is not found is exit code 1', async () => {
    const inputs = [{ input: 'field', id: 'psn' }, { input: 'unknown' }]
    const { code, out, err } = await search(['--only', 'mac', '--seconds', '60'], {
      ...known,
      mac: { inputs },
    })
    expect([code, err]).toEqual([1, ''])
    expect(out).toMatch(/mac +none +[0-9,]+ *$/m)
    expect(out).not.toMatch(/^prw/m)
  })

  test('of the test keys, that of the other computation may be missing, and one that is there must be hex', async () => {
    const { prwTestKey: _, ...macOnly } = given
    const args = (content: object) => [
      'profile',
      'search',
      '--samples',
      file('given', content),
      '--only',
      'mac',
    ]
    const seen: string[][] = []
    const command = profileCommand(async input => {
      seen.push(Object.keys(input).filter(name => name.endsWith('TestKey')))
      return { fields: [], mac: NOTHING_FOUND }
    })
    const search = async (content: object) => {
      const io = keptIo({ stdin: JSON.stringify(known) })
      return [await main(args(content), io, [command]), io.errors.join()]
    }
    expect((await search(macOnly))[0]).toBe(1)
    expect((await search(given))[0]).toBe(1)
    expect(seen).toEqual([['macTestKey'], ['prwTestKey', 'macTestKey']])
    const { macTestKey: _mac, ...prwOnly } = given
    for (const content of [prwOnly, { ...given, prwTestKey: 'none' }, { ...macOnly, macTestKey: 7 }]) {
      expect(await search(content)).toEqual([
        2,
        expect.stringMatching(/ERR_USAGE: (?:prw|mac)TestKey must be hex digits/),
      ])
    }
  })

  test('a search that is stopped says so, and what would decide between several', async () => {
    const stop = new AbortController()
    const also = {
      algorithm: 'cmac-aes',
      padding: 'none',
      inputs: [{ input: 'field', id: 'psn' }, { input: 'pinBlock' }],
    }
    const outcome = {
      tried: 1234567,
      timeUp: true,
      tooMany: true,
      matches: [SCHEMES.external.mac, also],
      verdict: 'ambiguous',
    }
    const io = keptIo({ stdin: JSON.stringify(known), interrupted: stop.signal })
    const command = profileCommand(async ({ stop: heard, workers, timeLimitMs, only }) => {
      expect([heard, workers, timeLimitMs, only]).toEqual([stop.signal, 3, 5000, undefined])
      stop.abort()
      return { fields: [], prw: { ...outcome, decidedBy: ['a PAN of 12 digits', 'another PCC'] } } as never
    })
    const args = ['profile', 'search', '--samples', file('given', given), '--workers', '3', '--seconds', '5']
    expect(await main(args, io, [command])).toBe(1)
    expect(io.output.join('\n')).toMatch(/1,234,567 +iso9797-1-alg3, padding 1 +dataSet.masked \+ prwKid/)
    // What also fits is on a line of its own, under the first.
    expect(io.output.join('\n')).toMatch(/^ {20,}cmac-aes +field psn \+ pinBlock$/m)
    expect(io.output.join('\n').split('\n').slice(-3)).toEqual([
      'prw: stopped before everything had been tried',
      'prw: more than 512 fit, and the rest was not tried: say more of what is known',
      'prw: a further sample would decide, with a PAN of 12 digits, or another PCC',
    ])
    expect(io.errors).toEqual(['no draft: PRW and MAC are not both found, or not in one layout'])
  })

  test('the time that was up is said; without --workers there is one for each core', async () => {
    const io = keptIo({ stdin: JSON.stringify(known) })
    const command = profileCommand(async ({ workers = 1 }) => {
      expect(workers).toBe(availableParallelism())
      return {
        fields: [],
        mac: { ...NOTHING_FOUND, timeUp: true },
      }
    })
    const args = ['profile', 'search', '--samples', file('given', given), '--draft']
    expect(await main([...args, '--only', 'mac'], io, [command])).toBe(1)
    expect(io.output).toEqual([])
    const shown = keptIo({ stdin: JSON.stringify(known) })
    expect(await main(args.slice(0, -1), shown, [command])).toBe(1)
    expect(shown.output.join()).toContain('mac: the time was up before everything had been tried')
  })

  test.each<[readonly string[], string]>([
    [['--only', 'both'], 'ERR_USAGE: --only must be one of prw, mac'],
    [['--seconds', '0'], 'ERR_USAGE: --seconds must be a whole number from 1 to 86400'],
    [['--workers', 'many'], 'ERR_USAGE: --workers must be a whole number from 1 to 256'],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await search(args)
    expect([code, err]).toEqual([2, message])
  })
})
