/**
 * The stores of an issuer in one SQLite file: cards, PINs, change counters. The driver is the program's.
 *
 * @module issuer-pin-crypto/sqlite
 */

export type {
  BlockCount,
  BlockEntry,
  BlockPage,
  BulkResult,
  CardEntry,
  CardPinStore,
  CardStore,
  IssuerStore,
  ListedBlock,
  Replacement,
  ResealPage,
  RowSeals,
  SealCount,
} from './stores/issuer-store.js'
export { type PanKey, type PanSealer, type PanSealerOptions, panSealer } from './stores/pan-sealer.js'
export { type RowSealer, type RowSealerOptions, rowSealer } from './stores/row-sealer.js'
export type { SqliteDriver } from './stores/sqlite/driver.js'
export {
  openSqliteIssuerStore,
  type SqliteExecutor,
  type SqliteIssuerStoreOptions,
} from './stores/sqlite/issuer-store.js'
