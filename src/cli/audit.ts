/** `audit verify`: whether the lines of an audit chain are as they were written, and which is the first that is not. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { fromHex, wipe } from '../base/bytes.js'
import { isIssuerPinError } from '../base/errors.js'
import { verifyAuditChain } from '../d1.js'
import {
  type Command,
  type ExitCode,
  type Io,
  readArguments,
  requireOption,
  takeSecret,
  UsageError,
} from './command.js'

const OPTIONS = { 'key-env': { type: 'string' }, last: { type: 'string' } } as const
const MAC = /^[0-9a-f]{64}$/

const PROBLEMS = {
  'not-a-line': 'it is no line of a chain',
  mac: 'its HMAC is not right: it was changed, or another key made it',
  order: 'it does not follow the line before: lines were left out, put in or moved',
} as const

/** The HMAC key in hex, out of a variable that is taken from the environment. */
function readKey(io: Io, name: string): Uint8Array {
  const text = takeSecret(io, name)
  if (text === undefined || text === '') {
    throw new UsageError('--key-env: there is no such variable in the environment')
  }
  try {
    return fromHex(text.trim(), 'the key')
  } catch (error) {
    if (isIssuerPinError(error)) throw new UsageError('the key must be hex digits, 64 or more')
    throw error
  }
}

async function verify(
  path: string,
  { key, last, io }: { key: Uint8Array; last?: string; io: Io },
): Promise<ExitCode> {
  const file = createReadStream(path, 'utf8')
  const failed = new Promise<never>((_, reject) => {
    file.once('error', () => reject(new UsageError('the file cannot be read')))
  })
  failed.catch(() => {})
  const lines = createInterface({ input: file, crlfDelay: Number.POSITIVE_INFINITY })
  const found = await Promise.race([verifyAuditChain({ lines, key }), failed])
  if (!found.intact) {
    io.err(`line ${found.line}: ${PROBLEMS[found.problem]}`)
    return 1
  }
  if (last !== undefined && last !== found.last) {
    io.err(
      `the chain of ${found.lines} lines is intact, and ends with another line than --last: the end was cut off`,
    )
    return 1
  }
  io.out(`${found.lines} lines, intact; last: ${found.last ?? 'none'}`)
  return 0
}

/** `issuer-pin-crypto audit`. */
export const AUDIT: Command = {
  name: 'audit',
  summary: 'verify the lines that chainedAudit wrote',
  help: `usage: issuer-pin-crypto audit verify FILE --key-env NAME [--last HMAC]

Says whether every line of FILE is as chainedAudit wrote it, in its order; else the first that is not.
Exit codes: 0 intact, 1 not intact, 2 wrong call.

  --key-env    the environment variable with the HMAC key, in hex; it is taken out of the environment
  --last       the HMAC of the last line, as it was kept elsewhere: shows what was cut off at the end

  KEY=… issuer-pin-crypto audit verify audit.log --key-env KEY`,
  run: async (args, io) => {
    const { values, positionals } = readArguments(args, { options: OPTIONS, positionals: 2 })
    const [verb, path] = positionals
    if (verb !== 'verify' || path === undefined) throw new UsageError('audit verify FILE: see --help')
    const { last } = values
    if (last !== undefined && !MAC.test(last))
      throw new UsageError('--last must be 64 hex digits in small letters')
    const key = readKey(io, requireOption(values['key-env'], 'key-env'))
    try {
      if (key.length < 32) throw new UsageError('the key must be hex digits, 64 or more')
      return await verify(path, { key, io, ...(last !== undefined && { last }) })
    } finally {
      wipe(key)
    }
  },
}
