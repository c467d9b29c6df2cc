/** `storage`: keys of a database change by command; what is wrong with a call; a bar, lines, and an interruption. */
import { execFileSync, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { main } from '../../src/cli/main.js'
import { type StorageConfig, storageCommand } from '../../src/cli/storage.js'
import { processIo } from '../../src/cli/terminal.js'
import { type IssuerStore, memoryIssuerStore } from '../../src/d1.js'
import { type Backend, encipherPin, type Key, Pan, Pin } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { openSqliteIssuerStore, panSealer, rowSealer } from '../../src/sqlite.js'
import { AVAILABLE } from '../stores/drivers.js'
import { keptIo } from './support/io.js'

const PAN = Pan.from('4000001234567899')
const cardOf = (i: number) => ({ issuerId: 'is_tbank01', cardId: `card-${i}` })
const folder = mkdtempSync(join(tmpdir(), 'cli-storage-'))
let backend: Backend
let token: Backend
let from: Key
let to: Key
let rows: Key

beforeAll(async () => {
  const zpk = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  backend = await softwareBackend({
    keys: [
      { kid: 'STORE-1', ...zpk, material: '0123456789ABCDEFFEDCBA9876543210' },
      { kid: 'ROWS-1', usage: 'cmac', algorithm: 'aes-128', material: '1A'.repeat(16) },
    ],
  })
  // Another backend, as the token that the key moves into.
  token = await softwareBackend({
    keys: [{ kid: 'STORE-2', ...zpk, material: '89E88CF7931444F334BD7547FC3F380C' }],
  })
  from = await backend.bind({ kid: 'STORE-1', usage: 'pin-encryption', hostDecipher: true })
  to = await token.bind({ kid: 'STORE-2', usage: 'pin-encryption' })
  rows = await backend.bind({ kid: 'ROWS-1', usage: 'cmac' })
})
afterAll(async () => {
  await Promise.all([backend.close(), token.close()])
  rmSync(folder, { recursive: true })
})

async function filled(cards: number, rowsToo = false) {
  const [driver] = AVAILABLE
  if (driver === undefined) return expect.unreachable('no SQLite driver')
  const path = join(folder, `${Math.random()}.db`)
  const open = () =>
    openSqliteIssuerStore({
      path,
      driver,
      executor: 'inline',
      panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32) }] }),
      ...(rowsToo && { rowSealer: rowSealer({ keys: [rows] }) }),
    })
  await using store = await open()
  for (let i = 0; i < cards; i++) {
    await store.cards.put(cardOf(i), { state: 'active', pan: PAN, setPinTypes: ['ISO0'] })
    const block = await encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: from })
    await store.pins.storeBlock(cardOf(i), { block, kid: from.kid })
  }
  return Object.assign(open, { path })
}

async function run(args: readonly string[], config: unknown, more: Parameters<typeof keptIo>[0] = {}) {
  const io = keptIo(more)
  const code = await main(['storage', ...args], io, [storageCommand(async () => config)])
  return { code, out: io.output.join('\n'), err: io.errors.join('\n') }
}

const give = (config: Partial<StorageConfig>) => ({ default: async () => config })
const CALL = ['rotate', '--config', 'x.mjs'] as const

describe('wrong calls', () => {
  test.each<[readonly string[], () => unknown, string]>([
    [[], () => undefined, 'ERR_USAGE: storage takes one of count, rotate, pans, rows'],
    [['toString'], () => undefined, 'ERR_USAGE: storage takes one of'],
    [['rotate'], () => undefined, 'ERR_USAGE: --config is missing'],
    [CALL, () => ({}), 'ERR_USAGE: --config: the module must have a function as its default'],
    [CALL, () => give({}), 'ERR_USAGE: --config: the function must give { store }'],
    [CALL, () => give({ store: memoryIssuerStore() }), 'ERR_USAGE: the module must give from and to'],
  ])('%j', async (args, config, message) => {
    const { code, out, err } = await run(args, config())
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toContain(message)
  })

  test('what a module opened that gives no store is closed, and that it fails at that is not what is said', async () => {
    const closed = vi.fn(() => Promise.reject(new Error('password=4711')))
    const { code, err } = await run(CALL, give({ close: closed }))
    expect([code, err, closed.mock.calls.length]).toEqual([
      2,
      expect.stringContaining('ERR_USAGE: --config: the function must give { store }'),
      1,
    ])
    expect(err).not.toContain('4711')
  })

  test('a module that does not load: nothing of it is shown', async () => {
    const path = join(folder, 'broken.mjs')
    writeFileSync(path, 'throw new Error("password=4711")')
    const io = keptIo()
    expect(await main(['storage', 'count', '--config', path], io)).toBe(2)
    expect(io.errors.join()).toBe('ERR_USAGE: --config: the module does not load; try it with node')
    // A device is not read: it does not end.
    for (const none of ['/dev/zero', '/nowhere.mjs', '/', '\0']) {
      const asked = keptIo()
      expect(await main(['storage', 'count', '--config', none], asked)).toBe(2)
      expect(asked.errors).toEqual(['ERR_USAGE: --config: there is no such file'])
    }
  })

  test('a store without seals, and a batch that is none', async () => {
    const rowsOf = await run(['rows', '--config', 'x'], give({ store: memoryIssuerStore() }))
    expect([rowsOf.code, rowsOf.err]).toEqual([2, expect.stringContaining('ERR_ARGUMENT')])
    const batch = await run([...CALL, '--batch', 'many'], give({ store: memoryIssuerStore(), from, to }))
    expect([batch.code, batch.err]).toEqual([2, expect.stringContaining('batch')])
  })
})

