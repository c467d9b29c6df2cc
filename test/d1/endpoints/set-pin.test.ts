/** Set PIN by what is inside the message: one answer for everything that is wrong, and what is stored where it is right. */
import { createCipheriv } from 'node:crypto'
import { CompactEncrypt, generateKeyPair } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { StoredPrw } from '../../../src/d1.js'
import { Pan, Pin } from '../../../src/index.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../src/seccos/profile/illustrative.js'
import { parseProfile } from '../../../src/seccos/profile/parse.js'
import { verifyPrw } from '../../../src/seccos/prw.js'
import { softwareBackend } from '../../../src/software.js'
import { makeSeccosSetPinRequest } from '../../../src/testing.js'
import { type Reply, Wire } from './support/wire.js'
import { counterPath, ISSUER, JSON_TYPE, NEW_PIN, PANS, PIN, pinPath, World } from './support/world.js'

let world: World
let wire: Wire
let headers: Record<string, string>

beforeAll(async () => {
  world = await World.open()
  wire = await new Wire(world.handler()).open()
  headers = await world.authorized(JSON_TYPE)
})
afterAll(async () => {
  await wire.close()
  await world[Symbol.asyncDispose]()
})
beforeEach(() => {
  world.events.length = 0
})

const put = (body: string, cardId = 'card-1'): Promise<Reply> =>
  wire.ask(pinPath(cardId), { method: 'PUT', headers, body })
async function counterOf(cardId = 'card-1'): Promise<{ pcc: string; intdatag: string }> {
  return (await wire.ask(counterPath(cardId), { headers })).body as never
}
async function shownPin(cardId: string, pan: string): Promise<string> {
  return world.d1.readPin((await wire.ask(pinPath(cardId), { headers })).body as never, pan)
}
/** A reply without what differs by the clock. */
const shape = ({ status, text, headers: { date, ...rest } }: Reply): unknown => ({
  status,
  text,
  headers: rest,
})

