/** Bodies, audit events and Node's listener, each on its own. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, Readable } from 'node:stream'
import { describe, expect, test, vi } from 'vitest'
import { Ending } from '../../../src/base/deadline.js'
import { otelAttributes } from '../../../src/d1/audit.js'
import { JSON_BODY, readBody } from '../../../src/d1/endpoints/http.js'
import { Refusal } from '../../../src/d1/endpoints/refusal.js'
import { type AuditEvent, answerClientError, type EndpointHandler, nodeListener } from '../../../src/d1.js'
import { BackendError, KeyError } from '../../../src/index.js'
import { get, put, sleep, useWorld } from './support/direct.js'
import { Wire } from './support/wire.js'
import { CANARY, ISSUER, JSON_TYPE, pinPath } from './support/world.js'

const own = useWorld()

describe('bodies', () => {
  const stream = (start: (controller: ReadableStreamDefaultController) => unknown) =>
    ({ body: new ReadableStream({ start: controller => void start(controller) }), duplex: 'half' }) as const

  test('none, one that was read, one that breaks, one that is not bytes', async () => {
    expect((await own.handler(get(pinPath('card-1'), { method: 'PUT', headers: JSON_TYPE }))).status).toBe(
      400,
    )
    const read = put(await own.world.iso0())
    read.body?.getReader()
    expect((await own.handler(read)).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'body-broken', code: 'ERR_INVALID_STATE' })
    expect(
      (
        await own.handler(
          put(
            '',
            stream(controller => controller.error(new Error(CANARY))),
          ),
        )
      ).status,
    ).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'body-broken', code: 'Error' })
    expect(
      (
        await own.handler(
          put(
            '',
            stream(controller => controller.enqueue('text')),
          ),
        )
      ).status,
    ).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'body-broken' })
  })

  test('are not read any more once the signal has fired, and never by half', async () => {
    const whole = new TextEncoder().encode('{}')
    const reason = new Refusal('timeout')
    const late = put(
      '',
      stream(() => {}),
    )
    const over = new Ending()
    over.end(reason)
    over.end(new Refusal('client-gone'))
    await expect(readBody(late, JSON_BODY, over)).rejects.toBe(reason)
    expect(over.signal.reason).toBe(reason)
    const end = new Ending()
    const reading = readBody(
      put(
        '',
        stream(source => source.enqueue(whole)),
      ),
      JSON_BODY,
      end,
    )
    setTimeout(() => end.end(reason), 5)
    await expect(reading).rejects.toBe(reason)
  })

  test('of the longest length are read, and one byte more is not', async () => {
    for (const [bytes, reason] of [
      [16_384, 'message'],
      [16_385, 'body-size'],
    ] as const) {
      const body = new ReadableStream({
        start(controller) {
          for (const length of [10_000, bytes - 10_000]) controller.enqueue(new Uint8Array(length))
          controller.close()
        },
      })
      expect((await own.handler(put('', { body, duplex: 'half' }))).status).toBe(400)
      expect(own.world.last.refusal?.reason).toBe(reason)
    }
  })

  test('what has come of a body whose client is gone is not taken for the whole', async () => {
    const client = new AbortController()
    const whole = new TextEncoder().encode(await own.world.iso0())
    const { writes } = own.world.pins
    const { body, duplex } = stream(controller => {
      controller.enqueue(whole)
      setTimeout(() => client.abort(), 5)
      return new Promise(() => {})
    })
    expect((await own.handler(put('', { body, duplex, signal: client.signal }))).status).toBe(400)
    expect(own.world.last.refusal).toEqual({ reason: 'client-gone' })
    expect(own.world.pins.writes).toBe(writes)
  })

  test('a source whose cancellation fails or hangs changes nothing', async () => {
    for (const cancel of [() => Promise.reject(new Error(CANARY)), () => new Promise<void>(() => {})]) {
      const body = new ReadableStream({
        pull: controller => controller.enqueue(new Uint8Array(20_000)),
        cancel,
      })
      expect((await own.handler(put('', { body, duplex: 'half' }))).status).toBe(400)
      expect(own.world.last.refusal).toEqual({ reason: 'body-size' })
    }
  })
})

describe('audit', () => {
  test.each([
    ['throws', () => expect.fail('audit')],
    ['rejects', () => Promise.reject(new Error('audit'))],
  ])('a hook that %s does not change the answer; the process is warned once', async (_what, audit) => {
    const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const answer = own.world.handler({ audit })
    const headers = await own.world.authorized()
    for (let i = 0; i < 3; i++) {
      expect((await answer(get(pinPath('card-1'), { headers }))).status).toBe(200)
    }
    expect(emitWarning.mock.calls).toEqual([
      ['the audit hook of the issuer endpoints failed', 'IssuerPinWarning'],
    ])
    emitWarning.mockRestore()
  })

  test('a hook that hangs does not hold the answer up', async () => {
    const answer = own.world.handler({ audit: () => new Promise(() => {}) })
    expect((await answer(get(pinPath('card-1')))).status).toBe(401)
  })

  test('the error behind a refusal goes to the hook, beside the event', async () => {
    await own.handler(get(pinPath('directory-fails')))
    expect(own.world.last.refusal).toEqual({ reason: 'directory-failed', code: '53300' })
    expect(own.world.causes).toEqual([expect.objectContaining({ message: CANARY })])
    own.world.expectSilence()
  })

  test.each([
    [
      'a key that is refused',
      new KeyError('ERR_KEY_USAGE', 'x', 'PEK-STORE'),
      { code: 'ERR_KEY_USAGE', detail: 'PEK-STORE' },
    ],
    [
      'a call of a token',
      Object.assign(new BackendError('ERR_PKCS11_CALL', 'x'), { returnValueName: 'CKR_DEVICE_ERROR' }),
      { code: 'ERR_PKCS11_CALL', detail: 'CKR_DEVICE_ERROR' },
    ],
    [
      'a foreign error with a number for a code',
      Object.assign(new Error(CANARY), { code: 42 }),
      { code: 'Error' },
    ],
    [
      'a foreign code with data in it',
      Object.assign(new RangeError(CANARY), { code: 'CARD_4929123456789012' }),
      { code: 'RangeError' },
    ],
    ['a name that is a sentence', Object.assign(new Error('x'), { name: CANARY }), {}],
    [
      'fields of a foreign error',
      Object.assign(new Error('x'), { field: CANARY, kid: CANARY, reason: CANARY }),
      { code: 'Error' },
    ],
    ['a string', CANARY, {}],
    ['nothing', undefined, {}],
    ['null', null, {}],
  ])('of %s the event has names only', async (_what, error, expected) => {
    const cards = { find: () => Promise.reject(error) }
    const answer = own.world.handler({ issuers: { [ISSUER]: own.world.issuer({ cards }) } })
    expect((await answer(get(pinPath('card-1'), { headers: await own.world.authorized() }))).status).toBe(500)
    expect(own.world.last.refusal).toEqual({ reason: 'directory-failed', ...expected })
  })

  test('an event as OpenTelemetry attributes', async () => {
    const made = { sequence: 7, time: '2026-11-28T00:00:00.000Z', requestId: 'r-1' }
    const event: AuditEvent = {
      ...made,
      queryIgnored: true,
      statedCertificateIgnored: true,
      callerCertificate: 'ab'.repeat(32),
      tokenSubject: 's',
      tokenId: 't',
      address: '192.0.2.1',
      replayedIsCurrent: false,
      operation: 'SetPIN',
      outcome: 'refused',
      status: 400,
      issuerId: ISSUER,
      cardId: 'card-1',
      correlationId: 'run-1',
      caller: 'd1',
      pinType: '3DES_SECCOS',
      replayed: false,
      refusal: { reason: 'message', code: 'ERR_CHANGE_COUNTER', field: 'intdatag', detail: 'spent' },
      keys: [
        { role: 'jwe', kid: 'JWE-1', checkValue: 'abc' },
        { role: 'd1-public', kid: 'D1' },
      ],
      durationMs: 1.5,
    }
    expect(otelAttributes(event)).toEqual({
      'd1.sequence': 7,
      'd1.request.time': '2026-11-28T00:00:00.000Z',
      'd1.request.id': 'r-1',
      'd1.query.ignored': true,
      'd1.stated_certificate.ignored': true,
      'tls.client.hash.sha256': 'ab'.repeat(32),
      'd1.token.subject': 's',
      'd1.token.id': 't',
      'client.address': '192.0.2.1',
      'd1.pin.replayed_is_current': false,
      'd1.operation': 'SetPIN',
      'd1.outcome': 'refused',
      'http.response.status_code': 400,
      'd1.issuer.id': ISSUER,
      'd1.card.id': 'card-1',
      'd1.correlation.id': 'run-1',
      'd1.caller': 'd1',
      'd1.pin.type': '3DES_SECCOS',
      'd1.pin.replayed': false,
      'd1.refusal.reason': 'message',
      'd1.refusal.field': 'intdatag',
      'd1.refusal.detail': 'spent',
      'error.type': 'ERR_CHANGE_COUNTER',
      'd1.key.role': ['jwe', 'd1-public'],
      'd1.key.id': ['JWE-1', 'D1'],
      'd1.key.check_value': ['abc', ''],
      'd1.duration_ms': 1.5,
    })
    const bare: AuditEvent = {
      ...made,
      outcome: 'refused',
      status: 404,
      refusal: { reason: 'route' },
      keys: [],
      durationMs: 0,
    }
    expect(otelAttributes(bare)).toMatchObject({ 'error.type': 'route', 'd1.outcome': 'refused' })
    expect(otelAttributes({ outcome: 'success', status: 204, keys: [], durationMs: 0 })).not.toHaveProperty(
      'error.type',
    )
  })

  test('a refusal knows its row of the table', () => {
    expect(new Refusal('card-unknown').rule).toEqual({ status: 404 })
  })
})

describe('the listener for Node', () => {
  const message = (more: object): IncomingMessage =>
    Object.assign(Readable.from([]), {
      method: 'GET',
      url: '/',
      rawHeaders: [],
      complete: true,
      httpVersion: '1.1',
      ...more,
    }) as never
  const answerTo = async (incoming: IncomingMessage, answer: EndpointHandler): Promise<ServerResponse> => {
    const outgoing = new ServerResponse(incoming)
    outgoing.assignSocket(new PassThrough() as never)
    nodeListener(answer)(incoming, outgoing)
    await new Promise(resolve => outgoing.once('close', resolve))
    return outgoing
  }
  const ok: EndpointHandler = async () => new Response('{}')

  test('closes the connection where the handler, or the Web, refuses to go on', async () => {
    const failing = await answerTo(message({}), () => Promise.reject(new Error('x')))
    expect([failing.destroyed, failing.headersSent]).toEqual([true, false])
    const header = await answerTo(message({ rawHeaders: ['x', 'a\r\nb'] }), ok)
    expect([header.destroyed, header.headersSent]).toEqual([true, false])
    const nothing = await answerTo(message({ rawHeaders: ['x'], method: undefined, url: undefined }), ok)
    expect(nothing.headersSent).toBe(false)
  })

  test('a client that hangs up is told to the handler, one that has its answer is not', async () => {
    let request: Request | undefined
    const wire = await new Wire(async given => {
      request = given
      if (given.url.endsWith('/quick')) return new Response('{}')
      await new Promise(resolve => given.signal.addEventListener('abort', resolve))
      return new Response('{}')
    }).open()
    await wire.ask('/quick')
    await sleep(20)
    expect(request?.signal.aborted).toBe(false)
    const socket = wire.connect()
    socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
    await expect.poll(() => request?.url).toContain('/slow')
    socket.destroy()
    await expect.poll(() => request?.signal.aborted).toBe(true)
    await wire.close()
  })

  test('a body that somebody else has read is an empty one', async () => {
    const incoming = message({ method: 'PUT' })
    incoming.resume()
    await new Promise(resolve => incoming.once('end', resolve))
    let text = 'not read'
    const outgoing = new ServerResponse(incoming)
    outgoing.assignSocket(new PassThrough() as never)
    const done = new Promise<void>(resolve => {
      nodeListener(async request => {
        text = await request.text()
        resolve()
        return new Response(null, { status: 204 })
      })(incoming, outgoing)
    })
    await done
    expect(text).toBe('')
  })

  test('a client error on a connection that is closed already is not answered', () => {
    const open = new PassThrough()
    answerClientError(new Error('x'), open)
    expect(String(open.read())).toBe(
      'HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n' +
        'Content-Length: 23\r\nConnection: close\r\n\r\n{"error":"Bad request"}',
    )
    const closed = new PassThrough().end()
    answerClientError(new Error('x'), closed)
    expect(closed.destroyed).toBe(true)
  })
})
