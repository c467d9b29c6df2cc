/** What sealing and opening leave in memory: every secret buffer that node:crypto hands out is watched. */
import { beforeEach, describe, expect, it, vi } from 'vitest'

const watched = vi.hoisted(() => ({ secrets: [] as Uint8Array[], failAt: '', scalars: [] as string[] }))

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
      return Object.assign(ecdh, {
        computeSecret: (point: Buffer) => {
          mayFail('computeSecret')
          return secret(computeSecret(point))
        },
        setPrivateKey: (scalar: Buffer) => {
          setPrivateKey(scalar)
          watched.scalars.push(Buffer.from(scalar).toString('hex'))
        },
      })
    },
    hash: (name: string, data: Uint8Array) => secret(crypto.hash(name, data, 'buffer')),
    createCipheriv(name: string, key: Uint8Array, ...rest: [Uint8Array, object]) {
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

const { concatKdf } = await import('../../src/primitives/concat-kdf.js')
const { openJwe } = await import('../../src/jwe/open.js')
const { sealJwe } = await import('../../src/jwe/seal.js')
const { RECIPIENT, SAMPLE, SAMPLE_PLAINTEXT, softwareKey, text, utf8 } = await import('./support.js')

const ONE = `${'00'.repeat(31)}01`
const key = await softwareKey()
/** A short content goes through the cipher block by block. */
const PIECES = [16, 16, SAMPLE_PLAINTEXT.length - 32]
const lengths = (): number[] => watched.secrets.map(bytes => bytes.length)
const seal = (plaintext = utf8(SAMPLE_PLAINTEXT)) => sealJwe({ plaintext, recipient: RECIPIENT })

beforeEach(() => {
  watched.secrets.length = 0
  watched.scalars.length = 0
  watched.failAt = ''
})

function expectAllWiped(): void {
  for (const bytes of watched.secrets) expect(bytes.every(byte => byte === 0)).toBe(true)
}

describe('sealJwe wipes Z, the content key and the ephemeral scalar', () => {
  it('after success', async () => {
    await seal()
    expect(lengths()).toEqual([32, 32, 32])
    expectAllWiped()
    expect(watched.scalars).toEqual([ONE])
  })

  it.each([
    ['computeSecret', []],
    ['createCipheriv', [32, 32, 32]],
  ])('where %s fails', async (point, secrets) => {
    watched.failAt = point
    await expect(seal()).rejects.toThrow(`${point} fails`)
    expect(lengths()).toEqual(secrets)
    expectAllWiped()
    expect(watched.scalars).toEqual([ONE])
  })

  it('where the JWE would be too long', async () => {
    await expect(seal(new Uint8Array(7000))).rejects.toMatchObject({ code: 'ERR_LENGTH' })
    expect(watched.secrets).toEqual([])
    expect(watched.scalars).toEqual([ONE])
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

describe('concatKdf', () => {
  it('wipes each digest', () => {
    concatKdf(new Uint8Array(32), new Uint8Array(0), 80)
    expect(lengths()).toEqual([32, 32, 32])
    expectAllWiped()
  })
})
