/** Plain-text tables for a terminal. */

/** Columns as wide as their widest cell, two spaces between; control characters do not reach the terminal. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows].map(row => row.map(printable))
  const widths = header.map((_, column) => Math.max(...all.map(row => `${row[column]}`.length)))
  const line = (row: readonly string[]): string =>
    widths
      .map((width, column) => `${row[column]}`.padEnd(width))
      .join('  ')
      .trimEnd()
  const rule = widths.map(width => '-'.repeat(width))
  return [...all.slice(0, 1).map(line), rule.join('  '), ...all.slice(1).map(line)].join('\n')
}

function printable(cell: string): string {
  return cell.replaceAll(/[^\x20-\x7e]/g, '?')
}
