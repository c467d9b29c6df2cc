/** What `d1Client` makes of D1's answers: any status, header and body, in any chunks; and of any failure of fetch. */

import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { retryAfterSeconds } from '../../../src/d1/client/answer.js'
import { d1Client, softwareSigner } from '../../../src/d1.js'
import { Pan } from '../../../src/index.js'
import { RECIPIENT } from '../../jwe/support.js'
import { bytesInput, Input } from '../support/input.js'
import { attemptAsync } from '../support/oracle.js'
import { strictJson } from '../support/strict-json.js'
import { check, type FuzzTarget, once } from '../target.js'

const PAN_DIGITS = '4000001234567899'
const TOKEN = 'eyJhbGciOiJFUzI1NiJ9.access-token-that-is-secret'
const STATUSES = [
  200,
  201,
  204,
  299,
  100,
  300,
  302,
  304,
  400,
  401,
  404,
  408,
  409,
  429,
  500,
  503,
  599,
  600,
  0,
  Number.NaN,
]
const FACTS = /^(?:create|register|renew|token|not-sent|unknown|answered|[0-9a-f-]{36})$/

const LIMITS = { attemptTimeoutMs: 300_000, totalTimeoutMs: 600_000, maxAttempts: 2 }

/** Time passes as soon as somebody waits for it. */
const clock = {
  now: () => 1_800_000_000_000,
  elapsed: () => 0,
  after(ms: number, callback: () => void) {
    // Pauses are over at once; a time limit, far away, never comes.
    if (ms >= LIMITS.attemptTimeoutMs) return () => {}
    const timer = setImmediate(callback)
    return () => clearImmediate(timer)
  },
}

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const signer = once(() =>
  softwareSigner({
    kid: 'SIGN-1',
    privateKey: createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })),
  }),
)

interface Reply {
  readonly status: number
  readonly retryAfter: string | null
  readonly body: Uint8Array
  readonly chunk: number
  readonly fails: unknown
}

/** Which endpoint answers so, and what: status, Retry-After line, body. */
function replyOf(input: Input): Reply & { readonly forToken: boolean } {
  const forToken = input.byte() % 2 === 0
  const status = input.pick(STATUSES)
  const chunk = 1 + 37 * input.byte()
  const failure = input.byte()
  const rest = Buffer.from(input.rest())
  const end = rest.indexOf(0x0a)
  const line = rest.subarray(0, Math.max(0, end)).toString('latin1')
  const body = Uint8Array.from(rest.subarray(end + 1))
  return {
    forToken,
    status,
    retryAfter: line === '' ? null : line,
    body,
    chunk,
    fails: failureOf(failure, rest),
  }
}

/** One failure of fetch in eight, with the input wherever an error may have text. */
function failureOf(byte: number, rest: Buffer): unknown {
  if (byte < 224) return undefined
  const text = rest.toString('utf8')
  const inner = Object.assign(new Error(text), { code: text.slice(0, 60), syscall: text })
  return [
    inner,
    new TypeError('fetch failed', { cause: inner }),
    new AggregateError([inner, Object.assign(new Error('x'), { code: 'ECONNREFUSED' })], text),
    text,
    null,
    { code: 'ECONNRESET', text },
    Object.assign(new Error(text), { name: text }),
  ][byte % 7]
}

const response = ({ status, retryAfter, body, chunk }: Omit<Reply, 'fails'>) => ({
  status,
  headers: { get: (name: string) => (name === 'retry-after' ? retryAfter : null) },
  body: (async function* () {
    for (let at = 0; at < body.length; at += chunk) yield body.slice(at, at + chunk)
  })(),
})

const token = bytesInput(JSON.stringify({ access_token: TOKEN, token_type: 'Bearer', expires_in: 900 }))

const answer = (forToken: number, status: number, body: string, retryAfter = ''): Uint8Array =>
  bytesInput(forToken, STATUSES.indexOf(status), 3, 0, retryAfter, '\n', body)
const bodies = fc.oneof(
  fc.json(),
  fc
    .record({
      errorCode: fc.oneof(fc.string(), fc.constantFrom('CARD_EXISTS', PAN_DIGITS, 'A'.repeat(65))),
      error: fc.string(),
    })
    .map(value => JSON.stringify(value)),
  fc
    .record({
      access_token: fc.oneof(
        fc.string(),
        fc.constantFrom<unknown>(TOKEN, `${TOKEN}\r\nX: y`, '', 7, null, 'a'.repeat(8193)),
      ),
      token_type: fc.constantFrom<unknown>('Bearer', 'bearer', 'MAC', null, undefined),
      expires_in: fc.constantFrom<unknown>(
        900,
        '900',
        0,
        -1,
        0.5,
        '1e3',
        ' 1',
        86_400,
        86_401,
        null,
        undefined,
        Number.MAX_VALUE,
      ),
    })
    .map(value => JSON.stringify(value)),
)

