import { readFileSync, statSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { COMMANDS, main } from '../../src/cli/main.js'
import { fitted, tableOf } from '../../src/cli/shown.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { keptIo } from './support/io.js'
import {
  env,
  file,
  fresh,
  JWE,
  KBPK,
  keys,
  PAN,
  PEK,
  PIN,
  run,
  SECRETS,
  TOKEN,
  withSecrets,
} from './support/program.js'

describe('computes', () => {
  test('a PIN block, what is in it, and the next one', async () => {
    const base = ['--keys', keys, ...withSecrets]
    const reading = ['--keys', keys, '--pan-env', 'PAN']
    const enciphered = await run(['pin', 'encipher', '--key', 'PEK', '--format', '0', ...base])
    expect(enciphered).toMatchObject({ code: 0, err: '' })
    expect(enciphered.out).toMatch(/^[0-9A-F]{16}$/)
    const block = file(enciphered.out)
    const masked = await run(['pin', 'decipher', '--key', 'PEK', '--format', '0', ...reading, block])
    expect(masked.out).toBe('a PIN of 6 digits (--reveal shows it)')
    expect(
      (await run(['pin', 'decipher', '--key', 'PEK', '--format', '0', '--reveal', ...reading, block])).out,
    ).toBe(PIN)
    expect((await run(['pin', 'verify', '--key', 'PEK', '--format', '0', ...base, block])).code).toBe(0)
    const wrong = await run(['pin', 'verify', '--key', 'PEK', '--format', '0', '--json', ...base, block], {
      env: { ...env, PIN: '471194' },
    })
    expect([wrong.code, JSON.parse(wrong.out)]).toEqual([1, { verified: false }])
    const translate = [
      'pin',
      'translate',
      '--from',
      'PEK',
      '--to',
      'PEK2',
      '--from-format',
      '0',
      '--to-format',
      '3',
      '--host-decipher',
    ]
    const moved = await run([...translate, ...reading, block])
    expect(moved.code).toBe(0)
    expect(
      (await run(['pin', 'verify', '--key', 'PEK2', '--format', '3', ...base, file(moved.out)])).code,
    ).toBe(0)
  })

  test('the published retail MAC', async () => {
    const base = [
      '--keys',
      keys,
      '--key',
      'MAC',
      '--algorithm',
      'iso9797-1-alg3',
      '--padding',
      '1',
      '--length',
      '8',
    ]
    expect(await run(['mac', 'compute', ...base], { stdin: 'Hello World !!!!' })).toEqual({
      code: 0,
      out: 'F09B856213BAB83B',
      err: '',
    })
    const hex = Buffer.from('Hello World !!!!').toString('hex')
    expect((await run(['mac', 'compute', '--hex', ...base], { stdin: hex })).out).toBe('F09B856213BAB83B')
    const verify = (mac: string) =>
      run(['mac', 'verify', '--mac', mac, ...base], { stdin: 'Hello World !!!!' })
    expect([(await verify('F09B856213BAB83B')).code, (await verify('F09B856213BAB83C')).code]).toEqual([0, 1])
    const inHex = ['mac', 'verify', '--hex', '--mac', 'F09B856213BAB83B', ...base]
    expect(await run(inHex, { stdin: hex })).toMatchObject({ code: 0, err: '' })
  })

  test('a JWE, opened again with its secrets masked', async () => {
    const { d: _, ...recipient } = JWE
    const content = JSON.stringify({ pinValue: '0123456789ABCDEF', kid: 'ZPK' })
    const sealed = await run(['jwe', 'seal', '--recipient', file({ ...recipient, kid: 'JWE' })], {
      stdin: content,
    })
    expect(sealed.code).toBe(0)
    const opened = await run(['jwe', 'open', '--keys', keys, '--key', 'JWE'], {
      stdin: JSON.stringify({ type: 'ISO0', encryptedPinBlock: sealed.out }),
    })
    expect(JSON.parse(opened.out)).toEqual({ pinValue: '•• 16 characters', kid: 'ZPK' })
    expect(
      (await run(['jwe', 'open', '--keys', keys, '--key', 'JWE', '--reveal'], { stdin: sealed.out })).out,
    ).toBe(content)
    const bytes = await run(['jwe', 'seal', '--recipient', file({ ...recipient, kid: 'JWE' })], {
      stdin: 'no JSON',
    })
    expect(
      (await run(['jwe', 'open', '--keys', keys, '--key', 'JWE', '--json'], { stdin: bytes.out })).out,
    ).toContain('7 bytes')
  })

  test('a JWE by the name that the command line gives its key, and else by the key’s own; what it was made of is wiped', async () => {
    const { d: _, ...half } = JWE
    const recipient = file({ ...half, kid: 'THEIRS' })
    for (const [more, kid] of [
      [[], 'THEIRS'],
      [['--kid', 'OURS'], 'OURS'],
    ] as const) {
      const plaintext = Buffer.from('{"pinValue":"0123456789ABCDEF"}')
      const io = { ...keptIo(), readStdin: async () => plaintext }
      expect(await main(['jwe', 'seal', '--recipient', recipient, ...more], io)).toBe(0)
      const [header = ''] = io.output.join().split('.')
      expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({ kid })
      expect(plaintext.every(byte => byte === 0)).toBe(true)
    }
  })

  test('a PRW, and whether it is right', async () => {
    const values = {
      pan: PAN,
      pin: PIN,
      pcc: '0001',
      intdatag: 'TAG-0123456789-ABCDE',
      fields: { psn: '01', expiry: '2912', issuer: 'is_tbank01' },
    }
    const prw = (usage: string) => file([{ kid: 'PRW', usage, algorithm: 'tdea-2key', material: PEK }])
    const base = ['--key', 'PRW', '--profile', 'illustrative-tdea']
    const made = await run(['prw', 'compute', ...base, '--keys', prw('prw-generate'), '--json', file(values)])
    expect([made.code, made.err]).toEqual([0, ''])
    const { prwValue, prwDataSet } = JSON.parse(made.out) as { prwValue: string; prwDataSet: string }
    const verify = (change: object) =>
      run([
        'prw',
        'verify',
        ...base,
        '--keys',
        prw('prw-verify'),
        file({ ...values, prwValue, prwDataSet, ...change }),
      ])
    expect([(await verify({})).code, (await verify({ pin: '999999' })).code]).toEqual([0, 1])
  })
})

describe('key', () => {
  test('kcv, generate into a file, split and combine', async () => {
    const kcv = await run(['key', 'kcv', '--algorithm', 'tdea-2key', '--key-env', 'PEK'])
    expect(kcv).toEqual({ code: 0, out: 'KCV 08D7B4 (encrypt-zero), parity odd', err: '' })
    expect(
      (await run(['key', 'kcv', '--algorithm', 'aes-128', '--method', 'cmac', '--key-env', 'AES'])).out,
    ).toContain('42246F')
    const out = fresh()
    expect(
      (
        await run([
          'key',
          'generate',
          '--kid',
          'T',
          '--usage',
          'cmac',
          '--algorithm',
          'aes-128',
          '--out',
          out,
        ])
      ).code,
    ).toBe(0)
    expect(statSync(out).mode & 0o777).toBe(0o600)
    expect((await run(['key', 'check', '--keys', out, '--kid', 'T', '--usage', 'cmac'])).code).toBe(0)
    const prefix = fresh()
    const split = await run([
      'key',
      'components',
      'split',
      '--algorithm',
      'tdea-2key',
      '--parts',
      '2',
      '--out',
      prefix,
      '--key-env',
      'PEK',
      '--json',
    ])
    const { components } = JSON.parse(split.out) as { components: { file: string; kcv: string }[] }
    const parts = components.map(one => readFileSync(one.file, 'utf8').trim())
    const given: Record<string, string> = {}
    const options = components.flatMap(({ kcv }, i) => {
      Object.assign(given, { [`C${i}`]: parts[i], [`K${i}`]: kcv, [`O${i}`]: `officer ${i}` })
      const name = `--component-${i + 1}`
      return [`${name}-component-env`, `C${i}`, `${name}-kcv-env`, `K${i}`, `${name}-name-env`, `O${i}`]
    })
    const combine = (kcv: string, path: string) =>
      run(
        [
          'key',
          'components',
          'combine',
          '--kid',
          'K',
          '--usage',
          'pin-encryption',
          '--algorithm',
          'tdea-2key',
          '--parts',
          '2',
          '--kcv',
          kcv,
          '--out',
          path,
          ...options,
        ],
        { env: given },
      )
    const combined = fresh()
    expect(await combine('08D7B4', combined)).toMatchObject({ code: 0, err: '' })
    expect(JSON.parse(readFileSync(combined, 'utf8'))).toMatchObject([{ material: PEK }])
    const wrong = await combine('08D7B5', fresh())
    expect(wrong).toEqual({
      code: 1,
      out: '',
      err: 'ERR_KEY_CHECK_VALUE: key K: the check value does not match',
    })
    // In a token: entered by officers, with a signed record.
    const fake = new FakeToken()
    await run(
      ['key', 'generate', '--kid', 'SIGN', '--usage', 'jwt-signing', '--algorithm', 'ec-p256', ...TOKEN],
      {},
      fake,
    )
    const record = fresh()
    const bring = [
      'key',
      'import',
      '--from',
      'components',
      '--kid',
      'K',
      '--usage',
      'pin-encryption',
      '--algorithm',
      'tdea-2key',
      '--parts',
      '2',
    ]
    const brought = await run(
      [...bring, '--kcv', '08D7B4', '--record', record, '--record-key', 'SIGN', ...options, ...TOKEN],
      { env: { ...env, ...given } },
      fake,
    )
    expect(brought).toMatchObject({ code: 0, err: '' })
    expect(brought.out).toContain('combined inside the token')
    expect(readFileSync(record, 'utf8')).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/)
    expect([brought.out, readFileSync(record, 'utf8')].join()).not.toContain(parts[0])
    const listed = await run(['key', 'list', ...TOKEN], {}, fake)
    expect(listed.out).toContain('08D7B4')
    const rotated = await run(['key', 'rotate', '--kid', 'K', '--new-kid', 'K2', ...TOKEN], {}, fake)
    expect(rotated).toMatchObject({ code: 0 })
    expect((await run(['key', 'delete', '--kid', 'K', '--yes', ...TOKEN], {}, fake)).out).toBe('K is deleted')
    expect((await run(['key', 'list', ...TOKEN, '--json'], {}, fake)).out).not.toContain('"K"')
  })

  test('block: sealed, read, opened, translated, imported', async () => {
    const base = ['--keys', keys, '--usage', 'pin-encryption']
    const seal = [
      'key',
      'block',
      'seal',
      '--kbpk',
      'KBPK',
      '--version',
      'D',
      '--algorithm',
      'tdea-2key',
      '--mode',
      'E',
      '--exportability',
      'E',
    ]
    const sealed = await run([
      ...seal,
      '--key-env',
      'PEK',
      '--valid-from',
      '2020-01-01',
      '--valid-to',
      '2030-01-01',
      '--key-version',
      '01',
      ...base,
    ])
    expect(sealed).toMatchObject({ code: 0, err: '' })
    const block = file(`${sealed.out.split('\n')[0]}\n`)
    const read = await run(['key', 'block', 'read', block])
    expect(read.out).toContain('not authenticated')
    expect(read.out).toMatch(/\nvalid from +2020-01-01T00:00:00.000Z\nvalid to +2030-01-01T/)
    const opened = await run(['key', 'block', 'open', '--kbpk', 'KBPK', ...base, block])
    expect(opened.out).toContain('KCV 08D7B4')
    const moved = await run([
      'key',
      'block',
      'translate',
      '--from',
      'KBPK',
      '--to',
      'KBPK2',
      '--version',
      'D',
      ...base,
      block,
    ])
    expect((await run(['key', 'block', 'open', '--kbpk', 'KBPK2', ...base], { stdin: moved.out })).code).toBe(
      0,
    )
    const forbidden = await run([
      'key',
      'block',
      'open',
      '--kbpk',
      'KBPK',
      '--keys',
      keys,
      '--usage',
      'retail-mac',
      block,
    ])
    expect(forbidden).toEqual({
      code: 1,
      out: '',
      err: 'ERR_KEY_BLOCK: key block: usage is P0, and a retail-mac key is M3',
    })
    const fake = new FakeToken()
    const clear = [
      'key',
      'import',
      '--from',
      'clear',
      '--kid',
      'KBPK',
      '--usage',
      'key-block-protection',
      '--algorithm',
      'aes-256',
      '--kcv',
    ]
    const { out } = await run(['key', 'kcv', '--algorithm', 'aes-256', '--key-env', 'KB'], {
      env: { KB: KBPK },
    })
    const kcv = /KCV (\w+)/.exec(out)?.[1] ?? ''
    const imported = await run(
      [...clear, kcv, '--key-env', 'KB', '--import-clear-keys', ...TOKEN],
      { env: { ...env, KB: KBPK } },
      fake,
    )
    expect(imported).toMatchObject({ code: 0, err: '' })
    const bring = [
      'key',
      'import',
      '--from',
      'block',
      '--kbpk',
      'KBPK',
      '--kid',
      'IN',
      '--usage',
      'pin-encryption',
      ...TOKEN,
    ]
    expect((await run([...bring, block], {}, fake)).err).toContain('--import-clear-keys')
    expect(await run([...bring, '--import-clear-keys', block], {}, fake)).toMatchObject({ code: 0, err: '' })
  })
})

