/**
 * `inspect` and `profile`: what is in a JWE header, a data set, a PIN block or a profile; redacted as
 * `src/tools/inspect` does it.
 */
import { fromHex, wipe } from '../base/bytes.js'
import { parseProfile, remarksOn, type SeccosProfile, uncoveredBy } from '../index.js'
import { renderTable } from '../tools/inspect/table.js'
import {
  type CheckedSample,
  checkProfile,
  drawProfile,
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  inspectDataSet,
  inspectJweHeader,
  inspectPinBlock,
  searchProfile,
} from '../tools.js'
import {
  type Command,
  type ExitCode,
  type Io,
  readArguments,
  readInput,
  readJson,
  requireOption,
  UsageError,
} from './command.js'
import { readProfileSample, withSamples } from './probe.js'
import { runSearch, SEARCH_HELP, type Search } from './search.js'

type Inspect = (args: readonly string[], io: Io) => Promise<string>

/** By the name an illustrative profile is asked for; anything else is a file. */
const SHIPPED: Readonly<Record<string, SeccosProfile>> = {
  'illustrative-tdea': ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  'illustrative-aes': ILLUSTRATIVE_NOT_GIROCARD_AES,
  'illustrative-ibm-shaped': ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
}

const SUBJECTS: Readonly<Record<string, Inspect>> = {
  jwe: async (args, io) => {
    const { positionals } = readArguments(args, { options: {}, positionals: 1 })
    const text = (await readInput(positionals[0], io)).trim()
    if (!text.startsWith('{')) return inspectJweHeader(text)
    const { encryptedPinBlock } = readJson(text, 'the input')
    if (typeof encryptedPinBlock !== 'string') throw new UsageError('the message has no encryptedPinBlock')
    return inspectJweHeader(encryptedPinBlock)
  },
  'data-set': async (args, io) => {
    const options = { profile: { type: 'string' } } as const
    const { values, positionals } = readArguments(args, { options, positionals: 1 })
    const profile = await readProfile(requireOption(values.profile, 'profile'), io)
    return inspectDataSet({ profile, prwDataSet: (await readInput(positionals[0], io)).trim() })
  },
  profile: async (args, io) => {
    const { positionals } = readArguments(args, { options: {}, positionals: 1 })
    const [name = '-'] = positionals
    return drawProfile(await readProfile(name, io))
  },
  'pin-block': async (args, io) => {
    const options = { state: { type: 'string' } } as const
    const { values, positionals } = readArguments(args, { options, positionals: 1 })
    const state = requireOption(values.state, 'state')
    if (state !== 'clear' && state !== 'enciphered') {
      throw new UsageError('--state must be clear or enciphered')
    }
    const hex = (await readInput(positionals[0], io)).trim()
    if (!/^(?:[0-9A-Fa-f]{2})+$/.test(hex)) throw new UsageError('a PIN block is given as hex digits')
    const block = fromHex(hex, 'the block')
    try {
      return inspectPinBlock({ block, state })
    } finally {
      wipe(block)
    }
  },
}

/** The profile of a file, or a shipped one by its name. Errors: `ERR_PROFILE`, `ERR_USAGE`. */
export async function readProfile(name: string, io: Io): Promise<SeccosProfile> {
  const shipped = Object.hasOwn(SHIPPED, name) ? SHIPPED[name] : undefined
  return shipped ?? parseProfile(readJson(await readInput(name, io), name))
}

/** `issuer-pin-crypto inspect jwe|data-set|pin-block`. */
export const INSPECT: Command = {
  name: 'inspect',
  summary: 'show what stands in a JWE, a data set or a PIN block, secrets as dots',
  help: `usage: issuer-pin-crypto inspect jwe [FILE]
       issuer-pin-crypto inspect data-set --profile PROFILE [FILE]
       issuer-pin-crypto inspect profile [FILE]
       issuer-pin-crypto inspect pin-block --state clear|enciphered [FILE]

The input is a file, or standard input where there is none.

  jwe         a JWE in compact form, or D1's message around it
  data-set    prwDataSet: 246 upper-case hex digits
  profile     a profile's JSON file, or a shipped one by its name, drawn as SVG
  pin-block   16 or 32 hex digits; no digit of a PIN is shown

  --profile   a profile's JSON file, or illustrative-tdea, illustrative-aes,
              illustrative-ibm-shaped
  --state     whether the block is clear or enciphered`,
  run: async ([subject = '', ...args], io) => {
    const inspect = Object.hasOwn(SUBJECTS, subject) ? SUBJECTS[subject] : undefined
    if (inspect === undefined)
      throw new UsageError(`inspect takes one of ${Object.keys(SUBJECTS).join(', ')}`)
    io.out(await inspect(args, io))
    return 0
  },
}

