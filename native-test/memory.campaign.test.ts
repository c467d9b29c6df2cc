/**
 * No secret is left in a process's memory: the campaign's short mode, on both software engines and on SoftHSM. The long
 * mode, whose figures are in docs/measurements/memory.md, is `npm run memory`.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { openKeyStore } from '../src/pkcs11.js'
import { canariesOf, found } from '../test/leaks/canaries.js'
import { encipher } from '../test/leaks/secrets.js'
import { hostOf } from '../test/support/host.js'
import {
  type CampaignOptions,
  type CampaignResult,
  plant,
  provisionPlanted,
  runCampaign,
} from './campaign.js'
import type { StackBlock, StackOrder } from './campaign-orders.js'
import { cannotReadMemory, scanMemory } from './memory.js'
import { describeSoftHsm, makeToken, USER_PIN } from './softhsm.js'

const refusal = cannotReadMemory(process.pid)
if (refusal !== undefined) console.warn(`the memory campaign is not run: ${refusal}`)

const SHORT = {
  count: 24,
  turns: 12,
  together: 5,
  env: { NODE_DEBUG: 'crypto,fs,stream,timer,module,worker' },
}

function expectClean(
  result: CampaignResult,
  { planted, token }: Pick<CampaignOptions, 'planted' | 'token'>,
  atLeast = 30,
): void {
  // The controls first: a search that finds nothing proves nothing.
  const {
    'control: off the heap, not wiped': mustBeFound,
    'control: a small array on the heap, wiped': moved,
    ...mustNot
  } = result.controls
  expect(mustBeFound).toBeGreaterThanOrEqual(SHORT.count)
  // Most often all of them, and sometimes none: where V8 leaves what it moved, it may write again before we look.
  console.log(`copies that V8 left of ${SHORT.count} small arrays which were wiped: ${moved}`)
  expect(mustNot).toEqual({ 'control: off the heap, wiped': 0, 'control: never in the process': 0 })
  expect(result.scenarios.length).toBeGreaterThan(atLeast)
  const residues = result.residues.map(
    ({ scenario, found, places }) =>
      `${scenario}: ${JSON.stringify(found)} at ${places.slice(0, 4).join('; ')}`,
  )
  expect(residues, residues.join('\n')).toEqual([])
  // What the module leaves on the stack is there where nothing of ours is in between: most often, not always.
  if (token !== undefined) {
    console.log(`what the bare binding left behind: ${JSON.stringify(result.bare)}`)
    expect(Object.keys(result.bare)).toHaveLength(2)
  }
  // No verb makes a copy of a key that stays.
  expect(result.keys.used).toBe(result.keys.opened)
  // Not even what Node says of itself when it is asked to say much.
  expect(result.output.length).toBeGreaterThan(100)
  const { tdea, jwe, pan } = planted
  expect(found(result.output, canariesOf({ ...tdea, jwe: Buffer.from(jwe.d, 'base64url'), pan }))).toEqual([])
}

/** What works with blocks: an engine that is chosen by name does nothing else of its own. */
const AGREEING = /Jwe|SetPin/i
const BLOCKS = /encipher|decipher|translate|Mac|Prw|getPin|openSetPin|verifyPinBlock|naturalPin/

describe.runIf(refusal === undefined).each([
  ['bitslice', /./],
  ['node-forge', BLOCKS],
] as const)('the memory of a process (%s)', (engine, only) => {
  test('holds no secret that a verb has handled, in success and in failure, and none at all after close', async () => {
    const planted = plant()
    const result = await runCampaign({ engine, planted, ...SHORT, only })
    expectClean(result, { planted })
    expect(result.keys.opened).toBeGreaterThan(0)
    expect(result.keys.closed).toEqual({})
  })
})

const HOST = hostOf('backend/software/agreement-entry.ts')
test.runIf(refusal === undefined)(
  'so it is with threads for key agreement: scalars, Z and content keys are in none of their memory',
  async () => {
    const planted = plant()
    const workers = { count: 2, host: HOST }
    const result = await runCampaign({ engine: 'bitslice', planted, workers, ...SHORT, only: AGREEING })
    expectClean(result, { planted }, 5)
    // Each thread has its own copy of the private key while the backend is open, and none after.
    expect(result.keys.opened).toBeGreaterThan(0)
    expect(result.keys.closed).toEqual({})
  },
)

