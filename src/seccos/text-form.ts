/** The text forms of PRW and MAC. Reading is strict: one text per value, so that no two texts mean one PRW. */
import { fromHex, toHex } from '../bytes.js'
import { ArgumentError, InputError } from '../errors.js'
import type { TextForm } from './profile.js'

interface TextRule {
  readonly show: (bytes: Uint8Array) => string
  readonly read: (text: string) => Uint8Array | undefined
  readonly characters: (bytes: number) => number
}

function hexRule(pattern: RegExp, show: (bytes: Uint8Array) => string): TextRule {
  return {
    show,
    read: text => (pattern.test(text) ? fromHex(text, 'value') : undefined),
    characters: bytes => 2 * bytes,
  }
}

function base64Rule(encoding: 'base64' | 'base64url'): TextRule {
  const show = (bytes: Uint8Array): string => Buffer.from(bytes).toString(encoding)
  return {
    show,
    read: text => {
      const bytes = Uint8Array.from(Buffer.from(text, encoding))
      return show(bytes) === text ? bytes : undefined
    },
    characters: bytes => (encoding === 'base64' ? 4 * Math.ceil(bytes / 3) : Math.ceil((8 * bytes) / 6)),
  }
}

const TEXT_FORMS: Readonly<Record<TextForm, TextRule>> = {
  'hex-upper': hexRule(/^[0-9A-F]*$/, toHex),
  'hex-lower': hexRule(/^[0-9a-f]*$/, bytes => toHex(bytes).toLowerCase()),
  base64: base64Rule('base64'),
  base64url: base64Rule('base64url'),
}

/** The names of the forms. */
export const TEXT_FORM_NAMES: readonly TextForm[] = Object.keys(TEXT_FORMS) as TextForm[]

/** Characters that so many bytes take. */
export function textLength(form: TextForm, bytes: number): number {
  return TEXT_FORMS[form].characters(bytes)
}

/** The text of a value. */
export function showText(form: TextForm, bytes: Uint8Array): string {
  return TEXT_FORMS[form].show(bytes)
}

/** The value of a text; `ERR_ENCODING` unless it is exactly `bytes` long and in this form. `name` goes into messages. */
export function readText(form: TextForm, bytes: number, text: string, name: string): Uint8Array {
  if (typeof text !== 'string') throw new ArgumentError(`${name} must be a string`)
  const value = text.length === textLength(form, bytes) ? TEXT_FORMS[form].read(text) : undefined
  if (value?.length === bytes) return value
  throw new InputError(
    'ERR_ENCODING',
    `${name} must be ${bytes} bytes as ${textLength(form, bytes)} characters ${form}`,
  )
}
