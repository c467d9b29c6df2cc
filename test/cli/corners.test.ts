/**
 * Rare days of the command line: a token that can do little or holds keys of others, a record whose place is taken meanwhile, a key that
 * ends soon, a folder that cannot be finished. What is half done is undone, and what is wrong is said.
 */
import { createCipheriv } from 'node:crypto'
import fs, { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import tty from 'node:tty'
import { describe, expect, test } from 'vitest'
import type { Template } from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKK, CKM, CKO } from '../../src/backend/pkcs11/binding/constants.js'
import { roleAttribute, SECRET_BITS } from '../../src/backend/pkcs11/mechanisms/templates.js'
import { doctorCommand } from '../../src/cli/doctor.js'
import { main } from '../../src/cli/main.js'
import { onboardCommand } from '../../src/cli/onboard.js'
import type { Opening } from '../../src/cli/open.js'
import { reason } from '../../src/cli/shown.js'
import { BackendError, type Capabilities } from '../../src/index.js'
import { withCipher } from '../../src/key-block/clear-key.js'
import { macOf, protectionKeys } from '../../src/key-block/protection.js'
import type { ListedKey } from '../../src/pkcs11.js'
import { softwareBackend } from '../../src/software.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { keptIo } from './support/io.js'
import { AES, env, file, fresh, JWE, KBPK, keys, PEK, run, TOKEN } from './support/program.js'

const SECOND = '0F1E2D3C4B5A69788796A5B4C3D2E1F0'
const kcvOf = async (key: string, algorithm = 'aes-128'): Promise<string> => {
  const { out } = await run(['key', 'kcv', '--algorithm', algorithm, '--key-env', 'K'], { env: { K: key } })
  return /KCV (\w+)/.exec(out)?.[1] ?? ''
}

/** A key as another tool would have made it: its CKA_ID says nothing. */
function foreign(label: string, changes: Template = []): Template {
  const changed = new Set(changes.map(([type]) => type))
  const usual: Template = [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.DES2],
    [CKA.TOKEN, true],
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    [CKA.MODIFIABLE, false],
    [CKA.LABEL, label],
    [CKA.ID, Buffer.from(label)],
    ...SECRET_BITS.map(bit => [roleAttribute(bit), bit === 'ENCRYPT'] as const),
    [CKA.VALUE, Buffer.from(PEK, 'hex')],
  ]
  return [...usual.filter(([type]) => !changed.has(type)), ...changes]
}

describe('keys of a token that others have made', () => {
  test('are listed and judged, and rotated by nobody who cannot know what they are for', async () => {
    const fake = new FakeToken()
    fake.plant(foreign('GOOD'))
    fake.plant(foreign('OPEN', [[CKA.SENSITIVE, false]]))
    fake.plant(foreign('TWICE'))
    fake.plant(foreign('TWICE', [[CKA.ID, Buffer.from('second')]]))
    const listed = await run(['key', 'list', ...TOKEN], {}, fake)
    expect(listed.code).toBe(1)
    expect(listed.out).toMatch(/\nGOOD +\? +\? +tdea-2key +08D7B4/)
    expect(listed.out).toMatch(/\nOPEN: ERR_KEY_\w+: /)
    const rotate = async (kid: string) =>
      (await run(['key', 'rotate', '--kid', kid, '--new-kid', 'N', ...TOKEN], {}, fake)).err
    expect(await rotate('GOOD')).toMatch(/^ERR_USAGE: --kid: this key was not made here; /)
    expect(await rotate('TWICE')).toBe('ERR_USAGE: --kid: there are two keys by that name')
    const remove = ['key', 'delete', '--kid', 'TWICE', '--yes', ...TOKEN]
    expect(await run(remove, {}, fake)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^ERR_KEY_AMBIGUOUS/),
    })
    const id = Buffer.from('second').toString('hex').toUpperCase()
    expect(await run([...remove, '--id', id], {}, fake)).toMatchObject({ code: 0 })
    const report = fresh()
    const doctor = await run(['doctor', '--no-test-keys', '--report', report, ...TOKEN], {}, fake)
    expect(doctor.out).toMatch(/\nkey OPEN: ERR_KEY_/)
    expect(readFileSync(report, 'utf8')).toMatch(
      /\| OPEN \| \? \| \? \| - \| unknown|\| OPEN \| \? \| \? \| - \| /,
    )
  })

  test('a token that can do little is told of as it is', async () => {
    const poor = new FakeToken({ without: [CKM.ECDH1_DERIVE, CKM.ECDSA, CKM.SHA256_HMAC] })
    const { out } = await run(['doctor', '--no-test-keys', ...TOKEN], {}, poor)
    expect(out).toMatch(/key agreement +none +- +Set PIN: the JWE key must be in software/)
    expect(out).toMatch(/signing ES256 +none +- +the client assertion needs a software key/)
    const rich = new FakeToken()
    const inside = await run(['doctor', '--no-test-keys', '--translate-in-token', ...TOKEN], {}, rich)
    expect(inside.out).toMatch(/re-encipherment +(native|composed)/)
  })
})

