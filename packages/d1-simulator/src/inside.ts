/**
 * Set PIN messages whose outside is sound and whose inside is not: what the issuer must refuse in one way, whatever it
 * is, so that nobody learns which check failed.
 */
import { generateKeyPairSync } from 'node:crypto'
import { decodeProtectedHeader } from 'jose'
import { craft, otherCharacter, type P256Jwk, publicHalf, seal } from './jwe.js'
import { WRONG_BLOCKS } from './pin-block.js'
import type { SeccosContent } from './seccos.js'
import type { Card, World } from './world.js'

/** Makes the body of a Set PIN. */
export type MakeMessage = (world: World, card: Card, pin: string) => Promise<string>

export type Messages = Readonly<Record<string, MakeMessage>>

const outer = (type: string, encryptedPinBlock: unknown): string =>
  JSON.stringify({ type, encryptedPinBlock })

/** Changes one character of a segment; its last one may have bits that count for nothing. */
function flip(jwe: string, segment: number): string {
  const change = (text: string): string => otherCharacter(text.charAt(0)) + text.slice(1)
  return jwe
    .split('.')
    .map((text, i) => (i === segment ? change(text) : text))
    .join('.')
}

function otherKey(kid: string, curve = 'P-256'): P256Jwk {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: curve })
  return { ...publicKey.export({ format: 'jwk' }), kid } as P256Jwk
}

type FromSound = (jwe: string, world: World) => string

/** Changes of a sound JWE. */
const TAMPERED: Readonly<Record<string, FromSound>> = {
  'a tag changed': jwe => flip(jwe, 4),
  'a ciphertext changed': jwe => flip(jwe, 3),
  'an iv changed': jwe => flip(jwe, 2),
  'a tag cut off': jwe => jwe.slice(0, jwe.lastIndexOf('.') + 1),
  'a tag of 12 bytes': jwe => jwe.slice(0, jwe.lastIndexOf('.') + 17),
  'an encrypted key': jwe => jwe.replace('..', '.AAAA.'),
  'four segments': jwe => jwe.slice(0, jwe.lastIndexOf('.')),
  'six segments': jwe => `${jwe}.AAAA`,
  'base64 with padding': jwe => `${jwe}==`,
  'white space': jwe => ` ${jwe}`,
  'not a JWE': () => 'x',
  'a header changed': jwe => {
    const changed = JSON.stringify({ ...decodeProtectedHeader(jwe), typ: 'JWE' })
    return Buffer.from(changed).toString('base64url') + jwe.slice(jwe.indexOf('.'))
  },
}

type Header = (world: World) => Readonly<Record<string, unknown>>

/** Headers over a JWE that is sound for its header: only the header is to be refused. */
const HEADERS: Readonly<Record<string, Header>> = {
  'alg none': () => ({ alg: 'none' }),
  'alg dir': () => ({ alg: 'dir' }),
  'no alg': () => ({ alg: undefined }),
  'no enc': () => ({ enc: undefined }),
  'zip DEF': () => ({ zip: 'DEF' }),
  'an extension that is critical': () => ({ crit: ['x'], x: 1 }),
  'no epk': () => ({ epk: undefined }),
  'an epk that is no point': () => ({
    epk: { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'B'.repeat(42).concat('A') },
  }),
  'an epk of P-384': () => ({ epk: { ...publicHalf(otherKey('x', 'P-384')), kid: undefined } }),
  'a foreign kid': () => ({ kid: 'nobody' }),
  'the kid of D1': ({ setup }) => ({ kid: setup.d1Jwk.kid }),
}

/** What jose seals soundly, though not as D1 does. */
const ALGORITHMS: Readonly<Record<string, object>> = {
  'enc A128GCM': { enc: 'A128GCM' },
  'enc A256CBC-HS512': { enc: 'A256CBC-HS512' },
  'alg ECDH-ES+A256KW': { alg: 'ECDH-ES+A256KW' },
}

type Iso0Content = (sound: { readonly pinValue: string; readonly kid: string }) => object | string

/** Contents of a JWE of type ISO0 that are not one. */
const ISO0_CONTENTS: Readonly<Record<string, Iso0Content>> = {
  'a content that is not JSON': () => 'x',
  'a content that is a list': sound => [sound],
  'a content that is null': () => 'null',
  'no pinValue': ({ kid }) => ({ kid }),
  'no kid of the PIN block': ({ pinValue }) => ({ pinValue }),
  'a foreign kid of the PIN block': sound => ({ ...sound, kid: 'nobody' }),
  'a kid that is a number': sound => ({ ...sound, kid: 1 }),
  'a kid of 129 characters': sound => ({ ...sound, kid: 'x'.repeat(129) }),
  'a pinValue of 15 digits': sound => ({ ...sound, pinValue: sound.pinValue.slice(1) }),
  'a pinValue of two blocks': sound => ({ ...sound, pinValue: sound.pinValue.repeat(2) }),
  'a pinValue that is not hex': sound => ({ ...sound, pinValue: 'x'.repeat(16) }),
  'a pinValue that is a number': sound => ({ ...sound, pinValue: 1234567890123456 }),
  'pinValue twice': ({ pinValue, kid }) =>
    `{"pinValue":"0000000000000000","kid":${JSON.stringify(kid)},"pinValue":"${pinValue}"}`,
}