test('from a software key to one of another backend: counted, moved, counted, and closed each time', async () => {
  const open = await filled(7, true)
  let closed = 0
  const config = { default: async () => ({ store: await open(), from, to, close: () => closed++ }) }
  const before = await run(['count', '--config', 'x'], config)
  expect(before.out).toMatch(/PIN blocks +STORE-1 +7/)
  expect(before.out).toMatch(/sealed cards +ROWS-1 +7/)
  const moved = await run([...CALL, '--batch', '2'], config)
  expect(moved).toMatchObject({
    code: 0,
    out: '7 blocks moved from STORE-1 to STORE-2, 0 left; 0 were set meanwhile',
  })
  expect(moved.err.split('\n')).toEqual(['2 of 7', '4 of 7', '6 of 7', '7 of 7'])
  expect((await run(['count', '--config', 'x'], config)).out).toMatch(/PIN blocks +STORE-2 +7/)
  expect((await run(['rows', '--config', 'x'], config)).out).toContain('the rows of 7 cards match')
  expect((await run(['pans', '--config', 'x'], config)).out).toContain('the PANs of 7 cards')
  expect(closed).toBe(5)
})

test('a line for each tenth of what is under the old key, whatever else is stored; and as JSON', async () => {
  const store = memoryIssuerStore()
  const block = await encipherPin({ pin: Pin.from('1234'), pan: PAN, format: 0, key: from })
  // The first is under another key, which comes first by its name, too.
  for (let i = 0; i <= 12; i++) {
    await store.cards.put(cardOf(i), { state: 'active', pan: PAN, setPinTypes: ['ISO0'] })
    await store.pins.storeBlock(cardOf(i), { block, kid: i === 0 ? 'STORE-0' : from.kid })
  }
  const { code, out, err } = await run([...CALL, '--batch', '1', '--json'], give({ store, from, to }))
  const said = [2, 3, 4, 5, 6, 8, 9, 10, 11, 12].map(done => `${done} of 12`)
  expect([code, err.split('\n')]).toEqual([0, said])
  expect(JSON.parse(out)).toEqual({ from: 'STORE-1', to: 'STORE-2', moved: 12, changed: 0, left: 0 })
})

test.each([false, true])(
  'the store is closed before what it was opened with, and both are: %s',
  async fails => {
    const closed: string[] = []
    const store = {
      pins: { countBlocks: async () => [] },
      close: async () => {
        closed.push('store')
        if (fails) throw new Error('the disk is full')
      },
    } as unknown as IssuerStore
    const { code } = await run(
      ['count', '--config', 'x'],
      give({ store, close: () => closed.push('backend') }),
    )
    expect(code).toBe(fails ? 1 : 0)
    expect(closed).toEqual(['store', 'backend'])
  },
)

test('on a terminal: one bar', async () => {
  const open = await filled(3)
  const { err } = await run([...CALL, '--batch', '1'], give({ store: await open(), from, to }), {
    terminal: true,
  })
  expect(err.split('\n')).toEqual([
    '[##########....................] 1 of 3',
    '[####################..........] 2 of 3',
    '[##############################] 3 of 3',
  ])
  const { err: pans } = await run(['pans', '--config', 'x', '--batch', '2'], give({ store: await open() }), {
    terminal: true,
  })
  expect(pans.split('\n')).toEqual(['2', '3'])
  const sealed = await filled(3, true)
  const { err: rows } = await run(
    ['rows', '--config', 'x', '--batch', '2'],
    give({ store: await sealed() }),
    {
      terminal: true,
    },
  )
  expect(rows.split('\n')).toEqual(['2', '3'])
})

test('of a store without seals, PIN blocks alone are counted, and nothing is moved from a key that has none', async () => {
  const { code, out } = await run(['count', '--config', 'x', '--json'], give({ store: memoryIssuerStore() }))
  expect([code, JSON.parse(out)]).toEqual([0, { blocks: [], seals: [] }])
  const moved = await run(CALL, give({ store: memoryIssuerStore(), from, to }))
  expect([moved.code, moved.out]).toEqual([0, expect.stringMatching(/^0 blocks moved from STORE-1/)])
})

