/**
 * A test runner for Stryker that stays: `vitest` loads the tests once and keeps them, and those that come to a mutant are
 * run again in the same worker with the mutant switched on. Stryker's own runner starts a worker and loads all modules for
 * each mutant, which takes ten to fifty times as long as the tests.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createVitest } from 'vitest/node'

export class ResidentRunner {
  #vitest
  #folder
  #server
  #socket
  #lines
  #config
  #pool

  /** `pool`: a thread is loaded sooner, a process is what an application runs in. */
  constructor(config = 'tools/mutation/vitest.config.mjs', pool = 'threads') {
    this.#config = config
    this.#pool = pool
  }

  /** It would be a reason to start anew for a mutant that is also come to while files load; only the tests that come to it count. */
  capabilities() {
    return { reloadEnvironment: true }
  }

  async dryRun() {
    const { problem, tests, mutantCoverage } = await this.#start({})
    if (problem !== undefined) return { status: 'error', errorMessage: problem }
    return { status: 'complete', tests, mutantCoverage }
  }

  async mutantRun({ activeMutant, testFilter, hitLimit, limit }) {
    if (this.#vitest === undefined) {
      // Loaded, and none of them run: that was done, and takes longer than all else.
      const { problem } = await this.#start({ testNamePattern: 'no test has this name' })
      if (problem !== undefined) return { status: 'error', errorMessage: problem }
    }
    const { spoilt, ...result } = await this.#ask({
      mutant: activeMutant.id,
      tests: testFilter,
      hitLimit,
      limit,
    })
    // What the mutant has left behind is noticed by tests without it: the next one gets a worker of its own.
    if (spoilt) await this.dispose()
    return result
  }

  async dispose() {
    this.#socket?.end(`${JSON.stringify({ end: true })}\n`)
    this.#server?.close()
    await this.#vitest?.close()
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true })
    this.#vitest = undefined
  }

  /** Answers when the tests are loaded and have run, and the worker waits. */
  async #start(more) {
    this.#folder = mkdtempSync(join(tmpdir(), 'resident-'))
    const path = join(this.#folder, 'socket')
    const ready = new Promise(resolve => {
      this.#server = createServer(socket => {
        this.#socket = socket
        this.#lines = createInterface(socket)[Symbol.asyncIterator]()
        resolve(this.#answer())
      }).listen(path)
    })
    this.#vitest = await createVitest('test', {
      config: this.#config,
      runner: './tools/mutation/resident-worker.mjs',
      pool: this.#pool,
      maxWorkers: 1,
      fileParallelism: false,
      isolate: false,
      watch: false,
      reporters: [],
      ...more,
    })
    const files = await this.#vitest.globTestSpecifications()
    this.#vitest.provide('fileCount', files.length)
    this.#vitest.provide('channel', path)
    const ended = this.#vitest.start().then(() => ({ problem: 'vitest ended before its tests had run' }))
    return Promise.race([ready, ended])
  }

  #ask(message) {
    this.#socket.write(`${JSON.stringify(message)}\n`)
    return this.#answer()
  }

  async #answer() {
    return JSON.parse((await this.#lines.next()).value)
  }
}

export const strykerPlugins = [{ kind: 'TestRunner', name: 'resident', injectableClass: ResidentRunner }]
