/**
 * Child of the memory campaign: works with secrets in batches, as it is told line by line on its standard input, and
 * stands still after each answer (it waits in a blocking read), so that its memory can be read as the work left it.
 *
 * It gets its secrets masked, unmasks each where it is used, off V8's heap, and wipes what it made itself and what a
 * verb gave it: whatever is found in its memory somebody else left. A minor collection is forced while the secrets of a
 * batch live, and each call is then at another stage; nothing else may collect, for the parent has it started
 * with a nursery larger than a batch needs.
 */
import { readSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import type * as Pkcs11js from 'pkcs11js'
import { operationsOf } from '../../src/backend/key.js'
import { CKA, CKF, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { agreementPort } from '../../src/backend/software/agreement.js'
import { openSoftware } from '../../src/backend/software/software.js'
import { startBeside } from '../../src/base/beside.js'
import {
  getPinResponse,
  issuerEndpoints,
  openSeccosSetPinRequest,
  openSetPinRequest,
  openSetPinRequestToClearPin,
  sealCardDetails,
} from '../../src/d1.js'
import {
  type Backend,
  buildFormat0,
  type CallOptions,
  combineComponents,
  computePrw,
  dataSetFromHex,
  decipherPin,
  encipherPin,
  encipherPins,
  generateMac,
  generateOffset,
  generatePrwMac,
  generatePvv,
  type Key,
  keyCheckValue,
  memoryStore,
  naturalPin,
  openJwe,
  openKeyBlock,
  Pan,
  Pin,
  type PinReference,
  parseFormat0,
  reencipherPinBlock,
  rePanPinBlock,
  sealJwe,
  sealKeyBlock,
  splitKey,
  TryCounter,
  translateKeyBlock,
  translatePinBlock,
  translatePinBlocks,
  verifyMac,
  verifyPinBlock,
  verifyPrw,
  verifyPrwMac,
} from '../../src/index.js'
import { type KeyStore, keyCeremony, openKeyStore, pkcs11Backend } from '../../src/pkcs11.js'
import { softwareBackend } from '../../src/software.js'
import { makeSeccosSetPinRequest } from '../../src/testing.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile } from '../../src/tools.js'
import { KEYS, type MaskedKey, OPEN, type Order, PIN_VALUES, type Setup } from '../campaign-orders.js'

function unmask(masked: string, mask: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(masked.length / 2))
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] =
      Number.parseInt(masked.slice(2 * i, 2 * i + 2), 16) ^ Number.parseInt(mask.slice(2 * i, 2 * i + 2), 16)
  }
  return bytes
}

const wipeAll = (...all: Uint8Array[]): void => {
  for (const bytes of all) bytes.fill(0)
}

// ---------------------------------------------------------------------------------------------------------- the world

interface World {
  readonly backend: Backend
  readonly keys: Readonly<Record<keyof typeof KEYS, Key>>
}

async function open(setup: Setup): Promise<World> {
  const backend = setup.token === undefined ? await openKeys(setup) : await openToken(setup.token)
  const keys: Partial<Record<keyof typeof KEYS, Key>> = {}
  for (const [kid, { usage }] of Object.entries(KEYS) as [
    keyof typeof KEYS,
    (typeof KEYS)[keyof typeof KEYS],
  ][]) {
    const pinValue = PIN_VALUES[kid]
    const open = OPEN.has(usage) ? { hostDecipher: true } : {}
    keys[kid] = await backend.bind({ kid, usage, ...open, ...(pinValue && { pinValue }) })
  }
  return { backend, keys: keys as World['keys'] }
}

async function openKeys({ engine, keys, mask, workers }: Setup): Promise<Backend> {
  const open = keys.map(({ kid, material }: MaskedKey) => ({
    kid,
    ...KEYS[kid],
    material: unmask(material, mask),
  }))
  try {
    if (workers === undefined) return await softwareBackend({ engine, keys: open })
    return await openSoftware({ engine, keys: open, jwe: { workers: workers.count } }, () => {
      const worker = startBeside(workers.host)
      return { port: agreementPort(worker), end: () => worker.terminate() }
    })
  } finally {
    wipeAll(...open.map(({ material }) => material))
  }
}

const openToken = ({
  module,
  label,
  pin,
  binding = 'pkcs11js',
}: NonNullable<Setup['token']>): Promise<Backend> =>
  pkcs11Backend({
    binding,
    module,
    token: label,
    pin: () => pin,
    composedMac: true,
    deriveKeys: 'through-host',
    sessions: { max: 4 },
  })

// ------------------------------------------------------------------------------------------------------- one call each

