/** Refusals of what is inside a JWE must be one refusal: the same bytes, in about the same time. */
import type { Case } from './case.js'
import { requireStatus } from './contract.js'
import { ISO0_MESSAGES, type MakeMessage, type Messages, SECCOS_MESSAGES } from './inside.js'
import { Mismatch, NotRun } from './problems.js'
import type { Reply } from './wire.js'
import type { Card, World } from './world.js'

const ROUNDS = 16
/**
 * A busy machine makes single answers late, and none early: what is compared is the time in which a quarter of them came. Where those
 * lie apart, it is asked again and judged by all: what an issuer does itself stays, and what the machine did is outnumbered.
 */
const ATTEMPTS = 3
/** They may lie apart by this much, and by as much again as the fastest takes: tens of milliseconds can be seen. */
const APART_MS = 25
/** What differs from answer to answer, or says how the connection goes on; a load balancer's cookie. */
const PASSING: readonly string[] = ['date', 'connection', 'keep-alive', 'set-cookie']
/** One for each thing that an issuer looks at, in the order in which it is likely to. */
const TIMED: Readonly<Record<'ISO0' | '3DES_SECCOS', readonly string[]>> = {
  ISO0: [
    'a tag changed',
    'a foreign kid',
    'no pinValue',
    'a foreign kid of the PIN block',
    'a block under another key',
  ],
  '3DES_SECCOS': [
    'no macKid',
    'a foreign kid of the MAC',
    'an intdatag that was never issued',
    'another pcc',
    'a wrong MAC',
  ],
}

/** All that an observer sees of an answer: status, header names, content type, body. */
function shape({ status, headers, text }: Reply): string {
  const names = Object.keys(headers)
    .filter(name => !PASSING.includes(name))
    .sort()
  return [status, ...names, headers['content-type'], text].join('\n')
}

const cardFor = (world: World, type: 'ISO0' | '3DES_SECCOS'): Card => {
  if (type === '3DES_SECCOS') world.seccosKeys()
  return world.card('active', type)
}

/** Undefined for what this profile has no place for. */
async function wrongBody(world: World, card: Card, make: MakeMessage): Promise<string | undefined> {
  try {
    return (await make(world, card, world.newPin('0000'))).wrong
  } catch (error) {
    if (error instanceof NotRun) return undefined
    throw error
  }
}

function sameBytes(type: 'ISO0' | '3DES_SECCOS', messages: Messages): Case {
  return {
    group: 'uniform',
    name: `refusals of ${type} are the same bytes`,
    expected: 'one answer',
    run: async world => {
      const card = cardFor(world, type)
      const shapes = new Map<string, string>()
      for (const [name, make] of Object.entries(messages)) {
        const body = await wrongBody(world, card, make)
        if (body === undefined) continue
        const reply = await world.put(card, body)
        requireStatus('SetPIN', reply, 400)
        if (!shapes.has(shape(reply))) shapes.set(shape(reply), name)
      }
      if (shapes.size === 1) return 'one answer'
      throw new Mismatch(`${shapes.size} answers: ${[...shapes.values()].slice(0, 3).join('; ')}`)
    },
  }
}

interface Timed {
  readonly name: string
  readonly body: string
  readonly times: number[]
}

function sameTime(type: 'ISO0' | '3DES_SECCOS', messages: Messages): Case {
  return {
    group: 'uniform',
    name: `refusals of ${type} take the same time`,
    expected: `quarters of ${ROUNDS} within ${APART_MS} ms and the fastest's own`,
    run: async world => {
      const card = cardFor(world, type)
      const timed: Timed[] = []
      for (const [name, make] of Object.entries(messages)) {
        if (!TIMED[type].includes(name)) continue
        const body = await wrongBody(world, card, make)
        if (body !== undefined) timed.push({ name, body, times: [] })
      }
      for (let attempt = 1; ; attempt++) {
        for (let round = 0; round < ROUNDS; round++) {
          for (const { body, times } of timed) {
            const started = performance.now()
            requireStatus('SetPIN', await world.put(card, body), 400)
            times.push(performance.now() - started)
          }
        }
        const { isOne, shown } = judge(timed)
        if (isOne) return shown
        if (attempt === ATTEMPTS) throw new Mismatch(shown)
      }
    },
  }
}

function judge(timed: readonly Timed[]): { readonly isOne: boolean; readonly shown: string } {
  const quarters = timed.map(({ times }) => quarter(times))
  const [fastest, slowest] = [Math.min(...quarters), Math.max(...quarters)]
  const shown = `${fastest.toFixed(1)} to ${slowest.toFixed(1)} ms`
  return slowest - fastest <= APART_MS + fastest
    ? { isOne: true, shown }
    : { isOne: false, shown: `${shown}: slowest is ${timed[quarters.indexOf(slowest)]?.name}` }
}

/** The time in which a quarter of the answers came. */
function quarter(times: readonly number[]): number {
  return Float64Array.from(times).sort()[times.length / 4 - 1] as number
}

export const UNIFORM_CASES: readonly Case[] = [
  sameBytes('ISO0', ISO0_MESSAGES),
  sameTime('ISO0', ISO0_MESSAGES),
  sameBytes('3DES_SECCOS', SECCOS_MESSAGES),
  sameTime('3DES_SECCOS', SECCOS_MESSAGES),
]
