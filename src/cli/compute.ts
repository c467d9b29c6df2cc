/** `pin`, `mac`, `prw`, `jwe`: one computation each, under a key of a token or a TEST key; what is secret comes in and goes out masked. */
import { bufferOf, toHex, utf8Bytes, wipe } from '../base/bytes.js'
import { parseJsonObject } from '../base/json.js'
import {
  computePrw,
  dataSetFromHex,
  dataSetToHex,
  decipherPin,
  encipherPin,
  generateMac,
  type KeyUsage,
  type MacAlgorithm,
  type MacPadding,
  openJwe,
  Pan,
  Pin,
  type PublicJwkLike,
  type SupportedFormat,
  sealJwe,
  translatePinBlock,
  verifyMac,
  verifyPrw,
} from '../index.js'
import {
  type Command,
  type ExitCode,
  type Io,
  readArguments,
  readInput,
  readJson,
  UsageError,
} from './command.js'
import { readProfile } from './inspect.js'
import { hexOf } from './key.js'
import {
  FLAG,
  need,
  numberOf,
  OPENING,
  type Opening,
  type OptionTable,
  oneOf,
  readSecret,
  SOURCE_HELP,
  SOURCE_OPTIONS,
  secretOptions,
  TEXT,
  text,
  type Values,
  withBackend,
} from './open.js'
import { show } from './shown.js'

type Verb = (values: Values, rest: readonly string[], io: Io, opening: Opening) => Promise<ExitCode>

/** A command of several verbs, all with the options of a key source. */
function commandOf(
  { name, summary, help }: Omit<Command, 'run'>,
  more: OptionTable,
  verbs: Readonly<Record<string, Verb>>,
  opening: Opening,
): Command {
  return {
    name,
    summary,
    help: `${help}\n\n${SOURCE_HELP}`,
    run: async ([verb = '', ...args], io) => {
      const run = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined
      if (run === undefined) throw new UsageError(`${name} takes one of ${Object.keys(verbs).join(', ')}`)
      const options = { ...SOURCE_OPTIONS, ...more }
      const { values, positionals } = readArguments(args, { options, positionals: 1 })
      return run(values as Values, positionals, io, opening)
    },
  }
}

const FORMATS = ['0', '1', '3', '4'] as const

const formatOf = (values: Values, name: string): SupportedFormat =>
  Number(oneOf(values, name, FORMATS)) as SupportedFormat

const panOf = async (values: Values, io: Io): Promise<Pan> =>
  Pan.from(await readSecret('pan', 'PAN', values, io))

async function withPin<T>(values: Values, io: Io, use: (pin: Pin) => Promise<T>): Promise<T> {
  const pin = Pin.from(await readSecret('card-pin', 'PIN', values, io))
  try {
    return await use(pin)
  } finally {
    pin.dispose()
  }
}

async function blockOf(rest: readonly string[], io: Io): Promise<Uint8Array> {
  return hexOf((await readInput(rest[0], io)).trim(), 'a PIN block')
}

