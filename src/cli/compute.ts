/** `pin`, `mac`, `prw`, `jwe`: one computation each, under a key of a token or a TEST key; what is secret comes in and goes out masked. */
import type { Backend } from '../backend/backend.js'
import { bufferOf, toHex, wipe } from '../base/bytes.js'
import { parseJsonObject } from '../base/json.js'
import {
  computePrw,
  dataSetFromHex,
  dataSetToHex,
  decipherPin,
  encipherPin,
  generateMac,
  generateOffset,
  generatePvv,
  type Key,
  type KeyUsage,
  type MacPadding,
  naturalPin,
  openJwe,
  Pan,
  Pin,
  type PinReference,
  type PinValueRule,
  type PublicJwkLike,
  type SeccosProfile,
  type SupportedFormat,
  sealJwe,
  translatePinBlock,
  verifyMac,
  verifyPinBlock,
  verifyPrw,
} from '../index.js'
import {
  type Command,
  type ExitCode,
  type Io,
  readInput,
  readInputBytes,
  readJson,
  UsageError,
} from './command.js'
import { readProfile, sealedIn } from './inspect.js'
import { OPENING, type Opening, SOURCE_HELP, SOURCE_OPTIONS, withBackend } from './open.js'
import { readSecret } from './secret.js'
import { show } from './shown.js'
import {
  commandOfVerbs,
  hexOf,
  need,
  numberOf,
  oneOf,
  optionsOf,
  refuse,
  secretOptions,
  text,
  type Values,
  type Verb,
} from './verbs.js'

type Run = (values: Values, file: string | undefined, io: Io, backend: Backend) => Promise<ExitCode>

/** What a verb on keys takes: options that must be there and others, secrets, and whether a file or standard input is its input. */
interface Takes {
  readonly needs: readonly string[]
  readonly options?: readonly string[]
  readonly secrets?: readonly string[]
  readonly input?: boolean
}

/** A verb on keys wherever they are. */
function onKeys(
  opening: Opening,
  run: Run,
  { needs, options = [], secrets = [], input = true }: Takes,
): Verb {
  return {
    options: { ...SOURCE_OPTIONS, ...optionsOf(...needs, ...options), ...secretOptions(...secrets) },
    needs,
    input,
    run: (values, file, io) => withBackend(values, io, opening, backend => run(values, file, io, backend)),
  }
}

