/**
 * Where a command's keys come from: a token, opened with every option of `pkcs11Backend`, or a file of test keys. And how a secret
 * comes in: typed without echo, from a file descriptor or from a variable of the environment; never as an argument.
 */
import { readSync } from 'node:fs'
import type { Backend } from '../backend/backend.js'
import { bufferOf, secretBytes, wipe } from '../base/bytes.js'
import type { KeyMode, KeyUsage } from '../index.js'
import {
  type KeyStore,
  type KeyStoreOptions,
  openKeyStore,
  type Pkcs11Options,
  pkcs11Backend,
} from '../pkcs11.js'
import { type SoftwareKey, softwareBackend } from '../software.js'
import {
  type ExitCode,
  type Io,
  readJson,
  readRegularFile,
  requireOption,
  takeSecret,
  UsageError,
} from './command.js'

/** What was read of a command line. */
export type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>

/** How options are declared, as `parseArgs` takes them. */
export type OptionTable = Readonly<
  Record<string, { readonly type: 'string' | 'boolean'; readonly multiple?: boolean }>
>

/** An option with a value, and one without. */
export const TEXT: OptionTable[string] = { type: 'string' }
export const FLAG: OptionTable[string] = { type: 'boolean' }

/** Options that name a token and how it is opened: those of `pkcs11Backend`, in the manner of a command line. */
export const TOKEN_OPTIONS: OptionTable = {
  module: TEXT,
  token: TEXT,
  'pin-env': TEXT,
  'pin-fd': TEXT,
  options: TEXT,
  binding: TEXT,
  'user-type': TEXT,
  login: TEXT,
  'read-write': FLAG,
  'init-parameters': TEXT,
  executor: TEXT,
  vendor: TEXT,
  'retail-mac': TEXT,
  'composed-mac': FLAG,
  'translate-in-token': FLAG,
  'translation-keys-may-decipher': FLAG,
  'extract-shared-secret': FLAG,
  accept: { type: 'string', multiple: true },
}

/** Options of a command that works on keys wherever they are. */
export const SOURCE_OPTIONS: OptionTable = { ...TOKEN_OPTIONS, keys: TEXT, json: FLAG }

/** The lines of `--help` about them. */
export const SOURCE_HELP = `Keys are in a token, or in a file of TEST keys:
  --module, --token        path of the PKCS#11 library; label or pkcs11: URI
  --pin-env, --pin-fd      where the user PIN is; without them it is asked for
  --options FILE           any option of pkcs11Backend, as JSON, no PIN in it
  --binding, --login, --user-type, --read-write, --init-parameters,
  --executor, --vendor, --retail-mac, --composed-mac, --translate-in-token,
  --translation-keys-may-decipher, --extract-shared-secret, --accept NAME
                           the options of pkcs11Backend by these names
  --keys FILE              [{ "kid", "usage", "mode"?, "algorithm", "material" }]
  --json                   the result as JSON`

/** A text value; undefined where it is not there. */
export function text(values: Values, name: string): string | undefined {
  const { [name]: value } = values
  return typeof value === 'string' ? value : undefined
}

/** A text value that must be there. */
export function need(values: Values, name: string): string {
  return requireOption(text(values, name), name)
}

/** One of several words; `ERR_USAGE` names them. */
export function oneOf<T extends string>(values: Values, name: string, words: readonly T[]): T {
  const given = need(values, name)
  const found = words.find(word => word === given)
  if (found === undefined) throw new UsageError(`--${name} must be one of ${words.join(', ')}`)
  return found
}

/** A whole number in its bounds. */
export function numberOf(values: Values, name: string, [min, max]: readonly [number, number]): number {
  const given = Number(need(values, name))
  if (!Number.isInteger(given) || given < min || given > max)
    throw new UsageError(`--${name} must be a whole number from ${min} to ${max}`)
  return given
}

/** A date, `YYYY-MM-DD`, or with an hour. */
export function dateOf(values: Values, name: string): Date | undefined {
  const given = text(values, name)
  if (given === undefined) return undefined
  const date = new Date(given)
  if (!/^\d{4}-\d{2}-\d{2}(?:T\d{2}:00Z)?$/.test(given) || Number.isNaN(date.getTime()))
    throw new UsageError(`--${name} must be a date: YYYY-MM-DD, or YYYY-MM-DDTHH:00Z`)
  return date
}

const MAX_SECRET = 4096

/** Options for a secret of this name. */
export function secretOptions(name: string): OptionTable {
  return { [`${name}-env`]: TEXT, [`${name}-fd`]: TEXT }
}

/** A secret: from a descriptor, a variable, or the terminal. Errors: `ERR_USAGE`, which shows nothing of it. */
export async function readSecret(name: string, question: string, values: Values, io: Io): Promise<string> {
  const descriptor = text(values, `${name}-fd`)
  if (descriptor !== undefined) return readDescriptor(name, descriptor)
  const variable = text(values, `${name}-env`)
  if (variable !== undefined) {
    const secret = takeSecret(io, variable)
    if (secret === undefined || secret === '')
      throw new UsageError(`--${name}-env: there is no such variable in the environment`)
    return secret
  }
  const typed = await io.askSecret(`${question}: `)
  if (typed === undefined || typed === '')
    throw new UsageError(`there is no terminal to ask for the ${name}: use --${name}-fd or --${name}-env`)
  return typed
}

