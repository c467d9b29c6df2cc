/** `probe`: which algorithms and inputs reproduce samples that a scheme has made with test keys. */
import { fromHex, wipe } from '../base/bytes.js'
import { Pan, Pin } from '../index.js'
import { type ProbeOutcome, type ProbeSample, type ProfileSample, probeProfile } from '../tools.js'
import { type Command, readArguments, readInput, readJson, UsageError } from './command.js'
import { show, tableOf } from './shown.js'
import { optionsOf, type Values } from './verbs.js'

type Members = Readonly<Record<string, unknown>>

function readHex(members: Members, name: string): Uint8Array {
  const { [name]: hex } = members
  if (typeof hex !== 'string' || !/^(?:[0-9A-Fa-f]{2})+$/.test(hex)) {
    throw new UsageError(`${name} must be hex digits`)
  }
  return fromHex(hex, name)
}

function readText(members: Members, name: string): string {
  const { [name]: text } = members
  if (typeof text !== 'string') throw new UsageError(`${name} must be a string, in each sample`)
  return text
}

function readSample(value: unknown, pins: Pin[]): ProbeSample {
  if (typeof value !== 'object' || value === null) throw new UsageError('samples must be a list of objects')
  const { pan: number, pin: digits, random, ...rest } = value as Members
  const pan = Pan.from(readText({ pan: number }, 'pan'))
  const pin = Pin.from(readText({ pin: digits }, 'pin'))
  pins.push(pin)
  return {
    ...(rest as unknown as ProbeSample),
    pan,
    pin,
    ...(random !== undefined && { random: readHex({ random }, 'random') }),
  }
}

const SAMPLE_FILE = ['prwTestKey', 'macTestKey', 'samples']

/** What a file of samples holds. */
interface SampleFile<S> {
  readonly samples: readonly S[]
  readonly prwTestKey: Uint8Array
  readonly macTestKey: Uint8Array
}

/** The same, for a search of one of the two: the key of the other may be missing. */
type PartialFile<S> = Pick<SampleFile<S>, 'samples'> & Partial<SampleFile<S>>

/** {@link withSomeSamples} with both keys. */
export function withSamples<S, T>(
  text: string,
  readOne: (value: unknown, pins: Pin[]) => S,
  use: (file: SampleFile<S>) => Promise<T>,
): Promise<T> {
  // Both are needed, so both are there.
  return withSomeSamples(text, readOne, file => use(file as SampleFile<S>), ['prwTestKey', 'macTestKey'])
}

/**
 * Reads a file of samples, hands them to `use`, and wipes keys and PINs whatever comes of it. Of the keys, those in `needed` must be there.
 * Errors: `ERR_USAGE`.
 */
export async function withSomeSamples<S, T>(
  text: string,
  readOne: (value: unknown, pins: Pin[]) => S,
  use: (file: PartialFile<S>) => Promise<T>,
  needed: readonly ('prwTestKey' | 'macTestKey')[],
): Promise<T> {
  const file = readJson(text, 'the samples')
  const unknown = Object.keys(file).find(name => !SAMPLE_FILE.includes(name))
  if (unknown !== undefined)
    throw new UsageError(`the samples have members ${SAMPLE_FILE.join(', ')} and no other`)
  const { samples } = file
  if (!Array.isArray(samples)) throw new UsageError('samples must be a list of objects')
  const keys: Uint8Array[] = []
  const pins: Pin[] = []
  const readKey = (name: string): Uint8Array => {
    const key = readHex(file, name)
    keys.push(key)
    return key
  }
  try {
    const read: { prwTestKey?: Uint8Array; macTestKey?: Uint8Array } = {}
    for (const name of ['prwTestKey', 'macTestKey'] as const) {
      if (needed.includes(name) || name in file) read[name] = readKey(name)
    }
    return await use({ samples: samples.map(value => readOne(value, pins)), ...read })
  } finally {
    wipe(...keys)
    for (const pin of pins) pin[Symbol.dispose]()
  }
}

