/** D1 as a caller of `serve`: by `simulator.json`, over TLS with D1's client certificate, with jose and node-forge. */
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { join } from 'node:path'
import { D1 } from '../../examples/demo/d1.js'
import { seccosContent } from '../../examples/demo/d1-seccos.js'

export interface CallerCard {
  readonly cardId: string
  readonly pan: string
  readonly state: string
  readonly setPinTypes: readonly string[]
  readonly pin?: string
  readonly fields: { readonly psn: string; readonly expiry: string; readonly issuer: string }
}

export interface Counter {
  readonly pcc: string
  readonly intdatag: string
}

export interface Answer {
  readonly status: number
  readonly text: string
}

export interface Caller extends Disposable {
  readonly cards: readonly CallerCard[]
  /** The status, and the PIN where it is 200. */
  getPin(card: CallerCard): Promise<{ readonly status: number; readonly pin?: string }>
  counter(card: CallerCard): Promise<Counter>
  /** The body of a Set PIN, to be sent once or again. */
  iso0(card: CallerCard, pin: string): Promise<string>
  seccos(card: CallerCard, pin: string, counter: Counter): Promise<string>
  setPin(card: CallerCard, body: string): Promise<number>
}

/** Reads what `serve` wrote into its folder, and fetches a token. `url`: another process on the same folder. */
export async function openCaller(
  dir: string,
  options: { connections?: number; url?: string } = {},
): Promise<Caller> {
  const file = (name: string): string => readFileSync(join(dir, name), 'utf8').trim()
  const config = JSON.parse(file('simulator.json'))
  const { tls, client, zpk, seccos } = config
  const url: string = options.url ?? config.url
  const agent = new https.Agent({
    cert: file(tls.cert),
    key: file(tls.key),
    ca: file(tls.ca),
    keepAlive: true,
    maxSockets: options.connections ?? 8,
  })
  const issuerPublicJwk = JSON.parse(file(config.issuerJwkFile))
  const d1 = await D1.start({
    issuerPublicJwk,
    issuerKid: issuerPublicJwk.kid,
    zpk: { kid: zpk.kid, hex: file(zpk.file) },
    privateJwk: JSON.parse(file(config.d1JwkFile)),
  })
  const keys = {
    prw: { kid: seccos.prw.kid, hex: file(seccos.prw.file) },
    mac: { kid: seccos.mac.kid, hex: file(seccos.mac.file) },
  }

  function ask(path: string, method: string, headers: object, body = ''): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const length = { 'content-length': Buffer.byteLength(body) }
      const request = https.request(
        url + path,
        { agent, method, headers: { ...headers, ...length } },
        response => {
          const chunks: Buffer[] = []
          response.on('data', chunk => chunks.push(chunk)).once('error', reject)
          response.once('end', () =>
            resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
          )
        },
      )
      request.once('error', reject)
      request.end(body)
    })
  }

  const basic = Buffer.from(`${client.id}:${file(client.secretFile)}`).toString('base64')
  const form = { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' }
  let headers: Record<string, string> = {}
  let freshUntil = 0
  /** A token lives 900 seconds; a long run needs more than one. */
  async function authorized(): Promise<Record<string, string>> {
    if (performance.now() < freshUntil) return headers
    freshUntil = performance.now() + 600_000
    const grant = await ask('/authz/d1/v1/oauth2/token', 'POST', form, 'grant_type=client_credentials')
    if (grant.status !== 200) throw new Error(`no token: ${grant.status} ${grant.text}`)
    headers = {
      authorization: `Bearer ${JSON.parse(grant.text).access_token}`,
      'content-type': 'application/json',
    }
    return headers
  }
  await authorized()
  const pathOf = ({ cardId }: CallerCard): string =>
    `/cms/api/v1/issuers/${config.issuerId}/cards/${cardId}/pin`

  return {
    cards: config.cards.filter((card: CallerCard) => card.state === 'active'),
    async getPin(card) {
      const { status, text } = await ask(pathOf(card), 'GET', await authorized())
      return status === 200 ? { status, pin: await d1.readPin(JSON.parse(text), card.pan) } : { status }
    },
    async counter(card) {
      const { status, text } = await ask(`${pathOf(card)}/changeCounter`, 'GET', await authorized())
      if (status !== 200) throw new Error(`no counter for ${card.cardId}: ${status} ${text}`)
      return JSON.parse(text)
    },
    iso0: (card, pin) => d1.setPinRequest(pin, card.pan),
    seccos: (card, pin, counter) =>
      d1.seal('3DES_SECCOS', seccosContent(pin, { ...card.fields, pan: card.pan }, counter, keys)),
    setPin: async (card, body) => (await ask(pathOf(card), 'PUT', await authorized(), body)).status,
    [Symbol.dispose]: () => agent.destroy(),
  }
}
