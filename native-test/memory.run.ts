/**
 * The memory campaign's long mode: `npm run memory`, and with `-- --write` its report into docs/measurements/memory.md.
 * `-- --calls 96 --rounds 3` sets how much.
 */
import { execSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import {
  type CampaignOptions,
  type CampaignResult,
  plant,
  provisionPlanted,
  runCampaign,
} from './campaign.js'
import { makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

const { values } = parseArgs({
  options: {
    write: { type: 'boolean', default: false },
    calls: { type: 'string', default: '96' },
    rounds: { type: 'string', default: '3' },
    /** Which of the places: a part of their names, as in `--where 'bitslice|SoftHSM'`. */
    where: { type: 'string', default: '.' },
    /** Which of the scenarios, in the same way. The controls are always run. */
    only: { type: 'string', default: '.' },
    /** V8 throws away optimised code each time so many of the places are passed where it could: twenty times as slow. */
    'deopt-every': { type: 'string' },
  },
})
const amount = {
  count: Number(values.calls),
  rounds: Number(values.rounds),
  turns: 16,
  abort: true,
  only: new RegExp(values.only),
  ...(values['deopt-every'] !== undefined && { deoptEvery: Number(values['deopt-every']) }),
}
const REPORT = new URL('../docs/measurements/memory.md', import.meta.url)
const MARK = '<!-- figures -->'

const runs: [string, Omit<CampaignOptions, keyof typeof amount>][] = [
  ['software, bitslice', { engine: 'bitslice', planted: plant() }],
  ['software, node:crypto', { engine: 'node:crypto', planted: plant() }],
  ['software, node-forge', { engine: 'node-forge', planted: plant() }],
]
if (SOFTHSM_MODULE === undefined) console.warn('SoftHSM: not run, the module is missing')
else {
  const options = makeToken('memory')
  const planted = plant()
  await provisionPlanted(options, planted)
  const token = { module: options.module, label: 'memory', pin: USER_PIN }
  runs.push(['SoftHSM', { engine: 'node:crypto', planted, token }])
  runs.push(['SoftHSM by koffi', { engine: 'node:crypto', planted, token: { ...token, binding: 'koffi' } }])
}

const total = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((a, b) => a + b, 0)

function row(name: string, result: CampaignResult): string {
  const { scenarios, batches, residues, keys, controls } = result
  const left = residues.reduce((sum, { found }) => sum + total(found), 0)
  const [moved, seen, wiped, never] = [
    'control: a small array on the heap, wiped',
    'control: off the heap, not wiped',
    'control: off the heap, wiped',
    'control: never in the process',
  ].map(name => controls[name])
  const cells = [
    name,
    scenarios.length,
    batches * amount.count,
    left,
    `${keys.opened} → ${keys.used}`,
    total(keys.closed),
    `${seen} of ${amount.count}, ${wiped}, ${never}; ${moved}`,
  ]
  return `| ${cells.join(' | ')} |`
}

const rows: string[] = []
const details: string[] = []
let failed = false
const where = new RegExp(values.where)
for (const [name, options] of runs.filter(([name]) => where.test(name))) {
  const result = await runCampaign({ ...options, ...amount })
  rows.push(row(name, result))
  console.log(rows.at(-1))
  for (const [scenario, found] of Object.entries(result.bare)) {
    details.push(`- ${name}, control: ${scenario}, in 4 sessions: ${found}`)
    console.log(details.at(-1))
  }
  for (const { scenario, found } of result.residues) {
    details.push(`- ${name}: ${scenario}: ${total(found)} (${Object.keys(found).slice(0, 3).join(', ')})`)
    console.log(details.at(-1))
  }
  failed ||= result.residues.length > 0
}
if (values.write) {
  const commit = execSync('git rev-parse --short HEAD', { encoding: 'utf8' }).trim()
  const [head = ''] = readFileSync(REPORT, 'utf8').split(MARK)
  const table = [
    `\`npm run memory -- --write --calls ${values.calls} --rounds ${values.rounds}${values.where === '.' ? '' : ` --where "${values.where}"`}\`, ${new Date().toISOString().slice(0, 10)}, commit ${commit}, Node ${process.version}.`,
    '',
    '| where | scenarios | calls | residues | copies of keys while open | after close | controls: must be found, must not, must not; left by V8 |',
    '|---|---:|---:|---:|---:|---:|---|',
    ...rows,
    '',
    ...(details.length > 0
      ? ['What was found:', '', ...details]
      : ['Nothing was found but by the first control.']),
  ]
  writeFileSync(REPORT, `${head}${MARK}\n\n${table.join('\n')}\n`)
}
process.exitCode = failed ? 1 : 0