/** Shows a verdict: exit code 1 where it is no. */
function verdict(values: Values, io: Io, verified: boolean, [yes, no]: readonly [string, string]): ExitCode {
  show(values, io, { verified }, verified ? yes : no)
  return verified ? 0 : 1
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

async function blockOf(file: string | undefined, io: Io): Promise<Uint8Array> {
  return hexOf(await readInput(file, io), 'a PIN block')
}

/** A key that PIN blocks are deciphered under, here. */
function readingKey(backend: Backend, kid: string): Promise<Key> {
  return backend.bind({ kid, usage: 'pin-encryption', mode: 'D', hostDecipher: true })
}

const encipher: Run = async (values, _file, io, backend) => {
  const format = formatOf(values, 'format')
  const key = await backend.bind({ kid: need(values, 'key'), usage: 'pin-encryption', mode: 'E' })
  const pan = await panOf(values, io)
  const block = await withPin(values, io, pin => encipherPin({ pin, pan, format, key }))
  show(values, io, { block: toHex(block), kid: key.kid, format }, toHex(block))
  return 0
}

const decipher: Run = async (values, file, io, backend) => {
  const format = formatOf(values, 'format')
  const key = await readingKey(backend, need(values, 'key'))
  const [block, pan] = [await blockOf(file, io), await panOf(values, io)]
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
}

const translate: Run = async (values, file, io, backend) => {
  const [fromFormat, toFormat] = [formatOf(values, 'from-format'), formatOf(values, 'to-format')]
  const hostDecipher = values['host-decipher'] === true
  const usage = 'pin-encryption'
  const from = await backend.bind({ kid: need(values, 'from'), usage, mode: 'D', hostDecipher })
  const to = await backend.bind({ kid: need(values, 'to'), usage, mode: 'E' })
  const [block, pan] = [await blockOf(file, io), await panOf(values, io)]
  const moved = await translatePinBlock({ block, pan, fromFormat, toFormat, from, to })
  show(values, io, { block: toHex(moved), kid: to.kid, format: toFormat }, toHex(moved))
  return 0
}

/** A PVV or 3624 key, bound with its rule: no caller of a verification chooses that, whoever opens the key does. */
async function pvkOf(
  values: Values,
  io: Io,
  backend: Backend,
  usage: 'visa-pvv' | 'ibm-3624',
  mode: 'G' | 'V',
): Promise<Key> {
  const pinValue =
    usage === 'visa-pvv'
      ? { pvki: numberOf(values, 'pvki', [0, 9]) }
      : (readJson(await readInput(need(values, 'rule'), io), 'the rule') as unknown as PinValueRule)
  return backend.bind({ kid: need(values, 'pvk'), usage, mode, pinValue })
}

const pvv: Run = async (values, file, io, backend) => {
  const format = formatOf(values, 'format')
  const from = await readingKey(backend, need(values, 'key'))
  const key = await pvkOf(values, io, backend, 'visa-pvv', 'G')
  const [block, pan] = [await blockOf(file, io), await panOf(values, io)]
  const value = await generatePvv({ block, pan, format, from, key })
  show(values, io, { pvv: value, kid: key.kid }, value)
  return 0
}

const offset: Run = async (values, file, io, backend) => {
  const format = formatOf(values, 'format')
  const from = await readingKey(backend, need(values, 'key'))
  const key = await pvkOf(values, io, backend, 'ibm-3624', 'G')
  const [block, pan] = [await blockOf(file, io), await panOf(values, io)]
  const value = await generateOffset({ block, pan, format, from, key })
  show(values, io, { offset: value, kid: key.kid }, value)
  return 0
}

const natural: Run = async (values, _file, io, backend) => {
  const format = formatOf(values, 'format')
  const length = numberOf(values, 'length', [4, 12])
  const to = await backend.bind({ kid: need(values, 'key'), usage: 'pin-encryption', mode: 'E' })
  const key = await pvkOf(values, io, backend, 'ibm-3624', 'G')
  const block = await naturalPin({ pan: await panOf(values, io), key, length, format, to })
  show(values, io, { block: toHex(block), kid: to.kid, format }, toHex(block))
  return 0
}

/** What a PIN can be compared with: the options that are its own, and how they are read. */
interface Reference {
  readonly own: readonly string[]
  readonly read: (values: Values, io: Io, backend: Backend) => Promise<PinReference>
}

/** What `pin verify` compares with, by the word after `--against`. */
const REFERENCES: Readonly<Record<string, Reference>> = {
  block: {
    own: ['reference', 'reference-key', 'reference-format'],
    read: async (values, io, backend) => ({
      kind: 'block',
      block: await blockOf(need(values, 'reference'), io),
      format: formatOf(values, 'reference-format'),
      // Of both modes: of one format the block that comes is moved under this key, and compared there.
      key: await backend.bind({
        kid: need(values, 'reference-key'),
        usage: 'pin-encryption',
        hostDecipher: true,
      }),
    }),
  },
  pvv: {
    own: ['pvv', 'pvk', 'pvki'],
    read: async (values, io, backend) => ({
      kind: 'pvv',
      pvv: need(values, 'pvv'),
      key: await pvkOf(values, io, backend, 'visa-pvv', 'V'),
    }),
  },
  offset: {
    own: ['offset', 'pvk', 'rule'],
    read: async (values, io, backend) => ({
      kind: 'offset',
      offset: need(values, 'offset'),
      key: await pvkOf(values, io, backend, 'ibm-3624', 'V'),
    }),
  },
  prw: {
    own: ['prw-key', 'profile', 'values'],
    read: async (values, io, backend) => {
      const profile = await readProfile(need(values, 'profile'), io)
      const key = await backend.bind({ kid: need(values, 'prw-key'), usage: 'prw-verify' })
      const given = readJson(await readInput(need(values, 'values'), io), 'the values')
      return { kind: 'prw', key, profile, ...prwOf(given), ...storedPrw(given) }
    },
  },
}

/** Each option of a reference, once: `--against` says which of them belong together. */
const OF_REFERENCES: readonly string[] = [...new Set(Object.values(REFERENCES).flatMap(({ own }) => own))]

const verifyPin: Run = async (values, file, io, backend) => {
  const words = ['pin', ...Object.keys(REFERENCES)]
  const against = values['against'] === undefined ? 'pin' : oneOf(values, 'against', words)
  const chosen = REFERENCES[against]
  const others = OF_REFERENCES.filter(name => chosen?.own.includes(name) !== true)
  refuse(values, others, `does not go with a comparison against ${against}`)
  if (chosen !== undefined) refuse(values, ['card-pin-env', 'card-pin-fd'], 'goes with --against pin')
  const format = formatOf(values, 'format')
  const from = await readingKey(backend, need(values, 'key'))
  const answers = ['the PIN is right', 'the PIN is wrong'] as const
  if (chosen === undefined) {
    const [block, pan] = [await blockOf(file, io), await panOf(values, io)]
    const inBlock = await decipherPin({ block, pan, format, key: from })
    try {
      const verified = await withPin(values, io, async pin => inBlock.equals(pin))
      return verdict(values, io, verified, answers)
    } finally {
      inBlock.dispose()
    }
  }
  const reference = await chosen.read(values, io, backend)
  const [block, pan] = [await blockOf(file, io), await panOf(values, io)]
  const tries = 'counted-elsewhere'
  const { verified } = await verifyPinBlock({ block, pan, format, from, against: reference, tries })
  return verdict(values, io, verified, answers)
}

/** `issuer-pin-crypto pin`. */
export function pinCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto pin VERB [options] [FILE]

  encipher    --key KID --format 0|1|3|4: a PIN into a block, in hex
  decipher    --key KID --format [--reveal] [FILE]: how long its PIN is, or it
  translate   --from KID --to KID --from-format --to-format [--host-decipher]
              [FILE]
  verify      --key KID --format [--against pin|block|pvv|offset|prw] [FILE]:
              whether the PIN in a block is right. Against
              pin     (where it is not said) the one that is typed
              block   --reference FILE --reference-key --reference-format
              pvv     --pvv DIGITS --pvk KID --pvki N
              offset  --offset DIGITS --pvk KID --rule FILE
              prw     --prw-key KID --profile --values FILE (as prw verify)
  pvv         --key KID --format --pvk KID --pvki N [FILE]: the Visa PVV of
              the PIN in a block
  offset      --key KID --format --pvk KID --rule FILE [FILE]: its IBM 3624
              offset
  natural     --pvk KID --rule FILE --length N --key KID --format: the PIN that
              IBM 3624 gives a card, as a block

PIN and PAN are typed without echo, or come by --card-pin-env, --card-pin-fd,
--pan-env, --pan-fd; the block, in hex, is a file or standard input.
  --rule      { "decimalisation": 16 digits,
                "validation": { "from", "length", "pad" } }
Exit code 1 where the PIN is wrong. Here no tries are counted: whoever may run
this under production keys can search for a PIN; a service counts them.`
  const reading = { secrets: ['pan'] }
  const typing = { secrets: ['pan', 'card-pin'] }
  return commandOfVerbs(
    {
      name: 'pin',
      summary: 'encipher, decipher, translate and verify PIN blocks; PVV and offset',
      help: `${help}\n\n${SOURCE_HELP}`,
    },
    {
      encipher: onKeys(opening, encipher, { ...typing, needs: ['key', 'format'], input: false }),
      decipher: onKeys(opening, decipher, { ...reading, needs: ['key', 'format'], options: ['reveal'] }),
      translate: onKeys(opening, translate, {
        ...reading,
        needs: ['from', 'to', 'from-format', 'to-format'],
        options: ['host-decipher'],
      }),
      verify: onKeys(opening, verifyPin, {
        ...typing,
        needs: ['key', 'format'],
        options: ['against', ...OF_REFERENCES],
      }),
      pvv: onKeys(opening, pvv, { ...reading, needs: ['key', 'format', 'pvk', 'pvki'] }),
      offset: onKeys(opening, offset, { ...reading, needs: ['key', 'format', 'pvk', 'rule'] }),
      natural: onKeys(opening, natural, {
        ...reading,
        needs: ['key', 'format', 'length', 'pvk', 'rule'],
        input: false,
      }),
    },
  )
}

const MAC_ALGORITHMS = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac', 'hmac-sha256'] as const
const MAC_USAGE: Readonly<Record<(typeof MAC_ALGORITHMS)[number], KeyUsage>> = {
  'iso9797-1-alg1': 'cbc-mac',
  'iso9797-1-alg3': 'retail-mac',
  cmac: 'cmac',
  'hmac-sha256': 'hmac',
}
/** Those that pad by themselves, or not at all. */
const UNPADDED: readonly string[] = ['cmac', 'hmac-sha256']
const MAC_BYTES: readonly [number, number] = [4, 32]

function macParameters(values: Values): {
  algorithm: (typeof MAC_ALGORITHMS)[number]
  padding: MacPadding
  length: number
} {
  const algorithm = oneOf(values, 'algorithm', MAC_ALGORITHMS)
  const isPadded = !UNPADDED.includes(algorithm)
  if (!isPadded) refuse(values, ['padding'], `does not go with ${algorithm}`)
  const padding = isPadded ? (numberOf(values, 'padding', [1, 3]) as MacPadding) : 'none'
  return { algorithm, padding, length: numberOf(values, 'length', MAC_BYTES) }
}

/** The message, the key and what a MAC is made by. */
async function macInput(values: Values, file: string | undefined, io: Io, backend: Backend, mode: 'G' | 'V') {
  const parameters = macParameters(values)
  const usage = MAC_USAGE[parameters.algorithm]
  const key = await backend.bind({ kid: need(values, 'key'), usage, mode })
  const message = bytesOf(values, await readInputBytes(file, io))
  return { key, message, ...parameters }
}

const computeMac: Run = async (values, file, io, backend) => {
  const { key, message, ...parameters } = await macInput(values, file, io, backend, 'G')
  const mac = await generateMac({ key, message, ...parameters })
  show(values, io, { mac: toHex(mac), kid: key.kid, ...parameters }, toHex(mac))
  return 0
}

const checkMac: Run = async (values, file, io, backend) => {
  const mac = hexOf(need(values, 'mac'), '--mac')
  const verified = await verifyMac({ ...(await macInput(values, file, io, backend, 'V')), mac })
  return verdict(values, io, verified, ['the MAC is right', 'the MAC is wrong'])
}

/** The message as it is, or what its hex says. */
function bytesOf(values: Values, message: Uint8Array): Uint8Array {
  if (values['hex'] !== true) return message
  return hexOf(bufferOf(message).toString('utf8'), 'the message')
}

/** `issuer-pin-crypto mac`. */
export function macCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto mac compute|verify --key KID --algorithm ALGORITHM
         [--padding 1|2|3] --length BYTES [--hex] [--mac HEX] [FILE]

  --algorithm   iso9797-1-alg1, iso9797-1-alg3; cmac and hmac-sha256, which take
                no padding
  --hex         the message is hex; otherwise its bytes are taken as they are
  --mac         verify: the MAC in hex; exit code 1 where it is wrong`
  const takes = { needs: ['key', 'algorithm', 'length'], options: ['padding', 'hex'] }
  return commandOfVerbs(
    { name: 'mac', summary: 'compute and verify MACs', help: `${help}\n\n${SOURCE_HELP}` },
    {
      compute: onKeys(opening, computeMac, takes),
      verify: onKeys(opening, checkMac, { ...takes, needs: [...takes.needs, 'mac'] }),
    },
  )
}

