import { readFile } from 'node:fs/promises'
import { ProfileError, parseProfile } from 'issuer-pin-crypto'

type Json = Record<string, unknown>

const sound = await readFile(new URL('profile.json', import.meta.url), 'utf8')

/** What goes wrong most easily: a sound profile with one member changed. */
const MISTAKES: readonly [what: string, path: readonly string[], value: unknown][] = [
  ['two fields overlap', ['fields', '3', 'offset'], 18],
  ['a PAN in the clear', ['fields', '1', 'masked'], false],
  ['a value left out and not named', ['mac', 'uncovered'], ['pan']],
  ['a PRW that does not cover the PIN', ['prw', 'inputs'], [{ input: 'dataSet.masked' }]],
  ['a padding of another algorithm', ['prw', 'padding'], 'none'],
  ['a member that nobody knows', ['randomByte'], 4],
]

for (const [what, path, value] of MISTAKES) {
  const profile = JSON.parse(sound) as Json
  const parent = path.slice(0, -1).reduce((at, member) => at[member] as Json, profile)
  parent[path.at(-1) ?? ''] = value
  try {
    parseProfile(profile)
    console.log(`${what}: not noticed`)
  } catch (error) {
    if (!(error instanceof ProfileError)) throw error
    console.log(`${what}: ${error.message}`)
  }
}
