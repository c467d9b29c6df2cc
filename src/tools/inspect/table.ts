/** Plain-text tables for people, and the two rules of what they may show: secrets as dots, and ASCII only. */
import { toHex } from '../../base/bytes.js'

/** Stands for one byte, or character, that is not shown. */
export const HIDDEN = '••'

/** Longest cell of bytes or text. The rest is counted, not shown. */
const MAX_CELL = 48

/**
 * Columns as wide as their widest cell, two spaces between, no space at the end of a line. What could play tricks on a
 * terminal shows as a question mark.
 */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, header.map(name => '-'.repeat(name.length)), ...rows].map(row => row.map(harmless))
  const widths = header.map((_, column) => Math.max(...all.map(row => row[column]?.length ?? 0)))
  return all
    .map(row =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Printable ASCII, and the two signs that stand for what is not shown. */
function harmless(cell: string): string {
  return cell.replaceAll(/[^\x20-\x7e•…]/g, '?')
}

/** Bytes as spaced hex. */
export function showBytes(bytes: Uint8Array): string {
  const hex = [...toHex(bytes).matchAll(/../g)].map(String)
  return cut(hex, HIDDEN.length + 1)
}

/** As many dots as there are bytes. */
export function hideBytes(length: number): string {
  return cut(
    Array.from({ length }, () => HIDDEN),
    HIDDEN.length + 1,
  )
}

function cut(cells: readonly string[], width: number): string {
  const room = Math.floor(MAX_CELL / width)
  if (cells.length <= room) return cells.join(' ')
  return `${cells.slice(0, room).join(' ')} … ${cells.length - room} more`
}

/**
 * Text that somebody else may have written, quoted: control characters, and whatever else could play tricks on a
 * terminal, as escapes.
 */
export function showText(text: string): string {
  const shown = text.length <= MAX_CELL ? text : `${text.slice(0, MAX_CELL)}…`
  return JSON.stringify(shown).replaceAll(
    /[^\x20-\x7e…]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
