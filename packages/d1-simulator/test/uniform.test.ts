/** Whether refusals take the same time: what is made of times that are known, over a clock that only moves by what an answer takes. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { UNIFORM_CASES } from '../src/cases-uniform.js'
import { loadSetup } from '../src/setup.js'
import { type Reply, Wire } from '../src/wire.js'
import { World } from '../src/world.js'
import { type Issuer, openIssuer } from './support/issuer.js'

let issuer: Issuer
let world: World
beforeAll(async () => {
  issuer = await openIssuer()
  const setup = loadSetup({ config: issuer.config }, () => {})
  world = new World(setup, new Wire(setup))
})
afterAll(async () => {
  world.wire.close()
  await issuer.close()
})
afterEach(() => void vi.restoreAllMocks())

/** What the nth answer to a message takes; messages, and the answers to each, are counted from 0. */
type Takes = (message: number, nth: number) => number

const refused: Reply = {
  status: 400,
  headers: { 'content-type': 'application/json' },
  text: '{"error":"Bad request"}',
}

async function judged(type: string, takes: Takes, answer = (_message: number): Reply => refused) {
  let now = 0
  const asked = new Map<string, number>()
  class Timed extends World {
    override async put(_card: object, body: string | Buffer): Promise<Reply> {
      const text = String(body)
      const nth = asked.get(text) ?? 0
      asked.set(text, nth + 1)
      const message = [...asked.keys()].indexOf(text)
      now += takes(message, nth)
      return answer(message)
    }
  }
  const item = UNIFORM_CASES.find(({ name }) => name === `refusals of ${type} take the same time`)
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now)
  const outcome = await (item ?? expect.fail()).run(new Timed(world.setup, world.wire)).then(
    got => ({ passed: got }),
    (error: Error) => ({ failed: error.message }),
  )
  clock.mockRestore()
  return { ...outcome, messages: asked.size, times: [...asked.values()].reduce((sum, n) => sum + n, 0) }
}

const ALL = { messages: 5, times: 5 * 16 }

test('a quarter of the answers is what counts, by number: what the machine held up does not', async () => {
  // As texts, 100 comes before 9.5.
  expect(await judged('ISO0', (_message, nth) => (nth % 4 === 3 ? 9.5 : 100 + nth))).toEqual({
    passed: '9.5 to 9.5 ms',
    ...ALL,
  })
  // One of 16 less than a quarter.
  expect(await judged('ISO0', (message, nth) => (message === 1 && nth % 16 >= 3 ? 200 : 10))).toMatchObject({
    failed: '10.0 to 200.0 ms: slowest is a foreign kid',
  })
})

test('they may lie apart by 25 ms and what the fastest takes, and no more', async () => {
  const apart =
    (ms: number): Takes =>
    message =>
      message === 2 ? 10 + 25 + 10 + ms : 10
  expect(await judged('ISO0', apart(0))).toEqual({ passed: '10.0 to 45.0 ms', ...ALL })
  expect(await judged('ISO0', apart(0.5))).toMatchObject({
    failed: '10.0 to 45.5 ms: slowest is no pinValue',
  })
})

test('where they lie apart it is asked again, up to three times, and judged by all', async () => {
  const busyFor =
    (rounds: number): Takes =>
    (message, nth) =>
      message === 3 && nth < rounds ? 300 : 10
  // Of 32 answers 8 are a quarter.
  expect(await judged('ISO0', busyFor(24))).toEqual({ passed: '10.0 to 10.0 ms', messages: 5, times: 5 * 32 })
  expect(await judged('ISO0', busyFor(25))).toEqual({ passed: '10.0 to 10.0 ms', messages: 5, times: 5 * 48 })
  expect(await judged('ISO0', busyFor(37))).toEqual({
    failed: '10.0 to 300.0 ms: slowest is a foreign kid of the PIN block',
    messages: 5,
    times: 5 * 48,
  })
})

test.each([
  [
    'ISO0',
    [
      'a tag changed',
      'a foreign kid',
      'no pinValue',
      'a foreign kid of the PIN block',
      'a block under another key',
    ],
  ],
  [
    '3DES_SECCOS',
    [
      'a wrong MAC',
      'a foreign kid of the MAC',
      'no macKid',
      'another pcc',
      'an intdatag that was never issued',
    ],
  ],
])('%s: each thing that an issuer looks at is timed, and named where it is slow', async (type, names) => {
  const slowest: string[] = []
  for (const at of names.keys()) {
    const { failed = '' } = (await judged(type, message => (message === at ? 100 : 1))) as { failed?: string }
    slowest.push(failed.replace('1.0 to 100.0 ms: slowest is ', ''))
  }
  expect(slowest).toEqual(names)
})

test('an answer that is no refusal has no time that counts', async () => {
  for (const at of [0, 4]) {
    const accepted = (message: number): Reply =>
      message === at ? { status: 204, headers: {}, text: '' } : refused
    expect(await judged('ISO0', () => 1, accepted)).toMatchObject({ failed: '204' })
  }
})
