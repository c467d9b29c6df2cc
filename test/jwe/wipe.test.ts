/** What sealing and opening leave in memory: every secret buffer that node:crypto hands out is watched. */
import type { ECDH } from 'node:crypto'
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

const watched = vi.hoisted(() => ({
  secrets: [] as Uint8Array[],
  hashed: [] as Uint8Array[],
  overwritten: [] as number[],
  failAt: '',
  scalars: [] as string[],
  agreements: [] as { readonly ecdh: ECDH; readonly scalar: string }[],
  made: 0,
}))

vi.mock('node:crypto', async importOriginal => {
  const crypto = await importOriginal<typeof import('node:crypto')>()
  const secret = <T extends Uint8Array>(bytes: T): T => {
    watched.secrets.push(bytes)
    return bytes
  }
  const mayFail = (point: string): void => {
    if (watched.failAt === point) throw new Error(`${point} fails`)
  }
  return {
    ...crypto,
    createECDH(curve: string) {
      const ecdh = crypto.createECDH(curve)
      const computeSecret = ecdh.computeSecret.bind(ecdh)
      const setPrivateKey = ecdh.setPrivateKey.bind(ecdh)
      const generateKeys = ecdh.generateKeys.bind(ecdh)
      return Object.assign(ecdh, {
        generateKeys: () => {
          watched.made++
          mayFail(`generateKeys ${watched.made}`)
          return generateKeys()
        },
        computeSecret: (point: Buffer) => {
          watched.agreements.push({ ecdh, scalar: ecdh.getPrivateKey('hex') })
          mayFail('computeSecret')
          return secret(computeSecret(point))
        },
        setPrivateKey: (scalar: Buffer) => {
          setPrivateKey(scalar)
          watched.scalars.push(Buffer.from(scalar).toString('hex'))
        },
      })
    },
    hash: (name: string, data: Uint8Array) => {
      watched.hashed.push(data)
      return secret(crypto.hash(name, data, 'buffer'))
    },
    createCipheriv(name: string, key: Uint8Array, ...rest: [Uint8Array, object]) {
      if (name === 'aes-256-ctr') {
        const cipher = crypto.createCipheriv(name, key, rest[0])
        const update = cipher.update.bind(cipher)
        return Object.assign(cipher, {
          update: (data: Uint8Array) => {
            watched.overwritten.push(data.length)
            return update(data)
          },
        })
      }
      secret(key)
      mayFail('createCipheriv')
      return crypto.createCipheriv(
        name as 'aes-256-gcm',
        key,
        ...(rest as [Uint8Array, { authTagLength: 16 }]),
      )
    },
    createDecipheriv(name: string, key: Uint8Array, ...rest: [Uint8Array, object]) {
      secret(key)
      const decipher = crypto.createDecipheriv(
        name as 'aes-256-gcm',
        key,
        ...(rest as [Uint8Array, { authTagLength: 16 }]),
      )
      const update = decipher.update.bind(decipher)
      return Object.assign(decipher, { update: (data: Uint8Array) => secret(update(data)) })
    },
  }
})

// Whatever was loaded before it has the real one.
vi.resetModules()
const { decryptContent, encryptContent } = await import('../../src/primitives/a256gcm.js')
const { updateCleanly } = await import('../../src/primitives/cleanly.js')
const { buffersMadeBy } = await import('../leaks/recorder.js')
const { concatKdf } = await import('../../src/primitives/concat-kdf.js')
const { DEFAULTS } = await import('../../src/base/defaults.js')
const { systemClock } = await import('../../src/base/deadline.js')
const { openJwe } = await import('../../src/jwe/open.js')
const { sealJwe } = await import('../../src/jwe/seal.js')
const { RECIPIENT, SAMPLE, SAMPLE_PLAINTEXT, softwareKey, text, utf8 } = await import('./support.js')

