/** What a well-formed profile must also satisfy: each rule compares entries with one another. */

import { ProfileError } from '../../base/errors.js'
import {
  fieldOf,
  inputBytes,
  inputsOf,
  namesIn,
  type PlacedInput,
  paddedBytes,
  rawOutputBytes,
  totalBytes,
  uncoveredIn,
} from './coverage.js'
import { capacityOf, isBinary } from './encoding.js'
import { needsRandom, pinFormBytes, textLength } from './forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  DATA_SET_BYTES,
  enciphers,
  type FieldEncoding,
  isConstant,
  isReserved,
  meaningOf,
  type Part,
  type PinForm,
  type ProfileField,
  RESERVED_FIELDS,
  type ReservedField,
  type SeccosProfile,
  type ValueField,
  type ValueForm,
} from './profile.js'

/** D1's bounds on `prwValue` and `macValue`, in characters. */
const MAX_TEXT = { prw: 64, mac: 16 } as const

/** So many digits of a PAN masks must hide; of one of fewer than 14, all but the eight of its BIN. */
const MIN_HIDDEN_PAN_DIGITS = 6
const BIN_DIGITS = 8
const PAN_LENGTHS: readonly number[] = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]

/** Throws `ERR_PROFILE` at the first entry that breaks a rule. */
export function requireSoundProfile(profile: SeccosProfile): void {
  requireTiling(profile.fields)
  requireExternals(profile)
  requirePinForm(profile, profile.pinBlock, '/pinBlock')
  for (const [i, field] of profile.fields.entries()) requireField(profile, field, `/fields/${i}`)
  requireHiddenPan(profile)
  for (const which of ['prw', 'mac'] as const) requireComputation(profile, which)
  requireVerifiable(profile)
}

/** Bytes 0 to 122, in order, each in one field; every id once. */
function requireTiling(fields: readonly ProfileField[]): void {
  const ids = new Set<string>()
  let next = 0
  for (const [i, { id, offset, length }] of fields.entries()) {
    if (ids.has(id)) throw new ProfileError(`/fields/${i}/id`, 'is there twice')
    ids.add(id)
    if (offset !== next) {
      const problem = offset < next ? 'overlaps the field before' : 'leaves a gap after the field before'
      throw new ProfileError(`/fields/${i}/offset`, `${problem}: expected ${next}`)
    }
    next += length
    if (next > DATA_SET_BYTES) {
      throw new ProfileError(
        `/fields/${i}/length`,
        `reaches beyond the ${DATA_SET_BYTES} bytes of a data set`,
      )
    }
  }
  if (next !== DATA_SET_BYTES) {
    throw new ProfileError('/fields', `cover ${next} bytes of ${DATA_SET_BYTES}`)
  }
}

function requireExternals({ external = [], fields }: SeccosProfile): void {
  const taken = new Set(fields.map(field => field.id))
  for (const [i, { id }] of external.entries()) {
    if (isReserved(id) || id === 'prw')
      throw new ProfileError(`/external/${i}/id`, 'names a value with a meaning')
    if (taken.has(id)) throw new ProfileError(`/external/${i}/id`, 'is there twice')
    taken.add(id)
  }
}

function requirePinForm(profile: SeccosProfile, form: PinForm, path: string): void {
  if (needsRandom(form) && profile.randomBytes < 8) {
    throw new ProfileError(`${path}/filler`, 'takes 8 bytes of the random number: randomBytes is less')
  }
  if (typeof form === 'string' || 'iso9564' in form) return
  const capacity = capacityOf({ length: form.length, encoding: form.digits })
  if (capacity < 4) throw new ProfileError(`${path}/length`, 'is too short for any PIN')
  if (form.align === 'exact' && capacity > 12) {
    throw new ProfileError(`${path}/length`, 'is too long for a PIN with align exact')
  }
}

function requireField(profile: SeccosProfile, field: ProfileField, path: string): void {
  const meaning = meaningOf(profile, { ...field, id: field.id })
  if (isConstant(field)) {
    if (meaning !== undefined) throw new ProfileError(`${path}/id`, 'names a value and cannot be constant')
    if (field.constant.length !== 2 * field.length) {
      throw new ProfileError(`${path}/constant`, `must be ${field.length} bytes`)
    }
    return
  }
  if (field.value !== undefined && isReserved(field.id) && field.value !== field.id) {
    throw new ProfileError(`${path}/value`, 'contradicts the id, which names a value')
  }
  if (field.pinForm !== undefined) {
    if (meaning !== 'pinBlock') throw new ProfileError(`${path}/pinForm`, 'is for a field that holds the PIN')
    requirePinForm(profile, field.pinForm, `${path}/pinForm`)
  }
  requireMask(field, meaning, `${path}/masked`)
  if (meaning === undefined) requireOwn(field, path)
  else requireForm(profile, { name: meaning, form: field, pinForm: field.pinForm }, path)
}

