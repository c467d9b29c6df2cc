/** `audit verify`: whether the lines of an audit chain are as they were written, and which is the first that is not. */
import { createReadStream } from 'node:fs'
import { fromHex, wipe } from '../base/bytes.js'
import { type AuditPublicKey, verifyAuditChain } from '../d1.js'
import { type Command, type ExitCode, type Io, readRegularFile, UsageError } from './command.js'
import { readKeyHex } from './secret.js'
import { show } from './shown.js'
import { commandOfVerbs, optionsOf, secretOptions, text, type Values } from './verbs.js'

const MAC = /^[0-9a-f]{64}$/

const PROBLEMS = {
  'not-a-line': 'it is no line of a chain',
  mac: 'its HMAC is not right: it was changed, or another key made it',
  signature: 'it has no signature that is right by one of the public keys',
  order: 'it does not follow the line before: lines were left out, put in or moved',
} as const

type Keys = Omit<Parameters<typeof verifyAuditChain>[0], 'lines'>

/** A JWK, or a set of them. */
function readPublic(path: string): readonly AuditPublicKey[] {
  let found: unknown
  try {
    found = JSON.parse(readRegularFile(path).bytes.toString('utf8'))
  } catch {
    throw new UsageError('--public: the file cannot be read, or is no JSON')
  }
  const { keys } = Object(found)
  return (Array.isArray(keys) ? keys : [found]) as readonly AuditPublicKey[]
}

/** The HMAC key in hex: a secret. */
async function readKey(values: Values, io: Io): Promise<Uint8Array> {
  const given = await readKeyHex('key', 'HMAC key (hex)', values, io)
  if (!/^(?:[0-9A-Fa-f]{2}){32,}$/.test(given)) throw new UsageError('the key must be hex digits, 64 or more')
  return fromHex(given, 'the key')
}

/** No line that was ever written is longer, and what is read is bounded: a device, or another file, may have no line end at all. */
const MAX_LINE = 1_048_576

/** The lines of a file, one at a time. Errors: `ERR_USAGE`. */
async function* linesOf(path: string): AsyncGenerator<string> {
  let rest = ''
  try {
    for await (const chunk of createReadStream(path, 'utf8')) {
      const text = rest + chunk
      const end = text.lastIndexOf('\n')
      rest = text.slice(end + 1)
      if (end >= 0) for (const line of text.slice(0, end).split('\n')) yield line.replace(/\r$/, '')
      if (rest.length > MAX_LINE)
        throw new UsageError(`the file has a line of more than ${MAX_LINE} characters`)
    }
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError('the file cannot be read')
  }
  if (rest !== '') yield rest
}

async function verify(path: string, keys: Keys, values: Values, io: Io): Promise<ExitCode> {
  const last = text(values, 'last')
  const found = await verifyAuditChain({ lines: linesOf(path), ...keys })
  if (!found.intact) {
    show(values, io, found, undefined)
    io.err(`line ${found.line}: ${PROBLEMS[found.problem]}`)
    return 1
  }
  const isWhole = last === undefined || last === found.last
  const words = `${found.lines} lines, intact; last: ${found.last ?? 'none'}`
  show(values, io, { ...found, isWhole }, isWhole ? words : undefined)
  if (isWhole) return 0
  io.err(
    `the chain of ${found.lines} lines is intact, and ends with another line than --last: the end was cut off`,
  )
  return 1
}

/** `issuer-pin-crypto audit`. */
export const AUDIT: Command = commandOfVerbs(
  {
    name: 'audit',
    summary: 'verify the lines that chainedAudit wrote',
    help: `usage: issuer-pin-crypto audit verify FILE [--key-env NAME] [--public JWK-FILE]
                                      [--last HMAC] [--json]

Says whether every line of FILE is as chainedAudit wrote it, in its order; else
the first that is not. Exit codes: 0 intact, 1 not intact, 2 wrong call.

  --key-env, --key-fd
           where the HMAC key is, in hex; without them it is asked for. A
           variable is taken out of the environment
  --public a file with the public key of the signer, or a set of them, as JWK with
           a kid: every line must be signed by one of them. With it and without
           --key-env and --key-fd no secret is needed
  --last   the HMAC of the last line, as it was kept elsewhere: shows what was
           cut off at the end
  --json   the result as JSON

  KEY=… issuer-pin-crypto audit verify audit.log --key-env KEY`,
  },
  {
    verify: {
      options: { ...optionsOf('last', 'public', 'json'), ...secretOptions('key') },
      input: true,
      run: async (values, file, io) => {
        if (file === undefined) throw new UsageError('audit verify takes a FILE')
        const last = text(values, 'last')
        if (last !== undefined && !MAC.test(last))
          throw new UsageError('--last must be 64 hex digits in small letters')
        const path = text(values, 'public')
        const publicKeys = path === undefined ? undefined : readPublic(path)
        const isAsked = ['key-env', 'key-fd'].some(name => values[name] !== undefined)
        const key = publicKeys === undefined || isAsked ? await readKey(values, io) : undefined
        try {
          const keys = { ...(key && { key }), ...(publicKeys && { publicKeys }) }
          return await verify(file, keys, values, io)
        } finally {
          wipe(key)
        }
      },
    },
  },
)