test('doctor tries a token, and deletes what it put there', async () => {
  const fake = new FakeToken()
  await run(
    ['key', 'generate', '--kid', 'OWN', '--usage', 'cmac', '--algorithm', 'aes-128', ...TOKEN],
    {},
    fake,
  )
  const [report, json] = [fresh(), fresh()]
  const { code, out } = await run(
    ['doctor', ...TOKEN, '--composed-mac', '--report', report, '--report-json', json],
    { terminal: true },
    fake,
  )
  expect(out).toMatch(/contract cases hold, 0 do not/)
  expect(code).toBe(0)
  expect(readFileSync(report, 'utf8')).toContain('| TDEA PIN block | native |')
  const { contract, keys: judged } = JSON.parse(readFileSync(json, 'utf8')) as {
    contract: { passed: number }
    keys: { kid: string }[]
  }
  expect(contract.passed).toBeGreaterThan(100)
  expect(judged.map(({ kid }) => kid)).toEqual(['OWN'])
  expect((await run(['key', 'list', ...TOKEN], {}, fake)).out).not.toContain('doctor')
  const gentle = await run(['doctor', ...TOKEN, '--no-test-keys'], {}, fake)
  expect(gentle.out).toContain('--no-test-keys')
  const refusing = new FakeToken({ noImport: true })
  expect(
    (await run(['doctor', ...TOKEN], {}, refusing)).err + (await run(['doctor', ...TOKEN], {}, refusing)).out,
  ).not.toBe('')
})

