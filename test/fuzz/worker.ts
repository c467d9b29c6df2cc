/** One target of a long run in a process of its own: its memory is its own, and its end is nobody else's. */
import { openSync, writeSync } from 'node:fs'
import { batchOf } from './support/inputs.js'
import { describeFinding, reduced, runOne } from './support/run.js'
import { Finding } from './target.js'
import { TARGETS } from './targets/index.js'

/** What the parent asks for. */
export interface Task {
  readonly target: string
  readonly seed: number
  readonly inputs: number
  /** Where the input that is being run stands, for whoever finds this process dead or silent: length, then bytes. */
  readonly current: string
}

/** What the parent hears: now and then, and at the end. */
export interface Progress {
  readonly done: number
  /** Of the work, without starting the process. */
  readonly ms: number
  readonly slowestMs: number
  readonly slowestBytes: number
  readonly rssBefore: number
  readonly rss: number
  readonly heap: number
  readonly finished: boolean
  readonly finding?: { readonly what: string; readonly input: string; readonly smaller: string }
}

/** More heap than this between batches, after a collection, is a leak. */
const MAX_HEAP = 256 * 2 ** 20
const WARM_UP = 4
const LENGTH = Buffer.alloc(4)

async function work({ target: name, seed, inputs, current }: Task): Promise<void> {
  const target = TARGETS.find(each => each.name === name)
  if (target === undefined) throw new Error(`there is no target ${name}`)
  const file = openSync(current, 'w')
  let input: Uint8Array = new Uint8Array()
  const started = Date.now()
  let [done, slowestMs, slowestBytes, rssBefore] = [0, 0, 0, 0]
  const report = (finished: boolean, finding?: Progress['finding']): void => {
    const { rss, heapUsed } = process.memoryUsage()
    const ms = Date.now() - started
    const facts = { done, ms, slowestMs, slowestBytes, rssBefore, rss, heap: heapUsed, finished }
    process.send?.(finding === undefined ? facts : { ...facts, finding })
  }
  // What nobody awaits is a failure as well, and belongs to the input before it.
  const stray: unknown[] = []
  process
    .on('unhandledRejection', error => stray.push(error))
    .on('uncaughtException', error => stray.push(error))
  try {
    for (let batch = 0; done < inputs; batch++) {
      // Code is compiled and caches are there after some batches; what comes afterwards is what counts.
      if (batch === 0 || batch === WARM_UP) {
        global.gc?.()
        rssBefore = process.memoryUsage().rss
        slowestMs = 0
      }
      for (input of batchOf(target, seed, batch).slice(0, inputs - done)) {
        LENGTH.writeUInt32BE(input.length)
        writeSync(file, LENGTH, 0, 4, 0)
        writeSync(file, input, 0, input.length, 4)
        const took = await runOne(target, input)
        if (stray.length > 0) throw stray[0]
        done++
        if (took > slowestMs) [slowestMs, slowestBytes] = [took, input.length]
      }
      if (batch % 64 === 63) {
        global.gc?.()
        if (process.memoryUsage().heapUsed > MAX_HEAP) throw new Finding('the heap grows without end')
      }
      report(false)
      // What waits in the event loop (sockets that close) gets its turn.
      await new Promise(resolve => setImmediate(resolve))
    }
    global.gc?.()
    report(true)
  } catch (error) {
    const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
    const what = describeFinding(error)
    report(true, { what, input: base64(input), smaller: base64(await reduced(target, input)) })
  }
  await target.close?.()
}

process.once('message', (task: Task) => {
  work(task).then(
    () => process.disconnect(),
    error => {
      console.error(error)
      process.exit(1)
    },
  )
})
