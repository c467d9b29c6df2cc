/**
 * The search on the samples of eight schemes, computed by an independent program: told the layout and what a document would say
 * first, it finds the rest from three samples, and from one it names nothing.
 */
import { createHmac } from 'node:crypto'
import { MessageChannel, Worker } from 'node:worker_threads'
import { describe, expect, test, vi } from 'vitest'
import type { PinForm, ProfileField } from '../../src/seccos/profile/profile.js'
import { checkProfile } from '../../src/tools/check-profile.js'
import { portOf, type StartedThread, serveSearch, threads } from '../../src/tools/search/crew.js'
import { searchProfile, searchWith } from '../../src/tools/search/search.js'
import type { KnownComputation } from '../../src/tools/search/ways.js'
import { Work } from '../../src/tools/search/work.js'
import { keyMaterial } from '../seccos/fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from '../seccos/schemes.js'
import { failure } from '../support/errors.js'
import { hostOf } from '../support/host.js'
import { bytes } from '../support/vectors.js'

type Scheme = keyof typeof SCHEMES
const kinds: Readonly<Record<Scheme, readonly [prw: string, mac: string]>> = {
  derived: ['tdea16', 'aes16'],
  external: ['aes16', 'tdea16'],
  forms: ['tdea16', 'tdea16'],
  parts: ['aes16', 'aes16'],
  enciphered: ['aes16', 'aes16'],
  hashed: ['tdea16', 'tdea16'],
  outputs: ['tdea16', 'tdea16'],
  keyed: ['hmac32', 'hmac32'],
}
const UNKNOWN = { input: 'unknown' } as const
const { forms, derived } = SCHEMES

/**
 * What is told besides the field table, the length of the random number and the names of external values, where nothing is not enough.
 * In the suite, the algorithm is told, too, as a document's first page says it; `npm run search` leaves it out and has five minutes
 * for each.
 */
const { LONG } = process.env
const unknown = (value: string) => ({ input: 'unknown', value }) as const
type Told = { readonly prw?: KnownComputation; readonly mac?: KnownComputation }
const TOLD: Readonly<Partial<Record<Scheme, Told>>> = {
  // The label of a KDF is nobody's to guess.
  derived: { mac: { derivation: derived.mac.derivation } },
  // A document that hashes says so.
  hashed: { prw: { digest: 'sha-256' } },
  // Four forms of the PIN in one PRW: a document says which values there are, and two of the forms.
  forms: {
    prw: {
      inputs: [
        unknown('pinBlock'),
        forms.prw.inputs[1],
        unknown('pinBlock'),
        forms.prw.inputs[3],
        unknown('pan'),
      ],
    },
  },
}

/** The algorithm of a computation and all that goes with it but the inputs. */
function firstPage(scheme: Scheme, which: 'prw' | 'mac'): KnownComputation {
  const { algorithm, padding, iv, ...rest } = SCHEMES[scheme][which]
  const { derivation = [], digest = 'none' } = rest as KnownComputation
  return { algorithm, padding, iv, derivation, digest } as KnownComputation
}

const MASKED = { input: 'dataSet.masked' } as const
/** Where the suite is told more. */
const SHORT: Readonly<Partial<Record<Scheme, Told>>> = {
  derived: { prw: { inputs: [MASKED, UNKNOWN] } },
  outputs: { prw: { inputs: [MASKED, UNKNOWN, UNKNOWN] } },
  external: {
    prw: {
      inputs: SCHEMES.external.prw.inputs.map(part =>
        part.input === 'pan' || part.input === 'pinLength' ? UNKNOWN : part,
      ),
    },
    mac: { inputs: [MASKED, unknown('prwKid'), unknown('issuerId'), { input: 'prw', form: 'text' }] },
  },
  forms: {
    prw: { inputs: [forms.prw.inputs[0], UNKNOWN, forms.prw.inputs[2], UNKNOWN, forms.prw.inputs[4]] },
  },
  parts: { mac: { inputs: [UNKNOWN, unknown('pan'), SCHEMES.parts.mac.inputs[2]] } },
  hashed: { prw: { inputs: [MASKED, UNKNOWN] } },
}

function told(scheme: Scheme): { readonly prw: KnownComputation; readonly mac: KnownComputation } {
  const both = TOLD[scheme]
  if (LONG !== undefined) return { prw: {}, mac: {}, ...both }
  return {
    prw: { ...firstPage(scheme, 'prw'), ...both?.prw, ...SHORT[scheme]?.prw },
    mac: { ...firstPage(scheme, 'mac'), ...both?.mac, ...SHORT[scheme]?.mac },
  }
}

