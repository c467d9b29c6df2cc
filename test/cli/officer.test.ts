/**
 * What an officer and an engineer come across in a day: keys written in groups, messages that are no text, records of ceremonies, test
 * keys with a period, options that do not go together; each as it is meant, or refused by its name.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { tableOf } from '../../src/cli/shown.js'
import { parityOf } from '../../src/primitives/tdea.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { AES, env, file, fresh, JWE, keys, PAN, PEK, run, TOKEN } from './support/program.js'

const ON_KEYS = ['--keys']
const grouped = (hex: string): string => ` ${hex.replaceAll(/.{4}/g, '$& ')}\r\n`
const GENERATE = ['key', 'generate', '--usage', 'pin-encryption', '--algorithm', 'tdea-2key']

describe('what is written in groups, in lines, or as no text at all', () => {
  test('a key and a check value in groups of four', async () => {
    const kcv = await run(['key', 'kcv', '--algorithm', 'aes-128', '--key-env', 'K'], {
      env: { K: grouped(AES) },
    })
    expect(kcv).toMatchObject({ code: 0, err: '' })
    const check = ['key', 'check', '--kid', 'PEK', '--usage', 'pin-encryption', '--keys', keys, '--kcv']
    expect(await run([...check, '08D7 B4'])).toMatchObject({ code: 0 })
    expect(await run([...check, '08D7B5'])).toMatchObject({ code: 1, out: '' })
  })

  test('a key block whose lines a mail program has broken', async () => {
    const seal = ['key', 'block', 'seal', '--kbpk', 'KBPK', '--version', 'D', '--algorithm', 'tdea-2key']
    const use = ['--usage', 'pin-encryption', '--mode', 'E', '--exportability', 'E', '--keys', keys]
    const from = ['--valid-from', '2026-01-01T05:00Z']
    const { out } = await run([...seal, ...use, ...from, '--key-env', 'PEK'])
    const broken = (out.split('\n')[0] ?? '').replaceAll(/.{64}/g, '$&\r\n')
    const opened = await run(
      ['key', 'block', 'open', '--kbpk', 'KBPK', '--usage', 'pin-encryption', '--keys', keys],
      {
        stdin: broken,
      },
    )
    expect(opened.out).toContain('KCV 08D7B4')
    expect(opened.out).toMatch(/valid from +2026-01-01T05:00:00.000Z/)
    expect(await run(['key', 'block', 'read'], { stdin: broken.slice(0, 70) })).toMatchObject({
      code: 1,
      err: expect.stringContaining('it was cut off'),
    })
  })

  test('a MAC is over the bytes that are there, text or not', async () => {
    const mac = [
      'mac',
      'compute',
      '--key',
      'MAC',
      '--algorithm',
      'iso9797-1-alg3',
      '--padding',
      '2',
      '--length',
      '8',
    ]
    const bytes = Buffer.from('ff00fe80c3', 'hex')
    const asBytes = await run([...mac, '--keys', keys], { stdin: bytes })
    const asHex = await run([...mac, '--hex', '--keys', keys], { stdin: 'FF00 FE80\nC3' })
    expect([asBytes.code, asBytes.out]).toEqual([0, asHex.out])
    const path = file('')
    writeFileSync(path, bytes)
    expect((await run([...mac, '--keys', keys, path])).out).toBe(asBytes.out)
  })

  test('a JWE holds the bytes that are there', async () => {
    const bytes = Buffer.from('fffe00', 'hex')
    const recipient = file({ ...JWE, d: undefined })
    const { out } = await run(['jwe', 'seal', '--recipient', recipient, '--kid', 'JWE'], { stdin: bytes })
    const opened = await run(['jwe', 'open', '--key', 'JWE', '--keys', keys], { stdin: out })
    expect(opened).toMatchObject({ code: 0, out: '3 bytes' })
  })

  test('HMAC: the first case of RFC 4231 with a key of 32 bytes', async () => {
    // The key of case 1, with the zero bytes behind it that HMAC itself puts there.
    const key = `${'0b'.repeat(20)}${'00'.repeat(12)}`
    const mine = file([{ kid: 'H', usage: 'hmac', algorithm: 'hmac-sha256', material: key }])
    const mac = [
      'mac',
      'compute',
      '--key',
      'H',
      '--algorithm',
      'hmac-sha256',
      '--keys',
      mine,
      '--length',
      '32',
    ]
    expect(await run(mac, { stdin: 'Hi There' })).toEqual({
      code: 0,
      err: '',
      out: 'B0344C61D8DB38535CA8AFCEAF0BF12B881DC200C9833DA726E9376C2E32CFF7',
    })
  })

  test('standard input is there once', async () => {
    const twice = ['prw', 'compute', '--key', 'PEK', '--profile', '-', '--keys', keys]
    const own = file([{ kid: 'PEK', usage: 'prw-generate', algorithm: 'aes-128', material: AES }])
    const { code, err } = await run(twice.with(-1, own), { stdin: '{}' })
    expect([code, err]).toEqual([1, expect.stringMatching(/^ERR_PROFILE/)])
    const verify = ['pin', 'verify', '--key', 'PEK', '--format', '0', '--pan-env', 'PAN', '--keys', keys]
    const block = [
      '--against',
      'block',
      '--reference',
      '-',
      '--reference-key',
      'PEK',
      '--reference-format',
      '0',
    ]
    expect(await run([...verify, ...block], { stdin: '0123456789ABCDEF' })).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: standard input is there once, and two things are to come from it',
    })
  })
})

describe('test keys in files', () => {
  test('of every kind, with a period; several files are one set of keys', async () => {
    const [pek, jwe] = [fresh(), fresh()]
    const made = await run([
      ...GENERATE,
      '--kid',
      'P',
      '--mode',
      'E',
      '--valid-from',
      '2026-01-01',
      '--valid-to',
      '2031-01-31',
      '--out',
      pek,
      '--json',
    ])
    expect(JSON.parse(made.out)).toMatchObject({ kid: 'P', mode: 'E', validTo: '2031-01-31T00:00:00.000Z' })
    const [{ material }] = JSON.parse(readFileSync(pek, 'utf8')) as [{ material: string }]
    expect(parityOf(Buffer.from(material, 'hex'))).toBe('odd')
    expect(made.out).not.toContain(material)
    const pair = ['--kid', 'J', '--usage', 'jwe-key-agreement', '--algorithm', 'ec-p256', '--out', jwe]
    const { publicJwk } = JSON.parse((await run(['key', 'generate', ...pair, '--json'])).out) as {
      publicJwk: object
    }
    expect(Object.keys(publicJwk)).not.toContain('d')
    const sealed = await run(['jwe', 'seal', '--recipient', file(publicJwk), '--kid', 'J'], {
      stdin: 'hello',
    })
    const opened = await run(['jwe', 'open', '--reveal', '--key', 'J', '--keys', pek, '--keys', jwe], {
      stdin: sealed.out,
    })
    expect(opened).toEqual({ code: 0, out: 'hello', err: '' })
    const check = await run([
      'key',
      'check',
      '--kid',
      'P',
      '--usage',
      'pin-encryption',
      '--mode',
      'E',
      '--json',
      '--keys',
      pek,
    ])
    expect(JSON.parse(check.out)).toMatchObject({ validTo: '2031-01-31T00:00:00.000Z' })
  })

  test('past its end a test key enciphers nothing, and deciphers what is old', async () => {
    const old = (dates: object) =>
      file([{ kid: 'P', usage: 'pin-encryption', algorithm: 'tdea-2key', material: PEK, ...dates }])
    const encipher = [
      'pin',
      'encipher',
      '--key',
      'P',
      '--format',
      '0',
      '--pan-env',
      'PAN',
      '--card-pin-env',
      'PIN',
    ]
    const { out } = await run([...encipher, '--keys', old({ validTo: '2099-01-01' })])
    const ended = old({ validFrom: '2020-01-01T12:30Z', validTo: '2021-01-01' })
    expect(await run([...encipher, '--keys', ended])).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(/^ERR_KEY_PERIOD: key P /),
    })
    const decipher = ['pin', 'decipher', '--key', 'P', '--format', '0', '--pan-env', 'PAN', '--keys', ended]
    expect(await run(decipher, { stdin: out })).toMatchObject({ code: 0 })
    for (const validTo of ['soon', 5, '2030-02-30', '2030-01-01T25:00Z', null])
      expect(await run([...decipher.with(-1, old({ validTo }))], { stdin: out })).toMatchObject({
        code: 2,
        err: 'ERR_USAGE: --keys: validTo must be a date: YYYY-MM-DD, or with a time in Z',
      })
  })

  test('what a file has no place for is refused, and what nobody could use is not written', async () => {
    const out = fresh()
    for (const more of [['--module', 'x'], ['--host-decipher'], ['--macs', 'cmac'], ['--group', 'x']])
      expect(await run([...GENERATE, '--kid', 'P', '--out', out, ...more])).toMatchObject({
        code: 2,
        err: `ERR_USAGE: ${more[0]} is for a key in a token, and --out makes a TEST key in a file`,
      })
    const wrong = [
      'key',
      'generate',
      '--kid',
      'P',
      '--usage',
      'retail-mac',
      '--algorithm',
      'aes-128',
      '--out',
      out,
    ]
    expect(await run(wrong)).toMatchObject({ code: 1, out: '' })
    expect(() => readFileSync(out)).toThrow('ENOENT')
    expect((await run([...GENERATE, '--kid', 'P', '--out', file('there')])).err).toContain(
      '--out is there already',
    )
  })

  test('components: where one cannot be written, none is', async () => {
    const prefix = fresh()
    writeFileSync(`${prefix}-2`, '')
    const split = ['key', 'components', 'split', '--algorithm', 'aes-128', '--parts', '3', '--key-env', 'AES']
    expect(await run([...split, '--out', prefix])).toMatchObject({ code: 2, out: '' })
    expect(() => readFileSync(`${prefix}-1`)).toThrow('ENOENT')
    // Of the first as of the last that is said before anybody is asked for the key.
    for (const i of [1, 3]) {
      const taken = fresh()
      writeFileSync(`${taken}-${i}`, '')
      const onAsk = (): never => expect.unreachable('somebody was asked')
      expect(await run([...split.slice(0, -2), '--out', taken], { secrets: [AES], onAsk })).toMatchObject({
        code: 2,
        err: 'ERR_USAGE: --out is there already: name a new file',
      })
    }
    // A folder that says it can be written, and takes no file.
    expect(await run([...split, '--out', '/proc/self/x'])).toMatchObject({ code: 2, out: '' })
  })
})

describe('words that an option takes', () => {
  test.each([
    [['--usage', 'pin'], /^ERR_USAGE: --usage must be one of pin-encryption, cbc-mac, /],
    [['--mode', 'X'], 'ERR_USAGE: --mode must be one of B, E, D'],
    [['--algorithm', 'des'], /^ERR_USAGE: --algorithm must be one of tdea-2key, /],
    [['--macs', 'md5'], /^ERR_USAGE: --macs must be one of iso9797-1-alg1, /],
    [['--macs', 'iso9797-1-alg'], /^ERR_USAGE: --macs must be one of iso9797-1-alg1, /],
    [['--macs', ''], /^ERR_USAGE: --macs must be one of iso9797-1-alg1, /],
    [['--valid-to', '2030-01-01T00:30Z'], 'ERR_USAGE: --valid-to must be a date: '],
    [['--valid-from', '2030-02-30'], 'ERR_USAGE: --valid-from must be a date: '],
    [['--kid', 'x'.repeat(200)], /^ERR_ARGUMENT: /],
  ])('%j: exit code 2, and the words', async (more, message) => {
    const base = {
      '--kid': 'K',
      '--usage': 'pin-encryption',
      '--algorithm': 'tdea-2key',
      [more[0] ?? '']: more[1] ?? '',
    }
    const { code, out, err } = await run(['key', 'generate', ...Object.entries(base).flat(), ...TOKEN])
    expect([code, out]).toEqual([2, ''])
    expect(err).toMatch(message)
  })

  test.each([
    ['prw-verify', ['--macs', 'iso9797-1-alg1'], ['--macs', 'cmac']],
    ['pin-encryption', [], ['--host-decipher']],
    ['pin-encryption', ['--translate-in-token'], ['--translate-in-token', '--translation']],
  ])('a key for %s is another one in the token by %j than by %j', async (usage, ...both) => {
    const attributes: string[] = []
    for (const asked of both) {
      const fake = new FakeToken()
      const made = ['--kid', 'K', '--usage', usage, '--algorithm', 'tdea-2key', ...asked]
      expect(await run(['key', 'generate', ...made, ...TOKEN], {}, fake)).toMatchObject({ code: 0 })
      const own = [...fake.objects.values()].flatMap(one => [...one.attributes])
      const random: readonly number[] = [CKA.ID, CKA.VALUE, CKA.CHECK_VALUE, CKA.UNIQUE_ID]
      attributes.push(JSON.stringify(own.filter(([type]) => !random.includes(type))))
    }
    expect(attributes[0]).not.toBe(attributes[1])
  })

  const verify = ['pin', 'verify', '--key', 'PEK', '--format', '0', '--pan-env', 'PAN']
  const imported = ['key', 'import', '--kid', 'K', '--usage', 'cmac', '--kcv', '00', '--from']
  const block = ['inspect', 'pin-block', '--state', 'enciphered']
  test.each([
    [[...verify, '--pvv', '1234'], '--pvv does not go with a comparison against pin'],
    [[...verify, '--against', 'pvv', '--offset', '1'], '--offset does not go with a comparison against pvv'],
    [[...verify, '--against', 'pvv', '--card-pin-env', 'PIN'], '--card-pin-env goes with --against pin'],
    [
      ['mac', 'compute', '--key', 'M', '--algorithm', 'cmac', '--padding', '1', '--length', '8'],
      '--padding does not go with cmac',
    ],
    [[...imported, 'clear', '--kbpk', 'K'], '--kbpk does not go with --from clear'],
    [[...imported, 'block', '--algorithm', 'aes-128'], '--algorithm does not go with --from block'],
    [[...imported, 'components', '--key-env', 'AES'], '--key-env does not go with --from components'],
    [
      [...imported, 'clear', '--algorithm', 'aes-128'],
      'the clear key passes through this process: that takes --import-clear-keys',
    ],
    [
      [...imported, 'block', '--kbpk', 'K'],
      'the clear key passes through this process: that takes --import-clear-keys',
    ],
    [[...imported, 'clear', 'file'], '--from clear reads no file'],
    [
      [...imported, 'components', '--algorithm', 'aes-128', '--parts', '2', '--record-key', 'R'],
      '--record-key goes with --record',
    ],
    [['key', 'record', '--public', 'x', '--record-key', 'R'], '--record-key does not go with --public'],
    [
      [...imported, 'components', '--algorithm', 'aes-128', '--parts', '2', '--record-usage', 'cmac'],
      '--record-usage goes with --record',
    ],
    [
      ['key', 'record', '--public', 'x', '--record-usage', 'cmac'],
      '--record-usage does not go with --public',
    ],
    [[...verify, '--against', 'pvv', '--card-pin-fd', '0'], '--card-pin-fd goes with --against pin'],
    [['key', 'record'], '--record-key is missing'],
    [[...block, '--format', '0'], '--format goes with --key'],
    [
      ['key', 'kcv', '--algorithm', 'hmac-sha256', '--method', 'cmac', '--key-env', 'AES'],
      '--method must be one of hmac',
    ],
  ])('%j', async (args, message) => {
    const onKeys = ['mac', 'pin'].includes(args[0] ?? '') ? [...ON_KEYS, keys] : []
    const { code, out, err } = await run([...args, ...onKeys], { stdin: '0123456789ABCDEF' })
    expect([code, out, err]).toEqual([2, '', `ERR_USAGE: ${message}`])
  })
})

describe('a key of a token', () => {
  test('is looked at as a program binds it: whether it deciphers here is asked where that is said', async () => {
    const fake = new FakeToken()
    await run([...GENERATE, '--kid', 'ZPK', ...TOKEN], {}, fake)
    const check = ['key', 'check', '--kid', 'ZPK', '--usage', 'pin-encryption', ...TOKEN]
    expect(await run(check, {}, fake)).toMatchObject({ code: 0 })
    expect(await run([...check, '--host-decipher'], {}, fake)).toMatchObject({ code: 1, out: '' })
  })

  test('is rotated in its mode', async () => {
    const fake = new FakeToken()
    await run([...GENERATE, '--kid', 'ZPK', '--mode', 'E', ...TOKEN], {}, fake)
    expect(
      await run(['key', 'rotate', '--kid', 'ZPK', '--new-kid', 'ZPK-2', ...TOKEN], {}, fake),
    ).toMatchObject({ code: 0 })
    const { out } = await run(['key', 'list', '--json', ...TOKEN], {}, fake)
    expect((JSON.parse(out) as { mode: string }[]).map(({ mode }) => mode)).toEqual(['E', 'E'])
    expect((await run(['key', 'list', ...TOKEN], {}, fake)).out).toMatch(
      /ZPK-2 +pin-encryption +E +tdea-2key/,
    )
  })

  test('is rotated into another mode, where that is said', async () => {
    const fake = new FakeToken()
    await run([...GENERATE, '--kid', 'ZPK', '--mode', 'E', ...TOKEN], {}, fake)
    const rotate = ['key', 'rotate', '--kid', 'ZPK', '--new-kid', 'ZPK-2', '--mode', 'D', ...TOKEN]
    expect(await run(rotate, {}, fake)).toMatchObject({ code: 0 })
    const { out } = await run(['key', 'list', '--json', ...TOKEN], {}, fake)
    expect((JSON.parse(out) as { mode: string }[]).map(({ mode }) => mode)).toEqual(['E', 'D'])
  })

  test('is rotated with a beginning and an end of its own', async () => {
    const fake = new FakeToken()
    await run([...GENERATE, '--kid', 'ZPK', ...TOKEN], {}, fake)
    const period = ['--valid-from', '2026-02-01', '--valid-to', '2031-02-01']
    const rotated = await run(
      ['key', 'rotate', '--kid', 'ZPK', '--new-kid', 'ZPK-2', ...period, '--json', ...TOKEN],
      {},
      fake,
    )
    expect(rotated).toMatchObject({ code: 0, err: '' })
    expect(JSON.parse(rotated.out)).toMatchObject({
      kid: 'ZPK-2',
      validFrom: '2026-02-01T00:00:00.000Z',
      validTo: '2031-02-01T00:00:00.000Z',
    })
  })

  test('that combines nothing says what an option would allow, before anybody enters anything', async () => {
    const fake = new FakeToken({ without: [CKM.XOR_BASE_AND_DATA] })
    const args = [
      'key',
      'import',
      '--from',
      'components',
      '--parts',
      '2',
      '--kcv',
      '0000000000',
      '--kid',
      'K',
    ]
    const { code, err } = await run(
      [...args, '--usage', 'cmac', '--algorithm', 'aes-128', ...TOKEN],
      { secrets: [] },
      fake,
    )
    expect([code, err]).toEqual([
      2,
      expect.stringMatching(/^ERR_USAGE: this token does not combine .* --import-clear-keys$/),
    ])
  })
})

describe('the record of a ceremony', () => {
  const KCVS = ['--component-1-kcv-env', 'K1', '--component-2-kcv-env', 'K2']
  const PARTS = ['--component-1-component-env', 'C1', '--component-2-component-env', 'C2']
  const NAMES = ['--component-1-name-env', 'N1', '--component-2-name-env', 'N2']

  async function recorded(usage: 'jwt-signing' | 'cmac') {
    const fake = new FakeToken()
    const second = 'FF'.repeat(15).concat('01')
    const both = Buffer.from(AES, 'hex').map((byte, i) => byte ^ (i < 15 ? 0xff : 1))
    const kcv = async (key: string) => {
      const { out } = await run(['key', 'kcv', '--algorithm', 'aes-128', '--key-env', 'K'], {
        env: { K: key },
      })
      return /KCV (\w+)/.exec(out)?.[1] ?? ''
    }
    const given = { ...env, C1: AES, C2: second, K1: await kcv(AES), K2: await kcv(second) }
    const algorithm = usage === 'cmac' ? 'aes-128' : 'ec-p256'
    await run(
      ['key', 'generate', '--kid', 'REC', '--usage', usage, '--algorithm', algorithm, ...TOKEN],
      {},
      fake,
    )
    const path = fresh()
    const bring = ['key', 'import', '--from', 'components', '--parts', '2', '--kid', 'Z', '--usage', 'cmac']
    const record = ['--record', path, '--record-key', 'REC', '--record-usage', usage]
    const { code, err } = await run(
      [
        ...[
          ...bring,
          '--algorithm',
          'aes-128',
          '--kcv',
          await kcv(Buffer.from(both).toString('hex')),
          ...record,
        ],
        ...[...NAMES, ...PARTS, ...KCVS, ...TOKEN],
      ],
      { env: given },
      fake,
    )
    expect([code, err]).toEqual([0, ''])
    return { fake, path, usage: ['--record-usage', usage] }
  }

  test.each(['jwt-signing', 'cmac'] as const)('by a key that is %s: shown where it is right', async usage => {
    const { fake, path } = await recorded(usage)
    const of = ['key', 'record', '--record-key', 'REC', '--record-usage', usage, ...TOKEN]
    const shown = await run([...of, path], {}, fake)
    expect([shown.code, shown.err]).toEqual([0, ''])
    expect(shown.out).toMatch(/component 1 +Adams, 20.*KCV [0-9A-F]{10} \(cmac\)\n/)
    expect(shown.out).toContain('in-token')
    const { verified, record } = JSON.parse((await run([...of, '--json', path], {}, fake)).out) as {
      verified: boolean
      record: { components: { officer: string }[] }
    }
    expect([verified, record.components.map(({ officer }) => officer)]).toEqual([true, ['Adams', 'Brown']])
    const [head, body, mark] = readFileSync(path, 'utf8').trim().split('.')
    const changed = Buffer.from(
      Buffer.from(body ?? '', 'base64url')
        .toString()
        .replace('Adams', 'Adamz'),
    ).toString('base64url')
    for (const wrong of [`${head}.${changed}.${mark}`, PAN, '', `${head}.${body}`]) {
      const found = await run(of, { stdin: wrong }, fake)
      expect(found).toEqual({ code: 1, out: '', err: 'the record is not as this key signed or sealed it' })
    }
    expect(await run([...of, '--json'], { stdin: '..' }, fake)).toMatchObject({
      code: 1,
      out: '{\n  "verified": false\n}',
    })
  })

  test('by the public key alone', async () => {
    const { fake, path } = await recorded('jwt-signing')
    const { out } = await run(
      ['key', 'check', '--kid', 'REC', '--usage', 'jwt-signing', '--json', ...TOKEN],
      {},
      fake,
    )
    const { publicJwk } = JSON.parse(out) as { publicJwk: object }
    expect(await run(['key', 'record', '--public', file(publicJwk), path])).toMatchObject({ code: 0 })
    expect(await run(['key', 'record', '--public', file({ ...JWE, d: undefined }), path])).toMatchObject({
      code: 1,
    })
    expect(await run(['key', 'record', '--public', file('{}'), path])).toMatchObject({ code: 2, out: '' })
  })
})

describe('a table', () => {
  test.each([
    ['鍵鍵鍵', 'ｋｅｙ'],
    ['u\u0308ber', 'ключ'],
    ['🔑🔑', '키'],
  ])('is as wide as its letters are on a terminal: %s, %s', (one, other) => {
    const wide = (text: string): number =>
      [...text].reduce((sum, letter) => {
        if (/\p{M}/u.test(letter)) return sum
        return (
          sum +
          (/[\u1100-\u11ff\u3000-\u9fff\uac00-\ud7a3\uff01-\uff60]|\p{Emoji_Presentation}/u.test(letter)
            ? 2
            : 1)
        )
      }, 0)
    const lines = tableOf(
      ['kid', 'usage'],
      [
        [one, 'a'],
        [other, 'b'],
      ],
      { columns: 80 },
    ).split('\n')
    const at = lines.slice(2).map(line => wide(line.slice(0, line.search(/[ab]$/))))
    expect(new Set(at).size).toBe(1)
    const rows = [
      ['日本語日本語', 'a'],
      ['abcdefgh', 'b'],
    ]
    const widths = tableOf(['kid', 'usage'], rows, {}).split('\n').slice(2)
    expect(widths).toEqual(['日本語日本語  a', 'abcdefgh      b'])
    const narrow = tableOf(['kid', 'usage'], [[one.repeat(20), other.repeat(30)]], { columns: 24 })
    for (const line of narrow.split('\n')) expect(wide(line)).toBeLessThanOrEqual(24)
    expect(narrow.replaceAll(/[\s-]/g, '')).toContain(other)
  })
})

test('a row that is longer or shorter than the head of its table loses nothing', () => {
  expect(tableOf(['a', 'b'], [[], ['1'], ['1', '2', '3', '4']], {}).split('\n')).toEqual([
    'a  b',
    '-  -',
    '',
    '1',
    '1  2  3  4',
  ])
})

describe('names that play tricks', () => {
  const kid = 'K\u202e\u009b2J\u{e0041}'

  test('are escaped in JSON, which stays the same, and are question marks on a terminal', async () => {
    const fake = new FakeToken()
    const made = [
      'key',
      'generate',
      '--kid',
      'K',
      '--usage',
      'cmac',
      '--algorithm',
      'aes-128',
      '--json',
      ...TOKEN,
    ]
    expect((await run(made, {}, fake)).code).toBe(0)
    const sealed = await run(['jwe', 'seal', '--recipient', file({ ...JWE, d: undefined }), '--kid', 'JWE'], {
      stdin: JSON.stringify({ kid }),
    })
    const open = ['jwe', 'open', '--key', 'JWE', '--keys', keys]
    const json = await run([...open, '--json'], { stdin: sealed.out })
    expect(JSON.parse(json.out)).toMatchObject({ plaintext: { kid } })
    expect(json.out).not.toMatch(/[\u202e\u009b]|\u{e0041}/u)
    expect((await run(open, { stdin: sealed.out, columns: 80 })).out).toBe('{\n  "kid": "K??2J?"\n}')
    // In a pipe what was sealed comes out as it went in.
    expect((await run([...open, '--reveal'], { stdin: sealed.out })).out).toBe(JSON.stringify({ kid }))
  })
})
