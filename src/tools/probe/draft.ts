/** From what the prober found to a profile: the fields it knows, and the bytes between them as fields of no meaning. */
import { requireOurs } from '../../base/errors.js'
import { withUncovered } from '../../seccos/profile/coverage.js'
import { pinFormBytes } from '../../seccos/profile/forms.js'
import { parseProfile } from '../../seccos/profile/parse.js'
import {
  ALGORITHMS,
  type Computation,
  DATA_SET_BYTES,
  type PinForm,
  type ProfileField,
  type SeccosProfile,
} from '../../seccos/profile/profile.js'
import type { Layout, Place } from './candidates.js'
import type { ProbeMatch } from './trial.js'

const DESCRIPTION =
  'Draft from probing test-key samples. It reproduces them, and nothing more is known of it: check every field ' +
  'against the documents of the scheme, then give it a name and set the provenance.'

/** What the draft is made of: the winners, the places, and the length of the random number in the samples. */
interface DraftInput {
  readonly prw: ProbeMatch
  readonly mac: ProbeMatch
  readonly places: readonly Place[]
  readonly randomBytes: number
}

/** The draft, or undefined where the winners contradict one another or no sound profile comes out. */
export function draftProfile({ prw, mac, places, randomBytes }: DraftInput): SeccosProfile | undefined {
  if (prw.layout.pan && mac.layout.pan && !samePan(prw.layout, mac.layout)) return undefined
  const layout: Layout = { pan: prw.layout.pan ?? mac.layout.pan, pin: prw.layout.pin }
  const pinBlock = prw.pinForm ?? 'iso9564-format-0'
  const draft = {
    profileFormat: 1,
    name: 'draft-from-probe',
    version: '0.0.0',
    provenance: 'illustrative',
    description: DESCRIPTION,
    pinBlock,
    randomBytes,
    fields: tile(knownFields(layout, pinBlock, places, randomBytes)),
    prw: computationOf(prw),
    mac: computationOf(mac),
  } as const satisfies SeccosProfile
  try {
    return parseProfile(withUncovered(draft))
  } catch (error) {
    requireOurs(error)
    return undefined
  }
}

function samePan(one: Layout, other: Layout): boolean {
  return JSON.stringify(one.pan) === JSON.stringify(other.pan)
}

function computationOf({ algorithm, padding, keyBytes, inputs, outputBytes, text }: ProbeMatch): Computation {
  const iv = ALGORITHMS[algorithm].hasIv ? '0000000000000000' : 'none'
  return { algorithm, padding, iv, keyBytes, inputs, outputBytes, text, uncovered: [] }
}

/** PAN and PIN block where the winners have them, then each value at the first of its places that is still free. */
function knownFields(
  { pan, pin }: Layout,
  pinForm: PinForm,
  places: readonly Place[],
  randomBytes: number,
): ProfileField[] {
  const fields: ProfileField[] = []
  if (pan !== undefined) fields.push({ id: 'pan', offset: pan.offset, ...pan.form, masked: true })
  if (pin !== undefined) {
    const form = { length: pinFormBytes(pinForm), encoding: 'binary', align: 'exact' } as const
    fields.push({ id: 'pinBlock', offset: pin.offset, ...form, masked: true })
  }
  for (const { id, offset, length, encoding, certain } of places) {
    const free = fields.every(
      field => offset + length <= field.offset || offset >= field.offset + field.length,
    )
    const usable = certain && !(id === 'random' && length !== randomBytes)
    if (!free || !usable || fields.some(field => field.id === id)) continue
    fields.push({ id, offset, length, encoding, align: 'exact', masked: false })
  }
  return fields.sort((a, b) => a.offset - b.offset)
}

/** Fills the gaps. */
function tile(known: readonly ProfileField[]): ProfileField[] {
  const fields: ProfileField[] = []
  let next = 0
  const fillTo = (end: number): void => {
    if (end <= next) return
    const place = { offset: next, length: end - next }
    fields.push({ id: `unknown${next}`, ...place, encoding: 'binary', align: 'exact', masked: false })
  }
  for (const field of known) {
    fillTo(field.offset)
    fields.push(field)
    next = field.offset + field.length
  }
  fillTo(DATA_SET_BYTES)
  return fields
}