function mapped<T>(table: Readonly<Record<string, T>>, make: (value: T) => MakeMessage): Messages {
  return Object.fromEntries(Object.entries(table).map(([name, value]) => [name, make(value)]))
}

/** Messages of type ISO0. */
export const ISO0_MESSAGES: Messages = {
  ...mapped(TAMPERED, change => async (world, card, pin) => {
    const jwe = await seal(world.iso0(card, pin), world.setup.issuerJwk)
    return outer('ISO0', change(jwe, world))
  }),
  ...mapped(
    HEADERS,
    header => async (world, card, pin) =>
      outer('ISO0', craft(world.iso0(card, pin), world.setup.issuerJwk, { header: header(world) })),
  ),
  ...mapped(
    ALGORITHMS,
    header => async (world, card, pin) =>
      outer('ISO0', await seal(world.iso0(card, pin), world.setup.issuerJwk, header)),
  ),
  'sealed to another key': async (world, card, pin) =>
    outer('ISO0', await seal(world.iso0(card, pin), otherKey(world.setup.issuerJwk.kid))),
  ...mapped(
    ISO0_CONTENTS,
    content => async (world, card, pin) => world.message('ISO0', content(world.iso0(card, pin))),
  ),
  ...mapped(WRONG_BLOCKS, block => async (world, card, pin) => {
    const { key, kid } = world.setup.zpk
    const pinValue = block({ pin, pan: card.pan, zpk: key }).toString('hex').toUpperCase()
    return world.message('ISO0', { pinValue, kid })
  }),
}

type SeccosChange = (sound: SeccosContent) => object | string

const flipHex = (hex: string): string => (hex.startsWith('0') ? '1' : '0') + hex.slice(1)

/** Contents of a JWE of type 3DES_SECCOS, for an intdatag that is open. */
const SECCOS_CONTENTS: Readonly<Record<string, SeccosChange>> = {
  'a wrong MAC': sound => ({ ...sound, macValue: flipHex(sound.macValue) }),
  'a MAC cut short': sound => ({ ...sound, macValue: sound.macValue.slice(0, -2) }),
  'an empty MAC': sound => ({ ...sound, macValue: '' }),
  'another PRW under the MAC': sound => ({ ...sound, prwValue: flipHex(sound.prwValue) }),
  'a data set in small letters': sound => ({ ...sound, prwDataSet: `${sound.prwDataSet.slice(0, -1)}a` }),
  'a data set of 122 bytes': sound => ({ ...sound, prwDataSet: sound.prwDataSet.slice(2) }),
  'a data set of 124 bytes': sound => ({ ...sound, prwDataSet: `${sound.prwDataSet}00` }),
  'a foreign kid of the PRW': sound => ({ ...sound, prwKid: 'nobody' }),
  'a foreign kid of the MAC': sound => ({ ...sound, macKid: 'nobody' }),
  'an intdatag of 19 characters': sound => ({ ...sound, intdatag: sound.intdatag.slice(1) }),
  'an intdatag that is a number': sound => ({ ...sound, intdatag: 1 }),
  'a member twice': sound => JSON.stringify(sound).replace('{', '{"macValue":"0000000000000000",'),
  ...Object.fromEntries(
    (['intdatag', 'prwDataSet', 'prwValue', 'prwKid', 'macValue', 'macKid'] as const).map(name => [
      `no ${name}`,
      (sound: SeccosContent) => ({ ...sound, [name]: undefined }),
    ]),
  ),
}

/** Messages of type 3DES_SECCOS; each takes a counter of its own. */
export const SECCOS_MESSAGES: Messages = {
  ...mapped(
    SECCOS_CONTENTS,
    change => async (world, card, pin) =>
      world.message('3DES_SECCOS', change(world.seccos(card, await world.counter(card), pin))),
  ),
  'a data set that shows the PAN': async (world, card, pin) =>
    world.message('3DES_SECCOS', world.seccos(card, await world.counter(card), pin, {}, { unmasked: true })),
  'a MAC under another key': async (world, card, pin) => {
    const { mac, prw } = world.seccosKeys()
    const content = world.seccos(card, await world.counter(card), pin, { mac: { ...prw, kid: mac.kid } })
    return world.message('3DES_SECCOS', content)
  },
  'another pcc': async (world, card, pin) => {
    const { pcc, intdatag } = await world.counter(card)
    const other = String((Number(pcc) + 1) % 10_000).padStart(4, '0')
    return world.message('3DES_SECCOS', world.seccos(card, { pcc: other, intdatag }, pin))
  },
  'an intdatag that was never issued': async (world, card, pin) => {
    const { pcc, intdatag } = await world.counter(card)
    const other = Array.from(intdatag).reverse().join('').replaceAll(/[A-Z]/g, 'x')
    return world.message('3DES_SECCOS', world.seccos(card, { pcc, intdatag: `${other.slice(1)}z` }, pin))
  },
  'the content of type ISO0': async (world, card, pin) => world.message('3DES_SECCOS', world.iso0(card, pin)),
}
