/** A backend with planted keys, of each kind that there is, and what the verbs are called with on it. */

import { type OpenOptions, openPkcs11 } from '../../src/backend/pkcs11/backend.js'
import type { LoadBinding, Pkcs11Binding } from '../../src/backend/pkcs11/binding/binding.js'
import { call } from '../../src/backend/pkcs11/binding/values.js'
import { type KeyStoreOptions, openKeyStoreOver } from '../../src/backend/pkcs11/key-store.js'
import {
  type Backend,
  type BackendDriver,
  type CallOptions,
  ChangeCounter,
  computePrw,
  generatePrwMac,
  type Key,
  type KeyUsage,
  memoryStore,
  openBackend,
  Pan,
  Pin,
} from '../../src/index.js'
import type { KeyMaterial } from '../../src/key/material.js'
import type { KeyAlgorithm } from '../../src/primitives/algorithms.js'
import { type EngineChoice, softwareBackend } from '../../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../src/tools.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import * as secret from './secrets.js'

interface PlantedKey {
  readonly kid: string
  readonly usage: KeyUsage
  readonly algorithm: KeyAlgorithm
  readonly material: KeyMaterial
  readonly hostDecipher?: boolean
}

const tdea = (
  kid: string,
  usage: KeyUsage,
  name: keyof typeof secret.keys,
  hostDecipher?: boolean,
): PlantedKey => ({
  kid,
  usage,
  algorithm: 'tdea-2key',
  material: secret.keys[name],
  ...(hostDecipher !== undefined && { hostDecipher }),
})

export const KEYS: readonly PlantedKey[] = [
  tdea('ZPK', 'pin-encryption', 'ZPK', true),
  tdea('STORE', 'pin-encryption', 'storage key', true),
  tdea('CLOSED', 'pin-encryption', 'closed key'),
  { ...tdea('AES', 'pin-encryption', 'AES key', true), algorithm: 'aes-128' },
  tdea('MAC', 'retail-mac', 'retail MAC key'),
  tdea('CBC', 'cbc-mac', 'CBC MAC key'),
  { ...tdea('CMAC', 'cmac', 'CMAC key'), algorithm: 'aes-128' },
  tdea('PRW-G', 'prw-generate', 'PRW key'),
  tdea('PRW-V', 'prw-verify', 'PRW key'),
  { ...tdea('KBPK', 'key-block-protection', 'key block key', true), algorithm: 'aes-128' },
  tdea('PVK', 'visa-pvv', 'PVV key'),
  tdea('OFFSET', 'ibm-3624', 'offset key'),
  { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: secret.jwe },
  { kid: 'SIGN', usage: 'jwt-signing', algorithm: 'ec-p256', material: secret.signing },
]

export type Bound = Readonly<
  Record<
    | 'zpk'
    | 'store'
    | 'closed'
    | 'aes'
    | 'mac'
    | 'cbc'
    | 'cmac'
    | 'prwG'
    | 'prwV'
    | 'kbpk'
    | 'pvk'
    | 'offset'
    | 'jwe'
    | 'sign',
    Key
  >
>

/** What verbs work on. */
export interface World {
  readonly backend: Backend
  readonly keys: Bound
  readonly pin: Pin
  readonly pan: Pan
  readonly counter: ChangeCounter
  readonly seccos: Seccos
  readonly options: CallOptions | undefined
}

/** Values of one PRW, the same for all worlds. */
export interface Seccos {
  readonly pcc: string
  readonly intdatag: string
  readonly dataSet: Uint8Array
  readonly prwValue: string
  readonly macValue: string
  readonly random: Uint8Array
}

export const profile = ILLUSTRATIVE_NOT_GIROCARD_TDEA
export const FIELDS = { psn: '01', expiry: '2912', issuer: 'is_tbank01' } as const
const INTDATAG = 'TAG-0123456789-ABCDE'

const OFFSET_RULE = {
  decimalisation: '0123456789012345',
  validation: { from: 0, length: 12, pad: 'F' },
}

export async function bindAll(backend: Backend): Promise<Bound> {
  const bind = (kid: string): Promise<Key> => {
    const { usage, hostDecipher = false } = KEYS.find(key => key.kid === kid) ?? KEYS[0] ?? never()
    const pinValue = usage === 'visa-pvv' ? { pvki: 1 } : usage === 'ibm-3624' ? OFFSET_RULE : undefined
    return backend.bind({ kid, usage, hostDecipher, ...(pinValue && { pinValue }) })
  }
  return {
    zpk: await bind('ZPK'),
    store: await bind('STORE'),
    closed: await bind('CLOSED'),
    aes: await bind('AES'),
    mac: await bind('MAC'),
    cbc: await bind('CBC'),
    cmac: await bind('CMAC'),
    prwG: await bind('PRW-G'),
    prwV: await bind('PRW-V'),
    kbpk: await bind('KBPK'),
    pvk: await bind('PVK'),
    offset: await bind('OFFSET'),
    jwe: await bind('JWE'),
    sign: await bind('SIGN'),
  }
}

const never = (): never => {
  throw new Error('unreachable')
}

export function openSoftware(engine: EngineChoice = 'auto'): Promise<Backend> {
  return softwareBackend({ keys: KEYS.map(({ hostDecipher: _, ...key }) => key), engine })
}

let seccosValues: Seccos | undefined

