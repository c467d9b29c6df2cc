/**
 * The parts of the search, each alone: which ways, values and lists are tried when, what a thread answers to an order out of its turn,
 * and the searches that the samples of the eight schemes do not lead to.
 */
import { createCipheriv, createHmac } from 'node:crypto'
import { MessageChannel } from 'node:worker_threads'
import { describe, expect, test, vi } from 'vitest'
import { chooseEngine } from '../../src/backend/software/engine.js'
import { PinBlockError, requireOurs } from '../../src/base/errors.js'
import { Pan } from '../../src/primitives/pan.js'
import { Pin } from '../../src/primitives/pin.js'
import { resolveInput } from '../../src/seccos/computation.js'
import type { DataSetValues } from '../../src/seccos/field-value.js'
import { encodePin } from '../../src/seccos/profile/forms.js'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import {
  ALGORITHMS,
  enciphers,
  type ProfileAlgorithm,
  type SeccosProfile,
} from '../../src/seccos/profile/profile.js'
import type { ProfileSample } from '../../src/tools/check-profile.js'
import { portOf, type StartedThread, serveSearch, threads } from '../../src/tools/search/crew.js'
import { judge } from '../../src/tools/search/judge.js'
import { layoutsOf } from '../../src/tools/search/layouts.js'
import { groupsOf } from '../../src/tools/search/lists.js'
import { outputsFor } from '../../src/tools/search/outputs.js'
import { searchProfile, searchWith } from '../../src/tools/search/search.js'
import { tokensOf } from '../../src/tools/search/tokens.js'
import { requireKnown, waySets } from '../../src/tools/search/ways.js'
import {
  batches,
  beginTier,
  materialOf,
  newBoard,
  TIERS,
  triedOn,
  Work,
} from '../../src/tools/search/work.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { keyMaterial, PAN_DIGITS } from '../seccos/fixtures.js'
import { SAMPLES, SCHEMES, valuesOf } from '../seccos/schemes.js'
import { failure } from '../support/errors.js'
import { hostOf } from '../support/host.js'
import { someOf } from '../support/some-of.js'
import { bytes } from '../support/vectors.js'

const HOST = hostOf('tools/search/host-entry.ts')

type Scheme = keyof typeof SCHEMES
const EXACT = { encoding: 'binary', align: 'exact' } as const
const samplesOf = (name: Scheme): ProfileSample[] =>
  SAMPLES[name].map(sample => {
    const { prwDataSet, prwValue, macValue } = sample
    return { ...valuesOf(name, sample), macKid: 'MAC-KEY', prwDataSet, prwValue, macValue }
  })
const [sample = expect.unreachable()] = samplesOf('keyed')
const profile = parseProfile(SCHEMES.keyed)
const keys = {
  prwTestKey: bytes(keyMaterial('hmac32', 0).material),
  macTestKey: bytes(keyMaterial('hmac32', 1).material),
}
const known = { fields: profile.fields, randomBytes: 8, pinBlock: 'digits-bcd' } as const

test('an error that nobody foresaw is no answer', () => {
  expect(() => requireOurs(new TypeError('x'))).toThrow(TypeError)
  expect(() => requireOurs(new PinBlockError())).not.toThrow()
  expect(() => requireOurs(new PinBlockError(), 'ERR_PIN_BLOCK')).not.toThrow()
  expect(() => requireOurs(new PinBlockError(), 'ERR_PAN')).toThrow(PinBlockError)
})

