/** What D1 opens: an answer that is sealed soundly, with each thing of its header and form that must not be so wrong by itself. */
import { expect, test } from 'vitest'
import { ecKeyPair } from '../../../test/support/key-pair.js'
import { requireContract } from '../src/contract.js'
import { craft, type Header, MAX_JWE, openAnswer, type P256Jwk } from '../src/jwe.js'

const jwkOf = (kid: string): P256Jwk =>
  ({ ...ecKeyPair().privateKey.export({ format: 'jwk' }), kid }) as unknown as P256Jwk
const own = jwkOf('D1')
const CONTENT = { pinValue: 'x', kid: 'y' }
const NO_EPK = 'a JWE whose epk is not a P-256 key'

const open = (header: (sound: Header) => Readonly<Record<string, unknown>>, to = own) =>
  openAnswer(craft(CONTENT, to, { header }), own)
const withEpk = (changes: object) => (sound: Header) => ({ ...sound, epk: { ...sound.epk, ...changes } })

test('what is sealed as D1 has it is opened; the ephemeral key is told by both coordinates', async () => {
  let epk: Header['epk'] = {}
  const found = await open(sound => {
    epk = sound.epk
    return sound
  })
  expect(found).toEqual({ plaintext: JSON.stringify(CONTENT), epk: `${epk['x']}.${epk['y']}` })
})

test.each<[string, (sound: Header) => Readonly<Record<string, unknown>>, string]>([
  ['another alg', sound => ({ ...sound, alg: 'dir' }), 'a JWE whose alg is not ECDH-ES'],
  ['another enc', sound => ({ ...sound, enc: 'A128GCM' }), 'a JWE whose enc is not A256GCM'],
  ['another kid', sound => ({ ...sound, kid: 'D2' }), "a JWE whose kid is not that of D1's key"],
  ['no kid', sound => ({ ...sound, kid: undefined }), "a JWE whose kid is not that of D1's key"],
  ['zip', sound => ({ ...sound, zip: 'DEF' }), 'a JWE with zip or crit'],
  ['crit', sound => ({ ...sound, crit: ['exp'], exp: 1 }), 'a JWE with zip or crit'],
  ['no epk', sound => ({ ...sound, epk: undefined }), NO_EPK],
  ['an epk that is null', sound => ({ ...sound, epk: null }), NO_EPK],
  ['an epk of another kind', withEpk({ kty: 'OKP' }), NO_EPK],
  ['an epk of another curve', withEpk({ crv: 'P-384' }), NO_EPK],
  ['an epk without x', withEpk({ x: undefined }), NO_EPK],
  ['an epk without y', withEpk({ y: undefined }), NO_EPK],
  ['an x that is short', withEpk({ x: 'A'.repeat(42) }), NO_EPK],
  ['a y that is long', withEpk({ y: 'A'.repeat(44) }), NO_EPK],
  ['an x in a list', withEpk({ x: ['A'.repeat(43)] }), NO_EPK],
  ['the private part', withEpk({ d: 'A'.repeat(43) }), 'a JWE whose epk has its private part'],
])('%s is said', async (_what, header, said) => {
  await expect(open(header)).rejects.toThrow(new RegExp(`^${said}$`))
})

test('what is sealed to somebody else under the kid of D1, and what is no text, does not open', async () => {
  const said = "a JWE that does not open with D1's key"
  await expect(open(sound => sound, { ...jwkOf('D1') })).rejects.toThrow(said)
  await expect(openAnswer(craft(CONTENT, own, { plaintext: () => Buffer.of(0xff) }), own)).rejects.toThrow(
    said,
  )
})

test('the longest JWE of the contract is in it, and one more character is not', () => {
  const answer = (length: number) => ({
    status: 200,
    headers: { 'content-type': 'application/json' },
    text: JSON.stringify({ type: 'ISO0', encryptedPinBlock: 'x'.repeat(length) }),
  })
  expect(MAX_JWE).toBe(8192)
  requireContract('getPIN', answer(MAX_JWE))
  expect(() => requireContract('getPIN', answer(MAX_JWE + 1))).toThrow('200 with a wrong encryptedPinBlock')
})
