/** Plain-text tables for a terminal. */

/** Columns as wide as their widest cell, two spaces between; control characters do not reach the terminal. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows].map(row => row.map(printable))
  const widths = header.map((_, column) => Math.max(...all.map(row => row[column]?.length ?? 0)))
  const lines = all.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const rule = widths.map(width => '-'.repeat(width)).join('  ')
  return [lines[0], rule, ...lines.slice(1)].join('\n')
}

function printable(cell: string): string {
  return cell.replaceAll(/[^\x20-\x7e]/g, '?')
}
