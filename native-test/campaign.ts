/**
 * The memory campaign: a process works with planted secrets, verb by verb, in success and in failure, and after each
 * batch (in the short mode after five) its whole writable memory is read from here, before anything has collected garbage.
 * Each batch has secrets of its own, so that what is found names the verb that left it.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { TdeaEngine } from '../src/backend/software/tdea-engine.js'
import { computePrw, dataSetToHex, generatePrwMac, Pan, Pin } from '../src/index.js'
import { type KeyStoreOptions, openKeyStore } from '../src/pkcs11.js'
import { softwareBackend } from '../src/software.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile } from '../src/tools.js'
import { agreed, digits, encipher, format0, type P256Jwk, p256, senderTo } from '../test/leaks/secrets.js'
import { KEYS, OPEN, type Order, type Setup } from './campaign-orders.js'
import { scanMemory } from './memory.js'

type Kid = keyof typeof KEYS

/** The secrets of one run: keys, and the PANs. */
export interface Planted {
  readonly tdea: Readonly<Record<Exclude<Kid, 'JWE'>, Buffer>>
  readonly jwe: P256Jwk
  readonly d1: P256Jwk
  readonly pan: string
  readonly otherPan: string
}

export function plant(): Planted {
  const prw = randomBytes(16)
  const tdea = {
    ZPK: randomBytes(16),
    STORE: randomBytes(16),
    MAC: randomBytes(16),
    MASTER: randomBytes(16),
    'PRW-G': prw,
    'PRW-V': prw,
    AES: randomBytes(16),
    PVK: randomBytes(16),
    IBM: randomBytes(16),
    KBPK: randomBytes(32),
    HMAC: randomBytes(32),
  }
  const pan = `9${digits(15)}`
  // Of another last digit in the PAN field, where a block has its filler: no PIN of a block under the one PAN, with a
  // probability of one in ten thousand, looks well made under the other.
  let otherPan = pan
  while (otherPan.at(-2) === pan.at(-2)) otherPan = `9${digits(15)}`
  return { tdea, jwe: p256(), d1: p256(), pan, otherPan }
}

/** Puts the keys into an empty token. */
export async function provisionPlanted(options: KeyStoreOptions, { tdea, jwe }: Planted): Promise<void> {
  await using store = await openKeyStore({
    ...options,
    importClearKeys: true,
    composedMac: true,
    deriveKeys: 'through-host',
  })
  for (const kid of Object.keys(KEYS) as Kid[]) {
    const { usage, algorithm } = KEYS[kid]
    const role = usage.startsWith('prw') ? { macs: ['iso9797-1-alg3'] as const } : {}
    const open = OPEN.has(usage) ? { hostDecipher: true } : kid === 'MASTER' ? { derives: true } : {}
    const material = kid === 'JWE' ? { ...jwe } : tdea[kid].toString('hex')
    await store.importKey({ kid, usage, algorithm, material, ...role, ...open })
  }
}

/** What was found, and where. */
export interface Residue {
  readonly scenario: string
  readonly calls: number
  /** How often each secret was found; only what was. */
  readonly found: Readonly<Record<string, number>>
  /** In which mappings of the process, and how far into them. */
  readonly places: readonly string[]
}

export interface CampaignOptions {
  readonly engine: TdeaEngine['name']
  readonly planted: Planted
  readonly token?: NonNullable<Setup['token']>
  readonly workers?: NonNullable<Setup['workers']>
  /** Calls in a batch. */
  readonly count: number
  /** In how many turns the calls of a batch begin. */
  readonly turns: number
  /** Batches of each scenario. */
  readonly rounds?: number
  /** Batches after which the memory is read: 1 where absent. What one leaves, the next ones may have written over by then. */
  readonly together?: number
  /** Also give calls up half-way. */
  readonly abort?: boolean
  readonly only?: RegExp
  readonly env?: NodeJS.ProcessEnv
  /**
   * V8 throws away optimised code each time so many of the places are passed where it could. It writes all registers of the
   * processor into its memory then: what a copy has left in them is found, which else takes some fifty campaigns.
   */
  readonly deoptEvery?: number
}

export interface CampaignResult {
  readonly scenarios: readonly string[]
  readonly batches: number
  readonly residues: readonly Residue[]
  /** Copies of keys while the backend is open: as many at the end as at the beginning. */
  readonly keys: {
    readonly opened: number
    readonly used: number
    readonly closed: Readonly<Record<string, number>>
  }
  /** What the controls found: the first must be found, the second not. */
  readonly controls: Readonly<Record<string, number>>
  /** With a token: what stays where the bare binding did it, without this library. */
  readonly bare: Readonly<Record<string, number>>
  /** What the child wrote besides its answers. */
  readonly output: string
}

