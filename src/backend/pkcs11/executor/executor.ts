/**
 * The place where the native calls run, as the rest of the backend sees it. There are three: in this thread (`inline`), in
 * worker threads over one login (`threads`), in a child process (`process`). Jobs are plain data in and plain data out, so
 * nothing above this changes with the place.
 */

import { wipe, xorInto } from '../../../base/bytes.js'
import { KeyError } from '../../../base/errors.js'
import { USAGES, unfit } from '../../../key/usage.js'
import {
  type PinComparison,
  type PinVerification,
  runSteps,
  verificationSteps,
} from '../../../pin/formats/verification.js'
import {
  type Encipherment,
  isEncipherment,
  isTdea,
  type KeyAlgorithm,
  type MacAlgorithm,
  type MacPadding,
} from '../../../primitives/algorithms.js'
import { type Iso9797Padding, padMessage } from '../../../primitives/iso9797.js'
import { computeMac, macBytes } from '../../../primitives/mac.js'
import type { Health, KeyDerivation, KeyQuery, MaybePromise } from '../../driver.js'
import type { Mechanism, ObjectHandle, SessionHandle, Station } from '../binding/binding.js'
import { cureOf, Pkcs11Error } from '../binding/errors.js'
import type { FoundTokenKey, KeyRef, KeyTable } from '../keys/key-table.js'
import {
  cbcCipher,
  decrypt,
  decryptBound,
  ecb,
  encrypt,
  encryptBound,
  sign,
  translateInside,
  wrongAnswer,
} from '../mechanisms/cipher.js'
import { withDerivedKey } from '../mechanisms/derivation.js'
import type { KeyHandles } from '../mechanisms/objects.js'
import { deriveContentKey, signDigest } from '../mechanisms/p256.js'
import { MAC_MEANS, type MacMeans, type Plan, requireMeans } from '../mechanisms/plan.js'
import type { Connection, TokenFacts } from '../session/connection.js'

/** Where the native calls run. */
type ExecutorKind = 'inline' | 'threads' | 'process'

export interface Executor {
  readonly kind: ExecutorKind
  readonly facts: TokenFacts
  /** How many jobs it takes at a time. More wait in front of it. */
  readonly lanes: number
  /** Calls into the module that have hung so long that they were given up. */
  readonly stuck: number
  /** Runs one job; at once, without a promise, where the calls run in this thread. */
  perform<Name extends JobName>(name: Name, job: Jobs[Name]['job']): MaybePromise<Jobs[Name]['result']>
  /** Called where the place has gone by itself: a child process that crashed or was killed. */
  onLost?: () => void
  /** A new login, where that was lost. */
  logIn(): Promise<void>
  /** Ends the module's life, or the process it lives in; no job is under way. */
  letGo(): Promise<void>
  /** Initialises the module and comes in again. */
  comeBack(): Promise<void>
  /** Exercises what would time out by lying idle. */
  keepAlive(): MaybePromise<void>
  close(): Promise<void>
}

/*
 * The jobs: one public operation is one job, plain data in and plain data out, done by one synchronous function on
 * one session that nobody else uses meanwhile. Nothing here knows a thread, a promise or a queue, so that the same
 * code can run inside a worker thread or another process.
 */

/** What the jobs of one token share. */
export interface TokenContext {
  readonly connection: Connection
  readonly plan: Plan
  readonly keys: KeyTable
}

/** Blocks under one key, each by itself; with a field for each where it comes between two encipherments. */
export interface BlocksJob {
  readonly key: KeyRef
  readonly blocks: Uint8Array
  readonly fields?: Uint8Array
  /** Memory as long as the blocks, to encipher into; in this thread only, and not where there are fields. */
  readonly into?: Uint8Array<ArrayBuffer>
}

