/** A profile against the samples of eight invented schemes: it agrees, or the nearest reading that would is named. */
import { describe, expect, test } from 'vitest'
import { parseProfile } from '../../src/seccos/profile/parse.js'
import { checkProfile } from '../../src/tools/check-profile.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { expectNoSecrets } from '../seccos/fixtures.js'
import { SAMPLES, type Sample, SCHEMES, valuesOf } from '../seccos/schemes.js'
import { failure } from '../support/errors.js'
import { someOf } from '../support/some-of.js'
import { bytes } from '../support/vectors.js'

type Scheme = keyof typeof SCHEMES
const NAMES = Object.keys(SCHEMES) as Scheme[]
const KEYS = {
  tdea: [bytes('0123456789ABCDEFFEDCBA9876543210'), bytes('7CA110454A1A6E570131D9619DC1376E')],
  aes: [bytes('2B7E151628AED2A6ABF7158809CF4F3C'), bytes('77A77FAF290C1FA30C683DF16BA7A77B')],
  hmac: [
    bytes('000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F'),
    bytes('202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F'),
  ],
} as const

const keysOf = (profile: { prw: { algorithm: string }; mac: { algorithm: string } }) => {
  const cipher = (algorithm: string) =>
    algorithm.startsWith('hmac') ? 'hmac' : algorithm.includes('aes') ? 'aes' : 'tdea'
  return {
    prwTestKey: KEYS[cipher(profile.prw.algorithm)][0],
    macTestKey: KEYS[cipher(profile.mac.algorithm)][1],
  }
}
const samplesOf = (name: Scheme, samples: readonly Sample[] = SAMPLES[name]) =>
  samples.map(sample => {
    const { prwDataSet, prwValue, macValue } = sample
    return { ...valuesOf(name, sample), prwDataSet, prwValue, macValue }
  })

describe.each(NAMES)('%s', name => {
  test('agrees with its samples', async () => {
    const profile = parseProfile(SCHEMES[name])
    const check = await checkProfile({ profile, samples: samplesOf(name), ...keysOf(profile) })
    expect(check.agrees).toBe(true)
    expect(check.prw).toEqual({ agrees: true, nearest: [] })
    for (const sample of check.samples) {
      expect(sample).toMatchObject({ prw: true, mac: true, fields: expect.arrayContaining(['pcc']) })
    }
  })
})