function readDescriptor(name: string, descriptor: string): string {
  if (!/^\d{1,4}$/.test(descriptor)) throw new UsageError(`--${name}-fd must be the number of an open file`)
  const bytes = bufferOf(secretBytes(MAX_SECRET))
  try {
    let length = 0
    for (;;) {
      const read = readSync(Number(descriptor), bytes, length, MAX_SECRET - length, null)
      length += read
      if (read === 0 || length === MAX_SECRET) break
    }
    const secret = bytes.toString('utf8', 0, length).replace(/\r?\n$/, '')
    if (secret === '' || length === MAX_SECRET)
      throw new UsageError(`--${name}-fd gives no secret, or too much`)
    return secret
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(`--${name}-fd cannot be read`)
  } finally {
    wipe(bytes)
  }
}

/** How a command opens things; what a test has in its place. */
export interface Opening {
  readonly backend: (options: Pkcs11Options) => Promise<Backend>
  readonly store: (options: KeyStoreOptions) => Promise<KeyStore>
}

/** The real ones. */
export const OPENING: Opening = { backend: pkcs11Backend, store: openKeyStore }

const NAMED: Readonly<Record<string, string>> = {
  binding: 'binding',
  login: 'login',
  'init-parameters': 'initParameters',
  executor: 'executor',
  vendor: 'vendor',
  'retail-mac': 'retailMac',
  'composed-mac': 'composedMac',
  'translate-in-token': 'translateInToken',
  'translation-keys-may-decipher': 'translationKeysMayDecipher',
  'extract-shared-secret': 'extractSharedSecret',
  accept: 'accept',
}

/** By command line: its PIN is asked for once. */
const READ = new WeakMap<Values, Promise<Pkcs11Options>>()

/** The options of `pkcs11Backend` that a command line and its options file say. */
export function tokenOptions(values: Values, io: Io): Promise<Pkcs11Options> {
  const known = READ.get(values)
  if (known !== undefined) return known
  const read = readTokenOptions(values, io)
  READ.set(values, read)
  return read
}

async function readTokenOptions(values: Values, io: Io): Promise<Pkcs11Options> {
  const path = text(values, 'options')
  const file =
    path === undefined ? {} : readJson(readOwn(path, '--options').toString('utf8'), 'the options file')
  if ('pin' in file)
    throw new UsageError('the options file has a pin: it belongs to --pin-env, --pin-fd or the prompt')
  const given: Record<string, unknown> = { ...file }
  for (const [option, name] of Object.entries(NAMED))
    if (values[option] !== undefined) given[name] = values[option]
  if (values['user-type'] !== undefined) given['userType'] = numberOf(values, 'user-type', [0, 0xffff_ffff])
  if (values['read-write'] === true) given['sessions'] = { ...Object(given['sessions']), readWrite: true }
  const module = requireOption(text(values, 'module') ?? asText(given['module']), 'module')
  const token = text(values, 'token') ?? given['token']
  if (token === undefined || token === '') throw new UsageError('--token is missing')
  if (given['login'] === 'never') return { ...given, module, token } as unknown as Pkcs11Options
  const pin = await readSecret('pin', 'token PIN', values, io)
  return { ...given, module, token, pin: () => pin } as unknown as Pkcs11Options
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function readOwn(path: string, name: string): Buffer {
  try {
    return readRegularFile(path, name).bytes
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
  const path = text(values, 'keys')
  if (path !== undefined && (values['module'] ?? values['options']) !== undefined)
    throw new UsageError('--keys and --module are two places: name one')
  await using backend =
    path === undefined
      ? await opening.backend(await tokenOptions(values, io))
      : await softwareBackend({ keys: testKeys(path, io) })
  return await use(backend)
}

/** Test keys of a file. */
export function testKeys(path: string, io: Io): readonly SoftwareKey[] {
  const { bytes, readByOthers } = readKeysFile(path)
  if (readByOthers) io.err('the file of test keys can be read by others: chmod 600')
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
  return keys as readonly SoftwareKey[]
}

function readKeysFile(path: string): ReturnType<typeof readRegularFile> {
  try {
    return readRegularFile(path, '--keys')
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Opens the token for key management, hands it over, and closes it. */
export async function withStore(
  values: Values,
  io: Io,
  opening: Opening,
  use: (store: KeyStore, options: Pkcs11Options) => Promise<ExitCode>,
  more: { readonly importClearKeys?: boolean } = {},
): Promise<ExitCode> {
  const options = await tokenOptions(values, io)
  await using store = await opening.store({ ...options, ...more })
  return await use(store, options)
}

/** What `--usage` and `--mode` say; the library judges them. */
export function useOf(values: Values): { usage: KeyUsage; mode?: KeyMode } {
  const mode = text(values, 'mode')
  return {
    usage: need(values, 'usage') as KeyUsage,
    ...(mode !== undefined && { mode: mode as KeyMode }),
  }
}
