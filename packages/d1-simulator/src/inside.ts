/**
 * Set PIN messages whose outside is sound and whose inside is not: what the issuer must refuse in one way, whatever it
 * is, so that nobody learns which check failed. Each is made together with its twin, the same message without the one
 * thing: where an issuer takes the twin, it can only have refused the other for that thing.
 */
import { deflateRawSync } from 'node:zlib'
import { decodeProtectedHeader } from 'jose'
import { tdea } from './ciphers.js'
import { smallOrderPoint } from './invalid-curve.js'
import { type Craft, craft, type Header, newKey, otherCharacter, type P256Jwk, seal } from './jwe.js'
import { clearBlock, nextPin, WRONG_BLOCKS } from './pin-block.js'
import { NotRun } from './problems.js'
import type { SeccosContent, Twist } from './seccos.js'
import type { Card, World } from './world.js'

/** The body of a Set PIN with one thing wrong, and its twin without that thing. */
export interface Message {
  readonly wrong: string
  readonly sound: string
}

/** Makes a message for a card, with a PIN of its own where it wants to. */
export type MakeMessage = (world: World, card: Card, pin: string) => Promise<Message>

export type Messages = Readonly<Record<string, MakeMessage>>

/** Capitals for small letters, and the other way round. */
export function otherLetters(text: string): string {
  return text.replaceAll(/[a-z]/gi, letter =>
    letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase(),
  )
}

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