function requireOwn(form: ValueForm, path: string): void {
  if (form.encoding === 'binary-le') {
    throw new ProfileError(`${path}/encoding`, 'is for numbers: pcc and pinLength')
  }
}

/** A mask lies in its field and hides something; what is secret is hidden whole, of a PAN enough. */
function requireMask(field: ValueField, meaning: ReservedField | undefined, path: string): void {
  const { masked } = field
  const sensitive = meaning !== undefined && RESERVED_FIELDS[meaning].sensitive
  if (masked === true) return
  if (masked === false) {
    if (sensitive) throw new ProfileError(path, `must be true for ${meaning}`)
    return
  }
  const units = capacityOf(field)
  if (masked.offset + masked.length > units) {
    throw new ProfileError(`${path}/length`, `reaches beyond the ${units} units of the field`)
  }
  if (!sensitive || masked.length === units) return
  if (meaning !== 'pan') throw new ProfileError(`${path}/length`, `must be the whole field for ${meaning}`)
  if (masked.length < MIN_HIDDEN_PAN_DIGITS) {
    throw new ProfileError(`${path}/length`, `must hide ${MIN_HIDDEN_PAN_DIGITS} digits of the PAN or more`)
  }
}

/**
 * What masks hide of a PAN is counted in its digits, for each length that a data set takes: pad that is hidden hides nothing, and
 * what one field hides another may show.
 */
function requireHiddenPan(profile: SeccosProfile): void {
  const fields = profile.fields.flatMap((field, i) =>
    !isConstant(field) && meaningOf(profile, field) === 'pan'
      ? [{ field, path: `/fields/${i}/masked/length` }]
      : [],
  )
  for (const digits of PAN_LENGTHS) {
    const views = fields.map(({ field, path }) => ({ path, shown: shownDigits(field, digits) }))
    // No data set has a PAN of this length.
    if (views.some(({ shown }) => shown === undefined)) continue
    const all = new Set<number>()
    for (const { path, shown = [] } of views) {
      for (const at of shown) all.add(at)
      if (digits - all.size < Math.min(MIN_HIDDEN_PAN_DIGITS, digits - BIN_DIGITS)) {
        throw new ProfileError(
          path,
          `hides too little of a PAN of ${digits} digits, which other fields may show as well`,
        )
      }
    }
  }
}

/** Which digits of a PAN a field shows, counted from the left; undefined where the PAN does not fit. */
function shownDigits(field: ValueField, digits: number): number[] | undefined {
  const { masked, part, align } = field
  const units = capacityOf(field)
  const skip = part?.skip ?? 0
  const count = Math.min(part?.take ?? digits, digits - skip)
  if (count < 0 || (align === 'exact' ? count !== units : count > units)) return undefined
  const first = part?.from === 'right' ? digits - skip - count : skip
  const behind = align === 'right' ? units - count : 0
  return Array.from({ length: count }, (_, i) => i).flatMap(i => {
    const at = behind + i
    const isHidden =
      typeof masked === 'boolean' ? masked : at >= masked.offset && at < masked.offset + masked.length
    return isHidden ? [] : [first + i]
  })
}

const FORMAT_1_ENCODINGS: readonly FieldEncoding[] = ['bcd', 'ascii', 'ebcdic', 'binary']

interface FormedValue {
  readonly name: ReservedField
  readonly form: ValueForm
  readonly pinForm?: PinForm | undefined
}

