/**
 * A profile's computation, run: the inputs put together in order, one operation or two in the backend under one key, the
 * output steps, everything wiped.
 */
import { hash as digestOf } from 'node:crypto'
import type { KeyDerivation, MacRequest, MaybePromise } from '../backend/driver.js'
import { type Key, operationsOf } from '../backend/key.js'
import { type CallOptions, readOwn } from '../base/arguments.js'
import {
  asciiBytes,
  clearRegisters,
  concatBytes,
  equalBytes,
  fromHex,
  ownCopy,
  requireBytes,
  secretBytes,
  wipe,
  withWiped,
} from '../base/bytes.js'
import { DataSetError, KeyError } from '../base/errors.js'
import { type KeyUsage, refusedUse, requireUse, USAGES } from '../key/usage.js'
import { isCipher, isTdea, KEY_BYTES } from '../primitives/algorithms.js'
import { type DataSetContent, fieldOfDataSet, readChecked, unmaskChecked } from './data-set.js'
import { type DataSetValues, encodeValue } from './field-value.js'
import { packNibbles, partOfValue, toEbcdic, unpackNibbles } from './profile/encoding.js'
import { encodePin } from './profile/forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  type Digest,
  isConstant,
  meaningOf,
  type OutputStep,
  type Part,
  type ReservedField,
  type SeccosProfile,
  type ValueField,
} from './profile/profile.js'

/** Everything that inputs are made of. The PRW only for the MAC. */
export interface Material {
  readonly profile: SeccosProfile
  readonly masked: Uint8Array
  readonly values: DataSetValues
  readonly prw: { readonly bytes: Uint8Array; readonly text: string } | undefined
}

/** Enciphers an input under the key of the computation. */
type Encipher = (
  request: { readonly mode: 'ecb' | 'cbc'; readonly iv: string; readonly padding: 1 | 2 },
  plaintext: Uint8Array,
) => MaybePromise<Uint8Array>

/**
 * What is computed over, in memory of its own, which the caller wipes. Inputs that are enciphered first are what makes it
 * wait; `encipher` is called for them.
 */
export async function assemble(
  inputs: readonly ComputationInput[],
  material: Material,
  encipher: Encipher,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  try {
    for (const part of inputs) {
      if (part.input !== 'enciphered') parts.push(resolveInput(part, material))
      else {
        const plaintext = concatInputs(part.inputs, material)
        parts.push(await withWiped(plaintext, async bytes => encipher(part, bytes)))
      }
    }
    return concatBytes(...parts)
  } finally {
    wipe(...parts)
  }
}

/** The inputs one after the other, none of them enciphered. */
function concatInputs(inputs: readonly ComputationInput[], material: Material): Uint8Array {
  const parts: Uint8Array[] = []
  try {
    for (const part of inputs) parts.push(resolveInput(part, material))
    return concatBytes(...parts)
  } finally {
    wipe(...parts)
  }
}

/** The bytes of one input that is not enciphered, in memory of its own. */
export function resolveInput(part: ComputationInput, material: Material): Uint8Array {
  const { profile, masked, values, prw } = material
  switch (part.input) {
    case 'dataSet.full':
      return sliced(part.part, unmaskChecked(profile, masked, values))
    case 'dataSet.masked':
      return sliced(part.part, ownCopy(masked))
    case 'field':
      return sliced(part.part, fieldOfDataSet(profile, part.id, masked, values))
    case 'pinBlock': {
      if (values.pin === undefined) throw new DataSetError('pinBlock', 'is missing')
      const { pin, pan, random } = values
      return sliced(part.part, encodePin(part.pinForm ?? profile.pinBlock, { pin, pan, random }))
    }
    case 'random':
      if (values.random === undefined) throw new DataSetError('random', 'is missing')
      return sliced(part.part, ownCopy(values.random))
    case 'prw':
      if (prw === undefined) throw new DataSetError('prw', 'is missing')
      return sliced(part.part, prwIn(part.form, prw))
    case 'constant':
      return fromHex(part.constant, 'constant')
    case 'external':
      return encodeValue(profile, part, values)
    case 'enciphered':
      throw new DataSetError('enciphered', 'is inside another encipherment')
    default:
      return encodeValue(profile, { ...part, id: part.input, value: part.input }, values)
  }
}

