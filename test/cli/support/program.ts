/**
 * The program on a fake token and on a file of test keys; what it says is kept. Whatever it is told to do, and whatever becomes
 * of it, no memory that was made meanwhile may hold a PIN or a key when it is over, and nothing that it opened is left open.
 */
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect } from 'vitest'
import { openPkcs11 } from '../../../src/backend/pkcs11/backend.js'
import { openGroup } from '../../../src/backend/pkcs11/group.js'
import { openKeyStoreOver } from '../../../src/backend/pkcs11/key-store.js'
import { jweCommand, macCommand, pinCommand, prwCommand } from '../../../src/cli/compute.js'
import { doctorCommand } from '../../../src/cli/doctor.js'
import { inspectCommand } from '../../../src/cli/inspect.js'
import { keyCommand } from '../../../src/cli/key.js'
import { COMMANDS, main } from '../../../src/cli/main.js'
import { onboardCommand } from '../../../src/cli/onboard.js'
import type { Opening } from '../../../src/cli/open.js'
import { tokenCommand } from '../../../src/cli/token.js'
import type { KeyStore, Pkcs11Options } from '../../../src/pkcs11.js'
import { Pin, pinMemory } from '../../../src/primitives/pin.js'
import { buffersMadeBy } from '../../leaks/recorder.js'
import { FakeToken } from '../../pkcs11/fake-token.js'
import { scratchFolder } from '../../support/scratch.js'
import { keptIo } from './io.js'

export const PAN = '4929123456789012'
export const PIN = '471193'
export const PEK = '0123456789ABCDEFFEDCBA9876543210'
export const AES = 'C1A5D20E7F936B4488D1F03C5E2A9B76'
export const KBPK = '88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6'
export const MAC_KEY = '7CA110454A1A6E570131D9619DC1376E'
export const JWE = {
  kty: 'EC',
  crv: 'P-256',
  x: 'weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ',
  y: 'e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck',
  d: 'VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw',
} as const
export const SECRETS = [PAN, PIN, PEK, AES, KBPK, MAC_KEY, JWE.d, 'token-pin-1']

const folder: string = scratchFolder('cli-')
let count = 0

