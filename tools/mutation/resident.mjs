/**
 * A test runner for Stryker that stays: `vitest` loads the tests once and keeps them, and those that come to a mutant are
 * run again in the same worker with the mutant switched on. Stryker's own runner starts a worker and loads all modules for
 * each mutant, which takes ten to fifty times as long as the tests.
 */
import { createVitest } from 'vitest/node'

const CHANNEL = 'mutants'

class ResidentRunner {
  #vitest
  #channel

  /** It would be a reason to start anew for a mutant that is also come to while files load; only the tests that come to it count. */
  capabilities() {
    return { reloadEnvironment: true }
  }

  async dryRun() {
    const { problem, tests, mutantCoverage } = await this.#start({})
    if (problem !== undefined) return { status: 'error', errorMessage: problem }
    return { status: 'complete', tests, mutantCoverage }
  }

  async mutantRun({ activeMutant, testFilter, hitLimit }) {
    if (this.#vitest === undefined) {
      // Loaded, and none of them run: that was done, and takes longer than all else.
      const { problem } = await this.#start({ testNamePattern: 'no test has this name' })
      if (problem !== undefined) return { status: 'error', errorMessage: problem }
    }
    const { spoilt, ...result } = await this.#ask({ mutant: activeMutant.id, tests: testFilter, hitLimit })
    // What the mutant has left behind is noticed by tests without it: the next one gets a worker of its own.
    if (spoilt) await this.dispose()
    return result
  }

  async dispose() {
    this.#channel?.postMessage({ end: true })
    this.#channel?.close()
    await this.#vitest?.close()
    this.#vitest = undefined
  }

  /** Answers when the tests are loaded and have run, and the worker waits. */
  async #start(more) {
    this.#channel = new BroadcastChannel(CHANNEL)
    this.#vitest = await createVitest('test', {
      config: 'tools/mutation/vitest.config.mjs',
      runner: './tools/mutation/resident-worker.mjs',
      pool: 'threads',
      maxWorkers: 1,
      fileParallelism: false,
      isolate: false,
      watch: false,
      reporters: [],
      ...more,
    })
    const files = await this.#vitest.globTestSpecifications()
    this.#vitest.provide('fileCount', files.length)
    this.#vitest.provide('channel', CHANNEL)
    const ready = this.#answer()
    const ended = this.#vitest.start().then(() => ({ problem: 'vitest ended before its tests had run' }))
    return Promise.race([ready, ended])
  }

  #ask(message) {
    const answer = this.#answer()
    this.#channel.postMessage(message)
    return answer
  }

  #answer() {
    return new Promise(resolve => {
      this.#channel.onmessage = ({ data }) => resolve(data)
    })
  }
}

export const strykerPlugins = [{ kind: 'TestRunner', name: 'resident', injectableClass: ResidentRunner }]
