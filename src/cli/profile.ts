/** `profile check`: whether a SECCOS profile reads, what it leaves out, and whether samples come out as it says. */
import { parseProfile, remarksOn, type SeccosProfile, uncoveredBy } from '../index.js'
import { renderTable } from '../tools/inspect/table.js'
import { type CheckedSample, checkProfile } from '../tools.js'
import {
  type Command,
  type ExitCode,
  type Io,
  readArguments,
  readInput,
  readJson,
  UsageError,
} from './command.js'
import { readProfileSample, withSamples } from './probe.js'

/** `issuer-pin-crypto profile check`. */
export const PROFILE: Command = {
  name: 'profile',
  summary: 'check a SECCOS profile: what it does not cover, and whether samples come out',
  help: `usage: issuer-pin-crypto profile check [--samples SAMPLES] [FILE]

Reads a profile (JSON, issuer-pin-crypto/seccos-profile.schema.json) from a file or standard input. Exit code 1, and
the place of the mistake, where it is not one.

  --samples   a file of samples made with TEST keys, as for probe; what the profile has of its own, fields and
              external values, is in "fields" (text) and "bytes" (hex) of each sample. Says for each whether
              data set, PRW and MAC come out, and where not, the nearest reading that would. Exit code 1 where
              not all do.`,
  run: async ([verb, ...args], io) => {
    if (verb !== 'check') throw new UsageError('profile takes the verb check')
    const options = { samples: { type: 'string' } } as const
    const { values, positionals } = readArguments(args, { options, positionals: 1 })
    const profile = parseProfile(readJson(await readInput(positionals[0], io), 'the profile'))
    const rows = (['prw', 'mac'] as const).map(which => {
      const { algorithm, padding, keyBytes, outputBytes } = profile[which]
      const uncovered = uncoveredBy(profile, which).join(', ') || 'nothing'
      return [which, algorithm, String(padding), `${keyBytes}`, `${outputBytes}`, uncovered]
    })
    io.out(`profile ${profile.name} ${profile.version} (${profile.provenance})`)
    io.out(renderTable(['', 'algorithm', 'padding', 'key bytes', 'bytes', 'does not cover'], rows))
    for (const { path, text } of remarksOn(profile)) io.out(`remark: ${path} ${text}`)
    return values.samples === undefined ? 0 : checkSamples(profile, await readInput(values.samples, io), io)
  },
}

async function checkSamples(profile: SeccosProfile, text: string, io: Io): Promise<ExitCode> {
  const check = await withSamples(text, readProfileSample, file => checkProfile({ ...file, profile }))
  const rows = check.samples.map(({ fields, prw, mac, problem }, i) => [
    `${i + 1}`,
    fields.length === 0 ? 'does not read' : fields.join(' '),
    inWords(prw),
    inWords(mac),
    problem ?? '',
  ])
  io.out(renderTable(['sample', 'data set', 'prw', 'mac', 'problem'], rows))
  for (const which of ['prw', 'mac'] as const) {
    const { agrees, nearest } = check[which]
    if (agrees) continue
    io.out(`${which}: ${nearest.length === 0 ? 'no single change makes it agree' : 'would agree with'}`)
    for (const says of nearest) io.out(`  ${says}`)
  }
  return check.agrees ? 0 : 1
}

function inWords(verdict: CheckedSample['prw']): string {
  if (verdict === undefined) return '-'
  return verdict ? 'agrees' : 'differs'
}
