import { expect, test } from 'vitest'
import { readText, showText, textLength } from '../../src/seccos/profile/forms.js'
import { hex } from '../support/vectors.js'

test.each([
  ['hex-upper', 4, 8, '00ABCDEF'],
  ['hex-lower', 4, 8, '00abcdef'],
  ['base64', 4, 8, 'AKvN7w=='],
  ['base64url', 4, 6, 'AKvN7w'],
  ['base64', 6, 8, 'AKvN7/v/'],
  ['base64url', 6, 8, 'AKvN7_v_'],
  ['base64url', 5, 7, 'AKvN7_s'],
] as const)('%s of %i bytes has %i characters', (form, bytes, characters, text) => {
  expect(textLength(form, bytes)).toBe(characters)
  const value = readText(form, bytes, text, 'value')
  expect(hex(value)).toBe('00ABCDEFFBFF'.slice(0, 2 * bytes))
  expect(showText(form, value)).toBe(text)
})

test.each([
  ['base64', 4, 'AKvN7x=='],
  ['base64url', 4, 'AKvN7x'],
  ['base64', 6, 'AKvN7_v_'],
  ['base64url', 6, 'AKvN7/v/'],
  ['base64', 4, 'AKvN7w'],
  ['base64', 4, 'AKvN7w==='],
  ['hex-upper', 4, '00abcdef'],
  ['hex-lower', 4, '00ABCDEF'],
  ['hex-upper', 4, '00ABCDE\n'],
] as const)('%s of %i bytes is not «%s»', (form, bytes, text) => {
  expect(() => readText(form, bytes, text, 'value')).toThrow(
    expect.objectContaining({ code: 'ERR_ENCODING' }),
  )
})
