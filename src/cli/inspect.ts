/**
 * `inspect` and `profile`: what is in a JWE header, a data set, a PIN block or a profile; redacted as
 * `src/tools/inspect` does it.
 */
import { wipe } from '../base/bytes.js'
import { requireOurs } from '../base/errors.js'
import {
  decipherPin,
  Pan,
  parseProfile,
  remarksOn,
  type SeccosProfile,
  type SupportedFormat,
  uncoveredBy,
} from '../index.js'
import {
  dataSetTables,
  type Inspected,
  jweTables,
  pinBlockTables,
  soundWords,
} from '../tools/inspect/inspect.js'
import {
  type CheckedSample,
  checkProfile,
  drawProfile,
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  type ProfileCheck,
  searchProfile,
} from '../tools.js'
import { type Command, type ExitCode, type Io, readInput, readJson, UsageError } from './command.js'
import { OPENING, type Opening, SOURCE_HELP, SOURCE_OPTIONS, withBackend } from './open.js'
import { readProfileSample, withSamples } from './probe.js'
import { SEARCH_HELP, type Search, searchVerb } from './search.js'
import { readSecret } from './secret.js'
import { show, tableOf } from './shown.js'
import {
  commandOfVerbs,
  hexOf,
  need,
  oneOf,
  optionsOf,
  refuse,
  secretOptions,
  text,
  type Values,
  type Verb,
} from './verbs.js'

/** By the name an illustrative profile is asked for; anything else is a file. */
const SHIPPED: Readonly<Record<string, SeccosProfile>> = {
  'illustrative-tdea': ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  'illustrative-aes': ILLUSTRATIVE_NOT_GIROCARD_AES,
  'illustrative-ibm-shaped': ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
}

/** Shows tables that fit the terminal, or the same as JSON: rows by the names of their columns. */
function showTables(
  values: Values,
  io: Io,
  { title, tables, ...more }: Inspected & { readonly isSound?: boolean },
): void {
  const json = tables.map(({ head, rows }) =>
    rows.map(row => Object.fromEntries(head.map((name, i) => [name, row[i]]))),
  )
  const words = [title, tables.map(({ head, rows }) => tableOf(head, rows, io)).join('\n\n')]
  show(values, io, { title, tables: json, ...more }, words.join(tables.length === 0 ? '' : '\n'))
}

const jwe = async (values: Values, file: string | undefined, io: Io): Promise<ExitCode> => {
  const text = (await readInput(file, io)).trim()
  showTables(values, io, jweTables(text.startsWith('{') ? sealedIn(text) : text))
  return 0
}

/** The JWE of one of D1's messages: of Get PIN and Set PIN, or of a card's registration. */
export function sealedIn(message: string): string {
  const { encryptedPinBlock, encryptedData } = readJson(message, 'the input')
  const found = encryptedPinBlock ?? encryptedData
  if (typeof found !== 'string')
    throw new UsageError('the message has no encryptedPinBlock and no encryptedData')
  return found
}

const dataSet = async (values: Values, file: string | undefined, io: Io): Promise<ExitCode> => {
  const profile = await readProfile(need(values, 'profile'), io)
  showTables(values, io, dataSetTables({ profile, prwDataSet: (await readInput(file, io)).trim() }))
  return 0
}

const profile = async (values: Values, file: string | undefined, io: Io): Promise<ExitCode> => {
  const drawn = await readProfile(file ?? '-', io)
  const svg = drawProfile(drawn)
  const { name, version, provenance } = drawn
  show(values, io, { name, version, provenance, svg }, svg)
  return 0
}

