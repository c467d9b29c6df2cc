/** Issuers that are wrong in one way each: the simulator must fail the case that is about it. */
import { createPublicKey, randomBytes } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, importJWK } from 'jose'
import { expect, test } from 'vitest'
import { type Caller, type EndpointHandler, issuerEndpoints, type TokenVerdict } from '../../../src/d1.js'
import { type ChangeCounter, encipherPin, Pan, Pin, PrwMacError } from '../../../src/index.js'
import { ecKeyPair } from '../../../test/support/key-pair.js'
import { simulateD1 } from '../src/run.js'
import { D1S_CERTIFICATE, ISSUER, type IssuerChanges, openIssuer, type Parts } from './support/issuer.js'

interface Mutant extends IssuerChanges {
  /** What is run beside the cases that must fail. */
  readonly only?: readonly string[]
  /** `group: case` of the cases that must fail. */
  readonly caught: readonly string[]
  readonly got?: RegExp
}

const json = (status: number, body: object, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } })

const isPut = ({ method }: Request): boolean => method === 'PUT'
const isGetPin = ({ method, url }: Request): boolean => method === 'GET' && url.endsWith('/pin')

/** Looks at each answer, and may give another. */
function after(change: (response: Response, request: Request) => Promise<Response> | Response) {
  return ({ handler }: Parts): EndpointHandler =>
    async (request, connection) => {
      const copy = request.clone()
      return change(await handler(request, connection), copy)
    }
}

/** Looks at each request first. */
const before =
  (change: (request: Request) => Promise<Request | Response> | Request | Response) =>
  ({ handler }: Parts): EndpointHandler =>
  async (request, connection) => {
    const changed = await change(request)
    return changed instanceof Response ? changed : handler(changed, connection)
  }

type Sealer = (content: { pinValue: string; kid: string }, parts: Parts) => Promise<string>

/** Another JWE in the answer to Get PIN. */
const resealed = (seal: Sealer) => (parts: Parts) =>
  after(async (response, request) => {
    if (!isGetPin(request) || response.status !== 200) return response
    const { encryptedPinBlock } = (await response.json()) as { encryptedPinBlock: string }
    const { plaintext } = await compactDecrypt(encryptedPinBlock, await importJWK(parts.d1Jwk, 'ECDH-ES'))
    const content = JSON.parse(new TextDecoder().decode(plaintext))
    return json(200, { type: 'ISO0', encryptedPinBlock: await seal(content, parts) })
  })(parts)

const textOf = (content: object | string): string =>
  typeof content === 'string' ? content : JSON.stringify(content)

const sealWith =
  (
    header: object,
    change: (content: { pinValue: string; kid: string }, parts: Parts) => object | string = c => c,
  ): Sealer =>
  async (content, parts) => {
    const { kty, crv, x, y, kid } = parts.d1Jwk
    return new CompactEncrypt(new TextEncoder().encode(textOf(change(content, parts))))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid, ...header })
      .encrypt(await importJWK({ kty, crv, x, y } as never, 'ECDH-ES'))
  }

type Header = { readonly [name: string]: unknown; readonly epk: Readonly<Record<string, unknown>> }

/** The shape of a JWE whose header is all that will be looked at. Its ephemeral key comes with the private half. */
const sealByHand =
  (change: (header: Header) => object = header => header): Sealer =>
  async (_content, { d1Jwk }) => {
    const { privateKey } = ecKeyPair()
    const header = {
      alg: 'ECDH-ES',
      enc: 'A256GCM',
      kid: d1Jwk.kid,
      epk: { ...privateKey.export({ format: 'jwk' }) },
    }
    const parts = [randomBytes(12), randomBytes(40), randomBytes(16)].map(part => part.toString('base64url'))
    return [Buffer.from(JSON.stringify(change(header))).toString('base64url'), '', ...parts].join('.')
  }

/** Opens each Set PIN, and seals it anew with another content: whoever does so sees no repetition. */
const reopened =
  (change: (content: Readonly<Record<string, unknown>>) => object) =>
  (parts: Parts): EndpointHandler =>
    before(async request => {
      if (!isPut(request)) return request
      const text = await request.text()
      const again = (body: string): Request => new Request(request, { body })
      try {
        const { type, encryptedPinBlock } = JSON.parse(text)
        const own = await importJWK({ ...parts.issuerPrivateJwk }, 'ECDH-ES')
        const { plaintext } = await compactDecrypt(encryptedPinBlock, own)
        const content = JSON.stringify(change(JSON.parse(new TextDecoder().decode(plaintext))))
        const sealed = await new CompactEncrypt(new TextEncoder().encode(content))
          .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'JWE-1' })
          .encrypt(await importJWK({ ...parts.issuerPublicJwk }, 'ECDH-ES'))
        return again(JSON.stringify({ type, encryptedPinBlock: sealed }))
      } catch {
        return again(text)
      }
    })(parts)

/** What is in a Set PIN, as text. */
async function openedBy({ issuerPrivateJwk }: Parts, text: string): Promise<string> {
  const { encryptedPinBlock } = JSON.parse(text)
  const { plaintext } = await compactDecrypt(
    encryptedPinBlock,
    await importJWK({ ...issuerPrivateJwk }, 'ECDH-ES'),
  )
  return new TextDecoder().decode(plaintext)
}

