/**
 * `npm run bench`: every speed target as a ratio against its peer, in one run on one machine. Exit 1: one missed.
 *
 *     npm run bench                 prints
 *     npm run bench -- --write      and writes docs/measurements/speed.md, its JSON and its charts
 *     npm run bench -- --quick      fewer and shorter rounds, to see that it runs
 *     npm run bench -- --only mac   contests whose title has that text; no growth
 */
import { execFileSync } from 'node:child_process'
import { cpus, loadavg } from 'node:os'
import { type ContestResult, hold } from './contest.js'
import { endpointContests } from './endpoints.js'
import { measureGrowth, measurePeak } from './growth.js'
import { jweContests } from './jwe.js'
import { pinContests } from './pin.js'
import { isMet, print, type Report, write } from './report.js'
import { softHsmContests } from './softhsm.js'

const flags = process.argv.slice(2)
const quick = flags.includes('--quick')
const only = flags.includes('--only') ? (flags[flags.indexOf('--only') + 1] ?? '').toLowerCase() : undefined
const effort = quick ? { rounds: 5, milliseconds: 15 } : { rounds: 21, milliseconds: 60 }

/** What `openssl speed` says of the bare primitive: the limit of whoever goes through OpenSSL. */
function limits(): Record<string, string> {
  const run = (...parameters: string[]): string => {
    try {
      return execFileSync('openssl', ['speed', '-seconds', '1', ...parameters], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
    } catch {
      return ''
    }
  }
  const tdea = /des-ede3?\S*\s+([\d.]+)k/i.exec(run('-bytes', '65536', '-evp', 'des-ede3'))?.[1]
  const ecdh = /nistp256\)?.*\s([\d.]+)\s*$/m.exec(run('ecdhp256'))?.[1]
  return {
    'openssl speed, TDEA': tdea
      ? `${(Number(tdea) / 8000).toFixed(2)} M blocks/s`
      : 'not measured (no openssl)',
    'openssl speed, ECDH on P-256': ecdh ? `${ecdh} a second` : 'not measured (no openssl)',
  }
}

const [cpu] = cpus()
const machine = `Node ${process.version}, OpenSSL ${process.versions.openssl}, ${cpu?.model}, ${cpus().length} cores`
console.log(machine)
const before = loadavg()[0] ?? 0
const contests: ContestResult[] = []
for (const open of [pinContests, jweContests, endpointContests, softHsmContests]) {
  await using bench = await open()
  for (const contest of bench.contests) {
    if (only !== undefined && !contest.title.toLowerCase().includes(only)) continue
    contests.push(await hold(contest, effort))
  }
}
const whole = only === undefined
const report: Report = {
  date: new Date().toISOString().slice(0, 10),
  command: `npm run bench${flags.length > 0 ? ` -- ${flags.join(' ')}` : ''}`,
  machine,
  contests,
  limits: whole ? limits() : {},
  growth: whole ? await measureGrowth({ rounds: quick ? 3 : 9, milliseconds: quick ? 5 : 20 }) : [],
  peak: whole ? await measurePeak() : undefined,
  load: [before, loadavg()[0] ?? 0],
}
print(report)
if (flags.includes('--write')) write(report, new URL('../docs/measurements/', import.meta.url))
if (!contests.every(({ targets }) => targets.every(isMet))) process.exitCode = 1
