/** `profile check`: whether a SECCOS profile reads, and what its PRW and MAC leave out. */
import { parseProfile, uncoveredBy } from '../index.js'
import { renderTable } from '../tools/inspect/table.js'
import { type Command, readArguments, readInput, readJson, UsageError } from './command.js'

/** `issuer-pin-crypto profile check`. */
export const PROFILE: Command = {
  name: 'profile',
  summary: 'check a SECCOS profile, and say what its PRW and MAC do not cover',
  help: `usage: issuer-pin-crypto profile check [FILE]

Reads a profile (JSON, issuer-pin-crypto/seccos-profile.schema.json) from a file or standard input. Exit code 1, and
the place of the mistake, where it is not one.`,
  run: async ([verb, ...args], io) => {
    if (verb !== 'check') throw new UsageError('profile takes the verb check')
    const { positionals } = readArguments(args, { options: {}, positionals: 1 })
    const profile = parseProfile(readJson(await readInput(positionals[0], io), 'the profile'))
    const rows = (['prw', 'mac'] as const).map(which => {
      const { algorithm, padding, keyBytes, outputBytes } = profile[which]
      const uncovered = uncoveredBy(profile, which).join(', ') || 'nothing'
      return [which, algorithm, String(padding), `${keyBytes}`, `${outputBytes}`, uncovered]
    })
    io.out(`profile ${profile.name} ${profile.version} (${profile.provenance})`)
    io.out(renderTable(['', 'algorithm', 'padding', 'key bytes', 'bytes', 'does not cover'], rows))
    return 0
  },
}
