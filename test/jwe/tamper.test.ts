import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isKid } from '../../src/base/arguments.js'
import { openJwe } from '../../src/jwe/open.js'
import { sealJwe } from '../../src/jwe/seal.js'
import { RECIPIENT, SAMPLE, softwareKey, utf8 } from './support.js'

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const key = await softwareKey()
const sealed = await sealJwe({
  plaintext: utf8('{"a":1}'),
  recipient: RECIPIENT,
  apu: utf8('U'),
  apv: utf8('V'),
})

/** What comes of a text: `opens`, or class, code and message of the error. */
async function outcome(jwe: string): Promise<string> {
  try {
    await openJwe({ jwe, keys: key })
    return 'opens'
  } catch (error) {
    return `${String(error)} ${Reflect.get(Object(error), 'code')}`
  }
}

async function outcomes(variants: Iterable<string>): Promise<string[]> {
  const seen = new Set<string>()
  for (const jwe of variants) seen.add(await outcome(jwe))
  return [...seen]
}

const REFUSED = ['JweError: the JWE does not open ERR_JWE']

/** The neighbour in the alphabet changes the lowest bit of the six, the next the highest; the others are foreign. */
function substitutes(character: string): string[] {
  const at = ALPHABET.indexOf(character)
  const near = at < 0 ? [] : [ALPHABET[at ^ 1] ?? '', ALPHABET[at ^ 32] ?? '']
  return [...near, '.', '=', '+', 'é'].filter(substitute => substitute !== character)
}

describe.each([
  ['the published D1 sample', SAMPLE],
  ['a JWE of ours with apu and apv', sealed],
])('%s is refused', (_, jwe) => {
  const positions = Array.from({ length: jwe.length }, (_unused, i) => i)

  it('but opens as it is', async () => {
    expect(await outcome(jwe)).toBe('opens')
  })

  it('with any one character replaced', async () => {
    const variants = positions.flatMap(at =>
      substitutes(jwe[at] ?? '').map(other => jwe.slice(0, at) + other + jwe.slice(at + 1)),
    )
    expect(variants.length).toBeGreaterThan(4 * jwe.length)
    expect(await outcomes(variants)).toEqual(REFUSED)
  })

  it('with any one character left out', async () => {
    expect(await outcomes(positions.map(at => jwe.slice(0, at) + jwe.slice(at + 1)))).toEqual(REFUSED)
  })

  it('with any one character put in', async () => {
    const variants = [...positions, jwe.length].flatMap(at =>
      ['A', '_', '.', '=', ' ', '\n', '\0'].map(extra => jwe.slice(0, at) + extra + jwe.slice(at)),
    )
    expect(await outcomes(variants)).toEqual(REFUSED)
  })

  it('with any two neighbours exchanged', async () => {
    const variants = positions
      .slice(1)
      .map(at => jwe.slice(0, at - 1) + jwe[at] + jwe[at - 1] + jwe.slice(at + 1))
      .filter(variant => variant !== jwe)
    expect(await outcomes(variants)).toEqual(REFUSED)
  })

  it('truncated anywhere, at either end', async () => {
    const variants = positions.slice(1).flatMap(at => [jwe.slice(0, at), jwe.slice(at)])
    expect(await outcomes(['', ...variants])).toEqual(REFUSED)
  })

  it('with a segment of the other', async () => {
    const mine = jwe.split('.')
    const other = (jwe === SAMPLE ? sealed : SAMPLE).split('.')
    const variants = [0, 2, 3, 4].map(at => mine.map((part, i) => (i === at ? other[i] : part)).join('.'))
    expect(await outcomes(variants)).toEqual(REFUSED)
  })
})

describe('openJwe', () => {
  it('refuses whatever text with one error', async () => {
    const part = fc.stringMatching(/^[\w-]{0,40}$/)
    const texts = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.array(part, { minLength: 4, maxLength: 6 }).map(parts => parts.join('.')),
      fc
        .json({ depthSize: 'small' })
        .map(json => SAMPLE.replace(/^[^.]*/, Buffer.from(json).toString('base64url'))),
    )
    await fc.assert(
      fc.asyncProperty(texts, async jwe => {
        expect([await outcome(jwe)]).toEqual(REFUSED)
      }),
      { numRuns: 500 },
    )
  })

  it('opens what sealJwe seals, whatever the content, kid, apu and apv', async () => {
    const recipient = RECIPIENT
    const bytes = (maxLength: number) => fc.uint8Array({ maxLength })
    const kids = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }).filter(isKid)
    await fc.assert(
      fc.asyncProperty(bytes(300), bytes(256), bytes(256), kids, async (plaintext, apu, apv, kid) => {
        const named = await softwareKey(undefined, kid)
        const jwe = await sealJwe({ plaintext, recipient, kid, apu, apv })
        const opened = await openJwe({ jwe, keys: [key, named] })
        expect(opened).toEqual({ plaintext, kid, header: { kid, apu, apv } })
      }),
      { numRuns: 100 },
    )
  })
})