/** Changes of a sound JWE. */
const TAMPERED: Readonly<Record<string, (jwe: string) => string>> = {
  'a tag changed': jwe => flip(jwe, 4),
  // The last character that counts as a whole: of 16 bytes, the one behind it holds two bits.
  'the end of a tag changed': jwe =>
    jwe.slice(0, -2) + otherCharacter(jwe.charAt(jwe.length - 2)) + jwe.slice(-1),
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

const withHeader = (changes: Readonly<Record<string, unknown>>) => (): Craft => ({
  header: sound => ({ ...sound, ...changes }),
})

/** A key that does not check whether the point is on the curve opens some of these (all but one key in twelve). */
const offCurve = (order: 2 | 3 | 4) => (): Craft => {
  const { x, y, z } = smallOrderPoint(order)
  return { z, header: sound => ({ ...sound, epk: { ...sound.epk, x, y } }) }
}

/** JWEs that are sound for their header: whoever passes over that one thing can open them. */
const CRAFTED: Readonly<Record<string, (world: World) => Craft>> = {
  'alg none': withHeader({ alg: 'none' }),
  'alg dir': withHeader({ alg: 'dir' }),
  'no alg': withHeader({ alg: undefined }),
  'no enc': withHeader({ enc: undefined }),
  'zip DEF': () => ({ header: sound => ({ ...sound, zip: 'DEF' }), plaintext: json => deflateRawSync(json) }),
  'an extension that is critical': withHeader({ crit: ['x'], x: 1 }),
  'no epk': withHeader({ epk: undefined }),
  'an epk off the curve, of order 2': offCurve(2),
  'an epk off the curve, of order 3': offCurve(3),
  'an epk off the curve, of order 4': offCurve(4),
  'an epk that says P-384': () => ({ header: sound => ({ ...sound, epk: { ...sound.epk, crv: 'P-384' } }) }),
  'a foreign kid': withHeader({ kid: 'nobody' }),
  'the kid of D1': ({ setup }) => ({ header: (sound: Header) => ({ ...sound, kid: setup.d1Jwk.kid }) }),
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
  'a content that is not JSON': sound => `${JSON.stringify(sound)}x`,
  'a content that is a list': sound => [sound],
  'a content that is null': () => 'null',
  'no pinValue': ({ kid }) => ({ kid }),
  'no kid of the PIN block': ({ pinValue }) => ({ pinValue }),
  'a foreign kid of the PIN block': sound => ({ ...sound, kid: 'nobody' }),
  'a kid in a list': sound => ({ ...sound, kid: [sound.kid] }),
  'a pinValue in a list': sound => ({ ...sound, pinValue: [sound.pinValue] }),
  'a pinValue of 15 digits': sound => ({ ...sound, pinValue: sound.pinValue.slice(1) }),
  'a pinValue of two blocks': sound => ({ ...sound, pinValue: sound.pinValue.repeat(2) }),
  'a pinValue with more after the hex': sound => ({ ...sound, pinValue: `${sound.pinValue}zz` }),
  'pinValue twice': ({ pinValue, kid }) =>
    `{"pinValue":"0000000000000000","kid":${JSON.stringify(kid)},"pinValue":"${pinValue}"}`,
}

function mapped<T>(table: Readonly<Record<string, T>>, make: (value: T) => MakeMessage): Messages {
  return Object.fromEntries(Object.entries(table).map(([name, value]) => [name, make(value)]))
}

/** A block whose hex digits are a number that JSON holds exactly: for about one PIN in 2,000. */
const pinValueAsNumber: MakeMessage = async (world, card, pin) => {
  const { key, kid } = world.setup.zpk
  for (let next = pin.padEnd(8, '0'); ; next = nextPin(next)) {
    const pinValue = tdea('encipher', key, clearBlock(next, card.pan)).toString('hex')
    if (!/^[1-9]\d{15}$/.test(pinValue) || String(Number(pinValue)) !== pinValue) continue
    return {
      wrong: await world.message('ISO0', { pinValue: Number(pinValue), kid }),
      sound: await world.message('ISO0', { pinValue, kid }),
    }
  }
}

/** Messages of type ISO0. */
export const ISO0_MESSAGES: Messages = {
  ...mapped(TAMPERED, change => async (world, card, pin) => {
    const jwe = await seal(world.iso0(card, pin), world.setup.issuerJwk)
    return { wrong: outer('ISO0', change(jwe)), sound: outer('ISO0', jwe) }
  }),
  ...mapped(CRAFTED, change => async (world, card, pin) => {
    const make = (how?: Craft): string =>
      outer('ISO0', craft(world.iso0(card, pin), world.setup.issuerJwk, how))
    return { wrong: make(change(world)), sound: make() }
  }),
  ...mapped(ALGORITHMS, header => async (world, card, pin) => {
    const make = async (how?: object): Promise<string> =>
      outer('ISO0', await seal(world.iso0(card, pin), world.setup.issuerJwk, how))
    return { wrong: await make(header), sound: await make() }
  }),
  'sealed to another key': async (world, card, pin) => {
    const make = async (to: P256Jwk): Promise<string> => outer('ISO0', await seal(world.iso0(card, pin), to))
    return {
      wrong: await make({ ...newKey().jwk, kid: world.setup.issuerJwk.kid }),
      sound: await make(world.setup.issuerJwk),
    }
  },
  ...mapped(ISO0_CONTENTS, content => async (world, card, pin) => {
    const sound = world.iso0(card, pin)
    return { wrong: await world.message('ISO0', content(sound)), sound: await world.message('ISO0', sound) }
  }),
  'a pinValue that is a number': pinValueAsNumber,
  ...mapped(WRONG_BLOCKS, block => async (world, card, pin) => {
    const { key, kid } = world.setup.zpk
    const pinValue = block({ pin, pan: card.pan, zpk: key }).toString('hex').toUpperCase()
    return {
      wrong: await world.message('ISO0', { pinValue, kid }),
      sound: await world.message('ISO0', world.iso0(card, pin)),
    }
  }),
}

const flipHex = (hex: string): string =>
  (Number.parseInt(hex.charAt(0), 16) ^ 1).toString(16).toUpperCase() + hex.slice(1)
const flipLast = (hex: string): string => hex.slice(0, -1) + flipHex(hex.slice(-1))

/** Contents of a JWE of type 3DES_SECCOS, for an intdatag that is open. */
const SECCOS_CONTENTS: Readonly<Record<string, (sound: SeccosContent) => object | string>> = {
  'a wrong MAC': sound => ({ ...sound, macValue: flipHex(sound.macValue) }),
  'a MAC whose last digit is wrong': sound => ({ ...sound, macValue: flipLast(sound.macValue) }),
  'a MAC cut short': sound => ({ ...sound, macValue: sound.macValue.slice(0, -2) }),
  'an empty MAC': sound => ({ ...sound, macValue: '' }),
  'a foreign kid of the PRW': sound => ({ ...sound, prwKid: 'nobody' }),
  'a foreign kid of the MAC': sound => ({ ...sound, macKid: 'nobody' }),
  'an intdatag of 19 characters': sound => ({ ...sound, intdatag: sound.intdatag.slice(1) }),
  'an intdatag in a list': sound => ({ ...sound, intdatag: [sound.intdatag] }),
  'a macValue in a list': sound => ({ ...sound, macValue: [sound.macValue] }),
  'a data set in a list': sound => ({ ...sound, prwDataSet: [sound.prwDataSet] }),
  'a member twice': sound => JSON.stringify(sound).replace('{', '{"macValue":"0000000000000000",'),
  ...Object.fromEntries(
    (['intdatag', 'prwDataSet', 'prwValue', 'prwKid', 'macValue', 'macKid'] as const).map(name => [
      `no ${name}`,
      (sound: SeccosContent) => ({ ...sound, [name]: undefined }),
    ]),
  ),
}

/** Both for one intdatag: the wrong one first, which leaves it open. */
async function pair(world: World, wrong: object | string, sound: object): Promise<Message> {
  return {
    wrong: await world.message('3DES_SECCOS', wrong),
    sound: await world.message('3DES_SECCOS', sound),
  }
}

/** Data sets that are wrong in one thing, each under a MAC that is right for it. */
const TWISTS: Readonly<Record<string, Twist>> = {
  'a data set of 122 bytes': { shown: dataSet => dataSet.subarray(0, -1) },
  'a data set of 124 bytes': { shown: dataSet => Buffer.concat([dataSet, Buffer.alloc(1)]) },
  'a data set that shows the PAN': { unmasked: true },
}

/** Random bytes make each data set another. */
const FRESH_CONTENTS = 20

/** Messages of type 3DES_SECCOS; each takes a counter of its own. */
export const SECCOS_MESSAGES: Messages = {
  ...mapped(SECCOS_CONTENTS, change => async (world, card, pin) => {
    const sound = world.seccos(card, await world.counter(card), pin)
    return pair(world, change(sound), sound)
  }),
  ...mapped(TWISTS, twist => async (world, card, pin) => {
    const counter = await world.counter(card)
    const make = (how?: Twist): SeccosContent => world.seccos(card, counter, pin, {}, how)
    return pair(world, make(twist), make())
  }),
  'another PRW under the MAC': async (world, card, pin) => {
    const { profile } = world.seccosKeys()
    if (!profile.mac.inputs.some(({ input }) => input === 'prw'))
      throw new NotRun('the MAC does not cover the PRW')
    const sound = world.seccos(card, await world.counter(card), pin)
    return pair(world, { ...sound, prwValue: flipHex(sound.prwValue) }, sound)
  },
  'a data set in small letters': async (world, card, pin) => {
    const counter = await world.counter(card)
    for (let i = 0; i < FRESH_CONTENTS; i++) {
      const sound = world.seccos(card, counter, pin)
      const prwDataSet = sound.prwDataSet.toLowerCase()
      if (prwDataSet !== sound.prwDataSet) return pair(world, { ...sound, prwDataSet }, sound)
    }
    throw new NotRun('no data set of this card has a letter')
  },
  'a MAC under another key': async (world, card, pin) => {
    const { mac, prw } = world.seccosKeys()
    const counter = await world.counter(card)
    const wrong = world.seccos(card, counter, pin, { mac: { ...prw, kid: mac.kid } })
    return pair(world, wrong, world.seccos(card, counter, pin))
  },
  'another pcc': async (world, card, pin) => {
    const { profile } = world.seccosKeys()
    // By a profile without the field, the message would be sound whatever the counter says.
    if (!profile.fields.some(({ id }) => id === 'pcc')) throw new NotRun('the profile has no field pcc')
    const { pcc, intdatag } = await world.counter(card)
    const other = String((Number(pcc) + 1) % 10_000).padStart(4, '0')
    const make = (of: string): SeccosContent => world.seccos(card, { pcc: of, intdatag }, pin)
    return pair(world, make(other), make(pcc))
  },
  'an intdatag that was never issued': async (world, card, pin) => {
    const { pcc, intdatag } = await world.counter(card)
    const other = Array.from(intdatag).reverse().join('').replaceAll(/[A-Z]/g, 'x')
    const make = (of: string): SeccosContent => world.seccos(card, { pcc, intdatag: of }, pin)
    return pair(world, make(`${other.slice(1)}z`), make(intdatag))
  },
  // A database may compare without regard to case, and by its own rules for white space.
  'an intdatag in the other letters': async (world, card, pin) => {
    const { pcc, intdatag } = await world.counter(card)
    const other = otherLetters(intdatag)
    if (other === intdatag) throw new NotRun('the intdatag has no letter')
    const make = (of: string): SeccosContent => world.seccos(card, { pcc, intdatag: of }, pin)
    return pair(world, make(other), make(intdatag))
  },
  'the content of type ISO0': async (world, card, pin) =>
    pair(world, world.iso0(card, pin), world.seccos(card, await world.counter(card), pin)),
}
