/** What a command shows: JSON where that is asked for, tables that fit the terminal and keep its letters, errors as one line. */
import { isIssuerPinError } from '../base/errors.js'
import type { KeyBlockHeader } from '../index.js'
import type { Io } from './command.js'

/** Control and format characters, and what else moves a cursor or hides text. */
export const TRICKS: RegExp = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu
const GAP = '  '
const MIN_LAST = 20

/**
 * A table of columns as wide as their widest cell. Where the terminal is narrower, the last column is broken between words; no
 * line is longer than the terminal is wide. Letters of every alphabet stay; what plays tricks is a question mark.
 */
export function tableOf(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  io: Pick<Io, 'columns'>,
): string {
  const all = [head, head.map(name => '-'.repeat(name.length)), ...rows].map(row =>
    row.map(cell => cell.replaceAll(TRICKS, '?')),
  )
  const widths = head.map((_, column) => Math.max(...all.map(row => widthOf(row[column] ?? ''))))
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + GAP.length, 0)
  const { columns = Number.POSITIVE_INFINITY } = io
  const room = Math.max(MIN_LAST, columns - before)
  return all
    .flatMap(row => {
      const first = row.slice(0, -1).map((cell, column) => padded(cell, widths[column] ?? 0))
      const [top = '', ...more] = broken(row.at(-1) ?? '', room)
      return [[...first, top].join(GAP), ...more.map(line => `${' '.repeat(before)}${line}`)]
    })
    .flatMap(line => (columns === Number.POSITIVE_INFINITY ? [line] : cut(line.trimEnd(), columns)))
    .map(line => line.trimEnd())
    .join('\n')
}

function padded(cell: string, width: number): string {
  return cell + ' '.repeat(Math.max(0, width - widthOf(cell)))
}

/** A mark that sits on the letter before it. */
const MARK = /\p{M}/u
const EAST_ASIAN = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u
const WIDE_SIGN = /[\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/u

/** Columns that a text takes on a terminal (Unicode Standard Annex 11). */
function widthOf(text: string): number {
  let width = 0
  for (const letter of text) width += columnsOf(letter)
  return width
}

function columnsOf(letter: string): 0 | 1 | 2 {
  if (MARK.test(letter)) return 0
  return EAST_ASIAN.test(letter) || WIDE_SIGN.test(letter) ? 2 : 1
}

/** A text in lines of at most so many characters, broken between words where it can be. */
function broken(text: string, width: number): string[] {
  if (widthOf(text) <= width) return [text]
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

/** A line of the table where the terminal is too narrow for its columns: it goes on below. */
function cut(line: string, width: number): string[] {
  if (widthOf(line) <= width) return [line]
  let first = ''
  for (const letter of line) {
    if (widthOf(first + letter) > width) break
    first += letter
  }
  return [first, ...cut(`${GAP}${line.slice(first.length)}`, Math.max(width, MIN_LAST))]
}

/** A text whose lines are broken between words where the terminal is narrower, and go on as far in as they began. */
export function fitted(text: string, { columns = Number.POSITIVE_INFINITY }: Pick<Io, 'columns'>): string {
  return text
    .split('\n')
    .flatMap(line => {
      if (line.length <= columns) return [line]
      const indent = ' '.repeat(line.search(/[^ ]|$/))
      return broken(line.slice(indent.length), Math.max(MIN_LAST, columns - indent.length)).map(
        part => indent + part,
      )
    })
    .join('\n')
}

/**
 * Prints a result: as JSON where that is asked for, else in words, if there are any. Names come from tokens and files of others: what
 * plays tricks is escaped in JSON, and a question mark on a terminal; where nobody looks, words stay as they are.
 */
export function show(
  values: { readonly json?: unknown },
  io: Pick<Io, 'out' | 'columns'>,
  result: unknown,
  words: string | undefined,
): void {
  if (values.json === true) io.out(JSON.stringify(result, null, 2).replaceAll(TRICKS, escaped))
  else if (words !== undefined) io.out(io.columns === undefined ? words : words.replaceAll(TRICKS, plain))
}

const plain = (character: string): string => (/[\n\t]/.test(character) ? character : '?')

function escaped(character: string): string {
  if (character === '\n') return character
  return Array.from({ length: character.length }, (_, i) => {
    const unit = character.charCodeAt(i).toString(16).padStart(4, '0')
    return `\\u${unit}`
  }).join('')
}

/** The code and message of an error of ours; of any other, its name. */
export function reason(error: unknown): string {
  if (isIssuerPinError(error)) return `${error.code}: ${error.message}`
  return error instanceof Error ? error.name : typeof error
}

/** What a key block's header says, for people. */
export function headerRows(header: KeyBlockHeader): string[][] {
  const { version, usage, algorithm, mode, keyVersion, exportability, optionalBlocks, validFrom, validTo } =
    header
  return [
    ['version', version],
    ['usage', usage],
    ['algorithm', algorithm],
    ['mode', mode],
    ['key version', keyVersion],
    ['exportability', exportability],
    ...optionalBlocks.map(({ id, data }) => [`optional ${id}`, data]),
    ...(validFrom === undefined ? [] : [['valid from', validFrom.toISOString()]]),
    ...(validTo === undefined ? [] : [['valid to', validTo.toISOString()]]),
  ]
}
