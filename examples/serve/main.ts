/**
 * A complete issuer for D1, to try the library with and to copy from:
 *
 *     npm run serve -- --dir ./run
 *
 * Keys, certificates and cards are test values that it makes itself. What a service has in their place: certificates of
 * its CA and D1's, an HSM (`--backend pkcs11` is most of the way), PostgreSQL, its own cards, its scheme's SECCOS profile.
 *
 * Exit status: 0 after SIGTERM or SIGINT, 1 for what failed, 2 for a wrong command line.
 */
import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { openAuditLog } from './audit-log.js'
import { testCards } from './cards.js'
import { makeCertificates } from './certificates.js'
import { explained, sayingFaults } from './faults.js'
import { Folder } from './folder.js'
import { greeting } from './greeting.js'
import { openIssuer } from './issuer.js'
import { d1PublicJwk, makeKeys } from './keys.js'
import { identityFile, identityIn, type Onboarded, readOnboarded, TEST_ISSUER } from './onboarded.js'
import { type OwnToken, readOptions, type ServeOptions, USAGE, UsageError } from './options.js'
import { startServer } from './server.js'
import { writeSimulatorConfig } from './simulator.js'
import { openSoftwareKeys } from './software-keys.js'
import { makeSealKey, openStore } from './stores.js'
import { openTokenKeys, softHsmModule } from './token-keys.js'
import { CLIENT, makeTokenSecrets, openTokens } from './tokens.js'

async function serve(options: ServeOptions, stopped: Promise<unknown>): Promise<void> {
  const { backend: keys, store: storage, place } = options
  const onboarded = options.onboarding === undefined ? undefined : readOnboarded(options.onboarding)
  if (keys.kind === 'software' && onboarded?.token !== undefined)
    throw new UsageError('--onboarding names a token: it takes --backend pkcs11 and --pin-env')
  // Before the folder is made: it would remember the backend of a start that never was.
  const own = ownToken(options, onboarded)
  const folder = Folder.open(options.dir, { backend: keys.kind, store: storage.kind }, () => [
    ...makeCertificates('socket' in place ? new URL(place.url).hostname : place.host),
    ...makeKeys(keys.kind, onboarded),
    identityFile(onboarded?.identity ?? TEST_ISSUER),
    ...makeTokenSecrets(),
    ...makeSealKey(),
  ])
  using _ = options.replica ? undefined : folder.lock()
  const identity = identityIn(folder, onboarded)
  const { issuerId, jweKid } = identity
  await using backend = await (keys.kind === 'pkcs11'
    ? openTokenKeys(folder, own, jweKid)
    : openSoftwareKeys(folder, jweKid))
  await using store = await openStore(folder, storage)
  const cards = testCards(options.extraCards)
  const auditFile = options.audit === '-' ? undefined : (options.audit ?? folder.file('audit.log'))
  const log = await openAuditLog(auditFile)
  const client = { clientId: CLIENT.clientId, clientSecret: folder.read(CLIENT.secretFile) }
  const tokens = await openTokens(folder)
  const d1Jwk = d1PublicJwk(folder)
  const issuer = await openIssuer({
    identity,
    backend,
    store,
    tokens,
    client,
    d1PublicJwk: d1Jwk,
    d1Certificate: new X509Certificate(folder.read('d1.pem')).fingerprint256,
    cards,
    audit: sayingFaults(log.hook, say),
  })
  const server = await startServer(issuer.handler, {
    folder,
    place,
    health: options.health,
    checks: issuer.checks,
  })
  try {
    const config = await writeSimulatorConfig({
      folder,
      issuerId,
      backend,
      store,
      issuer,
      cards,
      url: server.url,
    })
    const { url, healthUrl } = server
    const audit = auditFile ?? 'standard output'
    const stores = { memory: 'in memory, gone when it stops', sqlite: 'SQLite', postgres: 'PostgreSQL' }
    process.stderr.write(
      greeting({
        folder,
        issuerId,
        url,
        socket: 'socket' in place ? place.socket : undefined,
        healthUrl,
        audit,
        config,
        keys: keys.kind,
        store: stores[storage.kind],
      }),
    )
    await Promise.race([stopped, log.broken])
    say('stopping')
  } finally {
    await server.stop()
    await log.close()
  }
}

/** The token of the command line, or the one that `onboard` made the keys in. Throws {@link UsageError}. */
function ownToken({ backend }: ServeOptions, onboarded: Onboarded | undefined): OwnToken | undefined {
  if (backend.kind !== 'pkcs11') return undefined
  const { own, pinEnv } = backend
  if (onboarded === undefined) {
    // Looked for before there is a folder: it would remember the backend that did not start.
    if (own === undefined) softHsmModule()
    else requireModule('--module', own.module)
    return own
  }
  if (onboarded.token === undefined || pinEnv === undefined)
    throw new UsageError('--onboarding with --backend pkcs11 takes a folder of token keys, and --pin-env')
  requireModule('--onboarding', onboarded.token.module)
  return { ...onboarded.token, pinEnv }
}

function requireModule(option: string, module: string): void {
  if (!existsSync(module)) throw new UsageError(`${option}: there is no file ${module}`)
}

/** Standard output is for audit lines. */
function say(line: string): void {
  process.stderr.write(`serve: ${line}\n`)
}

/** One Ctrl-C may come twice: from the terminal, and from npm, which hands it on. */
const SAME_SIGNAL_MS = 1000

/** Resolves with the first signal; the second ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise(resolve => {
    let first: number | undefined
    const stop = (): void => {
      const now = performance.now()
      first ??= now
      if (now - first > SAME_SIGNAL_MS) process.exit(1)
      resolve()
    }
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, stop)
  })
}

try {
  const options = readOptions(process.argv.slice(2), process.env)
  if (options === undefined) console.log(USAGE)
  else await serve(options, stopSignal())
  // Nothing that a driver left open keeps a stopped service alive.
  process.exit(0)
} catch (error) {
  say(explained(error))
  process.exit(error instanceof UsageError ? 2 : 1)
}
