/** The command line of `serve`, read and checked: what is wrong with it is one line, and exit status 2. */
import { parseArgs } from 'node:util'

/** Where the keys are. A token of your own, or (without `module`) a SoftHSM token in the folder. */
export type BackendOptions =
  | { readonly kind: 'software' }
  | { readonly kind: 'pkcs11'; readonly own?: OwnToken; readonly pinEnv?: string }

export interface OwnToken {
  readonly module: string
  /** Label or `pkcs11:` URI. */
  readonly token: string
  /** The environment variable that holds the user PIN: a command line can be read by everybody on the machine. */
  readonly pinEnv: string
  readonly composedMac?: boolean
}

/** Where cards, PINs and counters are. */
export type StoreOptions =
  | { readonly kind: 'memory' }
  | { readonly kind: 'sqlite' }
  | { readonly kind: 'postgres'; readonly url: string }

/** Where D1 is answered: with TLS on a port, or without on a Unix socket, behind the nginx that D1 reaches at `url`. */
export type Place =
  | { readonly host: string; readonly port: number }
  | { readonly socket: string; readonly url: string }

export interface ServeOptions {
  readonly dir: string
  readonly backend: BackendOptions
  readonly store: StoreOptions
  readonly place: Place
  /** A file for audit lines; undefined: `audit.log` in the folder; `-`: standard output. */
  readonly audit: string | undefined
  /** Where /livez and /readyz are: a port of this machine, D1's own port, or nowhere. */
  readonly health: number | 'd1-port' | undefined
  /** One of several processes on one folder: it takes no lock. */
  readonly replica: boolean
  /** Test cards beyond the fixed ones, for load. */
  readonly extraCards: number
  /** The folder of `issuer-pin-crypto onboard`: issuer, JWE key and token are then the ones in it. */
  readonly onboarding: string | undefined
}

export const USAGE = `npm run serve -- [options]          an issuer for D1, with test keys and test cards

  --dir ./run                         everything it keeps; made at the first start
  --backend software | pkcs11         pkcs11: without --module, a SoftHSM token in --dir
  --module FILE --token LABEL --pin-env NAME [--composed-mac]
                                      a token of your own; missing keys are made in it
  --store sqlite | postgres | memory  sqlite: a file in --dir; memory: gone when it stops, needs no driver
  --postgres URL                      postgres://user@host/database (password: PGPASSWORD)
  --host 127.0.0.1 --port 8443        port 0: a free one
  --socket FILE --url https://localhost
                                      in place of a port: a Unix socket for nginx, which ends TLS and states the client
                                      certificate; whoever has the group of the file can connect. URL: nginx's own
  --audit FILE | -                    audit lines go there; without it to audit.log in --dir; -: standard output
  --health PORT | d1-port             /livez and /readyz on a port of 127.0.0.1, or on D1's; nowhere without it
  --replica                           one of several on the same --dir: the folder is not locked
  --extra-cards 0                     more test cards, for load
  --onboarding FOLDER                 the issuer that issuer-pin-crypto onboard has made there: its id and its JWE
                                      key; with --backend pkcs11 --pin-env NAME also the token that the key is in`

/** A command line that cannot be served. */
export class UsageError extends Error {}

const OPTIONS = {
  dir: { type: 'string', default: './run' },
  backend: { type: 'string', default: 'software' },
  module: { type: 'string' },
  token: { type: 'string' },
  'pin-env': { type: 'string' },
  'composed-mac': { type: 'boolean' },
  store: { type: 'string', default: 'sqlite' },
  postgres: { type: 'string' },
  host: { type: 'string' },
  port: { type: 'string' },
  socket: { type: 'string' },
  url: { type: 'string' },
  audit: { type: 'string' },
  health: { type: 'string' },
  replica: { type: 'boolean' },
  'extra-cards': { type: 'string', default: '0' },
  onboarding: { type: 'string' },
  help: { type: 'boolean' },
} as const

type Values = ReturnType<typeof parsed>

