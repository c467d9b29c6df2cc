import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeBase64url, encodeBase64url, publicRoom } from '../../src/base/bytes.js'
import { buildCompact, compactLength, MAX_JWE_CHARACTERS, parseCompact } from '../../src/jwe/compact.js'
import { buildHeader, MAX_PARTY_BYTES, parseHeader, parseMembers } from '../../src/jwe/header.js'
import { readersOf } from '../support/untouched.js'
import { b64u, EPHEMERAL, EPK, forge, fromB64u, HEADER, RECIPIENT, SAMPLE } from './support.js'

const [head = '', , iv = '', ciphertext = '', tag = ''] = SAMPLE.split('.')
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const P = 'ffffffff00000001000000000000000000000000ffffffffffffffffffffffff'
const hexB64u = (hex: string): string => b64u(Buffer.from(hex, 'hex'))

describe('decodeBase64url refuses', () => {
  it.each([
    ['padding', 'AQ=='],
    ['part of the padding', 'AQ='],
    ['padding where none is due', 'AQID='],
    ['a length no bytes have', 'A'],
    ['a length no bytes have, longer', 'AQIDB'],
    ['trailing bits', 'AR'],
    ['trailing bits after two bytes', 'AQJ'],
    ['+ of plain base64', '-_+_'],
    ['/ of plain base64', '-_/_'],
    ['a space before', ' AQID'],
    ['a space within', 'AQ ID'],
    ['a line feed after', 'AQID\n'],
    ['NUL', 'AQID\0'],
    ['a dot', 'AQ.ID'],
    ['another script', 'ＡＱＩＤ'],
    ['a character whose low byte is in the alphabet', 'AQI\u0141'],
  ])('%s', (_, value) => {
    expect(decodeBase64url(value)).toBeUndefined()
  })

  it('all but one of the 64 last characters for each sequence of bytes', () => {
    const accepted = (stem: string): number =>
      [...ALPHABET].filter(last => decodeBase64url(stem + last) !== undefined).length
    expect([accepted('A'), accepted('AA'), accepted('AAA')]).toEqual([4, 16, 64])
  })
})

describe('base64url', () => {
  it.each([
    ['', ''],
    ['AQ', '01'],
    ['AQI', '0102'],
    ['AQID', '010203'],
    ['-_8', 'fbff'],
  ])('%s', (value, hex) => {
    const bytes = decodeBase64url(value)
    expect(Buffer.from(bytes ?? [9]).toString('hex')).toBe(hex)
    expect(bytes?.buffer.byteLength).toBe(hex.length / 2)
    expect(encodeBase64url(Buffer.from(`00${hex}00`, 'hex').subarray(1, 1 + hex.length / 2))).toBe(value)
  })
})