describe('whatever is wrong inside, the answer is the same', () => {
  const iso0 = (content: object) => world.d1.seal('ISO0', content)
  const seccos = async (change: object, cardId = 'card-1') =>
    world.d1.seal('3DES_SECCOS', { ...world.seccosContent(await counterOf(cardId)), ...change })
  const message = async (): Promise<{ type: string; encryptedPinBlock: string }> =>
    JSON.parse(await world.iso0())
  const jwe = async (change: (jwe: string) => string | Promise<string>, type = 'ISO0') => {
    const { encryptedPinBlock } = await message()
    return JSON.stringify({ type, encryptedPinBlock: await change(encryptedPinBlock) })
  }
  const foreign = async (header: object) => {
    const { publicKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
    return new CompactEncrypt(new TextEncoder().encode('{}'))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', ...header })
      .encrypt(publicKey)
  }

  /** Format 0 of these nibbles for the first card, enciphered under the ZPK. */
  function blockOf(nibbles: string): string {
    const field = Buffer.from(`0${nibbles.length.toString(16)}${nibbles}`.padEnd(16, 'f'), 'hex')
    const account = Buffer.from(`0000${PANS.first.slice(-13, -1)}`, 'hex')
    const key = Buffer.from(world.hex.zpk + world.hex.zpk.slice(0, 16), 'hex')
    const cipher = createCipheriv('des-ede3', key, null).setAutoPadding(false)
    return cipher.update(field.map((byte, i) => byte ^ (account[i] ?? 0))).toString('hex')
  }

  test('a PIN of digits is set by a block that is made here', async () => {
    expect(await put(await iso0({ kid: 'ZPK-D1', pinValue: blockOf(PIN) }))).toMatchObject({ status: 204 })
    expect(await shownPin('card-1', PANS.first)).toBe(PIN)
  })

  const ROWS: Readonly<Record<string, readonly [code: string, make: () => Promise<string>, more?: object]>> =
    {
      'a spoilt tag': ['ERR_JWE', () => jwe(text => `${text.slice(0, -2)}AA`)],
      'five segments of nothing': ['ERR_JWE', () => jwe(() => 'a.b.c.d.e')],
      'no segments': ['ERR_JWE', () => jwe(() => 'x')],
      'a JWE to another key by our kid': ['ERR_JWE', () => jwe(() => foreign({ kid: 'JWE-1' }))],
      'a foreign kid in the JWE': ['ERR_JWE', () => jwe(() => foreign({ kid: 'JWE-2' }))],
      'a compressed JWE': [
        'ERR_JWE',
        () =>
          jwe(
            text =>
              `${Buffer.from('{"alg":"ECDH-ES","enc":"A256GCM","kid":"JWE-1","zip":"DEF"}').toString('base64url')}${text.slice(text.indexOf('.'))}`,
          ),
      ],
      'another block inside': ['ERR_PIN_BLOCK', () => iso0({ kid: 'ZPK-D1', pinValue: '00'.repeat(8) })],
      'a PIN of digits that are none': [
        'ERR_PIN_BLOCK',
        () => iso0({ kid: 'ZPK-D1', pinValue: blockOf('12AB') }),
      ],
      'a PIN whose last digit is none': [
        'ERR_PIN_BLOCK',
        () => iso0({ kid: 'ZPK-D1', pinValue: blockOf('123456A') }),
      ],
      'the block of another card': ['ERR_PIN_BLOCK', () => world.iso0(NEW_PIN, PANS.second)],
      'a clear PIN': [
        'ERR_D1_MESSAGE',
        () => iso0({ kid: 'ZPK-D1', pinValue: NEW_PIN }),
        { field: 'pinValue' },
      ],
      'a foreign kid': [
        'ERR_D1_MESSAGE',
        () => iso0({ kid: 'ZPK-X', pinValue: '00'.repeat(8) }),
        { field: 'kid' },
      ],
      'the kid of our storage key': [
        'ERR_D1_MESSAGE',
        () => iso0({ kid: 'PEK-STORE', pinValue: '00'.repeat(8) }),
        { field: 'kid' },
      ],
      'an empty object': ['ERR_D1_MESSAGE', () => iso0({}), { field: 'kid' }],
      'a list': ['ERR_D1_MESSAGE', () => iso0([]), { field: 'encryptedPinBlock' }],
      'ISO0 content of type 3DES_SECCOS': [
        'ERR_D1_MESSAGE',
        () => jwe(text => text, '3DES_SECCOS'),
        { field: 'intdatag' },
      ],
      '3DES_SECCOS content of type ISO0': [
        'ERR_D1_MESSAGE',
        async () => (await seccos({})).replace('3DES_SECCOS', 'ISO0'),
        { field: 'kid' },
      ],
      'a wrong MAC': ['ERR_PRW_MAC', () => seccos({ macValue: '00'.repeat(8) })],
      'another PRW': ['ERR_PRW_MAC', () => seccos({ prwValue: '00'.repeat(8) })],
      'a MAC of another form': ['ERR_ENCODING', () => seccos({ macValue: 'xyz' })],
      'a PRW key that is not known': [
        'ERR_D1_MESSAGE',
        () => seccos({ prwKid: 'PRW-9' }),
        { field: 'prwKid' },
      ],
      'a MAC key that is not known': [
        'ERR_D1_MESSAGE',
        () => seccos({ macKid: 'MAC-9' }),
        { field: 'macKid' },
      ],
      'an intdatag that is not in the data set': [
        'ERR_D1_MESSAGE',
        () => seccos({ intdatag: 'A'.repeat(20) }),
        { field: 'intdatag' },
      ],
      'a data set with a PAN': [
        'ERR_DATA_SET',
        async () => {
          const { prwDataSet = '' } = world.seccosContent(await counterOf())
          return seccos({ prwDataSet: `${prwDataSet.slice(0, 2)}${PANS.first}${prwDataSet.slice(18)}` })
        },
        { field: 'pan' },
      ],
      'an intdatag of our own': [
        'ERR_CHANGE_COUNTER',
        () => world.d1.seal('3DES_SECCOS', world.seccosContent({ pcc: '0041', intdatag: 'A'.repeat(20) })),
        { detail: 'unknown' },
      ],
      'the intdatag of another card': [
        'ERR_CHANGE_COUNTER',
        () => seccos({}, 'card-2'),
        { detail: 'other-card' },
      ],
      'a PCC that was not issued': [
        'ERR_CHANGE_COUNTER',
        async () =>
          world.d1.seal('3DES_SECCOS', world.seccosContent({ ...(await counterOf()), pcc: '9998' })),
        { detail: 'pcc' },
      ],
    }

  test('a 400 of the same bytes, and the reason for the operator', async () => {
    const expected = shape(await put('{}'))
    expect(expected).toMatchObject({ status: 400, text: '{"error":"Bad request"}' })
    const { writes } = world.pins
    for (const [what, [code, make, more]] of Object.entries(ROWS)) {
      const reply = await put(await make())
      expect(shape(reply), what).toEqual(expected)
      expect(world.last.refusal, what).toEqual({ reason: 'message', code, ...more })
      expect(world.last.keys, what).toEqual([])
      world.expectSilence(reply.text)
    }
    expect(world.pins.writes).toBe(writes)
    expect(await shownPin('card-1', PANS.first)).toBe(PIN)
  })
})

describe('ISO0', () => {
  test('the same again is 204 again', async () => {
    const body = await world.iso0(NEW_PIN, PANS.second)
    const { writes } = world.pins
    for (let i = 0; i < 3; i++) {
      expect(await put(body, 'card-2')).toMatchObject({ status: 204 })
      expect(world.last.replayed).toBe(i > 0)
      expect(world.last.replayedIsCurrent).toBe(i > 0 ? true : undefined)
    }
    expect(await shownPin('card-2', PANS.second)).toBe(NEW_PIN)
    expect(world.pins.writes).toBe(writes + 1)
  })

  test('a store that does not say what became of it is 500', async () => {
    const acceptBlock = async () => undefined as never
    const pins = { ...world.issuer().pins, acceptBlock }
    const handler = world.handler({ issuers: { is_tbank01: world.issuer({ pins }) } })
    const body = await world.iso0(NEW_PIN, PANS.second)
    const request = new Request(`https://issuer.test${pinPath('card-2')}`, { method: 'PUT', headers, body })
    expect((await handler(request)).status).toBe(500)
    expect(world.last.refusal).toEqual({ reason: 'store-failed', detail: 'no-outcome' })
  })

  test('one that comes late sets no PIN back, and the event says so', async () => {
    const [first, second] = [await world.iso0('111122', PANS.second), await world.iso0('222233', PANS.second)]
    for (const body of [first, second, first]) {
      expect(await put(body, 'card-2')).toMatchObject({ status: 204 })
    }
    expect(world.last).toMatchObject({ replayed: true, replayedIsCurrent: false, cardId: 'card-2' })
    expect(await shownPin('card-2', PANS.second)).toBe('222233')
  })

  test('ends the intdatags that are open for the card: none of them sets an older PIN over it', async () => {
    const open = await counterOf('card-2')
    const body = await world.iso0('555566', PANS.second)
    expect(await put(body, 'card-2')).toMatchObject({ status: 204 })
    const late = await world.d1.seal('3DES_SECCOS', world.seccosContent(open, '777788', PANS.second))
    expect(await put(late, 'card-2')).toMatchObject({ status: 400 })
    expect(world.last.refusal).toMatchObject({ code: 'ERR_CHANGE_COUNTER', detail: 'superseded' })
    expect(await shownPin('card-2', PANS.second)).toBe('555566')
  })

  test('one that was for another card is the one 400, even with the same PAN', async () => {
    const body = await world.iso0('333344', PANS.first)
    expect(await put(body, 'card-1')).toMatchObject({ status: 204 })
    const { writes } = world.pins
    const reply = await put(body, 'iso0-only')
    expect(reply).toMatchObject({ status: 400, text: '{"error":"Bad request"}' })
    expect(world.last.refusal).toEqual({ reason: 'message', detail: 'misdirected' })
    expect(world.pins.writes).toBe(writes)
    expect(await put(body, 'card-1')).toMatchObject({ status: 204 })
  })

  test('many at once for one card are stored one at a time, the last one last', async () => {
    let storing = 0
    let most = 0
    world.pins.before = async () => {
      storing++
      most = Math.max(most, storing)
      await new Promise(resolve => setTimeout(resolve, 5))
      storing--
    }
    const pins = Array.from({ length: 12 }, (_, i) => String(100_000 + i))
    const bodies = await Promise.all(pins.map(pin => world.iso0(pin, PANS.second)))
    const replies = await Promise.all(bodies.map(body => put(body, 'card-2')))
    world.pins.before = async () => {}
    expect(replies.map(({ status }) => status)).toEqual(pins.map(() => 204))
    expect(most).toBe(1)
    expect(pins).toContain(await shownPin('card-2', PANS.second))
  })

  test('different cards do not wait for one another', async () => {
    let release = (): void => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    world.pins.before = ({ cardId }) => (cardId === 'card-1' ? held : Promise.resolve())
    const first = put(await world.iso0())
    expect(await put(await world.iso0(NEW_PIN, PANS.second), 'card-2')).toMatchObject({ status: 204 })
    release()
    expect(await first).toMatchObject({ status: 204 })
    world.pins.before = async () => {}
  })

  test('the event names the keys', async () => {
    await put(await world.iso0())
    const { jwe, zpk, storage } = world.keys
    expect(world.last).toMatchObject({
      operation: 'SetPIN',
      pinType: 'ISO0',
      keys: [
        { role: 'jwe', kid: 'JWE-1', checkValue: jwe.checkValue.value },
        { role: 'd1-zpk', kid: 'ZPK-D1', checkValue: zpk.checkValue.value },
        { role: 'storage', kid: 'PEK-STORE', checkValue: storage.checkValue.value },
      ],
    })
    expect(world.last.durationMs).toBeGreaterThan(0)
  })
})

describe('3DES_SECCOS', () => {
  const prwOf = (cardId: string): StoredPrw => {
    const found = world.pins.stored.get(cardId)
    return found !== undefined && 'prw' in found ? found.prw : expect.fail('no PRW is stored')
  }
  const seccos = async (pin = NEW_PIN, cardId = 'card-1') =>
    world.d1.seal('3DES_SECCOS', world.seccosContent(await counterOf(cardId), pin))

  test('what is stored verifies the PIN; the block that was there is gone', async () => {
    await world.issue('card-1', PANS.first, PIN)
    expect(await put(await seccos())).toMatchObject({ status: 204 })
    expect(world.last).toMatchObject({ pinType: '3DES_SECCOS', replayed: false })
    expect(world.last.keys.map(key => `${key.role} ${key.kid} ${key.checkValue?.length}`)).toEqual([
      'jwe JWE-1 43',
      'prw-mac MAC-1 6',
    ])
    const { prwKid, prwValue, prwDataSet, provenance, sequence } = prwOf('card-1')
    // The lower 32 bits count acceptances; each ISO0 PIN before has begun an epoch above them.
    expect([prwKid, provenance, sequence % 2 ** 32]).toEqual(['PRW-1', 'illustrative', 1])
    const { prw: material } = world.hex
    await using hsm = await softwareBackend({
      keys: [{ kid: 'V', usage: 'prw-verify', algorithm: 'tdea-2key', material }],
    })
    const key = await hsm.bind({ kid: 'V', usage: 'prw-verify' })
    const dataSet = Buffer.from(prwDataSet, 'hex')
    const candidate = {
      key,
      profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA,
      pan: Pan.from(PANS.first),
      dataSet,
      prwValue,
    }
    expect((await verifyPrw({ ...candidate, pin: Pin.from(NEW_PIN) })).verified).toBe(true)
    expect((await verifyPrw({ ...candidate, pin: Pin.from(PIN) })).verified).toBe(false)
    expect(await wire.ask(pinPath('card-1'), { headers })).toMatchObject({ status: 403 })
  })

  test('the same again, sealed anew or not, is 204 and stores nothing twice', async () => {
    const content = world.seccosContent(await counterOf())
    const body = await world.d1.seal('3DES_SECCOS', content)
    expect(await put(body)).toMatchObject({ status: 204 })
    const { writes } = world.pins
    expect(await put(body)).toMatchObject({ status: 204 })
    expect(await put(await world.d1.seal('3DES_SECCOS', content))).toMatchObject({ status: 204 })
    expect(world.last.replayed).toBe(true)
    expect(world.pins.writes).toBe(writes)
  })

  test('another request for the same intdatag is refused', async () => {
    const counter = await counterOf()
    expect(await put(await world.d1.seal('3DES_SECCOS', world.seccosContent(counter)))).toMatchObject({
      status: 204,
    })
    const other = await world.d1.seal('3DES_SECCOS', world.seccosContent(counter, '271828'))
    expect(await put(other)).toMatchObject({ status: 400 })
    expect(world.last.refusal).toEqual({ reason: 'message', code: 'ERR_CHANGE_COUNTER', detail: 'spent' })
  })

  test('of two at once for one card one is stored, the other superseded', async () => {
    const bodies = [await seccos('111222'), await seccos('333444')]
    const { sequence } = prwOf('card-1')
    const replies = await Promise.all(bodies.map(body => put(body)))
    expect(replies.map(({ status }) => status).sort()).toEqual([204, 400])
    expect(prwOf('card-1').sequence).toBe(sequence + 1)
  })

  test('what is stored, and superseded before it is confirmed, is not said to be refused', async () => {
    const body = await seccos()
    world.pins.before = async () => void (await world.counter.supersede({ cardId: 'card-1' }))
    expect(await put(body)).toMatchObject({ status: 500 })
    expect(world.last.refusal).toEqual({
      reason: 'store-failed',
      code: 'ERR_CHANGE_COUNTER',
      detail: 'superseded',
    })
    world.pins.before = async () => {}
    expect(await put(body)).toMatchObject({ status: 400 })
  })

  test('a store that fails once: D1 repeats, and it is stored', async () => {
    const body = await seccos()
    world.pins.before = () => Promise.reject(new Error('disk full'))
    expect(await put(body)).toMatchObject({ status: 500, body: { error: 'Internal server error' } })
    expect(world.last).toMatchObject({
      outcome: 'failed',
      refusal: { reason: 'store-failed', code: 'Error' },
    })
    world.pins.before = async () => {}
    expect(await put(body)).toMatchObject({ status: 204 })
    expect(world.last.replayed).toBe(false)
  })

  test('a counter that is not superseded by a PIN set as ISO0 is so by its repetition', async () => {
    const issued = await seccos()
    const body = await world.iso0()
    const supersede = vi
      .spyOn(world.counter, 'supersede')
      .mockRejectedValueOnce(new Error('the store is away'))
    expect(await put(body)).toMatchObject({ status: 500 })
    expect(await put(body)).toMatchObject({ status: 204 })
    expect(world.last).toMatchObject({ replayed: true, replayedIsCurrent: true })
    expect(supersede).toHaveBeenCalledTimes(2)
    supersede.mockRestore()
    // What D1 was given a counter for before that PIN sets none any more.
    expect(await put(issued)).toMatchObject({ status: 400 })
  })

  test('an intdatag that the data set does not show is stored where the PRW covers it', async () => {
    const { fields, prw, mac, ...rest } = JSON.parse(JSON.stringify(ILLUSTRATIVE_NOT_GIROCARD_TDEA))
    const intdatagInput = { input: 'intdatag', length: 20, encoding: 'ascii', align: 'exact' }
    const profile = parseProfile({
      ...rest,
      fields: fields.map((field: { id: string }) =>
        field.id === 'intdatag' ? { id: 'gap', offset: 38, length: 20, constant: '00'.repeat(20) } : field,
      ),
      prw: { ...prw, inputs: [...prw.inputs, intdatagInput] },
      mac: { ...mac, inputs: [...mac.inputs, intdatagInput] },
    })
    const tdea = { algorithm: 'tdea-2key' } as const
    await using hsm = await softwareBackend({
      keys: [
        { ...tdea, kid: 'PRW-1', usage: 'prw-generate', material: world.hex.prw },
        { ...tdea, kid: 'MAC-1', usage: 'retail-mac', material: world.hex.mac },
      ],
    })
    const counter = world.newCounter()
    const { pcc, intdatag } = await counter.issue({ cardId: 'card-1' })
    const body = await makeSeccosSetPinRequest({
      pin: Pin.from(NEW_PIN),
      pan: Pan.from(PANS.first),
      pcc,
      intdatag,
      profile,
      fields: { psn: '01', expiry: '2912', issuer: ISSUER },
      prwKey: await hsm.bind({ kid: 'PRW-1', usage: 'prw-generate' }),
      macKey: await hsm.bind({ kid: 'MAC-1', usage: 'retail-mac' }),
      issuerPublicJwk: { ...world.keys.jwe.publicJwk, kid: 'JWE-1' },
    })
    world.pins.stored.delete('card-1')
    const { seccos: own } = world.issuer()
    const issuer = world.issuer({ seccos: { ...(own ?? expect.fail()), profile, counter } })
    const handler = world.handler({ issuers: { [ISSUER]: issuer } })
    const init = { method: 'PUT', headers, body: JSON.stringify(body) }
    const request = new Request(`https://issuer.test${pinPath('card-1')}`, init)
    expect((await handler(request)).status).toBe(204)
    expect(prwOf('card-1').intdatag).toBe(intdatag)
  })

  test('a PIN set as ISO0 afterwards is the PIN that is shown', async () => {
    expect(await put(await world.iso0())).toMatchObject({ status: 204 })
    expect(await shownPin('card-1', PANS.first)).toBe(NEW_PIN)
  })
})

test('nothing of all that shows a secret', () => {
  world.expectSilence()
})