describe('ways', () => {
  const waysOf = (
    more: object,
    keyBytes: number,
    which: 'prw' | 'mac' = 'prw',
    of: SeccosProfile = profile,
  ) =>
    ([1, 2, 3] as const).map(tier =>
      [...waySets({ known: more, keyBytes, profile: of, which }, tier)].flatMap(set => [...set]),
    )

  test('where nothing is told: MACs first, then encipherments, IVs and digests, then derived keys; no two rarities', () => {
    const [first = [], second = [], third = []] = waysOf({}, 16)
    expect(
      first.every(
        ({ algorithm, digest, derivation }) => !digest && !derivation && !algorithm.endsWith('ecb'),
      ),
    ).toBe(true)
    expect(second.some(({ algorithm }) => algorithm === 'aes-ecb')).toBe(true)
    expect(second.some(({ digest }) => digest === 'sha-1')).toBe(true)
    expect(second).toContainEqual(
      expect.objectContaining({ algorithm: 'iso9797-1-alg3', iv: { inputs: [{ input: 'random' }] } }),
    )
    expect(second.every(({ derivation }) => derivation === undefined)).toBe(true)
    expect(third.length).toBeGreaterThan(0)
    expect(third.every(({ derivation, digest }) => derivation !== undefined && digest === undefined)).toBe(
      true,
    )
  })

  test.each([16, 24, 32])(
    'for a key of %i bytes each algorithm is tried with each padding, IV, digest and derivation',
    length => {
      for (const which of ['prw', 'mac'] as const) {
        const names = (Object.keys(ALGORITHMS) as ProfileAlgorithm[]).filter(
          name =>
            ALGORITHMS[name].keyBytes.includes(length) &&
            (which === 'prw' || ALGORITHMS[name].macUsage !== undefined),
        )
        const ways = waysOf({}, length, which)
          .flat()
          .map(({ algorithm, padding, iv, digest = 'none', derivation }) => {
            const kind = iv === 'none' ? iv : typeof iv === 'string' ? iv.slice(0, 4) : 'random'
            const steps = (derivation ?? []).map(step =>
              'complement' in step ? String(step.complement) : step.method,
            )
            return { algorithm, padding, kind, digest, derived: steps.join('+') || 'none' }
          })
        for (const name of someOf(names)) {
          const { paddings, hasIv, blockBytes, cipher } = ALGORITHMS[name]
          const own = ways.filter(({ algorithm }) => algorithm === name)
          const seen = (of: keyof (typeof ways)[number]) => [...new Set(own.map(way => way[of]))].sort()
          expect([name, seen('padding')]).toEqual([name, [...paddings].sort()])
          const ivs = ['0000', '0001', 'FFFF', ...(blockBytes === profile.randomBytes ? ['random'] : [])]
          expect([name, seen('kind')]).toEqual([name, hasIv ? ivs : ['none']])
          expect([name, seen('digest')]).toEqual([name, ['none', 'sha-1', 'sha-256']])
          // By the card's PAN, by its PCC, and by one after the other; of an encipherment, which is rare itself, none.
          const derived = ['false', 'none', 'true', 'true+false']
          const hasNone = cipher === 'hmac' || (enciphers(name) && which === 'prw')
          expect([name, seen('derived')]).toEqual([name, hasNone ? ['none'] : derived])
          // Each padding with each of what is not rare.
          for (const padding of paddings)
            for (const digest of ['none', 'sha-1', 'sha-256'])
              expect(own).toContainEqual(expect.objectContaining({ padding, digest, derived: 'none' }))
        }
      }
    },
  )

  test('a derivation takes a block of the cipher, and the PSN where there is one', () => {
    const inputsOf = (algorithm: string, of: SeccosProfile) =>
      waysOf({ algorithm }, 16, 'prw', of)[2]?.map(({ derivation }) => derivation?.[0])
    const pan = { input: 'pan', encoding: 'bcd', align: 'right', pad: '0' }
    const noPsn = { ...profile, fields: profile.fields.filter(({ id }) => id !== 'psn') }
    expect(inputsOf('cmac-aes', noPsn)).toEqual([
      expect.objectContaining({ inputs: [{ ...pan, length: 16 }], complement: true }),
      expect.objectContaining({
        inputs: [expect.anything(), { input: 'constant', constant: '00'.repeat(14) }],
      }),
      expect.objectContaining({ inputs: [{ ...pan, length: 16 }] }),
    ])
    const short = expect.objectContaining({ length: 7, part: { from: 'right', skip: 0, take: 14 } })
    expect(inputsOf('cmac-tdea', profile)?.[0]).toMatchObject({
      inputs: [short, { input: 'field', id: 'psn' }],
    })
    expect(waysOf({}, 32, 'mac')[2]?.some(({ algorithm }) => algorithm === 'hmac-sha256')).toBe(false)
  })

  test('a member that no profile has is refused, and not shown where it is no word', () => {
    const given = { known: { [PAN_DIGITS]: 1 } as object, keyBytes: 16, profile, which: 'prw' } as const
    expect(() => requireKnown(given)).toThrow(
      expect.objectContaining({ path: '/prw/(a name that is no word)' }),
    )
  })

  test('what is known for no algorithm of the key’s length is refused as for the first of them', () => {
    const given = { known: { padding: 9 as never }, keyBytes: 16, profile, which: 'prw' } as const
    expect(() => requireKnown(given)).toThrow(expect.objectContaining({ path: '/prw/padding' }))
  })
})

