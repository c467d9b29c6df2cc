/** What a reader's program has by the time it comes to an example. Declared only: nothing of this exists at run time. */
import type { Server } from 'node:https'
import type {
  Backend,
  BackendDriver,
  ChangeCounter,
  ChangeCounterStore,
  IssuerPinError,
  Key,
  OpenerOptions,
  Pan,
  Pin,
  PublicJwkLike,
  SeccosProfile,
  TriesOf,
} from 'issuer-pin-crypto'
import type {
  AssertionSigner,
  AuditHook,
  CardDirectory,
  EndpointHandler,
  IssuerStore,
  MtlsFetch,
  PinStore,
  TokenClient,
} from 'issuer-pin-crypto/d1'
import type { CeremonyRecord, KeyStore } from 'issuer-pin-crypto/pkcs11'
import type { SoftwareKey } from 'issuer-pin-crypto/software'
import type { PanSealer } from 'issuer-pin-crypto/sqlite'
import type { ContractKey } from 'issuer-pin-crypto/testing'
import type { ProbeSample } from 'issuer-pin-crypto/tools'

/** Whatever else is needed: what the ellipsis of an example stands for. */
// biome-ignore lint/suspicious/noExplicitAny: it fits everywhere.
export declare const rest: any

export declare const backend: Backend
export declare const hsm: Backend
export declare const driver: BackendDriver<unknown>
export declare const key: Key
export declare const zpk: Key
export declare const storage: Key
export declare const d1Zpk: Key
export declare const jweKeys: Key
export declare const macKey: Key
export declare const macKeys: Key
export declare const kbpk: Key
export declare const zmk: Key
export declare const keyBlock: string
export declare const testKeyHex: string
export declare const first: Uint8Array
export declare const second: Uint8Array
export declare const firstKcv: string
export declare const secondKcv: string
export declare const keyKcv: string
export declare const material: Uint8Array
export declare const tokenKeys: KeyStore
export declare const ceremony: CeremonyRecord
export declare const sealedRecord: string
export declare const prwKey: Key
export declare const pvk: Key

export declare const pin: Pin
export declare const pan: Pan
export declare const block: Uint8Array
export declare const storedBlock: Uint8Array
export declare const oldBlock: Uint8Array
export declare const newPan: Pan
export declare const blocks: readonly { block: Uint8Array; pan: Pan }[]
export declare function keep(block: Uint8Array): void
export declare const tries: TriesOf
export declare const clearBlock: Uint8Array
export declare const message: Uint8Array
export declare const mac: Uint8Array
export declare const plaintext: Uint8Array
export declare const hexFromTheTestBench: string
export declare const prwTestKey: Uint8Array
export declare const macTestKey: Uint8Array

export declare const x: string
export declare const y: string
export declare const k: string
export declare const pem: string
export declare const signingPem: string
export declare const cert: string
export declare const ca: string
export declare const privateKeyPem: string
export declare const tls: { key: string; cert: string; ca: string }

export declare const profile: SeccosProfile
export declare const samples: readonly ProbeSample[]
export declare const dataSet: Uint8Array
export declare const full: Uint8Array
export declare const random: Uint8Array
export declare const fields: Readonly<Record<string, string>>
export declare const prw: unknown
export declare const stored: { dataSet: Uint8Array; prwValue: string }
export declare const pcc: string
export declare const intdatag: string
export declare const prwDataSet: string
export declare const prwValue: string
export declare const prwKid: string
export declare const macValue: string
export declare const macKid: string
export declare const fingerprint: Uint8Array
export declare const counter: ChangeCounter
export declare const store: ChangeCounterStore
export declare const issuerStore: IssuerStore
export declare const host: string
export declare const sealer: PanSealer

export declare const body: string
export declare const requestText: string
export declare const request: { encryptedPinBlock: string }
export declare const encryptedPinBlock: string
export declare const response: { end(text: string): void }
export declare const cardId: string
export declare const cards: CardDirectory & {
  storePinBlock(cardId: string, block: Uint8Array, kid: string): Promise<void>
  storePrw(cardId: string, prw: unknown, sequence: number): Promise<void>
}
export declare const pins: PinStore
export declare const clients: readonly TokenClient[]
export declare const handler: EndpointHandler
export declare const audit: AuditHook
export declare const server: Server
export declare const logger: { emit(record: object): void; info(record: object): void }
export declare const d1PublicJwk: PublicJwkLike
export declare const issuerPublicJwk: PublicJwkLike
export declare const signer: AssertionSigner
export declare const fetch: MtlsFetch
export declare const error: IssuerPinError

export declare const module: string
/** Node's own, which the types of Node 20 do not know. */
export declare const path: string
export declare const environment: 'staging'
export declare const issuerId: string
export declare const newKey: Uint8Array
export declare const oldKey: Uint8Array
export declare const panKey: Uint8Array
export declare function readFromVault(): Promise<string>
export declare function readPin(): Promise<string>
export declare function readPinA(): Promise<string>
export declare function readPinB(): Promise<string>
export declare function readPinFromVault(): Promise<string>
export declare function connect(name: string): Promise<ChangeCounterStore>
export declare const keys: readonly SoftwareKey[]
export declare function openMyBackend(keys: readonly ContractKey[], options?: OpenerOptions): Promise<Backend>
export declare function test(name: string, run: () => Promise<void>): void
export declare function afterAll(run: () => Promise<void>): void
export declare function log(...values: unknown[]): void

export { createPrivateKey } from 'node:crypto'
export { readFile } from 'node:fs/promises'
export { default as https } from 'node:https'

export { default as express } from 'express'
