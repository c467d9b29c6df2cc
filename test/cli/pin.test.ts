/**
 * `pin` with PVV, offset, reference block and PRW, against published values; `inspect pin-block` with a PAN; and tokens opened with
 * every option there is, one or several.
 */
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PKCS11_OPTIONS } from '../../src/backend/pkcs11/session/options.js'
import { groupOptions, OF_A_TOKEN, TOKEN_OPTIONS } from '../../src/cli/open.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { keptIo } from './support/io.js'
import { asked, env as common, file, fresh, keys, PAN, PEK, PIN, run, TOKEN } from './support/program.js'

interface Case {
  readonly result: string
  readonly key: string
  readonly pan: string
  readonly pin: string
  readonly pvki: number
  readonly pvv: string
  readonly decimalisation: string
  readonly from: number
  readonly length: number
  readonly pad: string
  readonly offset: string
}
const casesOf = (name: string): readonly Case[] => {
  const text = readFileSync(new URL(`../../vectors/corpus/${name}_test.json`, import.meta.url), 'utf8')
  const { testGroups } = JSON.parse(text) as { testGroups: { tests: Case[] }[] }
  return testGroups.flatMap(({ tests }) => tests)
}

const ZPK = '89E88CF7931444F334BD7547FC3F380C'
const OTHER = 'C1A5D20E7F936B4488D1F03C5E2A9B76'
const FROM = ['--key', 'ZPK', '--format', '0'] as const
const PAN_ENV = ['--pan-env', 'PAN'] as const
const pinKeys = [
  { kid: 'ZPK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: ZPK },
  { kid: 'STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', material: OTHER },
]

/** The keys of one case, and its PIN in a block. */
async function blockOf({ key, pan, pin }: Pick<Case, 'key' | 'pan' | 'pin'>, usage: 'visa-pvv' | 'ibm-3624') {
  const algorithm = key.length === 32 ? 'tdea-2key' : 'tdea-3key'
  const keys = file([...pinKeys, { kid: 'PVK', usage, algorithm, material: key }])
  const env = { ...common, PAN: pan, PIN: pin }
  const args = ['pin', 'encipher', ...FROM, '--keys', keys, ...PAN_ENV, '--card-pin-env', 'PIN']
  const made = await run(args, { env })
  expect(made.code).toBe(0)
  return { keys: ['--keys', keys, ...PAN_ENV], env, block: file(made.out) }
}

describe('pin', () => {
  const usable = casesOf('visa_pvv').filter(({ key }) => key.length === 32)
  test.each(usable)('pvv of $pin and whether $pvv is it: $result', async one => {
    const { keys, env, block } = await blockOf(one, 'visa-pvv')
    const pvk = ['--pvk', 'PVK', '--pvki', `${one.pvki}`, ...keys, block]
    const made = await run(['pin', 'pvv', ...FROM, ...pvk], { env })
    expect([made.code, made.out === one.pvv]).toEqual([0, one.result === 'valid'])
    const { out } = await run(['pin', 'pvv', ...FROM, ...pvk, '--json'], { env })
    expect(JSON.parse(out)).toEqual({ pvv: made.out, kid: 'PVK' })
    const verify = ['pin', 'verify', ...FROM, '--against', 'pvv', '--pvv', one.pvv, ...pvk]
    expect((await run(verify, { env })).code).toBe(one.result === 'valid' ? 0 : 1)
  })

  test.each(casesOf('ibm_3624'))('offset of $pin and whether $offset is it: $result', async one => {
    const { keys, env, block } = await blockOf(one, 'ibm-3624')
    const { decimalisation, from, length, pad } = one
    const rule = file({ decimalisation, validation: { from, length, pad } })
    const pvk = ['--pvk', 'PVK', '--rule', rule, ...keys, block]
    const made = await run(['pin', 'offset', ...FROM, ...pvk], { env })
    // A table that gives PINs away makes no offset at all.
    expect(made.out === one.offset).toBe(one.result === 'valid')
    const verify = ['pin', 'verify', ...FROM, '--against', 'offset', '--offset', one.offset, ...pvk]
    const { code, err } = await run(verify, { env })
    // A table that is none is a wrong call.
    const refused = err.startsWith('ERR_ARGUMENT') ? 2 : 1
    expect(code).toBe(one.result === 'valid' ? 0 : refused)
  })

  test('natural: the published PIN of a card, whose offset is of zeros', async () => {
    const one = casesOf('ibm_3624').find(({ offset, result }) => result === 'valid' && /^0+$/.test(offset))
    if (one === undefined) throw new Error('no such vector')
    const { keys, env } = await blockOf(one, 'ibm-3624')
    const { decimalisation, from, length, pad } = one
    const rule = file({ decimalisation, validation: { from, length, pad } })
    const made = await run(
      ['pin', 'natural', ...FROM, '--length', `${one.pin.length}`, '--pvk', 'PVK', '--rule', rule, ...keys],
      { env },
    )
    const read = await run(['pin', 'decipher', ...FROM, '--reveal', ...keys, file(made.out)], { env })
    expect([made.code, read.out]).toEqual([0, one.pin])
  })

  test('natural: under a key that enciphers alone', async () => {
    const keys = [
      { kid: 'ZPK', usage: 'pin-encryption', mode: 'E', algorithm: 'tdea-2key', material: ZPK },
      { kid: 'PVK', usage: 'ibm-3624', algorithm: 'tdea-2key', material: OTHER },
    ]
    const rule = file({ decimalisation: '0123456789012345', validation: { from: 0, length: 16, pad: 'F' } })
    const args = [...FROM, '--length', '4', '--pvk', 'PVK', '--rule', rule, '--keys', file(keys), ...PAN_ENV]
    const made = await run(['pin', 'natural', ...args], { env: { ...common, PAN } })
    expect([made.code, made.out]).toEqual([0, expect.stringMatching(/^[0-9A-F]{16}$/)])
  })

  test('verify against a stored block, of the same format and of another', async () => {
    const keys = ['--keys', file(pinKeys), ...PAN_ENV]
    const encipher = async (pin: string, key: string, format: string) =>
      file(
        (
          await run(['pin', 'encipher', '--key', key, '--format', format, ...keys, '--card-pin-env', 'PIN'], {
            env: { ...common, PIN: pin },
          })
        ).out,
      )
    const block = await encipher(PIN, 'ZPK', '0')
    for (const format of ['0', '3']) {
      const verify = async (reference: string) => {
        const stored = ['--reference', reference, '--reference-key', 'STORE', '--reference-format', format]
        return run(['pin', 'verify', ...FROM, '--against', 'block', ...stored, ...keys, block, '--json'])
      }
      const right = await verify(await encipher(PIN, 'STORE', format))
      expect([right.code, JSON.parse(right.out)]).toEqual([0, { verified: true }])
      const wrong = await verify(await encipher('999999', 'STORE', format))
      expect([wrong.code, JSON.parse(wrong.out)]).toEqual([1, { verified: false }])
    }
  })

  test('verify against a PRW', async () => {
    const values = {
      pcc: '0001',
      intdatag: 'TAG-0123456789-ABCDE',
      fields: { psn: '01', expiry: '2912', issuer: 'is_tbank01' },
    }
    const profile = ['--profile', 'illustrative-tdea']
    const prw = { kid: 'PRW', algorithm: 'tdea-2key', material: PEK }
    const maker = file([{ ...prw, usage: 'prw-generate' }])
    const made = await run([
      'prw',
      'compute',
      '--key',
      'PRW',
      ...profile,
      '--keys',
      maker,
      '--json',
      file({ ...values, pan: PAN, pin: PIN }),
    ])
    const keys = ['--keys', file([...pinKeys, { ...prw, usage: 'prw-verify' }]), ...PAN_ENV]
    const stored = file({ ...values, ...(JSON.parse(made.out) as object) })
    for (const [pin, code] of [
      [PIN, 0],
      ['999999', 1],
    ] as const) {
      const env = { ...common, PIN: pin }
      const block = (await run(['pin', 'encipher', ...FROM, ...keys, '--card-pin-env', 'PIN'], { env })).out
      const against = ['--against', 'prw', '--prw-key', 'PRW', ...profile, '--values', stored]
      expect((await run(['pin', 'verify', ...FROM, ...against, ...keys], { env, stdin: block })).code).toBe(
        code,
      )
    }
  })

  test.each([
    ['pvv', '--pvk', 'PVK'],
    ['offset', '--pvk', 'PVK'],
    ['verify', '--against', 'nothing'],
    ['verify', '--against', 'pvv'],
    ['verify', '--against', 'pvv', '--pvv', '1234', '--pvk', 'PVK', '--pvki', '10'],
    ['verify', '--against', 'block', '--reference', '/nowhere'],
    ['natural', '--length', '3', '--pvk', 'PVK', '--rule', '/nowhere'],
    ['encipher', '--reveal'],
  ])('%s %s %s … is a wrong call', async (verb, ...args) => {
    const { code, out, err } = await run(
      ['pin', verb, ...FROM, '--keys', file(pinKeys), ...PAN_ENV, ...args],
      {
        stdin: '0123456789ABCDEF',
      },
    )
    expect([code, out]).toEqual([2, ''])
    expect(err).toMatch(/^ERR_USAGE: [^\n]+$/)
  })
})

describe('inspect pin-block, with a PAN', () => {
  const CLEAR = { '0': '0412AC89ABCDEF67', '3': '3412ACEEDCBAFDCB' }
  const inspect = (block: string, ...args: string[]) =>
    run(['inspect', 'pin-block', '--state', 'clear', '--pan-env', 'PAN', ...args], {
      stdin: block,
      env: { ...common, PAN: '43219876543210987' },
    })

  test('says whether a clear block is a sound one of it, and no more', async () => {
    const sound = await inspect(CLEAR['0'], '--json')
    expect([sound.code, JSON.parse(sound.out)]).toMatchObject([0, { isSound: true }])
    for (const block of ['0412AC89ABCDEF68', '5412AC89ABCDEF67', '0312AC89ABCDEF67', '041AAC89ABCDEF67']) {
      const { code, out, err } = await inspect(block)
      expect([code, err]).toEqual([1, ''])
      expect(out).toMatch(/^PAN .* NOT a sound block of this PAN$/m)
    }
  })

  test('a clear block of format 1 holds nothing of a PAN; one of format 3 does', async () => {
    expect(await inspect('1412345678901234')).toMatchObject({
      code: 0,
      out: expect.stringContaining('holds nothing of it'),
    })
    expect((await inspect(CLEAR['3'])).out).toMatch(/sound block of this PAN/)
  })

  test('an enciphered block takes its key', async () => {
    const keys = file(pinKeys)
    const block = (
      await run(['pin', 'encipher', ...FROM, '--keys', keys, ...PAN_ENV, '--card-pin-env', 'PIN'])
    ).out
    const look = (pan: string, ...args: string[]) =>
      run(['inspect', 'pin-block', '--state', 'enciphered', '--keys', keys, '--ask-pan', ...args], {
        stdin: block,
        secret: pan,
      })
    expect(await look(PAN)).toMatchObject({
      code: 0,
      out: expect.stringContaining('the block is enciphered'),
    })
    const right = await look(PAN, ...FROM)
    expect([right.code, right.out]).toEqual([
      0,
      expect.stringMatching(/ a sound block of this PAN, under this key$/),
    ])
    const wrong = await look('5500000000000004', ...FROM, '--json')
    expect([wrong.code, JSON.parse(wrong.out)]).toMatchObject([1, { isSound: false }])
    expect((await look(PAN, '--key', 'NONE', '--format', '0')).code).toBe(1)
    expect((await look('x', ...FROM)).err).toMatch(/^ERR_PAN: /)
    const bare = ['inspect', 'pin-block', '--keys', keys, ...FROM]
    expect((await run([...bare, '--state', 'enciphered'], { stdin: block })).err).toMatch(
      /--key takes a PAN too/,
    )
    expect((await run([...bare, '--state', 'clear'], { stdin: block })).err).toMatch(
      /for an enciphered block/,
    )
  })
})

describe('inspect, as JSON', () => {
  test.each([
    [['jwe'], '{"encryptedPinBlock":"a.b.c.d.e"}', 'JWE'],
    [['jwe'], 'a.b', 'not a JWE'],
    [['data-set', '--profile', 'illustrative-tdea'], '0'.repeat(246), 'PRW data set'],
    [['pin-block', '--state', 'clear'], '0412AC89ABCDEF67', 'PIN block, clear'],
  ])('%s', async (args, stdin, title) => {
    const { code, out } = await run(['inspect', ...args, '--json'], { stdin })
    const found = JSON.parse(out) as { title: string; tables: object[][] }
    expect([code, found.title]).toEqual([0, expect.stringContaining(title)])
    for (const row of found.tables.flat()) expect(Object.keys(row)).toContain('meaning')
  })

  test('profile', async () => {
    const { out } = await run(['inspect', 'profile', 'illustrative-aes', '--json'])
    expect(JSON.parse(out)).toMatchObject({
      name: expect.stringContaining('NOT'),
      svg: expect.stringMatching(/^<svg/),
    })
  })
})

describe('a token', () => {
  test('every option of pkcs11Backend that is plain data has a name, and reaches it', async () => {
    const given: readonly (readonly string[])[] = [
      ['--binding', 'koffi'],
      ['--login', 'always'],
      ['--user-type', '0x80000001'],
      ['--allow-final-try'],
      ['--init-parameters', 'x=y'],
      ['--read-write'],
      ['--sessions', '3'],
      ['--queue', '5'],
      ['--wait-ms', '7'],
      ['--executor', 'inline'],
      ['--spare'],
      ['--call-ms', '11'],
      ['--open-ms', '13'],
      ['--close-ms', '17'],
      ['--no-coalesce'],
      ['--keep-alive-ms', '0'],
      ['--no-reinitialise'],
      ['--vendor', 'softhsm'],
      ['--retail-mac', 'thales-luna'],
      ['--probe', 'relation'],
      ['--composed-mac'],
      ['--translate-in-token'],
      ['--translation-keys-may-decipher'],
      ['--extract-shared-secret'],
      ['--derive-keys', 'inside'],
      ['--accept', 'modifiable', '--accept', 'public'],
      ['--locate', 'A=label', '--locate', 'B=pkcs11:id=%01'],
    ]
    const names = Object.keys(TOKEN_OPTIONS).map(name => `--${name}`)
    const others = ['--module', '--token', '--options', '--group', '--json', '--pin-env', '--pin-fd']
    expect(given.map(([name]) => name).sort()).toEqual(names.filter(name => !others.includes(name)).sort())
    const options = file({ module: '/lib/x.so', token: { label: 'fake' }, sessions: { max: 9, queue: 1 } })
    asked.length = 0
    await run(['token', '--options', options, '--pin-env', 'TP', ...given.flat()])
    const [opened] = asked
    expect(opened).toMatchObject({
      module: '/lib/x.so',
      token: { label: 'fake' },
      userType: 0x8000_0001,
      sessions: { max: 3, queue: 5, waitMs: 7, readWrite: true },
      timeouts: { callMs: 11, openMs: 13, closeMs: 17 },
      recovery: { reinitialise: false },
      coalesce: false,
      accept: ['modifiable', 'public'],
      keys: { A: { label: 'label' }, B: 'pkcs11:id=%01' },
    })
    const functions = ['ring', 'onEvent', 'onOperation']
    expect(PKCS11_OPTIONS.filter(name => opened?.[name] === undefined)).toEqual(
      PKCS11_OPTIONS.filter(name => functions.includes(name)),
    )
  })

  test('as a table that fits the terminal, and as JSON', async () => {
    const { code, out } = await run(['token', ...TOKEN, '--json'])
    expect([code, JSON.parse(out)]).toMatchObject([
      0,
      { capabilities: { backend: 'pkcs11' }, health: { ok: true } },
    ])
    expect((await run(['token', ...TOKEN])).out).toMatch(/^health +ok/m)
    expect((await run(['token', ...TOKEN.slice(0, 4), '--login', 'never'])).code).toBe(1)
  })

  test.each([
    [['--locate', 'x'], '--locate takes KID=LABEL'],
    [['--sessions', '1e3'], '--sessions must be a whole number'],
    [['--group', '/nowhere'], '--group and --module are two places'],
    [['--keys', '/nowhere'], "is not one of this command's"],
  ])('%j is a wrong call', async (args, message) => {
    const { code, err } = await run(['token', ...TOKEN, ...args])
    expect([code, err]).toEqual([2, expect.stringContaining(message)])
  })

  describe('a place of keys beside another one', () => {
    const dir = fresh()
    const onboard = ['onboard', '--dir', dir, '--issuer-id', 'is_tbank01', '--subject', 'O=B']
    const toD1 = [...onboard, '--endpoint', 'https://pin.example.com']
    const generate = ['key', 'generate', '--kid', 'K', '--usage', 'cmac', '--algorithm', 'aes-128']
    const partly: Readonly<Record<string, string>> = {
      group: 'in one token',
      options: 'cannot be read',
      locate: 'KID=LABEL',
    }
    /** What needs a value, with one that nothing is wrong with. */
    const given = (name: string): string[] =>
      TOKEN_OPTIONS[name]?.type === 'boolean' ? [`--${name}`] : [`--${name}`, '7']

    test.each([
      ...['module', 'token', 'options'].flatMap((name): [string[], string][] => [
        [['doctor', '--group', '/nowhere', ...given(name)], `--group and --${name} are two places`],
        [['token', '--group', '/nowhere', ...given(name)], `--group and --${name} are two places`],
        [[...toD1, '--group', '/nowhere', ...given(name)], `--group and --${name} are two places`],
      ]),
      ...OF_A_TOKEN.flatMap((name): [string[], string][] => [
        [
          ['key', 'check', '--kid', 'PEK', '--usage', 'pin-encryption', '--keys', keys, ...given(name)],
          `--${name} `,
        ],
        [[...toD1, '--keys', keys, ...given(name)], `--${name} `],
        [[...generate, '--out', dir, ...given(name)], `--${name} is for a key in a token`],
        // Said without its token: TEST keys that nobody asked for would be handed to Thales as the issuer's.
        [[...toD1, ...given(name)], partly[name] ?? 'is missing'],
      ]),
    ])('%j is a wrong call, and nothing is made', async (args, message) => {
      const { code, err } = await run(args)
      expect([code, err]).toEqual([2, expect.stringContaining(message)])
      expect(existsSync(dir)).toBe(false)
    })
  })

  test('what the file says of sessions stays where the command line says something else of them', async () => {
    const options = file({ sessions: { max: 9, queue: 1 }, timeouts: { callMs: 5000 } })
    asked.length = 0
    await run([
      'token',
      '--options',
      options,
      '--queue',
      '5',
      '--wait-ms',
      '7',
      '--open-ms',
      '6000',
      ...TOKEN,
    ])
    expect(asked).toMatchObject([
      { sessions: { max: 9, queue: 5, waitMs: 7 }, timeouts: { callMs: 5000, openMs: 6000 } },
    ])
  })

  describe('of several', () => {
    const tokens = [new FakeToken(), new FakeToken()]
    const call = (args: string[], more: object = {}) => run(args, more, tokens[0], tokens)
    const group = (more: object = {}) =>
      file({
        members: tokens.map(({ path }) => ({ module: path, token: 'fake', executor: 'inline', ...more })),
      })
    const on = (i: number) => ['--module', tokens[i]?.path ?? '', '--token', 'fake', '--pin-env', 'TP']
    const importTo = (i: number, kid: string, key: string) =>
      call([
        'key',
        'import',
        '--from',
        'clear',
        '--kid',
        kid,
        '--usage',
        'pin-encryption',
        '--algorithm',
        'tdea-2key',
        '--kcv',
        key === PEK ? '08D7B4' : '',
        '--key-env',
        'PEK',
        '--import-clear-keys',
        ...on(i),
      ])

    test('is one backend, with one PIN for all, or one each', async () => {
      for (const i of [0, 1]) expect((await importTo(i, 'ZPK', PEK)).code).toBe(0)
      const block = await call([
        'pin',
        'encipher',
        ...FROM,
        '--group',
        group(),
        '--pin-env',
        'TP',
        ...PAN_ENV,
        '--card-pin-env',
        'PIN',
      ])
      expect([block.code, block.err]).toEqual([0, ''])
      const own = await call(['token', '--group', group({ pinEnv: 'TP' })], { env: { TP: '1234' } })
      expect([own.code, own.err]).toEqual([
        2,
        'ERR_USAGE: pinEnv of member 2: there is no such variable in the environment',
      ])
      const named = {
        members: [0, 1].map(i => ({ modulePath: `/m${i}.so`, pinEnv: `TP${i}` })),
        probeMs: 1234,
      }
      const io = keptIo({ env: { TP0: '1111', TP1: '2222' } })
      const { members, probeMs } = await groupOptions({ group: file(named) }, io)
      expect(probeMs).toBe(1234)
      expect(members.map(({ pin }) => pin?.())).toEqual(['1111', '2222'])
      // Whoever has none of its own gets the one of the command line, and nobody another token's.
      const one = { modulePath: '/m.so' }
      const mixed = { members: [{ ...one, pinEnv: 'TP0' }, one, { ...one, login: 'never' }, one] }
      const mixedIo = keptIo({ env: { TP0: '1111', TP: '2222' } })
      const read = await groupOptions({ group: file(mixed), 'pin-env': 'TP' }, mixedIo)
      expect(read.members.map(({ pin }) => pin?.())).toEqual(['1111', '2222', undefined, '2222'])
      const typed = await call(['token', '--group', group(), '--json'], { secret: '1234' })
      expect([typed.code, JSON.parse(typed.out)]).toMatchObject([0, { health: { ok: true } }])
    })

    test('doctor tries each of them, and says where their keys differ', async () => {
      const report = fresh()
      const doctor = (...args: string[]) =>
        call(['doctor', '--group', group(), '--pin-env', 'TP', '--no-test-keys', ...args])
      const same = await doctor('--json')
      expect([same.code, JSON.parse(same.out)]).toMatchObject([0, { members: [{}, {}], differences: [] }])
      await call(['key', 'generate', '--kid', 'ONLY', '--usage', 'cmac', '--algorithm', 'aes-128', ...on(1)])
      const other = await doctor('--report', report)
      expect(other.code).toBe(1)
      expect(other.out).toMatch(/DIFFERENT key ONLY: fake: no key; fake: aes-128 [0-9A-F]+/)
      expect(readFileSync(report, 'utf8')).toContain('DIFFERENT key ONLY')
    })

    test.each([
      [{}, 'no list of members'],
      [{ members: [{ pin: 'PIN-90817263' }] }, 'has a pin'],
      [{ members: [] }, 'two tokens or more'],
    ])('%j is refused', async (content, message) => {
      const { code, err } = await call(['token', '--group', file(content), '--pin-env', 'TP'])
      expect([code > 0, err]).toEqual([true, expect.stringContaining(message)])
      expect(err).not.toContain('90817263')
    })

    test('has no place for new keys', async () => {
      const { code, err } = await call(['key', 'list', '--group', group(), '--pin-env', 'TP'])
      expect([code, err]).toEqual([2, expect.stringContaining('listed in one token')])
    })
  })
})
