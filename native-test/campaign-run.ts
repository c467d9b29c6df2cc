import { plant, runCampaign } from './campaign.js'
const engine = (process.argv[2] ?? 'node:crypto') as 'node:crypto'
const started = Date.now()
const result = await runCampaign({ engine, planted: plant(), count: Number(process.argv[3] ?? 40), turns: Number(process.argv[4] ?? 12), abort: process.argv[5] === 'abort' , only: new RegExp(process.argv[6] ?? '.')})
for (const r of result.residues) console.log(r.scenario,  JSON.stringify(shown(r.found)))
console.log(result.controls, result.keys, result.batches, Date.now() - started, result.output.slice(0, 500))

function shown(found: Record<string, number>) {
  const out: Record<string, number> = {}
  for (const [k, v] of Object.entries(found)) { const n = k.replace(/ of JWE \d+/, '*'); out[n] = (out[n] ?? 0) + v }
  return out
}