async function sealedTo({ issuerPublicJwk }: Parts, type: string, content: object): Promise<string> {
  const encryptedPinBlock = await new CompactEncrypt(new TextEncoder().encode(JSON.stringify(content)))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid: 'JWE-1' })
    .encrypt(await importJWK({ ...issuerPublicJwk }, 'ECDH-ES'))
  return JSON.stringify({ type, encryptedPinBlock })
}

type Guesses = (text: string, parts: Parts) => Promise<readonly (string | Promise<string>)[]>

/** Where a Set PIN is refused for this, others are tried in its place: whoever passes over what is wrong accepts one. */
const guessing =
  (code: string, others: Guesses) =>
  (parts: Parts): EndpointHandler =>
  async (request, connection) => {
    if (!isPut(request)) return parts.handler(request, connection)
    const text = await request.text()
    const send = (body: string): Promise<Response> =>
      parts.handler(new Request(request.url, { method: 'PUT', headers: request.headers, body }), connection)
    const first = await send(text)
    if (first.status !== 400 || lastCode !== code) return first
    try {
      for (const other of await others(text, parts)) {
        const response = await send(await other)
        if (response.status === 204) return response
      }
    } catch {
      // Nothing that opens.
    }
    return first
  }

const upperCase = (value: unknown): unknown => (typeof value === 'string' ? value.toUpperCase() : value)

function isOffCurve(body: string): boolean {
  try {
    const [head = ''] = JSON.parse(body).encryptedPinBlock.split('.')
    const { epk } = JSON.parse(Buffer.from(head, 'base64url').toString())
    if (epk?.crv !== 'P-256' || 'd' in epk) return false
    try {
      createPublicKey({ key: epk, format: 'jwk' })
      return false
    } catch {
      return true
    }
  } catch {
    return false
  }
}

/** D1 as another caller. */
const callingAs =
  (caller: Partial<Caller>): NonNullable<IssuerChanges['endpoints']> =>
  ({ authorization }) => {
    if (typeof authorization === 'string') throw new Error('there are callers')
    return { authorization: { ...authorization, callers: [{ name: 'd1', issuers: [ISSUER], ...caller }] } }
  }

type Verify = (token: string, sound: TokenVerdict) => TokenVerdict

const verifying =
  (verify: Verify): NonNullable<IssuerChanges['endpoints']> =>
  ({ authorization }) => {
    if (typeof authorization === 'string' || authorization.tokens === undefined)
      throw new Error('there are tokens')
    const { tokens } = authorization
    return {
      authorization: {
        ...authorization,
        tokens: { verify: async (token, facts) => verify(token, await tokens.verify(token, facts)) },
      },
    }
  }

/** A real counter, some of whose methods are others. */
function overriding(real: ChangeCounter, methods: object): ChangeCounter {
  return new Proxy(real, {
    get: (target, name) => Reflect.get(methods, name) ?? Reflect.get(target, name).bind(target),
  })
}

type Store = (acceptance: { sequence: number }) => Promise<void>

/** A counter that knows nothing: every intdatag is good, for every card. */
function credulous(
  issue: (calls: number) => { pcc: string; intdatag: string },
): (real: ChangeCounter) => ChangeCounter {
  let calls = 0
  return real =>
    overriding(real, {
      issue: async () => ({ ...issue(calls++), expiresAt: 0 }),
      check: async () => ({ replayed: false }),
      accept: async ({ store }: { store: Store }) => {
        await store({ sequence: calls })
        return { sequence: calls, replayed: false }
      },
    })
}

const fresh = (): string => randomBytes(10).toString('hex')

/** A real counter that lets some refusals pass. */
function lenient(...reasons: readonly string[]): (real: ChangeCounter) => ChangeCounter {
  return real => {
    const forgiving = async <T>(work: () => Promise<T>, instead: () => Promise<T>): Promise<T> => {
      try {
        return await work()
      } catch (error) {
        if (reasons.includes((error as { reason: string }).reason)) return instead()
        throw error
      }
    }
    return overriding(real, {
      check: (request: never) =>
        forgiving(
          () => real.check(request),
          async () => ({ replayed: false }),
        ),
      accept: ({ request, store }: { request: never; store: Store }) =>
        forgiving(
          () => real.accept({ request, store }),
          async () => {
            await store({ sequence: 0 })
            return { sequence: 0, replayed: false }
          },
        ),
    })
  }
}

/** A PIN that nobody asked for. */
async function store({ options, pins }: Parts, cardId: string, pan: string): Promise<void> {
  const [key] = [options.issuers[ISSUER]?.iso0?.storage ?? []].flat()
  if (key === undefined) throw new Error('the issuer offers ISO0')
  const block = await encipherPin({ pin: Pin.from('135790'), pan: Pan.from(pan), format: 0, key })
  await pins.storeBlock({ issuerId: ISSUER, cardId }, { block, kid: key.kid })
}

/** More is announced than comes. */
function brokenOff(): Response {
  const body = new ReadableStream({
    start: controller => controller.enqueue(new TextEncoder().encode('{')),
    pull: controller => controller.error(new Error('broken off')),
  })
  return new Response(body, { headers: { 'content-type': 'application/json' } })
}

/** What the last request was refused for, as the audit hook hears it. */
let lastCode = ''
const listening: NonNullable<IssuerChanges['endpoints']> = () => ({
  audit: (_event, cause) => {
    const { code } = (cause ?? {}) as { code?: unknown }
    lastCode = typeof code === 'string' ? code : ''
  },
})

let shown: Response | undefined
/** The answer that was made last, whoever asked for it. */
let buffer: object = {}
const seen = new Set<string>()
let inFlight = 0
let arrived = (): void => {}

