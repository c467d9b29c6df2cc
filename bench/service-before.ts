/**
 * `npx tsx bench/service-before.ts DIR [--requests 1000] [--rounds 5] [--verbs [--without-agreement]]`: processor time of a request over real TLS 1.3 with a client
 * certificate and connections kept alive, of this checkout beside an older one. DIR: a worktree of the commit before, with its
 * node_modules. Each server is a process of its own and is asked by this one, in rounds that take turns.
 * With `--verbs`: of the verbs `openSetPinRequest` and `getPinResponse`, both checkouts (`npx tsup --no-dts` in each) in this process.
 * With `--verbs --without-agreement`: what is left of them where `computeSecret` answers with 32 bytes that are there. The key agreement
 * is two thirds of a verb, the same on both sides, and varies by more than the rest has changed.
 *
 *     git worktree add ../before 4c8dea9 && cp -al node_modules ../before/
 */
import { fork } from 'node:child_process'
import crypto from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { hold, spread } from './contest.js'

const CONNECTIONS = 8

/** What a server says of itself. */
interface Server {
  readonly port: number
  readonly paths: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
}

/** The server's side: the tests' issuer of the checkout at `root`, in memory, behind `nodeListener`. */
async function serve(root: string): Promise<void> {
  const load = (path: string): Promise<Record<string, never>> => import(pathToFileURL(join(root, path)).href)
  const d1 = await load(existsSync(join(root, 'src/d1.ts')) ? 'src/d1.ts' : 'src/d1/endpoints/index.ts')
  const { certificates, serverTls } = (await load('test/d1/endpoints/support/wire.ts')) as never as {
    certificates: { ca: string; client: { cert: string; key: string } }
    serverTls: https.ServerOptions
  }
  const { ISSUER, pinPath, World } = (await load('test/d1/endpoints/support/world.ts')) as never as {
    ISSUER: string
    pinPath: (card: string, issuer: string) => string
    World: { open(): Promise<{ handler(more: object): never; authorized(): Promise<Server['headers']> }> }
  }
  const world = await World.open()
  const { nodeListener } = d1 as never as { nodeListener: (handler: never) => never }
  const server = https.createServer(serverTls, nodeListener(world.handler({ audit: () => {} })))
  await once(server.listen(0, 'localhost'), 'listening')
  const { port } = server.address() as AddressInfo
  const paths = { 'Get PIN': pinPath('card-1', ISSUER), '404': '/cms/api/v1/issuers/x' }
  process.on('message', () => process.send?.(process.cpuUsage()))
  process.send?.({
    port,
    paths,
    headers: await world.authorized(),
    tls: { ca: certificates.ca, ...certificates.client },
  })
}

const HERE = fileURLToPath(new URL('..', import.meta.url))

/** What is used of a checkout's sources, in the words of today; the members that are called otherwise before are given twice. */
interface Sources {
  readonly Pin: { from(digits: string): object }
  readonly Pan: { from(digits: string): object }
  encipherPin(input: object): Promise<Uint8Array>
  softwareBackend(options: object): Promise<{ bind(spec: object): Promise<{ readonly publicJwk?: object }> }>
  getPinResponse(input: object): Promise<object>
  openSetPinRequest(input: object): Promise<{ readonly block: Uint8Array }>
}

/** The two verbs of a checkout, on keys and a message of its own. */
async function verbsOf(root: string): Promise<Readonly<Record<string, () => Promise<object>>>> {
  const load = (path: string): Promise<object> => import(pathToFileURL(join(root, path)).href)
  const isNow = existsSync(join(root, 'src/d1.ts'))
  // As they are published: what runs sources wraps every function.
  const parts = ['index', 'software', 'd1'].map(name => load(`dist/${name}.js`))
  const sources = Object.assign({}, ...(await Promise.all(parts))) as Sources
  const { Pin, Pan, encipherPin, softwareBackend, getPinResponse, openSetPinRequest } = sources
  const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' }
  const backend = await softwareBackend({
    keys: [
      { ...tdea, kid: 'ZPK', material: '0123456789ABCDEFFEDCBA9876543210' },
      { ...tdea, kid: 'PEK', material: '89E88CF7931444F334BD7547FC3F380C' },
      { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: '11'.repeat(32) },
    ],
  })
  const zpk = await backend.bind({ kid: 'ZPK', usage: 'pin-encryption', hostDecipher: true })
  const storage = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
  const jweKeys = await backend.bind({ kid: 'JWE', usage: 'jwe-key-agreement' })
  const pan = Pan.from('9999990123456789')
  const block = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: storage })
  const d1PublicJwk = { ...jweKeys.publicJwk, kid: 'JWE' }
  const stored = isNow ? { from: storage, to: zpk } : { under: storage, d1Zpk: zpk }
  const getPin = (): Promise<object> => getPinResponse({ block, pan, d1PublicJwk, ...stored })
  const body = JSON.stringify(await getPin())
  const keys = isNow ? { from: zpk, to: storage } : { d1Zpk: zpk, storage }
  const setPin = (): Promise<{ readonly block: Uint8Array }> =>
    openSetPinRequest({ body, jweKeys, pan, ...keys })
  if (!Buffer.from(block).equals((await setPin()).block)) throw new Error('the verbs give a wrong answer')
  return { openSetPinRequest: setPin, getPinResponse: getPin }
}

