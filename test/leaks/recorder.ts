/**
 * A recorder of secret memory: sees every ArrayBuffer and SharedArrayBuffer that is made while it runs, `base/bytes`' among
 * them, which is where all secret memory is born (`secret-memory.test.ts`), and says afterwards which of them still hold a secret.
 */
import { createCipheriv } from 'node:crypto'
import { Pin, pinMemory } from '../../src/primitives/pin.js'
import * as secret from './secrets.js'

/** What must be in no buffer after a call; by a name that may be shown. */
const SECRETS: Readonly<Record<string, Uint8Array>> = {
  'PIN, ASCII': Buffer.from(secret.pin),
  'PIN, digits': Uint8Array.from(secret.pin, Number),
  'PIN, packed': Buffer.from(secret.pin, 'hex'),
  'PAN, ASCII': Buffer.from(secret.pan),
  'PAN, packed': Buffer.from(secret.pan, 'hex'),
  'PAN field of format 0': Buffer.from(secret.pan.slice(-13, -1), 'hex'),
  'PAN field of format 4': secret.panField4.subarray(0, 8),
  'clear block': secret.clearBlock,
  'clear block, hex': Buffer.from(secret.clearBlock.toString('hex').toUpperCase()),
  ...Object.fromEntries(
    Object.entries(secret.keys).flatMap(([name, key]) => [
      [name, key.subarray(0, 8)],
      // TDEA passes over the lowest bit of a byte, so that a key without it is the key; and so is its complement.
      [`${name}, without parity`, key.subarray(0, 8).map(byte => byte & 0xfe)],
      [`${name}, complement`, key.subarray(0, 8).map(byte => ~byte & 0xfe)],
    ]),
  ),
  'JWE private key': Buffer.from(secret.jwe.d, 'base64url'),
  'signing key': Buffer.from(secret.signing.d, 'base64url'),
  Z: secret.z,
  'content key': secret.contentKey,
  'CMAC subkey': subkey(secret.keys['CMAC key'], 1),
  'CMAC subkey of a padded message': subkey(secret.keys['CMAC key'], 2),
  'CMAC subkey of the key block key': subkey(secret.keys['key block key'], 1),
  'CMAC subkey of the key block key, of a padded message': subkey(secret.keys['key block key'], 2),
  'what a key block is enciphered with': protectionKey(0),
  'what a key block is authenticated with': protectionKey(1),
}

const PATTERNS = Object.entries(SECRETS).map(([name, secret]) => [name, Buffer.from(secret)] as const)

/** One of the two keys that a KBPK of AES-128 gives a key block (ANSI X9.143, version D): CMAC of one padded block. */
function protectionKey(usage: 0 | 1): Buffer {
  const key = secret.keys['key block key']
  const block = Buffer.from(`01000${usage}0000020080`.padEnd(16, '0') + '80'.padEnd(16, '0'), 'hex')
  const mixed = block.map((byte, i) => byte ^ Number(subkey(key, 2)[i]))
  return createCipheriv('aes-128-ecb', key, null).setAutoPadding(false).update(mixed)
}

/** K1 or K2 of CMAC with AES-128 (NIST SP 800-38B, 6.1): who has one forges the MACs of messages of one block. */
function subkey(key: Buffer, times: 1 | 2): Buffer {
  const zero = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false).update(Buffer.alloc(16))
  let value = BigInt(`0x${zero.toString('hex')}`)
  for (let i = 0; i < times; i++) value = BigInt.asUintN(128, value << 1n) ^ (value >> 127n ? 0x87n : 0n)
  return Buffer.from(value.toString(16).padStart(32, '0'), 'hex')
}

export interface Recorded<T> {
  readonly value: T
  /** The names of the secrets that are still there, those apart that the result is there to give. */
  readonly left: readonly string[]
  /** How many buffers were made. */
  readonly made: number
}

/** Runs a call and looks at every buffer that was made meanwhile, but for those that its result consists of. */
export async function recorded<T>(call: () => T | Promise<T>): Promise<Recorded<T>> {
  // PINs lie next to each other in memory that is made for many: for this call's, perhaps, with the ones before.
  using first = Pin.from('0000')
  const places = pinMemory(first)
  const before = pinsIn(places)
  const { value, buffers: made } = await buffersMadeBy(call)
  const given = new Set<ArrayBufferLike>()
  buffersOf(value, given, new Set())
  const left = made.filter(buffer => !given.has(buffer)).flatMap(buffer => secretsIn(new Uint8Array(buffer)))
  if (pinsIn(places) > before) left.push('PIN, digits')
  return { value, left, made: made.length }
}

const pinsIn = (places: Uint8Array): number =>
  Buffer.from(places)
    .toString('latin1')
    .split(String.fromCharCode(...secret.pin.split('').map(Number))).length

/** Whether the fake token is among the callers; of the stack only the names of files are asked for, for each buffer. */
function askedByFake(): boolean {
  const { prepareStackTrace } = Error
  const at: { stack?: readonly NodeJS.CallSite[] } = {}
  try {
    Error.prepareStackTrace = (_, sites) => sites
    Error.captureStackTrace(at, askedByFake)
    return at.stack?.some(site => site.getFileName()?.includes('fake-token')) === true
  } finally {
    Object.assign(Error, { prepareStackTrace })
  }
}

/** Runs a call and returns every buffer that was made meanwhile. */
export async function buffersMadeBy<T>(
  call: () => T | Promise<T>,
): Promise<{ readonly value: T; readonly buffers: readonly ArrayBufferLike[] }> {
  const made: ArrayBufferLike[] = []
  const { ArrayBuffer: Real, SharedArrayBuffer: RealShared } = globalThis
  globalThis.ArrayBuffer = recordingInto(made, Real)
  globalThis.SharedArrayBuffer = recordingInto(made, RealShared)
  try {
    const value = await call()
    // What was handed over to another thread is there no more.
    return { value, buffers: made.filter(({ byteLength }) => byteLength > 0) }
  } finally {
    globalThis.ArrayBuffer = Real
    globalThis.SharedArrayBuffer = RealShared
  }
}

function recordingInto<C extends ArrayBufferConstructor | SharedArrayBufferConstructor>(
  made: ArrayBufferLike[],
  Real: C,
): C {
  const Recording: C = new Proxy(Real, {
    construct(target, args, newTarget): ArrayBufferLike {
      const own = newTarget === Recording ? target : newTarget
      const buffer: ArrayBufferLike = Reflect.construct(target, args, own)
      // What a token that is played by a test keeps inside is the token's.
      if (!askedByFake()) made.push(buffer)
      return buffer
    },
  })
  return Recording
}

/** The names of the secrets that are in this memory. */
export function secretsIn(bytes: Uint8Array): string[] {
  const memory = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return PATTERNS.filter(([, pattern]) => memory.includes(pattern)).map(([name]) => name)
}

/** The buffers that a result shows its caller. */
function buffersOf(value: unknown, found: Set<ArrayBufferLike>, seen: Set<object>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return
  seen.add(value)
  if (value instanceof Uint8Array) found.add(value.buffer)
  else for (const member of Object.values(value)) buffersOf(member, found, seen)
}
