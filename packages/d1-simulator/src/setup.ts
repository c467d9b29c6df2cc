/** What a configuration names, read from its files and checked: everything the simulator works with. */
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type CardConfig, DEFAULT_TIMEOUTS, type SharedKeyConfig, type SimulatorConfig } from './config.js'
import { readConfig } from './config-reader.js'
import type { P256Jwk } from './jwe.js'
import { type GivenMembers, withMembers } from './members.js'
import { ConfigError } from './problems.js'
import { type Profile, readProfile } from './profile.js'
import { parseJson } from './reader.js'
import type { NamedKey } from './seccos.js'

export interface Setup {
  readonly url: string
  readonly tokenUrl: string | undefined
  readonly issuerId: string
  readonly client: { readonly id: string; readonly secret: string } | undefined
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string }
  readonly issuerJwk: P256Jwk
  readonly d1Jwk: P256Jwk
  readonly zpk: NamedKey
  readonly seccos:
    | {
        readonly mac: NamedKey
        readonly prw: NamedKey
        /** Or why the simulator cannot compute by it. */
        readonly profile: Profile | string
      }
    | undefined
  readonly other:
    | { readonly tls: { readonly cert: string; readonly key: string }; readonly token?: string }
    | undefined
  readonly expired: {
    readonly token?: string
    readonly counter?: { readonly cardId: string; readonly pcc: string; readonly intdatag: string }
  }
  readonly cards: readonly CardConfig[]
  readonly timeouts: { readonly requestMs: number; readonly slowBodyMs: number }
}

/** Files that hold no secret may be read by others. */
type Secrecy = 'secret' | 'public'

/** Where a configuration comes from: a file, members from the command line, or both. */
export interface ConfigSource {
  /** The file; absent where `members` say all. */
  readonly config?: string | undefined
  /** In place of the file's members, or besides them. */
  readonly members?: GivenMembers
}

/**
 * Reads a configuration and all that it names. `warn` hears of secret files that others may read.
 *
 * Errors: `ERR_CONFIG` (a file that cannot be read or does not hold what it should; by name, never by content).
 */
export function loadSetup({ config: path, members = {} }: ConfigSource, warn: (text: string) => void): Setup {
  const read = reader(path === undefined ? '' : dirname(path), warn)
  const readJson = (file: string): unknown => parseJson(read(file, 'secret'), file)
  const document = path === undefined ? {} : parseJson(read(resolve(path), 'secret'), 'the configuration')
  const config = readConfig(withMembers(document, members, readJson))
  const { tls, client, seccos, other, expired = {} } = config
  const d1Jwk = readJwk(read(config.d1JwkFile, 'secret'), config.d1JwkFile, 'private')
  return {
    url: config.url,
    tokenUrl: config.tokenUrl,
    issuerId: config.issuerId,
    client: client && { id: client.id, secret: read(client.secretFile, 'secret').trimEnd() },
    tls: readTls(tls, read),
    issuerJwk: readJwk(read(config.issuerJwkFile, 'public'), config.issuerJwkFile, 'public'),
    d1Jwk,
    zpk: readKey(config.zpk, [16, 24], read),
    seccos: seccos && readSeccos(seccos, read),
    other: other && {
      tls: readPair(other, read),
      ...(other.tokenFile !== undefined && { token: read(other.tokenFile, 'secret').trim() }),
    },
    expired: {
      ...(expired.tokenFile !== undefined && { token: read(expired.tokenFile, 'secret').trim() }),
      ...(expired.counter && { counter: expired.counter }),
    },
    cards: config.cards,
    timeouts: { ...DEFAULT_TIMEOUTS, ...config.timeouts },
  }
}

type Read = (file: string, secrecy: Secrecy) => string

function reader(folder: string, warn: (text: string) => void): Read {
  return (file, secrecy) => {
    const { bytes, readByOthers } = readFile(resolve(folder, file), file)
    if (secrecy === 'secret' && readByOthers) warn(`${file} can be read by others than its owner: chmod 600`)
    return bytes.toString('utf8')
  }
}

