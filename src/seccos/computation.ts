/** A profile's computation, run: the inputs put together in order, one MAC in the backend, everything wiped. */
import type { MacRequest } from '../backend/driver.js'
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import type { CallOptions } from '../base/arguments.js'
import { concatBytes, equalBytes, fromHex, ownCopy, requireBytes, wipe } from '../base/bytes.js'
import { DataSetError, KeyError } from '../base/errors.js'
import { type KeyUsage, refusedUse, requireUse, USAGES } from '../key/usage.js'
import { isTdea, KEY_BYTES } from '../primitives/key-algorithm.js'
import { type DataSetContent, fieldOfDataSet, readDataSet, unmaskDataSet } from './data-set.js'
import { type DataSetValues, encodeValue } from './field-value.js'
import { encodePin } from './profile/forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  isConstant,
  isReserved,
  type SeccosProfile,
} from './profile/profile.js'

/** Everything that inputs are made of. The PRW only for the MAC. */
export interface Material {
  readonly profile: SeccosProfile
  readonly masked: Uint8Array
  readonly values: DataSetValues
  readonly prw?: { readonly bytes: Uint8Array; readonly text: string }
}

type Resolve<K extends ComputationInput['input']> = (
  part: Extract<ComputationInput, { readonly input: K }>,
  material: Material,
) => Uint8Array

const INPUTS: { readonly [K in ComputationInput['input']]: Resolve<K> } = {
  'dataSet.full': (_, { profile, masked, values }) => unmaskDataSet(profile, masked, values),
  'dataSet.masked': (_, { masked }) => ownCopy(masked),
  field: ({ id }, { profile, masked, values }) => fieldOfDataSet(profile, id, masked, values),
  pinBlock: (_, { profile, values }) => {
    if (values.pin === undefined) throw new DataSetError('pinBlock', 'is missing')
    return encodePin(profile.pinBlock, values.pin, values.pan)
  },
  random: (_, { values }) => {
    if (values.random === undefined) throw new DataSetError('random', 'is missing')
    return ownCopy(values.random)
  },
  pan: (part, { profile, values }) => encodeValue(profile, 'pan', part, values),
  pcc: (part, { profile, values }) => encodeValue(profile, 'pcc', part, values),
  intdatag: (part, { profile, values }) => encodeValue(profile, 'intdatag', part, values),
  prw: ({ form }, { prw }) => {
    if (prw === undefined) throw new DataSetError('prw', 'is missing')
    return form === 'binary' ? ownCopy(prw.bytes) : new TextEncoder().encode(prw.text)
  },
  constant: ({ constant }) => fromHex(constant, 'constant'),
}

/** What is MACed, in memory of its own, which the caller wipes. */
export function assemble(inputs: readonly ComputationInput[], material: Material): Uint8Array {
  const parts: Uint8Array[] = []
  try {
    for (const part of inputs) parts.push(resolve(part, material))
    return concatBytes(...parts)
  } finally {
    wipe(...parts)
  }
}

/** The table's row for this part; what `part.input` says is what `part` is. */
function resolve<K extends ComputationInput['input']>(
  part: Extract<ComputationInput, { readonly input: K }>,
  material: Material,
): Uint8Array {
  const row: Resolve<K> = INPUTS[part.input as K]
  return row(part, material)
}

/**
 * Computes with the key and hands over the leftmost `outputBytes` bytes; message and MAC are wiped on every path.
 */
export async function compute<T>(
  input: { readonly key: Key; readonly computation: Computation; readonly material: Material },
  options: CallOptions | undefined,
  use: (output: Uint8Array) => T,
): Promise<T> {
  const { key, computation, material } = input
  const message = assemble(computation.inputs, material)
  let mac: Uint8Array | undefined
  try {
    mac = await operationsOf(key).mac(macRequestOf(computation), message, options)
    return use(mac.subarray(0, computation.outputBytes))
  } finally {
    wipe(message, mac)
  }
}

/** The port's request for a computation. */
export function macRequestOf({ algorithm, padding, iv }: Computation): MacRequest {
  const request = { algorithm: ALGORITHMS[algorithm].mac, padding }
  return iv === 'none' ? request : { ...request, iv: fromHex(iv, 'iv') }
}

/** Throws `ERR_KEY_USAGE` or `ERR_KEY_ALGORITHM` unless the key is for this and of the profile's kind and length. */
export function requireKeyFor(
  key: Key,
  usage: KeyUsage,
  action: 'generate' | 'verify',
  computation: Computation,
): void {
  requireKey(key, 'key')
  requireUse(key, USAGES[usage].purpose, action)
  if (key.usage !== usage) throw refusedUse(key, `what a ${usage} key computes`)
  const cipher = isTdea(key.algorithm) ? 'tdea' : 'aes'
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

/** The members of {@link DataSetValues}, for verbs that read them. */
export const VALUES = ['pan', 'pin', 'pcc', 'intdatag', 'random', 'fields'] as const

/** A masked data set in memory of its own, and what {@link readDataSet} found in it. */
export interface ReadDataSet {
  readonly masked: Uint8Array
  readonly content: DataSetContent
}

/** As {@link mergeValues}, the data set being read first. */
export function valuesWith(profile: SeccosProfile, masked: Uint8Array, given: DataSetValues): DataSetValues {
  return mergeValues(profile, { masked, content: readDataSet(profile, masked) }, given)
}

/**
 * The values for a computation over a masked data set: what it shows (PCC, intdatag, random, own fields), and what the
 * caller gives for the rest. What is in both must be the same, else `ERR_DATA_SET`: the intdatag of a message against
 * the one in its data set, the PCC of the counter against the one that was used.
 */
export function mergeValues(
  profile: SeccosProfile,
  { masked, content }: ReadDataSet,
  given: DataSetValues,
): DataSetValues {
  return {
    pan: given.pan,
    pin: given.pin,
    pcc: agree('pcc', content.pcc, given.pcc),
    intdatag: agree('intdatag', content.intdatag, given.intdatag),
    random: agree('random', content.random, requireRandom(profile, given.random)),
    fields: agreedFields(profile, masked, given.fields),
  }
}

/** What the caller states of the profile's own fields must be what stands in the data set, where that shows it. */
function agreedFields(profile: SeccosProfile, masked: Uint8Array, given: DataSetValues['fields']) {
  for (const field of profile.fields) {
    if (given === undefined || isConstant(field) || field.masked || isReserved(field.id)) continue
    if (!Object.hasOwn(given, field.id)) continue
    const stated = encodeValue(profile, field.id, field, { fields: given })
    const there = masked.subarray(field.offset, field.offset + field.length)
    if (!equalBytes(stated, there)) throw new DataSetError(field.id, 'is not the one in the data set')
  }
  return given
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

function agree<T extends string | Uint8Array>(
  field: string,
  found: T | undefined,
  given: T | undefined,
): T | undefined {
  if (found === undefined || given === undefined) return found ?? given
  const same =
    found instanceof Uint8Array && given instanceof Uint8Array ? equalBytes(found, given) : found === given
  if (!same) throw new DataSetError(field, 'is not the one in the data set')
  return found
}