function given(name: Scheme, count = 3) {
  const scheme: { fields: readonly ProfileField[]; randomBytes: number; external?: never } = SCHEMES[
    name
  ] as never
  const samples = SAMPLES[name].slice(0, count).map(sample => {
    const { prwDataSet, prwValue, macValue } = sample
    return { ...valuesOf(name, sample), macKid: 'MAC-KEY', prwDataSet, prwValue, macValue }
  })
  const [prw, mac] = kinds[name]
  return {
    samples,
    prwTestKey: bytes(keyMaterial(prw, 0).material),
    macTestKey: bytes(keyMaterial(mac, 1).material),
    known: {
      fields: scheme.fields,
      randomBytes: scheme.randomBytes,
      pinBlock: SCHEMES[name].pinBlock as PinForm,
      ...(scheme.external !== undefined && { external: scheme.external }),
      ...told(name),
    },
  }
}

const HOST = hostOf('tools/search/host-entry.ts')

const far = (): StartedThread => {
  const worker = new Worker(HOST, { execArgv: [], argv: [], env: {} })
  return { port: portOf(worker), end: () => worker.terminate() }
}

function searchOnTwoCores(input: Parameters<typeof searchProfile>[0]) {
  return searchWith({ ...input, workers: 2 }, (job, count) => threads(job, count, far))
}

describe.each(Object.keys(SCHEMES) as Scheme[])('%s', name => {
  test('is found from three samples, and the draft agrees with them', async () => {
    const input = given(name)
    const { samples, prwTestKey, macTestKey } = input
    const begun = performance.now()
    const search = LONG === undefined ? searchProfile : searchOnTwoCores
    const { prw = expect.unreachable(), mac = expect.unreachable(), draft } = await search(input)
    if (LONG !== undefined) {
      for (const [what, { verdict, tried, decidedBy }] of Object.entries({ prw, mac } as const)) {
        console.log(
          `${name} ${what}: ${verdict}, ${tried} tried, both in ${Math.round((performance.now() - begun) / 1000)} s${decidedBy.length > 0 ? `; decided by ${decidedBy.join(', ')}` : ''}`,
        )
      }
    }
    expect([prw.verdict, mac.verdict]).not.toContain('none')
    if (draft === undefined) {
      expect([prw.verdict, mac.verdict]).toContain('ambiguous')
      return
    }
    const check = await checkProfile({ profile: draft, samples, prwTestKey, macTestKey })
    expect(check.agrees).toBe(true)
  }, 700_000)

  test('from one sample nothing is named', async () => {
    const { prw, mac, draft } = await searchProfile({ ...given(name, 1), timeLimitMs: 4000 })
    expect(draft).toBe(undefined)
    expect([prw?.verdict, mac?.verdict]).not.toContain('winner')
  })
})

