/** What the benches found, in three forms: lines for the terminal, a page of Markdown, and JSON with everything in it. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { speedCharts } from './charts.js'
import type { ContestResult, Spread, TargetResult } from './contest.js'
import type { Growth, Peak } from './growth.js'

export interface Report {
  readonly date: string
  readonly command: string
  readonly machine: string
  /** Load average at the beginning and at the end: on a busy machine only processor time means something. */
  readonly load: readonly [number, number]
  readonly contests: readonly ContestResult[]
  readonly limits: Readonly<Record<string, string>>
  readonly growth: readonly Growth[]
  readonly peak: Peak | undefined
}

const times = ({ low, median, high }: Spread): string =>
  `${median.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`

export function isMet({ cpu, wall, atLeast, allowed }: TargetResult): boolean {
  const least = allowed === undefined ? atLeast : Math.min(atLeast, SHARE_OF_LIMIT * allowed.median)
  return Math.max(cpu.median, wall.median) >= least
}

/** Of what the machine allows, where that is less than the target. */
const SHARE_OF_LIMIT = 0.95

/** The target in words. */
function wanted({ atLeast, allowed }: TargetResult): string {
  const machine =
    allowed === undefined ? '' : `, or ${SHARE_OF_LIMIT} of what the machine allows, ${times(allowed)}`
  return `≥ ${atLeast.toFixed(2)}${machine}`
}

/** Ratios first, then what they are made of. */
export function print({ contests, limits, peak }: Report): void {
  for (const { title, ways, targets } of contests) {
    console.log(`\n${title}`)
    for (const target of targets) {
      console.log(
        `  ${target.ours} : ${target.peer}  ${times(target.wall)}×, of processor time ${times(target.cpu)}×,` +
          ` least disturbed ${target.undisturbed.toFixed(2)}×,` +
          ` target ${wanted(target)}  ${isMet(target) ? 'met' : 'MISSED'}`,
      )
    }
    for (const { name, wall, cpu, bytes } of ways) {
      console.log(
        `    ${name.padEnd(42)}${duration(wall.median).padStart(10)}  cpu ${duration(cpu.median).padStart(9)}` +
          `  ${bytes.toFixed(0).padStart(7)} bytes`,
      )
    }
  }
  for (const [name, figure] of Object.entries(limits)) console.log(`${name}: ${figure}`)
  if (peak !== undefined) console.log(`${peak.blocks} blocks: at most ${peak.residentMiB} MiB resident`)
}

function duration(nanoseconds: number): string {
  return nanoseconds < 10_000 ? `${nanoseconds.toFixed(0)} ns` : `${(nanoseconds / 1000).toFixed(1)} µs`
}

/** Writes `speed.md`, `speed.json` and the charts into a folder. */
export function write(report: Report, folder: URL): void {
  mkdirSync(new URL('speed/', folder), { recursive: true })
  writeFileSync(new URL('speed/speed.json', folder), `${JSON.stringify(report, undefined, 1)}\n`)
  for (const [name, chart] of Object.entries(speedCharts(report))) {
    writeFileSync(new URL(`speed/${name}`, folder), chart)
  }
  const file = new URL('speed.md', folder)
  writeFileSync(file, page(report) + keptOf(file))
}

/** Where what other commands have measured begins: it is written by hand, and stays. */
const KEPT = '\n## Beside the state before the round\n'

function keptOf(file: URL): string {
  const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
  const at = before.indexOf(KEPT)
  return at < 0 ? '' : before.slice(at)
}

function page(report: Report): string {
  const { contests, growth, peak } = report
  const lines = [
    '# Speed',
    '',
    `Written by \`${report.command}\`, ${report.date}, ${report.machine}; load ${report.load.map(one => one.toFixed(1)).join(' at the beginning, ')} at the end.`,
    'Ways of doing the same thing take turns in one process; each gives the right answer before it is timed. A figure is the',
    'median of the rounds, with the 10th and 90th percentile; a ratio is of two ways in the same round. Processor time is what',
    'counts where the machine does other things too. «Least disturbed» is the ratio of the 10th percentiles, by the wall; it judges',
    'nothing. Absolute figures are this machine’s; ratios carry over better.',
    '',
    '| | peer | ratio, wall | ratio, processor | least disturbed | target | |',
    '|---|---|---:|---:|---:|---:|---|',
    ...contests.flatMap(({ title, targets }) =>
      targets.map(
        target =>
          `| ${title}: ${target.ours} | ${target.peer} | ${times(target.wall)} | ${times(target.cpu)} | ${target.undisturbed.toFixed(2)} | ${wanted(target)} | ${isMet(target) ? 'met' : '**missed**'} |`,
      ),
    ),
    '',
    ...Object.entries(report.limits).map(([name, figure]) => `- ${name}: ${figure}`),
  ]
  contests.forEach(({ title, ways }, i) => {
    lines.push(
      '',
      `## ${title}`,
      '',
      `![${title}](speed/contest-${i + 1}.svg)`,
      '',
      '| | wall | processor | bytes allocated |',
      '|---|---:|---:|---:|',
      ...ways.map(
        ({ name, wall, cpu, bytes }) =>
          `| ${name} | ${duration(wall.median)} | ${duration(cpu.median)} (${duration(cpu.low)}–${duration(cpu.high)}) | ${bytes.toFixed(0)} |`,
      ),
    )
  })
  growth.forEach(({ title, of, lines: curves }, i) => {
    lines.push('', `## ${title}`, '', `![${title}](speed/growth-${i + 1}.svg)`, '')
    lines.push(
      `| ${of} | ${curves.map(({ name }) => name).join(' | ')} |`,
      `|---:|${curves.map(() => '---:|').join('')}`,
    )
    const sizes = [...new Set(curves.flatMap(({ points }) => points.map(([size]) => size)))].sort(
      (a, b) => a - b,
    )
    for (const size of sizes) {
      const cells = curves.map(({ points }) => points.find(([at]) => at === size)?.[1])
      lines.push(`| ${size} | ${cells.map(cell => (cell === undefined ? '' : duration(cell))).join(' | ')} |`)
    }
  })
  if (peak !== undefined) {
    lines.push(
      '',
      '## Memory of a stream',
      '',
      `${peak.blocks} PIN blocks in batches of 8,000: at most ${peak.arrayBuffersMiB} MiB in array buffers, ${peak.residentMiB} MiB resident.`,
    )
  }
  return `${lines.join('\n')}\n`
}