/** Nothing that a configuration names is longer: 1 MiB. */
const MAX_BYTES = 1_048_576

/** A whole regular file: a folder, a device or a pipe may give without end, or wait for ever. */
function readFile(path: string, name: string): { readonly bytes: Buffer; readonly readByOthers: boolean } {
  const refuse = (problem: string): never => {
    throw new ConfigError(`${name} ${problem}`)
  }
  let file = -1
  try {
    // Without O_NONBLOCK, a pipe that nobody writes to would not even open.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    // Of what is open, not of the path: it may name another thing by now.
    const stat = fstatSync(file)
    if (!stat.isFile()) return refuse('is not a regular file')
    if (stat.size > MAX_BYTES) return refuse(`is longer than ${MAX_BYTES} bytes`)
    return { bytes: readFileSync(file), readByOthers: (stat.mode & 0o077) !== 0 }
  } catch (error) {
    if (error instanceof ConfigError) throw error
    return refuse(`cannot be read: ${String((error as NodeJS.ErrnoException).code)}`)
  } finally {
    if (file >= 0) closeSync(file)
  }
}

function readTls(tls: SimulatorConfig['tls'], read: Read): Setup['tls'] {
  const pair = readPair(tls, read)
  const ca = read(tls.ca, 'public')
  attempt(`${tls.ca} is not a PEM certificate`, () => new X509Certificate(ca))
  return { ...pair, ca }
}

function readPair(tls: { readonly cert: string; readonly key: string }, read: Read) {
  const cert = read(tls.cert, 'public')
  const key = read(tls.key, 'secret')
  const certificate = attempt(`${tls.cert} is not a PEM certificate`, () => new X509Certificate(cert))
  const privateKey = attempt(`${tls.key} is not a PEM private key`, () => createPrivateKey(key))
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new ConfigError(`${tls.key} is not the key of ${tls.cert}`)
  }
  return { cert, key }
}

function readJwk(text: string, file: string, kind: 'private' | 'public'): P256Jwk {
  const jwk = parseJson(text, file)
  const { kty, crv, x, y, d, kid } = (jwk ?? {}) as Record<string, unknown>
  const unfit = `${file} is not a ${kind} P-256 JWK with a kid`
  if (typeof kid !== 'string' || kid === '' || (kind === 'public') !== (d === undefined)) {
    throw new ConfigError(unfit)
  }
  const key = attempt(unfit, (): KeyObject => {
    const input = { format: 'jwk', key: { kty, crv, x, y, ...(d !== undefined && { d }) } } as never
    return kind === 'private' ? createPrivateKey(input) : createPublicKey(input)
  })
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new ConfigError(unfit)
  return { ...key.export({ format: 'jwk' }), kid } as P256Jwk
}

function readKey({ kid, file }: SharedKeyConfig, lengths: readonly number[], read: Read): NamedKey {
  const hex = read(file, 'secret').trim()
  const key = Buffer.from(hex, 'hex')
  if (2 * key.length !== hex.length || !lengths.includes(key.length)) {
    throw new ConfigError(`${file} is not a key of ${lengths.join(' or ')} bytes in hex`)
  }
  return { kid, key }
}

function readSeccos(
  { profileFile, mac, prw }: NonNullable<SimulatorConfig['seccos']>,
  read: Read,
): NonNullable<Setup['seccos']> {
  const json = parseJson(read(profileFile, 'public'), profileFile)
  return {
    mac: readKey(mac, [16, 24, 32], read),
    prw: readKey(prw, [16, 24, 32], read),
    profile: understood(json),
  }
}

/** A profile that is sound but beyond what is computed here is no error: it is a reason not to run some cases. */
function understood(json: unknown): Profile | string {
  try {
    return readProfile(json)
  } catch (error) {
    return `the simulator cannot compute by this profile: ${(error as ConfigError).message}`
  }
}

function attempt<T>(problem: string, work: () => T): T {
  try {
    return work()
  } catch {
    throw new ConfigError(problem)
  }
}
