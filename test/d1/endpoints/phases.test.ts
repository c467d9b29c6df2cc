/**
 * The phases in which keys change while two replicas answer D1: storage key and D1's ZPK, as the guide has them. Every
 * replica answers at every point, and what one stored the other reads; in one step it is not so, which is shown, too.
 */

import { afterAll, beforeAll, expect, test } from 'vitest'
import { D1, type PublicJwk } from '../../../examples/demo/d1.js'
import {
  type EndpointHandler,
  type IssuerStore,
  issuerEndpoints,
  memoryIssuerStore,
  rotateStorageKey,
} from '../../../src/d1.js'
import { type Backend, encipherPin, type Key, Pan, Pin } from '../../../src/index.js'
import { softwareBackend } from '../../../src/software.js'
import { ecKeyPair } from '../../support/key-pair.js'
import { get, put } from './support/direct.js'
import { ISSUER, OVER_TLS, PANS, pinPath } from './support/world.js'

const HEX: Readonly<Record<string, string>> = {
  'ZPK-1': '0123456789ABCDEFFEDCBA9876543210',
  'ZPK-2': '1C15B6AB2F7A43E5D3B9F8016E45928A',
  'STORE-1': '89E88CF7931444F334BD7547FC3F380C',
  'STORE-2': '4FD5C7A2893EB6015D02F7E0A8641C9B',
}
const CARDS = ['card-1', 'card-2', 'card-3', 'card-4'] as const
const refOf = (cardId: string) => ({ issuerId: ISSUER, cardId })

let backend: Backend
let jwe: Key
let keys: Record<string, Key>
/** D1 before and after it took over the new ZPK: one private key. */
let d1: Record<string, D1>
let publicJwk: PublicJwk

beforeAll(async () => {
  const { privateKey } = ecKeyPair()
  const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  backend = await softwareBackend({
    keys: [
      ...Object.entries(HEX).map(([kid, material]) => ({ kid, ...tdea, material })),
      { kid: 'JWE-1', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: privateKey },
    ],
  })
  jwe = await backend.bind({ kid: 'JWE-1', usage: 'jwe-key-agreement' })
  keys = Object.fromEntries(
    await Promise.all(
      Object.keys(HEX).map(
        async kid => [kid, await backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })] as const,
      ),
    ),
  )
  const ends = ecKeyPair().privateKey.export({ format: 'jwk' })
  const privateJwk = { ...ends, kid: 'D1-1' } as PublicJwk
  d1 = {}
  for (const kid of ['ZPK-1', 'ZPK-2']) {
    d1[kid] = await D1.start({
      issuerPublicJwk: jwe.publicJwk ?? expect.unreachable(),
      issuerKid: jwe.kid,
      zpk: { kid, hex: HEX[kid] ?? '' },
      privateJwk,
    })
  }
  publicJwk = d1['ZPK-1']?.publicJwk ?? expect.unreachable()
})
afterAll(() => backend.close())

const named = (kids: readonly string[]): Key[] => kids.map(kid => keys[kid] ?? expect.unreachable())

function replica(store: IssuerStore, zpks: readonly string[], storages: readonly string[]): EndpointHandler {
  return issuerEndpoints({
    issuers: {
      [ISSUER]: {
        cards: store.cards,
        pins: store.pins,
        jweKeys: jwe,
        iso0: {
          d1Zpk: named(zpks),
          storage: named(storages),
          d1PublicJwk: publicJwk,
        },
      },
    },
    authorization: 'anyone-who-reaches-it',
    audit: () => {},
  })
}

async function newStore(): Promise<IssuerStore> {
  const store = memoryIssuerStore()
  const pan = Pan.from(PANS.first)
  for (const cardId of CARDS) {
    await store.cards.put(refOf(cardId), { state: 'active', pan, setPinTypes: ['ISO0'] })
    const block = await encipherPin({
      pin: Pin.from('1111'),
      pan,
      format: 0,
      key: named(['STORE-1'])[0] ?? expect.unreachable(),
    })
    await store.pins.storeBlock(refOf(cardId), { block, kid: 'STORE-1' })
  }
  return store
}

