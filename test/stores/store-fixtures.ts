/** What the tests of stores share with the processes that they start. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { expect } from 'vitest'
import { ChangeCounter } from '../../src/index.js'
import type { IssuerStore } from '../../src/sqlite.js'
import { bundled } from '../support/bundled.js'
import { blockOf, ISSUER, prwOf, SEAL_KEY, type Where } from './store-records.js'
import { hostFile } from './threads.js'

export { blockOf, ISSUER, prwOf, SEAL_KEY, type Where }

export function counterOn(store: IssuerStore, issuerId: string = ISSUER): ChangeCounter {
  return new ChangeCounter({
    store: store.counters(issuerId),
    backend: { randomBytes: async length => Uint8Array.from(randomBytes(length)) },
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 3600,
  })
}

/** A process that works on a store; see `store-child.ts`. */
export class StoreChild {
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>
  /** Its exit code, and the signal that ended it. */
  readonly exit: Promise<unknown>

  constructor(where: Where, ...args: string[]) {
    const script = bundled(new URL('./store-child.ts', import.meta.url))
    this.#process = spawn(process.execPath, ['--no-warnings', script, JSON.stringify(where), ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, SQLITE_HOST: hostFile() },
    })
    // A child that was killed does not read what it is told.
    this.#process.stdin?.on('error', () => {})
    this.exit = once(this.#process, 'exit')
    const input = this.#process.stdout ?? expect.unreachable()
    const lines: Interface = createInterface({ input })
    this.#lines = lines[Symbol.asyncIterator]()
  }

  /** The next line, or undefined at the end. */
  async next(): Promise<unknown> {
    const { value, done } = await this.#lines.next()
    return done === true ? undefined : JSON.parse(value)
  }

  go(): void {
    this.#process.stdin?.write('go\n')
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  /** All lines that are left, once the process has ended. */
  async rest(): Promise<unknown[]> {
    const lines: unknown[] = []
    for (let line = await this.next(); line !== undefined; line = await this.next()) lines.push(line)
    await this.exit
    return lines
  }
}

/** Two processes accept different requests for the same intdatags at once; of each pair one must win. */
export async function raceTwoProcesses(store: IssuerStore, where: Where, cards: number): Promise<void> {
  const counter = counterOn(store)
  const { Pan } = await import('../../src/index.js')
  const intdatags: string[] = []
  for (let i = 0; i < cards; i++) {
    const cardId = `card-${i}`
    const pan = Pan.from('9999990123456789')
    await store.cards.put(
      { issuerId: ISSUER, cardId },
      { state: 'active', pan, setPinTypes: ['3DES_SECCOS'] },
    )
    const { pcc, intdatag } = await counter.issue({ cardId })
    intdatags.push(`${cardId}:${pcc}:${intdatag}`)
  }
  const children = ['1', '2'].map(mark => new StoreChild(where, 'race', mark, ...intdatags))
  for (const child of children) expect(await child.next()).toBe('ready')
  for (const child of children) child.go()
  const [one = [], two = []] = (await Promise.all(children.map(child => child.rest()))) as {
    cardId: string
    verdict: string
  }[][]
  for (let i = 0; i < cards; i++) {
    const verdicts = [one[i]?.verdict, two[i]?.verdict]
    expect(verdicts.toSorted()).toEqual(['ERR_CHANGE_COUNTER', 'accepted'])
    const mark = verdicts.indexOf('accepted') + 1
    const card = { issuerId: ISSUER, cardId: `card-${i}` }
    expect(await store.pins.readPrw(card)).toEqual(prwOf(1, mark))
    expect(await counter.issue({ cardId: card.cardId })).toMatchObject({ pcc: '0002' })
  }
}

/** Kills a process with SIGKILL while it writes, and returns the last write that it acknowledged. */
export async function killWriter(where: Where, writes: number): Promise<number> {
  const child = new StoreChild(where, 'write')
  expect(await child.next()).toBe('ready')
  child.go()
  while (Number(await child.next()) < writes) {
    // Each line is a write that was acknowledged.
  }
  child.kill()
  const rest = await child.rest()
  return Number(rest.at(-1) ?? writes)
}

/** What the killed process acknowledged is there, or what it wrote next; never less, never half. */
export async function expectWritten(store: IssuerStore, last: number): Promise<void> {
  for (let i = last - 4; i <= last; i++) {
    const card = { issuerId: ISSUER, cardId: `card-${i % 5}` }
    const counted = Number((await store.counters(ISSUER).read(card.cardId))?.value)
    // At most one write was under way: the one after the last, on the card of `last - 4`.
    const later = i === last - 4 ? [i, i + 5] : [i]
    expect(later).toContain(counted)
    const [block, prw] = [await store.pins.readBlock(card, {}), await store.pins.readPrw(card)]
    const mark = prw?.sequence ?? new DataView(block?.block.buffer ?? new ArrayBuffer(8)).getUint32(4)
    expect(later).toContain(mark)
    expect([block === undefined, prw === undefined].filter(Boolean)).toHaveLength(1)
    expect((await store.cards.find(card))?.pan.reveal()).toBe('9999990123456789')
  }
}