describe('doctor', () => {
  const CAPABILITIES: Capabilities = {
    backend: 'pkcs11',
    tdea: 'none',
    macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'composed', cmac: 'native', 'hmac-sha256': 'none' },
    keyAgreement: 'token-extract',
    signing: 'none',
    reencipher: 'inside',
    derivation: 'none',
    random: 'none',
    notes: ['a note | of two parts'],
  }
  const listed: ListedKey = {
    kid: 'X',
    id: '',
    usage: undefined,
    mode: undefined,
    algorithm: undefined,
    checkValue: undefined,
    problem: 'ERR_KEY_USAGE: no',
    origin: 'unknown',
  }
  const closing = { [Symbol.asyncDispose]: async () => {} }
  const store = {
    ...closing,
    listKeys: async () => [listed],
    importKey: async () => listed,
    deleteKey: async () => {},
  }

  async function examined(opened: () => Promise<unknown>, ...more: readonly string[]) {
    return examinedOn(store, opened, ...more)
  }
  async function examinedOn(on: object, opened: () => Promise<unknown>, ...more: readonly string[]) {
    const opening = { backend: opened, store: async () => on, group: opened } as unknown as Opening
    const [report, options] = [fresh(), file({ token: { serial: '12' } })]
    const io = keptIo({ env: { TP: '1234' } })
    const args = [
      'doctor',
      '--module',
      '/x.so',
      '--options',
      options,
      '--pin-env',
      'TP',
      '--report',
      report,
      ...more,
    ]
    const code = await main(args, io, [doctorCommand(opening)])
    return { code, out: io.output.join('\n'), err: io.errors.join('\n'), report }
  }

  test('of a token that is not well and can do next to nothing', async () => {
    const health = async () => ({ ok: false, detail: 'it does not answer' })
    const { code, out, report } = await examined(
      async () => ({ ...closing, health, capabilities: () => CAPABILITIES }),
      '--no-test-keys',
    )
    expect(code).toBe(1)
    for (const line of [
      /TDEA PIN block +none +- +no Get PIN and no Set PIN from this token/,
      /re-encipherment +native +- +PIN blocks move between keys inside the token/,
      /key agreement +composed +- +Set PIN: .*, Z in host memory/,
      /random +none/,
      /the token is NOT well; /,
    ])
      expect(out).toMatch(line)
    const paper = readFileSync(report, 'utf8')
    expect(paper).toContain('token `{"serial":"12"}`')
    expect(paper).toContain('Health: NOT ok: it does not answer')
    expect(paper).toContain('| X | ? | ? | - | unknown | ERR_KEY_USAGE: no |')
  })

  test('a report that has no place is refused before a token is opened, whichever of the two it is', async () => {
    const taken = file('mine')
    const never = async () => expect.unreachable('a token was opened')
    for (const option of ['--report', '--report-json']) {
      const opening = { backend: never, store: never, group: never } as unknown as Opening
      const io = keptIo({ env: { TP: '1234' } })
      const args = ['doctor', ...TOKEN, '--no-test-keys', option, taken]
      expect(await main(args, io, [doctorCommand(opening)])).toBe(2)
      expect(io.errors).toEqual([`ERR_USAGE: ${option} is there already: name a new file`])
    }
    expect(readFileSync(taken, 'utf8')).toBe('mine')
  })

  test.each([
    ['both are well, and one has a key twice', [true, true], [1, 2], 1],
    ['the second is not well', [true, false], [1, 1], 1],
    ['both are well, and alike', [true, true], [2, 2], 0],
  ])('of a group of two: %s', async (_, well, has, expected) => {
    const modules = ['/a.so', '/b.so']
    const at = (options: { module: string }): number => modules.indexOf(options.module)
    const opening = {
      backend: async (options: { module: string }) => ({
        ...closing,
        health: async () => ({ ok: well[at(options)], detail: '' }),
        capabilities: () => CAPABILITIES,
      }),
      store: async (options: { module: string }) => ({
        ...store,
        listKeys: async () => Array.from({ length: has[at(options)] ?? 0 }, () => listed),
      }),
    } as unknown as Opening
    const group = file({ members: modules.map(module => ({ module, token: module })) })
    const io = keptIo({ env: { TP: '1234' } })
    const args = ['doctor', '--group', group, '--pin-env', 'TP', '--no-test-keys']
    expect(await main(args, io, [doctorCommand(opening)])).toBe(expected)
    expect(io.output.join('\n').includes('DIFFERENT key X: /a.so: ')).toBe(has[0] !== has[1])
  })

  test('of one whose answers are wrong: each case is named, on the screen and in the report', async () => {
    // Another MAC key than the contract's: each answer under it is another one.
    const ring = CONTRACT_KEYS.map(({ hostDecipher: _, ...key }) =>
      key.kid === 'MAC-3' ? { ...key, material: '1F'.repeat(8).concat('2F'.repeat(8)) } : key,
    )
    const { code, out, report } = await examined(() => softwareBackend({ keys: ring }))
    expect(code).toBe(1)
    expect(out).toMatch(/\nFAILED .*alg3.*: /)
    expect(readFileSync(report, 'utf8')).toMatch(/\n- FAILED .*alg3/)
  })

  test.each([undefined, 'ERR_BACKEND_FAILED'] as const)(
    'that fails half-way leaves no test key in the token, but for one that cannot be deleted: %s',
    async fault => {
      const keys = new Set<string>()
      let stuck: string | undefined
      const filling = {
        ...store,
        importKey: async ({ kid }: { kid: string }) => {
          stuck ??= fault && kid
          keys.add(kid)
        },
        listKeys: async () => Array.from(keys, kid => ({ ...listed, kid })),
        deleteKey: async ({ kid }: { kid: string }) => {
          if (kid === stuck) throw new BackendError('ERR_BACKEND_FAILED', 'it stays')
          keys.delete(kid)
        },
      }
      let opened = 0
      const { code } = await examinedOn(filling, async () => {
        if (opened++ > 0) throw new BackendError('ERR_BACKEND_BUSY', 'the token has gone')
        return {
          ...closing,
          health: async () => ({ ok: true, detail: '' }),
          capabilities: () => CAPABILITIES,
        }
      })
      expect(code).toBe(1)
      expect(opened).toBeGreaterThan(1)
      expect([...keys]).toEqual(stuck === undefined ? [] : [stuck])
    },
  )
})