function textOf(given: Record<string, unknown>, name: string): string {
  const { [name]: value } = given
  if (typeof value !== 'string') throw new UsageError(`the values have no ${name}, as text`)
  return value
}

/** What a PRW is computed from besides PIN and PAN. */
function prwOf(given: Record<string, unknown>) {
  const { random, fields } = given
  if (fields !== undefined && (typeof fields !== 'object' || fields === null))
    throw new UsageError('fields must be an object')
  return {
    pcc: textOf(given, 'pcc'),
    intdatag: textOf(given, 'intdatag'),
    ...(random !== undefined && { random: hexOf(textOf(given, 'random'), 'random') }),
    ...(fields !== undefined && { fields: fields as Record<string, string> }),
  }
}

function storedPrw(given: Record<string, unknown>) {
  return { dataSet: dataSetFromHex(textOf(given, 'prwDataSet')), prwValue: textOf(given, 'prwValue') }
}

/** The key, the profile and the values, PIN and PAN among them; the PIN is disposed of afterwards. */
async function withPrw<T>(
  values: Values,
  file: string | undefined,
  io: Io,
  use: (
    input: { profile: SeccosProfile; pan: Pan; pin: Pin } & ReturnType<typeof prwOf>,
    given: Record<string, unknown>,
  ) => Promise<T>,
): Promise<T> {
  const profile = await readProfile(need(values, 'profile'), io)
  const given = readJson(await readInput(file, io), 'the values')
  const pin = Pin.from(textOf(given, 'pin'))
  try {
    return await use({ profile, pan: Pan.from(textOf(given, 'pan')), pin, ...prwOf(given) }, given)
  } finally {
    pin.dispose()
  }
}