test.each(['--version', '-V'])('%s', async version => {
  expect((await run([version])).out).toBe(
    JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version,
  )
})

describe('every command says what it is for, in 80 columns', () => {
  test.each(COMMANDS.map(({ name }) => name))('%s', async name => {
    const io = { ...keptIo(), columns: 80 }
    expect(await main([name, '--help'], io)).toBe(0)
    const out = io.output.join('\n')
    expect(out).toMatch(/^usage: issuer-pin-crypto/)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  })
})

describe('wrong, missing, cut off, hostile: one line, the right exit code, no secret', () => {
  const CLI = ['key', 'pin', 'mac', 'prw', 'jwe', 'doctor'] as const
  const cases: [readonly string[], 1 | 2, Parameters<typeof keptIo>[0]?][] = [
    ...CLI.map((name): [string[], 2] => [[name], 2]),
    ...CLI.map((name): [string[], 2] => [[name, PAN], 2]),
    ...CLI.map((name): [string[], 2] => [[name, '__proto__', PEK], 2]),
    [['key', 'list'], 2],
    [['key', 'list', '--module', 'x'], 2],
    [['key', 'list', ...TOKEN.slice(0, 4), '--pin-env', 'NONE'], 2],
    [['key', 'list', ...TOKEN.slice(0, 4), '--pin-env', '__proto__'], 2],
    [['key', 'list', ...TOKEN.slice(0, 4), '--pin-fd', '999'], 2],
    [['key', 'list', ...TOKEN.slice(0, 4), '--pin-fd', 'x'], 2],
    [['key', 'list', ...TOKEN.slice(0, 4)], 2],
    [['key', 'list', ...TOKEN, '--user-type', 'x'], 2],
    [['key', 'list', ...TOKEN, '--vendor', 'x'], 2],
    [['key', 'list', ...TOKEN, '--options', '/nowhere'], 2],
    [['key', 'list', ...TOKEN, '--key', PEK], 2],
    [['key', 'kcv'], 2],
    [['key', 'kcv', '--algorithm', 'des', '--key-env', 'PEK'], 2],
    [['key', 'kcv', '--algorithm', 'aes-256', '--key-env', 'PEK'], 1],
    [['key', 'kcv', '--algorithm', 'aes-128', '--key-env', 'EMPTY'], 2],
    [['key', 'kcv', '--algorithm', 'aes-128', '--method', 'x', '--key-env', 'AES'], 2],
    [['key', 'kcv', '--algorithm', 'aes-128'], 1, { secret: 'not hex' }],
    [['key', 'kcv', '--algorithm', 'aes-128', '--key-env', 'PAN'], 1],
    [['key', 'generate', '--kid', 'K'], 2],
    [['key', 'generate', '--kid', 'K', '--usage', 'nonsense', '--algorithm', 'aes-128', ...TOKEN], 2],
    [
      ['key', 'generate', '--kid', 'K', '--usage', 'cmac', '--algorithm', 'aes-128', '--out', '/nowhere/x'],
      2,
    ],
    [
      [
        'key',
        'generate',
        '--kid',
        'K',
        '--usage',
        'cmac',
        '--algorithm',
        'aes-128',
        '--valid-to',
        'soon',
        ...TOKEN,
      ],
      2,
    ],
    [['key', 'components', 'x', '--algorithm', 'aes-128', '--parts', '2', '--out', 'x'], 2],
    [['key', 'components', 'split', '--algorithm', 'aes-128', '--parts', '1', '--out', 'x'], 2],
    [
      [
        'key',
        'components',
        'split',
        '--algorithm',
        'aes-128',
        '--parts',
        '2',
        '--out',
        '/nowhere/x',
        '--key-env',
        'AES',
      ],
      2,
    ],
    [['key', 'import', '--from', 'nowhere', ...TOKEN], 2],
    [
      [
        'key',
        'import',
        '--from',
        'wrapped',
        '--kid',
        'K',
        '--usage',
        'cmac',
        '--algorithm',
        'aes-128',
        '--kcv',
        '00',
        ...TOKEN,
      ],
      2,
    ],
    [
      [
        'key',
        'import',
        '--from',
        'clear',
        '--kid',
        'K',
        '--usage',
        'cmac',
        '--algorithm',
        'aes-128',
        '--kcv',
        '0000000000',
        '--key-env',
        'AES',
        ...TOKEN,
      ],
      2,
    ],
    [
      [
        'key',
        'import',
        '--from',
        'components',
        '--kid',
        'K',
        '--usage',
        'cmac',
        '--algorithm',
        'aes-128',
        '--kcv',
        '0000000000',
        '--parts',
        '2',
        ...TOKEN,
      ],
      2,
    ],
    [['key', 'block', 'x', ...TOKEN], 2],
    [['key', 'block', 'read'], 1, { stdin: PAN }],
    [['key', 'block', 'read'], 1, { stdin: `D0112P0AE00E0000${PEK}` }],
    [['key', 'block', 'read', '/nowhere'], 2],
    [['key', 'rotate', '--kid', 'NONE', '--new-kid', 'X', ...TOKEN], 2],
    [['key', 'delete', '--kid', 'NONE', ...TOKEN], 2],
    [['key', 'delete', '--kid', 'NONE', '--yes', ...TOKEN], 1],
    [['pin', 'encipher', '--key', 'PEK', '--keys', '/nowhere'], 2],
    [['doctor', ...TOKEN, '--report', '/nowhere/x', '--no-test-keys'], 2],
    [['doctor', ...TOKEN, PAN], 2],
    [['jwe', 'seal'], 2],
    [['jwe', 'seal', '--recipient', '-'], 2, { stdin: JSON.stringify(JWE) }],
    [['jwe', 'seal', '--recipient', '-'], 2, { stdin: PAN }],
  ]
  const onKeys: [readonly string[], 1 | 2, Parameters<typeof keptIo>[0]?][] = [
    [['key', 'check', '--kid', 'PEK', '--usage', 'retail-mac'], 1],
    [['key', 'check', '--kid', 'NONE', '--usage', 'cmac'], 1],
    [['key', 'check', '--kid', 'PEK', '--usage', 'pin-encryption', '--kcv', '000000'], 1],
    [['key', 'check', '--module', 'x', '--kid', 'PEK', '--usage', 'pin-encryption'], 2],
    [['key', 'block', 'seal', '--kbpk', 'PEK', '--usage', 'cmac'], 1],
    [['key', 'block', 'seal', '--kbpk', 'KBPK', '--usage', 'cmac'], 2],
    [['key', 'block', 'open', '--kbpk', 'KBPK', '--usage', 'cmac'], 1, { stdin: 'D' }],
    [['pin', 'encipher', '--key', 'PEK'], 2],
    [['pin', 'encipher', '--key', 'PEK', '--format', '9'], 2],
    [['pin', 'encipher', '--key', 'MAC', '--format', '0'], 1],
    [['pin', 'encipher', '--key', 'PEK', '--format', '0', '--pan-env', 'PIN', '--card-pin-env', 'PIN'], 1],
    [['pin', 'encipher', '--key', 'PEK', '--format', '0', '--pan-env', 'PAN', '--card-pin-env', 'PAN2'], 1],
    [['pin', 'encipher', '--key', 'PEK', '--format', '0'], 2],
    [['pin', 'decipher', '--key', 'PEK', '--format', '0', '--pan-env', 'PAN'], 2, { stdin: 'zz' }],
    [
      ['pin', 'decipher', '--key', 'PEK', '--format', '0', '--pan-env', 'PAN'],
      1,
      { stdin: '0000000000000000' },
    ],
    [['pin', 'decipher', '--key', 'PEK', '--format', '0', '--pan-env', 'PAN'], 1, { stdin: '00' }],
    [
      [
        'pin',
        'translate',
        '--from',
        'PEK',
        '--to',
        'PEK2',
        '--from-format',
        '0',
        '--to-format',
        '0',
        '--pan-env',
        'PAN',
      ],
      1,
      { stdin: '0000000000000000' },
    ],
    [['mac', 'compute', '--key', 'MAC', '--algorithm', 'x'], 2],
    [['mac', 'compute', '--key', 'MAC', '--algorithm', 'cmac', '--length', '8'], 1],
    [['mac', 'compute', '--key', 'MAC', '--algorithm', 'iso9797-1-alg3', '--length', '8'], 2],
    [
      [
        'mac',
        'compute',
        '--hex',
        '--key',
        'MAC',
        '--algorithm',
        'iso9797-1-alg3',
        '--padding',
        '1',
        '--length',
        '8',
      ],
      2,
      { stdin: 'zz' },
    ],
    [
      ['mac', 'verify', '--key', 'MAC', '--algorithm', 'iso9797-1-alg3', '--padding', '1', '--length', '8'],
      2,
    ],
    [['prw', 'compute', '--key', 'PEK'], 2],
    [['prw', 'compute', '--key', 'PEK', '--profile', 'illustrative-tdea'], 1],
    [['jwe', 'open', '--key', 'JWE'], 1, { stdin: PAN }],
    [['jwe', 'open', '--key', 'JWE'], 2, { stdin: '{}' }],
    [['jwe', 'open', '--key', 'PEK'], 1, { stdin: 'a.b.c.d.e' }],
  ]
  test.each(cases)('%j: exit code %i', (args, code, more) => oneLine(args, code, more))
  test.each(onKeys)('on test keys, %j: exit code %i', (args, code, more) =>
    oneLine([...args, '--keys', keys], code, more),
  )

  async function oneLine(args: readonly string[], code: number, more: Parameters<typeof keptIo>[0] = {}) {
    const found = await run(args, more)
    expect([found.code, found.out]).toEqual([code, ''])
    expect(found.err).toMatch(/^ERR_\w+: [^\n]+$/)
    expect(found.err).not.toMatch(/UNEXPECTED/)
    for (const secret of SECRETS) expect(found.err).not.toContain(secret)
  }

  test.each([
    'not JSON',
    '{}',
    '[7]',
    '[{"kid":"K"}]',
    `[{"kid":"K","usage":"cmac","algorithm":"aes-128","material":"${PAN}"}]`,
  ])('a file of keys that is %s', async content => {
    const { code, out, err } = await run([
      'key',
      'check',
      '--keys',
      file(content),
      '--kid',
      'K',
      '--usage',
      'cmac',
    ])
    expect([code > 0, out]).toEqual([true, ''])
    expect(err).toMatch(/^ERR_\w+: [^\n]+$/)
    expect(err).not.toContain(PAN)
  })

  test('an options file with a PIN in it', async () => {
    const options = file({ module: '/lib/x.so', token: 'fake', pin: 'token-pin-1' })
    const { code, err } = await run(['key', 'list', '--options', options])
    expect([code, err]).toEqual([
      2,
      'ERR_USAGE: the options file has a pin: it belongs to --pin-env, --pin-fd or the prompt',
    ])
    const good = file({ module: '/lib/x.so', token: 'fake', sessions: { max: 2 } })
    expect(await run(['key', 'list', '--options', good, '--read-write', '--pin-env', 'TP'])).toMatchObject({
      code: 0,
      err: '',
    })
  })
})

