/**
 * Where a command's keys come from: a token, opened with every option of `pkcs11Backend`; a group of tokens that hold the same keys; or
 * a file of test keys.
 */
import type { Backend } from '../backend/backend.js'
import { wipe } from '../base/bytes.js'
import {
  type KeyStore,
  type KeyStoreOptions,
  openKeyStore,
  type Pkcs11GroupOptions,
  type Pkcs11Options,
  pkcs11Backend,
  pkcs11Group,
} from '../pkcs11.js'
import { type SoftwareKey, softwareBackend } from '../software.js'
import { type ExitCode, type Io, readJson, readRegularFile, requireOption, UsageError } from './command.js'
import { readSecret, secretOf } from './secret.js'
import {
  dateIn,
  FLAG,
  LIST,
  numberOf,
  type OptionTable,
  refuse,
  secretOptions,
  TEXT,
  text,
  type Values,
} from './verbs.js'

/** How an option's value is read: as it is, as a whole number in bounds, as yes or no, or as one of several. */
type Reading = 'text' | 'yes' | 'no' | 'list' | readonly [min: number, max: number]

const MS: Reading = [0, 86_400_000]

/** The options of `pkcs11Backend` that a command line says by a name of their own, and where each belongs. */
const SETTINGS: Readonly<Record<string, readonly [reading: Reading, ...place: string[]]>> = {
  binding: ['text', 'binding'],
  login: ['text', 'login'],
  'user-type': [[1, 0xffff_ffff], 'userType'],
  'allow-final-try': ['yes', 'allowFinalTry'],
  'init-parameters': ['text', 'initParameters'],
  'read-write': ['yes', 'sessions', 'readWrite'],
  sessions: [[1, 4096], 'sessions', 'max'],
  queue: [[0, 1_000_000], 'sessions', 'queue'],
  'wait-ms': [MS, 'sessions', 'waitMs'],
  executor: ['text', 'executor'],
  spare: ['yes', 'spare'],
  'call-ms': [MS, 'timeouts', 'callMs'],
  'open-ms': [MS, 'timeouts', 'openMs'],
  'close-ms': [MS, 'timeouts', 'closeMs'],
  'no-coalesce': ['no', 'coalesce'],
  'keep-alive-ms': [MS, 'keepAliveMs'],
  'no-reinitialise': ['no', 'recovery', 'reinitialise'],
  vendor: ['text', 'vendor'],
  'retail-mac': ['text', 'retailMac'],
  probe: ['text', 'probe'],
  'composed-mac': ['yes', 'composedMac'],
  'translate-in-token': ['yes', 'translateInToken'],
  'translation-keys-may-decipher': ['yes', 'translationKeysMayDecipher'],
  'extract-shared-secret': ['yes', 'extractSharedSecret'],
  'derive-keys': ['text', 'deriveKeys'],
  accept: ['list', 'accept'],
  locate: ['list', 'keys'],
}

/** Options that name a token and how it is opened: those of `pkcs11Backend`, in the manner of a command line. */
export const TOKEN_OPTIONS: OptionTable = {
  module: TEXT,
  token: TEXT,
  options: TEXT,
  group: TEXT,
  json: FLAG,
  ...secretOptions('pin'),
  ...Object.fromEntries(
    Object.entries(SETTINGS).map(([name, [reading]]) => [
      name,
      reading === 'list' ? LIST : reading === 'yes' || reading === 'no' ? FLAG : TEXT,
    ]),
  ),
}

/** Options that only a token has a use for: whoever gives one of them means a token. */
export const OF_A_TOKEN: readonly string[] = Object.keys(TOKEN_OPTIONS).filter(name => name !== 'json')

/** Options of a command that works on keys wherever they are. */
export const SOURCE_OPTIONS: OptionTable = { ...TOKEN_OPTIONS, keys: LIST }

/** The lines of `--help` about a token. */
export const TOKEN_HELP: string = `The token:
  --module, --token        path of the PKCS#11 library; label or pkcs11: URI
  --pin-env, --pin-fd      where the user PIN is; without them it is asked for
  --options FILE           any option of pkcs11Backend, as JSON, no PIN in it
  --group FILE             several tokens that hold the same keys, as JSON:
                           { "members": [{ "module", "token", "pinEnv"?, … }] }
  --locate KID=OBJECT      a key whose label is not its kid: label or pkcs11: URI
${namesIn(Object.keys(SETTINGS).filter(name => name !== 'locate'))}
                           the options of pkcs11Backend by these names
  --json                   the result as JSON`