describe('values and lists', () => {
  test('a form of the PIN that is told and rare is tried; an external value that no sample has is a byte', () => {
    const form = { digits: 'ascii', length: 8, align: 'left', pad: '20' } as const
    const external = [{ id: 'far', kind: 'bytes' }] as const
    const [layout] = layoutsOf({ ...known, pinBlock: form, external }, [sample])
    const tokens = tokensOf(layout, 'prw', [sample])
    expect(tokens).toContainEqual(
      expect.objectContaining({ input: { input: 'pinBlock', pinForm: form }, rank: 1 }),
    )
    expect(tokens).toContainEqual(
      expect.objectContaining({ input: { input: 'external', id: 'far', length: 1, ...EXACT } }),
    )
    const told = (of: SeccosProfile) =>
      tokensOf(of, 'prw', [sample]).filter(
        ({ input }) => 'pinForm' in input && JSON.stringify(input.pinForm) === JSON.stringify(of.pinBlock),
      )
    expect(told(layout)).toHaveLength(1)
    expect(told({ ...profile, pinBlock: 'digits-ascii' as never })).toHaveLength(1)
  })

  test('in the orders of documents every list for a MAC has the PRW, and every one for a PRW the PIN', () => {
    for (const [which, must] of [
      ['mac', 'prw'],
      ['prw', 'pinBlock'],
    ] as const) {
      const tokens = tokensOf(profile, which, [sample])
      const lists = [...groupsOf({ tokens, which, known: undefined, withFull: false }, 2)].flatMap(
        ({ prefix, rests }) => [...rests()].map(rest => [...prefix, ...rest]),
      )
      expect(lists.length).toBeGreaterThan(10)
      expect(lists.every(list => list.some(({ input }) => input === must))).toBe(true)
    }
  })

  test.each(['prw', 'mac'] as const)(
    '%s: where a list is tried, it is so with each form of each of its values, and shorter by each that it need not have',
    which => {
      const must = which === 'prw' ? 'pinBlock' : 'prw'
      // Two forms of each value, and so few values that all lists are counted out.
      const kinds = ['pan', 'psn', 'pcc', 'pinLength', 'random', 'intdatag', 'dataSet', must]
      const tokens = kinds.flatMap(kind =>
        ['a', 'b'].map(
          id =>
            ({
              kind,
              rank: 1,
              input: { input: 'external', id: `${kind} ${id}`, length: 1, ...EXACT },
            }) as const,
        ),
      )
      const listsOf = (tier: 1 | 2): string[][] =>
        [...groupsOf({ tokens, which, known: undefined, withFull: false }, tier)].flatMap(
          ({ prefix, rests }) =>
            [...rests()].map(rest => [...prefix, ...rest].map(part => ('id' in part ? part.id : part.input))),
        )
      const kindsOf = (list: readonly string[]): string => list.map(id => id.split(' ')[0]).join(' ')
      for (const tier of [1, 2] as const) {
        const byKinds = new Map<string, Set<string>>()
        for (const list of listsOf(tier)) {
          const known = byKinds.get(kindsOf(list)) ?? new Set()
          byKinds.set(kindsOf(list), known.add(list.join(', ')))
        }
        expect(byKinds.size).toBeGreaterThan(10)
        for (const [order, forms] of byKinds) {
          const values = order.split(' ')
          expect([order, forms.size]).toEqual([order, 2 ** values.length])
          if (tier === 1 || values.length <= 4) continue
          for (const [i, kind] of values.entries())
            if (kind !== must)
              expect(byKinds.has(values.toSpliced(i, 1).join(' ')), `${order} without ${kind}`).toBe(true)
        }
        // Of two and three values, in every order, those that have what they need.
        if (tier === 2) continue
        const needed = new Set([must, ...(which === 'mac' ? ['dataSet'] : [])])
        const arranged = kinds.flatMap(one =>
          kinds.flatMap(two => [[one, two], ...kinds.map(three => [one, two, three])]),
        )
        const right = arranged.filter(
          list => new Set(list).size === list.length && list.some(kind => needed.has(kind)),
        )
        expect([...byKinds.keys()].sort()).toEqual([must, ...right.map(list => list.join(' '))].sort())
      }
    },
  )

  test('more digits than the bytes have are no output of theirs', () => {
    const outputs = outputsFor('prwValue', ['12345678901234567890'])('cmac-aes').filter(
      ({ as }) => as.text === 'digits',
    )
    expect(outputs.length).toBeGreaterThan(0)
    expect(outputs.every(({ whole = 0 }) => 2 * whole >= 20)).toBe(true)
    const folded = outputs.filter(({ as }) => as.output?.some(({ step }) => step === 'fold'))
    expect(folded.every(({ whole = 0 }) => whole >= 20)).toBe(true)
  })

  test('a list that is told whole is tried once', () => {
    const list = [{ input: 'dataSet.masked' }, { input: 'pinBlock' }] as const
    const tokens = tokensOf(profile, 'prw', [sample])
    const groups = ([1, 2, 3] as const).map(tier => [
      ...groupsOf({ tokens, which: 'prw', known: list, withFull: false }, tier),
    ])
    expect(groups.map(found => found.map(({ prefix, rests }) => [prefix, [...rests()]]))).toEqual([
      [[list, [[]]]],
      [],
      [],
    ])
  })

  test('lists are tried so many at a time, the last as many as there are', () => {
    const of = (count: number): number[][] => [
      ...batches(Array.from({ length: count }, (_, i) => i).values(), 3),
    ]
    expect(of(0)).toEqual([])
    expect(of(2)).toEqual([[0, 1]])
    expect(of(3)).toEqual([[0, 1, 2]])
    expect(of(7)).toEqual([[0, 1, 2], [3, 4, 5], [6]])
  })

  test('each tier goes by what is known: nothing, with the data set in full or not, or a list with a hole', () => {
    const tokens = tokensOf(profile, 'prw', [sample])
    const hole = [{ input: 'pinBlock' }, { input: 'unknown' }] as const
    const count = (known: typeof hole | undefined, withFull: boolean, tier: 1 | 2 | 3): number => {
      const groups = [...groupsOf({ tokens, which: 'prw', known, withFull }, tier)]
      return groups.reduce((sum, { rests }) => sum + [...rests()].length, 0)
    }
    const tiers = (known: typeof hole | undefined, withFull: boolean): number[] =>
      ([1, 2, 3] as const).map(tier => count(known, withFull, tier))
    const [common, more, rare] = tiers(undefined, false)
    expect(common).toBeGreaterThan(0)
    expect(more).toBeGreaterThan(0)
    expect(rare).toBeGreaterThan(common ?? 0)
    const [supposed, never, supposedRare] = tiers(undefined, true)
    expect([supposed, never]).toEqual([expect.any(Number), 0])
    expect(supposedRare).toBeGreaterThan(supposed ?? 0)
    const [filled, again, all] = tiers(hole, false)
    expect(filled).toBeGreaterThan(0)
    expect(again).toBe(0)
    expect(all).toBeGreaterThan(filled ?? 0)
  })

  test('places of the PIN and of PANs of one even length are told or supposed', () => {
    const samples = samplesOf('keyed').map(one => ({ ...one, pan: Pan.from(PAN_DIGITS) }))
    const pinBlock = {
      id: 'pinBlock',
      offset: 60,
      length: 6,
      ...EXACT,
      pinForm: { digits: 'bcd', length: 6, align: 'left', pad: 'F' },
      masked: true,
    } as const
    const layouts = layoutsOf({ places: [pinBlock], pinBlock: pinBlock.pinForm }, samples)
    const pins = layouts.map(({ fields }) =>
      fields.filter(field => 'value' in field || field.id === 'pinBlock'),
    )
    expect(pins.every(found => found.some(({ id, offset }) => id === 'pinBlock' && offset === 60))).toBe(true)
    const pans = layouts.flatMap(({ fields }) => fields.filter(({ id }) => id === 'pan'))
    expect(pans).toContainEqual(expect.objectContaining({ length: 8, encoding: 'bcd', align: 'exact' }))
  })

  test('the PRW is read in the form it is in: hex, base64, base64url, or as it is written', () => {
    const raw = Buffer.from('fbff00112233445566', 'hex')
    const read = (prwValue: string) =>
      Buffer.from(materialOf(profile, { ...sample, prwValue }).prw?.bytes ?? []).toString('hex')
    expect(read(raw.toString('hex'))).toBe(raw.toString('hex'))
    expect(read(raw.toString('base64'))).toBe(raw.toString('hex'))
    expect(read(raw.toString('base64url'))).toBe(raw.toString('hex'))
    expect(read('12 34')).toBe(Buffer.from('12 34').toString('hex'))
    // As long as base64 of nine bytes, and none.
    expect(read('????????????')).toBe('3f'.repeat(12))
  })
})