/* `profile check`: whether a SECCOS profile reads, what it leaves out, and whether samples come out as it says; and the search. */

const PROFILE_HELP = `usage: issuer-pin-crypto profile check [--samples SAMPLES] [FILE]

Reads a profile (JSON, issuer-pin-crypto/seccos-profile.schema.json) from a file or standard input. Exit code 1, and
the place of the mistake, where it is not one.

  --samples   a file of samples made with TEST keys, as for probe; what the profile has of its own, fields and
              external values, is in "fields" (text) and "bytes" (hex) of each sample. Says for each whether
              data set, PRW and MAC come out, and where not, the nearest reading that would. Exit code 1 where
              not all do.

       ${SEARCH_HELP}`

/** `issuer-pin-crypto profile`, over some way to search. */
export function profileCommand(search: Search = searchProfile): Command {
  return {
    name: 'profile',
    summary: 'check a SECCOS profile, and whether samples come out; search what is not known of one',
    help: PROFILE_HELP,
    run: async ([verb, ...args], io) => {
      if (verb === 'check') return runCheck(args, io)
      if (verb === 'search') return runSearch(args, io, search)
      throw new UsageError('profile takes the verb check or search')
    },
  }
}

/** `issuer-pin-crypto profile check`, `profile search`. */
export const PROFILE: Command = profileCommand()

async function runCheck(args: readonly string[], io: Io): Promise<ExitCode> {
  const options = { samples: { type: 'string' } } as const
  const { values, positionals } = readArguments(args, { options, positionals: 1 })
  const profile = parseProfile(readJson(await readInput(positionals[0], io), 'the profile'))
  const rows = (['prw', 'mac'] as const).map(which => {
    const { algorithm, padding, keyBytes, outputBytes } = profile[which]
    const uncovered = uncoveredBy({ profile, computation: which }).join(', ') || 'nothing'
    return [which, algorithm, String(padding), `${keyBytes}`, `${outputBytes}`, uncovered]
  })
  io.out(`profile ${profile.name} ${profile.version} (${profile.provenance})`)
  io.out(renderTable(['', 'algorithm', 'padding', 'key bytes', 'bytes', 'does not cover'], rows))
  for (const { path, text } of remarksOn(profile)) io.out(`remark: ${path} ${text}`)
  return values.samples === undefined ? 0 : checkSamples(profile, await readInput(values.samples, io), io)
}

async function checkSamples(profile: SeccosProfile, text: string, io: Io): Promise<ExitCode> {
  const check = await withSamples(text, readProfileSample, file => checkProfile({ ...file, profile }))
  const rows = check.samples.map(({ fields, prw, mac, problem }, i) => [
    `${i + 1}`,
    fields.length === 0 ? 'does not read' : fields.join(' '),
    inWords(prw),
    inWords(mac),
    problem ?? '',
  ])
  io.out(renderTable(['sample', 'data set', 'prw', 'mac', 'problem'], rows))
  for (const which of ['prw', 'mac'] as const) {
    const { agrees, nearest } = check[which]
    if (agrees) continue
    io.out(`${which}: ${nearest.length === 0 ? 'no single change makes it agree' : 'would agree with'}`)
    for (const says of nearest) io.out(`  ${says}`)
  }
  return check.agrees ? 0 : 1
}

function inWords(verdict: CheckedSample['prw']): string {
  if (verdict === undefined) return '-'
  return verdict ? 'agrees' : 'differs'
}