/** The form of a value whose meaning is known, in a field or as an input of its own. */
function requireForm(profile: SeccosProfile, { name, form, pinForm }: FormedValue, path: string): void {
  const { encodings, characters } = RESERVED_FIELDS[name]
  if (!encodings.includes(form.encoding)) {
    const wanted = encodings.filter(
      encoding => profile.profileFormat === 2 || FORMAT_1_ENCODINGS.includes(encoding),
    )
    throw new ProfileError(`${path}/encoding`, `must be one of ${wanted.join(', ')} for ${name}`)
  }
  if (isBinary(form.encoding) || characters === undefined) {
    if (form.align !== 'exact') throw new ProfileError(`${path}/align`, `must be exact for binary ${name}`)
    if (form.part !== undefined && characters !== undefined) {
      throw new ProfileError(`${path}/part`, `must be absent for the number ${name}`)
    }
    const bytes = partOf(form.part, binaryBytes(profile, name, pinForm), path)
    if (form.length < bytes.min || form.length > bytes.max) {
      throw new ProfileError(`${path}/length`, `must be ${bytes.min} to ${bytes.max} for ${name}`)
    }
    return
  }
  const capacity = capacityOf(form)
  const { min, max } = partOf(form.part, characters, path)
  if (capacity < min) throw new ProfileError(`${path}/length`, `is too short for ${name}`)
  if (form.align === 'exact' && capacity > max) {
    throw new ProfileError(`${path}/length`, `is too long for ${name} with align exact`)
  }
  if (name === 'pinLength' && form.align === 'exact' && capacity > 1) {
    throw new ProfileError(`${path}/align`, 'fits no PIN of 4 to 9 digits: align it to the right, with a pad')
  }
}

interface Bounds {
  readonly min: number
  readonly max: number
}

/** Bounds on the length of a part of a value; a part that no value has is refused. */
function partOf(part: Part | undefined, { min, max }: Bounds, path: string): Bounds {
  if (part === undefined) return { min, max }
  if (part.skip >= min) throw new ProfileError(`${path}/part/skip`, `must be less than ${min}`)
  const rest = (of: number): number => Math.min(part.take ?? of, of - part.skip)
  return { min: rest(min), max: rest(max) }
}

function binaryBytes(profile: SeccosProfile, id: ReservedField, pinForm: PinForm | undefined): Bounds {
  const exactly = (bytes: number): Bounds => ({ min: bytes, max: bytes })
  if (id === 'pinBlock') return exactly(pinFormBytes(pinForm ?? profile.pinBlock))
  if (id === 'random') return exactly(profile.randomBytes)
  // 9999 takes two bytes. A PIN length takes one.
  return { min: id === 'pcc' ? 2 : 1, max: 8 }
}

function requireComputation(profile: SeccosProfile, which: 'prw' | 'mac'): void {
  const computation = profile[which]
  const path = `/${which}`
  requireAlgorithm(computation, which, path)
  for (const placed of inputsOf(computation, path)) requireInput(profile, which, placed)
  requireIv(profile, computation, path)
  requireDerivation(profile, computation, path)
  requireOutput(profile, computation, path)
  const characters = textLength(computation.text, computation.outputBytes)
  if (characters > MAX_TEXT[which]) {
    throw new ProfileError(`${path}/outputBytes`, `makes a text of more than ${MAX_TEXT[which]} characters`)
  }
  const left = uncoveredIn(profile, which)
  if (which === 'prw' && left.includes('pinBlock')) {
    throw new ProfileError(`${path}/inputs`, 'must cover the PIN block')
  }
  const listed = computation.uncovered
  if (listed.length !== left.length || left.some(name => !listed.includes(name))) {
    throw new ProfileError(
      `${path}/uncovered`,
      `must list exactly what the inputs leave out: ${left.join(', ')}`,
    )
  }
}

function requireAlgorithm(computation: Computation, which: 'prw' | 'mac', path: string): void {
  const { algorithm, padding, keyBytes } = computation
  const rule = ALGORITHMS[algorithm]
  if (which === 'mac' && rule.macUsage === undefined) {
    throw new ProfileError(`${path}/algorithm`, 'is an encipherment: no MAC is computed with it')
  }
  if (!rule.paddings.includes(padding)) {
    throw new ProfileError(`${path}/padding`, `must be one of ${rule.paddings.join(', ')} for ${algorithm}`)
  }
  if (!rule.keyBytes.includes(keyBytes)) {
    throw new ProfileError(`${path}/keyBytes`, `must be one of ${rule.keyBytes.join(', ')} for ${algorithm}`)
  }
}

function requireIv(profile: SeccosProfile, { algorithm, iv }: Computation, path: string): void {
  const { hasIv, blockBytes } = ALGORITHMS[algorithm]
  if (!hasIv) {
    if (iv !== 'none') throw new ProfileError(`${path}/iv`, `must be none for ${algorithm}`)
    return
  }
  if (iv === 'none') throw new ProfileError(`${path}/iv`, `must be there for ${algorithm}`)
  const bytes = typeof iv === 'string' ? iv.length / 2 : totalBytes(profile, iv.inputs, blockBytes)
  if (bytes !== blockBytes)
    throw new ProfileError(`${path}/iv`, `must be ${blockBytes} bytes for ${algorithm}`)
}