/** The options; undefined where only help was asked for. Throws {@link UsageError}. */
export function readOptions(args: readonly string[], env: NodeJS.ProcessEnv): ServeOptions | undefined {
  const values = parsed(args)
  if (values.help === true) return undefined
  if (values.dir === '') throw new UsageError('--dir must name a folder')
  if (values.replica === true && values.store === 'memory') {
    throw new UsageError('--replica needs a store that others see: sqlite or postgres')
  }
  return {
    dir: values.dir,
    backend: backendOf(values, env),
    store: storeOf(values),
    place: placeOf(values),
    audit: values.audit,
    health: healthOf(values.health),
    replica: values.replica === true,
    extraCards: wholeNumber('extra-cards', values['extra-cards'], 9000),
    onboarding: values.onboarding,
  }
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, strict: true, allowPositionals: false }).values
  } catch (error) {
    // What stands alone may be a password or a PIN in the wrong place: it is not repeated.
    if (Reflect.get(Object(error), 'code') === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') {
      throw new UsageError('serve takes options, and nothing besides; --help lists them')
    }
    // Node's own words name the option; the first line of them is enough.
    const [line = ''] = (error instanceof Error ? error.message : '').split('\n')
    throw new UsageError(`${line}; --help lists what there is`)
  }
}

function backendOf(values: Values, env: NodeJS.ProcessEnv): BackendOptions {
  const { backend, module, token, 'pin-env': pinEnv, 'composed-mac': composedMac = false } = values
  const own = module ?? token ?? pinEnv
  if (backend === 'software') {
    if (own !== undefined || composedMac) {
      throw new UsageError('--module, --token, --pin-env and --composed-mac need --backend pkcs11')
    }
    return { kind: 'software' }
  }
  if (backend !== 'pkcs11') throw new UsageError('--backend must be software or pkcs11')
  if (values.onboarding !== undefined) {
    if (module !== undefined || token !== undefined || composedMac)
      throw new UsageError(
        '--onboarding names the token: --module, --token and --composed-mac do not go with it',
      )
    return { kind: 'pkcs11', pinEnv: pinEnvOf(pinEnv, env) }
  }
  if (own === undefined) {
    if (composedMac) throw new UsageError('--composed-mac is for a token of your own (--module)')
    return { kind: 'pkcs11' }
  }
  if (!module || !token || !pinEnv) throw new UsageError('--module, --token and --pin-env belong together')
  return { kind: 'pkcs11', own: { module, token, pinEnv: pinEnvOf(pinEnv, env), composedMac } }
}

function pinEnvOf(name: string | undefined, env: NodeJS.ProcessEnv): string {
  // The value is not repeated: it may be the PIN itself.
  if (!name || !env[name])
    throw new UsageError('--pin-env must name a variable of the environment, which holds the PIN')
  return name
}

function storeOf({ store, postgres }: Values): StoreOptions {
  if (store === 'sqlite' || store === 'memory') {
    if (postgres !== undefined) throw new UsageError('--postgres needs --store postgres')
    return { kind: store }
  }
  if (store !== 'postgres') throw new UsageError('--store must be sqlite, postgres or memory')
  if (postgres === undefined || !/^postgres(ql)?:\/\//.test(postgres)) {
    throw new UsageError('--store postgres needs --postgres postgres://user@host/database')
  }
  return { kind: 'postgres', url: postgres }
}

function placeOf({ host, port, socket, url }: Values): Place {
  if (socket === undefined) {
    if (url !== undefined) throw new UsageError('--url needs --socket')
    if (host === '') throw new UsageError('--host must name a host or an address')
    return { host: host ?? '127.0.0.1', port: wholeNumber('port', port ?? '8443', 65_535) }
  }
  // Of a longer path the system would take the first part.
  if (socket === '' || Buffer.byteLength(socket) > 107)
    throw new UsageError('--socket must name a file, in no more than 107 bytes')
  if (host !== undefined || port !== undefined)
    throw new UsageError('--socket is in place of --host and --port')
  if (url !== undefined && !/^https:\/\/[^/?#@]+$/.test(url))
    throw new UsageError('--url must be the origin of nginx, such as https://localhost')
  return { socket, url: url ?? 'https://localhost' }
}

function healthOf(text: string | undefined): ServeOptions['health'] {
  return text === undefined || text === 'd1-port' ? text : wholeNumber('health', text, 65_535, 'd1-port or ')
}

function wholeNumber(name: string, text: string, max: number, or = ''): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= max) return Number(text)
  throw new UsageError(`--${name} must be ${or}a whole number from 0 to ${max}`)
}
