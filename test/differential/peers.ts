/** Independent implementations that read lines and answer lines: the openssl command line, node-forge, Java, Python. */
import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import forge from 'node-forge'
import { scratchFolder } from '../support/scratch.js'

/** A peer: what it can answer, and its answers in order. */
export interface Peer {
  readonly name: string
  /** Why it is not here; undefined where it is. */
  readonly missing: string | undefined
  readonly words: readonly string[]
  /** Share of the inputs that it gets: a process for each input takes its time. */
  readonly share: number
  answer(lines: readonly string[]): Promise<readonly string[]>
}

const bytes = (hex: string): Buffer => (hex === '-' ? Buffer.alloc(0) : Buffer.from(hex, 'hex'))
const upper = (buffer: Uint8Array): string => Buffer.from(buffer).toString('hex').toUpperCase()
const split = (line: string): readonly string[] => line.split(' ')

/** Format 0 (ISO 9564-1:2017, 9.3.2), from its drawing. */
function format0(pin: string, pan: string): Buffer {
  const field = bytes(`0${pin.length.toString(16)}${pin.padEnd(14, 'F')}`)
  const account = bytes(`0000${pan.slice(0, -1).slice(-12).padStart(12, '0')}`)
  return Buffer.from(field.map((byte, i) => byte ^ (account[i] ?? 0)))
}

/** Paddings of ISO/IEC 9797-1 for blocks of 8 bytes. */
function padded(message: Buffer, method: string): Buffer {
  const marked = method === '2' ? Buffer.concat([message, Buffer.of(0x80)]) : message
  const zeros = Buffer.alloc(marked.length === 0 ? 8 : (8 - (marked.length % 8)) % 8)
  const length = Buffer.alloc(method === '3' ? 8 : 0)
  if (method === '3') length.writeUInt32BE(message.length * 8, 4)
  return Buffer.concat([length, marked, zeros])
}

/** Runs a program and gives what it writes; the program must succeed. */
function run(command: string, args: readonly string[], input: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args)
    const out: Buffer[] = []
    let errors = ''
    child.stdout.on('data', chunk => out.push(chunk))
    child.stderr.on('data', chunk => {
      errors += chunk
    })
    child.once('error', reject)
    child.once('close', code =>
      code === 0 ? resolve(Buffer.concat(out)) : reject(new Error(`${command} ${args[0]}: ${errors}`)),
    )
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}

/** Several at a time, in order. */
async function inParallel<T, R>(
  list: readonly T[],
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(list.length)
  let next = 0
  const worker = async (): Promise<void> => {
    for (let i = next++; i < list.length; i = next++) results[i] = await work(list[i] as T, i)
  }
  await Promise.all(Array.from({ length: 4 }, worker))
  return results
}