describe('a search', () => {
  const ENCIPHERED = {
    input: 'enciphered',
    mode: 'ecb',
    iv: 'none',
    padding: 1,
    inputs: [{ input: 'pinBlock', pinForm: 'iso9564-format-2' }],
  } as const
  const ecb = (key: Buffer, data: Buffer): Buffer =>
    createCipheriv('aes-128-ecb', key, null).setAutoPadding(false).update(data)
  const cbc = (key: string, iv: string, data: string): string => {
    const cipher = createCipheriv(
      'aes-128-cbc',
      Buffer.from(key, 'hex'),
      Buffer.from(iv, 'hex'),
    ).setAutoPadding(false)
    return cipher.update(Buffer.from(data, 'hex')).toString('hex').slice(-32).toUpperCase()
  }

  test('finds the last block of a CBC encipherment', async () => {
    const key = keyMaterial('aes16', 0).material
    const samples = samplesOf('enciphered').map((one, i) => {
      const pin = SAMPLES.enciphered[i]?.pin ?? expect.unreachable()
      const data = `${one.prwDataSet}${pin.padEnd(12, 'F')}`
      const padded = `${data}80`.padEnd(Math.ceil((data.length + 2) / 32) * 32, '0')
      return { ...one, prwValue: cbc(key, '00'.repeat(16), padded) }
    })
    const prw = {
      algorithm: 'aes-cbc',
      padding: 2,
      inputs: [{ input: 'dataSet.masked' }, { input: 'pinBlock' }],
    } as const
    const pinBlock = { digits: 'bcd', length: 6, align: 'left', pad: 'F' } as const
    const found = await searchProfile({
      samples,
      prwTestKey: bytes(key),
      macTestKey: bytes(key),
      known: { ...known, pinBlock, prw },
      only: 'prw',
    })
    expect(found.prw).toMatchObject({
      verdict: 'winner',
      matches: [{ output: [{ step: 'slice', part: { from: 'right', skip: 0, take: 16 } }], outputBytes: 16 }],
    })
  })

  test('takes an input that is enciphered in CBC', async () => {
    const inside = { input: 'enciphered', mode: 'cbc', iv: '00'.repeat(8), padding: 1 } as const
    const { algorithm, digest } = SCHEMES.hashed.prw
    const prw = {
      algorithm,
      digest,
      inputs: [{ input: 'dataSet.masked' }, { ...inside, inputs: [{ input: 'pinBlock' }] }],
    } as const
    const key = bytes(keyMaterial('tdea16', 0).material)
    const search = (iv: string) =>
      searchProfile({
        samples: samplesOf('hashed'),
        prwTestKey: key,
        macTestKey: key,
        known: { ...known, prw: { ...prw, inputs: [prw.inputs[0], { ...prw.inputs[1], iv }] } },
        only: 'prw',
      })
    expect((await search('00'.repeat(8))).prw).toMatchObject({ verdict: 'winner' })
    expect((await search('01'.repeat(8))).prw).toMatchObject({ verdict: 'none' })
  })

  test.each([
    ['another cipher', 2, {}, (key: Buffer) => key],
    // The session key of the card's PCC.
    [
      'the key itself, before a derived one',
      3,
      { algorithm: 'aes-cbc', padding: 1, iv: '00'.repeat(16), digest: 'none' },
      (key: Buffer, pcc: string) => ecb(key, Buffer.from(pcc.padEnd(32, '0'), 'hex')),
    ],
  ] as const)(
    'enciphers an input under each key by itself, not as under %s',
    async (_, tier, told, keyOf) => {
      const material = keyMaterial('aes16', 0).material
      const samples = samplesOf('enciphered').map(one => {
        const key = keyOf(Buffer.from(material, 'hex'), one.pcc ?? expect.unreachable())
        const block = Buffer.from(encodePin('iso9564-format-2', { ...one, random: undefined }))
        const data = `${one.prwDataSet}${ecb(key, Buffer.concat([block, Buffer.alloc(8)])).toString('hex')}`
        const padded = data.padEnd(Math.ceil(data.length / 32) * 32, '0')
        return { ...one, prwValue: cbc(key.toString('hex'), '00'.repeat(16), padded) }
      })
      const inputs = [{ input: 'dataSet.masked' }, ENCIPHERED] as const
      const job = {
        which: 'prw',
        samples,
        key: bytes(material),
        layouts: [profile],
        known: { ...told, inputs },
      } as const
      const work = new Work(job, await chooseEngine('auto'))
      // In one search, so that what a tier before has kept is there.
      const found: string[][] = []
      for (let at = 0; at < TIERS.length; at++) {
        const board = newBoard()
        found.push((await work.tier(at, board)).map(({ computation }) => computation.algorithm))
      }
      work.close()
      expect(found[TIERS.findIndex(([way]) => way === tier)]).toContain('aes-cbc')
    },
  )

  test('finds nothing, and does not fail, where a key cannot be derived or an ICV cannot be made', async () => {
    const mac = {
      derivation: [{ method: 'xor', mask: 'C0'.repeat(32) }],
      inputs: [{ input: 'dataSet.masked' }, { input: 'prw', form: 'binary' }],
    } as const
    const none = await searchProfile({
      ...keys,
      samples: samplesOf('keyed'),
      known: { ...known, mac },
      only: 'mac',
    })
    expect(none.mac).toMatchObject({ verdict: 'none', matches: [] })

    const noKid = samplesOf('hashed').map(({ prwKid: _, ...one }) => one)
    const kid = { input: 'prwKid', length: 8, encoding: 'ascii', align: 'left', pad: '00' } as const
    const key = bytes(keyMaterial('tdea16', 1).material)
    const lacks = (more: object) =>
      searchProfile({
        samples: noKid,
        prwTestKey: key,
        macTestKey: key,
        known: { ...known, mac: { algorithm: 'iso9797-1-alg1', inputs: mac.inputs, ...more } },
        only: 'mac',
      })
    expect((await lacks({ iv: { inputs: [kid] }, derivation: [], digest: 'none' })).mac).toMatchObject({
      verdict: 'none',
    })
    const derivation = [{ method: 'encipher', inputs: [kid], complement: true }] as const
    expect((await lacks({ derivation, digest: 'none' })).mac).toMatchObject({ verdict: 'none' })
  })

  test('goes on behind a way whose ICV is a value that the samples do not have', async () => {
    const hidden = known.fields.map(field => (field.id === 'random' ? { ...field, masked: true } : field))
    const { material } = keyMaterial('tdea16', 1)
    const key = Buffer.from(`${material}${material.slice(0, 16)}`, 'hex')
    const samples = samplesOf('hashed').map(({ random: _, ...one }): ProfileSample => {
      const prwDataSet = `${one.prwDataSet.slice(0, 26)}${'00'.repeat(8)}${one.prwDataSet.slice(42)}`
      const data = Buffer.from(`${prwDataSet}${one.prwValue}`, 'hex')
      const padded = Buffer.concat([data, Buffer.alloc(-data.length & 7)])
      const cipher = createCipheriv('des-ede3-cbc', key, Buffer.alloc(8, 0xff)).setAutoPadding(false)
      const macValue = cipher.update(padded).subarray(-8).toString('hex').toUpperCase()
      return { ...one, prwDataSet, macValue }
    })
    const inputs = [{ input: 'dataSet.masked' }, { input: 'prw', form: 'binary' }] as const
    const found = await searchProfile({
      samples,
      prwTestKey: bytes(material),
      macTestKey: bytes(material),
      known: { ...known, fields: hidden, mac: { algorithm: 'iso9797-1-alg1', padding: 1, inputs } },
      only: 'mac',
    })
    expect(found.mac).toMatchObject({ verdict: 'winner', matches: [{ iv: 'FF'.repeat(8) }] })
  })

  test('names no draft where what is stored would not suffice to verify', async () => {
    const hidden = known.fields.map(field => (field.id === 'random' ? { ...field, masked: true } : field))
    const hmac = (which: 0 | 1, ...parts: readonly (Uint8Array | string)[]): string => {
      const mac = createHmac('sha256', Buffer.from(keyMaterial('hmac32', which).material, 'hex'))
      for (const part of parts) mac.update(typeof part === 'string' ? Buffer.from(part, 'hex') : part)
      return mac.digest('hex').toUpperCase()
    }
    const samples = samplesOf('keyed').map((one): ProfileSample => {
      const prwDataSet = `${one.prwDataSet.slice(0, 26)}${'00'.repeat(8)}${one.prwDataSet.slice(42)}`
      const block = encodePin('digits-bcd', { pin: one.pin, pan: one.pan, random: undefined })
      const prwValue = hmac(0, prwDataSet, one.random ?? expect.unreachable(), block)
      return { ...one, prwDataSet, prwValue, macValue: hmac(1, prwDataSet, prwValue).slice(0, 16) }
    })
    const masked = { input: 'dataSet.masked' } as const
    const found = await searchProfile({
      ...keys,
      samples,
      known: {
        ...known,
        fields: hidden,
        prw: { inputs: [masked, { input: 'unknown', value: 'random' }, { input: 'pinBlock' }] },
        mac: { inputs: [masked, { input: 'prw', form: 'binary' }] },
      },
    })
    expect([found.prw?.verdict, found.mac?.verdict]).toEqual(['winner', 'winner'])
    expect(found.draft).toBe(undefined)
  })

  test('matches are asked for what no sample has: each length, and another content of each value, one at a time', async () => {
    const matches = [1, 2].map(() => ({ layout: 0, computation: profile.prw }))
    const [first = expect.unreachable(), second = expect.unreachable()] = samplesOf('keyed')
    const job = (samples: readonly ProfileSample[]) =>
      ({ which: 'prw', samples, key: keys.prwTestKey, layouts: [profile], known: {} }) as const
    const end = { matches, timeUp: false, tooMany: false }
    const base = materialOf(profile, first).values
    // By what is another there, which must be that alone.
    const shown = ({ pan, pin, fields, ...values }: DataSetValues): Record<string, string> => ({
      ...Object.fromEntries(Object.entries(values).map(([id, value]) => [id, String(value)])),
      ...Object.fromEntries(Object.entries(fields ?? {}).map(([id, value]) => [id, String(value)])),
      ...{ pan: pan?.reveal() ?? '', pin: pin?.reveal() ?? '' },
    })
    const before = shown(base)
    const changed: string[][] = []
    let turn = 0
    const { decidedBy } = await judge(job([first, second]), end, async (_, { values }) => {
      const now = shown(values)
      changed.push(Object.keys(before).filter(id => now[id] !== before[id]))
      return String(turn++)
    })
    const lengths = (of: 'pan' | 'pin', all: readonly number[]) =>
      all.filter(length => ![first, second].some(one => one[of].length === length))
    const fields = Object.keys(base.fields ?? {})
    expect(decidedBy).toEqual([
      ...lengths('pan', [12, 13, 16, 19]).map(length => `a PAN of ${length} digits`),
      ...lengths('pin', [4, 5, 6, 8, 12]).map(length => `a PIN of ${length} digits`),
      ...['another PCC', 'another intdatag', 'another random number'],
      ...fields.map(id => `another ${id}`),
    ])
    const once = [
      ...lengths('pan', [12, 13, 16, 19]).map(() => ['pan']),
      ...lengths('pin', [4, 5, 6, 8, 12]).map(() => ['pin']),
      ...[['pcc'], ['intdatag'], ['random']],
      ...fields.map(id => [id]),
    ]
    expect(changed).toEqual([...once, ...once])
    // Two samples are two where either of what a sample shows is another; the same twice is one.
    const same = async (samples: readonly ProfileSample[]) =>
      (await judge(job(samples), end, async () => 'same')).verdict
    const other = { dataSet: second.prwDataSet, value: second.prwValue }
    expect(await same([first, first])).toBe('more-samples-needed')
    expect(await same([first, { ...first, prwDataSet: other.dataSet }])).toBe('winner')
    expect(await same([first, { ...first, prwValue: other.value }])).toBe('winner')
  })

  test('two matches of one function are one, and what cannot be computed for a card is an answer, too', async () => {
    const { prw } = profile
    const matches = [1, 2].map(() => ({ layout: 0, computation: prw }))
    const samples = samplesOf('keyed')
    const job = { which: 'prw', samples, key: keys.prwTestKey, layouts: [profile], known: {} } as const
    const end = { matches, timeUp: false, tooMany: false }
    const asked: string[] = []
    const verdict = await judge(job, end, async (_, { values }) => {
      asked.push(String(values.pcc))
      return values.pcc === '8246' ? undefined : 'same'
    })
    expect(verdict).toMatchObject({ verdict: 'winner', decidedBy: [], matches: [matches[0]] })
    expect(asked).toContain('8246')
    // Where not all was tried that is as likely, what is found is not the winner.
    for (const part of [{ timeUp: true }, { tooMany: true }])
      expect(await judge(job, { ...end, ...part }, async () => 'same')).toMatchObject({
        verdict: 'ambiguous',
      })
    const work = new Work(job, await chooseEngine('auto'))
    const material = materialOf(profile, sample)
    expect(await work.text(prw, { ...material, values: { ...material.values, pin: undefined } })).toBe(
      undefined,
    )
    expect(await work.text(prw, material)).toBe(sample.prwValue)
    work.close()
  })
})

