/** `audit verify`: a chain that is intact, and every way in which it is not. */

import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { main } from '../../src/cli/main.js'
import { type AuditEvent, chainedAudit, softwareSigner } from '../../src/d1.js'
import { ecKeyPair } from '../support/key-pair.js'
import { keptIo } from './support/io.js'
import { wiping } from './support/program.js'

const folder = mkdtempSync(join(tmpdir(), 'cli-audit-'))
afterAll(() => rmSync(folder, { recursive: true }))
const HEX = '5a'.repeat(32)
const lines: string[] = []
beforeAll(async () => {
  const audit = chainedAudit({ key: Buffer.from(HEX, 'hex'), write: line => void lines.push(line) })
  for (let sequence = 1; sequence <= 5; sequence++) await audit({ sequence } as AuditEvent)
})

async function run(text: string | undefined, args: readonly string[] = ['--key-env', 'KEY'], key = HEX) {
  const path = join(folder, 'audit.log')
  if (text !== undefined) writeFileSync(path, text)
  const io = keptIo({ env: { KEY: key } })
  const whole = ['audit', 'verify', text === undefined ? join(folder, 'none') : path, ...args]
  const code = await wiping(args, () => main(whole, io), { keys: [HEX] })
  return { code, said: [...io.output, ...io.errors].join('\n'), env: io.env }
}

test('an intact chain: exit code 0, its length and its last HMAC; the key is gone from the environment', async () => {
  const { code, said, env } = await run(`${lines.join('\n')}\n`)
  const last = JSON.parse(lines.at(-1) ?? '').mac
  expect([code, said]).toEqual([0, `5 lines, intact; last: ${last}`])
  expect(env).toEqual({})
  expect(await run(lines.join('\n'), ['--key-env', 'KEY', '--last', last])).toMatchObject({ code: 0 })
  expect(await run('')).toMatchObject({ code: 0, said: '0 lines, intact; last: none' })
})

test.each([
  [
    'a number that was changed',
    () => lines.map(line => line.replace('"sequence":3', '"sequence":8')),
    'line 3: its HMAC',
  ],
  ['a line that was left out', () => lines.toSpliced(1, 1), 'line 2: it does not follow'],
  ['two that changed places', () => [lines[1], lines[0], ...lines.slice(2)], 'line 1: it does not follow'],
  ['a line of something else', () => lines.toSpliced(3, 0, 'hello'), 'line 4: it is no line'],
] as const)('%s: exit code 1, and the first line that is not right', async (_, change, message) => {
  const { code, said } = await run(change().join('\n'))
  expect(code).toBe(1)
  expect(said).toContain(message)
})

test('another key, and an end that was cut off', async () => {
  expect(await run(lines.join('\n'), ['--key-env', 'KEY'], 'a5'.repeat(32))).toMatchObject({ code: 1 })
  const last = ['--key-env', 'KEY', '--last', JSON.parse(lines.at(-1) ?? '').mac]
  const { code, said } = await run(lines.slice(0, -1).join('\n'), last)
  expect([code, said]).toEqual([1, expect.stringContaining('the end was cut off')])
})

async function signedLines() {
  const pair = ecKeyPair()
  const signer = softwareSigner({ kid: 'SIGN-1', privateKey: pair.privateKey })
  const signed: string[] = []
  const audit = chainedAudit({ key: Buffer.from(HEX, 'hex'), write: line => void signed.push(line), signer })
  for (const sequence of [1, 2]) await audit({ sequence } as AuditEvent)
  return { signed, jwk: { ...pair.publicKey.export({ format: 'jwk' }), kid: 'SIGN-1' } }
}

test.each(['--key-env', '--key-fd'])(
  'signed lines whose public key stands beside %s: their HMACs are looked at, too',
  async option => {
    const { signed, jwk } = await signedLines()
    const file = join(folder, 'beside.jwk')
    writeFileSync(file, JSON.stringify(jwk))
    const hmac = join(folder, 'hmac')
    for (const [key, code, said] of [
      [HEX, 0, '2 lines, intact; '],
      ['a5'.repeat(32), 1, 'line 1: its HMAC'],
    ] as const) {
      writeFileSync(hmac, key)
      const descriptor = openSync(hmac, 'r')
      try {
        const place = option === '--key-env' ? 'KEY' : `${descriptor}`
        const found = await run(signed.join('\n'), ['--public', file, option, place], key)
        expect(found).toMatchObject({ code, said: expect.stringContaining(said) })
        // No child of this process gets it, and no report.
        expect(found.env).toEqual(option === '--key-env' ? {} : { KEY: key })
      } finally {
        closeSync(descriptor)
      }
    }
  },
)