test('where nobody knows how many there are, there is a line for each 100,000', async () => {
  const { pins } = memoryIssuerStore()
  let batches = 0
  const reseal = async () => (batches++ < 3 ? new Array(60_000).fill(cardOf(1)) : [])
  const many = { pins, cards: { reseal }, close: async () => {} }
  const { err } = await run(['pans', '--config', 'x'], give({ store: many as never }))
  expect(err.split('\n')).toEqual(['120000'])
})

test('interrupted, it says so, whatever it is at, and run again it goes on', async () => {
  const open = await filled(3, true)
  for (const verb of ['rotate', 'pans', 'rows']) {
    const stopped = await run([verb, ...CALL.slice(1)], give({ store: await open(), from, to }), {
      interrupted: AbortSignal.abort(),
    })
    expect([stopped.code, stopped.err]).toEqual([1, expect.stringContaining('ERR_ABORTED')])
  }
  expect((await run(CALL, give({ store: await open(), from, to }))).out).toContain('3 blocks moved')
})

test('what a replica goes on storing under the old key is left, and said', async () => {
  const open = await filled(1)
  const store = await open()
  const block = await encipherPin({ pin: Pin.from('7777'), pan: PAN, format: 0, key: from })
  const pins = {
    ...store.pins,
    countBlocks: store.pins.countBlocks,
    listBlocks: store.pins.listBlocks,
    replaceBlocks: async (list: Parameters<typeof store.pins.replaceBlocks>[0]) => {
      await store.pins.storeBlock(cardOf(0), { block, kid: from.kid })
      return store.pins.replaceBlocks(list)
    },
  }
  const { code, out, err } = await run(
    CALL,
    give({ store: { ...store, pins, close: () => store.close() } as never, from, to }),
  )
  expect([code, out]).toEqual([1, '0 blocks moved from STORE-1 to STORE-2, 1 left; 1 were set meanwhile'])
  expect(err).toContain('a replica still stores under STORE-1')
})

test.each([
  [{ isTTY: true, columns: 100 }, 100],
  [{ isTTY: true, columns: 0 }, undefined],
  [{ columns: 100 }, undefined],
])('standard output %j is %s columns wide', (stdout, columns) => {
  expect(processIo({ stdin: {}, stdout, stderr: {}, env: {} } as never).columns).toBe(columns)
})

test.each(['SIGINT', 'SIGTERM'])(
  'the process: %s ends the work, not the program; a terminal gets its line anew',
  name => {
    const written: string[] = []
    const host = Object.assign(new EventEmitter(), {
      stdin: {},
      stdout: { write: () => true },
      stderr: { isTTY: true, write: (text: string) => written.push(text) },
      env: {},
    })
    const io = processIo(host as never)
    const signal = io.interrupted?.()
    host.emit(name)
    expect(signal?.aborted).toBe(true)
    io.progress?.('1 of 2')
    io.out('done')
    io.err('also')
    // The line of progress is cleared before anything else is shown, once.
    expect(written).toEqual(['\r\x1b[K1 of 2', '\r\x1b[K', 'also\n'])
  },
)

test('killed in the middle of its work, it goes on where it was', async () => {
  const open = await filled(40)
  const path = join(folder, 'storage.mts')
  const root = new URL('../../src/', import.meta.url).href
  writeFileSync(path, configText(root, open.path, AVAILABLE[0] ?? ''))
  const start = (batch: string) =>
    spawn(
      process.execPath,
      [
        '--no-warnings',
        '--import',
        'tsx',
        'src/cli/cli.ts',
        'storage',
        'rotate',
        '--config',
        path,
        '--batch',
        batch,
      ],
      {
        cwd: new URL('../..', import.meta.url).pathname,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
  const first = start('1')
  first.stderr.once('data', () => first.kill('SIGKILL'))
  await once(first, 'exit')
  const output = execFileSync(
    process.execPath,
    ['--no-warnings', '--import', 'tsx', 'src/cli/cli.ts', 'storage', 'rotate', '--config', path],
    {
      cwd: new URL('../..', import.meta.url).pathname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  )
  expect(output).toMatch(/blocks moved from STORE-1 to STORE-2, 0 left/)
})

function configText(root: string, database: string, driver: string): string {
  return `
    const { softwareBackend } = await import('${root}software.ts')
    const { openSqliteIssuerStore, panSealer } = await import('${root}sqlite.ts')
    export default async () => {
      const zpk = { usage: 'pin-encryption', algorithm: 'tdea-2key' }
      const backend = await softwareBackend({ keys: [
        { kid: 'STORE-1', ...zpk, material: '0123456789ABCDEFFEDCBA9876543210' },
        { kid: 'STORE-2', ...zpk, material: '89E88CF7931444F334BD7547FC3F380C' } ] })
      const bind = kid => backend.bind({ kid, usage: 'pin-encryption', hostDecipher: true })
      const store = await openSqliteIssuerStore({ path: '${database}', driver: '${driver}', executor: 'inline',
        panSealer: panSealer({ keys: [{ kid: 'PAN-1', key: new Uint8Array(32) }] }) })
      return { store, from: await bind('STORE-1'), to: await bind('STORE-2'), close: () => backend.close() }
    }`
}
