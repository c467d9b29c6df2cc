import { createDecipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { generateMac, type Key, Pan } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { type PanSealerOptions, panSealer } from '../../src/sqlite.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'

const CARD = { issuerId: 'is_tbank01', cardId: 'card-0001' }
const PAN = '9999990123456789'
const KEY = Uint8Array.from({ length: 32 }, (_, i) => i)
const OTHER_KEY = new Uint8Array(32).fill(7)
const one = panSealer({ keys: [{ kid: 'PAN-1', key: KEY }] })

describe('options', () => {
  test.each([
    ['no options', undefined],
    ['no keys', {}],
    ['an empty list', { keys: [] }],
    ['one key, no list', { keys: { kid: 'K', key: KEY } }],
    ['no kid', { keys: [{ key: KEY }] }],
    ['a kid with a line feed', { keys: [{ kid: 'K\n', key: KEY }] }],
    ['a kid of more than 255 bytes', { keys: [{ kid: '\u20ac'.repeat(100), key: KEY }] }],
    ['no key', { keys: [{ kid: 'K' }] }],
    ['a key as hex', { keys: [{ kid: 'K', key: '00'.repeat(32) }] }],
    ['a key of 16 bytes', { keys: [{ kid: 'K', key: new Uint8Array(16) }] }],
    ['an unknown member', { keys: [{ kid: 'K', key: KEY, use: 'seal' }] }],
    [
      'a kid twice',
      {
        keys: [
          { kid: 'K', key: KEY },
          { kid: 'K', key: OTHER_KEY },
        ],
      },
    ],
  ])('%s', async (_, options) => {
    await failure(() => panSealer(options as unknown as PanSealerOptions), 'ERR_ARGUMENT')
  })
})

test('where the second key is refused, no copy of the first one stays', async () => {
  const { buffers } = await buffersMadeBy(() =>
    failure(
      () =>
        panSealer({
          keys: [
            { kid: 'K', key: KEY },
            { kid: 'K', key: OTHER_KEY },
          ],
        }),
      'ERR_ARGUMENT',
    ),
  )
  expect(buffers.length).toBeGreaterThan(0)
  for (const key of [KEY, OTHER_KEY])
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(key)))).toEqual([])
})

test('of several keys no copy stays after disposal', async () => {
  const { buffers } = await buffersMadeBy(async () => {
    using sealer = panSealer({
      keys: [
        { kid: 'K-2', key: OTHER_KEY },
        { kid: 'K-1', key: KEY },
      ],
    })
    await sealer.seal(Pan.from(PAN), CARD)
  })
  expect(buffers.length).toBeGreaterThan(0)
  for (const key of [KEY, OTHER_KEY])
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(key)))).toEqual([])
})

test('the length of a key is that of its bytes, whatever a subclass says', async () => {
  class Long extends Uint8Array {
    override get length(): number {
      return 32
    }
  }
  await failure(() => panSealer({ keys: [{ kid: 'K', key: new Long(0) }] }), 'ERR_ARGUMENT')
})

test.each(['999999012345', PAN, '9999990123456789012'])('%s comes back', async digits => {
  const sealed = await one.seal(Pan.from(digits), CARD)
  expect((await one.open(sealed, CARD)).reveal()).toBe(digits)
})

test('a sealed PAN is of one length, and never twice the same', async () => {
  const sealed = await Promise.all(
    ['999999012345', PAN, PAN, '9999990123456789012'].map(digits => one.seal(Pan.from(digits), CARD)),
  )
  expect(sealed.map(bytes => bytes.length)).toEqual(Array(4).fill(2 + 5 + 12 + 20 + 16))
  expect(new Set(sealed.map(bytes => Buffer.from(bytes).toString('hex'))).size).toBe(4)
})

test('the text that a PAN is sealed as is wiped', async () => {
  const pan = Pan.from(PAN)
  const { buffers } = await buffersMadeBy(() => one.seal(pan, CARD))
  expect(buffers.length).toBeGreaterThan(0)
  expect(buffers.filter(buffer => Buffer.from(buffer as ArrayBuffer).includes(PAN))).toEqual([])
})