const PIN_VERBS: Readonly<Record<string, Verb>> = {
  encipher: (values, _rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const format = formatOf(values, 'format')
      const key = await backend.bind({ kid: need(values, 'key'), usage: 'pin-encryption', mode: 'E' })
      const pan = await panOf(values, io)
      const block = await withPin(values, io, pin => encipherPin({ pin, pan, format, key }))
      show(values, io, { block: toHex(block), kid: key.kid, format }, toHex(block))
      return 0
    }),
  decipher: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const format = formatOf(values, 'format')
      const key = await backend.bind({
        kid: need(values, 'key'),
        usage: 'pin-encryption',
        hostDecipher: true,
      })
      const [block, pan] = [await blockOf(rest, io), await panOf(values, io)]
      const pin = await decipherPin({ block, pan, format, key })
      try {
        const reveal = values['reveal'] === true
        const digits = pin.reveal()
        const shown = reveal ? digits : `a PIN of ${digits.length} digits (--reveal shows it)`
        show(values, io, { digits: digits.length, ...(reveal && { pin: digits }) }, shown)
      } finally {
        pin.dispose()
      }
      return 0
    }),
  translate: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const [fromFormat, toFormat] = [formatOf(values, 'from-format'), formatOf(values, 'to-format')]
      const hostDecipher = values['host-decipher'] === true
      const from = await backend.bind({ kid: need(values, 'from'), usage: 'pin-encryption', hostDecipher })
      const to = await backend.bind({ kid: need(values, 'to'), usage: 'pin-encryption', mode: 'E' })
      const [block, pan] = [await blockOf(rest, io), await panOf(values, io)]
      const moved = await translatePinBlock({ block, pan, fromFormat, toFormat, from, to })
      show(values, io, { block: toHex(moved), kid: to.kid, format: toFormat }, toHex(moved))
      return 0
    }),
  verify: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const format = formatOf(values, 'format')
      const key = await backend.bind({
        kid: need(values, 'key'),
        usage: 'pin-encryption',
        hostDecipher: true,
      })
      const [block, pan] = [await blockOf(rest, io), await panOf(values, io)]
      const inBlock = await decipherPin({ block, pan, format, key })
      try {
        const equal = await withPin(values, io, async pin => inBlock.equals(pin))
        show(
          values,
          io,
          { verified: equal },
          equal ? 'the PIN is the one in the block' : 'the PIN is another',
        )
        return equal ? 0 : 1
      } finally {
        inBlock.dispose()
      }
    }),
}

/** `issuer-pin-crypto pin`. */
export function pinCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto pin VERB [options] [FILE]

  encipher    --key KID --format 0|1|3|4: a PIN into a block, in hex
  decipher    --key KID --format [--reveal] [FILE]: how long its PIN is, or it
  translate   --from KID --to KID --from-format --to-format [--host-decipher]
              [FILE]
  verify      --key KID --format [FILE]: whether a PIN is the one in a block

PIN and PAN are typed without echo, or come by --card-pin-env, --card-pin-fd,
--pan-env, --pan-fd; the block is a file or standard input.
Exit code 1 where the PIN is another.`
  const more = {
    key: TEXT,
    from: TEXT,
    to: TEXT,
    format: TEXT,
    'from-format': TEXT,
    'to-format': TEXT,
    reveal: FLAG,
    'host-decipher': FLAG,
    ...secretOptions('pan'),
    ...secretOptions('card-pin'),
  }
  return commandOf(
    { name: 'pin', summary: 'encipher, decipher, translate and verify PIN blocks', help },
    more,
    PIN_VERBS,
    opening,
  )
}

const MAC_ALGORITHMS = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac'] as const
const MAC_USAGE: Readonly<Record<(typeof MAC_ALGORITHMS)[number], KeyUsage>> = {
  'iso9797-1-alg1': 'cbc-mac',
  'iso9797-1-alg3': 'retail-mac',
  cmac: 'cmac',
}

function macParameters(values: Values): { algorithm: MacAlgorithm; padding: MacPadding; length: number } {
  const algorithm = oneOf(values, 'algorithm', MAC_ALGORITHMS)
  const padding = algorithm === 'cmac' ? 'none' : (numberOf(values, 'padding', [1, 3]) as MacPadding)
  return { algorithm, padding, length: numberOf(values, 'length', [4, 16]) }
}

const MAC_VERBS: Readonly<Record<string, Verb>> = {
  compute: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const parameters = macParameters(values)
      const usage = MAC_USAGE[parameters.algorithm as keyof typeof MAC_USAGE]
      const key = await backend.bind({ kid: need(values, 'key'), usage, mode: 'G' })
      const message = utf8Bytes(await readInput(rest[0], io))
      const mac = await generateMac({ key, message: bytesOf(values, message), ...parameters })
      show(values, io, { mac: toHex(mac), kid: key.kid, ...parameters }, toHex(mac))
      return 0
    }),
  verify: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const parameters = macParameters(values)
      const usage = MAC_USAGE[parameters.algorithm as keyof typeof MAC_USAGE]
      const mac = hexOf(need(values, 'mac'), '--mac')
      const key = await backend.bind({ kid: need(values, 'key'), usage, mode: 'V' })
      const message = utf8Bytes(await readInput(rest[0], io))
      const verified = await verifyMac({ key, message: bytesOf(values, message), mac, ...parameters })
      show(values, io, { verified }, verified ? 'the MAC is right' : 'the MAC is wrong')
      return verified ? 0 : 1
    }),
}

/** The message as it is, or what its hex says. */
function bytesOf(values: Values, message: Uint8Array): Uint8Array {
  if (values['hex'] !== true) return message
  return hexOf(bufferOf(message).toString('utf8').trim(), 'the message')
}

/** `issuer-pin-crypto mac`. */
export function macCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto mac compute|verify --key KID --algorithm ALGORITHM
         [--padding 1|2|3] --length BYTES [--hex] [--mac HEX] [FILE]

  --algorithm   iso9797-1-alg1, iso9797-1-alg3, cmac (which takes no padding)
  --hex         the message is hex; otherwise its bytes as they are (UTF-8)
  --mac         verify: the MAC in hex; exit code 1 where it is wrong`
  const more = { key: TEXT, algorithm: TEXT, padding: TEXT, length: TEXT, hex: FLAG, mac: TEXT }
  return commandOf({ name: 'mac', summary: 'compute and verify MACs', help }, more, MAC_VERBS, opening)
}