describe('one entry that is wrong', () => {
  const { prw, mac, ...rest } = SCHEMES.external
  test.each<[string, object, 'prw' | 'mac', string]>([
    ['padding', { prw, mac: { ...mac, padding: 2 } }, 'mac', 'padding 1 in place of 2'],
    [
      'alignment',
      { prw: { ...prw, inputs: [{ ...prw.inputs[0], align: 'right' }, ...prw.inputs.slice(1)] }, mac },
      'prw',
      'inputs/0 (pan) left-aligned, filled with 20',
    ],
    [
      'order',
      { prw: { ...prw, inputs: [prw.inputs[0], prw.inputs[2], prw.inputs[1], ...prw.inputs.slice(3)] }, mac },
      'prw',
      'inputs/1 (cdt) and the one after it exchanged',
    ],
    [
      'form of the PRW',
      { prw, mac: { ...mac, inputs: [...mac.inputs.slice(0, 3), { input: 'prw', form: 'binary' }] } },
      'mac',
      'inputs/3 (prw) as text',
    ],
    [
      'one input too many',
      { prw, mac: { ...mac, inputs: [...mac.inputs, { input: 'constant', constant: '80' }] } },
      'mac',
      'without inputs/4 (constant)',
    ],
    ['PIN form', { pinBlock: 'iso9564-format-2', prw, mac }, 'prw', 'the PIN as digits-bcd'],
    ['algorithm', { prw, mac: { ...mac, algorithm: 'iso9797-1-alg1' } }, 'mac', 'iso9797-1-alg3, padding 1'],
    ['IV', { prw, mac: { ...mac, iv: '0000000000000001' } }, 'mac', 'a zero IV'],
    ['digest', { prw: { ...prw, digest: 'sha-1' }, mac }, 'prw', 'no digest before'],
  ])('%s: the nearest reading is named', async (_what, change, which, says) => {
    const profile = parseProfile({ ...rest, ...change })
    const check = await checkProfile({ profile, samples: samplesOf('external'), ...keysOf(profile) })
    expect(check.agrees).toBe(false)
    expect(check[which]).toEqual({ agrees: false, nearest: [says] })
    expect(check[which === 'prw' ? 'mac' : 'prw'].agrees).toBe(true)
    expectNoSecrets(check)
  })

  test('a reading that one sample speaks against is no nearest, whichever sample that is', async () => {
    const profile = parseProfile({ ...rest, prw, mac: { ...mac, padding: 2 } })
    const samples = samplesOf('external')
    for (const at of samples.keys()) {
      const other = samples.map((sample, i) => (i === at ? { ...sample, macValue: '0'.repeat(16) } : sample))
      const check = await checkProfile({ profile, samples: other, ...keysOf(profile) })
      expect(check.mac, `sample ${at}`).toEqual({ agrees: false, nearest: [] })
    }
  })

  const digits = { encoding: 'bcd', align: 'exact' }
  const hidden = {
    id: 'pinBlock',
    offset: 41,
    length: 8,
    encoding: 'binary',
    align: 'exact',
    masked: true,
  }
  const filler = { id: 'filler', offset: 49, length: 74, constant: '00'.repeat(74) }
  test.each<
    [
      string,
      Scheme,
      (scheme: object & Record<'prw' | 'mac' | 'fields', never>) => object,
      'prw' | 'mac',
      string[],
    ]
  >([
    [
      'an algorithm that takes an IV',
      'external',
      ({ mac }) => ({ mac: { ...(mac as object), algorithm: 'cmac-tdea', padding: 'none', iv: 'none' } }),
      'mac',
      ['iso9797-1-alg3, padding 1'],
    ],
    [
      'a digest that is missing',
      'hashed',
      ({ prw }) => {
        const { digest: _, ...plain } = prw as object & { digest?: unknown }
        return { prw: plain }
      },
      'prw',
      ['sha-256 before'],
    ],
    [
      'another digest',
      'hashed',
      ({ mac }) => ({ mac: { ...(mac as object), digest: 'sha-256' } }),
      'mac',
      ['sha-1 before'],
    ],
    [
      'padding of the second kind',
      'enciphered',
      ({ prw }) => ({ prw: { ...(prw as object), padding: 1 } }),
      'prw',
      ['padding 2 in place of 1'],
    ],
    [
      'the data set with its masks',
      'parts',
      ({ prw }) => ({
        prw: {
          ...(prw as object),
          inputs: [{ input: 'dataSet.masked' }, { input: 'pinBlock' }],
          uncovered: ['pan', 'pan12'],
        },
      }),
      'prw',
      ['inputs/0 (dataSet.masked) in full'],
    ],
    [
      'the text of what is cut out',
      'outputs',
      ({ mac }) => ({ mac: { ...(mac as object), text: 'hex-upper' } }),
      'mac',
      ['text hex-ebcdic'],
    ],
    [
      'the data set in full',
      'keyed',
      ({ prw }) => ({
        prw: {
          ...(prw as object),
          inputs: [{ input: 'dataSet.full' }, { input: 'pinBlock' }],
          uncovered: [],
        },
      }),
      'prw',
      ['inputs/0 (dataSet.full) masked'],
    ],
    [
      'digits from outside that are packed',
      'external',
      ({ prw }) => ({
        prw: {
          ...(prw as object),
          inputs: SCHEMES.external.prw.inputs.map(part =>
            'id' in part && part.id === 'cdt' ? { ...part, ...digits, length: 2 } : part,
          ),
        },
      }),
      'prw',
      [
        'inputs/2 (cdt) left-aligned as ascii, filled with 20',
        'inputs/2 (cdt) right-aligned as ascii, filled with 30',
        'inputs/2 (cdt) right-aligned as ascii, filled with 20',
        'inputs/2 (cdt) exactly as ascii',
      ],
    ],
    [
      'a PIN block that is in the data set',
      'keyed',
      ({ fields }) => ({
        pinBlock: 'iso9564-format-2',
        fields: [...(fields as object[]).slice(0, 5), hidden, filler],
      }),
      'prw',
      ['the PIN as digits-bcd (where its field is as long)'],
    ],
  ])('%s', async (_what, name, change, which, nearest) => {
    const profile = parseProfile({ ...SCHEMES[name], ...change(SCHEMES[name] as never) })
    const check = await checkProfile({ profile, samples: samplesOf(name), ...keysOf(profile) })
    expect(check[which]).toEqual({ agrees: false, nearest })
  })

  test('the end that is cut away', async () => {
    const { output: _, ...plain } = SCHEMES.outputs.mac
    const profile = parseProfile({ ...SCHEMES.outputs, mac: plain })
    const check = await checkProfile({ profile, samples: samplesOf('outputs'), ...keysOf(profile) })
    expect(check.mac.nearest).toEqual(['the rightmost bytes in place of the leftmost'])
  })
})