/** In the order in which a large nursery is filled, nothing is collected but when the child says so. */
const NODE_FLAGS = ['--expose-gc', '--min-semi-space-size=32', '--max-semi-space-size=32']

/** Runs a campaign in a child process. */
export async function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const child = new Child(options)
  try {
    return await campaign(child, options)
  } finally {
    child.kill()
  }
}

async function campaign(child: Child, options: CampaignOptions): Promise<CampaignResult> {
  const { planted, count, only = /./ } = options
  const keyPatterns = patternsOfKeys(planted)
  const { scenarios } = (await child.ask(setupOf(options))) as {
    scenarios: { name: string; fails: boolean }[]
  }
  const total = (): number => sum(child.scan(keyPatterns))
  // A key is there while its backend is open; how often must not depend on what was done with it.
  const opened = total()
  const wanted = scenarios.filter(({ name }) => only.test(name) || /^(?:control|bare)/.test(name))
  const bare: Record<string, number> = {}
  const residues: Residue[] = []
  const controls: Record<string, number> = {}
  const all: Record<string, Uint8Array> = {}
  let batches = 0
  /** Batches that are done, with what would be left of each. */
  let unread: { readonly scenario: string; readonly patterns: Record<string, Uint8Array> }[] = []
  const readThem = (): void => {
    if (unread.length === 0) return
    const merged = Object.fromEntries(
      unread.flatMap(({ patterns }, i) =>
        Object.entries(patterns).map(([what, pattern]) => [`${i} ${what}`, pattern]),
      ),
    )
    const places: string[] = []
    const found = Object.entries(onlyFound(child.scan(merged, places)))
    for (const [i, { scenario }] of unread.entries()) {
      const name = `${i} `
      const own = found.flatMap(([what, times]) =>
        what.startsWith(name) ? [[what.slice(name.length), times] as const] : [],
      )
      if (own.length === 0) continue
      const where = places.filter(place => place.startsWith(name))
      residues.push({ scenario, calls: count, found: Object.fromEntries(own), places: where })
    }
    unread = []
  }
  for (const { name, fails } of wanted) {
    const isControl = name.startsWith('control')
    const { abort: alsoGivenUp = false, rounds = 1, turns } = options
    // A control is tried several times: where a collection leaves what it moved is V8's business, and may be overwritten.
    for (let round = 0; round < (isControl ? 5 : rounds); round++) {
      for (const abort of alsoGivenUp && !isControl && !fails ? [false, true] : [false]) {
        const { order, patterns } = await orderOf(planted, { scenario: name, count, turns, abort })
        const { made } = (await child.ask(order)) as { made: string[] }
        Object.assign(patterns, patternsOfMade(planted.d1, made))
        batches++
        if (isControl || name.startsWith('bare')) {
          const counted = isControl ? controls : bare
          counted[name] = Math.max(counted[name] ?? 0, sum(child.scan(patterns)))
          continue
        }
        unread.push({ scenario: abort ? `${name}, given up` : name, patterns })
        if (unread.length >= (options.together ?? 1)) readThem()
        // What the bare binding left is not ours to find after close.
        for (const [what, pattern] of Object.entries(patterns)) all[`${name}: ${what}, ${round}`] = pattern
      }
    }
  }
  readThem()
  const used = total()
  await child.ask(emptyOrder('close'))
  const closed = onlyFound(child.scan({ ...keyPatterns, ...all }))
  controls['control: never in the process'] = sum(child.scan({ never: randomBytes(16) }))
  return {
    scenarios: wanted.map(({ name }) => name),
    batches,
    residues,
    keys: { opened, used, closed },
    controls,
    bare,
    output: child.output,
  }
}

const sum = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((a, b) => a + b, 0)
const onlyFound = (counts: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0))

// ------------------------------------------------------------------------------------------------- secrets and patterns

function bothHex(name: string, bytes: Uint8Array): Record<string, Uint8Array> {
  const hex = Buffer.from(bytes).toString('hex')
  return {
    [name]: bytes,
    [`${name}, hex`]: Buffer.from(hex),
    [`${name}, HEX`]: Buffer.from(hex.toUpperCase()),
  }
}

/** What is freed without being wiped loses its first 16 bytes to the allocator, and no more. */
function halves(name: string, bytes: Uint8Array): Record<string, Uint8Array> {
  const half = bytes.length / 2
  return { [`${name}, first half`]: bytes.subarray(0, half), [`${name}, second half`]: bytes.subarray(half) }
}