export function file(content: string | object): string {
  const path = join(folder, `f${count++}`)
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content), { mode: 0o600 })
  return path
}
export const fresh = (): string => join(folder, `new${count++}`)
export const keys: string = file([
  { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key', material: PEK },
  {
    kid: 'PEK2',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    material: 'FEDCBA98765432100123456789ABCDEF',
  },
  { kid: 'MAC', usage: 'retail-mac', algorithm: 'tdea-2key', material: MAC_KEY },
  { kid: 'KBPK', usage: 'key-block-protection', algorithm: 'aes-256', material: KBPK },
  { kid: 'KBPK2', usage: 'key-block-protection', algorithm: 'aes-128', material: AES },
  { kid: 'JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: JWE },
])

export const env = {
  PAN,
  PAN2: PAN,
  PIN,
  PEK,
  AES,
  TP: '1234',
  N1: 'Adams',
  N2: 'Brown',
  EMPTY: '',
}
export const withSecrets = ['--pan-env', 'PAN', '--card-pin-env', 'PIN']

/** What tokens were opened with. */
export const asked: Pkcs11Options[] = []

/** A key store of which nobody lets go while a call of his is under way. */
function waitedFor(store: KeyStore): KeyStore {
  let underWay = 0
  return new Proxy(store, {
    get: (target, name) => {
      const call: unknown = Reflect.get(target, name)
      if (typeof call !== 'function') return call
      return async (...args: readonly unknown[]): Promise<unknown> => {
        if (name === Symbol.asyncDispose) expect(underWay).toBe(0)
        underWay++
        try {
          await nextTurn()
          return await Reflect.apply(call, target, args)
        } finally {
          underWay--
        }
      }
    },
  })
}

/** All commands, on a fake token, or on that of `others` whose path a command line names. */
function commandsOn(fake: FakeToken, others: readonly FakeToken[]) {
  const tokenAt = (path: string): FakeToken => others.find(one => one.path === path) ?? fake
  const opening: Opening = {
    backend: options => {
      asked.push(options)
      const { path, load } = tokenAt(options.module)
      return openPkcs11({ ...options, module: path, token: 'fake', executor: 'inline' }, load)
    },
    group: options => openGroup(options, path => tokenAt(path).load),
    store: async options => {
      const { path, load } = tokenAt(options.module)
      return waitedFor(await openKeyStoreOver({ ...options, module: path, token: 'fake' }, load))
    },
  }
  const made = [
    doctorCommand(opening),
    onboardCommand(opening),
    inspectCommand(opening),
    keyCommand(opening),
    tokenCommand(opening),
    pinCommand(opening),
    macCommand(opening),
    prwCommand(opening),
    jweCommand(opening),
  ]
  return COMMANDS.map(command => made.find(({ name }) => name === command.name) ?? command)
}

/** What is looked for in memory: the PIN as text and as digits, keys as bytes and as text. PEK is a published value. */
const FORMS: readonly (readonly [name: string, bytes: Buffer, text: string])[] = [
  ['PIN, text', Buffer.from(PIN), PIN],
  ['PIN, digits', Buffer.from(Uint8Array.from(PIN, Number)), PIN],
  ...Object.entries({ AES, KBPK, MAC_KEY }).flatMap(([name, hex]) => [
    [name, Buffer.from(hex, 'hex').subarray(0, 8), hex] as const,
    [`${name}, text`, Buffer.from(hex), hex] as const,
  ]),
  ['private key', Buffer.from(JWE.d, 'base64url'), JWE.d],
]

/** Calls the program, and looks afterwards for what memory still holds of the secrets, and of more keys in hex. */
export async function wiping<T>(
  what: readonly string[],
  call: () => Promise<T>,
  { keys = [], input = '' }: { readonly keys?: readonly string[]; readonly input?: string } = {},
): Promise<T> {
  // PINs lie next to each other in memory that was made with one of them, perhaps before this call.
  using other = Pin.from('0000')
  const { value, buffers } = await buffersMadeBy(call)
  const memory = [pinMemory(other).buffer, ...buffers]
  const more = keys.map(key => ['another key', Buffer.from(key, 'hex'), key] as const)
  // What is given as a message or as a block is none, whatever it is.
  const forms = [...FORMS, ...more].filter(([, , text]) => !input.includes(text))
  const left = memory.flatMap(buffer =>
    forms.filter(([, bytes]) => Buffer.from(buffer).includes(bytes)).map(([name]) => name),
  )
  expect([what, ...new Set(left)]).toEqual([what])
  return value
}

/** Those of the test's own files that are open in this process. */
function openFiles(): string[] {
  const open = readdirSync('/proc/self/fd').flatMap(name => {
    try {
      return readlinkSync(join('/proc/self/fd', name))
    } catch {
      // The list was open itself while it was read.
      return []
    }
  })
  return open.filter(path => path.startsWith(folder))
}

export async function run(
  args: readonly string[],
  more: Parameters<typeof keptIo>[0] = {},
  fake = new FakeToken(),
  others: readonly FakeToken[] = [],
) {
  const io = keptIo({ ...more, env: { ...(more?.env ?? env) } })
  const before = openFiles()
  const call = () => main(args, io, commandsOn(fake, others))
  const code = await wiping(args.slice(0, 3), call, { input: String(more?.stdin ?? '') })
  const left = [fake, ...others].map(({ initialised, sessions }) => initialised + sessions.size)
  expect([args, left, openFiles()]).toEqual([args, left.map(() => 0), before])
  return { code, out: io.output.join('\n'), err: io.errors.join('\n') }
}
export const TOKEN = ['--module', '/lib/fake.so', '--token', 'fake', '--pin-env', 'TP']