describe('parseCompact refuses the form', () => {
  it.each([
    ['the empty text', ''],
    ['one segment', head],
    ['four segments', `${head}..${iv}.${ciphertext}`],
    ['four segments: no encrypted-key segment', `${head}.${iv}.${ciphertext}.${tag}`],
    ['six segments', `${SAMPLE}.`],
    ['six segments, the first empty', `.${SAMPLE}`],
    ['a JWS', `${head}.${ciphertext}.${tag}`],
    ['an encrypted key', SAMPLE.replace('..', '.AAAA.')],
    ['no header', `..${iv}.${ciphertext}.${tag}`],
    ['no IV', `${head}...${ciphertext}.${tag}`],
    ['no tag', `${head}..${iv}.${ciphertext}.`],
    ['an IV of 11 bytes', `${head}..${b64u(fromB64u(iv).subarray(1))}.${ciphertext}.${tag}`],
    [
      'an IV of 13 bytes',
      `${head}..${b64u(Buffer.concat([fromB64u(iv), Buffer.of(0)]))}.${ciphertext}.${tag}`,
    ],
    ['a tag of 15 bytes', `${head}..${iv}.${ciphertext}.${b64u(fromB64u(tag).subarray(0, 15))}`],
    ['a tag of 12 bytes', `${head}..${iv}.${ciphertext}.${b64u(fromB64u(tag).subarray(0, 12))}`],
    [
      'a tag of 17 bytes',
      `${SAMPLE.slice(0, -tag.length)}${b64u(Buffer.concat([fromB64u(tag), Buffer.of(0)]))}`,
    ],
    ['trailing bits in the tag', `${SAMPLE.slice(0, -1)}x`],
    ['trailing bits in the header', SAMPLE.replace('..', 'A..')],
    ['trailing bits in the ciphertext', `${head}..${iv}.AR.${tag}`],
    ['an impossible length of ciphertext', `${head}..${iv}.A.${tag}`],
    ['padding', `${SAMPLE}==`],
    ['padded ciphertext', `${head}..${iv}.AQ==.${tag}`],
    ['a line feed at the end', `${SAMPLE}\n`],
    ['a space at the start', ` ${SAMPLE}`],
    ['a line feed within', SAMPLE.replace('..', '.\n.')],
    ['plain base64', `${head}..${iv}.AA+/.${tag}`],
    ['the JSON serialization', JSON.stringify({ protected: head, iv, ciphertext, tag })],
    ['a header of 2049 characters', `${'A'.repeat(2049)}..${iv}.${ciphertext}.${tag}`],
    ['8193 characters', `${head}..${iv}.${'A'.repeat(8193 - head.length - 42)}.${tag}`],
  ])('%s', (_, jwe) => {
    expect(parseCompact(jwe)).toBeUndefined()
  })

  it.each([
    ['one segment', 'A'.repeat(10_000_000)],
    ['a right beginning', SAMPLE + 'A'.repeat(10_000_000)],
    ['nothing but dots', '.'.repeat(10_000_000)],
  ])('10 MB, by the length alone: %s', async (_, jwe) => {
    expect(await readersOf(jwe, () => expect(parseCompact(jwe)).toBeUndefined())).toEqual([])
  })
})

