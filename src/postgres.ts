/**
 * The stores of an issuer in PostgreSQL: cards, PINs, change counters. Loads the optional peer `pg` when it makes a pool.
 *
 * @module issuer-pin-crypto/postgres
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
export type { PostgresDurability } from './stores/postgres/database.js'
export {
  openPostgresIssuerStore,
  type PostgresIssuerStore,
  type PostgresIssuerStoreOptions,
  type StandbyEvidence,
} from './stores/postgres/issuer-store.js'
export type {
  PostgresClient,
  PostgresConnection,
  PostgresPool,
  PostgresResult,
} from './stores/postgres/pool.js'
export { type RowSealer, type RowSealerOptions, rowSealer } from './stores/row-sealer.js'
