/** What came out of a run, for people and for machines. */
import type { Result } from './run.js'

/** The counts of a run. */
export interface Summary {
  readonly passed: number
  readonly failed: number
  readonly notRun: number
  readonly milliseconds: number
}

export function summarize(results: readonly Result[]): Summary {
  const count = (verdict: Result['verdict']): number =>
    results.filter(result => result.verdict === verdict).length
  const milliseconds = Math.round(results.reduce((sum, result) => sum + result.milliseconds, 0))
  return { passed: count('passed'), failed: count('failed'), notRun: count('not run'), milliseconds }
}

/** One line: the last of the table. */
export function summaryLine({ passed, failed, notRun, milliseconds }: Summary): string {
  return `${passed} passed, ${failed} failed, ${notRun} not run, in ${(milliseconds / 1000).toFixed(1)} s`
}

/** Short, and not to be told apart by case alone. */
const MARKS = { passed: 'ok', failed: 'FAILED', 'not run': 'not run' } as const

/** The lines of a table whose rows come one by one: only the last column is as wide as it turns out to be. */
export interface Lines {
  readonly header: string
  readonly row: (result: Result) => string
}

/** A table for these cases: its columns are wide enough before any of them is run. */
export function linesFor(cases: readonly Named[]): Lines {
  const widthOf = (name: keyof Named): number =>
    Math.max(name.length, ...cases.map(item => item[name].length))
  const widths = [7, widthOf('group'), widthOf('name'), widthOf('expected'), 6]
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.replaceAll(/[^\x20-\x7e]/g, '?').padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  const titles = ['', 'group', 'case', 'expected', 'ms', 'got']
  return {
    header: `${line(titles)}\n${line([...widths, 3].map(width => '-'.repeat(width)))}`,
    row: ({ verdict, group, name, expected, got, milliseconds }) =>
      line([MARKS[verdict], group, name, expected, milliseconds.toFixed(0), got]),
  }
}

type Named = Pick<Result, 'group' | 'name' | 'expected'>

const BAR = 30

/** A bar on one line of at most 80 characters, and the case that was last. */
export function progressLine(done: number, of: number, last = ''): string {
  const filled = Math.floor((BAR * done) / of)
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR - filled)}] ${done} of ${of} ${last}`.slice(0, 79).trimEnd()
}

/** The run as one JSON document. */
export function jsonReport(results: readonly Result[]): string {
  const cases = results.map(({ milliseconds, ...result }) => ({
    ...result,
    milliseconds: Math.round(milliseconds * 10) / 10,
  }))
  return JSON.stringify({ summary: summarize(results), cases }, null, 2)
}
