/**
 * Each message that is to be refused is sound but for one thing. Shown in two ways: its twin without that thing is
 * accepted; and somebody who passes over that thing (a naive reader, here) finds in it what a sound one holds.
 */
import { createDecipheriv, createHash, createPublicKey, diffieHellman } from 'node:crypto'
import { inflateRawSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ecKeyPair } from '../../../test/support/key-pair.js'
import { BODIES, longMessage } from '../src/cases-set-iso0.js'
import { SECCOS_CASES } from '../src/cases-set-seccos.js'
import { ISO0_MESSAGES, type Messages, SECCOS_MESSAGES } from '../src/inside.js'
import { smallOrderPoint } from '../src/invalid-curve.js'
import type { P256Jwk } from '../src/jwe.js'
import { NotRun } from '../src/problems.js'
import { loadSetup } from '../src/setup.js'
import { Wire } from '../src/wire.js'
import { type Card, World } from '../src/world.js'
import { type Issuer, openIssuer } from './support/issuer.js'

let issuer: Issuer
let world: World
beforeAll(async () => {
  issuer = await openIssuer()
  const setup = loadSetup({ config: issuer.config }, () => {})
  world = new World(setup, new Wire(setup))
})
afterAll(async () => {
  world.wire.close()
  await issuer.close()
})

/** Both are refused and accepted in this order: what is refused leaves an intdatag open. */
async function tryBoth(messages: Messages, name: string, card: Card): Promise<readonly number[]> {
  const make = messages[name] ?? expect.fail()
  const { wrong, sound } = await make(world, card, world.newPin('0000'))
  expect(wrong).not.toBe(sound)
  return [(await world.put(card, wrong)).status, (await world.put(card, sound)).status]
}

describe('the twin of each message is accepted', () => {
  test.each(Object.keys(ISO0_MESSAGES))('ISO0: %s', async name => {
    expect(await tryBoth(ISO0_MESSAGES, name, world.card('active', 'ISO0'))).toEqual([400, 204])
  })

  test.each(Object.keys(SECCOS_MESSAGES))('3DES_SECCOS: %s', async name => {
    expect(await tryBoth(SECCOS_MESSAGES, name, world.card('active', '3DES_SECCOS'))).toEqual([400, 204])
  })

  test.each(Object.keys(BODIES))('a body: %s', async name => {
    const card = world.card('active', 'ISO0')
    const sound = await world.message('ISO0', world.iso0(card, world.newPin('0000')))
    const wrong = (BODIES[name] ?? expect.fail())(JSON.parse(sound))
    expect((await world.put(card, wrong)).status).toBe(400)
    expect((await world.put(card, sound)).status).toBe(204)
  })

  test('the request of another card of the same PAN, sealed anew', async () => {
    const [card, other] = world.twins()
    const content = world.iso0(card, world.newPin('0000'))
    expect((await world.put(other, await world.message('ISO0', content))).status).toBe(204)
    expect(world.iso0(other, await world.shownPin(other))).toEqual(content)
    const { setup, wire } = world
    const single = new World(
      { ...setup, cards: setup.cards.filter(({ cardId }) => cardId !== other.cardId) },
      wire,
    )
    expect(() => single.twins()).toThrow(new NotRun('there are not two active ISO0 cards of one PAN'))
  })

  test('an encryptedPinBlock of 8,192 characters, and one more', async () => {
    const card = world.card('active', 'ISO0')
    const [fits, tooLong] = [await longMessage(world, card, 8190), await longMessage(world, card, 8193)]
    expect((await world.put(card, tooLong)).status).toBe(400)
    expect((await world.put(card, fits)).status).toBe(204)
  })
})

test('a card that must not have its PIN changed is asked for by its own fields, and by others where it has none', async () => {
  const sent: string[] = []
  class Watched extends World {
    override seccos(...args: Parameters<World['seccos']>): ReturnType<World['seccos']> {
      const content = super.seccos(...args)
      sent.push(content.prwDataSet)
      return content
    }
  }
  const { setup, wire } = world
  const cards = setup.cards.map(card =>
    card.cardId === 'no-change' ? { ...card, fields: { psn: '77' } } : card,
  )
  const [one] = SECCOS_CASES.filter(({ name }) => name === 'a card whose PIN must not change')
  expect(await one?.run(new Watched({ ...setup, cards }, wire))).toBe('403')
  // PSN and expiry.
  expect(sent.map(dataSet => dataSet.slice(22, 28))).toEqual(['772912'])
})

/** What an issuer may answer, so that there is no letter to change. */
class Digits extends World {
  override async counter(): Promise<{ readonly pcc: string; readonly intdatag: string }> {
    return { pcc: '0041', intdatag: '01234567890123456789' }
  }
  override seccos(...args: Parameters<World['seccos']>): ReturnType<World['seccos']> {
    return { ...super.seccos(...args), prwDataSet: '0'.repeat(246) }
  }
}

test.each([
  ['a data set in small letters', 'no data set of this card has a letter'],
  ['an intdatag in the other letters', 'the intdatag has no letter'],
])('%s: not where there is none', async (name, reason) => {
  const digits = new Digits(world.setup, world.wire)
  const make = SECCOS_MESSAGES[name] ?? expect.fail()
  await expect(make(digits, digits.card('active', '3DES_SECCOS'), '4711')).rejects.toEqual(new NotRun(reason))
})