async function prwValues(rest: readonly string[], io: Io): Promise<Record<string, unknown>> {
  return readJson(await readInput(rest[0], io), 'the values')
}

function textOf(given: Record<string, unknown>, name: string): string {
  const { [name]: value } = given
  if (typeof value !== 'string') throw new UsageError(`the values have no ${name}, as text`)
  return value
}

async function withValues<T>(
  given: Record<string, unknown>,
  use: (values: { pan: Pan; pin: Pin; pcc: string; intdatag: string; more: object }) => Promise<T>,
): Promise<T> {
  const pin = Pin.from(textOf(given, 'pin'))
  try {
    const { random, fields } = given
    if (fields !== undefined && (typeof fields !== 'object' || fields === null))
      throw new UsageError('fields must be an object')
    return await use({
      pan: Pan.from(textOf(given, 'pan')),
      pin,
      pcc: textOf(given, 'pcc'),
      intdatag: textOf(given, 'intdatag'),
      more: {
        ...(random !== undefined && { random: hexOf(textOf(given, 'random'), 'random') }),
        ...(fields !== undefined && { fields }),
      },
    })
  } finally {
    pin.dispose()
  }
}

const PRW_VERBS: Readonly<Record<string, Verb>> = {
  compute: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const profile = await readProfile(need(values, 'profile'), io)
      const key = await backend.bind({ kid: need(values, 'key'), usage: 'prw-generate' })
      const given = await prwValues(rest, io)
      const { prwValue, dataSet, random } = await withValues(given, ({ more, ...rest }) =>
        computePrw({ key, profile, ...rest, ...more }),
      )
      const result = {
        prwValue,
        prwDataSet: dataSetToHex(dataSet),
        ...(random !== undefined && { random: toHex(random) }),
      }
      show(values, io, result, `${prwValue}\n${result.prwDataSet}`)
      return 0
    }),
  verify: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const profile = await readProfile(need(values, 'profile'), io)
      const key = await backend.bind({ kid: need(values, 'key'), usage: 'prw-verify' })
      const given = await prwValues(rest, io)
      const stored = {
        dataSet: dataSetFromHex(textOf(given, 'prwDataSet')),
        prwValue: textOf(given, 'prwValue'),
      }
      const { verified } = await withValues(given, ({ more, ...rest }) =>
        verifyPrw({ key, profile, ...rest, ...more, ...stored }),
      )
      show(values, io, { verified }, verified ? 'the PRW is right' : 'the PRW is wrong')
      return verified ? 0 : 1
    }),
}

/** `issuer-pin-crypto prw`. */
export function prwCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto prw compute|verify --key KID --profile PROFILE [FILE]

