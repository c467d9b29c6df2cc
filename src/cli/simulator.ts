/** `d1-simulator`: plays D1 against an issuer's service. The simulator itself shares no code with the library. */

import { renderTable } from '../tools/inspect/table.js'
import { type Command, readArguments, requireOption, UsageError } from './command.js'
import {
  CASES,
  COLUMNS,
  type ConfigSource,
  cellsOf,
  fullName,
  GROUPS,
  jsonReport,
  MEMBER_OPTIONS,
  memberHelp,
  simulateD1,
  summarize,
  summaryLine,
} from './d1-simulator/index.js'

const MEMBERS: readonly string[] = Object.keys(MEMBER_OPTIONS)

const OPTIONS = {
  config: { type: 'string' },
  only: { type: 'string', multiple: true },
  json: { type: 'boolean' },
  'allow-not-run': { type: 'boolean' },
} as const
const ALL_OPTIONS: typeof OPTIONS = {
  ...OPTIONS,
  ...Object.fromEntries(MEMBERS.map(name => [name, { type: 'string' }])),
}

function readOnly(names: readonly string[] = GROUPS): readonly string[] {
  const known = [...GROUPS, ...CASES.map(fullName)]
  if (names.every(name => known.includes(name))) return names
  throw new UsageError(`--only takes one of ${GROUPS.join(', ')}, or a case as 'group: case'`)
}

type Values = { readonly config?: string | undefined; readonly [name: string]: unknown }

/** The file, and members beside it or in its place. */
function readSource({ config, ...values }: Values): ConfigSource {
  const members: Record<string, string> = {}
  for (const name of MEMBERS) {
    const text = values[name]
    if (typeof text === 'string') members[name] = requireOption(text, name)
  }
  const isEnough = config === undefined && Object.keys(members).length > 0
  return { config: isEnough ? undefined : requireOption(config, 'config'), members }
}

/** `issuer-pin-crypto d1-simulator`. */
export const SIMULATOR: Command = {
  name: 'd1-simulator',
  summary: "play D1 against an issuer's service, well and badly",
  help: `usage: issuer-pin-crypto d1-simulator [--config FILE] [MEMBERS] [--only GROUP]… [--json] [--allow-not-run]

Calls Get PIN, Set PIN, Get PIN Change Counter and the token endpoint as D1 does, and as nobody should; checks every
answer against the contract. TEST systems only: it changes the PINs of the cards in the configuration (those set as
ISO0 get theirs back) and sends what a firewall may not like. No PIN, PAN, key or token is printed.

  --config         the configuration (docs/guides/simulator.md)
  --only           one group, or one case as 'group: case'; may be there several times. Groups:
                   ${GROUPS.slice(0, 6).join(', ')},
                   ${GROUPS.slice(6).join(', ')}
  --json           the results as JSON in place of the table
  --allow-not-run  exit code 0 although cases could not be run with this configuration

MEMBERS take the place of members of the configuration, or of the whole of it. Their paths are relative to the working
directory, those in the configuration to its folder. Secrets are files.

${memberHelp()}

Exit codes: 0 all passed; 1 something failed, or was not run; 2 the call or the configuration is wrong.`,
  run: async (args, io) => {
    const { values } = readArguments(args, { options: ALL_OPTIONS, positionals: 0 })
    const only = readOnly(values.only)
    const results = await simulateD1({
      ...readSource(values),
      only,
      warn: text => io.err(`warning: ${text}`),
    })
    const summary = summarize(results)
    if (values.json === true) {
      io.out(jsonReport(results))
    } else {
      io.out(renderTable(COLUMNS, results.map(cellsOf)))
      io.out(summaryLine(summary))
    }
    const complete = summary.notRun === 0 || values['allow-not-run'] === true
    return summary.failed === 0 && summary.passed > 0 && complete ? 0 : 1
  },
}
