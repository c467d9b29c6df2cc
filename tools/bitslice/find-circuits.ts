/**
 * `tsx tools/bitslice/find-circuits.ts [seconds a box] [seed]`: searches on from the circuits in `circuits.ts`'s text file
 * and writes what is cheaper. Not part of the build: the circuits are kept, and tested against the standard's tables.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { costOf, formatCircuit, parseCircuit } from './circuit.js'
import { search } from './search.js'

const FILE = new URL('circuits.txt', import.meta.url)
const [seconds = '60', seed = String(Date.now() % 1e9), only] = process.argv.slice(2)

const lines = (): string[] => (existsSync(FILE) ? readFileSync(FILE, 'utf8').trimEnd().split('\n') : [])

for (let box = 0; box < 8; box++) {
  if (only !== undefined && !only.includes(String(box + 1))) continue
  const before = lines()[box]
  const from = before ? parseCircuit(before) : undefined
  const found = search(box, Number(seconds), Number(seed) + box, from)
  const all = lines()
  const old = all[box]
  if (old && costOf(parseCircuit(old)) <= costOf(found)) {
    console.log(`S${box + 1}: still ${costOf(parseCircuit(old))}`)
    continue
  }
  while (all.length < 8) all.push('')
  all[box] = formatCircuit(found)
  writeFileSync(FILE, `${all.join('\n')}\n`)
  console.log(`S${box + 1}: ${found.gates.length} gates, ${costOf(found)} instructions`)
}
