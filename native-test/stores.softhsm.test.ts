/**
 * A store moves from keys in software into a token, SoftHSM: the storage key, the key of the row seal and that of the PANs,
 * while a PIN is set now and then; in the end the token's keys alone open everything.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { resealPans, resealRows, rotateStorageKey } from '../src/d1.js'
import { encipherPin, type Key, Pan, Pin } from '../src/index.js'
import { openPostgresIssuerStore } from '../src/postgres.js'
import { softwareBackend } from '../src/software.js'
import { type IssuerStore, panSealer, rowSealer } from '../src/sqlite.js'
import { ISSUER, SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'
import { failure } from '../test/support/errors.js'
import { markdownExamples, readExample } from '../test/support/markdown-examples.js'
import { describePostgres } from './postgres.js'
import { openWith } from './provision.js'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

const CARDS = 40
const folder = mkdtempSync(join(tmpdir(), 'ipc-token-store-'))
afterAll(() => rmSync(folder, { recursive: true }))

const ref = (i: number) => ({ issuerId: ISSUER, cardId: `card-${String(i).padStart(3, '0')}` })
const panOf = (i: number): Pan => Pan.from(String(4_000_001_234_567_000 + i))
const cmac = (kid: string, byte: string) =>
  ({ kid, usage: 'cmac', algorithm: 'aes-256', material: byte.repeat(32) }) as const
const storage = (kid: string, material: string) =>
  ({ kid, usage: 'pin-encryption', algorithm: 'tdea-2key', material }) as const

describeSoftHsm('a store moves into a token', () => {
  const token = makeToken('stores')

  test('storage key, row seal and PANs, while PINs are set', async () => {
    const software = await softwareBackend({
      keys: [storage('STORE-1', '0123456789ABCDEFFEDCBA9876543210'), cmac('ROWS-1', '1A')],
    })
    const hsm = await openWith(token, [
      storage('STORE-2', '89E88CF7931444F334BD7547FC3F380C'),
      cmac('ROWS-2', '2B'),
      cmac('PANS-2', '3C'),
    ])
    const from = await software.bind({ kid: 'STORE-1', usage: 'pin-encryption', hostDecipher: true })
    const to = await hsm.bind({ kid: 'STORE-2', usage: 'pin-encryption' })
    const rows = [
      await hsm.bind({ kid: 'ROWS-2', usage: 'cmac' }),
      await software.bind({ kid: 'ROWS-1', usage: 'cmac' }),
    ] as const
    const pans = [await hsm.bind({ kid: 'PANS-2', usage: 'cmac' }), { kid: 'PAN-1', key: SEAL_KEY }] as const
    const path = join(folder, 'issuer.db')
    const open = (panKeys: Parameters<typeof panSealer>[0]['keys'], rowKeys: readonly Key[]) =>
      openHere({
        path,
        driver: 'better-sqlite3',
        panSealer: panSealer({ keys: panKeys }),
        rowSealer: rowSealer({ keys: rowKeys }),
      })
    const set = async (store: IssuerStore, i: number, pin: string, key: Key): Promise<void> => {
      const block = await encipherPin({ pin: Pin.from(pin), pan: panOf(i), format: 0, key })
      await store.pins.storeBlock(ref(i), { block, kid: key.kid })
    }
    /** Format 0 has nothing random: the token enciphers the PIN again, and gives the block that is stored. */
    const expectPin = async (store: IssuerStore, i: number, pin: string): Promise<void> => {
      const { pan } = (await store.cards.find(ref(i))) ?? expect.unreachable()
      const block = await encipherPin({ pin: Pin.from(pin), pan, format: 0, key: to })
      expect(await store.pins.readBlock(ref(i))).toEqual({ block, kid: 'STORE-2' })
    }
    const pins = new Map(Array.from({ length: CARDS }, (_, i) => [i, String(1000 + i)]))
    {
      await using store = await open([pans[1]], [rows[1]])
      for (const [i, pin] of pins) {
        await store.cards.put(ref(i), { state: 'active', pan: panOf(i), setPinTypes: ['ISO0'] })
        await set(store, i, pin, from)
      }
    }
    {
      await using store = await open(pans, rows)
      const setting = async (): Promise<void> => {
        for (const i of [3, 17, 39]) {
          pins.set(i, String(7000 + i))
          await set(store, i, String(7000 + i), to)
        }
      }
      await Promise.all([rotateStorageKey({ store, from, to, batch: 7 }), setting()])
      expect((await rotateStorageKey({ store, from, to })).left).toBe(0)
      expect(await resealPans({ store, batch: 7 })).toBe(CARDS)
      expect(await resealRows({ store, batch: 7 })).toBe(CARDS)
      expect(await store.seals?.count()).toEqual([{ kid: 'ROWS-2', cards: CARDS }])
      expect(await store.pins.countBlocks()).toEqual([{ kid: 'STORE-2', blocks: CARDS }])
    }
    // What was in software is gone.
    await software.close()
    {
      await using store = await open([pans[0]], [rows[0]])
      for (const [i, pin] of pins) await expectPin(store, i, pin)
      await set(store, 5, '9999', to)
      await expectPin(store, 5, '9999')
      expect(await resealRows({ store })).toBe(CARDS)
      // A token that is away: an error, and nothing is read past its seal.
      await hsm.close()
      await failure(() => store.cards.find(ref(1)), 'ERR_BACKEND_CLOSED')
      await failure(() => store.pins.readBlock(ref(1)), 'ERR_BACKEND_CLOSED')
      await failure(
        () => store.pins.storeBlock(ref(1), { block: new Uint8Array(8), kid: 'STORE-2' }),
        'ERR_BACKEND_CLOSED',
      )
    }
  })
})