/**
 * A sample for the check of a profile: as for the prober, and besides `fields` (text) and `bytes` (hex), the profile's own
 * fields and external values.
 */
export function readProfileSample(value: unknown, pins: Pin[]): ProfileSample {
  const { known: _, bytes, fields, ...sample } = readSample(value, pins) as ProbeSample & Members
  const own: Record<string, string | Uint8Array> = {}
  for (const name of Object.keys(membersOf(fields))) own[name] = readText(membersOf(fields), name)
  for (const name of Object.keys(membersOf(bytes))) own[name] = readHex(membersOf(bytes), name)
  return { ...sample, fields: own }
}

function membersOf(value: unknown): Members {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null) throw new UsageError('fields and bytes must be objects')
  return value as Members
}

/** `probeProfile`, or what a test has in its place. */
type Probe = typeof probeProfile

function outcomeRows(which: string, { verdict, tried, matches }: ProbeOutcome): string[][] {
  const head = [which, verdict, `${matches.length} of ${tried}`]
  if (matches.length === 0) return [[...head, '', '']]
  return matches.map(({ algorithm, padding, inputs }, i) => [
    ...(i === 0 ? head : ['', '', '']),
    padding === 'none' ? algorithm : `${algorithm}, padding ${padding}`,
    inputs.map(part => (part.input === 'field' ? `field ${part.id}` : part.input)).join(' + '),
  ])
}

/** `issuer-pin-crypto probe`, over some way to probe. */
export function probeCommand(probe: Probe = probeProfile): Command {
  return {
    name: 'probe',
    summary: 'find out what reproduces PRW samples made with TEST keys',
    help: `usage: issuer-pin-crypto probe [--draft] [--json] [FILE]

Reads samples from a file or standard input, tries the algorithms and inputs
this library knows, and says which reproduce all of them. TEST keys only: they
are in clear in the file.

  { "prwTestKey": "hex", "macTestKey": "hex",
    "samples": [ { "pan", "pin", "pcc", "intdatag", "random"?: "hex",
                   "prwDataSet", "prwValue", "macValue",
                   "known"?: { "psn": "01", … } },
                 … two or more, of different cards ] }

  --draft     print the draft of a profile as JSON, and nothing else
  --json      what was found as JSON, the draft among it

Exit code 1 where no draft comes out. What reproduces the samples may still
differ from the scheme.`,
    run: async (args, io) => {
      const options = optionsOf('draft', 'json')
      const { values: given, positionals } = readArguments(args, { options, positionals: 1 })
      const values = given as Values
      const report = await withSamples(await readInput(positionals[0], io), readSample, probe)
      const { places, prw, mac, draft } = report
      if (values['draft'] !== true) {
        const found = places.map(({ id, offset, length, encoding }) => [
          id,
          `${offset}`,
          `${length}`,
          encoding,
        ])
        const rows = [...outcomeRows('prw', prw), ...outcomeRows('mac', mac)]
        const deciders = Object.entries({ prw, mac })
          .filter(([, { decidedBy }]) => decidedBy.length > 0)
          .map(
            ([which, { decidedBy }]) =>
              `${which}: a further sample would decide, with ${decidedBy.join(', or ')}`,
          )
        const words = [
          tableOf(['value', 'offset', 'length', 'encoding'], found, io),
          '',
          tableOf(['', 'verdict', 'matches', 'algorithm', 'inputs'], rows, io),
          ...deciders,
        ]
        show(values, io, report, words.join('\n'))
      } else if (draft !== undefined) {
        io.out(JSON.stringify(draft, null, 2))
      }
      if (draft !== undefined) return 0
      io.err('no draft: the samples do not determine PRW and MAC')
      return 1
    },
  }
}

/** `issuer-pin-crypto probe`. */
export const PROBE: Command = probeCommand()