describe('a narrow terminal', () => {
  test.each(COMMANDS.map(({ help }) => help))('is told every word', help => {
    const lines = fitted(help, { columns: 60 }).split('\n')
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(60)
    expect(lines.join(' ').split(/\s+/)).toEqual(help.split(/\s+/))
  })

  test('goes on as far in as the line began', () => {
    expect(fitted('  one two three four five six seven\nx', { columns: 24 }).split('\n')).toEqual([
      '  one two three four',
      '  five six seven',
      'x',
    ])
  })

  test.each<string[]>([['--help'], []])('is told of all commands: %s', async (...args) => {
    const { out, err } = await run(args, { columns: 40 })
    for (const line of `${out}${err}`.split('\n')) expect(line.length).toBeLessThanOrEqual(40)
  })
})

describe('tables', () => {
  test('fit the terminal, keep letters, and let nothing play tricks', () => {
    const rows = [
      ['Schlüssel Ж', 'a long text of many words that goes on and on and on'],
      ['x\u001b[2J', 'y\u202e'],
    ]
    const narrow = tableOf(['kid', 'what'], rows, { columns: 40 })
    for (const line of narrow.split('\n')) expect([...line].length).toBeLessThanOrEqual(40)
    expect(narrow).toContain('Schlüssel Ж')
    expect(narrow).not.toContain('\u001b')
    expect(tableOf(['kid', 'what'], rows, {}).split('\n')).toHaveLength(4)
    for (const line of tableOf(['kid', 'what'], rows, { columns: 22 }).split('\n'))
      expect([...line].length).toBeLessThanOrEqual(22)
  })
})