const makePrw: Run = async (values, file, io, backend) => {
  const key = await backend.bind({ kid: need(values, 'key'), usage: 'prw-generate' })
  const { prwValue, dataSet, random } = await withPrw(values, file, io, input =>
    computePrw({ key, ...input }),
  )
  const prwDataSet = dataSetToHex(dataSet)
  const result = { prwValue, prwDataSet, ...(random !== undefined && { random: toHex(random) }) }
  show(values, io, result, `${prwValue}\n${prwDataSet}`)
  return 0
}

const checkPrw: Run = async (values, file, io, backend) => {
  const key = await backend.bind({ kid: need(values, 'key'), usage: 'prw-verify' })
  const { verified } = await withPrw(values, file, io, (input, given) =>
    verifyPrw({ key, ...input, ...storedPrw(given) }),
  )
  return verdict(values, io, verified, ['the PRW is right', 'the PRW is wrong'])
}

/** `issuer-pin-crypto prw`. */
export function prwCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto prw compute|verify --key KID --profile PROFILE [FILE]

The values are JSON, from a file or standard input:
  { "pan", "pin", "pcc", "intdatag", "random"?: hex, "fields"?: { … } }
  and to verify: "prwDataSet" (hex), "prwValue"

  --profile   a profile's JSON file, or a shipped one by its name (inspect --help)