/** What a call has at hand. */
interface At extends World {
  readonly order: Order
  readonly pan: Pan
  readonly otherPan: Pan
  /** Keys of a backend that is closed: what is done under them fails half-way. */
  readonly closed: World['keys']
  readonly i: number
  readonly options: CallOptions
  /** Public text that the parent is to know: the JWEs that were made. */
  readonly made: string[]
}

const secret = ({ order }: At, name: string): Uint8Array<ArrayBuffer> => {
  const masked = order.secrets[name]
  if (masked === undefined) throw new Error(`no secret called ${name}`)
  return unmask(masked, order.mask)
}
const text = ({ order }: At, name: string): string => order.inputs[name] ?? ''
const bytes = (at: At, name: string): Uint8Array => Uint8Array.from(Buffer.from(text(at, name), 'hex'))

async function withPin<T>(at: At, use: (pin: Pin) => Promise<T>): Promise<T> {
  const digits = secret(at, 'pin')
  const pin = Pin.from(digits)
  wipeAll(digits)
  try {
    return await use(pin)
  } finally {
    pin.dispose()
  }
}

const wiped = async (result: Promise<Uint8Array>): Promise<void> => wipeAll(await result)
const disposed = async (result: Promise<Pin>): Promise<void> => (await result).dispose()
const jwe = async (at: At, result: Promise<string>): Promise<void> => void at.made.push(await result)
const seccosValues = (at: At) => ({
  pan: at.pan,
  pcc: '0042',
  intdatag: text(at, 'intdatag'),
  fields: { psn: '01', expiry: '2912', issuer: 'is_tbank01' },
  random: bytes(at, 'random'),
})
const macOf = (message: Uint8Array) =>
  ({ message, algorithm: 'iso9797-1-alg3', padding: 2, length: 8 }) as const
const counter = {
  issue: async () => ({ pcc: '0042', intdatag: '' }),
  check: async () => ({ replayed: false }),
  accept: async ({ store }: { store: (acceptance: { sequence: number }) => Promise<void> }) => {
    await store({ sequence: 1 })
    return { sequence: 1, replayed: false }
  },
  pccOf: async () => '0042',
  supersede: async () => true,
}
const d1Public = (at: At) => ({ ...JSON.parse(text(at, 'd1Public')), kid: 'D1' })
const iso0Body = (at: At): string =>
  JSON.stringify({ type: 'ISO0', encryptedPinBlock: at.order.jwes[at.i] ?? 'none' })
const seccosBody = (at: At): string =>
  JSON.stringify({ type: '3DES_SECCOS', encryptedPinBlock: at.order.jwes[at.i] ?? 'none' })
const tampered = (compact: string): string => `${compact.slice(0, -4)}AAAA`

/** The endpoints over an issuer's code that works, or fails where it is told to. */
function handler(at: At, fails?: 'store' | 'keys') {
  const store = async (): Promise<void> => {
    if (fails === 'store') throw new Error('the store is away')
  }
  return issuerEndpoints({
    issuers: {
      is_tbank01: {
        cards: {
          find: async () => ({
            state: 'active',
            pan: at.pan,
            setPinTypes: ['ISO0', '3DES_SECCOS'],
            seccos: { fields: seccosValues(at).fields },
          }),
        },
        pins: {
          readBlock: async () => ({ block: bytes(at, 'storedBlock'), kid: 'STORE' }),
          acceptBlock: async () => {
            await store()
            return { outcome: 'stored' }
          },
          storePrw: store,
        },
        jweKeys: at.keys.JWE,
        iso0: {
          d1Zpk: fails === 'keys' ? at.closed.ZPK : at.keys.ZPK,
          storage: at.keys.STORE,
          d1PublicJwk: d1Public(at),
        },
        seccos: { profile, macKeys: at.keys.MAC, prwKids: ['PRW-G'], counter: counter as never },
      },
    },
    authorization: 'anyone-who-reaches-it',
    audit: ({ refusal }, cause) => {
      refusals.push(`${refusal?.reason} ${refusal?.code} ${(cause as Error | undefined)?.message ?? ''}`)
    },
  })
}

/** What the operator would read, for the message of a test that fails. */
const refusals: string[] = []

async function answered(at: At, status: number, body?: string, fails?: 'store' | 'keys'): Promise<void> {
  const url = 'https://issuer.test/cms/api/v1/issuers/is_tbank01/cards/card-1/pin'
  const init = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: body ?? '' }
  const response = await handler(at, fails)(new Request(url, body === undefined ? {} : init))
  const answer = await response.text()
  if (response.status !== status)
    throw new Error(`answered ${response.status}: ${answer} (${refusals.slice(-3).join('; ')})`)
  if (status === 200) at.made.push(JSON.parse(answer).encryptedPinBlock)
}

