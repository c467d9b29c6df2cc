/**
 * The reports of `doctor`, one for each module of the matrix, as an HSM's administrator would send them:
 * `npm run doctor:modules` writes `docs/measurements/doctor.md`. Each runs as a program of its own, with its own options file.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { endSites, makeSites, type Site } from './matrix.run.js'

const folder = mkdtempSync(join(tmpdir(), 'ipc-doctor-'))

/** The report of one module, its headings two levels down; or why there is none. */
function reportOn({ options, pin, environment }: Site): string {
  const file = join(folder, 'options.json')
  const report = join(folder, 'report.md')
  writeFileSync(file, JSON.stringify(options))
  const args = ['--import', 'tsx', 'src/cli/cli.ts', 'doctor', '--options', file, '--pin-env', 'DOCTOR_PIN']
  const { status, stderr } = spawnSync(process.execPath, [...args, '--report', report], {
    cwd: new URL('..', import.meta.url),
    env: { ...process.env, ...environment, DOCTOR_PIN: pin },
    encoding: 'utf8',
    timeout: 900_000,
  })
  if (status === null || status === 2) return `There is no report: ${stderr.trim()}`
  const text = readFileSync(report, 'utf8').replaceAll(/^#/gm, '###')
  rmSync(report)
  return `Exit code ${status}.\n\n${text.replace(/^### .*\n\n/, '').replace(/^### Token report\n\n/m, '')}`
}

try {
  const parts: string[] = []
  for (const site of await makeSites()) {
    const text = 'why' in site ? `Not here: ${site.why}` : reportOn(site)
    console.log(`${site.name}: ${text.slice(0, 60).replaceAll('\n', ' ')}`)
    parts.push(`## ${site.name}\n\n${text.trim()}`)
  }
  const head = `# What \`doctor\` says of each module

${new Date().toISOString().slice(0, 10)}, \`npm run doctor:modules\`, Node ${process.version}: fresh tokens (but openCryptoki's, which is the machine's one, with the
matrix's test keys in it); \`composedMac\` where the module has no retail MAC. p11-kit and pkcs11-spy stand in front of SoftHSM. What a
token does not offer is refused by name; "FAILED" would be an answer that is wrong. No verdict depends on how long something took; the
seconds do: they are those of a machine with ${availableParallelism()} cores and a load of ${Math.round(loadavg()[1] ?? 0)}, and beside them is the processor time. NSS
deciphers a key of its database anew each time an operation begins under it: 72 % of the processor time there is in its own calls
(C_DecryptInit, C_EncryptInit, C_CreateObject and C_SignInit, by \`--cpu-prof\`).
`
  writeFileSync(
    new URL('../docs/measurements/doctor.md', import.meta.url),
    `${[head.trimEnd(), ...parts].join('\n\n')}\n`,
  )
} finally {
  endSites()
  rmSync(folder, { recursive: true, force: true })
}