/** The jobs by name: what goes in and what comes out. All are idempotent. */
export interface Jobs {
  find: { job: { readonly query: KeyQuery }; result: FoundTokenKey }
  encipher: { job: BlocksJob; result: Uint8Array }
  decipher: { job: BlocksJob; result: Uint8Array }
  reencipher: {
    job: {
      readonly from: KeyRef
      readonly to: KeyRef
      readonly blocks: Uint8Array
      readonly inside?: boolean
    }
    result: Uint8Array
  }
  verifyPin: {
    job: PinVerification & { readonly first: KeyRef; readonly second: KeyRef }
    result: PinComparison
  }
  mac: {
    job: {
      readonly key: KeyRef
      readonly algorithm: MacAlgorithm | Encipherment
      readonly padding: MacPadding
      readonly iv: Uint8Array | undefined
      readonly derivation: readonly KeyDerivation[] | undefined
      readonly message: Uint8Array
    }
    result: Uint8Array
  }
  deriveContentKey: {
    job: {
      readonly key: KeyRef
      readonly point: Uint8Array
      readonly otherInfo: Uint8Array
      readonly length: number
    }
    result: Uint8Array
  }
  sign: { job: { readonly key: KeyRef; readonly digest: Uint8Array }; result: Uint8Array }
  randomBytes: { job: { readonly length: number }; result: Uint8Array }
  /** `keys`: what is bound, so that it is looked for. */
  health: { job: { readonly keys: readonly KeyRef[] }; result: Health }
  /** That the token answers at all, and rightly; keeps what it asks alive. `ERR_PKCS11_SELF_TEST` where it does not. */
  pulse: { job: object; result: true }
}

export type JobName = keyof Jobs

type Operations = {
  readonly [Name in JobName]: (
    context: TokenContext,
    station: Station,
    job: Jobs[Name]['job'],
  ) => Jobs[Name]['result']
}

/** Does one job on one session. */
export function execute<Name extends JobName>(
  context: TokenContext,
  session: SessionHandle,
  name: Name,
  job: Jobs[Name]['job'],
): Jobs[Name]['result'] {
  const operation: Operations[Name] = OPERATIONS[name]
  return operation(context, { binding: context.connection.binding, session }, job)
}