/** What D1 reads: it accepts either ZPK once it was told to. */
async function shown(handler: EndpointHandler, cardId: string, accepts: readonly string[]): Promise<string> {
  const response = await handler(get(pinPath(cardId)), OVER_TLS)
  if (response.status !== 200) return String(response.status)
  const body = (await response.json()) as { type: string; encryptedPinBlock: string }
  for (const kid of accepts) {
    const pin = await d1[kid]?.readPin(body, PANS.first).catch(() => undefined)
    if (pin !== undefined) return pin
  }
  return 'under a ZPK that D1 does not accept'
}

async function set(handler: EndpointHandler, cardId: string, pin: string, zpk: string): Promise<number> {
  const body = (await d1[zpk]?.setPinRequest(pin, PANS.first)) ?? ''
  return (await handler(put(body, {}, pinPath(cardId)), OVER_TLS)).status
}

test('two replicas, phase by phase: each answers at every point, and no PIN is lost', async () => {
  await using store = await newStore()
  const last = new Map<string, string>(CARDS.map(cardId => [cardId, '1111']))
  const replicas = [replica(store, ['ZPK-1'], ['STORE-1']), replica(store, ['ZPK-1'], ['STORE-1'])]
  let turn = 1000
  const work = async (sends: string, accepts: readonly string[]): Promise<void> => {
    for (const handler of replicas) {
      const cardId = CARDS[turn % CARDS.length] ?? 'card-1'
      const pin = String(++turn)
      expect(await set(handler, cardId, pin, sends)).toBe(204)
      last.set(cardId, pin)
      for (const reader of replicas)
        for (const [id, known] of last) expect([id, await shown(reader, id, accepts)]).toEqual([id, known])
    }
  }
  const both = ['ZPK-1', 'ZPK-2']
  await work('ZPK-1', ['ZPK-1'])
  const phases: readonly (readonly [zpks: string[], storages: string[], d1Accepts: readonly string[]])[] = [
    [['ZPK-1', 'ZPK-2'], ['STORE-1', 'STORE-2'], ['ZPK-1']],
    // D1 accepts both before any replica uses the new one.
    [['ZPK-2', 'ZPK-1'], ['STORE-2', 'STORE-1'], both],
  ]
  for (const [zpks, storages, accepts] of phases) {
    for (const i of [0, 1]) {
      replicas[i] = replica(store, zpks, storages)
      await work('ZPK-1', accepts)
    }
  }
  await work('ZPK-2', both)
  const [from, to] = named(['STORE-1', 'STORE-2'])
  if (from === undefined || to === undefined) return expect.unreachable()
  await Promise.all([rotateStorageKey({ store, from, to, batch: 1 }), work('ZPK-2', both)])
  expect((await rotateStorageKey({ store, from, to })).left).toBe(0)
  for (const i of [0, 1]) {
    replicas[i] = replica(store, ['ZPK-2'], ['STORE-2'])
    await work('ZPK-2', ['ZPK-2'])
  }
  expect(await store.pins.countBlocks()).toEqual([{ kid: 'STORE-2', blocks: CARDS.length }])
  // The old ZPK is over.
  expect(await set(replicas[0] ?? expect.unreachable(), 'card-1', '7777', 'ZPK-1')).not.toBe(204)
})

test('in one step it does not go: a replica that has the old key alone cannot read what the other stored', async () => {
  await using store = await newStore()
  const [first, second] = [
    replica(store, ['ZPK-1'], ['STORE-2', 'STORE-1']),
    replica(store, ['ZPK-1'], ['STORE-1']),
  ]
  expect(await set(first, 'card-1', '2222', 'ZPK-1')).toBe(204)
  expect(await shown(first, 'card-1', ['ZPK-1'])).toBe('2222')
  expect(await shown(second, 'card-1', ['ZPK-1'])).toBe('500')
})
