/**
 * The worker's half of `resident.mjs`: runs the tests once, noting which mutants each comes to, and then those that it is
 * asked for, hooks included, until one fails.
 */
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { VitestTestRunner } from 'vitest/runners'
import { getFn, getHooks } from 'vitest/suite'

/** The real one, whatever a test plays. */
const { setTimeout, clearTimeout } = globalThis

/** What Stryker's switches in the sources read. */
globalThis.__stryker__ ??= {}
const switches = globalThis.__stryker__
/** All files of the run: in a worker that is not isolated they come one after the other. */
const files = []

export default class ResidentWorker extends VitestTestRunner {
  /** How long one test or hook may take, in ms; without it there is no limit here. */
  #limit

  onBeforeTryTask(test, options) {
    switches.currentTestId = test.id
    return super.onBeforeTryTask(test, options)
  }

  onAfterRunTask(test) {
    switches.currentTestId = undefined
    return super.onAfterRunTask(test)
  }

  async onAfterRunFiles(ran) {
    files.push(...ran)
    if (files.length < this.injectValue('fileCount')) return super.onAfterRunFiles(ran)
    const { snapshotOptions } = this.workerState.config
    for (const { filepath } of files) await this.snapshotClient.setup(filepath, snapshotOptions)
    const channel = connect(this.injectValue('channel'))
    const answer = value => channel.write(`${JSON.stringify(value)}\n`)
    answer(firstRun())
    for await (const line of createInterface(channel)) {
      const asked = JSON.parse(line)
      if (asked.end) break
      answer(await this.#runMutant(asked))
    }
    channel.destroy()
    return super.onAfterRunFiles(ran)
  }

  async #runMutant({ mutant, tests, hitLimit, limit }) {
    this.#limit = limit
    const wanted = new Set(tests)
    const nrOfTests = wanted.size
    Object.assign(switches, { activeMutant: mutant, hitCount: 0, hitLimit })
    const failed = await this.#run(wanted, quickestFirst(wanted))
    const { hitCount } = switches
    Object.assign(switches, { activeMutant: undefined, hitCount: undefined, hitLimit: undefined })
    if (failed === undefined) return { status: 'survived', nrOfTests }
    const spoilt = (await this.#run(wanted, failed.ran)) !== undefined
    if (hitCount > hitLimit) return { status: 'timeout', reason: `${hitCount} times`, spoilt }
    if (failed.late) return { status: 'timeout', reason: failed.message, spoilt }
    return { status: 'killed', killedBy: [failed.test], failureMessage: failed.message, nrOfTests, spoilt }
  }

  /** The first test that fails, of those that are wanted. */
  async #run(wanted, among) {
    for (const [i, file] of among.entries()) {
      try {
        await this.#runSuite(file, wanted)
      } catch (error) {
        return {
          test: this.workerState.current.id,
          message: String(error),
          late: error === LATE,
          ran: among.slice(0, i + 1),
        }
      }
    }
  }

  async #runSuite(suite, wanted) {
    const tasks = suite.tasks.filter(task => testsOf(task).some(({ id }) => wanted.has(id)))
    if (tasks.length === 0) return
    await this.#within(
      getHooks(suite).beforeAll.map(hook => () => hook({}, suite)),
      async () => {
        for (const task of tasks)
          await (task.type === 'suite' ? this.#runSuite(task, wanted) : this.#runTest(task))
      },
      getHooks(suite).afterAll.map(hook => () => hook({}, suite)),
    )
  }

  #runTest(test) {
    this.workerState.current = test
    super.onBeforeTryTask(test)
    const suites = suitesOf(test)
    const hooks = name =>
      suites.flatMap(suite => getHooks(suite)[name].map(hook => () => hook(test.context, suite)))
    return this.#within(
      hooks('beforeEach'),
      async () => {
        await this.#soon(getFn(test)())
        super.onAfterTryTask(test)
      },
      hooks('afterEach'),
    )
  }

  /** Runs what is between two lists of hooks; the second list runs from its end, whatever comes of the first and the middle. */
  async #within(before, middle, after) {
    const cleanups = [...after]
    try {
      for (const hook of before) {
        const cleanup = await this.#soon(hook())
        if (typeof cleanup === 'function') cleanups.push(cleanup)
      }
      await middle()
    } finally {
      for (const hook of cleanups.reverse()) await this.#soon(hook())
    }
  }

  async #soon(result) {
    if (this.#limit === undefined) return result
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(reject, this.#limit, LATE)
    })
    return Promise.race([result, late]).finally(() => clearTimeout(timer))
  }
}

const LATE = new Error('it did not come to its end')

function firstRun() {
  const tests = files.flatMap(testsOf).filter(({ result }) => result !== undefined)
  const broken = [...tests, ...files].find(({ result }) => result?.state === 'fail')
  if (broken !== undefined) return { problem: `${broken.name}: ${broken.result.errors?.[0]?.message}` }
  return {
    tests: tests.map(({ id, name, result }) => ({
      id,
      name,
      status: 'success',
      timeSpentMs: result.duration ?? 0,
    })),
    mutantCoverage: switches.mutantCoverage ?? { static: {}, perTest: {} },
  }
}

function quickestFirst(wanted) {
  const duration = file => {
    const tests = testsOf(file).filter(({ id }) => wanted.has(id))
    return tests.reduce((sum, { result }) => sum + (result?.duration ?? 0), 0)
  }
  return files
    .map(file => [duration(file), file])
    .sort(([a], [b]) => a - b)
    .map(([, file]) => file)
}

function testsOf(task) {
  return task.type === 'suite' ? task.tasks.flatMap(testsOf) : [task]
}

/** The suites around a test, the file first. */
function suitesOf({ suite, file }) {
  return suite === undefined || suite === file ? [file] : [...suitesOf(suite), suite]
}