test('of what a worker computes nothing stays: no PIN, no enciphered one, no data set in full, no key', async () => {
  const material = Buffer.from(keyMaterial('tdea16', 0).material, 'hex')
  const block = Buffer.from(
    encodePin('iso9564-format-2', { pin: sample.pin, pan: sample.pan, random: undefined }),
  )
  const whole = Buffer.from(resolveInput({ input: 'dataSet.full' }, materialOf(profile, sample)))
  const cipher = createCipheriv('des-ede3', Buffer.concat([material, material.subarray(0, 8)]), null)
  const enciphered = cipher.setAutoPadding(false).update(block)
  const secrets = {
    'PIN block': block,
    'enciphered PIN block': enciphered,
    PAN: whole.subarray(0, 8),
    key: material.subarray(0, 8),
  }
  const pinBlock = { input: 'pinBlock', pinForm: 'iso9564-format-2' } as const
  const own = { input: 'enciphered', mode: 'ecb', iv: 'none', padding: 1, inputs: [pinBlock] } as const
  const job = {
    which: 'prw',
    samples: [{ ...sample, prwValue: '0'.repeat(16) }],
    key: Uint8Array.from(material),
    layouts: [profile],
    known: { inputs: [{ input: 'dataSet.full' }, pinBlock, own] },
  } as const
  const { value, buffers } = await buffersMadeBy(async () => {
    const work = new Work(job, await chooseEngine('auto'))
    const board = newBoard()
    // What is common, then digests and other IVs, then derived keys.
    for (const tier of TIERS.keys()) {
      beginTier(board)
      await work.tier(tier, board)
    }
    work.close()
    return triedOn(board)
  })
  expect(value).toBeGreaterThan(10)
  const left = someOf(buffers).flatMap(buffer =>
    buffer === (job.key.buffer as ArrayBufferLike)
      ? []
      : Object.entries(secrets).flatMap(([name, secret]) =>
          Buffer.from(buffer).includes(secret) ? name : [],
        ),
  )
  expect(left).toEqual([])
})