const pinBlock =
  (opening: Opening) =>
  async (values: Values, file: string | undefined, io: Io): Promise<ExitCode> => {
    const state = oneOf(values, 'state', ['clear', 'enciphered'])
    if (values['key'] !== undefined && state === 'clear')
      throw new UsageError('--key is for an enciphered block')
    if (values['key'] === undefined) refuse(values, ['format'], 'goes with --key')
    const block = hexOf(await readInput(file, io), 'a PIN block')
    try {
      const pan = await givenPan(values, io)
      if (pan === undefined || values['key'] === undefined) {
        const found = pinBlockTables({ block, state, ...(pan !== undefined && { pan }) })
        showTables(values, io, found)
        return found.isSound === false ? 1 : 0
      }
      const isSound = await deciphersFor(block, pan, values, io, opening)
      const { title, tables } = pinBlockTables({ block, state })
      const row = ['PAN', '', '', `${soundWords(isSound)}, under this key`]
      showTables(values, io, {
        title,
        tables: tables.map(one => ({ ...one, rows: [...one.rows, row] })),
        isSound,
      })
      return isSound ? 0 : 1
    } finally {
      wipe(block)
    }
  }

async function givenPan(values: Values, io: Io): Promise<Pan | undefined> {
  if ((values['pan-env'] ?? values['pan-fd'] ?? values['ask-pan']) === undefined) {
    if (values['key'] !== undefined)
      throw new UsageError('--key takes a PAN too: --ask-pan, --pan-env or --pan-fd')
    return undefined
  }
  return Pan.from(await readSecret('pan', 'PAN', values, io))
}

/** Whether a block is one of this PAN under this key; which check failed is not said. */
async function deciphersFor(
  block: Uint8Array,
  pan: Pan,
  values: Values,
  io: Io,
  opening: Opening,
): Promise<boolean> {
  const format = Number(oneOf(values, 'format', ['0', '1', '3', '4'])) as SupportedFormat
  let isSound = false
  await withBackend(values, io, opening, async backend => {
    const kid = need(values, 'key')
    const key = await backend.bind({ kid, usage: 'pin-encryption', mode: 'D', hostDecipher: true })
    try {
      ;(await decipherPin({ block, pan, format, key })).dispose()
      isSound = true
    } catch (error) {
      requireOurs(error, 'ERR_PIN_BLOCK')
    }
    return 0
  })
  return isSound
}

/** The profile of a file, or a shipped one by its name. Errors: `ERR_PROFILE`, `ERR_USAGE`. */
export async function readProfile(name: string, io: Io): Promise<SeccosProfile> {
  const shipped = Object.hasOwn(SHIPPED, name) ? SHIPPED[name] : undefined
  return shipped ?? parseProfile(readJson(await readInput(name, io), name))
}

/** `issuer-pin-crypto inspect`. */
export function inspectCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto inspect jwe [FILE]
       issuer-pin-crypto inspect data-set --profile PROFILE [FILE]
       issuer-pin-crypto inspect profile [FILE]
       issuer-pin-crypto inspect pin-block --state clear|enciphered [PAN] [FILE]

The input is a file, or standard input where there is none.

  jwe         a JWE in compact form, or D1's message around it
  data-set    prwDataSet: 246 upper-case hex digits
  profile     a profile's JSON file, or a shipped one by its name, drawn as SVG
  pin-block   16 or 32 hex digits; no digit of a PIN is shown

  --profile   a profile's JSON file, or illustrative-tdea, illustrative-aes,
              illustrative-ibm-shaped
  --state     whether the block is clear or enciphered
  --ask-pan, --pan-env, --pan-fd
              a PAN: says whether the block is a sound one of it; exit code 1
              where it is not. An enciphered block takes --key and --format too

${SOURCE_HELP}`
  const verb = (options: Verb['options'], run: Verb['run']): Verb => ({
    options: { ...options, ...optionsOf('json') },
    input: true,
    run,
  })
  const block = {
    ...SOURCE_OPTIONS,
    ...optionsOf('state', 'ask-pan', 'key', 'format'),
    ...secretOptions('pan'),
  }
  return commandOfVerbs(
    { name: 'inspect', summary: 'show what is in a JWE, a data set or a PIN block, secrets as dots', help },
    {
      jwe: verb({}, jwe),
      'data-set': verb(optionsOf('profile'), dataSet),
      profile: verb({}, profile),
      'pin-block': verb(block, pinBlock(opening)),
    },
  )
}

/* `profile check`: whether a SECCOS profile reads, what it leaves out, and whether samples come out as it says; and the search. */

const PROFILE_HELP = `usage: issuer-pin-crypto profile check [--samples SAMPLES] [--json] [FILE]