The values are JSON, from a file or standard input:
  { "pan", "pin", "pcc", "intdatag", "random"?: hex, "fields"?: { … } }
  and to verify: "prwDataSet" (hex), "prwValue"

  --profile   a profile's JSON file, or a shipped one by its name (inspect --help)

Exit code 1 where the PRW is wrong.`
  return commandOf(
    { name: 'prw', summary: 'compute and verify the PRWs of SECCOS', help },
    { key: TEXT, profile: TEXT },
    PRW_VERBS,
    opening,
  )
}

/** What of D1's messages is shown of a plaintext: names and lengths. */
function masked(plaintext: Uint8Array): unknown {
  const object = parseJsonObject(bufferOf(plaintext).toString('utf8'))
  if (object === undefined) return `${plaintext.length} bytes`
  const open = ['kid', 'prwKid', 'macKid', 'intdatag']
  return Object.fromEntries(
    Object.entries(object).map(([name, value]) => [
      name,
      open.includes(name) && typeof value === 'string' ? value : `•• ${String(value).length} characters`,
    ]),
  )
}

const JWE_VERBS: Readonly<Record<string, Verb>> = {
  open: (values, rest, io, opening) =>
    withBackend(values, io, opening, async backend => {
      const key = await backend.bind({ kid: need(values, 'key'), usage: 'jwe-key-agreement' })
      const { plaintext, kid, header } = await openJwe({
        jwe: jweOf(await readInput(rest[0], io)),
        keys: key,
      })
      try {
        const shown =
          values['reveal'] === true
            ? bufferOf(plaintext).toString('utf8')
            : JSON.stringify(masked(plaintext), null, 2)
        const result = values['reveal'] === true ? shown : masked(plaintext)
        show(values, io, { kid, header, plaintext: result }, shown)
      } finally {
        wipe(plaintext)
      }
      return 0
    }),
}

/** A compact JWE, or D1's message around it. */
function jweOf(given: string): string {
  const trimmed = given.trim()
  if (!trimmed.startsWith('{')) return trimmed
  const { encryptedPinBlock, encryptedData } = readJson(trimmed, 'the input')
  const found = encryptedPinBlock ?? encryptedData
  if (typeof found !== 'string')
    throw new UsageError('the message has no encryptedPinBlock and no encryptedData')
  return found
}

/** To seal takes no key of ours, so no token either. */
async function seal(args: readonly string[], io: Io): Promise<ExitCode> {
  const options = { recipient: TEXT, kid: TEXT, json: FLAG }
  const { values, positionals } = readArguments(args, { options, positionals: 1 })
  const given = values as Values
  const recipient = readJson(await readInput(need(given, 'recipient'), io), 'the recipient') as PublicJwkLike
  if (Object.hasOwn(recipient, 'd'))
    throw new UsageError('the recipient is a private key: give its public half')
  const kid = text(given, 'kid') ?? recipient.kid
  if (typeof kid !== 'string') throw new UsageError('--kid is missing, and the recipient has none')
  const plaintext = utf8Bytes(await readInput(positionals[0], io))
  try {
    const jwe = await sealJwe({ plaintext, recipient, kid })
    show(given, io, { jwe, kid }, jwe)
  } finally {
    wipe(plaintext)
  }
  return 0
}

/** `issuer-pin-crypto jwe`. */
export function jweCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto jwe seal --recipient JWK [--kid KID] [FILE]
       issuer-pin-crypto jwe open --key KID [--reveal] [FILE]

  seal      to a public P-256 key (JWK file): a JWE as D1 takes it
  open      a JWE, or D1's message around it, with a key of ours; of its content
            names and lengths are shown, and with --reveal all of it

The input is a file, or standard input where there is none.`
  const command = commandOf(
    { name: 'jwe', summary: 'seal and open JWEs', help },
    { key: TEXT, reveal: FLAG },
    { ...JWE_VERBS, seal: JWE_VERBS['open'] as Verb },
    opening,
  )
  return {
    ...command,
    run: (args, io) => (args[0] === 'seal' ? seal(args.slice(1), io) : command.run(args, io)),
  }
}