function prwIn(
  form: 'binary' | 'text' | 'text-ebcdic',
  { bytes, text }: { readonly bytes: Uint8Array; readonly text: string },
): Uint8Array {
  if (form === 'binary') return ownCopy(bytes)
  if (form === 'text') return asciiBytes(text)
  const ebcdic = toEbcdic(text)
  if (ebcdic === undefined) throw new DataSetError('prw', 'has a character that ebcdic does not have')
  return ebcdic
}

/** A part of bytes that are given up; the profile's rules have seen to it that there are so many. */
function sliced(part: Part | undefined, bytes: Uint8Array): Uint8Array {
  if (part === undefined) return bytes
  return withWiped(bytes, whole => partOfValue(whole, part) ?? secretBytes(0))
}

/**
 * Computes with the key and hands over the result: derives where the profile says so, enciphers what is to be enciphered,
 * hashes, computes, and follows the output steps. Everything on the way is wiped on every path.
 */
export async function compute<T>(
  input: { readonly key: Key; readonly computation: Computation; readonly material: Material },
  options: CallOptions | undefined,
  use: (output: Uint8Array) => T,
): Promise<T> {
  const { key, computation, material } = input
  const run: RunOnKey = (request, message) => operationsOf(key).mac(request, message, options)
  return computeBy(run, computation, material, use)
}

/** One operation under one key: the port's `mac`, or what takes its place. */
type RunOnKey = (request: MacRequest, message: Uint8Array) => MaybePromise<Uint8Array>

/** As {@link compute}, over whatever computes: the prober and the check of samples have clear test keys. */
export async function computeBy<T>(
  run: RunOnKey,
  computation: Computation,
  material: Material,
  use: (output: Uint8Array) => T,
): Promise<T> {
  const secrets: (Uint8Array | undefined)[] = []
  const keep = <B extends Uint8Array>(bytes: B): B => {
    secrets.push(bytes)
    return bytes
  }
  try {
    const derivation = derivationOf(computation, material, keep)
    const derived = derivation === undefined ? {} : { derivation }
    const message = keep(
      await assemble(computation.inputs, material, ({ mode, iv, padding }, plaintext) => {
        const request = { algorithm: `encipher-${mode}`, padding, ...derived } as const
        return run(iv === 'none' ? request : { ...request, iv: fromHex(iv, 'iv') }, plaintext)
      }),
    )
    const { digest } = computation
    const request = { ...macRequestOf(computation, material, keep), ...derived }
    const whole = keep(await run(request, digest === undefined ? message : keep(hash(digest, message))))
    return use(keep(resultOf(computation, whole)))
  } finally {
    wipe(...secrets)
  }
}

type Keep = <B extends Uint8Array>(bytes: B) => B

/** The port's request for a computation. */
export function macRequestOf(
  { algorithm, padding, iv }: Computation,
  material: Material,
  keep: Keep,
): MacRequest {
  const request = { algorithm: ALGORITHMS[algorithm].port, padding }
  if (iv === 'none') return request
  return {
    ...request,
    iv: typeof iv === 'string' ? fromHex(iv, 'iv') : keep(concatInputs(iv.inputs, material)),
  }
}

/** How the port is to derive the key: the profile's steps with their data. */
export function derivationOf(
  { derivation, algorithm }: Computation,
  material: Material,
  keep: Keep,
): readonly KeyDerivation[] | undefined {
  return derivation?.map((step): KeyDerivation => {
    if (step.method === 'xor') return { method: 'xor', data: fromHex(step.mask, 'mask') }
    const inputs = keep(concatInputs(step.inputs, material))
    if (step.method === 'cmac-counter') {
      return { method: 'cmac-counter', counterBytes: step.counterBytes, data: inputs }
    }
    const { blockBytes } = ALGORITHMS[algorithm]
    const block = step.digest === undefined ? inputs : keep(decimalBlock(step.digest, inputs, blockBytes))
    return { method: 'encipher', data: step.complement ? keep(withComplement(block)) : block }
  })
}

