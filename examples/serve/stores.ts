/** Where cards, PINs and change counters are kept, and the key under which PANs are sealed there. */
import { randomBytes } from 'node:crypto'
import { isIssuerPinError } from 'issuer-pin-crypto'
import { memoryIssuerStore } from 'issuer-pin-crypto/d1'
import { openPostgresIssuerStore } from 'issuer-pin-crypto/postgres'
import { type IssuerStore, openSqliteIssuerStore, panSealer } from 'issuer-pin-crypto/sqlite'
import type { Folder, NewFile } from './folder.js'
import { type StoreOptions, UsageError } from './options.js'

const SEAL_KEY = 'pan-seal.hex'

/** The key of the PANs: in a file here, in a vault elsewhere. */
export function makeSealKey(): readonly NewFile[] {
  return [{ name: SEAL_KEY, text: randomBytes(32).toString('hex') }]
}

const NO_DRIVER = `this Node has no SQLite of its own (22.13 and later have), and better-sqlite3 is not compiled. One of:
  npm run serve -- --dir DIR --store memory     needs nothing; what it keeps is gone when it stops
  npm run setup                                 compiles better-sqlite3 (python3, make, g++)
  a Node of 22.13 or later`

/** Opens the store; tables are made where they are missing. Throws {@link UsageError} where SQLite has no driver. */
export async function openStore(folder: Folder, options: StoreOptions): Promise<IssuerStore> {
  const key = Buffer.from(folder.read(SEAL_KEY), 'hex')
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key }] })
  key.fill(0)
  if (options.kind === 'postgres') {
    return openPostgresIssuerStore({ connectionString: options.url, panSealer: sealer })
  }
  if (options.kind === 'memory') return memoryIssuerStore()
  try {
    return await openSqliteIssuerStore({
      path: folder.file('issuer.db'),
      driver: sqliteDriver(),
      panSealer: sealer,
    })
  } catch (error) {
    if (isIssuerPinError(error) && error.code === 'ERR_UNSUPPORTED') throw new UsageError(NO_DRIVER)
    throw error
  }
}

/** Node's own where it has one (22.13 and later). */
function sqliteDriver(): 'node:sqlite' | 'better-sqlite3' {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 13) ? 'node:sqlite' : 'better-sqlite3'
}