describe('what a token unwraps by itself', () => {
  test.each([
    ['rfc3394', 'id-aes128-wrap', 'A6A6A6A6A6A6A6A6'],
    ['rfc5649', 'id-aes128-wrap-pad', 'A65959A6'],
  ])(
    'comes in under its name, by %s, in lines as they were written; with another check value it does not',
    async (...by) => {
      const [wrapping, name, iv] = by
      const kek = '000102030405060708090A0B0C0D0E0F'
      const fake = new FakeToken()
      const clear = ['key', 'import', '--from', 'clear', '--kid', 'KEK', '--usage', 'key-encryption']
      const own = [
        '--algorithm',
        'aes-128',
        '--kcv',
        await kcvOf(kek),
        '--key-env',
        'K',
        '--import-clear-keys',
      ]
      expect(await run([...clear, ...own, ...TOKEN], { env: { ...env, K: kek } }, fake)).toMatchObject({
        code: 0,
      })
      const cipher = createCipheriv(name as never, Buffer.from(kek, 'hex'), Buffer.from(iv, 'hex'))
      const wrapped = Buffer.concat([cipher.update(Buffer.from(PEK, 'hex')), cipher.final()]).toString('hex')
      const bring = ['key', 'import', '--from', 'wrapped', '--under', 'KEK', '--wrapping', wrapping]
      const what = ['--usage', 'pin-encryption', '--algorithm', 'tdea-2key', ...TOKEN]
      const stdin = wrapped.replaceAll(/.{16}/g, '$&\n')
      const made = await run([...bring, '--kid', 'ZPK', '--kcv', '08D7 B4', ...what], { stdin }, fake)
      expect([made.code, made.out, made.err]).toEqual([0, expect.stringContaining('KCV 08D7B4'), ''])
      const wrong = await run([...bring, '--kid', 'ZPK-2', '--kcv', '08D7B5', ...what], { stdin }, fake)
      expect(wrong).toMatchObject({ code: 1, err: expect.stringMatching(/^ERR_KEY_CHECK_VALUE/) })
      const { out } = await run(['key', 'list', '--json', ...TOKEN], {}, fake)
      expect((JSON.parse(out) as { kid: string }[]).map(({ kid }) => kid).sort()).toEqual(['KEK', 'ZPK'])
    },
  )
})