/** EMV option B: the hash, decimalised by scanning, as many digits as a block holds. */
function decimalBlock(digest: Digest, inputs: Uint8Array, blockBytes: number): Uint8Array {
  return withWiped(hash(digest, inputs), hashed =>
    withWiped(decimalise(hashed, 2 * blockBytes, 'scan'), digits => {
      const nibbles = secretBytes(digits.length)
      for (const [i, digit] of digits.entries()) nibbles[i] = digit & 15
      return withWiped(nibbles, packNibbles)
    }),
  )
}

function withComplement(block: Uint8Array): Uint8Array {
  const both = concatBytes(block, block)
  for (let i = block.length; i < both.length; i++) both[i] = (both[i] as number) ^ 0xff
  return both
}

function hash(digest: Digest, message: Uint8Array): Uint8Array {
  const name = digest === 'sha-1' ? 'sha1' : 'sha256'
  // In one call: a Hash object keeps its digest until it is collected.
  return withWiped(digestOf(name, message, 'buffer'), digest => {
    clearRegisters()
    return ownCopy(digest)
  })
}

/** The result out of what the algorithm gives, in memory of its own. */
export function resultOf({ output, outputBytes }: Computation, whole: Uint8Array): Uint8Array {
  let bytes = ownCopy(whole)
  for (const step of output ??
    ([{ step: 'slice', part: { from: 'left', skip: 0, take: outputBytes } }] as const)) {
    bytes = withWiped(bytes, before => afterStep(step, before))
  }
  return bytes
}

function afterStep(step: OutputStep, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (step.step === 'slice') return partOfValue(bytes, step.part) as Uint8Array<ArrayBuffer>
  if (step.step === 'decimalise') return decimalise(bytes, step.digits, step.table)
  const half = bytes.length / 2
  const folded = ownCopy(bytes.subarray(0, half))
  for (let i = 0; i < half; i++) folded[i] = (folded[i] as number) ^ (bytes[half + i] as number)
  return folded
}

/** Decimal digits, ASCII, out of hex digits; by a scan there may be too few, and then those from A on follow. */
function decimalise(bytes: Uint8Array, count: number, table: string): Uint8Array<ArrayBuffer> {
  return withWiped(unpackNibbles(bytes), nibbles => {
    const digits = secretBytes(count)
    let at = 0
    if (table !== 'scan') {
      for (const nibble of nibbles) if (at < count) digits[at++] = table.charCodeAt(nibble)
      return digits
    }
    for (const less of [0, 10]) {
      for (const nibble of nibbles) {
        if (at < count && nibble >= less && nibble < less + 10) digits[at++] = 0x30 + nibble - less
      }
    }
    return digits
  })
}

/** Throws `ERR_KEY_USAGE` or `ERR_KEY_ALGORITHM` unless the key is for this and of the profile's kind and length. */
export function requireKeyFor(
  key: Key,
  usage: KeyUsage,
  action: 'generate' | 'verify',
  computation: Computation,
): void {
  requireUse(key, USAGES[usage].purpose, action)
  if (key.usage !== usage) throw refusedUse(key, `what a ${usage} key computes`)
  const cipher = isTdea(key.algorithm) ? 'tdea' : isCipher(key.algorithm) ? 'aes' : 'hmac'
  if (
    ALGORITHMS[computation.algorithm].cipher !== cipher ||
    KEY_BYTES[key.algorithm] !== computation.keyBytes
  ) {
    const wanted = `${computation.algorithm} with ${computation.keyBytes} bytes`
    throw new KeyError(
      'ERR_KEY_ALGORITHM',
      `key ${key.kid} is ${key.algorithm}: the profile wants ${wanted}`,
      key.kid,
    )
  }
}

