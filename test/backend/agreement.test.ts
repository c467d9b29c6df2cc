/** Key agreement on threads of its own: the answers of one thread, whatever becomes of the others. */
import { createECDH, randomBytes } from 'node:crypto'
import { MessageChannel, Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { operationsOf } from '../../src/backend/key.js'
import {
  type AgreeingKey,
  type AgreementThread,
  AgreementThreads,
  agreementPort,
  agreementThread,
  serveAgreement,
} from '../../src/backend/software/agreement.js'
import { openSoftware } from '../../src/backend/software/software.js'
import { startBeside } from '../../src/base/beside.js'
import { openJwe, type SealedContent, sealJwe } from '../../src/index.js'
import { encryptContent } from '../../src/primitives/a256gcm.js'
import { concatKdf } from '../../src/primitives/concat-kdf.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'
import { hostOf } from '../support/host.js'

const HOST = hostOf('backend/software/agreement-entry.ts')

const scalars = (): Uint8Array => {
  const ecdh = createECDH('prime256v1')
  ecdh.generateKeys()
  return Uint8Array.from(Buffer.from(ecdh.getPrivateKey().toString('hex').padStart(64, '0'), 'hex'))
}

/** Real threads, and those that were started. */
function counted(): { start: () => AgreementThread; workers: Worker[] } {
  const workers: Worker[] = []
  const start = (): AgreementThread => {
    const worker = startBeside(HOST)
    workers.push(worker)
    return agreementThread(worker)
  }
  return { start, workers }
}

const KEYS = [1, 2].map(n => ({
  kid: `ISSUER-${n}`,
  usage: 'jwe-key-agreement' as const,
  algorithm: 'ec-p256' as const,
  material: scalars(),
}))

async function sealed(recipient: object, count: number): Promise<string[]> {
  const text = (i: number): Uint8Array => new TextEncoder().encode(`content ${i}`)
  return Promise.all(Array.from({ length: count }, (_, i) => sealJwe({ plaintext: text(i), recipient })))
}

describe('a backend with jwe.workers', () => {
  test('opens what one without them opens, with two keys and more in flight than the threads have places for', async () => {
    const { start, workers } = counted()
    const backend = await openSoftware({ keys: KEYS, jwe: { workers: 2 } }, start)
    const keys = await Promise.all(KEYS.map(({ kid, usage }) => backend.bind({ kid, usage })))
    const jwes = (await Promise.all(keys.map(key => sealed({ ...key.publicJwk, kid: key.kid }, 150)))).flat()
    const opened = await Promise.all(jwes.map(jwe => openJwe({ jwe, keys })))
    expect(opened.map(({ plaintext }) => Buffer.from(plaintext).toString())).toEqual(
      [0, 1].flatMap(() => Array.from({ length: 150 }, (_, i) => `content ${i}`)),
    )
    expect(opened.map(({ kid }) => kid)).toEqual(jwes.map((_, i) => (i < 150 ? 'ISSUER-1' : 'ISSUER-2')))
    expect((await backend.health()).detail).toContain('2 of 2 threads for key agreement')
    await backend.close()
    expect(workers.map(worker => worker.threadId)).toEqual([-1, -1])
    await expect(openJwe({ jwe: jwes[0] ?? '', keys })).rejects.toMatchObject({ code: 'ERR_BACKEND_CLOSED' })
  })

  test('a wrong tag is the one error, and a call that is given up gets no content', async () => {
    const backend = await openSoftware({ keys: KEYS, jwe: { workers: 1 } }, counted().start)
    const key = await backend.bind({ kid: 'ISSUER-1', usage: 'jwe-key-agreement' })
    const [jwe = ''] = await sealed({ ...key.publicJwk, kid: key.kid }, 1)
    const other = jwe.endsWith('A') ? 'Q' : 'A'
    await expect(openJwe({ jwe: `${jwe.slice(0, -1)}${other}`, keys: key })).rejects.toMatchObject({
      code: 'ERR_JWE',
    })
    const controller = new AbortController()
    const pending = openJwe({ jwe, keys: key }, { signal: controller.signal })
    controller.abort()
    await expect(pending).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    await backend.close()
  })

  test('threads that end by themselves cost no answer: what they had is computed here', async () => {
    const { start, workers } = counted()
    const backend = await openSoftware({ keys: KEYS, jwe: { workers: 2 } }, start)
    const key = await backend.bind({ kid: 'ISSUER-2', usage: 'jwe-key-agreement' })
    const jwes = await sealed({ ...key.publicJwk, kid: key.kid }, 300)
    for (const [i, left] of [1, 0].entries()) {
      const pending = Promise.all(jwes.map(jwe => openJwe({ jwe, keys: key })))
      await workers[i]?.terminate()
      expect((await pending).length).toBe(300)
      expect((await backend.health()).detail).toContain(`${left} of 2 threads for key agreement`)
    }
    expect((await Promise.all(jwes.map(jwe => openJwe({ jwe, keys: key })))).length).toBe(300)
    // A key that is bound when no thread is left is computed with here.
    const late = await backend.bind({ kid: 'ISSUER-1', usage: 'jwe-key-agreement' })
    const [jwe = ''] = await sealed({ ...late.publicJwk, kid: late.kid }, 1)
    expect((await openJwe({ jwe, keys: late })).kid).toBe('ISSUER-1')
    await backend.close()
  })

  test.each([0, -1, 1.5, 65, '2', null, Number.NaN, undefined])('workers %j is refused', async workers => {
    const options = { keys: KEYS, jwe: { workers } } as never
    await expect(softwareBackend(options)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test('jwe has no other member', async () => {
    const options = { keys: KEYS, jwe: { workers: 1, threads: 1 } } as never
    await expect(softwareBackend(options)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  test('where the file is not beside the program, opening says so, and a thread that was started ends', async () => {
    await expect(softwareBackend({ keys: KEYS, jwe: { workers: 1 } })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringContaining('agreement-host.mjs is not beside the program'),
    })
    const { start, workers } = counted()
    let begun = 0
    const second = (): AgreementThread => {
      if (begun++ > 0) throw new TypeError('no more threads')
      return start()
    }
    await expect(AgreementThreads.open(2, second)).rejects.toThrow('no more threads')
    expect(workers.map(worker => worker.threadId)).toEqual([-1])
  })

  test('a thread that ends before it is there is an error of opening', async () => {
    const broken = (): AgreementThread => {
      const worker = new Worker('process.exit(1)', { eval: true })
      return agreementThread(worker)
    }
    await expect(AgreementThreads.open(1, broken)).rejects.toMatchObject({ code: 'ERR_BACKEND_FAILED' })
  })
})

describe('between the threads', () => {
  /** A thread in this thread, what is sent to it on record. */
  function near(): {
    start: () => AgreementThread
    sent: Record<string, unknown>[]
    told: number[]
    held: string[]
  } {
    const sent: Record<string, unknown>[] = []
    const told: number[] = []
    const held: string[] = []
    const start = (): AgreementThread => {
      const { port1, port2 } = new MessageChannel()
      const far = agreementPort(port2)
      serveAgreement({
        postMessage: (message, transfer) => {
          if (Array.isArray(message)) told.push(...(message as number[]))
          far.postMessage(message, transfer)
        },
        on: (event, listener) =>
          far.on(event, message => {
            if (event === 'message') sent.push(message as Record<string, unknown>)
            listener(message)
          }),
      })
      const port = agreementPort(port1)
      const noted = {
        ...port,
        ref: () => {
          held.push('ref')
          port.ref()
        },
        unref: () => {
          held.push('unref')
          port.unref()
        },
      }
      return { port: noted, end: () => port1.close() }
    }
    return { start, sent, told, held }
  }

  const scalar = scalars()
  const ecdh = createECDH('prime256v1')
  ecdh.setPrivateKey(scalar)
  const peer = createECDH('prime256v1')
  const ephemeralPublicKey = Uint8Array.from(peer.generateKeys())
  const request = { ephemeralPublicKey, otherInfo: randomBytes(40), length: 32 }
  const z = peer.computeSecret(ecdh.getPublicKey())
  const under = concatKdf(z, request.otherInfo, 32)
  const plaintext = randomBytes(200)
  const content = encryptContent(under, { aad: randomBytes(300), iv: randomBytes(12), plaintext })
  const open = (threads: AgreementThreads, key: AgreeingKey, one: SealedContent = content) =>
    threads.open(key, request, one)

  test('the scalar that a thread is given is wiped when it is taken in, and no place keeps a content', async () => {
    const { start, sent, told, held } = near()
    const threads = await AgreementThreads.open(1, start)
    // Nothing is asked of it: it keeps no process from ending.
    expect(held).toEqual(['unref'])
    const key = threads.add(ecdh, scalar)
    const answers = await Promise.all(Array.from({ length: 100 }, () => open(threads, key)))
    for (const opened of answers) expect(opened).toEqual(new Uint8Array(plaintext))
    // By the thread, each of them, also what waited for a place: nothing of it came here to be opened.
    expect(told.map(one => one % 3)).toEqual(Array.from({ length: 100 }, () => 0))
    const [given] = sent.filter(order => 'scalar' in order)
    expect(given?.['scalar']).toEqual(Uint8Array.from({ length: 32 }, () => 0))
    const memory = sent[0]?.['memory'] as Uint8Array
    expect(memory.some(byte => byte !== 0)).toBe(false)
    // Held as long as something is asked for, and let go when nothing is.
    expect(held.at(1)).toBe('ref')
    expect(held.at(-1)).toBe('unref')
    await threads.close()
    expect(memory.some(byte => byte !== 0)).toBe(false)
  })

  test('a thread that goes when it is told to end is waited for no longer', async () => {
    const { start } = near()
    const threads = await AgreementThreads.open(1, () => {
      const thread = start()
      const { port } = thread
      let go = (): void => expect.unreachable()
      const on: typeof port.on = (event, listener) => {
        if (event === 'exit') go = () => listener(undefined)
        port.on(event, listener)
      }
      const postMessage: typeof port.postMessage = (message, transfer) =>
        'end' in Object(message) ? go() : port.postMessage(message, transfer)
      return { ...thread, port: { ...port, on, postMessage } }
    })
    await threads.close()
    expect(threads.alive.now).toBe(0)
  })

  test('what a thread had opened when it went, and nobody had been told of, is wiped', async () => {
    const { start, sent } = near()
    let [told, go] = [0, (): void => expect.unreachable()]
    const threads = await AgreementThreads.open(1, () => {
      const thread = start()
      const { port } = thread
      const on: typeof port.on = (event, listener) => {
        if (event === 'exit') go = () => listener(undefined)
        port.on(event, message => (Array.isArray(message) ? void told++ : listener(message)))
      }
      return { ...thread, port: { ...port, on } }
    })
    const key = threads.add(ecdh, scalar)
    const answers = Promise.all([1, 2, 3].map(() => open(threads, key)))
    while (told === 0) await new Promise(resolve => setImmediate(resolve))
    const [{ memory: shared } = expect.unreachable()] = sent
    const memory = Buffer.from((shared as Uint8Array).buffer)
    expect(memory.includes(plaintext)).toBe(true)
    go()
    // It is computed here once more.
    expect(await answers).toEqual([1, 2, 3].map(() => new Uint8Array(plaintext)))
    expect(memory.some(byte => byte !== 0)).toBe(false)
    await threads.close()
  })

  test('what a thread cannot do is tried here, and fails here as it would without threads', async () => {
    const { start } = near()
    const threads = await AgreementThreads.open(1, start)
    const key = threads.add(ecdh, scalar)
    const off = { ...request, ephemeralPublicKey: Uint8Array.from([4, ...randomBytes(64)]) }
    await expect(threads.open(key, off, content)).rejects.toThrow()
    // A key that the thread does not know.
    expect(await open(threads, { ecdh, number: 7 })).toEqual(new Uint8Array(plaintext))
    await threads.close()
  })

  test('a thread that says twice what it has done is heard once', async () => {
    const { start } = near()
    const echo = (): AgreementThread => {
      const { port, end } = start()
      const on: typeof port.on = (event, listener) =>
        port.on(event, message => {
          listener(message)
          listener(message)
        })
      const twice = {
        on,
        postMessage: port.postMessage.bind(port),
        ref: () => port.ref(),
        unref: () => port.unref(),
      }
      return { port: twice, end } as AgreementThread
    }
    const threads = await AgreementThreads.open(1, echo)
    const key = threads.add(ecdh, scalar)
    const answers = await Promise.all(Array.from({ length: 50 }, () => open(threads, key)))
    for (const opened of answers) expect(opened).toEqual(new Uint8Array(plaintext))
    await threads.close()
  })

  test('a wrong tag is told across, and shows nothing of the content', async () => {
    const { start, sent } = near()
    const threads = await AgreementThreads.open(1, start)
    const key = threads.add(ecdh, scalar)
    const tag = content.tag.map((byte, i) => (i === 0 ? byte ^ 1 : byte))
    expect(await open(threads, key, { ...content, tag })).toBeUndefined()
    const memory = sent[0]?.['memory'] as Uint8Array
    expect(memory.some(byte => byte !== 0)).toBe(false)
    await threads.close()
  })

  test('the port takes A256GCM alone: a key of 32 bytes, an IV of 12, a tag of 16', async () => {
    const material = scalar
    const usage = 'jwe-key-agreement'
    const backend = await softwareBackend({ keys: [{ kid: 'J', usage, algorithm: 'ec-p256', material }] })
    const port = operationsOf(await backend.bind({ kid: 'J', usage }))
    expect(await port.openContent(request, content)).toEqual(new Uint8Array(plaintext))
    const tag = content.tag.map(byte => byte ^ 1)
    expect(await port.openContent(request, { ...content, tag })).toBeUndefined()
    await failure(() => port.openContent({ ...request, length: 16 }, content), 'ERR_ARGUMENT')
    for (const wrong of [
      { iv: randomBytes(11) },
      { tag: randomBytes(12) },
      { ciphertext: randomBytes(8193) },
    ])
      await failure(() => port.openContent(request, { ...content, ...wrong }), 'ERR_LENGTH')
    const { iv: _, ...without } = content
    await failure(() => port.openContent(request, without as never), 'ERR_ARGUMENT')
    await backend.close()
  })

  test('what is too long for a place is opened here', async () => {
    const { start, sent } = near()
    const threads = await AgreementThreads.open(1, start)
    const key = threads.add(ecdh, scalar)
    const long = randomBytes(8192)
    const sealed = encryptContent(under, { aad: randomBytes(4096), iv: randomBytes(12), plaintext: long })
    expect(await open(threads, key, sealed)).toEqual(new Uint8Array(long))
    expect(sent.filter(order => 'open' in order)).toEqual([])
    await threads.close()
  })
})