const seccosRequest = (at: At) => ({
  body: seccosBody(at),
  cardId: 'card-1',
  jweKeys: at.keys.JWE,
  profile,
  macKeys: at.keys.MAC,
  prwKids: ['PRW-G'],
  counter: counter as never,
  pan: at.pan,
  fields: seccosValues(at).fields,
})
const prwGiven = (at: At) => ({
  ...seccosValues(at),
  profile,
  dataSet: dataSetFromHex(text(at, 'prwDataSet')),
  prwValue: text(at, 'prwValue'),
})
const prwReference = (at: At) => {
  const { pan: _, ...values } = prwGiven(at)
  return values
}
const setPin = (at: At) => ({ body: iso0Body(at), jweKeys: at.keys.JWE, from: at.keys.ZPK, pan: at.pan })
const move = (at: At) => ({ block: bytes(at, 'storedBlock'), from: at.keys.STORE, to: at.keys.ZPK })
const checked = (at: At) => ({ ...move(at), pan: at.pan, fromFormat: 0, toFormat: 0 }) as const

/* PIN blocks of the other formats, and verification. */

const FORMAT_KEYS = { 0: 'STORE', 1: 'STORE', 3: 'STORE', 4: 'AES' } as const
type Format = keyof typeof FORMAT_KEYS

/** The PIN of a batch as a block of a format. */
const blockIn = (at: At, format: Format): Promise<Uint8Array> =>
  withPin(at, pin => encipherPin({ pin, pan: at.pan, format, key: at.keys[FORMAT_KEYS[format]] }, at.options))

const source = (at: At) =>
  ({
    block: bytes(at, 'storedBlock'),
    pan: at.pan,
    format: 0,
    from: at.keys.STORE,
  }) as const

/** The PIN of the batch against a reference: it is the right one unless `wrong`. */
async function verified(at: At, against: PinReference, wanted = true): Promise<void> {
  const verdict = await verifyPinBlock({ ...source(at), against, tries: triesOf(at) }, at.options)
  if (verdict.verified !== wanted) throw new Error(`verified: ${verdict.verified}`)
}

/** A counter of tries over memory of its own. */
const triesOf = (at: At) => ({ counter: tries, cardId: `card-${at.i}`, product: 'debit' })
const tries = new TryCounter({
  store: memoryStore(),
  products: { debit: { limit: 99, afterSuccess: 'reset' } },
})

/* Keys on their way: components and key blocks. */

const kcvs = (at: At): readonly string[] => text(at, 'kcvs').split(',')
const keyBlock = {
  version: 'D',
  algorithm: 'tdea-2key',
  usage: 'pin-encryption',
  mode: 'E',
  exportability: 'E',
} as const

async function withMoved<T>(at: At, use: (material: Uint8Array) => Promise<T>): Promise<T> {
  const material = secret(at, 'moved')
  try {
    return await use(material)
  } finally {
    wipeAll(material)
  }
}

const sealed = (at: At, key: Key): Promise<string> =>
  withMoved(at, async material => (await sealKeyBlock({ ...keyBlock, key, material }, at.options)).block)

async function combined(at: At, kcv: string): Promise<void> {
  const [component, rest] = [secret(at, 'part'), secret(at, 'rest')]
  const [, partKcv = '', restKcv = ''] = kcvs(at)
  const components = [
    { component, kcv: partKcv },
    { component: rest, kcv: restKcv },
  ]
  try {
    const key = await combineComponents({
      kid: 'K',
      algorithm: 'tdea-2key',
      components,
      kcv,
      parity: 'report',
    })
    wipeAll(key.material)
  } finally {
    wipeAll(component, rest)
  }
}

let ceremonies: Promise<KeyStore> | undefined
/** A token has a value under one kid: one ceremony after the other, each key deleted before the next is made. */
let turn: Promise<void> = Promise.resolve()

function ceremony(at: At, kcv: string): Promise<void> {
  const mine = turn.then(() => oneCeremony(at, kcv))
  turn = mine.catch(() => undefined)
  return mine
}