test('the form is the documented one: another program can open it', async () => {
  const sealed = Buffer.from(await one.seal(Pan.from(PAN), CARD))
  const head = Buffer.from('\x01\x05PAN-1', 'latin1')
  expect(sealed.subarray(0, 7)).toEqual(head)
  const decipher = createDecipheriv('aes-256-gcm', KEY, sealed.subarray(7, 19))
  decipher.setAAD(Buffer.concat([head, Buffer.from('["issuer-pin-crypto PAN","is_tbank01","card-0001"]')]))
  decipher.setAuthTag(sealed.subarray(-16))
  const clear = Buffer.concat([decipher.update(sealed.subarray(19, -16)), decipher.final()])
  expect(clear.toString('latin1')).toBe(`${PAN}\0\0\0\0`)
})

test('a PAN that stands in somebody’s database since version 1 opens', async () => {
  // Made by node:crypto alone, by the form in pan-sealer.ts, with the nonce ABCDEFGHIJKL.
  const stored =
    '010550414e2d314142434445464748494a4b4ce36114fb5a77875529af44619f20d36b267a188be8186e592b137f6a8140dcf9fc82e8d4'
  expect((await one.open(Uint8Array.from(Buffer.from(stored, 'hex')), CARD)).reveal()).toBe(PAN)
})

test('any bit that is changed, and any byte too few or too many, is one error', async () => {
  const sealed = await one.seal(Pan.from(PAN), CARD)
  const messages = new Set<string>()
  for (let i = 0; i < sealed.length; i++) {
    const changed = Uint8Array.from(sealed)
    changed[i] = (changed[i] ?? 0) ^ 0x80
    // A kid that changes into another kid is another matter; with the high bit set it is no text.
    const error = await failure(
      () => one.open(changed, CARD),
      i >= 2 && i < 7 ? 'ERR_KEY_NOT_FOUND' : 'ERR_BACKEND_FAILED',
      [PAN],
    )
    if (error.code === 'ERR_BACKEND_FAILED') messages.add(error.message)
  }
  for (const wrong of [
    new Uint8Array(0),
    Uint8Array.of(1),
    sealed.subarray(1),
    sealed.subarray(0, -1),
    Uint8Array.of(...sealed, 0),
  ]) {
    messages.add((await failure(() => one.open(wrong, CARD), 'ERR_BACKEND_FAILED')).message)
  }
  expect([...messages]).toEqual(['the sealed PAN of the card does not open'])
})

test.each([
  ['another card', { ...CARD, cardId: 'card-0002' }],
  ['another issuer', { ...CARD, issuerId: 'is_tbank02' }],
])('the sealed PAN of %s does not open', async (_, card) => {
  const sealed = await one.seal(Pan.from(PAN), CARD)
  await failure(() => one.open(sealed, card), 'ERR_BACKEND_FAILED', [PAN])
})

test('the first key seals, every key opens; a key that is gone is named', async () => {
  const keys = [
    { kid: 'PAN-2', key: OTHER_KEY },
    { kid: 'PAN-1', key: KEY },
  ]
  const both = panSealer({ keys })
  const old = await one.seal(Pan.from(PAN), CARD)
  expect((await both.open(old, CARD)).reveal()).toBe(PAN)
  const moved = await both.seal(Pan.from(PAN), CARD)
  const { message } = await failure(() => one.open(moved, CARD), 'ERR_KEY_NOT_FOUND', [PAN])
  expect(message).toBe('no PAN key PAN-2')
  const sameName = panSealer({ keys: [{ kid: 'PAN-1', key: OTHER_KEY }] })
  await failure(() => sameName.open(old, CARD), 'ERR_BACKEND_FAILED', [PAN])
})