describe('a ceremony', () => {
  const both = Buffer.from(
    Buffer.from(AES, 'hex').map((byte, i) => byte ^ (Buffer.from(SECOND, 'hex')[i] ?? 0)),
  )

  test('whose record finds its place taken leaves no key', async () => {
    const fake = new FakeToken()
    const signer = ['--kid', 'SIGN', '--usage', 'jwt-signing', '--algorithm', 'ec-p256']
    await run(['key', 'generate', ...signer, ...TOKEN], {}, fake)
    const path = fresh()
    const typed = ['Adams', AES, await kcvOf(AES), 'Brown', SECOND, await kcvOf(SECOND)]
    const args = ['key', 'import', '--from', 'components', '--parts', '2', '--kid', 'Z', '--usage', 'cmac']
    const more = ['--algorithm', 'aes-128', '--kcv', await kcvOf(both.toString('hex')), '--record', path]
    const taken = (question: string) => {
      if (question.startsWith('officer 2: kcv')) writeFileSync(path, 'mine')
    }
    const found = await run(
      [...args, ...more, '--record-key', 'SIGN', ...TOKEN],
      { secrets: typed, onAsk: taken },
      fake,
    )
    expect(found).toMatchObject({
      code: 2,
      err: expect.stringMatching(/--record cannot be written: EEXIST$/),
    })
    expect(readFileSync(path, 'utf8')).toBe('mine')
    const { out } = await run(['key', 'list', '--json', ...TOKEN], {}, fake)
    expect((JSON.parse(out) as { kid: string }[]).map(({ kid }) => kid)).toEqual(['SIGN'])
  })

  test('in the memory of this process, where the token does not combine: that is said, and so is an empty answer', async () => {
    const fake = new FakeToken({ without: [CKM.XOR_BASE_AND_DATA] })
    const args = ['key', 'import', '--from', 'components', '--parts', '2', '--kid', 'Z', '--usage', 'cmac']
    const more = ['--algorithm', 'aes-128', '--kcv', await kcvOf(both.toString('hex')), '--import-clear-keys']
    const typed = ['Adams', AES, await kcvOf(AES), 'Brown', SECOND, await kcvOf(SECOND)]
    const found = await run([...args, ...more, ...TOKEN], { secrets: typed }, fake)
    expect(found).toMatchObject({ code: 0, out: expect.stringContaining('combined in this process') })
    expect(
      await run([...args, ...more, ...TOKEN], { secrets: ['Adams', ''] }, new FakeToken()),
    ).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: nothing was typed for the component-1-component',
    })
  })

  test('for tests: the parity of the result is told, and set to odd where that is asked for', async () => {
    const [one, two] = [PEK, '00'.repeat(15).concat('01')]
    const result = PEK.slice(0, -1).concat('1')
    const given = {
      C1: one,
      C2: two,
      K1: await kcvOf(one, 'tdea-2key'),
      K2: await kcvOf(two, 'tdea-2key'),
      N1: 'A',
      N2: 'B',
    }
    const out = fresh()
    const parts = [1, 2].flatMap(i => [
      ...[`--component-${i}-name-env`, `N${i}`, `--component-${i}-component-env`, `C${i}`],
      ...[`--component-${i}-kcv-env`, `K${i}`],
    ])
    const combine = [
      'key',
      'components',
      'combine',
      '--usage',
      'pin-encryption',
      '--algorithm',
      'tdea-2key',
      '--parts',
      '2',
    ]
    const kcv = await kcvOf(result, 'tdea-2key')
    const made = await run([...combine, '--kcv', kcv, '--parity', 'adjust', '--out', out, ...parts], {
      env: given,
    })
    expect(made).toMatchObject({ code: 0, out: expect.stringContaining('parity mixed') })
    expect(JSON.parse(readFileSync(out, 'utf8'))).toMatchObject([{ material: PEK }])
  })
})

