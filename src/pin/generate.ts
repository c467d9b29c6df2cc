/** Random PINs: uniform over what the policy takes, out of the backend's generator, straight into a block where that is wanted. */
import type { Backend } from '../backend/backend.js'
import { type Key, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { ownCopy, secretBytes, wipe } from '../base/bytes.js'
import { ArgumentError, BackendError } from '../base/errors.js'
import { type Pan, requirePan } from '../primitives/pan.js'
import { type Pin, pinOfDigits } from '../primitives/pin.js'
import { encipherChecked } from './encipher.js'
import { FORMATS, requireFormat, type SupportedFormat } from './formats/formats.js'
import { judgePin, type PinPolicy, requirePolicy } from './pin-policy.js'
import { requireFormatKey } from './policy.js'

/** What {@link generatePin} takes. */
export interface GeneratePinInput {
  /** 4 to 12 digits, within the policy's lengths. */
  readonly length: number
  /** Weak PINs by it are drawn again. */
  readonly policy: PinPolicy
  /** Whose generator draws. */
  readonly backend: Pick<Backend, 'randomBytes'>
}

/** What {@link generatePinBlock} takes besides. */
export interface GeneratePinBlockInput extends GeneratePinInput {
  readonly pan: Pan
  readonly format: SupportedFormat
  /** A `pin-encryption` key. */
  readonly key: Key
}

/** How often a PIN is drawn: a policy that takes hardly any, or a generator that is broken, ends here. */
const MAX_DRAWS = 1000

/**
 * A random PIN: each that the policy takes has the same chance. Bytes above 249 are drawn again, and so are weak PINs. Dispose of it.
 *
 * Errors: `ERR_ARGUMENT` (a length that the policy does not take), `ERR_BACKEND_FAILED` (no PIN that the policy takes in 1000 draws),
 * `ERR_ABORTED`, and what the backend reports. Source: ISO 9564-1:2017, PIN selection (assigned random PIN).
 *
 * @example
 * ```ts
 * const policy = pinPolicy({ minLength: 4, maxLength: 6, refuse: ['repeats', 'runs'] })
 * using pin = await generatePin({ length: 4, policy, backend })
 * ```
 */
export async function generatePin(input: GeneratePinInput, options?: CallOptions): Promise<Pin> {
  return draw(readOptions(input, 'generatePin', ['length', 'policy', 'backend']), options)
}

/**
 * {@link generatePin}, straight into a PIN block: no clear PIN is handed out.
 *
 * Errors: as {@link generatePin}; `ERR_KEY_USAGE`, `ERR_KEY_ALGORITHM`.
 *
 * @example
 * ```ts
 * const policy = pinPolicy({ minLength: 4, maxLength: 6, refuse: ['repeats', 'runs'] })
 * const block = await generatePinBlock({ length: 4, policy, backend, pan, format: 0, key: zpk })
 * ```
 */
export async function generatePinBlock(
  input: GeneratePinBlockInput,
  options?: CallOptions,
): Promise<Uint8Array> {
  const names = ['length', 'policy', 'backend', 'pan', 'format', 'key'] as const
  const { pan, format, key, ...rest } = readOptions(input, 'generatePinBlock', names)
  requireKey(key, 'key')
  requireFormat(format, 'format')
  requireFormatKey(key, 'encipher', FORMATS[format])
  requirePan(pan)
  using pin = await draw(rest, options)
  return await encipherChecked({ pin, pan, format, key }, options)
}

async function draw(
  { length, policy, backend }: GeneratePinInput,
  options: CallOptions | undefined,
): Promise<Pin> {
  requirePolicy(policy)
  if (!Number.isInteger(length) || length < policy.minLength || length > policy.maxLength)
    throw new ArgumentError(
      `length must be ${policy.minLength} to ${policy.maxLength}, which the policy takes`,
    )
  if (typeof backend?.randomBytes !== 'function') throw new ArgumentError('backend must be a Backend')
  const digits = secretBytes(length)
  try {
    for (let draws = 0; draws < MAX_DRAWS; draws++) {
      const drawn = await backend.randomBytes(4 * length, options)
      let count = 0
      // Four bytes for each digit are more than enough; what is beyond the last digit is dropped.
      for (const byte of drawn) if (byte < 250) digits[count++] = byte % 10
      wipe(drawn)
      if (count < length) continue
      const pin = pinOfDigits(ownCopy(digits))
      if (judgePin({ pin, policy }).accepted) return pin
      pin.dispose()
    }
  } finally {
    wipe(digits)
  }
  throw new BackendError('ERR_BACKEND_FAILED', `in ${MAX_DRAWS} draws there was no PIN that the policy takes`)
}