async function oneCeremony(at: At, kcv: string): Promise<void> {
  if (setup.token === undefined) throw new Error('a ceremony brings a key into a token')
  const { module, label, pin, binding = 'pkcs11js' } = setup.token
  ceremonies ??= openKeyStore({
    binding,
    module,
    token: label,
    pin: () => pin,
    importClearKeys: true,
    composedMac: true,
  })
  const store = await ceremonies
  const [first, second] = [secret(at, 'part'), secret(at, 'rest')]
  const [, firstKcv = '', secondKcv = ''] = kcvs(at)
  const entries = [
    { officer: 'A. Adams', component: first, kcv: firstKcv },
    { officer: 'B. Brown', component: second, kcv: secondKcv },
  ]
  const made = { kid: 'BROUGHT', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  try {
    const { key } = await keyCeremony({ store, ...made, entries, kcv })
    await store.deleteKey({ kid: key.kid, id: key.id })
  } finally {
    wipeAll(first, second)
  }
}

/** A MAC under a key that is derived for it. */
const macDerived = async (at: At): Promise<unknown> =>
  operationsOf(at.keys.MASTER).mac(
    {
      algorithm: 'iso9797-1-alg3',
      padding: 2,
      derivation: [{ method: 'encipher', data: Buffer.from(text(at, 'derivedFrom'), 'hex') }],
    },
    Uint8Array.of(1, 2, 3),
    at.options,
  )

/** The token by pkcs11js alone: what stays of a block that was wiped here, its module or the binding has kept. */
let bare: ReturnType<typeof openBare> | undefined
const bareToken = () => {
  bare ??= openBare()
  return bare
}

/** As far down the stack as a library calls a token: what is left there is not overwritten by the answer to the parent. */
function deeply(depth: number, use: () => void): number {
  if (depth > 0) return deeply(depth - 1, use) + 1
  use()
  return 0
}

function openBare() {
  const { module, label } = setup.token ?? { module: '', label: '' }
  const { PKCS11 } = createRequire(import.meta.url)('pkcs11js') as typeof Pkcs11js
  const library = new PKCS11()
  // It is initialised and logged in, by our backend in this process.
  library.load(module)
  const slot = library.C_GetSlotList(true).find(one => library.C_GetTokenInfo(one).label.trim() === label)
  if (slot === undefined) throw new Error(`no token ${label}`)
  const sessions = [0, 1, 2, 3].map(() => library.C_OpenSession(slot, CKF.SERIAL_SESSION))
  const [first] = sessions
  if (first === undefined) throw new Error('no session')
  library.C_FindObjectsInit(first, [{ type: CKA.LABEL, value: 'STORE' }])
  const [key] = library.C_FindObjects(first, 1)
  library.C_FindObjectsFinal(first)
  if (key === undefined) throw new Error('no key')
  const mechanism = { mechanism: CKM.DES3_ECB }
  const view = (data: Uint8Array): Buffer => Buffer.from(data.buffer, data.byteOffset, data.length)
  const out = (): Buffer => view(new Uint8Array(new ArrayBuffer(8)))
  const sessionOf = (i: number) => sessions[i % sessions.length] ?? first
  return {
    encrypt(i: number, block: Uint8Array): Buffer {
      library.C_EncryptInit(sessionOf(i), mechanism, key)
      return library.C_Encrypt(sessionOf(i), view(block), out())
    },
    decrypt(i: number, block: Uint8Array): Buffer {
      library.C_DecryptInit(sessionOf(i), mechanism, key)
      return library.C_Decrypt(sessionOf(i), view(block), out())
    },
  }
}

/** Every verb that handles a PIN, a block, a key, Z or a content key; `fails`: each call is refused. */
const SCENARIOS: Readonly<Record<string, { run: (at: At) => Promise<unknown>; fails?: true }>> = {
  'Pin.from, dispose': { run: at => withPin(at, async () => {}) },
  buildFormat0: { run: at => withPin(at, async pin => wipeAll(buildFormat0({ pin, pan: at.pan }))) },
  parseFormat0: {
    run: async at => {
      const block = secret(at, 'clearBlock')
      parseFormat0({ block, pan: at.pan }).dispose()
      wipeAll(block)
    },
  },
  'parseFormat0, another PAN': {
    fails: true,
    run: async at => {
      const block = secret(at, 'clearBlock')
      try {
        parseFormat0({ block, pan: at.otherPan })
      } finally {
        wipeAll(block)
      }
    },
  },
  encipherPin: {
    run: at =>
      withPin(at, pin => wiped(encipherPin({ pin, pan: at.pan, format: 0, key: at.keys.STORE }, at.options))),
  },
  'encipherPin, a MAC key': {
    fails: true,
    run: at => withPin(at, pin => encipherPin({ pin, pan: at.pan, format: 0, key: at.keys.MAC }, at.options)),
  },
  'encipherPin, the backend is closed': {
    fails: true,
    run: at =>
      withPin(at, pin => encipherPin({ pin, pan: at.pan, format: 0, key: at.closed.STORE }, at.options)),
  },
  encipherPins: {
    run: at =>
      withPin(at, async pin => {
        const pins = [
          { pin, pan: at.pan },
          { pin, pan: at.pan },
        ]
        wipeAll(await encipherPins({ pins, format: 0, key: at.keys.STORE }, at.options))
      }),
  },
  'encipherPins, the second PIN is disposed of': {
    fails: true,
    run: at =>
      withPin(at, async pin => {
        const gone = Pin.from('4711')
        gone.dispose()
        const pins = [
          { pin, pan: at.pan },
          { pin: gone, pan: at.pan },
        ]
        await encipherPins({ pins, format: 0, key: at.keys.STORE }, at.options)
      }),
  },
  'encipherPins, the backend is closed': {
    fails: true,
    run: at =>
      withPin(at, pin =>
        encipherPins({ pins: [{ pin, pan: at.pan }], format: 0, key: at.closed.STORE }, at.options),
      ),
  },
  decipherPin: {
    run: at =>
      disposed(
        decipherPin(
          { block: bytes(at, 'storedBlock'), pan: at.pan, format: 0, key: at.keys.STORE },
          at.options,
        ),
      ),
  },
  'decipherPin, another PAN': {
    fails: true,
    run: at =>
      decipherPin(
        { block: bytes(at, 'storedBlock'), pan: at.otherPan, format: 0, key: at.keys.STORE },
        at.options,
      ),
  },
  translatePinBlock: { run: at => wiped(translatePinBlock(checked(at), at.options)) },
  'translatePinBlock, another PAN': {
    fails: true,
    run: at => translatePinBlock({ ...checked(at), pan: at.otherPan }, at.options),
  },
  'translatePinBlock, the second backend is closed': {
    fails: true,
    run: at => translatePinBlock({ ...checked(at), to: at.closed.ZPK }, at.options),
  },
  reencipherPinBlock: { run: at => wiped(reencipherPinBlock(move(at), at.options)) },
  'reencipherPinBlock, the second backend is closed': {
    fails: true,
    run: at => reencipherPinBlock({ ...move(at), to: at.closed.ZPK }, at.options),
  },
  generateMac: {
    run: async at => {
      const message = secret(at, 'clearBlock')
      try {
        wipeAll(await generateMac({ key: at.keys.MAC, ...macOf(message) }, at.options))
      } finally {
        wipeAll(message)
      }
    },
  },
  openJwe: {
    run: async at =>
      wipeAll((await openJwe({ jwe: at.order.jwes[at.i] ?? '', keys: at.keys.JWE }, at.options)).plaintext),
  },
  'openJwe, the tag is wrong': {
    fails: true,
    run: at => openJwe({ jwe: tampered(at.order.jwes[at.i] ?? ''), keys: at.keys.JWE }, at.options),
  },
  sealJwe: {
    run: async at => {
      const plaintext = secret(at, 'content')
      await jwe(at, sealJwe({ plaintext, recipient: d1Public(at) }, at.options))
      wipeAll(plaintext)
    },
  },
  'sealJwe, too long': {
    fails: true,
    run: async at => {
      const content = secret(at, 'content')
      const plaintext = new Uint8Array(new ArrayBuffer(5936))
      plaintext.set(content)
      wipeAll(content)
      try {
        await sealJwe({ plaintext, recipient: d1Public(at), kid: 'D1'.repeat(50) }, at.options)
      } finally {
        wipeAll(plaintext)
      }
    },
  },
  sealCardDetails: {
    run: at => jwe(at, sealCardDetails({ pan: at.pan, exp: '1229', d1PublicJwk: d1Public(at) }, at.options)),
  },
  'getPinResponse of a block': {
    run: async at => {
      const input = { block: bytes(at, 'storedBlock'), from: at.keys.STORE, pan: at.pan, to: at.keys.ZPK }
      at.made.push(
        (await getPinResponse({ ...input, d1PublicJwk: d1Public(at) }, at.options)).encryptedPinBlock,
      )
    },
  },
  'getPinResponse of a block, another PAN': {
    fails: true,
    run: at => {
      const input = {
        block: bytes(at, 'storedBlock'),
        from: at.keys.STORE,
        pan: at.otherPan,
        to: at.keys.ZPK,
      }
      return getPinResponse({ ...input, d1PublicJwk: d1Public(at) }, at.options)
    },
  },
  'getPinResponse of a PIN': {
    run: at =>
      withPin(at, async pin => {
        const input = { pin, pan: at.pan, to: at.keys.ZPK, d1PublicJwk: d1Public(at) }
        at.made.push((await getPinResponse(input, at.options)).encryptedPinBlock)
      }),
  },
  openSetPinRequest: {
    run: async at =>
      wipeAll((await openSetPinRequest({ ...setPin(at), to: at.keys.STORE }, at.options)).block),
  },
  'openSetPinRequest, another PAN': {
    fails: true,
    run: at => openSetPinRequest({ ...setPin(at), pan: at.otherPan, to: at.keys.STORE }, at.options),
  },
  'openSetPinRequest, the storage backend is closed': {
    fails: true,
    run: at => openSetPinRequest({ ...setPin(at), to: at.closed.STORE }, at.options),
  },
  openSetPinRequestToClearPin: { run: at => disposed(openSetPinRequestToClearPin(setPin(at), at.options)) },
  'openSetPinRequestToClearPin, another PAN': {
    fails: true,
    run: at => openSetPinRequestToClearPin({ ...setPin(at), pan: at.otherPan }, at.options),
  },
  computePrw: {
    run: at =>
      withPin(at, pin =>
        computePrw({ ...seccosValues(at), pin, key: at.keys['PRW-G'], profile }, at.options),
      ),
  },
  'computePrw, the backend is closed': {
    fails: true,
    run: at =>
      withPin(at, pin =>
        computePrw({ ...seccosValues(at), pin, key: at.closed['PRW-G'], profile }, at.options),
      ),
  },
  verifyPrw: {
    run: at => withPin(at, pin => verifyPrw({ ...prwGiven(at), pin, key: at.keys['PRW-V'] }, at.options)),
  },
  'verifyPrw, the backend is closed': {
    fails: true,
    run: at => withPin(at, pin => verifyPrw({ ...prwGiven(at), pin, key: at.closed['PRW-V'] }, at.options)),
  },
  generatePrwMac: { run: at => generatePrwMac({ ...prwGiven(at), key: at.keys.MAC }, at.options) },
  verifyPrwMac: {
    run: at =>
      verifyPrwMac({ ...prwGiven(at), key: at.keys.MAC, macValue: text(at, 'macValue') }, at.options),
  },
  makeSeccosSetPinRequest: {
    run: at =>
      withPin(at, async pin => {
        const { random: _, ...values } = seccosValues(at)
        const keys = { prwKey: at.keys['PRW-G'], macKey: at.keys.MAC, issuerPublicJwk: d1Public(at) }
        const request = { ...values, ...keys, pin, profile }
        at.made.push((await makeSeccosSetPinRequest(request, at.options)).encryptedPinBlock)
      }),
  },
  openSeccosSetPinRequest: { run: at => openSeccosSetPinRequest(seccosRequest(at), at.options) },
  'openSeccosSetPinRequest, the MAC backend is closed': {
    fails: true,
    run: at => openSeccosSetPinRequest({ ...seccosRequest(at), macKeys: at.closed.MAC }, at.options),
  },
  'encipherPin and decipherPin, formats 1, 3 and 4': {
    run: async at => {
      for (const format of [1, 3, 4] as const) {
        const block = await blockIn(at, format)
        const key = at.keys[FORMAT_KEYS[format]]
        await disposed(decipherPin({ block, pan: at.pan, format, key }, at.options))
      }
    },
  },
  'decipherPin, format 4, another PAN': {
    fails: true,
    run: async at =>
      decipherPin({ block: await blockIn(at, 4), pan: at.otherPan, format: 4, key: at.keys.AES }, at.options),
  },
  'decipherPin, format 4, the backend is closed': {
    fails: true,
    run: async at =>
      decipherPin({ block: await blockIn(at, 4), pan: at.pan, format: 4, key: at.closed.AES }, at.options),
  },
  'translatePinBlock, 0 to 4 and 4 to 3': {
    run: async at => {
      const { STORE, AES } = at.keys
      const there = {
        block: bytes(at, 'storedBlock'),
        pan: at.pan,
        from: STORE,
        to: AES,
        fromFormat: 0,
        toFormat: 4,
      } as const
      const block = await translatePinBlock(there, at.options)
      const back = { block, pan: at.pan, from: AES, to: STORE, fromFormat: 4, toFormat: 3 } as const
      await translatePinBlock(back, at.options)
    },
  },
  'translatePinBlocks, the second is bad': {
    run: async at => {
      const { block, from, to, fromFormat, toFormat } = checked(at)
      const blocks = [
        { block, pan: at.pan },
        { block, pan: at.otherPan },
      ]
      await translatePinBlocks({ blocks, from, to, fromFormat, toFormat }, at.options)
    },
  },
  rePanPinBlock: {
    run: at => rePanPinBlock({ ...checked(at), newPan: at.otherPan }, at.options),
  },
  'rePanPinBlock, another PAN': {
    fails: true,
    run: at => rePanPinBlock({ ...checked(at), pan: at.otherPan, newPan: at.pan }, at.options),
  },
  'verifyPinBlock against a block': {
    run: async at => {
      const key = at.keys.ZPK
      const block = await reencipherPinBlock(move(at), at.options)
      await verified(at, { kind: 'block', block, format: 0, key })
    },
  },
  'verifyPinBlock against a block of format 4': {
    run: async at =>
      verified(at, { kind: 'block', block: await blockIn(at, 4), format: 4, key: at.keys.AES }),
  },
  'verifyPinBlock against a PVV': {
    run: async at => {
      const pvv = await generatePvv({ ...source(at), key: at.keys.PVK }, at.options)
      await verified(at, { kind: 'pvv', pvv, key: at.keys.PVK })
      const wrong = pvv.replace(/./g, digit => String((Number(digit) + 1) % 10))
      await verified(at, { kind: 'pvv', pvv: wrong, key: at.keys.PVK }, false)
    },
  },
  'verifyPinBlock against an offset': {
    run: async at => {
      const offset = await generateOffset({ ...source(at), key: at.keys.IBM }, at.options)
      await verified(at, { kind: 'offset', offset, key: at.keys.IBM })
    },
  },
  'verifyPinBlock against a PRW': {
    run: at => verified(at, { kind: 'prw', ...prwReference(at), key: at.keys['PRW-V'] }),
  },
  'verifyPinBlock, another PAN': {
    fails: true,
    run: async at => {
      const against = { kind: 'block', block: await blockIn(at, 4), format: 4, key: at.keys.AES } as const
      await verifyPinBlock({ ...source(at), pan: at.otherPan, against, tries: triesOf(at) }, at.options)
    },
  },
  'verifyPinBlock, the backend of the PVV key is closed': {
    fails: true,
    run: at => verified(at, { kind: 'pvv', pvv: '1234', key: at.closed.PVK }),
  },
  naturalPin: {
    run: at =>
      naturalPin({ pan: at.pan, key: at.keys.IBM, length: 12, format: 0, to: at.keys.STORE }, at.options),
  },
  'generateMac and verifyMac, HMAC': {
    run: async at => {
      const message = secret(at, 'clearBlock')
      const hmac = {
        key: at.keys.HMAC,
        message,
        algorithm: 'hmac-sha256',
        padding: 'none',
        length: 32,
      } as const
      try {
        const mac = await generateMac(hmac, at.options)
        await verifyMac({ ...hmac, mac }, at.options)
      } finally {
        wipeAll(message)
      }
    },
  },
  'sealKeyBlock, openKeyBlock': {
    run: async at => {
      const block = await sealed(at, at.keys.KBPK)
      const { material } = await openKeyBlock(
        { key: at.keys.KBPK, block, usage: 'pin-encryption' },
        at.options,
      )
      wipeAll(material)
    },
  },
  'openKeyBlock, the MAC is wrong': {
    fails: true,
    run: async at => {
      const block = (await sealed(at, at.keys.KBPK)).replace(/.$/, last => (last === '0' ? '1' : '0'))
      await openKeyBlock({ key: at.keys.KBPK, block, usage: 'pin-encryption' }, at.options)
    },
  },
  'openKeyBlock, for another usage': {
    fails: true,
    run: async at =>
      openKeyBlock(
        { key: at.keys.KBPK, block: await sealed(at, at.keys.KBPK), usage: 'retail-mac' },
        at.options,
      ),
  },
  'sealKeyBlock, the backend is closed': { fails: true, run: at => sealed(at, at.closed.KBPK) },
  translateKeyBlock: {
    run: async at => {
      const block = await sealed(at, at.keys.KBPK)
      const { KBPK } = at.keys
      await translateKeyBlock(
        { from: KBPK, to: KBPK, block, usage: 'pin-encryption', version: 'D' },
        at.options,
      )
    },
  },
  combineComponents: { run: at => combined(at, kcvs(at)[0] ?? '') },
  'combineComponents, the key has another check value': { fails: true, run: at => combined(at, '000000') },
  'mac under a derived key': { run: macDerived },
  'token: keyCeremony': { run: at => ceremony(at, kcvs(at)[0] ?? '') },
  'token: keyCeremony, the key has another check value': { fails: true, run: at => ceremony(at, '000000') },
  'splitKey, keyCheckValue': {
    run: at =>
      withMoved(at, async material => {
        await keyCheckValue({ algorithm: 'tdea-2key', material })
        const { components } = await splitKey({ kid: 'K', algorithm: 'tdea-2key', material, parts: 3 })
        wipeAll(...components.map(({ component }) => component))
      }),
  },
  'handler, Get PIN': { run: at => answered(at, 200) },
  'handler, Get PIN, the keys are gone': { run: at => answered(at, 500, undefined, 'keys') },
  'handler, Set PIN ISO0': { run: at => answered(at, 204, iso0Body(at)) },
  'handler, Set PIN ISO0, the store fails': { run: at => answered(at, 500, iso0Body(at), 'store') },
  'handler, Set PIN ISO0, the keys are gone': { run: at => answered(at, 500, iso0Body(at), 'keys') },
  'handler, Set PIN ISO0, another block': { run: at => answered(at, 400, tamperedBody(at)) },
  'handler, Set PIN 3DES_SECCOS': { run: at => answered(at, 204, seccosBody(at)) },
  'handler, Set PIN 3DES_SECCOS, the store fails': { run: at => answered(at, 500, seccosBody(at), 'store') },
  // What a token's module keeps by itself: the same block through the bare binding, four sessions in turn.
  'bare binding: C_Encrypt of the block': {
    run: async at => {
      const block = secret(at, 'clearBlock')
      wipeAll(bareToken().encrypt(at.i, block), block)
    },
  },
  'bare binding: C_Decrypt to the block': {
    run: async at => deeply(40, () => wipeAll(bareToken().decrypt(at.i, bytes(at, 'storedBlock')))),
  },
  // The controls: what must be found, or the search finds nothing at all.
  'control: a small array on the heap, wiped': {
    run: async at => {
      const own = secret(at, 'pin')
      const small = Uint8Array.from(own)
      wipeAll(own)
      for (let turn = 0; turn < 40; turn++) await null
      wipeAll(small)
    },
  },
  'control: off the heap, not wiped': {
    run: async at => {
      LEFT.push(secret(at, 'pin'))
    },
  },
  'control: off the heap, wiped': {
    run: async at => {
      const own = secret(at, 'pin')
      for (let turn = 0; turn < 40; turn++) await null
      wipeAll(own)
    },
  },
}

/** What the positive control leaves behind, on purpose. */
const LEFT: Uint8Array[] = []

const tamperedBody = (at: At): string =>
  JSON.stringify({ type: 'ISO0', encryptedPinBlock: tampered(at.order.jwes[at.i] ?? 'none') })

// ------------------------------------------------------------------------------------------------------------ the work

const gc = globalThis.gc as ((options?: { type: 'minor' }) => void) | undefined

/** Begins the calls in turns, collects once while each is at another stage, and waits. `abort`: they are given up then. */
async function batch(order: Order, world: World, closed: World['keys']): Promise<string[]> {
  const { run, fails } = SCENARIOS[order.scenario] ?? {}
  if (run === undefined) throw new Error(`no scenario ${order.scenario}`)
  const digits = [
    unmask(order.secrets['pan'] ?? '', order.mask),
    unmask(order.secrets['otherPan'] ?? '', order.mask),
  ]
  const [pan, otherPan] = digits.map(text => Pan.from(text))
  wipeAll(...digits)
  if (pan === undefined || otherPan === undefined) throw new Error('no PAN')
  const made: string[] = []
  const signals = Array.from({ length: order.count }, () => new AbortController())
  const call = async (i: number): Promise<string> => {
    try {
      const signal = signals[i]?.signal
      await run({
        ...world,
        order,
        pan,
        otherPan,
        closed,
        i,
        options: signal === undefined ? {} : { signal },
        made,
      })
      return 'done'
    } catch (error) {
      return fails === true || order.abort ? 'refused' : `failed: ${String((error as Error).stack)}`
    }
  }
  const outcomes: Promise<string>[] = []
  for (let turn = 1; turn <= order.turns; turn++) {
    // Every other call begins far down the stack: what native code leaves there nothing overwrites by chance.
    while (outcomes.length < (order.count * turn) / order.turns) {
      const i = outcomes.length
      deeply(i % 2 === 0 ? 0 : 40, () => outcomes.push(call(i)))
    }
    await null
  }
  gc?.({ type: 'minor' })
  if (order.abort) for (const controller of signals) controller.abort()
  const wanted = fails === true ? 'refused' : 'done'
  for (const outcome of await Promise.all(outcomes)) {
    if (outcome !== wanted && !(order.abort && outcome === 'refused'))
      throw new Error(`${order.scenario}: ${outcome}`)
  }
  return made
}

/** One line of standard input; blocking, so that nothing runs between an answer and the next order. */
function readLine(): string {
  const chunk = Buffer.alloc(1 << 16)
  let line = ''
  while (!line.endsWith('\n')) {
    const read = readSync(0, chunk)
    if (read === 0) process.exit(0)
    line += chunk.toString('latin1', 0, read)
  }
  return line
}

const answer = (value: unknown): void => void writeSync(1, `${JSON.stringify(value)}\n`)

const setup: Setup = JSON.parse(readLine())
const world = await open(setup)
const other = await open(setup)
await other.backend.close()
const scenarios = Object.entries(SCENARIOS)
  .filter(([name]) => setup.token !== undefined || !/^(?:bare|token)/.test(name))
  .map(([name, { fails }]) => ({ name, fails: fails === true }))
answer({ scenarios })
for (;;) {
  const order: Order = JSON.parse(readLine())
  if (order.scenario === 'close') await world.backend.close()
  answer({ made: order.scenario === 'close' ? [] : await batch(order, world, other.keys) })
}
