/** A profile drawn from itself: every field and input is there, and no text of a profile is markup. */
import { expect, test } from 'vitest'
import { parseProfile } from '../../../src/seccos/profile/parse.js'
import { drawProfile } from '../../../src/tools/inspect/profile-drawing.js'
import { SCHEMES } from '../../seccos/schemes.js'

test.each(Object.keys(SCHEMES) as (keyof typeof SCHEMES)[])('%s', name => {
  const profile = parseProfile({ ...SCHEMES[name], name: '<script>&"' })
  const svg = drawProfile(profile)
  expect(svg).not.toContain('<script')
  expect(svg).toContain('&#60;script&#62;&#38;&#34; 1.0.0 (illustrative)')
  for (const { id, offset, length } of profile.fields) {
    expect(svg).toContain(`${id}: bytes ${offset} to ${offset + length - 1}, `)
  }
  const masked = profile.fields.filter(field => !('constant' in field) && field.masked !== false)
  expect(svg.match(/url\(#masked\)/g)).toHaveLength(masked.length)
  expect(svg.match(/<rect /g)).toHaveLength(
    3 + profile.fields.length + profile.prw.inputs.length + profile.mac.inputs.length,
  )
  const boxes = [...svg.matchAll(/<rect x="([0-9.]+)" y="([0-9]+)" width="([0-9.]+)"/g)]
  for (const [i, [, x, y, width]] of boxes.entries()) {
    // Side by side: the next one of a row begins where this one ends, within the page.
    const next = boxes[i + 1]
    if (next?.[2] === y) expect(Number(next?.[1])).toBeCloseTo(Number(x) + Number(width), 0)
    expect(Number(x) + Number(width)).toBeLessThanOrEqual(981)
  }
  expect(svg).toContain(`PRW: ${profile.prw.algorithm}`)
  expect(svg).toContain(`MAC: ${profile.mac.algorithm}`)
})

test('says how a key is derived, what is hashed, and what is enciphered first', () => {
  expect(drawProfile(parseProfile(SCHEMES.derived))).toContain('key derived: encipher, then encipher')
  expect(drawProfile(parseProfile(SCHEMES.hashed))).toContain('cmac-tdea over sha-256')
  expect(drawProfile(parseProfile(SCHEMES.hashed))).toContain('enciphered: pinBlock')
  expect(drawProfile(parseProfile(SCHEMES.parts))).toContain('pan (part)')
  const { prw, ...rest } = SCHEMES.keyed
  const marked = { ...prw, inputs: [{ input: 'constant', constant: 'C0FFEE' }, ...prw.inputs] }
  expect(drawProfile(parseProfile({ ...rest, prw: marked }))).toContain('C0FFEE')
  expect(() => drawProfile({} as never)).toThrow('profile must come from parseProfile')
})
