/**
 * `npx tsx bench/service.ts [--requests 4000] [--rounds 6]`: what the service costs the processor for each request, over
 * real TLS 1.3 with a client certificate and connections kept alive. `nodeListener` with the handler itself, and around the
 * handler's Web form (`Request` and `Response`, as it was before), in rounds by turns in one process; the client is another
 * process. Processor time of the server's process, user and system, by `process.cpuUsage`.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { nodeListener } from '../src/d1.js'
import { certificates, serverTls } from '../test/d1/endpoints/support/wire.js'
import { ISSUER, JSON_TYPE, pinPath, World } from '../test/d1/endpoints/support/world.js'

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '4000' },
    rounds: { type: 'string', default: '6' },
    child: { type: 'boolean', default: false },
  },
})
const REQUESTS = Number(values.requests)
const ONLY = process.env['ONLY']
const CONNECTIONS = 8

interface Task {
  readonly port: number
  readonly path: string
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string
  readonly status: number
  /** Of the server's process: each makes its own. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
}

/** The client: so many requests over a few connections, each answer looked at. */
async function ask({ port, path, method, headers, body, status, tls }: Task): Promise<void> {
  const agent = new https.Agent({ keepAlive: true, maxSockets: CONNECTIONS, ...tls })
  let left = REQUESTS
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const options = { host: 'localhost', port, path, method, headers, agent }
      https
        .request(options, response => {
          if (response.statusCode !== status) reject(new Error(`status ${response.statusCode}`))
          response.resume().once('end', resolve)
        })
        .once('error', reject)
        .end(body)
    })
  const worker = async (): Promise<void> => {
    while (left-- > 0) await one()
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, worker))
  agent.destroy()
}

const median = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1] ?? 0

async function main(): Promise<void> {
  await using world = await World.open()
  const handler = world.handler({ audit: () => {} })
  const web = (...call: Parameters<typeof handler>) => handler(...call)
  const servers = {
    'Request and Response': https.createServer(serverTls, nodeListener(web)),
    direct: https.createServer(serverTls, nodeListener(handler)),
  }
  const client = fork(new URL(import.meta.url).pathname, ['--child', '--requests', String(REQUESTS)], {
    execArgv: ['--import', 'tsx'],
  })
  const headers = await world.authorized()
  const put = { ...headers, ...JSON_TYPE }
  const cases: readonly [string, Omit<Task, 'port' | 'tls'>][] = [
    ['404', { path: '/cms/api/v1/issuers/x', method: 'GET', headers, status: 404 }],
    ['Get PIN', { path: pinPath('card-1', ISSUER), method: 'GET', headers, status: 200 }],
    [
      'Set PIN, repeated',
      { path: pinPath('card-1'), method: 'PUT', headers: put, body: await world.iso0(), status: 204 },
    ],
  ]
  for (const server of Object.values(servers)) await once(server.listen(0, 'localhost'), 'listening')
  console.log('| request | way | µs of processor time | spread |\n|---|---|--:|--:|')
  for (const [name, task] of cases) {
    if (ONLY !== undefined && ONLY !== name) continue
    const times = new Map<string, number[]>()
    for (let round = -1; round < Number(values.rounds); round++) {
      for (const [way, server] of Object.entries(servers)) {
        const { port } = server.address() as AddressInfo
        const before = process.cpuUsage()
        client.send({ ...task, port, tls: { ca: certificates.ca, ...certificates.client } })
        const [answer] = await once(client, 'message')
        if (answer !== 'done') throw new Error(String(answer))
        const { user, system } = process.cpuUsage(before)
        // The first round warms up.
        if (round >= 0) times.set(way, [...(times.get(way) ?? []), (user + system) / REQUESTS])
      }
    }
    for (const [way, list] of times) {
      const spread = `${Math.min(...list).toFixed(0)}–${Math.max(...list).toFixed(0)}`
      console.log(`| ${name} | ${way} | ${median(list).toFixed(0)} | ${spread} |`)
    }
    const [web = 0, direct = 0] = [...times.values()].map(median)
    console.log(`| ${name} | saved | **${Math.round(100 * (1 - direct / web))} %** | |`)
  }
  client.kill()
  for (const server of Object.values(servers)) server.closeAllConnections()
  for (const server of Object.values(servers)) server.close()
}

if (values.child) {
  process.on('message', (task: Task) => {
    ask(task).then(
      () => process.send?.('done'),
      error => process.send?.(String(error)),
    )
  })
} else {
  main().catch(error => {
    console.error(error)
    process.exitCode = 1
  })
}
