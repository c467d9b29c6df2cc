/**
 * The matrix of modules, bindings and executors, in short: a part of the contract's cases, in one cell a module and binding.
 * `npm run matrix:pkcs11` runs all cells, whole.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bundleHost } from './faults/shim.js'
import { BINDINGS, EXECUTORS, endSites, makeSites, runCell, tableOf } from './matrix.run.js'
import { describeSoftHsm } from './softhsm.js'

/** Every so manieth case of the contract. */
const STEP = 20

describeSoftHsm('matrix', () => {
  const sites: Awaited<ReturnType<typeof makeSites>> = []
  const results: Parameters<typeof tableOf>[0] = []
  let host = ''
  beforeAll(async () => {
    host = bundleHost()
    sites.push(...(await makeSites()))
  })
  afterAll(() => {
    endSites()
    console.log(tableOf(results))
  })

  const names = ['SoftHSM', 'NSS softokn', 'openCryptoki', 'p11-kit proxy', 'p11-kit remote', 'pkcs11-spy']
  describe.each(names)('%s', name => {
    test.each(BINDINGS)('%s', async binding => {
      // Each executor comes to its turn: all of them with all modules are in the long run.
      const executor =
        EXECUTORS[(names.indexOf(name) + BINDINGS.indexOf(binding)) % EXECUTORS.length] ?? 'inline'
      const site = sites.find(candidate => candidate.name === name)
      const cell = { binding, executor, step: STEP, host }
      if (site === undefined || 'why' in site) {
        const why = site?.why ?? 'it was not made'
        results.push([
          { ...cell, site: name },
          { passed: 0, without: 0, failed: [], lacks: [], untaken: [], unsupported: why, ms: 0 },
        ])
        console.warn(`${name}, ${binding}: not run, ${why}`)
        return
      }
      const outcome = await runCell({ ...cell, site })
      results.push([{ ...cell, site: name }, outcome])
      expect(outcome.failed).toEqual([])
      expect(outcome.passed).toBeGreaterThan(3)
    })
  })
})