describe('parseHeader refuses', () => {
  const { epk: _, ...noEpk } = HEADER
  const raw = JSON.stringify(HEADER)
  const plus = (members: string): string => `${raw.slice(0, -1)},${members}}`
  const epk = (change: object): object => ({ ...HEADER, epk: { ...EPK, ...change } })

  it.each<[string, object | string | Uint8Array]>([
    ['no JSON', 'no JSON'],
    ['an array', [HEADER]],
    ['the empty object', {}],
    ['text after the object', `${raw} x`],
    ['a byte order mark', `\ufeff${raw}`],
    [
      'bytes that are not UTF-8',
      Buffer.concat([
        Buffer.from(raw.slice(0, -1)),
        Buffer.from(',"a":"'),
        Buffer.of(0xff),
        Buffer.from('"}'),
      ]),
    ],
    ['UTF-16', Buffer.from(raw, 'utf16le')],
    ['a duplicate alg', plus('"alg":"ECDH-ES"')],
    ['a duplicate enc, escaped', plus('"\\u0065nc":"A256GCM"')],
    ['a duplicate kid', plus('"kid":"other"')],
    ['a duplicate of a member that is not read', plus('"a":1,"a":1')],
    ['a duplicate x in epk', raw.replace('"x":', '"x":"AA","x":')],
    ['__proto__', plus('"__proto__":{"zip":"DEF"}')],
    ['__proto__, escaped', plus('"__proto\\u005f_":{}')],
    ['constructor', plus('"constructor":{}')],
    ['a prototype in epk', raw.replace('"x":', '"prototype":{},"x":')],
    ['nine levels', plus(`"a":${'['.repeat(8)}${']'.repeat(8)}`)],
    ['zip', { ...HEADER, zip: 'DEF' }],
    ['zip null', { ...HEADER, zip: null }],
    ['crit', { ...HEADER, crit: ['exp'], exp: 1 }],
    ['crit naming what is understood', { ...HEADER, crit: ['alg'] }],
    ['crit empty', { ...HEADER, crit: [] }],
    ['no alg', { ...HEADER, alg: undefined }],
    ['no enc', { ...HEADER, enc: undefined }],
    ['no epk', noEpk],
    ['alg none', { ...HEADER, alg: 'none' }],
    ['alg dir', { ...HEADER, alg: 'dir' }],
    ['alg in lower case', { ...HEADER, alg: 'ecdh-es' }],
    ['alg ECDH-ES+A256KW', { ...HEADER, alg: 'ECDH-ES+A256KW' }],
    ['alg RSA-OAEP', { ...HEADER, alg: 'RSA-OAEP' }],
    ['alg in an array', { ...HEADER, alg: ['ECDH-ES'] }],
    ['enc A128GCM', { ...HEADER, enc: 'A128GCM' }],
    ['enc A256CBC-HS512', { ...HEADER, enc: 'A256CBC-HS512' }],
    ['enc in an array', { ...HEADER, enc: ['A256GCM'] }],
    ['kid a number', { ...HEADER, kid: 1 }],
    ['kid null', { ...HEADER, kid: null }],
    ['kid an object', { ...HEADER, kid: {} }],
    ['typ a number', { ...HEADER, typ: 1 }],
    ['cty an object', { ...HEADER, cty: {} }],
    ['apu a number', { ...HEADER, apu: 1 }],
    ['apu null', { ...HEADER, apu: null }],
    ['apu padded', { ...HEADER, apu: 'QQ==' }],
    ['apu with trailing bits', { ...HEADER, apu: 'QR' }],
    ['apu of 257 bytes', { ...HEADER, apu: b64u(Buffer.alloc(257)) }],
    ['apv an array', { ...HEADER, apv: ['QQ'] }],
    ['apv in plain base64', { ...HEADER, apv: '+/+/' }],
    ['apv of 257 bytes', { ...HEADER, apv: b64u(Buffer.alloc(257)) }],
    ['epk null', { ...HEADER, epk: null }],
    ['epk a string', { ...HEADER, epk: JSON.stringify(EPK) }],
    ['epk an array', { ...HEADER, epk: [EPK] }],
    ['epk with its private member', epk({ d: b64u(Buffer.alloc(32, 0x42)) })],
    ['epk with a private member null', epk({ d: null })],
    ['epk of kty OKP', epk({ kty: 'OKP' })],
    ['epk without kty', epk({ kty: undefined })],
    ['epk on P-384', epk({ crv: 'P-384' })],
    ['epk on secp256k1', epk({ crv: 'secp256k1' })],
    ['epk without crv', epk({ crv: undefined })],
    ['epk compressed: no y', epk({ y: undefined })],
    ['epk compressed: a flag for y', epk({ y: true })],
    ['epk with a point for x', epk({ x: b64u(EPHEMERAL.getPublicKey()), y: '' })],
    [
      'epk with a compressed point for x',
      epk({ x: b64u(EPHEMERAL.getPublicKey(null, 'compressed')), y: '' }),
    ],
    ['epk off the curve', epk({ y: EPK.x })],
    ['epk at infinity as zeros', epk({ x: b64u(Buffer.alloc(32)), y: b64u(Buffer.alloc(32)) })],
    ['epk at infinity as nothing', epk({ x: '', y: '' })],
    ['epk with x = p', epk({ x: hexB64u(P) })],
    ['epk with y = p', epk({ y: hexB64u(P) })],
    ['epk with x at its largest', epk({ x: hexB64u('f'.repeat(64)) })],
    ['epk with x of 31 bytes', epk({ x: b64u(fromB64u(EPK.x).subarray(1)) })],
    ['epk with x of 33 bytes', epk({ x: b64u(Buffer.concat([Buffer.of(0), fromB64u(EPK.x)])) })],
    ['epk with x padded', epk({ x: `${EPK.x}=` })],
    ['epk with x in hex', epk({ x: fromB64u(EPK.x).toString('hex') })],
  ])('%s', (_, header) => {
    const json = typeof header === 'string' || header instanceof Uint8Array ? header : JSON.stringify(header)
    expect(parseHeader(b64u(json))).toBeUndefined()
  })

  it('none of these for another reason than its own', () => {
    for (const header of [raw, plus('"a":1'), JSON.stringify(epk({ a: 1, D: 1 })), `${raw}\n`]) {
      expect(parseHeader(b64u(header))).toBeDefined()
    }
  })

  it('coordinates that are right modulo p only', () => {
    // x = 0 has y² = b; b is a square modulo p, so (0, y) is on the curve and (p, y) is a second spelling of it.
    const y = '66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4'
    const zero = b64u(Buffer.alloc(32))
    expect(parseHeader(b64u(JSON.stringify(epk({ x: zero, y: hexB64u(y) }))))).toBeDefined()
    expect(parseHeader(b64u(JSON.stringify(epk({ x: hexB64u(P), y: hexB64u(y) }))))).toBeUndefined()
  })

  it('plain base64', () => {
    const segment = b64u(JSON.stringify({ ...HEADER, a: '???>>>' }))
    expect(segment).toMatch(/_.*-/)
    expect(parseHeader(segment)).toBeDefined()
    expect(parseHeader(segment.replaceAll('-', '+').replaceAll('_', '/'))).toBeUndefined()
  })

  it.each(['', 'A', 'eyJ9', 'e30', 'e31'])('the segment «%s»', segment => {
    expect(parseHeader(segment)).toBeUndefined()
  })
})

