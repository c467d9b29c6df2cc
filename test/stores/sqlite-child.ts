/**
 * A process of its own that works on a change counter's file, for `sqlite-change-counter.test.ts`.
 *
 *     sqlite-child.ts <driver> <file> race <start> <fingerprint> <cardId:pcc:intdatag>…
 *     sqlite-child.ts <driver> <file> issue <start> <times> <cardId>
 *     sqlite-child.ts <driver> <file> die-after-issue|die-in-store|die-after-store <cardId>
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { isIssuerPinError } from '../../src/base/errors.js'
import { ChangeCounter } from '../../src/seccos/counter/counter.js'
import { openSqliteStore, type SqliteDriver } from '../../src/sqlite.js'

const [driver, path, what, ...rest] = process.argv.slice(2)
const fingerprintOf = (n: number): Uint8Array => new Uint8Array(32).fill(n)
const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`)
const die = (): void => void process.kill(process.pid, 'SIGKILL')

async function main(): Promise<void> {
  const store = await openSqliteStore({ path: path ?? '', driver: driver as SqliteDriver })
  const counter = new ChangeCounter({
    store,
    backend: { randomBytes: async length => Uint8Array.from(randomBytes(length)) },
    firstPcc: '0001',
    rule: 'increment-on-accept',
    wrap: 'refuse',
    ttlSeconds: 3600,
  })
  say('ready')
  if (what === 'race') {
    const [start, mark, ...cards] = rest
    await wait(Number(start) - Date.now())
    for (const card of cards) {
      const [cardId = '', pcc = '', intdatag = ''] = card.split(':')
      const fingerprint = fingerprintOf(Number(mark))
      const won = await counter
        .accept({ cardId, pcc, intdatag, fingerprint }, () => wait(1))
        .then(() => true)
        .catch(error => (isIssuerPinError(error) && 'reason' in error ? error.reason : String(error)))
      say({ cardId, won })
    }
  } else if (what === 'issue') {
    const [start, times, cardId = ''] = rest
    await wait(Number(start) - Date.now())
    for (let i = 0; i < Number(times); i++) say(await counter.issue(cardId))
  } else {
    const [cardId = ''] = rest
    const issued = await counter.issue(cardId)
    say(issued)
    if (what === 'die-after-issue') die()
    const request = { cardId, ...issued, fingerprint: fingerprintOf(1) }
    await counter.accept(request, async () => {
      if (what === 'die-in-store') die()
      await wait(0)
    })
    if (what === 'die-after-store') die()
  }
  store.close()
}

await main()
