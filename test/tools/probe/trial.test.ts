/** Trying, on candidates of one message each. */
import { describe, expect, test } from 'vitest'
import { ownCopy } from '../../../src/base/bytes.js'
import { computeMac } from '../../../src/primitives/mac.js'
import type { Candidate, PreparedSample } from '../../../src/tools/probe/candidates.js'
import { type Target, targetsOf, testCiphers, tryAll } from '../../../src/tools/probe/trial.js'
import { buffersMadeBy } from '../../leaks/recorder.js'
import { nodeCiphers } from '../../mac/ciphers.js'
import { failure } from '../../support/errors.js'
import { someOf } from '../../support/some-of.js'
import { bytes, hex } from '../../support/vectors.js'

const KEY = bytes('0123456789ABCDEFFEDCBA9876543210')
const LONG = bytes('0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123')
const MESSAGES = ['first message', 'second message!!'].map(text => Uint8Array.from(Buffer.from(text)))

/** A candidate that MACs the message of the sample by its number, and remembers what it gave out. */
function candidate(messages: readonly (Uint8Array | undefined)[], given: Uint8Array[] = []): Candidate {
  return {
    inputs: [{ input: 'dataSet.masked' }],
    layout: { pan: undefined, pin: undefined },
    pinForm: undefined,
    message: sample => {
      const message = messages[Number(sample.pcc)]?.slice()
      if (message !== undefined) given.push(message)
      return message
    },
  }
}
const samples = (count: number): PreparedSample[] =>
  Array.from({ length: count }, (_, i) => ({ pcc: String(i) }) as PreparedSample)
const target = (values: readonly Uint8Array[], outputBytes = 8): Target => ({
  text: 'hex-upper',
  outputBytes,
  values: values.map(value => value.subarray(0, outputBytes)),
})
const retail = (message: Uint8Array): Uint8Array =>
  computeMac({ algorithm: 'iso9797-1-alg3', padding: 2 }, nodeCiphers(KEY), message)
const trial = (more: Partial<Parameters<typeof tryAll>[0]> = {}) =>
  tryAll({
    candidates: [candidate(MESSAGES)],
    key: KEY,
    targets: [target(MESSAGES.map(retail))],
    samples: samples(2),
    enough: true,
    challenges: [],
    ...more,
  })

describe('the verdict', () => {
  test('a winner, with all that is known of it', () => {
    expect(trial()).toEqual({
      tried: 8,
      decidedBy: [],
      verdict: 'winner',
      matches: [
        {
          algorithm: 'iso9797-1-alg3',
          padding: 2,
          keyBytes: 16,
          inputs: [{ input: 'dataSet.masked' }],
          layout: { pan: undefined, pin: undefined },
          pinForm: undefined,
          outputBytes: 8,
          text: 'hex-upper',
        },
      ],
    })
  })

  test('none, where one sample of two is not reproduced', () => {
    const macs = MESSAGES.map(retail)
    const wrong = target(macs.map((mac, i) => (i === 1 ? mac.map(byte => byte ^ 1) : mac)))
    expect(trial({ targets: [wrong] })).toEqual({ tried: 8, matches: [], decidedBy: [], verdict: 'none' })
  })

  test('more samples needed, whatever was found', () => {
    const one = { samples: samples(1), enough: false }
    expect(trial({ ...one, targets: [target([retail(MESSAGES[0] ?? expect.unreachable())])] })).toMatchObject(
      {
        verdict: 'more-samples-needed',
        matches: [{ algorithm: 'iso9797-1-alg3' }],
      },
    )
    expect(trial({ ...one, targets: [target([new Uint8Array(8)])] }).verdict).toBe('none')
  })

  test('ambiguous, where two algorithms agree: of one block both are TDEA', () => {
    const blocks = [bytes('0011223344556677'), bytes('8899AABBCCDDEEFF')]
    const macs = blocks.map(block =>
      computeMac({ algorithm: 'iso9797-1-alg1', padding: 1 }, nodeCiphers(KEY), block),
    )
    const { verdict, matches } = trial({ candidates: [candidate(blocks)], targets: [target(macs)] })
    expect(verdict).toBe('ambiguous')
    expect(matches.map(({ algorithm, padding }) => `${algorithm} ${padding}`)).toEqual([
      'iso9797-1-alg1 1',
      'iso9797-1-alg3 1',
    ])
  })
})

test('candidates that MAC the same bytes are one match, the first of them', () => {
  const second = { ...candidate(MESSAGES), pinForm: 'digits-bcd' } as const
  const { matches, tried, verdict } = trial({ candidates: [candidate(MESSAGES), second] })
  expect([matches.length, tried, verdict]).toEqual([1, 16, 'winner'])
  expect(matches[0]?.pinForm).toBeUndefined()
})

test('a candidate that has no message for a sample is not tried', () => {
  expect(trial({ candidates: [candidate([MESSAGES[0], undefined])] })).toMatchObject({
    tried: 0,
    verdict: 'none',
  })
})

test('of several targets the one is named that all samples hit', () => {
  const macs = MESSAGES.map(retail)
  const other = target([macs[0] ?? expect.unreachable(), new Uint8Array(8)])
  const { matches } = trial({ targets: [other, target(macs, 4)] })
  expect(matches.map(({ outputBytes }) => outputBytes)).toEqual([4])
})