test('what a worker keeps of each layout is wiped when it ends, of the last as of the first', async () => {
  const whole = Buffer.from(resolveInput({ input: 'dataSet.full' }, materialOf(profile, sample)))
  const job = {
    which: 'prw',
    samples: samplesOf('keyed'),
    key: keys.prwTestKey,
    layouts: [profile, profile, profile],
    known: { inputs: [{ input: 'dataSet.full' }] },
  } as const
  let kept = 0
  const { buffers } = await buffersMadeBy(async () => {
    const work = new Work(job, await chooseEngine('auto'))
    const { value, buffers: during } = await buffersMadeBy(async () => {
      const board = newBoard()
      beginTier(board)
      await work.tier(0, board)
      return board
    })
    expect(triedOn(value)).toBeGreaterThan(0)
    kept = during.filter(holds).length
    work.close()
    expect(during.filter(holds)).toEqual([])
  })
  // Those of the three layouts were there.
  expect(kept).toBeGreaterThanOrEqual(3)
  expect(buffers.filter(holds)).toEqual([])

  function holds(buffer: ArrayBufferLike): boolean {
    return Buffer.from(buffer).includes(whole)
  }
})

describe('a thread', () => {
  const answersTo = (...orders: readonly unknown[]): Promise<unknown[]> =>
    new Promise(resolve => {
      const { port1, port2 } = new MessageChannel()
      const heard: unknown[] = []
      serveSearch(portOf(port2))
      portOf(port1).on('message', answer => {
        heard.push(answer)
        if (heard.length < orders.length) return
        port1.close()
        resolve(heard)
      })
      for (const order of orders) port1.postMessage(order)
    })

  test('answers an order out of its turn, and one that is none', async () => {
    expect(await answersTo({ tier: 0, board: new SharedArrayBuffer(64) }, null, { end: true })).toEqual([
      { matches: [] },
      { failed: 'a thread of the search failed' },
      { matches: [] },
    ])
  })

  test('disposes of the PIN of every sample when it is told to end', async () => {
    const made = vi.spyOn(Pin, 'from')
    const ascii = (digits: string) => Uint8Array.from(Buffer.from(digits))
    const plain = (pin: string) => ({ pan: ascii(PAN_DIGITS), pin: ascii(pin), rest: {} })
    const job = { which: 'prw', layouts: [], known: {} }
    const samples = [plain('1234'), plain('5678'), plain('9012')]
    await answersTo({ job, key: new Uint8Array(16), samples }, { end: true })
    const pins = made.mock.results.map(({ value }) => value as Pin)
    made.mockRestore()
    expect(pins).toHaveLength(3)
    for (const pin of pins) expect(() => pin.reveal()).toThrow(/disposed/)
  })

  test('says what is wrong with its job, where that is known', async () => {
    const [answer] = await answersTo({ job: { layouts: [{}] }, key: new Uint8Array(16), samples: [] })
    expect(answer).toEqual({ failed: expect.stringMatching(/^SECCOS profile: /) })
  })

  test('runs the file beside the program', async () => {
    vi.doMock('../../src/base/beside.js', async original => ({
      ...(await original<object>()),
      fileBeside: () => HOST,
    }))
    vi.resetModules()
    const fresh = await import('../../src/tools/search/crew.js')
    vi.doUnmock('../../src/base/beside.js')
    const job = { which: 'prw', samples: [], key: keys.prwTestKey, layouts: [profile], known: {} } as const
    // It has read its order: without samples there is nothing to find.
    const error = await failure(() => fresh.threads(job, 1), 'ERR_BACKEND_FAILED')
    expect(error.message).toMatch(/^prwValue is not 3 to 32 bytes/)
  })

  test('runs as a program of its own at its parent’s port', async () => {
    const { port1, port2 } = new MessageChannel()
    vi.doMock('node:worker_threads', async original => ({ ...(await original<object>()), parentPort: port2 }))
    await import('../../src/tools/search/host-entry.js')
    vi.doUnmock('node:worker_threads')
    const answer = new Promise(resolve => port1.once('message', resolve))
    port1.postMessage({ end: true })
    expect(await answer).toEqual({ matches: [] })
    port1.close()
  })

  test('of which one does not begin: all of them are ended', async () => {
    const ended: number[] = []
    let count = 0
    const start = (): StartedThread => {
      const number = count++
      let hear = (_: unknown): void => undefined
      return {
        port: {
          on: (event, listener) => {
            if (event === 'message') hear = listener
          },
          postMessage: order => {
            const fails = number === 1 && 'job' in Object(order)
            queueMicrotask(() => hear(fails ? { failed: 'no' } : { matches: [] }))
          },
        },
        end: () => ended.push(number),
      }
    }
    const job = { which: 'prw', samples: [], key: keys.prwTestKey, layouts: [profile], known: {} } as const
    await failure(() => threads(job, 3, start), 'ERR_BACKEND_FAILED')
    expect(ended).toEqual([0, 1, 2])
  })

  test('that works when another fails is stopped, and wipes what it has before it is ended', async () => {
    const steps: string[] = []
    let finish = (): void => undefined
    let count = 0
    const start = (): StartedThread => {
      const isFirst = count++ === 0
      let hear = (_: unknown): void => undefined
      const answer = (answer: object): void => queueMicrotask(() => hear(answer))
      return {
        port: {
          on: (event, listener) => {
            if (event === 'message') hear = listener
          },
          postMessage: order => {
            const [what = ''] = Object.keys(Object(order))
            if (isFirst) return answer(what === 'tier' ? { failed: 'no' } : { matches: [] })
            steps.push(what)
            if (what === 'end') queueMicrotask(() => steps.push('wiped'))
            if (what !== 'tier') return answer({ matches: [] })
            finish = () => {
              steps.push('answered')
              hear({ matches: [] })
            }
          },
        },
        end: () => isFirst || steps.push('ended'),
      }
    }
    const closing = new AbortController()
    const search = searchWith(
      { ...keys, samples: samplesOf('keyed'), known, only: 'prw', workers: 2 },
      async (job, count) => {
        const crew = await threads(job, count, start)
        let stopped = (): boolean => false
        return {
          tier: (index, board) => {
            stopped = () => Atomics.load(board.control, 1) === 1
            return crew.tier(index, board)
          },
          close: () => {
            steps.push(stopped() ? 'stopped' : 'goes on')
            closing.abort()
            return crew.close()
          },
        }
      },
    )
    const failed = failure(() => search, 'ERR_BACKEND_FAILED')
    await vi.waitFor(() => expect(closing.signal.aborted).toBe(true))
    finish()
    await failed
    expect(steps).toEqual(['job', 'tier', 'stopped', 'answered', 'end', 'wiped', 'ended'])
  })

  test('that has ended takes no more orders', async () => {
    let exit = (): void => undefined
    const ends = (): StartedThread => {
      let hear = (_: unknown): void => undefined
      return {
        port: {
          on: (event, listener) => {
            if (event === 'message') hear = listener
            if (event === 'exit') exit = () => listener(0)
          },
          postMessage: () => queueMicrotask(() => hear({ matches: [] })),
        },
        end: () => undefined,
      }
    }
    const job = { which: 'prw', samples: [], key: keys.prwTestKey, layouts: [profile], known: {} } as const
    const crew = await threads(job, 1, ends)
    exit()
    await failure(() => crew.tier(0, new SharedArrayBuffer(64) as never), 'ERR_BACKEND_FAILED')
    await crew.close()
  })
})

test.each([
  ['ends', async () => []],
  ['fails', async () => Promise.reject(new Error('no'))],
])('a search that %s leaves no timer: no process waits for its limit', async (_, tier) => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const input = {
      samples: [sample],
      ...keys,
      known,
      only: 'prw',
      workers: 1,
      stop: new AbortController().signal,
    } as const
    const during: number[] = []
    const crew = {
      tier: () => {
        during.push(vi.getTimerCount())
        return tier()
      },
      close: async () => undefined,
    }
    await searchWith(input, async () => crew).catch(() => undefined)
    // How far it is, and the limit.
    expect(new Set(during)).toEqual(new Set([2]))
    expect(vi.getTimerCount()).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})

test('a PIN of the samples is the caller’s: it is not wiped', async () => {
  using pin = Pin.from('1234')
  const [first = expect.unreachable()] = samplesOf('keyed')
  const search = searchProfile({ ...keys, samples: [{ ...first, pin }], known, only: 'prw', timeLimitMs: 1 })
  expect((await search).prw?.verdict).not.toBe('winner')
  expect(pin.length).toBe(4)
})