test('nobody calls as another caller whose certificate the configuration does not have', async () => {
  const wire = new Wire({ ...world.setup, other: undefined })
  await expect(wire.raw('GET / HTTP/1.1\r\n\r\n', { identity: 'other' })).rejects.toEqual(
    new NotRun("there is no other caller's certificate"),
  )
  wire.close()
})

/** P-256's prime and a. The b of the curve is in no formula below, as in no formula of a naive issuer's. */
const P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn
const A = P - 3n
type Point = readonly [x: bigint, y: bigint] | undefined

const mod = (n: bigint): bigint => ((n % P) + P) % P
function inverse(n: bigint): bigint {
  let [a, b, u, v] = [mod(n), P, 1n, 0n]
  while (a !== 0n) {
    const q = b / a
    ;[a, b, u, v] = [b - q * a, a, v - q * u, u]
  }
  return mod(v)
}
function add(p: Point, q: Point): Point {
  if (p === undefined) return q
  if (q === undefined) return p
  if (p[0] === q[0] && mod(p[1] + q[1]) === 0n) return undefined
  const slope =
    p[0] === q[0] ? (3n * p[0] * p[0] + A) * inverse(2n * p[1]) : (q[1] - p[1]) * inverse(mod(q[0] - p[0]))
  const x = mod(slope * slope - p[0] - q[0])
  return [x, mod(slope * (p[0] - x) - p[1])]
}
function times(n: bigint, point: Point): Point {
  let [result, power]: [Point, Point] = [undefined, point]
  for (let rest = n; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = add(result, power)
    power = add(power, power)
  }
  return result
}

const numberOf = (text: string): bigint => BigInt(`0x${Buffer.from(text, 'base64url').toString('hex')}`)
const bytesOf = (n: bigint): Buffer => Buffer.from(n.toString(16).padStart(64, '0'), 'hex')

/** Opens a JWE by the rules of ECDH-ES and A256GCM, whatever its header says, and inflates what says that it is deflated. */
function openNaively(jwe: string, d: bigint): unknown {
  const [head = '', , ...rest] = jwe.split('.')
  const { epk, zip } = JSON.parse(Buffer.from(head, 'base64url').toString())
  const z = times(d, [numberOf(epk.x), numberOf(epk.y)]) ?? expect.fail('the point at infinity')
  const number = (value: number): Buffer => bytesOf(BigInt(value)).subarray(-4)
  const info = [number(7), Buffer.from('A256GCM'), number(0), number(0), number(256)]
  const key = createHash('sha256')
    .update(Buffer.concat([number(1), bytesOf(z[0]), ...info]))
    .digest()
  const [iv, ciphertext, tag] = rest.map(text => Buffer.from(text, 'base64url')) as [Buffer, Buffer, Buffer]
  const decipher = createDecipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(head)).setAuthTag(tag)
  const text = Buffer.concat([decipher.update(ciphertext), decipher.final()])
  return JSON.parse((zip === 'DEF' ? inflateRawSync(text) : text).toString())
}

/** A recipient whose private key is known, and is as wanted. */
function recipient(fits: (d: bigint) => boolean): { readonly d: bigint; readonly jwk: P256Jwk } {
  for (;;) {
    const jwk = ecKeyPair().privateKey.export({ format: 'jwk' })
    const d = numberOf(`${jwk.d}`)
    if (fits(d)) return { d, jwk: { ...(jwk as unknown as P256Jwk), kid: 'JWE-1' } }
  }
}

describe('a naive issuer opens', () => {
  test.each<[string, (d: bigint) => boolean]>([
    ...['alg none', 'alg dir', 'no alg', 'no enc', 'zip DEF', 'an extension that is critical'].map(
      name => [name, () => true] as [string, (d: bigint) => boolean],
    ),
    ['an epk that says P-384', () => true],
    ['a foreign kid', () => true],
    ['the kid of D1', () => true],
    ['an epk off the curve, of order 2', d => d % 2n === 1n],
    ['an epk off the curve, of order 3', d => d % 3n !== 0n],
    ['an epk off the curve, of order 4', d => d % 4n === 2n],
  ])('%s', async (name, fits) => {
    const { d, jwk } = recipient(fits)
    const { d: _, ...issuerJwk } = jwk
    const other = new World({ ...world.setup, issuerJwk }, world.wire)
    const card = other.card('active', 'ISO0')
    const { wrong } = await (ISO0_MESSAGES[name] ?? expect.fail())(other, card, '4711')
    expect(openNaively(JSON.parse(wrong).encryptedPinBlock, d)).toEqual(other.iso0(card, '4711'))
  })
})

test.each([2, 3, 4] as const)(
  'a point of order %i: so many times itself is nothing, and it is on no P-256',
  order => {
    const { x, y, z } = smallOrderPoint(order)
    const point = [numberOf(x), numberOf(y)] as const
    expect(times(BigInt(order), point)).toBeUndefined()
    for (let n = 1; n < order; n++) expect(times(BigInt(n), point)).toBeDefined()
    expect(z).toHaveLength(32)
    expect(() => createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' })).toThrow()
  },
)

test('the naive multiplication is that of P-256 on the curve', () => {
  const { privateKey } = ecKeyPair()
  const { publicKey } = ecKeyPair()
  const { d } = privateKey.export({ format: 'jwk' })
  const { x, y } = publicKey.export({ format: 'jwk' })
  const [z = 0n] = times(numberOf(`${d}`), [numberOf(`${x}`), numberOf(`${y}`)]) ?? []
  expect(bytesOf(z)).toEqual(diffieHellman({ privateKey, publicKey }))
})