test('the messages, which may hold PIN and PAN, are wiped, also those of a candidate that one sample has no value for', () => {
  const given: Uint8Array[] = []
  trial({ candidates: [candidate(MESSAGES, given)] })
  expect(given.map(hex)).toEqual(MESSAGES.map(({ length }) => '00'.repeat(length)))
  // Nor does one stay that a match is asked for, of a card that no sample has.
  const asked: Uint8Array[] = []
  const [sample = expect.unreachable()] = samples(1)
  trial({ candidates: [candidate(MESSAGES, asked)], challenges: [{ what: 'another card', sample }] })
  expect(asked).toHaveLength(MESSAGES.length + 1)
  for (const message of asked) expect(message.some(byte => byte !== 0)).toBe(false)
  for (const [i, { length }] of MESSAGES.entries()) {
    const lacking: Uint8Array[] = []
    const some = MESSAGES.map((message, at) => (at === i ? message : undefined))
    expect(trial({ candidates: [candidate(some, lacking)] }).tried).toBe(0)
    expect(lacking.map(hex)).toEqual(['00'.repeat(length)])
  }
})

test('of a test key no copy stays', async () => {
  for (const key of [KEY, LONG]) {
    const { buffers } = await buffersMadeBy(() => void testCiphers(key, 'tdea'))
    for (const buffer of someOf(buffers))
      expect(Buffer.from(buffer).includes(Buffer.from(key.subarray(0, 8)))).toBe(false)
  }
})

test('so are those of a candidate that has one for the other sample only', () => {
  const given: Uint8Array[] = []
  trial({ candidates: [candidate([MESSAGES[0], undefined], given)] })
  expect(given.map(message => message.every(byte => byte === 0))).toEqual([true])
})

describe('the key decides what is tried', () => {
  test.each([
    [16, 8],
    [24, 8],
    [32, 1],
  ])('%i bytes: %i ways', (length, ways) => {
    const key = bytes('0123456789ABCDEF23456789ABCDEF01456789ABCDEF01236789ABCDEF012345').subarray(0, length)
    expect(trial({ key }).tried).toBe(ways)
  })

  test('its ciphers take whole blocks under an IV of one block, so that none reaches the next message', () => {
    const { last } = testCiphers(KEY, 'tdea')
    const right = last.encipherCbc(new Uint8Array(8), new Uint8Array(16))
    for (const [iv, data] of [
      [8, 0],
      [8, 12],
      [7, 8],
      [16, 8],
    ] as const) {
      expect(() => last.encipherCbc(new Uint8Array(iv), new Uint8Array(data))).toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
    expect(last.encipherCbc(new Uint8Array(8), new Uint8Array(16))).toEqual(right)
  })

  test('its ciphers are those of node:crypto: two and three TDEA keys, AES', () => {
    const message = MESSAGES[1] ?? expect.unreachable()
    for (const key of [KEY, LONG]) {
      for (const algorithm of ['iso9797-1-alg1', 'iso9797-1-alg3'] as const) {
        const mac = computeMac({ algorithm, padding: 2 }, testCiphers(key, 'tdea'), message)
        expect(mac).toEqual(computeMac({ algorithm, padding: 2 }, nodeCiphers(key), message))
      }
    }
    for (const key of [KEY, LONG]) {
      const mac = computeMac({ algorithm: 'cmac', padding: 'none' }, testCiphers(key, 'aes'), message)
      expect(mac).toEqual(
        computeMac({ algorithm: 'cmac', padding: 'none' }, nodeCiphers(key, 'aes'), message),
      )
      expect(mac).toHaveLength(16)
    }
  })
})

describe('texts', () => {
  test.each([
    ['no form', ['xyz']],
    ['3 bytes', ['ABCDEF']],
    ['17 bytes', ['AB'.repeat(17)]],
    ['forms that differ', ['ABCDEF01', 'q83v-w']],
  ])('of %s are ERR_ENCODING', async (_, texts) => {
    const { message } = await failure(() => targetsOf('prwValue', texts), 'ERR_ENCODING', texts)
    expect(message).toBe('prwValue is not 4 to 16 bytes in a text form that is known, in all samples')
  })

  test('that are none are ERR_ARGUMENT', async () => {
    const { message } = await failure(() => targetsOf('macValue', [7 as never]), 'ERR_ARGUMENT')
    expect(message).toBe('macValue must be a string')
  })

  test('of 4 and of 16 bytes are read', () => {
    const read = (text: string) =>
      targetsOf('macValue', [text]).map(({ text, outputBytes }) => `${text} ${outputBytes}`)
    expect(read('00112233')).toEqual(['hex-upper 4', 'base64 6'])
    expect(read('00112233445566778899AABBCCDDEEFF')).toEqual(['hex-upper 16'])
    expect(targetsOf('macValue', ['00112233'])[0].values.map(hex)).toEqual(['00112233'])
  })
})

describe('candidates that are the same on the samples', () => {
  const [one = bytes(''), two = bytes('')] = MESSAGES
  const beyond = (message: Uint8Array | undefined): Candidate => ({
    ...candidate(MESSAGES),
    message: sample =>
      sample.pcc === 'far' ? message && ownCopy(message) : ownCopy(sample.pcc === '0' ? one : two),
  })
  const challenges = [{ what: 'a PAN of 19 digits', sample: { pcc: 'far' } as PreparedSample }]

  test('and differ on a card that no sample has are ambiguous, and it is said what would decide', () => {
    for (const other of [two, undefined]) {
      const outcome = trial({ candidates: [beyond(one), beyond(other)], challenges })
      expect(outcome).toMatchObject({ verdict: 'ambiguous', decidedBy: ['a PAN of 19 digits'] })
      expect(outcome.matches).toHaveLength(2)
    }
  })

  test('and are the same function everywhere are one', () => {
    const outcome = trial({ candidates: [beyond(one), beyond(one)], challenges })
    expect(outcome).toMatchObject({ verdict: 'winner', decidedBy: [] })
    expect(outcome.matches).toHaveLength(1)
  })
})
