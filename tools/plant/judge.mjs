/** The process in which the tests are loaded: `run.ts` asks it about one switch after another, and ends it where it hangs. */
import { ResidentRunner } from '../mutation/resident.mjs'

class Judge extends ResidentRunner {
  /** It is ended from outside, at once: what a bug has left behind may hang. */
  async dispose() {}
}
const runner = new Judge('tools/plant/vitest.config.mjs', 'forks')
process.on('message', async asked =>
  process.send(await (asked.first ? runner.dryRun() : runner.mutantRun(asked))),
)
process.on('disconnect', () => process.exit())
