/** `d1-simulator`: plays D1 against an issuer's service. The simulator itself shares no code with the library. */
import { type Command, readArguments, requireOption, UsageError } from './command.js'
import {
  COLUMNS,
  cellsOf,
  GROUPS,
  type Group,
  jsonReport,
  simulateD1,
  summarize,
  summaryLine,
} from './d1-simulator/index.js'
import { renderTable } from './table.js'

const OPTIONS = {
  config: { type: 'string' },
  only: { type: 'string', multiple: true },
  json: { type: 'boolean' },
  'allow-not-run': { type: 'boolean' },
} as const

/** Short, and not to be told apart by case alone. */
const MARKS = { passed: 'ok', failed: 'FAILED', 'not run': 'not run' } as const

function readGroups(names: readonly string[] | undefined): readonly Group[] {
  return (names ?? GROUPS).map(name => {
    const group = GROUPS.find(candidate => candidate === name)
    if (group === undefined) throw new UsageError(`--only takes one of ${GROUPS.join(', ')}`)
    return group
  })
}

/** `issuer-pin-crypto d1-simulator`. */
export const SIMULATOR: Command = {
  name: 'd1-simulator',
  summary: "play D1 against an issuer's service, well and badly",
  help: `usage: issuer-pin-crypto d1-simulator --config FILE [--only GROUP]… [--json] [--allow-not-run]

Calls Get PIN, Set PIN, Get PIN Change Counter and the token endpoint as D1 does, and as nobody should; checks every
answer against the contract. TEST systems only: it changes the PINs of the cards in the configuration (those set as
ISO0 get theirs back) and sends what a firewall may not like. No PIN, PAN, key or token is printed.

  --config         the configuration (docs/guides/simulator.md)
  --only           one group, may be there several times: ${GROUPS.slice(0, 6).join(', ')},
                   ${GROUPS.slice(6).join(', ')}
  --json           the results as JSON in place of the table
  --allow-not-run  exit code 0 although cases could not be run with this configuration

Exit codes: 0 all passed; 1 something failed, or was not run; 2 the call or the configuration is wrong.`,
  run: async (args, io) => {
    const { values } = readArguments(args, { options: OPTIONS, positionals: 0 })
    const config = requireOption(values.config, 'config')
    const only = readGroups(values.only)
    const results = await simulateD1({ config, only, warn: text => io.err(`warning: ${text}`) })
    const summary = summarize(results)
    if (values.json === true) {
      io.out(jsonReport(results))
    } else {
      const rows = results.map(result => cellsOf(result))
      io.out(
        renderTable(
          COLUMNS,
          rows.map(([verdict = '', ...cells]) => [markOf(verdict), ...cells]),
        ),
      )
      io.out(summaryLine(summary))
    }
    const complete = summary.notRun === 0 || values['allow-not-run'] === true
    return summary.failed === 0 && summary.passed > 0 && complete ? 0 : 1
  },
}

function markOf(verdict: string): string {
  return Object.hasOwn(MARKS, verdict) ? MARKS[verdict as keyof typeof MARKS] : verdict
}