Exit code 1 where the PRW is wrong.`
  return commandOfVerbs(
    { name: 'prw', summary: 'compute and verify the PRWs of SECCOS', help: `${help}\n\n${SOURCE_HELP}` },
    {
      compute: onKeys(opening, makePrw, { needs: ['key', 'profile'] }),
      verify: onKeys(opening, checkPrw, { needs: ['key', 'profile'] }),
    },
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

const open: Run = async (values, file, io, backend) => {
  const key = await backend.bind({ kid: need(values, 'key'), usage: 'jwe-key-agreement' })
  const { plaintext, kid, header } = await openJwe({ jwe: jweOf(await readInput(file, io)), keys: key })
  try {
    const reveal = values['reveal'] === true
    const result = reveal ? bufferOf(plaintext).toString('utf8') : masked(plaintext)
    const shown = typeof result === 'string' ? result : JSON.stringify(result, null, 2)
    show(values, io, { kid, header, plaintext: result }, shown)
  } finally {
    wipe(plaintext)
  }
  return 0
}

/** A compact JWE, or D1's message around it. */
function jweOf(given: string): string {
  const trimmed = given.trim()
  return trimmed.startsWith('{') ? sealedIn(trimmed) : trimmed
}

/** To seal takes no key of ours, so no token either. */
const seal: Verb = {
  options: optionsOf('recipient', 'kid', 'json'),
  input: true,
  run: async (values, file, io) => {
    const recipient = readJson(
      await readInput(need(values, 'recipient'), io),
      'the recipient',
    ) as PublicJwkLike
    if (Object.hasOwn(recipient, 'd'))
      throw new UsageError('the recipient is a private key: give its public half')
    const kid = text(values, 'kid') ?? recipient.kid
    if (typeof kid !== 'string') throw new UsageError('--kid is missing, and the recipient has none')
    const plaintext = await readInputBytes(file, io)
    try {
      const jwe = await sealJwe({ plaintext, recipient, kid })
      show(values, io, { jwe, kid }, jwe)
    } finally {
      wipe(plaintext)
    }
    return 0
  },
}

/** `issuer-pin-crypto jwe`. */
export function jweCommand(opening: Opening = OPENING): Command {
  const help = `usage: issuer-pin-crypto jwe seal --recipient JWK [--kid KID] [FILE]
       issuer-pin-crypto jwe open --key KID [--reveal] [FILE]

  seal      to a public P-256 key (JWK file): a JWE as D1 takes it
  open      a JWE, or D1's message around it, with a key of ours; of its content
            names and lengths are shown, and with --reveal all of it

The input is a file, or standard input where there is none.`
  return commandOfVerbs(
    { name: 'jwe', summary: 'seal and open JWEs', help: `${help}\n\n${SOURCE_HELP}` },
    { seal, open: onKeys(opening, open, { needs: ['key'], options: ['reveal'] }) },
  )
}
