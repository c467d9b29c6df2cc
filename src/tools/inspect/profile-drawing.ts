/**
 * A profile as a picture, drawn from the profile itself: the 123 bytes with their fields, and under them what PRW and MAC are
 * computed over. SVG, with a title and a description to be read aloud, in the reader's colour scheme, no script; text is escaped, so that
 * nothing of a profile becomes markup.
 */
import {
  type Computation,
  type ComputationInput,
  DATA_SET_BYTES,
  isConstant,
  type ProfileField,
  requireProfile,
  type SeccosProfile,
} from '../../seccos/profile/profile.js'

const WIDTH = 1000
const LEFT = 20
const ROW = 26
/** On paper black on white. */
const STYLE =
  ':root{--ink:#000;--paper:#fff;--fixed:#ddd;--hatch:#999}' +
  '@media (prefers-color-scheme:dark){:root{--ink:#eee;--paper:#111;--fixed:#333;--hatch:#777}}'
/** So wide is a field at least, that its number can be read; what is left is shared out by bytes. */
const LEAST = 26
/** Of a character of 11 px, about. */
const CHARACTER = 6.5

/**
 * Draws a profile: the data set (short fields wider than to scale), masked fields hatched, and for PRW and MAC the inputs in their order, the
 * algorithm, and what they leave out. SVG text.
 *
 * Errors: `ERR_ARGUMENT` (not from `parseProfile`).
 *
 * @example
 * ```ts
 * const svg = drawProfile(profile) // a whole SVG document, to be written to a file
 * ```
 */
export function drawProfile(profile: SeccosProfile): string {
  requireProfile(profile)
  const { name, version, provenance, fields } = profile
  const top = 60
  const legend = fields.map((field, i) => legendLine(field, i, top + 60 + i * 18))
  const next = top + 80 + fields.length * 18
  const prw = drawComputation('PRW', profile.prw, next)
  const mac = drawComputation('MAC', profile.mac, prw.bottom + 20)
  const body = [
    text({ x: LEFT, y: 24, size: 16 }, `${name} ${version} (${provenance})`),
    text({ x: LEFT, y: 46, size: 12 }, `data set, bytes 0 to ${DATA_SET_BYTES - 1}; masked fields hatched`),
    ...drawStrip(fields, top),
    ...legend,
    ...prw.parts,
    ...mac.parts,
  ]
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${mac.bottom + 20}" role="img" aria-labelledby="t d" font-family="sans-serif">`,
    `<title id="t">${escaped(`SECCOS profile ${name} ${version} (${provenance})`)}</title>`,
    `<desc id="d">${escaped(`The ${DATA_SET_BYTES} bytes of the data set, ${fields.map(({ id }) => id).join(', ')}; and what PRW and MAC are computed over.`)}</desc>`,
    `<style>${STYLE}</style>`,
    '<defs><pattern id="masked" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">' +
      '<rect width="6" height="6" fill="var(--paper)"/><rect width="2" height="6" fill="var(--hatch)"/></pattern></defs>',
    `<rect width="${WIDTH}" height="${mac.bottom + 20}" fill="var(--paper)"/>`,
    ...body,
    '</svg>',
    '',
  ].join('\n')
}

function drawStrip(fields: readonly ProfileField[], top: number): string[] {
  const shared = WIDTH - 2 * LEFT - LEAST * fields.length
  let x = LEFT
  return fields.map((field, i) => {
    const fill = isConstant(field) ? 'var(--fixed)' : field.masked === false ? 'var(--paper)' : 'url(#masked)'
    const width = LEAST + (shared * field.length) / DATA_SET_BYTES
    const named = `${i + 1} ${field.id}`
    const shown = named.length * CHARACTER < width - 8 ? named : `${i + 1}`
    const at = x
    x += width
    return rectangle({ x: at, y: top, width, fill }) + text({ x: at + 4, y: top + 17, size: 11 }, shown)
  })
}

function legendLine(field: ProfileField, i: number, y: number): string {
  const end = field.offset + field.length - 1
  const form = isConstant(field) ? 'constant' : field.encoding
  const masked = isConstant(field) || field.masked === false ? '' : ', masked'
  return text(
    { x: LEFT, y, size: 12 },
    `${i + 1}  ${field.id}: bytes ${field.offset} to ${end}, ${form}${masked}`,
  )
}

function drawComputation(
  name: string,
  {
    algorithm,
    padding,
    keyBytes,
    inputs,
    outputBytes,
    derivation,
    digest,
    text: form,
    uncovered,
  }: Computation,
  top: number,
): { parts: string[]; bottom: number } {
  const key =
    derivation === undefined ? '' : `, key derived: ${derivation.map(({ method }) => method).join(', then ')}`
  const over = digest === undefined ? '' : ` over ${digest}`
  const title = `${name}: ${algorithm}${over}, padding ${padding}, key of ${keyBytes} bytes${key}`
  const width = (WIDTH - 2 * LEFT) / Math.max(inputs.length, 4)
  const boxes = inputs.map((part, i) => {
    const x = LEFT + i * width
    return (
      rectangle({ x, y: top + 10, width, fill: 'var(--paper)' }) +
      text({ x: x + 4, y: top + 27, size: 11 }, label(part))
    )
  })
  const left = uncovered.length === 0 ? 'nothing' : uncovered.join(', ')
  const result = `${outputBytes} bytes as ${form}; does not cover: ${left}`
  return {
    parts: [
      text({ x: LEFT, y: top, size: 14 }, title),
      ...boxes,
      text({ x: LEFT, y: top + ROW + 28, size: 12 }, result),
    ],
    bottom: top + ROW + 40,
  }
}

function label(part: ComputationInput): string {
  if (part.input === 'constant') return part.constant
  if (part.input === 'enciphered') return `enciphered: ${part.inputs.map(label).join(' + ')}`
  const piece = 'part' in part && part.part !== undefined ? ' (part)' : ''
  return `${'id' in part ? part.id : part.input}${piece}`
}

function rectangle({ x, y, width, fill }: { x: number; y: number; width: number; fill: string }): string {
  return `<rect x="${round(x)}" y="${y}" width="${round(width)}" height="${ROW}" fill="${fill}" stroke="var(--ink)"/>`
}

function text({ x, y, size }: { x: number; y: number; size: number }, content: string): string {
  return `<text x="${round(x)}" y="${y}" font-size="${size}" fill="var(--ink)">${escaped(content)}</text>`
}

function round(value: number): number {
  return Math.round(10 * value) / 10
}

function escaped(content: string): string {
  return content.replaceAll(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}