describe('samples', () => {
  const profile = parseProfile(SCHEMES.enciphered)
  const keys = keysOf(profile)
  const [one = expect.unreachable(), ...others] = samplesOf('enciphered')

  test('of which one does not read: said of that one', async () => {
    const bad = { ...one, prwDataSet: `01${one.prwDataSet.slice(2)}` }
    const check = await checkProfile({ profile, samples: [bad, ...others], ...keys })
    expect(check.samples[0]).toEqual({
      fields: [],
      prw: undefined,
      mac: undefined,
      problem: 'data set: pan must be masked: zero bytes',
    })
    expect(check.samples[1]).toMatchObject({ prw: true, mac: true })
    expect(check.agrees).toBe(false)
  })

  test.each([0, 1, 2])(
    'of which number %i is another key’s: it disagrees, and nothing is near',
    async wrong => {
      const samples = [one, ...others].map((sample, i) => ({
        ...sample,
        ...(i === wrong && { macValue: '0000000000000000' }),
      }))
      const check = await checkProfile({ profile, samples, ...keys })
      expect(check.samples.map(({ mac }) => mac)).toEqual([0, 1, 2].map(i => i !== wrong))
      expect(check.mac).toEqual({ agrees: false, nearest: [] })
    },
  )

  test('that lack a value: the problem names it', async () => {
    const scheme = parseProfile(SCHEMES.external)
    const samples = samplesOf('external').map(sample => ({ ...sample, fields: {} }))
    const check = await checkProfile({ profile: scheme, samples, ...keysOf(scheme) })
    expect(check.samples[0]).toMatchObject({
      prw: undefined,
      mac: true,
      problem: 'prw: data set: cdp is missing',
    })
    const nameless = samplesOf('external').map(sample => ({ ...sample, prwKid: undefined as never }))
    expect(
      (await checkProfile({ profile: scheme, samples: nameless, ...keysOf(scheme) })).samples[0],
    ).toMatchObject({
      prw: true,
      mac: undefined,
      problem: 'mac: data set: prwKid is missing',
    })
  })

  test('and keys that are none are refused', async () => {
    const secrets = [one.prwDataSet]
    await failure(() => checkProfile({ profile, samples: [], ...keys }), 'ERR_ARGUMENT', secrets)
    await failure(
      () => checkProfile({ ...keys, profile, samples: [{ ...one, pan: 7 as never }] }),
      'ERR_ARGUMENT',
      secrets,
    )
    await failure(
      () => checkProfile({ ...keys, profile, samples: [{ ...one, pin: '1234' as never }] }),
      'ERR_ARGUMENT',
      secrets,
    )
    await failure(
      () => checkProfile({ ...keys, profile, samples: [one], prwTestKey: '0'.repeat(16) as never }),
      'ERR_ARGUMENT',
      secrets,
    )
    await failure(
      () => checkProfile({ ...keys, profile, samples: [{ ...one, macValue: 7 as never }] }),
      'ERR_ARGUMENT',
      secrets,
    )
    await failure(
      () => checkProfile({ ...keys, profile: {} as never, samples: [one] }),
      'ERR_ARGUMENT',
      secrets,
    )
    await failure(
      () => checkProfile({ ...keys, profile, samples: [one], prwTestKey: new Uint8Array(8) }),
      'ERR_LENGTH',
      secrets,
    )
  })

  test('leave no copy of either key, also where one of them is refused', async () => {
    const tdea = parseProfile(SCHEMES.outputs)
    const [sample = expect.unreachable()] = samplesOf('outputs')
    const { prwTestKey, macTestKey } = keysOf(tdea)
    const none = new Uint8Array(macTestKey.length)
    for (const [more, code] of [
      [{}, undefined],
      [{ macTestKey: none.subarray(1) }, 'ERR_LENGTH'],
      [{ macTestKey: none }, 'ERR_KEY_WEAK'],
      [{ prwTestKey: none }, 'ERR_KEY_WEAK'],
    ] as const) {
      const { value, buffers } = await buffersMadeBy(() =>
        checkProfile({ profile: tdea, samples: [sample], prwTestKey, macTestKey, ...more }).then(
          () => undefined,
          (error: { code?: unknown }) => error.code,
        ),
      )
      expect(value).toBe(code)
      for (const buffer of someOf(buffers))
        for (const key of [prwTestKey, macTestKey])
          expect(Buffer.from(buffer).includes(Buffer.from(key.subarray(0, 8)))).toBe(false)
    }
  })
})