describe('what is told', () => {
  test('one alone is searched, its progress is heard, and the time limit holds', async () => {
    const heard: string[] = []
    const { prw, mac } = await searchProfile({
      ...given('enciphered'),
      only: 'mac',
      onProgress: ({ which, matches }) => heard.push(`${which} ${matches}`),
    })
    expect(prw).toBe(undefined)
    expect(mac).toMatchObject({ verdict: 'winner', timeUp: false, decidedBy: [] })
    expect(heard.at(-1)).toBe('mac 1')
    const short = await searchProfile({ ...given('hashed'), only: 'prw', timeLimitMs: 1 })
    // What the first turn found by then is told, too: how far that comes is the machine's affair.
    expect(short.prw?.timeUp).toBe(true)
  })

  test.each<[string, object, string]>([
    ['is no object', null as never, '/prw'],
    ['has a member that nobody knows', { ivv: '00' }, '/prw/ivv'],
    ['names no algorithm', { algorithm: 'des' }, '/prw/algorithm'],
    ['has a padding of another algorithm', { algorithm: 'cmac-aes', padding: 2 }, '/prw/padding'],
    ['has an IV that is too short', { algorithm: 'aes-cbc', iv: '00' }, '/prw/iv'],
    ['has an input that is none', { inputs: [null] }, '/prw/inputs/0'],
    [
      'has an input of a field that is not there',
      { inputs: [UNKNOWN, { input: 'field', id: 'x' }] },
      '/prw/inputs/1/id',
    ],
    ['has no list of inputs', { inputs: 'all' }, '/prw/inputs'],
    ['has a list that cannot cover the PIN', { inputs: [{ input: 'dataSet.masked' }] }, '/prw/inputs'],
    ['has a hole for a value that is none', { inputs: [unknown('pni')] }, '/prw/inputs/0/value'],
    ['has a derivation that is none', { derivation: [{ method: 'guess' }] }, '/prw/derivation/0/method'],
    ['has a digest that is none', { digest: 'md5' }, '/prw/digest'],
  ])('what %s is refused with its place', async (_name, known, path) => {
    const input = given('enciphered')
    const search = searchProfile({ ...input, known: { ...input.known, prw: known }, only: 'prw' })
    await expect(search).rejects.toMatchObject({ code: 'ERR_PROFILE', path })
  })

  test('what is known of an encipherment is admitted', async () => {
    const input = given('enciphered')
    const known = { ...input.known, prw: { algorithm: 'aes-cbc' } as const }
    const { prw } = await searchProfile({ ...input, known, only: 'prw', timeLimitMs: 60_000 })
    expect(prw).toMatchObject({ verdict: 'winner', matches: [{ iv: '000102030405060708090A0B0C0D0E0F' }] })
  })

  test('samples that do not tell two functions apart are ambiguous, and the deciding card is named', async () => {
    // One byte binary and one byte packed are one thing for PINs of 4 and 5 digits, and not for 12.
    const inputs = SCHEMES.external.prw.inputs.map(part => (part.input === 'pinLength' ? UNKNOWN : part))
    const search = async (count: number) => {
      const { known, ...rest } = given('external', count)
      const prw = { ...known.prw, inputs }
      return (await searchProfile({ ...rest, known: { ...known, prw }, only: 'prw' })).prw
    }
    expect(await search(2)).toMatchObject({ verdict: 'ambiguous', decidedBy: ['a PIN of 12 digits'] })
    expect(await search(3)).toMatchObject({ verdict: 'winner', decidedBy: [] })
  })

  test('where more than 512 fit, the rest is not tried, and no winner is named', async () => {
    // Nine values that are the same byte in every sample: which three of them the MAC covers, nobody can say.
    const ids = [...'abcdefghi']
    const same = Object.fromEntries(ids.map(id => [id, Uint8Array.of(1)]))
    const { known, ...input } = given('keyed')
    const key = Buffer.from(input.macTestKey)
    const samples = input.samples.map(sample => {
      const covered = Buffer.from(`${sample.prwDataSet}010101${sample.prwValue}`, 'hex')
      const macValue = createHmac('sha256', key).update(covered).digest('hex').slice(0, 16).toUpperCase()
      return { ...sample, macValue, fields: { ...sample.fields, ...same } }
    })
    const search = (inputs: KnownComputation['inputs'] = []) =>
      searchProfile({
        ...input,
        samples,
        known: {
          ...known,
          external: ids.map(id => ({ id, kind: 'bytes' }) as const),
          mac: { ...known.mac, inputs },
        },
        only: 'mac',
      })
    const prw = { input: 'prw', form: 'binary' } as const
    const { mac } = await search([MASKED, ...ids.slice(0, 3).map(() => UNKNOWN), prw])
    expect(mac).toMatchObject({ verdict: 'ambiguous', tooMany: true, timeUp: false })
    expect(mac?.matches.length).toBeGreaterThan(512)
    // With one hole the few that fit are all there is.
    const byte = { input: 'external', length: 1, encoding: 'binary', align: 'exact' } as const
    const told = [MASKED, { ...byte, id: 'a' }, { ...byte, id: 'b' }, UNKNOWN, prw]
    const few = await search(told)
    expect(few.mac).toMatchObject({ verdict: 'ambiguous', tooMany: false })
  })

  test.each<[string, object, string]>([
    ['no samples', { samples: [] }, 'ERR_ARGUMENT'],
    ['a key of 8 bytes', { prwTestKey: new Uint8Array(8) }, 'ERR_LENGTH'],
    ['another name for one', { only: 'both' }, 'ERR_ARGUMENT'],
    ['no time', { timeLimitMs: 0 }, 'ERR_ARGUMENT'],
    ['a listener that is none', { onProgress: 'yes' }, 'ERR_ARGUMENT'],
    ['fields with a gap', { known: { fields: [], randomBytes: 0 } }, 'ERR_PROFILE'],
    ['no worker', { workers: 0 }, 'ERR_ARGUMENT'],
    ['half a worker', { workers: 1.5 }, 'ERR_ARGUMENT'],
    ['a signal that is none', { stop: 'now' }, 'ERR_ARGUMENT'],
    ['a key that is missing', { prwTestKey: undefined }, 'ERR_ARGUMENT'],
  ])('%s is refused', async (_name, change, code) => {
    await failure(
      () => searchProfile({ ...given('enciphered'), ...change } as never),
      code as 'ERR_ARGUMENT',
      [],
    )
  })
})