const ONE = `${'00'.repeat(31)}01`
const key = await softwareKey()
/** A short content goes through the cipher block by block. */
const PIECES = [16, 16, SAMPLE_PLAINTEXT.length - 32]
const lengths = (): number[] => watched.secrets.map(bytes => bytes.length)
const seal = (plaintext = utf8(SAMPLE_PLAINTEXT)) => sealJwe({ plaintext, recipient: RECIPIENT })

afterAll(() => {
  vi.doUnmock('node:crypto')
  vi.resetModules()
})
beforeEach(() => {
  watched.secrets.length = 0
  watched.hashed.length = 0
  watched.overwritten.length = 0
  watched.scalars.length = 0
  watched.agreements.length = 0
  watched.made = 0
  watched.failAt = ''
})

function expectAllWiped(): void {
  for (const bytes of watched.secrets) expect(bytes.every(byte => byte === 0)).toBe(true)
}

/** The scalars that agreements were made with, none of which any object has any more. */
function forgottenScalars(): readonly string[] {
  for (const { ecdh, scalar } of watched.agreements) expect(ecdh.getPrivateKey('hex')).not.toBe(scalar)
  return watched.agreements.map(({ scalar }) => scalar)
}

describe('sealJwe wipes Z, the content key and the ephemeral scalar', () => {
  it('after success', async () => {
    await seal()
    expect(lengths()).toEqual([32, 32, 32])
    expectAllWiped()
    expect(forgottenScalars()).toHaveLength(1)
  })

  it.each([
    ['computeSecret', []],
    ['createCipheriv', [32, 32, 32]],
  ])('where %s fails', async (point, secrets) => {
    watched.failAt = point
    await expect(seal()).rejects.toThrow(`${point} fails`)
    expect(lengths()).toEqual(secrets)
    expectAllWiped()
    expect(forgottenScalars()).toHaveLength(1)
  })

  it('where the JWE would be too long', async () => {
    await seal()
    const { ecdh } = watched.agreements[0] ?? expect.fail('no agreement')
    const ahead = ecdh.getPrivateKey('hex')
    await expect(seal(new Uint8Array(7000))).rejects.toMatchObject({ code: 'ERR_LENGTH' })
    expect(lengths()).toEqual([32, 32, 32])
    expect(ecdh.getPrivateKey('hex')).not.toBe(ahead)
  })
})

describe('the ephemeral key of the next message takes the place of the last one’s', () => {
  const start = { now: 1_000_000, elapsed: 5000 }
  const clock = { ...start }
  const age = DEFAULTS.keys.ephemeralAheadMs.value
  beforeEach(() => {
    Object.assign(clock, start)
    vi.spyOn(systemClock, 'now').mockImplementation(() => clock.now)
    vi.spyOn(systemClock, 'elapsed').mockImplementation(() => clock.elapsed)
  })
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it('no two messages have one', async () => {
    const points = new Set<string>()
    for (let i = 0; i < 20; i++) points.add((await seal()).split('.')[0] ?? '')
    await expect(seal(new Uint8Array(7000))).rejects.toMatchObject({ code: 'ERR_LENGTH' })
    for (let i = 0; i < 20; i++) points.add((await seal()).split('.')[0] ?? '')
    expect(points.size).toBe(40)
    expect(new Set(forgottenScalars()).size).toBe(40)
  })

  it.each([
    ['at once', 0, 0, 1],
    ['just before its time is over', age - 1, age - 1, 1],
    ['when it is over', age, age, 2],
    ['when it is over by the clock on the wall: the machine was asleep', age, 1, 2],
    ['when it is over by the clock that never jumps: the other was set', 1, age, 2],
    ['when the clock on the wall was set back', -1, 1, 2],
  ])('%s', async (_, now, elapsed, made) => {
    clock.now -= 10 * age
    clock.elapsed -= 2
    await seal()
    Object.assign(clock, start)
    await seal()
    watched.made = 0
    clock.now += now
    clock.elapsed += elapsed
    await seal()
    expect(watched.made).toBe(made)
    expect(new Set(forgottenScalars()).size).toBe(3)
  })

  it('where there is none, a 1 does, the message is whole, and the next one is told', async () => {
    await seal()
    watched.made = 0
    watched.failAt = 'generateKeys 1'
    const { plaintext } = await openJwe({ jwe: await seal(), keys: key })
    expect(text(plaintext)).toBe(SAMPLE_PLAINTEXT)
    expect(watched.scalars).toEqual([ONE])
    watched.failAt = 'generateKeys 2'
    await expect(seal()).rejects.toThrow('generateKeys 2 fails')
    expect(lengths()).toHaveLength(9 + PIECES.length)
  })
})

