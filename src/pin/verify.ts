/** Verifying the PIN of a block against what the issuer keeps of it: a reference block, a PRW, a PVV or an offset. */
import { type Key, operationsOf, requireKey } from '../backend/key.js'
import { type CallOptions, readOptions } from '../base/arguments.js'
import { equalBytes, ownCopy, snapshot, withWiped } from '../base/bytes.js'
import { ArgumentError, KeyError, PinBlockError } from '../base/errors.js'
import { type Pan, panDigits, requirePan } from '../primitives/pan.js'
import { pinOfDigits } from '../primitives/pin.js'
import { readTries, type TriedVerdict, type TriesOf, withTry } from '../seccos/counter/tries.js'
import { matchesPrw, type PrwReference, readPrwReference, type VerifyPrwInput } from '../seccos/prw.js'
import { decipherClear } from './decipher.js'
import { type FormatRow, readBlock } from './formats/format.js'
import { FORMATS, requireFormat, type SupportedFormat } from './formats/formats.js'
import { type PinRule, plainDigits, runStepsLater, verificationSteps } from './formats/verification.js'
import {
  readKeptDigits,
  requireBound,
  requireElevenDigits,
  requireOffsetKey,
  requirePvvKey,
} from './pin-value.js'
import { requireFormatKey } from './policy.js'

/** What a PIN is verified against. */
export type PinReference =
  /** A stored PIN block of the same PAN, under a `pin-encryption` key. */
  | {
      readonly kind: 'block'
      readonly block: Uint8Array
      readonly format: SupportedFormat
      readonly key: Key
    }
  /** A PRW: what `verifyPrw` takes but for PIN and PAN. */
  | ({ readonly kind: 'prw' } & Omit<VerifyPrwInput, 'pin' | 'pan' | 'tries'>)
  /** A Visa PVV: 4 digits, and its `visa-pvv` key. */
  | { readonly kind: 'pvv'; readonly pvv: string; readonly key: Key }
  /** An IBM 3624 offset: as many digits as the PIN, and its `ibm-3624` key. */
  | { readonly kind: 'offset'; readonly offset: string; readonly key: Key }

/** What {@link verifyPinBlock} takes. */
export interface VerifyPinBlockInput {
  /** The PIN block that is to be verified, enciphered under `from`. */
  readonly block: Uint8Array
  readonly pan: Pan
  /** 0, 3 or 4: a format that is bound to the PAN. */
  readonly format: SupportedFormat
  /** A `pin-encryption` key, as a switch's ZPK; with `hostDecipher: true`, but where a token compares format 0 blocks. */
  readonly from: Key
  readonly against: PinReference
  /**
   * Whose tries are counted, before the comparison. `'counted-elsewhere'` says that another system has counted this try: without
   * a counter this verb is an oracle.
   */
  readonly tries: TriesOf | 'counted-elsewhere'
  /** Refuses to read the block in host memory (`ERR_HOST_DECIPHER`): format 0 against a format 0 block of the same token. */
  readonly requireInToken?: boolean
}

/**
 * Verifies the PIN of a block: the try is counted first, then the values are compared in constant time. A wrong PIN is a verdict, and
 * so is a PIN with nibbles that are no digits. Two format 0 blocks of one PAN are compared as ciphertexts, the block moved to the reference's
 * key, so that no clear PIN is anywhere; otherwise the block is opened and compared in one operation of the backend, out of which comes
 * the verdict alone. Two operations, with a clear block in host memory between them, are needed for a PRW, and for keys of two backends.
 *
 * Errors: `ERR_PIN_BLOCK` (the block is not one of this PAN under that key; its try is counted), `ERR_HOST_DECIPHER`, `ERR_KEY_USAGE`,
 * `ERR_KEY_ALGORITHM`, `ERR_TRANSLATION_REFUSED` (a format that is bound to no PAN), `ERR_PAN`, `ERR_ARGUMENT`, `ERR_BACKEND_BUSY` and others
 * of the counter's store (nothing was compared then), `ERR_ABORTED`, and what the backends report. Against a PRW also those of `verifyPrw`.
 * Sources: ISO 9564-1:2017, 9; Visa PVV and IBM 3624 as IBM CCA documents them.
 *
 * @example
 * ```ts
 * const against = { kind: 'block', block: storedBlock, format: 0, key: storage } as const
 * const { verified, blocked } = await verifyPinBlock({ block, pan, format: 0, from: zpk, against, tries })
 * ```
 */
export async function verifyPinBlock(
  input: VerifyPinBlockInput,
  options?: CallOptions,
): Promise<TriedVerdict> {
  const names = ['block', 'pan', 'format', 'from', 'against', 'tries', 'requireInToken'] as const
  const given = readOptions(input, 'verifyPinBlock', names)
  const { block, pan, format, from, against, tries, requireInToken = false } = given
  requireFormat(format, 'format')
  const row = requireBound(FORMATS[format])
  requireKey(from, 'from')
  requireFormatKey(from, 'decipher', row)
  requirePan(pan)
  if (typeof requireInToken !== 'boolean') throw new ArgumentError('requireInToken must be a boolean')
  const candidate = { block: readBlock(block, row), pan, format, row, from, inToken: requireInToken }
  const compare = readReference(against, candidate)
  const counted = tries === 'counted-elsewhere' ? undefined : readTries(tries)
  return withTry(counted, () => compare(options))
}