const works = (command: string, args: readonly string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0

/** A line for each line, from a program that reads them all. */
async function conversation(command: string, args: readonly string[], lines: readonly string[]) {
  const answer = (await run(command, args, Buffer.from(`${lines.join('\n')}\n`))).toString()
  return answer.trimEnd().split('\n')
}

const openssl = (args: readonly string[], input: Uint8Array): Promise<Buffer> => run('openssl', args, input)
const LEGACY = ['-provider', 'legacy', '-provider', 'default']

/** TDEA by `openssl enc`: ECB, or the last block of CBC with a zero IV. */
function enciphered(
  mode: 'ecb' | 'cbc',
  key: Buffer,
  data: Buffer,
  direction: '-e' | '-d' = '-e',
): Promise<Buffer> {
  const name = key.length === 16 ? 'des-ede' : 'des-ede3'
  const cipher = mode === 'ecb' ? `-${name}-ecb` : `-${name}-cbc`
  const iv = mode === 'cbc' ? ['-iv', '0'.repeat(16)] : []
  return openssl(['enc', cipher, direction, '-nopad', '-K', upper(key), ...iv], data)
}

/** Algorithm 3 as the standard draws it: DES-CBC under K1, then D under K2 and E under K1 of the last block. */
async function retail(key: Buffer, data: Buffer): Promise<Buffer> {
  const [k1, k2] = [key.subarray(0, 8), key.subarray(8, 16)]
  const des = (cipher: string, direction: string, k: Buffer, input: Buffer, iv: readonly string[] = []) =>
    openssl(['enc', cipher, direction, '-nopad', '-K', upper(k), ...iv, ...LEGACY], input)
  const chained = await des('-des-cbc', '-e', k1, data, ['-iv', '0'.repeat(16)])
  const deciphered = await des('-des-ecb', '-d', k2, chained.subarray(-8))
  return des('-des-ecb', '-e', k1, deciphered)
}

const opensslMac = async (cipher: string, key: string, message: Buffer): Promise<string> => {
  const name = cipher === 'tdea' ? 'DES-EDE3-CBC' : `AES-${key.length * 4}-CBC`
  const three = cipher === 'tdea' && key.length === 32 ? key + key.slice(0, 16) : key
  const args = ['mac', '-cipher', name, '-macopt', `hexkey:${three}`, 'CMAC']
  return (await openssl(args, message)).toString().trim().toUpperCase()
}

/** DER of a P-256 key: SubjectPublicKeyInfo of a point (RFC 5480), and an EC private key (RFC 5915). */
const SPKI = '3059301306072A8648CE3D020106082A8648CE3D030107034200'
const der = {
  public: (point: string): Buffer => bytes(SPKI + point),
  private: (scalar: string): Buffer => bytes(`30310201010420${scalar}A00A06082A8648CE3D030107`),
  signature: (raw: Buffer): Buffer => {
    const integer = (part: Buffer): Buffer => {
      const from = part.findIndex(byte => byte !== 0)
      const short = part.subarray(from < 0 ? part.length - 1 : from)
      const body = (short[0] ?? 0) > 0x7f ? Buffer.concat([Buffer.of(0), short]) : short
      return Buffer.concat([Buffer.of(2, body.length), body])
    }
    const both = Buffer.concat([integer(raw.subarray(0, 32)), integer(raw.subarray(32))])
    return Buffer.concat([Buffer.of(0x30, both.length), both])
  },
}

const folder = scratchFolder('ipc-differential-')
const file = (name: string, content: Uint8Array): string => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

type Answer = (words: readonly string[], index: number) => Promise<string>
const OPENSSL: Readonly<Record<string, Answer>> = {
  pinblock: async ([, key = '', pin = '', pan = '']) =>
    upper(await enciphered('ecb', bytes(key), format0(pin, pan))),
  alg1: async ([, key = '', padding = '', message = '']) =>
    upper((await enciphered('cbc', bytes(key), padded(bytes(message), padding))).subarray(-8)),
  alg3: async ([, key = '', padding = '', message = '']) =>
    upper(await retail(bytes(key), padded(bytes(message), padding))),
  cmac: ([, cipher = '', key = '', message = '']) => opensslMac(cipher, key, bytes(message)),
  kcv: async ([, cipher = '', key = '']) =>
    cipher === 'tdea'
      ? upper((await enciphered('ecb', bytes(key), Buffer.alloc(8))).subarray(0, 3))
      : (await opensslMac(cipher, key, Buffer.alloc(16))).slice(0, 10),
  kdf: async ([, scalar = '', point = '', info = ''], index) => {
    const [ours, theirs] = [
      file(`own-${index}`, der.private(scalar)),
      file(`peer-${index}`, der.public(point)),
    ]
    const z = await openssl(
      ['pkeyutl', '-derive', '-inkey', ours, '-keyform', 'DER', '-peerkey', theirs, '-peerform', 'DER'],
      Buffer.alloc(0),
    )
    const options = ['digest:SHA256', `hexkey:${upper(z)}`, `hexinfo:${info}`].flatMap(option => [
      '-kdfopt',
      option,
    ])
    const derived = await openssl(['kdf', '-keylen', '32', ...options, 'SSKDF'], Buffer.alloc(0))
    return derived
      .toString()
      .replaceAll(/[^0-9A-F]/gi, '')
      .toUpperCase()
  },
  es256: async ([, point = '', message = '', signature = ''], index) => {
    const [key, made] = [
      file(`key-${index}`, der.public(point)),
      file(`sig-${index}`, der.signature(bytes(signature))),
    ]
    const args = ['dgst', '-sha256', '-verify', key, '-keyform', 'DER', '-signature', made]
    return openssl(args, bytes(message)).then(
      () => '01',
      () => '00',
    )
  },
}

export const opensslPeer: Peer = {
  name: 'OpenSSL command line',
  missing: works('openssl', ['version']) ? undefined : 'there is no openssl',
  words: Object.keys(OPENSSL),
  share: 1 / 5,
  answer: lines =>
    inParallel(lines, (line, index) => {
      const words = split(line)
      const answer = OPENSSL[words[0] ?? '']
      if (answer === undefined) throw new Error(`no such operation: ${words[0]}`)
      return answer(words, index)
    }),
}

/** TDEA of node-forge, without padding. */
function forged(algorithm: '3DES-CBC' | '3DES-ECB', key: Buffer, data: Buffer): Buffer {
  const three = key.length === 16 ? Buffer.concat([key, key.subarray(0, 8)]) : key
  const cipher = forge.cipher.createCipher(algorithm, three.toString('latin1'))
  cipher.start({ iv: '\0'.repeat(8) })
  cipher.update(forge.util.createBuffer(data.toString('latin1')))
  // No padding. (The typings lack the argument.)
  const finish: (pad?: () => boolean) => boolean = cipher.finish
  finish.call(cipher, () => true)
  return Buffer.from(cipher.output.getBytes(), 'latin1')
}

const FORGE: Readonly<Record<string, (words: readonly string[]) => Buffer>> = {
  pinblock: ([, key = '', pin = '', pan = '']) => forged('3DES-ECB', bytes(key), format0(pin, pan)),
  alg1: ([, key = '', padding = '', message = '']) =>
    forged('3DES-CBC', bytes(key), padded(bytes(message), padding)).subarray(-8),
  /** With K1‖K1‖K1 TDEA is DES; the last block goes through the whole bundle. */
  alg3: ([, key = '', padding = '', message = '']) => {
    const [k, data] = [bytes(key), padded(bytes(message), padding)]
    const single = Buffer.concat([k.subarray(0, 8), k.subarray(0, 8), k.subarray(0, 8)])
    const before =
      data.length === 8 ? Buffer.alloc(8) : forged('3DES-CBC', single, data.subarray(0, -8)).subarray(-8)
    return forged('3DES-ECB', k, Buffer.from(data.subarray(-8).map((byte, i) => byte ^ (before[i] ?? 0))))
  },
}

export const forgePeer: Peer = {
  name: 'node-forge',
  missing: undefined,
  words: Object.keys(FORGE),
  share: 1,
  answer: async lines =>
    lines.map(line => upper(FORGE[split(line)[0] ?? '']?.(split(line)) ?? Buffer.alloc(0))),
}

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

export const javaPeer: Peer = {
  name: 'Java (javax.crypto)',
  missing: works('java', ['--version']) ? undefined : 'there is no java (11 or later)',
  words: ['pinblock', 'alg1', 'alg3', 'cmac', 'kcv', 'kdf', 'es256'],
  share: 1,
  answer: lines =>
    conversation('java', ['-Xshare:auto', '-XX:TieredStopAtLevel=1', here('Peer.java')], lines),
}

const PYTHON = ['python3', 'python'].find(name => works(name, ['-c', 'import cryptography'])) ?? ''

export const pythonPeer: Peer = {
  name: 'Python (cryptography)',
  missing: PYTHON === '' ? 'there is no python with the package cryptography' : undefined,
  words: ['pinblock', 'alg1', 'alg3', 'cmac', 'kcv', 'kdf', 'es256', 'prw'],
  share: 1,
  answer: lines => conversation(PYTHON, [here('peer.py')], lines),
}
