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

/** The cells of a row, in the order of {@link COLUMNS}. */
export function cellsOf({ verdict, group, name, expected, got, milliseconds }: Result): string[] {
  return [MARKS[verdict], group, name, expected, got, milliseconds.toFixed(0)]
}

export const COLUMNS: readonly string[] = ['', 'group', 'case', 'expected', 'got', 'ms']

/** The run as one JSON document. */
export function jsonReport(results: readonly Result[]): string {
  const cases = results.map(({ milliseconds, ...result }) => ({
    ...result,
    milliseconds: Math.round(milliseconds * 10) / 10,
  }))
  return JSON.stringify({ summary: summarize(results), cases }, null, 2)
}
