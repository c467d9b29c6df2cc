/**
 * `npm run timing`: all measurements, as a table. `--quick` for a look; `--write` puts the table into
 * docs/measurements/timing.md. Exits with 1 where a control fails or something that must be constant is told apart.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { type Effort, measure } from './harness.js'
import { type Expected, type Row, rows } from './measurements.js'
import { type Comparison, RESOLUTION, T_LIMIT, T_LIMIT_LONG } from './statistics.js'

const QUICK: Effort = { rounds: 5, samples: 4000 }
const LONG: Effort = { rounds: 9, samples: 12_000 }
const quick = process.argv.includes('--quick')
/** `--only refused`: those rows, beside the table as it is. */
const only = new RegExp(process.argv[process.argv.indexOf('--only') + 1] ?? '.')
const some = process.argv.includes('--only')
const effort = quick ? QUICK : LONG
const limit = quick ? T_LIMIT : T_LIMIT_LONG

const VERDICTS: Readonly<Record<Expected, (size: number) => string>> = {
  leaks: size => (size > limit ? 'seen, as it must be' : 'NOT SEEN: the harness is blind'),
  same: size => (size < T_LIMIT ? 'not seen, as it must be' : 'SEEN: the harness sees ghosts'),
  constant: size => (size < limit ? 'not told apart' : 'TOLD APART'),
  stated: size => (size < limit ? 'not told apart' : 'differs, as stated'),
}

const lines: string[] = []
const reasons: string[] = []
let failed = false
for (const row of await rows()) {
  if (some && !only.test(row.name)) continue
  const found = await measure(row, effort)
  // A difference below the resolution counts as none, however often it was seen.
  const size = Math.abs(found.difference) < RESOLUTION ? Math.min(Math.abs(found.t), 1) : Math.abs(found.t)
  const faint = size < Math.abs(found.t) && Math.abs(found.t) >= limit && row.expected !== 'leaks'
  const verdict = faint ? `beyond the bound, but below ${RESOLUTION} ns` : VERDICTS[row.expected](size)
  failed ||= /[A-Z]{3}/.test(verdict)
  lines.push(line(row, found, verdict))
  if (row.reason !== undefined) reasons.push(`- ${row.name}: ${row.reason}.`)
  console.log(lines.at(-1))
}

function line({ name }: Row, { t, difference, smallestEffect }: Comparison, verdict: string): string {
  const ns = (value: number): string => value.toFixed(Math.abs(value) < 1 ? 3 : Math.abs(value) < 10 ? 1 : 0)
  return `| ${name} | ${t.toFixed(1)} | ${ns(difference)} | ${ns(smallestEffect)} | ${verdict} |`
}

if (process.argv.includes('--write') && !some) {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const load = loadavg()[0]?.toFixed(1)
  const text = `# Timing

Whether the time a verb takes tells what it should not: two classes of calls in random order, the slowest samples cropped,
Welch's t between the rest (after dudect: Reparaz, Balasch, Verbauwhede, 2017). A difference that shows is one; that none
shows means that it is smaller than the column «smallest effect», and no more.

\`${quick ? 'npm run timing -- --quick --write' : 'npm run timing -- --write'}\`, ${new Date().toISOString().slice(0, 10)}, commit ${commit}, Node ${process.version} (OpenSSL ${process.versions.openssl}),
${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} processors, load ${load} at the end. ${effort.rounds} rounds of ${effort.samples.toLocaleString('en')} samples; each figure is
the median of the rounds, because a loaded machine disturbs single ones. In each round the crop (50, 80 or 95 % of the
samples) with the largest t counts. Told apart means |t| ≥ the bound, and a difference of ${RESOLUTION} ns or more. Bound: |t| < ${limit}; for the control with nothing to see, ${T_LIMIT}.

![Which differences in time were looked for, how small a one would have been seen, and what was seen](../pictures/timing-effects.svg)

| measurement | t | difference, ns | smallest effect, ns | verdict |
|---|---:|---:|---:|---|
${lines.join('\n')}

The smallest effect is what would have given |t| = ${T_LIMIT} in a round. Times are of one call; stack traces are off while
measuring (\`Error.stackTraceLimit = 0\`), for writing one down takes longer than the checks.

## What may differ, and why

${reasons.join('\n')}

## The resolution of 1 ns

That a difference below 1 ns does not count was decided after a first run, in which \`equalBytes\` had t = 5.1 at a bound of
4.5. The reason is a control: the *same* class twice, each with inputs of its own. On 2026-11-22 (three runs of 9 rounds of
4,000 samples) it gave \`equalBytes\` 6.8, -2.2 and -0.6 (0.1 ns at most), \`Pin.equals\` up to 6.1 (0.08 ns); first against
last digit gave 1.8, 5.0, -1.4, and last against first 4.8, -18.2, -1.9 (0.27 ns at most), with no steady sign. Where
inputs stand in memory is the likely cause; it was not proven. So this harness cannot tell differences below 1 ns from
none. A row that is beyond the bound there is marked, not hidden.

## What this does not show

- JavaScript cannot promise constant time: the engine compiles functions anew, collects garbage, and chooses by types and
  values what no source says. What is measured is this engine on this processor.
- AES, GHASH, ECDH and SHA-256 are OpenSSL's. TDEA of a few blocks uses tables in each engine, whose cache behaviour this harness
  does not see. In a token, time is the token's.
- Over a network the differences here are far below what a request's own spread hides; that is no reason to have any.
`
  writeFileSync(new URL('../../docs/measurements/timing.md', import.meta.url), text)
}
process.exitCode = failed ? 1 : 0