Reads a profile (JSON, issuer-pin-crypto/seccos-profile.schema.json) from a file
or standard input. Exit code 1, and the place of the mistake, where it is not one.

  --samples   a file of samples made with TEST keys, as for probe; what the
              profile has of its own, fields and external values, is in "fields"
              (text) and "bytes" (hex) of each sample. Says for each whether data
              set, PRW and MAC come out, and where not, the nearest reading that
              would. Exit code 1 where not all do.
  --json      the result as JSON

       ${SEARCH_HELP}`

/** `issuer-pin-crypto profile`, over some way to search. */
export function profileCommand(search: Search = searchProfile): Command {
  return commandOfVerbs(
    {
      name: 'profile',
      summary: 'check a SECCOS profile, and whether samples come out; search what is not known of one',
      help: PROFILE_HELP,
    },
    {
      check: { options: optionsOf('samples', 'json'), input: true, run: runCheck },
      search: searchVerb(search),
    },
  )
}

/** `issuer-pin-crypto profile check`, `profile search`. */
export const PROFILE: Command = profileCommand()

async function runCheck(values: Values, file: string | undefined, io: Io): Promise<ExitCode> {
  const profile = parseProfile(readJson(await readInput(file, io), 'the profile'))
  const covers = (['prw', 'mac'] as const).map(computation => ({
    computation,
    uncovered: uncoveredBy({ profile, computation }),
  }))
  const rows = covers.map(({ computation, uncovered }) => {
    const { algorithm, padding, keyBytes, outputBytes } = profile[computation]
    const left = uncovered.join(', ') || 'nothing'
    return [computation, algorithm, String(padding), `${keyBytes}`, `${outputBytes}`, left]
  })
  const { name, version, provenance } = profile
  const remarks = remarksOn(profile)
  const path = text(values, 'samples')
  const check = path === undefined ? undefined : await checkSamples(profile, await readInput(path, io))
  const head = ['', 'algorithm', 'padding', 'key bytes', 'bytes', 'does not cover']
  const words = [
    `profile ${name} ${version} (${provenance})`,
    tableOf(head, rows, io),
    ...remarks.map(({ path, text }) => `remark: ${path} ${text}`),
    ...(check === undefined ? [] : sampleLines(check, io)),
  ]
  show(values, io, { name, version, provenance, covers, remarks, check }, words.join('\n'))
  return check === undefined || check.agrees ? 0 : 1
}

function checkSamples(profile: SeccosProfile, text: string): Promise<ProfileCheck> {
  return withSamples(text, readProfileSample, file => checkProfile({ ...file, profile }))
}

function sampleLines(check: ProfileCheck, io: Io): string[] {
  const rows = check.samples.map(({ fields, prw, mac, problem }, i) => [
    `${i + 1}`,
    fields.length === 0 ? 'does not read' : fields.join(' '),
    inWords(prw),
    inWords(mac),
    problem ?? '',
  ])
  const lines = [tableOf(['sample', 'data set', 'prw', 'mac', 'problem'], rows, io)]
  for (const which of ['prw', 'mac'] as const) {
    const { agrees, nearest } = check[which]
    if (agrees) continue
    lines.push(`${which}: ${nearest.length === 0 ? 'no single change makes it agree' : 'would agree with'}`)
    lines.push(...nearest.map(says => `  ${says}`))
  }
  return lines
}

function inWords(verdict: CheckedSample['prw']): string {
  if (verdict === undefined) return '-'
  return verdict ? 'agrees' : 'differs'
}