test.each([2, 3])(
  'components of which the one numbered %s finds its place taken are all taken back',
  async taken => {
    const out = fresh()
    const split = ['key', 'components', 'split', '--algorithm', 'aes-128', '--parts', '3', '--out', out]
    const onAsk = () => writeFileSync(`${out}-${taken}`, 'mine')
    expect(await run(split, { secret: AES, onAsk })).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: --out cannot be written: EEXIST',
    })
    for (let i = 1; i <= 3; i++) {
      if (i !== taken) expect(() => readFileSync(`${out}-${i}`)).toThrow('ENOENT')
    }
    expect(readFileSync(`${out}-${taken}`, 'utf8')).toBe('mine')
  },
)

test.each([1, 3])('where the disk is full at component %i, no part of any stays', async full => {
  const out = fresh()
  const { writeFileSync: write } = fs
  let files = 0
  fs.writeFileSync = (file, data, options) => {
    if (typeof file !== 'number' || ++files !== full) return write(file, data, options)
    write(file, String(data).slice(0, 9))
    throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
  }
  syncBuiltinESMExports()
  try {
    const split = ['key', 'components', 'split', '--algorithm', 'aes-128', '--parts', '3', '--out', out]
    expect(await run(split, { secret: AES })).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: --out cannot be written: ENOSPC',
    })
  } finally {
    fs.writeFileSync = write
    syncBuiltinESMExports()
  }
  expect(files).toBe(full)
  for (const i of [1, 2, 3]) expect(() => readFileSync(`${out}-${i}`)).toThrow('ENOENT')
})

test('a new key of a token: with a beginning, for translation; what the token did not take is said', async () => {
  const fake = new FakeToken({ refuses: { types: [CKA.COPYABLE], code: 0x12 } })
  const made = ['key', 'generate', '--kid', 'P', '--usage', 'pin-encryption', '--algorithm', 'tdea-2key']
  const more = ['--valid-from', '2026-01-01', '--translation', '--translate-in-token']
  expect(await run([...made, ...more, ...TOKEN], {}, fake)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/; the token did not take CKA_COPYABLE$/),
  })
})

describe('a test key', () => {
  test.each([0o640, 0o604])(
    'that ends soon, in a file that others may read (%s): both are said',
    async mode => {
      const validTo = new Date(Date.now() + 10 * 86_400_000).toISOString().slice(0, 10)
      const mine = file([
        { kid: 'P', usage: 'pin-encryption', algorithm: 'tdea-2key', material: PEK, validTo },
      ])
      chmodSync(mine, mode)
      const { code, out, err } = await run([
        'key',
        'check',
        '--kid',
        'P',
        '--usage',
        'pin-encryption',
        '--keys',
        mine,
      ])
      expect([code, err]).toEqual([0, 'warning: the file of test keys can be read by others: chmod 600'])
      expect(out).toMatch(/\n.*key P /)
    },
  )

  test('of a wrong kind for a format is an error, and no verdict on the block', async () => {
    const inspect = [
      'inspect',
      'pin-block',
      '--state',
      'enciphered',
      '--pan-env',
      'PAN',
      '--key',
      'PEK',
      '--keys',
      keys,
    ]
    expect(await run([...inspect, '--format', '4'], { stdin: '00'.repeat(16) })).toMatchObject({
      code: 1,
      out: '',
    })
  })

  test.each([
    [
      { pan: '4929123456789012', pin: '1234', pcc: '0001', intdatag: 'A', fields: 'x' },
      'fields must be an object',
    ],
    [{ pan: '4929123456789012', pin: '1234', pcc: 1, intdatag: 'A' }, 'the values have no pcc, as text'],
  ])('a PRW of %j', async (values, message) => {
    const mine = file([{ kid: 'R', usage: 'prw-generate', algorithm: 'tdea-2key', material: PEK }])
    const args = ['prw', 'compute', '--key', 'R', '--profile', 'illustrative-tdea', '--keys', mine]
    expect(await run(args, { stdin: JSON.stringify(values) })).toEqual({
      code: 2,
      out: '',
      err: `ERR_USAGE: ${message}`,
    })
  })
})

test('a descriptor that is a terminal is not read: it would show what is typed', async () => {
  const { isatty } = tty
  tty.isatty = () => true
  syncBuiltinESMExports()
  try {
    expect(await run(['key', 'kcv', '--algorithm', 'aes-128', '--key-fd', '0'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^ERR_USAGE: --key-fd is a terminal, /),
    })
  } finally {
    tty.isatty = isatty
    syncBuiltinESMExports()
  }
})