test('signed lines, by the public key alone: no secret is asked for', async () => {
  const { signed, jwk } = await signedLines()
  const file = join(folder, 'public.jwk')
  for (const content of [jwk, { keys: [jwk] }]) {
    writeFileSync(file, JSON.stringify(content))
    for (const key of [[], ['--key-env', 'KEY']]) {
      const found = await run(signed.join('\n'), ['--public', file, ...key])
      expect(found).toMatchObject({ code: 0, said: expect.stringContaining('2 lines, intact') })
    }
    expect(await run(lines.join('\n'), ['--public', file])).toMatchObject({
      code: 1,
      said: expect.stringContaining('line 1: it has no signature'),
    })
  }
  writeFileSync(file, 'no JSON')
  expect(await run('', ['--public', file])).toMatchObject({ code: 2 })
  writeFileSync(file, '{}')
  expect((await run('', ['--public', file])).code).not.toBe(0)
})

test('the same as JSON', async () => {
  const json = async (text: string, ...more: string[]) => {
    const { code, said } = await run(text, ['--key-env', 'KEY', '--json', ...more])
    return [code, JSON.parse(said.slice(0, said.lastIndexOf('}') + 1))]
  }
  const { mac } = JSON.parse(lines.at(-1) ?? '')
  const whole = { intact: true, lines: 5, last: mac, isWhole: true }
  expect(await json(lines.join('\n'))).toEqual([0, whole])
  expect(await json(lines.join('\n'), '--last', HEX)).toEqual([1, { ...whole, isWhole: false }])
  expect(await json(lines.slice(1).join('\n'))).toEqual([1, { intact: false, line: 1, problem: 'order' }])
})

test.each([
  ['no key', [], HEX, 'use --key-fd or --key-env'],
  ['two of them', ['--key-env', 'KEY', '--key-fd', '3'], HEX, 'are two places'],
  ['a variable that is not there', ['--key-env', 'NONE'], HEX, 'no such variable'],
  ['a key that is no hex', ['--key-env', 'KEY'], 'secret!', '64 or more'],
  ['a key that is too short', ['--key-env', 'KEY'], '5a'.repeat(31), '64 or more'],
  ['a key whose last byte is half there', ['--key-env', 'KEY'], `${HEX}5`, '64 or more'],
  ['a last line that is none', ['--key-env', 'KEY', '--last', 'x'], HEX, '--last must be'],
  ['a last line in capitals', ['--key-env', 'KEY', '--last', 'AB'.repeat(32)], HEX, '--last must be'],
])('%s: exit code 2', async (_, args, key, message) => {
  const { code, said } = await run('', args, key)
  expect([code, said]).toEqual([2, expect.stringContaining(message)])
  expect(said).not.toContain(key)
})

test('a line that does not end is not read to the end of memory; a device is none', async () => {
  expect(await run(`${lines[0]}\n${'x'.repeat(2_000_000)}`)).toMatchObject({
    code: 2,
    said: 'ERR_USAGE: the file has a line of more than 1048576 characters',
  })
  const io = keptIo({ env: { KEY: HEX } })
  expect(await main(['audit', 'verify', '/dev/zero', '--key-env', 'KEY'], io)).toBe(2)
  for (const path of ['/dev/zero', '/nowhere', folder])
    expect(await run(lines[0], ['--public', path])).toMatchObject({
      code: 2,
      said: 'ERR_USAGE: --public: the file cannot be read, or is no JSON',
    })
})

test('a chain that is read in several pieces, and a key of more than 32 bytes', async () => {
  const key = 'c3'.repeat(40)
  const chain: string[] = []
  const audit = chainedAudit({ key: Buffer.from(key, 'hex'), write: line => void chain.push(line) })
  // Letters of two bytes: pieces end within one of them.
  for (let sequence = 1; sequence <= 400; sequence++)
    await audit({ sequence, problem: 'ü'.repeat(100 + (sequence % 2)) } as unknown as AuditEvent)
  expect(Buffer.byteLength(chain.join('\n'))).toBeGreaterThan(2 * 65_536)
  expect(await run(chain.join('\n'), undefined, key)).toMatchObject({
    code: 0,
    said: expect.stringContaining('400 lines, intact'),
  })
})

test('lines end as Windows ends them, and in nothing else', async () => {
  expect(await run(lines.join('\r\n'))).toMatchObject({ code: 0 })
  const chain: string[] = []
  const audit = chainedAudit({ key: Buffer.from(HEX, 'hex'), write: line => void chain.push(line) })
  // JSON has U+2028 as it is, and some readers end a line there.
  await audit({ problem: 'a\u2028b' } as unknown as AuditEvent)
  expect(await run(chain.join('\n'))).toMatchObject({ code: 0 })
})

test('no file, and no verb: exit code 2', async () => {
  expect(await run(undefined)).toMatchObject({ code: 2 })
  expect(await main(['audit', 'look'], keptIo({}))).toBe(2)
  expect(await main(['audit', 'verify'], keptIo({}))).toBe(2)
})