/** The lines of `--help` about keys wherever they are. */
export const SOURCE_HELP: string = `Keys are in a token, or in files of TEST keys:
  --keys FILE              [{ "kid", "usage", "mode"?, "algorithm", "material",
                           "validFrom"?, "validTo"? }]; may be there several times

${TOKEN_HELP}`

/** Names of options in lines of at most 80 characters. */
function namesIn(names: readonly string[]): string {
  const lines = ['']
  for (const name of names) {
    const line = `${lines.at(-1)}${lines.at(-1) === '' ? '  ' : ', '}--${name}`
    if (line.length < 79) lines[lines.length - 1] = line
    else lines.push(`  --${name}`)
  }
  return lines.join(',\n')
}

/** How a command opens things; what a test has in its place. */
export interface Opening {
  readonly backend: (options: Pkcs11Options) => Promise<Backend>
  readonly group: (options: Pkcs11GroupOptions) => Promise<Backend>
  readonly store: (options: KeyStoreOptions) => Promise<KeyStore>
}

/** The real ones. */
export const OPENING: Opening = { backend: pkcs11Backend, group: pkcs11Group, store: openKeyStore }

/** By command line: its PIN is asked for once. */
const READ = new WeakMap<Values, Promise<Pkcs11Options>>()

/** The options of `pkcs11Backend` that a command line and its options file say. Errors: `ERR_USAGE`. */
export function tokenOptions(values: Values, io: Io): Promise<Pkcs11Options> {
  const known = READ.get(values)
  if (known !== undefined) return known
  const read = readTokenOptions(values, io)
  READ.set(values, read)
  return read
}

async function readTokenOptions(values: Values, io: Io): Promise<Pkcs11Options> {
  if (values['group'] !== undefined)
    throw new UsageError('keys are made and listed in one token: --module and --token, not --group')
  const path = text(values, 'options')
  const file = path === undefined ? {} : withoutPin(readOptionsFile(path, '--options'), 'the options file')
  const given: Record<string, unknown> = { ...file, ...settingsOf(values, file) }
  const module = requireOption(text(values, 'module') ?? asText(given['module']), 'module')
  const token = text(values, 'token') ?? given['token']
  if (token === undefined || token === '') throw new UsageError('--token is missing')
  return withPin({ ...given, module, token }, values, io, 'token PIN')
}

/** What the command line says, each in its place; what an object of the file says besides stays. */
function settingsOf(values: Values, file: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const given: Record<string, unknown> = {}
  for (const [option, [reading, name = '', inner]] of Object.entries(SETTINGS)) {
    if (values[option] === undefined) continue
    const value = settingOf(values, option, reading)
    if (inner === undefined && name !== 'keys') given[name] = value
    else
      given[name] = {
        ...Object(given[name] ?? file[name]),
        ...(inner === undefined ? Object(value) : { [inner]: value }),
      }
  }
  return given
}

function settingOf(values: Values, option: string, reading: Reading): unknown {
  if (option === 'locate') return locationsOf(values[option])
  if (typeof reading === 'object') return numberOf(values, option, reading)
  return reading === 'no' ? false : values[option]
}

function locationsOf(given: Values[string]): Record<string, unknown> {
  const pairs = [given].flat().map(each => {
    const one = String(each)
    const at = one.indexOf('=')
    const place = one.slice(at + 1)
    if (at < 1 || place === '') throw new UsageError('--locate takes KID=LABEL, or KID=pkcs11:…')
    return [one.slice(0, at), place.startsWith('pkcs11:') ? place : { label: place }]
  })
  return Object.fromEntries(pairs)
}

async function withPin(
  options: Record<string, unknown>,
  values: Values,
  io: Io,
  question: string,
): Promise<Pkcs11Options> {
  if (options['login'] === 'never') return options as unknown as Pkcs11Options
  const pin = await readSecret('pin', question, values, io)
  return { ...options, pin: () => pin } as unknown as Pkcs11Options
}

