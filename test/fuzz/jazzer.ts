/** The targets for jazzer.js, which finds inputs by the branches they take: `FUZZ_TARGET` names one. See `jazzer.sh`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { TARGETS } from './targets/index.js'

const name = process.env['FUZZ_TARGET'] ?? ''
const target = TARGETS.find(each => each.name === name)
if (target === undefined)
  throw new Error(`FUZZ_TARGET is one of ${TARGETS.map(each => each.name).join(', ')}`)

/** jazzer.js starts from files. */
const corpus = process.env['FUZZ_CORPUS']
if (corpus !== undefined) {
  mkdirSync(corpus, { recursive: true })
  for (const [i, seed] of target.seeds.entries()) writeFileSync(join(corpus, `seed-${i}`), seed)
}

/** jazzer.js's entry. */
export function fuzz(data: Buffer): void | Promise<void> {
  return target?.run(Uint8Array.from(data))
}
