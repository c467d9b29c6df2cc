/**
 * The prober, an aid for integration: from samples that a scheme has made with *test* keys, it finds which algorithm,
 * padding and inputs reproduce PRW and MAC, and where known values are in the data set.
 *
 * It takes clear key bytes, PINs and PANs, and computes in this process: test values only, never a production key. It
 * proves nothing. What reproduces two samples may still differ from the scheme in a case that the samples do not have.
 */
import { readOptions } from '../../base/arguments.js'
import { requireBytes } from '../../base/bytes.js'
import { ArgumentError, InputError } from '../../base/errors.js'
import { computeMac, type MacComputation } from '../../primitives/mac.js'
import { Pan, requirePan } from '../../primitives/pan.js'
import { Pin, requirePin } from '../../primitives/pin.js'
import { computeBy } from '../../seccos/computation.js'
import { dataSetFromHex } from '../../seccos/data-set.js'
import { readText, showText } from '../../seccos/profile/forms.js'
import { ALGORITHMS, type Computation, type SeccosProfile } from '../../seccos/profile/profile.js'
import {
  findPlaces,
  macCandidates,
  type Place,
  type PreparedSample,
  prwCandidates,
  type Sought,
  zeroRuns,
} from './candidates.js'
import { draftProfile } from './draft.js'
import {
  type Challenge,
  type ProbeMatch,
  type ProbeOutcome,
  targetsOf,
  testCiphers,
  tryAll,
} from './trial.js'

/** A PRW with its MAC, made by the scheme with test keys, and everything that went into it. */
export interface ProbeSample {
  readonly pan: Pan
  readonly pin: Pin
  readonly pcc: string
  readonly intdatag: string
  /** The random number of the PRW, where it is known. */
  readonly random?: Uint8Array
  /** D1's members. */
  readonly prwDataSet: string
  readonly prwValue: string
  readonly macValue: string
  /** Further values to look for in the data set, by a field id: `{ psn: '01', expiry: '2812' }`. */
  readonly known?: Readonly<Record<string, string>>
}

const SAMPLE_MEMBERS: readonly (keyof ProbeSample)[] = [
  'pan',
  'pin',
  'pcc',
  'intdatag',
  'random',
  'prwDataSet',
  'prwValue',
  'macValue',
  'known',
]

/** What {@link probeProfile} takes. */
export interface ProbeInput {
  /** Two or more, of different cards. From one, no winner is named. */
  readonly samples: readonly ProbeSample[]
  /** The clear PRW key of the samples: a test key, 16, 24 or 32 bytes. Never a production key. */
  readonly prwTestKey: Uint8Array
  /** The clear MAC key of the samples: a test key. Never a production key. */
  readonly macTestKey: Uint8Array
}

/** What {@link probeProfile} found out. It holds offsets and names; no PIN, PAN or key. */
export interface ProbeReport {
  readonly places: readonly Place[]
  readonly prw: ProbeOutcome
  readonly mac: ProbeOutcome
  /** A draft that reproduces every sample, where both have a winner. Its provenance is `illustrative`: confirm it. */
  readonly draft?: SeccosProfile
}

/**
 * Tries the algorithms, paddings and input combinations this library knows on samples made with test keys. Takes a few
 * seconds, and blocks the thread.
 *
 * Errors: `ERR_ARGUMENT`, `ERR_DATA_SET`, `ERR_LENGTH` (no key), `ERR_ENCODING` (a PRW or MAC in no text
 * form that is known).
 *
 * @example
 * ```ts
 * const { prw, mac, draft } = await probeProfile({ samples, prwTestKey, macTestKey })
 * if (draft !== undefined) console.log(JSON.stringify(draft, null, 2))
 * ```
 */
export async function probeProfile(input: ProbeInput): Promise<ProbeReport> {
  const given = readOptions(input, 'probeProfile', ['samples', 'prwTestKey', 'macTestKey'])
  const { prwTestKey, macTestKey } = given
  if (!Array.isArray(given.samples) || given.samples.length === 0) {
    throw new ArgumentError('samples must be a list')
  }
  for (const key of [prwTestKey, macTestKey]) requireTestKey(key)
  const samples = given.samples.map(readSample)
  const dataSets = samples.map(sample => dataSetFromHex(sample.prwDataSet))
  const places = findPlaces(dataSets, soughtIn(samples))
  const runs = zeroRuns(dataSets, places)
  const panLength = Math.max(...samples.map(sample => sample.pan.length))
  const prwTargets = targetsOf(
    'prwValue',
    samples.map(sample => sample.prwValue),
  )
  const macTargets = targetsOf(
    'macValue',
    samples.map(sample => sample.macValue),
  )
  const [{ text, outputBytes }] = prwTargets
  const prepared = samples.map((sample): PreparedSample => {
    const prw = readText(text, outputBytes, sample.prwValue, 'prwValue')
    return { ...sample, random: sample.random, masked: dataSetFromHex(sample.prwDataSet), prw }
  })
  const enough = new Set(samples.map(({ prwDataSet, prwValue }) => prwDataSet + prwValue)).size > 1
  const common = { samples: prepared, enough, challenges: challengesFor(prepared) }
  const prw = tryAll({
    ...common,
    candidates: prwCandidates(runs, panLength),
    key: prwTestKey,
    targets: prwTargets,
  })
  const mac = tryAll({
    ...common,
    candidates: macCandidates(runs, panLength),
    key: macTestKey,
    targets: macTargets,
  })
  const randomBytes = samples[0]?.random?.length ?? 0
  const winners = { prw: winnerOf(prw), mac: winnerOf(mac) }
  const draft =
    winners.prw && winners.mac && draftProfile({ prw: winners.prw, mac: winners.mac, places, randomBytes })
  const confirmed = draft !== undefined && (await reproducesAll(draft, prepared, given))
  return { places, prw, mac, ...(confirmed && { draft }) }
}