function patternsOfKeys({ tdea, jwe }: Planted): Record<string, Uint8Array> {
  const patterns: Record<string, Uint8Array> = {}
  for (const [kid, key] of Object.entries(tdea)) {
    if (kid === 'PRW-V') continue
    // The halves: whatever holds the key holds its first half, and a key schedule may hold K1 alone.
    Object.assign(patterns, bothHex(`${kid}, K1`, key.subarray(0, 8)), bothHex(`${kid}, K2`, key.subarray(8)))
  }
  const scalar = Buffer.from(jwe.d, 'base64url')
  const reversed = Buffer.from(scalar).reverse()
  return {
    ...patterns,
    ...bothHex('scalar', scalar),
    ...halves('scalar', scalar),
    'scalar, as OpenSSL keeps numbers': reversed,
    'scalar, base64url': Buffer.from(jwe.d),
  }
}

function patternsOfMade(d1: P256Jwk, made: readonly string[]): Record<string, Uint8Array> {
  return Object.fromEntries(
    made.flatMap((compact, i) => {
      const { epk } = JSON.parse(Buffer.from(compact.split('.')[0] ?? '', 'base64url').toString())
      const { z, contentKey } = agreed(d1, epk)
      return Object.entries({
        ...halves(`Z of JWE ${i}`, z),
        ...halves(`content key of JWE ${i}`, contentKey),
      })
    }),
  )
}

const xor = (bytes: Uint8Array, mask: Buffer): string =>
  Buffer.from(bytes.map((byte, i) => byte ^ (mask[i] ?? 0))).toString('hex')

function setupOf({ planted, engine, token, workers }: CampaignOptions): Setup {
  const mask = randomBytes(64)
  const material = { ...planted.tdea, JWE: Buffer.from(planted.jwe.d, 'base64url') }
  const keys = (Object.keys(KEYS) as Kid[]).map(kid => ({ kid, material: xor(material[kid], mask) }))
  return token === undefined
    ? { engine, mask: mask.toString('hex'), keys, ...(workers && { workers }) }
    : { engine, mask: mask.toString('hex'), keys: [], token }
}

const emptyOrder = (scenario: string): Order => ({
  scenario,
  count: 0,
  turns: 0,
  abort: false,
  mask: '',
  secrets: {},
  inputs: {},
  jwes: [],
})

async function orderOf(
  planted: Planted,
  batch: Pick<Order, 'scenario' | 'count' | 'turns' | 'abort'>,
): Promise<{ order: Order; patterns: Record<string, Uint8Array> }> {
  const { pan, otherPan, tdea, d1 } = planted
  const mask = randomBytes(64)
  const pin = digits(12)
  const { field, block } = format0(pin, pan)
  const content = randomBytes(48)
  const moved = randomBytes(16)
  const part = randomBytes(16)
  const derivedFrom = randomBytes(16)
  const rest = Buffer.from(moved.map((byte, i) => byte ^ (part[i] ?? 0)))
  const natural = encipher(tdea.IBM, Buffer.from(pan.slice(0, 11).padEnd(16, 'f'), 'hex'))
  const naturalDigits = natural
    .toString('hex')
    .slice(0, 12)
    .replace(/[a-f]/g, digit => String(Number.parseInt(digit, 16) - 10))
  const sender = senderTo(planted.jwe)
  const seccos = await seccosOf(planted, pin)
  const inside = batch.scenario.includes('openJwe')
    ? content
    : /seccos/i.test(batch.scenario)
      ? JSON.stringify(seccos.message)
      : JSON.stringify({ pinValue: encipher(tdea.ZPK, block).toString('hex').toUpperCase(), kid: 'ZPK' })
  const order: Order = {
    ...batch,
    mask: mask.toString('hex'),
    secrets: {
      pin: xor(Buffer.from(pin), mask),
      pan: xor(Buffer.from(pan), mask),
      otherPan: xor(Buffer.from(otherPan), mask),
      clearBlock: xor(block, mask),
      content: xor(content, mask),
      moved: xor(moved, mask),
      part: xor(part, mask),
      rest: xor(rest, mask),
    },
    inputs: {
      storedBlock: encipher(tdea.STORE, block).toString('hex'),
      d1Public: JSON.stringify({ kty: d1.kty, crv: d1.crv, x: d1.x, y: d1.y }),
      kcvs: [moved, part, rest].map(kcvOf).join(),
      derivedFrom: derivedFrom.toString('hex'),
      ...seccos.inputs,
    },
    jwes: Array.from({ length: batch.count }, () => sender.seal(inside)),
  }
  const patterns: Record<string, Uint8Array> = {
    'PIN, ASCII': Buffer.from(pin),
    'PIN, digits': Uint8Array.from(pin, Number),
    ...bothHex('PIN field', field),
    'PIN, packed': Buffer.from(pin, 'hex'),
    ...bothHex('clear block', block),
    ...bothHex('clear block of another PAN', format0(pin, otherPan).block),
    ...bothHex(
      'what a PVV is made of',
      encipher(tdea.PVK, Buffer.from(`${pan.slice(-12, -1)}1${pin.slice(0, 4)}`, 'hex')),
    ),
    ...bothHex('what a natural PIN is made of', natural),
    ...bothHex('block of a natural PIN', format0(naturalDigits, pan).block),
    'natural PIN, digits': Uint8Array.from(naturalDigits, Number),
    // What the fields of formats 0 and 3 have in common, whatever the filler; format 1 and 4 have the packed PIN.
    'block without its ends': block.subarray(1, 7),
    ...halves('a key on its way', moved),
    ...bothHex('a key on its way', moved),
    ...bothHex('a derived key', encipher(tdea.MASTER, derivedFrom)),
    ...halves('a derived key', encipher(tdea.MASTER, derivedFrom)),
    ...halves('a component', part),
    ...halves('the other component', rest),
    ...halves('content of a JWE', content),
    ...bothHex('Z', sender.z),
    ...halves('Z', sender.z),
    ...bothHex('content key', sender.contentKey),
    ...halves('content key', sender.contentKey),
  }
  return { order, patterns }
}

