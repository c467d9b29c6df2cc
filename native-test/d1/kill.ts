/**
 * `kill -9` in the middle of Set PIN load, both types, several rounds on one folder. After each:
 *
 * - every PIN that was acknowledged is there, or one that was sent after it; a block or a PRW, never both; a PRW verifies;
 * - what was on its way when the process died is accepted when D1 repeats it;
 * - no intdatag comes twice, and no PCC that a Set PIN has used is handed out again.
 *
 *     node --import tsx native-test/d1/kill.ts [--rounds 5] [--backend software|pkcs11] [--postgres URL] [--json]
 */
import { randomInt } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { readOptions, type ServeOptions } from '../../examples/serve/options.js'
import { checkAtRest } from './at-rest.js'
import { type Caller, openCaller } from './caller.js'
import { type ServeProcess, startServe } from './serve-process.js'
import { get, type Known, newTraffic, type Sent, set, type Traffic } from './traffic.js'

export interface KillResult {
  readonly rounds: number
  /** Set PINs that were answered with 204, and that were on their way when the process died. */
  readonly acknowledged: number
  readonly cutOff: number
  /** Of those cut off: what had been stored without an answer. */
  readonly storedUnanswered: number
  readonly wrong: readonly string[]
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    backend: { type: 'string', default: 'software' },
    postgres: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})

const CARDS = 9
const store = values.postgres === undefined ? [] : ['--store', 'postgres', '--postgres', values.postgres]
const args = ['--backend', values.backend, '--extra-cards', String(CARDS), ...store]
const { backend: keys, store: place } = readOptions(args, process.env) as ServeOptions

async function main(): Promise<KillResult> {
  const parent = mkdtempSync(join(tmpdir(), 'ipc-kill-'))
  const dir = join(parent, 'run')
  let cutOff = 0
  let acknowledged = 0
  let storedUnanswered = 0
  let traffic: Traffic | undefined
  const wrong: string[] = []
  try {
    for (let round = 1; round <= Number(values.rounds); round++) {
      const server = await startServe(dir, ...args)
      using caller = await openCaller(dir, { connections: 16 })
      if (traffic === undefined) traffic = newTraffic(caller)
      else await afterRestart(caller, traffic)
      const before = countAcknowledged(traffic)
      await setUntilKilled(caller, traffic, server, before + randomInt(20, 120))
      acknowledged += countAcknowledged(traffic) - before
      repeats = new Map(traffic.cards.flatMap(known => openOf(known)))
      cutOff += repeats.size
      wrong.push(...(await checkAtRest({ dir, backend: keys, store: place }, traffic.cards)))
      storedUnanswered += [...repeats.values()].filter(one => one.acknowledged).length
    }
    const server = await startServe(dir, ...args)
    {
      using caller = await openCaller(dir)
      await afterRestart(caller, traffic as Traffic)
    }
    await server.stop()
    wrong.push(...(traffic?.wrong ?? []))
    return { rounds: Number(values.rounds), acknowledged, cutOff, storedUnanswered, wrong }
  } finally {
    rmSync(parent, { recursive: true, force: true })
  }
}

/** What was on its way when the process died, by card. */
let repeats: ReadonlyMap<Known, Sent> = new Map()

function openOf(known: Known): readonly (readonly [Known, Sent])[] {
  const last = known.sent.at(-1)
  return last === undefined || last.acknowledged ? [] : [[known, last]]
}

function countAcknowledged({ cards }: Traffic): number {
  return cards.reduce((sum, { done }) => sum + done, 0)
}

/** Sets PINs on all cards until so many are acknowledged in all; then the process dies, wherever it is. */
async function setUntilKilled(
  caller: Caller,
  traffic: Traffic,
  server: ServeProcess,
  total: number,
): Promise<void> {
  let killed = false
  const chains = traffic.cards.map(async known => {
    while (!killed) {
      try {
        await set(caller, traffic, known)
      } catch (error) {
        if (!killed) throw error
        return
      }
      if (!killed && countAcknowledged(traffic) >= total) {
        killed = true
        server.child.kill('SIGKILL')
      }
    }
  })
  await Promise.all(chains)
  await server.kill()
}

/** D1 repeats what was cut off; then each card shows what it must, and its counter has not gone back. */
async function afterRestart(caller: Caller, traffic: Traffic): Promise<void> {
  for (const known of traffic.cards) {
    const { card, counters, sent } = known
    const again = repeats.get(known)
    if (again !== undefined) {
      const status = await caller.setPin(card, again.body)
      if (status !== 204)
        traffic.wrong.push(`${card.cardId}: the repeated Set PIN (${again.type}) got ${status}`)
      if (!sent.includes(again)) sent.push(again)
      again.acknowledged = true
      known.highest = Math.max(known.highest, Number(again.counter?.pcc ?? 0))
    }
    if (card.setPinTypes.includes('3DES_SECCOS')) {
      const handedOut = counters.map(({ pcc }) => Number(pcc))
      const next = await caller.counter(card)
      if (Number(next.pcc) <= known.highest)
        traffic.wrong.push(`${card.cardId}: PCC ${next.pcc} has been used`)
      if (handedOut.some(pcc => pcc > Number(next.pcc)))
        traffic.wrong.push(`${card.cardId}: PCC ${next.pcc} went back`)
      if (counters.some(({ intdatag }) => intdatag === next.intdatag)) {
        traffic.wrong.push(`${card.cardId}: an intdatag came twice`)
      }
      counters.push(next)
    }
    const last = sent.at(-1)
    if ((last?.type ?? (known.first === undefined ? '3DES_SECCOS' : 'ISO0')) === 'ISO0') {
      await get(caller, traffic, known)
    }
  }
}

const result = await main()
console.log(values.json ? JSON.stringify(result) : result)
if (result.wrong.length > 0) process.exitCode = 1