describeSoftHsm('by the command, with the module that docs/databases.md shows', () => {
  const token = makeToken('issuer')

  describePostgres('in PostgreSQL', server => {
    test('blocks move from one key of the token to the other', async () => {
      const root = new URL('..', import.meta.url).pathname
      const [shown] = markdownExamples(readFileSync(join(root, 'docs/databases.md'), 'utf8'))
      if (shown === undefined) return expect.unreachable('the page shows no module')
      expect(shown.code).toBe(readExample(root, shown))

      const { connectionString } = server
      const sealKey = Buffer.from(SEAL_KEY).toString('hex')
      const secrets = { 'database-url': connectionString, 'pan-seal.hex': sealKey, 'token-pin': USER_PIN }
      for (const [name, text] of Object.entries(secrets)) writeFileSync(join(folder, name), `${text}\n`)
      {
        await using hsm = await openWith(token, [
          { ...storage('STORE-1', '0123456789ABCDEFFEDCBA9876543210'), hostDecipher: true },
          storage('STORE-2', '89E88CF7931444F334BD7547FC3F380C'),
        ])
        const key = await hsm.bind({ kid: 'STORE-1', usage: 'pin-encryption' })
        const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })
        await using store = await openPostgresIssuerStore({ connectionString, panSealer: sealer })
        for (let i = 0; i < 3; i++) {
          const pan = panOf(i)
          await store.cards.put(ref(i), { state: 'active', pan, setPinTypes: ['ISO0'] })
          const block = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key })
          await store.pins.storeBlock(ref(i), { block, kid: key.kid })
        }
      }
      const env = { ...process.env, PKCS11_MODULE: SOFTHSM_MODULE, SECRETS: folder }
      const storageCommand = (verb: string): string =>
        execFileSync(
          process.execPath,
          [join(root, 'dist/cli.js'), 'storage', verb, '--config', join(root, shown.path)],
          { encoding: 'utf8', env },
        )
      expect(storageCommand('rotate')).toContain('3 blocks moved from STORE-1 to STORE-2, 0 left')
      expect(storageCommand('count')).toMatch(/PIN blocks +STORE-2 +3\n/)
    })
  })
})