/** Lengths of PANs and PINs that are asked about where no sample has them. */
const PAN_LENGTHS: readonly number[] = [13, 16, 19]
const PIN_LENGTHS: readonly number[] = [4, 5, 6, 8, 12]

/** Cards like the first sample's, but for a PAN or a PIN of another length. */
function challengesFor(samples: readonly PreparedSample[]): Challenge[] {
  const [first] = samples as readonly [PreparedSample, ...PreparedSample[]]
  const unseen = (lengths: readonly number[], seen: readonly number[]): number[] =>
    lengths.filter(length => !seen.includes(length))
  const pans = unseen(
    PAN_LENGTHS,
    samples.map(({ pan }) => pan.length),
  )
  const pins = unseen(
    PIN_LENGTHS,
    samples.map(({ pin }) => pin.length),
  )
  return [
    ...pans.map(length => ({
      what: `a PAN of ${length} digits`,
      sample: { ...first, pan: Pan.from('4929123456789012347'.slice(0, length)) },
    })),
    ...pins.map(length => ({
      what: `a PIN of ${length} digits`,
      sample: { ...first, pin: Pin.from('135790864213'.slice(0, length)) },
    })),
  ]
}

function winnerOf({ verdict, matches }: ProbeOutcome): ProbeMatch | undefined {
  return verdict === 'winner' ? matches[0] : undefined
}

/** Whether a profile makes the PRW and MAC of every sample, by the way that the verbs go. */
async function reproducesAll(
  profile: SeccosProfile,
  samples: readonly PreparedSample[],
  { prwTestKey, macTestKey }: ProbeInput,
): Promise<boolean> {
  const same: boolean[] = []
  for (const sample of samples) {
    const prw = { bytes: sample.prw, text: sample.prwValue }
    const material = { profile, masked: sample.masked, values: sample, prw }
    const make = (computation: Computation, key: Uint8Array): Promise<string> => {
      const ciphers = testCiphers(key, ALGORITHMS[computation.algorithm].cipher as 'tdea' | 'aes')
      return computeBy(
        (request, message) => computeMac(request as MacComputation, ciphers, message),
        computation,
        material,
        output => showText(computation.text, output),
      )
    }
    same.push(
      (await make(profile.prw, prwTestKey)) === sample.prwValue,
      (await make(profile.mac, macTestKey)) === sample.macValue,
    )
  }
  return same.every(one => one)
}

/** The values to look for, where every sample has them. */
function soughtIn(samples: readonly ProbeSample[]): Sought[] {
  const own = new Set(samples.flatMap(sample => Object.keys(sample.known ?? {})))
  const all: { id: string; values: (string | Uint8Array | undefined)[] }[] = [
    { id: 'intdatag', values: samples.map(sample => sample.intdatag) },
    { id: 'random', values: samples.map(sample => sample.random) },
    { id: 'pcc', values: samples.map(sample => sample.pcc) },
    ...[...own].map(id => ({
      id,
      values: samples.map(({ known }) => (known && Object.hasOwn(known, id) ? known[id] : undefined)),
    })),
  ]
  return all.flatMap(({ id, values }) => {
    const there = values.filter(value => value !== undefined)
    return there.length === values.length ? [{ id, values: there }] : []
  })
}

function readSample(given: ProbeSample): ProbeSample {
  const sample = readOptions(given, 'a sample', SAMPLE_MEMBERS)
  const { pan, pin, pcc, intdatag, random, known } = sample
  requirePan(pan)
  requirePin(pin)
  if (random !== undefined) requireBytes(random, 'random')
  const texts = { pcc, intdatag, ...known }
  for (const [name, text] of Object.entries(texts)) {
    if (typeof text !== 'string') throw new ArgumentError(`${name} must be a string`)
  }
  return sample
}

function requireTestKey(key: unknown): void {
  requireBytes(key, 'a test key')
  if (key.length !== 16 && key.length !== 24 && key.length !== 32) {
    throw new InputError('ERR_LENGTH', `a test key has 16, 24 or 32 bytes, not ${key.length}`)
  }
}