describe('parseHeader', () => {
  it('gives the facts and the point', () => {
    const header = {
      ...HEADER,
      apu: 'QWxpY2U',
      apv: '',
      typ: 'JOSE',
      cty: 'json',
      'x-other': { a: [1] },
      jku: 'https://x',
    }
    const parsed = parseHeader(b64u(JSON.stringify(header)))
    expect(parsed?.header).toEqual({
      kid: RECIPIENT.kid,
      apu: Uint8Array.from(Buffer.from('Alice')),
      apv: new Uint8Array(0),
      typ: 'JOSE',
      cty: 'json',
    })
    expect(Buffer.from(parsed?.ephemeralPublicKey ?? [])).toEqual(EPHEMERAL.getPublicKey())
  })

  it('reads 2,048 characters and no more', () => {
    const padded = (bytes: number): string => {
      const bare = JSON.stringify({ ...HEADER, pad: '' }).length
      return b64u(JSON.stringify({ ...HEADER, pad: 'x'.repeat(bytes - bare) }))
    }
    expect(padded(1536)).toHaveLength(2048)
    expect(parseHeader(padded(1536))?.header.kid).toBe(RECIPIENT.kid)
    expect(parseHeader(padded(1537))).toBeUndefined()
    expect(parseHeader(padded(9000))).toBeUndefined()
    const spaced = (bytes: number): string => b64u(JSON.stringify(HEADER).padEnd(bytes))
    expect([spaced(1536), spaced(1537)].map(one => parseHeader(one) !== undefined)).toEqual([true, false])
  })

  it('leaves what is absent undefined', () => {
    const { kid: _, ...header } = HEADER
    expect(parseHeader(b64u(JSON.stringify(header)))?.header).toEqual({})
  })
})

