/**
 * What `serve` does about clients that hold on to it: idle connections, connections without TLS, headers and bodies
 * that drip, headers in bulk. Prints how each ended, and whether D1 was served meanwhile.
 *
 *     node --import tsx native-test/d1/hostile.ts [--connections 1000]
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { parseArgs } from 'node:util'
import { type CallerCard, openCaller } from './caller.js'
import { startServe } from './serve-process.js'

const { values } = parseArgs({ options: { connections: { type: 'string', default: '1000' } } })
const COUNT = Number(values.connections)
const parent = mkdtempSync(join(tmpdir(), 'ipc-hostile-'))
const dir = join(parent, 'run')
const server = await startServe(dir)
const port = Number(new URL(server.url).port)
const file = (name: string): string => readFileSync(join(dir, name), 'utf8')
const secureContext = tls.createSecureContext({
  cert: file('d1.pem'),
  key: file('d1.key'),
  ca: file('ca.pem'),
})

/** Resident memory of `serve`, in MiB. */
const memory = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.child.pid}/status`, 'utf8'))?.[1]) / 1024

interface Ended {
  readonly seconds: number
  readonly said: string
}

/** When the other side ended it, and what it said before. */
function ended(socket: net.Socket): Promise<Ended> {
  const start = performance.now()
  let said = ''
  socket.on('data', chunk => (said += chunk)).on('error', () => {})
  return new Promise(resolve =>
    socket.once('close', () =>
      resolve({ seconds: (performance.now() - start) / 1000, said: said.slice(0, 12) }),
    ),
  )
}

function connect(): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', secureContext }, () =>
      resolve(socket),
    )
    socket.once('error', reject)
  })
}

/** One byte of the text each second, until the other side has had enough. */
async function drip(head: string, rest: string): Promise<Ended> {
  const socket = await connect()
  const end = ended(socket)
  socket.write(head)
  let at = 0
  const timer = setInterval(() => socket.write(rest[at++ % rest.length] ?? ' '), 1000)
  const result = await end
  clearInterval(timer)
  return result
}

/** Get PIN as D1 makes it, on a new connection; the median of some. */
async function serviceTime(): Promise<string> {
  using caller = await openCaller(dir, { connections: 1 })
  const [card] = caller.cards
  const times: number[] = []
  for (let i = 0; i < 20; i++) {
    const start = performance.now()
    const { status } = await caller.getPin(card as CallerCard)
    if (status !== 200) return `status ${status}`
    times.push(performance.now() - start)
  }
  return `${(times.sort((a, b) => a - b)[10] ?? 0).toFixed(1)} ms`
}

const span = (all: readonly Ended[]): string => {
  const seconds = all.map(one => one.seconds).sort((a, b) => a - b)
  return `after ${seconds[0]?.toFixed(1)} to ${seconds.at(-1)?.toFixed(1)} s`
}

const PATH = '/cms/api/v1/issuers/is_tbank01/cards/card-0001/pin'
console.log('quiet', { getPin: await serviceTime(), MiB: memory().toFixed(0) })
{
  const start = performance.now()
  const ends: Promise<Ended>[] = []
  for (let i = 0; i < COUNT; i += 50) {
    const some = await Promise.all(Array.from({ length: Math.min(50, COUNT - i) }, connect))
    ends.push(...some.map(ended))
  }
  const open = ((performance.now() - start) / 1000).toFixed(1)
  const meanwhile = await serviceTime()
  const MiB = memory().toFixed(0)
  console.log(`${COUNT} idle TLS connections, opened in ${open} s`, {
    getPin: meanwhile,
    MiB,
    closed: span(await Promise.all(ends)),
  })
}
{
  const ends = Array.from({ length: COUNT }, () => ended(net.connect(port, '127.0.0.1')))
  const meanwhile = await serviceTime()
  console.log(`${COUNT} connections without TLS`, {
    getPin: meanwhile,
    closed: span(await Promise.all(ends)),
  })
}
{
  const request = `PUT ${PATH} HTTP/1.1\r\nHost: x\r\n`
  const body = `${request}Authorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{`
  const { authorization } = await tokenHeader()
  const slow = [drip(request, 'X-A: b\r\n'), drip(body.replace('Bearer x', authorization), ' ')]
  const [headers, bodies] = await Promise.all(slow)
  console.log('headers that drip', headers)
  console.log('a body that drips', bodies)
}
for (const [what, lines] of [
  ['20 KiB in one header', [`X-A: ${'a'.repeat(20_000)}`]],
  ['20 KiB in many headers', Array.from({ length: 2000 }, (_, i) => `X-${i}: abcdef`)],
  ['1000 short headers', Array.from({ length: 1000 }, (_, i) => `a${i}:b`)],
] as const) {
  const socket = await connect()
  const end = ended(socket)
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines.join('\r\n')}\r\n\r\n`)
  console.log(what, await end)
}
console.log('afterwards', { getPin: await serviceTime(), MiB: memory().toFixed(0) })
await server.stop()
rmSync(parent, { recursive: true })

/** A token of the issuer's, fetched by hand: the caller keeps its own to itself. */
async function tokenHeader(): Promise<{ authorization: string }> {
  const socket = await connect()
  const { client } = JSON.parse(file('simulator.json'))
  const basic = Buffer.from(`${client.id}:${file(client.secretFile)}`).toString('base64')
  const body = 'grant_type=client_credentials'
  const form = 'Content-Type: application/x-www-form-urlencoded'
  socket.write(
    `POST /authz/d1/v1/oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic ${basic}\r\n${form}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  )
  let said = ''
  socket.on('data', chunk => (said += chunk))
  await new Promise(resolve => socket.once('close', resolve))
  return { authorization: `Bearer ${/"access_token":"([^"]+)/.exec(said)?.[1]}` }
}
