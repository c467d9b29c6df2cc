/** A ceremony as officers type it: slips are typed again, a key whose record cannot be made does not stay; secrets from descriptors. */
import { closeSync, openSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { keyCheckValue } from '../../src/index.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { AES, file, fresh, run, TOKEN } from './support/program.js'

const SECOND = '0F1E2D3C4B5A69788796A5B4C3D2E1F0'
const BOTH = Buffer.from(AES, 'hex').map((byte, i) => byte ^ (Buffer.from(SECOND, 'hex')[i] ?? 0))
const kcvOf = async (material: string | Uint8Array): Promise<string> =>
  (await keyCheckValue({ material, algorithm: 'aes-128' })).checkValue.value

async function ceremony(
  secrets: readonly string[],
  more: readonly string[] = [],
  fake = new FakeToken(),
  onHush = (_hushed: boolean): void => {},
) {
  const kcv = await kcvOf(BOTH)
  const args = [
    ...['key', 'import', '--from', 'components', '--parts', '2', '--kid', 'Z', '--usage', 'cmac'],
    ...['--algorithm', 'aes-128', '--kcv', kcv, '--import-clear-keys', ...TOKEN, ...more],
  ]
  const found = await run(args, { secrets, onHush }, fake)
  const { out } = await run(['key', 'list', '--json', ...TOKEN], {}, fake)
  const kids = (JSON.parse(out) as { kid: string }[]).map(({ kid }) => kid).sort()
  return { ...found, kids }
}

test('a component that was mistyped is typed again, spaces and all; nothing of it is said', async () => {
  const [first, second] = [await kcvOf(AES), await kcvOf(SECOND)]
  const spaced = SECOND.replaceAll(/.{4}/g, '$& ')
  const { code, err, kids } = await ceremony([
    'Adams',
    AES,
    '000000',
    AES.slice(2),
    first,
    AES,
    first,
    'Brown',
    spaced,
    second,
  ])
  expect([code, kids]).toEqual([0, ['Z']])
  expect(err.split('\n').map(line => line.replace(/^.*: /, ''))).toEqual([
    'enter it again',
    'enter it again',
    'taken',
    'taken',
  ])
  for (const secret of [AES, SECOND]) expect(err).not.toContain(secret)
})

test('three times at most; then nothing is in the token', async () => {
  const wrong = [AES, '000000']
  const { code, err, kids } = await ceremony(['Adams', ...wrong, ...wrong, ...wrong, ...wrong])
  expect([code, kids]).toEqual([1, []])
  expect(err).toMatch(/\nERR_KEY_CHECK_VALUE: [^\n]*component 1[^\n]*$/)
})

test.each([
  ['component', 'AES', ['Adams', '000000']],
  ['kcv', 'PIN', ['Adams', AES]],
])('a %s that does not come from the terminal is not asked for again', async (what, variable, typed) => {
  // What is typed after it would be taken for another's.
  const more = [`--component-1-${what}-env`, variable]
  const { code, err, kids } = await ceremony([...typed, ...typed.slice(1), ...typed.slice(1)], more)
  expect([code, kids]).toEqual([1, []])
  expect(err).toMatch(/^ERR_KEY_CHECK_VALUE: [^\n]*component 1[^\n]*$/)
})

test('the terminal is given back once, after an entry that fails as after the last', async () => {
  const hushed: boolean[] = []
  const onHush = (is: boolean): unknown => hushed.push(is)
  const first = ['Adams', AES, await kcvOf(AES)]
  const second = [SECOND, await kcvOf(SECOND)]
  expect(await ceremony([...first, 'Brown', ...second], [], undefined, onHush)).toMatchObject({ code: 0 })
  expect(hushed.splice(0)).toEqual([true, false])
  const wrong = ['Brown', ...Array.from({ length: 3 }, () => [SECOND, '000000']).flat()]
  expect(await ceremony([...first, ...wrong], [], undefined, onHush)).toMatchObject({ code: 1 })
  expect(hushed).toEqual([true, false])
})

test('the record is signed; a key whose record cannot be written does not stay', async () => {
  const fake = new FakeToken()
  const signer = ['--kid', 'SIGN', '--usage', 'jwt-signing', '--algorithm', 'ec-p256']
  await run(['key', 'generate', ...signer, ...TOKEN], {}, fake)
  const typed = ['Adams', AES, await kcvOf(AES), 'Brown', SECOND, await kcvOf(SECOND)]
  const record = (path: string, key = 'SIGN') =>
    ceremony(typed, ['--record', path, '--record-key', key], fake)
  // A folder that says it can be written, and takes no file.
  expect(await record('/proc/self/x')).toMatchObject({ code: 2, kids: ['SIGN'] })
  expect(await record(fresh(), 'NONE')).toMatchObject({ code: 1, kids: ['SIGN'] })
  expect((await record(file('there'))).err).toMatch(/^ERR_USAGE: --record is there already/)
  const path = fresh()
  expect(await record(path)).toMatchObject({ code: 0, kids: ['SIGN', 'Z'] })
  expect(readFileSync(path, 'utf8').split('.')).toHaveLength(3)
})

test('a secret from a descriptor; what is empty, too long or gone is refused', async () => {
  const kcv = async (content: string) => {
    const descriptor = openSync(file(content), 'r')
    try {
      return await run(['key', 'kcv', '--algorithm', 'aes-128', '--key-fd', String(descriptor)])
    } finally {
      closeSync(descriptor)
    }
  }
  expect(await kcv(`${AES}\n`)).toMatchObject({ code: 0, err: '' })
  for (const content of ['', '0'.repeat(5000)])
    expect(await kcv(content)).toMatchObject({
      code: 2,
      err: 'ERR_USAGE: --key-fd gives no secret, or too much',
    })
})