function requireDerivation(profile: SeccosProfile, computation: Computation, path: string): void {
  const { algorithm, keyBytes, derivation = [] } = computation
  const { blockBytes, cipher } = ALGORITHMS[algorithm]
  if (cipher === 'hmac' && derivation.length > 0) {
    throw new ProfileError(`${path}/derivation`, 'is for the key of a cipher, and HMAC has none')
  }
  for (const [i, step] of derivation.entries()) {
    const here = `${path}/derivation/${i}`
    if (step.method === 'xor') {
      if (step.mask.length !== 2 * keyBytes)
        throw new ProfileError(`${here}/mask`, `must be ${keyBytes} bytes`)
      if (/^0*$/.test(step.mask)) throw new ProfileError(`${here}/mask`, 'changes nothing')
      continue
    }
    if (step.method === 'cmac-counter') continue
    const needed = Math.ceil(keyBytes / blockBytes) * blockBytes
    if (step.digest !== undefined && !step.complement) {
      throw new ProfileError(`${here}/complement`, 'must be true with a digest, which gives one block')
    }
    if (step.complement && needed !== 2 * blockBytes) {
      throw new ProfileError(`${here}/complement`, 'makes two blocks, and the key has not two')
    }
    const wanted = step.complement ? blockBytes : needed
    const bytes = totalBytes(profile, step.inputs, blockBytes)
    if (step.digest === undefined && bytes !== wanted) {
      throw new ProfileError(`${here}/inputs`, `are ${bytes} bytes and must be ${wanted}`)
    }
  }
}

/** Follows the bytes from what the algorithm gives to the result. */
function requireOutput(profile: SeccosProfile, computation: Computation, path: string): void {
  const { algorithm, output, outputBytes, text } = computation
  const raw = rawOutputBytes(profile, computation)
  let bytes = raw
  let decimal = false
  for (const [i, step] of (output ?? []).entries()) {
    const here = `${path}/output/${i}`
    if (decimal && step.step !== 'slice') throw new ProfileError(`${here}/step`, 'comes after decimalise')
    if (step.step === 'slice') {
      const { skip, take = bytes - skip } = step.part
      if (take < 1 || skip + take > bytes)
        throw new ProfileError(`${here}/part`, `takes more than ${bytes} bytes`)
      bytes = take
    } else if (step.step === 'fold') {
      if (bytes % 2 !== 0 || bytes < 8)
        throw new ProfileError(`${here}/step`, `does not halve ${bytes} bytes`)
      bytes /= 2
    } else {
      if (step.digits > 2 * bytes)
        throw new ProfileError(`${here}/digits`, `are more than ${bytes} bytes give`)
      bytes = step.digits
      decimal = true
    }
  }
  if (decimal !== (text === 'digits')) {
    throw new ProfileError(`${path}/text`, 'must be digits after decimalise, and only there')
  }
  if (output === undefined ? outputBytes > bytes : outputBytes !== bytes) {
    const wanted =
      output === undefined ? `at most ${bytes} for ${algorithm}` : `${bytes}, by the output steps`
    throw new ProfileError(`${path}/outputBytes`, `must be ${wanted}`)
  }
  if (enciphers(algorithm)) requireWholeEncipherment(computation, raw, path)
}

/**
 * A block of ECB depends on one block of the message, a block of CBC on those before it: what is cut away from an
 * encipherment is not covered, whatever the inputs are. So the result is all of it, or of CBC the last block.
 */
function requireWholeEncipherment(
  { algorithm, output, outputBytes }: Computation,
  raw: number,
  path: string,
): void {
  if (output === undefined && outputBytes === raw) return
  const [step, ...more] = output ?? []
  const block = ALGORITHMS[algorithm].blockBytes
  const last =
    step?.step === 'slice' && step.part.from === 'right' && step.part.skip === 0 && step.part.take === block
  if (last && more.length === 0 && ALGORITHMS[algorithm].port === 'encipher-cbc') return
  const wanted = `must be all ${raw} bytes of the encipherment`
  throw new ProfileError(`${path}/outputBytes`, `${wanted}, or, by a slice, the last block of CBC`)
}

/** The PIN, in whatever shape: the issuer verifies the MAC of a request without knowing it. */
const PIN_NAMES: readonly string[] = ['pinBlock', 'pinLength']