/** Computed once, in software. */
async function seccos(): Promise<Seccos> {
  if (seccosValues !== undefined) return seccosValues
  await using backend = await openSoftware()
  const { prwG, mac } = await bindAll(backend)
  const random = Uint8Array.of(1, 2, 3, 4)
  const values = { pan: Pan.from(secret.pan), pcc: '0042', intdatag: INTDATAG, fields: FIELDS, random }
  const prw = await computePrw({ ...values, key: prwG, profile, pin: Pin.from(secret.pin) })
  const { macValue } = await generatePrwMac({ ...values, ...prw, key: mac, profile })
  seccosValues = {
    pcc: '0042',
    intdatag: INTDATAG,
    dataSet: prw.dataSet,
    prwValue: prw.prwValue,
    macValue,
    random,
  }
  return seccosValues
}

/** A world on a backend whose keys can be bound. */
export async function worldOn(backend: Backend, options?: CallOptions): Promise<World> {
  return {
    backend,
    keys: await bindAll(backend),
    pin: Pin.from(secret.pin),
    pan: Pan.from(secret.pan),
    counter: newCounter(backend),
    seccos: await seccos(),
    options,
  }
}

export function newCounter(backend: Pick<Backend, 'randomBytes'>): ChangeCounter {
  const rule = 'increment-on-accept'
  return new ChangeCounter({
    store: memoryStore(),
    backend,
    firstPcc: '0042',
    rule,
    wrap: 'refuse',
    ttlSeconds: 300,
  })
}

/** What a careless layer below would say: everything that it was given. */
export function quoting(what: string, args: readonly unknown[]): Error {
  const text = (value: unknown): string => {
    if (value instanceof Uint8Array) return `${Buffer.from(value).toString('hex')} [${value.join(', ')}]`
    if (Array.isArray(value)) return value.map(text).join(' ')
    if (typeof value === 'object' && value !== null) return Object.values(value).map(text).join(' ')
    return String(value)
  }
  const said = `${what}(${args.map(text).join(' ')}) ${secret.planted.texts.join(' ')}`
  return Object.assign(new Error(said, { cause: said }), { code: said, args, detail: { said } })
}

/** A software backend whose keys can be bound, and whose operations then fail as {@link quoting} says. */
export async function quotingBackend(): Promise<Backend> {
  await using inner = await openSoftware()
  const capabilities = inner.capabilities()
  const found = new Map<string, Key>()
  for (const key of Object.values(await bindAll(inner))) found.set(key.kid, key)
  const fails =
    (what: string) =>
    (...args: unknown[]): never => {
      throw quoting(what, args)
    }
  const failsLater =
    (what: string) =>
    async (...args: unknown[]): Promise<never> => {
      throw quoting(what, args)
    }
  const driver: BackendDriver<object> = {
    name: 'quoting',
    find: query => {
      const key = found.get(query.kid)
      if (key === undefined) throw quoting('find', [query])
      const { algorithm, checkValue, parity, publicJwk } = key
      return { ref: {}, algorithm, checkValue, parity, ...(publicJwk && { publicJwk }) }
    },
    encipher: fails('encipher'),
    decipher: failsLater('decipher'),
    decipherVariant: failsLater('decipherVariant'),
    encipherBound: fails('encipherBound'),
    decipherBound: failsLater('decipherBound'),
    reencipher: fails('reencipher'),
    verifyPin: failsLater('verifyPin'),
    mac: failsLater('mac'),
    deriveContentKey: fails('deriveContentKey'),
    openContent: fails('openContent'),
    sign: fails('sign'),
    randomBytes: failsLater('randomBytes'),
    capabilities: () => capabilities,
    health: fails('health'),
    close: fails('close'),
  }
  return openBackend(driver)
}

/** A fake token that holds the planted keys. */
export class Token {
  readonly fake: FakeToken
  /** The call that fails with an error that quotes its arguments: its number from 1. */
  quoteAt = 0
  #calls = 0

  private constructor(fake: FakeToken) {
    this.fake = fake
  }

  static async make(): Promise<Token> {
    const token = new Token(new FakeToken({ pin: secret.tokenPin, kdf: true }))
    await using store = await token.openStore()
    for (const key of KEYS) {
      const macs = key.usage.startsWith('prw') ? { macs: ['iso9797-1-alg3'] as const } : {}
      await store.importKey({ ...key, ...macs })
    }
    return token
  }

  /** How many calls there were since the last time. */
  count(): number {
    const calls = this.#calls
    this.#calls = 0
    return calls
  }

  get optionsOf(): KeyStoreOptions {
    return { module: this.fake.path, token: 'fake', pin: () => secret.tokenPin, composedMac: true }
  }

  get load(): LoadBinding {
    const { fake } = this
    const binding = new Proxy(fake, {
      get: (_, name) => {
        const member: unknown = Reflect.get(fake, name, fake)
        if (typeof member !== 'function') return member
        return (...args: unknown[]) => {
          this.#calls++
          if (this.#calls !== this.quoteAt) return member.apply(fake, args)
          // Through the wrapper that every native call goes through.
          return call(String(name), () => {
            throw quoting(String(name), args)
          })
        }
      },
    })
    return async () => binding as Pkcs11Binding
  }

  open(more?: Partial<KeyStoreOptions>, where?: OpenOptions): Promise<Backend> {
    return openPkcs11({ ...this.optionsOf, ...more }, this.load, where)
  }

  openStore(more?: Partial<KeyStoreOptions>) {
    return openKeyStoreOver({ ...this.optionsOf, importClearKeys: true, ...more }, this.load)
  }
}