describe('a header as D1 writes it has one reading', () => {
  const plain = JSON.stringify(HEADER)
  const alike = (text: string): void => {
    const bytes = Buffer.from(text, 'utf8')
    expect(parseHeader(b64u(bytes))).toEqual(parseMembers(bytes))
  }

  it.each([
    ['as it is', plain],
    ['an empty kid', plain.replace(RECIPIENT.kid, '')],
    ['a kid with an escape', plain.replace(RECIPIENT.kid, '\\u0041')],
    ['a kid with an escaped quote', plain.replace(RECIPIENT.kid, 'a\\"b')],
    ['a kid that ends its string', plain.replace(RECIPIENT.kid, 'a"b')],
    ['a second kid', plain.replace(RECIPIENT.kid, 'a","kid":"b')],
    ['a critical member in the kid', plain.replace(RECIPIENT.kid, 'a","crit":["b"],"c":"d')],
    ['a control character', plain.replace(RECIPIENT.kid, 'a\u0001')],
    ['DEL', plain.replace(RECIPIENT.kid, 'a\u007f')],
    ['another script', plain.replace(RECIPIENT.kid, 'ключ')],
    ['a lone surrogate', plain.replace(RECIPIENT.kid, 'a\ud800')],
    ['a line feed after it', `${plain}\n`],
    ['two of them', plain + plain],
    ['something before it', ` ${plain}`],
    ['another curve', plain.replace('P-256', 'P-384')],
    ['x and y exchanged', plain.replace(EPK.x, EPK.y)],
    ['an x with a bit left over', plain.replace(EPK.x, `${EPK.x.slice(0, -1)}B`)],
    ['a y with a bit left over', plain.replace(EPK.y, `${EPK.y.slice(0, -1)}B`)],
    ['an x that is too short', plain.replace(EPK.x, EPK.x.slice(1))],
    ['a private member', plain.replace('"y":', '"d":"AA","y":')],
    ['zip', plain.replace(/\}$/, ',"zip":"DEF"}')],
  ])('%s', (_, text) => {
    alike(text)
  })

  it('whatever the kid, and whatever character of it is changed', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.nat(),
        fc.integer({ min: 0, max: 0x17f }),
        (kid, at, code) => {
          alike(JSON.stringify({ ...HEADER, kid }))
          const place = at % plain.length
          alike(plain.slice(0, place) + String.fromCharCode(code) + plain.slice(place + 1))
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('parts of messages', () => {
  it('lie apart, however many there are, and however long they are', () => {
    const one = forge(HEADER, { plaintext: new Uint8Array(3000).fill(1) })
    const parsed = Array.from({ length: 40 }, () => parseCompact(one))
    for (const message of parsed) {
      expect(message).toEqual(parsed[0])
      if (message !== undefined) expect(buildCompact(one.split('.')[0] ?? '', message)).toBe(one)
    }
    const buffers = new Set(parsed.map(message => message?.ciphertext.buffer))
    expect(buffers.size).toBeGreaterThan(1)
    expect(publicRoom(40_000)).toEqual(new Uint8Array(40_000))
  })
})

describe('parseCompact', () => {
  it('is undone by buildCompact', () => {
    const parsed = parseCompact(SAMPLE)
    expect(parsed).toBeDefined()
    if (parsed === undefined) return
    expect(Buffer.from(parsed.aad).toString()).toBe(head)
    expect(buildCompact(head, parsed)).toBe(SAMPLE)
  })

  it('accepts 8192 characters and an empty ciphertext', () => {
    const bytes = Math.floor(((MAX_JWE_CHARACTERS - b64u(JSON.stringify(HEADER)).length - 42) * 3) / 4)
    const longest = forge(HEADER, { plaintext: new Uint8Array(bytes) })
    expect(longest.length).toBeGreaterThan(MAX_JWE_CHARACTERS - 2)
    expect(longest.length).toBeLessThanOrEqual(MAX_JWE_CHARACTERS)
    expect(parseCompact(longest)?.ciphertext).toHaveLength(bytes)
    expect(parseCompact(forge(HEADER, { plaintext: new Uint8Array(0) }))?.ciphertext).toHaveLength(0)
  })

  it('compactLength tells the length beforehand', () => {
    const segment = b64u(JSON.stringify(HEADER))
    for (let bytes = 0; bytes < 10; bytes++) {
      const jwe = forge(HEADER, { plaintext: new Uint8Array(bytes) })
      expect(compactLength(segment, bytes)).toBe(jwe.length)
    }
  })
})

describe('buildHeader', () => {
  it('writes the members in the order of the published sample', () => {
    const json = fromB64u(buildHeader({ kid: 'K1', ephemeralPublicKey: EPHEMERAL.getPublicKey() })).toString()
    expect(json).toBe(JSON.stringify({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'K1', epk: EPK }))
  })

  it('stays within what parseHeader takes, however long its fields', () => {
    for (const character of ['x', '"', '\\', '€', '😀']) {
      const kid = character.repeat(128 / character.length)
      const party = new Uint8Array(MAX_PARTY_BYTES).fill(255)
      const ephemeralPublicKey = EPHEMERAL.getPublicKey()
      const segment = buildHeader({ kid, ephemeralPublicKey, apu: party, apv: party })
      expect(segment.length).toBeLessThanOrEqual(2048)
      expect(parseHeader(segment)?.header).toEqual({ kid, apu: party, apv: party })
    }
  })
})