test('what is no PAN, no card or no bytes is refused', async () => {
  await failure(() => one.seal(PAN as never, CARD), 'ERR_ARGUMENT', [PAN])
  await failure(() => one.seal(Pan.from(PAN), { issuerId: 'x', cardId: 'y' }), 'ERR_ARGUMENT')
  await failure(() => one.open('00' as never, CARD), 'ERR_ARGUMENT')
  const sealed = await one.seal(Pan.from(PAN), CARD)
  await failure(() => one.open(sealed, {} as never), 'ERR_ARGUMENT')
})

test('keys are copied, and gone after disposal', async () => {
  const key = Uint8Array.from(KEY)
  const { value: sealer, buffers } = await buffersMadeBy(() => panSealer({ keys: [{ kid: 'PAN-1', key }] }))
  key.fill(0)
  const held = () => buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(KEY)))
  expect(held()).toHaveLength(1)
  const sealed = await sealer.seal(Pan.from(PAN), CARD)
  expect((await one.open(sealed, CARD)).reveal()).toBe(PAN)
  sealer[Symbol.dispose]()
  expect(held()).toEqual([])
  await failure(() => sealer.seal(Pan.from(PAN), CARD), 'ERR_DISPOSED', [PAN])
  await failure(() => sealer.open(sealed, CARD), 'ERR_DISPOSED', [PAN])
})

