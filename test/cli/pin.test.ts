/**
 * `pin` with PVV, offset, reference block and PRW, against published values; `inspect pin-block` with a PAN; and tokens opened with
 * every option there is, one or several.
 */
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PKCS11_OPTIONS } from '../../src/backend/pkcs11/session/options.js'
import { readArguments } from '../../src/cli/command.js'
import { groupOptions, OF_A_TOKEN, TOKEN_OPTIONS, tokenOptions } from '../../src/cli/open.js'
import type { Values } from '../../src/cli/verbs.js'
import type { Pkcs11Options } from '../../src/pkcs11.js'
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

  test('encipher and translate: to a key that enciphers alone', async () => {
    const key = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
    const both = file([
      { kid: 'ZPK', ...key, mode: 'E', material: ZPK },
      { kid: 'OLD', ...key, material: OTHER },
    ])
    const on = ['--keys', both, ...PAN_ENV]
    const more = { env: { ...common, PAN, PIN: '1234' } }
    const encipher = (kid: string) =>
      run(['pin', 'encipher', '--key', kid, '--format', '0', ...on, '--card-pin-env', 'PIN'], more)
    const [made, { out: stdin }] = [await encipher('ZPK'), await encipher('OLD')]
    const formats = ['--from-format', '0', '--to-format', '0', '--host-decipher']
    const moved = await run(['pin', 'translate', '--from', 'OLD', '--to', 'ZPK', ...formats, ...on], {
      ...more,
      stdin,
    })
    expect([made.err, moved.err, moved.out]).toEqual(['', '', made.out])
  })

  test('whatever deciphers takes a key that deciphers alone', async () => {
    const more = { env: { ...common, PAN, PIN: '1234' } }
    const pvks = [
      { usage: 'visa-pvv', material: '0123456789ABCDEFFEDCBA9876543210' },
      { usage: 'ibm-3624', material: '7CA110454A1A6E570131D9619DC1376E' },
    ].map(key => ({ ...key, kid: key.usage, algorithm: 'tdea-2key' }))
    const [whole, reading] = [
      pinKeys,
      pinKeys.map(key => ({ ...key, ...(key.kid === 'ZPK' && { mode: 'D' }) })),
    ].map(keys => ['--keys', file([...keys, ...pvks]), ...PAN_ENV])
    const made = await run(['pin', 'encipher', ...FROM, '--card-pin-env', 'PIN', ...(whole ?? [])], more)
    const block = file(made.out)
    const rule = file({ decimalisation: '0123456789012345', validation: { from: 0, length: 16, pad: 'F' } })
    const atRest = ['--key', 'STORE', '--format', '0', '--card-pin-env', 'PIN']
    const stored = file((await run(['pin', 'encipher', ...atRest, ...(whole ?? [])], more)).out)
    const reference = ['--reference', stored, '--reference-key', 'STORE', '--reference-format', '0']
    const moving = ['--from', 'ZPK', '--from-format', '0', '--to', 'STORE', '--to-format', '0']
    for (const verb of [
      ['pin', 'decipher', ...FROM, '--reveal'],
      ['pin', 'pvv', ...FROM, '--pvk', 'visa-pvv', '--pvki', '1'],
      ['pin', 'offset', ...FROM, '--pvk', 'ibm-3624', '--rule', rule],
      ['pin', 'verify', ...FROM, '--against', 'block', ...reference],
      ['pin', 'translate', ...moving, '--host-decipher'],
      ['inspect', 'pin-block', '--state', 'enciphered', ...FROM],
    ]) {
      const [both, alone] = [
        await run([...verb, ...(whole ?? []), block], more),
        await run([...verb, ...(reading ?? []), block], more),
      ]
      expect([verb[1], alone.code, alone.err, alone.out]).toEqual([verb[1], 0, '', both.out])
    }
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

  test('also of a PAN from a descriptor', async () => {
    const pan = openSync(file('5500000000000004'), 'r')
    const looks = ['inspect', 'pin-block', '--state', 'clear', '--pan-fd', String(pan)]
    try {
      expect(await run(looks, { stdin: CLEAR['0'] })).toMatchObject({ code: 1, err: '' })
    } finally {
      closeSync(pan)
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
  /** The options of `pkcs11Backend` that are plain data, by the names of the command line, and what each of them says. */
  const GIVEN: readonly (readonly [args: readonly string[], said: Partial<Pkcs11Options>])[] = [
    [['--binding', 'koffi'], { binding: 'koffi' }],
    [['--login', 'always'], { login: 'always' }],
    [['--user-type', '0x80000001'], { userType: 0x8000_0001 }],
    [['--allow-final-try'], { allowFinalTry: true }],
    [['--init-parameters', 'x=y'], { initParameters: 'x=y' }],
    [['--read-write'], { sessions: { readWrite: true } }],
    [['--sessions', '3'], { sessions: { max: 3 } }],
    [['--queue', '5'], { sessions: { queue: 5 } }],
    [['--wait-ms', '7'], { sessions: { waitMs: 7 } }],
    [['--executor', 'inline'], { executor: 'inline' }],
    [['--spare'], { spare: true }],
    [['--call-ms', '11'], { timeouts: { callMs: 11 } }],
    [['--open-ms', '13'], { timeouts: { openMs: 13 } }],
    [['--close-ms', '17'], { timeouts: { closeMs: 17 } }],
    [['--no-coalesce'], { coalesce: false }],
    [['--keep-alive-ms', '0'], { keepAliveMs: 0 }],
    [['--no-reinitialise'], { recovery: { reinitialise: false } }],
    [['--vendor', 'softhsm'], { vendor: 'softhsm' }],
    [['--retail-mac', 'luna'], { retailMac: 'luna' }],
    [['--probe', 'relation'], { probe: 'relation' }],
    [['--composed-mac'], { composedMac: true }],
    [['--translate-in-token'], { translateInToken: true }],
    [['--translation-keys-may-decipher'], { translationKeysMayDecipher: true }],
    [['--extract-shared-secret'], { extractSharedSecret: true }],
    [['--derive-keys', 'inside'], { deriveKeys: 'inside' }],
    [['--accept', 'modifiable', '--accept', 'public'], { accept: ['modifiable', 'public'] }],
    [
      ['--locate', 'A=a label=b', '--locate', 'B=pkcs11:id=%01'],
      { keys: { A: { label: 'a label=b' }, B: 'pkcs11:id=%01' } },
    ],
  ]
  const place = { module: '/lib/x.so', token: { label: 'fake' } }
  /** The options by which a command line opens a token, and its PIN. */
  const saidBy = async (args: readonly string[]) => {
    const { values } = readArguments(args, { options: TOKEN_OPTIONS, positionals: 0 })
    const { pin, ...options } = await tokenOptions(values as Values, keptIo({ env: { TP: '1234' } }))
    return { options, pin: pin?.() }
  }

  test('every option of pkcs11Backend that is plain data has a name, and reaches it', async () => {
    const given = GIVEN.map(([args]) => args)
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
      keys: { A: { label: 'a label=b' }, B: 'pkcs11:id=%01' },
    })
    const functions = ['ring', 'onEvent', 'onOperation']
    expect(PKCS11_OPTIONS.filter(name => opened?.[name] === undefined)).toEqual(
      PKCS11_OPTIONS.filter(name => functions.includes(name)),
    )
  })

  test.each(GIVEN)('%j says that alone, whatever the options file says of it', async (args, said) => {
    const where = ['--pin-env', 'TP', '--options', file(place)]
    expect(await saidBy([...where, ...args])).toEqual({ options: { ...place, ...said }, pin: '1234' })
    // The same in the file, and otherwise; what an object of the file says besides stays.
    const [[name = '', value] = []] = Object.entries(said)
    const isObject = typeof value === 'object' && !Array.isArray(value)
    const [inner = ''] = isObject ? Object.keys(Object(value)) : []
    const other = isObject ? { [inner]: 'another', besides: 'stays' } : 'another'
    const options = ['--pin-env', 'TP', '--options', file({ ...place, [name]: other })]
    expect((await saidBy(options)).options).toEqual({ ...place, [name]: other })
    const both = isObject ? { ...Object(value), besides: 'stays' } : value
    expect((await saidBy([...options, ...args])).options).toEqual({ ...place, [name]: both })
  })

  test('its library and its name are those of the command line, and else of the options file', async () => {
    const options = ['--pin-env', 'TP', '--options', file({ module: '/file.so', token: 'of the file' })]
    const both = ['--module', '/line.so', '--token', 'of the line']
    expect((await saidBy(options)).options).toEqual({ module: '/file.so', token: 'of the file' })
    expect((await saidBy([...options, ...both])).options).toEqual({
      module: '/line.so',
      token: 'of the line',
    })
    for (const [lack, args] of [
      ['module', ['--token', 'T']],
      ['token', ['--module', '/x.so']],
      ['token', ['--module', '/x.so', '--token', '']],
      ['token', ['--options', file({ module: '/x.so', token: '' })]],
      ['module', ['--options', file({ module: 7, token: 'T' })]],
    ] as const)
      await expect(saidBy(args)).rejects.toThrow(`--${lack} is missing`)
  })

  test.each([
    ['--user-type', 1, 0xffff_ffff],
    ['--sessions', 1, 4096],
    ['--queue', 0, 1_000_000],
    ...['--wait-ms', '--call-ms', '--open-ms', '--close-ms', '--keep-alive-ms'].map(
      name => [name, 0, 86_400_000] as const,
    ),
  ] as const)('%s is a whole number from %i to %i', async (name, min, max) => {
    const where = ['--pin-env', 'TP', '--options', file(place), name]
    for (const number of [min, max])
      expect(JSON.stringify(await saidBy([...where, `${number}`]))).toContain(`:${number}`)
    for (const number of [min - 1, max + 1])
      await expect(saidBy([...where.slice(0, -1), `${name}=${number}`])).rejects.toThrow(
        `${name} must be a whole number from ${min} to ${max}`,
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

    test('whose PINs are typed: each is asked for by the number of its token, and is nobody else’s', async () => {
      const one = { modulePath: '/m.so' }
      const members = [one, { ...one, pinEnv: 'TP' }, { ...one, login: 'never' }, one]
      const questions: string[] = []
      const io = keptIo({
        env: { TP: '2222' },
        secrets: ['1111', '4444'],
        onAsk: question => questions.push(question),
      })
      const read = await groupOptions({ group: file({ members }) }, io)
      expect(read.members.map(({ pin }) => pin?.())).toEqual(['1111', '2222', undefined, '4444'])
      expect(questions).toEqual(['PIN of token 1: ', 'PIN of token 4: '])
    })

    test('whose PIN comes from a descriptor, which gives it once: it is that of all who have none of their own', async () => {
      const one = { modulePath: '/m.so' }
      const descriptor = openSync(file('3333\n'), 'r')
      try {
        const values = {
          group: file({ members: [one, { ...one, pinEnv: 'TP' }, one] }),
          'pin-fd': `${descriptor}`,
        }
        const { members } = await groupOptions(values, keptIo({ env: { TP: '2222' } }))
        expect(members.map(({ pin }) => pin?.())).toEqual(['3333', '2222', '3333'])
      } finally {
        closeSync(descriptor)
      }
    })

    test.each(GIVEN)('%j is said of each', async (args, said) => {
      const members = [
        { module: '/1.so', token: 'A', sessions: { besides: 1 } },
        { module: '/2.so', token: 'B', pinEnv: 'TP' },
      ]
      const where = ['--group', file({ members }), '--pin-env', 'OTHER', ...args]
      const { values } = readArguments(where, { options: TOKEN_OPTIONS, positionals: 0 })
      const io = keptIo({ env: { TP: '1234', OTHER: '4321' } })
      const { members: opened } = await groupOptions(values as Values, io)
      expect(opened.map(({ pin, ...options }) => [pin?.(), options])).toEqual([
        ['4321', { module: '/1.so', token: 'A', ...said, sessions: { besides: 1, ...said.sessions } }],
        ['1234', { module: '/2.so', token: 'B', ...said }],
      ])
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
