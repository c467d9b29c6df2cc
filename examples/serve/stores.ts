/** Where cards, PINs and change counters are kept, and the key under which PANs are sealed there. */
import { randomBytes } from 'node:crypto'
import { openPostgresIssuerStore } from 'issuer-pin-crypto/postgres'
import { type IssuerStore, openSqliteIssuerStore, panSealer } from 'issuer-pin-crypto/sqlite'
import type { Folder, NewFile } from './folder.js'
import type { StoreOptions } from './options.js'

const SEAL_KEY = 'pan-seal.hex'

/** The key of the PANs: in a file here, in a vault elsewhere. */
export function makeSealKey(): readonly NewFile[] {
  return [{ name: SEAL_KEY, text: randomBytes(32).toString('hex') }]
}

/** Opens the store; tables are made where they are missing. */
export async function openStore(folder: Folder, options: StoreOptions): Promise<IssuerStore> {
  const key = Buffer.from(folder.read(SEAL_KEY), 'hex')
  const sealer = panSealer({ keys: [{ kid: 'PAN-1', key }] })
  key.fill(0)
  if (options.kind === 'postgres') {
    return openPostgresIssuerStore({ connectionString: options.url, panSealer: sealer })
  }
  return openSqliteIssuerStore({ path: folder.file('issuer.db'), driver: sqliteDriver(), panSealer: sealer })
}

/** Node's own where it has one (22.13 and later). */
function sqliteDriver(): 'node:sqlite' | 'better-sqlite3' {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 13) ? 'node:sqlite' : 'better-sqlite3'
}