function requireInput(
  profile: SeccosProfile,
  which: 'prw' | 'mac',
  { part, path, enciphered }: PlacedInput,
): void {
  if (which === 'mac' && namesIn(profile, part).some(name => PIN_NAMES.includes(name))) {
    throw new ProfileError(path, 'needs the PIN, without which the MAC is verified')
  }
  if (which === 'prw' && part.input === 'prw') {
    throw new ProfileError(path, 'is for the MAC: the PRW cannot cover itself')
  }
  if (part.input === 'random' && profile.randomBytes === 0) {
    throw new ProfileError(path, 'is used, but randomBytes is 0')
  }
  if (part.input === 'pinBlock' && part.pinForm !== undefined) {
    requirePinForm(profile, part.pinForm, `${path}/pinForm`)
  }
  if (part.input === 'field' && fieldOf(profile, part.id) === undefined) {
    throw new ProfileError(`${path}/id`, 'is not the id of a field')
  }
  if (part.input === 'external') requireExternal(profile, part, path)
  else if (part.input === 'enciphered') requireEnciphered(profile, part, { path, inside: enciphered, which })
  else if ('encoding' in part) requireForm(profile, { name: part.input, form: part }, path)
  else if ('part' in part && part.part !== undefined) {
    const { part: piece, ...whole } = part
    const bytes = inputBytes(profile, whole, 1)
    if (piece.skip + (piece.take ?? 1) > bytes) {
      throw new ProfileError(`${path}/part`, `takes more than the ${bytes} bytes there are`)
    }
  }
}

function requireExternal(profile: SeccosProfile, part: { id: string } & ValueForm, path: string): void {
  const value = (profile.external ?? []).find(({ id }) => id === part.id)
  if (value === undefined) throw new ProfileError(`${path}/id`, 'is not the id of an external value')
  if ((value.kind === 'bytes') !== (part.encoding === 'binary')) {
    const wanted = value.kind === 'bytes' ? 'binary' : 'bcd, ascii, ebcdic or ebcdic-273'
    throw new ProfileError(`${path}/encoding`, `must be ${wanted} for ${value.kind}`)
  }
}

function requireEnciphered(
  profile: SeccosProfile,
  part: Extract<ComputationInput, { input: 'enciphered' }>,
  { path, inside, which }: { readonly path: string; readonly inside: boolean; readonly which: 'prw' | 'mac' },
): void {
  if (inside) throw new ProfileError(path, 'is inside another encipherment')
  if (which === 'mac') throw new ProfileError(path, 'is for the PRW: a MAC key enciphers nothing')
  const computation = profile[which]
  const { blockBytes, cipher } = ALGORITHMS[computation.algorithm]
  if (cipher === 'hmac') throw new ProfileError(path, 'is enciphered by a cipher, and HMAC has none')
  if (!path.startsWith(`/${which}/inputs/`)) {
    throw new ProfileError(
      path,
      'is for the inputs: an ICV, or what a key is derived from, is not enciphered',
    )
  }
  const ivBytes = part.iv === 'none' ? 0 : part.iv.length / 2
  if (ivBytes !== (part.mode === 'cbc' ? blockBytes : 0)) {
    throw new ProfileError(`${path}/iv`, `must be ${part.mode === 'cbc' ? `${blockBytes} bytes` : 'none'}`)
  }
  const bytes = paddedBytes(part.padding, totalBytes(profile, part.inputs, blockBytes), blockBytes)
  if (bytes > 4096) throw new ProfileError(path, 'enciphers more than 4096 bytes')
}

/**
 * What is stored suffices to verify. A Set PIN brings the masked data set, the PRW, the kids, the intdatag and the PCC of
 * the counter; what the PRW takes besides, and no data set shows, would be gone, and with it the PIN.
 */
function requireVerifiable(profile: SeccosProfile): void {
  const shown = profile.fields.some(
    field =>
      !isConstant(field) &&
      field.masked === false &&
      field.part === undefined &&
      meaningOf(profile, field) === 'random',
  )
  for (const { part, path } of inputsOf(profile.prw, '/prw')) {
    const names = namesIn(profile, part)
    if (names.includes('random') && !shown) {
      throw new ProfileError(
        path,
        'takes the random number, which no unmasked field shows: nobody could verify a PIN',
      )
    }
    if (names.includes('macKid')) {
      throw new ProfileError(path, 'takes the name of the MAC key, which is not kept with a PRW')
    }
  }
}