test('a folder of onboard that cannot be finished is empty again', async () => {
  const dir = fresh()
  mkdirSync(dir)
  const io = keptIo()
  const x509 = await import('@peculiar/x509')
  const X509CertificateGenerator = {
    create: async () => ({
      toString: () => {
        // Somebody else writes there as well.
        writeFileSync(join(dir, 'jwe.certificate.pem'), '')
        return 'x'
      },
    }),
  }
  const command = onboardCommand(undefined, async () => ({ ...x509, X509CertificateGenerator }) as never)
  const names = ['--issuer-id', 'is_tbank01', '--endpoint', 'https://x', '--subject', 'O=X']
  expect(await main(['onboard', '--dir', dir, ...names], io, [command])).toBe(1)
  expect([readdirSync(dir), io.errors]).toEqual([[], ['ERR_UNEXPECTED: Error']])
  expect(JWE.kty).toBe('EC')
})

test('what is thrown and is no error has the name of its kind', () => {
  expect([reason('4929123456789012'), reason(new RangeError('4929123456789012'))]).toEqual([
    'string',
    'RangeError',
  ])
})

test('a program whose package is gone does not know its version', async () => {
  const { readFileSync: read } = fs
  fs.readFileSync = (() => '{"name":"another","version":"9"}') as never
  syncBuiltinESMExports()
  try {
    expect((await run(['--version'])).out).toBe('unknown')
  } finally {
    fs.readFileSync = read
    syncBuiltinESMExports()
  }
})

/** A block that nobody here would seal: an AES-256 PIN key under AES-128 (X9.143, 6 and 7). */
async function weaklySealed(kbpk: string): Promise<string> {
  const usage = 'key-block-protection'
  await using backend = await softwareBackend({
    keys: [{ kid: 'OLD', usage, algorithm: 'aes-128', material: kbpk }],
  })
  const key = await backend.bind({ kid: 'OLD', usage, hostDecipher: true })
  const { encipherment, authentication } = await protectionKeys(key, undefined)
  const payload = Buffer.concat([Buffer.from([1, 0]), Buffer.from(KBPK, 'hex'), Buffer.alloc(14, 9)])
  const header = 'D0144P0AE00E0000'
  const mac = await macOf('aes-128', authentication, Buffer.from(header), payload)
  const body = await withCipher('aes-128', encipherment, cipher => cipher.encipherCbc(mac, payload))
  return header + Buffer.concat([body, mac]).toString('hex').toUpperCase()
}

test('a key block of a KBPK that is too weak: opened and brought in with a warning, by its mode and check value', async () => {
  const block = await weaklySealed(AES)
  const own = file([{ kid: 'OLD', usage: 'key-block-protection', algorithm: 'aes-128', material: AES }])
  const use = ['--usage', 'pin-encryption', '--kbpk', 'OLD']
  const warning = expect.stringMatching(/^warning: the KBPK \(aes-128\) is weaker than the key/)
  const opened = await run(['key', 'block', 'open', ...use, '--keys', own], { stdin: block })
  expect(opened).toMatchObject({ code: 0, err: warning })

  const fake = new FakeToken()
  const stored = await run(
    [
      ...['key', 'import', '--from', 'clear', '--kid', 'OLD', '--usage', 'key-block-protection'],
      ...['--algorithm', 'aes-128', '--kcv', await kcvOf(AES), '--key-env', 'K'],
      ...['--import-clear-keys', ...TOKEN],
    ],
    { env: { ...env, K: AES } },
    fake,
  )
  expect(stored).toMatchObject({ code: 0, err: '' })
  const bring = ['key', 'import', '--from', 'block', ...use, '--kid', 'IN', '--import-clear-keys', ...TOKEN]
  const kcv = /KCV (\w+)/.exec(opened.out)?.[1] ?? ''
  const wrong = await run([...bring, '--mode', 'E', '--kcv', '000000'], { stdin: block }, fake)
  expect(wrong).toMatchObject({ code: 1, out: '', err: expect.stringContaining('check value') })
  const made = await run([...bring, '--mode', 'E', '--kcv', kcv, '--json'], { stdin: block }, fake)
  expect(made).toMatchObject({ code: 0, err: warning })
  const listed = JSON.parse((await run(['key', 'list', '--json', ...TOKEN], {}, fake)).out)
  expect(listed).toContainEqual(expect.objectContaining({ kid: 'IN', mode: 'E', algorithm: 'aes-256' }))
})