/** Every agreement of this process gives the same Z, in memory of its own as Node's is: both sides of a message still agree. */
function leaveAgreementOut(): void {
  Object.assign(crypto.ECDH.prototype, { computeSecret: () => Buffer.from(new ArrayBuffer(32)).fill(7) })
}

/** The verbs of both checkouts, in rounds that take turns. */
async function compareVerbs(before: string, rounds: number): Promise<void> {
  const sides = { before: await verbsOf(before), now: await verbsOf(HERE) }
  console.log(
    '| verb | before, µs | now, µs | now, times as fast | least disturbed, by the wall |\n|---|--:|--:|--:|--:|',
  )
  for (const verb of ['openSetPinRequest', 'getPinResponse']) {
    const contest = await hold(
      {
        title: verb,
        ways: Object.entries(sides).map(([name, verbs]) => ({ name, run: () => verbs[verb]?.() })),
        targets: [{ ours: 'now', peer: 'before', atLeast: 1 }],
      },
      { rounds, milliseconds: 60 },
    )
    const [old, now] = contest.ways.map(({ cpu: { low, median, high } }) =>
      [median, low, high].map(time => (time / 1000).toFixed(0)),
    )
    const cell = ([median, low, high]: readonly string[] = []): string => `${median} (${low}–${high})`
    const { low, median, high } = contest.targets[0]?.cpu ?? { low: 0, median: 0, high: 0 }
    const ratio = cell([median, low, high].map(value => value.toFixed(2)))
    const least = contest.targets[0]?.undisturbed.toFixed(2)
    console.log(`| ${verb} | ${cell(old)} | ${cell(now)} | ${ratio} | ${least} |`)
  }
  process.exit()
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      requests: { type: 'string', default: '1000' },
      rounds: { type: 'string', default: '5' },
      verbs: { type: 'boolean', default: false },
      'without-agreement': { type: 'boolean', default: false },
    },
  })
  const [before] = positionals
  if (before === undefined) throw new Error('service-before takes the directory of an older checkout')
  if (values['without-agreement']) leaveAgreementOut()
  if (values.verbs) return compareVerbs(resolve(before), Number(values.rounds))
  const requests = Number(values.requests)
  const sides = await Promise.all(
    Object.entries({ before: resolve(before), now: HERE }).map(async ([name, root]) => {
      const child = fork(fileURLToPath(import.meta.url), ['--serve', root], {
        cwd: root,
        execArgv: ['--import', 'tsx'],
      })
      const [server] = (await once(child, 'message')) as [Server]
      const agent = new https.Agent({ keepAlive: true, maxSockets: CONNECTIONS, ...server.tls })
      return { name, child, server, agent }
    }),
  )
  const cpu = async ({ child }: (typeof sides)[number]): Promise<number> => {
    child.send('processor time')
    const [{ user, system }] = (await once(child, 'message')) as [NodeJS.CpuUsage]
    return user + system
  }
  const ask = ({ server, agent }: (typeof sides)[number], path: string): Promise<number | undefined> =>
    new Promise((done, failed) => {
      const { port, headers } = server
      https
        .get({ host: 'localhost', port, path, headers, agent }, response => {
          response.resume().once('end', () => done(response.statusCode))
        })
        .once('error', failed)
    })
  console.log('| request | before, µs | now, µs | saved |\n|---|--:|--:|--:|')
  for (const [kind, status] of [
    ['Get PIN', 200],
    ['404', 404],
  ] as const) {
    const times: Record<string, number[]> = { before: [], now: [] }
    for (let round = -1; round < Number(values.rounds); round++) {
      for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
        const started = await cpu(side)
        let left = requests
        const worker = async (): Promise<void> => {
          while (left-- > 0) {
            const got = await ask(side, side.server.paths[kind] ?? '')
            if (got !== status) throw new Error(`${kind}: status ${got}`)
          }
        }
        await Promise.all(Array.from({ length: CONNECTIONS }, worker))
        // The first round warms up.
        if (round >= 0) times[side.name]?.push(((await cpu(side)) - started) / requests)
      }
    }
    const [old, now] = [spread(times['before'] ?? []), spread(times['now'] ?? [])]
    const shown = ({ low, median, high }: typeof old): string =>
      `${median.toFixed(0)} (${low.toFixed(0)}–${high.toFixed(0)})`
    console.log(
      `| ${kind} | ${shown(old)} | ${shown(now)} | ${(100 * (1 - now.median / old.median)).toFixed(0)} % |`,
    )
  }
  for (const { child, agent } of sides) {
    agent.destroy()
    child.kill()
  }
}

const [flag, root] = process.argv.slice(2)
const work = flag === '--serve' && root !== undefined ? serve(root) : main()
work.catch(error => {
  console.error(error)
  process.exitCode = 1
})