/** The options of `pkcs11Group` in a file, each member with its PIN. Errors: `ERR_USAGE`. */
export async function groupOptions(values: Values, io: Io): Promise<Pkcs11GroupOptions> {
  const { members, ...rest } = readOptionsFile(requireOption(text(values, 'group'), 'group'), '--group')
  if (!Array.isArray(members) || !members.every(one => typeof one === 'object' && one !== null))
    throw new UsageError('the group file has no list of members')
  const opened: Pkcs11Options[] = []
  // One variable or descriptor gives its secret once, and that is for all who have none of their own.
  const isShared = (values['pin-env'] ?? values['pin-fd']) !== undefined
  let shared: Pkcs11Options['pin']
  for (const [i, given] of members.entries()) {
    const { pinEnv, ...member } = withoutPin(given as Record<string, unknown>, 'the group file')
    const options = { ...member, ...settingsOf(values, member) }
    if (pinEnv !== undefined) {
      const pin = secretOf(io, String(pinEnv), `pinEnv of member ${i + 1}`)
      opened.push({ ...options, pin: () => pin } as unknown as Pkcs11Options)
    } else if (shared !== undefined && Reflect.get(options, 'login') !== 'never') {
      opened.push({ ...options, pin: shared } as unknown as Pkcs11Options)
    } else {
      const member = await withPin(options, values, io, `PIN of token ${i + 1}`)
      if (isShared) shared ??= member.pin
      opened.push(member)
    }
  }
  return { ...rest, members: opened } as Pkcs11GroupOptions
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function readOptionsFile(path: string, option: string): Record<string, unknown> {
  return readJson(readOwn(path, option).bytes.toString('utf8'), `the file of ${option}`)
}

function withoutPin(given: Record<string, unknown>, what: string): Record<string, unknown> {
  if ('pin' in given)
    throw new UsageError(`${what} has a pin: it belongs to --pin-env, --pin-fd or the prompt`)
  return given
}

function readOwn(path: string, name: string): ReturnType<typeof readRegularFile> {
  try {
    return readRegularFile(path, name)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Opens where the keys are, hands it over, and closes it. */
export async function withBackend(
  values: Values,
  io: Io,
  opening: Opening,
  use: (backend: Backend) => Promise<ExitCode>,
): Promise<ExitCode> {
  requireOnePlace(values)
  await using backend =
    values['keys'] !== undefined
      ? await softwareBackend({ keys: testKeys(values, io) })
      : values['group'] !== undefined
        ? await opening.group(await groupOptions(values, io))
        : await opening.backend(await tokenOptions(values, io))
  return await use(backend)
}

/** `ERR_USAGE` where a command line names two places of keys, or says of a file of test keys what is for a token. */
export function requireOnePlace(values: Values): void {
  const isGiven = (name: string): boolean => values[name] !== undefined
  const token = ['module', 'token', 'options'].find(isGiven)
  const places = ['keys', 'group', token].filter(name => name !== undefined && isGiven(name))
  if (places.length > 1)
    throw new UsageError(`${places.map(name => `--${name}`).join(' and ')} are two places: name one`)
  if (isGiven('keys')) refuse(values, OF_A_TOKEN, 'is for a token, and --keys names TEST keys')
}

/** True where a command line says anything of a token or a group of them, were it only a part of what opens one. */
export function namesToken(values: Values): boolean {
  return OF_A_TOKEN.some(name => values[name] !== undefined)
}

/** The test keys of all files that a command line names. */
export function testKeys(values: Values, io: Io): readonly SoftwareKey[] {
  const { keys } = values
  return (Array.isArray(keys) ? keys : []).flatMap((path: string) => testKeysIn(path, io))
}

function testKeysIn(path: string, io: Io): readonly SoftwareKey[] {
  const { bytes, readByOthers } = readOwn(path, '--keys')
  if (readByOthers) io.err('warning: the file of test keys can be read by others: chmod 600')
  const content = bytes.toString('utf8')
  wipe(bytes)
  let keys: unknown
  try {
    keys = JSON.parse(content)
  } catch {
    throw new UsageError('--keys: the file is not JSON')
  }
  if (!Array.isArray(keys) || !keys.every(key => typeof key === 'object' && key !== null))
    throw new UsageError('--keys: the file is not a list of keys')
  return keys.map(key => ({ ...key, ...datesOf(key) }))
}

/** JSON has no dates: a period of a test key is ISO 8601, a day or a moment of UTC. */
function datesOf(key: Readonly<Record<string, unknown>>): { validFrom?: Date; validTo?: Date } {
  const dates = ['validFrom', 'validTo'].flatMap(name => {
    if (key[name] === undefined) return []
    const date = dateIn(key[name])
    if (date === undefined)
      throw new UsageError(`--keys: ${name} must be a date: YYYY-MM-DD, or with a time in Z`)
    return [[name, date]]
  })
  return Object.fromEntries(dates)
}

/** Opens the token for key management, hands it over, and closes it. */
export async function withStore(
  values: Values,
  io: Io,
  opening: Opening,
  use: (store: KeyStore, options: Pkcs11Options) => Promise<ExitCode>,
): Promise<ExitCode> {
  const options = await tokenOptions(values, io)
  const importClearKeys = values['import-clear-keys'] === true
  await using store = await opening.store({ ...options, ...(importClearKeys && { importClearKeys }) })
  return await use(store, options)
}
