/** The switches: which test comes to which of them, and the one that is on. Before any module of `src` is loaded. */
import '../mutation/setup.mjs'

globalThis.__stryker__ ??= {}
const switches = globalThis.__stryker__
switches.mutantCoverage ??= { static: {}, perTest: {} }

globalThis.planted ??= id => {
  const { activeMutant, currentTestId, mutantCoverage } = switches
  if (activeMutant === undefined) {
    if (currentTestId !== undefined) mutantCoverage.perTest[currentTestId] ??= {}
    const seen = mutantCoverage.perTest[currentTestId] ?? mutantCoverage.static
    seen[id] = (seen[id] ?? 0) + 1
    return false
  }
  if (activeMutant !== id) return false
  if (++switches.hitCount > switches.hitLimit) throw new Error('without end')
  return true
}