describe('several workers', () => {
  /** A worker in this thread, at the other end of a channel. */
  const near = (): StartedThread => {
    const { port1, port2 } = new MessageChannel()
    serveSearch(portOf(port2))
    return { port: portOf(port1), end: () => port1.close() }
  }
  test.each([
    ['in this thread', near],
    ['in threads of their own', far],
  ])('%s find what one finds, and try no candidate twice', async (_name, start) => {
    const input = { ...given('parts'), only: 'mac' } as const
    const alone = await searchProfile(input)
    const together = await searchWith({ ...input, workers: 2 }, (job, count) => threads(job, count, start))
    expect(together).toEqual(alone)
    expect(together.mac?.verdict).toBe('winner')
  })

  test('the signal ends the search, and what was tried is said', async () => {
    const stop = new AbortController()
    const { known, ...rest } = given('derived')
    const search = searchWith(
      {
        ...rest,
        known: { ...known, prw: {} },
        only: 'prw',
        workers: 2,
        stop: stop.signal,
        onProgress: ({ tried }) => {
          if (tried > 0) stop.abort()
        },
      },
      (job, count) => threads(job, count, far),
    )
    const { prw = expect.unreachable() } = await search
    expect(prw).toMatchObject({ timeUp: true, verdict: 'none', matches: [] })
    expect(prw.tried).toBeGreaterThan(0)
    const before = await searchProfile({ ...given('derived'), stop: stop.signal })
    expect(before).toMatchObject({ prw: { timeUp: true }, mac: { timeUp: true } })
  })

  test('what was given to a worker is its own and is wiped', async () => {
    const given: Uint8Array[] = []
    const { port1, port2 } = new MessageChannel()
    const port = portOf(port2)
    serveSearch({
      ...port,
      on: (event, listener) =>
        port.on(event, message => {
          const { key, samples = [] } = message as {
            key?: Uint8Array
            samples?: { pan: Uint8Array; pin: Uint8Array }[]
          }
          if (key !== undefined) given.push(key, ...samples.flatMap(({ pan, pin }) => [pan, pin]))
          listener(message)
        }),
    })
    const input = { ...input1(), workers: 1 }
    const key = input.macTestKey.slice()
    await searchWith(input, (job, count) =>
      threads(job, count, () => ({ port: portOf(port1), end: () => port1.close() })),
    )
    expect(given).toHaveLength(7)
    expect(given.every(bytes => bytes.every(byte => byte === 0))).toBe(true)
    expect(input.macTestKey).toEqual(key)
  })

  test('one that fails, or ends, fails the search with a code', async () => {
    const said = (message: unknown): StartedThread => {
      let answer = (_: unknown): void => undefined
      return {
        port: {
          on: (event, listener) => {
            if (event === (message === undefined ? 'exit' : 'message')) answer = listener
          },
          postMessage: () => queueMicrotask(() => answer(message)),
        },
        end: () => undefined,
      }
    }
    for (const message of [undefined, { failed: 'because' }]) {
      await failure(
        () =>
          searchWith({ ...input1(), workers: 2 }, (job, count) => threads(job, count, () => said(message))),
        'ERR_BACKEND_FAILED',
        [],
      )
    }
    // Beside the sources there is no file for a thread.
    await failure(() => searchProfile({ ...input1(), workers: 2 }), 'ERR_UNSUPPORTED', [])
    const broken = (): StartedThread => {
      const { port, end } = near()
      return {
        port: { ...port, postMessage: message => port.postMessage({ ...Object(message), job: null }) },
        end,
      }
    }
    await failure(
      () => searchWith({ ...input1(), workers: 1 }, (job, count) => threads(job, count, broken)),
      'ERR_BACKEND_FAILED',
      [],
    )
  })

  test.each([
    ['do not start', () => Promise.reject(new Error('no thread'))],
    [
      'do not end',
      async () => ({
        tier: () => Promise.reject(new Error('no tier')),
        close: () => Promise.reject(new Error('no end')),
      }),
    ],
  ])('what was prepared here is wiped where threads %s', async (_what, start) => {
    const close = vi.spyOn(Work.prototype, 'close')
    await expect(searchWith({ ...input1(), workers: 1 }, start)).rejects.toThrow('no ')
    expect(close).toHaveBeenCalledOnce()
    close.mockRestore()
  })

  function input1() {
    return { ...given('keyed'), only: 'mac' } as const
  }
})