interface Candidate {
  readonly block: Uint8Array
  readonly pan: Pan
  readonly format: SupportedFormat
  readonly row: FormatRow
  readonly from: Key
  readonly inToken: boolean
}

type Compare = (options: CallOptions | undefined) => Promise<boolean>

/** Everything is looked at before the try is counted: a call that could not be carried out costs none. */
function readReference(against: PinReference, candidate: Candidate): Compare {
  if (typeof against !== 'object' || against === null) throw new ArgumentError('against must be an object')
  if (against.kind !== 'block' && candidate.inToken) throw onlyInHost(candidate.from)
  switch (against.kind) {
    case 'block':
      return readBlockReference(against, candidate)
    case 'pvv': {
      const { pvv, key } = readOptions(against, 'against', ['kind', 'pvv', 'key'])
      requireKey(key, 'against.key')
      const { pvki } = requirePvvKey(key, 'verify')
      requireElevenDigits(candidate.pan)
      return inOneJob(candidate, key, { kind: 'pvv', pvki }, readKeptDigits(pvv, 'pvv', 4, 4))
    }
    case 'offset': {
      const { offset, key } = readOptions(against, 'against', ['kind', 'offset', 'key'])
      requireKey(key, 'against.key')
      const rule = requireOffsetKey(key, 'verify', candidate.pan)
      return inOneJob(candidate, key, { kind: 'offset', ...rule }, readKeptDigits(offset, 'offset', 4, 12))
    }
    case 'prw': {
      const { kind: _, ...prw } = against
      const reference = readPrwReference(prw, candidate.pan)
      return options => hasPinOf(candidate, reference, options)
    }
    default:
      throw new ArgumentError("against.kind must be 'block', 'prw', 'pvv' or 'offset'")
  }
}

function readBlockReference(
  against: PinReference & { readonly kind: 'block' },
  candidate: Candidate,
): Compare {
  const { block, format, key } = readOptions(against, 'against', ['kind', 'block', 'format', 'key'])
  const { from, inToken } = candidate
  requireFormat(format, 'against.format')
  const row = requireBound(FORMATS[format])
  requireKey(key, 'against.key')
  const kept = snapshot(block, 'against.block')
  if (kept.length !== row.bytes) throw new ArgumentError(`against.block must be ${row.bytes} bytes`)
  if (format === 0 && candidate.format === 0) {
    requireFormatKey(key, 'encipher', row)
    return async options => {
      const moved = await move(candidate, key, options)
      return withWiped(moved, one => equalBytes(one, kept))
    }
  }
  if (inToken) throw onlyInHost(from)
  requireFormatKey(key, 'decipher', row)
  return inOneJob(candidate, key, { kind: 'block', format }, kept)
}

/** One operation of the backend that has both keys; step by step, through host memory, where there are two backends. */
function inOneJob(
  { block, format, pan, from }: Candidate,
  key: Key,
  rule: PinRule,
  kept: Uint8Array,
): Compare {
  return async options => {
    const request = { block, format, pan: ownCopy(panDigits(pan)), rule, kept }
    const verdict = await withWiped(request.pan, async () => {
      try {
        return await operationsOf(from).verifyPin(key, request, options)
      } catch (error) {
        if (!(error instanceof KeyError && error.code === 'ERR_KEY_FOREIGN')) throw error
      }
      const keys = { first: from, second: key }
      return runStepsLater(verificationSteps(request), ({ under, by, block: one, field }) => {
        const operations = operationsOf(keys[under])
        return field === undefined
          ? operations[by](one, options)
          : operations.decipherBound(one, field, options)
      })
    })
    if (verdict === 'no-block') throw new PinBlockError()
    return verdict === 'same'
  }
}

/** The block under the reference's key: inside the token or the backend, or through host memory between two of them. */
async function move(
  { block, from, inToken }: Candidate,
  to: Key,
  options: CallOptions | undefined,
): Promise<Uint8Array> {
  try {
    return await operationsOf(from).reencipher(to, block, options, { inside: inToken })
  } catch (error) {
    if (inToken || !(error instanceof KeyError && error.code === 'ERR_KEY_FOREIGN')) throw error
  }
  return withWiped(await operationsOf(from).decipher(block, options), async clear =>
    operationsOf(to).encipher(clear, options),
  )
}

function onlyInHost({ kid }: Key): KeyError {
  const problem = `key ${kid}: only format 0 is verified inside a token, against a format 0 block`
  return new KeyError('ERR_HOST_DECIPHER', problem, kid)
}

/**
 * The PRW of the block's digits against the one that is kept; two operations, for SECCOS is no backend's. Nibbles that are no digits are a
 * wrong PIN, after the same work, done with nines in their places.
 */
async function hasPinOf(
  { block, pan, row, from }: Candidate,
  reference: PrwReference,
  options: CallOptions | undefined,
): Promise<boolean> {
  return withWiped(await decipherClear(from, row, [{ block, pan }], options), async clear =>
    withWiped(row.nibbles({ block: clear, pan }), async nibbles => {
      const { digits, bad } = plainDigits(nibbles)
      using pin = pinOfDigits(ownCopy(digits))
      const matches = await matchesPrw(reference, pin, options)
      return matches && bad === 0
    }),
  )
}