const OPERATIONS: Operations = {
  find: ({ keys, plan }, station, { query }) => {
    const { kid, usage, expected } = query
    const isSymmetric = !USAGES[usage].algorithms.includes('ec-p256')
    if (plan.trusts && isSymmetric && expected === undefined) {
      const problem =
        'nothing of this token was tried (probe: trust-bound-keys), so its check value must be stated'
      throw new KeyError('ERR_KEY_CHECK_VALUE', `key ${kid}: ${problem}`, kid)
    }
    return keys.find(station, query)
  },

  encipher: ({ keys, plan }, station, { key, blocks, fields, into }) => {
    const { key: handle } = keys.handles(station, key)
    requireCipher(plan, key.algorithm)
    return fields === undefined
      ? encrypt(station, ecb(key.algorithm), handle, blocks, into)
      : encryptBound(station, handle, blocks, fields)
  },

  decipher: ({ keys, plan }, station, { key, blocks, fields }) => {
    const { key: handle } = keys.handles(station, key)
    requireCipher(plan, key.algorithm)
    return fields === undefined
      ? decrypt(station, ecb(key.algorithm), handle, blocks)
      : decryptBound(station, handle, blocks, fields)
  },

  reencipher: ({ keys, plan }, station, { from, to, blocks, inside = false }) => {
    const source = keys.handles(station, from)
    const target = keys.handles(station, to)
    // A block whose own key must not be deciphered here must not move to one that can be, however that one is bound.
    const opens = !from.hostDecipher && target.can.has('DECRYPT')
    const isTranslatable = plan.translation.ok && isTdea(from.algorithm)
    if (
      plan.translation.ok &&
      isTranslatable &&
      !opens &&
      source.can.has('UNWRAP') &&
      target.can.has('WRAP')
    ) {
      const keys = { from: source.key, to: target.key }
      return translateInside(station, keys, blocks, plan.translation.by.chunkBytes)
    }
    // The front asks for hostDecipher only where no key of this token can be translated inside.
    if (inside || !from.hostDecipher) {
      const kid = source.can.has('UNWRAP') ? to.kid : from.kid
      if (opens) throw openError(from.kid, to.kid)
      throw new KeyError(
        'ERR_HOST_DECIPHER',
        `key ${kid} was not made for translation inside the token, and deciphering in host memory is not ${inside ? 'asked for' : 'allowed'}`,
        kid,
      )
    }
    requireCipher(plan, from.algorithm)
    const clear = decrypt(station, ecb(from.algorithm), source.key, blocks)
    try {
      return encrypt(station, ecb(to.algorithm), target.key, clear)
    } finally {
      wipe(clear)
    }
  },

  verifyPin: ({ keys, plan }, station, { first, second, ...request }) => {
    const refs = { first, second }
    const handles = { first: keys.handles(station, first).key, second: keys.handles(station, second).key }
    requireCipher(plan, first.algorithm)
    requireCipher(plan, second.algorithm)
    return runSteps(verificationSteps(request), ({ under, by, block, field }) => {
      const handle = handles[under]
      if (field !== undefined) return decryptBound(station, handle, block, field)
      return (by === 'encipher' ? encrypt : decrypt)(station, ecb(refs[under].algorithm), handle, block)
    })
  },

  mac: ({ keys, plan }, station, job) => {
    const { key, algorithm, derivation } = job
    const master = keys.handles(station, key)
    const way = macWay(plan, key.algorithm, algorithm)
    const bit = way.way === 'sign' ? 'SIGN' : 'ENCRYPT'
    if (derivation !== undefined) {
      const { kid, algorithm: cipher } = key
      const chain = algorithm === 'iso9797-1-alg3' && way.way === 'cbc'
      const wanted = { kid, algorithm: cipher, master, steps: derivation, bit, chain } as const
      return withDerivedKey(station, plan, wanted, handles => macUnder(station, way, handles, job))
    }
    requireBit(master, key, algorithm, bit)
    return macUnder(station, way, master, job)
  },

  deriveContentKey: ({ keys, plan }, station, { key, point, otherInfo, length }) =>
    deriveContentKey(station, requireMeans(plan.keyAgreement, 'ECDH-ES'), keys.handles(station, key).key, {
      point,
      otherInfo,
      length,
    }),

  sign: ({ keys, plan }, station, { key, digest }) => {
    requireMeans(plan.signing, 'ES256 (CKM_ECDSA with P-256)')
    return signDigest(station, keys.handles(station, key).key, digest)
  },

  randomBytes: ({ plan }, { binding, session }, { length }) => {
    requireMeans(plan.random, 'random numbers')
    return binding.C_GenerateRandom(session, length)
  },

  health: ({ connection, keys: table }, station, { keys }) => {
    // A live session says nothing of a token that has gone, and a session key outlives it: ask for all three.
    const { label } = station.binding.C_GetTokenInfo(connection.slot)
    const right = beats(connection, table)
    const missing = table.missing(station, keys)
    const detail = [
      `token ${JSON.stringify(label)} answers`,
      connection.probe === undefined
        ? 'no known answer to check'
        : `TDEA known answer ${right ? 'right' : 'wrong'}`,
      missing.length === 0
        ? 'all bound keys are there'
        : `bound keys missing or changed: ${missing.join(', ')}`,
    ]
    return { ok: right && missing.length === 0, detail: detail.join('; ') }
  },

  pulse: ({ connection, keys }, { binding }) => {
    binding.C_GetTokenInfo(connection.slot)
    if (beats(connection, keys)) return true
    throw wrongAnswer('gives a wrong answer to a published test value')
  },
}

