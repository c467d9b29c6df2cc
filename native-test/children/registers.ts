/**
 * Child of the memory campaign: copies a secret by each of base/bytes' ways, or computes with it, in optimised code that V8 throws away right after,
 * and looks for it on malloc's heap, where V8 writes the registers then. Run with `--allow-natives-syntax`. It answers how
 * many of the copies of each way were found, first that of the built-in `set`, which is the control.
 */
import { randomInt } from 'node:crypto'
import { openSync, readFileSync, readSync } from 'node:fs'
import { nodeEngine } from '../../src/backend/software/engine-node.js'
import { hmacSha256, partOfKey, readyKey } from '../../src/backend/software/keys.js'
import {
  asciiBytes,
  bufferOf,
  concatBytes,
  copyInto,
  decodeBase64url,
  encodeBase64url,
  ownCopy,
  randomSecret,
  secretBytes,
  snapshot,
  utf8Bytes,
  wipe,
} from '../../src/base/bytes.js'
import { decryptContent, encryptContent, type SealedContent } from '../../src/primitives/a256gcm.js'
import { concatKdf } from '../../src/primitives/concat-kdf.js'

const LENGTHS = [8, 16, 24, 32, 48, 64, 65, 96, 123, 128, 144, 288, 304, 576]
const TIMES = 2

const KEY = secretBytes(32)
const CONTEXT = { aad: secretBytes(0), iv: secretBytes(12) }

const TDEA = nodeEngine.open(KEY.subarray(0, 24))
const AES = partOfKey(
  readyKey({ kid: 'AES', algorithm: 'aes-256', usage: 'pin-encryption', mode: 'B', bytes: KEY }, nodeEngine)
    .aes,
)

/** The same bytes in other forms, where they are not looked for. */
interface Given {
  /** A content under {@link KEY}. */
  readonly sealed: SealedContent
  /** Enciphered under {@link KEY}; nothing where they are no whole blocks. */
  readonly tdea: Uint8Array
  readonly aes: Uint8Array
  readonly characters: string
  readonly base64url: string
}

function givenFor(bytes: Uint8Array): Given {
  const isWhole = bytes.length % 16 === 0
  return {
    sealed: encryptContent(KEY, { ...CONTEXT, plaintext: bytes }),
    tdea: isWhole ? TDEA.encipher(bytes) : secretBytes(0),
    aes: isWhole ? AES.encipher(bytes) : secretBytes(0),
    characters: bufferOf(bytes).toString('latin1'),
    base64url: encodeBase64url(bytes),
  }
}

/** Copies, and gives what is to be wiped; blocks are none where the bytes are no whole ones. */
type Copying = (bytes: Uint8Array, into: Uint8Array, given: Given) => unknown
const WAYS: Readonly<Record<string, Copying>> = {
  set: (bytes, into) => into.set(bytes),
  copyInto: (bytes, into) => copyInto(into, bytes),
  ownCopy: bytes => ownCopy(bytes),
  snapshot: bytes => snapshot(bytes, 'bytes'),
  concatBytes: bytes => concatBytes(bytes, bytes),
  asciiBytes: (_bytes, _into, { characters }) => asciiBytes(characters),
  decodeBase64url: (_bytes, _into, { base64url }) => decodeBase64url(base64url),
  utf8Bytes: (_bytes, _into, { characters }) => utf8Bytes(characters),
  concatKdf: bytes => concatKdf(bytes, CONTEXT.iv, 32),
  encryptContent: bytes => encryptContent(KEY, { ...CONTEXT, plaintext: bytes }),
  decryptContent: (_bytes, _into, { sealed }) => decryptContent(KEY, sealed),
  hmacSha256: bytes => hmacSha256(KEY, bytes),
  // Node's ciphers free a copy of what they give, too.
  tdea: (_bytes, _into, { tdea }) => (tdea.length > 0 ? TDEA.decipher(tdea) : undefined),
  aes: (_bytes, _into, { aes }) => (aes.length > 0 ? AES.decipher(aes) : undefined),
}

const mem = openSync('/proc/self/mem', 'r')
/** Made once: what is made and freed for each look would be looked at, too. */
const room = new Uint32Array(2 ** 23)

/** Whether eight bytes, which come masked, are on malloc's heap, at any place that a word has. */
function isOnHeap(first: number, second: number, mask: number): boolean {
  const [, from = '', to = ''] =
    /^([0-9a-f]+)-([0-9a-f]+) rw.p .*\[heap\]$/m.exec(readFileSync('/proc/self/maps', 'latin1')) ?? []
  const start = Number.parseInt(from, 16)
  const words = room.subarray(0, (Number.parseInt(to, 16) - start) / 4)
  readSync(mem, words, 0, words.byteLength, start)
  let found = false
  for (let i = 0; i + 1 < words.length && !found; i++)
    found =
      ((words[i] as number) ^ mask) >>> 0 === first && ((words[i + 1] as number) ^ mask) >>> 0 === second
  words.fill(0)
  return found
}

/** A function of its own each time, which V8 optimises for numbers and which is then called with a text. */
function thrownAway(copying: Copying, number: number): Copying {
  const make = new Function(
    'copying',
    'given',
    `const run = (bytes, into, given, { x }) => { const made = copying(bytes, into, given); const y = x + ${number}; return made };
     %PrepareFunctionForOptimization(run);
     const nothing = new Uint8Array(new ArrayBuffer(304)); const room = new Uint8Array(new ArrayBuffer(304));
     for (let i = 0; i < 200; i++) run(nothing.subarray(0, 1 + i), room, given, { x: i });
     %OptimizeFunctionOnNextCall(run);
     run(nothing, room, given, { x: 1 });
     return (bytes, into, given) => run(bytes, into, given, { x: 'a' });`,
  )
  return make(copying, givenFor(secretBytes(48)))
}

const found: Record<string, number> = {}
let number = 0
for (const [name, copying] of Object.entries(WAYS)) {
  found[name] = 0
  for (const length of LENGTHS) {
    for (let time = 0; time < TIMES; time++) {
      const run = thrownAway(copying, number++)
      const bytes = randomSecret(length)
      // Each a character of its own, whatever the encoding.
      for (let at = 0; at < length; at++) bytes[at] = (bytes[at] as number) & 0x7f
      const into = secretBytes(length)
      const mask = randomInt(2 ** 32)
      const view = new DataView(bytes.buffer)
      // The first and the last eight bytes: what is copied in pieces is copied from both ends.
      const looks = [0, length - 8].map(at => {
        const word = (place: number): number => (view.getUint32(place, true) ^ mask) >>> 0
        return [word(at), word(at + 4)] as const
      })
      const given = givenFor(bytes)
      const made = run(bytes, into, given)
      wipe(bytes, into, made instanceof Uint8Array ? made : undefined)
      if (looks.some(([first, second]) => isOnHeap(first, second, mask))) found[name]++
    }
  }
}
process.stdout.write(JSON.stringify(found))
