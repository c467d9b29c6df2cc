/**
 * The search on the samples of eight schemes, computed by an independent program: told the layout and what a document would say
 * first, it finds the rest from three samples, and from one it names nothing.
 */
import { describe, expect, test } from 'vitest'
import type { PinForm, ProfileField } from '../../src/seccos/profile/profile.js'
import { checkProfile } from '../../src/tools/check-profile.js'
import { type KnownComputation, searchProfile } from '../../src/tools/search/search.js'
import { keyMaterial } from '../seccos/fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from '../seccos/schemes.js'
import { failure } from '../support/errors.js'
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
 * What is told besides the field table, the length of the random number and the names of external values. Short: the algorithm, as
 * a document's first page says it, so that the suite need not wait; `npm run search` leaves it out and has five minutes for each.
 */
const { LONG } = process.env
const TOLD: Readonly<Record<Scheme, { readonly prw?: KnownComputation; readonly mac?: KnownComputation }>> = {
  // The label of a KDF is nobody's to guess.
  derived: { mac: { derivation: derived.mac.derivation } },
  external: {
    mac: { inputs: [{ input: 'dataSet.masked' }, UNKNOWN, UNKNOWN, { input: 'prw', form: 'text' }] },
  },
  // Four forms of the PIN in one PRW: a document says how many, and some of them.
  forms: {
    prw: { inputs: [forms.prw.inputs[0], UNKNOWN, forms.prw.inputs[2], UNKNOWN, forms.prw.inputs[4]] },
  },
  parts: {
    mac: {
      inputs: [UNKNOWN, UNKNOWN, { input: 'prw', form: 'binary', part: { from: 'left', skip: 4, take: 8 } }],
    },
  },
  enciphered: {},
  // A field that is enciphered before it is MACed is rare: a document that has it says so.
  hashed: { prw: { inputs: [{ input: 'dataSet.masked' }, UNKNOWN] } },
  outputs: {},
  keyed: {},
}

/** The algorithm of a computation and all that goes with it but the inputs. */
function firstPage(scheme: Scheme, which: 'prw' | 'mac'): KnownComputation {
  const { algorithm, padding, iv, ...rest } = SCHEMES[scheme][which]
  const { derivation = [], digest = 'none' } = rest as KnownComputation
  return { algorithm, padding, iv, derivation, digest } as KnownComputation
}

const SHORT: Partial<Record<Scheme, KnownComputation>> = {
  derived: { inputs: [{ input: 'dataSet.masked' }, UNKNOWN] },
  outputs: { inputs: [{ input: 'dataSet.masked' }, UNKNOWN, UNKNOWN] },
  external: {
    inputs: SCHEMES.external.prw.inputs.map(part =>
      part.input === 'pan' || part.input === 'pinLength' ? UNKNOWN : part,
    ),
  },
}

function told(scheme: Scheme): { readonly prw: KnownComputation; readonly mac: KnownComputation } {
  const both = TOLD[scheme]
  if (LONG !== undefined) return { prw: {}, mac: {}, ...both }
  return {
    prw: { ...firstPage(scheme, 'prw'), ...SHORT[scheme], ...both.prw },
    mac: { ...firstPage(scheme, 'mac'), ...both.mac },
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

describe.each(Object.keys(SCHEMES) as Scheme[])('%s', name => {
  test('is found from three samples, and the draft agrees with them', async () => {
    const input = given(name)
    const { samples, prwTestKey, macTestKey } = input
    const { prw = expect.unreachable(), mac = expect.unreachable(), draft } = await searchProfile(input)
    if (LONG !== undefined) {
      for (const [what, { verdict, tried, decidedBy }] of Object.entries({ prw, mac } as const)) {
        console.log(
          `${name} ${what}: ${verdict}, ${tried} tried${decidedBy.length > 0 ? `; decided by ${decidedBy.join(', ')}` : ''}`,
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
  }, 60_000)
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
    expect(short.prw).toMatchObject({ timeUp: true, matches: [] })
  })

  test('two parts of the work find together what one finds', async () => {
    const inputs = [UNKNOWN, { input: 'prw', form: 'binary' } as const, UNKNOWN]
    const { known, ...rest } = given('enciphered')
    const wide = { ...rest, known: { ...known, mac: { ...known.mac, inputs: inputs.slice(0, 2) } } }
    const parts = await Promise.all(
      [0, 1].map(part => searchProfile({ ...wide, only: 'mac', share: { part, of: 2 } })),
    )
    expect(parts.map(({ mac }) => mac?.verdict)).toContain('winner')
    const all = await searchProfile({ ...wide, only: 'mac' })
    const [one] = parts
    expect(one?.mac?.tried).toBeLessThanOrEqual(all.mac?.tried ?? 0)
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

  test.each<[string, object, string]>([
    ['no samples', { samples: [] }, 'ERR_ARGUMENT'],
    ['a key of 8 bytes', { prwTestKey: new Uint8Array(8) }, 'ERR_LENGTH'],
    ['another name for one', { only: 'both' }, 'ERR_ARGUMENT'],
    ['no time', { timeLimitMs: 0 }, 'ERR_ARGUMENT'],
    ['a listener that is none', { onProgress: 'yes' }, 'ERR_ARGUMENT'],
    ['fields with a gap', { known: { fields: [], randomBytes: 0 } }, 'ERR_PROFILE'],
  ])('%s is refused', async (_name, change, code) => {
    await failure(
      () => searchProfile({ ...given('enciphered'), ...change } as never),
      code as 'ERR_ARGUMENT',
      [],
    )
  })
})