const kcvOf = (key: Buffer): string =>
  encipher(key, Buffer.alloc(8)).subarray(0, 3).toString('hex').toUpperCase()

/** A PRW and its MAC, computed here: nothing of it is secret but what it was computed from. */
async function seccosOf({ tdea, pan: account }: Planted, digits: string) {
  await using backend = await softwareBackend({
    keys: [
      { kid: 'PRW-G', ...KEYS['PRW-G'], material: tdea['PRW-G'] },
      { kid: 'MAC', ...KEYS.MAC, material: tdea.MAC },
    ],
  })
  const intdatag = 'TAG-0123456789-ABCDE'
  const random = Uint8Array.of(1, 2, 3, 4)
  const fields = { psn: '01', expiry: '2912', issuer: 'is_tbank01' }
  const values = { pan: Pan.from(account), pcc: '0042', intdatag, fields, random }
  const prwKey = await backend.bind({ kid: 'PRW-G', usage: 'prw-generate' })
  const macKey = await backend.bind({ kid: 'MAC', usage: 'retail-mac' })
  const prw = await computePrw({ ...values, key: prwKey, profile, pin: Pin.from(digits) })
  const { macValue, macKid } = await generatePrwMac({ ...values, ...prw, key: macKey, profile })
  const prwDataSet = dataSetToHex(prw.dataSet)
  const { prwValue, prwKid } = prw
  return {
    inputs: { intdatag, random: '01020304', prwDataSet, prwValue, macValue },
    message: { intdatag, prwDataSet, prwValue, prwKid, macValue, macKid },
  }
}

// -------------------------------------------------------------------------------------------------------------- the child

const NODE_DEBUG_LINE = /^[A-Z0-9_]+ \d+: /

/** The child; between an answer and the next question it waits in a blocking read. */
class Child {
  output = ''
  #closed = false
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>

  constructor({ env, deoptEvery }: CampaignOptions) {
    const script = fileURLToPath(new URL('children/campaign.ts', import.meta.url))
    const flags =
      deoptEvery === undefined ? NODE_FLAGS : [...NODE_FLAGS, `--deopt-every-n-times=${deoptEvery}`]
    this.#child = spawn(process.execPath, [...flags, '--import', 'tsx', script], {
      env: { ...process.env, ...env },
    })
    this.#child.stderr.on('data', chunk => {
      this.output += chunk
    })
    this.#child.once('close', () => {
      this.#closed = true
    })
    this.#child.stdin.on('error', () => {})
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]()
  }

  async ask(question: Setup | Order): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify(question)}\n`)
    const { value, done } = await this.#lines.next()
    if (done !== true) return JSON.parse(value)
    // Only when all it wrote has been read.
    if (!this.#closed) await once(this.#child, 'close')
    const own = this.output.split('\n').filter(line => !NODE_DEBUG_LINE.test(line))
    throw new Error(`the child ended with ${this.#child.exitCode}: ${own.slice(-20).join('\n')}`)
  }

  scan(patterns: Readonly<Record<string, Uint8Array>>, places?: string[]): Record<string, number> {
    return scanMemory(this.#child.pid ?? 0, patterns, places && { places })
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
