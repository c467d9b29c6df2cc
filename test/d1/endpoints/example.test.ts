/** The example server, as a process of its own, and a D1 that calls it. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { D1 } from '../../../examples/demo/d1.js'
import { seccosContent } from '../../../examples/demo/d1-seccos.js'
import { makeCertificates } from './support/certificates.js'
import { basic, FORM_TYPE, JSON_TYPE, TOKEN_PATH } from './support/world.js'

const ROOT = new URL('../../..', import.meta.url).pathname
const CARD = (cardId: string): string => `/cms/api/v1/issuers/is_tbank01/cards/${cardId}/pin`

/** What the server says of itself in its first line. */
interface Greeting {
  readonly address: { readonly port: number }
  readonly issuerPublicJwk: { readonly kid: string }
  readonly shared: { readonly zpk: string; readonly mac: string }
  readonly client: { readonly clientId: string; readonly clientSecret: string }
}

test('the example server does what its head says', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'issuer-example-'))
  const { ca, server, client } = makeCertificates()
  const nobody = { issuerPublicJwk: {}, issuerKid: '', zpk: { hex: '', kid: 'ZPK-D1' } }
  const d1Jwk = JSON.stringify((await D1.start(nobody)).publicJwk)
  const files = { key: server.key, cert: server.cert, ca, d1: d1Jwk }
  const paths = Object.entries(files).map(([name, text]) => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  })
  const tsx = ['--import', 'tsx', 'examples/endpoints/server.ts', ...paths, '0']
  // The sources, not the build.
  const env = { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.test.json' }
  const child = spawn(process.execPath, tsx, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const agent = new https.Agent({ ca, ...client })
  try {
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    const greeting: Greeting = JSON.parse((await lines.next()).value ?? '')
    const { port } = greeting.address
    const ask = (
      path: string,
      method: string,
      headers: object,
      body = '',
    ): Promise<{ status: number; body: string }> =>
      new Promise((resolve, reject) => {
        const length = { 'content-length': Buffer.byteLength(body) }
        const options = { host: 'localhost', port, agent, path, method, headers: { ...headers, ...length } }
        https
          .request(options, response => {
            let text = ''
            response.on('data', chunk => (text += chunk))
            response.once('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
          })
          .once('error', reject)
          .end(body)
      })

    const { clientId, clientSecret } = greeting.client
    const grant = { ...FORM_TYPE, authorization: basic(clientId, clientSecret) }
    const token = JSON.parse((await ask(TOKEN_PATH, 'POST', grant, 'grant_type=client_credentials')).body)
    const headers = { ...JSON_TYPE, authorization: `Bearer ${token.access_token}` }
    const { issuerPublicJwk, shared } = greeting
    const d1 = await D1.start({
      issuerPublicJwk,
      issuerKid: issuerPublicJwk.kid,
      zpk: { hex: shared.zpk, kid: 'ZPK-D1' },
    })

    const iso0 = await d1.setPinRequest('905238', '9999990123456789')
    expect(await ask(CARD('card-0001'), 'PUT', headers, iso0)).toEqual({ status: 204, body: '' })
    expect(await ask(CARD('card-0001'), 'GET', headers)).toMatchObject({ status: 200 })

    const counter = JSON.parse((await ask(`${CARD('card-0002')}/changeCounter`, 'GET', headers)).body)
    const card = { pan: '9999980000000012', psn: '01', expiry: '2912', issuer: 'is_tbank01' }
    const keys = {
      prw: { hex: '0123456789ABCDEFFEDCBA9876543210', kid: 'PRW-1' },
      mac: { hex: shared.mac, kid: 'MAC-1' },
    }
    const seccos = await d1.seal('3DES_SECCOS', seccosContent('905238', card, counter, keys))
    for (let i = 0; i < 2; i++) {
      expect(await ask(CARD('card-0002'), 'PUT', headers, seccos)).toEqual({ status: 204, body: '' })
    }
    expect(await ask(CARD('card-0002'), 'GET', headers)).toMatchObject({ status: 403 })

    const events: Record<string, unknown>[] = []
    while (events.length < 7) events.push(JSON.parse((await lines.next()).value ?? ''))
    expect(events.map(event => event['d1.operation'])).toEqual([
      'getToken',
      'SetPIN',
      'getPIN',
      'getPINChangeCounter',
      'SetPIN',
      'SetPIN',
      'getPIN',
    ])
  } finally {
    agent.destroy()
    child.kill()
    rmSync(folder, { recursive: true })
  }
})