/**
 * Whether the session key gives its known answer. Where it does not, or is not to be had, its session may have timed out,
 * or somebody may have initialised the module anew: then no handle is used again before its key has been found and its
 * check value compared, and the session key is made anew, once.
 */
function beats(connection: Connection, keys: KeyTable): boolean {
  try {
    if (connection.pulse()) return true
  } catch (error) {
    // Refused for what the key may do, the handle names another key by now.
    if (!(error instanceof Pkcs11Error) || ['login', 'initialise', 'ask'].includes(cureOf(error))) throw error
  }
  keys.forget()
  connection.renewAnchor()
  return connection.pulse()
}

/** A cipher whose known answer was not seen is not used: `ERR_UNSUPPORTED_BY_TOKEN`. */
function requireCipher(plan: Plan, algorithm: KeyAlgorithm): void {
  if (isTdea(algorithm)) requireMeans(plan.tdea, 'TDEA')
  else requireMeans(plan.aes, 'AES')
}

function openError(from: string, to: string): KeyError {
  return new KeyError(
    'ERR_HOST_DECIPHER',
    `key ${from}: its blocks must not be deciphered in host memory, and key ${to} could (it has CKA_DECRYPT)`,
    from,
  )
}

function requireBit(handles: KeyHandles, { kid }: KeyRef, algorithm: string, bit: 'SIGN' | 'ENCRYPT'): void {
  if (handles.can.has(bit)) return
  throw unfit(kid, `${algorithm} needs CKA_${bit} here, which it does not have`)
}

/** How this token makes a MAC, or an encipherment. */
function macWay(plan: Plan, of: KeyAlgorithm, algorithm: MacAlgorithm | Encipherment): MacMeans {
  if (isEncipherment(algorithm)) return { way: 'cbc', plan: 'native' }
  return requireMeans(MAC_MEANS[algorithm](plan, of), `${algorithm} with ${of}`)
}

function macUnder(
  station: Station,
  by: MacMeans,
  handles: KeyHandles,
  { key, algorithm, padding, iv, message }: Jobs['mac']['job'],
): Uint8Array {
  if (by.way === 'cbc') {
    // HMAC is made by its mechanism, or not at all.
    const cbc = algorithm as Exclude<typeof algorithm, 'hmac-sha256'>
    const request = { algorithm: cbc, padding, ...(iv !== undefined && { iv }) }
    return computeMac(request, ciphers(station, key, algorithm, handles), message)
  }
  const length = macBytes(key.algorithm)
  if (padding === 'none') return sign(station, by.mechanism, handles.key, message, length)
  return signPadded(station, by.mechanism, handles.key, padding, iv, message)
}

const BLOCK_BYTES = 8

function ciphers(station: Station, key: KeyRef, algorithm: MacAlgorithm | Encipherment, handles: KeyHandles) {
  const last = cbcCipher(station, handles.key, key.algorithm)
  if (algorithm !== 'iso9797-1-alg3') return { last }
  if (handles.chain === undefined) {
    throw unfit(key.kid, 'a composed retail MAC needs an object of its K1 in the token, and there is none')
  }
  return { last, chain: cbcCipher(station, handles.chain, CHAIN_ALGORITHM) }
}

const CHAIN_ALGORITHM: KeyAlgorithm = 'tdea-3key'

/** A vendor's MAC mechanism over the message as we pad it: whole blocks stay as they are. */
function signPadded(
  station: Station,
  mechanism: Mechanism,
  key: ObjectHandle,
  padding: Iso9797Padding,
  iv: Uint8Array | undefined,
  message: Uint8Array,
): Uint8Array {
  const padded = padMessage(padding, message, BLOCK_BYTES)
  try {
    // The mechanism takes no IV, which is the same as a first block that holds it already.
    if (iv !== undefined) xorInto(padded.subarray(0, BLOCK_BYTES), iv)
    return sign(station, mechanism, key, padded, BLOCK_BYTES)
  } finally {
    wipe(padded)
  }
}