describe('openJwe wipes Z, the content key and the unverified content', () => {
  it('after success, and what it returns is another copy', async () => {
    const { plaintext } = await openJwe({ jwe: SAMPLE, keys: key })
    expect(lengths()).toEqual([32, 32, 32, ...PIECES])
    expectAllWiped()
    expect(text(plaintext)).toBe(SAMPLE_PLAINTEXT)
  })

  it('where the tag is wrong', async () => {
    const jwe = `${SAMPLE.slice(0, -2)}AQ`
    await expect(openJwe({ jwe, keys: key })).rejects.toMatchObject({ code: 'ERR_JWE' })
    expect(lengths()).toEqual([32, 32, 32, ...PIECES])
    expectAllWiped()
  })
})

describe('what Node frees of a content', () => {
  it.each([
    [0, []],
    [16, []],
    [127, []],
    [1023, []],
    [1024, [1024]],
    [3000, [3000]],
  ])('of %i bytes is written over', (length, overwritten) => {
    const plaintext = new Uint8Array(length).fill(5)
    const content = encryptContent(new Uint8Array(32).fill(7), {
      aad: utf8('header'),
      iv: new Uint8Array(12),
      plaintext,
    })
    watched.secrets.length = 0
    expect(decryptContent(new Uint8Array(32), content)).toBeUndefined()
    expect(decryptContent(new Uint8Array(32).fill(7), content)).toEqual(plaintext)
    const [, ...pieces] = lengths()
    // In pieces that the allocator overwrites by itself; or in one, over which a second cipher writes.
    const whole = Array.from({ length: length >> 4 }, () => 16)
    const inPieces = length % 16 === 0 ? whole : [...whole, length % 16]
    const once = length < 1024 ? inPieces : [length]
    expect(pieces).toEqual([...once, 32, ...once])
    expect(watched.overwritten).toEqual([...overwritten, ...overwritten])
    for (const piece of watched.secrets)
      if (piece.length !== 32) expect(piece.every(byte => byte === 0)).toBe(true)
  })
})

it('what was deciphered before a cipher failed is wiped', async () => {
  const pieces: Buffer[] = []
  const cipher = {
    update: () => {
      if (pieces.length === 2) throw new Error('no more')
      pieces.push(Buffer.alloc(16, 7))
      return pieces.at(-1) ?? Buffer.alloc(0)
    },
  }
  const { buffers } = await buffersMadeBy(() => {
    expect(() => updateCleanly(cipher as never, new Uint8Array(48), 16)).toThrow('no more')
  })
  expect(buffers.some(({ byteLength }) => byteLength === 48)).toBe(true)
  for (const made of [...pieces, ...buffers.map(buffer => new Uint8Array(buffer))])
    expect(made.every(byte => byte === 0)).toBe(true)
})

describe('concatKdf', () => {
  it.each([16, 3000])('wipes what it hashes, with OtherInfo of %i bytes', bytes => {
    concatKdf(new Uint8Array(32).fill(1), new Uint8Array(bytes).fill(2), 64)
    expect(watched.hashed.map(({ length }) => length)).toEqual([36 + bytes, 36 + bytes])
    for (const hashed of watched.hashed) expect(hashed.every(byte => byte === 0)).toBe(true)
  })

  it('wipes each digest', () => {
    concatKdf(new Uint8Array(32), new Uint8Array(0), 80)
    expect(lengths()).toEqual([32, 32, 32])
    expectAllWiped()
  })
})