export const clientAnswers: FuzzTarget = {
  name: 'client-answers',
  share: 4,
  seeds: [
    answer(0, 200, JSON.stringify({ access_token: TOKEN, token_type: 'Bearer', expires_in: '900' })),
    answer(0, 400, '{"error":"invalid_grant","error_description":"x"}'),
    answer(1, 200, '{"cardId":"card-1","state":"ACTIVE"}'),
    answer(1, 409, '{"errorCode":"CARD_EXISTS","error":"there is such a card"}'),
    answer(1, 503, '<html>busy</html>', '120'),
    answer(1, 429, '', 'Wed, 21 Oct 2026 07:28:00 GMT'),
    answer(1, 204, ''),
    answer(1, 302, 'x'.repeat(70_000)),
    bytesInput(1, 0, 3, 225, 'ECONNRESET'),
  ],
  structured: fc
    .tuple(
      fc.nat(1),
      fc.oneof(fc.constant(0), fc.nat(STATUSES.length - 1)),
      fc.nat(255),
      fc.nat(255),
      fc.constantFrom('', '5', '-1', '1e9', '9999999999', 'Thu, 99 Foo 2026 07:28:00 GMT'),
      bodies,
    )
    .map(([forToken, status, chunk, fails, retryAfter, body]) =>
      bytesInput(forToken, status, chunk, fails, retryAfter, '\n', body),
    ),
  async run(bytes) {
    const reply = replyOf(new Input(bytes))
    const { forToken, fails, body, status } = reply
    const sent: string[] = []
    const client = d1Client({
      environment: { api: 'https://d1.test/banking', auth: 'https://d1.test/authz/v1' },
      issuerId: 'is_tbank01',
      signer: signer(),
      d1PublicJwk: RECIPIENT,
      clock,
      random: () => 0,
      ...LIMITS,
      fetch: async (url, { headers, body: request }) => {
        sent.push(request ?? '')
        const isToken = url.endsWith('/oauth2/token')
        if (!isToken) sent.push(headers['authorization'] ?? '')
        if (isToken !== forToken)
          return response({
            status: 200,
            retryAfter: null,
            body: isToken ? token : bytesInput('{}'),
            chunk: 999,
          })
        if (fails !== undefined) throw fails
        return response(reply)
      },
    })
    const text = Buffer.from(body).toString('utf8')
    // D1's own code, where it is plain, is part of the message; a code of the system too. Neither is a long number.
    const words = [...(text.match(/[A-Za-z][A-Za-z0-9_]{1,63}/g) ?? []), 'is_tbank01', String(status)]
    const pause = retryAfterSeconds(reply.retryAfter, clock.now())
    const named = [
      ...words.filter(word => !/\d{6}/.test(word)),
      ...(pause === undefined ? [] : [String(pause)]),
    ]
    const rule = {
      codes: ['ERR_D1_REQUEST', 'ERR_D1_RESPONSE', 'ERR_D1_UNREACHABLE'],
      hidden: [
        PAN_DIGITS,
        TOKEN,
        ...text.split(/\s/).filter(part => !FACTS.test(part)),
        ...sent.map(part => part.slice(0, 4000)),
      ],
      named,
    } as const
    const card = { consumerId: 'c-1', cardProductId: 'p-1', pan: Pan.from(PAN_DIGITS), exp: '1229' }
    const answered = await attemptAsync(() => client.cards.register({ cardId: 'card-1', card }), rule)
    check(
      sent.every(part => !part.includes(PAN_DIGITS)),
      'no request holds the PAN in clear',
    )
    check(
      sent
        .filter(part => part.startsWith('Bearer '))
        .every(part => /^Bearer [A-Za-z0-9._~+/-]+=*$/.test(part)),
      'a token cannot end a header line',
    )
    if (answered === undefined || forToken) return
    check(status >= 200 && status <= 299 && fails === undefined, 'success is a status from 200 to 299')
    check(body.length === 0 || strictJson(text) !== undefined, 'and a JSON object or nothing')
  },
}

export const retryAfter: FuzzTarget = {
  name: 'retry-after',
  share: 30,
  seeds: [
    '120',
    '0',
    '999999999',
    'Wed, 21 Oct 2026 07:28:00 GMT',
    'Wed, 32 Oct 2026 07:28:00 GMT',
    '-1',
    '1.5',
  ].map(text => bytesInput(text)),
  run(bytes) {
    const text = Buffer.from(bytes).toString('latin1')
    const seconds = retryAfterSeconds(text, 1_700_000_000_000)
    if (seconds === undefined) return
    check(Number.isInteger(seconds) && seconds >= 0, 'whole seconds, none of them past')
    check(/^\d{1,9}$/.test(text) || text.endsWith(' GMT'), 'in one of the two forms')
  },
}