describe('under a key of a backend', () => {
  const aes = (kid: string, byte: string, usage: 'cmac' | 'pin-encryption' = 'cmac') =>
    ({ kid, usage, algorithm: 'aes-256', material: byte.repeat(32) }) as const
  const openKeys = async () => {
    const backend = await softwareBackend({
      keys: [
        aes('PAN-T', '1A'),
        aes('PAN-U', '2B'),
        aes('PIN', '3C', 'pin-encryption'),
        { kid: 'TDEA', usage: 'cmac', algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' },
        { kid: 'K'.repeat(128), usage: 'cmac', algorithm: 'aes-128', material: '4D'.repeat(16) },
      ],
    })
    const [first, second] = await Promise.all(
      ['PAN-T', 'PAN-U'].map(kid => backend.bind({ kid, usage: 'cmac' })),
    )
    if (first === undefined || second === undefined) return expect.unreachable()
    return { backend, first, second }
  }

  /** By the formula, with the verb for a MAC. */
  const derivedFor = async (sealed: Uint8Array, key: Key) => {
    const aad = Buffer.concat([
      sealed.subarray(0, 7),
      Buffer.from(JSON.stringify(['issuer-pin-crypto PAN', CARD.issuerId, CARD.cardId])),
    ])
    const parts = await Promise.all(
      [1, 2].map(i => {
        const label = Buffer.from('issuer-pin-crypto PAN key\0')
        const message = Buffer.concat([Buffer.of(i), label, sealed.subarray(7, 19), aad, Buffer.of(1, 0)])
        return generateMac({ key, message, algorithm: 'cmac', padding: 'none', length: 16 })
      }),
    )
    return { key: Buffer.concat(parts), aad }
  }

  test('each PAN comes back, bound to its card, under a key of its own', async () => {
    const { backend, first } = await openKeys()
    await using _ = backend
    const sealer = panSealer({ keys: [first] })
    const sealed = await sealer.seal(Pan.from(PAN), CARD)
    expect(sealed[0]).toBe(2)
    expect((await sealer.open(sealed, CARD)).reveal()).toBe(PAN)
    await failure(async () => sealer.open(sealed, { ...CARD, cardId: 'card-0002' }), 'ERR_BACKEND_FAILED')
    const [nonce, body] = [sealed.subarray(7, 19), sealed.subarray(19)]
    const { key, aad } = await derivedFor(sealed, first)
    const cipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 })
    cipher.setAAD(aad).setAuthTag(body.subarray(-16))
    expect(Buffer.concat([cipher.update(body.subarray(0, -16)), cipher.final()]).toString()).toBe(
      PAN.padEnd(20, '\0'),
    )
  })

  test('the derived key is wiped, whatever comes of it', async () => {
    const { backend, first } = await openKeys()
    await using _ = backend
    const sealer = panSealer({ keys: [first] })
    const sealed = await sealer.seal(Pan.from(PAN), CARD)
    const wrong = Uint8Array.from(sealed, (byte, i) => (i === sealed.length - 1 ? byte ^ 1 : byte))
    const { key } = await derivedFor(sealed, first)
    const calls = [
      () => sealer.open(sealed, CARD),
      () => failure(async () => sealer.open(wrong, CARD), 'ERR_BACKEND_FAILED'),
    ]
    for (const call of calls) {
      const { buffers } = await buffersMadeBy<unknown>(call)
      expect(buffers.filter(buffer => Buffer.from(buffer).includes(key.subarray(0, 16)))).toEqual([])
    }
  })

  test('of a kid that has no room in a sealed PAN is refused', async () => {
    const long = '\u20ac'.repeat(86)
    await using backend = await softwareBackend({ keys: [aes(long, 'a5')] })
    const key = await backend.bind({ kid: long, usage: 'cmac' })
    await failure(() => panSealer({ keys: [key] }), 'ERR_ARGUMENT')
  })

  test('PANs move from bytes into the token, and only what was sealed so is opened so', async () => {
    const { backend, first, second } = await openKeys()
    await using _ = backend
    const bytes = { kid: 'PAN-B', key: KEY }
    const before = panSealer({ keys: [bytes] })
    const old = await before.seal(Pan.from(PAN), CARD)
    const both = panSealer({ keys: [first, bytes, second] })
    expect([both.isCurrent?.(old), (await both.open(old, CARD)).reveal()]).toEqual([false, PAN])
    const sealed = await both.seal(await both.open(old, CARD), CARD)
    expect(both.isCurrent?.(sealed)).toBe(true)
    expect((await panSealer({ keys: [first] }).open(sealed, CARD)).reveal()).toBe(PAN)
    await failure(async () => panSealer({ keys: [second] }).open(sealed, CARD), 'ERR_KEY_NOT_FOUND')
    // Bytes that have the token key's kid.
    const alike = panSealer({ keys: [{ kid: 'PAN-T', key: KEY }] })
    await failure(async () => alike.open(sealed, CARD), 'ERR_BACKEND_FAILED')
    expect(alike.isCurrent?.(sealed)).toBe(false)
    both[Symbol.dispose]()
    await failure(async () => both.seal(Pan.from(PAN), CARD), 'ERR_DISPOSED')
  })

  test('a backend that is closed says so, and no PAN is told from a wrong one by it', async () => {
    const { backend, first } = await openKeys()
    const sealer = panSealer({ keys: [first] })
    const sealed = await sealer.seal(Pan.from(PAN), CARD)
    await backend.close()
    await failure(async () => sealer.open(sealed, CARD), 'ERR_BACKEND_CLOSED')
    await failure(async () => sealer.seal(Pan.from(PAN), CARD), 'ERR_BACKEND_CLOSED')
  })

  test('keys for anything else are refused', async () => {
    const { backend, first } = await openKeys()
    await using _ = backend
    const pin = await backend.bind({ kid: 'PIN', usage: 'pin-encryption' })
    const tdea = await backend.bind({ kid: 'TDEA', usage: 'cmac' })
    const verifying = await backend.bind({ kid: 'PAN-U', usage: 'cmac', mode: 'V' })
    await failure(() => panSealer({ keys: [pin] }), 'ERR_KEY_USAGE')
    await failure(() => panSealer({ keys: [verifying] }), 'ERR_KEY_USAGE')
    await failure(() => panSealer({ keys: [tdea] }), 'ERR_ARGUMENT')
    await failure(() => panSealer({ keys: [first, first] }), 'ERR_ARGUMENT')
    await failure(() => panSealer({ keys: [first, { kid: 'PAN-T', key: KEY }] }), 'ERR_ARGUMENT')
    await failure(() => panSealer({ keys: [{ ...first }] as never }), 'ERR_ARGUMENT')
    expect(panSealer({ keys: [await backend.bind({ kid: 'K'.repeat(128), usage: 'cmac' })] })).toBeDefined()
  })
})