/**
 * Answers with the number of others that are under way, and then waits for one more to come, or for two seconds: those that are sent
 * at once come one after the other on a machine that has much to do.
 */
async function withOthers<T>(answer: (others: number) => Promise<T>): Promise<T> {
  arrived()
  try {
    return await answer(inFlight++)
  } finally {
    await new Promise<void>(resolve => {
      const waiting = setTimeout(resolve, 2000)
      arrived = () => {
        clearTimeout(waiting)
        resolve()
      }
    })
    inFlight--
  }
}

const MUTANTS: Readonly<Record<string, Mutant>> = {
  'accepts a tampered JWE': {
    caught: ['messages: a tag changed', 'messages: a ciphertext changed', 'messages: alg none'],
    handler: after(async (response, request) => {
      if (!isPut(request) || response.status !== 400) return response
      const text = await request.text()
      return /"encryptedPinBlock":"[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+"/.test(text)
        ? new Response(null, { status: 204 })
        : response
    }),
  },
  'accepts an intdatag that another request has spent': {
    caught: [
      'set-pin-seccos: an intdatag that another request has spent',
      'set-pin-seccos: different requests at once with one intdatag',
    ],
    counter: lenient('spent'),
    got: /204/,
  },
  'accepts an intdatag that has expired': {
    caught: ['set-pin-seccos: an intdatag that has expired'],
    counter: lenient('expired'),
    got: /204/,
  },
  'accepts an intdatag of another card': {
    caught: ['set-pin-seccos: an intdatag of another card'],
    counter: lenient('other-card'),
    got: /204/,
  },
  'accepts any pcc': {
    caught: ['set-pin-seccos: another pcc'],
    counter: lenient('pcc'),
    got: /204/,
  },
  'accepts any intdatag, and the pcc stands still': {
    caught: [
      'set-pin-seccos: an intdatag that was never issued',
      'set-pin-seccos: the counter moves, and no pcc comes twice',
    ],
    counter: credulous(() => ({ pcc: '0041', intdatag: fresh() })),
  },
  'gives one intdatag twice': {
    caught: ['change-counter: an intdatag of its own each time'],
    counter: credulous(calls => ({ pcc: '0041', intdatag: `0123456789abcdef${1000 + (calls >> 1)}` })),
  },
  'accepts any MAC': {
    caught: ['set-pin-seccos: a wrong MAC', 'set-pin-seccos: a MAC under another key'],
    endpoints: listening,
    handler: after((response, request) =>
      isPut(request) && lastCode === 'ERR_PRW_MAC' ? new Response(null, { status: 204 }) : response,
    ),
  },
  'looks at all of a MAC but its end': {
    caught: ['set-pin-seccos: a MAC whose last digit is wrong'],
    endpoints: listening,
    handler: guessing('ERR_PRW_MAC', async (text, parts) => {
      const content = JSON.parse(await openedBy(parts, text))
      return Array.from('0123456789ABCDEF', digit =>
        sealedTo(parts, JSON.parse(text).type, {
          ...content,
          macValue: content.macValue.slice(0, -1) + digit,
        }),
      )
    }),
  },
  'looks at all of a tag but its end': {
    caught: ['messages: the end of a tag changed'],
    endpoints: listening,
    handler: guessing('ERR_JWE', async text => {
      const { type, encryptedPinBlock: jwe } = JSON.parse(text)
      return Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', character =>
        JSON.stringify({ type, encryptedPinBlock: jwe.slice(0, -2) + character + jwe.slice(-1) }),
      )
    }),
  },
  'compares cardIds without regard to case': {
    caught: ['paths: a cardId in the other letters'],
    handler: before(
      request =>
        new Request(
          request.url.replace(/cards\/[^/]+/, id => id.toLowerCase()),
          request,
        ),
    ),
  },
  'takes a cardId for a pattern': {
    caught: ["paths: a cardId that is another's pattern in SQL"],
    handler: before(request => new Request(request.url.replace(/cards\/_so0-1/, 'cards/iso0-1'), request)),
  },
  'compares intdatags without regard to case': {
    caught: ['set-pin-seccos: an intdatag in the other letters'],
    counter: real => {
      const issued = new Map<string, string>()
      const meant = <T extends { readonly intdatag: string }>(request: T): T => ({
        ...request,
        intdatag: issued.get(request.intdatag.toLowerCase()) ?? request.intdatag,
      })
      return overriding(real, {
        issue: async (card: never) => {
          const answer = await real.issue(card)
          issued.set(answer.intdatag.toLowerCase(), answer.intdatag)
          return answer
        },
        check: (request: never) => real.check(meant(request)),
        accept: ({ request, store }: { request: never; store: Store }) =>
          real.accept({ request: meant(request), store }),
      })
    },
  },
  'refuses every x-correlation-id': {
    caught: [
      'tolerance: Get PIN with an x-correlation-id',
      'tolerance: Set PIN with an x-correlation-id',
      'http: x-correlation-id of 64 characters',
    ],
    handler: before(request =>
      request.headers.has('x-correlation-id') ? json(400, { error: 'unknown header' }) : request,
    ),
  },
  'shows a PIN of nobody when two ask at once': {
    caught: ['get-pin: of several cards at once'],
    got: /the PIN of another card/,
    handler: parts => async (request, connection) => {
      if (!isGetPin(request)) return parts.handler(request, connection)
      return withOthers(async others => {
        if (others > 0) await store(parts, 'iso0-1', '9999990123456789')
        return parts.handler(request, connection)
      })
    },
  },
  'has one buffer for the answers of all cards': {
    caught: ['get-pin: of several cards at once'],
    handler: after(async (response, request) => {
      if (!isGetPin(request) || response.status !== 200) return response
      buffer = (await response.json()) as object
      return withOthers(async () => undefined).then(() => json(200, buffer))
    }),
  },
  'goes on showing the old PIN': {
    caught: [
      'set-pin-iso0: a new PIN',
      'set-pin-iso0: the very same request, three times',
      'set-pin-iso0: 5 at once for one card',
    ],
    pins: pins => ({
      readBlock: pins.readBlock.bind(pins),
      storePrw: pins.storePrw.bind(pins),
      acceptBlock: async () => ({ outcome: 'stored' }),
    }),
  },
  'stores under the wrong card': {
    caught: ['set-pin-iso0: a new PIN'],
    pins: pins => ({
      readBlock: pins.readBlock.bind(pins),
      storePrw: pins.storePrw.bind(pins),
      acceptBlock: (card, pin, request) => pins.acceptBlock({ ...card, cardId: 'iso0-2' }, pin, request),
    }),
  },
  'says why a message is refused': {
    caught: [
      'uniform: refusals of ISO0 are the same bytes',
      'uniform: refusals of 3DES_SECCOS are the same bytes',
    ],
    endpoints: listening,
    handler: after((response, request) =>
      isPut(request) && response.status === 400 ? json(400, { error: lastCode }) : response,
    ),
  },
  'says why a message is refused, in a header': {
    caught: ['uniform: refusals of ISO0 are the same bytes'],
    endpoints: listening,
    handler: after((response, request) =>
      isPut(request) && lastCode === 'ERR_PIN_BLOCK'
        ? json(400, { error: 'Bad request' }, { 'x-why': '1' })
        : response,
    ),
  },
  'takes longer where the JWE opens': {
    caught: ['uniform: refusals of ISO0 take the same time'],
    endpoints: listening,
    handler: after(async (response, request) => {
      if (isPut(request) && lastCode === 'ERR_PIN_BLOCK')
        await new Promise(resolve => setTimeout(resolve, 300))
      return response
    }),
  },
  'shows the PAN in an error': {
    caught: ['messages: a tag changed', 'messages: not JSON'],
    got: /a secret/,
    handler: after(response =>
      response.status === 400 ? json(400, { error: 'card 9999990123456789' }) : response,
    ),
  },
  'stores what it refuses': {
    caught: ['messages: a block of another PAN'],
    handler: parts =>
      after(response => {
        const other = parts.pins.stored.get('iso0-2')
        if (response.status === 400 && other) parts.pins.stored.set('iso0-1', other)
        return response
      })(parts),
  },
  'stores another PIN where it refuses': {
    caught: ['messages: a block of another PAN'],
    got: /another PIN/,
    handler: parts =>
      after(async response => {
        if (response.status === 400) await store(parts, 'iso0-1', '9999990123456789')
        return response
      })(parts),
  },
  'changes the PIN of another card as well': {
    caught: ['set-pin-iso0: 5 at once for one card'],
    got: /another card has a new PIN/,
    handler: parts =>
      after(async response => {
        if (response.status === 204) await store(parts, 'iso0-2', '9999980000000012')
        return response
      })(parts),
  },
  'writes into its header what the request has put there': {
    caught: ['http: x-correlation-id that forges a header'],
    got: /a header that the request has put there/,
    handler: after((response, request) => {
      if (request.headers.get('x-correlation-id')?.includes('%0a')) response.headers.set('x-injected', '1')
      return response
    }),
  },
  'sends no epk': {
    caught: ["get-pin: shows each card's PIN"],
    got: /not a P-256 key/,
    handler: resealed(sealByHand(({ epk: _, ...header }) => header)),
  },
  'breaks off in the middle of an answer': {
    caught: ["get-pin: shows each card's PIN"],
    got: /^no answer: ECONNRESET$/,
    handler: after((response, request) => (isGetPin(request) ? brokenOff() : response)),
  },
  'needs no client certificate': {
    caught: ['connection: no client certificate', 'connection: a token without client certificate'],
    server: { requestCert: false },
    endpoints: callingAs({ tokenSubjects: ['d1-client'] }),
  },
  'takes any client certificate': {
    caught: ['connection: a client certificate of another CA'],
    endpoints: callingAs({ tokenSubjects: ['d1-client'] }),
    server: { rejectUnauthorized: false },
  },
  'speaks TLS 1.1': {
    caught: ['connection: TLS 1.1'],
    server: { minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' },
  },
  'speaks no TLS 1.3': {
    caught: ["connection: D1's certificate, TLSv1.3"],
    got: /^no answer/,
    server: { maxVersion: 'TLSv1.2' },
  },
  'speaks no TLS 1.2': {
    caught: ["connection: D1's certificate, TLSv1.2"],
    server: { minVersion: 'TLSv1.3' },
  },
  'accepts an expired token': {
    caught: ['authorization: an expired token'],
    endpoints: verifying((_token, sound) =>
      !sound.verified && sound.reason === 'ERR_JWT_EXPIRED'
        ? { verified: true, subject: 'd1-client' }
        : sound,
    ),
  },
  'accepts alg none': {
    caught: ['authorization: alg none'],
    endpoints: verifying((token, sound) =>
      /^[^.]+\.[^.]+\.$/.test(token) ? { verified: true, subject: 'd1-client' } : sound,
    ),
  },
  'looks at claims alone': {
    caught: [
      'authorization: a signature changed',
      'authorization: claims changed',
      'authorization: a foreign key by the known kid',
    ],
    endpoints: verifying((token, sound) =>
      token.split('.').length === 3 ? { verified: true, subject: 'd1-client' } : sound,
    ),
  },
  'tells without token which cards there are': {
    caught: ['authorization: no token, for a card that does not exist'],
    handler: after((response, { url }) =>
      response.status === 401 && url.includes('nobody') ? json(404, { error: 'Not found' }) : response,
    ),
  },
  'seals to another kid': {
    caught: ["get-pin: shows each card's PIN"],
    got: /kid is not that of D1/,
    handler: resealed(sealWith({ kid: 'somebody' })),
  },
  'seals with A128GCM': {
    caught: ["get-pin: shows each card's PIN"],
    got: /enc is not A256GCM/,
    handler: resealed(sealWith({ enc: 'A128GCM' })),
  },
  'wraps the content key': {
    caught: ["get-pin: shows each card's PIN"],
    got: /alg is not ECDH-ES/,
    handler: resealed(sealWith({ alg: 'ECDH-ES+A256KW' })),
  },
  'gives its ephemeral private key away': {
    caught: ["get-pin: shows each card's PIN"],
    got: /private part/,
    handler: resealed(sealByHand()),
  },
  'enciphers the block under another key': {
    caught: ["get-pin: shows each card's PIN"],
    got: /no PIN block of this PAN/,
    handler: resealed(sealWith({}, content => ({ ...content, pinValue: '0123456789ABCDEF' }))),
  },
  'names another key inside': {
    caught: ["get-pin: shows each card's PIN"],
    got: /kid is not that of the key/,
    handler: resealed(sealWith({}, content => ({ ...content, kid: 'PEK-STORE' }))),
  },
  'puts the block in as base64': {
    caught: ["get-pin: shows each card's PIN"],
    got: /16 hex digits/,
    handler: resealed(
      sealWith({}, ({ pinValue, kid }) => ({
        pinValue: Buffer.from(pinValue, 'hex').toString('base64'),
        kid,
      })),
    ),
  },
  'seals no JSON': {
    caught: ["get-pin: shows each card's PIN"],
    got: /JSON object/,
    handler: resealed(sealWith({}, () => 'x')),
  },
  'seals a string': {
    caught: ["get-pin: shows each card's PIN"],
    got: /JSON object/,
    handler: resealed(sealWith({}, () => '"x"')),
  },
  'sends no JWE': {
    caught: ["get-pin: shows each card's PIN"],
    got: /no JWE in compact form/,
    handler: resealed(async () => 'x'),
  },
  'sends a JWE without header': {
    caught: ["get-pin: shows each card's PIN"],
    got: /header does not read/,
    handler: resealed(async () => 'AAAA..AAAA.AAAA.AAAA'),
  },
  'sends a JWE that is too long': {
    caught: ["get-pin: shows each card's PIN"],
    got: /wrong encryptedPinBlock/,
    handler: resealed(async () => 'x'.repeat(8193)),
  },
  'seals with zip': {
    caught: ["get-pin: shows each card's PIN"],
    got: /zip or crit/,
    handler: resealed(sealByHand(header => ({ ...header, zip: 'DEF' }))),
  },
  'sends an epk of another curve': {
    caught: ["get-pin: shows each card's PIN"],
    got: /not a P-256 key/,
    handler: resealed(
      sealByHand(({ epk: { d: _, ...epk }, ...header }) => ({ ...header, epk: { ...epk, crv: 'P-384' } })),
    ),
  },
  'seals to nobody': {
    caught: ["get-pin: shows each card's PIN"],
    got: /does not open/,
    handler: resealed(sealByHand(({ epk: { d: _, ...epk }, ...header }) => ({ ...header, epk }))),
  },
  'sends an encrypted key': {
    caught: ["get-pin: shows each card's PIN"],
    got: /with an encrypted key/,
    handler: resealed(async (content, parts) => (await sealWith({})(content, parts)).replace('..', '.AAAA.')),
  },
  'shows one answer to everybody': {
    caught: ['get-pin: is sealed anew each time'],
    handler: after((response, request) => {
      if (!isGetPin(request) || response.status !== 200) return response
      shown ??= response
      return shown.clone()
    }),
  },
  'forgets the errorCode': {
    caught: [
      'change-counter: a card that is not-active',
      'change-counter: a card that is pin-change-forbidden',
    ],
    got: /errorCode/,
    handler: after(response => (response.status === 403 ? json(403, { error: 'Forbidden' }) : response)),
  },
  'mixes the errorCodes up': {
    caught: ['change-counter: a card that is not-active'],
    handler: after(response =>
      response.status === 403 ? json(403, { errorCode: 'PIN_CHANGE_FORBIDDEN' }) : response,
    ),
  },
  'answers Set PIN with 200': {
    caught: ['set-pin-iso0: a new PIN'],
    got: /200, which SetPIN does not have/,
    handler: after(response => (response.status === 204 ? json(200, {}) : response)),
  },
  'answers errors with a page': {
    caught: ['paths: no such card'],
    got: /content-type/,
    handler: after(response =>
      response.status === 404
        ? new Response('<h1>', { status: 404, headers: { 'content-type': 'text/html' } })
        : response,
    ),
  },
  'answers errors with a string': {
    caught: ['paths: no such card'],
    got: /no JSON object/,
    handler: after(response =>
      response.status === 404
        ? new Response('"Not found"', { status: 404, headers: { 'content-type': 'application/json' } })
        : response,
    ),
  },
  'states expires_in as a number': {
    caught: ['token: Basic in padded base64', 'token: Basic in base64url'],
    got: /expires_in/,
    handler: after(async (response, { url }) => {
      if (!url.endsWith('/token') || response.status !== 200) return response
      return json(200, { ...((await response.json()) as object), expires_in: 900 })
    }),
  },
  'states expires_in as null': {
    caught: ['token: Basic in padded base64', 'token: Basic in base64url'],
    got: /expires_in/,
    handler: after(async (response, { url }) => {
      if (!url.endsWith('/token') || response.status !== 200) return response
      return json(200, { ...((await response.json()) as object), expires_in: null })
    }),
  },
  'hands out tokens that do not work': {
    caught: ['token: Basic in padded base64'],
    got: /401 with the token/,
    handler: after((response, { url }) =>
      url.endsWith('/token') && response.status === 200
        ? json(200, { access_token: 'x', token_type: 'Bearer' }, { 'cache-control': 'no-store' })
        : response,
    ),
  },
  'reads padded base64 alone': {
    caught: ['token: Basic in base64url'],
    handler: before(request => {
      const [, pair = ''] = (request.headers.get('authorization') ?? '').split('Basic ')
      return pair.length % 4 === 0 ? request : json(401, { error: 'invalid_client' })
    }),
  },
  'tells an unknown client from a wrong secret': {
    caught: ['token: an unknown client and a wrong secret look the same'],
    handler: before(request => {
      const pair = Buffer.from((request.headers.get('authorization') ?? '').slice(6), 'base64').toString()
      return !request.url.endsWith('/token') || pair.startsWith('d1-client:')
        ? request
        : json(401, { error: 'unknown_client' })
    }),
  },
  'reads escapes in paths': {
    caught: ['paths: an escaped slash and dots'],
    target: url => (/%2F/.test(url) ? new URL(`https://x${decodeURIComponent(url)}`).pathname : url),
  },
  'takes a query for a question about another PIN': {
    caught: ['tolerance: Get PIN with a query', 'tolerance: Set PIN with a query'],
    got: /another PIN/,
    handler: parts => async (request, connection) => {
      if (!request.url.includes('?')) return parts.handler(request, connection)
      await store(parts, 'iso0-1', '9999990123456789')
      return isPut(request) ? new Response(null, { status: 204 }) : parts.handler(request, connection)
    },
  },
  'refuses a query': {
    caught: [
      'tolerance: Get PIN with a query',
      'tolerance: Set PIN with a query',
      'tolerance: a change counter with a query',
      'tolerance: no such card, with a query',
    ],
    handler: before(request => (request.url.includes('?') ? json(400, { error: 'Bad request' }) : request)),
  },
  'refuses headers that it does not know': {
    caught: ['tolerance: Get PIN with a header', 'tolerance: Set PIN with a header'],
    handler: before(request =>
      request.headers.has('x-d1-something-new') ? json(400, { error: 'Bad request' }) : request,
    ),
  },
  'refuses members that it does not know': {
    caught: ['tolerance: Set PIN with a member'],
    handler: before(async request =>
      isPut(request) && (await request.clone().text()).includes('somethingNew')
        ? json(400, { error: 'Bad request' })
        : request,
    ),
  },
  'wants one content-type and nothing else': {
    caught: [
      'tolerance: Set PIN with a parameter of its content-type',
      'tolerance: Set PIN with an empty parameter of its content-type',
      'tolerance: Set PIN with charset=utf8',
    ],
    handler: before(request =>
      isPut(request) && request.headers.get('content-type') !== 'application/json'
        ? json(400, { error: 'Bad request' })
        : request,
    ),
  },
  'takes an empty content-encoding for one that it does not know': {
    caught: ['tolerance: Set PIN with an empty content-encoding'],
    handler: before(request =>
      request.headers.has('content-encoding') ? json(400, { error: 'Bad request' }) : request,
    ),
  },
  'lets whoever has a certificate of the CA use the token of D1': {
    caught: [
      "callers: another issuer's certificate, with D1's token",
      "callers: a forged header with D1's certificate",
    ],
    endpoints: callingAs({ tokenSubjects: ['d1-client'] }),
  },
  'asks for no token where there is a certificate of the CA': {
    caught: ["callers: another issuer's certificate, no token"],
    handler: ({ handler, options }) => {
      const open = issuerEndpoints({
        ...options,
        authorization: 'anyone-who-reaches-it',
        tokenEndpoint: undefined as never,
      })
      return (request, connection) =>
        (isPut(request) || isGetPin(request) ? open : handler)(request, connection)
    },
  },
  'takes any token that it has issued': {
    caught: ["callers: another issuer's token"],
    endpoints: callingAs({ tokenSubjects: ['d1-client', 'other-client'], certificate: D1S_CERTIFICATE }),
  },
  'lets caches keep what it answers': {
    caught: ['get-pin: is kept by no cache', 'token: Basic in padded base64'],
    got: /no-store/,
    handler: after(response => {
      response.headers.delete('cache-control')
      return response
    }),
  },
  'lets no cache keep that it shows no PIN': {
    caught: ['get-pin: is kept by no cache'],
    got: /^403$/,
    handler: after((response, request) =>
      isGetPin(request) && response.status === 200
        ? json(403, { error: 'Forbidden' }, { 'cache-control': 'no-store' })
        : response,
    ),
  },
  'fails where a 3DES_SECCOS Set PIN has left it no block to show': {
    caught: ['get-pin: after a Set PIN of type 3DES_SECCOS'],
    got: /^500$/,
    handler: after((response, request) =>
      isGetPin(request) && response.status === 403 ? json(500, { error: 'TypeError' }) : response,
    ),
  },
  'goes on showing the block after a 3DES_SECCOS Set PIN': {
    caught: ['get-pin: after a Set PIN of type 3DES_SECCOS'],
    got: /not the new PIN/,
    pins: pins =>
      new Proxy(pins, {
        get: (target, name) =>
          name === 'storePrw' ? async () => {} : Reflect.get(target, name).bind(target),
      }),
  },
  'forgets what it has accepted': {
    caught: ['set-pin-iso0: an older request that comes again after a newer one'],
    got: /the older PIN is back/,
    handler: reopened(content => content),
  },
  'has a status of its own for a request that comes again': {
    caught: ['set-pin-iso0: an older request that comes again after a newer one'],
    got: /^409$/,
    handler: before(async request => {
      if (!isPut(request)) return request
      const text = await request.clone().text()
      return seen.size < seen.add(text).size ? request : json(409, { error: 'Conflict' })
    }),
  },
  'refuses the request of another card, and has changed the PIN': {
    caught: ['set-pin-iso0: the request of another card'],
    got: /400, and Get PIN shows another PIN/,
    handler: parts =>
      after(async (response, request) => {
        if (isPut(request) && response.status === 400) await store(parts, 'iso0-2', '9999980000000012')
        return response
      })(parts),
  },
  'knows a request again for its own card alone': {
    caught: ['set-pin-iso0: the request of another card of the same PAN'],
    got: /^204$/,
    pins: pins => ({
      readBlock: pins.readBlock.bind(pins),
      storePrw: pins.storePrw.bind(pins),
      acceptBlock: async (card, pin, request) => {
        const accepted = await pins.acceptBlock(card, pin, request)
        if (accepted.outcome !== 'misdirected') return accepted
        await pins.storeBlock(card, pin)
        return { outcome: 'stored' }
      },
    }),
  },
  'accepts an older intdatag after a newer one': {
    caught: ['set-pin-seccos: an older intdatag, after a newer one was accepted'],
    counter: lenient('superseded'),
  },
  'inflates what says that it is deflated': {
    caught: ['messages: zip DEF'],
    handler: reopened(content => content),
  },
  'takes a data set in small letters': {
    caught: ['set-pin-seccos: a data set in small letters'],
    handler: reopened(content => ({ ...content, prwDataSet: upperCase(content['prwDataSet']) })),
  },
  'takes whatever can be made a string for one': {
    caught: [
      'messages: a kid in a list',
      'messages: a pinValue in a list',
      'messages: a pinValue that is a number',
      'set-pin-seccos: an intdatag in a list',
      'set-pin-seccos: a macValue in a list',
      'set-pin-seccos: a data set in a list',
    ],
    handler: reopened(content =>
      Object.fromEntries(Object.entries(content).map(([name, value]) => [name, String(value)])),
    ),
  },
  'does not look whether a point is on the curve': {
    caught: [2, 3, 4].map(order => `messages: an epk off the curve, of order ${order}`),
    handler: after(async (response, request) => {
      if (!isPut(request) || response.status !== 400) return response
      return isOffCurve(await request.text()) ? new Response(null, { status: 204 }) : response
    }),
  },
  'lets a header override the method': {
    caught: ['paths: POST …/pin'],
    handler: before(request =>
      request.headers.has('x-http-method-override') ? new Response(null, { status: 204 }) : request,
    ),
  },
  'puts a correlation id into headers as it comes': {
    caught: ['http: x-correlation-id that forges a header'],
    handler: after((response, request) => {
      const [, forged] = decodeURIComponent(request.headers.get('x-correlation-id') ?? '').split('\r\n')
      if (forged !== undefined) response.headers.set(forged.split(':')[0] ?? '', '1')
      return response
    }),
  },
  'lets the last of two members count': {
    caught: ['messages: encryptedPinBlock twice'],
    handler: before(async request => {
      if (!isPut(request)) return request
      const text = await request.text()
      const body = /^\{.*\}$/s.test(text) ? JSON.stringify(looselyParsed(text)) : text
      return new Request(request.url, { method: 'PUT', headers: request.headers, body })
    }),
  },
  'tells an unknown client from a wrong secret by the status': {
    caught: ['token: an unknown client and a wrong secret look the same'],
    handler: after(async (response, request) => {
      const pair = Buffer.from((request.headers.get('authorization') ?? '').slice(6), 'base64').toString()
      if (!request.url.endsWith('/token') || response.status !== 401 || pair.startsWith('d1-client:'))
        return response
      return new Response(await response.text(), { status: 400, headers: response.headers })
    }),
  },
  'says why a message is refused, by the content type': {
    caught: ['uniform: refusals of ISO0 are the same bytes'],
    got: /^2 answers/,
    endpoints: listening,
    handler: after((response, request) => {
      if (isPut(request) && lastCode === 'ERR_PIN_BLOCK')
        response.headers.set('content-type', 'application/json; charset=utf-8')
      return response
    }),
  },
  'shows another PIN for one card of several': {
    caught: ["get-pin: shows each card's PIN"],
    got: /^another PIN$/,
    handler: parts =>
      before(async request => {
        if (isGetPin(request)) await store(parts, 'iso0-2', '9999980000000012')
        return request
      })(parts),
  },
  'states the PAN beside the PIN': {
    caught: ["get-pin: shows each card's PIN", 'get-pin: is sealed anew each time'],
    got: /^200 with a secret in it$/,
    handler: after(async (response, request) =>
      isGetPin(request) && response.status === 200
        ? json(200, { ...((await response.json()) as object), pan: '9999990123456789' })
        : response,
    ),
  },
  'takes any content type': {
    caught: ['messages: content-type text/plain', 'messages: content-encoding gzip'],
    handler: before(async request => {
      if (!isPut(request)) return request
      const headers = new Headers(request.headers)
      headers.set('content-type', 'application/json')
      headers.delete('content-encoding')
      return new Request(request.url, { method: 'PUT', headers, body: await request.text() })
    }),
  },
  'fails on what it does not expect': {
    caught: ['messages: not JSON', 'messages: a type that is a list'],
    got: /^500$/,
    handler: after(response => (response.status === 400 ? json(500, { error: 'TypeError' }) : response)),
  },
  'refuses a request that is repeated': {
    caught: [
      'set-pin-iso0: the very same request, three times',
      'set-pin-seccos: the very same request, three times',
      'set-pin-seccos: the same request at once',
    ],
    handler: before(async request => {
      if (!isPut(request)) return request
      const text = await request.clone().text()
      return seen.size < seen.add(text).size ? request : json(400, { error: 'Bad request' })
    }),
  },
  'refuses the same content sealed anew': {
    caught: ['set-pin-seccos: the same content, sealed anew'],
    counter: real =>
      overriding(real, {
        accept: async (request: never, store: never) => {
          const accepted = await real.accept({ request, store })
          if (accepted.replayed) throw new PrwMacError()
          return accepted
        },
      }),
  },
  'refuses the same PIN sealed anew': {
    caught: ['set-pin-iso0: the same content, sealed anew'],
    got: /^400$/,
    handler: parts =>
      before(async request => {
        if (!isPut(request)) return request
        const content = await openedBy(parts, await request.clone().text())
        return seen.size < seen.add(content).size ? request : json(400, { error: 'Bad request' })
      })(parts),
  },
  'fails when two come at once': {
    caught: ['set-pin-iso0: 5 at once for one card'],
    handler: parts => async (request, connection) => {
      if (!isPut(request)) return parts.handler(request, connection)
      return withOthers(async others =>
        others > 0 ? json(500, { error: 'deadlock' }) : parts.handler(request, connection),
      )
    },
  },
  'lets every card have its PIN changed': {
    caught: [
      'set-pin-iso0: a card that is not-active',
      'set-pin-iso0: a card whose PIN must not change',
      'set-pin-iso0: a card for 3DES_SECCOS alone',
      'set-pin-seccos: a card that is not-active',
      'set-pin-seccos: a card whose PIN must not change',
      'set-pin-seccos: a card for ISO0 alone',
    ],
    got: /^204$/,
    cards: card => ({ ...card, state: 'active', setPinTypes: ['ISO0', '3DES_SECCOS'] }),
  },
  'waits for a body for ever': {
    caught: ['slow: a body that drips'],
    got: /TIMEOUT/,
    endpoints: () => ({ bodyTimeoutMs: 600_000, timeoutMs: 600_000 }),
    server: { requestTimeout: 0 },
    config: { timeouts: { slowBodyMs: 400 } },
  },
  'waits for headers for ever': {
    caught: ['slow: headers that drip'],
    got: /TIMEOUT/,
    server: { headersTimeout: 0, requestTimeout: 0 },
    config: { timeouts: { slowBodyMs: 400 } },
  },
  'does not set the PIN back': {
    only: ['set-pin-iso0: a new PIN'],
    caught: ['end: the PINs are set back'],
    pins: pins => {
      let first: Uint8Array | undefined
      return {
        readBlock: async card => {
          const found = await pins.readBlock(card)
          if (card.cardId === 'iso0-1') first ??= found?.block
          return found
        },
        storePrw: pins.storePrw.bind(pins),
        acceptBlock: async (card, pin, request) =>
          first === undefined || Buffer.compare(first, pin.block) !== 0
            ? pins.acceptBlock(card, pin, request)
            : { outcome: 'stored' },
      }
    },
  },
}

/** The last of two names counts, as with most parsers. */
function looselyParsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

test.for(Object.entries(MUTANTS))('an issuer that %s is caught', async ([, mutant], { expect: here }) => {
  const { only = [], caught, got = /./, ...changes } = mutant
  const issuer = await openIssuer(changes)
  try {
    const results = await simulateD1({ config: issuer.config, only: [...only, ...caught], warn: () => {} })
    const failed = results.filter(({ verdict }) => verdict === 'failed')
    here(failed.map(({ group, name }) => `${group}: ${name}`)).toEqual(expect.arrayContaining([...caught]))
    for (const result of failed.filter(({ group, name }) => caught.includes(`${group}: ${name}`))) {
      here(result.got).toMatch(got)
    }
    // The digits of a time are chance, and may be those of a PIN.
    const text = JSON.stringify(results.map(result => ({ ...result, milliseconds: 0 })))
    for (const secret of issuer.secrets) here(text).not.toContain(secret)
  } finally {
    await issuer.close()
  }
})