/** A masked data set in memory of its own, and what {@link readChecked} found in it. */
export interface ReadDataSet {
  readonly masked: Uint8Array
  readonly content: DataSetContent
}

/** As {@link mergeValues}, the data set being read first. */
export function valuesWith(profile: SeccosProfile, masked: Uint8Array, given: DataSetValues): DataSetValues {
  return mergeValues(profile, { masked, content: readChecked(profile, masked) }, given)
}

/**
 * The values for a computation over a masked data set: what it shows (PCC, intdatag, random, own fields), and what the
 * caller gives for the rest. What is in both must be the same, else `ERR_DATA_SET`: the intdatag of a message against
 * the one in its data set, the PCC of the counter against the one that was used. Nothing of the caller's is kept but its
 * Pan and its Pin: a try that is counted, or a block that is opened, comes between this and the computation.
 */
export function mergeValues(
  profile: SeccosProfile,
  { masked, content: read }: ReadDataSet,
  stated: DataSetValues,
): DataSetValues {
  const given = readOwn(stated, 'the values', VALUES)
  const content = readOwn(read, 'the data set', READ)
  const random = requireRandom(profile, given.random)
  const fields = copyOfFields(given.fields)
  requireAgreed(profile, masked, { ...given, fields })
  return {
    pan: given.pan,
    pin: given.pin,
    pcc: content.pcc ?? given.pcc,
    intdatag: content.intdatag ?? given.intdatag,
    random: content.random ?? (random && ownCopy(random)),
    prwKid: given.prwKid,
    macKid: given.macKid,
    issuerId: given.issuerId,
    fields,
  }
}

const READ = ['pcc', 'intdatag', 'random'] as const
const VALUES = [...READ, 'pan', 'pin', 'prwKid', 'macKid', 'issuerId', 'fields'] as const

/** What the caller states must be what the data set says, where it shows it: own fields, parts, and kids. */
function requireAgreed(profile: SeccosProfile, masked: Uint8Array, given: DataSetValues): void {
  for (const field of profile.fields) {
    if (isConstant(field) || field.masked !== false || !isGiven(profile, field, given)) continue
    const stated = encodeValue(profile, field, given)
    const there = masked.subarray(field.offset, field.offset + field.length)
    if (!equalBytes(stated, there)) throw new DataSetError(field.id, 'is not the one in the data set')
  }
}

/** The profile's own fields, each read once and each in memory of its own. */
export function copyOfFields(fields: DataSetValues['fields']): DataSetValues['fields'] {
  const copies = Object.entries(fields ?? {}).map(
    ([id, value]) => [id, value instanceof Uint8Array ? ownCopy(value) : value] as const,
  )
  return Object.fromEntries(copies)
}

/** True for a field whose value the caller has stated. */
function isGiven(profile: SeccosProfile, field: ValueField, given: DataSetValues): boolean {
  const meaning = meaningOf(profile, field)
  if (meaning === undefined) return given.fields !== undefined && Object.hasOwn(given.fields, field.id)
  // A field of the PAN or the PIN is masked, so it does not come here.
  const { pcc, intdatag, random, prwKid, macKid, issuerId } = given
  const stated: Readonly<Partial<Record<ReservedField, unknown>>> = {
    pcc,
    intdatag,
    random,
    prwKid,
    macKid,
    issuerId,
  }
  return stated[meaning] !== undefined
}

/** The random number, if one is given, has the profile's length: `ERR_DATA_SET`. */
export function requireRandom(
  profile: SeccosProfile,
  random: Uint8Array | undefined,
): Uint8Array | undefined {
  if (random === undefined) return undefined
  requireBytes(random, 'random')
  if (random.length !== profile.randomBytes) {
    throw new DataSetError('random', `must be ${profile.randomBytes} bytes`)
  }
  return random
}