describeSoftHsm('the memory of a process that works with keys in SoftHSM', () => {
  const options = makeToken('memory')

  test.runIf(refusal === undefined)('holds no secret that a verb has handled', async () => {
    const planted = plant()
    await provisionPlanted(options, planted)
    const token = { module: options.module, label: 'memory', pin: USER_PIN }
    expectClean(await runCampaign({ engine: 'node:crypto', planted, token, ...SHORT }), { planted, token })
  })
})

describeSoftHsm('the memory of a thread that calls SoftHSM', () => {
  const options = makeToken('stack')
  const [kid, material] = ['PEK', randomBytes(16)]
  beforeAll(async () => {
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    const role = { usage: 'pin-encryption', algorithm: 'tdea-2key', hostDecipher: true } as const
    await store.importKey({ kid, ...role, material: material.toString('hex') })
  })

  // PVVs, offsets and derived keys are made of what a token *enciphers*; what it deciphers is a PIN block. A key's value is
  // given to it where one is imported or derived through the host, and read where Z is.
  test.runIf(refusal === undefined).each(['pkcs11js', 'koffi'] as const)(
    'keeps nothing of what was enciphered and deciphered, nor of a key that was given or read, by %s',
    binding => {
      const pairs = Array.from({ length: binding === 'koffi' ? 200 : 400 }, () => {
        const clear = randomBytes(8)
        return { clear, enciphered: encipher(material, clear) }
      })
      const order: StackOrder = {
        ...{ binding, module: options.module, label: 'stack', pin: USER_PIN, kid, keys: 80 },
        encipher: pairs.map(({ clear, enciphered }) => maskedBlock(clear, enciphered)),
        decipher: pairs.map(({ clear, enciphered }) => maskedBlock(enciphered, clear)),
      }
      const script = fileURLToPath(new URL('children/stack.ts', import.meta.url))
      const child = spawnSync(process.execPath, ['--import', 'tsx', script], {
        input: JSON.stringify(order),
        encoding: 'utf8',
      })
      expect(child.stderr).toBe('')
      console.log(child.stdout.trim())
      const { bareStack, bareHeap, ...ours } = JSON.parse(child.stdout)
      expect(ours).toEqual({ encipher: 0, decipher: 0, given: 0, read: 0 })
      // The controls: the same calls, where nothing is written over what they leave.
      expect(bareStack).toBeGreaterThan(0)
      expect(bareHeap).toBeGreaterThan(0)
    },
  )
})

function maskedBlock(block: Buffer, answer: Buffer): StackBlock {
  const mask = randomInt(2 ** 32)
  const word = (at: number): number => (answer.readUInt32LE(at) ^ mask) >>> 0
  return { block: block.toString('hex'), answer: [word(0), word(4)], mask }
}

// V8 writes the processor's registers into its memory when it throws away optimised code. Here that is done right after each copy.
test.runIf(refusal === undefined)(
  'what copies a secret, or computes with it, leaves it in no register',
  () => {
    const script = fileURLToPath(new URL('children/registers.ts', import.meta.url))
    const child = spawnSync(process.execPath, ['--allow-natives-syntax', '--import', 'tsx', script], {
      encoding: 'utf8',
    })
    expect(child.stderr).toBe('')
    console.log(child.stdout)
    const { set, ...ours } = JSON.parse(child.stdout)
    expect(Object.keys(ours).length).toBeGreaterThan(7)
    expect(Object.entries(ours).filter(([, found]) => found !== 0)).toEqual([])
    // The control: the built-in way, of which nearly all are found; with AVX-512, where `memmove` goes through other registers, a few.
    expect(set).toBeGreaterThan(2)
  },
)

test.runIf(refusal === undefined)(
  'the search finds what a process keeps, at any place and at any alignment',
  () => {
    const secrets = Array.from({ length: 8 }, () => crypto.getRandomValues(new Uint8Array(8)))
    const holders = secrets.map((secret, shift) => {
      const holder = Buffer.alloc(1 << 20)
      holder.set(secret, (1 << 20) - 16 + shift)
      return holder
    })
    for (const count of Object.values(scanMemory(process.pid, Object.fromEntries(secrets.entries()))))
      expect(count).toBeGreaterThan(1)
    for (const [shift, holder] of holders.entries())
      expect(holder.at(-9 + shift)).toBe(secrets[shift]?.at(-1))
  },
)
