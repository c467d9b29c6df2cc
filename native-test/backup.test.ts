/**
 * The backup commands of `docs/databases.md`, run as they are there but for the paths, while the store writes; what a
 * restored, older counter would do, and that `supersedeAll` keeps it from that.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { Pan } from '../src/index.js'
import { type IssuerStore, openPostgresIssuerStore } from '../src/postgres.js'
import { panSealer } from '../src/sqlite.js'
import { AVAILABLE } from '../test/stores/drivers.js'
import { counterOn, ISSUER, prwOf, SEAL_KEY } from '../test/stores/store-fixtures.js'
import { openHere } from '../test/stores/threads.js'
import { describePostgres, PostgresServer } from './postgres.js'

const GUIDE = readFileSync(new URL('../docs/databases.md', import.meta.url), 'utf8')
const commandWith = (word: string): string =>
  Array.from(GUIDE.matchAll(/^```sh\n([^`]*)```$/gm), ([, text = '']) => text).find(text =>
    text.includes(word),
  ) ?? expect.unreachable(`the guide has no command with ${word}`)

const CARD = { issuerId: ISSUER, cardId: 'card-0001' }
const RECORD = { state: 'active', pan: Pan.from('9999990123456789'), setPinTypes: ['3DES_SECCOS'] } as const
const sealer = panSealer({ keys: [{ kid: 'PAN-1', key: SEAL_KEY }] })

const issue = (store: IssuerStore) => counterOn(store).issue({ cardId: CARD.cardId })
function accept(store: IssuerStore, issued: { pcc: string; intdatag: string }, mark: number) {
  return counterOn(store).accept({
    request: { ...issued, cardId: CARD.cardId, fingerprint: new Uint8Array(32).fill(mark) },
    store: ({ sequence }) => store.pins.storePrw(CARD, prwOf(sequence, mark)),
  })
}

/** One Set PIN is in the backup; another is under way when it is taken, and done after it. */
async function useThenBackUp(store: IssuerStore, backUp: () => Promise<void> | void) {
  await store.cards.put(CARD, RECORD)
  await accept(store, await issue(store), 1)
  const open = await issue(store)
  let stop = false
  const writing = (async () => {
    for (let i = 0; !stop; i++) await store.cards.put({ ...CARD, cardId: `other-${i % 50}` }, RECORD)
  })()
  await backUp()
  stop = true
  await writing
  await accept(store, open, 2)
  return open
}

/** The backup holds the card and its PIN; its counter is older than the world, and is told so. */
async function expectFenced(
  restored: IssuerStore,
  open: { pcc: string; intdatag: string },
  byItself: boolean,
) {
  expect((await restored.cards.find(CARD))?.pan.reveal()).toBe('9999990123456789')
  expect(Number((await restored.pins.readPrw(CARD))?.prwValue)).toBe(1)
  const counter = counterOn(restored)
  const check = () => counter.check({ ...open, cardId: CARD.cardId, fingerprint: new Uint8Array(32).fill(3) })
  // In a file nothing says that it is a copy: what was spent is open again. A server is another instance.
  if (byItself) await expect(check()).rejects.toMatchObject({ reason: 'failover' })
  else expect(await check()).toEqual({ replayed: false })
  expect(await counter.supersedeAll({ skip: 1 })).toBe(1)
  await expect(check()).rejects.toMatchObject({ reason: 'superseded' })
  const next = await issue(restored)
  // 0001 was used before the backup, 0002 after it.
  expect(next.pcc).toBe('0003')
  const { sequence } = await accept(restored, next, 4)
  expect(sequence).toBeGreaterThan(2 ** 32)
}

describe.each(AVAILABLE)('SQLite, %s', driver => {
  const folder = mkdtempSync(join(tmpdir(), 'ipc-backup-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('the command of the guide, while the store writes; the copy restored and fenced', async () => {
    const [path, copy] = [join(folder, 'issuer.db'), join(folder, 'copy.db')]
    await using store = await openHere({ path, driver, panSealer: sealer })
    const command = commandWith('VACUUM INTO')
      .replaceAll('/var/lib/issuer/issuer.db', path)
      .replaceAll('/backup/issuer.db', copy)
    const open = await useThenBackUp(store, () => void execFileSync('sh', ['-c', command]))
    expect(statSync(copy).mode & 0o777).toBe(0o600)
    await using restored = await openHere({ path: copy, driver, panSealer: sealer })
    await expectFenced(restored, open, false)
  })

  test('a copy of the .db alone has no card in it, as the guide warns', async () => {
    const [path, copy] = [join(folder, 'alone.db'), join(folder, 'alone-copy.db')]
    await using store = await openHere({ path, driver, panSealer: sealer })
    await store.cards.put(CARD, RECORD)
    execFileSync('cp', [path, copy])
    await using restored = await openHere({ path: copy, driver, panSealer: sealer })
    expect(await restored.cards.find(CARD)).toBeUndefined()
  })
})

describePostgres('backup: PostgreSQL', server => {
  test('the command of the guide, while the store writes; the copy restored and fenced', async () => {
    const { connectionString, password, port } = server
    await using store = await openPostgresIssuerStore({
      connectionString,
      panSealer: sealer,
      timeoutMs: 20_000,
    })
    const copy = new PostgresServer()
    try {
      const open = await useThenBackUp(store, () =>
        copy.restore(({ data, ...owner }) => {
          const command = commandWith('pg_basebackup').replaceAll('/backup/base', data)
          const env = {
            ...process.env,
            PGHOST: '127.0.0.1',
            PGPORT: String(port),
            PGUSER: 'issuer',
            PGPASSWORD: password,
          }
          const PATH = `${process.env['PATH']}:/usr/lib/postgresql/15/bin`
          execFileSync('sh', ['-c', command], { ...owner, env: { ...env, PATH }, cwd: '/' })
        }),
      )
      await copy.start()
      await using restored = await openPostgresIssuerStore({
        connectionString: copy.connectionString,
        panSealer: sealer,
        timeoutMs: 20_000,
      })
      await expectFenced(restored, open, true)
    } finally {
      await copy.remove()
    }
  })
})
